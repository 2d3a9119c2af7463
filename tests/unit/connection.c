// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* TCP as bpf/lib/window.h follows it: packet traces as tables, and transfers over lines that lose and
 * reorder. */
#include "bpf/lib/window.h"
#include "unit.h"

#define A 0
#define B 1

/* Initial numbers: A's wraps in the first kilobyte. */
static const uint32_t isn[2] = {0xfffffe00, 5000};

#define NO_SCALE CONNECTION_SCALE_NONE
#define S        WINDOW_SYN
#define SA       (WINDOW_SYN | WINDOW_ACK)
#define AK       WINDOW_ACK
#define PA       (WINDOW_PSH | WINDOW_ACK)
#define FA       (WINDOW_FIN | WINDOW_ACK)
#define R        WINDOW_RST
#define RA       (WINDOW_RST | WINDOW_ACK)

/* A packet, its numbers relative to the sender's and the other end's initial ones, and what it has to be. */
struct step {
	int side;
	uint8_t flags;
	uint32_t seq, ack, length, window;
	uint8_t scale; /* 0: none is offered; else the scale plus one */
	uint32_t sack; /* right edge, relative; 0: none */
	enum window_verdict verdict;
	enum connection_stage stage; /* afterwards */
};

struct trace {
	struct connection connection;
	bool there;
	uint32_t now, followed;
};

static struct window_segment segment_of(const struct step *step)
{
	struct window_segment s = {
		.seq = isn[step->side] + step->seq,
		.ack = step->flags & WINDOW_ACK ? isn[!step->side] + step->ack : 0,
		.window = (uint16_t)step->window,
		.flags = step->flags,
		.scale = step->scale ? (uint8_t)(step->scale - 1) : NO_SCALE,
	};

	s.sack = step->sack ? isn[!step->side] + step->sack : s.ack;
	s.end = s.seq + step->length + !!(step->flags & WINDOW_SYN) + !!(step->flags & WINDOW_FIN);
	return s;
}

/* As connection_look() and connection_commit() do with their maps. */
static enum window_verdict trace_run(
	struct trace *trace, int side, const struct window_segment *s, bool accept)
{
	struct connection *c = &trace->connection;
	enum window_verdict verdict;

	trace->now++;
	if (trace->there)
		verdict = window_judge(c, (uint32_t)side, s, trace->followed);
	else
		verdict = (s->flags & SA) == S && window_flags_are_valid(s->flags) ? WINDOW_BEGINS
		                                                                   : WINDOW_INVALID;
	if (verdict == WINDOW_INVALID || !accept)
		return verdict;
	if (verdict == WINDOW_BEGINS) {
		*c = (struct connection){
			.first = (uint8_t)side, .followed = trace->followed ? trace->now : 0};
		trace->there = true;
		window_note(c, (uint32_t)side, s, WINDOW_VALID, trace->now, trace->followed);
	} else {
		window_note(c, (uint32_t)side, s, verdict, trace->now, trace->followed);
	}
	return verdict;
}

static void steps_run(
	struct trace *trace, const struct step *steps, size_t count, const char *name, int times)
{
	for (size_t i = 0; i < count; i++) {
		struct window_segment s = segment_of(&steps[i]);

		for (int time = 0; time < times; time++) {
			enum window_verdict verdict = trace_run(trace, steps[i].side, &s, true);

			if (time == 0)
				EXPECT(verdict == steps[i].verdict, "%s, packet %zu: verdict %d", name, i + 1,
					verdict);
			else if (steps[i].verdict != WINDOW_INVALID)
				EXPECT(verdict != WINDOW_INVALID, "%s, packet %zu, seen again", name, i + 1);
			EXPECT(!trace->there || trace->connection.stage == steps[i].stage,
				"%s, packet %zu: stage %d", name, i + 1, trace->connection.stage);
		}
	}
}

/* Each packet once, and each twice (at the loopback device, or forwarded). */
#define RUN(name, ...)                                                                                       \
	do {                                                                                                 \
		const struct step steps_[] = {__VA_ARGS__};                                                  \
                                                                                                             \
		for (int times_ = 1; times_ <= 2; times_++) {                                                \
			struct trace trace_ = {.now = 10, .followed = 1};                                    \
                                                                                                             \
			steps_run(&trace_, steps_, COUNT(steps_), name, times_);                             \
		}                                                                                            \
	} while (0)

#define OPENED                                                                                               \
	{A, S, 0, 0, 0, 64240, 8, 0, WINDOW_BEGINS, CONNECTION_NEW},                                         \
		{B, SA, 0, 1, 0, 65160, 8, 0, WINDOW_VALID, CONNECTION_ANSWERED},                            \
	{                                                                                                    \
		A, AK, 1, 1, 0, 502, 0, 0, WINDOW_VALID, CONNECTION_OPEN                                     \
	}

static void test_life(void **state)
{
	(void)state;
	RUN("life", OPENED, {A, PA, 1, 1, 600, 502, 0, 0, WINDOW_VALID, CONNECTION_OPEN},
		{B, AK, 1, 601, 0, 509, 0, 0, WINDOW_VALID, CONNECTION_OPEN},
		{B, PA, 1, 601, 2000, 509, 0, 0, WINDOW_VALID, CONNECTION_OPEN},
		{A, AK, 601, 2001, 0, 501, 0, 0, WINDOW_VALID, CONNECTION_OPEN},
		{A, FA, 601, 2001, 0, 501, 0, 0, WINDOW_VALID, CONNECTION_CLOSING},
		{B, AK, 2001, 602, 0, 509, 0, 0, WINDOW_VALID, CONNECTION_CLOSING},
		{B, PA, 2001, 602, 100, 509, 0, 0, WINDOW_VALID, CONNECTION_CLOSING}, /* half closed */
		{B, FA, 2101, 602, 0, 509, 0, 0, WINDOW_VALID, CONNECTION_CLOSING},
		{A, AK, 602, 2102, 0, 501, 0, 0, WINDOW_VALID, CONNECTION_CLOSED},
		{B, FA, 2101, 602, 0, 509, 0, 0, WINDOW_VALID, CONNECTION_CLOSED}, /* again */
		{A, AK, 602, 2102, 0, 501, 0, 0, WINDOW_VALID, CONNECTION_CLOSED});
	RUN("closed by both at once", OPENED, {A, FA, 1, 1, 0, 502, 0, 0, WINDOW_VALID, CONNECTION_CLOSING},
		{B, FA, 1, 1, 0, 509, 0, 0, WINDOW_VALID, CONNECTION_CLOSING},
		{A, AK, 2, 2, 0, 502, 0, 0, WINDOW_VALID, CONNECTION_CLOSING},
		{B, AK, 2, 2, 0, 509, 0, 0, WINDOW_VALID, CONNECTION_CLOSED});
}

static void test_without_syn(void **state)
{
	(void)state;
	RUN("acknowledgement", {A, AK, 1, 1, 0, 100, 0, 0, WINDOW_INVALID, CONNECTION_NEW});
	RUN("data", {A, PA, 1, 1, 100, 100, 0, 0, WINDOW_INVALID, CONNECTION_NEW});
	RUN("SYN-ACK", {A, SA, 0, 1, 0, 100, 0, 0, WINDOW_INVALID, CONNECTION_NEW});
	RUN("reset", {A, R, 1, 0, 0, 0, 0, 0, WINDOW_INVALID, CONNECTION_NEW});
	RUN("data of who has only sent a SYN", {A, S, 0, 0, 0, 1000, 0, 0, WINDOW_BEGINS, CONNECTION_NEW},
		{A, PA, 1, 1, 100, 1000, 0, 0, WINDOW_INVALID, CONNECTION_NEW},
		{A, FA, 1, 1, 0, 1000, 0, 0, WINDOW_INVALID, CONNECTION_NEW},
		{A, SA, 0, 1, 0, 1000, 0, 0, WINDOW_INVALID, CONNECTION_NEW});
	RUN("an answer to another SYN", {A, S, 0, 0, 0, 1000, 0, 0, WINDOW_BEGINS, CONNECTION_NEW},
		{B, SA, 0, 2, 0, 1000, 0, 0, WINDOW_INVALID, CONNECTION_NEW},
		{B, SA, 0, 0, 0, 1000, 0, 0, WINDOW_INVALID, CONNECTION_NEW},
		{B, SA, 0, 1, 0, 1000, 0, 0, WINDOW_VALID, CONNECTION_ANSWERED});
}

static void test_flags(void **state)
{
	static const uint8_t valid[] = {0x02, 0x22, 0x12, 0x04, 0x14, 0x11, 0x31, 0x10, 0x30};

	(void)state;
	for (unsigned int flags = 0; flags < 256; flags++) {
		bool wanted = false;

		for (size_t i = 0; i < COUNT(valid); i++)
			wanted |= (flags & 0x37) == valid[i]; /* PSH, ECE and CWR go with everything */
		EXPECT(window_flags_are_valid((uint8_t)flags) == wanted, "flags %#x", flags);
	}
}

static void test_resent(void **state)
{
	(void)state;
	RUN("SYN and SYN-ACK", {A, S, 0, 0, 0, 64240, 8, 0, WINDOW_BEGINS, CONNECTION_NEW},
		{A, S, 0, 0, 0, 64240, 8, 0, WINDOW_VALID, CONNECTION_NEW},
		{B, SA, 0, 1, 0, 65160, 8, 0, WINDOW_VALID, CONNECTION_ANSWERED},
		{B, SA, 0, 1, 0, 65160, 8, 0, WINDOW_UNCHANGED, CONNECTION_ANSWERED},
		{A, AK, 1, 1, 0, 502, 0, 0, WINDOW_VALID, CONNECTION_OPEN},
		{B, SA, 0, 1, 0, 65160, 8, 0, WINDOW_UNCHANGED, CONNECTION_OPEN},
		{A, AK, 1, 1, 0, 502, 0, 0, WINDOW_VALID, CONNECTION_OPEN});
	RUN("SYN and SYN-ACK, again, and then out of the window",
		{A, S, 0, 0, 0, 64240, 8, 0, WINDOW_BEGINS, CONNECTION_NEW},
		{B, SA, 0, 1, 0, 65160, 8, 0, WINDOW_VALID, CONNECTION_ANSWERED},
		{A, S, 0, 0, 0, 64240, 8, 0, WINDOW_UNCHANGED, CONNECTION_ANSWERED},
		{B, SA, 0, 1, 0, 65160, 8, 0, WINDOW_UNCHANGED, CONNECTION_ANSWERED},
		{A, AK, 1, 1, 0, 502, 0, 0, WINDOW_VALID, CONNECTION_OPEN},
		{A, PA, 100000, 1, 10, 502, 0, 0, WINDOW_INVALID, CONNECTION_OPEN});
	RUN("another SYN before the answer", {A, S, 0, 0, 0, 64240, 8, 0, WINDOW_BEGINS, CONNECTION_NEW},
		{A, S, 7000, 0, 0, 64240, 8, 0, WINDOW_VALID, CONNECTION_NEW},
		{B, SA, 0, 7001, 0, 65160, 8, 0, WINDOW_VALID, CONNECTION_ANSWERED});
	RUN("data", OPENED, {A, PA, 1, 1, 1000, 502, 0, 0, WINDOW_VALID, CONNECTION_OPEN},
		{A, PA, 1001, 1, 1000, 502, 0, 0, WINDOW_VALID, CONNECTION_OPEN},
		{A, PA, 1, 1, 1000, 502, 0, 0, WINDOW_VALID, CONNECTION_OPEN},
		{B, AK, 1, 2001, 0, 509, 0, 0, WINDOW_VALID, CONNECTION_OPEN},
		{A, PA, 1001, 1, 1000, 502, 0, 0, WINDOW_VALID, CONNECTION_OPEN},
		{B, AK, 1, 1001, 0, 509, 0, 0, WINDOW_VALID, CONNECTION_OPEN}); /* an old one */
	RUN("keepalive and its answer", OPENED, {A, AK, 0, 1, 0, 502, 0, 0, WINDOW_VALID, CONNECTION_OPEN},
		{A, AK, 0, 1, 1, 502, 0, 0, WINDOW_VALID, CONNECTION_OPEN},
		{B, AK, 1, 1, 0, 509, 0, 0, WINDOW_VALID, CONNECTION_OPEN},
		{B, AK, 0, 1, 0, 509, 0, 0, WINDOW_VALID, CONNECTION_OPEN});
	RUN("SYN with data (TFO)", {A, S, 0, 0, 500, 64240, 8, 0, WINDOW_BEGINS, CONNECTION_NEW},
		{B, SA, 0, 1, 0, 65160, 8, 0, WINDOW_VALID, CONNECTION_ANSWERED},
		{A, PA, 1, 1, 500, 502, 0, 0, WINDOW_VALID, CONNECTION_OPEN});
	RUN("SYN with data that is acknowledged at once",
		{A, S, 0, 0, 500, 64240, 8, 0, WINDOW_BEGINS, CONNECTION_NEW},
		{B, SA, 0, 501, 0, 65160, 8, 0, WINDOW_VALID, CONNECTION_ANSWERED},
		{B, PA, 1, 501, 1000, 509, 0, 0, WINDOW_VALID, CONNECTION_ANSWERED},
		{B, PA, 1001, 501, 1000, 509, 0, 0, WINDOW_VALID, CONNECTION_ANSWERED},
		{A, AK, 501, 2001, 0, 502, 0, 0, WINDOW_VALID, CONNECTION_OPEN});
}

static void test_windows(void **state)
{
	(void)state;
	RUN("as far as the scaled window", OPENED,
		{A, PA, 1, 1, 65000, 502, 0, 0, WINDOW_VALID, CONNECTION_OPEN},  /* GSO */
		{B, AK, 1, 65001, 0, 1000, 0, 0, WINDOW_VALID, CONNECTION_OPEN}, /* 128,000 */
		{A, PA, 65001, 1, 64000, 502, 0, 0, WINDOW_VALID, CONNECTION_OPEN},
		{A, PA, 129001, 1, 64000, 502, 0, 0, WINDOW_VALID, CONNECTION_OPEN},
		{A, PA, 193002, 1, 1000, 502, 0, 0, WINDOW_INVALID, CONNECTION_OPEN},
		{B, AK, 1, 193001, 0, 1000, 0, 0, WINDOW_VALID, CONNECTION_OPEN});
	RUN("no scale where one end offers none", {A, S, 0, 0, 0, 1000, 8, 0, WINDOW_BEGINS, CONNECTION_NEW},
		{B, SA, 0, 1, 0, 1000, 0, 0, WINDOW_VALID, CONNECTION_ANSWERED},
		{A, AK, 1, 1, 0, 1000, 0, 0, WINDOW_VALID, CONNECTION_OPEN},
		{B, PA, 1002, 1, 100, 1000, 0, 0, WINDOW_INVALID, CONNECTION_OPEN},
		{A, PA, 1002, 1, 100, 1000, 0, 0, WINDOW_INVALID, CONNECTION_OPEN},
		{B, PA, 1, 1, 1000, 1000, 0, 0, WINDOW_VALID, CONNECTION_OPEN});
	RUN("too old", OPENED, {A, PA, 1, 1, 65000, 502, 0, 0, WINDOW_VALID, CONNECTION_OPEN},
		{B, AK, 1, 65001, 0, 509, 0, 0, WINDOW_VALID, CONNECTION_OPEN},
		{A, PA, 65001, 1, 65000, 502, 0, 0, WINDOW_VALID, CONNECTION_OPEN},
		{B, AK, 1, 130001, 0, 509, 0, 0, WINDOW_VALID, CONNECTION_OPEN},
		{A, PA, 1, 1, 1000, 502, 0, 0, WINDOW_INVALID, CONNECTION_OPEN},
		{B, AK, 1, 1001, 0, 509, 0, 0, WINDOW_INVALID, CONNECTION_OPEN});
	RUN("acknowledged before it was sent", OPENED,
		{B, AK, 1, 2, 0, 509, 0, 0, WINDOW_INVALID, CONNECTION_OPEN},
		{B, AK, 1, 1, 0, 509, 0, 2, WINDOW_INVALID, CONNECTION_OPEN});
	RUN("SACK", OPENED, {A, PA, 1, 1, 1000, 502, 0, 0, WINDOW_VALID, CONNECTION_OPEN},
		{A, PA, 1001, 1, 1000, 502, 0, 0, WINDOW_VALID, CONNECTION_OPEN},
		{B, AK, 1, 1, 0, 509, 0, 2001, WINDOW_VALID, CONNECTION_OPEN},
		{A, PA, 1, 1, 1000, 502, 0, 0, WINDOW_VALID, CONNECTION_OPEN},
		{B, AK, 1, 2001, 0, 509, 0, 0, WINDOW_VALID, CONNECTION_OPEN});
	RUN("probes of a window that is shut", OPENED,
		{A, PA, 1, 1, 65000, 502, 0, 0, WINDOW_VALID, CONNECTION_OPEN},
		{B, AK, 1, 65001, 0, 0, 0, 0, WINDOW_VALID, CONNECTION_OPEN},
		{A, AK, 65000, 1, 0, 502, 0, 0, WINDOW_VALID, CONNECTION_OPEN},
		{B, AK, 1, 65001, 0, 0, 0, 0, WINDOW_VALID, CONNECTION_OPEN},
		{A, AK, 65001, 1, 1, 502, 0, 0, WINDOW_VALID, CONNECTION_OPEN},
		{B, AK, 1, 65001, 0, 0, 0, 0, WINDOW_VALID, CONNECTION_OPEN},
		{B, AK, 1, 65002, 0, 509, 0, 0, WINDOW_VALID, CONNECTION_OPEN},
		{A, PA, 65002, 1, 65000, 502, 0, 0, WINDOW_VALID, CONNECTION_OPEN});
}

static void test_resets(void **state)
{
	(void)state;
	RUN("refused", {A, S, 0, 0, 0, 64240, 8, 0, WINDOW_BEGINS, CONNECTION_NEW},
		{B, RA, 0 - isn[B], 2, 0, 0, 0, 0, WINDOW_INVALID, CONNECTION_NEW},
		{B, R, 0 - isn[B], 0, 0, 0, 0, 0, WINDOW_INVALID, CONNECTION_NEW},
		{B, RA, 0 - isn[B], 1, 0, 0, 0, 0, WINDOW_VALID, CONNECTION_RESET},
		{A, S, 9000, 0, 0, 64240, 8, 0, WINDOW_BEGINS, CONNECTION_NEW});
	RUN("given up before the answer", {A, S, 0, 0, 0, 64240, 8, 0, WINDOW_BEGINS, CONNECTION_NEW},
		{A, R, 500, 0, 0, 0, 0, 0, WINDOW_INVALID, CONNECTION_NEW},
		{A, R, 1, 0, 0, 0, 0, 0, WINDOW_VALID, CONNECTION_RESET});
	RUN("out of the window", OPENED, {A, PA, 1, 1, 1000, 502, 0, 0, WINDOW_VALID, CONNECTION_OPEN},
		{B, AK, 1, 1001, 0, 509, 0, 0, WINDOW_VALID, CONNECTION_OPEN},
		{A, R, 1000, 0, 0, 0, 0, 0, WINDOW_INVALID, CONNECTION_OPEN},
		{A, R, 1001 + 65153, 0, 0, 0, 0, 0, WINDOW_INVALID, CONNECTION_OPEN},
		{A, R, 0x40000000, 0, 0, 0, 0, 0, WINDOW_INVALID, CONNECTION_OPEN},
		{A, R, 0x80000000, 0, 0, 0, 0, 0, WINDOW_INVALID, CONNECTION_OPEN},
		{A, R, 0xc0000000, 0, 0, 0, 0, 0, WINDOW_INVALID, CONNECTION_OPEN},
		{A, RA, 1001, 5000, 0, 0, 0, 0, WINDOW_INVALID, CONNECTION_OPEN},
		{A, R, 1500, 0, 0, 0, 0, 0, WINDOW_UNCHANGED, CONNECTION_OPEN}, /* challenged */
		{A, PA, 1001, 1, 1000, 502, 0, 0, WINDOW_VALID, CONNECTION_OPEN},
		{A, R, 1001, 0, 0, 0, 0, 0, WINDOW_VALID, CONNECTION_RESET},
		{A, S, 90000, 0, 0, 64240, 8, 0, WINDOW_BEGINS, CONNECTION_NEW});
	RUN("behind what was sent", OPENED, {A, PA, 1, 1, 1000, 502, 0, 0, WINDOW_VALID, CONNECTION_OPEN},
		{A, RA, 1001, 1, 0, 502, 0, 0, WINDOW_VALID, CONNECTION_RESET});
	RUN("after FIN of both", OPENED, {A, FA, 1, 1, 0, 502, 0, 0, WINDOW_VALID, CONNECTION_CLOSING},
		{B, PA, 1, 2, 100, 509, 0, 0, WINDOW_VALID, CONNECTION_CLOSING},
		{A, R, 2, 0, 0, 0, 0, 0, WINDOW_VALID, CONNECTION_RESET});
}

static void test_syn_in_the_middle(void **state)
{
	(void)state;
	RUN("guessed", OPENED, {A, S, 777777, 0, 0, 64240, 8, 0, WINDOW_UNCHANGED, CONNECTION_OPEN},
		{B, AK, 1, 1, 0, 509, 0, 0, WINDOW_VALID, CONNECTION_OPEN}, /* the challenge */
		{A, PA, 1, 1, 100, 502, 0, 0, WINDOW_VALID, CONNECTION_OPEN},
		{B, S, 888, 0, 0, 64240, 8, 0, WINDOW_INVALID, CONNECTION_OPEN},
		{B, AK, 1, 101, 0, 509, 0, 0, WINDOW_VALID, CONNECTION_OPEN});
	RUN("A began anew, B still knows the old connection", OPENED,
		{A, S, 777777, 0, 0, 64240, 8, 0, WINDOW_UNCHANGED, CONNECTION_OPEN},
		{B, AK, 1, 1, 0, 509, 0, 0, WINDOW_VALID, CONNECTION_OPEN},
		{A, R, 1, 0, 0, 0, 0, 0, WINDOW_VALID, CONNECTION_RESET},
		{A, S, 777777, 0, 0, 64240, 8, 0, WINDOW_BEGINS, CONNECTION_NEW});
	RUN("both began anew", OPENED, {A, S, 777777, 0, 0, 64240, 8, 0, WINDOW_UNCHANGED, CONNECTION_OPEN},
		{B, SA, 999999, 777778, 0, 65160, 8, 0, WINDOW_VALID, CONNECTION_ANSWERED},
		{A, AK, 777778, 1000000, 0, 502, 0, 0, WINDOW_VALID, CONNECTION_OPEN},
		{A, PA, 777778, 1000000, 100, 502, 0, 0, WINDOW_VALID, CONNECTION_OPEN});
	RUN("only B knows an older connection", {A, S, 0, 0, 0, 64240, 8, 0, WINDOW_BEGINS, CONNECTION_NEW},
		{B, AK, 333, 70707, 0, 509, 0, 0, WINDOW_UNCHANGED, CONNECTION_NEW},
		{A, R, 70707, 0, 0, 0, 0, 0, WINDOW_UNCHANGED, CONNECTION_NEW},
		{A, S, 0, 0, 0, 64240, 8, 0, WINDOW_VALID, CONNECTION_NEW},
		{B, SA, 0, 1, 0, 65160, 8, 0, WINDOW_VALID, CONNECTION_ANSWERED});
}

static void test_simultaneous(void **state)
{
	(void)state;
	RUN("both at once", {A, S, 0, 0, 0, 64240, 8, 0, WINDOW_BEGINS, CONNECTION_NEW},
		{B, S, 0, 0, 0, 65160, 8, 0, WINDOW_VALID, CONNECTION_NEW},
		{A, SA, 0, 1, 0, 64240, 8, 0, WINDOW_VALID, CONNECTION_ANSWERED},
		{B, SA, 0, 1, 0, 65160, 8, 0, WINDOW_UNCHANGED, CONNECTION_ANSWERED},
		{A, AK, 1, 1, 0, 502, 0, 0, WINDOW_VALID, CONNECTION_OPEN},
		{B, PA, 1, 1, 1000, 509, 0, 0, WINDOW_VALID, CONNECTION_OPEN},
		{A, AK, 1, 1001, 0, 502, 0, 0, WINDOW_VALID, CONNECTION_OPEN});
}

static void test_reuse(void **state)
{
	(void)state;
	RUN("the same ports again", OPENED, {A, FA, 1, 1, 0, 502, 0, 0, WINDOW_VALID, CONNECTION_CLOSING},
		{B, FA, 1, 2, 0, 509, 0, 0, WINDOW_VALID, CONNECTION_CLOSING},
		{A, AK, 2, 2, 0, 502, 0, 0, WINDOW_VALID, CONNECTION_CLOSED},
		{A, S, 40, 0, 0, 64240, 8, 0, WINDOW_BEGINS, CONNECTION_NEW},
		{B, SA, 70000, 41, 0, 65160, 8, 0, WINDOW_VALID, CONNECTION_ANSWERED},
		{A, AK, 41, 70001, 0, 502, 0, 0, WINDOW_VALID, CONNECTION_OPEN});
	RUN("from the other end", OPENED, {A, FA, 1, 1, 0, 502, 0, 0, WINDOW_VALID, CONNECTION_CLOSING},
		{B, FA, 1, 2, 0, 509, 0, 0, WINDOW_VALID, CONNECTION_CLOSING},
		{A, AK, 2, 2, 0, 502, 0, 0, WINDOW_VALID, CONNECTION_CLOSED},
		{B, S, 40000, 0, 0, 64240, 8, 0, WINDOW_BEGINS, CONNECTION_NEW},
		{A, SA, 80000, 40001, 0, 65160, 8, 0, WINDOW_VALID, CONNECTION_ANSWERED});
}

static void test_dropped(void **state)
{
	struct trace trace = {.now = 10, .followed = 1};
	const struct step opened[] = {OPENED};
	const struct step far = {A, PA, 1, 1, 60000, 502, 0, 0, WINDOW_VALID, CONNECTION_OPEN};
	const struct step fin = {A, FA, 1, 1, 0, 502, 0, 0, WINDOW_VALID, CONNECTION_OPEN};
	struct window_segment s = segment_of(&far), f = segment_of(&fin);
	struct connection before;

	(void)state;
	steps_run(&trace, opened, COUNT(opened), "opened", 1);
	before = trace.connection;
	assert_int_equal(trace_run(&trace, A, &s, false), WINDOW_VALID);
	assert_int_equal(trace_run(&trace, A, &f, false), WINDOW_VALID);
	assert_memory_equal(&before, &trace.connection, sizeof(before));
}

/* Rules that ask for the state come, while the connection is there. */
static void test_followed_later(void **state)
{
	struct trace trace = {.now = 10, .followed = 0};
	const struct step opened[] = {OPENED};
	const struct step later[] = {
		{A, PA, 900000, 500000, 60000, 502, 0, 0, WINDOW_VALID, CONNECTION_OPEN},
		{B, AK, 500000, 980000, 0, 509, 0, 0, WINDOW_VALID, CONNECTION_OPEN},
		{B, PA, 600000, 980000, 0, 509, 0, 0, WINDOW_VALID, CONNECTION_OPEN},
		{A, R, 900000, 0, 0, 0, 0, 0, WINDOW_INVALID, CONNECTION_OPEN},
		{A, R, 1900000, 0, 0, 0, 0, 0, WINDOW_UNCHANGED, CONNECTION_OPEN},
		{A, R, 980000, 0, 0, 0, 0, 0, WINDOW_VALID, CONNECTION_RESET},
	};

	(void)state;
	steps_run(&trace, opened, COUNT(opened), "opened", 1);
	trace.now += 1000;
	trace.followed = trace.now;
	steps_run(&trace, later, COUNT(later), "followed later", 1);
}

/* While no rule asks, somebody may pretend to end a connection: who goes on has not ended it. */
static void test_not_followed(void **state)
{
	struct trace trace = {.now = 10, .followed = 0};
	const struct step opened[] = {OPENED};
	const struct step later[] = {
		{A, R, 12345678, 0, 0, 0, 0, 0, WINDOW_VALID, CONNECTION_RESET},
		{B, PA, 1, 1, 10, 509, 0, 0, WINDOW_VALID, CONNECTION_RESET},
		{A, PA, 1, 11, 10, 502, 0, 0, WINDOW_VALID, CONNECTION_OPEN},
	};

	(void)state;
	steps_run(&trace, opened, COUNT(opened), "opened", 1);
	steps_run(&trace, later, COUNT(later), "not followed", 1);
}

/* -- transfers -- */

#define LINE_MAX 64

struct packet_on_line {
	int side;
	struct window_segment s;
};

/* A line between an end and the middle box: delivers in any order, and not everything. */
struct line {
	struct packet_on_line packets[LINE_MAX];
	size_t count;
};

struct end {
	uint32_t isn, next, unacked; /* sent; acknowledged by the other end */
	uint32_t got;                /* of the other end, in order */
	uint32_t best;               /* of the other end, out of order */
	uint32_t allowed;            /* by the other end: ack + window, the furthest */
	uint32_t window;
	uint8_t scale;
};

static void line_put(struct line *line, int side, struct window_segment s)
{
	if (line->count < LINE_MAX)
		line->packets[line->count++] = (struct packet_on_line){side, s};
}

static bool line_take(struct line *line, uint64_t *random, struct packet_on_line *ret_packet)
{
	/* mostly in order */
	size_t i = random_next(random) % 4 ? 0 : line->count ? random_next(random) % line->count : 0;

	if (!line->count)
		return false;
	*ret_packet = line->packets[i];
	memmove(&line->packets[i], &line->packets[i + 1], (line->count - i - 1) * sizeof(line->packets[0]));
	line->count--;
	return random_next(random) % 16 != 0; /* else lost */
}

static struct window_segment end_segment(const struct end *end, uint32_t seq, uint32_t length)
{
	struct window_segment s = {
		.seq = seq,
		.end = seq + length,
		.ack = end->got,
		.sack = window_after(end->best, end->got) ? end->best : end->got,
		.window = (uint16_t)(end->window >> end->scale),
		.flags = WINDOW_ACK,
		.scale = NO_SCALE,
	};

	return s;
}

static void end_send(struct end *end, int side, struct line *line, uint64_t *random)
{
	uint32_t length = random_next(random) % 20000, room;

	switch (random_next(random) % 4) {
	case 0: /* again, from what is not acknowledged */
		room = end->next - end->unacked;
		line_put(line, side, end_segment(end, end->unacked, length < room ? length : room));
		break;
	case 1: /* keepalive */
		line_put(line, side, end_segment(end, end->unacked - 1, 0));
		break;
	default:
		room = window_after(end->allowed, end->next) ? end->allowed - end->next : 0;
		if (length > room)
			length = room;
		line_put(line, side, end_segment(end, end->next, length));
		end->next += length;
	}
}

static void end_receive(
	struct end *end, int side, const struct window_segment *s, struct line *line, uint64_t *random)
{
	if (window_after(s->ack, end->unacked))
		end->unacked = s->ack;
	/* the other end's window, scaled as it does; it never shrinks */
	if (window_after(s->ack + ((uint32_t)s->window << end->scale), end->allowed))
		end->allowed = s->ack + ((uint32_t)s->window << end->scale);
	if (!window_after(s->seq, end->got)) {
		if (window_after(s->end, end->got))
			end->got = s->end;
	} else if (window_after(s->end, end->best)) {
		end->best = s->end;
	}
	if (s->end != s->seq && random_next(random) % 2)
		line_put(line, side, end_segment(end, end->next, 0));
}

static void transfer(uint64_t seed)
{
	uint64_t random = seed * 0x9e3779b97f4a7c15ULL + 1;
	struct trace trace = {.now = 10, .followed = 1};
	struct line to_box[2] = {}, from_box[2] = {}; /* by the side that sent */
	uint8_t scale = random_next(&random) % 8;
	struct end ends[2];
	const struct step opened[] = {
		{A, S, 0, 0, 0, 60000, (uint8_t)(scale + 1), 0, WINDOW_BEGINS, CONNECTION_NEW},
		{B, SA, 0, 1, 0, 60000, (uint8_t)(scale + 1), 0, WINDOW_VALID, CONNECTION_ANSWERED},
	};

	steps_run(&trace, opened, COUNT(opened), "transfer", 1);
	for (int i = 0; i < 2; i++)
		ends[i] = (struct end){isn[i], isn[i] + 1, isn[i] + 1, isn[!i] + 1, isn[!i] + 1,
			isn[i] + 1 + 60000, (random_next(&random) % 5000 + 60000) << scale, scale};
	line_put(&to_box[A], A, end_segment(&ends[A], ends[A].next, 0));
	for (int step = 0; step < 3000; step++) {
		int side = (int)(random_next(&random) % 2);
		struct packet_on_line packet;

		if (random_next(&random) % 3 == 0)
			end_send(&ends[side], side, &to_box[side], &random);
		if (line_take(&to_box[side], &random, &packet)) {
			enum window_verdict verdict = trace_run(&trace, side, &packet.s, true);

			EXPECT(verdict != WINDOW_INVALID, "seed %" PRIu64 ", step %d, side %d", seed, step,
				side);
			line_put(&from_box[side], side, packet.s);
		}
		if (line_take(&from_box[side], &random, &packet))
			end_receive(&ends[!side], !side, &packet.s, &to_box[!side], &random);
	}
	EXPECT(ends[A].got != isn[B] + 1 || ends[B].got != isn[A] + 1,
		"seed %" PRIu64 ": nothing came through", seed);
}

static void test_transfers(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 300; seed++)
		transfer(seed);
}

static void test_guesses(void **state)
{
	const struct step opened[] = {OPENED, {A, PA, 1, 1, 600, 502, 0, 0, WINDOW_VALID, CONNECTION_OPEN},
		{B, AK, 1, 601, 0, 509, 0, 0, WINDOW_VALID, CONNECTION_OPEN}};
	struct trace trace = {.now = 10, .followed = 1};
	uint64_t random = 7;
	unsigned int through = 0;

	(void)state;
	steps_run(&trace, opened, COUNT(opened), "opened", 1);
	for (int i = 0; i < 1000000; i++) {
		struct window_segment s = {.seq = random_next(&random), .flags = R, .scale = NO_SCALE};

		s.end = s.seq;
		through += window_judge(&trace.connection, (uint32_t)i % 2, &s, 1) != WINDOW_INVALID;
	}
	/* windows of 64 KiB are one of 65536 guesses */
	EXPECT(through < 100, "%u resets of a million guesses went through", through);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST("a connection is followed from SYN to the last acknowledgement", test_life),
		TEST("what does not begin with a SYN is invalid", test_without_syn),
		TEST("flags that do not go together are invalid", test_flags),
		TEST("what is sent again is valid", test_resent),
		TEST("windows are scaled, and what is outside of them is invalid", test_windows),
		TEST("a reset out of the window is invalid and changes nothing", test_resets),
		TEST("a SYN in a connection changes nothing until it is answered", test_syn_in_the_middle),
		TEST("both ends may open at once", test_simultaneous),
		TEST("ports may be used again when a connection is over", test_reuse),
		TEST("a packet that was dropped changes nothing", test_dropped),
		TEST("windows are learnt anew when rules begin to ask", test_followed_later),
		TEST("a pretended reset does not end what goes on", test_not_followed),
		TEST("no packet of a transfer is invalid, whatever is lost or reordered", test_transfers),
		TEST("guessed resets are invalid", test_guesses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

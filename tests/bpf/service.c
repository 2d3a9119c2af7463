// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Packets of services through the real program at XDP: who gets them, and what they look like then. */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/bpf.h>
#include <cmocka.h>
#include <linux/bpf.h>

#include "lib/services.h"
#include "unit/unit.h"

#define LINES      4096
#define RING_BYTES 65536
#define FRAME_MAX  2048
#define SLOTS      13 /* a prime */

static struct services services;

struct frame {
	uint8_t bytes[FRAME_MAX];
	uint32_t length;
	int verdict;
};

static struct frame frame_hex(const char *text)
{
	struct frame frame = {};

	for (; text[0] && text[1] && frame.length < FRAME_MAX; text += 2) {
		unsigned int byte;

		assert_int_equal(sscanf(text, "%2x", &byte), 1);
		frame.bytes[frame.length++] = (uint8_t)byte;
	}
	return frame;
}

/* What becomes of a frame. */
static struct frame run(const struct frame *in)
{
	struct frame out = {};
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = in->bytes, .data_size_in = in->length,
		.data_out = out.bytes, .data_size_out = sizeof(out.bytes), .repeat = 1);

	assert_int_equal(
		bpf_prog_test_run_opts(bpf_program__fd(services.balance->progs.balance), &options), 0);
	out.length = options.data_size_out;
	out.verdict = (int)options.retval;
	return out;
}

/* -- the vectors of another balancer -- */

enum difference {
	SAME,
	CARRIED, /* IPv4 options are carried */
	STACK, /* a fragment whose first has not come by goes to the stack, and is no service's for certain */
	TOLD,  /* what does not fit is told to its sender */
	OUTER,    /* the outer source has the client's bits, whatever connections are told apart by */
	GUE_PORT, /* the outer UDP port is mixed otherwise, and the checksum is left out */
};

struct vector_difference {
	const char *set;
	int number;
	enum difference difference;
};

/* All others are the same, byte for byte. */
static const struct vector_difference differences[] = {
	{"base", 12, CARRIED},
	{"base", 13, STACK},
	{"base", 14, STACK},
	{"base", 19, OUTER},
	{"base", 20, OUTER},
	{"base", 33, TOLD},
	{"lpm", 1, GUE_PORT},
	{"lpm", 2, GUE_PORT},
	{"lpm", 3, GUE_PORT},
	{"lpm", 4, GUE_PORT},
	{"lpm", 5, GUE_PORT},
	{"lpm", 6, GUE_PORT},
	{"lpm", 7, GUE_PORT},
	{"lpm", 8, GUE_PORT},
};

static enum difference difference_of(const char *set, int number)
{
	for (size_t i = 0; i < sizeof(differences) / sizeof(differences[0]); i++)
		if (strcmp(differences[i].set, set) == 0 && differences[i].number == number)
			return differences[i].difference;
	return SAME;
}

/* The services of the vectors; service n has backend n and ring n. */
static const struct {
	const char *address;
	int proto;
	uint16_t port;
} vector_services[] = {
	{"10.200.1.1", 17, 80},
	{"10.200.1.1", 6, 80},
	{"10.200.1.2", 6, 0},
	{"10.200.1.3", 6, 80},
	{"fc00:1::1", 6, 80},
	{"10.200.1.4", 6, 0},
	{"10.200.1.5", 17, 443},
	{"fc00:1::2", 17, 443},
	{"10.200.1.6", 17, 80},
};

#define VECTOR_SERVICES (sizeof(vector_services) / sizeof(vector_services[0]))

static void vectors_bring(enum service_deliver deliver)
{
	struct service_text texts[VECTOR_SERVICES];
	struct service_input inputs[VECTOR_SERVICES];

	for (uint32_t i = 0; i < VECTOR_SERVICES; i++) {
		uint16_t slots[SLOTS];

		for (int slot = 0; slot < SLOTS; slot++)
			slots[slot] = (uint16_t)(i + 1);
		services_text(&texts[i], "vector", vector_services[i].proto, vector_services[i].address,
			vector_services[i].port, vector_services[i].port, deliver);
		texts[i].mtu = 1500;
		texts[i].gue_port = 9886;
		inputs[i] = (struct service_input){
			.text = &texts[i], .number = i + 1, .rule = i + 1, .ring = i + 1, .slots = SLOTS};
		services_ring(&services, i + 1, slots, SLOTS);
	}
	services_book(&services, 0, inputs, VECTOR_SERVICES);
	services_place(&services, 0);
	services_clear(&services);
}

/* All services get the backend that the expected packet shows, and its source where that is no tunnel's own.
 */
static void vector_backends(const struct frame *expected, bool gue)
{
	char text[INET6_ADDRSTRLEN];
	bool six = expected->bytes[12] == 0x86;

	inet_ntop(six ? AF_INET6 : AF_INET, expected->bytes + (six ? 38 : 30), text, sizeof(text));
	for (uint32_t i = 1; i <= VECTOR_SERVICES; i++) {
		services_backend(&services, i, i, text);
		services.sources[i] = (struct service_source){};
		if (!gue)
			continue;
		if (six)
			memcpy(services.sources[i].address6, expected->bytes + 22, 16);
		else
			memcpy(&services.backends[i].source, expected->bytes + 26, 4);
	}
}

static void blank_port(struct frame *frame)
{
	uint8_t *udp = frame->bytes + (frame->bytes[12] == 0x86 ? 54 : 34);

	memset(udp, 0, 2);
	memset(udp + 6, 0, 2);
}

static void blank_source(struct frame *frame)
{
	memset(frame->bytes + 24, 0, 2);
	memset(frame->bytes + 28, 0, 2);
}

static void vector_check(const char *set, int number, const char *verdict, const struct frame *in,
	struct frame *expected, const char *what)
{
	enum difference difference = difference_of(set, number);
	bool tx = strcmp(verdict, "XDP_TX") == 0, gue = strcmp(set, "lpm") == 0;
	struct frame out;

	vectors_bring(gue ? SERVICE_GUE : SERVICE_IPIP);
	vector_backends(expected, gue);
	out = run(in);
	print_message("# %s %d: %s: %d, %u bytes\n", set, number, what, out.verdict, out.length);
	switch (difference) {
	case CARRIED:
		assert_int_equal(out.verdict, XDP_TX);
		assert_memory_equal(out.bytes + 34, in->bytes + 14, in->length - 14);
		return;
	case STACK:
		assert_int_equal(out.verdict, XDP_PASS);
		assert_memory_equal(out.bytes, in->bytes, in->length);
		return;
	case TOLD:
		assert_int_equal(out.verdict, XDP_TX);
		assert_int_equal(out.bytes[23], 1);
		assert_int_equal(out.bytes[34], 3);
		return;
	case GUE_PORT:
		blank_port(&out);
		blank_port(expected);
		break;
	case OUTER:
		blank_source(&out);
		blank_source(expected);
		break;
	case SAME:
		break;
	}
	assert_int_equal(out.verdict, tx ? XDP_TX : strcmp(verdict, "XDP_PASS") == 0 ? XDP_PASS : XDP_DROP);
	assert_int_equal(out.length, expected->length);
	assert_memory_equal(out.bytes, expected->bytes, expected->length);
}

static void the_vectors_of_another_balancer_come_out_the_same_but_for_named_differences(void **state)
{
	const char *path = getenv("WEIR_LB_VECTORS");
	FILE *file = fopen(path ? path : SOURCE_ROOT "/../shared/data/lb-vectors/katran.tsv", "r");
	char line[3 * FRAME_MAX * 2];
	int rows = 0;

	(void)state;
	if (!file) {
		print_message("# the vectors are not here\n");
		skip();
	}
	while (fgets(line, sizeof(line), file)) {
		char *save = NULL, *set = strtok_r(line, "\t", &save), *number = strtok_r(NULL, "\t", &save);
		char *verdict = strtok_r(NULL, "\t", &save), *in_text = strtok_r(NULL, "\t", &save);
		char *out_text = strtok_r(NULL, "\t", &save), *what = strtok_r(NULL, "\t\n", &save);
		struct frame in, expected;

		assert_non_null(what);
		in = frame_hex(in_text);
		expected = frame_hex(out_text);
		vector_check(set, atoi(number), verdict, &in, &expected, what);
		rows++;
	}
	(void)fclose(file);
	assert_int_equal(rows, 46);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_vectors_of_another_balancer_come_out_the_same_but_for_named_differences),
	};
	int failed;

	if (services_open(&services, LINES, RING_BYTES) < 0)
		return 77;
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	services_close(&services);
	return failed;
}

/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Health checks: what follows from answers in a row, and what is read of an answer in HTTP. */
#include "agent/service/check_health.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "unit.h"

#define RISE 2
#define FALL 3

/* Answers, "+" and "-", and behind each how it counts then: "U" up, "D" down. */
static void expect_states(bool up, const char *answers, const char *states, uint32_t rise, uint32_t fall)
{
	struct check_health health = {.up = up};

	for (size_t i = 0; answers[i]; i++) {
		bool before = health.up;
		bool changed = check_health_take(&health, answers[i] == '+', rise, fall);

		if (health.up != (states[i] == 'U'))
			fail_msg("%s: answer %zu: %s", answers, i, health.up ? "up" : "down");
		assert_int_equal(changed, before != health.up);
	}
}

static void fall_failures_in_a_row_put_it_down_and_rise_successes_up(void **state)
{
	(void)state;
	expect_states(true, "---++", "UUDDU", RISE, FALL);
	expect_states(true, "+---+-++", "UUUDDDDU", RISE, FALL);
	expect_states(false, "++---", "DUUUD", RISE, FALL);
}

static void an_answer_in_between_begins_the_row_anew(void **state)
{
	(void)state;
	expect_states(true, "--+--+--+---", "UUUUUUUUUUUD", RISE, FALL);
	expect_states(false, "+-+-+-++", "DDDDDDDU", RISE, FALL);
}

static void with_one_each_answer_decides(void **state)
{
	(void)state;
	expect_states(true, "-+-+", "DUDU", 1, 1);
}

static void who_was_down_stays_down_until_it_has_risen(void **state)
{
	(void)state;
	expect_states(false, "+++++-", "DDDDUU", 5, 2);
}

static void a_status_is_read_as_soon_as_it_is_there(void **state)
{
	static const char answer[] = "HTTP/1.1 503 Service Unavailable\r\n";

	(void)state;
	for (size_t size = 0; size < sizeof(answer); size++) {
		char *bytes = malloc(size + 1); /* so that a look behind the end is seen */
		int status;

		assert_non_null(bytes);
		memcpy(bytes, answer, size);
		status = check_status_read(bytes, size);
		free(bytes);
		assert_int_equal(status, size < strlen("HTTP/1.1 503 ") ? 0 : 503);
	}
	assert_int_equal(check_status_read("HTTP/1.0 200\r\n", 14), 200);
	assert_int_equal(check_status_read("HTTP/1.0 204\n", 13), 204);
}

static void what_is_no_answer_in_http_is_told(void **state)
{
	static const char *const wrong[] = {"SSH-2.0-OpenSSH\r\n", "HTTP/2 200 \r\n", "HTTP/1.x 200 OK",
		"HTTP/1.1  200 ", "HTTP/1.1 20 OK ", "HTTP/1.1 2000 OK", "HTTP/1.1 099 ", "HTTP/1.1 600 ",
		"\x16\x03\x01", "http/1.1 200 "};

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		if (check_status_read(wrong[i], strlen(wrong[i])) != -EBADMSG)
			fail_msg("taken for an answer: %s", wrong[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fall_failures_in_a_row_put_it_down_and_rise_successes_up),
		cmocka_unit_test(an_answer_in_between_begins_the_row_anew),
		cmocka_unit_test(with_one_each_answer_decides),
		cmocka_unit_test(who_was_down_stays_down_until_it_has_risen),
		cmocka_unit_test(a_status_is_read_as_soon_as_it_is_there),
		cmocka_unit_test(what_is_no_answer_in_http_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

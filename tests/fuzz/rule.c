// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Any bytes as a rule, on sockets or on packets: what is read is printed as a rule that reads as the same,
 * and prints as the same. */
#include <stdlib.h>
#include <string.h>

#include "compile/guard.h"
#include "fuzz/fuzz.h"
#include "model/packet.h"
#include "model/rule.h"

static void accepted_check(const struct rule *rule)
{
	char text[RULE_TEXT_MAX], text_again[RULE_TEXT_MAX];
	struct guard_rule compiled, compiled_again;
	struct rule again;

	if (rule_kind(rule) == RULE_ON_SERVICES || rule_kind(rule) == RULE_ON_FORWARDING)
		return; /* service.c */
	if (rule_print(rule, text, sizeof(text)) < 0)
		return; /* "10.0.0.0/8" may be longer than it was; the agent refuses that */
	REQUIRE(rule_parse(text, &again, NULL) == 0);
	REQUIRE(rule_print(&again, text_again, sizeof(text_again)) == 0);
	REQUIRE(strcmp(text, text_again) == 0);
	REQUIRE(rule_covers(rule, &again) && rule_covers(&again, rule));
	REQUIRE(rule_is_shape(rule) == rule_is_shape(&again) &&
		rule_is_declared(rule) == rule_is_declared(&again));
	REQUIRE(shape_terms_equal(&rule->shape, &again.shape));
	REQUIRE(strcmp(rule->class, again.class) == 0);
	if (!rule_is_on_sockets(rule)) {
		REQUIRE(memcmp(&rule->packet.rate, &again.packet.rate, sizeof(again.packet.rate)) == 0);
		return;
	}
	compiled = guard_compile(rule);
	compiled_again = guard_compile(&again);
	REQUIRE(memcmp(&compiled, &compiled_again, sizeof(compiled)) == 0);
	REQUIRE(compiled.call <= GUARD_SEND && compiled.port_count <= GUARD_PORTS_MAX);
}

/* The same words may be a packet. */
static void packet_check(const char *text)
{
	struct packet_description packet;
	uint8_t bytes[PACKET_BYTES_MAX];
	struct error error = {0};
	size_t length;

	if (packet_description_parse(text, &packet, &error) < 0) {
		REQUIRE(error.what[0]);
		return;
	}
	length = packet_description_build(&packet, bytes);
	REQUIRE(length >= 14 + 20 + 8 && length <= sizeof(bytes));
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	struct error error = {0};
	struct rule rule;
	char *text = malloc(size + 1);

	if (!text)
		return 0;
	memcpy(text, input, size);
	text[size] = '\0';
	if (rule_parse(text, &rule, &error) == 0) {
		accepted_check(&rule);
		rule_clear(&rule);
	} else {
		REQUIRE(error.code < 0);
		REQUIRE(error.what[0]);
		REQUIRE(rule_parse(text, &rule, NULL) < 0);
	}
	packet_check(text);
	free(text);
	return 0;
}

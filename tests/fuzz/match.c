// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Any bytes as a sentence: what is read is printed as a sentence that reads as the same, and prints as the
 * same. */
#include <stdlib.h>
#include <string.h>

#include "fuzz/fuzz.h"
#include "lib/match.h"

static void accepted_check(const struct match *match)
{
	struct match_subject subject = {
		.direction = MATCH_IN,
		.interface = "eth0",
		.family = 4,
		.protocol = 6,
		.source = {.family = 4, .bytes = {10, 0, 0, 1}},
		.destination = {.family = 4, .bytes = {192, 0, 2, 1}},
		.has_ports = true,
		.source_port = 40000,
		.destination_port = 443,
		.tcp_flags = 0x1f,
		.icmp_type = -1,
		.vlan = -1,
	};
	char text[MATCH_TEXT_MAX], text_again[MATCH_TEXT_MAX];
	struct match again;

	REQUIRE(match_print(match, text, sizeof(text)) == 0);
	REQUIRE(match_parse(text, &again, NULL) == 0);
	REQUIRE(match_equal(match, &again));
	REQUIRE(match_print(&again, text_again, sizeof(text_again)) == 0);
	REQUIRE(strcmp(text, text_again) == 0);
	REQUIRE(match_fits(match, &subject) == match_fits(&again, &subject));
	REQUIRE(match_is_address_only(match) == match_is_address_only(&again));
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	struct error error = {0};
	struct match match;
	char *text = malloc(size + 1);

	if (!text)
		return 0;
	memcpy(text, input, size);
	text[size] = '\0';
	if (match_parse(text, &match, &error) == 0) {
		accepted_check(&match);
	} else {
		REQUIRE(error.code < 0 && error.what[0]);
		REQUIRE(error.line >= 1 && error.column >= 1);
		REQUIRE(error.column <= strlen(text) + 1);
	}
	free(text);
	return 0;
}

// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* A service, or what forwards or steers, in the first line, a change of the service in the second: what is
 * read is printed as what reads as the same; a change makes what reads as the same, or says what is wrong. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz/fuzz.h"
#include "model/rule.h"

static void service_check(const struct service_text *service)
{
	char *text = service_print(service);
	struct service_text *again = NULL;

	REQUIRE(text);
	REQUIRE(service->backend_count >= 1 && service->backend_count <= SERVICE_OF_BACKENDS_MAX);
	REQUIRE(service->deliver < SERVICE_DELIVERS && service->choice < SERVICE_CHOICES);
	REQUIRE(service->check.kind < SERVICE_CHECKS && service->check.timeout_ns <= service->check.every_ns);
	REQUIRE(service->slots <= SERVICE_RING_SLOTS && service_name_check(service->name, NULL) == 0);
	REQUIRE(service->any_port || (service->ports.low && service->ports.low <= service->ports.high));
	for (size_t i = 0; i < service->backend_count; i++)
		REQUIRE(service->backends[i].weight <= SERVICE_WEIGHT_MAX);
	REQUIRE(!service->has_from || service_nat_addresses(&service->from_first, &service->from_last) <=
					      SERVICE_NAT_ADDRESSES_MAX);
	if (strlen(text) < SERVICE_TEXT_MAX) {
		REQUIRE(service_parse(text, &again, NULL) == 0);
		REQUIRE(service_equal(service, again));
		REQUIRE(service_conflicts(service, again));
		service_free(again);
	}
	free(text);
}

static void change_check(const struct service_text *service, const char *change)
{
	struct service_text *changed = NULL;
	struct error error = {0};

	if (service_change(service, change, &changed, &error) == 0) {
		REQUIRE(service_change_check(change, NULL) == 0);
		service_check(changed);
		service_free(changed);
	} else {
		REQUIRE(error.code < 0 && error.what[0] && !changed);
	}
}

static void forward_check(const char *text)
{
	char printed[FORWARD_TEXT_MAX], again[FORWARD_TEXT_MAX];
	struct forward_text forward;
	struct error error = {0};

	if (forward_parse(text, &forward, &error) == 0) {
		REQUIRE(forward.interface_count >= 1 && forward.interface_count <= FORWARD_INTERFACES_MAX);
		if (forward_print(&forward, printed, sizeof(printed)) == 0) {
			REQUIRE(forward_parse(printed, &forward, NULL) == 0);
			REQUIRE(forward_print(&forward, again, sizeof(again)) == 0);
			REQUIRE(strcmp(printed, again) == 0);
			REQUIRE(forward_conflict(&forward, &forward));
		}
	} else {
		REQUIRE(error.code < 0 && error.what[0]);
	}
}

static void steer_check(const char *text)
{
	char sentence[FORWARD_TEXT_MAX + 8], printed[RULE_TEXT_MAX], again[RULE_TEXT_MAX];
	struct error error = {0};
	struct rule rule;

	snprintf(sentence, sizeof(sentence), "steer %s", text);
	if (rule_parse(sentence, &rule, &error) < 0) {
		REQUIRE(error.code < 0 && error.what[0]);
		return;
	}
	REQUIRE(rule.match.direction == MATCH_IN && rule.match.interface[0]);
	REQUIRE(rule.match.owner.kind == OWNER_ANY && rule.match.vlan < 0 && !rule.packet.states);
	if (rule_print(&rule, printed, sizeof(printed)) == 0) {
		rule_clear(&rule);
		REQUIRE(rule_parse(printed, &rule, NULL) == 0);
		REQUIRE(rule_print(&rule, again, sizeof(again)) == 0);
		REQUIRE(strcmp(printed, again) == 0);
	}
	rule_clear(&rule);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	struct service_text *service = NULL;
	char *text = malloc(size + 1), *change;
	struct error error = {0};

	if (!text)
		return 0;
	memcpy(text, input, size);
	text[size] = '\0';
	change = strchr(text, '\n');
	if (change)
		*change++ = '\0';
	if (service_parse(text, &service, &error) == 0) {
		service_check(service);
		if (change)
			change_check(service, change);
		service_free(service);
	} else {
		REQUIRE(error.code < 0 && error.what[0] && !service);
		REQUIRE(service_parse(text, &service, NULL) < 0);
	}
	forward_check(text);
	steer_check(text);
	free(text);
	return 0;
}

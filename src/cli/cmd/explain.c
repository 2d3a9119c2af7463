/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* weir explain: which rule decides about a packet, and why. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/ask.h"
#include "cli/cli.h"
#include "cli/filter.h"
#include "cli/view/answer.h"
#include "cli/view/style.h"
#include "model/packet.h"

static void rule_print_line(const char *before, const json_t *rule)
{
	printf("%s rule %" PRIu64 ": %s\n", before, json_get_number(rule, "id"), json_get_text(rule, "text"));
}

/* What it belongs to, and who sees to the rate. */
static void classes_print(const json_t *answer, const struct style *style)
{
	const json_t *entry;
	size_t i;

	json_array_foreach (json_object_get(answer, "classes"), i, entry) {
		printf("class %" PRIu64 ": %s\n", json_get_number(entry, "id"), json_get_text(entry, "text"));
		printf("  %s%s: %s%s\n", style->dim, json_get_text(entry, "engine"),
			json_get_text(entry, "engine_reason"), style->reset);
	}
}

/* Where it goes before rules in tc are asked. */
static void service_print_line(const json_t *service, const char *verdict, const struct style *style)
{
	const char *backend = json_get_text(service, "backend");

	if (!*backend)
		backend = strcmp(verdict, "accept") == 0 ? "the next in turn" : "no backend";
	printf("service %" PRIu64 ", %s: %s%s%s", json_get_number(service, "id"),
		json_get_text(service, "name"), style->bold, backend, style->reset);
	if (*json_get_text(service, "state"))
		printf(" (%s)", json_get_text(service, "state"));
	printf(" by %s", json_get_text(service, "deliver"));
	if (strcmp(json_get_text(service, "hook"), "none") == 0)
		printf(", but not balanced here");
	else if (*json_get_text(service, "hook"))
		printf(" at %s", json_get_text(service, "hook"));
	printf("\n  %s", style->dim);
	if (json_object_get(service, "slot"))
		printf("slot %" PRIu64 "%s", json_get_number(service, "slot"),
			*json_get_text(service, "why") ? ": " : "");
	printf("%s%s\n", json_get_text(service, "why"), style->reset);
}

static void steer_print_line(const json_t *steer)
{
	printf("steered to CPU %" PRIu64 " by", json_get_number(steer, "cpu"));
	rule_print_line("", steer);
}

static void explanation_print(const struct cli *cli, const json_t *answer)
{
	const struct style *style = style_choose(cli->color);
	const json_t *rule = json_object_get(answer, "rule"), *service = json_object_get(answer, "service"),
		     *entry;
	const char *verdict = json_get_text(answer, "verdict"), *policy = json_get_text(answer, "policy");
	bool bad = strcmp(verdict, "accept") != 0;
	size_t i;

	if (service)
		service_print_line(service, verdict, style);
	if (json_object_get(answer, "forward"))
		rule_print_line("sent on at XDP", json_object_get(answer, "forward"));
	else if (json_object_get(answer, "steer"))
		steer_print_line(json_object_get(answer, "steer"));
	json_array_foreach (json_object_get(answer, "passed"), i, entry)
		rule_print_line("passed", entry);
	if (json_object_get(answer, "unasked"))
		rule_print_line("not asked, since it is taken before:", json_object_get(answer, "unasked"));
	if ((service && strcmp(json_get_text(service, "hook"), "none") != 0) ||
		json_object_get(answer, "forward"))
		return;
	classes_print(answer, style);
	printf("%s%s%s", bad ? style->bad : style->bold, verdict, style->reset);
	if (rule)
		rule_print_line(" by", rule);
	else
		puts(" by default: no rule decides");
	json_array_foreach (json_object_get(answer, "why"), i, entry)
		printf("%s%s", i ? ", " : "  because of ", json_string_value(entry));
	if (i)
		putchar('\n');
	printf("  hook %s", json_get_text(answer, "hook"));
	if (json_object_get(answer, "state"))
		printf(", state %s", json_get_text(answer, "state"));
	if (*policy && strcmp(policy, "host") != 0)
		printf(", tenant %s", policy);
	putchar('\n');
}

int cmd_explain(const struct cli *cli)
{
	_cleanup_free_ char *packet = words_join(cli, ""), *query = NULL;
	_cleanup_client_ struct weir_client *client = NULL;
	_cleanup_json_ json_t *answer = NULL;
	struct packet_description description;
	struct error error;

	if (packet && packet_description_parse(packet, &description, &error) < 0)
		return fail_usage(&error);
	query = packet ? query_make("packet", packet, NULL) : NULL;
	if (!query) {
		error_set(&error, -ENOMEM, "no memory");
		return fail(&error);
	}
	if (client_open(cli, &client, &error) < 0 ||
		ask_shown(cli, client, "/v1/explain", query, &answer, &error) < 0)
		return fail(&error);
	if (answer)
		explanation_print(cli, answer);
	return output_end(EXIT_OK);
}

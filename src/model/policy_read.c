/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Policies out of YAML. */
#include "model/policy_read.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "basic/cleanup.h"
#include "basic/text.h"
#include "model/owner.h"
#include "model/rule.h"
#include "model/set.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define PATH_MAX_TEXT 96 /* "tenants.NAME.default.out" */
#define FILE_TEXT_MAX 4096

const char *const policy_verdicts[] = {
	[POLICY_ACCEPT] = "accept", [POLICY_DROP] = "drop", [POLICY_REJECT] = "reject", NULL};

static struct policy_text *policy_of(struct yaml *y)
{
	return y->target;
}

/*
 * shapes, services, forward, steer: sentences of one kind each
 */

static bool name_is_there(char *const *texts, const char *name)
{
	size_t length = strlen(name);

	for (; *texts; texts++)
		if (strncmp(*texts, name, length) == 0 && (*texts)[length] == ' ')
			return true;
	return false;
}

/* What is read of one section, so that each sentence can be held against those before it. */
struct section {
	struct policy_sentences *sentences;
	struct rule *rules;
};

static int fail_second(struct yaml *y, const struct yaml_field *field, size_t at, const char *what)
{
	yaml_fail(y, at, "%s: a second %s", field->path, what);
	error_want(y->error, "each name once");
	return -EINVAL;
}

static int shape_check(
	struct yaml *y, const struct yaml_field *field, size_t at, const struct section *section)
{
	const struct rule *rule = &section->rules[section->sentences->count];
	char what[SHAPE_NAME_MAX + 16];

	if (!name_is_there(section->sentences->texts, rule->class))
		return 0;
	snprintf(what, sizeof(what), "class '%s'", rule->class);
	return fail_second(y, field, at, what);
}

static int service_check_alone(
	struct yaml *y, const struct yaml_field *field, size_t at, const struct section *section)
{
	const struct service_text *service = section->rules[section->sentences->count].service;
	char what[SERVICE_NAME_MAX + 16];

	for (size_t i = 0; i < section->sentences->count; i++) {
		const struct service_text *other = section->rules[i].service;

		if (strcmp(other->name, service->name) == 0) {
			snprintf(what, sizeof(what), "service '%s'", service->name);
			return fail_second(y, field, at, what);
		}
		if (service_conflicts(other, service)) {
			yaml_fail(y, at, "%s: the address and ports of '%s' are used by '%s' already",
				field->path, service->name, other->name);
			error_want(y->error, "another address, protocol or port; or one service for both");
			return -EINVAL;
		}
	}
	return 0;
}

static int forward_check(
	struct yaml *y, const struct yaml_field *field, size_t at, const struct section *section)
{
	for (size_t i = 0; i < section->sentences->count; i++) {
		const char *interface = forward_conflict(
			section->rules[i].forward, section->rules[section->sentences->count].forward);

		if (!interface)
			continue;
		yaml_fail(y, at, "%s: what comes in on %s is forwarded already: %.80s", field->path,
			interface, section->sentences->texts[i]);
		error_want(y->error, "each interface once");
		return -EINVAL;
	}
	return 0;
}

static const struct section_kind {
	const char *what, *list, *such_as;
	size_t max, text_max;
	/* Does the last one go with those before it?  NULL: always. */
	int (*check)(
		struct yaml *y, const struct yaml_field *field, size_t at, const struct section *section);
} section_kinds[] = {
	[POLICY_SHAPES] = {"a class", "a list of classes", "bulk under eth0 weight 1 ceiling 200mbit",
		SHAPE_DECLARED_MAX, SHAPE_TEXT_MAX, shape_check},
	[POLICY_SERVICES] = {"a service", "a list of services",
		"web tcp 203.0.113.10 port 443 to 10.0.0.11, 10.0.0.12", SERVICES_MAX - 1, SERVICE_TEXT_MAX,
		service_check_alone},
	[POLICY_FORWARDS] = {"what is forwarded", "a list of what is forwarded", "from eth0 by route",
		FORWARDS_MAX, FORWARD_TEXT_MAX, forward_check},
	[POLICY_STEERS] = {"what is steered", "a list of what is steered", "in on eth0 to cpus 0-7",
		STEERS_MAX, FORWARD_TEXT_MAX, NULL},
};

/* The sentence as a rule; columns of its errors are those of the sentence. */
static int section_parse(enum policy_section kind, const char *text, struct rule *ret_rule, char **ret_text,
	struct error *error)
{
	size_t verb = strlen(policy_section_verbs[kind]) + 1;
	_cleanup_free_ char *sentence = NULL, *printed = NULL;
	struct rule rule;
	int r;

	if (asprintf(&sentence, "%s %s", policy_section_verbs[kind], text) < 0) {
		sentence = NULL;
		return error_set(error, -ENOMEM, "out of memory");
	}
	r = rule_parse(sentence, &rule, error);
	if (r < 0) {
		if (error)
			error_skip(error, verb);
		return r;
	}
	printed = rule_text(&rule, error);
	if (printed)
		*ret_text = strdup(printed + verb);
	if (!printed || !*ret_text) {
		rule_clear(&rule);
		return printed ? error_set(error, -ENOMEM, "out of memory") : -EINVAL;
	}
	*ret_rule = rule;
	return 0;
}

static int read_sentence(struct yaml *y, const struct yaml_field *field, struct fy_node *item, size_t key_at,
	enum policy_section kind, struct section *section)
{
	const struct section_kind *k = &section_kinds[kind];
	struct policy_sentences *sentences = section->sentences;
	_cleanup_free_ char *text = NULL;
	char *printed = NULL;
	size_t at = yaml_at(y, item, key_at), length = 0;
	struct error problem = {};
	int r;

	if (fy_node_is_scalar(item) && !fy_node_is_alias(item) && !yaml_is_null(item)) {
		text = yaml_text_take(item, &length);
		if (!text)
			return yaml_fail_memory(y);
	}
	if (!text || strlen(text) != length) {
		yaml_fail_expected(y, field->path, k->what, item, key_at);
		error_want(y->error, "a sentence such as %s", k->such_as);
		return -EINVAL;
	}
	r = section_parse(kind, text, &section->rules[sentences->count], &printed, &problem);
	if (r == -ENOMEM)
		return yaml_fail_memory(y);
	if (r < 0)
		return yaml_fail_inside(y, field->path, text, &problem, at);
	r = k->check ? k->check(y, field, at, section) : 0;
	if (r == 0 && strlen(printed) >= k->text_max) {
		yaml_fail(y, at, "%s: the sentence is too long", field->path);
		error_want(y->error, "at most %zu bytes", k->text_max - 1);
		r = -EINVAL;
	}
	if (r < 0) {
		rule_clear(&section->rules[sentences->count]);
		free(printed);
		return r;
	}
	sentences->at[sentences->count] = at;
	sentences->texts[sentences->count++] = printed;
	return 0;
}

static int section_read(struct yaml *y, const struct yaml_field *field, struct fy_node *value, size_t key_at,
	enum policy_section kind)
{
	const struct section_kind *k = &section_kinds[kind];
	struct section section = {.sentences = &policy_of(y)->sections[kind]};
	struct fy_node *item;
	void *iterator = NULL;
	size_t count;
	int r = 0;

	if (yaml_is_null(value))
		return 0;
	if (!fy_node_is_sequence(value)) {
		yaml_fail_expected(y, field->path, k->list, value, key_at);
		error_want(y->error, "- %s", k->such_as);
		return -EINVAL;
	}
	count = (size_t)fy_node_sequence_item_count(value);
	if (count > k->max) {
		yaml_fail(y, key_at, "%s: %zu are too many", field->path, count);
		error_want(y->error, "at most %zu", k->max);
		return -EINVAL;
	}
	section.sentences->texts = calloc(count + 1, sizeof(char *));
	section.sentences->at = calloc(count + 1, sizeof(*section.sentences->at));
	section.rules = calloc(count + 1, sizeof(*section.rules));
	if (!section.sentences->texts || !section.sentences->at || !section.rules)
		r = yaml_fail_memory(y);
	while (r == 0 && (item = fy_node_sequence_iterate(value, &iterator)))
		r = read_sentence(y, field, item, key_at, kind, &section);
	for (size_t i = 0; section.rules && i < section.sentences->count; i++)
		rule_clear(&section.rules[i]);
	free(section.rules);
	return r;
}

static int read_shapes(struct yaml *y, const struct yaml_field *field, struct fy_node *value, size_t key_at)
{
	return section_read(y, field, value, key_at, POLICY_SHAPES);
}

static int read_services(struct yaml *y, const struct yaml_field *field, struct fy_node *value, size_t key_at)
{
	return section_read(y, field, value, key_at, POLICY_SERVICES);
}

static int read_forwards(struct yaml *y, const struct yaml_field *field, struct fy_node *value, size_t key_at)
{
	return section_read(y, field, value, key_at, POLICY_FORWARDS);
}

static int read_steers(struct yaml *y, const struct yaml_field *field, struct fy_node *value, size_t key_at)
{
	return section_read(y, field, value, key_at, POLICY_STEERS);
}

/*
 * A list: default, rules.  The host's, and with other names each tenant's.
 */

static int read_verdict(struct yaml *y, const struct yaml_field *field, struct fy_node *value, size_t key_at)
{
	enum policy_action *target = (enum policy_action *)((char *)y->target + field->offset);
	unsigned int verdict = 0;
	int r = yaml_choice_read(y, field, value, key_at, policy_verdicts, &verdict);

	if (r == 0)
		*target = (enum policy_action)verdict;
	return r;
}

static int read_rule(struct yaml *y, const struct yaml_field *field, struct fy_node *item, size_t key_at,
	bool of_tenant, char **ret_text)
{
	char buffer[RULE_TEXT_MAX + 2], printed[RULE_TEXT_MAX];
	const char *text = yaml_text(item, buffer, sizeof(buffer));
	size_t at = yaml_at(y, item, key_at);
	struct error problem = {};
	enum policy_section section;
	struct rule rule;

	if (!text) {
		yaml_fail_expected(y, field->path, "a rule", item, key_at);
		error_want(y->error, "a sentence of at most %d bytes, in quotes if a ': ' or ' #' is in it",
			RULE_TEXT_MAX - 1);
		return -EINVAL;
	}
	if (rule_parse(text, &rule, &problem) < 0)
		return yaml_fail_inside(y, field->path, text, &problem, at);
	if (rule.match.owner.kind == OWNER_PID) {
		yaml_fail(y, at, "%s: a process' id is another one's tomorrow", field->path);
		error_want(y->error, "exe, unit, cgroup or user; or 'weir %s' for a process that runs",
			rule_verbs[rule.verb]);
		return -EINVAL;
	}
	section = policy_section_find(rule_verbs[rule.verb]);
	if (section < POLICY_SECTIONS) {
		rule_clear(&rule);
		yaml_fail(y, at, "%s: %s", field->path, section_kinds[section].what);
		error_want(y->error, "section '%s', without the word '%s'", policy_section_keys[section],
			policy_section_verbs[section]);
		return -EINVAL;
	}
	if (of_tenant && rule_is_on_sockets(&rule)) {
		yaml_fail(y, at, "%s: a rule on sockets", field->path);
		error_want(y->error, "rules on packets; those on sockets are the host's");
		return -EINVAL;
	}
	if (rule_print(&rule, printed, sizeof(printed)) < 0) {
		yaml_fail(y, at, "%s: the rule is too long", field->path);
		error_want(y->error, "at most %d bytes", RULE_TEXT_MAX - 1);
		return -EINVAL;
	}
	*ret_text = strdup(printed);
	return *ret_text ? 0 : yaml_fail_memory(y);
}

static int rules_read(struct yaml *y, const struct yaml_field *field, struct fy_node *value, size_t key_at,
	bool of_tenant, struct policy_list *list)
{
	struct fy_node *item;
	void *iterator = NULL;
	int count, r = 0;

	if (yaml_is_null(value)) /* all commented out */
		return 0;
	if (!fy_node_is_sequence(value)) {
		yaml_fail_expected(y, field->path, "a list of rules", value, key_at);
		error_want(y->error, "- drop in tcp to port 80");
		return -EINVAL;
	}
	count = fy_node_sequence_item_count(value);
	if (count > RULES_MAX) {
		yaml_fail(y, key_at, "%s: %d are too many", field->path, count);
		error_want(y->error, "at most %d", RULES_MAX);
		return -EINVAL;
	}
	list->rules = calloc((size_t)count + 1, sizeof(*list->rules));
	list->rules_at = calloc((size_t)count + 1, sizeof(*list->rules_at));
	if (!list->rules || !list->rules_at)
		return yaml_fail_memory(y);
	while (r == 0 && (item = fy_node_sequence_iterate(value, &iterator))) {
		list->rules_at[list->rule_count] = yaml_at(y, item, key_at);
		r = read_rule(y, field, item, key_at, of_tenant, &list->rules[list->rule_count]);
		if (r == 0)
			list->rule_count++;
	}
	return r;
}

static int read_rules(struct yaml *y, const struct yaml_field *field, struct fy_node *value, size_t key_at)
{
	return rules_read(y, field, value, key_at, false, &policy_of(y)->host);
}

/*
 * sets: NAME: [entries] | {file: PATH} | one a line
 */

static int entry_ignore(void *context, const struct set_entry *entry)
{
	enum set_kind *kind = context;

	if (kind)
		*kind = entry->kind;
	return 0;
}

static int read_set_list(struct yaml *y, const char *path, struct fy_node *value, struct policy_set *set)
{
	_cleanup_free_ char *text = NULL;
	size_t length = 0;
	FILE *out = open_memstream(&text, &length);
	enum set_kind kind = SET_EMPTY, this = SET_EMPTY;
	struct fy_node *item;
	void *iterator = NULL;
	int r = out ? 0 : yaml_fail_memory(y);

	while (r == 0 && (item = fy_node_sequence_iterate(value, &iterator))) {
		char buffer[YAML_SCALAR_MAX];
		const char *entry = yaml_text(item, buffer, sizeof(buffer));
		size_t at = yaml_at(y, item, 0);
		struct error problem = {};

		if (!entry) {
			r = yaml_fail_expected(y, path, "an entry", item, at);
			error_want(y->error, "an address, a prefix such as 10.0.0.0/8, a range, or a port");
		} else if (set_entry_parse(entry, entry_ignore, &this, &problem) < 0) {
			r = yaml_fail_inside(y, path, entry, &problem, at);
		} else if (kind != SET_EMPTY && kind != this) {
			r = yaml_fail(y, at, "%s: %s in a list of %s", path,
				kind == SET_PORTS ? "an address" : "a port",
				kind == SET_PORTS ? "ports" : "addresses");
			error_want(y->error, "one kind in a set; the first entry decides which");
		} else {
			fprintf(out, "%s\n", entry);
		}
		kind = this;
	}
	if (out && fclose(out) != 0 && r == 0)
		r = yaml_fail_memory(y);
	if (r < 0)
		return r;
	set->entries = TAKE(text);
	set->length = length;
	return 0;
}

/* An error in a line of a text that the file has as it reads: where is it in the file? */
static size_t block_at(const struct yaml *y, size_t at, const struct error *problem)
{
	size_t line = problem->line ? problem->line - 1 : 0, indent = 0;
	const char *next;

	while (at && y->text[at - 1] != '\n')
		at--;
	for (; line && (next = strchr(y->text + at, '\n')); line--)
		at = (size_t)(next + 1 - y->text);
	while (y->text[at + indent] == ' ')
		indent++;
	return at + indent;
}

static int read_set_text(
	struct yaml *y, const char *path, struct fy_node *value, size_t key_at, struct policy_set *set)
{
	struct error problem = {};
	size_t at = yaml_at(y, value, key_at);

	set->entries = yaml_is_null(value) ? strdup("") : yaml_text_take(value, &set->length);
	if (!set->entries)
		return yaml_fail_memory(y);
	if (set_list_parse(set->entries, set->length, NULL, false, entry_ignore, NULL, NULL, &problem) == 0)
		return 0;
	if (fy_node_get_style(value) == FYNS_LITERAL)
		at = block_at(y, at, &problem);
	yaml_fail(y, at, "%s: %s", path, problem.what);
	error_want(y->error, "%s", problem.want);
	return -EINVAL;
}

/* The path is printed again, as YAML: with the folder of the policy before it, which may be called anything.
 */
static int file_check(struct yaml *y, const struct yaml_field *field, const char *file, size_t at)
{
	if (strlen(file) >= FILE_TEXT_MAX - 1) {
		yaml_fail(y, at, "%s: the path is too long", field->path);
		error_want(y->error, "at most %d bytes, with the policy's folder", FILE_TEXT_MAX - 2);
		return -EINVAL;
	}
	if (!text_is_utf8(file)) {
		yaml_fail(y, at, "%s: the name of the policy's folder is not UTF-8", field->path);
		error_want(y->error, "a path that begins with '/'");
		return -EINVAL;
	}
	return 0;
}

static int read_set_file(struct yaml *y, const struct yaml_field *field, struct fy_node *value, size_t key_at)
{
	struct policy_set *set = y->target;
	char buffer[FILE_TEXT_MAX];
	const char *text = yaml_text(value, buffer, sizeof(buffer));

	if (!text || !*text) {
		yaml_fail_expected(y, field->path, "the name of a file", value, key_at);
		error_want(y->error, "a list, one entry a line");
		return -EINVAL;
	}
	set->file = yaml_path_beside(y, text);
	if (!set->file)
		return yaml_fail_memory(y);
	return file_check(y, field, set->file, yaml_at(y, value, key_at));
}

static int read_set(
	struct yaml *y, const char *path, struct fy_node *value, size_t key_at, struct policy_set *set)
{
	char file_path[PATH_MAX_TEXT];
	const struct yaml_field fields[] = {{.path = file_path, .read = read_set_file}, {NULL}};
	const struct yaml_field mapping = {.path = path, .children = fields};
	void *target = y->target;
	int r;

	if (fy_node_is_sequence(value))
		return read_set_list(y, path, value, set);
	if (!fy_node_is_mapping(value))
		return read_set_text(y, path, value, key_at, set);
	snprintf(file_path, sizeof(file_path), "%.80s.file", path);
	y->target = set;
	r = yaml_mapping_read(y, &mapping, value, key_at);
	y->target = target;
	if (r == 0 && !set->file) {
		yaml_fail(y, key_at, "%s: no file is named", path);
		error_want(y->error, "{file: PATH}, or a list of entries");
		return -EINVAL;
	}
	return r;
}

/* A key that is a name; `seen` are those before it, `size` bytes apart. */
static int name_read(struct yaml *y, const struct yaml_field *field, struct fy_node *key, size_t key_at,
	const char *seen, size_t size, size_t count, char ret_name[SET_NAME_MAX])
{
	char buffer[YAML_SCALAR_MAX];
	const char *name = yaml_text(key, buffer, sizeof(buffer));
	size_t at = yaml_at(y, key, key_at);
	struct error problem = {};

	if (!name)
		return yaml_fail_expected(y, field->path, "a name", key, key_at);
	if (set_name_check(name, &problem) < 0) {
		yaml_fail(y, at, "%s: %s", field->path, problem.what);
		error_want(y->error, "%s", problem.want);
		return -EINVAL;
	}
	for (size_t i = 0; i < count; i++, seen += size) {
		if (strcmp(seen, name) == 0) {
			yaml_fail(y, at, "%s: a second '%s'", field->path, name);
			error_want(y->error, "each name once");
			return -EINVAL;
		}
	}
	snprintf(ret_name, SET_NAME_MAX, "%.31s", name);
	return 0;
}

static int named_check(struct yaml *y, const struct yaml_field *field, struct fy_node *value, size_t key_at,
	size_t max, const char *such_as)
{
	if (!fy_node_is_mapping(value)) {
		yaml_fail_expected(y, field->path, "names with what they stand for", value, key_at);
		error_want(y->error, "%s", such_as);
		return -EINVAL;
	}
	if ((size_t)fy_node_mapping_item_count(value) > max) {
		yaml_fail(y, key_at, "%s: %d are too many", field->path, fy_node_mapping_item_count(value));
		error_want(y->error, "at most %zu", max);
		return -EINVAL;
	}
	return 0;
}

static int read_sets(struct yaml *y, const struct yaml_field *field, struct fy_node *value, size_t key_at)
{
	struct policy_text *policy = policy_of(y);
	struct fy_node_pair *pair;
	void *iterator = NULL;
	int r = 0;

	if (yaml_is_null(value))
		return 0;
	r = named_check(y, field, value, key_at, POLICY_SETS_MAX, "bastions: [192.0.2.1, 2001:db8::/64]");
	if (r < 0)
		return r;
	policy->sets = calloc((size_t)fy_node_mapping_item_count(value) + 1, sizeof(*policy->sets));
	if (!policy->sets)
		return yaml_fail_memory(y);
	while (r == 0 && (pair = fy_node_mapping_iterate(value, &iterator))) {
		struct policy_set *set = &policy->sets[policy->set_count];
		size_t at = yaml_at(y, fy_node_pair_key(pair), key_at);
		char path[PATH_MAX_TEXT];

		r = name_read(y, field, fy_node_pair_key(pair), key_at, policy->sets[0].name, sizeof(*set),
			policy->set_count, set->name);
		if (r < 0)
			return r;
		policy->set_count++;
		snprintf(path, sizeof(path), "%s.%s", field->path, set->name);
		r = read_set(y, path, fy_node_pair_value(pair), at, set);
	}
	return r;
}

/*
 * tenants: NAME: {interfaces, cgroups, default, rules}
 */

static int interface_take(
	struct yaml *y, const struct yaml_field *field, struct fy_node *item, size_t key_at, char **ret_text)
{
	char buffer[YAML_SCALAR_MAX];
	const char *text = yaml_text(item, buffer, sizeof(buffer));

	if (!text || !*text || strlen(text) >= MATCH_INTERFACE_MAX || text[strcspn(text, "/:*?[\" \t")] ||
		strcmp(text, ".") == 0 || strcmp(text, "..") == 0) {
		yaml_fail_expected(y, field->path, "an interface's name", item, key_at);
		error_want(y->error, "one such as eth0");
		return -EINVAL;
	}
	*ret_text = strdup(text);
	return *ret_text ? 0 : yaml_fail_memory(y);
}

static int cgroup_take(
	struct yaml *y, const struct yaml_field *field, struct fy_node *item, size_t key_at, char **ret_text)
{
	char buffer[FILE_TEXT_MAX];
	const char *text = yaml_text(item, buffer, sizeof(buffer));
	struct owner_match owner;
	struct error problem = {};

	if (!text) {
		yaml_fail_expected(y, field->path, "a cgroup", item, key_at);
		error_want(y->error, "its path, such as /system.slice/web.slice");
		return -EINVAL;
	}
	if (owner_match_set(&owner, "cgroup", text, &problem) < 0) {
		yaml_fail(y, yaml_at(y, item, key_at), "%s: %s", field->path, problem.what);
		error_want(y->error, "%s", problem.want);
		return -EINVAL;
	}
	*ret_text = strdup(owner.text);
	return *ret_text ? 0 : yaml_fail_memory(y);
}

/* Who has this already? */
static const char *place_owner(const struct policy_text *policy, const char *text)
{
	for (size_t i = 0; i < policy->tenant_count; i++) {
		char **const lists[] = {policy->tenants[i].interfaces, policy->tenants[i].cgroups};

		for (size_t j = 0; j < COUNT(lists); j++)
			for (char **place = lists[j]; place && *place; place++)
				if (strcmp(*place, text) == 0)
					return policy->tenants[i].name;
	}
	return NULL;
}

typedef int place_take(
	struct yaml *y, const struct yaml_field *field, struct fy_node *item, size_t key_at, char **ret_text);

static int places_read(struct yaml *y, const struct yaml_field *field, struct fy_node *value, size_t key_at,
	place_take *take, char ***ret_places)
{
	struct fy_node *item;
	void *iterator = NULL;
	size_t count = 0;
	int r = 0;

	if (yaml_is_null(value))
		return 0;
	if (!fy_node_is_sequence(value)) {
		yaml_fail_expected(y, field->path, "a list", value, key_at);
		error_want(y->error, "in brackets, with commas");
		return -EINVAL;
	}
	if (fy_node_sequence_item_count(value) > POLICY_PLACES_MAX) {
		yaml_fail(y, key_at, "%s: %d are too many", field->path, fy_node_sequence_item_count(value));
		error_want(y->error, "at most %d", POLICY_PLACES_MAX);
		return -EINVAL;
	}
	*ret_places = calloc((size_t)fy_node_sequence_item_count(value) + 1, sizeof(char *));
	if (!*ret_places)
		return yaml_fail_memory(y);
	while (r == 0 && (item = fy_node_sequence_iterate(value, &iterator))) {
		_cleanup_free_ char *text = NULL;
		const char *owner;

		r = take(y, field, item, key_at, &text);
		owner = r == 0 ? place_owner(policy_of(y), text) : NULL;
		if (owner) {
			yaml_fail(y, yaml_at(y, item, key_at), "%s: '%.64s' is given to %s already",
				field->path, text, owner);
			error_want(y->error, "each interface and cgroup once");
			return -EINVAL;
		}
		if (r == 0)
			(*ret_places)[count++] = TAKE(text);
	}
	return r;
}

/* The tenant that is being read is the last one. */
static struct policy_tenant *tenant_of(struct yaml *y)
{
	return &policy_of(y)->tenants[policy_of(y)->tenant_count - 1];
}

static int read_interfaces(
	struct yaml *y, const struct yaml_field *field, struct fy_node *value, size_t key_at)
{
	return places_read(y, field, value, key_at, interface_take, &tenant_of(y)->interfaces);
}

static int read_cgroups(struct yaml *y, const struct yaml_field *field, struct fy_node *value, size_t key_at)
{
	return places_read(y, field, value, key_at, cgroup_take, &tenant_of(y)->cgroups);
}

static int read_tenant_rules(
	struct yaml *y, const struct yaml_field *field, struct fy_node *value, size_t key_at)
{
	return rules_read(y, field, value, key_at, true, &tenant_of(y)->list);
}

/* Offsets of struct policy_list. */
static int read_tenant_default(
	struct yaml *y, const struct yaml_field *field, struct fy_node *value, size_t key_at)
{
	struct policy_text *policy = policy_of(y);
	int r;

	y->target = &tenant_of(y)->list;
	r = yaml_mapping_read(y, field, value, key_at);
	y->target = policy;
	return r;
}

#define PATHS 7

static int read_tenant(struct yaml *y, const char *path, struct fy_node *value, size_t key_at)
{
	static const char *const names[PATHS] = {
		"interfaces", "cgroups", "default", "rules", "default.in", "default.out", "default.log"};
	char paths[PATHS][PATH_MAX_TEXT];
	const struct yaml_field verdicts[] = {
		{.path = paths[4], .read = read_verdict, .offset = offsetof(struct policy_list, defaults[0])},
		{.path = paths[5], .read = read_verdict, .offset = offsetof(struct policy_list, defaults[1])},
		{.path = paths[6], .read = yaml_switch_read, .offset = offsetof(struct policy_list, log)},
		{NULL},
	};
	const struct yaml_field fields[] = {
		{.path = paths[0], .read = read_interfaces},
		{.path = paths[1], .read = read_cgroups},
		{.path = paths[2], .read = read_tenant_default, .children = verdicts},
		{.path = paths[3], .read = read_tenant_rules},
		{NULL},
	};
	const struct yaml_field mapping = {.path = path, .children = fields};
	int r;

	for (size_t i = 0; i < PATHS; i++)
		snprintf(paths[i], sizeof(paths[i]), "%.64s.%s", path, names[i]);
	r = yaml_mapping_read(y, &mapping, value, key_at);
	if (r == 0 && (!tenant_of(y)->interfaces || !tenant_of(y)->interfaces[0]) &&
		(!tenant_of(y)->cgroups || !tenant_of(y)->cgroups[0])) {
		yaml_fail(y, key_at, "%s: nothing is given to it", path);
		error_want(y->error, "interfaces: [NAME], cgroups: [PATH] or both");
		return -EINVAL;
	}
	return r;
}

static int read_tenants(struct yaml *y, const struct yaml_field *field, struct fy_node *value, size_t key_at)
{
	struct policy_text *policy = policy_of(y);
	struct fy_node_pair *pair;
	void *iterator = NULL;
	int r;

	if (yaml_is_null(value))
		return 0;
	r = named_check(y, field, value, key_at, POLICY_TENANTS_MAX, "web: {interfaces: [veth3], rules: []}");
	if (r < 0)
		return r;
	policy->tenants = calloc((size_t)fy_node_mapping_item_count(value) + 1, sizeof(*policy->tenants));
	if (!policy->tenants)
		return yaml_fail_memory(y);
	while (r == 0 && (pair = fy_node_mapping_iterate(value, &iterator))) {
		struct policy_tenant *tenant = &policy->tenants[policy->tenant_count];
		size_t at = yaml_at(y, fy_node_pair_key(pair), key_at);
		char path[PATH_MAX_TEXT];

		r = name_read(y, field, fy_node_pair_key(pair), key_at, policy->tenants[0].name,
			sizeof(*tenant), policy->tenant_count, tenant->name);
		if (r < 0)
			return r;
		policy->tenant_count++;
		snprintf(path, sizeof(path), "%s.%s", field->path, tenant->name);
		r = read_tenant(y, path, fy_node_pair_value(pair), at);
	}
	return r;
}

/*
 * The sections
 */

static const struct yaml_field default_fields[] = {
	{.path = "default.in",
		.read = read_verdict,
		.offset = offsetof(struct policy_text, host.defaults[0])},
	{.path = "default.out",
		.read = read_verdict,
		.offset = offsetof(struct policy_text, host.defaults[1])},
	{.path = "default.log", .read = yaml_switch_read, .offset = offsetof(struct policy_text, host.log)},
	{NULL},
};

static const struct yaml_field policy_fields[] = {
	{.path = "default", .read = yaml_mapping_read, .children = default_fields},
	{.path = "sets", .read = read_sets},
	{.path = "shapes", .read = read_shapes},
	{.path = "services", .read = read_services},
	{.path = "forward", .read = read_forwards},
	{.path = "steer", .read = read_steers},
	{.path = "rules", .read = read_rules},
	{.path = "tenants", .read = read_tenants},
	{NULL},
};

int policy_field_read(struct yaml *y, const struct yaml_field *field, struct fy_node *value, size_t key_at)
{
	const struct yaml_field *own = policy_fields;

	while (own[1].path && strcmp(own->path, field->path) != 0)
		own++;
	return own->read(y, own, value, key_at);
}

int policy_text_read(const char *text, size_t length, const char *name, struct policy_text *ret_policy,
	struct error *error)
{
	static const struct yaml_field root = {.path = "the file", .children = policy_fields};
	struct policy_text policy = {};
	struct yaml y = {.name = name, .error = error, .root = &root, .target = &policy};
	int r = yaml_read(&y, text, length);

	if (r < 0) {
		policy_text_clear(&policy);
		return r;
	}
	*ret_policy = policy;
	return 0;
}

int policy_text_read_file(const char *file, struct policy_text *ret_policy, struct error *error)
{
	_cleanup_free_ char *text = NULL;
	size_t length = 0;
	int r = yaml_file_read(file, POLICY_FILE_BYTES_MAX, &text, &length, error);

	return r < 0 ? r : policy_text_read(text, length, file, ret_policy, error);
}

/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "model/policy.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "basic/cleanup.h"
#include "model/rule.h"
#include "model/service.h"
#include "model/set.h"
#include "model/yaml.h"

#define SET_FILE_BYTES_MAX (256 * 1024 * 1024)
#define ENTRIES_IN_LINE    8 /* a set of more is printed one entry a line */
#define ENTRIES_SHOWN      3 /* of those that a set gets or loses */

const char *const policy_section_keys[] = {[POLICY_SHAPES] = "shapes",
	[POLICY_SERVICES] = "services",
	[POLICY_FORWARDS] = "forward",
	[POLICY_STEERS] = "steer"};

const char *const policy_section_verbs[] = {[POLICY_SHAPES] = "shape",
	[POLICY_SERVICES] = "service",
	[POLICY_FORWARDS] = "forward",
	[POLICY_STEERS] = "steer"};

enum policy_section policy_section_find(const char *verb)
{
	unsigned int section = 0;

	while (section < POLICY_SECTIONS && strcmp(policy_section_verbs[section], verb) != 0)
		section++;
	return (enum policy_section)section;
}

static void list_free(char **list)
{
	for (char **item = list; item && *item; item++)
		free(*item);
	free(list);
}

void policy_text_init(struct policy_text *ret_policy)
{
	*ret_policy = (struct policy_text){};
}

void policy_text_clear(struct policy_text *policy)
{
	list_free(policy->host.rules);
	free(policy->host.rules_at);
	for (size_t i = 0; i < POLICY_SECTIONS; i++) {
		list_free(policy->sections[i].texts);
		free(policy->sections[i].at);
	}
	for (size_t i = 0; i < policy->set_count; i++) {
		free(policy->sets[i].file);
		free(policy->sets[i].entries);
	}
	for (size_t i = 0; i < policy->tenant_count; i++) {
		list_free(policy->tenants[i].interfaces);
		list_free(policy->tenants[i].cgroups);
		list_free(policy->tenants[i].list.rules);
		free(policy->tenants[i].list.rules_at);
	}
	free(policy->sets);
	free(policy->tenants);
	policy_text_init(policy);
}

/*
 * As YAML
 */

static void default_print(FILE *out, const char *indent, const struct policy_list *list)
{
	if (list->defaults[0] == POLICY_ACCEPT && list->defaults[1] == POLICY_ACCEPT && !list->log)
		return;
	fprintf(out, "%sdefault: {in: %s, out: %s%s}\n", indent, policy_verdicts[list->defaults[0]],
		policy_verdicts[list->defaults[1]], list->log ? ", log: on" : "");
}

static void sentences_print(FILE *out, const char *indent, const char *key, char **texts, size_t count)
{
	if (!count)
		return;
	fprintf(out, "%s%s:\n", indent, key);
	for (size_t i = 0; i < count; i++) {
		fprintf(out, "%s  - ", indent);
		yaml_scalar_print(out, texts[i], false);
		fputc('\n', out);
	}
}

static void rules_print(FILE *out, const char *indent, const struct policy_list *list)
{
	sentences_print(out, indent, "rules", list->rules, list->rule_count);
}

struct set_printer {
	FILE *out;
	const char *before; /* each entry */
	const char *after, *quote;
	size_t count;
};

static int entry_print(void *context, const struct set_entry *entry)
{
	struct set_printer *p = context;
	char text[ADDRESS_TEXT_MAX];

	set_entry_print(entry, text, sizeof(text));
	fprintf(p->out, "%s%s%s%s%s", p->count++ && !*p->after ? ", " : "", p->before, p->quote, text,
		p->quote);
	fputs(p->after, p->out);
	return 0;
}

static int entry_count(void *context, const struct set_entry *entry)
{
	(void)entry;
	++*(size_t *)context;
	return 0;
}

/* A key: a tenant may be called "null", too. */
static void name_print(FILE *out, const char *name)
{
	fputs("  ", out);
	yaml_scalar_print(out, name, false);
	fputc(':', out);
}

static void set_print(FILE *out, const struct policy_set *set)
{
	struct set_printer line = {out, "", "", "\"", 0}, lines = {out, "    ", "\n", "", 0};
	size_t count = 0;

	name_print(out, set->name);
	if (set->file) {
		fputs(" {file: ", out);
		yaml_scalar_print(out, set->file, true);
		fputs("}\n", out);
		return;
	}
	set_list_parse(set->entries, set->length, NULL, true, entry_count, &count, NULL, NULL);
	fputs(count <= ENTRIES_IN_LINE ? " [" : " |\n", out);
	set_list_parse(set->entries, set->length, NULL, true, entry_print,
		count <= ENTRIES_IN_LINE ? &line : &lines, NULL, NULL);
	fputs(count <= ENTRIES_IN_LINE ? "]\n" : "", out);
}

static void places_print(FILE *out, const char *key, char **places)
{
	if (!places || !*places)
		return;
	fprintf(out, "    %s: [", key);
	for (char **place = places; *place; place++) {
		fputs(place == places ? "" : ", ", out);
		yaml_scalar_print(out, *place, true);
	}
	fputs("]\n", out);
}

int policy_text_print(const struct policy_text *policy, FILE *out)
{
	default_print(out, "", &policy->host);
	if (policy->set_count)
		fputs("sets:\n", out);
	for (size_t i = 0; i < policy->set_count; i++)
		set_print(out, &policy->sets[i]);
	for (size_t i = 0; i < POLICY_SECTIONS; i++)
		sentences_print(out, "", policy_section_keys[i], policy->sections[i].texts,
			policy->sections[i].count);
	rules_print(out, "", &policy->host);
	if (policy->tenant_count)
		fputs("tenants:\n", out);
	for (size_t i = 0; i < policy->tenant_count; i++) {
		const struct policy_tenant *tenant = &policy->tenants[i];

		name_print(out, tenant->name);
		fputc('\n', out);
		places_print(out, "interfaces", tenant->interfaces);
		places_print(out, "cgroups", tenant->cgroups);
		default_print(out, "    ", &tenant->list);
		rules_print(out, "    ", &tenant->list);
	}
	return ferror(out) ? -EIO : 0;
}

/*
 * What makes one policy of the other
 */

/* All that a host or a tenant has, as lines. */
struct lines {
	char **text;
	size_t count, room;
	bool failed;
};

static void lines_free(struct lines *lines)
{
	for (size_t i = 0; i < lines->count; i++)
		free(lines->text[i]);
	free(lines->text);
}

static void lines_add(struct lines *lines, const char *before, const char *text)
{
	char *line = NULL;

	if (lines->count == lines->room) {
		size_t room = lines->room ? lines->room * 2 : 64;
		char **more = realloc(lines->text, room * sizeof(*more));

		lines->failed |= !more;
		if (!more)
			return;
		memset(more + lines->count, 0, (room - lines->count) * sizeof(*more)); /* none yet */
		lines->text = more;
		lines->room = room;
	}
	if (asprintf(&line, "%s%s", before, text) < 0) {
		lines->failed = true;
		return;
	}
	lines->text[lines->count++] = line;
}

static void lines_fill(
	struct lines *lines, const struct policy_list *list, const struct policy_tenant *tenant)
{
	for (char **name = tenant ? tenant->interfaces : NULL; name && *name; name++)
		lines_add(lines, "interface ", *name);
	for (char **path = tenant ? tenant->cgroups : NULL; path && *path; path++)
		lines_add(lines, "cgroup ", *path);
	if (list && list->defaults[0] != POLICY_ACCEPT)
		lines_add(lines, "default in ", policy_verdicts[list->defaults[0]]);
	if (list && list->defaults[1] != POLICY_ACCEPT)
		lines_add(lines, "default out ", policy_verdicts[list->defaults[1]]);
	if (list && list->log)
		lines_add(lines, "default log ", "on");
	for (size_t i = 0; list && i < list->rule_count; i++)
		lines_add(lines, "", list->rules[i]);
}

/* A line and where it stands. */
struct place {
	const char *text;
	size_t index;
};

static int place_compare(const void *a, const void *b)
{
	const struct place *x = a, *y = b;
	int r = strcmp(x->text, y->text);

	return r ? r : (x->index > y->index) - (x->index < y->index);
}

static struct place *places_sort(const struct lines *lines)
{
	struct place *places = calloc(lines->count + 1, sizeof(*places));

	for (size_t i = 0; places && i < lines->count; i++)
		places[i] = (struct place){lines->text[i], i};
	if (places)
		qsort(places, lines->count, sizeof(*places), place_compare);
	return places;
}

/* partner[i] of each line of `to`: the line of `from` that is the same; SIZE_MAX: none.  The first of several
 * with the first, and so on. */
static int partners_find(const struct lines *from, const struct lines *to, size_t *partner)
{
	_cleanup_free_ struct place *a = places_sort(from), *b = places_sort(to);
	size_t i = 0, j = 0;

	if (!a || !b)
		return -ENOMEM;
	for (j = 0; j < to->count; j++)
		partner[j] = SIZE_MAX;
	for (j = 0; i < from->count && j < to->count;) {
		int order = strcmp(a[i].text, b[j].text);

		if (order == 0)
			partner[b[j++].index] = a[i++].index;
		else if (order < 0)
			i++;
		else
			j++;
	}
	return 0;
}

/* Of the partners those that stand in the same order, as many as can be: the others become SIZE_MAX.  (The
 * longest ascending subsequence; Fredman 1975.) */
static int partners_order(size_t *partner, size_t count)
{
	size_t *tail = calloc(2 * (count + 1), sizeof(*tail)), *before = tail ? tail + count + 1 : NULL;
	size_t length = 0, at;

	if (!tail)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		size_t low = 0, high = length;

		if (partner[i] == SIZE_MAX)
			continue;
		while (low < high) {
			size_t middle = (low + high) / 2;

			if (partner[tail[middle]] < partner[i])
				low = middle + 1;
			else
				high = middle;
		}
		before[i] = low ? tail[low - 1] : SIZE_MAX;
		tail[low] = i;
		length += low == length;
	}
	at = length ? tail[length - 1] : SIZE_MAX;
	for (size_t i = count; i-- > 0;) {
		if (i == at)
			at = before[i];
		else
			partner[i] = SIZE_MAX;
	}
	free(tail);
	return 0;
}

/* What two lines have in common that are the same class with other rates; else nothing has it but this line.
 */
static void line_name(struct lines *names, char side, const char *text)
{
	_cleanup_free_ char *name = NULL;
	char before[2] = {side};
	struct rule rule;

	if (rule_parse(text, &rule, NULL) == 0) {
		name = rule_class_text(&rule);
		rule_clear(&rule);
	}
	lines_add(names, name ? "" : before, name ? name : text);
}

/* New partners that stand on another side of a pair that there was are none. */
static void partners_uncross(const struct lines *names, size_t *partner)
{
	size_t low = 0, high = SIZE_MAX;

	for (size_t j = 0; j < names->count; j++) {
		if (names->text[j][0] == '=')
			low = partner[j];
		else if (partner[j] < low)
			partner[j] = SIZE_MAX;
	}
	for (size_t j = names->count; j-- > 0;) {
		if (names->text[j][0] == '=')
			high = partner[j];
		else if (partner[j] > high)
			partner[j] = SIZE_MAX;
	}
}

/* Of lines without a partner those are partners that make the same class; the others keep theirs. */
static int partners_extend(const struct lines *from, const struct lines *to, size_t *partner)
{
	struct lines a = {}, b = {};
	size_t *back = calloc(from->count + 1, sizeof(*back));
	char pair[32];
	int r = 0;

	for (size_t j = 0; back && j < to->count; j++)
		if (partner[j] != SIZE_MAX)
			back[partner[j]] = j + 1;
	for (size_t i = 0; back && i < from->count; i++) {
		snprintf(pair, sizeof(pair), "=%zu", back[i]);
		if (back[i])
			lines_add(&a, pair, "");
		else
			line_name(&a, '-', from->text[i]);
	}
	for (size_t j = 0; back && j < to->count; j++) {
		snprintf(pair, sizeof(pair), "=%zu", j + 1);
		if (partner[j] != SIZE_MAX)
			lines_add(&b, pair, "");
		else
			line_name(&b, '+', to->text[j]);
	}
	r = !back || a.failed || b.failed ? -ENOMEM : partners_find(&a, &b, partner);
	if (r == 0)
		partners_uncross(&b, partner);
	if (r == 0)
		r = partners_order(partner, to->count);
	lines_free(&a);
	lines_free(&b);
	free(back);
	return r;
}

/* Both are there: the same, or the same class with other rates. */
static int line_same(
	const char *from, const char *to, const char *tenant, policy_diff_function *function, void *context)
{
	_cleanup_free_ char *text = NULL;

	if (strcmp(from, to) == 0)
		return 0;
	if (asprintf(&text, "%s (before: %s)", to, from) < 0) {
		text = NULL;
		return -ENOMEM;
	}
	return function(context, '~', tenant, text);
}

static int lines_compare(const struct lines *from, const struct lines *to, const char *tenant,
	policy_diff_function *function, void *context)
{
	size_t *partner = calloc(to->count + 1, sizeof(*partner));
	size_t i = 0;
	int r = partner && !from->failed && !to->failed ? 0 : -ENOMEM;

	if (r == 0)
		r = partners_find(from, to, partner);
	if (r == 0)
		r = partners_order(partner, to->count);
	if (r == 0)
		r = partners_extend(from, to, partner);
	for (size_t j = 0, same, end; r == 0 && (j < to->count || i < from->count); j = same + 1) {
		for (same = j; same < to->count && partner[same] == SIZE_MAX;)
			same++;
		end = same < to->count && partner[same] < from->count ? partner[same] : from->count;
		while (r == 0 && i < end)
			r = function(context, '-', tenant, from->text[i++]);
		for (; r == 0 && j < same; j++)
			r = function(context, '+', tenant, to->text[j]);
		if (r == 0 && same < to->count && i < from->count)
			r = line_same(from->text[i], to->text[same], tenant, function, context);
		i++;
	}
	free(partner);
	return r;
}

static int list_compare(const struct policy_list *from, const struct policy_tenant *from_tenant,
	const struct policy_list *to, const struct policy_tenant *to_tenant, const char *tenant,
	policy_diff_function *function, void *context)
{
	struct lines a = {}, b = {};
	int r;

	lines_fill(&a, from, from_tenant);
	lines_fill(&b, to, to_tenant);
	r = lines_compare(&a, &b, tenant, function, context);
	lines_free(&a);
	lines_free(&b);
	return r;
}

/*
 * Sets
 */

struct entries {
	struct set_entry *entries;
	size_t count, room;
};

static int entry_add(void *context, const struct set_entry *entry)
{
	struct entries *list = context;

	if (list->count == list->room) {
		size_t room = list->room ? list->room * 2 : 64;
		struct set_entry *more = realloc(list->entries, room * sizeof(*more));

		if (!more)
			return -ENOMEM;
		list->entries = more;
		list->room = room;
	}
	list->entries[list->count++] = *entry;
	return 0;
}

static int entry_compare(const void *a, const void *b)
{
	const struct set_entry *x = a, *y = b;
	int r = (int)x->kind - (int)y->kind;

	if (r == 0)
		r = address_compare(&x->prefix.address, &y->prefix.address);
	if (r == 0)
		r = (int)x->prefix.length - (int)y->prefix.length;
	if (r == 0)
		r = (int)x->ports.low - (int)y->ports.low;
	return r ? r : (int)x->ports.high - (int)y->ports.high;
}

/* In order, each once. */
static int entries_read(const struct policy_set *set, struct entries *list)
{
	size_t kept = 0;
	int r = set_list_parse(set->entries, set->length, NULL, true, entry_add, list, NULL, NULL);

	if (r < 0 || !list->count)
		return r;
	qsort(list->entries, list->count, sizeof(*list->entries), entry_compare);
	for (size_t i = 0; i < list->count; i++)
		if (!i || entry_compare(&list->entries[i], &list->entries[kept - 1]) != 0)
			list->entries[kept++] = list->entries[i];
	list->count = kept;
	return 0;
}

/* What differs on one side: how many, and the first few. */
struct change {
	size_t count;
	char shown[ENTRIES_SHOWN * (ADDRESS_TEXT_MAX + 2)];
};

static void change_add(struct change *change, const struct set_entry *entry)
{
	char text[ADDRESS_TEXT_MAX];
	size_t length = strlen(change->shown);

	if (change->count++ >= ENTRIES_SHOWN)
		return;
	set_entry_print(entry, text, sizeof(text));
	snprintf(change->shown + length, sizeof(change->shown) - length, "%s%s", length ? ", " : "", text);
}

static int set_changes(const struct policy_set *from, const struct policy_set *to, struct change *ret_come,
	struct change *ret_go)
{
	struct entries a = {}, b = {};
	size_t i = 0, j = 0;
	int r = from ? entries_read(from, &a) : 0;

	if (r == 0)
		r = entries_read(to, &b);
	while (r == 0 && (i < a.count || j < b.count)) {
		int order = i == a.count   ? 1
		            : j == b.count ? -1
		                           : entry_compare(&a.entries[i], &b.entries[j]);

		if (order < 0)
			change_add(ret_go, &a.entries[i]);
		if (order > 0)
			change_add(ret_come, &b.entries[j]);
		i += order <= 0;
		j += order >= 0;
	}
	free(a.entries);
	free(b.entries);
	return r;
}

/* The set with the entries of its file; what cannot be read (or would make one wait) leaves it as it is. */
static struct policy_set set_resolve(const struct policy_set *set, char **ret_text, struct error *error)
{
	struct policy_set resolved = *set;
	struct stat status;

	*ret_text = NULL;
	if (!set->file)
		return resolved;
	if (stat(set->file, &status) == 0 && !S_ISREG(status.st_mode)) {
		error_set(error, -EINVAL, "is no file");
	} else if (yaml_file_read(set->file, SET_FILE_BYTES_MAX, ret_text, &resolved.length, error) == 0) {
		resolved.entries = *ret_text;
		resolved.file = NULL;
	}
	return resolved;
}

/* "3 entries come (a, b, c)", nothing where nothing does. */
static void change_print(
	FILE *out, const struct change *change, const char *separator, const char *one, const char *more)
{
	if (!change->count)
		return;
	fprintf(out, "%s%zu %s (%s%s)", separator, change->count, change->count == 1 ? one : more,
		change->shown, change->count > ENTRIES_SHOWN ? ", ..." : "");
}

static int entries_compare(const struct policy_set *from, const struct policy_set *to,
	policy_diff_function *function, void *context)
{
	struct change come = {}, go = {};
	_cleanup_free_ char *text = NULL;
	size_t length = 0;
	FILE *out;
	int r = set_changes(from, to, &come, &go);

	if (r < 0 || (from && !come.count && !go.count))
		return r;
	out = open_memstream(&text, &length);
	if (!out)
		return -ENOMEM;
	fprintf(out, "set %s: ", to->name);
	if (from)
		change_print(out, &come, "", "entry comes", "entries come");
	else if (come.count)
		change_print(out, &come, "", "entry", "entries");
	else
		fputs("no entries", out);
	change_print(out, &go, come.count ? ", " : "", come.count ? "goes" : "entry goes",
		come.count ? "go" : "entries go");
	if (fclose(out) != 0)
		return -ENOMEM;
	return function(context, from ? '~' : '+', "", text);
}

static int set_compare(const struct policy_set *from, const struct policy_set *to,
	policy_diff_function *function, void *context)
{
	_cleanup_free_ char *from_text = NULL, *to_text = NULL;
	char text[SET_NAME_MAX + ERROR_TEXT_MAX + 4096];
	struct policy_set before = {}, after;
	struct error error = {};

	if (from && from->file && to->file && strcmp(from->file, to->file) == 0)
		return 0;
	if (from)
		before = set_resolve(from, &from_text, NULL);
	after = set_resolve(to, &to_text, &error);
	if (!after.file)
		return entries_compare(from && !before.file ? &before : NULL, &after, function, context);
	snprintf(text, sizeof(text), "set %s from %s, which %s", to->name, to->file, error.what);
	return function(context, from ? '~' : '+', "", text);
}

static int sets_compare(const struct policy_text *from, const struct policy_text *to,
	policy_diff_function *function, void *context)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < to->set_count; i++) {
		const struct policy_set *before = NULL;

		for (size_t j = 0; j < from->set_count && !before; j++)
			if (strcmp(from->sets[j].name, to->sets[i].name) == 0)
				before = &from->sets[j];
		r = set_compare(before, &to->sets[i], function, context);
	}
	return r;
}

static const struct policy_tenant *tenant_find(const struct policy_text *policy, const char *name)
{
	for (size_t i = 0; i < policy->tenant_count; i++)
		if (strcmp(policy->tenants[i].name, name) == 0)
			return &policy->tenants[i];
	return NULL;
}

/*
 * Services: those that keep their name and have other backends are told by these
 */

/* The services of one side: read, in the order of their names. */
struct services {
	struct service_text **services;
	size_t count;
};

static int services_order(const void *a, const void *b)
{
	const struct service_text *const *x = a, *const *y = b;

	return strcmp((*x)->name, (*y)->name);
}

static void services_free(struct services *list)
{
	for (size_t i = 0; i < list->count; i++)
		service_free(list->services[i]);
	free(list->services);
}

static int services_read(const struct policy_sentences *sentences, struct services *list)
{
	list->services = calloc(sentences->count + 1, sizeof(struct service_text *));
	if (!list->services)
		return -ENOMEM;
	for (size_t i = 0; i < sentences->count; i++) {
		int r = service_parse(sentences->texts[i], &list->services[list->count], NULL);

		if (r < 0)
			return r;
		list->count++;
	}
	qsort(list->services, list->count, sizeof(struct service_text *), services_order);
	return 0;
}

/* Nothing but the backends differs? */
static bool service_differs_in_backends(const struct service_text *a, const struct service_text *b)
{
	struct service_text like = *b;

	like.backends = a->backends;
	like.backend_count = a->backend_count;
	return service_equal(a, &like);
}

static int backend_order(const void *a, const void *b)
{
	const struct service_backend_text *x = a, *y = b;
	int r = address_compare(&x->address, &y->address);

	return r ? r : (int)x->port - (int)y->port;
}

/* What becomes of the backends: as many as are shown, and how many there are. */
struct backends_change {
	const char *one, *more;
	size_t count;
	char shown[ENTRIES_SHOWN * 128];
};

static void backends_change_add(struct backends_change *change, const struct service_backend_text *backend,
	bool weighed, bool drained)
{
	size_t length = strlen(change->shown);
	char address[ADDRESS_TEXT_MAX], port[16] = "", weight[24] = "";

	if (change->count++ >= ENTRIES_SHOWN)
		return;
	if (backend->port)
		snprintf(port, sizeof(port), " port %u", backend->port);
	if (weighed)
		snprintf(weight, sizeof(weight), " weight %u", backend->weight);
	snprintf(change->shown + length, sizeof(change->shown) - length, "%s%s%s%s%s", length ? ", " : "",
		address_print(address, sizeof(address), &backend->address), port, weight,
		!drained         ? ""
		: backend->drain ? " drain"
				 : " undrain");
}

static void backends_changes(const struct service_text *from, const struct service_text *to,
	struct backends_change *come, struct backends_change *go, struct backends_change *change)
{
	size_t i = 0, j = 0;

	qsort(from->backends, from->backend_count, sizeof(*from->backends), backend_order);
	qsort(to->backends, to->backend_count, sizeof(*to->backends), backend_order);
	while (i < from->backend_count || j < to->backend_count) {
		const struct service_backend_text *a = &from->backends[i], *b = &to->backends[j];
		int order = i == from->backend_count ? 1 : j == to->backend_count ? -1 : backend_order(a, b);

		if (order < 0)
			backends_change_add(go, a, false, false);
		else if (order > 0)
			backends_change_add(come, b, b->weight != 1, b->drain);
		else if (a->weight != b->weight || a->drain != b->drain)
			backends_change_add(change, b, a->weight != b->weight, a->drain != b->drain);
		i += order <= 0;
		j += order >= 0;
	}
}

static int service_backends_compare(const struct service_text *from, const struct service_text *to,
	policy_diff_function *function, void *context)
{
	struct backends_change changes[] = {{"backend comes", "backends come", 0, ""},
		{"backend goes", "backends go", 0, ""}, {"backend changes", "backends change", 0, ""}};
	_cleanup_free_ char *text = NULL;
	const char *separator = "";
	size_t length = 0;
	FILE *out;

	backends_changes(from, to, &changes[0], &changes[1], &changes[2]);
	out = open_memstream(&text, &length);
	if (!out)
		return -ENOMEM;
	fprintf(out, "service %s: ", to->name);
	for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
		const struct backends_change *change = &changes[i];

		if (!change->count)
			continue;
		fprintf(out, "%s%zu %s (%s%s)", separator, change->count,
			change->count == 1 ? change->one : change->more, change->shown,
			change->count > ENTRIES_SHOWN ? ", ..." : "");
		separator = ", ";
	}
	if (!*separator)
		fputs("its backends in another order", out);
	if (fclose(out) != 0)
		return -ENOMEM;
	return function(context, '~', "", text);
}

static int service_lines_compare(
	const struct services *from, const struct services *to, policy_diff_function *function, void *context)
{
	struct lines a = {}, b = {};
	size_t i = 0, j = 0;
	int r = 0;

	while (r == 0 && (i < from->count || j < to->count)) {
		const struct service_text *x = from->services[i], *y = to->services[j];
		int order = i == from->count ? 1 : j == to->count ? -1 : strcmp(x->name, y->name);
		_cleanup_free_ char *old = order <= 0 ? service_print(x) : NULL,
				    *new = order >= 0 ? service_print(y) : NULL;

		if ((order <= 0 && !old) || (order >= 0 && !new))
			r = -ENOMEM;
		else if (order == 0 && strcmp(old, new) != 0 && service_differs_in_backends(x, y))
			r = service_backends_compare(x, y, function, context);
		else {
			if (order <= 0)
				lines_add(&a, "service ", old);
			if (order >= 0)
				lines_add(&b, "service ", new);
		}
		i += order <= 0;
		j += order >= 0;
	}
	if (r == 0)
		r = lines_compare(&a, &b, "", function, context);
	lines_free(&a);
	lines_free(&b);
	return r;
}

static int services_compare(const struct policy_text *from, const struct policy_text *to,
	policy_diff_function *function, void *context)
{
	struct services a = {}, b = {};
	int r = services_read(&from->sections[POLICY_SERVICES], &a);

	if (r == 0)
		r = services_read(&to->sections[POLICY_SERVICES], &b);
	if (r == 0)
		r = service_lines_compare(&a, &b, function, context);
	services_free(&a);
	services_free(&b);
	return r;
}

static int section_compare(const struct policy_text *from, const struct policy_text *to,
	enum policy_section section, policy_diff_function *function, void *context)
{
	const struct policy_sentences *x = &from->sections[section], *y = &to->sections[section];
	struct lines a = {}, b = {};
	char before[16];
	int r;

	snprintf(before, sizeof(before), "%s ", policy_section_verbs[section]);
	for (size_t i = 0; i < x->count; i++)
		lines_add(&a, before, x->texts[i]);
	for (size_t i = 0; i < y->count; i++)
		lines_add(&b, before, y->texts[i]);
	r = lines_compare(&a, &b, "", function, context);
	lines_free(&a);
	lines_free(&b);
	return r;
}

int policy_text_diff(const struct policy_text *from, const struct policy_text *to,
	policy_diff_function *function, void *context)
{
	int r = sets_compare(from, to, function, context);

	for (unsigned int i = 0; r == 0 && i < POLICY_SECTIONS; i++)
		r = i == POLICY_SERVICES
		            ? services_compare(from, to, function, context)
		            : section_compare(from, to, (enum policy_section)i, function, context);
	if (r == 0)
		r = list_compare(&from->host, NULL, &to->host, NULL, "", function, context);
	for (size_t i = 0; r == 0 && i < from->tenant_count; i++) {
		const struct policy_tenant *old = &from->tenants[i], *new = tenant_find(to, old->name);

		r = list_compare(&old->list, old, new ? &new->list : NULL, new, old->name, function, context);
	}
	for (size_t i = 0; r == 0 && i < to->tenant_count; i++) {
		const struct policy_tenant *new = &to->tenants[i];

		if (!tenant_find(from, new->name))
			r = list_compare(NULL, NULL, &new->list, new, new->name, function, context);
	}
	return r;
}

// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Identities: what the kernel recorded about the processes behind sockets, kept for some time after their
 * end.
 *
 * They stand in a region, so the next agent knows those that ended before it began; the indices over them are
 * made anew.  An entry is complete before it is marked as used, so a kill between leaves a free one.
 */
#include "agent/owner/owners.h"

#include <errno.h>
#include <event2/buffer.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/internal.h"
#include "agent/owner/series.h"
#include "basic/cleanup.h"
#include "engine/owner.h"

#define NAME_MAX_BYTES    64
#define NAMES_ROOM        256            /* users, and groups, whose names are remembered */
#define NAMES_AGE_NS      60000000000ULL /* looked up again after that */
#define EVICT_PART        16             /* of the table is freed at once when it is full */
#define CONTAINER_MAX     65
#define POD_MAX           65
#define SEARCH_NS         60000000000ULL /* between two searches for processes whose end nobody told */
#define PID_NAMESPACE_TOP 0xEFFFFFFCU    /* PROC_PID_INIT_INO: /proc counts as the kernel does */
#define NONE              UINT32_MAX

/* In the region. */
struct identity {
	struct owner owner;
	uint64_t ended_ns; /* CLOCK_MONOTONIC; 0: lives */
	uint32_t used;
	uint32_t series; /* its number in the metrics */
};

struct identities {
	uint32_t count; /* entries that were ever used */
	uint32_t reserved;
	uint64_t evicted; /* of ended processes, forgotten early to make room */
	uint64_t refused; /* found no room */
	uint64_t reserved1;
	struct identity entry[];
};

/* What a person calls it; made when somebody asks. */
struct names {
	struct owner_info info;
	char user[NAME_MAX_BYTES], group[NAME_MAX_BYTES];
	char unit[OWNER_PATH_MAX], container[CONTAINER_MAX], pod[POD_MAX];
};

/* A place in both indices: by id, and by process, where the latest identity stands first. */
struct place {
	uint32_t next_id, next_process;
	struct names *names;
};

struct known_name {
	uint32_t number;
	uint64_t at_ns; /* 0: empty */
	char name[NAME_MAX_BYTES];
};

struct owners {
	struct agent *agent;
	struct engine_region region;
	struct series_list *series;
	struct identities *identities;
	struct place *places;
	uint32_t *ids, *processes; /* heads */
	uint32_t mask, limit, free_list, used;
	uint64_t searched_ns, unreported; /* at the last search */
	bool search;
	bool full;                      /* no room could be made since the last tick */
	struct names stranger;          /* for what finds no room */
	struct owner stranger_identity; /* the same */
	struct known_name users[NAMES_ROOM], groups[NAMES_ROOM];
};

static struct owners *owners_of(const struct agent *agent)
{
	return module_state(agent, &owner_module);
}

/* -- index -- */

static uint32_t *id_head(const struct owners *owners, uint32_t id)
{
	return &owners->ids[id & owners->mask];
}

static uint32_t *process_head(const struct owners *owners, const struct owner_key *key)
{
	return &owners->processes[(key->pid * 0x9e3779b1U ^ (uint32_t)(key->start_ns >> 10)) & owners->mask];
}

static bool same_process(const struct owner_key *a, const struct owner_key *b)
{
	return a->pid == b->pid && a->start_ns == b->start_ns;
}

static uint32_t identity_find(const struct owners *owners, uint32_t id)
{
	uint32_t i = *id_head(owners, id);

	while (i != NONE && owners->identities->entry[i].owner.id != id)
		i = owners->places[i].next_id;
	return i;
}

static void identity_link(struct owners *owners, uint32_t i)
{
	const struct owner *owner = &owners->identities->entry[i].owner;
	uint32_t *head = id_head(owners, owner->id), *link = process_head(owners, &owner->key);

	owners->places[i].next_id = *head;
	*head = i;
	/* ids count up: the higher is the later */
	while (*link != NONE && owners->identities->entry[*link].owner.id > owner->id)
		link = &owners->places[*link].next_process;
	owners->places[i].next_process = *link;
	*link = i;
	owners->used++;
}

static void identity_remove(struct owners *owners, uint32_t i)
{
	struct identity *identity = &owners->identities->entry[i];
	uint32_t *link = id_head(owners, identity->owner.id);

	while (*link != i)
		link = &owners->places[*link].next_id;
	*link = owners->places[i].next_id;
	link = process_head(owners, &identity->owner.key);
	while (*link != i)
		link = &owners->places[*link].next_process;
	*link = owners->places[i].next_process;
	free(owners->places[i].names);
	owners->places[i].names = NULL;
	identity->used = 0;
	owners->places[i].next_id = owners->free_list;
	owners->free_list = i;
	owners->used--;
}

/* -- learning -- */

/* False: flows of it are still there. */
static bool identity_forget(struct owners *owners, uint32_t i)
{
	const struct identity *identity = &owners->identities->entry[i];
	struct table *table = owners->agent->table;
	uint32_t entry = table_find_owner(table, identity->owner.id);
	struct table_total total = {};

	if (entry != TABLE_NONE)
		total = *table_total(table, TABLE_OWNERS, entry);
	if (!table_forget_owner(table, identity->owner.id))
		return false;
	series_keep(owners->series, identity->series, &total);
	identity_remove(owners, i);
	return true;
}

static int compare_ended(const void *left, const void *right, void *context)
{
	const struct identity *entry = context;
	uint64_t a = entry[*(const uint32_t *)left].ended_ns, b = entry[*(const uint32_t *)right].ended_ns;

	return (a > b) - (a < b);
}

/* The processes that ended first make room for new ones, many at once. */
static void make_room(struct owners *owners)
{
	struct identity *entry = owners->identities->entry;
	uint32_t *ended = malloc(owners->limit * sizeof(*ended)), count = 0,
		 wanted = owners->limit / EVICT_PART;

	for (uint32_t i = 0; ended && i < owners->identities->count; i++)
		if (entry[i].used && entry[i].ended_ns)
			ended[count++] = i;
	if (count)
		qsort_r(ended, count, sizeof(*ended), compare_ended, entry);
	for (uint32_t i = 0; i < count && wanted; i++) {
		if (!identity_forget(owners, ended[i]))
			continue;
		owners->identities->evicted++;
		wanted--;
	}
	free(ended);
	owners->full = owners->free_list == NONE;
}

static uint32_t identity_allocate(struct owners *owners)
{
	uint32_t i = owners->free_list;

	if (i == NONE && owners->identities->count < owners->limit) {
		i = owners->identities->count;
		if (engine_region_grow(owners->agent->engine, &owners->region,
			    sizeof(struct identities) + (i + 1) * sizeof(struct identity)) < 0)
			return NONE;
		owners->identities->count = i + 1;
		return i;
	}
	if (i == NONE && !owners->full)
		make_room(owners);
	i = owners->free_list;
	if (i != NONE)
		owners->free_list = owners->places[i].next_id;
	return i;
}

/* Takes an identity in; what is known already stays as it is. */
static uint32_t identity_learn(struct owners *owners, const struct owner *owner)
{
	uint32_t i = identity_find(owners, owner->id);
	struct identity *identity;

	if (i != NONE)
		return i;
	i = identity_allocate(owners);
	if (i == NONE) {
		owners->identities->refused++;
		return i;
	}
	identity = &owners->identities->entry[i];
	*identity = (struct identity){.owner = *owner};
	/* whatever its bytes are */
	identity->owner.command[sizeof(owner->command) - 1] = '\0';
	identity->owner.exe[sizeof(owner->exe) - 1] = '\0';
	identity->owner.cgroup[sizeof(owner->cgroup) - 1] = '\0';
	identity_link(owners, i);
	__atomic_store_n(&identity->used, 1, __ATOMIC_RELEASE);
	return i;
}

static void process_ended(struct owners *owners, const struct owner_key *key)
{
	for (uint32_t i = *process_head(owners, key); i != NONE; i = owners->places[i].next_process) {
		struct identity *identity = &owners->identities->entry[i];

		if (same_process(&identity->owner.key, key) && !identity->ended_ns)
			identity->ended_ns = agent_now_ns();
	}
}

static int on_record(void *context, const struct owner *owner)
{
	if (owner->ended)
		process_ended(context, &owner->key);
	else
		identity_learn(context, owner);
	return 0;
}

static void on_ring(evutil_socket_t fd, short what, void *context)
{
	struct owners *owners = context;

	(void)fd;
	(void)what;
	engine_owner_read(owners->agent->engine, on_record, owners);
}

/* Its entry in this table, or NONE: as a record whose ring was full, it may still be in the kernel's map. */
static uint32_t identity_get(struct owners *owners, uint32_t id, struct owner *ret_stranger)
{
	uint32_t i = identity_find(owners, id);

	ret_stranger->id = 0;
	if (i != NONE || engine_owner_get(owners->agent->engine, id, ret_stranger) < 0)
		return i;
	owners->search = true; /* the record of its end may be missing, too */
	return identity_learn(owners, ret_stranger);
}

/* -- processes whose end nobody told -- */

static bool proc_counts_as_kernel(void)
{
	struct stat status;

	return stat("/proc/self/ns/pid", &status) == 0 && status.st_ino == PID_NAMESPACE_TOP;
}

static FILE *stat_open(uint32_t pid)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/%u/stat", pid);
	return fopen(path, "re");
}

/* Field 22 of /proc/PID/stat; the command in front of it may hold anything. */
static bool process_lives(const struct owner_key *key)
{
	_cleanup_fclose_ FILE *file = stat_open(key->pid);
	char line[1024], *rest;
	unsigned long long start = 0;
	uint64_t tick_ns = 1000000000 / (uint64_t)sysconf(_SC_CLK_TCK);

	if (!file)
		return errno != ENOENT;
	if (!fgets(line, sizeof(line), file) || !(rest = strrchr(line, ')')))
		return false;
	return sscanf(rest,
		       ") %*c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu",
		       &start) != 1 ||
	       start == key->start_ns / tick_ns;
}

static void search_ended(struct owners *owners, uint64_t now_ns)
{
	struct owner_stats stats;

	engine_owner_stats(owners->agent->engine, &stats);
	if (now_ns - owners->searched_ns < SEARCH_NS ||
		(!owners->search && stats.unreported == owners->unreported))
		return;
	owners->searched_ns = now_ns;
	owners->unreported = stats.unreported;
	owners->search = false;
	if (!proc_counts_as_kernel())
		return;
	for (uint32_t i = 0; i < owners->identities->count; i++) {
		const struct identity *identity = &owners->identities->entry[i];

		if (identity->used && !identity->ended_ns && !process_lives(&identity->owner.key))
			process_ended(owners, &identity->owner.key);
	}
}

/* -- names -- */

static const char *name_of(struct known_name *known, uint32_t number, bool group)
{
	uint64_t now_ns = agent_now_ns();
	struct group *group_entry = NULL;
	struct passwd *user_entry = NULL;

	known += number % NAMES_ROOM;
	if (known->at_ns && known->number == number && now_ns - known->at_ns < NAMES_AGE_NS)
		return known->name;
	known->number = number;
	known->at_ns = now_ns;
	if (group)
		group_entry = getgrgid(number);
	else
		user_entry = getpwuid(number);
	if (group_entry)
		snprintf(known->name, sizeof(known->name), "%s", group_entry->gr_name);
	else if (user_entry)
		snprintf(known->name, sizeof(known->name), "%s", user_entry->pw_name);
	else
		snprintf(known->name, sizeof(known->name), "%u", number);
	return known->name;
}

static const struct owner_info *names_fill(
	struct owners *owners, struct names *names, const struct owner *owner, uint64_t ended_ns)
{
	if (!names->info.owner.id || names->info.owner.id != owner->id) {
		names->info = (struct owner_info){.owner = *owner,
			.user = names->user,
			.group = names->group,
			.unit = names->unit,
			.container = names->container,
			.pod = names->pod};
		owner_unit(owner->cgroup, names->unit, sizeof(names->unit));
		owner_container(owner->cgroup, names->container, sizeof(names->container));
		owner_pod(owner->cgroup, names->pod, sizeof(names->pod));
	}
	names->info.ended_ns = ended_ns;
	snprintf(names->user, sizeof(names->user), "%s", name_of(owners->users, owner->key.uid, false));
	snprintf(names->group, sizeof(names->group), "%s", name_of(owners->groups, owner->key.gid, true));
	return &names->info;
}

static const struct owner_info *identity_info(struct owners *owners, uint32_t i)
{
	const struct identity *identity = &owners->identities->entry[i];
	struct place *place = &owners->places[i];

	if (!place->names)
		place->names = calloc(1, sizeof(*place->names));
	return names_fill(owners, place->names ? place->names : &owners->stranger, &identity->owner,
		identity->ended_ns);
}

const struct owner_info *owner_find(struct agent *agent, uint32_t id)
{
	struct owners *owners = owners_of(agent);
	struct owner stranger;
	uint32_t i;

	id &= ~OWNER_INHERITED;
	if (id < OWNER_FIRST || !owners)
		return NULL;
	i = identity_get(owners, id, &stranger);
	if (i != NONE)
		return identity_info(owners, i);
	return stranger.id ? names_fill(owners, &owners->stranger, &stranger, 0) : NULL;
}

const struct owner *owner_identity(struct agent *agent, uint32_t id)
{
	struct owners *owners = owners_of(agent);
	uint32_t i;

	id &= ~OWNER_INHERITED;
	if (id < OWNER_FIRST || !owners)
		return NULL;
	i = identity_get(owners, id, &owners->stranger_identity);
	if (i != NONE)
		return &owners->identities->entry[i].owner;
	return owners->stranger_identity.id ? &owners->stranger_identity : NULL;
}

bool owner_fits(struct agent *agent, uint32_t id, const struct owner_match *match)
{
	const struct owner *owner;

	if (match->kind == OWNER_ANY)
		return true;
	owner = owner_identity(agent, id);
	return owner && owner_match_fits(match, owner);
}

uint32_t owner_places(const struct agent *agent)
{
	const struct owners *owners = owners_of(agent);

	return owners ? owners->identities->count : 0;
}

const struct owner *owner_at(const struct agent *agent, uint32_t place)
{
	const struct identity *identity = &owners_of(agent)->identities->entry[place];

	return identity->used ? &identity->owner : NULL;
}

uint32_t owner_place(struct agent *agent, uint32_t id)
{
	struct owner stranger;

	return identity_get(owners_of(agent), id & ~OWNER_INHERITED, &stranger);
}

uint32_t *owner_series(struct agent *agent, uint32_t place)
{
	return &owners_of(agent)->identities->entry[place].series;
}

uint32_t owner_latest(const struct agent *agent, uint32_t place)
{
	const struct owners *owners = owners_of(agent);
	const struct owner_key *key = &owners->identities->entry[place].owner.key;
	uint32_t i = *process_head(owners, key);

	while (!same_process(&owners->identities->entry[i].owner.key, key))
		i = owners->places[i].next_process;
	return i;
}

/* -- JSON -- */

static void write_text(struct json_write *out, const char *key, const char *text)
{
	if (*text)
		json_write_string(out, key, text);
}

/* What a person wants to know of a process; the fields of a list of processes, too. */
void owner_write_process(struct json_write *out, const struct owner_info *info)
{
	json_write_number(out, "pid", info->owner.key.pid);
	write_text(out, "command", info->owner.command);
	write_text(out, "exe", info->owner.exe);
	json_write_number(out, "uid", info->owner.key.uid);
	write_text(out, "user", info->user);
	json_write_number(out, "gid", info->owner.key.gid);
	write_text(out, "group", info->group);
	write_text(out, "cgroup", info->owner.cgroup);
	write_text(out, "unit", info->unit);
	write_text(out, "container", info->container);
	write_text(out, "pod", info->pod);
}

void owner_write(struct agent *agent, struct json_write *out, uint32_t id)
{
	const struct owner_info *info = owner_find(agent, id);

	id &= ~OWNER_INHERITED;
	json_write_object_begin(out, "owner");
	json_write_string(out, "kind",
		info                    ? "process"
		: id == OWNER_FORWARDED ? "forwarded"
		: id == OWNER_KERNEL    ? "kernel"
					: "unknown");
	if (info)
		owner_write_process(out, info);
	json_write_object_end(out);
}

/* -- the module -- */

static void owners_tick(struct agent *agent, void *state, uint64_t now_ns)
{
	struct owners *owners = state;

	owners->full = false;
	engine_owner_read(agent->engine, on_record, owners);
	search_ended(owners, now_ns);
	for (uint32_t i = 0; i < owners->identities->count; i++) {
		const struct identity *identity = &owners->identities->entry[i];

		/* some have ended since now_ns was taken */
		if (identity->used && identity->ended_ns && now_ns > identity->ended_ns &&
			now_ns - identity->ended_ns >= agent->config.owners_keep_ns)
			identity_forget(owners, i);
	}
}

static void owners_status(struct agent *agent, void *state, struct json_write *out)
{
	const struct owners *owners = state;
	struct owner_stats stats;
	struct losses losses;

	engine_owner_stats(agent->engine, &stats);
	collect_losses(agent->engine, &losses);
	json_write_object_begin(out, "owners");
	json_write_number(out, "identities", owners->used);
	json_write_number(out, "limit", owners->limit);
	json_write_number(out, "recorded", stats.identities);
	json_write_number(out, "unreported", stats.unreported);
	json_write_number(out, "refused", stats.refused + owners->identities->refused);
	json_write_number(out, "evicted", owners->identities->evicted);
	json_write_number(out, "sockets", stats.sockets);
	json_write_number(out, "passed", stats.passed);
	json_write_number(out, "looks_postponed", losses.postponed);
	json_write_object_end(out);
}

static void write_kinds(struct agent *agent, struct evbuffer *out)
{
	static const char metric[] = "weir_owner_bytes_total";
	static const struct {
		const char *word;
		uint32_t id;
	} kinds[] = {{"unknown", OWNER_UNKNOWN}, {"forwarded", OWNER_FORWARDED}, {"kernel", OWNER_KERNEL}};
	uint32_t count = table_total_count(agent->table, TABLE_OWNERS);
	struct table_counts in = {}, out_counts = {};
	struct table_summary summary;

	table_summarize(agent->table, &summary);
	for (uint32_t i = 0; i < count; i++) {
		const struct table_total *total = table_total(agent->table, TABLE_OWNERS, i);

		if (i != TABLE_OTHER && (total->state != TABLE_LIVE || total->owner < OWNER_FIRST))
			continue;
		in.bytes += total->in.bytes;
		out_counts.bytes += total->out.bytes;
	}
	metrics_head(out, metric, "counter", "Wire bytes by the kind of their owner.");
	evbuffer_add_printf(out, "%s{kind=\"process\",direction=\"in\"} %" PRIu64 "\n", metric, in.bytes);
	evbuffer_add_printf(
		out, "%s{kind=\"process\",direction=\"out\"} %" PRIu64 "\n", metric, out_counts.bytes);
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		uint32_t entry = table_find_owner(agent->table, kinds[i].id);
		const struct table_total *total =
			entry == TABLE_NONE ? NULL : table_total(agent->table, TABLE_OWNERS, entry);

		evbuffer_add_printf(out, "%s{kind=\"%s\",direction=\"in\"} %" PRIu64 "\n", metric,
			kinds[i].word, total ? total->in.bytes : 0);
		evbuffer_add_printf(out, "%s{kind=\"%s\",direction=\"out\"} %" PRIu64 "\n", metric,
			kinds[i].word, total ? total->out.bytes : 0);
	}
	metrics_single(out, "weir_undecided_bytes", "gauge",
		"Bytes of flows of which it is not clear yet whose they are.",
		summary.held_in.bytes + summary.held_out.bytes);
}

static void owners_metrics(struct agent *agent, void *state, struct evbuffer *out)
{
	struct owners *owners = state;
	struct owner_stats stats;
	struct losses losses;

	engine_owner_stats(agent->engine, &stats);
	collect_losses(agent->engine, &losses);
	metrics_single(out, "weir_identities", "gauge", "Identities of processes that are remembered.",
		owners->used);
	metrics_single(
		out, "weir_identities_limit", "gauge", "Identities that may be remembered.", owners->limit);
	metrics_single(out, "weir_identities_recorded_total", "counter",
		"Identities that the kernel recorded.", stats.identities);
	metrics_single(out, "weir_identities_unreported_total", "counter",
		"Records of identities, or of their end, that found no room in the ring.", stats.unreported);
	metrics_single(out, "weir_identities_refused_total", "counter",
		"Identities and sockets that found no room.", stats.refused + owners->identities->refused);
	metrics_single(out, "weir_identities_evicted_total", "counter",
		"Identities of ended processes that made room early.", owners->identities->evicted);
	metrics_single(out, "weir_owned_sockets_total", "counter", "Sockets that were given an owner.",
		stats.sockets);
	metrics_single(out, "weir_passed_sockets_total", "counter",
		"Sockets that were accepted, or passed to another process.", stats.passed);
	metrics_single(out, "weir_owner_looks_postponed_total", "counter",
		"Looks for who receives a flow that had to wait for one of its later packets.",
		losses.postponed);
	write_kinds(agent, out);
	series_write(agent, owners->series, out);
}

static void owners_close(void *state)
{
	struct owners *owners = state;

	for (uint32_t i = 0; owners->places && i < owners->limit; i++)
		free(owners->places[i].names);
	free(owners->places);
	free(owners->ids);
	free(owners->processes);
	series_close(owners->series);
	engine_region_close(&owners->region);
	free(owners);
}

static int index_open(struct owners *owners)
{
	struct identities *identities = owners->identities;
	uint32_t heads = 64;

	owners->limit = engine_sizes(owners->agent->engine)->owners;
	while (heads < owners->limit)
		heads *= 2;
	owners->mask = heads - 1;
	owners->free_list = NONE;
	owners->places = calloc(owners->limit, sizeof(*owners->places));
	owners->ids = malloc(heads * sizeof(*owners->ids));
	owners->processes = malloc(heads * sizeof(*owners->processes));
	if (!owners->places || !owners->ids || !owners->processes)
		return -ENOMEM;
	memset(owners->ids, 0xff, heads * sizeof(*owners->ids));
	memset(owners->processes, 0xff, heads * sizeof(*owners->processes));
	for (uint32_t i = identities->count; i-- > 0;) {
		if (identities->entry[i].used) {
			identity_link(owners, i);
		} else {
			owners->places[i].next_id = owners->free_list;
			owners->free_list = i;
		}
	}
	return 0;
}

static int owners_open(struct agent *agent, void **ret_state, struct error *error)
{
	struct owners *owners = *ret_state = calloc(1, sizeof(*owners));
	int r;

	if (!owners)
		return error_set(error, -ENOMEM, "out of memory");
	owners->agent = agent;
	r = engine_region_open(agent->engine, "identities",
		sizeof(struct identities) + engine_sizes(agent->engine)->owners * sizeof(struct identity),
		&owners->region, error);
	if (r < 0)
		return r;
	r = series_open(agent, &owners->series, error);
	if (r < 0)
		return r;
	r = engine_region_grow(agent->engine, &owners->region, sizeof(struct identities));
	owners->identities = owners->region.base;
	if (r == 0)
		r = index_open(owners);
	if (r == 0)
		r = agent_wait_for(agent, engine_owner_fd(agent->engine), on_ring, owners);
	if (r < 0)
		return error_set(error, r, "cannot open the table of owners: %s", strerror(-r));
	engine_owner_each(agent->engine, on_record, owners);
	owners->search = engine_adopted(agent->engine);
	return 0;
}

const struct module owner_module = {
	.name = "owner",
	.open = owners_open,
	.close = owners_close,
	.tick = owners_tick,
	.status = owners_status,
	.metrics = owners_metrics,
	.routes = owner_routes,
};

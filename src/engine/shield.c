// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* The program at XDP: its links, pinned as "xdp_IFINDEX", and its short way through the policy. */
#include "engine/shield.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/if_link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "basic/cleanup.h"
#include "bpf/lib/policy.h"
#include "engine/balance.h"
#include "engine/chain.h"
#include "engine/forward.h"
#include "engine/internal.h"
#include "engine/link.h"
#include "engine/nat.h"
#include "engine/steer.h"
#include "shared/policy.h"
#include "shared/shield.h"
#include "shield.skel.h"

#define LINK_PIN "xdp_" /* xdp_IFINDEX */

struct shield {
	struct shield_bpf *skeleton; /* NULL: no interface has ever wanted it */
	struct shield_bpf *whole;    /* for generic XDP; NULL: none has had that */
	struct shield_ways *ways;    /* mapped: SHIELD_PLACES */
	struct shield_kept *kept;    /* mapped */
};

static struct shield *shield_of(const struct engine *engine)
{
	return engine_part_state(engine, &shield_part);
}

/* -- the short way -- */

/* What the policy's row of a combination of sets says. */
static uint32_t way_of(const struct policy_unit *units, size_t count, const struct policy_header *header,
	const struct policy_field *field, uint32_t combination, uint32_t *ret_rule)
{
	size_t unit = field->rows + (size_t)combination * header->row_units;
	const struct policy_row *row;
	const struct policy_rule *rule;
	uint64_t any = 0;

	if (unit >= count)
		return SHIELD_ASK;
	row = (const struct policy_row *)(units + unit);
	for (unsigned int i = 0; i < POLICY_SUMMARY_WORDS; i++)
		any |= row->summary[i];
	if (!any)
		return SHIELD_PASS;
	unit = (size_t)header->rules + row->alone - 1;
	if (!row->alone || unit >= count)
		return SHIELD_ASK;
	rule = (const struct policy_rule *)(units + unit);
	if (rule->action != POLICY_DROP || rule->counter == POLICY_NO_COUNTER)
		return SHIELD_ASK;
	*ret_rule = rule->id;
	return SHIELD_COUNTER + rule->counter;
}

/* Written while nobody is judged by this place's policy. */
void engine_shield_learn(struct engine *engine, uint32_t place)
{
	const struct shield *shield = shield_of(engine);
	struct shield_ways *ways;
	size_t count = 0;
	const struct policy_unit *units = engine_policy_units(engine, true, place, &count);
	const struct policy_header *header = (const struct policy_header *)units;
	const struct policy_field *field = header ? &header->fields[POLICY_BY_SRC_SETS] : NULL;

	if (!shield || !shield->ways || place >= SHIELD_PLACES)
		return;
	ways = &shield->ways[place];
	ways->sets = 0;
	if (!header || !(header->asked >> POLICY_BY_SRC_SETS & 1))
		return;
	for (uint32_t i = 0; i < SET_COMBINATIONS_MAX; i++)
		ways->way[i] =
			way_of(units, count, header, field, i < field->classes ? i : 0, &ways->rule[i]);
	ways->sets = 1;
}

/* -- loading -- */

static void *map_memory(const struct bpf_map *map, size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, bpf_map__fd(map), 0);

	return memory == MAP_FAILED ? NULL : memory;
}

static void unmap_memory(struct shield *shield)
{
	if (shield->ways)
		munmap(shield->ways, SHIELD_PLACES * sizeof(*shield->ways));
	if (shield->kept)
		munmap(shield->kept, sizeof(*shield->kept));
	shield->ways = NULL;
	shield->kept = NULL;
}

static int skeleton_load(
	struct engine *engine, bool whole, struct shield_bpf **ret_skeleton, struct error *error)
{
	struct shield_bpf *skeleton = shield_bpf__open();
	int r;

	if (!skeleton) {
		error_set(error, -ENOMEM, "cannot open the XDP program: %s", strerror(errno));
		return -ENOMEM;
	}
	r = whole ? component_load_whole(engine, skeleton->obj, "XDP", error)
	          : component_load(engine, skeleton->obj, "XDP", error);
	if (r < 0)
		shield_bpf__destroy(skeleton);
	else
		*ret_skeleton = skeleton;
	return r;
}

int engine_shield_load_apart(struct engine *engine, struct shield_bpf **ret_skeleton, struct error *error)
{
	return skeleton_load(engine, false, ret_skeleton, error);
}

static int memory_take(struct engine *engine, struct shield *shield, struct error *error)
{
	shield->ways = map_memory(shield->skeleton->maps.shield_ways, SHIELD_PLACES * sizeof(*shield->ways));
	shield->kept = map_memory(shield->skeleton->maps.shield_kept, sizeof(*shield->kept));
	if (!shield->ways || !shield->kept)
		return error_set(error, -errno, "cannot map the XDP program's memory: %s", strerror(errno));
	for (uint32_t place = 0; place < SHIELD_PLACES; place++)
		engine_shield_learn(engine, place);
	return 0;
}

int engine_shield_take(struct engine *engine, struct shield_bpf *skeleton, struct error *error)
{
	struct shield *shield = shield_of(engine);
	int r;

	shield->skeleton = skeleton;
	r = memory_take(engine, shield, error);
	if (r < 0) {
		unmap_memory(shield);
		shield_bpf__destroy(shield->skeleton);
		shield->skeleton = NULL;
	}
	return r;
}

/* With what stands behind it. */
static int whole_load(struct engine *engine, struct shield *shield, struct error *error)
{
	int r;

	if (shield->whole)
		return 0;
	r = skeleton_load(engine, true, &shield->whole, error);
	if (r < 0)
		return r;
	if (engine_balance_wanted(engine))
		r = engine_balance_want(engine, true, error);
	if (r == 0)
		r = engine_nat_renew(engine, error);
	if (r == 0)
		r = engine_forward_renew(engine, error);
	if (r == 0)
		r = engine_steer_renew(engine, error);
	if (r < 0) {
		shield_bpf__destroy(shield->whole);
		shield->whole = NULL;
	}
	return r;
}

bool engine_shield_is_whole(const struct engine *engine)
{
	const struct shield *shield = shield_of(engine);

	return shield && shield->whole;
}

int engine_shield_load(struct engine *engine, struct error *error)
{
	struct shield_bpf *skeleton;
	int r;

	if (engine_shield_loaded(engine))
		return 0;
	r = engine_shield_load_apart(engine, &skeleton, error);
	return r < 0 ? r : engine_shield_take(engine, skeleton, error);
}

/* -- links -- */

static const char *link_path(const struct engine *engine, char path[static PATH_MAX], uint32_t index)
{
	char name[32];

	snprintf(name, sizeof(name), LINK_PIN "%" PRIu32, index);
	return pins_path(&engine->pins, path, name);
}

static void link_count(struct engine *engine, const struct engine_link *link, void *context)
{
	(void)engine;
	(void)link;
	++*(size_t *)context;
}

/* The program at generic XDP is one of its own (component_load_whole()). */
static bool link_is_generic(uint32_t index, uint32_t program)
{
	LIBBPF_OPTS(bpf_xdp_query_opts, options);

	return bpf_xdp_query((int)index, 0, &options) == 0 && options.skb_prog_id == program;
}

static void link_renew(struct engine *engine, const struct engine_link *link, void *context)
{
	struct shield *shield = shield_of(engine);
	bool generic = link_is_generic(link->index, link->program);
	const struct shield_bpf *skeleton;

	(void)context;
	if (generic)
		whole_load(engine, shield, NULL);
	skeleton = generic ? shield->whole : shield->skeleton;
	/* refused: away with it, and who wants it attaches anew */
	if (link->index != link->meant || !skeleton ||
		bpf_link_update(link->fd, bpf_program__fd(skeleton->progs.shield), NULL) < 0)
		unlink(link->path);
}

void engine_shield_forget_gone(struct engine *engine, const struct engine_interface *interfaces, size_t count)
{
	link_forget_gone(engine, LINK_PIN, interfaces, count);
}

void engine_shield_query(struct engine *engine, uint32_t index, struct engine_shield *ret_shield)
{
	LIBBPF_OPTS(bpf_xdp_query_opts, options);
	struct engine_shield found = {};
	_cleanup_close_ int link = -1;
	char path[PATH_MAX];
	uint32_t program = 0;

	if (bpf_xdp_query((int)index, 0, &options) < 0)
		memset(&options, 0, sizeof(options));
	link = bpf_obj_get(link_path(engine, path, index));
	if (link >= 0 && link_interface(link, &program) == index)
		found.mode = options.skb_prog_id == program ? ENGINE_SHIELD_GENERIC : ENGINE_SHIELD_NATIVE;
	found.program = found.mode            ? program
	                : options.drv_prog_id ? options.drv_prog_id
	                : options.skb_prog_id ? options.skb_prog_id
	                                      : options.hw_prog_id;
	*ret_shield = found;
}

static int link_make(struct engine *engine, uint32_t index, bool native)
{
	LIBBPF_OPTS(bpf_link_create_opts, options, .flags = native ? XDP_FLAGS_DRV_MODE : XDP_FLAGS_SKB_MODE);
	const struct shield *shield = shield_of(engine);
	const struct shield_bpf *skeleton = native ? shield->skeleton : shield->whole;
	_cleanup_close_ int link =
		bpf_link_create(bpf_program__fd(skeleton->progs.shield), (int)index, BPF_XDP, &options);
	char path[PATH_MAX];

	if (link < 0)
		return link;
	return bpf_obj_pin(link, link_path(engine, path, index)) < 0 ? -errno : 0;
}

int engine_shield_attach(struct engine *engine, const struct engine_interface *interface, bool native,
	bool generic, struct engine_shield *ret_shield, struct error *error)
{
	struct engine_shield found;
	int r = engine_shield_load(engine, error);

	if (r < 0)
		return r;
	engine_shield_query(engine, interface->index, &found);
	if ((found.mode == ENGINE_SHIELD_NATIVE && native) ||
		(found.mode == ENGINE_SHIELD_GENERIC && generic)) {
		*ret_shield = found;
		return 0;
	}
	engine_shield_detach(engine, interface->index);
	if (!found.mode && found.program)
		return error_set(error, -EBUSY,
			"another program (%" PRIu32 ") is at XDP of '%s': its rules are decided in tc",
			found.program, interface->name);
	r = native ? link_make(engine, interface->index, true) : -EOPNOTSUPP;
	if (r < 0 && generic) {
		r = whole_load(engine, shield_of(engine), error);
		if (r < 0)
			return r;
		r = link_make(engine, interface->index, false);
	}
	if (r < 0)
		return error_set(error, r, "cannot attach to XDP of '%s' (%s): its rules are decided in tc",
			interface->name, strerror(-r));
	engine_shield_query(engine, interface->index, ret_shield);
	return 0;
}

void engine_shield_detach(struct engine *engine, uint32_t index)
{
	char name[32];

	/* off before another one comes, in another mode */
	snprintf(name, sizeof(name), LINK_PIN "%" PRIu32, index);
	pin_remove(&engine->pins, name);
}

/* -- connections that go on -- */

bool engine_shield_loaded(const struct engine *engine)
{
	return shield_of(engine)->skeleton != NULL;
}

void engine_shield_kept_clear(struct engine *engine)
{
	memset(shield_of(engine)->kept, 0, sizeof(struct shield_kept));
}

void engine_shield_kept_add(struct engine *engine, const uint32_t address[4])
{
	uint32_t bit = shield_kept_bit(address);

	shield_of(engine)->kept->word[bit >> 6] |= 1ULL << (bit & 63);
}

/* -- who wants it -- */

/* The row of bits of the rules that fit packets of an interface; NULL: all do. */
static const __u64 *interface_row(const struct policy_unit *units, uint32_t index)
{
	const struct policy_header *header = (const struct policy_header *)units;
	const struct policy_field *field = &header->fields[POLICY_BY_INTERFACE];
	uint32_t class;

	if (!(header->asked >> POLICY_BY_INTERFACE & 1))
		return NULL;
	if (index >= field->size)
		index = field->size - 1;
	class = ((const __u16 *)(units + field->table))[index];
	return units[field->rows + class * header->row_units + 1].word;
}

bool engine_shield_wanted(struct engine *engine, uint32_t index)
{
	uint32_t place = engine_policy_place_of(engine, index);
	size_t count = 0;
	const struct policy_unit *units = engine_policy_units(engine, true, place, &count);
	const struct policy_header *header = (const struct policy_header *)units;
	const struct policy_rule *rules;
	const __u64 *row;

	if (engine_balance_wanted(engine) || engine_chain_wants(engine, index))
		return true;
	if (!header)
		return false;
	row = interface_row(units, index);
	rules = (const struct policy_rule *)(units + header->rules);
	for (uint32_t i = 0; i < header->count; i++)
		if ((!row || row[i / 64] >> i % 64 & 1) && rules[i].action != POLICY_DEFER)
			return true;
	return false;
}

uint32_t engine_shield_rule(struct engine *engine, const struct policy_facts *facts)
{
	struct trie_memory memory = {};
	struct policy_cursor cursor = {};
	size_t count = 0;
	uint32_t unit;

	memory.units =
		engine_policy_units(engine, true, engine_policy_place_of(engine, facts->ifindex), &count);
	memory.count = count;
	if (!memory.units || facts->out)
		return 0;
	policy_begin(&memory, &cursor, facts);
	while ((unit = policy_next(&memory, &cursor, facts))) {
		const struct policy_rule *rule = (const struct policy_rule *)(memory.units + unit);

		if (rule->action != POLICY_LIMIT)
			return rule->action == POLICY_DROP ? rule->id : 0;
	}
	return 0;
}

/* -- the part -- */

static void shield_close(void *state)
{
	struct shield *shield = state;

	unmap_memory(shield);
	shield_bpf__destroy(shield->skeleton);
	shield_bpf__destroy(shield->whole);
	free(shield);
}

static int shield_open(struct engine *engine, void **ret_state, struct error *error)
{
	struct shield *shield = calloc(1, sizeof(*shield));
	size_t links = 0;
	int r = 0;

	if (!shield)
		return error_set(error, -ENOMEM, "out of memory");
	*ret_state = shield;
	link_each(engine, LINK_PIN, link_count, &links);
	if (links)
		r = engine_shield_load(engine, error);
	if (links && r == 0)
		link_each(engine, LINK_PIN, link_renew, NULL);
	return r;
}

const struct engine_part shield_part = {"shield", shield_open, shield_close};

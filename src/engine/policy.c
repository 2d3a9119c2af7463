// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Policies: the program that decides, the memory that policies stand in, and the word that says which hold.
 */
#include "engine/policy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/if_ether.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "basic/cleanup.h"
#include "compile/bucket.h"
#include "compile/expression.h"
#include "decide.skel.h"
#include "engine/internal.h"
#include "shared/guard.h"
#include "watch.skel.h"

#define PLACES (2 * POLICY_NUMBER_MAX)

/* Ticks are compared by their difference, so none may stay further behind than this. */
#define TICK_AGE_MAX (1U << 30)

#define LOG_RATE    1000 /* records a second, until the agent says another rate */
#define REJECT_RATE 1000 /* answers a second */

enum policy_hook { HOOK_TC, HOOK_XDP, HOOKS };

/* The programs of an expression, by enum policy_expression_kind. */
struct policy_programs {
	char *text; /* NULL: a free place */
	int fds[POLICY_EXPRESSION_KINDS];
	uint64_t used; /* number of the policy brought last that has it */
};

#define PROGRAMS_MAX (4 * POLICY_EXPRESSIONS_MAX)

/* A policy's memory, mapped. */
struct policy_memory {
	struct policy_unit *units; /* NULL: none */
	size_t count;
};

struct policy_clock {
	uint64_t now_ns, tick_ns;
	uint32_t tick;
};

#define CLOCK_AGE_NS 1000000

struct policy_engine {
	struct engine *engine;
	struct decide_bpf *skeleton; /* NULL: there never was a policy */
	struct policy_now *now;      /* mapped; only the agent writes it */
	struct policy_clock clock;
	struct rule_count *counts; /* mapped, of all CPUs */
	struct policy_stats *stats;
	struct policy_check *check; /* mapped */
	struct policy_memory memory[HOOKS][PLACES];
	struct policy_programs programs[PROGRAMS_MAX];
	uint64_t brought;  /* policies */
	uint32_t log_rate; /* records a second */
	struct ring_buffer *log;
	engine_policy_log_function *function; /* who reads the log just now */
	void *context;
};

#define load(field)         __atomic_load_n(&(field), __ATOMIC_ACQUIRE)
#define store(field, value) __atomic_store_n(&(field), (value), __ATOMIC_RELEASE)

static struct policy_engine *policy_of(const struct engine *engine)
{
	return engine_part_state(engine, &policy_part);
}

static uint64_t monotonic_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static uint32_t tick_now(const struct policy_engine *policy)
{
	uint32_t tick = 0;
	uint64_t tick_ns;

	engine_clock(policy->engine, &tick, &tick_ns); /* cannot fail once it has worked */
	return tick;
}

/* -- memory -- */

static void memory_close(struct policy_memory *memory)
{
	if (memory->units)
		munmap(memory->units, memory->count * sizeof(struct policy_unit));
	*memory = (struct policy_memory){};
}

static int memory_map(int map, size_t count, struct policy_memory *ret_memory)
{
	void *units =
		mmap(NULL, count * sizeof(struct policy_unit), PROT_READ | PROT_WRITE, MAP_SHARED, map, 0);

	if (units == MAP_FAILED)
		return -errno;
	*ret_memory = (struct policy_memory){units, count};
	return 0;
}

static int hook_map(const struct policy_engine *policy, enum policy_hook hook)
{
	return bpf_map__fd(
		hook == HOOK_XDP ? policy->skeleton->maps.policies_xdp : policy->skeleton->maps.policies);
}

/* What an earlier agent left in a place. */
static int memory_adopt(struct policy_engine *policy, enum policy_hook hook, __u32 place)
{
	struct bpf_map_info info = {};
	__u32 length = sizeof(info), id;
	_cleanup_close_ int map = -1;

	if (bpf_map_lookup_elem(hook_map(policy, hook), &place, &id) < 0)
		return 0;
	map = bpf_map_get_fd_by_id(id);
	if (map < 0 || bpf_obj_get_info_by_fd(map, &info, &length) < 0)
		return -errno;
	return memory_map(map, info.max_entries, &policy->memory[hook][place]);
}

static int memory_put(struct policy_engine *policy, enum policy_hook hook, __u32 place,
	const struct policy_image *image, struct error *error)
{
	LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = BPF_F_MMAPABLE | BPF_F_INNER_MAP);
	struct policy_memory memory = {};
	_cleanup_close_ int map = -1;
	int r = 0;

	if (!image || !image->count) {
		if (bpf_map_delete_elem(hook_map(policy, hook), &place) < 0 && errno != ENOENT)
			return error_set(error, -errno, "cannot take a policy away: %s", strerror(errno));
		memory_close(&policy->memory[hook][place]);
		return 0;
	}
	map = bpf_map_create(BPF_MAP_TYPE_ARRAY, "policy", sizeof(__u32), sizeof(struct policy_unit),
		(__u32)image->count, &options);
	if (map < 0)
		r = map;
	if (r == 0)
		r = memory_map(map, image->count, &memory);
	if (r == 0) {
		memcpy(memory.units, image->units, image->count * sizeof(struct policy_unit));
		((struct policy_header *)memory.units)->brought = monotonic_ns();
		if (bpf_map_update_elem(hook_map(policy, hook), &place, &map, BPF_ANY) < 0)
			r = -errno;
	}
	if (r < 0) {
		memory_close(&memory);
		return error_set(error, r, "cannot bring a policy of %zu KiB into the kernel: %s",
			image->count * sizeof(struct policy_unit) / 1024, strerror(-r));
	}
	memory_close(&policy->memory[hook][place]);
	policy->memory[hook][place] = memory;
	return 0;
}

static int memory_bring(struct policy_engine *policy, enum policy_hook hook, __u32 place,
	const struct policy_image *image, struct error *error)
{
	int r = memory_put(policy, hook, place, image, error);

	if (r == 0 && hook == HOOK_XDP)
		engine_shield_learn(policy->engine, place);
	return r;
}

const struct policy_unit *engine_policy_units(
	const struct engine *engine, bool xdp, uint32_t place, size_t *ret_count)
{
	const struct policy_memory *memory = &policy_of(engine)->memory[xdp ? HOOK_XDP : HOOK_TC][place];

	*ret_count = memory->count;
	return memory->units;
}

/* -- expressions -- */

static void programs_close(struct policy_programs *programs)
{
	for (int kind = 0; kind < POLICY_EXPRESSION_KINDS && programs->text; kind++)
		if (programs->fds[kind] >= 0)
			close(programs->fds[kind]);
	free(programs->text);
	*programs = (struct policy_programs){};
}

#define MOVE(to, from)                                                                                       \
	{                                                                                                    \
		.code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = (to), .src_reg = (from)                      \
	}
#define SET(to, value)                                                                                       \
	{                                                                                                    \
		.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = (to), .imm = (value)                         \
	}
#define CALL(function)                                                                                       \
	{                                                                                                    \
		.code = BPF_JMP | BPF_CALL, .imm = (function)                                                \
	}
#define LOAD(size, to, from, place)                                                                          \
	{                                                                                                    \
		.code = BPF_LDX | BPF_MEM | (size), .dst_reg = (to), .src_reg = (from),                      \
		.off = (short)(place)                                                                        \
	}
#define STORE(size, to, place, from)                                                                         \
	{                                                                                                    \
		.code = BPF_STX | BPF_MEM | (size), .dst_reg = (to), .src_reg = (from),                      \
		.off = (short)(place)                                                                        \
	}
#define ADD(to, value)                                                                                       \
	{                                                                                                    \
		.code = BPF_ALU64 | BPF_ADD | BPF_K, .dst_reg = (to), .imm = (value)                         \
	}
/* two instructions; BPF_LD and BPF_IMM are 0 */
#define MAP(to, map)                                                                                         \
	{.code = BPF_DW, .dst_reg = (to), .src_reg = BPF_PSEUDO_MAP_FD, .imm = (map)},                       \
	{                                                                                                    \
	}
/* r0 = the CPU's struct policy_chain, or goes `skip` instructions on behind this */
#define CHAIN(map, skip)                                                                                     \
	MAP(BPF_REG_1, map), {.code = BPF_ST | BPF_MEM | BPF_W, .dst_reg = BPF_REG_10, .off = -4},           \
		MOVE(BPF_REG_2, BPF_REG_10), ADD(BPF_REG_2, -4), CALL(BPF_FUNC_map_lookup_elem),             \
	{                                                                                                    \
		.code = BPF_JMP | BPF_JEQ | BPF_K, .dst_reg = BPF_REG_0, .off = (skip)                       \
	}
#define CHAIN_FIELD(field) __builtin_offsetof(struct policy_chain, field)

#define _cleanup_code_ __attribute__((cleanup(expression_code_clear)))

/* One program: sets its bit if the packet fits, and calls the next, or the one that decides. */
static int expression_load(struct policy_engine *policy, const char *text, enum policy_expression_kind kind,
	int *ret_fd, struct error *error)
{
	const struct decide_bpf *skeleton = policy->skeleton;
	int chain = bpf_map__fd(skeleton->maps.decide_chain);
	int expressions = bpf_map__fd(skeleton->maps.decide_expressions);
	int programs = bpf_map__fd(skeleton->maps.decide_programs);
	const struct bpf_insn match[] = {
		CHAIN(chain, 6),
		LOAD(BPF_W, BPF_REG_1, BPF_REG_0, CHAIN_FIELD(number)),
		SET(BPF_REG_2, 1),
		{.code = BPF_ALU64 | BPF_LSH | BPF_X, .dst_reg = BPF_REG_2, .src_reg = BPF_REG_1},
		LOAD(BPF_DW, BPF_REG_1, BPF_REG_0, CHAIN_FIELD(bits)),
		{.code = BPF_ALU64 | BPF_OR | BPF_X, .dst_reg = BPF_REG_1, .src_reg = BPF_REG_2},
		STORE(BPF_DW, BPF_REG_0, CHAIN_FIELD(bits), BPF_REG_1),
	};
	const struct bpf_insn no_match[] = {
		CHAIN(chain, 10),
		LOAD(BPF_W, BPF_REG_1, BPF_REG_0, CHAIN_FIELD(number)),
		ADD(BPF_REG_1, 1),
		STORE(BPF_W, BPF_REG_0, CHAIN_FIELD(number), BPF_REG_1),
		LOAD(BPF_W, BPF_REG_3, BPF_REG_0, CHAIN_FIELD(next)),
		ADD(BPF_REG_3, 1),
		STORE(BPF_W, BPF_REG_0, CHAIN_FIELD(next), BPF_REG_3),
		MOVE(BPF_REG_1, BPF_REG_6),
		MAP(BPF_REG_2, expressions),
		CALL(BPF_FUNC_tail_call),
		MOVE(BPF_REG_1, BPF_REG_6),
		MAP(BPF_REG_2, programs),
		SET(BPF_REG_3, 0),
		CALL(BPF_FUNC_tail_call),
		SET(BPF_REG_0, -1 /* TCX_NEXT, TC_ACT_UNSPEC */),
		{.code = BPF_JMP | BPF_EXIT},
	};
	struct expression_target target = {
		.context = EXPRESSION_SKB,
		.direction = kind & POLICY_EXPRESSION_OUT ? EXPRESSION_OUT : EXPRESSION_IN,
		.match = match,
		.match_count = sizeof(match) / sizeof(match[0]),
		.no_match = no_match,
		.no_match_count = sizeof(no_match) / sizeof(no_match[0]),
	};
	struct bpf_insn never[1 + sizeof(no_match) / sizeof(no_match[0])] = {MOVE(BPF_REG_6, BPF_REG_1)};
	enum expression_link link = kind & POLICY_EXPRESSION_ETHERNET ? EXPRESSION_ETHERNET : EXPRESSION_RAW;
	_cleanup_code_ struct expression_code code = {};
	struct expression expression = {};
	struct error why = {};
	int r = expression_compile(text, link, 1, &expression, &why);

	if (r == 0) {
		r = expression_translate(&expression, &target, &code, error);
		expression_clear(&expression);
		if (r < 0)
			return r;
	} else if (link == EXPRESSION_ETHERNET) {
		*error = why;
		return r;
	}
	/* what asks for a link header fits nothing where there is none */
	memcpy(never + 1, no_match, sizeof(no_match));
	r = bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "rule_expression", "Dual BSD/GPL",
		code.count ? code.instructions : never,
		code.count ? code.count : sizeof(never) / sizeof(never[0]), NULL);
	if (r < 0)
		return error_set(
			error, r, "the kernel does not take the program of '%s': %s", text, strerror(-r));
	*ret_fd = r;
	return 0;
}

/* The programs of an expression: those of another policy that has it, too, or new ones. */
static int programs_get(struct policy_engine *policy, const char *text, const struct policy_programs **ret,
	struct error *error)
{
	struct policy_programs *place = &policy->programs[0];
	int r = 0;

	for (size_t i = 0; i < PROGRAMS_MAX; i++) {
		struct policy_programs *programs = &policy->programs[i];

		if (programs->text && strcmp(programs->text, text) == 0) {
			programs->used = policy->brought;
			*ret = programs;
			return 0;
		}
		if (!programs->text || (place->text && programs->used < place->used))
			place = programs;
	}
	programs_close(place);
	place->text = strdup(text);
	if (!place->text)
		return error_set(error, -ENOMEM, "out of memory");
	for (int kind = 0; kind < POLICY_EXPRESSION_KINDS; kind++)
		place->fds[kind] = -1;
	for (int kind = 0; kind < POLICY_EXPRESSION_KINDS && r == 0; kind++)
		r = expression_load(
			policy, text, (enum policy_expression_kind)kind, &place->fds[kind], error);
	if (r < 0) {
		programs_close(place);
		return r;
	}
	place->used = policy->brought;
	*ret = place;
	return 0;
}

static int expressions_bring(
	struct policy_engine *policy, __u32 place, const struct policy_image *image, struct error *error)
{
	int map = bpf_map__fd(policy->skeleton->maps.decide_expressions);

	policy->brought++;
	for (size_t i = 0; i < POLICY_EXPRESSIONS_MAX; i++) {
		const struct policy_programs *programs = NULL;
		int r = 0;

		if (i < image->expression_count)
			r = programs_get(policy, image->expressions[i], &programs, error);
		if (r < 0)
			return r;
		for (__u32 kind = 0; kind < POLICY_EXPRESSION_KINDS; kind++) {
			__u32 key = POLICY_EXPRESSION_PLACE(place, kind) + (__u32)i;

			r = programs ? bpf_map_update_elem(map, &key, &programs->fds[kind], BPF_ANY)
			             : bpf_map_delete_elem(map, &key);
			if (r < 0 && programs)
				return error_set(error, -errno, "cannot put an expression into its place: %s",
					strerror(errno));
		}
	}
	return 0;
}

/* -- loading -- */

static int log_read(void *context, void *record, size_t size)
{
	struct policy_engine *policy = context;

	if (policy->function && size >= sizeof(struct policy_log))
		policy->function(policy->context, record);
	return 0;
}

static int rate_set(struct policy_engine *policy, __u32 which, uint32_t a_second)
{
	const struct token_rate rate = {a_second, a_second, 1000000000};
	struct policy_rate value = {};
	int r = token_clock_start(&rate, monotonic_ns(), &value.clock);

	if (r == 0 && bpf_map_update_elem(
			      bpf_map__fd(policy->skeleton->maps.decide_rates), &which, &value, BPF_ANY) < 0)
		r = -errno;
	return r;
}

static int programs_load(struct policy_engine *policy, struct error *error)
{
	struct decide_bpf *skeleton = policy->skeleton;
	struct engine *engine = policy->engine;
	__u32 zero = 0;
	void *check;
	int program, r;

	skeleton->rodata->owner_off = !engine->watch.owners;
	r = engine_connections_prepare(engine, skeleton->obj);
	if (r < 0)
		return error_set(error, r, "cannot size the connection table: %s", strerror(-r));
	r = component_load(engine, skeleton->obj, "rule", error);
	if (r == 0 && engine_connections_start(engine) < 0)
		r = error_set(error, -EIO, "cannot set the times of connections");
	if (r == 0)
		r = component_ring(skeleton->obj, "rule_log", log_read, policy, &policy->log, error);
	for (int hook = 0; hook < HOOKS && r == 0; hook++)
		for (__u32 place = 0; place < PLACES && r == 0; place++) {
			r = memory_adopt(policy, hook, place);
			if (r < 0)
				error_set(error, r, "cannot adopt the policies: %s", strerror(-r));
		}
	if (r < 0)
		return r;
	check = mmap(NULL, sizeof(*policy->check), PROT_READ | PROT_WRITE, MAP_SHARED,
		bpf_map__fd(skeleton->maps.decide_checks), 0);
	if (check == MAP_FAILED)
		return error_set(error, -errno, "cannot map decide_checks: %s", strerror(errno));
	policy->check = check;
	r = rate_set(policy, POLICY_RATE_LOG, policy->log_rate);
	if (r == 0)
		r = rate_set(policy, POLICY_RATE_REJECT, REJECT_RATE);
	if (r < 0)
		return error_set(error, r, "cannot set the rules' rates: %s", strerror(-r));
	program = bpf_program__fd(skeleton->progs.decide);
	if (bpf_map_update_elem(bpf_map__fd(skeleton->maps.decide_programs), &zero, &program, BPF_ANY) < 0)
		return error_set(
			error, -errno, "cannot put the rules' program into its place: %s", strerror(errno));
	return 0;
}

/* Verifying these programs takes its time; who has no rules need not wait for that. */
static int policy_load(struct policy_engine *policy, struct error *error)
{
	int r;

	if (policy->skeleton)
		return 0;
	policy->skeleton = decide_bpf__open();
	if (!policy->skeleton)
		return error_set(error, -errno, "cannot open the rules' programs: %s", strerror(errno));
	r = programs_load(policy, error);
	if (r < 0) {
		ring_buffer__free(policy->log);
		decide_bpf__destroy(policy->skeleton);
		policy->log = NULL;
		policy->skeleton = NULL;
	}
	return r;
}

int engine_policy_object(struct engine *engine, const struct bpf_object **ret_object)
{
	struct policy_engine *policy = policy_of(engine);
	int r = policy_load(policy, NULL);

	if (r == 0)
		*ret_object = policy->skeleton->obj;
	return r;
}

const struct bpf_object *engine_policy_loaded(const struct engine *engine)
{
	const struct policy_engine *policy = policy_of(engine);

	return policy && policy->skeleton ? policy->skeleton->obj : NULL;
}

static size_t counts_bytes(const struct engine *engine)
{
	return (size_t)engine->view.cpus * POLICY_COUNTERS_MAX * sizeof(struct rule_count);
}

static void policy_close(void *state)
{
	struct policy_engine *policy = state;

	for (int i = 0; i < PROGRAMS_MAX; i++)
		programs_close(&policy->programs[i]);
	for (int hook = 0; hook < HOOKS; hook++)
		for (int place = 0; place < PLACES; place++)
			memory_close(&policy->memory[hook][place]);
	if (policy->now)
		munmap(policy->now, sizeof(*policy->now));
	if (policy->check)
		munmap(policy->check, sizeof(*policy->check));
	if (policy->counts)
		munmap(policy->counts, counts_bytes(policy->engine));
	ring_buffer__free(policy->log);
	decide_bpf__destroy(policy->skeleton);
	free(policy->stats);
	free(policy);
}

static int policy_open(struct engine *engine, void **ret_state, struct error *error)
{
	struct policy_engine *policy = calloc(1, sizeof(*policy));
	char path[PATH_MAX];
	_cleanup_close_ int left = bpf_obj_get(pins_path(&engine->pins, path, "policies"));
	void *now, *counts;

	if (!policy)
		return error_set(error, -ENOMEM, "out of memory");
	*ret_state = policy;
	policy->engine = engine;
	policy->log_rate = LOG_RATE;
	policy->stats = calloc(engine->view.cpus, sizeof(*policy->stats));
	if (!policy->stats)
		return error_set(error, -ENOMEM, "out of memory");
	now = mmap(NULL, sizeof(*policy->now), PROT_READ | PROT_WRITE, MAP_SHARED,
		bpf_map__fd(engine->skeleton->maps.policy_now), 0);
	if (now == MAP_FAILED)
		return error_set(error, -errno, "cannot map policy_now: %s", strerror(errno));
	policy->now = now;
	counts = mmap(NULL, counts_bytes(engine), PROT_READ | PROT_WRITE, MAP_SHARED,
		bpf_map__fd(engine->skeleton->maps.rule_counts), 0);
	if (counts == MAP_FAILED)
		return error_set(error, -errno, "cannot map rule_counts: %s", strerror(errno));
	policy->counts = counts;
	return left >= 0 ? policy_load(policy, error) : 0;
}

const struct engine_part policy_part = {"policy", policy_open, policy_close};

/* -- what is in force -- */

static bool tick_is_old(uint32_t tick, uint32_t now)
{
	return now - tick > TICK_AGE_MAX && now - tick < UINT32_MAX - TICK_AGE_MAX;
}

/* Decisions from before this call hold no more. */
static void forget(struct policy_engine *policy, bool cut)
{
	uint32_t since = tick_now(policy) + 1;

	if (cut)
		store(policy->now->cut, since ? since : 1);
	store(policy->now->since, since);
	store(policy->now->kept, cut ? POLICY_KEPT_NONE : POLICY_KEPT_SOME);
}

static bool asks_for_state(const struct policy_engine *policy, uint64_t places, uint64_t present)
{
	for (unsigned int number = 0; number < POLICY_NUMBER_MAX; number++) {
		const struct policy_unit *units =
			policy->memory[HOOK_TC][2 * number + (places >> number & 1)].units;

		if (present >> number & 1 && units &&
			((const struct policy_header *)units)->flags & POLICY_STATEFUL)
			return true;
	}
	return false;
}

/* From now on each packet of TCP comes to the connection table, or no more. */
static void follow_connections(struct policy_engine *policy, bool wanted)
{
	uint32_t since = tick_now(policy) + 1;

	if (!wanted)
		store(policy->now->stateful, 0);
	else if (!policy->now->stateful)
		store(policy->now->stateful, since ? since : 1);
}

/* What the datapath does by itself when the deadline has passed, made to last. */
static bool lapse(struct policy_engine *policy)
{
	struct policy_now *now = policy->now;

	if (!now->deadline || (int32_t)(tick_now(policy) - now->deadline) < 0)
		return false;
	store(now->kept, POLICY_KEPT_SOME);
	store(now->places, now->places_before);
	store(now->present, now->present_before);
	store(now->active, now->present != 0);
	store(now->deadline, 0);
	follow_connections(policy, asks_for_state(policy, now->places, now->present));
	forget(policy, false);
	return true;
}

static int check_not_waiting(struct policy_engine *policy, struct error *error)
{
	lapse(policy);
	if (!policy->now->deadline)
		return 0;
	error_set(error, -EBUSY, "a change of the rules waits for its confirmation");
	return error_want(error, "'weir confirm' or 'weir rollback' first");
}

static __u32 place_in_force(const struct policy_engine *policy, unsigned int number)
{
	return 2 * number + (policy->now->places >> number & 1);
}

int engine_policy_bring(struct engine *engine, unsigned int number, const struct policy_image *image,
	const struct policy_image *xdp, struct error *error)
{
	struct policy_engine *policy = policy_of(engine);
	__u32 place;
	int r = policy_load(policy, error);

	if (r == 0)
		r = check_not_waiting(policy, error);
	if (r < 0)
		return r;
	place = place_in_force(policy, number) ^ 1;
	if (image->expression_count)
		r = expressions_bring(policy, place, image, error);
	if (r == 0)
		r = memory_bring(policy, HOOK_TC, place, image, error);
	if (r == 0 && (xdp || policy->memory[HOOK_XDP][place].units))
		r = memory_bring(policy, HOOK_XDP, place, xdp, error);
	return r;
}

/* Takes away the memory of policies that are not there any more. */
static void sweep(struct policy_engine *policy)
{
	for (unsigned int number = 0; number < POLICY_NUMBER_MAX; number++)
		for (int hook = 0; hook < HOOKS && !(policy->now->present >> number & 1); hook++)
			for (__u32 place = 2 * number; place < 2 * number + 2; place++)
				if (policy->memory[hook][place].units)
					memory_bring(policy, hook, place, NULL, NULL);
}

/* The tick of a time; never 0, which means none. */
static uint32_t tick_of(const struct policy_engine *policy, uint64_t time_ns)
{
	uint64_t tick_ns = 1, now_ns = monotonic_ns(), ahead;
	uint32_t tick = 0;

	engine_clock(policy->engine, &tick, &tick_ns);
	ahead = time_ns > now_ns ? (time_ns - now_ns + tick_ns - 1) / tick_ns : 0;
	tick += (uint32_t)(ahead < TICK_AGE_MAX ? ahead : TICK_AGE_MAX);
	return tick ? tick : 1;
}

int engine_policy_switch(struct engine *engine, uint64_t changed, uint64_t present, bool cut, bool tracking,
	uint64_t deadline_ns, struct error *error)
{
	struct policy_engine *policy = policy_of(engine);
	struct policy_now *now = policy->now;
	/* rules on sockets alone need nothing of what judges packets */
	int r = changed == 1ULL << GUARD_PLACE && !present ? 0 : policy_load(policy, error);

	if (r == 0)
		r = check_not_waiting(policy, error);
	/* what is to be gone is an empty place */
	for (unsigned int number = 0; number < POLICY_NUMBER_MAX && r == 0; number++)
		for (int hook = 0; hook < HOOKS && r == 0; hook++) {
			__u32 place = place_in_force(policy, number) ^ 1;

			if (changed >> number & 1 && !(present >> number & 1) &&
				policy->memory[hook][place].units)
				r = memory_bring(policy, hook, place, NULL, error);
		}
	if (r < 0)
		return r;
	if (!cut)
		store(now->kept, POLICY_KEPT_SOME);
	store(now->places_before, now->places);
	store(now->present_before, now->present);
	if (deadline_ns)
		store(now->deadline, tick_of(policy, deadline_ns));
	store(now->tracking, tracking || (deadline_ns && now->tracking));
	follow_connections(
		policy, asks_for_state(policy, now->places ^ changed, present) ||
				(deadline_ns && asks_for_state(policy, now->places, now->present)));
	store(now->present, present);
	if (present)
		store(now->active, 1);
	store(now->places, now->places ^ changed);
	forget(policy, cut);
	if (!deadline_ns) {
		store(now->active, present != 0);
		sweep(policy);
	}
	return 0;
}

int engine_policy_confirm(struct engine *engine, struct error *error)
{
	struct policy_engine *policy = policy_of(engine);
	struct policy_now *now = policy->now;

	if (lapse(policy))
		return error_set(error, -ETIMEDOUT,
			"the time to confirm has passed: what was in force before is again");
	if (!now->deadline)
		return error_set(error, -ENOENT, "no change of the rules waits for a confirmation");
	store(now->deadline, 0);
	store(now->active, now->present != 0);
	follow_connections(policy, asks_for_state(policy, now->places, now->present));
	forget(policy, false); /* the deadline may have passed a moment ago */
	sweep(policy);
	return 0;
}

int engine_policy_rollback(struct engine *engine, struct error *error)
{
	struct policy_engine *policy = policy_of(engine);
	struct policy_now *now = policy->now;

	if (lapse(policy))
		return 0;
	if (!now->deadline)
		return error_set(error, -ENOENT, "no change of the rules waits for a confirmation");
	store(now->kept, POLICY_KEPT_SOME);
	store(now->present, now->present_before);
	store(now->places, now->places_before);
	store(now->deadline, 0);
	store(now->active, now->present != 0);
	follow_connections(policy, asks_for_state(policy, now->places, now->present));
	forget(policy, false);
	sweep(policy);
	return 0;
}

int engine_policy_now(struct engine *engine, struct policy_now *ret_now)
{
	struct policy_engine *policy = policy_of(engine);
	uint32_t tick = tick_now(policy);

	lapse(policy);
	if (tick_is_old(policy->now->since, tick))
		store(policy->now->since, tick - TICK_AGE_MAX / 2);
	if (policy->now->stateful && tick_is_old(policy->now->stateful, tick))
		store(policy->now->stateful, tick - TICK_AGE_MAX / 2);
	if (policy->now->cut && tick_is_old(policy->now->cut, tick))
		store(policy->now->cut, tick - TICK_AGE_MAX / 2);
	*ret_now = *policy->now;
	return 0;
}

void engine_policy_keep(struct engine *engine)
{
	store(policy_of(engine)->now->kept, POLICY_KEPT_SOME);
}

void engine_policy_kept(struct engine *engine, uint32_t since, enum policy_kept kept)
{
	struct policy_now *now = policy_of(engine)->now;

	if (now->since == since && now->kept != POLICY_KEPT_NONE)
		store(now->kept, kept);
}

int engine_policy_forget(struct engine *engine, bool cut)
{
	forget(policy_of(engine), cut);
	return 0;
}

/* -- tenants -- */

static bool tenants_have(
	const struct engine_policy_tenant *tenants, size_t count, bool interface, uint64_t key)
{
	for (size_t i = 0; i < count; i++)
		if (interface ? tenants[i].ifindex == key : !tenants[i].ifindex && tenants[i].cgroup == key)
			return true;
	return false;
}

/* What is nobody's any more; while it waits for a confirmation, what it was before is kept. */
static int tenants_forget(
	int map, bool interface, const struct engine_policy_tenant *tenants, size_t count, bool waiting)
{
	uint64_t keys[2 * ENGINE_POLICY_TENANTS_MAX] = {}, *previous = NULL;
	size_t found = 0;
	int r = 0;

	while (found < sizeof(keys) / sizeof(keys[0]) &&
		bpf_map_get_next_key(map, previous, &keys[found]) == 0)
		previous = &keys[found++];
	for (size_t i = 0; i < found && r == 0; i++) {
		struct policy_grant tenant = {};

		if (tenants_have(tenants, count, interface, keys[i]))
			continue;
		bpf_map_lookup_elem(map, &keys[i], &tenant);
		tenant = (struct policy_grant){.before = tenant.number};
		r = waiting && tenant.before ? bpf_map_update_elem(map, &keys[i], &tenant, BPF_ANY)
		                             : bpf_map_delete_elem(map, &keys[i]);
		r = r < 0 ? -errno : 0;
	}
	return r;
}

static int tenant_set(int map, const struct engine_policy_tenant *wanted, bool waiting)
{
	const void *key = wanted->ifindex ? (const void *)&wanted->ifindex : (const void *)&wanted->cgroup;
	struct policy_grant tenant = {};

	if (bpf_map_lookup_elem(map, key, &tenant) < 0 && errno != ENOENT)
		return -errno;
	tenant.before = waiting ? tenant.number : (uint16_t)wanted->number;
	tenant.number = (uint16_t)wanted->number;
	return bpf_map_update_elem(map, key, &tenant, BPF_ANY) < 0 ? -errno : 0;
}

int engine_policy_tenants(struct engine *engine, const struct engine_policy_tenant *tenants, size_t count,
	bool waiting, struct error *error)
{
	struct policy_engine *policy = policy_of(engine);
	uint32_t flags = 0;
	int maps[2], r = 0;

	if (!policy->skeleton && !count)
		return 0;
	r = policy_load(policy, error);
	if (r < 0)
		return r;
	maps[0] = bpf_map__fd(policy->skeleton->maps.tenant_interfaces);
	maps[1] = bpf_map__fd(policy->skeleton->maps.tenant_cgroups);
	for (size_t i = 0; i < count && r == 0; i++) {
		flags |= tenants[i].ifindex ? POLICY_TENANT_INTERFACES : POLICY_TENANT_CGROUPS;
		r = tenant_set(maps[!tenants[i].ifindex], &tenants[i], waiting);
	}
	for (int i = 0; i < 2 && r == 0; i++)
		r = tenants_forget(maps[i], i == 0, tenants, count, waiting);
	if (r < 0)
		return error_set(error, r, "cannot give interfaces to tenants: %s", strerror(-r));
	store(policy->now->tenants, flags | (waiting ? policy->now->tenants : 0));
	forget(policy, false);
	return 0;
}

uint32_t engine_policy_place_of(struct engine *engine, uint32_t index)
{
	struct policy_engine *policy = policy_of(engine);
	struct policy_grant grant = {};

	lapse(policy);
	if (policy->now->tenants & POLICY_TENANT_INTERFACES && policy->skeleton)
		bpf_map_lookup_elem(bpf_map__fd(policy->skeleton->maps.tenant_interfaces), &index, &grant);
	return place_in_force(policy, grant.number);
}

/* -- asking -- */

int engine_policy_check(struct engine *engine, unsigned int number, bool xdp,
	const struct policy_facts *facts, uint32_t *ret_rules, size_t count, struct error *error)
{
	struct policy_engine *policy = policy_of(engine);
	int r = policy_load(policy, error);

	if (r < 0)
		return r;
	for (size_t done = 0, some; done < count && r == 0; done += some) {
		LIBBPF_OPTS(bpf_test_run_opts, options);

		some = count - done < POLICY_CHECKS_MAX ? count - done : POLICY_CHECKS_MAX;
		policy->check->place = place_in_force(policy, number) ^ 1;
		policy->check->xdp = xdp;
		policy->check->count = (__u32)some;
		memcpy(policy->check->facts, facts + done, some * sizeof(*facts));
		r = bpf_prog_test_run_opts(bpf_program__fd(policy->skeleton->progs.decide_check), &options);
		if (r == 0 && options.retval)
			r = -ENOENT;
		if (r == 0)
			memcpy(ret_rules + done, policy->check->rules, some * sizeof(*ret_rules));
	}
	return r < 0 ? error_set(error, r, "the rules cannot be verified: %s", strerror(-r)) : 0;
}

/* What a packet without a link header is. */
static __be16 ethertype_of(const uint8_t *packet)
{
	return htons(packet[0] >> 4 == 6 ? ETH_P_IPV6 : ETH_P_IP);
}

int engine_policy_explain(struct engine *engine, const void *packet, size_t size, bool ethernet,
	uint32_t ifindex, bool out, uint32_t owner, struct policy_explanation *ret_explanation,
	struct error *error)
{
	struct policy_engine *policy = policy_of(engine);
	struct policy_question question = {.ifindex = ifindex, .owner = owner, .out = out};
	static const struct policy_question nothing;
	struct __sk_buff skb = {};
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = packet, .data_size_in = (__u32)size, .repeat = 1,
		.ctx_in = &skb, .ctx_size_in = sizeof(skb));
	struct policy_explanation none = {.action = POLICY_ACCEPT, .hook = 1};
	const struct decide_bpf *skeleton;
	__u32 zero = 0;
	int r = policy_load(policy, error);

	if (r < 0)
		return r;
	skeleton = policy->skeleton;
	if (!ethernet)
		question.ethertype = ethertype_of(packet);
	if (getrandom(question.token, sizeof(question.token), 0) != sizeof(question.token))
		return error_set(error, -errno, "cannot get random numbers: %s", strerror(errno));
	question.token[0] |= 1;
	skb.mark = question.token[0];
	skb.priority = question.token[1];
	if (bpf_map_update_elem(bpf_map__fd(skeleton->maps.decide_question), &zero, &question, BPF_ANY) < 0 ||
		bpf_map_update_elem(bpf_map__fd(skeleton->maps.decide_explanation), &zero, &none, BPF_ANY) <
			0)
		r = -errno;
	if (r == 0)
		r = bpf_prog_test_run_opts(bpf_program__fd(ethernet ? skeleton->progs.decide_ask_ethernet
								    : skeleton->progs.decide_ask_raw),
			&options);
	bpf_map_update_elem(bpf_map__fd(skeleton->maps.decide_question), &zero, &nothing, BPF_ANY);
	if (r == 0 && bpf_map_lookup_elem(
			      bpf_map__fd(skeleton->maps.decide_explanation), &zero, ret_explanation) < 0)
		r = -errno;
	return r < 0 ? error_set(error, r, "the rules cannot be asked: %s", strerror(-r)) : 0;
}

/* -- what was counted -- */

/* Ticks and nanoseconds, read at most once a millisecond: the counters of thousands of rules are asked for at
 * once. */
static const struct policy_clock *clock_read(struct policy_engine *policy)
{
	struct policy_clock *clock = &policy->clock;
	uint64_t now_ns = monotonic_ns();

	if (!clock->now_ns || now_ns - clock->now_ns >= CLOCK_AGE_NS) {
		engine_clock(policy->engine, &clock->tick, &clock->tick_ns);
		clock->now_ns = now_ns;
	}
	return clock;
}

static struct rule_count *count_of(const struct policy_engine *policy, unsigned int cpu, uint32_t counter)
{
	return policy->counts + (size_t)cpu * POLICY_COUNTERS_MAX + counter;
}

int engine_policy_count(struct engine *engine, uint32_t counter, struct engine_policy_count *ret_count)
{
	struct policy_engine *policy = policy_of(engine);
	const struct policy_clock *clock = clock_read(policy);
	struct engine_policy_count sum = {};
	int32_t age = INT32_MAX;

	if (counter >= POLICY_COUNTERS_MAX)
		return -ENOENT;
	for (unsigned int cpu = 0; cpu < engine->view.cpus; cpu++) {
		const struct rule_count *count = count_of(policy, cpu, counter);

		sum.packets += load(count->packets);
		sum.bytes += load(count->bytes);
		if (load(count->packets) && (int32_t)(clock->tick - load(count->last)) < age)
			age = (int32_t)(clock->tick - load(count->last));
	}
	if (age < 0)
		age = 0;
	if (sum.packets)
		sum.last_ns = clock->now_ns > (uint64_t)age * clock->tick_ns
		                      ? clock->now_ns - (uint64_t)age * clock->tick_ns
		                      : 1;
	*ret_count = sum;
	return 0;
}

int engine_policy_count_clear(struct engine *engine, uint32_t counter)
{
	const struct policy_engine *policy = policy_of(engine);

	if (counter >= POLICY_COUNTERS_MAX)
		return -ENOENT;
	for (unsigned int cpu = 0; cpu < engine->view.cpus; cpu++)
		*count_of(policy, cpu, counter) = (struct rule_count){};
	return 0;
}

void engine_policy_stats(struct engine *engine, struct policy_stats *ret_stats)
{
	const struct policy_engine *policy = policy_of(engine);
	struct policy_stats *stats = policy->stats;
	struct policy_stats sum = {};
	__u32 zero = 0;

	*ret_stats = sum;
	if (!policy->skeleton ||
		bpf_map_lookup_elem(bpf_map__fd(policy->skeleton->maps.policy_stats), &zero, stats) < 0)
		return;
	for (unsigned int cpu = 0; cpu < engine->view.cpus; cpu++) {
		sum.logged += stats[cpu].logged;
		sum.unlogged += stats[cpu].unlogged;
		sum.rejected += stats[cpu].rejected;
		sum.unanswered += stats[cpu].unanswered;
		sum.kept += stats[cpu].kept;
		sum.limited_full += stats[cpu].limited_full;
		sum.broken += stats[cpu].broken;
		sum.unreadable += stats[cpu].unreadable;
	}
	*ret_stats = sum;
}

/* -- the log -- */

int engine_policy_log_rate(struct engine *engine, uint32_t records_per_second)
{
	struct policy_engine *policy = policy_of(engine);

	policy->log_rate = records_per_second;
	return policy->skeleton ? rate_set(policy, POLICY_RATE_LOG, records_per_second) : 0;
}

int engine_policy_log_fd(struct engine *engine)
{
	const struct policy_engine *policy = policy_of(engine);

	return policy->log ? ring_buffer__epoll_fd(policy->log) : -1;
}

void engine_policy_log_read(struct engine *engine, engine_policy_log_function *function, void *context)
{
	struct policy_engine *policy = policy_of(engine);

	policy->function = function;
	policy->context = context;
	if (policy->log)
		ring_buffer__consume(policy->log);
}

// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Hooks: attaching to tc ingress and egress beside whoever else is there.
 *
 * TCX links (6.6 and later) are pinned as "link_IFINDEX_in" and "_out": the pin is the attachment.  Weir goes
 * first, to see what others may drop.  Older kernels get clsact filters, remembered in the pinned map
 * "hooks"; the clsact qdisc is removed at the end only if weir made it and no filter of somebody else's has
 * moved in.
 */
#include <errno.h>
#include <inttypes.h>
#include <linux/pkt_sched.h>
#include <netlink/route/classifier.h>
#include <netlink/route/qdisc.h>
#include <string.h>
#include <unistd.h>

#include "basic/cleanup.h"
#include "engine/balance_tc.h"
#include "engine/internal.h"
#include "engine/link.h"

/* Names of Linux 6.6's uapi that Debian 12's headers do not have yet. */
#define LINK_PIN "link_" /* link_IFINDEX_in, link_IFINDEX_out */

#define TCX_INGRESS   ((enum bpf_attach_type)46)
#define TCX_EGRESS    ((enum bpf_attach_type)47)
#define LINK_F_BEFORE (1U << 3) /* BPF_F_BEFORE without a relative: before everyone */

/* Several agents may share a clsact qdisc, and the last one has to remove it if one of them made it.  So the
 * filter's handle says whether the qdisc was there before any weir was. */
#define FILTER_PRIORITY       1
#define FILTER_PRIORITY_MAX   64
#define FILTER_HANDLE_MADE    0x77656972 /* "weir" */
#define FILTER_HANDLE_FOREIGN 0x77656973

struct hook_side {
	const char *suffix; /* of the pin */
	enum bpf_attach_type tcx;
	enum bpf_tc_attach_point clsact;
	enum engine_program ethernet, raw;
};

static const struct hook_side sides[2] = {
	{"in", TCX_INGRESS, BPF_TC_INGRESS, PROGRAM_ETHERNET_IN, PROGRAM_RAW_IN},
	{"out", TCX_EGRESS, BPF_TC_EGRESS, PROGRAM_ETHERNET_OUT, PROGRAM_RAW_OUT},
};

static enum engine_program side_program(const struct hook_side *side, bool ethernet)
{
	return ethernet ? side->ethernet : side->raw;
}

static const char *link_path(
	const struct engine *engine, char path[static PATH_MAX], uint32_t index, const struct hook_side *side)
{
	char name[32];

	snprintf(name, sizeof(name), LINK_PIN "%u_%s", index, side->suffix);
	return pins_path(&engine->pins, path, name);
}

int engine_hook_link(const struct engine *engine, uint32_t index, bool out)
{
	char path[PATH_MAX];

	return bpf_obj_get(link_path(engine, path, index, &sides[out]));
}

static int tcx_attach(
	struct engine *engine, const struct engine_interface *interface, struct engine_hooks *hooks)
{
	uint32_t *programs[2] = {&hooks->program_in, &hooks->program_out};

	for (int i = 0; i < 2; i++) {
		enum engine_program program = side_program(&sides[i], interface->ethernet);
		LIBBPF_OPTS(bpf_link_create_opts, options, .flags = LINK_F_BEFORE);
		_cleanup_close_ int link = -1;
		char path[PATH_MAX];

		link = bpf_obj_get(link_path(engine, path, interface->index, &sides[i]));
		if (link >= 0) {
			if (link_interface(link, programs[i]) == interface->index)
				continue;
			unlink(path);
			close(TAKE_FD(link));
		}
		link = bpf_link_create(
			engine_program(engine, program), (int)interface->index, sides[i].tcx, &options);
		if (link < 0)
			return link;
		if (bpf_obj_pin(link, path) < 0)
			return -errno;
		*programs[i] = engine->program_ids[program];
	}
	hooks->kind = ENGINE_HOOK_TCX;
	return 0;
}

static int clsact_attach_side(struct engine *engine, const struct engine_interface *interface,
	const struct hook_side *side, bool made_qdisc, uint32_t *priority, uint32_t *handle)
{
	enum engine_program program = side_program(side, interface->ethernet);
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)interface->index, .attach_point = side->clsact);
	LIBBPF_OPTS(bpf_tc_opts, options, .prog_fd = engine_program(engine, program),
		.priority = FILTER_PRIORITY,
		.handle = made_qdisc ? FILTER_HANDLE_MADE : FILTER_HANDLE_FOREIGN);
	int r = bpf_tc_attach(&hook, &options);

	/* somebody else is first: the kernel finds us the place before the next */
	for (uint32_t next = FILTER_PRIORITY + 1;
		r < 0 && r != -EPERM && r != -ENODEV && next < FILTER_PRIORITY_MAX; next++) {
		options.priority = next;
		options.prog_id = 0;
		r = bpf_tc_attach(&hook, &options);
	}
	if (r < 0)
		return r;
	*priority = options.priority;
	*handle = options.handle;
	return 0;
}

static void clsact_detach_side(
	uint32_t index, const struct hook_side *side, uint32_t priority, uint32_t handle)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)index, .attach_point = side->clsact);
	LIBBPF_OPTS(bpf_tc_opts, options, .priority = priority, .handle = handle);

	if (priority)
		bpf_tc_detach(&hook, &options);
}

static const uint32_t clsact_parents[2] = {
	TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS), TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_EGRESS)};

/* Has the clsact qdisc filters (ours are off by now)? */
static bool clsact_in_use(struct engine *engine, uint32_t index)
{
	for (int i = 0; i < 2; i++) {
		struct nl_cache *cache = NULL;
		int count;

		if (rtnl_cls_alloc_cache(engine->requests, (int)index, clsact_parents[i], &cache) < 0)
			return true; /* not known: better leave it */
		count = nl_cache_nitems(cache);
		nl_cache_free(cache);
		if (count)
			return true;
	}
	return false;
}

static void clsact_detach(struct engine *engine, uint32_t index, const struct engine_clsact *entry)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)index, .attach_point = BPF_TC_INGRESS | BPF_TC_EGRESS);

	engine_filter_unbalance(index);
	clsact_detach_side(index, &sides[0], entry->priority_in, entry->handle_in);
	clsact_detach_side(index, &sides[1], entry->priority_out, entry->handle_out);
	if (entry->made_qdisc && !clsact_in_use(engine, index))
		bpf_tc_hook_destroy(&hook);
}

/* The program that a remembered filter runs; 0 when the filter is gone. */
static uint32_t clsact_program(
	uint32_t index, const struct hook_side *side, uint32_t priority, uint32_t handle)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)index, .attach_point = side->clsact);
	LIBBPF_OPTS(bpf_tc_opts, options, .priority = priority, .handle = handle);

	return bpf_tc_query(&hook, &options) == 0 ? options.prog_id : 0;
}

/* Was the clsact qdisc made by another agent, which still has its filter there? */
static bool clsact_made_by_weir(uint32_t index)
{
	for (uint32_t priority = FILTER_PRIORITY; priority < FILTER_PRIORITY_MAX; priority++)
		if (clsact_program(index, &sides[0], priority, FILTER_HANDLE_MADE))
			return true;
	return false;
}

static int clsact_attach(
	struct engine *engine, const struct engine_interface *interface, struct engine_hooks *hooks)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)interface->index,
		.attach_point = BPF_TC_INGRESS | BPF_TC_EGRESS);
	struct engine_clsact entry = {};
	int r;

	hooks->kind = ENGINE_HOOK_CLSACT;
	if (bpf_map_lookup_elem(engine->hooks_map, &interface->index, &entry) == 0) {
		hooks->program_in =
			clsact_program(interface->index, &sides[0], entry.priority_in, entry.handle_in);
		hooks->program_out =
			clsact_program(interface->index, &sides[1], entry.priority_out, entry.handle_out);
		if (hooks->program_in && hooks->program_out)
			return 0;
		/* an interface of the same index but not the same, or somebody took the filters away */
		clsact_detach(engine, interface->index, &entry);
		entry = (struct engine_clsact){};
	}
	r = bpf_tc_hook_create(&hook);
	if (r < 0 && r != -EEXIST)
		return r;
	entry.made_qdisc = r == 0 || clsact_made_by_weir(interface->index);
	/* remembered first: killed in between, the next agent cleans up */
	if (bpf_map_update_elem(engine->hooks_map, &interface->index, &entry, BPF_ANY) < 0)
		return -errno;
	r = clsact_attach_side(
		engine, interface, &sides[0], entry.made_qdisc, &entry.priority_in, &entry.handle_in);
	if (r == 0)
		r = clsact_attach_side(engine, interface, &sides[1], entry.made_qdisc, &entry.priority_out,
			&entry.handle_out);
	if (bpf_map_update_elem(engine->hooks_map, &interface->index, &entry, BPF_ANY) < 0 && r == 0)
		r = -errno;
	hooks->program_in = engine->program_ids[side_program(&sides[0], interface->ethernet)];
	hooks->program_out = engine->program_ids[side_program(&sides[1], interface->ethernet)];
	return r;
}

/* -- filters of captures and checks -- */

/* Told by their handles: a slot, and whether the qdisc was made for it. */
#define CAPTURE_HANDLE       0x63617000
#define CAPTURE_HANDLE_MADE  0x100
#define CAPTURE_SLOTS        16
#define CAPTURE_PRIORITY_MAX 8

int engine_filter_add(struct engine *engine, uint32_t index, bool out, bool behind, int program,
	struct engine_filter *ret_filter)
{
	LIBBPF_OPTS(
		bpf_tc_hook, qdisc, .ifindex = (int)index, .attach_point = BPF_TC_INGRESS | BPF_TC_EGRESS);
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)index, .attach_point = sides[out].clsact);
	bool made;
	int r = bpf_tc_hook_create(&qdisc);

	(void)engine;
	if (r < 0 && r != -EEXIST)
		return r;
	made = r == 0;
	r = -EEXIST;
	/* of filters with one priority the last comes first */
	for (uint32_t priority = FILTER_PRIORITY + behind; priority < CAPTURE_PRIORITY_MAX && r < 0;
		priority++)
		for (uint32_t slot = 0; slot < CAPTURE_SLOTS && r < 0; slot++) {
			LIBBPF_OPTS(bpf_tc_opts, options, .prog_fd = program, .priority = priority,
				.handle = CAPTURE_HANDLE | (made ? CAPTURE_HANDLE_MADE : 0) | slot);

			r = bpf_tc_attach(&hook, &options);
			if (r == 0)
				*ret_filter = (struct engine_filter){options.priority, options.handle};
		}
	if (r < 0 && made)
		bpf_tc_hook_destroy(&qdisc);
	return r;
}

void engine_filter_remove(struct engine *engine, uint32_t index, bool out, const struct engine_filter *filter)
{
	LIBBPF_OPTS(
		bpf_tc_hook, qdisc, .ifindex = (int)index, .attach_point = BPF_TC_INGRESS | BPF_TC_EGRESS);

	if (!filter->priority)
		return;
	clsact_detach_side(index, &sides[out], filter->priority, filter->handle);
	if (filter->handle & CAPTURE_HANDLE_MADE && !clsact_in_use(engine, index))
		bpf_tc_hook_destroy(&qdisc);
}

static bool is_capture_filter(struct rtnl_cls *filter)
{
	uint32_t handle = rtnl_tc_get_handle(TC_CAST(filter));
	const char *kind = rtnl_tc_get_kind(TC_CAST(filter));

	return kind && strcmp(kind, "bpf") == 0 &&
	       (handle & ~(uint32_t)(CAPTURE_HANDLE_MADE | (CAPTURE_SLOTS - 1))) == CAPTURE_HANDLE;
}

static void filter_sweep(struct engine *engine, uint32_t index)
{
	for (int i = 0; i < 2; i++) {
		struct nl_cache *cache = NULL;

		if (rtnl_cls_alloc_cache(engine->requests, (int)index, clsact_parents[i], &cache) < 0)
			continue;
		for (struct nl_object *at = nl_cache_get_first(cache); at; at = nl_cache_get_next(at)) {
			struct rtnl_cls *cls = (struct rtnl_cls *)at;
			struct engine_filter filter = {
				rtnl_cls_get_prio(cls), rtnl_tc_get_handle(TC_CAST(cls))};

			if (is_capture_filter(cls))
				engine_filter_remove(engine, index, i, &filter);
		}
		nl_cache_free(cache);
	}
}

void engine_filter_sweep(struct engine *engine)
{
	_cleanup_free_ struct engine_interface *interfaces = NULL;
	size_t count = 0;

	if (engine_interfaces(engine, &interfaces, &count) < 0)
		return;
	for (size_t i = 0; i < count; i++)
		filter_sweep(engine, interfaces[i].index);
}

/* -- the filter of services -- */

#define BALANCE_HANDLE 0x77737663 /* "wsvc" */

/* The one that is there; 0: none. */
static uint32_t balance_priority(uint32_t index, uint32_t *ret_program)
{
	for (uint32_t priority = FILTER_PRIORITY; priority < CAPTURE_PRIORITY_MAX; priority++) {
		*ret_program = clsact_program(index, &sides[0], priority, BALANCE_HANDLE);
		if (*ret_program)
			return priority;
	}
	return 0;
}

int engine_filter_balance(uint32_t index, int program)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)index, .attach_point = BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, options, .prog_fd = program, .handle = BALANCE_HANDLE);
	struct bpf_prog_info info = {};
	__u32 length = sizeof(info), there = 0;
	int r = bpf_obj_get_info_by_fd(program, &info, &length) < 0 ? -errno : 0;

	if (r < 0)
		return r;
	options.priority = balance_priority(index, &there);
	if (options.priority) {
		options.flags = BPF_TC_F_REPLACE;
		return there == info.id ? 0 : bpf_tc_attach(&hook, &options);
	}
	/* of filters with one priority the last comes first */
	r = -EEXIST;
	for (uint32_t priority = FILTER_PRIORITY; priority < CAPTURE_PRIORITY_MAX && r < 0; priority++) {
		options.priority = priority;
		options.prog_id = 0;
		r = bpf_tc_attach(&hook, &options);
	}
	return r;
}

void engine_filter_unbalance(uint32_t index)
{
	uint32_t program, priority = balance_priority(index, &program);

	clsact_detach_side(index, &sides[0], priority, BALANCE_HANDLE);
}

int engine_attach(struct engine *engine, const struct engine_interface *interface,
	struct engine_hooks *ret_hooks, struct error *error)
{
	struct engine_hooks hooks = {};
	int r;

	if (engine_has(engine, "tcx"))
		r = tcx_attach(engine, interface, &hooks);
	else
		r = clsact_attach(engine, interface, &hooks);
	if (r < 0) {
		engine_detach(engine, interface->index);
		return error_set(
			error, r, "cannot attach to interface '%s': %s", interface->name, strerror(-r));
	}
	*ret_hooks = hooks;
	return 0;
}

int engine_detach(struct engine *engine, uint32_t index)
{
	struct engine_clsact entry;

	if (engine_has(engine, "tcx"))
		engine_balance_tc_detach(engine, index);
	for (int i = 0; i < 2; i++) {
		char path[PATH_MAX];

		if (unlink(link_path(engine, path, index, &sides[i])) < 0 && errno != ENOENT)
			return -errno;
	}
	if (engine->hooks_map >= 0 && bpf_map_lookup_elem(engine->hooks_map, &index, &entry) == 0) {
		clsact_detach(engine, index, &entry);
		bpf_map_delete_elem(engine->hooks_map, &index);
	}
	return 0;
}

void engine_forget_gone(struct engine *engine, const struct engine_interface *interfaces, size_t count)
{
	uint32_t index, next;
	int more;

	link_forget_gone(engine, LINK_PIN, interfaces, count);
	for (more = bpf_map_get_next_key(engine->hooks_map, NULL, &index); more == 0; index = next) {
		more = bpf_map_get_next_key(engine->hooks_map, &index, &next);
		if (!interface_is_among(interfaces, count, index))
			bpf_map_delete_elem(engine->hooks_map, &index);
	}
}

/* Whether a program is for raw links: asked by name, which all versions share. */
static bool is_raw_program(uint32_t id)
{
	struct bpf_prog_info info = {};
	__u32 length = sizeof(info);
	_cleanup_close_ int fd = bpf_prog_get_fd_by_id(id);

	return fd >= 0 && bpf_obj_get_info_by_fd(fd, &info, &length) == 0 &&
	       strncmp(info.name, "watch_raw", 9) == 0;
}

static void update_link(struct engine *engine, const struct engine_link *link, void *context)
{
	const struct hook_side *side = &sides[strcmp(link->name + strlen(link->name) - 4, "_out") == 0];

	(void)context;
	/* refused: take it away, and attaching finds no hook there and makes a new one */
	if (!link->index ||
		bpf_link_update(link->fd,
			engine_program(engine, side_program(side, !is_raw_program(link->program))), NULL) < 0)
		unlink(link->path);
}

static void update_filter(struct engine *engine, uint32_t index, const struct hook_side *side,
	uint32_t priority, uint32_t handle)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)index, .attach_point = side->clsact);
	uint32_t old = clsact_program(index, side, priority, handle);
	LIBBPF_OPTS(bpf_tc_opts, options, .priority = priority, .handle = handle, .flags = BPF_TC_F_REPLACE,
		.prog_fd = engine_program(engine, side_program(side, !is_raw_program(old))));

	if (old)
		bpf_tc_attach(&hook, &options);
}

void engine_replace_programs(struct engine *engine)
{
	uint32_t index, *previous = NULL;

	link_each(engine, LINK_PIN, update_link, NULL);
	while (bpf_map_get_next_key(engine->hooks_map, previous, &index) == 0) {
		struct engine_clsact entry;

		previous = &index;
		if (bpf_map_lookup_elem(engine->hooks_map, &index, &entry) < 0)
			continue;
		update_filter(engine, index, &sides[0], entry.priority_in, entry.handle_in);
		update_filter(engine, index, &sides[1], entry.priority_out, entry.handle_out);
	}
}

static void detach_link(struct engine *engine, const struct engine_link *link, void *context)
{
	(void)engine;
	(void)context;
	unlink(link->path);
}

void engine_detach_all(struct engine *engine)
{
	uint32_t index;

	link_each(engine, LINK_PIN, detach_link, NULL);
	if (engine->requests && !engine_has(engine, "tcx"))
		engine_filter_sweep(engine);
	if (engine->hooks_map < 0)
		return;
	while (bpf_map_get_next_key(engine->hooks_map, NULL, &index) == 0) {
		engine_detach(engine, index);
		bpf_map_delete_elem(engine->hooks_map, &index);
	}
}

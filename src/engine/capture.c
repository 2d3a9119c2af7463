// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Loading a capture's programs and putting them at their hooks. */
#include "engine/capture.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/if_packet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "basic/cleanup.h"
#include "capture.skel.h"
#include "compile/expression.h"
#include "engine/internal.h"
#include "engine/shield.h"

#define SEGMENT_FILL_MIN (128U << 10)
#define SEGMENTS_MIN     4

/* Names of Linux 6.6's uapi that Debian 12's headers do not have yet. */
#define TCX_INGRESS   ((enum bpf_attach_type)46)
#define TCX_EGRESS    ((enum bpf_attach_type)47)
#define LINK_F_BEFORE (1U << 3)
#define LINK_F_AFTER  (1U << 4)
#define LINK_F_LINK   (1U << 13) /* the relative is a link */

#ifndef PACKET_IGNORE_OUTGOING
#define PACKET_IGNORE_OUTGOING 23
#endif

enum direction { DIRECTION_IN, DIRECTION_OUT, DIRECTIONS };

/* Where a capture is at work on an interface. */
struct capture_hook {
	uint32_t ifindex;
	const char *kind;
	int fds[DIRECTIONS]; /* links or sockets */
	struct engine_filter filters[DIRECTIONS];
};

struct engine_capture {
	struct engine *engine;
	struct engine_capture_options options;
	struct capture_bpf *skeleton;
	struct engine_capture_view view;
	size_t segments_bytes, states_bytes;
	int tails;                  /* the map with the programs that expressions end in, by direction */
	int filters[DIRECTIONS][2]; /* by link; -1: not made yet */
	struct capture_hook *hooks;
	size_t hook_count;
};

/* What is special about a place. */
struct place {
	const char *name;
	enum bpf_prog_type type;
	enum bpf_attach_type attach_type; /* expected, as libbpf has it for the section of the programs */
	uint32_t flags;
	enum expression_context context;
	int next; /* what a program returns to hand a packet on */
	/* By direction, without and with an Ethernet header; NULL: does not see that direction by itself. */
	const char *programs[DIRECTIONS][2];
};

static const struct place places[CAPTURE_PLACES] = {
	[CAPTURE_TC] = {"tc", BPF_PROG_TYPE_SCHED_CLS, 0, 0, EXPRESSION_SKB, -1 /* TCX_NEXT, TC_ACT_UNSPEC */,
		{{"capture_tc_in_raw", "capture_tc_in"}, {"capture_tc_out", "capture_tc_out"}}},
	[CAPTURE_XDP] = {"xdp", BPF_PROG_TYPE_XDP, BPF_XDP, BPF_F_XDP_HAS_FRAGS, EXPRESSION_XDP, XDP_PASS,
		{{"capture_xdp", "capture_xdp"}}},
	[CAPTURE_SOCKET] = {"socket", BPF_PROG_TYPE_SOCKET_FILTER, 0, 0, EXPRESSION_SOCKET, 0,
		{{"capture_socket", "capture_socket"}}},
	[CAPTURE_DROP] = {"drop", BPF_PROG_TYPE_TRACING, 0, 0, EXPRESSION_BUFFER, 0,
		{{"capture_drop", "capture_drop"}}},
};

static int program_of(const struct engine_capture *capture, enum direction direction, bool ethernet)
{
	const char *name = places[capture->options.place].programs[direction][ethernet];

	return bpf_program__fd(bpf_object__find_program_by_name(capture->skeleton->obj, name));
}

/* The program to attach: the expression in front of the capture, or the capture alone. */
static int filter_of(struct engine_capture *capture, enum direction direction, bool ethernet, int *ret_fd,
	struct error *error)
{
	const struct place *place = &places[capture->options.place];
	const struct expression *expression = ethernet ? capture->options.ethernet : capture->options.raw;
	int *filter = &capture->filters[direction][ethernet];
	const struct bpf_insn match[] = {
		{.code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = BPF_REG_1, .src_reg = BPF_REG_6},
		{.code = BPF_DW, /* BPF_LD and BPF_IMM are 0 */
			.dst_reg = BPF_REG_2,
			.src_reg = BPF_PSEUDO_MAP_FD,
			.imm = capture->tails},
		{},
		{.code = BPF_ALU64 | BPF_MOV | BPF_K,
			.dst_reg = BPF_REG_3,
			.imm = (int)(2 * direction + ethernet)},
		{.code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_tail_call},
	};
	const struct bpf_insn no_match[] = {
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = place->next},
		{.code = BPF_JMP | BPF_EXIT},
	};
	struct expression_target target = {
		.context = place->context,
		.direction = direction == DIRECTION_IN ? EXPRESSION_IN : EXPRESSION_OUT,
		.match = match,
		.match_count = sizeof(match) / sizeof(match[0]),
		.no_match = no_match,
		.no_match_count = sizeof(no_match) / sizeof(no_match[0]),
	};
	LIBBPF_OPTS(bpf_prog_load_opts, options, .expected_attach_type = place->attach_type,
		.prog_flags = place->flags);
	struct expression_code code = {};
	int r;

	if (!expression) {
		*ret_fd = program_of(capture, direction, ethernet);
		return 0;
	}
	if (*filter < 0) {
		r = expression_translate(expression, &target, &code, error);
		if (r < 0)
			return r;
		r = bpf_prog_load(place->type, "capture_filter", "Dual BSD/GPL", code.instructions,
			code.count, &options);
		expression_code_clear(&code);
		if (r < 0) {
			error_set(error, r, "the kernel does not take the expression's program: %s",
				strerror(-r));
			return r;
		}
		*filter = r;
	}
	*ret_fd = *filter;
	return 0;
}

/* -- hooks -- */

static int clsact_add(struct engine_capture *capture, const struct engine_interface *interface,
	struct capture_hook *hook, struct error *error)
{
	hook->kind = "clsact";
	for (enum direction direction = DIRECTION_IN; direction < DIRECTIONS; direction++) {
		int program, r;

		if (interface->loopback && direction == DIRECTION_OUT)
			continue;
		r = filter_of(capture, direction, interface->ethernet, &program, error);
		if (r < 0)
			return r;
		r = engine_filter_add(capture->engine, interface->index, direction == DIRECTION_OUT, false,
			program, &hook->filters[direction]);
		if (r < 0)
			return error_set(error, r, "cannot capture on interface '%s': %s", interface->name,
				strerror(-r));
	}
	return 0;
}

static int tcx_add(struct engine_capture *capture, const struct engine_interface *interface,
	struct capture_hook *hook, struct error *error)
{
	static const enum bpf_attach_type types[DIRECTIONS] = {TCX_INGRESS, TCX_EGRESS};

	hook->kind = "tcx";
	for (enum direction direction = DIRECTION_IN; direction < DIRECTIONS; direction++) {
		LIBBPF_OPTS(bpf_link_create_opts, options, .flags = LINK_F_BEFORE);
		_cleanup_close_ int own = -1;
		int program, r;

		/* what goes out through the loopback interface comes in again; tcpdump shows that once, too
		 */
		if (interface->loopback && direction == DIRECTION_OUT)
			continue;
		r = filter_of(capture, direction, interface->ethernet, &program, error);
		if (r < 0)
			return r;
		/* Behind our own: what weir drops does not leave.  Not last of all: whoever else is there may
		 * end the chain with every packet he lets pass. */
		if (direction == DIRECTION_OUT)
			own = engine_hook_link(capture->engine, interface->index, true);
		if (own >= 0) {
			options.flags = LINK_F_AFTER | LINK_F_LINK;
			options.target_btf_id =
				(__u32)own; /* tcx.relative_fd, in the same place of the union */
		}
		hook->fds[direction] =
			bpf_link_create(program, (int)interface->index, types[direction], &options);
		if (hook->fds[direction] < 0)
			return error_set(error, hook->fds[direction], "cannot capture on interface '%s': %s",
				interface->name, strerror(-hook->fds[direction]));
	}
	return 0;
}

static int xdp_add(struct engine_capture *capture, const struct engine_interface *interface,
	struct capture_hook *hook, struct error *error)
{
	static const struct {
		uint32_t flags;
		const char *kind;
	} modes[] = {{XDP_FLAGS_DRV_MODE, "xdp native"}, {XDP_FLAGS_SKB_MODE, "xdp generic"}};
	int program, link = -1, r = filter_of(capture, DIRECTION_IN, interface->ethernet, &program, error);

	if (r < 0)
		return r;
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]) && link < 0 && link != -EBUSY; i++) {
		LIBBPF_OPTS(bpf_link_create_opts, options, .flags = modes[i].flags);

		/* it would take packets' link headers from who looks at them in tc (component_load_whole())
		 */
		if (modes[i].flags == XDP_FLAGS_SKB_MODE && component_has_function("skb_cow_data_for_xdp")) {
			error_set(error, -EOPNOTSUPP,
				"XDP of interface '%s' is generic, which on this kernel "
				"changes packets that are captured",
				interface->name);
			return error_want(error, "capture at tc");
		}
		hook->kind = modes[i].kind;
		link = bpf_link_create(program, (int)interface->index, BPF_XDP, &options);
	}
	/* somebody else's generic program is no obstacle for a native one, as far as the kernel is asked */
	if (link == -EBUSY || link == -EEXIST) {
		struct engine_shield shield;

		engine_shield_query(capture->engine, interface->index, &shield);
		if (shield.mode) {
			error_set(error, link, "weir's own rules are decided at XDP on interface '%s'",
				interface->name);
			return error_want(error, "capture at tc; with 'xdp: off' and 'weir reload' it sees "
						 "what rules drop, too");
		}
		error_set(error, link, "interface '%s' has an XDP program already", interface->name);
		return error_want(error, "capture at tc, which shares; or take that program off first");
	}
	if (link < 0)
		return error_set(error, link, "cannot capture at xdp on interface '%s': %s", interface->name,
			strerror(-link));
	hook->fds[DIRECTION_IN] = link;
	return 0;
}

/* A packet socket that gets nothing: its filter has seen, and written, all. */
static int socket_add(struct engine_capture *capture, const struct engine_interface *interface,
	struct capture_hook *hook, struct error *error)
{
	struct sockaddr_ll address = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(ETH_P_ALL),
		.sll_ifindex = (int)interface->index,
	};
	int program, one = 1, r = filter_of(capture, DIRECTION_IN, interface->ethernet, &program, error);

	if (r < 0)
		return r;
	hook->kind = "socket";
	/* protocol 0: asleep until it is bound, when its filter is there */
	hook->fds[DIRECTION_IN] = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (hook->fds[DIRECTION_IN] < 0 ||
		(interface->loopback && setsockopt(hook->fds[DIRECTION_IN], SOL_PACKET,
						PACKET_IGNORE_OUTGOING, &one, sizeof(one)) < 0) ||
		setsockopt(hook->fds[DIRECTION_IN], SOL_SOCKET, SO_ATTACH_BPF, &program, sizeof(program)) <
			0 ||
		bind(hook->fds[DIRECTION_IN], (struct sockaddr *)&address, sizeof(address)) < 0)
		return error_set(error, -errno, "cannot capture with a packet socket on interface '%s': %s",
			interface->name, strerror(errno));
	return 0;
}

/* One program for all interfaces. */
static int drop_add(struct engine_capture *capture, const struct engine_interface *interface,
	struct capture_hook *hook, struct error *error)
{
	(void)interface;
	hook->kind = "drop";
	if (capture->hook_count)
		return 0;
	hook->fds[DIRECTION_IN] = bpf_raw_tracepoint_open(NULL, program_of(capture, DIRECTION_IN, true));
	if (hook->fds[DIRECTION_IN] < 0)
		return error_set(error, hook->fds[DIRECTION_IN], "cannot capture dropped packets: %s",
			strerror(-hook->fds[DIRECTION_IN]));
	return 0;
}

static int tc_add(struct engine_capture *capture, const struct engine_interface *interface,
	struct capture_hook *hook, struct error *error)
{
	return (engine_has(capture->engine, "tcx") ? tcx_add : clsact_add)(capture, interface, hook, error);
}

static void hook_remove(struct engine_capture *capture, struct capture_hook *hook)
{
	for (enum direction direction = DIRECTION_IN; direction < DIRECTIONS; direction++) {
		if (hook->fds[direction] >= 0)
			close(TAKE_FD(hook->fds[direction]));
		engine_filter_remove(capture->engine, hook->ifindex, direction == DIRECTION_OUT,
			&hook->filters[direction]);
	}
}

typedef int hook_function(struct engine_capture *capture, const struct engine_interface *interface,
	struct capture_hook *hook, struct error *error);

int engine_capture_add(struct engine_capture *capture, const struct engine_interface *interface,
	uint32_t number, struct error *error)
{
	static hook_function *const add[CAPTURE_PLACES] = {[CAPTURE_TC] = tc_add,
		[CAPTURE_XDP] = xdp_add,
		[CAPTURE_SOCKET] = socket_add,
		[CAPTURE_DROP] = drop_add};
	struct capture_interface entry = {.number = number};
	struct capture_hook hook = {.ifindex = interface->index, .fds = {-1, -1}};
	struct capture_hook *hooks =
		reallocarray(capture->hooks, capture->hook_count + 1, sizeof(struct capture_hook));
	int r;

	if (!hooks)
		return error_set(error, -ENOMEM, "out of memory");
	capture->hooks = hooks;
	r = bpf_map__update_elem(capture->skeleton->maps.capture_interfaces, &interface->index,
		sizeof(interface->index), &entry, sizeof(entry), BPF_ANY);
	if (r < 0) {
		error_set(error, r, "too many interfaces for a capture");
		return error_want(error, "at most %d", CAPTURE_INTERFACES);
	}
	r = add[capture->options.place](capture, interface, &hook, error);
	if (r < 0) {
		hook_remove(capture, &hook);
		return r;
	}
	capture->hooks[capture->hook_count++] = hook;
	return 0;
}

const char *engine_capture_hook(const struct engine_capture *capture, uint32_t ifindex)
{
	for (size_t i = 0; i < capture->hook_count; i++)
		if (capture->hooks[i].ifindex == ifindex)
			return capture->hooks[i].kind;
	return "";
}

uint64_t engine_capture_lost(const struct engine_capture *capture, uint32_t ifindex)
{
	struct capture_interface entry;

	return bpf_map__lookup_elem(capture->skeleton->maps.capture_interfaces, &ifindex, sizeof(ifindex),
		       &entry, sizeof(entry), 0) == 0
	               ? entry.lost
	               : 0;
}

const struct engine_capture_view *engine_capture_view(const struct engine_capture *capture)
{
	return &capture->view;
}

int engine_capture_memory(const struct engine_capture *capture)
{
	return bpf_map__fd(capture->skeleton->maps.capture_segments);
}

/* -- loading -- */

static void set_sizes(struct engine_capture *capture)
{
	struct engine_capture_view *view = &capture->view;
	struct capture_bpf *skeleton = capture->skeleton;
	/* what a segment has room for besides the places where a block may begin */
	const size_t besides =
		sizeof(struct capture_segment) + capture->options.snaplen + CAPTURE_BLOCK_EXTRA;

	view->cpus = capture->engine->meta.cpus;
	view->segment_bytes = (SEGMENT_FILL_MIN + besides + 7) & ~(size_t)7;
	view->segments = SEGMENTS_MIN;
	while (2 * view->segments * view->segment_bytes <= capture->options.ring_bytes)
		view->segments *= 2;
	/* their number is a power of two, and all of the ring is theirs */
	if (view->segments * view->segment_bytes < capture->options.ring_bytes)
		view->segment_bytes = (capture->options.ring_bytes / view->segments) & ~(size_t)7;
	view->fill = (uint32_t)(view->segment_bytes - besides);
	skeleton->rodata->capture_snaplen = capture->options.snaplen;
	skeleton->rodata->capture_fill = view->fill;
	skeleton->rodata->capture_segments_cpu = view->segments;
	skeleton->rodata->capture_overwrites = capture->options.overwrites;
	skeleton->rodata->netns_cookie = capture->engine->netns_cookie;
	skeleton->rodata->has_socket_argument = engine_drop_has_socket();
	skeleton->rodata->owner_off = !capture->engine->watch.owners;
	bpf_map__set_value_size(skeleton->maps.capture_segments, (__u32)view->segment_bytes);
	bpf_map__set_max_entries(skeleton->maps.capture_segments, view->cpus * view->segments);
	bpf_map__set_max_entries(skeleton->maps.capture_cpus, view->cpus);
	capture->segments_bytes = view->cpus * view->segments * view->segment_bytes;
	capture->states_bytes = view->cpus * sizeof(struct capture_cpu);
}

/* Owners stand in the maps of the datapath; what has another name is the capture's own. */
static int share_maps(struct engine_capture *capture, struct error *error)
{
	struct bpf_map *map;

	bpf_object__for_each_map (map, capture->skeleton->obj) {
		const char *name = bpf_map__name(map);
		char path[PATH_MAX];
		int r;

		if (bpf_map__is_internal(map) || strncmp(name, "capture_", strlen("capture_")) == 0)
			continue;
		_cleanup_close_ int fd = bpf_obj_get(pins_path(&capture->engine->pins, path, name));

		r = fd < 0 ? bpf_map__set_autocreate(map, false) : bpf_map__reuse_fd(map, fd);
		if (r < 0)
			return error_set(error, r, "cannot use %s/%s: %s", capture->engine->pins.path, name,
				strerror(-r));
	}
	return 0;
}

static int load(struct engine_capture *capture, struct error *error)
{
	const struct place *place = &places[capture->options.place];
	struct bpf_program *program;
	int r;

	capture->skeleton = capture_bpf__open();
	if (!capture->skeleton)
		return error_set(error, -errno, "cannot open the capture's programs: %s", strerror(errno));
	set_sizes(capture);
	bpf_object__for_each_program (program, capture->skeleton->obj) {
		bool wanted = false;

		for (int i = 0; i < 2 * DIRECTIONS; i++) {
			const char *name = place->programs[i / 2][i % 2];

			wanted |= name && strcmp(name, bpf_program__name(program)) == 0;
		}
		bpf_program__set_autoload(program, wanted);
	}
	r = share_maps(capture, error);
	if (r < 0)
		return r;
	r = bpf_object__load(capture->skeleton->obj);
	if (r < 0)
		return error_set(error, r, "cannot load the capture's programs: %s", strerror(-r));

	if (capture->options.place == CAPTURE_DROP)
		return 0;
	capture->tails = bpf_map_create(BPF_MAP_TYPE_PROG_ARRAY, "capture_tails", 4, 4, 2 * DIRECTIONS, NULL);
	if (capture->tails < 0)
		return error_set(error, -errno, "cannot make a map: %s", strerror(errno));
	for (__u32 i = 0; i < 2 * DIRECTIONS; i++) {
		int fd = place->programs[i / 2][i % 2] ? program_of(capture, i / 2, i % 2) : -1;

		if (fd >= 0 && bpf_map_update_elem(capture->tails, &i, &fd, BPF_ANY) < 0)
			return error_set(error, -errno, "cannot write a map: %s", strerror(errno));
	}
	return 0;
}

static int map_memory(struct engine_capture *capture, struct error *error)
{
	struct capture_bpf *skeleton = capture->skeleton;
	void *memory = mmap(NULL, capture->segments_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
		bpf_map__fd(skeleton->maps.capture_segments), 0);
	void *states;

	if (memory == MAP_FAILED)
		return error_set(error, -errno, "cannot map the capture's memory: %s", strerror(errno));
	capture->view.memory = memory;
	states = mmap(NULL, capture->states_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
		bpf_map__fd(skeleton->maps.capture_cpus), 0);
	if (states == MAP_FAILED)
		return error_set(error, -errno, "cannot map the capture's memory: %s", strerror(errno));
	capture->view.states = states;
	return 0;
}

int engine_capture_open(struct engine *engine, const struct engine_capture_options *options,
	struct engine_capture **ret_capture, struct error *error)
{
	struct engine_capture *capture = calloc(1, sizeof(*capture));
	int r;

	if (!capture)
		return error_set(error, -ENOMEM, "out of memory");
	*capture = (struct engine_capture){
		.engine = engine, .options = *options, .tails = -1, .filters = {{-1, -1}, {-1, -1}}};
	r = load(capture, error);
	if (r == 0)
		r = map_memory(capture, error);
	if (r < 0) {
		engine_capture_close(capture);
		return r;
	}
	*ret_capture = capture;
	return 0;
}

void engine_capture_close(struct engine_capture *capture)
{
	if (!capture)
		return;
	for (size_t i = 0; i < capture->hook_count; i++)
		hook_remove(capture, &capture->hooks[i]);
	free(capture->hooks);
	for (int i = 0; i < DIRECTIONS; i++)
		for (int j = 0; j < 2; j++)
			if (capture->filters[i][j] >= 0)
				close(capture->filters[i][j]);
	if (capture->tails >= 0)
		close(capture->tails);
	if (capture->view.memory)
		munmap(capture->view.memory, capture->segments_bytes);
	if (capture->view.states)
		munmap(capture->view.states, capture->states_bytes);
	capture_bpf__destroy(capture->skeleton);
	free(capture);
}

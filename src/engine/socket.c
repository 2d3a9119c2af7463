// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Loading and reading the socket monitor. */
#include "engine/socket.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "basic/cleanup.h"
#include "engine/internal.h"
#include "socket.skel.h"

struct engine_socket {
	struct socket_bpf *skeleton;
	struct ring_buffer *ring;
	struct bpf_link *lists[2]; /* iterators over TCP and UDP: who may begin one may not attach one */
	engine_socket_function *function; /* of the reading that is going on */
	void *context;
	unsigned int cpus;
	bool counts_udp;
	uint32_t wants;
};

static int on_record(void *context, void *record, size_t size)
{
	struct engine_socket *state = context;

	if (state->function && size >= sizeof(struct socket_head))
		state->function(state->context, record, size >= sizeof(struct socket_record) ? record : NULL);
	return 0;
}

static void wants_set(struct engine_socket *state, uint32_t wants)
{
	uint32_t zero = 0;

	if (wants != state->wants && bpf_map_update_elem(bpf_map__fd(state->skeleton->maps.socket_wants),
					     &zero, &wants, BPF_ANY) == 0)
		state->wants = wants;
}

static int attach(struct engine *engine, struct engine_socket *state, struct error *error)
{
	struct bpf_program *const lists[] = {
		state->skeleton->progs.socket_list_tcp, state->skeleton->progs.socket_list_udp};
	struct bpf_program *program;
	int r = 0;

	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		state->lists[i] = bpf_program__attach_iter(lists[i], NULL);
		if (!state->lists[i])
			return error_set(error, -errno, "cannot attach %s: %s", bpf_program__name(lists[i]),
				strerror(errno));
	}
	bpf_object__for_each_program (program, state->skeleton->obj) {
		if (!bpf_program__autoload(program) || r < 0)
			continue;
		if (program == lists[0] || program == lists[1])
			continue;
		if (bpf_program__expected_attach_type(program) == BPF_TRACE_RAW_TP)
			r = engine->watch.sockets ? component_attach_trace(engine, program, error) : 0;
		else if (!engine->watch.sockets)
			component_detach_cgroup(engine, program);
		else
			r = component_attach_cgroup(engine, program, error);
	}
	return r;
}

static void socket_close(void *state_taken)
{
	struct engine_socket *state = state_taken;

	ring_buffer__free(state->ring);
	for (size_t i = 0; i < sizeof(state->lists) / sizeof(state->lists[0]); i++)
		bpf_link__destroy(state->lists[i]);
	socket_bpf__destroy(state->skeleton);
	free(state);
}

static int socket_open(struct engine *engine, void **ret_state, struct error *error)
{
	struct engine_socket *state = *ret_state = calloc(1, sizeof(*state));
	int r;

	if (!state)
		return error_set(error, -ENOMEM, "out of memory");
	state->cpus = engine->meta.cpus;
	state->wants = ~0U; /* not known */
	state->skeleton = socket_bpf__open();
	if (!state->skeleton)
		return error_set(error, -errno, "cannot open the socket programs: %s", strerror(errno));
	state->counts_udp = component_has_tracepoint("sock_send_length");
	state->skeleton->rodata->socket_counts_udp = state->counts_udp;
	state->skeleton->rodata->socket_has_owner = engine->watch.owners;
	state->skeleton->rodata->owner_casts = component_has_function("bpf_rdonly_cast");
	bpf_program__set_autoload(state->skeleton->progs.socket_sent, state->counts_udp);
	bpf_program__set_autoload(state->skeleton->progs.socket_received, state->counts_udp);
	r = component_load(engine, state->skeleton->obj, "socket", error);
	if (r == 0)
		r = component_ring(
			state->skeleton->obj, "socket_ring", on_record, state, &state->ring, error);
	if (r == 0)
		r = attach(engine, state, error);
	if (r == 0)
		wants_set(state, 0); /* an earlier agent may have wanted more */
	return r;
}

const struct engine_part socket_part = {.name = "socket", .open = socket_open, .close = socket_close};

static struct engine_socket *state_of(struct engine *engine)
{
	return engine_part_state(engine, &socket_part);
}

int engine_socket_fd(struct engine *engine)
{
	return ring_buffer__epoll_fd(state_of(engine)->ring);
}

void engine_socket_read(struct engine *engine, engine_socket_function *function, void *context)
{
	struct engine_socket *state = state_of(engine);

	state->function = function;
	state->context = context;
	ring_buffer__consume(state->ring);
	state->function = NULL;
}

/* Reads one iterator to its end; a record may come in two pieces. */
static int list_read(struct bpf_link *link, engine_socket_list_function *function, void *context)
{
	_cleanup_close_ int fd = bpf_iter_create(bpf_link__fd(link));
	struct socket_record records[128];
	size_t have = 0, whole;
	ssize_t length = fd < 0 ? -1 : 1;

	while (length > 0) {
		length = read(fd, (char *)records + have, sizeof(records) - have);
		if (length <= 0)
			break;
		have += (size_t)length;
		whole = have / sizeof(records[0]);
		for (size_t i = 0; i < whole; i++)
			if (function(context, &records[i]) != 0)
				return 0;
		have -= whole * sizeof(records[0]);
		memmove(records, records + whole, have);
	}
	return length < 0 ? -errno : 0;
}

int engine_socket_list(struct engine *engine, bool new, engine_socket_list_function *function, void *context)
{
	struct engine_socket *state = state_of(engine);
	int r = 0;

	if (new)
		wants_set(state, state->wants | SOCKET_WANTS_NEW);
	for (size_t i = 0; i < sizeof(state->lists) / sizeof(state->lists[0]) && r == 0; i++)
		r = list_read(state->lists[i], function, context);
	wants_set(state, state->wants & ~(uint32_t)SOCKET_WANTS_NEW);
	return r;
}

void engine_socket_want(struct engine *engine, bool all, bool states)
{
	wants_set(state_of(engine), (all ? SOCKET_WANTS_ALL : 0) | (states ? SOCKET_WANTS_STATES : 0));
}

/* Of this agent's programs, since it has loaded them. */
static uint64_t missed_events(const struct engine_socket *state)
{
	struct bpf_program *program;
	uint64_t missed = 0;

	bpf_object__for_each_program (program, state->skeleton->obj) {
		struct bpf_prog_info info = {};
		__u32 size = sizeof(info);

		if (bpf_program__autoload(program) &&
			bpf_obj_get_info_by_fd(bpf_program__fd(program), &info, &size) == 0)
			missed += info.recursion_misses;
	}
	return missed;
}

void engine_socket_stats(struct engine *engine, struct socket_stats *ret_stats)
{
	struct engine_socket *state = state_of(engine);
	_cleanup_free_ struct socket_stats *parts = calloc(state->cpus, sizeof(*parts));
	uint64_t *sums = (uint64_t *)ret_stats;
	uint32_t zero = 0;

	*ret_stats = (struct socket_stats){};
	if (!parts || bpf_map_lookup_elem(bpf_map__fd(state->skeleton->maps.socket_stats), &zero, parts) < 0)
		return;
	for (unsigned int cpu = 0; cpu < state->cpus; cpu++)
		for (size_t i = 0; i < sizeof(*parts) / sizeof(uint64_t); i++)
			sums[i] += ((uint64_t *)&parts[cpu])[i];
	ret_stats->missed = missed_events(state);
}

bool engine_socket_counts_udp(struct engine *engine)
{
	return state_of(engine)->counts_udp;
}

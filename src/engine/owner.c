// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Loading and reading what records owners. */
#include "engine/owner.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "basic/cleanup.h"
#include "basic/log.h"
#include "engine/internal.h"
#include "owner.skel.h"

/* The value of the map `owners`: an identity with room behind it that the verifier wants. */
struct owner_entry {
	struct owner owner;
	char slack[OWNER_PATH_MAX];
};

struct engine_owner {
	struct owner_bpf *skeleton;
	struct ring_buffer *ring;
	engine_owner_function *function; /* of the reading that is going on */
	void *context;
	unsigned int cpus;
};

static int on_record(void *context, void *record, size_t size)
{
	struct engine_owner *state = context;

	if (size >= sizeof(struct owner) && state->function)
		state->function(state->context, record);
	return 0;
}

/* Where sockets are watched, those programs record owners, too; and each kernel has its own way to tell that
 * a process uses a socket. */
static void choose_programs(struct owner_bpf *skeleton, bool sockets)
{
	bool known = component_has_tracepoint("sock_send_length");
	struct bpf_program *sparable[] = {
		skeleton->progs.owner_create, skeleton->progs.owner_release, skeleton->progs.owner_destroy};
	struct bpf_program *functions[] = {skeleton->progs.owner_inet_sendmsg,
		skeleton->progs.owner_inet6_sendmsg, skeleton->progs.owner_inet_recvmsg,
		skeleton->progs.owner_inet6_recvmsg};

	for (size_t i = 0; i < sizeof(sparable) / sizeof(sparable[0]); i++)
		bpf_program__set_autoload(sparable[i], !sockets);
	bpf_program__set_autoload(skeleton->progs.owner_sent, known && !sockets);
	bpf_program__set_autoload(skeleton->progs.owner_received, known && !sockets);
	for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++)
		bpf_program__set_autoload(functions[i], !known);
}

/* Has the iterator go over the open files of all processes. */
static int find_open_sockets(struct owner_bpf *skeleton, struct error *error)
{
	struct bpf_link *link = bpf_program__attach_iter(skeleton->progs.owner_find_open, NULL);
	_cleanup_close_ int fd = link ? bpf_iter_create(bpf_link__fd(link)) : -1;
	char nothing[64];
	ssize_t length = fd < 0 ? -1 : 1;

	while (length > 0)
		length = read(fd, nothing, sizeof(nothing));
	if (length < 0)
		error_set(error, -errno, "cannot find the owners of open sockets: %s", strerror(errno));
	bpf_link__destroy(link);
	return length < 0 ? error->code : 0;
}

static int attach(struct engine *engine, struct owner_bpf *skeleton, struct error *error)
{
	struct bpf_program *program;
	int r = 0;

	bpf_object__for_each_program (program, skeleton->obj) {
		if (!bpf_program__autoload(program) || r < 0)
			continue;
		if (bpf_program__type(program) == BPF_PROG_TYPE_CGROUP_SOCK)
			r = component_attach_cgroup(engine, program, error);
		else if (program != skeleton->progs.owner_find_open)
			r = component_attach_trace(engine, program, error);
	}
	return r;
}

static void owner_close(void *state_taken)
{
	struct engine_owner *state = state_taken;

	ring_buffer__free(state->ring);
	owner_bpf__destroy(state->skeleton);
	free(state);
}

static int owner_open(struct engine *engine, void **ret_state, struct error *error)
{
	struct engine_owner *state = *ret_state = calloc(1, sizeof(*state));
	int r;

	if (!state)
		return error_set(error, -ENOMEM, "out of memory");
	state->cpus = engine->meta.cpus;
	state->skeleton = owner_bpf__open();
	if (!state->skeleton)
		return error_set(error, -errno, "cannot open the owner programs: %s", strerror(errno));
	bpf_map__set_max_entries(state->skeleton->maps.owners, engine->meta.sizes.owners);
	bpf_map__set_max_entries(state->skeleton->maps.owner_ids, engine->meta.sizes.owners);
	state->skeleton->rodata->owner_casts = component_has_function("bpf_rdonly_cast");
	choose_programs(state->skeleton, engine->watch.sockets);
	r = component_load(engine, state->skeleton->obj, "owner", error);
	if (r == 0)
		r = component_ring(state->skeleton->obj, "owner_ring", on_record, state, &state->ring, error);
	if (r == 0 && engine->watch.owners)
		r = attach(engine, state->skeleton, error);
	return r;
}

const struct engine_part owner_part = {.name = "owner", .open = owner_open, .close = owner_close};

static void owner_end_close(void *state)
{
	(void)state;
}

/* Behind all hooks, this part's and the socket monitor's: so that no socket falls between them and those that
 * were open before, nor between the programs of an earlier agent and these. */
static int owner_end_open(struct engine *engine, void **ret_state, struct error *error)
{
	struct engine_owner *state = engine_part_state(engine, &owner_part);

	*ret_state = state;
	if (!engine->watch.owners || engine->watch.sockets) {
		component_detach_cgroup(engine, state->skeleton->progs.owner_create);
		component_detach_cgroup(engine, state->skeleton->progs.owner_release);
	}
	return engine->watch.owners ? find_open_sockets(state->skeleton, error) : 0;
}

const struct engine_part owner_end_part = {
	.name = "owner-end", .open = owner_end_open, .close = owner_end_close};

static struct engine_owner *state_of(struct engine *engine)
{
	return engine_part_state(engine, &owner_part);
}

int engine_owner_fd(struct engine *engine)
{
	return ring_buffer__epoll_fd(state_of(engine)->ring);
}

void engine_owner_read(struct engine *engine, engine_owner_function *function, void *context)
{
	struct engine_owner *state = state_of(engine);

	state->function = function;
	state->context = context;
	ring_buffer__consume(state->ring);
	state->function = NULL;
}

int engine_owner_get(struct engine *engine, uint32_t id, struct owner *ret_owner)
{
	struct owner_entry entry;

	if (bpf_map_lookup_elem(bpf_map__fd(state_of(engine)->skeleton->maps.owners), &id, &entry) < 0)
		return -errno;
	*ret_owner = entry.owner;
	return 0;
}

int engine_owner_suppose(struct engine *engine, const struct owner *owner, struct error *error)
{
	int fd = bpf_map__fd(state_of(engine)->skeleton->maps.owners);
	struct owner_entry entry = {};
	uint32_t id = OWNER_SUPPOSED;

	if (!owner) {
		bpf_map_delete_elem(fd, &id);
		return 0;
	}
	entry.owner = *owner;
	entry.owner.id = id;
	if (bpf_map_update_elem(fd, &id, &entry, BPF_ANY) < 0)
		return error_set(
			error, -errno, "cannot ask for a process without a socket: %s", strerror(errno));
	return 0;
}

void engine_owner_each(struct engine *engine, engine_owner_function *function, void *context)
{
	int fd = bpf_map__fd(state_of(engine)->skeleton->maps.owners);
	uint32_t id, *before = NULL, key;
	struct owner owner;

	while (bpf_map_get_next_key(fd, before, &id) == 0) {
		if (engine_owner_get(engine, id, &owner) == 0 && function(context, &owner) != 0)
			return;
		key = id;
		before = &key;
	}
}

void engine_owner_stats(struct engine *engine, struct owner_stats *ret_stats)
{
	struct engine_owner *state = state_of(engine);
	_cleanup_free_ struct owner_stats *parts = calloc(state->cpus, sizeof(*parts));
	uint32_t zero = 0;

	*ret_stats = (struct owner_stats){};
	if (!parts || bpf_map_lookup_elem(bpf_map__fd(state->skeleton->maps.owner_stats), &zero, parts) < 0)
		return;
	for (unsigned int cpu = 0; cpu < state->cpus; cpu++) {
		ret_stats->identities += parts[cpu].identities;
		ret_stats->unreported += parts[cpu].unreported;
		ret_stats->refused += parts[cpu].refused;
		ret_stats->sockets += parts[cpu].sockets;
		ret_stats->passed += parts[cpu].passed;
	}
}

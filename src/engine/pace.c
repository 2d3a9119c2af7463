// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Pacing: loading it, and the visits to sockets that were there before. */
#include "engine/pace.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "basic/cleanup.h"
#include "basic/log.h"
#include "engine/internal.h"
#include "engine/shape.h"
#include "pace.skel.h"

/* As in bpf/pace.bpf.c. */
struct pace_loop {
	__u32 count;
	__u32 releases;
	struct pace_stats stats;
};

struct pace_clock {
	struct bpf_timer timer;
	__u32 running;
	__u32 uncaught;
};

struct pace {
	struct pace_bpf *skeleton; /* NULL: no class paces */
	__u32 seen;                /* of `uncaught` */
	bool follow;               /* there are sockets that only visits re-rate */
};

static struct pace *pace_of(const struct engine *engine)
{
	return engine_part_state(engine, &pace_part);
}

static int loop_read(const struct pace *pace, struct pace_loop *ret_loop)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(bpf_map__fd(pace->skeleton->maps.pace_loops), &zero, ret_loop) < 0 ? -errno
	                                                                                              : 0;
}

/* Goes over all TCP sockets. */
static int sockets_visit(const struct pace *pace)
{
	struct bpf_link *link = bpf_program__attach_iter(pace->skeleton->progs.pace_find, NULL);
	_cleanup_close_ int fd = link ? bpf_iter_create(bpf_link__fd(link)) : -1;
	char nothing[64];
	ssize_t length = fd < 0 ? -1 : 1;

	while (length > 0)
		length = read(fd, nothing, sizeof(nothing));
	bpf_link__destroy(link);
	return length < 0 ? -errno : 0;
}

/* The timer and the loop, run by a packet that goes nowhere. */
static int loop_start(const struct pace *pace)
{
	char packet[64] = {0};
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = packet, .data_size_in = sizeof(packet));
	int r = bpf_prog_test_run_opts(bpf_program__fd(pace->skeleton->progs.pace_start), &options);

	return r < 0 ? r : options.retval ? -EINVAL : 0;
}

static int pace_load(struct engine *engine, struct pace *pace, struct error *error)
{
	int r;

	if (pace->skeleton)
		return 0;
	/* the maps of classes and paths are theirs */
	r = engine_shape_load(engine, error);
	if (r < 0)
		return r;
	pace->skeleton = pace_bpf__open();
	if (!pace->skeleton)
		return error_set(error, -errno, "cannot open the pacing programs: %s", strerror(errno));
	r = component_load(engine, pace->skeleton->obj, "pacing", error);
	if (r == 0) {
		r = loop_start(pace);
		if (r < 0)
			error_set(error, r, "cannot start the control loop of pacing: %s", strerror(-r));
	}
	if (r == 0)
		r = component_attach_cgroup(engine, pace->skeleton->progs.pace_socket_event, error);
	if (r < 0) {
		pace_bpf__destroy(pace->skeleton);
		pace->skeleton = NULL;
	}
	pace->follow = r == 0; /* once at least */
	return r;
}

static void pace_close(void *state)
{
	struct pace *pace = state;

	pace_bpf__destroy(pace->skeleton);
	free(pace);
}

static int pace_open(struct engine *engine, void **ret_state, struct error *error)
{
	struct pace *pace = calloc(1, sizeof(*pace));
	char path[PATH_MAX];
	_cleanup_close_ int left = bpf_obj_get(pins_path(&engine->pins, path, "cgroup_pace_socket_event"));

	if (!pace)
		return error_set(error, -ENOMEM, "out of memory");
	*ret_state = pace;
	return left >= 0 ? pace_load(engine, pace, error) : component_open_cgroup(engine, error);
}

const struct engine_part pace_part = {"pace", pace_open, pace_close};

int engine_pace_start(struct engine *engine, struct error *error)
{
	return pace_load(engine, pace_of(engine), error);
}

/* All sockets get back what they had. */
static void sockets_release(struct engine *engine, struct pace *pace)
{
	__u32 zero = 0;
	struct pace_loop loop;

	if (loop_read(pace, &loop) < 0)
		return;
	component_detach_cgroup(engine, pace->skeleton->progs.pace_socket_event);
	loop.releases = 1;
	bpf_map_update_elem(bpf_map__fd(pace->skeleton->maps.pace_loops), &zero, &loop, BPF_ANY);
	sockets_visit(pace);
	loop.releases = 0;
	bpf_map_update_elem(bpf_map__fd(pace->skeleton->maps.pace_loops), &zero, &loop, BPF_ANY);
}

/* What an agent has left that is no more: its maps are there, the visit needs programs of our own. */
static void left_release(struct engine *engine)
{
	struct error problem = {};
	char path[PATH_MAX];
	_cleanup_close_ int left = bpf_obj_get(pins_path(&engine->pins, path, "cgroup_pace_socket_event"));
	struct pace pace = {.skeleton = left >= 0 ? pace_bpf__open() : NULL};

	if (!pace.skeleton)
		return;
	if (component_load_unpinned(engine, pace.skeleton->obj, "pacing", &problem) == 0)
		sockets_release(engine, &pace);
	else
		log_warning("open sockets keep their pacing rates: %s", problem.what);
	pace_bpf__destroy(pace.skeleton);
}

void engine_pace_stop(struct engine *engine)
{
	struct pace *pace = pace_of(engine);

	if (!pace) {
		left_release(engine);
	} else if (pace->skeleton) {
		sockets_release(engine, pace);
		pace_bpf__destroy(pace->skeleton);
		pace->skeleton = NULL;
	}
}

void engine_pace_tick(struct engine *engine)
{
	struct pace *pace = pace_of(engine);
	struct pace_loop before, after;
	struct pace_clock clock;
	__u32 zero = 0;

	if (!pace->skeleton ||
		bpf_map_lookup_elem(bpf_map__fd(pace->skeleton->maps.pace_clocks), &zero, &clock) < 0 ||
		(clock.uncaught == pace->seen && !pace->follow) || loop_read(pace, &before) < 0)
		return;
	pace->seen = clock.uncaught;
	if (sockets_visit(pace) == 0 && loop_read(pace, &after) == 0)
		pace->follow = after.stats.followed != before.stats.followed;
}

void engine_pace_share(struct engine *engine, uint32_t number, struct shape_share *ret_share)
{
	struct pace *pace = pace_of(engine);

	if (!pace->skeleton ||
		bpf_map_lookup_elem(bpf_map__fd(pace->skeleton->maps.shape_shares), &number, ret_share) < 0)
		*ret_share = (struct shape_share){};
}

void engine_pace_stats(struct engine *engine, struct pace_stats *ret_stats)
{
	struct pace *pace = pace_of(engine);
	struct pace_loop loop;

	*ret_stats = pace->skeleton && loop_read(pace, &loop) == 0 ? loop.stats : (struct pace_stats){};
}

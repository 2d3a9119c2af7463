// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* The program of services at XDP: loaded with the first, and put behind the program there. */
#include "engine/balance.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "balance.skel.h"
#include "basic/cleanup.h"
#include "engine/internal.h"
#include "shared/service.h"
#include "watch.skel.h"

struct balance {
	struct balance_bpf *skeleton; /* NULL: there never was a service */
	bool wanted;
};

static struct balance *balance_of(const struct engine *engine)
{
	return engine_part_state(engine, &balance_part);
}

static int pinned(const struct engine *engine, const char *name)
{
	char path[PATH_MAX];

	return bpf_obj_get(pins_path(&engine->pins, path, name));
}

/* Those of the flow cache are pinned and have their sizes; what is this program's own has to be told. */
static void balance_prepare(const struct engine *engine, struct balance_bpf *skeleton)
{
	const struct engine_view *view = &engine->view;

	skeleton->rodata->flow_sets4 = view->sets4;
	skeleton->rodata->flow_sets6 = view->sets6;
	skeleton->rodata->flow_seed[0] = engine->meta.flow_seed[0];
	skeleton->rodata->flow_seed[1] = engine->meta.flow_seed[1];
	skeleton->rodata->flow_ring_bytes = engine->meta.sizes.ring_bytes;
	bpf_map__set_max_entries(skeleton->maps.service_counts, view->cpus * SERVICE_BACKENDS_MAX);
	bpf_map__set_max_entries(skeleton->maps.service_losses, view->cpus * SERVICES_MAX);
}

static int balance_load(struct engine *engine, struct balance *balance, struct error *error)
{
	int r;

	if (balance->skeleton)
		return 0;
	balance->skeleton = balance_bpf__open();
	if (!balance->skeleton)
		return error_set(error, -errno, "cannot open the services' program: %s", strerror(errno));
	balance_prepare(engine, balance->skeleton);
	r = component_load(engine, balance->skeleton->obj, "service", error);
	if (r < 0) {
		balance_bpf__destroy(balance->skeleton);
		balance->skeleton = NULL;
	}
	return r;
}

/* Puts it behind the program at XDP, or takes it away. */
static int balance_place(
	struct engine *engine, const struct balance *balance, bool there, struct error *error)
{
	_cleanup_close_ int map = pinned(engine, "balance_programs");
	__u32 zero = 0;
	int program, r = map < 0 ? map : 0;

	if (r == -ENOENT && !there)
		return 0;
	if (r == 0 && there) {
		program = bpf_program__fd(balance->skeleton->progs.balance);
		r = bpf_map_update_elem(map, &zero, &program, BPF_ANY);
	} else if (r == 0) {
		r = bpf_map_delete_elem(map, &zero);
		r = r == -ENOENT ? 0 : r;
	}
	return r < 0 ? error_set(
			       error, r, "cannot put the services' program into its place: %s", strerror(-r))
	             : 0;
}

int engine_balance_want(struct engine *engine, bool wanted, struct error *error)
{
	struct balance *balance = balance_of(engine);
	int r = 0;

	if (wanted) {
		r = engine_shield_load(engine, error);
		if (r == 0)
			r = balance_load(engine, balance, error);
	}
	if (r == 0)
		r = balance_place(engine, balance, wanted, error);
	if (r == 0)
		balance->wanted = wanted;
	return r;
}

bool engine_balance_wanted(const struct engine *engine)
{
	return balance_of(engine)->wanted;
}

int engine_balance_put(struct engine *engine, unsigned int place, int program, struct error *error)
{
	struct balance *balance = balance_of(engine);
	__u32 key = place;

	if (!balance->skeleton)
		return error_set(error, -ENOENT, "the services' program is not loaded");
	if (bpf_map_update_elem(
		    bpf_map__fd(balance->skeleton->maps.service_programs), &key, &program, BPF_ANY) < 0)
		return error_set(error, -errno, "cannot put a program of services into its place: %s",
			strerror(errno));
	return 0;
}

static void balance_close(void *state)
{
	struct balance *balance = state;

	balance_bpf__destroy(balance->skeleton);
	free(balance);
}

/* Has an earlier agent left it in its place? */
static bool balance_was_there(const struct engine *engine)
{
	_cleanup_close_ int map = pinned(engine, "balance_programs");
	__u32 zero = 0, id;

	return map >= 0 && bpf_map_lookup_elem(map, &zero, &id) == 0;
}

static int balance_open(struct engine *engine, void **ret_state, struct error *error)
{
	struct balance *balance = calloc(1, sizeof(*balance));

	if (!balance)
		return error_set(error, -ENOMEM, "out of memory");
	*ret_state = balance;
	return balance_was_there(engine) ? engine_balance_want(engine, true, error) : 0;
}

const struct engine_part balance_part = {"balance", balance_open, balance_close};

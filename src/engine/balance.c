// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* The program of services at XDP: loaded with the first, and put behind the program there. */
#include "engine/balance.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "balance.skel.h"
#include "engine/chain.h"
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

int engine_balance_want(struct engine *engine, bool wanted, struct error *error)
{
	struct balance *balance = balance_of(engine);
	int r = 0;

	if (wanted) {
		r = balance_load(engine, balance, error);
		if (r == 0)
			r = engine_chain_put(engine, CHAIN_BALANCE,
				bpf_program__fd(balance->skeleton->progs.balance), error);
	} else {
		r = engine_chain_take(engine, CHAIN_BALANCE, error);
	}
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

static int balance_open(struct engine *engine, void **ret_state, struct error *error)
{
	struct balance *balance = calloc(1, sizeof(*balance));

	if (!balance)
		return error_set(error, -ENOMEM, "out of memory");
	*ret_state = balance;
	return engine_chain_has(engine, CHAIN_BALANCE) ? engine_balance_want(engine, true, error) : 0;
}

const struct engine_part balance_part = {"balance", balance_open, balance_close};

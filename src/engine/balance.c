// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* The program of services at XDP: loaded with the first, and put behind the program there. */
#include "engine/balance.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "balance.skel.h"
#include "engine/chain.h"
#include "engine/internal.h"
#include "engine/service.h"
#include "engine/shield.h"
#include "shared/service.h"
#include "watch.skel.h"

struct balance {
	struct balance_bpf *skeleton; /* NULL: there never was a service */
	struct balance_bpf *whole;    /* for generic XDP; NULL: none has had that */
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

	ENGINE_TELL_FLOWS(engine, skeleton);
	skeleton->rodata->service_second = (__u32)(1000000000 / engine->tick_ns);
	bpf_map__set_max_entries(skeleton->maps.service_counts, view->cpus * SERVICE_BACKENDS_MAX);
	bpf_map__set_max_entries(skeleton->maps.service_losses, view->cpus * SERVICES_MAX);
}

static int put(const struct balance_bpf *skeleton, __u32 place, int program, struct error *error)
{
	if (!skeleton)
		return error_set(error, -ENOENT, "the services' program is not loaded");
	if (bpf_map_update_elem(bpf_map__fd(skeleton->maps.service_programs), &place, &program, BPF_ANY) < 0)
		return error_set(error, -errno, "cannot put a program of services into its place: %s",
			strerror(errno));
	return 0;
}

static int balance_load(
	struct engine *engine, bool whole, struct balance_bpf **ret_skeleton, struct error *error)
{
	struct balance_bpf *skeleton = balance_bpf__open();
	int r;

	if (!skeleton) {
		error_set(error, -ENOMEM, "cannot open the services' program: %s", strerror(errno));
		return -ENOMEM;
	}
	balance_prepare(engine, skeleton);
	r = whole ? component_load_whole(engine, skeleton->obj, "service", error)
	          : component_load(engine, skeleton->obj, "service", error);
	if (r == 0)
		r = put(skeleton, SERVICE_PROGRAM_LONG, bpf_program__fd(skeleton->progs.balance_long), error);
	if (r < 0)
		balance_bpf__destroy(skeleton);
	else
		*ret_skeleton = skeleton;
	return r;
}

static int balance_put(struct engine *engine, struct balance *balance, struct error *error)
{
	int r = balance->skeleton ? 0 : balance_load(engine, false, &balance->skeleton, error);

	if (r == 0)
		r = engine_chain_put(
			engine, CHAIN_BALANCE, bpf_program__fd(balance->skeleton->progs.balance), error);
	if (r < 0 || !engine_shield_is_whole(engine))
		return r;
	r = balance->whole ? 0 : balance_load(engine, true, &balance->whole, error);
	return r < 0 ? r
	             : engine_chain_put_whole(
			       engine, CHAIN_BALANCE, bpf_program__fd(balance->whole->progs.balance), error);
}

int engine_balance_want(struct engine *engine, bool wanted, struct error *error)
{
	struct balance *balance = balance_of(engine);
	int r = wanted ? balance_put(engine, balance, error)
	               : engine_chain_take(engine, CHAIN_BALANCE, error);

	if (r == 0)
		balance->wanted = wanted;
	return r;
}

bool engine_balance_wanted(const struct engine *engine)
{
	const struct balance *balance = balance_of(engine);

	return balance && balance->wanted; /* NULL: while the part in front of it opens */
}

int engine_balance_put(struct engine *engine, unsigned int place, int program, struct error *error)
{
	return put(balance_of(engine)->skeleton, place, program, error);
}

int engine_balance_put_whole(struct engine *engine, unsigned int place, int program, struct error *error)
{
	return put(balance_of(engine)->whole, place, program, error);
}

/* -- beforehand -- */

struct engine_balance_load {
	struct engine *engine;
	uint32_t flows;
	bool nat_too, tc_too;
	struct service_bpf *service; /* NULL: it was there already, or is not loaded yet */
	struct shield_bpf *shield;
	struct balance_bpf *balance;
	struct nat_bpf *nat;
	struct balance_tc_bpf *tc;
};

struct engine_balance_load *engine_balance_load_new(struct engine *engine, uint32_t flows, bool nat, bool tc)
{
	struct engine_balance_load *load;

	if (engine_service_used(engine) && engine_shield_loaded(engine) && balance_of(engine)->skeleton &&
		(!nat || engine_nat_loaded(engine)) && (!tc || engine_balance_tc_loaded(engine)))
		return NULL;
	load = calloc(1, sizeof(*load));
	if (load)
		*load = (struct engine_balance_load){
			.engine = engine, .flows = flows, .nat_too = nat, .tc_too = tc};
	return load;
}

/* In this order: each uses maps that the ones before it have pinned. */
int engine_balance_load_run(struct engine_balance_load *load, struct error *error)
{
	struct engine *engine = load->engine;
	int r = 0;

	if (!engine_service_used(engine))
		r = engine_service_load(engine, load->flows, &load->service, error);
	if (r == 0 && !engine_shield_loaded(engine))
		r = engine_shield_load_apart(engine, &load->shield, error);
	if (r == 0 && !balance_of(engine)->skeleton)
		r = balance_load(engine, false, &load->balance, error);
	if (r == 0 && load->nat_too && !engine_nat_loaded(engine))
		r = engine_nat_load_apart(engine, &load->nat, error);
	if (r == 0 && load->tc_too && !engine_balance_tc_loaded(engine))
		r = engine_balance_tc_load_apart(engine, &load->tc, error);
	return r;
}

int engine_balance_load_end(struct engine_balance_load *load, struct error *error)
{
	int r = 0, taken;

	if (!load)
		return 0;
	if (load->service)
		r = engine_service_take(load->engine, load->service, error);
	if (load->shield) {
		taken = engine_shield_take(load->engine, load->shield, error);
		r = r < 0 ? r : taken;
	}
	if (load->balance)
		balance_of(load->engine)->skeleton = load->balance;
	if (load->tc)
		engine_balance_tc_take(load->engine, load->tc);
	if (load->nat) {
		taken = engine_nat_take(load->engine, load->nat, error);
		r = r < 0 ? r : taken;
	}
	free(load);
	return r;
}

static void balance_close(void *state)
{
	struct balance *balance = state;

	balance_bpf__destroy(balance->skeleton);
	balance_bpf__destroy(balance->whole);
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

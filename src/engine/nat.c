// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "engine/nat.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/balance.h"
#include "engine/internal.h"
#include "engine/shield.h"
#include "nat.skel.h"
#include "shared/service.h"

struct nat {
	struct nat_bpf *skeleton; /* NULL: there never was a service that is delivered so */
	struct nat_bpf *whole;    /* for generic XDP; NULL: none has had that */
};

/* Those of the flow cache are pinned and have their sizes; what is these programs' own has to be told. */
static void nat_prepare(const struct engine *engine, struct nat_bpf *skeleton)
{
	const struct engine_view *view = &engine->view;
	const uint32_t lines = view->sets4 * FLOW_WAYS;

	ENGINE_TELL_FLOWS(engine, skeleton);
	skeleton->rodata->service_second = (__u32)(1000000000 / engine->tick_ns);
	skeleton->rodata->nat_line_mask = lines - 1;
	bpf_map__set_max_entries(skeleton->maps.nat_lines, view->cpus * lines);
	bpf_map__set_max_entries(skeleton->maps.service_counts, view->cpus * SERVICE_BACKENDS_MAX);
	bpf_map__set_max_entries(skeleton->maps.service_losses, view->cpus * SERVICES_MAX);
}

typedef int put_function(struct engine *engine, unsigned int place, int program, struct error *error);

static int nat_put(
	struct engine *engine, const struct nat_bpf *skeleton, put_function *put, struct error *error)
{
	const struct {
		enum service_program place;
		const struct bpf_program *program;
	} programs[] = {
		/* what goes on in another one comes behind it */
		{SERVICE_PROGRAM_ANSWER, skeleton->progs.nat_answer},
		{SERVICE_PROGRAM_NAT, skeleton->progs.nat},
		{SERVICE_PROGRAM_ANSWER_QUICK, skeleton->progs.nat_answer_quick},
		{SERVICE_PROGRAM_NAT_QUICK, skeleton->progs.nat_quick},
	};
	int r = 0;

	for (size_t i = 0; i < sizeof(programs) / sizeof(programs[0]) && r == 0; i++)
		r = put(engine, programs[i].place, bpf_program__fd(programs[i].program), error);
	return r;
}

static struct nat *nat_of(const struct engine *engine)
{
	return engine_part_state(engine, &nat_part);
}

bool engine_nat_loaded(const struct engine *engine)
{
	return nat_of(engine)->skeleton;
}

static int nat_load(struct engine *engine, bool whole, struct nat_bpf **ret_skeleton, struct error *error)
{
	struct nat_bpf *skeleton = nat_bpf__open();
	int r;

	if (!skeleton) {
		error_set(error, -ENOMEM, "cannot open the programs of nat: %s", strerror(errno));
		return -ENOMEM;
	}
	nat_prepare(engine, skeleton);
	r = whole ? component_load_whole(engine, skeleton->obj, "nat", error)
	          : component_load(engine, skeleton->obj, "nat", error);
	if (r < 0)
		nat_bpf__destroy(skeleton);
	else
		*ret_skeleton = skeleton;
	return r;
}

int engine_nat_load_apart(struct engine *engine, struct nat_bpf **ret_skeleton, struct error *error)
{
	return nat_load(engine, false, ret_skeleton, error);
}

int engine_nat_renew(struct engine *engine, struct error *error)
{
	struct nat *nat = nat_of(engine);
	int r;

	if (!nat || !nat->skeleton || nat->whole || !engine_shield_is_whole(engine))
		return 0;
	r = nat_load(engine, true, &nat->whole, error);
	return r < 0 ? r : nat_put(engine, nat->whole, engine_balance_put_whole, error);
}

int engine_nat_take(struct engine *engine, struct nat_bpf *skeleton, struct error *error)
{
	int r = nat_put(engine, skeleton, engine_balance_put, error);

	if (r < 0) {
		nat_bpf__destroy(skeleton);
		return r;
	}
	nat_of(engine)->skeleton = skeleton;
	return engine_nat_renew(engine, error);
}

int engine_nat_load(struct engine *engine, struct error *error)
{
	struct nat_bpf *skeleton = NULL;
	int r;

	if (engine_nat_loaded(engine))
		return 0;
	r = engine_nat_load_apart(engine, &skeleton, error);
	return r < 0 ? r : engine_nat_take(engine, skeleton, error);
}

static void nat_close(void *state)
{
	struct nat *nat = state;

	nat_bpf__destroy(nat->skeleton);
	nat_bpf__destroy(nat->whole);
	free(nat);
}

/* What an earlier agent has loaded stays in its place until engine_nat_load(). */
static int nat_open(struct engine *engine, void **ret_state, struct error *error)
{
	(void)engine;
	*ret_state = calloc(1, sizeof(struct nat));
	return *ret_state ? 0 : error_set(error, -ENOMEM, "out of memory");
}

const struct engine_part nat_part = {"nat", nat_open, nat_close};

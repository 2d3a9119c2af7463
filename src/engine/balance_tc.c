// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "engine/balance_tc.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "balance_tc.skel.h"
#include "basic/cleanup.h"
#include "engine/internal.h"
#include "engine/link.h"
#include "shared/service.h"

/* Names of Linux 6.6's uapi that Debian 12's headers do not have yet. */
#define TCX_INGRESS   ((enum bpf_attach_type)46)
#define LINK_F_BEFORE (1U << 3) /* BPF_F_BEFORE without a relative: before everyone */

#define LINK_PIN "balance_" /* balance_IFINDEX */

struct balance_tc {
	struct balance_tc_bpf *skeleton; /* NULL: no interface has ever wanted it */
};

static struct balance_tc *balance_tc_of(const struct engine *engine)
{
	return engine_part_state(engine, &balance_tc_part);
}

/* -- loading -- */

/* Those of the flow cache are pinned and have their sizes; what is this program's own has to be told. */
int engine_balance_tc_load_apart(
	struct engine *engine, struct balance_tc_bpf **ret_skeleton, struct error *error)
{
	const struct engine_view *view = &engine->view;
	struct balance_tc_bpf *skeleton = balance_tc_bpf__open();
	int r;

	if (!skeleton)
		return error_set(
			error, -ENOMEM, "cannot open the services' program for tc: %s", strerror(errno));
	ENGINE_TELL_FLOWS(engine, skeleton);
	skeleton->rodata->service_second = (__u32)(1000000000 / engine->tick_ns);
	bpf_map__set_max_entries(skeleton->maps.service_counts, view->cpus * SERVICE_BACKENDS_MAX);
	bpf_map__set_max_entries(skeleton->maps.service_losses, view->cpus * SERVICES_MAX);
	r = component_load(engine, skeleton->obj, "service", error);
	if (r < 0)
		balance_tc_bpf__destroy(skeleton);
	else
		*ret_skeleton = skeleton;
	return r;
}

bool engine_balance_tc_loaded(const struct engine *engine)
{
	return balance_tc_of(engine)->skeleton;
}

void engine_balance_tc_take(struct engine *engine, struct balance_tc_bpf *skeleton)
{
	balance_tc_of(engine)->skeleton = skeleton;
}

static int balance_tc_load(struct engine *engine, struct error *error)
{
	return engine_balance_tc_loaded(engine)
	               ? 0
	               : engine_balance_tc_load_apart(engine, &balance_tc_of(engine)->skeleton, error);
}

static int program_of(const struct balance_tc *balance)
{
	return bpf_program__fd(balance->skeleton->progs.balance_tc);
}

/* -- links -- */

static const char *link_path(const struct engine *engine, char path[static PATH_MAX], uint32_t index)
{
	char name[32];

	snprintf(name, sizeof(name), LINK_PIN "%" PRIu32, index);
	return pins_path(&engine->pins, path, name);
}

static int link_attach(struct engine *engine, uint32_t index)
{
	LIBBPF_OPTS(bpf_link_create_opts, options, .flags = LINK_F_BEFORE);
	char path[PATH_MAX];
	_cleanup_close_ int link = bpf_obj_get(link_path(engine, path, index));
	uint32_t program;

	if (link >= 0 && link_interface(link, &program) == index)
		return 0;
	if (link >= 0) {
		unlink(path);
		close(TAKE_FD(link));
	}
	link = bpf_link_create(program_of(balance_tc_of(engine)), (int)index, TCX_INGRESS, &options);
	if (link < 0)
		return link;
	return bpf_obj_pin(link, path) < 0 ? -errno : 0;
}

/* One that an earlier agent left gets this one's program. */
static void link_renew(struct engine *engine, const struct engine_link *link, void *context)
{
	(void)context;
	/* refused: away with it, and who wants it attaches anew */
	if (balance_tc_load(engine, NULL) < 0 ||
		bpf_link_update(link->fd, program_of(balance_tc_of(engine)), NULL) < 0)
		unlink(link->path);
}

int engine_balance_tc_attach(
	struct engine *engine, const struct engine_interface *interface, struct error *error)
{
	int r = balance_tc_load(engine, error);

	if (r < 0)
		return r;
	if (engine_has(engine, "tcx"))
		r = link_attach(engine, interface->index);
	else
		r = engine_filter_balance(interface->index, program_of(balance_tc_of(engine)));
	return r < 0 ? error_set(error, r, "cannot balance services in tc of '%s': %s", interface->name,
			       strerror(-r))
	             : 0;
}

void engine_balance_tc_detach(struct engine *engine, uint32_t index)
{
	char name[32];

	snprintf(name, sizeof(name), LINK_PIN "%" PRIu32, index);
	if (engine_has(engine, "tcx"))
		pin_remove(&engine->pins, name);
	else
		engine_filter_unbalance(index);
}

void engine_balance_tc_forget_gone(
	struct engine *engine, const struct engine_interface *interfaces, size_t count)
{
	link_forget_gone(engine, LINK_PIN, interfaces, count);
}

/* -- the part -- */

static void balance_tc_close(void *state)
{
	struct balance_tc *balance = state;

	balance_tc_bpf__destroy(balance->skeleton);
	free(balance);
}

static int balance_tc_open(struct engine *engine, void **ret_state, struct error *error)
{
	*ret_state = calloc(1, sizeof(struct balance_tc));
	if (!*ret_state)
		return error_set(error, -ENOMEM, "out of memory");
	link_each(engine, LINK_PIN, link_renew, NULL);
	return 0;
}

const struct engine_part balance_tc_part = {"balance_tc", balance_tc_open, balance_tc_close};

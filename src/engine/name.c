// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "engine/name.h"

#include <errno.h>
#include <stdlib.h>

#include "basic/cleanup.h"
#include "engine/internal.h"
#include "watch.skel.h"

#define NAME_RING_BYTES (1U << 20)
#define NS_PER_S        1000000000ULL

struct engine_names {
	struct ring_buffer *ring;
	engine_name_function *function;
	void *context;
};

void engine_names_prepare(const struct engine *engine, struct watch_bpf *skeleton, bool on)
{
	skeleton->rodata->names_on = on;
	skeleton->rodata->name_ring_bytes = NAME_RING_BYTES;
	skeleton->rodata->name_ticks = (uint32_t)(NS_PER_S / engine->tick_ns);
	bpf_map__set_max_entries(skeleton->maps.name_ring, NAME_RING_BYTES);
}

static int name_read(void *context, void *data, size_t size)
{
	struct engine_names *names = context;
	const struct name_record *record = data;

	if (names->function && size >= offsetof(struct name_record, data) &&
		record->bytes <= size - offsetof(struct name_record, data))
		names->function(names->context, record);
	return 0;
}

int engine_names_open(struct engine *engine, struct error *error)
{
	engine->names = calloc(1, sizeof(*engine->names));
	if (!engine->names)
		return error_set(error, -ENOMEM, "out of memory");
	return component_ring(
		engine->skeleton->obj, "name_ring", name_read, engine->names, &engine->names->ring, error);
}

void engine_names_close(struct engine *engine)
{
	if (!engine->names)
		return;
	ring_buffer__free(engine->names->ring);
	free(engine->names);
	engine->names = NULL;
}

int engine_name_fd(const struct engine *engine)
{
	return ring_buffer__epoll_fd(engine->names->ring);
}

void engine_name_read(struct engine *engine, engine_name_function *function, void *context)
{
	engine->names->function = function;
	engine->names->context = context;
	ring_buffer__consume(engine->names->ring);
}

bool engine_name_possible(const struct engine *engine)
{
	return engine->skeleton->rodata->names_on;
}

int engine_name_limit(struct engine *engine, uint32_t per_second)
{
	__u32 key = 0;

	if (bpf_map_update_elem(bpf_map__fd(engine->skeleton->maps.name_limit), &key, &per_second, BPF_ANY) <
		0)
		return -errno;
	return 0;
}

int engine_name_stats(const struct engine *engine, struct name_stats *ret_stats)
{
	_cleanup_free_ struct name_stats *cpus = calloc(engine->view.cpus, sizeof(*cpus));
	struct name_stats sum = {};
	__u32 key = 0;

	if (!cpus)
		return -ENOMEM;
	if (bpf_map_lookup_elem(bpf_map__fd(engine->skeleton->maps.name_stats), &key, cpus) < 0)
		return -errno;
	for (unsigned int cpu = 0; cpu < engine->view.cpus; cpu++) {
		sum.taken += cpus[cpu].taken;
		sum.lost += cpus[cpu].lost;
		sum.limited += cpus[cpu].limited;
	}
	*ret_stats = sum;
	return 0;
}

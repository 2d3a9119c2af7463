// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Services: their maps.  Books and rings are memory that is mapped and written again in place, once nobody
 * reads it any more: so a change of a ring costs no map. */
#include "engine/service.h"

#include <errno.h>
#include <limits.h>
#include <linux/membarrier.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "basic/cleanup.h"
#include "engine/internal.h"
#include "engine/policy.h"
#include "service.skel.h"

#define BOOK_BYTES ((size_t)SERVICE_BOOK_UNITS * sizeof(struct policy_unit))
#define RING_BYTES ((size_t)SERVICE_RING_UNITS * sizeof(struct policy_unit))
#define BATCH      512U

struct services_kernel {
	struct service_bpf *skeleton; /* NULL: there never was a service */
	struct policy_unit *books[2]; /* by place */
	uint16_t **rings;             /* SERVICE_RINGS_MAX; NULL: there is none */
	struct engine_service_memory memory;
};

static struct services_kernel *services_of(const struct engine *engine)
{
	return engine_part_state(engine, &service_part);
}

/* -- loading -- */

static size_t count_bytes(const struct engine *engine)
{
	return (size_t)engine->view.cpus * SERVICE_BACKENDS_MAX * sizeof(struct service_count);
}

static size_t lost_bytes(const struct engine *engine)
{
	return (size_t)engine->view.cpus * SERVICES_MAX * sizeof(struct service_lost);
}

static int memory_map(int map, size_t bytes, void **ret_memory)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, map, 0);

	if (memory == MAP_FAILED)
		return -errno;
	*ret_memory = memory;
	return 0;
}

static void memory_unmap(const void *memory, size_t bytes)
{
	if (memory)
		munmap((void *)memory, bytes);
}

static void services_unmap(struct services_kernel *services)
{
	const struct engine_service_memory *memory = &services->memory;

	for (int i = 0; i < 2; i++)
		memory_unmap(services->books[i], BOOK_BYTES);
	for (uint32_t i = 0; services->rings && i < SERVICE_RINGS_MAX; i++)
		memory_unmap(services->rings[i], RING_BYTES);
	memory_unmap(memory->backends, SERVICE_BACKENDS_MAX * sizeof(*memory->backends));
	memory_unmap(memory->sources, SERVICE_BACKENDS_MAX * sizeof(*memory->sources));
	memory_unmap(memory->loads, SERVICE_BACKENDS_MAX * sizeof(*memory->loads));
	memory_unmap(
		memory->counts, (size_t)memory->cpus * SERVICE_BACKENDS_MAX * sizeof(struct service_count));
	memory_unmap(memory->losses, (size_t)memory->cpus * SERVICES_MAX * sizeof(struct service_lost));
	free(services->rings);
	services->rings = NULL;
	services->books[0] = services->books[1] = NULL;
	services->memory = (struct engine_service_memory){};
}

static int arrays_map(struct engine *engine, struct services_kernel *services, struct error *error)
{
	struct engine_service_memory *memory = &services->memory;
	const struct {
		const struct bpf_map *map;
		size_t bytes;
		void **ret;
	} arrays[] = {
		{services->skeleton->maps.service_backends, SERVICE_BACKENDS_MAX * sizeof(*memory->backends),
			(void **)&memory->backends},
		{services->skeleton->maps.service_sources, SERVICE_BACKENDS_MAX * sizeof(*memory->sources),
			(void **)&memory->sources},
		{services->skeleton->maps.service_loads, SERVICE_BACKENDS_MAX * sizeof(*memory->loads),
			(void **)&memory->loads},
		{services->skeleton->maps.service_counts, count_bytes(engine), (void **)&memory->counts},
		{services->skeleton->maps.service_losses, lost_bytes(engine), (void **)&memory->losses},
	};

	memory->cpus = engine->view.cpus;
	for (size_t i = 0; i < sizeof(arrays) / sizeof(arrays[0]); i++) {
		int r = memory_map(bpf_map__fd(arrays[i].map), arrays[i].bytes, arrays[i].ret);

		if (r < 0)
			return error_set(
				error, r, "cannot map %s: %s", bpf_map__name(arrays[i].map), strerror(-r));
	}
	return 0;
}

/* New memory at a place of a map of maps, for what was there. */
static int inner_make(
	const struct bpf_map *outer, const char *name, __u32 place, uint32_t units, void **ret_memory)
{
	LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = BPF_F_MMAPABLE);
	_cleanup_close_ int map = bpf_map_create(
		BPF_MAP_TYPE_ARRAY, name, sizeof(__u32), sizeof(struct policy_unit), units, &options);

	if (map < 0)
		return map;
	if (bpf_map_update_elem(bpf_map__fd(outer), &place, &map, BPF_ANY) < 0)
		return -errno;
	return memory_map(map, units * sizeof(struct policy_unit), ret_memory);
}

/* The memory that is there; -ENOENT: none.  Only as long as the agent is root may it ask for a map by its id.
 */
static int inner_find(const struct bpf_map *outer, __u32 place, uint32_t units, void **ret_memory)
{
	_cleanup_close_ int map = -1;
	__u32 id;

	if (bpf_map_lookup_elem(bpf_map__fd(outer), &place, &id) < 0)
		return -errno;
	map = bpf_map_get_fd_by_id(id);
	return map < 0 ? map : memory_map(map, units * sizeof(struct policy_unit), ret_memory);
}

/* Rings that a book names: an earlier agent left them. */
static int rings_map(struct services_kernel *services, const struct policy_unit *book)
{
	const struct service_book *head = (const struct service_book *)book;
	int r = 0;

	for (__u32 i = 1; i <= head->count && i < SERVICE_BOOK_UNITS && (r == 0 || r == -ENOENT); i++) {
		const struct service *service = (const struct service *)&book[i];
		const __u32 rings[] = {service->ring, service->before};

		for (int which = 0; which < 2 && (r == 0 || r == -ENOENT); which++)
			if (rings[which] && rings[which] < SERVICE_RINGS_MAX &&
				!services->rings[rings[which]])
				r = inner_find(services->skeleton->maps.service_rings, rings[which],
					SERVICE_RING_UNITS, (void **)&services->rings[rings[which]]);
	}
	return r == -ENOENT ? 0 : r;
}

/* Books are made at once.  Of rings only those are asked for that a book names: up to Linux 6.7 each look
 * into a map of maps waits for all CPUs, some ten milliseconds. */
static int inner_maps(struct services_kernel *services)
{
	const struct bpf_map *books = services->skeleton->maps.service_books;
	int r = 0;

	services->rings = calloc(SERVICE_RINGS_MAX, sizeof(*services->rings));
	if (!services->rings)
		return -ENOMEM;
	for (__u32 i = 0; i < 2 && r == 0; i++) {
		r = inner_find(books, i, SERVICE_BOOK_UNITS, (void **)&services->books[i]);
		if (r == -ENOENT)
			r = inner_make(
				books, "service_book", i, SERVICE_BOOK_UNITS, (void **)&services->books[i]);
	}
	for (int i = 0; i < 2 && r == 0; i++)
		r = rings_map(services, services->books[i]);
	return r;
}

int engine_service_load(
	struct engine *engine, uint32_t flows, struct service_bpf **ret_skeleton, struct error *error)
{
	struct service_bpf *skeleton = service_bpf__open();
	int r;

	if (!skeleton) {
		error_set(error, -ENOMEM, "cannot open the services' maps: %s", strerror(errno));
		return -ENOMEM;
	}
	bpf_map__set_max_entries(skeleton->maps.service_flows, flows);
	bpf_map__set_max_entries(skeleton->maps.service_counts, engine->view.cpus * SERVICE_BACKENDS_MAX);
	bpf_map__set_max_entries(skeleton->maps.service_losses, engine->view.cpus * SERVICES_MAX);
	r = component_load(engine, skeleton->obj, "service", error);
	if (r < 0)
		service_bpf__destroy(skeleton);
	else
		*ret_skeleton = skeleton;
	return r;
}

int engine_service_take(struct engine *engine, struct service_bpf *skeleton, struct error *error)
{
	struct services_kernel *services = services_of(engine);
	int r;

	services->skeleton = skeleton;
	r = arrays_map(engine, services, error);
	if (r == 0) {
		r = inner_maps(services);
		if (r < 0)
			error_set(error, r, "cannot map the services' memory: %s", strerror(-r));
	}
	if (r < 0) {
		services_unmap(services);
		service_bpf__destroy(skeleton);
		services->skeleton = NULL;
	}
	return r;
}

bool engine_service_used(const struct engine *engine)
{
	return services_of(engine)->skeleton != NULL;
}

int engine_service_prepare(struct engine *engine, uint32_t flows, struct error *error)
{
	struct service_bpf *skeleton = NULL;
	int r = 0;

	if (engine_service_used(engine))
		return 0;
	r = engine_service_load(engine, flows, &skeleton, error);
	return r < 0 ? r : engine_service_take(engine, skeleton, error);
}

/* -- books -- */

/* Which of the two places is in force. */
static unsigned int place_now(const struct engine *engine)
{
	struct policy_now now = {};

	engine_policy_now((struct engine *)engine, &now);
	return now.places >> SERVICE_PLACE & 1;
}

const struct policy_unit *engine_service_book(const struct engine *engine, bool other)
{
	const struct services_kernel *services = services_of(engine);

	return services->skeleton ? services->books[place_now(engine) ^ other] : NULL;
}

/* A grace period of RCU, in which packets that are on their way have passed. */
void engine_service_wait(void)
{
	syscall(__NR_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0);
}

int engine_service_bring(struct engine *engine, const struct service_image *image, struct error *error)
{
	const struct services_kernel *services = services_of(engine);
	struct policy_unit *book;

	if (!services->skeleton)
		return error_set(error, -ENOENT, "there are no maps of services");
	if (image->count > SERVICE_BOOK_UNITS)
		return error_set(error, -ENOSPC, "the book of services is too long");
	book = services->books[place_now(engine) ^ 1];
	/* of no use to anybody while it is written */
	__atomic_store_n(&((struct service_book *)book)->count, 0, __ATOMIC_RELEASE);
	if (image->count) {
		memcpy(book + 1, image->units + 1, (image->count - 1) * sizeof(*book));
		memcpy(book, image->units, sizeof(*book));
	}
	return 0;
}

void engine_service_keep(struct engine *engine, uint32_t unit)
{
	const struct services_kernel *services = services_of(engine);
	struct service *service;

	if (!services->skeleton || !unit || unit >= SERVICE_BOOK_UNITS)
		return;
	service = (struct service *)&services->books[place_now(engine)][unit];
	__atomic_store_n(&service->flags, (uint16_t)(service->flags | SERVICE_KEPT), __ATOMIC_RELEASE);
}

/* -- rings -- */

const uint16_t *engine_service_ring(const struct engine *engine, uint32_t number)
{
	const struct services_kernel *services = services_of(engine);

	return services->skeleton && number < SERVICE_RINGS_MAX ? services->rings[number] : NULL;
}

int engine_service_ring_set(
	struct engine *engine, uint32_t number, const uint16_t *slots, uint32_t count, struct error *error)
{
	struct services_kernel *services = services_of(engine);
	int r = 0;

	if (!services->skeleton || !number || number >= SERVICE_RINGS_MAX || count > SERVICE_RING_SLOTS)
		return error_set(error, -EINVAL, "there is no ring %u of %u slots", number, count);
	/* what an earlier agent may have left in its place is no book's */
	if (!services->rings[number])
		r = inner_make(services->skeleton->maps.service_rings, "service_ring", number,
			SERVICE_RING_UNITS, (void **)&services->rings[number]);
	if (r < 0)
		return error_set(error, r, "cannot make the memory of a ring: %s", strerror(-r));
	memcpy(services->rings[number], slots, count * sizeof(*slots));
	return 0;
}

void engine_service_ring_put(struct engine *engine, uint32_t number, uint32_t slot, uint16_t backend)
{
	struct services_kernel *services = services_of(engine);

	if (engine_service_ring(engine, number) && slot < SERVICE_RING_SLOTS)
		__atomic_store_n(&services->rings[number][slot], backend, __ATOMIC_RELAXED);
}

/* -- counters -- */

const struct engine_service_memory *engine_service_memory(const struct engine *engine)
{
	const struct services_kernel *services = services_of(engine);

	return services->skeleton ? &services->memory : NULL;
}

static void words_add(void *sum, const void *from, size_t count)
{
	for (size_t i = 0; i < count; i++)
		((uint64_t *)sum)[i] += __atomic_load_n((const uint64_t *)from + i, __ATOMIC_RELAXED);
}

void engine_service_count(const struct engine *engine, uint32_t backend, struct service_count *ret_count)
{
	const struct engine_service_memory *memory = engine_service_memory(engine);
	struct service_count sum = {};

	for (unsigned int cpu = 0; memory && cpu < memory->cpus; cpu++) {
		const struct service_count *count =
			&memory->counts[(size_t)cpu * SERVICE_BACKENDS_MAX + backend];

		words_add(&sum, count, offsetof(struct service_count, last) / sizeof(uint64_t));
		if (count->last && (!sum.last || (int32_t)(count->last - sum.last) > 0))
			sum.last = count->last;
	}
	*ret_count = sum;
}

void engine_service_lost(const struct engine *engine, uint32_t service, struct service_lost *ret_lost)
{
	const struct engine_service_memory *memory = engine_service_memory(engine);
	struct service_lost sum = {};

	for (unsigned int cpu = 0; memory && cpu < memory->cpus; cpu++)
		words_add(&sum, &memory->losses[(size_t)cpu * SERVICES_MAX + service],
			sizeof(sum) / sizeof(uint64_t));
	*ret_lost = sum;
}

void engine_service_count_clear(struct engine *engine, uint32_t backend)
{
	const struct engine_service_memory *memory = engine_service_memory(engine);

	for (unsigned int cpu = 0; memory && cpu < memory->cpus; cpu++)
		memset((struct service_count *)&memory->counts[(size_t)cpu * SERVICE_BACKENDS_MAX + backend],
			0, sizeof(struct service_count));
}

void engine_service_lost_clear(struct engine *engine, uint32_t service)
{
	const struct engine_service_memory *memory = engine_service_memory(engine);

	for (unsigned int cpu = 0; memory && cpu < memory->cpus; cpu++)
		memset((struct service_lost *)&memory->losses[(size_t)cpu * SERVICES_MAX + service], 0,
			sizeof(struct service_lost));
}

/* -- interfaces -- */

void engine_service_generic(struct engine *engine, uint32_t ifindex, bool generic)
{
	const struct services_kernel *services = services_of(engine);
	__u32 yes = 1;
	int map;

	if (!services->skeleton)
		return;
	map = bpf_map__fd(services->skeleton->maps.service_generic);
	if (generic)
		bpf_map_update_elem(map, &ifindex, &yes, BPF_ANY);
	else
		bpf_map_delete_elem(map, &ifindex);
}

/* -- connections -- */

static int flows_map(const struct engine *engine)
{
	const struct services_kernel *services = services_of(engine);

	return services->skeleton ? bpf_map__fd(services->skeleton->maps.service_flows) : -ENOENT;
}

static int embryos_map(const struct engine *engine)
{
	const struct services_kernel *services = services_of(engine);

	return services->skeleton ? bpf_map__fd(services->skeleton->maps.service_embryos) : -ENOENT;
}

int engine_service_flow_put(
	struct engine *engine, const struct service_key *key, const struct service_flow *flow)
{
	int map = flows_map(engine);

	return map < 0 ? map : bpf_map_update_elem(map, key, flow, BPF_NOEXIST) < 0 ? -errno : 0;
}

int engine_service_flow_get(
	struct engine *engine, const struct service_key *key, struct service_flow *ret_flow)
{
	int map = flows_map(engine);

	return map < 0 ? map : bpf_map_lookup_elem(map, key, ret_flow) < 0 ? -errno : 0;
}

int engine_service_embryo_get(
	struct engine *engine, const struct service_key *key, struct service_flow *ret_flow)
{
	int map = embryos_map(engine);

	return map < 0 ? map : bpf_map_lookup_elem(map, key, ret_flow) < 0 ? -errno : 0;
}

int engine_service_flow_delete(struct engine *engine, const struct service_key *key)
{
	int map = flows_map(engine);

	return map < 0 ? map : bpf_map_delete_elem(map, key) < 0 ? -errno : 0;
}

uint32_t engine_service_flow_room(const struct engine *engine)
{
	const struct services_kernel *services = services_of(engine);

	return services->skeleton ? bpf_map__max_entries(services->skeleton->maps.service_flows) : 0;
}

struct flow_batch {
	struct service_key keys[BATCH];
	struct service_flow flows[BATCH];
};

static int flow_walk(int map, struct flow_batch *batch, struct engine_service_cursor *cursor, size_t budget,
	engine_service_flow_function *function, void *context)
{
	for (size_t seen = 0; seen < budget;) {
		__u32 count = BATCH, next = 0;
		int r = bpf_map_lookup_batch(map, cursor->started ? &cursor->batch : NULL, &next, batch->keys,
			batch->flows, &count, NULL);

		if (r < 0 && errno != ENOENT)
			return -errno;
		for (__u32 i = 0; i < count; i++)
			function(context, &batch->keys[i], &batch->flows[i]);
		if (r < 0) {
			*cursor = (struct engine_service_cursor){};
			return 1;
		}
		seen += count + 1;
		*cursor = (struct engine_service_cursor){true, next};
	}
	return 0;
}

static int map_walk(int map, struct engine_service_cursor *cursor, size_t budget,
	engine_service_flow_function *function, void *context)
{
	struct flow_batch *batch;
	int r;

	if (map < 0)
		return map;
	batch = malloc(sizeof(*batch));
	if (!batch)
		return -ENOMEM;
	r = flow_walk(map, batch, cursor, budget, function, context);
	free(batch);
	return r;
}

int engine_service_flow_walk(struct engine *engine, struct engine_service_cursor *cursor, size_t budget,
	engine_service_flow_function *function, void *context)
{
	return map_walk(flows_map(engine), cursor, budget, function, context);
}

int engine_service_embryo_walk(struct engine *engine, struct engine_service_cursor *cursor, size_t budget,
	engine_service_flow_function *function, void *context)
{
	return map_walk(embryos_map(engine), cursor, budget, function, context);
}

/* -- the part -- */

static void service_close(void *state)
{
	struct services_kernel *services = state;

	services_unmap(services);
	service_bpf__destroy(services->skeleton);
	free(services);
}

static int service_open(struct engine *engine, void **ret_state, struct error *error)
{
	struct services_kernel *services = calloc(1, sizeof(*services));
	char path[PATH_MAX];
	_cleanup_close_ int left = bpf_obj_get(pins_path(&engine->pins, path, "service_books"));

	if (!services)
		return error_set(error, -ENOMEM, "out of memory");
	*ret_state = services;
	return left >= 0 ? engine_service_prepare(engine, SERVICE_FLOWS_DEFAULT, error) : 0;
}

const struct engine_part service_part = {"service", service_open, service_close};

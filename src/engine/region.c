// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Regions: memory that outlives the agent, in pinned array maps of a fixed size, laid one behind the other
 * into address space that was reserved for the whole.  Growing by small maps keeps a small host's share
 * small; a file in the run directory would do the same but could hit a full disk in the middle of a store.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "basic/cleanup.h"
#include "engine/internal.h"

#define SEGMENT_BYTES (512U << 10)
#define SEGMENT_VALUE 4096U /* a page: the map's data has no holes */

static int segment_map(struct engine *engine, struct engine_region *region, bool create)
{
	unsigned int number = (unsigned int)(region->size / SEGMENT_BYTES);
	LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = BPF_F_MMAPABLE);
	_cleanup_close_ int fd = -1;
	char name[32], path[PATH_MAX];
	void *where = (char *)region->base + region->size;

	snprintf(name, sizeof(name), "region_%s_%u", region->name, number);
	fd = bpf_obj_get(pins_path(&engine->pins, path, name));
	if (fd < 0) {
		if (!create)
			return fd;
		fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "weir_region", 4, SEGMENT_VALUE,
			SEGMENT_BYTES / SEGMENT_VALUE, &options);
		if (fd < 0)
			return fd;
		if (bpf_obj_pin(fd, path) < 0)
			return -errno;
	}
	if (mmap(where, SEGMENT_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED)
		return -errno;
	region->size += SEGMENT_BYTES;
	return 0;
}

int engine_region_grow(struct engine *engine, struct engine_region *region, size_t size)
{
	int r = 0;

	if (size > region->limit)
		return -ENOSPC;
	while (r == 0 && region->size < size)
		r = segment_map(engine, region, true);
	return r;
}

int engine_region_open(struct engine *engine, const char *name, size_t limit,
	struct engine_region *ret_region, struct error *error)
{
	struct engine_region region = {.limit = (limit + SEGMENT_BYTES - 1) / SEGMENT_BYTES * SEGMENT_BYTES};

	snprintf(region.name, sizeof(region.name), "%s", name);
	region.base = mmap(NULL, region.limit, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (region.base == MAP_FAILED)
		return error_set(error, -errno, "cannot reserve %zu bytes of addresses: %s", region.limit,
			strerror(errno));
	while (region.size < region.limit && segment_map(engine, &region, false) == 0)
		;
	*ret_region = region;
	return 0;
}

void engine_region_close(struct engine_region *region)
{
	if (region->base && region->base != MAP_FAILED)
		munmap(region->base, region->limit);
	region->base = NULL;
}

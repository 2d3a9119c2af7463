// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "engine/link.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "basic/cleanup.h"
#include "engine/internal.h"

uint32_t link_interface(int link, uint32_t *ret_program)
{
	struct bpf_link_info info = {};
	__u32 length = sizeof(info);

	if (bpf_obj_get_info_by_fd(link, &info, &length) < 0)
		return 0;
	*ret_program = info.prog_id;
	return info.xdp.ifindex; /* a tcx link has it there, too */
}

void link_each(struct engine *engine, const char *prefix, link_function *function, void *context)
{
	struct pins_walk walk;
	const char *name;

	pins_walk_begin(&engine->pins, prefix, &walk);
	while ((name = pins_walk_next(&walk))) {
		char path[PATH_MAX];
		_cleanup_close_ int fd = bpf_obj_get(pins_path(&engine->pins, path, name));
		struct engine_link link = {.name = name, .path = path, .fd = fd};

		if (fd < 0)
			continue;
		link.meant = (uint32_t)strtoul(name + strlen(prefix), NULL, 10);
		link.index = link_interface(fd, &link.program);
		function(engine, &link, context);
	}
}

bool interface_is_among(const struct engine_interface *interfaces, size_t count, uint32_t index)
{
	for (size_t i = 0; i < count; i++)
		if (interfaces[i].index == index)
			return true;
	return false;
}

struct link_present {
	const struct engine_interface *interfaces;
	size_t count;
};

static void forget_if_gone(struct engine *engine, const struct engine_link *link, void *context)
{
	const struct link_present *present = context;

	(void)engine;
	if (link->index != link->meant ||
		!interface_is_among(present->interfaces, present->count, link->index))
		unlink(link->path);
}

void link_forget_gone(
	struct engine *engine, const char *prefix, const struct engine_interface *interfaces, size_t count)
{
	struct link_present present = {interfaces, count};

	link_each(engine, prefix, forget_if_gone, &present);
}

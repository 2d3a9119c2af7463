/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * A component: one BPF object (src/bpf/NAME.bpf.c) with its maps, programs and links, in the pins of the
 * engine.
 *
 * Every map with a name of its own (not .rodata, .bss, .data) is shared by that name: what is pinned already,
 * by another component or an earlier agent, is used, and what is new is pinned.  So `socket_owners` is one
 * map, whichever programs declare it.  Sizes are to be set (bpf_map__set_max_entries) before
 * component_load(); a pinned map keeps its own.  Links are pinned, so the programs work on when the agent is
 * gone.
 *
 * An adopting engine loads its own programs anew:
 *  - cgroup links get the new program without a gap;
 *  - tracing links cannot be updated: new ones are attached beside the old ones, do nothing yet
 * (bpf/lib/live.h), engine_go_live() switches all over at one point and takes the old ones away.
 *
 * To add one: write bpf/NAME.bpf.c, name it in src/bpf/meson.build, write engine/NAME.c with a
 * `const struct engine_part NAME_part`, and put that into the table in engine/part.c.
 */
#ifndef WEIR_ENGINE_COMPONENT_H
#define WEIR_ENGINE_COMPONENT_H

#include <bpf/libbpf.h>

#include "basic/error.h"
#include "engine/engine.h"

/* Sets what every component's read-only data may hold (live_number, netns_cookie, realtime_offset), reuses
 * pinned maps, loads, pins the rest. */
int component_load(struct engine *engine, struct bpf_object *object, const char *name, struct error *error);

/*
 * The same for the programs at generic XDP, a second object of the same source: they get each packet in one
 * piece, and what has programs in it or goes with them (arrays of programs, of devices, of CPUs) is theirs
 * alone, pinned as NAME_whole.  Since Linux 6.9 generic XDP makes another packet for programs that take
 * fragments, and tc then sees that without its link header.
 */
int component_load_whole(
	struct engine *engine, struct bpf_object *object, const char *name, struct error *error);

/* The same for an object that ends with the agent: what is pinned is used, nothing new is pinned. */
int component_load_unpinned(
	struct engine *engine, struct bpf_object *object, const char *name, struct error *error);

/* Opens the root of the cgroup hierarchy, for programs attached after the privileges were given up. */
int component_open_cgroup(struct engine *engine, struct error *error);

/* Attaches a cgroup program (SEC "cgroup/…") to the root of the cgroup hierarchy, beside others' (multi). */
int component_attach_cgroup(struct engine *engine, struct bpf_program *program, struct error *error);

/* Takes it away, where an earlier agent has attached it. */
void component_detach_cgroup(struct engine *engine, const struct bpf_program *program);

/* Attaches a tp_btf, raw_tp, fentry or fexit program, to go live with all others. */
int component_attach_trace(struct engine *engine, struct bpf_program *program, struct error *error);

/* Takes one away that this engine has attached. */
void component_detach_trace(struct engine *engine, const struct bpf_program *program);

/* The kernel's types (BTF), read once and kept; NULL with errno set: it does not tell. */
struct btf *component_kernel_types(void);
/* Is this tracepoint (by its name in BTF, "sock_send_length") in this kernel? */
bool component_has_tracepoint(const char *name);
bool component_has_function(const char *name);

/* File descriptor of a map by name. */
int component_map(const struct bpf_object *object, const char *name);

/* Makes a ring-buffer reader of a component's map; `function` gets each record and returns 0. */
int component_ring(const struct bpf_object *object, const char *map, ring_buffer_sample_fn function,
	void *context, struct ring_buffer **ret_ring, struct error *error);

/* A part of the engine that has an object of its own. */
struct engine_part {
	const char *name;
	/* Loads and attaches, keeping its state in engine->parts[…]; undoes nothing on failure (close
	 * follows). */
	int (*open)(struct engine *engine, void **ret_state, struct error *error);
	/* Frees the state; pinned programs stay. */
	void (*close)(void *state);
};

/* The parts, each in the file of its name. */
extern const struct engine_part owner_part;
extern const struct engine_part owner_end_part; /* behind all others that look at sockets */
extern const struct engine_part drop_part;
extern const struct engine_part socket_part;
extern const struct engine_part shield_part;

/* The state of a part that is open; NULL if it is not. */
void *engine_part_state(const struct engine *engine, const struct engine_part *part);

#endif

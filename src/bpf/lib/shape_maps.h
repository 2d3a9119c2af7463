/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Classes and paths (shared/shape.h), for the programs that packets pass and for those that pace. */
#ifndef WEIR_BPF_SHAPE_MAPS_H
#define WEIR_BPF_SHAPE_MAPS_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "shared/shape.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, SHAPE_CLASSES_MAX);
	__type(key, __u32);
	__type(value, struct shape_class);
} shape_classes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, SHAPE_CLASSES_MAX);
	__type(key, __u32);
	__type(value, struct shape_state);
} shape_states SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SHAPE_PATHS_MAX);
	__type(key, __u32);
	__type(value, struct shape_path);
} shape_paths SEC(".maps");

#endif

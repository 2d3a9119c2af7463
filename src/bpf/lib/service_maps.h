/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Services, their backends and connections (shared/service.h), for all programs that use them. */
#ifndef WEIR_BPF_SERVICE_MAPS_H
#define WEIR_BPF_SERVICE_MAPS_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "shared/connection.h"
#include "shared/service.h"

/* Books and rings are of one size, so that the kernel makes lookups in them inline. */
struct service_book_units {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, SERVICE_BOOK_UNITS);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct policy_unit));
};

/* Two places: bit SERVICE_PLACE of policy_now.places says which is in force. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2);
	__type(key, __u32);
	__array(values, struct service_book_units);
} service_books SEC(".maps");

struct service_ring_units {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, SERVICE_RING_UNITS);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct policy_unit));
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, SERVICE_RINGS_MAX);
	__type(key, __u32);
	__array(values, struct service_ring_units);
} service_rings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, SERVICE_BACKENDS_MAX);
	__type(key, __u32);
	__type(value, struct service_backend);
} service_backends SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, SERVICE_BACKENDS_MAX);
	__type(key, __u32);
	__type(value, struct service_source);
} service_sources SEC(".maps");

/* The agent sets the sizes.  Entries are allocated as they come: most hosts keep few. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, SERVICE_FLOWS_DEFAULT);
	__type(key, struct service_key);
	__type(value, struct service_flow);
} service_flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, SERVICE_EMBRYOS_MAX);
	__type(key, struct service_key);
	__type(value, struct service_flow);
} service_embryos SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, SERVICE_FRAGMENTS_MAX);
	__type(key, struct connection_fragment_key);
	__type(value, struct service_fragment);
} service_fragments SEC(".maps");

/* Interfaces whose packets come by generic XDP: there the kernel still knows which checksum is to be made. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, SERVICE_GENERIC_MAX);
	__type(key, __u32);
	__type(value, __u32);
} service_generic SEC(".maps");

/* The agent sets the size: SERVICE_BACKENDS_MAX a CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct service_count);
} service_counts SEC(".maps");

/* … SERVICES_MAX a CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct service_lost);
} service_losses SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, SERVICE_BACKENDS_MAX);
	__type(key, __u32);
	__type(value, struct service_load);
} service_loads SEC(".maps");

/* TURNS: how many a service has given out. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SERVICES_MAX);
	__type(key, __u32);
	__type(value, __u32);
} service_turns SEC(".maps");

#endif

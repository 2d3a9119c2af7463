/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The engine from inside: what its files share. */
#ifndef WEIR_ENGINE_INTERNAL_H
#define WEIR_ENGINE_INTERNAL_H

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <netlink/netlink.h>

#include "engine/component.h"
#include "engine/connection.h"
#include "engine/engine.h"
#include "engine/pins.h"

/* The value of the pinned map "meta": what an adopting agent has to know before it touches anything. */
#define META_MAGIC 0x72696577 /* "weir" */
#define META_LAYOUT                                                                                          \
	17 /* of the shared structs and of the agent's regions; changes whenever one of them does */

struct engine_meta {
	uint32_t magic, layout;
	uint32_t cpus;
	struct engine_sizes sizes;
	uint64_t since_ns;             /* CLOCK_MONOTONIC */
	uint64_t network_namespace[2]; /* device and inode */
	uint64_t flow_seed[2];
};

enum engine_program {
	PROGRAM_ETHERNET_IN,
	PROGRAM_ETHERNET_OUT,
	PROGRAM_RAW_IN,
	PROGRAM_RAW_OUT,
	PROGRAM_COUNT,
};

/* An entry of the pinned map "hooks", by ifindex: clsact filters, which have no pin of their own. */
struct engine_clsact {
	uint32_t handle_in, priority_in, handle_out, priority_out;
	uint32_t made_qdisc; /* the clsact qdisc is ours to remove */
};

#define FEATURES_MAX       32
#define ENGINE_QDISC_KINDS 4

#define PARTS_MAX 20

/* What a program that writes lines of the flow cache is told before it is loaded.  A macro, since each
 * skeleton has a type of its own for the same constants. */
#define ENGINE_TELL_FLOWS(engine, skeleton)                                                                  \
	do {                                                                                                 \
		(skeleton)->rodata->flow_sets4 = (engine)->view.sets4;                                       \
		(skeleton)->rodata->flow_sets6 = (engine)->view.sets6;                                       \
		(skeleton)->rodata->flow_seed[0] = (engine)->meta.flow_seed[0];                              \
		(skeleton)->rodata->flow_seed[1] = (engine)->meta.flow_seed[1];                              \
		(skeleton)->rodata->flow_ring_bytes = (engine)->meta.sizes.ring_bytes;                       \
	} while (0)

struct engine {
	struct pins pins;
	bool adopted;
	struct engine_watch watch;
	struct engine_meta meta;
	struct watch_bpf *skeleton;
	struct watch_bpf *skeleton_raw; /* NULL: no interface without a link header was met */
	int programs[PROGRAM_COUNT];    /* by engine_program() */
	uint32_t program_ids[PROGRAM_COUNT];
	int hooks_map;
	int clock_program;
	uint64_t tick_ns;
	struct engine_view view;
	size_t cache4_bytes, cache6_bytes, rest6_bytes, stats_bytes;
	struct ring_buffer **rings; /* one per CPU */
	struct engine_ring_reader *readers;
	struct engine_names *names;
	struct engine_feature features[FEATURES_MAX];
	size_t feature_count;
	struct nl_sock *requests, *events;
	struct nl_sock *generic; /* NULL: not asked yet */
	int netdev_family;       /* negative: this kernel has none */
	int qdiscs_map;
	int8_t qdisc_kinds[ENGINE_QDISC_KINDS]; /* has the kernel them? 0: not asked yet */
	/* component.c: what all components share */
	uint64_t live_number;  /* of this load */
	uint64_t netns_cookie; /* of the network namespace we are in */
	int live_map, cgroup_root;
	struct engine_connection_settings connections;
	void *parts[PARTS_MAX];
};

/* feature.c */
void engine_probe_features(struct engine *engine);
bool engine_has(const struct engine *engine, const char *feature);

/* interface.c */
int engine_netlink_open(struct engine *engine, struct error *error);
void engine_netlink_close(struct engine *engine);

/* component.c */
int engine_place_open(struct engine *engine, struct error *error);
/* Switches from the tracing programs of the last agent to ours. */
int engine_go_live(struct engine *engine, struct error *error);
/* Takes away those of ours that did not get that far. */
void engine_not_live(struct engine *engine);

/* qdisc.c */
int engine_qdisc_open(struct engine *engine, struct error *error);
/* Takes away all that is weir's on interfaces. */
void engine_qdisc_remove_all(struct engine *engine);

/* name.c */
/* Before the programs are loaded. */
void engine_names_prepare(const struct engine *engine, struct watch_bpf *skeleton, bool on);
/* File descriptor of a program, or a negative errno. */
int engine_program(struct engine *engine, enum engine_program program);
int engine_names_open(struct engine *engine, struct error *error);
void engine_names_close(struct engine *engine);

/* part.c */
int engine_parts_open(struct engine *engine, struct error *error);
void engine_parts_close(struct engine *engine);

/* policy.c */
/* The object that decides, loaded. */
int engine_policy_object(struct engine *engine, const struct bpf_object **ret_object);
/* The same if it is loaded, else NULL. */
const struct bpf_object *engine_policy_loaded(const struct engine *engine);

/* What stands in a place of the policies, mapped; NULL: nothing. */
const struct policy_unit *engine_policy_units(
	const struct engine *engine, bool xdp, uint32_t place, size_t *ret_count);

/* policy_switch.c */
/* The place of the policy that is in force on an interface. */
uint32_t engine_policy_place_of(struct engine *engine, uint32_t index);

/* shield.c */
/* Loads the program, if it is not there yet. */
int engine_shield_load(struct engine *engine, struct error *error);
/* There is another policy for XDP in this place, which is not in force. */
void engine_shield_learn(struct engine *engine, uint32_t place);

/* What is loaded beforehand (engine/balance.h): _load_apart() changes nothing that others see, _take() gives
 * it to its part, or destroys it. */
struct shield_bpf;
struct service_bpf;
struct nat_bpf;
int engine_shield_load_apart(struct engine *engine, struct shield_bpf **ret_skeleton, struct error *error);
int engine_shield_take(struct engine *engine, struct shield_bpf *skeleton, struct error *error);
int engine_service_load(
	struct engine *engine, uint32_t flows, struct service_bpf **ret_skeleton, struct error *error);
int engine_service_take(struct engine *engine, struct service_bpf *skeleton, struct error *error);
struct balance_tc_bpf;
bool engine_balance_tc_loaded(const struct engine *engine);
int engine_balance_tc_load_apart(
	struct engine *engine, struct balance_tc_bpf **ret_skeleton, struct error *error);
void engine_balance_tc_take(struct engine *engine, struct balance_tc_bpf *skeleton);
bool engine_nat_loaded(const struct engine *engine);
int engine_nat_load_apart(struct engine *engine, struct nat_bpf **ret_skeleton, struct error *error);
int engine_nat_take(struct engine *engine, struct nat_bpf *skeleton, struct error *error);

/* shape.c */
/* Loads what classes need, if it is not there yet. */
int engine_shape_load(struct engine *engine, struct error *error);

/* connection.c */
/* Sizes, before the object with the table is loaded; times, afterwards.  0 or a negative errno. */
int engine_connections_prepare(struct engine *engine, struct bpf_object *object);
int engine_connections_start(struct engine *engine);

/* drop.c */
/* Does the tracepoint kfree_skb tell the socket that a packet was for? */
bool engine_drop_has_socket(void);

/* hook.c */
/* Puts this build's programs where an earlier agent's are. */
void engine_replace_programs(struct engine *engine);
void engine_detach_all(struct engine *engine);
/* A clsact filter that lasts as long as a capture or a check, in front of all others, or behind weir's own;
 * for kernels without TCX. */
struct engine_filter {
	uint32_t priority, handle; /* priority 0: none */
};
int engine_filter_add(struct engine *engine, uint32_t index, bool out, bool behind, int program,
	struct engine_filter *ret_filter);
void engine_filter_remove(
	struct engine *engine, uint32_t index, bool out, const struct engine_filter *filter);
/* The one of services (engine/balance_tc.h), where there is no TCX: puts it in front of weir's own, or this
 * program into its place; and takes it away, where it is. */
int engine_filter_balance(uint32_t index, int program);
void engine_filter_unbalance(uint32_t index);
/* Takes away those that a killed agent left. */
void engine_filter_sweep(struct engine *engine);
/* Our own TCX link on an interface, to be closed; negative: there is none. */
int engine_hook_link(const struct engine *engine, uint32_t index, bool out);

#endif

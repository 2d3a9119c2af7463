/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The configuration file (weir.yaml), as plain data.
 *
 *     interfaces: auto                 # or a list: [eth0, "veth*"]; a name may not be there yet
 *     flows:
 *       cache: {ipv4: 32768, ipv6: 8192}   # lines per CPU, powers of two, 64..4194304
 *       table: 131072                  # flows kept by the agent, 1024..16777216
 *       hosts: 65536                   # remote addresses with totals of their own, 64..1048576
 *       ring: 1mib                     # records on their way to the agent, per CPU, power of 2, 64kib..64mib
 *       scan: 5s                       # how often the cache is read when nobody asks, 100ms..1m
 *       idle: 2m                       # a flow without packets leaves the table, 1s..1d
 *       closed: 1m                     # after FIN or RST, 1s..1h
 *       active: 30m                    # a longer flow begins a new entry, 10s..7d; 0: never
 *     api:
 *       mode: "0660"                   # of the socket: who may read
 *       group: weir                    # group of the socket; default: root's
 *       change: root                   # who may change: root, or group (members of api.group too)
 *     metrics:
 *       listen: off                    # off, PORT (on 127.0.0.1) or ADDRESS:PORT / [ADDRESS6]:PORT
 *       processes: 50                  # with series of their own, 0..1000; the others are summed up
 *     owners:
 *       enabled: on                    # on, or off: nobody knows whose flows are; with the next start
 *       table: 16384                   # processes (identities) that are remembered, 256..1048576
 *       keep: 10m                      # how long after their end, 1s..7d
 *     sockets:
 *       enabled: on                    # on, or off: there are only lists; with the next start
 *       interval: 1m                   # progress of long connections in the feed, 1s..1h; 0: never
 *       remembered: 8192               # events and closed sockets kept in memory, 64..1048576
 *     audit:
 *       entries: 65536                 # of the audit trail, 1024..16777216; 0: off
 *     drops:
 *       enabled: on                    # on, or off: drops are neither counted nor recorded
 *       rate: 1000                     # records a second, 0..1000000; 0: only counted
 *     default: {in: accept, out: accept} # these eight are a policy (policy.h), in force as long as
 *     sets: {}                         # there is no file `policy`
 *     shapes: []
 *     services: []
 *     forward: []
 *     steer: []
 *     rules: []
 *     tenants: {}
 *     policy: policy.yaml              # where `weir save` puts the policy in force, beside this file
 *     connections:                     # with the next start
 *       table: 262144                  # that both ends have spoken on, 1024..16777216
 *       embryonic: 65536               # that only one end has, 1024..16777216
 *       timeouts:                      # without packets, each 1s..30d
 *         tcp: {new: 2m, answered: 1m, open: 5d, closing: 2m, closed: 2m, reset: 10s}
 *         udp: {new: 30s, answered: 30s, open: 2m}
 *         icmp: 30s
 *         other: 10m
 *     balance:                         # of services, with the next start
 *       hook: auto                     # where they are balanced: auto, xdp, generic, off
 *       flows: 1048576                 # connections that are kept, at most, 1024..16777216
 *       nat:                           # if a service says nothing
 *         from: []                     # addresses: one range a family; else the host's own
 *         ports: 61001-65535
 *     xdp: auto                        # auto, native, generic, off; {mode: auto, interfaces: {eth0: off}}
 *     log_packets: 100                 # records of the packets' log a second, 0..100000
 *     log_drops: 50                    # and of dropped packets whose rules do not log, 0..1000
 *     names: on                        # off, or {enabled: on, table: 16384}: 64..1048576 addresses, flows
 *     capture:
 *       before: off                    # or memory for the last packets (capture --before), 1mb..1gb
 *       snaplen: 96                    # bytes of each that are kept, 32..262144
 *     log: info                        # error, warning, info, debug
 */
#ifndef WEIR_MODEL_CONFIG_H
#define WEIR_MODEL_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "basic/address.h"
#include "basic/error.h"
#include "basic/log.h"
#include "model/match.h"
#include "model/policy.h"
#include "model/service.h"
#include "shared/connection.h"

enum config_balance {
	CONFIG_BALANCE_AUTO,
	CONFIG_BALANCE_XDP, /* in the driver */
	CONFIG_BALANCE_GENERIC,
	CONFIG_BALANCE_OFF,
};

enum config_xdp { CONFIG_XDP_AUTO, CONFIG_XDP_NATIVE, CONFIG_XDP_GENERIC, CONFIG_XDP_OFF };

struct config_xdp_interface {
	char name[MATCH_INTERFACE_MAX];
	enum config_xdp mode;
};

struct config {
	bool interfaces_auto;
	char **interfaces; /* names or fnmatch(3) patterns; NULL-terminated; NULL with interfaces_auto */

	uint32_t cache4_lines, cache6_lines; /* per CPU, powers of two */
	uint32_t table_flows;
	uint32_t table_hosts;
	uint32_t ring_bytes; /* per CPU, power of two, multiple of the page size */
	uint64_t scan_ns;
	uint64_t idle_ns, closed_ns, active_ns; /* active_ns 0: never */

	mode_t api_mode;
	char *api_group;       /* NULL: root's group; checked against the group database by the agent */
	bool api_group_change; /* members of api_group may change too */

	bool metrics_on;
	struct address metrics_address;
	uint16_t metrics_port; /* host byte order */
	uint32_t metrics_processes;

	bool owners_enabled; /* at start */
	uint32_t owners_table;
	uint64_t owners_keep_ns;

	bool sockets_enabled;         /* at start; only with owners */
	uint64_t sockets_interval_ns; /* 0: never */
	uint32_t sockets_remembered;
	uint32_t audit_entries; /* 0: no audit trail */

	bool drops_enabled;
	uint32_t drops_rate; /* records a second */

	bool names_on;
	uint32_t names_table; /* addresses with a name, and as many flows */

	uint32_t capture_before; /* bytes of memory; 0: off */
	uint32_t capture_snaplen;

	struct policy_text policy; /* default, sets, shapes, services, …, rules, tenants */
	char *policy_file;         /* as it was said, relative to the configuration file; NULL: policy.yaml */

	uint32_t connections_table, connections_embryonic; /* at start */
	uint64_t connections_ns[CONNECTION_FAMILIES][CONNECTION_STAGES];

	enum config_balance balance;
	uint32_t balance_flows; /* at start */
	struct config_nat {
		struct address first, last; /* family 0: not said */
	} balance_nat[2];                   /* IPv4, IPv6 */
	struct port_range balance_ports;

	enum config_xdp xdp; /* where nothing else is said: */
	struct config_xdp_interface *xdp_interfaces;
	size_t xdp_interface_count;

	uint32_t log_packets; /* records a second … */
	uint32_t log_drops;   /* … of what is dropped by rules that do not log */

	enum log_level log_level;
};

#define CONFIG_BYTES_MAX (16 * 1024 * 1024) /* of a file */

/* Defaults; config_free() undoes. */
int config_init(struct config *ret_config);
void config_free(struct config *config);

/* Reads a configuration.  0 or a negative errno with `error` naming file, line and column; unknown keys are
 * errors and the nearest known one is suggested.  ret_config (uninitialised before) untouched on failure. */
int config_read_file(const char *file, struct config *ret_config, struct error *error);
int config_read_text(
	const char *text, size_t length, const char *name, struct config *ret_config, struct error *error);

/* Is this interface name meant (for a list; auto is the agent's decision)? */
bool config_names_interface(const struct config *config, const char *name);

#endif

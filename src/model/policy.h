/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * A policy as a person writes it: sets, default verdicts, rules, tenants.  As plain data.
 *
 *     default: {in: drop, out: accept, log: on}   # accept (the default), drop or reject;
 *                                                 # log: what is not accepted
 *     sets:
 *       bastions: [192.0.2.1, "2001:db8::/64"]
 *       blocklist: {file: blocklist.netset}       # relative: beside the file that names it
 *       ports: |                                  # one a line, for long ones
 *         22
 *         8000-8080
 *     shapes:                                     # classes that are declared (shape.h)
 *       - bulk under eth0 weight 1 ceiling 200mbit
 *     services:                                   # what is balanced (service.h)
 *       - web tcp 203.0.113.10 port 443 to 10.0.0.11 weight 2, 10.0.0.12
 *     forward: [from eth0 by route]               # forward.h
 *     steer: [in on eth0 to cpus 0-7 by flow]
 *     rules:                                      # of packets and of sockets (rule.h), in their order
 *       - accept in tcp to port 22 from @bastions log
 *     tenants:
 *       web:
 *         interfaces: [veth3]                     # at least one of interfaces, cgroups
 *         cgroups: [/system.slice/web.slice]
 *         default: {in: drop}
 *         rules: [accept in tcp to port 80]       # of packets
 *
 * These sections stand in the configuration file (config.h), or in a file of their own (`weir apply FILE`,
 * `weir save`).  A file says all of a policy: what it does not have (a default verdict, rules, tenants) is
 * not there when it is applied.  Only sets stay as they are where the file has none of their name.
 */
#ifndef WEIR_MODEL_POLICY_H
#define WEIR_MODEL_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "basic/error.h"
#include "shared/policy.h"
#include "shared/set.h"

#define POLICY_TENANTS_MAX    (POLICY_TENANT_END - POLICY_TENANT)
#define POLICY_TENANT_MAX     32                 /* a tenant's name, with the NUL: made as a set's */
#define POLICY_SETS_MAX       (2 * SET_MAX)      /* of addresses and of ports */
#define POLICY_PLACES_MAX     64                 /* interfaces, and cgroups, of a tenant */
#define POLICY_FILE_BYTES_MAX (64 * 1024 * 1024) /* of a policy's file */

/* What is judged by one list of rules: the host, a tenant. */
struct policy_list {
	enum policy_action defaults[2]; /* in, out: POLICY_ACCEPT, POLICY_DROP or POLICY_REJECT */
	bool log;                       /* what the default drops or rejects */
	char **rules;                   /* as rule_print() writes them; NULL-terminated; NULL: none */
	size_t *rules_at;               /* where each begins in its file's text; NULL: it came from none */
	size_t rule_count;
};

struct policy_set {
	char name[SET_NAME_MAX];
	char *file;    /* where the entries are (absolute, or as the agent's directory has it); NULL: here */
	char *entries; /* a list as set_list_parse() reads it; NULL with `file` */
	size_t length; /* of `entries` */
};

struct policy_tenant {
	char name[POLICY_TENANT_MAX];
	char **interfaces; /* names; NULL-terminated; NULL: none */
	char **cgroups;    /* paths as OWNER_CGROUP has them; NULL-terminated; NULL: none */
	struct policy_list list;
};

/* What the host has besides rules on packets and sockets: a section each. */
enum policy_section {
	POLICY_SHAPES,
	POLICY_SERVICES,
	POLICY_FORWARDS,
	POLICY_STEERS,
	POLICY_SECTIONS,
};

struct policy_sentences {
	char **texts; /* without the verb in front, as rule_print() writes them; NULL-terminated; NULL: none
	               */
	size_t *at;   /* where each begins in its file's text; NULL: it came from none */
	size_t count;
};

struct policy_text {
	struct policy_list host;
	struct policy_set *sets; /* in the file's order */
	size_t set_count;
	struct policy_sentences sections[POLICY_SECTIONS];
	struct policy_tenant *tenants;
	size_t tenant_count;
};

/* The policy that accepts everything: all zero, too. */
void policy_text_init(struct policy_text *ret_policy);
void policy_text_clear(struct policy_text *policy);

/*
 * Reads a policy.  `name` is the file's, for errors, and for relative names of sets' files.  0, or a negative
 * errno with `error` naming file, line and column; every rule and every entry has been looked at, but not
 * what they name (sets, interfaces, the sets' files).  ret_policy (uninitialised before) untouched on
 * failure.
 */
int policy_text_read(const char *text, size_t length, const char *name, struct policy_text *ret_policy,
	struct error *error);
int policy_text_read_file(const char *file, struct policy_text *ret_policy, struct error *error);

/* YAML that reads as the same policy.  0, or -EIO. */
int policy_text_print(const struct policy_text *policy, FILE *out);

/*
 * What makes one policy of the other, line by line: '-' goes, '+' comes, '~' changes ("set blocklist: 2
 * entries come (192.0.2.1, 192.0.2.8), 1 goes (10.0.0.0/8)", three shown at most; "limit out udp to 2mbit
 * (before: limit out udp to 1mbit)", a class whose rates alone change), in the order of the lists;
 * a rule that moves goes and comes.  `tenant` is "" for the host.  A function that returns non-zero ends it
 * with that.  Sets that `to` does not have stay, and are no difference; of a set in a file that is there the
 * entries are compared.  0 or -ENOMEM.
 */
typedef int policy_diff_function(void *context, char sign, const char *tenant, const char *text);
int policy_text_diff(const struct policy_text *from, const struct policy_text *to,
	policy_diff_function *function, void *context);

/* "shapes", "services", …: the sections' keys; "shape", "service", …: what each sentence is with in front of
 * it a rule.  In the order of enum policy_section. */
extern const char *const policy_section_keys[];
extern const char *const policy_section_verbs[];
/* The section that has the sentences of a verb; POLICY_SECTIONS: none. */
enum policy_section policy_section_find(const char *verb);

/* "accept", "drop", "reject"; NULL-terminated, in the order of enum policy_action. */
extern const char *const policy_verdicts[];

#endif

/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Rules on packets with what their names mean: what compiler and second opinion have in common. */
#ifndef WEIR_COMPILE_POLICY_RULE_H
#define WEIR_COMPILE_POLICY_RULE_H

#include "compile/policy.h"

struct policy_rule_view {
	const struct rule *rule;
	uint32_t source; /* in the order */
	uint32_t asks;   /* fields, a bit each, but for addresses, sets and ports */
	enum policy_action action;
	uint8_t family;     /* 4, 6; 0: either */
	uint8_t directions; /* 1: in, 2: out */
	bool never;         /* no packet fits: it names an interface that is not there, or two families */
	bool by_family;     /* the kind of packet is asked for the family of an address alone */
	bool fragments;     /* asks which fragment it is */
	bool fickle;        /* asks for what may change within a flow */
	bool loose; /* in XDP: stands for packets that tc decides about, so it fits whatever XDP cannot see */
	int protocol;
	uint32_t ifindex, target; /* 0: not asked, none */
	int sets[3];              /* numbers, of source, destination, either; -1: none */
	const struct port_range *port_sets[3];
	size_t port_set_counts[3];
	uint8_t owner, expression; /* number + 1; 0: none */
	uint32_t mark, mark_mask;
};

struct policy_rule_views {
	struct policy_rule_view *views;
	size_t count;
	struct owner_condition owners[POLICY_OWNERS_MAX];
	size_t owner_count;
	const char *expressions[POLICY_EXPRESSIONS_MAX];
	size_t expression_count;
	bool lent; /* the order's */
};

/* 0, -E2BIG, -ENOENT or -ENOMEM. */
int policy_rule_views_make(
	struct policy_rule_views *views, const struct policy_order *order, struct error *error);
void policy_rule_views_clear(struct policy_rule_views *views);

/* The values [*ret_first, *ret_end) that a rule takes of POLICY_BY_PROTO, _INTERFACE, _ICMP, _DSCP, _VLAN, if
 * it asks. */
void policy_rule_range(const struct policy_rule_view *view, enum policy_field_name field, uint32_t *ret_first,
	uint32_t *ret_end);
/* Of POLICY_BY_KIND, _FLAGS, _STATE. */
bool policy_rule_takes(const struct policy_rule_view *view, enum policy_field_name field, uint32_t value);

#endif

/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Do two matches say the same?  Field by field: padding and unused ports do not count.
 */
#ifndef WEIR_TESTS_MATCH_H
#define WEIR_TESTS_MATCH_H

#include <string.h>

#include "model/match.h"

static inline bool endpoint_equal(const struct endpoint *a, const struct endpoint *b)
{
	if (a->has_prefix != b->has_prefix || a->port_count != b->port_count)
		return false;
	if (a->has_prefix && (a->prefix.length != b->prefix.length ||
				     address_compare(&a->prefix.address, &b->prefix.address) != 0))
		return false;
	for (unsigned int i = 0; i < a->port_count; i++) {
		if (a->ports[i].low != b->ports[i].low || a->ports[i].high != b->ports[i].high)
			return false;
	}
	return true;
}

static inline bool match_equal(const struct match *a, const struct match *b)
{
	return a->direction == b->direction && strcmp(a->interface, b->interface) == 0 &&
	       a->family == b->family && a->protocol == b->protocol && endpoint_equal(&a->from, &b->from) &&
	       endpoint_equal(&a->to, &b->to) && endpoint_equal(&a->either, &b->either) &&
	       a->tcp_flags == b->tcp_flags && a->icmp_type == b->icmp_type && a->vlan == b->vlan &&
	       a->fragment == b->fragment && a->owner.kind == b->owner.kind &&
	       a->owner.number == b->owner.number && strcmp(a->owner.text, b->owner.text) == 0;
}

#endif

/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Rules on packets: how they are printed, and which covers which. */
#include <inttypes.h>
#include <netinet/in.h>
#include <string.h>

#include "basic/units.h"
#include "model/rule_packet.h"
#include "model/shape_read.h"

static void mark_put(struct printer *p, uint32_t mark, uint32_t mask)
{
	if (mask == UINT32_MAX)
		printer_put(p, " mark %u", mark);
	else if (mask)
		printer_put(p, " mark 0x%x/0x%x", mark, mask);
}

static void dscp_put(struct printer *p, int dscp)
{
	const char *name = dscp >= 0 ? dscp_name(dscp) : NULL;

	if (name)
		printer_put(p, " dscp %s", name);
	else if (dscp >= 0)
		printer_put(p, " dscp %d", dscp);
}

/* What stands right behind the verb, which is printed already. */
static void arguments_put(struct printer *p, const struct rule *rule)
{
	const struct rule_packet *packet = &rule->packet;

	switch (rule->verb) {
	case RULE_MARK:
		if (packet->set_mark_mask == UINT32_MAX)
			printer_put(p, " %u", packet->set_mark);
		else
			printer_put(p, " 0x%x/0x%x", packet->set_mark, packet->set_mark_mask);
		break;
	case RULE_REDIRECT:
	case RULE_MIRROR:
		printer_put(p, " to %s", packet->interface);
		break;
	case RULE_REWRITE:
		dscp_put(p, packet->set_dscp);
		if (packet->set_mac_src || packet->set_mac_dst)
			printer_put(p, " %s mac %02x:%02x:%02x:%02x:%02x:%02x",
				packet->set_mac_src ? "source" : "destination", packet->mac[0],
				packet->mac[1], packet->mac[2], packet->mac[3], packet->mac[4],
				packet->mac[5]);
		break;
	default:
		break;
	}
}

static void end_put(struct printer *p, const char *word, const struct endpoint *end, const char *set,
	const char *port_set)
{
	if (set[0]) {
		printer_put(p, " %s @%s", word, set);
		printer_ports(p, end);
	} else {
		printer_endpoint(p, word, end);
		if (port_set[0] && !end->has_prefix)
			printer_put(p, " %s", word);
	}
	if (port_set[0])
		printer_put(p, " port @%s", port_set);
}

static void flags_put(struct printer *p, const struct rule_packet *packet)
{
	if (!packet->flags_mask)
		return;
	printer_put(p, " flags ");
	if (packet->flags)
		printer_flags(p, packet->flags);
	else
		printer_put(p, "none");
	if (packet->flags_mask != (packet->flags ? packet->flags : UINT8_MAX)) {
		printer_put(p, "/");
		printer_flags(p, packet->flags_mask);
	}
}

void rule_match_put(struct printer *p, const struct rule *rule)
{
	static const char *const fragments[] = {
		[RULE_FRAGMENT_FIRST_OR_LATER] = " fragment",
		[RULE_FRAGMENT_FIRST] = " fragment first",
		[RULE_FRAGMENT_LATER] = " fragment later",
	};
	const struct rule_packet *packet = &rule->packet;
	const struct match *match = &rule->match;
	char text[ADDRESS_TEXT_MAX];

	if (match->direction != MATCH_BOTH)
		printer_put(p, " %s", match->direction == MATCH_IN ? "in" : "out");
	if (match->interface[0])
		printer_put(p, " on %s", match->interface);
	if (match->family)
		printer_put(p, " %s", match->family == 6 ? "ip6" : "ip");
	printer_protocol(p, match, packet->icmp_code);
	/* `host` and `port` first: behind `from` or `to`, the port would be theirs. */
	if (match->either.has_prefix)
		printer_put(p, " host %s", prefix_print(text, sizeof(text), &match->either.prefix));
	if (packet->either_set[0])
		printer_put(p, " host @%s", packet->either_set);
	printer_ports(p, &match->either);
	if (packet->either_port_set[0])
		printer_put(p, " port @%s", packet->either_port_set);
	end_put(p, "from", &match->from, packet->from_set, packet->from_port_set);
	end_put(p, "to", &match->to, packet->to_set, packet->to_port_set);
	flags_put(p, packet);
	if (packet->states) {
		printer_put(p, " state ");
		printer_states(p, packet->states);
	}
	dscp_put(p, packet->dscp);
	mark_put(p, packet->mark, packet->mark_mask);
	if (match->vlan >= 0)
		printer_put(p, " vlan %d", match->vlan);
	if (packet->untagged)
		printer_put(p, " untagged");
	if (packet->fragment)
		printer_put(p, "%s", fragments[packet->fragment]);
	printer_owner(p, rule->owner_not ? "not by" : "by", &match->owner);
	if (packet->expression[0])
		printer_put(p, " %s \"%s\"", packet->expression_not ? "not matching" : "matching",
			packet->expression);
}

static void limit_put(struct printer *p, const struct rule *rule)
{
	const struct rule_packet *packet = &rule->packet;
	const struct rate_period *period = rate_periods;
	char text[32];

	if (packet->per) {
		printer_put(p, " per %s", packet->per == POLICY_PER_SOURCE ? "source" : "destination");
		if (packet->per_bits4 != 32 || packet->per_bits6 != 128)
			printer_put(p, "/%u,%u", packet->per_bits4, packet->per_bits6);
	}
	switch (packet->unit) {
	case POLICY_LIMIT_CONNECTIONS:
		printer_put(p, " to %" PRIu64 " connection%s", (uint64_t)packet->rate.burst,
			packet->rate.burst == 1 ? "" : "s");
		return;
	case POLICY_LIMIT_BYTES:
		printer_put(p, " to %s", rate_print(text, sizeof(text), packet->rate.rate * 8));
		break;
	case POLICY_LIMIT_PACKETS:
		while (period[1].name && period->ns != packet->rate.period_ns)
			period++;
		printer_put(p, " to %" PRIu64 "/%s", (uint64_t)packet->rate.rate, period->name);
		break;
	}
	if (rule_is_shape(rule)) {
		shape_terms_put(p, &rule->shape, 1U << SHAPE_TERM_CEILING);
		return;
	}
	if (packet->rate.burst == rule_burst_usual(packet))
		return;
	if (packet->unit == POLICY_LIMIT_BYTES)
		printer_put(p, " burst %s", size_print(text, sizeof(text), packet->rate.burst));
	else
		printer_put(p, " burst %" PRIu64, (uint64_t)packet->rate.burst);
}

void rule_packet_put(struct printer *p, const struct rule *rule)
{
	char text[32];

	arguments_put(p, rule);
	rule_match_put(p, rule);
	if (rule->verb == RULE_LIMIT) {
		limit_put(p, rule);
	} else if (rule->verb == RULE_GUARANTEE) {
		printer_put(p, " %s", rate_print(text, sizeof(text), rule->shape.guarantee_bps));
		shape_terms_put(p, &rule->shape, 1U << SHAPE_TERM_GUARANTEE);
	} else if (rule->verb == RULE_ASSIGN) {
		printer_put(p, " to %s", rule->class);
	}
	if (rule->packet.reject)
		printer_put(p, " with %s", reject_answer_name(rule->packet.reject));
	if (rule->packet.log)
		printer_put(p, " log");
	if (rule->for_ns)
		printer_put(p, " for %s", duration_print(text, sizeof(text), rule->for_ns));
}

/*
 * Which rule hides which
 */

static uint8_t family_of(const struct rule *rule)
{
	const struct match *match = &rule->match;
	const struct endpoint *const ends[] = {&match->from, &match->to, &match->either};

	for (int i = 0; i < 3; i++)
		if (ends[i]->has_prefix)
			return ends[i]->prefix.address.family;
	if (match->protocol == IPPROTO_ICMP || match->protocol == IPPROTO_ICMPV6)
		return match->protocol == IPPROTO_ICMP ? 4 : 6;
	return match->family;
}

bool rule_names_set(const struct rule *rule, const char *name)
{
	const struct rule_packet *packet = &rule->packet;
	const char *const sets[] = {packet->from_set, packet->to_set, packet->either_set,
		packet->from_port_set, packet->to_port_set, packet->either_port_set};

	if (rule_is_on_sockets(rule))
		return false;
	for (size_t i = 0; i < sizeof(sets) / sizeof(sets[0]); i++)
		if (*sets[i] && (!name || strcmp(sets[i], name) == 0))
			return true;
	return false;
}

static bool set_covers(const char *wide, const char *narrow)
{
	return !wide[0] || strcmp(wide, narrow) == 0;
}

static bool ends_cover(const struct rule *wide, const struct rule *narrow)
{
	const struct match *w = &wide->match, *n = &narrow->match;
	const struct rule_packet *wp = &wide->packet, *np = &narrow->packet;

	return rule_prefix_covers(&w->from, &n->from) && rule_ports_cover(&w->from, &n->from) &&
	       rule_prefix_covers(&w->to, &n->to) && rule_ports_cover(&w->to, &n->to) &&
	       (rule_prefix_covers(&w->either, &n->either) || rule_prefix_covers(&w->either, &n->from) ||
		       rule_prefix_covers(&w->either, &n->to)) &&
	       (rule_ports_cover(&w->either, &n->either) || rule_ports_cover(&w->either, &n->from) ||
		       rule_ports_cover(&w->either, &n->to)) &&
	       (set_covers(wp->either_set, np->either_set) || set_covers(wp->either_set, np->from_set) ||
		       set_covers(wp->either_set, np->to_set)) &&
	       (set_covers(wp->either_port_set, np->either_port_set) ||
		       set_covers(wp->either_port_set, np->from_port_set) ||
		       set_covers(wp->either_port_set, np->to_port_set)) &&
	       set_covers(wp->from_set, np->from_set) && set_covers(wp->to_set, np->to_set) &&
	       set_covers(wp->from_port_set, np->from_port_set) &&
	       set_covers(wp->to_port_set, np->to_port_set);
}

static bool fragment_covers(enum rule_fragment wide, enum rule_fragment narrow)
{
	return !wide || wide == narrow || (wide == RULE_FRAGMENT_FIRST_OR_LATER && narrow);
}

static bool masked_covers(uint32_t wide, uint32_t wide_mask, uint32_t narrow, uint32_t narrow_mask)
{
	return (narrow_mask & wide_mask) == wide_mask && (narrow & wide_mask) == wide;
}

static bool expression_covers(const struct rule_packet *wide, const struct rule_packet *narrow)
{
	return !wide->expression[0] || (wide->expression_not == narrow->expression_not &&
					       strcmp(wide->expression, narrow->expression) == 0);
}

bool rule_packet_covers(const struct rule *wide, const struct rule *narrow)
{
	const struct match *w = &wide->match, *n = &narrow->match;
	const struct rule_packet *wp = &wide->packet, *np = &narrow->packet;

	return (w->direction == MATCH_BOTH || w->direction == n->direction) &&
	       (!w->interface[0] || strcmp(w->interface, n->interface) == 0) &&
	       (!family_of(wide) || family_of(wide) == family_of(narrow)) &&
	       (w->protocol < 0 || w->protocol == n->protocol) &&
	       (w->icmp_type < 0 || w->icmp_type == n->icmp_type) &&
	       (wp->icmp_code < 0 || wp->icmp_code == np->icmp_code) && (w->vlan < 0 || w->vlan == n->vlan) &&
	       (!wp->untagged || np->untagged) && (wp->dscp < 0 || wp->dscp == np->dscp) &&
	       (!wp->states || (np->states && !(np->states & ~wp->states))) &&
	       fragment_covers(wp->fragment, np->fragment) &&
	       masked_covers(wp->flags, wp->flags_mask, np->flags, np->flags_mask) &&
	       masked_covers(wp->mark, wp->mark_mask, np->mark, np->mark_mask) && ends_cover(wide, narrow) &&
	       rule_owner_covers(wide, narrow) && expression_covers(wp, np);
}

// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Neighbours, through rtnetlink: programs at XDP see the kernel's table, but cannot have it look for one. */
#include <errno.h>
#include <linux/neighbour.h>
#include <netlink/msg.h>
#include <netlink/route/neighbour.h>
#include <netlink/route/nexthop.h>
#include <netlink/route/route.h>
#include <string.h>

#include "engine/internal.h"
#include "engine/service.h"

/* -- what the kernel knows -- */

static int state_read(struct nl_msg *message, void *context)
{
	const struct ndmsg *neighbour = nlmsg_data(nlmsg_hdr(message));

	*(uint16_t *)context = neighbour->ndm_state;
	return NL_OK;
}

/* NUD_*; 0: there is none, or the kernel does not say. */
static uint16_t neighbour_state(struct engine *engine, int ifindex, struct nl_addr *to)
{
	const struct ndmsg wanted = {.ndm_family = (uint8_t)nl_addr_get_family(to), .ndm_ifindex = ifindex};
	struct nl_cb *own = nl_socket_get_cb(engine->requests), *callbacks = nl_cb_clone(own);
	struct nl_msg *message = nlmsg_alloc_simple(RTM_GETNEIGH, 0);
	uint16_t state = 0;

	if (message && callbacks &&
		nlmsg_append(message, (void *)&wanted, sizeof(wanted), NLMSG_ALIGNTO) == 0 &&
		nla_put_addr(message, NDA_DST, to) == 0) {
		nl_cb_set(callbacks, NL_CB_VALID, NL_CB_CUSTOM, state_read, &state);
		if (nl_send_auto(engine->requests, message) >= 0 &&
			nl_recvmsgs(engine->requests, callbacks) >= 0)
			nl_wait_for_ack(engine->requests);
	}
	nlmsg_free(message);
	nl_cb_put(callbacks);
	nl_cb_put(own);
	return state;
}

/* The neighbour: the route's gateway, else the address itself.  To ask for one that is permanent would make
 * it one that is not known. */
static int neighbour_ask(struct engine *engine, struct nl_addr *to, struct rtnl_route *route)
{
	struct rtnl_nexthop *hop = rtnl_route_nexthop_n(route, 0);
	struct nl_addr *gateway = hop ? rtnl_route_nh_get_gateway(hop) : NULL;
	struct rtnl_neigh *neighbour = NULL;
	int r;

	if (hop && neighbour_state(engine, rtnl_route_nh_get_ifindex(hop), gateway ? gateway : to) &
			   (NUD_PERMANENT | NUD_NOARP))
		return 0;
	if (hop)
		neighbour = rtnl_neigh_alloc();
	if (!neighbour)
		return hop ? -ENOMEM : -ENETUNREACH;
	rtnl_neigh_set_ifindex(neighbour, rtnl_route_nh_get_ifindex(hop));
	rtnl_neigh_set_dst(neighbour, gateway ? gateway : to);
	rtnl_neigh_set_flags(neighbour, NTF_USE);
	r = rtnl_neigh_add(engine->requests, neighbour, NLM_F_CREATE);
	rtnl_neigh_put(neighbour);
	return r < 0 ? -EIO : 0;
}

/* 0, with a route for the caller to put, or a negative errno. */
static int route_find(struct engine *engine, uint8_t family, const uint8_t *to, struct nl_addr **ret_address,
	struct rtnl_route **ret_route)
{
	struct nl_addr *address = nl_addr_build(family == 4 ? AF_INET : AF_INET6, to, family == 4 ? 4 : 16);
	int r = address ? rtnl_route_lookup(engine->requests, address, ret_route) : -NLE_NOMEM;

	if (r < 0) {
		nl_addr_put(address);
		return r == -NLE_NOMEM ? -ENOMEM : -ENETUNREACH;
	}
	*ret_address = address;
	return 0;
}

int engine_hop_find(struct engine *engine, uint8_t family, const uint8_t *to, struct engine_hop *ret_hop)
{
	unsigned int length = family == 4 ? 4 : 16;
	struct rtnl_route *route = NULL;
	struct rtnl_nexthop *next;
	struct nl_addr *address, *from;
	struct engine_hop hop = {};
	int r = route_find(engine, family, to, &address, &route);

	if (r < 0)
		return r;
	next = rtnl_route_nexthop_n(route, 0);
	from = rtnl_route_get_pref_src(route);
	if (next) {
		hop.index = (uint32_t)rtnl_route_nh_get_ifindex(next);
		hop.gateway = rtnl_route_nh_get_gateway(next);
	}
	hop.local = rtnl_route_get_type(route) == RTN_LOCAL;
	hop.several = !hop.local && rtnl_route_get_type(route) != RTN_UNICAST;
	hop.has_from = from && nl_addr_get_len(from) == length;
	if (hop.has_from)
		memcpy(hop.from, nl_addr_get_binary_addr(from), length);
	rtnl_route_put(route);
	nl_addr_put(address);
	if (!next)
		return -ENETUNREACH;
	*ret_hop = hop;
	return 0;
}

int engine_neighbour_use(struct engine *engine, uint8_t family, const uint8_t *to)
{
	struct rtnl_route *route = NULL;
	struct nl_addr *address;
	int r = route_find(engine, family, to, &address, &route);

	if (r < 0)
		return r;
	r = neighbour_ask(engine, address, route);
	rtnl_route_put(route);
	nl_addr_put(address);
	return r;
}

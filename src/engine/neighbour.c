// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Neighbours, through rtnetlink: programs at XDP see the kernel's table, but cannot have it look for one. */
#include <errno.h>
#include <linux/neighbour.h>
#include <netlink/route/neighbour.h>
#include <netlink/route/nexthop.h>
#include <netlink/route/route.h>

#include "engine/internal.h"
#include "engine/service.h"

/* The neighbour: the route's gateway, else the address itself. */
static int neighbour_ask(struct engine *engine, struct nl_addr *to, struct rtnl_route *route)
{
	struct rtnl_nexthop *hop = rtnl_route_nexthop_n(route, 0);
	struct nl_addr *gateway = hop ? rtnl_route_nh_get_gateway(hop) : NULL;
	struct rtnl_neigh *neighbour = hop ? rtnl_neigh_alloc() : NULL;
	int r;

	if (!neighbour)
		return hop ? -ENOMEM : -ENETUNREACH;
	rtnl_neigh_set_ifindex(neighbour, rtnl_route_nh_get_ifindex(hop));
	rtnl_neigh_set_dst(neighbour, gateway ? gateway : to);
	rtnl_neigh_set_flags(neighbour, NTF_USE);
	r = rtnl_neigh_add(engine->requests, neighbour, NLM_F_CREATE);
	rtnl_neigh_put(neighbour);
	return r < 0 ? -EIO : 0;
}

int engine_neighbour_use(struct engine *engine, uint8_t family, const uint8_t *to)
{
	struct nl_addr *address = nl_addr_build(family == 4 ? AF_INET : AF_INET6, to, family == 4 ? 4 : 16);
	struct rtnl_route *route = NULL;
	int r;

	if (!address)
		return -ENOMEM;
	r = rtnl_route_lookup(engine->requests, address, &route);
	r = r < 0 ? -ENETUNREACH : neighbour_ask(engine, address, route);
	if (route)
		rtnl_route_put(route);
	nl_addr_put(address);
	return r;
}

// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Interfaces, through rtnetlink. */
/* before the kernel's linux/if.h, which then gives way */
#include <net/if.h>

#include <errno.h>
#include <linux/if_arp.h>
#include <netlink/route/link.h>
#include <netlink/route/nexthop.h>
#include <netlink/route/route.h>
#include <stdlib.h>
#include <string.h>

#include "basic/cleanup.h"
#include "engine/internal.h"

static int ignore_message(struct nl_msg *message, void *context)
{
	(void)message;
	(void)context;
	return NL_OK;
}

int engine_netlink_open(struct engine *engine, struct error *error)
{
	int r;

	engine->requests = nl_socket_alloc();
	engine->events = nl_socket_alloc();
	if (!engine->requests || !engine->events)
		return error_set(error, -ENOMEM, "out of memory");
	/* What changed is not looked at: an event only says that it is time to look at everything again.  So
	 * a lost event (ENOBUFS) is as good as a read one. */
	nl_socket_disable_seq_check(engine->events);
	nl_socket_modify_cb(engine->events, NL_CB_VALID, NL_CB_CUSTOM, ignore_message, NULL);
	nl_join_groups(engine->events, RTMGRP_LINK);
	r = nl_connect(engine->requests, NETLINK_ROUTE);
	if (r == 0)
		r = nl_connect(engine->events, NETLINK_ROUTE);
	if (r == 0)
		r = nl_socket_set_nonblocking(engine->events);
	if (r < 0)
		return error_set(error, -EIO, "cannot talk to the kernel's rtnetlink: %s", nl_geterror(r));
	return 0;
}

void engine_netlink_close(struct engine *engine)
{
	nl_socket_free(engine->requests);
	nl_socket_free(engine->events);
	nl_socket_free(engine->generic);
	engine->requests = engine->events = engine->generic = NULL;
}

int engine_interface_fd(const struct engine *engine)
{
	return nl_socket_get_fd(engine->events);
}

void engine_interface_drain(struct engine *engine)
{
	while (nl_recvmsgs_default(engine->events) == 0)
		;
}

/* Link types whose packets have no link header when tc sees them. */
static bool is_raw(unsigned int type)
{
	switch (type) {
	case ARPHRD_NONE:
	case ARPHRD_PPP:
	case ARPHRD_TUNNEL:
	case ARPHRD_TUNNEL6:
	case ARPHRD_SIT:
	case ARPHRD_IPGRE:
	case ARPHRD_IP6GRE:
	case ARPHRD_RAWIP:
		return true;
	default:
		return false;
	}
}

int engine_interfaces(struct engine *engine, struct engine_interface **ret_interfaces, size_t *ret_count)
{
	_cleanup_free_ struct engine_interface *interfaces = NULL;
	struct nl_cache *cache = NULL;
	size_t count = 0;
	int r = rtnl_link_alloc_cache(engine->requests, AF_UNSPEC, &cache);

	if (r < 0)
		return r == -NLE_NOMEM ? -ENOMEM : -EIO;
	interfaces = calloc((size_t)nl_cache_nitems(cache) + 1, sizeof(*interfaces));
	if (!interfaces) {
		nl_cache_free(cache);
		return -ENOMEM;
	}
	for (struct nl_object *object = nl_cache_get_first(cache); object;
		object = nl_cache_get_next(object)) {
		struct rtnl_link *link = (struct rtnl_link *)object;
		struct engine_interface *interface = &interfaces[count];
		const char *name = rtnl_link_get_name(link), *kind = rtnl_link_get_type(link);
		struct nl_addr *mac = rtnl_link_get_addr(link);

		if (!name)
			continue;
		*interface = (struct engine_interface){
			.index = (uint32_t)rtnl_link_get_ifindex(link),
			.up = rtnl_link_get_flags(link) & IFF_UP,
			.loopback = rtnl_link_get_flags(link) & IFF_LOOPBACK,
			.ethernet = !is_raw(rtnl_link_get_arptype(link)),
			.in = {rtnl_link_get_stat(link, RTNL_LINK_RX_PACKETS),
				rtnl_link_get_stat(link, RTNL_LINK_RX_BYTES),
				rtnl_link_get_stat(link, RTNL_LINK_RX_DROPPED)},
			.out = {rtnl_link_get_stat(link, RTNL_LINK_TX_PACKETS),
				rtnl_link_get_stat(link, RTNL_LINK_TX_BYTES),
				rtnl_link_get_stat(link, RTNL_LINK_TX_DROPPED)},
		};
		snprintf(interface->name, sizeof(interface->name), "%s", name);
		snprintf(interface->kind, sizeof(interface->kind), "%s", kind ? kind : "");
		if (mac && nl_addr_get_len(mac) == sizeof(interface->mac))
			memcpy(interface->mac, nl_addr_get_binary_addr(mac), sizeof(interface->mac));
		count++;
	}
	nl_cache_free(cache);
	*ret_interfaces = TAKE(interfaces);
	*ret_count = count;
	return 0;
}

int engine_route(
	struct engine *engine, uint8_t family, const uint8_t *to, uint32_t *ret_index, uint8_t *ret_from)
{
	int length = family == 4 ? 4 : 16, r;
	struct nl_addr *address = nl_addr_build(family == 4 ? AF_INET : AF_INET6, to, (size_t)length), *from;
	struct rtnl_route *route = NULL;
	struct rtnl_nexthop *hop;

	if (!address)
		return -ENOMEM;
	r = rtnl_route_lookup(engine->requests, address, &route);
	nl_addr_put(address);
	if (r < 0)
		return r == -NLE_NOMEM ? -ENOMEM : -ENETUNREACH;
	hop = rtnl_route_nexthop_n(route, 0);
	from = rtnl_route_get_pref_src(route);
	r = hop && from && nl_addr_get_len(from) == (unsigned int)length ? 0 : -ENETUNREACH;
	if (r == 0) {
		*ret_index = (uint32_t)rtnl_route_nh_get_ifindex(hop);
		memcpy(ret_from, nl_addr_get_binary_addr(from), (size_t)length);
	}
	rtnl_route_put(route);
	return r;
}

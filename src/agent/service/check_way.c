// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * The way of a check: through the tunnel that the service's packets take, to the service's own address
 * (shared/check.h).  The socket is connected to the backend's; the datapath is told by its port, which is
 * nobody else's as long as the check lasts.
 */
#include <errno.h>
#include <event2/bufferevent.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/service/checks_internal.h"
#include "agent/service/services.h"
#include "basic/cleanup.h"
#include "engine/check.h"

/* With what goes around it, such a segment fits wherever IPv6 does (RFC 8200: 1280): 40 and 8 of the tunnel,
 * 40 and 60 of the packet at most. */
#define SEGMENT_MAX 1132

union end {
	struct sockaddr any;
	struct sockaddr_in four;
	struct sockaddr_in6 six;
	struct sockaddr_storage storage;
};

static socklen_t end_make(union end *end, uint8_t family, const void *address, uint16_t port)
{
	*end = (union end){};
	if (family == 4) {
		end->four.sin_family = AF_INET;
		end->four.sin_port = htons(port);
		memcpy(&end->four.sin_addr, address, 4);
		return sizeof(end->four);
	}
	end->six.sin6_family = AF_INET6;
	end->six.sin6_port = htons(port);
	memcpy(&end->six.sin6_addr, address, 16);
	return sizeof(end->six);
}

bool check_takes_way(const struct service_text *service)
{
	const struct service_check *check = &service->check;

	return service->deliver != SERVICE_NAT && !check->direct && check->kind != SERVICE_CHECK_NONE &&
	       check->kind != SERVICE_CHECK_EXEC;
}

/* What this host would send from to an address; nothing is sent.  0 or a positive errno. */
static int source_find(uint8_t family, const void *address, uint16_t port, union end *ret_source)
{
	_cleanup_close_ int fd = socket(family == 4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	socklen_t size = sizeof(*ret_source);
	union end to;
	socklen_t length = end_make(&to, family, address, port);

	if (fd < 0 || connect(fd, &to.any, length) < 0 || getsockname(fd, &ret_source->any, &size) < 0)
		return errno;
	return 0;
}

/* IPv4 in IPv6: an address of this host's that the backend can answer.  The service's own may be one, too. */
static int source4_find(const uint8_t *service, __be32 *ret_source)
{
	struct ifaddrs *list = NULL;
	union end source = {};
	int found = EADDRNOTAVAIL;

	if (source_find(4, service, 9, &source) == 0 && memcmp(&source.four.sin_addr, service, 4) != 0) {
		*ret_source = source.four.sin_addr.s_addr;
		return 0;
	}
	if (getifaddrs(&list) < 0)
		return errno;
	for (const struct ifaddrs *at = list; at && found; at = at->ifa_next) {
		if (!at->ifa_addr || at->ifa_addr->sa_family != AF_INET || at->ifa_flags & IFF_LOOPBACK ||
			!(at->ifa_flags & IFF_UP))
			continue;
		memcpy(&source, at->ifa_addr, sizeof(source.four));
		if (memcmp(&source.four.sin_addr, service, 4) == 0)
			continue;
		*ret_source = source.four.sin_addr.s_addr;
		found = 0;
	}
	freeifaddrs(list);
	return found;
}

/* The socket's own end, which the kernel chooses a port for. */
static int own_bind(struct check_run *run)
{
	const struct check_target *target = run->target;
	const uint8_t family = target->address.family;
	union end own = {};
	socklen_t size = family == 4 ? sizeof(own.four) : sizeof(own.six);
	int r = source_find(family, target->address.bytes, target->to_port, &own);

	if (r)
		return r;
	if (family == 4)
		own.four.sin_port = 0;
	else
		own.six.sin6_port = 0;
	if (bind(run->fd, &own.any, size) < 0 || getsockname(run->fd, &own.any, &size) < 0)
		return -errno;
	if (family == 4)
		memcpy(run->way.local, &own.four.sin_addr, 4);
	else
		memcpy(run->way.local, &own.six.sin6_addr, 16);
	run->way.local_port = family == 4 ? own.four.sin_port : own.six.sin6_port;
	return 0;
}

int check_way_begin(struct check_run *run, uint8_t proto)
{
	const struct check_target *target = run->target;
	const struct service_text *service = check_service(target);
	const struct address *to = &service->prefix.address;
	struct agent *agent = run->checks->agent;
	const int segment = SEGMENT_MAX;
	int r;

	if (!check_takes_way(service))
		return 0;
	run->way = (struct check_way){
		.backend = services_backend_number(agent, service->name, &target->address, target->port),
		.port = htons(target->to_port),
		.gue_port = htons(service->gue_port ? service->gue_port : SERVICE_GUE_PORT),
		.deliver = (uint8_t)service->deliver,
		.family = to->family,
		.socket_family = target->address.family};
	if (!run->way.backend)
		return -ENOENT;
	r = own_bind(run);
	if (r)
		return r;
	memcpy(run->way.remote, target->address.bytes, sizeof(run->way.remote));
	memcpy(run->way.to, to->bytes, sizeof(run->way.to));
	memcpy(run->way.from, run->way.local, sizeof(run->way.from));
	if (to->family != target->address.family) {
		memset(run->way.from, 0, sizeof(run->way.from));
		r = source4_find(to->bytes, run->way.from);
		if (r)
			return r;
	}
	if (proto == IPPROTO_TCP &&
		setsockopt(run->fd, IPPROTO_TCP, TCP_MAXSEG, &segment, sizeof(segment)) < 0)
		return -errno;
	r = engine_check_begin(agent->engine, &run->way, proto);
	run->way_proto = r == 0 ? proto : 0;
	return r;
}

bool check_way_was_taken(const struct check_run *run)
{
	return !run->way_proto || engine_check_sent(run->checks->agent->engine, &run->way, run->way_proto);
}

void check_way_end(struct check_run *run)
{
	const struct sockaddr none = {.sa_family = AF_UNSPEC};
	int fd = run->stream ? bufferevent_getfd(run->stream) : run->fd;

	if (!run->way_proto)
		return;
	/* A connection ends with a reset, at once: what came later would not know its way, and libevent
	 * closes when it gets round to it. */
	if (fd >= 0)
		(void)connect(fd, &none, sizeof(none));
	engine_check_end(run->checks->agent->engine, &run->way, run->way_proto);
	run->way_proto = 0;
}

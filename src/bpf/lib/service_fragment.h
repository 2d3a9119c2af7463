/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Fragments of what goes to services: those behind the first have no ports, and go where that went. */
#ifndef WEIR_BPF_SERVICE_FRAGMENT_H
#define WEIR_BPF_SERVICE_FRAGMENT_H

#include "bpf/lib/service_work.h"

packet_inline int service_fragment_key(PACKET_CONTEXT *context, struct service_work *work)
{
	struct connection_fragment_key *key = &work->fragment;
	const struct packet *p = &work->packet;
	int i;

	__builtin_memset(key, 0, sizeof(*key));
	PACKET_UNROLL
	for (i = 0; i < 4; i++) {
		key->src[i] = p->src[i];
		key->dst[i] = p->dst[i];
	}
	key->family = p->family;
	key->proto = p->proto;
	if (p->family == 4) {
		__be16 id;

		if (packet_load(context, p->l3_offset + 4, &id, 2))
			return 0;
		key->id = id;
		return 1;
	}
	/* the fragment header stands last, but for what the first fragment has behind it */
	return !packet_load(context, work->fragment_offset + 4, &key->id, 4);
}

/* Where the fragment header of IPv6 is: 0: not found. */
packet_function int service_find_fragment(PACKET_CONTEXT *context)
{
	struct service_work *work = service_work();
	struct packet_extension extension;
	__u32 offset, i;
	__u8 proto;

	if (!work)
		return 0;
	offset = work->packet.l3_offset + sizeof(struct packet_ip6);
	if (packet_load(context, work->packet.l3_offset + 6, &proto, 1))
		return 0;
	for (i = 0; i < PACKET_EXTENSIONS_MAX; i++) {
		if (proto == PACKET_PROTO_FRAGMENT)
			return offset;
		if (!packet_is_extension(proto) ||
			packet_load(context, offset, &extension, sizeof(extension)))
			return 0;
		proto = extension.next;
		offset += (extension.length + 1) * 8;
	}
	return 0;
}

/* A later fragment: has its first one gone by?  Then its ports are known. */
packet_function int service_later(PACKET_CONTEXT *context)
{
	struct service_work *work = service_work();
	struct connection_fragment_key key;
	struct service_fragment *fragment;

	if (!work)
		return 0;
	work->fragment_offset = work->packet.family == 6 ? service_find_fragment(context) : 0;
	if (!service_fragment_key(context, work))
		return 0;
	key = work->fragment;
	fragment = bpf_map_lookup_elem(&service_fragments, &key);
	if (!fragment || work->now - fragment->seen > CONNECTION_FRAGMENT_TICKS)
		return 0;
	work->backend = fragment->backend;
	work->sport = fragment->sport;
	work->dport = fragment->dport;
	return 1;
}

/* A first fragment whose backend is known. */
packet_function int service_first(PACKET_CONTEXT *context)
{
	struct service_work *work = service_work();
	struct service_fragment fragment = {};
	struct connection_fragment_key key;

	if (!work)
		return 0;
	work->fragment_offset = work->packet.family == 6 ? service_find_fragment(context) : 0;
	if (!service_fragment_key(context, work))
		return 0;
	key = work->fragment;
	fragment.seen = work->now;
	fragment.backend = work->backend;
	fragment.sport = work->packet.sport;
	fragment.dport = work->packet.dport;
	bpf_map_update_elem(&service_fragments, &key, &fragment, BPF_ANY);
	return 0;
}

#endif

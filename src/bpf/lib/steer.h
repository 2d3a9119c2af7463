/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * By flow: a number that both directions of a connection share, and all packets of it.  For BPF and for the
 * host.
 *
 * What has ports goes by addresses, ports and protocol; fragments, of which only the first has ports, go by
 * addresses and protocol, all of a datagram alike; so does ICMP.  What is not IP goes by its EtherType.
 */
#ifndef WEIR_BPF_STEER_H
#define WEIR_BPF_STEER_H

#include "bpf/lib/packet.h"

#define STEER_MIX 0x9e3779b97f4a7c15ull

packet_inline __u64 steer_mix(__u64 x)
{
	x *= STEER_MIX;
	return x ^ x >> 32;
}

packet_inline __u64 steer_end(const __u64 address[2], __be16 port, __u64 seed)
{
	return steer_mix(steer_mix(address[0] ^ seed) + address[1] + ((__u64)port << 48 | port));
}

packet_inline __u32 steer_hash(const struct packet *p, __u64 seed)
{
	int ports = p->kind & FLOW_KIND_PORTS && p->fragment == PACKET_WHOLE;
	__u64 ends = steer_end(p->src64, ports ? p->sport : 0, seed) +
	             steer_end(p->dst64, ports ? p->dport : 0, seed);

	return steer_mix(ends + (p->family ? p->proto : p->ethertype)) >> 32;
}

/* Its place among `count` CPUs. */
packet_inline __u32 steer_lane(__u32 hash, __u32 count)
{
	return (__u64)hash * count >> 32;
}

#endif

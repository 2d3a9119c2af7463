/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What is put around a packet that goes to a backend, for programs at XDP and at tc.
 *
 * The outer header is as other balancers have it, so that what spreads packets over the backend's CPUs (RSS)
 * has something to go by: the source is 172.16.x.y or 100::…, whose last bits are those of the client and its
 * port, unless the backend has a source set.  TTL is 64, the identification 0, DSCP and ECN are the packet's.
 */
#ifndef WEIR_BPF_TUNNEL_H
#define WEIR_BPF_TUNNEL_H

#include "bpf/lib/packet.h"
#include "bpf/lib/service_maps.h"

#define ENCAPSULATE_IPIP   4
#define ENCAPSULATE_IP6IP6 41
#define ENCAPSULATE_TTL    64

struct encapsulate_udp {
	__be16 sport, dport, length, checksum;
};

packet_inline __u16 checksum_fold(__u64 sum)
{
	sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/* Addresses of tunnels: the client's last bits and its port (network byte order). */
packet_inline __be32 tunnel_source4(__be32 client, __be16 port)
{
	__u32 swapped = (__u16)(bpf_ntohs(port) << 8 | bpf_ntohs(port) >> 8);

	return bpf_htonl(0xac100000 | ((bpf_ntohl(client) ^ swapped) & 0xffff));
}

packet_inline __be32 tunnel_source6(__be32 client, __be16 port)
{
	return client ^ bpf_htonl((__u32)bpf_ntohs(port) << 16);
}

/* What the header around a packet has of the packet. */
struct tunnel {
	__be32 client; /* the last 32 bits of its address */
	__be16 port;   /* of the client */
	__u8 tos;
	__u8 reserved;
	__u32 backend;
};

packet_inline void header4_write(struct packet_ip4 *ip, const struct service_backend *backend,
	const struct tunnel *tunnel, __u32 length, __u8 proto)
{
	__be32 source = backend->source ? backend->source : tunnel_source4(tunnel->client, tunnel->port);
	__be32 first = bpf_htonl(0x45000000 | (__u32)tunnel->tos << 16 | (__u16)length);
	__be16 third = bpf_htons(ENCAPSULATE_TTL << 8 | proto);
	__be32 *words = (void *)ip; /* version and length; identification and fragment; TTL and protocol */
	__u64 sum = (__u64)first + third + source + backend->address[0];

	words[0] = first;
	words[1] = 0;
	*(__be16 *)&words[2] = third;
	ip->checksum = checksum_fold(sum);
	ip->src = source;
	ip->dst = backend->address[0];
}

packet_inline void header6_write(struct packet_ip6 *ip, const struct service_backend *backend,
	const struct tunnel *tunnel, __u32 length, __u8 proto)
{
	__u32 number = tunnel->backend;
	const struct service_source *source = bpf_map_lookup_elem(&service_sources, &number);
	__be32 *src = (void *)ip->src, *dst = (void *)ip->dst;
	int i;

	ip->version_class_label = bpf_htonl(0x60000000 | (__u32)tunnel->tos << 20);
	ip->payload_length = bpf_htons(length);
	ip->proto = proto;
	ip->hop_limit = ENCAPSULATE_TTL;
	/* word by word: what is packed is copied byte by byte else */
	if (source && source->address6[0]) {
		PACKET_UNROLL
		for (i = 0; i < 4; i++)
			src[i] = source->address6[i];
	} else {
		src[0] = bpf_htonl(0x01000000);
		src[1] = src[2] = 0;
		src[3] = tunnel_source6(tunnel->client, tunnel->port);
	}
	PACKET_UNROLL
	for (i = 0; i < 4; i++)
		dst[i] = backend->address[i];
}

/* GUE of version 1: nothing but UDP, and the packet's own version says what it is.  The port is the client's,
 * mixed with its address, out of the range for such; the checksum is left out (RFC 768, 6935). */
packet_inline void udp_write(
	struct encapsulate_udp *udp, const struct tunnel *tunnel, __be16 port, __u32 length)
{
	udp->sport =
		(tunnel->port ^ (__u16)tunnel->client ^ (__u16)(tunnel->client >> 16)) | bpf_htons(0xc000);
	udp->dport = port;
	udp->length = bpf_htons(length);
	udp->checksum = 0;
}

/* Bytes that go around a packet. */
packet_inline __u32 encapsulate_bytes(const struct service *service, const struct service_backend *backend)
{
	__u32 bytes = backend->family == 4 ? sizeof(struct packet_ip4) : sizeof(struct packet_ip6);

	if (service->deliver >= SERVICE_L2)
		return 0;
	return service->deliver == SERVICE_GUE ? bytes + sizeof(struct encapsulate_udp) : bytes;
}

/* How large a packet may be that goes to this backend; 0: any. */
packet_inline __u32 encapsulate_mtu(const struct service *service, const struct service_backend *backend)
{
	__u32 around = encapsulate_bytes(service, backend),
	      mtu = backend->mtu > around ? backend->mtu - around : 0;

	if (service->mtu && (!mtu || service->mtu < mtu))
		return service->mtu;
	return mtu;
}

/* Writes what goes around a packet of `bytes` and a family, behind the link header: there is room for IPv6
 * and UDP.  The EtherType that the link header gets. */
packet_inline __be16 encapsulate(void *outer, const struct service *service,
	const struct service_backend *backend, const struct tunnel *tunnel, __u32 bytes, __u32 family)
{
	__u8 proto = family == 6 ? ENCAPSULATE_IP6IP6 : ENCAPSULATE_IPIP;
	int gue = service->deliver == SERVICE_GUE;

	if (gue) {
		proto = PACKET_PROTO_UDP;
		bytes += sizeof(struct encapsulate_udp);
	}
	if (backend->family == 6) {
		if (gue)
			udp_write(outer + sizeof(struct packet_ip6), tunnel, service->gue_port, bytes);
		header6_write(outer, backend, tunnel, bytes, proto);
		return bpf_htons(PACKET_ETH_IPV6);
	}
	if (gue)
		udp_write(outer + sizeof(struct packet_ip4), tunnel, service->gue_port, bytes);
	header4_write(outer, backend, tunnel, bytes + sizeof(struct packet_ip4), proto);
	return bpf_htons(PACKET_ETH_IPV4);
}

#endif

/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Checksums that are not finished.
 *
 * What a host's own processes send through a veth pair comes to native XDP with the sum of the pseudo-header
 * where the checksum of TCP or UDP belongs, for an interface that would do the rest; that it is so, stands
 * beside the packet.  A packet that is redirected loses the note, and whoever gets it drops it.  So the
 * checksum is finished here, where the field holds just that sum (a finished one does once in 65,536 packets,
 * and is told from it by adding up).
 *
 * Sources: RFC 1071; RFC 9293 (3.1), RFC 768, RFC 8200 (8.1) for what is summed; skb_checksum_help() for what
 * the kernel would have done.
 */
#ifndef WEIR_BPF_FINISH_H
#define WEIR_BPF_FINISH_H

#include <linux/bpf.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "bpf/lib/packet.h"

#define FINISH_CHUNK      512 /* what bpf_csum_diff() takes at once */
#define FINISH_CHUNKS_MAX 128

/* Room for the sums, in a map: one packet on its way. */
struct finish {
	__u32 chunk[FINISH_CHUNK / 4 + 1];
	__u32 offset, end; /* of what is still to be summed */
	__u32 sum;
	__u32 failed;
};

struct finish_step {
	struct xdp_md *context;
	struct finish *finish;
};

static __always_inline __u32 finish_fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

static __always_inline __u64 finish_words(const __u32 *words, int count)
{
	__u64 sum = 0;
	int i;

	PACKET_UNROLL
	for (i = 0; i < count; i++)
		sum += words[i];
	return sum;
}

/* One more chunk: 1 ends it. */
static long finish_chunk(__u32 index, struct finish_step *step)
{
	struct finish *finish = step->finish;
	__u32 bytes = finish->end - finish->offset;
	__s64 sum;

	if (bytes > FINISH_CHUNK)
		bytes = FINISH_CHUNK;
	if (!bytes)
		return 1;
	/* the same, as verifiers before 6.8 know it: at least one */
	asm volatile("" : "+r"(bytes));
	bytes = ((bytes - 1) & (FINISH_CHUNK - 1)) + 1;
	finish->chunk[bytes / 4] = 0;
	if (bpf_xdp_load_bytes(step->context, finish->offset, finish->chunk, bytes)) {
		finish->failed = 1;
		return 1;
	}
	sum = bpf_csum_diff(0, 0, finish->chunk, (bytes + 3) & ~3u, finish->sum);
	if (sum < 0) {
		finish->failed = 1;
		return 1;
	}
	finish->sum = sum;
	finish->offset += bytes;
	return 0;
}

/* How many bytes there are from the transport header on; 0: not known. */
static __always_inline __u32 finish_length(struct xdp_md *context, const struct packet *p)
{
	__u32 header = p->l4_offset - p->l3_offset;
	__be16 field;
	__u32 length;

	if (bpf_xdp_load_bytes(context, p->l3_offset + (p->family == 4 ? 2 : 4), &field, sizeof(field)))
		return 0;
	length = bpf_ntohs(field);
	if (!length)
		return 0;
	length += p->family == 4 ? 0 : sizeof(struct packet_ip6);
	return length > header ? length - header : 0;
}

/* The packet was read and is whole. */
static __noinline int finish_checksum(struct xdp_md *context, const struct packet *p, struct finish *finish)
{
	struct finish_step step = {.context = context, .finish = finish};
	__u32 length, field, pseudo;
	__be16 check;

	if (!p || !finish)
		return 0;
	field = p->l4_offset + (p->proto == PACKET_PROTO_TCP ? 16 : 6);
	length = finish_length(context, p);
	if (!length || bpf_xdp_load_bytes(context, field, &check, sizeof(check)))
		return 0;
	pseudo = finish_fold(
		finish_words(p->src, 4) + finish_words(p->dst, 4) + bpf_htons(p->proto) + bpf_htonl(length));
	if (__builtin_expect(check != pseudo, 1))
		return 0;
	finish->offset = p->l4_offset;
	finish->end = p->l4_offset + length;
	finish->sum = 0;
	finish->failed = 0;
	bpf_loop(FINISH_CHUNKS_MAX, finish_chunk, &step, 0);
	if (finish->failed || finish->offset != finish->end)
		return 0;
	if (finish_fold((__u64)finish->sum + pseudo) == 0xffff)
		return 0; /* it is finished */
	check = ~finish_fold(finish->sum);
	if (!check && p->proto == PACKET_PROTO_UDP)
		check = 0xffff;
	bpf_xdp_store_bytes(context, field, &check, sizeof(check));
	return 0;
}

/* Finishes the checksum of a packet of TCP or UDP, if it is not. */
static __always_inline void finish_packet(
	struct xdp_md *context, const struct packet *p, struct finish *finish)
{
	if (p->kind & FLOW_KIND_PORTS && p->fragment == PACKET_WHOLE &&
		(p->proto == PACKET_PROTO_TCP || p->proto == PACKET_PROTO_UDP))
		finish_checksum(context, p, finish);
}

#endif

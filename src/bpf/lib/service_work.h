/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * A packet of a service on its way through bpf/balance.bpf.c or balance_tc.bpf.c, and the programs that it
 * may go on in.
 *
 * Its functions are verified apart and hand on to each other what stands here; each asks for it anew.
 */
#ifndef WEIR_BPF_SERVICE_WORK_H
#define WEIR_BPF_SERVICE_WORK_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "bpf/lib/decide.h"
#include "bpf/lib/packet.h"
#include "bpf/lib/service_find.h"
#include "bpf/lib/service_maps.h"
#include "shared/connection.h"
#include "shared/service.h"

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, SERVICE_PROGRAMS);
	__type(key, __u32);
	__type(value, __u32);
} service_programs SEC(".maps");

#define SERVICE_LINK_MAX 22 /* Ethernet and two tags */

struct service_work {
	struct packet packet;
	/* The connection as the client sends it, and as it is written down. */
	struct service_key key;
	struct connection_fragment_key fragment;
	__be16 sport, dport;   /* of the connection, whatever `key` says */
	__u32 low, high;       /* QUIC: where the server may still stand in the list */
	__u64 least;           /* LEAST: connections << 32 / weight, so far */
	__u8 known;            /* the flow's line was there … */
	__u8 tcp_flags;        /* … and had these flags … */
	__u32 last;            /* … of packets up to this tick */
	__u32 set, way;        /* where the line is; way + 1; 0: there is none that may keep a backend */
	__u32 now;             /* tick */
	__u32 bytes;           /* of the frame; in tc of all that it stands for */
	__u32 packets;         /* in tc: how many that are */
	__u32 ip_bytes;        /* of the packet, from its network header on */
	__u32 ifindex;         /* it came in by */
	__u32 address;         /* number of the service's address */
	__u32 place;           /* of the book */
	__u32 unit;            /* of the service in the book */
	__u32 number;          /* of the service */
	__u32 backend;         /* 0: none (yet) */
	__u32 fragment_offset; /* of the fragment header of IPv6 */
	__u32 option;          /* of TCP: where it is looked for */
	__u8 over;             /* what was written down of these ends was of a connection that is over */
	__u8 gone;             /* the backend of its connection is: that has ended */
	__u8 begins;           /* a connection, as far as the packet tells */
	__u8 error;            /* an ICMP error about one */
	__u8 later;            /* a fragment that is not the first */
	__u8 deliver;          /* enum service_deliver */
	__u8 link[SERVICE_LINK_MAX];
	__u32 told_tick, told; /* ICMP errors of ours in this tick */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct service_work);
} service_works SEC(".maps");

packet_inline struct service_work *service_work(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&service_works, &zero);
}

/* Which place of the books is in force. */
packet_inline __u32 service_place(__u32 now)
{
	__u32 zero = 0;
	const struct policy_now *in_force = bpf_map_lookup_elem(&policy_now, &zero);
	__u64 places;

	if (!in_force)
		return 0;
	places = decide_lapsed(in_force, now) ? in_force->places_before : in_force->places;
	return places >> SERVICE_PLACE & 1;
}

packet_inline void *service_book(const struct service_work *work)
{
	__u32 place = work->place & 1;

	return bpf_map_lookup_elem(&service_books, &place);
}

/* The service in force that the packet is for. */
packet_inline const struct service *service_of(const struct service_work *work)
{
	void *book = service_book(work);

	return book ? (const void *)trie_unit(book, work->unit) : (void *)0;
}

packet_inline struct service_backend *service_backend(__u32 number)
{
	return number ? bpf_map_lookup_elem(&service_backends, &number) : (void *)0;
}

packet_inline struct service_lost *service_lost(__u32 number)
{
	__u32 place = bpf_get_smp_processor_id() * SERVICES_MAX + (number & (SERVICES_MAX - 1));

	return bpf_map_lookup_elem(&service_losses, &place);
}

/* `why`: enum service_loss */
packet_inline void service_lose(__u32 number, __u32 why)
{
	struct service_lost *lost = service_lost(number);

	asm volatile("" : "+r"(why)); /* what is compared is what is used, or the verifier does not see it */
	if (lost && why < SERVICE_LOSSES)
		lost->packets[why]++;
}

packet_inline struct service_count *service_count(__u32 backend)
{
	__u32 place = bpf_get_smp_processor_id() * SERVICE_BACKENDS_MAX + backend;

	return backend < SERVICE_BACKENDS_MAX ? bpf_map_lookup_elem(&service_counts, &place) : (void *)0;
}

#endif

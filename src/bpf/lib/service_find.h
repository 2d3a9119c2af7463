/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Which service a packet is for, and where its ring has it (shared/service.h).  Without maps and helpers of
 * its own: compiles for BPF, where a book is an array map, and for the host, where it is plain memory
 * (bpf/lib/trie.h).
 */
#ifndef WEIR_BPF_SERVICE_FIND_H
#define WEIR_BPF_SERVICE_FIND_H

#include "bpf/lib/trie.h"
#include "shared/service.h"

#ifdef __bpf__
#include <bpf/bpf_endian.h>
#define service_number32(be) bpf_ntohl(be)
#define service_number16(be) bpf_ntohs(be)
#else
#include <arpa/inet.h>
#define service_number32(be) ntohl(be)
#define service_number16(be) ntohs(be)
#endif

/* -- the address -- */

/* Number of a destination; 0: no service has it. */
trie_inline __u32 service_address4(void *memory, const struct service_book *book, __be32 address)
{
	return book->trie4
	               ? trie_find4(TRIE_IN_MAP(memory), book->trie4, book->bits4, service_number32(address))
	               : 0;
}

trie_inline __u32 service_address6(void *memory, const struct service_book *book, const __be32 *address)
{
	__u64 high = (__u64)service_number32(address[0]) << 32 | service_number32(address[1]);
	__u64 low = (__u64)service_number32(address[2]) << 32 | service_number32(address[3]);

	return book->trie6 ? trie_find6(TRIE_IN_MAP(memory), book->trie6, book->bits6, high, low) : 0;
}

/* Does nat send from this address? */
trie_inline __u32 service_answer4(void *memory, const struct service_book *book, __be32 address)
{
	return book->answers4 ? trie_find4(TRIE_IN_MAP(memory), book->answers4, book->answer_bits4,
					service_number32(address))
	                      : 0;
}

trie_inline __u32 service_answer6(void *memory, const struct service_book *book, const __be32 *address)
{
	__u64 high = (__u64)service_number32(address[0]) << 32 | service_number32(address[1]);
	__u64 low = (__u64)service_number32(address[2]) << 32 | service_number32(address[3]);

	return book->answers6 ? trie_find6(TRIE_IN_MAP(memory), book->answers6, book->answer_bits6, high, low)
	                      : 0;
}

/* -- the port -- */

trie_inline __u32 service_port_hash(__u32 address, __u8 proto, __be16 port)
{
	__u64 hash =
		((__u64)address << 32 | (__u32)proto << 16 | service_number16(port)) * 0x9e3779b97f4a7c15ULL;

	return hash >> 40;
}

/* In the range that packets without ports have, too: 0. */
trie_inline __u32 service_in_ranges(
	void *memory, const struct service_book *book, __u32 address, __u8 proto, __be16 port)
{
	const struct policy_unit *unit = trie_unit(memory, book->addresses + (address >> 3));
	__u32 value = service_number16(port), first, i;

	if (!unit || !(__u32)unit->word[address & 7])
		return 0;
	first = unit->word[address & 7] >> 32;
#ifdef __bpf__
#pragma clang loop unroll(disable)
#endif
	for (i = 0; i < SERVICE_RANGES_MAX; i++) {
		const struct service_range *range;

		unit = trie_unit(memory, first + (i >> 2));
		if (!unit)
			return 0;
		range = (const struct service_range *)unit + (i & 3);
		if (range->first <= value && value <= range->last && (!range->proto || range->proto == proto))
			return range->service;
		if (range->end)
			return 0;
	}
	return 0;
}

/* The first word of struct service_port. */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define SERVICE_PORT_KEY(address, proto, port) ((address) | (__u64)(port) << 32 | (__u64)(proto) << 48)
#else
#define SERVICE_PORT_KEY(address, proto, port) ((__u64)(address) << 32 | (__u32)(port) << 16 | (proto) << 8)
#endif

/* Unit of the service of an address' number; 0: none has this protocol and port. `port` is 0 where there is
 * none. */
trie_inline __u32 service_find(
	void *memory, const struct service_book *book, __u32 address, __u8 proto, __be16 port)
{
	const __u64 wanted = SERVICE_PORT_KEY(address, proto, port);
	__u32 home = service_port_hash(address, proto, port), i, j;

#ifdef __bpf__
#pragma clang loop unroll(disable)
#endif
	for (i = 0; i < SERVICE_PROBES; i++) {
		const struct policy_unit *unit =
			trie_unit(memory, book->ports + ((home + i) & book->port_mask));
		const struct service_port *entries = (const void *)unit;

		if (!unit)
			return 0;
		for (j = 0; j < 4; j++)
			if (unit->word[2 * j] == wanted)
				return entries[j].service;
		if (!entries[3].service)
			break;
	}
	return service_in_ranges(memory, book, address, proto, port);
}

/* -- the slot -- */

trie_inline __u64 service_mix(__u64 hash, __u64 word)
{
	hash = (hash ^ word) * 0x9fb21c651e98df25ULL;
	return hash ^ hash >> 32;
}

trie_inline __u32 service_mixed(__u64 hash)
{
	return hash * 0xd6e8feb86659fd93ULL >> 32;
}

/* Ports together, source first, and the protocol; all 0 with SERVICE_SOURCE, and then `dst` does not count.
 */
trie_inline __u64 service_ends(__be16 sport, __be16 dport, __u8 proto)
{
	return (__u64)sport << 32 | (__u32)dport << 16 | proto;
}

trie_inline __u32 service_hash4(__u32 seed, __u16 flags, __be32 src, __be32 dst, __u64 ends)
{
	__u64 hash = seed;

	if (flags & SERVICE_SOURCE)
		return service_mixed(service_mix(hash, src));
	hash = service_mix(hash, (__u64)src << 32 | dst);
	return service_mixed(service_mix(hash, ends));
}

trie_inline __u32 service_hash6(__u32 seed, __u16 flags, const __be32 *src, const __be32 *dst, __u64 ends)
{
	__u64 hash = seed;

	hash = service_mix(hash, (__u64)src[0] << 32 | src[1]);
	hash = service_mix(hash, (__u64)src[2] << 32 | src[3]);
	if (flags & SERVICE_SOURCE)
		return service_mixed(hash);
	hash = service_mix(hash, (__u64)dst[0] << 32 | dst[1]);
	hash = service_mix(hash, (__u64)dst[2] << 32 | dst[3]);
	return service_mixed(service_mix(hash, ends));
}

trie_inline __u32 service_slot(__u32 hash, __u32 slots)
{
	return (__u64)hash * slots >> 32;
}

/* A unit of the ring, slot / 32, tells the backend of a slot. */
trie_inline __u32 service_ring_backend(const struct policy_unit *unit, __u32 slot)
{
	return ((const __u16 *)unit)[slot & 31];
}

/* Backend `i` of the service's list; 0: there is none. */
trie_inline __u32 service_listed(void *memory, const struct service *service, __u32 i)
{
	const struct policy_unit *unit =
		i < service->backend_count ? trie_unit(memory, service->backends + (i >> 5)) : (void *)0;

	return unit ? ((const __u16 *)unit)[i & 31] : 0;
}

#endif

/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Looks an address up in a trie (shared/trie.h).  Compiles for BPF, where the memory is an array map of
 * units or a map of maps of chunks of them (shared/set.h), and for the host, where it is plain memory.
 */
#ifndef WEIR_BPF_TRIE_H
#define WEIR_BPF_TRIE_H

#include "shared/set.h"
#include "shared/trie.h"

#ifdef __bpf__
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#define trie_inline static __attribute__((always_inline)) inline

/* What a trie is read from.  Known when the program is compiled, but for `map`. */
struct trie_memory {
	void *map;
	int chunks;
};

#define TRIE_IN_MAP(array)     ((struct trie_memory){(array), 0})
#define TRIE_IN_CHUNKS(chunks) ((struct trie_memory){(chunks), 1})

trie_inline const struct policy_unit *trie_unit(void *map, __u32 index)
{
	return bpf_map_lookup_elem(map, &index);
}

/* Unit `index` of the trie that begins with unit or chunk `base`. */
trie_inline const struct policy_unit *trie_read(struct trie_memory memory, __u32 base, __u32 index)
{
	void *map = memory.map;
	__u32 chunk;

	if (!memory.chunks)
		return trie_unit(map, base + index);
	chunk = base + (index >> SET_CHUNK_BITS);
	map = bpf_map_lookup_elem(map, &chunk);
	return map ? trie_unit(map, index & (SET_CHUNK_UNITS - 1)) : (void *)0;
}
#else
#define trie_inline static inline

struct trie_memory {
	const struct policy_unit *units;
	__u64 count;
};

#define TRIE_IN_MAP(memory) (*(const struct trie_memory *)(memory))

trie_inline const struct policy_unit *trie_unit(const void *memory, __u32 index)
{
	const struct trie_memory *plain = memory;

	return index < plain->count ? plain->units + index : (void *)0;
}

trie_inline const struct policy_unit *trie_read(struct trie_memory memory, __u32 base, __u32 index)
{
	return trie_unit(&memory, base + index);
}
#endif

/* Branches on data that nobody can foresee cost more than the arithmetic that avoids them. */

/* 1 if a <= b, for numbers below 2^63. */
#define TRIE_UP_TO(a, b) ((__u32)(((__u64)(a) - (__u64)(b)-1) >> 63))

trie_inline __u32 trie_in_one(__u64 entry, __u64 high)
{
	__u32 rest = (entry >> 32) & 0xffffff, length = (entry >> 56) & 31;
	__u32 other = (((__u32)(high >> 40)) ^ rest) >> (24 - length);

	/* 16 more bits to the right for whatever differs */
	return (entry >> (((other + 0xffffff) >> 24) << 4)) & 0xffff;
}

trie_inline __u32 trie_in_list(const struct policy_unit *unit, __u64 high)
{
	const struct trie_list *list = (const void *)unit;
	__u32 value = high >> 48, i;

	i = (TRIE_UP_TO(list->start[4], value) + TRIE_UP_TO(list->start[8], value) +
		    TRIE_UP_TO(list->start[12], value))
	    << 2;
	i += TRIE_UP_TO(list->start[(i + 1) & 15], value) + TRIE_UP_TO(list->start[(i + 2) & 15], value) +
	     TRIE_UP_TO(list->start[(i + 3) & 15], value);
	asm volatile("" : "+r"(i)); /* or clang knows better than the verifier and drops the mask */
	return list->number[i & 15];
}

/* Four keys at a time: what differs from the address above a key's lowest one (behind which nothing counts)
 * is 0 in the key that fits. */
#define TRIE_ONES                0x0001000100010001ull
#define TRIE_DIFFER(keys, value) (((keys) ^ (value)) & ~((keys) ^ ((keys)-TRIE_ONES)))
/* The highest bit of a key, or of what is beside it, is set if there is a 0. */
#define TRIE_ZEROES(rest) (((rest)-TRIE_ONES) & ~(rest))

/* The number, given that some highest bit of `found` says that a key of this half fits. */
trie_inline __u32 trie_pack_number(__u64 entry, __u32 half, __u64 found)
{
	found &= TRIE_ONES << 15;
	found = (found | -found) >> 63 & entry >> (TRIE_PACK_HALF + half);
	return entry >> (TRIE_PACK_OUT - (found << 4)) & 0xffff;
}

trie_inline __u32 trie_in_pack(const struct policy_unit *unit, __u64 entry, __u64 high)
{
	__u64 value = (high >> 47 & 0xffff) * TRIE_ONES, found = 0;
	__u32 half = high >> 63, i;

#ifdef __bpf__
#pragma clang loop unroll(full)
#endif
	for (i = 0; i < TRIE_PACK_KEYS / 4; i++) {
		__u64 rest = TRIE_DIFFER(unit->word[half * 4 + i], value);

		found |= TRIE_ZEROES(rest);
	}
	return trie_pack_number(entry, half, found);
}

/* In the word that both halves share, what is the other one's. */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define TRIE_HOME_OTHER(half) (~0ull << 32 >> ((half) << 5))
#else
#define TRIE_HOME_OTHER(half) (~0ull >> 32 << ((half) << 5))
#endif

/* The keys may have been written just before the entry, so where they are read depends on what was read of
 * it: the number of its unit, which is 0. */
trie_inline __u32 trie_in_home(const struct policy_unit *unit, __u64 entry, __u64 high)
{
	__u64 value = (high >> 47 & 0xffff) * TRIE_ONES, found, rest;
	__u32 half = high >> 63, none = entry & TRIE_PACK_UNITS, first, i;

	asm volatile("" : "+r"(none));
	/* the two keys of the other half differ */
	rest = TRIE_DIFFER(unit->word[4 + (none & 1)], value) | TRIE_HOME_OTHER(half);
	found = TRIE_ZEROES(rest);
	first = half << 2 | none;
	/* the mask comes last: Linux 6.1 does not see a bound in what clang would make of it */
	asm volatile("" : "+r"(first));
	first &= 4;
#ifdef __bpf__
#pragma clang loop unroll(full)
#endif
	for (i = 1; i < 4; i++) {
		rest = TRIE_DIFFER(unit->word[first + i], value);
		found |= TRIE_ZEROES(rest);
	}
	return trie_pack_number(entry, half, found);
}

/*
 * From the entry of the root on.  `high`, `low`: what is left of the address, from the highest bit on.
 *
 * What the verifier knows of them must be the same after each step, or it goes through all paths there are of
 * so many steps: so nothing is shifted by a number that it can foresee, and the ends stand behind the loop.
 */
trie_inline __u32 trie_descend(
	struct trie_memory memory, __u32 base, __u64 entry, __u64 high, __u64 low, __u32 steps)
{
	const struct policy_unit *unit;
	__u64 i; /* in all its bits: of what is kept on the stack Linux 6.1 follows 64-bit words alone */

#ifdef __bpf__
#pragma clang loop unroll(disable)
#endif
	for (i = 0; i < steps && TRIE_KIND(entry) >= TRIE_NODE4; i++) {
		const struct trie_skip *skip;
		__u32 length;
		__u64 whole;

		if (TRIE_KIND(entry) != TRIE_SKIP) {
			__u32 bits = TRIE_NODE_BITS(entry), index = high >> (64 - bits);

			unit = trie_read(memory, base, (__u32)entry + (index >> 3));
			if (!unit)
				return 0;
			entry = unit->word[index & 7];
			asm volatile("" : "+r"(entry)); /* read here, not at the loop's head */
			high = high << bits | low >> (64 - bits);
			low <<= bits;
			continue;
		}
		unit = trie_read(memory, base, (__u32)entry);
		if (!unit)
			return 0;
		skip = (const void *)unit;
		if (((high ^ skip->value[0]) & skip->mask[0]) | ((low ^ skip->value[1]) & skip->mask[1])) {
			entry = skip->outside;
			asm volatile("" : "+r"(entry));
			break;
		}
		entry = skip->inside;
		asm volatile("" : "+r"(entry));
		length = skip->length & 127;
		/* by 64 first */
		whole = -(__u64)(length >> 6);
		high ^= (high ^ low) & whole;
		low &= ~whole;
		length &= 63;
		/* not by 64 bits, which shifts nothing */
		high = high << length | low >> 1 >> (63 - length);
		low <<= length;
	}
	if (TRIE_KIND(entry) == TRIE_PACK) {
		unit = trie_read(memory, base, (__u32)entry & TRIE_PACK_UNITS);
		return unit ? trie_in_pack(unit, entry, high) : 0;
	}
	if (TRIE_KIND(entry) == TRIE_LEAF)
		return entry & 0xffff;
	if (TRIE_KIND(entry) == TRIE_ONE)
		return trie_in_one(entry, high);
	if (TRIE_KIND(entry) != TRIE_LIST)
		return 0;
	unit = trie_read(memory, base, (__u32)entry);
	return unit ? trie_in_list(unit, high) : 0;
}

/*
 * `base` is where in the memory the trie begins: its unit 0, or its first chunk; `root` and what is common
 * what its head says.
 */
trie_inline __u32 trie_find4_any(struct trie_memory memory, __u32 base, __u32 root, __u32 address)
{
	__u32 bits = TRIE_ROOT_BITS(root), index = address >> ((32 - bits) & 31), word;
	const struct policy_unit *unit = trie_read(memory, base, TRIE_ROOT + (index >> TRIE_ROOT_FOLD(root)));
	__u64 rest = (__u64)address << 32 << bits, entry;

	if (!unit)
		return 0;
	word = index & ((1u << TRIE_ROOT_FOLD(root)) - 1);
	asm volatile("" : "+r"(word)); /* or clang knows better than the verifier and drops the mask */
	entry = unit->word[word & 7];
	if (root & TRIE_WIDE && TRIE_IS_HOME(entry))
		return trie_in_home(unit, entry, rest);
	return trie_descend(memory, base, entry, rest, 0, TRIE_STEPS4);
}

/* What addresses in the root begin with; the bits of `value` behind it may be anything. */
struct trie_common {
	__u64 value;
	__u32 length;
};

/* The address as two numbers: its first and its last 64 bits. */
trie_inline __u32 trie_find6_any(
	struct trie_memory memory, __u32 base, __u32 root, struct trie_common common, __u64 high, __u64 low)
{
	__u32 bits = TRIE_ROOT_BITS(root), length = common.length & 63, at, word, step;
	__u32 index = high << length >> ((64 - bits) & 63);
	const struct policy_unit *unit;
	__u64 entry;

	at = TRIE_ROOT + (index >> TRIE_ROOT_FOLD(root));
	word = index & ((1u << TRIE_ROOT_FOLD(root)) - 1);
	step = length + bits;
	if ((high ^ common.value) >> 1 >> (63 - length)) {
		at = 0;
		word = TRIE_HEAD_OUTSIDE;
		step = 0;
	}
	/* so that the verifier does not tell the two from one another */
	asm volatile("" : "+r"(at), "+r"(word), "+r"(step));
	unit = trie_read(memory, base, at);
	if (!unit)
		return 0;
	entry = unit->word[word & 7];
	step &= 63;
	high = high << step | low >> 1 >> (63 - step);
	low <<= step;
	if (root & TRIE_WIDE && TRIE_IS_HOME(entry))
		return trie_in_home(unit, entry, high);
	return trie_descend(memory, base, entry, high, low, TRIE_STEPS6);
}

/* The same, for roots that are not wide, and where nothing is common. */
trie_inline __u32 trie_find4(struct trie_memory memory, __u32 base, __u32 bits, __u32 address)
{
	return trie_find4_any(memory, base, TRIE_ROOT_BITS(bits), address);
}

trie_inline __u32 trie_find6(struct trie_memory memory, __u32 base, __u32 bits, __u64 high, __u64 low)
{
	return trie_find6_any(memory, base, TRIE_ROOT_BITS(bits), (struct trie_common){high, 0}, high, low);
}

#endif

// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* The prefixes of a trie, in binary trees with compressed paths. */
#include <stdlib.h>

#include "compile/trie_internal.h"

bool trie_nodes_reserve(struct trie *trie, uint32_t more)
{
	uint32_t room = trie->node_room;
	uint32_t *grown;

	while (room < trie->node_count + more)
		room = room ? room + room / 2 : 1024;
	if (room == trie->node_room)
		return true;
	grown = realloc(trie->nodes, room * trie->node_words * sizeof(*grown));
	if (!grown)
		return false;
	trie->nodes = grown;
	trie->node_room = room;
	return true;
}

static uint32_t node_new(struct trie *trie, struct trie_bits bits, unsigned int length)
{
	uint32_t index = trie->node_free;
	struct trie_node *node;

	if (index)
		trie->node_free = trie_node_at(trie, index)->child[0];
	else
		index = trie->node_count++;
	node = trie_node_at(trie, index);
	*node = (struct trie_node){.length = (uint8_t)length};
	bits = bits_and(bits, bits_mask(length));
	node->bits[0] = (uint32_t)(bits.high >> 32);
	if (trie->family == 6) {
		node->bits[1] = (uint32_t)bits.high;
		node->bits[2] = (uint32_t)(bits.low >> 32);
		node->bits[3] = (uint32_t)bits.low;
	}
	return index;
}

static void node_free(struct trie *trie, uint32_t index)
{
	trie_node_at(trie, index)->child[0] = trie->node_free;
	trie->node_free = index;
}

uint32_t trie_tree_add(struct trie *trie, uint32_t *link, struct trie_bits bits, unsigned int length)
{
	uint32_t fresh, above;

	while (*link) {
		struct trie_node *node = trie_node_at(trie, *link);
		unsigned int most = node->length < length ? node->length : length;
		unsigned int common = bits_common(trie_node_bits(trie, node), bits, most);

		if (common == node->length) {
			if (common == length)
				return *link;
			link = &node->child[bits_at(bits, common)];
			continue;
		}
		fresh = node_new(trie, bits, length);
		if (common == length) {
			trie_node_at(trie, fresh)->child[bits_at(trie_node_bits(trie, node), length)] = *link;
			*link = fresh;
			return fresh;
		}
		above = node_new(trie, bits, common);
		trie_node_at(trie, above)->child[bits_at(bits, common)] = fresh;
		trie_node_at(trie, above)->child[!bits_at(bits, common)] = *link;
		*link = above;
		return fresh;
	}
	*link = node_new(trie, bits, length);
	return *link;
}

uint32_t trie_tree_find(const struct trie *trie, uint32_t index, struct trie_bits bits, unsigned int length)
{
	while (index) {
		const struct trie_node *node = trie_node_at(trie, index);

		if (node->length > length || !bits_begin(bits, trie_node_bits(trie, node), node->length))
			return 0;
		if (node->length == length)
			return node->held ? index : 0;
		index = node->child[bits_at(bits, node->length)];
	}
	return 0;
}

void trie_tree_remove(struct trie *trie, uint32_t *link, struct trie_bits bits, unsigned int length)
{
	uint32_t *above = NULL, index;
	struct trie_node *node;

	for (node = trie_node_at(trie, *link); node->length < length; node = trie_node_at(trie, *link)) {
		above = link;
		link = &node->child[bits_at(bits, node->length)];
	}
	node->held = false;
	if (node->child[0] && node->child[1])
		return;
	index = *link;
	*link = node->child[0] ? node->child[0] : node->child[1];
	node_free(trie, index);
	if (*link || !above)
		return;
	/* the place where two paths parted has only one left */
	index = *above;
	node = trie_node_at(trie, index);
	if (node->held)
		return;
	*above = node->child[0] ? node->child[0] : node->child[1];
	node_free(trie, index);
}

size_t trie_tree_count(const struct trie *trie, uint32_t index, size_t most)
{
	const struct trie_node *node = trie_node_at(trie, index);
	size_t count;

	if (!index)
		return 0;
	count = node->held;
	for (int i = 0; i < 2 && count < most; i++)
		count += trie_tree_count(trie, node->child[i], most - count);
	return count;
}

uint32_t trie_tree_cover(const struct trie *trie, uint32_t index, struct trie_bits bits, unsigned int below,
	uint32_t otherwise)
{
	while (index) {
		const struct trie_node *node = trie_node_at(trie, index);

		if (node->length >= below || !bits_begin(bits, trie_node_bits(trie, node), node->length))
			break;
		if (node->held)
			otherwise = node->number;
		index = node->child[bits_at(bits, node->length)];
	}
	return otherwise;
}

uint32_t trie_tree_inside(
	const struct trie *trie, uint32_t index, struct trie_bits bits, unsigned int depth, uint32_t *outside)
{
	while (index) {
		const struct trie_node *node = trie_node_at(trie, index);

		if (node->length >= depth)
			return bits_begin(trie_node_bits(trie, node), bits, depth) ? index : 0;
		if (!bits_begin(bits, trie_node_bits(trie, node), node->length))
			return 0;
		if (node->held)
			*outside = node->number;
		index = node->child[bits_at(bits, node->length)];
	}
	return 0;
}

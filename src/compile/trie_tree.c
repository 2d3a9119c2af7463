// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* The prefixes of a trie, in binary trees with compressed paths. */
#include <stdlib.h>

#include "compile/trie_internal.h"

bool trie_nodes_reserve(struct trie *trie, uint32_t more)
{
	uint32_t room = trie->node_room;
	struct trie_node *grown;

	while (room < trie->node_count + more)
		room = room ? room + room / 2 : 1024;
	if (room == trie->node_room)
		return true;
	grown = realloc(trie->nodes, (size_t)room * sizeof(*grown));
	if (!grown)
		return false;
	trie->nodes = grown;
	trie->node_room = room;
	return true;
}

static uint32_t node_new(struct trie *trie, struct trie_bits bits, unsigned int length)
{
	uint32_t index = trie->node_free;

	if (index)
		trie->node_free = trie->nodes[index].child[0];
	else
		index = trie->node_count++;
	trie->nodes[index] =
		(struct trie_node){.bits = bits_and(bits, bits_mask(length)), .length = (uint8_t)length};
	return index;
}

static void node_free(struct trie *trie, uint32_t index)
{
	trie->nodes[index].child[0] = trie->node_free;
	trie->node_free = index;
}

uint32_t trie_tree_add(struct trie *trie, uint32_t *link, struct trie_bits bits, unsigned int length)
{
	uint32_t fresh, above;

	while (*link) {
		struct trie_node *node = trie->nodes + *link;
		unsigned int most = node->length < length ? node->length : length;
		unsigned int common = bits_common(node->bits, bits, most);

		if (common == node->length) {
			if (common == length)
				return *link;
			link = &node->child[bits_at(bits, common)];
			continue;
		}
		fresh = node_new(trie, bits, length);
		if (common == length) {
			trie->nodes[fresh].child[bits_at(node->bits, length)] = *link;
			*link = fresh;
			return fresh;
		}
		above = node_new(trie, bits, common);
		trie->nodes[above].child[bits_at(bits, common)] = fresh;
		trie->nodes[above].child[!bits_at(bits, common)] = *link;
		*link = above;
		return fresh;
	}
	*link = node_new(trie, bits, length);
	return *link;
}

uint32_t trie_tree_find(const struct trie *trie, uint32_t index, struct trie_bits bits, unsigned int length)
{
	while (index) {
		const struct trie_node *node = trie->nodes + index;

		if (node->length > length || !bits_begin(bits, node->bits, node->length))
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

	for (node = trie->nodes + *link; node->length < length; node = trie->nodes + *link) {
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
	node = trie->nodes + index;
	if (node->held)
		return;
	*above = node->child[0] ? node->child[0] : node->child[1];
	node_free(trie, index);
}

size_t trie_tree_count(const struct trie *trie, uint32_t index, size_t most)
{
	const struct trie_node *node = trie->nodes + index;
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
		const struct trie_node *node = trie->nodes + index;

		if (node->length >= below || !bits_begin(bits, node->bits, node->length))
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
		const struct trie_node *node = trie->nodes + index;

		if (node->length >= depth)
			return bits_begin(node->bits, bits, depth) ? index : 0;
		if (!bits_begin(bits, node->bits, node->length))
			return 0;
		if (node->held)
			*outside = node->number;
		index = node->child[bits_at(bits, node->length)];
	}
	return 0;
}

// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "compile/maglev.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "basic/cleanup.h"

/* A backend while the ring is made. */
struct player {
	uint64_t name; /* hash of what it is: the order of those whose turns come at once */
	uint32_t slot; /* the next of its order */
	uint32_t skip;
	uint32_t weight;
	uint16_t number;
};

static uint64_t mix(uint64_t hash, uint64_t word)
{
	hash = (hash ^ word) * 0x9fb21c651e98df25ULL;
	hash ^= hash >> 29;
	hash *= 0xd6e8feb86659fd93ULL;
	return hash ^ hash >> 32;
}

/* The same on every machine: bytes, not words. */
static uint64_t backend_hash(const struct maglev_backend *backend, uint64_t seed)
{
	uint64_t hash = mix(seed, (uint64_t)backend->address.family << 16 | backend->port);

	for (int i = 0; i < 16; i += 8) {
		uint64_t word = 0;

		for (int j = 0; j < 8; j++)
			word = word << 8 | backend->address.bytes[i + j];
		hash = mix(hash, word);
	}
	return hash;
}

struct maglev_order maglev_order(const struct maglev_backend *backend, uint32_t slot_count)
{
	return (struct maglev_order){
		.name = backend_hash(backend, 1),
		.offset = (uint32_t)(backend_hash(backend, 2) % slot_count),
		.skip = (uint32_t)(backend_hash(backend, 3) % (slot_count - 1) + 1),
	};
}

static int player_compare(const void *left, const void *right)
{
	const struct player *a = left, *b = right;

	return a->name != b->name ? (a->name < b->name ? -1 : 1)
	                          : (a->number > b->number) - (a->number < b->number);
}

/* The round in which turn `turn` of a weight comes, where the largest has one in each: 1 and up. */
static uint64_t round_of(uint32_t turn, uint32_t weight, uint32_t largest)
{
	return ((2 * (uint64_t)turn + 1) * largest + 2 * (uint64_t)weight - 1) / (2 * (uint64_t)weight);
}

/* Turns of a weight up to round `last`. */
static uint32_t turns_of(uint64_t last, uint32_t weight, uint32_t largest)
{
	/* the largest k with (2k + 1) * largest <= 2 * weight * last, and one more since k begins with 0 */
	return (uint32_t)((2 * weight * last / largest + 1) / 2);
}

static uint64_t turns_up_to(const struct player *players, size_t count, uint32_t largest, uint64_t last)
{
	uint64_t turns = 0;

	for (size_t i = 0; i < count; i++)
		turns += turns_of(last, players[i].weight, largest);
	return turns;
}

/* The first round at whose end there were as many turns as slots. */
static uint32_t round_last(const struct player *players, size_t count, uint32_t largest, uint32_t slot_count)
{
	uint32_t low = 1, high = slot_count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (turns_up_to(players, count, largest, middle) >= slot_count)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

/* Who takes a slot when: counted, then sorted by rounds, in each by the players' order. */
static int turns_sort(
	const struct player *players, size_t count, uint32_t largest, uint32_t last, uint16_t **ret_turns)
{
	uint64_t total = turns_up_to(players, count, largest, last);
	uint32_t *ends = calloc((size_t)last + 2, sizeof(*ends));
	uint16_t *turns = calloc(total, sizeof(*turns));

	if (!ends || !turns) {
		free(ends);
		free(turns);
		return -ENOMEM;
	}
	for (size_t i = 0; i < count; i++)
		for (uint32_t k = 0, n = turns_of(last, players[i].weight, largest); k < n; k++)
			ends[round_of(k, players[i].weight, largest) + 1]++;
	for (uint32_t i = 1; i < last + 2; i++)
		ends[i] += ends[i - 1];
	for (size_t i = 0; i < count; i++)
		for (uint32_t k = 0, n = turns_of(last, players[i].weight, largest); k < n; k++)
			turns[ends[round_of(k, players[i].weight, largest)]++] = (uint16_t)i;
	free(ends);
	*ret_turns = turns;
	return 0;
}

static size_t players_make(
	const struct maglev_backend *backends, size_t count, struct player *players, uint32_t slot_count)
{
	size_t made = 0;

	for (size_t i = 0; i < count; i++) {
		struct maglev_order order;

		if (!backends[i].weight)
			continue;
		order = maglev_order(&backends[i], slot_count);
		players[made++] = (struct player){
			order.name, order.offset, order.skip, backends[i].weight, backends[i].number};
	}
	qsort(players, made, sizeof(*players), player_compare);
	return made;
}

/* A ring while it is made. */
struct game {
	struct player *players;
	size_t count;
	uint16_t *turns; /* who takes a slot when: places of players, one for each slot at least */
};

static void game_clear(struct game *game)
{
	free(game->players);
	free(game->turns);
}

static int game_order(struct game *game, uint32_t slot_count)
{
	uint32_t largest = 0;

	for (size_t i = 0; i < game->count; i++)
		if (game->players[i].weight > largest)
			largest = game->players[i].weight;
	return turns_sort(game->players, game->count, largest,
		round_last(game->players, game->count, largest, slot_count), &game->turns);
}

static int game_open(
	const struct maglev_backend *backends, size_t count, uint32_t slot_count, struct game *ret_game)
{
	ret_game->players = calloc(count ? count : 1, sizeof(*ret_game->players));
	if (!ret_game->players)
		return -ENOMEM;
	ret_game->count = players_make(backends, count, ret_game->players, slot_count);
	return 0;
}

int maglev_fill(const struct maglev_backend *backends, size_t count, uint16_t *slots, uint32_t slot_count)
{
	_cleanup_(game_clear) struct game game = {};
	int r = game_open(backends, count, slot_count, &game);

	if (r == 0 && game.count)
		r = game_order(&game, slot_count);
	if (r < 0)
		return r;
	memset(slots, 0, slot_count * sizeof(*slots));
	for (uint32_t filled = 0; filled < slot_count && game.count; filled++) {
		struct player *player = &game.players[game.turns[filled]];

		while (slots[player->slot]) {
			player->slot += player->skip;
			if (player->slot >= slot_count)
				player->slot -= slot_count;
		}
		slots[player->slot] = player->number;
	}
	return 0;
}

static uint32_t common_divisor(uint32_t a, uint32_t b)
{
	while (b) {
		uint32_t rest = a % b;

		a = b;
		b = rest;
	}
	return a;
}

int maglev_turns(const struct maglev_backend *backends, size_t count, uint32_t most, uint16_t **ret_turns,
	uint32_t *ret_count)
{
	_cleanup_(game_clear) struct game game = {};
	uint32_t divisor = 0;
	uint64_t turns = 0;
	int r = game_open(backends, count, most, &game);

	for (size_t i = 0; i < game.count; i++) {
		divisor = common_divisor(divisor, game.players[i].weight);
		turns += game.players[i].weight;
	}
	if (divisor)
		turns /= divisor;
	if (turns > most)
		turns = most;
	if (r == 0 && turns)
		r = game_order(&game, (uint32_t)turns);
	if (r < 0)
		return r;
	for (uint64_t i = 0; i < turns; i++)
		game.turns[i] = game.players[game.turns[i]].number;
	*ret_turns = TAKE(game.turns);
	*ret_count = (uint32_t)turns;
	return 0;
}

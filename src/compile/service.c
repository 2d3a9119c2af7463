// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "compile/service.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "basic/cleanup.h"
#include "bpf/lib/service_find.h"
#include "compile/trie.h"

/* Ports of one address, as a service has them. */
struct claim {
	const struct service_input *service;
	uint32_t address; /* number */
	uint16_t first, last;
	uint8_t proto; /* 0: any */
	uint8_t depth; /* 0: its own; of a shorter prefix around it: how many lie between */
	uint32_t unit; /* of the service */
};

struct address_entry {
	struct prefix prefix;
	uint32_t parent;       /* the next prefix around it; 0: none */
	size_t own, own_count; /* claims, in the order of claim_compare() */
	size_t inherited, inherited_count;
};

/* A book while it is made. */
struct book {
	struct service_image image;
	size_t room;                     /* units */
	struct address_entry *addresses; /* [1] and up */
	size_t address_count;
	struct claim *claims;
	size_t claim_count, claim_room;
	uint32_t *service_units; /* by input */
};

static void book_clear(struct book *book)
{
	free(book->image.units);
	free(book->addresses);
	free(book->claims);
	free(book->service_units);
}

/* Zeroed units at the end.  0, or -ENOSPC, -ENOMEM. */
static int units_add(struct book *book, size_t count, uint32_t *ret_unit)
{
	size_t room = book->room ? book->room : 64;
	struct policy_unit *units;

	if (book->image.count + count > SERVICE_BOOK_UNITS)
		return -ENOSPC;
	while (room < book->image.count + count)
		room *= 2;
	if (room != book->room) {
		units = realloc(book->image.units, room * sizeof(*units));
		if (!units)
			return -ENOMEM;
		memset(units + book->room, 0, (room - book->room) * sizeof(*units));
		book->image.units = units;
		book->room = room;
	}
	*ret_unit = (uint32_t)book->image.count;
	book->image.count += count;
	return 0;
}

/* -- what a sentence says -- */

static uint64_t hash_bytes(const void *bytes, size_t size)
{
	const uint8_t *byte = bytes;
	uint64_t hash = 0xcbf29ce484222325ULL; /* FNV-1a */

	for (size_t i = 0; i < size; i++)
		hash = (hash ^ byte[i]) * 0x100000001b3ULL;
	return hash;
}

uint32_t service_seed(const struct service_text *text)
{
	uint8_t bytes[24] = {
		text->prefix.address.family, text->prefix.length, (uint8_t)text->protocol, text->any_port};
	uint64_t hash;

	memcpy(bytes + 4, text->prefix.address.bytes, 16);
	if (!text->any_port) {
		bytes[20] = (uint8_t)(text->ports.low >> 8);
		bytes[21] = (uint8_t)text->ports.low;
		bytes[22] = (uint8_t)(text->ports.high >> 8);
		bytes[23] = (uint8_t)text->ports.high;
	}
	hash = hash_bytes(bytes, sizeof(bytes));
	return (uint32_t)(hash ^ hash >> 32);
}

uint16_t service_flags(const struct service_text *text)
{
	uint16_t flags = 0;

	flags |= text->affinity ? SERVICE_SOURCE : 0;
	flags |= text->deliver == SERVICE_NAT || text->choice != SERVICE_MAGLEV ? SERVICE_KEEP : 0;
	flags |= text->quic ? SERVICE_QUIC : 0;
	flags |= text->closed ? SERVICE_CLOSED : 0;
	flags |= text->no_flows ? SERVICE_NO_FLOWS : 0;
	flags |= text->any_port || text->ports.low != text->ports.high ? SERVICE_ANY_PORT : 0;
	return flags;
}

/* -- addresses -- */

static int prefix_compare(const struct prefix *a, const struct prefix *b)
{
	int r = address_compare(&a->address, &b->address);

	return r ? r : (int)a->length - (int)b->length;
}

static int entry_compare(const void *left, const void *right)
{
	const struct address_entry *a = left, *b = right;

	return prefix_compare(&a->prefix, &b->prefix);
}

/* Sorted, each once: so what contains another stands before it. */
static int addresses_collect(struct book *book, const struct service_input *services, size_t count)
{
	size_t kept = 0;

	book->addresses = calloc(count + 1, sizeof(*book->addresses));
	if (!book->addresses)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++)
		book->addresses[i + 1].prefix = services[i].text->prefix;
	qsort(book->addresses + 1, count, sizeof(*book->addresses), entry_compare);
	for (size_t i = 1; i <= count; i++)
		if (!kept || prefix_compare(&book->addresses[kept].prefix, &book->addresses[i].prefix))
			book->addresses[++kept] = book->addresses[i];
	book->address_count = kept;
	return 0;
}

static uint32_t address_number(const struct book *book, const struct prefix *prefix)
{
	struct address_entry key = {.prefix = *prefix};
	const struct address_entry *found = bsearch(
		&key, book->addresses + 1, book->address_count, sizeof(*book->addresses), entry_compare);

	return (uint32_t)(found - book->addresses);
}

/* -- claims -- */

static int claim_add(struct book *book, const struct claim *claim)
{
	if (book->claim_count == book->claim_room) {
		size_t room = book->claim_room ? 2 * book->claim_room : 64;
		struct claim *claims = realloc(book->claims, room * sizeof(*claims));

		if (!claims)
			return -ENOMEM;
		book->claims = claims;
		book->claim_room = room;
	}
	book->claims[book->claim_count++] = *claim;
	return 0;
}

/* By address; its own before those of shorter prefixes; the narrower range first; a protocol before any. */
static int claim_compare(const void *left, const void *right)
{
	const struct claim *a = left, *b = right;
	int width_a = a->last - a->first, width_b = b->last - b->first;

	if (a->address != b->address)
		return a->address < b->address ? -1 : 1;
	if (a->depth != b->depth)
		return (int)a->depth - (int)b->depth;
	if (width_a != width_b)
		return width_a - width_b;
	if (!a->proto != !b->proto)
		return a->proto ? -1 : 1;
	return a->first != b->first ? (int)a->first - (int)b->first : (int)a->proto - (int)b->proto;
}

static const char *ports_print(char *buffer, size_t size, const struct service_text *text)
{
	if (text->any_port)
		snprintf(buffer, size, "any port");
	else if (text->ports.low == text->ports.high)
		snprintf(buffer, size, "port %u", text->ports.low);
	else
		snprintf(buffer, size, "ports %u-%u", text->ports.low, text->ports.high);
	return buffer;
}

/* Two services of one prefix: the ports of one may lie within those of the other, but neither be the same nor
 * overlap. */
static int claims_check(const struct claim *a, const struct claim *b, struct error *error)
{
	char address[ADDRESS_TEXT_MAX], ports[2][32];
	const struct service_text *text = a->service->text, *other = b->service->text;
	bool same = a->first == b->first && a->last == b->last;

	if (a->proto != b->proto || a->last < b->first || b->last < a->first)
		return 0;
	if (!same && ((a->first <= b->first && b->last <= a->last) ||
			     (b->first <= a->first && a->last <= b->last)))
		return 0;
	prefix_print(address, sizeof(address), &text->prefix);
	if (same)
		error_set(error, -EINVAL, "%s, %s is service %s already, so it cannot be %s, too", address,
			ports_print(ports[0], sizeof(ports[0]), text), other->name, text->name);
	else
		error_set(error, -EINVAL, "%s of service %s overlap with %s of service %s at %s",
			ports_print(ports[0], sizeof(ports[0]), text), text->name,
			ports_print(ports[1], sizeof(ports[1]), other), other->name, address);
	return error_want(error, "another address, protocol or port, or ports that lie within the other's");
}

static int claims_collect(struct book *book, const struct service_input *services, size_t count)
{
	int r = 0;

	for (size_t i = 0; i < count && r == 0; i++) {
		const struct service_text *text = services[i].text;
		struct claim claim = {
			.service = &services[i],
			.address = address_number(book, &text->prefix),
			.first = text->any_port ? 0 : text->ports.low,
			.last = text->any_port ? UINT16_MAX : text->ports.high,
			.proto = (uint8_t)(text->protocol < 0 ? 0 : text->protocol),
			.unit = book->service_units[i],
		};

		r = claim_add(book, &claim);
	}
	if (r < 0)
		return r;
	qsort(book->claims, book->claim_count, sizeof(*book->claims), claim_compare);
	for (size_t i = 0; i < book->claim_count; i++) {
		struct address_entry *entry = &book->addresses[book->claims[i].address];

		if (!entry->own_count++)
			entry->own = i;
	}
	return 0;
}

static int claims_distinct(const struct book *book, struct error *error)
{
	int r = 0;

	for (size_t i = 1; i <= book->address_count && r == 0; i++) {
		const struct claim *own = book->claims + book->addresses[i].own;

		for (size_t j = 1; j < book->addresses[i].own_count && r == 0; j++)
			for (size_t k = 0; k < j && r == 0; k++)
				r = claims_check(&own[j], &own[k], error);
	}
	return r;
}

/* Is every packet of the claim taken by one of these? */
static bool claim_is_covered(const struct claim *claims, size_t count, const struct claim *claim)
{
	for (size_t i = 0; i < count; i++)
		if (claims[i].first <= claim->first && claim->last <= claims[i].last &&
			(!claims[i].proto || claims[i].proto == claim->proto))
			return true;
	return false;
}

/* Of claims of the prefix around it an address gets those that its own leave something of. */
static int claims_pass(struct book *book, uint32_t to, size_t first, size_t count)
{
	const struct address_entry *entry = &book->addresses[to];
	int r = 0;

	for (size_t i = first; i < first + count && r == 0; i++) {
		struct claim claim = book->claims[i];

		claim.address = to;
		claim.depth++;
		if (!claim_is_covered(book->claims + entry->own, entry->own_count, &claim))
			r = claim_add(book, &claim);
	}
	return r;
}

/* What an address leaves to shorter prefixes around it.  Addresses are sorted, so the one around it stands
 * before it, and has got what is around that already. */
static int claims_inherit(struct book *book)
{
	int r = 0;

	for (uint32_t i = 1; i <= book->address_count && r == 0; i++) {
		struct address_entry *entry = &book->addresses[i], *around;
		uint32_t parent = i - 1;

		while (parent && !prefix_contains(&book->addresses[parent].prefix, &entry->prefix.address))
			parent = book->addresses[parent].parent;
		entry->parent = parent;
		entry->inherited = book->claim_count;
		if (!parent)
			continue;
		around = &book->addresses[parent];
		r = claims_pass(book, i, around->own, around->own_count);
		if (r == 0)
			r = claims_pass(book, i, around->inherited, around->inherited_count);
		entry->inherited_count = book->claim_count - entry->inherited;
	}
	if (r == 0)
		qsort(book->claims, book->claim_count, sizeof(*book->claims), claim_compare);
	return r;
}

/* -- units -- */

/* Does the claim stand in the hash?  One port of one protocol, unless a range comes before it. */
static bool claim_is_exact(const struct claim *claims, size_t place)
{
	const struct claim *claim = &claims[place];

	return claim->proto && claim->first == claim->last && !claim_is_covered(claims, place, claim);
}

static bool port_insert(struct policy_unit *units, uint32_t mask, const struct claim *claim)
{
	uint32_t home = service_port_hash(claim->address, claim->proto, htons(claim->first));

	for (uint32_t i = 0; i < SERVICE_PROBES; i++) {
		struct service_port *entries = (struct service_port *)&units[(home + i) & mask];

		for (int j = 0; j < 4; j++)
			if (!entries[j].service) {
				entries[j] = (struct service_port){
					.address = claim->address,
					.port = htons(claim->first),
					.proto = claim->proto,
					.service = claim->unit,
				};
				return true;
			}
	}
	return false;
}

static bool ports_fill(const struct book *book, struct policy_unit *units, uint32_t mask)
{
	for (size_t i = 0, first = 0; i < book->claim_count; i++) {
		if (book->claims[i].address != book->claims[first].address)
			first = i;
		if (claim_is_exact(book->claims + first, i - first) &&
			!port_insert(units, mask, &book->claims[i]))
			return false;
	}
	return true;
}

static int ports_write(struct book *book)
{
	size_t exact = 0, units = 1;
	uint32_t unit, added;
	int r;

	for (size_t i = 0, first = 0; i < book->claim_count; i++) {
		if (book->claims[i].address != book->claims[first].address)
			first = i;
		exact += claim_is_exact(book->claims + first, i - first);
	}
	while (2 * units < exact)
		units *= 2;
	/* at the book's end, until all find room in it */
	for (unit = (uint32_t)book->image.count;; units *= 2) {
		r = units_add(book, book->image.count == unit ? units : units / 2, &added);
		if (r < 0)
			return r;
		memset(book->image.units + unit, 0, units * sizeof(struct policy_unit));
		if (ports_fill(book, book->image.units + unit, (uint32_t)units - 1))
			break;
	}
	((struct service_book *)book->image.units)->ports = unit;
	((struct service_book *)book->image.units)->port_mask = (uint32_t)units - 1;
	return 0;
}

static int too_many_ranges(const struct claim *claim, struct error *error)
{
	char address[ADDRESS_TEXT_MAX];

	error_set(error, -EINVAL, "%s has more than %d ranges of ports (of service %s, and others)",
		prefix_print(address, sizeof(address), &claim->service->text->prefix), SERVICE_RANGES_MAX,
		claim->service->text->name);
	return error_want(error, "fewer ranges at this address, or single ports");
}

/* Those of the claims of one address that are not in the hash. */
static int ranges_write(struct book *book, size_t first, size_t end, struct error *error)
{
	struct service_range ranges[SERVICE_RANGES_MAX] = {};
	uint32_t count = 0, unit, number, addresses;
	int r;

	for (size_t i = first; i < end; i++) {
		const struct claim *claim = &book->claims[i];

		if (claim_is_exact(book->claims + first, i - first))
			continue;
		if (count == SERVICE_RANGES_MAX)
			return too_many_ranges(claim, error);
		ranges[count++] = (struct service_range){.first = claim->first,
			.last = claim->last,
			.proto = claim->proto,
			.service = claim->unit};
	}
	if (!count)
		return 0;
	ranges[count - 1].end = 1;
	r = units_add(book, (count + 3) / 4, &unit);
	if (r < 0)
		return r;
	memcpy(book->image.units + unit, ranges, count * sizeof(*ranges));
	number = book->claims[first].address;
	addresses = ((struct service_book *)book->image.units)->addresses;
	book->image.units[addresses + number / 8].word[number % 8] = (uint64_t)unit << 32 | count;
	return 0;
}

static int addresses_write(struct book *book, struct error *error)
{
	uint32_t unit;
	int r = units_add(book, book->address_count / 8 + 1, &unit);

	if (r < 0)
		return r;
	((struct service_book *)book->image.units)->addresses = unit;
	for (size_t i = 0, first = 0; i < book->claim_count && r == 0; i++)
		if (i + 1 == book->claim_count ||
			book->claims[i + 1].address != book->claims[first].address) {
			r = ranges_write(book, first, i + 1, error);
			first = i + 1;
		}
	return r;
}

/* Behind the others; *ret_unit stays 0 without any. */
static int bytes_add(struct book *book, const void *bytes, size_t size, uint32_t *ret_unit)
{
	int r = size ? units_add(book, (size + sizeof(struct policy_unit) - 1) / sizeof(struct policy_unit),
			       ret_unit)
	             : 0;

	if (r == 0 && size)
		memcpy(book->image.units + *ret_unit, bytes, size);
	return r;
}

static int service_write(struct book *book, uint32_t unit, const struct service_input *input)
{
	const struct service_text *text = input->text;
	struct service service = {
		.number = input->number,
		.rule = input->rule,
		.flags = service_flags(text),
		.deliver = (uint8_t)text->deliver,
		.choice = (uint8_t)text->choice,
		.proto = (uint8_t)(text->protocol < 0 ? 0 : text->protocol),
		.gue_port = htons(text->gue_port ? text->gue_port : SERVICE_GUE_PORT),
		.mss = text->mss,
		.mtu = text->mtu,
		.ring = input->ring,
		.slots = input->slots,
		.seed = service_seed(text),
		.idle_ticks = input->idle_ticks,
		.affinity_ticks = input->affinity_ticks,
		.backend_count = (uint32_t)input->backend_count,
		.server_count = (uint32_t)input->server_count,
	};
	int r = bytes_add(
		book, input->backends, input->backend_count * sizeof(*input->backends), &service.backends);

	if (r == 0)
		r = bytes_add(book, input->servers, input->server_count * sizeof(*input->servers),
			&service.servers);
	if (input->before && input->before != input->ring) {
		service.flags |= SERVICE_MOVED;
		service.before = input->before;
	}
	service.flags |= input->kept ? SERVICE_KEPT : 0;
	if (r == 0)
		memcpy(&book->image.units[unit], &service, sizeof(service));
	return r;
}

static int services_write(struct book *book, const struct service_input *services, size_t count)
{
	uint32_t first;
	int r;

	book->service_units = calloc(count, sizeof(*book->service_units));
	if (!book->service_units)
		return -ENOMEM;
	r = units_add(book, count, &first);
	for (size_t i = 0; i < count && r == 0; i++) {
		book->service_units[i] = first + (uint32_t)i;
		r = service_write(book, book->service_units[i], &services[i]);
	}
	return r;
}

/* -- tries -- */

/* A trie of a family; without prefixes there is none. */
struct trie_wanted {
	uint8_t family;
	size_t prefixes; /* as a guess for the root's size */
	int (*fill)(struct trie *trie, const void *context);
	const void *context;
};

static int trie_write_at(
	struct book *book, const struct trie_wanted *wanted, uint32_t *ret_unit, uint8_t *ret_bits)
{
	_cleanup_free_ struct policy_unit *units = NULL;
	uint32_t bits = trie_root_bits(wanted->family, wanted->prefixes), unit;
	struct trie *trie;
	int r;

	if (!wanted->prefixes)
		return 0;
	units = calloc(SERVICE_BOOK_UNITS, sizeof(*units));
	if (!units)
		return -ENOMEM;
	if (bits > TRIE_ROOT_MIDDLE)
		bits = TRIE_ROOT_MIDDLE;
	r = trie_open(wanted->family, bits, units, SERVICE_BOOK_UNITS, &trie);
	if (r < 0)
		return r;
	trie_hold(trie);
	r = wanted->fill(trie, wanted->context);
	if (r == 0)
		r = trie_write(trie);
	if (r == 0)
		r = units_add(book, trie_units(trie), &unit);
	if (r == 0) {
		memcpy(book->image.units + unit, units, trie_units(trie) * sizeof(*units));
		*ret_unit = unit;
		*ret_bits = (uint8_t)bits;
	}
	trie_close(trie);
	return r;
}

struct family_addresses {
	const struct book *book;
	uint8_t family;
};

static int addresses_fill(struct trie *trie, const void *context)
{
	const struct family_addresses *wanted = context;
	int r = 0;

	for (uint32_t i = 1; i <= wanted->book->address_count && r == 0; i++)
		if (wanted->book->addresses[i].prefix.address.family == wanted->family)
			r = trie_set(trie, &wanted->book->addresses[i].prefix, i);
	return r;
}

static size_t addresses_of(const struct book *book, uint8_t family)
{
	size_t count = 0;

	for (uint32_t i = 1; i <= book->address_count; i++)
		count += book->addresses[i].prefix.address.family == family;
	return count;
}

struct family_answers {
	const struct service_answers *answers;
	size_t count;
	uint8_t family;
};

/* The longest prefix that begins here and does not go beyond `last`. */
static struct prefix prefix_up_to(const struct address *first, const struct address *last)
{
	uint8_t length = first->family == 4 ? 32 : 128;
	struct prefix prefix = {*first, length};

	while (prefix.length) {
		uint8_t bit = (uint8_t)(prefix.length - 1);
		struct address end;

		if (first->bytes[bit / 8] >> (7 - bit % 8) & 1)
			break;
		end = *first;
		for (unsigned int i = bit; i < length; i++)
			end.bytes[i / 8] |= (uint8_t)(0x80 >> i % 8);
		if (address_compare(&end, last) > 0)
			break;
		prefix.length--;
	}
	return prefix;
}

/* The address behind a prefix; false: there is none. */
static bool address_behind(const struct prefix *prefix, struct address *ret_address)
{
	*ret_address = prefix->address;
	for (int bit = prefix->length - 1; bit >= 0; bit--) {
		uint8_t mask = (uint8_t)(0x80 >> bit % 8);

		ret_address->bytes[bit / 8] ^= mask;
		if (ret_address->bytes[bit / 8] & mask)
			return true;
	}
	return false;
}

static int answers_fill(struct trie *trie, const void *context)
{
	const struct family_answers *wanted = context;
	int r = 0;

	for (size_t i = 0; i < wanted->count && r == 0; i++) {
		struct address at = wanted->answers[i].first;

		if (at.family != wanted->family)
			continue;
		while (r == 0 && address_compare(&at, &wanted->answers[i].last) <= 0) {
			struct prefix prefix = prefix_up_to(&at, &wanted->answers[i].last);

			r = trie_set(trie, &prefix, 1);
			if (!address_behind(&prefix, &at))
				break;
		}
	}
	return r;
}

static size_t answers_of(const struct service_answers *answers, size_t count, uint8_t family)
{
	size_t found = 0;

	for (size_t i = 0; i < count; i++)
		found += answers[i].first.family == family;
	return found;
}

static int tries_write(struct book *book, const struct service_answers *answers, size_t answer_count)
{
	uint32_t units[4] = {};
	uint8_t bits[4] = {};
	struct service_book *head;
	int r = 0;

	for (int i = 0; i < 2 && r == 0; i++) {
		uint8_t family = i ? 6 : 4;
		struct family_addresses addresses = {book, family};
		struct family_answers wanted = {answers, answer_count, family};

		r = trie_write_at(book,
			&(struct trie_wanted){family, addresses_of(book, family), addresses_fill, &addresses},
			&units[i], &bits[i]);
		if (r == 0)
			r = trie_write_at(book,
				&(struct trie_wanted){family, answers_of(answers, answer_count, family),
					answers_fill, &wanted},
				&units[2 + i], &bits[2 + i]);
	}
	head = (struct service_book *)book->image.units;
	head->trie4 = units[0];
	head->trie6 = units[1];
	head->answers4 = units[2];
	head->answers6 = units[3];
	head->bits4 = bits[0];
	head->bits6 = bits[1];
	head->answer_bits4 = bits[2];
	head->answer_bits6 = bits[3];
	for (size_t i = 0; i < answer_count; i++) {
		if (i == 0 || answers[i].ports.low < head->answer_first)
			head->answer_first = answers[i].ports.low;
		if (answers[i].ports.high > head->answer_last)
			head->answer_last = answers[i].ports.high;
	}
	return r;
}

static int book_write(struct book *book, const struct service_input *services, size_t count,
	const struct service_answers *answers, size_t answer_count, struct error *error)
{
	uint32_t head;
	int r = units_add(book, 1, &head);

	if (r < 0 || !count)
		return r;
	r = addresses_collect(book, services, count);
	if (r == 0)
		r = services_write(book, services, count);
	if (r == 0)
		r = claims_collect(book, services, count);
	if (r == 0)
		r = claims_distinct(book, error);
	if (r == 0)
		r = claims_inherit(book);
	if (r == 0)
		r = addresses_write(book, error);
	if (r == 0)
		r = ports_write(book);
	return r < 0 ? r : tries_write(book, answers, answer_count);
}

int service_compile(const struct service_input *services, size_t count, const struct service_answers *answers,
	size_t answer_count, uint32_t generation, struct service_image *ret_image, struct error *error)
{
	struct book book = {};
	struct service_book *head;
	int r = book_write(&book, services, count, answers, answer_count, error);

	if (r == -ENOSPC)
		error_set(error, r, "these services take more than %d MiB in the kernel",
			SERVICE_BOOK_UNITS * (int)sizeof(struct policy_unit) >> 20);
	if (r == -ENOMEM)
		error_set(error, r, "out of memory");
	if (r == 0) {
		head = (struct service_book *)book.image.units;
		head->generation = generation;
		head->count = (uint32_t)count;
		head->units = (uint32_t)book.image.count;
		ret_image->count = book.image.count;
		ret_image->units = TAKE(book.image.units);
	}
	book_clear(&book);
	return r;
}

/* -- looking up -- */

static void address_words(const struct address *address, __be32 words[4])
{
	memcpy(words, address->bytes, 16);
}

const struct service *service_lookup(const struct policy_unit *units, size_t count,
	const struct address *address, uint8_t proto, uint16_t port)
{
	struct trie_memory memory = {units, count};
	const struct service_book *book = (const void *)units;
	__be32 words[4];
	uint32_t number, unit;

	if (!count || !book->count)
		return NULL;
	address_words(address, words);
	number = address->family == 4 ? service_address4(&memory, book, words[0])
	                              : service_address6(&memory, book, words);
	unit = number ? service_find(&memory, book, number, proto, htons(port)) : 0;
	return unit && unit < count ? (const struct service *)&units[unit] : NULL;
}

uint32_t service_slot_of(const struct service *service, const struct address *source, uint16_t source_port,
	const struct address *destination, uint16_t port, uint8_t proto)
{
	uint64_t ends = service_ends(htons(source_port), htons(port), proto);
	__be32 src[4], dst[4];
	uint32_t hash;

	address_words(source, src);
	address_words(destination, dst);
	hash = source->family == 4 ? service_hash4(service->seed, service->flags, src[0], dst[0], ends)
	                           : service_hash6(service->seed, service->flags, src, dst, ends);
	return service_slot(hash, service->slots);
}

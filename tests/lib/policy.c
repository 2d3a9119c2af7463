// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "lib/policy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "basic/cleanup.h"
#include "basic/error.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static uint32_t next(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return (uint32_t)((*state * 0x2545f4914f6cdd1dULL) >> 32);
}

static uint32_t below(uint64_t *state, uint32_t limit)
{
	return (uint32_t)(((uint64_t)next(state) * limit) >> 32);
}

/*
 * The world
 */

static uint32_t world_interface(void *context, const char *name)
{
	(void)context;
	/* eth0..eth9 are 1..10, others are not there */
	return strlen(name) == 4 && !strncmp(name, "eth", 3) ? (uint32_t)(name[3] - '0') + 1 : 0;
}

static int world_set(void *context, const char *name)
{
	(void)context;
	return name[0] == 's' && name[1] >= '0' && name[1] <= '9' ? atoi(name + 1) : -1;
}

static const struct port_range *world_port_set(void *context, const char *name, size_t *ret_count)
{
	static const struct port_range web[] = {{80, 80}, {443, 443}, {8000, 8100}},
				       high[] = {{0, 0}, {49152, 65535}};

	(void)context;
	*ret_count = !strcmp(name, "web") ? COUNT(web) : COUNT(high);
	return !strcmp(name, "web") ? web : !strcmp(name, "high") ? high : NULL;
}

static const uint64_t combinations[] = {0, 1, 2, 3, 5, 1ULL << 63, 1ULL << 40 | 2, ~0ULL};

static const struct policy_world world = {
	.interface = world_interface,
	.set = world_set,
	.port_set = world_port_set,
	.combinations = combinations,
	.combination_count = COUNT(combinations),
};

void policy_rules_add(struct policy_rules *rules, const char *sentence)
{
	struct error error = {0};

	if (!(rules->count & (rules->count - 1))) {
		size_t room = rules->count ? rules->count * 2 : 1;

		rules->rules = realloc(rules->rules, room * sizeof(*rules->rules));
		rules->sources = realloc(rules->sources, room * sizeof(*rules->sources));
		if (!rules->rules || !rules->sources)
			abort();
	}
	if (rule_parse(sentence, &rules->rules[rules->count], &error)) {
		error_print(&error, "policy: ", stderr);
		abort();
	}
	rules->count++;
	for (size_t i = 0; i < rules->count; i++)
		rules->sources[i].rule = &rules->rules[i];
	rules->sources[rules->count - 1] = (struct policy_source){
		.rule = &rules->rules[rules->count - 1],
		.id = (uint32_t)rules->count,
		.counter = (uint32_t)rules->count,
		.generation = 1,
	};
	rules->order = (struct policy_order){
		.sources = rules->sources,
		.count = rules->count,
		.generation = 1,
		.world = &world,
	};
}

void policy_rules_clear(struct policy_rules *rules)
{
	for (size_t i = 0; i < rules->count; i++)
		rule_clear(&rules->rules[i]);
	free(rules->rules);
	free(rules->sources);
	*rules = (struct policy_rules){0};
}

/*
 * ClassBench
 */

struct text {
	char bytes[RULE_TEXT_MAX];
	size_t length;
};

__attribute__((format(printf, 2, 3))) static void put(struct text *text, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	text->length += (size_t)vsnprintf(
		text->bytes + text->length, sizeof(text->bytes) - text->length, format, arguments);
	va_end(arguments);
}

struct filter_end {
	unsigned int bytes[4], length, low, high;
};

static void put_end(struct text *text, const char *word, const struct filter_end *end, bool ip6)
{
	uint32_t address = end->bytes[0] << 24 | end->bytes[1] << 16 | end->bytes[2] << 8 | end->bytes[3];
	bool ports = end->low > 0 || end->high < 65535;

	if (end->length < 32)
		address &= end->length ? UINT32_MAX << (32 - end->length) : 0;
	if (!end->length && !ports)
		return;
	put(text, " %s", word);
	if (end->length && ip6)
		put(text, " 2001:db8:%x:%x::/%u", address >> 16, address & 0xffff, 32 + end->length);
	else if (end->length)
		put(text, " %u.%u.%u.%u/%u", address >> 24, address >> 16 & 255, address >> 8 & 255,
			address & 255, end->length);
	if (ports && end->low == end->high)
		put(text, " port %u", end->low);
	else if (ports)
		put(text, " port %u-%u", end->low, end->high);
}

static void put_flags(struct text *text, unsigned int value, unsigned int mask)
{
	static const char *const names[] = {"fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"};
	const char *separator = "";

	put(text, " flags ");
	for (unsigned int i = 0; i < 8; i++)
		if (value & mask & 1U << i) {
			put(text, "%s%s", separator, names[i]);
			separator = ",";
		}
	if (!*separator)
		put(text, "none");
	separator = "/";
	for (unsigned int i = 0; i < 8; i++)
		if (mask & 1U << i) {
			put(text, "%s%s", separator, names[i]);
			separator = ",";
		}
}

int policy_rules_classbench(struct policy_rules *rules, const char *path, size_t most, unsigned int flags)
{
	_cleanup_fclose_ FILE *file = fopen(path, "re");
	char line[256];

	if (!file)
		return -errno;
	while (rules->count < most && fgets(line, sizeof(line), file)) {
		struct filter_end from = {.length = 0}, to = {.length = 0};
		unsigned int proto, proto_mask, tcp_flags = 0, tcp_mask = 0;
		struct text text = {.length = 0};
		int found = sscanf(line, "@%u.%u.%u.%u/%u %u.%u.%u.%u/%u %u : %u %u : %u %x/%x %x/%x",
			&from.bytes[0], &from.bytes[1], &from.bytes[2], &from.bytes[3], &from.length,
			&to.bytes[0], &to.bytes[1], &to.bytes[2], &to.bytes[3], &to.length, &from.low,
			&from.high, &to.low, &to.high, &proto, &proto_mask, &tcp_flags, &tcp_mask);

		if (found < 16)
			continue;
		put(&text, "%s %s", rules->count % 2 ? "accept" : "drop",
			flags & CLASSBENCH_IPV6 ? "ip6" : "ip");
		if (proto_mask)
			put(&text, " proto %u", proto == 1 && flags & CLASSBENCH_IPV6 ? 58 : proto);
		put_end(&text, "from", &from, flags & CLASSBENCH_IPV6);
		put_end(&text, "to", &to, flags & CLASSBENCH_IPV6);
		/* the file has the flags in the higher of two bytes */
		if (flags & CLASSBENCH_FLAGS && proto_mask && proto == 6 && tcp_mask >> 8)
			put_flags(&text, tcp_flags >> 8, tcp_mask >> 8);
		policy_rules_add(rules, text.bytes);
	}
	return 0;
}

/*
 * Random rules
 */

static const char *one_of(uint64_t *state, const char *const *words, size_t count)
{
	return words[below(state, (uint32_t)count)];
}

static void put_address(struct text *text, uint64_t *state, bool ip6)
{
	unsigned int length = below(state, ip6 ? 129 : 33);
	uint8_t bytes[16] = {ip6 ? 0x20 : 10, ip6 ? 1 : (uint8_t)below(state, 2)};
	struct prefix prefix = {.length = (uint8_t)length};
	char printed[ADDRESS_TEXT_MAX];

	/* few different ones, so that they are inside each other */
	for (unsigned int i = ip6 ? 2 : 1; i < 16; i++)
		bytes[i] = (uint8_t)(below(state, 3) * below(state, 2) * 0x81);
	prefix.address.family = ip6 ? 6 : 4;
	for (unsigned int i = 0; i < length; i++)
		prefix.address.bytes[i / 8] |= (uint8_t)(bytes[i / 8] & 0x80 >> i % 8);
	put(text, " %s", prefix_print(printed, sizeof(printed), &prefix));
}

static void put_ports(struct text *text, uint64_t *state)
{
	unsigned int low = below(state, 6) * 1000 + below(state, 3);

	switch (below(state, 4)) {
	case 0:
		put(text, " port %u", below(state, 3) ? low : below(state, 65536));
		break;
	case 1:
		put(text, " port %u-%u", low, low + below(state, 65535 - low));
		break;
	case 2:
		put(text, " port %u,%u-%u,65535", low, low + 1000, low + 1500);
		break;
	default:
		put(text, " port %s", below(state, 2) ? "0-1023" : "1024-65535");
		break;
	}
}

static void put_from_to(struct text *text, uint64_t *state, const char *word, bool ip6, bool ports)
{
	bool port = ports && !below(state, 3);

	if (below(state, 3) == 0 && !port)
		return;
	put(text, " %s", word);
	if (below(state, 4) == 0)
		put(text, " @s%u", below(state, 3) ? below(state, 3) : 63);
	else if (below(state, 4) || !port)
		put_address(text, state, ip6);
	if (port && below(state, 4) == 0)
		put(text, " port @%s", below(state, 2) ? "web" : "high");
	else if (port)
		put_ports(text, state);
}

static void put_rule(struct text *text, uint64_t *state)
{
	static const char *const verbs[] = {"accept", "drop", "drop", "reject", "count", "log", "mark 7",
		"redirect to eth1", "mirror to eth2", "rewrite dscp 4", "limit", "guarantee", "assign"};
	static const char *const directions[] = {"", "", " in", " in", " out"};
	static const char *const interfaces[] = {"", "", "", " on eth0", " on eth9", " on gone"};
	static const char *const states[] = {"new", "established,related", "invalid", "new,related"};
	static const char *const flags[] = {"syn", "syn/syn,ack", "none", "fin,psh,urg", "none/syn,rst"};
	static const char *const owners[] = {
		"pid 1", "user root", "group 0", "exe /bin/sh", "cgroup /a/b", "unit nginx", "not user root"};
	static const char *const types[] = {"echo-request", "8/0", "3/13", "255"};
	const char *verb = one_of(state, verbs, COUNT(verbs));
	unsigned int protocol = below(state, 8); /* 0..2: tcp; 3, 4: udp; 5: icmp; 6: gre; 7: any */
	bool ip6 = below(state, 2), later = false;

	put(text, "%s", verb);
	put(text, "%s%s", one_of(state, directions, COUNT(directions)),
		one_of(state, interfaces, COUNT(interfaces)));
	if (protocol == 5)
		put(text, " %s", ip6 ? "icmp6" : "icmp");
	else if (protocol < 7)
		put(text, "%s %s",
			below(state, 3) ? ""
			: ip6           ? " ip6"
					: " ip",
			protocol < 3   ? "tcp"
			: protocol < 5 ? "udp"
				       : "gre");
	else if (below(state, 3) == 0)
		put(text, " %s", ip6 ? "ip6" : "ip");
	if (protocol == 5 && below(state, 2))
		put(text, " %s", one_of(state, types + (ip6 ? 1 : 0), COUNT(types) - (ip6 ? 1 : 0)));
	else if (below(state, 8) == 0)
		later = true;
	put_from_to(text, state, "from", ip6, protocol < 5 && !later);
	put_from_to(text, state, "to", ip6, protocol < 5 && !later);
	if (below(state, 6) == 0) {
		put(text, " host");
		if (below(state, 2))
			put_address(text, state, ip6);
		else
			put(text, " @s%u", below(state, 3) ? below(state, 3) : 63);
	}
	if (below(state, 6) == 0 && protocol < 5 && !later) {
		if (below(state, 3))
			put_ports(text, state);
		else
			put(text, " port @%s", below(state, 2) ? "web" : "high");
	}
	if (protocol < 3 && below(state, 3) == 0 && !later)
		put(text, " flags %s", one_of(state, flags, COUNT(flags)));
	if (below(state, 5) == 0)
		put(text, " state %s", one_of(state, states, COUNT(states)));
	if (below(state, 6) == 0)
		put(text, " dscp %u", below(state, 3) * 31);
	if (below(state, 8) == 0)
		put(text, " mark %s", below(state, 2) ? "5" : "0x100/0x700");
	if (below(state, 6) == 0) {
		if (below(state, 2))
			put(text, " vlan %u", below(state, 2) ? 7 : 4095);
		else
			put(text, " untagged");
	}
	if (later)
		put(text, " fragment%s", below(state, 2) ? " later" : "");
	else if (below(state, 10) == 0)
		put(text, " fragment first");
	if (below(state, 6) == 0) {
		const char *owner = one_of(state, owners, COUNT(owners));

		put(text, " %s%s", strncmp(owner, "not ", 4) ? "by " : "not by ",
			owner + (strncmp(owner, "not ", 4) ? 0 : 4));
	}
	if (below(state, 10) == 0)
		put(text, " %smatching \"%s\"", below(state, 2) ? "" : "not ",
			below(state, 2) ? "greater 100" : "less 90");
	if (!strcmp(verb, "limit"))
		put(text, " to %s", below(state, 2) ? "100/s" : "10mbit");
	else if (!strcmp(verb, "guarantee"))
		put(text, " 10mbit");
	else if (!strcmp(verb, "assign"))
		put(text, " to bulk");
}

void policy_rules_random(struct policy_rules *rules, size_t count, uint64_t *state)
{
	while (count--) {
		struct text text = {.length = 0};

		put_rule(&text, state);
		policy_rules_add(rules, text.bytes);
	}
}

/*
 * Packets
 */

struct collection {
	struct policy_facts *facts;
	size_t count, room, seen;
	uint64_t *state;
};

/* Any of the edges with the same chance. */
static int collect(void *context, const struct policy_facts *facts)
{
	struct collection *collection = context;
	size_t at = collection->count;

	collection->seen++;
	if (at == collection->room)
		at = below(collection->state, (uint32_t)collection->seen);
	else
		collection->count++;
	if (at < collection->room)
		collection->facts[at] = *facts;
	return 0;
}

static void vary(struct policy_facts *facts, const struct policy_facts *other, uint64_t *state)
{
	bool same = other->family == facts->family;

	switch (below(state, 20)) {
	case 0:
		if (same)
			memcpy(facts->src, other->src, sizeof(facts->src));
		break;
	case 1:
		if (same)
			memcpy(facts->dst, other->dst, sizeof(facts->dst));
		break;
	case 2:
		facts->sport = other->dport;
		break;
	case 3:
		facts->dport = other->sport;
		break;
	case 4:
		facts->proto = other->proto;
		break;
	case 5:
		facts->out ^= 1;
		break;
	case 6:
		facts->flags = (uint16_t)below(state, 257);
		break;
	case 7:
		facts->state = (uint8_t)below(state, POLICY_STATES);
		break;
	case 8:
		facts->dscp = (uint8_t)below(state, 65);
		break;
	case 9:
		facts->vlan = (uint16_t)below(state, 4097);
		break;
	case 10:
		facts->owners = next(state);
		break;
	case 11:
		facts->expressions = next(state);
		break;
	case 12:
		facts->src_sets = below(state, COUNT(combinations));
		break;
	case 13:
		facts->dst_sets = below(state, COUNT(combinations));
		break;
	case 14:
		facts->mark = next(state);
		break;
	case 15:
		facts->ifindex = below(state, 20);
		break;
	case 16:
		if (facts->family)
			facts->src[below(state, facts->family == 4 ? 1 : 4)] ^= htonl(1U << below(state, 32));
		break;
	case 17:
		if (facts->family)
			facts->dst[below(state, facts->family == 4 ? 1 : 4)] ^= htonl(1U << below(state, 32));
		break;
	case 18:
		facts->sport = below(state, 65537);
		break;
	default:
		facts->dport = below(state, 65537);
		break;
	}
}

void policy_headers_make(
	struct policy_headers *headers, const struct policy_judge *judge, size_t count, uint64_t *state)
{
	struct collection collection = {.room = count, .state = state};

	collection.facts = calloc(count, sizeof(*collection.facts));
	if (!collection.facts)
		abort();
	policy_edges(judge, NULL, collect, &collection);
	/* half are edges as they are, the others have something of others */
	for (size_t i = collection.count; i < count; i++)
		collection.facts[i] = collection.count
		                              ? collection.facts[below(state, (uint32_t)collection.count)]
		                              : (struct policy_facts){.family = 4};
	for (size_t i = 0; i < count; i++)
		if (i >= collection.count || below(state, 2))
			for (uint32_t k = 1 + below(state, 3); k; k--)
				vary(&collection.facts[i], &collection.facts[below(state, (uint32_t)count)],
					state);
	*headers = (struct policy_headers){collection.facts, count};
}

static void random_address(__be32 *words, const struct endpoint *endpoint, uint8_t family, uint64_t *state)
{
	unsigned int length = endpoint && endpoint->has_prefix ? endpoint->prefix.length : 0;
	uint8_t bytes[16] = {0};

	for (unsigned int i = 0; i < (family == 4 ? 4 : 16); i++)
		bytes[i] = (uint8_t)next(state);
	for (unsigned int i = 0; i < length; i++) {
		uint8_t bit = (uint8_t)(0x80 >> i % 8);

		bytes[i / 8] =
			(uint8_t)((bytes[i / 8] & ~bit) | (endpoint->prefix.address.bytes[i / 8] & bit));
	}
	memcpy(words, bytes, sizeof(bytes));
}

static uint32_t random_port(const struct endpoint *endpoint, uint64_t *state)
{
	const struct port_range *range = endpoint->ports;

	if (!endpoint->port_count)
		return below(state, 65536);
	range += below(state, endpoint->port_count);
	return range->low + below(state, range->high - range->low + 1U);
}

void policy_headers_fit(
	struct policy_headers *headers, const struct policy_rules *rules, size_t count, uint64_t *state)
{
	headers->facts = calloc(count, sizeof(*headers->facts));
	headers->count = count;
	if (!headers->facts)
		abort();
	for (size_t i = 0; i < count; i++) {
		const struct match *match = &rules->rules[below(state, (uint32_t)rules->count)].match;
		struct policy_facts *facts = &headers->facts[i];
		bool anywhere = below(state, 5) == 0;

		*facts = (struct policy_facts){
			.family = match->family ? match->family : 4,
			.proto = match->protocol < 0 ? IPPROTO_TCP : (uint16_t)match->protocol,
			.sport = random_port(&match->from, state),
			.dport = random_port(&match->to, state),
			.icmp = 65536,
			.flags = 16,
			.vlan = 4096,
			.ifindex = 2,
		};
		random_address(facts->src, anywhere ? NULL : &match->from, facts->family, state);
		random_address(facts->dst, anywhere ? NULL : &match->to, facts->family, state);
	}
}

void policy_headers_clear(struct policy_headers *headers)
{
	free(headers->facts);
	*headers = (struct policy_headers){0};
}

// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* RFC 1035, 4; RFC 2181, 8 (TTL). */
#include <errno.h>
#include <string.h>

#include "agent/flow/name.h"

#define HEADER_BYTES 12
#define RECORDS_MAX  64 /* of an answer that are looked at */
#define ALIASES_MAX  16 /* from the name asked for to an address */
#define POINTERS_MAX 32 /* in one name */
#define NAME_BYTES   255

#define FLAG_ANSWER 0x80 /* in the third byte */
#define OPCODE      0x78
#define RCODE       0x0f /* in the fourth */

enum {
	TYPE_A = 1,
	TYPE_CNAME = 5,
	TYPE_AAAA = 28,
	CLASS_IN = 1,
};

struct message {
	const uint8_t *bytes;
	size_t length;
};

/* A record of the answer section.  Names are compared by hash: what an answer's sender makes collide is only
 * its own. */
struct record {
	unsigned int type;
	uint32_t ttl;
	uint64_t owner, target; /* target: of a CNAME */
	const uint8_t *address;
};

static unsigned int number_at(const struct message *m, size_t at)
{
	return (unsigned int)m->bytes[at] << 8 | m->bytes[at + 1];
}

/*
 * Reads the name at *at and moves that behind it.  The text goes to `text` ("a.b.", as long as it is valid),
 * which has NAME_BYTES + 1 bytes.  A pointer has to point before the place it stands in, and before all that
 * were followed: so there is no way in a circle.
 */
static int read_name(const struct message *m, size_t *at, char *text, size_t *ret_length)
{
	size_t place = *at, lowest = *at, length = 0;
	bool jumped = false;
	int pointers = 0;

	for (;;) {
		unsigned int label;

		if (place >= m->length)
			return -EPROTO;
		label = m->bytes[place];
		if (label >= 0xc0) {
			if (place + 2 > m->length || ++pointers > POINTERS_MAX)
				return -EPROTO;
			if (!jumped)
				*at = place + 2;
			jumped = true;
			place = number_at(m, place) & 0x3fff;
			if (place >= lowest)
				return -EPROTO;
			lowest = place;
			continue;
		}
		if (label > 63 || label > m->length - place - 1 || length + label + 1 > NAME_BYTES)
			return -EPROTO;
		place++;
		if (!label)
			break;
		memcpy(text + length, m->bytes + place, label);
		length += label;
		text[length++] = '.';
		place += label;
	}
	if (!jumped)
		*at = place;
	*ret_length = length;
	return 0;
}

/* FNV-1a, without regard to case. */
static uint64_t hash_name(const char *text, size_t length)
{
	uint64_t hash = 0xcbf29ce484222325ULL;

	for (size_t i = 0; i < length; i++) {
		unsigned char c = (unsigned char)text[i];

		hash = (hash ^ (c >= 'A' && c <= 'Z' ? c + 32U : c)) * 0x100000001b3ULL;
	}
	return hash;
}

static int read_record(const struct message *m, size_t *at, struct record *ret_record)
{
	struct record record = {};
	char text[NAME_BYTES + 1];
	size_t length, data, bytes;

	if (read_name(m, at, text, &length) < 0 || m->length - *at < 10)
		return -EPROTO;
	record.owner = hash_name(text, length);
	record.type = number_at(m, *at);
	if (number_at(m, *at + 2) != CLASS_IN)
		record.type = 0;
	record.ttl = (uint32_t)number_at(m, *at + 4) << 16 | number_at(m, *at + 6);
	if (record.ttl > INT32_MAX)
		record.ttl = 0;
	bytes = number_at(m, *at + 8);
	data = *at + 10;
	if (bytes > m->length - data)
		return -EPROTO;
	*at = data + bytes;
	if (record.type == TYPE_CNAME) {
		struct message inside = {m->bytes, data + bytes};

		if (read_name(&inside, &data, text, &length) < 0)
			return -EPROTO;
		record.target = hash_name(text, length);
	} else if (record.type == TYPE_A || record.type == TYPE_AAAA) {
		record.address = m->bytes + data;
		if (bytes != (record.type == TYPE_A ? 4U : 16U))
			record.type = 0;
	}
	*ret_record = record;
	return 0;
}

static void add_addresses(const struct record *records, size_t count, uint64_t owner, uint32_t ttl,
	struct name_answers *answers)
{
	for (size_t i = 0; i < count && answers->count < NAME_ADDRESSES_MAX; i++) {
		const struct record *record = &records[i];
		struct address address = {.family = record->type == TYPE_A ? 4 : 6};

		if (record->owner != owner || (record->type != TYPE_A && record->type != TYPE_AAAA))
			continue;
		memcpy(address.bytes, record->address, address.family == 4 ? 4 : 16);
		answers->answer[answers->count].address = address;
		answers->answer[answers->count++].ttl = record->ttl < ttl ? record->ttl : ttl;
	}
}

static const struct record *find_alias(const struct record *records, size_t count, uint64_t owner)
{
	for (size_t i = 0; i < count; i++)
		if (records[i].type == TYPE_CNAME && records[i].owner == owner)
			return &records[i];
	return NULL;
}

int name_dns_read(const uint8_t *bytes, size_t length, struct name_answers *ret_answers)
{
	struct message m = {bytes, length};
	struct name_answers answers = {};
	struct record records[RECORDS_MAX];
	const struct record *alias;
	char text[NAME_BYTES + 1];
	size_t at = HEADER_BYTES, name, count = 0, stated;
	uint32_t ttl = INT32_MAX;
	uint64_t owner;

	if (length < HEADER_BYTES || !(bytes[2] & FLAG_ANSWER) || bytes[2] & OPCODE || bytes[3] & RCODE ||
		number_at(&m, 4) != 1)
		return -EPROTO;
	if (read_name(&m, &at, text, &name) < 0 || m.length - at < 4 || number_at(&m, at + 2) != CLASS_IN ||
		!name_text_read(text, name, answers.name))
		return -EPROTO;
	at += 4;
	owner = hash_name(text, name);
	stated = number_at(&m, 6);
	while (count < stated && count < RECORDS_MAX && read_record(&m, &at, &records[count]) == 0)
		count++;
	for (int i = 0; i <= ALIASES_MAX; i++) {
		add_addresses(records, count, owner, ttl, &answers);
		alias = find_alias(records, count, owner);
		if (!alias || answers.count)
			break;
		owner = alias->target;
		ttl = alias->ttl < ttl ? alias->ttl : ttl;
	}
	*ret_answers = answers;
	return 0;
}

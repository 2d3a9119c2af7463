/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "basic/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static unsigned int address_bits(const struct address *address)
{
	return address->family == 4 ? 32 : address->family == 6 ? 128 : 0;
}

int address_parse(const char *text, struct address *ret_address)
{
	struct address address = {0};

	/* inet_pton(3) is strict where inet_aton(3) is not: four decimal parts, no octal, no host names. */
	if (inet_pton(AF_INET, text, address.bytes) == 1)
		address.family = 4;
	else if (inet_pton(AF_INET6, text, address.bytes) == 1)
		address.family = 6;
	else
		return -EINVAL;

	*ret_address = address;
	return 0;
}

/* A prefix length: decimal digits, no sign, no leading zero. */
static int length_parse(const char *text, unsigned int max, uint8_t *ret_length)
{
	unsigned int length = 0;

	if (!text[0] || (text[0] == '0' && text[1]))
		return -EINVAL;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return -EINVAL;
		length = length * 10 + (unsigned int)(*text - '0');
		if (length > max)
			return -EINVAL;
	}
	*ret_length = (uint8_t)length;
	return 0;
}

/* Clears the bits behind the prefix's length; says whether one was set. */
static bool prefix_mask(struct prefix *prefix)
{
	bool was_set = false;

	for (unsigned int i = 0; i < sizeof(prefix->address.bytes); i++) {
		unsigned int kept = prefix->length > i * 8 ? prefix->length - i * 8 : 0;
		uint8_t mask = kept >= 8 ? 0xff : (uint8_t)(0xff00U >> kept);

		if (prefix->address.bytes[i] & ~mask)
			was_set = true;
		prefix->address.bytes[i] &= mask;
	}
	return was_set;
}

int prefix_parse(const char *text, struct prefix *ret_prefix)
{
	const char *slash = strchr(text, '/');
	char buffer[ADDRESS_TEXT_MAX];
	struct prefix prefix = {0};
	size_t length = slash ? (size_t)(slash - text) : strlen(text);
	int r;

	if (length >= sizeof(buffer))
		return -EINVAL;
	memcpy(buffer, text, length);
	buffer[length] = '\0';

	r = address_parse(buffer, &prefix.address);
	if (r < 0)
		return r;

	prefix.length = (uint8_t)address_bits(&prefix.address);
	if (slash) {
		r = length_parse(slash + 1, prefix.length, &prefix.length);
		if (r < 0)
			return r;
	}

	r = prefix_mask(&prefix) ? -EDOM : 0;
	*ret_prefix = prefix;
	return r;
}

/* The longest run of two or more zero groups, the first of equals (RFC 5952, 4.2); its length, 0: none. */
static unsigned int zero_run_find(const uint16_t groups[8], unsigned int count, unsigned int *ret_start)
{
	unsigned int best = 0, run = 0;

	for (unsigned int i = 0; i < count; i++) {
		run = groups[i] ? 0 : run + 1;
		if (run > best && run > 1) {
			best = run;
			*ret_start = i + 1 - run;
		}
	}
	return best;
}

/* Not inet_ntop(3): glibc prints ::1:2 as ::0.1.0.2, which RFC 5952 keeps for known IPv4-embedding prefixes.
 */
static void address6_print(char text[ADDRESS_TEXT_MAX], const uint8_t bytes[16])
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	unsigned int zeros_start = 0, zeros, i;
	uint16_t groups[8];
	char *p = text;

	if (memcmp(bytes, mapped, sizeof(mapped)) == 0) {
		snprintf(text, ADDRESS_TEXT_MAX, "::ffff:%u.%u.%u.%u", bytes[12], bytes[13], bytes[14],
			bytes[15]);
		return;
	}

	for (i = 0; i < 8; i++)
		groups[i] = (uint16_t)(bytes[2 * i] << 8 | bytes[2 * i + 1]);
	zeros = zero_run_find(groups, 8, &zeros_start);

	for (i = 0; i < 8;) {
		if (zeros && i == zeros_start) {
			p += sprintf(p, "::");
			i += zeros;
			continue;
		}
		p += sprintf(p, "%s%x", i && p[-1] != ':' ? ":" : "", groups[i]);
		i++;
	}
}

char *address_print(char *buffer, size_t size, const struct address *address)
{
	const uint8_t *bytes = address->bytes;
	char text[ADDRESS_TEXT_MAX];

	if (address->family == 4)
		snprintf(text, sizeof(text), "%u.%u.%u.%u", bytes[0], bytes[1], bytes[2], bytes[3]);
	else if (address->family == 6)
		address6_print(text, bytes);
	else
		snprintf(text, sizeof(text), "none");

	snprintf(buffer, size, "%s", text);
	return buffer;
}

char *prefix_print(char *buffer, size_t size, const struct prefix *prefix)
{
	char text[ADDRESS_TEXT_MAX];

	address_print(text, sizeof(text), &prefix->address);
	if (prefix->length == address_bits(&prefix->address))
		snprintf(buffer, size, "%s", text);
	else
		snprintf(buffer, size, "%s/%u", text, prefix->length);
	return buffer;
}

bool prefix_contains(const struct prefix *prefix, const struct address *address)
{
	unsigned int whole = prefix->length / 8, rest = prefix->length % 8;

	if (prefix->address.family != address->family)
		return false;
	if (memcmp(prefix->address.bytes, address->bytes, whole) != 0)
		return false;
	return !rest || !((prefix->address.bytes[whole] ^ address->bytes[whole]) >> (8 - rest));
}

int address_compare(const struct address *a, const struct address *b)
{
	if (a->family != b->family)
		return a->family < b->family ? -1 : 1;
	return memcmp(a->bytes, b->bytes, sizeof(a->bytes));
}

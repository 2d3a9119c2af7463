/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Internet addresses and prefixes.
 */
#ifndef WEIR_BASIC_ADDRESS_H
#define WEIR_BASIC_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ADDRESS_TEXT_MAX 64 /* longest text of an address or prefix, with the NUL */

struct address {
	uint8_t family;    /* 4 or 6; 0: none */
	uint8_t bytes[16]; /* network byte order; an IPv4 address uses the first four, the rest are zero */
};

struct prefix {
	struct address address; /* bits behind the length are zero */
	uint8_t length;         /* 0..32 or 0..128 */
};

/* 0 or -EINVAL.  Textual forms of RFC 4291 and dotted IPv4; no host names, no octal. */
int address_parse(const char *text, struct address *ret_address);
/* `10.0.0.0/8`, `2001:db8::/32`, or an address (full length).  -EINVAL: not a prefix; -EDOM: bits set
 * behind the length (ret_prefix then holds the prefix with them cleared, to be offered). */
int prefix_parse(const char *text, struct prefix *ret_prefix);

char *address_print(char *buffer, size_t size, const struct address *address); /* RFC 5952 */
char *prefix_print(char *buffer, size_t size, const struct prefix *prefix);    /* no "/32" or "/128" */
bool prefix_contains(const struct prefix *prefix, const struct address *address);
int address_compare(const struct address *a, const struct address *b); /* as memcmp: 4 before 6 */

#endif

/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Sets, as plain data: named lists of addresses and prefixes, or of ports.
 *
 *     NAME  = a letter, then letters, digits, '-', '_'; at most 31 bytes
 *     ENTRY = address | prefix | low-high (addresses) | port | low-high (ports)
 *
 * A list (file, request) has one entry a line; '#' and ';' begin comments; blank lines do not count.  A range
 * of addresses becomes the prefixes that make it up.  A set holds one kind, which its first entry decides:
 * `address` or `port`.
 */
#ifndef WEIR_MODEL_SET_H
#define WEIR_MODEL_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "basic/address.h"
#include "basic/error.h"
#include "model/match.h"
#include "shared/set.h"

enum set_kind { SET_EMPTY, SET_ADDRESSES, SET_PORTS };

struct set_entry {
	enum set_kind kind;
	struct prefix prefix;    /* of SET_ADDRESSES */
	struct port_range ports; /* of SET_PORTS */
};

/* 0, or -EINVAL with `error` saying what a name, an entry is. */
int set_name_check(const char *name, struct error *error);

typedef int set_entry_function(void *context, const struct set_entry *entry);
/* Reads one entry and calls the function for it, several times for a range of addresses. */
int set_entry_parse(const char *text, set_entry_function *function, void *context, struct error *error);

/*
 * Reads a list, line by line.  Without `skip_bad` the first bad line ends it: -EINVAL, with name, line and
 * column in `error`.  With it, bad lines are counted in *ret_bad.  A function that returns non-zero ends it
 * with that.
 */
int set_list_parse(const char *text, size_t length, const char *name, bool skip_bad,
	set_entry_function *function, void *context, size_t *ret_bad, struct error *error);

/* The same, of a list that comes in pieces, so that nobody has to hold all of it: the source writes up to
 * `size` bytes and says how many, 0 at the end, or a negative number, with which the reading ends.  -ENOMEM.
 */
typedef ssize_t set_list_source(void *from, char *buffer, size_t size);
int set_list_stream(set_list_source *source, void *from, const char *name, bool skip_bad,
	set_entry_function *function, void *context, size_t *ret_bad, struct error *error);

int set_entry_print(const struct set_entry *entry, char *buffer, size_t size); /* 0 or -ENOSPC */

#endif

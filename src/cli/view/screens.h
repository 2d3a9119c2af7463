/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What there is to see, and in which columns: defined once for the lists and for the live screen.
 */
#ifndef WEIR_CLI_VIEW_SCREENS_H
#define WEIR_CLI_VIEW_SCREENS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "basic/error.h"
#include "basic/units.h"
#include "cli/view/answer.h"
#include "cli/view/table.h"

enum screen_id {
	SCREEN_FLOWS,
	SCREEN_HOSTS,
	SCREEN_PORTS,
	SCREEN_INTERFACES,
	SCREEN_DROPS,
	SCREEN_PROCS,
	SCREEN_OWNERS,
	SCREEN_RULES,
	SCREEN_COUNT
};

/* A key that the API sorts by. */
struct sort_key {
	const char *name;
	bool ascending; /* unless reversed */
};

struct screen {
	const char *name; /* of the command, of the screen, and (without `list`) of the list in the answer */
	const char *path;
	char letter; /* the key that shows it */
	const struct sort_key
		*sorts; /* ends with a name of NULL; NULL: has one order and takes no parameters */
	const struct table_column *columns;
	unsigned int column_count;
	/* Writes the cell of a column; an empty text where the entry has nothing to say. */
	void (*cell)(const json_t *entry, unsigned int column, const struct cell_context *context,
		char *buffer, size_t size);
	const char *nothing; /* said instead of an empty list */
	const char *list;    /* of the list in the answer; NULL: as `name` */
	bool unfiltered;     /* takes no match */
	bool summed;         /* a match narrows only what stands below, which no live screen shows */
};

extern const struct screen *const screens[SCREEN_COUNT];

const struct screen *screen_find(const char *name); /* NULL: there is none */

/* NULL with `error` suggesting the nearest.  `name` NULL: the first, which is the API's default. */
const struct sort_key *sort_find(const struct screen *screen, const char *name, struct error *error);

/* What to ask the API for. */
struct question {
	const char *filter;          /* NULL or empty: everything */
	const char *by;              /* of SCREEN_OWNERS: what they are grouped by */
	const struct sort_key *sort; /* NULL: the API's default */
	bool reverse;
	uint64_t limit; /* 0: all */
};

/* What owners may be grouped by, in the order of the live screen; NULL-terminated.  group_find(): NULL with
 * `error` suggesting the nearest. */
extern const char *const screen_groups[];
const char *group_find(const char *name, struct error *error);

/* The query for it, percent-encoded; to be freed.  NULL without memory. */
char *screen_query(const struct screen *screen, const struct question *question);

/* Fills a table, initialised here, with the entries of an answer. */
void screen_fill(
	const struct screen *screen, const json_t *answer, enum units units, struct table *ret_table);

/* What an answer says about what was not counted as a flow of its own. */
struct losses {
	bool known;
	uint64_t seen, cached, emitted, lost;
	uint64_t sample_rate; /* 1: every flow is kept */
};

void losses_read(const json_t *answer, struct losses *ret_losses);
/* "seen 5.0 k = cached 4.0 k + emitted 1.0 k + lost 0, keeping 1 of 8 new flows" */
char *losses_print(const struct losses *losses, enum units units, char *buffer, size_t size);
/* Something to warn of? */
bool losses_matter(const struct losses *losses);

#endif

/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Sets from inside: what their files share. */
#ifndef WEIR_AGENT_SETS_INTERNAL_H
#define WEIR_AGENT_SETS_INTERNAL_H

#include <sys/types.h>
#include <time.h>

#include "agent/internal.h"
#include "agent/set/set_build.h"
#include "agent/set/set_store.h"
#include "agent/set/sets.h"

#define EVERY_SET UINT64_MAX

struct set_load;

/* What a file was when it was read. */
struct set_source {
	struct timespec changed;
	off_t size;
	ino_t inode;
};

struct sets {
	struct agent *agent;
	struct set_store *store;
	struct set_tries tries[2]; /* by place */
	struct set_tries next;     /* prepared, not yet in a place */
	bool prepared, next_built;
	uint64_t made; /* sets that a preparation made */
	unsigned int compiled_combinations;
	struct set_source sources[SET_MAX];
	struct port_range *ports[SET_MAX]; /* as sets_world() tells them */
	size_t port_counts[SET_MAX];
	struct event *timer;
	struct set_load *load;
};

struct sets *sets_of(struct agent *agent);
/* Of the datapath's two places, the one that is in force. */
unsigned int sets_place(struct agent *agent);
bool sets_has(const struct sets *sets, unsigned int set);
int sets_make(
	struct sets *sets, const char *name, bool live, struct error *error); /* its number, or -ENOSPC */
/* 0, or -EBUSY: something else is going on. */
int sets_change_allowed(struct sets *sets, struct error *error);
int set_range_compare(const void *a, const void *b); /* of struct port_range */

/*
 * The version SET_NEXT: built where nobody looks, brought to the place that is not in force, switched to with
 * the policies as they are, made the version of now.  sets_next_finish() is all of it but the building: `r`
 * says how that went; where anything fails nothing of the version is left.
 */
int sets_next_finish(struct sets *sets, int r, bool cut, struct error *error);
void sets_next_commit(struct sets *sets, bool pending);
/* All four, with the version of now: its tries have no room any more. */
int sets_rebuild(struct sets *sets, bool cut, struct error *error);
/* A set_combination_function: has a combination compiled that no policy has a row for. */
int sets_combination_known(void *context, unsigned int combination);

/* set_change.c */
/* A change of entries one by one: what is to be done with each. */
struct set_change {
	struct sets *sets;
	unsigned int set;
	uint64_t expires_ns;
	bool remove;
	bool rebuild; /* the tries have no room */
	size_t changed;
};

/* Does it with one entry: in the store, and where it is an address in the tries that are in force. */
int set_change_entry(struct set_change *few, const struct set_entry *entry, struct error *error);
/* Has what was changed decide. */
int set_change_finish(struct set_change *few, enum set_kind kind, bool cut, struct error *error);

/* The parameters of a change. */
struct set_request {
	char *name;
	int set; /* negative: there is none of this name yet */
	uint64_t expires_ns;
	bool cut, skip_bad;
};

int set_request_read(struct sets *sets, struct evhttp_request *request, const char *const *parameters,
	struct set_request *change, struct error *error);
char *set_request_body(
	struct evhttp_request *request, size_t *ret_length); /* with a NUL; NULL without memory */
size_t set_request_lines(struct evbuffer *body);
void set_refuse(struct evhttp_request *request, const struct error *error); /* answers, by error->code */
const char *set_nearest(const struct sets *sets, const char *name);         /* the name of a set, or NULL */
int set_fail_unknown(const struct sets *sets, const char *name, struct error *error);
int set_fail_kind(struct error *error, const char *name, enum set_kind kind);
void set_reply_add(struct agent *agent, struct evhttp_request *request);
void set_reply_remove(struct agent *agent, struct evhttp_request *request);
void set_reply_create(struct agent *agent, struct evhttp_request *request);
void set_reply_flush(struct agent *agent, struct evhttp_request *request);
void set_reply_destroy(struct agent *agent, struct evhttp_request *request);

/* set_load.c */
/* Takes the request's body.  Answers with a line of progress every quarter of a second, then with the result
 * or an error.
 */
void set_load_start(
	struct sets *sets, struct evhttp_request *request, const struct set_request *change, bool replace);
void set_load_stop(struct set_load *load); /* waits for its thread */
void set_load_write(struct json_write *out, const struct sets *sets, const struct set_load *load);
const char *set_load_name(const struct sets *sets, const struct set_load *load); /* of the set */
void set_reply_load(struct agent *agent, struct evhttp_request *request);

/* set_answers.c */
/* The entries of one set as they were when it was asked for. */
struct set_listing {
	struct set_kept *entries;
	size_t count, next;
	char name[SET_NAME_MAX];
	uint64_t now_ns;
};

struct set_listing *set_listing_new(const struct sets *sets, unsigned int set); /* NULL without memory */
void set_listing_free(void *context);                                           /* struct set_listing */
void sets_write_totals(struct json_write *out, const struct sets *sets);
void set_reply_sets(struct agent *agent, struct evhttp_request *request);
void set_reply_show(struct agent *agent, struct evhttp_request *request);

#endif

/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Rulebooks: all rules that hold at one time, of the host and of each tenant, in their order.
 *
 * A change makes a copy, changes that, and puts it in the place of the one before when the kernel has taken
 * it.  Entries are shared between the books that have them: an entry is never changed once it is in force, so
 * a rule that stays is the same entry, with the same id and the same counters.
 */
#ifndef WEIR_AGENT_RULEBOOK_H
#define WEIR_AGENT_RULEBOOK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "basic/error.h"
#include "model/policy.h"
#include "model/rule.h"
#include "shared/guard.h"
#include "shared/shape.h"

#define RULEBOOK_DEFAULT_COUNTERS (2 * POLICY_NUMBER_MAX) /* the first places: two for each policy */
#define RULE_NO_PLACE             UINT32_MAX

/* Which places of the kernel's counters, limits and classes are taken. */
struct rule_places {
	uint64_t counters[POLICY_COUNTERS_MAX / 64];
	uint64_t limits[POLICY_LIMITS_MAX / 64];
	uint64_t classes[SHAPE_CLASSES_MAX / 64];
	uint32_t next_counter, next_limit, next_class; /* where to look first */
};

/* How fast something counts: the mean between two questions. */
struct rule_meter {
	uint64_t packets, bytes, at_ns; /* at the last question that moved it; at_ns 0: none */
	uint64_t pps, bps;
	bool known;
};

struct rule_entry {
	unsigned int users; /* slots that have it */
	struct rule_places *places;
	uint32_t id;         /* 0: not given yet */
	uint32_t generation; /* of its list, when it came; 0: not in force yet */
	uint32_t counter, limit;
	uint32_t class, rest; /* of one that makes a class: its number; of a link, that of its rest, too */
	struct rule_entry *origin; /* whose places these are; NULL: this one's own */
	uint64_t ends_ns;          /* CLOCK_MONOTONIC; 0: stays */
	uint64_t pid_start;        /* of `by pid`: when the process began, in ticks of 10 ms */
	uint32_t family;           /* … and its family + 1 (engine/family.h); 0: it alone */
	uint64_t ended_ns;         /* … and since when none of it was seen to live; 0: some does */
	struct guard_rule *guard;  /* of a rule on sockets: as the kernel has it */
	struct rule rule;
	const struct rule_entry *previous; /* for whoever compares two lists just now */
	uint64_t written;                  /* for whoever writes books down: by which writing … */
	uint32_t place;                    /* … and as which entry */
	struct rule_meter meter;
	/* of denied calls */
	uint64_t logged_ns;
	uint64_t unlogged; /* that were reported since, and not logged */
	uint32_t length;   /* of the text, with the NUL */
	char text[];       /* as rule_print() writes it */
};

/* A rule's place in a list. */
struct rule_slot {
	struct rule_entry *entry;
	bool live;      /* came through the API, not with a file */
	uint16_t class; /* of a rule that shapes: to which it gives packets; 0: not known yet */
};

struct rule_list {
	struct rule_slot *slots;
	size_t count, size;
};

/* What is judged by one list: the host (number 0, no name), a tenant. */
struct rule_policy {
	char name[POLICY_TENANT_MAX];
	unsigned int number;
	uint32_t generation;
	enum policy_action defaults[2]; /* in, out */
	bool log;
	struct rule_meter meters[2];  /* of the default verdicts */
	char **interfaces, **cgroups; /* a tenant's; NULL-terminated; NULL: none */
	struct rule_list list;
};

struct rulebook {
	struct rule_policy *policies; /* [0]: the host */
	size_t count;
	bool applied; /* by POST /v1/policy, and not in any file of ours yet */
};

/* -- entries -- */

/* When a process began, in ticks of 10 ms since the host did: its id may be another one's later.  0 or
 * -ESRCH. */
int process_start(uint32_t pid, uint64_t *ret_ticks);

/* A rule from a sentence, with one user: the caller.  NULL with `error` set. */
struct rule_entry *rule_entry_new(struct rule_places *places, const char *text, struct error *error);
/* The same for one that was there before: its process, if it names one, began then, and may be gone. */
struct rule_entry *rule_entry_again(
	struct rule_places *places, const char *text, uint64_t pid_start, struct error *error);
/* One without a user less is gone, and its places are free. */
void rule_entry_release(struct rule_entry *entry);
/* The same rule with other rates: same id, same counters, same class, so packets need not be judged anew.
 * `change` is one of model/shape.h, "to 20mbit weight 3"; of a service, one of its backends
 * (model/service.h).  NULL with `error` set. */
struct rule_entry *rule_entry_change(struct rule_entry *entry, const char *change, struct error *error);
/* An entry that an earlier agent kept has the places of this one, since it is the same rule. */
void rule_entry_share(struct rule_entry *entry, struct rule_entry *origin);
/* Do both fit the same packets, and count and limit in the same places? */
bool rule_entry_is_same(const struct rule_entry *a, const struct rule_entry *b);
/* Does it make a class? */
bool rule_entry_is_class(const struct rule_entry *entry);
/* Takes a number for its class; `link`: and for the rest of it.  0, or -ENOSPC with `error`. */
int rule_entry_class(struct rule_entry *entry, bool link, struct error *error);
/* Takes places for what the rule counts and limits.  0, or -ENOSPC with `error`. */
int rule_entry_place(struct rule_entry *entry, struct error *error);
/* The places of an entry that comes from an earlier agent are taken. */
void rule_entry_keep_places(struct rule_entry *entry);
bool rule_entry_is_on_sockets(const struct rule_entry *entry);
bool rule_entry_is_on_packets(const struct rule_entry *entry); /* a class, too */

/* -- books -- */

/* A book with a host that has no rules and accepts everything.  0 or -ENOMEM; rulebook_clear() undoes, also
 * one that is all zero. */
int rulebook_init(struct rulebook *ret_book);
void rulebook_clear(struct rulebook *book);
int rulebook_copy(const struct rulebook *book, struct rulebook *ret_book);
struct rule_policy *rulebook_policy(const struct rulebook *book, const char *name); /* NULL: there is none */
struct rule_policy *rulebook_numbered(const struct rulebook *book, unsigned int number);
/* One more policy: a tenant with the lowest number that is free in this book and in `other`. */
int rulebook_tenant_add(struct rulebook *book, const struct rulebook *other, const char *name,
	struct rule_policy **ret_policy, struct error *error);
/* A copy of a NULL-terminated list and its words, to be freed; of NULL an empty one.  NULL: no memory. */
char **words_copy(char *const *words);

/* Gives a tenant its interfaces and cgroups, copies of these.  0 or -ENOMEM. */
int rule_policy_give(struct rule_policy *policy, char *const *interfaces, char *const *cgroups);
bool rule_policy_has_same(const struct rule_policy *a, const struct rule_policy *b); /* the same ones? */
/* The policy and the place in its list of a rule; false: there is none. */
bool rulebook_find(
	const struct rulebook *book, uint32_t id, struct rule_policy **ret_policy, size_t *ret_place);
size_t rulebook_rules(const struct rulebook *book);

/* Walks over the sentences of the host with one verb, those that `forward`, `steer` or are a `service`: the
 * first from *place on, which is moved behind it; NULL: there are no more.  A book that is all zero has none.
 */
struct rule_entry *rulebook_next(const struct rulebook *book, enum rule_verb verb, size_t *place);
/* Have both the same of these, by id and words? */
bool rulebook_has_same(const struct rulebook *a, const struct rulebook *b, enum rule_verb verb);

/* -- lists -- */

/* Takes over the caller's use of the entry.  `place` beyond the end: the end.  0 or -ENOMEM (then the use is
 * released). */
int rule_list_insert(struct rule_list *list, size_t place, struct rule_entry *entry, bool live);
void rule_list_remove(struct rule_list *list, size_t place);
void rule_list_clear(struct rule_list *list);

/*
 * A new list for these sentences, out of entries of `old` where the sentence stays (each used once), and of
 * new ones; of those one that makes a class of `old` with other rates has that one's id and places.  `any`:
 * rules that came through the API count as well; else only those of files.
 */
int rule_list_make(struct rule_places *places, char *const *texts, const struct rule_list *old, bool any,
	struct rule_list *ret_list, struct error *error);
/* Puts the live rules of `old` among those of `list`, where they were: in front of the same rule, or of the
 * next one behind that if it is gone. */
int rule_list_merge(struct rule_list *list, const struct rule_list *old);

/* Are the rules of a kind the same ones but for rates, in the same order, for the same classes? */
bool rule_list_same(const struct rule_list *a, const struct rule_list *b, enum rule_kind kind);
bool rule_list_alike(const struct rule_list *a, const struct rule_list *b); /* the same but for rates? */
bool rule_list_identical(const struct rule_list *a, const struct rule_list *b);
size_t rule_list_count(const struct rule_list *list, enum rule_kind kind);

#endif

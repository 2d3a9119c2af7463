/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Classes that are declared by name, and what sentences say of rates.  As plain data.
 *
 *     class  = NAME [in|out] under (INTERFACE | CLASS) {OPTION} ["comment"]    weir shape add; section
 * `shapes` rule   = limit [in|out] … to RATE [burst SIZE] {OPTION}                  (rule.h) | guarantee
 * [in|out] … RATE {OPTION} | assign [in|out] … to CLASS                                      weir shape
 * assign … to bulk change = [to RATE] {OPTION}                                              weir change 4 to
 * 20mbit OPTION = guarantee RATE | ceiling RATE | burst SIZE | weight N | under (INTERFACE | CLASS) |
 * priority low|normal|high|interactive | engine auto|pacing|htb|fq|policer|ifb RATE   = 10mbit, 2gbit: whole
 * bytes a second, 8kbit to 1000gbit NAME   = a letter, then letters, digits, '-', '_'; not `any`, not `port`
 *
 * `limit out on eth0 to 100mbit`, with nothing else to fit, gives the link eth0 its rate: it is the root of
 * the tree that everything on eth0 stands in.  A class without `under` stands below the link that its rule
 * names (`on`), else below the only link there is; if there is none it stands alone, and if there are several
 * it is an error that names them.  A declared class is for what leaves unless it says `in`.
 *
 * `to` of a change is the rate that the sentence is about: of a guarantee the guarantee, else the ceiling.
 * `guarantee none`, `ceiling none` and `burst none` take one back.
 */
#ifndef WEIR_MODEL_SHAPE_H
#define WEIR_MODEL_SHAPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "basic/error.h"
#include "model/match.h"
#include "shared/shape.h"

#define SHAPE_NAME_MAX     32 /* with the NUL; as a set's */
#define SHAPE_TEXT_MAX     512
#define SHAPE_COMMENT_MAX  128
#define SHAPE_DECLARED_MAX 1024
#define SHAPE_RATE_MIN     8000ULL          /* bits a second */
#define SHAPE_RATE_MAX     1000000000000ULL /* bits a second */
#define SHAPE_BURST_MIN    1514ULL          /* bytes: a full packet of Ethernet */
#define SHAPE_BURST_MAX    1000000000000ULL
#define SHAPE_WEIGHT_MAX   1000

/* Which engine was asked for. */
enum shape_wish {
	SHAPE_WISH_AUTO,
	SHAPE_WISH_PACING,
	SHAPE_WISH_HTB,
	SHAPE_WISH_FQ,
	SHAPE_WISH_POLICER,
	SHAPE_WISH_IFB
};

/* What a sentence says of a class.  Rates in bits a second, multiples of 8; 0: not said. */
struct shape_terms {
	uint64_t ceiling_bps;
	uint64_t guarantee_bps;
	uint64_t burst;               /* bytes; 0: chosen by rate */
	uint32_t weight;              /* 0: not said (1) */
	enum shape_priority priority; /* SHAPE_NORMAL: not said */
	enum shape_wish wish;
	char under[MATCH_INTERFACE_MAX > SHAPE_NAME_MAX ? MATCH_INTERFACE_MAX
							: SHAPE_NAME_MAX]; /* empty: not said */
};

struct shape_declared {
	char name[SHAPE_NAME_MAX];
	enum match_direction direction; /* MATCH_IN or MATCH_OUT */
	struct shape_terms terms;       /* with `under` */
	char comment[SHAPE_COMMENT_MAX];
};

/* "low", "normal", …; "auto", "pacing", …; "none", "pacing", "htb", "fq", "policer"; NULL-terminated, in the
 * order of the enums. */
extern const char *const shape_priorities[];
extern const char *const shape_wishes[];
extern const char *const shape_engines[];

/* Terms that say nothing. */
void shape_terms_init(struct shape_terms *ret_terms);

bool shape_terms_equal(const struct shape_terms *a, const struct shape_terms *b);

/* 0, or -EINVAL with `error` saying what a class's name is. */
int shape_name_check(const char *name, struct error *error);

/* Reads all of `text`: NAME under ….  0 or -EINVAL with `error` saying what was expected and where;
 * ret_declared untouched on failure. */
int shape_declared_parse(const char *text, struct shape_declared *ret_declared, struct error *error);
/* What parses to the same class.  0 or -ENOSPC. */
int shape_declared_print(const struct shape_declared *declared, char *buffer, size_t size);
/* Reads a change without making it (rule_shape_change()), to find mistakes early.  0 or -EINVAL. */
int shape_change_check(const char *text, struct error *error);

#endif

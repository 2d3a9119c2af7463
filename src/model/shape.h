/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Classes that are declared by name, and what sentences say of rates.  As plain data.
 *
 *     class  = NAME under (INTERFACE | CLASS) {OPTION} ["comment"]            weir shape add …; section
 * `shapes` rule   = limit [in|out] … to RATE [burst SIZE] {OPTION}                 (rule.h) | guarantee
 * [in|out] … RATE {OPTION} | assign [in|out] … to CLASS                                     weir shape assign
 * … to bulk OPTION = [guarantee RATE] | ceiling RATE | weight N | priority low|normal|high|interactive |
 * under (INTERFACE | CLASS) | engine auto|pacing|htb|fq|policer|ifb
 *
 * `limit out on eth0 to 100mbit`, with nothing else to fit, gives the link eth0 its rate: it is the root of
 * the tree that everything on eth0 stands in.  A class without `under` stands below the link that its rule
 * names (`on`), else below the only link there is; if there is none it stands alone, and if there are several
 * it is an error that names them.
 */
#ifndef WEIR_MODEL_SHAPE_H
#define WEIR_MODEL_SHAPE_H

#include <stdbool.h>
#include <stdint.h>

#include "basic/error.h"
#include "model/match.h"
#include "shared/shape.h"

#define SHAPE_NAME_MAX     32 /* with the NUL; as a set's */
#define SHAPE_TEXT_MAX     256
#define SHAPE_DECLARED_MAX 1024
#define SHAPE_RATE_MIN     8000ULL          /* bits a second */
#define SHAPE_RATE_MAX     1000000000000ULL /* bits a second */

/* Which engine was asked for. */
enum shape_wish {
	SHAPE_WISH_AUTO,
	SHAPE_WISH_PACING,
	SHAPE_WISH_HTB,
	SHAPE_WISH_FQ,
	SHAPE_WISH_POLICER,
	SHAPE_WISH_IFB
};

/* What a sentence says of a class.  Rates in bits a second; 0: not said. */
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
	struct shape_terms terms;
};

#endif

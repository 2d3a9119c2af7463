// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* The engine's parts, in the order they are opened. */
#include "engine/balance.h"
#include "engine/balance_tc.h"
#include "engine/chain.h"
#include "engine/check.h"
#include "engine/family.h"
#include "engine/forward.h"
#include "engine/guard.h"
#include "engine/internal.h"
#include "engine/nat.h"
#include "engine/pace.h"
#include "engine/policy.h"
#include "engine/service.h"
#include "engine/set.h"
#include "engine/shape.h"
#include "engine/steer.h"

static const struct engine_part *const parts[] = {
	&owner_part,
	&family_part, /* before all that asks for families */
	&guard_part,
	&set_part, /* before the policies, whose programs use its maps */
	&policy_part,
	&service_part, /* before the program at XDP, which uses its maps */
	&chain_part,
	&shield_part,  /* behind the policies, which it reads */
	&balance_part, /* behind the program that it goes on from */
	&balance_tc_part,
	&check_part,
	&nat_part,     /* behind the same */
	&forward_part, /* the same */
	&steer_part,   /* behind the chain that it stands in */
	&shape_part,
	&pace_part, /* behind the classes, whose maps it uses */
	&drop_part,
	&socket_part,
	&owner_end_part,
};

#define PART_COUNT (sizeof(parts) / sizeof(parts[0]))

_Static_assert(PART_COUNT <= PARTS_MAX, "room for every part");

int engine_parts_open(struct engine *engine, struct error *error)
{
	int r = 0;

	for (size_t i = 0; i < PART_COUNT && r == 0; i++)
		r = parts[i]->open(engine, &engine->parts[i], error);
	return r;
}

void engine_parts_close(struct engine *engine)
{
	for (size_t i = PART_COUNT; i-- > 0;) {
		if (engine->parts[i])
			parts[i]->close(engine->parts[i]);
		engine->parts[i] = NULL;
	}
}

void *engine_part_state(const struct engine *engine, const struct engine_part *part)
{
	for (size_t i = 0; i < PART_COUNT; i++)
		if (parts[i] == part)
			return engine->parts[i];
	return NULL;
}

/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Words of rules on packets, for reading and printing.  Only for the files of this room.
 */
#ifndef WEIR_MODEL_RULE_PACKET_H
#define WEIR_MODEL_RULE_PACKET_H

#include "model/rule_read.h"

struct rate_period {
	const char *name;
	uint64_t ns;
};
extern const struct rate_period rate_periods[]; /* ends with one without name */

const char *dscp_name(int dscp); /* NULL: it has none */
const char *reject_answer_name(enum policy_reject answer);
void printer_states(struct printer *p, uint8_t set); /* "new,related" */

/* The burst of a rate that is said without one. */
uint64_t rule_burst_usual(const struct rule_packet *packet);

/* The next word, as the name of one interface. */
int rule_interface_read(struct match_reader *m, char ret_name[MATCH_INTERFACE_MAX]);

#endif

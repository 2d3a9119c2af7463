/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * A captured packet as a line of text or an object of JSON.
 */
#ifndef WEIR_CLI_VIEW_PACKET_H
#define WEIR_CLI_VIEW_PACKET_H

#include "basic/json_write.h"
#include "cli/pcapng.h"

struct packet_origin {
	const char *interface;
	uint32_t link; /* what packets begin with: 1 Ethernet, 101 IP, 276 "Linux cooked v2" */
	const struct pcapng_process *process; /* NULL: not known */
};

/* "12:34:56.789012 eth0 in  10.0.0.2.40112 > 10.0.0.1.443 tcp SA 74  nginx (812)" and a newline. */
void packet_print(const struct pcapng_packet *packet, const struct packet_origin *origin, FILE *out);
void packet_write(
	const struct pcapng_packet *packet, const struct packet_origin *origin, struct json_write *out);

#endif

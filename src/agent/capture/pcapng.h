/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Writing pcapng: the blocks around the packets (draft-ietf-opsawg-pcapng).
 *
 * Byte order is the host's, times are ns.  What finds no memory is left out; evbuffer says so by its length.
 */
#ifndef WEIR_AGENT_PCAPNG_H
#define WEIR_AGENT_PCAPNG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct evbuffer;

/* The beginning of a file, or of another part of it: on which machine, by which weir.  `comment` may be
 * empty. */
void pcapng_section(struct evbuffer *out, const char *comment);

/* What packets begin with; numbers of tcpdump.org/linktypes.html. */
enum pcapng_link {
	PCAPNG_LINK_ETHERNET = 1,
	PCAPNG_LINK_RAW = 101, /* an IP header */
	PCAPNG_LINK_COOKED = 276,
};

struct pcapng_interface {
	const char *name;
	const char *description; /* may be empty */
	const char *filter;      /* the expression; may be empty */
	enum pcapng_link link;
	uint32_t snaplen;
};
/* Interfaces are numbered in the order they are written, from 0. */
void pcapng_interface(struct evbuffer *out, const struct pcapng_interface *interface);

/* A process: Apple's Darwin process event block.  Numbered like interfaces; packets name the number. */
void pcapng_process(struct evbuffer *out, uint32_t pid, const char *command);

struct pcapng_statistics {
	uint32_t interface;
	uint64_t begin_ns, end_ns;  /* CLOCK_REALTIME */
	uint64_t received, dropped; /* by the interface */
	uint64_t accepted;          /* let through by the expression */
	uint64_t lost;              /* of these, not in the file */
};
void pcapng_statistics(struct evbuffer *out, const struct pcapng_statistics *statistics);

#endif

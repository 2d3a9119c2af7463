/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Reading the agent's pcapng as it comes, in parts of any size.
 *
 * Only what weir writes itself: byte order of this host, times in ns.  The bytes may be anything; what cannot
 * be a block ends the reading.
 */
#ifndef WEIR_CLI_PCAPNG_H
#define WEIR_CLI_PCAPNG_H

#include <stddef.h>
#include <stdint.h>

enum {
	PCAPNG_INTERFACE = 1,
	PCAPNG_STATISTICS = 5,
	PCAPNG_PACKET = 6,
};
#define PCAPNG_PROCESS 0x80000001U
#define PCAPNG_SECTION 0x0a0d0d0aU

#define PCAPNG_BLOCK_MAX (1U << 20) /* larger than any that weir writes */

struct pcapng_reader {
	uint8_t *held; /* the beginning of a block whose end has not come yet */
	size_t length;
};

/* Gets one whole block, its head included.  Non-zero ends the reading. */
typedef int pcapng_function(void *user, uint32_t type, const uint8_t *block, uint32_t bytes);

/* 0, what the function returned, -EPROTO (not pcapng) or -ENOMEM. */
int pcapng_read(
	struct pcapng_reader *reader, const void *part, size_t length, pcapng_function *function, void *user);
void pcapng_reader_free(struct pcapng_reader *reader);

#define PCAPNG_NAME_MAX 64

struct pcapng_section {
	char comment[512];
};

struct pcapng_interface {
	char name[PCAPNG_NAME_MAX];
	uint32_t link; /* 1 Ethernet, 101 IP, 276 "Linux cooked v2" */
};

struct pcapng_process {
	uint32_t pid;
	char command[PCAPNG_NAME_MAX];
};

struct pcapng_statistics {
	uint32_t interface;
	uint64_t accepted, lost;
};

struct pcapng_packet {
	uint32_t interface;
	uint64_t time_ns; /* since 1970 */
	uint32_t captured, length;
	const uint8_t *data; /* in the block */
	uint32_t flags;      /* bits 0 and 1: 1 in, 2 out, 0 not known */
	uint32_t process;    /* number; UINT32_MAX: none */
	char comment[256];
};

/* Each 0 or -EPROTO. */
int pcapng_section_read(const uint8_t *block, uint32_t bytes, struct pcapng_section *ret_section);
int pcapng_interface_read(const uint8_t *block, uint32_t bytes, struct pcapng_interface *ret_interface);
int pcapng_process_read(const uint8_t *block, uint32_t bytes, struct pcapng_process *ret_process);
int pcapng_statistics_read(const uint8_t *block, uint32_t bytes, struct pcapng_statistics *ret_statistics);
int pcapng_packet_read(const uint8_t *block, uint32_t bytes, struct pcapng_packet *ret_packet);

#endif

// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "agent/capture/pcapng.h"

#include <event2/buffer.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#define BLOCK_MAX 8192

enum {
	BLOCK_INTERFACE = 1,
	BLOCK_STATISTICS = 5,
	BLOCK_SECTION = 0x0a0d0d0a,
	BYTE_ORDER_MAGIC = 0x1a2b3c4d,
};

#define BLOCK_PROCESS 0x80000001U

/* A block while it is written.  What does not fit is cut: only names and expressions are of any length. */
struct block {
	size_t length;
	uint8_t bytes[BLOCK_MAX];
};

static void put(struct block *block, const void *data, size_t size)
{
	if (block->length + size > BLOCK_MAX)
		return;
	memcpy(block->bytes + block->length, data, size);
	block->length += size;
}

static void put16(struct block *block, uint16_t value)
{
	put(block, &value, sizeof(value));
}

static void put32(struct block *block, uint32_t value)
{
	put(block, &value, sizeof(value));
}

/* Times are two words, the high one first. */
static void put_time(struct block *block, uint64_t ns)
{
	put32(block, (uint32_t)(ns >> 32));
	put32(block, (uint32_t)ns);
}

static void put_option(struct block *block, uint16_t code, const void *data, size_t size)
{
	static const uint8_t zeros[4];

	/* room for the end of options and of the block */
	if (block->length + size + 16 > BLOCK_MAX)
		return;
	put16(block, code);
	put16(block, (uint16_t)size);
	put(block, data, size);
	put(block, zeros, -size & 3);
}

static void put_text(struct block *block, uint16_t code, const char *text)
{
	if (*text)
		put_option(block, code, text, strlen(text));
}

static void put_count(struct block *block, uint16_t code, uint64_t count)
{
	put_option(block, code, &count, sizeof(count));
}

static void block_begin(struct block *block, uint32_t type)
{
	block->length = 0;
	put32(block, type);
	put32(block, 0); /* the length, when it is known */
}

static void block_end(struct block *block, struct evbuffer *out)
{
	uint32_t bytes;

	put32(block, 0); /* end of options */
	bytes = (uint32_t)block->length + 4;
	put32(block, bytes);
	memcpy(block->bytes + 4, &bytes, sizeof(bytes));
	evbuffer_add(out, block->bytes, block->length);
}

void pcapng_section(struct evbuffer *out, const char *comment)
{
	struct block block;
	struct utsname machine;
	char system[2 * sizeof(machine.sysname) + 2];
	int64_t unknown = -1;

	block_begin(&block, BLOCK_SECTION);
	put32(&block, BYTE_ORDER_MAGIC);
	put16(&block, 1); /* version 1.0 */
	put16(&block, 0);
	put(&block, &unknown, sizeof(unknown)); /* the section's length */
	put_text(&block, 1, comment);
	if (uname(&machine) == 0) {
		snprintf(system, sizeof(system), "%s %s", machine.sysname, machine.release);
		put_text(&block, 2, machine.machine);
		put_text(&block, 3, system);
	}
	put_text(&block, 4, "weir " WEIR_VERSION);
	block_end(&block, out);
}

void pcapng_interface(struct evbuffer *out, const struct pcapng_interface *interface)
{
	struct block block;
	uint8_t resolution = 9; /* 10^-9 s */
	char filter[BLOCK_MAX / 2 + 2];
	int length = snprintf(filter, sizeof(filter), "%c%s", 0, interface->filter);

	block_begin(&block, BLOCK_INTERFACE);
	put16(&block, (uint16_t)interface->link);
	put16(&block, 0);
	put32(&block, interface->snaplen);
	put_text(&block, 2, interface->name);
	put_text(&block, 3, interface->description);
	put_option(&block, 9, &resolution, sizeof(resolution));
	/* a NUL first says: as libpcap writes it */
	if (*interface->filter && length > 0 && (size_t)length < sizeof(filter))
		put_option(&block, 11, filter, (size_t)length);
	block_end(&block, out);
}

void pcapng_process(struct evbuffer *out, uint32_t pid, const char *command)
{
	struct block block;

	block_begin(&block, BLOCK_PROCESS);
	put32(&block, pid);
	put_text(&block, 2, command);
	block_end(&block, out);
}

void pcapng_statistics(struct evbuffer *out, const struct pcapng_statistics *statistics)
{
	struct block block;

	block_begin(&block, BLOCK_STATISTICS);
	put32(&block, statistics->interface);
	put_time(&block, statistics->end_ns);
	put16(&block, 2); /* isb_starttime */
	put16(&block, 8);
	put_time(&block, statistics->begin_ns);
	put16(&block, 3); /* isb_endtime */
	put16(&block, 8);
	put_time(&block, statistics->end_ns);
	put_count(&block, 4, statistics->received);
	put_count(&block, 5, statistics->dropped);
	put_count(&block, 6, statistics->accepted);
	put_count(&block, 7, statistics->lost);
	block_end(&block, out);
}

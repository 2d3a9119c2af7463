// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* The client's reader of pcapng: any bytes, in parts of any size.  The parts make no difference. */
#include "cli/pcapng.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "cli/shared.h"
#include "fuzz/fuzz.h"

static const uint8_t memory[256]; /* that an agent would share */

struct seen {
	uint64_t blocks, sum;
};

static int on_block(void *user, uint32_t type, const uint8_t *block, uint32_t bytes)
{
	struct seen *seen = user;
	struct pcapng_section section;
	struct pcapng_interface interface;
	struct pcapng_process process;
	struct pcapng_statistics statistics;
	struct pcapng_packet packet;
	struct shared shared = {.socket = -1, .memory = memory, .bytes = sizeof(memory)};
	struct iovec pieces[CAPTURE_RUNS_MAX];
	uint32_t packets;
	size_t count;

	seen->blocks++;
	seen->sum = seen->sum * 31 + type + bytes;
	if (pcapng_section_read(block, bytes, &section) == 0)
		seen->sum += strlen(section.comment);
	if (pcapng_interface_read(block, bytes, &interface) == 0)
		seen->sum += strlen(interface.name);
	if (pcapng_process_read(block, bytes, &process) == 0)
		seen->sum += strlen(process.command);
	if (pcapng_statistics_read(block, bytes, &statistics) == 0)
		seen->sum += statistics.lost;
	if (pcapng_packet_read(block, bytes, &packet) == 0)
		for (uint32_t i = 0; i < packet.captured; i++)
			seen->sum += packet.data[i];
	if (shared_read(&shared, block, bytes, pieces, &count, &packets) == 0)
		for (size_t i = 0; i < count; i++)
			for (size_t j = 0; j < pieces[i].iov_len; j++)
				seen->sum += ((const uint8_t *)pieces[i].iov_base)[j];
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pcapng_reader whole = {}, parted = {};
	struct seen one = {}, other = {};
	int r = pcapng_read(&whole, data, size, on_block, &one), s = 0;
	size_t step = size ? 1 + data[0] % 40 : 1;

	for (size_t offset = 0; offset < size && s == 0; offset += step) {
		size_t length = size - offset < step ? size - offset : step;
		/* its own memory, so that reading beyond the part shows */
		uint8_t *part = malloc(length);

		memcpy(part, data + offset, length);
		s = pcapng_read(&parted, part, length, on_block, &other);
		free(part);
	}
	if (r != s || one.blocks != other.blocks || one.sum != other.sum)
		abort();
	pcapng_reader_free(&whole);
	pcapng_reader_free(&parted);
	return 0;
}

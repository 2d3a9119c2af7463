/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "cli/pcapng.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_MIN 12 /* type, length, length */

static uint16_t get16(const uint8_t *p)
{
	uint16_t value;

	memcpy(&value, p, sizeof(value));
	return value;
}

static uint32_t get32(const uint8_t *p)
{
	uint32_t value;

	memcpy(&value, p, sizeof(value));
	return value;
}

static uint64_t get64(const uint8_t *p)
{
	uint64_t value;

	memcpy(&value, p, sizeof(value));
	return value;
}

/* The length of the block that begins here; 0: it cannot be one.  At least 8 bytes are there. */
static uint32_t block_bytes(const uint8_t *block)
{
	uint32_t bytes = get32(block + 4);

	return bytes < BLOCK_MIN || bytes % 4 || bytes > PCAPNG_BLOCK_MAX ? 0 : bytes;
}

static int block_give(const uint8_t *block, uint32_t bytes, pcapng_function *function, void *user)
{
	if (get32(block + bytes - 4) != bytes)
		return -EPROTO;
	return function(user, get32(block), block, bytes);
}

/* Moves bytes behind those that are held, until there are so many. */
static void hold(struct pcapng_reader *reader, const uint8_t **data, size_t *length, size_t wanted)
{
	size_t more = wanted > reader->length ? wanted - reader->length : 0;

	if (more > *length)
		more = *length;
	memcpy(reader->held + reader->length, *data, more);
	reader->length += more;
	*data += more;
	*length -= more;
}

int pcapng_read(
	struct pcapng_reader *reader, const void *part, size_t length, pcapng_function *function, void *user)
{
	const uint8_t *data = part;
	uint32_t bytes;
	int r;

	if (!reader->held && !(reader->held = malloc(PCAPNG_BLOCK_MAX)))
		return -ENOMEM;
	if (reader->length) {
		hold(reader, &data, &length, 8);
		if (reader->length < 8)
			return 0;
		bytes = block_bytes(reader->held);
		if (!bytes)
			return -EPROTO;
		hold(reader, &data, &length, bytes);
		if (reader->length < bytes)
			return 0;
		reader->length = 0;
		r = block_give(reader->held, bytes, function, user);
		if (r)
			return r;
	}
	while (length >= 8) {
		bytes = block_bytes(data);
		if (!bytes)
			return -EPROTO;
		if (bytes > length)
			break;
		r = block_give(data, bytes, function, user);
		if (r)
			return r;
		data += bytes;
		length -= bytes;
	}
	hold(reader, &data, &length, length);
	return 0;
}

void pcapng_reader_free(struct pcapng_reader *reader)
{
	free(reader->held);
	*reader = (struct pcapng_reader){};
}

/* -- blocks -- */

struct option {
	uint16_t code, length;
	const uint8_t *value;
};

/* The option at `offset`, which moves on; 0 at the end. */
static int option_next(const uint8_t *block, uint32_t bytes, uint32_t *offset, struct option *ret_option)
{
	uint32_t end = bytes - 4, padded;

	if (*offset > end || end - *offset < 4)
		return 0;
	*ret_option =
		(struct option){get16(block + *offset), get16(block + *offset + 2), block + *offset + 4};
	padded = (ret_option->length + 3U) & ~3U;
	if (!ret_option->code || padded > end - *offset - 4)
		return 0;
	*offset += 4 + padded;
	return 1;
}

static void copy_text(char *text, size_t size, const struct option *option)
{
	size_t length = option->length < size ? option->length : size - 1;

	memcpy(text, option->value, length);
	text[length] = '\0';
}

/* The text of the option with this code among those that begin at `offset`; as it was where there is none. */
static void text_read(
	const uint8_t *block, uint32_t bytes, uint32_t offset, uint16_t code, char *text, size_t size)
{
	struct option option;

	while (option_next(block, bytes, &offset, &option))
		if (option.code == code)
			copy_text(text, size, &option);
}

int pcapng_section_read(const uint8_t *block, uint32_t bytes, struct pcapng_section *ret_section)
{
	struct pcapng_section section = {};

	if (bytes < 28)
		return -EPROTO;
	text_read(block, bytes, 24, 1, section.comment, sizeof(section.comment));
	*ret_section = section;
	return 0;
}

int pcapng_interface_read(const uint8_t *block, uint32_t bytes, struct pcapng_interface *ret_interface)
{
	struct pcapng_interface interface = {};

	if (bytes < 20)
		return -EPROTO;
	interface.link = get16(block + 8);
	text_read(block, bytes, 16, 2, interface.name, sizeof(interface.name));
	*ret_interface = interface;
	return 0;
}

int pcapng_process_read(const uint8_t *block, uint32_t bytes, struct pcapng_process *ret_process)
{
	struct pcapng_process process = {};

	if (bytes < 16)
		return -EPROTO;
	process.pid = get32(block + 8);
	text_read(block, bytes, 12, 2, process.command, sizeof(process.command));
	*ret_process = process;
	return 0;
}

int pcapng_statistics_read(const uint8_t *block, uint32_t bytes, struct pcapng_statistics *ret_statistics)
{
	struct pcapng_statistics statistics = {};
	struct option option;
	uint32_t offset = 20;

	if (bytes < 24)
		return -EPROTO;
	statistics.interface = get32(block + 8);
	while (option_next(block, bytes, &offset, &option)) {
		if (option.length != 8)
			continue;
		if (option.code == 6)
			statistics.accepted = get64(option.value);
		else if (option.code == 7)
			statistics.lost = get64(option.value);
	}
	*ret_statistics = statistics;
	return 0;
}

int pcapng_packet_read(const uint8_t *block, uint32_t bytes, struct pcapng_packet *ret_packet)
{
	struct pcapng_packet packet = {.process = UINT32_MAX};
	struct option option;
	uint32_t offset;

	if (bytes < 32)
		return -EPROTO;
	packet.interface = get32(block + 8);
	packet.time_ns = (uint64_t)get32(block + 12) << 32 | get32(block + 16);
	packet.captured = get32(block + 20);
	packet.length = get32(block + 24);
	packet.data = block + 28;
	if (packet.captured > bytes - 32)
		return -EPROTO;
	offset = 28 + ((packet.captured + 3) & ~3U);
	while (option_next(block, bytes, &offset, &option)) {
		if (option.code == 1)
			copy_text(packet.comment, sizeof(packet.comment), &option);
		else if (option.code == 2 && option.length == 4)
			packet.flags = get32(option.value);
		else if (option.code == 0x8001 && option.length == 4)
			packet.process = get32(option.value);
	}
	*ret_packet = packet;
	return 0;
}

// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* From the rings to the client: packets in the order of time, each with its process, as far as it is wanted.
 */
#include <arpa/inet.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <stdlib.h>
#include <string.h>

#include "agent/capture/captures_internal.h"
#include "engine/drop.h"

#define CHUNK_BYTES   (512U << 10) /* handed to the client at once */
#define PROCESSES_MAX 32768        /* of one capture; packets of more have no process */

/* -- what goes out -- */

static void chunk_free(const void *data, size_t length, void *context)
{
	(void)length;
	(void)context;
	free((void *)data);
}

static void chunk_flush(struct capture *capture)
{
	if (capture->share)
		share_flush(capture->share, capture->out);
	if (!capture->chunk_used)
		return;
	if (evbuffer_add_reference(capture->out, capture->chunk, capture->chunk_used, chunk_free, NULL) < 0)
		free(capture->chunk);
	capture->chunk = NULL;
	capture->chunk_used = 0;
}

/* Room for so many bytes at once (a block, or a run of them); NULL without memory. */
static uint8_t *chunk_room(struct capture *capture, size_t bytes)
{
	if (capture->share)
		share_flush(capture->share, capture->out);
	if (capture->chunk && capture->chunk_used + bytes > CHUNK_BYTES)
		chunk_flush(capture);
	if (!capture->chunk)
		capture->chunk = malloc(bytes > CHUNK_BYTES ? bytes : CHUNK_BYTES);
	return capture->chunk ? capture->chunk + capture->chunk_used : NULL;
}

static void chunk_add(struct capture *capture, const void *data, size_t bytes)
{
	uint8_t *room = bytes ? chunk_room(capture, bytes) : NULL;

	if (!room)
		return;
	memcpy(room, data, bytes);
	capture->chunk_used += bytes;
}

/* Blocks that go out as they stand in their segment. */
static void blocks_add(struct capture *capture, const void *blocks, size_t bytes, uint32_t packets)
{
	if (!capture->share) {
		chunk_add(capture, blocks, bytes);
		return;
	}
	if (capture->chunk_used)
		chunk_flush(capture);
	capture->captures->bytes += bytes;
	share_run(capture->share, blocks, bytes, packets, capture->out);
}

size_t capture_backlog(const struct capture *capture)
{
	struct evhttp_connection *connection = evhttp_request_get_connection(capture->request);

	if (!connection)
		return BACKLOG_MAX;
	return evbuffer_get_length(bufferevent_get_output(evhttp_connection_get_bufferevent(connection)));
}

void capture_send(struct capture *capture)
{
	chunk_flush(capture);
	capture->captures->bytes += evbuffer_get_length(capture->out);
	if (evbuffer_get_length(capture->out))
		evhttp_send_reply_chunk(capture->request, capture->out);
}

/* -- reading the rings -- */

uint64_t capture_block_time(const struct capture_block *block)
{
	return (uint64_t)block->time_high << 32 | block->time_low;
}

/* Finds the CPU's next block, giving back segments that have been read. */
static void cursor_look(struct capture *capture, unsigned int cpu)
{
	struct capture_cursor *cursor = &capture->cursors[cpu];
	struct capture_cpu *state = &capture->view->states[cpu];

	cursor->block = NULL;
	for (;;) {
		/* the head first: if it has moved on, this segment does not grow any more */
		uint64_t head = __atomic_load_n(&state->head, __ATOMIC_ACQUIRE);
		struct capture_segment *segment = capture_segment_at(capture->view, cpu, cursor->segment);

		if (cursor->offset < (uint32_t)__atomic_load_n(&segment->filled, __ATOMIC_ACQUIRE)) {
			cursor->block = (struct capture_block *)(segment->data + cursor->offset);
			cursor->time_ns = capture_block_time(cursor->block);
			return;
		}
		if (head == cursor->segment)
			return;
		if (capture->share)
			share_leave(capture->share, cpu, cursor->segment);
		cursor->segment++;
		cursor->offset = cursor->packets = 0;
		if (!capture->share)
			__atomic_store_n(&state->tail, cursor->segment, __ATOMIC_RELEASE);
	}
}

/* -- processes -- */

static struct capture_process *process_place(struct capture_process *table, uint32_t places, uint32_t id)
{
	uint32_t place = id * 0x9e3779b1U & (places - 1);

	while (table[place].id && table[place].id != id)
		place = (place + 1) & (places - 1);
	return &table[place];
}

static int processes_grow(struct capture *capture)
{
	uint32_t places = capture->process_places ? 2 * capture->process_places : 64;
	struct capture_process *table;

	if (2 * capture->process_count < capture->process_places)
		return 0;
	if (capture->process_count >= PROCESSES_MAX)
		return -ENOSPC;
	table = calloc(places, sizeof(*table));
	if (!table)
		return -ENOMEM;
	for (uint32_t i = 0; i < capture->process_places; i++)
		if (capture->processes[i].id)
			*process_place(table, places, capture->processes[i].id) = capture->processes[i];
	free(capture->processes);
	capture->processes = table;
	capture->process_places = places;
	return 0;
}

/* What a packet's owner is to this capture; a new one is told to the file.  NULL: there are too many. */
static const struct capture_process *process_of(struct capture *capture, uint32_t id)
{
	struct agent *agent = capture->captures->agent;
	struct capture_process *process =
		capture->process_places ? process_place(capture->processes, capture->process_places, id)
					: NULL;
	const struct owner *owner;

	if (process && process->id)
		return process;
	if (processes_grow(capture) < 0)
		return NULL;
	process = process_place(capture->processes, capture->process_places, id);
	*process = (struct capture_process){.id = id, .number = UINT32_MAX};
	capture->process_count++;
	process->fits = capture->owner.kind == OWNER_ANY || owner_fits(agent, id, &capture->owner);
	owner = process->fits ? owner_identity(agent, id) : NULL;
	if (owner) {
		process->number = capture->processes_told++;
		chunk_flush(capture);
		pcapng_process(capture->out, owner->key.pid, owner->command);
	}
	return process;
}

/* -- blocks -- */

struct capture_block_tail capture_block_tail(struct capture_block *block)
{
	uint8_t *place = (uint8_t *)(block + 1) + ((block->captured + 3) & ~3U);
	uint8_t *end = (uint8_t *)block + block->bytes - sizeof(struct capture_option);
	struct capture_block_tail tail = {.flags = (struct capture_option *)place};

	place += sizeof(*tail.flags);
	if (place < end && ((struct capture_option *)place)->code == CAPTURE_OPTION_PROCESS) {
		tail.process = (struct capture_option *)place;
		place += sizeof(*tail.process);
	}
	if (place < end)
		tail.drop = (struct capture_drop_option *)place;
	return tail;
}

void capture_rewrite(struct capture *capture, const struct capture_block *block, uint32_t interface,
	const struct capture_block_tail *tail, const struct capture_process *process, const char *comment)
{
	uint32_t captured = block->captured < capture->snaplen ? block->captured : capture->snaplen;
	uint32_t padded = (captured + 3) & ~3U, text = (uint32_t)strlen(comment);
	uint8_t *room = chunk_room(capture, block->bytes + text + 16), *place = room;
	struct capture_block head = *block;
	struct capture_option option = {.code = 1, .bytes = (uint16_t)text};

	if (!room)
		return;
	head.captured = captured;
	head.interface = interface;
	place = mempcpy(place, &head, sizeof(head));
	memset(place + (padded > 4 ? padded - 4 : 0), 0, 4);
	memcpy(place, block + 1, captured);
	place = mempcpy(place + padded, tail->flags, sizeof(option));
	if (text) {
		memset(place + 4 + (text & ~3U), 0, 4);
		memcpy(place, &option, 4);
		snprintf((char *)place + 4, text + 1, "%s", comment);
		place += 4 + ((text + 3) & ~3U);
	}
	if (process && process->number != UINT32_MAX) {
		option = (struct capture_option){CAPTURE_OPTION_PROCESS, 4, process->number};
		place = mempcpy(place, &option, sizeof(option));
	}
	head.bytes = (uint32_t)(place + sizeof(option) - room);
	option = (struct capture_option){.value = head.bytes}; /* end of options, length */
	memcpy(place, &option, sizeof(option));
	memcpy(room, &head, sizeof(head));
	capture->chunk_used += head.bytes;
}

bool capture_expression_fits(struct capture *capture, const struct capture_block *block,
	enum pcapng_link link, uint32_t ifindex, bool out)
{
	struct expression_packet packet = {
		.bytes = (const uint8_t *)(block + 1),
		.captured = block->captured,
		.length = block->length,
		.direction = out ? EXPRESSION_OUT : EXPRESSION_IN,
		.ifindex = ifindex,
	};
	const struct capture_cooked *cooked = (const struct capture_cooked *)(block + 1);
	uint8_t *frame = capture->scratch, *place = frame;

	if (!*capture->text)
		return true;
	if (link == PCAPNG_LINK_RAW)
		return expression_run(&capture->raw, &packet);
	if (link == PCAPNG_LINK_COOKED) {
		/* as it would stand behind an Ethernet header, as far as that is known */
		memset(frame, 0, 14);
		if (cooked->type == htons(CAPTURE_COOKED_ETHERNET))
			memcpy(frame + 6, cooked->address, 6);
		memcpy(frame + 12, &cooked->protocol, 2);
		memcpy(frame + 14, cooked + 1, block->captured - sizeof(*cooked));
		packet.bytes = frame;
		packet.captured -= (uint32_t)sizeof(*cooked) - 14;
		packet.length -= (uint32_t)sizeof(*cooked) - 14;
	} else if (packet.captured >= 18 && packet.bytes[12] == 0x81 && packet.bytes[13] == 0) {
		packet.tagged = true;
		packet.tag = (uint16_t)(packet.bytes[14] << 8 | packet.bytes[15]);
		place = mempcpy(place, packet.bytes, 12);
		memcpy(place, packet.bytes + 16, packet.captured - 16);
		packet.bytes = frame;
		packet.captured -= 4;
		packet.length -= 4;
	}
	return expression_run(&capture->ethernet, &packet);
}

/* -- taking -- */

void capture_count(struct capture *capture, uint32_t interface, uint32_t packets)
{
	if (interface < capture->target_count)
		capture->targets[interface].taken += packets;
	capture->taken += packets;
	capture->done = capture->taken == capture->limit;
}

bool capture_owner_wanted(struct capture *capture, const struct capture_block_tail *tail,
	const struct capture_process **ret_process)
{
	*ret_process = tail->process ? process_of(capture, tail->process->value) : NULL;
	return capture->owner.kind == OWNER_ANY || (*ret_process && (*ret_process)->fits);
}

/* A dropped packet: with the reason as a comment, and where the kernel gave up. */
static void take_dropped(struct capture *capture, struct capture_block *block)
{
	struct engine *engine = capture->captures->agent->engine;
	struct capture_block_tail tail = capture_block_tail(block);
	const struct capture_target *target =
		block->interface < capture->target_count ? &capture->targets[block->interface] : NULL;
	const struct capture_process *process;
	char reason[DROP_NAME_MAX], place[DROP_PLACE_MAX], comment[DROP_NAME_MAX + DROP_PLACE_MAX + 16];

	if (!target || !tail.drop ||
		!capture_expression_fits(
			capture, block, target->link, target->index, tail.flags->value == CAPTURE_FLAG_OUT) ||
		!capture_owner_wanted(capture, &tail, &process))
		return;
	engine_drop_reason_name(engine, tail.drop->reason, reason);
	engine_drop_place_name(
		engine, (uint64_t)tail.drop->location_high << 32 | tail.drop->location_low, place);
	snprintf(comment, sizeof(comment), "dropped: %s at %s", reason, place);
	capture_rewrite(capture, block, block->interface, &tail, process, comment);
	capture_count(capture, block->interface, 1);
}

/* Takes a packet that its hook let through.  False: it goes out as it stands there. */
static bool take_apart(struct capture *capture, struct capture_block *block)
{
	struct capture_block_tail tail = capture_block_tail(block);
	const struct capture_process *process;

	if (capture_block_time(block) < capture->from_ns)
		return true;
	if (!capture_owner_wanted(capture, &tail, &process))
		return true;
	capture_count(capture, block->interface, 1);
	if (tail.process && (!process || process->number == UINT32_MAX)) {
		capture_rewrite(capture, block, block->interface, &tail, NULL, "");
		return true;
	}
	if (tail.process)
		tail.process->value = process->number;
	return false;
}

/* What of a segment can be taken. */
struct filled {
	struct capture_segment *segment;
	uint32_t used, packets; /* all of them, with those that were taken */
};

/* Does all of it go out as it stands there? */
static bool filled_is_plain(
	const struct capture *capture, const struct capture_cursor *cursor, const struct filled *filled)
{
	uint64_t packets = filled->packets - cursor->packets;

	return capture->place != CAPTURE_DROP && capture->owner.kind == OWNER_ANY &&
	       cursor->time_ns >= capture->from_ns &&
	       (!capture->limit || capture->taken + packets <= capture->limit) &&
	       !__atomic_load_n(&filled->segment->apart, __ATOMIC_RELAXED);
}

/* Without a look at each packet where the last one is told to be early enough. */
static void take_plain(struct capture *capture, struct capture_cursor *cursor, const struct filled *filled,
	uint64_t until_ns)
{
	uint8_t *data = filled->segment->data;
	uint32_t offset = cursor->offset, packets = 0;

	if (__atomic_load_n(&filled->segment->last_ns, __ATOMIC_RELAXED) <= until_ns) {
		offset = filled->used;
		packets = filled->packets - cursor->packets;
	}
	while (offset < filled->used) {
		const struct capture_block *block = (struct capture_block *)(data + offset);

		if (capture_block_time(block) > until_ns)
			break;
		offset += block->bytes;
		packets++;
	}
	blocks_add(capture, data + cursor->offset, offset - cursor->offset, packets);
	capture_count(capture, filled->segment->interface, packets);
	cursor->offset = offset;
	cursor->packets += packets;
}

static void take_one_by_one(struct capture *capture, struct capture_cursor *cursor,
	const struct filled *filled, uint64_t until_ns)
{
	uint8_t *data = filled->segment->data;
	uint32_t offset = cursor->offset, begin = offset; /* [begin, offset) goes out as it stands there */
	uint32_t packets = 0;                             /* in it */

	while (offset < filled->used && !capture->done) {
		struct capture_block *block = (struct capture_block *)(data + offset);
		uint32_t next = offset + block->bytes;
		bool taken = true;

		if (capture_block_time(block) > until_ns)
			break;
		/* the process may have to be told before its packet, but behind those before */
		if (capture_block_tail(block).process) {
			blocks_add(capture, data + begin, offset - begin, packets);
			begin = offset;
			packets = 0;
		}
		if (capture->place == CAPTURE_DROP)
			take_dropped(capture, block);
		else
			taken = take_apart(capture, block);
		packets += !taken;
		/* what stands before one that does not go out as it is goes out now */
		if (taken) {
			blocks_add(capture, data + begin, offset - begin, packets);
			begin = next;
			packets = 0;
		}
		offset = next;
		cursor->packets++;
	}
	blocks_add(capture, data + begin, offset - begin, packets);
	cursor->offset = offset;
}

/* Takes blocks of one CPU up to a time, as long as they stand one behind the other. */
static void take_run(struct capture *capture, unsigned int cpu, uint64_t until_ns)
{
	struct capture_cursor *cursor = &capture->cursors[cpu];
	struct capture_segment *segment = capture_segment_at(capture->view, cpu, cursor->segment);
	uint64_t now = __atomic_load_n(&segment->filled, __ATOMIC_ACQUIRE);
	struct filled filled = {segment, (uint32_t)now, (uint32_t)(now / CAPTURE_ONE_PACKET)};

	if (filled_is_plain(capture, cursor, &filled))
		take_plain(capture, cursor, &filled, until_ns);
	else
		take_one_by_one(capture, cursor, &filled, until_ns);
	cursor_look(capture, cpu);
}

void capture_take(struct capture *capture, uint64_t until_ns)
{
	unsigned int cpus = capture->view->cpus;
	size_t room = BACKLOG_MAX - capture_backlog(capture);

	for (unsigned int cpu = 0; cpu < cpus; cpu++)
		cursor_look(capture, cpu);
	while (!capture->done && evbuffer_get_length(capture->out) < room) {
		uint64_t first_ns = UINT64_MAX, second_ns = UINT64_MAX;
		unsigned int first = 0;

		for (unsigned int cpu = 0; cpu < cpus; cpu++) {
			const struct capture_cursor *cursor = &capture->cursors[cpu];

			if (!cursor->block)
				continue;
			if (cursor->time_ns < first_ns) {
				second_ns = first_ns;
				first_ns = cursor->time_ns;
				first = cpu;
			} else if (cursor->time_ns < second_ns) {
				second_ns = cursor->time_ns;
			}
		}
		if (first_ns > until_ns || first_ns == UINT64_MAX)
			break;
		take_run(capture, first, second_ns < until_ns ? second_ns : until_ns);
	}
}

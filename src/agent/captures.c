// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "agent/captures.h"

#include <arpa/inet.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "agent/internal.h"
#include "agent/owners.h"
#include "agent/pcapng.h"
#include "agent/share.h"
#include "basic/cleanup.h"
#include "basic/log.h"
#include "basic/text.h"
#include "basic/units.h"
#include "compile/expression.h"
#include "engine/capture.h"
#include "engine/drop.h"

#define CAPTURES_MAX   8
#define RINGS_BYTES    (64U << 20) /* of one capture, all CPUs together */
#define RING_BYTES_MAX (32U << 20) /* per CPU */
#define RING_BYTES_MIN (1U << 20)
#define BACKLOG_MAX    (8U << 20) /* bytes that wait for a client before packets stay in the rings */
#define SOCKET_BUFFER  (2 << 20)
#define CHUNK_BYTES    (512U << 10) /* handed to the client at once */
#define POLL_MS        20
#define SETTLE_NS      1000000       /* a packet this old is in its ring, whichever CPU it was on */
#define LOOK_NS        1000000000ULL /* interfaces and the clock are looked at so often */
#define STATISTICS_NS  5000000000ULL
#define PROCESSES_MAX  32768 /* of one capture; packets of more have no process */

/* An interface of a capture, in the order of its number in the file. */
struct capture_target {
	uint32_t index;
	enum pcapng_link link;
	uint64_t taken; /* packets of it that the client got */
	/* the kernel's counters, when it came in and at the last look */
	uint64_t begin_received, begin_dropped, received, dropped;
};

/* Where a CPU's ring is read. */
struct cursor {
	uint64_t segment; /* counted from the first */
	uint32_t offset;
	struct capture_block *block; /* NULL: nothing new */
	uint64_t time_ns;
};

/* What is known of an owner's id. */
struct capture_process {
	uint32_t id;     /* 0: an empty place of the table */
	uint32_t number; /* in the file; UINT32_MAX: nothing is known of it */
	bool fits;       /* the capture is of it */
};

struct capture {
	struct captures *captures;
	struct capture *next;
	struct evhttp_request *request;
	struct engine_capture *engine;
	const struct engine_capture_view *view;
	enum capture_place place;
	struct expression ethernet, raw;
	uint8_t *scratch;   /* a packet, as an expression wants to see it */
	uint64_t from_ns;   /* earlier packets are none of this capture's */
	uint64_t before_ns; /* but for those kept of so long before; 0: none, or done */
	char *text;         /* the expression */
	char *id;
	char *share_with;           /* name of the client's socket; NULL: it wants the packets sent */
	char only[ENGINE_NAME_MAX]; /* the one interface; empty: all that are watched */
	struct owner_match owner;   /* kind OWNER_ANY: whoever it is */
	struct capture_process
		*processes; /* by hash of their ids; twice as many places as there may be entries */
	uint32_t process_places, process_count, processes_told;
	uint32_t snaplen;
	uint64_t limit; /* packets; 0: no end */
	uint64_t taken, lost;
	struct capture_target *targets;
	size_t target_count;
	struct cursor *cursors;
	uint64_t begin_ns, looked_ns, told_ns; /* CLOCK_REALTIME; the others CLOCK_MONOTONIC */
	bool done;
	/* what goes out with the next piece */
	struct share *share; /* NULL: the client gets the packets themselves */
	struct evbuffer *out;
	uint8_t *chunk;
	size_t chunk_used;
};

/* The last packets, always kept (capture.before). */
struct past {
	struct engine_capture *engine; /* NULL: off */
	uint32_t bytes, snaplen;       /* as configured when it was opened */
	uint32_t *interfaces;          /* their indices, by the number in the blocks */
	uint32_t count;
};

struct captures {
	struct agent *agent;
	struct past past;
	struct capture *first;
	struct event *timer;
	uint64_t captures, packets, bytes, lost; /* of those that have ended, too */
};

static const char *const place_names[CAPTURE_PLACES + 1] = {[CAPTURE_TC] = "tc",
	[CAPTURE_XDP] = "xdp",
	[CAPTURE_SOCKET] = "socket",
	[CAPTURE_DROP] = "drop",
	NULL};

static int64_t clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

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

static size_t backlog_of(const struct capture *capture)
{
	struct evhttp_connection *connection = evhttp_request_get_connection(capture->request);

	if (!connection)
		return BACKLOG_MAX;
	return evbuffer_get_length(bufferevent_get_output(evhttp_connection_get_bufferevent(connection)));
}

static void send_out(struct capture *capture)
{
	chunk_flush(capture);
	capture->captures->bytes += evbuffer_get_length(capture->out);
	if (evbuffer_get_length(capture->out))
		evhttp_send_reply_chunk(capture->request, capture->out);
}

/* -- reading the rings -- */

static uint64_t block_time(const struct capture_block *block)
{
	return (uint64_t)block->time_high << 32 | block->time_low;
}

/* Finds the CPU's next block, giving back segments that have been read. */
static void cursor_look(struct capture *capture, unsigned int cpu)
{
	struct cursor *cursor = &capture->cursors[cpu];
	struct capture_cpu *state = &capture->view->states[cpu];

	cursor->block = NULL;
	for (;;) {
		/* the head first: if it has moved on, this segment does not grow any more */
		uint64_t head = __atomic_load_n(&state->head, __ATOMIC_ACQUIRE);
		struct capture_segment *segment = capture_segment_at(capture->view, cpu, cursor->segment);

		if (cursor->offset < __atomic_load_n(&segment->used, __ATOMIC_ACQUIRE)) {
			cursor->block = (struct capture_block *)(segment->data + cursor->offset);
			cursor->time_ns = block_time(cursor->block);
			return;
		}
		if (head == cursor->segment)
			return;
		if (capture->share)
			share_leave(capture->share, cpu, cursor->segment);
		cursor->segment++;
		cursor->offset = 0;
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

/* What stands behind the packet in a block that a program wrote; NULL: it does not. */
struct block_tail {
	struct capture_option *flags, *process;
	struct capture_drop_option *drop;
};

static struct block_tail block_tail(struct capture_block *block)
{
	uint8_t *place = (uint8_t *)(block + 1) + ((block->captured + 3) & ~3U);
	uint8_t *end = (uint8_t *)block + block->bytes - sizeof(struct capture_option);
	struct block_tail tail = {.flags = (struct capture_option *)place};

	place += sizeof(*tail.flags);
	if (place < end && ((struct capture_option *)place)->code == CAPTURE_OPTION_PROCESS) {
		tail.process = (struct capture_option *)place;
		place += sizeof(*tail.process);
	}
	if (place < end)
		tail.drop = (struct capture_drop_option *)place;
	return tail;
}

/* Writes a block anew: cut to a length, with its process' number in the file, or none, and with a comment. */
static void block_rewrite(struct capture *capture, const struct capture_block *block, uint32_t interface,
	const struct block_tail *tail, const struct capture_process *process, const char *comment)
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

/* Does the expression fit a packet that no program has asked?  What the kernel held beside the packet is
 * taken out of it again. */
static bool expression_fits(struct capture *capture, const struct capture_block *block, enum pcapng_link link,
	uint32_t ifindex, bool out)
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

static void count_packet(struct capture *capture, uint32_t interface)
{
	if (interface < capture->target_count)
		capture->targets[interface].taken++;
	capture->done = ++capture->taken == capture->limit;
}

/* Is the packet wanted, as far as owners go?  *ret_process NULL: nothing is known of one. */
static bool owner_wanted(
	struct capture *capture, const struct block_tail *tail, const struct capture_process **ret_process)
{
	*ret_process = tail->process ? process_of(capture, tail->process->value) : NULL;
	return capture->owner.kind == OWNER_ANY || (*ret_process && (*ret_process)->fits);
}

/* A dropped packet: with the reason as a comment, and where the kernel gave up. */
static void take_dropped(struct capture *capture, struct capture_block *block)
{
	struct engine *engine = capture->captures->agent->engine;
	struct block_tail tail = block_tail(block);
	const struct capture_target *target =
		block->interface < capture->target_count ? &capture->targets[block->interface] : NULL;
	const struct capture_process *process;
	char reason[DROP_NAME_MAX], place[DROP_PLACE_MAX], comment[DROP_NAME_MAX + DROP_PLACE_MAX + 16];

	if (!target || !tail.drop ||
		!expression_fits(
			capture, block, target->link, target->index, tail.flags->value == CAPTURE_FLAG_OUT) ||
		!owner_wanted(capture, &tail, &process))
		return;
	engine_drop_reason_name(engine, tail.drop->reason, reason);
	engine_drop_place_name(
		engine, (uint64_t)tail.drop->location_high << 32 | tail.drop->location_low, place);
	snprintf(comment, sizeof(comment), "dropped: %s at %s", reason, place);
	block_rewrite(capture, block, block->interface, &tail, process, comment);
	count_packet(capture, block->interface);
}

/* Takes a packet that its hook let through.  False: it goes out as it stands there. */
static bool take_apart(struct capture *capture, struct capture_block *block)
{
	struct block_tail tail = block_tail(block);
	const struct capture_process *process;

	if (block_time(block) < capture->from_ns)
		return true;
	if (!owner_wanted(capture, &tail, &process))
		return true;
	count_packet(capture, block->interface);
	if (tail.process && (!process || process->number == UINT32_MAX)) {
		block_rewrite(capture, block, block->interface, &tail, NULL, "");
		return true;
	}
	if (tail.process)
		tail.process->value = process->number;
	return false;
}

/* Takes blocks of one CPU up to a time, as long as they stand one behind the other. */
static void take_run(struct capture *capture, unsigned int cpu, uint64_t until_ns)
{
	struct cursor *cursor = &capture->cursors[cpu];
	struct capture_segment *segment = capture_segment_at(capture->view, cpu, cursor->segment);
	uint32_t used = __atomic_load_n(&segment->used, __ATOMIC_ACQUIRE);
	uint32_t offset = cursor->offset, begin = offset; /* [begin, offset) goes out as it stands there */
	uint32_t packets = 0;                             /* in it */

	while (offset < used && !capture->done) {
		struct capture_block *block = (struct capture_block *)(segment->data + offset);
		uint32_t next = offset + block->bytes;
		bool taken = true;

		if (block_time(block) > until_ns)
			break;
		/* the process may have to be told before its packet, but behind those before */
		if (block_tail(block).process) {
			blocks_add(capture, segment->data + begin, offset - begin, packets);
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
			blocks_add(capture, segment->data + begin, offset - begin, packets);
			begin = next;
			packets = 0;
		}
		offset = next;
	}
	blocks_add(capture, segment->data + begin, offset - begin, packets);
	cursor->offset = offset;
	cursor_look(capture, cpu);
}

/* Takes what the rings hold up to a time, in the order of time. */
static void take(struct capture *capture, uint64_t until_ns)
{
	unsigned int cpus = capture->view->cpus;
	size_t room = BACKLOG_MAX - backlog_of(capture);

	for (unsigned int cpu = 0; cpu < cpus; cpu++)
		cursor_look(capture, cpu);
	while (!capture->done && evbuffer_get_length(capture->out) < room) {
		uint64_t first_ns = UINT64_MAX, second_ns = UINT64_MAX;
		unsigned int first = 0;

		for (unsigned int cpu = 0; cpu < cpus; cpu++) {
			const struct cursor *cursor = &capture->cursors[cpu];

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

/* -- interfaces -- */

static void tell_statistics(struct capture *capture)
{
	for (uint32_t i = 0; i < capture->target_count; i++) {
		const struct capture_target *target = &capture->targets[i];
		uint64_t lost = engine_capture_lost(capture->engine, target->index);
		const struct pcapng_statistics statistics = {
			.interface = i,
			.begin_ns = capture->begin_ns,
			.end_ns = (uint64_t)clock_ns(CLOCK_REALTIME),
			.received = target->received - target->begin_received,
			.dropped = target->dropped - target->begin_dropped,
			.accepted = target->taken + lost,
			.lost = lost,
		};

		pcapng_statistics(capture->out, &statistics);
	}
	capture->told_ns = agent_now_ns();
}

static uint64_t lost_of(const struct capture *capture)
{
	uint64_t lost = 0;

	for (size_t i = 0; i < capture->target_count; i++)
		lost += engine_capture_lost(capture->engine, capture->targets[i].index);
	return lost;
}

static struct capture_target *target_find(const struct capture *capture, uint32_t index)
{
	for (size_t i = 0; i < capture->target_count; i++)
		if (capture->targets[i].index == index)
			return &capture->targets[i];
	return NULL;
}

static int target_add(struct capture *capture, const struct engine_interface *interface, struct error *error)
{
	struct capture_target *targets =
		reallocarray(capture->targets, capture->target_count + 1, sizeof(struct capture_target));
	struct capture_target target = {.index = interface->index};
	int r;

	if (!targets)
		return error_set(error, -ENOMEM, "out of memory");
	capture->targets = targets;
	target.link = capture->place == CAPTURE_DROP ? PCAPNG_LINK_COOKED
	              : interface->ethernet          ? PCAPNG_LINK_ETHERNET
	                                             : PCAPNG_LINK_RAW;
	/* "ether host …" cannot be said of an interface without Ethernet headers, so that is asked only when
	 * there is one */
	if (target.link == PCAPNG_LINK_RAW && !capture->raw.plain.count) {
		r = expression_compile(capture->text, EXPRESSION_RAW, capture->snaplen, &capture->raw, error);
		if (r < 0)
			return r;
	}
	target.begin_received = target.received = interface->in.packets + interface->out.packets;
	target.begin_dropped = target.dropped = interface->in.dropped + interface->out.dropped;
	r = engine_capture_add(capture->engine, interface, (uint32_t)capture->target_count, error);
	if (r < 0)
		return r;
	capture->targets[capture->target_count++] = target;
	pcapng_interface(
		capture->out, &(struct pcapng_interface){
				      .name = interface->name,
				      .description = engine_capture_hook(capture->engine, interface->index),
				      .filter = capture->text,
				      .link = target.link,
				      .snaplen = capture->snaplen,
			      });
	return 0;
}

static bool is_wanted(const struct capture *capture, const struct engine_interface *interface)
{
	const struct agent *agent = capture->captures->agent;

	if (*capture->only)
		return strcmp(capture->only, interface->name) == 0;
	if (capture->place == CAPTURE_DROP)
		return true;
	for (size_t i = 0; i < agent->watched_count; i++)
		if (agent->watched[i].index == interface->index && agent->watched[i].state == WATCH_WATCHED)
			return true;
	return false;
}

/* Captures on what is wanted and not captured on yet; reads the counters of the others. */
static int look_at_interfaces(struct capture *capture, struct error *error)
{
	_cleanup_free_ struct engine_interface *interfaces = NULL;
	size_t count = 0;
	int r = engine_interfaces(capture->captures->agent->engine, &interfaces, &count);

	if (r < 0)
		return error_set(error, r, "cannot list the interfaces: %s", strerror(-r));
	for (size_t i = 0; i < count && r == 0; i++) {
		const struct engine_interface *interface = &interfaces[i];
		struct capture_target *target = target_find(capture, interface->index);

		if (target) {
			target->received = interface->in.packets + interface->out.packets;
			target->dropped = interface->in.dropped + interface->out.dropped;
		} else if (is_wanted(capture, interface)) {
			r = target_add(capture, interface, error);
		}
	}
	return r;
}

/* CLOCK_TAI is CLOCK_REALTIME and some whole seconds, and somebody may set either. */
static void set_clock(const struct engine_capture_view *view)
{
	int64_t apart_ns = clock_ns(CLOCK_TAI) - clock_ns(CLOCK_REALTIME);
	int64_t seconds = (apart_ns + (apart_ns < 0 ? -500000000 : 500000000)) / 1000000000;

	for (unsigned int cpu = 0; cpu < view->cpus; cpu++)
		view->states[cpu].clock_ns = -seconds * 1000000000;
}

/* -- the past -- */

static void past_close(struct past *past)
{
	engine_capture_close(past->engine);
	free(past->interfaces);
	*past = (struct past){};
}

/* Begins to keep packets of the interfaces that are watched by now. */
static int past_watch(struct captures *captures, struct error *error)
{
	struct past *past = &captures->past;
	const struct agent *agent = captures->agent;
	_cleanup_free_ struct engine_interface *interfaces = NULL;
	size_t count = 0;
	int r = engine_interfaces(agent->engine, &interfaces, &count);

	for (size_t i = 0; i < count && r == 0; i++) {
		bool wanted = false;
		uint32_t *indices;

		for (size_t j = 0; j < agent->watched_count; j++)
			wanted |= agent->watched[j].index == interfaces[i].index &&
			          agent->watched[j].state == WATCH_WATCHED;
		for (uint32_t j = 0; j < past->count; j++)
			wanted &= past->interfaces[j] != interfaces[i].index;
		if (!wanted)
			continue;
		indices = reallocarray(past->interfaces, past->count + 1, sizeof(*indices));
		if (!indices)
			return error_set(error, -ENOMEM, "out of memory");
		past->interfaces = indices;
		r = engine_capture_add(past->engine, &interfaces[i], past->count, error);
		if (r == 0)
			past->interfaces[past->count++] = interfaces[i].index;
	}
	return r;
}

/* Opens, closes, or opens anew what the configuration says. */
static void past_follow_config(struct captures *captures)
{
	const struct config *config = &captures->agent->config;
	struct past *past = &captures->past;
	struct engine_capture_options options = {
		.place = CAPTURE_TC,
		.snaplen = config->capture_snaplen,
		.overwrites = true,
	};
	struct error error = {};

	if (past->engine && past->bytes == config->capture_before && past->snaplen == config->capture_snaplen)
		return;
	past_close(past);
	if (!config->capture_before)
		return;
	options.ring_bytes = config->capture_before / engine_view(captures->agent->engine)->cpus;
	if (engine_capture_open(captures->agent->engine, &options, &past->engine, &error) < 0) {
		error_print(&error, "weir: capture.before: ", stderr);
		return;
	}
	past->bytes = config->capture_before;
	past->snaplen = config->capture_snaplen;
	set_clock(engine_capture_view(past->engine));
	if (past_watch(captures, &error) < 0)
		error_print(&error, "weir: capture.before: ", stderr);
}

/* What of a CPU's ring could be copied before it was written over. */
struct past_copy {
	uint8_t *memory;
	size_t length;
	struct capture_block **blocks;
	size_t count;
};

static int past_add_blocks(
	struct past_copy *copy, uint8_t *data, uint32_t used, uint64_t from_ns, uint64_t to_ns)
{
	for (uint32_t offset = 0; offset < used;) {
		struct capture_block *block = (struct capture_block *)(data + offset);

		if (block_time(block) >= from_ns && block_time(block) < to_ns) {
			/* doubled when it is full: at powers of two */
			if (!(copy->count & (copy->count - 1)) || !copy->count) {
				struct capture_block **blocks = reallocarray(
					copy->blocks, copy->count ? 2 * copy->count : 1, sizeof(void *));

				if (!blocks)
					return -ENOMEM;
				copy->blocks = blocks;
			}
			copy->blocks[copy->count++] = block;
		}
		offset += block->bytes;
	}
	return 0;
}

static int past_copy_cpu(const struct engine_capture_view *view, unsigned int cpu, struct past_copy *copy,
	uint64_t from_ns, uint64_t to_ns)
{
	struct capture_cpu *state = &view->states[cpu];
	uint64_t head = __atomic_load_n(&state->head, __ATOMIC_ACQUIRE);
	int r = 0;

	for (uint64_t number = head + 1 < view->segments ? 0 : head + 1 - view->segments;
		number <= head && r == 0; number++) {
		struct capture_segment *segment = capture_segment_at(view, cpu, number);
		uint32_t used = __atomic_load_n(&segment->used, __ATOMIC_ACQUIRE);
		uint8_t *data = copy->memory + copy->length;

		memcpy(data, segment->data, used);
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
		if (__atomic_load_n(&state->head, __ATOMIC_ACQUIRE) - number >= view->segments)
			continue; /* it is being written again */
		copy->length += used;
		r = past_add_blocks(copy, data, used, from_ns, to_ns);
	}
	return r;
}

static int compare_blocks(const void *a, const void *b)
{
	uint64_t one = block_time(*(struct capture_block *const *)a);
	uint64_t two = block_time(*(struct capture_block *const *)b);

	return one < two ? -1 : one > two;
}

/* Writes out what was kept of the time before a capture, as far as it is wanted. */
static void past_tell(struct capture *capture)
{
	const struct past *past = &capture->captures->past;
	const struct engine_capture_view *view = past->engine ? engine_capture_view(past->engine) : NULL;
	struct past_copy copy = {};

	if (!view)
		return;
	copy.memory = malloc(view->cpus * (size_t)view->segments * view->segment_bytes);
	for (unsigned int cpu = 0; copy.memory && cpu < view->cpus; cpu++)
		if (past_copy_cpu(view, cpu, &copy, capture->from_ns - capture->before_ns, capture->from_ns) <
			0)
			break;
	if (copy.count)
		qsort(copy.blocks, copy.count, sizeof(void *), compare_blocks);
	for (size_t i = 0; i < copy.count && !capture->done; i++) {
		struct capture_block *block = copy.blocks[i];
		struct block_tail tail = block_tail(block);
		const struct capture_target *target =
			block->interface < past->count
				? target_find(capture, past->interfaces[block->interface])
				: NULL;
		const struct capture_process *process;

		if (!target ||
			!expression_fits(capture, block, target->link, target->index,
				tail.flags->value == CAPTURE_FLAG_OUT) ||
			!owner_wanted(capture, &tail, &process))
			continue;
		block_rewrite(capture, block, (uint32_t)(target - capture->targets), &tail, process, "");
		count_packet(capture, (uint32_t)(target - capture->targets));
	}
	free(copy.blocks);
	free(copy.memory);
}

/* -- beginning and end -- */

static void capture_free(struct capture *capture)
{
	struct captures *captures = capture->captures;

	for (struct capture **place = &captures->first; *place; place = &(*place)->next) {
		if (*place == capture) {
			*place = capture->next;
			captures->packets += capture->taken;
			captures->lost += lost_of(capture);
			break;
		}
	}
	if (!captures->first)
		event_del(captures->timer);
	share_free(capture->share);
	engine_capture_close(capture->engine);
	expression_clear(&capture->ethernet);
	expression_clear(&capture->raw);
	free(capture->text);
	free(capture->id);
	free(capture->share_with);
	free(capture->targets);
	free(capture->scratch);
	free(capture->cursors);
	free(capture->processes);
	free(capture->chunk);
	if (capture->out)
		evbuffer_free(capture->out);
	free(capture);
}

/* As with a list whose reader goes away (api.c): a request that libevent has parted from its connection is
 * ours to end. */
static void on_closed(struct evhttp_connection *connection, void *context)
{
	struct capture *capture = context;
	struct evhttp_request *request = capture->request;

	(void)connection;
	capture_free(capture);
	if (!evhttp_request_get_connection(request))
		evhttp_send_reply_end(request);
}

/* Ends a capture as a person wants it to end: with its statistics. */
static void capture_end(struct capture *capture)
{
	struct evhttp_request *request = capture->request;
	struct evhttp_connection *connection = evhttp_request_get_connection(request);

	look_at_interfaces(capture, NULL);
	tell_statistics(capture);
	send_out(capture);
	if (connection)
		evhttp_connection_set_closecb(connection, NULL, NULL);
	capture_free(capture);
	evhttp_send_reply_end(request);
}

static void capture_go_on(struct capture *capture)
{
	uint64_t now_ns = agent_now_ns();

	if (now_ns - capture->looked_ns >= LOOK_NS) {
		capture->looked_ns = now_ns;
		set_clock(capture->view);
		if (!*capture->only)
			look_at_interfaces(capture, NULL);
	}
	/* only now: what happened before the capture began has come into the rings since */
	if (capture->before_ns)
		past_tell(capture);
	capture->before_ns = 0;
	if (capture->share)
		share_give_back(capture->share);
	if (backlog_of(capture) < BACKLOG_MAX)
		take(capture, (uint64_t)clock_ns(CLOCK_REALTIME) - SETTLE_NS);
	if (capture->done) {
		capture_end(capture);
		return;
	}
	if (now_ns - capture->told_ns >= STATISTICS_NS) {
		look_at_interfaces(capture, NULL);
		tell_statistics(capture);
	}
	send_out(capture);
}

static void on_poll(evutil_socket_t fd, short what, void *context)
{
	struct captures *captures = context;

	(void)fd;
	(void)what;
	for (struct capture *capture = captures->first, *next; capture; capture = next) {
		next = capture->next;
		capture_go_on(capture);
	}
}

/* -- questions -- */

static int read_number(const char *name, const char *text, uint64_t least, uint64_t most,
	uint64_t *ret_number, struct error *error)
{
	char *end;
	unsigned long long number;

	if (!text)
		return 0;
	errno = 0;
	number = strtoull(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || errno || number < least || number > most) {
		error_set(error, -EINVAL, "%s: '%s' is not such a number", name, text);
		return error_want(error, "%" PRIu64 " to %" PRIu64, least, most);
	}
	*ret_number = number;
	return 0;
}

static int read_place(const char *text, enum capture_place *ret_place, struct error *error)
{
	const char *near;

	for (enum capture_place place = 0; text && place < CAPTURE_PLACES; place++)
		if (strcmp(text, place_names[place]) == 0) {
			*ret_place = place;
			return 0;
		}
	if (!text)
		return 0;
	near = text_nearest(text, place_names);
	error_set(error, -EINVAL, "one cannot capture at '%s'", text);
	return near ? error_want(error, "did you mean '%s'?", near)
	            : error_want(error, "tc, xdp, socket or drop");
}

static int read_interface(struct capture *capture, const char *name, struct error *error)
{
	_cleanup_free_ struct engine_interface *interfaces = NULL;
	const char **names, *near;
	size_t count = 0;
	int r;

	if (!name)
		return 0;
	r = engine_interfaces(capture->captures->agent->engine, &interfaces, &count);
	if (r < 0)
		return error_set(error, r, "cannot list the interfaces: %s", strerror(-r));
	for (size_t i = 0; i < count; i++)
		if (strcmp(name, interfaces[i].name) == 0) {
			snprintf(capture->only, sizeof(capture->only), "%s", name);
			return 0;
		}
	names = calloc(count + 1, sizeof(*names));
	if (!names)
		return error_set(error, -ENOMEM, "out of memory");
	for (size_t i = 0; i < count; i++)
		names[i] = interfaces[i].name;
	near = text_nearest(name, names);
	free(names);
	error_set(error, -ENODEV, "there is no interface '%s'", name);
	return near ? error_want(error, "did you mean '%s'?", near) : error->code;
}

/* "user bob" */
static int read_owner(struct capture *capture, const char *text, struct error *error)
{
	const char *value = text ? strchr(text, ' ') : NULL;
	char *kind;
	int r;

	if (!text)
		return 0;
	if (!value) {
		error_set(error, -EINVAL, "'%s' does not name an owner", text);
		return error_want(error, "such as: user bob, pid 1, unit nginx, exe /usr/bin/curl");
	}
	kind = strndup(text, (size_t)(value - text));
	if (!kind)
		return error_set(error, -ENOMEM, "out of memory");
	r = owner_match_set(&capture->owner, kind, value + strspn(value, " "), error);
	free(kind);
	return r;
}

static int read_before(struct capture *capture, const char *text, struct error *error)
{
	if (!text)
		return 0;
	if (duration_parse(text, &capture->before_ns) < 0 || !capture->before_ns) {
		error_set(error, -EINVAL, "before: '%s' is not a time", text);
		return error_want(error, "such as 5s, 500ms, 1m");
	}
	if (capture->place != CAPTURE_TC) {
		error_set(error, -EINVAL, "packets are not kept at %s", place_names[capture->place]);
		return error_want(error, "tc");
	}
	if (!capture->captures->past.engine) {
		error_set(error, -EINVAL, "no packets are kept from before a capture");
		return error_want(error, "capture: {before: 16mb} in the configuration, beforehand");
	}
	return 0;
}

static int read_expression(struct capture *capture, char *text, struct error *error)
{
	capture->text = text ? text : strdup("");
	if (!capture->text)
		return error_set(error, -ENOMEM, "out of memory");
	return expression_compile(
		capture->text, EXPRESSION_ETHERNET, capture->snaplen, &capture->ethernet, error);
}

static int read_query(struct capture *capture, const char *query, struct error *error)
{
	static const char *const names[] = {
		"expression", "snaplen", "count", "at", "interface", "owner", "before", "id", "share", NULL};
	_cleanup_free_ char *snaplen_text = query_value(query, "snaplen");
	_cleanup_free_ char *count = query_value(query, "count");
	_cleanup_free_ char *at = query_value(query, "at");
	_cleanup_free_ char *interface = query_value(query, "interface");
	_cleanup_free_ char *owner = query_value(query, "owner");
	_cleanup_free_ char *before = query_value(query, "before");
	uint64_t snaplen = CAPTURE_SNAPLEN_MAX;
	int r = query_check(query, names, error);

	if (r == 0)
		r = read_number(
			"snaplen", snaplen_text, CAPTURE_SNAPLEN_MIN, CAPTURE_SNAPLEN_MAX, &snaplen, error);
	if (r == 0)
		r = read_number("count", count, 1, UINT64_MAX, &capture->limit, error);
	if (r == 0)
		r = read_place(at, &capture->place, error);
	if (r == 0)
		r = read_interface(capture, interface, error);
	if (r == 0)
		r = read_owner(capture, owner, error);
	if (r == 0)
		r = read_before(capture, before, error);
	capture->snaplen = (uint32_t)snaplen;
	if (r == 0)
		r = read_expression(capture, query_value(query, "expression"), error);
	capture->id = query_value(query, "id");
	capture->share_with = query_value(query, "share");
	return r;
}

static uint32_t ring_bytes(unsigned int cpus)
{
	uint32_t bytes = RINGS_BYTES / cpus;

	return bytes < RING_BYTES_MIN ? RING_BYTES_MIN : bytes > RING_BYTES_MAX ? RING_BYTES_MAX : bytes;
}

static int capture_begin(struct capture *capture, const char *query, struct error *error)
{
	struct agent *agent = capture->captures->agent;
	struct engine_capture_options options;
	size_t count = 0;
	int r;

	for (struct capture *other = capture->captures->first; other; other = other->next)
		count++;
	if (count >= CAPTURES_MAX) {
		error_set(error, -EBUSY, "%zu captures are at work already", count);
		return error_want(error, "end one of them first");
	}
	r = read_query(capture, query, error);
	if (r != 0)
		return r;
	options = (struct engine_capture_options){
		.place = capture->place,
		.snaplen = capture->snaplen,
		.ring_bytes = ring_bytes(engine_view(agent->engine)->cpus),
		.ethernet = *capture->text ? &capture->ethernet : NULL,
		.raw = *capture->text ? &capture->raw : NULL,
	};
	r = engine_capture_open(agent->engine, &options, &capture->engine, error);
	if (r < 0)
		return r;
	capture->view = engine_capture_view(capture->engine);
	capture->cursors = calloc(capture->view->cpus, sizeof(struct cursor));
	capture->out = evbuffer_new();
	capture->scratch = malloc(capture->snaplen + 16);
	if (!capture->cursors || !capture->out || !capture->scratch)
		return error_set(error, -ENOMEM, "out of memory");
	capture->begin_ns = (uint64_t)clock_ns(CLOCK_REALTIME);
	capture->looked_ns = capture->told_ns = agent_now_ns();
	set_clock(capture->view);
	/* of dropped packets each block is written anew; and who could write to the memory is to be trusted
	 */
	if (capture->share_with && capture->place != CAPTURE_DROP && request_uid(capture->request) == 0) {
		r = share_open(capture->engine, capture->share_with, &capture->share);
		if (r < 0)
			log_debug("sharing a capture with its client: %s", strerror(-r));
	}
	pcapng_section(capture->out);
	if (capture->place == CAPTURE_DROP && !*capture->only) {
		r = target_add(capture, &(struct engine_interface){.name = "none"}, error);
		if (r < 0)
			return r;
	}
	r = look_at_interfaces(capture, error);
	if (capture->before_ns)
		capture->from_ns = (uint64_t)clock_ns(CLOCK_REALTIME);
	return r;
}

static void reply_capture(struct agent *agent, struct evhttp_request *request)
{
	static const struct timeval poll = {0, POLL_MS * 1000};
	struct captures *captures = module_state(agent, &capture_module);
	struct capture *capture = calloc(1, sizeof(*capture));
	struct evhttp_connection *connection = evhttp_request_get_connection(request);
	struct bufferevent *stream = evhttp_connection_get_bufferevent(connection);
	struct error error = {};
	int size = SOCKET_BUFFER;

	if (!capture) {
		reply_failure(request, -ENOMEM);
		return;
	}
	capture->captures = captures;
	capture->request = request;
	if (capture_begin(capture, query_of(request), &error) < 0) {
		capture_free(capture);
		reply_bad_request(request, &error);
		return;
	}
	capture->next = captures->first;
	captures->first = capture;
	captures->captures++;
	event_add(captures->timer, &poll);
	evhttp_add_header(evhttp_request_get_output_headers(request), "Content-Type", "application/x-pcapng");
	evhttp_connection_set_closecb(connection, on_closed, capture);
	bufferevent_set_max_single_write(stream, BACKLOG_MAX);
	setsockopt(bufferevent_getfd(stream), SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
	evhttp_send_reply_start(request, HTTP_OK, "OK");
	send_out(capture); /* the headers leave now, so that the client knows that it is there */
}

static void reply_end(struct agent *agent, struct evhttp_request *request)
{
	static const char *const names[] = {"id", NULL};
	struct captures *captures = module_state(agent, &capture_module);
	_cleanup_free_ char *id = query_value(query_of(request), "id");
	struct error error = {};

	if (query_check(query_of(request), names, &error) < 0) {
		reply_bad_request(request, &error);
		return;
	}
	for (struct capture *capture = captures->first; capture; capture = capture->next) {
		if (!id || !capture->id || strcmp(id, capture->id) != 0)
			continue;
		take(capture, UINT64_MAX);
		capture_end(capture);
		reply_done(request, "ended");
		return;
	}
	error_set(&error, -ENOENT, "there is no capture with the id '%s'", id ? id : "");
	reply_error(request, HTTP_NOTFOUND, "Not Found", &error);
}

/* -- the module -- */

static void captures_close(void *state)
{
	struct captures *captures = state;

	for (struct capture *capture = captures->first, *next; capture; capture = next) {
		next = capture->next;
		take(capture, UINT64_MAX);
		capture_end(capture);
	}
	past_close(&captures->past);
	if (captures->timer)
		event_free(captures->timer);
	free(captures);
}

static void captures_reload(struct agent *agent, void *state)
{
	(void)agent;
	past_follow_config(state);
}

static void captures_tick(struct agent *agent, void *state, uint64_t now_ns)
{
	struct captures *captures = state;
	struct error error = {};

	(void)agent;
	(void)now_ns;
	if (!captures->past.engine)
		return;
	set_clock(engine_capture_view(captures->past.engine));
	if (past_watch(captures, &error) < 0)
		log_debug("capture.before: %s", error.what);
}

static int captures_open(struct agent *agent, void **ret_state, struct error *error)
{
	struct captures *captures = calloc(1, sizeof(*captures));

	if (!captures)
		return error_set(error, -ENOMEM, "out of memory");
	captures->agent = agent;
	captures->timer = event_new(agent->base, -1, EV_PERSIST, on_poll, captures);
	if (!captures->timer) {
		free(captures);
		return error_set(error, -ENOMEM, "out of memory");
	}
	past_follow_config(captures);
	*ret_state = captures;
	return 0;
}

static void captures_status(struct agent *agent, void *state, struct json_write *out)
{
	const struct captures *captures = state;

	(void)agent;
	json_write_array_begin(out, "captures");
	for (const struct capture *capture = captures->first; capture; capture = capture->next) {
		json_write_object_begin(out, NULL);
		json_write_string(out, "at", place_names[capture->place]);
		json_write_string(out, "expression", capture->text);
		json_write_number(out, "packets", capture->taken);
		json_write_number(out, "lost", lost_of(capture));
		json_write_boolean(out, "shared", capture->share);
		json_write_object_end(out);
	}
	json_write_array_end(out);
}

static void captures_metrics(struct agent *agent, void *state, struct evbuffer *out)
{
	const struct captures *captures = state;
	uint64_t running = 0, packets = captures->packets, lost = captures->lost;

	(void)agent;
	for (const struct capture *capture = captures->first; capture; capture = capture->next) {
		running++;
		packets += capture->taken;
		lost += lost_of(capture);
	}
	evbuffer_add_printf(out,
		"# HELP weir_captures Captures at work.\n# TYPE weir_captures gauge\nweir_captures %" PRIu64
		"\n"
		"# HELP weir_captures_total Captures begun.\n# TYPE weir_captures_total counter\n"
		"weir_captures_total %" PRIu64 "\n"
		"# HELP weir_capture_packets_total Packets handed to whoever captured.\n"
		"# TYPE weir_capture_packets_total counter\nweir_capture_packets_total %" PRIu64 "\n"
		"# HELP weir_capture_bytes_total Bytes of pcapng handed to whoever captured.\n"
		"# TYPE weir_capture_bytes_total counter\nweir_capture_bytes_total %" PRIu64 "\n"
		"# HELP weir_capture_lost_total Packets that were to be captured and found no room.\n"
		"# TYPE weir_capture_lost_total counter\nweir_capture_lost_total %" PRIu64 "\n",
		running, captures->captures, packets, captures->bytes, lost);
}

static const struct route routes[] = {
	{"/v1/capture", EVHTTP_REQ_POST, reply_capture},
	{"/v1/capture/end", EVHTTP_REQ_POST, reply_end},
	{NULL},
};

const struct module capture_module = {
	.name = "capture",
	.open = captures_open,
	.close = captures_close,
	.reload = captures_reload,
	.tick = captures_tick,
	.status = captures_status,
	.metrics = captures_metrics,
	.routes = routes,
};

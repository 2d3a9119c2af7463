// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* The last packets, always kept, for captures that ask for what was before them (capture.before). */
#include <stdlib.h>
#include <string.h>

#include "agent/capture/captures_internal.h"
#include "basic/cleanup.h"

void capture_past_close(struct capture_past *past)
{
	engine_capture_close(past->engine);
	free(past->interfaces);
	*past = (struct capture_past){};
}

int capture_past_watch(struct captures *captures, struct error *error)
{
	struct capture_past *past = &captures->past;
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

void capture_past_follow_config(struct captures *captures)
{
	const struct config *config = &captures->agent->config;
	struct capture_past *past = &captures->past;
	struct engine_capture_options options = {
		.place = CAPTURE_TC,
		.snaplen = config->capture_snaplen,
		.overwrites = true,
	};
	struct error error = {};

	if (past->engine && past->bytes == config->capture_before && past->snaplen == config->capture_snaplen)
		return;
	capture_past_close(past);
	if (!config->capture_before)
		return;
	options.ring_bytes = config->capture_before / engine_view(captures->agent->engine)->cpus;
	if (engine_capture_open(captures->agent->engine, &options, &past->engine, &error) < 0) {
		error_print(&error, "weir: capture.before: ", stderr);
		return;
	}
	past->bytes = config->capture_before;
	past->snaplen = config->capture_snaplen;
	capture_set_clock(engine_capture_view(past->engine));
	if (capture_past_watch(captures, &error) < 0)
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

		if (capture_block_time(block) >= from_ns && capture_block_time(block) < to_ns) {
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
		uint32_t used = (uint32_t)__atomic_load_n(&segment->filled, __ATOMIC_ACQUIRE);
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
	uint64_t one = capture_block_time(*(struct capture_block *const *)a);
	uint64_t two = capture_block_time(*(struct capture_block *const *)b);

	return one < two ? -1 : one > two;
}

void capture_past_tell(struct capture *capture)
{
	const struct capture_past *past = &capture->captures->past;
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
		struct capture_block_tail tail = capture_block_tail(block);
		const struct capture_target *target =
			block->interface < past->count
				? capture_target_find(capture, past->interfaces[block->interface])
				: NULL;
		const struct capture_process *process;

		if (!target ||
			!capture_expression_fits(capture, block, target->link, target->index,
				tail.flags->value == CAPTURE_FLAG_OUT) ||
			!capture_owner_wanted(capture, &tail, &process))
			continue;
		capture_rewrite(capture, block, (uint32_t)(target - capture->targets), &tail, process, "");
		capture_count(capture, (uint32_t)(target - capture->targets), 1);
	}
	free(copy.blocks);
	free(copy.memory);
}

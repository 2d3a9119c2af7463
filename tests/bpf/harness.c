// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "bpf/harness.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int quiet(enum libbpf_print_level level, const char *format, va_list arguments)
{
	(void)level;
	(void)format;
	(void)arguments;
	return 0;
}

static void *map_memory(struct bpf_map *map, size_t bytes)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, bpf_map__fd(map), 0);

	return memory == MAP_FAILED ? NULL : memory;
}

int harness_open(struct harness *harness, uint32_t lines, uint32_t ring_bytes)
{
	struct watch_bpf *watch;
	int cpus = libbpf_num_possible_cpus();

	libbpf_set_strict_mode(LIBBPF_STRICT_ALL);
	libbpf_set_print(quiet);
	watch = watch_bpf__open();
	if (!watch || cpus < 1)
		return -1;
	*harness = (struct harness){.watch = watch, .cpus = (unsigned int)cpus, .lines = lines};
	watch->rodata->flow_sets4 = watch->rodata->flow_sets6 = lines / FLOW_WAYS;
	watch->rodata->flow_seed[0] = 0x9e3779b97f4a7c15ULL;
	watch->rodata->flow_seed[1] = 0xc2b2ae3d27d4eb4fULL;
	watch->rodata->flow_ring_bytes = ring_bytes;
	bpf_map__set_max_entries(watch->maps.flow_cache4, harness->cpus * lines / FLOW_WAYS);
	bpf_map__set_max_entries(watch->maps.flow_cache6, harness->cpus * lines / FLOW_WAYS);
	bpf_map__set_max_entries(watch->maps.flow_rest6, harness->cpus * lines / FLOW_WAYS);
	bpf_map__set_max_entries(watch->maps.flow_stats, harness->cpus);
	bpf_map__set_max_entries(watch->maps.flow_rings, harness->cpus);
	if (watch_bpf__load(watch) < 0) {
		printf("# the programs cannot be loaded: %s (root, CAP_BPF and CAP_NET_ADMIN are needed)\n",
			strerror(errno));
		return -1;
	}
	harness->cache4 = map_memory(
		watch->maps.flow_cache4, (size_t)harness->cpus * lines * sizeof(struct flow_line4));
	harness->cache6 = map_memory(
		watch->maps.flow_cache6, (size_t)harness->cpus * lines * sizeof(struct flow_line6));
	harness->rest6 =
		map_memory(watch->maps.flow_rest6, (size_t)harness->cpus * lines * sizeof(struct flow_rest6));
	harness->stats = map_memory(watch->maps.flow_stats, harness->cpus * sizeof(struct flow_stats));
	harness->rings = calloc(harness->cpus, sizeof(int));
	if (!harness->cache4 || !harness->cache6 || !harness->rest6 || !harness->stats || !harness->rings)
		return -1;
	for (unsigned int cpu = 0; cpu < harness->cpus; cpu++) {
		harness->rings[cpu] =
			bpf_map_create(BPF_MAP_TYPE_RINGBUF, "test_ring", 0, 0, ring_bytes, NULL);
		if (harness->rings[cpu] < 0 || bpf_map_update_elem(bpf_map__fd(watch->maps.flow_rings), &cpu,
						       &harness->rings[cpu], BPF_ANY))
			return -1;
	}
	return 0;
}

void harness_close(struct harness *harness)
{
	munmap(harness->cache4, (size_t)harness->cpus * harness->lines * sizeof(struct flow_line4));
	munmap(harness->cache6, (size_t)harness->cpus * harness->lines * sizeof(struct flow_line6));
	munmap(harness->rest6, (size_t)harness->cpus * harness->lines * sizeof(struct flow_rest6));
	munmap(harness->stats, harness->cpus * sizeof(struct flow_stats));
	for (unsigned int cpu = 0; cpu < harness->cpus; cpu++)
		close(harness->rings[cpu]);
	free(harness->rings);
	watch_bpf__destroy(harness->watch);
}

void harness_clear(struct harness *harness)
{
	memset(harness->cache4, 0, (size_t)harness->cpus * harness->lines * sizeof(struct flow_line4));
	memset(harness->cache6, 0, (size_t)harness->cpus * harness->lines * sizeof(struct flow_line6));
	memset(harness->rest6, 0, (size_t)harness->cpus * harness->lines * sizeof(struct flow_rest6));
	memset(harness->stats, 0, harness->cpus * sizeof(struct flow_stats));
}

int harness_run(struct harness *harness, const struct bpf_program *program, const uint8_t *packet,
	size_t size, const struct harness_context *context)
{
	struct __sk_buff skb = {};
	LIBBPF_OPTS(
		bpf_test_run_opts, options, .data_in = packet, .data_size_in = (uint32_t)size, .repeat = 1);

	(void)harness;
	if (context) {
		skb.gso_segs = context->gso_segs;
		skb.gso_size = context->gso_size;
		skb.wire_len = context->wire_len;
		options.ctx_in = &skb;
		options.ctx_size_in = sizeof(skb);
	}
	if (bpf_prog_test_run_opts(bpf_program__fd(program), &options) < 0)
		return -errno - 1000; /* no verdict is there */
	return (int)options.retval;
}

static struct harness_line bring4(const struct flow_line4 *line)
{
	struct harness_line brought = {
		.sport = ntohs(line->sport),
		.dport = ntohs(line->dport),
		.vlan = line->vlan,
		.ifindex = line->ifindex,
		.serial = line->serial,
		.proto = line->proto,
		.kind = line->kind,
		.counts = line->counts,
		.marks = line->marks,
		.first = line->first,
	};

	memcpy(brought.src, &line->src, 4);
	memcpy(brought.dst, &line->dst, 4);
	return brought;
}

static struct harness_line bring6(const struct flow_line6 *line, const struct flow_rest6 *rest)
{
	struct harness_line brought = {
		.sport = ntohs(line->sport),
		.dport = ntohs(line->dport),
		.vlan = line->vlan,
		.ifindex = line->ifindex,
		.serial = rest->serial,
		.proto = line->proto,
		.kind = line->kind,
		.counts = line->counts,
		.marks = line->marks,
		.first = rest->first,
	};

	memcpy(brought.src, line->src, 16);
	memcpy(brought.dst, line->dst, 16);
	return brought;
}

static size_t walk(const struct harness *harness, struct harness_line *ret_last)
{
	size_t lines = (size_t)harness->cpus * harness->lines, used = 0;
	uint32_t newest = 0;

	for (size_t i = 0; i < lines; i++) {
		const struct flow_line4 *line4 = &harness->cache4[i / FLOW_WAYS].line[i % FLOW_WAYS];
		const struct flow_line6 *line6 = &harness->cache6[i / FLOW_WAYS].line[i % FLOW_WAYS];
		const struct flow_rest6 *rest6 = &harness->rest6[i / FLOW_WAYS].line[i % FLOW_WAYS];

		used += (line4->serial != 0) + (rest6->serial != 0);
		if (line4->serial > newest) {
			newest = line4->serial;
			*ret_last = bring4(line4);
		}
		if (rest6->serial > newest) {
			newest = rest6->serial;
			*ret_last = bring6(line6, rest6);
		}
	}
	return used;
}

bool harness_last(const struct harness *harness, struct harness_line *ret_line)
{
	return walk(harness, ret_line) > 0;
}

size_t harness_lines(const struct harness *harness)
{
	struct harness_line last;

	return walk(harness, &last);
}

struct flow_stats harness_stats(const struct harness *harness)
{
	struct flow_stats sum = {};

	for (unsigned int cpu = 0; cpu < harness->cpus; cpu++) {
		sum.seen += harness->stats[cpu].seen;
		sum.cached += harness->stats[cpu].cached;
		sum.emitted += harness->stats[cpu].emitted;
		sum.lost += harness->stats[cpu].lost;
		sum.lost_bytes += harness->stats[cpu].lost_bytes;
		sum.records += harness->stats[cpu].records;
		for (int i = 0; i < PARSE_REASON_MAX; i++)
			sum.reasons[i] += harness->stats[cpu].reasons[i];
	}
	return sum;
}

size_t harness_hex(const char *text, uint8_t *ret_packet, size_t room)
{
	size_t digits = 0;

	for (; *text && digits < room * 2; text++) {
		uint8_t value;

		if (isspace((unsigned char)*text))
			continue;
		value = (uint8_t)(isdigit((unsigned char)*text) ? *text - '0' : tolower(*text) - 'a' + 10);
		if (digits % 2)
			ret_packet[digits / 2] |= value;
		else
			ret_packet[digits / 2] = (uint8_t)(value << 4);
		digits++;
	}
	return digits / 2;
}

// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "lib/services.h"

#include <errno.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "basic/address.h"

static void die(const char *what)
{
	fprintf(stderr, "services: %s: %s\n", what, strerror(errno));
	exit(1);
}

__attribute__((format(printf, 2, 0))) static int quiet(
	enum libbpf_print_level level, const char *format, va_list arguments)
{
	if (getenv("SERVICES_VERBOSE"))
		vfprintf(stderr, format, arguments);
	(void)level;
	return 0;
}

static void *map_memory(struct bpf_map *map, size_t bytes)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, bpf_map__fd(map), 0);

	if (memory == MAP_FAILED)
		die("mmap");
	return memory;
}

static void rings_make(const struct services *services, uint32_t ring_bytes)
{
	for (unsigned int cpu = 0; cpu < services->cpus; cpu++) {
		int ring = bpf_map_create(BPF_MAP_TYPE_RINGBUF, "test_ring", 0, 0, ring_bytes, NULL);

		if (ring < 0 || bpf_map_update_elem(bpf_map__fd(services->balance->maps.flow_rings), &cpu,
					&ring, BPF_ANY))
			die("ring");
		close(ring);
	}
}

static void program_put(const struct services *services, __u32 place, const struct bpf_program *program)
{
	int fd = bpf_program__fd(program);

	if (bpf_map_update_elem(bpf_map__fd(services->balance->maps.service_programs), &place, &fd, BPF_ANY) <
		0)
		die("service_programs");
}

int services_open(struct services *services, uint32_t lines, uint32_t ring_bytes)
{
	return services_open_large(services, lines, lines, ring_bytes, SERVICE_FLOWS_DEFAULT);
}

int services_open_large(
	struct services *services, uint32_t lines4, uint32_t lines6, uint32_t ring_bytes, uint32_t flows)
{
	int cpus = libbpf_num_possible_cpus();
	struct balance_bpf *balance;
	uint32_t sets4, sets6;
	struct timespec tick;

	libbpf_set_strict_mode(LIBBPF_STRICT_ALL);
	libbpf_set_print(quiet);
	balance = balance_bpf__open();
	if (!balance || cpus < 1)
		return -1;
	sets4 = (uint32_t)cpus * lines4 / FLOW_WAYS;
	sets6 = (uint32_t)cpus * lines6 / FLOW_WAYS;
	*services = (struct services){
		.balance = balance, .cpus = (unsigned int)cpus, .lines4 = lines4, .lines6 = lines6};
	balance->rodata->flow_sets4 = lines4 / FLOW_WAYS;
	balance->rodata->flow_sets6 = lines6 / FLOW_WAYS;
	balance->rodata->flow_seed[0] = 0x9e3779b97f4a7c15ULL;
	balance->rodata->flow_seed[1] = 0xc2b2ae3d27d4eb4fULL;
	balance->rodata->flow_ring_bytes = ring_bytes;
	clock_getres(CLOCK_MONOTONIC_COARSE, &tick);
	balance->rodata->service_second = (__u32)(1000000000 / tick.tv_nsec);
	bpf_map__set_max_entries(balance->maps.flow_cache4, sets4);
	bpf_map__set_max_entries(balance->maps.flow_cache6, sets6);
	bpf_map__set_max_entries(balance->maps.flow_rest6, sets6);
	bpf_map__set_max_entries(balance->maps.flow_stats, services->cpus);
	bpf_map__set_max_entries(balance->maps.flow_rings, services->cpus);
	bpf_map__set_max_entries(balance->maps.service_counts, services->cpus * SERVICE_BACKENDS_MAX);
	bpf_map__set_max_entries(balance->maps.service_losses, services->cpus * SERVICES_MAX);
	bpf_map__set_max_entries(balance->maps.service_flows, flows);
	if (unshare(CLONE_NEWNET) < 0 || balance_bpf__load(balance) < 0) {
		printf("# the programs cannot be loaded: %s (root, CAP_BPF and CAP_NET_ADMIN are needed)\n",
			strerror(errno));
		return -1;
	}
	services->cache4 = map_memory(balance->maps.flow_cache4, sets4 * sizeof(struct flow_set4));
	services->cache6 = map_memory(balance->maps.flow_cache6, sets6 * sizeof(struct flow_set6));
	services->rest6 = map_memory(balance->maps.flow_rest6, sets6 * sizeof(struct flow_rest_set6));
	services->stats = map_memory(balance->maps.flow_stats, services->cpus * sizeof(struct flow_stats));
	services->backends = map_memory(
		balance->maps.service_backends, SERVICE_BACKENDS_MAX * sizeof(struct service_backend));
	services->sources = map_memory(
		balance->maps.service_sources, SERVICE_BACKENDS_MAX * sizeof(struct service_source));
	services->loads =
		map_memory(balance->maps.service_loads, SERVICE_BACKENDS_MAX * sizeof(struct service_load));
	services->counts = map_memory(balance->maps.service_counts,
		(size_t)services->cpus * SERVICE_BACKENDS_MAX * sizeof(struct service_count));
	services->losses = map_memory(balance->maps.service_losses,
		(size_t)services->cpus * SERVICES_MAX * sizeof(struct service_lost));
	services->now = map_memory(balance->maps.policy_now, sizeof(struct policy_now));
	rings_make(services, ring_bytes);
	program_put(services, SERVICE_PROGRAM_LONG, balance->progs.balance_long);
	return 0;
}

int services_nat(struct services *services, const struct service_answers *answers, size_t count)
{
	struct nat_bpf *nat = nat_bpf__open();
	struct bpf_map *map;

	if (!nat)
		return -1;
	nat->rodata->flow_sets4 = services->lines4 / FLOW_WAYS;
	nat->rodata->flow_sets6 = services->lines6 / FLOW_WAYS;
	nat->rodata->flow_seed[0] = services->balance->rodata->flow_seed[0];
	nat->rodata->flow_seed[1] = services->balance->rodata->flow_seed[1];
	nat->rodata->nat_line_mask = services->lines4 - 1;
	bpf_map__set_max_entries(nat->maps.nat_lines, services->cpus * services->lines4);
	nat->rodata->flow_ring_bytes = services->balance->rodata->flow_ring_bytes;
	nat->rodata->service_second = services->balance->rodata->service_second;
	bpf_object__for_each_map (map, nat->obj) {
		const struct bpf_map *shared =
			bpf_object__find_map_by_name(services->balance->obj, bpf_map__name(map));

		if (shared && bpf_map__reuse_fd(map, bpf_map__fd(shared)) < 0)
			die("reuse_fd");
	}
	if (nat_bpf__load(nat) < 0) {
		nat_bpf__destroy(nat);
		return -1;
	}
	services->nat = nat;
	services->answers = answers;
	services->answer_count = count;
	services_programs(services, ~0U);
	return 0;
}

int services_tc(struct services *services)
{
	struct balance_tc_bpf *tc = balance_tc_bpf__open();
	struct bpf_map *map;

	if (!tc)
		return -1;
	tc->rodata->flow_sets4 = services->lines4 / FLOW_WAYS;
	tc->rodata->flow_sets6 = services->lines6 / FLOW_WAYS;
	tc->rodata->flow_seed[0] = services->balance->rodata->flow_seed[0];
	tc->rodata->flow_seed[1] = services->balance->rodata->flow_seed[1];
	tc->rodata->flow_ring_bytes = services->balance->rodata->flow_ring_bytes;
	tc->rodata->service_second = services->balance->rodata->service_second;
	bpf_object__for_each_map (map, tc->obj) {
		const struct bpf_map *shared =
			bpf_object__find_map_by_name(services->balance->obj, bpf_map__name(map));

		if (shared && !bpf_map__is_internal(map) && bpf_map__reuse_fd(map, bpf_map__fd(shared)) < 0)
			die("reuse_fd");
	}
	if (balance_tc_bpf__load(tc) < 0) {
		balance_tc_bpf__destroy(tc);
		return -1;
	}
	services->tc = tc;
	return 0;
}

void services_programs(const struct services *services, unsigned int places)
{
	const struct bpf_program *programs[SERVICE_PROGRAMS] = {
		[SERVICE_PROGRAM_LONG] = services->balance->progs.balance_long,
		[SERVICE_PROGRAM_NAT] = services->nat->progs.nat,
		[SERVICE_PROGRAM_ANSWER] = services->nat->progs.nat_answer,
		[SERVICE_PROGRAM_NAT_QUICK] = services->nat->progs.nat_quick,
		[SERVICE_PROGRAM_ANSWER_QUICK] = services->nat->progs.nat_answer_quick,
	};

	for (__u32 place = 0; place < SERVICE_PROGRAMS; place++)
		if (places & 1U << place)
			program_put(services, place, programs[place]);
		else
			bpf_map_delete_elem(bpf_map__fd(services->balance->maps.service_programs), &place);
}

void services_close(struct services *services)
{
	balance_tc_bpf__destroy(services->tc);
	nat_bpf__destroy(services->nat);
	balance_bpf__destroy(services->balance);
}

void services_nat_forget(const struct services *services)
{
	static const uint8_t zero[64];
	uint32_t count = services->nat ? services->cpus * services->lines4 : 0;

	for (uint32_t i = 0; i < count; i++)
		if (bpf_map_update_elem(bpf_map__fd(services->nat->maps.nat_lines), &i, zero, BPF_ANY) < 0)
			die("nat_lines");
}

void services_clear(struct services *services)
{
	size_t sets4 = (size_t)services->cpus * services->lines4 / FLOW_WAYS;
	size_t sets6 = (size_t)services->cpus * services->lines6 / FLOW_WAYS;

	services_nat_forget(services);
	memset(services->cache4, 0, sets4 * sizeof(struct flow_set4));
	memset(services->cache6, 0, sets6 * sizeof(struct flow_set6));
	memset(services->rest6, 0, sets6 * sizeof(struct flow_rest_set6));
	memset(services->stats, 0, services->cpus * sizeof(struct flow_stats));
	memset(services->counts, 0,
		(size_t)services->cpus * SERVICE_BACKENDS_MAX * sizeof(struct service_count));
	memset(services->losses, 0, (size_t)services->cpus * SERVICES_MAX * sizeof(struct service_lost));
}

void services_text(struct service_text *text, const char *name, int proto, const char *prefix, uint16_t low,
	uint16_t high, enum service_deliver deliver)
{
	*text = (struct service_text){
		.protocol = proto, .any_port = !low, .ports = {low, high}, .deliver = deliver};
	snprintf(text->name, sizeof(text->name), "%s", name);
	if (prefix_parse(prefix, &text->prefix) < 0) {
		fprintf(stderr, "services: %s\n", prefix);
		exit(1);
	}
	text->gue_port = SERVICE_GUE_PORT;
}

struct policy_unit *services_memory(struct bpf_map *outer, uint32_t place, uint32_t units)
{
	LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = BPF_F_MMAPABLE);
	int map = bpf_map_create(BPF_MAP_TYPE_ARRAY, "test", 4, sizeof(struct policy_unit), units, &options);
	struct policy_unit *memory;

	if (map < 0 || bpf_map_update_elem(bpf_map__fd(outer), &place, &map, BPF_ANY) < 0)
		die("map");
	memory = mmap(NULL, units * sizeof(*memory), PROT_READ | PROT_WRITE, MAP_SHARED, map, 0);
	if (memory == MAP_FAILED)
		die("mmap");
	close(map);
	return memory;
}

void services_book(
	struct services *services, uint32_t place, const struct service_input *inputs, size_t count)
{
	struct service_image image;
	struct policy_unit *units;
	struct error error = {};

	if (service_compile(inputs, count, services->answers, services->answer_count, 1, &image, &error) <
		0) {
		fprintf(stderr, "services: %s\n", error.what);
		exit(1);
	}
	units = services_memory(services->balance->maps.service_books, place, SERVICE_BOOK_UNITS);
	memcpy(units, image.units, image.count * sizeof(*units));
	munmap(units, SERVICE_BOOK_UNITS * sizeof(*units));
	free(image.units);
}

void services_place(struct services *services, uint32_t place)
{
	services->now->places = (uint64_t)place << SERVICE_PLACE;
}

void services_ring(struct services *services, uint32_t number, const uint16_t *slots, uint32_t count)
{
	struct policy_unit *units =
		services_memory(services->balance->maps.service_rings, number, SERVICE_RING_UNITS);

	memcpy(units, slots, count * sizeof(*slots));
	munmap(units, SERVICE_RING_UNITS * sizeof(*units));
}

void services_backend(struct services *services, uint32_t number, uint32_t service, const char *address)
{
	struct service_backend *backend = &services->backends[number];
	struct address parsed;

	if (address_parse(address, &parsed) < 0) {
		fprintf(stderr, "services: %s\n", address);
		exit(1);
	}
	*backend = (struct service_backend){
		.family = parsed.family,
		.state = SERVICE_BACKEND_UP,
		.generation = number,
		.service = service,
		.ifindex = 1, /* lo, where test runs come in */
		.hop = SERVICE_HOP_KNOWN,
		.dmac = {0, 0, 0xde, 0xad, 0xbe, 0xaf},
		.smac = {2, 0, 0, 0, 0, 0},
	};
	memcpy(backend->address, parsed.bytes, sizeof(backend->address));
	services->loads[number] = (struct service_load){.weight = 1};
}

struct service_count services_count(const struct services *services, uint32_t backend)
{
	struct service_count sum = {};

	for (unsigned int cpu = 0; cpu < services->cpus; cpu++) {
		const struct service_count *count =
			&services->counts[(size_t)cpu * SERVICE_BACKENDS_MAX + backend];

		sum.packets += count->packets;
		sum.bytes += count->bytes;
		sum.answer_packets += count->answer_packets;
		sum.answer_bytes += count->answer_bytes;
		sum.connections += count->connections;
		sum.ended += count->ended;
		sum.icmp += count->icmp;
	}
	return sum;
}

struct service_lost services_lost(const struct services *services, uint32_t service)
{
	struct service_lost sum = {};

	for (unsigned int cpu = 0; cpu < services->cpus; cpu++) {
		const struct service_lost *lost = &services->losses[(size_t)cpu * SERVICES_MAX + service];

		for (int i = 0; i < SERVICE_LOSSES; i++)
			sum.packets[i] += lost->packets[i];
		sum.told += lost->told;
		sum.answered += lost->answered;
		sum.kept += lost->kept;
	}
	return sum;
}

struct flow_stats services_stats(const struct services *services)
{
	struct flow_stats sum = {};

	for (unsigned int cpu = 0; cpu < services->cpus; cpu++) {
		sum.seen += services->stats[cpu].seen;
		sum.cached += services->stats[cpu].cached;
		sum.emitted += services->stats[cpu].emitted;
		sum.lost += services->stats[cpu].lost;
		sum.lost_bytes += services->stats[cpu].lost_bytes;
		sum.records += services->stats[cpu].records;
		sum.serial += services->stats[cpu].serial;
	}
	return sum;
}

int services_records(const struct services *services, unsigned int cpu)
{
	__u32 id;
	int ring = -1;

	if (bpf_map_lookup_elem(bpf_map__fd(services->balance->maps.flow_rings), &cpu, &id) == 0)
		ring = bpf_map_get_fd_by_id(id);
	if (ring < 0)
		die("ring");
	return ring;
}

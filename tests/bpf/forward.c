// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Frames through the real program that forwards: what it sends on and how it looks then, what it leaves to
 * the stack untouched, and what a switch remembers. */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <cmocka.h>
#include <linux/bpf.h>
#include <linux/if_link.h>

#include "forward.skel.h"
#include "shared/flow.h"
#include "shared/forward.h"
#include "shared/policy.h"

#define SETS      256
#define FRAME_MAX 2048
#define NUMBER    3 /* of the sentence */
#define RULE      77
#define AGE       1000000 /* ticks */

static struct forward_bpf *program;
static struct forward_count *counts;
static struct policy_now *in_force;
static unsigned int cpus, in, out;

struct frame {
	uint8_t bytes[FRAME_MAX];
	uint32_t length;
	int verdict;
};

static void *memory_map(const struct bpf_map *map, size_t bytes)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, bpf_map__fd(map), 0);

	assert_ptr_not_equal(memory, MAP_FAILED);
	return memory;
}

/* -- a host with two interfaces, routes and neighbours -- */

static const char host[] = "exec 2>/dev/null; set -e\n"
			   "ip link add in0 address 02:00:00:00:01:01 type veth peer name in1\n"
			   "ip link add out0 address 02:00:00:00:02:01 type veth peer name out1\n"
			   /* the program is attached: nothing may come in but what the tests send */
			   "for i in in1 out1; do echo 1 >/proc/sys/net/ipv6/conf/$i/disable_ipv6; done\n"
			   "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1\n"
			   "for i in in0 in1 out0 out1; do ip link set $i up; done\n"
			   "ip addr add 10.1.0.1/24 dev in0; ip addr add 10.2.0.1/24 dev out0\n"
			   "ip addr add fd00:1::1/64 dev in0 nodad; ip addr add fd00:2::1/64 dev out0 nodad\n"
			   "ip neigh add 10.2.0.2 lladdr 02:00:00:00:02:02 dev out0 nud permanent\n"
			   "ip neigh add fd00:2::2 lladdr 02:00:00:00:02:02 dev out0 nud permanent\n";

static int program_load(void)
{
	int number = libbpf_num_possible_cpus();

	libbpf_set_strict_mode(LIBBPF_STRICT_ALL);
	libbpf_set_print(NULL);
	program = forward_bpf__open();
	if (!program || number < 1)
		return -1;
	cpus = (unsigned int)number;
	program->rodata->flow_sets4 = program->rodata->flow_sets6 = SETS;
	program->rodata->flow_seed[0] = 0x9e3779b97f4a7c15ULL;
	program->rodata->flow_seed[1] = 0xc2b2ae3d27d4eb4fULL;
	program->rodata->forward_age_ticks = AGE;
	bpf_map__set_max_entries(program->maps.flow_cache4, cpus * SETS);
	bpf_map__set_max_entries(program->maps.flow_cache6, cpus * SETS);
	bpf_map__set_max_entries(program->maps.flow_rest6, cpus * SETS);
	bpf_map__set_max_entries(program->maps.flow_stats, cpus);
	bpf_map__set_max_entries(program->maps.flow_rings, cpus);
	bpf_map__set_max_entries(program->maps.forward_counts, cpus * FORWARD_NUMBERS);
	return forward_bpf__load(program);
}

static int all_open(void **state)
{
	(void)state;
	if (unshare(CLONE_NEWNET) < 0 || program_load() < 0 || system(host) != 0) {
		printf("# the program cannot be loaded: %s (root, CAP_BPF and CAP_NET_ADMIN are needed)\n",
			strerror(errno));
		program = NULL;
		return 0;
	}
	in = if_nametoindex("in0");
	out = if_nametoindex("out0");
	/* test runs come in only where XDP is in use */
	assert_int_equal(
		bpf_xdp_attach((int)in, bpf_program__fd(program->progs.forward), XDP_FLAGS_DRV_MODE, NULL),
		0);
	assert_int_equal(
		bpf_xdp_attach((int)out, bpf_program__fd(program->progs.forward), XDP_FLAGS_DRV_MODE, NULL),
		0);
	counts = memory_map(program->maps.forward_counts, (size_t)cpus * FORWARD_NUMBERS * sizeof(*counts));
	in_force = memory_map(program->maps.policy_now, sizeof(*in_force));
	return 0;
}

static int all_close(void **state)
{
	(void)state;
	forward_bpf__destroy(program);
	return 0;
}

static void port_write(unsigned int index, uint32_t place, enum forward_way way, uint32_t to)
{
	const struct forward_key key = {index, place};
	struct forward_port port = {.rule = RULE, .to = to, .number = NUMBER, .way = (uint8_t)way};

	memcpy(port.mac, (const uint8_t[]){2, 0, 0, 0, index == in ? 1 : 2, 1}, 6);
	assert_int_equal(
		bpf_map_update_elem(bpf_map__fd(program->maps.forward_ports), &key, &port, BPF_ANY), 0);
}

static int test_begin(void **state)
{
	(void)state;
	if (!program) {
		skip();
		return 0;
	}
	memset(counts, 0, (size_t)cpus * FORWARD_NUMBERS * sizeof(*counts));
	memset(in_force, 0, sizeof(*in_force));
	port_write(in, 0, FORWARD_BY_ROUTE, 0);
	assert_int_equal(
		bpf_map_update_elem(bpf_map__fd(program->maps.forward_targets), &out, &out, BPF_ANY), 0);
	return 0;
}

static struct forward_count counted(void)
{
	struct forward_count sum = {};

	for (unsigned int cpu = 0; cpu < cpus; cpu++) {
		const struct forward_count *count = &counts[cpu * FORWARD_NUMBERS + NUMBER];

		sum.packets += count->packets;
		sum.bytes += count->bytes;
		sum.passed += count->passed;
		sum.flooded += count->flooded;
		sum.filtered += count->filtered;
		sum.moved += count->moved;
		sum.last = count->last > sum.last ? count->last : sum.last;
	}
	return sum;
}

static struct flow_stats stats(void)
{
	struct flow_stats sum = {}, one;

	for (uint32_t cpu = 0; cpu < cpus; cpu++) {
		assert_int_equal(bpf_map_lookup_elem(bpf_map__fd(program->maps.flow_stats), &cpu, &one), 0);
		sum.seen += one.seen;
		sum.cached += one.cached;
		sum.emitted += one.emitted;
		sum.lost += one.lost;
	}
	return sum;
}

static struct frame run_on(unsigned int index, const struct frame *frame)
{
	struct xdp_md context = {.data_end = frame->length, .ingress_ifindex = index};
	struct frame after = {};
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame->bytes, .data_size_in = frame->length,
		.data_out = after.bytes, .data_size_out = sizeof(after.bytes), .ctx_in = &context,
		.ctx_size_in = sizeof(context), .repeat = 1);

	assert_int_equal(bpf_prog_test_run_opts(bpf_program__fd(program->progs.forward), &options), 0);
	after.length = options.data_size_out;
	after.verdict = (int)options.retval;
	return after;
}

/* -- frames -- */

static uint16_t sum_of(const uint8_t *bytes, size_t length)
{
	uint32_t sum = 0;

	for (size_t i = 0; i < length; i += 2)
		sum += (uint32_t)bytes[i] << 8 | bytes[i + 1];
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t) ~((sum & 0xffff) + (sum >> 16));
}

static void sum_write(struct frame *frame)
{
	uint16_t sum;

	frame->bytes[24] = frame->bytes[25] = 0;
	sum = sum_of(frame->bytes + 14, 20);
	frame->bytes[24] = (uint8_t)(sum >> 8);
	frame->bytes[25] = (uint8_t)sum;
}

static void link_write(struct frame *frame, uint16_t ethertype)
{
	static const uint8_t macs[] = {2, 0, 0, 0, 1, 1, 2, 0, 0, 0, 1, 2};

	memcpy(frame->bytes, macs, sizeof(macs));
	frame->bytes[12] = (uint8_t)(ethertype >> 8);
	frame->bytes[13] = (uint8_t)ethertype;
}

/* UDP from 10.1.0.2 to 10.2.0.2; `bytes` from the network header on. */
static struct frame frame4(uint16_t bytes)
{
	static const uint8_t header[] = {0x45, 0x28, 0, 0, 0, 1, 0, 0, 64, 17, 0, 0, 10, 1, 0, 2, 10, 2, 0, 2,
		0x13, 0x88, 0, 9, 0, 26};
	struct frame frame = {.length = 14U + bytes};

	link_write(&frame, 0x0800);
	memcpy(frame.bytes + 14, header, sizeof(header));
	frame.bytes[16] = (uint8_t)(bytes >> 8);
	frame.bytes[17] = (uint8_t)bytes;
	sum_write(&frame);
	return frame;
}

static struct frame frame6(uint16_t bytes)
{
	static const uint8_t header[] = {0x60, 0, 0, 0, 0, 0, 17, 64};
	struct frame frame = {.length = 14U + bytes};

	link_write(&frame, 0x86dd);
	memcpy(frame.bytes + 14, header, sizeof(header));
	frame.bytes[18] = (uint8_t)((bytes - 40) >> 8);
	frame.bytes[19] = (uint8_t)(bytes - 40);
	inet_pton(AF_INET6, "fd00:1::2", frame.bytes + 22);
	inet_pton(AF_INET6, "fd00:2::2", frame.bytes + 38);
	memcpy(frame.bytes + 54, (const uint8_t[]){0x13, 0x88, 0, 9, 0, 8}, 6);
	return frame;
}

static void assert_left(const struct frame *frame, const char *what)
{
	struct frame after = run_on(in, frame);

	if (after.verdict != XDP_PASS || memcmp(after.bytes, frame->bytes, frame->length) != 0)
		fail_msg("%s: verdict %d", what, after.verdict);
}

/* -- by route -- */

/* addresses of the neighbour and of the interface, one hop less, a right sum, nothing else */
static void routed_frames_are_right(void **state)
{
	struct frame wanted, frames[] = {frame4(46), frame6(60)}, after;

	(void)state;
	for (size_t i = 0; i < 2; i++)
		for (unsigned int hops = 2; hops < 256; hops++) {
			frames[i].bytes[i ? 21 : 22] = (uint8_t)hops;
			if (i == 0)
				sum_write(&frames[i]);
			wanted = frames[i];
			memcpy(wanted.bytes, (const uint8_t[]){2, 0, 0, 0, 2, 2, 2, 0, 0, 0, 2, 1}, 12);
			wanted.bytes[i ? 21 : 22] = (uint8_t)(hops - 1);
			if (i == 0)
				sum_write(&wanted);
			after = run_on(in, &frames[i]);
			assert_int_equal(after.verdict, XDP_REDIRECT);
			assert_memory_equal(after.bytes, wanted.bytes, wanted.length);
		}
	assert_int_equal(counted().packets, 2 * 254);
	assert_int_equal(counted().bytes, 254 * (60 + 74));
	assert_int_equal(counted().passed, 0);
}

static void bytes_set(struct frame *frame, uint32_t at, const uint8_t *bytes, size_t count)
{
	memcpy(frame->bytes + at, bytes, count);
	if (frame->bytes[12] == 8)
		sum_write(frame);
}

/* what is to be left to the stack goes there as it came */
static void the_stack_gets_the_rest(void **state)
{
	static const struct {
		const char *what;
		uint8_t family;
		uint32_t at;
		size_t count;
		uint8_t bytes[16];
	} changes[] = {
		{"a hop limit of 1", 4, 22, 1, {1}},
		{"a hop limit of 0", 4, 22, 1, {0}},
		{"options", 4, 14, 1, {0x46}},
		{"another version", 4, 14, 1, {0x55}},
		{"longer than the frame", 4, 16, 2, {0, 47}},
		{"shorter than its header", 4, 16, 2, {0, 19}},
		{"an address of this host", 4, 30, 4, {10, 2, 0, 1}},
		{"the other's broadcast address", 4, 30, 4, {10, 2, 0, 255}},
		{"multicast", 4, 30, 4, {224, 0, 0, 1}},
		{"broadcast", 4, 30, 4, {255, 255, 255, 255}},
		{"a source that is multicast", 4, 26, 4, {224, 0, 0, 1}},
		{"a source of loopback", 4, 26, 4, {127, 0, 0, 1}},
		{"no source", 4, 26, 4, {0, 0, 0, 0}},
		{"an unknown neighbour", 4, 30, 4, {10, 2, 0, 3}},
		{"no route", 4, 30, 4, {10, 3, 0, 1}},
		{"back where it came from", 4, 30, 4, {10, 1, 0, 9}},
		{"for another host's card", 4, 0, 6, {2, 0, 0, 0, 9, 9}},
		{"for all cards", 4, 0, 6, {255, 255, 255, 255, 255, 255}},
		{"a VLAN", 4, 12, 2, {0x81, 0}},
		{"ARP", 4, 12, 2, {8, 6}},
		{"a hop limit of 1", 6, 21, 1, {1}},
		{"options for each hop", 6, 20, 1, {0}},
		{"another version", 6, 14, 1, {0x40}},
		{"no length", 6, 18, 2, {0, 0}},
		{"longer than the frame", 6, 18, 2, {0, 21}},
		{"multicast", 6, 38, 2, {0xff, 2}},
		{"link-local", 6, 38, 2, {0xfe, 0x80}},
		{"a link-local source", 6, 22, 2, {0xfe, 0x80}},
		{"no source", 6, 22, 16, {0}},
		{"an unknown neighbour", 6, 53, 1, {3}},
		{"an address of this host", 6, 53, 1, {1}},
	};
	uint64_t passed = 0;

	(void)state;
	for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
		struct frame frame = changes[i].family == 4 ? frame4(46) : frame6(60);

		bytes_set(&frame, changes[i].at, changes[i].bytes, changes[i].count);
		assert_left(&frame, changes[i].what);
		passed++;
	}
	struct frame wrong = frame4(46), large = frame4(1501), large6 = frame6(1501), shorter = frame4(46);

	wrong.bytes[24] ^= 1;
	assert_left(&wrong, "a wrong sum");
	assert_left(&large, "too large");
	assert_left(&large6, "too large");
	shorter.length = 33;
	assert_left(&shorter, "broken off");
	assert_int_equal(counted().passed, passed + 4);
	assert_int_equal(counted().packets, 0);
}

/* where the other interface takes no frames from XDP, and none are sent there */
static void targets_have_to_take_frames(void **state)
{
	struct frame frame = frame4(46);

	(void)state;
	bpf_map_delete_elem(bpf_map__fd(program->maps.forward_targets), &out);
	assert_left(&frame, "a target that takes none");
}

/* -- places -- */

/* one bit says which place is in force; a deadline that has passed brings back the other */
static void a_bit_switches(void **state)
{
	struct frame frame = frame4(46);
	uint32_t now;

	(void)state;
	port_write(in, 1, FORWARD_TO, out);
	in_force->places = 1ULL << FORWARD_PLACE;
	frame.bytes[22] = 1; /* which a router would not send on */
	assert_int_equal(run_on(in, &frame).verdict, XDP_REDIRECT);
	now = counted().last;
	assert_int_not_equal(now, 0);
	in_force->deadline = now + AGE;
	in_force->places_before = 0;
	assert_int_equal(run_on(in, &frame).verdict, XDP_REDIRECT);
	in_force->deadline = now;
	assert_left(&frame, "a deadline that has passed");
	in_force->deadline = 0;
	in_force->places = 0;
	assert_left(&frame, "the other place");
}

/* -- a switch -- */

static void switch_make(void)
{
	int table = bpf_map_create(BPF_MAP_TYPE_LRU_HASH, "table", sizeof(struct forward_mac),
		    sizeof(struct forward_place), FORWARD_MACS_MAX, NULL),
	    members = bpf_map_create(BPF_MAP_TYPE_DEVMAP_HASH, "members", sizeof(uint32_t), sizeof(uint32_t),
		    FORWARD_MEMBERS, NULL);
	uint32_t number = NUMBER;

	assert_true(table >= 0 && members >= 0);
	assert_int_equal(bpf_map_update_elem(members, &in, &in, BPF_ANY), 0);
	assert_int_equal(bpf_map_update_elem(members, &out, &out, BPF_ANY), 0);
	assert_int_equal(
		bpf_map_update_elem(bpf_map__fd(program->maps.forward_tables), &number, &table, BPF_ANY), 0);
	assert_int_equal(
		bpf_map_update_elem(bpf_map__fd(program->maps.forward_members), &number, &members, BPF_ANY),
		0);
	port_write(in, 0, FORWARD_AMONG, 0);
	port_write(out, 0, FORWARD_AMONG, 0);
}

/* From card `from` to card `to`, in a VLAN or none. */
static struct frame switched(uint8_t to, uint8_t from, uint16_t vlan)
{
	struct frame frame = {.length = 64};

	memcpy(frame.bytes, (const uint8_t[]){2, 0, 0, 0, 7, to, 2, 0, 0, 0, 7, from, 0x88, 0xb5}, 14);
	if (vlan)
		memcpy(frame.bytes + 12,
			(const uint8_t[]){0x81, 0, (uint8_t)(vlan >> 8), (uint8_t)vlan, 0x88, 0xb5}, 6);
	return frame;
}

static int switch_run(unsigned int index, uint8_t to, uint8_t from, uint16_t vlan)
{
	struct frame frame = switched(to, from, vlan), after = run_on(index, &frame);

	if (after.verdict == XDP_REDIRECT)
		assert_memory_equal(after.bytes, frame.bytes, frame.length);
	return after.verdict;
}

static void a_switch_learns(void **state)
{
	struct flow_stats before = stats(), after;

	(void)state;
	switch_make();
	assert_int_equal(switch_run(in, 2, 1, 0), XDP_REDIRECT);
	assert_int_equal(counted().flooded, 1);
	assert_int_equal(switch_run(out, 1, 2, 0), XDP_REDIRECT);
	assert_int_equal(switch_run(in, 2, 1, 0), XDP_REDIRECT);
	assert_int_equal(counted().flooded, 1);
	/* where it came from: no second time */
	assert_int_equal(switch_run(in, 1, 3, 0), XDP_DROP);
	assert_int_equal(counted().filtered, 1);
	/* another VLAN knows nobody; the priority is not the VLAN */
	assert_int_equal(switch_run(in, 2, 1, 5), XDP_REDIRECT);
	assert_int_equal(counted().flooded, 2);
	assert_int_equal(switch_run(out, 1, 2, 5 | 0x6000), XDP_REDIRECT);
	assert_int_equal(counted().flooded, 2);
	/* moved */
	assert_int_equal(switch_run(in, 9, 2, 0), XDP_REDIRECT);
	assert_int_equal(counted().moved, 1);
	assert_int_equal(switch_run(in, 2, 1, 0), XDP_DROP);
	after = stats();
	assert_int_equal(after.seen - before.seen, 8);
	assert_int_equal(after.seen, after.cached + after.emitted + after.lost);
}

static void a_switch_forgets(void **state)
{
	uint32_t number = NUMBER, id, gone = 0x7ffffff0;
	const struct forward_mac whom = {{2, 0, 0, 0, 7, 2}, 0};
	struct forward_place place;
	int table;

	(void)state;
	switch_make();
	assert_int_equal(bpf_map_lookup_elem(bpf_map__fd(program->maps.forward_tables), &number, &id), 0);
	table = bpf_map_get_fd_by_id(id);
	assert_true(table >= 0);
	assert_int_equal(switch_run(out, 1, 2, 0), XDP_REDIRECT);
	assert_int_equal(bpf_map_lookup_elem(table, &whom, &place), 0);
	/* not heard for long */
	place.seen -= AGE + 1;
	assert_int_equal(bpf_map_update_elem(table, &whom, &place, BPF_ANY), 0);
	assert_int_equal(switch_run(in, 2, 1, 0), XDP_REDIRECT);
	assert_int_equal(counted().flooded, 2);
	/* at an interface that does not belong to it any more */
	place.seen += AGE + 1;
	place.ifindex = gone;
	assert_int_equal(bpf_map_update_elem(table, &whom, &place, BPF_ANY), 0);
	assert_int_equal(switch_run(in, 2, 1, 0), XDP_REDIRECT);
	assert_int_equal(counted().flooded, 3);
	assert_int_not_equal(bpf_map_lookup_elem(table, &whom, &place), 0);
}

static void a_switch_leaves_to_the_host(void **state)
{
	struct frame own = switched(1, 2, 0), link = own, cut = switched(2, 1, 5);

	(void)state;
	switch_make();
	memcpy(own.bytes, (const uint8_t[]){2, 0, 0, 0, 1, 1}, 6);
	assert_left(&own, "for the interface itself");
	for (uint8_t last = 0; last < 16; last++) {
		memcpy(link.bytes, (const uint8_t[]){1, 0x80, 0xc2, 0, 0, last}, 6);
		assert_left(&link, "for the link alone");
	}
	cut.length = 16;
	assert_left(&cut, "broken off in the tag");
}

/* -- lines -- */

static void crowd_passes(uint16_t first)
{
	for (unsigned int i = 0; i < 16 * SETS * FLOW_WAYS; i++) {
		struct frame frames[] = {frame4(46), frame6(60)};

		for (int j = 0; j < 2; j++) {
			uint8_t *port = frames[j].bytes + (j ? 54 : 34);

			port[0] = (uint8_t)((first + i) >> 8);
			port[1] = (uint8_t)(first + i);
			assert_int_equal(run_on(in, &frames[j]).verdict, XDP_REDIRECT);
		}
	}
}

/* There are no rings here, which is as good as full ones. */
static void what_finds_no_line_is_sent_on_and_counted_lost(void **state)
{
	struct flow_stats before, after;
	cpu_set_t cpu;

	(void)state;
	/* each CPU has lines of its own */
	CPU_ZERO(&cpu);
	CPU_SET(sched_getcpu(), &cpu);
	sched_setaffinity(0, sizeof(cpu), &cpu);
	crowd_passes(1);
	before = stats();
	crowd_passes(32768);
	after = stats();
	assert_int_equal(after.seen - before.seen, 2 * 16 * SETS * FLOW_WAYS);
	assert_int_equal(after.lost - before.lost, 2 * 16 * SETS * FLOW_WAYS);
	assert_int_equal(after.cached, before.cached);
	assert_int_equal(after.emitted, 0);
	assert_int_equal(after.seen, after.cached + after.lost);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(routed_frames_are_right, test_begin),
		cmocka_unit_test_setup(the_stack_gets_the_rest, test_begin),
		cmocka_unit_test_setup(targets_have_to_take_frames, test_begin),
		cmocka_unit_test_setup(a_bit_switches, test_begin),
		cmocka_unit_test_setup(a_switch_learns, test_begin),
		cmocka_unit_test_setup(a_switch_forgets, test_begin),
		cmocka_unit_test_setup(a_switch_leaves_to_the_host, test_begin),
		cmocka_unit_test_setup(what_finds_no_line_is_sent_on_and_counted_lost, test_begin),
	};

	return cmocka_run_group_tests(tests, all_open, all_close);
}

// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* The table of flows: kill -9 at any instruction loses nothing and counts nothing twice, and memory stays
 * bounded. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/flow/table.h"

#define FLOWS      3000
#define HOSTS      200
#define TABLE_SIZE 1024 /* so that sampling and refusing take part */
#define KILLS      150
#define LINES      64
#define OWNERS     32 /* of which some find no entry of their own */
#define SECOND_NS  1000000000ULL

static char run_dir[] = "/tmp/weir-test-table-XXXXXX";
static struct engine *engine;

static const struct table_limits limits = {
	.owners = OWNERS,
	.flows = TABLE_SIZE,
	.hosts = 64,
	.idle_ns = 3600 * SECOND_NS,
	.closed_ns = 3600 * SECOND_NS,
};

/* The delta number `i` of an endless sequence that everybody can work out. */
static struct table_delta delta_of(struct table *table, uint64_t i)
{
	/* nobody's, one that passes through, the kernel's, a process', its listener's */
	static const uint32_t owners[] = {
		OWNER_UNKNOWN, OWNER_FORWARDED, OWNER_KERNEL, OWNER_FIRST, OWNER_FIRST | OWNER_INHERITED};
	uint32_t flow = (uint32_t)(i * 2654435761U % FLOWS);
	struct table_delta delta = {
		.key = {.src = {htonl(0x0a000000 + flow % HOSTS)},
			.dst = {htonl(0x0a090001)},
			.sport = htons((uint16_t)(1024 + flow)),
			.dport = htons((uint16_t)(1 + flow % 50)),
			.ifindex = 7,
			.proto = 17,
			.kind = FLOW_KIND_IPV4 | FLOW_KIND_PORTS | (flow % 2 ? FLOW_KIND_OUT : 0)},
		.counts = {i % 7 + 1, (i % 7 + 1) * (60 + i % 1000)},
		.owner = owners[flow % (sizeof(owners) / sizeof(owners[0]))] + (i % 5 ? 0 : flow % 40),
		.first_ns = SECOND_NS,
		.last_ns = SECOND_NS + i,
		.line = &table_lines4(table)[i % LINES],
		.accounted = {(uint32_t)i + 1, (uint32_t)(i % 7 + 1), i},
		.position = i + 1,
	};

	return delta;
}

static struct table *open_table(void)
{
	struct error error = {};
	struct table *table = NULL;

	if (table_open(engine, &limits, &table, &error) < 0)
		fail_msg("%s", error.what);
	table_name_interface(table, 7, "eth7");
	return table;
}

static struct table_counts sum_totals(const struct table *table, enum table_pool_name pool)
{
	struct table_counts sum = {};

	for (uint32_t i = 0; i < table_total_count(table, pool); i++) {
		sum.packets +=
			table_total(table, pool, i)->in.packets + table_total(table, pool, i)->out.packets;
		sum.bytes += table_total(table, pool, i)->in.bytes + table_total(table, pool, i)->out.bytes;
	}
	return sum;
}

static struct table_counts sum_flows(const struct table *table)
{
	struct table_summary summary;
	struct table_counts sum;

	table_summarize(table, &summary);
	assert_true(summary.flows <= TABLE_SIZE);
	sum.packets = summary.sampled_out.packets + summary.refused.packets;
	sum.bytes = summary.sampled_out.bytes + summary.refused.bytes;
	for (uint32_t i = 0; i < table_flow_count(table); i++) {
		if (table_flow(table, i)->state != TABLE_LIVE)
			continue;
		sum.packets += table_flow(table, i)->counts.packets;
		sum.bytes += table_flow(table, i)->counts.bytes;
	}
	return sum;
}

/* With what is held back until its owner is clear. */
static struct table_counts sum_owners(const struct table *table)
{
	struct table_counts sum = sum_totals(table, TABLE_OWNERS);
	struct table_summary summary;

	table_summarize(table, &summary);
	sum.packets += summary.held_in.packets + summary.held_out.packets;
	sum.bytes += summary.held_in.bytes + summary.held_out.bytes;
	return sum;
}

static void assert_counts(struct table_counts got, struct table_counts wanted)
{
	assert_int_equal(got.packets, wanted.packets);
	assert_int_equal(got.bytes, wanted.bytes);
}

static void killed_anywhere(void **state)
{
	struct table_counts wanted = {};
	uint64_t done = 0;
	int interrupted = 0;

	(void)state;
	srandom((unsigned int)time(NULL));
	/* on a busy machine many a child is killed before its first delta: those do not count */
	for (int kill_number = 0; kill_number < KILLS || interrupted <= KILLS / 2; kill_number++) {
		const struct timespec wait = {.tv_nsec = 1 + random() % 3000000};
		uint64_t before = done;
		struct table *table;
		pid_t child = fork();

		assert_true(child >= 0);
		assert_true(kill_number < 20 * KILLS);
		if (child == 0) {
			table = open_table();
			for (uint64_t i = done;; i++) {
				struct table_delta delta = delta_of(table, i);

				table_account(table, &delta);
				if (i % 50 == 0)
					table_tick(table, SECOND_NS + i);
				if (i % 1000 == 0)
					table_forget_owner(table, OWNER_FIRST + (uint32_t)(i / 1000 % 40));
			}
		}
		nanosleep(&wait, NULL);
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);

		/* the position of the last record says how far it came; it changes with the counts or not at
		 * all */
		table = open_table();
		while (done == before || !table_has_record(table, 0, done - 1)) {
			struct table_delta delta = delta_of(table, done);

			if (done == before && before > 0 && table_has_record(table, 0, done - 1))
				break; /* killed before the first */
			if (done == before && before == 0 && sum_flows(table).packets == 0)
				break;
			wanted.packets += delta.counts.packets;
			wanted.bytes += delta.counts.bytes;
			done++;
		}
		interrupted += done > before;
		assert_counts(sum_flows(table), wanted);
		assert_counts(sum_totals(table, TABLE_HOSTS), wanted);
		assert_counts(sum_totals(table, TABLE_PORTS), wanted);
		assert_counts(sum_totals(table, TABLE_INTERFACES), wanted);
		assert_counts(sum_owners(table), wanted);
		for (uint64_t i = done > LINES ? done - LINES : 0; i < done; i++)
			assert_int_equal(table_lines4(table)[i % LINES].serial, i + 1);
		table_close(table);
	}
	print_message("# %d kills amid deltas, %llu deltas\n", interrupted, (unsigned long long)done);
}

static void ages_out(void **state)
{
	struct table *table = open_table();
	struct table_counts hosts = sum_totals(table, TABLE_HOSTS);
	struct table_limits brief = limits;
	struct table_summary summary;

	(void)state;
	table_summarize(table, &summary);
	assert_true(summary.flows > 0);
	brief.idle_ns = SECOND_NS;
	table_set_limits(table, &brief);
	table_tick(table, 7200 * SECOND_NS);
	table_summarize(table, &summary);
	assert_int_equal(summary.flows, 0);
	assert_true(summary.ended.idle > 0);
	assert_counts(sum_totals(table, TABLE_HOSTS), hosts);
	/* nothing is held back any more, and every owner can be forgotten */
	assert_counts(sum_totals(table, TABLE_OWNERS), hosts);
	for (uint32_t owner = OWNER_UNKNOWN; owner < OWNER_FIRST + 40; owner++)
		assert_true(table_forget_owner(table, owner));
	assert_int_equal(table_find_owner(table, OWNER_FIRST), TABLE_NONE);
	assert_counts(sum_totals(table, TABLE_OWNERS), hosts);
	table_close(table);
}

struct packet_of {
	uint16_t sport, dport; /* the other end has 10.0.0.1, we have 10.0.0.2 */
	bool out;
	uint32_t owner;
	uint64_t at_ns;
	uint8_t proto;
	uint32_t ifindex;
};

static void account(struct table *table, struct packet_of packet)
{
	const __be32 here = htonl(0x0a000002), there = htonl(0x0a000001);
	struct table_delta delta = {
		.key = {.src = {packet.out ? here : there},
			.dst = {packet.out ? there : here},
			.sport = htons(packet.sport),
			.dport = htons(packet.dport),
			.ifindex = packet.ifindex ? packet.ifindex : 7,
			.proto = packet.proto ? packet.proto : 6,
			.kind = FLOW_KIND_IPV4 | FLOW_KIND_PORTS | (packet.out ? FLOW_KIND_OUT : 0)},
		.counts = {1, 100},
		.first_ns = packet.at_ns,
		.last_ns = packet.at_ns,
		.owner = packet.owner,
	};

	table_account(table, &delta);
}

#define LISTENER  (OWNER_FIRST + 100)
#define WORKER    (OWNER_FIRST + 101)
#define OTHER     (OWNER_FIRST + 102)
#define INHERITED (LISTENER | OWNER_INHERITED)

static uint64_t packets_of(struct table *table, uint32_t owner, bool out)
{
	uint32_t i = table_find_owner(table, owner);
	const struct table_total *total = i == TABLE_NONE ? NULL : table_total(table, TABLE_OWNERS, i);

	return !total ? 0 : out ? total->out.packets : total->in.packets;
}

static void accepted_connections_are_whose_accepts_them(void **state)
{
	const uint64_t begin = 10000 * SECOND_NS;
	struct table *table = open_table();
	struct table_summary summary;

	(void)state;
	/* a SYN and its answer, and nobody has accepted */
	account(table, (struct packet_of){40000, 80, false, INHERITED, begin});
	account(table, (struct packet_of){80, 40000, true, OWNER_UNKNOWN, begin});
	table_tick(table, begin);
	table_summarize(table, &summary);
	assert_int_equal(summary.held_in.packets, 1);
	assert_int_equal(summary.held_out.packets, 1);
	assert_int_equal(packets_of(table, LISTENER, false), 0);
	/* the worker answers */
	account(table, (struct packet_of){80, 40000, true, WORKER, begin + 1});
	table_tick(table, begin + 1);
	assert_int_equal(packets_of(table, WORKER, false), 1);
	assert_int_equal(packets_of(table, WORKER, true), 2);
	assert_int_equal(packets_of(table, LISTENER, false), 0);
	/* what still comes in is the worker's, though the cache's line knows its listener only */
	account(table, (struct packet_of){40000, 80, false, INHERITED, begin + 2});
	table_tick(table, begin + 2);
	assert_int_equal(packets_of(table, WORKER, false), 2);
	/* the socket was passed on: each has what it sent */
	account(table, (struct packet_of){80, 40000, true, OTHER, begin + 3});
	account(table, (struct packet_of){80, 40000, true, WORKER, begin + 3});
	account(table, (struct packet_of){80, 40000, true, OTHER, begin + 4});
	table_tick(table, begin + 4);
	assert_int_equal(packets_of(table, OTHER, true), 2);
	assert_int_equal(packets_of(table, WORKER, true), 3);
	/* a late end of it, from TIME-WAIT, is of the last who had it */
	account(table, (struct packet_of){80, 40000, true, OWNER_UNKNOWN, begin + 5});
	table_tick(table, begin + 5);
	assert_int_equal(packets_of(table, OTHER, true), 3);
	table_summarize(table, &summary);
	assert_int_equal(summary.held_in.packets + summary.held_out.packets, 0);
	table_close(table);
}

static void nobody_accepts_for_long(void **state)
{
	const uint64_t begin = 11000 * SECOND_NS;
	struct table *table = open_table();
	uint64_t listener = packets_of(table, LISTENER, false), unknown, kernel;

	(void)state;
	unknown = packets_of(table, OWNER_UNKNOWN, true);
	kernel = packets_of(table, OWNER_KERNEL, false);
	account(table, (struct packet_of){40001, 80, false, INHERITED, begin});
	account(table, (struct packet_of){80, 40002, true, OWNER_UNKNOWN, begin});
	account(table, (struct packet_of){40003, 9, false, OWNER_KERNEL, begin, .proto = 17});
	table_tick(table, begin + 29 * SECOND_NS);
	assert_int_equal(packets_of(table, LISTENER, false), listener);
	assert_int_equal(packets_of(table, OWNER_UNKNOWN, true), unknown);
	assert_int_equal(packets_of(table, OWNER_KERNEL, false), kernel + 1); /* at once */
	table_tick(table, begin + 31 * SECOND_NS);
	assert_int_equal(packets_of(table, LISTENER, false), listener + 1);
	assert_int_equal(packets_of(table, OWNER_UNKNOWN, true), unknown + 1);
	table_close(table);
}

/* The kernel answers for a connection that nobody has accepted.  A collection may see that answer and not
 * what came before it, if the connection began meanwhile. */
static void what_began_during_a_collection_waits_for_the_next(void **state)
{
	const uint64_t begin = 11500 * SECOND_NS;
	struct table *table = open_table();
	uint64_t kernel = packets_of(table, OWNER_KERNEL, true), worker = packets_of(table, WORKER, true);

	(void)state;
	account(table, (struct packet_of){80, 40005, true, OWNER_KERNEL, begin});
	account(table, (struct packet_of){9, 40006, true, OWNER_KERNEL, begin});
	table_tick(table, begin);
	assert_int_equal(packets_of(table, OWNER_KERNEL, true), kernel);
	account(table, (struct packet_of){40005, 80, false, INHERITED, begin});
	table_tick(table, begin + 1);
	assert_int_equal(packets_of(table, OWNER_KERNEL, true), kernel + 1); /* of the other one */
	account(table, (struct packet_of){80, 40005, true, WORKER, begin + 2});
	table_tick(table, begin + 3);
	assert_int_equal(packets_of(table, OWNER_KERNEL, true), kernel + 1);
	assert_int_equal(packets_of(table, WORKER, true), worker + 2);
	table_close(table);
}

static void answers_may_take_another_interface(void **state)
{
	const uint64_t begin = 12000 * SECOND_NS;
	struct table_limits brief = limits;
	struct table *table = open_table();
	uint64_t worker = packets_of(table, WORKER, false);

	(void)state;
	table_name_interface(table, 8, "eth8");
	account(table, (struct packet_of){40004, 80, false, INHERITED, begin});
	account(table, (struct packet_of){80, 40004, true, WORKER, begin, .ifindex = 8});
	table_tick(table, begin + 1);
	assert_int_equal(packets_of(table, WORKER, false), worker);
	brief.idle_ns = SECOND_NS;
	table_set_limits(table, &brief);
	table_tick(table, begin + 10 * SECOND_NS);
	assert_int_equal(packets_of(table, WORKER, false), worker + 1);
	table_close(table);
}

static int setup(void **state)
{
	const struct engine_sizes sizes = {
		.cache4_lines = LINES, .cache6_lines = LINES, .ring_bytes = 4096, .owners = 64};
	struct error error = {};

	(void)state;
	if (!mkdtemp(run_dir) ||
		engine_open(run_dir, &sizes, &(struct engine_watch){}, &engine, &error) < 0) {
		print_message("# %s\n", error.what);
		return -1;
	}
	return 0;
}

static int teardown(void **state)
{
	struct error error = {};

	(void)state;
	if (engine_remove(engine, &error) < 0) {
		print_message("# %s\n", error.what);
		return -1;
	}
	return rmdir(run_dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		{"killed at any moment, 150 times: flows, hosts, ports, interfaces, owners and lines are as "
		 "the last delta left them",
			killed_anywhere, NULL, NULL, NULL},
		{"idle flows leave, totals stay", ages_out, NULL, NULL, NULL},
		{"a connection is whose accepts it, and what a passed socket moves, whose has it",
			accepted_connections_are_whose_accepts_them, NULL, NULL, NULL},
		{"a connection that nobody accepts is its listener's in the end", nobody_accepts_for_long,
			NULL, NULL, NULL},
		{"what began during a collection is charged after the next",
			what_began_during_a_collection_waits_for_the_next, NULL, NULL, NULL},
		{"answers may take another interface", answers_may_take_another_interface, NULL, NULL, NULL},
	};

	return _cmocka_run_group_tests("table", tests, sizeof(tests) / sizeof(tests[0]), setup, teardown);
}

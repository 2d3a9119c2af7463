// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * The real program of services plays: connections of three hundred ports begin, speak, end and begin anew,
 * each packet on a CPU of its own choice, while rings change and backends drain, fall, rise, go and come.
 *
 * Who looks on knows no lines, rings or tables, only what a client knows: a connection to a backend that
 * lives stays there until it ends.  Ports are used again a second after that.
 *
 * CPUs are played, too: their flow caches are exchanged between packets, so any machine has four of them.
 * And time: what is written down is made older.  WEIR_PLAY_SEED and WEIR_PLAY_PACKETS change the play.
 */
#include <arpa/inet.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <cmocka.h>
#include <linux/bpf.h>

#include "lib/services.h"

#define LINES       256 /* of a CPU: fewer than there are connections */
#define RING_BYTES  65536
#define SLOTS       61 /* a prime */
#define CPUS        4
#define BACKENDS    6
#define CONNECTIONS 300
#define SERVICE     1
#define RINGS       4 /* one in force, one before, one to come; from 1 on */
#define FIRST_PORT  20000
#define EVENTS      24 /* of a connection: told where it breaks */
#define PACKETS     24000

#define FIN 1
#define SYN 2
#define RST 4
#define ACK 16

/* -- chance: the same on every machine -- */

static uint64_t chance_state;

static uint32_t chance(uint32_t below)
{
	chance_state += 0x9e3779b97f4a7c15ULL;
	uint64_t z = chance_state;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return (uint32_t)((z ^ z >> 31) >> 32) % below;
}

/* -- what is played with -- */

enum stage { OVER, BEGUN, OPEN };

struct event {
	uint64_t time; /* ticks */
	const char *what;
	uint8_t cpu, backend, ring, before;
};

struct connection {
	uint8_t proto;
	bool six;
	uint16_t port;
	enum stage stage;
	unsigned int home;  /* the backend; 0: it has been lost, and where packets go is all the same */
	uint32_t ring_turn; /* when its SYN went there */
	uint64_t last;      /* tick of its last packet */
	uint32_t event_count;
	struct event events[EVENTS];
};

/* The flow cache of a CPU. */
struct cpu {
	struct flow_set4 cache4[LINES / FLOW_WAYS];
	struct flow_set6 cache6[LINES / FLOW_WAYS];
	struct flow_rest_set6 rest6[LINES / FLOW_WAYS];
};

struct variant {
	const char *name;
	enum service_choice choice;
	bool affinity, no_flows;
	bool crowded; /* strangers have half of all lines, and nobody reads the ring */
};

static struct services services;
static unsigned int real_cpu;
static struct cpu cpus[CPUS];
static struct ring_buffer *records;

static struct play {
	const struct variant *variant;
	struct connection connections[CONNECTIONS];
	uint32_t second; /* in ticks */
	uint64_t time;   /* ticks that were played; those that really pass come on top */
	uint32_t tick;   /* the kernel's, of the last packet */
	uint32_t turn;   /* changes of the ring */
	uint32_t place;  /* of the book in force */
	uint32_t ring, before;
	bool kept;
	bool in_ring[BACKENDS + 1];
	uint16_t rings[RINGS][SLOTS]; /* by number */
} play;

/* What the kernel has of it, written in place: nothing runs meanwhile. */
static struct policy_unit *book_memory[2], *ring_memory[RINGS];

/* -- packets -- */

static void put16(uint8_t *at, uint16_t value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

static uint32_t packet_make(const struct connection *connection, uint8_t flags, uint8_t *frame)
{
	uint32_t header = connection->proto == IPPROTO_TCP ? 20 : 8, at = connection->six ? 54 : 34;
	uint8_t *ip = frame + 14, *l4 = frame + at;

	memset(frame, 0, at + header + 10);
	frame[0] = frame[6] = 2;
	put16(frame + 12, connection->six ? 0x86dd : 0x0800);
	if (connection->six) {
		ip[0] = 0x60;
		put16(ip + 4, (uint16_t)(header + 10));
		ip[6] = connection->proto;
		ip[7] = 64;
		inet_pton(AF_INET6, "2001:db8:1::1", ip + 8);
		inet_pton(AF_INET6, "fc00:1::1", ip + 24);
	} else {
		ip[0] = 0x45;
		put16(ip + 2, (uint16_t)(20 + header + 10));
		ip[8] = 64;
		ip[9] = connection->proto;
		inet_pton(AF_INET, "192.168.1.1", ip + 12);
		inet_pton(AF_INET, "10.200.1.1", ip + 16);
	}
	put16(l4, connection->port);
	put16(l4 + 2, 80);
	if (connection->proto == IPPROTO_TCP) {
		l4[12] = 0x50;
		l4[13] = flags;
	} else {
		put16(l4 + 4, 18);
	}
	return at + header + 10;
}

static void cpu_exchange(struct cpu *cpu, bool in)
{
	size_t sets = LINES / FLOW_WAYS, first = real_cpu * sets;

	if (in) {
		memcpy(&services.cache4[first], cpu->cache4, sizeof(cpu->cache4));
		memcpy(&services.cache6[first], cpu->cache6, sizeof(cpu->cache6));
		memcpy(&services.rest6[first], cpu->rest6, sizeof(cpu->rest6));
	} else {
		memcpy(cpu->cache4, &services.cache4[first], sizeof(cpu->cache4));
		memcpy(cpu->cache6, &services.cache6[first], sizeof(cpu->cache6));
		memcpy(cpu->rest6, &services.rest6[first], sizeof(cpu->rest6));
	}
}

/* Which backend gets it; 0: none. */
static unsigned int packet_play(const struct connection *connection, uint8_t flags, uint32_t cpu)
{
	uint8_t frame[128], out[256];
	uint32_t length = packet_make(connection, flags, frame);
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame, .data_size_in = length, .data_out = out,
		.data_size_out = sizeof(out), .repeat = 1);

	cpu_exchange(&cpus[cpu], true);
	assert_int_equal(
		bpf_prog_test_run_opts(bpf_program__fd(services.balance->progs.balance), &options), 0);
	cpu_exchange(&cpus[cpu], false);
	assert_true(ring_buffer__consume(records) >= 0);
	return options.retval == XDP_TX ? out[33] : 0;
}

/* -- time -- */

static uint32_t tick_now(void)
{
	/* what packets go by is the last one's tick, in its backend's count */
	for (unsigned int backend = 1; backend <= BACKENDS; backend++) {
		uint32_t last = services.counts[(size_t)real_cpu * SERVICE_BACKENDS_MAX + backend].last;

		if ((int32_t)(last - play.tick) > 0)
			play.tick = last;
	}
	return play.tick;
}

static void map_age(const struct bpf_map *map, uint32_t ticks)
{
	static struct service_key keys[4 * CONNECTIONS];
	struct service_flow flow;
	size_t count = 0;
	int fd = bpf_map__fd(map);

	while (bpf_map_get_next_key(fd, count ? &keys[count - 1] : NULL, &keys[count]) == 0 &&
		count < 4 * CONNECTIONS - 1)
		count++;
	for (size_t i = 0; i < count; i++) {
		assert_int_equal(bpf_map_lookup_elem(fd, &keys[i], &flow), 0);
		flow.last -= ticks;
		assert_int_equal(bpf_map_update_elem(fd, &keys[i], &flow, BPF_EXIST), 0);
	}
}

static void pass(uint32_t ticks)
{
	for (int cpu = 0; cpu < CPUS; cpu++)
		for (int set = 0; set < LINES / FLOW_WAYS; set++)
			for (int way = 0; way < FLOW_WAYS; way++) {
				cpus[cpu].cache4[set].line[way].counts.last -= ticks;
				cpus[cpu].cache6[set].line[way].counts.last -= ticks;
			}
	for (uint32_t backend = 1; backend <= BACKENDS; backend++)
		services.backends[backend].since -= ticks;
	map_age(services.balance->maps.service_flows, ticks);
	map_age(services.balance->maps.service_embryos, ticks);
	play.time += ticks;
}

/* -- what the agent does (agent/service/service_ring.c, service_keep.c) -- */

static void book_bring(void)
{
	static const char *const addresses[] = {"10.200.1.1", "fc00:1::1"};
	struct service_text texts[2];
	struct service_input inputs[2];
	uint16_t listed[BACKENDS], count = 0;
	struct service_image image;
	struct error error = {};

	for (uint16_t backend = 1; backend <= BACKENDS; backend++)
		if (play.in_ring[backend])
			listed[count++] = backend;
	for (int i = 0; i < 2; i++) {
		services_text(&texts[i], "web", -1, addresses[i], 80, 80, SERVICE_IPIP);
		texts[i].choice = play.variant->choice;
		texts[i].affinity = play.variant->affinity;
		texts[i].no_flows = play.variant->no_flows;
		inputs[i] = (struct service_input){.text = &texts[i],
			.number = SERVICE,
			.rule = 7,
			.ring = play.ring,
			.before = play.before,
			.slots = SLOTS,
			.kept = play.kept,
			.backends = listed,
			.backend_count = count};
	}
	play.place ^= 1;
	assert_int_equal(service_compile(inputs, 2, NULL, 0, 1, &image, &error), 0);
	memcpy(book_memory[play.place], image.units, image.count * sizeof(*image.units));
	free(image.units);
	services_place(&services, play.place);
}

/* What is not TCP shows no beginning: it is written down where it is. */
static void datagrams_keep(void)
{
	for (int i = 0; i < CONNECTIONS; i++) {
		const struct connection *connection = &play.connections[i];
		struct service_key key = {.sport = htons(connection->port),
			.dport = htons(80),
			.family = connection->six ? 6 : 4,
			.proto = IPPROTO_UDP};
		struct service_flow flow = {.last = tick_now() - (uint32_t)(play.time - connection->last),
			.backend = (uint16_t)connection->home};

		if (connection->proto != IPPROTO_UDP || connection->stage != OPEN || !connection->home)
			continue;
		inet_pton(connection->six ? AF_INET6 : AF_INET,
			connection->six ? "2001:db8:1::1" : "192.168.1.1", key.src);
		inet_pton(connection->six ? AF_INET6 : AF_INET, connection->six ? "fc00:1::1" : "10.200.1.1",
			key.dst);
		flow.generation = services.backends[connection->home].generation;
		bpf_map_update_elem(
			bpf_map__fd(services.balance->maps.service_flows), &key, &flow, BPF_NOEXIST);
	}
}

static void ring_write(uint32_t ring, const uint16_t slots[SLOTS])
{
	memcpy(play.rings[ring], slots, sizeof(play.rings[ring]));
	memcpy(ring_memory[ring], slots, sizeof(play.rings[ring]));
}

/* Another ring, of those that get new connections. */
static void ring_change(void)
{
	uint16_t members[3 * BACKENDS], slots[SLOTS], count = 0;
	uint32_t ring = 1;

	for (uint16_t backend = 1; backend <= BACKENDS; backend++)
		if (play.in_ring[backend])
			for (uint32_t weight = 1 + chance(3); weight; weight--)
				members[count++] = backend;
	if (!count)
		return;
	for (int slot = 0; slot < SLOTS; slot++)
		slots[slot] = members[chance(count)];
	/* now and then what was before, where that is still true */
	if (play.before && chance(3) == 0) {
		bool fits = true;

		for (int slot = 0; slot < SLOTS; slot++)
			fits &= play.in_ring[play.rings[play.before][slot]];
		if (fits)
			memcpy(slots, play.rings[play.before], sizeof(slots));
	}
	play.turn++;
	if (!play.kept) {
		play.kept = true;
		book_bring();
	}
	if (play.variant->choice == SERVICE_MAGLEV) {
		uint32_t before = play.before ? play.before : play.ring;

		if (memcmp(play.rings[before], slots, sizeof(slots)) == 0) {
			play.ring = before;
			play.before = 0;
			datagrams_keep();
			book_bring();
			return;
		}
		play.before = before;
	}
	while (ring == play.ring || ring == play.before)
		ring++;
	ring_write(ring, slots);
	play.ring = ring;
	datagrams_keep();
	book_bring();
}

/* Its connections are nobody's from now on. */
static void backend_lose(unsigned int backend)
{
	for (int i = 0; i < CONNECTIONS; i++)
		if (play.connections[i].home == backend)
			play.connections[i].home = 0;
}

static void backend_bring(uint32_t backend)
{
	uint32_t generation = services.backends[backend].generation + BACKENDS;
	char address[32];

	snprintf(address, sizeof(address), "10.0.0.%u", backend);
	services_backend(&services, backend, SERVICE, address);
	services.backends[backend].generation = generation;
	services.backends[backend].since = tick_now() + 1;
	services.sources[backend] = (struct service_source){};
}

static uint32_t ring_members(void)
{
	uint32_t count = 0;

	for (uint32_t backend = 1; backend <= BACKENDS; backend++)
		count += play.in_ring[backend];
	return count;
}

/* Whether the ring follows at once, or only with some later change, is chance. */
static void backend_change(void)
{
	uint32_t number = 1 + chance(BACKENDS);
	struct service_backend *backend = &services.backends[number];
	uint8_t state;

	switch (backend->state) {
	case SERVICE_BACKEND_UP:
		if (!play.in_ring[number] || ring_members() < 3)
			break;
		play.in_ring[number] = false;
		state = (uint8_t[]){
			SERVICE_BACKEND_DRAINING, SERVICE_BACKEND_DOWN, SERVICE_BACKEND_NONE}[chance(3)];
		/* what a check finds is known before the ring follows */
		if (state != SERVICE_BACKEND_DOWN || chance(2))
			ring_change();
		backend->state = state;
		if (state != SERVICE_BACKEND_DRAINING)
			backend_lose(number);
		break;
	case SERVICE_BACKEND_NONE:
		backend_bring(number);
		play.in_ring[number] = true;
		break;
	default:
		backend->state = SERVICE_BACKEND_UP;
		play.in_ring[number] = true;
	}
	if (chance(4))
		ring_change();
}

/* -- what clients do -- */

static bool home_lives(const struct connection *connection)
{
	uint8_t state = connection->home ? services.backends[connection->home].state : SERVICE_BACKEND_NONE;

	return state == SERVICE_BACKEND_UP || state == SERVICE_BACKEND_DRAINING;
}

static void tell_all(const struct connection *connection, unsigned int wanted)
{
	uint32_t first = connection->event_count > EVENTS ? connection->event_count - EVENTS : 0;

	print_message("# %s: IPv%d port %u: should be with backend %u\n", play.variant->name,
		connection->six ? 6 : 4, connection->port, wanted);
	for (uint32_t i = first; i < connection->event_count; i++) {
		const struct event *event = &connection->events[i % EVENTS];

		print_message("# at %llu: %s on CPU %u: backend %u (rings: %u, before %u)\n",
			(unsigned long long)event->time, event->what, event->cpu, event->backend, event->ring,
			event->before);
	}
}

static unsigned int client_send(struct connection *connection, uint8_t flags)
{
	static const char *const words[] = {[0] = "a datagram",
		[SYN] = "SYN",
		[ACK] = "ACK",
		[ACK | FIN] = "FIN",
		[RST] = "RST",
		[ACK | RST] = "RST"};
	uint32_t cpu = chance(8) ? connection->port % CPUS : chance(CPUS);
	unsigned int backend = packet_play(connection, flags, cpu);

	connection->events[connection->event_count++ % EVENTS] = (struct event){.time = play.time,
		.what = words[flags],
		.cpu = (uint8_t)cpu,
		.backend = (uint8_t)backend,
		.ring = (uint8_t)play.ring,
		.before = (uint8_t)play.before};
	connection->last = play.time;
	return backend;
}

static void client_goes_on(struct connection *connection, uint8_t flags)
{
	unsigned int home = connection->home, backend = client_send(connection, flags);

	if (home && home_lives(connection) && backend != home) {
		tell_all(connection, home);
		fail_msg("a connection has moved");
	}
}

static void client_begins(struct connection *connection)
{
	connection->home = client_send(connection, connection->proto == IPPROTO_TCP ? SYN : 0);
	if (!connection->home)
		fail_msg("nobody gets what begins");
	if (!home_lives(connection))
		connection->home = 0;
	connection->ring_turn = play.turn;
	connection->stage = connection->proto == IPPROTO_TCP ? BEGUN : OPEN;
}

static void client_step(struct connection *connection)
{
	if (connection->stage != OVER && !connection->home) {
		/* who has lost its backend is told so with its next packet: nothing more comes */
		if (chance(2))
			client_send(connection, connection->proto == IPPROTO_TCP ? ACK : 0);
		connection->stage = OVER;
		return;
	}
	switch (connection->stage) {
	case OVER:
		if (play.time - connection->last >= play.second)
			client_begins(connection);
		break;
	case BEGUN:
		if (play.time - connection->last > 33 * play.second) {
			connection->stage = OVER; /* who waits longer has given up */
			break;
		}
		if (play.time - connection->last >= play.second && chance(2)) {
			/* the same SYN once more (a second later: RFC 6298, 2.1), where it went; behind a
			 * change anywhere */
			if (connection->ring_turn != play.turn ||
				services.backends[connection->home].state != SERVICE_BACKEND_UP)
				client_begins(connection);
			else
				client_goes_on(connection, SYN);
			break;
		}
		client_goes_on(connection, ACK);
		connection->stage = OPEN;
		break;
	case OPEN:
		if (connection->proto == IPPROTO_UDP || chance(6)) {
			client_goes_on(connection, connection->proto == IPPROTO_TCP ? ACK : 0);
			break;
		}
		switch (chance(4)) {
		case 0: /* ended by the backend, whose packets do not come by */
			break;
		case 1:
			client_goes_on(connection, chance(2) ? RST : RST | ACK);
			break;
		default:
			client_goes_on(connection, ACK | FIN);
			if (chance(2))
				client_goes_on(connection, ACK);
			if (chance(4) == 0)
				client_goes_on(connection, ACK | FIN);
		}
		connection->stage = OVER;
	}
}

/* -- all of it -- */

static void map_clear(const struct bpf_map *map)
{
	struct service_key key;

	while (bpf_map_get_next_key(bpf_map__fd(map), NULL, &key) == 0)
		bpf_map_delete_elem(bpf_map__fd(map), &key);
}

static int record_take(void *context, void *record, size_t size)
{
	(void)context;
	(void)record;
	(void)size;
	return 0;
}

static void strangers_come(void)
{
	for (int cpu = 0; cpu < CPUS; cpu++)
		for (int i = 0; i < LINES; i++) {
			if (chance(2)) {
				cpus[cpu].cache4[i / FLOW_WAYS].line[i % FLOW_WAYS].ifindex = UINT32_MAX;
				cpus[cpu].cache4[i / FLOW_WAYS].line[i % FLOW_WAYS].serial = UINT32_MAX;
			}
			if (chance(2)) {
				cpus[cpu].cache6[i / FLOW_WAYS].line[i % FLOW_WAYS].ifindex = UINT32_MAX;
				cpus[cpu].rest6[i / FLOW_WAYS].line[i % FLOW_WAYS].serial = UINT32_MAX;
			}
		}
}

/* No ring, or one that is full: there is no room either way. */
static void ring_take_away(int *ret_ring)
{
	*ret_ring = services_records(&services, real_cpu);
	assert_int_equal(bpf_map_delete_elem(bpf_map__fd(services.balance->maps.flow_rings), &real_cpu), 0);
}

static void ring_give_back(int ring)
{
	assert_int_equal(bpf_map_update_elem(
				 bpf_map__fd(services.balance->maps.flow_rings), &real_cpu, &ring, BPF_ANY),
		0);
	close(ring);
}

static void play_begin(const struct variant *variant)
{
	uint16_t slots[SLOTS];

	memset(&play, 0, sizeof(play));
	memset(cpus, 0, sizeof(cpus));
	map_clear(services.balance->maps.service_flows);
	map_clear(services.balance->maps.service_embryos);
	services_clear(&services);
	if (variant->crowded)
		strangers_come();
	play.variant = variant;
	play.second = services.balance->rodata->service_second;
	play.time = play.second;
	play.ring = 1;
	for (uint32_t backend = 1; backend <= BACKENDS; backend++) {
		backend_bring(backend);
		services.backends[backend].since = 0;
		play.in_ring[backend] = true;
	}
	for (int slot = 0; slot < SLOTS; slot++)
		slots[slot] = (uint16_t)(1 + chance(BACKENDS));
	ring_write(1, slots);
	for (int i = 0; i < CONNECTIONS; i++)
		play.connections[i] = (struct connection){
			/* a datagram of what is not accounted shows nobody where it was */
			.proto = i % 4 || variant->no_flows || variant->crowded ? IPPROTO_TCP : IPPROTO_UDP,
			.six = i / 4 % 2,
			.port = (uint16_t)(FIRST_PORT + i)};
	book_bring();
}

static void play_on(const struct variant *variant)
{
	const char *seed_text = getenv("WEIR_PLAY_SEED"), *packets_text = getenv("WEIR_PLAY_PACKETS");
	uint64_t seed = seed_text ? strtoull(seed_text, NULL, 0) : 1;
	unsigned long packets = packets_text ? strtoul(packets_text, NULL, 0) : PACKETS;

	chance_state = seed;
	play_begin(variant);
	for (unsigned long i = 0; i < packets; i++) {
		client_step(&play.connections[chance(CONNECTIONS)]);
		if (chance(500) == 0)
			backend_change();
		if (chance(500) == 0)
			ring_change();
		if (chance(250) == 0)
			pass(chance(4) ? chance(play.second) : chance(70 * play.second));
	}
}

static void connections_stay_where_they_began(void **state)
{
	const struct variant variant = {"maglev"};

	(void)state;
	play_on(&variant);
}

static void connections_stay_with_affinity(void **state)
{
	const struct variant variant = {"affinity", .affinity = true};

	(void)state;
	play_on(&variant);
}

static void connections_stay_in_turns(void **state)
{
	const struct variant variant = {"turns", .choice = SERVICE_TURNS};

	(void)state;
	play_on(&variant);
}

static void connections_stay_with_who_has_the_fewest(void **state)
{
	const struct variant variant = {"least", .choice = SERVICE_LEAST};

	(void)state;
	play_on(&variant);
}

static void connections_stay_that_no_line_knows(void **state)
{
	const struct variant variant = {"no flows", .no_flows = true};

	(void)state;
	play_on(&variant);
}

static void connections_stay_that_get_no_line_since_a_ring_is_full(void **state)
{
	const struct variant variant = {"crowded", .crowded = true},
			     affinity = {"crowded, affinity", .affinity = true, .crowded = true};
	int ring;

	(void)state;
	ring_take_away(&ring);
	play_on(&variant);
	assert_int_equal(services_stats(&services).emitted, 0);
	assert_true(services_stats(&services).lost > 0);
	play_on(&affinity);
	ring_give_back(ring);
}

static void memory_make(void)
{
	for (uint32_t place = 0; place < 2; place++)
		book_memory[place] =
			services_memory(services.balance->maps.service_books, place, SERVICE_BOOK_UNITS);
	for (uint32_t ring = 1; ring < RINGS; ring++)
		ring_memory[ring] =
			services_memory(services.balance->maps.service_rings, ring, SERVICE_RING_UNITS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(connections_stay_where_they_began),
		cmocka_unit_test(connections_stay_with_affinity),
		cmocka_unit_test(connections_stay_in_turns),
		cmocka_unit_test(connections_stay_with_who_has_the_fewest),
		cmocka_unit_test(connections_stay_that_no_line_knows),
		cmocka_unit_test(connections_stay_that_get_no_line_since_a_ring_is_full),
	};
	cpu_set_t cpu;
	int failed, ring;

	CPU_ZERO(&cpu);
	real_cpu = (unsigned int)sched_getcpu();
	CPU_SET(real_cpu, &cpu);
	sched_setaffinity(0, sizeof(cpu), &cpu);
	if (services_open(&services, LINES, RING_BYTES) < 0)
		return 77;
	memory_make();
	ring = services_records(&services, real_cpu);
	records = ring_buffer__new(ring, record_take, NULL, NULL);
	if (!records)
		return 1;
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	ring_buffer__free(records);
	close(ring);
	services_close(&services);
	return failed;
}

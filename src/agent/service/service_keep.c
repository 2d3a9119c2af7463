// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Connections that are written down (shared/service.h): the agent adds those that the flow cache knows and
 * the ring in force would put elsewhere, and takes away those that are over.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "agent/service/services_internal.h"
#include "basic/cleanup.h"
#include "bpf/lib/service_find.h"

#define SWEEP_BUDGET 4096
#define S            1000000000ULL
#define IDLE_TCP_NS  (7800 * S) /* longer than the two hours after which hosts ask whether the other lives */
#define IDLE_NS      (180 * S)
#define AFFINITY_NS  (300 * S) /* if nothing is said */
#define EMBRYO_NS    (10 * S)  /* after which what has only begun is not counted as a connection any more */
#define FIN_NS       (60 * S)  /* after the client's end the backend may still send */
#define RST_NS       (2 * S)
#define TCP_FIN      0x01
#define TCP_RST      0x04
#define TCP_ACK      0x10

uint64_t service_idle_ns(const struct service_text *text)
{
	return text->protocol == IPPROTO_TCP || text->protocol < 0 ? IDLE_TCP_NS : IDLE_NS;
}

uint64_t service_affinity_ns(const struct service_text *text)
{
	return text->affinity_ns ? text->affinity_ns : AFFINITY_NS;
}

/* -- adding -- */

/* A flow's line, of either family. */
struct scan_line {
	struct service_key key;
	uint32_t last;
	uint16_t backend;
	uint8_t tcp_flags;
};

/* The services in force, by number. */
struct scan {
	void (*function)(struct scan *scan, const struct scan_line *line);
	struct services *services;
	const struct engine_service_memory *memory;
	const struct policy_unit *book;
	uint32_t units[SERVICES_MAX];
	uint32_t now, idle_udp;
	bool all;
	const struct service_key *wanted; /* one connection, and its latest line so far */
	struct service_line *latest;
};

static void units_find(const struct policy_unit *book, uint32_t units[SERVICES_MAX])
{
	const struct service_book *head = (const struct service_book *)book;

	for (uint32_t i = 1; head && i <= head->count; i++)
		units[((const struct service *)&book[i])->number % SERVICES_MAX] = i;
}

static uint32_t slot_of(const struct service *service, const struct service_key *key)
{
	uint64_t ends = service_ends(key->sport, key->dport, key->proto);
	uint32_t hash = key->family == 4
	                        ? service_hash4(service->seed, service->flags, key->src[0], key->dst[0], ends)
	                        : service_hash6(service->seed, service->flags, key->src, key->dst, ends);

	return service_slot(hash, service->slots);
}

/* Does the connection go on, as far as its flow shows? */
static bool line_goes_on(const struct scan *scan, const struct scan_line *line)
{
	if (line->key.proto == IPPROTO_TCP)
		return line->tcp_flags & TCP_ACK && !(line->tcp_flags & (TCP_FIN | TCP_RST));
	return scan->now - line->last < scan->idle_udp;
}

static void key_put(const struct scan *scan, const struct service_key *key, const struct service_flow *flow)
{
	int r = engine_service_flow_put(scan->services->agent->engine, key, flow);

	scan->services->kept_written += r == 0;
	scan->services->kept_refused += r < 0 && r != -EEXIST;
}

/* New connections of the line's source stay where they went before. */
static void source_keep(const struct scan *scan, const struct service *service, const struct scan_line *line,
	const struct service_flow *flow)
{
	struct service_flow of_source = *flow;
	struct service_key key = line->key;

	if (scan->now - line->last > service->affinity_ticks)
		return;
	key.sport = key.dport = 0;
	of_source.flags = SERVICE_FLOW_SOURCE;
	key_put(scan, &key, &of_source);
}

static void line_keep(struct scan *scan, const struct scan_line *line)
{
	const struct service_backend *backend = &scan->memory->backends[line->backend % SERVICE_BACKENDS_MAX];
	uint32_t unit = scan->units[backend->service % SERVICES_MAX];
	const struct service *service = (const struct service *)&scan->book[unit];
	struct service_flow flow = {
		.last = line->last, .generation = backend->generation, .backend = line->backend};
	const uint16_t *ring;

	if (!unit || service->flags & SERVICE_KEEP || (int32_t)(line->last - backend->since) <= 0 ||
		(backend->state != SERVICE_BACKEND_UP && backend->state != SERVICE_BACKEND_DRAINING))
		return;
	ring = engine_service_ring(scan->services->agent->engine, service->ring);
	if (ring && ring[slot_of(service, &line->key)] == line->backend)
		return;
	if (service->flags & SERVICE_SOURCE && backend->state == SERVICE_BACKEND_UP)
		source_keep(scan, service, line, &flow);
	if (!line_goes_on(scan, line))
		return;
	/* what goes on without a SYN goes where the ring of before says; a line that says otherwise of what
	 * is not written down is of an earlier connection with the same ends */
	if (service->flags & SERVICE_MOVED && line->key.proto == IPPROTO_TCP) {
		ring = engine_service_ring(scan->services->agent->engine, service->before);
		if (!scan->all || !ring || ring[slot_of(service, &line->key)] != line->backend)
			return;
	}
	key_put(scan, &line->key, &flow);
}

/* The line's own words are read between two looks at its serial (shared/flow.h). */
static void scan4(struct scan *scan, const struct flow_line4 *line)
{
	uint32_t serial = __atomic_load_n(&line->serial, __ATOMIC_ACQUIRE);
	struct flow_line4 copy;
	struct scan_line found;

	if (!serial || !line->decision.backend)
		return;
	memcpy(&copy, line, sizeof(copy));
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	if (__atomic_load_n(&line->serial, __ATOMIC_RELAXED) != serial || copy.kind & FLOW_KIND_OUT)
		return;
	found = (struct scan_line){.key = {.src = {copy.src},
					   .dst = {copy.dst},
					   .sport = copy.sport,
					   .dport = copy.dport,
					   .family = 4,
					   .proto = copy.proto},
		.last = copy.counts.last,
		.backend = copy.decision.backend,
		.tcp_flags = copy.marks.tcp_flags};
	scan->function(scan, &found);
}

static void scan6(struct scan *scan, const struct flow_line6 *line, const struct flow_rest6 *rest)
{
	uint32_t serial = __atomic_load_n(&rest->serial, __ATOMIC_ACQUIRE);
	uint16_t backend = rest->decision.backend;
	struct flow_line6 copy;
	struct scan_line found;

	if (!serial || !backend)
		return;
	memcpy(&copy, line, sizeof(copy));
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	if (__atomic_load_n(&rest->serial, __ATOMIC_RELAXED) != serial || copy.kind & FLOW_KIND_OUT)
		return;
	found = (struct scan_line){
		.key = {.sport = copy.sport, .dport = copy.dport, .family = 6, .proto = copy.proto},
		.last = copy.counts.last,
		.backend = backend,
		.tcp_flags = copy.marks.tcp_flags};
	memcpy(found.key.src, copy.src, sizeof(found.key.src));
	memcpy(found.key.dst, copy.dst, sizeof(found.key.dst));
	scan->function(scan, &found);
}

static void lines_scan(struct scan *scan, uint8_t family)
{
	const struct engine_view *view = engine_view(scan->services->agent->engine);

	for (size_t i = 0; family != 6 && i < (size_t)view->cpus * view->sets4; i++)
		for (int way = 0; way < FLOW_WAYS; way++)
			scan4(scan, &view->cache4[i].line[way]);
	for (size_t i = 0; family != 4 && i < (size_t)view->cpus * view->sets6; i++)
		for (int way = 0; way < FLOW_WAYS; way++)
			scan6(scan, &view->cache6[i].line[way], &view->rest6[i].line[way]);
}

/* The flow cache forgets what others push out; the table has it still, to a tenth of a second. */
static void table_scan(struct scan *scan, uint64_t tick_ns)
{
	const struct table *table = scan->services->agent->table;
	uint64_t now_ns = agent_now_ns();

	for (uint32_t i = 0; i < table_flow_count(table); i++) {
		const struct table_flow *flow = table_flow(table, i);
		struct scan_line line;

		if (flow->state != TABLE_LIVE || !flow->backend || flow->key.kind & FLOW_KIND_OUT)
			continue;
		line = (struct scan_line){.key = {.sport = flow->key.sport,
						  .dport = flow->key.dport,
						  .family = flow->key.kind & FLOW_KIND_IPV4 ? 4 : 6,
						  .proto = flow->key.proto},
			.last = scan->now - (uint32_t)((now_ns - flow->last_ns) / tick_ns),
			.backend = flow->backend,
			.tcp_flags = flow->tcp_flags};
		memcpy(line.key.src, flow->key.src, sizeof(line.key.src));
		memcpy(line.key.dst, flow->key.dst, sizeof(line.key.dst));
		scan->function(scan, &line);
	}
}

void service_keep_scan(struct services *services, bool all, bool next)
{
	struct engine *engine = services->agent->engine;
	struct scan *scan = calloc(1, sizeof(*scan));
	uint64_t tick_ns = 1;

	services->scan_due = services->scan_due && next;
	if (!scan)
		return;
	scan->function = line_keep;
	scan->services = services;
	scan->all = all;
	scan->memory = engine_service_memory(engine);
	scan->book = engine_service_book(engine, next);
	units_find(scan->book, scan->units);
	engine_clock(engine, &scan->now, &tick_ns);
	scan->idle_udp = (uint32_t)(IDLE_NS / tick_ns);
	lines_scan(scan, 0);
	table_scan(scan, tick_ns);
	free(scan);
}

static void line_compare(struct scan *scan, const struct scan_line *line)
{
	struct service_line *latest = scan->latest;

	if (memcmp(&line->key, scan->wanted, sizeof(line->key)) != 0 ||
		(latest->backend && (int32_t)(line->last - latest->last) < 0))
		return;
	*latest = (struct service_line){
		.last = line->last, .backend = line->backend, .tcp_flags = line->tcp_flags};
}

bool service_keep_find(
	struct services *services, const struct service_key *key, struct service_line *ret_line)
{
	struct service_line latest = {};
	struct scan *scan = calloc(1, sizeof(*scan));

	if (!scan)
		return false;
	scan->function = line_compare;
	scan->services = services;
	scan->wanted = key;
	scan->latest = &latest;
	lines_scan(scan, key->family);
	free(scan);
	if (!latest.backend)
		return false;
	*ret_line = latest;
	return true;
}

/* -- taking away -- */

struct sweep {
	struct services *services;
	const struct engine_service_memory *memory;
	uint32_t idle[SERVICES_MAX], affinity[SERVICES_MAX]; /* ticks */
	bool least[SERVICES_MAX];
	uint32_t now, fin, rst, idle_nat, embryo;
};

/* nat keeps an entry for each direction, and each tells of the other: as its packets get, and come back. */
static bool flow_has_other(const struct service_flow *flow)
{
	return flow->dst[0] || flow->dst[1] || flow->dst[2] || flow->dst[3];
}

static bool flow_other(
	const struct service_key *key, const struct service_flow *flow, struct service_key *ret_other)
{
	if (!flow_has_other(flow))
		return false;
	*ret_other = (struct service_key){
		.sport = flow->dport, .dport = flow->sport, .family = key->family, .proto = key->proto};
	memcpy(ret_other->src, flow->dst, sizeof(ret_other->src));
	memcpy(ret_other->dst, flow->src, sizeof(ret_other->dst));
	return true;
}

static bool flow_is_over(const struct sweep *sweep, const struct service_key *key,
	const struct service_flow *flow, uint32_t last)
{
	const struct service_backend *backend =
		&sweep->memory->backends[flow->backend % SERVICE_BACKENDS_MAX];
	uint32_t service = backend->service % SERVICES_MAX, age = sweep->now - last;
	uint32_t idle = flow->flags & SERVICE_FLOW_SOURCE ? sweep->affinity[service] : sweep->idle[service];
	bool gone;

	/* a port of nat is not kept for what only TCP needs */
	if (flow_has_other(flow) && key->proto != IPPROTO_TCP)
		idle = sweep->idle_nat;
	if (age > UINT32_MAX / 2)
		return false; /* written since we looked at the clock */
	gone = backend->state == SERVICE_BACKEND_NONE || backend->generation != flow->generation;
	/* nat's port is free; else the datapath is to know, as long as the client maybe does not, that its
	 * backend is gone */
	if (flow->flags & SERVICE_FLOW_RST || (gone && flow_has_other(flow)))
		return age > sweep->rst;
	if (gone || flow->flags & (SERVICE_FLOW_FIN | SERVICE_FLOW_FIN2))
		return age > sweep->fin;
	return idle && age > idle;
}

/* Is it one of its backend's connections?  The datapath has counted those that ended down. */
static bool flow_counts(const struct service_flow *flow)
{
	return !(flow->flags & (SERVICE_FLOW_FIN | SERVICE_FLOW_FIN2 | SERVICE_FLOW_RST |
				       SERVICE_FLOW_ANSWER | SERVICE_FLOW_SOURCE));
}

static void load_less(const struct sweep *sweep, const struct service_flow *flow)
{
	uint32_t *connections = &sweep->memory->loads[flow->backend % SERVICE_BACKENDS_MAX].connections;

	if (!flow_counts(flow))
		return;
	if (__atomic_load_n(connections, __ATOMIC_RELAXED))
		__atomic_fetch_sub(connections, 1, __ATOMIC_RELAXED);
}

static void sweep_flow(void *context, const struct service_key *key, const struct service_flow *seen)
{
	struct sweep *sweep = context;
	struct engine *engine = sweep->services->agent->engine;
	struct service_flow flow, answer;
	struct service_key other;
	bool both;

	sweep->services->keeping += !(seen->flags & (SERVICE_FLOW_ANSWER | SERVICE_FLOW_SOURCE));
	if (!flow_is_over(sweep, key, seen, seen->last)) {
		sweep->services->counted[seen->backend % SERVICE_BACKENDS_MAX] += flow_counts(seen);
		return;
	}
	/* as it is now */
	if (engine_service_flow_get(engine, key, &flow) < 0)
		return;
	both = flow_other(key, &flow, &other) && engine_service_flow_get(engine, &other, &answer) == 0;
	if (!flow_is_over(sweep, key, &flow, flow.last) ||
		(both && !flow_is_over(sweep, key, &answer, answer.last)))
		return;
	if (engine_service_flow_delete(engine, key) == 0) {
		load_less(sweep, &flow);
		sweep->services->kept_ended++;
	}
	if (both && engine_service_flow_delete(engine, &other) == 0)
		load_less(sweep, &answer);
}

static void sweep_embryo(void *context, const struct service_key *key, const struct service_flow *flow)
{
	struct sweep *sweep = context;

	(void)key;
	if (flow_counts(flow) && sweep->now - flow->last < sweep->embryo)
		sweep->services->counted[flow->backend % SERVICE_BACKENDS_MAX]++;
}

/* A round begins: what the datapath had counted until then. */
static void loads_note(struct services *services, const struct sweep *sweep)
{
	memset(services->counted, 0, sizeof(services->counted));
	for (uint32_t i = 1; i < SERVICE_BACKENDS_MAX; i++)
		services->loads[i] = __atomic_load_n(&sweep->memory->loads[i].connections, __ATOMIC_RELAXED);
}

/* A round is over.  The datapath counts beginnings, and ends where it sees one: what begins and is never
 * heard of again, as in a flood of SYNs, would count for ever.  So what it counts is brought back to what is
 * there, if that is less than it was at the beginning of the round and at its end, or more. */
static void loads_right(struct services *services, const struct sweep *sweep)
{
	for (uint32_t i = 1; i < SERVICE_BACKENDS_MAX; i++) {
		uint32_t *connections = &sweep->memory->loads[i].connections;
		int32_t now = (int32_t)__atomic_load_n(connections, __ATOMIC_RELAXED);
		int32_t before = (int32_t)services->loads[i], there = (int32_t)services->counted[i];
		int32_t low, high, wrong;

		if (!services->backends[i] || !sweep->least[services->backends[i]->service % SERVICES_MAX])
			continue;
		low = before < now ? before : now;
		high = before < now ? now : before;
		wrong = there < low ? low - there : there > high ? high - there : 0;
		if (wrong)
			__atomic_fetch_sub(connections, (uint32_t)wrong, __ATOMIC_RELAXED);
	}
}

static void sweep_prepare(struct sweep *sweep, struct services *services)
{
	struct engine *engine = services->agent->engine;
	const struct policy_unit *book = engine_service_book(engine, false);
	const struct service_book *head = (const struct service_book *)book;
	uint64_t tick_ns = 1;

	sweep->services = services;
	sweep->memory = engine_service_memory(engine);
	engine_clock(engine, &sweep->now, &tick_ns);
	sweep->fin = (uint32_t)(FIN_NS / tick_ns);
	sweep->rst = (uint32_t)(RST_NS / tick_ns);
	sweep->idle_nat = (uint32_t)(IDLE_NS / tick_ns);
	sweep->embryo = (uint32_t)(EMBRYO_NS / tick_ns);
	for (uint32_t i = 1; i <= head->count; i++) {
		const struct service *service = (const struct service *)&book[i];
		uint32_t number = service->number % SERVICES_MAX;

		sweep->idle[number] = service->idle_ticks;
		sweep->affinity[number] =
			service->affinity_ticks ? service->affinity_ticks : service->idle_ticks;
		sweep->least[number] = service->choice == SERVICE_LEAST;
	}
}

void service_keep_sweep(struct services *services)
{
	struct engine *engine = services->agent->engine;
	struct sweep *sweep = calloc(1, sizeof(*sweep));
	int r;

	if (!sweep)
		return;
	sweep_prepare(sweep, services);
	if (!services->sweep.started && !services->sweep_embryos) {
		services->keeping = 0;
		loads_note(services, sweep);
	}
	r = services->sweep_embryos
	            ? 1
	            : engine_service_flow_walk(engine, &services->sweep, SWEEP_BUDGET, sweep_flow, sweep);
	/* behind those that stay those that have only begun, at once if there is not much */
	services->sweep_embryos = r == 1;
	if (r == 1)
		r = engine_service_embryo_walk(engine, &services->sweep, SWEEP_BUDGET, sweep_embryo, sweep);
	if (r == 1) {
		services->kept = services->keeping;
		loads_right(services, sweep);
	}
	if (r != 0) {
		services->sweep_embryos = false;
		services->sweep = (struct engine_service_cursor){};
	}
	free(sweep);
}

/* -- counting -- */

/* The number of a backend that is gone may be another one's by now, while flows still name it. */
void service_keep_count(struct services *services)
{
	const struct engine_service_memory *memory = engine_service_memory(services->agent->engine);
	const struct table *table = services->agent->table;
	uint64_t tick_ns = 1, now_ns = agent_now_ns();
	uint32_t now = 0;

	engine_clock(services->agent->engine, &now, &tick_ns);
	for (uint32_t i = 1; i < SERVICE_BACKENDS_MAX; i++)
		if (services->backends[i])
			services->backends[i]->connections = 0;
	for (uint32_t i = 0; i < table_flow_count(table); i++) {
		const struct table_flow *flow = table_flow(table, i);
		uint32_t number = flow->backend % SERVICE_BACKENDS_MAX;
		struct service_backend_live *live = services->backends[number];
		uint32_t last = now - (uint32_t)((now_ns - flow->last_ns) / tick_ns);

		/* `since` is the tick behind that of the backend's coming, `last` exact to one */
		if (flow->state == TABLE_LIVE && flow->backend && live &&
			(int32_t)(last - memory->backends[number].since) >= -1 &&
			!(flow->tcp_flags & TABLE_CLOSING_FLAGS))
			live->connections++;
	}
}

// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* The table of probes, and loading those that are asked for. */
#include "engine/trace.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#include "basic/cleanup.h"
#include "basic/text.h"
#include "engine/histogram.h"
#include "engine/internal.h"
#include "trace.skel.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))
#define PART_MIN        3 /* letters of a name that are enough to suggest it */

/* -- the table -- */

static const char *const tcp_states[] = {NULL, "established", "syn-sent", "syn-received", "fin-wait-1",
	"fin-wait-2", "time-wait", "closed", "close-wait", "last-ack", "listen", "closing", "new"};
static const char *const congestion_states[] = {"open", "disorder", "cwr", "recovery", "loss"};
static const char *const reset_ways[] = {"received", "sent"};
static const char *const softirq_names[] = {NULL, NULL, "transmit", "receive"};
static const char *const neighbour_outcomes[] = {"found", "failed"};
static const char *const xdp_actions[] = {"aborted", "drop", "pass", "transmit", "redirect"};

#define FLOW      TRACE_KNOWS_FLOW
#define OWNER     TRACE_KNOWS_OWNER
#define INTERFACE TRACE_KNOWS_INTERFACE
#define WORDS(name, list)                                                                                    \
	.detail = TRACE_DETAIL_WORD, .detail_name = (name), .words = (list), .word_count = COUNT_OF(list)
#define ERRNO        .detail = TRACE_DETAIL_ERROR, .detail_name = "error"
#define NUMBER(name) .detail = TRACE_DETAIL_NUMBER, .detail_name = (name)

#define FUNCTION(function, text, what_it_knows)                                                              \
	{                                                                                                    \
		.name = "function." #function, .what = "time in " #function "(), " text,                     \
		.unit = TRACE_UNIT_NS, .knows = (what_it_knows),                                             \
		.programs = {#function "_begin", #function "_end"},                                          \
	}

static const struct trace_probe probes[] = {
	{"tcp.rtt", "smoothed round-trip time of a connection, at each segment that comes in", TRACE_UNIT_NS,
		FLOW | OWNER, .programs = {"tcp_rtt"}},
	{"tcp.cwnd", "congestion window, at each segment that comes in", TRACE_UNIT_PACKETS, FLOW | OWNER,
		.programs = {"tcp_cwnd"}},
	{"tcp.inflight", "packets sent and not acknowledged, at each segment that comes in",
		TRACE_UNIT_PACKETS, FLOW | OWNER, .programs = {"tcp_inflight"}},
	{"tcp.window", "what the other side has room for, at each segment that comes in", TRACE_UNIT_BYTES,
		FLOW | OWNER, .programs = {"tcp_window"}},
	{"tcp.retransmit", "packets sent again, at each retransmission; SYN-ACKs included",
		TRACE_UNIT_PACKETS, FLOW | OWNER, WORDS("state", tcp_states),
		.programs = {"tcp_retransmit", "tcp_retransmit_synack"}},
	{"tcp.reset", "resets received and sent; until Linux 6.9 only those that sockets send",
		TRACE_UNIT_COUNT, FLOW | OWNER, WORDS("way", reset_ways),
		.programs = {"tcp_reset_received", "tcp_reset_sent"}},
	{"tcp.congestion", "congestion window, at each change of the congestion state", TRACE_UNIT_PACKETS,
		FLOW | OWNER, WORDS("state", congestion_states), .programs = {"tcp_congestion"}},
	{"tcp.handshake", "served connections: from the SYN-ACK to its acknowledgement", TRACE_UNIT_NS, FLOW,
		.programs = {"tcp_handshake"}},
	{"tcp.lifetime", "from the end of the handshake to the end of the connection", TRACE_UNIT_NS,
		FLOW | OWNER, .programs = {"tcp_lifetime"}},
	{"tcp.bytes", "payload of a connection, both ways, at its end", TRACE_UNIT_BYTES, FLOW | OWNER,
		.programs = {"tcp_bytes"}},
	{"connect.latency", "from the SYN until the connection is there, or has failed", TRACE_UNIT_NS,
		FLOW | OWNER, ERRNO, .programs = {"connect_latency"}},
	{"accept.queue", "how long a finished connection waits until accept() returns it", TRACE_UNIT_NS,
		FLOW | OWNER, .programs = {"accept_queued", "accept_returned"}},
	{"receive.wait",
		"from a packet's arrival until a process takes its first byte; not of small UDP packets",
		TRACE_UNIT_NS, FLOW | INTERFACE, .programs = {"receive_arrived", "receive_copied"}},
	{"receive.size", "bytes of a packet (merged by GRO: of all) that comes in", TRACE_UNIT_BYTES,
		FLOW | INTERFACE, .programs = {"receive_size"}},
	{"transmit.size", "bytes of a packet (before TSO) that goes to a driver", TRACE_UNIT_BYTES,
		FLOW | OWNER | INTERFACE, .programs = {"transmit_size"}},
	{"skb.copy", "bytes copied from one packet to a process; not of small UDP packets", TRACE_UNIT_BYTES,
		FLOW | OWNER, .programs = {"skb_copy"}},
	{"socket.send", "bytes taken by one send call", TRACE_UNIT_BYTES, FLOW | OWNER, ERRNO,
		.programs = {"socket_send"}},
	{"socket.receive", "bytes given by one receive call", TRACE_UNIT_BYTES, FLOW | OWNER, ERRNO,
		.programs = {"socket_receive"}},
	{"socket.error", "errors that sockets report: refused, reset, unreachable, timed out",
		TRACE_UNIT_COUNT, FLOW | OWNER, ERRNO, .programs = {"socket_error"}},
	{"udp.queue.drop", "bytes in a UDP socket's queue, at each datagram that finds no room",
		TRACE_UNIT_BYTES, FLOW | OWNER, ERRNO, .programs = {"udp_queue_drop"}},
	{"softirq.net", "time in a network softirq, of the whole host", TRACE_UNIT_NS, 0,
		WORDS("softirq", softirq_names), .programs = {"softirq_begin", "softirq_end"}},
	{"napi.poll", "packets that one poll of a driver's queue gave; the backlogs are the whole host's",
		TRACE_UNIT_PACKETS, INTERFACE, NUMBER("budget"), .programs = {"napi_poll"}},
	{"net.backlog", "time in a CPU's backlog (loopback, veth, RPS)", TRACE_UNIT_NS, FLOW | INTERFACE,
		.programs = {"backlog_begin", "backlog_end"}},
	{"qdisc.latency", "time in a queueing discipline, of the first packet of each batch", TRACE_UNIT_NS,
		FLOW | OWNER | INTERFACE, NUMBER("batch"), .programs = {"qdisc_begin", "qdisc_end"}},
	{"driver.transmit", "time in a driver's transmit function", TRACE_UNIT_NS, FLOW | OWNER | INTERFACE,
		NUMBER("result"), .programs = {"driver_begin", "driver_end"}},
	{"neighbour.resolve",
		"from the first packet for a neighbour until its address is known, or it has failed",
		TRACE_UNIT_NS, FLOW | INTERFACE, WORDS("outcome", neighbour_outcomes),
		.programs = {"neighbour_new", "neighbour_again", "neighbour_found", "neighbour_failed"}},
	{"fib.failure", "route lookups that fail, in the end; those of IPv4 are the whole host's",
		TRACE_UNIT_COUNT, FLOW, ERRNO, .programs = {"fib_failure4", "fib_failure6"}},
	{"xdp.exception", "packets that an XDP program or its action failed for", TRACE_UNIT_COUNT, INTERFACE,
		WORDS("action", xdp_actions), .programs = {"xdp_exception"}},
	FUNCTION(tcp_sendmsg, "sending on TCP sockets", FLOW | OWNER),
	FUNCTION(tcp_recvmsg, "receiving on TCP sockets; waiting is in it", FLOW | OWNER),
	FUNCTION(tcp_v4_connect, "connecting, without the answer", FLOW | OWNER),
	FUNCTION(tcp_v6_connect, "connecting, without the answer", FLOW | OWNER),
	FUNCTION(udp_sendmsg, "sending on UDP sockets, IPv4", FLOW | OWNER),
	FUNCTION(udpv6_sendmsg, "sending on UDP sockets, IPv6", FLOW | OWNER),
	FUNCTION(udp_recvmsg, "receiving on UDP sockets, IPv4; waiting is in it", FLOW | OWNER),
	FUNCTION(udpv6_recvmsg, "receiving on UDP sockets, IPv6; waiting is in it", FLOW | OWNER),
	FUNCTION(ip_rcv, "an IPv4 packet comes in, up to its socket", FLOW | INTERFACE),
	FUNCTION(ipv6_rcv, "an IPv6 packet comes in, up to its socket", FLOW | INTERFACE),
	FUNCTION(tcp_v4_rcv, "TCP takes a segment, IPv4", FLOW | INTERFACE),
	FUNCTION(tcp_v6_rcv, "TCP takes a segment, IPv6", FLOW | INTERFACE),
	FUNCTION(udp_rcv, "UDP takes a datagram, IPv4", FLOW | INTERFACE),
	FUNCTION(__dev_queue_xmit, "a packet goes out, up to the driver or the queue", FLOW | INTERFACE),
};

const struct trace_probe *engine_trace_probes(size_t *ret_count)
{
	*ret_count = COUNT_OF(probes);
	return probes;
}

const struct trace_probe *engine_trace_find(const char *name, struct error *error)
{
	const char *names[COUNT_OF(probes) + 1] = {}, *near;

	for (size_t i = 0; i < COUNT_OF(probes); i++) {
		if (strcmp(name, probes[i].name) == 0)
			return &probes[i];
		names[i] = probes[i].name;
	}
	error_set(error, -ENOENT, "there is no probe '%.64s'", name);
	near = text_nearest(name, names);
	/* "rtt", "retransmit" */
	for (size_t i = 0; !near && strlen(name) >= PART_MIN && i < COUNT_OF(probes); i++)
		near = strcasestr(names[i], name) ? names[i] : NULL;
	if (near)
		error_want(error, "did you mean '%s'?", near);
	else
		error_want(error, "'weir trace list' lists them");
	return NULL;
}

/* -- what this kernel has -- */

struct place {
	char name[48]; /* section of the program: "tp_btf/tcp_probe" */
	bool looked, found;
};

static struct {
	bool known;
	struct place places[COUNT_OF(probes)][TRACE_PROGRAMS_MAX];
} catalogue;

static bool is_tracepoint(const struct place *place)
{
	return strncmp(place->name, "tp_btf", 6) == 0;
}

/* What stands behind the slash. */
static const char *target_of(const struct place *place)
{
	const char *slash = strchr(place->name, '/');

	return slash ? slash + 1 : place->name;
}

/* Is it in this kernel?  To look takes a while, so only what is asked for is looked for, once. */
static bool place_found(struct place *place)
{
	if (!place->looked)
		place->found = is_tracepoint(place) ? component_has_tracepoint(target_of(place))
		                                    : component_has_function(target_of(place));
	place->looked = true;
	return place->found;
}

/* Sections of the object say where its programs attach. */
static void catalogue_fill(void)
{
	struct trace_bpf *skeleton = catalogue.known ? NULL : trace_bpf__open();

	if (!skeleton)
		return;
	for (size_t i = 0; i < COUNT_OF(probes); i++)
		for (unsigned int j = 0; j < TRACE_PROGRAMS_MAX && probes[i].programs[j]; j++) {
			struct bpf_program *program =
				bpf_object__find_program_by_name(skeleton->obj, probes[i].programs[j]);
			struct place *place = &catalogue.places[i][j];

			if (program)
				snprintf(place->name, sizeof(place->name), "%s",
					bpf_program__section_name(program));
		}
	trace_bpf__destroy(skeleton);
	catalogue.known = true;
}

const char *engine_trace_place(const struct trace_probe *probe, unsigned int program)
{
	catalogue_fill();
	return catalogue.places[probe - probes][program].name;
}

bool engine_trace_has(
	const struct engine *engine, const struct trace_probe *probe, char *missing, size_t size)
{
	catalogue_fill();
	for (unsigned int i = 0; i < TRACE_PROGRAMS_MAX && probe->programs[i]; i++) {
		struct place *place = &catalogue.places[probe - probes][i];

		if (!is_tracepoint(place) && !engine_has(engine, "fentry")) {
			snprintf(missing, size,
				"fentry: this kernel lets no program attach to a function (%s)",
				target_of(place));
			return false;
		}
		if (!place_found(place)) {
			snprintf(missing, size, "this kernel has no %s %s",
				is_tracepoint(place) ? "tracepoint" : "function", target_of(place));
			return false;
		}
	}
	return true;
}

/* -- one trace -- */

struct engine_trace {
	struct trace_bpf *skeleton;
	struct bpf_link *links[TRACE_PROGRAMS_MAX];
	struct ring_buffer *ring;
	struct trace_histogram *values; /* room for one per CPU */
	unsigned int cpus;
	engine_trace_function *function; /* of the reading that is going on */
	void *context;
};

void engine_trace_close(struct engine_trace *trace)
{
	if (!trace)
		return;
	for (unsigned int i = 0; i < TRACE_PROGRAMS_MAX; i++)
		bpf_link__destroy(trace->links[i]);
	ring_buffer__free(trace->ring);
	trace_bpf__destroy(trace->skeleton);
	free(trace->values);
	free(trace);
}

static int on_record(void *context, void *record, size_t size)
{
	struct engine_trace *trace = context;

	if (size >= sizeof(struct trace_record) && trace->function)
		trace->function(trace->context, record);
	return 0;
}

static bool is_program_of(const struct trace_probe *probe, const struct bpf_program *program)
{
	for (unsigned int i = 0; i < TRACE_PROGRAMS_MAX && probe->programs[i]; i++)
		if (strcmp(probe->programs[i], bpf_program__name(program)) == 0)
			return true;
	return false;
}

/* Histograms that are there from the beginning: those that need no sample to be told. */
static int make_histograms(struct engine_trace *trace, const struct trace_options *options)
{
	struct trace_key key = {.kind = options->by == TRACE_BY_NOTHING ? TRACE_KEY_ALL : TRACE_KEY_OTHER};

	if (!options->histogram)
		return 0;
	memset(trace->values, 0, trace->cpus * sizeof(*trace->values));
	return bpf_map__update_elem(trace->skeleton->maps.trace_histograms, &key, sizeof(key), trace->values,
		trace->cpus * sizeof(*trace->values), BPF_ANY);
}

static int load(struct engine *engine, struct engine_trace *trace, const struct trace_probe *probe,
	const struct trace_options *options, struct error *error)
{
	struct trace_bpf *skeleton = trace->skeleton;
	struct bpf_program *program;
	int r;

	skeleton->rodata->trace_options = *options;
	skeleton->rodata->trace_options.syscall_accept = __NR_accept;
	skeleton->rodata->trace_options.syscall_accept4 = __NR_accept4;
	if (!options->histogram || options->by == TRACE_BY_NOTHING)
		bpf_map__set_max_entries(skeleton->maps.trace_histograms, 1);
	if (options->histogram)
		bpf_map__set_max_entries(skeleton->maps.trace_ring, (__u32)sysconf(_SC_PAGESIZE));
	bpf_object__for_each_program (program, skeleton->obj) {
		bpf_program__set_autoload(program, is_program_of(probe, program));
	}
	r = component_load_unpinned(engine, skeleton->obj, "trace", error);
	if (r < 0)
		return r;
	r = make_histograms(trace, options);
	if (r < 0)
		return error_set(error, r, "cannot make a histogram: %s", strerror(-r));
	return component_ring(skeleton->obj, "trace_ring", on_record, trace, &trace->ring, error);
}

static int attach(struct engine_trace *trace, const struct trace_probe *probe, struct error *error)
{
	for (unsigned int i = 0; i < TRACE_PROGRAMS_MAX && probe->programs[i]; i++) {
		struct bpf_program *program =
			bpf_object__find_program_by_name(trace->skeleton->obj, probe->programs[i]);

		trace->links[i] = bpf_program__attach(program);
		if (!trace->links[i])
			return error_set(error, -errno, "cannot attach to %s: %s",
				engine_trace_place(probe, i), strerror(errno));
	}
	return 0;
}

int engine_trace_open(struct engine *engine, const struct trace_probe *probe,
	const struct trace_options *options, struct engine_trace **ret_trace, struct error *error)
{
	char missing[ERROR_TEXT_MAX - 64];
	struct engine_trace *trace;
	int r;

	if (!engine_trace_has(engine, probe, missing, sizeof(missing))) {
		error_set(error, -EOPNOTSUPP, "the probe %s cannot be had: %s", probe->name, missing);
		return error_want(error, "'weir trace list' lists those that can");
	}
	trace = calloc(1, sizeof(*trace));
	if (!trace)
		return error_set(error, -ENOMEM, "out of memory");
	trace->cpus = engine->meta.cpus;
	trace->values = calloc(trace->cpus, sizeof(*trace->values));
	trace->skeleton = trace->values ? trace_bpf__open() : NULL;
	r = trace->skeleton ? load(engine, trace, probe, options, error)
	                    : error_set(error, -ENOMEM, "out of memory");
	if (r == 0)
		r = attach(trace, probe, error);
	if (r < 0) {
		engine_trace_close(trace);
		return r;
	}
	*ret_trace = trace;
	return 0;
}

void engine_trace_read(struct engine_trace *trace, engine_trace_function *function, void *context)
{
	trace->function = function;
	trace->context = context;
	ring_buffer__consume(trace->ring);
	trace->function = NULL;
}

int engine_trace_histograms(struct engine_trace *trace, engine_histogram_function *function, void *context)
{
	struct bpf_map *map = trace->skeleton->maps.trace_histograms;
	struct trace_key key, *last = NULL;
	struct trace_histogram sum;

	while (bpf_map__get_next_key(map, last, &key, sizeof(key)) == 0) {
		if (bpf_map__lookup_elem(map, &key, sizeof(key), trace->values,
			    trace->cpus * sizeof(*trace->values), 0) == 0) {
			sum = (struct trace_histogram){};
			for (unsigned int cpu = 0; cpu < trace->cpus; cpu++)
				histogram_add(&sum, &trace->values[cpu]);
			function(context, &key, &sum);
		}
		last = &key;
	}
	return 0;
}

int engine_trace_stats(const struct engine_trace *trace, struct trace_stats *ret_stats)
{
	_cleanup_free_ struct trace_stats *values = calloc(trace->cpus, sizeof(*values));
	struct trace_stats sum = {};
	__u32 zero = 0;
	int r;

	if (!values)
		return -ENOMEM;
	r = bpf_map__lookup_elem(trace->skeleton->maps.trace_stats, &zero, sizeof(zero), values,
		trace->cpus * sizeof(*values), 0);
	if (r < 0)
		return r;
	for (unsigned int cpu = 0; cpu < trace->cpus; cpu++) {
		sum.samples += values[cpu].samples;
		sum.emitted += values[cpu].emitted;
		sum.limited += values[cpu].limited;
		sum.lost += values[cpu].lost;
		sum.unstarted += values[cpu].unstarted;
	}
	*ret_stats = sum;
	return 0;
}

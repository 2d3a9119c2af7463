// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "agent/flow/names.h"

#include <arpa/inet.h>
#include <event2/buffer.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "agent/flow/name.h"
#include "agent/flow/name_store.h"
#include "agent/internal.h"
#include "basic/cleanup.h"
#include "basic/log.h"
#include "engine/name.h"

#define RATE      4096 /* records a second that each CPU may copy */
#define HALVES    256  /* first parts that wait for their second */
#define NS_PER_S  1000000000ULL
#define HOLD_S    3600U /* connections outlive the answer that led to them: so long is a name shown at least */
#define TTL_MAX_S 86400U /* and so long at most */
#define PORT_DNS  53

/* What speaks; also what a host's name was learned from. */
enum name_protocol { NAME_NONE, NAME_TLS, NAME_HTTP, NAME_H2C, NAME_DNS, NAME_PROTOCOLS };

static const char *const protocol_names[NAME_PROTOCOLS] = {"none", "tls", "http", "h2c", "dns"};

/* A flow by its ends, as its initiator sends; one of an interface, of a direction, of a VLAN is the same. */
struct flow_name_key {
	__be32 src[4], dst[4];
	__be16 sport, dport;
	uint8_t family, proto;
	uint8_t reserved[2];
};

struct flow_name {
	struct stored stored;
	struct flow_name_key key;
	uint8_t protocol; /* enum name_protocol */
	uint8_t reserved;
	char name[NAME_TEXT_MAX]; /* empty: none */
	char path[NAME_PATH_MAX];
};

struct host_name_key {
	uint8_t address[16];
	uint8_t family;
	uint8_t reserved[7];
};

struct host_name {
	struct stored stored;
	struct host_name_key key;
	uint32_t ttl; /* seconds; 0 where it is not from DNS */
	uint8_t protocol;
	uint8_t reserved;
	char name[NAME_TEXT_MAX];
};

_Static_assert(sizeof(struct flow_name) % 8 == 0 && offsetof(struct flow_name, key) == sizeof(struct stored),
	"entries of a store");
_Static_assert(sizeof(struct host_name) % 8 == 0 && offsetof(struct host_name, key) == sizeof(struct stored),
	"entries of a store");

/* The first part of a beginning that goes on in the next packet. */
struct half {
	struct flow_name_key key;
	bool waits, first; /* first: of the flow */
	uint32_t seq, bytes;
	uint8_t data[NAME_DATA_MAX];
};

struct names {
	struct agent *agent;
	bool on;
	struct store *flows, *hosts;
	struct half *halves;
	uint64_t read[NAME_PROTOCOLS]; /* records by what they were; NAME_NONE: nothing that is known */
	uint64_t unnamed;              /* of them, TLS and HTTP without a name */
};

/* -- hosts -- */

static struct host_name_key host_key(const struct address *address)
{
	struct host_name_key key = {.family = address->family};

	memcpy(key.address, address->bytes, address->family == 4 ? 4 : 16);
	return key;
}

static uint64_t host_until(const struct host_name *host)
{
	uint32_t seconds = host->ttl > HOLD_S ? host->ttl : HOLD_S;

	return host->stored.put_ns + (seconds < TTL_MAX_S ? seconds : TTL_MAX_S) * NS_PER_S;
}

static const struct host_name *host_find(
	const struct names *names, const struct address *address, uint64_t now_ns)
{
	struct host_name_key key = host_key(address);
	const struct host_name *host = store_find(names->hosts, &key);

	return host && now_ns < host_until(host) ? host : NULL;
}

static void host_learn(struct names *names, const struct address *address, const char *name,
	enum name_protocol protocol, uint32_t ttl)
{
	uint64_t now_ns = agent_now_ns();
	const struct host_name *known = host_find(names, address, now_ns);
	struct host_name host = {.key = host_key(address), .ttl = ttl, .protocol = (uint8_t)protocol};
	struct address literal;

	if (!*name || address_parse(name, &literal) == 0)
		return; /* an address is no name */
	/* what was asked of DNS is better than what was asked of the host */
	if (known && known->protocol == NAME_DNS && protocol != NAME_DNS)
		return;
	snprintf(host.name, sizeof(host.name), "%s", name);
	store_put(names->hosts, &host, now_ns);
}

/* -- flows -- */

static void flow_learn(struct names *names, const struct flow_name_key *key, enum name_protocol protocol,
	const char *name, const char *path)
{
	struct flow_name flow = {.key = *key, .protocol = (uint8_t)protocol};

	snprintf(flow.name, sizeof(flow.name), "%s", name);
	snprintf(flow.path, sizeof(flow.path), "%s", path);
	store_put(names->flows, &flow, agent_now_ns());
}

static struct flow_name_key flow_reversed(const struct flow_name_key *key)
{
	struct flow_name_key reversed = *key;

	memcpy(reversed.src, key->dst, sizeof(reversed.src));
	memcpy(reversed.dst, key->src, sizeof(reversed.dst));
	reversed.sport = key->dport;
	reversed.dport = key->sport;
	return reversed;
}

/* -- records -- */

static struct flow_name_key record_key(const struct name_record *record)
{
	struct flow_name_key key = {.sport = record->sport,
		.dport = record->dport,
		.family = record->family,
		.proto = record->proto};

	memcpy(key.src, record->src, sizeof(key.src));
	memcpy(key.dst, record->dst, sizeof(key.dst));
	return key;
}

static void read_dns(
	struct names *names, const struct flow_name_key *key, const uint8_t *bytes, size_t length)
{
	struct flow_name_key client = flow_reversed(key); /* an answer comes from the server */
	struct name_answers answers;

	if (key->proto == IPPROTO_TCP) {
		/* the message's length stands before it (RFC 7766) */
		if (length < 2) {
			names->read[NAME_NONE]++;
			return;
		}
		bytes += 2;
		length -= 2;
	}
	if (name_dns_read(bytes, length, &answers) < 0) {
		names->read[NAME_NONE]++;
		return;
	}
	names->read[NAME_DNS]++;
	flow_learn(names, &client, NAME_DNS, answers.name, "");
	for (unsigned int i = 0; i < answers.count; i++)
		host_learn(names, &answers.answer[i].address, answers.name, NAME_DNS, answers.answer[i].ttl);
}

static struct half *half_of(const struct names *names, const struct flow_name_key *key)
{
	uint32_t hash = 0;

	for (size_t i = 0; i < sizeof(*key); i++)
		hash = (hash ^ ((const uint8_t *)key)[i]) * 16777619U;
	return &names->halves[(hash ^ hash >> 16) % HALVES];
}

/* Puts the second part behind the first.  False: there is none, or something is missing in between. */
static bool half_join(const struct names *names, const struct flow_name_key *key,
	const struct name_record *record, uint8_t joined[2 * NAME_DATA_MAX], size_t *ret_length,
	bool *ret_first)
{
	struct half *half = half_of(names, key);

	if (!half->waits || memcmp(&half->key, key, sizeof(*key)) != 0)
		return false;
	half->waits = false;
	if (record->seq != half->seq + half->bytes)
		return false;
	memcpy(joined, half->data, half->bytes);
	memcpy(joined + half->bytes, record->data, record->bytes);
	*ret_length = half->bytes + record->bytes;
	*ret_first = half->first;
	return true;
}

static void half_keep(
	const struct names *names, const struct flow_name_key *key, const struct name_record *record)
{
	struct half *half = half_of(names, key);

	half->key = *key;
	half->waits = true;
	half->first = record->flags & NAME_FLAG_SYN;
	half->seq = record->seq;
	half->bytes = record->bytes;
	memcpy(half->data, record->data, record->bytes);
}

/* TLS or HTTP. `bytes` is the beginning of the stream from whoever began it. */
static void read_stream(struct names *names, const struct name_record *record, const uint8_t *bytes,
	size_t length, bool first)
{
	struct flow_name_key key = record_key(record);
	struct name_request request = {};
	enum name_protocol protocol = NAME_TLS;
	struct address server = {.family = record->family};
	int r = name_tls_read(bytes, length, request.name);

	if (r == -EPROTO) {
		r = name_http_read(bytes, length, &request);
		protocol = request.h2c ? NAME_H2C : NAME_HTTP;
	}
	if (r == -EAGAIN && record->flags & NAME_FLAG_MORE)
		half_keep(names, &key, record);
	if (r == -EPROTO) {
		names->read[NAME_NONE]++;
		return;
	}
	/* The line of a living flow may be new: then this is not what the flow began with. */
	if (!first && store_find(names->flows, &key))
		return;
	if (!(r == -EAGAIN && record->flags & NAME_FLAG_MORE)) {
		names->read[protocol]++;
		names->unnamed += !request.name[0];
	}
	flow_learn(names, &key, protocol, request.name, request.path);
	memcpy(server.bytes, record->dst, record->family == 4 ? 4 : 16);
	/* what comes in is asked of this host, not of the one at the other end */
	if (record->flags & NAME_FLAG_OUT)
		host_learn(names, &server, request.name, protocol, 0);
}

static void on_record(void *context, const struct name_record *record)
{
	struct names *names = context;
	struct flow_name_key key = record_key(record);
	uint8_t joined[2 * NAME_DATA_MAX];
	const uint8_t *bytes = record->data;
	size_t length = record->bytes;
	bool first = record->flags & NAME_FLAG_SYN;

	if (!names->on)
		return; /* copied while it was on */
	if (record->flags & NAME_FLAG_REST) {
		if (!half_join(names, &key, record, joined, &length, &first))
			return;
		bytes = joined;
		first = true; /* replaces what its first half told */
	}
	if (ntohs(record->sport) == PORT_DNS) {
		if (record->flags & NAME_FLAG_MORE && length >= 2 &&
			2 + (bytes[0] << 8 | bytes[1]) > (int)length)
			half_keep(names, &key, record);
		read_dns(names, &key, bytes, length);
	} else {
		read_stream(names, record, bytes, length, first);
	}
}

static void read_ring(struct names *names)
{
	engine_name_read(names->agent->engine, on_record, names);
}

/* -- answers -- */

void names_write_flow(struct agent *agent, struct json_write *out, const struct table_key *key)
{
	const struct names *names = module_state(agent, &name_module);
	struct flow_name_key wanted = {.sport = key->sport,
		.dport = key->dport,
		.family = key->kind & FLOW_KIND_IPV4 ? 4 : 6,
		.proto = key->proto};
	const struct flow_name *flow;

	if (!names || !names->on || !(key->kind & FLOW_KIND_PORTS))
		return;
	memcpy(wanted.src, key->src, sizeof(wanted.src));
	memcpy(wanted.dst, key->dst, sizeof(wanted.dst));
	flow = store_find(names->flows, &wanted);
	if (!flow) {
		wanted = flow_reversed(&wanted);
		flow = store_find(names->flows, &wanted);
	}
	if (!flow || flow->protocol >= NAME_PROTOCOLS)
		return;
	json_write_object_begin(out, "app");
	json_write_string(out, "protocol", protocol_names[flow->protocol]);
	if (flow->name[0])
		json_write_string(out, "name", flow->name);
	if (flow->path[0])
		json_write_string(out, "path", flow->path);
	json_write_object_end(out);
}

static void write_name(struct json_write *out, const struct host_name *host, const char *source_key)
{
	json_write_string(out, "name", host->name);
	json_write_string(out, source_key,
		protocol_names[host->protocol < NAME_PROTOCOLS ? host->protocol : NAME_NONE]);
}

void names_write_host(struct agent *agent, struct json_write *out, const struct address *address)
{
	const struct names *names = module_state(agent, &name_module);
	const struct host_name *host = names && names->on ? host_find(names, address, agent_now_ns()) : NULL;

	if (host)
		write_name(out, host, "name_source");
}

/* The last one learned comes first. */
static void write_list(const struct names *names, struct json_write *out, uint64_t limit)
{
	uint64_t now_ns = agent_now_ns(), until_ns, count = 0;
	const struct host_name *host;
	uint32_t place = STORE_END;

	json_write_array_begin(out, "names");
	while (count < limit && (host = store_next(names->hosts, &place))) {
		struct address address = {.family = host->key.family};
		char text[ADDRESS_TEXT_MAX];

		if (now_ns >= host_until(host))
			continue;
		until_ns = host->stored.put_ns + host->ttl * NS_PER_S;
		memcpy(address.bytes, host->key.address, sizeof(address.bytes));
		json_write_object_begin(out, NULL);
		json_write_string(out, "address", address_print(text, sizeof(text), &address));
		write_name(out, host, "source");
		json_write_number(out, "ttl", until_ns > now_ns ? (until_ns - now_ns) / NS_PER_S : 0);
		json_write_number(out, "age", (now_ns - host->stored.put_ns) / NS_PER_S);
		json_write_object_end(out);
		json_write_newline(out);
		count++;
	}
	json_write_array_end(out);
}

static struct name_stats read_stats(const struct names *names)
{
	struct name_stats stats = {};

	if (engine_name_stats(names->agent->engine, &stats) < 0)
		log_debug("cannot read the counters of names");
	return stats;
}

static void write_table(const struct names *names, const char *key, struct json_write *out)
{
	struct name_stats stats = read_stats(names);

	json_write_object_begin(out, key);
	json_write_boolean(out, "on", names->on);
	json_write_number(out, "addresses", store_count(names->hosts));
	json_write_number(out, "flows", store_count(names->flows));
	json_write_number(out, "limit", store_limit(names->hosts));
	json_write_number(out, "displaced", store_displaced(names->hosts) + store_displaced(names->flows));
	json_write_number(out, "bytes", store_bytes(names->hosts) + store_bytes(names->flows));
	json_write_object_begin(out, "read");
	for (int i = NAME_TLS; i < NAME_PROTOCOLS; i++)
		json_write_number(out, protocol_names[i], names->read[i]);
	json_write_number(out, "unnamed", names->unnamed);
	json_write_number(out, "unknown", names->read[NAME_NONE]);
	json_write_object_end(out);
	json_write_object_begin(out, "records");
	json_write_number(out, "taken", stats.taken);
	json_write_number(out, "lost", stats.lost);
	json_write_number(out, "limited", stats.limited);
	json_write_object_end(out);
	json_write_object_end(out);
}

static void names_status(struct agent *agent, void *state, struct json_write *out)
{
	(void)agent;
	write_table(state, "names", out);
}

static int parse_limit(const char *query, uint64_t *ret_limit, struct error *error)
{
	static const char *const known[] = {"limit", NULL};
	_cleanup_free_ char *text = NULL;
	char *end;
	int r = query_check(query, known, error);

	if (r < 0)
		return r;
	*ret_limit = UINT64_MAX;
	text = query_value(query, "limit");
	if (!text)
		return 0;
	errno = 0;
	*ret_limit = strtoull(text, &end, 10);
	if (*text >= '0' && *text <= '9' && !*end && !errno)
		return 0;
	error_set(error, -EINVAL, "the limit '%s' is not a number", text);
	return error_want(error, "a whole number");
}

static void reply_names(struct agent *agent, struct evhttp_request *request)
{
	const struct names *names = module_state(agent, &name_module);
	struct json_write json = {};
	struct error error = {};
	uint64_t limit;

	if (parse_limit(query_of(request), &limit, &error) < 0) {
		reply_bad_request(request, &error);
		return;
	}
	json_write_object_begin(&json, NULL);
	write_list(names, &json, names->on ? limit : 0);
	write_table(names, "table", &json);
	json_write_object_end(&json);
	reply_json(request, HTTP_OK, "OK", &json);
	json_write_free(&json);
}

static void names_metrics(struct agent *agent, void *state, struct evbuffer *out)
{
	const struct names *names = state;
	struct name_stats stats = read_stats(names);

	(void)agent;
	evbuffer_add_printf(out,
		"# HELP weir_names Addresses and flows with a name.\n"
		"# TYPE weir_names gauge\n"
		"weir_names{of=\"addresses\"} %u\n"
		"weir_names{of=\"flows\"} %u\n"
		"# HELP weir_names_limit Addresses, and flows, that may have a name.\n"
		"# TYPE weir_names_limit gauge\n"
		"weir_names_limit %u\n"
		"# HELP weir_names_displaced_total Names that made room for others.\n"
		"# TYPE weir_names_displaced_total counter\n"
		"weir_names_displaced_total %" PRIu64 "\n"
		"# HELP weir_names_read_total Beginnings of flows and DNS answers read, by protocol.\n"
		"# TYPE weir_names_read_total counter\n",
		store_count(names->hosts), store_count(names->flows), store_limit(names->hosts),
		store_displaced(names->hosts) + store_displaced(names->flows));
	for (int i = NAME_NONE; i < NAME_PROTOCOLS; i++)
		evbuffer_add_printf(out, "weir_names_read_total{protocol=\"%s\"} %" PRIu64 "\n",
			protocol_names[i], names->read[i]);
	evbuffer_add_printf(out,
		"# HELP weir_names_records_total Records of first bytes, by what became of them.\n"
		"# TYPE weir_names_records_total counter\n"
		"weir_names_records_total{fate=\"taken\"} %" PRIu64 "\n"
		"weir_names_records_total{fate=\"lost\"} %" PRIu64 "\n"
		"weir_names_records_total{fate=\"limited\"} %" PRIu64 "\n",
		(uint64_t)stats.taken, (uint64_t)stats.lost, (uint64_t)stats.limited);
}

/* -- module -- */

static void on_ring(evutil_socket_t fd, short what, void *context)
{
	(void)fd;
	(void)what;
	read_ring(context);
}

static void names_tick(struct agent *agent, void *state, uint64_t now_ns)
{
	(void)agent;
	(void)now_ns;
	read_ring(state);
}

static int stores_open(struct names *names, struct error *error)
{
	struct engine *engine = names->agent->engine;
	uint32_t limit = names->agent->config.names_table;
	struct store *flows = NULL, *hosts = NULL;
	int r = store_open(engine, "name_flows", sizeof(struct flow_name), sizeof(struct flow_name_key),
		limit, &flows, error);

	if (r == 0)
		r = store_open(engine, "name_hosts", sizeof(struct host_name), sizeof(struct host_name_key),
			limit, &hosts, error);
	if (r < 0) {
		store_close(flows);
		return r;
	}
	store_close(names->flows);
	store_close(names->hosts);
	names->flows = flows;
	names->hosts = hosts;
	return 0;
}

/* Switched off, everything that was learned is forgotten. */
static int names_switch(struct names *names, bool on)
{
	names->on = on;
	if (!on) {
		store_clear(names->flows);
		store_clear(names->hosts);
		memset(names->halves, 0, HALVES * sizeof(*names->halves));
	}
	return engine_name_limit(names->agent->engine, on ? RATE : 0);
}

static void names_close(void *state)
{
	struct names *names = state;

	store_close(names->flows);
	store_close(names->hosts);
	free(names->halves);
	free(names);
}

static int names_open(struct agent *agent, void **ret_state, struct error *error)
{
	struct names *names = calloc(1, sizeof(*names));
	int r;

	if (!names)
		return error_set(error, -ENOMEM, "out of memory");
	*ret_state = names;
	names->agent = agent;
	names->halves = calloc(HALVES, sizeof(*names->halves));
	if (!names->halves)
		return error_set(error, -ENOMEM, "out of memory");
	r = stores_open(names, error);
	if (r < 0)
		return r;
	r = names_switch(names, agent->config.names_on);
	if (r == 0)
		r = agent_wait_for(agent, engine_name_fd(agent->engine), on_ring, names);
	return r < 0 ? error_set(error, r, "cannot set up names: %s", strerror(-r)) : 0;
}

static void names_reload(struct agent *agent, void *state)
{
	struct names *names = state;
	struct error error = {};

	if (agent->config.names_on && !engine_name_possible(agent->engine))
		log_warning("names are read again from the agent's next start on");
	if (agent->config.names_table != store_limit(names->hosts) && stores_open(names, &error) < 0)
		log_warning("the tables of names keep their size: %s", error.what);
	if (names_switch(names, agent->config.names_on) < 0)
		log_warning("the datapath goes on copying first bytes; nothing is read in them");
}

static const struct route name_routes[] = {
	{"/v1/names", EVHTTP_REQ_GET, reply_names},
	{NULL},
};

const struct module name_module = {
	.name = "name",
	.open = names_open,
	.close = names_close,
	.reload = names_reload,
	.tick = names_tick,
	.status = names_status,
	.metrics = names_metrics,
	.routes = name_routes,
};

// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * GET /metrics: Prometheus text format 0.0.4.  The number of series is bounded by interfaces, reasons and the
 * fixed list below; addresses and ports are for the API.
 */
#include <event2/buffer.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/internal.h"
#include "basic/cleanup.h"
#include "basic/text.h"

static const char *const reason_names[] = {
#define REASON_NAME(identifier, name, explanation) [PARSE_##identifier] = name,
	PARSE_REASONS(REASON_NAME)
#undef REASON_NAME
};

const char *parse_reason_name(enum parse_reason reason)
{
	return reason_names[reason];
}

size_t memory_of_agent(void)
{
	_cleanup_fclose_ FILE *file = fopen("/proc/self/statm", "re");
	unsigned long resident = 0;

	if (!file || fscanf(file, "%*u %lu", &resident) != 1)
		return 0;
	return resident * (size_t)sysconf(_SC_PAGESIZE);
}

void metrics_head(struct evbuffer *out, const char *name, const char *type, const char *help)
{
	evbuffer_add_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

void metrics_single(
	struct evbuffer *out, const char *name, const char *type, const char *help, uint64_t value)
{
	metrics_head(out, name, type, help);
	evbuffer_add_printf(out, "%s %llu\n", name, (unsigned long long)value);
}

void metrics_labelled(
	struct evbuffer *out, const char *name, const char *label, const char *label_value, uint64_t value)
{
	evbuffer_add_printf(out, "%s{%s=\"%s\"} %llu\n", name, label, label_value, (unsigned long long)value);
}

void metrics_escape(char *to, size_t size, const char *from)
{
	size_t length = 0, character;

	for (; *from && length + 5 < size; from += character) {
		character = text_utf8_length(from);
		if (*from == '"' || *from == '\\' || *from == '\n')
			to[length++] = '\\';
		if (character) {
			memcpy(to + length, from, character);
			length += character;
		} else {
			to[length++] = '?';
			character = 1;
		}
		if (to[length - 1] == '\n')
			to[length - 1] = 'n';
	}
	to[length] = '\0';
}

static void interface_metric(
	struct agent *agent, struct evbuffer *out, const char *name, const char *help, bool bytes)
{
	uint32_t count = table_total_count(agent->table, TABLE_INTERFACES);

	metrics_head(out, name, "counter", help);
	for (uint32_t i = 0; i < count; i++) {
		const struct table_total *total = table_total(agent->table, TABLE_INTERFACES, i);
		char escaped[2 * ENGINE_NAME_MAX + 8];

		if (i == TABLE_OTHER && !total->in.packets && !total->out.packets)
			continue;
		metrics_escape(escaped, sizeof(escaped), i == TABLE_OTHER ? "other" : total->name);
		evbuffer_add_printf(out, "%s{interface=\"%s\",direction=\"in\"} %llu\n", name, escaped,
			(unsigned long long)(bytes ? total->in.bytes : total->in.packets));
		evbuffer_add_printf(out, "%s{interface=\"%s\",direction=\"out\"} %llu\n", name, escaped,
			(unsigned long long)(bytes ? total->out.bytes : total->out.packets));
	}
}

static void table_metrics(struct agent *agent, struct evbuffer *out)
{
	struct table_summary summary;

	table_summarize(agent->table, &summary);
	metrics_single(out, "weir_flows", "gauge", "Flows in the table.", summary.flows);
	metrics_single(out, "weir_flows_limit", "gauge", "Flows the table may hold.", summary.flows_limit);
	metrics_single(out, "weir_flow_sample_rate", "gauge", "One of so many new flows is kept.",
		summary.sample_rate);
	metrics_single(out, "weir_sampled_out_packets_total", "counter",
		"Packets of flows that sampling left out.", summary.sampled_out.packets);
	metrics_single(out, "weir_sampled_out_bytes_total", "counter",
		"Bytes of flows that sampling left out.", summary.sampled_out.bytes);
	metrics_single(out, "weir_refused_packets_total", "counter",
		"Packets of flows that found no room in the table.", summary.refused.packets);
	metrics_single(out, "weir_refused_bytes_total", "counter",
		"Bytes of flows that found no room in the table.", summary.refused.bytes);
	metrics_single(
		out, "weir_hosts", "gauge", "Remote addresses with totals of their own.", summary.hosts);
	metrics_single(out, "weir_hosts_limit", "gauge",
		"Remote addresses that may have totals of their own.", summary.hosts_limit);
	metrics_head(out, "weir_flows_ended_total", "counter", "Flows that left the table, by reason.");
	metrics_labelled(out, "weir_flows_ended_total", "reason", "idle", summary.ended.idle);
	metrics_labelled(out, "weir_flows_ended_total", "reason", "active", summary.ended.active);
	metrics_labelled(out, "weir_flows_ended_total", "reason", "closed", summary.ended.closed);
	metrics_labelled(out, "weir_flows_ended_total", "reason", "pressure", summary.ended.pressure);
	metrics_head(out, "weir_memory_bytes", "gauge", "Memory in use, by part.");
	metrics_labelled(out, "weir_memory_bytes", "part", "agent", memory_of_agent());
	metrics_labelled(out, "weir_memory_bytes", "part", "cache", engine_map_bytes(agent->engine));
	metrics_labelled(out, "weir_memory_bytes", "part", "rings",
		(uint64_t)engine_view(agent->engine)->cpus * engine_sizes(agent->engine)->ring_bytes);
	metrics_labelled(out, "weir_memory_bytes", "part", "table", summary.bytes);
}

void metrics_write(struct agent *agent, struct evbuffer *out)
{
	struct losses losses;

	collect_losses(agent->engine, &losses);
	metrics_head(out, "weir_build_info", "gauge", "The version that runs.");
	evbuffer_add_printf(out, "weir_build_info{version=\"%s\"} 1\n", WEIR_VERSION);
	metrics_single(out, "weir_uptime_seconds", "gauge", "Time since the agent started.",
		(agent_now_ns() - agent->started_ns) / 1000000000);
	metrics_single(out, "weir_packets_seen_total", "counter", "Wire packets at all hooks.", losses.seen);
	metrics_single(out, "weir_packets_cached", "gauge", "Packets counted in lines of the flow cache now.",
		losses.cached);
	metrics_single(out, "weir_packets_emitted_total", "counter",
		"Packets in records handed to the agent.", losses.emitted);
	metrics_single(out, "weir_packets_lost_total", "counter",
		"Packets counted in no flow: a ring was full.", losses.lost);
	metrics_single(out, "weir_bytes_lost_total", "counter", "Bytes counted in no flow: a ring was full.",
		losses.lost_bytes);
	metrics_single(out, "weir_records_total", "counter", "Records handed to the agent.", losses.records);
	metrics_head(out, "weir_parse_failures_total", "counter",
		"Packets that could not be read to their ports, by reason.");
	for (int i = PARSE_OK + 1; i < PARSE_REASON_COUNT; i++)
		metrics_labelled(
			out, "weir_parse_failures_total", "reason", reason_names[i], losses.reasons[i]);
	interface_metric(agent, out, "weir_interface_packets_total", "Wire packets of an interface.", false);
	interface_metric(agent, out, "weir_interface_bytes_total", "Wire bytes of an interface.", true);
	table_metrics(agent, out);
	modules_metrics(agent, out);
}

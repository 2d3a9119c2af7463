/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "model/config.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "unit.h"

#define TOP_KEYS                                                                                             \
	"one of interfaces, flows, api, metrics, owners, sockets, audit, drops, capture, default, sets, "    \
	"shapes, services, forward, steer, rules, tenants, policy, connections, balance, xdp, log_packets, " \
	"log_drops, names, log"

#define MS 1000000ULL
#define S  1000000000ULL

static int read_text(const char *text, struct config *ret_config, struct error *error)
{
	return config_read_text(text, strlen(text), "weir.yaml", ret_config, error);
}

static struct config configured(const char *text)
{
	struct config config;
	struct error error = {0};

	EXPECT(read_text(text, &config, &error) == 0, "%s: %u:%u: %s; %s", text, error.line, error.column,
		error.what, error.want);
	return config;
}

static void expect_defaults(const struct config *config)
{
	assert_true(config->interfaces_auto);
	assert_null(config->interfaces);
	assert_int_equal(config->cache4_lines, 32768);
	assert_int_equal(config->cache6_lines, 8192);
	assert_int_equal(config->table_flows, 131072);
	assert_int_equal(config->table_hosts, 65536);
	assert_int_equal(config->ring_bytes, 1048576);
	assert_int_equal(config->scan_ns, 5 * S);
	assert_int_equal(config->idle_ns, 120 * S);
	assert_int_equal(config->closed_ns, 60 * S);
	assert_int_equal(config->active_ns, 1800 * S);
	assert_int_equal(config->api_mode, 0660);
	assert_false(config->api_group_change);
	assert_false(config->metrics_on);
	assert_int_equal(config->sockets_interval_ns, 60 * S);
	assert_int_equal(config->sockets_remembered, 8192);
	assert_int_equal(config->audit_entries, 65536);
	assert_int_equal(config->metrics_processes, 50);
	assert_int_equal(config->owners_table, 16384);
	assert_int_equal(config->owners_keep_ns, 600 * S);
	assert_true(config->drops_enabled);
	assert_int_equal(config->drops_rate, 1000);
	assert_true(config->names_on);
	assert_int_equal(config->names_table, 16384);
	assert_int_equal(config->log_level, LOG_LEVEL_INFO);
	assert_int_equal(config->policy.host.defaults[0], POLICY_ACCEPT);
	assert_int_equal(config->policy.host.rule_count, 0);
	assert_int_equal(config->policy.set_count, 0);
	assert_int_equal(config->policy.tenant_count, 0);
	assert_int_equal(config->connections_table, 262144);
	assert_int_equal(config->connections_embryonic, 65536);
	assert_int_equal(config->balance, CONFIG_BALANCE_AUTO);
	assert_int_equal(config->balance_flows, 1048576);
	assert_int_equal(config->balance_nat[0].first.family, 0);
	assert_int_equal(config->balance_ports.low, 61001);
	assert_int_equal(config->balance_ports.high, 65535);
	assert_true(config->connections_ns[CONNECTION_TCP][CONNECTION_OPEN] == 432000 * S);
	assert_true(config->connections_ns[CONNECTION_ICMP][CONNECTION_ANSWERED] == 30 * S);
	assert_int_equal(config->xdp, CONFIG_XDP_AUTO);
	assert_int_equal(config->xdp_interface_count, 0);
	assert_int_equal(config->log_packets, 100);
	assert_int_equal(config->log_drops, 50);
}

static void a_file_that_says_nothing_is_the_defaults(void **state)
{
	static const char *const cases[] = {"", "\n", "# nothing\n", "---\n", "--- \n...\n", "\xef\xbb\xbf",
		"{}", "null", "~", "flows:\n", "flows:\n  cache:\n  # ipv4: 1\napi: {}\nmetrics:\n",
		"# a\r\n"};

	(void)state;
	FOR_EACH_CASE(text, cases)
	{
		struct config config = configured(*text);

		expect_defaults(&config);
		assert_null(config.api_group);
		config_free(&config);
	}
}

/* The example in config.h is what the manual shows too. */
static char *example_read(void)
{
	FILE *file = fopen(SOURCE_ROOT "/src/model/config.h", "re");
	char line[200], *text = calloc(1, 8192);
	bool inside = false;

	assert_non_null(file);
	assert_non_null(text);
	while (fgets(line, sizeof(line), file)) {
		inside = inside ? strncmp(line, " */", 3) != 0 : strncmp(line, " *     interfaces:", 18) == 0;
		if (inside)
			strncat(text, line + 7, 8191 - strlen(text));
	}
	fclose(file);
	return text;
}

static void the_documented_example_is_the_defaults_with_a_group(void **state)
{
	char *text = example_read();
	struct config config = configured(text);

	(void)state;
	assert_non_null(strstr(text, "\nlog: info"));
	expect_defaults(&config);
	assert_string_equal(config.api_group, "weir");
	config_free(&config);
	free(text);
}

static void values_arrive_where_they_belong(void **state)
{
	struct config config =
		configured("interfaces:\n- eth0\n- 'veth*'\n"
			   "flows:\n"
			   "  cache: {ipv4: 64, ipv6: 4194304}\n"
			   "  table: 1024\n"
			   "  hosts: 65\n"
			   "  ring: 128kib\n"
			   "  scan: 250ms\n"
			   "  idle: 1m30s\n"
			   "  closed: 2s\n"
			   "  active: 1h\n"
			   "api:\n"
			   "  mode: \"0600\"\n"
			   "  group: netops\n"
			   "  change: group\n"
			   "metrics:\n"
			   "  listen: \"[2001:db8::1]:9100\"\n"
			   "sockets: {interval: 10s, remembered: 64}\n"
			   "audit: {entries: 0}\n"
			   "drops: {enabled: off, rate: 0}\n"
			   "names: {enabled: off, table: 64}\n"
			   "rules:\n"
			   "- deny connect by user 7 to 10.0.0.0/8 \"no lan\"\n"
			   "- 'allow  bind'\n"
			   "default: {in: drop, log: on}\n"
			   "sets: {web: [80, 443]}\n"
			   "tenants: {lab: {interfaces: [veth3], rules: [accept in]}}\n"
			   "policy: saved.yaml\n"
			   "connections:\n"
			   "  table: 2048\n"
			   "  embryonic: 1024\n"
			   "  timeouts: {tcp: {open: 1h, reset: 1s}, udp: {new: 5s}, icmp: 7s, other: 30d}\n"
			   "services: [web tcp 203.0.113.10 to 10.0.0.1]\n"
			   "forward: [from eth0 by route]\n"
			   "steer: [in on eth0 to cpus 0]\n"
			   "balance: {hook: generic, flows: 4096,\n"
			   "  nat: {from: [10.0.0.1-10.0.0.4, '2001:db8::1'], ports: 1024-2047}}\n"
			   "xdp: {mode: generic, interfaces: {eth0: off, eth1: native}}\n"
			   "log_packets: 0\n"
			   "log_drops: 7\n"
			   "log: debug\n");
	char text[ADDRESS_TEXT_MAX];

	(void)state;
	assert_false(config.interfaces_auto);
	assert_string_equal(config.interfaces[0], "eth0");
	assert_string_equal(config.interfaces[1], "veth*");
	assert_null(config.interfaces[2]);
	assert_int_equal(config.cache4_lines, 64);
	assert_int_equal(config.cache6_lines, 4194304);
	assert_int_equal(config.table_flows, 1024);
	assert_int_equal(config.table_hosts, 65);
	assert_int_equal(config.ring_bytes, 131072);
	assert_int_equal(config.scan_ns, 250 * MS);
	assert_int_equal(config.idle_ns, 90 * S);
	assert_int_equal(config.closed_ns, 2 * S);
	assert_int_equal(config.active_ns, 3600 * S);
	assert_int_equal(config.api_mode, 0600);
	assert_string_equal(config.policy.host.rules[0], "deny connect by user 7 to 10.0.0.0/8 \"no lan\"");
	assert_string_equal(config.policy.host.rules[1], "allow bind");
	assert_null(config.policy.host.rules[2]);
	assert_int_equal(config.policy.host.defaults[0], POLICY_DROP);
	assert_true(config.policy.host.log);
	assert_string_equal(config.policy.sets[0].entries, "80\n443\n");
	assert_string_equal(config.policy.tenants[0].list.rules[0], "accept in");
	assert_string_equal(config.policy_file, "saved.yaml");
	assert_string_equal(
		config.policy.sections[POLICY_SERVICES].texts[0], "web tcp 203.0.113.10 to 10.0.0.1");
	assert_int_equal(config.policy.sections[POLICY_FORWARDS].count, 1);
	assert_int_equal(config.policy.sections[POLICY_STEERS].count, 1);
	assert_int_equal(config.balance, CONFIG_BALANCE_GENERIC);
	assert_int_equal(config.balance_flows, 4096);
	assert_int_equal(service_nat_addresses(&config.balance_nat[0].first, &config.balance_nat[0].last), 4);
	assert_int_equal(config.balance_nat[1].first.bytes[15], 1);
	assert_int_equal(config.balance_ports.low, 1024);
	assert_int_equal(config.balance_ports.high, 2047);
	assert_int_equal(config.connections_table, 2048);
	assert_int_equal(config.connections_embryonic, 1024);
	assert_true(config.connections_ns[CONNECTION_TCP][CONNECTION_OPEN] == 3600 * S);
	assert_true(config.connections_ns[CONNECTION_TCP][CONNECTION_NEW] == 120 * S);
	assert_true(config.connections_ns[CONNECTION_TCP][CONNECTION_RESET] == S);
	assert_true(config.connections_ns[CONNECTION_UDP][CONNECTION_NEW] == 5 * S);
	for (int stage = 0; stage < CONNECTION_STAGES; stage++) {
		assert_true(config.connections_ns[CONNECTION_ICMP][stage] == 7 * S);
		assert_true(config.connections_ns[CONNECTION_OTHER][stage] == 30 * 86400 * S);
	}
	assert_int_equal(config.xdp, CONFIG_XDP_GENERIC);
	assert_int_equal(config.xdp_interface_count, 2);
	assert_string_equal(config.xdp_interfaces[1].name, "eth1");
	assert_int_equal(config.xdp_interfaces[0].mode, CONFIG_XDP_OFF);
	assert_int_equal(config.xdp_interfaces[1].mode, CONFIG_XDP_NATIVE);
	assert_int_equal(config.log_packets, 0);
	assert_int_equal(config.log_drops, 7);
	assert_string_equal(config.api_group, "netops");
	assert_true(config.api_group_change);
	assert_true(config.metrics_on);
	assert_string_equal(address_print(text, sizeof(text), &config.metrics_address), "2001:db8::1");
	assert_int_equal(config.metrics_port, 9100);
	assert_int_equal(config.sockets_interval_ns, 10 * S);
	assert_int_equal(config.sockets_remembered, 64);
	assert_int_equal(config.audit_entries, 0);
	assert_false(config.drops_enabled);
	assert_int_equal(config.drops_rate, 0);
	assert_false(config.names_on);
	assert_int_equal(config.names_table, 64);
	assert_int_equal(config.log_level, LOG_LEVEL_DEBUG);
	config_free(&config);
}

static void names_have_one_switch(void **state)
{
	struct config config = configured("names: off\n");

	(void)state;
	assert_false(config.names_on);
	config_free(&config);
}

static void metrics_listen_where_they_are_told(void **state)
{
	static const struct {
		const char *value, *address;
		uint16_t port;
	} cases[] = {
		{"9100", "127.0.0.1", 9100},
		{"\"1\"", "127.0.0.1", 1},
		{"65535", "127.0.0.1", 65535},
		{"0.0.0.0:9100", "0.0.0.0", 9100},
		{"192.0.2.1:80", "192.0.2.1", 80},
		{"\"[::]:9100\"", "::", 9100},
		{"'[fe80::1]:1'", "fe80::1", 1},
	};

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		char text[100], address[ADDRESS_TEXT_MAX];
		struct config config;

		snprintf(text, sizeof(text), "metrics: {listen: %s}", c->value);
		config = configured(text);
		EXPECT(config.metrics_on, "%s", c->value);
		EXPECT(config.metrics_port == c->port, "%s", c->value);
		EXPECT_TEXT(address_print(address, sizeof(address), &config.metrics_address), c->address,
			"%s", c->value);
		config_free(&config);
	}
}

static void every_bound_is_kept(void **state)
{
	static const struct {
		const char *key;
		const char *fits[3], *small, *large, *range;
	} cases[] = {
		{"cache: {ipv4: %s}", {"64", "128", "4194304"}, "32", "8388608",
			"64 to 4194304, a power of two"},
		{"cache: {ipv6: %s}", {"64", "128", "4194304"}, "63", "4194305",
			"64 to 4194304, a power of two"},
		{"table: %s", {"1024", "1025", "16777216"}, "1023", "16777217", "1024 to 16777216"},
		{"hosts: %s", {"64", "65", "1048576"}, "63", "1048577", "64 to 1048576"},
		{"ring: %s", {"64kib", "65536", "64mib"}, "32kib", "128mib",
			"64kib to 64mib, a power of two"},
		{"ring: %s", {"1mib", "2mib", "67108864"}, "0", "99999999999999999999",
			"64kib to 64mib, a power of two"},
		{"scan: %s", {"100ms", "1s", "1m"}, "99ms", "1m0.1s", "100ms to 1m"},
		{"idle: %s", {"1s", "1", "1d"}, "999ms", "1d1ns", "1s to 1d"},
		{"closed: %s", {"1s", "30m", "1h"}, "0", "61m", "1s to 1h"},
		{"active: %s", {"10s", "0", "7d"}, "9s", "8d", "10s to 7d, or 0 for never"},
		{"active: %s", {"0s", "0ms", "168h"}, "1ns", "213504d", "10s to 7d, or 0 for never"},
	};

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		const char *const outside[] = {c->small, c->large};
		char text[100], value[60];
		struct config config;

		for (size_t i = 0; i < COUNT(c->fits); i++) {
			snprintf(value, sizeof(value), "%.*s%s%s", (int)(strchr(c->key, '%') - c->key),
				c->key, c->fits[i], strchr(c->key, '%') + 2);
			snprintf(text, sizeof(text), "flows:\n  %s\n", value);
			config = configured(text);
			config_free(&config);
		}
		for (size_t i = 0; i < COUNT(outside); i++) {
			struct error error = {0};

			snprintf(value, sizeof(value), "%.*s%s%s", (int)(strchr(c->key, '%') - c->key),
				c->key, outside[i], strchr(c->key, '%') + 2);
			snprintf(text, sizeof(text), "flows:\n  %s\n", value);
			EXPECT(read_text(text, &config, &error) == -EINVAL, "%s", text);
			EXPECT(strstr(error.what, i ? "is too large" : "is too small") != NULL, "%s: %s",
				text, error.what);
			EXPECT_TEXT(error.want, c->range, "%s", text);
			EXPECT(error.line == 2 && error.column == 3 + strcspn(c->key, "%"), "%s: %u:%u", text,
				error.line, error.column);
		}
	}
}

static void an_error_names_its_place_and_what_would_be_right(void **state)
{
	static const struct misread_case cases[] = {
		/* keys */
		{"interface: auto", 1, 1, "unknown key 'interface'", "did you mean 'interfaces'?"},
		{"Log: info", 1, 1, "unknown key 'Log'", "did you mean 'log'?"},
		{"xyzzy: 1", 1, 1, "unknown key 'xyzzy'", TOP_KEYS},
		{"names: maybe", 1, 8, "names: expected off or on, got 'maybe'", ""},
		{"capture: {before: 1kb}", 1, 19, "capture.before: 1kb is too small", "1mb to 1gb"},
		{"capture: {snaplen: 8}", 1, 20, "capture.snaplen: 8 is too small", "32 to 262144"},
		{"names: {tabel: 64}", 1, 9, "unknown key 'tabel' in names", "did you mean 'table'?"},
		{"names: {table: 63}", 1, 16, "names.table: 63 is too small", "64 to 1048576"},
		{"flows:\n  tabel: 1", 2, 3, "unknown key 'tabel' in flows", "did you mean 'table'?"},
		{"flows: {cache: {ipv5: 64}}", 1, 17, "unknown key 'ipv5' in flows.cache",
			"did you mean 'ipv4'?"},
		{"metrics:\n  port: 1", 2, 3, "unknown key 'port' in metrics", "one of listen, processes"},
		{"idle: 1s", 1, 1, "unknown key 'idle'", "did you mean 'flows.idle'?"},
		{"api:\n  listen: off", 2, 3, "unknown key 'listen' in api",
			"did you mean 'metrics.listen'?"},
		{"log: info\nlog: debug", 2, 1, "a second key 'log'",
			"each key once; the first is in line 1"},
		{"flows:\n  idle: 1s\n  \"idle\": 2s", 3, 3, "a second key 'flows.idle'",
			"each key once; the first is in line 2"},
		{"? [a]\n: b", 1, 4, "the file: expected a key, got a list", "such as interfaces: ..."},
		{"flows: {? {} : 1}", 1, 1, "flows: expected a key, got a mapping", "such as cache: ..."},
		{"flows: {: 1}", 1, 1, "flows: expected a key, got nothing", "such as cache: ..."},
		/* types */
		{"just text", 1, 1, "the file: expected keys with values, got 'just text'",
			"such as interfaces: ..."},
		{"- log", 1, 3, "the file: expected keys with values, got a list", "such as interfaces: ..."},
		{"flows: many", 1, 8, "flows: expected keys with values, got 'many'", "such as cache: ..."},
		{"flows: [1]", 1, 9, "flows: expected keys with values, got a list", "such as cache: ..."},
		{"flows:\n  table: many", 2, 10, "flows.table: expected a number, got 'many'",
			"1024 to 16777216"},
		{"flows:\n  table: -1", 2, 10, "flows.table: expected a number, got '-1'",
			"1024 to 16777216"},
		{"flows:\n  table: 1e6", 2, 10, "flows.table: expected a number, got '1e6'",
			"1024 to 16777216"},
		{"flows:\n  table: ''", 2, 10, "flows.table: expected a number, got ''", "1024 to 16777216"},
		{"flows:\n  table:", 2, 3, "flows.table: expected a number, got nothing", "1024 to 16777216"},
		{"flows:\n  table: [2048]", 2, 11, "flows.table: expected a number, got a list",
			"1024 to 16777216"},
		{"flows:\n  table: []", 2, 3, "flows.table: expected a number, got a list",
			"1024 to 16777216"},
		{"flows:\n  table: {a: b}", 2, 11, "flows.table: expected a number, got a mapping",
			"1024 to 16777216"},
		{"flows:\n  table: *x", 2, 10, "flows.table: expected a number, got an alias",
			"1024 to 16777216"},
		{"flows:\n  ring: 1 mib", 2, 9, "flows.ring: expected a size, got '1 mib'",
			"64kib to 64mib, a power of two"},
		{"flows:\n  scan: 5 s", 2, 9, "flows.scan: expected a duration, got '5 s'", "100ms to 1m"},
		/* powers of two */
		{"flows:\n  cache: {ipv4: 1000}", 2, 17, "flows.cache.ipv4: 1000 is not a power of two",
			"512 or 1024"},
		{"flows:\n  cache: {ipv6: 65}", 2, 17, "flows.cache.ipv6: 65 is not a power of two",
			"64 or 128"},
		{"flows:\n  cache: {ipv6: 4194303}", 2, 17, "flows.cache.ipv6: 4194303 is not a power of two",
			"2097152 or 4194304"},
		{"flows:\n  ring: 3mib", 2, 9, "flows.ring: 3mib is not a power of two", "2mib or 4mib"},
		/* interfaces */
		{"interfaces: eth0", 1, 13, "interfaces: expected auto or a list, got 'eth0'", "[eth0]"},
		{"interfaces:", 1, 1, "interfaces: expected auto or a list, got nothing",
			"auto, or names and patterns such as [eth0, \"veth*\"]"},
		{"interfaces: []", 1, 1, "interfaces: the list is empty",
			"auto, or at least one name or pattern"},
		{"interfaces: [eth0, auto]", 1, 20, "interfaces: 'auto' in a list", "interfaces: auto"},
		{"interfaces: [eth0, lo, eth0]", 1, 24, "interfaces: a second 'eth0'", "each name once"},
		{"interfaces: [abcdefghijklmnop]", 1, 14,
			"interfaces: the name 'abcdefghijklmnop' is too long", "at most 15 bytes"},
		{"balance: {hook: native}", 1, 17,
			"balance.hook: expected auto, xdp, generic or off, got 'native'", ""},
		{"balance: {flows: 1}", 1, 18, "balance.flows: 1 is too small", "1024 to 16777216"},
		{"balance: {nat: {from: 10.0.0.4-10.0.0.1}}", 1, 23,
			"balance.nat.from: 10.0.0.4-10.0.0.1 is no range: it runs backwards",
			"the lower address first, of one family"},
		{"balance: {nat: {from: [10.0.0.1, 10.0.0.3]}}", 1, 34,
			"balance.nat.from: a second range of IPv4", "one range of each family"},
		{"balance: {nat: {ports: 2-1}}", 1, 24,
			"balance.nat.ports: expected a range of ports, got '2-1'", "such as 61001-65535"},
		{"xdp: on", 1, 6, "xdp: expected auto, native, generic or off, got 'on'", ""},
		{"xdp: {mode: of}", 1, 13, "xdp.mode: expected auto, native, generic or off, got 'of'",
			"did you mean 'off'?"},
		{"xdp: {interfaces: {a/b: off}}", 1, 20,
			"xdp.interfaces: expected an interface's name, got 'a/b'", "a name such as eth0"},
		{"xdp: {interfaces: {a: off, a: off}}", 1, 28, "xdp.interfaces: a second 'a'", ""},
		{"connections: {table: 1}", 1, 22, "connections.table: 1 is too small", "1024 to 16777216"},
		{"connections: {timeouts: {icmp: 1ms}}", 1, 32, "connections.timeouts.icmp: 1ms is too small",
			"1s to 30d"},
		{"connections: {timeouts: {tcp: 1m}}", 1, 31,
			"connections.timeouts.tcp: expected keys with values, got '1m'", "such as new: ..."},
		{"log_drops: 1001", 1, 12, "log_drops: 1001 is too large", "0 to 1000"},
		{"log_packets: many", 1, 14, "log_packets: expected a number, got 'many'", "0 to 100000"},
		{"policy: []", 1, 1, "policy: expected the name of a file, got a list",
			"where 'weir save' keeps the policy, such as /etc/weir/policy.yaml"},
		{"rules: deny connect", 1, 8, "rules: expected a list of rules, got 'deny connect'",
			"- drop in tcp to port 80"},
		{"rules:\n  - deny bind\n  - deny connect to 10.0.0.1/8", 3, 21,
			"rules: '10.0.0.1/8' has bits set behind its length",
			"10.0.0.0/8, or the address without a length"},
		{"rules: ['deny conect']", 1, 15, "rules: expected a call, got 'conect'",
			"did you mean 'connect'?"},
		{"rules: [\"deny\\tconect\"]", 1, 9, "rules: expected a call, got 'conect'",
			"did you mean 'connect'?"},
		{"rules: [[a]]", 1, 10, "rules: expected a rule, got a list",
			"a sentence of at most 1023 bytes, in quotes if a ': ' or ' #' is in it"},
		{"rules: [deny bind by pid 1]", 1, 9, "rules: a process' id is another one's tomorrow",
			"exe, unit, cgroup or user; or 'weir deny' for a process that runs"},
		{"interfaces: [a/b]", 1, 14, "interfaces: 'a/b' can be no interface's name",
			"a name such as eth0, or a pattern such as \"veth*\""},
		{"interfaces: [..]", 1, 14, "interfaces: '..' can be no interface's name",
			"a name such as eth0, or a pattern such as \"veth*\""},
		{"interfaces: [eth0 eth1]", 1, 14, "interfaces: 'eth0 eth1' can be no interface's name",
			"a name such as eth0, or a pattern such as \"veth*\""},
		{"interfaces: [\"\"]", 1, 14, "interfaces: '' can be no interface's name",
			"a name such as eth0, or a pattern such as \"veth*\""},
		{"interfaces:\n- eth0\n- [a]", 3, 4, "interfaces: expected an interface's name, got a list",
			"a name such as eth0, or a pattern such as \"veth*\""},
		{"interfaces: [eth0, null]", 1, 20, "interfaces: expected an interface's name, got nothing",
			"a name such as eth0, or a pattern such as \"veth*\""},
		/* api */
		{"api: {mode: 0888}", 1, 13, "api.mode: expected a file mode, got '0888'",
			"three octal digits behind a zero, such as \"0660\""},
		{"api: {mode: 4755}", 1, 13, "api.mode: expected a file mode, got '4755'",
			"three octal digits behind a zero, such as \"0660\""},
		{"api: {mode: 66}", 1, 13, "api.mode: expected a file mode, got '66'",
			"three octal digits behind a zero, such as \"0660\""},
		{"api: {mode: rw-rw----}", 1, 13, "api.mode: expected a file mode, got 'rw-rw----'",
			"three octal digits behind a zero, such as \"0660\""},
		{"api: {group: }", 1, 7, "api.group: expected the name of a group, got nothing",
			"one that getent group lists"},
		{"api: {group: \"a b\"}", 1, 14, "api.group: expected the name of a group, got 'a b'",
			"one that getent group lists"},
		{"api: {group: \"a\\0b\"}", 1, 14, "api.group: expected the name of a group, got 'a'",
			"one that getent group lists"},
		{"api: {change: anybody}", 1, 15, "api.change: expected root or group, got 'anybody'", ""},
		{"api: {change: groups, group: x}", 1, 15, "api.change: expected root or group, got 'groups'",
			"did you mean 'group'?"},
		{"api: {change: group}", 1, 15, "api.change: no group is named whose members may change",
			"api.group: NAME, or change: root"},
		/* owners */
		{"owners: {table: 255}", 1, 17, "owners.table: 255 is too small", "256 to 1048576"},
		{"owners: {keep: 8d}", 1, 16, "owners.keep: 8d is too large", "1s to 7d"},
		{"owners: {kepe: 1m}", 1, 10, "unknown key 'kepe' in owners", "did you mean 'keep'?"},

		/* metrics */
		{"metrics: {processes: 1001}", 1, 22, "metrics.processes: 1001 is too large", "0 to 1000"},
		{"metrics: {listen: 0}", 1, 19, "metrics.listen: the port of '0' is out of range",
			"1 to 65535"},
		{"metrics: {listen: 65536}", 1, 19, "metrics.listen: the port of '65536' is out of range",
			"1 to 65535"},
		{"metrics: {listen: \"0.0.0.0:99999999999999999999\"}", 1, 19,
			"metrics.listen: the port of '0.0.0.0:99999999999999999999' is out of range",
			"1 to 65535"},
		{"metrics: {listen: on}", 1, 19, "metrics.listen: expected off or where to listen, got 'on'",
			"off, a PORT on 127.0.0.1, ADDRESS:PORT, or \"[ADDRESS6]:PORT\""},
		{"metrics: {listen: localhost:9100}", 1, 19,
			"metrics.listen: expected off or where to listen, got 'localhost:9100'",
			"off, a PORT on 127.0.0.1, ADDRESS:PORT, or \"[ADDRESS6]:PORT\""},
		{"metrics: {listen: \"10.0.0.1:\"}", 1, 19,
			"metrics.listen: expected off or where to listen, got '10.0.0.1:'",
			"off, a PORT on 127.0.0.1, ADDRESS:PORT, or \"[ADDRESS6]:PORT\""},
		{"metrics: {listen: \"[10.0.0.1]:80\"}", 1, 19,
			"metrics.listen: expected off or where to listen, got '[10.0.0.1]:80'",
			"off, a PORT on 127.0.0.1, ADDRESS:PORT, or \"[ADDRESS6]:PORT\""},
		{"metrics: {listen: \"::1:9100\"}", 1, 19,
			"metrics.listen: expected an address and a port, got '::1:9100'",
			"an IPv6 address stands in brackets: \"[2001:db8::1]:9100\""},
		/* log */
		{"log: inf", 1, 6, "log: expected error, warning, info or debug, got 'inf'",
			"did you mean 'info'?"},
		{"log: ~", 1, 6, "log: expected error, warning, info or debug, got nothing", ""},
		{"log: 7", 1, 6, "log: expected error, warning, info or debug, got '7'", ""},
		{"log: \"\\x41\\x42\\x43\\x44\\x45\\x46\\x47\\x48\\x49\\x4a\\x4b\\x4c\"", 1, 6,
			"log: expected error, warning, info or debug, got 'ABCDEFGHIJKL'", ""},
		{"log: a\n b\n c\n d\n e\n f\n g\n h\n i", 1, 6,
			"log: expected error, warning, info or debug, got 'a b c d e f g h i'", ""},
		/* YAML */
		{"log: [a", 1, 8, "not YAML: flow sequence without a closing bracket",
			"a list ends with ']'"},
		{"log: \"info", 1, 6, "not YAML: double-quoted scalar without closing quote",
			"a text ends with the quote it began with"},
		{"flows:\n\ttable: 1", 2, 1, "not YAML: tab character may not be used as indentation",
			"spaces"},
		{"log: @info", 1, 6, "not YAML: plain scalar cannot start with '@'", "the value in quotes"},
		{"log: a: b", 1, 7, "not YAML: invalid nested block mapping on the same line",
			"one key a line, or the value in quotes"},
		{"log: info\nmetrics", 2, 1, "not YAML: invalid value after mapping", "KEY: VALUE"},
		{"log: info\n---\nlog: info\n", 3, 1, "a second document",
			"one document: no '---' or '...' in between"},
		{"%YAML 3.0\n---\nlog: info", 1, 1, "not YAML: unsupport version number 3.0", ""},
		{"# caf\xe9\nlog: info", 1, 6, "the byte 0xe9 is not UTF-8", "a file in UTF-8"},
		{"log: info\n# \033[31m", 2, 3, "a control character, 0x1b", "text"},
		{"# \xc3\xa4\xc3\xb6\xc3\xbc\nlog: \xc3\xa4", 2, 6,
			"log: expected error, warning, info or debug, got '\xc3\xa4'", ""},
		{"# \xc3\xa4\n{\xc3\xa4: 1}", 2, 2, "unknown key '\xc3\xa4'", TOP_KEYS},
	};

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		struct config config = {.table_flows = 4711};
		struct error error = {0};

		EXPECT(read_text(c->text, &config, &error) == -EINVAL, "%s", c->text);
		expect_misread(c, &error, "weir.yaml");
		EXPECT(config.table_flows == 4711, "%s: the result was touched", c->text);
		EXPECT(read_text(c->text, &config, NULL) == -EINVAL, "%s", c->text);
	}
}

static void a_nul_byte_does_not_end_the_file(void **state)
{
	static const char text[] = "log: info\n\0flows: many";
	struct config config;
	struct error error = {0};

	(void)state;
	assert_int_equal(config_read_text(text, sizeof(text) - 1, "weir.yaml", &config, &error), -EINVAL);
	assert_string_equal(error.what, "a control character, 0x00");
	assert_int_equal(error.line, 2);
	assert_int_equal(error.column, 1);
}

static void an_error_is_printed_with_its_line(void **state)
{
	struct config config;
	struct error error = {0};
	char *text;

	(void)state;
	assert_int_equal(read_text("log: info\nflows:\n  tabel: 1  # oops\n", &config, &error), -EINVAL);
	text = error_text(&error);
	assert_string_equal(text, "weir.yaml:3:3: unknown key 'tabel' in flows; did you mean 'table'?\n"
				  "    tabel: 1  # oops\n"
				  "    ^\n");
	free(text);
}

/* A file of this content; its name in `path`. */
static void file_write(char path[64], const void *content, size_t length)
{
	int fd;

	snprintf(path, 64, "/tmp/weir-unit-XXXXXX");
	fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, content, length), length);
	close(fd);
}

static void a_file_is_read_like_its_text(void **state)
{
	struct config config;
	struct error error = {0};
	char path[64], *text;

	(void)state;
	file_write(path, "flows: {table: 2048}\n", 21);
	assert_int_equal(config_read_file(path, &config, &error), 0);
	assert_int_equal(config.table_flows, 2048);
	config_free(&config);
	unlink(path);

	file_write(path, "", 0);
	assert_int_equal(config_read_file(path, &config, &error), 0);
	expect_defaults(&config);
	config_free(&config);
	unlink(path);

	file_write(path, "log: loud\n", 10);
	assert_int_equal(config_read_file(path, &config, &error), -EINVAL);
	assert_string_equal(error.file, path);
	unlink(path);

	text = calloc(1, 20000000);
	assert_non_null(text);
	memset(text, '#', 20000000);
	file_write(path, text, 20000000);
	free(text);
	assert_int_equal(config_read_file(path, &config, &error), -EFBIG);
	unlink(path);
}

static void a_file_that_cannot_be_read_says_why(void **state)
{
	static const struct {
		const char *path;
		int code;
		const char *printed;
	} cases[] = {
		{"/nonexistent/weir.yaml", -ENOENT,
			"/nonexistent/weir.yaml: cannot be read: No such file or directory\n"},
		{"/tmp", -EISDIR, "/tmp: cannot be read: Is a directory\n"},
		{"/dev/null/x", -ENOTDIR, "/dev/null/x: cannot be read: Not a directory\n"},
		{"/dev/zero", -EFBIG, "/dev/zero: cannot be read: File too large\n"},
	};

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		struct config config;
		struct error error = {0};
		char *text;

		EXPECT(config_read_file(c->path, &config, &error) == c->code, "%s", c->path);
		text = error_text(&error);
		EXPECT_TEXT(text, c->printed, "%s", c->path);
		free(text);
		EXPECT(config_read_file(c->path, &config, NULL) == c->code, "%s", c->path);
	}
}

static void nothing_is_printed_but_by_the_caller(void **state)
{
	static const char *const cases[] = {
		"log: [a", "%YAML 3.0\n---\n", "\tx", "log: info\nlog: info", "a: *b\n&c d: e"};
	FILE *file = tmpfile();
	int saved[2] = {dup(STDOUT_FILENO), dup(STDERR_FILENO)};
	struct stat st;

	(void)state;
	assert_non_null(file);
	fflush(NULL);
	dup2(fileno(file), STDOUT_FILENO);
	dup2(fileno(file), STDERR_FILENO);
	FOR_EACH_CASE(text, cases)
	{
		struct config config;

		if (read_text(*text, &config, NULL) == 0)
			config_free(&config);
	}
	fflush(NULL);
	dup2(saved[0], STDOUT_FILENO);
	dup2(saved[1], STDERR_FILENO);
	close(saved[0]);
	close(saved[1]);
	assert_int_equal(fstat(fileno(file), &st), 0);
	fclose(file);
	assert_int_equal(st.st_size, 0);
}

static void nesting_without_end_is_refused(void **state)
{
	char *text = malloc(100001);
	struct config config;

	(void)state;
	assert_non_null(text);
	memset(text, '[', 100000);
	text[100000] = '\0';
	assert_int_equal(read_text(text, &config, NULL), -EINVAL);
	memset(text, '{', 100000);
	assert_int_equal(read_text(text, &config, NULL), -EINVAL);
	free(text);
}

static void aliases_do_not_multiply(void **state)
{
	static const char text[] = "a: &a [x,x,x,x,x,x,x,x,x]\n"
				   "b: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\n"
				   "c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
				   "d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\n"
				   "e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\n"
				   "f: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n"
				   "g: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f]\n"
				   "h: &h [*g,*g,*g,*g,*g,*g,*g,*g,*g]\n";
	struct config config;
	struct error error = {0};

	(void)state;
	assert_int_equal(read_text(text, &config, &error), -EINVAL);
	assert_string_equal(error.what, "unknown key 'a'");
}

static void a_list_names_interfaces_and_patterns(void **state)
{
	static const struct {
		const char *name;
		bool named;
	} cases[] = {
		{"eth0", true},
		{"eth1", false},
		{"eth00", false},
		{"veth", true},
		{"veth17", true},
		{"xveth", false},
		{"br1", true},
		{"br4", false},
		{"", false},
	};
	struct config config = configured("interfaces: [eth0, \"veth*\", 'br[1-3]']");

	(void)state;
	FOR_EACH_CASE(c, cases)
	EXPECT(config_names_interface(&config, c->name) == c->named, "'%s'", c->name);
	config_free(&config);

	/* which ones `auto` means is not the list's to say */
	config = configured("interfaces: auto");
	assert_false(config_names_interface(&config, "eth0"));
	config_free(&config);
}

static void freeing_twice_is_harmless(void **state)
{
	struct config config = configured("interfaces: [eth0]\napi: {group: weir}");

	(void)state;
	config_free(&config);
	config_free(&config);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST("a file that says nothing is the defaults", a_file_that_says_nothing_is_the_defaults),
		TEST("the documented example is the defaults, with a group",
			the_documented_example_is_the_defaults_with_a_group),
		TEST("values arrive where they belong", values_arrive_where_they_belong),
		TEST("names have one switch", names_have_one_switch),
		TEST("metrics listen where they are told", metrics_listen_where_they_are_told),
		TEST("every bound is kept", every_bound_is_kept),
		TEST("an error names its place and what would be right",
			an_error_names_its_place_and_what_would_be_right),
		TEST("a NUL byte does not end the file", a_nul_byte_does_not_end_the_file),
		TEST("an error is printed with its line", an_error_is_printed_with_its_line),
		TEST("a file is read like its text", a_file_is_read_like_its_text),
		TEST("a file that cannot be read says why", a_file_that_cannot_be_read_says_why),
		TEST("nothing is printed but by the caller", nothing_is_printed_but_by_the_caller),
		TEST("nesting without end is refused", nesting_without_end_is_refused),
		TEST("aliases do not multiply", aliases_do_not_multiply),
		TEST("a list names interfaces and patterns", a_list_names_interfaces_and_patterns),
		TEST("freeing twice is harmless", freeing_twice_is_harmless),
	};

	return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}

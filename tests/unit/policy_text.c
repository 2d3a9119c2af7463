/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "model/policy.h"

#include <errno.h>

#include "unit.h"

static struct policy_text policy_of(const char *text)
{
	struct policy_text policy;
	struct error error = {};

	EXPECT(policy_text_read(text, strlen(text), "dir/policy.yaml", &policy, &error) == 0,
		"%s: %u:%u: %s; %s", text, error.line, error.column, error.what, error.want);
	return policy;
}

static char *printed(const struct policy_text *policy)
{
	char *text = NULL;
	size_t length;
	FILE *out = open_memstream(&text, &length);

	assert_non_null(out);
	assert_int_equal(policy_text_print(policy, out), 0);
	fclose(out);
	return text;
}

static const char whole[] = "default: {in: drop, out: accept, log: on}\n"
			    "sets:\n"
			    "  bastions: [\"192.0.2.1\", \"2001:db8::/64\"]\n"
			    "  blocklist: {file: /var/lib/list}\n"
			    "  many: |\n"
			    "    10.0.0.1\n    10.0.0.3\n    10.0.0.5\n    10.0.0.7\n    10.0.0.9\n"
			    "    10.0.0.11\n    10.0.0.13\n    10.0.0.15\n    10.0.0.17\n"
			    "  empty: []\n"
			    "  ports: [\"22\", \"8000-8080\"]\n"
			    "shapes:\n"
			    "  - bulk under eth0 ceiling 200mbit weight 1\n"
			    "  - \"web in under bulk \\\"a: b\\\"\"\n"
			    "services:\n"
			    "  - web tcp 203.0.113.10 port 443 to 10.0.0.11 weight 2, 10.0.0.12\n"
			    "  - v6 2001:db8::/64 to 2001:db8:1::1 deliver l2\n"
			    "forward:\n"
			    "  - from eth0 to eth1 both ways\n"
			    "steer:\n"
			    "  - in on eth0 tcp to cpus 0-3\n"
			    "rules:\n"
			    "  - accept in tcp from @bastions to port 22 log\n"
			    "  - deny connect by user root to 10.0.0.0/8\n"
			    "  - \"drop in \\\"a: # \xe2\x82\xac b\\\"\"\n"
			    "tenants:\n"
			    "  web:\n"
			    "    interfaces: [veth3]\n"
			    "    cgroups: [/system.slice/web.slice]\n"
			    "    default: {in: reject, out: drop}\n"
			    "    rules:\n"
			    "      - accept in tcp to port 80\n";

static void a_policy_is_printed_as_one_that_reads_the_same(void **state)
{
	struct policy_text policy = policy_of(whole);
	char *text = printed(&policy);

	(void)state;
	assert_string_equal(text, whole);
	assert_int_equal(policy.host.defaults[0], POLICY_DROP);
	assert_int_equal(policy.host.defaults[1], POLICY_ACCEPT);
	assert_true(policy.host.log);
	assert_int_equal(policy.host.rule_count, 3);
	assert_string_equal(policy.host.rules[2], "drop in \"a: # \xe2\x82\xac b\"");
	assert_null(policy.host.rules[3]);
	assert_int_equal(policy.set_count, 5);
	assert_string_equal(policy.sets[1].file, "/var/lib/list");
	assert_int_equal(policy.sections[POLICY_SHAPES].count, 2);
	assert_string_equal(policy.sections[POLICY_SHAPES].texts[1], "web in under bulk \"a: b\"");
	assert_null(policy.sections[POLICY_SHAPES].texts[2]);
	assert_int_equal(policy.sections[POLICY_SERVICES].count, 2);
	assert_string_equal(
		policy.sections[POLICY_SERVICES].texts[1], "v6 2001:db8::/64 to 2001:db8:1::1 deliver l2");
	assert_string_equal(policy.sections[POLICY_FORWARDS].texts[0], "from eth0 to eth1 both ways");
	assert_string_equal(policy.sections[POLICY_STEERS].texts[0], "in on eth0 tcp to cpus 0-3");
	assert_int_equal(policy.tenant_count, 1);
	assert_string_equal(policy.tenants[0].interfaces[0], "veth3");
	assert_string_equal(policy.tenants[0].cgroups[0], "/system.slice/web.slice");
	assert_int_equal(policy.tenants[0].list.defaults[0], POLICY_REJECT);
	assert_string_equal(policy.tenants[0].list.rules[0], "accept in tcp to port 80");
	free(text);
	policy_text_clear(&policy);
	assert_int_equal(policy.set_count, 0);
}

static void rules_are_kept_as_they_are_printed(void **state)
{
	struct policy_text policy = policy_of("rules: [drop  in tcp to port  https, accept]\n"
					      "sets: {list: {file: list.txt}, one: 10.0.0.1, none: }\n");

	(void)state;
	assert_string_equal(policy.host.rules[0], "drop in tcp to port 443");
	assert_string_equal(policy.sets[0].file, "dir/list.txt");
	assert_string_equal(policy.sets[1].entries, "10.0.0.1");
	assert_int_equal(policy.sets[2].length, 0);
	policy_text_clear(&policy);
}

/* Every text that a policy may hold, in the places that are printed. */
static void a_name_of_any_characters_is_printed_as_one_that_reads_the_same(void **state)
{
	static const struct {
		const char *yaml, *printed;
	} cases[] = {
		{"sets: {a: {file: '/var/lib/a list'}}", "sets:\n  a: {file: /var/lib/a list}\n"},
		{"sets: {a: {file: \"/var\\nlib/ list \"}}", "sets:\n  a: {file: \"/var\\nlib/ list \"}\n"},
		{"sets: {a: {file: \"/\\ttab\\r\\e\\x7f\"}}",
			"sets:\n  a: {file: \"/\\ttab\\x0d\\x1b\\x7f\"}\n"},
		{"sets: {a: {file: '/a\"b\\c#'}}", "sets:\n  a: {file: \"/a\\\"b\\\\c#\"}\n"},
		{"sets: {a: {file: '/a,b, c'}}", "sets:\n  a: {file: \"/a,b, c\"}\n"},
		{"sets: {a: {file: '/ends in a space '}}", "sets:\n  a: {file: \"/ends in a space \"}\n"},
		{"sets: {a: {file: '/a: #b'}}", "sets:\n  a: {file: \"/a: #b\"}\n"},
		{"sets: {a: {file: \"/\\N\\_\\L\\P\\uFEFF\\uFFFE\"}}",
			"sets:\n  a: {file: \"/\\x85\xc2\xa0\\u2028\\u2029\\ufeff\\ufffe\"}\n"},
		{"sets: {a: {file: \"/\\u20ac \\U0001F600\"}}",
			"sets:\n  a: {file: \"/\xe2\x82\xac \xf0\x9f\x98\x80\"}\n"},
		{"sets: {\"null\": {file: /null}}", "sets:\n  \"null\": {file: /null}\n"},
		{"tenants: {\"Null\": {interfaces: [\"null\", 'a,b', \"a\\n\"], cgroups: [\"/a\\tb,c\"]}}",
			"tenants:\n  \"Null\":\n    interfaces: [\"null\", \"a,b\", \"a\\n\"]\n"
			"    cgroups: [\"/a\\tb,c\"]\n"},
		{"rules: [\"deny bind by cgroup /a:\", \"count in to port 80,443\", \"drop out on a\\x01\"]",
			"rules:\n  - \"deny bind by cgroup /a:\"\n  - count in to port 80,443\n  - \"drop "
			"out on "
			"a\\x01\"\n"},
		{"shapes: [\"a under \\u20ac\\x7f\"]", "shapes:\n  - \"a under \xe2\x82\xac\\x7f\"\n"},
	};

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		struct policy_text policy = policy_of(c->yaml), again;
		char *text = printed(&policy), *twice;

		EXPECT_TEXT(text, c->printed, "%s", c->yaml);
		again = policy_of(text);
		twice = printed(&again);
		assert_string_equal(twice, text);
		free(text);
		free(twice);
		policy_text_clear(&policy);
		policy_text_clear(&again);
	}
}

/* What could be printed, but not read again, is said at once. */
static void a_file_that_could_not_be_named_again_is_refused(void **state)
{
	static const char text[] = "sets: {a: {file: list}}";
	struct policy_text policy = {};
	struct error error = {};
	char folder[4096];

	(void)state;
	assert_int_equal(
		policy_text_read(text, strlen(text), "dir\xff/policy.yaml", &policy, &error), -EINVAL);
	assert_string_equal(error.what, "sets.a.file: the name of the policy's folder is not UTF-8");
	assert_string_equal(error.want, "a path that begins with '/'");

	memset(folder, 'd', sizeof(folder) - 1);
	folder[sizeof(folder) - 1] = '\0';
	folder[sizeof(folder) - 6] = '/'; /* and "list": 4095 bytes */
	assert_int_equal(policy_text_read(text, strlen(text), folder, &policy, &error), -EINVAL);
	assert_string_equal(error.what, "sets.a.file: the path is too long");
	assert_string_equal(error.want, "at most 4094 bytes, with the policy's folder");
	folder[sizeof(folder) - 7] = '/'; /* one less */
	folder[sizeof(folder) - 6] = '\0';
	assert_int_equal(policy_text_read(text, strlen(text), folder, &policy, &error), 0);
	policy_text_clear(&policy);
}

static void nothing_is_a_policy_that_accepts(void **state)
{
	static const char *const cases[] = {"", "rules:\nshapes:\n",
		"default: {}\nsets: {}\ntenants: {}\nrules: []\nshapes: []\n",
		"services: []\nforward:\nsteer: []\n"};

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		struct policy_text policy = policy_of(*c);
		char *text = printed(&policy);

		EXPECT_TEXT(text, "", "%s", *c);
		free(text);
		policy_text_clear(&policy);
	}
}

static void an_error_names_its_place_and_what_would_be_right(void **state)
{
	static const struct misread_case cases[] = {
		{"rule: []", 1, 1, "unknown key 'rule'", "did you mean 'rules'?"},
		{"flows: {}", 1, 1, "unknown key 'flows'",
			"one of default, sets, shapes, services, forward, steer, rules, tenants"},
		{"default: drop", 1, 10, "default: expected keys with values, got 'drop'", "such as in: ..."},
		{"default: {in: deny}", 1, 15, "default.in: expected accept, drop or reject, got 'deny'", ""},
		{"default: {inn: drop}", 1, 11, "unknown key 'inn' in default", "did you mean 'in'?"},
		{"rules:\n- accept\n- drop in tpc\n", 3, 11, "rules: unknown word 'tpc'",
			"did you mean 'tcp'?"},
		{"rules: [limit out by pid 1 to 1mbit]", 1, 9,
			"rules: a process' id is another one's tomorrow",
			"exe, unit, cgroup or user; or 'weir limit' for a process that runs"},
		{"rules:\n- limit out to 10mb/s\n", 2, 16,
			"rules: '10mb/s' are megabytes, a rate is bits a second",
			"80mbit, or 10mbit if bits are meant"},
		{"rules: [shape a under b]", 1, 9, "rules: a class",
			"section 'shapes', without the word 'shape'"},
		{"shapes: {a: b}", 1, 10, "shapes: expected a list of classes, got a mapping",
			"- bulk under eth0 weight 1 ceiling 200mbit"},
		{"shapes: [[a]]", 1, 11, "shapes: expected a class, got a list",
			"a sentence such as bulk under eth0 weight 1 ceiling 200mbit"},
		{"shapes:\n- a under b\n- c under a weihgt 1\n", 3, 13, "shapes: unknown word 'weihgt'",
			"did you mean 'weight'?"},
		{"shapes: [a under b, a in under c]", 1, 21, "shapes: a second class 'a'", "each name once"},
		{"rules: [service web 203.0.113.10 to 10.0.0.1]", 1, 9, "rules: a service",
			"section 'services', without the word 'service'"},
		{"services: web", 1, 11, "services: expected a list of services, got 'web'",
			"- web tcp 203.0.113.10 port 443 to 10.0.0.11, 10.0.0.12"},
		{"services:\n- web tcp 203.0.113.10 to 10.0.0.1 delivr l2\n", 2, 36,
			"services: unknown word 'delivr'", "did you mean 'deliver'?"},
		{"services:\n- >\n    web tcp 203.0.113.10\n    to 10.0.0.1,  10.0.0.2\n    delivr l2\n", 5,
			5, "services: unknown word 'delivr'", "did you mean 'deliver'?"},
		{"services:\n- \"web tcp 203.0.113.10\n   to 10.0.0.1 delivr l2\"\n", 3, 16,
			"services: unknown word 'delivr'", "did you mean 'deliver'?"},
		{"services:\n- \"web\\x20tcp 203.0.113.10 to 10.0.0.1 delivr l2\"\n", 2, 3,
			"services: unknown word 'delivr'", "did you mean 'deliver'?"},
		{"services: [web 203.0.113.1 to 10.0.0.1, web 203.0.113.2 to 10.0.0.1]", 1, 41,
			"services: a second service 'web'", "each name once"},
		{"services: [a tcp 203.0.113.1 port 80 to 10.0.0.1, b tcp 203.0.113.1 port 80 to 10.0.0.2]",
			1, 51, "services: the address and ports of 'b' are used by 'a' already",
			"another address, protocol or port; or one service for both"},
		{"forward: [from eth0 by route, from eth0 to eth1]", 1, 31,
			"forward: what comes in on eth0 is forwarded already: from eth0 by route",
			"each interface once"},
		{"steer: [in on eth0 to cpus x]", 1, 28, "steer: expected CPUs, got 'x'",
			"numbers and ranges with commas, such as 0-3,6"},
		{"rules: [drop by pid 1]", 1, 9, "rules: a process' id is another one's tomorrow",
			"exe, unit, cgroup or user; or 'weir drop' for a process that runs"},
		{"sets: [a]", 1, 8, "sets: expected names with what they stand for, got a list",
			"bastions: [192.0.2.1, 2001:db8::/64]"},
		{"sets: {1a: []}", 1, 8, "sets: '1a' can be no set's name",
			"a letter, then letters, digits, '-' and '_'"},
		{"sets:\n  a: [80]\n  a: [90]", 3, 3, "sets: a second 'a'", "each name once"},
		{"sets: {a: [10.0.0.1/8]}", 1, 12, "sets.a: '10.0.0.1/8' has bits set behind its length",
			"10.0.0.0/8, or the address without a length"},
		{"sets: {a: [10.0.0.1, 80]}", 1, 22, "sets.a: a port in a list of addresses",
			"one kind in a set; the first entry decides which"},
		{"sets:\n  a: |\n    10.0.0.1\n    # x\n    10.0.0.x\n", 5, 5,
			"sets.a: expected an entry of a set, got '10.0.0.x'",
			"an address, a prefix such as 10.0.0.0/8, a range, or a port"},
		{"sets: {a: {}}", 1, 8, "sets.a: no file is named", "{file: PATH}, or a list of entries"},
		{"sets: {a: {fil: x}}", 1, 12, "unknown key 'fil' in sets.a", "did you mean 'file'?"},
		{"tenants: {web: {rules: []}}", 1, 11, "tenants.web: nothing is given to it",
			"interfaces: [NAME], cgroups: [PATH] or both"},
		{"tenants: {web: {interfaces: [veth*]}}", 1, 30,
			"tenants.web.interfaces: expected an interface's name, got 'veth*'",
			"one such as eth0"},
		{"tenants: {web: {cgroups: [a]}}", 1, 27,
			"tenants.web.cgroups: 'a' is not the path of a cgroup",
			"a path that begins with '/', such as /system.slice"},
		{"tenants: {web: {interfaces: [a]}, db: {interfaces: [a]}}", 1, 53,
			"tenants.db.interfaces: 'a' is given to web already",
			"each interface and cgroup once"},
		{"tenants: {web: {interfaces: [a], default: {in: x}}}", 1, 48,
			"tenants.web.default.in: expected accept, drop or reject, got 'x'", ""},
		{"tenants: {web: {interfaces: [a], rules: [deny bind]}}", 1, 42,
			"tenants.web.rules: a rule on sockets",
			"rules on packets; those on sockets are the host's"},
		{"tenants: {web: {interfaces: [a], rule: []}}", 1, 34, "unknown key 'rule' in tenants.web",
			"did you mean 'rules'?"},
	};

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		struct policy_text policy = {.set_count = 99};
		struct error error = {};

		EXPECT(policy_text_read(c->text, strlen(c->text), "policy.yaml", &policy, &error) == -EINVAL,
			"%s", c->text);
		expect_misread(c, &error, "policy.yaml");
		EXPECT(policy.set_count == 99, "%s: changed", c->text);
	}
}

struct difference {
	char text[2048];
};

static int note(void *context, char sign, const char *tenant, const char *text)
{
	struct difference *difference = context;
	char line[256];

	snprintf(line, sizeof(line), "%c%s%s %s\n", sign, tenant[0] ? "@" : "", tenant, text);
	strncat(difference->text, line, sizeof(difference->text) - strlen(difference->text) - 1);
	return 0;
}

static void differences_are_lines_that_come_and_go(void **state)
{
	static const struct {
		const char *from, *to, *lines;
	} cases[] = {
		{"rules: [accept, drop]", "rules: [accept, drop]", ""},
		{"rules: [accept, drop]", "", "- accept\n- drop\n"},
		{"", "default: {in: drop}\nrules: [accept]", "+ default in drop\n+ accept\n"},
		{"default: {in: drop}", "default: {in: reject, log: on}",
			"- default in drop\n+ default in reject\n+ default log on\n"},
		{"rules: [count in, drop, accept]", "rules: [drop, accept, count in]",
			"- count in\n+ count in\n"},
		{"rules: [accept, count, count in, drop]", "rules: [accept, drop, count, count in]",
			"+ drop\n- drop\n"},
		{"rules: [drop in tcp to port 80, accept]", "rules: [drop in tcp to port 81, accept]",
			"- drop in tcp to port 80\n+ drop in tcp to port 81\n"},
		{"sets: {a: [10.0.0.1, 10.0.0.2]}", "sets: {a: [10.0.0.2, 10.0.0.3, 10.0.0.4]}",
			"~ set a: 2 entries come (10.0.0.3, 10.0.0.4), 1 goes (10.0.0.1)\n"},
		{"sets: {a: [22, 80-90]}", "sets: {a: [22]}", "~ set a: 1 entry goes (80-90)\n"},
		{"sets: {a: [\"2001:db8::/32\"]}", "sets: {a: [1.0.0.0/8, 2.0.0.0/8, 3.0.0.0/8, 4.0.0.0/8]}",
			"~ set a: 4 entries come (1.0.0.0/8, 2.0.0.0/8, 3.0.0.0/8, ...), 1 goes "
			"(2001:db8::/32)\n"},
		{"sets: {a: [10.0.0.1, 10.0.0.2]}", "sets: {a: [10.0.0.2, 10.0.0.1, 10.0.0.1]}", ""},
		{"sets: {a: [10.0.0.1]}", "", ""},
		{"", "sets: {a: [10.0.0.1]}", "+ set a: 1 entry (10.0.0.1)\n"},
		{"", "sets: {a: []}", "+ set a: no entries\n"},
		{"", "sets: {a: {file: /dev}}", "+ set a from /dev, which is no file\n"},
		{"", "sets: {a: {file: x}}",
			"+ set a from policy-dir/x, which cannot be read: No such file or directory\n"},
		{"sets: {a: [80]}", "sets: {a: {file: x}}",
			"~ set a from policy-dir/x, which cannot be read: No such file or directory\n"},
		{"shapes: [a under b, c under a]", "shapes: [a under b weight 2, c under a]",
			"~ shape a under b weight 2 (before: shape a under b)\n"},
		{"shapes: [a under b]", "shapes: [a under c weight 2]",
			"- shape a under b\n+ shape a under c weight 2\n"},
		{"rules: [limit out udp to 1mbit, accept, guarantee out tcp 1mbit]",
			"rules: [limit out udp to 2mbit, limit out tcp to 1mbit, guarantee out tcp 2mbit]",
			"~ limit out udp to 2mbit (before: limit out udp to 1mbit)\n- accept\n"
			"+ limit out tcp to 1mbit\n"
			"~ guarantee out tcp 2mbit (before: guarantee out tcp 1mbit)\n"},
		{"rules: [limit out udp to 1mbit, limit out udp to 2mbit]",
			"rules: [limit out udp to 2mbit, limit out udp to 3mbit]",
			"- limit out udp to 1mbit\n+ limit out udp to 3mbit\n"},
		{"rules: [limit in tcp to 5/s]", "rules: [limit in tcp to 6/s]",
			"- limit in tcp to 5/s\n+ limit in tcp to 6/s\n"},
		{"services: [a 203.0.113.1 to 10.0.0.1, b 203.0.113.2 to 10.0.0.1]",
			"services: [\"a 203.0.113.1 to 10.0.0.1, 10.0.0.2\", b 203.0.113.2 to 10.0.0.1]",
			"~ service a: 1 backend comes (10.0.0.2)\n"},
		{"services: [\"a 203.0.113.1 to 10.0.0.1, 10.0.0.2, 10.0.0.3\"]",
			"services: [\"a 203.0.113.1 to 10.0.0.1 drain, 10.0.0.3 weight 2, 10.0.0.4, "
			"10.0.0.5, 10.0.0.6, "
			"10.0.0.7\"]",
			"~ service a: 4 backends come (10.0.0.4, 10.0.0.5, 10.0.0.6, ...), 1 backend goes "
			"(10.0.0.2), 2 "
			"backends change (10.0.0.1 drain, 10.0.0.3 weight 2)\n"},
		{"services: [\"a 203.0.113.1 to 10.0.0.1, 10.0.0.2\"]",
			"services: [\"a 203.0.113.1 to 10.0.0.2, 10.0.0.1\"]",
			"~ service a: its backends in another order\n"},
		{"services: [a 203.0.113.1 to 10.0.0.1]", "services: [a 203.0.113.1 to 10.0.0.1 deliver l2]",
			"- service a 203.0.113.1 to 10.0.0.1\n+ service a 203.0.113.1 to 10.0.0.1 deliver "
			"l2\n"},
		{"services: [a 203.0.113.1 to 10.0.0.1]", "services: [b 203.0.113.1 to 10.0.0.1]",
			"- service a 203.0.113.1 to 10.0.0.1\n+ service b 203.0.113.1 to 10.0.0.1\n"},
		{"forward: [from a by route]", "steer: [in on a to cpus 0]",
			"- forward from a by route\n+ steer in on a to cpus 0\n"},
		{"shapes: [a under b]", "rules: [assign to a]", "- shape a under b\n+ assign to a\n"},
		{"tenants: {web: {interfaces: [a], rules: [drop]}}", "", "-@web interface a\n-@web drop\n"},
		{"", "tenants: {web: {cgroups: [/a], default: {out: drop}}}",
			"+@web cgroup /a\n+@web default out drop\n"},
		{"tenants: {web: {interfaces: [a], rules: [drop]}}",
			"tenants: {web: {interfaces: [a], rules: [accept, drop]}}", "+@web accept\n"},
	};

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		struct policy_text from, to;
		struct difference difference = {};
		struct error error;

		assert_int_equal(
			policy_text_read(c->from, strlen(c->from), "policy-dir/p", &from, &error), 0);
		assert_int_equal(policy_text_read(c->to, strlen(c->to), "policy-dir/p", &to, &error), 0);
		assert_int_equal(policy_text_diff(&from, &to, note, &difference), 0);
		EXPECT_TEXT(difference.text, c->lines, "%s / %s", c->from, c->to);
		policy_text_clear(&from);
		policy_text_clear(&to);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST("a policy is printed as one that reads the same",
			a_policy_is_printed_as_one_that_reads_the_same),
		TEST("rules are kept as they are printed", rules_are_kept_as_they_are_printed),
		TEST("a name of any characters is printed as one that reads the same",
			a_name_of_any_characters_is_printed_as_one_that_reads_the_same),
		TEST("a file that could not be named again is refused",
			a_file_that_could_not_be_named_again_is_refused),
		TEST("nothing is a policy that accepts", nothing_is_a_policy_that_accepts),
		TEST("an error names its place and what would be right",
			an_error_names_its_place_and_what_would_be_right),
		TEST("differences are lines that come and go", differences_are_lines_that_come_and_go),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Sentences about services, their backends, forwarding and steering. */
#include "model/service.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "rules.h"

static struct service_text *service_of(const char *text)
{
	struct service_text *service = NULL;
	struct error error = {0};

	if (service_parse(text, &service, &error) < 0)
		fail_msg("%s: %s; %s", text, error.what, error.want);
	return service;
}

static void rules_are_printed_in_one_way(void **state)
{
	static const struct printed_case cases[] = {
		{"service web tcp 203.0.113.10 port 443 to 10.0.0.11 weight 2, 10.0.0.12 deliver ipip",
			"service web tcp 203.0.113.10 port 443 to 10.0.0.11 weight 2, 10.0.0.12"},
		{"service dns udp 203.0.113.53 port 53 to 10.0.0.53 deliver nat check udp every 2s",
			"service dns udp 203.0.113.53 port 53 to 10.0.0.53 deliver nat check udp"},
		{"service a 2001:db8::/64 to 2001:db8:1::1", NULL},
		{"service a 203.0.113.0/24 to 2001:db8:1::1,2001:db8:1::2 , 2001:db8:1::3",
			"service a 203.0.113.0/24 to 2001:db8:1::1, 2001:db8:1::2, 2001:db8:1::3"},
		{"service a proto tcp 203.0.113.1 port https to 10.0.0.1 port 443",
			"service a tcp 203.0.113.1 port 443 to 10.0.0.1"},
		{"service a proto 47 203.0.113.1 to 10.0.0.1", "service a gre 203.0.113.1 to 10.0.0.1"},
		{"service a proto 99 203.0.113.1 to 10.0.0.1 drain weight 0, 10.0.0.2 weight 65535 drain",
			"service a proto 99 203.0.113.1 to 10.0.0.1 weight 0 drain, 10.0.0.2 weight 65535 "
			"drain"},
		{"service a sctp 203.0.113.1 port 100-200 to 10.0.0.1 deliver gue port 6080",
			"service a sctp 203.0.113.1 port 100-200 to 10.0.0.1 deliver gue"},
		{"service a udp 203.0.113.1 port 443 to 10.0.0.1 quic flows off ring 7 mtu 1400 choose "
		 "maglev "
		 "deliver gue port 9 affinity source for 90s fail closed \"why\"",
			"service a udp 203.0.113.1 port 443 to 10.0.0.1 deliver gue port 9 affinity source "
			"for "
			"1m30s quic mtu 1400 ring 7 fail closed flows off \"why\""},
		{"service a tcp 203.0.113.1 port 80 to 10.0.0.1 port 8080, 10.0.0.1 port 8081 deliver nat "
		 "from "
		 "10.0.0.250-10.0.1.3 ports 1024-65535 choose least mss 1400",
			NULL},
		{"service a tcp 203.0.113.1 port 80 to 10.0.0.1 check http host www.example.org path /a "
		 "status 200-200 port 8080 fall 3 rise 1 timeout 500ms every 500ms",
			"service a tcp 203.0.113.1 port 80 to 10.0.0.1 check http port 8080 path \"/a\" host "
			"www.example.org status 200 every 500ms rise 1"},
		{"service a tcp 203.0.113.1 port 80 to 10.0.0.1 check tcp rise 4 direct",
			"service a tcp 203.0.113.1 port 80 to 10.0.0.1 check tcp direct rise 4"},
		{"service a tcp 203.0.113.1 port 80 to 10.0.0.1 check exec \"/bin/ask me\" every 5s timeout "
		 "3s",
			NULL},
		{"service a udp 203.0.113.1 port 80 to 10.0.0.1 check udp expect pong send ping",
			"service a udp 203.0.113.1 port 80 to 10.0.0.1 check udp send \"ping\" expect "
			"\"pong\""},
		{"service a tcp 203.0.113.1 port 80 to 10.0.0.1 check https status 200-399 fail open flows "
		 "on",
			"service a tcp 203.0.113.1 port 80 to 10.0.0.1 check https"},
		{"forward from eth0 by route", NULL},
		{"forward from eth0 to eth1", NULL},
		{"forward from eth0 to eth1 both ways \"a wire\"", NULL},
		{"forward among eth0,eth1, eth2", "forward among eth0, eth1, eth2"},
		{"forward from eth0 via veth1, veth2 to eth1", NULL},
		{"forward from eth0 via veth1 to eth1", NULL},
		{"steer in on eth0 to cpus 0-7 by flow", "steer in on eth0 to cpus 0-7"},
		{"steer in on eth0 tcp to 203.0.113.10 port 443 to cpus 6,0-1,2,1023 by rule \"x\"",
			"steer in on eth0 tcp to 203.0.113.10 port 443 to cpus 0-2,6,1023 by rule \"x\""},
		{"steer in on eth0 udp from @lan to any port @games dscp ef fragment first to cpus 1",
			"steer in on eth0 udp from @lan to port @games dscp ef fragment first to cpus 1"},
		{"steer in on eth0 tcp flags syn/syn,ack to cpus 0", NULL},
		{"steer in on eth0 icmp echo-request host 192.0.2.1 to cpus 0", NULL},
	};

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		struct error error = {0};
		struct rule rule = parsed(c->text), again = {0};
		char *text = rule_text(&rule, &error), *second;

		EXPECT(text, "%s: %s", c->text, error.what);
		EXPECT_TEXT(text, c->printed ? c->printed : c->text, "%s", c->text);
		again = parsed(text);
		second = rule_text(&again, &error);
		EXPECT_TEXT(second, text, "%s", c->text);
		EXPECT(rule_kind(&rule) ==
				(rule.verb == RULE_SERVICE ? RULE_ON_SERVICES : RULE_ON_FORWARDING),
			"%s", c->text);
		EXPECT(!rule.service || service_equal(rule.service, again.service), "%s", c->text);
		free(text);
		free(second);
		rule_clear(&rule);
		rule_clear(&again);
	}
}

static void what_is_not_said_is_the_default(void **state)
{
	struct service_text *service = service_of(
		"dns udp 203.0.113.53 port 53 to 10.0.0.53, 10.0.0.54 weight 3 check http port 80");

	(void)state;
	assert_string_equal(service->name, "dns");
	assert_int_equal(service->protocol, IPPROTO_UDP);
	assert_int_equal(service->prefix.length, 32);
	assert_false(service->any_port);
	assert_int_equal(service->ports.low, 53);
	assert_int_equal(service->ports.high, 53);
	assert_int_equal(service->backend_count, 2);
	assert_int_equal(service->backends[0].weight, 1);
	assert_int_equal(service->backends[1].weight, 3);
	assert_int_equal(service->backends[0].port, 0);
	assert_int_equal(service->deliver, SERVICE_IPIP);
	assert_int_equal(service->choice, SERVICE_MAGLEV);
	assert_int_equal(service->slots, 0);
	assert_false(service->closed);
	assert_int_equal(service->check.kind, SERVICE_CHECK_HTTP);
	assert_int_equal(service->check.port, 80);
	assert_string_equal(service->check.path, "/");
	assert_int_equal(service->check.status_low, 200);
	assert_int_equal(service->check.status_high, 399);
	assert_int_equal(service->check.every_ns, SERVICE_CHECK_EVERY_NS);
	assert_int_equal(service->check.timeout_ns, SERVICE_CHECK_TIMEOUT_NS);
	assert_int_equal(service->check.rise, SERVICE_CHECK_RISE);
	assert_int_equal(service->check.fall, SERVICE_CHECK_FALL);
	service_free(service);
	service = service_of("all 2001:db8::1 to 2001:db8:1::1");
	assert_int_equal(service->protocol, -1);
	assert_true(service->any_port);
	assert_int_equal(service->check.kind, SERVICE_CHECK_NONE);
	service_free(service);
}

#define WEB "service web tcp 203.0.113.10 port 443 "

static void what_cannot_be_is_refused_where_it_stands(void **state)
{
	static const struct refused_case cases[] = {
		{"service", "expected a service's name, got the end of the sentence",
			"such as web tcp 203.0.113.10 port 443 to 10.0.0.11", 8},
		{"service 1a tcp 203.0.113.10 to 10.0.0.1", "'1a' can be no service's name",
			"a letter, then letters, digits, '-' and '_'", 9},
		{"service tcp 203.0.113.10 to 10.0.0.1",
			"'tcp' is a word of sentences, it can be no service's name",
			"another name, such as web", 9},
		{"service web tpc 203.0.113.10 to 10.0.0.1", "expected a protocol or an address, got 'tpc'",
			"did you mean 'tcp'?", 13},
		{"service web tcp 203.0.113.10/24 to 10.0.0.1",
			"'203.0.113.10/24' has bits set behind its length",
			"203.0.113.0/24, or the address without a length", 17},
		{"service web tcp 127.0.0.1 to 10.0.0.1", "127.0.0.1 can be no service's address",
			"an address that packets are sent to, such as 203.0.113.10", 17},
		{"service web tcp 224.0.0.1 to 10.0.0.1", "224.0.0.1 can be no service's address",
			"an address that packets are sent to, such as 203.0.113.10", 17},
		{"service web gre 203.0.113.10 port 80 to 10.0.0.1", "protocol gre has no ports",
			"tcp, udp or sctp; or no port", 30},
		{"service web proto 99 203.0.113.10 port 80 to 10.0.0.1", "protocol 99 has no ports",
			"tcp, udp or sctp; or no port", 35},
		{"service web tcp 203.0.113.10 port 80,443 to 10.0.0.1", "more than one port or range",
			"one port or range: a service for each", 35},
		{"service web tcp 203.0.113.10 port 0 to 10.0.0.1", "port 0 is no port", "1 to 65535", 35},
		{"service web tcp 203.0.113.10 port 443", "expected 'to', got the end of the sentence",
			"to BACKEND, BACKEND", 38},
		{"service web tcp 203.0.113.10", "expected 'port' or 'to', got the end of the sentence",
			"to BACKEND, BACKEND", 29},
		{WEB "to", "expected a backend, got the end of the sentence",
			"its address, such as 10.0.0.11", 41},
		{WEB "to deliver ipip", "expected a backend, got 'deliver'", "its address, such as 10.0.0.11",
			42},
		{WEB "to 10.0.0.1,", "expected a backend, got the end of the sentence",
			"its address, such as 10.0.0.11", 51},
		{WEB "to 10.0.0.1 10.0.0.2", "no comma stands in front of 10.0.0.2",
			"backends with commas between them: 10.0.0.11, 10.0.0.12", 51},
		{WEB "to 10.0.0.0/24", "expected a backend, got '10.0.0.0/24'",
			"one address, without a length", 42},
		{WEB "to 127.0.0.1", "127.0.0.1 can be no backend's address", "the address of another host",
			42},
		{"service web tcp 2001:db8::10 to fe80::1", "fe80::1 does not say on which link it is",
			"an address of the backend's that a route leads to", 33},
		{WEB "to 203.0.113.10", "203.0.113.10 is the service's own address",
			"an address that the backend alone has", 42},
		{WEB "to 10.0.0.1 weight 65536", "65536 is too much", "0 to 65535", 58},
		{WEB "to 10.0.0.1 weight -1", "expected a weight, got '-1'", "a number from 0 to 65535", 58},
		{WEB "to 10.0.0.1 weight 1 weight 2", "a second 'weight'", "'weight' once", 60},
		{WEB "to 10.0.0.1, 10.0.0.2, 10.0.0.1 weight 3", "a second backend 10.0.0.1",
			"each backend once; 'weight' gives it more", 62},
		{WEB "to 10.0.0.1 port 443, 10.0.0.1 deliver nat", "a second backend 10.0.0.1",
			"each backend once; 'weight' gives it more", 61},
		{WEB "to 10.0.0.1 port 8443",
			"10.0.0.1 port 8443, but ipip delivers packets with the port "
			"they have",
			"no port, or deliver nat", 42},
		{"service v6 tcp 2001:db8::1 to 10.0.0.1",
			"10.0.0.1 is IPv4, but ipip does not carry IPv6 in IPv4",
			"the backend's IPv6 address", 31},
		{"service v6 tcp 2001:db8::1 to 10.0.0.1 deliver gue",
			"10.0.0.1 is IPv4, but gue does not carry IPv6 in IPv4", "the backend's IPv6 address",
			31},
		{WEB "to 10.0.0.1, 2001:db8::2 deliver nat",
			"2001:db8::2 is IPv6, but the service IPv4, and nat does not change that",
			"the backend's IPv4 address, or deliver ipip", 52},
		{"service v6 tcp 2001:db8::1 to 10.0.0.1 deliver l2",
			"10.0.0.1 is IPv4, but the service IPv6, and l2 does not change that",
			"the backend's IPv6 address", 31},
		{"service a gre 203.0.113.1 to 10.0.0.1 port 80",
			"10.0.0.1 port 80, but the protocol has no ports", "the backend without a port", 30},
		{WEB "to 10.0.0.1 delivr ipip", "unknown word 'delivr'", "did you mean 'deliver'?", 51},
		{WEB "to 10.0.0.1 deliver ipop", "expected a way to deliver, got 'ipop'",
			"did you mean 'ipip'?", 59},
		{WEB "to 10.0.0.1 deliver l2 deliver l2", "a second 'deliver'", "'deliver' once", 62},
		{WEB "to 10.0.0.1 deliver ipip weight 2", "unknown word 'weight'",
			"'weight' right behind its backend", 64},
		{WEB "to 10.0.0.1 from 10.0.0.9", "unknown word 'from'", "'from' right behind 'deliver nat'",
			51},
		{WEB "to 10.0.0.1 every 2s", "unknown word 'every'", "'every' behind 'check'", 51},
		{WEB "to 10.0.0.1 deliver nat from 10.0.0.9-10.0.0.1",
			"10.0.0.9-10.0.0.1 is no range: it runs backwards",
			"the lower address first, of one family", 68},
		{WEB "to 10.0.0.1 deliver nat from 2001:db8::1",
			"addresses of another family than the service's", "IPv4", 68},
		{WEB "to 10.0.0.1 deliver nat from 10.0.0.0-10.0.1.0",
			"10.0.0.0-10.0.1.0 are too many addresses", "at most 256", 68},
		{"service a sctp 203.0.113.1 port 1 to 10.0.0.1 deliver nat", "nat does not carry sctp",
			"tcp, udp, icmp; or deliver ipip", 47},
		{WEB "to 10.0.0.1 quic", "quic is UDP's", "web udp …", 51},
		{"service a udp 203.0.113.1 to 10.0.0.1 mss 1400", "mss is TCP's", "a tcp …, or no mss", 39},
		{WEB "to 10.0.0.1 mtu 100", "100 is too little", "576 to 65535", 55},
		{WEB "to 10.0.0.1 ring 65536", "65536 is no prime", "ring 65521 or ring 65537", 56},
		{WEB "to 10.0.0.1 ring 131071", "131071 is too much", "2 to 65537", 56},
		{WEB "to 10.0.0.1, 10.0.0.2, 10.0.0.3 ring 2",
			"a ring of 2 slots is too small for 3 backends", "a prime from 3 to 65537", 71},
		{WEB "to 10.0.0.1 choose turns ring 7", "'choose turns' has no ring",
			"choose maglev, or no ring", 64},
		{WEB "to 10.0.0.1 affinity client", "expected what the same backend is for, got 'client'",
			"affinity source [for DURATION]", 60},
		{WEB "to 10.0.0.1 affinity source for 1ms", "1ms is too short", "1s to 30d", 71},
		{WEB "to 10.0.0.1 check ping", "expected a kind of check, got 'ping'",
			"tcp, http, https, udp or exec", 57},
		{WEB "to 10.0.0.1 check tcp path /a", "a check by tcp has no 'path'",
			"'path' with http, https", 61},
		{WEB "to 10.0.0.1 check http path a", "'a' is no path of a URL",
			"one such as /health, other characters as %20", 67},
		{WEB "to 10.0.0.1 check http host \"a b\"", "'a b' is no host's name",
			"one such as www.example.org", 67},
		{WEB "to 10.0.0.1 check http status 300-200", "expected a status, got '300-200'",
			"a number from 100 to 599, or a range such as 200-299", 69},
		{WEB "to 10.0.0.1 check tcp every 1s timeout 2s",
			"a check would begin before the last one has ended", "a timeout of at most 'every'",
			70},
		{WEB "to 10.0.0.1 check exec true direct", "a check by exec has no 'direct'",
			"'direct' with tcp, http, https, udp", 67},
		{WEB "to 10.0.0.1 check tcp every 1ms", "1ms is too short", "100ms to 1h", 67},
		{WEB "to 10.0.0.1 check exec", "expected a command, got the end of the sentence",
			"text, in quotes if there are spaces in it", 61},
		{"service a tcp 203.0.113.1 to 10.0.0.1 check tcp",
			"the service has any port, so it is not clear which one is checked",
			"check tcp port N", 39},
		{WEB "to 10.0.0.1 \"a\" fail open", "something stands behind the comment",
			"the comment at the end", 55},
		{"forward from eth0", "expected where to, got the end of the sentence",
			"by route, to INTERFACE [both ways], or via INTERFACE to INTERFACE", 18},
		{"forward from eth0 to eth0", "a second 'eth0'", "each interface once", 22},
		{"forward among eth0", "one interface alone cannot be switched",
			"at least two: among eth0, eth1", 19},
		{"forward from eth0 to eth1 both", "expected 'ways', got the end of the sentence",
			"from eth0 to eth1 both ways", 31},
		{"forward form eth0 to eth1", "expected what is forwarded, got 'form'",
			"did you mean 'from'?", 9},
		{"steer in on eth0", "expected 'to cpus', got the end of the sentence",
			"to cpus 0-3, for example", 17},
		{"steer on eth0 to cpus 0", "where packets come in is not said", "in on INTERFACE …", 24},
		{"steer out on eth0 to cpus 0", "what leaves is not steered", "in on INTERFACE …", 7},
		{"steer in on eth0 by user root to cpus 0",
			"whose a packet is, is not known where it is steered",
			"what stands in the packet, then to cpus LIST [by flow|rule]", 18},
		{"steer in on eth0 vlan 7 to cpus 0",
			"the tag of a VLAN may stand beside the packet where it is steered",
			"what stands in the packet, then to cpus LIST [by flow|rule]", 18},
		{"steer in on eth0 tcp state new to cpus 0", "packets are not steered by 'state'",
			"what stands in the packet, then to cpus LIST [by flow|rule]", 22},
		{"steer in on eth0 tcp log to cpus 0", "packets are not steered by 'log'",
			"what stands in the packet, then to cpus LIST [by flow|rule]", 22},
		{"steer in on eth0 udp flags syn to cpus 0", "'udp' has no TCP flags", "tcp in front of it",
			22},
		{"steer in on eth0 to cpus 4-2", "the range 4-2 runs backwards", "2-4", 26},
		{"steer in on eth0 to cpus 1024", "there is no CPU 1024", "0 to 1023", 26},
		{"steer in on eth0 to cpus 1,,2", "expected CPUs, got ''",
			"numbers and ranges with commas, such as 0-3,6", 28},
		{"steer in on eth0 to cpus 1 by packet", "expected how the CPUs are shared, got 'packet'",
			"by flow or by rule", 31},
	};

	(void)state;
	FOR_EACH_CASE(c, cases)
	expect_refused(c);
}

static void backends_change_one_at_a_time(void **state)
{
	static const struct {
		const char *change, *printed; /* NULL: refused */
		const char *what, *want;
	} cases[] = {
		{"add 10.0.0.3 weight 2",
			"web tcp 203.0.113.10 port 443 to 10.0.0.11, 10.0.0.12 drain, 10.0.0.3 weight 2"},
		{"drain 10.0.0.11", "web tcp 203.0.113.10 port 443 to 10.0.0.11 drain, 10.0.0.12 drain"},
		{"drain 10.0.0.12", "web tcp 203.0.113.10 port 443 to 10.0.0.11, 10.0.0.12 drain"},
		{"undrain 10.0.0.12", "web tcp 203.0.113.10 port 443 to 10.0.0.11, 10.0.0.12"},
		{"set 10.0.0.12 weight 5",
			"web tcp 203.0.113.10 port 443 to 10.0.0.11, 10.0.0.12 weight 5 drain"},
		{"set 10.0.0.12 port 443 weight 5",
			"web tcp 203.0.113.10 port 443 to 10.0.0.11, 10.0.0.12 weight 5 drain"},
		{"remove 10.0.0.11", "web tcp 203.0.113.10 port 443 to 10.0.0.12 drain"},
		{"remove 10.0.0.13", NULL, "service web has no backend 10.0.0.13", "did you mean 10.0.0.11?"},
		{"remove 192.168.199.77", NULL, "service web has no backend 192.168.199.77",
			"10.0.0.11, 10.0.0.12"},
		{"drain 10.0.0.12 port 80", NULL, "service web has no backend 10.0.0.12 port 80",
			"10.0.0.11, 10.0.0.12"},
		{"add 10.0.0.11", NULL, "a second backend 10.0.0.11",
			"each backend once; 'weight' gives it more"},
		{"add 10.0.0.3 port 8443", NULL,
			"10.0.0.3 port 8443, but ipip delivers packets with the port they have",
			"no port, or deliver nat"},
		{"set 10.0.0.11", NULL, "expected 'weight', got the end of the sentence",
			"weight N, or port PORT weight N"},
		{"set 10.0.0.11 weight 99999", NULL, "99999 is too much", "0 to 65535"},
		{"drian 10.0.0.11", NULL, "expected what becomes of a backend, got 'drian'",
			"did you mean 'drain'?"},
		{"drain 10.0.0.11, 10.0.0.12", NULL, "something stands behind the backend",
			"one backend at a time"},
		{"", NULL, "expected what becomes of a backend, got the end of the sentence",
			"add, set, drain, undrain or remove"},
	};
	struct service_text *service =
		service_of("web tcp 203.0.113.10 port 443 to 10.0.0.11, 10.0.0.12 drain");

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		struct service_text *changed = NULL;
		struct error error = {0};
		int r = service_change(service, c->change, &changed, &error);
		char *text = r == 0 ? service_print(changed) : NULL;

		EXPECT((r == 0) == (c->printed != NULL), "%s: %s; %s", c->change, error.what, error.want);
		if (c->printed) {
			EXPECT_TEXT(text ? text : "", c->printed, "%s", c->change);
		} else {
			EXPECT_TEXT(error.what, c->what, "%s", c->change);
			EXPECT_TEXT(error.want, c->want, "%s", c->change);
			EXPECT(!changed, "%s", c->change);
		}
		free(text);
		service_free(changed);
	}
	service_free(service);
}

static void the_last_backend_stays(void **state)
{
	struct service_text *service = service_of("web tcp 203.0.113.10 to 10.0.0.11"), *changed = NULL;
	struct error error = {0};

	(void)state;
	assert_int_equal(service_change(service, "remove 10.0.0.11", &changed, &error), -EINVAL);
	assert_string_equal(error.what, "the only backend of web");
	assert_null(changed);
	service_free(service);
}

static void one_host_may_have_several_ports(void **state)
{
	struct service_text *service = service_of(
				    "web tcp 203.0.113.10 port 80 to 10.0.0.1, 10.0.0.1 port 81 deliver nat"),
			    *changed = NULL;
	struct error error = {0};

	(void)state;
	assert_int_equal(service_change(service, "drain 10.0.0.1", &changed, &error), -EINVAL);
	assert_string_equal(error.what, "web has 2 backends with this address");
	assert_string_equal(error.want, "drain 10.0.0.1 port PORT");
	assert_int_equal(service_change(service, "drain 10.0.0.1 port 81", &changed, &error), 0);
	assert_false(changed->backends[0].drain);
	assert_true(changed->backends[1].drain);
	service_free(changed);
	assert_int_equal(service_change(service, "drain 10.0.0.1 port 80", &changed, &error), 0);
	assert_true(changed->backends[0].drain);
	service_free(changed);
	service_free(service);
}

static void a_thousand_backends_are_one_sentence(void **state)
{
	char *text = malloc(SERVICE_TEXT_MAX), *p = text, *printed;
	struct error error = {0};
	struct rule rule;

	(void)state;
	p += sprintf(p, "service big tcp 2001:db8::1 port 443 to ");
	for (unsigned int i = 0; i < SERVICE_OF_BACKENDS_MAX; i++)
		p += sprintf(p, "%s2001:db8:1111:2222:3333:4444:5555:%x weight 65535 drain", i ? ", " : "",
			0x1000 + i);
	assert_int_equal(rule_parse(text, &rule, &error), 0);
	assert_int_equal(rule.service->backend_count, SERVICE_OF_BACKENDS_MAX);
	printed = rule_text(&rule, &error);
	assert_string_equal(printed, text);
	rule_clear(&rule);
	free(printed);
	snprintf(p, SERVICE_TEXT_MAX - (size_t)(p - text), ", 2001:db8:1::1");
	assert_int_equal(rule_parse(text, &rule, &error), -EINVAL);
	assert_string_equal(error.what, "too many backends");
	free(text);
}

static void other_rules_stay_short(void **state)
{
	char text[RULE_TEXT_MAX + 32] = "drop in tcp ";
	struct error error = {0};
	struct rule rule;

	(void)state;
	memset(text + 12, ' ', sizeof(text) - 13);
	assert_int_equal(rule_parse(text, &rule, &error), -EINVAL);
	assert_string_equal(error.what, "the rule is too long");
}

static void two_of_one_address_share_no_ports(void **state)
{
	static const struct {
		const char *a, *b;
		bool conflict;
	} cases[] = {
		{"a tcp 203.0.113.1 port 80 to 10.0.0.1", "b tcp 203.0.113.1 port 80 to 10.0.0.2", true},
		{"a tcp 203.0.113.1 port 80 to 10.0.0.1", "b udp 203.0.113.1 port 80 to 10.0.0.2", false},
		{"a tcp 203.0.113.1 port 80 to 10.0.0.1", "b tcp 203.0.113.2 port 80 to 10.0.0.2", false},
		{"a tcp 203.0.113.1 port 80 to 10.0.0.1", "b tcp 203.0.113.1 to 10.0.0.2", false},
		{"a tcp 203.0.113.1 to 10.0.0.1", "b tcp 203.0.113.1 to 10.0.0.2", true},
		{"a tcp 203.0.113.1 to 10.0.0.1", "b 203.0.113.1 to 10.0.0.2", false},
		{"a tcp 203.0.113.0/24 to 10.0.0.1", "b tcp 203.0.113.0/25 to 10.0.0.2", false},
		{"a tcp 203.0.113.1 port 80-90 to 10.0.0.1", "b tcp 203.0.113.1 port 85 to 10.0.0.2", false},
		{"a tcp 203.0.113.1 port 80-90 to 10.0.0.1", "b tcp 203.0.113.1 port 85-95 to 10.0.0.2",
			true},
		{"a tcp 203.0.113.1 port 80-90 to 10.0.0.1", "b tcp 203.0.113.1 port 91-95 to 10.0.0.2",
			false},
		{"a tcp 203.0.113.1 port 80-90 to 10.0.0.1", "b tcp 203.0.113.1 port 80-90 to 10.0.0.2",
			true},
	};

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		struct service_text *a = service_of(c->a), *b = service_of(c->b);

		EXPECT(service_conflicts(a, b) == c->conflict, "%s / %s", c->a, c->b);
		EXPECT(service_conflicts(b, a) == c->conflict, "%s / %s", c->b, c->a);
		service_free(a);
		service_free(b);
	}
}

static void an_interface_is_forwarded_from_once(void **state)
{
	static const struct {
		const char *a, *b, *interface;
	} cases[] = {
		{"from eth0 by route", "from eth0 to eth1", "eth0"},
		{"from eth0 to eth1", "from eth1 to eth0", NULL},
		{"from eth0 to eth1 both ways", "from eth1 to eth0", "eth1"},
		{"among eth0, eth1", "from eth2 via eth1 to eth3", "eth1"},
		{"from eth0 via eth1 to eth2", "from eth2 by route", NULL},
	};

	(void)state;
	FOR_EACH_CASE(c, cases)
	{
		struct forward_text a, b;
		const char *found;

		assert_int_equal(forward_parse(c->a, &a, NULL), 0);
		assert_int_equal(forward_parse(c->b, &b, NULL), 0);
		found = forward_conflict(&a, &b);
		EXPECT_TEXT(found ? found : "", c->interface ? c->interface : "", "%s / %s", c->a, c->b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rules_are_printed_in_one_way),
		cmocka_unit_test(what_is_not_said_is_the_default),
		cmocka_unit_test(what_cannot_be_is_refused_where_it_stands),
		cmocka_unit_test(backends_change_one_at_a_time),
		cmocka_unit_test(the_last_backend_stays),
		cmocka_unit_test(one_host_may_have_several_ports),
		cmocka_unit_test(a_thousand_backends_are_one_sentence),
		cmocka_unit_test(other_rules_stay_short),
		cmocka_unit_test(two_of_one_address_share_no_ports),
		cmocka_unit_test(an_interface_is_forwarded_from_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

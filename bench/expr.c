// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * What an expression costs a packet: translated by weir, and converted by the kernel from classic BPF.
 *
 * The kernel converts classic programs only where it attaches them, so both stand at one place: cls_bpf at
 * the egress of a veth, one after the other COPIES times, none of which ends the search; the last drops the
 * packet. A packet socket sends.  Net of COPIES programs that do nothing, of the same kind.
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "compile/expression.h"
#include "rounds.h"

#define COPIES 32
#define BATCH  64

enum subject { CLASSIC_EMPTY, EMPTY, CLASSIC, DIRECT, SOCKET, SUBJECTS };

static const char *const expressions[] = {
	"ip",
	"tcp port 443",
	"udp port 53",
	"host 10.0.0.1",
	"host fd00::1",
	"tcp port 443 and host 10.0.0.1",
	"net 10.0.0.0/8 and not port 22",
	"tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
	"tcp port 80 and (((ip[2:2] - ((ip[0]&0xf)<<2)) - ((tcp[12]&0xf0)>>2)) != 0)",
	"(tcp port 80 or 443 or 8080 or 22) and (host 10.0.0.1 or 10.0.0.9 or 192.168.1.1 or fd00::1)",
	"vlan 5 and tcp",
};

static uint8_t packet4[] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 46, 0, 1, 0, 0, 64, 6, 0, 0,
	10, 0, 0, 1, 10, 0, 0, 2, 3, 0xe8, 1, 0xbb, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x12, 1, 0, 0, 0, 0, 0, 1,
	2, 3, 4, 5, 6};
static uint8_t packet6[] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 8, 17, 64, 0xfd,
	0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0x14,
	0xe9, 0, 53, 0, 8, 0, 0};

struct bench {
	struct rounds rounds;
	int sender;
	unsigned int interfaces[SUBJECTS];
};

static const char *interface_of(enum subject subject)
{
	static const char *const names[] = {"e0", "e1", "e2", "e3", "e4"};

	return names[subject];
}

static void command(const char *text)
{
	if (system(text)) {
		fprintf(stderr, "bench-expr: this failed: %s\n", text);
		exit(1);
	}
}

/* cls_bpf with classic bytecode, as tc(8) writes it: no match, whatever it finds. */
static void attach_classic(const struct sock_filter *filters, size_t count, enum subject subject)
{
	FILE *tc = popen("tc -batch -", "w");

	if (!tc)
		die("tc", errno);
	for (int i = 0; i < COPIES; i++) {
		fprintf(tc, "filter add dev %s egress protocol all pref 1 handle %d bpf bytecode '%zu",
			interface_of(subject), i + 1, count);
		for (size_t j = 0; j < count; j++)
			fprintf(tc, ",%u %u %u %u", filters[j].code, filters[j].jt, filters[j].jf,
				BPF_CLASS(filters[j].code) == BPF_RET ? 0 : filters[j].k);
		fprintf(tc, "'\n");
	}
	if (pclose(tc))
		die("tc takes no classic filter", EINVAL);
}

static void attach(const struct bpf_insn *code, size_t count, enum subject subject, uint32_t first,
	uint32_t copies, uint32_t priority)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)if_nametoindex(interface_of(subject)),
		.attach_point = BPF_TC_EGRESS);

	for (uint32_t i = 0; i < copies; i++) {
		LIBBPF_OPTS(bpf_tc_opts, options, .handle = first + i, .priority = priority);
		int r;

		options.prog_fd = bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "expr", "GPL", code, count, NULL);
		if (options.prog_fd < 0)
			die("load", errno);
		r = bpf_tc_attach(&hook, &options);
		if (r < 0)
			die("attach", r);
		close(options.prog_fd);
	}
}

/* Translated; what it finds is left in r0 for a moment, and the search goes on. */
static void attach_translated(
	const struct expression *expression, enum expression_context context, enum subject subject)
{
	static const struct bpf_insn on[] = {
		{.code = BPF_ALU | BPF_MOV | BPF_K, .imm = -1}, /* TC_ACT_UNSPEC */
		{.code = BPF_JMP | BPF_EXIT},
	};
	const struct expression_target target = {
		.context = context, .match = on, .match_count = 2, .no_match = on, .no_match_count = 2};
	struct expression_code code;
	struct error error;

	if (expression_translate(expression, &target, &code, &error) < 0) {
		fprintf(stderr, "bench-expr: %s\n", error.what);
		exit(1);
	}
	attach(code.instructions, code.count, subject, 1, COPIES, 1);
	expression_code_clear(&code);
}

/* A veth for each subject, whose egress ends in a program that drops all. */
static void interfaces_make(struct bench *bench)
{
	static const struct bpf_insn drop[] = {
		{.code = BPF_ALU | BPF_MOV | BPF_K, .imm = 2}, /* TC_ACT_SHOT */
		{.code = BPF_JMP | BPF_EXIT},
	};
	char text[256];

	for (int s = 0; s < SUBJECTS; s++) {
		const char *name = interface_of((enum subject)s);

		snprintf(text, sizeof(text),
			"ip link add %s type veth peer name p%s && ip link set %s up && ip link set p%s up "
			"&& "
			"tc qdisc add dev %s clsact",
			name, name, name, name, name);
		command(text);
		bench->interfaces[s] = if_nametoindex(name);
		attach(drop, 2, (enum subject)s, 1, 1, 2);
	}
}

static void clear(enum subject subject)
{
	char text[64];

	snprintf(text, sizeof(text), "tc filter del dev %s egress pref 1", interface_of(subject));
	command(text);
}

/* ns per packet of all the programs together, of this thread: a machine is seldom idle. */
static double run(
	const struct bench *bench, enum subject subject, void *packet, size_t size, uint32_t packets)
{
	struct sockaddr_ll address = {.sll_family = AF_PACKET,
		.sll_ifindex = (int)bench->interfaces[subject],
		.sll_halen = ETH_ALEN};
	struct iovec part = {packet, size};
	struct mmsghdr messages[BATCH];
	struct timespec begin, end;

	for (int i = 0; i < BATCH; i++)
		messages[i] = (struct mmsghdr){.msg_hdr = {.msg_name = &address,
						       .msg_namelen = sizeof(address),
						       .msg_iov = &part,
						       .msg_iovlen = 1}};
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &begin);
	for (uint32_t sent = 0; sent < packets; sent += BATCH)
		/* ENOBUFS is what the drop at the end looks like */
		for (int done = 0; done < BATCH;) {
			int r = sendmmsg(bench->sender, messages + done, (unsigned int)(BATCH - done), 0);

			if (r < 0 && errno != ENOBUFS)
				die("send", errno);
			done += r > 0 ? r : 1;
		}
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
	return ((double)(end.tv_sec - begin.tv_sec) * 1e9 + (double)(end.tv_nsec - begin.tv_nsec)) / packets;
}

static void measure(const struct bench *bench, const char *name, void *packet, size_t size)
{
	static double net[SUBJECTS][ROUNDS_MAX];
	double gross[SUBJECTS], median[SUBJECTS];

	for (int s = 0; s < SUBJECTS; s++)
		run(bench, (enum subject)s, packet, size, bench->rounds.repeat / 4);
	for (int round = 0; round < bench->rounds.count; round++) {
		for (int i = 0; i < SUBJECTS; i++) {
			int s = (i + round) % SUBJECTS;

			gross[s] = run(bench, (enum subject)s, packet, size, bench->rounds.repeat);
		}
		net[CLASSIC][round] = (gross[CLASSIC] - gross[CLASSIC_EMPTY]) / COPIES;
		net[DIRECT][round] = (gross[DIRECT] - gross[EMPTY]) / COPIES;
		net[SOCKET][round] = (gross[SOCKET] - gross[EMPTY]) / COPIES;
	}
	for (int s = CLASSIC; s < SUBJECTS; s++)
		median[s] = rounds_median(net[s], bench->rounds.count);
	printf("  %-26s", name);
	for (int s = CLASSIC; s < SUBJECTS; s++)
		printf("  %7.1f", median[s]);
	if (median[CLASSIC] >= 1) /* less is noise */
		printf("  %7.2f", median[DIRECT] / median[CLASSIC]);
	putchar('\n');
	fflush(stdout);
}

int main(int argc, char **argv)
{
	struct bench bench = {.rounds = {.cpu = 1, .count = 41, .repeat = 2048}};
	static const struct sock_filter classic_empty[] = {{.code = BPF_RET | BPF_K}};
	static const struct bpf_insn empty[] = {
		{.code = BPF_ALU | BPF_MOV | BPF_K, .imm = -1},
		{.code = BPF_JMP | BPF_EXIT},
	};

	rounds_read(argc, argv, &bench.rounds, NULL, NULL);
	if (bench.rounds.repeat % BATCH) {
		fprintf(stderr, "bench-expr: repeat a multiple of %d\n", BATCH);
		return 2;
	}
	if (unshare(CLONE_NEWNET) < 0)
		die("a network namespace (as root?)", errno);
	command("echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6");
	bench.sender = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (bench.sender < 0)
		die("packet socket", errno);
	interfaces_make(&bench);
	attach_classic(classic_empty, 1, CLASSIC_EMPTY);
	attach(empty, 2, EMPTY, 1, COPIES, 1);

	printf("expressions at tc: net ns per packet, median of %d interleaved rounds of %u packets through "
	       "%d copies; "
	       "CPU %d\n\n",
		bench.rounds.count, bench.rounds.repeat, COPIES, bench.rounds.cpu);
	printf("%-28s  %7s  %7s  %7s  %7s\n", "", "kernel", "weir", "weir,", "weir /");
	printf("%-28s  %7s  %7s  %7s  %7s\n", "", "classic", "", "socket", "kernel");
	for (size_t i = 0; i < sizeof(expressions) / sizeof(expressions[0]); i++) {
		struct expression expression;
		struct error error;

		if (expression_compile(expressions[i], EXPRESSION_ETHERNET, 96, &expression, &error) < 0) {
			error_print(&error, "bench-expr: ", stderr);
			return 1;
		}
		attach_classic(expression.plain.filters, expression.plain.count, CLASSIC);
		attach_translated(&expression, EXPRESSION_SKB, DIRECT);
		attach_translated(&expression, EXPRESSION_SOCKET, SOCKET);
		printf("%s\n", expressions[i]);
		measure(&bench, "TCP over IPv4, port 443", packet4, sizeof(packet4));
		measure(&bench, "UDP over IPv6, port 53", packet6, sizeof(packet6));
		for (int s = CLASSIC; s < SUBJECTS; s++)
			clear((enum subject)s);
		expression_clear(&expression);
	}
	close(bench.sender);
	return 0;
}

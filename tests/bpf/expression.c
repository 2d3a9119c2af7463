// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Expressions say of every packet what libpcap says: as classic BPF here, and translated, in the kernel.
 * Packets are generated; those of ../shared/data/pcap join them where that is.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <bpf/bpf.h>
#include <errno.h>
#include <glob.h>
#include <linux/if_ether.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

#include "bpf/expression_pcap.h"
#include "compile/classic.h"
#include "compile/expression.h"

#define SNAPLEN     262144
#define PACKETS_MAX 1200
#define BYTES_MAX   2048
#define BUFFER      256 /* of EXPRESSION_BUFFER */
#define LOG_BYTES   (1U << 20)

struct packet {
	uint8_t bytes[BYTES_MAX];
	uint32_t size;
};

static struct packet packets[PACKETS_MAX];
static size_t packet_count;
static char verifier_log[LOG_BYTES];

static const char *const expressions[] = {
	"",
	"ip",
	"ip6",
	"arp",
	"rarp",
	"tcp",
	"udp",
	"icmp",
	"icmp6",
	"sctp",
	"igmp",
	"esp",
	"ah",
	"vrrp",
	"not ip",
	"not tcp",
	"not (tcp or udp)",
	"ip and not tcp",
	"ip6 and not udp",
	"tcp port 443",
	"udp port 53",
	"port 53",
	"sctp port 7",
	"src port 1000",
	"dst port 443",
	"tcp src port 443 or udp dst port 53",
	"not port 443",
	"portrange 1000-2000",
	"tcp portrange 440-450",
	"src portrange 1-1023",
	"dst portrange 1-1023",
	"host 10.0.0.1",
	"src host 10.0.0.1",
	"dst host 10.0.0.2",
	"src and dst host 10.0.0.1",
	"host fd00::1",
	"src host fd00::1",
	"dst host fd00::2",
	"host 10.0.0.1 and host 10.0.0.2",
	"host 10.0.0.1 or fd00::1",
	"not host 10.0.0.1",
	"ip host 10.0.0.2",
	"arp host 10.0.0.1",
	"net 10.0.0.0/8",
	"src net 10.0.0.0/24",
	"dst net 192.168.0.0 mask 255.255.0.0",
	"net 10",
	"ip6 net fd00::/64",
	"src net fd00::/16",
	"net 2001:db8::/33",
	"ip proto 6",
	"ip proto \\udp",
	"ip6 proto 17",
	"ip6 proto 58",
	"proto 47",
	"ip protochain 6",
	"ip6 protochain 6",
	"ip6 protochain 17",
	"protochain 6",
	"not ip6 protochain 6",
	"ip6 protochain 6 or ip6 protochain 17",
	"ip6 protochain 6 and src host fd00::1",
	"ether proto 0x800",
	"ether proto 0x88a8",
	"ether proto \\arp",
	"ether host 02:00:00:00:00:01",
	"ether src 02:00:00:00:00:01",
	"ether dst 02:00:00:00:00:02",
	"ether broadcast",
	"ether multicast",
	"broadcast",
	"multicast",
	"ip multicast",
	"ip6 multicast",
	"llc",
	"stp",
	"ipx",
	"atalk",
	"aarp",
	"decnet",
	"iso",
	"isis",
	"netbeui",
	"vlan",
	"vlan 100",
	"vlan 5 and tcp",
	"vlan 100 and udp port 53",
	"vlan and vlan",
	"vlan 1 and vlan 100 and ip",
	"vlan and ip6",
	"not vlan",
	"tcp or vlan 100",
	"tcp port 443 or (vlan and tcp port 443)",
	"vlan 100 or vlan 200",
	"vlan (100) and host 10.0.0.1",
	"vlan and ether[12:2] = 0x800",
	"vlan 0x64",
	"mpls",
	"mpls 100",
	"mpls 100 and mpls 200",
	"mpls and ip",
	"pppoed",
	"pppoes",
	"pppoes and ip",
	"pppoes 0x11 and tcp port 443",
	"geneve",
	"geneve 5 and tcp",
	"less 60",
	"greater 60",
	"len > 100",
	"len = 42",
	"len - 14 = ip[2:2]",
	"tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
	"tcp[tcpflags] = tcp-syn",
	"tcp[tcpflags] & tcp-ack != 0 and not src net 10.0.0.0/8",
	"tcp[13] & 2 != 0",
	"tcp[0:2] = 1000",
	"tcp[2:2] = 443",
	"tcp[4:4] > 1",
	"udp[4:2] > 8",
	"icmp[icmptype] = icmp-echo",
	"icmp[icmptype] != icmp-echo and icmp[icmptype] != icmp-echoreply",
	"icmp[0] = 3 and icmp[1] = 4",
	"icmp6[0] = 128",
	"icmp6[icmp6type] = icmp6-echoreply",
	"ip[0] & 0xf != 5",
	"ip[2:2] > 60",
	"ip[6:2] & 0x1fff = 0",
	"ip[6:2] & 0x3fff != 0",
	"ip[8] < 64",
	"ip[12:4] = 0x0a000001",
	"ip6[6] = 6",
	"ip6[40] & 0xf0 = 0",
	"ip6[8:4] = 0xfd000000",
	"ether[0] & 1 = 0 and ip[16] >= 224",
	"ether[12:2] = 0x86dd",
	"ether[6:4] = 0x02000000 and ether[10:2] = 1",
	"ether[100] = 0",
	"ether[100:4] = ether[104:4]",
	"ether[2000] = 0",
	"ether[40000] = 0",
	"ether[ip[3]] = 0",
	"ether[ether[13] * 4 + 2] != 0",
	"tcp port 80 and (((ip[2:2] - ((ip[0]&0xf)<<2)) - ((tcp[12]&0xf0)>>2)) != 0)",
	"tcp[((tcp[12:1] & 0xf0) >> 2):4] = 0x47455420",
	"tcp[(tcp[12] >> 2) & 0x3c] = 0x16 and tcp dst port 443",
	"udp[8:2] = 0x1234",
	"udp[udp[4:2] - 1] = 0",
	"ip[ip[2:2] - 1] = 0",
	"ether[len - 1] = 0",
	"ether[len - 4:4] = 0",
	"ether[0xfffffff0] = 1",
	"ip[0 - 1] = 0",
	"ip[8] / 2 = 32",
	"ip[8] % 3 = 1",
	"100 / ip[8] = 1",
	"100 / (ip[8] - 64) = 1",
	"ip[9] % (ip[8] - 64) = 0",
	"ip[2:2] << ip[9] != 0",
	"ip[2:2] >> (ip[8] & 7) > 2",
	"1 << ip[8] = 0",
	"-ip[0] & 0xff = 0xbb",
	"ip[0] | ip[1] ^ ip[9] = 0x43",
	"ip[4:2] * ip[2:2] > 64",
	"ip[12:4] + ip[16:4] = 0x14000003",
	"(ip[12:4] & 0xff) + 1 = (ip[16:4] & 0xff)",
	"ip[2:2] = len - 14",
	"tcp[0:2] = tcp[2:2]",
	"tcp[0:2] > tcp[2:2]",
	"tcp[0:2] >= udp[0:2] or udp[2:2] < 1024",
	"ip[10:2] & ip[2:2] != 0",
	"ip and tcp and dst host 10.0.0.2 and dst port 443 and tcp[tcpflags] & tcp-syn != 0 and len < 100",
	"(tcp port 80 or 443 or 8080 or 22) and (host 10.0.0.1 or 10.0.0.2 or 192.168.1.1 or fd00::1)",
	"host 10.0.0.1 and not (tcp port 22 or udp port 53 or icmp) or ip6 and tcp dst port 443",
	"udp and (src port 67 and dst port 68 or src port 68 and dst port 67)",
	"inbound",
	"outbound and tcp",
	"ifindex 1",
	"1 = 1",
};

#define EXPRESSIONS (sizeof(expressions) / sizeof(expressions[0]))

/* ------------------------------------------------------------------------------------------- packets */

static size_t put(uint8_t *at, const char *hex)
{
	size_t digits = 0;

	for (; *hex; hex++) {
		unsigned int value;

		if (sscanf(hex, "%1x", &value) != 1 || *hex == ' ')
			continue;
		at[digits / 2] = (uint8_t)(digits % 2 ? at[digits / 2] << 4 | value : value);
		digits++;
	}
	return digits / 2;
}

static void packet_add(const uint8_t *bytes, size_t size)
{
	if (packet_count == PACKETS_MAX)
		return;
	if (size > BYTES_MAX)
		size = BYTES_MAX;
	memcpy(packets[packet_count].bytes, bytes, size);
	packets[packet_count++].size = (uint32_t)size;
}

#define ADDRESSES4 "0a000001 0a000002 "
#define ADDRESSES6 "fd000000000000000000000000000001 fd000000000000000000000000000002 "
#define TCP        "03e8 01bb 00000001 00000002 5012 0064 0000 0000 47455420 2f20485454502f312e310d0a "
#define UDP        "0035 14e9 0014 0000 1234 0100 0001 0000 0000 0000 "

static void packets_generate(void)
{
	static const char *const links[] = {
		"020000000002 020000000001 ", "ffffffffffff 020000000001 ", "01005e000001 020000000003 ",
		"020000000002 020000000001 8100 0064 ", "020000000002 020000000001 8100 a005 ",
		"020000000002 020000000001 88a8 0001 8100 0064 ",
		"020000000002 020000000001 8847 00064040 000c8140 ", /* followed by an EtherType that is no
	                                                                label */
	};
	static const char *const networks[] = {
		"0800 4500 0038 0001 0000 4006 0000 " ADDRESSES4 TCP,
		"0800 4500 0038 0001 4000 4006 0000 0a000002 0a000001 01bb 03e8 00000001 00000002 5010 0064 "
	        "0000 "
		"0000 ",
		"0800 4500 0038 0001 0000 2006 1234 c0a80101 c0a80202 c350 0050 80000001 00000002 8018 0064 "
	        "0000 "
		"0000 01010101 01010101 01010101 47455420 ",
		"0800 4700 0040 0001 0000 3f06 0000 " ADDRESSES4 "01010101 01010101 " TCP,
		"0800 4f00 0074 0001 0000 4011 0000 " ADDRESSES4
		"01010101 01010101 01010101 01010101 01010101 01010101 01010101 01010101 01010101 "
	        "01010101 " UDP,
		"0800 4500 0028 0001 0000 4011 0000 " ADDRESSES4 UDP,
		"0800 4500 0028 0001 2000 4011 0000 " ADDRESSES4 UDP,
		"0800 4500 0028 0001 00b9 4011 0000 " ADDRESSES4 UDP,
		"0800 4500 001c 0001 0000 4001 0000 " ADDRESSES4 "0800 0000 0007 0001 ",
		"0800 4500 001c 0001 0000 4001 0000 " ADDRESSES4 "0304 0000 0000 05dc ",
		"0800 4500 0020 0001 0000 4084 0000 " ADDRESSES4 "0007 0009 00000001 00000000 ",
		"0800 4500 0020 0001 0000 402f 0000 " ADDRESSES4 "00000800 00000000 ",
		"0800 4500 0020 0001 0000 0102 0000 0a000001 e0000016 1100 0000 00000000 ",
		"0800 4500 0030 0001 0000 4033 0000 " ADDRESSES4
		"0604 0000 00000000 00000000 000000000000000000000000 "
		"03e8 01bb ",
		"0800 4500 0050 0001 0000 4011 0000 " ADDRESSES4
		"3039 17c1 003c 0000 0000 6558 000005 00 " /* Geneve */
		"020000000002 020000000001 0800 4500 0028 0001 0000 4006 0000 " ADDRESSES4 TCP,
		"86dd 60000000 0028 0640 " ADDRESSES6 TCP,
		"86dd 60000000 0014 1140 " ADDRESSES6 UDP,
		"86dd 60000000 0008 3a40 " ADDRESSES6 "8000 0000 0009 0001 ",
		"86dd 60000000 0008 3a40 " ADDRESSES6 "8100 0000 0009 0001 ",
		"86dd 60000000 0030 0040 " ADDRESSES6 "0600 01040000 0000 " TCP,
		"86dd 60000000 0030 0040 " ADDRESSES6
		"3c00 01040000 0000 2b00 01040000 0000 1100 01040000 0000 " UDP,
		"86dd 60000000 0030 2c40 " ADDRESSES6 "0600 0001 00000001 " TCP,
		"86dd 60000000 0030 3340 " ADDRESSES6
		"0604 0000 00000000 00000000 000000000000000000000000 " TCP,
		"86dd 60000000 0014 1140 20010db8000000000000000000000001 "
	        "ff020000000000000000000000000001 " UDP,
		"0806 0001 0800 0604 0001 020000000001 0a000001 000000000000 0a000002 ",
		"8035 0001 0800 0604 0003 020000000001 0a000001 000000000000 0a000002 ",
		"8864 1100 0011 0024 0021 4500 0038 0001 0000 4006 0000 " ADDRESSES4 TCP,
		"8863 1109 0000 0004 0101 0000 ",
		"8847 00064140 4500 0038 0001 0000 4006 0000 " ADDRESSES4 TCP,
		"8847 00064040 000c8140 4500 0028 0001 0000 4011 0000 " ADDRESSES4 UDP,
		"0026 4242 0300 0000 0000 8000 020000000001 ",
		"0026 aaaa 0300 0000 0800 4500 0038 0001 0000 4006 0000 " ADDRESSES4 TCP,
		"0026 fefe 0383 1b01 0014 ",
		"88cc 0207 0402 0000 0000 0104 ",
	};
	static uint8_t bytes[BYTES_MAX];
	uint64_t random = 88172645463325252ULL;

	for (size_t link = 0; link < sizeof(links) / sizeof(links[0]); link++)
		for (size_t i = 0; i < sizeof(networks) / sizeof(networks[0]); i++) {
			size_t size;

			memset(bytes, 0, sizeof(bytes));
			size = put(bytes, links[link]);
			size += put(bytes + size, networks[i]);
			packet_add(bytes, size);
			if (link % 3 == 0 && i % 2)
				packet_add(bytes, size + 60 + i * 3); /* padded */
			for (size_t cut = 1; link % 3 == 0 && i % 3 == 0 && cut < 5; cut++)
				packet_add(bytes, size * cut / 5 < 16 ? 16 : size * cut / 5);
			/* one byte of it is another */
			for (int times = 0; link % 3 == 0 && times < 2; times++) {
				random ^= random << 13;
				random ^= random >> 7;
				random ^= random << 17;
				bytes[12 + random % (size - 12)] ^= (uint8_t)(random >> 32);
				packet_add(bytes, size);
			}
		}
}

static void packets_read(void)
{
	glob_t found;

	if (glob(SOURCE_ROOT "/../shared/data/pcap/*.pcap", 0, NULL, &found))
		return;
	for (size_t i = 0; i < found.gl_pathc; i++)
		reference_read(found.gl_pathv[i], 120, packet_add);
	globfree(&found);
}

/* ------------------------------------------------------------------------------------------- programs */

static const struct bpf_insn leave[] = {
	{.code = BPF_JMP | BPF_EXIT},
};

static int program_load(const struct expression *expression, enum expression_context context, bool tagged,
	bool frags, int map)
{
	struct expression_target target = {
		.context = context,
		.buffer_bytes = BUFFER,
		.match = leave,
		.match_count = 1,
		.no_match = leave,
		.no_match_count = 1,
	};
	/* bpf_skb_vlan_push(): a tag beside the packet */
	const struct bpf_insn push[] = {
		{.code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = 9, .src_reg = 1},
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 2, .imm = 0x0081},
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 3, .imm = 0xa064},
		{.code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_skb_vlan_push},
		{.code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = 1, .src_reg = 9},
	};
	/* the packet stands in the map behind its two lengths, its tag and its interface */
	const struct bpf_insn buffer[] = {
		{.code = BPF_LD | BPF_DW | BPF_IMM,
			.dst_reg = 1,
			.src_reg = BPF_PSEUDO_MAP_VALUE,
			.imm = map},
		{0},
		{.code = BPF_LDX | BPF_MEM | BPF_W, .dst_reg = 2, .src_reg = 1, .off = 0},
		{.code = BPF_LDX | BPF_MEM | BPF_W, .dst_reg = 3, .src_reg = 1, .off = 4},
		{.code = BPF_LDX | BPF_MEM | BPF_W, .dst_reg = 4, .src_reg = 1, .off = 8},
		{.code = BPF_LDX | BPF_MEM | BPF_W, .dst_reg = 5, .src_reg = 1, .off = 12},
		{.code = BPF_ALU64 | BPF_ADD | BPF_K, .dst_reg = 1, .imm = 16},
	};
	static const enum bpf_prog_type types[] = {
		[EXPRESSION_SKB] = BPF_PROG_TYPE_SCHED_CLS,
		[EXPRESSION_SOCKET] = BPF_PROG_TYPE_SOCKET_FILTER,
		[EXPRESSION_XDP] = BPF_PROG_TYPE_XDP,
		[EXPRESSION_BUFFER] = BPF_PROG_TYPE_SCHED_CLS,
	};
	LIBBPF_OPTS(bpf_prog_load_opts, options, .log_buf = verifier_log, .log_size = LOG_BYTES,
		.log_level = 1, .prog_flags = frags ? BPF_F_XDP_HAS_FRAGS : 0);
	struct expression_code code;
	struct error error = {0};
	static struct bpf_insn all[EXPRESSION_CODE_MAX + 64];
	size_t head = 0;
	int fd, r;

	if (tagged) {
		memcpy(all, push, sizeof(push));
		head = sizeof(push) / sizeof(push[0]);
	} else if (context == EXPRESSION_BUFFER) {
		memcpy(all, buffer, sizeof(buffer));
		head = sizeof(buffer) / sizeof(buffer[0]);
	}
	r = expression_translate(expression, &target, &code, &error);
	if (r < 0) {
		print_error("%s\n", error.what);
		return r;
	}
	memcpy(all + head, code.instructions, code.count * sizeof(*all));
	fd = bpf_prog_load(types[context], "expression", "GPL", all, head + code.count, &options);
	if (fd < 0)
		print_error("not loaded (%s): %s\n", strerror(errno), verifier_log);
	expression_code_clear(&code);
	return fd;
}

#define REFUSED UINT32_MAX /* the kernel makes no such packet for a test run */

static uint32_t program_run(
	int program, enum expression_context context, const struct packet *packet, uint32_t linear)
{
	struct xdp_md xdp = {.data_end = linear};
	uint8_t in[BYTES_MAX + ETH_HLEN], out[BYTES_MAX + 64];
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = packet->bytes, .data_size_in = packet->size,
		.data_out = out, .data_size_out = sizeof(out), .repeat = 1);

	if (context == EXPRESSION_SOCKET) {
		/* Such a program runs behind the Ethernet header, so here is one more. */
		memset(in, 0xff, ETH_HLEN);
		memcpy(in + ETH_HLEN, packet->bytes, packet->size);
		options.data_in = in;
		options.data_size_in = packet->size + ETH_HLEN;
	}
	if (linear) {
		options.ctx_in = &xdp;
		options.ctx_size_in = sizeof(xdp);
	}
	if (bpf_prog_test_run_opts(program, &options) == 0)
		return options.retval;
	if (errno != EINVAL)
		fail_msg("test run of %u bytes: %s", packet->size, strerror(errno));
	return REFUSED;
}

static struct expression_packet as_packet(const struct packet *packet)
{
	return (struct expression_packet){
		.bytes = packet->bytes, .captured = packet->size, .length = packet->size, .ifindex = 1};
}

/* libpcap answers questions about what stands beside a packet with no. */
static bool asks_beside(const char *text)
{
	return strstr(text, "bound") || strstr(text, "ifindex");
}

static void compile(const char *text, struct expression *ret_expression)
{
	struct error error = {0};

	if (expression_compile(text, EXPRESSION_ETHERNET, SNAPLEN, ret_expression, &error) < 0)
		fail_msg("'%s': %s", text, error.what);
}

static void interpreted_test(void **state)
{
	size_t matches = 0;

	(void)state;
	for (size_t i = 0; i < EXPRESSIONS; i++) {
		struct expression expression;
		void *reference;

		if (asks_beside(expressions[i]) || strstr(expressions[i], "protochain"))
			continue;
		compile(expressions[i], &expression);
		reference = reference_open(expressions[i], SNAPLEN);
		assert_non_null(reference);
		for (size_t j = 0; j < packet_count; j++) {
			struct expression_packet packet = as_packet(&packets[j]);
			uint32_t wanted =
				reference_run(reference, packets[j].bytes, packets[j].size, packets[j].size);

			matches += wanted != 0;
			if (expression_run(&expression, &packet) != wanted)
				fail_msg("'%s', packet %zu: libpcap says %u", expressions[i], j, wanted);
		}
		reference_close(reference);
		expression_clear(&expression);
	}
	assert_true(matches > packet_count);
}

/* Every expression, every packet, in one context. */
static void context_test(enum expression_context context, uint32_t linear)
{
	for (size_t i = 0; i < EXPRESSIONS; i++) {
		struct expression expression;
		size_t ran = 0;
		int program;

		compile(expressions[i], &expression);
		program = program_load(&expression, context, false, linear, -1);
		if (program < 0)
			fail_msg("'%s' cannot be loaded", expressions[i]);
		for (size_t j = 0; j < packet_count; j++) {
			struct expression_packet packet = as_packet(&packets[j]);
			uint32_t wanted = expression_run(&expression, &packet), got;

			if (linear && packets[j].size <= linear)
				continue;
			got = program_run(program, context, &packets[j], linear);
			if (got == REFUSED)
				continue;
			ran++;
			if (got != wanted)
				fail_msg("'%s', packet %zu of %u bytes: %u, not %u", expressions[i], j,
					packets[j].size, got, wanted);
		}
		assert_true(ran > (linear ? 0 : packet_count * 3 / 4));
		close(program);
		expression_clear(&expression);
	}
}

static void skb_test(void **state)
{
	(void)state;
	context_test(EXPRESSION_SKB, 0);
}

static void socket_test(void **state)
{
	(void)state;
	context_test(EXPRESSION_SOCKET, 0);
}

static void xdp_test(void **state)
{
	(void)state;
	context_test(EXPRESSION_XDP, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		{"an expression in user space says what libpcap says", interpreted_test, NULL, NULL, NULL},
		{"translated for tc it says the same of every packet", skb_test, NULL, NULL, NULL},
		{"translated for sockets it says the same of every packet", socket_test, NULL, NULL, NULL},
		{"translated for XDP it says the same of every packet", xdp_test, NULL, NULL, NULL},
	};

	packets_generate();
	packets_read();
	printf("# %zu expressions, %zu packets\n", EXPRESSIONS, packet_count);
	return cmocka_run_group_tests_name("expression", tests, NULL, NULL);
}

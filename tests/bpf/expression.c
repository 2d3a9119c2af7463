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

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bpf/expression_pcap.h"
#include "compile/classic.h"
#include "compile/expression.h"

/* NOLINTBEGIN(misc-redundant-expression): parts of an opcode that are 0 are written all the same. */

#define SNAPLEN     262144
#define PACKETS_MAX 1200
#define BYTES_MAX   6000
#define FRAGMENTED  5000 /* bytes that a page does not hold */
#define BUFFER      256  /* of EXPRESSION_BUFFER */

struct packet {
	uint8_t bytes[BYTES_MAX];
	uint32_t size;
};

static struct packet packets[PACKETS_MAX];
static size_t packet_count;

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
		reference_read(found.gl_pathv[i], 40, packet_add);
	globfree(&found);
}

/* ------------------------------------------------------------------------------------------- programs */

#define RANDOMS            200
#define RANDOM_FILTERS_MAX 48

static uint32_t draw(uint64_t *random, uint32_t below)
{
	*random ^= *random << 13;
	*random ^= *random >> 7;
	*random ^= *random << 17;
	return (uint32_t)(*random >> 33) % below;
}

/* Any classic program, with offsets that packets have mostly. */
static size_t random_program(struct sock_filter filters[RANDOM_FILTERS_MAX], unsigned int seed)
{
	static const uint16_t loads[] = {
		BPF_ABS, BPF_ABS, BPF_ABS, BPF_IND, BPF_IND, BPF_IMM, BPF_MEM, BPF_LEN};
	static const uint16_t sizes[] = {BPF_B, BPF_H, BPF_W};
	static const uint16_t operations[] = {BPF_ADD, BPF_SUB, BPF_MUL, BPF_DIV, BPF_MOD, BPF_AND, BPF_OR,
		BPF_XOR, BPF_LSH, BPF_RSH, BPF_NEG, BPF_AND, BPF_AND};
	static const uint16_t jumps[] = {BPF_JEQ, BPF_JGT, BPF_JGE, BPF_JSET, BPF_JEQ, BPF_JA};
	static const uint32_t constants[] = {0, 1, 2, 4, 6, 8, 14, 17, 0x1f, 0xff, 0x800, 0x86dd, 0x8100, 443,
		0x1fff, 0xffff, 0x10000, 0x0a000001, 0x80000000, 0xffffffff};
	uint64_t random = 0x9e3779b97f4a7c15ULL * seed;
	size_t count = 6 + draw(&random, RANDOM_FILTERS_MAX - 6);

	for (size_t i = 0; i < count; i++) {
		uint32_t left = (uint32_t)(count - i - 2), what = draw(&random, 16);
		uint32_t any = constants[draw(&random, sizeof(constants) / sizeof(constants[0]))];
		uint16_t source = draw(&random, 3) ? BPF_K : BPF_X;
		uint16_t mode = loads[draw(&random, sizeof(loads) / sizeof(loads[0]))];
		struct sock_filter filter = {.k = any};

		if (i + 2 >= count) {
			filter = (struct sock_filter){
				.code = BPF_RET | BPF_K, .k = i + 1 < count ? SNAPLEN : 0};
		} else if (what < 5) {
			filter.code = (uint16_t)(BPF_LD | mode);
			if (mode == BPF_ABS || mode == BPF_IND) {
				filter.code |= sizes[draw(&random, 3)];
				filter.k = draw(&random, draw(&random, 20) ? 60 : 70000);
			} else if (mode == BPF_MEM) {
				filter.k = draw(&random, BPF_MEMWORDS);
			}
		} else if (what < 7) {
			filter.code = draw(&random, 3) ? BPF_LDX | BPF_MSH | BPF_B : BPF_LDX | BPF_IMM;
			filter.k = draw(&random, 40);
		} else if (what < 8) {
			filter.code = draw(&random, 2) ? BPF_ST : BPF_STX;
			filter.k = draw(&random, BPF_MEMWORDS);
		} else if (what < 11) {
			uint16_t operation =
				operations[draw(&random, sizeof(operations) / sizeof(operations[0]))];

			filter.code = (uint16_t)(BPF_ALU | operation | (operation == BPF_NEG ? 0 : source));
			if (operation == BPF_LSH || operation == BPF_RSH)
				filter.k = draw(&random, 32);
			else if (!filter.k)
				filter.k = 1;
		} else if (what < 12) {
			filter.code = BPF_MISC | (draw(&random, 2) ? BPF_TAX : BPF_TXA);
		} else if (left) {
			uint16_t jump = jumps[draw(&random, sizeof(jumps) / sizeof(jumps[0]))];

			filter.code = (uint16_t)(BPF_JMP | jump | (jump == BPF_JA ? 0 : source));
			filter.jt = (uint8_t)draw(&random, left < 8 ? left : 8);
			filter.jf = (uint8_t)draw(&random, left < 8 ? left : 8);
			if (jump == BPF_JA)
				filter.k = draw(&random, left < 4 ? left : 4);
		} else {
			filter.code = BPF_RET | BPF_A;
		}
		filters[i] = filter;
	}
	return count;
}

static const struct bpf_insn leave[] = {
	{.code = BPF_JMP | BPF_EXIT},
};

#define TAG       0xa064 /* VLAN 100, priority 5 */
#define INTERFACE 7      /* of EXPRESSION_BUFFER, which is told */

/* How a program gets its packet. */
struct way {
	enum expression_context context;
	uint32_t linear;       /* XDP: bytes that are contiguous; 0: all */
	bool tagged;           /* with a tag beside the packet */
	struct buffer *buffer; /* EXPRESSION_BUFFER */
	int map;               /* that holds it */
	enum expression_direction direction;
};

/* A packet and what is told of it. */
struct buffer {
	uint32_t captured, length, tag, interface;
	uint8_t bytes[BUFFER];
};

/* The program's descriptor, or -1 and what the verifier said. */
static int code_load(enum bpf_prog_type type, const struct bpf_insn *code, size_t count, uint32_t flags)
{
	static char said[1U << 20];
	LIBBPF_OPTS(bpf_prog_load_opts, options, .prog_flags = flags);
	int program = bpf_prog_load(type, "expression", "GPL", code, count, &options);

	if (program >= 0)
		return program;
	options.log_buf = said;
	options.log_size = sizeof(said);
	options.log_level = 1;
	program = bpf_prog_load(type, "expression", "GPL", code, count, &options);
	if (program < 0)
		print_error("not loaded (%s): %s\n", strerror(errno),
			strlen(said) > 700 ? said + strlen(said) - 700 : said);
	return program;
}

static int program_load(const struct expression *expression, const struct way *way)
{
	const struct expression_target target = {
		.context = way->context,
		.direction = way->direction,
		.buffer_bytes = BUFFER,
		.match = leave,
		.match_count = 1,
		.no_match = leave,
		.no_match_count = 1,
	};
	/* bpf_skb_vlan_push(): a tag beside the packet */
	const struct bpf_insn push[] = {
		{.code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = 9, .src_reg = 1},
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 2, .imm = htons(ETH_P_8021Q)},
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 3, .imm = TAG},
		{.code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_skb_vlan_push},
		{.code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = 1, .src_reg = 9},
	};
	const struct bpf_insn buffer[] = {
		{.code = BPF_LD | BPF_DW | BPF_IMM,
			.dst_reg = 1,
			.src_reg = BPF_PSEUDO_MAP_VALUE,
			.imm = way->map},
		{0},
		{.code = BPF_LDX | BPF_MEM | BPF_W,
			.dst_reg = 2,
			.src_reg = 1,
			.off = offsetof(struct buffer, captured)},
		{.code = BPF_LDX | BPF_MEM | BPF_W,
			.dst_reg = 3,
			.src_reg = 1,
			.off = offsetof(struct buffer, length)},
		{.code = BPF_LDX | BPF_MEM | BPF_W,
			.dst_reg = 4,
			.src_reg = 1,
			.off = offsetof(struct buffer, tag)},
		{.code = BPF_LDX | BPF_MEM | BPF_W,
			.dst_reg = 5,
			.src_reg = 1,
			.off = offsetof(struct buffer, interface)},
		{.code = BPF_ALU64 | BPF_ADD | BPF_K, .dst_reg = 1, .imm = offsetof(struct buffer, bytes)},
	};
	static const enum bpf_prog_type types[] = {
		[EXPRESSION_SKB] = BPF_PROG_TYPE_SCHED_CLS,
		[EXPRESSION_SOCKET] = BPF_PROG_TYPE_SOCKET_FILTER,
		[EXPRESSION_XDP] = BPF_PROG_TYPE_XDP,
		[EXPRESSION_BUFFER] = BPF_PROG_TYPE_SCHED_CLS,
	};
	static struct bpf_insn all[EXPRESSION_CODE_MAX + 64];
	struct expression_code code;
	struct error error = {0};
	size_t head = 0;
	int program, r;

	if (way->context == EXPRESSION_BUFFER) {
		memcpy(all, buffer, sizeof(buffer));
		head = sizeof(buffer) / sizeof(buffer[0]);
	} else if (way->tagged) {
		memcpy(all, push, sizeof(push));
		head = sizeof(push) / sizeof(push[0]);
	}
	r = expression_translate(expression, &target, &code, &error);
	if (r < 0) {
		print_error("%s\n", error.what);
		return r;
	}
	memcpy(all + head, code.instructions, code.count * sizeof(*all));
	program =
		code_load(types[way->context], all, head + code.count, way->linear ? BPF_F_XDP_HAS_FRAGS : 0);
	expression_code_clear(&code);
	return program;
}

#define REFUSED UINT32_MAX /* the kernel makes no such packet for a test run */

/* The packet as this way shows it. */
static struct expression_packet as_packet(const struct packet *packet, const struct way *way)
{
	bool buffer = way->context == EXPRESSION_BUFFER;

	return (struct expression_packet){
		.bytes = packet->bytes,
		.captured = buffer && packet->size > BUFFER ? BUFFER : packet->size,
		.length = packet->size,
		.tagged = way->tagged,
		.tag = TAG,
		.direction = way->direction,
		.ifindex = buffer ? INTERFACE : 1,
	};
}

static uint32_t program_run(int program, const struct way *way, const struct packet *packet)
{
	struct xdp_md xdp = {.data_end = way->linear};
	static uint8_t in[BYTES_MAX + ETH_HLEN], out[BYTES_MAX + 64];
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = packet->bytes, .data_size_in = packet->size,
		.data_out = out, .data_size_out = sizeof(out), .repeat = 1);

	if (way->context == EXPRESSION_SOCKET) {
		/* Such a program runs behind the Ethernet header, so here is one more. */
		memset(in, 0xff, ETH_HLEN);
		memcpy(in + ETH_HLEN, packet->bytes, packet->size);
		options.data_in = in;
		options.data_size_in = packet->size + ETH_HLEN;
	}
	if (way->context == EXPRESSION_BUFFER) {
		way->buffer->captured = packet->size; /* more than there is room for, too */
		way->buffer->length = packet->size;
		way->buffer->tag = way->tagged ? 1U << 16 | TAG : 0;
		way->buffer->interface = INTERFACE;
		memset(way->buffer->bytes, 0, BUFFER);
		memcpy(way->buffer->bytes, packet->bytes, packet->size < BUFFER ? packet->size : BUFFER);
		memset(in, 0xff, 64);
		options.data_in = in;
		options.data_size_in = 64;
	}
	if (way->linear) {
		options.ctx_in = &xdp;
		options.ctx_size_in = sizeof(xdp);
	}
	if (bpf_prog_test_run_opts(program, &options) == 0)
		return options.retval;
	if (errno != EINVAL)
		fail_msg("test run of %u bytes: %s", packet->size, strerror(errno));
	return REFUSED;
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
	const struct way way = {.context = EXPRESSION_SKB};
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
			struct expression_packet packet = as_packet(&packets[j], &way);
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

/* One expression and every packet, or every so many. */
static void expression_check(const struct expression *expression, const char *text, const struct way *way,
	size_t first, size_t step)
{
	int program = program_load(expression, way);
	size_t ran = 0;

	if (program < 0)
		fail_msg("'%s' cannot be loaded", text);
	for (size_t i = first; i < packet_count; i += step) {
		struct expression_packet packet = as_packet(&packets[i], way);
		uint32_t wanted = expression_run(expression, &packet), got;

		if (packets[i].size <= way->linear)
			continue;
		got = program_run(program, way, &packets[i]);
		if (got == REFUSED)
			continue;
		ran++;
		if (got != wanted)
			fail_msg("'%s', packet %zu of %u bytes: %u, not %u", text, i, packets[i].size, got,
				wanted);
	}
	assert_true(ran > packet_count / step / 2);
	close(program);
}

/* Every expression, and then random programs. */
static void way_check(const struct way *way)
{
	for (size_t i = 0; i < EXPRESSIONS; i++) {
		struct expression expression;

		compile(expressions[i], &expression);
		expression_check(&expression, expressions[i], way, i % 2, 2);
		expression_clear(&expression);
	}
	for (unsigned int i = 0; i < RANDOMS; i++) {
		struct sock_filter filters[RANDOM_FILTERS_MAX];
		struct expression expression = {.plain = {.filters = filters}};
		char text[32];

		expression.plain.count = random_program(filters, i + 1);
		snprintf(text, sizeof(text), "random program %u", i + 1);
		expression_check(&expression, text, way, i % 5, 5);
	}
}

static void skb_test(void **state)
{
	(void)state;
	way_check(&(const struct way){.context = EXPRESSION_SKB});
}

static void outgoing_test(void **state)
{
	(void)state;
	way_check(
		&(const struct way){.context = EXPRESSION_SKB, .tagged = true, .direction = EXPRESSION_OUT});
}

static void socket_test(void **state)
{
	(void)state;
	way_check(&(const struct way){.context = EXPRESSION_SOCKET});
}

static void xdp_test(void **state)
{
	(void)state;
	way_check(&(const struct way){.context = EXPRESSION_XDP});
}

static void xdp_fragments_test(void **state)
{
	static const uint32_t linear[] = {14, 35};
	/* what is contiguous of its packet */
	static const struct bpf_insn contiguous[] = {
		{.code = BPF_LDX | BPF_MEM | BPF_W,
			.dst_reg = 0,
			.src_reg = 1,
			.off = offsetof(struct xdp_md, data_end)},
		{.code = BPF_LDX | BPF_MEM | BPF_W,
			.dst_reg = 2,
			.src_reg = 1,
			.off = offsetof(struct xdp_md, data)},
		{.code = BPF_ALU64 | BPF_SUB | BPF_X, .dst_reg = 0, .src_reg = 2},
		{.code = BPF_JMP | BPF_EXIT},
	};
	struct way way = {.context = EXPRESSION_XDP, .linear = 14};
	int program = code_load(BPF_PROG_TYPE_XDP, contiguous, 4, BPF_F_XDP_HAS_FRAGS);
	uint32_t bytes;

	(void)state;
	assert_true(program >= 0);
	bytes = program_run(program, &way, &packets[0]);
	close(program);
	if (bytes != way.linear) {
		print_message("# this kernel makes no XDP packets in fragments for test runs\n");
		skip();
	}
	for (size_t i = 0; i < sizeof(linear) / sizeof(linear[0]); i++) {
		way.linear = linear[i];
		way_check(&way);
	}
}

/* What a program of fragments_test leaves behind. */
struct left {
	uint64_t result, linear;
};

static int left_program(const struct expression *expression, int map)
{
	/* r0 = 0: TC_ACT_OK */
	const struct bpf_insn keep[] = {
		{.code = BPF_LD | BPF_DW | BPF_IMM,
			.dst_reg = 1,
			.src_reg = BPF_PSEUDO_MAP_VALUE,
			.imm = map},
		{0},
		{.code = BPF_STX | BPF_MEM | BPF_DW,
			.dst_reg = 1,
			.src_reg = 0,
			.off = offsetof(struct left, result)},
		{.code = BPF_LDX | BPF_MEM | BPF_W,
			.dst_reg = 2,
			.src_reg = 6,
			.off = offsetof(struct __sk_buff, data_end)},
		{.code = BPF_LDX | BPF_MEM | BPF_W,
			.dst_reg = 3,
			.src_reg = 6,
			.off = offsetof(struct __sk_buff, data)},
		{.code = BPF_ALU64 | BPF_SUB | BPF_X, .dst_reg = 2, .src_reg = 3},
		{.code = BPF_STX | BPF_MEM | BPF_DW,
			.dst_reg = 1,
			.src_reg = 2,
			.off = offsetof(struct left, linear)},
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0},
		{.code = BPF_JMP | BPF_EXIT},
	};
	const struct expression_target target = {
		.context = EXPRESSION_SKB,
		.direction = EXPRESSION_OUT,
		.match = keep,
		.match_count = sizeof(keep) / sizeof(keep[0]),
		.no_match = keep,
		.no_match_count = sizeof(keep) / sizeof(keep[0]),
	};
	struct expression_code code;
	struct error error = {0};
	int program;

	if (expression_translate(expression, &target, &code, &error) < 0)
		fail_msg("%s", error.what);
	program = code_load(BPF_PROG_TYPE_SCHED_CLS, code.instructions, code.count, 0);
	assert_true(program >= 0);
	expression_code_clear(&code);
	return program;
}

/* Sends packets in fragments, their Ethernet header in front, through the programs: a packet socket makes
 * such packets when it is told that so much is header. */
static void fragments_run(unsigned int interface, int map, const volatile struct left *left)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)interface, .attach_point = BPF_TC_EGRESS);
	struct sockaddr_ll address = {
		.sll_family = AF_PACKET, .sll_ifindex = (int)interface, .sll_halen = ETH_ALEN};
	int on = 1, sender = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	static struct packet packet;

	assert_true(sender >= 0);
	assert_int_equal(setsockopt(sender, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof(on)), 0);
	assert_int_equal(bpf_tc_hook_create(&hook), 0);
	for (size_t i = 0; i < EXPRESSIONS; i++) {
		LIBBPF_OPTS(
			bpf_tc_opts, options, .handle = 1, .priority = 1, .flags = i ? BPF_TC_F_REPLACE : 0);
		struct expression expression;

		compile(expressions[i], &expression);
		options.prog_fd = left_program(&expression, map);
		assert_int_equal(bpf_tc_attach(&hook, &options), 0);
		close(options.prog_fd);
		for (size_t j = i % 4; j < packet_count; j += 4) {
			struct virtio_net_hdr header = {.hdr_len = ETH_HLEN};
			struct iovec parts[] = {{&header, sizeof(header)}, {packet.bytes, FRAGMENTED}};
			struct msghdr message = {.msg_name = &address,
				.msg_namelen = sizeof(address),
				.msg_iov = parts,
				.msg_iovlen = 2};
			struct expression_packet known = {.bytes = packet.bytes,
				.captured = FRAGMENTED,
				.length = FRAGMENTED,
				.direction = EXPRESSION_OUT,
				.ifindex = interface};

			memset(packet.bytes, 0, sizeof(packet.bytes));
			memcpy(packet.bytes, packets[j].bytes, packets[j].size);
			if (sendmsg(sender, &message, 0) < 0)
				fail_msg("send: %s", strerror(errno));
			assert_true(left->linear < 64);
			if (left->result != expression_run(&expression, &known))
				fail_msg("'%s', packet %zu: %u", expressions[i], j,
					(unsigned int)left->result);
		}
		expression_clear(&expression);
	}
	close(sender);
}

static void fragments_test(void **state)
{
	int map, home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = BPF_F_MMAPABLE);
	struct left *left;

	(void)state;
	map = bpf_map_create(BPF_MAP_TYPE_ARRAY, "left", 4, sizeof(*left), 1, &options);
	assert_true(map >= 0 && home >= 0);
	left = mmap(NULL, sizeof(*left), PROT_READ | PROT_WRITE, MAP_SHARED, map, 0);
	assert_true(left != MAP_FAILED);
	assert_int_equal(unshare(CLONE_NEWNET), 0); /* goes with its last descriptor */
	/* no packets but ours */
	assert_int_equal(system("echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6 && "
				"ip link add e0 mtu 9000 type veth peer name e1 mtu 9000 && "
				"ip link set e0 up && ip link set e1 up"),
		0);
	fragments_run(if_nametoindex("e0"), map, left);
	assert_int_equal(setns(home, CLONE_NEWNET), 0);
	munmap(left, sizeof(*left));
	close(map);
	close(home);
}

static void buffer_test(void **state)
{
	struct way way = {.context = EXPRESSION_BUFFER, .direction = EXPRESSION_OUT};
	LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = BPF_F_MMAPABLE);

	(void)state;
	way.map = bpf_map_create(BPF_MAP_TYPE_ARRAY, "packet", 4, sizeof(struct buffer), 1, &options);
	assert_true(way.map >= 0);
	way.buffer = mmap(NULL, sizeof(struct buffer), PROT_READ | PROT_WRITE, MAP_SHARED, way.map, 0);
	assert_true(way.buffer != MAP_FAILED);
	way_check(&way);
	way.tagged = true;
	way_check(&way);
	munmap(way.buffer, sizeof(struct buffer));
	close(way.map);
}

/* libpcap writes other code for a capture of its own than for a file: what stands beside the packet is asked
 * for.  So does weir, without such a capture. */
static void live_test(void **state)
{
	(void)state;
	for (size_t i = 0; i < EXPRESSIONS; i++) {
		struct expression expression, live = {0};

		compile(expressions[i], &expression);
		if (reference_live("lo", expressions[i], SNAPLEN, &live.plain) < 0) {
			print_message("# no capture at lo\n");
			skip();
		}
		for (size_t j = 0; j < packet_count; j++)
			for (unsigned int k = 0; k < 4; k++) {
				struct way way = {
					.tagged = k & 1, .direction = k & 2 ? EXPRESSION_OUT : EXPRESSION_IN};
				struct expression_packet packet = as_packet(&packets[j], &way);
				uint32_t got = expression_run(&expression, &packet);
				uint32_t wanted = expression_run(&live, &packet);

				if (got != wanted)
					fail_msg("'%s', packet %zu%s: %u, not %u", expressions[i], j,
						way.tagged ? " with a tag beside it" : "", got, wanted);
			}
		expression_clear(&expression);
		expression_clear(&live);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		{"an expression in user space says what libpcap says", interpreted_test, NULL, NULL, NULL},
		{"with a VLAN tag beside the packet it says what a live libpcap says", live_test, NULL, NULL,
			NULL},
		{"translated for tc it says the same of every packet", skb_test, NULL, NULL, NULL},
		{"translated for tc it says the same of outgoing packets with a tag beside them",
			outgoing_test, NULL, NULL, NULL},
		{"translated for tc it says the same of packets in fragments", fragments_test, NULL, NULL,
			NULL},
		{"translated for sockets it says the same of every packet", socket_test, NULL, NULL, NULL},
		{"translated for XDP it says the same of every packet", xdp_test, NULL, NULL, NULL},
		{"translated for XDP it says the same of packets in fragments", xdp_fragments_test, NULL,
			NULL, NULL},
		{"translated for packets in memory it says the same of every packet", buffer_test, NULL, NULL,
			NULL},
	};

	packets_generate();
	packets_read();
	printf("# %zu expressions, %d random programs, %zu packets\n", EXPRESSIONS, RANDOMS, packet_count);
	return cmocka_run_group_tests_name("expression", tests, NULL, NULL);
}
/* NOLINTEND(misc-redundant-expression) */

/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Expressions as tcpdump knows them (pcap-filter(7)), from text to instructions that the kernel runs.
 *
 *     text ──expression_compile()──► classic BPF ──expression_translate()──► eBPF
 *              (libpcap)
 *
 * An expression means here what it means to a live tcpdump.  The one difficulty is the outer VLAN tag, which
 * Linux keeps beside the packet: what does not say `vlan` does not see that tag (`tcp port 443` fits tagged
 * packets as well), and the first `vlan` of an expression means the tag beside the packet where there is one,
 * the one in its data otherwise.  libpcap writes such code only for a live capture of its own, so an
 * expression has two programs: for packets with a tag beside them, and for all others.  `inbound`, `outbound`
 * and `ifindex N` work too.
 *
 * Names of hosts are those of /etc/hosts: compiling never waits for a name server.  (The first
 * expression_compile() of a process sets glibc's look-up of hosts to "files" for the whole process.)
 * `protochain` follows eight headers; a packet with more does not fit, whatever else the expression says.
 */
#ifndef WEIR_COMPILE_EXPRESSION_H
#define WEIR_COMPILE_EXPRESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "basic/error.h"

struct bpf_insn; /* <linux/bpf.h>; libpcap's pcap.h has another of this name, so neither is included here */
struct sock_filter; /* <linux/filter.h> */

#define EXPRESSION_TEXT_MAX  4096  /* longest expression, with the NUL */
#define EXPRESSION_CODE_MAX  32000 /* instructions of a translation without the caller's tails */
#define EXPRESSION_STACK     120   /* bytes below r10 that a translation uses */
#define EXPRESSION_CHAIN_MAX 8     /* headers that `protochain` follows */

enum expression_link {
	EXPRESSION_ETHERNET, /* packets begin with an Ethernet header */
	EXPRESSION_RAW,      /* packets begin with their IPv4 or IPv6 header */
};

struct expression_program {
	struct sock_filter *filters;
	size_t count;
};

struct expression {
	struct expression_program plain;
	/* For packets with a VLAN tag beside them; count 0: the plain one does. */
	struct expression_program tagged;
};

/*
 * Compiles `text`; an empty one fits every packet.  A packet that fits has the result `snaplen` (1..2^31-1).
 * 0; -EINVAL and libpcap's message, with a caret where libpcap says what it did not like or at the word from
 * which on no beginning of the text can be compiled (column 0: it does not say); -ENOMEM.  ret_expression is
 * untouched on failure.
 */
int expression_compile(const char *text, enum expression_link link, uint32_t snaplen,
	struct expression *ret_expression, struct error *error);
void expression_clear(struct expression *expression);

enum expression_context {
	/* tc (TCX, cls_bpf, act_bpf).  Entry: r1 = struct __sk_buff *. */
	EXPRESSION_SKB,
	/* A socket filter (SO_ATTACH_BPF).  Entry: r1 = struct __sk_buff *.  A packet that is too short for a
	 * load leaves the program with 0 at once, as the kernel's LD_ABS does: the no-match tail must do
	 * that, too. */
	EXPRESSION_SOCKET,
	/* XDP.  Entry: r1 = struct xdp_md *.  Works with and without fragments (BPF_F_XDP_HAS_FRAGS).  There
	 * is no tag beside the packet. */
	EXPRESSION_XDP,
	/* Any program type.  Entry: r1 = memory of buffer_bytes bytes that the verifier knows to be readable
	 * (a map value), r2 = bytes of the packet in it, r3 = length of the packet, r4 = VLAN tag beside the
	 * packet (0x10000 | TCI; 0: none), r5 = interface index.  Of these all but r1 may be any number: r2
	 * is cut to buffer_bytes.  r6 is the caller's. */
	EXPRESSION_BUFFER,
};

enum expression_direction { EXPRESSION_IN, EXPRESSION_OUT };

/*
 * Where a translation goes.  Its code is one block without relocations: entry, tests, match tail, no-match
 * tail; a caller may put instructions of his own before it.  At both tails r6 is the context (what r1 was at
 * entry; in EXPRESSION_BUFFER what r6 was), r0 is the result (snaplen; 0 in the no-match tail), r9 is what it
 * was at entry, all other registers and the EXPRESSION_STACK bytes below r10 are used up.  A match tail that
 * does not exit goes on into the no-match tail: so a tail call that finds nothing ends there (with r0 = 0).
 * The no-match tail has to exit.
 */
struct expression_target {
	enum expression_context context;
	enum expression_direction direction; /* of the packets: for `inbound` and `outbound` */
	uint32_t buffer_bytes;               /* EXPRESSION_BUFFER: 1..65535 */
	const struct bpf_insn *match, *no_match;
	size_t match_count, no_match_count;
};

struct expression_code {
	struct bpf_insn *instructions;
	size_t count;
};

/* 0; -E2BIG: more than EXPRESSION_CODE_MAX instructions or four `protochain`; -EINVAL: not a program that
 * libpcap writes (a jump out of it, an unknown instruction); -ENOMEM.  ret_code is untouched on failure. */
int expression_translate(const struct expression *expression, const struct expression_target *target,
	struct expression_code *ret_code, struct error *error);
void expression_code_clear(struct expression_code *code);

/* A packet in memory, as the kernel has it. */
struct expression_packet {
	const uint8_t *bytes;
	uint32_t captured; /* bytes that are here */
	uint32_t length;   /* of the packet */
	bool tagged;       /* a VLAN tag beside the packet */
	uint16_t tag;      /* its TCI, host byte order */
	enum expression_direction direction;
	uint32_t ifindex;
};

/* The same in user space: the result, 0 for no match. */
uint32_t expression_run(const struct expression *expression, const struct expression_packet *packet);

#endif

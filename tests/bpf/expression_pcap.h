/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* libpcap as the reference for expressions.  Apart, because its struct bpf_insn is not the kernel's. */
#ifndef WEIR_TESTS_BPF_EXPRESSION_PCAP_H
#define WEIR_TESTS_BPF_EXPRESSION_PCAP_H

#include <stddef.h>
#include <stdint.h>

#include "compile/expression.h"

/* Compiled for packets of a file; NULL: not. */
void *reference_open(const char *text, uint32_t snaplen);
uint32_t reference_run(const void *reference, const uint8_t *bytes, uint32_t captured, uint32_t length);
void reference_close(void *reference);

/* As a live capture at `interface` would be compiled: 0, or -1 where there can be none. */
int reference_live(
	const char *interface, const char *text, uint32_t snaplen, struct expression_program *ret_program);

/* At most `most` packets of a pcap file with Ethernet headers, spread over it. */
void reference_read(const char *path, size_t most, void (*add)(const uint8_t *bytes, size_t size));

#endif

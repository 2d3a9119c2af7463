/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Symbols: which function of the kernel an address lies in, as /proc/kallsyms told when it was read.
 */
#ifndef WEIR_ENGINE_SYMBOL_H
#define WEIR_ENGINE_SYMBOL_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct symbols;

/* Of a file in the format of /proc/kallsyms, which is closed when it has been read.  A file that hides
 * addresses gives symbols that name nothing; whether it does is settled when it is opened.  0 or a negative
 * errno. */
int symbols_open(FILE *file, struct symbols **ret_symbols);
/* Begins to read, unless that was done.  It takes a tenth of a second, so a thread does it, which whoever
 * asks for a place first waits for: begin when it is likely that somebody will.  NULL is allowed. */
void symbols_read(struct symbols *symbols);
void symbols_free(struct symbols *symbols); /* NULL is allowed */

/* Where a call returned to: "udp_queue_rcv_one_skb+0x1f5", "nft_do_chain+0x2a [nf_tables]", or "unknown".
 * Returns `buffer`. */
char *symbols_place(struct symbols *symbols, uint64_t address, char *buffer, size_t size);

#endif

/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Rules, as plain data: who may use sockets for what.
 *
 *     rule   = (deny | allow) CALL [ip|ip6] [SOCKET] {[not] by OWNER | to ENDPOINT} ["comment"]
 *     CALL   = create | bind | connect | send
 *     SOCKET = tcp | udp | stream | dgram | icmp | icmp6 | sctp | proto N|NAME | raw [proto N|NAME]
 *
 * OWNER and ENDPOINT are those of matches (match.h).  `to` is the address that is bound to, connected to or
 * sent to; a socket that is created has none.  The first rule that fits a call decides about it; a call that
 * none fits is allowed. A rule that rule_print() wrote parses to the same rule.
 *
 * What the kernel asks about: `create` IPv4 and IPv6 sockets of every kind; `bind` TCP and UDP; `connect`
 * TCP, UDP and ping sockets; `send` datagrams that have an address of their own, and the connect() of a UDP
 * socket, since nobody is asked again when a connected one sends.
 */
#ifndef WEIR_MODEL_RULE_H
#define WEIR_MODEL_RULE_H

#include "model/match.h"

#define RULES_MAX        1024 /* of one agent */
#define RULE_TEXT_MAX    1024 /* longest rule, with the NUL */
#define RULE_COMMENT_MAX 128

enum rule_verdict { RULE_DENY, RULE_ALLOW };
enum rule_call { RULE_CREATE, RULE_BIND, RULE_CONNECT, RULE_SEND };

struct rule {
	enum rule_verdict verdict;
	enum rule_call call;
	uint8_t family; /* 4, 6; 0: either */
	uint8_t type;   /* SOCK_STREAM, ...; 0: any */
	int protocol;   /* IP protocol number; -1: any */
	bool owner_not; /* everybody else */
	struct owner_match owner;
	struct endpoint to;
	char comment[RULE_COMMENT_MAX]; /* without the quotes; empty: none */
};

/* "deny", "allow"; "create", "bind", "connect", "send"; NULL-terminated, in the order of the enums. */
extern const char *const rule_verdicts[];
extern const char *const rule_calls[];

/* Reads all of `text`.  0 or -EINVAL with `error` saying what was expected and where; ret_rule untouched on
 * failure. */
int rule_parse(const char *text, struct rule *ret_rule, struct error *error);
/* 0 or -ENOSPC. */
int rule_print(const struct rule *rule, char *buffer, size_t size);
/* Does every call that fits `narrow` fit `wide` too?  False where that takes more than a look at the words.
 */
bool rule_covers(const struct rule *wide, const struct rule *narrow);

#endif

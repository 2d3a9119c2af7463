/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Rules, as plain data: what happens to packets, and who may use sockets for what.
 *
 * On packets:
 *
 *     rule    = VERB [in|out] ["on" interface] [ip|ip6] [protocol] {match} {option} ["comment"]
 *     VERB    = accept | drop | reject | limit | guarantee | assign | count | log | mark N[/MASK]
 *             | redirect to IF | mirror to IF
 *             | rewrite dscp D | rewrite source mac MAC | rewrite destination mac MAC
 *     match   = those of match.h, and:
 *               from|to (@SET | ...) [port (PORTS | @SET)] | host @SET | port @SET
 *             | flags LIST[/LIST]          these set, and of the second list no others; LIST: none, too
 *             | icmp TYPE[/CODE] | icmp6 TYPE[/CODE]
 *             | state new,established,related,invalid
 *             | dscp D | vlan N | untagged | fragment [first|later] | mark N[/MASK]
 *             | [not] by OWNER | [not] matching "PCAP EXPRESSION"
 *               D = 0..63 | cs0..cs7 | af11..af43 | ef | va | le
 *     option  = log | with reset|port-unreachable|host-unreachable|prohibited        (reject)
 *             | to RATE | burst SIZE | per source[/BITS[,BITS6]] | per destination[...]       (limit)
 *               RATE = 100/s, 5/m, 2/h, 1/d packets | 10mbit, 2gbit | N connections
 *               SIZE = packets | bytes (64kb); without: the packets of one s, m, …; a tenth of a second, but
 *                      at least 128kib
 *             | RATE                        (guarantee; in bits)
 *             | to CLASS                    (assign; a class that was declared, shape.h)
 *             | those of shape.h: guarantee RATE, ceiling RATE, weight N, …     (limit, guarantee)
 *             | for DURATION                the rule ends by itself
 *
 * A limit in bits for all that fits is a class, as are guarantee and assign (rule_is_shape()): it may be
 * shaped, and has what shape.h says of rates.  With `per` or `log` it is a limit as one of packets: each
 * packet is asked about.
 *
 * The first rule that decides (accept, drop, reject, redirect; limit for what is over) ends the story; after
 * the others the next one that fits has its say.  Without direction a rule is for both.
 *
 * Classes are declared by sentences of their own, which fit nothing (shape.h):
 *
 *     rule    = shape NAME [in|out] under (INTERFACE | CLASS) {OPTION} ["comment"]
 *
 * So are services (service.h), what forwards and what steers (forward.h):
 *
 *     rule    = service NAME [protocol] ADDRESS [port PORTS] to BACKEND {, BACKEND} {OPTION} ["comment"]
 *             | forward from IF … | forward among IF, IF … | steer in on IF … to cpus LIST …
 *
 * On sockets:
 *
 *     rule   = (deny | allow) CALL [ip|ip6] [SOCKET] {[not] by OWNER | to ENDPOINT} ["comment"]
 *     CALL   = create | bind | connect | send
 *     SOCKET = tcp | udp | stream | dgram | icmp | icmp6 | sctp | proto N|NAME | raw [proto N|NAME]
 *
 * OWNER and ENDPOINT are those of matches (match.h), without sets.  `to` is the address that is bound to,
 * connected to or sent to; a socket that is created has none.  The first rule that fits a call decides about
 * it; a call that none fits is allowed.  What the kernel asks about: `create` IPv4 and IPv6 sockets of every
 * kind; `bind` TCP and UDP; `connect` TCP, UDP and ping sockets; `send` datagrams that have an address of
 * their own, and the connect() of a UDP socket, since nobody is asked again when a connected one sends.
 *
 * A rule that rule_print() wrote parses to the same rule.
 */
#ifndef WEIR_MODEL_RULE_H
#define WEIR_MODEL_RULE_H

#include "model/forward.h"
#include "model/match.h"
#include "model/service.h"
#include "model/shape.h"
#include "shared/bucket.h"
#include "shared/policy.h"
#include "shared/set.h"

#define RULES_MAX           POLICY_RULES_MAX /* of one list */
#define RULES_SOCKET_MAX    1024             /* of them on sockets */
#define RULE_TEXT_MAX       1024             /* longest rule but a service, with the NUL */
#define RULE_COMMENT_MAX    128
#define RULE_EXPRESSION_MAX 512

/* In the order of rule_verbs[]; those on sockets first. */
enum rule_verb {
	RULE_DENY,
	RULE_ALLOW,
	RULE_ACCEPT,
	RULE_DROP,
	RULE_REJECT,
	RULE_LIMIT,
	RULE_GUARANTEE,
	RULE_ASSIGN,
	RULE_SHAPE, /* declares a class: no packet fits */
	RULE_SERVICE,
	RULE_FORWARD,
	RULE_STEER,
	RULE_COUNT,
	RULE_LOG,
	RULE_MARK,
	RULE_REDIRECT,
	RULE_MIRROR,
	RULE_REWRITE,
	RULE_VERBS,
};

/* What a rule is asked about: lists hold rules of all kinds, and what one kind has is made of them alone. */
enum rule_kind {
	RULE_ON_PACKETS, /* and classes */
	RULE_ON_SOCKETS,
	RULE_ON_SERVICES,
	RULE_ON_FORWARDING, /* forward, steer */
	RULE_KINDS,
};

enum rule_call { RULE_CREATE, RULE_BIND, RULE_CONNECT, RULE_SEND };

/* What a rule on sockets asks for besides `owner` and match.to. */
struct rule_socket {
	enum rule_call call;
	uint8_t type; /* SOCK_STREAM, ...; 0: any */
};

enum rule_fragment {
	RULE_FRAGMENT_ANY,
	RULE_FRAGMENT_FIRST_OR_LATER,
	RULE_FRAGMENT_FIRST,
	RULE_FRAGMENT_LATER
};

/* What a rule on packets asks for besides what `match` has. */
struct rule_packet {
	char from_set[SET_NAME_MAX], to_set[SET_NAME_MAX];            /* addresses; empty: none */
	char from_port_set[SET_NAME_MAX], to_port_set[SET_NAME_MAX];  /* ports; empty: none */
	char either_set[SET_NAME_MAX], either_port_set[SET_NAME_MAX]; /* of either end; empty: none */
	uint8_t flags, flags_mask; /* (tcp flags & mask) == flags; mask 0: not asked */
	int icmp_code;             /* -1: not asked */
	int dscp;                  /* 0..63; -1: not asked */
	bool untagged;
	enum rule_fragment fragment;
	uint8_t states;           /* bits 1 << enum policy_state; 0: not asked */
	uint32_t mark, mark_mask; /* mask 0: not asked */
	bool expression_not;
	char expression[RULE_EXPRESSION_MAX]; /* empty: none */

	/* what is done */
	bool log;
	enum policy_reject reject;
	uint32_t set_mark, set_mark_mask;
	char interface[MATCH_INTERFACE_MAX]; /* redirect, mirror */
	int set_dscp;                        /* -1: not rewritten */
	bool set_mac_src, set_mac_dst;
	uint8_t mac[6];
	struct token_rate rate; /* limit; packets or bytes; CONNECTIONS: only the burst, the rest is 0 */
	enum policy_limit_unit unit;
	enum policy_limit_per per;
	uint8_t per_bits4, per_bits6; /* of an address that make one; 0 with PER_RULE */
};

struct rule {
	enum rule_verb verb;
	/* direction, interface, family, protocol, from, to, either, icmp_type, vlan, owner.  Of a rule on
	 * sockets: family, protocol, to, owner. */
	struct match match;
	bool owner_not; /* everybody else */
	struct rule_socket socket;
	struct rule_packet packet;
	/* Of a rule that shapes, the ceiling of a limit included; `under` is of the class it makes. */
	struct shape_terms shape;
	char class[SHAPE_NAME_MAX]; /* assign: which; shape: its name */
	/* Of their verbs; else NULL.  Nothing changes them, and copies of a rule have the same. */
	struct service_text *service;
	struct forward_text *forward;
	struct steer_text *steer;       /* its match is that of the rule */
	uint64_t for_ns;                /* ends so long after it was made; 0: never */
	char comment[RULE_COMMENT_MAX]; /* without the quotes; empty: none */
};

enum rule_kind rule_kind(const struct rule *rule);
bool rule_is_on_sockets(const struct rule *rule);
/* Does it say to which class packets belong?  Guarantee, assign, and a limit of bits a second for all
 * together. */
bool rule_is_shape(const struct rule *rule);
/* Does it declare a class?  match.direction, `class`, `shape` and the comment are all that it has. */
bool rule_is_declared(const struct rule *rule);
/* Does it make a class, as one of these or by a rate of its own? */
bool rule_makes_class(const struct rule *rule);
/* Does it name this set?  NULL: any. */
bool rule_names_set(const struct rule *rule, const char *name);

/* "deny", "allow", "accept", …; "create", "bind", …; NULL-terminated, in the order of the enums. */
extern const char *const rule_verbs[];
extern const char *const rule_calls[];

/* Reads all of `text`.  0, -EINVAL with `error` saying what was expected and where, or -ENOMEM; ret_rule
 * untouched on failure.  rule_clear() frees what it holds: of services, forwarding, steering; all others hold
 * nothing. */
int rule_parse(const char *text, struct rule *ret_rule, struct error *error);
void rule_clear(struct rule *rule);
/* 0 or -ENOSPC. */
int rule_print(const struct rule *rule, char *buffer, size_t size);
/* Of any length; to be freed.  NULL with `error`: too long (it would not be read again), or no memory. */
char *rule_text(const struct rule *rule, struct error *error);
/* Changes what a rule that shapes, or declares a class, says of rates: `text` is a change of shape.h, "to
 * 20mbit weight 3".  0, or -EINVAL with `error` set; then the rule is as it was. */
int rule_shape_change(struct rule *rule, const char *text, struct error *error);
/* The sentence of a rule that makes a class, but for its rates: two that differ in rates, burst, weight,
 * priority or engine alone have the same, and are the same class.  To be freed; NULL: it makes none, or no
 * memory. */
char *rule_class_text(const struct rule *rule);
/* The sentence that a change makes of the rule's: of rates as above, of a service's backend as service.h has
 * them ("drain 10.0.0.1").  To be freed; NULL with `error`. */
char *rule_change(const struct rule *rule, const char *text, struct error *error);
/* Does every call, every packet that fits `narrow` fit `wide` too?  False where that takes more than a look
 * at the words.
 */
bool rule_covers(const struct rule *wide, const struct rule *narrow);

#endif

/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Services, as plain data: what is balanced, among whom, and how it is delivered.
 *
 *     rule     = service NAME [protocol] ADDRESS[/LEN] [port PORT[-PORT]]      (rule.h; protocol: match.h)
 *                to BACKEND {, BACKEND} {OPTION} ["comment"]
 *     BACKEND  = ADDRESS [port PORT] [weight N] [drain]
 *     OPTION   = deliver ipip | gue [port PORT] | l2 | nat [from ADDRESS[-ADDRESS]] [ports PORT-PORT]
 *              | choose maglev | least | turns
 *              | affinity source [for DURATION]        the same source gets the same backend
 *              | quic                                  connection ids name backends
 *              | mss N | mtu N | ring N                N slots: a prime up to 65537
 *              | check CHECK | fail open|closed | flows off
 *     CHECK    = tcp | http | https | udp | exec "COMMAND"
 *                [port PORT] [path "PATH"] [host NAME] [status N[-N]]     (http, https)
 *                [send "TEXT"] [expect "TEXT"]                           (udp)
 *                [direct]                                 (not exec: not by the way of the service's packets)
 *                [every DURATION] [timeout DURATION] [rise N] [fall N]
 *
 * Without a protocol a service has all of them, without `port` all ports.  The backend's port is the
 * service's if it says none; only `nat` can change it.  Options may stand in any order and are printed in
 * this one; what says no more than the default is not printed.  A COMMAND, PATH or TEXT without spaces needs
 * no quotes.
 *
 *     change   = add BACKEND | set ADDRESS [port PORT] weight N
 *              | drain | undrain | remove ADDRESS [port PORT]                  (weir backend add NAME …)
 *
 * What several services have in common: two with the same prefix and protocol have other ports, or the ports
 * of one lie within those of the other, which is then asked last.
 */
#ifndef WEIR_MODEL_SERVICE_H
#define WEIR_MODEL_SERVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "basic/address.h"
#include "basic/error.h"
#include "model/match.h"
#include "shared/service.h"

#define SERVICE_NAME_MAX          32     /* with the NUL; made as a set's */
#define SERVICE_TEXT_MAX          131072 /* with the NUL; 1,024 backends of IPv6 with all they can have */
#define SERVICE_COMMENT_MAX       128
#define SERVICE_OF_BACKENDS_MAX   1024 /* backends of one service */
#define SERVICE_WEIGHT_MAX        65535
#define SERVICE_NAT_ADDRESSES_MAX 256 /* that one service is sent from */
#define SERVICE_CHECK_TEXT_MAX    256
#define SERVICE_CHECK_EVERY_NS    2000000000ULL
#define SERVICE_CHECK_TIMEOUT_NS  1000000000ULL
#define SERVICE_CHECK_RISE        2
#define SERVICE_CHECK_STATUS_LOW  200
#define SERVICE_CHECK_STATUS_HIGH 399
#define SERVICE_CHECK_FALL        3

struct service_backend_text {
	struct address address;
	uint16_t port;   /* 0: the service's */
	uint32_t weight; /* 1 if nothing is said; 0: in no ring */
	bool drain;
};

enum service_check_kind {
	SERVICE_CHECK_NONE,
	SERVICE_CHECK_TCP,
	SERVICE_CHECK_HTTP,
	SERVICE_CHECK_HTTPS,
	SERVICE_CHECK_UDP,
	SERVICE_CHECK_EXEC,
	SERVICE_CHECKS,
};

struct service_check {
	enum service_check_kind kind;
	bool direct;                         /* not the way of the packets */
	uint16_t port;                       /* 0: the backend's */
	uint16_t status_low, status_high;    /* http(s); 200 to 399 if nothing is said */
	char path[SERVICE_CHECK_TEXT_MAX];   /* http(s); "/" */
	char host[SERVICE_CHECK_TEXT_MAX];   /* http(s); empty: the service's address */
	char send[SERVICE_CHECK_TEXT_MAX];   /* udp; empty: a datagram without data */
	char expect[SERVICE_CHECK_TEXT_MAX]; /* udp; empty: any answer */
	char command[SERVICE_CHECK_TEXT_MAX];
	uint64_t every_ns, timeout_ns; /* timeout: at most `every`; if nothing is said, a second of it */
	uint32_t rise, fall;
};

struct service_text {
	char name[SERVICE_NAME_MAX];
	int protocol; /* IP protocol; -1: any */
	struct prefix prefix;
	bool any_port;
	struct port_range ports;               /* where !any_port: 1 to 65535 */
	struct service_backend_text *backends; /* in the order of the sentence; at least one */
	size_t backend_count;
	enum service_deliver deliver;
	uint16_t gue_port; /* 0: SERVICE_GUE_PORT */
	bool has_from;     /* nat */
	struct address from_first, from_last;
	struct port_range from_ports; /* 0, 0: not said */
	enum service_choice choice;
	bool affinity;
	uint64_t affinity_ns; /* 0: not said */
	bool quic, closed, no_flows;
	uint16_t mss, mtu; /* 0: not said */
	uint32_t slots;    /* 0: not said */
	struct service_check check;
	char comment[SERVICE_COMMENT_MAX];
};

/* "ipip", "gue", …; "maglev", …; "none", "tcp", …; NULL-terminated, in the order of the enums. */
extern const char *const service_delivers[];
extern const char *const service_choices[];
extern const char *const service_checks[];

/* 0, or -EINVAL with `error` saying what a service's name is. */
int service_name_check(const char *name, struct error *error);

/* Reads all of `text`: NAME …, without the word `service`.  0 or -EINVAL with `error` saying what was
 * expected and where; -ENOMEM.  What is read is to be freed. */
int service_parse(const char *text, struct service_text **ret_service, struct error *error);
void service_free(struct service_text *service);
static inline void service_freep(struct service_text **service)
{
	service_free(*service);
}
/* What parses to the same service, without the word `service`: to be freed; NULL: no memory. */
char *service_print(const struct service_text *service);
bool service_equal(const struct service_text *a, const struct service_text *b);
/* Another service that differs by one change of a backend ("add 10.0.0.3 weight 2", "drain 10.0.0.1",
 * "set 10.0.0.1 weight 5", "remove 10.0.0.1"); unknown backends are an error that names those there are. */
int service_change(const struct service_text *service, const char *change, struct service_text **ret_service,
	struct error *error);
/* Reads a change without making it, to find mistakes early.  0 or -EINVAL. */
int service_change_check(const char *text, struct error *error);
/* Do both want the same packets, and neither more of them than the other?  Then there can be but one. */
bool service_conflicts(const struct service_text *a, const struct service_text *b);
/* ADDRESS or ADDRESS-ADDRESS that nat sends from.  0 or -EINVAL. */
int service_addresses_parse(
	const char *text, struct address *ret_first, struct address *ret_last, struct error *error);
/* How many these are. */
uint32_t service_nat_addresses(const struct address *first, const struct address *last);

#endif

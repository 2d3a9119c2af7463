/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Health checks from inside: what agent/check*.c share. */
#ifndef WEIR_AGENT_CHECKS_INTERNAL_H
#define WEIR_AGENT_CHECKS_INTERNAL_H

#include <event2/event.h>
#include <openssl/ssl.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "agent/internal.h"
#include "agent/service/check_health.h"
#include "agent/service/checks.h"
#include "shared/check.h"

#define CHECK_REASON_MAX 128

struct bufferevent;
struct check_run;

/* A backend that is checked. */
struct check_target {
	struct checks *checks;
	struct rule_entry *entry; /* a use of it is ours: service and check are in it */
	struct address address;
	uint16_t port;    /* as the sentence has it; 0: the service's */
	uint16_t to_port; /* where the check goes */
	bool wanted;      /* by the book that is being followed */
	bool waits;       /* in the queue */
	struct check_health health;
	struct event *due;
	struct check_run *run; /* under way; NULL: none */
	TAILQ_ENTRY(check_target) queue;
	uint64_t last_ns, took_ns; /* the last one's end, and how long it took; 0: none yet */
	uint64_t passed, failed;
	bool last_passed;
	char reason[CHECK_REASON_MAX]; /* that the services were told last */
};

/* A check under way. */
struct check_run {
	struct checks *checks;
	struct check_target *target; /* NULL: nobody wants to know any more; a command's end is awaited */
	struct event *timeout, *ready;
	struct bufferevent *stream;
	SSL *ssl;             /* before `stream` has it */
	int fd;               /* socket, or a process'; -1: none, or `stream` has it */
	pid_t pid;            /* of the command; 0: none */
	struct check_way way; /* with way_proto, IPPROTO_TCP or IPPROTO_UDP; 0: as any connection goes */
	uint8_t way_proto;
	uint64_t began_ns;
	LIST_ENTRY(check_run) all;
};

struct checks {
	struct agent *agent;
	struct check_target **targets; /* sorted */
	size_t count;
	TAILQ_HEAD(check_queue, check_target) queue;
	LIST_HEAD(check_runs, check_run) runs;
	unsigned int running;
	bool ways;    /* some check goes the way of the packets */
	SSL_CTX *tls; /* with the first https */
	uint64_t random;
	uint64_t waited;  /* checks that had to wait for their turn */
	uint64_t unmade;  /* that this host had no descriptor, process or memory for */
	uint64_t changed; /* how often a backend went up or down */
};

static inline const struct service_text *check_service(const struct check_target *target)
{
	return target->entry->rule.service;
}

static inline const struct service_check *check_of(const struct check_target *target)
{
	return &target->entry->rule.service->check;
}

/* checks.c: the answer.  The run is over, and freed. */
void check_run_end(struct check_run *run, bool passed, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* … of a run that goes on until its command has ended. */
void check_run_tell(struct check_run *run, bool passed, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void check_run_free(struct check_run *run);

/* Each begins a check.  0 (then it ends with check_run_end(), maybe at once), or a negative errno if this
 * host cannot make it. */
int check_tcp_begin(struct check_run *run); /* http and https, too */
int check_udp_begin(struct check_run *run);
int check_exec_begin(struct check_run *run);
/* check_way.c: do checks of this service go the way of its packets? */
bool check_takes_way(const struct service_text *service);
/* The socket, which is not connected yet, sends by it.  0; or a positive errno, which says something about
 * the way there; or a negative one: this host could not do it. */
int check_way_begin(struct check_run *run, uint8_t proto);
/* Has it sent by it?  What has no such way has. */
bool check_way_was_taken(const struct check_run *run);
void check_way_end(struct check_run *run);
/* A command is ended, with all that it has started in its process group. */
void check_exec_kill(const struct check_run *run);

#endif

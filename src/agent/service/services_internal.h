/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Services from inside: what agent/service*.c share. */
#ifndef WEIR_AGENT_SERVICES_INTERNAL_H
#define WEIR_AGENT_SERVICES_INTERNAL_H

#include "agent/internal.h"
#include "agent/rule/rulebook.h"
#include "agent/service/services.h"
#include "engine/service.h"

#define SERVICE_REASON_MAX 128
#define SERVICE_SAMPLES    13 /* of new connections, every five seconds: a minute */
#define SERVICE_SAMPLE_NS  (5 * 1000000000ULL)

/* What is known of a backend by its number. */
struct service_backend_live {
	uint32_t service; /* number */
	struct address address;
	uint16_t port; /* as the sentence has it; 0: the service's */
	bool down;     /* a check said so */
	char reason[SERVICE_REASON_MAX];
	enum service_backend_state state; /* as it counts: in the kernel, too */
	uint64_t since_ns;                /* of the state */
	uint64_t used_ns;                 /* when its neighbour was asked for last */
	uint64_t samples[SERVICE_SAMPLES];
	unsigned int sample_count;
	uint32_t connections; /* at the last look */
};

/* What is known of a service by its number. */
struct service_live {
	char name[SERVICE_NAME_MAX]; /* empty: a free number */
	uint64_t before_ends_ns;     /* when nobody needs the ring of before any more; 0: none */
	bool kept;                   /* connections of it may be written down */
	bool failing;                /* none of its backends is up */
};

struct services {
	struct agent *agent;
	struct service_live *live;                /* SERVICES_MAX; NULL: there never was a service */
	struct service_backend_live **backends;   /* SERVICE_BACKENDS_MAX */
	uint64_t ring_makings[SERVICE_RINGS_MAX]; /* hash of what each ring was made of; 0: not known */
	bool adopted;                             /* what an earlier agent left is known */
	bool stale;                               /* the book in force is not what it is to be */
	bool patch_due;                           /* … and until it can be, rings name who is down */
	struct event *timer;
	uint64_t sampled_ns;
	/* connections that are written down: looked through from time to time */
	struct engine_service_cursor sweep;
	bool sweep_embryos;                     /* of those that have only begun, which come second */
	uint32_t counted[SERVICE_BACKENDS_MAX]; /* connections by backend, of the round that is under way */
	uint32_t loads[SERVICE_BACKENDS_MAX];   /* … as the datapath had counted them when it began */
	uint32_t kept, keeping;                 /* how many there are; of the round that is under way */
	uint64_t kept_ended;                    /* taken away since they were idle or over */
	uint64_t kept_written;                  /* by the agent, since a ring changed */
	uint64_t kept_refused;                  /* for which there was no room */
	bool scan_due;                          /* of the flow cache, since a ring has changed */
	uint32_t neighbour_next;                /* backend whose neighbour is asked for next */
};

/* A service of a book, with its numbers. */
struct service_plan_entry {
	const struct rule_entry *entry;
	const struct service_text *text;
	uint32_t number;
	uint16_t *backends; /* numbers, in the order of the sentence */
	bool failing;       /* none of its backends is up */
};

struct service_plan {
	struct service_plan_entry *entries;
	size_t count;
};

struct services *services_of(const struct agent *agent);

/* The services of a book; without numbers.  0 or -ENOMEM; service_plan_clear() undoes. */
int service_plan_make(const struct rulebook *book, struct service_plan *ret_plan);
void service_plan_clear(struct service_plan *plan);
/* Could it be?  0, or a negative errno with `error`. */
int service_plan_check(const struct service_plan *plan, struct error *error);
/* Fills in the numbers that are known, 0 for others. */
void service_plan_number(struct services *services, struct service_plan *plan);
/* The port that packets reach a backend at, where the service has one. */
static inline uint16_t service_backend_port(
	const struct service_text *text, const struct service_backend_text *backend)
{
	return backend->port ? backend->port : text->any_port ? 0 : text->ports.low;
}
/* The state of a backend, as it counts. */
enum service_backend_state service_plan_state(
	const struct services *services, const struct service_plan_entry *entry, size_t backend);

/* service_ring.c: the rings of a plan's services, beside those in force, in inputs[] for the compiler.  0 or
 * a negative errno with `error`. */
int service_rings_bring(struct services *services, const struct service_plan *plan,
	struct service_input *inputs, struct error *error);
/* In rings in force slots of backends that are down get what the ring would have without them: all else
 * stays. */
void service_rings_patch(struct services *services, const struct service_plan *plan);
/* The unit of a service in a book; 0: it has none. */
uint32_t service_unit(const struct policy_unit *book, uint32_t number);

/* service_keep.c */
uint64_t service_idle_ns(const struct service_text *text);
uint64_t service_affinity_ns(const struct service_text *text);
/* Writes connections down that the flow cache knows and that, forgotten there, would go elsewhere; `all`:
 * also those that would not as long as there is a ring of before.  `next`: by the book that is to be in
 * force: so what comes by another CPU right behind the change is found. */
void service_keep_scan(struct services *services, bool all, bool next);
/* What the flow cache knows of a connection: its latest line with a backend.  Looks at all lines. */
struct service_line {
	uint32_t last; /* tick */
	uint16_t backend;
	uint8_t tcp_flags;
};
bool service_keep_find(
	struct services *services, const struct service_key *key, struct service_line *ret_line);
/* Some thousand of those that are written down: those that are over go. */
void service_keep_sweep(struct services *services);
/* How many connections the flow table knows, by backend. */
void service_keep_count(struct services *services);

/* service_answers.c */
extern const struct route service_routes[];
void service_answers_sample(struct services *services, uint64_t now_ns);
void service_answers_status(struct services *services, struct json_write *out);
void service_answers_metrics(struct services *services, struct evbuffer *out);

#endif

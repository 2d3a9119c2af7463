// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Queues of the kernel, through rtnetlink.
 *
 * Messages are put together here: Debian's libnl-route cannot say how many packets fq holds, tells errors in
 * numbers of its own, and wants a cache of everything where one class is asked for.
 */
/* before the kernel's linux/if.h, which then gives way */
#include <net/if.h>

#include "engine/qdisc.h"

#include <errno.h>
#include <linux/gen_stats.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <netlink/msg.h>
#include <string.h>

#include "basic/cleanup.h"
#include "engine/internal.h"

#define QDISCS_MAX      4096
#define HTB_VERSION     3
#define HTB_QUANTUM     1514U /* bytes that a class of the least weight sends in its turn */
#define HTB_TURNS       200U  /* of the greatest weight, at most as many times that */
#define HTB_TURN_NS     4000000ULL
#define LEAF_WAIT_NS    20000000ULL /* what a queue without an AQM holds: so much of the ceiling … */
#define LEAF_BYTES      69632U      /* … but at least a packet of TCP as the stack makes them … */
#define LEAF_MOST       (16U << 20) /* … and no more than this, whatever the rate */
#define TICK_NS         64U         /* of the kernel's schedulers */
#define CODEL_TARGET_US 5000U

/* The value of the pinned map "qdiscs", by ifindex. */
struct qdisc_entry {
	uint32_t root; /* a qdisc of ours is, or was to be, its root */
	uint32_t ifb;  /* one is, or was to be, made for it */
};

#define QDISC_MAJOR ((uint32_t)QDISC_HANDLE << 16)
/* A handle that no qdisc has: of one that is there the kernel compares the kinds, and says nothing of its
 * own. */
#define QDISC_NOBODY (QDISC_MAJOR + (1U << 16))

/* -- messages -- */

#define _cleanup_message_ _cleanup_(message_free)

static void message_free(struct nl_msg **message)
{
	if (*message)
		nlmsg_free(*message);
}

struct reply {
	int error;
	bool done;
	int (*function)(struct nlmsghdr *header, void *context);
	void *context;
};

static int reply_valid(struct nl_msg *message, void *context)
{
	struct reply *reply = context;

	if (reply->function)
		reply->function(nlmsg_hdr(message), reply->context);
	return NL_OK;
}

static int reply_end(struct nl_msg *message, void *context)
{
	(void)message;
	((struct reply *)context)->done = true;
	return NL_STOP;
}

static int reply_error(struct sockaddr_nl *address, struct nlmsgerr *message, void *context)
{
	struct reply *reply = context;

	(void)address;
	reply->error = message->error;
	reply->done = true;
	return NL_STOP;
}

/* Sends a request and waits for its end.  0 or the kernel's negative errno. */
static int ask(struct engine *engine, struct nl_msg *message,
	int (*function)(struct nlmsghdr *header, void *context), void *context)
{
	struct reply reply = {.function = function, .context = context};
	struct nl_cb *cb = nl_cb_alloc(NL_CB_DEFAULT);
	int r;

	if (!cb)
		return -ENOMEM;
	nl_cb_set(cb, NL_CB_VALID, NL_CB_CUSTOM, reply_valid, &reply);
	nl_cb_set(cb, NL_CB_FINISH, NL_CB_CUSTOM, reply_end, &reply);
	nl_cb_set(cb, NL_CB_ACK, NL_CB_CUSTOM, reply_end, &reply);
	nl_cb_err(cb, NL_CB_CUSTOM, reply_error, &reply);
	r = nl_send_auto(engine->requests, message);
	while (r >= 0 && !reply.done)
		r = nl_recvmsgs(engine->requests, cb);
	nl_cb_put(cb);
	/* what the kernel said goes before what the library makes of it */
	return reply.error ? reply.error : r < 0 && !reply.done ? -EIO : 0;
}

static struct nl_msg *message_new(
	uint16_t type, uint16_t flags, uint32_t index, uint32_t handle, uint32_t parent)
{
	struct tcmsg tc = {
		.tcm_family = AF_UNSPEC,
		.tcm_ifindex = (int)index,
		.tcm_handle = handle,
		.tcm_parent = parent,
	};
	struct nl_msg *message = nlmsg_alloc_simple(type, flags);

	if (message && nlmsg_append(message, &tc, sizeof(tc), NLMSG_ALIGNTO) < 0) {
		nlmsg_free(message);
		return NULL;
	}
	return message;
}

/* -- looking -- */

static bool entry_read(struct engine *engine, uint32_t index, struct qdisc_entry *ret_entry)
{
	return bpf_map_lookup_elem(engine->qdiscs_map, &index, ret_entry) == 0;
}

static int entry_write(struct engine *engine, uint32_t index, const struct qdisc_entry *entry)
{
	if (!entry->root && !entry->ifb)
		return bpf_map_delete_elem(engine->qdiscs_map, &index) < 0 && errno != ENOENT ? -errno : 0;
	return bpf_map_update_elem(engine->qdiscs_map, &index, entry, BPF_ANY) < 0 ? -errno : 0;
}

/* The root qdisc of one interface, without who made it. */
struct look {
	uint32_t index;
	bool found;
	struct engine_qdisc qdisc;
};

static int look_one(struct nlmsghdr *header, void *context)
{
	struct look *look = context;
	const struct tcmsg *tc = nlmsg_data(header);
	struct nlattr *kind = nlmsg_find_attr(header, sizeof(*tc), TCA_KIND);

	if (header->nlmsg_type != RTM_NEWQDISC || (uint32_t)tc->tcm_ifindex != look->index ||
		tc->tcm_parent != TC_H_ROOT || !kind)
		return 0;
	look->found = true;
	look->qdisc.handle = tc->tcm_handle;
	look->qdisc.free = !tc->tcm_handle;
	snprintf(look->qdisc.kind, sizeof(look->qdisc.kind), "%s", nla_get_string(kind));
	return 0;
}

int engine_qdisc_look(struct engine *engine, uint32_t index, struct engine_qdisc *ret_qdisc)
{
	/* the root alone: a tree may have ten thousand leaves */
	_cleanup_message_ struct nl_msg *message =
		message_new(RTM_GETQDISC, NLM_F_REQUEST | NLM_F_ACK | NLM_F_ECHO, index, 0, TC_H_ROOT);
	struct look look = {.index = index};
	struct qdisc_entry entry;
	int r;

	if (!message)
		return -ENOMEM;
	r = ask(engine, message, look_one, &look);
	if (r < 0 && r != -ENODEV) {
		/* kernels do not tell of each default that way */
		nlmsg_free(message);
		message = message_new(RTM_GETQDISC, NLM_F_REQUEST | NLM_F_DUMP, index, 0, 0);
		if (!message)
			return -ENOMEM;
		r = ask(engine, message, look_one, &look);
	}
	if (r < 0)
		return r;
	if (!look.found) /* a device without queues says nothing */
		look.qdisc = (struct engine_qdisc){.kind = "noqueue", .free = true};
	look.qdisc.ours = look.qdisc.handle == QDISC_MAJOR && entry_read(engine, index, &entry) && entry.root;
	*ret_qdisc = look.qdisc;
	return 0;
}

static int put_kind(struct nl_msg *message, const char *kind)
{
	return nla_put_string(message, TCA_KIND, kind) < 0 ? -ENOMEM : 0;
}

/* The kernel looks for the kind before it reads what else is said, and refuses that. */
static bool qdisc_probe(struct engine *engine, const char *kind)
{
	_cleanup_message_ struct nl_msg *message =
		message_new(RTM_NEWQDISC, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE,
			if_nametoindex("lo"), QDISC_NOBODY, TC_H_ROOT);
	struct nlattr *table;
	int r;

	if (!message || put_kind(message, kind) < 0)
		return false;
	table = nla_nest_start(message, TCA_STAB);
	if (!table)
		return false;
	/* a table of sizes without a base: -EINVAL */
	if (nla_put_u16(message, TCA_STAB_DATA, 1) < 0)
		return false;
	nla_nest_end(message, table);
	r = ask(engine, message, NULL, NULL);
	return r < 0 && r != -ENOENT && r != -EOPNOTSUPP;
}

static const char *const kinds[ENGINE_QDISC_KINDS] = {"htb", "fq", "fq_codel", "sfq"};

bool engine_qdisc_has(struct engine *engine, const char *kind)
{
	for (unsigned int i = 0; i < ENGINE_QDISC_KINDS; i++) {
		if (strcmp(kinds[i], kind) != 0)
			continue;
		if (!engine->qdisc_kinds[i])
			engine->qdisc_kinds[i] = qdisc_probe(engine, kind) ? 1 : -1;
		return engine->qdisc_kinds[i] > 0;
	}
	return false;
}

/* -- roots -- */

int engine_qdisc_refuse(const char *interface, const struct engine_qdisc *qdisc, struct error *error)
{
	error_set(error, -EEXIST, "%s has a qdisc %s of somebody else (%x:): weir does not replace it",
		interface, qdisc->kind, qdisc->handle >> 16);
	return error_want(error, "engine pacing or policer, or first 'tc qdisc del dev %s root'", interface);
}

/* May weir's own stand there?  *ret_there: it does already. */
static int root_check(struct engine *engine, const struct engine_interface *interface, const char *kind,
	bool *ret_there, struct error *error)
{
	struct engine_qdisc qdisc;
	int r = engine_qdisc_look(engine, interface->index, &qdisc);

	if (r < 0)
		return error_set(
			error, r, "cannot ask for the qdisc of %s: %s", interface->name, strerror(-r));
	if (!qdisc.ours && !qdisc.free)
		return engine_qdisc_refuse(interface->name, &qdisc, error);
	*ret_there = qdisc.ours && strcmp(qdisc.kind, kind) == 0;
	if (qdisc.ours && !*ret_there)
		return engine_qdisc_remove(engine, interface->index);
	return 0;
}

static int root_make(struct engine *engine, const struct engine_interface *interface, const char *kind,
	struct nl_msg *message, struct error *error)
{
	struct qdisc_entry entry = {};
	int r;

	entry_read(engine, interface->index, &entry);
	entry.root = 1;
	/* remembered first: killed in between, the next agent cleans up */
	r = entry_write(engine, interface->index, &entry);
	if (r == 0)
		r = ask(engine, message, NULL, NULL);
	if (r == 0)
		return 0;
	entry.root = 0;
	entry_write(engine, interface->index, &entry);
	if (r == -ENOENT || r == -EOPNOTSUPP)
		return error_set(error, -EOPNOTSUPP, "this kernel has no qdisc %s", kind);
	return error_set(error, r, "cannot put a qdisc %s on %s: %s", kind, interface->name, strerror(-r));
}

int engine_qdisc_fq(struct engine *engine, const struct engine_interface *interface, struct error *error)
{
	_cleanup_message_ struct nl_msg *message = NULL;
	struct nlattr *options;
	bool there = false;
	int r = root_check(engine, interface, "fq", &there, error);

	if (r < 0 || there)
		return r;
	message = message_new(RTM_NEWQDISC, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL,
		interface->index, QDISC_MAJOR, TC_H_ROOT);
	if (!message || put_kind(message, "fq") < 0)
		return error_set(error, -ENOMEM, "out of memory");
	options = nla_nest_start(message, TCA_OPTIONS);
	/* a class's packets wait in the flows they belong to: room for all of them */
	if (!options || nla_put_u32(message, TCA_FQ_PLIMIT, 100000) < 0 ||
		nla_put_u32(message, TCA_FQ_FLOW_PLIMIT, 10000) < 0)
		return error_set(error, -ENOMEM, "out of memory");
	nla_nest_end(message, options);
	return root_make(engine, interface, "fq", message, error);
}

int engine_qdisc_remove(struct engine *engine, uint32_t index)
{
	_cleanup_message_ struct nl_msg *message =
		message_new(RTM_DELQDISC, NLM_F_REQUEST | NLM_F_ACK, index, QDISC_MAJOR, TC_H_ROOT);
	struct qdisc_entry entry = {};
	struct engine_qdisc qdisc;
	int r;

	if (!entry_read(engine, index, &entry) || !entry.root)
		return 0;
	if (!message)
		return -ENOMEM;
	r = engine_qdisc_look(engine, index, &qdisc);
	if (r == 0 && qdisc.ours)
		r = ask(engine, message, NULL, NULL);
	if (r < 0 && r != -ENODEV && r != -ENOENT)
		return r;
	entry.root = 0;
	return entry_write(engine, index, &entry);
}

size_t engine_qdisc_ours(struct engine *engine, uint32_t *indices, size_t room)
{
	uint32_t index, *previous = NULL;
	size_t count = 0;

	while (count < room && bpf_map_get_next_key(engine->qdiscs_map, previous, &index) == 0) {
		indices[count++] = index;
		previous = &indices[count - 1];
	}
	return count;
}

/* -- trees -- */

static int htb_root(struct engine *engine, const struct engine_interface *interface, struct error *error)
{
	struct tc_htb_glob parameters = {.version = HTB_VERSION, .rate2quantum = 10, .defcls = QDISC_REST};
	_cleanup_message_ struct nl_msg *message =
		message_new(RTM_NEWQDISC, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL,
			interface->index, QDISC_MAJOR, TC_H_ROOT);
	struct nlattr *options;

	if (!message || put_kind(message, "htb") < 0)
		return error_set(error, -ENOMEM, "out of memory");
	options = nla_nest_start(message, TCA_OPTIONS);
	if (!options || nla_put(message, TCA_HTB_INIT, sizeof(parameters), &parameters) < 0)
		return error_set(error, -ENOMEM, "out of memory");
	nla_nest_end(message, options);
	return root_make(engine, interface, "htb", message, error);
}

/* How long a burst takes at a rate, in the schedulers' ticks. */
static uint32_t burst_ticks(uint64_t burst, uint64_t rate)
{
	__uint128_t ticks = (__uint128_t)burst * (1000000000 / TICK_NS) / (rate ? rate : 1);

	return ticks > UINT32_MAX ? UINT32_MAX : ticks ? (uint32_t)ticks : 1;
}

/* What HTB lets through at once: what comes in some milliseconds, so that its timer need not be exact. */
static uint64_t burst_of(uint64_t rate, uint64_t asked)
{
	uint64_t least = rate / (1000000000 / HTB_TURN_NS);

	if (asked)
		return asked;
	return least > 2 * HTB_QUANTUM ? least : 2 * HTB_QUANTUM;
}

static uint32_t rate32(uint64_t rate)
{
	return rate > UINT32_MAX ? UINT32_MAX : (uint32_t)rate;
}

static int put_class(struct nl_msg *message, const struct engine_htb *class)
{
	uint32_t turns = class->weight < 1 ? 1 : class->weight > HTB_TURNS ? HTB_TURNS : class->weight;
	struct tc_htb_opt parameters = {
		.rate = {.rate = rate32(class->rate), .linklayer = TC_LINKLAYER_ETHERNET},
		.ceil = {.rate = rate32(class->ceiling), .linklayer = TC_LINKLAYER_ETHERNET},
		.buffer = burst_ticks(burst_of(class->rate, 0), class->rate),
		.cbuffer = burst_ticks(burst_of(class->ceiling, class->burst), class->ceiling),
		.quantum = HTB_QUANTUM * turns,
		.prio = class->priority,
	};
	struct nlattr *options;

	if (put_kind(message, "htb") < 0)
		return -ENOMEM;
	options = nla_nest_start(message, TCA_OPTIONS);
	if (!options || nla_put(message, TCA_HTB_PARMS, sizeof(parameters), &parameters) < 0)
		return -ENOMEM;
	if (class->rate > UINT32_MAX && nla_put_u64(message, TCA_HTB_RATE64, class->rate) < 0)
		return -ENOMEM;
	if (class->ceiling > UINT32_MAX && nla_put_u64(message, TCA_HTB_CEIL64, class->ceiling) < 0)
		return -ENOMEM;
	nla_nest_end(message, options);
	return 0;
}

static int class_put(struct engine *engine, uint32_t index, const struct engine_htb *class)
{
	_cleanup_message_ struct nl_msg *message =
		message_new(RTM_NEWTCLASS, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE, index,
			QDISC_MAJOR | class->minor, QDISC_MAJOR | class->parent);

	if (!message || put_class(message, class) < 0)
		return -ENOMEM;
	return ask(engine, message, NULL, NULL);
}

static int class_remove(struct engine *engine, uint32_t index, uint32_t minor)
{
	_cleanup_message_ struct nl_msg *message =
		message_new(RTM_DELTCLASS, NLM_F_REQUEST | NLM_F_ACK, index, QDISC_MAJOR | minor, 0);

	return message ? ask(engine, message, NULL, NULL) : -ENOMEM;
}

/* What a leaf holds.  It is sent what it has now, too, and changes in place. */
static int leaf_options(struct nl_msg *message, const char *kind, const struct engine_htb *class)
{
	struct tc_fifo_qopt fifo = {LEAF_BYTES};
	uint64_t wait = class->ceiling / (1000000000 / LEAF_WAIT_NS), target_us = 0;
	struct nlattr *options;

	if (strcmp(kind, "bfifo") == 0) {
		if (wait > fifo.limit)
			fifo.limit = wait > LEAF_MOST ? LEAF_MOST : (uint32_t)wait;
		if (class->room > fifo.limit)
			fifo.limit = class->room;
		return nla_put(message, TCA_OPTIONS, sizeof(fifo), &fifo) < 0 ? -ENOMEM : 0;
	}
	if (strcmp(kind, "fq_codel") != 0)
		return 0;
	/* less than what two packets take is no queue (RFC 8290, 5.2.1) */
	target_us = class->ceiling ? 2ULL * HTB_QUANTUM * 1000000 / class->ceiling : 0;
	if (target_us < CODEL_TARGET_US)
		target_us = CODEL_TARGET_US;
	options = nla_nest_start(message, TCA_OPTIONS);
	if (!options || nla_put_u32(message, TCA_FQ_CODEL_TARGET, (uint32_t)target_us) < 0)
		return -ENOMEM;
	nla_nest_end(message, options);
	return 0;
}

static int leaf_put(struct engine *engine, uint32_t index, const struct engine_htb *class)
{
	const char *kind = engine_qdisc_has(engine, "fq_codel") ? "fq_codel"
	                   : engine_qdisc_has(engine, "sfq")    ? "sfq"
	                                                        : "bfifo";
	_cleanup_message_ struct nl_msg *message =
		message_new(RTM_NEWQDISC, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, index, 0,
			QDISC_MAJOR | class->minor);

	if (!message || put_kind(message, kind) < 0 || leaf_options(message, kind, class) < 0)
		return -ENOMEM;
	return ask(engine, message, NULL, NULL);
}

/* The classes that are there. */
struct there {
	uint32_t index;
	struct there_class {
		uint32_t minor, parent;
		bool kept, gone;
	} * classes;
	size_t count, room;
	int error;
};

static int there_add(struct nlmsghdr *header, void *context)
{
	struct there *there = context;
	const struct tcmsg *tc = nlmsg_data(header);

	if (header->nlmsg_type != RTM_NEWTCLASS || (uint32_t)tc->tcm_ifindex != there->index ||
		(tc->tcm_handle & TC_H_MAJ_MASK) != QDISC_MAJOR)
		return 0;
	if (there->count == there->room) {
		size_t room = there->room ? 2 * there->room : 64;
		struct there_class *classes = reallocarray(there->classes, room, sizeof(*classes));

		if (!classes) {
			there->error = -ENOMEM;
			return 0;
		}
		there->classes = classes;
		there->room = room;
	}
	there->classes[there->count++] = (struct there_class){
		.minor = TC_H_MIN(tc->tcm_handle),
		.parent = tc->tcm_parent == TC_H_ROOT ? 0 : TC_H_MIN(tc->tcm_parent),
	};
	return 0;
}

static int compare_there(const void *a, const void *b)
{
	const struct there_class *x = a, *y = b;

	return x->minor < y->minor ? -1 : x->minor > y->minor;
}

static struct there_class *there_find(const struct there *there, uint32_t minor)
{
	const struct there_class wanted = {.minor = minor};

	return there->count ? bsearch(&wanted, there->classes, there->count, sizeof(wanted), compare_there)
	                    : NULL;
}

static int there_read(struct engine *engine, uint32_t index, struct there *there)
{
	_cleanup_message_ struct nl_msg *message =
		message_new(RTM_GETTCLASS, NLM_F_REQUEST | NLM_F_DUMP, index, 0, 0);
	int r;

	*there = (struct there){.index = index};
	if (!message)
		return -ENOMEM;
	r = ask(engine, message, there_add, there);
	if (r == 0)
		r = there->error;
	if (there->count)
		qsort(there->classes, there->count, sizeof(*there->classes), compare_there);
	return r;
}

/* Children first: a class that has some cannot go. */
static void there_sweep(struct engine *engine, struct there *there)
{
	bool some = true;

	while (some) {
		some = false;
		for (size_t i = 0; i < there->count; i++) {
			struct there_class *class = &there->classes[i];

			if (class->kept || class->gone ||
				class_remove(engine, there->index, class->minor) < 0)
				continue;
			class->gone = some = true;
		}
	}
}

/* Which of those that are there can stay where they are?  Not one with another parent, and nothing below one
 * that goes. */
static void there_keep(struct there *there, const struct engine_htb *classes, size_t count)
{
	bool some = true;

	for (size_t i = 0; i < count; i++) {
		struct there_class *before = there_find(there, classes[i].minor);

		if (before)
			before->kept = before->parent == classes[i].parent;
	}
	while (some) {
		some = false;
		for (size_t i = 0; i < there->count; i++) {
			struct there_class *class = &there->classes[i];
			const struct there_class *parent = there_find(there, class->parent);

			if (!class->kept || !class->parent || (parent && parent->kept))
				continue;
			class->kept = false;
			some = true;
		}
	}
}

static int class_bring(struct engine *engine, uint32_t index, const struct engine_htb *class)
{
	int r = class_put(engine, index, class);

	return r == 0 && class->leaf ? leaf_put(engine, index, class) : r;
}

int engine_qdisc_htb_change(struct engine *engine, uint32_t index, const struct engine_htb *class)
{
	return class_bring(engine, index, class);
}

static int tree_bring(struct engine *engine, uint32_t index, const struct engine_htb *classes, size_t count,
	struct there *there)
{
	int r = 0;

	there_keep(there, classes, count);
	there_sweep(engine, there);
	for (size_t i = 0; i < count && r == 0; i++)
		r = class_bring(engine, index, &classes[i]);
	return r;
}

int engine_qdisc_htb(struct engine *engine, const struct engine_interface *interface,
	const struct engine_htb *classes, size_t count, struct error *error)
{
	struct there before = {};
	bool there = false;
	int r = root_check(engine, interface, "htb", &there, error);

	if (r == 0 && !there)
		r = htb_root(engine, interface, error);
	if (r < 0)
		return r;
	r = there_read(engine, interface->index, &before);
	if (r == 0)
		r = tree_bring(engine, interface->index, classes, count, &before);
	free(before.classes);
	if (r < 0)
		return error_set(
			error, r, "cannot make the classes of %s: %s", interface->name, strerror(-r));
	return 0;
}

/* -- what they count -- */

/* What a leaf's queue has dropped and marked: the class tells only of what it refused at the door. */
struct leaf_count {
	uint32_t minor;
	uint64_t dropped, marked;
};

struct counting {
	uint32_t index;
	engine_qdisc_function *function;
	void *context;
	struct leaf_count *leaves;
	size_t count, room;
};

static int leaf_compare(const void *a, const void *b)
{
	const struct leaf_count *x = a, *y = b;

	return x->minor < y->minor ? -1 : x->minor > y->minor;
}

static bool stats_parse(struct nlmsghdr *header, struct nlattr **stats)
{
	struct nlattr *all = nlmsg_find_attr(header, sizeof(struct tcmsg), TCA_STATS2);

	return all && nla_parse_nested(stats, TCA_STATS_MAX, all, NULL) == 0;
}

static void leaf_read(struct nlattr *const *stats, struct leaf_count *leaf)
{
	struct gnet_stats_queue queue = {};
	struct tc_fq_codel_xstats codel = {};

	if (stats[TCA_STATS_QUEUE])
		nla_memcpy(&queue, stats[TCA_STATS_QUEUE], sizeof(queue));
	leaf->dropped = queue.drops;
	if (stats[TCA_STATS_APP])
		nla_memcpy(&codel, stats[TCA_STATS_APP], sizeof(codel));
	if (codel.type == TCA_FQ_CODEL_XSTATS_QDISC)
		leaf->marked = codel.qdisc_stats.ecn_mark;
}

static int leaf_add(struct nlmsghdr *header, void *context)
{
	struct counting *counting = context;
	const struct tcmsg *tc = nlmsg_data(header);
	struct nlattr *kind = nlmsg_find_attr(header, sizeof(*tc), TCA_KIND), *stats[TCA_STATS_MAX + 1];
	struct leaf_count leaf = {.minor = TC_H_MIN(tc->tcm_parent)};

	if (header->nlmsg_type != RTM_NEWQDISC || (uint32_t)tc->tcm_ifindex != counting->index ||
		(tc->tcm_parent & TC_H_MAJ_MASK) != QDISC_MAJOR || !kind || !stats_parse(header, stats))
		return 0;
	if (strcmp(nla_get_string(kind), "fq_codel") != 0)
		stats[TCA_STATS_APP] = NULL;
	leaf_read(stats, &leaf);
	if (counting->count == counting->room) {
		size_t room = counting->room ? 2 * counting->room : 64;
		struct leaf_count *leaves = reallocarray(counting->leaves, room, sizeof(*leaves));

		if (!leaves)
			return 0;
		counting->leaves = leaves;
		counting->room = room;
	}
	counting->leaves[counting->count++] = leaf;
	return 0;
}

static int count_one(struct nlmsghdr *header, void *context)
{
	const struct counting *counting = context;
	const struct tcmsg *tc = nlmsg_data(header);
	struct nlattr *stats[TCA_STATS_MAX + 1];
	struct engine_qdisc_count count = {.minor = TC_H_MIN(tc->tcm_handle)};
	const struct leaf_count wanted = {.minor = count.minor}, *leaf = NULL;

	if (header->nlmsg_type != RTM_NEWTCLASS || (uint32_t)tc->tcm_ifindex != counting->index ||
		(tc->tcm_handle & TC_H_MAJ_MASK) != QDISC_MAJOR || !stats_parse(header, stats))
		return 0;
	if (stats[TCA_STATS_BASIC]) {
		struct gnet_stats_basic basic = {};

		nla_memcpy(&basic, stats[TCA_STATS_BASIC], sizeof(basic));
		count.bytes = basic.bytes;
		count.packets = basic.packets;
	}
	if (stats[TCA_STATS_PKT64])
		count.packets = nla_get_u64(stats[TCA_STATS_PKT64]);
	if (stats[TCA_STATS_QUEUE]) {
		struct gnet_stats_queue queue = {};

		nla_memcpy(&queue, stats[TCA_STATS_QUEUE], sizeof(queue));
		count.dropped = queue.drops;
		count.overlimits = queue.overlimits;
		count.backlog_bytes = queue.backlog;
		count.backlog_packets = queue.qlen;
	}
	if (counting->count)
		leaf = bsearch(&wanted, counting->leaves, counting->count, sizeof(wanted), leaf_compare);
	if (leaf) {
		count.dropped = leaf->dropped;
		count.marked = leaf->marked;
	}
	counting->function(counting->context, &count);
	return 0;
}

int engine_qdisc_counts(struct engine *engine, uint32_t index, engine_qdisc_function *function, void *context)
{
	struct counting counting = {.index = index, .function = function, .context = context};
	_cleanup_message_ struct nl_msg *leaves = message_new(
						RTM_GETQDISC, NLM_F_REQUEST | NLM_F_DUMP, index, 0, 0),
					*classes = message_new(
						RTM_GETTCLASS, NLM_F_REQUEST | NLM_F_DUMP, index, 0, 0);
	int r = leaves && classes ? ask(engine, leaves, leaf_add, &counting) : -ENOMEM;

	if (r == 0) {
		if (counting.count)
			qsort(counting.leaves, counting.count, sizeof(*counting.leaves), leaf_compare);
		r = ask(engine, classes, count_one, &counting);
	}
	free(counting.leaves);
	return r;
}

/* -- what comes in -- */

static uint32_t ifb_name(char name[static ENGINE_NAME_MAX], uint32_t index)
{
	snprintf(name, ENGINE_NAME_MAX, "weir-%u", index);
	return if_nametoindex(name);
}

static struct nl_msg *link_message(uint16_t type, uint16_t flags, uint32_t index, uint32_t up)
{
	struct ifinfomsg link = {.ifi_index = (int)index, .ifi_flags = up, .ifi_change = up};
	struct nl_msg *message = nlmsg_alloc_simple(type, flags);

	if (message && nlmsg_append(message, &link, sizeof(link), NLMSG_ALIGNTO) < 0) {
		nlmsg_free(message);
		return NULL;
	}
	return message;
}

static int ifb_make(struct engine *engine, const char *name)
{
	_cleanup_message_ struct nl_msg *message =
		link_message(RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, 0, IFF_UP);
	struct nlattr *info;

	if (!message || nla_put_string(message, IFLA_IFNAME, name) < 0 ||
		nla_put_u32(message, IFLA_TXQLEN, 1000) < 0)
		return -ENOMEM;
	info = nla_nest_start(message, IFLA_LINKINFO);
	if (!info || nla_put_string(message, IFLA_INFO_KIND, "ifb") < 0)
		return -ENOMEM;
	nla_nest_end(message, info);
	return ask(engine, message, NULL, NULL);
}

int engine_qdisc_ifb(struct engine *engine, const struct engine_interface *interface, uint32_t *ret_index,
	struct error *error)
{
	char name[ENGINE_NAME_MAX];
	struct qdisc_entry entry = {};
	bool ours = entry_read(engine, interface->index, &entry) && entry.ifb;
	uint32_t index = ifb_name(name, interface->index);
	int r;

	if (index && !ours) {
		error_set(error, -EEXIST, "there is an interface %s that weir has not made", name);
		return error_want(error, "that name to be free");
	}
	if (index) {
		*ret_index = index;
		return 0;
	}
	entry.ifb = 1;
	r = entry_write(engine, interface->index, &entry);
	if (r == 0)
		r = ifb_make(engine, name);
	if (r == 0) {
		*ret_index = if_nametoindex(name);
		return 0;
	}
	entry.ifb = 0;
	entry_write(engine, interface->index, &entry);
	if (r == -EOPNOTSUPP)
		return error_set(error, r, "this kernel has no interfaces of type ifb");
	return error_set(error, r, "cannot make the interface %s: %s", name, strerror(-r));
}

int engine_qdisc_ifb_remove(struct engine *engine, uint32_t index)
{
	_cleanup_message_ struct nl_msg *message = NULL;
	char name[ENGINE_NAME_MAX];
	struct qdisc_entry entry = {};
	uint32_t ifb = ifb_name(name, index);
	int r = 0;

	if (!entry_read(engine, index, &entry) || !entry.ifb)
		return 0;
	if (ifb) {
		engine_qdisc_remove(engine, ifb);
		message = link_message(RTM_DELLINK, NLM_F_REQUEST | NLM_F_ACK, ifb, 0);
		r = message ? ask(engine, message, NULL, NULL) : -ENOMEM;
	}
	if (r < 0 && r != -ENODEV)
		return r;
	entry.ifb = 0;
	return entry_write(engine, index, &entry);
}

/* -- coming and going -- */

int engine_qdisc_open(struct engine *engine, struct error *error)
{
	char path[PATH_MAX];

	pins_path(&engine->pins, path, "qdiscs");
	engine->qdiscs_map = bpf_obj_get(path);
	if (engine->qdiscs_map >= 0)
		return 0;
	engine->qdiscs_map = bpf_map_create(
		BPF_MAP_TYPE_HASH, "weir_qdiscs", 4, sizeof(struct qdisc_entry), QDISCS_MAX, NULL);
	if (engine->qdiscs_map < 0 || bpf_obj_pin(engine->qdiscs_map, path) < 0)
		return error_set(
			error, -errno, "cannot pin a map in %s: %s", engine->pins.path, strerror(errno));
	return 0;
}

void engine_qdisc_remove_all(struct engine *engine)
{
	char path[PATH_MAX];
	uint32_t index, next;
	int more;

	if (engine->qdiscs_map < 0)
		engine->qdiscs_map = bpf_obj_get(pins_path(&engine->pins, path, "qdiscs"));
	if (engine->qdiscs_map < 0 || !engine->requests)
		return;
	for (more = bpf_map_get_next_key(engine->qdiscs_map, NULL, &index); more == 0; index = next) {
		/* its entry goes with what it is about */
		more = bpf_map_get_next_key(engine->qdiscs_map, &index, &next);
		engine_qdisc_remove(engine, index);
		engine_qdisc_ifb_remove(engine, index);
	}
}

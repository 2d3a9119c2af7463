// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "agent/service/checks.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/capture/captures.h"
#include "agent/rule/rules.h"
#include "agent/service/checks_internal.h"
#include "agent/service/services.h"
#include "basic/cleanup.h"
#include "basic/log.h"
#include "basic/units.h"
#include "engine/check.h"

static struct checks *checks_of(const struct agent *agent)
{
	return module_state(agent, &check_module);
}

/* Where the check goes; 0: nowhere, as those of a command. */
static uint16_t port_of(const struct service_text *service, const struct service_backend_text *backend)
{
	if (service->check.port)
		return service->check.port;
	return backend->port ? backend->port : service->any_port ? 0 : service->ports.low;
}

/* -- finding -- */

static int key_compare(
	const struct check_target *target, const char *service, const struct address *address, uint16_t port)
{
	int order = strcmp(check_service(target)->name, service);

	if (order == 0)
		order = address_compare(&target->address, address);
	return order ? order : (int)target->port - (int)port;
}

static int target_compare(const void *left, const void *right)
{
	const struct check_target *a = *(struct check_target *const *)left;
	const struct check_target *b = *(struct check_target *const *)right;

	return key_compare(a, check_service(b)->name, &b->address, b->port);
}

static struct check_target *target_find(
	const struct checks *checks, const char *service, const struct address *address, uint16_t port)
{
	size_t low = 0, high = checks->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = key_compare(checks->targets[middle], service, address, port);

		if (order == 0)
			return checks->targets[middle];
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

const struct check_target *checks_find(
	const struct agent *agent, const char *service, const struct address *address, uint16_t port)
{
	const struct checks *checks = checks_of(agent);

	return checks ? target_find(checks, service, address, port) : NULL;
}

/* -- one check -- */

static void due_in(struct check_target *target, uint64_t wait_ns)
{
	const struct timeval wait = {.tv_sec = (time_t)(wait_ns / 1000000000),
		.tv_usec = (suseconds_t)(wait_ns % 1000000000 / 1000)};

	evtimer_add(target->due, &wait);
}

/* xorshift64: so that backends do not keep step, nothing more. */
static uint64_t random_below(struct checks *checks, uint64_t limit)
{
	checks->random ^= checks->random << 13;
	checks->random ^= checks->random >> 7;
	checks->random ^= checks->random << 17;
	return checks->random % (limit + 1);
}

static void targets_next(struct checks *checks);

void check_run_free(struct check_run *run)
{
	struct checks *checks = run->checks;

	check_way_end(run);
	if (run->target)
		run->target->run = NULL;
	if (run->timeout)
		event_free(run->timeout);
	if (run->ready)
		event_free(run->ready);
	if (run->ssl)
		SSL_free(run->ssl);
	if (run->stream)
		bufferevent_free(run->stream);
	if (run->fd >= 0)
		close(run->fd);
	LIST_REMOVE(run, all);
	checks->running--;
	free(run);
}

/* For captures that wait for it. */
static void down_tell(const struct check_target *target, const char *reason)
{
	char address[ADDRESS_TEXT_MAX], text[CHECK_REASON_MAX + 256];

	snprintf(text, sizeof(text), "backend %s port %u of service %s is down: %s",
		address_print(address, sizeof(address), &target->address), target->to_port,
		check_service(target)->name, reason);
	captures_alert(target->checks->agent,
		&(struct alert){.kind = ALERT_BACKEND, .service = check_service(target)->name, .text = text});
}

static void result_take(struct check_run *run, bool passed, const char *reason)
{
	struct check_target *target = run->target;
	const struct service_check *check = check_of(target);
	struct checks *checks = target->checks;
	char address[ADDRESS_TEXT_MAX];
	uint64_t since_ns;
	bool changed;

	target->last_ns = agent_now_ns();
	target->took_ns = since_ns = target->last_ns - run->began_ns;
	target->last_passed = passed;
	if (passed)
		target->passed++;
	else
		target->failed++;
	due_in(target, check->every_ns > since_ns ? check->every_ns - since_ns : 0);
	changed = check_health_take(&target->health, passed, check->rise, check->fall);
	if (changed) {
		checks->changed++;
		log_info("service %s: backend %s has %s its checks: %s", check_service(target)->name,
			address_print(address, sizeof(address), &target->address),
			passed ? "passed" : "failed", reason);
	}
	if (!changed && strcmp(reason, target->reason) == 0)
		return;
	snprintf(target->reason, sizeof(target->reason), "%s", reason);
	services_backend_health(checks->agent, check_service(target)->name, &target->address, target->port,
		target->health.up, target->reason);
	if (changed && !passed)
		down_tell(target, reason);
}

void check_run_tell(struct check_run *run, bool passed, const char *format, ...)
{
	char reason[CHECK_REASON_MAX];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(reason, sizeof(reason), format, arguments);
	va_end(arguments);
	result_take(run, passed, reason);
}

void check_run_end(struct check_run *run, bool passed, const char *format, ...)
{
	struct checks *checks = run->checks;
	char reason[CHECK_REASON_MAX];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(reason, sizeof(reason), format, arguments);
	va_end(arguments);
	if (run->target && passed && !check_way_was_taken(run))
		result_take(run, false, "it answers, but not by the way of the service's packets");
	else if (run->target)
		result_take(run, passed, reason);
	check_run_free(run);
	targets_next(checks);
}

static void on_timeout(evutil_socket_t fd, short what, void *context)
{
	struct check_run *run = context;
	char text[32];

	(void)fd;
	(void)what;
	if (!run->target)
		return;
	duration_print(text, sizeof(text), check_of(run->target)->timeout_ns);
	if (!run->pid && run->way_proto) {
		check_run_end(run, false, "no answer in %s by %s", text,
			service_delivers[check_service(run->target)->deliver]);
		return;
	}
	if (!run->pid) {
		check_run_end(run, false, "no answer in %s", text);
		return;
	}
	check_exec_kill(run);
	check_run_tell(run, false, "not ended in %s, killed", text);
	run->target->run = NULL;
	run->target = NULL;
}

static struct check_run *run_new(struct check_target *target)
{
	const struct service_check *check = check_of(target);
	const struct timeval timeout = {.tv_sec = (time_t)(check->timeout_ns / 1000000000),
		.tv_usec = (suseconds_t)(check->timeout_ns % 1000000000 / 1000)};
	struct checks *checks = target->checks;
	struct check_run *run = calloc(1, sizeof(*run));

	if (!run)
		return NULL;
	*run = (struct check_run){.checks = checks, .target = target, .fd = -1, .began_ns = agent_now_ns()};
	LIST_INSERT_HEAD(&checks->runs, run, all);
	checks->running++;
	target->run = run;
	run->timeout = evtimer_new(checks->agent->base, on_timeout, run);
	if (run->timeout && evtimer_add(run->timeout, &timeout) == 0)
		return run;
	check_run_free(run);
	return NULL;
}

static void target_check(struct check_target *target)
{
	static int (*const begin[SERVICE_CHECKS])(struct check_run *) = {
		[SERVICE_CHECK_TCP] = check_tcp_begin,
		[SERVICE_CHECK_HTTP] = check_tcp_begin,
		[SERVICE_CHECK_HTTPS] = check_tcp_begin,
		[SERVICE_CHECK_UDP] = check_udp_begin,
		[SERVICE_CHECK_EXEC] = check_exec_begin,
	};
	const struct service_check *check = check_of(target);
	struct checks *checks = target->checks;
	struct check_run *run = run_new(target);
	int r = run ? begin[check->kind](run) : -ENOMEM;

	if (r == 0)
		return;
	/* it says nothing about the backend */
	checks->unmade++;
	log_debug("service %s: a check cannot be made: %s", check_service(target)->name, strerror(-r));
	if (run)
		check_run_free(run);
	due_in(target, check->every_ns);
}

static void targets_next(struct checks *checks)
{
	struct check_target *target;

	while (checks->running < CHECKS_AT_ONCE && (target = TAILQ_FIRST(&checks->queue))) {
		TAILQ_REMOVE(&checks->queue, target, queue);
		target->waits = false;
		target_check(target);
	}
}

static void on_due(evutil_socket_t fd, short what, void *context)
{
	struct check_target *target = context;
	struct checks *checks = target->checks;

	(void)fd;
	(void)what;
	if (target->run || target->waits)
		return;
	checks->waited += checks->running >= CHECKS_AT_ONCE;
	TAILQ_INSERT_TAIL(&checks->queue, target, queue);
	target->waits = true;
	targets_next(checks);
}

/* -- which are checked -- */

/* A command goes on until it has ended, and nobody is told. */
static void run_cancel(struct check_target *target)
{
	struct check_run *run = target->run;

	if (target->waits)
		TAILQ_REMOVE(&target->checks->queue, target, queue);
	target->waits = false;
	event_del(target->due);
	if (!run)
		return;
	if (run->pid) {
		check_exec_kill(run);
		run->target = NULL;
		target->run = NULL;
	} else
		check_run_free(run);
}

static void target_free(struct check_target *target)
{
	if (target->due) {
		run_cancel(target);
		event_free(target->due);
	}
	rule_entry_release(target->entry);
	free(target);
}

static void target_start(struct check_target *target)
{
	due_in(target, random_below(target->checks, check_of(target)->every_ns));
}

static struct check_target *target_new(
	struct checks *checks, struct rule_entry *entry, const struct service_backend_text *backend)
{
	const struct service_text *service = entry->rule.service;
	struct check_target *target = calloc(1, sizeof(*target));

	if (!target)
		return NULL;
	*target = (struct check_target){.checks = checks,
		.entry = entry,
		.address = backend->address,
		.port = backend->port,
		.to_port = port_of(service, backend),
		.wanted = true,
		.health.up = !services_backend_down(
			checks->agent, service->name, &backend->address, backend->port)};
	entry->users++;
	target->due = evtimer_new(checks->agent->base, on_due, target);
	if (target->due) {
		target_start(target);
		return target;
	}
	target_free(target);
	return NULL;
}

static bool check_is_same(const struct service_check *a, const struct service_check *b)
{
	return a->kind == b->kind && a->port == b->port && a->direct == b->direct &&
	       a->status_low == b->status_low && a->status_high == b->status_high &&
	       strcmp(a->path, b->path) == 0 && strcmp(a->host, b->host) == 0 &&
	       strcmp(a->send, b->send) == 0 && strcmp(a->expect, b->expect) == 0 &&
	       strcmp(a->command, b->command) == 0 && a->every_ns == b->every_ns &&
	       a->timeout_ns == b->timeout_ns && a->rise == b->rise && a->fall == b->fall;
}

static bool way_is_same(const struct service_text *a, const struct service_text *b)
{
	return a->deliver == b->deliver && a->gue_port == b->gue_port &&
	       address_compare(&a->prefix.address, &b->prefix.address) == 0;
}

/* What is known stays known; another check begins at once, as a new one would. */
static void target_keep(
	struct check_target *target, struct rule_entry *entry, const struct service_backend_text *backend)
{
	struct rule_entry *before = target->entry;
	const struct service_text *old = before->rule.service, *new = entry->rule.service;
	bool same = target->to_port == port_of(new, backend) && way_is_same(old, new) &&
	            check_is_same(&old->check, &new->check);

	target->wanted = true;
	if (before == entry)
		return;
	if (!same)
		run_cancel(target);
	entry->users++;
	target->entry = entry;
	target->to_port = port_of(new, backend);
	rule_entry_release(before);
	if (!same)
		target_start(target);
}

/* The entries with a check. */
static struct rule_entry *entry_next(const struct rulebook *book, size_t *place)
{
	struct rule_entry *entry;

	while ((entry = rulebook_next(book, RULE_SERVICE, place)))
		if (entry->rule.service->check.kind != SERVICE_CHECK_NONE)
			break;
	return entry;
}

static size_t targets_count(const struct rulebook *book)
{
	const struct rule_entry *entry;
	size_t count = 0, place = 0;

	while ((entry = entry_next(book, &place)))
		count += entry->rule.service->backend_count;
	return count;
}

/* Those that are not wanted any more go: without a check a backend is up. */
static void targets_drop(struct checks *checks)
{
	for (size_t i = 0; i < checks->count; i++) {
		struct check_target *target = checks->targets[i];

		if (target->wanted)
			continue;
		services_backend_health(
			checks->agent, check_service(target)->name, &target->address, target->port, true, "");
		target_free(target);
	}
}

static bool ways_wanted(struct check_target *const *targets, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (check_takes_way(check_service(targets[i])))
			return true;
	return false;
}

/* The programs at tc are there as long as some check needs them. */
static void checks_attach(struct checks *checks, bool wanted)
{
	struct error error = {};

	checks->ways = wanted;
	if (engine_check_want(checks->agent->engine, wanted, &error) < 0)
		log_warning("health checks: %s", error.what);
}

void checks_reconcile(struct agent *agent)
{
	struct checks *checks = checks_of(agent);

	if (checks && checks->ways)
		checks_attach(checks, true);
}

void checks_follow(struct agent *agent, const struct rulebook *book)
{
	struct checks *checks = checks_of(agent);
	struct check_target **targets, *target;
	size_t place = 0, count = 0;
	struct rule_entry *entry;

	if (!checks)
		return;
	targets = calloc(targets_count(book) + 1, sizeof(struct check_target *));
	if (!targets) {
		log_warning("health checks stay as they were: out of memory");
		return;
	}
	for (size_t i = 0; i < checks->count; i++)
		checks->targets[i]->wanted = false;
	while ((entry = entry_next(book, &place)))
		for (size_t i = 0; i < entry->rule.service->backend_count; i++) {
			const struct service_backend_text *backend = &entry->rule.service->backends[i];

			target = target_find(
				checks, entry->rule.service->name, &backend->address, backend->port);
			if (target)
				target_keep(target, entry, backend);
			else
				target = target_new(checks, entry, backend);
			if (target)
				targets[count++] = target;
			else
				checks->unmade++;
		}
	targets_drop(checks);
	checks_attach(checks, ways_wanted(targets, count));
	qsort(targets, count, sizeof(struct check_target *), target_compare);
	free(checks->targets);
	checks->targets = targets;
	checks->count = count;
}

/* -- telling -- */

uint64_t check_target_passed(const struct check_target *target)
{
	return target->passed;
}

uint64_t check_target_failed(const struct check_target *target)
{
	return target->failed;
}

void check_target_write(const struct check_target *target, struct json_write *out)
{
	json_write_object_begin(out, "check");
	json_write_string(out, "kind", service_checks[check_of(target)->kind]);
	if (target->last_ns) {
		answer_time(out, "last", target->last_ns);
		json_write_string(out, "result", target->last_passed ? "passed" : "failed");
		json_write_real(out, "took_ms", (double)target->took_ns / 1e6, 1);
	}
	json_write_number(out, "passed", target->passed);
	json_write_number(out, "failed", target->failed);
	json_write_object_end(out);
}

static void checks_status(struct agent *agent, void *state, struct json_write *out)
{
	const struct checks *checks = state;

	(void)agent;
	json_write_object_begin(out, "checks");
	json_write_number(out, "backends", checks->count);
	json_write_number(out, "running", checks->running);
	json_write_number(out, "waited", checks->waited);
	json_write_number(out, "unmade", checks->unmade);
	json_write_number(out, "changed", checks->changed);
	json_write_object_end(out);
}

static void checks_metrics(struct agent *agent, void *state, struct evbuffer *out)
{
	const struct checks *checks = state;

	(void)agent;
	metrics_single(
		out, "weir_service_check_backends", "gauge", "Backends that are checked.", checks->count);
	metrics_single(out, "weir_service_check_running", "gauge", "Checks under way.", checks->running);
	metrics_single(out, "weir_service_check_waited_total", "counter",
		"Checks that had to wait for others to end.", checks->waited);
	metrics_single(out, "weir_service_check_unmade_total", "counter",
		"Checks that this host had no descriptor, process or memory for.", checks->unmade);
	metrics_single(out, "weir_service_check_changes_total", "counter",
		"How often a backend went up or down.", checks->changed);
}

/* -- the module -- */

static void checks_close(void *state)
{
	struct checks *checks = state;
	struct check_run *run;

	for (size_t i = 0; i < checks->count; i++)
		target_free(checks->targets[i]);
	/* commands were killed; who reads their end is init */
	while ((run = LIST_FIRST(&checks->runs)))
		check_run_free(run);
	engine_check_want(checks->agent->engine, false, NULL);
	SSL_CTX_free(checks->tls);
	free(checks->targets);
	free(checks);
}

static int checks_open(struct agent *agent, void **ret_state, struct error *error)
{
	struct checks *checks = calloc(1, sizeof(*checks));

	if (!checks)
		return error_set(error, -ENOMEM, "out of memory");
	checks->agent = agent;
	checks->random = agent_now_ns() | 1;
	TAILQ_INIT(&checks->queue);
	LIST_INIT(&checks->runs);
	*ret_state = checks;
	checks_follow(agent, rules_book(agent));
	return 0;
}

const struct module check_module = {
	.name = "check",
	.open = checks_open,
	.close = checks_close,
	.status = checks_status,
	.metrics = checks_metrics,
};

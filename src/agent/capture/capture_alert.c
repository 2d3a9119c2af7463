// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Captures that wait for something to happen (`weir capture --when`). */
#include <stdlib.h>
#include <string.h>

#include "agent/capture/captures_internal.h"
#include "agent/probe/drops.h"
#include "agent/rule/rules.h"
#include "agent/service/services.h"
#include "basic/clock.h"
#include "basic/log.h"

bool captures_wait_for(const struct agent *agent, enum alert_kind kind)
{
	const struct captures *captures = module_state(agent, &capture_module);

	for (const struct capture *capture = captures ? captures->first : NULL; capture;
		capture = capture->next)
		if (capture->state == CAPTURE_WAITS && capture->when.kind == kind)
			return true;
	return false;
}

/* Attaching takes its time, and whoever tells us is in the middle of something: the event loop goes on with
 * it at once. */
void captures_alert(struct agent *agent, const struct alert *alert)
{
	struct captures *captures = module_state(agent, &capture_module);

	for (struct capture *capture = captures ? captures->first : NULL; capture; capture = capture->next) {
		if (capture->state != CAPTURE_WAITS || !alert_fits(&capture->when, alert))
			continue;
		capture->event = strdup(alert->text);
		if (!capture->event)
			continue;
		capture->event_ns = clock_ns(CLOCK_REALTIME);
		capture->state = CAPTURE_ALERTED;
		event_active(captures->timer, EV_TIMEOUT, 0);
	}
}

/* -- drops -- */

static void on_look(evutil_socket_t fd, short what, void *context)
{
	struct captures *captures = context;
	uint64_t *place = &captures->drops[captures->drops_count % CAPTURE_LOOKS], packets, before;
	struct alert alert = {.kind = ALERT_DROPS};
	char text[64];

	(void)fd;
	(void)what;
	if (!captures_wait_for(captures->agent, ALERT_DROPS)) {
		event_del(captures->drops_timer);
		return;
	}
	if (drops_packets(captures->agent, &packets) < 0)
		return;
	/* a second ago, or as long as somebody has looked */
	before = captures->drops_count < CAPTURE_LOOKS ? captures->drops[0] : *place;
	*place = packets;
	if (!captures->drops_count++)
		return;
	alert.packets = packets - before;
	snprintf(text, sizeof(text), "%" PRIu64 " packets dropped within a second", alert.packets);
	alert.text = text;
	captures_alert(captures->agent, &alert);
}

void capture_alert_wait(struct capture *capture)
{
	static const struct timeval often = {0, 1000000 / CAPTURE_LOOKS};
	struct captures *captures = capture->captures;

	capture->state = CAPTURE_WAITS;
	if (capture->when.kind != ALERT_DROPS || event_pending(captures->drops_timer, EV_TIMEOUT, NULL))
		return;
	captures->drops_count = 0;
	event_add(captures->drops_timer, &often);
	on_look(-1, EV_TIMEOUT, captures);
}

/* -- the rest -- */

int capture_alert_check(const struct capture *capture, struct error *error)
{
	const struct alert_match *when = &capture->when;
	struct agent *agent = capture->captures->agent;

	if (when->kind == ALERT_LOG && when->rule && !rules_entry(agent, when->rule)) {
		error_set(error, -ENOENT, "there is no rule %u", when->rule);
		return error_want(error, "one of those that 'weir rules' lists");
	}
	if (when->kind == ALERT_DROPS && !agent->config.drops_enabled) {
		error_set(error, -EINVAL, "drops are not counted");
		return error_want(error, "drops: {enabled: on} in the configuration");
	}
	if (when->kind == ALERT_BACKEND && *when->service)
		return services_expect(agent, when->service, error);
	return 0;
}

int capture_alert_open(struct captures *captures)
{
	captures->drops_timer = event_new(captures->agent->base, -1, EV_PERSIST, on_look, captures);
	return captures->drops_timer ? 0 : -ENOMEM;
}

void capture_alert_close(struct captures *captures)
{
	if (captures->drops_timer)
		event_free(captures->drops_timer);
}

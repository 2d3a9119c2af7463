// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* What a capture is to be of: the parameters of /v1/capture. */
#include <stdlib.h>
#include <string.h>

#include "agent/capture/captures_internal.h"
#include "basic/cleanup.h"
#include "basic/text.h"
#include "basic/units.h"

#define TIME_MAX_NS (366ULL * 86400 * 1000000000)

static int read_number(const char *name, const char *text, uint64_t least, uint64_t most,
	uint64_t *ret_number, struct error *error)
{
	char *end;
	unsigned long long number;

	if (!text)
		return 0;
	errno = 0;
	number = strtoull(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || errno || number < least || number > most) {
		error_set(error, -EINVAL, "%s: '%s' is not such a number", name, text);
		return error_want(error, "%" PRIu64 " to %" PRIu64, least, most);
	}
	*ret_number = number;
	return 0;
}

static int read_place(const char *text, enum capture_place *ret_place, struct error *error)
{
	const char *near;

	for (enum capture_place place = 0; text && place < CAPTURE_PLACES; place++)
		if (strcmp(text, capture_place_names[place]) == 0) {
			*ret_place = place;
			return 0;
		}
	if (!text)
		return 0;
	near = text_nearest(text, capture_place_names);
	error_set(error, -EINVAL, "one cannot capture at '%s'", text);
	return near ? error_want(error, "did you mean '%s'?", near)
	            : error_want(error, "tc, xdp, socket or drop");
}

static int read_interface(struct capture *capture, const char *name, struct error *error)
{
	_cleanup_free_ struct engine_interface *interfaces = NULL;
	const char **names, *near;
	size_t count = 0;
	int r;

	if (!name)
		return 0;
	r = engine_interfaces(capture->captures->agent->engine, &interfaces, &count);
	if (r < 0)
		return error_set(error, r, "cannot list the interfaces: %s", strerror(-r));
	for (size_t i = 0; i < count; i++)
		if (strcmp(name, interfaces[i].name) == 0) {
			snprintf(capture->only, sizeof(capture->only), "%s", name);
			return 0;
		}
	names = calloc(count + 1, sizeof(*names));
	if (!names)
		return error_set(error, -ENOMEM, "out of memory");
	for (size_t i = 0; i < count; i++)
		names[i] = interfaces[i].name;
	near = text_nearest(name, names);
	free(names);
	error_set(error, -ENODEV, "there is no interface '%s'", name);
	return near ? error_want(error, "did you mean '%s'?", near) : error->code;
}

/* "user bob" */
static int read_owner(struct capture *capture, const char *text, struct error *error)
{
	const char *value = text ? strchr(text, ' ') : NULL;
	char *kind;
	int r;

	if (!text)
		return 0;
	if (capture->place != CAPTURE_TC && capture->place != CAPTURE_DROP) {
		error_set(error, -EINVAL, "whose a packet is is not known at %s",
			capture_place_names[capture->place]);
		return error_want(error, "tc or drop");
	}
	if (!value) {
		error_set(error, -EINVAL, "'%s' does not name an owner", text);
		return error_want(error, "such as: user bob, pid 1, unit nginx, exe /usr/bin/curl");
	}
	kind = strndup(text, (size_t)(value - text));
	if (!kind)
		return error_set(error, -ENOMEM, "out of memory");
	r = owner_match_set(&capture->owner, kind, value + strspn(value, " "), error);
	free(kind);
	return r < 0 ? r : owner_expect(capture->captures->agent, &capture->owner, error);
}

static int read_time(const char *name, const char *text, uint64_t *ret_ns, struct error *error)
{
	uint64_t ns;

	if (!text)
		return 0;
	if (duration_parse(text, &ns) < 0 || !ns || ns > TIME_MAX_NS) {
		error_set(error, -EINVAL, "%s: '%s' is not a time", name, text);
		return error_want(error, "such as 5s, 500ms, 1m");
	}
	*ret_ns = ns;
	return 0;
}

static int read_before(struct capture *capture, const char *text, struct error *error)
{
	int r = read_time("before", text, &capture->before_ns, error);

	if (r < 0 || !text)
		return r;
	if (capture->place != CAPTURE_TC) {
		error_set(error, -EINVAL, "packets are not kept at %s", capture_place_names[capture->place]);
		return error_want(error, "tc");
	}
	if (!capture->captures->past.engine) {
		error_set(error, -EINVAL, "no packets are kept from before a capture");
		return error_want(error, "capture: {before: 16mb} in the configuration, beforehand");
	}
	return 0;
}

static int read_when(struct capture *capture, const char *text, struct error *error)
{
	if (!text)
		return 0;
	if (alert_match_parse(text, &capture->when, error) < 0)
		return -EINVAL;
	return capture_alert_check(capture, error);
}

static int read_expression(struct capture *capture, char *text, struct error *error)
{
	capture->text = text ? text : strdup("");
	if (!capture->text)
		return error_set(error, -ENOMEM, "out of memory");
	return expression_compile(
		capture->text, EXPRESSION_ETHERNET, capture->snaplen, &capture->ethernet, error);
}

int capture_query_read(struct capture *capture, const char *query, struct error *error)
{
	static const char *const names[] = {"expression", "snaplen", "count", "at", "interface", "owner",
		"before", "for", "when", "id", "share", NULL};
	_cleanup_free_ char *snaplen_text = query_value(query, "snaplen");
	_cleanup_free_ char *count = query_value(query, "count");
	_cleanup_free_ char *at = query_value(query, "at");
	_cleanup_free_ char *interface = query_value(query, "interface");
	_cleanup_free_ char *owner = query_value(query, "owner");
	_cleanup_free_ char *before = query_value(query, "before");
	_cleanup_free_ char *duration = query_value(query, "for");
	_cleanup_free_ char *when = query_value(query, "when");
	uint64_t snaplen = CAPTURE_SNAPLEN_MAX;
	int r = query_check(query, names, error);

	if (r == 0)
		r = read_number(
			"snaplen", snaplen_text, CAPTURE_SNAPLEN_MIN, CAPTURE_SNAPLEN_MAX, &snaplen, error);
	if (r == 0)
		r = read_number("count", count, 1, UINT64_MAX, &capture->limit, error);
	if (r == 0)
		r = read_place(at, &capture->place, error);
	if (r == 0)
		r = read_interface(capture, interface, error);
	if (r == 0)
		r = read_owner(capture, owner, error);
	if (r == 0)
		r = read_before(capture, before, error);
	if (r == 0)
		r = read_time("for", duration, &capture->for_ns, error);
	if (r == 0)
		r = read_when(capture, when, error);
	capture->snaplen = (uint32_t)snaplen;
	if (r == 0)
		r = read_expression(capture, query_value(query, "expression"), error);
	capture->id = query_value(query, "id");
	capture->share_with = query_value(query, "share");
	return r;
}

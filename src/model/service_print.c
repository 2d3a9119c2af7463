// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Services as sentences, and changes of them. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "basic/cleanup.h"
#include "basic/text.h"
#include "basic/units.h"
#include "model/service_read.h"

#define NAMED_MAX 8 /* backends that an error names */

#define want(s, ...) (error_want((s)->error, __VA_ARGS__), -EINVAL)

/*
 * Printing
 */

static void put_range(FILE *out, const char *word, const struct port_range *range)
{
	fprintf(out, " %s %u", word, range->low);
	if (range->high != range->low)
		fprintf(out, "-%u", range->high);
}

static void put_duration(FILE *out, const char *word, uint64_t ns)
{
	char text[64];

	fprintf(out, " %s %s", word, duration_print(text, sizeof(text), ns));
}

static void put_head(FILE *out, const struct service_text *service)
{
	const char *name = service->protocol >= 0 ? protocol_name((uint8_t)service->protocol) : NULL;
	char text[ADDRESS_TEXT_MAX];

	fprintf(out, "%s", service->name);
	if (name)
		fprintf(out, " %s", name);
	else if (service->protocol >= 0)
		fprintf(out, " proto %d", service->protocol);
	fprintf(out, " %s", prefix_print(text, sizeof(text), &service->prefix));
	if (!service->any_port)
		put_range(out, "port", &service->ports);
}

static void put_backends(FILE *out, const struct service_text *service)
{
	char text[ADDRESS_TEXT_MAX];

	fputs(" to", out);
	for (size_t i = 0; i < service->backend_count; i++) {
		const struct service_backend_text *backend = &service->backends[i];

		fprintf(out, "%s %s", i ? "," : "", address_print(text, sizeof(text), &backend->address));
		if (backend->port)
			fprintf(out, " port %u", backend->port);
		if (backend->weight != 1)
			fprintf(out, " weight %u", backend->weight);
		if (backend->drain)
			fputs(" drain", out);
	}
}

static void put_deliver(FILE *out, const struct service_text *service)
{
	char first[ADDRESS_TEXT_MAX], last[ADDRESS_TEXT_MAX];

	if (service->deliver != SERVICE_IPIP)
		fprintf(out, " deliver %s", service_delivers[service->deliver]);
	if (service->deliver == SERVICE_GUE && service->gue_port)
		fprintf(out, " port %u", service->gue_port);
	if (service->has_from) {
		fprintf(out, " from %s", address_print(first, sizeof(first), &service->from_first));
		if (address_compare(&service->from_first, &service->from_last) != 0)
			fprintf(out, "-%s", address_print(last, sizeof(last), &service->from_last));
	}
	if (service->from_ports.high)
		put_range(out, "ports", &service->from_ports);
}

static void put_http(FILE *out, const struct service_check *check)
{
	const struct port_range status = {check->status_low, check->status_high};

	if (strcmp(check->path, "/") != 0)
		fprintf(out, " path \"%s\"", check->path);
	if (*check->host)
		fprintf(out, " host %s", check->host);
	if (status.low != SERVICE_CHECK_STATUS_LOW || status.high != SERVICE_CHECK_STATUS_HIGH)
		put_range(out, "status", &status);
}

static void put_check(FILE *out, const struct service_check *check)
{
	uint64_t timeout_ns =
		check->every_ns < SERVICE_CHECK_TIMEOUT_NS ? check->every_ns : SERVICE_CHECK_TIMEOUT_NS;

	if (check->kind == SERVICE_CHECK_NONE)
		return;
	fprintf(out, " check %s", service_checks[check->kind]);
	if (check->kind == SERVICE_CHECK_EXEC)
		fprintf(out, " \"%s\"", check->command);
	if (check->port)
		fprintf(out, " port %u", check->port);
	if (check->direct)
		fputs(" direct", out);
	if (check->kind == SERVICE_CHECK_HTTP || check->kind == SERVICE_CHECK_HTTPS)
		put_http(out, check);
	if (*check->send)
		fprintf(out, " send \"%s\"", check->send);
	if (*check->expect)
		fprintf(out, " expect \"%s\"", check->expect);
	if (check->every_ns != SERVICE_CHECK_EVERY_NS)
		put_duration(out, "every", check->every_ns);
	if (check->timeout_ns != timeout_ns)
		put_duration(out, "timeout", check->timeout_ns);
	if (check->rise != SERVICE_CHECK_RISE)
		fprintf(out, " rise %u", check->rise);
	if (check->fall != SERVICE_CHECK_FALL)
		fprintf(out, " fall %u", check->fall);
}

static void put_options(FILE *out, const struct service_text *service)
{
	put_deliver(out, service);
	if (service->choice != SERVICE_MAGLEV)
		fprintf(out, " choose %s", service_choices[service->choice]);
	if (service->affinity)
		fputs(" affinity source", out);
	if (service->affinity_ns)
		put_duration(out, "for", service->affinity_ns);
	if (service->quic)
		fputs(" quic", out);
	if (service->mss)
		fprintf(out, " mss %u", service->mss);
	if (service->mtu)
		fprintf(out, " mtu %u", service->mtu);
	if (service->slots)
		fprintf(out, " ring %u", service->slots);
	put_check(out, &service->check);
	if (service->closed)
		fputs(" fail closed", out);
	if (service->no_flows)
		fputs(" flows off", out);
	if (*service->comment)
		fprintf(out, " \"%s\"", service->comment);
}

char *service_print(const struct service_text *service)
{
	_cleanup_free_ char *text = NULL;
	size_t length = 0;
	FILE *out = open_memstream(&text, &length);

	if (!out)
		return NULL;
	put_head(out, service);
	put_backends(out, service);
	put_options(out, service);
	return fclose(out) == 0 ? TAKE(text) : NULL;
}

bool service_equal(const struct service_text *a, const struct service_text *b)
{
	_cleanup_free_ char *x = service_print(a), *y = service_print(b);

	return x && y && strcmp(x, y) == 0;
}

/*
 * Changes
 */

enum change_kind { CHANGE_ADD, CHANGE_SET, CHANGE_DRAIN, CHANGE_UNDRAIN, CHANGE_REMOVE };

static const char *const change_names[] = {[CHANGE_ADD] = "add",
	[CHANGE_SET] = "set",
	[CHANGE_DRAIN] = "drain",
	[CHANGE_UNDRAIN] = "undrain",
	[CHANGE_REMOVE] = "remove",
	NULL};

struct change {
	enum change_kind kind;
	struct service_backend_text backend; /* which; of SET with its weight */
	const char *word;                    /* that names it */
};

static int change_kind_read(struct sentence *s, enum change_kind *ret_kind)
{
	const char *word = sentence_take(s), *nearest;

	for (size_t i = 0; word && change_names[i]; i++) {
		if (strcmp(change_names[i], word) == 0) {
			*ret_kind = (enum change_kind)i;
			return 0;
		}
	}
	sentence_expected(s, word, "what becomes of a backend", "add, set, drain, undrain or remove");
	nearest = word ? text_nearest(word, change_names) : NULL;
	return nearest ? want(s, "did you mean '%s'?", nearest) : -EINVAL;
}

/* All but the backend that is added: that becomes one of r->service. */
static int change_read(struct service_reader *r, struct change *change)
{
	const char *word;
	int result = change_kind_read(r->s, &change->kind);

	if (result < 0)
		return result;
	if (change->kind == CHANGE_ADD) {
		result = service_backend_read(r);
	} else {
		result = service_backend_name_read(r, &change->backend, &change->word);
		if (result == 0 && change->kind == CHANGE_SET) {
			word = sentence_take(r->s);
			if (!word || strcmp(word, "weight") != 0)
				return sentence_expected(r->s, word, "'weight'",
					change->backend.port ? "weight N"
							     : "weight N, or port PORT weight N");
			result = service_weight_read(r, &change->backend.weight);
		}
	}
	word = result == 0 ? sentence_peek(r->s) : NULL;
	if (!word)
		return result;
	sentence_fail(r->s, word, "something stands behind the backend");
	return want(r->s, "one backend at a time");
}

static void backend_name_print(char *buffer, size_t size, const struct service_backend_text *backend)
{
	char text[ADDRESS_TEXT_MAX];

	address_print(text, sizeof(text), &backend->address);
	if (backend->port)
		snprintf(buffer, size, "%s port %u", text, backend->port);
	else
		snprintf(buffer, size, "%s", text);
}

/* There is none: those there are, the nearest alone if one is near. */
static int fail_unknown(struct service_reader *r, const struct change *change)
{
	const struct service_text *service = r->service;
	char names[NAMED_MAX][ADDRESS_TEXT_MAX + 16], list[ERROR_TEXT_MAX] = "", wanted[sizeof(names[0])];
	const char *known[NAMED_MAX + 1] = {NULL}, *nearest;
	size_t length = 0;

	for (size_t i = 0; i < service->backend_count && i < NAMED_MAX; i++) {
		backend_name_print(names[i], sizeof(names[i]), &service->backends[i]);
		known[i] = names[i];
		if (length < sizeof(list))
			length += (size_t)snprintf(
				list + length, sizeof(list) - length, "%s%s", i ? ", " : "", names[i]);
	}
	backend_name_print(wanted, sizeof(wanted), &change->backend);
	sentence_fail(r->s, change->word, "service %s has no backend %s", service->name, wanted);
	nearest = text_nearest(wanted, known);
	if (nearest)
		return want(r->s, "did you mean %s?", nearest);
	return service->backend_count > NAMED_MAX
	               ? want(r->s, "%.160s and %zu more", list, service->backend_count - NAMED_MAX)
	               : want(r->s, "%.200s", list);
}

/* Which backend is meant. */
static int backend_find(struct service_reader *r, const struct change *change, size_t *ret_index)
{
	const struct service_text *service = r->service;
	uint16_t port =
		service->any_port || service->ports.low != service->ports.high ? 0 : service->ports.low;
	uint16_t asked = change->backend.port == port ? 0 : change->backend.port;
	size_t found = SIZE_MAX, count = 0;

	for (size_t i = 0; i < service->backend_count; i++) {
		const struct service_backend_text *backend = &service->backends[i];

		if (address_compare(&backend->address, &change->backend.address) != 0 ||
			(change->backend.port && backend->port != asked))
			continue;
		found = i;
		count++;
	}
	if (!count)
		return fail_unknown(r, change);
	if (count > 1) {
		sentence_fail(
			r->s, change->word, "%s has %zu backends with this address", service->name, count);
		return want(r->s, "%s %s port PORT", change_names[change->kind], change->word);
	}
	*ret_index = found;
	return 0;
}

static int change_make(struct service_reader *r, const struct change *change)
{
	struct service_text *service = r->service;
	struct service_backend_text *backends = service->backends;
	size_t i = 0;
	int result = backend_find(r, change, &i);

	if (result < 0)
		return result;
	switch (change->kind) {
	case CHANGE_SET:
		backends[i].weight = change->backend.weight;
		return 0;
	case CHANGE_DRAIN:
	case CHANGE_UNDRAIN:
		backends[i].drain = change->kind == CHANGE_DRAIN;
		return 0;
	default:
		break;
	}
	if (service->backend_count == 1) {
		sentence_fail(r->s, change->word, "the only backend of %s", service->name);
		return want(r->s, "add another one first, or delete the service");
	}
	service->backend_count--;
	memmove(&backends[i], &backends[i + 1], (service->backend_count - i) * sizeof(*backends));
	return 0;
}

static int change_apply(struct service_reader *r)
{
	struct change change = {};
	int result = change_read(r, &change);

	if (result == 0 && change.kind != CHANGE_ADD)
		result = change_make(r, &change);
	return result < 0 ? result : service_verify(r);
}

int service_change(const struct service_text *service, const char *change, struct service_text **ret_service,
	struct error *error)
{
	_cleanup_(service_freep) struct service_text *changed = NULL;
	struct sentence s;
	struct service_reader reader = {.s = &s};
	int r = sentence_begin(&s, change, error);

	if (r < 0)
		return r;
	changed = service_copy(service);
	if (!changed)
		return error_set(error, -ENOMEM, "out of memory");
	reader.service = changed;
	r = change_apply(&reader);
	free(reader.backend_words);
	if (r < 0)
		return r;
	service_settle(changed);
	*ret_service = TAKE(changed);
	return 0;
}

int service_change_check(const char *text, struct error *error)
{
	struct service_text service;
	struct sentence s;
	struct service_reader reader = {.s = &s, .service = &service};
	struct change change = {};
	int r = sentence_begin(&s, text, error);

	service_init(&service);
	if (r == 0)
		r = change_read(&reader, &change);
	free(reader.backend_words);
	free(service.backends);
	return r;
}

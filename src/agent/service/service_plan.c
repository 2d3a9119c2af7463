// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* From a book of rules to its services, and whether they can be. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/service/services_internal.h"
#include "basic/cleanup.h"

void service_plan_clear(struct service_plan *plan)
{
	for (size_t i = 0; i < plan->count; i++)
		free(plan->entries[i].backends);
	free(plan->entries);
	*plan = (struct service_plan){};
}

int service_plan_make(const struct rulebook *book, struct service_plan *ret_plan)
{
	const struct rule_list *list = book && book->count ? &book->policies[0].list : NULL;
	struct service_plan plan = {};

	plan.entries =
		calloc((list ? rule_list_count(list, RULE_ON_SERVICES) : 0) + 1, sizeof(*plan.entries));
	if (!plan.entries)
		return -ENOMEM;
	for (size_t i = 0; list && i < list->count; i++) {
		const struct rule_entry *entry = list->slots[i].entry;
		struct service_plan_entry *to = &plan.entries[plan.count];

		if (rule_kind(&entry->rule) != RULE_ON_SERVICES)
			continue;
		*to = (struct service_plan_entry){.entry = entry, .text = entry->rule.service};
		to->backends = calloc(to->text->backend_count + 1, sizeof(*to->backends));
		if (!to->backends) {
			service_plan_clear(&plan);
			return -ENOMEM;
		}
		plan.count++;
	}
	*ret_plan = plan;
	return 0;
}

/* -- what cannot be -- */

static int names_check(const struct service_plan *plan, struct error *error)
{
	for (size_t i = 0; i < plan->count; i++)
		for (size_t j = 0; j < i; j++)
			if (strcmp(plan->entries[i].text->name, plan->entries[j].text->name) == 0) {
				error_set(error, -EINVAL, "there is a service %s already",
					plan->entries[i].text->name);
				return error_want(
					error, "another name, or 'weir backend' to change its backends");
			}
	return 0;
}

static int sizes_check(const struct service_plan *plan, struct error *error)
{
	size_t backends = 0;

	for (size_t i = 0; i < plan->count; i++)
		backends += plan->entries[i].text->backend_count;
	if (plan->count < SERVICES_MAX && backends < SERVICE_BACKENDS_MAX)
		return 0;
	error_set(error, -ENOSPC, "too many services or backends: %zu and %zu", plan->count, backends);
	return error_want(
		error, "at most %d services and %d backends", SERVICES_MAX - 1, SERVICE_BACKENDS_MAX - 1);
}

int service_plan_check(const struct service_plan *plan, struct error *error)
{
	struct service_image image = {};
	struct service_input *inputs;
	int r = sizes_check(plan, error);

	if (r == 0)
		r = names_check(plan, error);
	if (r < 0)
		return r;
	inputs = calloc(plan->count + 1, sizeof(*inputs));
	if (!inputs)
		return error_set(error, -ENOMEM, "out of memory");
	for (size_t i = 0; i < plan->count; i++)
		inputs[i] = (struct service_input){.text = plan->entries[i].text, .number = (uint32_t)i + 1};
	r = service_compile(inputs, plan->count, NULL, 0, 1, &image, error);
	free(inputs);
	free(image.units);
	return r;
}

/* -- numbers -- */

static uint32_t number_of(const struct services *services, const char *name)
{
	for (uint32_t i = 1; i < SERVICES_MAX; i++)
		if (strcmp(services->live[i].name, name) == 0)
			return i;
	return 0;
}

static bool backend_is(
	const struct service_backend_live *live, uint32_t service, const struct service_backend_text *text)
{
	return live->service == service && live->port == text->port &&
	       address_compare(&live->address, &text->address) == 0;
}

/* The backends of a service, by number, once through all. */
static void backends_number(struct services *services, struct service_plan_entry *entry)
{
	const struct service_text *text = entry->text;

	for (uint32_t i = 1; i < SERVICE_BACKENDS_MAX; i++) {
		const struct service_backend_live *live = services->backends[i];

		if (!live || live->service != entry->number)
			continue;
		for (size_t j = 0; j < text->backend_count; j++)
			if (backend_is(live, entry->number, &text->backends[j]))
				entry->backends[j] = (uint16_t)i;
	}
}

/* -- states -- */

static bool backend_is_down(
	const struct services *services, const struct service_plan_entry *entry, size_t backend)
{
	const struct service_backend_live *live =
		services->backends ? services->backends[entry->backends[backend]] : NULL;

	return live && live->down && entry->text->check.kind != SERVICE_CHECK_NONE;
}

/* Is there none that a check has not found down?  Those that drain, or have no weight, do not count. */
static bool entry_is_failing(const struct services *services, const struct service_plan_entry *entry)
{
	size_t wanted = 0;

	for (size_t i = 0; i < entry->text->backend_count; i++) {
		const struct service_backend_text *backend = &entry->text->backends[i];

		if (backend->drain || !backend->weight)
			continue;
		wanted++;
		if (!backend_is_down(services, entry, i))
			return false;
	}
	return wanted > 0;
}

void service_plan_number(struct services *services, struct service_plan *plan)
{
	for (size_t i = 0; services->live && i < plan->count; i++) {
		struct service_plan_entry *entry = &plan->entries[i];

		entry->number = number_of(services, entry->text->name);
		if (entry->number)
			backends_number(services, entry);
		entry->failing = entry_is_failing(services, entry);
	}
}

enum service_backend_state service_plan_state(
	const struct services *services, const struct service_plan_entry *entry, size_t backend)
{
	bool all = entry->failing && !entry->text->closed; /* count as up, since none is */

	if (backend_is_down(services, entry, backend) && !all)
		return SERVICE_BACKEND_DOWN;
	return entry->text->backends[backend].drain ? SERVICE_BACKEND_DRAINING : SERVICE_BACKEND_UP;
}

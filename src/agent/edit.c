// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "agent/edit.h"

#include <errno.h>
#include <event2/buffer.h>
#include <stdlib.h>

void edit_clear(struct edit *edit)
{
	rulebook_clear(&edit->next);
	rule_entry_release(edit->entry);
	free(edit->text);
}

int edit_begin(struct edit *edit, const char *const *parameters, struct error *error)
{
	const char *query = query_of(edit->request);
	int r = query_check(query, parameters, error);

	if (r == 0)
		r = rules_change_read(query, &edit->change, error);
	if (r == 0 && rulebook_copy(rules_book(edit->agent), &edit->next) < 0)
		r = error_set(error, -ENOMEM, "out of memory");
	return r;
}

int edit_read_text(struct edit *edit, const char *example, struct error *error)
{
	struct evbuffer *body = evhttp_request_get_input_buffer(edit->request);
	size_t length = evbuffer_get_length(body);

	edit->text = length ? malloc(length + 1) : query_value(query_of(edit->request), "text");
	if (!edit->text) {
		error_set(error, -EINVAL, "parameter 'text' is missing");
		return error_want(error, "%s", example);
	}
	if (length) {
		evbuffer_copyout(body, edit->text, length);
		edit->text[length] = '\0';
		while (length && (edit->text[length - 1] == '\n' || edit->text[length - 1] == '\r'))
			edit->text[--length] = '\0';
	}
	return 0;
}

void edit_use(struct edit *edit, struct rule_policy *policy, size_t place)
{
	edit->policy = policy;
	edit->place = place;
	edit->entry = policy->list.slots[place].entry;
	edit->was_live = policy->list.slots[place].live;
	edit->entry->users++;
}

int edit_make(struct edit *edit, const char *sentence, struct error *error)
{
	edit->entry = rule_entry_new(rules_places(edit->agent), sentence, error);
	return edit->entry ? 0 : error->code;
}

int edit_insert(struct edit *edit, struct rule_policy *policy, size_t place, bool live, struct error *error)
{
	edit->entry->users++;
	if (rule_list_insert(&policy->list, place, edit->entry, live) < 0)
		return error_set(error, -ENOMEM, "out of memory");
	return 0;
}

int edit_change(struct edit *edit, const char *text, struct error *error)
{
	struct rule_slot *slot = &edit->policy->list.slots[edit->place];
	struct rule_entry *changed = rule_entry_change(edit->entry, text, error);

	if (!changed)
		return error->code;
	rule_entry_release(slot->entry);
	slot->entry = changed;
	return 0;
}

void edit_remove(struct edit *edit)
{
	rule_list_remove(&edit->policy->list, edit->place);
}

int edit_commit(struct edit *edit, struct error *error)
{
	return rules_commit(edit->agent, &edit->next, &edit->change, error);
}

void edit_warn_of_file(const struct edit *edit, struct json_write *out, const char *what)
{
	if (!edit->was_live && !rules_book(edit->agent)->applied)
		json_write_string(out, NULL, what);
}

void edit_reply_deleted(const struct edit *edit)
{
	struct json_write json = {};

	json_write_object_begin(&json, NULL);
	json_write_array_begin(&json, "deleted");
	json_write_object_begin(&json, NULL);
	json_write_number(&json, "id", edit->entry->id);
	json_write_string(&json, "text", edit->entry->text);
	json_write_object_end(&json);
	json_write_array_end(&json);
	json_write_array_begin(&json, "warnings");
	edit_warn_of_file(
		edit, &json, "the configuration file has it: it will be back when the file is read again");
	json_write_array_end(&json);
	rules_write_pending(edit->agent, &json);
	json_write_object_end(&json);
	reply_json(edit->request, HTTP_OK, "OK", &json);
	json_write_free(&json);
}

// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Any bytes as a list of a set: what is read is printed as entries that read as the same; with bad lines
 * skipped, the good ones are the same as one by one. */
#include <stdlib.h>
#include <string.h>

#include "fuzz/fuzz.h"
#include "model/set.h"

static int same_check(void *context, const struct set_entry *entry)
{
	const struct set_entry *before = context;

	REQUIRE(entry->kind == before->kind);
	if (entry->kind == SET_PORTS)
		REQUIRE(entry->ports.low == before->ports.low && entry->ports.high == before->ports.high);
	else
		REQUIRE(memcmp(&entry->prefix, &before->prefix, sizeof(entry->prefix)) == 0);
	return 0;
}

static int entry_check(void *context, const struct set_entry *entry)
{
	size_t *count = context;
	char text[2 * ADDRESS_TEXT_MAX];

	++*count;
	REQUIRE(entry->kind == SET_PORTS ? entry->ports.low <= entry->ports.high
					 : prefix_contains(&entry->prefix, &entry->prefix.address));
	REQUIRE(set_entry_print(entry, text, sizeof(text)) == 0);
	REQUIRE(set_entry_parse(text, same_check, (void *)entry, NULL) == 0);
	return 0;
}

struct pieces {
	const char *text;
	size_t length;
};

/* By sevens: lines end in the middle of a piece, and between two. */
static ssize_t piece_take(void *from, char *buffer, size_t size)
{
	struct pieces *pieces = from;
	size_t length = pieces->length < 7 ? pieces->length : 7;

	REQUIRE(size);
	length = length < size ? length : size;
	memcpy(buffer, pieces->text, length);
	pieces->text += length;
	pieces->length -= length;
	return (ssize_t)length;
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	size_t strict = 0, lenient = 0, pieced = 0, bad = 0, pieced_bad = 0;
	struct pieces pieces;
	struct error error = {0};
	char *text = malloc(size + 1);
	int r;

	if (!text)
		return 0;
	memcpy(text, input, size);
	text[size] = '\0';
	r = set_list_parse(text, size, "list", false, entry_check, &strict, NULL, &error);
	REQUIRE(set_list_parse(text, size, "list", true, entry_check, &lenient, &bad, NULL) == 0);
	REQUIRE((r == 0) == (bad == 0));
	REQUIRE(r < 0 ? lenient >= strict && error.what[0] && error.line : lenient == strict);
	pieces = (struct pieces){text, size};
	REQUIRE(set_list_stream(piece_take, &pieces, "list", true, entry_check, &pieced, &pieced_bad, NULL) ==
		0);
	REQUIRE(pieced == lenient && pieced_bad == bad);
	set_name_check(text, &error);
	free(text);
	return 0;
}

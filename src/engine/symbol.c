// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "engine/symbol.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "basic/cleanup.h"

#define LINE_MAX_BYTES 640        /* KSYM_NAME_LEN is 512 */
#define FUNCTION_MAX   (1U << 20) /* an address further behind the last symbol lies in none */
#define PADDING_PREFIX "__pfx_"   /* the room in front of a function, where nothing calls from */

/* Sixty thousand of them: twelve bytes and the name each. */
struct symbol {
	uint32_t address_low; /* two words, so that there is no padding */
	uint32_t address_high;
	uint32_t name; /* offset in the names */
};

struct symbols {
	struct symbol *symbols;
	size_t count, room;
	char *names;
	size_t names_length, names_room;
	FILE *file;
	pthread_t reader;
	bool reading; /* the rest is the reader's */
};

static uint64_t address_of(const struct symbol *symbol)
{
	return (uint64_t)symbol->address_high << 32 | symbol->address_low;
}

/* In the order of the file where addresses are equal: the first of several names is the function's own. */
static int compare(const void *left, const void *right)
{
	const struct symbol *a = left, *b = right;
	uint64_t address_a = address_of(a), address_b = address_of(b);

	if (address_a != address_b)
		return address_a < address_b ? -1 : 1;
	return (a->name > b->name) - (a->name < b->name);
}

static int symbol_add(struct symbols *symbols, uint64_t address, const char *name)
{
	size_t length = strlen(name) + 1;

	if (symbols->count == symbols->room) {
		size_t room = symbols->room ? symbols->room * 2 : 1024;
		struct symbol *larger = reallocarray(symbols->symbols, room, sizeof(*larger));

		if (!larger)
			return -ENOMEM;
		symbols->symbols = larger;
		symbols->room = room;
	}
	if (symbols->names_length + length > symbols->names_room) {
		size_t room = symbols->names_room ? symbols->names_room * 2 : 65536;
		char *larger = room <= UINT32_MAX ? realloc(symbols->names, room) : NULL;

		if (!larger)
			return -ENOMEM;
		symbols->names = larger;
		symbols->names_room = room;
	}
	symbols->symbols[symbols->count++] = (struct symbol){
		(uint32_t)address, (uint32_t)(address >> 32), (uint32_t)symbols->names_length};
	memcpy(symbols->names + symbols->names_length, name, length);
	symbols->names_length += length;
	return 0;
}

/* "ffffffff81e2b2f0 t nft_do_chain	[nf_tables]" */
static int line_read(struct symbols *symbols, char *line)
{
	char *rest, *name, *module;
	uint64_t address = strtoull(line, &rest, 16);

	if (!address || rest[0] != ' ' || !rest[1] || !strchr("tTwW", rest[1]) || rest[2] != ' ')
		return 0;
	name = rest + 3;
	name[strcspn(name, "\n")] = '\0';
	if (strncmp(name, PADDING_PREFIX, strlen(PADDING_PREFIX)) == 0)
		return 0;
	module = strchr(name, '\t');
	if (module)
		*module = ' ';
	return symbol_add(symbols, address, name);
}

static void *reader_run(void *context)
{
	struct symbols *symbols = context;
	struct symbol *fitting;
	char line[LINE_MAX_BYTES], *names;

	/* on Linux of this thread alone: what takes so long does not go before the host's own work */
	setpriority(PRIO_PROCESS, 0, 0);
	/* what memory there is for has to do */
	while (fgets(line, sizeof(line), symbols->file) && line_read(symbols, line) == 0)
		;
	fclose(TAKE(symbols->file));
	if (!symbols->count)
		return NULL;
	qsort(symbols->symbols, symbols->count, sizeof(*symbols->symbols), compare);
	fitting = reallocarray(symbols->symbols, symbols->count, sizeof(*fitting));
	names = realloc(symbols->names, symbols->names_length);
	symbols->symbols = fitting ? fitting : symbols->symbols;
	symbols->names = names ? names : symbols->names;
	return NULL;
}

static void reader_wait(struct symbols *symbols)
{
	if (symbols->reading)
		pthread_join(symbols->reader, NULL);
	symbols->reading = false;
}

int symbols_open(FILE *file, struct symbols **ret_symbols)
{
	struct symbols *symbols = calloc(1, sizeof(*symbols));

	if (!symbols) {
		fclose(file);
		return -ENOMEM;
	}
	symbols->file = file;
	*ret_symbols = symbols;
	return 0;
}

void symbols_read(struct symbols *symbols)
{
	sigset_t all, before;

	if (!symbols || symbols->reading || !symbols->file)
		return;
	/* signals are the event loop's */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	symbols->reading = pthread_create(&symbols->reader, NULL, reader_run, symbols) == 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void symbols_free(struct symbols *symbols)
{
	if (!symbols)
		return;
	reader_wait(symbols);
	if (symbols->file)
		fclose(symbols->file);
	free(symbols->symbols);
	free(symbols->names);
	free(symbols);
}

char *symbols_place(struct symbols *symbols, uint64_t address, char *buffer, size_t size)
{
	const char *name, *module;
	size_t low = 0, high;
	uint64_t start;

	symbols_read(symbols);
	reader_wait(symbols);
	high = symbols->count;
	/* the last symbol in front of the address: a call may be the last instruction of its function */
	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (address_of(&symbols->symbols[middle]) < address)
			low = middle + 1;
		else
			high = middle;
	}
	start = low ? address_of(&symbols->symbols[low - 1]) : 0;
	if (!low || address - start > FUNCTION_MAX) {
		snprintf(buffer, size, "unknown");
		return buffer;
	}
	while (low > 1 && address_of(&symbols->symbols[low - 2]) == start)
		low--;
	name = symbols->names + symbols->symbols[low - 1].name;
	module = strchr(name, ' ');
	snprintf(buffer, size, "%.*s+0x%" PRIx64 "%s", module ? (int)(module - name) : (int)strlen(name),
		name, address - start, module ? module : "");
	return buffer;
}

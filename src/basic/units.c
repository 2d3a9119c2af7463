/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "basic/units.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define FRACTION_DIGITS_MAX 18

#define KIB (1ULL << 10)
#define MIB (1ULL << 20)
#define GIB (1ULL << 30)
#define TIB (1ULL << 40)

#define US 1000ULL
#define MS (1000 * US)
#define S  (1000 * MS)
#define M  (60 * S)
#define H  (60 * M)
#define D  (24 * H)

struct unit {
	const char *name;
	uint64_t factor;
};

/* Descending: the first that divides a size without a rest prints it shortest. */
static const struct unit size_units[] = {
	{"tib", TIB},
	{"tb", 1000000000000},
	{"gib", GIB},
	{"gb", 1000000000},
	{"mib", MIB},
	{"mb", 1000000},
	{"kib", KIB},
	{"kb", 1000},
	{"b", 1},
	{"", 1},
	{NULL},
};

static const struct unit rate_units[] = {
	{"tbit", 1000000000000},
	{"gbit", 1000000000},
	{"mbit", 1000000},
	{"kbit", 1000},
	{"bit", 1},
	{"tbit/s", 1000000000000},
	{"gbit/s", 1000000000},
	{"mbit/s", 1000000},
	{"kbit/s", 1000},
	{"bit/s", 1},
	{"", 1},
	{NULL},
};

/* Descending: a sum names each unit at most once, the largest first. */
static const struct unit duration_units[] = {
	{"d", D},
	{"h", H},
	{"m", M},
	{"s", S},
	{"ms", MS},
	{"us", US},
	{"ns", 1},
	{NULL},
};

/* A decimal number as it was written: whole + fraction / scale. */
struct decimal {
	uint64_t whole, fraction, scale;
	bool too_large; /* the whole part does not fit */
};

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Reads a number from *text and moves behind it. */
static int decimal_read(const char **text, struct decimal *ret_decimal)
{
	struct decimal decimal = {.scale = 1};
	const char *p = *text;
	size_t digits;

	if (!is_digit(*p))
		return -EINVAL;
	for (; is_digit(*p); p++) {
		if (__builtin_mul_overflow(decimal.whole, 10, &decimal.whole) ||
			__builtin_add_overflow(decimal.whole, (uint64_t)(*p - '0'), &decimal.whole))
			decimal.too_large = true;
	}

	if (*p == '.') {
		p++;
		digits = strspn(p, "0123456789");
		if (!digits)
			return -EINVAL;
		*text = p + digits;
		while (digits && p[digits - 1] == '0')
			digits--;
		/* More digits than that are never a whole number of the base unit that somebody meant. */
		if (digits > FRACTION_DIGITS_MAX)
			return -EINVAL;
		for (size_t i = 0; i < digits; i++) {
			decimal.fraction = decimal.fraction * 10 + (uint64_t)(p[i] - '0');
			decimal.scale *= 10;
		}
	} else {
		*text = p;
	}
	*ret_decimal = decimal;
	return 0;
}

/* decimal * factor, where that is a whole number.  -EINVAL comes before -ERANGE: nonsense is not "too large".
 */
static int decimal_scale(const struct decimal *decimal, uint64_t factor, uint64_t *ret_value)
{
	unsigned __int128 fraction = (unsigned __int128)decimal->fraction * factor;
	uint64_t value;

	if (fraction % decimal->scale)
		return -EINVAL;
	if (decimal->too_large || __builtin_mul_overflow(decimal->whole, factor, &value) ||
		__builtin_add_overflow(value, (uint64_t)(fraction / decimal->scale), &value))
		return -ERANGE;
	*ret_value = value;
	return 0;
}

static const struct unit *unit_find(const struct unit *units, const char *name, size_t length)
{
	for (; units->name; units++) {
		if (strlen(units->name) == length && strncasecmp(units->name, name, length) == 0)
			return units;
	}
	return NULL;
}

/* One number with one unit. */
static int number_parse(const char *text, const struct unit *units, uint64_t *ret_value)
{
	const struct unit *unit;
	struct decimal decimal;
	int r;

	r = decimal_read(&text, &decimal);
	if (r < 0)
		return r;
	unit = unit_find(units, text, strlen(text));
	if (!unit)
		return -EINVAL;
	return decimal_scale(&decimal, unit->factor, ret_value);
}

int size_parse(const char *text, uint64_t *ret_bytes)
{
	return number_parse(text, size_units, ret_bytes);
}

int rate_parse(const char *text, uint64_t *ret_bps)
{
	return number_parse(text, rate_units, ret_bps);
}

int duration_parse(const char *text, uint64_t *ret_ns)
{
	const struct unit *units = duration_units, *unit;
	struct decimal decimal;
	uint64_t sum = 0, part;
	bool too_large = false, first = true;
	size_t length;
	int r;

	do {
		r = decimal_read(&text, &decimal);
		if (r < 0)
			return r;
		for (length = 0; text[length] && !is_digit(text[length]);)
			length++;

		if (first && !length)
			unit = unit_find(duration_units, "s", 1);
		else
			unit = unit_find(units, text, length);
		if (!unit)
			return -EINVAL;
		units = unit + 1;
		text += length;
		first = false;

		r = decimal_scale(&decimal, unit->factor, &part);
		if (r == -EINVAL)
			return r;
		if (r < 0 || __builtin_add_overflow(sum, part, &sum))
			too_large = true;
	} while (*text);

	if (too_large)
		return -ERANGE;
	*ret_ns = sum;
	return 0;
}

/* "12.3 MB": one decimal, rounded, in the largest prefix that leaves at least 1. */
static char *scaled_format(
	char *buffer, size_t size, uint64_t value, enum units units, const char *base, const char *separator)
{
	static const char *const prefixes[][7] = {
		[UNITS_SI] = {"", "k", "M", "G", "T", "P", "E"},
		[UNITS_IEC] = {"", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"},
	};
	unsigned int step = units == UNITS_IEC ? 1024 : 1000, i = 0;
	unsigned __int128 tenths, divisor = 1;

	if (units == UNITS_EXACT) {
		snprintf(buffer, size, "%" PRIu64, value);
		return buffer;
	}
	if (value < step) {
		snprintf(buffer, size, "%" PRIu64 "%s%s", value, separator, base);
		return buffer;
	}
	do {
		divisor *= step;
		i++;
		tenths = ((unsigned __int128)value * 10 + divisor / 2) / divisor;
	} while (tenths >= (unsigned __int128)step * 10 && i < 6); /* 999,960 is 1.0 M, not 1000.0 k */

	snprintf(buffer, size, "%u.%u %s%s", (unsigned int)(tenths / 10), (unsigned int)(tenths % 10),
		prefixes[units][i], base);
	return buffer;
}

char *size_format(char *buffer, size_t size, uint64_t bytes, enum units units)
{
	return scaled_format(buffer, size, bytes, units, "B", " ");
}

char *rate_format(char *buffer, size_t size, uint64_t bps, enum units units)
{
	return scaled_format(buffer, size, bps, units, "bit/s", " ");
}

char *count_format(char *buffer, size_t size, uint64_t count, enum units units)
{
	return scaled_format(buffer, size, count, units, "", "");
}

char *duration_format(char *buffer, size_t size, uint64_t ns)
{
	const struct unit *unit = duration_units;
	uint64_t larger, smaller;

	if (!ns) {
		snprintf(buffer, size, "0s");
		return buffer;
	}
	while (ns < unit->factor)
		unit++;
	larger = ns / unit->factor;

	if (unit->factor > S) {
		smaller = ns % unit->factor / unit[1].factor;
		if (smaller)
			snprintf(buffer, size, "%" PRIu64 "%s%" PRIu64 "%s", larger, unit->name, smaller,
				unit[1].name);
		else
			snprintf(buffer, size, "%" PRIu64 "%s", larger, unit->name);
		return buffer;
	}

	smaller = unit->factor == S ? ns % S / (S / 10) : 0;
	if (smaller)
		snprintf(buffer, size, "%" PRIu64 ".%" PRIu64 "s", larger, smaller);
	else
		snprintf(buffer, size, "%" PRIu64 "%s", larger, unit->name);
	return buffer;
}

char *duration_print(char *buffer, size_t size, uint64_t ns)
{
	char text[64]; /* the longest sum, 213503d23h34m33s709ms551us615ns, has 31 */
	size_t length = 0;

	if (!ns)
		length += (size_t)snprintf(text, sizeof(text), "0s");
	for (const struct unit *unit = duration_units; unit->name && ns; unit++) {
		if (ns >= unit->factor)
			length += (size_t)snprintf(text + length, sizeof(text) - length, "%" PRIu64 "%s",
				ns / unit->factor, unit->name);
		ns %= unit->factor;
	}
	snprintf(buffer, size, "%.*s", (int)length, text);
	return buffer;
}

char *rate_print(char *buffer, size_t size, uint64_t bps)
{
	static const struct unit units[] = {
		{"gbit", 1000000000}, {"mbit", 1000000}, {"kbit", 1000}, {"bit", 1}};
	const struct unit *unit = units;

	while (unit->factor > 1 && (!bps || bps % unit->factor))
		unit++;
	snprintf(buffer, size, "%" PRIu64 "%s", bps / unit->factor, unit->name);
	return buffer;
}

char *size_print(char *buffer, size_t size, uint64_t bytes)
{
	const struct unit *unit = size_units;

	while (unit->factor > 1 && (!bytes || bytes % unit->factor))
		unit++;
	snprintf(buffer, size, "%" PRIu64 "%s", bytes / unit->factor, unit->factor > 1 ? unit->name : "");
	return buffer;
}

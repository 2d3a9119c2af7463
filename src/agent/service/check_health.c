// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "agent/service/check_health.h"

#include <errno.h>
#include <string.h>

#define STATUS_MIN 100 /* RFC 9110 */
#define STATUS_MAX 599

bool check_health_take(struct check_health *health, bool passed, uint32_t rise, uint32_t fall)
{
	if (passed == health->up) {
		health->row = 0;
		return false;
	}
	if (++health->row < (health->up ? fall : rise))
		return false;
	health->row = 0;
	health->up = passed;
	return true;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

int check_status_read(const char *bytes, size_t size)
{
	/* "HTTP/1.1 200" and a space or the line's end behind it */
	static const char version[] = "HTTP/1.";
	const size_t head = sizeof(version) - 1;
	int status;

	if (memcmp(bytes, version, size < head ? size : head) != 0)
		return -EBADMSG;
	if (size > head && !is_digit(bytes[head]))
		return -EBADMSG;
	if (size > head + 1 && bytes[head + 1] != ' ')
		return -EBADMSG;
	for (size_t i = head + 2; i < head + 5 && i < size; i++)
		if (!is_digit(bytes[i]))
			return -EBADMSG;
	if (size < head + 6)
		return 0;
	if (bytes[head + 5] != ' ' && bytes[head + 5] != '\r' && bytes[head + 5] != '\n')
		return -EBADMSG;
	status = (bytes[head + 2] - '0') * 100 + (bytes[head + 3] - '0') * 10 + (bytes[head + 4] - '0');
	return status >= STATUS_MIN && status <= STATUS_MAX ? status : -EBADMSG;
}

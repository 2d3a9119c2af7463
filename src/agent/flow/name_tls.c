// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* RFC 8446, 4.1.2 and 5.1; RFC 6066, 3. */
#include <errno.h>
#include <string.h>

#include "agent/flow/name.h"

#define RECORD_HANDSHAKE    22
#define RECORD_HEADER_BYTES 5
#define MESSAGE_HEADER      4
#define CLIENT_HELLO        1
#define EXTENSION_NAME      0
#define NAME_TYPE_HOST      0
#define HELLO_BYTES_MAX     8192 /* of a message that is looked at */

/* The bytes of a message that are there, and how far they have been read. */
struct reader {
	const uint8_t *bytes;
	size_t length, at;
};

static bool take_number(struct reader *r, unsigned int bytes, size_t *ret_number)
{
	size_t number = 0;

	if (r->length - r->at < bytes)
		return false;
	for (unsigned int i = 0; i < bytes; i++)
		number = number << 8 | r->bytes[r->at++];
	*ret_number = number;
	return true;
}

static bool skip(struct reader *r, size_t bytes)
{
	if (r->length - r->at < bytes)
		return false;
	r->at += bytes;
	return true;
}

/* A vector: its length in `bytes` bytes, then so much. */
static bool skip_vector(struct reader *r, unsigned int bytes)
{
	size_t length;

	return take_number(r, bytes, &length) && skip(r, length);
}

/* Puts the handshake bytes of one or more records together.  Returns how many there are; -EPROTO. */
static int gather(const uint8_t *bytes, size_t length, uint8_t message[HELLO_BYTES_MAX], size_t *ret_length)
{
	size_t at = 0, gathered = 0;

	while (length - at >= RECORD_HEADER_BYTES && gathered < HELLO_BYTES_MAX) {
		size_t part = (size_t)bytes[at + 3] << 8 | bytes[at + 4];

		if (bytes[at] != RECORD_HANDSHAKE || bytes[at + 1] != 3 || !part) {
			/* what comes behind a whole message is not ours to read */
			if (gathered < MESSAGE_HEADER)
				return -EPROTO;
			break;
		}
		at += RECORD_HEADER_BYTES;
		if (part > length - at)
			part = length - at;
		if (part > HELLO_BYTES_MAX - gathered)
			part = HELLO_BYTES_MAX - gathered;
		memcpy(message + gathered, bytes + at, part);
		gathered += part;
		at += part;
	}
	*ret_length = gathered;
	return 0;
}

/* The list of names in the extension: the first of type host name.  A name that is none counts as not there.
 */
static int read_names(struct reader *r, char ret_name[NAME_TEXT_MAX])
{
	size_t list, type, length;

	*ret_name = '\0';
	if (!take_number(r, 2, &list))
		return -EAGAIN;
	for (size_t end = r->at + list; r->at < end;) {
		if (!take_number(r, 1, &type) || !take_number(r, 2, &length) || r->length - r->at < length)
			return -EAGAIN;
		if (type == NAME_TYPE_HOST) {
			name_text_read((const char *)r->bytes + r->at, length, ret_name);
			return 0;
		}
		skip(r, length);
	}
	return 0;
}

/* -EAGAIN where the bytes end: whether the message does too, the caller knows. */
static int read_hello(struct reader *r, char ret_name[NAME_TEXT_MAX])
{
	size_t extensions, type, length;

	if (!skip(r, 2 + 32) ||       /* version, random */
		!skip_vector(r, 1) || /* session */
		!skip_vector(r, 2) || /* cipher suites */
		!skip_vector(r, 1) || /* compression */
		!take_number(r, 2, &extensions))
		return -EAGAIN;
	for (size_t end = r->at + extensions; r->at < end;) {
		if (!take_number(r, 2, &type) || !take_number(r, 2, &length))
			return -EAGAIN;
		if (type == EXTENSION_NAME) {
			struct reader inside = {r->bytes, r->length, r->at};

			if (inside.length > r->at + length)
				inside.length = r->at + length;
			return read_names(&inside, ret_name);
		}
		if (!skip(r, length))
			return -EAGAIN;
	}
	*ret_name = '\0';
	return 0;
}

int name_tls_read(const uint8_t *bytes, size_t length, char ret_name[NAME_TEXT_MAX])
{
	uint8_t message[HELLO_BYTES_MAX];
	struct reader r = {.bytes = message};
	size_t type, hello, gathered = 0;
	char name[NAME_TEXT_MAX];
	int result;

	if (!length || bytes[0] != RECORD_HANDSHAKE || (length > 1 && bytes[1] != 3) ||
		gather(bytes, length, message, &gathered) < 0)
		return -EPROTO;
	r.length = gathered;
	if (gathered && message[0] != CLIENT_HELLO)
		return -EPROTO;
	if (!take_number(&r, 1, &type) || !take_number(&r, 3, &hello))
		return -EAGAIN;
	if (r.length > MESSAGE_HEADER + hello)
		r.length = MESSAGE_HEADER + hello;
	result = read_hello(&r, name);
	if (result == -EAGAIN && r.length == MESSAGE_HEADER + hello) {
		/* all of it is there.  A hello without extensions is one of old; else lengths lie */
		if (r.at != r.length)
			return -EPROTO;
		name[0] = '\0';
		result = 0;
	}
	if (result == 0)
		memcpy(ret_name, name, sizeof(name));
	return result;
}

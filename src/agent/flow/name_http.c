// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* RFC 9112, 3: the request line and the Host field. */
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "agent/flow/name.h"

#define METHOD_MAX  20
#define H2C_PREFACE "PRI * HTTP/2.0\r\n"

struct text {
	const char *at;
	size_t length;
};

static struct text text_until(struct text text, const char *ends)
{
	size_t length = 0;

	while (length < text.length && !strchr(ends, text.at[length]))
		length++;
	return (struct text){text.at, length};
}

static struct text text_behind(struct text text, size_t bytes)
{
	return (struct text){text.at + bytes, text.length - bytes};
}

static bool starts_with(struct text text, const char *word)
{
	size_t length = strlen(word);

	return text.length >= length && strncasecmp(text.at, word, length) == 0;
}

/* HOST, HOST:PORT, USER@HOST:PORT; an address of IPv6 stands in brackets. */
static void read_authority(struct text authority, char ret_name[NAME_TEXT_MAX])
{
	struct text user = text_until(authority, "@"), host;

	if (user.length < authority.length)
		authority = text_behind(authority, user.length + 1);
	if (authority.length && authority.at[0] == '[') {
		host = text_until(authority, "]");
		host.length += host.length < authority.length;
	} else {
		host = text_until(authority, ":");
	}
	name_text_read(host.at, host.length, ret_name);
}

/* Bytes that no URI has are percent-encoded, as whoever sent them should have done. */
static void read_path(struct text path, char ret_path[NAME_PATH_MAX])
{
	static const char digits[] = "0123456789ABCDEF";
	size_t length = 0;

	path = text_until(path, "?#");
	for (size_t i = 0; i < path.length && length + 4 <= NAME_PATH_MAX; i++) {
		unsigned char c = (unsigned char)path.at[i];

		if (c > ' ' && c < 0x7f) {
			ret_path[length++] = (char)c;
		} else {
			ret_path[length++] = '%';
			ret_path[length++] = digits[c >> 4];
			ret_path[length++] = digits[c & 15];
		}
	}
	ret_path[length] = '\0';
}

/* The request's target: of a server (/path), of a proxy (http://host/path), or "*". */
static void read_target(struct text target, bool connects, struct name_request *request)
{
	static const char *const schemes[] = {"http://", "https://", "ws://", "wss://"};

	if (connects) {
		read_authority(target, request->name);
		return;
	}
	for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
		if (starts_with(target, schemes[i])) {
			struct text rest = text_behind(target, strlen(schemes[i]));
			struct text authority = text_until(rest, "/?#");

			read_authority(authority, request->name);
			rest = text_behind(rest, authority.length);
			read_path(rest.length && rest.at[0] == '/' ? rest : (struct text){"/", 1},
				request->path);
			return;
		}
	}
	if (target.length && (target.at[0] == '/' || target.at[0] == '*'))
		read_path(target, request->path);
}

/* A line without its end, in `ret_line`.  False: it is not all there. */
static bool take_line(struct text *text, struct text *ret_line)
{
	const char *end = text->length ? memchr(text->at, '\n', text->length) : NULL;

	if (!end)
		return false;
	*ret_line = (struct text){text->at, (size_t)(end - text->at)};
	*text = text_behind(*text, ret_line->length + 1);
	if (ret_line->length && ret_line->at[ret_line->length - 1] == '\r')
		ret_line->length--;
	return true;
}

static int read_fields(struct text text, struct name_request *request)
{
	struct text line;

	while (take_line(&text, &line)) {
		if (!line.length)
			return 0;
		if (!starts_with(line, "host:"))
			continue;
		line = text_behind(line, strlen("host:"));
		while (line.length && (line.at[0] == ' ' || line.at[0] == '\t'))
			line = text_behind(line, 1);
		while (line.length && (line.at[line.length - 1] == ' ' || line.at[line.length - 1] == '\t'))
			line.length--;
		read_authority(line, request->name);
		return 0;
	}
	return -EAGAIN;
}

int name_http_read(const uint8_t *bytes, size_t length, struct name_request *ret_request)
{
	struct text text = {(const char *)bytes, length}, line, method, target;
	struct name_request request = {};
	bool whole;
	int r = -EAGAIN;

	if (length >= strlen(H2C_PREFACE) && memcmp(bytes, H2C_PREFACE, strlen(H2C_PREFACE)) == 0) {
		*ret_request = (struct name_request){.h2c = true};
		return 0;
	}
	whole = take_line(&text, &line);
	if (!whole)
		line = text;
	method = text_until(line, " ");
	if (!method.length || method.length > METHOD_MAX)
		return -EPROTO;
	for (size_t i = 0; i < method.length; i++)
		if (method.at[i] < 'A' || method.at[i] > 'Z')
			return -EPROTO;
	target = text_behind(line, method.length + (method.length < line.length));
	line = target;
	target = text_until(target, " ");
	line = text_behind(line, target.length);
	if (whole && !(starts_with(line, " HTTP/1.") && line.length == strlen(" HTTP/1.1")))
		return -EPROTO;
	/* what is cut may end within the host, never within the path: that is cut anyway */
	if (whole)
		read_target(target, starts_with(method, "CONNECT") && method.length == 7, &request);
	else if (target.length && target.at[0] == '/')
		read_path(target, request.path);
	if (whole)
		r = request.name[0] ? 0 : read_fields(text, &request);
	*ret_request = request;
	return r;
}

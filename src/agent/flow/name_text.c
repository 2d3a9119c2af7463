// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include <string.h>

#include "agent/flow/name.h"

#define LABEL_MAX 63

static bool is_name_byte(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

static bool is_address(const char *bytes, size_t length, char ret_name[NAME_TEXT_MAX])
{
	struct address address;
	char text[ADDRESS_TEXT_MAX];

	if (length >= 2 && bytes[0] == '[' && bytes[length - 1] == ']') {
		bytes++;
		length -= 2;
	}
	if (length >= sizeof(text) || memchr(bytes, '\0', length))
		return false;
	memcpy(text, bytes, length);
	text[length] = '\0';
	if (address_parse(text, &address) < 0)
		return false;
	address_print(ret_name, NAME_TEXT_MAX, &address);
	return true;
}

bool name_text_read(const char *bytes, size_t length, char ret_name[NAME_TEXT_MAX])
{
	char name[NAME_TEXT_MAX];
	size_t label = 0;

	if (length && (bytes[0] == '[' || memchr(bytes, ':', length)))
		return is_address(bytes, length, ret_name);
	if (length && bytes[length - 1] == '.')
		length--;
	if (!length || length >= sizeof(name))
		return false;
	for (size_t i = 0; i < length; i++) {
		char c = bytes[i];

		if (c >= 'A' && c <= 'Z')
			c = (char)(c - 'A' + 'a');
		if (c == '.' ? !label : (!is_name_byte(c) || label == LABEL_MAX))
			return false;
		label = c == '.' ? 0 : label + 1;
		name[i] = c;
	}
	if (!label)
		return false;
	memcpy(ret_name, name, length);
	ret_name[length] = '\0';
	return true;
}

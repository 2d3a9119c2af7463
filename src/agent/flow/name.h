/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Reading names in the first bytes of TLS, HTTP and DNS.
 *
 * Pure functions on bytes that anybody may have sent, and that may end anywhere.  What they hand out is safe
 * to print: names are letters, digits, '-', '_' and '.', in small letters and without the last dot; paths are
 * printable ASCII.
 */
#ifndef WEIR_AGENT_NAME_H
#define WEIR_AGENT_NAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "basic/address.h"

#define NAME_TEXT_MAX      254 /* a name of 253 bytes and the NUL */
#define NAME_PATH_MAX      128 /* longer paths are cut */
#define NAME_ADDRESSES_MAX 32  /* of one DNS answer; further ones are left out */

/* Reads a domain name in its usual spelling, or an address ("[::1]" without the brackets).  False: it is
 * neither; ret_name is untouched then. */
bool name_text_read(const char *bytes, size_t length, char ret_name[NAME_TEXT_MAX]);

/*
 * TLS: the server name (RFC 6066) that the ClientHello at the beginning of a stream asks for; empty: none.
 * With Encrypted ClientHello that is the outer name.  0; -EAGAIN: the message goes on behind these bytes and
 * no name was met yet; -EPROTO: no ClientHello.  ret_name is untouched on failure.
 */
int name_tls_read(const uint8_t *bytes, size_t length, char ret_name[NAME_TEXT_MAX]);

struct name_request {
	bool h2c;                 /* the preface of HTTP/2: nothing else is known */
	char name[NAME_TEXT_MAX]; /* host; empty: not known */
	char path[NAME_PATH_MAX]; /* without query and fragment; empty: not known */
};

/*
 * HTTP/1: host and path of the request at the beginning of a stream.  0; -EAGAIN: the head goes on behind
 * these bytes and the host was not met yet; -EPROTO: no request.  With -EAGAIN ret_request holds what is
 * known so far.
 */
int name_http_read(const uint8_t *bytes, size_t length, struct name_request *ret_request);

struct name_answers {
	char name[NAME_TEXT_MAX]; /* that was asked for */
	unsigned int count;
	struct {
		struct address address;
		uint32_t ttl; /* seconds; the least on the way there */
	} answer[NAME_ADDRESSES_MAX];
};

/*
 * DNS (RFC 1035): the addresses that an answer gives for the name asked for, by way of aliases (CNAME).  A
 * message that ends early (TC, or a copy that was cut) tells what is there.  0, with any number of addresses;
 * -EPROTO: no answer to one question with a usable name.  ret_answers is untouched on failure.
 */
int name_dns_read(const uint8_t *bytes, size_t length, struct name_answers *ret_answers);

#endif

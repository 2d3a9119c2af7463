// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* From text to classic BPF, by libpcap. */
#include "compile/expression.h"

#include <ctype.h>
#include <errno.h>
#include <nss.h>
#include <pcap/pcap.h>
#include <stdlib.h>
#include <string.h>

#include "compile/classic.h"

/* Where a live capture reads the tag beside the packet; written so that libpcap makes one load of it. */
#define TAG_PRESENT "ether[0xfffff030:1] = 1"
#define TAG_IS      "ether[0xfffff02c:2] & 0xfff = "
_Static_assert(CLASSIC_TAG_PRESENT == 0xfffff030 && CLASSIC_TAG == 0xfffff02c, "as in the text above");

struct word {
	size_t start, end;
};

static bool word_character(char c)
{
	return isalnum((unsigned char)c) || c == '.' || c == '_' || c == '-' || c == ':' || c == '/' ||
	       c == '\\';
}

/* The next word or sign at or after `offset`; false: there is none. */
static bool word_next(const char *text, size_t offset, struct word *ret_word)
{
	size_t end;

	while (isspace((unsigned char)text[offset]))
		offset++;
	if (!text[offset])
		return false;
	end = offset + 1;
	if (word_character(text[offset]))
		while (text[end] && word_character(text[end]))
			end++;
	*ret_word = (struct word){.start = offset, .end = end};
	return true;
}

static bool word_is(const char *text, struct word word, const char *wanted, size_t length)
{
	return word.end - word.start == length && memcmp(text + word.start, wanted, length) == 0;
}

/* Compiles into ret_program; 0, -ENOMEM, or -EINVAL with libpcap's message. */
static int pcap_translate(const char *text, int link_type, uint32_t snaplen,
	struct expression_program *ret_program, char message[PCAP_ERRBUF_SIZE])
{
	pcap_t *pcap = pcap_open_dead(link_type, (int)snaplen);
	struct bpf_program compiled;
	int r = 0;

	if (!pcap)
		return -ENOMEM;
	if (pcap_compile(pcap, &compiled, text, 1, PCAP_NETMASK_UNKNOWN) < 0) {
		snprintf(message, PCAP_ERRBUF_SIZE, "%s", pcap_geterr(pcap));
		pcap_close(pcap);
		return -EINVAL;
	}
	if (ret_program) {
		struct sock_filter *filters = calloc(compiled.bf_len, sizeof(*filters));

		for (unsigned int i = 0; filters && i < compiled.bf_len; i++)
			filters[i] = (struct sock_filter){
				.code = compiled.bf_insns[i].code,
				.jt = compiled.bf_insns[i].jt,
				.jf = compiled.bf_insns[i].jf,
				.k = compiled.bf_insns[i].k,
			};
		if (filters)
			*ret_program = (struct expression_program){filters, compiled.bf_len};
		else
			r = -ENOMEM;
	}
	pcap_freecode(&compiled);
	pcap_close(pcap);
	return r;
}

static bool syntax_error(const char *message)
{
	return strstr(message, "syntax error") != NULL;
}

/* Can the first `length` bytes of `text` begin an expression?  Tried with what may follow. */
static bool prefix_continues(const char *text, size_t length, int link_type)
{
	static const char *const ends[] = {"", " ip", " 1", " 1.2.3.4", " port 1", " host 1.2.3.4",
		" proto 1", " = 1", " 1 = 1", "1] = 1", "] = 1", ":1] = 1", " 1-2", " 0", " unreachable"};
	char attempt[EXPRESSION_TEXT_MAX + 64], message[PCAP_ERRBUF_SIZE];
	size_t open = 0;

	/* What was opened is closed after each of the ends. */
	for (size_t i = 0; i < length; i++) {
		if (text[i] == '(')
			open++;
		else if (text[i] == ')' && open)
			open--;
	}
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		int used = snprintf(attempt, sizeof(attempt), "%.*s%s", (int)length, text, ends[i]);

		if (used < 0 || (size_t)used + open >= sizeof(attempt))
			return true;
		memset(attempt + used, ')', open);
		attempt[(size_t)used + open] = '\0';
		if (pcap_translate(attempt, link_type, 96, NULL, message) != -EINVAL ||
			!syntax_error(message))
			return true;
	}
	return false;
}

/* The first word from which on no beginning of the text can be continued. */
static size_t syntax_error_offset(const char *text, int link_type)
{
	struct word *words = calloc(strlen(text) + 1, sizeof(*words));
	size_t count = 0, low = 0, high, offset;

	if (!words)
		return 0;
	while (word_next(text, count ? words[count - 1].end : 0, &words[count]))
		count++;
	/* The first `low` words can be continued, the first `high` cannot. */
	high = count + 1;
	while (high - low > 1) {
		size_t middle = low + (high - low) / 2;

		if (prefix_continues(text, words[middle - 1].end, link_type))
			low = middle;
		else
			high = middle;
	}
	offset = low < count ? words[low].start : strlen(text);
	free(words);
	return offset;
}

/* Finds what the message names (in quotes, or a number) among the words of the text. */
static bool named_offset(const char *text, const char *message, size_t *ret_offset)
{
	for (const char *p = message; *p;) {
		size_t length = strcspn(p, " '\",");
		struct word word = {0};
		bool quoted = p > message && (p[-1] == '\'' || p[-1] == '"') && p[length] == p[-1];

		if (length && (quoted || isdigit((unsigned char)*p))) {
			while (word_next(text, word.end, &word)) {
				if (word_is(text, word, p, length)) {
					*ret_offset = word.start;
					return true;
				}
			}
		}
		p += length ? length : 1;
	}
	return false;
}

static int refuse(struct error *error, const char *text, int link_type, const char *message)
{
	static const char host[] = "unknown host '";
	int r = error_set(error, -EINVAL, "%s", message);
	size_t offset;

	if (!error)
		return r;
	if (syntax_error(message)) {
		offset = syntax_error_offset(text, link_type);
		error_at(error, NULL, text, offset);
		if (!text[offset])
			error_want(error, "something has to follow");
		return r;
	}
	if (strncmp(message, host, sizeof(host) - 1) == 0)
		error_want(error, "give its address: only names in /etc/hosts are known");
	if (named_offset(text, message, &offset))
		error_at(error, NULL, text, offset);
	return r;
}

/* Writes `text` with its first `vlan` or `vlan N` as a question about the tag beside the packet; false: it
 * has none. */
static bool tagged_text(const char *text, char *ret_text, size_t size)
{
	struct word word = {0}, number, close;
	size_t parentheses = 0, end;

	do {
		if (!word_next(text, word.end, &word))
			return false;
	} while (!word_is(text, word, "vlan", 4));

	end = word.end;
	number = word;
	while (word_next(text, number.end, &number) && text[number.start] == '(')
		parentheses++;
	if (number.start < end || !isdigit((unsigned char)text[number.start])) {
		snprintf(ret_text, size, "%.*s(" TAG_PRESENT ")%s", (int)word.start, text, text + end);
		return true;
	}
	close = number;
	while (parentheses-- && word_next(text, close.end, &close))
		;
	snprintf(ret_text, size, "%.*s(" TAG_PRESENT " and " TAG_IS "%.*s)%s", (int)word.start, text,
		(int)(number.end - number.start), text + number.start, text + close.end);
	return true;
}

int expression_compile(const char *text, enum expression_link link, uint32_t snaplen,
	struct expression *ret_expression, struct error *error)
{
	static bool files_only;
	int r, link_type = link == EXPRESSION_ETHERNET ? DLT_EN10MB : DLT_RAW;
	char message[PCAP_ERRBUF_SIZE] = "", tagged[EXPRESSION_TEXT_MAX + 128];
	struct expression expression = {0};

	if (strlen(text) >= EXPRESSION_TEXT_MAX)
		return error_set(
			error, -EINVAL, "the expression is longer than %d bytes", EXPRESSION_TEXT_MAX - 1);
	if (snaplen < 1 || snaplen > INT32_MAX)
		return error_set(error, -EINVAL, "a snap length of %u bytes", snaplen);
	if (!files_only)
		files_only = __nss_configure_lookup("hosts", "files") == 0;

	r = pcap_translate(text, link_type, snaplen, &expression.plain, message);
	if (r == -EINVAL)
		return refuse(error, text, link_type, message);
	if (r == 0 && tagged_text(text, tagged, sizeof(tagged))) {
		r = pcap_translate(tagged, link_type, snaplen, &expression.tagged, message);
		if (r == -EINVAL)
			error_set(error, r, "%s", message);
	}
	if (r < 0) {
		expression_clear(&expression);
		return r == -ENOMEM ? error_set(error, r, "no memory to compile the expression") : r;
	}
	*ret_expression = expression;
	return 0;
}

void expression_clear(struct expression *expression)
{
	free(expression->plain.filters);
	free(expression->tagged.filters);
	*expression = (struct expression){0};
}

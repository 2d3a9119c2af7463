// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Any bytes as a policy: what is read is printed as a policy that reads as the same, and differs in nothing.
 */
#include <stdlib.h>
#include <string.h>

#include "fuzz/fuzz.h"
#include "model/policy.h"

static int difference(void *context, char sign, const char *tenant, const char *text)
{
	(void)context;
	fprintf(stderr, "%c %s %s\n", sign, tenant, text);
	REQUIRE(false);
	return 0;
}

static char *print(const struct policy_text *policy, size_t *ret_length)
{
	char *text = NULL;
	FILE *out = open_memstream(&text, ret_length);

	REQUIRE(out && policy_text_print(policy, out) == 0);
	fclose(out);
	return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	struct policy_text policy = {0}, again = {0};
	struct error error = {0};
	size_t length, length_again;
	char *text, *text_again;

	if (policy_text_read((const char *)input, size, "policy.yaml", &policy, &error) < 0) {
		REQUIRE(error.code < 0 && error.what[0]);
		return 0;
	}
	text = print(&policy, &length);
	if (policy_text_read(text, length, "policy.yaml", &again, &error) < 0) {
		fprintf(stderr, "%s\n%u:%u: %s\n", text, error.line, error.column, error.what);
		REQUIRE(false);
	}
	text_again = print(&again, &length_again);
	REQUIRE(length == length_again && memcmp(text, text_again, length) == 0);
	REQUIRE(policy_text_diff(&policy, &again, difference, NULL) == 0);
	REQUIRE(policy_text_diff(&again, &policy, difference, NULL) == 0);
	policy_text_clear(&policy);
	policy_text_clear(&again);
	free(text);
	free(text_again);
	return 0;
}

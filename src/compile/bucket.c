// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "compile/bucket.h"

#include <errno.h>
#include <stddef.h>

#include "bpf/lib/bucket.h"

#define NS_PER_S 1000000000ULL

/* The shortest unit of time in which the period is a whole number of at most 32 bits; 0: there is none. */
static uint64_t period_unit(uint64_t period_ns)
{
	static const uint64_t units[] = {1, 1000, 1000000};

	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (period_ns % units[i] == 0 && period_ns / units[i] <= UINT32_MAX)
			return units[i];
	return 0;
}

int token_clock_start(const struct token_rate *rate, uint64_t now_ns, struct token_clock *ret_clock)
{
	uint64_t unit = period_unit(rate->period_ns), period = unit ? rate->period_ns / unit : 0;

	if (!period || !rate->rate || !rate->burst || rate->burst > TOKEN_BURST_MAX ||
		rate->rate > rate->period_ns * (TOKEN_RATE_MAX / NS_PER_S))
		return -ERANGE;
	*ret_clock = (struct token_clock){
		.since_ns = now_ns,
		.base = TOKEN_BASE,
		.whole = rate->rate / period,
		.part = rate->rate % period,
		.period = period,
		.unit_ns = unit,
		.burst = rate->burst,
	};
	return 0;
}

int token_clock_change(struct token_clock *clock, const struct token_rate *rate, uint64_t now_ns)
{
	struct token_clock next;
	int r = token_clock_start(rate, now_ns, &next);

	if (r < 0)
		return r;
	next.base = token_clock_now(clock, now_ns);
	*clock = next;
	return 0;
}

/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Traces: the built-in probes of the kernel's network functions and tracepoints, and running them.
 *
 * Nothing of a trace is pinned: it ends with the agent, whatever ends that.
 */
#ifndef WEIR_ENGINE_TRACE_H
#define WEIR_ENGINE_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "basic/error.h"
#include "shared/trace.h"

struct engine;
struct engine_trace;

#define TRACE_PROGRAMS_MAX 4

enum trace_unit {
	TRACE_UNIT_NS,
	TRACE_UNIT_BYTES,
	TRACE_UNIT_PACKETS,
	TRACE_UNIT_COUNT, /* the value is 1: that it happens is what there is to know */
};

/* What a probe knows about what it measures. */
enum {
	TRACE_KNOWS_FLOW = 1 << 0,
	TRACE_KNOWS_OWNER = 1 << 1,
	TRACE_KNOWS_INTERFACE = 1 << 2,
};

/* What `detail` of a sample is. */
enum trace_detail {
	TRACE_DETAIL_NONE,
	TRACE_DETAIL_WORD,  /* one of `words` */
	TRACE_DETAIL_ERROR, /* an errno; 0: none */
	TRACE_DETAIL_NUMBER,
};

struct trace_probe {
	const char *name, *what;
	enum trace_unit unit;
	uint32_t knows;
	enum trace_detail detail;
	const char *detail_name;
	const char *const *words; /* ends with NULL; a NULL before that is no word */
	unsigned int word_count;
	const char *programs[TRACE_PROGRAMS_MAX + 1]; /* of bpf/trace.bpf.c */
};

const struct trace_probe *engine_trace_probes(size_t *ret_count);
/* NULL with `error` suggesting the nearest. */
const struct trace_probe *engine_trace_find(const char *name, struct error *error);

/* Where a program of the probe attaches: "tp_btf/tcp_probe". */
const char *engine_trace_place(const struct trace_probe *probe, unsigned int program);
/* Can this kernel have it?  If not, `missing` says what it lacks. */
bool engine_trace_has(
	const struct engine *engine, const struct trace_probe *probe, char *missing, size_t size);

/* Loads and attaches the probe's programs, and no others. */
int engine_trace_open(struct engine *engine, const struct trace_probe *probe,
	const struct trace_options *options, struct engine_trace **ret_trace, struct error *error);
void engine_trace_close(struct engine_trace *trace); /* detaches; NULL is allowed */

/* Hands over the events since the last time. */
typedef void engine_trace_function(void *context, const struct trace_record *record);
void engine_trace_read(struct engine_trace *trace, engine_trace_function *function, void *context);

/* Hands over every histogram, all CPUs' together.  0 or a negative errno. */
typedef void engine_histogram_function(
	void *context, const struct trace_key *key, const struct trace_histogram *histogram);
int engine_trace_histograms(struct engine_trace *trace, engine_histogram_function *function, void *context);

int engine_trace_stats(const struct engine_trace *trace, struct trace_stats *ret_stats);

#endif

/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What can be worked out from the histograms of the kernel (shared/trace.h). */
#ifndef WEIR_ENGINE_HISTOGRAM_H
#define WEIR_ENGINE_HISTOGRAM_H

#include <stdint.h>

#include "shared/trace.h"

/* Adds one CPU's part. */
void histogram_add(struct trace_histogram *sum, const struct trace_histogram *part);

/* The value below which `percent` (0 to 100) of a histogram's samples lie, as near as its buckets tell: at
 * most a quarter above or a fifth below. */
uint64_t histogram_percentile(const struct trace_histogram *histogram, double percent);

#endif

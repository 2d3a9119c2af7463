/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * One capture in the kernel: programs at hooks of one kind, and the segments they write (shared/capture.h).
 *
 * Nothing of it is pinned: it ends with engine_capture_close(), or with the agent.  (clsact filters, where
 * the kernel has no TCX, outlive a killed agent; the next one takes them away.)
 */
#ifndef WEIR_ENGINE_CAPTURE_H
#define WEIR_ENGINE_CAPTURE_H

#include "engine/engine.h"
#include "shared/capture.h"

struct expression;

enum capture_place {
	CAPTURE_TC,     /* ingress: before everyone else; egress: behind weir's own program */
	CAPTURE_XDP,    /* ingress only; native where the driver can, generic otherwise */
	CAPTURE_SOCKET, /* a packet socket, where tcpdump stands */
	/* Where the kernel drops packets: they begin with a struct capture_cooked, and nothing is filtered.
	 * Interface 0 stands for those of no interface. */
	CAPTURE_DROP,
	CAPTURE_PLACES,
};

struct engine_capture_options {
	enum capture_place place;
	uint32_t snaplen;    /* CAPTURE_SNAPLEN_MIN to CAPTURE_SNAPLEN_MAX */
	uint32_t ring_bytes; /* per CPU, about; memory is this at most, but four segments at least */
	bool overwrites;     /* when a ring is full the oldest packets go, not the newest */
	/* What is captured, for interfaces with and without an Ethernet header; NULL: everything.  They have
	 * to live as long as the capture. */
	const struct expression *ethernet, *raw;
};

struct engine_capture;

/* 0 or a negative errno with `error` set. */
int engine_capture_open(struct engine *engine, const struct engine_capture_options *options,
	struct engine_capture **ret_capture, struct error *error);
void engine_capture_close(struct engine_capture *capture);

/* Captures on an interface, whose packets get this number in their blocks. */
int engine_capture_add(struct engine_capture *capture, const struct engine_interface *interface,
	uint32_t number, struct error *error);
/* How it is attached: "tcx", "clsact", "xdp native", "xdp generic", "socket", "drop". */
const char *engine_capture_hook(const struct engine_capture *capture, uint32_t ifindex);
/* Packets of the interface that found no room. */
uint64_t engine_capture_lost(const struct engine_capture *capture, uint32_t ifindex);

struct engine_capture_view {
	unsigned int cpus, segments; /* segments per CPU */
	size_t segment_bytes;        /* from one to the next */
	uint32_t fill;               /* a segment with so many bytes or more is followed by the next */
	struct capture_cpu *states;  /* one per CPU */
	uint8_t *memory;
};
const struct engine_capture_view *engine_capture_view(const struct engine_capture *capture);

/* The descriptor of the segments' memory, to map.  Whoever has it can write there, too: the kernel maps no
 * map for reading alone once its descriptor cannot write. */
int engine_capture_memory(const struct engine_capture *capture);

static inline struct capture_segment *capture_segment_at(
	const struct engine_capture_view *view, unsigned int cpu, uint64_t number)
{
	return (struct capture_segment *)(view->memory +
					  (cpu * (size_t)view->segments + number % view->segments) *
						  view->segment_bytes);
}

#endif

// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* The maps of services, without a program: the agent makes them with the first service, whether XDP can use
 * them (balance.bpf.c) or not. */
#include "bpf/lib/service_maps.h"

char _license[] SEC("license") = "Dual BSD/GPL";

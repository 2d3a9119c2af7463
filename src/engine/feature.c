// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Which kernel features are there: every one is tried, none is guessed from a version. */
#include <bpf/btf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "basic/cleanup.h"
#include "engine/internal.h"

#ifndef BPF_TCX_INGRESS_VALUE
#define BPF_TCX_INGRESS_VALUE 46 /* enum bpf_attach_type since 6.6; Debian 12's headers are older */
#endif

static bool probe_ring(void)
{
	return libbpf_probe_bpf_map_type(BPF_MAP_TYPE_RINGBUF, NULL) == 1;
}

static bool probe_jiffies(void)
{
	return libbpf_probe_bpf_helper(BPF_PROG_TYPE_SCHED_CLS, BPF_FUNC_jiffies64, NULL) == 1;
}

static bool probe_mmap(void)
{
	LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = BPF_F_MMAPABLE);
	_cleanup_close_ int fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "weir_probe", 4, 8, 1, &options);

	return fd >= 0;
}

/* With TCX the kernel gets as far as not finding the interface; without, it does not know the attach type. */
static bool probe_tcx(void)
{
	struct bpf_insn code[] = {
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = -1},
		{.code = BPF_JMP | BPF_EXIT},
	};
	_cleanup_close_ int program =
		bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "weir_probe", "Dual BSD/GPL", code, 2, NULL);
	int link;

	if (program < 0)
		return false;
	link = bpf_link_create(program, INT_MAX, (enum bpf_attach_type)BPF_TCX_INGRESS_VALUE, NULL);
	if (link >= 0)
		close(link);
	return link >= 0 || link == -ENODEV;
}

/* As with TCX. */
static int load_xdp(__u32 flags)
{
	LIBBPF_OPTS(bpf_prog_load_opts, options, .prog_flags = flags);
	struct bpf_insn code[] = {
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 2 /* XDP_PASS */},
		{.code = BPF_JMP | BPF_EXIT},
	};

	return bpf_prog_load(BPF_PROG_TYPE_XDP, "weir_probe", "Dual BSD/GPL", code, 2, &options);
}

static bool probe_xdp(void)
{
	_cleanup_close_ int program = load_xdp(0);
	int link = program < 0 ? program : bpf_link_create(program, INT_MAX, BPF_XDP, NULL);

	if (link >= 0)
		close(link);
	return link >= 0 || link == -ENODEV || link == -EINVAL;
}

static bool probe_xdp_frags(void)
{
	_cleanup_close_ int program = load_xdp(BPF_F_XDP_HAS_FRAGS);

	return program >= 0;
}

static bool probe_jit(void)
{
	_cleanup_close_ int fd = open("/proc/sys/net/core/bpf_jit_enable", O_RDONLY | O_CLOEXEC);
	char digit = '0';

	/* kernels with CONFIG_BPF_JIT_ALWAYS_ON may hide the switch */
	return fd < 0 || (read(fd, &digit, 1) == 1 && digit != '0');
}

/* Some kernels know of fentry and let nobody have it; only trying tells. */
static bool probe_fentry(void)
{
	LIBBPF_OPTS(bpf_prog_load_opts, options, .expected_attach_type = BPF_TRACE_FENTRY);
	struct bpf_insn code[] = {
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 0},
		{.code = BPF_JMP | BPF_EXIT},
	};
	_cleanup_close_ int program = -1, link = -1;
	const struct btf *kernel = component_kernel_types();
	int function = kernel ? btf__find_by_name_kind(kernel, "inet_listen", BTF_KIND_FUNC) : 0;

	if (function <= 0)
		return false;
	options.attach_btf_id = (__u32)function;
	program = bpf_prog_load(BPF_PROG_TYPE_TRACING, "weir_probe", "Dual BSD/GPL", code, 2, &options);
	if (program < 0)
		return false;
	link = bpf_link_create(program, 0, BPF_TRACE_FENTRY, NULL);
	return link >= 0;
}

static const struct {
	const char *name, *purpose, *replacement;
	bool (*probe)(void);
} feature_table[] = {
	{"ring-buffer", "records of flows that leave the cache", NULL, probe_ring},
	{"jiffies", "times of packets, for the price of a load", NULL, probe_jiffies},
	{"map-mmap", "reading the flow cache without system calls", NULL, probe_mmap},
	{"tcx", "attaching beside other programs, bound to a pin", "clsact filters", probe_tcx},
	{"xdp", "dropping packets before the kernel has made them its own", "dropping in tc", probe_xdp},
	{"xdp-frags", "the same where packets come in several buffers", "dropping in tc there",
		probe_xdp_frags},
	{"jit", "programs as machine code", "the interpreter, several times slower", probe_jit},
	{"fentry", "measuring single functions of the kernel", "tracepoints only", probe_fentry},
};

_Static_assert(sizeof(feature_table) / sizeof(feature_table[0]) <= FEATURES_MAX, "room for every feature");

void engine_probe_features(struct engine *engine)
{
	size_t count = sizeof(feature_table) / sizeof(feature_table[0]);

	for (size_t i = 0; i < count; i++)
		engine->features[i] = (struct engine_feature){
			.name = feature_table[i].name,
			.purpose = feature_table[i].purpose,
			.replacement = feature_table[i].replacement,
			.found = feature_table[i].probe(),
		};
	engine->feature_count = count;
}

bool engine_has(const struct engine *engine, const char *feature)
{
	for (size_t i = 0; i < engine->feature_count; i++)
		if (strcmp(engine->features[i].name, feature) == 0)
			return engine->features[i].found;
	return false;
}

const struct engine_feature *engine_features(const struct engine *engine, size_t *ret_count)
{
	*ret_count = engine->feature_count;
	return engine->features;
}

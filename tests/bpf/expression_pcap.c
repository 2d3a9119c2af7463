// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "bpf/expression_pcap.h"

#include <linux/filter.h>
#include <pcap/pcap.h>
#include <stdlib.h>

void *reference_open(const char *text, uint32_t snaplen)
{
	struct bpf_program *program = calloc(1, sizeof(*program));
	pcap_t *pcap = pcap_open_dead(DLT_EN10MB, (int)snaplen);

	if (program && pcap && pcap_compile(pcap, program, text, 1, PCAP_NETMASK_UNKNOWN) < 0) {
		free(program);
		program = NULL;
	}
	if (pcap)
		pcap_close(pcap);
	return program;
}

uint32_t reference_run(const void *reference, const uint8_t *bytes, uint32_t captured, uint32_t length)
{
	struct pcap_pkthdr header = {.caplen = captured, .len = length};

	return (uint32_t)pcap_offline_filter(reference, &header, bytes);
}

void reference_close(void *reference)
{
	pcap_freecode(reference);
	free(reference);
}

int reference_live(
	const char *interface, const char *text, uint32_t snaplen, struct expression_program *ret_program)
{
	char message[PCAP_ERRBUF_SIZE];
	pcap_t *pcap = pcap_create(interface, message);
	struct bpf_program program;
	int r = -1;

	if (!pcap)
		return -1;
	pcap_set_snaplen(pcap, (int)snaplen);
	if (pcap_activate(pcap) >= 0 && pcap_compile(pcap, &program, text, 1, PCAP_NETMASK_UNKNOWN) >= 0) {
		ret_program->filters = calloc(program.bf_len, sizeof(*ret_program->filters));
		ret_program->count = program.bf_len;
		for (size_t i = 0; ret_program->filters && i < program.bf_len; i++)
			ret_program->filters[i] = (struct sock_filter){program.bf_insns[i].code,
				program.bf_insns[i].jt, program.bf_insns[i].jf, program.bf_insns[i].k};
		pcap_freecode(&program);
		r = ret_program->filters ? 0 : -1;
	}
	pcap_close(pcap);
	return r;
}

void reference_read(const char *path, size_t most, void (*add)(const uint8_t *bytes, size_t size))
{
	char message[PCAP_ERRBUF_SIZE];
	struct pcap_pkthdr header;
	const uint8_t *bytes;
	pcap_t *pcap = pcap_open_offline(path, message);

	if (!pcap)
		return;
	for (size_t i = 0; most && pcap_datalink(pcap) == DLT_EN10MB && (bytes = pcap_next(pcap, &header));
		i++) {
		if (i % 7)
			continue;
		if (header.caplen >= 14) {
			add(bytes, header.caplen);
			most--;
		}
	}
	pcap_close(pcap);
}

/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <stdio.h>

#include "cli/view/packet.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "basic/address.h"
#include "cli/view/table.h"

/* the one parser, whose pointers are a program's for BPF */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpointer-arith"
#include "bpf/lib/packet.h"
#pragma GCC diagnostic pop

#define NS_PER_S      1000000000ULL
#define TEXT_MAX      64
#define LINK_ETHERNET 1
#define LINK_COOKED   276
#define COOKED_BYTES  20 /* of its header, which begins with the EtherType */
#define ENDPOINT_MAX  (ADDRESS_TEXT_MAX + 8)

/* What the parser makes of it, in words; empty where there is nothing to say. */
struct words {
	char proto[TEXT_MAX], src[ADDRESS_TEXT_MAX], dst[ADDRESS_TEXT_MAX], flags[16];
	unsigned int sport, dport, vlan;
	bool ports, tagged;
};

static const struct {
	unsigned int number;
	const char *name;
} protocols[] = {{1, "icmp"}, {6, "tcp"}, {17, "udp"}, {33, "dccp"}, {47, "gre"}, {50, "esp"}, {51, "ah"},
	{58, "icmp6"}, {132, "sctp"}, {136, "udplite"}},
  ethertypes[] = {{0x0806, "arp"}, {0x8035, "rarp"}, {0x8847, "mpls"}, {0x8863, "pppoe-discovery"},
	  {0x8864, "pppoe"}, {0x888e, "eapol"}, {0x88cc, "lldp"}, {0x88f7, "ptp"}};

static void name_protocol(const struct packet *p, char name[static TEXT_MAX])
{
	if (!p->family) {
		snprintf(name, TEXT_MAX, "ethertype 0x%04x", ntohs(p->ethertype));
		for (size_t i = 0; i < sizeof(ethertypes) / sizeof(ethertypes[0]); i++)
			if (ethertypes[i].number == ntohs(p->ethertype))
				snprintf(name, TEXT_MAX, "%s", ethertypes[i].name);
		return;
	}
	snprintf(name, TEXT_MAX, "%u", p->proto);
	for (size_t i = 0; i < sizeof(protocols) / sizeof(protocols[0]); i++)
		if (protocols[i].number == p->proto)
			snprintf(name, TEXT_MAX, "%s", protocols[i].name);
}

static void find_words(const struct pcapng_packet *packet, uint32_t link, struct words *words)
{
	static const struct {
		unsigned int bit;
		char letter;
	} letters[] = {{2, 'S'}, {16, 'A'}, {8, 'P'}, {1, 'F'}, {4, 'R'}, {32, 'U'}, {64, 'E'}, {128, 'C'}};
	const uint8_t *data = packet->data, *end = data + packet->captured;
	uint16_t ethertype = htons(data < end && data[0] >> 4 == 6 ? PACKET_ETH_IPV6 : PACKET_ETH_IPV4);
	struct packet_memory memory;
	struct packet p = {};
	char *flag = words->flags;

	if (link == LINK_COOKED && packet->captured >= COOKED_BYTES) {
		memcpy(&ethertype, data, sizeof(ethertype));
		data += COOKED_BYTES;
	}
	memory = (struct packet_memory){data, (uint32_t)(end - data)};
	/* the parser only reads */
	packet_parse(&memory, (void *)data, (void *)end, link == LINK_ETHERNET, ethertype, &p);
	name_protocol(&p, words->proto);
	words->tagged = p.vlan_depth;
	words->vlan = p.vlan;
	if (!p.family)
		return;
	for (int i = 0; i < 2; i++) {
		struct address address = {.family = p.family};

		memcpy(address.bytes, i ? p.dst : p.src, p.family == 4 ? 4 : 16);
		address_print(i ? words->dst : words->src, ADDRESS_TEXT_MAX, &address);
	}
	words->ports = p.kind & FLOW_KIND_PORTS;
	words->sport = ntohs(p.sport);
	words->dport = ntohs(p.dport);
	for (size_t i = 0; p.proto == 6 && i < sizeof(letters) / sizeof(letters[0]); i++)
		if (p.tcp_flags & letters[i].bit)
			*flag++ = letters[i].letter;
	*flag = '\0';
}

static const char *direction_of(const struct pcapng_packet *packet)
{
	static const char *const names[4] = {"", "in", "out", ""};

	return names[packet->flags & 3];
}

/* "10.0.0.1.443", as tcpdump has it. */
static const char *endpoint(
	char text[static ENDPOINT_MAX], const char *address, const struct words *words, unsigned int port)
{
	if (words->ports)
		snprintf(text, ENDPOINT_MAX, "%s.%u", address, port);
	else
		snprintf(text, ENDPOINT_MAX, "%s", address);
	return text;
}

void packet_print(const struct pcapng_packet *packet, const struct packet_origin *origin, FILE *out)
{
	struct words words = {};
	time_t seconds = (time_t)(packet->time_ns / NS_PER_S);
	char clock[16], from[ENDPOINT_MAX], to[ENDPOINT_MAX], fitted[4 * TEXT_MAX];
	struct tm parts;

	find_words(packet, origin->link, &words);
	localtime_r(&seconds, &parts);
	strftime(clock, sizeof(clock), "%H:%M:%S", &parts);
	fprintf(out, "%s.%06u %s %-3s ", clock, (unsigned int)(packet->time_ns % NS_PER_S / 1000),
		text_fit(fitted, sizeof(fitted), origin->interface, 0), direction_of(packet));
	if (words.tagged)
		fprintf(out, "vlan %u ", words.vlan);
	if (*words.src)
		fprintf(out, "%s > %s ", endpoint(from, words.src, &words, words.sport),
			endpoint(to, words.dst, &words, words.dport));
	fprintf(out, "%s %s%s%u", words.proto, words.flags, *words.flags ? " " : "", packet->length);
	if (origin->process)
		fprintf(out, "  %s (%u)", text_fit(fitted, sizeof(fitted), origin->process->command, 0),
			origin->process->pid);
	if (*packet->comment)
		fprintf(out, "  %s", packet->comment);
	putc('\n', out);
}

void packet_write(
	const struct pcapng_packet *packet, const struct packet_origin *origin, struct json_write *out)
{
	struct words words = {};
	time_t seconds = (time_t)(packet->time_ns / NS_PER_S);
	char day[32], time[48];
	struct tm parts;

	find_words(packet, origin->link, &words);
	gmtime_r(&seconds, &parts);
	strftime(day, sizeof(day), "%Y-%m-%dT%H:%M:%S", &parts);
	snprintf(time, sizeof(time), "%s.%09uZ", day, (unsigned int)(packet->time_ns % NS_PER_S));
	json_write_object_begin(out, NULL);
	json_write_string(out, "time", time);
	json_write_string(out, "interface", origin->interface);
	if (*direction_of(packet))
		json_write_string(out, "direction", direction_of(packet));
	if (words.tagged)
		json_write_number(out, "vlan", words.vlan);
	json_write_string(out, "proto", words.proto);
	if (*words.src) {
		json_write_string(out, "src", words.src);
		json_write_string(out, "dst", words.dst);
	}
	if (words.ports) {
		json_write_number(out, "sport", words.sport);
		json_write_number(out, "dport", words.dport);
	}
	if (*words.flags)
		json_write_string(out, "tcp_flags", words.flags);
	json_write_number(out, "length", packet->length);
	json_write_number(out, "captured", packet->captured);
	if (origin->process) {
		json_write_object_begin(out, "owner");
		json_write_string(out, "kind", "process");
		json_write_number(out, "pid", origin->process->pid);
		json_write_string(out, "command", origin->process->command);
		json_write_object_end(out);
	}
	if (*packet->comment)
		json_write_string(out, "comment", packet->comment);
	json_write_object_end(out);
	json_write_newline(out);
}

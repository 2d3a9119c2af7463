/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The commands: one table. */
#include <errno.h>
#include <string.h>

#include "basic/text.h"
#include "cli/cli.h"
#include "cli/options.h"

#define OPTIONS_LIST                                                                                         \
	(OPTION_BIT(JSON) | OPTION_BIT(SORT) | OPTION_BIT(REVERSE) | OPTION_BIT(LIMIT) | OPTION_BIT(WATCH))

#define OPTIONS_CHANGE (OPTION_BIT(JSON) | OPTION_BIT(CUT) | OPTION_BIT(CONFIRM))
#define OPTIONS_RULE   (OPTIONS_CHANGE | OPTION_BIT(BEFORE) | OPTION_BIT(TENANT))

const struct command commands[] = {
	{
		.name = "run",
		.summary = "be the agent, in the foreground",
		.help = "Watches the interfaces of the network namespace it is started in, until it is told "
			"to stop:\n"
			"SIGTERM ends the agent and leaves the datapath counting, SIGINT removes "
			"everything,\n"
			"SIGHUP reads the configuration again.  Prints 'weir: ready' when it is.\n"
			"\n"
			"With --view on a terminal it shows the live screen, and ends, leaving nothing "
			"behind,\n"
			"with 'q' or Ctrl-C.",
		.options = OPTION_BIT(CONFIG) | OPTION_BIT(VIEW),
		.run = cmd_run,
	},
	{
		.name = "down",
		.summary = "remove the datapath and end the agent",
		.help = "Removes programs, hooks, pins and files, and waits until the agent is gone.  Where "
			"no agent\n"
			"answers, it removes what a killed or stopped one has left.",
		.options = OPTION_BIT(JSON),
		.run = cmd_down,
	},
	{
		.name = "reload",
		.summary = "have the agent read its configuration again",
		.help = "The same as SIGHUP, but it says what is wrong with the file.  A file with an error "
			"changes "
			"nothing.",
		.options = OPTION_BIT(JSON),
		.run = cmd_reload,
	},
	{
		.name = "status",
		.summary = "show the agent, the kernel's features, interfaces, memory and losses",
		.options = OPTION_BIT(JSON) | OPTION_BIT(WATCH),
		.run = cmd_status,
	},
	{
		.name = "flows",
		.summary = "list flows",
		.usage = "[MATCH]",
		.help = "MATCH says which, in the words of the sentence grammar (weir(8)):\n"
			"  weir flows tcp to port 443\n"
			"  weir flows in on eth0 from 10.0.0.0/8 --sort rate -n 10\n"
			"\n"
			"Sort keys: bytes, packets, rate, first, last, duration, src, dst, sport, dport.\n"
			"\n"
			"--by process, user, group, exe, cgroup, unit, container or pod sums up who has "
			"moved "
			"how much;\n"
			"then the sort keys are bytes, packets, in, out, rate, flows, name.\n"
			"  weir flows by user www-data\n"
			"  weir flows --by unit",
		.options = OPTIONS_LIST | OPTION_BIT(BY),
		.words = WORDS_FILTER,
		.run = cmd_list,
	},
	{
		.name = "hosts",
		.summary = "list remote addresses with their traffic in both directions",
		.usage = "[MATCH]",
		.help = "Without MATCH, or with one that asks only for direction, family and addresses, "
			"these are totals\n"
			"since the datapath was set up; with any other, the sums of the flows still in the "
			"table.\n"
			"  weir hosts in from 10.0.0.0/8\n"
			"\n"
			"Sort keys: bytes, packets, in, out, rate, address.",
		.options = OPTIONS_LIST,
		.words = WORDS_FILTER,
		.run = cmd_list,
	},
	{
		.name = "ports",
		.summary = "list service ports with their traffic in both directions",
		.usage = "[MATCH]",
		.help = "The service port is the one that answered the SYN; where no SYN was seen, the lower "
			"of the two.\n"
			"  weir ports udp\n"
			"\n"
			"Sort keys: bytes, packets, in, out, rate, flows, port.",
		.options = OPTIONS_LIST,
		.words = WORDS_FILTER,
		.run = cmd_list,
	},
	{
		.name = "procs",
		.summary = "list processes with their traffic in both directions",
		.usage = "[MATCH]",
		.help = "Without MATCH, or with one that asks only who and in which direction, these are "
			"totals, of\n"
			"processes that have ended, too, for a while (owners.keep); with any other, the sums "
			"of the flows\n"
			"still in the table.  What is no process' stands below: what passed through this "
			"host, what the\n"
			"kernel itself sent and received, and connections that nobody has accepted yet.\n"
			"  weir procs by user www-data\n"
			"\n"
			"Sort keys: bytes, packets, in, out, rate, flows, command, pid, started.",
		.options = OPTIONS_LIST,
		.words = WORDS_FILTER,
		.run = cmd_list,
	},
	{
		.name = "interfaces",
		.summary = "list interfaces with hooks and traffic",
		.options = OPTION_BIT(JSON) | OPTION_BIT(WATCH),
		.run = cmd_list,
	},
	{
		.name = "capture",
		.summary = "capture packets, to a file or as lines",
		.usage = "[EXPRESSION] [at tc|xdp|socket|drop] [on INTERFACE] [by OWNER]",
		.help = "EXPRESSION is one of pcap-filter(7), as tcpdump takes it; without one everything is "
			"captured.\n"
			"Only what it lets through, and no more than the snap length of it, is copied out of "
			"the kernel.\n"
			"  weir capture 'tcp port 443 and host 10.0.0.1' -w https.pcapng -s 96\n"
			"  weir capture 'udp port 53' on eth0 -c 10\n"
			"  weir capture -w - | wireshark -k -i -\n"
			"  weir capture --when 'drops above 1000/s' --before 5s --for 5s -w drops-%T.pcapng\n"
			"\n"
			"EVENT is 'log [rule N]', 'drops above N/s' or 'backend down [SERVICE]'.  With it a\n"
			"FILE with a % is one for each event, named by strftime(3).\n"
			"\n"
			"Without --write a line a packet is printed.  SIGINT ends it; losses are told at the "
			"end "
			"and are in\n"
			"the file.",
		.options = OPTION_BIT(JSON) | OPTION_BIT(WRITE) | OPTION_BIT(SNAPLEN) | OPTION_BIT(PACKETS) |
                           OPTION_BIT(BEFORE) | OPTION_BIT(FOR) | OPTION_BIT(WHEN),
		.words = WORDS_FILTER,
		.run = cmd_capture,
	},
	{
		.name = "sockets",
		.summary = "list TCP and UDP sockets, how they are doing, and what happens to them",
		.usage = "[MATCH]",
		.help = "Sockets that are open now; with --closed, those that were closed last.  --events "
			"shows what\n"
			"happened (bind, listen, connect, accept, close), --follow what happens, with "
			"create and\n"
			"errors of UDP.  In a MATCH a connection is 'in' if the other end made it; then "
			"its source is\n"
			"the other end.\n"
			"  weir sockets tcp to port 443 by user www-data --sort rtt\n"
			"  weir sockets --follow in tcp to port 22\n"
			"\n"
			"Sort keys: bytes, in, out, packets, rate, rtt, retransmits, drops, age, last, "
			"local, "
			"remote, lport, rport.",
		.options = OPTIONS_LIST | OPTION_BIT(FOLLOW) | OPTION_BIT(EVENTS) | OPTION_BIT(CLOSED) |
                           OPTION_BIT(STATES),
		.words = WORDS_FILTER,
		.run = cmd_sockets,
	},
	{
		.name = "audit",
		.summary = "show who connected where, who listened, and who changed the policy",
		.usage = "[MATCH]",
		.help = "The last 1000 entries, or --limit; with --follow, those that come.  Changes of "
			"the policy\n"
			"are shown where there is no MATCH.\n"
			"  weir audit by user www-data to 10.0.0.0/8",
		.options = OPTION_BIT(JSON) | OPTION_BIT(LIMIT) | OPTION_BIT(WATCH) | OPTION_BIT(FOLLOW),
		.words = WORDS_FILTER,
		.run = cmd_audit,
	},
	{
		.name = "drops",
		.summary = "list what the kernel dropped, and why",
		.usage = "[MATCH]",
		.help = "By the kernel's reason, with the place in its code where most of them happened; "
			"then the drops\n"
			"recorded last.  Every drop is counted; so many a second are recorded (drops.rate).  "
			"MATCH\n"
			"says which of the recorded ones are shown:\n"
			"  weir drops udp to port 53 --follow\n"
			"\n"
			"Sort keys: packets, bytes, last, reason.",
		.options = OPTIONS_LIST | OPTION_BIT(FOLLOW),
		.words = WORDS_FILTER,
		.run = cmd_drops,
	},
	{
		.name = "trace",
		.summary = "measure in the kernel: round trips, retransmissions, queues, calls",
		.usage = "[list | PROBE [MATCH]]",
		.help = "PROBE is one of those that 'weir trace list' shows.  Its programs are in the kernel "
			"as "
			"long as the\n"
			"command runs.  Each event is a line, at most 1000 a second on each CPU; with "
			"--histogram the\n"
			"kernel only counts, and a terminal shows the picture of now, anything else the last "
			"one.\n"
			"--by owner, interface, remote or cpu makes a histogram of each.  MATCH narrows: "
			"protocol, from,\n"
			"to, host, port, on INTERFACE, by OWNER, as far as the probe knows them.\n"
			"  weir trace tcp.retransmit\n"
			"  weir trace connect.latency --histogram --for 10s to port 443 by user www-data",
		.options = OPTION_BIT(JSON) | OPTION_BIT(HISTOGRAM) | OPTION_BIT(BY) | OPTION_BIT(INTERVAL) |
                           OPTION_BIT(FOR),
		.words = WORDS_FILTER,
		.run = cmd_trace,
	},
	{
		.name = "drop",
		.summary = "add a rule: packets that are dropped",
		.usage = "[in|out] [on INTERFACE] [ip|ip6] [PROTOCOL] [MATCH]... [log] [for TIME] "
			 "['\"COMMENT\"']",
		.help = "The rule stands behind the others, or in front of one with --before; the first that "
			"decides about a\n"
			"packet ends the story.  Nothing is reloaded, and other traffic is not touched; "
			"connections that were\n"
			"there before go on, unless --cut.  MATCH, in any order (weir(8), RULES):\n"
			"  from|to ADDRESS|PREFIX|@SET [port PORTS|@SET], host ADDRESS, port PORTS, flags "
			"syn/syn,ack,\n"
			"  icmp TYPE[/CODE], state new,established,related,invalid, dscp D, mark N[/MASK], "
			"vlan N, untagged,\n"
			"  fragment [first|later], [not] by OWNER, [not] matching \"PCAP EXPRESSION\"\n"
			"\n"
			"  weir drop in tcp to port 80\n"
			"  weir drop in from @blocklist for 1h\n"
			"  weir drop out by user guest to 10.0.0.0/8\n"
			"  weir drop in matching 'tcp[13] == 2'",
		.options = OPTIONS_RULE,
		.words = WORDS_RULE,
		.run = cmd_rule,
	},
	{
		.name = "accept",
		.summary = "add a rule: packets that are accepted",
		.usage = "[in|out] [on INTERFACE] [ip|ip6] [PROTOCOL] [MATCH]... [log] [for TIME] "
			 "['\"COMMENT\"']",
		.help = "In the words of 'weir drop'.  What is accepted is not asked about further.\n"
			"  weir accept in tcp to port 22 from @bastions log\n"
			"  weir accept in state established,related --before 1",
		.options = OPTIONS_RULE,
		.words = WORDS_RULE,
		.run = cmd_rule,
	},
	{
		.name = "reject",
		.summary = "add a rule: packets that are dropped, and the sender is told",
		.usage = "[in|out] [on INTERFACE] [ip|ip6] [PROTOCOL] [MATCH]... [with ANSWER] [log] [for "
			 "TIME] ['\"COMMENT\"']",
		.help = "In the words of 'weir drop'.  ANSWER is reset (TCP), port-unreachable, "
			"host-unreachable or\n"
			"prohibited; without it TCP gets a reset and all else port-unreachable.\n"
			"  weir reject in tcp to port 25 with reset",
		.options = OPTIONS_RULE,
		.words = WORDS_RULE,
		.run = cmd_rule,
	},
	{
		.name = "limit",
		.summary = "add a rule: traffic that gets a rate at most",
		.usage = "[in|out] [on INTERFACE] [ip|ip6] [PROTOCOL] [MATCH]... [per source|destination] to "
			 "RATE [burst SIZE] [OPTION]... [log] [for TIME] ['\"COMMENT\"']",
		.help = "RATE is bits a second (10mbit), packets (100/s, 5/m, 2/h, 1/d), or connections at a "
			"time (10\n"
			"connections).  In bits it makes a class of traffic, which is shaped by the best "
			"engine "
			"that there is\n"
			"('weir shapes' shows which): senders slow down, and nothing is dropped that need "
			"not "
			"be.  OPTION, of\n"
			"classes: guarantee RATE, weight N, priority low|normal|high|interactive, under "
			"INTERFACE|CLASS,\n"
			"engine auto|pacing|htb|fq|policer|ifb.  What is over a limit in packets or "
			"connections is dropped.\n"
			"With 'per source' each sender has a limit of its own; 'per source/24,64' takes so "
			"many leading bits\n"
			"of IPv4 and IPv6 addresses for one; these, and limits with 'log', ask about each "
			"packet.\n"
			"  weir limit out by pid 12345 to 10mbit\n"
			"  weir limit out on eth0 to 100mbit\n"
			"  weir limit in udp to port 53 per source to 100/s burst 200\n"
			"  weir limit in tcp to port 22 per source to 10 connections",
		.options = OPTIONS_RULE,
		.words = WORDS_RULE,
		.run = cmd_rule,
	},
	{
		.name = "guarantee",
		.summary = "add a rule: traffic that gets a rate at least",
		.usage = "[in|out] [on INTERFACE] [ip|ip6] [PROTOCOL] [MATCH]... RATE [ceiling RATE [burst "
			 "SIZE]] [OPTION]... [for TIME] ['\"COMMENT\"']",
		.help = "In the words of 'weir limit'.  A guarantee is out of the rate of the link that the "
			"class stands below\n"
			"(weir limit out on eth0 to 1gbit); what others do not use may be borrowed, up to "
			"the "
			"ceiling.\n"
			"  weir guarantee out by unit api.service 400mbit ceiling 1gbit priority high",
		.options = OPTIONS_RULE,
		.words = WORDS_RULE,
		.run = cmd_rule,
	},
	{
		.name = "assign",
		.summary = "add a rule: traffic that belongs to a class that was declared",
		.usage = "[in|out] [on INTERFACE] [ip|ip6] [PROTOCOL] [MATCH]... to CLASS [for TIME] "
			 "['\"COMMENT\"']",
		.help = "In the words of 'weir drop'; classes are declared with 'weir shape add'.\n"
			"  weir assign out tcp from port 80 to bulk",
		.options = OPTIONS_RULE,
		.words = WORDS_RULE,
		.run = cmd_rule,
	},
	{
		.name = "shape",
		.summary = "declare classes of traffic, and assign traffic to them",
		.usage =
			"[list] | add NAME [in|out] under INTERFACE|CLASS [OPTION]... | assign MATCH to NAME "
			"| delete NAME",
		.help = "Classes make a tree: an interface, tenants, their classes.  OPTION: guarantee RATE, "
			"ceiling RATE,\n"
			"burst SIZE, weight N, priority low|normal|high|interactive, engine "
			"auto|pacing|htb|fq|policer|ifb.\n"
			"What several want is shared out by their weights, the higher priority first.\n"
			"  weir shape add bulk under eth0 weight 1 ceiling 200mbit\n"
			"  weir shape assign out tcp from port 80 to bulk",
		.options = OPTIONS_RULE | OPTION_BIT(WATCH),
		.words = WORDS_OWN,
		.run = cmd_shape,
	},
	{
		.name = "shapes",
		.summary = "list the classes with their rates: wanted and achieved",
		.help = "WANTED is the ceiling, of a guarantee GUARANTEE-CEILING, or GUARANTEE+ without one; "
			"ACHIEVED that of the\n"
			"last second.  DELAYED, DROPPED and MARKED (ECN) are packets; BORROWED was sent "
			"beyond "
			"the guarantee;\n"
			"LATENCY is what the engine adds.  Below the list: why each class has its engine.",
		.options = OPTION_BIT(JSON) | OPTION_BIT(WATCH),
		.run = cmd_shapes,
	},
	{
		.name = "change",
		.summary = "change the rates of a class",
		.usage = "ID|NAME [to RATE] [OPTION]...",
		.help = "Live: no packet is lost by it.  'to' is the rate that the sentence is about; "
			"OPTION: "
			"guarantee RATE,\n"
			"ceiling RATE, burst SIZE, weight N, priority ..., under INTERFACE|CLASS, engine "
			"...; "
			"'guarantee none',\n"
			"'ceiling none' and 'burst none' take one back.\n"
			"  weir change 4 to 20mbit\n"
			"  weir change bulk ceiling 1gbit weight 3",
		.options = OPTION_BIT(JSON) | OPTION_BIT(CONFIRM),
		.words = WORDS_OWN,
		.run = cmd_change,
	},
	{
		.name = "service",
		.summary = "balance the packets of an address among backends",
		.usage = "[list] | add NAME [PROTOCOL] ADDRESS [port PORTS] to BACKEND, BACKEND [OPTION]... "
			 "| show "
			 "NAME | delete NAME",
		.help = "ADDRESS may be a prefix, PORTS a range; without them all protocols, all ports.  "
			"BACKEND: "
			"ADDRESS [port\n"
			"PORT] [weight N] [drain].  OPTION, in any order (weir(8), SERVICES): deliver "
			"ipip|gue|l2|nat, "
			"choose\n"
			"maglev|least|turns, affinity source, quic, mss N, mtu N, ring N, check "
			"tcp|http|https|udp|exec, fail\n"
			"open|closed, flows off.\n"
			"  weir service add web tcp 203.0.113.10 port 443 to 10.0.0.11 weight 2, 10.0.0.12 "
			"deliver "
			"ipip\n"
			"  weir service add dns udp 203.0.113.53 port 53 to 10.0.0.53 deliver nat check udp "
			"every "
			"2s",
		.options = OPTION_BIT(JSON) | OPTION_BIT(CONFIRM) | OPTION_BIT(WATCH),
		.words = WORDS_OWN,
		.run = cmd_service,
	},
	{
		.name = "services",
		.summary = "list the services and their backends: health, connections, shares",
		.help = "WANTED is the share of new connections that a backend is to get, by weight and "
			"health, "
			"REAL what it\n"
			"got lately; NEW/S are connections that began.  WHY: of a service, how it delivers "
			"and "
			"chooses, and at\n"
			"which hook; of a backend, what its last check said.",
		.options = OPTION_BIT(JSON) | OPTION_BIT(WATCH),
		.run = cmd_services,
	},
	{
		.name = "backend",
		.summary = "add, drain, weigh or remove a backend of a service",
		.usage = "add SERVICE BACKEND | set SERVICE ADDRESS weight N | drain|undrain|remove SERVICE "
			 "ADDRESS",
		.help = "Connections that are there stay where they are, unless their backend is removed; a "
			"backend that is\n"
			"drained gets no new ones.  A backend that is there more than once is named with its "
			"port: ADDRESS port\n"
			"PORT.\n"
			"  weir backend drain web 10.0.0.11\n"
			"  weir backend set web 10.0.0.12 weight 5\n"
			"  weir backend add web 10.0.0.13 weight 2",
		.options = OPTION_BIT(JSON) | OPTION_BIT(CONFIRM),
		.words = WORDS_OWN,
		.run = cmd_backend,
	},
	{
		.name = "forward",
		.summary = "forward what comes in on an interface, past the host",
		.usage = "[from IF by route | from IF to IF [both ways] | among IF, IF... | from IF via IF, "
			 "IF... to "
			 "IF]",
		.help = "By the kernel's routes and neighbours; as a wire between two interfaces; as a "
			"switch "
			"among several; as\n"
			"a chain, out of one and in by the same, to the next.  Without words: what is "
			"forwarded.\n"
			"  weir forward from eth0 by route\n"
			"  weir forward from eth0 to eth1 both ways\n"
			"  weir forward from eth0 via veth1, veth2 to eth1",
		.options = OPTION_BIT(JSON) | OPTION_BIT(CONFIRM) | OPTION_BIT(WATCH),
		.words = WORDS_OWN,
		.run = cmd_forward,
	},
	{
		.name = "forwards",
		.summary = "list what is forwarded",
		.options = OPTION_BIT(JSON) | OPTION_BIT(WATCH),
		.run = cmd_forwards,
	},
	{
		.name = "steer",
		.summary = "choose the CPUs that what comes in on an interface is handled by",
		.usage = "[in on INTERFACE [PROTOCOL] [MATCH]... to cpus LIST [by flow|rule]]",
		.help = "'by flow' (what is meant if nothing is said) keeps the packets of a flow on one "
			"CPU, 'by "
			"rule' all that\n"
			"fit.  MATCH: what stands in the packet, as in 'weir drop', sets, too.  Without "
			"words: what is "
			"steered.\n"
			"  weir steer in on eth0 to cpus 0-7 by flow\n"
			"  weir steer in on eth0 udp to port 53 to cpus 2,3",
		.options = OPTION_BIT(JSON) | OPTION_BIT(CONFIRM) | OPTION_BIT(WATCH),
		.words = WORDS_OWN,
		.run = cmd_steer,
	},
	{
		.name = "steers",
		.summary = "list what is steered to which CPUs",
		.options = OPTION_BIT(JSON) | OPTION_BIT(WATCH),
		.run = cmd_steers,
	},
	{
		.name = "count",
		.summary = "add a rule: packets that are only counted",
		.usage = "[in|out] [on INTERFACE] [ip|ip6] [PROTOCOL] [MATCH]... [log] [for TIME] "
			 "['\"COMMENT\"']",
		.help = "In the words of 'weir drop'; the next rule that fits has its say.  'weir rules' "
			"shows the counts.\n"
			"  weir count out tcp",
		.options = OPTIONS_RULE,
		.words = WORDS_RULE,
		.run = cmd_rule,
	},
	{
		.name = "log",
		.summary = "show packets that rules logged or dropped, or add a rule that logs",
		.usage = "[MATCH]",
		.help = "Alone, or with --limit or --watch, it shows the records of the last packets; with "
			"--follow those that\n"
			"come.  There are records of rules and default verdicts with 'log', at most "
			"log_packets a "
			"second, and of\n"
			"what others drop, at most log_drops a second; all packets are counted by their "
			"rules.  With a sentence\n"
			"in the words of 'weir drop' and none of these options, it is a rule: packets that "
			"fit are logged, and\n"
			"go on.\n"
			"  weir log --follow\n"
			"  weir log --follow in tcp\n"
			"  weir log in tcp to port 22 state new",
		.options = OPTIONS_RULE | OPTION_BIT(FOLLOW) | OPTION_BIT(LIMIT) | OPTION_BIT(WATCH),
		.words = WORDS_FILTER,
		.run = cmd_log,
	},
	{
		.name = "mark",
		.summary = "add a rule: packets that get a mark",
		.usage = "N[/MASK] [in|out] [on INTERFACE] [ip|ip6] [PROTOCOL] [MATCH]... [log] [for TIME] "
			 "['\"COMMENT\"']",
		.help = "For routing and other programs: the mark of the kernel (SO_MARK, fwmark).  With "
			"MASK only these bits\n"
			"change.\n"
			"  weir mark 7 out udp to port 53",
		.options = OPTIONS_RULE,
		.words = WORDS_RULE,
		.run = cmd_rule,
	},
	{
		.name = "redirect",
		.summary = "add a rule: packets that leave by another interface",
		.usage = "to INTERFACE [in|out] [on INTERFACE] [ip|ip6] [PROTOCOL] [MATCH]... [log] [for "
			 "TIME] ['\"COMMENT\"']",
		.help = "  weir redirect to veth1 in tcp to port 8080",
		.options = OPTIONS_RULE,
		.words = WORDS_RULE,
		.run = cmd_rule,
	},
	{
		.name = "mirror",
		.summary = "add a rule: packets of which another interface gets a copy",
		.usage = "to INTERFACE [in|out] [on INTERFACE] [ip|ip6] [PROTOCOL] [MATCH]... [log] [for "
			 "TIME] ['\"COMMENT\"']",
		.help = "  weir mirror to veth1 in on eth0",
		.options = OPTIONS_RULE,
		.words = WORDS_RULE,
		.run = cmd_rule,
	},
	{
		.name = "rewrite",
		.summary = "add a rule: packets whose DSCP or MAC address is changed",
		.usage = "dscp D|source mac MAC|destination mac MAC [in|out] [on INTERFACE] [ip|ip6] "
			 "[PROTOCOL] [MATCH]... [log] [for TIME] ['\"COMMENT\"']",
		.help = "D is 0 to 63 or a name: cs0 to cs7, af11 to af43, ef, va, le.\n"
			"  weir rewrite dscp ef out tcp to port 22",
		.options = OPTIONS_RULE,
		.words = WORDS_RULE,
		.run = cmd_rule,
	},
	{
		.name = "deny",
		.summary = "add a rule: who may not create, bind, connect or send",
		.usage = "CALL [SOCKET] [[not] by OWNER] [to ADDRESS] ['\"COMMENT\"']",
		.help = "The call fails with \"Operation not permitted\".  CALL is create, bind, connect or "
			"send "
			"(a datagram);\n"
			"SOCKET is tcp, udp, raw, ... (weir(8)):\n"
			"  weir deny connect by user guest to 10.0.0.0/8\n"
			"  weir deny bind tcp not by unit nginx to port 80,443\n"
			"  weir deny create raw by cgroup /user.slice\n"
			"\n"
			"The first rule that fits a call decides; a call that none fits is allowed.  'weir "
			"rules' "
			"lists\n"
			"them.  What is added here stays until 'weir delete' or 'weir down'.",
		.options = OPTIONS_RULE,
		.words = WORDS_RULE,
		.run = cmd_rule,
	},
	{
		.name = "allow",
		.summary = "add a rule: an exception from the rules behind it",
		.usage = "CALL [SOCKET] [[not] by OWNER] [to ADDRESS] ['\"COMMENT\"']",
		.help = "In the words of 'weir deny'.  An exception stands in front of what it is one from:\n"
			"  weir allow connect by user guest to 10.0.0.53 port 53 --before 1",
		.options = OPTIONS_RULE,
		.words = WORDS_RULE,
		.run = cmd_rule,
	},
	{
		.name = "rules",
		.summary = "list the rules in the order in which they are asked",
		.help = "HOOK is where a rule is asked first: xdp, tc, or socket.  HITS are packets; of "
			"rules on sockets, calls.\n"
			"Sort keys: place, packets, bytes, rate, last.",
		.options = OPTION_BIT(JSON) | OPTION_BIT(WATCH) | OPTION_BIT(TENANT) | OPTION_BIT(SORT) |
                           OPTION_BIT(REVERSE) | OPTION_BIT(LIMIT),
		.run = cmd_rules,
	},
	{
		.name = "delete",
		.summary = "take a rule or a class away",
		.usage = "ID | NAME",
		.help = "ID is the number that 'weir rules' or 'weir shapes' shows, NAME that of a class "
			"that "
			"was declared.\n"
			"A rule of the configuration file is back when that is read again.",
		.options = OPTIONS_CHANGE,
		.words = WORDS_ID,
		.run = cmd_delete,
	},
	{
		.name = "move",
		.summary = "put a rule elsewhere in the list",
		.usage = "ID before|after ID | ID last",
		.help = "  weir move 3 before 1",
		.options = OPTIONS_CHANGE,
		.words = WORDS_OWN,
		.run = cmd_move,
	},
	{
		.name = "flush",
		.summary = "take all rules away",
		.help = "Of the host, or of --tenant; default verdicts, sets, services and what forwards or "
			"steers\n"
			"stay.",
		.options = OPTIONS_CHANGE | OPTION_BIT(TENANT),
		.run = cmd_flush,
	},
	{
		.name = "explain",
		.summary = "say which rule decides about a packet, and why",
		.usage = "in|out [on INTERFACE] PROTOCOL from ADDRESS [port N] to ADDRESS [port N] [MORE]...",
		.help = "Asks the program in force, without sending or counting anything.  MORE: flags LIST, "
			"icmp TYPE[/CODE],\n"
			"dscp D, vlan N, fragment first|later, by OWNER.\n"
			"  weir explain in tcp from 198.51.100.7 port 4000 to 10.0.0.1 port 80",
		.options = OPTION_BIT(JSON),
		.words = WORDS_PACKET,
		.run = cmd_explain,
	},
	{
		.name = "set",
		.summary = "list and change sets: addresses or ports that rules may name",
		.usage =
			"[list] | show SET | add|remove SET ENTRY... [for TIME] | load SET FILE [for TIME] | "
			"create|flush|destroy SET",
		.help = "An entry is an address, a prefix, a range of addresses, or a port or range of "
			"ports; a set holds one\n"
			"kind.  Rules name it as @SET, and follow every change at once.\n"
			"  weir set add blocklist 203.0.113.0/24 for 1h\n"
			"  weir set load blocklist /var/lib/lists/drop.netset\n"
			"'load' puts a file (one entry a line; '#' and ';' begin comments; '-': standard "
			"input) in place of what\n"
			"was there.  A bad line refuses all of it, unless --skip-bad.",
		.options = OPTION_BIT(JSON) | OPTION_BIT(CUT) | OPTION_BIT(SKIP_BAD),
		.words = WORDS_OWN,
		.run = cmd_set,
	},
	{
		.name = "policy",
		.summary = "print the policy in force as a file that can be applied",
		.run = cmd_policy,
	},
	{
		.name = "apply",
		.summary = "put a policy from a file in place of the one in force",
		.usage = "FILE",
		.help = "FILE ('-': standard input) has default verdicts, sets, rules and tenants "
			"(weir.yaml(5), POLICY).  All of\n"
			"it takes effect at one point, after it was checked in the kernel.  With --confirm "
			"the kernel itself\n"
			"goes back after TIME, unless 'weir confirm' comes.\n"
			"  weir apply policy.yaml --confirm 60s",
		.options = OPTIONS_CHANGE | OPTION_BIT(CHECK),
		.words = WORDS_FILE,
		.run = cmd_apply,
	},
	{
		.name = "confirm",
		.summary = "keep a change that was made with --confirm",
		.options = OPTION_BIT(JSON),
		.run = cmd_confirm,
	},
	{
		.name = "rollback",
		.summary = "go back to the policy before",
		.help = "From a change that waits for 'weir confirm'; else to the policy before the last one "
			"that was applied.",
		.options = OPTION_BIT(JSON),
		.run = cmd_rollback,
	},
	{
		.name = "diff",
		.summary = "say what applying a file would change",
		.usage = "FILE",
		.help = "'-' goes, '+' comes, '~' changes.",
		.options = OPTION_BIT(JSON),
		.words = WORDS_FILE,
		.run = cmd_diff,
	},
	{
		.name = "save",
		.summary = "keep the policy in force for the next start of the machine",
		.help = "Writes it into the file that the configuration names (policy), which the next start "
			"reads.",
		.options = OPTION_BIT(JSON),
		.run = cmd_save,
	},
	{
		.name = "connections",
		.summary = "list the connections that rules know, or take some away",
		.usage = "[delete] [state new|established] [stage STAGE] [rule ID] [MATCH]",
		.help = "From who began them to who answered.  They are tracked while there is a rule that "
			"could end one.\n"
			"STAGE is new, answered, open, closing, closed or reset.  'delete' cuts them: what "
			"comes of them\n"
			"afterwards is no connection's (state invalid), but for what may begin a new one.\n"
			"  weir connections state new in tcp to port 443\n"
			"  weir connections delete from 203.0.113.9",
		.options = OPTION_BIT(JSON) | OPTION_BIT(LIMIT) | OPTION_BIT(WATCH),
		.words = WORDS_FILTER,
		.run = cmd_connections,
	},
	{
		.name = "names",
		.summary = "list addresses with the names they go by",
		.help = "As DNS answers said, or as TLS and HTTP requests to them did.  The name learned "
			"last comes first.",
		.options = OPTION_BIT(JSON) | OPTION_BIT(LIMIT) | OPTION_BIT(WATCH),
		.run = cmd_names,
	},
	{
		.name = "metrics",
		.summary = "print metrics as Prometheus text",
		.run = cmd_metrics,
	},
	{
		.name = "top",
		.summary = "show flows, hosts, ports, interfaces, drops, processes and rules live",
		.usage = "[MATCH]",
		.help = "Keys: f, h, p, i, d, o, w, l or Tab change the screen, s and S the sort key, r the "
			"order,\n"
			"b what owners are summed up by, u the units;\n"
			"/ edits the filter, space pauses, + and - change the interval, ? explains, q "
			"quits.\n"
			"With --once it prints one plain picture: the ten largest of everything, or the "
			"screen that\n"
			"--screen asks for.",
		.options = OPTION_BIT(ONCE) | OPTION_BIT(INTERVAL) | OPTION_BIT(SCREEN) | OPTION_BIT(SORT) |
                           OPTION_BIT(REVERSE) | OPTION_BIT(LIMIT) | OPTION_BIT(BY),
		.words = WORDS_FILTER,
		.run = cmd_top,
	},
	{
		.name = "check",
		.summary = "say whether a configuration file is valid, and where it is not",
		.usage = "FILE",
		.options = OPTION_BIT(JSON),
		.words = WORDS_FILE,
		.run = cmd_check,
	},
	{
		.name = "version",
		.summary = "print the version",
		.options = OPTION_BIT(JSON),
		.run = cmd_version,
	},
	{
		.name = "help",
		.summary = "say what a command does",
		.usage = "[COMMAND]",
		.words = WORDS_COMMAND,
		.run = cmd_help,
	},
	{.name = NULL},
};

const struct command *command_find(const char *name, struct error *error)
{
	const char *names[sizeof(commands) / sizeof(commands[0])] = {}, *near;
	unsigned int i;

	for (i = 0; commands[i].name; i++) {
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
		names[i] = commands[i].name;
	}
	error_set(error, -EINVAL, "unknown command '%s'", name);
	near = text_nearest(name, names);
	if (near)
		error_want(error, "did you mean '%s'?", near);
	else
		error_want(error, "'weir help' lists them");
	return NULL;
}

void command_list_print(FILE *out)
{
	fputs("usage: weir COMMAND [OPTION]... [WORD]...\n"
	      "\n"
	      "Sees all traffic of this host.\n"
	      "\n",
		out);
	for (const struct command *command = commands; command->name; command++)
		fprintf(out, "  %-12s %s\n", command->name, command->summary);
	fputs("\nOptions of every command:\n", out);
	options_print(OPTIONS_COMMON, out);
	fputs("\n'weir COMMAND --help' says more about one; the manual is weir(8).\n", out);
}

void command_help_print(const struct command *command, FILE *out)
{
	fprintf(out, "usage: weir %s [OPTION]...%s%s\n\n%c%s.\n", command->name, command->usage ? " " : "",
		command->usage ? command->usage : "", command->summary[0] - 'a' + 'A', command->summary + 1);
	if (command->help)
		fprintf(out, "\n%s\n", command->help);
	fputs("\nOptions:\n", out);
	options_print(command->options | OPTIONS_COMMON, out);
}

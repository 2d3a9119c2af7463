# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Ordinary traffic: every packet and byte, per flow, as tcpdump, the TCP stack and the interface counted them."""

import glob
import json
import os
import signal
import socket
import time

import pcap
from lab import (Skip, expect, expect_equal, need, run, tcp_transfer, udp_send, udp_socket, wait_for)
from suite import each, test, variants

MEGABYTE = 1_000_000
ADDRESS = {4: ("10.1.0.1", "10.1.0.2"), 6: ("fd00:1::1", "fd00:1::2")}
HEADERS = {4: 14 + 20 + 32, 6: 14 + 40 + 32}  # Ethernet, IP, TCP with a timestamp
SYN_EXTRA = 8                                 # a SYN's TCP options are so much longer
# Neighbour discovery and multicast listener reports: the kernel sends them when it likes.
CHATTER = {("icmp6", kind) for kind in (130, 131, 132, 133, 134, 135, 136, 143)}


def without_chatter(flows):
    return {key: counts for key, counts in flows.items()
            if not (key.icmp and (key.proto, key.icmp[0]) in CHATTER)}


def expect_same_flows(agent, capture, namespace, interface="w0"):
    """What weir lists for an interface is what tcpdump saw on it, flow by flow."""
    path = capture.stop()
    wanted, _ = pcap.flows(path, namespace.address_of(interface))
    wanted = without_chatter(wanted)
    expect(wanted, "tcpdump saw nothing")
    got = without_chatter(pcap.api_flows(agent.flows(), interface))
    lines = pcap.differences(got, wanted)
    expect(not lines, "flows differ from tcpdump's:\n" + "\n".join(lines))
    return wanted


def set_offload(host, peer, on):
    host.offload("w0", on)
    peer.offload("p0", on)


def iperf(host, peer, address, *arguments, reverse=False):
    """One iperf3 run from host to peer (or back); returns the bytes that arrived, as iperf3 counts them."""
    need("iperf3")
    server = peer.start("iperf3", "-s", "-1", "-p", 5201, "-B", address)
    family = 6 if ":" in address else 4
    table = f"/proc/{server.pid}/net/tcp" + ("6" if family == 6 else "")

    def listening():
        with open(table, encoding="ascii") as file:
            return any(":1451 " in line and " 0A " in line for line in file)

    wait_for(listening, 5, "iperf3 to listen")
    done = host.run("iperf3", "-J", "-c", address, "-p", 5201, *arguments, *(["-R"] if reverse else []))
    server.wait(10)
    end = json.loads(done.stdout)["end"]
    return end.get("sum_received", end.get("sum"))["bytes"]


def exact_tcp(lab, offload, family):
    host, peer = lab.hosts()
    set_offload(host, peer, offload == "on")
    agent = lab.agent(host)
    own, other = ADDRESS[family]
    up, down = 4 * MEGABYTE, 2 * MEGABYTE
    client, server, port = tcp_transfer(host, peer, other, 8080, up, down)
    flows = {f["direction"]: f for f in agent.flows("tcp") if port in (f["sport"], f["dport"])}
    expect_equal(sorted(flows), ["in", "out"], "directions")
    # The SYN-ACK is sent before the server's socket exists, so its socket did not count it.
    for direction, packets, payload in (("out", client["segs_out"], up + client["bytes_retrans"]),
                                        ("in", server["segs_out"] + 1, down + server["bytes_retrans"])):
        flow = flows[direction]
        expect_equal(flow["packets"], packets, f"packets {direction}")
        expect_equal(flow["bytes"], payload + packets * HEADERS[family] + SYN_EXTRA, f"bytes {direction}")
        expect_equal(flow["tcp_flags"], "SAPF", f"TCP flags {direction}")
        expect_equal(flow["state"], "closed", f"state {direction}")
    expect_equal((flows["out"]["src"], flows["out"]["dport"]), (own, 8080), "the client's flow")
    agent.losses()


@each()
@variants("offload", "on", "off")
def tcp_ipv4_is_exact_with_gso(lab, offload):
    """a TCP connection over IPv4 counts to the segment and byte the TCP stack counted, GSO {offload}"""
    exact_tcp(lab, offload, 4)


@each(vm="on")
@variants("offload", "on", "off")
def tcp_ipv6_is_exact_with_gso(lab, offload):
    """a TCP connection over IPv6 counts to the segment and byte the TCP stack counted, GSO {offload}"""
    exact_tcp(lab, offload, 6)


@each(**{"vm-6.1": 6})
@variants("family", 4, 6)
def udp_gso_counts_datagrams(lab, family):
    """UDP segmentation offload (IPv{family}) counts every datagram, both ways"""
    udp_segment = 103
    host, peer = lab.hosts()
    set_offload(host, peer, True)
    agent = lab.agent(host)
    own, other = ADDRESS[family]
    size, batch, times = 1000, 10, 50
    for source, source_address, target, target_address, port in ((host, own, peer, other, 7001),
                                                                  (peer, other, host, own, 7002)):
        with udp_socket(target, target_address, port) as receiver, udp_socket(source, source_address) as sender:
            try:
                sender.setsockopt(socket.IPPROTO_UDP, udp_segment, size)
            except OSError as error:
                raise Skip("this kernel has no UDP segmentation offload") from error
            for _ in range(times):
                sender.sendto(bytes(size * batch), (target_address, port))
                for _ in range(batch):
                    receiver.recv(4096)
    headers = 14 + (20 if family == 4 else 40) + 8
    for direction, port in (("out", 7001), ("in", 7002)):
        flows = agent.flows(f"{direction} udp to port {port}")
        expect_equal([(f["packets"], f["bytes"]) for f in flows],
                     [(batch * times, batch * times * (size + headers))], f"datagrams {direction}")


def iperf_without_offload(lab, family, *arguments, reverse=False):
    host, peer = lab.hosts()
    set_offload(host, peer, False)
    agent = lab.agent(host)
    capture = lab.capture(host, "w0", snap=128)
    iperf(host, peer, ADDRESS[family][1], *arguments, reverse=reverse)
    wanted = expect_same_flows(agent, capture, host)
    expect(sum(c.packets for c in wanted.values()) > 500, "iperf3 hardly sent anything")
    agent.losses()


@each()
@variants("family", 4, 6)
def iperf_tcp_equals_tcpdump(lab, family):
    """iperf3 TCP over IPv{family} without GSO: packets, bytes and flags of each flow are what tcpdump saw"""
    iperf_without_offload(lab, family, "-n", "8M", "-P", 2)


@each()
@variants("family", 4, 6)
def iperf_tcp_reverse_equals_tcpdump(lab, family):
    """iperf3 TCP towards us over IPv{family} without GSO: each flow is what tcpdump saw"""
    iperf_without_offload(lab, family, "-n", "8M", reverse=True)


@each()
@variants("family", 4, 6)
def iperf_udp_equals_tcpdump(lab, family):
    """iperf3 UDP over IPv{family}: packets and bytes of each flow are what tcpdump saw"""
    iperf_without_offload(lab, family, "-u", "-b", "100M", "-n", "3M", "-l", 1200)


@each()
@variants("family", 4, 6)
def iperf_gso_equals_tcp_counters(lab, family):
    """iperf3 TCP over IPv{family} with GSO and GRO: packets are the segments that both TCP stacks sent"""
    host, peer = lab.hosts()
    set_offload(host, peer, True)
    agent = lab.agent(host)
    # iperf3 stops when it has written enough, and what has not left by then may never leave: what arrived is what counts
    arrived = {direction: iperf(host, peer, ADDRESS[family][1], "-n", "50M", "-P", 2, reverse=direction == "in")
               for direction in ("out", "in")}
    flows = agent.flows("tcp")
    for direction, sender in (("out", host), ("in", peer)):
        counters = sender.snmp("Tcp")
        got = [f for f in flows if f["direction"] == direction]
        packets, size = sum(f["packets"] for f in got), sum(f["bytes"] for f in got)
        expect_equal(packets, counters["OutSegs"] + counters["RetransSegs"], f"packets {direction}")
        least = arrived[direction] + packets * (HEADERS[family] - 12)
        expect(size >= least > 10 * MEGABYTE, f"bytes {direction}: {size}, at least {least} arrived")
    agent.losses()


@test()
def interface_totals_equal_the_kernels(lab):
    """the totals of an interface are the kernel's own counters, packets and bytes, ARP included"""
    host, peer = lab.hosts()
    set_offload(host, peer, False)
    lab.quiet(host, peer)
    before = host.counters("w0")
    agent = lab.agent(host)
    tcp_transfer(host, peer, "10.1.0.2", 8080, MEGABYTE, MEGABYTE)
    udp_send(peer, host, "10.1.0.2", "10.1.0.1", 53, 100, 700)
    host.ip("neigh", "del", "10.1.0.2", "dev", "w0")
    host.run("ping", "-c", 2, "-i", 0.2, "10.1.0.2")
    # Neighbours probe what they are not sure of a few seconds after; not if they are sure.
    peer.ip("neigh", "replace", "10.1.0.1", "lladdr", "02:00:00:00:01:01", "nud", "permanent", "dev", "p0")
    host.ip("neigh", "replace", "10.1.0.2", "lladdr", "02:00:00:00:01:02", "nud", "permanent", "dev", "w0")
    after = host.counters("w0")
    interface = agent.interface("w0")
    got = (interface["in"]["packets"], interface["in"]["bytes"], interface["out"]["packets"],
           interface["out"]["bytes"])
    expect_equal(got, tuple(b - a for a, b in zip(before, after)), "in and out packets and bytes")
    kernel = interface["kernel"]
    expect_equal((kernel["in"]["packets"], kernel["in"]["bytes"], kernel["out"]["packets"],
                  kernel["out"]["bytes"]), after, "the kernel's counters as weir tells them")
    parse = {entry["reason"]: entry["packets"] for entry in agent.get("/v1/status")["parse"]}
    expect(parse.get("not-ip", 0) >= 2, f"ARP is not counted as not-ip: {parse}")
    losses = agent.losses()
    expect_equal(losses["seen"], got[0] + got[2], "seen")


@test()
def hosts_and_ports_add_up(lab):
    """totals per host and per service port are the sums of the flows"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    for port, up, down in ((80, 300000, 10), (443, 1000, 200000)):
        tcp_transfer(host, peer, "10.1.0.2", port, up, down)
    tcp_transfer(peer, host, "10.1.0.1", 8022, 1000, 50000)
    udp_send(host, peer, "fd00:1::1", "fd00:1::2", 53, 20, 100)
    flows = agent.flows()

    def total(direction, fits):
        fitting = [f for f in flows if f["direction"] == direction and fits(f)]
        return {"packets": sum(f["packets"] for f in fitting), "bytes": sum(f["bytes"] for f in fitting)}

    hosts = {h["address"]: h for h in agent.get("/v1/hosts")["hosts"]}
    for address in ("10.1.0.2", "fd00:1::2"):
        expect_equal(hosts[address]["in"], total("in", lambda f, a=address: f["src"] == a), f"{address} in")
        expect_equal(hosts[address]["out"], total("out", lambda f, a=address: f["dst"] == a), f"{address} out")
    ports = {(p["proto"], p["port"]): p for p in agent.get("/v1/ports")["ports"]}
    for proto, port in (("tcp", 80), ("tcp", 443), ("tcp", 8022), ("udp", 53)):
        for direction in ("in", "out"):
            expect_equal(ports[(proto, port)][direction],
                         total(direction, lambda f, p=proto, n=port: f["proto"] == p and n in (f["sport"], f["dport"])),
                         f"{proto} {port} {direction}")
    expect_equal([p for p in ports if p[1] > 32000], [], "ports that are no services")


@test("sanitize")
def filters_choose_flows(lab):
    """filters in the sentence grammar choose the flows they say, and hosts and ports with them"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    tcp_transfer(host, peer, "10.1.0.2", 443, 5000, 5000)
    tcp_transfer(peer, host, "10.1.0.1", 80, 5000, 5000)
    udp_send(host, peer, "fd00:1::1", "fd00:1::2", 53, 3, 100)
    host.run("ping", "-c", 1, "10.1.0.2")
    for words, wanted in (("tcp", 4), ("tcp to port 443", 1), ("tcp port 443", 2), ("in tcp", 2), ("udp", 1),
                          ("out ip6", None), ("from 10.1.0.0/24 port 80", 1), ("to fd00:1::/64 port 53", 1),
                          ("icmp icmp echo-request", 1), ("host 10.1.0.2", 6), ("tcp port 80,443", 4),
                          ("tcp flags syn,fin", 4), ("tcp flags rst", 0), ("on w0 udp", 1), ("on p0", 0),
                          ("tcp to port 1-100", 1), ("tcp to port https", 1)):
        if wanted is not None:
            expect_equal(len(agent.flows(words)), wanted, f"flows matching '{words}'")
    hosts = agent.get("/v1/hosts", filter="in from 10.0.0.0/8")
    expect_equal(([h["address"] for h in hosts["hosts"]], hosts["source"]), (["10.1.0.2"], "totals"), "hosts")
    hosts = agent.get("/v1/hosts", filter="udp")
    expect_equal(([h["address"] for h in hosts["hosts"]], hosts["source"]), (["fd00:1::2"], "flows"), "hosts")
    ports = agent.get("/v1/ports", filter="to 10.1.0.2 port 443")
    expect_equal([p["port"] for p in ports["ports"]], [443], "ports")


@test()
def sorting_and_limits(lab):
    """flows come sorted as asked and no more of them than asked"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    for number in range(5):
        udp_send(host, peer, "10.1.0.1", "10.1.0.2", 1000 + number, 5 - number, 100 * (number + 1))
    udp = [(f["dport"], f["packets"], f["bytes"]) for f in agent.flows("out udp")]
    expect_equal([u[2] for u in udp], sorted((u[2] for u in udp), reverse=True), "by bytes, descending")
    expect_equal([f["dport"] for f in agent.flows("out udp", sort="dport")], [1000, 1001, 1002, 1003, 1004],
                 "by port, ascending")
    expect_equal([f["dport"] for f in agent.flows("out udp", sort="dport", order="descending", limit=2)],
                 [1004, 1003], "by port, descending, two")
    expect_equal([f["packets"] for f in agent.flows("out udp", sort="packets", limit=3)], [5, 4, 3], "by packets")


# ------------------------------------------------------------------------------------------------ captures


def captures():
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return sorted(glob.glob(os.path.join(os.path.dirname(root), "shared/data/pcap/*.pcap")))


def made_capture(lab):
    """A capture of our own: two hundred conversations of all kinds."""
    frames = []
    for number in range(200):
        v6 = number % 3 == 0
        build = pcap.ipv6 if v6 else pcap.ipv4
        source = f"fd00:1::{number + 16:x}" if v6 else f"10.1.0.{number + 16}"
        destination = "fd00:1::77" if v6 else "10.1.0.77"
        tags = ((0x8100, 7),) if number % 10 == 0 else ()
        for step in range(1 + number % 7):
            if number % 2:
                packet = build(6, pcap.tcp(2000 + number, 80, (0x02, 0x10, 0x18, 0x11)[step % 4], bytes(step * 50)),
                               source, destination)
            else:
                packet = build(17, pcap.udp(2000 + number, 53, bytes(step * 40)), source, destination)
            frames.append(pcap.ethernet(packet, tags=tags))
    path = lab.path("made.pcap")
    pcap.write(path, frames)
    return path


def replay(lab, path):
    """Replays a capture towards weir; returns (what weir saw come in, what the capture holds)."""
    need("tcpreplay")
    host, peer = lab.hosts(mtu=9000)
    frames = list(pcap.read(path))
    expect_equal(frames.pop(0), pcap.ETHERNET, "link type")
    # No kernel sends less than a link header, and tcpreplay sends what was captured: the rest of a truncated packet
    # never existed on this wire.
    frames = [frame for frame in frames if len(frame[0]) > 14]
    sent = lab.path("sent.pcap")
    pcap.write(sent, [frame for frame, _ in frames])
    agent = lab.agent(host)
    done = peer.run("tcpreplay", "-i", "p0", "-p", 10000, sent, timeout=60)
    expect(f"Successful packets:        {len(frames)}" in done.stdout, f"tcpreplay: {done.stderr}{done.stdout}")
    got = pcap.api_flows(agent.flows("in"), "w0")
    wanted, _ = pcap.flows(sent)
    losses = agent.losses()
    expect(losses["lost"] == 0, f"lost: {losses}")
    return without_chatter(got), without_chatter(wanted), sent


def replay_equals(lab, path):
    got, wanted, sent = replay(lab, path)
    lines = pcap.differences(got, wanted)
    expect(not lines, "flows differ from the capture's:\n" + "\n".join(lines))
    return got, sent


@test("sanitize")
def replayed_capture_is_counted(lab):
    """a capture made here, replayed with tcpreplay, is listed flow by flow as the capture holds it"""
    replay_equals(lab, made_capture(lab))


def tshark_flows(path):
    """{(proto, src, sport, dst, dport): (packets, bytes, TCP flags)} as tshark reads a capture."""
    need("tshark")
    fields = ("frame.len", "ip.src", "ip.dst", "ipv6.src", "ipv6.dst", "ip.proto", "ipv6.nxt", "tcp.srcport",
              "tcp.dstport", "udp.srcport", "udp.dstport", "tcp.flags")
    done = run("tshark", "-r", path, "-n", "-T", "fields", "-E", "occurrence=f", "-E", "separator=/t",
               "-o", "ip.defragment:FALSE", "-o", "ipv6.defragment:FALSE", "-Y",
               "(tcp or udp) and not icmp and not icmpv6 and not (ip.frag_offset > 0) and not ipv6.fraghdr",
               *[word for field in fields for word in ("-e", field)], timeout=60)
    found = {}
    for line in done.stdout.splitlines():
        length, src4, dst4, src6, dst6, _, _, tsport, tdport, usport, udport, flags = line.split("\t")
        key = ("tcp" if tsport else "udp", src4 or src6, int(tsport or usport), dst4 or dst6, int(tdport or udport))
        packets, size, seen = found.get(key, (0, 0, 0))
        found[key] = (packets + 1, size + int(length), seen | (int(flags, 16) & 0xFF if flags else 0))
    return found


@each(seconds=60)
@variants("capture", *[os.path.basename(path) for path in captures()])
def replayed_capture_equals_tshark(lab, capture):
    """the capture {capture}, replayed with tcpreplay, is listed flow by flow as tshark reads it"""
    path = next(p for p in captures() if os.path.basename(p) == capture)
    got, sent = replay_equals(lab, path)
    mine = {}
    for key, counts in got.items():
        if key.proto in ("tcp", "udp") and not key.fragment:
            short = (key.proto, key.src, key.sport, key.dst, key.dport)
            packets, size, flags = mine.get(short, (0, 0, 0))
            mine[short] = (packets + counts.packets, size + counts.bytes, flags | counts.flags)
    theirs = tshark_flows(sent)
    differing = {key for key in set(mine) | set(theirs) if mine.get(key) != theirs.get(key)}
    expect(not differing, f"{len(differing)} of {len(theirs)} flows differ from tshark's, such as "
           + "; ".join(f"{key}: expected {theirs.get(key)}, got {mine.get(key)}" for key in sorted(differing)[:4]))


@test()
def rates_follow_traffic(lab):
    """the rate of a flow is the rate of its packets, and goes to zero after them"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    pace = 2000  # packets a second of 60 bytes: 960 kbit/s
    blast = peer.start(lab.tool("blast"), "p0", 4, 1, 1, 5 * pace, pace)
    time.sleep(3)
    flow = agent.flows("udp to port 9")[0]
    expect(700_000 < flow["rate_bps"] < 1_250_000, f"rate of a flow of 960 kbit/s: {flow['rate_bps']}")
    interface = agent.interface("w0")
    expect(700_000 < interface["rate_in_bps"] < 1_250_000, f"rate of w0: {interface['rate_in_bps']}")
    blast.send_signal(signal.SIGTERM)
    blast.wait(5)
    wait_for(lambda: agent.flows("udp to port 9")[0]["rate_bps"] == 0, 6, "the rate to be zero")

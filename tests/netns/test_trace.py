# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Traces: each probe measures real traffic, counts agree with the kernel's, and nothing stays when nobody listens."""

import contextlib
import ctypes
import errno
import json
import os
import signal
import socket
import struct
import time

from lab import (BPF_PROG_GET_FD_BY_ID, LIBC, SYS_BPF, UnixConnection, bpf_object_exists, expect, expect_equal,
                 need_kernel, tcp_transfer, udp_send, udp_socket, wait_for)
from suite import test

TICK = 0.05  # so often the agent looks at what its traces recorded


class Trace:
    """One `weir trace` that runs: `with Trace(agent, "tcp.rtt") as trace`; afterwards `trace.events`, or
    `trace.histograms`."""

    def __init__(self, agent, probe, *words):
        self.agent, self.probe, self.words = agent, probe, words
        self.path = agent.lab.write(f"trace-{probe}", "")
        self.events, self.missed, self.documents = [], {}, []
        self.process = None

    def launch(self):
        with open(self.path, "wb") as out, open(self.path + ".err", "wb") as err:
            # without `ip netns exec`, so that the client's pid is that of the process
            self.process = self.agent.lab.start(self.agent.lab.weir, "trace", self.probe, "--json", "--interval",
                                                "100ms", "--run-dir", self.agent.run_dir, *self.words, stdout=out,
                                                stderr=err)
        return self

    def wait_running(self):
        wait_for(lambda: self.process.poll() is not None or self.process.pid in clients(self.agent), 10,
                 f"{self.probe} to run")
        expect(self.process.poll() is None, f"{self.probe}: {self.errors()}")
        return self

    def end(self):
        self.process.send_signal(signal.SIGINT)
        expect_equal(self.process.wait(10), 0, f"status of weir trace {self.probe}")
        self.read()

    def errors(self):
        with open(self.path + ".err", encoding="utf-8") as file:
            return file.read()

    def read(self):
        with open(self.path, encoding="utf-8") as file:
            lines = [json.loads(line) for line in file.read().split("\n")[:-1]]
        self.events = [line for line in lines if "value" in line]
        self.documents = [line for line in lines if "histograms" in line]
        self.missed = {name: sum(line["missed"][name] for line in lines if "missed" in line)
                       for name in ("limited", "no_room")}
        return self

    def wait(self, condition, what, seconds=8):
        """Until what was traced so far fits."""
        wait_for(lambda: condition(self.read()), seconds, f"{self.probe}: {what}; so far {self.events[-3:]}", TICK)

    def wait_events(self, count=1):
        self.wait(lambda t: len(t.events) >= count, f"{count} events")

    @property
    def histograms(self):
        return self.documents[-1]["histograms"] if self.documents else []

    def values(self, **fields):
        """The values of the events that have these fields."""
        return [e["value"] for e in self.events if all(e.get(name) == value for name, value in fields.items())]


def clients(agent):
    """Processes whose traces run."""
    connection = UnixConnection(agent.socket, 10)
    try:
        connection.request("GET", "/v1/status")
        return [trace["client"] for trace in json.loads(connection.getresponse().read())["traces"]]
    finally:
        connection.close()


@contextlib.contextmanager
def running(agent, traces):
    """Has several traces run together: a dict of them, by whatever name.  In the end all of what happened is told."""
    for trace in traces.values():
        trace.launch()
    for trace in traces.values():
        trace.wait_running()
    yield traces
    time.sleep(5 * TICK / min(agent.lab.scale, 1))  # an interval, and a tick
    for trace in traces.values():
        trace.end()


def tracing(agent, *probes):
    """Events of these probes."""
    return running(agent, {probe: Trace(agent, probe) for probe in probes})


def counting(agent, *probes, words=()):
    """Histograms of these probes."""
    return running(agent, {probe: Trace(agent, probe, "--histogram", *words) for probe in probes})


def bucket_sum(histogram):
    return sum(bucket["count"] for bucket in histogram["buckets"])


def connection(client, server, address, port, family=socket.AF_INET):
    """(listener, connected socket); nobody has accepted it."""
    with server:
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(8)
    with client:
        sock = socket.socket(family, socket.SOCK_STREAM)
    sock.settimeout(10)
    sock.connect((address, port))
    return listener, sock


def lose(namespace, interface, *addresses):
    """What goes to these neighbours is lost from here on."""
    for address in addresses:
        namespace.ip("neigh", "replace", address, "lladdr", "02:00:00:00:99:99", "nud", "permanent", "dev", interface)


@test()
def tcp_probes_measure_connections(lab):
    """The TCP probes measure connections of both families: as many as there were, their payload to the byte, plausible
    times and windows, with flow and owner"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    with tracing(agent, "tcp.rtt", "tcp.cwnd", "tcp.inflight", "tcp.window", "tcp.lifetime", "tcp.bytes",
                 "connect.latency", "tcp.handshake") as traces:
        own_port = [tcp_transfer(host, peer, "10.1.0.2", 8080, 300000, 5000)[2],
                    tcp_transfer(host, peer, "fd00:1::2", 8080, 70000, 12345)[2]]
        served = [tcp_transfer(peer, host, "10.1.0.1", 9090, 4444, 7)[2]]
        traces["tcp.bytes"].wait_events(3)
    to_port = {probe: trace.values(dport=8080) for probe, trace in traces.items()}
    expect_equal(sorted(to_port["tcp.bytes"]), [82345, 305000], "payload of the connections")
    expect_equal(traces["tcp.bytes"].values(sport=9090, dport=served[0]), [4451], "payload of the served one")
    ends = sorted((e["src"], e["sport"], e["dst"]) for e in traces["connect.latency"].events)
    expect_equal(ends, [("10.1.0.1", own_port[0], "10.1.0.2"), ("fd00:1::1", own_port[1], "fd00:1::2")],
                 "connections that were opened here")
    expect_equal([(e["sport"], e["dst"], e["dport"]) for e in traces["tcp.handshake"].events],
                 [(9090, "10.1.0.2", served[0])], "connections that were served here")
    expect_equal(len(traces["tcp.lifetime"].events), 3, "connections that ended")
    for probe in ("connect.latency", "tcp.handshake", "tcp.lifetime", "tcp.rtt"):
        wrong = [v for v in traces[probe].values() if not 0 < v < 10e6]
        expect(traces[probe].events and not wrong, f"{probe}: {wrong or 'nothing'}")
    expect(max(to_port["tcp.cwnd"]) >= 10, f"congestion windows: {to_port['tcp.cwnd'][:5]}")
    expect(max(to_port["tcp.inflight"]) >= 1, f"in flight: {to_port['tcp.inflight'][:5]}")
    expect(max(to_port["tcp.window"]) > 10000, f"windows: {to_port['tcp.window'][:5]}")
    expect_equal(len(to_port["tcp.cwnd"]), len(to_port["tcp.window"]), "segments, by two probes")
    owners = {e["owner"].get("pid") for e in traces["connect.latency"].events}
    expect_equal(owners, {os.getpid()}, "owner of the connections")


@test("vm")
def retransmissions_are_counted_as_the_kernel_counts(lab):
    """tcp.retransmit counts what RetransSegs counts, data and SYN-ACKs, and tcp.congestion tells of the loss"""
    host, peer = lab.hosts()
    lab.quiet(host, peer)
    agent = lab.agent(host)
    before = host.snmp("Tcp")["RetransSegs"]
    with tracing(agent, "tcp.retransmit", "tcp.congestion") as traces:
        listener, sock = connection(host, peer, "10.1.0.2", 8080)
        with host:
            server = socket.socket()
        server.bind(("10.1.0.1", 9090))
        server.listen()
        with peer:
            caller = socket.socket()
        caller.setblocking(False)
        lose(host, "w0", "10.1.0.2")
        sock.sendall(bytes(5000))
        with contextlib.suppress(BlockingIOError):
            caller.connect(("10.1.0.1", 9090))
        traces["tcp.retransmit"].wait(
            lambda t: t.values(state="syn-received") and len(t.values(dport=8080)) >= 2, "both kinds")
        with listener, server, caller, sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    trace = traces["tcp.retransmit"]
    # the caller asks again, and gets an answer again, for as long as it is there
    expect_equal(sum(trace.values()), host.snmp("Tcp")["RetransSegs"] - before, "retransmitted segments")
    expect("loss" in {e["state"] for e in traces["tcp.congestion"].events}, f"{traces['tcp.congestion'].events}")


@test()
def refusals_and_unreachable_ones_are_told(lab):
    """tcp.reset, socket.error, connect.latency and fib.failure tell of refused connections, and of addresses that no
    route leads to"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    with tracing(agent, "tcp.reset", "socket.error", "connect.latency", "fib.failure") as traces:
        for address in ("10.1.0.2", "fd00:1::2"):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with host, socket.socket(family, socket.SOCK_STREAM) as sock:
                expect_equal(sock.connect_ex((address, 81)), errno.ECONNREFUSED, "a closed port")
        with peer, socket.socket() as sock:
            expect_equal(sock.connect_ex(("10.1.0.1", 82)), errno.ECONNREFUSED, "a closed port here")
        for address in ("192.0.2.77", "2001:db8::77"):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with host, socket.socket(family, socket.SOCK_DGRAM) as sock:
                expect_equal(sock.connect_ex((address, 9)), errno.ENETUNREACH, "a network without a route")
        traces["fib.failure"].wait_events(2)
    resets = traces["tcp.reset"]
    expect_equal(sorted(e["dst"] for e in resets.events if e["way"] == "received"), ["10.1.0.2", "fd00:1::2"],
                 "resets received")
    # Linux 6.9 and before tell only of those that a socket sends
    without_socket = tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 10)
    expect_equal([(e["src"], e["sport"], e["dst"]) for e in resets.events if e["way"] == "sent"],
                 [("10.1.0.1", 82, "10.1.0.2")] if without_socket else [], "resets sent")
    for probe in ("socket.error", "connect.latency"):
        expect_equal([e["error"] for e in traces[probe].events if e.get("dport") == 81], ["Connection refused"] * 2,
                     probe)
    # the whole host's, for IPv4
    failed = {e["dst"] for e in traces["fib.failure"].events}
    expect({"192.0.2.77", "2001:db8::77"} <= failed, f"lookups that failed: {failed}")


@test()
def waiting_for_a_process_is_measured(lab):
    """accept.queue measures from the end of the handshake until accept() returns the connection, receive.wait from a
    packet's arrival until it is read"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    with tracing(agent, "accept.queue", "receive.wait") as traces:
        trace, waits = traces["accept.queue"], traces["receive.wait"]
        begun = time.monotonic()
        listener, sock = connection(peer, host, "10.1.0.1", 9090)
        with listener, sock:
            connected = time.monotonic()
            time.sleep(0.3)
            asked = time.monotonic()
            accepted, (_, port) = listener.accept()
            ended = time.monotonic()
            sock.sendall(b"hello")
            sent = time.monotonic()
            time.sleep(0.2)
            reads = time.monotonic()
            expect_equal(accepted.recv(100), b"hello", "what was sent")
            read = time.monotonic()
            accepted.close()
        trace.wait_events()
        waits.wait_events()
    expect_equal([(e["sport"], e["dport"], e["owner"].get("pid")) for e in trace.events], [(9090, port, os.getpid())],
                 "connections that were accepted")
    expect_equal([(e["sport"], e["dport"], e["interface"]) for e in waits.events], [(port, 9090, "w0")], "packets read")
    waited = waits.events[0]["value"] / 1e6
    expect(reads - sent <= waited <= read - ended, f"read after {waited} s, between {reads - sent} and {read - ended}")
    waited = trace.events[0]["value"] / 1e6
    expect(asked - connected <= waited <= ended - begun, f"waited {waited} s, between {asked - connected} and "
           f"{ended - begun}")


@test()
def packets_are_counted_at_every_place(lab):
    """The probes on the way of packets see each of them: receive.size, transmit.size, driver.transmit, net.backlog
    agree with the interface's counters"""
    host, peer = lab.hosts()
    lab.quiet(host, peer)
    host.offload("w0", False)
    peer.offload("p0", False)
    agent = lab.agent(host)
    names = ["receive.size", "transmit.size", "driver.transmit", "net.backlog", "softirq.net"]
    with counting(agent, *names) as traces:
        before = host.counters("w0")
        udp_send(host, peer, "10.1.0.1", "10.1.0.2", 53, 40, 500)
        udp_send(peer, host, "10.1.0.2", "10.1.0.1", 53, 30, 700)
        after = host.counters("w0")
    counts = {name: sum(h["count"] for h in trace.histograms) for name, trace in traces.items()}
    expect_equal(counts["receive.size"], after[0] - before[0], "packets that came in")
    expect_equal(counts["net.backlog"], after[0] - before[0], "packets that were in the backlog")
    expect_equal(counts["transmit.size"], after[2] - before[2], "packets that went out")
    expect_equal(counts["driver.transmit"], after[2] - before[2], "packets that the driver took")
    for histogram in (h for trace in traces.values() for h in trace.histograms):
        expect_equal(bucket_sum(histogram), histogram["count"], "sum of the buckets")
        expect(histogram["p50"] <= histogram["p90"] <= histogram["p99"] <= histogram["max"], f"{histogram}")
    sizes = traces["receive.size"].histograms[0]
    expect_equal((sizes["sum"], sizes["max"]), (30 * 728, 728), "bytes of the packets that came in, from IP on")
    expect(counts["softirq.net"] > 0, "no softirq")


@test()
def socket_probes_count_bytes(lab):
    """socket.send, socket.receive and skb.copy count the bytes that processes sent and received"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    found = {p["name"]: p["found"] for p in agent.get("/v1/trace")["probes"]}
    names = [name for name in ("socket.send", "socket.receive", "skb.copy") if found[name]]
    expect("skb.copy" in names, "skb.copy cannot be had")
    with counting(agent, *names, words=("--by", "owner", "tcp")) as traces:
        tcp_transfer(host, peer, "10.1.0.2", 8080, 123456, 65432)
    sums = {name: {h["owner"].get("pid"): h["sum"] for h in trace.histograms} for name, trace in traces.items()}
    expect_equal(sums["skb.copy"], {os.getpid(): 65432}, "bytes copied, by owner")
    if "socket.send" in names:
        expect_equal(sums["socket.send"], {os.getpid(): 123456}, "bytes sent, by owner")
        expect_equal(sums["socket.receive"], {os.getpid(): 65432}, "bytes received, by owner")


@test()
def queues_and_neighbours(lab):
    """qdisc.latency measures the delay of a shaper (1400 bytes at 1 Mbit/s are 11 ms), neighbour.resolve that of an
    unknown neighbour, of both families, and napi.poll the packets of a veth's queue"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    for address in ("10.1.0.3/24", "fd00:1::3/64"):
        peer.ip("addr", "add", address, "dev", "p0", *(["nodad"] if ":" in address else []))
    host.run("ethtool", "-K", "w0", "gro", "on")
    peer.run("ethtool", "-K", "p0", "tso", "off")  # both have veth poll
    need_kernel(lambda: host.tc("qdisc", "add", "dev", "w0", "root", "tbf", "rate", "1mbit", "burst", "2kb", "limit",
                                "100kb"), "tbf")
    with tracing(agent, "qdisc.latency", "neighbour.resolve", "napi.poll") as traces:
        for own, address in (("10.1.0.1", "10.1.0.3"), ("fd00:1::1", "fd00:1::3")):
            with udp_socket(peer, address, 5353) as receiver, udp_socket(host, own) as sender:
                sender.sendto(b"?", (address, 5353))
                data, back = receiver.recvfrom(100)
                receiver.sendto(data, back)
                sender.recv(100)
                for _ in range(4):
                    sender.sendto(bytes(1400), (address, 5353))
                for _ in range(4):
                    receiver.recv(2000)
        traces["neighbour.resolve"].wait_events(2)
    expect_equal(sorted(e["dst"] for e in traces["neighbour.resolve"].events), ["10.1.0.3", "fd00:1::3"],
                 "neighbours that were resolved")
    for probe, least in (("neighbour.resolve", 0), ("qdisc.latency", 20e3)):
        values = traces[probe].values(interface="w0")
        expect(len(values) >= 2 and all(0 < v < 20e6 for v in values) and max(values) > least, f"{probe}: {values}")
    expect(sum(traces["napi.poll"].values(interface="w0")) >= 2, f"{traces['napi.poll'].events}")


@test()
def udp_queue_drops_are_counted(lab):
    """udp.queue.drop tells of each datagram that found no room in its socket: as many as UDP's RcvbufErrors"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    before = host.snmp("Udp")["RcvbufErrors"]
    with tracing(agent, "udp.queue.drop") as traces, udp_socket(host, "10.1.0.1", 5000) as receiver, \
            udp_socket(peer, "10.1.0.2") as sender:
        trace = traces["udp.queue.drop"]
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        for _ in range(100):
            sender.sendto(bytes(1000), ("10.1.0.1", 5000))
        trace.wait_events()
    dropped = host.snmp("Udp")["RcvbufErrors"] - before
    expect(dropped > 0, "nothing was dropped")
    expect_equal(len(trace.values(sport=5000)), dropped, "datagrams dropped")
    expect(min(trace.values()) > 1000, f"bytes in the queue: {trace.values()[:5]}")


def load_xdp(namespace, interface, code):
    """An XDP program that only returns `code`, on an interface for as long as the descriptor is open."""
    instructions = ctypes.create_string_buffer(struct.pack("<BBhiBBhi", 0xB7, 0, 0, code, 0x95, 0, 0, 0))
    license_text = ctypes.create_string_buffer(b"GPL")
    attribute = ctypes.create_string_buffer(struct.pack("IIQQ", 6, 2, ctypes.addressof(instructions),
                                                        ctypes.addressof(license_text)), 128)
    program = LIBC.syscall(SYS_BPF, 5, attribute, 128)
    with namespace:
        index = socket.if_nametoindex(interface)
        attribute = ctypes.create_string_buffer(struct.pack("IIII", program, index, 37, 0), 128)  # BPF_XDP
        link = LIBC.syscall(SYS_BPF, 28, attribute, 128)
        error = ctypes.get_errno()
    if program >= 0:
        os.close(program)
    if link < 0:
        raise OSError(error, "XDP link")
    return link


@test()
def xdp_exceptions_are_counted(lab):
    """xdp.exception counts the packets for which an XDP program returned nonsense"""
    host, peer = lab.hosts()
    lab.quiet(host, peer)
    agent = lab.agent(host)
    link = need_kernel(lambda: load_xdp(host, "w0", 77), "XDP on veth")
    try:
        with tracing(agent, "xdp.exception") as traces, udp_socket(peer, "10.1.0.2") as sender:
            trace = traces["xdp.exception"]
            for _ in range(12):
                sender.sendto(b"lost", ("10.1.0.1", 5000))
            trace.wait_events(12)
    finally:
        os.close(link)
    expect_equal(trace.values(interface="w0"), [1] * 12, "exceptions")


@test("vm")
def functions_are_measured_where_the_kernel_lets(lab):
    """The function probes measure each call where the kernel has fentry; where it has not, they say so"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    probes = {p["name"]: p for p in agent.get("/v1/trace")["probes"] if p["name"].startswith("function.")}
    expect(len(probes) >= 5, f"only {len(probes)} functions")
    fentry = next(f["found"] for f in agent.get("/v1/status")["features"] if f["name"] == "fentry")
    if not fentry:
        for name, probe in probes.items():
            expect(not probe["found"] and probe["missing"].startswith("fentry"), f"{name}: {probe}")
        done = agent.weir("trace", "function.tcp_sendmsg", check=False)
        expect_equal(done.returncode, 1, "status")
        expect("fentry: this kernel lets no program attach" in done.stderr, done.stderr)
        return
    count = 25
    names = ["function.udp_sendmsg", "function.udp_recvmsg", "function.ip_rcv", "function.udp_rcv",
             "function.__dev_queue_xmit", "function.tcp_sendmsg", "function.tcp_v4_connect"]
    with running(agent, {name: Trace(agent, name, "host", "10.1.0.2") for name in names}) as traces:
        udp_send(host, peer, "10.1.0.1", "10.1.0.2", 5353, count, 100)
        udp_send(peer, host, "10.1.0.2", "10.1.0.1", 5353, count, 100)
        listener, sock = connection(host, peer, "10.1.0.2", 8080)
        with listener, sock:
            sock.send(b"hello")
    counts = {name: len(trace.values(proto="udp")) for name, trace in traces.items() if "tcp" not in name}
    # an unconnected socket's flow has no other end
    expect_equal({name: counts[name] for name in ("function.ip_rcv", "function.udp_rcv", "function.__dev_queue_xmit")},
                 dict.fromkeys(("function.ip_rcv", "function.udp_rcv", "function.__dev_queue_xmit"), count), "calls")
    expect_equal(len(traces["function.tcp_sendmsg"].values(dport=8080)), 1, "calls of tcp_sendmsg()")
    for name, trace in traces.items():
        expect(all(0 < value < 10e6 for value in trace.values()), f"{name}: {trace.values()[:5]}")


@test()
def histograms_by_owner_interface_remote_and_cpu(lab):
    """--by makes a histogram of each owner, interface, remote address or CPU, and they add up to the same"""
    host, peer = lab.hosts()
    lab.quiet(host, peer)
    host.offload("w0", False)
    agent = lab.agent(host)
    for number in range(3, 6):
        peer.ip("addr", "add", f"10.1.0.{number}/24", "dev", "p0")
        host.ip("neigh", "replace", f"10.1.0.{number}", "lladdr", "02:00:00:00:01:02", "dev", "w0")
    with running(agent, {by: Trace(agent, "transmit.size", "--histogram", "--by", by)
                         for by in ("owner", "interface", "remote", "cpu")}) as traces:
        for number in range(2, 6):
            udp_send(host, peer, "10.1.0.1", f"10.1.0.{number}", 53, number * 10, 100)
    got = {by: {str(h[by].get("pid") if by == "owner" else h[by]): h["count"] for h in trace.histograms}
           for by, trace in traces.items()}
    expect_equal(got["owner"], {str(os.getpid()): 140}, "by owner")
    expect_equal(got["interface"], {"w0": 140}, "by interface")
    expect_equal(got["remote"], {f"10.1.0.{number}": number * 10 for number in range(2, 6)}, "by remote address")
    expect_equal(sum(got["cpu"].values()), 140, "by CPU")


@test()
def matches_narrow_a_trace(lab):
    """MATCH narrows a trace by port, address, family and owner; what a probe does not know it is not narrowed by"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    sentences = {"to port 8080": 2, "ip to port 8080": 1, "to fd00:1::/64": 2, "to port 1-8079": 1,
                 f"by pid {os.getpid()}": 3, "by pid 1": 0, "to 10.1.0.2 port 8080 by user root": 1}
    with running(agent, {s: Trace(agent, "connect.latency", *s.split()) for s in sentences}) as traces:
        for address, port in (("10.1.0.2", 8080), ("fd00:1::2", 8080), ("fd00:1::2", 80)):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            listener, sock = connection(host, peer, address, port, family)
            sock.close()
            listener.close()
    expect_equal({s: len(trace.events) for s, trace in traces.items()}, sentences, "connections, by sentence")
    for words, wrong in (("tcp.rtt in tcp", "a direction"), ("tcp.rtt on w0", "an interface"),
                         ("softirq.net tcp", "a flow"), ("receive.size by pid 1", "an owner"),
                         ("tcp.rtt vlan 3", "a VLAN")):
        done = agent.weir("trace", *words.split(), check=False)
        expect_equal(done.returncode, 1, f"status of {words}")
        expect(f"cannot be narrowed by {wrong}" in done.stderr, f"{words}: {done.stderr}")


@test()
def more_events_than_a_person_reads_are_counted(lab):
    """Above 1000 events a second on a CPU a trace leaves some out, and says how many: told and left out are all"""
    host, peer = lab.hosts()
    lab.quiet(host, peer)
    agent = lab.agent(host)
    trace = Trace(agent, "transmit.size", "udp", "to", "port", "9")
    with running(agent, {"flood": trace}):
        with udp_socket(host, "10.1.0.1") as sender, udp_socket(peer, "10.1.0.2", 9):
            for _ in range(6000):
                sender.sendto(b"x", ("10.1.0.2", 9))
        trace.wait(lambda t: len(t.events) + sum(t.missed.values()) == 6000, "all events")
    expect(trace.missed["limited"] > 0 and len(trace.events) >= 1000, f"{len(trace.events)} told, {trace.missed}")


def programs_of(pid):
    """Ids of the programs that a process holds."""
    found = set()
    for entry in os.listdir(f"/proc/{pid}/fdinfo"):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/fdinfo/{entry}", encoding="utf-8") as file:
            found |= {int(line.split()[1]) for line in file if line.startswith("prog_id:")}
    return found


@test("vm-6.1")
def nothing_stays_when_the_client_or_the_agent_dies(lab):
    """A trace ends with its client, even a killed one, and with a killed agent: its programs are gone"""
    host, _ = lab.hosts()
    agent = lab.agent(host)
    before = programs_of(agent.pid)
    for number in (signal.SIGKILL, signal.SIGINT):
        trace = Trace(agent, "accept.queue").launch().wait_running()
        programs = programs_of(agent.pid) - before
        expect_equal(len(programs), 2, "programs of the trace")
        trace.process.send_signal(number)
        trace.process.wait(10)
        wait_for(lambda: not clients(agent), 5, "the trace to end")
        for program in programs:
            wait_for(lambda p=program: not bpf_object_exists(BPF_PROG_GET_FD_BY_ID, p), 5, f"program {program} to go")
    trace = Trace(agent, "tcp.rtt").launch().wait_running()
    programs = programs_of(agent.pid) - before
    expect_equal(len(programs), 1, "programs of the trace")
    agent.stop(signal.SIGKILL)
    expect_equal(trace.process.wait(10), 1, "status of a trace whose agent died")
    for program in programs:
        wait_for(lambda p=program: not bpf_object_exists(BPF_PROG_GET_FD_BY_ID, p), 5, f"program {program} to go")
    agent.start()
    Trace(agent, "tcp.rtt").launch().wait_running().end()


@test()
def wrong_traces_are_refused(lab):
    """A probe that does not exist, one trace too many, and a person who may not: each is told in one line"""
    host, _ = lab.hosts()
    agent = lab.agent(host, "interfaces: [w0]\napi: {mode: '0666'}\n")
    os.chmod(lab.directory, 0o755)
    done = agent.weir("trace", "tcp.retransmits", check=False)
    expect_equal((done.returncode, done.stderr),
                 (1, "weir: there is no probe 'tcp.retransmits'; did you mean 'tcp.retransmit'?\n"), "unknown probe")
    for part, whole in (("rtt", "tcp.rtt"), ("retransmit", "tcp.retransmit"), ("Queue.drop", "udp.queue.drop")):
        expect_equal(agent.weir("trace", part, check=False).stderr,
                     f"weir: there is no probe '{part}'; did you mean '{whole}'?\n", "part of a probe's name")
    for path, wrong in (("/v1/trace", "no probe is named"), ("/v1/trace?probe=tcp.rtt&by=cpu", "histogram=1"),
                        ("/v1/trace?probe=tcp.rtt&histogram=1&by=interface", "does not know the interface"),
                        ("/v1/trace?probe=tcp.rtt&histogram=2", "neither 0 nor 1"),
                        ("/v1/trace?probe=tcp.rtt&interval=1ms", "not a time to wait"),
                        ("/v1/trace?probe=tcp.rtt&filtre=tcp", "did you mean 'filter'")):
        status, body, _ = agent.request("POST", path)
        expect(status == 400 and wrong in body, f"{path}: {status} {body}")
    expect_equal(agent.request("GET", "/v1/trace?x=1")[0], 400, "a parameter of the list")
    nobody = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
    done = host.run(*nobody, lab.weir, "trace", "tcp.rtt", "--run-dir", agent.run_dir, check=False)
    expect_equal(done.returncode, 1, "status for nobody")
    expect("not allowed to change anything" in done.stderr, done.stderr)
    expect_equal(agent.get("/v1/status")["traces"], [], "traces that run")
    with running(agent, {number: Trace(agent, "tcp.rtt") for number in range(8)}):
        done = agent.weir("trace", "tcp.rtt", check=False)
        expect_equal(done.returncode, 1, "status of the ninth")
        expect("8 traces are running already" in done.stderr, done.stderr)
        shown = agent.weir("status").stdout
        expect_equal(shown.count("tcp.rtt, 0 samples, for process "), 8, f"traces in {shown}")


@test()
def a_trace_ends_when_it_is_told_to(lab):
    """--for ends a trace, with status 0 and a whole last histogram on standard output"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    process = host.start(lab.weir, "trace", "tcp.bytes", "--histogram", "--for", "1s", "--run-dir", agent.run_dir,
                         stdout=-1, text=True)
    wait_for(lambda: agent.get("/v1/status")["traces"], 5, "the trace to run")
    tcp_transfer(host, peer, "10.1.0.2", 8080, 1000, 24)
    text, _ = process.communicate(timeout=10)
    expect_equal(process.returncode, 0, "status")
    lines = text.splitlines()
    expect(lines[0].startswith("tcp.bytes, "), text)
    expect_equal(lines[2].split()[0], "1", f"connections in {text!r}")
    expect_equal(agent.get("/v1/status")["traces"], [], "traces that run")

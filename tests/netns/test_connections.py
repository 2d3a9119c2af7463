# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Connections: what rules know as new, established, related and invalid, with real peers, raw ones and bad lines."""

import ipaddress
import json
import random
import select
import signal
import socket
import struct
import threading
import urllib.parse

import pcap
from lab import address_family, expect, expect_equal, send_frames, tcp_transfer, udp_socket, wait_for
from suite import test

HOST, PEER, RAW = {4: "10.1.0.1", 6: "fd00:1::1"}, {4: "10.1.0.2", 6: "fd00:1::2"}, {4: "10.1.0.3", 6: "fd00:1::3"}
STATEFUL = ["drop in state invalid", "drop out state invalid", "accept in state established,related"]
SYN, RST, ACK, FIN, PSH = 0x02, 0x04, 0x10, 0x01, 0x08


def post(agent, path, body=None, **parameters):
    status, text, _ = agent.request("POST", f"{path}?{urllib.parse.urlencode(parameters)}", body=body)
    expect_equal(status, 200, f"{path} {parameters}: {text}")
    return json.loads(text)


def apply(agent, *sentences, verdict="drop"):
    """A policy that drops what comes in, unless a sentence says otherwise."""
    post(agent, "/v1/policy", f"default: {{in: {verdict}}}\nrules:\n" + "".join(f"  - '{text}'\n" for text in sentences))


def packets(agent, text):
    return next(rule["packets"] for rule in agent.get("/v1/rules")["rules"] if rule["text"] == text)


def connections(agent, filter="", **parameters):  # pylint: disable=redefined-builtin # the API's word
    return agent.get("/v1/connections", filter=filter, **parameters)["connections"]


def sums(agent):
    return agent.get("/v1/status")["connections"]


class Raw:
    """An end of TCP that the test plays itself, packet by packet, from an address that the peer does not have."""

    def __init__(self, lab, host, peer, family, port, own_port=4000):
        self.peer, self.family, self.port, self.own_port = peer, family, port, own_port
        self.seq, self.ack = random.randrange(1 << 32), 0
        host.ip("neigh", "replace", RAW[family], "lladdr", "02:00:00:00:01:02", "nud", "permanent", "dev", "w0")
        with peer:
            self.line = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
        self.line.bind(("p0", 0))
        self.line.settimeout(2)
        lab.on_close(self.line.close)

    def frame(self, flags, seq=None, ack=None, payload=b"", window=60000):
        seq, ack = self.seq if seq is None else seq % (1 << 32), self.ack if ack is None else ack % (1 << 32)
        segment = struct.pack("!HHIIBBHHH", self.own_port, self.port, seq, ack if flags & ACK else 0, 0x50, flags, window, 0, 0) + payload
        source, destination = (ipaddress.ip_address(side[self.family]).packed for side in (RAW, HOST))
        total = pcap.checksum(source + destination + struct.pack("!II", len(segment), 6) + segment)
        segment = segment[:16] + struct.pack("!H", total) + segment[18:]
        build = pcap.ipv4 if self.family == 4 else pcap.ipv6
        return pcap.ethernet(build(6, segment, source=RAW[self.family], destination=HOST[self.family]))

    def send(self, flags, **fields):
        self.line.send(self.frame(flags, **fields))

    def receive(self):
        """(flags, seq, ack, payload) of the next packet of this connection; None: nothing comes."""
        head = 14 + (20 if self.family == 4 else 40)
        while True:
            try:
                frame, (_, _, kind, *_) = self.line.recvfrom(65536)
            except TimeoutError:
                return None
            if kind == 4 or len(frame) < head + 20 or frame[12:14] != (b"\x08\x00" if self.family == 4 else b"\x86\xdd"):
                continue
            sport, dport, seq, ack, offset, flags = struct.unpack("!HHIIBB", frame[head:head + 14])
            if (sport, dport) == (self.port, self.own_port):
                length = struct.unpack("!H", frame[16:18])[0] - 20 if self.family == 4 else struct.unpack("!H", frame[18:20])[0]
                return flags, seq, ack, frame[head + (offset >> 4) * 4:head + length]

    def connect(self):
        self.send(SYN)
        answer = self.receive()
        expect(answer and answer[0] & 0x3F == SYN | ACK, f"the answer to a SYN: {answer}")
        self.seq, self.ack = (self.seq + 1) % (1 << 32), (answer[1] + 1) % (1 << 32)
        self.send(ACK)


def listener(lab, namespace, address, port):
    with namespace:
        server = socket.socket(address_family(address), socket.SOCK_STREAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind((address, port))
    server.listen(8)
    server.settimeout(5)
    lab.on_close(server.close)
    return server


def connected(lab, client, server, address, port):
    """(client's end, server's end) of a TCP connection."""
    listening = listener(lab, server, address, port)
    with client:
        ours = socket.socket(address_family(address), socket.SOCK_STREAM)
    ours.settimeout(5)
    ours.connect((address, port))
    theirs, _ = listening.accept()
    theirs.settimeout(5)
    for end in (ours, theirs):
        lab.on_close(end.close)
    return ours, theirs


def talk(one, other):
    """Does a byte go both ways?"""
    try:
        one.send(b"a")
        if other.recv(1) != b"a":
            return False
        other.send(b"b")
        return one.recv(1) == b"b"
    except (TimeoutError, ConnectionError):
        return False


# ------------------------------------------------------------------------------------------------ healthy


class BadLine(threading.Thread):
    """Hands frames from one interface to another, and loses, doubles and reorders some of them."""

    def __init__(self, lab, namespace, interfaces, seed):
        super().__init__(daemon=True)
        self.random, self.sockets, self.held, self.end = random.Random(seed), [], {}, False
        self.lost = self.doubled = self.reordered = 0
        with namespace:
            for interface in interfaces:
                line = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
                line.bind((interface, 0))
                line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
                line.setblocking(False)
                self.sockets.append(line)
                lab.on_close(line.close)
        lab.on_close(self.stop)
        self.start()

    def hand_on(self, to, frame):
        fate = self.random.random()
        if fate < 0.01:
            self.lost += 1
            return
        if fate < 0.02 and to not in self.held:
            self.held[to] = frame  # until the next one has passed
            self.reordered += 1
            return
        self.doubled += fate > 0.99
        for _ in range(2 if fate > 0.99 else 1):
            to.send(frame)
        if to in self.held:
            to.send(self.held.pop(to))

    def run(self):
        while not self.end:
            for line in select.select(self.sockets, [], [], 0.1)[0]:
                try:
                    frame, (_, _, kind, *_) = line.recvfrom(65536)
                    if kind != 4:
                        self.hand_on(self.sockets[1 - self.sockets.index(line)], frame)
                except OSError:
                    continue

    def stop(self):
        self.end = True
        self.join()


@test()
def transfers_are_never_invalid(lab):
    """of large TCP transfers both ways, of both families, with offloads and SACK, no packet is invalid"""
    host, peer = lab.hosts()
    for namespace in (host, peer):
        namespace.sysctl("net.ipv4.tcp_sack=1")
    agent = lab.agent(host)
    apply(agent, *STATEFUL, "accept in tcp to port 5000 state new", "accept in icmp6")
    for family in (4, 4, 6):
        tcp_transfer(peer, host, HOST[family], 5000, int(30_000_000 * lab.scale), int(30_000_000 * lab.scale))
        expect_equal(sums(agent)["invalid"], 0, f"invalid packets of IPv{family}")
    found = connections(agent, "tcp")
    expect_equal(sorted((entry["src"], entry["dport"], entry["stage"]) for entry in found),
                 [(PEER[4], 5000, "closed")] * 2 + [(PEER[6], 5000, "closed")], "connections")
    expect_equal(found[0]["rule"]["text"], "accept in tcp to port 5000 state new", "its rule")


@test()
def bad_lines_make_nothing_invalid(lab):
    """of a transfer over a line that loses, doubles and reorders packets no packet is invalid"""
    host, middle, peer = lab.namespace("host"), lab.namespace("middle"), lab.namespace("peer")
    lab.pair(host, "w0", middle, "m0", number=1)
    lab.pair(peer, "p0", middle, "m1", number=1)
    peer.ip("addr", "flush", "dev", "p0")
    lab.address(peer, "p0", 1, 2, 1, "02:00:00:00:01:01")
    # the two ends see each other, not the middle: one has the other's addresses as neighbour
    peer.ip("link", "set", "p0", "address", "02:00:00:00:01:02")
    for interface in ("m0", "m1"):
        middle.ip("addr", "flush", "dev", interface)
        middle.ip("link", "set", interface, "promisc", "on")
        middle.ip("link", "set", interface, "arp", "off")
    for namespace, interface in ((host, "w0"), (peer, "p0"), (middle, "m0"), (middle, "m1")):
        namespace.offload(interface, False)
        namespace.run("ethtool", "-K", interface, "tx", "off")
        namespace.sysctl("net.ipv4.tcp_sack=1")
    line = BadLine(lab, middle, ("m0", "m1"), 7)
    agent = lab.agent(host)
    apply(agent, *STATEFUL, "accept in tcp to port 5000 state new")
    tcp_transfer(peer, host, HOST[4], 5000, 1_500_000, 1_500_000)
    expect(line.lost > 5 and line.doubled > 5 and line.reordered > 5, f"{line.lost} {line.doubled} {line.reordered}")
    expect_equal(sums(agent)["invalid"], 0, "invalid packets")


@test()
def each_packet_may_be_seen_twice(lab):
    """at lo each packet is seen going out and coming in, and on a router coming in and going out: none is invalid"""
    client, router, server = lab.namespace("client"), lab.namespace("router"), lab.namespace("server")
    lab.pair(router, "w0", client, "c0", number=1)
    lab.pair(router, "w1", server, "s0", number=2)
    client.ip("route", "add", "default", "via", "10.1.0.1")
    server.ip("route", "add", "default", "via", "10.2.0.1")
    router.sysctl("net.ipv4.ip_forward=1")
    agent = lab.agent(router, "interfaces: [w0, w1, lo]\n")
    apply(agent, *STATEFUL, "accept in tcp to port 5000 state new")
    tcp_transfer(client, server, "10.2.0.2", 5000, 3_000_000, 3_000_000)
    tcp_transfer(router, router, "127.0.0.1", 5000, 3_000_000, 3_000_000)
    with router:
        refused = socket.socket()
    with refused:
        expect(refused.connect_ex(("127.0.0.1", 5000)), "nobody listens there any more")
    expect_equal(sums(agent)["invalid"], 0, "invalid packets")
    expect_equal(sorted(entry["stage"] for entry in connections(agent)), ["closed", "closed", "reset"], "stages")


# ------------------------------------------------------------------------------------------------ evasions


@test()
def resets_out_of_the_window_end_nothing(lab):
    """a RST out of the window is invalid, one that is not exact and a SYN in the middle change nothing; an exact one ends"""
    host, peer = lab.hosts()
    servers = {family: listener(lab, host, HOST[family], 5000) for family in (4, 6)}
    agent = lab.agent(host)
    apply(agent, *STATEFUL, "accept in tcp to port 5000 state new")
    for turn, (family, server) in enumerate(servers.items(), 1):
        raw = Raw(lab, host, peer, family, 5000)
        raw.connect()
        end, _ = server.accept()
        lab.on_close(end.close)
        end.settimeout(5)
        for offset in (-1, -70000, 100_000, 1 << 30, 1 << 31, 3 << 30):
            raw.send(RST, seq=raw.seq + offset)
        raw.send(ACK, seq=raw.seq + 100_000, payload=b"far")
        raw.send(ACK, ack=raw.ack + 100_000, payload=b"never sent")
        wait_for(lambda turn=turn: packets(agent, STATEFUL[0]) == 8 * turn, 5, "eight invalid packets are dropped")
        raw.send(RST, seq=raw.seq + 100)
        raw.send(SYN, seq=raw.seq + 12345)
        raw.send(ACK | PSH, payload=b"goes on")
        expect_equal(end.recv(100), b"goes on", "what the server got")
        ours = f"from {RAW[family]} to port 5000"
        expect_equal([entry["stage"] for entry in connections(agent, ours)], ["open"], "the connection")
        raw.seq += 7
        raw.send(RST)
        try:
            expect_equal(end.recv(1), b"reset", "what the server got")
        except ConnectionResetError:
            pass
        expect_equal([entry["stage"] for entry in connections(agent, ours)], ["reset"], "the connection")
        expect_equal(packets(agent, STATEFUL[0]), 8 * turn, "invalid packets")


@test()
def what_begins_without_a_syn_is_invalid(lab):
    """TCP that does not begin with a SYN, and flags that do not go together, reach nobody"""
    host, peer = lab.hosts()
    listener(lab, host, HOST[4], 5000)
    agent = lab.agent(host)
    apply(agent, STATEFUL[0], verdict="accept")
    raw = Raw(lab, host, peer, 4, 5000)
    for flags in (ACK, PSH | ACK, FIN | ACK, FIN, RST, SYN | ACK, SYN | FIN, SYN | RST, 0, 0x3F):
        raw.send(flags)
    wait_for(lambda: packets(agent, STATEFUL[0]) == 10, 5, "ten invalid packets")
    raw.line.settimeout(0.2)
    expect_equal(raw.receive(), None, "an answer")
    raw.connect()
    expect_equal(packets(agent, STATEFUL[0]), 10, "invalid packets")


@test()
def errors_are_related_to_their_connection(lab):
    """an ICMP error about a packet of a connection comes through to its sender; about others it is invalid"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    apply(agent, *STATEFUL)
    for turn, (family, build, proto, unreachable) in enumerate(((4, pcap.ipv4, 1, 3), (6, pcap.ipv6, 58, 1)), 1):
        with udp_socket(host, HOST[family]) as asker:
            asker.connect((PEER[family], 9))  # nobody is there: the peer's kernel says so
            asker.send(b"?")
            try:
                expect(not asker.recv(10), "an answer from nobody")
            except ConnectionRefusedError:
                pass
            port, frames = asker.getsockname()[1], []
            for kind, inner in ((17, pcap.udp(port + 1, 9)), (17, pcap.udp(port, 10)), (6, pcap.tcp(port, 9, ACK))):
                about = build(kind, inner, source=HOST[family], destination=PEER[family])
                body = pcap.icmp(unreachable, 4, payload=about)
                frames.append(pcap.ethernet(build(proto, body, source=PEER[family], destination=HOST[family])))
            send_frames(peer, "p0", frames)
            wait_for(lambda turn=turn: packets(agent, STATEFUL[0]) == 3 * turn, 5, "errors about nothing are invalid")
        expect_equal(sums(agent)["related"], turn, "related packets")


@test()
def fragments_belong_to_their_connection(lab):
    """datagrams in fragments and their answers pass; fragments that write over a header or are nobody's do not"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    apply(agent, *STATEFUL, "accept in icmp6")
    for family in (4, 6):
        with udp_socket(peer, PEER[family], 7) as server, udp_socket(host, HOST[family]) as client:
            client.sendto(bytes(6000), (PEER[family], 7))
            data, sender = server.recvfrom(65536)
            server.sendto(data, sender)
            expect_equal(len(client.recv(65536)), 6000, "bytes that come back")
    expect_equal(sums(agent)["invalid"], 0, "invalid packets")
    before = agent.get("/v1/rules")["default"]["in"]["packets"]
    over = struct.pack("!HHIIBBHH", 4000, 5000, 1, 1, 0x50, SYN, 60000, 0)
    send_frames(peer, "p0", [
        pcap.ethernet(pcap.ipv4(6, over[:8], fragment=0x2000)),        # ends in the header
        pcap.ethernet(pcap.ipv4(6, over[8:] + bytes(4), fragment=1)),  # writes over it
        pcap.ethernet(pcap.ipv4(17, bytes(64), fragment=185))])        # of nobody
    wait_for(lambda: packets(agent, STATEFUL[0]) == 2, 5, "two invalid fragments")
    wait_for(lambda: agent.get("/v1/rules")["default"]["in"]["packets"] == before + 1, 5, "one without a state")


# ------------------------------------------------------------------------------------------------ life


@test("vm-6.12")
def what_was_there_goes_on(lab):
    """connections of before the agent and of before the rules go on under rules that ask for the state, idle ones, too, of both
    families, while strangers are kept out; the next agent finds them after kill -9; what is deleted has ended"""
    host, peer = lab.hosts()
    idle = connected(lab, peer, host, HOST[4], 5000)
    idle6 = connected(lab, peer, host, HOST[6], 5000)
    outgoing = connected(lab, host, peer, PEER[4], 5001)
    agent = lab.agent(host)
    agent.wait_watched("w0")
    busy = connected(lab, peer, host, HOST[4], 5002)
    expect(talk(*busy), "before the rules")
    with udp_socket(peer, PEER[4], 7) as server, udp_socket(host, HOST[4], 4007) as client:
        client.sendto(b"?", (PEER[4], 7))
        server.sendto(b"!", server.recvfrom(10)[1])
        client.recv(10)
        apply(agent, *STATEFUL, "accept in icmp6")
        server.sendto(b"!", (HOST[4], 4007))
        expect_equal(client.recv(10), b"!", "an answer that comes late")
    ends = {"of before": idle, "of before, IPv6": idle6, "outgoing": outgoing, "of before the rules": busy}
    for name, (one, other) in ends.items():
        expect(talk(one, other), name)
    found = {entry["dport"]: entry for entry in connections(agent, "tcp")}
    expect_equal((found[5000]["src"], found[5001]["src"]), (found[5000]["src"], HOST[4]), "who began")
    expect(all(entry["picked_up"] and entry["state"] == "established" for entry in found.values()), found)
    with peer:
        stranger = socket.socket()
    with stranger:
        stranger.settimeout(0.3)
        expect(stranger.connect_ex((HOST[4], 5000)), "a stranger came in")

    agent.kill(signal.SIGKILL)
    expect(talk(*busy), "without an agent")
    agent = lab.agent(host)
    expect_equal({entry["dport"] for entry in connections(agent, "tcp")} & {5000, 5001, 5002},
                 {5000, 5001, 5002}, "what the next agent finds")
    expect(talk(*busy), "with the next agent")
    expect_equal(agent.weir("connections", "delete", "tcp", "to", "port", "5002").stdout, "deleted 1 connection\n", "deleted")
    for end in busy:
        end.settimeout(0.3)
    expect(not talk(*busy), "what was deleted goes on")
    expect(talk(*outgoing), "what was not deleted has ended")


@test()
def connections_end_after_their_time(lab):
    """a connection without packets is gone after the time of its stage, also for the datapath; a reload changes the times at once"""
    host, peer = lab.hosts()
    times = "connections: {table: 4096, embryonic: 2048, timeouts: {udp: {new: 1s, answered: %s}}}\n"
    agent = lab.agent(host, "interfaces: [w0]\n" + times % "1h")
    apply(agent, *STATEFUL)
    with udp_socket(peer, PEER[4], 7) as server, udp_socket(host, HOST[4], 4007) as client:
        client.sendto(b"?", (PEER[4], 7))
        server.recv(10)
        expect_equal([entry["state"] for entry in connections(agent, "udp")], ["new"], "the connection")
        wait_for(lambda: not connections(agent, "udp"), 5, "what is not answered is gone")
        server.sendto(b"late", (HOST[4], 4007))
        client.settimeout(0.3)
        try:
            expect(not client.recv(10), "an answer that is too late came through")
        except TimeoutError:
            pass
        client.sendto(b"?", (PEER[4], 7))
        server.sendto(b"!", server.recvfrom(10)[1])
        expect_equal(client.recv(10), b"!", "an answer")
        wait_for(lambda: sums(agent)["established"] == 1, 5, "an established connection")
        expect_equal((sums(agent)["established_limit"], sums(agent)["new_limit"]), (4096, 2048), "sizes")
        with open(agent.config, "w", encoding="utf-8") as file:
            file.write("interfaces: [w0]\n" + times % "1s")
        agent.reload()
        wait_for(lambda: not sums(agent)["established"], 5, "the answered one is gone")
    expect(sums(agent)["expired"] and not connections(agent), "what is gone")


@test()
def questions_about_connections(lab):
    """connections are found by match, state, stage, rule, and by what only their flows know: owner, interface; words that are
    wrong are refused"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    apply(agent, *STATEFUL, "accept in tcp to port 5000 state new", "accept in icmp6")
    ends = connected(lab, peer, host, HOST[4], 5000)
    out = connected(lab, host, peer, PEER[6], 5001)
    expect(talk(*ends) and talk(*out), "no talk")
    with udp_socket(peer, PEER[4], 7), udp_socket(host, HOST[4]) as asker:
        asker.sendto(b"?", (PEER[4], 7))
        number = next(rule["id"] for rule in agent.get("/v1/rules")["rules"] if rule["text"].startswith("accept in tcp"))

        def ports(filter="", **parameters):  # pylint: disable=redefined-builtin # the API's word
            return sorted(entry["dport"] for entry in connections(agent, filter, **parameters) if entry["proto"] != "icmp6")

        expect_equal(ports(), [7, 5000, 5001], "all")
        expect_equal(ports("tcp to port 5000"), [5000], "by port")
        expect_equal(ports("from 10.1.0.2"), [5000], "by who began")
        expect_equal(ports("ip6 tcp"), [5001], "by family")
        expect_equal(ports(state="new"), [7], "new")
        expect_equal(ports(stage="open"), [5000, 5001], "open")
        expect_equal(ports(rule=number), [5000], "by rule")
        expect_equal(ports("on w0"), [7, 5000, 5001], "by interface")
        expect_equal(ports("by user root"), [7, 5000, 5001], "by owner")
        expect_equal(ports("by user nobody"), [], "by another owner")
        expect_equal(len(connections(agent, limit=1)), 1, "one of them")
    for query, what in (("state=old", "state 'old'"), ("stage=opne", "did you mean 'open'?"), ("rule=x", "rule 'x'"),
                        ("filter=prt+7", "prt"), ("sort=bytes", "unknown parameter")):
        status, text, _ = agent.request("GET", f"/v1/connections?{query}")
        expect(status == 400 and what in text, f"{query}: {status} {text}")
    status, text, _ = agent.request("POST", "/v1/connections/delete")
    expect(status == 400 and "which connections?" in text, text)
    expect_equal(post(agent, "/v1/connections/delete", state="new")["deleted"], 1, "deleted")
    expect_equal(ports(), [5000, 5001], "what is left")
    shown = agent.weir("connections", "stage", "open", "ip").stdout
    expect("10.1.0.1:5000" in shown and "established" in shown, shown)
    metrics = agent.request("GET", "/metrics")[1]
    expect('weir_connection_events_total{event="deleted"} 1' in metrics, metrics)


@test()
def a_limit_of_connections_counts_those_that_are_there(lab):
    """a limit of connections lets so many of a source in; one that ends, or is deleted, makes room at once"""
    host, peer = lab.hosts()
    server = listener(lab, host, HOST[4], 5000)
    agent = lab.agent(host)
    post(agent, "/v1/rules/add", text="limit in tcp to port 5000 per source to 2 connections")

    def connect():
        with peer:
            end = socket.socket()
        lab.on_close(end.close)
        end.settimeout(0.4)
        return end if end.connect_ex((HOST[4], 5000)) == 0 else None

    ends = [connect(), connect()]
    expect(all(ends), "two are let in")
    expect(not connect(), "a third came in")
    ends[0].close()
    server.accept()[0].close()
    ends.append(wait_for(connect, 5, "the one that ended makes room"))
    expect(not connect(), "a third came in")
    post(agent, "/v1/connections/delete", filter=f"tcp from port {ends[-1].getsockname()[1]}")
    expect(connect(), "the one that was deleted makes room")

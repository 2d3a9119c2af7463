# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Rates, guarantees and priorities under real traffic: who is held to what, whatever engine holds it.

A rate is proved from both sides.  Above it nothing may pass: what arrived between two looks at the clock is at most
the rate for that time and one burst, exactly.  Below it, a sender waits until so much has passed; how long that takes
is the machine's affair, and where it matters classes are compared with each other.
"""

import contextlib
import fcntl
import json
import os
import selectors
import shutil
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time

import pcap
from lab import Failure, Skip, address_family, expect, expect_equal, udp_socket, wait_for
from suite import each, test, variants
from test_rules import add, done, refused
from test_shapes import shape, shapes

# Sends until it is told to end: TCP as fast as it goes, UDP (numbered datagrams) at a rate.  A line on its standard
# input is one more thing to do: `tcp ADDRESS PORT [SIZE [TOS]]`, `udp ADDRESS PORT BITS_PER_SECOND [TOS]`, or `fork
# WORDS…`, in a child; SIZE: so many bytes each millisecond, not all that goes.  A line answers when it is done.
SENDER = """
import os, socket, struct, sys, threading, time
def connect(kind, address, port, mark):
    level, option = socket.IPPROTO_IP, socket.IP_TOS
    if ":" in address:
        level, option = socket.IPPROTO_IPV6, socket.IPV6_TCLASS
    s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
    s.setsockopt(level, option, int(mark))
    s.connect((address, int(port)))
    return s
def tcp(address, port, size="0", mark="0"):
    s = connect(socket.SOCK_STREAM, address, port, mark)
    block = bytes(int(size) or 65536)
    def go():
        try:
            while True:
                s.sendall(block)
                if int(size):
                    time.sleep(0.001)
        except OSError:
            pass
    return go
def udp(address, port, rate, mark="0"):
    s = connect(socket.SOCK_DGRAM, address, port, mark)
    def go():
        number, began = 0, time.monotonic()
        while True:
            due = float(rate) / 8 * (time.monotonic() - began)
            while number * 1000 < due:
                try:
                    s.send(struct.pack(">Q", number) + bytes(992))
                except OSError:
                    pass
                number += 1
            time.sleep(0.002)
    return go
def do(words):
    threading.Thread(target={"tcp": tcp, "udp": udp}[words[0]](*words[1:]), daemon=True).start()
print("ready", os.getpid(), flush=True)
for line in sys.stdin:
    words = line.split()
    if words[0] == "fork":
        read, write = os.pipe()
        if not os.fork():
            do(words[1:])
            os.write(write, b"x")
            os.close(write)
            time.sleep(1000)
            os._exit(0)
        os.close(write)
        os.read(read, 1)
        os.close(read)
    else:
        do(words)
    print("done", flush=True)
"""
FIRST_PORT = 7000
SO_RCVBUFFORCE = 33


class Sender:
    """A process that sends, as a user, a group, an executable or in a cgroup of its own."""

    def __init__(self, lab, namespace, *jobs, user=None, group=None, exe=sys.executable, cgroup=None):
        words = ["setpriv"] + (["--reuid", user] if user else []) + (["--regid", group] if group else [])
        words += ["--clear-groups"] if user or group else []
        self.process = lab.start(*namespace.command(*words, exe, "-I", "-c", SENDER), stdin=subprocess.PIPE,
                                 stdout=subprocess.PIPE, stderr=None, text=True, bufsize=1, start_new_session=True)
        lab.on_close(self.end)
        self.pid = int(self.process.stdout.readline().split()[1])
        if cgroup:
            with open(f"{cgroup}/cgroup.procs", "w", encoding="ascii") as file:
                file.write(str(self.pid))
        for job in jobs:
            self.do(*job)

    def do(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        expect_equal(self.process.stdout.readline(), "done\n", f"the sender's answer to {words}")

    def end(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


class Sink(threading.Thread):
    """Takes all that comes to some ports, TCP and UDP, of both address families, and counts it by port."""

    def __init__(self, lab, namespace, ports=32, first=FIRST_PORT):
        super().__init__(daemon=True)
        self.bytes, self.datagrams, self.last, self.marked = {}, {}, {}, {}
        self.connections, self.ended = {}, False
        self.selector = selectors.DefaultSelector()
        with namespace:
            for port in range(first, first + ports):
                self.bytes[port] = self.datagrams[port] = self.marked[port] = 0
                for family in (socket.AF_INET, socket.AF_INET6):
                    self.open(family, port)
        lab.on_close(self.stop)
        self.start()

    def open(self, family, port):
        listener = socket.socket(family, socket.SOCK_STREAM)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(("", port))
        listener.listen(256)
        listener.setblocking(False)
        self.selector.register(listener, selectors.EVENT_READ, (self.accept, port))
        taker = socket.socket(family, socket.SOCK_DGRAM)
        if family == socket.AF_INET6:
            taker.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            taker.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)
        else:
            taker.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
        taker.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 23)
        taker.bind(("", port))
        taker.setblocking(False)
        self.selector.register(taker, selectors.EVENT_READ, (self.take_datagrams, port))

    def accept(self, listener, port):
        connection, _ = listener.accept()
        connection.setblocking(False)
        self.connections[connection] = port
        self.selector.register(connection, selectors.EVENT_READ, (self.take, port))

    def take(self, connection, port):
        with contextlib.suppress(BlockingIOError):
            try:
                data = connection.recv(1 << 18)
            except ConnectionError:
                data = b""
            if not data:
                self.selector.unregister(connection)
                del self.connections[connection]
                connection.close()
            self.bytes[port] += len(data)

    def take_datagrams(self, taker, port):
        with contextlib.suppress(BlockingIOError):
            for _ in range(64):
                data, extra, _, _ = taker.recvmsg(2048, 64)
                self.bytes[port] += len(data)
                self.datagrams[port] += 1
                self.marked[port] += any(value and value[0] & 3 == 3 for _, _, value in extra)
                if len(data) >= 8:
                    self.last[port] = struct.unpack_from(">Q", data)[0]

    def run(self):
        while not self.ended:
            for key, _ in self.selector.select(0.1):
                function, port = key.data
                function(key.fileobj, port)
        for key in list(self.selector.get_map().values()):
            key.fileobj.close()
        self.selector.close()

    def stop(self):
        self.ended = True
        self.join(5)

    def arrived(self):
        """Bytes by port, with what TCP has taken and this thread has not."""
        counts = dict(self.bytes)
        for connection, port in list(self.connections.items()):
            with contextlib.suppress(OSError):
                counts[port] += struct.unpack("i", fcntl.ioctl(connection, termios.FIONREAD, bytes(4)))[0]
        return counts

    def measure(self, least, seconds=25):
        """Waits until so many bytes have come to each of the ports of {port: bytes}; {port: (bytes, seconds)}, where
        so many bytes came in at most so many seconds."""
        began, before = time.monotonic(), self.arrived()
        waiting, result = dict(least), {}

        def look():
            counts, now = dict(self.bytes), time.monotonic()
            for port in [port for port in waiting if counts[port] - before[port] >= waiting[port]]:
                result[port] = (counts[port] - before[port], now - began)
                del waiting[port]
            return not waiting

        try:
            wait_for(look, seconds, "bytes")
        except Failure:
            raise Failure("too little has come: " + ", ".join(
                f"port {port}: {self.bytes[port] - before[port]} of {least[port]} bytes"
                for port in waiting)) from None
        return result


def build(lab, config=None):
    """host with w0 and w1, both to peer, a sink there, and an agent; nothing is merged, so what is counted is what
    was on the wire."""
    host, peer = lab.hosts()
    lab.pair(host, "w1", peer, "p1", number=2)
    return host, peer, Sink(lab, peer), lab.agent(host, config or "interfaces: [w0, w1]\n")


def cgroup_root():
    for path in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"):
        if os.path.exists(f"{path}/cgroup.procs"):
            return path
    raise Skip("no cgroup v2 is mounted")


def cgroup_made(lab, name):
    path = f"{cgroup_root()}/{name}"
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise Skip("no cgroup v2 that can be changed here") from error

    def remove():
        wait_for(lambda: not open(f"{path}/cgroup.procs", encoding="ascii").read(), 5, "an empty cgroup")
        os.rmdir(path)

    lab.on_close(remove)
    return path


TCP_SLACK = 0.02  # what a class of TCP may be above its rate over seconds, beside its burst
TCP_BURST = 64 << 10


@test(seconds=60)
def who_is_held(lab):
    """A limit is for all of a process with what it starts, a user, a group, an executable or a cgroup together, TCP and
    UDP of both families, and for nobody else"""
    cgroup = cgroup_made(lab, f"{lab.name}.slice")
    host, peer, sink, agent = build(lab)
    exe = lab.path("sender")
    shutil.copy(os.path.realpath(sys.executable), exe)
    port = iter(range(FIRST_PORT, FIRST_PORT + 32))
    held = {}  # rule: (rate, ports)

    def jobs(sender, rate):
        ports = [next(port) for _ in range(3)]
        sender.do("tcp", "10.1.0.2", ports[0])
        sender.do("udp", "fd00:2::2", ports[1], rate)
        sender.do("tcp", "fd00:1::2", ports[2])
        return ports

    # a process that has two children and an open connection before there is a limit, and another child after
    root = Sender(lab, host)
    ports = [next(port) for _ in range(4)]
    root.do("tcp", "10.1.0.2", ports[0])
    root.do("fork", "tcp", "fd00:1::2", ports[1])
    sink.measure(dict.fromkeys(ports[:2], 1))
    number = add(agent, f"limit out by pid {root.pid} to 12mbit")["id"]
    root.do("fork", "udp", "10.2.0.2", ports[2], 12e6)
    root.do("udp", "fd00:2::2", ports[3], 12e6)
    held[number] = (12e6, ports)
    for sentence, rate, options in (("user 61001", 8e6, {"user": 61001}), ("group 61002", 10e6, {"group": 61002}),
                                    (f"exe {exe}", 6e6, {"exe": exe}),
                                    (f"cgroup /{os.path.basename(cgroup)}", 4e6, {"cgroup": cgroup})):
        number = add(agent, f"limit out by {sentence} to {rate / 1e6:g}mbit")["id"]
        held[number] = (rate, jobs(Sender(lab, host, **options), rate))
    free = next(port)
    Sender(lab, host, ("tcp", "10.1.0.2", free))
    time.sleep(1)  # the pid's connections were open: they are caught within a second
    before = sink.arrived()
    faults = look_at(agent, sink, held)
    expect(not faults, "; ".join(faults))
    got = {port: sink.bytes[port] - before[port] for port in before}
    for rate, ports in held.values():
        expect(got[free] > sum(got[port] for port in ports), f"who is not held is not held to {rate}: {got}")


def look_at(agent, sink, held, least=0.5, seconds=2):
    """What is wrong with {id of a class: (its rate, its ports)}: all of its ports together get no more than the rate,
    and each gets something."""
    began, before = time.monotonic(), sink.arrived()
    time.sleep(seconds)
    after, took = dict(sink.bytes), time.monotonic() - began
    faults = []
    for number, (rate, ports) in held.items():
        entry, each_port = shape(agent, number), {port: after[port] - before[port] for port in ports}
        got = sum(each_port.values())
        said = f"{entry['text']} ({entry['engine']}): {got} bytes in {took:.3f} s: {each_port}"
        if got > (1 + TCP_SLACK) * rate / 8 * took + TCP_BURST:
            faults.append(f"too much: {said}")
        if got < least * rate / 8 * took:
            faults.append(f"too little: {said}")
        if not all(each_port.values()):
            faults.append(f"nothing at a port: {said}")
    return faults


@test(seconds=60)
def what_is_held(lab):
    """A limit is for a protocol, ports, a prefix, a set, a DSCP, what comes in; of several that fit the lowest holds, and
    all count"""
    host, peer, sink, agent = build(lab)
    inner = Sink(lab, host, ports=3)
    done(agent, "POST", "/v1/sets/add", "fd00:2::/64\n10.2.0.7\n", name="far")
    held = {}
    for sentence, rate, jobs in (
            ("out udp to port 7001 to 5mbit", 5e6, (("udp", "10.1.0.2", 7001, 9e6), ("udp", "fd00:2::2", 7001, 9e6))),
            ("out tcp to 10.2.0.0/24 to 9mbit", 9e6, (("tcp", "10.2.0.2", 7002), ("tcp", "10.2.0.2", 7003))),
            ("out ip6 tcp to @far to 7mbit", 7e6, (("tcp", "fd00:2::2", 7004), ("tcp", "fd00:2::2", 7004))),
            ("out dscp ef to 6mbit", 6e6, (("tcp", "10.1.0.2", 7005, 0, 0xb8), ("udp", "fd00:1::2", 7006, 8e6, 0xb8))),
            ("out tcp to 10.1.0.2 port 7007-7008 to 8mbit", 8e6,
             (("tcp", "10.1.0.2", 7007), ("tcp", "10.1.0.2", 7008)))):
        number = add(agent, f"limit {sentence}")["id"]
        held[number] = (rate, [int(job[2]) for job in jobs])
        Sender(lab, host, *jobs)
    # two fit: the lower one holds, and both count
    both = [add(agent, f"limit out udp to port {what}")["id"] for what in ("7009 to 3mbit", "7009-7010 to 20mbit")]
    Sender(lab, host, ("udp", "fd00:1::2", 7009, 9e6))
    held[both[0]] = (3e6, [7009])
    ingress = [add(agent, f"limit in {what}")["id"] for what in
               ("from 10.1.0.0/24 to 10mbit", "udp from fd00::/16 to 4mbit")]
    Sender(lab, peer, ("tcp", "10.1.0.1", 7000), ("tcp", "10.1.0.1", 7001), ("udp", "fd00:1::1", 7002, 9e6))
    time.sleep(1)
    faults = []
    looks = [(sink, held, 0.5),
             # a policer drops, and TCP behind it gets what it can make of that
             (inner, {ingress[0]: (10e6, [7000, 7001]), ingress[1]: (4e6, [7002])}, 0.1)]
    threads = [threading.Thread(target=lambda look=look: faults.extend(look_at(agent, *look))) for look in looks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expect(not faults, "; ".join(faults))
    arrived = sink.datagrams[7009]  # read before the class is asked: more come meanwhile
    expect(shape(agent, both[1])["sent_bytes"] >= arrived * 1062 > 0, "both count what passed both")


@each(seconds=60)
@variants("engine", "auto", "htb")
def rates_are_shared(lab, engine):
    """Below a link, with engine {engine}, a guarantee holds against many flows, weights share what is left, and what is
    idle is lent and given back"""
    host, _, sink, agent = build(lab)
    wish = "" if engine == "auto" else f" engine {engine}"
    link = add(agent, f"limit out on w0 to 24mbit{wish}")["id"]
    tenant = done(agent, "POST", "/v1/shapes/add", text="tenant under w0 ceiling 20mbit")["shapes"][0]["id"]
    for text in ("light under tenant weight 1", "heavy under tenant weight 3"):
        done(agent, "POST", "/v1/shapes/add", text=text)
    add(agent, "assign out tcp to port 7001 to light")
    add(agent, "assign out tcp to port 7002 to heavy")
    held = add(agent, "guarantee out tcp to port 7000 12mbit")["id"]
    for port, flows in ((7001, 8), (7002, 8), (7003, 16)):
        Sender(lab, host, *[("tcp", ("10.1.0.2", "fd00:1::2")[flow & 1], port) for flow in range(flows)])

    def rates(seconds=2):
        began, before = time.monotonic(), sink.arrived()
        time.sleep(seconds)
        after, took = dict(sink.bytes), time.monotonic() - began
        result = {port: (after[port] - before[port]) * 8 / took / 1e6 for port in range(7000, 7004)}
        burst = TCP_BURST * 8e-6 / took
        expect(sum(result.values()) <= 24 * (1 + TCP_SLACK) + burst, f"above the link: {result}")
        expect(result[7001] + result[7002] <= 20 * (1 + TCP_SLACK) + burst, f"above the tenant: {result}")
        return result

    time.sleep(1.5)
    alone = rates()
    expect(sum(alone.values()) > 0.8 * 24, f"what the idle class does not use is lent: {alone}")
    # what is idle HTB lends packet by packet (agent/shape/shape_htb.c): there weights are of what is not lent
    expect(min(alone[7001], alone[7002]) > 0 and alone[7002] / alone[7001] > (2 if engine == "auto" else 1) and
           alone[7002] / alone[7001] < 4, f"weights of 1 and 3: {alone}")
    guaranteed = Sender(lab, host, ("tcp", "fd00:1::2", 7000))
    time.sleep(1)
    together = rates()
    expect(together[7000] > 0.9 * 12, f"the guarantee holds against 32 flows: {together}")
    expect(together[7001] > 0 and 2 < together[7002] / together[7001] < 4, f"weights of 1 and 3: {together}")
    guaranteed.end()
    time.sleep(1)
    again = rates()
    expect(sum(again.values()) > 0.8 * 24, f"what has become idle is lent again: {again}")
    expect(shape(agent, tenant)["sent_bytes"] <= shape(agent, link)["sent_bytes"], "a link counts all below it")
    expect(shape(agent, held)["sent_bytes"] > 0, "the guarantee counts")


def charge(lab, least, rate, seconds=25):
    """Two users send bulk, lines and datagrams until so many bytes of bulk of each have come; {sentence: ([packets,
    bytes] in the class, on the wire)}."""
    host, peer, sink, agent = build(lab)
    host.offload("w0", False)
    peer.offload("p0", False)
    capture = lab.capture(host, "w0", snap=96, expression=("src", "host", "10.1.0.1", "or", "src", "host", "fd00:1::1"))
    senders = {}
    for user, first in ((61001, 7000), (61002, 7003)):
        number = add(agent, f"limit out by user {user} to {rate}")["id"]
        senders[number] = Sender(lab, host, ("tcp", "10.1.0.2", first), ("tcp", "fd00:1::2", first + 1, 400),
                                 ("udp", "fd00:1::2", first + 2, 4e6), user=user)
    sink.measure({7000: least, 7003: least, 7001: 1 << 16, 7004: 1 << 16, 7002: 1 << 16, 7005: 1 << 16}, seconds)
    for sender in senders.values():
        sender.end()
    wait_for(lambda: not sink.connections, 10, "the ends of the connections")
    wire = {number: [0, 0] for number in senders}
    for key, counts in pcap.flows(capture.stop())[0].items():
        number = list(senders)[(key.dport - FIRST_PORT) // 3]
        wire[number][0] += counts.packets
        wire[number][1] += counts.bytes
    classes = {number: shape(agent, number) for number in senders}
    return {entry["text"]: ([entry["sent_packets"], entry["sent_bytes"]], wire[number])
            for number, entry in classes.items()}


@test(seconds=60)
def every_byte_is_charged_to_its_user(lab):
    """Of two users who send bulk, a line each millisecond and datagrams, all at once, every packet and every byte on the
    wire is charged to the class of whose it is, to the last one of a connection"""
    for text, (charged, wire) in charge(lab, 30 << 20, "20gbit").items():
        expect_equal(charged, wire, f"what is charged to {text}")
        expect(wire[1] > 30 << 20, f"{text}: {wire}")


@test(seconds=60)
def a_change_costs_nothing(lab):
    """While packets pass a class gets another rate, its agent is killed and the next one takes it over, weir is taken
    down: none is lost by that, rates hold without an agent, and the queue that somebody else made is as it was"""
    host, peer, sink, agent = build(lab)
    host.tc("qdisc", "add", "dev", "w1", "root", "handle", "8:", "htb")
    foreign = host.tc("-s", "qdisc", "show", "dev", "w1").stdout.split()[:5]
    user = add(agent, "limit out by user 61001 to 6mbit")["id"]
    calm = add(agent, "limit out udp by user 61002 to 6mbit")["id"]
    refused(agent, 400, "w1", "POST", "/v1/rules/add", text="limit out on w1 to 50mbit engine htb")
    Sender(lab, host, ("tcp", "10.1.0.2", 7000), ("tcp", "fd00:2::2", 7001), user=61001)
    Sender(lab, host, ("udp", "fd00:2::2", 7002, 1e6), user=61002)
    sink.measure({7000: 1 << 16, 7001: 1 << 16, 7002: 1 << 16})

    def rate_holds(rate):
        began, before = time.monotonic(), sink.arrived()
        time.sleep(1.5)
        after, took = dict(sink.bytes), time.monotonic() - began
        got = sum(after[port] - before[port] for port in (7000, 7001))
        said = f"{got} bytes in {took:.3f} s at {rate / 1e6} Mbit/s"
        expect(got <= (1 + TCP_SLACK) * rate / 8 * took + TCP_BURST, f"too much: {said}")
        expect(got >= 0.5 * rate / 8 * took, f"too little: {said}")

    for step in range(20):
        done(agent, "POST", "/v1/shapes/change", id=calm, text=f"to {4 + step % 5}mbit")
        done(agent, "POST", "/v1/shapes/change", id=user, text=f"to {10 + 5 * (step & 1)}mbit")
    time.sleep(1)
    rate_holds(15e6)
    before = shape(agent, user)["sent_bytes"]
    agent.stop(signal.SIGKILL)
    rate_holds(15e6)
    fresh = Sender(lab, host, ("tcp", "10.1.0.2", 7000), user=61001)
    time.sleep(0.5)
    rate_holds(15e6)
    fresh.end()
    agent = lab.agent(host, "interfaces: [w0, w1]\n")
    expect_equal([entry["id"] for entry in shapes(agent)], [user, calm], "the classes of the next agent")
    after = shape(agent, user)["sent_bytes"]
    expect(after >= before + 4 * 10e6 / 8 * 0.5, f"what was sent meanwhile is counted: {before}, then {after}")
    done(agent, "POST", "/v1/shapes/change", id=user, text="to 5mbit")
    time.sleep(1)
    rate_holds(5e6)
    agent.weir("down")
    sink.measure({7000: 10 << 20, 7001: 10 << 20, 7002: 1})  # 34 s at 5 Mbit/s
    expect(sink.last[7002] < sink.datagrams[7002], f"{sink.last[7002] + 1} datagrams, {sink.datagrams[7002]} came")
    expect_equal(host.tc("-s", "qdisc", "show", "dev", "w1").stdout.split()[:5], foreign, "the queue of somebody else")


@each()
@variants("family", 4, 6)
def marks_come_before_drops(lab, family):
    """What can be marked (ECN, IPv{family}) is marked by a policer before the first is dropped, and each mark is counted"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    address = {4: "10.1.0.2", 6: "fd00:1::2"}[family]
    number = add(agent, "limit out udp to port 9 to 100kbit burst 100kb engine policer")["id"]
    level, option, receive = {4: (socket.IPPROTO_IP, socket.IP_TOS, socket.IP_RECVTOS),
                              6: (socket.IPPROTO_IPV6, socket.IPV6_TCLASS, socket.IPV6_RECVTCLASS)}[family]
    with udp_socket(peer, address, 9) as taker, udp_socket(host, family=address_family(address)) as sender:
        taker.setsockopt(level, receive, 1)
        taker.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 22)
        sender.setsockopt(level, option, 0xb8 | 2)
        for count in range(200):
            sender.sendto(struct.pack(">I", count) + bytes(996), (address, 9))
        marked, unmarked = [], []
        taker.settimeout(0.3)
        with contextlib.suppress(TimeoutError):
            while True:
                data, extra, _, _ = taker.recvmsg(2048, 64)
                (marked if extra[0][2][0] == 0xbb else unmarked).append(struct.unpack_from(">I", data)[0])
                expect(extra[0][2][0] in (0xba, 0xbb), f"the DSCP stays: {extra}")
    came = sorted(marked + unmarked)
    first_lost = next(count for count in range(200) if count not in came)
    expect(unmarked and marked, f"{len(unmarked)} unmarked, {len(marked)} marked, the first lost was {first_lost}")
    expect(min(marked) < first_lost and min(unmarked) < min(marked), f"marked {marked}, lost from {first_lost} on")
    entry = shape(agent, number)
    expect_equal((entry["marked_packets"], entry["sent_packets"], entry["dropped_packets"]),
                 (len(marked), len(came), 200 - len(came)), "marked, sent, dropped, as counted")


@test()
def what_is_interactive_is_recognised(lab):
    """A declared class of priority interactive gets SSH, DNS and what is small or sparse, of both address families, but
    nothing to which a rule gives another class, and no more of a flow that has become neither"""
    host, peer, sink, agent = build(lab)
    ports = Sink(lab, peer, ports=1, first=22), Sink(lab, peer, ports=1, first=53)
    link = add(agent, "limit out on w0 to 100mbit")["id"]
    talk = done(agent, "POST", "/v1/shapes/add", text="talk under w0 priority interactive")["shapes"][0]["id"]
    given = add(agent, "limit out on w0 udp to port 7005 to 5mbit")["id"]

    def both():
        return shape(agent, talk), shape(agent, link)

    def seen(place, *what):
        entry = both()[place]
        return sum(entry[f"{name}_packets"] for name in what or ("sent", "dropped"))

    def question(words):
        answer = json.loads(agent.weir("explain", "out", *words.split(), "--json").stdout)
        return sorted(entry["id"] for entry in answer["classes"])

    expect_equal([question("tcp to 10.1.0.2 port 22"), question("udp to fd00:1::2 port 53"),
                  question("udp to 10.1.0.2 port 7005")], [[link, talk], [link, talk], [link, given]], "as explained")
    # small are 32 KiB of a flow, sparse 16 KiB a second besides; DNS is that, however much it is
    with udp_socket(host, family=socket.AF_INET) as four, udp_socket(host, family=socket.AF_INET6) as six:
        for one, address in ((four, "10.1.0.2"), (six, "fd00:1::2")):  # who have found their neighbour
            one.sendto(b"first", (address, 7003))
        wait_for(lambda: sink.datagrams[7003] == 2, 5, "the first datagrams")
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # each CPU knows what it has sent of a flow
        for port in (53, 7000):
            before, began = (seen(1) - seen(0, "sent"), seen(0)), time.monotonic()
            for _ in range(60):
                four.sendto(bytes(958), ("10.1.0.2", port))  # 1000 bytes on the wire
                six.sendto(bytes(938), ("fd00:1::2", port))
                time.sleep(0.001)  # no faster than the link
            took = time.monotonic() - began
            # a class that has just come into use may drop one: which it belonged to is counted all the same
            wait_for(lambda before=before: seen(1) + seen(0) - seen(0, "sent") >= 120 + sum(before), 5,
                     f"120 packets to port {port}")
            more = seen(0) - before[1]
            expect(more >= 120 if port == 53 else 64 <= more <= 2 * (33 + 16.4 * took) + 8,  # IPv6 looks for its neighbours
                   f"{more} of the packets to port {port} are interactive, after {took:.3f} s")
        before = shape(agent, talk)["sent_packets"]
        for _ in range(10):
            four.sendto(bytes(100), ("10.1.0.2", 7005))
        wait_for(lambda: shape(agent, given)["sent_packets"] == 10, 5, "what a rule gives another class")
        expect_equal(shape(agent, talk)["sent_packets"], before, "is not interactive")
    # a bulk transfer beside them does not stay; SSH does, however much it is
    Sender(lab, host, ("tcp", "10.1.0.2", 7001))
    sink.measure({7001: 1 << 20})
    before = both()
    sink.measure({7001: 1 << 22})
    after = both()
    expect(after[1]["sent_bytes"] - before[1]["sent_bytes"] >= 1 << 21, "the link counts all of it")
    expect(after[0]["sent_bytes"] - before[0]["sent_bytes"] < 1 << 17, f"bulk is not sparse: {before[0]}, {after[0]}")
    Sender(lab, host, ("tcp", "fd00:1::2", 22))
    ports[0].measure({22: 1 << 18})
    expect(shape(agent, talk)["sent_bytes"] - after[0]["sent_bytes"] >= 1 << 18, "SSH is")


@test()
def explain_names_the_class(lab):
    """`weir explain` of a process's packet says which class it would belong to, which engine holds that, and why"""
    host, _ = lab.hosts()
    agent = lab.agent(host)
    sender = Sender(lab, host, ("udp", "10.1.0.2", 7000, 1e5), user=61001)
    other = Sender(lab, host, ("udp", "10.1.0.2", 7000, 1e5))
    limits = [add(agent, f"limit out {what} to 10mbit")["id"] for what in
              (f"by pid {sender.pid}", "by user 61001 tcp", "udp")]
    wait_for(lambda: agent.flows(f"by pid {sender.pid}") and agent.flows(f"by pid {other.pid}"), 10, "their flows")
    for pid, protocol, wanted in ((sender.pid, "tcp", limits[:2]), (sender.pid, "udp", [limits[0], limits[2]]),
                                  (other.pid, "tcp", []), (other.pid, "udp", limits[2:])):
        for address in ("10.1.0.2", "fd00:1::2"):
            question = f"explain out by pid {pid} {protocol} to {address} port 443".split()
            answer = json.loads(agent.weir(*question, "--json").stdout)
            expect_equal(sorted(entry["id"] for entry in answer.get("classes", [])), wanted, f"{question}: classes")
            said = agent.weir(*question).stdout
            for entry in answer.get("classes", []):
                expect(entry["engine"] == "pacing" and entry["engine_reason"] and entry["engine_reason"] in said and
                       f"class {entry['id']}: {entry['text']}" in said, f"{entry} in {said}")
    # who has no socket yet is known by what /proc says; of a user without a process no more than that
    quiet = lab.start(*host.command("setpriv", "--reuid", "61002", "--clear-groups", "sleep", "1000"))
    limits += [add(agent, f"limit out {what} to 10mbit")["id"] for what in (f"by pid {quiet.pid}", "by user 61002")]
    wait_for(lambda: os.path.basename(os.readlink(f"/proc/{quiet.pid}/exe")) == "sleep", 5, "the process")
    for owner, wanted in ((f"pid {quiet.pid}", limits[3:]), ("user 61002", limits[4:]), ("user 61003", [])):
        answer = json.loads(agent.weir(*f"explain out by {owner} tcp to 10.1.0.2 port 443".split(), "--json").stdout)
        expect_equal(sorted(entry["id"] for entry in answer.get("classes", [])), wanted, f"{owner}, without a socket")
    quiet.kill()
    quiet.wait()
    said = agent.weir("explain", "out", "by", "pid", quiet.pid, "tcp", "to", "10.1.0.2", "port", 443, check=False)
    expect(said.returncode == 1 and f"there is no process {quiet.pid}" in said.stderr, f"{said}")
    changed = done(agent, "POST", "/v1/shapes/change", id=limits[3], text="to 20mbit")["shapes"][0]
    expect_equal(changed["rate_bps"], 20000000, "the class of a process that has ended")

# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""The firewall as a user has it: rules, sets and policies, and what really comes through."""

import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time

import pcap
from judge import FLAGS, PORT_SETS, SETS, Packet, Rule, judge
from lab import UnixConnection, address_family, expect, expect_equal, udp_socket, wait_for
from suite import test
from test_guard import cgroup_directory
from test_rules import add, ask, done, policy
from test_rules import rules as rules_of
from test_sets import change
from wire import Wire


def fill_sets(agent):
    for name, listed in SETS.items():
        change(agent, "add", "\n".join(listed.split()), name=name)
    for name, ranges in PORT_SETS.items():
        change(agent, "add", "\n".join(f"{low}-{high}" for low, high in ranges), name=name)


def random_policy(chance, limits=False):
    """(rules, default verdicts, the policy's text)"""
    rules = []
    while len(rules) < 50:
        made = Rule(chance, limits)
        if made.text not in [rule.text for rule in rules]:
            rules.append(made)
    defaults = {way: chance.choice(("accept", "drop")) for way in ("in", "out")}
    head = f"default: {{in: {defaults['in']}, out: {defaults['out']}}}\n"
    return rules, defaults, policy(*(rule.text for rule in rules), head=head)


@test(seconds=120)
def random_policies_decide_as_they_say(lab):
    """random policies over every kind of match, with limits, decide about random packets, of both families, in and out, first of a flow or
    not, as a plain reader of the sentences does"""
    seed = int(os.environ.get("WEIR_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"WEIR_SEED={seed}")
    chance = random.Random(seed)
    wire = Wire(lab)
    fill_sets(wire.agent)
    judged = 0
    for number in range(int(os.environ.get("WEIR_POLICIES", max(2, int(8 * lab.scale))))):
        rules, defaults, text = random_policy(chance, limits=True)
        status, answer = ask(wire.agent, "POST", "/v1/policy", text, cut=1)
        expect_equal(status, 200, f"seed {seed}, policy {number}: {answer}\n{text}")
        packets = [Packet(chance) for _ in range(150)]
        packets += [Packet(chance, chance.choice(packets)) for _ in range(250)]
        for direction in ("in", "out"):
            told = {}
            for packet in packets:
                passes = judge(rules, defaults, packet) if packet.direction == direction else None
                if passes is not None:
                    told[len(told)] = (packet, passes)
            frames, wanted, numbers = [], set(), {}
            for packet, passes in told.values():
                frames.append(packet.make(wire.tail()))
                numbers[wire.number] = packet, passes
                if passes:
                    wanted.add(wire.number)
            arrived = wire.send(frames, wanted, direction)
            judged += len(frames)
            wrong = [f"{'stopped' if passes else 'came through'}: {packet}" for sent, (packet, passes) in numbers.items()
                     if (sent in arrived) != passes]
            expect(not wrong, f"seed {seed}, policy {number}: {len(wrong)} of {len(frames)}\n" + "\n".join(wrong[:6]) +
                   "\n" + text)
    expect(judged > 300, f"only {judged} packets were judged")


# ---------------------------------------------------------------------------------------------- what explain says


NAMES = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmp6", 132: "sctp"}


def description(packet):
    """The packet in words, as `weir explain` takes them; None: it cannot be said."""
    if packet.proto in (33, 136) or packet.outer is not None or packet.long_headers or \
            (packet.proto, packet.family) in ((1, 6), (58, 4)):
        return None
    words = [packet.direction, "on w0", "ip" if packet.family == 4 else "ip6",
             NAMES.get(packet.proto, f"proto {packet.proto}")]
    for word, address, port in (("from", packet.src, packet.sport), ("to", packet.dst, packet.dport)):
        words.append(f"{word} {address}" + (f" port {port}" if packet.has_ports else ""))
    if packet.proto == 6 and packet.has_ports:
        names = [name for place, name in enumerate(FLAGS) if packet.flags >> place & 1]
        words.append("flags " + (",".join(names) or "none"))
    if packet.is_icmp:
        words.append(f"icmp{'' if packet.family == 4 else '6'} {packet.icmp[0]}/{packet.icmp[1]}")
    words.append(f"dscp {packet.dscp}")
    words += [f"vlan {packet.vlan}"] * (packet.vlan is not None) + [f"fragment {packet.fragment}"] * bool(packet.fragment)
    return " ".join(words)


@test(seconds=60)
def explain_says_what_happens(lab):
    """what explain says about thirty packets is what becomes of them on the wire"""
    seed = int(os.environ.get("WEIR_SEED", random.SystemRandom().randrange(1 << 32)))
    chance = random.Random(seed)
    wire = Wire(lab)
    fill_sets(wire.agent)
    for _ in range(2):
        rules, defaults, text = random_policy(chance)
        rules = [made for made in rules if "matching" not in made.text]  # explain's packet has no payload
        head = f"default: {{in: {defaults['in']}, out: {defaults['out']}}}\n"
        done(wire.agent, "POST", "/v1/policy", policy(*(made.text for made in rules), head=head), cut=1)
        told, frames = {}, {"in": [], "out": []}
        while len(told) < 15:
            packet = Packet(chance)
            words = description(packet)
            if words:
                answer = done(wire.agent, "GET", "/v1/explain", packet=words)
                frames[packet.direction].append(packet.make(wire.tail()))
                told[wire.number] = packet.direction, answer["verdict"] == "accept", words, answer.get("rule")
        for direction in ("in", "out"):
            wanted = {number for number, (where, passes, *_) in told.items() if where == direction and passes}
            arrived = wire.send(frames[direction], wanted, direction)
            wrong = [f"{words}: {'stopped' if passes else 'came through'}, {by}"
                     for number, (where, passes, words, by) in told.items()
                     if where == direction and (number in arrived) != passes]
            expect(not wrong, f"seed {seed}: " + "\n".join(wrong) + "\n" + text)


# ---------------------------------------------------------------------------------------------- under traffic


class Traffic:
    """20,000 datagrams a second from sixteen sources: 10.128.0.0 to .7 are to come through, .8 to .15 are not."""

    def __init__(self, lab, wire):
        self.lab, self.wire = lab, wire
        self.sent, self.arrived, self.process = 0, {}, None
        self.receiver = wire.receiver(wire.beyond, "s1")

    def go_on(self):
        """More of them, if those from before are all sent."""
        self.take()
        if self.process and self.process.poll() is None:
            return
        self.end()
        self.process = self.lab.start(*self.wire.peer.command(
            self.lab.tool("blast"), "p0", 4, 64, 16, int(16 * 2500 * self.lab.scale) // 64 * 64, 20000),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def take(self):
        while True:
            try:
                frame = self.receiver.recv(64)
            except BlockingIOError:
                return
            if frame[12:14] == b"\x08\0" and frame[26:28] == b"\x0a\x80":
                self.arrived[frame[29]] = self.arrived.get(frame[29], 0) + 1

    def end(self):
        if self.process:
            while self.process.poll() is None:
                self.take()
                time.sleep(0.01)
            out, err = self.process.communicate()
            expect_equal(self.process.returncode, 0, f"blast: {err}")
            self.sent += int(out.split()[0])
            self.process = None

    def check(self):
        """All that should have come has come, and nothing else."""
        self.end()
        end = time.monotonic() + 3
        while sum(self.arrived.values()) < self.sent // 2 and time.monotonic() < end:
            self.take()
            time.sleep(0.01)
        time.sleep(0.1)
        self.take()
        expect_equal(self.arrived, {source: self.sent // 16 for source in range(8)}, f"of {self.sent}, by source")


KEPT = ("count in udp to port 9", "drop in from 10.128.0.8/30", "drop in udp from @bad to port 1-9")


@test(seconds=90)
def changes_under_load_lose_nothing(lab):
    """while 20,000 packets a second pass, a hundred changes of rules, sets and whole policies lose none that is accepted and
    let none through that is not"""
    wire = Wire(lab)
    change(wire.agent, "add", "10.128.0.12/30", name="bad")
    done(wire.agent, "POST", "/v1/policy", policy(*KEPT))
    traffic = Traffic(lab, wire)
    for number in range(max(10, int(20 * lab.scale))):
        traffic.go_on()
        fresh = add(wire.agent, f"drop in tcp to port {1000 + number}")["id"]
        traffic.go_on()
        done(wire.agent, "POST", "/v1/rules/move", id=fresh, before=rules_of(wire.agent)[0]["id"])
        traffic.go_on()
        change(wire.agent, "add", f"10.{number}.0.0/16\n10.128.1.{number}", name="bad")
        traffic.go_on()
        change(wire.agent, "add", f"10.128.0.{number % 8}\n10.9.{number}.0/24", name=f"other{number % 5}")
        add(wire.agent, f"accept in udp from @other{number % 5} to port {2000 + number}")
        traffic.go_on()
        done(wire.agent, "POST", "/v1/policy", policy(f"drop in tcp from 10.7.{number}.0/24", *KEPT,
                                                      f"drop in from @other{number % 5} to port 2000-2999"))
    traffic.check()
    counted = next(entry for entry in rules_of(wire.agent) if entry["text"] == KEPT[0])
    expect_equal(counted["packets"], traffic.sent, "packets that the first rule counted")


@test(seconds=90)
def a_killed_apply_is_one_or_the_other(lab):
    """an agent that is killed in the middle of putting a policy in place of another leaves one of them in force, whole; packets
    are judged all the while, and the next agent lists the one that holds"""
    wire = Wire(lab, "interfaces: [w0]\nxdp: off\n")
    change(wire.agent, "add", "10.128.0.12/30", name="bad")
    fill = [f"drop in tcp from 10.{number // 200}.{number % 200}.0/24 to port 7" for number in range(1000)]
    two = [policy("drop in tcp to port 1001", *KEPT, *fill), policy("drop in tcp to port 1002", *fill, *KEPT)]
    done(wire.agent, "POST", "/v1/policy", two[0])
    traffic, held = Traffic(lab, wire), 0
    for delay in (0.01, 0.06, 0.2):
        traffic.go_on()
        with contextlib.closing(UnixConnection(wire.agent.socket, 60)) as connection:
            connection.request("POST", "/v1/policy", body=two[1 - held])
            time.sleep(delay)
            wire.agent.stop(signal.SIGKILL)
        dropped = [not wire.passes(lambda tail, port=port: pcap.ethernet(pcap.ipv4(6, pcap.tcp(1, port, 2, tail))))
                   for port in (1001, 1002)]
        expect_equal(sorted(dropped), [False, True], "which of the two policies dropped")
        held = dropped.index(True)
        traffic.go_on()
        wire.agent.start()
        listed = [entry["text"] for entry in rules_of(wire.agent)]
        expect_equal((listed[0], len(listed)), (f"drop in tcp to port {1001 + held}", 1004), "first rule, rules")
        dropped = [not wire.passes(lambda tail, port=port: pcap.ethernet(pcap.ipv4(6, pcap.tcp(1, port, 2, tail))))
                   for port in (1001, 1002)]
        expect_equal(dropped.index(True), held, "the policy in force after the start")
    traffic.check()


# ---------------------------------------------------------------------------------------------- as a user types it


def reaches(client, server, address, port, kind=socket.SOCK_STREAM):
    """Does a connection, or a datagram, arrive?  Its server stands on all addresses."""
    family = address_family(address)
    with server:
        listener = socket.socket(family, kind)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
    with client:
        caller = socket.socket(family, kind)
    with listener, caller:
        listener.settimeout(0.3)
        caller.settimeout(0.3)
        try:
            if kind == socket.SOCK_DGRAM:
                caller.sendto(b"x", (address, port))
                listener.recv(1)
            else:
                listener.listen()
                caller.connect((address, port))
        except (TimeoutError, ConnectionRefusedError, PermissionError):
            return False
        return True


@test(seconds=60)
def examples_do_what_they_say(lab):
    """the commands of the manual, typed: drop, accept with a set and a default, limits per source, sets with a time, explain,
    move, delete, flush"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    for number in (3, 4):
        peer.ip("addr", "add", f"10.1.0.{number}/24", "dev", "p0")

    agent.weir("drop", "in", "tcp", "to", "port", "80")
    expect_equal([reaches(peer, host, address, port) for address in ("10.1.0.1", "fd00:1::1") for port in (80, 81)],
                 [False, True, False, True], "ports 80 and 81, IPv4 and IPv6, with the drop")
    expect_equal(reaches(host, peer, "10.1.0.2", 80), True, "port 80 of another host")
    said = agent.weir("explain", *"in tcp from 198.51.100.7 port 4000 to 10.1.0.1 port 80".split()).stdout
    expect("drop by rule 1: drop in tcp to port 80" in said, said)

    agent.weir("limit", *"in udp to port 53 per source to 1/m burst 5".split())
    server = udp_socket(host, "10.1.0.1", 53)
    server.settimeout(0.2)
    for source in ("10.1.0.2", "10.1.0.3"):
        with udp_socket(peer, source) as sender:
            for _ in range(20):
                sender.sendto(source.encode(), ("10.1.0.1", 53))
    got = []
    with contextlib.suppress(TimeoutError):
        while True:
            got.append(server.recv(100))
    server.close()
    expect_equal(sorted(got), [b"10.1.0.2"] * 5 + [b"10.1.0.3"] * 5, "datagrams within the limit")

    agent.weir("set", "add", "bastions", "10.1.0.3", "fd00:1::2")
    path = lab.write("policy.yaml", "default: {in: drop}\nrules:\n  - accept in tcp to port 22 from @bastions log\n"
                     "  - accept in state established,related\n  - accept in icmp6\n")
    said = agent.weir("apply", path).stdout
    rows = agent.weir("rules", "--json").stdout
    expect_equal([entry["text"] for entry in json.loads(rows)["rules"]][-3:],
                 ["accept in tcp from @bastions to port 22 log", "accept in state established,related", "accept in icmp6"],
                 "rules after apply")
    expect_equal((reaches(peer, host, "10.1.0.1", 22), reaches(peer, host, "fd00:1::1", 22),
                  reaches(host, peer, "10.1.0.2", 22)), (False, True, True), "SSH from elsewhere, from a bastion, out")
    agent.weir("set", "add", "bastions", "10.1.0.2", "for", "1h")
    expect_equal(reaches(peer, host, "10.1.0.1", 22), True, "SSH from a new bastion")
    agent.weir("set", "remove", "bastions", "10.1.0.2")
    expect_equal(reaches(peer, host, "10.1.0.1", 22), False, "SSH from one that is none any more")
    agent.weir("set", "add", "bastions", "10.1.0.2", "for", "1s")
    wait_for(lambda: not reaches(peer, host, "10.1.0.1", 22), 5, "the entry to end")
    expect("accept in tcp from @bastions" in agent.weir("log").stdout, "no record in the log")
    agent.weir("flush")
    expect_equal(rules_of(agent), [], "rules after flush")


# ---------------------------------------------------------------------------------------------- whose packets


GUEST, OTHER = 64331, 64332  # users that nobody else is

# Serves TCP and UDP on a port of its own, and calls where it is told to; answers each line with what came back.
PROCESS = """
import os, socket, sys, threading
port = int(sys.argv[1])
tcp = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
udp.bind(("::", port))
def echo(connection):
    while data := connection.recv(100):
        connection.sendall(data)
def accept():
    while True:
        threading.Thread(target=echo, args=(tcp.accept()[0],), daemon=True).start()
def datagrams():
    while True:
        udp.sendto(*udp.recvfrom(100))
for serve in (accept, datagrams):
    threading.Thread(target=serve, daemon=True).start()
print("ready", flush=True)
for line in sys.stdin:
    kind, address, to = line.split()
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM) as s:
            s.settimeout(0.25)
            s.connect((address, int(to)))
            s.send(b"hello")
            print(s.recv(100) == b"hello", flush=True)
    except OSError:
        print(False, flush=True)
"""


class Process:
    """Somebody who serves a port and calls others."""

    def __init__(self, lab, namespace, port, uid=0, python=sys.executable, cgroup=None):
        words = namespace.command("setpriv", "--reuid", uid, "--regid", uid, "--clear-groups", python, "-I", "-c", PROCESS,
                                  port)
        if cgroup:
            words = ["sh", "-c", f"echo $$ > '{cgroup}/cgroup.procs' && exec \"$@\"", "sh", *words]
        self.port = port
        self.process = lab.start(*words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        expect_equal(self.process.stdout.readline(), "ready\n", f"the process at port {port}")

    def reaches(self, kind, address, port):
        self.process.stdin.write(f"{kind} {address} {port}\n")
        return self.process.stdout.readline() == "True\n"


@test(seconds=90)
def owners_are_known_both_ways(lab):
    """rules by user, exe, cgroup and pid fit what the process sends and what it is sent, TCP and UDP, both families, calling and
    called, and nobody else's"""
    host, peer = lab.hosts()
    python = lab.path("snake")
    shutil.copy(os.path.realpath(sys.executable), python)
    os.chmod(python, 0o755)
    directory, path = cgroup_directory(lab, f"{lab.name}-jail")
    agent = lab.agent(host)
    plain = Process(lab, host, 7000)
    known = {f"user {GUEST}": Process(lab, host, 7001, uid=GUEST), f"exe {python}": Process(lab, host, 7002, python=python),
             f"cgroup {path}": Process(lab, host, 7003, cgroup=directory)}
    asked = Process(lab, host, 7004, uid=OTHER)
    known[f"pid {asked.process.pid}"] = asked
    stranger = Process(lab, peer, 7100)
    everybody = {"nobody": plain, **known}
    cases = [(kind, way) for kind in ("tcp", "udp") for way in ("calls", "is called")]

    def state():
        """Who can call and be called."""
        found = {}
        for number, ((name, process), (kind, way)) in enumerate(itertools.product(everybody.items(), cases)):
            six = number % 2
            if way == "calls":
                found[name, kind, way] = process.reaches(kind, ("10.1.0.2", "fd00:1::2")[six], 7100)
            else:
                found[name, kind, way] = stranger.reaches(kind, ("fd00:1::1", "10.1.0.1")[six], process.port)
        return found

    def wanted(stopped):
        return {(name, kind, way): not stopped(name, kind, way) for name in everybody for kind, way in cases}

    expect_equal(state(), wanted(lambda *_: False), "before there are rules")
    for name in known:
        number = add(agent, f"drop in tcp by {name}")["id"]
        second = add(agent, f"drop out udp by {name}")["id"]
        expect_equal(state(), wanted(lambda who, kind, way, name=name: who == name), f"drop by {name}")
        for rule in (number, second):
            done(agent, "POST", "/v1/rules/delete", id=rule)
    add(agent, f"accept not by user {GUEST}")
    add(agent, "drop tcp")
    expect_equal(state(), wanted(lambda who, kind, way: who == f"user {GUEST}" and kind == "tcp"), "not by")


# ---------------------------------------------------------------------------------------------- what was there before


class Talk:
    """A connection between two namespaces that can be asked whether it goes on."""

    def __init__(self, lab, client, server, address, kind, port):
        family = address_family(address)
        with server:
            self.listener = socket.socket(family, kind)
            self.listener.bind((address, port))
        with client:
            self.near = socket.socket(family, kind)
        if kind == socket.SOCK_STREAM:
            self.listener.listen()
        self.near.connect((address, port))
        self.far = self.listener.accept()[0] if kind == socket.SOCK_STREAM else self.listener
        for sock in (self.listener, self.near, self.far):
            sock.settimeout(0.4)
            lab.on_close(sock.close)
        if kind == socket.SOCK_DGRAM:
            self.near.send(b"a")
            self.far.connect(self.far.recvfrom(1)[1])
            self.far.send(b"b")
            self.near.recv(1)

    def goes_on(self):
        try:
            self.near.send(b"a")
            self.far.recv(100)
            self.far.send(b"b")
            return bool(self.near.recv(100))
        except (TimeoutError, ConnectionError):
            return False


@test(seconds=90)
def what_was_there_goes_on_until_it_is_cut(lab):
    """connections of before go on when a rule drops them, TCP and UDP, of this host and forwarded, while new ones do not begin;
    a change with cut ends them all"""
    host, peer, third = lab.namespace("host"), lab.namespace("peer"), lab.namespace("third")
    lab.pair(host, "w0", peer, "p0", number=1)
    lab.pair(host, "w1", third, "t0", number=2)
    host.sysctl("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
    for namespace, number in ((peer, 1), (third, 2)):
        for net, gateway in (("10.0.0.0/8", f"10.{number}.0.1"), ("fd00::/16", f"fd00:{number}::1")):
            namespace.ip("route", "add", net, "via", gateway)
    agent = lab.agent(host, "interfaces: [w0, w1]\n")
    add(agent, "drop in tcp to port 9")
    places = (("to the host", peer, host, "10.1.0.1", "fd00:1::1"), ("from the host", host, peer, "10.1.0.2", "fd00:1::2"),
              ("forwarded", peer, third, "10.2.0.2", "fd00:2::2"))
    kinds = ((socket.SOCK_STREAM, "TCP"), (socket.SOCK_DGRAM, "UDP"))
    talks = {f"{name} {what} {address}": Talk(lab, client, server, address, kind, 8000)
             for name, client, server, *addresses in places for address in addresses for kind, what in kinds}
    expect_equal([name for name, talk in talks.items() if not talk.goes_on()], [], "broken before there is a rule")
    add(agent, "drop port 8000-9000")
    expect_equal([name for name, talk in talks.items() if not talk.goes_on()], [], "broken by the new rule")
    for name, client, server, *addresses in places:
        for kind, what in kinds:
            expect_equal(reaches(client, server, addresses[0], 8001, kind), False, f"a new one {name} by {what}")
    add(agent, "drop in tcp to port 10")
    expect_equal([name for name, talk in talks.items() if not talk.goes_on()], [], "broken by another change")
    add(agent, "drop in tcp to port 11", cut=1)
    expect_equal([name for name, talk in talks.items() if talk.goes_on()], [], "alive after the cut")

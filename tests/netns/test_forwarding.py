# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Forwarding with real peers: what comes in by one interface leaves by another, by cable, as a switch, by route."""

import contextlib
import signal
import socket
import struct
import time

from lab import address_family, expect, expect_equal, need, wait_for
from suite import test
from test_rules import add, ask, done, rules

SOL_PACKET, PACKET_AUXDATA, PACKET_IGNORE_OUTGOING, ETH_P_ALL = 263, 8, 23, 3
ETHERTYPE = b"\x88\xb5"  # for experiments (IEEE 802)


class Site:
    """Weir's host with ports w0, w1, …, and a host behind each: c0, c1, …  Unless routes are asked for, all of them
    are in one network, and the host between them has no address there."""

    def __init__(self, lab, count=2, config=None, routed=False, gro=True):
        self.lab, self.routed = lab, routed
        self.host = lab.namespace("host")
        self.hosts = []
        for i in range(count):
            self.plug(i, gro)
        if routed:
            self.host.sysctl("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        self.agent = lab.agent(self.host, config or f"interfaces: [{', '.join(f'w{i}' for i in range(count))}]\n")

    def plug(self, i, gro=True):
        end = self.lab.namespace(f"c{i}") if i == len(self.hosts) else self.hosts[i]
        if self.routed:
            self.lab.pair(self.host, f"w{i}", end, f"c{i}", i + 1)
            end.ip("route", "add", "default", "via", f"10.{i + 1}.0.1")
            end.ip("-6", "route", "add", "default", "via", f"fd00:{i + 1}::1")
        else:
            self.host.ip("link", "add", f"w{i}", "up", "address", f"02:00:00:00:00:{i + 0xa0:02x}", "type", "veth",
                         "peer", "name", f"c{i}", "address", f"02:00:00:00:01:{i:02x}", "netns", end.name)
            self.lab.address(end, f"c{i}", 1, 10 + i, 0, None)
        # XDP sees no tags that stand beside the packet
        end.run("ethtool", "-K", f"c{i}", "txvlan", "off", "gro", "on" if gro else "off")
        if i == len(self.hosts):
            self.hosts.append(end)

    def address(self, i, family):
        if self.routed:
            return f"10.{i + 1}.0.2" if family == 4 else f"fd00:{i + 1}::2"
        return f"10.1.0.{10 + i}" if family == 4 else f"fd00:1::{10 + i}"

    def ping(self, a, b, family=4, seconds=0.3, count=1, more=()):
        self.hosts[a].ip("neigh", "flush", "dev", f"c{a}")  # one that was not found is asked for anew
        return self.hosts[a].run("ping", "-n", "-q", "-c", count, "-i", "0.05", "-W", seconds, *more,
                                 self.address(b, family), check=False).returncode == 0

    def reaches(self, a, b, what=""):
        for family in (4, 6):
            expect(self.ping(a, b, family, seconds=5), f"c{a} does not reach c{b} by IPv{family} {what}")

    def misses(self, a, b, what=""):
        for family in (4, 6):
            expect(not self.ping(a, b, family), f"c{a} reaches c{b} by IPv{family} {what}")

    def transfer(self, a, b, family=4, size=1 << 20):
        """Bytes by TCP from one host to another, and their number back."""
        with self.hosts[b]:
            listener = socket.socket(address_family(self.address(b, family)), socket.SOCK_STREAM)
            listener.bind((self.address(b, family), 5000))
            listener.listen(1)
        with self.hosts[a]:
            sender = socket.socket(address_family(self.address(b, family)), socket.SOCK_STREAM)
        sender.settimeout(10)
        listener.settimeout(10)
        sender.connect((self.address(b, family), 5000))
        taker, _ = listener.accept()
        taker.settimeout(10)
        sent = got = 0
        while got < size:
            if sent < size:
                sent += sender.send(b"x" * min(65536, size - sent))
            got += len(taker.recv(1 << 20))
        for sock in (sender, taker, listener):
            sock.close()
        return got

    def forward(self, sentence, **parameters):
        return add(self.agent, f"forward {sentence}", **parameters)["id"]

    def entry(self, rule):
        return next(r for r in rules(self.agent, verb="forward") if r["id"] == rule)

    def delete(self, rule):
        done(self.agent, "POST", "/v1/rules/delete", id=rule)


BROADCAST = b"\xff" * 6


class Tap:
    """Frames of a test's own EtherType, with and without a tag, at the host behind a port."""

    def __init__(self, site, i):
        self.name, self.mac = f"c{i}", mac_of(i)
        with site.hosts[i]:
            self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        for option in (PACKET_AUXDATA, PACKET_IGNORE_OUTGOING):
            self.sock.setsockopt(SOL_PACKET, option, 1)
        self.sock.bind((self.name, ETH_P_ALL))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    def empty(self):
        self.sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                self.sock.recv(2048)

    def send(self, to, said=b"one", vlan=0, source=None):
        tag = struct.pack("!HH", 0x8100, vlan) if vlan else b""
        self.sock.send(to + (source or self.mac) + tag + ETHERTYPE + said.ljust(50, b"\0"))

    def take(self, seconds=2):
        """(VLAN, what was said) of the next frame; None: none came."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.sock.settimeout(left)
            try:
                data, extra, _, _ = self.sock.recvmsg(2048, 256)
            except TimeoutError:
                break
            if data[12:14] != ETHERTYPE:
                continue
            tags = [struct.unpack("I12xH", value[:18]) for _, kind, value in extra if kind == PACKET_AUXDATA]
            return next((tci & 0xfff for status, tci in tags if status & 0x10), 0), data[14:].rstrip(b"\0")
        return None


def mac_of(i):
    """Of the host behind port i."""
    return bytes((2, 0, 0, 0, 1, i))


@test()
def a_cable(lab):
    """what comes in on one interface leaves by the other and back, whatever it is: IP of both families, ARP, VLANs; it is
    counted by sentence and by flow, and goes on while the agent is killed and started"""
    site = Site(lab)
    site.misses(0, 1, "without a sentence")
    rule = site.forward("from w0 to w1 both ways")
    expect_equal((site.entry(rule)["state"], site.entry(rule).get("reason")), ("active", None), "the sentence")
    site.reaches(0, 1)
    for family in (4, 6):
        expect_equal(site.transfer(0, 1, family), 1 << 20, "bytes by TCP")
    with Tap(site, 0) as sender, Tap(site, 1) as receiver:
        sender.send(BROADCAST, vlan=7)
        expect_equal(receiver.take(), (7, b"one"), "a frame with a tag")
    entry = site.entry(rule)
    expect(entry["packets"] > 100 and entry["bytes"] > 2 << 20, f"packets: {entry}")
    expect_equal((entry["lost"], entry["passed"]), (0, 0), "lost, passed")
    told = site.agent.weir("explain", "in", "on", "w0", "tcp", "from", "10.1.0.9", "to", "10.1.0.10", "port", 80).stdout
    expect_equal(told, f"sent on at XDP rule {rule}: forward from w0 to w1 both ways\n", "explain")
    flows = site.agent.flows(f"tcp from {site.address(0, 4)}")
    expect(sum(flow["bytes"] for flow in flows) > 1 << 20, f"flows: {flows}")
    site.agent.stop(signal.SIGKILL)
    site.reaches(0, 1, "without an agent")
    site.agent.start()
    site.reaches(0, 1, "with the next agent")
    expect(site.entry(rule)["packets"] > entry["packets"], "the next agent goes on counting")
    site.delete(rule)
    site.misses(0, 1, "behind the sentence")
    site.agent.losses()


@test()
def a_switch(lab):
    """a switch learns who is where: what is for one goes to that one alone, what is for all or for somebody unknown to all
    others, each VLAN for itself; who moves is found at the new place, who is where a frame came from gets it no second time,
    and what belongs to the link alone is not sent on"""
    site = Site(lab, 3)
    rule = site.forward("among w0, w1, w2")
    taps = [Tap(site, i) for i in range(3)]

    def hears(sender, to, wanted, what, **options):
        for tap in taps:
            tap.empty()
        taps[sender].send(to, **options)
        # who is to get it first: then it is late enough for all others
        got = {i: taps[i].take(5 if wanted[i] else 0.1) for i in sorted(range(3), key=lambda i: not wanted[i])}
        expect_equal([got[i] for i in range(3)], wanted, what)

    here = (0, b"one")
    hears(0, BROADCAST, [None, here, here], "a broadcast")
    hears(0, mac_of(1), [None, here, here], "for somebody unknown")
    hears(1, mac_of(0), [here, None, None], "for one who was heard")
    hears(0, mac_of(1), [None, here, None], "… and back")
    hears(0, mac_of(1), [None, (5, b"one"), (5, b"one")], "in a VLAN in which nobody was heard", vlan=5)
    hears(2, mac_of(2), [None, None, None], "for who is where it came from")
    hears(2, BROADCAST, [here, here, None], "by one who has moved", source=mac_of(1))
    hears(0, mac_of(1), [None, None, here], "for one who has moved")
    hears(0, bytes.fromhex("0180c2000002"), [None, None, None], "for the link alone")
    entry = site.entry(rule)
    expect_equal((entry["moved"], entry["filtered"], entry["lost"]), (1, 1, 0), "moved, filtered, lost")
    expect(entry["heard"] >= 4 and entry["flooded"] >= 4 and entry["passed"] >= 1, f"what was counted: {entry}")
    for tap in taps:
        tap.close()
    for a, b in ((0, 1), (1, 2), (2, 0)):
        site.reaches(a, b)
    expect_equal(site.transfer(0, 2), 1 << 20, "bytes by TCP")
    site.agent.stop(signal.SIGKILL)
    site.reaches(1, 0, "without an agent")
    site.agent.start()
    site.reaches(0, 2, "with the next agent")
    expect(site.entry(rule)["heard"] >= 4, "what was heard is known to the next agent")
    site.agent.losses()


@test()
def a_switch_grows(lab):
    """a switch waits for its second interface, works without one that is not there yet, takes it in when it comes, and forgets
    one that goes"""
    site = Site(lab, 2, config="interfaces: ['w*']\n")
    site.host.ip("link", "del", "w1")
    rule = site.forward("among w0, w1, w2")
    expect_equal(site.entry(rule)["state"], "waiting", "with one interface")
    site.plug(1)
    wait_for(lambda: site.entry(rule)["state"] == "active", 10, "the second interface")
    site.reaches(0, 1)
    expect(site.entry(rule)["reason"].startswith("there is no interface w2"), f"the third: {site.entry(rule)}")
    site.plug(2)
    wait_for(lambda: not site.entry(rule).get("reason"), 10, "the third interface")
    site.reaches(2, 0)
    site.host.ip("link", "del", "w1")
    wait_for(lambda: site.entry(rule).get("reason"), 10, "one that has gone")
    site.reaches(0, 2, "behind one that has gone")


@test("vm")
def by_route(lab):
    """packets go the kernel's routes by XDP, one hop less; the stack does what it alone can: hosts of its own, a hop limit that
    has run out, what is too large, neighbours that are not known, options"""
    site = Site(lab, 3, routed=True)
    site.hosts[2].ip("link", "set", "c2", "mtu", 1400)
    site.host.ip("link", "set", "w2", "mtu", 1400)
    site.reaches(0, 1, "by the kernel")
    both = [site.forward(f"from w{i} by route") for i in range(3)]
    site.reaches(0, 1)
    entry = site.entry(both[0])
    expect_equal((entry["state"], entry.get("reason"), entry["packets"]), ("active", None, 2), "two pings")
    for to, taken in (("10.2.0.2", True), ("10.1.0.1", False), ("10.2.0.255", False), ("fd00:2::2", True), ("fd00:1::1", False)):
        words = f"in on w0 tcp from {site.address(0, 6 if ':' in to else 4)} to {to} port 80"
        told = site.agent.weir("explain", *words.split()).stdout
        expect_equal(told.startswith("sent on at XDP"), taken, f"explain of a packet to {to}: {told}")
    with site.hosts[1]:
        watch = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    watch.settimeout(2)
    site.ping(0, 1)
    header = watch.recv(2048)
    expect_equal(header[8], 63, "TTL behind one hop")
    watch.close()
    for family in (4, 6):
        expect_equal(site.transfer(0, 1, family), 1 << 20, f"bytes by TCP, IPv{family}")
        # larger than the way: the stack tells, and the sender sends smaller ones
        expect_equal(site.transfer(0, 2, family), 1 << 20, f"bytes by TCP to where less fits, IPv{family}")
    before = site.entry(both[0])["passed"]
    for family, own in ((4, "10.2.0.1"), (6, "fd00:2::1")):
        expect_equal(site.hosts[0].run("ping", "-n", "-c", 1, "-W", 2, own, check=False).returncode, 0, "weir's host")
        out = site.hosts[0].run("ping", "-n", "-c", 1, "-W", 2, "-t", 1, site.address(1, family), check=False).stdout
        expect("exceeded" in out or "Hop limit" in out, f"a hop limit that has run out: {out}")
    expect(site.ping(0, 1, 4, 2, more=("-R",)), "a ping with an option")
    expect(site.entry(both[0])["passed"] > before, "packets left to the stack")
    # a router asks by its link-local address
    site.host.ip("addr", "add", "fe80::1/64", "dev", "w1", "nodad")
    site.hosts[1].ip("addr", "add", "fe80::2/64", "dev", "c1", "nodad")
    for family, address in ((4, "10.2.0.2"), (6, "fd00:2::2")):
        site.host.ip("neigh", "del", address, "dev", "w1")
        expect(site.ping(0, 1, family, 3), f"a neighbour that was not known, IPv{family}")
    flows = site.agent.flows(f"tcp from {site.address(0, 4)} to {site.address(1, 4)}")
    expect(sum(flow["bytes"] for flow in flows) > 1 << 20, f"flows: {flows}")
    site.agent.losses()


@test()
def a_chain(lab):
    """what comes in on the first interface passes the hosts in between, each by one arm, and leaves by the last; a host that is
    not there stops it, and the way back is the stack's"""
    site = Site(lab, 4)
    rule = site.forward("from w0 via w1, w2 to w3")
    taps = [Tap(site, i) for i in range(4)]
    for i, said in enumerate((b"raw", b"seen by one", b"seen by two")):
        taps[i].send(BROADCAST, said=said)
        got = {n: taps[n].take(5 if n == i + 1 else 0.1) for n in sorted(range(4), key=lambda n: n != i + 1)}
        expect_equal(got, {n: (0, said) if n == i + 1 else None for n in got}, f"from c{i}")
    before = site.entry(rule)
    taps[3].send(BROADCAST)
    expect_equal([tap.take(0.1) for tap in taps], [None] * 4, "back from the last")
    expect_equal(site.entry(rule)["packets"], before["packets"], "the sentence does not see that")
    for tap in taps:
        tap.close()


@test()
def a_sentence_waits(lab):
    """a sentence waits for interfaces that are not there, or take no frames, and says which and why; a change that is not
    confirmed goes back by itself, without an agent, too; what cannot be is refused and changes nothing"""
    site = Site(lab, 2, config="interfaces: ['w*']\n", gro=False)
    _, answer = ask(site.agent, "POST", "/v1/rules/add", text="forward from w0 to w1 both ways")
    rule = answer["rules"][0]["id"]
    expect(answer["warnings"] and "GRO" in answer["warnings"][0], f"warnings: {answer}")
    expect_equal(site.entry(rule)["state"], "waiting", "without GRO at the other end")
    for i in (0, 1):
        site.hosts[i].run("ethtool", "-K", f"c{i}", "gro", "on")
    wait_for(lambda: site.entry(rule)["state"] == "active", 10, "GRO")
    site.reaches(0, 1)
    for sentence, words in (("from w1 by route", "what comes in on w1 is forwarded already"),
                            ("among w2, w0", "what comes in on w0 is forwarded already"),
                            ("from w3 to w3", "a second 'w3'"), ("among w4", "one interface alone")):
        status, answer = ask(site.agent, "POST", "/v1/rules/add", text=f"forward {sentence}")
        expect(status == 400 and words in answer["error"]["what"], f"{sentence}: {answer}")
    expect_equal(len(rules(site.agent, verb="forward")), 1, "sentences")
    # a change that is to be confirmed, and an agent that is not there to take it back
    done(site.agent, "POST", "/v1/policy", "rules: []\n", confirm="2s")
    site.misses(0, 1, "in the change")
    site.agent.stop(signal.SIGKILL)
    wait_for(lambda: site.ping(0, 1), 10, "what was before")
    site.agent.start()
    site.reaches(0, 1, "with the next agent")
    expect_equal([r["text"] for r in rules(site.agent, verb="forward")], ["forward from w0 to w1 both ways"], "sentences")
    done(site.agent, "POST", "/v1/policy", "forward: ['from w1 to w0']\n", confirm="60s")
    done(site.agent, "POST", "/v1/policy/confirm")
    site.misses(0, 1, "one way")
    done(site.agent, "POST", "/v1/policy/rollback")
    site.reaches(0, 1, "rolled back")
    warnings = done(site.agent, "POST", "/v1/rules/add", text="count in on w0 tcp")["warnings"]
    expect(any("does not see what rule" in w for w in warnings), f"warnings: {warnings}")


@test()
def what_is_lost_is_counted(lab):
    """frames that the interface did not take count as lost; rules that XDP decides are judged before"""
    site = Site(lab, 2)
    rule = site.forward("from w0 to w1")
    tap = Tap(site, 0)
    site.host.ip("link", "set", "w1", "down")
    wait_for(lambda: site.entry(rule).get("reason") == "w1 is down", 10, "the reason")
    before = site.entry(rule)
    for _ in range(5):
        tap.send(BROADCAST)
    wait_for(lambda: site.entry(rule)["lost"] - before["lost"] >= 5, 5, "lost frames")
    site.host.ip("link", "set", "w1", "up")
    tap.close()
    site.agent.settle()
    before = site.entry(rule)["packets"]
    drop = add(site.agent, "drop in on w0 icmp")["id"]
    site.hosts[0].ip("neigh", "add", site.address(1, 4), "lladdr", "02:00:00:00:01:01", "dev", "c0", "nud", "permanent")
    site.hosts[0].run("ping", "-n", "-q", "-c", 3, "-i", "0.05", "-W", "0.3", site.address(1, 4), check=False)
    expect_equal(done(site.agent, "GET", "/v1/rules", verb="drop")["rules"][0]["packets"], 3, f"packets of rule {drop}")
    expect_equal(site.entry(rule)["packets"], before, "packets sent on")


@test()
def generic(lab):
    """with generic XDP frames go also where there is no native way; there the kernel does not take several packets in one"""
    site = Site(lab, 2, config="interfaces: [w0, w1]\nxdp: generic\n", gro=False)
    for i in (0, 1):
        site.hosts[i].offload(f"c{i}", False)
    rule = site.forward("from w0 to w1 both ways")
    entry = site.entry(rule)
    expect_equal((entry["state"], entry["hook"]), ("active", "xdp-generic"), "the sentence")
    site.reaches(0, 1)
    site.delete(rule)
    rule = site.forward("among w0, w1")
    site.reaches(1, 0, "by a switch")
    expect_equal(site.transfer(0, 1), 1 << 20, "bytes by TCP")
    expect_equal(site.entry(rule)["lost"], 0, "lost")

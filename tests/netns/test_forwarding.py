# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Forwarding with real peers: what comes in by one interface leaves by another, by cable, as a switch, by route."""

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
        # at XDP there are no checksums that a card has still to make, and no tags beside the packet
        end.run("ethtool", "-K", f"c{i}", "tx", "off", "txvlan", "off", "gro", "on" if gro else "off")
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
        self.sock.close()

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


@test("vm")
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

# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Frames through weir, and which of them come out behind it.

What comes in on the host's w0 and is not stopped goes on, by a filter behind weir's, to a third namespace, so that no
stack answers it; what goes out is seen at the peer.  Each frame carries a number in its last eight bytes.
"""

import contextlib
import os
import socket
import struct
import time

import pcap
from lab import expect

MAGIC = b"weir"
SO_RCVBUFFORCE, PACKET_IGNORE_OUTGOING = 33, 23
ETH_P_ALL = 0x0003


class Wire:
    """host (w0, watched) and peer (p0); `lost` seconds without a frame mean that no more comes."""

    def __init__(self, lab, config=None):
        self.lab = lab
        self.host, self.peer = lab.hosts()
        self.beyond = lab.namespace("beyond")
        self.host.ip("link", "add", "s0", "mtu", 9000, "type", "veth", "peer", "name", "s1", "mtu", 9000, "netns",
                     self.beyond.name)
        lab.quiet(self.host, self.peer, self.beyond)
        self.host.ip("link", "set", "s0", "up")
        self.beyond.ip("link", "set", "s1", "up")
        self.host.tc("qdisc", "add", "dev", "w0", "clsact")
        self.host.tc("filter", "add", "dev", "w0", "ingress", "pref", 49000, "protocol", "all", "u32",
                     "match", "u32", "0", "0", "action", "mirred", "egress", "redirect", "dev", "s0")
        self.number = 0
        self.receivers = {"in": self.receiver(self.beyond, "s1"), "out": self.receiver(self.peer, "p0")}
        self.senders = {"in": self.sender(self.peer, "p0"), "out": self.sender(self.host, "w0")}
        self.agent = lab.agent(self.host, config)

    def receiver(self, namespace, interface):
        with namespace:
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 26)
        sock.setsockopt(263, PACKET_IGNORE_OUTGOING, 1)  # SOL_PACKET
        sock.bind((interface, ETH_P_ALL))
        sock.setblocking(False)
        self.lab.on_close(sock.close)
        return sock

    def sender(self, namespace, interface):
        with namespace:
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        sock.bind((interface, 0))
        self.lab.on_close(sock.close)
        return sock

    def tail(self):
        """The last bytes of the next frame's payload."""
        self.number += 1
        return MAGIC + struct.pack("!I", self.number)

    def send(self, frames, wanted, direction="in"):
        """Sends frames, which end in tail()s, and returns the numbers of those that came through.  It waits for the
        numbers in `wanted`, and then a little for what should not come."""
        sender, receiver = self.senders[direction], self.receivers[direction]
        arrived, missing = set(), set(wanted)
        cpus = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(cpus)})  # what is sent on one CPU arrives in its order
        for place, frame in enumerate(frames):
            with contextlib.suppress(OSError):  # ENOBUFS: dropped on its way out
                sender.send(frame)
            if place % 64 == 63:
                self.take(receiver, arrived)
        os.sched_setaffinity(0, cpus)
        end = time.monotonic() + 1.5
        while missing - arrived and time.monotonic() < end:
            self.take(receiver, arrived)
            time.sleep(0.001)
        quiet = time.monotonic() + 0.03
        while time.monotonic() < quiet:
            if self.take(receiver, arrived):
                quiet = time.monotonic() + 0.03
            time.sleep(0.002)
        return arrived

    @staticmethod
    def take(receiver, arrived):
        some = False
        while True:
            try:
                frame = receiver.recv(65536)
            except BlockingIOError:
                return some
            if frame[-8:-4] == MAGIC:
                some = True
                arrived.add(struct.unpack("!I", frame[-4:])[0])

    def passes(self, make, direction="in"):
        """Does the frame that make(tail) builds come through?"""
        tail = self.tail()
        return self.number in self.send([make(tail)], [], direction)

    def expect(self, cases, direction="in"):
        """Each case: (what it is, make(tail), whether it comes through)."""
        frames, wanted, names = [], {}, {}
        for name, make, passes in cases:
            tail = self.tail()
            frames.append(make(tail))
            wanted[self.number], names[self.number] = passes, name
        arrived = self.send(frames, {number for number, passes in wanted.items() if passes}, direction)
        wrong = [f"{names[number]}: {'stopped' if passes else 'came through'}"
                 for number, passes in wanted.items() if (number in arrived) != passes]
        expect(not wrong, f"{direction}: " + "; ".join(wrong[:12]))


def turn(frame):
    """The frame with its MAC addresses swapped: for the other direction."""
    return frame[6:12] + frame[:6] + frame[12:]

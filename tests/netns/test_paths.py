# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""What belongs to a class: the packets of a flow find their classes once, and each of them counts in all of these."""

import socket

from lab import expect, expect_equal, udp_socket
from suite import test
from test_rules import add, ask, done, rule


def shapes(agent):
    return {entry["id"]: entry for entry in agent.get("/v1/shapes")["shapes"]}


def send(sock, count, size):
    for _ in range(count):
        sock.send(bytes(size))


def wire(size, family=4):
    """Bytes of a datagram on the wire."""
    return 14 + (20 if family == 4 else 40) + 8 + size


def sender(lab, host, address, port):
    sock = udp_socket(host, family=socket.AF_INET6 if ":" in address else socket.AF_INET)
    lab.on_close(sock.close)
    sock.connect((address, port))
    return sock


def receiver(lab, peer, address, port):
    sock = udp_socket(peer, address, port)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    lab.on_close(sock.close)
    return sock


def received(sock):
    sock.setblocking(False)
    count = 0
    while True:
        try:
            sock.recv(2048)
            count += 1
        except BlockingIOError:
            return count


@test("vm-6.12")
def what_a_class_drops_is_told(lab):
    """Of what a policed class is sent, all is sent on or dropped, to the packet and the byte, in both families: as the receiver, the rule's counters and `weir drops` say, too"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    number = add(agent, "limit out udp to port 9 to 100kbit burst 20kb engine policer")["id"]
    count, got, size = 0, 0, 1000
    for address, family in (("10.1.0.2", 4), ("fd00:1::2", 6)):
        sink = receiver(lab, peer, address, 9)
        sock = sender(lab, host, address, 9)
        send(sock, 200, size)
        count += 200
        got += received(sink)
    entry = shapes(agent)[number]
    expect(0 < got < count, f"{got} of {count} datagrams came through")
    expect_equal((entry["sent_packets"], entry["dropped_packets"]), (got, count - got), "packets sent, dropped")
    expect_equal(entry["sent_bytes"] + entry["dropped_bytes"], 200 * (wire(size, 4) + wire(size, 6)), "bytes")
    expect_equal(rule(agent, number)["packets"], count, "packets of the rule")
    drops = agent.get("/v1/drops")
    named = [entry for entry in drops["recent"] if entry.get("rule") == number]
    expect(named, f"drops of rule {number}: {drops['recent'][:3]}")


@test()
def levels_add_up(lab):
    """On a link with classes of several levels each level counts what those below it send, and the rest; what one refuses, none has sent"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    link = add(agent, "limit out on w0 to 1gbit engine policer")["id"]
    done(agent, "POST", "/v1/shapes/add", text="tenant under w0 ceiling 500mbit engine policer")
    bulk = add(agent, "limit out udp to port 9 to 8kbit burst 8kb under tenant engine policer")["id"]
    other = add(agent, "limit out udp to port 10 to 100mbit under tenant engine policer")["id"]
    sinks = {port: receiver(lab, peer, "10.1.0.2", port) for port in (9, 10, 11)}
    for port, count in ((9, 100), (10, 50), (11, 30)):
        send(sender(lab, host, "10.1.0.2", port), count, 1000)
    got = {port: received(sink) for port, sink in sinks.items()}
    now = shapes(agent)
    tenant = next(entry for entry in now.values() if entry.get("name") == "tenant")
    expect_equal((got[10], got[11]), (50, 30), "datagrams within their limits")
    expect(got[9] < 100, "datagrams over their limit")
    expect_equal(now[bulk]["sent_packets"], got[9], "sent by the lowest")
    expect_equal(now[bulk]["dropped_packets"], 100 - got[9], "dropped by the lowest")
    expect_equal(tenant["sent_packets"], got[9] + 50, "sent by the tenant")
    expect_equal((tenant["dropped_packets"], now[link]["dropped_packets"]), (0, 0), "dropped above")
    expect(now[link]["sent_packets"] >= sum(got.values()), "sent by the link")
    expect_equal(now[other]["sent_packets"], 50, "sent by the other")


@test()
def open_sockets_find_their_class(lab):
    """A socket that is open already belongs to the class of a new rule about its process with its next packet, and to none when the rule is gone"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    sink = receiver(lab, peer, "10.1.0.2", 9)
    sock = sender(lab, host, "10.1.0.2", 9)
    send(sock, 20, 100)
    number = add(agent, "limit out by user root to 1gbit engine policer")["id"]
    send(sock, 30, 100)
    expect_equal(shapes(agent)[number]["sent_packets"], 30, "packets behind the rule")
    done(agent, "POST", "/v1/rules/delete", id=number)
    send(sock, 10, 100)
    expect_equal(received(sink), 60, "datagrams")
    expect_equal(shapes(agent), {}, "classes")
    status, _ = ask(agent, "POST", "/v1/shapes/change", id=number, text="to 20mbit")
    expect_equal(status, 404, "a change of what is gone")

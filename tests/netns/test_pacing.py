# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Pacing: which rates sockets get from their classes, keep, and get back."""

import contextlib
import signal
import socket
import threading
import time

from lab import address_family, expect, expect_equal, udp_socket, wait_for
from suite import test
from test_rules import add, done
from test_shapes import change, declare, shape

SO_MAX_PACING_RATE = 47
UNPACED = 0xffffffff
MBIT = 125000
CLOSE = 256  # a rate is set anew when it differs by more than this part
WIRE = 1514  # bytes of a full packet; MTU 1500, timestamps
PAYLOAD = {socket.AF_INET: 1448, socket.AF_INET6: 1428}
NEAR, FAR = "10.1.0.1", "10.1.0.2"
FAR6 = "fd00:1::2"


class Echo:
    """Sends back what connections to a port say."""

    def __init__(self, namespace, port, address="::"):
        with namespace:
            self.listener = socket.socket(socket.AF_INET6)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self.listener.bind((address, port))
        self.listener.listen(64)
        self.accepted = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection = self.listener.accept()[0]
                self.accepted.append(connection)
                threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    @staticmethod
    def serve(connection):
        with contextlib.suppress(OSError):
            while data := connection.recv(65536):
                if len(data) == 1:  # a question; all else is load
                    connection.sendall(data)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()
        for connection in self.accepted:
            connection.close()


def connect(namespace, address, port, own=None):
    with namespace:
        sock = socket.socket(address_family(address))
    sock.settimeout(10)
    if own is not None:
        sock.setsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, own)
    sock.connect((address, port))
    return sock


def say(sock):
    """A question and its answer: so the socket has measured its round trip."""
    sock.sendall(b"?")
    expect_equal(sock.recv(1), b"?", "the echo")
    return sock


def fill(sock):
    with contextlib.suppress(OSError):
        while True:
            sock.sendall(bytes(65536))


def pacing(sock):
    return sock.getsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE) & UNPACED


def is_paced(sock, mbit):
    want = mbit * MBIT * PAYLOAD[sock.family] / WIRE
    return abs(pacing(sock) - want) <= want / CLOSE + 1


def expect_paced(sock, mbit, what):
    expect(is_paced(sock, mbit), f"{what}: {pacing(sock)} bytes a second are not {mbit} Mbit/s on the wire")


@test("vm")
def sockets_get_the_rate_of_their_class(lab):
    """a TCP socket in a paced class may send what the class may, counted on the wire, in both families, whoever connects; of
    several classes the lowest rate holds; what is in none stays as it was"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    limit = add(agent, "limit out tcp to port 81 to 8mbit")["id"]
    add(agent, "limit out tcp from port 82 to 16mbit")
    add(agent, "limit out tcp to port 83 to 8mbit")
    add(agent, f"limit out tcp to {FAR} to 4mbit")
    expect_equal(shape(agent, limit)["engine"], "pacing", "the engine")
    with Echo(peer, 81), Echo(peer, 84), Echo(host, 82) as server:
        expect_paced(say(connect(host, FAR6, 81)), 8, "IPv6")
        expect_paced(say(connect(host, FAR, 81)), 4, "IPv4, of which a second class says less")
        expect_equal(pacing(say(connect(host, FAR6, 84))), UNPACED, "no class")
        say(say(connect(peer, "fd00:1::1", 82)))
        expect_paced(server.accepted[0], 16, "accepted")


@test()
def sockets_are_paced_in_front_of_htb(lab):
    """with engine htb a TCP socket in both families is paced to a little less than its class, so nothing waits in the leaf;
    what cannot be paced waits there; an own lower rate stays; when the class goes the socket gets back what it had"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    limit = add(agent, "limit out on w0 to 8mbit engine htb")["id"]
    said = shape(agent, limit)
    expect_equal(said["engine"], "htb", "the engine")
    expect("paced in front of it" in said["engine_reason"], f"says so: {said['engine_reason']}")
    with Echo(peer, 81):
        paced = [say(connect(host, address, 81)) for address in (FAR, FAR6)]
        for sock in paced:
            expect_paced(sock, 8 * 159 / 160, "a 160th is left to the queue")
        own = say(connect(host, FAR, 81, own=50000))
        expect_equal(pacing(own), 50000, "the application's own rate")
        for sock in paced:
            sock.settimeout(None)
            threading.Thread(target=fill, args=(sock,), daemon=True).start()
        # two that have more to send share it
        wait_for(lambda: all(3.6 * MBIT < pacing(sock) * WIRE / PAYLOAD[sock.family] < 4.4 * MBIT for sock in paced), 20,
                 "a half each")
        done(agent, "POST", "/v1/rules/delete", id=limit)
        wait_for(lambda: all(pacing(sock) == UNPACED for sock in paced), 10, "the rate they had")
        expect_equal(pacing(own), 50000, "the application's rate")


@test("vm-6.1")
def open_connections_are_caught_and_let_go(lab):
    """a connection that was open before its class was there is paced within a second; a change of the rate reaches it; when
    the class goes it gets back what it had, which for one that paced itself is its own rate"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    with Echo(peer, 81):
        plain, own = connect(host, FAR, 81), connect(host, FAR, 81, own=50000)
        say(plain), say(own)  # pylint: disable=expression-not-assigned
        add(agent, "limit out tcp to port 82 to 8mbit")
        limit = add(agent, "limit out tcp to port 81 to 8mbit")["id"]
        wait_for(lambda: is_paced(say(plain), 8), 10, "the open connection is paced")
        expect_equal(pacing(say(own)), 50000, "the application's own rate, which is lower")
        change(agent, "to 4mbit", id=limit)
        wait_for(lambda: is_paced(say(plain), 4), 10, "the new rate")
        done(agent, "POST", "/v1/rules/delete", id=limit)
        wait_for(lambda: pacing(say(plain)) == UNPACED, 10, "the rate it had, though other classes still pace")
        expect_equal(pacing(say(own)), 50000, "the application's rate")


@test("vm-6.1")
def a_link_comes_to_stand_above_a_class_in_use(lab):
    """a connection that sends in a paced class goes on when its interface gets a rate, and a class in between: at its own
    rate as long as that is less than theirs, then at theirs"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    with Echo(peer, 81):
        sock = say(connect(host, FAR, 81))
        limit = add(agent, "limit out tcp to port 81 to 8mbit")["id"]
        sock.settimeout(None)
        threading.Thread(target=fill, args=(sock,), daemon=True).start()
        wait_for(lambda: shape(agent, limit)["flows"] == 1, 10, "the class holds the connection back")
        above = add(agent, "limit out on w0 to 80mbit")["id"]
        # a packet at next to no rate would hold up those behind it for many seconds
        wait_for(lambda: shape(agent, above)["sent_bytes"] > 200000, 10, "the connection goes on below the link")
        between = declare(agent, "between under w0 ceiling 40mbit")["id"]
        change(agent, "under between", id=limit)
        wait_for(lambda: shape(agent, between)["sent_bytes"] > 200000, 10, "… and below a class in between")
        expect(pacing(sock) < 36 * MBIT, f"its own class still holds it: {pacing(sock)} bytes a second")
        change(agent, "ceiling 4mbit", id=between)
        wait_for(lambda: pacing(sock) * WIRE / PAYLOAD[sock.family] < 5 * MBIT, 20, "the rate of the class in between")


@test("vm")
def pacing_goes_on_without_the_agent(lab):
    """with the agent killed new connections get their rates all the same, and the next agent goes on; `weir down` puts all
    rates back"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    add(agent, "limit out tcp to port 81 to 8mbit")
    with Echo(peer, 81):
        first = say(connect(host, FAR, 81))
        expect_paced(first, 8, "with an agent")
        agent.kill(signal.SIGKILL)
        agent.process.wait()
        second = say(connect(host, FAR, 81))
        expect_paced(second, 8, "without one")
        agent.start()
        third = say(connect(host, FAR, 81))
        expect_paced(third, 8, "with the next one")
        agent.stop()
        expect_equal([pacing(sock) for sock in (first, second, third)], [UNPACED] * 3, "after the end")


@test("vm-6.12")
def down_without_an_agent_puts_rates_back(lab):
    """`weir down` behind a killed agent gives open sockets back what they had: no rate, or the application's own"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    add(agent, "limit out tcp to port 81 to 8mbit")
    with Echo(peer, 81):
        plain, own = connect(host, FAR, 81), connect(host, FAR, 81, own=2000000)
        for sock in (plain, own):
            expect_paced(say(sock), 8, "with an agent")
        agent.kill(signal.SIGKILL)
        agent.process.wait()
        agent.weir("down")
        expect_equal([pacing(plain), pacing(own)], [UNPACED, 2000000], "after weir down")
        expect_equal([pacing(say(plain)), pacing(say(own))], [UNPACED, 2000000], "and later")


@test()
def sockets_together_send_the_rate(lab):
    """eight streams of one class together send its rate, by the bytes that the class counts on the wire"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    limit = add(agent, "limit out tcp to port 81 to 20mbit")["id"]
    with Echo(peer, 81):
        streams = [connect(host, FAR, 81) for _ in range(8)]
        for sock in streams:
            sock.settimeout(None)
            threading.Thread(target=fill, args=(sock,), daemon=True).start()
        wait_for(lambda: shape(agent, limit)["sent_bytes"] > 20 * MBIT, 20, "they have begun")

        def count():
            before = time.monotonic()
            sent = shape(agent, limit)["sent_bytes"]
            return sent, before, time.monotonic()

        first, earliest, latest = count()
        time.sleep(3)
        second, after, last = count()
        for sock in streams:
            sock.close()
        sent = second - first
        # 5 %: the counter is read some time between the call and its answer
        expect(0.95 * (after - latest) * 20 * MBIT < sent < 1.05 * (last - earliest) * 20 * MBIT,
               f"{sent} bytes in {after - earliest:.2f} s are not 20 Mbit/s")


@test()
def datagrams_beside_paced_sockets_never_send_more(lab):
    """what is no TCP of this host is dropped beyond the rate of a paced class: of a flood no more than the rate and a burst
    arrives, and each datagram is counted as sent or as dropped"""
    host, peer = lab.hosts()
    lab.quiet(host, peer)
    agent = lab.agent(host)
    limit = add(agent, f"limit out to {FAR} to 8mbit engine pacing")["id"]
    with udp_socket(peer, FAR, 5000) as receiver, udp_socket(host, NEAR) as sender:
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        begin = time.monotonic()
        sent = 0
        while time.monotonic() - begin < 1.5:
            with contextlib.suppress(PermissionError, OSError):
                sender.sendto(bytes(1000), (FAR, 5000))
            sent += 1
        took = time.monotonic() - begin
    entry = shape(agent, limit)
    expect(entry["dropped_packets"] > 0, "a flood")
    expect_equal(entry["sent_packets"] + entry["dropped_packets"], sent, "all are counted")
    burst = 8 * MBIT * 0.05 + 65536
    expect(entry["sent_bytes"] <= 8 * MBIT * took + burst, f"{entry['sent_bytes']} bytes in {took:.2f} s are more than 8 Mbit/s")


def sent_in(agent, classes, seconds):
    """Bytes that each class has sent meanwhile; the least and the most time that can have been."""
    before = time.monotonic()
    first = {number: shape(agent, number)["sent_bytes"] for number in classes}
    begun = time.monotonic()
    time.sleep(seconds)
    ending = time.monotonic()
    last = {number: shape(agent, number)["sent_bytes"] for number in classes}
    return {number: last[number] - first[number] for number in classes}, ending - begun, time.monotonic() - before


@test()
def what_a_parent_sends_itself_is_a_child_more(lab):
    """a class that has a child and sends itself: both busy they share its ceiling as a child of weight 1 does with the other;
    when the child is still the parent's own traffic gets all"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    done(agent, "POST", "/v1/shapes/add", text="tenant under w0 ceiling 16mbit")
    done(agent, "POST", "/v1/shapes/add", text="inner under tenant weight 3")
    add(agent, "assign out tcp to port 81 to tenant")
    add(agent, "assign out tcp to port 82 to inner")
    tenant, inner = (next(entry["id"] for entry in agent.get("/v1/shapes")["shapes"] if entry["text"].startswith(f"shape {name} "))
                     for name in ("tenant", "inner"))
    with Echo(peer, 81), Echo(peer, 82):
        own, child = say(connect(host, FAR, 81)), say(connect(host, FAR6, 82))
        for sock in (own, child):
            sock.settimeout(None)
            threading.Thread(target=fill, args=(sock,), daemon=True).start()

        def share(sock):
            return pacing(sock) * WIRE / PAYLOAD[sock.family] / (16 * MBIT)

        wait_for(lambda: 0.2 < share(own) < 0.3 and 0.7 < share(child) < 0.8, 20, "one part and three parts")
        sent, shortest, longest = sent_in(agent, (tenant, inner), 3)
        expect(0.9 * 16 * MBIT * shortest < sent[tenant] < 1.05 * 16 * MBIT * longest, f"the ceiling holds both: {sent}")
        expect(2.4 < sent[inner] / (sent[tenant] - sent[inner]) < 3.6, f"three to one: {sent}")
        child.close()
        wait_for(lambda: share(own) > 0.9, 20, "all of it")


@test()
def a_burst_of_datagrams_goes_beside_streams(lab):
    """beside streams that fill a paced class a burst of datagrams that is not longer than the class's passes whole, and the
    streams make room: together they send the rate"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    limit = add(agent, "limit out on w0 to 16mbit")["id"]
    with Echo(peer, 81), udp_socket(peer, FAR, 9) as taker, udp_socket(host, NEAR) as sender:
        taker.settimeout(5)
        streams = [connect(host, (FAR, FAR6)[number & 1], 81) for number in range(4)]
        for sock in streams:
            sock.settimeout(None)
            threading.Thread(target=fill, args=(sock,), daemon=True).start()
        wait_for(lambda: shape(agent, limit)["sent_bytes"] > 16 * MBIT, 20, "the streams have begun")
        before = time.monotonic()
        first = shape(agent, limit)
        begun = time.monotonic()
        for _ in range(3):
            for number in range(30):
                sender.sendto(b"%d " % number + bytes(1000), (FAR, 9))
            expect_equal([int(taker.recv(2000).split(b" ")[0]) for _ in range(30)], list(range(30)), "the burst")
            time.sleep(1)
        ending = time.monotonic()
        last = shape(agent, limit)
        after = time.monotonic()
        sent = last["sent_bytes"] - first["sent_bytes"]
        expect_equal(last["dropped_packets"] - first["dropped_packets"], 0, "dropped")
        expect(0.95 * (ending - begun) * 16 * MBIT < sent < 1.05 * (after - before) * 16 * MBIT,
               f"{sent} bytes in {ending - begun:.2f} s are not 16 Mbit/s")

# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Departure times (engine fq) under real traffic, where the kernel has fq.

That is in the older kernels' guests, which are emulated: rates are low and flows few.  What may not be exceeded is
proved by the clock; what has to be reached, by comparing classes with each other and with what was offered.
"""

import statistics
import time

from lab import Skip, expect, expect_equal, udp_socket
from suite import test
from test_rules import add, done
from test_shapes import has_qdisc, root, shape
from test_shaping import TCP_BURST, TCP_SLACK, Sender, build

RATE = 10e6
PROBE = "10.1.0.2", 9


def build_fq(lab):
    parts = build(lab)
    if not has_qdisc(parts[0], "fq"):
        raise Skip("this kernel has no qdisc fq")
    return parts


def rates(sink, ports, seconds):
    """Mbit/s by port, and all bytes with the time they took."""
    began, before = time.monotonic(), sink.arrived()
    time.sleep(seconds)
    after, took = dict(sink.bytes), time.monotonic() - began
    got = {port: (after[port] - before[port]) * 8e-6 / took for port in ports}
    return got, sum(after[port] - before[port] for port in ports), took


def ask(host, peer, count=15):
    """The median of the times in ms that a datagram takes to the other host, in the class that it is of."""
    times = []
    with udp_socket(peer, *PROBE) as taker, udp_socket(host, "10.1.0.1") as sender:
        taker.settimeout(5)
        for number in range(count):
            began = time.monotonic()
            sender.sendto(b"%d " % number + bytes(80), PROBE)
            while int(taker.recv(200).split(b" ")[0]) != number:
                pass
            times.append((time.monotonic() - began) * 1e3)
            time.sleep(0.02)
    return statistics.median(times)


@test("vm", seconds=60)
def departure_times_hold_rates(lab):
    """With engine fq one TCP flow, several of both address families, and datagrams get the rate and never more of it, and
    what waits in a class waits no longer than its horizon"""
    host, peer, sink, agent = build_fq(lab)
    for namespace in (host, peer):
        namespace.sysctl("net.ipv4.tcp_ecn=1")
    number = add(agent, f"limit out on w0 to {RATE / 1e6:g}mbit engine fq")["id"]
    expect_equal((shape(agent, number)["engine"], root(host)[0]), ("fq", "fq"), "the engine, the queue")
    for jobs, slack in (([("tcp", "10.1.0.2", 7000)], TCP_SLACK),
                        ([("tcp", ("10.1.0.2", "fd00:1::2")[flow & 1], 7000) for flow in range(6)], TCP_SLACK),
                        ([("udp", "fd00:1::2", 7000, 2 * RATE)], 0)):
        sender = Sender(lab, host, *jobs)
        sink.measure({7000: 1 << 19})
        before = shape(agent, number)
        got, total, took = rates(sink, [7000], 3)
        after = shape(agent, number)
        sender.end()
        said = f"{len(jobs)} of {jobs[0][:2]}: {got[7000]:.3f} Mbit/s, {before}, {after}"
        # headers are counted, payload is measured: less than the rate, but for what was on its way
        expect(total <= (1 + slack) * RATE / 8 * took + TCP_BURST, f"too much: {said}")
        expect(got[7000] >= 0.5 * RATE / 1e6, f"too little: {said}")
        delayed = after["delayed_packets"] - before["delayed_packets"]
        expect(delayed > 0, f"nothing waited: {said}")
        expect(after["latency_us"] <= 50000, f"the horizon is 50 ms: {said}")
        time.sleep(0.3)


@test("vm", seconds=60)
def departure_times_are_shared(lab):
    """Below a link of engine fq a guarantee holds, weights share what is left, and what is idle is lent"""
    host, peer, sink, agent = build_fq(lab)
    link = add(agent, f"limit out on w0 to {RATE / 1e6:g}mbit engine fq")["id"]
    for text in ("light under w0 weight 1", "heavy under w0 weight 3"):
        done(agent, "POST", "/v1/shapes/add", text=text)
    add(agent, "assign out tcp to port 7001 to light")
    add(agent, "assign out tcp to port 7002 to heavy")
    held = add(agent, "guarantee out tcp to port 7000 5mbit")["id"]
    expect_equal([shape(agent, number)["engine"] for number in (link, held)], ["fq", "pacing"], "engines")
    for port in (7001, 7002):
        Sender(lab, host, ("tcp", "10.1.0.2", port), ("tcp", "fd00:1::2", port))
    sink.measure({7001: 1 << 18, 7002: 1 << 19})
    time.sleep(2)
    got, total, took = rates(sink, (7001, 7002), 4)
    expect(total <= (1 + TCP_SLACK) * RATE / 8 * took + TCP_BURST, f"above the link: {got}")
    expect(total >= 0.5 * RATE / 8 * took, f"what the idle class does not use is lent: {got}")
    expect(2 < got[7002] / got[7001] < 4, f"weights of 1 and 3: {got}")
    guaranteed = Sender(lab, host, ("tcp", "fd00:1::2", 7000))
    sink.measure({7000: 1 << 18})
    time.sleep(1)
    got, total, took = rates(sink, (7000, 7001, 7002), 3)
    expect(total <= (1 + TCP_SLACK) * RATE / 8 * took + TCP_BURST, f"above the link: {got}")
    expect(got[7000] >= 0.8 * 5, f"the guarantee holds against 4 flows: {got}")
    expect(2 < got[7002] / got[7001] < 4, f"weights of 1 and 3: {got}")
    guaranteed.end()
    expect(shape(agent, held)["sent_bytes"] > 0, "the guarantee counts")


@test("vm", seconds=60)
def a_higher_class_waits_for_no_departure(lab):
    """Below a link of engine fq that others fill a datagram of a higher class waits no longer than their horizon"""
    host, peer, sink, agent = build_fq(lab)
    add(agent, f"limit out on w0 to {RATE / 1e6:g}mbit engine fq")
    add(agent, "guarantee out udp to port 9 500kbit priority high")
    idle = ask(host, peer)
    Sender(lab, host, ("tcp", "10.1.0.2", 7001), ("tcp", "fd00:1::2", 7001))
    sink.measure({7001: 1 << 20})
    loaded = ask(host, peer)
    expect(loaded <= idle + 50, f"a higher class waits for no queue: {idle:.2f} ms idle, {loaded:.2f} ms under load")


@test(seconds=60)
def leaves_of_htb_are_shared(lab):
    """Below a link of engine htb, whose sockets are paced in front of its leaves, a guarantee holds, weights share what is
    left, what is idle is lent, and the link is never exceeded"""
    host, _, sink, agent = build(lab)
    link = add(agent, f"limit out on w0 to {RATE / 1e6:g}mbit engine htb")["id"]
    for text in ("light under w0 weight 1", "heavy under w0 weight 3"):
        done(agent, "POST", "/v1/shapes/add", text=text)
    add(agent, "assign out tcp to port 7001 to light")
    add(agent, "assign out tcp to port 7002 to heavy")
    held = add(agent, "guarantee out tcp to port 7000 5mbit")["id"]
    expect_equal([shape(agent, number)["engine"] for number in (link, held)], ["htb", "htb"], "engines")
    for port in (7001, 7002):
        Sender(lab, host, ("tcp", "10.1.0.2", port), ("tcp", "fd00:1::2", port))
    sink.measure({7001: 1 << 18, 7002: 1 << 19})
    time.sleep(2)
    got, total, took = rates(sink, (7001, 7002), 4)
    expect(0.8 * RATE / 8 * took <= total <= (1 + TCP_SLACK) * RATE / 8 * took + TCP_BURST, f"all of the link: {got}")
    expect(2 < got[7002] / got[7001] < 4, f"weights of 1 and 3: {got}")
    Sender(lab, host, ("tcp", "fd00:1::2", 7000))
    sink.measure({7000: 1 << 18})
    time.sleep(1)
    got, total, took = rates(sink, (7000, 7001, 7002), 3)
    expect(total <= (1 + TCP_SLACK) * RATE / 8 * took + TCP_BURST, f"above the link: {got}")
    expect(got[7000] >= 0.8 * 5, f"the guarantee holds against 4 flows: {got}")
    expect(2 < got[7002] / got[7001] < 4, f"weights of 1 and 3: {got}")

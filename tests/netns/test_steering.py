# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Steering: packets go on on the CPU that a sentence says, and otherwise as if they had come in there."""

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys

from lab import Skip, expect, expect_equal, send_frames, tcp_transfer, udp_socket, wait_for
from suite import each, test, variants
from test_rules import add, done, refused
from test_shield import need_xdp, place, put

SO_SNDBUFFORCE, SO_INCOMING_CPU = 32, 49
WHERE = {4: ("10.1.0.1", "10.1.0.2"), 6: ("fd00:1::1", "fd00:1::2")}
BUSY = "import os, signal\nos.sched_setaffinity(0, [1])\nos.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))\n" \
       "signal.alarm(20)\nprint(flush=True)\nwhile True: pass\n"


def need_cpus():
    if os.cpu_count() < 2 or not {0, 1} <= os.sched_getaffinity(0):
        raise Skip("this machine has one CPU")


def steering(lab, *sentences, config="", **options):
    """(agent, host, peer) with these sentences, on CPUs 0 and 1."""
    need_cpus()
    host, peer = lab.hosts()
    agent = lab.agent(host, config="log: info\n" + config, **options)
    agent.wait_watched("w0")
    for sentence in sentences:
        add(agent, f"steer in on w0 {sentence}")
    if sentences:
        need_xdp(agent)
    return agent, host, peer


def steers(agent):
    return agent.get("/v1/steers")["steers"]


def lanes(agent, place_of=0):
    """Packets of a sentence, by CPU."""
    return {lane["cpu"]: lane["packets"] for lane in steers(agent)[place_of]["cpus"]}


@contextlib.contextmanager
def on_cpu(cpu):
    """What this thread sends comes in on this CPU: the ends of a veth are on one."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, [cpu])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def at_once():
    """Nothing but what is as urgent runs on this thread's CPU."""
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


class Flow:
    """A flow of datagrams to the host; knows the CPU that the last one was handled by."""

    def __init__(self, host, peer, port, family=4, options=()):
        own, other = WHERE[family]
        self.server, self.client = udp_socket(host, own, port), udp_socket(peer, other)
        self.client.connect((own, port))
        self.server.connect(self.client.getsockname())
        for option in options:
            self.client.setsockopt(*option)

    def send(self, size=10):
        self.client.send(bytes(size))
        expect_equal(len(self.server.recv(65536)), size, "a datagram")
        return self.server.getsockopt(socket.SOL_SOCKET, SO_INCOMING_CPU)

    def cpus(self):
        """The CPUs of its packets, wherever they come in."""
        found = set()
        for cpu in (0, 1):
            with on_cpu(cpu):
                found |= {self.send() for _ in range(3)}
        return found

    def cpu(self):
        """The one CPU of its packets."""
        found = self.cpus()
        expect_equal(len(found), 1, "CPUs of one flow")
        return found.pop()

    def free_cpus(self):
        """The same where nothing steers: each packet is handled where it comes in."""
        for cpu in (0, 1):
            with on_cpu(cpu):
                expect_equal(self.send(), cpu, "the CPU of what is not steered")


@test("vm")
def flows_are_shared_among_the_cpus(lab):
    """by flow, all packets of a flow are handled on one CPU, of TCP and UDP, in both families, and many flows on all; each
    is counted once for its CPU, and accounted and judged in tc as ever"""
    agent, host, peer = steering(lab, "to cpus 0-1")
    for family in (4, 6):
        before = lanes(agent)
        cpus = [Flow(host, peer, 5000 + i, family).cpu() for i in range(24)]
        after = lanes(agent)
        expect_equal(set(cpus), {0, 1}, "the CPUs of many flows")
        for cpu in (0, 1):
            # what else comes in then is neighbours' business
            counted = after[cpu] - before[cpu] - 6 * cpus.count(cpu)
            expect(0 <= counted < 6, f"CPU {cpu}: {counted} more than {cpus.count(cpu)} flows' packets were counted")
        found = [flow for flow in agent.flows("in udp to port 5000-5023", limit=1000) if flow["family"] == family]
        expect_equal([flow["packets"] for flow in found], [6] * 24, "packets of flows in tc")
        tcp_transfer(peer, host, WHERE[family][0], 6000, 300000, 300000)
    expect_equal(agent.get("/v1/steers")["cpus"][0]["lost"], 0, "lost")
    add(agent, "drop in udp to port 5000")
    with Flow(host, peer, 5001).client as kept, Flow(host, peer, 5000).client as dropped:
        kept.send(b"x")
        dropped.send(b"x")
        wait_for(lambda: agent.get("/v1/rules")["rules"][0]["packets"] == 1, 5, "a packet that a rule in tc drops")


@test()
def a_sentence_takes_what_fits(lab):
    """the first sentence that fits decides: addresses, ports, sets, protocol, DSCP and flags; by rule, each has a CPU of its own;
    what fits none is handled where it comes in, and what is dropped before is not steered"""
    need_cpus()
    agent, host, peer = steering(lab)
    put(agent, "games", "7000-7001", "7100")
    add(agent, "drop in udp to port 7100")
    for text in ("udp from 10.1.0.0/24 to port @games to cpus 0-1 by rule", "udp to port 7000-7200 to cpus 0-1 by rule",
                 "tcp flags syn to cpus 1", "ip6 dscp ef to cpus 0"):
        add(agent, f"steer in on w0 {text}")
    need_xdp(agent)
    expect_equal([entry["by"] for entry in steers(agent)], ["rule", "rule", "flow", "flow"], "how")
    expect_equal(Flow(host, peer, 7000).cpu(), 0, "the first sentence by rule")
    expect_equal(Flow(host, peer, 7002).cpu(), 1, "the second")
    expect_equal(Flow(host, peer, 7000, family=6).cpu(), 1, "the other family")
    Flow(host, peer, 6999).free_cpus()
    flow = Flow(host, peer, 9, family=6, options=[(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, 46 << 2)])
    expect_equal(flow.cpu(), 0, "expedited forwarding")
    Flow(host, peer, 10, family=6).free_cpus()
    before = [sum(lanes(agent, i).values()) for i in range(4)]
    with udp_socket(peer, "10.1.0.2") as sender:
        for _ in range(10):
            sender.sendto(b"dropped", ("10.1.0.1", 7100))
    tcp_transfer(peer, host, "10.1.0.1", 80, 100000)
    after = [sum(lanes(agent, i).values()) for i in range(4)]
    expect_equal([b - a for a, b in zip(before, after)], [0, 0, 1, 0], "what was dropped, and one SYN")
    put(agent, "games", "7003")  # the set changes, the sentences stay
    expect_equal(Flow(host, peer, 7003).cpu(), 0, "a port that came to the set")


@test()
def explain_tells_the_cpu(lab):
    """explain says which sentence steers a packet to which CPU, that which then handles it: by flow, in both families,
    by an address in a set that no rule names; and nothing of what is not steered"""
    agent, host, peer = steering(lab)
    put(agent, "friends", "10.1.0.2")
    for text in ("udp from @friends to port 7000 to cpus 1", "udp to port 5000-5999 to cpus 0-1"):
        add(agent, f"steer in on w0 {text}")
    need_xdp(agent)

    def told(flow, port, family):
        own, other = WHERE[family]
        words = ["in", "on", "w0", "udp", "from", other, "port", flow.client.getsockname()[1], "to", own, "port", port]
        answer = json.loads(agent.weir("explain", "--json", *words).stdout)
        return answer.get("steer"), agent.weir("explain", *words).stdout

    for family in (4, 6):
        for port in range(5000, 5012):
            flow = Flow(host, peer, port, family)
            steer, text = told(flow, port, family)
            expect_equal(steer["cpu"], flow.cpu(), f"IPv{family}, port {port}: the CPU that explain tells")
            expect(f"steered to CPU {steer['cpu']} by rule {steers(agent)[1]['id']}: steer in on w0 udp" in text, text)
    flow = Flow(host, peer, 7000)
    expect_equal((told(flow, 7000, 4)[0] or {}).get("text"), steers(agent)[0]["text"], "a source in a set")
    expect_equal(flow.cpu(), 1, "its CPU")
    agent.weir("set", "remove", "friends", "10.1.0.2")
    expect_equal(told(flow, 7000, 4)[0], None, "a source that has left the set")
    flow.free_cpus()


@test()
def fragments_icmp_and_vlans_go_on(lab):
    """all fragments of a datagram are handled on one CPU, and echoes, tagged frames and TCP through them work as without; what
    is not IP is steered, too"""
    agent, host, peer = steering(lab, "to cpus 0-1")
    start = agent.interface("w0")["in"]["packets"] - sum(lanes(agent).values())
    for address in ("10.1.0.1", "fd00:1::1"):
        for size in ("56", "4000"):
            peer.run("ping", "-q", "-c3", "-i0.05", "-W5", "-s", size, address)
    before = lanes(agent)
    flow = Flow(host, peer, 5000)
    for _ in range(4):
        flow.send(8000)  # six fragments
    after = lanes(agent)
    grown = sorted(after[cpu] - before[cpu] for cpu in (0, 1))
    expect(grown[0] < 4 and 24 <= grown[1] < 28, f"fragments, by CPU: {grown}")
    frame = bytes.fromhex("020000000101020000000102810000070800")  # tagged with 7
    frame += bytes.fromhex("450000200000000040110000") + socket.inet_aton("10.1.0.2") + socket.inet_aton("10.1.0.1")
    frame += struct.pack("!HHHH", 7, 7, 12, 0) + bytes(4)
    with on_cpu(0):
        send_frames(peer, "p0", [frame] * 5)
    with on_cpu(1):
        send_frames(peer, "p0", [frame] * 5)
    wait_for(lambda: [flow["packets"] for flow in agent.flows("in udp vlan 7 to port 7")] == [10], 5, "tagged frames in tc")
    wait_for(lambda: agent.interface("w0")["in"]["packets"] - sum(lanes(agent).values()) == start, 5, "each is accounted once")


@each(seconds=60)
@variants("mode", "native", "generic")
def losses_are_counted(lab, mode):
    """what does not fit into a CPU's queue is dropped and counted: every packet that was steered there was delivered or is
    among the lost, in {mode} mode"""
    agent, host, peer = steering(lab, "ip to cpus 1", config=f"xdp: {mode}\n")
    expect_equal(need_xdp(agent)["mode"], mode, "the mode")
    # in generic mode what waits for a CPU is still the sender's
    flow = Flow(host, peer, 9, options=[(socket.SOL_SOCKET, SO_SNDBUFFORCE, 1 << 26)])
    expect_equal(flow.cpu(), 1, "the CPU")
    tcp_transfer(peer, host, "10.1.0.1", 80, 100000)
    before, known = lanes(agent)[1], sum(found["packets"] for found in agent.flows("in udp to port 9"))
    busy = lab.start(sys.executable, "-c", BUSY, stdout=subprocess.PIPE)
    busy.stdout.readline()
    with on_cpu(0), at_once():
        for sent in range(1, 8001):
            flow.client.send(b"x")
    busy.kill()
    busy.wait()

    def settled():
        """What came as far as XDP (a veth drops, too) is in tc, or among the lost."""
        cpu = agent.get("/v1/steers")["cpus"][0]
        found = sum(flow["packets"] for flow in agent.flows("in udp to port 9"))
        return cpu if found == known + cpu["packets"] - before - cpu["lost"] else None
    cpu = wait_for(settled, 20, "packets in tc and the lost are those that were steered")
    expect(cpu["lost"] > 0, f"nothing was lost: {cpu}")
    expect(2048 < cpu["packets"] - before <= sent, f"{sent} were sent: {cpu}")
    expect_equal((cpu["cpu"], cpu["full"]), (1, cpu["lost"]), "why")
    metrics = agent.weir("metrics").stdout
    for line in (f'weir_steer_packets_total{{rule="1",cpu="1"}} {cpu["packets"]}',
                 f'weir_steer_lost_packets_total{{cpu="1",why="full"}} {cpu["lost"]}'):
        expect(line in metrics, f"{line}: {metrics[-2000:]}")


@test()
def steering_changes_with_the_rules(lab):
    """sentences change at one point with the rules: applied, shown as a difference, rolled back, confirmed, saved; a change
    that waits and is not confirmed goes back in the datapath; what is steered stays so when the agent is killed, and the
    next one goes on counting"""
    agent, host, peer = steering(lab)
    flow = Flow(host, peer, 9)
    flow.free_cpus()
    one, other = "steer: [in on w0 udp to cpus 1]\n", "steer: [in on w0 udp to cpus 0]\n"
    done(agent, "POST", "/v1/policy", one)
    need_xdp(agent)
    expect_equal(flow.cpu(), 1, "applied")
    path = lab.write("other.yaml", other)
    expect("steer in on w0 udp to cpus 0" in agent.weir("diff", path).stdout, "the difference")
    agent.weir("apply", path, "--confirm", "60s")
    expect_equal(flow.cpu(), 0, "while it waits")
    agent.weir("rollback")
    expect_equal(flow.cpu(), 1, "rolled back")
    done(agent, "POST", "/v1/policy", other, confirm="1s")
    agent.kill(signal.SIGKILL)
    agent.process.wait()
    # the change may fall between two of its packets
    wait_for(lambda: flow.cpus() == {1}, 10, "the datapath goes back by itself")
    agent.start()
    agent.wait_watched("w0")
    expect_equal(flow.cpu(), 1, "with the next agent")
    expect_equal([entry["text"] for entry in steers(agent)], ["steer in on w0 udp to cpus 1"], "the list")
    before = sum(lanes(agent).values())
    agent.kill(signal.SIGKILL)
    agent.process.wait()
    expect_equal(flow.cpu(), 1, "without an agent")
    agent.start()
    agent.wait_watched("w0")
    expect_equal(sum(lanes(agent).values()) - before, 6, "packets counted without an agent")
    agent.weir("save")
    agent.stop()
    agent.start()
    agent.wait_watched("w0")
    expect_equal(flow.cpu(), 1, "what was saved")
    number = steers(agent)[0]["id"]
    agent.weir("delete", number)
    flow.free_cpus()
    wait_for(lambda: not place(agent)["wanted"], 5, "XDP is not wanted any more")
    expect_equal(agent.get("/v1/steers")["steers"], [], "the list")


@test()
def steering_by_command(lab):
    """sentences are added, listed with what each CPU got, and taken away by command; an interface that comes later is steered
    from then on; what cannot be is refused with a line that says so, and nothing changes"""
    agent, host, peer = steering(lab)
    expect("nothing is steered" in agent.weir("steers").stdout, "the empty list")
    last = max(os.sched_getaffinity(0))
    for text, what in (("in on w0 to cpus 1000", "CPU 1000 is not there, or not online"),
                       ("in on w0 to cpus 0,1000-1023", "of those that are: 0"),
                       ("in on w0 vlan 3 to cpus 0", "beside the packet"),
                       ("in on w0 udp from @nobody to cpus 0", "no set '@nobody'"),
                       ("out on w0 to cpus 0", "what leaves is not steered")):
        got = agent.weir("steer", *text.split(), check=False)
        expect(got.returncode in (1, 2) and what in got.stderr and len(got.stderr.splitlines()) <= 4, f"{text}: {got}")
    expect_equal(steers(agent), [], "nothing has changed")
    expect_equal(agent.weir("steer", *f"in on w0 udp to cpus 0-{last} by flow".split()).stdout,
                 f"rule 1: steer in on w0 udp to cpus {'0' if not last else f'0-{last}'}\n", "add")
    agent.weir("steer", *"in on later0 to cpus 0".split())
    listed = json.loads(agent.weir("steers", "--json").stdout)
    expect_equal([(entry["state"], entry.get("reason")) for entry in listed["steers"]],
                 [("steering", None), ("waiting", "there is no interface later0")], "the list")
    expect_equal(listed["queue"], 2048, "how many wait for a CPU at most")
    flow = Flow(host, peer, 9)
    cpu = flow.cpu()
    lines = agent.weir("steers").stdout.splitlines()
    expect(lines[1].split()[:3] == ["1", "steering", "6"] and f"{cpu}:6" in lines[1], "\n".join(lines))
    expect(any(line.split()[:2] == [str(cpu), "6"] for line in lines[4:]), "\n".join(lines))
    lab.pair(host, "later0", peer, "p1", number=2)
    wait_for(lambda: steers(agent)[1]["state"] == "steering", 10, "the interface that came")
    peer.run("ping", "-q", "-c3", "-i0.05", "-W5", "10.2.0.1")
    expect(lanes(agent, 1)[0] >= 3, "steered")
    expect_equal(agent.get("/v1/status")["steers"], {"count": 2, "waiting": 0, "lost": 0}, "status")
    agent.weir("delete", "2")
    refused(agent, 400, "unknown parameter 'cpus'", "GET", "/v1/steers", cpus="1")

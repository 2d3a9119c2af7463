# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Beginning and end: starting, stopping, dying and adopting, interfaces that come and go, other people's things."""

import collections
import contextlib
import os
import pty
import random
import re
import select
import shutil
import signal
import socket
import struct
import fcntl
import termios
import threading
import time

from lab import (BPF_PROG_GET_FD_BY_ID, Failure, bpf_object_exists, expect, expect_equal, need_kernel, run,
                 tcp_transfer, udp_send, wait_for)
from suite import each, test, variants


def expect_nothing_left(lab):
    left = lab.find_left()
    expect(not left, "left behind: " + ", ".join(left))


def blast_totals(flows, sources, packets):
    """What blast sends: ({(source, port): packets}, {source: packets})"""
    per_flow, per_host = collections.Counter(), collections.Counter()
    whole, rest = divmod(packets, flows)
    for flow in range(flows):
        count = whole + (flow < rest)
        address = f"10.{128 + (flow % sources >> 16)}.{flow % sources >> 8 & 255}.{flow % sources & 255}"
        if count:
            per_flow[(address, 1024 + flow // sources)] += count
            per_host[address] += count
    return per_flow, per_host


@test("vm")
def starts_and_leaves_nothing(lab):
    """weir run says that it is ready; SIGINT ends it with status 0 and nothing is left, not even its directory"""
    host, _ = lab.hosts()
    agent = lab.agent(host)
    expect(agent.programs and agent.maps, "no programs, no maps: nothing was checked")
    expect_equal(agent.output().splitlines()[0], "weir: ready", "first line")
    expect_equal(agent.stop(signal.SIGINT), 0, "exit status")
    expect_nothing_left(lab)
    expect(not os.path.exists(agent.run_dir), f"{agent.run_dir} is still there: {os.listdir(lab.directory)}")


@test("sanitize")
def sigterm_leaves_the_datapath(lab):
    """SIGTERM ends the agent and leaves the datapath: it counts on, and the next agent knows what it counted"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    since = agent.get("/v1/status")["datapath_since"]
    udp_send(host, peer, "10.1.0.1", "10.1.0.2", 53, 10, 100, own_port=4000)
    expect_equal(agent.stop(signal.SIGTERM), 0, "exit status")
    for program in agent.programs:
        expect(bpf_object_exists(BPF_PROG_GET_FD_BY_ID, program), f"program {program} is gone")
    udp_send(host, peer, "10.1.0.1", "10.1.0.2", 53, 7, 100, own_port=4000)
    udp_send(host, peer, "10.1.0.1", "10.1.0.2", 54, 5, 100, own_port=4000)
    agent.start()
    got = {f["dport"]: f["packets"] for f in agent.flows("out udp from port 4000")}
    expect_equal(got, {53: 17, 54: 5}, "packets")
    expect_equal(agent.get("/v1/status")["datapath_since"], since, "since when the datapath is there")


@each("sanitize")
@variants("through", "ip", "nsenter")
def kill_9_loses_no_packet(lab, through):
    """kill -9 in the middle of traffic, again and again (agent started through {through}): the next agent adopts,
    and in the end no packet is missing or counted twice"""
    host, peer = lab.hosts()
    config = "interfaces: [w0]\nflows: {cache: {ipv4: 256, ipv6: 64}, ring: 4mib}\n"
    agent = lab.agent(host, config, through=through)
    packets, flows, sources = int(60000 * max(lab.scale, 0.2)), 2000, 50
    seconds = 5 if lab.scale > 0.7 else 15  # enough for some kills and starts
    kills = rounds = 0
    blast = None
    # where starts are slow, the same traffic again, until there were enough
    while kills < 3 or blast.poll() is None:
        if blast is None or blast.poll() is not None:
            expect(blast is None or blast.returncode == 0, "blast failed")
            blast = peer.start(lab.tool("blast"), "p0", 4, flows, sources, packets, packets // seconds)
            rounds += 1
        time.sleep(random.uniform(0.05, 0.4))
        agent.stop(signal.SIGKILL)
        kills += 1
        if kills % 3 == 0:
            # one dies while it is starting
            agent.launch()
            time.sleep(random.uniform(0, 0.1))
            agent.stop(signal.SIGKILL)
        time.sleep(random.uniform(0, 0.1))
        agent.start()
    expect_equal(blast.returncode, 0, "blast's exit status")
    losses = agent.losses()
    expect_equal(losses["lost"], 0, "packets lost")
    per_flow, per_host = ({key: rounds * count for key, count in total.items()}
                          for total in blast_totals(flows, sources, packets))
    listed = collections.Counter()
    for flow in agent.flows("udp to port 9"):
        listed[(flow["src"], flow["sport"])] += flow["packets"]
    wrong = {key for key in set(per_flow) | set(listed) if per_flow.get(key, 0) != listed[key]}
    expect(not wrong, f"after {kills} kills {len(wrong)} of {flows} flows are wrong, such as "
           + ", ".join(f"{key}: expected {per_flow.get(key, 0)}, got {listed[key]}" for key in sorted(wrong)[:4]))
    hosts = {h["address"]: h["in"] for h in agent.get("/v1/hosts")["hosts"]}
    got = {address: hosts.get(address, {}).get("packets", 0) for address in per_host}
    expect_equal(got, per_host, "packets per host")
    expect_equal(sum(hosts[address]["bytes"] for address in per_host), rounds * packets * 60, "bytes of all hosts")


@test()
def kill_9_during_tcp(lab):
    """kill -9 during a TCP transfer with GSO: segments and bytes are exact afterwards"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    size = int(400_000_000 * min(1, lab.scale * 2))
    result = []
    thread = threading.Thread(target=lambda: result.append(tcp_transfer(host, peer, "10.1.0.2", 8080, size, size // 50)))
    thread.start()
    for _ in range(3):
        time.sleep(random.uniform(0, 0.1))
        agent.stop(signal.SIGKILL)
        agent.start()
    thread.join()
    expect(result, "the transfer failed")
    client, server, port = result[0]
    flows = {f["direction"]: f for f in agent.flows("tcp") if port in (f["sport"], f["dport"])}
    expect_equal(flows["out"]["packets"], client["segs_out"], "packets out")
    expect_equal(flows["in"]["packets"], server["segs_out"] + 1, "packets in")


@test("vm")
def adopts_after_kill_without_traffic_gap(lab):
    """while no agent runs after kill -9, traffic is counted, evicted lines wait in the ring, and all add up"""
    host, peer = lab.hosts()
    agent = lab.agent(host, "interfaces: [w0]\nflows: {cache: {ipv4: 64, ipv6: 64}}\n")
    agent.stop(signal.SIGKILL)
    packets, flows = 8000, 1000  # 8,000 records of 72 bytes: they fit the ring
    peer.run(lab.tool("blast"), "p0", 4, flows, 10, packets, 0)
    agent.start()
    losses = agent.losses()
    expect_equal(losses["lost"], 0, "packets lost")
    expect(losses["emitted"] > packets // 2, f"the cache was too large for this test: {losses}")
    listed = agent.flows("udp to port 9")
    expect_equal((len(listed), sum(f["packets"] for f in listed)), (flows, packets), "flows and packets")


@test()
def down_ends_a_running_agent(lab):
    """weir down ends the running agent and removes everything"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    udp_send(host, peer, "10.1.0.1", "10.1.0.2", 53, 3, 100)
    done = agent.weir("down")
    expect_equal(done.returncode, 0, "exit status")
    expect_equal(agent.process.wait(10), 0, "the agent's exit status")
    expect_nothing_left(lab)
    expect(not os.path.exists(agent.run_dir), f"{agent.run_dir} is still there")


@each(vm="SIGKILL")
@variants("end", "SIGKILL", "SIGTERM")
def down_removes_what_an_agent_left(lab, end):
    """weir down removes what an agent left that ended by {end}"""
    host, _ = lab.hosts()
    agent = lab.agent(host)
    agent.stop(getattr(signal, end))
    expect(bpf_object_exists(BPF_PROG_GET_FD_BY_ID, min(agent.programs)), "the datapath did not survive")
    agent.weir("down")
    expect_nothing_left(lab)
    expect(not os.path.exists(agent.run_dir), f"{agent.run_dir} is still there: {os.listdir(lab.directory)}")


@test()
def down_finds_what_a_deleted_directory_was_of(lab):
    """weir down removes what an agent left even where somebody has deleted the run directory meanwhile"""
    host, _ = lab.hosts()
    agent = lab.agent(host)
    agent.stop(signal.SIGKILL)
    with contextlib.suppress(OSError):  # where the pins are in it, it is busy: then they are found there
        shutil.rmtree(agent.run_dir)
    agent.weir("down")
    expect_nothing_left(lab)
    expect(not os.path.exists(agent.run_dir), f"{agent.run_dir} is still there: {os.listdir(lab.directory)}")


@test()
def down_without_anything_says_so(lab):
    """weir down where nothing is says so in one line and makes nothing"""
    host, _ = lab.hosts()
    agent = lab.prepare(host)
    said = agent.weir("down").stdout
    expect_equal(len(said.strip().splitlines()), 1, f"lines ({said!r})")
    expect("nothing" in said and agent.run_dir in said, f"it said {said!r}")
    expect(not os.path.exists(agent.run_dir), "the run directory was made")


@test()
def second_agent_is_refused(lab):
    """a second agent on the same run directory is refused in one line; the first goes on"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    second = agent.namespace.run(*agent.command()[4:], check=False)
    expect(second.returncode != 0, "the second agent ended with status 0")
    expect("another agent" in second.stderr and agent.run_dir in second.stderr, f"it said: {second.stderr!r}")
    expect(len(second.stderr.strip().splitlines()) <= 2, f"more than a line: {second.stderr!r}")
    udp_send(host, peer, "10.1.0.1", "10.1.0.2", 53, 3, 100)
    expect_equal([f["packets"] for f in agent.flows("out udp")], [3], "packets the first agent saw afterwards")


@test()
def two_agents_in_two_namespaces(lab):
    """two agents in two namespaces live side by side, see each their own, and end apart"""
    host, peer = lab.hosts()
    one = lab.agent(host, run_dir="one")
    two = lab.agent(peer, "interfaces: [p0]\n", run_dir="two")
    udp_send(host, peer, "10.1.0.1", "10.1.0.2", 53, 6, 100)
    expect_equal([(f["interface"], f["direction"], f["packets"]) for f in one.flows("udp")], [("w0", "out", 6)], "one")
    expect_equal([(f["interface"], f["direction"], f["packets"]) for f in two.flows("udp")], [("p0", "in", 6)], "two")
    expect_equal(one.stop(signal.SIGINT), 0, "exit status of the first")
    udp_send(host, peer, "10.1.0.1", "10.1.0.2", 53, 4, 100)
    expect_equal(sum(f["packets"] for f in two.flows("udp")), 10, "packets the second saw")


@test()
def two_agents_in_one_namespace(lab):
    """two agents in one namespace with run directories of their own both see all, and end apart"""
    host, peer = lab.hosts()
    one, two = lab.agent(host, run_dir="one"), lab.agent(host, run_dir="two")
    udp_send(host, peer, "10.1.0.1", "10.1.0.2", 53, 6, 100)
    for agent in (one, two):
        expect_equal([f["packets"] for f in agent.flows("out udp")], [6], f"packets seen by {agent.run_dir}")
    expect_equal(one.stop(signal.SIGINT), 0, "exit status of the first")
    udp_send(host, peer, "10.1.0.1", "10.1.0.2", 53, 4, 100)
    expect_equal(sum(f["packets"] for f in two.flows("out udp")), 10, "packets the second saw")


# ------------------------------------------------------------------------------------------------ interfaces


def states(agent):
    return {i["name"]: i["state"] for i in agent.get("/v1/interfaces")["interfaces"]}


@test("sanitize")
def named_interface_comes_and_goes(lab):
    """an interface named in the configuration is waited for, watched when it comes, and again when it comes back"""
    host, peer = lab.hosts()
    agent = lab.agent(host, "interfaces: [w0, late0]\n")
    expect_equal(states(agent), {"w0": "watched", "late0": "waiting"}, "states at the start")
    expect("index" not in agent.interface("late0"), "an interface that is not there has an index")
    total = 0
    for packets in (4, 5):
        lab.pair(host, "late0", peer, "late1", number=3)
        agent.wait_watched("late0")
        udp_send(host, peer, "10.3.0.1", "10.3.0.2", 53, packets, 100, own_port=4000)
        total += packets
        expect_equal(sum(f["packets"] for f in agent.flows("udp from port 4000 to port 53")), total, "packets")
        before = agent.interface("late0")["out"]["packets"]
        expect(before >= total, f"the interface's total went back: {before} < {total}")
        host.ip("link", "del", "late0")
        wait_for(lambda: states(agent)["late0"] == "waiting", 5, "late0 to be waited for")
    agent.losses()


@test()
def pattern_and_auto_take_what_comes(lab):
    """a pattern takes interfaces that fit when they come; auto takes all that are up, but never loopback"""
    host, peer = lab.hosts()
    pattern = lab.agent(host, 'interfaces: ["late*"]\n', run_dir="pattern")
    auto = lab.agent(host, "interfaces: auto\n", run_dir="auto")
    expect_equal(states(pattern), {}, "what the pattern takes before")
    expect_equal(states(auto), {"w0": "watched"}, "what auto takes before")
    lab.pair(host, "late0", peer, "late1", number=3)
    host.ip("link", "add", "other0", "type", "veth", "peer", "name", "other1", "netns", peer.name)
    peer.ip("link", "set", "other1", "up")
    for agent in (pattern, auto):
        agent.wait_watched("late0")
    expect_equal(states(pattern), {"late0": "watched"}, "what the pattern takes")
    host.ip("link", "set", "other0", "up")
    wait_for(lambda: states(auto) == {"w0": "watched", "late0": "watched", "other0": "watched"}, 5,
             "auto to take three interfaces")
    host.ip("link", "del", "late0")
    wait_for(lambda: states(pattern) == {} and "late0" not in states(auto), 5, "late0 to be let go")


@test()
def renamed_interface_is_followed(lab):
    """an interface that gets a name that is wanted is watched, one that loses it is let go"""
    host, peer = lab.hosts()
    agent = lab.agent(host, "interfaces: [later]\n")
    expect_equal(states(agent), {"later": "waiting"}, "at the start")
    host.ip("link", "set", "w0", "down")
    host.ip("link", "set", "w0", "name", "later")
    host.ip("link", "set", "later", "up")
    agent.wait_watched("later")
    lab.address(host, "later", 4, 1, 2, "02:00:00:00:01:02")
    lab.address(peer, "p0", 4, 2, 1, "02:00:00:00:01:01")
    udp_send(host, peer, "10.4.0.1", "10.4.0.2", 53, 3, 100)
    expect_equal([f["interface"] for f in agent.flows("out udp")], ["later"], "interface")
    host.ip("link", "set", "later", "down")
    host.ip("link", "set", "later", "name", "w0")
    wait_for(lambda: states(agent) == {"later": "waiting"}, 5, "the old name to be let go")


# ------------------------------------------------------------------------------------------------ other people's


def program_of_another(namespace, interface, direction):
    """A filter that is not ours: a classic BPF program that passes every packet on."""
    namespace.tc("filter", "add", "dev", interface, direction, "pref", 10, "protocol", "all", "bpf", "bytecode",
                 "1,6 0 0 0", "classid", "1:1")


@test("vm")
def foreign_qdiscs_and_filters_stay(lab):
    """a clsact qdisc, its filters and a shaping qdisc of somebody else are as before, during and after weir"""
    host, peer = lab.hosts()
    need_kernel(lambda: host.tc("qdisc", "add", "dev", "w0", "clsact"), "clsact")
    for direction in ("ingress", "egress"):
        need_kernel(lambda d=direction: program_of_another(host, "w0", d), "cls_bpf")
    need_kernel(lambda: host.tc("qdisc", "add", "dev", "w0", "root", "handle", "7:", "tbf", "rate", "1gbit", "burst",
                                "100k", "latency", "50ms"), "tbf")

    def filters(direction):
        # pref and handle name the filter; ours, on kernels without tcx, stand beside it
        return [line for line in host.filters("w0", direction).splitlines() if "pref 10 " in line]

    qdiscs, before = host.qdiscs(), (filters("ingress"), filters("egress"))
    expect(all(before), f"the foreign filters are not there: {before}")
    agent = lab.agent(host)
    tcp_transfer(host, peer, "10.1.0.2", 8080, 500_000, 1000)
    expect(agent.flows("out tcp"), "weir saw nothing beside the others")
    expect_equal(host.qdiscs(), qdiscs, "qdiscs while weir runs")
    expect_equal((filters("ingress"), filters("egress")), before, "foreign filters while weir runs")
    expect_equal(agent.stop(signal.SIGINT), 0, "exit status")
    expect_equal(host.qdiscs(), qdiscs, "qdiscs afterwards")
    expect_equal((filters("ingress"), filters("egress")), before, "foreign filters afterwards")
    expect_equal([host.filters("w0", d).count("filter ") for d in ("ingress", "egress")],
                 [len(before[0]), len(before[1])], "filters of anybody afterwards")


@test("vm-6.1")
def foreign_filter_that_came_later_stays(lab):
    """a clsact filter that somebody adds while weir runs is still there when weir has gone"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    if not any(entry[0] == "w0" and entry[1] == "clsact" for entry in host.qdiscs()):
        need_kernel(lambda: host.tc("qdisc", "add", "dev", "w0", "clsact"), "clsact")
    need_kernel(lambda: program_of_another(host, "w0", "ingress"), "cls_bpf")
    lab.qdiscs[host] = [entry for entry in host.qdiscs()]  # the qdisc has a tenant now: it is to stay
    udp_send(peer, host, "10.1.0.2", "10.1.0.1", 53, 3, 100)
    expect_equal([f["packets"] for f in agent.flows("in udp")], [3], "packets weir saw")
    expect_equal(agent.stop(signal.SIGINT), 0, "exit status")
    expect_equal(host.filters("w0", "ingress").count("pref 10 "), 2, "lines about the foreign filter")


# ------------------------------------------------------------------------------------------------ the person


@test()
def run_view_on_a_terminal(lab):
    """weir run --view shows the live screen on a terminal; Ctrl-C ends it, with status 0 and nothing left"""
    host, peer = lab.hosts()
    agent = lab.prepare(host, arguments=["--view"])
    lab.qdiscs[host] = host.qdiscs()
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    screen = bytearray()

    def become_leader():
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    agent.err = agent.out = lab.write("screen.log", "")
    agent.process = lab.start(*agent.command(), stdin=slave, stdout=slave, stderr=slave,
                              env=dict(os.environ, TERM="xterm"), preexec_fn=become_leader)
    os.close(slave)

    def read_screen():
        while select.select([master], [], [], 0.05)[0]:
            try:
                data = os.read(master, 65536)
            except OSError:
                return
            if not data:
                return
            screen.extend(data)

    def shown(word):
        read_screen()
        return word in screen

    wait_for(lambda: os.path.exists(agent.socket) or agent.process.poll() is not None, 20, "the socket")
    expect(agent.alive(), f"weir ended: {bytes(screen)!r}")
    agent.note_objects()
    udp_send(host, peer, "10.1.0.1", "10.1.0.2", 4711, 20, 100)
    wait_for(lambda: shown(b"10.1.0.2"), 10, f"the peer's address on the screen ({len(screen)} bytes so far)")
    expect(re.search(rb"lost", bytes(screen), re.IGNORECASE), "no loss meter on the screen")
    os.write(master, b"\x03")
    end = time.monotonic() + 10
    while agent.alive() and time.monotonic() < end:
        read_screen()
    expect_equal(agent.process.poll(), 0, "exit status")
    os.close(master)
    expect_nothing_left(lab)


@test()
def systemd_is_told(lab):
    """with NOTIFY_SOCKET set, READY=1 is sent when weir is ready and STOPPING=1 when it ends"""
    host, _ = lab.hosts()
    path = lab.path("notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(path)
        notify.settimeout(10)
        agent = lab.agent(host, environment={"NOTIFY_SOCKET": path})
        expect("READY=1" in notify.recv(4096).decode().splitlines(), "no READY=1")
        agent.stop(signal.SIGTERM)
        said = ""
        try:
            while "STOPPING=1" not in said:
                said += notify.recv(4096).decode() + "\n"
        except TimeoutError as error:
            raise Failure(f"no STOPPING=1, but {said!r}") from error


@test("vm-6.1")
def capabilities_are_given_up(lab):
    """after set-up the agent has four capabilities and no other: NET_ADMIN, NET_RAW, PERFMON, BPF; none to regain"""
    kept = 1 << 12 | 1 << 13 | 1 << 38 | 1 << 39
    host, peer = lab.hosts()
    agent = lab.agent(host)
    with open(f"/proc/{agent.pid}/status", encoding="ascii") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    for kind, wanted in (("CapEff", kept), ("CapPrm", kept), ("CapInh", 0), ("CapBnd", 0), ("CapAmb", 0)):
        expect_equal(f"{int(status[kind], 16):#x}", f"{wanted:#x}", kind)
    expect_equal(status["NoNewPrivs"].strip(), "1", "NoNewPrivs")
    # and with what is left it still does its work
    lab.pair(host, "w1", peer, "p1", number=2)
    with open(agent.config, "w", encoding="ascii") as file:
        file.write("interfaces: [w0, w1]\n")
    agent.reload()
    agent.wait_watched("w1")


@test()
def memory_of_a_killed_agent_is_freed(lab):
    """an agent that was killed and brought down leaves no map in the kernel"""
    host, _ = lab.hosts()
    agent = lab.agent(host)
    maps = set(agent.maps)
    expect(len(maps) >= 3, f"only {len(maps)} maps found")
    agent.stop(signal.SIGKILL)
    agent.weir("down")
    wait_for(lambda: not any(run("bpftool", "map", "show", "id", number, check=False).returncode == 0
                             for number in maps), 5, f"maps {maps} to go")

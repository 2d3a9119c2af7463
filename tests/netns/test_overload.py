# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""More than fits: a million flows, a stalled agent, and time that passes."""

import os
import signal
import time

from lab import check_losses, expect, expect_equal, tcp_transfer, udp_send, wait_for
from suite import each, test, variants
from test_life import blast_totals

SMALL = """interfaces: [w0]
flows: {cache: {ipv4: 1024, ipv6: 1024}, table: 4096, hosts: 1024, ring: 1mib}
"""


def resident_bytes(pid):
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096


def totals_account_for(agent, losses, seen_bytes=None):
    """Hosts, and what had no room among them, add up to all IP packets that were not lost as a flow."""
    hosts = agent.get("/v1/hosts")
    packets = sum(h[d]["packets"] for h in hosts["hosts"] + [hosts["other"]] for d in ("in", "out"))
    parse = {entry["reason"]: entry["packets"] for entry in agent.get("/v1/status")["parse"]}
    wanted = losses["seen"] - losses["lost"] - parse.get("not-ip", 0)
    expect_equal(packets, wanted, "packets of all hosts")
    if seen_bytes:
        size = sum(h[d]["bytes"] for h in hosts["hosts"] + [hosts["other"]] for d in ("in", "out"))
        expect_equal(size, seen_bytes, "bytes of all hosts")


@each(seconds=60)
@variants("family", 4, 6)
def a_million_flows_through_a_small_cache(lab, family):
    """a million flows (IPv{family}) through a cache of 1,024 lines and a table of 4,096: seen = cached + emitted +
    lost at every moment, nothing uncounted, sampling on record, memory bounded"""
    host, peer = lab.hosts()
    lab.quiet(host, peer)
    agent = lab.agent(host, SMALL)
    before_bytes = resident_bytes(agent.pid)
    before = host.counters("w0")
    flows = int(1_000_000 * min(1, lab.scale * lab.scale))
    packets = flows + flows // 10
    blast = peer.start(lab.tool("blast"), "p0", family, flows, max(20, flows // 50000), packets, 0)
    polls, rates = 0, set()
    while blast.poll() is None:
        status = agent.get("/v1/status")
        check_losses(status["losses"])
        rates.add(status["table"]["sample_rate"])
        expect(status["table"]["flows"] <= 4096, f"more flows than the table may hold: {status['table']}")
        polls += 1
    expect_equal(blast.wait(), 0, "blast's exit status")
    expect(polls >= 3 or lab.scale < 1, f"only {polls} polls while it lasted")
    losses = agent.losses()
    after = host.counters("w0")
    expect_equal(losses["seen"], after[0] - before[0] + after[2] - before[2], "packets seen")
    expect(after[0] - before[0] >= packets, "blast did not deliver")
    totals_account_for(agent, losses)
    table = agent.get("/v1/status")["table"]
    expect(table["sample_rate"] > 1 or max(rates) > 1, f"no sampling: {table}, rates while it lasted {rates}")
    expect(table["sampled_out"]["packets"] > 0, f"nothing was sampled out: {table}")
    kept = sum(f["packets"] for f in agent.flows())
    parse = {entry["reason"]: entry["packets"] for entry in agent.get("/v1/status")["parse"]}
    expect(kept + table["sampled_out"]["packets"] + table["refused"]["packets"]
           <= losses["seen"] - losses["lost"] - parse.get("not-ip", 0), "more packets in flows than were seen")
    sampled = [f for f in agent.flows("udp to port 9") if f.get("sample_rate", 1) > 1]
    expect(sampled, "no flow tells at which rate it was admitted")
    grown = resident_bytes(agent.pid) - before_bytes
    expect(grown < 32 << 20, f"the agent grew by {grown} bytes")


@test()
def a_stalled_agent_loses_nothing_silently(lab):
    """while the agent is stopped the ring fills: what finds no room is counted lost, and the rest is there"""
    host, peer = lab.hosts()
    lab.quiet(host, peer)
    agent = lab.agent(host, "interfaces: [w0]\n"
                      "flows: {cache: {ipv4: 64, ipv6: 64}, table: 262144, hosts: 65536, ring: 64kib}\n")
    before = host.counters("w0")
    agent.kill(signal.SIGSTOP)
    packets = int(100_000 * lab.scale)
    peer.run(lab.tool("blast"), "p0", 4, packets, 1000, packets, 0)
    agent.kill(signal.SIGCONT)
    losses = agent.losses()
    after = host.counters("w0")
    expect_equal(losses["seen"], after[0] - before[0] + after[2] - before[2], "packets seen")
    expect(losses["lost"] > packets // 2, f"a ring of 64 kib held all of it? {losses}")
    totals_account_for(agent, losses)
    status = agent.get("/v1/status")
    expect_equal(status["lost_bytes"], losses["lost"] * 60, "bytes lost")
    # afterwards it works as ever
    udp_send(host, peer, "10.1.0.1", "10.1.0.2", 53, 5, 100)
    expect_equal([f["packets"] for f in agent.flows("out udp to port 53")], [5], "packets afterwards")
    expect_equal(agent.losses()["lost"], losses["lost"], "packets lost afterwards")


@test()
def both_cpus_add_up(lab):
    """packets of one flow that several CPUs saw are one flow, with the sum"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    flows, packets, cpus = 100, 4000, os.sched_getaffinity(0)
    for cpu in cpus:
        peer.run(lab.tool("blast"), "p0", 4, flows, 10, packets, 0,
                 preexec_fn=lambda cpu=cpu: os.sched_setaffinity(0, {cpu}))
    listed = agent.flows("udp to port 9")
    expect_equal(len(listed), flows, "flows")
    expect_equal({f["packets"] for f in listed}, {len(cpus) * packets // flows}, "packets of each")


@test()
def more_hosts_than_the_budget(lab):
    """what comes from more remote addresses than flows.hosts allows is summed as other"""
    host, peer = lab.hosts()
    lab.quiet(host, peer)
    agent = lab.agent(host, "interfaces: [w0]\nflows: {hosts: 64}\n")
    packets = 2000
    peer.run(lab.tool("blast"), "p0", 4, 500, 500, packets, 0)
    hosts = agent.get("/v1/hosts")
    status = agent.get("/v1/status")
    expect(len(hosts["hosts"]) <= 64, f"{len(hosts['hosts'])} hosts")
    expect_equal((status["table"]["hosts_limit"], status["table"]["hosts"] <= 64), (64, True), "hosts in status")
    got = sum(h["in"]["packets"] for h in hosts["hosts"] if h["address"].startswith("10.128."))
    expect(hosts["other"]["in"]["packets"] > 0, "nothing in other")
    expect(got + hosts["other"]["in"]["packets"] >= packets, f"{got} + {hosts['other']} is less than {packets}")
    totals_account_for(agent, agent.losses())


class NeverBackwards:
    """Polls the totals; fails when one is smaller than before."""

    def __init__(self, agent):
        self.agent, self.last = agent, {}

    def poll(self):
        now = {("interface", i["name"]): (i["in"], i["out"])
               for i in self.agent.get("/v1/interfaces")["interfaces"]}
        hosts, ports = self.agent.get("/v1/hosts"), self.agent.get("/v1/ports")
        now.update({("host", h["address"]): (h["in"], h["out"]) for h in hosts["hosts"]})
        now.update({("port", p["proto"], p["port"]): (p["in"], p["out"]) for p in ports["ports"]})
        now[("other hosts",)] = (hosts["other"]["in"], hosts["other"]["out"])
        now[("other ports",)] = (ports["other"]["in"], ports["other"]["out"])
        for what, before in self.last.items():
            expect(what in now, f"{what} has vanished from the totals")
            for old, new in zip(before, now[what]):
                expect(new["packets"] >= old["packets"] and new["bytes"] >= old["bytes"],
                       f"the total of {what} went back from {old} to {new}")
        self.last = now


@test()
def totals_stay_when_flows_age_out(lab):
    """flows without packets leave after idle, closed ones after closed; totals of hosts and ports never go back"""
    host, peer = lab.hosts()
    agent = lab.agent(host, "interfaces: [w0]\nflows: {idle: 5s, closed: 4s, scan: 200ms}\n")
    totals = NeverBackwards(agent)
    udp_send(host, peer, "10.1.0.1", "10.1.0.2", 53, 6, 100)
    tcp_transfer(host, peer, "10.1.0.2", 443, 30000, 30000)
    totals.poll()
    tcp = agent.flows("tcp")
    expect_equal([f["state"] for f in tcp], ["closed", "closed"], "state after FIN")
    expect_equal([f["state"] for f in agent.flows("out udp")], ["active"], "state without")
    began = time.monotonic()
    while agent.flows():
        totals.poll()
        expect(time.monotonic() - began < 25, f"flows that do not leave: {agent.flows()}")
    ended = agent.get("/v1/status")["table"]["ended"]
    expect(ended["idle"] >= 1 and ended["closed"] >= 2, f"ended: {ended}")
    udp_send(host, peer, "10.1.0.1", "10.1.0.2", 53, 4, 100)
    totals.poll()
    ports = {(p["proto"], p["port"]): p for p in agent.get("/v1/ports")["ports"]}
    expect_equal(ports[("udp", 53)]["out"], {"packets": 10, "bytes": 10 * 142}, "port 53 in all")
    expect_equal(sum(f["packets"] for f in agent.flows("out udp")), 4, "packets of the flow that began anew")
    agent.losses()


@test()
def a_long_flow_begins_a_new_entry(lab):
    """a flow longer than active begins a new entry, and its packets are in one or the other"""
    host, peer = lab.hosts()
    agent = lab.agent(host, "interfaces: [w0]\nflows: {active: 10s, idle: 5m, scan: 200ms}\n")
    packets = 1300
    blast = peer.start(lab.tool("blast"), "p0", 4, 1, 1, packets, 100)
    totals = NeverBackwards(agent)
    while blast.poll() is None:
        totals.poll()
        time.sleep(0.4)
    ended = agent.get("/v1/status")["table"]["ended"]
    expect(ended["active"] >= 1, f"ended: {ended}")
    host_total = next(h for h in agent.get("/v1/hosts")["hosts"] if h["address"] == "10.128.0.0")
    expect_equal(host_total["in"]["packets"], packets, "packets in all")
    now = sum(f["packets"] for f in agent.flows("udp to port 9"))
    expect(0 < now < packets, f"packets of the entry that began anew: {now}")


@test()
def reset_closes_a_flow(lab):
    """a connection that is refused is closed by its RST and leaves as such"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    done = host.run("curl", "-s", "--max-time", 2, "http://10.1.0.2:81/", check=False)
    expect(done.returncode != 0, "somebody answered")
    flows = {f["direction"]: (f["tcp_flags"], f["state"]) for f in agent.flows("tcp port 81")}
    expect_equal(flows, {"out": ("S", "active"), "in": ("AR", "closed")}, "flags and state")


@test("sanitize")
def eviction_merges_into_one_flow(lab):
    """a flow that was pushed out of the cache a thousand times is still one flow with all its packets"""
    host, peer = lab.hosts()
    agent = lab.agent(host, "interfaces: [w0]\nflows: {cache: {ipv4: 64, ipv6: 64}}\n")
    flows, sources = 2000, 20
    packets = int(100_000 * max(0.2, lab.scale))
    peer.run(lab.tool("blast"), "p0", 4, flows, sources, packets, 40000 * lab.scale)
    losses = agent.losses()
    expect_equal(losses["lost"], 0, "packets lost")
    expect(losses["emitted"] > packets * 0.8, f"the cache was too large for this test: {losses}")
    per_flow, per_host = blast_totals(flows, sources, packets)
    got = {(f["src"], f["sport"]): f["packets"] for f in agent.flows("udp to port 9")}
    expect_equal(len(got), flows, "flows")
    expect(got == dict(per_flow), "packets of flows differ from those sent")
    hosts = {h["address"]: h["in"]["packets"] for h in agent.get("/v1/hosts")["hosts"]}
    expect_equal({a: hosts.get(a) for a in per_host}, dict(per_host), "packets per host")


@test()
def watching_does_not_disturb(lab):
    """ten clients that poll all the time get whole answers that add up, while flows come and go"""
    host, peer = lab.hosts()
    agent = lab.agent(host, "interfaces: [w0]\nflows: {cache: {ipv4: 256}, table: 20000}\n")
    blast = peer.start(lab.tool("blast"), "p0", 4, 15000, 100, 120_000, 40_000)
    pollers = [lab.start(*host.command("sh", "-c",
                                       f"while {lab.weir} flows --json --run-dir {agent.run_dir} >/dev/null; do :; done"))
               for _ in range(3)]
    while blast.poll() is None:
        answer = agent.get("/v1/flows")
        check_losses(answer["losses"])
    expect_equal([p.poll() for p in pollers], [None] * 3, "weir flows --json failed meanwhile")
    for poller in pollers:
        poller.kill()
    wait_for(lambda: sum(f["packets"] for f in agent.flows("udp to port 9"))
             + agent.losses()["lost"] == 120_000, 5, "all packets to be in flows")

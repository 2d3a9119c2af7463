# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Rules between programs as they are: nginx and curl, iperf3, services over UDP; and what rejects cost."""

import os
import time

from lab import expect, expect_equal, need, udp_socket, wait_for
from suite import test
from test_count import iperf
from test_firewall import Process
from test_guard import cgroup_directory
from test_rules import Echo, apply, done, rules
from test_rules_datapath import captured, protocol

HERE, THERE = {4: "10.1.0.1", 6: "fd00:1::1"}, {4: "10.1.0.2", 6: "fd00:1::2"}
NGINX = """daemon off; master_process off; pid {0}/nginx.pid; error_log {0}/nginx.err;
events {{}}
http {{
    access_log off;
    client_body_temp_path {0}; proxy_temp_path {0}; fastcgi_temp_path {0}; uwsgi_temp_path {0}; scgi_temp_path {0};
    server {{ listen 80; listen [::]:80; location / {{ root {0}/www; }} }}
}}
"""


def listens(namespace, port):
    lines = namespace.run("cat", "/proc/net/tcp6").stdout.splitlines()
    return any(f":{port:04X} " in line and " 0A " in line for line in lines)


def web_server(lab, namespace, size):
    """nginx with one file of so many bytes; the file."""
    need("nginx", "curl")
    os.mkdir(lab.path("www"))
    content = os.urandom(size)
    with open(lab.path("www/file"), "wb") as file:
        file.write(content)
    for path in (os.path.dirname(lab.path("www")), lab.path("www"), lab.path("www/file")):
        os.chmod(path, 0o755)
    namespace.start("nginx", "-c", lab.write("nginx.conf", NGINX.format(os.path.dirname(lab.path("www")))))
    wait_for(lambda: listens(namespace, 80), 10, "nginx to listen")
    return content


def header(frame):
    """(from us, protocol, source port, destination port, TCP flags) of a frame that the peer saw."""
    start = 54 if frame[12:14] == b"\x86\xdd" else 34
    ports = [int.from_bytes(frame[place:place + 2], "big") for place in (start, start + 2)]
    return frame[6:12].hex() == "020000000101", protocol(frame), *ports, frame[start + 13] if protocol(frame) == 6 else 0


@test(seconds=90)
def transfers_pass_stateful_rules_exactly(lab):
    """behind rules that let through what is established and what may begin, and drop the rest, web pages, measurements and
    datagrams arrive whole over both families, and rules and default verdict have counted what the peer saw, to the packet"""
    host, peer = lab.hosts()
    host.offload("w0", False)
    peer.offload("p0", False)
    content = web_server(lab, host, 700_000)
    agent = lab.agent(host)
    agent.wait_watched("w0")
    apply(agent, "accept icmp6", "accept state established,related", "accept out state new", "accept in tcp to port 80 state new",
          "accept in udp to port 7 state new", head="default: {in: drop, out: drop}\n")
    capture = lab.capture(peer, "p0", snap=120)
    echo = Echo(lab, host, peer)
    expect(all([echo.once() for _ in range(20)]), "an echo is missing")
    for family in 4, 6:
        address = HERE[family] if family == 4 else f"[{HERE[family]}]"
        page = lab.path(f"page{family}")
        peer.run("curl", "-sfg", "-o", page, f"http://{address}/file")
        with open(page, "rb") as file:
            expect(file.read() == content, f"the page over IPv{family} is not the server's")
        # iperf3 ends when it has written enough: what the other end had read by then is all that it tells
        for reverse in False, True:
            expect(iperf(host, peer, THERE[family], "-n", 500_000, reverse=reverse) > 0, f"iperf3 over IPv{family}")
        with udp_socket(peer, THERE[family]) as sock:
            for _ in range(5):
                sock.sendto(b"nobody asked for this", (HERE[family], 9))
    frames = [header(frame) for frame in captured(capture) if protocol(frame) in (6, 17)]
    begun = [frame for frame in frames if frame[1] == 6 and frame[4] & 0x12 == 2]
    answer = done(agent, "GET", "/v1/rules")
    counted = [rule["packets"] for rule in answer["rules"]][1:]
    dropped = [answer["default"][way]["packets"] for way in ("in", "out")]
    expect_equal(dropped, [10, 0], "dropped by default, in and out")
    expect_equal(sum(counted) + sum(dropped), len(frames), "packets of TCP and UDP, of rules and of the peer")
    expect_equal(counted[1:], [len([f for f in begun if f[0]]), len([f for f in begun if f[3] == 80]), 1],
                 "packets that begin a connection: ours, to port 80, to port 7")
    expect(len(frames) > 1000, f"only {len(frames)} packets")


@test(seconds=60)
def a_cgroup_can_be_a_tenant(lab):
    """the processes of a cgroup that belongs to a tenant are judged by its rules and defaults, calling and called, over both
    families, and nobody else is"""
    host, peer = lab.hosts()
    directory, path = cgroup_directory(lab, f"{lab.name}-tenant")
    agent = lab.agent(host)
    agent.wait_watched("w0")
    apply(agent, "count udp", head=f"tenants:\n  jail:\n    cgroups: [{path}]\n    default: {{in: accept, out: drop}}\n"
          "    rules: [accept tcp, count udp]\n")
    plain, jailed = Process(lab, host, 7001), Process(lab, host, 7002, cgroup=directory)
    stranger = Process(lab, peer, 7100)
    for family in 4, 6:
        expect_equal([who.reaches(kind, THERE[family], 7100) for who in (plain, jailed) for kind in ("tcp", "udp")],
                     [True, True, True, False], f"calls over IPv{family}: plain TCP, UDP; the tenant's TCP, UDP")
        expect_equal([stranger.reaches("tcp", HERE[family], port) for port in (7001, 7002)], [True, True], "called")
        expect_equal([stranger.reaches("udp", HERE[family], port) for port in (7001, 7002)], [True, False], "answers by UDP")
    counts = done(agent, "GET", "/v1/rules", tenant="jail")
    expect(counts["rules"][1]["packets"] >= 4 and counts["default"]["out"]["packets"] >= 4, f"the tenant's: {counts}")
    expect(rules(agent)[0]["packets"] >= 8, "the host's rule has not seen the others' datagrams")


@test()
def destinations_are_rewritten(lab):
    """rewrite destination mac sends a packet to another station of the link, over both families, and no other packet"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    agent.wait_watched("w0")
    apply(agent, "rewrite destination mac 02:00:00:00:09:09 out udp to port 95")
    capture = lab.capture(peer, "p0")
    for family in 4, 6:
        with udp_socket(host, HERE[family]) as sock:
            for port in (95, 96, 95):
                sock.sendto(b"x", (THERE[family], port))
    seen = {}
    for frame in captured(capture):
        ours, proto, _, port, _ = header(frame)
        if ours and proto == 17:
            seen.setdefault(port, []).append(frame[:6].hex())
    expect_equal(seen, {95: ["020000000909"] * 4, 96: ["020000000102"] * 2}, "destinations")


@test(seconds=60)
def rejects_are_no_amplifier(lab):
    """a flood of packets that are rejected is not answered by a flood: at most a thousand answers a second, after a first
    thousand at once; what is not answered is dropped all the same, and counted"""
    host, peer = lab.hosts()
    lab.quiet(host, peer)
    agent = lab.agent(host)
    agent.wait_watched("w0")
    apply(agent, "reject in udp to port 9")
    capture = lab.capture(peer, "p0", expression=("icmp",))
    begun = time.monotonic()
    count = 30000
    peer.run(lab.tool("blast"), "p0", 4, 100, 10, count, 0)
    wait_for(lambda: rules(agent)[0]["packets"] == count, 10, "all of them")
    seconds = time.monotonic() - begun
    found = agent.get("/v1/status")["rules"]
    expect_equal(found["rejected"] + found["unanswered"], count, "told and not told")
    expect(0 < found["rejected"] <= 1000 * (seconds + 1), f"{found['rejected']} answers in {seconds:.1f} s")
    expect_equal(len(captured(capture)), found["rejected"], "answers that the peer saw")


@test()
def rules_say_where_they_run(lab):
    """rules and explain say xdp of what is decided there, and tc of all else: what goes out, what asks for states, rules for
    interfaces that a tenant has, those of a tenant that has cgroups alone; a packet whose interface is not said comes from where
    the host would answer it"""
    host, peer = lab.hosts()
    lab.pair(host, "w1", peer, "p1", 2)
    _, path = cgroup_directory(lab, f"{lab.name}-where")
    agent = lab.agent(host, "interfaces: [lo, w0, w1]\nxdp: native\n")
    agent.wait_watched("w0")
    agent.wait_watched("w1")
    apply(agent, "drop in udp to port 7", "drop out udp to port 7", "drop in udp to port 8 state new", "drop in on w0 udp to port 9",
          "drop in on w1 udp to port 9",
          head=f"tenants:\n  wire:\n    interfaces: [w1]\n    rules: [drop in udp to port 1, drop in on w0 udp to port 2]\n"
               f"  jail:\n    cgroups: [{path}]\n    rules: [drop in udp to port 3]\n")
    wait_for(lambda: rules(agent)[0]["hook"] == "xdp" and rules(agent, tenant="wire")[0]["hook"] == "xdp", 10, "XDP")
    for tenant, wanted in (("", ["xdp", "tc", "tc", "xdp", "tc"]), ("wire", ["xdp", "tc"]), ("jail", ["tc"])):
        expect_equal([entry["hook"] for entry in rules(agent, **({"tenant": tenant} if tenant else {}))], wanted, f"of {tenant!r}")
    for source, wanted in (("10.1.0.2", "xdp"), ("10.1.0.1", "tc"), ("fd00:1::2", "xdp")):
        there = "fd00:1::1" if ":" in source else "10.1.0.1"
        told = done(agent, "GET", "/v1/explain", packet=f"in udp from {source} to {there} port 7")
        expect_equal((told["verdict"], told["hook"]), ("drop", wanted), f"{told}")

# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Sockets: what happens to them is told once, and how they are doing is what the kernel says itself."""

import contextlib
import errno
import json
import os
import signal
import socket
import struct
import time

from lab import (Skip, address_family, expect, expect_equal, need, need_kernel, tcp_info, tcp_transfer, udp_socket,
                 wait_for)
from suite import test

ADDRESS = {4: ("10.1.0.1", "10.1.0.2"), 6: ("fd00:1::1", "fd00:1::2")}
LINGER_RESET = struct.pack("ii", 1, 0)


def closed(agent, match):
    return agent.get("/v1/sockets", closed="true", filter=match)["sockets"]


def wait_closed(agent, match, count=1):
    return wait_for(lambda: (found := closed(agent, match)) and len(found) >= count and found, 5,
                    f"{count} closed: {match}")


def one(found, what):
    expect_equal(len(found), 1, what)
    return found[0]


def listener(namespace, address, port):
    with namespace:
        made = socket.socket(address_family(address), socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((address, port))
    made.listen(64)
    made.settimeout(10)
    return made


def client(namespace, address):
    with namespace:
        made = socket.socket(address_family(address), socket.SOCK_STREAM)
    made.settimeout(10)
    return made


def connection(server, server_address, port, peer):
    """Both ends of a connection from `peer` to `server`: (server's, peer's, listener)."""
    listening = listener(server, server_address, port)
    far = client(peer, server_address)
    far.connect((server_address, port))
    near, _ = listening.accept()
    near.settimeout(10)
    return near, far, listening


def metric(agent, name):
    lines = [line for line in agent.request("GET", "/metrics")[1].splitlines() if line.startswith(name + " ")]
    return float(one(lines, name).split()[1])


def check_figures(found, info, sent, received):
    """An end of a connection as weir tells it, against its TCP_INFO and what the application did."""
    expect_equal(found["out"], {"packets": info["segs_out"], "bytes": sent}, "sent")
    expect_equal(found["in"], {"packets": info["segs_in"], "bytes": received}, "received")
    expect(found["srtt_us"] > 0 and found["min_rtt_us"] > 0, f"no round trip: {found}")
    expect(0 < found["handshake_us"] < 5_000_000, f"handshake: {found}")
    expect(found["age"] >= 0 and found["created"] <= found["closed"], f"times: {found}")


@test("vm")
def connections_end_with_their_figures(lab):
    """a closed connection (IPv4, IPv6) is told with the segments of TCP_INFO and the bytes that the application moved"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    for family, (own, other) in ADDRESS.items():
        mine, _, port = tcp_transfer(host, peer, other, 8080, 600_000, 300_000)
        found = one(wait_closed(agent, f"out tcp from {own} port {port} to {other} port 8080"), "our connects")
        check_figures(found, mine, 600_000, 300_000)
        expect_equal((found["owner"]["pid"], found["family"], found["direction"]), (os.getpid(), family, "out"), "who")
        _, mine, port = tcp_transfer(peer, host, own, 8081, 40_000, 70_000)
        found = one(wait_closed(agent, f"in tcp from {other} port {port} to {own} port 8081"), "accepted")
        check_figures(found, mine, 70_000, 40_000)
        expect_equal((found["owner"]["pid"], found["direction"]), (os.getpid(), "in"), "who")
    expect_equal(agent.get("/v1/sockets")["losses"]["lost"], 0, "lost")


@test("vm-6.1")
def failed_connects_say_why(lab):
    """connects that fail are told as refused, unreachable, timeout or abandoned, each with the time it took"""
    host, peer = lab.hosts()
    peer.sysctl("net.ipv4.ip_forward=1", "net.ipv4.icmp_ratelimit=0")
    peer.ip("route", "add", "unreachable", "10.9.0.0/24")
    peer.ip("route", "add", "blackhole", "10.9.1.0/24")
    host.ip("route", "add", "10.9.0.0/16", "via", "10.1.0.2")
    host.sysctl("net.ipv4.tcp_syn_retries=1")
    agent = lab.agent(host)
    waiting, given_up = client(host, "10.9.1.1"), client(host, "10.9.1.2")
    for sock, address in ((waiting, "10.9.1.1"), (given_up, "10.9.1.2")):
        sock.setblocking(False)
        expect_equal(sock.connect_ex((address, 80)), errno.EINPROGRESS, "connect")
    given_up.close()
    took = {}
    for address, number in (("10.1.0.2", errno.ECONNREFUSED), ("10.9.0.1", errno.EHOSTUNREACH),
                            ("fd00:1::2", errno.ECONNREFUSED)):
        with client(host, address) as sock:
            sock.settimeout(None)  # one that does not block is told at once, and gives up before the kernel does
            began = time.monotonic()
            expect_equal(sock.connect_ex((address, 80)), number, address)
            took[address] = (time.monotonic() - began) * 1e6
    wait_for(lambda: closed(agent, "tcp to 10.9.1.1"), 15, "the timeout")
    waiting.close()
    events = {e["remote"]: e for e in agent.get("/v1/sockets/history", filter="tcp to port 80")["events"]}
    expect_equal({address: (e["event"], e["error"]) for address, e in events.items()},
                 {"10.1.0.2": ("connect", "refused"), "fd00:1::2": ("connect", "refused"),
                  "10.9.0.1": ("connect", "unreachable"), "10.9.1.1": ("connect", "timeout"),
                  "10.9.1.2": ("connect", "abandoned")}, "events")
    expect(events["10.9.1.1"]["latency_us"] > 2_000_000, f"two SYNs take seconds: {events['10.9.1.1']}")
    for address, limit in took.items():
        expect(events[address]["latency_us"] <= limit, f"connect() took {limit:.0f} us: {events[address]}")
    expect_equal([metric(agent, f'weir_socket_connects_total{{result="{result}"}}')
                  for result in ("established", "refused", "unreachable", "timeout", "abandoned")], [0, 2, 1, 1, 1],
                 "metrics")


@test()
def connections_that_break_say_why(lab):
    """a connection that the other end resets is told as reset, and counted as broken"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    near, far, listening = connection(host, "10.1.0.1", 8080, peer)
    with near, listening:
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
        far.close()
        expect_equal(one(wait_closed(agent, "in tcp to port 8080 from 10.1.0.2"), "closed")["error"], "reset", "error")
        expect_equal((metric(agent, "weir_socket_broken_total"), metric(agent, 'weir_socket_resets_total{direction="in"}')),
                     (1, 1), "metrics")


@test()
def retransmits_are_the_kernels(lab):
    """under loss the retransmits of a connection are those of its TCP_INFO, and packets out of order show"""
    need("nft")
    host, peer = lab.hosts()
    for namespace in (host, peer):
        need_kernel(lambda n=namespace: n.run("nft", "add", "table", "inet", "t"), "nftables")
        need_kernel(lambda n=namespace: n.run("nft", "-f", "-", input="""
            table inet t {
                chain c {
                    type filter hook input priority 0;
                    tcp dport 8080 numgen inc mod 23 == 7 drop
                }
            }
            """), "numgen of nftables")
    host.offload("w0", False)
    peer.offload("p0", False)
    agent = lab.agent(host)
    with listener(peer, "10.1.0.2", 8080) as listening, client(host, "10.1.0.2") as near:
        near.connect(("10.1.0.2", 8080))
        far, _ = listening.accept()
        with far:
            far.settimeout(10)
            for _ in range(20):
                near.sendall(bytes(20_000))
                left = 20_000
                while left:
                    left -= len(far.recv(left))
            wanted = near.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 240)
            total_retrans = struct.unpack_from("=I", wanted, 100)[0]
            found = one(agent.get("/v1/sockets", filter="out tcp to port 8080")["sockets"], "sockets")
            expect(total_retrans > 0, "nothing was lost")
            expect_equal(found["retransmits"], total_retrans, "retransmits")
            expect_equal(found["out"]["bytes"], 400_000, "payload without what was sent again")
            expect(0 < metric(agent, "weir_socket_retransmits_total") <= total_retrans, "metric")
    # towards us, what arrives behind a hole is out of order
    near, far, listening = connection(host, "10.1.0.1", 8080, peer)
    with near, far, listening:
        far.sendall(bytes(60_000))
        left = 60_000
        while left:
            left -= len(near.recv(left))
        found = one(agent.get("/v1/sockets", filter="in tcp to port 8080 from 10.1.0.2")["sockets"], "sockets")
        expect(found["out_of_order"] > 0, f"nothing out of order: {found}")
        expect_equal(found["in"]["bytes"], 60_000, "payload")


@test()
def udp_is_counted(lab):
    """datagrams and bytes of a UDP socket, both ways, and what ICMP reports, are told when it is closed"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    with udp_socket(peer, "10.1.0.2", 5353) as far:
        near = udp_socket(host, "10.1.0.1", 5000)
        near.connect(("10.1.0.2", 5353))
        for number in range(7):
            near.send(bytes(100 + number))
        for _ in range(3):
            far.sendto(bytes(1000), ("10.1.0.1", 5000))
            near.recv(2000)
    found = one(agent.get("/v1/sockets", filter="udp from port 5000")["sockets"], "sockets")
    if "in" not in found:
        near.close()
        one(wait_closed(agent, "udp from port 5000"), "closed")
        raise Skip("this kernel does not tell what UDP sockets send and receive")
    expect_equal((found["out"], found["in"], found["state"]),
                 ({"packets": 7, "bytes": 721}, {"packets": 3, "bytes": 3000}, "connected"), "counts")
    near.send(b"nobody is there any more")
    wait_for(lambda: agent.get("/v1/sockets", filter="udp from port 5000")["sockets"][0]["errors"] == 1, 5, "the error")
    near.close()
    found = one(wait_closed(agent, "udp from 10.1.0.1 port 5000 to 10.1.0.2 port 5353"), "closed")
    expect_equal((found["out"]["packets"], found["errors"], found["owner"]["pid"]), (8, 1, os.getpid()), "at the end")


@test()
def buffer_drops_are_the_kernels(lab):
    """datagrams that find no room in a socket's buffer are its drops in /proc/net/udp and udp6, open and closed"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    total = 0
    for family, (own, other) in ADDRESS.items():
        match = f"udp from {own} port 5000"
        with udp_socket(host, own, 5000) as near, udp_socket(peer, other, 5001) as far:
            near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            for _ in range(200):
                far.sendto(bytes(500), (own, 5000))
            table = host.run("cat", "/proc/net/udp" + ("6" if family == 6 else "")).stdout.splitlines()
            wanted = int(one([line for line in table if ":1388 " in line], "lines of /proc/net/udp").split()[-1])
            expect(wanted > 0, "nothing was dropped")
            expect_equal(one(agent.get("/v1/sockets", filter=match)["sockets"], "sockets")["drops"], wanted, "drops")
        expect_equal(one(wait_closed(agent, match), "closed")["drops"], wanted, "drops at the end")
        total += wanted
    expect_equal(metric(agent, "weir_socket_buffer_drops_total"), total, "metric")


@test(seconds=60)
def short_connections_are_told_once(lab):
    """2,000 short connections: each is accepted once and closed once, none lost, whoever follows"""
    count = int(2000 * lab.scale)
    host, peer = lab.hosts()
    agent = lab.agent(host)
    with listener(host, "10.1.0.1", 8080) as listening:
        for number in range(count):
            far = client(peer, "10.1.0.1")
            far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
            far.connect(("10.1.0.1", 8080))
            near, _ = listening.accept()
            far.send(bytes(number % 10))
            far.close()
            near.close()
    events = agent.get("/v1/sockets/history", filter="in tcp to port 8080 from 10.1.0.2")["events"]
    for kind in ("accept", "close"):
        cookies = [e["cookie"] for e in events if e["event"] == kind]
        expect_equal((len(cookies), len(set(cookies))), (count, count), kind)
    expect_equal({e["owner"].get("pid") for e in events if e["event"] == "close"}, {os.getpid()}, "owners")
    expect_equal(metric(agent, "weir_socket_accepts_total"), count, "metric")
    expect_equal(agent.get("/v1/sockets")["losses"]["lost"], 0, "lost")


@test()
def zero_windows_are_counted(lab):
    """a reader that sleeps makes its end announce zero windows, which the sender's end sees"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    near, far, listening = connection(host, "10.1.0.1", 8080, peer)
    with near, far, listening:
        for sender, reader, own in ((far, near, "zero_windows_out"), (near, far, "zero_windows_in")):
            sender.setblocking(False)
            wait_for(lambda s=sender: fill(s), 5, "full buffers")
            found = wait_for(lambda o=own: [s for s in agent.get("/v1/sockets", filter="in tcp from 10.1.0.2")["sockets"]
                                            if s[o]], 5, own)
            expect_equal(one(found, own)["zero_windows"], found[0]["zero_windows_in"] + found[0]["zero_windows_out"], "sum")
            drain(reader)


def fill(sender):
    """Sends until nothing is taken any more; True then."""
    try:
        while True:
            sender.send(bytes(65536))
    except BlockingIOError:
        return True


def drain(reader):
    reader.settimeout(0.3)
    with contextlib.suppress(TimeoutError):
        while reader.recv(1 << 20):
            pass


@test("vm-6.1")
def sockets_from_before_are_listed(lab):
    """sockets that were open before weir are listed with their process and figures, and told of when they close"""
    host, peer = lab.hosts()
    near, far, listening = connection(host, "10.1.0.1", 8080, peer)
    datagrams = udp_socket(host, "fd00:1::1", 5000)
    far.sendall(bytes(5000))
    near.recv(5000, socket.MSG_WAITALL)
    agent = lab.agent(host)
    extra = client(peer, "10.1.0.1")
    extra.connect(("10.1.0.1", 8080))  # nobody accepts it
    found = {(s["proto"], s["state"], s.get("remote")): s for s in agent.get("/v1/sockets")["sockets"]
             if s["lport"] in (8080, 5000) and s.get("rport") != extra.getsockname()[1]}
    expect_equal(set(found), {("tcp", "listening", None), ("tcp", "established", "10.1.0.2"),
                              ("udp", "unconnected", None)}, "sockets")
    expect_equal({s["owner"].get("pid") for s in found.values()}, {os.getpid()}, "owners")
    old = found["tcp", "established", "10.1.0.2"]
    expect_equal((old["in"]["bytes"], "created" in old), (5000, False), "the connection from before")
    expect_equal(found["tcp", "listening", None]["queued"], 1, "connections that wait")
    expect_equal(found["udp", "unconnected", None]["family"], 6, "family")
    for sock in (far, near, datagrams, extra):
        sock.close()
    expect_equal(one(wait_closed(agent, f"tcp from port {old['rport']}"), "closed")["in"]["bytes"], 5000, "bytes")
    one(wait_closed(agent, "udp from port 5000"), "closed")
    listening.close()


@test()
def the_list_is_found_by_words(lab):
    """MATCH chooses by direction, ports and process; sort and limit order the list; mistakes are explained"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    near, far, listening = connection(host, "10.1.0.1", 8080, peer)
    out = client(host, "10.1.0.2")
    with listener(peer, "10.1.0.2", 9090) as other, near, far, listening, out:
        out.connect(("10.1.0.2", 9090))
        out.send(bytes(300))
        far.send(bytes(100))
        near.recv(100)

        def ports(**parameters):
            return [(s["lport"], s.get("rport", 0)) for s in agent.get("/v1/sockets", **parameters)["sockets"]]

        near_ports, out_ports = (8080, far.getsockname()[1]), (out.getsockname()[1], 9090)
        expect_equal(ports(filter="in tcp to port 8080 from 10.1.0.2"), [near_ports], "in")
        expect_equal(ports(filter="out tcp"), [out_ports], "out")
        expect_equal(sorted(ports(filter=f"tcp by pid {os.getpid()}")), sorted([near_ports, out_ports, (8080, 0)]), "by")
        expect_equal(ports(filter="tcp by pid 1"), [], "by somebody else")
        expect_equal(ports(filter="tcp host 10.1.0.2", sort="bytes"), [out_ports, near_ports], "sorted")
        expect_equal(ports(filter="tcp host 10.1.0.2", sort="lport", limit=1), [near_ports], "limit")
        for query, words in (("sort=byts", "did you mean 'bytes'?"), ("closed=maybe", "closed=true"),
                             ("limit=x", "a whole number"), ("filter=tcp+to+prt+1", "port"), ("sorte=in", "did you mean")):
            status, body, _ = agent.request("GET", "/v1/sockets?" + query)
            expect(status == 400 and words in body, f"{query}: {status} {body}")
        done = agent.weir("sockets", "tcp", "to", "port", "8080", "--sort", "age")
        lines = done.stdout.splitlines()
        expect(lines[0].split()[:5] == ["PROTO", "STATE", "LOCAL", "REMOTE", "OWNER"] and len(lines) == 3, done.stdout)
        expect(f"python3[{os.getpid()}]" in done.stdout or f"[{os.getpid()}]" in done.stdout, done.stdout)


@test()
def followers_hear_everything(lab):
    """weir sockets --follow tells create, bind, listen, connect, accept, close, states and progress as they happen"""
    host, peer = lab.hosts()
    agent = lab.agent(host, "interfaces: [w0]\nsockets: {interval: 1s}\n")
    path = lab.path("followed")
    with open(path, "w", encoding="utf-8") as out:
        follower = host.start(lab.weir, "sockets", "--follow", "--states", "--json", "--run-dir", agent.run_dir, stdout=out)

    def events():
        with open(path, encoding="utf-8") as file:
            return [json.loads(line) for line in file.read().splitlines(keepends=True) if line.endswith("\n")]

    def names(match):
        return [e["event"] for e in events() if match(e)]

    def noise():
        with contextlib.closing(udp_socket(host, "10.1.0.1", 4999)):
            return events()

    wait_for(noise, 10, "the feed to begin")
    near, far, listening = connection(host, "10.1.0.1", 8080, peer)
    out = client(host, "10.1.0.2")
    with listener(peer, "10.1.0.2", 9090):
        out.connect(("10.1.0.2", 9090))
        near.send(b"x")
        wait_for(lambda: "progress" in names(lambda e: e.get("rport") == 9090), 10, "progress")
        out.close()
    for sock in (near, far, listening):
        sock.close()
    wait_for(lambda: names(lambda e: e.get("lport") == 8080).count("close") == 2, 5, "the last close")
    follower.send_signal(signal.SIGINT)
    expect_equal(follower.wait(5), 0, "exit status")
    connected = names(lambda e: e.get("rport") == 9090)
    expect_equal([n for n in connected if n not in ("state", "progress")], ["connect", "close"], "out")
    expect({"create", "bind", "listen", "accept"} <= set(names(lambda e: "rport" not in e or e.get("lport") == 8080)),
           "create, bind, listen, accept")
    moves = [(e["before"], e["state"]) for e in events() if e["event"] == "state" and e.get("rport") == 9090]
    expect_equal(moves[:3], [("closed", "syn-sent"), ("syn-sent", "established"), ("established", "fin-wait-1")], "states")
    expect(moves[-1][1] == "closed", f"states: {moves}")
    expect_equal({e["owner"].get("pid") for e in events() if e["event"] in ("accept", "connect")}, {os.getpid()}, "owners")


@test()
def a_killed_agent_misses_nothing(lab):
    """what is opened or closed while no agent runs is told by the next one"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    near, far, listening = connection(host, "10.1.0.1", 8080, peer)
    with near, far, listening:
        agent.stop(signal.SIGKILL)
        with client(host, "10.1.0.2") as out:
            expect_equal(out.connect_ex(("10.1.0.2", 80)), errno.ECONNREFUSED, "connect")
        other = client(peer, "10.1.0.1")
        other.connect(("10.1.0.1", 8080))
        port = other.getsockname()[1]
        listening.accept()[0].close()
        other.close()
        agent.start()
        found = one(wait_closed(agent, f"in tcp from port {port}"), "closed meanwhile")
        expect("created" in found and found["handshake_us"] > 0, f"what was kept: {found}")
        expect_equal(one(closed(agent, "out tcp to port 80"), "refused meanwhile")["error"], "refused", "error")
        kept = one(agent.get("/v1/sockets", filter=f"in tcp from port {far.getsockname()[1]}")["sockets"], "open")
        expect("established" in kept and kept["owner"]["pid"] == os.getpid(), f"what was kept: {kept}")
        expect(tcp_info(near)["segs_in"] == kept["in"]["packets"], "figures of now")


@test()
def the_monitor_can_be_off(lab):
    """with sockets.enabled: off sockets are still listed with the kernel's figures, and nothing is told"""
    host, peer = lab.hosts()
    agent = lab.agent(host, "interfaces: [w0]\nsockets: {enabled: off}\n")
    near, far, listening = connection(host, "10.1.0.1", 8080, peer)
    far.send(bytes(100))
    near.recv(100)
    found = one(agent.get("/v1/sockets", filter="tcp from port 8080 to 10.1.0.2")["sockets"]
                or agent.get("/v1/sockets", filter="in tcp to port 8080 from 10.1.0.2")["sockets"], "sockets")
    expect_equal((found["in"]["bytes"], "created" in found), (100, False), "figures")
    for sock in (near, far, listening):
        sock.close()
    expect_equal(agent.get("/v1/sockets/history")["events"], [], "events")

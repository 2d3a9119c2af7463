# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Who: which process has what traffic, held against captures, the processes' own words and the other totals."""

import collections
import concurrent.futures
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading

import pcap
from lab import Skip, expect, expect_equal, need, tcp_transfer, udp_socket, wait_for
from suite import each, test, variants

ADDRESS = {4: ("10.1.0.1", "10.1.0.2"), 6: ("fd00:1::1", "fd00:1::2")}
HEADERS = {4: 14 + 20 + 32, 6: 14 + 40 + 32}  # Ethernet, IP, TCP with a timestamp

# A server whose workers accept from one listening socket: each answers with its pid and so many bytes.
PREFORKED = """
import os, socket, sys
address, port, workers, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
listener = socket.socket(family, socket.SOCK_STREAM)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind((address, port))
listener.listen(1024)
for _ in range(workers):
    if os.fork() == 0:
        while True:
            connection, _ = listener.accept()
            connection.recv(4096)
            connection.sendall(b"%08d" % os.getpid() + bytes(size))
            connection.recv(1)
            connection.close()
print(os.getpid(), flush=True)
os.wait()
"""

# Processes that make short connections, and tell which ports each had: they close first, so no port is used twice.
CLIENTS = """
import os, socket, sys
address, port, processes, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
size = int(sys.argv[5]) + 8
family = socket.AF_INET6 if ":" in address else socket.AF_INET
for _ in range(processes):
    if os.fork() == 0:
        lines = []
        for _ in range(count):
            connection = socket.socket(family, socket.SOCK_STREAM)
            connection.connect((address, port))
            own = connection.getsockname()[1]
            connection.sendall(b"x" * 100)
            answer = b""
            while len(answer) < size:
                answer += connection.recv(65536)
            connection.close()
            lines.append("%d %d %s" % (os.getpid(), own, answer[:8].decode()))
        os.write(1, ("\\n".join(lines) + "\\n").encode())
        os._exit(0)
for _ in range(processes):
    os.wait()
"""

# One process accepts and hands the connection to another, which answers.
PASSED = """
import array, os, socket, sys
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind((sys.argv[1], int(sys.argv[2])))
listener.listen(1)
here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
child = os.fork()
if child == 0:
    listener.close()
    _, fds, _, _ = socket.recv_fds(there, 1, 1)
    connection = socket.socket(fileno=fds[0])
    connection.recv(1)
    connection.sendall(bytes(60000))
    connection.recv(1)
    os._exit(0)
print(os.getpid(), child, flush=True)
connection, _ = listener.accept()
connection.recv(1)
connection.sendall(bytes(1000))
socket.send_fds(here, [b"x"], [connection.fileno()])
connection.close()
os.wait()
"""

# Sends so many datagrams, as another user.
AS_USER = """
import os, socket, sys
user, address, port, count = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
os.setgroups([])
os.setgid(user)
os.setuid(user)
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(count):
    sender.sendto(bytes(500), (address, port))
"""

# One socket in several hands: for each word that it reads another process sends a datagram, or the same one does as
# somebody else, all on one CPU.  Its answers are pids.
HANDS = """
import os, socket, sys, threading
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
if len(sys.argv) > 2: # behind exec
    sender = socket.socket(fileno=int(sys.argv[2]))
else:
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.bind(("", 6000))
    sender.connect((sys.argv[1], 6001))
    sender.set_inheritable(True)
def send():
    sender.send(bytes(100))
    print(os.getpid(), flush=True)
def child():
    if os.fork() == 0:
        send()
        os._exit(0)
    os.wait()
def thread():
    other = threading.Thread(target=send)
    other.start()
    other.join()
def program(name):
    os.execv(name, [name, "-c", os.environ["TEXT"], sys.argv[1], str(sender.fileno())])
if len(sys.argv) > 2:
    send()
for word, *rest in map(str.split, iter(sys.stdin.readline, "")):
    {"send": send, "child": child, "thread": thread, "program": program, "user": lambda user: os.seteuid(int(user))}[word](*rest)
"""


def script(lab, namespace, text, *words, **options):
    """Starts a Python script in a namespace, with its output to be read."""
    return namespace.start("python3", "-c", text, *words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)


def first_line(process):
    line = process.stdout.readline()
    expect(line, "the script ended before it began")
    return line.split()


def processes(agent, **parameters):
    """The list, by pid."""
    return {p["pid"]: p for p in agent.get("/v1/processes", **parameters)["processes"]}


def counts(entry, direction):
    return entry[direction]["packets"], entry[direction]["bytes"]


def sum_of(flows, direction):
    fitting = [f for f in flows if f["direction"] == direction]
    return sum(f["packets"] for f in fitting), sum(f["bytes"] for f in fitting)


def expect_sums(agent):
    """Owners and what is not decided yet make the sum of all interfaces: on one page, so at one moment."""
    page = agent.request("GET", "/metrics")[1]

    def total(name):
        return sum(int(value) for value in re.findall(rf"^{name}(?:{{[^\n]*}})? (\d+)$", page, re.M))

    owners = total("weir_owner_bytes_total") + total("weir_undecided_bytes")
    expect_equal(owners, total("weir_interface_bytes_total"), "bytes of the owners and undecided ones")
    in_series = total("weir_process_bytes_total")
    kinds = dict.fromkeys(("process", "forwarded", "kernel", "unknown"), 0)
    for kind, value in re.findall(r'^weir_owner_bytes_total{kind="(\w+)"[^\n]*} (\d+)$', page, re.M):
        kinds[kind] += int(value)
    expect_equal(in_series, kinds["process"], "bytes of all series of processes")
    return kinds


def serve_http(lab, namespace, address):
    need("curl")
    directory = lab.path("www")
    if not os.path.isdir(directory):
        os.mkdir(directory)
        lab.write("www/data", bytes(300_000))
    server = namespace.start("python3", "-m", "http.server", "8080", "--bind", address, "--directory", directory)
    table = f"/proc/{server.pid}/net/tcp" + ("6" if ":" in address else "")

    def listening():
        with open(table, encoding="ascii") as file:
            return any(":1F90 " in line and " 0A " in line for line in file)

    wait_for(listening, 10, "the server to listen")
    return server


def tcp_of(path, local):
    """What a capture holds of TCP: {direction: (packets, bytes)}."""
    flows, _ = pcap.flows(path, local)
    sums = collections.Counter()
    for key, count in flows.items():
        if key.proto == "tcp":
            sums[key.direction, 0] += count.packets
            sums[key.direction, 1] += count.bytes
    return {way: (sums[way, 0], sums[way, 1]) for way in ("in", "out")}


@each()
@variants("family", 4, 6)
def iperf_is_its_process(lab, family):
    """what iperf3 moves over IPv{family}, as client and as server, is its processes' to the byte that tcpdump saw"""
    need("iperf3")
    host, peer = lab.hosts()
    host.offload("w0", False)
    peer.offload("p0", False)
    agent = lab.agent(host)
    capture = lab.capture(host, "w0", snap=128)
    own, other = ADDRESS[family]
    sent = arrived = 0
    for server, client, address in ((peer, host, other), (host, peer, own)):
        listener = server.start("iperf3", "-s", "-1", "-p", 5201, "-B", address)
        table = f"/proc/{listener.pid}/net/tcp" + ("6" if family == 6 else "")

        def listening(table=table):
            with open(table, encoding="ascii") as file:
                return any(":1451 " in line and " 0A " in line for line in file)

        wait_for(listening, 5, "iperf3 to listen")
        done = client.run("iperf3", "-J", "-c", address, "-p", 5201, "-n", "4M", "-P", 2)
        listener.wait(10)
        end = json.loads(done.stdout)["end"]
        sent += end["sum_sent"]["bytes"]
        arrived += end["sum_received"]["bytes"]  # when the sender was done: some may still have been on their way
    wanted = tcp_of(capture.stop(), host.address_of("w0"))
    found = [p for p in processes(agent).values() if p["command"] == "iperf3"]
    expect_equal(len(found), 2, "processes of iperf3")
    for way in ("in", "out"):
        got = tuple(sum(counts(p, way)[n] for p in found) for n in (0, 1))
        expect_equal(got, wanted[way], f"packets and bytes {way} of both processes")
    expect(all("ended" in p for p in found), "both have ended")
    payload = sum(counts(p, way)[1] - counts(p, way)[0] * HEADERS[family] for p in found for way in ("in", "out"))
    expect(sent >= 8 << 20, f"{sent} bytes were sent")
    expect(payload >= arrived > 0, f"{arrived} bytes arrived, {payload} were counted")
    expect_sums(agent)


@each()
@variants("family", 4, 6)
def curl_and_its_server_are_told_apart(lab, family):
    """curl and an HTTP server, each with a peer elsewhere over IPv{family}: each has its own flows, and their sums"""
    host, peer = lab.hosts()
    own, other = ADDRESS[family]
    server = serve_http(lab, host, own)  # before weir: found by its open files
    serve_http(lab, peer, other)
    agent = lab.agent(host)
    url = "http://[{}]:8080/data" if family == 6 else "http://{}:8080/data"
    peer.run("curl", "-sf", "-o", "/dev/null", url.format(own))
    host.run("curl", "-sf", "-o", "/dev/null", url.format(other))
    flows = agent.flows("tcp")
    expect_equal({f["owner"]["command"] for f in flows if 8080 == f["dport"] and f["direction"] == "out"}, {"curl"},
                 "who asks")
    found = processes(agent)
    curl = next(p for p in found.values() if p["command"] == "curl")
    for process in (found[server.pid], curl):
        mine = agent.flows(f"by pid {process['pid']}")
        expect_equal(len(mine), 2, f"flows of {process['command']}")
        for way in ("in", "out"):
            expect_equal(counts(process, way), sum_of(mine, way), f"{process['command']} {way}")
    expect(counts(curl, "in")[1] > 300_000 > counts(curl, "out")[1], "what curl fetched")
    expect(counts(found[server.pid], "out")[1] > 300_000, "what the server sent")
    hosts = {h["address"]: h for h in agent.get("/v1/hosts")["hosts"]}
    expect_equal(hosts[other]["processes"], 2, "processes that talk with the peer")
    expect_equal({o["pid"] for o in hosts[other]["owners"]}, {server.pid, curl["pid"]}, "their names")
    expect_sums(agent)


@contextlib.contextmanager
def read_all_the_time(agent):
    """The table is collected again and again, so that connections begin while a collection is under way."""
    over = threading.Event()

    def read():
        while not over.wait(0.02):
            processes(agent)

    with concurrent.futures.ThreadPoolExecutor() as pool:
        reader = pool.submit(read)
        try:
            yield
        finally:
            over.set()
        reader.result()


@test("vm-6.1")
def workers_of_a_preforked_server_are_told_apart(lab):
    """each connection is that of the worker that accepted it, never the kernel's or of who opened the port; 1,000 of them"""
    host, peer = lab.hosts()
    lab.quiet(host, peer)  # IPv6's reports of multicast groups are the kernel's
    agent = lab.agent(host)
    server = script(lab, host, PREFORKED, "10.1.0.1", 8000, 4, 2000)
    listener = int(first_line(server)[0])
    each_has = max(10, int(100 * lab.scale))
    with read_all_the_time(agent):
        done = peer.run("python3", "-c", CLIENTS, "10.1.0.1", 8000, 10, each_has, 2000)
    answered = {int(port): int(worker) for _, port, worker in (line.split() for line in done.stdout.splitlines())}
    expect_equal(len(answered), 10 * each_has, "connections")
    wrong = [f for f in agent.flows("tcp port 8000")
             if f["owner"].get("pid") != answered[f["sport"] if f["direction"] == "in" else f["dport"]]]
    expect_equal(wrong[:2], [], f"{len(wrong)} flows with the wrong worker")
    found = processes(agent)
    connections = collections.Counter(answered.values())
    expect(len(connections) > 1, "only one worker worked")
    for worker, count in connections.items():
        mine = agent.flows(f"by pid {worker}")
        expect_equal(len(mine), 2 * count, f"flows of worker {worker}")
        for way in ("in", "out"):
            expect_equal(counts(found[worker], way), sum_of(mine, way), f"worker {worker} {way}")
    expect_equal(counts(found.get(listener, {"in": {"packets": 0, "bytes": 0}}), "in"), (0, 0), "the listener's")
    expect_equal(counts(agent.get("/v1/processes")["kernel"], "out"), (0, 0), "the kernel's")
    os.kill(listener, signal.SIGKILL)
    expect_sums(agent)


@test()
def what_nobody_has_accepted_is_not_the_kernels(lab):
    """what the kernel answers for a connection that waits to be accepted is undecided, and in the end of who accepts it"""
    host, peer = lab.hosts()
    lab.pair(host, "w1", peer, "p1", 2)
    for namespace in (host, peer):
        namespace.sysctl("net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0",
                         *(f"net.ipv4.conf.{'w' if namespace is host else 'p'}{n}.rp_filter=0" for n in (0, 1)))
    peer.ip("route", "add", "10.1.0.1/32", "via", "10.2.0.1", "dev", "p1", "src", "10.1.0.2")
    lab.quiet(host, peer)  # IPv6's reports of multicast groups are the kernel's
    agent = lab.agent(host)  # sees what goes out on w0, and not what comes in on w1
    with host:
        listener = socket.create_server(("10.1.0.1", 8000))
    with listener:
        with peer:
            client = socket.create_connection(("10.1.0.1", 8000))
        with client:
            client.sendall(bytes(100))
            for _ in range(3):  # what began during a collection is not charged before the next
                agent.settle()
                document = agent.get("/v1/processes")
            expect_equal(counts(document["kernel"], "out"), (0, 0), "the kernel's")
            expect_equal(counts(document["undecided"], "out"), (2, 74 + 66), "undecided")  # SYN-ACK, ACK
            connection, _ = listener.accept()
            with connection:
                connection.recv(100)
                connection.sendall(bytes(1000))
                client.recv(1000, socket.MSG_WAITALL)
                agent.settle()
                document = agent.get("/v1/processes")
    own = next(p for p in document["processes"] if p["pid"] == os.getpid())
    expect_equal(counts(own, "out"), (3, 74 + 66 + 1066), "who accepted it")
    expect_equal(counts(document["undecided"], "out"), (0, 0), "undecided in the end")
    expect_sums(agent)


SHORT_CONNECTIONS = int(os.environ.get("WEIR_CONNECTIONS", "5000"))


@test(seconds=60 + SHORT_CONNECTIONS // 200)
def short_connections_end_right(lab):
    """thousands of short connections to a pre-forked server on the same host: each socket end has the right process

    WEIR_CONNECTIONS says how many (5,000; issue 3 names 60,000), made by 50 processes at a time, 100 by each.  Each is
    four flows on lo, two of either end; each of them, and the sum of each process, is compared.
    """
    rounds = SHORT_CONNECTIONS // 5000 or 1
    host = lab.namespace("host")
    agent = lab.agent(host, f"interfaces: [lo]\nflows: {{table: {32768 + 32768 * rounds}, closed: 1h, idle: 1h}}\n")
    server = script(lab, host, PREFORKED, "0.0.0.0", 8000, 4, 100)
    first_line(server)
    made, workers = {}, {}
    for number in range(rounds):  # an address of its own each, so that no pair of ports is used twice
        address = f"127.0.0.{number + 1}"
        done = host.run("python3", "-c", CLIENTS, address, 8000, 50, 100, 100, timeout=50)
        ends = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
        expect_equal(len(ends), 5000, f"connections to {address}")
        made.update({(address, port): pid for pid, port, _ in ends})
        workers.update({(address, port): worker for _, port, worker in ends})
    expect_equal((len(made), len(set(made.values())), len(set(workers.values()))), (5000 * rounds, 50 * rounds, 4),
                 "connections, clients, workers")
    ends, wrong = collections.Counter(), []
    sums = collections.defaultdict(lambda: [0, 0])
    for flow in agent.flows("tcp port 8000"):
        to_server = flow["dport"] == 8000
        connection = (flow["dst"], flow["sport"]) if to_server else (flow["src"], flow["dport"])
        client = to_server == (flow["direction"] == "out")
        right = (made if client else workers)[connection]
        if flow["owner"].get("pid") != right:
            wrong.append((flow, right))
        ends[connection, client] += 1
        sums[right, flow["direction"]][0] += flow["packets"]
        sums[right, flow["direction"]][1] += flow["bytes"]
    expect_equal(wrong[:2], [], f"{len(wrong)} of {sum(ends.values())} flows with the wrong process")
    expect_equal((len(ends), collections.Counter(ends.values())), (2 * len(made), {2: 2 * len(made)}), "socket ends")
    found = processes(agent)
    for pid in {*made.values(), *workers.values()}:
        expect_equal("ended" in found[pid], pid not in workers.values(), f"process {pid} has ended")
        for way in ("in", "out"):
            expect_equal(counts(found[pid], way), tuple(sums[pid, way]), f"process {pid} {way}")
    document = agent.get("/v1/processes")
    expect_equal(document["undecided"], {"in": {"packets": 0, "bytes": 0}, "out": {"packets": 0, "bytes": 0}},
                 "undecided")
    expect_equal(agent.get("/v1/status")["owners"]["refused"], 0, "refused")
    expect_equal(agent.losses()["lost"], 0, "lost")
    expect_sums(agent)


@test()
def a_passed_socket_is_whose_uses_it(lab):
    """a connection that one process accepts and hands to another: each has what it sent"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    # The SYN-ACK is sent where the SYN arrives.  On one CPU it stands in one line with what the first sends; on
    # another it has no owner until its line is read, and then whoever has the connection by that time.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    server = script(lab, host, PASSED, "10.1.0.1", 8000)
    first, second = map(int, first_line(server))
    with peer:
        client = socket.create_connection(("10.1.0.1", 8000))
    with client:
        client.sendall(b"xy")
        left = 61000
        while left:
            part = client.recv(65536)
            expect(part, "the connection ended early")
            left -= len(part)
    server.wait(10)
    found = processes(agent)
    # what it sends, and the SYN-ACK, which no process sends, in front of it
    packets, size = counts(found[first], "out")
    expect_equal(size - packets * HEADERS[4], 1000 + 8, "what the first sent")
    packets, size = counts(found[second], "out")
    expect_equal(size - packets * HEADERS[4], 60000, "what the second sent")
    expect_sums(agent)


@test()
def a_socket_is_whose_uses_it_now(lab):
    """one socket, used in turns by a process, its threads, its children, as another user and after exec, on one CPU"""
    host, peer = lab.hosts()
    receiver = udp_socket(peer, "10.1.0.2", 6001)
    agent = lab.agent(host)
    other = lab.path("other")
    os.symlink(os.path.realpath(sys.executable), other)
    hands = script(lab, host, HANDS, "10.1.0.2", stdin=subprocess.PIPE, env=dict(os.environ, TEXT=HANDS))

    def uses(*words):
        """The pid that sent behind these commands, and who has the socket then."""
        for word in words:
            hands.stdin.write(f"{word}\n")
        hands.stdin.flush()
        pid = int(first_line(hands)[0])
        found = agent.get("/v1/sockets", filter="udp from port 6000")["sockets"]
        expect_equal([s["owner"]["pid"] for s in found], [pid], f"the owner after {words}")
        return pid, found[0]["owner"]["uid"], found[0]["owner"]["command"]

    mine = uses("send")
    expect_equal(mine, (hands.pid, 0, "python3"), "who opened it")
    expect_equal(uses("thread"), mine, "its thread")
    children = [uses("child") for _ in range(8)]  # the memory of one is the next one's
    expect_equal(len({pid for pid, *_ in children} - {mine[0]}), 8, "children")
    expect_equal(uses("send"), mine, "itself again")
    expect_equal(uses("user 1", "send"), (mine[0], 1, "python3"), "as another user")
    expect_equal(uses("user 0", "send"), mine, "as root again")
    expect_equal(uses(f"program {other}"), (mine[0], 0, "other"), "after exec")
    hands.stdin.close()
    hands.wait(10)
    receiver.close()


@test()
def users_are_told_apart(lab):
    """datagrams of two users: flows, processes and sums by user are those of each"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    for user, port, count in ((1, 5001, 7), (13, 5002, 11)):
        host.run("python3", "-c", AS_USER, user, "10.1.0.2", port, count)
    names = {}
    for user, port, count in ((1, 5001, 7), (13, 5002, 11)):
        flows = agent.flows(f"udp by user {user}")
        expect_equal([(f["dport"], f["packets"], f["owner"]["uid"]) for f in flows], [(port, count, user)],
                     f"flows of user {user}")
        names[flows[0]["owner"]["user"]] = (count, count * (14 + 20 + 8 + 500))
        mine = [p for p in processes(agent, filter=f"by user {user}").values() if p["out"]["packets"]]
        expect_equal([counts(p, "out") for p in mine], [names[flows[0]["owner"]["user"]]], "its process")
        expect_equal([h["address"] for h in agent.get("/v1/hosts", filter=f"by user {user}")["hosts"]], ["10.1.0.2"],
                     "its hosts")
    owners = {o["name"]: counts(o, "out") for o in agent.get("/v1/owners", by="user")["owners"]}
    expect_equal({name: owners[name] for name in names}, names, "sums by user")
    expect_equal(agent.get("/v1/owners", by="user", filter="udp to port 5001")["source"], "flows", "source")
    expect_sums(agent)


@test("vm-6.1")
def forwarded_traffic_has_no_owner(lab):
    """what passes through says forwarded, what the kernel answers says kernel, and ping has its own"""
    host, left = lab.hosts()
    right = lab.namespace("right")
    lab.pair(host, "w1", right, "p1", number=2)
    host.sysctl("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
    for namespace, via, net in ((left, 1, 2), (right, 2, 1)):
        namespace.ip("route", "add", f"10.{net}.0.0/24", "via", f"10.{via}.0.1")
        namespace.ip("route", "add", f"fd00:{net}::/64", "via", f"fd00:{via}::1")
    agent = lab.agent(host, "interfaces: [w0, w1]\n")
    tcp_transfer(left, right, "10.2.0.2", 8080, 50000, 1000)
    tcp_transfer(left, right, "fd00:2::2", 8080, 1000, 50000)
    flows = agent.flows("tcp port 8080")
    expect_equal(len(flows), 8, "flows: two connections, two directions, two interfaces")
    expect_equal({f["owner"]["kind"] for f in flows}, {"forwarded"}, "owners of what passes through")
    left.run("ping", "-c", 3, "-i", 0.2, "10.1.0.1")
    host.run("ping", "-c", 2, "-i", 0.2, "10.1.0.2")
    pings = {(f["direction"], f["packets"]): f["owner"] for f in agent.flows("icmp")}
    expect_equal({key: owner.get("command", owner["kind"]) for key, owner in pings.items()},
                 {("in", 3): "kernel", ("out", 3): "kernel", ("in", 2): "ping", ("out", 2): "ping"}, "pings")
    document = agent.get("/v1/processes")
    for way in ("in", "out"):
        expect_equal(counts(document["forwarded"], way), sum_of(flows, way), f"forwarded {way}")
    ping = next(p for p in document["processes"] if p["command"] == "ping")
    expect_equal((counts(ping, "in"), counts(ping, "out")), ((2, 196), (2, 196)), "what ping has")
    expect_equal(agent.flows("tcp by user root"), [], "flows of a process among them")
    expect_sums(agent)


@test("vm-6.12")
def ended_processes_stay_and_survive_kill(lab):
    """an ended process keeps its totals over kill -9 of the agent; when it is forgotten, they are "other" """
    host, peer = lab.hosts()
    config = "interfaces: [w0]\nflows: {idle: 1s, closed: 1s}\nowners: {keep: %s}\n"
    agent = lab.agent(host, config % "10m")
    host.run("python3", "-c", AS_USER, 1, "10.1.0.2", 5001, 30)
    before = {pid: p for pid, p in processes(agent).items() if p["out"]["packets"]}
    pid, process = next(iter(before.items()))
    expect_equal(counts(process, "out"), (30, 30 * 542), "the process")
    expect("ended" in process, "it has ended")
    agent.kill(signal.SIGKILL)
    agent.process.wait(5)
    host.run("python3", "-c", AS_USER, 1, "10.1.0.2", 5001, 4)  # while no agent is there
    agent.start()
    after = {p["pid"]: p for p in processes(agent).values() if p["out"]["packets"]}
    expect_equal(counts(after[pid], "out"), counts(process, "out"), "its totals behind kill -9")
    expect_equal((after[pid]["user"], "ended" in after[pid]), (process["user"], True), "its names")
    other = [p for p in after if p != pid]
    expect_equal([counts(after[p], "out") for p in other], [(4, 4 * 542)], "the one that came when no agent was there")
    expect_sums(agent)
    with open(agent.config, "w", encoding="utf-8") as file:
        file.write(config % "1s")
    agent.reload()
    wait_for(lambda: not processes(agent), 15, "both to be forgotten", interval=0.5)
    document = agent.get("/v1/processes")
    expect_equal(counts(document["other"], "out"), (34, 34 * 542), "what they had")
    page = agent.request("GET", "/metrics")[1]
    expect(re.search(r'^weir_process_bytes_total{command="python3"[^\n]*direction="out"} ' + str(34 * 542) + "$", page,
                     re.M), "the series stays")
    expect_sums(agent)


@test()
def units_and_containers_are_read_from_the_cgroup(lab):
    """a process in the cgroup of a unit or a container is found by unit, container and cgroup"""
    host, _ = lab.hosts()
    root = "/sys/fs/cgroup"
    if not os.path.exists(f"{root}/cgroup.procs"):
        root = "/sys/fs/cgroup/unified"
    container = "0123456789abcdef" * 4
    paths = [f"{root}/{lab.name}.slice", f"{root}/{lab.name}.slice/some.service",
             f"{root}/{lab.name}.slice/docker-{container}.scope"]
    for path in paths:
        try:
            os.mkdir(path)
        except OSError as error:
            raise Skip("no cgroup v2 that can be changed here") from error
        lab.on_close(lambda path=path: os.rmdir(path))
        if not os.path.exists(f"{path}/cgroup.procs"):
            raise Skip("no cgroup v2 is mounted")
    agent = lab.agent(host)
    for path, port in ((paths[1], 5001), (paths[2], 5002)):
        sender = host.start("python3", "-c", "input()\n" + AS_USER, 1, "10.1.0.2", port, 3, stdin=subprocess.PIPE)
        with open(f"{path}/cgroup.procs", "w", encoding="ascii") as file:
            file.write(str(sender.pid))
        sender.communicate(b"\n", timeout=10)
    for words, port in (("unit some", 5001), (f"container {container[:12]}", 5002), (f"container {container}", 5002),
                        (f"cgroup /{lab.name}.slice/some.service", 5001), (f"unit docker-{container}.scope", 5002)):
        expect_equal([f["dport"] for f in agent.flows(f"by {words}")], [port], f"by {words}")
    expect_equal(sorted(f["dport"] for f in agent.flows(f"by cgroup {root}/{lab.name}.slice")), [5001, 5002],
                 "by the slice above")
    owners = {o["name"]: counts(o, "out")[0] for o in agent.get("/v1/owners", by="unit")["owners"]}
    expect_equal((owners["some.service"], owners[f"docker-{container}.scope"]), (3, 3), "sums by unit")
    owner = agent.flows("to port 5002")[0]["owner"]
    expect_equal(owner["container"], container, "the container's id")


@test()
def a_unit_that_is_not_there_is_told(lab):
    """a rule by a unit, cgroup or container that is not there says so, and one that is there, empty too, does not;
    a trace of nobody is an error"""
    host, _ = lab.hosts()
    root = "/sys/fs/cgroup"
    if not os.path.exists(f"{root}/cgroup.procs"):
        root = "/sys/fs/cgroup/unified"
    container = "fedcba9876543210" * 4
    paths = [f"{root}/{lab.name}.slice", f"{root}/{lab.name}.slice/there.service",
             f"{root}/{lab.name}.slice/there.service/docker-{container}.scope"]
    for path in paths:
        try:
            os.mkdir(path)
        except OSError as error:
            raise Skip("no cgroup v2 that can be changed here") from error
        lab.on_close(lambda path=path: os.rmdir(path))
        if not os.path.exists(f"{path}/cgroup.procs"):
            raise Skip("no cgroup v2 is mounted")
    agent = lab.agent(host)
    for owner, missing in (("unit there", None), (f"cgroup /{lab.name}.slice/there.service", None),
                           (f"container {container}", None),
                           ("unit not-there", "unit not-there.service"),
                           (f"cgroup /{lab.name}.slice/other", f"cgroup /{lab.name}.slice/other"),
                           (f"container {container[::-1]}", f"container {container[::-1]}")):
        sentence = f"deny connect by {owner} to port 1234"
        added = json.loads(agent.weir("--json", *sentence.split()).stdout)
        entry = added["rules"][0]
        expect_equal(added["warnings"], [f"there is no {missing}: until there is, nothing fits rule {entry['id']}: "
                                         + entry["text"]] if missing else [], sentence)
        agent.weir("delete", entry["id"])
    for words, message in (("by unit not-there", "there is no unit not-there.service; one that runs or is installed"),
                           ("by pid 4194304", "there is no process 4194304; the id of one that runs")):
        done = agent.weir("trace", "tcp.rtt", *words.split(), check=False)
        expect_equal((done.returncode, done.stderr), (1, f"weir: {message}\n"), f"trace {words}")


@test()
def sums_are_right_at_every_moment(lab):
    """while connections come and go, owners and what is undecided make the sum of the interfaces; nothing runs back"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    server = script(lab, host, PREFORKED, "10.1.0.1", 8000, 3, 20000)
    first_line(server)
    client = script(lab, peer, CLIENTS, "10.1.0.1", 8000, 4, 400, 20000)
    seen = collections.Counter()
    rounds = 0
    while client.poll() is None or rounds < 5:
        document = agent.get("/v1/processes")
        for process in document["processes"]:
            for way in ("in", "out"):
                key = process["pid"], process["started"], way
                expect(process[way]["bytes"] >= seen[key], f"{key} ran back")
                seen[key] = process[way]["bytes"]
        expect_sums(agent)
        rounds += 1
        if client.poll() is None:
            with contextlib.suppress(Exception):
                client.communicate(timeout=0.01)
    expect(rounds > 3, "it was over too soon")


@test()
def wrong_owners_are_refused(lab):
    """a user, a group, a kind of owner or a grouping that does not exist is an error that says what would be right"""
    host, _ = lab.hosts()
    agent = lab.agent(host)
    for path, what, want in (
            ("/v1/flows?filter=by%20user%20rooot", "unknown user 'rooot'", "did you mean 'root'?"),
            ("/v1/processes?filter=by%20group%20no-such-group", "unknown group 'no-such-group'",
             "a group of this host, or a number"),
            ("/v1/owners?by=usr", "cannot group by 'usr'", "did you mean 'user'?"),
            ("/v1/owners?sort=pid", "cannot sort by 'pid'", None),
            ("/v1/processes?by=user", "unknown parameter 'by'", "filter, sort, order or limit"),
            ("/v1/flows?filter=by%20pid%20me", "'me' is not a process id", None)):
        status, body, _ = agent.request("GET", path)
        error = json.loads(body)["error"]
        expect_equal((status, error["what"]), (400, what), path)
        if want:
            expect_equal(error["want"], want, path)
    done = agent.weir("flows", "by", "user", "rooot", check=False)
    expect_equal((done.returncode, done.stderr.splitlines()[0]),
                 (2, "weir: unknown user 'rooot'; did you mean 'root'?"), "weir flows by user rooot")

# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Names of flows and hosts: TLS and HTTP servers, and a resolver, that real clients talk to."""

import contextlib
import http.server
import os
import random
import signal
import socket
import struct
import threading

from lab import Skip, expect, expect_equal, need, run, wait_for
from suite import test

HOST = {4: "10.1.0.1", 6: "fd00:1::1"}
PEER = {4: "10.1.0.2", 6: "fd00:1::2"}


def literal(address):
    return f"[{address}]" if ":" in address else address


# ------------------------------------------------------------------------------------------------ servers


def certificate(lab):
    """A key and a certificate of nobody's."""
    need("openssl")
    key, cert = lab.path("key.pem"), lab.path("cert.pem")
    config = lab.write("openssl.cnf", "[req]\ndistinguished_name = name\n[name]\n")
    run("openssl", "req", "-config", config, "-x509", "-newkey", "ec", "-pkeyopt",
        "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=test", "-keyout", key,
        "-out", cert)
    return key, cert


def tls_server(lab, namespace, port=443):
    """openssl s_server, for both families."""
    key, cert = certificate(lab)
    for family in (4, 6):
        namespace.start("openssl", "s_server", f"-{family}", "-accept", f"{literal(PEER[family])}:{port}", "-key", key,
                        "-cert", cert, "-www")
    wait_for(lambda: namespace.run("ss", "-Hltn").stdout.count(f":{port} ") == 2, 10, f"two listeners on port {port}")


def tls_client(namespace, address, name, port=443):
    words = ["-servername", name] if name else ["-noservername"]
    namespace.run("timeout", 10, "openssl", "s_client", "-connect", f"{literal(address)}:{port}", *words,
                  input="GET / HTTP/1.0\r\n\r\n", check=False)


def client_hello(name, share):
    """A ClientHello with so many bytes of key share before its name."""
    def extension(number, data):
        return struct.pack(">HH", number, len(data)) + data

    entry = b"\0" + struct.pack(">H", len(name)) + name.encode()
    extensions = extension(51, bytes(share)) + extension(0, struct.pack(">H", len(entry)) + entry)
    body = (b"\3\3" + bytes(32) + b"\0" + b"\0\2\x13\1" + b"\1\0" + struct.pack(">H", len(extensions)) + extensions)
    message = b"\1" + struct.pack(">I", len(body))[1:] + body
    return b"\x16\3\1" + struct.pack(">H", len(message)) + message


class HttpHandler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):  # pylint: disable=invalid-name # as the class wants it
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):  # pylint: disable=arguments-differ
        pass


class HttpServer(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    daemon_threads = True


def http_server(lab, namespace, port=80):
    with namespace:
        server = HttpServer(("::", port), HttpHandler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    lab.on_close(server.shutdown)


def stay_on_this_cpu():
    """What a sender sends in two parts is put together where the same CPU saw both; receivers have RSS for that."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


# ------------------------------------------------------------------------------------------------ DNS


def dns_labels(name):
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def dns_record(owner, kind, data, ttl=300):
    return owner + struct.pack(">HHIH", kind, 1, ttl, len(data)) + data


def dns_answer(query, records, truncated=False):
    """An answer with its question, the records and EDNS, the names pointing back to the question."""
    end = query.index(b"\0", 12) + 5
    flags = 0x8180 | (0x0200 if truncated else 0)
    return (query[:2] + struct.pack(">HHHHH", flags, 1, len(records), 0, 1) + query[12:end] + b"".join(records) +
            b"\0" + struct.pack(">HHIH", 41, 1232, 0, 0))


ZONE = {"www.example.com": ("192.0.2.80", "2001:db8::80")}


def dns_records(query):
    """A and AAAA of www.example.com by way of an alias; of anything else, an address made from a number in it."""
    end = query.index(b"\0", 12)
    kind = struct.unpack_from(">H", query, end + 1)[0]
    name, at = [], 12
    while query[at]:
        name.append(query[at + 1:at + 1 + query[at]].decode())
        at += query[at] + 1
    name = ".".join(name).lower()
    family, index = {1: (socket.AF_INET, 0), 28: (socket.AF_INET6, 1)}.get(kind, (None, 0))
    if name not in ZONE or family is None:
        return []
    alias = b"\x03cdn\xc0\x10"
    return [dns_record(b"\xc0\x0c", 5, alias), dns_record(alias, kind, socket.inet_pton(family, ZONE[name][index]))]


def dns_server(lab, namespace):
    """Answers on port 53 of UDP, and of TCP with one message a connection, until the lab ends."""
    with namespace:
        datagrams = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        stream = socket.create_server(("::", 53), family=socket.AF_INET6, dualstack_ipv6=True)
    datagrams.bind(("::", 53))

    def serve_datagrams():
        with contextlib.suppress(OSError):
            while True:
                query, client = datagrams.recvfrom(4096)
                if len(query) > 16:
                    datagrams.sendto(dns_answer(query, dns_records(query)), client)

    def serve_stream():
        with contextlib.suppress(OSError):
            while True:
                connection, _ = stream.accept()
                with connection:
                    query = connection.recv(4096)[2:]
                    answer = dns_answer(query, dns_records(query))
                    connection.sendall(struct.pack(">H", len(answer)) + answer)

    for function in (serve_datagrams, serve_stream):
        threading.Thread(target=function, daemon=True).start()
    lab.on_close(datagrams.close)
    lab.on_close(stream.close)


def resolver_of(lab, namespace, address):
    """Has the C library of programs in this namespace ask the server at this address (ip-netns(8))."""
    directory = f"/etc/netns/{namespace.name}"
    os.makedirs(directory)

    def remove():
        for name in os.listdir(directory):
            os.unlink(os.path.join(directory, name))
        os.rmdir(directory)
        with contextlib.suppress(OSError):
            os.rmdir("/etc/netns")

    lab.on_close(remove)
    for name, text in (("resolv.conf", f"nameserver {address}\noptions timeout:1\n"), ("nsswitch.conf", "hosts: dns\n")):
        with open(os.path.join(directory, name), "w", encoding="utf-8") as file:
            file.write(text)


def answer_to(name, number, ttl=300):
    """What a resolver would say about a made-up name: the address with this number in 10.0.0.0/8."""
    query = struct.pack(">HHHHHH", number & 0xffff, 0x0100, 1, 0, 0, 0) + dns_labels(name) + struct.pack(">HH", 1, 1)
    return dns_answer(query, [dns_record(b"\xc0\x0c", 1, struct.pack(">I", 0x0a000000 + number), ttl)])


# ------------------------------------------------------------------------------------------------ looking


def apps(agent, port, family=""):
    """What the flows of this port, one way and back, are said to be about."""
    return [flow.get("app") for flow in agent.flows(f"{family} tcp port {port}".strip())]


def names(agent):
    return {entry["address"]: (entry["name"], entry["source"]) for entry in agent.get("/v1/names")["names"]}


def host(agent, address):
    found = [h for h in agent.get("/v1/hosts")["hosts"] if h["address"] == address]
    return (found[0].get("name"), found[0].get("name_source")) if found else None


def table(agent):
    return agent.get("/v1/status")["names"]


# ------------------------------------------------------------------------------------------------ tests


@test()
def names_by_tls(lab):
    """The server name that a TLS client asks for names the flow both ways and the server's host; one that asks for none
    is TLS all the same; the name may stand in the second segment"""
    inside, peer = lab.hosts()
    tls_server(lab, peer)
    agent = lab.agent(inside)
    tls_client(inside, PEER[4], None)
    expect_equal(apps(agent, 443), [{"protocol": "tls"}] * 2, "what flows without a name are about")
    expect_equal(host(agent, PEER[4]), (None, None), "name of the host")
    expect_equal(table(agent)["read"]["unnamed"], 1, "flows without a name")
    tls_client(inside, PEER[6], "Shop.Example.com")
    wanted = {"protocol": "tls", "name": "shop.example.com"}
    expect_equal(apps(agent, 443, "ip6"), [wanted, wanted], "what the flows are about")
    expect_equal(host(agent, PEER[6]), ("shop.example.com", "tls"), "name of the host")
    tls_client(inside, PEER[4], "xn--bcher-kva.example")
    expect_equal(host(agent, PEER[4]), ("xn--bcher-kva.example", "tls"), "name of the host over IPv4")
    for command in ("hosts", "flows", "names"):
        expect("shop.example.com" in agent.weir(command).stdout, f"weir {command} does not show the name")
    # as with post-quantum keys
    stay_on_this_cpu()
    hello = client_hello("quantum.example", 1700)
    with peer:
        listener = socket.create_server((PEER[4], 444))
    with listener, inside, socket.create_connection((PEER[4], 444)) as client:
        server, _ = listener.accept()
        with server:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for part in (hello[:1440], hello[1440:]):
                client.sendall(part)
                expect_equal(len(server.recv(4096)), len(part), "bytes that arrived")
    expect_equal(apps(agent, 444), [{"protocol": "tls", "name": "quantum.example"}] * 2, "what the two flows are about")
    expect_equal(table(agent)["records"]["taken"], 5, "segments copied")


@test()
def names_by_http(lab):
    """The Host and the path of a request name the flow, without the query; a host is named by what is asked of it"""
    need("curl")
    inside, peer = lab.hosts()
    http_server(lab, peer)
    http_server(lab, inside, 8080)
    agent = lab.agent(inside)
    peer.run("curl", "-sS", "-o", lab.path("out"), "-H", "Host: own.example", f"http://{HOST[4]}:8080/x")
    expect_equal(apps(agent, 8080), [{"protocol": "http", "name": "own.example", "path": "/x"}] * 2,
                 "what the flows of a request to us are about")
    expect_equal(host(agent, PEER[4]), (None, None), "name of the client's host")
    for family in (4, 6):
        inside.run("curl", "-sS", "-o", lab.path("out"), "-H", f"Host: WWW.V{family}.example:80",
                   f"http://{literal(PEER[family])}/a/b.html?secret=1")
        wanted = {"protocol": "http", "name": f"www.v{family}.example", "path": "/a/b.html"}
        expect_equal(apps(agent, 80, f"ip{family}".rstrip("4")), [wanted, wanted], "what the flows are about")
        expect_equal(host(agent, PEER[family]), (f"www.v{family}.example", "http"), "name of the host")
    expect("secret" not in agent.request("GET", "/v1/flows")[1], "the query string is told")


@test()
def names_by_the_first_request(lab):
    """Of several requests on one connection the first is told; proxies, HTTP/2 and what is neither are known apart"""
    inside, peer = lab.hosts()
    agent = lab.agent(inside)
    stay_on_this_cpu()
    cases = [
        (81, [b"GET /first HTTP/1.1\r\nhost: a.example\r\n\r\n", b"GET /second HTTP/1.1\r\nHost: b.example\r\n\r\n"],
         {"protocol": "http", "name": "a.example", "path": "/first"}),
        (82, [b"GET http://far.example/p HTTP/1.1\r\nHost: proxy.example\r\n\r\n"],
         {"protocol": "http", "name": "far.example", "path": "/p"}),
        (83, [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"], {"protocol": "h2c"}),
        (84, [b"\0\1\2\3\4\5\6\7 something else"], None),
        (85, [b"GET /in/two HTTP/1.1\r\nUser-Agent: x\r\n", b"Host: late.example\r\n\r\n"],
         {"protocol": "http", "name": "late.example", "path": "/in/two"}),
        (86, [b"GET /x HTTP/1.1\r\nHost: a\x1b[2Jb\r\n\r\n"], {"protocol": "http", "path": "/x"}),
        (87, [b"GET"], None),
    ]
    for port, parts, _ in cases:
        with peer:
            listener = socket.create_server((PEER[4], port))
        with listener, inside, socket.create_connection((PEER[4], port)) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            server, _ = listener.accept()
            with server:
                for part in parts:
                    client.sendall(part)
                    expect_equal(server.recv(4096), part, "bytes that arrived")
    for port, _, wanted in cases:
        expect_equal(apps(agent, port), [wanted] * 2, f"what the flows of port {port} are about")


@test()
def names_by_dns(lab):
    """An address that the C library asked a resolver for shows the name asked for, not its alias"""
    need("getent")
    inside, peer = lab.hosts()
    dns_server(lab, peer)
    resolver_of(lab, inside, PEER[6])
    agent = lab.agent(inside)
    found = inside.run("getent", "ahosts", "www.example.com", check=False).stdout
    if "192.0.2.80" not in found:
        raise Skip("the C library cannot be told another resolver")
    for address in ZONE["www.example.com"]:
        expect_equal(names(agent).get(address), ("www.example.com", "dns"), f"name of {address}")
    flows = agent.flows("ip6 udp port 53")
    expect(flows, "no flows of DNS")
    for flow in flows:
        expect_equal(flow.get("app"), {"protocol": "dns", "name": "www.example.com"}, "what a flow is about")
    # and traffic to it, which nobody answers, shows under that name; what is asked of the host changes nothing
    inside.ip("route", "add", "192.0.2.0/24", "via", PEER[4])
    with inside, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", ("192.0.2.80", 9))
    expect_equal(host(agent, "192.0.2.80"), ("www.example.com", "dns"), "name of the host")
    expect("www.example.com" in agent.weir("hosts").stdout, "weir hosts has no name")


@test()
def names_by_dns_over_tcp_and_when_forwarded(lab):
    """Answers over TCP are read too, and answers and requests that are forwarded, on both interfaces"""
    need("curl")
    inside, peer = lab.hosts()
    third = lab.namespace("third")
    lab.pair(inside, "w1", third, "t0", number=2)
    inside.sysctl("net.ipv4.ip_forward=1")
    peer.ip("route", "add", "10.2.0.0/24", "via", HOST[4])
    third.ip("route", "add", "10.1.0.0/24", "via", "10.2.0.1")
    dns_server(lab, peer)
    http_server(lab, peer)
    agent = lab.agent(inside, "interfaces: [w0, w1]\n")
    query = struct.pack(">HHHHHH", 7, 0x0100, 1, 0, 0, 0) + dns_labels("www.example.com")
    with inside, socket.create_connection((PEER[4], 53)) as client:
        message = query + struct.pack(">HH", 28, 1)
        client.sendall(struct.pack(">H", len(message)) + message)
        expect(client.recv(4096), "no answer over TCP")
    with third, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(5)
        client.sendto(query + struct.pack(">HH", 1, 1), (PEER[4], 53))
        expect(client.recv(4096), "no answer that was forwarded")
    known = names(agent)
    expect_equal(known.get("2001:db8::80"), ("www.example.com", "dns"), "name told over TCP")
    expect_equal(known.get("192.0.2.80"), ("www.example.com", "dns"), "name told to another host")
    third.run("curl", "-sS", "-o", lab.path("out"), "-H", "Host: far.example", f"http://{PEER[4]}/")
    expect_equal(apps(agent, 80), [{"protocol": "http", "name": "far.example", "path": "/"}] * 4,
                 "what the four flows are about")
    expect_equal(host(agent, PEER[4]), ("far.example", "http"), "name of the server's host")
    expect_equal(host(agent, "10.2.0.2"), (None, None), "name of the client's host")


@test()
def names_have_one_switch(lab):
    """With names: off nothing is copied; switched off while it runs, the agent forgets what it knew"""
    need("curl")
    inside, peer = lab.hosts()
    http_server(lab, peer)
    agent = lab.agent(inside, "interfaces: [w0]\n")

    def ask(name):
        inside.run("curl", "-sS", "-o", lab.path("out"), "-H", f"Host: {name}", f"http://{PEER[4]}/")

    def configure(text):
        with open(agent.config, "w", encoding="utf-8") as file:
            file.write(f"interfaces: [w0]\nnames: {text}\n")

    ask("one.example")
    expect_equal(host(agent, PEER[4]), ("one.example", "http"), "name of the host")
    configure("off")
    agent.reload()
    ask("two.example")
    expect_equal(names(agent), {}, "names when switched off")
    expect_equal(host(agent, PEER[4]), (None, None), "name of the host when switched off")
    expect_equal(set(map(str, apps(agent, 80))), {"None"}, "what flows are about when switched off")
    expect_equal(table(agent)["records"]["taken"], 1, "beginnings copied")
    configure("on")
    agent.reload()
    ask("three.example")
    expect_equal(host(agent, PEER[4]), ("three.example", "http"), "name of the host when switched on again")
    # not even the code is there
    configure("off")
    agent.stop(signal.SIGTERM)
    agent.start()
    ask("four.example")
    expect_equal(table(agent)["records"]["taken"], 2, "beginnings copied by programs without the code")
    expect_equal(names(agent), {}, "names of an agent started without")
    expect("switched off" in agent.weir("names").stdout, "weir names does not say that it is off")


@test()
def names_outlive_the_agent(lab):
    """Killed with SIGKILL, the agent leaves names to the next one, and what was asked in between is there too"""
    need("curl")
    inside, peer = lab.hosts()
    http_server(lab, peer)
    agent = lab.agent(inside)

    def ask(address, name):
        inside.run("curl", "-sS", "-o", lab.path("out"), "-H", f"Host: {name}", f"http://{literal(address)}/p")

    ask(PEER[4], "before.example")
    expect_equal(host(agent, PEER[4]), ("before.example", "http"), "name of the host")
    agent.stop(signal.SIGKILL)
    ask(PEER[6], "between.example")
    agent.start()
    expect_equal(names(agent), {PEER[4]: ("before.example", "http"), PEER[6]: ("between.example", "http")},
                 "names that the next agent knows")
    expect({"protocol": "http", "name": "before.example", "path": "/p"} in apps(agent, 80), "the old flow lost its name")


@test()
def names_are_bounded(lab):
    """Hostile bytes tell nothing; ten thousand names in a table of a thousand leave it full of the last ones, and every
    answer is counted"""
    inside, peer = lab.hosts()
    agent = lab.agent(inside, "interfaces: [w0]\nnames: {table: 1000}\n")
    noise = random.Random(2)
    good = answer_to("good.example", 1)
    unasked = dns_answer(good, [dns_record(dns_labels("bank.example"), 1, bytes([10, 0, 0, 9]))])
    messages = [good, good.replace(b"good", b"g\x1b[m"), unasked, good.replace(b"\xc0\x0c", b"\xc0\x1e"),
                b"", b"\0", good[:11]] + [noise.randbytes(noise.randrange(1, 600)) for _ in range(500)]
    with inside, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind((HOST[4], 5353))
        with peer, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.bind((PEER[4], 53))
            for message in messages:
                sender.sendto(message, (HOST[4], 5353))
    expect_equal(names(agent), {"10.0.0.1": ("good.example", "dns")}, "names learned")
    status, body, _ = agent.request("GET", "/v1/names?lmit=1")
    expect_equal(status, 400, "status for an unknown parameter")
    expect("did you mean 'limit'?" in body, body)
    before = table(agent)

    count = 10000
    letters = random.Random(1)
    with inside, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind((HOST[4], 5353))
        with peer, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.bind((PEER[4], 53))
            for number in range(count):
                name = "".join(letters.choices("abcdefghijklmnopqrstuvwxyz", k=20)) + f"-{number}.example"
                sender.sendto(answer_to(name, number), (HOST[4], 5353))
                if number % 1000 == 999:
                    agent.get("/v1/names", limit=1)
    status = table(agent)
    records = status["records"]
    expect_equal(records["taken"] + records["lost"] + records["limited"] - sum(before["records"].values()), count,
                 "answers taken, lost or left out")
    read = status["read"]["dns"] - before["read"]["dns"]
    expect_equal(read, records["taken"] - before["records"]["taken"], "answers read")
    expect(read >= 2000, f"only {read} answers were taken")
    expect_equal(status["addresses"], 1000, "addresses in the table")
    expect(status["displaced"] >= read - 1000, f"only {status['displaced']} names made room")
    listed = agent.get("/v1/names")["names"]
    expect_equal(len(listed), 1000, "names in the list")
    numbers = [int(entry["name"].rpartition("-")[2].partition(".")[0]) for entry in listed]
    expect_equal(numbers, sorted(numbers, reverse=True), "the order: the last one learned first")
    for entry, number in zip(listed, numbers):
        expect_equal(entry["address"], f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", "address of a name")
    metrics = agent.weir("metrics").stdout
    expect('weir_names{of="addresses"} 1000\n' in metrics, "the metric of addresses")
    expect(f'weir_names_records_total{{fate="taken"}} {records["taken"]}\n' in metrics, "the metric of records")

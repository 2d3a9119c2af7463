# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Services that are delivered by nat, with real peers: backends that know nothing of clients, services or weir."""

import contextlib
import errno
import signal
import socket
import threading

from lab import address_family, expect, expect_equal, need, wait_for
from suite import test
from test_balancing import SERVICE, by_backend
from test_rules import refused
from test_services import add, services

PORT = 8080


class Backend:
    """A host that has no route but to its own network: it answers at its own address to TCP and UDP with its name,
    who asked, and what it was told."""

    def __init__(self, lab, host, number):
        self.name = f"b{number}"
        self.namespace = lab.namespace(self.name)
        self.link = f"w{number}"
        self.address = {4: f"10.{number}.0.2", 6: f"fd00:{number}::2"}
        self.nat = {4: f"10.{number}.0.1", 6: f"fd00:{number}::1"}
        lab.pair(host, self.link, self.namespace, "b0", number)
        # what is redirected to a veth arrives only where the other end has NAPI
        self.namespace.run("ethtool", "-K", "b0", "gro", "on")
        self.sockets = []
        for family in (4, 6):
            self.serve(family)
        lab.on_close(self.close)

    def close(self):
        for sock in self.sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def open(self, family, kind):
        with self.namespace:
            sock = socket.socket(address_family(self.address[family]), kind)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((self.address[family], PORT))
        self.sockets.append(sock)
        return sock

    def thread(self, function, *arguments):
        threading.Thread(target=self.quietly, args=(function, *arguments), daemon=True).start()

    @staticmethod
    def quietly(function, *arguments):
        with contextlib.suppress(OSError):
            while True:
                function(*arguments)

    def serve(self, family):
        listener, datagrams = self.open(family, socket.SOCK_STREAM), self.open(family, socket.SOCK_DGRAM)
        listener.listen(512)
        self.thread(self.accept, listener)
        self.thread(self.answer, datagrams)

    def accept(self, listener):
        connection, who = listener.accept()
        self.sockets.append(connection)
        threading.Thread(target=self.talk, args=(connection, who), daemon=True).start()

    def talk(self, connection, who):
        with contextlib.suppress(OSError), connection:
            while said := connection.recv(65536):
                if said == b"page":
                    connection.sendall(b"x" * 200000)
                    return
                connection.sendall(f"{self.name} {who[0]} {who[1]} {len(said)}\n".encode())

    def answer(self, datagrams):
        said, who = datagrams.recvfrom(65536)
        if not who:
            raise OSError("closed")
        datagrams.sendto(f"{self.name} {who[0]} {who[1]} {len(said)} ".encode().ljust(len(said), b"."), who)


class Site:
    """A client, weir, and backends behind it: cards as they are, checksums left to them."""

    def __init__(self, lab, count=2, config=""):
        self.client, self.host = lab.namespace("client"), lab.namespace("host")
        lab.pair(self.host, "w0", self.client, "c0")
        self.client.run("ethtool", "-K", "c0", "gro", "on")
        self.client.ip("route", "add", "default", "via", "10.1.0.1")
        self.client.ip("-6", "route", "add", "default", "via", "fd00:1::1")
        self.host.sysctl("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        self.backends = {backend.name: backend for backend in (Backend(lab, self.host, 11 + i) for i in range(count))}
        links = ", ".join(["w0", *(backend.link for backend in self.backends.values())])
        self.agent = lab.agent(self.host, f"interfaces: [{links}]\n{config}")

    def to(self, family, names=None):
        return ", ".join(f"{self.backends[name].address[family]} port {PORT}" for name in names or self.backends)

    def add(self, family, protocol="tcp ", options=""):
        text = f"s{family} {protocol}{SERVICE[family]} port 80 to {self.to(family)} deliver nat {options}"
        return add(self.agent, text.strip())

    def connect(self, family, kind=socket.SOCK_STREAM, seconds=5):
        with self.client:
            sock = socket.socket(address_family(SERVICE[family]), kind)
        sock.settimeout(seconds)
        sock.connect((SERVICE[family], 80))
        return sock

    def ask(self, sock, size=3):
        """(backend's name, whom it saw, its port, bytes)"""
        sock.send(b"x" * size)
        name, who, port, got = sock.recv(65536).decode().split()[:4]
        return name, who, int(port), int(got)

    def ask_once(self, family, kind=socket.SOCK_STREAM, size=3, seconds=5):
        with self.connect(family, kind, seconds) as sock:
            return self.ask(sock, size)

    def page(self, family, seconds=10):
        """How many bytes the backend sends that is asked for as much as it has; it ends first."""
        got = 0
        with self.connect(family, seconds=seconds) as sock:
            sock.sendall(b"page")
            while more := sock.recv(65536):
                got += len(more)
        return got

    def reached(self, family, kind=socket.SOCK_STREAM):
        """The first packet may come before the way to the backend is known."""
        def attempt():
            with contextlib.suppress(OSError):
                return self.ask_once(family, kind)
            return None
        return wait_for(attempt, 15, "an answer from a backend")


@test()
def nat_delivers(lab):
    """TCP and UDP of both families reach backends that know no way to the client, from an address of weir's host and a
    port that no socket of its own gets; answers come back, and both directions are counted"""
    site = Site(lab)
    for family in (4, 6):
        site.add(family, protocol="")
        site.reached(family)
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            site.reached(family, kind)
            answers = [site.ask_once(family, kind) for _ in range(30)]
            expect_equal({name for name, _, _, _ in answers}, set(site.backends), "who answers")
            for name, who, port, size in answers:
                expect_equal((who, size), (site.backends[name].nat[family], 3), "whom the backend sees")
                expect(61001 <= port <= 65535, f"port {port}")
        service = services(site.agent, name=f"s{family}")[0]
        for name, backend in site.backends.items():
            entry = by_backend(service)[backend.address[family]]
            expect(entry["packets"] > 30 and entry["answer_packets"] > 30, f"packets of {name}: {entry}")
        expect_equal(service["lost"], dict.fromkeys(service["lost"], 0) | {"no_neighbour": service["lost"]["no_neighbour"]},
                     "what was lost")
    site.agent.losses()


class Nginx:
    """An nginx in a backend's namespace, at its own addresses."""

    def __init__(self, lab, backend):
        need("nginx")
        with open(lab.path(f"{backend.name}.conf"), "w", encoding="utf-8") as file:
            file.write(f"""
                daemon off; master_process off; user root; error_log stderr; pid {lab.path(backend.name + '.pid')};
                events {{ worker_connections 4096; }}
                http {{
                  access_log off; keepalive_timeout 0;
                  client_body_temp_path {lab.path('body')}; proxy_temp_path {lab.path('proxy')};
                  fastcgi_temp_path {lab.path('fastcgi')}; uwsgi_temp_path {lab.path('uwsgi')};
                  scgi_temp_path {lab.path('scgi')};
                  server {{ listen {backend.address[4]}:8081 backlog=4096; listen [{backend.address[6]}]:8081 backlog=4096;
                           location / {{ return 200 "{backend.name} $remote_addr\\n"; }} }}
                }}
                """)
        self.process = backend.namespace.start("nginx", "-c", file.name)
        wait_for(lambda: self.answers(backend), 10, "nginx")

    @staticmethod
    def answers(backend):
        with backend.namespace, contextlib.suppress(OSError):
            socket.create_connection((backend.address[4], 8081), 1).close()
            return True
        return False


def fetch(namespace, address, number):
    """So many pages, each by a connection of its own: who sent them."""
    got = []
    for _ in range(number):
        with namespace:
            sock = socket.socket(address_family(address), socket.SOCK_STREAM)
        with sock:
            sock.settimeout(10)
            sock.connect((address, 80))
            sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
            page = b""
            while more := sock.recv(65536):
                page += more
        expect(page.startswith(b"HTTP/1.1 200"), f"the page: {page}")
        got.append(page.split()[-2].decode())
    return got


@test()
def short_connections(lab):
    """of some thousand short connections to nginx behind nat none fails, while the agent is killed and started again; in
    both families"""
    site = Site(lab)
    servers = [Nginx(lab, backend) for backend in site.backends.values()]
    for family in (4, 6):
        to = ", ".join(f"{backend.address[family]} port 8081" for backend in site.backends.values())
        add(site.agent, f"web{family} tcp {SERVICE[family]} port 80 to {to} deliver nat choose turns")
        with contextlib.suppress(OSError):
            fetch(site.client, SERVICE[family], 1)  # the first may come before the way is known
    got, failed = {4: [], 6: []}, []

    def load(family):
        try:
            got[family] += fetch(site.client, SERVICE[family], 800)
        except Exception as error:  # pylint: disable=broad-except # told by the test itself
            failed.append(error)

    threads = [threading.Thread(target=load, args=(family,)) for family in (4, 4, 6, 6)]
    for thread in threads:
        thread.start()
    site.agent.stop(signal.SIGKILL)
    site.agent.start()
    for thread in threads:
        thread.join()
    expect(not failed, f"connections that failed: {failed}")
    for family in (4, 6):
        counts = [got[family].count(name) for name in site.backends]
        expect(sum(counts) == 1600 and min(counts) > 600, f"who answered: {counts}")
        lost = services(site.agent, name=f"web{family}")[0]["lost"]
        expect_equal(lost["no_port"], 0, f"ports that were not there: {lost}")
    expect(all(server.process.poll() is None for server in servers), "nginx is there")
    site.agent.losses()


@test()
def connections_outlive_the_agent(lab):
    """connections go on on their backends while the agent is dead and with the next one; new ones work without it"""
    site = Site(lab)
    for family in (4, 6):
        site.add(family)
        site.reached(family)
    connections = [(family, site.connect(family)) for family in (4, 6) for _ in range(8)]
    before = [site.ask(sock) for _, sock in connections]
    expect_equal({answer[0] for answer in before}, set(site.backends), "who has them")
    site.agent.stop(signal.SIGKILL)
    expect_equal([site.ask(sock) for _, sock in connections], before, "who has them without an agent")
    expect_equal({site.ask_once(6)[0] for _ in range(20)}, set(site.backends), "who gets new ones without an agent")
    site.agent.start()
    expect_equal([site.ask(sock) for _, sock in connections], before, "who has them with the next one")
    expect_equal({site.ask_once(4)[0] for _ in range(20)}, set(site.backends), "who gets new ones with the next one")
    for _, sock in connections:
        sock.close()


@test()
def icmp_and_fragments(lab):
    """echo requests, datagrams in fragments and errors cross nat in both directions, in both families"""
    site = Site(lab)
    for family in (4, 6):
        add(site.agent, f"all{family} {SERVICE[family]} to {site.backends['b11'].address[family]} deliver nat")
        ping = ["ping", "-c", 3, "-i", 0.2, "-W", 2, SERVICE[family]]
        wait_for(lambda ping=ping: site.client.run(*ping, check=False).returncode == 0, 15, "ping")
        large = site.client.run("ping", "-c", 1, "-W", 2, "-s", 4000, SERVICE[family], check=False)
        expect_equal(large.returncode, 0, f"ping in fragments: {large.stdout}")
        with site.client:
            sock = socket.socket(address_family(SERVICE[family]), socket.SOCK_DGRAM)
        with sock:
            sock.settimeout(5)
            sock.connect((SERVICE[family], PORT))
            expect_equal(site.ask(sock, 5000)[3], 5000, "bytes in fragments")
            sock.connect((SERVICE[family], 9))  # nobody is there, and the backend says so
            sock.send(b"x")
            try:
                sock.recv(10)
                refused = False
            except ConnectionRefusedError:
                refused = True
            expect(refused, "the client is told that nobody is there")


def transfer(site, family, size=200000):
    """So many bytes to the backend on one connection, and what it says about them."""
    with site.connect(family, seconds=10) as sock:
        sender = threading.Thread(target=sock.sendall, args=(b"x" * size,))
        sender.start()
        got, said = 0, b""
        while got < size:
            said += sock.recv(65536)
            *lines, said = said.split(b"\n")
            got += sum(int(line.split()[3]) for line in lines)
        sender.join()
    expect_equal(got, size, "bytes that the backend has got")


@test()
def path_mtu(lab):
    """senders on either side whose packets do not fit the link of the other are told so by weir and send smaller ones; as
    well through generic XDP, where checksums stay the kernel's to make"""
    site = Site(lab, config="xdp: generic\n")
    # nothing larger than a packet is to be seen at XDP
    for namespace, link in ((site.client, "c0"), *((b.namespace, "b0") for b in site.backends.values())):
        namespace.offload(link, False)
    for family in (4, 6):
        site.add(family)
        site.reached(family)
        transfer(site, family)
    for backend in site.backends.values():
        site.host.ip("link", "set", backend.link, "mtu", 1400)
    for family in (4, 6):
        transfer(site, family)
        lost = services(site.agent, name=f"s{family}")[0]["lost"]
        expect(lost["too_big"] >= 1, f"packets that did not fit: {lost}")
    for backend in site.backends.values():
        site.host.ip("link", "set", backend.link, "mtu", 1500)
    site.host.ip("link", "set", "w0", "mtu", 1400)
    # what the client has learned it would offer as its MSS
    site.client.ip("route", "flush", "cache")
    site.client.ip("-6", "route", "flush", "cache")
    for family in (4, 6):
        before = services(site.agent, name=f"s{family}")[0]["lost"]["too_big"]
        expect_equal(site.page(family), 200000, "bytes that the client has got")
        expect(services(site.agent, name=f"s{family}")[0]["lost"]["too_big"] > before, "the backend was told")


@test()
def one_interface(lab):
    """client and backend behind one interface: packets go out where they came in, both ways"""
    site = Site(lab, count=1, config="xdp: generic\n")
    inner = lab.namespace("inner")
    lab.pair(site.client, "c1", inner, "i0", 21)
    site.client.sysctl("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
    inner.ip("route", "add", "default", "via", "10.21.0.1")
    inner.ip("-6", "route", "add", "default", "via", "fd00:21::1")
    site.host.ip("route", "add", "10.21.0.0/24", "via", "10.1.0.2")
    site.host.ip("-6", "route", "add", "fd00:21::/64", "via", "fd00:1::2")
    for family, address in ((4, "10.21.0.2"), (6, "fd00:21::2")):
        with inner:
            listener = socket.create_server((address, PORT), family=address_family(address))
        add(site.agent, f"s{family} tcp {SERVICE[family]} port 80 to {address} port {PORT} deliver nat")
        with listener, site.connect(family) as sock:
            got, who = listener.accept()
            with got:
                expect_equal(who[0], {4: "10.1.0.1", 6: "fd00:1::1"}[family], "whom the backend sees")
                got.sendall(b"well")
                expect_equal(sock.recv(10), b"well", "the answer")
                sock.sendall(b"said")
                expect_equal(got.recv(10), b"said", "and what is said to it")


@test()
def addresses_and_ports(lab):
    """nat sends from the addresses and ports that the service or the configuration names; what comes there for nobody is
    the host's own"""
    site = Site(lab, count=1, config="balance: {nat: {from: [10.11.0.101, 'fd00:11::101'], ports: 50000-50009}}\n")
    for number in (101, 102, 103):
        site.host.ip("addr", "add", f"10.11.0.{number}/32", "dev", "w11")
        site.host.ip("-6", "addr", "add", f"fd00:11::{number}/128", "dev", "w11", "nodad")
    shown = site.add(4)["backends"][0]
    expect_equal((shown["from"], shown["from_ports"]), ("10.11.0.101", "50000-50009"), "what is shown")
    shown = site.add(6, options="from fd00:11::102-fd00:11::103 ports 51000-51001")["backends"][0]
    expect_equal((shown["from"], shown["from_ports"]), ("fd00:11::102-fd00:11::103", "51000-51001"), "what is shown")
    told = site.agent.weir("service", "show", "s4").stdout
    expect("sent to 10.11.0.2:8080 from 10.11.0.101, ports 50000-50009\n" in told, told)
    for family, wanted in ((4, {("10.11.0.101", port) for port in range(50000, 50010)}),
                           (6, {(f"fd00:11::{number}", port) for number in (102, 103) for port in (51000, 51001)})):
        site.reached(family)
        seen = {site.ask_once(family)[1:3] for _ in range(3)}
        expect(seen <= wanted, f"whom the backend sees: {seen}")
    # where answers would not be seen
    lab.pair(site.host, "unseen", lab.namespace("other"), "o0", 31)
    refused(site.agent, 400, "an interface that is not watched", "POST", "/v1/services/add",
            text=f"far tcp {SERVICE[4]} port 81 to 10.31.0.2 deliver nat")
    # a connection of the host itself from a port of that range
    backend = site.backends["b11"]
    with site.host:
        own = socket.socket()
    with own:
        own.settimeout(5)
        own.bind(("10.11.0.101", 50010))
        own.connect((backend.address[4], PORT))
        expect_equal(site.ask(own)[1:3], ("10.11.0.101", 50010), "the host's own connection")
    expect_equal(backend.namespace.run("ping", "-c", 1, "-W", 2, "10.11.0.101", check=False).returncode, 0, "ping to it")


@test("vm-6.12")
def who_sends_from_too_far_is_told(lab):
    """a client of either family whose packet has no hop left behind weir is told so, over UDP and TCP; with one more it is
    answered (generic XDP, which sends back on a veth pair whatever the other end has)"""
    site = Site(lab, count=1, config="xdp: generic\n")
    for family in (4, 6):
        site.add(family, protocol="")
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            site.reached(family, kind)
            for hops in (1, 2):
                with site.client, socket.socket(address_family(SERVICE[family]), kind) as sock:
                    sock.settimeout(5)
                    level, hop_limit, errors = ((socket.IPPROTO_IP, socket.IP_TTL, 11) if family == 4 else
                                                (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 25))
                    sock.setsockopt(level, hop_limit, hops)
                    sock.setsockopt(level, errors, 1)  # IP_RECVERR, IPV6_RECVERR
                    try:
                        sock.connect((SERVICE[family], 80))
                        got = site.ask(sock)[0]
                    except OSError as error:
                        got = error.errno
                expect_equal(got, errno.EHOSTUNREACH if hops == 1 else "b11", f"IPv{family}, {kind.name}, {hops} hops")
    lost = {service["name"]: service["lost"]["ttl"] for service in services(site.agent)}
    expect(all(lost.values()), f"counted: {lost}")

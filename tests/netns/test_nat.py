# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Services that are delivered by nat, with real peers: backends that know nothing of clients, services or weir."""

import contextlib
import signal
import socket
import threading

from lab import address_family, expect, expect_equal, wait_for
from suite import test
from test_balancing import SERVICE, by_backend
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
        threading.Thread(target=self.talk, args=(connection, who), daemon=True).start()

    def talk(self, connection, who):
        with contextlib.suppress(OSError), connection:
            while said := connection.recv(65536):
                connection.sendall(f"{self.name} {who[0]} {who[1]} {len(said)}\n".encode())

    def answer(self, datagrams):
        said, who = datagrams.recvfrom(65536)
        if not who:
            raise OSError("closed")
        datagrams.sendto(f"{self.name} {who[0]} {who[1]} {len(said)}".encode(), who)


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
        return add(self.agent,
                   f"s{family} {protocol}{SERVICE[family]} port 80 to {self.to(family)} deliver nat {options}".strip())

    def connect(self, family, kind=socket.SOCK_STREAM, seconds=5):
        with self.client:
            sock = socket.socket(address_family(SERVICE[family]), kind)
        sock.settimeout(seconds)
        sock.connect((SERVICE[family], 80))
        return sock

    def ask(self, sock, size=3):
        """(backend's name, whom it saw, its port, bytes)"""
        sock.send(b"x" * size)
        name, who, port, got = sock.recv(200).decode().split()
        return name, who, int(port), int(got)

    def ask_once(self, family, kind=socket.SOCK_STREAM, size=3):
        with self.connect(family, kind) as sock:
            return self.ask(sock, size)

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

# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Services as the agent keeps them: the list, changes of backends, the way back, restarts, explain."""

import contextlib
import os
import selectors
import signal
import socket
import threading

from lab import expect, expect_equal, open_tun, udp_socket, wait_for
from suite import test
from test_rules import ask, done, refused

WEB = "web tcp 203.0.113.10 port 443 to 10.1.0.2 weight 2, 10.1.0.3"


def services(agent, **parameters):
    return done(agent, "GET", "/v1/services", **parameters)["services"]


def add(agent, text, **parameters):
    return done(agent, "POST", "/v1/services/add", text=text, **parameters)["services"][0]


def change(agent, name, text, **parameters):
    return done(agent, "POST", "/v1/services/change", name=name, text=text, **parameters)["services"][0]


def explained(agent, port, to="203.0.113.10 port 443", source="192.0.2.1"):
    packet = f"in on w0 tcp from {source} port {port} to {to}"
    return done(agent, "GET", "/v1/explain", packet=packet).get("service")


def ring(agent, ports=range(1000, 1100), **parameters):
    """Where new connections of these ports would go."""
    return {port: explained(agent, port, **parameters).get("backend") for port in ports}


def backends(service):
    return {entry["address"]: entry for entry in service["backends"]}


@test()
def services_are_listed(lab):
    """a service is listed with its backends, its sentence and what was counted; in the status, the metrics and the audit
    trail, too; deleted it is nowhere any more"""
    host, _ = lab.hosts()
    agent = lab.agent(host, "interfaces: [w0, lo]\n")
    agent.wait_watched("lo")
    expect_equal(services(agent), [], "none")
    web = add(agent, WEB)
    expect_equal((web["name"], web["address"], web["port"], web["proto"], web["deliver"], web["choice"], web["slots"]),
                 ("web", "203.0.113.10", 443, "tcp", "ipip", "maglev", 65537), "what the sentence says")
    expect_equal([(entry["address"], entry["port"], entry["weight"], entry["state"], entry["share_wanted"])
                  for entry in web["backends"]],
                 [("10.1.0.2", 443, 2, "up", 0.6667), ("10.1.0.3", 443, 1, "up", 0.3333)], "backends")
    expect_equal([entry["interface"] for entry in web["hooks"]], ["w0"], "where it is balanced: not at lo")
    dns = add(agent, "dns udp 2001:db8::53 port 53 to fd00:1::2 deliver l2")
    done(agent, "POST", "/v1/rules/add", text="drop in udp to port 9")
    agent.weir("forward", "from", "w0", "by", "route")
    expect_equal(done(agent, "POST", "/v1/rules/flush")["deleted"], 1, "rules that were deleted: services stay")
    expect("from w0 by route" in agent.weir("forwards").stdout, "what is forwarded went, too")
    expect_equal([entry["name"] for entry in services(agent)], ["web", "dns"], "the list")
    expect_equal(services(agent, name="dns")[0]["id"], dns["id"], "one by its name")
    expect_equal(done(agent, "GET", "/v1/status")["services"]["backends"], 3, "status")
    _, page = ask(agent, "GET", "/metrics")
    expect("weir_services 2\n" in page, "services in the metrics")
    expect('weir_service_backend_up{service="web",backend="10.1.0.2",port="443"} 1\n' in page, "backends in the metrics")
    gone = done(agent, "POST", "/v1/services/delete", name="web")
    expect_equal(gone["deleted"], [{"id": web["id"], "text": web["text"]}], "what was deleted")
    done(agent, "POST", "/v1/services/delete", id=dns["id"])
    expect_equal(services(agent), [], "none any more")
    trail = [entry["what"] for entry in done(agent, "GET", "/v1/audit")["audit"] if entry["kind"] == "change"]
    expect(trail and trail[0].startswith("service web tcp"), f"the audit trail: {trail}")


@test()
def connections_of_a_service_are_its_own(lab):
    """a service that comes after another one was deleted has none of that one's connections, whatever numbers its backends got"""
    host, peer = lab.hosts()
    host.sysctl("net.ipv4.ip_forward=1")
    peer.ip("route", "add", "203.0.113.0/24", "via", "10.1.0.1")
    agent = lab.agent(host, "xdp: generic\n")
    for name in ("one", "two"):
        add(agent, f"{name} udp 203.0.113.1 port 53 to 10.1.0.2")
        expect_equal(services(agent)[0]["connections"], 0, f"connections of {name}, which is new")
        for port in range(3000, 3008):
            with udp_socket(peer, "10.1.0.2", port) as sock:
                sock.sendto(b"x", ("203.0.113.1", 53))
        wait_for(lambda: services(agent)[0]["connections"] == 8, 5, "connections that are there")
        done(agent, "POST", "/v1/services/delete", name=name)


@test()
def bad_services_are_refused(lab):
    """what cannot be is refused in one line that says what would be right, and nothing has changed"""
    host, _ = lab.hosts()
    tun = open_tun(host, "t9")
    lab.on_close(lambda: os.close(tun))
    host.ip("link", "set", "t9", "up")
    host.ip("route", "add", "10.9.0.0/24", "dev", "t9")
    agent = lab.agent(host)
    add(agent, WEB)
    before = services(agent)
    for status, what, text in (
            (400, "203.0.113.10, port 443 is service web already", "other tcp 203.0.113.10 port 443 to 10.1.0.4"),
            (400, "there is a service web already", "web tcp 203.0.113.11 port 443 to 10.1.0.4"),
            (400, "there is no route to 198.51.100.1", "far tcp 203.0.113.11 port 443 to 198.51.100.1"),
            (400, "10.1.0.1 is an address of this host", "own tcp 203.0.113.11 port 443 to 10.1.0.1"),
            (400, "10.1.0.255, a backend of service all, is not the address of one host",
             "all tcp 203.0.113.11 port 443 to 10.1.0.255"),
            (400, "10.9.0.2 is reached by t9, which has no Ethernet header", "tun tcp 203.0.113.11 port 443 to 10.9.0.2"),
            (400, "10.1.0.2 is IPv4, but ipip does not carry IPv6", "six tcp 2001:db8::1 port 443 to 10.1.0.2"),
            (400, "fd00:1::2 is IPv6, but the service IPv4", "l2 tcp 203.0.113.11 port 443 to fd00:1::2 deliver l2"),
            (400, "fd00:1::2 is IPv6, but the service IPv4", "nat tcp 203.0.113.11 port 443 to fd00:1::2 deliver nat"),
            (400, "70000 is too much", "much tcp 203.0.113.11 port 443 to 10.1.0.2 weight 70000"),
            (400, "expected a weight, got '-1'", "less tcp 203.0.113.11 port 443 to 10.1.0.2 weight -1"),
            (400, "a second backend 10.1.0.2", "twice tcp 203.0.113.11 port 443 to 10.1.0.2, 10.1.0.2"),
    ):
        refused(agent, status, what, "POST", "/v1/services/add", text=text)
    refused(agent, 404, "'web'", "POST", "/v1/services/change", name="wep", text="drain 10.1.0.2")
    refused(agent, 400, "10.1.0.9", "POST", "/v1/services/change", name="web", text="drain 10.1.0.9")
    refused(agent, 400, "65536 is too much", "POST", "/v1/services/change", name="web", text="set 10.1.0.2 weight 65536")
    refused(agent, 404, "no service 'x'", "POST", "/v1/services/delete", name="x")
    refused(agent, 400, "'name' is missing", "POST", "/v1/services/delete")
    host.ip("route", "add", "198.51.100.0/24", "via", "10.1.0.2")
    refused(agent, 400, "behind a gateway", "POST", "/v1/services/add",
            text="far tcp 203.0.113.11 port 443 to 198.51.100.1 deliver l2")
    far = "services:\n  - \"a tcp 203.0.113.12 port 80 to 10.1.0.2\"\n  - b tcp 203.0.113.13 port 80 to 192.0.2.7\n"
    error = refused(agent, 400, "there is no route to 192.0.2.7", "POST", "/v1/policy", far, name="p.yaml")
    expect_equal((error["file"], error["line"], error["column"]), ("p.yaml", 3, 5), "where it says so")
    expect_equal([entry["text"] for entry in services(agent)], [entry["text"] for entry in before], "nothing has changed")


@test()
def new_connections_follow_the_backends(lab):
    """weights, drains, additions and removals change where new connections go, and of the others' hardly any; the service
    keeps its id, and a backend its numbers"""
    host, _ = lab.hosts()
    agent = lab.agent(host)
    web = add(agent, WEB)
    first = ring(agent)
    expect_equal(set(first.values()), {"10.1.0.2", "10.1.0.3"}, "both get some")
    drained = change(agent, "web", "drain 10.1.0.2")
    expect_equal((drained["id"], backends(drained)["10.1.0.2"]["state"]), (web["id"], "draining"), "the drained one")
    expect_equal(set(ring(agent).values()), {"10.1.0.3"}, "new connections while it drains")
    change(agent, "web", "undrain 10.1.0.2")
    expect_equal(ring(agent), first, "the ring is the same again")
    change(agent, "web", "add 10.1.0.4 weight 3")
    more = ring(agent)
    moved = [port for port in first if more[port] != first[port] and more[port] != "10.1.0.4"]
    expect(len(moved) <= 3, f"of {len(first)} connections that do not go to the new backend these moved: {moved}")
    expect_equal(backends(services(agent)[0])["10.1.0.4"]["share_wanted"], 0.5, "its share")
    change(agent, "web", "remove 10.1.0.4")
    expect_equal(ring(agent), first, "without it all is as before")
    change(agent, "web", "set 10.1.0.2 weight 0")
    expect_equal(set(ring(agent).values()), {"10.1.0.3"}, "without weight")
    change(agent, "web", "drain 10.1.0.3")
    expect_equal(explained(agent, 1000)["why"], "no backend gets new connections", "none is left")


@test()
def explain_knows_what_is_asked_before(lab):
    """explain says that a packet goes to its service though a rule in tc would drop it, which is not asked, and that it does not
    where a rule in XDP drops it before; without a backend it is dropped; of least it names the backend with the fewest"""
    host, _ = lab.hosts()
    agent = lab.agent(host, "default: {in: drop}\n")
    words = "in on w0 tcp from 192.0.2.1 port 4000 to 203.0.113.10 port 443"

    def told():
        return done(agent, "GET", "/v1/explain", packet=words), agent.weir("explain", *words.split()).stdout

    add(agent, WEB)
    answer, text = told()
    expect_equal((answer["verdict"], answer["hook"], "unasked" in answer), ("accept", answer["service"]["hook"], False),
                 "the default verdict is not asked")
    expect(text.startswith("service 1, web: 10.1.0.") and "drop" not in text, text)
    added = done(agent, "POST", "/v1/rules/add", text="drop in tcp to port 443 state new")
    rule = added["rules"][0]
    expect(any("does not see what service web takes" in warning for warning in added["warnings"]), f"no warning: {added}")
    answer, text = told()
    expect_equal((answer["verdict"], answer["unasked"]), ("accept", {"id": rule["id"], "text": rule["text"]}), "a rule in tc")
    expect("not asked, since it is taken before: rule" in text, text)
    done(agent, "POST", "/v1/rules/delete", id=rule["id"])
    added = done(agent, "POST", "/v1/rules/add", text="limit in tcp to 203.0.113.10 port 443 to 1mbit")
    expect(any("does not see what service web takes" in warning for warning in added["warnings"]), f"a class: {added}")
    done(agent, "POST", "/v1/rules/delete", id=added["rules"][0]["id"])
    for other in ("drop in tcp to port 444 state new", "drop in udp to port 443 state new", "accept in tcp to port 443",
                  "drop in tcp to 203.0.113.11 port 443 state new"):
        added = done(agent, "POST", "/v1/rules/add", text=other)
        expect(not any("service" in warning for warning in added["warnings"]), f"{other}: {added}")
        done(agent, "POST", "/v1/rules/delete", id=added["rules"][0]["id"])
    rule = done(agent, "POST", "/v1/rules/add", text="drop in tcp to port 443")["rules"][0]
    answer, text = told()
    expect_equal((answer["verdict"], answer["hook"], "service" in answer), ("drop", "xdp", False), "a rule in XDP")
    expect(text.startswith("drop by rule"), text)
    done(agent, "POST", "/v1/rules/delete", id=rule["id"])
    for name in ("10.1.0.2", "10.1.0.3"):
        change(agent, "web", f"drain {name}")
    answer, text = told()
    expect_equal((answer["verdict"], "backend" in answer["service"]), ("drop", False), "without a backend")
    expect("no backend" in text, text)
    done(agent, "POST", "/v1/services/delete", name="web")
    for choice, wanted, shown in (("least", "10.1.0.2", "10.1.0.2"), ("turns", None, "the next in turn")):
        add(agent, f"{choice} {WEB[4:]} choose {choice}")
        answer, text = told()
        expect_equal((answer["verdict"], answer["service"].get("backend")), ("accept", wanted), choice)
        expect(shown in text, text)
        done(agent, "POST", "/v1/services/delete", name=choice)


@test()
def services_that_are_not_balanced_say_so(lab):
    """switched off, services are listed as not balanced, with the reason, and explain says that the host gets their packets"""
    host, _ = lab.hosts()
    agent = lab.agent(host, f"balance: {{hook: off}}\nservices:\n  - {WEB}\n")
    expect("not balanced: off" in agent.weir("services").stdout, "the list")
    expect("not balanced: balance.hook is off" in agent.weir("service", "show", "web").stdout, "one")
    text = agent.weir("explain", *"in on w0 tcp from 192.0.2.1 to 203.0.113.10 port 443".split()).stdout
    expect("but not balanced here" in text and "accept by default" in text, text)


@test()
def services_outlive_the_agent(lab):
    """killed and started anew the agent finds its services: the same ids, the same rings, what was drained drains"""
    host, _ = lab.hosts()
    agent = lab.agent(host)
    add(agent, WEB)
    add(agent, "all 203.0.113.0/24 to 10.1.0.5, 10.1.0.6 deliver gue")
    change(agent, "web", "add 10.1.0.4")
    change(agent, "web", "drain 10.1.0.3")
    ports = range(1000, 1030)
    before, first = services(agent), ring(agent, ports)
    agent.stop(signal.SIGKILL)
    agent.start()
    after = services(agent)
    for key in ("id", "text", "name", "slots"):
        expect_equal([entry[key] for entry in after], [entry[key] for entry in before], key)
    expect_equal(backends(after[0])["10.1.0.3"]["state"], "draining", "what was drained")
    expect_equal(ring(agent, ports), first, "where new connections go")
    change(agent, "web", "undrain 10.1.0.3")
    expect("10.1.0.3" in ring(agent, ports).values(), "changes go on")


@test()
def rings_of_an_earlier_agent(lab):
    """an agent that was started behind one that was killed makes all the changes there may be, whatever rings that one had made
    and had no use for any more"""
    host, _ = lab.hosts()
    agent = lab.agent(host)
    for number in range(4):
        add(agent, f"s{number} tcp 203.0.113.{number} port 80 to 10.1.0.2, 10.1.0.3")
    for number in range(3):
        done(agent, "POST", "/v1/services/delete", name=f"s{number}")
    agent.stop(signal.SIGKILL)
    agent.start()
    for number in range(3):
        add(agent, f"n{number} tcp 203.0.113.{number} port 80 to 10.1.0.2 weight {number + 2}, 10.1.0.3")
        change(agent, "s3", f"set 10.1.0.2 weight {number + 2}")
    for number in range(3):
        got = ring(agent, range(1000, 1030), to=f"203.0.113.{number} port 80")
        expect_equal(set(got.values()), {"10.1.0.2", "10.1.0.3"}, f"where new connections of n{number} go")


@test()
def two_weirs_agree(lab):
    """two hosts with the same services choose the same backend for each connection, whatever the order and the history"""
    host, _ = lab.hosts()
    other = lab.namespace("other")
    third = lab.namespace("third")
    lab.pair(other, "w0", third, "p0")
    one, two = lab.agent(host), lab.agent(other, run_dir="other")
    add(two, "early tcp 203.0.113.9 port 80 to 10.1.0.7")
    add(two, "web tcp 203.0.113.10 port 443 to 10.1.0.9, 10.1.0.3 weight 1")
    change(two, "web", "add 10.1.0.2 weight 2")
    change(two, "web", "remove 10.1.0.9")
    add(one, WEB)
    add(one, "six tcp 2001:db8::1 to fd00:1::5, fd00:1::6, fd00:1::7 affinity source")
    add(two, "six tcp 2001:db8::1 to fd00:1::7, fd00:1::6, fd00:1::5 affinity source")
    expect_equal(ring(one), ring(two), "IPv4")
    six = {"to": "2001:db8::1 port 80", "source": "2001:db8:f::1"}
    expect_equal(ring(one, **six), ring(two, **six), "IPv6")
    expect_equal(len(set(ring(one, **six).values())), 1, "backends of one source with affinity")


@test()
def services_change_with_the_rules(lab):
    """a policy brings rules and services into force together; not confirmed, both are again what they were; the policy that
    is told has the services in a section of their own, and applied again it changes nothing; a service of the same name is
    the same service, whatever its sentence"""
    host, _ = lab.hosts()
    agent = lab.agent(host)
    web = add(agent, WEB)
    first = ring(agent)
    text = ("services:\n  - web tcp 203.0.113.10 port 443 to 10.1.0.2, 10.1.0.4\n"
            "  - dns udp 203.0.113.53 port 53 to 10.1.0.5\nrules:\n  - count in udp\n")
    diff = done(agent, "POST", "/v1/policy/diff", text)
    expect_equal([(line["sign"], line["text"]) for line in diff["diff"]],
                 [("~", "service web: 1 backend comes (10.1.0.4), 1 backend goes (10.1.0.3), 1 backend changes (10.1.0.2 weight 1)"),
                  ("+", "service dns udp 203.0.113.53 port 53 to 10.1.0.5"), ("+", "count in udp")], "the difference")
    done(agent, "POST", "/v1/policy", text, confirm="1s")
    expect_equal([entry["name"] for entry in services(agent)], ["web", "dns"], "while it waits")
    expect_equal(services(agent)[0]["id"], web["id"], "the id of a service whose sentence is another")
    expect_equal(set(ring(agent).values()), {"10.1.0.2", "10.1.0.4"}, "the new ring is in force")
    wait_for(lambda: len(services(agent)) == 1, 10, "not confirmed, it goes back")
    expect_equal((services(agent)[0]["id"], ring(agent)), (web["id"], first), "as before")
    done(agent, "POST", "/v1/policy", text, confirm="60s")
    done(agent, "POST", "/v1/policy/confirm")
    agent.stop(signal.SIGKILL)
    agent.start()
    expect_equal(services(agent)[0]["id"], web["id"], "confirmed, and with another agent")
    told = done(agent, "GET", "/v1/policy")
    expect_equal(done(agent, "POST", "/v1/policy/diff", told)["diff"], [], "applied again")
    done(agent, "POST", "/v1/policy/rollback")
    expect_equal([entry["name"] for entry in services(agent)], ["web"], "after a rollback")
    expect_equal(ring(agent), first, "the ring of before")


@test()
def a_hundred_services(lab):
    """a hundred services of ten backends each come with one policy; each finds its own, and a change of one leaves the
    others' rings"""
    host, _ = lab.hosts()
    agent = lab.agent(host)
    lines = [f"  - s{i} tcp 203.0.113.{i} port 443 to " + ", ".join(f"10.1.0.{10 + (i + j) % 200}" for j in range(10))
             for i in range(1, 101)]
    done(agent, "POST", "/v1/policy", "services:\n" + "\n".join(lines) + "\n")
    found = services(agent)
    expect_equal(len(found), 100, "services")
    for i in (1, 50, 100):
        expect_equal(explained(agent, 1000, to=f"203.0.113.{i} port 443")["name"], f"s{i}", "a service by its address")
    before = ring(agent, ports=range(1000, 1020), to="203.0.113.7 port 443")
    change(agent, "s50", "drain 10.1.0.60")
    expect_equal(ring(agent, ports=range(1000, 1020), to="203.0.113.7 port 443"), before, "another service's ring")


class Balanced:
    """A client behind w0, and three backends with the service's address on lo, each behind a link of its own."""

    def __init__(self, lab):
        self.lab = lab
        self.host, self.client = lab.hosts()
        self.host.sysctl("net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0")
        self.client.run("ethtool", "-K", "p0", "tx", "off")  # XDP sees sums that a local sender leaves unfinished
        self.client.ip("route", "add", "203.0.113.0/24", "via", "10.1.0.1")
        self.addresses, self.open = [], []
        for i in range(3):
            backend = lab.namespace(f"backend{i}")
            lab.pair(self.host, f"w{i + 1}", backend, "b0", number=i + 2)
            backend.run("ethtool", "-K", "b0", "gro", "on")  # redirected packets wait for nobody
            backend.ip("link", "set", "lo", "up")
            backend.ip("addr", "add", "203.0.113.10/32", "dev", "lo")
            backend.ip("route", "add", "10.1.0.0/24", "via", f"10.{i + 2}.0.1")
            backend.sysctl("net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.b0.rp_filter=0")
            self.addresses.append(f"10.{i + 2}.0.2")
            with backend:
                server = socket.create_server(("203.0.113.10", 80), backlog=200)
            lab.on_close(server.close)
            threading.Thread(target=self.serve, args=(server, self.addresses[-1].encode()), daemon=True).start()

    @staticmethod
    def serve(server, name):
        """Whoever sends anything is told who this is, as long as the connection lasts."""
        taken = selectors.DefaultSelector()
        taken.register(server, selectors.EVENT_READ)
        with contextlib.suppress(OSError, ValueError):
            while server.fileno() >= 0:
                for key, _ in taken.select(0.2):
                    if key.fileobj is server:
                        taken.register(server.accept()[0], selectors.EVENT_READ)
                    elif key.fileobj.recv(100):
                        key.fileobj.send(name)
                    else:
                        taken.unregister(key.fileobj)
                        key.fileobj.close()

    def connect(self, count):
        """So many connections, as (socket, backend)."""
        made = []
        for _ in range(count):
            with self.client:
                connection = socket.socket()
            connection.settimeout(5)
            self.lab.on_close(connection.close)
            connection.connect(("203.0.113.10", 80))
            made.append((connection, self.who(connection)))
        return made

    @staticmethod
    def who(connection):
        connection.send(b"?")
        return connection.recv(100).decode()

    def moved(self, connections):
        """Those that are not any more where they were."""
        found = []
        for connection, backend in connections:
            try:
                if self.who(connection) != backend:
                    found.append(backend)
            except OSError as error:
                found.append(f"{backend}: {error}")
        return found


@test()
def connections_survive_changes(lab):
    """established connections stay on their backend while backends are drained, added and set other weights, another one is
    removed, a change is not confirmed, and the agent is killed and started; new ones follow the ring"""
    scene = Balanced(lab)
    # so small a flow cache forgets connections all the time
    agent = lab.agent(scene.host, "interfaces: [w0]\nflows: {cache: {ipv4: 64}}\n")
    one, two, three = scene.addresses
    add(agent, f"web tcp 203.0.113.10 port 80 to {one} weight 2, {two} deliver l2")
    connections = scene.connect(40)
    expect_equal({backend for _, backend in connections}, {one, two}, "who has connections")
    for text in (f"drain {one}", f"add {three} weight 3", f"undrain {one}", f"set {one} weight 5"):
        change(agent, "web", text)
        expect_equal(scene.moved(connections), [], f"moved by: {text}")
    later = scene.connect(40)
    expect(three in {backend for _, backend in later}, "new connections go to the new backend, too")
    change(agent, "web", f"drain {three}", confirm="1s")
    waiting = scene.connect(20)
    expect(three not in {backend for _, backend in waiting}, "none goes to the one that drains")
    wait_for(lambda: backends(services(agent)[0])[three]["state"] == "up", 10, "the change lapses")
    everybody = connections + later + waiting
    expect_equal(scene.moved(everybody), [], "moved when the change lapsed")
    agent.stop(signal.SIGKILL)
    expect_equal(scene.moved(everybody), [], "moved when the agent was killed")
    agent.start()
    change(agent, "web", f"remove {three}")
    stay = [entry for entry in everybody if entry[1] != three]
    expect_equal(scene.moved(stay), [], "moved when another backend was removed")
    web = services(agent)[0]
    expect_equal(web["began"], sum(1 for entry in everybody if entry[1] != three), "connections that began")
    expect_equal(sum(web["lost"].values()), 0, f"lost: {web['lost']}")
    expect_equal(web["connections"], len(stay), "connections now")

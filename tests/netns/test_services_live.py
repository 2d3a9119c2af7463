# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Services under real traffic: thousands of connections, floods, several weirs, and changes meanwhile."""

import json
import os
import random
import signal
import socket
import struct
import threading
import time
import urllib.parse

import pcap
from farm import MAC, SERVICE, SOURCES, Farm
from lab import UnixConnection, address_family, expect, expect_equal, need_kernel, send_frames, wait_for
from suite import test
from test_services import services

# what the flow cache knows of connections is soon pushed out by others
FORGETFUL = "interfaces: [w0]\nflows: {cache: {ipv4: 64}}\n"


def all_done(answers, what):
    """Every connection was answered, and by whom it was before."""
    for answer in answers:
        expect_equal(answer["of"], {}, f"connections that broke {what}: {answer}")


def everybody(crowds, *words):
    """Tells all of them the same, at the same time."""
    for crowd in crowds:
        crowd.tell(*words)
    return [crowd.hear() for crowd in crowds]


def shares(answer):
    total = sum(answer["by"].values())
    return {name: count / total for name, count in sorted(answer["by"].items())}


def near(got, wanted, what):
    """Within two hundredths."""
    expect_equal(set(got), set(wanted), what)
    for name, share in wanted.items():
        expect(abs(got[name] - share) <= 0.02, f"{what}: the share of {name} is {got[name]}, not {share}")


def one_cpu():
    """All packets of a connection on one CPU, as a card would have it."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def single(answer):
    """The backend that answered all of them."""
    expect_equal((len(answer["by"]), answer["of"]), (1, {}), f"backends of one source: {answer}")
    return next(iter(answer["by"]))


def connection_id(number):
    """One of eight bytes that names a server: 01, and 16 bits."""
    return struct.pack(">I", 1 << 30 | number << 14) + b"rest"


def syn(source, port):
    """A frame to the first weir's service; whoever gets it drops it: its sum is wrong."""
    return pcap.ethernet(pcap.ipv4(socket.IPPROTO_TCP, pcap.tcp(port, 80, 2), source, SERVICE[4]), destination=MAC.format(2))


@test(seconds=60)
def thousands_of_connections(lab):
    """of thousands of connections, over TCP and UDP of both families, none of a living backend breaks while backends are
    added, drained, given weights, killed and removed, and the agent is killed and comes back; new ones follow the weights"""
    farm = Farm(lab)
    for family in (4, 6):
        farm.add(f"web{family} tcp {SERVICE[family]} port 80 to {farm.to(family, b1=1, b2=2)} check tcp every 200ms fall 2")
        farm.add(f"dns{family} udp {SERVICE[family]} port 80 to {farm.to(family, b1=1, b2=2)}")
    names = ("web4", "web6", "dns4", "dns6")
    crowds = [farm.crowd(proto, family) for proto in ("tcp", "udp") for family in (4, 6)]
    passing = farm.crowd()
    all_done(everybody(crowds, "open", 500), "when they began")

    def change(text, gone=()):
        """Those that are held ask and others come and go, while it changes; and those that are held ask again."""
        for crowd in crowds:
            crowd.tell("ask")
        passing.tell("short", 1000)
        for name in names:
            backend = farm.backends[text.split()[1]].address[int(name[-1])]
            farm.change(name, " ".join([text.split()[0], backend, *text.split()[2:]]))
        answers = [crowd.hear() for crowd in crowds] + everybody(crowds, "ask")
        for answer in answers:
            expect(set(answer["of"]) <= set(gone), f"connections that broke with {text}: {answer}")
        answer = passing.hear()
        expect(gone or answer["done"] == 1000, f"connections that came with {text}: {answer}")

    change("add b3 weight 3")
    all_done(everybody(crowds, "open", 500), "when they began, with three")
    near(shares(passing.do("short", 12000)), {"b1": 1 / 6, "b2": 2 / 6, "b3": 3 / 6}, "shares")
    change("drain b1")
    near(shares(passing.do("short", 12000)), {"b2": 2 / 5, "b3": 3 / 5}, "shares, with one that drains")
    change("set b2 weight 6")
    all_done(everybody(crowds, "open", 200), "when they began, with another weight")
    farm.agent.stop(signal.SIGKILL)
    all_done(everybody(crowds, "ask"), "without an agent")
    all_done(everybody(crowds, "open", 200), "when they began, without an agent")
    farm.agent.start()
    all_done(everybody(crowds, "ask"), "with another agent")
    change("undrain b1")
    change("remove b3", gone=["b3"])
    near(shares(passing.do("short", 12000)), {"b1": 1 / 7, "b2": 6 / 7}, "shares, without one")
    for service in services(farm.agent):
        expect_equal({loss: count for loss, count in service["lost"].items() if count and loss != "no_neighbour"}, {},
                     f"what {service['name']} has lost")
    farm.agent.losses()


@test(seconds=60)
def floods_push_nobody_out(lab):
    """floods of SYNs, of ACKs and of datagrams from a hundred thousand sources cost no established connection while the
    ring changes, and none of TCP that begins meanwhile, however little memory there is for them"""
    farm = Farm(lab, config=FORGETFUL + "balance: {flows: 4096}\n")
    farm.add(f"web tcp {SERVICE[4]} port 80 to {farm.to(4, b1=1, b2=1)}")
    farm.add(f"dns udp {SERVICE[4]} port 80 to {farm.to(4, b1=1, b2=1)} choose turns")
    crowds, late = [farm.crowd("tcp"), farm.crowd("udp")], farm.crowd("udp")
    all_done(everybody(crowds, "open", 300), "when they began")
    all_done(everybody(crowds, "ask"), "before the floods")  # what has sent one packet alone might be of one

    def flood(kind):
        count = int(100000 * lab.scale)
        return farm.router.start(lab.tool("flood"), "br0", MAC.format(2), SERVICE[4], 80, kind, count, count)

    for step, text in (("first", f"add {farm.to(4, b3=2)}"), ("second", f"set {farm.to(4, b1=5)}")):
        floods = [flood(kind) for kind in ("syn", "ack", "udp")]
        for name in ("web", "dns"):
            farm.change(name, text)
        all_done(everybody(crowds, "ask"), f"in the {step} flood")
        all_done([crowds[0].do("open", 300), late.do("open", 300)], f"when they began in the {step} flood")
        all_done(everybody(crowds, "ask"), f"once more in the {step} flood")
        # a datagram alone might be of the flood, and is forgotten with it: the next one then begins anew, maybe elsewhere
        answer = late.do("ask")
        expect_equal((answer["reset"], answer["silent"]), (0, 0), f"datagrams that nobody answered in the {step} flood")
        for one in floods:
            one.wait(40)
        all_done(everybody(crowds, "ask"), f"behind the {step} flood")


@test()
def sources_stay(lab):
    """with affinity all connections of a source go to one backend: also when a change would have its new ones go elsewhere, but
    not to one that drains; each connection stays where it is all the while"""
    farm = Farm(lab)
    farm.add(f"web tcp {SERVICE[4]} port 80 to {farm.to(4, b1=1, b2=1)} affinity source")
    crowds = [farm.crowd(sources=[source]) for source in SOURCES[4]]
    of = [single(answer) for answer in everybody(crowds, "open", 20)]
    expect_equal(set(of), {"b1", "b2"}, "backends of ten sources")
    for text in (f"add {farm.to(4, b3=9)}", f"set {farm.to(4, b1=7)}"):
        farm.change("web", text)
        all_done(everybody(crowds, "ask"), f"with {text}")
        expect_equal([single(answer) for answer in everybody(crowds, "open", 20)], of, f"backends of new ones with {text}")
        all_done(everybody(crowds, "ask"), f"behind {text}")
    everybody(crowds, "short", 5)
    expect_equal([single(answer) for answer in everybody(crowds, "short", 5)], of, "backends when others of theirs have ended")
    farm.change("web", f"drain {farm.backends['b1'].address[4]}")
    new = [single(answer) for answer in everybody(crowds, "short", 5)]
    expect("b1" not in new, f"new connections while b1 drains: {new}")
    expect_equal([name for name, was in zip(new, of) if was == "b2"], ["b2"] * of.count("b2"), "sources of another one")
    all_done(everybody(crowds, "ask"), "while one drains")
    expect_equal([single(answer) for answer in everybody(crowds, "short", 5)], new, "where those of b1 go now")


@test()
def the_fewest_connections_and_turns(lab):
    """least evens connections out, by weight, also when a backend has come or lost many; turns goes around exactly by weight;
    both keep each connection where it is"""
    farm = Farm(lab, config=FORGETFUL, ports=(80, 81))
    farm.add(f"least tcp {SERVICE[4]} port 80 to {farm.to(4, b1=1, b2=1)} choose least")
    farm.add(f"turns tcp {SERVICE[4]} port 81 to {farm.to(4, b1=1, b2=2)} choose turns")
    least, turns = farm.crowd(), farm.crowd(port=81)
    expect_equal(turns.do("open", 90)["by"], {"b1": 30, "b2": 60}, "turns")
    expect_equal(least.do("open", 100)["by"], {"b1": 50, "b2": 50}, "the fewest of two")
    for name in ("least", "turns"):
        farm.change(name, f"add {farm.to(4, b3=1)}")
    expect_equal(least.do("open", 50)["by"], {"b3": 50}, "the fewest: the new one")
    expect_equal(turns.do("open", 80)["by"], {"b1": 20, "b2": 40, "b3": 20}, "turns of three")
    least.do("forget", "b1")
    expect_equal(least.do("open", 50)["by"], {"b1": 50}, "the fewest: the one that lost its own")
    farm.change("least", f"set {farm.to(4, b2=3)}")
    expect_equal(least.do("open", 100)["by"], {"b2": 100}, "the fewest for its weight")
    all_done(everybody([least, turns], "ask"), "after all")


@test()
def strangers_move_nothing(lab):
    """SYNs that somebody else sends in the name of connections that live do not move them, though the ring has their slots
    elsewhere by now"""
    one_cpu()
    farm = Farm(lab)
    farm.add(f"web tcp {SERVICE[4]} port 80 to {farm.to(4, b1=1, b2=1)}")
    crowd = farm.crowd(sources=SOURCES[4][:1])
    farm.client.sysctl("net.ipv4.ip_local_port_range=20000 20999")
    all_done([crowd.do("open", 500)], "when they began")
    farm.change("web", f"add {farm.to(4, b3=9)}")
    send_frames(farm.router, "br0", [syn(SOURCES[4][0], port) for port in range(20000, 21000)])
    all_done([crowd.do("ask")], "behind a stranger's SYNs")


@test()
def ends_are_used_again(lab):
    """new connections from addresses and ports that others had a second before are answered, one and all, though the ring has
    them elsewhere by now, and a connection's packets come by several CPUs, each of which knows something else of its ends"""
    farm = Farm(lab)
    farm.add(f"web tcp {SERVICE[4]} port 80 to {farm.to(4, b1=1, b2=9)}")
    farm.client.sysctl("net.ipv4.ip_local_port_range=20000 22999", "net.ipv4.tcp_tw_reuse=1")
    crowd = farm.crowd(sources=SOURCES[4][:1])
    all_done([crowd.do("short", 2000)], "at first")
    for weight in (36, 9, 36, 3, 9, 100):
        farm.change("web", f"set {farm.to(4, b1=weight)}")
        time.sleep(1.1)  # as long as a client waits before it uses ends again
        all_done([crowd.do("short", 1000)], f"with weight {weight}")


@test()
def ends_of_a_backend_that_went(lab):
    """a connection whose backend was taken away is reset; one that its client then makes from the same address and port goes where
    new ones go, and not to where the connections stay that are older than the changes: that one drains"""
    one_cpu()
    farm = Farm(lab)
    for family in (4, 6):
        farm.add(f"web{family} tcp {SERVICE[family]} port 80 to {farm.to(family, b1=1)}")
    # nearly all ports there are are taken: new connections get those of the ones that end
    farm.client.sysctl("net.ipv4.ip_local_port_range=20000 20499")
    crowds = {family: farm.crowd(family=family, sources=SOURCES[family][:1]) for family in (4, 6)}
    for family, crowd in crowds.items():
        all_done([crowd.do("short", 1)], "at first")
        for more in ({"b2": 1}, {"b3": 9}):
            farm.change(f"web{family}", f"add {farm.to(family, **more)}")
        began = crowd.do("open", 450)
        all_done([began], "when they began")
        farm.change(f"web{family}", f"drain {farm.backends['b1'].address[family]}")
        farm.change(f"web{family}", f"remove {farm.backends['b3'].address[family]}")
        expect_equal(crowd.do("ask")["of"], {"b3": began["by"]["b3"]}, f"IPv{family}: connections that broke")
        again = crowd.do("short", began["by"]["b3"])
        expect_equal(again["by"], {"b2": began["by"]["b3"]}, f"IPv{family}: who answers those that come from the same ports: {again}")


@test()
def connection_ids_decide(lab):
    """a datagram of QUIC goes to the backend that its connection id names, from wherever it comes; what names none goes by its
    ends"""
    farm = Farm(lab)
    for family in (4, 6):
        farm.add(f"quic{family} udp {SERVICE[family]} port 80 to {farm.to(family, b1=1, b2=1, b3=1)} quic")
        for source in SOURCES[family][:4]:
            with farm.client, socket.socket(address_family(source), socket.SOCK_DGRAM) as sock:
                sock.settimeout(10)
                sock.bind((source, 0))
                sock.connect((SERVICE[family], 80))
                for name, backend in farm.backends.items():
                    for header in (b"\x40", b"\xc0\0\0\0\1\x08"):
                        sock.send(header + connection_id(backend.number) + bytes(20))
                        expect_equal(sock.recv(100).decode().strip(), name, f"an id of {name}, from {source}")
                sock.send(b"\x40" + connection_id(999) + bytes(20))
                first = sock.recv(100)
                sock.send(b"\x40" + connection_id(998) + bytes(20))
                expect_equal(sock.recv(100), first, "ids of nobody")


@test()
def new_connections_hardly_move(lab):
    """without one of ten backends, and with it again, connections that are made anew from the same ports go where they went,
    but for those of that one and one in a hundred"""
    one_cpu()
    farm = Farm(lab, backends=10)
    farm.add(f"web tcp {SERVICE[4]} port 80 to {farm.to(4, **{name: 1 for name in farm.backends})}")
    crowd = farm.crowd()
    began = crowd.do("open", 3000)
    all_done([began], "when they began")
    farm.change("web", f"drain {farm.backends['b4'].address[4]}")
    answer = crowd.do("again")
    others = {name: count for name, count in answer["of"].items() if name != "b4"}
    expect_equal(answer["of"].get("b4"), began["by"]["b4"], "connections that were the drained one's, and moved")
    expect(sum(others.values()) <= 30, f"others that moved: {others}")
    farm.change("web", f"undrain {farm.backends['b4'].address[4]}")
    expect_equal(crowd.do("again")["moved"], answer["moved"], "those that come back")
    all_done([crowd.do("again")], "without a change")


@test()
def weirs_take_over(lab):
    """of two weirs with the same services behind one router either takes over the other's connections, TCP and UDP, of both
    families, whichever way the routes flip, and though they share them out between them"""
    farm = Farm(lab, weirs=2)
    for family in (4, 6):
        farm.add(f"s{family} {SERVICE[family]} port 80 to {farm.to(family, b1=1, b2=2, b3=3)}")
    crowds = [farm.crowd(proto, family) for proto in ("tcp", "udp") for family in (4, 6)]
    for weir in farm.weirs:
        farm.route(weir)
        all_done(everybody(crowds, "open", 200), "when they began")
    for weirs in (farm.weirs[:1], farm.weirs, farm.weirs[1:], farm.weirs[::-1]):
        farm.route(*weirs)
        all_done(everybody(crowds, "ask"), f"through {[weir.label for weir in weirs]}")
    for agent in farm.agents:
        expect(all(service["packets"] for service in services(agent)), "both have delivered")


@test()
def the_address_on_a_dummy(lab):
    """backends may have the service's address on a dummy, and answer from there"""
    farm = need_kernel(lambda: Farm(lab, holder="dummy0"), "dummy interfaces")
    farm.add(f"web tcp {SERVICE[4]} port 80 to {farm.to(4, b1=1, b2=1, b3=1)}")
    all_done([farm.crowd().do("open", 100)], "with the address on a dummy")


def transfer(farm, backend, family, port, size):
    """So many bytes of one connection to a backend: (what it got, the way's MTU as the client knows it then, the largest
    segment that the backend sends)."""
    with backend.namespace:
        listener = socket.create_server((SERVICE[family], port), family=address_family(SERVICE[family]))
    with farm.client, listener:
        sock = socket.socket(address_family(SERVICE[family]), socket.SOCK_STREAM)
        sock.settimeout(15)
        sock.connect((SERVICE[family], port))
        taken, _ = listener.accept()
        with sock, taken:
            sender = threading.Thread(target=sock.sendall, args=(bytes(size),))
            sender.start()
            taken.settimeout(15)
            got = 0
            while got < size:
                got += len(taken.recv(1 << 18))
            sender.join()
            level, mtu = (socket.IPPROTO_IP, 14) if family == 4 else (socket.IPPROTO_IPV6, 24)
            return got, sock.getsockopt(level, mtu), taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)


@test()
def large_ones_get_through(lab):
    """through tunnels of both families: who sends more than fits is told by weir and goes on, TCP and fragmented datagrams;
    where a service lowers the MSS, its backends send no larger segments"""
    farm = Farm(lab)
    backend = farm.backends["b1"]
    for family, around in ((4, 20), (6, 40)):
        farm.add(f"s{family} {SERVICE[family]} port 80-90 to {farm.to(family, b1=1)}")
        farm.add(f"low{family} tcp {SERVICE[family]} port 91 to {farm.to(family, b1=1)} mss 1200")
        all_done([farm.crowd(family=family).do("short", 4)], "at first")
        got, mtu, _ = transfer(farm, backend, family, 81, 300000)
        expect_equal((got, mtu), (300000, 1500 - around), f"IPv{family}: bytes, and the MTU that the client was told")
        told = services(farm.agent, name=f"s{family}")[0]["told_too_big"]
        expect(told > 0, "senders were told")
        farm.client.ip(f"-{family}", "route", "flush", "cache")  # the client forgets it
        with farm.client, socket.socket(address_family(SERVICE[family]), socket.SOCK_DGRAM) as sock:
            sock.settimeout(10)
            sock.bind((SOURCES[family][1], 0))
            sock.connect((SERVICE[family], 80))
            # of the first one nothing but the news comes back
            sock.send(bytes(4000))
            wait_for(lambda: services(farm.agent, name=f"s{family}")[0]["told_too_big"] > told, 10, "a fragment is told of")
            sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)  # IPv4 tells the socket, too
            sock.send(bytes(4000))
            expect_equal(sock.recv(100), b"b1\n", f"IPv{family}: a datagram in fragments")
        got, _, largest = transfer(farm, backend, family, 91, 10000)
        expect(got == 10000 and largest <= 1200, f"IPv{family}: the backend sends segments of {largest}")


class Telling:
    """Asks `weir explain` many things without a pause between them."""

    def __init__(self, agent):
        self.connection = UnixConnection(agent.socket, 10)

    def backend(self, packet):
        self.connection.request("GET", "/v1/explain?" + urllib.parse.urlencode({"packet": packet}))
        answer = json.loads(self.connection.getresponse().read())
        return answer["service"].get("backend")


def datagram_goes(farm, sock):
    sock.send(b"?")
    name = sock.recv(100).decode().strip()
    return farm.backends[name].address[4 if sock.family == socket.AF_INET else 6]


@test()
def explain_tells_the_truth(lab):
    """a thousand times, weir explain names the backend to which a datagram goes then: of new flows and of old ones, while the
    ring is the first one and behind a change, by the ring and with affinity, of both families"""
    farm = Farm(lab, ports=(80, 81))
    for family in (4, 6):
        for port, more in ((80, ""), (81, " affinity source")):
            farm.add(f"s{family}{port} udp {SERVICE[family]} port {port} to {farm.to(family, b1=1, b2=2, b3=1)}{more}")
    telling = Telling(farm.agent)
    draw = random.Random(6)
    flows = {}

    def check(what, count):
        for _ in range(count):
            family, port = draw.choice((4, 6)), draw.choice((80, 81))
            ends = (family, port, draw.choice(SOURCES[family]), draw.randrange(20000, 20080))
            if ends not in flows:
                with farm.client:
                    sock = socket.socket(address_family(SERVICE[family]), socket.SOCK_DGRAM)
                sock.settimeout(10)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind((ends[2], ends[3]))
                sock.connect((SERVICE[family], port))
                flows[ends] = sock
            told = telling.backend(f"in on w0 udp from {ends[2]} port {ends[3]} to {SERVICE[family]} port {port}")
            expect_equal(datagram_goes(farm, flows[ends]), told, f"{what}: {ends}")

    check("the first ring", 300)
    for text in ("set b1 weight 9", "drain b2", "remove b3"):
        for family in (4, 6):
            word, name, *rest = text.split()
            for port in (80, 81):
                farm.change(f"s{family}{port}", " ".join([word, farm.backends[name].address[family], *rest]))
        check(text, 250)
    for sock in flows.values():
        sock.close()


@test()
def explain_knows_what_goes_on(lab):
    """of TCP, weir explain tells where a SYN goes and where a packet of a connection of before does"""
    farm = Farm(lab)
    farm.add(f"web tcp {SERVICE[4]} port 80 to {farm.to(4, b1=1)}")
    farm.client.sysctl("net.ipv4.ip_local_port_range=20000 20049")
    crowd = farm.crowd(sources=SOURCES[4][:1])
    all_done([crowd.do("open", 25)], "when they began")
    farm.change("web", f"add {farm.to(4, b2=1000)}")
    telling = Telling(farm.agent)
    told = {flags: [telling.backend(f"in on w0 tcp from {SOURCES[4][0]} port {port} to {SERVICE[4]} port 80 flags {flags}")
                    for port in range(20000, 20050)] for flags in ("syn", "ack")}
    one, two = farm.backends["b1"].address[4], farm.backends["b2"].address[4]
    # a SYN amid a connection goes to where that is
    expect_equal((told["ack"].count(one), told["syn"].count(one) + told["syn"].count(two)), (50, 50), f"{told}")
    expect(25 <= told["syn"].count(one) <= 26, f"SYNs: {told['syn']}")
    all_done([crowd.do("open", 25)], "with another ring")
    after = [telling.backend(f"in on w0 tcp from {SOURCES[4][0]} port {port} to {SERVICE[4]} port 80 flags ack")
             for port in range(20000, 20050)]
    expect_equal(after, told["syn"], "where they went then")

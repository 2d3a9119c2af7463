# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""What the kernel drops: counted as exactly as the kernel's own counters, with reason, place, flow and owner."""

import json
import os
import re
import select
import signal
import socket
import struct
import subprocess

import pcap
from lab import address_family, expect, expect_equal, need, need_kernel, send_frames, udp_socket, wait_for
from suite import each, test, variants
from test_api import is_count, is_time, mismatches, nulls, one_of

ADDRESS = {4: ("10.1.0.1", "10.1.0.2"), 6: ("fd00:1::1", "fd00:1::2")}
HEADERS = {4: 14 + 20 + 8, 6: 14 + 40 + 8}
UDP_SEGMENT = 103

COUNTED = {"packets": is_count, "bytes": is_count, "records": is_count, "unrecorded": is_count, "lost": is_count,
           "missed": is_count, "unassigned": is_count}
RECORD = {"time": is_time, "reason": str, "place": str, "interface?": str, "direction": one_of("in", "out"),
          "packets": is_count, "bytes": is_count, "family?": one_of(4, 6), "proto?": str, "src?": str,
          "sport?": is_count, "dst?": str, "dport?": is_count, "tcp_flags?": str, "ethertype?": str, "vlan?": is_count}
DOCUMENT = {"drops": [{"reason": str, "packets": is_count, "bytes": is_count, "last": is_time,
                       "places": [{"place": str, "packets": is_count}]}],
            "recent": [RECORD], "enabled": one_of(True, False), **COUNTED}


def kernel_counters(namespace):
    """What /proc/net says of a namespace: {"Udp.NoPorts": n, "TcpExt.…": n, "Udp6NoPorts": n}."""
    text = namespace.run("cat", "/proc/net/snmp", "/proc/net/netstat", "/proc/net/snmp6").stdout
    rows = [line.split() for line in text.splitlines()]
    found = {row[0]: int(row[1]) for row in rows if len(row) == 2 and not row[0].endswith(":")}
    for names, values in zip(rows, rows[1:]):
        if names[0] == values[0] and names[0].endswith(":") and not names[1].lstrip("-").isdigit():
            found.update({f"{names[0]}{n}".replace(":", "."): int(v) for n, v in zip(names[1:], values[1:])})
    return found


class Difference:
    """What the kernel and weir counted since this was made."""

    def __init__(self, namespace, agent):
        self.namespace, self.agent = namespace, agent
        self.kernel_before, self.weir_before = kernel_counters(namespace), self.counted()

    def counted(self):
        return {d["reason"]: (d["packets"], d["bytes"]) for d in self.agent.get("/v1/drops")["drops"]}

    def kernel(self, *names):
        now = kernel_counters(self.namespace)
        return sum(now[name] - self.kernel_before[name] for name in names)

    def weir(self, *reasons):
        """Packets dropped for any of these reasons; for any reason without."""
        now = self.counted()
        return sum(packets - self.weir_before.get(reason, (0, 0))[0] for reason, (packets, _) in now.items()
                   if not reasons or reason in reasons)

    def wire_bytes(self, reason):
        return self.counted().get(reason, (0, 0))[1] - self.weir_before.get(reason, (0, 0))[1]

    def expect(self, count, counters, *reasons):
        """The kernel's counters say `count`, and so does weir."""
        expect_equal(self.kernel(*counters), count, f"the kernel's {' + '.join(counters)}")
        expect_equal(self.weir(*reasons), count, f"drops for {', '.join(reasons)}, of {self.counted()}")


def send_to(namespace, address, port, count, size):
    """Datagrams from a socket of their own; what ICMP answers is not asked for.  Returns the socket's port."""
    with udp_socket(namespace, family=address_family(address)) as sender:
        for _ in range(count):
            sender.sendto(bytes(size), (address, port))
        return sender.getsockname()[1]


@each()
@variants("family", 4, 6)
def closed_udp_port(lab, family):
    """datagrams to a closed port (IPv{family}) are NO_SOCKET, as many as the kernel's NoPorts, each with its flow"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    difference = Difference(host, agent)
    own, other = ADDRESS[family]
    port = send_to(peer, own, 9, 50, 100)
    difference.expect(50, ["Udp.NoPorts" if family == 4 else "Udp6NoPorts"], "NO_SOCKET")
    expect_equal(difference.wire_bytes("NO_SOCKET"), 50 * (HEADERS[family] + 100), "wire bytes")
    document = agent.get("/v1/drops", filter="in on w0 udp to port 9")
    wrong = mismatches(document, DOCUMENT) + nulls(document)
    expect(not wrong, "\n".join(wrong[:10]))
    expect_equal(len(document["recent"]), 50, "records")
    record = document["recent"][0]
    expect_equal({key: record[key] for key in ("reason", "interface", "direction", "family", "proto", "src", "sport",
                                               "dst", "dport", "packets", "bytes")},
                 {"reason": "NO_SOCKET", "interface": "w0", "direction": "in", "family": family, "proto": "udp",
                  "src": other, "sport": port, "dst": own, "dport": 9, "packets": 1,
                  "bytes": HEADERS[family] + 100}, "a record")
    expect("udp" in record["place"], f"a place in UDP: {record['place']}")
    expect_equal(agent.get("/v1/drops", filter="tcp")["recent"], [], "records that do not match")


@test()
def closed_tcp_port(lab):
    """connections to a closed port are NO_SOCKET, one SYN each, as many as the kernel's resets"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    difference = Difference(host, agent)
    for address in (ADDRESS[4][0], ADDRESS[6][0]):
        for _ in range(20):
            with peer, socket.socket(address_family(address), socket.SOCK_STREAM) as sock:
                expect_equal(sock.connect_ex((address, 81)), 111, "ECONNREFUSED")
    difference.expect(40, ["Tcp.OutRsts"], "NO_SOCKET")
    expect_equal({r["tcp_flags"] for r in agent.get("/v1/drops", filter="tcp to port 81")["recent"]}, {"S"}, "flags")


@test()
def what_a_closed_socket_leaves_is_its_process_(lab):
    """the peer's FIN that comes for a closed socket is dropped with it, as its process' and not the kernel's"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    for family in (4, 6):
        own, other = ADDRESS[family]
        with peer, socket.create_server((other, 4000), family=address_family(other)) as listener:
            with host:
                client = socket.create_connection((other, 4000), 5)
            port = client.getsockname()[1]
            served, _ = listener.accept()
            client.close()
            expect_equal(served.recv(1), b"", "what the other end reads")
            served.close()
        words = f"tcp from {other} port 4000 to {own} port {port}"
        # the flow, which says whose it is, may be told after the drop
        record = wait_for(lambda words=words: [r for r in agent.get("/v1/drops", filter=words)["recent"] if "owner" in r],
                          5, f"a drop with an owner: {words}")[0]
        expect_equal((record["tcp_flags"], record["owner"].get("pid")), ("AF", os.getpid()), f"flags, process: {record}")


@test()
def owners_of_followed_drops(lab):
    """whoever follows is told whose a drop is, and may ask for one owner's, where only the flow knows the owner"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    follower = host.start(lab.weir, "drops", "--follow", "--json", "--run-dir", agent.run_dir, "by", "pid", os.getpid(),
                          stdout=subprocess.PIPE, text=True)
    with peer, socket.create_server((ADDRESS[4][1], 4000)) as listener:
        # whoever follows later does not see what was before: so there is one more until there is a line
        for _ in range(50):
            with host:
                client = socket.create_connection((ADDRESS[4][1], 4000), 5)
            served, _ = listener.accept()
            client.close()
            expect_equal(served.recv(1), b"", "what the other end reads")
            served.close()
            if select.select([follower.stdout], [], [], 0.3)[0]:
                break
    record = json.loads(follower.stdout.readline())
    expect_equal((record["sport"], record["owner"].get("pid")), (4000, os.getpid()), f"whose: {record}")
    follower.send_signal(signal.SIGINT)
    expect_equal(follower.wait(5), 0, "exit status after SIGINT")
    follower.stdout.close()


@test()
def wrong_checksums(lab):
    """UDP and TCP checksums that are wrong are UDP_CSUM and TCP_CSUM, as many as the kernel's InCsumErrors"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    difference = Difference(host, agent)
    with udp_socket(host, "10.1.0.1", 5000), udp_socket(host, "fd00:1::1", 5000):
        wrong = struct.pack("!HHHH", 7, 9, 8 + 20, 0xbad) + bytes(20)
        segment = struct.pack("!HHIIBBHHH", 7, 9, 0, 0, 5 << 4, 2, 1000, 0xbad, 0)
        send_frames(peer, "p0", [pcap.ethernet(pcap.ipv4(17, wrong))] * 7 + [pcap.ethernet(pcap.ipv6(17, wrong))] * 5 +
                    [pcap.ethernet(pcap.ipv4(6, segment))] * 3)
    difference.expect(12, ["Udp.InCsumErrors", "Udp6InCsumErrors"], "UDP_CSUM")
    difference.expect(3, ["Tcp.InCsumErrors"], "TCP_CSUM")


@test("vm-6.1")
def full_receive_buffer(lab):
    """datagrams for a socket whose buffer is full are SOCKET_RCVBUFF, as many as RcvbufErrors, and are their owner's"""
    host, peer = lab.hosts()
    agent = lab.agent(host, "interfaces: [w0]\ndrops: {rate: 100000}\n")
    difference = Difference(host, agent)
    for address in (ADDRESS[4][0], ADDRESS[6][0]):
        with udp_socket(host, address, 5000) as receiver:
            receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            send_to(peer, address, 5000, 100, 500)
    errors = difference.kernel("Udp.RcvbufErrors", "Udp6RcvbufErrors")
    expect(errors >= 100, f"some did not fit: {errors}")
    expect_equal(difference.weir("SOCKET_RCVBUFF"), errors, "SOCKET_RCVBUFF")
    recent = agent.get("/v1/drops", filter=f"udp to port 5000 by pid {os.getpid()}")["recent"]
    expect_equal(len(recent), errors, "records of this process")
    expect_equal({(r["owner"]["kind"], r["owner"]["pid"], r["family"]) for r in recent},
                 {("process", os.getpid(), 4), ("process", os.getpid(), 6)}, "owners")
    expect_equal(agent.get("/v1/drops", filter="udp by pid 1")["recent"], [], "records of another process")


@test()
def drops_of_forwarded_packets(lab):
    """a packet that is dropped on its way through this host went out, and is owned as forwarded; so says its flow"""
    host, peer, far = lab.namespace("host"), lab.namespace("peer"), lab.namespace("far")
    lab.pair(host, "w0", peer, "p0", number=1)
    lab.pair(host, "w1", far, "p0", number=2)
    host.sysctl("net.ipv4.ip_forward=1")
    peer.ip("route", "add", "10.2.0.0/24", "via", "10.1.0.1")
    host.tc("qdisc", "add", "dev", "w1", "clsact")
    lab.on_close(lambda: host.tc("qdisc", "del", "dev", "w1", "clsact", check=False))
    host.tc("filter", "add", "dev", "w1", "egress", "protocol", "ip", "bpf", "da", "bytecode", "1,6 0 0 2")
    agent = lab.agent(host, "interfaces: [w0, w1]\n")
    send_to(peer, "10.2.0.2", 9, 5, 60)
    send_to(peer, "10.1.0.1", 9, 5, 60)
    seen = {(r["reason"], r["interface"], r["direction"], r["owner"]["kind"])
            for r in agent.get("/v1/drops", filter="udp to port 9")["recent"]}
    expect_equal(seen, {("TC_EGRESS", "w1", "out", "forwarded"), ("NO_SOCKET", "w0", "in", "kernel")}, "drops")


@test()
def what_ip_refuses(lab):
    """bad headers, wrong addresses, spoofed sources and other hosts' frames have the kernel's reason and number"""
    host, peer = lab.hosts()
    host.sysctl("net.ipv4.conf.all.rp_filter=1", "net.ipv4.conf.w0.rp_filter=1")
    agent = lab.agent(host)
    difference = Difference(host, agent)
    datagram = pcap.udp(7, 9, bytes(20))
    broken = bytearray(pcap.ipv4(17, datagram))
    broken[10] ^= 0xff
    send_frames(peer, "p0", [pcap.ethernet(bytes(broken))] * 4)
    difference.expect(4, ["Ip.InHdrErrors"], "IP_CSUM")
    send_frames(peer, "p0", [pcap.ethernet(pcap.ipv4(17, datagram, destination="10.77.0.1"))] * 5)
    difference.expect(5, ["Ip.InAddrErrors"], "IP_INADDRERRORS")
    send_frames(peer, "p0", [pcap.ethernet(pcap.ipv4(17, datagram, source="10.88.0.1"))] * 6)
    difference.expect(6, ["TcpExt.IPReversePathFilter"], "IP_RPFILTER")
    before = other_hosts(host)
    send_frames(peer, "p0", [pcap.ethernet(pcap.ipv4(17, datagram), destination="02:00:00:00:09:09")] * 7)
    expect_equal(other_hosts(host) - before, 7, "the kernel's frames for other hosts")
    expect_equal(difference.weir("OTHERHOST"), 7, "OTHERHOST")


def other_hosts(namespace):
    stats = json.loads(namespace.ip("-s", "-s", "-j", "link", "show", "dev", "w0").stdout)[0]["stats64"]["rx"]
    return stats.get("otherhost", 0)  # not shown while 0


def dropped_by_qdisc(namespace, device, kind):
    listed = json.loads(namespace.tc("-s", "-j", "qdisc", "show", "dev", device).stdout)
    return next(q["drops"] for q in listed if q["kind"] == kind)


@test("vm")
def dropped_by_traffic_control(lab):
    """filters and qdiscs that drop are TC_INGRESS, TC_EGRESS and QDISC_DROP, as many as they counted themselves"""
    host, peer = lab.hosts()
    need_kernel(lambda: host.tc("qdisc", "add", "dev", "w0", "clsact"), "clsact")
    lab.on_close(lambda: host.tc("qdisc", "del", "dev", "w0", "clsact", check=False))
    for direction in ("ingress", "egress"):
        # classic BPF that says TC_ACT_SHOT
        host.tc("filter", "add", "dev", "w0", direction, "protocol", "ip", "bpf", "da", "bytecode", "1,6 0 0 2")
    need_kernel(lambda: host.tc("qdisc", "add", "dev", "w0", "root", "tbf", "rate", "8kbit", "burst", 2000, "limit", 3000),
                "tbf")
    agent = lab.agent(host)
    difference = Difference(host, agent)
    send_to(peer, "10.1.0.1", 1001, 30, 60)
    expect_equal(difference.weir("TC_INGRESS"), 30, "TC_INGRESS")
    send_to(host, "10.1.0.2", 1002, 40, 60)
    expect_equal(difference.weir("TC_EGRESS"), 40, "TC_EGRESS")
    expect_equal({(r["reason"], r["direction"], r["interface"]) for r in agent.get("/v1/drops", filter="udp")["recent"]},
                 {("TC_INGRESS", "in", "w0"), ("TC_EGRESS", "out", "w0")}, "reasons, ways, interfaces")
    host.tc("filter", "del", "dev", "w0", "egress")
    send_to(host, "10.1.0.2", 1003, 50, 600)
    wait_for(lambda: dropped_by_qdisc(host, "w0", "tbf") > 0, 5, "tbf to drop")
    dropped = dropped_by_qdisc(host, "w0", "tbf")
    expect(dropped >= 40, f"most did not fit: {dropped}")
    expect_equal(sum(difference.weir(reason) for reason in difference.counted() if "QDISC" in reason), dropped,
                 f"drops of the qdisc, of {difference.counted()}")


@test()
def dropped_by_netfilter(lab):
    """rules of nftables that drop are NETFILTER_DROP, in and out, as many as the rules counted"""
    need("nft")
    host, peer = lab.hosts()
    need_kernel(lambda: host.run("nft", "add", "table", "inet", "t"), "nftables")
    host.run("nft", "-f", "-", input="""
        add chain inet t i { type filter hook input priority 0; }
        add chain inet t o { type filter hook output priority 0; }
        add rule inet t i udp dport 2000 counter drop
        add rule inet t o udp dport 2001 counter drop
        """)
    agent = lab.agent(host)
    difference = Difference(host, agent)
    send_to(peer, "10.1.0.1", 2000, 20, 60)
    send_to(peer, "fd00:1::1", 2000, 10, 60)
    with udp_socket(host, "fd00:1::1") as sender:
        for _ in range(7):
            expect(not attempt(lambda: sender.sendto(bytes(60), ("fd00:1::2", 2001))), "EPERM")
    counted = [int(word) for word in re.findall(r"counter packets (\d+)", host.run("nft", "list", "ruleset").stdout)]
    expect_equal(counted, [30, 7], "what the rules counted")
    expect_equal(difference.weir("NETFILTER_DROP"), 37, f"NETFILTER_DROP, of {difference.counted()}")
    document = agent.get("/v1/drops", filter="out ip6 udp to port 2001")
    expect_equal(len(document["recent"]), 7, "records of what was on its way out")


def attempt(function):
    try:
        function()
    except OSError:
        return False
    return True


@test()
def segments_count_as_wire_packets(lab):
    """what segmentation offload put together is dropped as the packets on the wire, with a header each"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    for family in (4, 6):
        difference = Difference(host, agent)
        with udp_socket(peer, ADDRESS[family][1]) as sender:
            need_kernel(lambda: sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1000), "UDP_SEGMENT")  # pylint: disable=cell-var-from-loop
            sender.sendto(bytes(9500), (ADDRESS[family][0], 9))
        expect_equal(difference.kernel("Udp.NoPorts" if family == 4 else "Udp6NoPorts"), 1, "the kernel's NoPorts")
        expect_equal(difference.weir("NO_SOCKET"), 10, "packets")
        expect_equal(difference.wire_bytes("NO_SOCKET"), 9500 + 10 * HEADERS[family], "wire bytes")


@test()
def headers_of_every_kind(lab):
    """extension headers, fragments, tags, ICMP and what is not IP are read of a dropped packet as of any other"""
    host, peer = lab.hosts()
    # IP takes the tag off before it drops what no VLAN interface wants
    host.tc("qdisc", "add", "dev", "w0", "clsact")
    lab.on_close(lambda: host.tc("qdisc", "del", "dev", "w0", "clsact", check=False))
    host.tc("filter", "add", "dev", "w0", "ingress", "protocol", "802.1Q", "bpf", "da", "bytecode", "1,6 0 0 2")
    agent = lab.agent(host)
    datagram = pcap.udp(7, 9, bytes(20))
    padding = bytes([0, 1, 4, 0, 0, 0, 0])  # a header of eight bytes with one option: PadN
    send_frames(peer, "p0", [
        pcap.ethernet(pcap.ipv6(17, datagram, extensions=[(0, padding), (60, padding), (60, padding)])),
        pcap.ethernet(pcap.ipv4(17, datagram[8:], destination="10.77.0.1", fragment=100)),
        pcap.ethernet(pcap.ipv4(17, datagram), tags=[(0x8100, 77)]),
        pcap.ethernet(pcap.ipv4(1, pcap.icmp(8, 0, b"\0\7\0\1", bytes(8)), destination="10.77.0.1")),
        pcap.ethernet(bytes(50), kind=0x88b5),
        pcap.ethernet(b"\x45" + bytes(9), kind=0x0800),
    ])
    recent = agent.get("/v1/drops")["recent"]
    found = [{key: value for key, value in record.items() if key in wanted} for record in recent for wanted in [
        ("family", "proto", "sport", "dport", "vlan", "fragment", "icmp_type", "icmp_id", "ethertype")]]
    for wanted in ({"family": 6, "proto": "udp", "sport": 7, "dport": 9},
                   {"family": 4, "proto": "udp", "sport": 0, "dport": 0, "fragment": True},
                   {"family": 4, "proto": "udp", "sport": 7, "dport": 9, "vlan": 77},
                   {"family": 4, "proto": "icmp", "sport": 0, "dport": 0, "icmp_type": 8, "icmp_id": 7},
                   {"ethertype": "0x88b5"}, {"ethertype": "0x0800"}):
        expect(wanted in found, f"a record of {wanted}, in {json.dumps(recent, indent=1)}")
    expect_equal(len(agent.get("/v1/drops", filter="vlan 77")["recent"]), 1, "records with the tag")
    expect_equal(len(agent.get("/v1/drops", filter="icmp echo-request")["recent"]), 1, "pings")


@test()
def other_namespaces_are_not_ours(lab):
    """drops in another network namespace are not counted, whoever sent the packets"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    difference = Difference(host, agent)
    send_to(host, "10.1.0.2", 9, 30, 60)
    send_to(peer, "fd00:1::2", 9, 30, 60)
    expect_equal(kernel_counters(peer)["Udp.NoPorts"] + kernel_counters(peer)["Udp6NoPorts"], 60, "the peer's NoPorts")
    expect_equal(difference.weir("NO_SOCKET"), 0, f"drops of ours, of {difference.counted()}")
    # before IP looks at it, a packet still has its sender's socket
    send_frames(host, "w0", [pcap.ethernet(bytes(50), kind=0x88b5, destination="02:00:00:00:01:02")] * 9)
    expect_equal(difference.weir("UNHANDLED_PROTO"), 0, "drops of our packets in the peer")
    send_frames(peer, "p0", [pcap.ethernet(bytes(50), kind=0x88b5)] * 4)
    expect_equal(difference.weir("UNHANDLED_PROTO"), 4, "drops of the peer's packets here")
    expect(all("owner" not in r for r in agent.get("/v1/drops")["recent"] if r["reason"] == "UNHANDLED_PROTO"),
           "no owner for what another host sent")
    send_to(host, "10.1.0.1", 9, 5, 60)
    expect_equal(difference.weir("NO_SOCKET"), 5, "drops on our own loopback")
    expect_equal({r["interface"] for r in agent.get("/v1/drops", filter="udp to port 9")["recent"]}, {"lo"}, "where")


@test()
def floods_are_counted_exactly(lab):
    """of 50,000 drops all are counted, few are recorded, the rest is told, and a rare reason is still recorded"""
    host, peer = lab.hosts()
    lab.quiet(host, peer)  # IPv6 reports its multicast groups, and those are dropped
    # the flood is for an address that is nobody's, and is not forwarded
    host.sysctl("net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.w0.rp_filter=0")
    agent = lab.agent(host, "interfaces: [w0]\ndrops: {rate: 200}\n")
    difference = Difference(host, agent)
    count = int(50000 * lab.scale)
    peer.run(lab.tool("blast"), "p0", 4, 100, 10, count, 0)
    send_to(peer, "10.1.0.1", 9, 3, 60)
    wait_for(lambda: difference.weir("NO_SOCKET") == 3, 10, "the last drops")
    difference.expect(count, ["Ip.InAddrErrors"], "IP_INADDRERRORS")
    document = agent.get("/v1/drops")
    expect(document["records"] < count / 10, f"few records: {document['records']}")
    expect_equal(document["records"] + document["unrecorded"] + document["lost"], count + 3, "records and the rest")
    expect_equal((document["lost"], document["missed"]), (0, 0), "lost and missed")
    expect("NO_SOCKET" in {r["reason"] for r in document["recent"]}, "the rare reason among the records")
    page = agent.request("GET", "/metrics")[1]
    expect(f'weir_drops_total{{reason="IP_INADDRERRORS"}} {count}\n' in page, "the metric")
    expect(f'weir_drop_records_total{{fate="unrecorded"}} {document["unrecorded"]}\n' in page, "the unrecorded")
    expect_equal(agent.get("/v1/status")["drops"]["unrecorded"], document["unrecorded"], "status")


@test()
def kill_and_adopt(lab):
    """an agent is killed and the next adopts, both amid drops: none is missing and none counted twice"""
    host, peer = lab.hosts()
    agent = lab.agent(host, "interfaces: [w0]\ndrops: {rate: 50}\n")
    difference = Difference(host, agent)
    program = ("import socket, sys, time\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
               "while True:\n for _ in range(20): s.sendto(bytes(60), ('10.1.0.1', 9))\n time.sleep(0.002)\n")
    sender = peer.start("python3", "-c", program)
    for _ in range(3):
        before = kernel_counters(host)["Udp.NoPorts"]
        wait_for(lambda: kernel_counters(host)["Udp.NoPorts"] > before + 100, 10, "drops")  # pylint: disable=cell-var-from-loop
        agent.kill(signal.SIGKILL)
        agent.process.wait()
        agent.start()
    wait_for(lambda: agent.get("/v1/drops")["recent"], 5, "records go on")
    sender.send_signal(signal.SIGKILL)
    sender.wait()
    dropped = difference.kernel("Udp.NoPorts")
    expect_equal(difference.weir("NO_SOCKET"), dropped, "drops counted")


@test("sanitize")
def following(lab):
    """weir drops --follow shows each drop that matches as it is recorded, as text and as JSON"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    followers = []
    for options in ([], ["--json"]):
        process = host.start(lab.weir, "drops", "--follow", "udp to port 9", "--run-dir", agent.run_dir, *options,
                             stdout=subprocess.PIPE, text=True)
        followers.append(process)
    # whoever follows later does not see what was before: so they are fed until both have a line
    text, document = wait_for(lambda: feed(peer, followers), 10, "a line for each follower")
    for process in followers:
        process.send_signal(signal.SIGINT)
        expect_equal(process.wait(5), 0, "exit status after SIGINT")
        process.stdout.close()
    expect(" NO_SOCKET " in text and " in " in text and "10.1.0.1:9 " in text, f"a line of text: {text}")
    wrong = mismatches(json.loads(document), RECORD)
    expect(not wrong, "\n".join(wrong))


def feed(peer, followers):
    """One drop that matches and one that does not; the first lines of all followers, once each has one."""
    send_to(peer, "10.1.0.1", 10, 1, 60)
    send_to(peer, "10.1.0.1", 9, 1, 60)
    lines = []
    for process in followers:
        if not getattr(process, "first", None):
            os.set_blocking(process.stdout.fileno(), False)
            process.first = process.stdout.readline()
        lines.append(process.first)
    return lines if all(lines) else None


@test()
def switched_off_and_on(lab):
    """drops.enabled: off counts nothing, a reload changes that and the rate, and wrong values change nothing"""
    host, peer = lab.hosts()
    agent = lab.agent(host, "interfaces: [w0]\ndrops: {enabled: off}\n")
    send_to(peer, "10.1.0.1", 9, 10, 60)
    document = agent.get("/v1/drops")
    expect_equal((document["enabled"], document["packets"], document["recent"]), (False, 0, []), "while off")
    expect("drops are not counted" in agent.weir("drops").stdout, "and the command says so")
    for wrong in ("drops: {enabled: maybe}", "drops: {rate: 1000001}", "drops: {rate: many}", "drops: {rates: 5}"):
        with open(agent.config, "w", encoding="utf-8") as file:
            file.write(f"interfaces: [w0]\n{wrong}\n")
        done = agent.weir("reload", check=False)
        expect(done.returncode == 1 and "drops" in done.stderr, f"{wrong}: {done.stderr}")
    with open(agent.config, "w", encoding="utf-8") as file:
        file.write("interfaces: [w0]\ndrops: {rate: 0}\n")
    agent.weir("reload")
    send_to(peer, "10.1.0.1", 9, 10, 60)
    document = agent.get("/v1/drops")
    expect_equal((document["enabled"], document["packets"], document["records"], document["unrecorded"]),
                 (True, 10, 0, 10), "counted, not recorded")


@test("sanitize")
def questions_about_drops(lab):
    """drops can be sorted and limited; what is wrong with a question is said in words"""
    host, peer = lab.hosts()
    lab.quiet(host, peer)  # IPv6 reports its multicast groups, and those are dropped
    agent = lab.agent(host)
    send_to(peer, "10.1.0.1", 9, 8, 1000)
    send_frames(peer, "p0", [pcap.ethernet(pcap.ipv4(17, pcap.udp(7, 9), destination="10.77.0.1"))] * 20)
    names = [d["reason"] for d in agent.get("/v1/drops")["drops"]]
    expect_equal(names, ["IP_INADDRERRORS", "NO_SOCKET"], "by packets")
    names = [d["reason"] for d in agent.get("/v1/drops", sort="bytes")["drops"]]
    expect_equal(names, ["NO_SOCKET", "IP_INADDRERRORS"], "by bytes")
    document = agent.get("/v1/drops", sort="reason", order="descending", limit=1)
    expect_equal(([d["reason"] for d in document["drops"]], len(document["recent"])), (["NO_SOCKET"], 1), "limited")
    for path, said in (("/v1/drops?sort=byts", "cannot sort by 'byts'"), ("/v1/drops?filtr=tcp", "unknown parameter"),
                       ("/v1/drops?filter=tpc", "'tpc'"), ("/v1/drops/events?limit=3", "unknown parameter 'limit'"),
                       ("/v1/drops/events?filter=tcp%20to", "expected")):
        status, body, _ = agent.request("GET", path)
        expect(status == 400 and said in json.loads(body)["error"]["what"], f"{path}: {status} {body}")
    expect_equal(agent.weir("drops", "tpc", check=False).returncode, 2, "exit status")
    expect_equal(json.loads(agent.weir("drops", "--json").stdout)["drops"][0]["reason"], "IP_INADDRERRORS", "--json")

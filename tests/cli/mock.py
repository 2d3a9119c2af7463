#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""An agent's API as docs/api.md describes it, with made-up traffic and without a datapath.

    tests/cli/mock.py RUN_DIR

serves RUN_DIR/weir.sock until it is interrupted, with numbers that move: for looking at `weir top`.
"""

import argparse
import datetime
import http.server
import json
import os
import socket
import socketserver
import threading
import time
import urllib.parse

MEGA = 10**6
LOSSES = {"seen": 5000, "cached": 4000, "emitted": 1000, "lost": 0}
SORTS = {"/v1/flows": ["bytes", "packets", "rate", "first", "last", "duration", "src", "dst", "sport", "dport"],
         "/v1/hosts": ["bytes", "packets", "in", "out", "rate", "address"],
         "/v1/ports": ["bytes", "packets", "in", "out", "rate", "flows", "port"],
         "/v1/processes": ["bytes", "packets", "in", "out", "rate", "flows", "command", "pid", "started"],
         "/v1/owners": ["bytes", "packets", "in", "out", "rate", "flows", "name"],
         "/v1/drops": ["packets", "bytes", "last", "reason"],
         "/v1/rules": ["place", "packets", "bytes", "rate", "last"]}


def rfc3339(seconds):
    moment = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def both(ingress, egress):
    """Two (packets, bytes)."""
    return {"in": {"packets": ingress[0], "bytes": ingress[1]}, "out": {"packets": egress[0], "bytes": egress[1]}}


class Traffic:
    """The documents at one moment.  `age` moves the numbers; 0 is always the same, but for the times of day."""

    def __init__(self, age, now):
        self.age, self.now = age, now
        self.losses = dict(LOSSES)
        self.losses["seen"] += int(31000 * age)
        self.losses["cached"] += int(30000 * age)
        self.losses["emitted"] += self.losses["seen"] - self.losses["cached"] - self.losses["emitted"]
        self.sample_rate = 1

    def flow(self, proto, src, sport, dst, dport, direction, packets, size, rate, **more):
        family = 6 if ":" in src else 4
        flow = {"family": family, "proto": proto, "src": src, "sport": sport, "dst": dst, "dport": dport,
                "interface": "eth0", "direction": direction, "packets": packets + int(self.age * rate / 12000),
                "bytes": size + int(self.age * rate / 8), "first": rfc3339(self.now - 65.25 - self.age),
                "last": rfc3339(self.now - (0 if rate else 7)), "duration": round(65.25 + self.age, 3),
                "rate_bps": rate, "state": "active"}
        return {**flow, **more}

    def flows(self):
        return [
            self.flow("tcp", "198.51.100.23", 51514, "203.0.113.10", 443, "in", 104200, 156 * MEGA, 98_100_000,
                      tcp_flags="SAP"),
            self.flow("tcp", "203.0.113.10", 443, "198.51.100.23", 51514, "out", 48100, 3_174_600, 1_900_000,
                      tcp_flags="SAP"),
            self.flow("udp", "2001:db8:12:3456:789a:bcde:f012:3456", 40112, "2001:db8::10", 443, "in", 9100, 11 * MEGA,
                      4_200_000),
            self.flow("tcp", "192.0.2.200", 40022, "203.0.113.10", 22, "in", 812, 98_400, 0, tcp_flags="SAPF",
                      state="closed"),
            self.flow("icmp", "192.0.2.7", 0, "203.0.113.10", 0, "in", 20, 1960, 784, icmp_type=8, icmp_code=0,
                      icmp_id=77),
            self.flow("udp", "192.0.2.9", 0, "203.0.113.10", 0, "in", 3, 4542, 0, fragment=True, vlan=5, sample_rate=8),
        ]

    def hosts(self):
        return [
            {"address": "198.51.100.23", **both((104200, 156 * MEGA + int(self.age * 12e6)), (48100, 3_174_600)),
             "rate_in_bps": 98_100_000, "rate_out_bps": 1_900_000, "first": rfc3339(self.now - 65),
             "last": rfc3339(self.now)},
            {"address": "2001:db8:12:3456:789a:bcde:f012:3456", **both((9100, 11 * MEGA), (2000, 180_000)),
             "rate_in_bps": 4_200_000, "rate_out_bps": 70_000, "first": rfc3339(self.now - 60),
             "last": rfc3339(self.now - 3)},
            {"address": "192.0.2.200", **both((812, 98_400), (790, 77_100)), "rate_in_bps": 0, "rate_out_bps": 0,
             "first": rfc3339(self.now - 3600), "last": rfc3339(self.now - 7)},
        ]

    def ports(self):
        return [
            {"proto": "tcp", "port": 443, **both((104200, 156 * MEGA), (48100, 3_174_600)), "flows": 2,
             "rate_in_bps": 98_100_000, "rate_out_bps": 1_900_000},
            {"proto": "udp", "port": 443, **both((9100, 11 * MEGA), (2000, 180_000)), "flows": 1,
             "rate_in_bps": 4_200_000, "rate_out_bps": 70_000},
            {"proto": "tcp", "port": 22, **both((812, 98_400), (790, 77_100)), "flows": 1, "rate_in_bps": 0,
             "rate_out_bps": 0},
        ]

    def interfaces(self):
        hooks = [{"hook": "tc-ingress", "kind": "tcx", "program": 57}, {"hook": "tc-egress", "kind": "tcx", "program": 58}]
        kernel = {way: {"packets": 1000, "bytes": 1500000, "dropped": 0} for way in ("in", "out")}
        return [
            {"name": "eth0", "index": 2, "state": "watched", "link": "ethernet", "hooks": hooks,
             **both((114132, 167_104_942), (50890, 3_431_700)), "rate_in_bps": 102_300_784, "rate_out_bps": 1_970_000,
             "kernel": kernel},
            {"name": "wg0", "state": "waiting", "hooks": []},
            {"name": "tun1", "index": 9, "state": "failed", "link": "raw", "hooks": [],
             "error": "attaching to tc-ingress: Device or resource busy", **both((0, 0), (0, 0)), "rate_in_bps": 0,
             "rate_out_bps": 0},
        ]

    def processes(self):
        return [
            {"pid": 812, "command": "nginx", "exe": "/usr/sbin/nginx", "uid": 33, "user": "www-data", "gid": 33,
             "group": "www-data", "cgroup": "/system.slice/nginx.service", "unit": "nginx.service",
             **both((104200, 156 * MEGA), (48100, 3_174_600)), "rate_in_bps": 98_100_000, "rate_out_bps": 1_900_000,
             "flows": 3, "connections": 2, "retransmits": 14, "srtt_us": 12_400, "started": rfc3339(self.now - 9000)},
            {"pid": 40112, "command": "curl", "exe": "/usr/bin/curl", "uid": 1000, "user": "ada", "gid": 1000,
             "group": "ada", "cgroup": "/docker/" + "4f66ad9a0b2e" * 5 + "4f66", "container": "4f66ad9a0b2e" * 5 + "4f66",
             **both((812, 98_400), (790, 77_100)), "rate_in_bps": 0, "rate_out_bps": 0, "flows": 0,
             "started": rfc3339(self.now - 100), "ended": rfc3339(self.now - 90)},
        ]

    def owners(self):
        return [
            {"name": "www-data", "processes": 4, **both((104200, 156 * MEGA), (48100, 3_174_600)),
             "rate_in_bps": 98_100_000, "rate_out_bps": 1_900_000, "flows": 3, "last": rfc3339(self.now)},
            {"name": "", "processes": 1, **both((812, 98_400), (790, 77_100)), "rate_in_bps": 0, "rate_out_bps": 0,
             "flows": 0, "last": rfc3339(self.now - 90)},
        ]

    def drops(self):
        return [
            {"reason": "NO_SOCKET", "packets": 1300, "bytes": 96200, "last": rfc3339(self.now - 3),
             "places": [{"place": "__udp4_lib_rcv+0x4bc", "packets": 1200}, {"place": "tcp_v4_rcv+0x91", "packets": 100}]},
            {"reason": "NETFILTER_DROP", "packets": 70, "bytes": 105_000, "last": rfc3339(self.now - 90),
             "places": [{"place": "nft_do_chain+0x3c1 [nf_tables]", "packets": 70}]},
        ]

    def recent(self):
        return [
            {"time": rfc3339(self.now - 3), "reason": "NO_SOCKET", "place": "__udp4_lib_rcv+0x4bc", "interface": "eth0",
             "direction": "in", "family": 4, "proto": "udp", "src": "198.51.100.7", "sport": 4000,
             "dst": "203.0.113.10", "dport": 161, "packets": 1, "bytes": 74},
            {"time": rfc3339(self.now - 90), "reason": "NETFILTER_DROP", "place": "nft_do_chain+0x3c1 [nf_tables]",
             "direction": "out", "family": 6, "proto": "tcp", "src": "2001:db8::10", "sport": 50000,
             "dst": "2001:db8::7", "dport": 25, "tcp_flags": "S", "packets": 1, "bytes": 1500,
             "owner": {"kind": "process", "pid": 812, "command": "spamd"}},
        ]

    def rules(self):
        return [
            {"id": 7, "text": "accept in tcp from @bastions to port 22 log", "hook": "tc", "source": "file", "packets": 812,
             "bytes": 98_400, "rate_pps": 0, "rate_bps": 0, "last_hit": rfc3339(self.now - 7), "generation": 3},
            {"id": 9, "text": "drop in udp to port 9", "hook": "xdp", "source": "api", "packets": 51_000_000 + int(self.age * 1.2e6),
             "bytes": 3_060_000_000, "rate_pps": 1_200_000, "rate_bps": 576_000_000, "last_hit": rfc3339(self.now),
             "generation": 4},
            {"id": 4, "text": "deny connect by user guest to 10.0.0.0/8", "hook": "socket", "call": "connect", "source": "api",
             "hits": 3, "rate_hits": 0, "generation": 2},
        ]

    def table(self):
        return {"flows": 6, "limit": 131072, "sample_rate": self.sample_rate}

    def status(self, run_dir):
        return {
            "version": "0.1.0", "pid": os.getpid(), "run_dir": run_dir, "pins": "/sys/fs/bpf/weir/run-weir",
            "config": "/etc/weir/weir.yaml", "started": "2026-11-21T04:03:27.123Z", "uptime": 7980 + int(self.age),
            "datapath_since": "2026-11-21T04:03:26.001Z", "kernel": "6.1.0-50-amd64",
            "features": [
                {"name": "tcx", "found": False, "for": "attaching beside other programs", "else": "clsact filters"},
                {"name": "jiffies64", "found": True, "for": "a cheap clock", "else": "bpf_ktime_get_coarse_ns"}],
            "losses": self.losses, "lost_bytes": self.losses["lost"] * 100,
            "table": {**self.table(), "sampled_out": {"packets": 0, "bytes": 0}, "refused": {"packets": 12, "bytes": 1200},
                      "hosts": 3, "hosts_limit": 65536,
                      "ended": {"idle": 30, "active": 1, "closed": 25, "pressure": 0}},
            "parse": [{"reason": "not-ip", "packets": 17}, {"reason": "truncated", "packets": 0}],
            "memory": {"agent_bytes": 21_000_000, "cache_bytes": 5_200_000, "ring_bytes": 2_097_152,
                       "table_bytes": 9_000_000},
            "connections": {"began": 5, "established": 3, "established_limit": 262144, "new": 1, "invalid": 2, "refused": 0},
            "drops": {"enabled": True, "rate": 1000, "packets": 1370, "bytes": 201_200, "records": 1100,
                      "unrecorded": 270, "lost": 0, "missed": 0, "unassigned": 0},
            "rules": {"count": 12, "generation": 9, "tenants": [{"name": "web", "rules": 3, "generation": 4}], "denied": 0,
                      "rejected": 40, "unanswered": 2, "limited": 9, "limited_pushed_out": 5, "broken": 0,
                      "pending": {"seconds": 41.7}},
            "xdp": [{"interface": "eth0", "wanted": True, "mode": "native", "program": 77},
                    {"interface": "eth1", "wanted": True, "mode": "off", "program": 9, "failure": "another program (9)"},
                    {"interface": "eth2", "wanted": False, "mode": "off"}],
            "interfaces": self.interfaces()}


class Agent:
    """The server.  What is in `replies` goes before the made-up traffic: path -> (HTTP status, JSON or text)."""

    def __init__(self, run_dir, moving=False):
        self.run_dir, self.moving = run_dir, moving
        self.path = os.path.join(run_dir, "weir.sock")
        self.started = time.time()
        self.requests, self.bodies = [], {}  # (method, path, {parameter: value})
        self.replies = {}
        self.misbehave = None  # "close", "partial", "silent", "garbage"
        self.losses, self.sample_rate = {}, 1
        self.server = None

    def __enter__(self):
        os.makedirs(self.run_dir, exist_ok=True)
        if os.path.exists(self.path):
            os.unlink(self.path)
        self.server = Server(self.path, Handler)
        self.server.agent = self
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self, leave_socket=False):
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            self.server.hang_up()
            self.server = None
        if not leave_socket and os.path.exists(self.path):
            os.unlink(self.path)

    def answer(self, method, path, parameters):
        """(HTTP status, document or text)"""
        if path in self.replies:
            return self.replies[path]
        now = time.time()
        traffic = Traffic(now - self.started if self.moving else 0, now)
        traffic.losses.update(self.losses)
        traffic.sample_rate = self.sample_rate
        if method == "POST":
            if path == "/v1/reload":
                return 200, {"reloaded": True}
            if path == "/v1/down":
                threading.Thread(target=self.stop, daemon=True).start()
                return 200, {"down": True}
        elif path == "/v1/status":
            return 200, traffic.status(self.run_dir)
        elif path == "/metrics":
            return 200, "# TYPE weir_packets_total counter\nweir_packets_total 5000\n"
        elif path in ("/v1/flows", "/v1/hosts", "/v1/ports", "/v1/interfaces", "/v1/drops",
                      "/v1/processes", "/v1/owners", "/v1/rules"):
            return self.listed(path, parameters, traffic)
        return 404, {"error": {"what": f"there is no {path}"}}

    def listed(self, path, parameters, traffic):
        name = path.rpartition("/")[2]
        entries = getattr(traffic, name)()
        for unknown in set(parameters) - ({"sort", "order", "limit"} if path in SORTS else set()) - (
                set() if path == "/v1/rules" else {"filter"}) - (
                {"by"} if path == "/v1/owners" else set()):
            return 400, {"error": {"what": f"unknown parameter '{unknown}'"}}
        if path in SORTS:
            key = parameters.get("sort", SORTS[path][0])
            if key not in SORTS[path]:
                return 400, {"error": {"what": f"cannot sort by '{key}'"}}
            entries.sort(key=lambda entry: sort_value(entry, key), reverse=parameters.get("order") != "ascending")
            if "limit" in parameters:
                entries = entries[:int(parameters["limit"])]
            if "from" in parameters.get("filter", ""):
                wanted = parameters["filter"].split("from ")[1].split()[0]
                entries = [e for e in entries if wanted in (e.get("src"), e.get("address"))]
        document = {name: entries, "losses": traffic.losses}
        if name == "flows":
            document["table"] = traffic.table()
        if name == "drops":
            document.update(recent=traffic.recent(), enabled=True, packets=1370, bytes=201_200, records=1100,
                            unrecorded=270, lost=0, missed=0, unassigned=0)
        if name in ("processes", "owners"):
            document.update(source="totals", forwarded=both((7, 700), (7, 700)), kernel=both((20, 1960), (0, 0)),
                            unknown=both((0, 0), (0, 0)), other=both((0, 0), (0, 0)), undecided=both((1, 74), (0, 0)))
        if name == "rules":
            drop, accept = ({"verdict": verdict, "packets": 40, "bytes": 2400} for verdict in ("drop", "accept"))
            document["default"] = {"in": drop, "out": accept, "log": True}
        if name in ("hosts", "ports"):
            document["source"] = "flows" if "port" in parameters.get("filter", "") else "totals"
            document["other"] = both((1, 60), (0, 0)) if self.replies.get("other") else both((0, 0), (0, 0))
        return 200, document


def sort_value(entry, key):
    """What docs/api.md sorts by."""
    total = {"in": lambda what: entry["in"][what], "out": lambda what: entry["out"][what]}
    if key in total:
        return total[key]("bytes")
    if key in ("bytes", "packets") and "in" in entry:
        return total["in"](key) + total["out"](key)
    if key == "place":
        return 0
    if key == "packets" and "hits" in entry:
        return entry["hits"]
    if key == "rate":
        return entry.get("rate_bps", 0) + entry.get("rate_in_bps", 0) + entry.get("rate_out_bps", 0)
    return entry[key]


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.connections = set()

    def process_request(self, request, client_address):
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request):
        self.connections.discard(request)
        super().shutdown_request(request)

    def hang_up(self):
        """What a process does that ends: its connections end with it."""
        for connection in list(self.connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it ended by itself


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 10

    def address_string(self):
        return "local"

    def log_message(self, *_):
        pass

    def misbehaviour(self, how):
        if how == "silent":
            time.sleep(20)
        elif how == "garbage":
            self.wfile.write(b"220 mail.example.org ESMTP\r\n\r\n")
        elif how == "partial":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{\"flows\":[")
        self.close_connection = True

    def handle_any(self):
        agent = self.server.agent
        parts = urllib.parse.urlsplit(self.path)
        parameters = dict(urllib.parse.parse_qsl(parts.query, keep_blank_values=True))
        agent.requests.append((self.command, parts.path, parameters))
        agent.bodies[parts.path] = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if agent.misbehave:
            self.misbehaviour(agent.misbehave)
            return
        status, document = agent.answer(self.command, parts.path, parameters)
        text = document if isinstance(document, str) else json.dumps(document, separators=(",", ":")) + "\n"
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if isinstance(document, str) else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = handle_any


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run_dir")
    with Agent(parser.parse_args().run_dir, moving=True):
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()

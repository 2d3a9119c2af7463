# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""The contract of docs/api.md, the metrics page, and who may do what."""

import datetime
import json
import os
import re
import socket
import stat
import subprocess
import urllib.parse

from lab import expect, expect_equal, need, run, tcp_transfer, udp_send, wait_for
from suite import each, test, variants

# ------------------------------------------------------------------------------------------------ documents
#
# A description of a JSON value: a type, a function that judges, {"key": description} (a key that may be absent
# ends in "?"), or [description of each element].

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")


def is_time(value):
    return isinstance(value, str) and bool(TIME.match(value))


def is_count(value):
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def is_seconds(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0


def one_of(*values):
    return lambda value: value in values


COUNTS = {"packets": is_count, "bytes": is_count}
LOSSES = {"seen": is_count, "cached": is_count, "emitted": is_count, "lost": is_count}
OWNER = {"kind": one_of("process", "forwarded", "kernel", "unknown"), "pid?": is_count, "command?": str, "exe?": str,
         "uid?": is_count, "user?": str, "gid?": is_count, "group?": str, "cgroup?": str, "unit?": str,
         "container?": str, "pod?": str}
FLOW = {
    "family": one_of(4, 6), "proto": str, "src": str, "sport": is_count, "dst": str, "dport": is_count,
    "interface": str, "direction": one_of("in", "out"), "owner": OWNER, "packets": is_count, "bytes": is_count, "first": is_time,
    "last": is_time, "duration": is_seconds, "tcp_flags?": str, "rate_bps": is_count,
    "state": one_of("active", "closed"), "icmp_type?": is_count, "icmp_code?": is_count, "icmp_id?": is_count,
    "vlan?": is_count, "fragment?": one_of(True), "sample_rate?": is_count,
}
HOST = {"address": str, "in": COUNTS, "out": COUNTS, "rate_in_bps": is_count, "rate_out_bps": is_count,
        "first": is_time, "last": is_time, "owners": [{"pid": is_count, "command": str}], "processes": is_count}
PORT = {"proto": str, "port": is_count, "in": COUNTS, "out": COUNTS, "flows": is_count, "rate_in_bps": is_count,
        "rate_out_bps": is_count, "owners": [{"pid": is_count, "command": str}], "processes": is_count}
BOTH = {"in": COUNTS, "out": COUNTS}
MOVED = dict(BOTH, **{"rate_in_bps": is_count, "rate_out_bps": is_count, "flows": is_count, "first?": is_time,
                      "last?": is_time})
PROCESS = dict({key: what for key, what in OWNER.items() if key not in ("kind", "pid?")}, **MOVED, pid=is_count,
               **{"connections?": is_count, "retransmits?": is_count, "srtt_us?": is_count, "started": is_time,
                  "ended?": is_time})
NO_PROCESS = {"source": one_of("totals", "flows"), "forwarded": BOTH, "kernel": BOTH, "unknown": BOTH, "other": BOTH,
              "undecided": BOTH, "losses": LOSSES, "table": dict}
KERNEL_COUNTS = dict(COUNTS, dropped=is_count)
INTERFACE = {
    "name": str, "index?": is_count, "state": one_of("watched", "waiting", "failed"), "error?": str,
    "link?": one_of("ethernet", "raw"),
    "hooks?": [{"hook": one_of("tc-ingress", "tc-egress"), "kind": one_of("tcx", "clsact"), "program": is_count}],
    "in": COUNTS, "out": COUNTS, "rate_in_bps": is_count, "rate_out_bps": is_count,
    "kernel?": {"in": KERNEL_COUNTS, "out": KERNEL_COUNTS},
}
TABLE = {"flows": is_count, "limit": is_count, "sample_rate": is_count}
VERDICT = {"verdict": one_of("accept", "drop", "reject"), "packets": is_count, "bytes": is_count, "last_hit?": is_time}
LOGGED = {"time": is_time, "rule?": {"id": is_count, "text?": str}, "action": str, "hook": one_of("xdp", "tc"),
          "direction": one_of("in", "out"), "interface": str, "family?": is_count, "proto?": str, "src?": str,
          "sport?": is_count, "dst?": str, "dport?": is_count, "owner?": OWNER, "state?": str, "length": is_count,
          "policy": str, "reason": one_of("rule", "limit", "default")}
DOCUMENTS = {
    "/v1/flows": {"flows": [FLOW], "losses": LOSSES, "table": TABLE},
    "/v1/hosts": {"hosts": [HOST], "source": one_of("totals", "flows"), "other": {"in": COUNTS, "out": COUNTS},
                  "losses": LOSSES},
    "/v1/ports": {"ports": [PORT], "source": one_of("totals", "flows"), "other": {"in": COUNTS, "out": COUNTS},
                  "losses": LOSSES},
    "/v1/processes": dict(NO_PROCESS, processes=[PROCESS]),
    "/v1/owners": dict(NO_PROCESS, by=str, owners=[dict(MOVED, name=str, processes=is_count)]),
    "/v1/interfaces": {"interfaces": [INTERFACE], "losses": LOSSES},
    "/v1/rules": {"rules": [{"id": is_count, "text": str, "verdict": str, "hook": one_of("socket", "tc", "xdp"), "call?": str,
                             "source": str, "hits?": is_count, "packets?": is_count, "bytes?": is_count,
                             "last_hit?": is_time, "ends?": is_time, "generation": is_count}],
                  "default": {"in": VERDICT, "out": VERDICT, "log": bool}, "generation": is_count, "applied": bool, "denied": is_count, "unreported": is_count, "unidentified": is_count},
    "/v1/log": {"log": [LOGGED], "logged": is_count, "unlogged": is_count},
    "/v1/explain?packet=in%20tcp%20from%2010.1.0.2%20to%2010.1.0.1%20port%2080": {
        "packet": str, "verdict": str, "rule?": {"id": is_count, "text": str}, "hook": one_of("xdp", "tc"), "policy": str,
        "state?": str, "why?": [str], "passed": [{"id": is_count, "text": str}], "generation": is_count},
    "/v1/status": {
        "version": str, "pid": is_count, "run_dir": str, "pins": str, "config?": str, "started": is_time,
        "uptime": is_seconds, "datapath_since": is_time, "kernel": str,
        "features": [{"name": str, "found": bool, "for": str, "else?": str}],
        "losses": LOSSES, "lost_bytes": is_count,
        "table": dict(TABLE, sampled_out=COUNTS, refused=COUNTS, hosts=is_count, hosts_limit=is_count,
                      ended={"idle": is_count, "active": is_count, "closed": is_count, "pressure": is_count}),
        "parse": [{"reason": str, "packets": is_count}],
        "memory": {"agent_bytes": is_count, "cache_bytes": is_count, "ring_bytes": is_count,
                   "table_bytes": is_count},
        "owners": dict.fromkeys(("identities", "limit", "recorded", "unreported", "refused", "evicted", "sockets",
                                 "passed"), is_count),
        "interfaces": [INTERFACE],
    },
}


def mismatches(value, description, where="document"):
    """What of a value is not as described, as sentences."""
    if isinstance(description, dict):
        if not isinstance(value, dict):
            return [f"{where} is no object: {value!r}"]
        found = []
        for key, inner in description.items():
            name = key.rstrip("?")
            if name in value:
                found += mismatches(value[name], inner, f"{where}.{name}")
            elif not key.endswith("?"):
                found.append(f"{where}.{name} is missing")
        return found
    if isinstance(description, list):
        if not isinstance(value, list):
            return [f"{where} is no array: {value!r}"]
        return [m for number, element in enumerate(value)
                for m in mismatches(element, description[0], f"{where}[{number}]")]
    good = isinstance(value, description) if isinstance(description, type) else description(value)
    return [] if good else [f"{where} is {value!r}"]


def nulls(value, where="document"):
    if value is None:
        return [where]
    if isinstance(value, dict):
        return [n for key, inner in value.items() for n in nulls(inner, f"{where}.{key}")]
    if isinstance(value, list):
        return [n for number, inner in enumerate(value) for n in nulls(inner, f"{where}[{number}]")]
    return []


def some_traffic(lab, host, peer):
    tcp_transfer(host, peer, "10.1.0.2", 443, 50000, 50000)
    udp_send(host, peer, "fd00:1::1", "fd00:1::2", 53, 5, 4000)
    host.run("ping", "-c", 1, "10.1.0.2")
    peer.run("ping", "-c", 1, "fd00:1::1")
    host.run("curl", "-s", "--max-time", 1, "http://10.1.0.2:81/", check=False)


@test("sanitize")
def documents_are_as_documented(lab):
    """every document has the fields of docs/api.md, with their types; none is null"""
    host, peer = lab.hosts()
    agent = lab.agent(host, "interfaces: [w0, absent0]\nrules: [deny bind to port 1, allow connect to 10.1.0.2, count out log]\n")
    some_traffic(lab, host, peer)
    for path, description in DOCUMENTS.items():
        status, body, headers = agent.request("GET", path)
        expect_equal((status, headers.get("Content-Type")), (200, "application/json"), f"{path}: status and type")
        document = json.loads(body)
        wrong = mismatches(document, description, path) + [f"{w} is null" for w in nulls(document, path)]
        expect(not wrong, "\n".join(wrong[:10]))
    for flow in agent.flows():
        expect(("tcp_flags" in flow) == (flow["proto"] == "tcp"), f"tcp_flags: {flow}")
        expect(("icmp_type" in flow) == (flow["proto"] in ("icmp", "icmp6") and not flow.get("fragment")),
               f"icmp_type: {flow}")
        if "tcp_flags" in flow:
            expect_equal(flow["tcp_flags"], "".join(c for c in "SAPFRUEC" if c in flow["tcp_flags"]), "order of flags")
        first, last = (datetime.datetime.fromisoformat(flow[key].replace("Z", "+00:00")) for key in ("first", "last"))
        expect(abs((last - first).total_seconds() - flow["duration"]) < 0.0015, f"duration: {flow}")
        age = (datetime.datetime.now(datetime.timezone.utc) - last).total_seconds()
        expect(-0.1 < age < 30, f"last seen {age} s ago: {flow}")


@test()
def status_is_true(lab):
    """status names version, pid, directories, sizes and hooks as they are"""
    host, _ = lab.hosts()
    agent = lab.agent(host, "interfaces: [w0]\nflows: {table: 5000, hosts: 100, cache: {ipv4: 128}}\n")
    status = agent.get("/v1/status")
    expect_equal((status["pid"], status["run_dir"], status["config"]), (agent.pid, agent.run_dir, agent.config), "status")
    expect_equal(status["kernel"], os.uname().release, "kernel")
    expect_equal((status["table"]["limit"], status["table"]["hosts_limit"]), (5000, 100), "limits")
    interface = status["interfaces"][0]
    expect_equal([h["hook"] for h in interface["hooks"]], ["tc-ingress", "tc-egress"], "hooks")
    for hook in interface["hooks"]:
        shown = json.loads(run("bpftool", "-j", "prog", "show", "id", hook["program"]).stdout)
        expect_equal((shown["type"], shown["id"]), ("sched_cls", hook["program"]), "program")
    tcx = next((f for f in status["features"] if "tcx" in f["name"]), None)
    expect(tcx is not None, f"no feature tcx: {status['features']}")
    expect_equal({h["kind"] for h in interface["hooks"]}, {"tcx" if tcx["found"] else "clsact"}, "kind of hooks")
    expect(tcx["found"] or tcx.get("else"), "what replaces tcx is not told")
    text = agent.weir("status").stdout
    for word in (status["version"], status["kernel"], "w0", "seen", "lost"):
        expect(word in text, f"'{word}' is not in weir status:\n{text}")


@test()
def errors_are_as_documented(lab):
    """unknown paths, methods, parameters and sort keys get the documented status and error"""
    host, _ = lab.hosts()
    agent = lab.agent(host)
    for method, path, wanted in (("GET", "/v1/nothing", 404), ("GET", "/", 404), ("POST", "/v1/flows", 405),
                                 ("GET", "/v1/reload", 405), ("DELETE", "/v1/flows", 405), ("PUT", "/v1/down", 405),
                                 ("GET", "/v1/flows?colour=red", 400), ("GET", "/v1/flows?sort=colour", 400),
                                 ("GET", "/v1/ports?sort=address", 400), ("GET", "/v1/flows?order=random", 400),
                                 ("GET", "/v1/flows?limit=-1", 400), ("GET", "/v1/hosts?limit=x", 400),
                                 ("GET", "/v1/flows?filter=tpc", 400)):
        status, body, _ = agent.request(method, path)
        expect_equal(status, wanted, f"status of {method} {path} ({body[:100]!r})")
        error = json.loads(body)
        wrong = mismatches(error, {"error": {"what": str, "want?": str, "text?": str, "column?": is_count}}, path)
        expect(not wrong, f"{wrong}: {body}")
    for sort in ("bytes", "packets", "rate", "first", "last", "duration", "src", "dst", "sport", "dport"):
        agent.get("/v1/flows", sort=sort, order="ascending", limit=0)
    for sort in ("bytes", "packets", "in", "out", "rate", "address"):
        agent.get("/v1/hosts", sort=sort)
    for sort in ("bytes", "packets", "in", "out", "rate", "flows", "port"):
        agent.get("/v1/ports", sort=sort)
    for sort in ("bytes", "packets", "in", "out", "rate", "flows", "command", "pid", "started"):
        agent.get("/v1/processes", sort=sort, order="descending")
    for by in ("process", "user", "group", "exe", "cgroup", "unit", "container", "pod"):
        expect_equal(agent.get("/v1/owners", by=by, sort="name")["by"], by, "by")


@test("sanitize")
def commands_print_what_the_api_says(lab):
    """weir flows, hosts, ports, interfaces and status with --json print the API's documents; without, a table"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    udp_send(host, peer, "10.1.0.1", "10.1.0.2", 53, 5, 400)
    for command in ("flows", "hosts", "ports", "interfaces", "status"):
        done = agent.weir(command, "--json")
        wrong = mismatches(json.loads(done.stdout), DOCUMENTS[f"/v1/{command}"], command)
        expect(not wrong, "\n".join(wrong[:10]))
        table = agent.weir(command).stdout
        expect("{" not in table and len(table.splitlines()) >= 2, f"weir {command} printed {table!r}")
    flows = json.loads(agent.weir("flows", "out", "udp", "to", "port", 53, "--json").stdout)["flows"]
    expect_equal([(f["dst"], f["packets"]) for f in flows], [("10.1.0.2", 5)], "weir flows out udp to port 53 --json")
    expect("10.1.0.2" in agent.weir("hosts").stdout, "the peer is not in weir hosts")
    expect("10.1.0.2" in agent.weir("top", "--once").stdout, "the peer is not in weir top --once")
    expect_equal(len(json.loads(agent.weir("flows", "-n", 1, "--json").stdout)["flows"]), 1, "flows with -n 1")
    done = host.run(lab.weir, "flows", "--json", env=dict(os.environ, WEIR_RUN_DIR=agent.run_dir))
    expect("flows" in json.loads(done.stdout), "WEIR_RUN_DIR")


@test()
def curl_reads_the_socket(lab):
    """curl --unix-socket RUN_DIR/weir.sock http://weir/v1/flows works as the documentation shows"""
    need("curl")
    host, peer = lab.hosts()
    agent = lab.agent(host)
    udp_send(host, peer, "10.1.0.1", "10.1.0.2", 53, 5, 400)
    agent.settle()
    done = run("curl", "-sf", "--unix-socket", agent.socket, "http://weir/v1/flows")
    expect(json.loads(done.stdout)["flows"], "no flows")
    done = run("curl", "-sf", "-G", "--unix-socket", agent.socket, "--data-urlencode", "filter=out udp to port 53",
               "http://weir/v1/flows")
    expect_equal(len(json.loads(done.stdout)["flows"]), 1, "flows")
    done = run("curl", "-sI", "--unix-socket", agent.socket, "http://weir/v1/status")
    expect(" 200 " in done.stdout.splitlines()[0], f"HEAD: {done.stdout!r}")


# ------------------------------------------------------------------------------------------------ metrics

SAMPLE = re.compile(r"([a-z_:][a-z0-9_:]*)(?:\{(.*)\})? (-?[0-9.eE+]+|NaN|[+-]Inf)$")
LABEL = re.compile(r'([a-z_][a-z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(,|$)')


def parse_metrics(text):
    """{(name, labels): value} of a page in Prometheus' text format; fails on what the format does not allow."""
    samples, kinds, helped = {}, {}, set()
    current = None
    expect(text.endswith("\n"), "the page does not end with a newline")
    for line in text.splitlines():
        if line.startswith("# HELP "):
            current = line.split()[2]
            expect(current not in helped, f"second HELP for {current}")
            helped.add(current)
            expect(len(line.split(" ", 3)) == 4, f"HELP without help: {line}")
            continue
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            expect(name == current and name not in kinds, f"TYPE out of place: {line}")
            expect(kind in ("counter", "gauge", "histogram"), f"unknown type: {line}")
            kinds[name] = kind
            continue
        match = SAMPLE.match(line)
        expect(match, f"not a sample: {line!r}")
        name, labels, value = match.groups()
        parts = ("_bucket", "_sum", "_count") if kinds.get(current) == "histogram" else ("",)
        expect(name in [current + part for part in parts], f"{name} stands among the samples of {current}")
        expect(current in kinds, f"{name} has no TYPE")
        expect(name.endswith("_total") == (kinds[current] == "counter"), f"{name} is a {kinds[current]}")
        expect(name.startswith("weir_"), f"{name} does not begin with weir_")
        pairs, rest = [], labels or ""
        while rest:
            label = LABEL.match(rest)
            expect(label, f"bad labels: {line!r}")
            pairs.append((label.group(1), label.group(2)))
            rest = rest[label.end():]
        key = (name, tuple(sorted(pairs)))
        expect(key not in samples, f"second sample of {key}")
        samples[key] = float(value)
    expect(set(kinds) == helped, f"HELP without TYPE: {helped - set(kinds)}")
    return samples


def metric(samples, name, **labels):
    key = (name, tuple(sorted(labels.items())))
    expect(key in samples, f"no sample {key}")
    return samples[key]


@test("sanitize")
def metrics_are_prometheus_text(lab):
    """the metrics page is well-formed Prometheus text and its numbers are the API's"""
    host, peer = lab.hosts()
    agent = lab.agent(host, "interfaces: [w0]\n")
    some_traffic(lab, host, peer)

    def compare():
        # numbers of two requests may differ when a packet comes in between: then once more
        before = agent.get("/v1/status")
        status, page, headers = agent.request("GET", "/metrics")
        after = agent.get("/v1/status")
        if before["losses"] != after["losses"]:
            return None
        expect_equal((status, headers["Content-Type"].split(";")[:2]), (200, ["text/plain", " version=0.0.4"]), "answer")
        return before, page

    status, page = wait_for(compare, 5, "a quiet moment")
    samples = parse_metrics(page)
    for name, field in (("weir_packets_seen_total", "seen"), ("weir_packets_cached", "cached"),
                        ("weir_packets_emitted_total", "emitted"), ("weir_packets_lost_total", "lost")):
        expect_equal(metric(samples, name), status["losses"][field], name)
    interface = status["interfaces"][0]
    for direction in ("in", "out"):
        for unit in ("packets", "bytes"):
            expect_equal(metric(samples, f"weir_interface_{unit}_total", interface="w0", direction=direction),
                         interface[direction][unit], f"{unit} {direction}")
    for entry in status["parse"]:
        expect_equal(metric(samples, "weir_parse_failures_total", reason=entry["reason"]), entry["packets"],
                     entry["reason"])
    expect_equal(metric(samples, "weir_flows"), status["table"]["flows"], "weir_flows")
    expect_equal(metric(samples, "weir_build_info", version=status["version"]), 1, "weir_build_info")
    expect_equal(parse_metrics(agent.weir("metrics").stdout).keys(), samples.keys(), "what weir metrics prints")


def listeners(agent):
    """TCP addresses that are listened on in the agent's namespace."""
    found = []
    for name, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        with open(f"/proc/{agent.pid}/net/{name}", encoding="ascii") as file:
            for line in list(file)[1:]:
                fields = line.split()
                if fields[3] == "0A":
                    address, port = fields[1].split(":")
                    raw = b"".join(bytes.fromhex(address[i:i + 8])[::-1] for i in range(0, len(address), 8))
                    found.append((socket.inet_ntop(family, raw), int(port, 16)))
    return found


@each()
@variants("listen", "off", "9470", "127.0.0.2:9471", "[::1]:9472")
def metrics_listen_where_told(lab, listen):
    """metrics.listen: {listen} listens there and nowhere else, and serves only the metrics"""
    host, _ = lab.hosts()
    agent = lab.agent(host, f'interfaces: [w0]\nmetrics: {{listen: "{listen}"}}\n' if listen != "9470" else
                      "interfaces: [w0]\nmetrics: {listen: 9470}\n")
    wanted = {"off": [], "9470": [("127.0.0.1", 9470)], "127.0.0.2:9471": [("127.0.0.2", 9471)],
              "[::1]:9472": [("::1", 9472)]}[listen]
    expect_equal(listeners(agent), wanted, "listening sockets")
    for address, port in wanted:
        base = f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"
        page = host.run("curl", "-sfg", f"{base}/metrics").stdout
        expect("weir_packets_seen_total" in str(parse_metrics(page)), "no metrics")
        for path in ("/v1/flows", "/v1/status", "/"):
            done = host.run("curl", "-sg", "-o", "/dev/null", "-w", "%{http_code}", base + path)
            expect_equal(done.stdout, "404", f"status of {path}")
        done = host.run("curl", "-sg", "-o", "/dev/null", "-w", "%{http_code}", "-X", "POST", f"{base}/v1/down")
        expect(done.stdout in ("404", "405"), f"POST /v1/down over TCP: {done.stdout}")
    expect(agent.alive(), "the agent has ended")


@test("sanitize")
def metrics_follow_a_reload(lab):
    """metrics.listen may be turned on, moved and off with a reload"""
    host, _ = lab.hosts()
    agent = lab.agent(host)
    for text, wanted in (("metrics: {listen: 9470}", [("127.0.0.1", 9470)]),
                         ("metrics: {listen: 9471}", [("127.0.0.1", 9471)]), ("metrics: {listen: off}", [])):
        with open(agent.config, "w", encoding="ascii") as file:
            file.write(f"interfaces: [w0]\n{text}\n")
        expect_equal(agent.request("POST", "/v1/reload")[0], 200, f"status of a reload with {text}")
        expect_equal(listeners(agent), wanted, f"listening sockets with {text}")


# ------------------------------------------------------------------------------------------------ permissions

STRANGER, GROUP = 65534, 65534  # nobody, nogroup


def curl_as(agent, user, group, *words):
    """HTTP status that curl gets as another user; 000 when it may not even connect."""
    need("curl")
    done = subprocess.run(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--unix-socket", agent.socket, *words],
                          check=False, capture_output=True, text=True, user=user, group=group, extra_groups=[], timeout=20)
    return done.stdout


@test()
def strangers_may_not_read(lab):
    """by default only root and its group may open the socket"""
    host, _ = lab.hosts()
    agent = lab.agent(host)
    mode = os.stat(agent.socket)
    expect_equal((stat.S_IMODE(mode.st_mode), mode.st_uid, mode.st_gid), (0o660, 0, 0), "mode, owner, group")
    expect_equal(curl_as(agent, STRANGER, GROUP, "http://weir/v1/status"), "000", "a stranger's GET")
    expect_equal(curl_as(agent, 0, 0, "http://weir/v1/status"), "200", "root's GET")


@test()
def the_group_may_read(lab):
    """members of api.group may read, and not change anything"""
    host, _ = lab.hosts()
    agent = lab.agent(host, "interfaces: [w0]\napi: {group: nogroup}\n")
    expect_equal(curl_as(agent, STRANGER, GROUP, "http://weir/v1/flows"), "200", "GET")
    for path in ("/v1/reload", "/v1/down"):
        expect_equal(curl_as(agent, STRANGER, GROUP, "-X", "POST", f"http://weir{path}"), "403", f"POST {path}")
    done = subprocess.run([lab.weir, "down", "--run-dir", agent.run_dir], check=False, capture_output=True, text=True,
                          user=STRANGER, group=GROUP, extra_groups=[], timeout=20)
    expect(done.returncode > 0 and "not allowed" in done.stderr, f"weir down as nobody: {done.stderr!r}")
    expect(agent.alive(), "the agent has ended")
    expect_equal(curl_as(agent, 0, 0, "-X", "POST", "http://weir/v1/reload"), "200", "root's POST")


@test()
def the_group_may_change_if_told(lab):
    """with change: group the members of api.group may change, and everybody else not even when they may read"""
    host, _ = lab.hosts()
    agent = lab.agent(host, 'interfaces: [w0]\napi: {group: nogroup, change: group, mode: "0666"}\n')
    expect_equal(curl_as(agent, 1, 1, "http://weir/v1/flows"), "200", "another's GET")
    expect_equal(curl_as(agent, 1, 1, "-X", "POST", "http://weir/v1/reload"), "403", "another's POST")
    expect_equal(curl_as(agent, STRANGER, GROUP, "-X", "POST", "http://weir/v1/reload"), "200", "a member's POST")


@test()
def filters_survive_any_spelling(lab):
    """a filter may be percent-encoded in any way; plus signs are spaces"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    udp_send(host, peer, "10.1.0.1", "10.1.0.2", 53, 2, 10)
    for spelling in (urllib.parse.quote("out udp to port 53"), urllib.parse.quote_plus("out udp to port 53"),
                     "".join(f"%{ord(c):02x}" for c in "out udp to port 53")):
        status, body, _ = agent.request("GET", f"/v1/flows?filter={spelling}")
        expect_equal((status, len(json.loads(body)["flows"])), (200, 1), f"status and flows for {spelling}")

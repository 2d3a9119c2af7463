# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""Health checks of backends: who answers is up, who does not is down, and what was last said is told."""

import contextlib
import os
import re
import signal
import socket
import threading
import time

from lab import command_of, expect, expect_equal, need, run, wait_for
from suite import test
from test_balancing import SERVICE, Site
from test_rules import ask, done, refused
from test_services import add, backends, explained, services

QUICK = "every 250ms timeout 250ms"


def backend(agent, address, name="web"):
    return backends(services(agent, name=name)[0])[address]


def becomes(agent, address, state, reason, name="web"):
    """Waits until the backend is in the state, with the reason."""
    def now():
        entry = backend(agent, address, name)
        return entry["state"] == state and re.fullmatch(reason, entry.get("reason", "")) and entry
    try:
        return wait_for(now, 10, f"{address} is {state}: {reason}")
    except AssertionError as error:
        raise AssertionError(f"{error}; it is {backend(agent, address, name)}") from error


def checked(agent, address, name="web", count=3):
    """Waits for so many more checks."""
    def passed():
        check = backend(agent, address, name)["check"]
        return check["passed"] + check["failed"]
    before = passed()
    wait_for(lambda: passed() >= before + count, 10, f"{count} checks")
    return backend(agent, address, name)


class Nginx:
    """An nginx in a namespace, both families, with and without TLS; sick, it answers 503."""

    def __init__(self, lab, namespace, listen="listen 10.1.0.2:80; listen [::]:443 ssl;"):
        need("nginx", "openssl")
        self.lab, self.namespace = lab, namespace
        self.sick = lab.path("sick")
        key, certificate = lab.path("key.pem"), lab.path("certificate.pem")
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj",
            "/CN=somebody else", "-keyout", key, "-out", certificate)
        temporary = "".join(f"{kind}_temp_path {lab.directory};" for kind in
                            ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        self.config = lab.write("nginx.conf", f"""
            daemon off; master_process off; user root; pid {lab.path('nginx.pid')}; error_log stderr;
            events {{ worker_connections 64; }}
            http {{ access_log off; {temporary}
                server {{
                    {listen}
                    ssl_certificate {certificate}; ssl_certificate_key {key};
                    location = /health {{ if (-f {self.sick}) {{ return 503; }} return 200 "well\\n"; }}
                    location = /host {{ if ($http_host != "www.example.org") {{ return 421; }} return 204; }}
                    location / {{ return 302 /health; }}
                }}
            }}""")
        self.process = None

    def start(self):
        self.process = self.namespace.start("nginx", "-c", self.config)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=10)


@test()
def checks_by_tcp_and_http(lab):
    """a backend is down after failures in a row and up after successes, with the reason, in both families: refused, another
    status, well again; new connections go to those that are up"""
    host, peer = lab.hosts()
    nginx = Nginx(lab, peer)
    nginx.start()
    peer.ip("addr", "add", "10.1.0.3/24", "dev", "p0")
    host.ip("neigh", "replace", "10.1.0.3", "lladdr", "02:00:00:00:01:02", "nud", "permanent", "dev", "w0")
    agent = lab.agent(host)
    add(agent, f"web tcp 203.0.113.10 port 80 to 10.1.0.2, 10.1.0.3 check http direct path /health {QUICK}")
    add(agent, f"six tcp 2001:db8::10 port 443 to fd00:1::2 check https direct path /health {QUICK}")
    add(agent, f"plain tcp 203.0.113.11 port 80 to 10.1.0.2 check tcp direct {QUICK}")
    add(agent, f"host tcp 203.0.113.12 port 80 to 10.1.0.2 check http direct path /host host www.example.org status 204 "
               f"{QUICK}")
    becomes(agent, "10.1.0.3", "down", "connection refused")
    becomes(agent, "10.1.0.2", "up", "HTTP 200")
    becomes(agent, "fd00:1::2", "up", "HTTP 200", "six")
    becomes(agent, "10.1.0.2", "up", "connected", "plain")
    becomes(agent, "10.1.0.2", "up", "HTTP 204", "host")
    found = wait_for(lambda: explained(agent, 1000, to="203.0.113.10 port 80")["backend"] == "10.1.0.2", 5, "the ring")
    expect(found, "new connections go to the one that is up")
    with open(nginx.sick, "w", encoding="utf-8"):
        pass
    becomes(agent, "10.1.0.2", "down", "HTTP 503")
    becomes(agent, "fd00:1::2", "down", "HTTP 503", "six")
    expect_equal(services(agent, name="web")[0]["failing"], "open", "none is up")
    os.unlink(nginx.sick)
    becomes(agent, "10.1.0.2", "up", "HTTP 200")
    becomes(agent, "fd00:1::2", "up", "HTTP 200", "six")
    becomes(agent, "10.1.0.2", "up", "connected", "plain")
    nginx.stop()
    for name, address in (("web", "10.1.0.2"), ("six", "fd00:1::2"), ("plain", "10.1.0.2")):
        becomes(agent, address, "down", "connection refused", name)
    nginx.start()
    becomes(agent, "10.1.0.2", "up", "connected", "plain")
    becomes(agent, "fd00:1::2", "up", "HTTP 200", "six")
    for line in ("service web: backend 10.1.0.3 has failed its checks: connection refused",
                 "service web: backend 10.1.0.2 has failed its checks: HTTP 503",
                 "service web: backend 10.1.0.2 has passed its checks: HTTP 200"):
        expect(line in agent.errors(), f"in the log: {line}")


@test()
def checks_by_udp(lab):
    """udp: an answer, or the one that is expected; a closed port and silence are told apart"""
    host, peer = lab.hosts()
    answers = {b"ping": b"this is pong\n", b"": b"anything"}
    with peer:
        server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        silent.bind(("10.1.0.2", 54))
    lab.on_close(silent.close)
    server.bind(("::", 53))

    def serve():
        with contextlib.suppress(OSError):
            while True:
                data, sender = server.recvfrom(100)
                if data == b"end":
                    return
                if data in answers:
                    server.sendto(answers[data], sender)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    agent = lab.agent(host)
    for text in ("any udp 203.0.113.53 port 53 to 10.1.0.2 check udp direct",
                 "text udp 2001:db8::53 port 60 to fd00:1::2 check udp direct port 53 send ping expect pong",
                 "other udp 203.0.113.54 port 53 to 10.1.0.2 check udp direct send ping expect pang",
                 "silent udp 203.0.113.53 port 54 to 10.1.0.2 check udp direct",
                 "gone udp 2001:db8::53 port 55 to fd00:1::2 check udp direct"):
        add(agent, f"{text} {QUICK}")
    becomes(agent, "10.1.0.2", "up", "answered", "any")
    becomes(agent, "fd00:1::2", "up", "answered", "text")
    becomes(agent, "10.1.0.2", "down", "another answer than expected", "other")
    becomes(agent, "10.1.0.2", "down", "no answer in 250ms", "silent")
    becomes(agent, "fd00:1::2", "down", "port unreachable", "gone")
    with peer, socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as last:
        last.sendto(b"end", ("::1", 53))
    thread.join(10)
    server.close()
    becomes(agent, "10.1.0.2", "down", "port unreachable", "any")


@test()
def checks_by_a_command(lab):
    """exec: its exit status counts; it knows the backend, has nothing of the agent's, and is killed with all it has started
    when it takes too long"""
    host, _ = lab.hosts()
    seen, sick = lab.path("seen"), lab.path("sick")
    script = lab.write("check.sh", f"""
[ "$1" = slow ] && {{ sleep 4711 & sleep 4711; }}
[ -e {sick} ] && exit 7
ls -l /proc/$$/fd > {seen}.$WEIR_SERVICE.files
{{ echo "$WEIR_SERVICE $WEIR_SERVICE_ADDRESS $WEIR_BACKEND $WEIR_PORT"; grep -e Cap -e NoNewPrivs /proc/$$/status
}} > {seen}.$WEIR_SERVICE.new && mv {seen}.$WEIR_SERVICE.new {seen}.$WEIR_SERVICE
exit 0
""")
    agent = lab.agent(host)
    add(agent, f'web tcp 203.0.113.10 port 80 to 10.1.0.2 check exec "sh {script}" every 500ms timeout 500ms')
    add(agent, f'slow tcp 2001:db8::10 port 80 to fd00:1::2 check exec "sh {script} slow" {QUICK}')
    becomes(agent, "10.1.0.2", "up", "exit status 0")
    becomes(agent, "fd00:1::2", "down", "not ended in 250ms, killed", "slow")
    with open(f"{seen}.web", encoding="utf-8") as file:
        lines = file.read().splitlines()
    expect_equal(lines[0], "web 203.0.113.10 10.1.0.2 80", "what it is told")
    with open(f"{seen}.web.files", encoding="utf-8") as file:
        files = {line.split(" -> ")[1] for line in file.read().splitlines() if " -> " in line}
    own = ("/dev/null", script, f"{seen}.web.files")  # the last: what it writes the list to
    expect_equal(sorted(name for name in files if name not in own), [], "its descriptors, besides those")
    expect_equal(len(lines), 7, f"five sets of capabilities, and a flag: {lines}")
    for line in lines[1:]:
        expect_equal(int(line.split()[1], 16), 1 if "NoNewPrivs" in line else 0, line)
    with open(sick, "w", encoding="utf-8"):
        pass
    becomes(agent, "10.1.0.2", "down", "exit status 7")
    for name in ("web", "slow"):
        done(agent, "POST", "/v1/services/delete", name=name)
    wait_for(lambda: not [pid for pid in host.processes() if "4711" in command_of(pid)], 5, "what it started is gone")


@test()
def down_outlives_the_agent(lab):
    """killed and started anew the agent has a backend that was down still down, until it has passed as many checks as it
    takes; without its check it is up; the metrics and the status count"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    with peer:
        server = socket.create_server(("10.1.0.2", 80))
    lab.on_close(server.close)
    peer.ip("addr", "add", "10.1.0.3/24", "dev", "p0")
    host.ip("neigh", "replace", "10.1.0.3", "lladdr", "02:00:00:00:01:02", "nud", "permanent", "dev", "w0")
    text = "web tcp 203.0.113.10 port 80 to 10.1.0.2, 10.1.0.3"
    add(agent, f"{text} check tcp direct {QUICK} rise 12")
    add(agent, f"alone tcp 203.0.113.11 port 80 to 10.1.0.3 check tcp direct {QUICK} rise 100")
    becomes(agent, "10.1.0.3", "down", "connection refused", "alone")
    becomes(agent, "10.1.0.3", "down", "connection refused")
    agent.stop(signal.SIGKILL)
    with peer:
        late = socket.create_server(("10.1.0.3", 80))
    lab.on_close(late.close)
    agent.start()
    alone = services(agent, name="alone")[0]
    expect_equal((alone["backends"][0]["state"], alone["failing"]), ("down", "open"), "the only one of its service")
    entry = checked(agent, "10.1.0.3")
    passed = entry["check"]["passed"]
    if passed < 12:
        expect_equal((entry["state"], entry["reason"]), ("down", "connected"), f"after {passed} checks")
    expect_equal(backend(agent, "10.1.0.2")["state"], "up", "the other one")
    entry = becomes(agent, "10.1.0.3", "up", "connected")
    expect(entry["check"]["passed"] >= 12, f"up after {entry['check']['passed']} checks passed")
    expect_equal((entry["check"]["kind"], entry["check"]["result"]), ("tcp", "passed"), "its last check")
    late.close()
    becomes(agent, "10.1.0.3", "down", "connection refused")
    _, page = ask(agent, "GET", "/metrics")
    for line in (r'weir_service_check_failed_total\{service="web",backend="10.1.0.3",port="80"\} [1-9]\d*',
                 r'weir_service_check_passed_total\{service="web",backend="10.1.0.2",port="80"\} [1-9]\d*',
                 r'weir_service_backend_up\{service="web",backend="10.1.0.3",port="80"\} 0', r"weir_service_check_backends 3"):
        expect(re.search(f"^{line}$", page, re.MULTILINE), f"in the metrics: {line}")
    expect_equal(done(agent, "GET", "/v1/status")["checks"]["backends"], 3, "status")
    for name in ("web", "alone"):
        done(agent, "POST", "/v1/services/delete", name=name)
    expect_equal(done(agent, "GET", "/v1/status")["checks"]["backends"], 0, "status without services")
    web = add(agent, text)
    expect_equal([entry["state"] for entry in web["backends"]], ["up", "up"], "without a check")
    expect(not any("check" in entry or "reason" in entry for entry in web["backends"]), f"nothing is told: {web}")


@test()
def many_checks(lab):
    """three hundred backends that do not answer: never more than some dozens are asked at once, all get their turn, and the
    agent answers meanwhile; a service closed for want of backends says so; what cannot be checked is refused"""
    host, peer = lab.hosts()
    agent = lab.agent(host)
    refused(agent, 400, "not clear which one is checked", "POST", "/v1/services/add",
            text="all tcp 203.0.113.10 to 10.1.0.2 check tcp")
    expect_equal(done(agent, "GET", "/v1/status")["checks"]["backends"], 0, "after the refusal")
    host.ip("route", "add", "10.9.0.0/16", "via", "10.1.0.2")
    peer.ip("route", "add", "blackhole", "10.9.0.0/16")
    addresses = [f"10.9.{i // 200}.{i % 200 + 1}" for i in range(300)]
    add(agent, f"web tcp 203.0.113.10 port 80 to {', '.join(addresses)} check tcp every 1s timeout 200ms fall 1 fail closed")
    most = 0
    end = time.monotonic() + 30
    while time.monotonic() < end:
        checks = done(agent, "GET", "/v1/status")["checks"]
        most = max(most, checks["running"])
        if checks["changed"] >= 300:
            break
        time.sleep(0.02)
    expect_equal(checks["changed"], 300, f"backends that went down: {checks}")
    expect(0 < most <= 48, f"checks at once: {most}")
    expect(checks["waited"] > 0, f"some had to wait: {checks}")
    web = services(agent)[0]
    expect_equal(web["failing"], "closed", "none is up")
    expect_equal({entry["state"] for entry in web["backends"]}, {"down"}, "states")


WAYS = (("ipip", 4, 4), ("ipip", 6, 6), ("ipip", 4, 6), ("gue", 4, 4), ("gue", 6, 6), ("gue", 4, 6), ("l2", 4, 4),
        ("l2", 6, 6))


def site_of_one(lab):
    """A client, weir, and one backend that answers at the services' addresses alone."""
    site = Site(lab, count=1)
    one = site.backends["b11"]
    # its tunnels end in a program, which sees checksums that are still to be made by a card
    site.host.run("ethtool", "-K", "w11", "tx", "off")
    return site, one


@test()
def checks_go_the_way_of_packets(lab):
    """ipip, gue and l2, both families and IPv4 in IPv6: the check reaches the backend as a client's packet does, at the
    service's address; without the tunnel, or without the address, it is down; a check that is direct asks its own address"""
    site, one = site_of_one(lab)
    deliver = "ipip"
    for i, (deliver, family, outer) in enumerate(WAYS):
        add(site.agent, f"{deliver}{family}{outer} tcp {SERVICE[family]} port {90 + i} to {one.address[outer]} "
                        f"deliver {deliver} check tcp port 80 {QUICK}")
    add(site.agent, f"dns udp {SERVICE[4]} port 80 to {one.address[4]} check udp send hello expect b11 {QUICK}")
    add(site.agent, f"dns6 udp {SERVICE[6]} port 80 to {one.address[6]} deliver gue check udp send hello expect b11 {QUICK}")
    add(site.agent, f"direct tcp {SERVICE[4]} port 80 to {one.address[4]} check tcp direct {QUICK}")

    def all_are(state, reason, delivers):
        for deliver, family, outer in WAYS:
            if deliver in delivers:
                becomes(site.agent, one.address[outer], state, reason.format(deliver=deliver), f"{deliver}{family}{outer}")

    all_are("up", "connected", ("ipip", "gue", "l2"))
    becomes(site.agent, one.address[4], "up", "answered", "dns")
    becomes(site.agent, one.address[6], "up", "answered", "dns6")
    becomes(site.agent, one.address[4], "down", "connection refused", "direct")
    one.unwraps = False
    all_are("down", "no answer in 250ms by {deliver}", ("ipip", "gue"))
    becomes(site.agent, one.address[4], "down", "no answer in 250ms by ipip", "dns")
    all_are("up", "connected", ("l2",))
    one.unwraps = True
    all_are("up", "connected", ("ipip", "gue", "l2"))
    one.namespace.ip("addr", "del", f"{SERVICE[4]}/32", "dev", "lo")
    one.namespace.ip("-6", "addr", "del", f"{SERVICE[6]}/128", "dev", "lo")
    all_are("down", "(no answer in 250ms by {deliver}|no route to host|network unreachable)", ("ipip", "gue", "l2"))


@test()
def nginx_behind_a_tunnel(lab):
    """http and https through the tunnel to an nginx at the service's address alone, whose answers come back by another link:
    well, 503, stopped; a closed port of UDP is told from silence"""
    site, one = site_of_one(lab)
    listen = (f"listen {SERVICE[4]}:8080; listen [{SERVICE[6]}]:8080; "
              f"listen {SERVICE[4]}:8443 ssl; listen [{SERVICE[6]}]:8443 ssl;")
    nginx = Nginx(lab, one.namespace, listen)
    nginx.start()
    lab.pair(site.host, "x11", one.namespace, "x0", 21)
    site.host.run("ethtool", "-K", "x11", "tx", "off")
    one.namespace.ip("route", "add", "10.11.0.1/32", "via", "10.21.0.1", "dev", "x0")
    one.namespace.ip("-6", "route", "add", "fd00:11::1/128", "via", "fd00:21::1", "dev", "x0")
    site.host.sysctl("net.ipv4.conf.all.rp_filter=2")
    names = []
    for family in (4, 6):
        for deliver in ("ipip", "gue"):
            for kind, port in (("http", 8080), ("https", 8443)):
                names.append((f"{kind}{deliver}{family}", family))
                add(site.agent, f"{kind}{deliver}{family} tcp {SERVICE[family]} port {port + len(names)} to {one.address[family]} "
                                f"deliver {deliver} check {kind} port {port} path /health {QUICK}")
    add(site.agent, f"closed udp {SERVICE[4]} port 81 to {one.address[4]} deliver gue check udp {QUICK}")
    add(site.agent, f"closed6 udp {SERVICE[6]} port 81 to {one.address[6]} check udp {QUICK}")

    def all_are(state, reason):
        for name, family in names:
            becomes(site.agent, one.address[family], state, reason, name)

    all_are("up", "HTTP 200")
    becomes(site.agent, one.address[4], "down", "port unreachable", "closed")
    becomes(site.agent, one.address[6], "down", "port unreachable", "closed6")
    with open(nginx.sick, "w", encoding="utf-8"):
        pass
    all_are("down", "HTTP 503")
    os.unlink(nginx.sick)
    all_are("up", "HTTP 200")
    nginx.stop()
    all_are("down", "connection refused")
    nginx.start()
    all_are("up", "HTTP 200")
    wait_for(lambda: one.namespace.run("ss", "-Htan", "state", "connected").stdout == "", 5,
             "checks leave no connections behind at the backend")
    one.namespace.ip("addr", "del", f"{SERVICE[4]}/32", "dev", "lo")
    for name, family in names:
        becomes(site.agent, one.address[family], *(("up", "HTTP 200") if family == 6 else ("down", "no answer in 250ms by .*")),
                name)

#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""A hundred thousand connections through a service whose backends come and go: bench/service_live.py BUILD_DIR [OPTION VALUE]...

    --held      90000       connections that are held: four sixths over TCP, one over TCP and IPv6, one UDP flows
    --short     100000      connections that come and go, for the shares
    --flood     1000000     SYNs of a flood beside them
    --cache     65536       lines of the flow cache, of either family (flows.cache in weir.yaml), and a quarter of flows.table
    --deliver   ipip        or gue, l2

A client, a router, weir and three backends in network namespaces (tests/netns/farm.py); the backends' server is nginx,
for UDP our own.  While those that are held ask again and again who answers them, and others come and go, a backend is
added, drained, given another weight, removed, and killed, the agent is killed and started, and SYNs flood in.  Printed,
for each: when it was over, how many were asked, and how many broke of backends that live, TCP and UDP, and of those that are gone.
"""

import os
import shutil
import signal
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests/netns"))

import farm as farms  # pylint: disable=wrong-import-position,import-error
from lab import Lab, wait_for  # pylint: disable=wrong-import-position,import-error

OPTIONS = {"--held": "90000", "--short": "100000", "--flood": "1000000", "--cache": "65536", "--deliver": "ipip"}
EACH = 15000  # connections of one process: descriptors
WORKERS = 4   # of nginx, for the same reason
WEB, DNS = 80, 81
NGINX = """
worker_processes {workers}; worker_rlimit_nofile {files}; daemon off; error_log stderr crit; pid {directory}/{name}.pid;
events {{ worker_connections {connections}; }}
http {{
  access_log off; default_type text/plain; keepalive_timeout 1h; keepalive_requests 1000000; client_header_timeout 1h;
  client_body_temp_path {directory}/{name}.1; proxy_temp_path {directory}/{name}.2; fastcgi_temp_path {directory}/{name}.3;
  uwsgi_temp_path {directory}/{name}.4; scgi_temp_path {directory}/{name}.5;
  server {{ {listen} return 200 "{name}\\n"; }}
}}
"""


class Show:
    def __init__(self, lab, options):
        self.lab, self.broken, self.began = lab, 0, time.monotonic()
        cache = options["--cache"]
        self.farm = farms.Farm(lab, ports=(DNS,),
                               config=f"interfaces: [w0]\nflows: {{cache: {{ipv4: {cache}, ipv6: {cache}}}, "
                                      f"table: {4 * int(cache)}}}\n")
        self.servers = [self.nginx(backend) for backend in self.farm.backends.values()]
        self.services = []
        for family in (4, 6):
            for name, what in (("web", f"tcp {farms.SERVICE[family]} port {WEB}"), ("dns", f"udp {farms.SERVICE[family]} port {DNS}")):
                check = " check tcp every 500ms fall 2" if name == "web" else ""
                self.farm.add(f"{name}{family} {what} to {self.farm.to(family, b1=1, b2=2)} deliver {options['--deliver']}{check}")
                self.services.append((f"{name}{family}", family))
        held = int(options["--held"])
        kinds = (("tcp", 4, WEB, held * 4 // 6), ("tcp", 6, WEB, held // 6), ("udp", 4, DNS, held // 6))
        self.crowds = [(self.farm.crowd(proto, family, port, farms.SOURCES[family][:5]), min(EACH, count - first))
                       for proto, family, port, count in kinds for first in range(0, count, EACH)]
        # ends that are free since a backend was removed are not spread over the ring as ends at random are
        self.passing = self.farm.crowd(sources=farms.SOURCES[4][5:])

    def nginx(self, backend):
        listen = "".join(f"listen {address}:{WEB} reuseport; " for family in (4, 6)
                         for address in (bracket(farms.SERVICE[family]), bracket(backend.address[family])))
        path = self.lab.write(f"{backend.name}.conf", NGINX.format(
            workers=WORKERS, files=EACH + 4000, connections=EACH + 3500, directory=self.lab.directory, name=backend.name,
            listen=listen))
        return backend.namespace.start(shutil.which("nginx"), "-c", path, "-p", self.lab.directory, stderr=None)

    def change(self, text):
        word, backend, *rest = text.split()
        for name, family in self.services:
            self.farm.change(name, " ".join([word, self.farm.backends[backend].address[family], *rest]))

    def everybody(self, *words):
        for crowd, _ in self.crowds:
            crowd.tell(*words)
        return [crowd.hear() for crowd, _ in self.crowds]

    def open(self, part, what):
        """That part of those that are to be held begins."""
        for crowd, count in self.crowds:
            crowd.tell("open", int(count * part))
        self.tell(what, [crowd.hear() for crowd, _ in self.crowds])

    def during(self, what, function, gone=()):
        """Does it while all ask and others come and go; then all ask once more."""
        for crowd, _ in self.crowds:
            crowd.tell("ask")
        self.passing.tell("short", 5000)
        function()
        answers = [crowd.hear() for crowd, _ in self.crowds]
        short = self.passing.hear()
        for _ in range(2):
            answers += self.everybody("ask")
        self.tell(what, answers, short, gone)

    def tell(self, what, answers, short=None, gone=()):
        kinds = {"tcp": {}, "udp": {}}
        for i, answer in enumerate(answers):
            of = kinds[self.crowds[i % len(self.crowds)][0].proto]
            for name, count in answer["of"].items():
                of[name] = of.get(name, 0) + count
        asked = sum(answer["done"] + sum(answer["of"].values()) for answer in answers)
        held = sum(answer["held"] for answer in answers[-len(self.crowds):])
        unwanted = {kind: sum(count for name, count in of.items() if name not in gone) for kind, of in kinds.items()}
        wanted = sum(count for of in kinds.values() for name, count in of.items() if name in gone)
        failed = sum(short["of"].values()) if short else 0
        self.broken += unwanted["tcp"] + unwanted["udp"] + (0 if gone else failed)
        print(f"{time.monotonic() - self.began:>4.0f} s  {what:<34} {held:>7} {asked:>8} {unwanted['tcp']:>7} {unwanted['udp']:>7}"
              f" {wanted:>7} {f'{failed} of 5000' if short else '-':>12}", flush=True)

    def shares(self, count, wanted):
        print(f"{time.monotonic() - self.began:>4.0f} s  {count} connections, for the shares", flush=True)
        answer = self.passing.do("short", count)
        total = sum(wanted.values())
        print(f"\nshares of {answer['done']} new connections (broken: {sum(answer['of'].values())}):")
        for name, weight in wanted.items():
            share = answer["by"].get(name, 0) / max(answer["done"], 1)
            print(f"  {name} weight {weight}: {100 * share:.2f} %, wanted {100 * weight / total:.2f} %: "
                  f"{100 * (share * total / weight - 1):+.2f} %")
        print(flush=True)

    def agent_again(self):
        self.farm.agent.stop(signal.SIGKILL)
        time.sleep(2)
        self.farm.agent.start()

    def flood(self, count):
        with subprocess.Popen(self.farm.router.command(self.lab.tool("flood"), "br0", farms.MAC.format(2), farms.SERVICE[4],
                                                       WEB, "syn", count, count), stdout=subprocess.DEVNULL) as flood:
            self.change("set b1 weight 3")
            flood.wait()

    def close(self):
        for server in self.servers:
            server.terminate()
            server.wait(10)


def bracket(address):
    return f"[{address}]" if ":" in address else address


def play(lab, options):
    show = Show(lab, options)
    try:
        wait_for(lambda: show.passing.do("short", 50)["done"] == 50, 20, "backends")
        print(f"{'':<41} {'held':>7} {'asked':>8} {'TCP':>7} {'UDP':>7} {'of gone':>7} {'short broken':>12}")
        show.open(1 / 2, "two backends, weights 1 and 2")
        show.during("add b3 weight 3", lambda: show.change("add b3 weight 3"))
        show.open(1 / 2, "as many again")
        show.shares(int(options["--short"]), {"b1": 1, "b2": 2, "b3": 3})
        show.during("drain b1", lambda: show.change("drain b1"))
        show.during("undrain b1", lambda: show.change("undrain b1"))
        show.during("kill -9 of the agent, another one", show.agent_again)
        show.during(f"{options['--flood']} SYNs, set b1 weight 3", lambda: show.flood(int(options["--flood"])))
        show.during("remove b3", lambda: show.change("remove b3"), gone=["b3"])
        show.shares(int(options["--short"]), {"b1": 3, "b2": 2})
        show.during("b2 dies", show.farm.backends["b2"].kill, gone=["b2"])
    finally:
        show.close()
    return show.broken


def main():
    options = dict(OPTIONS)
    words = sys.argv[2:]
    options.update(zip(words[::2], words[1::2]))
    if len(sys.argv) < 2 or set(options) != set(OPTIONS) or len(words) % 2:
        sys.exit(__doc__)
    if not shutil.which("nginx"):
        sys.exit("bench/service_live: nginx is not installed")
    os.umask(0o022)
    lab = Lab(os.path.abspath(sys.argv[1]))
    try:
        broken = play(lab, options)
    finally:
        left = lab.close()
    print(f"connections of living backends that broke: {broken}" + (f"\nleft behind: {left}" if left else ""))
    return 1 if broken or left else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""What knowing owners, sockets, drops and names costs: bench/owner.py BUILD_DIR [ROUNDS]

In one namespace, over loopback, rounds take turns (ROUNDS, 7): weir with all of that switched off (it counts flows, as
it always does), weir with all of it on, and no weir at all.  In each round one process on one CPU opens and closes
20,000 connections, then sends and receives 500,000 datagrams (bench/load.c), and then wrk asks nginx for a small file
for three seconds.  Printed: medians, and the difference between on and off.  A connection here is both its ends; a datagram passes both hooks (out and in), a
send and a receive, so half of the difference is what one end pays for a packet.
"""

import os
import re
import shutil
import statistics
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests/netns"))

from lab import Lab, wait_for  # pylint: disable=wrong-import-position,import-error

CONNECTIONS, PACKETS, WRK_SECONDS = 20_000, 500_000, 3
OFF = """interfaces: [lo]
owners: {enabled: off}
sockets: {enabled: off}
drops: {enabled: off}
names: off
"""
ON = "interfaces: [lo]\n"
NGINX = """daemon off; worker_processes 1; pid {dir}/nginx.pid; error_log {dir}/error.log;
events {{ worker_connections 512; }}
http {{ access_log off; keepalive_requests 1000000; client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f;
  uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
  server {{ listen 127.0.0.1:8080; location / {{ return 200 "{text}"; }} }} }}
"""


def figure(host, build, what, count):
    return float(subprocess.check_output(host.command(f"{build}/bench/bench-load", what, count), text=True))


def requests(host):
    said = subprocess.check_output(
        host.command("wrk", "-t1", "-c32", f"-d{WRK_SECONDS}s", "http://127.0.0.1:8080/"), text=True)
    return float(re.search(r"Requests/sec:\s+([0-9.]+)", said).group(1))


def serve(lab, host):
    directory = lab.path("nginx")
    os.makedirs(directory, exist_ok=True)
    os.chmod(directory, 0o777)
    with open(f"{directory}/nginx.conf", "w", encoding="ascii") as file:
        file.write(NGINX.format(dir=directory, text="x" * 1024))
    lab.start(*host.command("nginx", "-p", directory, "-c", f"{directory}/nginx.conf"))
    wait_for(lambda: subprocess.run(host.command("curl", "-so/dev/null", "http://127.0.0.1:8080/"), check=False)
             .returncode == 0, 10, "nginx answers")


def main():
    if len(sys.argv) < 2:
        sys.exit(f"usage: {sys.argv[0]} BUILD_DIR [ROUNDS]")
    build, rounds = os.path.abspath(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 7
    with_http = shutil.which("nginx") and shutil.which("wrk")
    configs = {"off": OFF, "on": ON, "no weir": None}
    names = ["connections", "packets"] + (["requests"] if with_http else [])
    figures = {name: {config: [] for config in configs} for name in names}
    lab = Lab(build)
    try:
        host = lab.namespace("bench")
        if with_http:
            serve(lab, host)
        for turn in range(rounds):
            for config in list(configs)[turn % 3:] + list(configs)[:turn % 3]:
                agent = lab.agent(host, configs[config]) if configs[config] else None
                if agent:
                    agent.wait_watched("lo")
                figures["connections"][config].append(figure(host, build, "connections", CONNECTIONS))
                figures["packets"][config].append(figure(host, build, "packets", PACKETS))
                if with_http:
                    figures["requests"][config].append(requests(host))
                if agent:
                    agent.stop()
                time.sleep(0.2)
    finally:
        lab.close()
    print(f"medians of {rounds} rounds; loopback, 1 CPU for client and server, {CONNECTIONS:,} connections, {PACKETS:,} datagrams\n")
    print(f"{'':<26} {'no weir':>10} {'off':>10} {'on':>10} {'on - off':>10}")
    medians = {name: {config: statistics.median(values) for config, values in figures[name].items()} for name in names}
    for name, title in (("connections", "connection, both ends, ns"), ("packets", "datagram, both ends, ns")):
        m = medians[name]
        print(f"{title:<26} {m['no weir']:>10.0f} {m['off']:>10.0f} {m['on']:>10.0f} {m['on'] - m['off']:>10.1f}")
    print(f"{'packet, one end, ns':<26} {'':>10} {'':>10} {'':>10} {(medians['packets']['on'] - medians['packets']['off']) / 2:>10.1f}")
    if with_http:
        m = medians["requests"]
        print(f"{'nginx and wrk, requests/s':<26} {m['no weir']:>10.0f} {m['off']:>10.0f} {m['on']:>10.0f} {100 * (m['on'] / m['off'] - 1):>9.2f}%")
    else:
        print("nginx and wrk are not installed: the HTTP part was not run")


if __name__ == "__main__":
    main()

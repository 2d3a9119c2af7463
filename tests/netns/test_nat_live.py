# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""nat under real traffic: thousands of connections and changes meanwhile, and more of them than there are ports."""

import signal

from farm import SERVICE, Farm
from lab import expect, expect_equal
from suite import test
from test_nat import Site
from test_services import services
from test_services_live import all_done, everybody

PORTS = 500  # of nat, to each backend


def lost(agent):
    """What services have lost, but for what came before the way to a backend was known."""
    return {f"{service['name']} {loss}": count for service in services(agent)
            for loss, count in service["lost"].items() if count and loss != "no_neighbour"}


@test(seconds=60)
def nat_holds_thousands(lab):
    """of thousands of connections that nat delivers, over TCP and UDP of both families, none of a living backend breaks while
    backends are added, drained and removed, and the agent is killed and comes back; of those that come and go meanwhile none
    does either, though they are more than nat has ports"""
    farm = Farm(lab, config=f"interfaces: [w0]\nbalance: {{nat: {{ports: 61001-{61000 + PORTS}}}}}\n")
    names = {}
    for family in (4, 6):
        for name, proto in (("web", "tcp"), ("dns", "udp")):
            names[f"{name}{family}"] = family
            farm.add(f"{name}{family} {proto} {SERVICE[family]} port 80 to {farm.to(family, b1=1, b2=2)} deliver nat")
    crowds = [farm.crowd(proto, family) for proto in ("tcp", "udp") for family in (4, 6)]
    passing = [farm.crowd("tcp", family) for family in (4, 6)]
    for crowd in passing:
        all_done([crowd.do("short", 20)], "at first")
    all_done(everybody(crowds, "open", 150), "when they began")

    def change(text, gone=()):
        """Those that are held ask and others come and go, while it changes; and those that are held ask again."""
        for crowd in crowds:
            crowd.tell("ask")
        for crowd in passing:
            crowd.tell("short", PORTS)
        word, backend, *rest = text.split()
        for name, family in names.items():
            farm.change(name, " ".join([word, farm.backends[backend].address[family], *rest]))
        answers = [crowd.hear() for crowd in crowds]
        short = [crowd.hear() for crowd in passing]
        for answer in answers + everybody(crowds, "ask"):
            expect(set(answer["of"]) <= set(gone), f"connections that broke with {text}: {answer}")
        if not gone:
            all_done(short, f"that came with {text}")

    change("add b3 weight 3")
    all_done(everybody(crowds, "open", 150), "when they began, with three")
    change("drain b1")
    all_done(everybody(passing, "short", PORTS), "on ports of those that ended")
    farm.agent.stop(signal.SIGKILL)
    all_done(everybody(crowds, "ask"), "without an agent")
    all_done(everybody(crowds, "open", 100), "when they began, without an agent")
    all_done(everybody(passing, "short", PORTS), "without an agent")
    farm.agent.start()
    all_done(everybody(crowds, "ask"), "with another agent")
    change("undrain b1")
    change("remove b3", gone=["b3"])
    all_done(everybody(passing, "short", PORTS), "without one backend")
    expect_equal({what: count for what, count in lost(farm.agent).items() if not what.endswith("no_port")}, {},
                 "what services have lost")
    farm.agent.losses()


@test("vm-6.1")
def ports_of_nat_are_used_again(lab):
    """with eight ports of nat twenty-four connections to one backend are answered one after the other, whether it is the client
    or the backend that ends first and remembers the port; one that is held gives its port to nobody"""
    site = Site(lab, count=1, config="balance: {nat: {ports: 61001-61008}}\n")
    for family in (4, 6):
        site.add(family)
        site.reached(family)
        with site.connect(family) as held:
            _, _, port, _ = site.ask(held)
            used = {site.ask_once(family, seconds=20)[2] for _ in range(12)}
            expect(used <= set(range(61001, 61009)) - {port}, f"IPv{family}: ports: {used}, beside {port}")
            for _ in range(12):
                expect_equal(site.page(family, seconds=20), 200000, f"IPv{family}: bytes of a page")
            expect_equal(site.ask(held)[2], port, f"IPv{family}: the port that is held")

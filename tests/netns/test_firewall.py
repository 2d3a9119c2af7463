# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""The firewall as a user has it: rules, sets and policies, and what really comes through."""

import os
import random

from judge import PORT_SETS, SETS, Packet, Rule, judge
from lab import expect, expect_equal
from suite import test
from test_rules import ask, policy
from test_sets import change
from wire import Wire


@test("vm", seconds=120)
def random_policies_decide_as_they_say(lab):
    """random policies over every kind of match decide about random packets, of both families, in and out, first of a flow or
    not, as a plain reader of the sentences does"""
    seed = int(os.environ.get("WEIR_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"WEIR_SEED={seed}")
    chance = random.Random(seed)
    wire = Wire(lab)
    for name, listed in SETS.items():
        change(wire.agent, "add", "\n".join(listed.split()), name=name)
    for name, ranges in PORT_SETS.items():
        change(wire.agent, "add", "\n".join(f"{low}-{high}" for low, high in ranges), name=name)
    judged = 0
    for number in range(int(os.environ.get("WEIR_POLICIES", max(2, int(8 * lab.scale))))):
        rules = []
        while len(rules) < 50:
            made = Rule(chance)
            if made.text not in [rule.text for rule in rules]:
                rules.append(made)
        defaults = {way: chance.choice(("accept", "drop")) for way in ("in", "out")}
        head = f"default: {{in: {defaults['in']}, out: {defaults['out']}}}\n"
        text = policy(*(rule.text for rule in rules), head=head)
        status, answer = ask(wire.agent, "POST", "/v1/policy", text, cut=1)
        expect_equal(status, 200, f"seed {seed}, policy {number}: {answer}\n{text}")
        packets = [Packet(chance) for _ in range(150)]
        packets += [Packet(chance, chance.choice(packets)) for _ in range(250)]
        for direction in ("in", "out"):
            told = {}
            for packet in packets:
                passes = judge(rules, defaults, packet) if packet.direction == direction else None
                if passes is not None:
                    told[len(told)] = (packet, passes)
            frames, wanted, numbers = [], set(), {}
            for packet, passes in told.values():
                frames.append(packet.make(wire.tail()))
                numbers[wire.number] = packet, passes
                if passes:
                    wanted.add(wire.number)
            arrived = wire.send(frames, wanted, direction)
            judged += len(frames)
            wrong = [f"{'stopped' if passes else 'came through'}: {packet}" for sent, (packet, passes) in numbers.items()
                     if (sent in arrived) != passes]
            expect(not wrong, f"seed {seed}, policy {number}: {len(wrong)} of {len(frames)}\n" + "\n".join(wrong[:6]) +
                   "\n" + text)
    expect(judged > 300, f"only {judged} packets were judged")

# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
"""The list of tests: every function marked @test in the files test_*.py."""

import importlib
import os

TESTS = []


class Test:
    """One test: a function of a Lab; the first paragraph of its docstring is the sentence it proves."""

    def __init__(self, function, tags, seconds):
        self.function = function
        self.name = function.__name__
        self.tags = tags
        self.seconds = seconds
        self.sentence = " ".join(function.__doc__.split("\n\n")[0].split()).rstrip(".")


def test(*tags, seconds=40):
    """Marks a test.  The tag `vm` has it run in the older kernels, too, since the kernel has a part in what it shows: what
    loads, attaches and stays, tracepoints, iterators, qdiscs, forms of packets that the kernel makes; `vm-6.1` or `vm-6.12` in
    one of them alone, where two are as good as three; and `sanitize` with a weir that was built with sanitizers (tools/lint); `alone` keeps others from
    running at the same time, for what looks at the whole machine; `seconds` is when it is given up."""

    def mark(function):
        more = {"vm-6.1", "vm-6.12"} if "vm" in tags else set()
        TESTS.append(Test(function, set(tags) | more, seconds))
        return function

    return mark


def variants(argument, *values):
    """Makes one test of each value; `{argument}` in the docstring stands for it.  Stands below @test."""

    def spread(function):
        made = []
        for value in values:
            def one(lab, function=function, value=value):
                return function(lab, **{argument: value})

            one.value = value
            one.__name__ = f"{function.__name__}_{str(value).lower().replace(' ', '_').replace('.', '_')}"
            one.__doc__ = function.__doc__.replace("{" + argument + "}", str(value))
            made.append(one)
        return made

    return spread


def each(*tags, seconds=40, **only):
    """@test for what @variants made; `vm=6` gives the tag `vm` to the variant of the value 6 alone."""

    def mark(functions):
        for tag, value in only.items():
            if value not in [function.value for function in functions]:
                raise ValueError(f"{tag}={value!r}: no such variant")
        for function in functions:
            test(*tags, *(tag for tag, value in only.items() if value == function.value), seconds=seconds)(function)
        return functions

    return mark


def load():
    directory = os.path.dirname(os.path.abspath(__file__))
    for name in sorted(os.listdir(directory)):
        if name.startswith("test_") and name.endswith(".py"):
            importlib.import_module(name[:-3])
    return TESTS

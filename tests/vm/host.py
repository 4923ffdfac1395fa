# SPDX-License-Identifier: Apache-2.0
"""What tests in guests share (pytest, on the host): boots that skip where there can be no guest."""
import os
import re
import shlex
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import vm

INSIDE = vm.HERE / "inside"
INTEGRATION = vm.HERE.parent / "integration"
BUILD = Path(os.environ.get("YOLK_BUILD", "build")).resolve()

def boot(command, cut=None, **options):
    """Runs a command in a guest with these devices (vm.Guest) and returns the outcome; shows its output as it comes."""
    try:
        return vm.Guest(**options).run(command, cut=cut, show=lambda line: print(line, flush=True))
    except vm.NoGuest as why:
        pytest.skip(str(why))


def boot_pytest(name, *tests, env=None, **options):
    """Runs a file of tests/vm/inside under pytest in a guest."""
    command = ["/usr/bin/python3", "-B", "-m", "pytest", "-p", "no:cacheprovider", "-v", "-s", "--tb=short",
               "-W", "ignore::pytest.PytestUnknownMarkWarning",
               "--color=no", "--noconftest", *(["-k", " or ".join(tests)] if tests else []), INSIDE / name]
    return boot(command, env={"PYTHONPATH": INTEGRATION, "YOLK_TEST_DEADLINE_S": 300, **(env or {})}, **options)


@dataclass
class Step:
    """A program of several that one boot runs."""
    name: str
    command: list
    env: dict = field(default_factory=dict)
    seconds: int = 300


@dataclass
class Ended:
    """How a step ended. status: None if the guest did not come to that."""
    status: int | None
    output: str


def step_script(steps, before=":"):
    lines = [(INSIDE / "step.sh").read_text(), f"before() {{\n{before}\n}}"]
    for step in steps:
        env = [f"{name}={value}" for name, value in step.env.items()]
        lines.append(shlex.join(["step", step.name, str(step.seconds), "env", *env, *map(str, step.command)]))
    return "\n".join(lines)


def boot_steps(steps, before=":", **options):
    """Runs them one after the other in one guest, since a boot costs as much as many of them; one that fails or hangs does
    not keep the others from running. before: what a shell does before each. Returns {name: how it ended}."""
    outcome = boot(["sh", "-c", step_script(steps, before)], **options)
    parts = {match[1]: Ended(int(match[3]), match[2]) for match in
             re.finditer(r"^== (\S+) begins\n(.*?)^== \1 ends with (\d+) after \d+ s$", outcome.output, re.M | re.S)}
    lost = Ended(None, f"{outcome.why}\n{outcome.output[-6000:]}")
    return {step.name: parts.get(step.name, lost) for step in steps}


def assert_step(ended, *cases):
    """It ended well, and these cases of a suite passed in it."""
    assert ended.status == 0, f"{ended.status}:\n{ended.output[-6000:]}"
    for case in cases:
        assert f"OK ] {case}\n" in ended.output, ended.output[-6000:]


def suite(name):
    """A program of tests/unit that needs libibverbs."""
    program = BUILD / "tests/unit" / name
    if not program.exists():
        pytest.skip(f"{program} is not built")
    if b"libibverbs.so.1" not in program.read_bytes():
        pytest.skip("it was built without the headers of libibverbs (libibverbs-dev)")
    return program


def programs(*needed):
    """Where yolk and yolkd are; skips where they, or other programs that are needed, are not."""
    missing = [name for name in needed if shutil.which(name) is None]
    if not (BUILD / "bin/yolkd").exists() or missing:
        pytest.skip(f"{', '.join(missing) or BUILD / 'bin/yolkd'} is not installed")
    return BUILD / "bin"


def assert_good(outcome):
    kernel = "\n".join(outcome.kernel)
    assert outcome.status == 0, f"{outcome.why or outcome.status}:\n{outcome.output[-6000:]}\n{kernel}"


def sparse_file(path, size):
    return vm.sparse(Path(path), size)

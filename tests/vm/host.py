# SPDX-License-Identifier: Apache-2.0
"""What tests in guests share (pytest, on the host): boots that skip where there can be no guest."""
import os
import shutil
from pathlib import Path

import pytest

import vm

INSIDE = vm.HERE / "inside"
INTEGRATION = vm.HERE.parent / "integration"
BUILD = Path(os.environ.get("YOLK_BUILD", "build")).resolve()

# Not seen to end in an emulated guest yet: it proves nothing there, and takes its whole deadline.
not_seen_to_end = pytest.mark.skipif(os.environ.get("YOLK_LONG") != "1",
                                     reason="not seen to end in an emulated guest: YOLK_LONG=1 runs it")


def boot(command, cut=None, **options):
    """Runs a command in a guest with these devices (vm.Guest) and returns the outcome."""
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
    print(outcome.output)


def sparse_file(path, size):
    return vm.sparse(Path(path), size)

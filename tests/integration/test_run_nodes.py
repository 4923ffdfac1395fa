# SPDX-License-Identifier: Apache-2.0
"""`yolk run --nodes N`, what `make run NODES=3` calls: a cluster of its own that does the trace's work and leaves nothing,
however it ends."""
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

from harness import DEADLINE_S, clean_env, program, wait_for

if shutil.which("etcd") is None:
    pytest.skip("etcd is missing (etcd-server)", allow_module_level=True)

SMALL = ("--nodes", "3", "--requests", "400", "--block", "4K", "--capacity", "2000")


@pytest.fixture
def tmp():
    folder = Path(tempfile.mkdtemp(prefix="yk-run-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def processes_in(folder):
    """Those that name the folder in their arguments, and namespaces go with them."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and str(folder).encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def segments():
    """Of nodes with the names that these have; folders of other tests come and go."""
    return {p.name for p in Path("/dev/shm").iterdir() if re.search(r"(^|[-.])n[1-3]($|[-.])", p.name)}


def start(tmp, *options):
    # Where the tests run in the background of a shell, SIGINT is ignored, and so it would be by what they start.
    return subprocess.Popen([program("yolk"), "run", *SMALL, *options], env=clean_env({"TMPDIR": str(tmp)}),
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))


def nothing_is_left(tmp, before):
    wait_for(lambda: not processes_in(tmp), "the end of all that it started")
    wait_for(lambda: not list(tmp.iterdir()), "an empty folder")
    assert segments() <= before


def test_three_nodes_do_a_trace_and_leave_nothing(tmp):
    before = segments()
    out, err = start(tmp, "--json").communicate(timeout=3 * DEADLINE_S)
    result = json.loads(out)
    assert result["wrong_bytes"] == 0 and result["requests"] == 400, err
    assert result["hit_blocks"] > 0 and result["tokens_saved"] > 0 and result["checked_bytes"] > 0
    nodes = result["nodes"]
    assert len(nodes) == 3 and all(n["known"] and n["commits"] > 0 for n in nodes)
    # One pool: blocks that one node's clients put, another's got.
    assert sum(n["pulled"] for n in nodes) > 0 and sum(n["lent"] for n in nodes) >= sum(n["pulled"] for n in nodes)
    assert sum(n["pulled_bytes"] for n in nodes) == 4096 * sum(n["pulled"] for n in nodes)
    nothing_is_left(tmp, before)


def test_people_are_told_per_node(tmp):
    out, err = start(tmp).communicate(timeout=3 * DEADLINE_S)
    assert "wrong bytes                  0" in out, out + err
    assert all(f"\n  n{i} " in out for i in (1, 2, 3)), out
    assert ("received" in out) == (os.geteuid() == 0 and shutil.which("ip") is not None)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("late", [False, True])
def test_nothing_is_left_when_it_is_killed(tmp, number, late):
    before = segments()
    run = start(tmp, "--speed", "0.001")
    wait_for(lambda: len(processes_in(tmp)) >= (4 if late else 1), "its processes")
    if late:
        wait_for(lambda: "Load:" in run.stdout.readline(), "the run's beginning")
    run.send_signal(number)
    run.communicate(timeout=DEADLINE_S)
    assert run.returncode != 0
    nothing_is_left(tmp, before)


def test_without_etcd_it_says_what_to_install(tmp):
    empty = tmp / "bin"
    empty.mkdir()
    for tool in ("sh", "rm"):
        (empty / tool).symlink_to(shutil.which(tool))
    done = subprocess.run([program("yolk"), "run", *SMALL], env=clean_env({"TMPDIR": str(tmp), "PATH": str(empty)}),
                          capture_output=True, text=True, timeout=DEADLINE_S, stdin=subprocess.DEVNULL)
    assert done.returncode == 1 and "etcd-server" in done.stderr
    assert [p.name for p in tmp.iterdir()] == ["bin"]

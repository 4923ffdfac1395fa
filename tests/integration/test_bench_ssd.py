# SPDX-License-Identifier: Apache-2.0
"""`yolk bench ssd`: it runs every case on a small size, prints what it promises, leaves nothing.

Figures are not judged here: a busy machine has no say in whether the program is right.
"""
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from harness import DEADLINE_S, clean_env, program, wait_for, yolk

FIELDS = ["bench", "case", "value", "unit", "limit", "ratio", "p50_us", "p99_us", "p999_us", "cpu_s"]
ROOM = 3 << 30  # three files of 512 MiB, and the rest of the test suite beside it
CASES = {"write 1MiB": "B/s", "write 64KiB": "B/s", "read 1MiB depth32": "B/s", "read 64KiB depth32": "B/s",
         "read 256KiB single": "s", "dram hit p99 beside ssd": "s", "put 10x dram": "B/s",
         "put 10x dram longest stall": "s", "warm-up": "s"}
ALONE = {"dram hit p99 idle": "s", "write amplification in order": "fraction",
         "write amplification random 90%": "fraction", "index bytes a block": "B", "cpu write": "s/GB",
         "cpu read": "s/GB", "base tier write 1MiB": "B/s", "base tier read 64KiB depth32": "B/s",
         "base fio write 1MiB": "B/s", "base fio read 1MiB depth32": "B/s"}


@pytest.fixture
def disk(place):
    """A folder on a file system with O_DIRECT and room."""
    folder = place.dir / "disk"
    folder.mkdir()
    probe = folder / "probe"
    try:
        os.close(os.open(probe, os.O_CREAT | os.O_RDWR | os.O_DIRECT))
    except OSError:
        pytest.skip(f"{folder}: no O_DIRECT")
    probe.unlink()
    if shutil.disk_usage(folder).free < ROOM:
        pytest.skip(f"{folder}: less than {ROOM >> 30} GiB free")
    return folder


def needs_fio(test):
    return pytest.mark.skipif(shutil.which("fio") is None, reason="fio is not installed")(test)


def files_of(folder):
    """Open files of any process that lie in the folder or were removed from it."""
    found = []
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            target = os.readlink(link)
        except OSError:
            continue
        if target.startswith(f"{folder}/"):
            found.append(target)
    return found


@needs_fio
def test_every_case_runs(place, disk):
    done = yolk("bench", "ssd", "--quick", "--json", "--path", str(disk), env={"TMPDIR": str(place.dir)})
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(list(row) == FIELDS and row["bench"] == "ssd" for row in rows)
    cases = {row["case"]: row for row in rows}
    assert len(cases) == len(rows)
    for case, unit in CASES.items():
        row = cases[case]
        assert row["unit"] == unit and row["value"] > 0 and row["limit"] > 0
        assert row["ratio"] == pytest.approx(row["value"] / row["limit"], rel=1e-3)
    for case, unit in ALONE.items(): # 0: a disk that was busy with a flush all that short time
        assert cases[case]["unit"] == unit and cases[case]["value"] >= 0 and cases[case]["ratio"] is None
    for case, row in cases.items():
        if case.startswith(("base ", "cpu ")):
            assert row["ratio"] is None
    assert cases["read 256KiB single"]["p50_us"] <= cases["read 256KiB single"]["p99_us"]
    assert not list(disk.iterdir()) and not files_of(disk)
    assert not [p for p in place.dir.iterdir() if p.name.startswith("yolk-")]


@needs_fio
def test_one_case_as_a_table(disk):
    done = yolk("bench", "ssd", "--quick", "--path", str(disk), "--case", "index*")
    head, *rows = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert head.split()[:4] == ["bench", "case", "value", "unit"] and len(rows) == 2


def test_a_missing_fio_is_named(place, disk):
    done = yolk("bench", "ssd", "--quick", "--json", "--path", str(disk), env={"PATH": str(place.dir)})
    assert done.returncode == 3 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and "package fio" in done.stderr


def test_the_directory_is_asked_for():
    done = yolk("bench", "ssd", "--quick")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "--path" in done.stderr


@needs_fio
@pytest.mark.parametrize("path, said", [("/nonexistent", "No such file"), ("/dev/null", "directory")])
def test_a_directory_that_is_none_is_told(path, said):
    done = yolk("bench", "ssd", "--quick", "--path", path)
    assert done.returncode != 0 and done.stdout == "" and said in done.stderr


@needs_fio
def test_more_than_the_disk_has_is_refused(disk):
    done = yolk("bench", "ssd", "--path", str(disk), "--size", "1000T")
    assert done.returncode != 0 and done.stdout == ""
    assert "free" in done.stderr and "--size" in done.stderr
    assert not list(disk.iterdir())


@needs_fio
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_one_that_is_killed_leaves_nothing(place, disk, number):
    """Killed while it measures: node and fio go with it, and its files never had names."""
    out = place.dir / "out"
    with open(out, "wb") as to:
        process = place.spawn([program("yolk"), "bench", "ssd", "--quick", "--json", "--path", str(disk)],
                              stdout=to, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
                              env=clean_env({"TMPDIR": str(place.dir)}), start_new_session=True)
    wait_for(lambda: out.stat().st_size > 0 or process.poll() is not None, "the first row", 2 * DEADLINE_S)
    assert process.poll() is None
    process.send_signal(number)
    process.wait(DEADLINE_S)
    wait_for(lambda: not files_of(disk), "its processes are gone")
    assert not list(disk.iterdir())

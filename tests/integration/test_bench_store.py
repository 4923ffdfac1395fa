# SPDX-License-Identifier: Apache-2.0
"""`yolk bench store` and `yolk bench peers`: they run every case, print what they promise, leave nothing.

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


def shared_memory():
    return {p.name for p in Path("/dev/shm").iterdir() if p.name.startswith("yolk-bench")}


def bench(name, place, *options):
    done = yolk("bench", name, "--quick", "--json", *options, env={"TMPDIR": str(place.dir)})
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(list(row) == FIELDS and row["bench"] == name for row in rows)
    cases = {row["case"]: row for row in rows}
    assert len(cases) == len(rows)
    for case, row in cases.items():
        assert row["value"] > 0 or case.endswith(("slowest", "node")), row
        if case.startswith(("base ", "cpu ")):
            assert row["ratio"] is None
        elif row["limit"] is not None:
            assert row["ratio"] == pytest.approx(row["value"] / row["limit"], rel=1e-3)
    assert not [p for p in place.dir.iterdir() if p.name.startswith("yolk-")]
    return cases


def test_store_runs_every_case(place):
    before = shared_memory()
    cases = bench("store", place)
    for case, unit in {"get 1MiB buffer": "B/s", "put 1MiB pipelined": "B/s", "put 1MiB single": "B/s",
                       "get 1MiB reference": "B/s", "match 256": "1/s", "headline throughput": "B/s",
                       "headline latency": "s"}.items():
        assert cases[case]["unit"] == unit and cases[case]["ratio"] is not None
    for case in ["base unix socket ping-pong", "lookup reference", "put 16KiB single", "get 16KiB buffer",
                 "socket exists batched", "socket match batched", "put 64B batched", "lookup hot beside puts p99.9",
                 "64 clients mixed", "64 clients mixed slowest", "64 clients mixed p99", "restart clean", "restart killed",
                 "metadata of a block beside its key"]:
        assert case in cases
    for case in ["lookup reference", "match 256", "get 1MiB buffer", "put 1MiB pipelined", "base unix socket ping-pong"]:
        assert cases[case]["p50_us"] <= cases[case]["p99_us"] <= cases[case]["p999_us"]
    assert shared_memory() == before


def test_store_prints_a_table_without_json(place):
    done = yolk("bench", "store", "--quick", "--case", "put*")
    head, *rows = done.stdout.splitlines()
    assert done.returncode == 0 and head.split()[:4] == ["bench", "case", "value", "unit"]
    cases = bench("store", place, "--case", "put*")
    assert len(rows) == len(cases) > 10
    assert all(row.startswith("store ") and row[9:].startswith(f"{case} ") for row, case in zip(rows, cases)), rows


def test_cases_are_chosen_by_name(place):
    assert set(bench("store", place, "--case", "put 16KiB*")) == {
        "put 16KiB single", "cpu put 16KiB single client", "cpu put 16KiB single node"}
    both = {row.split('"case": "')[1].split('"')[0] for row in yolk(
        "--json", "bench", "alloc", "--quick", "--case", "ops", "--case", "usable one-size").stdout.splitlines()}
    assert both == {"ops", "usable one-size"}
    none = yolk("bench", "store", "--quick", "--case", "nothing like it")
    assert none.returncode == 2 and none.stdout == ""
    assert len(none.stderr.splitlines()) == 1 and "nothing like it" in none.stderr


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")
def test_peers_stand_beside_redis(place):
    cases = bench("peers", place)
    for case in ["redis get 1MiB buffer", "redis get 1MiB reference", "redis exists single", "redis exists batched"]:
        assert cases[case]["ratio"] is not None
    assert not list(Path("/tmp").glob("yolk-redis-*"))


def test_a_missing_peer_is_named(place):
    done = yolk("bench", "peers", "--quick", "--json", env={"PATH": str(place.dir)})
    assert done.returncode == 3 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and "package redis-server" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_one_that_is_killed_leaves_nothing(place, number):
    """Killed while a named segment is there: its children go with it, and a janitor removes the segment."""
    before = shared_memory()
    process = place.spawn([program("yolk"), "bench", "store", "--quick", "--case", "restart*"], stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
                          env=clean_env({"TMPDIR": str(place.dir)}), start_new_session=True)
    wait_for(lambda: shared_memory() - before or process.poll() is not None, "the segment is there", 2 * DEADLINE_S)
    if process.poll() is None:
        process.send_signal(number)
    process.wait(DEADLINE_S)
    wait_for(lambda: shared_memory() <= before, "the segment is gone")

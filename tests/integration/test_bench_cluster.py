# SPDX-License-Identifier: Apache-2.0
"""`yolk bench cluster`: it runs every case on a small size, prints what it promises, fails no operation, leaves nothing.

Figures are not judged here: a busy machine has no say in whether the program is right.
"""
import json
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from harness import DEADLINE_S, clean_env, program, wait_for, yolk

FIELDS = ["bench", "case", "value", "unit", "limit", "ratio", "p50_us", "p99_us", "p999_us", "cpu_s"]
WITHOUT_ETCD = {"lookup single": "s", "lookup batch32 2shards": "1/s", "lookup batch32 2shards keys per cpu": "1/s",
                "get 1MiB pipelined": "B/s", "get 1MiB single": "s", "put 1MiB pipelined": "B/s", "put 1MiB single": "s"}
BASES = {"base ping-pong": "s", "base engine tcp 1MiB": "B/s", "base engine tcp 1MiB single": "s",
         "base engine tcp 1MiB write": "B/s", "base engine tcp 1MiB write single": "s"}
ETCD_HARMS = ["etcd leader killed", "etcd leader stopped", "etcd majority lost", "etcd empty"]

needs_etcd = pytest.mark.skipif(shutil.which("etcd") is None, reason="etcd is missing (etcd-server)")


def bench(place, *cases, env=None):
    options = [word for case in cases for word in ("--case", case)]
    done = yolk("bench", "cluster", "--quick", "--json", *options, env={"TMPDIR": str(place.dir), **(env or {})}, seconds=300)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(list(row) == FIELDS and row["bench"] == "cluster" for row in rows)
    found = {row["case"]: row for row in rows}
    assert len(found) == len(rows)
    for case, row in found.items():
        if case.startswith(("base ", "cpu ")):
            assert row["ratio"] is None
        elif row["limit"]:
            assert row["ratio"] == pytest.approx(row["value"] / row["limit"], rel=1e-3)
    assert not folders(place)
    return found, done.stderr


def folders(place):
    return [p for p in place.dir.iterdir() if p.name.startswith("yolk-")]


def memory():
    return set(Path("/dev/shm").glob("yolk-etcd-*"))


def test_lookups_and_blocks(place):
    rows, _ = bench(place, "lookup*", "get*", "put*")
    for case, unit in WITHOUT_ETCD.items():
        assert rows[case]["unit"] == unit and rows[case]["value"] > 0 and rows[case]["limit"] > 0, case
    for case, unit in {**BASES, "lookup batch32 1shard": "1/s"}.items():
        assert rows[case]["unit"] == unit and rows[case]["value"] > 0, case
    for case in ("lookup single", "get 1MiB single", "put 1MiB single", "base ping-pong"):
        assert rows[case]["p50_us"] <= rows[case]["p99_us"] <= rows[case]["p999_us"]


def test_cases_are_chosen_by_name(place):
    rows, _ = bench(place, "lookup single")
    assert set(rows) == {"base ping-pong", "lookup single"}
    none = yolk("bench", "cluster", "--quick", "--case", "nothing like it")
    assert none.returncode == 2 and none.stdout == "" and "nothing like it" in none.stderr


def test_without_etcd_its_cases_are_left_out_and_said_to_be(place):
    rows, said = bench(place, "node*", "etcd*", "32 nodes*", "lookup single", env={"PATH": str(place.dir)})
    assert "etcd-server" in said
    for what in ("node killed", "etcd", "node added", "32 nodes"):
        assert rows[f"base {what}: left out, no etcd"]["value"] is None
    assert not [case for case in rows if case.startswith(("node", "etcd", "32"))]
    assert rows["lookup single"]["value"] > 0


@needs_etcd
def test_a_killed_node_fails_no_read(place):
    rows, said = bench(place, "node killed*")
    for case in ("failed gets", "unreadable blocks"):
        assert rows[f"node killed {case}"]["value"] == 0, said
    for case in ("gets", "slots served", "slots whole", "longest stall"):
        assert rows[f"node killed {case}"]["value"] > 0


@needs_etcd
def test_etcd_in_trouble_fails_no_operation(place):
    rows, said = bench(place, "etcd*")
    for harm in ETCD_HARMS:
        assert rows[f"{harm} failed operations"]["value"] == 0, said
        assert rows[f"{harm} operations"]["value"] > 0


@needs_etcd
def test_a_node_is_added_under_load(place):
    rows, said = bench(place, "node added*")
    assert rows["node added failed gets"]["value"] == 0, said
    for case in ("node added p99", "node added time", "node added off balance"):
        assert rows[case]["value"] > 0


@needs_etcd
def test_a_crowd_of_nodes(place):
    rows, said = bench(place, "32 nodes*")
    assert rows["32 nodes kills survived"]["value"] == 1 and rows["32 nodes unreadable blocks"]["value"] == 0, said
    assert rows["32 nodes memory of one"]["value"] > 0 and rows["32 nodes control bytes a block of twice as many"]["value"] > 0
    assert rows["32 nodes control traffic of one"]["value"] >= 0  # nothing need be said when nothing happens
    for case in ("slots that moved", "slots that moved of twice as many"):  # beside the bytes, which they are in
        assert rows[f"base 32 nodes {case}"]["value"] >= 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_one_that_is_killed_leaves_nothing(place, number):
    """Its nodes go with it, and the janitor removes its folder when they have."""
    before = memory()
    process = place.spawn([program("yolk"), "bench", "cluster", "--quick"], stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, env=clean_env({"TMPDIR": str(place.dir)}),
                          start_new_session=True)
    wait_for(lambda: [p for f in folders(place) for p in f.glob("*.sock")] or process.poll() is not None, "a node's socket")
    assert process.poll() is None
    process.send_signal(number)
    process.wait(DEADLINE_S)
    wait_for(lambda: not folders(place) and memory() <= before, "its folders are gone")

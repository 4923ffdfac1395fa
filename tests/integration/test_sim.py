# SPDX-License-Identifier: Apache-2.0
"""yolk sim: its output and its errors, and LRU against lru_sim.py, which shares no code with it."""
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness import DEADLINE_S, yolk

LRU_SIM = Path(__file__).with_name("lru_sim.py")
POLICIES = ["lru", "lfu", "arc", "s3fifo", "sieve", "wtinylfu", "gdsf", "opt", "learned"]


@pytest.fixture(name="trace", scope="module")
def a_trace(tmp_path_factory):
    path = tmp_path_factory.mktemp("sim") / "trace.jsonl"
    done = yolk("gen", "--requests", "1500", "--seed", "4", path)
    assert done.returncode == 0, done.stderr
    return path


def sim(trace, *options, **more):
    done = yolk("sim", "--trace", trace, "--json", *options, **more)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    return json.loads(done.stdout)


@pytest.mark.parametrize("capacity", [50, 1000, 20000])
def test_lru_hits_what_an_independent_simulator_hits(trace, capacity):
    done = subprocess.run([sys.executable, LRU_SIM, trace, "--capacity", str(capacity), "--json"],
                          capture_output=True, text=True, check=True, timeout=DEADLINE_S)
    expected = json.loads(done.stdout)
    found = sim(trace, "--capacity", str(capacity), "--policy", "lru")
    assert (found["hit_blocks"], found["total_blocks"]) == (expected["hit_blocks"], expected["total_blocks"])
    assert found["hit_ratio"] == pytest.approx(found["hit_blocks"] / found["total_blocks"], abs=1e-6)


@pytest.mark.parametrize("policy", POLICIES)
def test_the_same_seed_gives_the_same_result(trace, policy):
    found = sim(trace, "--capacity", "2000", "--policy", policy, "--seed", "7")
    assert found == sim(trace, "--capacity", "2000", "--policy", policy, "--seed", "7")
    assert 0 < found["hit_ratio"] < 1 and found["policy"] == policy and found["seed"] == 7


def test_the_cost_is_told_when_it_is_asked_for(trace):
    plain = sim(trace, "--capacity", "2000", "--policy", "learned")
    found = sim(trace, "--capacity", "2000", "--policy", "learned", "--cost")
    assert all(found.pop(name) > 0 for name in ("decision_us_per_block", "training_us_per_block", "trainings"))
    assert found == plain


@pytest.mark.skipif(shutil.which("zstd") is None, reason="no zstd program")
def test_reads_compressed_traces(trace):
    packed = trace.with_suffix(".zst")
    subprocess.run(["zstd", "-qf", trace, "-o", packed], check=True, timeout=DEADLINE_S)
    assert sim(packed, "--capacity", "500") == sim(trace, "--capacity", "500")


@pytest.mark.parametrize("options,said", [
    ((), "--trace"),
    (("--trace", "/nonexistent/x"), "/nonexistent/x"),
    (("--trace", "/dev/null"), "no request"),
    (("--trace", "/dev/null", "--policy", "best"), "best"),
    (("--trace", "/dev/null", "--capacity", "0"), "capacity"),
])
def test_wrong_usage_is_said_in_one_line(options, said):
    done = yolk("sim", *options)
    assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1

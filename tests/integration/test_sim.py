# SPDX-License-Identifier: Apache-2.0
"""yolk sim: its output and its errors, and LRU against lru_sim.py, which shares no code with it."""
import json
import re
import shutil
import subprocess
import sys
import xml.dom.minidom
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


def test_blocks_of_different_lengths_are_counted_in_bytes(trace):
    plain = sim(trace, "--capacity", "500", "--policy", "learned")
    alike = sim(trace, "--capacity", "500", "--policy", "learned", "--block-bytes", "3M:3M")
    assert alike["capacity_bytes"] == 500 * 3 << 20 and alike["hit_byte_ratio"] == pytest.approx(alike["hit_ratio"])
    assert alike["hit_blocks"] == plain["hit_blocks"] and "hit_bytes" not in plain
    for each in ("", ":each"):
        found = sim(trace, "--capacity", "500", "--policy", "gdsf", "--block-bytes", "64K:4M" + each)
        assert 0 < found["hit_bytes"] < found["total_bytes"] and found["total_bytes"] >= 65536 * found["total_blocks"]
    for wrong in ("64K", "4M:64K", "0:1", "1:2:all", "1:2:each:3", "x:y", "1:2:", "1:2:each:"):
        done = yolk("sim", "--trace", trace, "--block-bytes", wrong)
        assert done.returncode == 2 and done.stderr.count("\n") == 1


def test_saved_compute_is_told_for_a_model_shape(trace):
    plain = sim(trace, "--capacity", "500", "--policy", "lru")
    found = sim(trace, "--capacity", "500", "--policy", "lru", "--model-shape", "moe")
    assert 0 < found.pop("saved_compute_ratio") < 1
    assert found == plain
    assert "compute" in yolk("sim", "--trace", trace, "--model-shape", "8b").stdout


def test_the_cost_is_told_when_it_is_asked_for(trace):
    plain = sim(trace, "--capacity", "2000", "--policy", "learned")
    found = sim(trace, "--capacity", "2000", "--policy", "learned", "--cost")
    assert all(found.pop(name) > 0 for name in ("decision_us_per_block", "training_us_per_block", "trainings",
                                                "shares_us_per_block", "shares_us_per_eviction", "shares_divisions"))
    assert found == plain


@pytest.fixture(name="scan", scope="module")
def a_scan(tmp_path_factory):
    path = tmp_path_factory.mktemp("sim") / "scan.jsonl"
    with open(path, "w") as out:
        for i in range(60000):
            out.write(json.dumps({"timestamp": 20 * i, "input_length": 512, "output_length": 1, "hash_ids": [i]}) + "\n")
    return path


def test_tenants_are_told_apart(trace, scan):
    options = ("--beside", f"{scan},{trace}", "--capacity", "3000", "--policy", "lru")
    found = sim(trace, *options)
    assert found == sim(trace, *options, "--shares", "on") and found["shares"] is True
    assert [t["trace"] for t in found["tenants"]] == [str(trace), str(scan), str(trace)]
    for figure in ("requests", "total_blocks", "hit_blocks"):
        assert found[figure] == sum(t[figure] for t in found["tenants"])
    for t in found["tenants"]:
        assert t["hit_ratio"] == pytest.approx(t["hit_blocks"] / t["total_blocks"])
    assert sum(t["end_blocks"] for t in found["tenants"]) == 3000 >= sum(t["share_blocks"] for t in found["tenants"])
    flushed = sim(trace, *options, "--shares", "off")
    assert flushed["shares"] is False and "share_blocks" not in flushed["tenants"][0]
    assert flushed["hit_blocks"] < found["hit_blocks"]
    assert sim(trace, *options, "--cost")["shares_us_per_block"] > 0
    text = yolk("sim", "--trace", trace, *options, "--cost").stdout
    assert re.search(r"^CPU time of shares: .* a block with \d+ divisions", text, re.M) and text.count(str(trace)) == 2


@pytest.mark.parametrize("options,said", [
    (("--beside", "/nonexistent/x"), "/nonexistent/x"),
    (("--beside", "TRACE", "--ssd", "9"), "--ssd with --beside"),
    (("--beside", "TRACE", "--nodes", "2"), "--nodes with --beside"),
    (("--beside", "TRACE", "--policy", "opt"), "opt"),
    (("--beside", ",".join(["TRACE"] * 64)), "at most 63"),
    (("--shares", "off"), "--shares without --beside"),
    (("--beside", "TRACE", "--shares", "maybe"), "maybe"),
])
def test_options_of_tenants_are_checked(trace, options, said):
    done = yolk("sim", "--trace", trace, *(o.replace("TRACE", str(trace)) for o in options))
    assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1


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


@pytest.mark.parametrize("router", ["round-robin", "least-loaded", "cache-aware", "learned"])
def test_a_cluster_repeats_and_its_figures_add_up(trace, router):
    options = ("--nodes", "6", "--zones", "2", "--vram", "50", "--dram", "300", "--ssd", "2000", "--router", router, "--load", "3")
    found = sim(trace, *options)
    assert found == sim(trace, *options)
    assert (found["nodes"], found["router"], found["requests"]) == (6, router, 1500)
    assert sum(found["hit_ratio_by_source"].values()) == pytest.approx(found["hit_ratio"])
    assert 0 < found["hit_ratio"] < 1 and found["cross_zone_bytes"] <= found["cross_node_bytes"]
    assert 0 < found["ttft_ms"]["p50"] <= found["ttft_ms"]["p99"] <= found["ttft_ms"]["max"] * 1.02
    assert 0 <= found["good_ratio"] <= 1 and 0 < found["utilisation"]["prefill"] <= 1


def test_a_cluster_of_one_node_that_has_time_hits_what_one_cache_hits(trace, tmp_path):
    """Requests far apart: what one put is there for the next."""
    apart = tmp_path / "apart.jsonl"
    requests = [json.loads(line) for line in trace.read_text().splitlines()]
    apart.write_text("".join(json.dumps(request | {"timestamp": 100000 * i}) + "\n" for i, request in enumerate(requests)))
    for policy in "lru", "s3fifo":
        one = sim(apart, "--capacity", "500", "--policy", policy)
        assert sim(apart, "--nodes", "1", "--dram", "500", "--policy", policy)["hit_blocks"] == one["hit_blocks"]


def test_the_report_is_one_file_with_plots(trace, tmp_path):
    report = tmp_path / "report.html"
    sim(trace, "--nodes", "3", "--html", report)
    text = report.read_text()
    plots = re.findall(r"<svg.*?</svg>", text, re.S)
    assert len(plots) == 5 and "Latency, cumulative" in text and "time to first token" in text
    for plot in plots:
        xml.dom.minidom.parseString(plot)
    assert not re.search(r"https?:|<script|<link|src=|\bnan\b|\binf\b", text)


def test_a_cluster_in_text(trace):
    done = yolk("sim", "--trace", trace, "--nodes", "2")
    assert done.returncode == 0 and "time to first token" in done.stdout and done.stderr == ""
    shown = yolk("sim", "--help").stdout
    assert shown.index("\nOptions:") < shown.index("\nCluster:") < shown.index("--router")


@pytest.mark.parametrize("options,said", [
    (("--dram", "10"), "--dram without --nodes"),
    (("--router", "learned"), "--router without --nodes"),
    (("--nodes", "2", "--capacity", "10"), "--capacity with --nodes"),
    (("--nodes", "2", "--cost"), "--cost with --nodes"),
    (("--nodes", "2", "--ssd", "9", "--policy", "learned", "--prefetch-ahead"), "--prefetch-ahead with --nodes"),
    (("--nodes", "2", "--block-bytes", "1:2"), "--block-bytes with --nodes"),
    (("--nodes", "2", "--model-shape", "8b"), "--model-shape with --nodes"),
    (("--ssd", "9", "--block-bytes", "1:2"), "one tier"),
    (("--nodes", "2", "--policy", "arc"), "arc"),
    (("--nodes", "2", "--zones", "3"), "zones"),
    (("--nodes", "2", "--dram", "0"), "DRAM"),
    (("--nodes", "2", "--link", "rdma:99"), "--link"),
    (("--nodes", "2", "--ssd", "many"), "--ssd"),
    (("--nodes", "2", "--router", "best"), "best"),
    (("--nodes", "2", "--html", "/nonexistent/x"), "/nonexistent/x"),
])
def test_options_that_do_not_go_together_are_said_in_one_line(trace, options, said):
    done = yolk("sim", "--trace", trace, *options)
    assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1

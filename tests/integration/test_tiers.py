# SPDX-License-Identifier: Apache-2.0
"""Two tiers: what yolk sim says of them, and that a node with an SSD does what it says."""
import json
import os
import random

import pytest

from harness import wait_for, yolk


@pytest.fixture(name="trace", scope="module")
def a_trace(tmp_path_factory):
    path = tmp_path_factory.mktemp("tiers") / "trace.jsonl"
    done = yolk("gen", "--requests", "1500", "--seed", "4", path)
    assert done.returncode == 0, done.stderr
    return path


def sim(trace, *options):
    done = yolk("sim", "--trace", trace, "--json", *options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("policy", ["lru", "s3fifo", "learned", "opt"])
def test_tells_which_tier_served(trace, policy):
    one = sim(trace, "--capacity", 500, "--policy", policy)
    two = sim(trace, "--capacity", 500, "--policy", policy, "--ssd", "unlimited")
    assert not {"dram_hit_blocks", "ssd_hit_blocks", "ssd_share"} & set(one)
    assert two["dram_hit_blocks"] + two["ssd_hit_blocks"] == two["hit_blocks"] > one["hit_blocks"]
    assert two["ssd_share"] == pytest.approx(two["ssd_hit_blocks"] / two["hit_blocks"], abs=1e-6)
    small = sim(trace, "--capacity", 500, "--policy", policy, "--ssd", "1k")
    assert one["hit_blocks"] <= small["hit_blocks"] < two["hit_blocks"]


@pytest.mark.parametrize("ssd,said", [("0", "expected 1 or more"), ("all", "'all'"), ("-3", "--ssd")])
def test_refuses_what_is_no_number_of_blocks(trace, ssd, said):
    done = yolk("sim", "--trace", trace, "--ssd=" + ssd)
    assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1


def test_refuses_a_policy_that_knows_one_tier(trace):
    done = yolk("sim", "--trace", trace, "--ssd", "unlimited", "--policy", "sieve")
    assert done.returncode == 2 and "'sieve'" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("capacity", [500, 2000])
def test_a_node_with_an_ssd_serves_from_it_what_sim_predicts(place, trace, capacity):
    """The share of hits that SSD serves; seeds differ by a point or two where a trace is short."""
    seeds = [sim(trace, "--capacity", capacity, "--policy", "learned", "--ssd", "unlimited", "--seed", seed)
             for seed in range(1, 7)]
    done = yolk("--json", "replay", trace, "--capacity", capacity, "--ssd-capacity", 20000, "--block", "512",
                "--ssd", place.dir, "--policy", "learned", "--exact")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["wrong_bytes"] == 0 and result["hit_blocks"] == seeds[0]["hit_blocks"]
    share = result["ssd"]["hits"] / result["hit_blocks"]
    assert min(s["ssd_share"] for s in seeds) - 0.01 < share < max(s["ssd_share"] for s in seeds) + 0.01


def test_tells_what_came_up_ahead(trace):
    both = ("--capacity", 500, "--policy", "learned", "--ssd", "unlimited")
    found = sim(trace, *both, "--prefetch-ahead")
    assert 0 <= found["prefetched_used_blocks"] <= found["prefetched_blocks"]
    assert "prefetched_blocks" not in sim(trace, *both)
    done = yolk("sim", "--trace", trace, "--prefetch-ahead", "--policy", "learned")
    assert done.returncode == 2 and "two tiers" in done.stderr and done.stderr.count("\n") == 1


def sessions(path, pause_ms, count=160, turns=8):
    """A trace of sessions that grow by a block a turn, and come back after pause_ms(random)."""
    rng, requests, blocks = random.Random(1), [], iter(range(10**6))
    for _ in range(count):
        at, chain = rng.uniform(0, 400_000), [next(blocks) for _ in range(4)]
        for _ in range(turns):
            chain.append(next(blocks))
            requests.append((int(at), list(chain)))
            at += pause_ms(rng)
    path.write_text("".join(json.dumps({"timestamp": at, "input_length": 512 * len(chain), "output_length": 100,
                                        "hash_ids": chain}) + "\n" for at, chain in sorted(requests)))
    return path


def ahead(place, trace, *options):
    done = yolk("--json", "replay", trace, "--capacity", 100, "--ssd-capacity", 20000, "--block", "512", "--ssd", place.dir,
                "--policy", "learned", "--exact", *options)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["wrong_bytes"] == 0 and result["ssd"]["failed"] == 0
    return result


def test_a_node_brings_up_ahead_what_sim_predicts(place, tmp_path):
    """Sessions that come back every 19 to 20 s, of which DRAM holds a sixth at a time. In a node a block that leaves is
    readable until it is written, so at 100 blocks it hits some points more than the simulator, with prefetch or without."""
    trace = sessions(tmp_path / "rhythm.jsonl", lambda rng: rng.uniform(19_000, 20_000))
    both = ("--capacity", 100, "--policy", "learned", "--ssd", "unlimited")
    found = sim(trace, *both, "--prefetch-ahead")
    without, result = sim(trace, *both)["ssd_share"], ahead(place, trace, "--prefetch-ahead")
    assert result["hit_blocks"] == found["hit_blocks"]
    moved, used = (result["ssd"]["prefetch_ahead_" + name] for name in ("moved", "used"))
    assert 0.8 * found["prefetched_blocks"] < moved < 1.2 * found["prefetched_blocks"]
    assert used > 0.6 * moved
    share = result["ssd"]["hits"] / result["hit_blocks"]
    assert found["ssd_share"] - 0.06 < share < found["ssd_share"] + 0.03 < without - 0.25


@pytest.mark.skipif(os.environ.get("YOLK_LONG") != "1", reason="half an hour of trace, second by second: set YOLK_LONG=1")
def test_a_node_moves_next_to_nothing_where_nobody_can_tell_when(place, tmp_path):
    trace = sessions(tmp_path / "people.jsonl", lambda rng: rng.expovariate(1 / 100_000))
    result = ahead(place, trace, "--prefetch-ahead")
    assert result["ssd"]["hits"] > 1000
    assert result["ssd"]["prefetch_ahead_moved"] < 0.02 * result["blocks"]


def test_nothing_comes_up_ahead_unless_it_is_asked_for(place, tmp_path):
    trace = sessions(tmp_path / "rhythm.jsonl", lambda rng: rng.uniform(19_000, 20_000), count=40)
    assert ahead(place, trace)["ssd"]["prefetch_ahead_moved"] == 0


# ---- restart ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["lru", "learned"])
def test_a_restart_that_loads_ahead_is_back_sooner(trace, policy):
    at = ("--capacity", 2000, "--policy", policy, "--ssd", "unlimited", "--restart-at")
    found = sim(trace, *at, 800, "--preload-rate", 1000)
    assert found["restart_request"] == 800 and found["preloaded_blocks"] > 100
    assert found["preload_back_s"] <= 0.4 * found["demand_back_s"]
    none = sim(trace, *at, 800, "--preload-rate", 0)
    assert none["preloaded_blocks"] == 0 and none["preload_back_s"] == none["demand_back_s"] == found["demand_back_s"]
    by_time = sim(trace, *at, "60s")
    assert 0 < by_time["restart_request"] < 1500


@pytest.mark.parametrize("options,said", [
    (("--restart-at", "0", "--ssd", "1k"), "between"), (("--restart-at", "1500", "--ssd", "1k"), "between"),
    (("--restart-at", "soon", "--ssd", "1k"), "--restart-at"), (("--restart-at", "10"), "two tiers"),
    (("--restart-at", "10", "--ssd", "1k", "--policy", "lfu"), "'lfu'"),
    (("--restart-at", "10", "--nodes", "2"), "--nodes"),
    (("--restart-at", "10", "--ssd", "1k", "--block-bytes", "1:2"), "--block-bytes with --restart-at"),
    (("--restart-at", "10", "--ssd", "1k", "--cost"), "--cost with --restart-at"),
    (("--preload-rate", "10", "--ssd", "1k"), "--preload-rate without --restart-at"),
    (("--restart-window", "10", "--nodes", "2"), "--restart-window without --restart-at"),
])
def test_refuses_a_restart_that_cannot_be(trace, options, said):
    done = yolk("sim", "--trace", trace, *options)
    assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1, done.stderr


def test_a_node_that_was_rebooted_has_its_hits_before_they_are_asked_for(make_node, place, tmp_path):
    """What a reboot leaves is on SSD and in the state directory: loaded ahead, and the same requests without that."""
    trace = sessions(tmp_path / "rhythm.jsonl", lambda rng: rng.uniform(19_000, 20_000), count=60)
    requests = trace.read_text().splitlines(keepends=True)
    (tmp_path / "before.jsonl").write_text("".join(requests[:400]))
    (tmp_path / "after.jsonl").write_text("".join(requests[400:420]))
    hits = {}
    for preload in ("--ssd-preload", "--no-ssd-preload"):
        name = preload.strip("-")
        node = make_node("--policy", "learned", "--state-dir", str(place.dir / f"state-{name}"), "--ssd",
                         f"{place.dir}/{name}.ssd:128M", "--ssd-segment", "1M", "--ssd-wait", "0", "--capacity-blocks", "100",
                         preload, name=name, dram="32M").start()
        replay = ("--json", "replay", "--block", "4K", "--no-map")
        assert node.yolk(*replay, tmp_path / "before.jsonl").returncode == 0
        assert node.stop() == 0
        for path in place.shm.iterdir():
            path.unlink()
        node.start()
        goal = node.stats()["preload_goal"]
        assert (goal > 0) == (preload == "--ssd-preload")
        wait_for(lambda: node.stats()["preloaded_bytes"] >= node.stats()["preload_goal"], "all is up")
        done = node.yolk(*replay, tmp_path / "after.jsonl")
        assert done.returncode == 0, done.stderr
        hits[preload] = json.loads(done.stdout)["ssd"]["dram_hits"]
        assert node.stop() == 0
    assert hits["--ssd-preload"] > hits["--no-ssd-preload"] + 20, hits

# SPDX-License-Identifier: Apache-2.0
"""Two tiers: what yolk sim says of them, and that a node with an SSD does what it says."""
import json

import pytest

from harness import yolk


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

# SPDX-License-Identifier: Apache-2.0
"""Several namespaces on one node that divides its memory: their settings, what is told of their shares, and that one's scan
does not flush what another works with, or was promised."""
import json
import random
import re
import urllib.request

import pytest

from harness import one_line, wait_for, yolk

KIB, MIB = 1024, 1024 * 1024
BLOCK = 1024
ROOM = 500


@pytest.fixture
def divider(make_node):
    return make_node("--policy", "learned", "--capacity-blocks", str(ROOM), "--http", "127.0.0.1:0")


def space(node, name):
    return next(line for line in node.json("ns", "list") if line["name"] == name)


def page(node, path):
    port = re.search(r"127\.0\.0\.1:(\d+)", node.log()).group(1)
    return urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10).read().decode()


def ask(node, place, name, blocks):
    """A request of one block for each, in order; those that are not there are put. Returns how many were there."""
    path = place.dir / "requests.jsonl"
    with open(path, "w") as out:
        for i, block in enumerate(blocks):
            out.write(json.dumps({"timestamp": i, "input_length": 512, "output_length": 1, "hash_ids": [block]}) + "\n")
    result, = node.json("-n", name, "replay", path, "--block", BLOCK)
    return result["hit_blocks"]


# ---- settings -------------------------------------------------------------------------------------


def test_settings_are_given_one_by_one(divider):
    node = divider.start()
    made, = node.json("ns", "create", "a", "--guarantee", "64K", "--priority", 300)
    assert made["guarantee_bytes"] == 64 * KIB and made["priority"] == 300 and made["quota_bytes"] == 0
    assert node.json("ns", "create", "b")[0]["priority"] == 100
    changed, = node.json("ns", "set", "a", "--quota", "1M")
    assert changed == {**made, "quota_bytes": MIB}
    changed, = node.json("ns", "set", "a", "--guarantee", 0)
    assert changed["guarantee_bytes"] == 0 and changed["priority"] == 300 and changed["quota_bytes"] == MIB
    assert node.json("ns", "quota", "a", "2M")[0]["priority"] == 300
    assert re.search(r"^ +0 +0 B +2 MiB +- +300 +- +- +\d+  a$", node.yolk("ns").stdout, re.M)


def test_what_cannot_be_set_is_said(divider):
    node = divider.start()
    assert "there is none of that name" in one_line(node.yolk("ns", "set", "tpyo", "--priority", 2), 1)
    assert "found nothing to set" in one_line(node.yolk("ns", "set", "default"), 2)
    assert "10000" in node.yolk("ns", "create", "a", "--priority", 10001).stderr
    assert node.yolk("ns", "create", "a", "--guarantee", "2 apples").returncode == 2
    assert {line["name"] for line in node.json("ns")} == {"default"}


def test_settings_stay_through_a_restart(divider):
    node = divider.start()
    assert node.yolk("ns", "create", "a", "--guarantee", "64K", "--priority", 7).returncode == 0
    assert node.stop() == 0
    node.start()
    assert space(node, "a")["guarantee_bytes"] == 64 * KIB and space(node, "a")["priority"] == 7
    assert node.yolk("ns", "rm", "a").returncode == 0
    made, = node.json("ns", "create", "a")
    assert made["guarantee_bytes"] == 0 and made["priority"] == 100


def test_settings_come_back_from_ssd_without_the_memory(place, make_node):
    node = make_node("--policy", "learned", "--ssd", f"{place.dir}/ssd:80M", "--ssd-segment", "8M").start()
    assert node.yolk("ns", "create", "a", "--guarantee", "64K", "--priority", 7, "--quota", "9M").returncode == 0
    assert node.yolk("-n", "a", "put", "k", "-", data=b"x").returncode == 0
    assert node.stop() == 0
    for path in place.shm.iterdir():
        path.unlink()
    node.start()
    info = space(node, "a")
    assert (info["guarantee_bytes"], info["priority"], info["quota_bytes"]) == (64 * KIB, 7, 9 * MIB)


def test_more_than_there_is_can_be_promised_but_not_silently(divider):
    node = divider.start()
    assert node.yolk("ns", "create", "a", "--guarantee", "40M").stderr == ""
    done = node.yolk("ns", "create", "b", "--guarantee", "60M")
    assert done.returncode == 0 and "guaranteed 100 MiB together, and this node divides" in done.stderr
    assert node.stats()["guaranteed_bytes"] == 100 * MIB
    assert "namespaces are guaranteed 100 MiB together" in node.log()


def test_a_node_that_divides_nothing_says_so(make_node):
    node = make_node("--policy", "chain-lru").start()
    done = node.yolk("ns", "create", "a", "--priority", 2)
    assert done.returncode == 0 and "policy is chain-lru, which divides no memory" in done.stderr
    assert space(node, "a")["priority"] == 2 and space(node, "a")["share_bytes"] == 0
    assert node.stats()["divided_bytes"] == 0


# ---- what comes of it -----------------------------------------------------------------------------


def beside_a_scan(node, place, turns=6):
    """Hits in % of who comes back to 300 blocks, beside many more requests for blocks that never come again. From the third
    time on: shares are made meanwhile."""
    draw, hits = random.Random(7), 0
    for turn in range(turns):
        found = ask(node, place, "works", draw.sample(range(300), 300))
        hits += found if turn >= 2 else 0
        ask(node, place, "scans", range(10000 + 800 * turn, 10800 + 800 * turn))
    return 100 * hits / (300 * (turns - 2))


def test_a_scan_does_not_flush_what_another_works_with(place, divider):
    node = divider.start()
    assert beside_a_scan(node, place) > 90
    wait_for(lambda: space(node, "works")["share_bytes"] > 0, "a tick has seen the shares")
    works, scans = space(node, "works"), space(node, "scans")
    assert works["share_bytes"] >= 290 * BLOCK and works["share_used_bytes"] >= 290 * BLOCK
    assert works["share_bytes"] + scans["share_bytes"] <= node.stats()["divided_bytes"]
    assert works["share_hit_ratio"] > 0.9 > 0.1 > scans["share_hit_ratio"]


def test_where_nothing_is_divided_it_does(place, make_node):
    assert beside_a_scan(make_node("--policy", "chain-lru", "--capacity-blocks", str(ROOM)).start(), place, 4) < 10


def test_a_share_is_told_wherever_it_is_looked_for(place, divider):
    node = divider.start()
    assert node.yolk("ns", "create", "works", "--guarantee", "64K").returncode == 0
    beside_a_scan(node, place, 4)
    wait_for(lambda: space(node, "works")["share_bytes"] > 0, "a tick has seen the shares")
    row = next(row for row in node.json("sched") if row["namespace"] == "works")
    assert row["share_bytes"] > 0 and row["share_used_bytes"] > 0 and row["guarantee_bytes"] == row["guaranteed_bytes"] == 65536
    assert node.yolk("sched").stdout.splitlines()[0].split()[-4:] == ["SHARE", "USED", "EXP", "%"]
    assert re.search(r"^ +\d+ .* KiB +works$", node.yolk("top", "--once").stdout, re.M)
    text = page(node, "/metrics")
    for figure in ("guarantee_bytes", "guaranteed_bytes", "priority", "share_bytes", "share_used_bytes"):
        assert float(re.search(rf'^yolk_namespace_{figure}{{namespace="works"}} (\S+)$', text, re.M).group(1)) > 0
    assert 0.5 < float(re.search(r'^yolk_namespace_share_hit_ratio{namespace="works"} (\S+)$', text, re.M).group(1)) <= 1
    assert next(r for r in json.loads(page(node, "/v1/stats"))["learned"] if r["namespace"] == "works")["share_bytes"] > 0


def who_is_left(node, place):
    """Blocks of one that put 300 and asks no more, beside one that works with all that there is room for."""
    ask(node, place, "once", range(300))
    draw = random.Random(3)
    for _ in range(8):
        ask(node, place, "works", (draw.randrange(ROOM) for _ in range(1000)))
    return len(node.yolk("-n", "once", "ls").stdout.splitlines())


def test_what_is_guaranteed_stays(place, divider):
    node = divider.start()
    assert node.yolk("ns", "create", "once", "--guarantee", f"{300 * BLOCK}B").returncode == 0
    assert who_is_left(node, place) >= 295


def test_what_is_not_guaranteed_goes_to_whom_it_serves(place, divider):
    assert who_is_left(divider.start(), place) < 100

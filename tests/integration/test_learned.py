# SPDX-License-Identifier: Apache-2.0
"""The learned policy in its node: what it tells of itself, and what it knows through restarts: kept in the state directory,
read again, and left out where it was damaged."""
import json
import re
import signal
import urllib.request

import pytest

from harness import wait_for, yolk

ROOM = 500


@pytest.fixture
def learner(place, make_node):
    """A node that learns, with a state directory that is not there yet."""
    return make_node("--policy", "learned", "--capacity-blocks", str(ROOM), "--state-dir", str(place.dir / "state"))


@pytest.fixture
def trace(place):
    path = place.dir / "trace.jsonl"
    assert yolk("gen", "--requests", 800, "--seed", 9, path).returncode == 0
    return path


def teach(node, trace):
    done = node.yolk("replay", trace, "--block", "512")
    assert done.returncode == 0, done.stderr
    wait_for(lambda: node.stats()["trainings"] > 0, "it has learned")


def kept(place):
    return place.dir / "state" / "learned"


def test_what_was_learned_outlives_the_daemon(place, learner, trace):
    learner.start()
    teach(learner, trace)
    assert not kept(place).exists()  # minutes have not passed
    assert learner.stop() == 0
    assert kept(place).stat().st_size > 100000
    for _ in range(2):  # the second time nothing was seen since, and the file is as it was
        learner.start()
        stats = learner.stats()
        assert stats["learned_loaded"] == 1 and stats["blocks"] == ROOM and stats["trainings"] == 0
        assert "namespace replay goes on with what its policy had learned" in learner.log()
        assert learner.stop() == 0
    learner.start()
    teach(learner, trace)
    learner.stop(signal.SIGKILL)
    learner.start()
    assert learner.stats()["learned_loaded"] == 1  # what the last orderly stop had left


def test_a_daemon_without_its_memory_knows_what_it_had_learned(place, learner, trace):
    learner.start()
    teach(learner, trace)
    assert learner.stop() == 0
    for path in place.shm.iterdir():
        path.unlink()
    learner.start()
    teach(learner, trace)
    assert learner.stats()["learned_loaded"] == 1


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def other_version(path):
    data = bytearray(path.read_bytes())
    data[8] ^= 0x40
    path.write_bytes(data)


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def lengthen(path):
    with open(path, "r+b") as f:
        f.truncate(600 << 20)


def no_file(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage, said", [(flip, "its sum is wrong"), (other_version, "its version is"),
                                          (cut, "does not fit its"), (lengthen, "expected at most"),
                                          (no_file, "it is no file")])
def test_damage_is_said_and_costs_what_was_learned_alone(place, learner, trace, damage, said):
    learner.start()
    teach(learner, trace)
    assert learner.stop() == 0
    damage(kept(place))
    learner.start()
    line = next(line for line in learner.log().splitlines() if "what was learned before the start is left out" in line)
    assert said in line
    stats = learner.stats()
    assert stats["learned_loaded"] == 0 and stats["blocks"] == ROOM
    teach(learner, trace)
    assert learner.stop() == 0
    assert damage is no_file or learner.start().stats()["learned_loaded"] == 1


def test_nothing_is_kept_where_nothing_can_be(place, make_node, trace):
    blocked = place.dir / "blocked"
    blocked.write_text("a file")
    node = make_node("--policy", "learned", "--state-dir", str(blocked)).start()
    teach(node, trace)
    assert node.stop() == 0
    assert "what was learned is not kept: cannot make" in node.log()
    ephemeral = make_node("--policy", "learned", "--ephemeral", "--state-dir", str(place.dir / "state"), name="e").start()
    teach(ephemeral, trace)
    assert ephemeral.stop() == 0 and not kept(place).exists()


# ---- what it tells --------------------------------------------------------------------------------


def a_key(node, *options):
    return node.yolk("--namespace", "replay", "ls", *options).stdout.split()[0]


def test_sched_shows_what_is_followed_and_how_it_does(learner, trace):
    learner.start()
    assert learner.json("sched") == []  # no namespace has had a block
    teach(learner, trace)
    wait_for(lambda: learner.json("sched")[0]["trainings"] > 0, "a tick has seen the training")
    row, = learner.json("sched")
    assert row["namespace"] == "replay" and row["follows"] in ("lru", "s3fifo", "learned")
    assert row["blocks"] == ROOM and row["room_blocks"] > ROOM // 2 and row["model_age_ms"] >= 0
    assert 0 < row["hit_blocks"]["real"] < row["requested_blocks"]
    assert all(0 < row["late_hit_ratio"][cache] < 1 for cache in ("lru", "s3fifo", "learned"))
    assert len(row["calibration"]["tenths"]) == 10
    assert learner.stats()["learned"][0]["namespace"] == "replay"
    head, line = learner.yolk("sched").stdout.splitlines()
    assert head.split()[:3] == ["NAMESPACE", "FOLLOWS", "ROOM"] and line.split()[:2] == ["replay", row["follows"]]


def test_explain_says_what_is_thought_of_a_block(learner, trace):
    learner.start()
    teach(learner, trace)
    key = a_key(learner)
    block, = learner.json("--namespace", "replay", "sched", "explain", key)
    assert block["here"] and block["uses"] >= 1 and block["uses_per_s"] > 0
    assert len(block["features"]) == 19 and all(0 <= step < 64 for step in block["features"].values())
    assert block["go_before"] <= block["leaves"]
    again, = learner.json("--namespace", "replay", "sched", "explain", key)
    assert again["uses"] == block["uses"]  # it is no use
    text = learner.yolk("--namespace", "replay", "sched", "explain", key).stdout
    assert re.search(r"^here; \w+ is followed and has it", text) and "features, in steps: age=" in text
    known = learner.json("--namespace", "replay", "sched", "explain", "--hex", key.encode().hex())
    assert known[0]["uses"] == block["uses"]


def test_what_cannot_be_explained_is_said(learner, make_node, trace):
    learner.start()
    teach(learner, trace)
    done = learner.yolk("--namespace", "replay", "sched", "explain", "never-seen")
    assert done.returncode == 3 and "does not know this key" in done.stderr
    assert learner.yolk("--namespace", "nobody", "sched", "explain", "x").returncode == 3
    assert learner.yolk("sched", "explain").returncode == 2
    assert learner.yolk("sched", "expalin", "x").returncode == 2
    other = make_node("--policy", "lru", name="other").start()
    for args in (["sched"], ["sched", "explain", "x"]):
        done = other.yolk(*args)
        assert done.returncode != 0 and "learns nothing" in done.stderr
    assert "learned" not in other.stats()


def test_metrics_have_it_by_namespace(place, make_node, trace):
    node = make_node("--policy", "learned", "--capacity-blocks", str(ROOM), "--http", "127.0.0.1:0").start()
    port = re.search(r"127\.0\.0\.1:(\d+)", node.log()).group(1)
    teach(node, trace)

    def page():
        return urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()

    wait_for(lambda: "yolk_policy_model_age_seconds{" in page(), "a tick has seen the training")
    text = page()
    followed = re.findall(r'yolk_policy_follows\{cache="(\w+)",namespace="replay"\} ([01])', text)
    assert sorted(c for c, _ in followed) == ["learned", "lru", "s3fifo"] and sum(int(v) for _, v in followed) == 1
    for cache in ("real", "lru", "s3fifo", "learned"):
        assert f'yolk_policy_hit_blocks_total{{cache="{cache}",namespace="replay"}}' in text
    assert len(re.findall(r"^yolk_policy_expected_uses\{", text, re.M)) == 10
    stats = json.loads(urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/stats", timeout=10).read())
    assert stats["learned"][0]["trainings"] > 0

# SPDX-License-Identifier: Apache-2.0
"""What the learned policy knows, through restarts of its node: kept in the state directory, read again, and left out where
it was damaged."""
import signal

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

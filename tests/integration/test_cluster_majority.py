# SPDX-License-Identifier: Apache-2.0
"""etcd loses its majority while nodes serve (docs/cluster.md, "etcd"): blocks on nodes that live are put and got as before;
who joins and who is expelled waits, and happens when the majority is back. With yolkd and an etcd of three members, two of
which are killed: for 12 s in `make check`, for 60 s with YOLK_LONG=1.
"""
import os
import shutil
import signal
import time

import pytest

from cluster_nodes import Client, data, until_there
from cluster_rig import Cluster, Load
from harness import wait_for

if shutil.which("etcd") is None:
    pytest.skip("etcd is missing (etcd-server)", allow_module_level=True)

LONG = os.environ.get("YOLK_LONG") == "1"
AWAY_S = 60 if LONG else 12
TIMEOUT_MS = 10000  # a call that takes longer has failed: a machine stands still for less
SEED = 5
SIZE = 5000


class Blocks:
    """Puts at two nodes, and gets each block of both."""

    def __init__(self, *nodes):
        self.clients = [Client(node.url) for node in nodes]
        self.count = 0

    def close(self):
        for client in self.clients:
            client.close()

    def turn(self):
        """One block of each node: it has it from now on, and the other one finds it."""
        self.count += 1
        for i, client in enumerate(self.clients):
            key = b"of %d, turn %d" % (i, self.count)
            client.put(key, data(key, SIZE))
            other = self.clients[1 - i]
            until_there(other, key)
            wait_for(lambda: other.get(key) == data(key, SIZE), f"{key} comes")
        self.check()

    def check(self):
        for i, client in enumerate(self.clients):
            for turn in range(max(1, self.count - 50), self.count + 1):
                key = b"of %d, turn %d" % (i, turn)
                assert client.get(key) == data(key, SIZE), key

    def turns_until(self, end):
        self.turn()
        while time.monotonic() < end:
            self.turn()


def state_of(name, seen_by):
    return seen_by.members().get(name, {}).get("state")


def test_blocks_are_served_and_changes_of_membership_wait(place):
    cluster = Cluster(place, nodes=4)
    try:
        changes_wait(cluster)
    except BaseException:
        cluster.tell()
        raise


def changes_wait(cluster):
    here, there, comes, dies = cluster.nodes
    assert comes.stop() == 0
    wait_for(lambda: state_of(comes.name, here) == "expelled", "a node is expelled")
    blocks = Blocks(here, there)
    with Load(cluster, SEED, workers=2, timeout_ms=TIMEOUT_MS) as load:  # at the two that live and stay
        blocks.turn()
        begun = time.monotonic()
        for member in cluster.etcd.members[1:]:
            member.signal(signal.SIGKILL)
        seen = len(comes.log())
        comes.launch()
        blocks.turns_until(begun + AWAY_S / 2)
        dies.signal(signal.SIGKILL)
        blocks.turns_until(begun + AWAY_S)
        wait_for(lambda: "waits to be a member" in comes.log()[seen:], "it says what it waits for")
        assert " serves " not in comes.log()[seen:] and comes.process.poll() is None
        assert state_of(comes.name, here) == "expelled" and state_of(dies.name, here) != "expelled"
        blocks.turn()
        load.still_well()
        cluster.etcd.start()
        wait_for(lambda: state_of(dies.name, here) == "expelled", "who died is expelled")
        wait_for(lambda: state_of(comes.name, here) == "member", "who came is a member")
        wait_for(lambda: " serves " in comes.log()[seen:], "who came serves")
        blocks.turn()
        blocks.close()
    dies.start()
    cluster.rest()
    found = load.until_all_found()
    print(found)
    assert found["failed"] == found["unsure"], found  # removes alone, which wait for the one that died
    assert found["hits"] > 100 and found["puts"] > 10 and found["others"] > 10, found

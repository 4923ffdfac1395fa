# SPDX-License-Identifier: Apache-2.0
"""Many nodes on this host, small ones: they start, every slot has an owner, and some of them are killed at random,
one after the other. After each kill the survivors own all slots again, and find and read, byte for byte, what each of
them has.

Eight nodes and two kills; 32 and ten with YOLK_LONG=1. YOLK_SEED=N kills the same ones again.
"""
import json
import os
import random
import shutil
import signal

import pytest

from cluster_nodes import Client, Etcd, data, join
from harness import DEADLINE_S, Node, wait_for

if shutil.which("etcd") is None:
    pytest.skip("etcd is missing (etcd-server)", allow_module_level=True)

LONG = os.environ.get("YOLK_LONG") == "1"
NODES, KILLS = (32, 10) if LONG else (8, 2)
BLOCKS, SIZE = 8, 4096
SLOTS = 4096
REST_S = 150  # until the killed one is expelled and its slots are served: lease, grace and rebuild on a busy machine


class Crowd:
    def __init__(self, place):
        self.place, self.etcd = place, Etcd(place).start()
        self.nodes = [Node(place, "--etcd", self.etcd.url, "--node-name", f"n{i}", "--state-dir", place.dir / f"n{i}.state",
                           "--peer-listen", "127.0.0.1:0", "--max-clients", 8, dram="16M", name=f"n{i}") for i in range(NODES)]
        for node in self.nodes:
            join(node)

    def infos(self, node):
        done = node.yolk("--json", "nodes", seconds=DEADLINE_S)
        return {n["name"]: n for n in map(json.loads, done.stdout.splitlines())} if done.returncode == 0 else {}

    def at_rest(self):
        """As the first of the nodes sees it."""
        found = self.infos(self.nodes[0])
        well = {name: n for name, n in found.items() if n["state"] == "member" and n["alive"]}
        return set(well) == {n.name for n in self.nodes} and sum(n["slots"] for n in well.values()) == SLOTS

    def rest(self, what):
        wait_for(self.at_rest, what, REST_S)

    def kill(self, node):
        node.process.send_signal(signal.SIGKILL)
        node.process.wait(DEADLINE_S)
        self.nodes.remove(node)


def keys_of(node):
    return [f"{node.name} block {i}".encode() for i in range(BLOCKS)]


def put_all(crowd):
    for node in crowd.nodes:
        client = Client(node.url)
        for key in keys_of(node):
            client.put(key, data(key, SIZE))
        client.close()


def read_all(crowd):
    """What each node has, through the next one. A key of a slot that is being rebuilt may be missed for a while."""
    for node, other in zip(crowd.nodes, crowd.nodes[1:] + crowd.nodes[:1]):
        client = Client(other.url)
        for key in keys_of(node):
            assert wait_for(lambda: client.get(key), f"{key} through {other.name}") == data(key, SIZE)
        client.close()


def test_a_crowd_survives_kills(place):
    seed = int(os.environ.get("YOLK_SEED", random.SystemRandom().randrange(1 << 30)))
    print(f"YOLK_SEED={seed}")
    choose = random.Random(seed)
    crowd = Crowd(place)
    crowd.rest(f"{NODES} nodes are members and own all slots")
    put_all(crowd)
    read_all(crowd)
    for kill in range(KILLS):
        crowd.kill(choose.choice(crowd.nodes))
        crowd.rest(f"{len(crowd.nodes)} nodes own all slots after kill {kill + 1}")
        read_all(crowd)
    assert all(node.process.poll() is None for node in crowd.nodes)

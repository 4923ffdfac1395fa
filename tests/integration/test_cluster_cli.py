# SPDX-License-Identifier: Apache-2.0
"""The command line of a cluster, with several yolkd and a real etcd: what it shows of all nodes, rebalances, drains.
"""
import itertools
import random
import re
import shutil
import signal
import threading

import pytest

from cluster_nodes import Client, data, got, join, until_there
from harness import DEADLINE_S, wait_for, yolk

if shutil.which("etcd") is None:
    pytest.skip("etcd is missing (etcd-server)", allow_module_level=True)


# ---- the command line -------------------------------------------------------------------------


def test_the_command_line_shows_the_cluster(three):
    a, c = three.client(0), three.client(2)
    infos = three.infos(1)
    assert sorted(infos) == ["n0", "n1", "n2"]
    assert all(v["state"] == "member" and re.fullmatch(r"127\.0\.0\.1:\d+", v["peers"]) for v in infos.values())
    slots = three.nodes[1].json("slots")
    assert slots[0]["first"] == 0 and slots[-1]["last"] == 4095
    assert all(x["last"] + 1 == y["first"] for x, y in zip(slots, slots[1:]))
    a.put(b"where", data(b"where", 4000))
    until_there(c, b"where")
    wait_for(lambda: three.nodes[2].yolk("locate", "where").returncode == 0, "its slot is whole")
    found = three.nodes[2].json("locate", "where")
    assert [f["node"] for f in found] == ["n0"] and found[0]["len"] == 4000
    wait_for(lambda: three.nodes[2].yolk("locate", "nowhere").returncode == 3, "its slot is whole, and it is nowhere")
    assert "NAME" in three.nodes[0].yolk("nodes").stdout and "OWNER" in three.nodes[0].yolk("slots").stdout
    done = yolk("nodes", "--peer", infos["n0"]["peers"], "--json")
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 3


def test_top_shows_all_nodes(three):
    a, c = three.client(0), three.client(2)
    a.put(b"seen", data(b"seen", 4000))
    until_there(c, b"seen")
    assert got(c, b"seen") == data(b"seen", 4000)

    def all_told():
        top = three.nodes[1].json("top", "--cluster", "--once", "--interval", "100ms")[0]
        nodes = {n["name"]: n for n in top["nodes"]}
        told = all(n["answers"] and n["state"] == "member" for n in nodes.values()) and len(nodes) == 3
        # Slots that the balancer moves are nobody's for a moment.
        owned = sum(n["slots_owned"] for n in nodes.values()) == 4096
        return nodes if told and owned and nodes["n2"]["pulled"] > 0 and nodes["n0"]["lent"] > 0 else None
    nodes = wait_for(all_told, "the pull is counted at both ends, and all slots have an owner")
    assert nodes["n2"]["pulled_bytes"] == 4000 * nodes["n2"]["pulled"] and nodes["n2"]["pulled_cross_bytes"] == 0
    assert nodes["n0"]["blocks"] > 0 and nodes["n0"]["capacity_bytes"] > 0
    stats = three.nodes[2].stats()["cluster"]
    assert stats["pulled"] == nodes["n2"]["pulled"] and stats["members"] == 3
    def shown(line):
        return re.search(line, three.nodes[1].yolk("top", "--cluster", "--once", "--interval", "100ms").stdout, re.M)
    assert shown(r"^n0 +member +\d+ ")
    wait_for(lambda: shown(r"^all +4096 "), "the sum of all slots is shown")
    three.nodes[0].stop(signal.SIGKILL)
    wait_for(lambda: shown(r"^n0 +(silent|suspect|no answer|expelled) "), "the dead node is told apart")


def slots_of(cluster, i):
    return {name: n["slots"] for name, n in cluster.infos(i).items()}


def test_rebalance_ends_when_slots_are_even(make_cluster):
    cluster = make_cluster(1)
    cluster.nodes.append(join(cluster.node(1)))
    cluster.until_members(0, ["n0", "n1"])
    done = cluster.nodes[1].yolk("rebalance", seconds=240)
    assert done.returncode == 0 and done.stdout.startswith("balanced: 'n"), done.stderr
    assert all(4096 / 2 * 0.9 <= n <= 4096 / 2 * 1.1 for n in slots_of(cluster, 1).values())
    last = cluster.nodes[0].json("rebalance", seconds=240)[-1]
    assert last["ended"] and last["rebalance"].startswith("balanced") and last["nodes"] == 2
    assert cluster.nodes[0].yolk("rebalance", "--within", "0s").returncode == 0  # asked for, and not waited for


class Worker(threading.Thread):
    """A client that reads blocks, and looks for keys of all slots, until it is told to end."""

    def __init__(self, url, keys):
        super().__init__()
        self.client, self.keys, self.over, self.gets, self.wrong = Client(url), keys, threading.Event(), 0, []
        self.start()

    def run(self):
        while not self.over.is_set():
            key = self.keys[self.gets % len(self.keys)]
            try:
                if self.client.get(key, 1 << 14) != data(key, 4000):
                    self.wrong.append(key)
                self.client.match([b"nowhere %d" % random.getrandbits(60)])
            except AssertionError as e:
                self.wrong.append(e)
            self.gets += 1

    def end(self):
        self.over.set()
        self.join(DEADLINE_S)
        self.client.close()
        return self.wrong


def test_a_node_added_under_load_ends_balanced(make_cluster):
    cluster = make_cluster(2)
    cluster.until_members(0, ["n0", "n1"])
    keys = [b"loaded %d" % i for i in range(200)]
    for key in keys:
        cluster.client(0).put(key, data(key, 4000))
    until_there(cluster.client(1), keys[-1])
    wait_for(lambda: all(cluster.client(1).get(key) for key in keys), "all of them come to n1")
    workers = [Worker(node.url, keys) for node in cluster.nodes]
    try:
        cluster.nodes.append(join(cluster.node(2)))
        cluster.until_members(0, ["n0", "n1", "n2"])
        done = cluster.nodes[0].yolk("rebalance", seconds=300)
        spread = slots_of(cluster, 0)
    finally:
        wrong = [w.end() for w in workers]
    assert done.returncode == 0 and done.stdout.startswith("balanced"), (done.stdout, done.stderr, spread)
    assert min(spread.values()) > 0 and wrong == [[], []]
    assert all(w.gets > 0 for w in workers)


def test_namespaces_are_counted_over_all_nodes(three):
    for i in range(3):
        for k in range(i + 1):
            key = b"n%d k%d" % (i, k)
            three.client(i).put(key, data(key, 4000))

    def counted():
        found = [n for n in three.nodes[1].json("ns", "list", "--cluster") if n["name"] == "default"]
        return found[0] if found and found[0]["blocks"] == 6 else None
    everywhere = wait_for(counted, "all six blocks are counted")
    assert everywhere["used_bytes"] == 6 * 4000
    here = next(n for n in three.nodes[1].json("ns", "list") if n["name"] == "default")
    assert here["blocks"] == 2 and here["epoch"] == everywhere["epoch"]


def test_what_a_namespace_is_promised_is_the_clusters(three):
    here, there = three.nodes[0], three.nodes[1]

    def told(node, *options):
        return {n["name"]: (n["guarantee_bytes"], n["priority"]) for n in node.json("ns", "list", *options)}.get("paid")

    assert here.yolk("ns", "create", "paid", "--guarantee", "8M", "--priority", 250).returncode == 0
    wait_for(lambda: told(there) == (8 << 20, 250), "another node knows it")
    wait_for(lambda: told(here, "--cluster") == (8 << 20, 250), "and so does the view of all")
    assert here.yolk("-n", "paid", "put", "k", "-", data=b"x").returncode == 0

    def sums(key):
        return [sum(n[key] for node in nodes for n in node.json("ns", "list", *options) if n["name"] == "paid")
                for nodes, options in ((three.nodes, ()), ((here,), ("--cluster",)))]

    for key in "guaranteed_bytes", "share_used_bytes":
        wait_for(lambda: min(sums(key)) > 0 and len(set(sums(key))) == 1, f"{key} of all nodes together")
    assert there.yolk("ns", "set", "paid", "--guarantee", "0").returncode == 0
    wait_for(lambda: told(here) == (0, 250), "each is set alone")
    assert "there is none of that name" in here.yolk("ns", "set", "pa1d", "--priority", 2).stderr


def test_a_namespace_wants_copies(three):
    here, there = three.nodes[0], three.nodes[2]

    def wanted(node, *options):
        return {n["name"]: n["copies"] for n in node.json("ns", "list", *options)}.get("twice")

    assert here.yolk("ns", "create", "twice", "--copies", "2").returncode == 0
    wait_for(lambda: wanted(there) == 2, "the other node has heard of it")
    wait_for(lambda: wanted(there, "--cluster") == 2, "and says so of all")
    three.until_members(2, ["n0", "n1", "n2"])
    numbers = itertools.count()

    def put():
        """A key whose copies were all there in time, which a busy machine may not do at once."""
        key = f"k{next(numbers)}"
        done = there.yolk("-n", "twice", "put", key, "-", data=b"bytes")
        assert done.returncode == 0, done.stderr
        return key if done.stderr == "" else None

    found = there.json("-n", "twice", "locate", wait_for(put, "two copies"))
    assert len([f for f in found if "node" in f and not f["guest"]]) == 2
    assert there.yolk("ns", "copies", "twice", "0").returncode == 0
    wait_for(lambda: wanted(here) == 0, "it wants one again")
    assert "there is no namespace 'twcie'" in here.yolk("ns", "copies", "twcie", "2").stderr


def test_a_drained_node_owns_nothing(three):
    wait_for(lambda: three.infos(0)["n2"]["slots"] > 0, "n2 gets slots")
    assert three.nodes[0].yolk("drain", "--within", "0s", "n2").returncode == 0
    wait_for(lambda: three.infos(0)["n2"]["draining"], "n2 drains")
    wait_for(lambda: three.infos(0)["n2"]["slots"] == 0, "its slots go", 240)
    assert three.nodes[0].yolk("drain", "nobody").returncode != 0


def test_a_drained_node_leaves_nothing_behind(three):
    c = three.client(2)
    keys = [b"drained %d" % i for i in range(60)]
    for key in keys:
        c.put(key, data(key, 4000))
    told = three.nodes[0].json("drain", "n2", "--within", "5m", seconds=330)
    assert told[-1]["done"] and told[-1]["slots"] == 0 and told[-1]["blocks_left"] == 0
    assert told[-1]["handed"] >= len(keys) and told[-1]["kept"] == 0
    assert all(c.get(key) == data(key, 4000) for key in keys)  # it answers to the end
    three.drop_client(2)
    three.nodes[2].stop()
    for i in range(2):
        assert [three.client(i).get(key) for key in keys] == [data(key, 4000) for key in keys]

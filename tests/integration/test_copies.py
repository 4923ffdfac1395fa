# SPDX-License-Identifier: Apache-2.0
"""Copies that are wanted, over several yolkd and a real etcd: what a put was told to have is there when a node is
killed, copies are in zones of their own, what lost one gets another, and copies are made by name.
"""
import ctypes
import json
import shutil

import pytest

from cluster_nodes import Key, data, got, kill, until_there
from harness import wait_for

if shutil.which("etcd") is None:
    pytest.skip("etcd is missing (etcd-server)", allow_module_level=True)

FEWER = 3
LEN = 50000


class PutOpts(ctypes.Structure):
    _fields_ = [("size", ctypes.c_uint32), ("flags", ctypes.c_uint32), ("parent", Key), ("ttl_ms", ctypes.c_uint64),
                ("pin_ms", ctypes.c_uint64), ("session", ctypes.c_uint64), ("depth_tokens", ctypes.c_uint32),
                ("length_tokens", ctypes.c_uint32), ("model", ctypes.c_uint32), ("kind", ctypes.c_uint32),
                ("tier", ctypes.c_uint32), ("timeout_ms", ctypes.c_uint32), ("prefer", ctypes.c_char_p),
                ("replicas", ctypes.c_uint32), ("reserved", ctypes.c_uint32)]


def put(client, key, replicas=0, prefer=None):
    """0, or FEWER."""
    value = data(key, LEN)
    opts = PutOpts(size=ctypes.sizeof(PutOpts), prefer=prefer, replicas=replicas)
    rc = client.lib.yk_put(client.handle, Key(key, len(key)), value, ctypes.c_size_t(len(value)), ctypes.byref(opts))
    assert rc >= 0, (rc, client.lib.yk_error_text(client.handle))
    return rc


def put_all(client, key, replicas=0, prefer=None):
    """A node that is slow to answer is passed by, and the put says so: then the copies are asked for again."""
    wait_for(lambda: put(client, key, replicas, prefer) == 0, f"{key} has its copies")


def copies(cluster, i, key):
    """Names of the nodes whose copies count, as the owner of the key's slot knows them; None: it cannot be told now."""
    done = cluster.nodes[i].yolk("--json", "locate", key)
    if done.returncode not in (0, 3):
        return None
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return sorted(f["node"] for f in found if "node" in f and not f["guest"])


@pytest.mark.parametrize("killed", [0, "other"])
def test_either_holder_may_be_killed(make_cluster, killed):  # noqa: F811
    cluster = make_cluster(3)
    keys = [b"both %d" % i for i in range(30)]
    for key in keys:
        put_all(cluster.client(0), key, 2)
    place = {key: wait_for(lambda: copies(cluster, 0, key), f"{key} is told") for key in keys}
    assert all(len(p) >= 2 and "n0" in p for p in place.values()), place
    victim = 0 if killed == 0 else int(next(n for n in place[keys[0]] if n != "n0")[1])
    reader = next(i for i in (1, 2, 0) if i != victim)
    client = cluster.client(reader)
    kill(cluster, victim)
    for key in keys:  # while its slot is rebuilt a miss is allowed (R12), other bytes never are
        assert wait_for(lambda: client.get(key), f"{key} comes") == data(key, LEN)


def test_what_lost_a_copy_gets_another(make_cluster):  # noqa: F811
    cluster = make_cluster(3)
    keys = [b"again %d" % i for i in range(40)]
    for key in keys:
        put_all(cluster.client(0), key, 2)
    put_all(cluster.client(0), b"lone")
    kill(cluster, 0)
    cluster.until_members(1, ["n1", "n2"])
    for key in keys:
        wait_for(lambda: copies(cluster, 1, key) == ["n1", "n2"], f"{key} has two copies again")
    assert copies(cluster, 1, b"lone") == []
    kill(cluster, 1)
    for key in keys:
        assert wait_for(lambda: cluster.client(2).get(key), f"{key} comes") == data(key, LEN)


def test_copies_are_in_different_zones(make_cluster):  # noqa: F811
    cluster = make_cluster(0)
    for i, zone in enumerate(("eu/a", "eu/a", "eu/b")):
        node = cluster.node(i)
        node.options += ["--zone", zone]
        cluster.nodes.append(node.start())
    cluster.until_members(0, ["n0", "n1", "n2"])
    for i in range(10):
        key = b"zone %d" % i
        put_all(cluster.client(0), key, 2)
        assert copies(cluster, 0, key) == ["n0", "n2"]
    put_all(cluster.client(0), b"all", 3)
    assert copies(cluster, 0, b"all") == ["n0", "n1", "n2"]
    assert put(cluster.client(0), b"more", 4) == FEWER


def test_a_preferred_node_has_it(make_cluster):  # noqa: F811
    cluster = make_cluster(3)
    cluster.until_members(0, ["n0", "n1", "n2"])
    put_all(cluster.client(0), b"there", prefer=b"n2")
    wait_for(lambda: copies(cluster, 1, b"there") == ["n2"], "its own copy is a guest")
    assert got(cluster.client(1), b"there") == data(b"there", LEN)
    done = cluster.nodes[0].yolk("put", "by-name", "-", "--prefer", "n1", "--replicas", "2", data=b"some bytes")
    assert done.returncode == 0 and done.stderr == ""
    assert copies(cluster, 0, b"by-name") == ["n0", "n1"]
    kill(cluster, 2)
    assert put(cluster.client(0), b"here", prefer=b"n2") == FEWER
    assert cluster.client(0).get(b"here") == data(b"here", LEN)
    done = cluster.nodes[0].yolk("put", "said", "-", "--prefer", "n2", data=b"some bytes")
    assert done.returncode == 0 and "preferred node" in done.stderr


def test_copies_by_name(make_cluster):  # noqa: F811
    cluster = make_cluster(2)
    cluster.client(0).put(b"block", data(b"block", LEN))
    until_there(cluster.client(1), b"block")
    done = cluster.nodes[0].yolk("copy", "block", "--to", "n1")
    assert done.returncode == 0, done.stderr
    assert copies(cluster, 0, b"block") == ["n0", "n1"]
    assert cluster.nodes[0].yolk("copy", "block", "--to", "n1").returncode == 0  # it is there
    done = cluster.nodes[0].yolk("copy", "nothing", "--to", "n1")
    assert done.returncode != 0 and "no node has it" in done.stderr
    done = cluster.nodes[0].yolk("copy", "block", "--to", "n7")
    assert done.returncode != 0 and "n7" in done.stderr
    tasks = cluster.nodes[0].json("tasks")
    assert [(t["key"], t["to"], t["state"]) for t in tasks] == [
        ("block", "n1", "done"), ("block", "n1", "done"), ("nothing", "n1", "failed")]
    assert len({t["id"] for t in tasks}) == 3
    assert "STATE" in cluster.nodes[0].yolk("tasks").stdout


def test_moves_by_name(make_cluster):  # noqa: F811
    cluster = make_cluster(3)
    keys = [b"block%d" % i for i in range(3)]
    names = [key.decode() for key in keys]
    for key in keys:
        cluster.client(0).put(key, data(key, LEN))
        until_there(cluster.client(1), key)
    done = cluster.nodes[2].yolk("move", *names, "--to", "n1")
    assert done.returncode == 0, done.stderr
    for key in keys:
        assert copies(cluster, 0, key) == ["n1"]
        assert got(cluster.client(0), key) == data(key, LEN)
    done = cluster.nodes[2].yolk("move", names[0], "nothing", "--from", "n1")  # to whichever
    assert done.returncode == 1 and "nothing: the node has no copy of its own" in done.stderr
    assert copies(cluster, 1, keys[0])[0] != "n1"
    for wrong in (["--to", "n7"], []):
        done = cluster.nodes[0].yolk("move", names[0], *wrong)
        assert done.returncode != 0 and ("n7" in done.stderr or "--from" in done.stderr)
    tasks = cluster.nodes[2].json("tasks")
    assert [(t["kind"], t["from"], t["to"], t["state"]) for t in tasks] == [
        ("move", "n0", "n1", "done")] * 3 + [("move", "n1", "", "done"), ("move", "n1", "", "failed")]


def test_a_removed_block_does_not_come_back_by_a_copy(make_cluster):  # noqa: F811
    """A replicated block is removed while one of its holders is away; what lost a copy is copied again, this not."""
    cluster = make_cluster(3)
    keys = [b"gone %d" % i for i in range(20)]
    for key in keys:
        put_all(cluster.client(0), key, 2)
    kill(cluster, 0)
    cluster.until_members(1, ["n1", "n2"])
    for key in keys:
        wait_for(lambda: cluster.client(1).is_removed(key), "removed")
    put_all(cluster.client(1), b"last", 2)
    cluster.drop_client(0)
    cluster.nodes[0].start()
    cluster.until_members(1, ["n0", "n1", "n2"])
    wait_for(lambda: copies(cluster, 0, b"last") is not None, "slots are whole")
    for key in keys:
        for i in range(3):
            assert cluster.client(i).get(key) is None

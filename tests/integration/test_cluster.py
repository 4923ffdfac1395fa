# SPDX-License-Identifier: Apache-2.0
"""Several yolkd and a real etcd on this host: one cluster. What one node has, clients of all find, byte for
byte; a remove is one everywhere; a node that dies takes its blocks along, and nobody waits longer than asked.

Clients are libyolk's (cluster_nodes.py): blocks by reference and into buffers, matches, and what they cost in time.
"""
import shutil
import signal
import time

import pytest

from cluster_nodes import NO_MAP, Client, Relay, data, got, join, kill, until_joined, until_there
from harness import DEADLINE_S, wait_for

CALL_S = 5  # a client's call by default
LATE_S = 10  # and so much for a busy machine: who waits without an end waits longer

if shutil.which("etcd") is None:
    pytest.skip("etcd is missing (etcd-server)", allow_module_level=True)


# ---- blocks -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 4096, (1 << 20) + 13])
def test_what_one_node_has_clients_of_all_get(three, size):
    a, b, c = (three.client(i) for i in range(3))
    key = b"block of %d" % size
    a.put(key, data(key, size))
    for other in (b, c):
        until_there(other, key)
    assert got(b, key) == data(key, size)
    assert wait_for(lambda: c.ref(key), f"{key} comes") == data(key, size)
    assert b.ref(key) == data(key, size) and c.get(key) == data(key, size)
    assert b.get(b"never put") is None and not c.exists(b"never put")


def test_a_chain_is_matched_and_got_elsewhere(three):
    a, b, c = (three.client(i) for i in range(3))
    keys = [b"chain %d" % i for i in range(50)]
    for i, key in enumerate(keys[:40]):
        a.put(key, data(key, 3000), keys[i - 1] if i else None)
    until_there(c, keys[39])
    wait_for(lambda: c.match(keys) == 40, "the chain is found")
    assert [c.get(k) for k in keys[:40]] == [data(k, 3000) for k in keys[:40]]
    assert c.get(keys[40]) is None
    wait_for(lambda: b.match(keys) == 40, "the chain is found")


def test_a_remove_is_one_everywhere(three):
    a, b, c = (three.client(i) for i in range(3))
    for i in range(30):
        key = b"removed %d" % i
        a.put(key, data(key, 5000))
        until_there(b, key)
        assert got(b, key) == data(key, 5000)  # two nodes have it
        c.remove(key)
        for client in (a, b, c):
            assert client.get(key) is None
        wait_for(lambda: not any(client.exists(key) for client in (a, b, c)), f"{key} is found no more")
        b.put(key, data(key, 6000))
        until_there(a, key)
        assert got(a, key) == data(key, 6000)


def test_a_block_on_ssd_comes_up_for_another_node(make_cluster, place):
    cluster = make_cluster(1)
    deep = cluster.node(1)
    deep.dram = "16M"
    deep.options += ["--ssd", f"{place.dir}/n1.ssd:256M", "--ssd-segment", "4M", "--ssd-wait", "0s"]  # all is written
    cluster.nodes.append(deep.start())
    a, b = cluster.client(0), cluster.client(1)
    keys = [b"deep %d" % i for i in range(30)]
    for key in keys:
        b.put(key, data(key, 1 << 20))
    for key in keys:  # most of them are on SSD alone by now
        until_there(a, key)
        assert got(a, key) == data(key, 1 << 20)
    assert any("ssd" in f["tiers"] for f in cluster.nodes[0].json("locate", keys[0].decode()))


# ---- death ------------------------------------------------------------------------------------


def timed(call):
    begin = time.monotonic()
    value = call()
    return value, time.monotonic() - begin


def test_a_killed_holder_is_a_miss_or_another_copy(three):
    a, b, c = (three.client(i) for i in range(3))
    lone, both = [b"lone %d" % i for i in range(30)], [b"both %d" % i for i in range(30)]
    for key in lone + both:
        a.put(key, data(key, 20000))
        until_there(b, key)
    for key in both:
        assert got(b, key) == data(key, 20000)
    wait_for(lambda: all(three.nodes[2].yolk("locate", key).stdout.count("\n") == 3 for key in both),
             "two copies are known")
    kill(three, 0)
    for key in lone:  # from now on, whatever the map says
        value, took = timed(lambda: c.get(key))
        assert value is None and took < CALL_S + LATE_S
    three.until_members(1, ["n1", "n2"])
    for key in both:  # while its slot is rebuilt a miss is allowed (R12), other bytes never are
        assert got(c, key) == data(key, 20000)
    assert sum(n["slots"] for n in three.infos(1).values() if n["state"] == "member") == 4096
    three.nodes[0].start()  # with all its blocks, and in the cluster again
    three.until_members(2, ["n0", "n1", "n2"])
    for key in lone:
        until_there(c, key)
        assert got(c, key) == data(key, 20000)


def test_a_node_that_came_later_comes_back_with_what_it_has(make_cluster):
    cluster = make_cluster(1)
    cluster.nodes.append(join(cluster.node(1)))
    cluster.until_members(0, ["n0", "n1"])
    cluster.client(1).put(b"kept", data(b"kept", 4000))
    until_there(cluster.client(0), b"kept")
    kill(cluster, 1)
    cluster.until_members(0, ["n0"])
    cluster.nodes[1].start()
    cluster.until_members(0, ["n0", "n1"])
    until_there(cluster.client(0), b"kept")
    assert got(cluster.client(0), b"kept") == data(b"kept", 4000)


def test_what_was_removed_while_a_node_was_away_stays_removed(three):
    a, b = three.client(0), three.client(1)
    keys = [b"away %d" % i for i in range(20)]
    for key in keys:
        a.put(key, data(key, 4000))
        until_there(b, key)
    kill(three, 0)
    three.until_members(1, ["n1", "n2"])
    for key in keys[:10]:
        wait_for(lambda: b.is_removed(key), f"{key} is removed")  # who is told that the deadline has passed asks again
    three.nodes[0].start()
    three.until_members(1, ["n0", "n1", "n2"])
    for key in keys[10:]:
        until_there(b, key)
    for key in keys[:10]:
        assert all(three.client(i).get(key) is None for i in range(3))


def test_a_stopped_node_costs_no_more_than_the_deadline(three):
    a, c = three.client(0), three.client(2)
    keys = [b"stopped %d" % i for i in range(10)]
    for key in keys:
        a.put(key, data(key, 4000))
        until_there(c, key)
    three.nodes[0].process.send_signal(signal.SIGSTOP)
    for key in keys:
        value, took = timed(lambda: c.get(key))
        assert value in (None, data(key, 4000)) and took < CALL_S + LATE_S
    three.nodes[0].process.send_signal(signal.SIGCONT)
    three.until_members(2, ["n0", "n1", "n2"])
    for key in keys:  # a path to it that broke is tried again a moment later
        wait_for(lambda: c.get(key) == data(key, 4000), f"{key} comes again")


def test_blocks_are_found_while_etcd_is_away(three):
    a, c = three.client(0), three.client(2)
    a.put(b"before", data(b"before", 4000))
    until_there(c, b"before")
    three.etcd.kill()
    a.put(b"during", data(b"during", 4000))
    until_there(c, b"during")
    assert got(c, b"before") == data(b"before", 4000) and got(c, b"during") == data(b"during", 4000)
    c.remove(b"before")
    assert a.get(b"before") is None
    three.etcd.start()
    wait_for(lambda: three.infos(2)["n0"]["alive"], "n0 lives")


def test_a_cut_off_node_is_a_miss_for_its_own_clients_until_etcd_is_back(make_cluster):
    cluster = make_cluster(1, "--cut-off", "4s")
    mapped, key = cluster.client(0), b"cut off"
    far = Client(cluster.nodes[0].url, NO_MAP)
    mapped.put(key, data(key, 4000))
    assert mapped.get(key) == far.get(key) == data(key, 4000)
    cluster.etcd.process.send_signal(signal.SIGSTOP)
    for client in (mapped, far):
        wait_for(lambda: client.get(key) is None, "what it holds is found no more")
        assert client.ref(key) is None and not client.exists(key) and client.match([key]) == 0
    cluster.etcd.process.send_signal(signal.SIGCONT)
    for client in (mapped, far):
        wait_for(lambda: client.get(key) == data(key, 4000), "what it holds is found again")
    cluster.nodes[0].process.kill()  # the time in its segment runs out without it
    cluster.nodes[0].process.wait(DEADLINE_S)
    wait_for(lambda: mapped.get(key) is None, "what a dead node left is found no more")
    far.close()


def test_a_handle_from_before_a_restart_finds_nothing_until_the_node_is_back(make_cluster):
    cluster = make_cluster(1)
    client, node, key = cluster.client(0), cluster.nodes[0], b"restarted"
    client.put(key, data(key, 4000))
    cluster.etcd.kill()
    node.process.kill()
    node.process.wait(DEADLINE_S)
    assert client.get(key) == data(key, 4000)  # nobody is expelled so soon: it may
    node.launch()
    wait_for(lambda: client.get(key) is None, "it has begun, and does not know what it missed")
    cluster.etcd.start()

    def is_back():
        if node.process.poll() is not None:  # it gives up after a while without etcd
            node.launch()
        return client.get(key) == data(key, 4000)

    wait_for(is_back, "it is back")


def epoch(node):
    return {n["name"]: n["epoch"] for n in node.json("ns", "list")}["default"]


def test_a_raise_is_heard_without_etcd(make_cluster):
    cluster = make_cluster(1)
    relay = Relay(cluster.etcd.url)
    cluster.nodes.append(join(cluster.node(1, relay.url)))
    try:
        cluster.until_members(0, ["n0", "n1"])
        a, b = cluster.client(0), cluster.client(1)
        a.put(b"old", data(b"old", 4000))
        until_there(b, b"old")
        for turn in range(1, 6):  # it is expelled after a lease, and hears nothing more then: what that overtook is done again
            relay.cut()
            wanted = epoch(cluster.nodes[0]) + 1
            assert cluster.nodes[0].yolk("ns", "epoch", "default", str(wanted)).returncode == 0
            heard = False
            while not heard and cluster.infos(0)["n1"]["state"] == "member":
                heard = epoch(cluster.nodes[1]) == wanted
            if heard:
                break
            relay.open = True
            cluster.until_members(0, ["n0", "n1"])
        assert heard and b.get(b"old") is None
        relay.open = True
        cluster.until_members(0, ["n0", "n1"])
    finally:
        relay.close()


def test_a_new_node_gets_slots_and_finds_all(make_cluster):
    cluster = make_cluster(1)
    a = cluster.client(0)
    keys = [b"early %d" % i for i in range(20)]
    for key in keys:
        a.put(key, data(key, 4000))
    cluster.nodes.append(join(cluster.node(1)))
    b = cluster.client(1)
    for key in keys:
        until_there(b, key)
        assert got(b, key) == data(key, 4000)
    wait_for(lambda: cluster.infos(1)["n1"]["slots"] > 0, "slots move to the new node")


def test_nodes_that_start_at_the_same_time_are_one_cluster(make_cluster):
    cluster, names = make_cluster(0), [f"n{i}" for i in range(4)]
    cluster.nodes = [cluster.node(i).launch() for i in range(4)]  # one makes the cluster, the others return first
    for node in cluster.nodes:
        until_joined(node)
    for i in range(4):
        cluster.until_members(i, names)
        cluster.client(i).put(b"of %d" % i, data(b"of %d" % i, 3000))
    for i in range(4):
        key = b"of %d" % ((i + 1) % 4)
        until_there(cluster.client(i), key)
        assert got(cluster.client(i), key) == data(key, 3000)
    for i in range(4):
        cluster.client(i).remove(b"of %d" % i)
        assert all(cluster.client(k).get(b"of %d" % i) is None for k in range(4))


def test_a_forgotten_node_comes_back_as_a_new_one(three):
    c = three.client(2)
    c.put(b"old", data(b"old", 4000))
    until_there(three.client(0), b"old")
    done = three.nodes[0].yolk("forget", "n2")
    assert done.returncode != 0 and "'n2' is a member: stop it" in done.stderr, done.stderr
    kill(three, 2)
    wait_for(lambda: three.infos(0)["n2"]["state"] == "expelled", "n2 is expelled")
    was = three.infos(0)["n2"]["id"]
    wait_for(lambda: three.nodes[1].yolk("forget", "n2").returncode == 0, "n1 has heard of it, too")
    wait_for(lambda: "n2" not in three.infos(0), "n2 is forgotten")
    assert "no node named 'n2'" in three.nodes[0].yolk("forget", "n2").stderr
    three.nodes[2].start()  # with all its memory, its log and its state
    three.until_members(0, ["n0", "n1", "n2"])
    assert three.infos(0)["n2"]["id"] > was
    assert all(three.client(i).get(b"old") is None for i in range(3))  # nobody knows if it was removed
    three.client(2).put(b"new", data(b"new", 4000))
    until_there(three.client(0), b"new")
    assert got(three.client(0), b"new") == data(b"new", 4000)

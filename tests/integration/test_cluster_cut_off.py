# SPDX-License-Identifier: Apache-2.0
"""What a node's own clients are told while it cannot reach etcd (docs/decisions/0014, "A node that returns"): for its
`--cut-off` what it holds, then misses, and never again a block that was removed meanwhile. With yolkd and a real etcd that
is killed, or that one node alone cannot reach.
"""
import contextlib
import shutil
import threading
import time

import pytest

from cluster_nodes import MISS, NO_MAP, Client, Relay, data, got, until_there
from harness import wait_for

if shutil.which("etcd") is None:
    pytest.skip("etcd is missing (etcd-server)", allow_module_level=True)

CUT_OFF_S = 12  # counts from when etcd was last heard, a lease ago at most; the rest is for a machine that stands still
SERVES_S = 4    # of that at least
SIZE = 4000


def add_node(cluster, i, *options, etcd=None):
    node = cluster.node(i, etcd)
    node.options += options
    cluster.nodes.append(node.start())


@contextlib.contextmanager
def both_ways(node):
    """Clients that read the node's memory, and that ask it."""
    clients = Client(node.url), Client(node.url, NO_MAP)
    try:
        yield clients
    finally:
        for client in clients:
            client.close()


def has(client, key):
    """Exactly that block, or nothing."""
    value = client.get(key)
    assert value in (None, data(key, SIZE)), key
    return value is not None


def assert_found_nowhere(client, keys):
    for key in keys:
        assert client.get(key) is None and client.ref(key) is None and not client.exists(key) and client.match([key]) == 0, key


def until_removed(client, key):
    """A remove that was not in time goes on, and is asked for again until it is done."""
    wait_for(lambda: client.lib.yk_remove(client.handle, client._key(key)) in (0, MISS), f"{key} is removed")


def test_each_node_serves_its_own_clients_for_its_cut_off_and_no_longer(make_cluster):
    cluster = make_cluster(0)
    add_node(cluster, 0, "--cut-off", f"{CUT_OFF_S}s")
    add_node(cluster, 1, "--cut-off", "10m")
    for i in range(2):
        cluster.until_members(i, ["n0", "n1"])
    own, others, removed, late = [b"own %d" % i for i in range(5)], b"of the other", b"removed meanwhile", b"put meanwhile"
    patient = cluster.client(1)
    with both_ways(cluster.nodes[0]) as hasty:
        for key in [*own, removed]:
            hasty[0].put(key, data(key, SIZE))
            until_there(patient, key)
        patient.put(others, data(others, SIZE))
        until_there(hasty[0], others)
        assert got(patient, removed) == data(removed, SIZE)  # both have it
        away = time.monotonic()
        cluster.etcd.kill()
        wait_for(lambda: not has(hasty[0], own[0]), "what it holds is found no more")
        assert time.monotonic() - away > SERVES_S
        for client in hasty:
            assert_found_nowhere(client, [*own, removed, others])
        assert has(patient, others) and got(patient, removed) == data(removed, SIZE)  # it has more time
        hasty[0].put(late, data(late, SIZE))
        until_removed(patient, removed)
        for client in hasty:
            assert_found_nowhere(client, [*own, removed, late])
        cluster.etcd.start()
        for client in hasty:
            for key in [*own, late, others]:
                wait_for(lambda: has(client, key), f"{key} is found again")
                assert client.get(removed) is None
        assert patient.get(removed) is None and has(patient, late)


class Watch:
    """Asks a node for blocks that must not come, again and again, while something else is done. As `with`."""

    def __init__(self, node, flags, keys):
        self.client, self.keys, self.over, self.came, self.asked = Client(node.url, flags), keys, threading.Event(), [], 0
        self.failure = None
        self.thread = threading.Thread(target=self.ask, daemon=True)

    def ask(self):
        try:
            self.ask_all()
        except Exception as failure:  # the test's own thread raises it: one that ends here would watch no more
            self.failure = failure

    def ask_all(self):
        while not self.over.is_set():
            for key in self.keys:
                if self.client.lib.yk_exists(self.client.handle, self.client._key(key)) == 1 or self.client.is_got(key):
                    self.came.append(key)
                self.asked += 1

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, kind, *_):
        self.over.set()
        self.thread.join()
        self.client.close()
        if kind is None and self.failure is not None:
            raise self.failure
        assert kind is not None or (self.asked > 0 and not self.came), f"found: {self.came}"


def test_what_was_removed_behind_a_cut_off_node_is_not_found_after_its_cut_off(make_cluster):
    cluster = make_cluster(1)
    with contextlib.closing(Relay(cluster.etcd.url)) as relay:
        add_node(cluster, 1, "--cut-off", f"{CUT_OFF_S}s", etcd=relay.url)
        cluster.until_members(0, ["n0", "n1"])
        near, kept, removed = cluster.client(0), [b"kept %d" % i for i in range(10)], [b"removed %d" % i for i in range(10)]
        with both_ways(cluster.nodes[1]) as cut_off:
            for key in kept + removed:
                cut_off[0].put(key, data(key, SIZE))
                until_there(near, key)
            relay.cut()
            wait_for(lambda: cluster.infos(0)["n1"]["state"] == "expelled", "n1 is expelled")
            for key in removed:
                until_removed(near, key)  # done without n1, which does not hear of it: until its cut-off its clients may find it
            for client in cut_off:
                wait_for(lambda: not any(has(client, key) for key in kept + removed), "what it holds is found no more")
                assert_found_nowhere(client, kept + removed)
            with Watch(cluster.nodes[1], 0, removed), Watch(cluster.nodes[1], NO_MAP, removed):
                relay.open = True
                cluster.until_members(0, ["n0", "n1"])
                for client in (near, *cut_off):
                    for key in kept:
                        wait_for(lambda: has(client, key), f"{key} is found again")
            for client in (near, *cut_off):
                assert_found_nowhere(client, removed)

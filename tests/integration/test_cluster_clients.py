# SPDX-License-Identifier: Apache-2.0
"""Which node of a cluster a client speaks to, with several yolkd and a real etcd: it is given several, or finds them
in etcd, and goes on with another one when its own dies.
"""
import itertools
import shutil
import signal
import threading

import pytest

from cluster_nodes import Client, data, free_port, until_there
from harness import DEADLINE_S, wait_for, yolk

if shutil.which("etcd") is None:
    pytest.skip("etcd is missing (etcd-server)", allow_module_level=True)


# ---- which node a client speaks to -----------------------------------------------------------


class Reader(threading.Thread):
    """Reads blocks through one client until it is told to end: a get is exact or a miss, whatever dies meanwhile."""

    def __init__(self, client, keys, size):
        super().__init__()
        self.client, self.keys, self.size = client, keys, size
        self.over, self.wrong, self.hits = threading.Event(), [], 0
        self.start()

    def run(self):
        while not self.over.is_set():
            for key in self.keys:
                try:
                    value = self.client.get(key)
                except AssertionError as failure:
                    self.wrong.append(failure)
                    return
                if value is not None and value != data(key, self.size):
                    self.wrong.append(key)
                self.hits += value is not None

    def end(self):
        self.over.set()
        self.join(DEADLINE_S)
        assert not self.is_alive() and not self.wrong, self.wrong


def etcd_url(cluster, more=""):
    return f"etcd://{cluster.etcd.url.removeprefix('http://')}/yolk{more}"


def read_while_it_dies(cluster, client, victim):
    """Blocks of n2 are read through the client's node; that is killed, and they are read on."""
    keys = [b"read on %d" % i for i in range(8)]
    for key in keys:
        cluster.client(2).put(key, data(key, 4000))
        until_there(client, key)
    reader = Reader(client, keys, 4000)
    wait_for(lambda: reader.hits > 0, "blocks are read")
    cluster.nodes[victim].stop(signal.SIGKILL)
    before = reader.hits
    wait_for(lambda: reader.hits > before + 3 * len(keys), "they are read on")
    reader.end()


def test_a_client_goes_on_with_another_node_and_comes_back(three):
    client = Client(f"{three.nodes[0].url},{three.nodes[1].url}")
    read_while_it_dies(three, client, 0)
    assert client.get(b"read on 0") == data(b"read on 0", 4000)
    client.put(b"at n1", data(b"at n1", 4000))
    three.nodes[0].start()
    count = itertools.count()

    def is_back():
        client.put(b"again %d" % next(count), b"x")
        return three.nodes[0].stats()["commits"] > 0
    wait_for(is_back, "the client puts into its first node again")
    client.close()


def test_a_client_finds_its_nodes_in_etcd(three):
    """All are on this host, and as near: it takes any, and when that one is killed another."""
    url = etcd_url(three)
    client = Client(url)
    client.put(b"by etcd", data(b"by etcd", 4000))
    wait_for(lambda: three.nodes[2].yolk("locate", "by etcd").returncode == 0, "its owner is told")
    mine = three.nodes[2].json("locate", "by etcd")[0]["node"]
    three.drop_client(int(mine[1:]))
    holder = 2 if mine != "n2" else 1
    keys = [b"elsewhere %d" % i for i in range(8)]
    for key in keys:
        three.client(holder).put(key, data(key, 4000))
        until_there(client, key)
    reader = Reader(client, keys, 4000)
    three.nodes[int(mine[1:])].stop(signal.SIGKILL)
    before = reader.hits
    wait_for(lambda: reader.hits > before + 3 * len(keys), "they are read on")
    reader.end()
    client.close()
    done = yolk("--url", url, "get", keys[0].decode(), text=False)
    assert done.returncode == 0 and done.stdout == data(keys[0], 4000), done.stderr


def test_etcd_urls_that_lead_nowhere_are_said(three):
    for url, text in [(etcd_url(three).replace("/yolk", "/other"), "names no node"),
                      (f"etcd://127.0.0.1:{free_port()}/yolk", "etcd"), (etcd_url(three, "?zone"), "zone="),
                      ("etcd:///yolk", "HOST:PORT")]:
        done = yolk("--url", url, "--timeout", "2s", "nodes")
        assert done.returncode != 0 and text in done.stderr, done.stderr

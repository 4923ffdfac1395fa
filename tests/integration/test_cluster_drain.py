# SPDX-License-Identifier: Apache-2.0
"""A node drains, and the owner of slots does not know yet that a copy has gone: what the draining node leaves behind has
the copies that are wanted all the same (docs/decisions/0017). With yolkd and a real etcd in network namespaces; root.
"""
import contextlib
import json
import shutil

import pytest

from cluster_nodes import Client
from cluster_rig import REST_S, Cluster, Lan, pause
from harness import wait_for
from test_copies import put

if shutil.which("etcd") is None:
    pytest.skip("etcd is missing (etcd-server)", allow_module_level=True)

STALE_S = 3  # of a drain that is told of copies that are not there


def holders(node, key):
    """Of copies that count, as the owner of the key's slot knows them."""
    done = node.command_line("locate", key.decode(), "--json")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return {f["node"] for f in found if "node" in f and not f["guest"]}


@pytest.mark.skipif(not Lan.possible(), reason="needs network namespaces and nft (root)")
def test_copies_that_the_owner_has_not_heard_the_end_of_do_not_count(place):
    cluster = Cluster(place, nodes=4, members=1)
    owner, gone, stays, drains = cluster.nodes  # the first node has nearly all slots
    keys = [b"both %d" % i for i in range(12)]
    try:
        client = Client(stays.url)
        for key in keys:
            wait_for(lambda: put(client, key, 2, b"n1") == 0, f"two copies of {key}")
            wait_for(lambda: drains.command_line("copy", key.decode(), "--to", "n3").returncode == 0, f"a third one of {key}")
            wait_for(lambda: holders(stays, key) == {"n1", "n2", "n3"}, f"three copies of {key}")
        cluster.lan.lose([gone.host], [owner.host])
        gone.command_line("rm", "--pattern", "both *", "--force")  # its own copies; its answer may wait for the owner's
        assert not any(key in gone.command_line("ls").stdout for key in map(bytes.decode, keys))
        owner.command_line("drain", "n3", "--within", "0s")
        pause(STALE_S)
        cluster.lan.heal()
        wait_for(lambda: owner.command_line("drain", "n3", "--within", "20s").returncode == 0, "n3 is drained", REST_S)
        for key in keys:
            wait_for(lambda: len(holders(stays, key) - {"n3"}) >= 2, f"two copies of {key} on nodes that stay",
                     REST_S)
        client.close()
    except BaseException:
        with contextlib.suppress(Exception):
            print("copies:", {key: holders(stays, key) for key in keys})
        cluster.tell()
        raise

# SPDX-License-Identifier: Apache-2.0
"""Runs in the guest: a node whose payload is bound to slow memory (tests/vm/test_memory.py)."""
import re
from pathlib import Path

from conftest import janitor, place  # noqa: F401 (fixtures)
from harness import wait_for
from test_faults import Node, finish, start_workers

NODES = Path("/sys/devices/system/node")
WORKERS = 1


def pages_by_node(process, name):
    """{NUMA node: pages} of a mapping of the process whose file has this name."""
    pages = {}
    for line in Path(f"/proc/{process.pid}/numa_maps").read_text().splitlines():
        if name in line:
            for node, count in re.findall(r" N(\d+)=(\d+)", line):
                pages[int(node)] = pages.get(int(node), 0) + int(count)
    return pages


def serve_from(place, numa_node, dram, keys, length, hits):
    """Clients put, get and remove blocks there, and check every byte."""
    processors = (NODES / f"node{numa_node}/cpulist").read_text().strip()
    assert processors == "", f"node {numa_node} has processors {processors}"
    node = Node(place, "--numa-node", numa_node, dram=dram).start()
    workers, ledger, until = start_workers(node, WORKERS, keys=keys, length=length)
    wait_for(lambda: node.stats()["local_hits"] > hits, "clients find blocks")
    pages = pages_by_node(node.process, ".data")
    print("pages by node:", pages)
    assert set(pages) == {numa_node}
    finish(workers, until)
    found = node.check(ledger, WORKERS, keys=keys, len=length)
    assert found["wrong"] == 0 and found["hits"] > 0
    assert node.stop() == 0


def test_node_without_processors(place):
    serve_from(place, 1, dram="32M", keys=256, length=65536, hits=200)

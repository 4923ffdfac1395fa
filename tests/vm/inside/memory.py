# SPDX-License-Identifier: Apache-2.0
"""Runs in the guest: a node whose payload, or the tail of it, is in slow memory (tests/vm/test_memory.py)."""
import ctypes
import os
import re
from pathlib import Path

from conftest import janitor, place  # noqa: F401 (fixtures)
from harness import wait_for
from test_faults import Node, finish, start_workers

NODES = Path("/sys/devices/system/node")
WORKERS = 1
MOVE_PAGES = {"x86_64": 279, "aarch64": 239}.get(os.uname().machine)  # the call's number; C libraries have it not


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


def nodes_of(path, start, end):
    """{NUMA node: pages}, as the kernel says (move_pages), of the pages of a file between the two offsets that are there."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    page, found, fd = os.sysconf("SC_PAGESIZE"), {}, os.open(path, os.O_RDONLY)
    base = libc.mmap(None, os.fstat(fd).st_size, 1, 1, fd, 0)  # readable, shared
    assert base != ctypes.c_void_p(-1).value
    at = start
    while at < end:
        try:
            at = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:  # no more of them
            break
        stop = min(os.lseek(fd, at, os.SEEK_HOLE), end)
        pages = [base + offset for offset in range(at, stop, page)]
        for address in pages:
            ctypes.string_at(address, 1)  # into this process's table
        count = len(pages)
        status = (ctypes.c_int * count)()
        assert libc.syscall(MOVE_PAGES, 0, ctypes.c_ulong(count), (ctypes.c_void_p * count)(*pages), None, status, 0) == 0
        for node in status:
            found[node] = found.get(node, 0) + 1
        at = stop
    os.close(fd)
    return found


def sink_to(place, numa_node, *options, dram="16M", slow=48):
    """Clients put more than DRAM holds: what sinks is where the kernel has memory of that node, and comes back exactly."""
    node = Node(place, *options, dram=dram).start()
    assert f"{slow} MiB of slow memory on NUMA node {numa_node}: " in node.log(), node.log()
    workers, ledger, until = start_workers(node, WORKERS, keys=600, length=65536)
    wait_for(lambda: node.stats()["cxl"]["sunk"] > 200 and node.stats()["cxl"]["hits"] > 20, "blocks sink, and are found there")
    finish(workers, until)
    found = node.check(ledger, WORKERS, keys=600, len=65536)
    assert found["wrong"] == 0 and found["hits"] > 0
    stats, data = node.stats(), node.segment("data")
    print("figures:", {name: stats["cxl"][name] for name in ("latency_ns", "bytes_per_s", "dram_latency_ns", "dram_bytes_per_s")})
    near, size = stats["capacity_bytes"], os.stat(data).st_size
    assert size == near + stats["cxl"]["capacity_bytes"] and stats["cxl"]["blocks"] > 50
    pages = [nodes_of(data, 0, near), nodes_of(data, near, size)]
    print("pages of DRAM and of slow memory by node:", pages)
    assert set(pages[0]) == {0} and set(pages[1]) == {numa_node}
    node.kill()
    node.start()
    found = node.check(ledger, WORKERS, keys=600, len=65536)
    assert found["wrong"] == 0 and found["hits"] > 0
    assert node.stop() == 0


def test_tier_on_a_node_without_processors(place):
    sink_to(place, 1, "--cxl", "48M")  # which is found


def test_node_without_processors(place):
    serve_from(place, 1, dram="32M", keys=256, length=65536, hits=200)

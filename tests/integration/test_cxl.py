# SPDX-License-Identifier: Apache-2.0
"""Slow memory between DRAM and SSD (docs/decisions/0020): the daemon with --cxl, its clients, its figures.

The NUMA node that is named is the first of this machine, with processors: ordinary memory, in which everything goes as in
slow memory but for what it costs. tests/vm has a node without processors.
"""
import random
import re
import urllib.request
from pathlib import Path

import pytest

from conftest import janitor, place  # noqa: F401 (fixtures)
from harness import one_line, wait_for, yolkd
from test_faults import Node, finish, pause, start_workers

NODES = Path("/sys/devices/system/node")

pytestmark = pytest.mark.skipif(not (NODES / "node0/meminfo").exists() or not (NODES / "has_memory").exists(),
                                reason="this kernel shows no NUMA nodes")


def slow_node(place, *options, dram="16M", cxl="48M"):
    return Node(place, "--cxl", f"{cxl}@0", *options, dram=dram)


def test_every_byte_over_both_ranges(place):
    """Clients put, hold, get and remove more than DRAM holds; the daemon dies in between."""
    node = slow_node(place).start()
    assert re.search(r"48 MiB of slow memory on NUMA node 0: \d+ ns and ", node.log())
    workers, ledger, until = start_workers(node, 3, keys=200, length=65536)
    rng = random.Random(3)
    for _ in range(4):
        before = node.stats()["cxl"]["sunk"]
        wait_for(lambda: node.stats()["cxl"]["sunk"] > before + 50, "blocks sink")
        pause(rng.uniform(0.02, 0.2))  # anywhere in what goes on
        node.kill()
        node.start()
        assert all(w.poll() is None for w in workers), "a client died with the daemon"
    wait_for(lambda: node.stats()["cxl"]["hits"] > 20, "clients find blocks in slow memory")
    finish(workers, until)
    found = node.check(ledger, 3, keys=200, len=65536)
    assert found["wrong"] == 0 and found["hits"] > 1000
    stats = node.stats()
    assert stats["corrupt"] == 0 and stats["verify_failed"] == 0
    assert stats["cxl"]["blocks"] > 0
    assert node.stop() == 0


def test_three_tiers(place):
    node = slow_node(place, "--ssd", f"{place.dir}/low:256M", "--ssd-segment", "1M", cxl="16M").start()
    workers, ledger, until = start_workers(node, 2, keys=600, length=65536)
    wait_for(lambda: node.stats()["demoted"] > 50, "blocks go down to SSD")
    if node.stats()["cxl"]["used"]:
        wait_for(lambda: node.stats()["cxl"]["left"] > 50, "blocks go down both steps")
    else:  # this machine is busy, or slow
        assert "It is no quicker than an SSD, and nothing is put there" in node.log() and node.stats()["cxl"]["sunk"] == 0
    finish(workers, until)
    found = node.check(ledger, 2, keys=600, len=65536)
    assert found["wrong"] == 0 and found["hits"] > 0
    assert node.stop() == 0
    node.start()
    found = node.check(ledger, 2, keys=600, len=65536)
    assert found["wrong"] == 0 and found["hits"] > 0
    assert node.stop() == 0


def put_many(node, count):
    for i in range(count):
        assert node.yolk("put", f"key-{i}", "-", data=bytes([i % 256]) * 262144).returncode == 0


def test_figures(place):
    node = slow_node(place, "--http", "127.0.0.1:0", dram="8M", cxl="32M")
    node.base = [o for o in node.base if o not in ("--http", "none")]
    node.start()
    put_many(node, 60)
    stats = node.stats()["cxl"]
    assert stats["used"] is True and stats["capacity_bytes"] == 32 << 20
    assert stats["blocks"] > 20 and stats["block_bytes"] == stats["blocks"] * 262144
    assert stats["sunk"] >= stats["blocks"]
    assert all(stats[name] > 0 for name in ("latency_ns", "bytes_per_s", "dram_latency_ns", "dram_bytes_per_s"))
    # A key that sank, its tier as a client sees it, and its bytes.
    tiers = {i: node.json("stat", f"key-{i}")[0]["tiers"] for i in range(60)}
    slow = [i for i, t in tiers.items() if t == ["cxl"]]
    assert len(slow) > 20 and tiers[59] == ["dram"]
    assert node.yolk("get", f"key-{slow[0]}", text=False).stdout == bytes([slow[0]]) * 262144
    wait_for(lambda: node.stats()["cxl"]["hits"] > 0, "the use is heard of")
    text = node.yolk("stat").stdout
    assert re.search(r"^slow memory$", text, re.M) and re.search(r"^  sank +\d+$", text, re.M)
    assert re.search(r"^cxl +\[#+\.*\] [\d.]+ MiB of 32 MiB in \d+ blocks$", node.yolk("top", "--once").stdout, re.M)
    assert node.json("top", "--count", "1")[0]["cxl"]["blocks"] == node.stats()["cxl"]["blocks"]
    port = re.search(r"http tcp:127.0.0.1:(\d+)|http 127.0.0.1:(\d+)", node.log())
    page = urllib.request.urlopen(f"http://127.0.0.1:{port[1] or port[2]}/metrics").read().decode()
    assert re.search(r'^yolk_blocks\{tier="cxl"\} \d\d', page, re.M)
    assert re.search(r'^yolk_cxl_moves_total\{way="sunk"\} \d\d', page, re.M)
    assert re.search(r'^yolk_memory_latency_nanoseconds\{tier="cxl"\} \d', page, re.M)
    assert node.stop() == 0


def test_without_it(place):
    node = Node(place, dram="8M").start()
    assert node.stats()["cxl"] is None
    assert "slow memory" not in node.log() and "slow memory" not in node.yolk("stat").stdout
    assert not re.search(r"^cxl ", node.yolk("top", "--once").stdout, re.M)
    assert node.stop() == 0


def test_another_length_begins_empty(place):
    node = slow_node(place, dram="8M", cxl="16M").start()
    put_many(node, 40)
    assert node.stop() == 0
    node.start()
    assert node.stats()["recovered"] == 40
    assert node.stop() == 0
    for options in (["--cxl", "24M@0"], []):
        node.options = options
        node.start()
        assert node.stats()["recovered"] == 0
        assert "the old one was set aside: it was made for" in node.log()
        assert node.yolk("get", "key-39").returncode == 3
        put_many(node, 2)
        assert node.stop() == 0


@pytest.mark.parametrize("value, text", [
    ("lots", "--cxl: found 'lots', expected a size"),
    ("1K", "--cxl: found '1K', expected 1MiB to 32TiB"),
    ("64M@", "--cxl: found '' behind the @, expected the number of a NUMA node"),
    ("64M@x", "--cxl: found 'x' behind the @, expected the number of a NUMA node"),
    ("64M@1000", "--cxl: found node 1000, expected a NUMA node with memory"),
    ("16T@0", "--cxl: found 16TiB, expected at most the .* that this machine has beside --dram"),
])
def test_bad_values(place, value, text):
    done = yolkd("--dram", "64M", "--cxl", value, "--shm-dir", place.shm, "--listen", f"unix:{place.dir}/s")
    assert re.search(text, one_line(done, 2, "yolkd"))


def test_huge_pages_are_not_for_it(place):
    done = yolkd("--dram", "64M", "--cxl", "64M@0", "--huge-pages", "require", "--shm-dir", place.shm)
    assert "--huge-pages: found 'require' with --cxl" in one_line(done, 2, "yolkd")


def test_the_node_without_processors_is_found(place):
    """Where there is no such node, or more than one, the option has to name one."""
    def numbers(name):
        found = set()
        for part in (NODES / name).read_text().strip().split(","):
            first, _, last = part.partition("-")
            found |= set(range(int(first), int(last or first) + 1)) if part else set()
        return found

    far = numbers("has_memory") - numbers("has_cpu")
    done = yolkd("--check-config", "--dram", "64M", "--cxl", "16M", "--shm-dir", place.shm, "--http", "none",
                 "--listen", f"unix:{place.dir}/s")
    if len(far) == 1:
        assert done.returncode == 0
    elif far:
        assert "found several NUMA nodes without processors" in one_line(done, 2, "yolkd")
    else:
        assert "found no NUMA node without processors" in one_line(done, 2, "yolkd")

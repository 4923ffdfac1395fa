# SPDX-License-Identifier: Apache-2.0
"""Runs in the guest: an SSD tier whose machine loses its power (tests/vm/test_ssd.py cuts it).

Each boot has the same drive. `before` of the first boot makes blocks, removes some of them, and says so when
that was acknowledged; then it keeps both tiers busy until it is cut. Every later boot finds the drive as the cut
left it: what was removed is a miss, whatever else is there has its exact bytes. What was under way at the cut
may be either; nobody's ledger outlives it, so every block counts as that.
"""
import itertools
import os
from pathlib import Path

from conftest import janitor, place  # noqa: F401 (fixtures)
from harness import wait_for
from test_faults import pause
from test_ssd_faults import SsdNode, both_busy, start_workers

DRIVE = Path("/dev/nvme0n1")
WORKERS, KEYS, LENGTH = 2, 384, 65536
REMOVED = [f"removed-{i}" for i in range(8)]
LEDGER_KEYS, LEDGER_COUNTERS = 128 * 65536, 5 * 128 * 8  # struct ledger of fault_driver.c
INTENT = b"\x01"
MISS = 3  # exit code of yolk get


def start(place, *options):
    node = SsdNode(place, "--ssd-only-on", "write-through", path=DRIVE, size=None, dram="8M")
    return node.start(*options)


def say(text):
    os.write(1, f"\n{text}\n".encode())


def put_and_remove(node):
    """Each of them is on SSD when it is removed, and removed for good when this returns."""
    for key in REMOVED:
        assert node.yolk("put", key, "-", data=key.encode() * 1000).returncode == 0
    wait_for(lambda: node.stats()["ssd"]["puts"] >= len(REMOVED), "the blocks are on SSD")
    for key in REMOVED:
        assert node.yolk("rm", key).returncode == 0


def be_busy(node):
    start_workers(node, WORKERS, keys=KEYS, length=LENGTH, refs=False)
    wait_for(lambda: both_busy(node), "both tiers are busy")
    for i in itertools.count():  # until the power goes
        say(f"busy {i}.")
        pause(0.05)


def check(place, node):
    ssd = node.stats()["ssd"]
    assert ssd["recovered"] > 0 and ssd["devices_ok"] == 1, ssd
    for key in REMOVED:
        assert node.yolk("get", key, text=False).returncode == MISS, f"{key} came back"
    ledger = place.dir / "any"
    ledger.write_bytes(INTENT * LEDGER_KEYS + bytes(LEDGER_COUNTERS))
    found = node.check(ledger, WORKERS, keys=KEYS, len=LENGTH)
    say(f"after the cut: {found['hits']} blocks with their exact bytes, {found['wrong']} wrong")
    assert found["wrong"] == 0 and found["hits"] > 0


def test_first_boot(place):
    node = start(place, "--ssd-format")
    put_and_remove(node)
    be_busy(node)


def test_next_boot(place):
    node = start(place)
    check(place, node)
    be_busy(node)


def test_last_boot(place):
    node = start(place)
    check(place, node)
    assert node.stop() == 0

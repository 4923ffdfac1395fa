# SPDX-License-Identifier: Apache-2.0
"""Runs in the guest: the SSD tier on a raw NVMe drive, and faults of the block layer below it.

The device mapper stands between the node and the drive and is told what to do (struct Mapped). The clients
are those of tests/integration/test_faults.py: they check every byte against a ledger, so each test shows that
all answers were exact or misses while the device failed, lied, or was slow.
"""
import subprocess
from pathlib import Path

import pytest

from conftest import janitor, place  # noqa: F401 (fixtures)
from harness import DEADLINE_S, wait_for
from test_ssd_faults import SsdNode, both_busy, check, finish, start_workers

DRIVE = "/dev/nvme0n1"
WORKERS, KEYS, LENGTH = 2, 384, 65536  # some 25 MiB of blocks, over 8 MiB of memory


class Mapped:
    """A device of the device mapper over the whole drive; what it does can be changed under its user."""

    def __init__(self):
        self.sectors = int(subprocess.run(["blockdev", "--getsz", DRIVE], check=True, capture_output=True, text=True).stdout)
        self.healthy = f"linear {DRIVE} 0"
        self.dmsetup("create", "yolk", "--table", self.table(self.healthy))
        self.path = Path(f"/dev/dm-{self.dmsetup('info', '-c', '--noheadings', '-o', 'minor', 'yolk').strip()}")  # no udev here

    def table(self, target):
        return f"0 {self.sectors} {target}"

    def dmsetup(self, *args):
        done = subprocess.run(["dmsetup", "--noudevsync", *args], capture_output=True, text=True, timeout=DEADLINE_S)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def become(self, target):
        """From now on: requests that are under way end first."""
        self.dmsetup("reload", "yolk", "--table", self.table(target))
        self.dmsetup("suspend", "--noflush", "--nolockfs", "yolk")
        self.dmsetup("resume", "yolk")

    def close(self):
        self.dmsetup("remove", "--retry", "yolk")


@pytest.fixture(scope="session", autouse=True)
def modules():
    subprocess.run(["modprobe", "-a", "dm_mod", "dm_flakey", "dm_delay"], check=True)


@pytest.fixture
def mapped():
    device = Mapped()
    yield device
    device.close()


@pytest.fixture
def busy(place, mapped):
    """A node on the mapped drive with clients that keep both tiers busy; checked when the test ends."""
    node = SsdNode(place, "--ssd-format", "--ssd-trim", "off", path=mapped.path, size=None, dram="8M")
    node.start()
    workers, ledger, until = start_workers(node, WORKERS, keys=KEYS, length=LENGTH)
    wait_for(lambda: both_busy(node), "both tiers are busy")
    yield node
    print("device:", node.device())
    finish(workers, until)
    found = node.check(ledger, WORKERS, keys=KEYS, len=LENGTH)
    assert found["wrong"] == 0 and found["hits"] > 0
    assert node.stop() == 0
    for process in place.processes:
        process.wait()


def hits_go_on(node):
    before = node.stats()["local_hits"]
    wait_for(lambda: node.stats()["local_hits"] > before + 50, "clients go on")


def blocks_go_down(node):
    before = node.stats()["demoted"]
    wait_for(lambda: node.stats()["demoted"] > before + 20, "blocks go down again")


def test_raw_drive(place):
    """Without the device mapper: formatted, used, found again after a reboot."""
    node = SsdNode(place, "--ssd-trim", "on", path=Path(DRIVE), size=None, dram="8M")
    node.start("--ssd-format")
    workers, ledger, until = start_workers(node, WORKERS, keys=KEYS, length=LENGTH, refs=False)
    wait_for(lambda: both_busy(node), "both tiers are busy")
    assert node.device()["direct"] and node.device()["state"] == "ok"
    finish(workers, until)
    node.reboot()
    assert node.stats()["ssd"]["recovered"] > 0
    found = node.check(ledger, WORKERS, keys=KEYS, len=LENGTH)
    assert found["wrong"] == 0 and found["intact"] > 0
    assert node.stop() == 0


def restart(node):
    """Errors make a device read-only until the next start."""
    node.kill()
    node.start()
    assert node.device()["state"] == "ok", node.device()
    blocks_go_down(node)


def test_device_that_fails_and_comes_back(busy, mapped):
    mapped.become("error")
    wait_for(lambda: busy.device()["state"] == "read-only", "the node says that its device fails")
    assert "read-only from now on" in busy.device()["note"] and busy.stats()["ssd"]["devices_ok"] == 0
    hits_go_on(busy)
    mapped.become(mapped.healthy)
    restart(busy)


def test_device_that_loses_writes(busy, mapped):
    """It says that it wrote, and did not: what is read then is older, or nothing of this node's."""
    mapped.become(f"flakey {DRIVE} 0 0 3600 1 drop_writes")
    blocks_go_down(busy)
    hits_go_on(busy)
    assert busy.process.poll() is None


def test_device_that_reads_other_bytes(busy, mapped):
    """One byte of each request is another one: such blocks are misses and are counted."""
    mapped.become(f"flakey {DRIVE} 0 0 3600 5 corrupt_bio_byte 32 r 1 0")
    before = busy.stats()["verify_failed"]
    wait_for(lambda: busy.stats()["verify_failed"] > before, "wrong payload is noticed")
    hits_go_on(busy)
    assert busy.process.poll() is None


def test_device_that_is_slow(busy, mapped):
    """A tenth of a second for each request: slow is no failure, and puts do not wait for it."""
    mapped.become(f"delay {DRIVE} 0 100")
    hits_go_on(busy)
    blocks_go_down(busy)
    assert busy.device()["state"] == "ok"
    mapped.become(mapped.healthy)

# SPDX-License-Identifier: Apache-2.0
"""What a node with an SSD tier must survive, done to real programs: kill -9 with both tiers busy, a reboot
over the same file, and everything that can happen to a file under a running daemon.

The clients are those of test_faults.py: they check every byte against a ledger, so each run shows that all
answers were exact or misses, that nothing removed came back, and how much was lost. Their blocks are several
times the node's memory, so that both tiers are busy all the time. Counts are in full with YOLK_LONG=1, a tenth
otherwise. Random delays are stimuli; nothing waits for a time to pass.
"""
import os
import random
import shutil
import signal
import subprocess
import threading
import time

import pytest

from harness import DEADLINE_S, program, wait_for
from test_faults import LONG, Node, finish, start_workers
from test_replay import children, endless, gone, leftovers

MIB = 1 << 20
WORKERS, KEYS, LENGTH = 3, 384, 262144  # about 150 MiB of blocks


def pause(seconds):
    threading.Event().wait(seconds)


class SsdNode(Node):
    def __init__(self, place, *options, path=None, size="512M", **settings):
        self.ssd = path or place.dir / "node.ssd"
        super().__init__(place, "--ssd", f"{self.ssd}:{size}" if size else self.ssd, "--ssd-segment", "4M", "--ssd-wait", "0", *options,
                         dram=settings.pop("dram", "48M"), **settings)

    def reboot(self):
        """The machine went down: no clean end, and shared memory is empty."""
        self.kill()
        for path in self.place.shm.iterdir():
            path.unlink()
        self.start()

    def device(self):
        return self.stats()["ssd"]["devices"][0]


@pytest.fixture
def ssd_node(place):
    def make(*options, **settings):
        return SsdNode(place, *options, **settings).start()

    return make


def start_load(node, refs=True, seed=1):
    return start_workers(node, WORKERS, keys=KEYS, length=LENGTH, seed=seed, refs=refs)


def check(node, ledger):
    found = node.check(ledger, WORKERS, keys=KEYS, len=LENGTH)
    print(f"{found['hits']} right answers, {found['intact']} of {found['present']} blocks there at the end, "
          f"{found['present'] - found['intact']} lost")
    assert found["wrong"] == 0 and found["hits"] > 0
    return found


def both_busy(node):
    stats = node.stats()
    return stats["demoted"] > 100 and stats["ssd_hits"] > 20


def test_kill_with_both_tiers_busy(ssd_node):
    node = ssd_node()
    workers, ledger, until = start_load(node)
    wait_for(lambda: both_busy(node), "both tiers are busy")
    rng = random.Random(21)
    for _ in range(200 if LONG else 20):
        pause(rng.uniform(0.05, 0.5))
        node.kill()
        node.start()
        assert all(w.poll() is None for w in workers), "a client died with the daemon"
    wait_for(lambda: both_busy(node), "both tiers are busy again")
    finish(workers, until)
    found = check(node, ledger)
    # Memory survives a kill, and so does what was written: only what was between the two is lost.
    assert found["intact"] >= 0.9 * found["present"]


@pytest.mark.parametrize("when", ["demotion", "write-through"])
def test_reboots_under_load(ssd_node, when):
    node = ssd_node("--ssd-only-on", when)
    workers, ledger, until = start_load(node, refs=False)  # a reference does not outlive its memory
    rng = random.Random(22)
    for _ in range(50 if LONG else 5):
        wait_for(lambda: node.stats()["ssd"]["puts"] > 100, "blocks are on SSD")
        pause(rng.uniform(0.05, 0.5))
        node.reboot()
    wait_for(lambda: node.stats()["ssd"]["recovered"] > 0, "blocks were found on SSD")
    finish(workers, until)
    check(node, ledger)


def has_open(process, path):
    folder = f"/proc/{process.pid}/fd"
    try:
        return any(os.readlink(f"{folder}/{fd}") == str(path) for fd in os.listdir(folder))
    except OSError:  # it ends, or a descriptor went just now
        return False


def test_recovery_is_killed_half_way(ssd_node):
    """Only what comes between the opening of the device and the line that the node serves counts."""
    node = ssd_node()
    workers, ledger, until = start_load(node)
    wait_for(lambda: both_busy(node), "both tiers are busy")
    finish(workers, until)
    node.kill()
    rng = random.Random(23)
    want, within, tries, longest = (50 if LONG else 10), 0, 0, 0.02
    while within < want:
        tries += 1
        assert tries <= 20 * want, f"{within} of {tries} kills came while the node recovered"
        seen = len(node.log())
        node.launch()
        end = time.monotonic() + DEADLINE_S
        while not has_open(node.process, node.ssd):
            assert node.process.poll() is None and time.monotonic() < end, node.log()[seen:]
        pause(rng.uniform(0, longest))
        node.kill()
        served = " serves " in node.log()[seen:]
        within += not served
        longest *= 0.7 if served else 1.1  # about as long as a recovery takes here
    node.start()
    check(node, ledger)


def test_two_daemons_never_share_a_file(ssd_node, place):
    node = ssd_node()
    workers, ledger, until = start_load(node)
    wait_for(lambda: both_busy(node), "both tiers are busy")
    for i in range(10 if LONG else 3):
        other = SsdNode(place, path=node.ssd, name=f"other{i}")
        done = subprocess.run(list(map(str, other.command())), capture_output=True, text=True, timeout=DEADLINE_S)
        assert done.returncode == 1 and "in use by process" in done.stderr, done.stderr
    finish(workers, until)
    check(node, ledger)


# ---- the file under the daemon ----------------------------------------------------------------


def hurt(node, what):
    if what == "truncated":
        os.truncate(node.ssd, 8 * MIB)
    elif what == "emptied":
        os.truncate(node.ssd, 0)
    elif what == "deleted":
        os.unlink(node.ssd)
    elif what == "replaced":
        node.ssd.rename(f"{node.ssd}.old")
        with open(node.ssd, "wb") as file:
            file.truncate(512 * MIB)
    elif what == "without permissions":
        node.ssd.chmod(0)


@pytest.mark.parametrize("what", ["truncated", "emptied", "deleted", "replaced"])
def test_the_file_goes_under_the_daemon(ssd_node, what):
    node = ssd_node()
    workers, ledger, until = start_load(node)
    wait_for(lambda: both_busy(node), "both tiers are busy")
    hurt(node, what)
    wait_for(lambda: node.device()["state"] == "gone", "the node notices that its device is gone")
    assert node.process.poll() is None and node.stats()["ssd"]["devices_ok"] == 0
    hits = node.stats()["local_hits"]
    wait_for(lambda: node.stats()["local_hits"] > hits + 100, "clients go on with memory alone")
    wait_for(lambda: "gone (removed, replaced, cut short" in node.log(), "the log says it")
    finish(workers, until)
    check(node, ledger)
    node.kill()
    if what == "replaced":
        node.ssd.unlink()
    node.start()  # with an empty file, or what is left of it
    check(node, ledger)


def test_permissions_go_under_the_daemon(ssd_node):
    """What is open stays open: nothing happens until the next start."""
    node = ssd_node()
    workers, ledger, until = start_load(node)
    wait_for(lambda: both_busy(node), "both tiers are busy")
    hurt(node, "without permissions")
    before = node.stats()["demoted"]
    wait_for(lambda: node.stats()["demoted"] > before + 100, "blocks go on moving")
    assert node.device()["state"] == "ok"
    finish(workers, until)
    check(node, ledger)


def test_a_device_that_comes_back(ssd_node):
    node = ssd_node()
    workers, ledger, until = start_load(node)
    wait_for(lambda: both_busy(node), "both tiers are busy")
    away = node.ssd.with_suffix(".away")
    node.ssd.rename(away)
    wait_for(lambda: node.device()["state"] == "gone", "the node notices that its device is gone")
    away.rename(node.ssd)
    wait_for(lambda: node.device()["state"] == "ok", "the node takes it in again")
    demoted = node.stats()["demoted"]
    wait_for(lambda: node.stats()["demoted"] > demoted + 50, "blocks go down again")
    finish(workers, until)
    check(node, ledger)
    node.reboot()
    check(node, ledger)


@pytest.mark.parametrize("where", ["everywhere", "beginning"])
def test_bits_flip_under_the_daemon(ssd_node, where):
    node = ssd_node()
    workers, ledger, until = start_load(node, refs=False)
    wait_for(lambda: both_busy(node), "both tiers are busy")
    rng = random.Random(24)
    with open(node.ssd, "r+b") as file:
        for _ in range(3000):
            at = rng.randrange(MIB if where == "beginning" else 256 * MIB)
            file.seek(at)
            byte = file.read(1)
            file.seek(at)
            file.write(bytes([byte[0] ^ (1 << rng.randrange(8))]))
    pause(1.0)
    assert node.process.poll() is None
    finish(workers, until)
    check(node, ledger)


def test_bits_flip_while_it_is_down(ssd_node):
    node = ssd_node()
    workers, ledger, until = start_load(node)
    wait_for(lambda: both_busy(node), "both tiers are busy")
    finish(workers, until)
    assert node.stop() == 0
    for path in node.place.shm.iterdir():
        path.unlink()
    rng = random.Random(25)
    with open(node.ssd, "r+b") as file:
        for _ in range(3000):
            at = rng.randrange(MIB, 256 * MIB)
            file.seek(at)
            file.write(bytes([rng.randrange(256)]))
    node.start()
    check(node, ledger)


# ---- a full file system -----------------------------------------------------------------------


@pytest.fixture
def small_disk(place):
    """A mounted ext4 of 96 MiB, which goes away with the test."""
    image, folder = place.dir / "disk.img", place.dir / "disk"
    if os.geteuid() != 0 or not shutil.which("mkfs.ext4"):
        pytest.skip("mounting a small file system needs root and mkfs.ext4")
    with open(image, "wb") as file:
        file.truncate(96 * MIB)
    folder.mkdir()
    subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True, capture_output=True)
    done = subprocess.run(["mount", "-o", "loop", image, folder], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"no loop mounts here: {done.stderr.strip()}")
    yield folder
    for process in place.processes:
        if process.poll() is None:
            process.kill()
            process.wait()
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_file_system_is_found_at_the_start(small_disk, place):
    node = SsdNode(place, path=small_disk / "x.ssd", size="512M")
    done = subprocess.run(list(map(str, node.command())), capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
    assert "expected at most the" in done.stderr
    assert list(small_disk.glob("*.ssd")) == []


def test_a_file_system_that_fills_under_the_daemon(small_disk, place):
    """Trimmed segments give their space back, and somebody else takes it."""
    node = SsdNode(place, "--ssd-trim", "on", path=small_disk / "x.ssd", size="64M", dram="16M").start()
    workers, ledger, until = start_load(node)
    wait_for(lambda: both_busy(node), "both tiers are busy")
    hog = small_disk / "hog"
    with open(hog, "wb") as file:
        end = 400
        while end > 0 and node.device()["state"] == "ok":
            try:
                file.write(bytes(MIB))
                file.flush()
            except OSError:
                pause(0.05)  # full; the next segment that is trimmed is taken as well
            end -= 1
    assert node.process.poll() is None
    hits = node.stats()["local_hits"]
    wait_for(lambda: node.stats()["local_hits"] > hits + 100, "clients go on")
    finish(workers, until)
    check(node, ledger)
    node.kill()
    hog.unlink()
    node.start()
    check(node, ledger)


# ---- nothing is left --------------------------------------------------------------------------


def test_a_killed_replay_leaves_no_file(place):
    process = place.spawn([program("yolk"), "run", "--trace", endless(place), "--speed", "1",
                           "--block", "4K", "--capacity", "100", "--ssd-capacity", "1000"],
                          env={**os.environ, "TMPDIR": str(place.dir)}, stdin=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: len(children(process.pid)) == 3 and not leftovers(place.dir), "the run goes on")
    pids = children(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for(lambda: gone(pids), "its children end with it")
    assert [p.name for p in place.dir.iterdir()] == ["endless.jsonl"]

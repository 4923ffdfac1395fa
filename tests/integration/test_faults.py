# SPDX-License-Identifier: Apache-2.0
"""What the node must survive, done to real programs: kill -9 of the daemon under load, SIGSTOP of
daemon and clients past every deadline, clients killed in every phase, damaged and truncated
segments, memory limits, a thousand clients, garbage.

The clients are fault_driver (fault_driver.c): they check every byte against a ledger of what was
acknowledged, so a run proves that all answers were exact or misses. Long counts run in full with
YOLK_LONG=1, a tenth of them otherwise. Random delays below are stimuli; nothing waits for a time
to pass, everything waits for a condition with a deadline.
"""

import json
import os
import random
import resource
import signal
import socket
import struct
import subprocess
import threading

import pytest

import harness
from harness import DEADLINE_S, one_line, program, wait_for

WIRE_VERSION = 3  # src/wire/msg.h
LONG = os.environ.get("YOLK_LONG") == "1"


def pause(seconds):
    threading.Event().wait(seconds)


class Node(harness.Node):
    """A node to be hurt, and the checking clients that use it meanwhile."""

    def kill(self):
        self.stop(signal.SIGKILL)

    def segment(self, suffix):
        return self.place.shm / f"yolk-{self.name}.{suffix}"

    def driver(self, *args, **options):
        return self.place.spawn([program("fault_driver"), *args], **options)

    def check(self, ledger, workers, **options):
        args = ["check", "--url", self.url, "--ledger", ledger, "--workers", workers]
        for key, value in options.items():
            args += ["--" + key, value]
        p = subprocess.run([program("fault_driver"), *map(str, args)], stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, text=True, timeout=DEADLINE_S * 5)
        assert p.returncode == 0, p.stdout + p.stderr
        return json.loads(p.stdout)

    def stats(self):
        """Without a mapping, so that the asking process takes no client slot itself."""
        return self.json("--no-map", "stat")[0]


@pytest.fixture
def node(place):
    def make(*options, dram="512M"):
        return Node(place, *options, dram=dram).start()

    return make


def start_workers(n, count, keys=256, length=65536, seed=1, refs=True, timeout_ms=20000, **options):
    until = n.place.dir / "stop"
    ledger = n.place.dir / "ledger"
    workers = [n.driver("work", "--url", n.url, "--ledger", ledger, "--id", i, "--keys", keys,
                        "--len", length, "--seed", seed + i, "--until-file", until,
                        "--no-refs", 0 if refs else 1, "--timeout-ms", timeout_ms, **options)
               for i in range(count)]
    return workers, ledger, until


def finish(workers, until):
    until.touch()
    for w in workers:
        assert w.wait(timeout=DEADLINE_S) == 0, "a worker saw a wrong answer (see stderr)"


def test_kill_of_the_daemon_under_load(node):
    rounds = 200 if LONG else 20
    rng = random.Random(11)
    n = node("--capacity-blocks", "0", dram="1G")
    workers, ledger, until = start_workers(n, 3)
    for _ in range(rounds):
        pause(rng.uniform(0.02, 0.4))
        n.kill()
        n.start()
        assert all(w.poll() is None for w in workers), "a client died with the daemon"
    pause(0.3)
    finish(workers, until)
    found = n.check(ledger, 3, keys=256, len=65536)
    assert found["wrong"] == 0
    assert found["hits"] > 100 * rounds
    # The tier is larger than all blocks, so nothing was evicted: what is missing was lost.
    assert found["intact"] >= 0.999 * found["present"], found


def test_kill_of_the_daemon_that_evicts(node):
    rounds = 50 if LONG else 5
    rng = random.Random(12)
    n = node(dram="16M")
    workers, ledger, until = start_workers(n, 3)
    for _ in range(rounds):
        pause(rng.uniform(0.05, 0.4))
        n.kill()
        n.start()
    finish(workers, until)
    found = n.check(ledger, 3, keys=256, len=65536)
    assert found["wrong"] == 0 and found["hits"] > 0


def test_kill_for_longer_than_the_clients_deadlines(node):
    """Puts end without an answer while the node is away, their commits made or not, and others follow in their places."""
    rounds = 200 if LONG else 10
    rng = random.Random(13)
    n = node(dram="16M")
    workers, ledger, until = start_workers(n, 3, keys=1024, length=16384, timeout_ms=100)
    for _ in range(rounds):
        pause(rng.uniform(0.1, 0.3))
        n.kill()
        pause(rng.uniform(0.1, 0.4))
        n.start()
    pause(0.3)
    finish(workers, until)
    found = n.check(ledger, 3, keys=1024, len=16384)
    assert found["wrong"] == 0 and found["late"] > 0 and found["hits"] > 0


# Deadlines of the clients below, and how long who answers them is stopped: past each of them.
STOP_DEADLINE_MS = 1000
STOP_S = 1.5


def test_stop_of_the_daemon_past_every_deadline(node):
    rounds = 200 if LONG else 3
    n = node("--capacity-blocks", "0")
    workers, ledger, until = start_workers(n, 2, timeout_ms=STOP_DEADLINE_MS)
    for _ in range(rounds):
        pause(0.3)
        n.process.send_signal(signal.SIGSTOP)
        pause(STOP_S)
        n.process.send_signal(signal.SIGCONT)
        assert all(w.poll() is None for w in workers), "a client died while the daemon was stopped"
    pause(0.5)
    finish(workers, until)
    found = n.check(ledger, 2, keys=256, len=65536)
    assert found["wrong"] == 0 and found["hits"] > 100 * rounds
    assert found["late"] >= rounds, "no deadline passed"
    # The tier is larger than all blocks.
    assert found["intact"] >= 0.999 * found["present"], found


def test_stopped_clients_keep_what_they_hold(node):
    rounds = 200 if LONG else 4
    n = node("--capacity-blocks", "0")
    workers, ledger, until = start_workers(n, 4, timeout_ms=STOP_DEADLINE_MS)
    for i in range(rounds):
        w = workers[i % 4]
        pause(0.2)
        w.send_signal(signal.SIGSTOP)
        if i % 2:
            n.kill()
            n.start()
        pause(STOP_S)
        w.send_signal(signal.SIGCONT)
    finish(workers, until)
    found = n.check(ledger, 4, keys=256, len=65536)
    assert found["wrong"] == 0
    assert found["intact"] >= 0.999 * found["present"], found


@pytest.mark.parametrize("phase", ["idle", "reserve", "written", "ref", "getting", "putting"])
def test_client_killed_in_a_phase(node, phase):
    n = node(dram="64M")
    for _ in range(20 if LONG else 4):
        p = n.driver("hold", "--url", n.url, "--phase", phase, "--len", 1 << 20,
                     stdout=subprocess.PIPE, text=True)
        assert p.stdout.readline().strip() == phase
        p.kill()
        p.wait()
        p.stdout.close()
    wait_for(lambda: n.stats()["clients"] == 1, "the slots of dead clients are free")
    s = n.stats()
    assert s["reserved_blocks"] == 0 and s["limbo_blocks"] == 0


@pytest.mark.parametrize("phase", ["commit", "async"])
def test_client_killed_before_the_answer(node, phase):
    n = node(dram="64M")
    for _ in range(20 if LONG else 4):
        p = n.driver("hold", "--url", n.url, "--phase", phase, "--len", 1 << 20,
                     stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert p.stdout.readline().strip() == "ready"
        n.process.send_signal(signal.SIGSTOP)
        p.stdin.write("go\n")
        p.stdin.flush()
        assert p.stdout.readline().strip() == phase
        p.kill()
        p.wait()
        p.stdin.close()
        p.stdout.close()
        n.process.send_signal(signal.SIGCONT)
    wait_for(lambda: n.stats()["clients"] == 1, "the slots of dead clients are free")
    s = n.stats()
    assert s["reserved_blocks"] == 0 and s["limbo_blocks"] == 0
    for i in range(8):  # sent whole it may be committed
        done = n.yolk("get", f"{phase}-{i}", text=False)
        assert done.returncode == 3 or done.stdout == b"\x77" * (1 << 20), done.stderr


def test_client_that_dies_while_the_daemon_is_down(node):
    n = node(dram="64M")
    p = n.driver("hold", "--url", n.url, "--phase", "written", "--len", 1 << 20,
                 stdout=subprocess.PIPE, text=True)
    assert p.stdout.readline().strip() == "written"
    n.kill()
    p.kill()
    p.wait()
    p.stdout.close()
    n.start()
    wait_for(lambda: n.stats()["clients"] == 1, "the dead client's slot is free")
    assert n.stats()["reserved_blocks"] == 0


def test_reservation_of_a_stopped_client_outlives_the_daemon(node):
    n = node(dram="64M")
    p = n.driver("hold", "--url", n.url, "--phase", "reserve", "--len", 1 << 20,
                 stdout=subprocess.PIPE, text=True)
    assert p.stdout.readline().strip() == "reserve"
    p.send_signal(signal.SIGSTOP)
    held = n.stats()["reserved_blocks"]
    assert held >= 1
    n.kill()
    n.start()
    assert n.stats()["reserved_blocks"] == held
    p.kill()
    p.wait()
    p.stdout.close()
    wait_for(lambda: n.stats()["reserved_blocks"] == 0, "the killed client's places are free")


def fill_and_stop(n, how, workers=2):
    """Blocks in a segment whose daemon is gone: how is kill or SIGTERM."""
    ws, ledger, until = start_workers(n, workers, keys=128)
    wait_for(lambda: n.stats()["blocks"] > 150, "blocks are there")
    finish(ws, until)
    if how == "kill":
        n.kill()
    else:
        assert n.stop() == 0, n.log()
    return ledger


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_payload_scribbled_on_while_down_is_a_counted_miss(node, how):
    n = node(dram="64M")
    ledger = fill_and_stop(n, how)
    rng = random.Random(3)
    with open(n.segment("data"), "r+b") as f:
        size = os.fstat(f.fileno()).st_size
        for _ in range(4000):
            f.seek(rng.randrange(size))
            f.write(bytes([rng.randrange(256)]))
    n.start()
    found = n.check(ledger, 2, keys=128, len=65536)
    assert found["wrong"] == 0
    assert found["intact"] < found["present"], "the damage was not noticed"
    assert n.stats()["verify_failed"] > 0


@pytest.mark.parametrize("where", ["all", "header", "start"])
def test_metadata_scribbled_on_while_down(node, where):
    n = node(dram="64M")
    ledger = fill_and_stop(n, "kill")
    rng = random.Random(4)
    with open(n.segment("meta"), "r+b") as f:
        size = os.fstat(f.fileno()).st_size
        end = {"all": size, "header": 4096, "start": 1 << 20}[where]
        for _ in range(20000 if where == "all" else 300):
            f.seek(rng.randrange(end))
            f.write(bytes([rng.randrange(256)]))
    n.start()
    assert n.check(ledger, 2, keys=128, len=65536)["wrong"] == 0


@pytest.mark.parametrize("suffix", ["meta", "data", "clients"])
def test_truncated_while_down_starts_empty(node, suffix):
    n = node(dram="64M")
    ledger = fill_and_stop(n, "kill")
    os.truncate(n.segment(suffix), 8192)
    n.start()
    wait_for(lambda: "truncated" in n.log(), "the log says why the segment is empty")
    assert n.check(ledger, 2, keys=128, len=65536)["intact"] == 0


def test_another_version_starts_empty(node):
    n = node(dram="64M")
    ledger = fill_and_stop(n, "kill")
    with open(n.segment("meta"), "r+b") as f:
        f.seek(8)
        f.write(struct.pack("<I", 77))
    n.start()
    wait_for(lambda: "format version" in n.log(), "the log says why the segment is empty")
    assert n.check(ledger, 2, keys=128, len=65536)["intact"] == 0


@pytest.mark.parametrize("suffix", ["data", "meta"])
def test_truncated_live_costs_the_tier_not_the_processes(node, suffix):
    n = node(dram="64M")
    # A reference that is held is a bare pointer: its bytes are gone with the file.
    workers, ledger, until = start_workers(n, 2, keys=128, refs=False)
    wait_for(lambda: n.stats()["blocks"] > 100, "blocks are there")
    os.truncate(n.segment(suffix), 4096)
    wait_for(lambda: "tier is lost" in n.log(), "the node says that its tier is lost")
    assert n.process.poll() is None, "the daemon died: " + n.log()
    finish(workers, until)
    n.kill()
    n.start()
    assert n.check(ledger, 2, keys=128, len=65536)["wrong"] == 0


def test_a_lost_tier_can_be_looked_at(node):
    n = node(dram="64M")
    for i in range(4):
        assert n.yolk("put", f"k{i}", "-", data=b"bytes" * 10000).returncode == 0
    os.truncate(n.segment("data"), 4096)
    wait_for(lambda: n.stats()["tier_lost"], "the node has seen it")
    assert "MEMORY LOST" in n.yolk("top", "--once").stdout
    assert "its memory is lost" in n.yolk("stat", "--node").stdout
    assert n.yolk("ns").returncode == 0
    for options in ([], ["--no-map"]):
        for i in range(4):
            assert "not here" in one_line(n.yolk(*options, "get", f"k{i}"), 3)
            assert n.yolk(*options, "stat", f"k{i}").returncode == 3
        assert n.yolk(*options, "ls").stdout == ""
        assert n.yolk(*options, "put", "k", "-", data=b"bytes").returncode == 1
    assert n.stop() == 0
    assert "are lost with its memory" in n.log() and "for the next start" not in n.log()
    n.start()
    assert n.yolk("put", "k", "-", data=b"bytes").returncode == 0


def test_metadata_scribbled_on_live_crashes_nobody(node):
    n = node(dram="64M")
    workers, ledger, until = start_workers(n, 2, keys=128, timeout_ms=2000)
    wait_for(lambda: n.stats()["blocks"] > 100, "blocks are there")
    rng = random.Random(5)
    with open(n.segment("meta"), "r+b") as f:
        size = os.fstat(f.fileno()).st_size
        for _ in range(30000):
            f.seek(rng.randrange(4096, size))
            f.write(bytes([rng.randrange(256)]))
    pause(1.0)
    assert n.process.poll() is None, "the daemon died: " + n.log()
    # Answers may be wrong only for local references inside this trust domain: nobody crashes.
    until.touch()
    for w in workers:
        assert w.wait(timeout=DEADLINE_S) in (0, 1)


def test_thousand_clients_connect_at_once(node):
    """A thousand processes: each maps the node's memory, puts a block and closes."""
    n = node(dram="64M")
    p = subprocess.run([program("fault_driver"), "crowd", "--url", n.url, "--workers", "1000"], text=True,
                       capture_output=True, timeout=DEADLINE_S * 2)
    assert p.returncode == 0, p.stdout + p.stderr[-2000:]
    assert json.loads(p.stdout) == {"started": 1000, "failed": 0}
    wait_for(lambda: n.stats()["connections"] <= 1 and n.stats()["clients"] <= 1, "connections and slots are free")
    s = n.stats()
    assert s["blocks"] == 1000 and s["reserved_blocks"] == 0


def test_thousand_connections_open_at_one_time(node):
    count = 1000
    n = node(dram="64M")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    socks = []
    try:
        hello = struct.pack("<IIIIQQQ", 0x6B6C6F59, WIRE_VERSION, 0, 0, 0, 0, 0) + b"\x07default"
        frame = struct.pack("<IBBHQ", len(hello), 1, 0, 0, 1) + hello
        for _ in range(count):
            s = socket.socket(socket.AF_UNIX)
            s.settimeout(DEADLINE_S)
            s.connect(str(n.socket))
            socks.append(s)
        for s in socks:
            s.sendall(frame)
        for s in socks:
            head = s.recv(16, socket.MSG_WAITALL)
            body, op, flags, _, _ = struct.unpack("<IBBHQ", head)
            assert (op, flags) == (1, 1)
            assert struct.unpack("<i", s.recv(body, socket.MSG_WAITALL)[:4])[0] == 0
    finally:
        for s in socks:
            s.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    wait_for(lambda: n.stats()["connections"] <= 1, "connections are gone")


def test_garbage_half_messages_and_silence(node):
    n = node(dram="64M")
    workers, ledger, until = start_workers(n, 1, keys=64)
    rng = random.Random(6)
    for i in range(300):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(DEADLINE_S)
        s.connect(str(n.socket))
        kind = i % 4
        try:
            if kind == 0:
                s.sendall(bytes(rng.randrange(256) for _ in range(rng.randrange(1, 400))))
            elif kind == 1:  # a huge length
                s.sendall(struct.pack("<IBBHQ", 0xFFFFFFFF, rng.randrange(1, 22), 0, 0, 1))
            elif kind == 2:  # half a frame
                s.sendall(struct.pack("<IBBHQ", 1000, 1, 0, 0, 1) + b"x" * 10)
        except OSError:
            pass
        s.close()
    assert n.process.poll() is None
    finish(workers, until)
    assert n.check(ledger, 1, keys=64, len=65536)["wrong"] == 0


class Calendar:
    """Wall clock of the programs that are started with its environment (clock_shift.c)."""

    def __init__(self, folder):
        library = program("libclock_shift.so")
        self.file = folder / "clock_shift"
        self.file.write_bytes(bytes(8))
        options = os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"
        self.env = {"LD_PRELOAD": library, "CLOCK_SHIFT_FILE": str(self.file), "ASAN_OPTIONS": options}

    def step(self, hours):
        with open(self.file, "r+b") as f:
            f.write(struct.pack("<q", int(hours * 3600e3)))


def test_steps_of_the_wall_clock(place):
    calendar = Calendar(place.dir)
    n = Node(place, dram="512M").start(env=calendar.env)

    def run(*args, **options):
        return n.yolk(*args, env=calendar.env, text=False, **options)

    def there(key):
        done = run("get", key)
        assert done.returncode in (0, 3), done.stderr
        assert done.returncode == 3 or done.stdout == key.encode() * 100
        return done.returncode == 0

    def put(key, *options):
        assert run("put", key, "-", *options, data=key.encode() * 100).stderr == ""

    workers, ledger, until = start_workers(n, 2, env=harness.clean_env(calendar.env))
    put("for-ever")
    put("an-hour", "--ttl", "1h")
    put("a-week", "--ttl", "168h")
    calendar.step(hours=-48)  # back before all of them were put
    assert there("for-ever") and there("an-hour") and there("a-week")
    calendar.step(hours=24)
    assert there("for-ever") and not there("an-hour") and there("a-week")
    wait_for(lambda: n.stats()["evict_expired"] >= 1, "its memory is reclaimed, and the time is kept")
    calendar.step(hours=-48)  # what has expired stays so, also for who asks with the earlier clock
    put("later", "--ttl", "1h")
    assert there("for-ever") and not there("an-hour") and there("a-week") and there("later")
    n.kill()
    n.start(env=calendar.env)
    assert there("for-ever") and not there("an-hour") and there("a-week") and there("later")
    for hours in (24 * 7, -24 * 365, 0):
        calendar.step(hours)
        assert all(w.poll() is None for w in workers), "a client died of it"
    assert there("for-ever")
    pause(0.2)
    finish(workers, until)
    found = n.check(ledger, 2, keys=256, len=65536)
    assert found["wrong"] == 0 and found["intact"] == found["present"], found


def test_memory_limit_refuses_at_the_start(tmp_path):
    p = subprocess.run([program("yolkd"), "--dram", "64T", "--listen", f"unix:{tmp_path}/s",
                        "--http", "none", "--ephemeral"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                       timeout=DEADLINE_S)
    assert p.returncode == 2
    assert "--dram" in p.stderr and len(p.stderr.strip().splitlines()) == 1


def test_memory_that_runs_out_under_a_running_node(place):
    """The file system of the segment is filled by somebody else after the node has started."""
    mount = 'mount -t tmpfs -o size=96m none "$0" && exec "$@"'
    probe = subprocess.run(["unshare", "-rm", "sh", "-c", mount, place.shm, "true"], stderr=subprocess.PIPE, text=True)
    if probe.returncode != 0:
        pytest.skip(f"no tmpfs can be mounted in a namespace here: {probe.stderr.strip()}")
    n = Node(place, "--populate=no", "--max-clients=64", dram="64M")
    # What the table and all its clients may take counts, too: it would be missing later.
    in_it = ["unshare", "-rm", "sh", "-c", mount, place.shm]
    for options in ([], ["--check-config"]):
        done = subprocess.run([*map(str, in_it), *map(str, n.command("--max-clients=2048", *options))],
                              stderr=subprocess.PIPE, text=True)
        assert "free here and in" in one_line(done, 2, "yolkd") and "--max-clients=2048" in done.stderr
    n.start(before=in_it)
    files = f"/proc/{n.process.pid}/root{place.shm}"

    def put(key, size, *options):
        return n.yolk("--timeout", "2s", *options, "put", "--upsert", key, "-", data=key[:1].encode() * size)

    def there(key, size, *options):
        done = n.yolk(*options, "get", key, text=False)
        assert done.returncode in (0, 3), done.stderr
        assert done.returncode == 3 or done.stdout == key[:1].encode() * size
        return done.returncode == 0

    for i in range(8):
        assert put(f"{i}", 1 << 20).returncode == 0
    with open(f"{files}/filler", "wb") as filler:
        with pytest.raises(OSError):
            while True:
                filler.write(bytes(1 << 20))
                filler.flush()
    # No page more is to be had: puts make room by eviction, and nothing is lost or wrong.
    for options in (["--no-map"], []):
        for size in (4 << 20, 1 << 20, 3000):
            for i in range(4):
                done = put(f"{i}x", size, *options)
                assert done.returncode == 0, done.stderr
                assert there(f"{i}x", size, *options)
    assert sum(there(f"{i}", 1 << 20) + there(f"{i}", 1 << 20, "--no-map") for i in range(8)) < 16
    stats = n.stats()
    assert stats["tier_lost"] is False and stats["unbacked_bytes"] > 0 and stats["evict_space"] > 0
    wait_for(lambda: "of free memory cannot be had" in n.log(), "the log says so")
    # And with memory again all of it is used.
    os.unlink(f"{files}/filler")
    wait_for(lambda: put("y", 3000).returncode == 0 and n.stats()["unbacked_bytes"] == 0, "memory is back")
    for i in range(32):
        assert put(f"{i}z", 1 << 20).returncode == 0
    assert all(there(f"{i}z", 1 << 20) for i in range(32))
    # A file that is cut short is another matter: the tier is lost, the node is not, and no answer is wrong.
    os.truncate(f"{files}/yolk-node.data", 0)
    wait_for(lambda: n.stats()["tier_lost"], "the node has seen it")
    for options in (["--no-map"], []):
        done = put("x", 3000, *options)
        assert done.returncode != 0, "a put was acknowledged that went nowhere"
        assert "a file of its segment was truncated, or its file system is full" in done.stderr
        assert not there("x", 3000, *options)
    assert n.process.poll() is None
    # The same again with memory.
    n.stop()
    n.start(before=in_it)
    assert put("x", 4 << 20).returncode == 0 and there("x", 4 << 20)


def test_a_restart_where_the_clients_cannot_be_seen(place):
    """They live on in the segment of before, which nobody else may have then; the node begins with another."""
    apart = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    probe = subprocess.run([*apart, "true"], stderr=subprocess.PIPE, text=True)
    if probe.returncode != 0:
        pytest.skip(f"no pid namespace can be made here: {probe.stderr.strip()}")
    n = Node(place, dram="64M").start()
    workers, ledger, until = start_workers(n, 2)
    pause(0.3)
    n.kill()
    n.start(before=apart)
    wait_for(lambda: "cannot be seen from this pid" in n.log(), "it says why it is empty")
    pause(0.5)
    assert all(w.poll() is None for w in workers), "a client died of it"
    finish(workers, until)
    found = n.check(ledger, 2, keys=256, len=65536)  # what nobody put again went with the segment of before
    assert found["wrong"] == 0 and found["intact"] > 0, found
    its_own = n.process.pid
    with open(f"/proc/{its_own}/task/{its_own}/children") as f:
        yolkd = int(f.read())
    n.kill()
    wait_for(lambda: not os.path.exists(f"/proc/{yolkd}"), "it goes with what it was started by")
    n.start(before=apart)  # now nobody has it mapped
    assert n.check(ledger, 2, keys=256, len=65536)["intact"] == found["intact"]

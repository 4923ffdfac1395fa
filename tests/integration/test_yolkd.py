# SPDX-License-Identifier: Apache-2.0
"""The daemon as a process: configuration and its errors, start and stop, what a restart keeps, the
service manager's protocols, and clients that do not speak the protocol."""
import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from harness import one_line, program, wait_for, yolkd


def put(node, key, data=b"some bytes"):
    assert node.yolk("put", key, "-", data=data).returncode == 0


def get(node, key):
    done = node.yolk("get", key, text=False)
    return done.stdout if done.returncode == 0 else None


# ---- configuration ----------------------------------------------------------------------------


def test_help_and_version():
    text = yolkd("--help").stdout
    for option in ("--dram", "--listen", "--http", "--policy", "--check-config", "--huge-pages", "YOLK_"):
        assert option in text
    assert re.fullmatch(r"yolkd \d+\.\d+\.\d+\n", yolkd("--version").stdout)


def test_manual_has_every_option():
    man = yolkd("--print-man").stdout
    assert man.startswith(".TH YOLKD 8")
    options = re.findall(r"^ [ -].{4}(--[a-z-]+)", yolkd("--help").stdout, re.M)
    assert len(options) > 20
    for option in options:
        assert option.replace("-", r"\-") in man


@pytest.mark.parametrize("arguments, text", [
    (["--dram", "0"], "--dram: found '0', expected 4MiB to 64TiB"),
    (["--dram", "5x"], "--dram: found '5x', expected a size"),
    (["--dram", "60T"], r"--dram: found 60TiB, expected at most the .* this machine has"),
    (["--dramm", "1G"], r"found '--dramm', which is no option \(did you mean '--dram'\?\)"),
    (["--dram"], "--dram: found nothing after it, expected SIZE"),
    (["serve"], "found 'serve', expected no arguments"),
    (["--policy", "fifo"], "--policy: found 'fifo', expected one of lru,"),
    (["--listen", "/run/yolk.sock"], "--listen: found '/run/yolk.sock', expected unix:/PATH"),
    (["--listen", "tcp:127.0.0.1:0"], "expected a port"),
    (["--listen", "tcp:192.0.2.1:7000"], "--listen: found .*, expected a loopback address .* or --insecure-network"),
    (["--listen", "none"], "--listen: found no address, expected one"),
    (["--listen", ",".join(f"unix:/tmp/{i}" for i in range(9))], "found 9 addresses, expected at most 8"),
    (["--http", "127.0.0.1"], "--http: found '127.0.0.1', expected HOST:PORT such as 127.0.0.1:7780, or none"),
    (["--http", "127.0.0.1:x"], "whose port is not a number from 0 to 65535, expected HOST:PORT such as"),
    (["--http", "0.0.0.0:80"], "--http: found 'tcp:0.0.0.0:80', expected a loopback address"),
    (["--transfer", "127.0.0.1"], "--transfer: found '127.0.0.1', expected HOST:PORT such as 127.0.0.1:7781, auto or off"),
    (["--transfer", "unix:/tmp/x"], "--transfer: found 'unix:/tmp/x', expected HOST:PORT"),
    (["--transfer", "192.0.2.1:0"], "--transfer: found .*, expected a loopback address .* or --insecure-network"),
    (["--name", "../x"], "--name: found '../x', expected 1 to 63 letters"),
    (["--unix-mode", "0999"], "--unix-mode: found '0999', expected octal"),
    (["--numa-node", "1000"], "--numa-node: found 1000, expected a NUMA node of this machine"),
    (["--shm-dir", "/nonexistent"], "--shm-dir: found '/nonexistent', expected a directory"),
    (["--ephemeral", "--huge-pages", "require"], "--huge-pages: found 'require' with --ephemeral"),
    (["--scrub-interval", "10"], "--scrub-interval: found '10', expected"),
    (["--config", "/nonexistent"], "'/nonexistent': No such file"),
])
def test_bad_arguments(arguments, text):
    assert re.search(text, one_line(yolkd(*arguments), 2, "yolkd"))


def test_a_file_that_may_be_missing(place):
    path = place.dir / "yolkd.conf"
    where = ["--check-config", "--listen", f"unix:{place.dir}/s", "--http", "none", "--shm-dir", place.shm]
    assert yolkd(*where, f"--config=-{path}").returncode == 0
    path.write_text("dram = 96M\n")
    assert re.search(r"^dram = 96M", yolkd(*where, f"--config=-{path}").stdout, re.M)
    path.write_text("dram = none\n")
    assert f"{path}:1: dram" in one_line(yolkd(*where, f"--config=-{path}"), 2, "yolkd")


def test_bad_configuration_file(place):
    path = place.dir / "yolkd.conf"
    path.write_text("# fine\ndram = 64M\nlisten = unix:/tmp/x\npolicy = best\n")
    assert f"{path}:4: policy: found 'best', expected one of" in one_line(yolkd("--config", path), 2, "yolkd")
    path.write_text("dram = 64M\ncapacity = 3\n")
    assert f"{path}:2: " in one_line(yolkd("--config", path), 2, "yolkd")


def test_bad_environment():
    assert "environment YOLK_DRAM: found 'lots'" in one_line(yolkd(env={"YOLK_DRAM": "lots"}), 2, "yolkd")


def test_check_config_prints_what_takes_effect(tmp_path):
    path = tmp_path / "yolkd.conf"
    path.write_text("dram = 64M\npolicy = s3fifo\n")
    first = yolkd("--check-config", "--config", path, "--http", "none", env={"YOLK_MAX_CLIENTS": "10"})
    assert first.returncode == 0 and first.stderr == ""
    for line in ("dram = 64MiB", "policy = s3fifo", "http = ", "max-clients = 10", "#numa-node = -1"):
        assert f"\n{line}\n" in first.stdout
    assert "# Fits: 64 MiB of this machine's" in first.stdout
    path.write_text(first.stdout)
    second = yolkd("--check-config", "--config", path)
    assert second.stdout == first.stdout


def test_check_config_takes_nothing(make_node):
    node = make_node()
    done = subprocess.run(list(map(str, node.command("--check-config"))), capture_output=True, text=True)
    assert done.returncode == 0
    assert node.segment_files() == [] and not node.socket.exists()


def test_more_than_is_free(place):
    """Less than the machine has, more than the file system of the segment has."""
    done = yolkd("--check-config", "--dram", "2T", "--shm-dir", place.shm)
    assert re.search(r"--dram: found 2TiB, expected at most the [\d.]+ [KMGT]iB", one_line(done, 2, "yolkd"))


def test_huge_pages_required_but_not_there(place):
    free = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages")
    if free.exists() and int(free.read_text()) >= 32:
        pytest.skip("this machine has huge pages to spare")
    done = yolkd("--check-config", "--dram", "64M", "--huge-pages", "require", "--shm-dir", place.shm)
    assert "--huge-pages: found " in one_line(done, 2, "yolkd")


# ---- start, stop, restart ---------------------------------------------------------------------


def test_start_line_says_what_it_serves(make_node):
    node = make_node("--policy", "chain-lru", "--http", "127.0.0.1:0").start()
    line, = [line for line in node.log().splitlines() if " serves " in line]
    assert "serves 64 MiB of DRAM" in line and "policy chain-lru" in line
    assert f"on {node.url}, http 127.0.0.1:" in line and "segment 'node' fresh" in line
    port = re.search(r"http 127\.0\.0\.1:(\d+)", line).group(1)
    assert urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=10).status == 200


def test_hits_and_misses_by_namespace_and_tier(make_node):
    node = make_node("--http", "127.0.0.1:0").start()
    port = re.search(r"http 127\.0\.0\.1:(\d+)", node.log()).group(1)

    def figures():
        text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
        return {m[1]: float(m[2]) for m in re.finditer(r"^(yolk_\S+(?:\{[^}]*\})?) (\S+)$", text, re.M)}

    for name in ("one", "two"):
        assert node.yolk("-n", name, "put", "k", "-", data=b"bytes").returncode == 0
    for options in ([], ["--no-map"]):  # counted by the client, and by the node
        for name, key, times in (("one", "k", 3), ("one", "none", 2), ("two", "k", 1)):
            for _ in range(times):
                node.yolk("-n", name, *options, "get", key)
    want = {'yolk_namespace_hits_total{namespace="one",tier="dram"}': 6,
            'yolk_namespace_misses_total{namespace="one",tier="dram"}': 4,
            'yolk_namespace_hits_total{namespace="two",tier="dram"}': 2,
            'yolk_namespace_misses_total{namespace="two",tier="dram"}': 0,
            'yolk_tier_hits_total{tier="dram"}': 8, 'yolk_tier_misses_total{tier="dram"}': 4,
            'yolk_tier_misses_total{tier="ssd"}': 0}
    wait_for(lambda: {name: figures().get(name) for name in want} == want, "every lookup is counted where it was")


def test_sigterm_is_clean_and_keeps_blocks(node):
    put(node, "k", b"x" * 100000)
    assert node.stop() == 0
    assert "SIGTERM: stopping" in node.log() and "1 blocks (97.7 KiB) stay" in node.log()
    assert not node.socket.exists()
    assert node.segment_files() == ["yolk-node.clients", "yolk-node.data", "yolk-node.meta"]
    node.start()
    assert "segment 'node' stopped clean, 1 blocks (97.7 KiB) recovered in" in node.log()
    assert get(node, "k") == b"x" * 100000


def test_sigint_is_clean(node):
    assert node.stop(signal.SIGINT) == 0
    assert "SIGINT: stopping" in node.log()


def test_kill_keeps_blocks(node):
    put(node, "k", b"y" * 50000)
    assert node.stop(signal.SIGKILL) == -signal.SIGKILL
    node.start()
    assert "segment 'node' not stopped clean, 1 blocks" in node.log()
    assert get(node, "k") == b"y" * 50000


def test_another_size_sets_the_old_segment_aside(node):
    put(node, "k")
    node.stop()
    node.dram = "32M"
    node.start()
    assert "segment 'node' fresh, the old one was set aside: it was made for 67108864 bytes" in node.log()
    assert get(node, "k") is None


def test_ephemeral_leaves_nothing(make_node):
    node = make_node("--ephemeral").start()
    put(node, "k")
    assert node.segment_files() == []
    node.stop()
    assert "are gone with it" in node.log()
    node.start()
    assert get(node, "k") is None


def test_second_instance_on_the_segment(node):
    other = node.socket.with_name("other.sock")
    done = yolkd("--dram", "64M", "--listen", f"unix:{other}", *node.base)
    assert f"segment 'node' is in use by process {node.process.pid}: stop that node" in one_line(done, 1, "yolkd")
    assert not other.exists()
    put(node, "still", b"there")


def test_second_instance_on_the_socket(node, make_node):
    other = make_node(name="other")
    other.socket, other.url = node.socket, node.url
    done = subprocess.run(list(map(str, other.command())), capture_output=True, text=True)
    assert f"another node listens on '{node.socket}'" in one_line(done, 1, "yolkd")
    assert all("other" not in name for name in node.segment_files())
    put(node, "still", b"there")


def test_stale_socket_is_replaced(node):
    node.stop(signal.SIGKILL)
    assert node.socket.exists()
    node.start()
    put(node, "k")


def test_a_file_in_the_sockets_place_is_kept(make_node):
    node = make_node()
    node.socket.write_text("precious")
    done = subprocess.run(list(map(str, node.command())), capture_output=True, text=True)
    assert "is there and no socket" in one_line(done, 1, "yolkd")
    assert node.socket.read_text() == "precious" and node.segment_files() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_not_permitted_says_what_to_do(place):
    args = [program("yolkd"), "--dram", "16M", "--ephemeral", "--http", "none", "--listen", "unix:/run/yolk-test.sock"]
    done = subprocess.run(args, capture_output=True, text=True, user=65534, env={"XDG_RUNTIME_DIR": "/run/user/1"})
    line = one_line(done, 1, "yolkd")
    assert "Permission denied" in line and "--listen unix:$XDG_RUNTIME_DIR/yolk.sock" in line


def test_http_port_taken(node, make_node):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        other = make_node(name="other")
        command = other.command("--http", f"127.0.0.1:{taken.getsockname()[1]}")
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert "give --http another port, or none" in one_line(done, 1, "yolkd")
    assert all("other" not in name for name in node.segment_files())  # it had made them
    other.start()
    put(other, "k")
    other.stop()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        command = other.command("--http", f"127.0.0.1:{taken.getsockname()[1]}")
        one_line(subprocess.run(list(map(str, command)), capture_output=True, text=True), 1, "yolkd")
    other.start()
    assert get(other, "k") == b"some bytes"  # and these it had not


def transfer_of(node):
    line, = [line for line in node.log().splitlines() if " serves " in line]
    found = re.search(r", transfer (\S+);", line)
    return found and found.group(1)


def test_transfer_listens_where_it_is_told(make_node, place):
    node = make_node().start()  # nobody comes over tcp
    assert transfer_of(node) is None
    assert node.stop() == 0
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        command = node.command("--transfer", address)
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    line = one_line(done, 1, "yolkd")
    assert address in line and "give --transfer another HOST:PORT, auto or off" in line
    node = make_node("--transfer", address, name="told").start()
    assert transfer_of(node).startswith(f"{address},unix:{node.socket.parent}/yolk-xfer-")
    assert node.stop() == 0
    assert [p.name for p in node.socket.parent.iterdir() if "xfer" in p.name] == []
    node = make_node("--transfer", "off", name="off").start()
    assert transfer_of(node) is None
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    node = make_node("--listen", f"tcp:127.0.0.1:{port}", name="auto").start()
    assert transfer_of(node).startswith("127.0.0.1:")


def test_a_killed_node_s_transfer_socket_is_swept_away(make_node):
    node = make_node("--transfer", "127.0.0.1:0").start()

    def sockets():
        return [p.name for p in node.socket.parent.iterdir() if p.name.startswith("yolk-xfer-")]

    before = sockets()
    assert len(before) == 1
    node.stop(signal.SIGKILL)
    node.start()
    wait_for(lambda: len(sockets()) == 1 and sockets() != before, "the old socket is gone")


def test_a_disk_for_the_segment_is_warned_of(make_node, place):
    def kind(path):
        return subprocess.run(["stat", "-f", "-c", "%T", path], capture_output=True, text=True).stdout.strip()

    if kind(place.shm) != "tmpfs" or kind(place.dir) == "tmpfs":
        pytest.skip("no file system of each kind at hand")
    node = make_node().start()
    assert "no memory file system" not in node.log()
    node.stop()
    node.start("--shm-dir", place.dir)
    assert f"--shm-dir {place.dir} is no memory file system" in node.log()


def test_sighup_changes_nothing(node):
    node.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "SIGHUP: nothing can be reloaded" in node.log(), "the log says so")
    put(node, "k")
    assert node.stop() == 0


def test_unix_mode(make_node):
    node = make_node("--unix-mode", "0660").start()
    assert node.socket.stat().st_mode & 0o777 == 0o660


def test_several_addresses(make_node):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    node = make_node("--listen", f"tcp:127.0.0.1:{port}").start()
    put(node, "k", b"via unix")
    node.url = f"tcp:127.0.0.1:{port}"
    assert get(node, "k") == b"via unix"


def test_limits_admit_as_many_as_they_say(make_node):
    node = make_node("--max-clients", "1", "--max-connections", "2").start()
    put(node, "k")  # maps
    held = [node.connect() for _ in range(2)]
    for s in held:
        s.sendall(hello())
        assert s.recv(1000)
    for options in ([], ["--no-map"]):
        line = one_line(node.yolk(*options, "get", "k"), 1)
        assert "all 2 connections of the node are taken: raise --max-connections" in line
    assert "refused a connection: all 2 connections" in node.log()
    held[0].close()
    wait_for(lambda: get(node, "k") == b"some bytes", "a connection is free again")


def test_beyond_loopback_with_its_flag_only(make_node):
    with socket.socket() as s:
        s.bind(("0.0.0.0", 0))
        port = s.getsockname()[1]
    node = make_node("--listen", f"tcp:0.0.0.0:{port}", "--insecure-network").start()
    assert "whoever reaches an address beyond loopback can read" in node.log()
    with socket.create_connection(("127.0.0.1", port)) as s:
        s.sendall(hello())
        assert s.recv(16, socket.MSG_WAITALL)[4] == HELLO


# ---- clients that hold a stop up, and those that speak something else --------------------------

HELLO, GET, LAST_OP = 1, 8, 20
MAGIC, VERSION = 0x6B6C6F59, 3


def frame(op, body, number=1):
    return struct.pack("<IBBHQ", len(body), op, 0, 0, number) + body


def hello(namespace=b"default"):
    return frame(HELLO, struct.pack("<IIIIQQQB", MAGIC, VERSION, 0, 0, 0, 0, 0, len(namespace)) + namespace)


def get_request(key):
    return frame(GET, struct.pack("<QQQQB", 1, 0, 1 << 32, 1 << 32, len(key)) + key, 2)  # at epoch 1


def reader_that_does_not_read(node):
    """A client that asks for more than a socket buffer holds and takes none of it."""
    put(node, "big", b"z" * (8 << 20))
    s = node.connect()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    before = node.stats()["node_get_bytes"]
    s.sendall(hello() + get_request(b"big"))
    wait_for(lambda: node.stats()["node_get_bytes"] > before, "the get is under way")
    return s


def test_stop_ends_within_its_deadline(make_node):
    node = make_node("--stop-timeout", "200ms").start()
    with reader_that_does_not_read(node):
        assert node.stop() == 0
    node.start()
    assert "stopped clean" in node.log()


def test_second_signal_ends_at_once(make_node):
    node = make_node("--stop-timeout", "1h").start()
    with reader_that_does_not_read(node):
        node.process.send_signal(signal.SIGTERM)
        wait_for(lambda: "SIGTERM: stopping" in node.log(), "the stop begins")

        def again():  # one that comes with the first is the same wish, as the next test shows
            node.process.send_signal(signal.SIGTERM)
            return node.process.poll() is not None

        wait_for(again, "another SIGTERM ends it")
        assert node.process.returncode == 1
    assert "a second SIGTERM: ending at once" in node.log()
    node.start()
    assert "not stopped clean" in node.log()
    assert get(node, "big") == b"z" * (8 << 20)


def test_signals_that_come_together_are_one(make_node):
    node = make_node("--stop-timeout", "200ms").start()
    with reader_that_does_not_read(node):
        node.process.send_signal(signal.SIGSTOP)  # so that it finds both when it goes on
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCONT):
            node.process.send_signal(number)
        assert node.process.wait(60) == 0, node.log()
    assert "ending at once" not in node.log()


def test_an_idle_node_uses_no_cpu(make_node, place):
    node = make_node("--http", "127.0.0.1:0", "--ssd", f"{place.dir}/x.ssd:512M").start()
    put(node, "k", b"x" * 100000)
    tasks = Path(f"/proc/{node.process.pid}/task")

    def ticks():
        """utime and stime of all threads: hundredths of a second."""
        return sum(int(n) for t in tasks.iterdir()
                   for n in (t / "stat").read_text().rsplit(")", 1)[1].split()[11:13])

    def quiet():
        before = ticks()
        select.select([], [], [], 2)
        return ticks() - before <= 1

    # What a start leaves to the background (memory to be touched, say) ends.
    wait_for(quiet, "two seconds of at most one tick of 200")


@pytest.mark.parametrize("garbage", [
    os.urandom(4096),
    b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    struct.pack("<IBBHQ", 0xFFFFFFFF, HELLO, 0, 0, 1),
    struct.pack("<IBBHQ", 0xFFFFFFFF, LAST_OP + 200, 0, 0, 1),
    frame(HELLO, b"short"),
    get_request(b"k"),
    hello() + frame(GET, b"\xff" * 100, 3),
    hello() + frame(LAST_OP, b"", 3),
], ids=["random", "http", "long-hello", "no-such-op", "short-hello", "no-hello", "bad-body", "bad-op"])
def test_garbage_closes_that_connection_only(node, garbage):
    with node.connect() as s:
        s.sendall(garbage)
        s.shutdown(socket.SHUT_WR)
        while s.recv(65536):
            pass
    put(node, "k", b"fine")
    assert get(node, "k") == b"fine"


def test_half_messages_and_silence_hurt_nobody(node):
    silent, half = node.connect(), node.connect()
    with silent, half:
        half.sendall(hello()[:7])
        put(node, "k", b"fine")
        assert get(node, "k") == b"fine"
        assert node.stats()["connections"] >= 2
        assert node.stop() == 0


# ---- service manager --------------------------------------------------------------------------


class Manager:
    """The receiving end of sd_notify."""

    def __init__(self, address):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.settimeout(60)
        self.seen = []

    def wait(self, text):
        while not any(text in message for message in self.seen):
            self.seen.append(self.socket.recv(4096).decode())
        return self.seen


@pytest.mark.parametrize("abstract", [False, True], ids=["path", "abstract"])
def test_notify(make_node, place, abstract):
    name = f"{place.dir}/notify"
    manager = Manager("\0" + name if abstract else name)
    node = make_node().launch(env={"NOTIFY_SOCKET": "@" + name if abstract else name})
    manager.wait("READY=1\nSTATUS=0 blocks, 0 B of 64 MiB")
    put(node, "k")
    assert node.stop() == 0
    manager.wait("STOPPING=1")


def test_watchdog_is_fed(make_node, place):
    manager = Manager(str(place.dir / "notify"))
    node = make_node().launch(env={"NOTIFY_SOCKET": f"{place.dir}/notify", "WATCHDOG_USEC": "100000"})
    for _ in range(3):
        manager.seen.clear()
        manager.wait("WATCHDOG=1\nSTATUS=")
    assert node.stop() == 0


def test_watchdog_of_another_process_is_not_ours(make_node, place):
    manager = Manager(str(place.dir / "notify"))
    node = make_node().launch(env={"NOTIFY_SOCKET": f"{place.dir}/notify", "WATCHDOG_USEC": "1000",
                                   "WATCHDOG_PID": "1"})
    manager.wait("READY=1")
    assert node.stop() == 0
    assert not any("WATCHDOG" in message for message in manager.wait("STOPPING=1"))


def test_bad_manager_environment():
    assert "NOTIFY_SOCKET: found 'x'" in one_line(yolkd(env={"NOTIFY_SOCKET": "x"}), 2, "yolkd")
    assert "LISTEN_PID: found 'me'" in one_line(yolkd(env={"LISTEN_PID": "me"}), 2, "yolkd")


# Becomes the program after passing a descriptor as number 3, as a service manager does.
ACTIVATE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.argv[2], sys.argv[2:])
"""


def activate(node, passed, *command):
    number = passed.fileno()
    before = [sys.executable, "-c", ACTIVATE, number]
    node.command = lambda *more: [program("yolkd"), "--dram", node.dram, *node.base, *command]
    return node.launch(before=before, pass_fds=[number])


def test_socket_activation(make_node):
    node = make_node()
    with socket.socket(socket.AF_UNIX) as passed:
        passed.bind(str(node.socket))
        passed.listen()
        activate(node, passed)
        put(node, "k", b"waited in the queue")  # connects before the node serves
        assert f" on {node.url}; segment" in node.log()
        assert node.stop() == 0
        assert node.socket.exists()  # it is the manager's
        activate(node, passed)
        assert get(node, "k") == b"waited in the queue"
        assert node.stop() == 0


def test_socket_activation_and_an_address_of_its_own(make_node):
    node = make_node()
    own = node.socket.with_name("own.sock")
    with socket.socket(socket.AF_UNIX) as passed:
        passed.bind(str(node.socket))
        passed.listen()
        activate(node, passed, "--listen", f"unix:{own}")
        put(node, "k", b"via the passed one")
        node.url = f"unix:{own}"
        assert get(node, "k") == b"via the passed one"
        assert node.stop() == 0


@pytest.mark.parametrize("kind", ["file", "datagram", "remote"])
def test_socket_activation_with_something_else(make_node, kind):
    node = make_node()
    if kind == "file":
        passed = open("/dev/null")
    elif kind == "datagram":
        passed = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    else:
        passed = socket.create_server(("0.0.0.0", 0))
    with passed:
        activate(node, passed)
        assert node.process.wait(60) == 2
    assert "yolkd: passed descriptor 3" in node.log()

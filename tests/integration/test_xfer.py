# SPDX-License-Identifier: Apache-2.0
"""yolk xfer and yolk bench xfer: a target of its own process, what it shows, how it fails, what is left.

Figures are not judged: a busy machine has no say in whether the program is right.
"""
import json
import os
import shutil
import signal
import socket
import subprocess

import pytest

from harness import DEADLINE_S, clean_env, program, wait_for, yolk


def said(done):
    """The one line on standard error."""
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("yolk: "), done.stderr
    return lines[0]


class Target:
    """`yolk xfer serve` on a free port."""

    def __init__(self, *args):
        self.process = subprocess.Popen([program("yolk"), "xfer", "serve", "--json", "--listen", "127.0.0.1:0", *args],
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=clean_env(), text=True)
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read()
        self.said = json.loads(line)
        self.address = self.said["address"]
        self.where = f"{self.address}/{self.said['segment']}"

    def stop(self, sig=signal.SIGTERM):
        self.process.send_signal(sig)
        code = self.process.wait(DEADLINE_S)
        self.process.stdout.close()
        self.process.stderr.close()
        return code


@pytest.fixture
def target():
    t = Target()
    yield t
    if t.process.returncode is None:
        t.process.kill()
        t.stop(signal.SIGKILL)


def test_serve_is_there_and_ends(target):
    assert target.said["bytes"] == 256 << 20
    assert yolk("xfer", "probe", target.address).returncode == 0
    found = json.loads(yolk("--json", "xfer", "probe", target.address).stdout)
    assert found["address"] == target.address and found["round_trip_us"] > 0
    assert target.stop() == 0
    done = yolk("xfer", "probe", target.address)
    assert done.returncode == 1 and target.address.split(":")[1] in said(done)


def test_links_and_explain(target):
    links = json.loads(yolk("--json", "xfer", "links", target.where).stdout)
    rails = [rail for shard in links["shards"] for peer in shard["peers"] for rail in peer["rails"]]
    assert {rail["transport"] for rail in rails} >= {"tcp"}
    assert any(rail["slices"] > 0 for rail in rails)
    why = json.loads(yolk("--json", "xfer", "explain", target.where, "cpu:0", "64M").stdout)
    assert why["length"] == 64 << 20
    assert sum(rail["first_slice"] for rail in why["rails"]) == 1
    assert all(rail["reason"] for rail in why["rails"])
    only = json.loads(yolk("--json", "xfer", "--no-shm", "explain", target.where, "cpu:0", "4K").stdout)
    assert {rail["transport"] for rail in only["rails"]} == {"tcp"}


def test_links_and_explain_as_tables(target):
    lines = yolk("xfer", "links", target.where).stdout.splitlines()
    assert lines[0].startswith("Engine ") and "shm" in lines[0] and "tcp" in lines[0]
    head = next(i for i, line in enumerate(lines) if line.startswith("RAIL TRANSPORT"))
    assert lines[head].split() == ["RAIL", "TRANSPORT", "LOCAL", "REMOTE", "DISTANCE", "STATE", "LANES", "IN", "FLIGHT",
                                   "MOVED", "FAILED"]
    rails = lines[head + 1:lines.index("", head)]
    assert [line.split()[0] for line in rails] == [str(i + 1) for i in range(len(rails))]
    used = next(line for line in rails if line.split()[1] != "tcp")
    assert " ok " in used and used.split()[-1] == "0" and "iB" in used
    tcp = next(line for line in rails if line.split()[1] == "tcp")
    assert target.address in tcp
    model = lines.index("", head) + 1
    assert lines[model].split() == ["RAIL", "to", "16KiB", "to", "128KiB", "to", "1MiB", "above", "FIXED"]
    bands = lines[model + len(rails)].split()
    assert len(bands) == 6 and bands[1].startswith("(") and bands[1].endswith(")"), "nothing went over tcp: guesses"

    lines = yolk("xfer", "explain", target.where, "cpu:0", "64M").stdout.splitlines()
    assert lines[0].startswith("A read of 64 MiB, peer ") and "1 rail;" in lines[0]
    chosen = [line for line in lines if line.startswith("* ") and "SLICE" not in line]
    assert len(chosen) == 1 and chosen[0].endswith("the earliest predicted end")
    others = [line for line in lines if target.address in line]
    assert others and all(line.endswith("another transport is preferred") for line in others)
    only = yolk("xfer", "--no-shm", "explain", target.where, "cpu:0", "4K").stdout
    assert only.count("\n*  tcp") == 1 and "shm" not in only


def test_explain_both_directions(target, place):
    """What the two places are decides what is asked: memory here and a segment, a file, or memory again."""
    def explain(src, dst):
        return json.loads(yolk("--json", "xfer", "explain", src, dst, "1M").stdout)

    file = place.dir / "file"
    file.write_bytes(bytes(1 << 20))
    read, write = explain(target.where, "cpu:0"), explain("cpu:0", target.where)
    assert (read["op"], write["op"]) == ("read", "write") and read["incarnation"] == write["incarnation"]
    for found in read, write:
        assert not found["copied_by_caller"] and sum(rail["first_slice"] for rail in found["rails"]) == 1
    for found in explain(f"file:{file}", "cpu:0"), explain("cpu:0", f"file:{file}"):
        assert [rail["transport"] for rail in found["rails"]] == ["file"]
    assert file.read_bytes() == bytes(1 << 20), "explaining a write writes nothing"
    assert explain("cpu:0", "cpu:0")["copied_by_caller"]
    assert yolk("xfer", "explain", "cpu:0", target.where, "64M").stdout.startswith("A write of 64 MiB, peer ")
    done = yolk("xfer", "explain", "cuda:0", target.where, "64M")
    assert done.returncode != 0 and said(done).startswith("yolk: cuda:0: "), "it is not the target's fault"


def test_memory_and_distances(target, place):
    links = json.loads(yolk("--json", "xfer", "links", target.where).stdout)
    rails = [rail for shard in links["shards"] for peer in shard["peers"] for rail in peer["rails"]]
    assert rails and all(rail["distance"] == 0 for rail in rails), "nothing is far within a host"
    nodes = json.loads(yolk("--json", "topo").stdout)["nodes"]
    with_memory = [node["location"] for node in nodes if node["location"]]
    if len(with_memory) == 1:
        assert list(links["memory"]) == with_memory and links["memory"][with_memory[0]] >= 4 << 20
        assert f"Memory: {with_memory[0]} " in yolk("xfer", "links", target.where).stdout
    file = place.dir / "topology.json"
    file.write_text('{"devices": {\n "eth0": 7}}')
    done = yolk("xfer", "links", "--topology", str(file), target.where)
    assert done.returncode != 0 and f"{file}:2" in said(done)
    file.write_text('{"devices": {}}')
    assert yolk("xfer", "links", "--topology", str(file), target.where).returncode == 0


def test_a_load_on_it(target):
    for more in [], ["--writes", "--block", "64K", "--batch", "32", "--threads", "4", "--class", "background"]:
        done = yolk("--json", "bench", "xfer", "--quick", "--target", target.where, *more)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout.splitlines()[0])["value"] > 0


def test_the_rails_of_a_load(target):
    done = yolk("--json", "bench", "xfer", "--quick", "--target", target.where, "--rails", "lo,127.0.0.1")
    assert done.returncode == 0, done.stderr
    done = yolk("bench", "xfer", "--quick", "--target", target.where, "--rails", "lo,nodev7")
    assert done.returncode != 0 and "'nodev7' is no device" in done.stderr
    done = yolk("bench", "xfer", "--quick", "--rails", "lo")
    assert done.returncode == 2 and "--target" in said(done)


def test_a_mix_of_classes(target):
    """A row for each class, whose ratios are shares of the whole; a wrong one is refused by name."""
    done = yolk("--json", "bench", "xfer", "--quick", "--block", "64K", "--class", "demand:3,background:1",
                "--target", target.where)
    assert done.returncode == 0, done.stderr
    *rows, cpu = [json.loads(line) for line in done.stdout.splitlines()]
    assert cpu["case"] == "cpu all classes" and cpu["value"] > 0
    assert [row["case"].split()[0] for row in rows] == ["demand:3", "background:1"]
    assert all(row["value"] > 0 and row["p99_us"] > 0 for row in rows)
    assert abs(sum(row["ratio"] for row in rows) - 1) < 1e-3
    for wrong in "demand:0", "demand:33", "demand:", "urgnt:1", "demand:1,x":
        done = yolk("bench", "xfer", "--class", wrong, "--target", target.where)
        assert done.returncode == 2 and wrong.split(",")[-1] in said(done)
    done = yolk("bench", "xfer", "--class", "demand,urgent", "--threads", "16", "--block", "256M", "--target",
                target.where)
    assert done.returncode == 2 and "256 MiB" in done.stderr


@pytest.mark.parametrize("where, word", [
    ("127.0.0.1:1/bench", "127.0.0.1:1"), ("nonsense", "nonsense"), ("127.0.0.1:99999/x", "99999"),
    ("no.such.host.invalid:1/x", "no.such.host.invalid"), ("file:/nowhere/x", "/nowhere/x")])
def test_what_cannot_be_opened(where, word):
    done = yolk("xfer", "explain", where, "cpu:0", "4K")
    assert done.returncode in (1, 2) and word in said(done)


def test_unknown_segment_and_wrong_arguments(target):
    done = yolk("xfer", "explain", f"{target.address}/other", "cpu:0", "4K")
    assert done.returncode == 1 and "other" in said(done)
    for args in ["serv"], ["probe"], ["explain", target.where], ["explain", target.where, "64M"], \
            ["explain", target.where, "cpu:0", "4Q"], ["explain", "cpu:0", target.where], \
            ["explain", target.where, target.where, "4K"]:
        assert yolk("xfer", *args).returncode == 2
    done = yolk("xfer", "serve", "--listen", target.address)
    assert done.returncode == 1 and target.address.split(":")[1] in said(done)
    done = yolk("xfer", "serve", "--listen", "0.0.0.0:0")
    assert done.returncode != 0 and "insecure-network" in done.stderr
    assert yolk("bench", "xfer", "--transport", "rdmaa").returncode == 2


def test_a_target_that_is_killed_under_load(target):
    """The load ends with an error; it does not hang."""
    load = subprocess.Popen([program("yolk"), "bench", "xfer", "--time", "600s", "--target", target.where],
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=clean_env(), text=True)
    try:
        wait_for(lambda: len(os.listdir(f"/proc/{load.pid}/task")) >= 2, "the load to begin")
        target.stop(signal.SIGKILL)
        assert load.wait(DEADLINE_S) == 1
        assert "yolk" in load.stderr.read()
    finally:
        load.kill()
        load.wait()
        load.stderr.close()


def test_garbage_on_its_port(target):
    host, port = target.address.split(":")
    for garbage in [b"GET / HTTP/1.0\r\n\r\n", b"\xff" * 4096, b"Yx", b"", bytes(range(256)) * 16]:
        with socket.create_connection((host, int(port)), DEADLINE_S) as s:
            s.sendall(garbage)
            s.shutdown(socket.SHUT_WR)
            s.settimeout(DEADLINE_S)
            while s.recv(4096):
                pass
    assert yolk("xfer", "probe", target.address).returncode == 0


@pytest.mark.parametrize("transport", ["mem", "shm", "tcp"])
def test_every_case_runs(transport):
    done = yolk("--json", "bench", "xfer", "--quick", "--transport", transport, seconds=5 * DEADLINE_S)
    assert done.returncode == 0, done.stderr
    rows = {row["case"]: row for row in map(json.loads, done.stdout.splitlines())}
    cases = {"mem": ["mem read 1MiB", "mem write 1MiB"], "shm": ["shm read 1MiB", "shm write 1MiB"],
             "tcp": ["tcp read 1MiB", "tcp write 1MiB", "tcp read 64KiB", "tcp write 64KiB", "tcp read 16KiB",
                     "tcp read 4KiB", "tcp read 4KiB polling", "tcp background share",
                     "tcp urgent 64KiB beside background p99"]}[transport]
    for case in cases:
        assert rows[case]["value"] > 0 and rows[case]["ratio"] > 0


def test_many_regions_and_peers():
    """Every case runs, with few peers; what an idle one takes is memory, no time, so it is judged."""
    done = yolk("--json", "bench", "xfer", "--quick", "--scale")
    assert done.returncode == 0, done.stderr
    rows = {row["case"]: row for row in map(json.loads, done.stdout.splitlines())}
    for case in [f"{t} 4KiB {n} regions" for t in ("mem", "tcp") for n in (100, 1000, 10000)]:
        assert rows[case]["value"] > 0 and rows[case]["limit"] > 0
    assert rows["base peers"]["value"] >= 10 and rows["tcp 4KiB with many peers"]["value"] > 0
    for case in "idle peer at the initiator", "idle peer at the target":
        assert rows[case]["limit"] == 65536 and rows[case]["ratio"] <= 1
    done = yolk("--json", "bench", "xfer", "--quick", "--scale", "--case", "idle peer at the target")
    assert {json.loads(line)["case"] for line in done.stdout.splitlines()} == {"idle peer at the target", "base peers"}
    assert yolk("bench", "xfer", "--quick", "--scale", "--case", "tcp read*").returncode == 2


@pytest.mark.skipif(shutil.which("fio") is None, reason="fio is not installed")
def test_file_beside_fio(place):
    done = yolk("--json", "bench", "xfer", "--quick", "--transport", "file", "--path", str(place.dir))
    assert done.returncode == 0, done.stderr
    assert {json.loads(line)["case"] for line in done.stdout.splitlines()} >= {"file read 1MiB", "file write 1MiB"}


needs_rig = pytest.mark.skipif(os.geteuid() != 0 or any(shutil.which(p) is None for p in ("ip", "tc", "nsenter")),
                               reason="needs root, and ip, tc and nsenter")
needs_iperf = pytest.mark.skipif(shutil.which("iperf3") is None, reason="iperf3 is not installed")


@pytest.mark.alone
@needs_rig
def test_a_rail_of_four_is_cut(place):
    """No request fails when a rail goes, by its link or in silence; the bench fails if one does. What it took is measured
    in windows that are short beside what it may take."""
    done = yolk("--json", "bench", "xfer", "--quick", "--rails", "4", "--case", "cut*")
    assert done.returncode == 0, done.stderr
    rows = {row["case"]: row["value"] for row in map(json.loads, done.stdout.splitlines())}
    for case in "cut link", "cut silent":
        assert rows[f"base {case} failed requests"] == 0
        for part in case, f"{case} repaired":
            # It came back at all, within what was watched: else there is no number (null).
            assert isinstance(rows[part], (int, float)) and 0 <= rows[part] < 5, (part, rows)
        assert rows[f"base {case} window"] == 0.01 and 0 <= rows[f"base {case} least window before"] <= 1


@pytest.mark.skipif(os.geteuid() != 0 or not os.path.exists("/dev/net/tun"), reason="needs root and TUN devices")
@pytest.mark.skipif(shutil.which("ip") is None, reason="ip is not installed")
def test_a_long_way(place):
    """Every case runs; how much of the link is filled is for the benchmark to say."""
    done = yolk("--json", "bench", "xfer", "--quick", "--wan", seconds=4 * DEADLINE_S)
    assert done.returncode == 0, done.stderr
    rows = {row["case"]: row for row in map(json.loads, done.stdout.splitlines())}
    for case in "base one-connection", "wan read", "wan write":
        assert rows[case]["value"] > 0 and rows[case]["limit"] == 12.5e6


def inhabitants(namespaces):
    """Processes that are in one of these network namespaces."""
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{pid}/ns/net") in namespaces:
                found.add(pid)
        except OSError:
            pass
    return found


@needs_rig
@pytest.mark.parametrize("cases, killed", [pytest.param("rails*", False, marks=needs_iperf), ("cut*", True)])
def test_nothing_of_the_rig_outlives_the_bench(place, cases, killed):
    """Its namespaces go with their processes, also when the bench is killed; what it says when it is not."""
    def family(pid):
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as children:
            mine = children.read().split()
        return [pid, *(p for child in mine for p in family(child))]

    def namespaces():
        try:
            found = {os.readlink(f"/proc/{pid}/ns/net") for pid in family(bench.pid)}
        except OSError:
            return None
        found.discard(os.readlink("/proc/self/ns/net"))
        return found if len(found) == 2 else None

    bench = place.spawn([program("yolk"), "--json", "bench", "xfer", "--quick", "--rails", "2", "--case", cases],
                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=clean_env(), text=True)
    made = wait_for(namespaces, "two namespaces")
    if killed:
        bench.kill()
    out, err = bench.communicate(timeout=2 * DEADLINE_S)
    wait_for(lambda: not inhabitants(made), "the end of both namespaces")
    if not killed:
        assert bench.returncode == 0, err
        rows = {row["case"]: row for row in map(json.loads, out.splitlines())}
        for case in "rails equal", "rails unequal":
            assert rows[case]["value"] > 0 and rows[case]["limit"] > 0
            assert rows[f"base {case} of one connection"]["value"] > 0
        assert rows["base one-connection"]["value"] > 0

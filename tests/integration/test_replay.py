# SPDX-License-Identifier: Apache-2.0
"""gen, replay and run: traces through a real node with real bytes.

The yardstick is lru_sim.py, which knows nothing of the node: with one client the hits must be its
hits, to the block. Traces are generated and small; the capacities are chosen so that they matter.
"""
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness import DEADLINE_S, clean_env, one_line, program, wait_for, yolk, yolkd

LRU_SIM = Path(__file__).with_name("lru_sim.py")
LONG = os.environ.get("YOLK_LONG") == "1"
TRACES = Path(os.environ.get("YOLK_TRACES", Path(__file__).resolve().parents[3] / "shared" / "traces"))
REAL = TRACES / "conversation_trace.jsonl"


def simulate(trace, capacity, order="tail-first"):
    done = subprocess.run([sys.executable, LRU_SIM, trace, "--capacity", str(capacity), "--order", order, "--json"],
                          capture_output=True, text=True, check=True, timeout=DEADLINE_S)
    return json.loads(done.stdout)


def generate(place, *options, name="trace.jsonl"):
    path = place.dir / name
    done = yolk("gen", *options, path)
    assert done.returncode == 0, done.stderr
    return path


def replay(trace, *options, command=("replay",), **more):
    done = yolk("--json", *command, trace, *options, **more)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def shared_memory():
    return {p.name for p in Path("/dev/shm").iterdir()}


def leftovers(folder):
    return [p.name for p in folder.iterdir() if p.name.startswith("yolk-")]


def test_make_help_shows_the_defaults_of_run():
    shown = (Path(__file__).parents[2] / "Makefile").read_text()
    text = " ".join(yolk("run", "--help").stdout.split())
    for name, option in (("BLOCK", "block"), ("CAPACITY", "capacity"), ("SSD_CAPACITY", "ssd-capacity"),
                         ("CLIENTS", "clients"), ("POLICY", "policy"), ("SPEED", "speed")):
        default = re.search(rf"--{option} [^(]*\(default ([^)]*)\)", text)[1]
        assert re.search(rf"^#: +{name}={default} ", shown, re.M), f"make help: {name} is {default} by default"


# ---- gen --------------------------------------------------------------------------------------


def test_a_seed_makes_the_trace():
    first = yolk("gen", "--requests", 300, "--seed", 7)
    assert first.returncode == 0 and first.stdout.count("\n") == 300
    assert yolk("gen", "--requests", 300, "--seed", 7).stdout == first.stdout
    assert yolk("gen", "--requests", 300, "--seed", 8).stdout != first.stdout
    assert set(json.loads(first.stdout.splitlines()[0])) >= {"timestamp", "input_length", "output_length", "hash_ids"}


def test_gen_writes_files_and_summaries(place):
    path = place.dir / "t.jsonl"
    done = yolk("gen", "--requests", 50, "--arrival", "bursty", "--agent", 100, "--chat", 0, "--json", path)
    summary = json.loads(done.stderr)
    requests = [json.loads(line) for line in path.read_text().splitlines()]
    assert done.stdout == "" and summary["requests"] == len(requests) == 50
    assert summary["blocks"] == sum(len(r["hash_ids"]) for r in requests)
    assert summary["distinct_blocks"] == len({i for r in requests for i in r["hash_ids"]})
    assert summary["hit_blocks_without_limit"] == simulate(path, 10**9)["hit_blocks"]
    assert "50 requests" in yolk("gen", "--requests", 50, "--summary").stderr


@pytest.mark.parametrize("options, text", [
    (["--requests", "0"], "the trace has no end"),
    (["--rate", "0"], "--rate: "),
    (["--chat", "0", "--shared", "0", "--agent", "0", "--document", "0"], ""),
    (["--arrival", "soon"], "--arrival: found 'soon'"),
])
def test_gen_refuses_what_makes_no_trace(options, text):
    assert text in one_line(yolk("gen", *options), 2)


def test_gen_says_when_it_cannot_write(place):
    assert "No space left" in one_line(yolk("gen", "--requests", 2000, "/dev/full"), 1)
    assert "No such file" in one_line(yolk("gen", place.dir / "no" / "where"), 2)


# ---- exactness --------------------------------------------------------------------------------


@pytest.mark.parametrize("capacity", [20, 150, 600, 3000])
@pytest.mark.parametrize("order", ["tail-first", "head-first"])
def test_one_client_hits_what_the_simulator_hits(place, capacity, order):
    trace = generate(place, "--requests", 250, "--seed", 3)
    result = replay(trace, "--capacity", capacity, "--block", "4K", "--order", order, "--exact")
    expected = simulate(trace, capacity, order)
    assert result["hit_blocks"] == expected["hit_blocks"]
    assert result["blocks"] == expected["total_blocks"] and result["requests"] == 250
    assert result["wrong_bytes"] == 0 and result["refused"] == 0 and result["vanished"] == 0
    assert result["checked_bytes"] == result["get_bytes"] == result["gets"] * 4096
    assert result["node"]["blocks"] == min(capacity, expected["inserted"])
    assert result["node"]["evictions_for_space"] == 0


@pytest.mark.parametrize("block", ["1", "1000", "65521"])
def test_odd_block_sizes_are_exact_too(place, block):
    trace = generate(place, "--requests", 80, "--seed", 4)
    result = replay(trace, "--capacity", 200, "--block", block, "--exact")
    assert result["hit_blocks"] == simulate(trace, 200)["hit_blocks"]
    assert result["wrong_bytes"] == 0


def test_payload_through_the_socket_is_exact_too(place):
    trace = generate(place, "--requests", 80, "--seed", 5)
    result = replay(trace, "--capacity", 200, "--block", "4K", "--exact", "--no-map")
    assert result["hit_blocks"] == simulate(trace, 200)["hit_blocks"]
    assert result["wrong_bytes"] == 0


@pytest.mark.alone
def test_several_clients_come_close(place):
    """Requests of three clients overlap: a follow-up that starts before its predecessor has put its blocks misses
    them. On a trace of ten minutes that is about half a point, however the clients get their turns less than two; on one
    of a minute more of them meet."""
    trace = generate(place, "--requests", 6000, "--seed", 6)
    result = replay(trace, "--capacity", 1500, "--block", "4K", "--clients", 3)
    expected = simulate(trace, 1500)
    assert result["wrong_bytes"] == 0 and result["requests"] == 6000
    assert abs(result["hit_ratio"] - expected["hit_blocks"] / expected["total_blocks"]) < 0.02


def real_trace():
    if not REAL.exists():
        pytest.skip(f"{REAL} is not there (YOLK_TRACES names another folder)")
    return REAL


def room_for(blocks, block):
    """Skips what this machine's shared memory has no room for."""
    need = blocks * block * 9 // 8
    free = shutil.disk_usage("/dev/shm").free
    if need > min(free, available_memory()):
        pytest.skip(f"{blocks} blocks of {block >> 10} KiB need {need >> 20} MiB of shared memory")


def available_memory():
    text = Path("/proc/meminfo").read_text()
    return int(re.search(r"MemAvailable:\s*(\d+)", text)[1]) << 10


# Capacity in blocks, KiB of a block, hits of an LRU with so many (one client, tail first).
REAL_HITS = [(3000, 16, 18850)]
REAL_MORE = [(capacity, kib, None) for capacity in (1000, 3000, 10000, 30000, 50000) for kib in (16, 256)]


@pytest.mark.parametrize("capacity, kib, hits", REAL_HITS + (REAL_MORE if LONG else []))
def test_the_real_trace_hits_what_the_simulator_hits(capacity, kib, hits):
    trace = real_trace()
    room_for(capacity, kib << 10)
    result = replay(trace, "--capacity", capacity, "--block", f"{kib}K", "--exact", seconds=7200)
    expected = simulate(trace, capacity)
    assert result["hit_blocks"] == expected["hit_blocks"] and hits in (None, expected["hit_blocks"])
    assert result["requests"] == 12031 and result["wrong_bytes"] == 0 and result["refused"] == 0


@pytest.mark.alone
@pytest.mark.parametrize("capacity", [1000, 3000, 10000, 30000, 50000] if LONG else [3000])
def test_several_clients_come_close_on_the_real_trace(capacity):
    trace = real_trace()
    room_for(capacity, 16 << 10)
    result = replay(trace, "--capacity", capacity, "--block", "16K", "--clients", 4, seconds=7200)
    expected = simulate(trace, capacity)
    assert result["wrong_bytes"] == 0 and result["requests"] == 12031
    assert abs(result["hit_ratio"] - expected["hit_blocks"] / expected["total_blocks"]) < 0.01


@pytest.mark.parametrize("policy", ["s3fifo", "chain-lru", "chain-s3fifo", "learned"])
def test_other_policies_serve_right_bytes(place, policy):
    trace = generate(place, "--requests", 300, "--seed", 7)
    result = replay(trace, "--capacity", 500, "--block", "4K", "--policy", policy, "--clients", 2)
    assert result["wrong_bytes"] == 0 and result["hit_blocks"] > 0 and result["node"]["evictions"] > 0


def predicted(trace, capacity):
    """Least and most that the simulator hits with some seeds: they differ by a point or two where a trace is short."""
    found = []
    for seed in range(1, 7):
        done = yolk("sim", "--trace", trace, "--capacity", capacity, "--policy", "learned", "--seed", seed, "--json",
                    seconds=7200)
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout)["hit_ratio"])
    return min(found), max(found)


@pytest.mark.parametrize("how", [["--exact"], [], ["--no-map"]])
def test_the_learned_policy_hits_what_sim_predicts(place, how):
    trace = generate(place, "--requests", 1500, "--seed", 4)
    result = replay(trace, "--capacity", 600, "--block", "512", "--policy", "learned", *how)
    assert result["wrong_bytes"] == 0 and result["requests"] == 1500 and result["node"]["blocks"] == 600
    least, most = predicted(trace, 600)
    assert least - 0.01 < result["hit_ratio"] < most + 0.01


def test_the_learned_policy_sees_what_fits_the_memory(place):
    """Nobody says how many blocks will fit: as many hits as where that is said."""
    trace = generate(place, "--requests", 1500, "--seed", 4)
    result = replay(trace, "--dram", "160M", "--block", "200K", "--policy", "learned")
    assert result["node"]["evictions_for_space"] > 0 and result["wrong_bytes"] == 0
    least, most = predicted(trace, result["node"]["blocks"])
    assert least - 0.02 < result["hit_ratio"] < most + 0.02


@pytest.mark.skipif(not LONG, reason="hours of a trace: YOLK_LONG=1")
@pytest.mark.parametrize("capacity", [1000, 3000, 10000])
def test_the_learned_policy_hits_what_sim_predicts_on_the_real_trace(capacity):
    result = replay(real_trace(), "--capacity", capacity, "--block", "512", "--policy", "learned", seconds=7200)
    least, most = predicted(real_trace(), capacity)
    assert least - 0.01 < result["hit_ratio"] < most + 0.01


def test_memory_alone_limits_as_well(place):
    trace = generate(place, "--requests", 300, "--seed", 8)
    result = replay(trace, "--dram", "256M", "--block", "256K")
    assert result["node"]["evictions_for_space"] > 0 and result["wrong_bytes"] == 0 and result["refused"] == 0


# ---- against a node that is there -------------------------------------------------------------


def test_replays_against_a_node(place, make_node):
    node = make_node(dram="128M").start()
    trace = generate(place, "--requests", 60, "--seed", 9)
    result = replay(trace, "--block", "4K", command=("--url", node.url, "replay"))
    assert result["hit_blocks"] == simulate(trace, 10**9)["hit_blocks"]
    assert result["node"]["commits"] == result["puts"]
    again = replay(trace, "--block", "4K", "--clients", 2, command=("--url", node.url, "replay"))
    assert again["hit_ratio"] == 1.0 and again["puts"] == 0
    sample = replay(trace, "--block", "4K", "--verify", "sample", command=("--url", node.url, "replay"))
    assert 0 < sample["checked_bytes"] < sample["get_bytes"]
    line = one_line(yolk("--url", node.url, "replay", trace, "--block", "8K"), 1)
    assert "of 4096 bytes" in line and "another --namespace" in line


def test_a_node_that_learns_is_killed_and_goes_on(place, make_node):
    """By its own clock, on a thread of its own; what it knew is gone with it, and the blocks are not."""
    node = make_node("--policy", "learned", "--capacity-blocks", "500").start()
    trace = generate(place, "--requests", 800, "--seed", 9)
    for _ in range(2):
        result = replay(trace, "--block", "512", "--clients", 2, command=("--url", node.url, "replay"))
        assert result["wrong_bytes"] == 0 and result["hit_blocks"] > 0
        wait_for(lambda: node.stats()["trainings"] > 0, "it has learned")
        stats = node.stats()
        assert stats["policy"] == "learned" and stats["blocks"] == 500 and stats["requests"] > 700
        node.stop(signal.SIGKILL)
        node.start()
        assert node.stats()["blocks"] == 500 and node.stats()["trainings"] == 0


def test_a_wrong_byte_ends_the_run(place, make_node):
    node = make_node(dram="128M").start()
    trace = generate(place, "--requests", 40, "--seed", 10)
    replay(trace, "--block", "4K", command=("--url", node.url, "replay"))
    key = node.yolk("--namespace", "replay", "ls").stdout.split()[0]
    data = node.yolk("--namespace", "replay", "get", key, text=False).stdout
    wrong = data[:1000] + bytes([data[1000] ^ 1]) + data[1001:]
    assert node.yolk("--namespace", "replay", "put", "--upsert", key, "-", data=wrong).returncode == 0
    done = yolk("--url", node.url, "replay", trace, "--block", "4K")
    line = done.stderr.splitlines()[-1]
    assert done.returncode == 1
    assert re.search(rf"key {key}\): 1 of 4096 bytes are wrong, the first at offset 1000", line)


# ---- bad input --------------------------------------------------------------------------------

GOOD = '{"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [1, 2]}\n'


@pytest.mark.parametrize("line, found, expected", [
    ('{"timestamp": 1, "input_length": 5, "output_length": 5}', "found", "hash_ids"),
    ('{"timestamp": x, "input_length": 5}', "found 'x'", "expected"),
    ("nonsense", "found 'n'", "expected"),
    ('{"timestamp": 1, "input_length": 600, "output_length": 5, "hash_ids": [1, -2]}', "found '-'", "expected"),
])
@pytest.mark.parametrize("command", [["replay"], ["run", "--trace"]])
def test_bad_lines_are_named(place, line, found, expected, command):
    trace = place.dir / "bad.jsonl"
    trace.write_text(GOOD + line + "\n")
    error = one_line(yolk(*command, trace, "--capacity", 10), 2)
    assert f"{trace}:2: " in error and found in error and expected in error


@pytest.mark.parametrize("options, text", [
    (["--block", "0"], "--block: found '0'"),
    (["--block", "big"], "--block: found 'big'"),
    (["--clients", "0"], "--clients: found '0'"),
    (["--exact", "--clients", "2", "--capacity", "10"], "--exact: found --clients 2"),
    (["--capacity", "0", "--own"], "needs --capacity or --dram"),
    (["--own", "-d", "64M"], "too little: a node for blocks of 256KiB and 1 client needs 1"),
    (["--capacity", "1000", "--dram", "1M", "--block", "64K"], "1 MiB of memory is too little: 1000 blocks of 64KiB"),
    (["--capacity", "10", "--policy", "best"], "--policy: found 'best', expected one of lru, s3fifo, chain-lru, chain-s3fifo"),
])
def test_bad_options_are_refused(place, options, text):
    trace = place.dir / "good.jsonl"
    trace.write_text(GOOD)
    assert text in one_line(yolk("replay", trace, *options), 2)


def test_policies_are_those_of_the_node():
    def policies(text):
        return re.search(r"--policy [^(]*?One of ([^.]*)\.", " ".join(text.split()))[1]

    theirs = policies(yolkd("--help").stdout)
    assert "chain-lru" in theirs
    assert policies(yolk("run", "--help").stdout) == policies(yolk("replay", "--help").stdout) == theirs
    assert "--policy: found 'foo', expected one of" in one_line(yolk("run", "--policy", "foo"), 2)


def test_own_alone_has_the_capacity_of_run(place):
    trace = place.dir / "good.jsonl"
    trace.write_text(GOOD)
    assert replay(trace, "--own", "--block", "4K")["capacity_blocks"] == 2000


def test_a_trace_without_requests_is_an_error(place):
    trace = place.dir / "empty.jsonl"
    trace.write_text("\n")
    for command in (["replay", trace, "--own"], ["run", "--trace", trace]):
        assert f"{trace}: found no request" in one_line(yolk(*command), 2)


def test_more_memory_than_there_is_is_refused(place):
    trace = place.dir / "good.jsonl"
    trace.write_text(GOOD)
    for command in (["replay", trace], ["run"]):
        done = yolk(*command, "--dram", "200T")
        assert re.search(r"--dram: found 200TiB, expected at most the [\d.]+ [GM]iB that are free", one_line(done, 2))
        assert done.stdout == ""
    done = yolk("replay", trace, "--capacity", "100M", "--block", "1M", "--clients", "1")
    assert re.search(r"--capacity: 100000000 blocks of 1MiB for 1 client need 9\d(\.\d+)? TiB, expected at most the",
                     one_line(done, 2))


def test_what_is_no_trace(place):
    (place.dir / "damaged.zst").write_bytes(b"\x28\xb5\x2f\xfd" + bytes(range(200)))
    (place.dir / "short.zst").write_bytes(b"\x28\xb5\x2f\xfd")
    for name, found in ((".", "found a directory, expected a file"),
                        ("damaged.zst", "found bad Zstandard data ("), ("short.zst", "found the end of the file")):
        path = f"{place.dir}/{name}"
        error = one_line(yolk("replay", path, "--capacity", 10), 2)
        assert path in error and found in error and "expected" in error


def test_no_node_no_trace(place):
    trace = place.dir / "good.jsonl"
    trace.write_text(GOOD)
    assert "/none" in one_line(yolk("--url", f"unix:{place.dir}/none", "replay", trace), 1)
    assert "No such file" in one_line(yolk("replay", place.dir / "none", "--capacity", 10), 2)


# ---- run: progress, the end, nothing left --------------------------------------------------------


def test_run_tells_the_whole_story(place):
    before = shared_memory()
    done = yolk("run", "--requests", 60, "--block", "16K", "--capacity", 500, env={"TMPDIR": str(place.dir)})
    assert done.returncode == 0, done.stderr
    for text in ["Trace: generated", "Node: ", "policy lru", "hit ratio", "tokens not recomputed", "GB/s", "evicted",
                 "p50", "p99.9", "put ", "get ", "match ", "wrong bytes                  0", "Try next:"]:
        assert text in done.stdout, text
    assert leftovers(place.dir) == [] and not {n for n in shared_memory() - before if not n.startswith("yolk-test")}


def test_a_thousand_clients(place):
    """Those that are ready wait without taking the time of those that still connect."""
    trace = generate(place, "--requests", 1500, "--seed", 12)
    result = replay(trace, "--clients", 1000, "--capacity", 2000, "--block", "4K")
    assert result["requests"] == 1500 and result["wrong_bytes"] == 0 and result["refused"] == 0
    done = yolk("run", "--requests", 5, "--clients", 1000, "--block", "4K", "--ssd-capacity", 0)
    assert done.returncode == 0, done.stderr
    assert "at most 2k blocks" in done.stdout, "what the clients hold leaves room for blocks"


def test_replay_keeps_to_the_timestamps(place):
    trace = place.dir / "t.jsonl"
    trace.write_text("".join('{"timestamp": %d, "input_length": 512, "output_length": 1, "hash_ids": [%d]}\n' % (t, t)
                             for t in (5000, 5400, 5800)))
    result = replay(trace, "--capacity", 10, "--block", "4K", "--speed", "2")
    assert 0.4 <= result["elapsed_s"] < 30
    assert replay(trace, "--capacity", 10, "--block", "4K")["late_s"] == 0


def endless(place):
    """A trace that takes a minute on its timestamps."""
    trace = place.dir / "endless.jsonl"
    trace.write_text("".join('{"timestamp": %d, "input_length": 512, "output_length": 1, "hash_ids": [%d]}\n'
                             % (t * 1000, t) for t in range(60)))
    return trace


def children(pid):
    try:
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []


def start_endless(place, **options):
    args = [program("yolk"), "run", "--trace", endless(place), "--speed", "1", "--clients", "2", "--block", "4K",
            "--capacity", "100"]
    process = place.spawn(args, env=clean_env({"TMPDIR": str(place.dir)}), stdin=subprocess.DEVNULL, **options)
    # A node and two clients, and the socket is gone as soon as they are connected.
    wait_for(lambda: len(children(process.pid)) == 3 and not leftovers(place.dir), "the run goes on")
    return process


def gone(pids):
    return all(not os.path.exists(f"/proc/{p}") or open(f"/proc/{p}/stat").read().split()[2] == "Z" for p in pids)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_it_with_its_figures(place, number):
    before = shared_memory()
    process = start_endless(place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    pids = children(process.pid)
    os.killpg(process.pid, number)  # as a terminal does it
    out, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130 and "(interrupted)" in out and err == ""
    assert gone(pids) and leftovers(place.dir) == []
    assert not {n for n in shared_memory() - before if not n.startswith("yolk-test")}


def test_a_kill_leaves_nothing_either(place):
    process = start_endless(place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    pids = children(process.pid)
    process.kill()
    process.wait()
    wait_for(lambda: gone(pids), "its children end with it")
    assert leftovers(place.dir) == []


def test_a_client_that_dies_ends_the_run(place):
    process = start_endless(place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    pids = children(process.pid)
    os.kill(int(pids[-1]), signal.SIGKILL)
    _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1 and "was ended by signal 9" in err
    assert gone(pids) and leftovers(place.dir) == []


def test_a_node_that_dies_ends_the_run(place):
    process = start_endless(place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    pids = children(process.pid)
    os.kill(int(pids[0]), signal.SIGKILL)
    _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1 and "the node's process ended" in err
    assert gone(pids) and leftovers(place.dir) == []


def test_progress_is_one_line_on_a_terminal(place):
    leader, follower = pty.openpty()
    trace = generate(place, "--requests", 400, "--seed", 11)
    process = place.spawn([program("yolk"), "replay", trace, "--capacity", "300", "--block", "64K"], stderr=follower,
                          stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL, env=clean_env())
    os.close(follower)
    text = b""
    while select.select([leader], [], [], DEADLINE_S)[0]:
        try:
            chunk = os.read(leader, 4096)
        except OSError:
            break
        if not chunk:
            break
        text += chunk
    os.close(leader)
    assert process.wait(DEADLINE_S) == 0
    assert b"\n" not in text and text.endswith(b"\r\x1b[K")

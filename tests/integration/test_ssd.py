# SPDX-License-Identifier: Apache-2.0
"""The SSD tier as its user meets it: options and what is wrong with them, what is shown, what moves, what a
restart, a reboot and a removal leave, and hit counts that are those of a two-level simulator."""
import ctypes
import ctypes.util
import json
import os
import re
import struct
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from harness import BUILD, DEADLINE_S, clean_env, one_line, program, wait_for, yolk, yolkd

LONG = os.environ.get("YOLK_LONG") == "1"
TRACES = Path(os.environ.get("YOLK_TRACES", Path(__file__).resolve().parents[3] / "shared" / "traces"))
SEGMENT = "1M"
MIB = 1 << 20


def put(node, key, data, *options):
    done = node.yolk("put", *options, key, "-", data=data)
    assert done.returncode == 0, done.stderr


def get(node, key):
    """Its bytes; None: it is not there."""
    done = node.yolk("get", "--timeout", "60s", key, text=False)
    assert done.returncode in (0, 3), done.stderr
    return done.stdout if done.returncode == 0 else None


def payload(i, size=256 * 1024):
    """Bytes that no other block has anywhere."""
    return b"".join(struct.pack("<QQ", i, at) for at in range(size // 16))


def fill(node, count, size=256 * 1024, first=0):
    """Puts that many blocks; their keys."""
    keys = [f"b{i}" for i in range(first, first + count)]
    for i, key in enumerate(keys, first):
        put(node, key, payload(i, size))
    return keys


@pytest.fixture
def ssd_node(make_node, place):
    """ssd_node(*options): a node of 32 MiB with an SSD file of 256 MiB, not started yet."""

    def make(*options, size="256M", name="node", dram="32M", path=None):
        path = path or place.dir / f"{name}.ssd"
        # Nothing may be lost here, however slow the disk is.
        node = make_node("--ssd", f"{path}:{size}", "--ssd-segment", SEGMENT, "--ssd-wait", "0", *options, name=name,
                         dram=dram)
        node.ssd = path
        return node

    return make


def settled(node):
    """Nothing is on its way to SSD."""
    return node.stats()["leaving_blocks"] == 0


def reboot(node):
    """What a reboot does to a node that was stopped: shared memory is empty."""
    for path in node.place.shm.iterdir():
        path.unlink()


# ---- options ----------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments, text", [
    (["--ssd", "/tmp/none/x:1G"], "--ssd: found '/tmp/none/x', but there is no directory '/tmp/none'"),
    (["--ssd", "/tmp/yolk-none.ssd"], "--ssd: found '/tmp/yolk-none.ssd', which is not there: add a size"),
    (["--ssd", "/dev/null"], "--ssd: found '/dev/null', expected a file, a directory or a block device"),
    (["--ssd", "/tmp/yolk-none.ssd:10M"], "which is smaller than one segment of 64MiB"),
    (["--ssd", "/tmp/yolk-none.ssd:130M"], "give it 258MiB, or take segments of 32MiB"),
    (["--ssd", "/tmp/yolk-none.ssd:64M"], "give it 258MiB, or take segments of 8MiB"),
    (["--ssd", "/tmp/yolk-none.ssd:4096T"], r"of 4PiB, expected at most the [\d.]+ [KMGT]iB that its file system"),
    (["--ssd", "/tmp/yolk-none.ssd:1X"], "--ssd: found '1X', expected a size"),
    (["--ssd", "/tmp/yolk-none.ssd:0"], "expected a size above 0"),
    (["--ssd", "/tmp/yolk-none.ssd:1G,/tmp/yolk-none.ssd:1G"], "found '/tmp/yolk-none.ssd' twice"),
    (["--ssd", ",".join(f"/tmp/yolk-none{i}:64M" for i in range(17))], "found 17 places, expected at most 16"),
    (["--ssd-segment", "1500K"], "--ssd-segment: found 1500KiB, expected whole MiB"),
    (["--ssd-segment", "2G"], "--ssd-segment: found '2G', expected 1MiB to 1GiB"),
    (["--ssd-only-on", "put"], "--ssd-only-on: found 'put', expected one of demotion, write-through"),
    (["--ssd-admit", "none"], "--ssd-admit: found 'none', expected one of all, used"),
    (["--ssd-trim", "maybe"], "--ssd-trim: found 'maybe', expected one of auto, on, off"),
    (["--ssd-clean-percent", "0"], "--ssd-clean-percent: found '0', expected 1 to 900"),
    (["--ssd-format"], "--ssd-format: found it without --ssd"),
])
def test_bad_options_are_one_line(arguments, text):
    done = yolkd("--check-config", "--dram", "64M", "--ephemeral", *arguments)
    assert re.search(text, one_line(done, 2, "yolkd"))


def test_check_config_says_where_the_tier_would_be(place, make_node):
    node = make_node("--ssd", f"{place.dir}:1G")
    done = subprocess.run(list(map(str, node.command("--check-config"))), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"# SSD:  {place.dir}/yolk-node.ssd, 1 GiB." in done.stdout
    assert "What they hold is looked at when the node starts." in done.stdout
    assert not (place.dir / "yolk-node.ssd").exists()


def test_a_place_that_may_not_be_written(place, make_node):
    path = place.dir / "x.ssd"
    path.write_bytes(b"")
    path.chmod(0o400)
    node = make_node("--ssd", f"{path}:256M")
    before = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    if before:
        try:
            subprocess.run([*before, "true"], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("runs as root, and cannot become another user")
        place.dir.chmod(0o755)
        for folder in Path(program("yolkd")).parents:
            if not folder.stat().st_mode & 0o001:
                pytest.skip("another user may not read the build")
    done = subprocess.run([*before, *map(str, node.command("--check-config", "--shm-dir", "/dev/shm"))],
                          capture_output=True, text=True)
    assert re.search("which user [0-9]+ may not read and write", one_line(done, 2, "yolkd"))


# ---- what a place holds -----------------------------------------------------------------------


def refused(node, *options):
    done = subprocess.run(list(map(str, node.command(*options))), capture_output=True, text=True, timeout=DEADLINE_S)
    return one_line(done, 2, "yolkd")


@pytest.mark.parametrize("where, signature, text", [
    (1080, b"\x53\xef", "ext"), (100, b"a letter to the editor", "unknown data"),
])
def test_what_is_something_elses_is_not_overwritten(ssd_node, where, signature, text):
    node = ssd_node(size="64M")
    with open(node.ssd, "wb") as file:
        file.truncate(64 * MIB)
        file.seek(where)
        file.write(signature)
    line = refused(node)
    assert str(node.ssd) in line and text in line and "--ssd-format" in line
    with open(node.ssd, "rb") as file:
        file.seek(where)
        assert file.read(len(signature)) == signature
    node.start("--ssd-format")
    put(node, "k", b"v")
    assert node.stop() == 0
    node.start()
    assert get(node, "k") == b"v"


def test_a_newer_version_is_not_overwritten(ssd_node):
    node = ssd_node(size="64M").start()
    assert node.stop() == 0
    name = ctypes.util.find_library("xxhash")
    if not name:
        pytest.skip("libxxhash, which a superblock of another version needs, is not found")
    xxh3 = ctypes.CDLL(name).XXH3_64bits
    xxh3.restype, xxh3.argtypes = ctypes.c_uint64, [ctypes.c_char_p, ctypes.c_size_t]
    with open(node.ssd, "r+b") as file:
        for at in (0, 32768):
            file.seek(at)
            sector = file.read(4096)
            newer = sector[:8] + struct.pack("<I", 900) + sector[12:-8]
            file.seek(at)
            file.write(newer + struct.pack("<Q", xxh3(newer, len(newer))))
    line = refused(node)
    assert str(node.ssd) in line and "version" in line and "900" in line and "--ssd-format" in line


def test_the_file_of_another_node(ssd_node):
    one, two = ssd_node(name="one", size="64M").start(), ssd_node(name="two", size="64M").start()
    put(one, "k", b"one's")
    assert one.stop() == 0 and two.stop() == 0
    stolen = ssd_node(name="two", size="64M", path=one.ssd)
    line = refused(stolen)
    assert str(one.ssd) in line and "node" in line and "--ssd-format" in line
    one.start()
    assert get(one, "k") == b"one's"


def test_smaller_than_it_was_formatted(ssd_node):
    node = ssd_node(size="64M").start()
    assert node.stop() == 0
    os.truncate(node.ssd, 32 * MIB)
    node.options[1] = str(node.ssd)
    line = refused(node)
    assert str(node.ssd) in line and "formatted" in line


def test_two_daemons_on_one_file(ssd_node):
    one = ssd_node(name="one").start()
    two = ssd_node(name="two", path=one.ssd)
    done = subprocess.run(list(map(str, two.command())), capture_output=True, text=True, timeout=DEADLINE_S)
    line = one_line(done, 1, "yolkd")
    assert str(one.ssd) in line and f"in use by process {one.process.pid}" in line
    put(one, "k", b"v")
    assert get(one, "k") == b"v"


@pytest.fixture
def ramfs(place):
    """A file system that knows neither O_DIRECT nor a size."""
    folder = place.dir / "ramfs"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    done = subprocess.run(["mount", "-t", "ramfs", "none", folder], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"no mounts here: {done.stderr.strip()}")
    yield folder
    for process in place.processes:
        if process.poll() is None:
            process.kill()
            process.wait()
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_file_system_that_knows_no_direct_io(ssd_node, ramfs):
    node = ssd_node(path=ramfs / "x.ssd", size="64M").start()
    fill(node, 200)
    assert get(node, "b0") == payload(0)
    assert not node.stats()["ssd"]["devices"][0]["direct"]
    warnings = [line for line in node.log().splitlines() if "page cache" in line]
    assert len(warnings) == 1, warnings
    assert "knows no O_DIRECT" in warnings[0] and "costs a copy" in warnings[0] and "use ext4" in warnings[0]


def test_a_file_system_without_direct_io(ssd_node, place):
    node = ssd_node(path=place.shm / "x.ssd", size="64M").start()
    fill(node, 200)
    assert get(node, "b0") == payload(0)
    if not node.stats()["ssd"]["devices"][0]["direct"]:
        assert "knows no O_DIRECT" in node.log() and "costs a copy" in node.log()


# ---- what is shown ----------------------------------------------------------------------------


def test_the_log_says_what_was_found(ssd_node):
    def found_at_start(starts):
        def lines():
            return [line for line in node.log().splitlines() if " tier of " in line]
        wait_for(lambda: len(lines()) >= starts, "the line about the tier, which follows that the node serves")
        return lines()[-1]

    node = ssd_node().start()
    line = found_at_start(1)
    assert f"1 device: {node.ssd} (256 MiB)" in line and "0 blocks (0 B) recovered in" in line
    fill(node, 300)
    assert node.stop() == 0
    node.start()
    line = found_at_start(2)
    found = int(re.search(r"(\d+) blocks \(", line)[1])
    assert found >= 150, line


def page(node, path):
    port = re.search(r"http 127\.0\.0\.1:(\d+)", node.log())[1]
    return urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10).read().decode()


def samples(text):
    return {m[1]: float(m[2]) for m in re.finditer(r"^(yolk_\S+(?:\{[^}]*\})?) (\S+)$", text, re.M)}


def test_everything_shows_both_tiers(make_node, ssd_node):
    node = ssd_node("--policy", "lru")
    node.base[node.base.index("none")] = "127.0.0.1:0"
    node.start()
    keys = fill(node, 300)
    for key in keys[:20]:
        assert get(node, key) == payload(int(key[1:]))
    wait_for(lambda: settled(node), "nothing is on its way down")
    stats = node.stats()
    ssd = stats["ssd"]
    assert stats["demoted"] >= 150 and stats["ssd_hits"] >= 15 and stats["raised"] >= 15
    assert ssd["blocks"] >= 150 and ssd["put_bytes"] >= 150 * 256 * 1024 and ssd["io_errors"] == 0
    assert 1.0 <= ssd["write_amplification"] < 1.5
    device, = ssd["devices"]
    assert device["path"] == str(node.ssd) and device["state"] == "ok" and device["wear_bytes"] > 0
    assert ssd["latency"]["read"]["count"] > 0 and ssd["latency"]["write"]["p99_us"] > 0
    seen = samples(page(node, "/metrics"))
    assert seen['yolk_blocks{tier="ssd"}'] == ssd["blocks"]
    assert seen['yolk_tier_hits_total{tier="ssd"}'] >= 15 and 'yolk_tier_hits_total{tier="dram"}' in seen
    in_ns = 'yolk_namespace_{}_total{{namespace="default",tier="{}"}}'
    for tier in ("dram", "ssd"):
        for what in ("hits", "misses"):
            assert seen[in_ns.format(what, tier)] == seen[f'yolk_tier_{what}_total{{tier="{tier}"}}']
    assert seen[in_ns.format("misses", "dram")] >= seen[in_ns.format("hits", "ssd")] >= 15
    assert seen[f'yolk_ssd_device_state{{device="{node.ssd}",state="ok"}}'] == 1
    assert seen["yolk_ssd_degraded"] == 0 and seen["yolk_ssd_write_amplification"] >= 1
    assert any(name.startswith("yolk_ssd_device_duration_seconds_bucket") for name in seen)
    text = node.yolk("top", "--once").stdout
    for part in ("dram       [", "ssd        [", "hits from  dram", "moves      down", "amplification 1.", "DEVICES",
                 str(node.ssd), "read p50"):
        assert part in text, text
    top = json.loads(node.yolk("--json", "top", "--count", "1").stdout)["ssd"]
    assert top["devices"][0]["state"] == "ok" and top["demoted_bytes"]["total"] == stats["demoted_bytes"]
    text = node.yolk("stat", "--node").stdout
    for part in ("between memory and SSD", "hits in SSD", "write amplification", str(node.ssd)):
        assert part in text, text
    tiers = {key: node.json("stat", key)[0]["tiers"] for key in (keys[0], keys[100], keys[-1])}
    assert "ssd" in tiers[keys[0]] and "dram" in tiers[keys[0]]  # it came up above
    assert tiers[keys[100]] == ["ssd"] and "dram" in tiers[keys[-1]]
    assert "ssd" in node.yolk("stat", keys[100]).stdout


def test_a_node_without_the_tier_shows_none(node):
    assert node.stats()["ssd"] is None
    assert "ssd" not in node.yolk("top", "--once").stdout.split("hits", 1)[0]
    assert json.loads(node.yolk("--json", "top", "--count", "1").stdout)["ssd"] is None


def test_an_embedded_node_has_a_tier(place):
    path = place.dir / "embedded.ssd"
    url = f"embedded:dram=32M,ssd={path}:128M,ssd_segment=1M"
    env = {"LD_LIBRARY_PATH": f"{BUILD}/lib:{BUILD}/src/node"}
    done = yolk("--url", url, "stat", "--node", env=env)
    if "libyolk-node" in done.stderr:
        pytest.skip("libyolk-node is not beside the program")
    assert done.returncode == 0 and str(path) in done.stdout, done.stderr
    assert path.stat().st_size == 128 * MIB
    assert "there is no directory" in one_line(yolk("--url", "embedded:ssd=/tmp/none/x:1G", "stat", env=env), 2)


# ---- what moves, what stays -------------------------------------------------------------------


def test_more_than_memory_holds_is_all_there(ssd_node):
    node = ssd_node().start()
    keys = fill(node, 500)
    for key in keys:
        assert get(node, key) == payload(int(key[1:])), key
    stats = node.stats()
    assert stats["ssd_hits"] > 300 and stats["demote_failed"] == 0 and stats["verify_failed"] == 0


def test_write_through_survives_a_reboot(ssd_node):
    node = ssd_node("--ssd-only-on", "write-through").start()
    keys = fill(node, 40)
    wait_for(lambda: [node.stats()["ssd"][name] for name in ("blocks", "queued_bytes")] == [40, 0], "all are written")
    assert node.stop(9) == -9
    reboot(node)
    node.start()
    got = {key: get(node, key) for key in keys}
    assert [key for key in keys if got[key] != payload(int(key[1:]))] == [], node.stats()["ssd"]


def test_admission_of_used_blocks_alone(ssd_node):
    node = ssd_node("--ssd-admit", "used").start()
    keys = fill(node, 60)
    for key in keys[:10]:
        get(node, key)
    fill(node, 300, first=60)
    wait_for(lambda: settled(node), "nothing is on its way down")
    stats = node.stats()
    assert 5 <= stats["ssd"]["blocks"] <= 30 and stats["demote_refused"] > 200


def test_a_reboot_brings_it_back_warm(ssd_node):
    node = ssd_node().start()
    fill(node, 300)
    wait_for(lambda: settled(node), "nothing is on its way down")
    there = node.stats()["ssd"]["blocks"]
    assert node.stop() == 0
    reboot(node)
    node.start()
    stats = node.stats()
    assert stats["start"] == "fresh" and stats["ssd"]["recovered"] >= there
    wait_for(lambda: "preloaded " in node.log(), "the log says that it is preloaded")
    assert node.stats()["preloaded"] > 20
    for key in (f"b{i}" for i in range(0, 150, 10)):
        assert get(node, key) == payload(int(key[1:]))


def test_no_preload_on_demand(ssd_node):
    node = ssd_node("--no-ssd-preload").start()
    fill(node, 300)
    assert node.stop() == 0
    reboot(node)
    node.start()
    assert node.stats()["preload_goal"] == 0 and get(node, "b0") == payload(0)


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_what_was_removed_stays_removed(ssd_node, how):
    node = ssd_node().start()
    fill(node, 300)
    wait_for(lambda: settled(node), "nothing is on its way down")
    assert node.yolk("rm", *[f"b{i}" for i in range(0, 100)]).returncode in (0, 3)
    assert node.stop(15 if how == "stop" else 9) == (0 if how == "stop" else -9)
    reboot(node)
    node.start()
    assert all(get(node, f"b{i}") is None for i in range(100))
    assert get(node, "b120") == payload(120)


def test_epochs_and_times_to_live_hold_over_a_reboot(ssd_node):
    node = ssd_node("--ssd-only-on", "write-through").start()
    put(node, "brief", payload(1), "--ttl", "2s")
    put(node, "lasting", payload(2), "--ttl", "1h")
    assert node.yolk("--namespace", "weights", "put", "old", "-", data=payload(3)).returncode == 0
    wait_for(lambda: node.stats()["ssd"]["puts"] == 3, "all are written")
    assert node.yolk("ns", "epoch", "weights", "7").returncode == 0
    assert node.stop(9) == -9
    reboot(node)
    node.start()
    wait_for(lambda: get(node, "brief") is None, "its time is over")
    assert get(node, "lasting") == payload(2)
    done = node.yolk("--namespace", "weights", "--epoch", "7", "get", "old", text=False)
    assert done.returncode == 3, done.stderr


def test_several_files(make_node, place):
    places = ",".join(f"{place.dir}/{i}.ssd:64M" for i in range(3))
    node = make_node("--ssd", places, "--ssd-segment", SEGMENT, "--ssd-wait", "0", dram="32M").start()
    keys = fill(node, 400)
    wait_for(lambda: settled(node), "nothing is on its way down")
    devices = node.stats()["ssd"]["devices"]
    assert len(devices) == 3 and all(d["written_bytes"] > 0 for d in devices)
    assert node.stop() == 0
    reboot(node)
    node.start()
    # The youngest were in memory alone.
    assert all(get(node, key) == payload(int(key[1:])) for key in keys[:240:20])


# ---- traces -----------------------------------------------------------------------------------


def two_levels(trace, capacity, ssd_capacity, *options, stdin=None):
    done = subprocess.run([sys.executable, Path(__file__).with_name("two_level_sim.py"), trace, "--capacity",
                           str(capacity), "--ssd-capacity", str(ssd_capacity), *options, "--json"],
                          capture_output=True, text=True, check=True, timeout=DEADLINE_S * 5, stdin=stdin)
    return json.loads(done.stdout)


def replay(trace, *options, seconds=DEADLINE_S * 5, env=None):
    done = subprocess.run([program("yolk"), "--json", "replay", *map(str, (trace, *options))], capture_output=True,
                          text=True, timeout=seconds, env=clean_env(env))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("capacity, ssd_capacity", [(60, 200), (200, 400), (300, 2000), (150, 10000)])
@pytest.mark.parametrize("order", ["tail-first", "head-first"])
def test_one_client_hits_what_two_levels_hit(place, capacity, ssd_capacity, order):
    trace = place.dir / "trace.jsonl"
    assert yolk("gen", "--requests", 300, "--seed", 3, trace).returncode == 0
    result = replay(trace, "--exact", "--capacity", capacity, "--ssd-capacity", ssd_capacity, "--block", "4K",
                    "--order", order, env={"TMPDIR": str(place.dir)})
    expected = two_levels(trace, capacity, ssd_capacity, "--order", order)
    assert result["hit_blocks"] == expected["hit_blocks"] and result["blocks"] == expected["total_blocks"]
    assert result["wrong_bytes"] == 0 and result["refused"] == 0 and result["ssd"]["failed"] == 0
    assert result["ssd"]["blocks"] == expected["ssd_blocks"]
    alone = two_levels(trace, capacity, 0, "--order", order)
    assert result["dram_alone"]["hit_blocks"] == alone["hit_blocks"]
    assert sorted(p.name for p in place.dir.iterdir()) == ["trace.jsonl"]


# Requests of each trace that are run unless YOLK_LONG is set; None: all.
REAL = [("conversation_trace.jsonl", 1500), ("agent_sessions_trace.jsonl.zst", 150)]


@pytest.mark.parametrize("name, few", REAL)
def test_real_traces_hit_what_two_levels_hit(place, name, few):
    trace = TRACES / name
    if not trace.exists():
        pytest.skip(f"{trace} is not there")
    plain = trace
    if name.endswith(".zst"):
        plain = place.dir / "plain.jsonl"
        with open(plain, "wb") as out:
            try:
                done = subprocess.run(["zstd", "-dcq", trace], stdout=out)
            except FileNotFoundError:
                pytest.skip("zstd, which unpacks the trace for the simulator, is missing")
        assert done.returncode == 0
    capacity, ssd_capacity, block = (3000, 30000, "64K") if LONG else (300, 3000, "64K")
    count = 0 if LONG else few
    result = replay(trace, "--exact", "--policy", "lru", "--capacity", capacity, "--ssd-capacity", ssd_capacity,
                    "--block", block, "--requests", count, seconds=7200, env={"TMPDIR": str(place.dir)})
    expected = two_levels(plain, capacity, ssd_capacity, "--requests", str(count))
    print(f"{name}: {result['hit_ratio']:.4f} of the blocks, {result['tokens_saved']} tokens not recomputed; with "
          f"the same DRAM alone {result['dram_alone']['tokens_saved']}")
    assert result["hit_blocks"] == expected["hit_blocks"] and result["wrong_bytes"] == 0
    assert result["tokens_saved"] > result["dram_alone"]["tokens_saved"]


@pytest.mark.alone
def test_several_clients_over_two_tiers(place):
    trace = place.dir / "trace.jsonl"
    assert yolk("gen", "--requests", 800, "--seed", 6, trace).returncode == 0
    result = replay(trace, "--capacity", 400, "--ssd-capacity", 4000, "--block", "16K", "--clients", 3,
                    "--inflight", 4, env={"TMPDIR": str(place.dir)})
    expected = two_levels(trace, 400, 4000)
    # Not that any came from SSD: what is on its way there is still served by DRAM, on a slow disk for long. Nor
    # that it is the simulator's ratio: requests overtake each other, the more the slower one client is, and a turn
    # that is done before the one it goes on from finds less.
    assert result["wrong_bytes"] == 0
    assert abs(result["hit_ratio"] - expected["hit_blocks"] / expected["total_blocks"]) < 0.10
    assert result["hit_ratio"] - result["dram_alone"]["hit_ratio"] > 0.05


def test_run_shows_two_tiers(place):
    done = yolk("run", "--requests", 200, "--block", "16K", "--capacity", 300, "--ssd-capacity", 3000,
                env={"TMPDIR": str(place.dir)})
    assert done.returncode == 0, done.stderr
    for text in ["SSD:   ", "blocks got from", "with the same DRAM alone", "moved between the tiers",
                 "amplification ", "wrong bytes                  0"]:
        assert text in done.stdout, done.stdout
    assert list(place.dir.iterdir()) == []


def test_run_without_room_runs_with_dram_alone(place):
    done = yolk("run", "--requests", 50, "--block", "16K", "--capacity", 300, "--ssd-capacity", "200M",
                env={"TMPDIR": str(place.dir)})
    assert done.returncode == 0, done.stderr
    assert "No room for an SSD tier" in done.stdout and "blocks got from" not in done.stdout


def test_options_that_need_each_other(place):
    trace = place.dir / "t.jsonl"
    trace.write_text('{"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [1, 2]}\n')
    assert "--ssd needs --ssd-capacity" in one_line(yolk("replay", trace, "--capacity", 10, "--ssd", place.dir), 2)
    done = yolk("replay", trace, "--capacity", 10, "--ssd-capacity", 10, "--ssd", place.dir / "none")
    assert "cannot make a file for the SSD tier" in one_line(done, 2)


# ---- yolk ssd -----------------------------------------------------------------------------------


def test_a_device_is_looked_at_offline(ssd_node):
    node = ssd_node("--ssd-only-on", "write-through")
    node.start()
    keys = fill(node, 20)
    node.yolk("rm", keys[3])
    wait_for(lambda: settled(node) and node.stats()["ssd"]["blocks"] >= 19, "all blocks on SSD")
    node.stop()
    done = yolk("ssd", "check", "--json", node.ssd)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["blocks"] >= 19 and found["clean"] and found["segments_used"] > 0
    assert found["damaged_records"] == found["damaged_payloads"] == found["unreadable"] == 0
    assert "damaged: 0 headers and footers, 0 payloads" in yolk("ssd", "check", node.ssd).stdout
    dumped = [json.loads(line) for line in yolk("ssd", "dump", "--json", node.ssd).stdout.splitlines()]
    blocks = {r["key"]: r for r in dumped[1:] if r["type"] == "block"}
    assert set(keys) - {keys[3]} <= set(blocks)
    assert "block" in yolk("ssd", "dump", node.ssd).stdout
    # One bit of one block.
    block = blocks[keys[5]]
    at = MIB + block["segment"] * MIB + block["place"] + 1000
    with open(node.ssd, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))
    done = yolk("ssd", "check", "--json", node.ssd)
    assert done.returncode == 1
    assert json.loads(done.stdout)["damaged_payloads"] == 1
    assert yolk("ssd", "check", "--quick", node.ssd).returncode == 0


def test_what_is_no_ssd_device_is_one_line(place):
    path = place.dir / "x"
    path.write_bytes(b"\0" * 8192)
    assert "is no Yolk SSD tier" in one_line(yolk("ssd", "check", path), 2)
    assert "cannot be opened" in one_line(yolk("ssd", "dump", place.dir / "none"), 2)
    assert "expected check or dump" in one_line(yolk("ssd", "eat", path), 2)

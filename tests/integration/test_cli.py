# SPDX-License-Identifier: Apache-2.0
"""The command line: what each command does, what it prints, and how it fails.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not there, 4 conflict.
"""
import fcntl
import json
import os
import pty
import re
import resource
import select
import signal
import struct
import subprocess
import termios
import time

import pytest

from harness import clean_env, one_line, program, wait_for, yolk

MIB = 1 << 20


def put(node, key, data=b"some bytes", *options):
    done = node.yolk("put", *options, key, "-", data=data)
    assert done.returncode == 0, done.stderr


def keys(node, *args):
    return sorted(node.yolk("ls", *args).stdout.splitlines())


# ---- usage ------------------------------------------------------------------------------------


def commands():
    text = yolk("--help").stdout
    return re.findall(r"^  (\w+) ", text[text.index("Commands:"):text.index("Exit status:")], re.M)


def test_help_lists_the_commands():
    assert set("put get ls stat rm pin unpin touch match prefetch expire ns top bench version".split()) <= set(commands())
    assert yolk("help").stdout == yolk("--help").stdout == yolk("-h").stdout


def test_help_is_whole_and_fits():
    text = yolk("--help").stdout
    assert max(map(len, text.splitlines())) < 80, text
    assert "a program to compare with is not installed." in " ".join(text.split())


def test_every_command_has_help():
    for name in commands():
        done = yolk(name, "--help")
        assert done.returncode == 0 and done.stdout.startswith(f"Usage: yolk {name} [OPTION]...")
        assert yolk("help", name).stdout == done.stdout
        assert all(len(line) <= 80 for line in done.stdout.splitlines())


def test_manual_has_every_command_and_option():
    man = yolk("--print-man").stdout
    assert man.startswith(".TH YOLK 1")
    for name in commands():
        assert f'.SS "yolk {name}' in man
        for option in re.findall(r"^ [ -].{4}(--[a-z-]+)", yolk(name, "--help").stdout, re.M):
            assert option.replace("-", r"\-") in man


def test_version():
    assert re.fullmatch(r"yolk (\d+\.\d+\.\d+) \(libyolk \1\)\n", yolk("--version").stdout)
    assert set(json.loads(yolk("version", "--json").stdout)) == {"version", "libyolk"}


@pytest.mark.parametrize("arguments, text", [
    ([], "found no command"),
    (["stats"], "found 'stats', which is no command (did you mean 'stat'?)"),
    (["help", "nothing"], "found 'nothing', which is no command"),
    (["--jsn", "ls"], "found '--jsn', which is no option (did you mean '--json'?)"),
    (["ls", "--lng"], "found '--lng', which is no option (did you mean '--long'?)"),
    (["put", "k"], "found 1 argument, expected yolk put KEY FILE|-"),
    (["get"], "found 0 arguments, expected yolk get KEY [FILE|-]"),
    (["get", "k", "f", "g"], "found 3 arguments"),
    (["ls", "--timeout", "5"], "--timeout: found '5', expected a duration"),
    (["put", "k", "f", "--ttl", "soon"], "--ttl: found 'soon', expected a duration"),
    (["put", "k", "f", "--pin", "soft"], "--pin: found 'soft', expected 'hard' or a time"),
    (["get", "", "f"], "found '' of 0 bytes, expected a key of 1 to 255 bytes"),
    (["get", "k" * 256, "f"], "of 256 bytes, expected a key of 1 to 255 bytes"),
    (["get", "--hex", "abc"], "found 'abc', expected a key as pairs of hex digits"),
    (["get", "--hex", "zz"], "found 'zz', expected a key as pairs of hex digits"),
    (["get", "--json", "k"], "--json: found no file for the payload"),
    (["rm"], "found nothing to remove, expected keys or one of --keys, --prefix, --pattern and --all"),
    (["rm", "k", "--all"], "found more than one, expected keys or one of"),
    (["rm", "--prefix", ""], "found '' of 0 bytes"),
    (["touch"], "found no keys, expected keys as arguments or --keys FILE"),
    (["touch", "k", "--keys", "f"], "found both, expected keys as arguments or --keys FILE"),
    (["match", "--keys", "/nonexistent"], "cannot open '/nonexistent': No such file"),
    (["expire", "k"], "--ttl: found nothing"),
    (["prefetch", "k", "--tier", "disk"], "--tier: found 'disk', expected one of any, dram"),
    (["ns", "make"], "ns: found 'make', expected list, create, set, quota, copies, epoch or rm"),
    (["ns", "epoch", "a"], "found 2 arguments, expected yolk ns epoch NAME N"),
    (["ns", "create"], "found 1 argument, expected yolk ns create NAME"),
    (["ns", "list", "x"], "found 2 arguments, expected yolk ns list\n"),
    (["ls", "--epoch", "x"], "--epoch: found 'x', expected a whole number such as 42 or 10k"),
    (["match", "--keys", "/"], "cannot read '/': Is a directory"),
    (["gen", "/nonexistent/trace"], "cannot write '/nonexistent/trace': No such file"),
    (["top", "--interval", "1ms"], "--interval: found '1ms', expected 100ms to 1h"),
    (["bench", "nothing"], "found 'nothing', which is no benchmark"),
    (["bench", "ssd", "--path", "/nonexistent"], "found --path '/nonexistent': No such file or directory, expected"),
    (["bench", "ssd", "--path", "/etc/passwd"], "found --path '/etc/passwd', expected a directory"),
    (["--url", "http://x", "ls"], "http://x"),
])
def test_wrong_usage(arguments, text):
    assert text in one_line(yolk(*arguments), 2) + "\n"


def test_help_is_true_about_the_environment(node):
    put(node, "a")
    put(node, "b")
    text = " ".join(yolk("ls", "--help").stdout.split())
    assert "Common options can also be set in the environment, --json as YOLK_JSON" in text
    env = {"YOLK_LIMIT": "1", "YOLK_JSON": "1"}  # ls's own, and a common one
    assert [json.loads(line)["key"] for line in sorted(node.yolk("ls", env=env).stdout.splitlines())] == ["a", "b"]


def test_bad_environment():
    assert "environment YOLK_TIMEOUT: found 'x'" in one_line(yolk("ls", env={"YOLK_TIMEOUT": "x"}), 2)


def test_no_node(place):
    line = one_line(yolk("--url", f"unix:{place.dir}/nobody", "ls"), 1)
    assert "nobody" in line and "start yolkd, or say where it listens with --url" in line


def test_where_the_url_comes_from(node, place):
    put(node, "k")
    env = {"YOLK_URL": node.url}
    assert yolk("ls", env=env).stdout == "k\n"
    assert yolk("ls", "--url", f"unix:{place.dir}/nobody", env=env).returncode == 1
    assert yolk("ls", "--url", node.url, env={"YOLK_URL": "unix:/nonexistent"}).stdout == "k\n"


def test_options_before_and_after_the_command(node):
    put(node, "k")
    for line in (["--json", "--url", node.url, "ls"], ["ls", "--json", "--url", node.url],
                 ["-u", node.url, "--", "ls", "-j"]):
        assert json.loads(yolk(*line).stdout)["key"] == "k"


# ---- put and get ------------------------------------------------------------------------------


@pytest.mark.parametrize("mapping", [[], ["--no-map"]], ids=["mapped", "socket"])
@pytest.mark.parametrize("size", [1, 4096, 5 * MIB + 3])
def test_files_and_pipes(node, place, mapping, size):
    data = os.urandom(size)
    source, copy = place.dir / "in", place.dir / "out"
    source.write_bytes(data)
    assert node.yolk(*mapping, "put", "file", source).stderr == ""
    assert node.yolk(*mapping, "put", "pipe", "-", data=data).stderr == ""
    with source.open("rb") as redirected:
        assert node.yolk(*mapping, "put", "redirected", "-", data=redirected).stderr == ""
    with source.open("rb") as redirected:
        redirected.seek(size // 2)
        assert node.yolk(*mapping, "put", "rest", "-", data=redirected).stderr == ""
    for key, expected in (("file", data), ("pipe", data), ("redirected", data), ("rest", data[size // 2:])):
        done = node.yolk(*mapping, "get", key, text=False)
        assert done.returncode == 0 and done.stdout == expected
        assert node.yolk(*mapping, "get", "--verify", key, copy).returncode == 0
        assert copy.read_bytes() == expected


def test_ranges(node):
    put(node, "k", bytes(range(256)))
    assert node.yolk("get", "k", "--offset", "10", "--length", "5", text=False).stdout == bytes(range(10, 15))
    assert node.yolk("get", "k", "--offset", "250", text=False).stdout == bytes(range(250, 256))
    # Where payload goes through the socket no more of it does than was asked for.
    before = node.stats()["node_get_bytes"]
    done = node.yolk("--no-map", "get", "k", "--offset", "250", text=False)
    assert done.stdout == bytes(range(250, 256)) and node.stats()["node_get_bytes"] - before == 6
    line = one_line(node.yolk("get", "k", "--offset", "250", "--length", "7"), 2)
    assert "found bytes 250 to 257, expected some of the block's 256" in line


def test_miss_leaves_no_file(node, place):
    assert "get 'nothing': not here" in one_line(node.yolk("get", "nothing", place.dir / "out"), 3)
    assert not (place.dir / "out").exists()


def test_conflict_upsert_and_the_same_again(node):
    put(node, "k", b"one")
    put(node, "k", b"one")
    assert "--upsert replaces them" in one_line(node.yolk("put", "k", "-", data=b"two"), 4)
    assert node.yolk("get", "k").stdout == "one"
    put(node, "k", b"two", "--upsert")
    assert node.yolk("get", "k").stdout == "two"


@pytest.mark.parametrize("path, text", [
    ("/dev/null", "'/dev/null': found nothing, expected a block of 1 byte to 4 GiB - 1"),
    ("/nonexistent", "cannot open '/nonexistent': No such file"),
    ("/tmp", "'/tmp' is a directory, expected a file"),
])
def test_what_cannot_be_put(node, path, text):
    assert text in one_line(node.yolk("put", "k", path), 2)
    assert keys(node) == []


def test_block_larger_than_the_tier(node, place):
    big = place.dir / "big"
    with big.open("wb") as f:
        f.truncate(65 * MIB)
    for line in (one_line(node.yolk("put", "k", big), 2), one_line(node.yolk("--no-map", "put", "k", big), 2)):
        assert str(65 * MIB) in line and str(64 * MIB) in line
    with big.open("wb") as f:
        f.truncate(4 << 30)
    assert "found 4 GiB or more" in one_line(node.yolk("put", "k", big), 2)


@pytest.mark.skipif(os.environ.get("YOLK_SLOW") == "1", reason="a sanitizer's shadow does not fit into the limit")
@pytest.mark.parametrize("mapping", [[], ["--no-map"]])
def test_endless_input_is_refused_early(node, mapping):
    with open("/dev/zero", "rb") as zeros:
        done = node.yolk("put", *mapping, "k", "-", data=zeros,
                         preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (256 * MIB, 256 * MIB)))
    assert "'standard input': found more than 64 MiB, which is all the memory of this node" in one_line(done, 2)


def test_attributes(node):
    put(node, "parent")
    put(node, "child", b"x", "--parent", "parent", "--ttl", "1h", "--pin", "10m")
    put(node, "hard", b"x", "--pin", "hard")
    parent, child, hard = node.json("stat", "parent", "child", "hard")
    assert parent["children"] == 1 and not parent["has_parent"] and parent["expiry_ms"] == 0
    assert child["has_parent"] and child["pinned"] == "soft"
    assert 0 < child["expiry_ms"] - time.time() * 1000 <= 3600 * 1000
    assert hard["pinned"] == "hard" and hard["tiers"] == ["dram"] and hard["len"] == 1


def test_output_that_cannot_be_written(node):
    put(node, "k", os.urandom(MIB))
    with open("/dev/full", "wb") as full:
        assert "No space left" in one_line(node.yolk("get", "k", stdout=full), 1)
        assert "cannot write the output" in one_line(node.yolk("stat", stdout=full), 1)
    assert "cannot open '/nonexistent/out'" in one_line(node.yolk("get", "k", "/nonexistent/out"), 2)


def test_reader_that_goes_away(node):
    put(node, "k", os.urandom(8 * MIB))
    get = subprocess.Popen([program("yolk"), "--url", node.url, "get", "k"], stdout=subprocess.PIPE)
    assert len(get.stdout.read(10)) == 10
    get.stdout.close()
    assert get.wait(60) == -signal.SIGPIPE


def test_progress_of_a_long_transfer(node, place):
    master, slave = pty.openpty()
    p = place.spawn([program("yolk"), "--url", node.url, "put", "k", "-"], stdin=subprocess.PIPE, stdout=slave,
                    stderr=slave, env=clean_env())

    def shown():
        p.stdin.write(b"x")
        p.stdin.flush()
        return select.select([master], [], [], 0)[0]

    wait_for(shown, "a line of progress")

    def read_until(end):  # a terminal may give it in pieces
        text = b""
        while not text.endswith(end):
            assert select.select([master], [], [], 60)[0], text
            text += os.read(master, 4096)
        return text

    assert re.match(rb"\rput: \d+ B, \d+ B/s\x1b\[K", read_until(b"\x1b[K"))
    p.stdin.close()
    assert p.wait(60) == 0
    read_until(b"\r\x1b[K")
    os.close(master)
    os.close(slave)


def test_json_of_put_and_get(node, place):
    assert node.json("put", "k", "-", data=b"abc") == [{"key": "k", "len": 3}]
    got, = node.json("get", "k", place.dir / "out")
    assert got["len"] == got["written"] == 3 and re.fullmatch("[0-9a-f]{16}", got["checksum"])


# ---- keys -------------------------------------------------------------------------------------


def test_binary_keys(node):
    key = bytes(range(256))[1:]  # 255 bytes, all but NUL
    put(node, key)
    put(node, "00ff0a", b"x", "--hex")
    assert keys(node, "--hex") == ["00ff0a", key.hex()]
    assert "\\x00\\xff\\x0a" in keys(node)
    assert [line["key_hex"] for line in node.json("ls", "--hex", "00")] == ["00ff0a"]
    listed = {line.get("key_hex") for line in node.json("ls")}
    assert listed == {"00ff0a", key.hex()}
    stat = node.yolk("stat", "--hex", "--keys", "-", data=node.yolk("ls", "--hex").stdout.encode())
    assert stat.returncode == 0 and len(stat.stdout.splitlines()) == 3


def test_control_characters_do_not_reach_the_terminal(node):
    put(node, "\x1b[31mred\u009b\\")
    assert keys(node) == ["\\x1b[31mred\\xc2\\x9b\\\\"]
    assert "\x1b" not in node.yolk("get", "\x1b[31mblue").stderr


def test_keys_from_a_file(node, place):
    listed = place.dir / "keys"
    put(node, "a")
    put(node, "b")
    listed.write_text("a\nb\nc")
    assert node.yolk("match", "--keys", listed).stdout == "2 of 3\n"
    listed.write_text("a\n\nb\n")
    assert f"{listed}:2: found '' of 0 bytes" in one_line(node.yolk("match", "--keys", listed), 2)
    assert "-:2: found 'xyz'" in one_line(node.yolk("match", "-x", data=b"00\nxyz\n"), 2)


# ---- looking ----------------------------------------------------------------------------------


def test_ls(node):
    for key in ("a/1", "a/2", "b/1"):
        put(node, key)
    assert keys(node) == ["a/1", "a/2", "b/1"]
    assert keys(node, "a/") == ["a/1", "a/2"]
    assert keys(node, "nothing") == []
    assert len(keys(node, "--limit", "2")) == 2
    head, *lines = node.yolk("ls", "--long", "b").stdout.splitlines()
    assert head.split() == ["BYTES", "TIER", "PIN", "TTL", "CHILDREN", "KEY"]
    assert [line.split() for line in lines] == [["10", "dram", "-", "-", "0", "b/1"]]


def test_match(node):
    put(node, "a")
    put(node, "b", b"four")
    assert node.yolk("match", "a", "b", "c", "a").stdout == "2 of 4\n"
    done = node.yolk("match", "c", "a")
    assert done.returncode == 3 and done.stdout == "0 of 2\n"
    assert node.yolk("match", data=b"a\nb\n").stdout == "2 of 2\n"
    long = node.yolk("match", "--long", "a", "b", "c").stdout.splitlines()
    assert [line.split() for line in long] == [["10", "dram", "a"], ["4", "dram", "b"], ["2", "of", "3"]]
    found, = node.json("match", "--long", "a", "b", "c")
    assert found == {"matched": 2, "of": 3, "blocks": [{"key": "a", "len": 10, "tier": "dram"},
                                                      {"key": "b", "len": 4, "tier": "dram"}]}
    assert node.json("match", "a", "b", "c") == [found]


def test_stat_of_the_node(node):
    put(node, "k", b"x" * 5000)
    node.yolk("get", "k")
    node.yolk("get", "nothing")
    wait_for(lambda: node.stats()["local_misses"] == 1, "the node counted the look-ups")
    stats = node.stats()
    assert stats["blocks"] == 1 and stats["block_bytes"] == 5000 and stats["commits"] == 1
    assert stats["local_hits"] == 1 and stats["pid"] == node.process.pid
    text = node.yolk("stat").stdout
    assert re.search(r"process %d, .* policy learned" % node.process.pid, text)
    assert "hit ratio 50.00 %" in text
    assert re.search(r"^  in blocks +4.88 KiB$", text, re.M) and re.search(r"^  commit +\d", text, re.M)


def test_stat_says_which_is_not_there(node):
    put(node, "a")
    done = node.yolk("stat", "a", "b")
    assert done.returncode == 3 and done.stderr == "yolk: stat 'b': not here\n"
    assert done.stdout.splitlines()[1].split()[-1] == "a"
    there, gone = map(json.loads, node.yolk("--json", "stat", "a", "b").stdout.splitlines())
    assert there["key"] == "a" and there["status"] == "ok" and there["len"] == 10
    assert gone == {"key": "b", "status": "miss"}


# ---- changing ---------------------------------------------------------------------------------


def test_rm(node):
    for key in ("a/1", "a/2", "b/1", "b/2", "c"):
        put(node, key)
    assert node.yolk("rm", "c").stdout == ""
    assert one_line(node.yolk("rm", "c"), 3) == "yolk: rm 'c': not here"
    assert node.yolk("rm", "--force", "c").returncode == 0
    assert node.yolk("rm", "--prefix", "a/").stdout == "2 removed\n"
    assert keys(node) == ["b/1", "b/2"]
    assert node.json("rm", "--pattern", "?/[2-9]") == [{"removed": 1}]
    assert node.yolk("rm", "--all").stdout == "1 removed\n"
    assert keys(node) == []


def test_json_of_changes(node):
    put(node, "a")
    done = node.yolk("--json", "rm", "a", "b")
    assert done.returncode == 3
    assert [json.loads(line) for line in done.stdout.splitlines()] == [{"key": "a", "status": "ok"},
                                                                      {"key": "b", "status": "miss"}]


def test_pins(node):
    def pinned():
        return node.json("stat", "k")[0]["pinned"]

    put(node, "k")
    assert node.yolk("pin", "k").returncode == 0 and pinned() == "hard"
    assert node.yolk("unpin", "k").returncode == 0 and pinned() is None
    assert node.yolk("pin", "--for", "1h", "k").returncode == 0 and pinned() == "soft"
    assert one_line(node.yolk("pin", "nothing"), 3) == "yolk: pin 'nothing': not here"


def test_expire(node):
    put(node, "k")
    assert node.yolk("expire", "--ttl", "1h", "k").returncode == 0
    assert node.json("stat", "k")[0]["expiry_ms"] > time.time() * 1000
    assert node.yolk("expire", "--ttl", "0", "k").returncode == 0
    assert node.json("stat", "k")[0]["expiry_ms"] == 0
    assert node.yolk("expire", "--ttl", "1ms", "k").returncode == 0
    wait_for(lambda: node.yolk("get", "k").returncode == 3, "it is gone")


def test_touch_and_prefetch(node):
    put(node, "k")
    assert node.yolk("touch", "k").returncode == 0
    assert one_line(node.yolk("touch", "nothing"), 3) == "yolk: touch 'nothing': not here"
    assert "one tier" in node.yolk("prefetch", "k").stdout
    raised, = node.json("prefetch", "k", "--deadline", "10ms")
    assert raised["raised"] == 0 and raised["of"] == 1 and "one tier" in raised["why"]


def test_touch_decides_who_leaves(make_node):
    node = make_node("--capacity-blocks", "3").start()
    for key in "abc":
        put(node, key)
    assert node.yolk("touch", "a").returncode == 0
    put(node, "d")
    assert keys(node) == ["a", "c", "d"]


# ---- namespaces -------------------------------------------------------------------------------


def test_namespaces_are_apart(node):
    put(node, "k", b"ours")
    assert node.yolk("--namespace", "other", "get", "k").returncode == 3
    assert node.yolk("-n", "other", "put", "k", "-", data=b"theirs").returncode == 0
    assert node.yolk("get", "k").stdout == "ours"
    assert {line["name"]: line["blocks"] for line in node.json("ns")} == {"default": 1, "other": 1}
    assert node.yolk("-n", "other", "rm", "--all").stdout == "1 removed\n"
    assert node.yolk("get", "k").stdout == "ours"


def test_looking_makes_no_namespace(node):
    put(node, "k")
    for options in ([], ["--no-map"]):
        for command in (["get", "k"], ["ls"], ["stat", "k"], ["match", "k"], ["touch", "k"], ["rm", "--all"],
                        ["prefetch", "k"], ["--epoch", 3, "get", "k"]):
            text = one_line(node.yolk("-n", "tpyo", *options, *command), 3)
            assert "namespace 'tpyo' does not exist" in text
    for command in (["stat"], ["top", "--once"], ["ns", "list"], ["ns", "create", "new"]):
        assert node.yolk("-n", "tpyo", *command).returncode == 0
    assert {line["name"] for line in node.json("ns")} == {"default", "new"}


def test_more_namespaces_than_there_may_be(node):
    put(node, "k")
    for i in range(255):
        assert node.yolk("ns", "create", f"n{i}").returncode == 0
    full = "all 256 namespaces are taken"
    assert f"{full}: remove one" in one_line(node.yolk("-n", "new", "put", "k", "-", data=b"x"), 1)
    assert node.yolk("ns", "rm", "n7").returncode == 0
    assert f"{full}, 1 of them removed: restart the node" in one_line(node.yolk("ns", "create", "new"), 1)
    assert node.yolk("ls").stdout == "k\n"
    assert node.stop() == 0
    node.start()
    assert node.yolk("-n", "new", "put", "k", "-", data=b"x").returncode == 0


def test_ns_life(node):
    assert node.yolk("ns", "create", "a", "--quota", "1M").returncode == 0
    assert node.yolk("ns", "quota", "a", "2M").returncode == 0
    info = {line["name"]: line for line in node.json("ns", "list")}["a"]
    assert info["quota_bytes"] == 2 * MIB and info["blocks"] == 0
    assert re.search(r"^ +0 +0 B +2 MiB +- +- +- +- +\d+  a$", node.yolk("ns").stdout, re.M)
    assert node.json("ns", "quota", "a", "3M") == [{**info, "quota_bytes": 3 * MIB}]
    assert node.json("ns", "epoch", "a", 7)[0]["epoch"] == 7
    assert node.json("ns", "create", "b", "--quota", "1M")[0]["quota_bytes"] == MIB
    assert "the node is in no cluster" in one_line(node.yolk("ns", "copies", "b", "2"), 1)
    assert "found 9, expected at most 8" in one_line(node.yolk("ns", "copies", "b", "9"), 2)
    assert node.json("ns", "rm", "b") == [{"name": "b", "status": "ok"}]
    assert node.yolk("ns", "rm", "a").returncode == 0
    assert "a" not in {line["name"] for line in node.json("ns")}
    one_line(node.yolk("ns", "rm", "a"), 1)
    assert "found '2 apples', expected a size" in one_line(node.yolk("ns", "quota", "a", "2 apples"), 2)


def test_a_quota_makes_no_namespace(node):
    assert "namespace 'tpyo': there is none of that name" in one_line(node.yolk("ns", "quota", "tpyo", "1M"), 1)
    assert "tpyo" not in {line["name"] for line in node.json("ns")}


def test_limits_are_told_with_figures(make_node):
    node = make_node("--held-percent", "10", dram="32M").start()
    big = bytes(900_000)
    assert node.yolk("ns", "create", "q", "--quota", "2M").returncode == 0
    assert "quota exceeded: 'q' has 0 B of 2 MiB" in one_line(node.yolk("-n", "q", "put", "k", "-", data=bytes(3 * MIB)),
                                                              1)
    pinned = [node.yolk("put", "--pin", "hard", f"k{i}", "-", data=big).returncode for i in range(2)]
    assert pinned == [0, 0]
    assert node.yolk("put", "k3", "-", data=big).returncode == 0
    for done in (node.yolk("pin", "k3"), node.yolk("put", "--pin", "hard", "k4", "-", data=big)):
        assert re.search(r": [\d.]+ [KM]iB are pinned hard, at most 2\.4 MiB may be \(yolkd's --held-percent\)$",
                         one_line(done, 1))


def test_epochs(node):
    put(node, "k")
    epoch = node.json("ns")[0]["epoch"] + 5
    assert node.yolk("ns", "epoch", "default", epoch).returncode == 0
    assert node.yolk("get", "k").returncode == 3
    put(node, "k", b"of the new weights")
    one_line(node.yolk("ns", "epoch", "default", epoch - 1), 1)
    one_line(node.yolk("--epoch", epoch - 1, "get", "k"), 1)
    assert node.yolk("--epoch", epoch, "get", "k").stdout == "of the new weights"
    line = one_line(node.yolk("ns", "epoch", "default", 2**64 - 1), 2)
    assert "found epoch 18446744073709551615, expected at most 18446744073709551614" in line
    # Who only looks raises nothing: the block would be gone.
    for command in (["get", "k"], ["ls"], ["stat", "k"], ["match", "k"], ["touch", "k"], ["prefetch", "k"], ["rm", "k"]):
        text = one_line(node.yolk("--epoch", epoch + 1, *command), 1)
        assert f"'default' is at {epoch}, and {command[0]} does not raise it" in text
    assert node.yolk("get", "k").stdout == "of the new weights"
    assert node.yolk("--epoch", epoch + 1, "put", "other", "-", data=b"x").returncode == 0
    assert node.yolk("get", "k").returncode == 3 and node.json("ns")[0]["epoch"] == epoch + 1


# ---- top --------------------------------------------------------------------------------------


def test_top_once(node):
    put(node, "k", b"x" * MIB)
    node.yolk("get", "k")
    text = node.yolk("top", "--once", "--interval", "100ms").stdout
    assert f"{node.url}  process {node.process.pid}" in text
    assert re.search(r"^dram +\[.{30}\] 1 MiB of 64 MiB in 1 blocks", text, re.M)
    assert re.search(r"^puts +0 +1 ", text, re.M) and re.search(r"1 +1 MiB +- +-  default$", text, re.M)
    assert "\x1b" not in text
    assert re.search(r"^hits +0 +1 ", node.yolk("top", "--interval", "100ms").stdout, re.M)  # no terminal


def test_top_latencies_are_of_the_interval(node):
    for i in range(50):
        put(node, f"k{i}", b"x")
    first, second = node.json("top", "--count", "2", "--interval", "200ms")
    for line in first, second:  # nothing was committed meanwhile; the looks themselves were answered
        latency = line["latency"]
        assert latency["commit"] == {"per_s": 0, "p50_us": None, "p99_us": None, "p999_us": None}
        assert latency["stats"]["per_s"] > 0 and 0 < latency["stats"]["p50_us"] <= latency["stats"]["p999_us"]
    total = node.stats()["latency"]["commit"]
    assert total["count"] == sum(total["buckets"][1::2]) >= 50 and total["p50_us"] > 0


def test_top_json(node):
    lines = node.json("top", "--count", "3", "--interval", "100ms")
    assert len(lines) == 3
    for line in lines:
        assert line["interval_s"] > 0 and line["blocks"] == 0 and line["hit_ratio"] is None
        assert set(line["evict_space"]) == {"per_s", "total"}
    assert lines[-1]["latency"]["stats"]["per_s"] > 0


class Terminal:
    """yolk top on a pseudo-terminal."""

    def __init__(self, place, *args):
        self.master, self.slave = pty.openpty()
        self.resize(24, 80)
        self.before = termios.tcgetattr(self.slave)
        self.text = ""
        self.process = place.spawn([program("yolk"), *args], stdin=self.slave, stdout=self.slave, stderr=self.slave,
                                   env=clean_env(), start_new_session=True,
                                   preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))

    def resize(self, rows, columns):
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self):
        while select.select([self.master], [], [], 0)[0]:
            self.text += os.read(self.master, 65536).decode(errors="replace")
        return self.text

    def wait(self, text):
        try:
            wait_for(lambda: text in self.read(), f"{text!r} on the screen")
        except AssertionError as e:
            raise AssertionError(f"{e}; there is {self.text[-300:]!r}, exit code {self.process.poll()}") from None
        return self.text

    def ended(self):
        wait_for(lambda: self.read() is not None and self.process.poll() is not None, "it ends")
        assert termios.tcgetattr(self.slave) == self.before
        assert self.read().endswith("\x1b[?25h\x1b[?1049l")
        return self.process.returncode

    def close(self):
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminal(place):
    made = []

    def make(*args):
        made.append(Terminal(place, *args))
        return made[-1]

    yield make
    for t in made:
        t.close()


def test_top_live(node, terminal):
    t = terminal("--url", node.url, "top", "--interval", "100ms")
    t.wait("hit ratio")
    assert t.text.startswith("\x1b[?1049h\x1b[?25l\x1b[H")
    assert termios.tcgetattr(t.slave)[3] & (termios.ECHO | termios.ICANON) == 0
    put(node, "k", b"x" * MIB)
    t.wait("1 MiB of 64 MiB")
    os.write(t.master, b"xyz q")
    assert t.ended() == 0


def test_top_fits_the_terminal(node, terminal):
    t = terminal("--url", node.url, "top", "--interval", "1h")
    t.wait("\x1b[J")
    t.text = ""
    t.resize(3, 20)  # SIGWINCH draws again, long before the interval is over
    t.wait("\x1b[J")
    screen = t.text[t.text.index("\x1b[H") + 3:t.text.index("\x1b[J")]
    rows = screen.replace("\x1b[K", "").replace("\r", "").split("\n")
    assert len(rows) == 3 and max(map(len, rows)) <= 20 and rows[0].startswith("yolkd ")
    os.write(t.master, b"q")
    assert t.ended() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_top_restores_the_terminal(node, terminal, number):
    t = terminal("--url", node.url, "top")
    t.wait("hit ratio")
    t.process.send_signal(number)
    assert t.ended() == 0


def test_top_stopped_and_continued(node, terminal):
    t = terminal("--url", node.url, "top", "--interval", "100ms")
    t.wait("hit ratio")
    t.process.send_signal(signal.SIGTSTP)
    t.wait("\x1b[?25h\x1b[?1049l")
    wait_for(lambda: open(f"/proc/{t.process.pid}/stat").read().rsplit(")")[-1].split()[0] == "T", "it stops")
    assert termios.tcgetattr(t.slave) == t.before
    t.text = ""
    t.process.send_signal(signal.SIGCONT)
    t.wait("\x1b[?1049h")
    os.write(t.master, b"q")
    assert t.ended() == 0


def test_top_outlives_the_node(node, terminal):
    t = terminal("--url", node.url, "--timeout", "200ms", "top", "--interval", "100ms")
    t.wait("hit ratio")
    node.stop(signal.SIGKILL)
    t.wait("NO ANSWER: ")
    node.start()
    t.wait(f"process {node.process.pid}")
    os.write(t.master, b"q")
    assert t.ended() == 0


def test_rm_all_asks_on_a_terminal(node, place):
    put(node, "k")
    for answer, left in ((b"n\n", ["k"]), (b"y\n", [])):
        master, slave = pty.openpty()
        p = place.spawn([program("yolk"), "--url", node.url, "rm", "--all"], stdin=slave, stdout=subprocess.PIPE,
                        stderr=subprocess.PIPE, env=clean_env())
        os.write(master, answer)
        out, err = p.communicate(timeout=60)
        os.close(master)
        os.close(slave)
        assert b"remove all blocks of namespace 'default'? [y/N]" in err
        assert keys(node) == left and p.returncode == (1 if left else 0)


# ---- bench ------------------------------------------------------------------------------------


def test_bench_list():
    names = [line.split()[0] for line in yolk("bench", "list").stdout.splitlines()]
    assert "alloc" in names
    assert [json.loads(line)["name"] for line in yolk("bench", "list", "--json").stdout.splitlines()] == names


def test_bench_json():
    done = yolk("bench", "alloc", "--quick", "--json")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert {"usable one-size", "ops"} <= {row["case"] for row in rows}
    for row in rows:
        assert set(row) == {"bench", "case", "value", "unit", "limit", "ratio", "p50_us", "p99_us", "p999_us", "cpu_s"}
        assert row["bench"] == "alloc"

# SPDX-License-Identifier: Apache-2.0
"""A client on another host: two network namespaces with two rails between them, a node in one of them.

The namespaces belong to two sleeping processes and to nothing else: when those are gone, at the end of the
test or by the janitor's hand, so are the devices between them.
"""
import json
import os
import shutil
import subprocess

import pytest

from harness import DEADLINE_S, clean_env, program, wait_for
from test_replay import real_trace, room_for

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="making network namespaces needs root"),
    pytest.mark.skipif(any(shutil.which(p) is None for p in ("ip", "nsenter", "unshare")),
                       reason="ip, nsenter or unshare is not installed"),
]

PORT = 7791
BLOCK = 128 << 10
REQUESTS = 4000 if os.environ.get("YOLK_LONG") == "1" else 1000
CAPACITY = 2000
LONG_S = 900


class Host:
    """A network namespace, for as long as its process lives."""

    def __init__(self, place):
        self.process = place.spawn(["unshare", "--net", "sleep", "infinity"])
        mine = os.readlink("/proc/self/ns/net")
        wait_for(lambda: os.readlink(f"/proc/{self.process.pid}/ns/net") != mine, "a namespace of its own")
        self.enter = ["nsenter", f"--net=/proc/{self.process.pid}/ns/net"]
        self.run("ip", "link", "set", "lo", "up")

    def run(self, *args, check=True, seconds=DEADLINE_S):
        done = subprocess.run([*self.enter, *map(str, args)], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              env=clean_env(), timeout=seconds)
        assert not check or done.returncode == 0, done.stderr
        return done

    def yolk(self, *args, **options):
        return self.run(program("yolk"), "--url", f"tcp:10.78.0.1:{PORT}", "--no-shm", *args, **options)

    def spawn(self, place, *args):
        return place.spawn([*self.enter, program("yolk"), "--url", f"tcp:10.78.0.1:{PORT}", "--no-shm", *map(str, args)],
                           stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=clean_env(),
                           text=True)

    def sent(self, device):
        """Bytes that this namespace has sent over a device."""
        links = json.loads(self.run("ip", "-json", "-stats", "link", "show", device).stdout)
        return links[0]["stats64"]["tx"]["bytes"]


class Rails:
    """Host 1 has the node, host 2 the clients; rail i is device ri, 10.78.i.1 and 10.78.i.2."""

    def __init__(self, place, count):
        self.hosts = [Host(place), Host(place)]
        one, two = self.hosts
        for i in range(count):
            one.run("ip", "link", "add", f"r{i}", "type", "veth", "peer", "name", f"r{i}", "netns", two.process.pid)
            for number, host in enumerate(self.hosts, 1):
                host.run("ip", "addr", "add", f"10.78.{i}.{number}/24", "dev", f"r{i}")
                host.run("ip", "link", "set", f"r{i}", "up")

    def node(self, make_node, *options, transfer="0.0.0.0:0", **settings):
        node = make_node("--listen", f"tcp:10.78.0.1:{PORT}", "--transfer", transfer, "--insecure-network", *options,
                         **settings)
        return node.start(before=self.hosts[0].enter)


def replay_options(trace):
    return ["replay", trace, "--requests", REQUESTS, "--block", BLOCK, "--exact"]


def result_of(process):
    out, err = process.communicate(timeout=LONG_S)
    assert process.returncode == 0, err
    return json.loads(out)


def test_the_real_trace_over_two_rails_of_which_one_is_cut(place, make_node):
    """The same hits as on the node's own host, every byte right, payload by the engine. The rail that carries more of
    it is cut in the middle: the other one goes on, and nothing is lost. (The connection has a rail of its own.)"""
    trace = real_trace()
    room_for(2 * CAPACITY, BLOCK)
    limits = ["--capacity-blocks", CAPACITY, "--held-percent", 50, "--policy", "lru"]  # what hits depends on no clock
    dram = f"{(CAPACITY * BLOCK >> 20) + 256}M"
    local = make_node(*limits, dram=dram, name="local").start()
    expected = local.json(*replay_options(trace), seconds=LONG_S)[0]
    local.stop()
    assert expected["xfer_bytes"] == 0 and expected["wrong_bytes"] == 0

    rails = Rails(place, 3)
    node = rails.node(make_node, *limits, dram=dram, name="far")
    client = rails.hosts[1].spawn(place, "--json", "--rails", "r1,r2", *replay_options(trace))

    def moved():
        assert client.poll() is None, client.communicate()
        stats = node.stats()
        return stats["remote_read_bytes"] > 16 << 20 and stats["remote_write_bytes"] > 64 << 20

    wait_for(moved, "payload by the engine", LONG_S)
    one, two = rails.hosts
    busy, spare = sorted(("r1", "r2"), key=two.sent, reverse=True)
    assert two.sent(busy) > 32 << 20
    one.run("ip", "link", "set", busy, "down")
    before = two.sent(spare)
    result = result_of(client)
    assert two.sent(spare) - before > 32 << 20 and two.sent("r0") < 32 << 20
    assert result["wrong_bytes"] == 0 and result["refused"] == 0 and result["requests"] == REQUESTS
    assert result["hit_blocks"] == expected["hit_blocks"] and result["puts"] == expected["puts"]
    assert result["checked_bytes"] == result["get_bytes"] == expected["get_bytes"]
    everything = result["put_bytes"] + result["get_bytes"]
    assert result["xfer_bytes"] > everything // 2 and result["xfer_bytes"] <= everything
    stats = node.stats()
    assert stats["remote_read_bytes"] + stats["remote_write_bytes"] >= result["xfer_bytes"]
    assert node.stop() == 0


@pytest.mark.parametrize("options, by_engine", [([], True), (["--no-xfer"], False), (["--rails", "r0"], True)])
def test_put_and_get_from_another_host(place, make_node, options, by_engine):
    rails = Rails(place, 2)
    node = rails.node(make_node)
    two = rails.hosts[1]
    path, back = place.dir / "block", place.dir / "back"
    path.write_bytes(os.urandom(3 << 20))
    before = rails.hosts[0].sent("r1") + two.sent("r1")
    for i in range(8):
        two.yolk(*options, "put", f"k{i}", path)
        two.yolk(*options, "get", f"k{i}", back)
        assert back.read_bytes() == path.read_bytes()
        back.unlink()
    stats = node.stats()
    moved = stats["remote_read_bytes"], stats["remote_write_bytes"]
    assert moved == ((8 * (3 << 20),) * 2 if by_engine else (0, 0))
    if options:
        assert rails.hosts[0].sent("r1") + two.sent("r1") - before < 1 << 20
    assert node.stop() == 0


def test_an_engine_that_nobody_reaches_is_done_without(place, make_node):
    """It listens on a rail that is gone before the client comes: everything goes through the connection, within the
    call's time."""
    rails = Rails(place, 2)
    node = rails.node(make_node, transfer="10.78.1.1:0")
    one, two = rails.hosts
    # The client still has a way there, at whose end nobody is.
    one.run("ip", "addr", "del", "10.78.1.1/24", "dev", "r1")
    path, back = place.dir / "block", place.dir / "back"
    path.write_bytes(os.urandom(1 << 20))
    two.yolk("put", "k", path)
    two.yolk("get", "k", back)
    assert back.read_bytes() == path.read_bytes()
    stats = node.stats()
    assert stats["remote_read_bytes"] == stats["remote_write_bytes"] == 0
    assert node.stop() == 0


@pytest.mark.skipif(not os.path.exists("/dev/net/tun"), reason="there is no TUN device")
def test_exact_bytes_over_a_long_way_that_loses_packets(place, make_node):
    """50 ms there and back, 100 Mbit/s, one packet in a hundred lost: every byte is right, by engine and socket."""
    one, two = Host(place), Host(place)
    link = place.spawn([program("wan_link"), one.process.pid, two.process.pid, 25, 100, 1, 7], stdin=subprocess.PIPE,
                       stdout=subprocess.PIPE, text=True)
    assert link.stdout.readline() == "up\n"
    for number, host in enumerate((one, two), 1):
        host.run("ip", "addr", "add", f"10.78.0.{number}/24", "dev", "wan0")
        host.run("ip", "link", "set", "wan0", "up")
    node = make_node("--listen", f"tcp:10.78.0.1:{PORT}", "--transfer", "0.0.0.0:0", "--insecure-network")
    node.start(before=one.enter)
    path, back = place.dir / "block", place.dir / "back"
    for i, size in enumerate((100, 70_000, 1 << 20, 3_000_001, 8 << 20)):
        path.write_bytes(os.urandom(size))
        two.yolk("--timeout", "50s", "put", f"k{i}", path)
        two.yolk("--timeout", "50s", "get", f"k{i}", back)
        assert back.read_bytes() == path.read_bytes()
        back.unlink()
    stats = node.stats()
    assert stats["remote_write_bytes"] >= 8 << 20 and stats["remote_read_bytes"] >= 8 << 20
    assert node.stop() == 0
    out, _ = link.communicate("", DEADLINE_S)
    for way in out.splitlines():
        passed, lost = map(int, way.split())
        assert passed > 100 and lost > 0
    assert link.returncode == 0

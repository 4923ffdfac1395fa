# SPDX-License-Identifier: Apache-2.0
"""--transports of the programs: the ways that the transfer engine takes, by name. (Over RDMA devices: tests/vm.)"""
import json
import os
import subprocess

import pytest

from harness import DEADLINE_S, clean_env, program, yolk


@pytest.fixture
def target():
    process = subprocess.Popen([program("yolk"), "xfer", "serve", "--json", "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE,
                               env=clean_env(), text=True)
    said = json.loads(process.stdout.readline())
    yield f"{said['address']}/{said['segment']}"
    process.terminate()
    process.wait(DEADLINE_S)
    process.stdout.close()


def ways(*args):
    """The transports that the engine has, and those of its rails."""
    done = yolk("--json", "xfer", "links", *args)
    assert done.returncode == 0, done.stderr
    links = json.loads(done.stdout)
    rails = [rail["transport"] for shard in links["shards"] for peer in shard["peers"] for rail in peer["rails"]]
    return set(links["transports"]), set(rails)


def test_the_engine_takes_those_that_are_named(target):
    assert ways(target, "--transports", "tcp") == ({"tcp"}, {"tcp"})
    assert ways(target, "--transports", "tcp,mem") == ({"tcp", "mem"}, {"tcp"})
    named, _ = ways(target, "--transports", "all")
    assert {"mem", "shm", "rdma", "tcp", "file"} <= named
    assert "rdma" not in ways(target)[0]
    done = yolk("--json", "bench", "xfer", "--quick", "--target", target, "--transport", "tcp")
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(os.path.isdir("/sys/class/infiniband") and os.listdir("/sys/class/infiniband") != [],
                    reason="this host has RDMA devices")
def test_rdma_alone_says_what_is_missing(target):
    done = yolk("xfer", "links", target, "--transports", "rdma")
    assert done.returncode != 0 and "no RDMA: " in done.stderr


@pytest.mark.parametrize("command", [["yolk", "xfer", "links", "a/b"], ["yolk", "stat", "k"], ["yolkd"]])
def test_names_that_are_none(command):
    done = subprocess.run([program(command[0]), *command[1:], "--transports", "tcp,pigeon"], env=clean_env(), text=True,
                          capture_output=True, timeout=DEADLINE_S)
    assert done.returncode == 2 and "'pigeon'" in done.stderr and "rdma" in done.stderr

# SPDX-License-Identifier: Apache-2.0
"""--transports of the programs: the ways that the transfer engine takes, by name. (Over RDMA devices: tests/vm.)"""
import json
import os
import subprocess

import pytest

from cluster_nodes import free_port
from harness import DEADLINE_S, clean_env, one_line, program, yolk, yolkd

no_rdma = pytest.mark.skipif(os.path.isdir("/sys/class/infiniband") and os.listdir("/sys/class/infiniband") != [],
                             reason="this host has RDMA devices")


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


@no_rdma
def test_rdma_alone_says_what_is_missing(target):
    done = yolk("xfer", "links", target, "--transports", "rdma")
    assert done.returncode != 0 and "no RDMA: " in done.stderr


@no_rdma
def test_the_benchmark_of_rdma_says_what_is_missing():
    done = yolk("bench", "xfer", "--transport", "rdma")
    assert done.returncode == 2 and done.stdout == "" and "rdma is left out: no RDMA: " in done.stderr


def test_no_shm_holds_whatever_is_named(target):
    assert all("shm" in found for found in ways(target, "--transports", "shm,tcp"))
    assert ways(target, "--no-shm", "--transports", "shm,tcp") == ({"tcp"}, {"tcp"})
    for args in ["serve"], ["links", target]:
        said = one_line(yolk("xfer", *args, "--no-shm", "--transports", "shm"), 2)
        assert "--no-shm" in said and "--transports shm" in said


@pytest.fixture
def client(make_node):
    """yolk at a node's TCP address, without shared memory."""
    url = f"tcp:127.0.0.1:{free_port()}"
    make_node("--listen", url).start()
    return lambda named, *more: yolk("--url", url, "--no-shm", "--transports", named, *more, "stat")


def test_a_client_without_shm(client):
    """That it does not use it beside others: test_client_far."""
    assert "shm alone" in one_line(client("shm"), 2)
    for named in "shm,tcp", "rdma,tcp":
        done = client(named)
        assert done.returncode == 0, done.stderr


@no_rdma
def test_a_client_with_rdma_alone(client):
    assert "no RDMA: " in one_line(client("rdma"), 2)


@no_rdma
def test_a_node_with_rdma_alone(place):
    done = yolkd("--dram", "64M", "--listen", f"unix:{place.dir}/s", "--http", "none", "--shm-dir", place.shm,
                 "--transfer", "127.0.0.1:0", "--transports", "rdma")
    said = one_line(done, 1, "yolkd")
    assert "no RDMA: " in said and "give --transports others" in said


@pytest.mark.parametrize("command", [["yolk", "xfer", "links", "a/b"], ["yolk", "stat", "k"], ["yolkd"]])
def test_names_that_are_none(command):
    done = subprocess.run([program(command[0]), *command[1:], "--transports", "tcp,pigeon"], env=clean_env(), text=True,
                          capture_output=True, timeout=DEADLINE_S)
    assert done.returncode == 2 and "'pigeon'" in done.stderr and "rdma" in done.stderr


@pytest.mark.parametrize("settings, says", [
    ("device=rxe_of_nobody", "there is no device rxe_of_nobody"),
    ("traffic-class=256", "traffic-class: found '256', expected a number from 0 to 255"),
    ("pigeon=1", "found 'pigeon'"),
])
def test_settings_of_rdma(target, client, place, settings, says):
    """Each program says which entry it cannot use. (Those that it can: tests/vm.)"""
    named = ["--transports", "rdma,tcp", "--rdma", settings]
    assert says in one_line(yolk("xfer", "links", target, *named), 2)
    assert says in one_line(client("rdma,tcp", "--rdma", settings), 2)
    done = yolkd("--dram", "64M", "--listen", f"unix:{place.dir}/t", "--http", "none", "--shm-dir", place.shm,
                 "--transfer", "127.0.0.1:0", *named)
    assert says in one_line(done, 2, "yolkd")


def test_settings_of_rdma_without_it(target):
    said = one_line(yolk("xfer", "links", target, "--transports", "tcp", "--rdma", "depth=64"), 2)
    assert "depth=64" in said and "not among the transports" in said

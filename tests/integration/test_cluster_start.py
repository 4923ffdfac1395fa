# SPDX-License-Identifier: Apache-2.0
"""A node of a cluster starts, with a real etcd: whom it waits for, and what it says when it cannot be what it was
told to be.
"""
import os
import re
import shutil
import subprocess

import pytest

from cluster_nodes import Etcd, data, free_port, got, join, kill, until_there
from harness import DEADLINE_S, Node, wait_for

if shutil.which("etcd") is None:
    pytest.skip("etcd is missing (etcd-server)", allow_module_level=True)


# ---- a node starts, and who it needs is away ---------------------------------------------------


def test_a_node_that_starts_while_etcd_is_away_waits(make_cluster):
    cluster = make_cluster(1)
    node, client = cluster.nodes[0], cluster.client(0)
    client.put(b"kept", data(b"kept", 4000))
    cluster.drop_client(0)
    assert node.stop() == 0
    cluster.etcd.kill()
    seen = len(node.log())
    node.launch()
    wait_for(lambda: "waits to be a member of its cluster since 1" in node.log()[seen:], "it says what it waits for")
    assert node.process.poll() is None
    with node.connect() as waiting:  # a client is neither served nor refused
        cluster.etcd.start()
        wait_for(lambda: " serves " in node.log()[seen:], "it serves")
        waiting.close()
    assert got(cluster.client(0), b"kept") == data(b"kept", 4000)


def test_a_node_that_waits_for_etcd_can_be_stopped(make_cluster):
    cluster = make_cluster(1)
    node = cluster.nodes[0]
    assert node.stop() == 0
    cluster.etcd.kill()
    node.launch()
    wait_for(lambda: "waits to be a member" in node.log(), "it waits")
    assert node.stop() == 0


def test_a_node_alone_fills_an_etcd_that_lost_everything(make_cluster):
    cluster = make_cluster(2)
    cluster.client(0).put(b"kept", data(b"kept", 4000))
    for i, node in enumerate(cluster.nodes):
        cluster.drop_client(i)
        assert node.stop() == 0
    cluster.etcd.kill()
    shutil.rmtree(cluster.etcd.dir)
    cluster.etcd.start()
    cluster.nodes[0].start()  # the other one does not come
    assert cluster.client(0).get(b"kept") in (None, data(b"kept", 4000))
    assert cluster.infos(0)["n0"]["state"] == "member"


# ---- what a start says ------------------------------------------------------------------------


def refused(node, *more):
    node.launch(*more)
    code = node.process.wait(DEADLINE_S)
    return code, node.log().splitlines()[-1]


def test_no_etcd_is_said(place):
    nowhere = f"http://127.0.0.1:{free_port()}"
    node = Node(place, "--etcd", nowhere, "--node-name", "n0", "--state-dir", place.dir / "state")
    code, line = refused(node)
    assert code == 1 and "etcd" in line, line
    assert not list(place.shm.iterdir())


def test_wrong_credentials_are_said(place):
    if shutil.which("etcdctl") is None:
        pytest.skip("etcdctl is missing (etcd-client)")
    etcd = Etcd(place).start()
    for command in ("user add root:right", "user grant-role root root", "auth enable"):
        wait_for(lambda: subprocess.run(["etcdctl", "--endpoints", etcd.url, *command.split()], capture_output=True,
                                        env={**os.environ, "ETCDCTL_API": "3"}).returncode == 0, command)
    password = place.dir / "password"
    node = Node(place, "--etcd", etcd.url, "--node-name", "n0", "--state-dir", place.dir / "state", "--etcd-user", "root",
                "--etcd-password-file", password)
    password.write_text("wrong\n")
    code, line = refused(node)
    assert code == 1 and re.search("user|password|auth", line), line
    password.write_text("right\n")
    node.start()


def test_a_second_node_of_the_name_is_refused(make_cluster, place):
    cluster = make_cluster(1)
    twin = Node(place, "--etcd", cluster.etcd.url, "--node-name", "n0", "--state-dir", place.dir / "twin.state", name="twin")
    code, line = refused(twin)
    assert code == 1 and "n0" in line, line
    assert cluster.infos(0)["n0"]["state"] == "member"


def test_the_state_of_another_cluster_is_refused(make_cluster, place):
    cluster = make_cluster(1)
    cluster.nodes[0].stop()
    other = Node(place, "--etcd", cluster.etcd.url, "--node-name", "m0", "--cluster", "other", "--state-dir",
                 place.dir / "other.state", name="other").start()
    code, line = refused(cluster.nodes[0], "--cluster", "other")
    assert code == 1 and "cluster" in line, line
    assert other.process.poll() is None


def test_who_takes_the_last_member_s_name_goes_on_as_that(make_cluster, place):
    cluster = make_cluster(1)
    cluster.client(0).put(b"lost", data(b"lost", 4000))
    kill(cluster, 0)
    alone = cluster.node(1).launch()  # a new node returns first, and nobody is there to tell it anything
    wait_for(lambda: "waits to be a member of its cluster since 1" in alone.log(), "it says what it waits for")
    assert alone.stop() == 0
    shutil.rmtree(place.dir / "n0.state")
    cluster.nodes[0].start()
    cluster.nodes.append(join(cluster.node(1)))
    cluster.until_members(0, ["n0", "n1"])
    assert cluster.client(0).get(b"lost") is None  # nobody knows if it was removed
    cluster.client(1).put(b"new", data(b"new", 4000))
    until_there(cluster.client(0), b"new")


def test_a_wrong_prefix_is_no_etcd_that_was_emptied(make_cluster):
    cluster = make_cluster(1)
    cluster.nodes[0].stop()
    code, line = refused(cluster.nodes[0], "--cluster", "nowhere")
    assert code == 1 and "nothing under 'nowhere/'" in line and "under 'yolk/'" in line, line
    cluster.nodes[0].start()


def test_options_belong_together(place):
    node = Node(place, name="wrong")
    for options, text in [
        (["--zone", "r1"], "--zone: found it without --etcd"),
        (["--etcd", "http://127.0.0.1:1", "--transfer", "off"], "--transfer: found 'off' with --etcd"),
        (["--etcd", "http://127.0.0.1:1", "--etcd-user", "u"], "--etcd-user: found it without --etcd-password-file"),
        (["--etcd", "http://127.0.0.1:1", "--state-dir", "/nowhere/at/all"], "--state-dir: found '/nowhere/at/all'"),
        (["--etcd", "http://127.0.0.1:1", "--state-dir", place.dir / "s", "--peer-listen", "192.0.2.1:0"],
         "--peer-listen: found '192.0.2.1:0', expected a loopback address"),
        (["--etcd", "http://127.0.0.1:1", "--peer-listen", "7000"], "--peer-listen: found '7000', expected HOST:PORT"),
    ]:
        code, line = refused(node, *options)
        assert code == 2 and text in line, line

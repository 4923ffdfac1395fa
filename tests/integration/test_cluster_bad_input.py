# SPDX-License-Identifier: Apache-2.0
"""What a cluster is given that is not as it should be, whole nodes and a real etcd: etcd's users and passwords at a
node's start, and hosts whose clocks don't agree. Each is a message that says what to do, or does no harm.

Other kinds of bad input are with the part that refuses them (ROADMAP.md, "Proof and bad input").
"""
import os
import shutil
import signal
import struct
import subprocess

import pytest

from cluster_nodes import Cluster, Etcd
from harness import DEADLINE_S, clean_env, program, wait_for, yolkd

if shutil.which("etcd") is None:
    pytest.skip("etcd is missing (etcd-server)", allow_module_level=True)


# ---- credentials ------------------------------------------------------------------------------


def guard(etcd, prefix):
    """From now on etcd wants a user: `yolk`, password `right`, may do all under this prefix."""
    if shutil.which("etcdctl") is None:
        pytest.skip("etcdctl is missing (etcd-client)")
    for words in ("user add root:rootpw", "user add yolk:right", "role add yolk",
                  f"role grant-permission yolk readwrite --prefix=true {prefix}/", "user grant-role yolk yolk", "auth enable"):
        done = subprocess.run(["etcdctl", "--endpoints", etcd.url, *words.split()], env={**os.environ, "ETCDCTL_API": "3"},
                              capture_output=True, text=True, timeout=DEADLINE_S)
        assert done.returncode == 0, (words, done.stderr)


def test_credentials_that_etcd_refuses_are_said_at_the_start(place):
    etcd = Etcd(place).start()
    cluster = Cluster(place, etcd, 0)
    as_user = {}
    for password in ("right", "wrong"):
        path = place.dir / password
        path.write_text(password)
        as_user[password] = ("--etcd-user", "yolk", "--etcd-password-file", path)

    def cluster_node(name, prefix, *more):
        node = cluster.node(int(name[1]))
        node.options += ["--cluster", prefix, *more]
        return node

    def refused(says, *more, cluster="mine"):
        node = cluster_node("n1", cluster, *more)
        done = yolkd(*node.command()[1:])
        assert done.returncode == 1 and says in done.stderr, (done.returncode, done.stderr)
        assert len([line for line in done.stderr.splitlines() if line.startswith("yolkd: ")]) == 1, done.stderr

    first = cluster_node("n0", "mine", *as_user["right"]).start()  # as yet etcd has no users, which does no harm
    guard(etcd, "mine")
    refused("user")
    refused("check user and password", *as_user["wrong"])
    refused("permission", *as_user["right"], cluster="theirs")
    node = cluster_node("n1", "mine", *as_user["right"]).start()
    assert node.stop() == 0
    # One that was a member before does not wait for what no time changes.
    node.options += as_user["wrong"]
    done = yolkd(*node.command()[1:])
    assert done.returncode == 1 and "check user and password" in done.stderr, done.stderr
    assert first.process.poll() is None


# ---- clocks -----------------------------------------------------------------------------------


class Host:
    """Its calendar is some hours off (clock_shift.c); and, where time namespaces can be had, it has been up for longer."""

    def __init__(self, place, number, hours):
        path = place.dir / f"clock{number}"
        path.write_bytes(struct.pack("<q", int(hours * 3600e3)))
        self.env = {"LD_PRELOAD": program("libclock_shift.so"), "CLOCK_SHIFT_FILE": str(path),
                    "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"}
        self.before = []
        made = ["unshare", "--time", "--boottime", str(number * 100000), "--monotonic", str(number * 100000), "--fork",
                "--kill-child"]
        if shutil.which("nsenter") and subprocess.run([*made, "true"], capture_output=True).returncode == 0:
            pid_path = place.dir / f"host{number}"
            place.spawn([*made, "sh", "-c", f"echo $$ >{pid_path}.new; mv {pid_path}.new {pid_path}; exec sleep infinity"])
            wait_for(pid_path.exists, "a host")
            self.before = ["nsenter", f"--time=/proc/{pid_path.read_text().strip()}/ns/time"]

    def yolk(self, node, *args, data=None):
        return subprocess.run([*self.before, program("yolk"), "--url", node.url, *args], input=data, capture_output=True,
                              timeout=DEADLINE_S, env=clean_env(self.env))


def test_hosts_need_not_agree_about_the_time(make_cluster, place):  # noqa: F811
    cluster = make_cluster(0)
    hosts = [Host(place, i, hours) for i, hours in enumerate((0, -26, 26))]

    def start(i):
        cluster.nodes[i].start(before=hosts[i].before, env=hosts[i].env)

    def run(i, *args, data=None, codes=(0,)):
        done = hosts[i].yolk(cluster.nodes[i], *args, data=data)
        assert done.returncode in codes, (args, done.stderr)
        return done.stdout if done.returncode == 0 else None

    def members(i, count):
        wait_for(lambda: run(i, "nodes").count(b" member ") == count, f"n{i} sees {count} members")

    def put(i, key, *more):
        run(i, "put", key, "-", *more, data=key.encode() * 100)

    def remove(i, key):
        """Who is told that the deadline has passed asks again; it may be gone by then."""
        wait_for(lambda: hosts[i].yolk(cluster.nodes[i], "rm", key).returncode in (0, 3), f"{key} is removed by n{i}")

    def get(i, key):
        value = run(i, "get", key, codes=(0, 3))
        assert value in (None, key.encode() * 100)
        return value is not None

    for i in range(3):
        cluster.nodes.append(cluster.node(i))
        start(i)
    members(0, 3)
    for i in range(3):  # an hour is an hour, whatever day it is there
        put(i, f"hour{i}", "--ttl", "1h")
        put(i, f"both{i}", "--ttl", "1h", "--replicas", "2")
    for i in range(3):
        for j in range(3):
            wait_for(lambda: get(i, f"hour{j}") and get(i, f"both{j}"), f"n{i} finds what n{j} has")
    # Who comes back brings nothing back.
    remove(2, "hour0")
    assert not any(get(i, "hour0") for i in range(3))
    cluster.nodes[1].stop(signal.SIGKILL)
    members(0, 2)
    remove(0, "hour1")
    start(1)
    members(0, 3)
    assert not any(get(i, "hour1") for i in range(3))
    for i in range(3):
        wait_for(lambda: get(i, "hour2") and get(i, "both1"), f"n{i} finds what is left")
        assert cluster.nodes[i].stop() == 0

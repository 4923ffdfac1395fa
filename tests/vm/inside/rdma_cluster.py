# SPDX-License-Identifier: Apache-2.0
"""Runs in the guest: three nodes and an etcd on the three wires of a triangle, and a trace replayed through each of them
(tests/vm/test_rdma_cluster.py). Usage: rdma_cluster.py BIN TRACE REQUESTS BLOCK (TRACE "none": one is generated)

The first node gets the trace's blocks from its own client; the others have none of them, so what their clients get they read
from a node that has it. Then the same over TCP, in a fresh cluster. Prints a line of JSON for each replay: what the client
found, what devices and the loopback device carried meanwhile, and what processors the other nodes took.

All is one network namespace, so TCP between the nodes' addresses goes over the loopback device, and RDMA alone over the
wires.
"""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BIN, TRACE, REQUESTS, BLOCK = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
ETCD = "http://127.0.0.1:2379"
LONG_S = 600
TICKS = os.sysconf("SC_CLK_TCK")
# Wire 0 joins the first two nodes, wire 1 the next, wire 2 the last and the first.
OWN = {1: ("rxe0a", "rxe2b"), 2: ("rxe0b", "rxe1a"), 3: ("rxe1b", "rxe2a")}
ADDRESS = {1: "10.99.0.1", 2: "10.99.0.2", 3: "10.99.1.2"}


def wait_for(condition, what):
    end = time.monotonic() + LONG_S
    while not condition():
        assert time.monotonic() < end, f"not within {LONG_S} s: {what}"
        time.sleep(0.1)


def tell(what):
    print(f"{time.monotonic():.0f} s after boot: {what}", flush=True)


def run(number, *args):
    """A command to a node; an emulated one may need longer than a client waits by default."""
    return subprocess.run([BIN / "yolk", "--url", f"unix:/tmp/n{number}.sock", "--json", *map(str, args)],
                          capture_output=True, text=True, timeout=LONG_S, env={**os.environ, "YOLK_TIMEOUT": "60s"})


def yolk(number, *args):
    """What it prints, each line an object."""
    done = run(number, *args)
    assert done.returncode == 0, f"{args}: {done.stderr}"
    return [json.loads(line) for line in done.stdout.splitlines()]


def sees_all(number):
    """Whether a node answers, and knows of as many members as there are."""
    done = run(number, "nodes")
    tell(f"node {number}: {done.stderr.strip() or done.stdout.count('member')}")
    return done.returncode == 0 and len(re.findall('"state": *"member"', done.stdout)) == len(OWN)


def carried():
    """Packets that each device has received, and bytes of the loopback device."""
    time.sleep(0.05)  # the kernel reads a device's counters again when they are older than 10 ms
    devices = {path.name: int((path / "ports/1/hw_counters/rcvd_pkts").read_text())
               for path in Path("/sys/class/infiniband").iterdir()}
    return devices, int(Path("/sys/class/net/lo/statistics/rx_bytes").read_text())


def processor_s(process):
    """{thread: seconds}, by the names of its threads; what a process has used, user and system."""
    used = {}
    for task in Path(f"/proc/{process.pid}/task").iterdir():
        head, fields = (task / "stat").read_text().rsplit(") ", 1)
        name = head.split("(", 1)[1]
        used[name] = used.get(name, 0) + sum(map(int, fields.split()[11:13])) / TICKS
    return used


class Cluster:
    """An etcd and three nodes; gone when the block ends."""

    def __init__(self, transports):
        self.transports, self.processes = transports, []
        self.payload = 0  # of the trace's blocks, each once

    def __enter__(self):
        self.dir = Path(tempfile.mkdtemp(dir="/tmp"))
        self.etcd = self.spawn("etcd", "etcd", "--data-dir", self.dir / "etcd", "--listen-client-urls", ETCD,
                               "--advertise-client-urls", ETCD, "--listen-peer-urls", "http://127.0.0.1:2380")
        self.nodes = {n: self.node(n) for n in OWN}
        for n in OWN:
            wait_for(lambda: sees_all(n), f"node {n}")
            tell(f"node {n} is there")
        return self

    def spawn(self, name, *command):
        process = subprocess.Popen(list(map(str, command)), stdout=(self.dir / f"{name}.log").open("w"),
                                   stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        self.processes.append(process)
        return process

    def node(self, n):
        rdma = ["--rdma", ",".join(f"device={device}" for device in OWN[n])] if "rdma" in self.transports else []
        return self.spawn(f"n{n}", BIN / "yolkd", "--etcd", ETCD, "--node-name", f"n{n}", "--name", f"n{n}",
                          "--dram", "96M", "--http", "none", "--listen", f"unix:/tmp/n{n}.sock",
                          "--peer-listen", f"127.0.0.1:770{n}", "--transfer", f"0.0.0.0:771{n}", "--advertise", ADDRESS[n],
                          "--insecure-network", "--transports", self.transports, *rdma, "--state-dir", self.dir / f"n{n}")

    def __exit__(self, kind, value, trace):
        for process in reversed(self.processes):
            process.terminate()
        for process in reversed(self.processes):
            process.wait(LONG_S)
        for log in sorted(self.dir.glob("*.log")) if kind else []:
            print(f"---- {log.name}", *log.read_text(errors="replace").splitlines()[-20:], sep="\n", flush=True)
        shutil.rmtree(self.dir)

    def pulled(self, n, least):
        """Bytes that a node has read from others; its figures are of a moment ago, so these may be waited for."""
        wait_for(lambda: yolk(n, "stat")[0]["cluster"]["pulled_bytes"] >= least, f"{least} bytes from others at node {n}")
        return yolk(n, "stat")[0]["cluster"]["pulled_bytes"]

    def replay(self, n):
        """Through node n; what the cluster's other nodes took of processors meanwhile, by thread."""
        others = {k: process for k, process in self.nodes.items() if k != n}
        used = {k: processor_s(process) for k, process in others.items()}
        devices, loopback = carried()
        began = time.monotonic()
        tell(f"{self.transports}: the trace through node {n}")
        result = yolk(n, "replay", TRACE, "--requests", REQUESTS, "--block", BLOCK, "--exact")[0]
        seconds = time.monotonic() - began
        devices_now, loopback_now = carried()
        self.payload = self.payload or result["put_bytes"]
        threads = {}
        for k, process in others.items():
            for name, now in processor_s(process).items():
                threads[name] = threads.get(name, 0) + now - used[k].get(name, 0)
        print(json.dumps({"transports": self.transports, "node": n, "result": result, "seconds": round(seconds, 1),
                          "payload_bytes": self.payload, "pulled_bytes": self.pulled(n, self.payload if n > 1 else 0),
                          "packets": {name: count - devices[name] for name, count in devices_now.items()},
                          "loopback_bytes": loopback_now - loopback,
                          "processors_of_others_s": {name: round(s, 2) for name, s in threads.items() if s > 0}}),
              flush=True)


def main():
    global TRACE
    if TRACE == "none":
        TRACE = "/tmp/trace"
        subprocess.run([BIN / "yolk", "gen", "--requests", str(REQUESTS), TRACE], check=True)
    for transports, through in (("rdma,tcp", (1, 2, 3)), ("tcp", (1, 2))):
        with Cluster(transports) as cluster:
            for n in through:
                cluster.replay(n)


main()

# SPDX-License-Identifier: Apache-2.0
"""Runs in the guest: three nodes and an etcd on the three wires of a triangle, and a trace replayed through each of them
(tests/vm/test_rdma_cluster.py). Usage: rdma_cluster.py KIND BIN TRACE REQUESTS BLOCK (KIND: of the devices, rxe or
siw; TRACE "none": one is generated)

The first node gets the trace's blocks from its own client; the others have none of them, so what their clients get they read
from a node that has it. Over rxe, then the same over TCP, in a fresh cluster. Prints a line of JSON for each replay: what the client
found, what devices received meanwhile (siw counts nothing), and of the other nodes' engines, as their threads, what they
sent by system calls (which is payload that their processors had in hand) and what processors they took.
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

KIND, BIN, TRACE, REQUESTS, BLOCK = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), sys.argv[5]
ETCD = "http://127.0.0.1:2379"
LONG_S = 600
FIGURES_S = 30
TICKS = os.sysconf("SC_CLK_TCK")
# Wire 0 joins the first two nodes, wire 1 the next, wire 2 the last and the first.
OWN = {1: (f"{KIND}0a", f"{KIND}2b"), 2: (f"{KIND}0b", f"{KIND}1a"), 3: (f"{KIND}1b", f"{KIND}2a")}
SENDS = (1, 20, 44, 46)  # write, writev, sendto, sendmsg, as the kernel counts them on x86_64
EXIT = Path("/sys/kernel/tracing/events/raw_syscalls/sys_exit")
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


def received():
    """Packets, by device; of those that count them."""
    time.sleep(0.05)  # the kernel reads a device's counters again when they are older than 10 ms
    return {path.parents[3].name: int(path.read_text())
            for path in Path("/sys/class/infiniband").glob("*/ports/1/hw_counters/rcvd_pkts")}


def count_sends():
    """From here on the kernel adds up what sends have returned, by thread."""
    if not EXIT.exists():
        subprocess.run(["mount", "-t", "tracefs", "tracefs", "/sys/kernel/tracing"], check=True)
    ids = " || ".join(f"id == {n}" for n in SENDS)
    (EXIT / "trigger").write_text(f"hist:keys=common_pid:vals=ret:size=4096 if ret > 0 && ({ids})\n")


def threads(process):
    """{its name: their numbers} of a process. Those of its engine have the program's name."""
    named = {}
    for task in Path(f"/proc/{process.pid}/task").iterdir():
        named.setdefault((task / "comm").read_text().strip(), []).append(int(task.name))
    return named


def sent(process):
    """Bytes that a node's engine has sent."""
    of_thread = {int(tid): int(total) for tid, total in
                 re.findall(r"common_pid: *(\d+) *} hitcount: *\d+ *ret: *(\d+)", (EXIT / "hist").read_text())}
    return sum(of_thread.get(tid, 0) for tid in threads(process)["yolkd"])


def processor_s(process):
    """Seconds that a node's engine has used, user and system."""
    ticks = 0
    for tid in threads(process)["yolkd"]:
        fields = Path(f"/proc/{process.pid}/task/{tid}/stat").read_text().rsplit(") ", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS


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
                          "--dram", "64M", "--shm-dir", self.dir, "--http", "none", "--listen", f"unix:/tmp/n{n}.sock",
                          "--peer-listen", f"{ADDRESS[n]}:770{n}", "--transfer", f"0.0.0.0:771{n}", "--advertise", ADDRESS[n],
                          "--insecure-network", "--transports", self.transports, *rdma, "--state-dir", self.dir / f"n{n}")

    def __exit__(self, kind, value, trace):
        for process in reversed(self.processes):
            process.terminate()
        for process in reversed(self.processes):
            process.wait(LONG_S)
        for log in sorted(self.dir.glob("*.log")) if kind else []:
            print(f"---- {log.name}", *log.read_text(errors="replace").splitlines()[-20:], sep="\n", flush=True)
        shutil.rmtree(self.dir)

    def pulled(self, n, expected):
        """Bytes that a node has read from others. Its figures are of a moment ago, so these are waited for, and not for ever."""
        end = time.monotonic() + FIGURES_S
        while (now := yolk(n, "stat")[0]["cluster"]["pulled_bytes"]) < expected and time.monotonic() < end:
            time.sleep(0.5)
        return now

    def until_devices_move(self, n):
        """What is not known to a device yet, or not soon enough, comes over TCP: a block after the other until one does not.
        Returns how many bytes these were."""
        block, again = self.dir / "block", self.dir / "again"
        block.write_bytes(os.urandom(64 << 10))
        for turn in range(100):
            before = sent(self.nodes[1])
            done = run(1, "put", f"first-{n}-{turn}", block), run(n, "get", f"first-{n}-{turn}", again)
            assert [end.returncode for end in done] == [0, 0] and again.read_bytes() == block.read_bytes(), done
            if sent(self.nodes[1]) - before < block.stat().st_size // 2:
                return (turn + 1) * block.stat().st_size
        raise AssertionError(f"all blocks come to node {n} over TCP")

    def replay(self, n):
        """Through node n; what the others' engines did meanwhile."""
        others = [process for k, process in self.nodes.items() if k != n]
        had = self.pulled(n, self.until_devices_move(n) if n > 1 and "rdma" in self.transports else 0)
        packets, sends, used = received(), sum(map(sent, others)), sum(map(processor_s, others))
        tell(f"{self.transports}: the trace through node {n}")
        result = yolk(n, "replay", TRACE, "--requests", REQUESTS, "--block", BLOCK)[0]
        sends, used = sum(map(sent, others)) - sends, sum(map(processor_s, others)) - used
        packets = {name: count - packets[name] for name, count in received().items()}
        self.payload = self.payload or result["put_bytes"]
        pulled = self.pulled(n, had + self.payload - result["put_bytes"]) - had
        print(json.dumps({"transports": self.transports, "node": n, "result": result, "pulled_bytes": pulled,
                          "received": sum(packets.get(device, 0) for device in OWN[n]), "packets": packets,
                          "sent_by_others_bytes": sends, "processors_of_others_s": round(used, 2)}), flush=True)


def main():
    global TRACE
    if TRACE == "none":
        TRACE = "/tmp/trace"
        subprocess.run([BIN / "yolk", "gen", "--requests", str(REQUESTS), TRACE], check=True)
    count_sends()
    for transports, through in (("rdma,tcp", (1, 2, 3)), ("tcp", (1, 2)))[:2 if KIND == "rxe" else 1]:
        with Cluster(transports) as cluster:
            for n in through:
                cluster.replay(n)


main()

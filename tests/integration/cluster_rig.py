# SPDX-License-Identifier: Apache-2.0
"""A cluster that can be hurt: etcd of one or three members and several nodes, each on a host of its own.

A host is a network namespace on one bridge when this process may make such (root; Lan), else an address of
127.0.0.0/8 (Loopback), where nothing can be cut off. Namespaces have no names: each lives as long as a process
that does nothing else, so all of them go when the test ends or the janitor (harness.py) kills what it left.

The clients are pool_driver (pool_driver.c): workers that put, get and remove through nodes meanwhile and check
every byte of every answer against a ledger, and a check of all keys through every node once all is well again.
Beside them epoch_driver (epoch_driver.c) raises the epoch of a namespace of its own.
"""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading

import pytest

import harness
from harness import DEADLINE_S, clean_env, program, wait_for

LEASE_S = 3          # of a member, by default
REST_S = 150         # until all nodes are members again: start, lease, replay and balance on a busy machine
SLOTS = 4096
TIMEOUT_MS = 2000    # of a worker's call
ETCD_CLIENT, ETCD_PEER = 2379, 2380
WORKERS, KEYS, LEN = 3, 64, 16384
PINNED = 16          # blocks at each node


def pause(seconds):
    """A stimulus: lets what was done last so long."""
    threading.Event().wait(seconds)


def run(args, text=None, patience=1):
    done = subprocess.run([str(a) for a in args], input=text, capture_output=True, text=True, timeout=patience * DEADLINE_S)
    assert done.returncode == 0, (args, done.stderr)
    return done.stdout


# ---- hosts ------------------------------------------------------------------------------------


class Loopback:
    """Hosts that are addresses of this one."""
    can_cut = False

    def __init__(self, place):
        self.count = 0

    def host(self):
        self.count += 1
        return LoopbackHost(f"127.0.77.{self.count}")


class LoopbackHost:
    before = ()
    options = ()

    def __init__(self, address):
        self.address = address

    def port(self, _):
        with socket.socket() as s:
            s.bind((self.address, 0))
            return s.getsockname()[1]


class Lan:
    """Hosts that are network namespaces, and a switch between them that can lose what goes from one to another."""
    can_cut = True

    @staticmethod
    def possible():
        tools = all(shutil.which(t) for t in ("ip", "nft", "nsenter", "unshare"))
        return tools and os.geteuid() == 0 and subprocess.run(
            ["unshare", "--net", "sh", "-c", "ip link add name switch type bridge && nft add table inet t"], capture_output=True).returncode == 0

    def __init__(self, place):
        self.place = place
        self.hosts = []
        self.switch = self.namespace()
        self.at(self.switch, "ip", "link", "add", "name", "switch", "type", "bridge")
        self.at(self.switch, "ip", "link", "set", "switch", "up")

    def namespace(self):
        """Its process; the namespace is there when it returns."""
        ours = os.readlink("/proc/self/ns/net")
        process = self.place.spawn(["unshare", "--net", "sleep", "infinity"], stdin=subprocess.DEVNULL)
        wait_for(lambda: os.readlink(f"/proc/{process.pid}/ns/net") != ours, "a network namespace")
        return process

    @staticmethod
    def enter(process):
        return ["nsenter", f"--net=/proc/{process.pid}/ns/net"]

    def at(self, process, *command, text=None):
        return run([*self.enter(process), *command], text)

    def host(self):
        host = LanHost(self, len(self.hosts) + 1)
        self.hosts.append(host)
        return host

    def lose(self, sources, targets):
        """From now on nothing of the sources comes to the targets. The other way needs another call."""
        for target in targets:
            target.deaf_to |= {s.address for s in sources if s is not target}
            target.filter()

    def heal(self, hosts=None):
        for host in self.hosts if hosts is None else hosts:
            if host.deaf_to:
                host.deaf_to = set()
                host.filter()


class LanHost:
    options = ("--insecure-network",)

    def __init__(self, lan, number):
        self.lan = lan
        self.address = f"10.77.0.{number}"
        self.deaf_to = set()
        self.process = lan.namespace()
        self.before = lan.enter(self.process)
        port = f"port{number}"
        run(["ip", "link", "add", "name", "eth0", "netns", self.process.pid, "type", "veth", "peer", "name", port, "netns",
             lan.switch.pid])
        lan.at(lan.switch, "ip", "link", "set", port, "master", "switch", "up")
        lan.at(self.process, "ip", "address", "add", f"{self.address}/16", "dev", "eth0")
        for device in ("lo", "eth0"):
            lan.at(self.process, "ip", "link", "set", device, "up")

    @staticmethod
    def port(wanted):
        return wanted

    def filter(self):
        rules = "table inet cut\ndelete table inet cut\n"
        if self.deaf_to:
            sources = ", ".join(sorted(self.deaf_to))
            rules += f"""table inet cut {{
                chain in {{
                    type filter hook input priority 0;
                    ip saddr {{ {sources} }} drop;
                }}
            }}
            """
        self.lan.at(self.process, "nft", "-f", "-", text=rules)


# ---- etcd -------------------------------------------------------------------------------------


class Etcd:
    """Members m0, ..., each on its host; their data lies in memory."""

    class Member:
        def __init__(self, place, host, name):
            self.place, self.host, self.name, self.process = place, host, name, None
            self.dir = place.shm / f"etcd-{name}"
            self.log_path = place.dir / f"etcd-{name}.log"
            self.url = f"http://{host.address}:{host.port(ETCD_CLIENT)}"
            self.peer = f"http://{host.address}:{host.port(ETCD_PEER)}"
            self.all = ""

        def start(self):
            """If it does not run: two kinds of harm may have ended it."""
            if self.process is not None and self.process.poll() is None:
                return
            with open(self.log_path, "ab") as log:
                self.process = self.place.spawn(
                    [*self.host.before, "etcd", "--name", self.name, "--data-dir", self.dir, "--listen-client-urls", self.url,
                     "--advertise-client-urls", self.url, "--listen-peer-urls", self.peer, "--initial-advertise-peer-urls",
                     self.peer, "--initial-cluster", self.all], stdin=subprocess.DEVNULL, stdout=log, stderr=log)

        def signal(self, number):
            self.process.send_signal(number)
            if number == signal.SIGKILL:
                self.process.wait(DEADLINE_S)

    def __init__(self, place, lan, count):
        self.members = [self.Member(place, lan.host(), f"m{i}") for i in range(count)]
        for member in self.members:
            member.all = ",".join(f"{m.name}={m.peer}" for m in self.members)
        self.urls = ",".join(m.url for m in self.members)
        self.start()

    def start(self):
        for member in self.members:
            member.start()

    def signal(self, number):
        for member in self.members:
            member.signal(number)

    def lose_everything(self):
        self.signal(signal.SIGKILL)
        for member in self.members:
            shutil.rmtree(member.dir)


# ---- nodes ------------------------------------------------------------------------------------


class Node(harness.Node):
    def __init__(self, place, host, etcd, name):
        self.host = host
        self.state = place.dir / f"{name}.state"
        super().__init__(place, "--etcd", etcd.urls, "--node-name", name, "--state-dir", self.state, "--peer-listen",
                         f"{host.address}:0", *host.options, dram="64M", name=name)

    def launch(self, *more, **options):
        return super().launch(*more, before=self.host.before, **options)

    def start(self):
        """As a service manager does: again when it gives up, which it does when it is no member within 10 s."""
        def serves():
            seen = len(self.log())
            self.launch()
            wait_for(lambda: " serves " in self.log()[seen:] or self.process.poll() is not None, "the node serves")
            assert self.process.poll() in (None, 1), self.log()
            return self.process.poll() is None

        wait_for(serves, "the node becomes a member", REST_S)

    def signal(self, number):
        if number == signal.SIGKILL: # who has ended before was not killed by us: a sanitizer, say
            assert self.process.poll() is None, f"{self.name} ended: {self.log()[-2000:]}"
        self.process.send_signal(number)
        if number == signal.SIGKILL:
            self.process.wait(DEADLINE_S)

    def command_line(self, *args):
        """yolk from this node's host, since it speaks to nodes where they listen for each other."""
        return subprocess.run([*self.host.before, program("yolk"), "--url", self.url, *args], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=DEADLINE_S, env=clean_env())

    def members(self):
        """What this node knows of each by name; {} if it cannot tell."""
        done = self.command_line("nodes", "--json")
        return {n["name"]: n for n in map(json.loads, done.stdout.splitlines())} if done.returncode == 0 else {}


class Cluster:
    def __init__(self, place, nodes=3, members=3):
        self.place = place
        self.lan = Lan(place) if Lan.possible() else Loopback(place)
        self.etcd = Etcd(place, self.lan, members)
        self.nodes = [Node(place, self.lan.host(), self.etcd, f"n{i}") for i in range(nodes)]
        self.runs = 0
        for node in self.nodes:
            node.start()
        self.rest()

    def at_rest(self):
        for node in self.nodes:
            found = node.members()
            well = [n for n in found.values() if n["state"] == "member" and n["alive"] and not n.get("suspect")]
            if len(well) != len(self.nodes) or len(found) != len(well) or sum(n["slots"] for n in well) != SLOTS:
                return False
        return True

    def rest(self):
        """Waits until all nodes see all of them in the cluster, and every slot at one of them."""
        for node in self.nodes:
            assert node.process.poll() is None, f"{node.name} ended: {node.log()[-2000:]}"
        wait_for(self.at_rest, "all nodes are members and see each other", REST_S)

    def where(self, key, *options):
        """What a failed test shows of a block: what each node knows of the others, and of the block by their word."""
        for node in self.nodes:
            print(node.name, node.members())
            done = node.command_line("locate", key, *options)
            print(f"{key} by {node.name}: {done.stdout}{done.stderr}")

    def tell(self):
        """What a failed test shows."""
        for path in sorted(self.place.dir.glob("*.log")):
            print(f"---- {path.name}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-60:]))


# ---- clients ----------------------------------------------------------------------------------


class Load:
    """Workers, each at a node of its own, and their ledger. As `with`: they have ended, and none saw anything wrong."""

    def __init__(self, cluster, seed, workers=WORKERS, keys=KEYS, timeout_ms=TIMEOUT_MS):
        self.cluster, self.seed, self.count, self.keys, self.timeout_ms = cluster, seed, workers, keys, timeout_ms
        self.name = f"load{cluster.runs}"
        cluster.runs += 1
        self.ledger, self.until = (cluster.place.dir / f"{self.name}.{end}" for end in ("ledger", "until"))
        self.log = cluster.place.dir / f"{self.name}.log"
        self.workers = []

    def driver(self, what, *more):
        urls = ",".join(n.url for n in self.cluster.nodes)
        return [program("pool_driver"), what, "--urls", urls, "--ledger", self.ledger, "--workers", self.count, "--keys",
                self.keys, "--len", LEN, "--timeout-ms", self.timeout_ms, "--prefix", f"{self.name}-", *more]

    def __enter__(self):
        with open(self.log, "ab") as log:
            for i in range(self.count):
                args = self.driver("work", "--at", i % len(self.cluster.nodes), "--id", i, "--seed", self.seed + i,
                                   "--until-file", self.until)
                self.workers.append(self.cluster.place.spawn(args, stdout=log, stderr=log, stdin=subprocess.DEVNULL))
        wait_for(self.ledger.exists, "the ledger")
        return self

    def apart(self, node, is_apart):
        """Says that the node may be expelled and not know it (see pool_driver.c), or no more."""
        with open(self.ledger, "r+b") as ledger:
            ledger.seek(self.cluster.nodes.index(node))
            ledger.write(b"\1" if is_apart else b"\0")

    def still_well(self):
        assert all(w.poll() is None for w in self.workers), self.words()

    def words(self):
        return self.log.read_text(errors="replace")

    def __exit__(self, kind, *_):
        self.until.touch()
        codes = [w.wait(DEADLINE_S) for w in self.workers]
        assert kind is not None or codes == [0] * self.count, f"workers ended with {codes}:\n{self.words()}"

    def check(self):
        """All keys through every node. Everything that comes is right and every call ends, now that all is well."""
        done = subprocess.run([str(a) for a in self.driver("check")], capture_output=True, text=True, timeout=2 * DEADLINE_S)
        assert done.returncode == 0, f"the check exits with {done.returncode}: {done.stdout}{done.stderr}{self.words()}"
        return {**json.loads(done.stdout), "missing": done.stderr}

    def until_all_found(self, safe=False):
        """The counts of a check that missed nothing that was acknowledged and is not to be gone; safe: of that, nothing
        of which both copies were acknowledged."""
        there, found_there = ("safe", "safe_found") if safe else ("present", "found")
        last = {}

        def found():
            last.update(self.check())
            return last[found_there] == last[there] and last

        try:
            return wait_for(found, "all that was acknowledged is found")
        except AssertionError:
            for key in re.findall(r"not found at \S+: ([^,]+),", last.get("missing", ""))[:3]:
                self.cluster.where(key)
            pytest.fail(f"acknowledged blocks are lost: {last}")


class Pins:
    """Blocks that are pinned at each node. As `with`: at its end, when all is well, each node is given more than its memory
    holds, and the pinned ones are at their nodes, and found through every node; but for those that have `lost` theirs."""

    def __init__(self, cluster, keys=PINNED):
        self.cluster, self.keys, self.name = cluster, keys, f"pins{cluster.runs}"
        cluster.runs += 1
        self.until = cluster.place.dir / f"{self.name}.until"
        self.lost, self.fills = set(), []

    def driver(self, what, *more):
        return [program("pool_driver"), what, "--urls", ",".join(n.url for n in self.cluster.nodes), "--len", LEN,
                "--keys", self.keys, "--timeout-ms", TIMEOUT_MS, "--prefix", f"{self.name}-", *more]

    def at_each(self, what, *more):
        return [self.cluster.place.spawn(self.driver(what, "--at", i, *more), stdin=subprocess.DEVNULL)
                for i in range(len(self.cluster.nodes))]

    def __enter__(self):
        self.done(self.at_each("pin"))
        return self

    @staticmethod
    def done(drivers):
        codes = [d.wait(2 * DEADLINE_S) for d in drivers]
        assert not any(codes), f"pool_driver ended with {codes}"

    def fill(self):
        """From now on, until it is full or this ends."""
        self.fills += self.at_each("fill", "--until-file", self.until)

    def __exit__(self, kind, *_):
        self.until.touch()
        if kind is None:
            self.done(self.fills)
            self.until.unlink()
            self.done(self.at_each("fill", "--until-file", self.until))
            lost = [i for i, node in enumerate(self.cluster.nodes) if node in self.lost]
            run(self.driver("pinned", *[arg for i in lost for arg in ("--lost", i)]), patience=3)


class Epochs:
    """Puts and gets at all nodes while the epoch is raised. As `with`: it has ended with what it does once all is well
    (its end fills the first node's memory), and saw nothing wrong."""

    def __init__(self, cluster, seed):
        self.cluster, self.name = cluster, f"epochs{cluster.runs}"
        self.until, self.log = (cluster.place.dir / f"{self.name}.{end}" for end in ("until", "log"))
        self.args = [program("epoch_driver"), "--urls", ",".join(n.url for n in cluster.nodes), "--ns", self.name, "--seed", seed,
                     "--until-file", self.until, "--timeout-ms", TIMEOUT_MS]
        self.process = None

    def __enter__(self):
        with open(self.log, "ab") as log:
            self.process = self.cluster.place.spawn(self.args, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        return self

    def __exit__(self, kind, *_):
        if kind is not None:
            self.process.kill()
        self.until.touch()
        code = self.process.wait(5 * DEADLINE_S)
        words = self.log.read_text(errors="replace")
        lost = re.search(r"(k\d+), pinned and put in epoch (\d+), is not found", words)
        if kind is None and lost:
            self.cluster.where(lost[1], "--namespace", self.name, "--epoch", lost[2])
        assert kind is not None or code == 0, f"epoch_driver ends with {code}:\n{words}"
        print(words)

# SPDX-License-Identifier: Apache-2.0
"""Hosts and containers for tests of the transfer engine, and both of its ends in them (xfer_driver.c).

A host is a network namespace; an isolated one has processes, mounts and System V objects of its own, too. They belong
to a sleeping process and to nothing else: when that is gone, at the end of the test or by the janitor's hand, so are
the devices between them.
"""
import json
import os
import select
import subprocess
import time

from harness import DEADLINE_S, clean_env, program, wait_for

NAMESPACES = "net", "mnt", "ipc", "pid"
PORT = 7781


class Host:
    def __init__(self, place, isolated=False):
        self.place = place
        self.kinds = NAMESPACES if isolated else NAMESPACES[:1]
        own = ["--mount", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"] if isolated else []
        self.outer = place.spawn(["unshare", "--net", *own, "sleep", "infinity"])
        self.pid = wait_for(self._child, "its first process") if isolated else self.outer.pid
        wait_for(lambda: all(self._is_own(kind) for kind in self.kinds), "namespaces of its own")
        self.enter = ["nsenter", *(f"--{'mount' if kind == 'mnt' else kind}=/proc/{self.pid}/ns/{kind}"
                                   for kind in self.kinds)]
        self.run("ip", "link", "set", "lo", "up")
        if isolated:
            # Each has its own at the same path, which hides nothing of what the test needs.
            subprocess.run([*self.enter, "mount", "-t", "tmpfs", "none", place.shm], check=True, timeout=DEADLINE_S)

    def _child(self):
        with open(f"/proc/{self.outer.pid}/task/{self.outer.pid}/children", encoding="ascii") as children:
            found = children.read().split()
        return int(found[0]) if found else None

    def _is_own(self, kind):
        return os.readlink(f"/proc/{self.pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}")

    def run(self, *args, seconds=DEADLINE_S):
        """In its network alone, and what else it is from outside."""
        done = subprocess.run([*self.enter[:2], *map(str, args)], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              env=clean_env(), timeout=seconds)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def file(self, path):
        """A path of this host as the test sees it."""
        return f"/proc/{self.pid}/root{path}"

    def address(self, device, address):
        self.run("ip", "addr", "add", address, "dev", device)
        self.run("ip", "link", "set", device, "up")

    def silence(self, device):
        """Whatever it sends over the device is gone without a word."""
        self.run("tc", "qdisc", "replace", "dev", device, "root", "blackhole")

    def speak(self, device):
        self.run("tc", "qdisc", "del", "dev", device, "root")

    def connections(self, port=PORT):
        """How many are established at a port here."""
        with open(f"/proc/{self.pid}/net/tcp", encoding="ascii") as table:
            rows = [line.split() for line in table][1:]
        return sum(row[3] == "01" and int(row[1].split(":")[1], 16) == port for row in rows)

    def serve(self, seed, listen=f"0.0.0.0:{PORT}", **options):
        target = Driver(self, "serve", listen=listen, seed=seed, **options)
        target.address = target.hear()
        return target

    def ask(self, **options):
        asker = Driver(self, "ask", **options)
        assert asker.hear() == "ready"
        return asker


def wire(one, two, device, other=None):
    """A wire between two hosts, without addresses; the device of the second may be called otherwise."""
    one.run("ip", "link", "add", device, "type", "veth", "peer", "name", other or device, "netns",
            f"/proc/{two.pid}/ns/net")


def rail(one, two, number):
    """A wire with addresses: device rN, 10.78.N.1 and 10.78.N.2."""
    wire(one, two, f"r{number}")
    one.address(f"r{number}", f"10.78.{number}.1/24")
    two.address(f"r{number}", f"10.78.{number}.2/24")


class Driver:
    """One end, which answers a line with a line. Without a shm_dir it does not see who is on the same machine."""

    def __init__(self, host, verb, **options):
        if "shm_dir" not in options:
            options["no_shm"] = 1
        words = [word for name, value in options.items() for word in ("--" + name.replace("_", "-"), str(value))]
        self.process = host.place.spawn([*host.enter, program("xfer_driver"), verb, *words], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, env=clean_env())
        self.heard = b""

    def tell(self, *words):
        self.process.stdin.write((" ".join(map(str, words)) + "\n").encode())
        self.process.stdin.flush()

    def hear(self, seconds=2 * DEADLINE_S):
        end = time.monotonic() + seconds
        while b"\n" not in self.heard:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0, end - time.monotonic()))
            assert ready, f"no answer within {seconds} s"
            more = os.read(self.process.stdout.fileno(), 1 << 16)
            assert more, "it has ended"
            self.heard += more
        line, self.heard = self.heard.split(b"\n", 1)
        return line.decode()

    def say(self, *words):
        self.tell(*words)
        return self.hear()

    def open(self, where, timeout_ms=20000):
        """The number of the segment."""
        said = self.say("open", where, timeout_ms).split()
        assert said[0] == "ok", said
        return int(said[1])

    def read(self, segment, seed, offset=0, size=1 << 20, xclass=1, timeout_ms=20000):
        return self.say("read", segment, xclass, offset, size, timeout_ms, seed)

    def write(self, segment, seed, offset=0, size=1 << 20, xclass=1, timeout_ms=20000):
        return self.say("write", segment, xclass, offset, size, timeout_ms, seed)

    def flow(self, segment, seed, size=256 << 10, deep=32, ms=2000, timeout_ms=30000):
        """Begins one; it is under way when this returns. What it came to: flowed()."""
        self.tell("flow", segment, size, deep, ms, timeout_ms, seed)
        said = self.hear()
        assert said == "flows", said

    def is_flowing(self):
        """The flow that has begun is not over."""
        ready, _, _ = select.select([self.process.stdout], [], [], 0)
        return not ready and not self.heard

    def flowed(self):
        """Requests that ended, failed, had wrong bytes, and the text of the first failure."""
        said = self.hear().split(" ", 4)
        assert said[0] == "ok", said
        return (*map(int, said[1:4]), said[4])

    def rails(self, remote="10.78.0.1"):
        """The rails, by (transport, remote address), of the peer that has a rail to this address."""
        shards = json.loads(self.say("links"))["shards"]
        peers = [{(rail["transport"], rail["remote"]): rail for rail in peer["rails"]}
                 for shard in shards for peer in shard["peers"]]
        return next(rails for rails in peers if ("tcp", remote) in rails)

    def end(self):
        """As a program that ends by itself."""
        self.process.stdin.close()
        assert self.process.wait(DEADLINE_S) == 0

    def kill(self):
        self.process.kill()
        self.process.wait()

# SPDX-License-Identifier: Apache-2.0
"""What integration tests share: finding the programs, running a node, waiting, cleaning up.

A node under test has its own folder for socket and log, and its own folder of shared memory, so that
tests never meet each other or a real node. Both are removed when the test ends. If the test program
itself is killed, the janitor does it: a small process of its own session that reads a pipe, and at
the pipe's end kills what is still registered and removes what is still there.

Nothing here waits for time to pass: wait_for looks for a condition until a deadline.
"""
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

BUILD = Path(os.environ.get("YOLK_BUILD", Path(__file__).parents[2] / "build"))
DEADLINE_S = int(os.environ.get("YOLK_TEST_DEADLINE_S", 60))  # longer where the machine itself is emulated (tests/vm)


def clean_env(more=None):
    """The environment without options for the programs under test, and what a test adds."""
    return {**{k: v for k, v in os.environ.items() if not k.startswith("YOLK_")}, **(more or {})}


def program(name):
    """Path of a built program: where `meson install` puts it, or in a build directory."""
    for folder in ("bin", f"cmd/{name}", "tests/integration"):
        path = BUILD / folder / name
        if path.is_file() and os.access(path, os.X_OK):
            return str(path)
    pytest.skip(f"{name} is not built in {BUILD}")


def wait_for(condition, what, seconds=DEADLINE_S):
    """The first true value of condition(); fails with `what` after so many seconds."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        select.select([], [], [], 0.01)


JANITOR = """
import os, shutil, signal, sys
def started(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[19]
    except OSError:
        return None
signal.signal(signal.SIGINT, signal.SIG_IGN)
things = {}
for line in sys.stdin:
    verb, what = line.rstrip("\\n").split(" ", 1)
    if verb == "done":
        things.pop(what, None)
    else:
        things[what] = (verb, started(what) if verb == "process" else None)
for what, (verb, start) in things.items():
    if verb == "process" and start is not None and started(what) == start:
        os.kill(int(what), signal.SIGKILL)
for what, (verb, start) in things.items():
    if verb == "folder":
        shutil.rmtree(what, ignore_errors=True)
"""


class Janitor:
    """Cleans up after this process, should it not come to that. One for the test run."""

    def __init__(self):
        self.process = subprocess.Popen([sys.executable, "-c", JANITOR], stdin=subprocess.PIPE, text=True,
                                        start_new_session=True)

    def say(self, verb, what):
        self.process.stdin.write(f"{verb} {what}\n")
        self.process.stdin.flush()

    def close(self):
        self.process.stdin.close()
        self.process.wait(DEADLINE_S)


class Place:
    """Folders of one test, and every process that it starts."""

    def __init__(self, janitor):
        self.janitor = janitor
        self.processes = []
        self.dir = self._folder("/tmp")
        self.shm = self._folder("/dev/shm")

    def _folder(self, parent):
        path = Path(tempfile.mkdtemp(prefix="yolk-test-", dir=parent))
        self.janitor.say("folder", path)
        return path

    def spawn(self, args, **options):
        process = subprocess.Popen([str(a) for a in args], **options)
        self.janitor.say("process", process.pid)
        self.processes.append(process)
        return process

    def close(self):
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
                process.wait()
            self.janitor.say("done", process.pid)
        reports = [log.read_text(errors="replace") for log in self.dir.glob("*.log") if not log.is_symlink()]
        for path in (self.dir, self.shm):
            shutil.rmtree(path, ignore_errors=True)
            self.janitor.say("done", path)
        for text in reports: # who ended with one may have looked to his clients like one who is merely gone
            found = re.search(r"(ERROR|WARNING): \w+Sanitizer|runtime error:", text)
            assert not found, f"a sanitizer's report:\n{text[found.start():][:3000]}"


class Node:
    """One yolkd at a time on one segment and one socket; restarted as often as a test likes."""

    def __init__(self, place, *options, dram="64M", name="node"):
        self.place = place
        self.name = name
        self.socket = place.dir / f"{name}.sock"
        self.url = f"unix:{self.socket}"
        self.log_path = place.dir / f"{name}.log"
        self.base = ["--name", name, "--shm-dir", place.shm, "--http", "none"]
        self.dram = dram
        self.options = list(options)
        self.process = None

    def command(self, *more):
        return [program("yolkd"), "--dram", self.dram, "--listen", self.url, *self.base, *self.options, *more]

    def launch(self, *more, before=(), env=None, **popen):
        """Starts the process without waiting for anything."""
        with open(self.log_path, "ab") as log:
            self.process = self.place.spawn([*before, *self.command(*more)], stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, env=clean_env(env), **popen)
        return self

    def start(self, *more, **popen):
        seen = len(self.log())
        self.launch(*more, **popen)
        wait_for(lambda: " serves " in self.log()[seen:] or self.process.poll() is not None, "the node serves")
        assert self.process.poll() is None, self.log()
        return self

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def stop(self, number=signal.SIGTERM):
        """Ends it and returns its exit code."""
        self.process.send_signal(number)
        return self.process.wait(DEADLINE_S)

    def segment_files(self):
        return sorted(p.name for p in self.place.shm.iterdir())

    def connect(self):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(DEADLINE_S)
        s.connect(str(self.socket))
        return s

    def yolk(self, *args, **options):
        return yolk("--url", self.url, *args, **options)

    def json(self, *args, **options):
        """The JSON objects that a successful command prints, one a line."""
        done = self.yolk("--json", *args, **options)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def stats(self):
        return self.json("stat")[0]


def yolk(*args, data=None, env=None, **options):
    """Runs the command line to its end. data: standard input, bytes or an open file."""
    stdin = {"input": data} if isinstance(data, bytes) else {"stdin": data or subprocess.DEVNULL}
    text = options.pop("text", True)
    done = subprocess.run([program("yolk"), *(a if isinstance(a, bytes) else str(a) for a in args)], **stdin,
                          env=clean_env(env), stdout=options.pop("stdout", subprocess.PIPE), stderr=subprocess.PIPE,
                          timeout=options.pop("seconds", DEADLINE_S * 2), **options)
    done.stderr = done.stderr.decode(errors="replace")
    if text and done.stdout is not None:
        done.stdout = done.stdout.decode()
    return done


def yolkd(*args, env=None, **options):
    """Runs a yolkd that is expected to end by itself."""
    return subprocess.run([program("yolkd"), *map(str, args)], stdin=subprocess.DEVNULL, env=clean_env(env),
                          capture_output=True, text=True, timeout=DEADLINE_S, **options)


def one_line(done, code, prefix="yolk"):
    """Asserts an error as users are promised it: this exit code, one line. Returns the line."""
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith(prefix + ": "), done.stderr
    return lines[0]

# SPDX-License-Identifier: Apache-2.0
"""What runs the checks (tools/run-tests): commands that have to be ended, and records that were cut short by that."""
import importlib.util
import signal
import subprocess
import sys
import threading
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest

from harness import wait_for

ROOT = Path(__file__).resolve().parents[2]
# As meson: what it starts has a session of its own, and is ended by it when it is told to end.
LEADER = "trap 'kill -9 $!; exit 1' TERM; setsid sleep 1000 & echo $! >$0.new; mv $0.new $0; wait; wait"


@pytest.fixture
def checks(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    loader = SourceFileLoader("yolk_run_tests", str(ROOT / "tools/run-tests"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    monkeypatch.setitem(sys.modules, loader.name, module)
    loader.exec_module(module)
    monkeypatch.setattr(module, "LOGS", tmp_path)
    return module


def is_running(pid):
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_a_command_that_is_ended_ends_what_it_started(checks, tmp_path):
    started, stop, said = tmp_path / "started", threading.Event(), []
    runs = threading.Thread(target=lambda: said.append(checks.run(["sh", "-c", LEADER, started], "log", stop=stop)))
    runs.start()
    wait_for(started.exists, "it has started one")
    pid = int(started.read_text())
    assert is_running(pid)
    stop.set()
    runs.join()
    assert said == [None]
    wait_for(lambda: not is_running(pid), "that has ended as well", 10)


def test_a_command_that_takes_no_signal_is_killed(checks, tmp_path, monkeypatch):
    monkeypatch.setattr(checks, "END_SECONDS", 0.2)
    started, stop = tmp_path / "started", threading.Event()
    runs = threading.Thread(target=lambda: checks.run(["sh", "-c", "trap '' TERM; echo $$ >$0; exec sleep 1000", started], "log", stop=stop))
    runs.start()
    wait_for(lambda: started.exists() and started.read_text().endswith("\n"), "it has started")
    stop.set()
    runs.join()
    assert not is_running(int(started.read_text()))


def test_records_that_are_cut_short(checks, tmp_path, monkeypatch):
    """What is whole of them counts; that the rest is missing is a failure, and the other steps go on."""
    monkeypatch.setattr(checks, "show_tail", lambda path: None)
    (tmp_path / "meson-logs").mkdir()
    whole = '{"name": "yolk:unit / one", "stdout": "", "result": "OK"}\n'
    (tmp_path / "meson-logs/unit.json").write_text(whole + whole[:30])
    assert [test["name"] for test in checks.read_testlog(tmp_path, "unit")] == ["yolk:unit / one"]
    for text in ("", '<?xml version="1.0"?><testsuites><testsuite><testcase name="a"/><testca'):
        fails = checks.run_pytest("step", "log", ["sh", "-c", f"printf %s '{text}' >$2", "sh"], {})
        assert (fails.passed, fails.failed) == (0, 1)
    good = '<?xml version="1.0"?><testsuites><testsuite><testcase name="a"/></testsuite></testsuites>'
    ends = checks.run_pytest("step", "log", ["sh", "-c", f"printf %s '{good}' >$2", "sh"], {})
    assert (ends.passed, ends.failed) == (1, 0)


@pytest.mark.parametrize("limit, guests", [(None, 4), ("max", 4), (5 << 30, 2), (1 << 20, 1), (9223372036854771712, 4)])
@pytest.mark.parametrize("path", ["memory.max", "memory/memory.limit_in_bytes"])
def test_as_many_guests_as_there_is_memory_for(checks, tmp_path, monkeypatch, path, limit, guests):
    """Also where a container has less of it than the host."""
    monkeypatch.setattr(checks, "CORES", 64)
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text(f"MemTotal: 1 kB\nMemAvailable:   {64 << 20} kB\n")
    if limit is not None:
        (tmp_path / "sys/fs/cgroup" / path).parent.mkdir(parents=True)
        (tmp_path / "sys/fs/cgroup" / path).write_text(f"{limit}\n")
    assert checks.guests_at_once(tmp_path) == guests
    monkeypatch.setattr(checks, "CORES", 1)
    assert checks.guests_at_once(tmp_path) == 1
    assert checks.guests_at_once(tmp_path / "nowhere") == 1


def test_a_build_that_fails_is_a_failure_once(checks, monkeypatch):
    """Whichever steps are run; a compiler that is missing is none."""
    monkeypatch.setattr(checks, "python_with_pytest", lambda: "python3")
    for run in (checks.unit, checks.integration, checks.install, lambda: dict((s[0], s[2]) for s in checks.STEPS)["vm-all"]()):
        checks.told.clear()
        checks.built[checks.GCC] = "the build in build/check/gcc failed"
        assert run().failed == 1
        again = run()
        assert (again.passed, again.failed) == (0, 0) and again.skips
        checks.built[checks.GCC] = "gcc is missing"
        none = run()
        assert (none.passed, none.failed) == (0, 0) and none.skips


def test_where_no_guest_can_be_had_nothing_has_failed(checks, monkeypatch):
    monkeypatch.setattr(checks, "python_with_pytest", lambda: "python3")
    monkeypatch.setattr(checks, "fetch_guest", lambda *args: checks.Result().skip("no QEMU"))
    checks.built[checks.GCC] = ""
    result = dict((step[0], step[2]) for step in checks.STEPS)["vm-all"]()
    assert result.skips == ["no QEMU"]
    assert checks.summarise([("vm-all", result, 0.0)]) == 0


# Two commands side by side, as files of tests are run.
MAIN = """
import importlib.util, signal, sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
sys.dont_write_bytecode = True
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs this test may have had it ignored
signal.signal(signal.SIGHUP, signal.SIG_DFL)
loader = SourceFileLoader("yolk_run_tests", sys.argv[1])
checks = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
sys.modules[loader.name] = checks
loader.exec_module(checks)
there = checks.ROOT = checks.LOGS = Path(sys.argv[2])
def both():
    def one(name):
        checks.run(["sh", "-c", f"echo $$ >{there}/{name}.new; mv {there}/{name}.new {there}/{name}; exec sleep 1000"], f"{name}.log")
        return checks.Result(passed=1)
    return checks.side_by_side(2, one, ["first", "second"])
checks.STEPS = [("both", "two commands", both)]
sys.argv[1:] = []
sys.exit(checks.main())
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_who_ends_the_run_ends_what_it_runs(tmp_path, number):
    """Also by closing its terminal."""
    process = subprocess.Popen([sys.executable, "-c", MAIN, ROOT / "tools/run-tests", tmp_path], stdout=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: (tmp_path / "first").exists() and (tmp_path / "second").exists(), "both run")
        pids = [int((tmp_path / name).read_text()) for name in ("first", "second")]
        assert all(map(is_running, pids))
        process.send_signal(number)
        said = process.communicate(timeout=120)[0]
        assert not any(map(is_running, pids))
        assert process.returncode == 1 and said.endswith("0 passed, 1 failed, 0 skipped\n"), said
    finally:
        process.kill()

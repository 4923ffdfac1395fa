# SPDX-License-Identifier: Apache-2.0
"""The rig itself: what a guest has, what comes back from it, and that it ends, whatever happens. And RDMA in short, in its
second boot: the engine's conformance over two devices at each end, and a link that is cut."""
import os
import re
import select
import shutil
import subprocess
import sys

import pytest

import vm
from host import INSIDE, Step, assert_step, boot, boot_steps, step_script
from rdma import PLAIN, conformance, rails

WRITTEN = f"/var/tmp/yolk-vm-{os.getpid()}"


@pytest.fixture(scope="module")
def booted():
    """One boot with all that a guest may have; what it said and what it left."""
    outcome = boot(["sh", INSIDE / "boot.sh"], nics=2, drives=1, slow_memory=64,
                   env={"YOLK_GIVEN": "a 'b' $c", "YOLK_FILE": WRITTEN})
    assert outcome.up_s is not None, outcome.why + outcome.output
    return outcome


def said(outcome, what):
    return re.findall(rf"^{what} (.*)$", outcome.output, re.M)


def test_the_command_runs_as_on_the_host(booted):
    assert booted.status == 3 and booted.why == ""
    assert said(booted, "folder") == [os.getcwd()] and said(booted, "given") == ["a 'b' $c"]
    assert "to standard error" in booted.output
    assert said(booted, "kernel") != [os.uname().release]


def test_what_it_writes_stays_there(booted):
    assert said(booted, "file") == ["written here"]
    assert not os.path.exists(WRITTEN)


def test_its_devices(booted):
    assert said(booted, "rdma") == [f"rxe{n}{end} 4: ACTIVE" for n in (0, 1) for end in "ab"]
    assert said(booted, "nodes") == ["0-1 processors 0"]
    assert 0 < int(said(booted, "slow")[0]) <= 64 << 10
    assert said(booted, "drive") == [str(vm.DRIVE_BYTES // 512)]


def test_packets_cross_the_wire(booted):
    assert int(said(booted, "pingpong packets")[0]) > 50, booted.output


def test_nothing_waits_for_ever(booted):
    assert "wait-for gives up" in booted.output


@pytest.fixture(scope="module")
def again(tmp_path_factory):
    """A boot in a folder of /tmp, and that folder."""
    there = tmp_path_factory.mktemp("there")
    (there / "there").write_text("from the host\n")
    steps = [Step("folder", ["sh", "-c", "cat there && echo more >here"]), conformance(2, cases=PLAIN), rails("a_link_is_cut", 2)]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(there)
        return boot_steps(steps, nics=2), there


def test_a_folder_in_tmp_comes_along(again):
    steps, there = again
    assert steps["folder"].status == 0 and "from the host" in steps["folder"].output, steps["folder"].output
    assert [path.name for path in there.iterdir()] == ["there"]


def test_conformance_over_two_devices(again):
    assert_step(again[0]["conformance"], *PLAIN)


def test_a_link_is_cut(again):
    assert_step(again[0]["a_link_is_cut"], "a_link_is_cut")


# ---- guests that do not end well: what stands for QEMU here is a shell --------------------------


class FakeJob:
    mark = "yolk-vm-mark"
    kernel_said = staticmethod(list)


def watched(script, seconds=60, cut=None):
    return vm.watch(["sh", "-c", script], FakeJob, seconds, cut)


def test_only_the_mark_of_this_boot_counts():
    outcome = watched("echo yolk-vm-other exit 0; echo exit 0; echo rest")
    assert outcome.status is None and "without a result" in outcome.why
    assert outcome.output.split("\n")[:3] == ["yolk-vm-other exit 0", "exit 0", "rest"]
    assert watched("echo yolk-vm-mark up; echo yolk-vm-mark exit 7; exit 1").status == 7


def test_a_deadline_ends_the_guest():
    outcome = watched("echo $$; exec sleep 1000", seconds=10)
    assert outcome.status is None and "within 10 s" in outcome.why
    with pytest.raises(ProcessLookupError):
        os.kill(int(outcome.output), 0)


def test_a_power_cut_ends_the_guest():
    outcome = watched("echo $$; echo now; exec sleep 1000", cut="now")
    assert outcome.status is None and "power was cut" in outcome.why
    with pytest.raises(ProcessLookupError):
        os.kill(int(outcome.output.split()[0]), 0)


def test_a_guest_dies_with_its_caller():
    """Also when that is killed: the kernel tells QEMU."""
    qemu = vm.Guest()._qemu(vm.HERE, "tcg") if (vm.CACHE / "root").exists() else vm.DIE_WITH_CALLER
    assert qemu[:len(vm.DIE_WITH_CALLER)] == vm.DIE_WITH_CALLER
    caller = "import sys, subprocess; p = subprocess.Popen(sys.argv[1:]); print(p.pid, flush=True); p.wait()"
    child = [*vm.DIE_WITH_CALLER, "sh", "-c", "echo ready; exec sleep 1000"]
    with subprocess.Popen([sys.executable, "-c", caller, *child], stdout=subprocess.PIPE) as process:
        lines = [process.stdout.readline().strip() for _ in range(2)]  # "ready": it dies with its caller from here on
        guest = os.pidfd_open(int(next(line for line in lines if line.isdigit())))
        process.kill()
    assert select.select([guest], [], [], 60)[0], "it lives on"
    os.close(guest)


def test_what_a_killed_caller_has_left_is_cleared(tmp_path, monkeypatch):
    monkeypatch.setattr(vm, "CACHE", tmp_path)
    left, young = tmp_path / "job-left", tmp_path / "job-young"
    for folder in (left, young):
        folder.mkdir()
        (folder / "drive0").write_text("")
    os.utime(left, (0, 0))
    with vm.job_folder() as folder:
        assert not left.exists() and young.exists()
        os.utime(folder, (0, 0))
        vm.clear_jobs()
        assert os.path.exists(folder)
    assert os.listdir(tmp_path) == [young.name]


def test_who_cannot_have_a_guest_is_told_why(tmp_path):
    """Without QEMU in PATH: one line, status 77, and nothing downloaded."""
    for name in ("sh", "dirname", "mkdir", "setpriv", "uname", "cat", "env", "python3"):
        (tmp_path / name).symlink_to(shutil.which(name))
    env = {**os.environ, "PATH": str(tmp_path), "YOLK_VM_CACHE": str(tmp_path / "cache")}
    fetched = subprocess.run(["sh", vm.HERE / "fetch"], env=env, capture_output=True, text=True)
    assert fetched.returncode == vm.SKIP and re.fullmatch(r"tests/vm: SKIP: qemu-system-x86_64 is missing .*\n", fetched.stdout)
    ran = subprocess.run([sys.executable, vm.HERE / "run", "true"], env=env, capture_output=True, text=True)
    assert ran.returncode == vm.SKIP and ran.stderr == fetched.stdout


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_a_step_leaves_nothing_running(shell, tmp_path):
    """A step that its deadline ends (which its own signal brings on, when all is there), with a child that takes no SIGTERM,
    and one that ends well beside its child."""
    child = (f"(trap '' TERM; >{tmp_path}/deaf; exec sleep 100) & echo $! >>{tmp_path}/left; "
             f"until rm {tmp_path}/deaf 2>/dev/null; do sleep 0.01; done; echo child")
    gone = f"while read -r pid; do grep '^State:.[^ZX]' /proc/$pid/status 2>/dev/null; done <{tmp_path}/left; echo gone"
    script = step_script([Step("late", ["sh", "-c", f"{child}; kill -s ALRM $PPID; sleep 100"]), Step("next", ["sh", "-c", gone]),
                          Step("well", ["sh", "-c", child]), Step("last", ["sh", "-c", gone])], "echo before")
    output = subprocess.run([shell, "-c", script], capture_output=True, text=True, timeout=300).stdout
    lines = re.sub(r"after \d+ s", "", output).split("\n")
    assert [line.strip() for line in lines if line] == [
        "== late begins", "before", "child", "== late ends with 124", "== next begins", "before", "gone", "== next ends with 0",
        "== well begins", "before", "child", "== well ends with 0", "== last begins", "before", "gone", "== last ends with 0"], output


def test_a_missing_command_is_told(tmp_path):
    done = subprocess.run([vm.HERE / "run"], capture_output=True, text=True)
    assert done.returncode == 2 and "expected a command" in done.stderr

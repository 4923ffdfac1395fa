# SPDX-License-Identifier: Apache-2.0
"""A QEMU guest that runs one command on this host's root file system, seen read-only.

`Guest(...).run(command)` boots Debian's stock kernel (tests/vm/fetch got it), runs the command in the
current folder, and returns how it ended. The guest has devices that this host lacks: RDMA NICs (tests/vm/nics),
NVMe drives, NUMA nodes without processors, CXL memory. Software emulation works everywhere; KVM is used where
a guest boots with it, which is tried once a cache.

Only a line with a mark that is new for each boot says that the command ended, and how: QEMU exits with 0
after a panic as well. Whatever happens, the guest is gone when run() returns, and QEMU dies with this process.
"""
import fcntl
import os
import re
import secrets
import selectors
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("YOLK_VM_CACHE") or HERE.parent.parent / "build/vm").resolve()
SKIP = 77  # exit status of fetch and run where there can be no guest
DIE_WITH_CALLER = ["setpriv", "--pdeathsig", "KILL"]
KVM_BOOTS_IN_S = 20
POWER_OFF_S = 10
YOUNG_S = 60
DRIVE_BYTES = 512 << 20  # of a blank NVMe drive; a sparse file


class NoGuest(Exception):
    """No guest can be had here; the text says why."""


def fetch(*more):
    """Makes the cache complete; raises NoGuest where there can be none."""
    done = subprocess.run([*DIE_WITH_CALLER, "sh", HERE / "fetch", *more], stdout=subprocess.PIPE, text=True)
    if done.returncode == SKIP:
        raise NoGuest(done.stdout.strip().splitlines()[-1])
    done.check_returncode()


@dataclass
class Guest:
    """What a guest has. Sizes in MiB; disks are image files that stay, drives are blank ones that do not."""
    cpus: int = 2
    memory: int = 768
    slow_memory: int = 0  # of a second NUMA node, which has no processors
    cxl: int = 0  # of a CXL type 3 device; a multiple of 256
    nics: int = 0
    kind: str = "rxe"
    drives: int = 0
    disks: list = field(default_factory=list)
    seconds: int = 300
    env: dict = field(default_factory=dict)
    qemu: list = field(default_factory=list)  # more arguments of QEMU's

    def run(self, command, cut=None, show=None):
        """Runs a command (a list) in a fresh guest. show: called with each line of output as it comes.
        cut: the guest is killed, as by a power cut, when a line with this text comes."""
        fetch(*(["siw"] if self.kind == "siw" and self.nics else []))
        return self._boot(command, accelerator(), self.seconds, cut, show)

    def _boot(self, command, accel, seconds, cut=None, show=None):
        with job_folder() as folder:
            job = Job(Path(folder), self, command)
            return watch(self._qemu(Path(folder), accel), job, seconds, cut, show)

    def _qemu(self, job, accel):
        release = os.listdir(CACHE / "root/usr/lib/modules")[0]
        # no_timer_check: on a host that is busy the timer's first interrupts come too late for the kernel, which panics
        kernel = "console=ttyS0 quiet loglevel=2 panic=-1 oops=panic mitigations=off random.trust_cpu=on no_timer_check"
        machine = "q35" + (",cxl=on" if self.cxl else "")
        args = [*DIE_WITH_CALLER, "qemu-system-x86_64", "-accel", accel, "-M", machine,
                "-cpu", "host" if accel == "kvm" else "max", "-smp", str(self.cpus), "-m", f"{self.memory + self.slow_memory}M",
                "-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio", "-monitor", "none",
                "-kernel", str(CACHE / f"root/boot/vmlinuz-{release}"), "-initrd", str(CACHE / "initrd"), "-append", kernel]
        for tag, path, more in (("host", "/", ",readonly=on,multidevs=remap"), ("packages", CACHE / "root", ",readonly=on"),
                                ("job", job, "")):
            args += ["-fsdev", f"local,id={tag},path={escaped(path)},security_model=none{more}",
                     "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]
        return args + self._numa_args() + self._drive_args(job) + self._cxl_args(job) + list(self.qemu)

    def _numa_args(self):
        if not self.slow_memory:
            return []
        return ["-object", f"memory-backend-ram,id=near,size={self.memory}M",
                "-object", f"memory-backend-ram,id=slow,size={self.slow_memory}M",
                "-numa", f"node,nodeid=0,memdev=near,cpus=0-{self.cpus - 1}", "-numa", "node,nodeid=1,memdev=slow",
                "-numa", "dist,src=0,dst=1,val=40"]

    def _drive_args(self, job):
        blank = [sparse(job / f"drive{n}", DRIVE_BYTES) for n in range(self.drives)]
        args = []
        for n, path in enumerate([*self.disks, *blank]):
            args += ["-drive", f"file={escaped(path)},if=none,id=drive{n},format=raw,cache=writeback,discard=unmap",
                     "-device", f"nvme,drive=drive{n},serial=YOLK{n},bus=pcie.0"]
        return args

    def _cxl_args(self, job):
        if not self.cxl:
            return []
        memory, label = sparse(job / "cxl", self.cxl << 20), sparse(job / "cxl-label", 1 << 20)
        return ["-object", f"memory-backend-file,id=cxlmem,share=on,mem-path={escaped(memory)},size={self.cxl}M",
                "-object", f"memory-backend-file,id=cxllabel,share=on,mem-path={escaped(label)},size=1M",
                "-device", "pxb-cxl,bus_nr=64,bus=pcie.0,id=cxlbus",
                "-device", "cxl-rp,port=0,bus=cxlbus,id=cxlport,chassis=50,slot=2",
                "-device", "cxl-type3,bus=cxlport,memdev=cxlmem,lsa=cxllabel,id=cxl0",
                "-M", "cxl-fmw.0.targets.0=cxlbus,cxl-fmw.0.size=4G"]

    def script(self, command):
        """What /job/command does: the devices, then the command where and as its caller stands."""
        lines = ["set -e"]
        count = len(self.disks) + self.drives
        if count:
            lines += ["modprobe nvme", f"sh /job/wait-for 30 test -b /dev/nvme{count - 1}n1"]
        if self.nics:
            lines += [f"sh /job/nics {self.nics} {self.kind}"]
        env = {**{k: v for k, v in os.environ.items() if k.startswith("YOLK_") and k != "YOLK_VM_CACHE"}, **self.env}
        lines += [f"export {name}={shlex.quote(str(value))}" for name, value in env.items()]
        return "\n".join([*lines, f"cd {shlex.quote(os.getcwd())}", f"exec {shlex.join(map(str, command))}", ""])


def escaped(path):
    """A path within an option of QEMU's, where commas part one from the next."""
    return str(path).replace(",", ",,")


def sparse(path, size):
    with path.open("wb") as file:
        file.truncate(size)
    return path


def clear_jobs():
    """Removes the folders of callers that were killed: nobody holds their locks. (A young one may not be locked yet.)"""
    for left in CACHE.glob("job-*"):
        try:
            fd = os.open(left, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            continue
        try:
            if time.time() - os.fstat(fd).st_mtime > YOUNG_S:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
        except BlockingIOError:
            pass
        finally:
            os.close(fd)


@contextmanager
def job_folder():
    """A folder for one boot, gone behind it; locked meanwhile, so that the next boot knows what a killed one has left."""
    clear_jobs()
    with tempfile.TemporaryDirectory(prefix="job-", dir=CACHE) as folder:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield folder
        finally:
            os.close(fd)


class Job:
    """The folder that both sides write, with what the guest is to do."""

    def __init__(self, folder, guest, command):
        self.folder = folder
        self.mark = f"yolk-vm-{secrets.token_hex(8)}"
        for name in ("guest", "nics", "wait-for"):
            shutil.copyfile(HERE / name, folder / name)
        (folder / "mark").write_text(f"{self.mark}\n")
        (folder / "command").write_text(guest.script(command))
        (folder / "folder").write_text(f"{os.getcwd()}\n")

    def kernel_said(self):
        path = self.folder / "dmesg"
        return path.read_text(errors="replace").splitlines()[-30:] if path.exists() else []


@dataclass
class Outcome:
    """How it went. status: the command's, or None if it did not end; why: what happened instead."""
    status: int | None
    why: str
    output: str
    up_s: float | None  # from QEMU's start to the command's
    kernel: list  # the kernel's last lines, where the command failed


def watch(args, job, seconds, cut=None, show=None):
    """Follows a guest to its end, or ends it: after so many seconds, and when the text `cut` comes."""
    started = time.monotonic()
    qemu = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    lines, up_s, status, why = [], None, None, ""
    try:
        for line in lines_of(qemu.stdout, started + seconds):
            said = re.search(rf"{job.mark} (up|exit (\d+))", line)
            if said is None:
                lines.append(line)
                if show:
                    show(line)
                if cut and cut in line:
                    why = "its power was cut"
                    break
            elif said[2] is None:
                up_s = time.monotonic() - started
            else:
                status = int(said[2])
                break
        else:
            overran = time.monotonic() >= started + seconds
            why = f"it did not end within {seconds} s" if overran else "the guest went down without a result"
    finally:
        if status is None:
            qemu.kill()
        try:
            qemu.wait(POWER_OFF_S)
        except subprocess.TimeoutExpired:
            qemu.kill()
            qemu.wait()
        qemu.stdout.close()
    return Outcome(status, why, "\n".join(lines), up_s, job.kernel_said())


def lines_of(pipe, deadline):
    """The lines that come until the pipe ends or the deadline is over."""
    os.set_blocking(pipe.fileno(), False)
    rest = b""
    with selectors.DefaultSelector() as ready:
        ready.register(pipe, selectors.EVENT_READ)
        while time.monotonic() < deadline:
            if not ready.select(min(1.0, max(0.0, deadline - time.monotonic()))):
                continue
            data = os.read(pipe.fileno(), 65536)
            *whole, rest = (rest + data).split(b"\n")
            for line in whole if data else [rest]:
                yield line.decode(errors="replace").rstrip("\r")
            if not data:
                return


def accelerator():
    """kvm where a guest boots with it, else emulation; $YOLK_VM_ACCEL decides without a try."""
    software = "tcg,thread=multi"
    wanted = os.environ.get("YOLK_VM_ACCEL")
    if wanted or not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return {"tcg": software}.get(wanted, wanted) or software
    known = CACHE / "accel"
    if not known.exists():
        tried = Guest()._boot(["true"], "kvm", KVM_BOOTS_IN_S)
        new = CACHE / f"accel.{os.getpid()}"
        new.write_text("kvm" if tried.status == 0 else software)
        new.rename(known)
    return known.read_text()

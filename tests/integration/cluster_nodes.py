# SPDX-License-Identifier: Apache-2.0
"""Several yolkd and a real etcd on this host: one cluster, for tests that ask it through libyolk, by ctypes. Its
fixtures, make_cluster and three, are in conftest.py. Clusters that are hurt: cluster_rig.py.
"""
import ctypes
import random
import socket
import subprocess
import threading
import time
import urllib.request

import pytest

from harness import BUILD, DEADLINE_S, Node, wait_for

MISS = 1
ETIMEDOUT = -5
EGONE = -17


# ---- libyolk ----------------------------------------------------------------------------------


class Key(ctypes.Structure):
    _fields_ = [("data", ctypes.c_char_p), ("len", ctypes.c_size_t)]


class Ref(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("len", ctypes.c_size_t), ("checksum", ctypes.c_uint64),
                ("priv", ctypes.c_uint64 * 2)]


class OpenOpts(ctypes.Structure):
    """The beginning of yk_open_opts, likewise."""
    _fields_ = [("size", ctypes.c_uint32), ("flags", ctypes.c_uint32)]


NO_MAP = 1


class PutOpts(ctypes.Structure):
    """The beginning of yk_put_opts: `size` says how much there is."""
    _fields_ = [("size", ctypes.c_uint32), ("flags", ctypes.c_uint32), ("parent", Key)]


def library():
    for path in (BUILD / "lib/libyolk.so", BUILD / "src/client/libyolk.so"):
        if path.exists():
            return ctypes.CDLL(str(path))
    pytest.skip(f"libyolk.so is not built in {BUILD}")


class Client:
    def __init__(self, url, flags=0):
        self.lib = library()
        self.handle = ctypes.c_void_p()
        self.lib.yk_error_text.restype = ctypes.c_char_p
        opts = OpenOpts(ctypes.sizeof(OpenOpts), flags)
        end = time.monotonic() + DEADLINE_S
        while True:  # on a busy machine the cluster may not have said in time that the namespace is there
            rc = self.lib.yk_open(url.encode(), ctypes.byref(opts), ctypes.byref(self.handle))
            if rc not in (ETIMEDOUT, EGONE) or time.monotonic() > end:
                break
        assert rc == 0, self.lib.yk_error_text(None)

    def close(self):
        if self.handle:
            self.lib.yk_close(self.handle)
            self.handle = None

    def _check(self, rc):
        assert rc >= 0, (rc, self.lib.yk_error_text(self.handle))
        return rc

    @staticmethod
    def _key(key):
        return Key(key, len(key))

    def put(self, key, data, parent=None):
        opts = PutOpts(ctypes.sizeof(PutOpts), 0, self._key(parent) if parent else Key(None, 0))
        self._check(self.lib.yk_put(self.handle, self._key(key), data, ctypes.c_size_t(len(data)), ctypes.byref(opts)))

    def get(self, key, cap=1 << 22):
        buf, got = ctypes.create_string_buffer(cap), ctypes.c_size_t()
        rc = self._check(self.lib.yk_get(self.handle, self._key(key), buf, ctypes.c_size_t(cap), ctypes.byref(got)))
        return None if rc == MISS else buf.raw[:got.value]

    def is_got(self, key, cap=1 << 22):
        """False: it is a miss, or there was no answer (a node that begins anew)."""
        buf, got = ctypes.create_string_buffer(cap), ctypes.c_size_t()
        return self.lib.yk_get(self.handle, self._key(key), buf, ctypes.c_size_t(cap), ctypes.byref(got)) == 0

    def ref(self, key):
        ref = Ref()
        if self._check(self.lib.yk_ref_get(self.handle, self._key(key), ctypes.byref(ref))) == MISS:
            return None
        data = ctypes.string_at(ref.data, ref.len)
        self.lib.yk_ref_release(self.handle, ctypes.byref(ref))
        return data

    def exists(self, key):
        return self._check(self.lib.yk_exists(self.handle, self._key(key))) == 1

    def match(self, keys):
        array = (Key * len(keys))(*[self._key(k) for k in keys])
        return self._check(self.lib.yk_match_sized(self.handle, array, ctypes.c_size_t(len(keys)), None, ctypes.c_size_t(0)))

    def remove(self, key):
        return self._check(self.lib.yk_remove(self.handle, self._key(key)))

    def is_removed(self, key):
        """False: no answer came in time; whether it is done is not known."""
        rc = self.lib.yk_remove(self.handle, self._key(key))
        return rc != ETIMEDOUT and self._check(rc) >= 0


# ---- etcd and the nodes -----------------------------------------------------------------------


kept_ports = []


def free_port():
    """Not of those that the kernel gives to whoever dials: who is started on it, and started again, would find it taken
    now and then. From other tests it is kept by a UDP socket of the same number."""
    while True:
        port, token = random.randrange(10000, 32000), socket.socket(type=socket.SOCK_DGRAM)
        try:
            token.bind(("127.0.0.1", port))
            with socket.socket() as s:
                s.bind(("127.0.0.1", port))
        except OSError:
            token.close()
            continue
        kept_ports.append(token)
        return port


class Etcd:
    def __init__(self, place):
        self.place, self.dir = place, place.dir / "etcd"
        self.url, self.peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        self.process = None

    def start(self):
        with open(self.place.dir / "etcd.log", "ab") as log:
            self.process = self.place.spawn(
                ["etcd", "--name", "m0", "--data-dir", self.dir, "--listen-client-urls", self.url, "--advertise-client-urls",
                 self.url, "--listen-peer-urls", self.peer, "--initial-advertise-peer-urls", self.peer, "--initial-cluster",
                 f"m0={self.peer}"], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_for(self.is_up, "etcd answers")  # on a busy disk later than a node waits for it
        return self

    def is_up(self):
        try:
            with urllib.request.urlopen(f"{self.url}/version", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    def kill(self):
        self.process.kill()
        self.process.wait(DEADLINE_S)


class Relay:
    """A way to etcd that can be cut: what is told through it goes no further."""

    def __init__(self, url):
        self.port = int(url.rsplit(":", 1)[1])
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.open, self.sockets = True, []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                near = self.listener.accept()[0]
            except OSError:
                return
            if not self.open:
                near.close()
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self.port))
            except OSError:
                near.close()
                continue
            self.sockets += [near, far]
            for a, b in ((near, far), (far, near)):
                threading.Thread(target=self.carry, args=(a, b), daemon=True).start()

    @staticmethod
    def carry(a, b):
        try:
            while data := a.recv(65536):
                b.sendall(data)
        except OSError:
            pass
        for s in (a, b):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def cut(self):
        self.open = False
        for s in self.sockets:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.sockets = []

    def close(self):
        self.cut()
        self.listener.close()


def join(node):
    """Starts it, and waits until it serves."""
    return until_joined(node.launch())


def until_joined(node):
    """One that could not join in the time that it takes for that, on a busy machine, is started again."""
    for _ in range(5):
        wait_for(lambda: " serves " in node.log() or node.process.poll() is not None, "the node serves or ends")
        if node.process.poll() is None:
            return node
        node.launch()
    return node.start()


class Cluster:
    """Nodes n0, n1, ... and a client of each."""

    def __init__(self, place, etcd, count, *more):
        self.place, self.etcd, self.more = place, etcd, more
        self.nodes = [self.node(i) for i in range(count)]
        self.clients = {}
        for node in self.nodes:
            join(node)

    def node(self, i, etcd=None):
        name = f"n{i}"
        return Node(self.place, "--etcd", etcd or self.etcd.url, "--node-name", name, "--state-dir", self.place.dir / f"{name}.state",
                    "--peer-listen", "127.0.0.1:0", *self.more, dram="64M", name=name)

    def client(self, i):
        if i not in self.clients:
            self.clients[i] = Client(self.nodes[i].url)
        return self.clients[i]

    def drop_client(self, i):
        client = self.clients.pop(i, None)
        if client is not None:
            client.close()

    def close(self):
        for i in list(self.clients):
            self.drop_client(i)

    def infos(self, i):
        return {n["name"]: n for n in self.nodes[i].json("nodes")}

    def until_members(self, i, names):
        wait_for(lambda: {n for n, v in self.infos(i).items() if v["state"] == "member" and v["alive"]} == set(names),
                 f"n{i} sees {names}")


def data(key, size):
    return (key * (size // len(key) + 1))[:size]


def until_there(client, key):
    wait_for(lambda: client.exists(key), f"{key} is found")


def got(client, key):
    """What a get gives; one that nobody could tell in time is a miss, and asked again."""
    return wait_for(lambda: client.get(key), f"{key} comes")


def kill(cluster, i):
    cluster.drop_client(i)
    cluster.nodes[i].process.kill()
    cluster.nodes[i].process.wait(DEADLINE_S)

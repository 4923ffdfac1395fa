# SPDX-License-Identifier: Apache-2.0
"""The router of a real yolkd: reports over HTTP, `yolk route`, an engine's KV events from a real publisher, and where
the nodes of a cluster have a chain.
"""
import json
import os
import re
import shutil
import threading
import urllib.error
import urllib.request

import pytest

from cluster_nodes import data, until_there
from harness import DEADLINE_S, one_line, wait_for, yolk


def address(node):
    return re.search(r"http (127\.0\.0\.1:\d+)", node.log()).group(1)


def post(router, path, /, **body):
    """The answer's object; None where it is empty."""
    request = urllib.request.Request(f"http://{address(router)}{path}", json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def route(node, *args):
    done = yolk("--url", node.url, "--json", "route", "--http", address(node), *args)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def router(make_node):
    return make_node("--http", "127.0.0.1:0").start()


def test_a_request_goes_round(router):
    one_line(yolk("route", "--http", address(router), "--tokens", "100"), 1)
    post(router, "/v1/route/load", name="busy", waiting=9, waiting_tokens=80000)
    post(router, "/v1/route/load", name="idle")
    post(router, "/v1/route/blocks", name="busy", tier="vram", stored=[1, 2, 3])
    answer = route(router, "--hash", "1", "2", "3", "--take")
    assert [c["name"] for c in answer["ranked"]] == ["idle", "busy"] and answer["verdict"] == "admit"
    assert answer["ranked"][1]["blocks"]["vram"] == 3
    done = dict(decision=answer["decision"], queue_ms=1, transfer_ms=0, compute_ms=80, new_tokens=1536)
    assert post(router, "/v1/route/outcome", **done) is None
    with pytest.raises(urllib.error.HTTPError) as error:
        post(router, "/v1/route/outcome", **done)
    assert error.value.code == 404
    state = json.loads(yolk("route", "--http", address(router), "--state").stdout)
    assert state["all"]["outcomes"] == 1 and {i["name"] for i in state["instances"]} == {"busy", "idle"}
    table = yolk("route", "--http", address(router), "--hash", "1", "2", "3").stdout.splitlines()
    assert table[0].startswith("ENGINE") and table[1].startswith("idle ")


def test_what_is_wrong_is_said_in_one_line(router):
    post(router, "/v1/route/load", name="e")
    assert "rejected" in one_line(yolk("route", "--http", address(router), "--tokens", "9000", "--objective", "1ms"), 1)
    assert "--tokens" in one_line(yolk("route", "--http", address(router)), 2)
    assert "hash" in one_line(yolk("route", "--http", address(router), "--hash", "x"), 2)
    assert "HOST:PORT" in one_line(yolk("route", "--http", "nowhere", "--tokens", "1"), 2)
    assert "start yolkd" in one_line(yolk("route", "--http", "127.0.0.1:1", "--tokens", "1"), 1)
    assert "in no cluster" in one_line(yolk("--url", router.url, "route", "--cluster", "a"), 1)


def metric(node, name, **labels):
    """A sample's value; None where there is none."""
    with urllib.request.urlopen(f"http://{address(node)}/metrics", timeout=DEADLINE_S) as answer:
        page = answer.read().decode()
    inside = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
    found = re.search(rf"^{name}{re.escape('{' + inside + '}') if labels else ''} (\S+)$", page, re.M)
    return float(found.group(1)) if found else None


def test_what_it_did_is_shown(router):
    assert "not been asked" in one_line(yolk("route", "--http", address(router), "--status"), 1)
    assert metric(router, "yolk_route_decisions_total") is None
    post(router, "/v1/route/load", name="e")
    answer = route(router, "--hash", "1", "2", "--take")
    post(router, "/v1/route/outcome", decision=answer["decision"], compute_ms=50)
    yolk("route", "--http", address(router), "--tokens", "9000", "--objective", "1ms")
    status = json.loads(yolk("--json", "route", "--http", address(router), "--status").stdout)
    assert status["asked"] == 2 and status["admitted"] == 1 and status["late_work"] == 1
    assert status["outcomes"] == 1 and status["error"]["compute"]["outcomes"] == 1
    assert metric(router, "yolk_route_requests_total", verdict="admit") == 1
    assert metric(router, "yolk_route_requests_total", verdict="late_work") == 1
    assert metric(router, "yolk_route_outcomes_total", result="learned") == 1
    assert metric(router, "yolk_route_error_ratio", part="compute", stat="p90") == pytest.approx(
        status["error"]["compute"]["p90"], rel=1e-3)
    text = yolk("route", "--http", address(router), "--status").stdout
    assert "1 admitted" in text and re.search(r"^compute +1 ", text, re.M)


def test_what_it_costs_is_measured():
    done = yolk("bench", "route", "--quick", "--json")
    assert done.returncode == 0, done.stderr
    rows = {row["case"]: row for row in map(json.loads, done.stdout.splitlines())}
    cases = [f"decide {t} targets {n} blocks" for t in (8, 64, 1000) for n in (16, 256, 4096)]
    for case in cases + ["event entered", "event decoded"]:
        assert rows[case]["value"] > 0 and rows[case]["limit"] > 0


# ---- events ------------------------------------------------------------------------------------


def packed(value):
    """msgpack of what events are made of."""
    if value is None:
        return b"\xc0"
    if isinstance(value, int):
        return b"\xcf" + value.to_bytes(8, "big")
    if isinstance(value, bytes):
        return b"\xc4" + bytes([len(value)]) + value
    if isinstance(value, str):
        return b"\xd9" + bytes([len(value)]) + value.encode()
    return b"\xdc" + len(value).to_bytes(2, "big") + b"".join(map(packed, value))


def test_events_of_an_engine_are_listened_to(router):
    zmq = pytest.importorskip("zmq", reason="python3-zmq is missing")
    hashes = [2**63 + 5, b"\x01" * 32, 7]
    names = [str(hashes[0]), "0x" + hashes[1].hex(), "7"]
    with zmq.Context() as context, context.socket(zmq.XPUB) as engine:
        engine.setsockopt(zmq.LINGER, 0)
        port = engine.bind_to_random_port("tcp://127.0.0.1")
        try:
            post(router, "/v1/route/load", name="e1", events={"endpoint": f"tcp://127.0.0.1:{port}", "topic": "kv"})
        except urllib.error.HTTPError as error:
            assert error.code == 501
            pytest.skip(error.read().decode())
        post(router, "/v1/route/load", name="e2")
        assert engine.poll(DEADLINE_S * 1000) and engine.recv() == b"\x01kv"

        def publish(number, *events):
            engine.send_multipart([b"kv-events", number.to_bytes(8, "big"), packed([None, events, 0])])

        def in_vram():
            return {c["name"]: c["blocks"]["vram"] for c in route(router, "--hash", *names)["ranked"]}
        publish(0, ["BlockStored", hashes, None, list(range(48)), 16, None, "GPU"])
        wait_for(lambda: in_vram() == {"e1": 3, "e2": 0}, "the blocks are known")
        publish(1, ["BlockRemoved", hashes[1:2], "GPU"])
        wait_for(lambda: in_vram()["e1"] == 1, "one is gone")
        publish(2, ["BlockStored", hashes[1:2], hashes[0], [], 16, None, None, None, "new"], ["Unheard", 1])
        wait_for(lambda: in_vram()["e1"] == 3, "it is back")
        publish(9, ["BlockStored", hashes[2:], None, [], 16, None, "GPU"])
        wait_for(lambda: in_vram()["e1"] == 0, "after a gap nothing is known of its head")
        publish(10, ["BlockStored", hashes, None, [], 16, None, "GPU"])
        wait_for(lambda: in_vram()["e1"] == 3, "it goes on")
        publish(11, ["AllBlocksCleared"])
        wait_for(lambda: in_vram()["e1"] == 0, "all are gone")

        def events():
            return json.loads(yolk("route", "--http", address(router), "--state").stdout)["instances"][0]["events"]
        wait_for(lambda: events()["batches"] == 6, "all are counted")
        assert events()["gaps"] == 1 and events()["lost"] == 1
        post(router, "/v1/route/load", name="e1", gone=True)
        assert engine.poll(DEADLINE_S * 1000) and engine.recv() == b"\x00kv"


def resident_bytes(node):
    with open(f"/proc/{node.process.pid}/status") as status:
        return int(re.search(r"VmRSS:\s+(\d+) kB", status.read()).group(1)) << 10


def test_a_flood_of_events_holds_up_nobody(router):
    """An engine publishes as fast as it can; probes, scrapers and requests are answered all the while."""
    zmq = pytest.importorskip("zmq", reason="python3-zmq is missing")
    with zmq.Context() as context, context.socket(zmq.XPUB) as engine:
        engine.setsockopt(zmq.LINGER, 0)
        engine.setsockopt(zmq.SNDHWM, 16)
        engine.setsockopt(zmq.XPUB_NODROP, 1) # it waits: with gaps the table would be emptied again and again
        engine.setsockopt(zmq.SNDTIMEO, DEADLINE_S * 1000)
        port = engine.bind_to_random_port("tcp://127.0.0.1")
        try:
            post(router, "/v1/route/load", name="e1", events={"endpoint": f"tcp://127.0.0.1:{port}"})
        except urllib.error.HTTPError as error:
            assert error.code == 501
            pytest.skip(error.read().decode())
        assert engine.poll(DEADLINE_S * 1000) and engine.recv() == b"\x01"
        before = resident_bytes(router)
        batches = [packed([None, [["BlockStored", list(range(i << 32, (i << 32) + 50000)), None, [], 16, None, "GPU"]], 0])
                   for i in range(1, 41)]
        ends = threading.Event()

        def flood():
            number = 0
            while not ends.is_set():
                engine.send_multipart([b"kv", number.to_bytes(8, "big"), batches[number % len(batches)]])
                number += 1
        thread = threading.Thread(target=flood)
        thread.start()
        try:
            wait_for(lambda: (metric(router, "yolk_route_blocks") or 0) == 1 << 20, "the table is full")
            for _ in range(20):
                with urllib.request.urlopen(f"http://{address(router)}/healthz", timeout=DEADLINE_S) as answer:
                    assert answer.status == 200
                assert post(router, "/v1/route", tokens=100)["verdict"] == "admit"
                assert metric(router, "yolk_route_blocks") <= 1 << 20
            # The table (1,048,576 copies of 40 bytes), and what libzmq may keep of one engine: 16 messages of 4 MiB.
            # (A sanitizer's shadow comes on top.)
            if os.environ.get("YOLK_SLOW") != "1":
                assert resident_bytes(router) - before < (1 << 20) * 48 + (16 * 4 << 20) + (32 << 20)
        finally:
            ends.set()
            thread.join()
        assert metric(router, "yolk_route_event_blocks_total") > 1 << 20


# ---- a cluster ---------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("etcd") is None, reason="etcd is missing (etcd-server)")
def test_nodes_of_a_cluster_say_what_they_have_and_measure(make_cluster):
    cluster = make_cluster(3, "--http", "127.0.0.1:0")
    cluster.until_members(0, ["n0", "n1", "n2"])
    keys = [f"k{i}" for i in range(6)]
    for i, key in enumerate(keys):
        cluster.client(0 if i < 4 else 1).put(key.encode(), data(key.encode(), 4000))
    cluster.client(2).put(b"k1", data(b"k1", 4000)) # without its head
    router = cluster.nodes[2]
    for i in (2, 1, 0): # e0 is the last to be silent
        post(router, "/v1/route/load", name=f"e{i}", node=f"n{i}", zone="z")
    until_there(cluster.client(2), b"k5")
    answer = route(router, "--cluster", "--block-tokens", "2000", *keys)
    blocks = {c["name"]: (c["blocks"], c["peer"]) for c in answer["ranked"]}
    assert answer["ranked"][0]["name"] == "e0"
    assert blocks["e0"][0]["dram"] == 4 and blocks["e0"][0]["compute"] == 2
    for other in ("e1", "e2"):
        assert blocks[other][0]["dram"] == 0 and blocks[other][0]["peer"] == 4 and blocks[other][1] == "n0"

    def measured():
        state = json.loads(yolk("route", "--http", address(router), "--state").stdout)
        return {i["name"]: i["measured"] for i in state["instances"] if "measured" in i}
    wait_for(lambda: set(measured()) == {"n0", "n1", "n2"}, "all nodes report") # rates are made of two looks
    size = 4 << 20 # and what they measure: n2 reads from n1
    for key in (b"b0", b"b1", b"b2", b"b3"):
        cluster.client(1).put(key, data(key, size))
        until_there(cluster.client(2), key)
        assert wait_for(lambda: cluster.client(2).get(key), f"{key} comes") == data(key, size)


    def reads_reported():
        seen = measured() # without those that have not answered of late
        return seen if {"n1", "n2"} <= seen.keys() and seen["n2"]["near_bytes_per_s"] > 0 else None
    seen = wait_for(reads_reported, "n2's reads are reported")
    assert seen["n1"]["near_bytes_per_s"] == 0
    assert seen["n1"]["dram_bytes"] > seen["n1"]["dram_free_bytes"] > 0
    wait_for(lambda: metric(router, "yolk_route_instances", state="node") == 3, "all have reported of late")


@pytest.mark.skipif(shutil.which("etcd") is None, reason="etcd is missing (etcd-server)")
def test_a_hot_chain_is_kept_where_it_goes(make_cluster):
    """n0 has it, and its engine is busy: n1, whose engine gets the requests, is asked to keep a copy, and n2 is not."""
    cluster = make_cluster(3, "--http", "127.0.0.1:0")
    cluster.until_members(2, ["n0", "n1", "n2"])
    keys = [f"hot{i}" for i in range(4)]
    for key in keys:
        cluster.client(0).put(key.encode(), data(key.encode(), 50000))
    for key in keys:
        until_there(cluster.client(2), key.encode())
    router = cluster.nodes[2]
    # e1 after e0: it is not the first to be silent. Its link is as it says: what n1 measures while the machine is busy
    # may be slower than computing.
    post(router, "/v1/route/load", name="e0", node="n0", waiting=50, waiting_tokens=500000)
    post(router, "/v1/route/load", name="e1", node="n9", peer_bytes_per_s=1e11)

    def ask(**more):
        return post(router, "/v1/route", tokens=2100, block_tokens=512, block_bytes=50000, keys=keys,
                    held={"n0": {"dram": 4}}, **more)
    with pytest.raises(urllib.error.HTTPError) as error:
        post(router, "/v1/route", tokens=5, keep=True)
    assert error.value.code == 400
    post(router, "/v1/route/blocks", name="e1", tier="vram", stored=[]) # it says what it has: nothing is assumed

    def asked_to_keep():
        answer = ask(keep=True)
        assert answer["ranked"][0]["name"] == "e1" and answer["ranked"][0]["blocks"]["peer"] == 4
        assert answer["keeping"] == 0 or answer["replicate"]
        post(router, "/v1/route/outcome", decision=answer["decision"], dropped=True)
        return answer["keeping"]
    assert asked_to_keep() == 0 # not hot yet
    for _ in range(40):
        ask(take=False)
    assert wait_for(asked_to_keep, "it is hot") == 4
    assert wait_for(asked_to_keep, "there is no n9, so it is asked for again within a minute", 45) == 4
    wait_for(lambda: "copies of a hot chain for n9 are not asked for" in router.log(), "it is said")

    def kept():
        return metric(router, "yolk_route_kept_blocks_total")
    before = kept()
    post(router, "/v1/route/load", name="e1", node="n1", peer_bytes_per_s=1e11)
    answer = route(router, "--cluster", "--take", "--keep", "--block-bytes", "50000", *keys)
    post(router, "/v1/route/outcome", decision=answer["decision"], dropped=True)
    assert answer["keeping"] == 4 or wait_for(asked_to_keep, "it is asked for at n1") == 4
    assert kept() == before + 4
    assert 0 in [asked_to_keep() for _ in range(10)] # it was asked for a moment ago

    def owned(key):
        done = router.yolk("--json", "locate", key)
        found = [json.loads(line) for line in done.stdout.splitlines()] if done.returncode == 0 else []
        return sorted(f["node"] for f in found if "node" in f and not f["guest"])

    def has_copy(key):
        for _ in range(3): # a question that was not answered in time, on a busy machine, is asked anew, as by any request
            asked_to_keep()
        return owned(key) == ["n0", "n1"]
    for key in keys: # a copy that fails there is asked for again after a minute
        wait_for(lambda: has_copy(key), f"{key} has a copy of its own at n1", 3 * DEADLINE_S)
    assert ask()["keeping"] == 0

# SPDX-License-Identifier: Apache-2.0
"""A trace over a cluster of three nodes whose blocks go from node to node over RDMA."""
import json
import os
from pathlib import Path

import pytest

import vm
from host import INSIDE, assert_good, boot, programs, suite

TRACES = Path(os.environ.get("YOLK_TRACES", vm.HERE.parents[2] / "shared" / "traces"))
REQUESTS = 200 if os.environ.get("YOLK_LONG") == "1" else 20
BLOCK = 32 << 10
PACKET = 4096


@pytest.mark.parametrize("kind", ["rxe", "siw"])
def test_a_trace_over_three_nodes(kind):
    """Every byte right, and what is got from another node is read by devices: the engines of the nodes that have it send
    none of it, which over TCP is all. Where devices count packets, those of the reader receive as many as its bytes take,
    the others little more than the requests."""
    suite("test_xfer_rdma")
    bin_dir = programs("etcd")
    trace = TRACES / "conversation_trace.jsonl"  # else one is generated there
    command = ["/usr/bin/python3", "-B", INSIDE / "rdma_cluster.py", kind, bin_dir, trace if trace.exists() else "none",
               REQUESTS, BLOCK]
    outcome = boot(["sh", "-c", 'ulimit -l unlimited; exec "$@"', "sh", *command], nics=3, kind=kind, memory=1024, seconds=840)
    assert_good(outcome)
    lines = [json.loads(line) for line in outcome.output.splitlines() if line.startswith('{"transports"')]
    over_tcp = [("tcp", 1), ("tcp", 2)] if kind == "rxe" else []
    assert [(line["transports"], line["node"]) for line in lines] == [("rdma,tcp", n) for n in (1, 2, 3)] + over_tcp
    for line in lines:
        result = line["result"]
        assert result["wrong_bytes"] == 0 and result["requests"] == REQUESTS, line
        assert result["checked_bytes"] == result["get_bytes"], line
        if line["node"] == 1:
            assert line["pulled_bytes"] == 0 and result["put_bytes"] > 0, line
            continue
        # Who asks an emulated node may hear too late what others have, and put it again: not often.
        assert result["hit_blocks"] >= 0.5 * result["blocks"] and line["pulled_bytes"] > 0, line
        if line["transports"] == "tcp":
            assert line["received"] == 0 and line["sent_by_others_bytes"] >= line["pulled_bytes"], line
            continue
        # What an emulated device was too slow for goes over TCP: some may, not most.
        assert line["sent_by_others_bytes"] < 0.25 * line["pulled_bytes"], line
        if kind == "rxe":
            assert line["received"] * PACKET >= 0.8 * line["pulled_bytes"], line
            assert sum(line["packets"].values()) < 1.25 * line["received"], line

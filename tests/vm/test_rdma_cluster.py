# SPDX-License-Identifier: Apache-2.0
"""A trace over a cluster of three nodes whose blocks go from node to node over RDMA."""
import json
import os
from pathlib import Path

import vm
from host import INSIDE, assert_good, boot, not_seen_to_end, programs, suite

TRACES = Path(os.environ.get("YOLK_TRACES", vm.HERE.parents[2] / "shared" / "traces"))
REQUESTS = 60
BLOCK = 32 << 10
PACKET = 4096


@not_seen_to_end
def test_a_trace_over_three_nodes():
    """Every byte right, and what is got from another node is read by devices: the packets that they count are as many as
    its bytes take, and what TCP carries beside them is no payload."""
    suite("test_xfer_rdma")
    bin_dir = programs("etcd")
    trace = TRACES / "conversation_trace.jsonl"  # else one is generated there
    outcome = boot(["/usr/bin/python3", "-B", INSIDE / "rdma_cluster.py", bin_dir, trace if trace.exists() else "none", REQUESTS,
                    BLOCK], nics=3, memory=1536, seconds=840)
    assert_good(outcome)
    lines = [json.loads(line) for line in outcome.output.splitlines() if line.startswith('{"transports"')]
    assert [(line["transports"], line["node"]) for line in lines] == [("rdma,tcp", 1), ("rdma,tcp", 2), ("rdma,tcp", 3),
                                                                      ("tcp", 1), ("tcp", 2)]
    for line in lines:
        result = line["result"]
        assert result["wrong_bytes"] == 0 and result["requests"] == REQUESTS, line
        assert result["checked_bytes"] == result["get_bytes"], line
        if line["node"] == 1:
            assert line["pulled_bytes"] == 0, line
            continue
        assert result["hit_blocks"] == result["blocks"] and line["pulled_bytes"] >= line["payload_bytes"] > 0, line
        packets = sum(line["packets"].values())
        if line["transports"] == "tcp":
            assert packets == 0 and line["loopback_bytes"] >= line["pulled_bytes"], line
            continue
        # A transfer that an emulated device was too slow for goes over TCP: some may, not most.
        assert packets * PACKET >= 0.8 * line["pulled_bytes"], line
        assert line["loopback_bytes"] < 0.4 * line["pulled_bytes"], line

# SPDX-License-Identifier: Apache-2.0
"""The RDMA transport over rxe devices, at each end of one or several wires: the engine's conformance suite, bytes through
every device, what becomes of requests when devices, the peer or memory fail, clients of a node, and nodes of a cluster."""
import re

import pytest

from host import INSIDE, assert_good, boot, not_seen_to_end, programs, suite


def wires(count):
    return {"YOLK_RDMA_LISTEN": "0.0.0.0:7711", "YOLK_RDMA_ADVERTISE": ",".join(f"10.99.{n}.2:7711" for n in range(count)),
            "YOLK_RDMA_CUT": ",".join(f"n{n}b" for n in range(count))}


def assert_cases(outcome, *cases):
    assert_good(outcome)
    for case in cases:
        assert f"OK ] {case}" in outcome.output, outcome.output


def test_conformance_over_one_device():
    outcome = boot([suite("test_xfer_rdma")], nics=1, env={"YOLK_RDMA_LISTEN": "10.99.0.2:0"}, seconds=900)
    assert_cases(outcome, "payload_goes_through_devices", "plain", "lanes_that_fail", "requests_that_fail",
                 "slices_that_vanish", "bytes_that_change")


@pytest.mark.parametrize("count", [2, 4])
def test_bytes_go_through_every_device(count):
    """So many wires: all devices at their ends count packets, and all rails of the table of links count bytes."""
    outcome = boot([suite("test_xfer_rdma_rails")], nics=count, env={**wires(count), "YOLK_RDMA_CASE": "every_device*"},
                   seconds=600)
    assert_cases(outcome, "every_device_moves_bytes")
    packets = dict(re.findall(r"(rxe\w+) received (\d+) packets", outcome.output))
    assert sorted(packets) == [f"rxe{n}{end}" for n in range(count) for end in "ab"], outcome.output
    assert "0" not in packets.values(), outcome.output
    moved = [int(n) for n in re.findall(r"rdma to [\d.]+: (\d+) bytes", outcome.output)]
    assert len(moved) == count and min(moved) >= 1 << 20, outcome.output


def test_faults():
    """In one boot, since a boot costs as much as a case: links, packets, addresses, completions, the peer, memory; TCP left
    and not."""
    outcome = boot([suite("test_xfer_rdma_rails")], nics=2, env=wires(2), seconds=1200)
    assert_cases(outcome, "a_link_is_cut", "all_links_are_cut", "tcp_is_left", "packets_vanish", "a_stopped_peer_is_read",
                 "the_peer_is_killed", "memory_that_may_not_be_pinned", "an_address_is_removed",
                 "a_completion_never_comes")


@pytest.mark.parametrize("case", ["an_address_changes", pytest.param("a_device_is_taken_out", marks=not_seen_to_end)])
def test_what_a_host_loses(case):
    """A device that is taken out is one whose link goes, and whose driver waits for its users."""
    removal = {"YOLK_RDMA_REMOVE": "ip link set n0b down && rdma link delete rxe0b",
               "YOLK_RDMA_RETURN": "rdma link add rxe0b type rxe netdev n0b && ip link set n0b up"}
    outcome = boot([suite("test_xfer_rdma_rails")], nics=2, env={**wires(2), **removal, "YOLK_RDMA_CASE": case}, seconds=600)
    assert_cases(outcome, case)


def test_clients():
    """A node's clients without a mapping: payload of memory that nobody registered, through devices, whatever fails."""
    outcome = boot([suite("test_client_rdma")], nics=2, memory=1024, seconds=900,
                   env={"YOLK_RDMA_NODE": "10.99.0.2", "YOLK_RDMA_CUT": "n0b,n1b"})
    assert_cases(outcome, "devices_move_payload", "pieces_and_ranges", "links_are_cut", "the_node_is_killed",
                 "memory_that_may_not_be_pinned")


def test_nodes():
    """`yolk xfer` and two nodes of a cluster with --transports and --rdma: exact bytes, through devices."""
    suite("test_xfer_rdma")
    outcome = boot(["sh", INSIDE / "rdma_nodes.sh", programs("etcd")], nics=2, memory=1024, seconds=600)
    assert_good(outcome)
    links = re.findall(r"^link rdma (\S+) (\S+) \d+$", outcome.output, re.M)
    assert sorted(links) == [("10.99.0.1", "10.99.0.2"), ("10.99.1.1", "10.99.1.2")], outcome.output
    chosen = re.findall(r"^chosen rdma (\S+) (\S+) \d+$", outcome.output, re.M)
    assert chosen == [("10.99.1.1", "10.99.1.2")], outcome.output
    assert re.findall(r"^traffic class (.*)$", outcome.output, re.M) == ["96"], outcome.output
    assert "there is no device rxe9" in outcome.output, outcome.output
    packets = [int(n) for n in re.findall(r"^block \d+: packets (\d+)$", outcome.output, re.M)]
    assert packets and max(packets) >= (8 << 20) / 4096, outcome.output  # which have 4 KiB at most

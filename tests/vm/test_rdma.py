# SPDX-License-Identifier: Apache-2.0
"""The RDMA transport over rxe devices, with one, two and four at each end: the engine's conformance suite, what a slice
costs, bytes through every device, clients of a node, and nodes of a cluster (what is lost: test_rdma_losses.py). There is one
boot for each number of devices."""
import re

import pytest

from host import INSIDE, Step, assert_step, boot_steps, programs, suite
from rdma import CLIENTS, CONFORMANCE, COUNTED, MEMORY, SHORT, clients, conformance, rails


@pytest.fixture(scope="module")
def guest_1():
    counts = Step("counts", [suite("test_xfer_rdma_counts")], {"YOLK_RDMA_LISTEN": "10.99.0.2:7712"})
    return boot_steps([conformance(1), counts], nics=1, seconds=420)


@pytest.fixture(scope="module")
def guest_2():
    nodes = Step("nodes", ["sh", INSIDE / "rdma_nodes.sh", programs("etcd")])
    return boot_steps([conformance(2, cases=SHORT), rails("every_device_moves_bytes", 2), clients(), nodes],
                      nics=2, memory=MEMORY, seconds=840)


@pytest.fixture(scope="module")
def guest_4():
    return boot_steps([conformance(4, cases=SHORT), rails("every_device_moves_bytes", 4)], nics=4, memory=MEMORY, seconds=420)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_conformance(count, request):
    """Plain, and through faults; with several devices payload goes over all that are free."""
    assert_step(request.getfixturevalue(f"guest_{count}")["conformance"], *(CONFORMANCE if count == 1 else SHORT))


def test_what_a_slice_costs(guest_1):
    """Counted: work requests, doorbells, completions, system calls of both ends."""
    assert_step(guest_1["counts"], *COUNTED)
    assert len(re.findall(r"(?:initiator|target): \d+ system calls:", guest_1["counts"].output)) >= 8


@pytest.mark.parametrize("count", [2, 4])
def test_bytes_go_through_every_device(count, request):
    """All devices at the ends of so many wires count packets, and all rails of the table of links count bytes."""
    ended = request.getfixturevalue(f"guest_{count}")["every_device_moves_bytes"]
    assert_step(ended, "every_device_moves_bytes")
    packets = dict(re.findall(r"(rxe\w+) received (\d+) packets", ended.output))
    assert sorted(packets) == [f"rxe{n}{end}" for n in range(count) for end in "ab"], ended.output
    assert "0" not in packets.values(), ended.output
    moved = [int(n) for n in re.findall(r"rdma to [\d.]+: (\d+) bytes", ended.output)]
    assert len(moved) == count and min(moved) >= 1 << 20, ended.output


def test_clients(guest_2):
    """A node's clients without a mapping: payload of memory that nobody registered, through devices, whatever fails."""
    assert_step(guest_2["clients"], *CLIENTS)


def test_nodes(guest_2):
    """`yolk xfer` and two nodes of a cluster with --transports and --rdma: exact bytes, through devices."""
    output = guest_2["nodes"].output
    assert_step(guest_2["nodes"])
    links = re.findall(r"^link rdma (\S+) (\S+) \d+$", output, re.M)
    assert sorted(links) == [("10.99.0.1", "10.99.0.2"), ("10.99.1.1", "10.99.1.2")], output
    chosen = re.findall(r"^chosen rdma (\S+) (\S+) \d+$", output, re.M)
    assert chosen == [("10.99.1.1", "10.99.1.2")], output
    assert re.findall(r"^traffic class (.*)$", output, re.M) == ["96"], output
    assert "there is no device rxe9" in output, output
    packets = [int(n) for n in re.findall(r"^block \d+: packets (\d+)$", output, re.M)]
    assert packets and max(packets) >= (8 << 20) / 4096, output  # which have 4 KiB at most

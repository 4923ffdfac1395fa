# SPDX-License-Identifier: Apache-2.0
"""What tests of RDMA share: the suites that a guest with so many wires runs, over rxe or siw devices."""
import os

from host import INSIDE, Step, boot_steps, suite

MEMORY = 1024  # of a guest, MiB

CONFORMANCE = ("payload_goes_through_devices", "plain", "lanes_that_fail", "requests_that_fail", "slices_that_vanish",
               "bytes_that_change")
PLAIN = CONFORMANCE[:2]
# Plain, and through one kind of fault. The sweeps of all kinds take minutes, mostly of waiting: one
# guest has them, and all with YOLK_LONG=1.
SHORT = CONFORMANCE if os.environ.get("YOLK_LONG") == "1" else CONFORMANCE[:3]
EACH = """for case in "$@"; do YOLK_RDMA_CASE=$case "$0" || exit 1; done"""
LOSSES = ("memory_that_may_not_be_pinned", "the_peer_is_killed", "a_link_is_cut", "all_links_are_cut", "packets_vanish",
          "answers_are_dropped", "a_stopped_peer_is_read", "tcp_is_left", "an_address_is_removed", "an_address_changes", "a_device_is_taken_out",
          "a_completion_never_comes")
COUNTED = ("a_read_is_one_request_of_this_side", "small_reads_share_doorbells_and_completions",
           "a_guarded_read_is_one_request_and_two_messages", "a_write_is_one_request_of_the_target",
           "the_table_of_links_has_them")
# siw counts locked memory for root, too.
BEFORE = {"rxe": ":", "siw": f"ulimit -l unlimited; sh {INSIDE}/over_the_wires.sh"}
CLIENTS = ("devices_move_payload", "pieces_and_ranges", "links_are_cut", "the_node_is_killed", "memory_that_is_declared",
           "memory_that_may_not_be_pinned")


def devices(count, kind="rxe"):
    """The variables by which suites find them: the target has the second ends of so many wires. A device that is taken
    out is one whose link goes, and whose driver waits for its users."""
    return {"YOLK_RDMA_LISTEN": "0.0.0.0:7711", "YOLK_RDMA_ADVERTISE": ",".join(f"10.99.{n}.2:7711" for n in range(count)),
            "YOLK_RDMA_CUT": ",".join(f"n{n}b" for n in range(count)),
            "YOLK_RDMA_REMOVE": f"ip link set n0b down && rdma link delete {kind}0b",
            "YOLK_RDMA_RETURN": f"rdma link add {kind}0b type {kind} netdev n0b && ip link set n0b up"}


def conformance(count, kind="rxe", cases=CONFORMANCE):
    """With several devices a fifth of each series of faults: which slice of which rail a fault hits is chance there anyway."""
    slow = {} if count == 1 or os.environ.get("YOLK_LONG") == "1" else {"YOLK_SLOW": 1}
    return Step("conformance", ["sh", "-c", EACH, suite("test_xfer_rdma"), *cases], {**devices(count, kind), **slow})


def rails(case, count, kind="rxe", seconds=120):
    return Step(case, [suite("test_xfer_rdma_rails")], {**devices(count, kind), "YOLK_RDMA_CASE": case}, seconds)


def losses(kind):
    """One boot in which each of them happens, with two devices at each end. It is beside the one with the suites: what takes
    the time here is waiting for what has failed."""
    return boot_steps([rails(case, 2, kind) for case in LOSSES], BEFORE[kind], nics=2, kind=kind, memory=MEMORY, seconds=840)


def clients():
    return Step("clients", [suite("test_client_rdma")], {"YOLK_RDMA_NODE": "10.99.0.2", "YOLK_RDMA_CUT": "n0b,n1b"})

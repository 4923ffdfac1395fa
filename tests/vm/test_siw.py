# SPDX-License-Identifier: Apache-2.0
"""The RDMA transport over Soft-iWARP devices, from a module that is built from Debian's kernel source: the devices, their
connections by themselves, the engine's conformance suite, clients of a node. One boot has all of it."""
import re

import pytest

import vm
from host import Step, assert_step, boot_steps, suite
from rdma import BEFORE, CLIENTS, MEMORY, SHORT, clients, conformance, rails

PING = f"""for d in /sys/class/infiniband/*; do echo "device ${{d##*/}} $(cat $d/ports/1/state)"; done
rping -s -a 10.99.0.1 -C 5 &
sh {vm.HERE}/wait-for 60 rping -c -a 10.99.0.1 -I 10.99.0.2 -C 5 && wait"""
CONNECTIONS = ("both_ends_come_up", "who_has_no_token_is_refused", "another_queue_pair_is_noticed", "nobody_listens",
               "nobody_answers", "the_peer_closes", "ends_at_every_moment", "too_many_are_awaited", "nobody_comes",
               "offers_that_do_not_fit")


@pytest.fixture(scope="module")
def guest():
    steps = [Step("devices", ["sh", "-c", PING]), Step("connections", [suite("test_xfer_rdma_cm")], {"YOLK_IWARP": 1}),
             conformance(2, "siw", SHORT), rails("every_device_moves_bytes", 2, "siw"), Step("end", ["true"]), clients()]
    return boot_steps(steps, BEFORE["siw"], nics=2, kind="siw", memory=MEMORY, seconds=840)


def test_devices(guest):
    assert_step(guest["devices"])
    assert re.findall(r"^device (.*)$", guest["devices"].output, re.M) == ["siw0a 4: ACTIVE", "siw0b 4: ACTIVE",
                                                                          "siw1a 4: ACTIVE", "siw1b 4: ACTIVE"]


def test_connections(guest):
    """Who is let in and who is not, nobody who comes or answers, ends at every moment."""
    assert_step(guest["connections"], *CONNECTIONS)


def test_conformance(guest):
    """As test_rdma.py has it over rxe. That bytes do not go over the lane's stream is seen by what sockets have sent."""
    assert_step(guest["conformance"], *SHORT)


def test_bytes_go_through_every_device(guest):
    """By the table of links: siw does not count packets."""
    ended = guest["every_device_moves_bytes"]
    assert_step(ended, "every_device_moves_bytes")
    moved = [int(n) for n in re.findall(r"rdma to [\d.]+: (\d+) bytes", ended.output)]
    assert len(moved) == 2 and min(moved) >= 1 << 20, ended.output


def test_clients(guest):
    """What devices moved is what the client's sockets did not."""
    assert_step(guest["clients"], *CLIENTS)


def test_bytes_cross_the_wires(guest):
    before, after = (int(re.search(r"^n0b has received (\d+)$", guest[name].output, re.M)[1])
                     for name in ("conformance", "end"))
    assert after - before >= 8 << 20

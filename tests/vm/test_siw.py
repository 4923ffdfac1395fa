# SPDX-License-Identifier: Apache-2.0
"""The RDMA transport over Soft-iWARP devices, from a module that is built from Debian's kernel source: the devices, their
connections by themselves, the engine's conformance suite, two devices, a link that is cut."""
import re

import vm
from host import assert_good, boot
from test_rdma import assert_cases, suite, wires

# siw counts locked memory for root, too.
UNLIMITED = "ulimit -l unlimited; "

# siw goes by TCP, and TCP between two addresses of one host over loopback, where no link can be cut: these rules lead
# what is sent from one end of a wire to the other over that wire.
OVER_THE_WIRES = """
way() { # from, to, device, table
    ip rule add pref 10 iif lo from "$1" to "$2" lookup "$4"
    ip route add "$2" dev "$3" table "$4"
}
n=0
while [ -e "/sys/class/net/n${n}a" ]; do
    way "10.99.$n.1" "10.99.$n.2" "n${n}a" $((100 + 2 * n))
    way "10.99.$n.2" "10.99.$n.1" "n${n}b" $((101 + 2 * n))
    n=$((n + 1))
done
ip rule add pref 100 lookup local
ip rule del pref 0
received() { echo "n0b has received $(cat /sys/class/net/n0b/statistics/rx_bytes)"; }
received
"$@"
status=$?
received
exit $status
"""


def boot_siw(program, wired=False, **options):
    script = UNLIMITED + (OVER_THE_WIRES if wired else 'exec "$@"')
    return boot(["sh", "-c", script, "sh", suite(program)], kind="siw", **options)


def test_siw_devices():
    script = "for d in /sys/class/infiniband/*; do echo device ${d##*/} $(cat $d/ports/1/state); done; rping -s -a 10.99.0.1 -C 5 & " \
             f"sh {vm.HERE}/wait-for 60 rping -c -a 10.99.0.1 -I 10.99.0.2 -C 5 && wait"
    outcome = boot(["sh", "-c", script], nics=1, kind="siw", seconds=300)
    assert_good(outcome)
    assert re.findall(r"^device (.*)$", outcome.output, re.M) == ["siw0a 4: ACTIVE", "siw0b 4: ACTIVE"]


def test_connections():
    """Who is let in and who is not, nobody who comes or answers, ends at every moment."""
    outcome = boot_siw("test_xfer_rdma_cm", nics=1, env={"YOLK_IWARP": 1}, seconds=600)
    assert_cases(outcome, "both_ends_come_up", "who_has_no_token_is_refused", "another_queue_pair_is_noticed",
                 "nobody_listens", "nobody_answers", "the_peer_closes", "ends_at_every_moment", "too_many_are_awaited",
                 "nobody_comes", "offers_that_do_not_fit")


def test_conformance_over_one_device():
    """As test_rdma.py has it over rxe. That bytes do not go over the lane's stream is seen by what sockets have sent."""
    outcome = boot_siw("test_xfer_rdma", nics=1, env={"YOLK_RDMA_LISTEN": "10.99.0.2:0"}, seconds=900)
    assert_cases(outcome, "payload_goes_through_devices", "plain", "lanes_that_fail", "requests_that_fail",
                 "slices_that_vanish", "bytes_that_change")


def test_bytes_go_through_every_device():
    """By the table of links: siw does not count packets."""
    outcome = boot_siw("test_xfer_rdma_rails", nics=2, env={**wires(2), "YOLK_RDMA_CASE": "every_device*"}, seconds=600)
    assert_cases(outcome, "every_device_moves_bytes")
    moved = [int(n) for n in re.findall(r"rdma to [\d.]+: (\d+) bytes", outcome.output)]
    assert len(moved) == 2 and min(moved) >= 1 << 20, outcome.output


def test_a_link_is_cut():
    """In the middle of reads and writes, and back; the bytes are seen to cross the wire."""
    outcome = boot_siw("test_xfer_rdma_rails", wired=True, nics=2, env={**wires(2), "YOLK_RDMA_CASE": "a_link_is_cut"},
                       seconds=600)
    assert_cases(outcome, "a_link_is_cut")
    before, after = (int(n) for n in re.findall(r"^n0b has received (\d+)$", outcome.output, re.M))
    assert after - before >= 1 << 20, outcome.output

# SPDX-License-Identifier: Apache-2.0
"""Soft-iWARP devices, from a module that is built from Debian's kernel source."""
import re

import vm
from host import assert_good, boot


def test_siw_devices():
    script = "for d in /sys/class/infiniband/*; do echo device ${d##*/} $(cat $d/ports/1/state); done; rping -s -a 10.99.0.1 -C 5 & " \
             f"sh {vm.HERE}/wait-for 60 rping -c -a 10.99.0.1 -I 10.99.0.2 -C 5 && wait"
    outcome = boot(["sh", "-c", script], nics=1, kind="siw", seconds=300)
    assert_good(outcome)
    assert re.findall(r"^device (.*)$", outcome.output, re.M) == ["siw0a 4: ACTIVE", "siw0b 4: ACTIVE"]

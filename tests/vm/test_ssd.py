# SPDX-License-Identifier: Apache-2.0
"""The SSD tier on a raw NVMe drive of a guest: faults of the block layer, and cuts of its power."""
import random

import pytest

import vm
from host import assert_good, boot_pytest, sparse_file


@pytest.mark.parametrize("tests", [("raw_drive", "fails_and_comes_back", "loses_writes"),
                                   ("other_bytes", "slow")], ids=["broken", "unsound"])
def test_block_layer_faults(tests):
    assert_good(boot_pytest("ssd_faults.py", *tests, drives=1, memory=1024, seconds=600))


def test_power_cuts(tmp_path):
    """Killed in the midst of writing, and booted again with the same drive: exact bytes or a miss."""
    disk = sparse_file(tmp_path / "disk", vm.DRIVE_BYTES)
    rng = random.Random(31)
    for boot in ("first", "next"):
        outcome = boot_pytest("ssd_power.py", f"{boot}_boot", disks=[disk], cut=f"busy {rng.randrange(3, 12)}.", seconds=420)
        assert outcome.why == "its power was cut", outcome.output[-6000:]
    assert_good(boot_pytest("ssd_power.py", "last_boot", disks=[disk], seconds=420))

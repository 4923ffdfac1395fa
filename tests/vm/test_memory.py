# SPDX-License-Identifier: Apache-2.0
"""A node's payload in memory that is far from every processor: a NUMA node without any."""
from host import assert_good, boot_pytest


def test_node_without_processors():
    assert_good(boot_pytest("memory.py", "without_processors", slow_memory=128, seconds=420))

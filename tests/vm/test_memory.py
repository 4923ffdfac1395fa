# SPDX-License-Identifier: Apache-2.0
"""A node's payload, or the tail of it, in memory that is far from every processor: a NUMA node without any."""
from host import assert_good, boot_pytest


def test_node_without_processors():
    assert_good(boot_pytest("memory.py", "test_node_without_processors", slow_memory=128, seconds=420))


def test_tier_on_a_node_without_processors():
    assert_good(boot_pytest("memory.py", "test_tier_on_a_node", slow_memory=128, seconds=420))

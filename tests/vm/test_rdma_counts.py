# SPDX-License-Identifier: Apache-2.0
"""What a slice over RDMA costs, counted: work requests, doorbells, completions, system calls of both ends."""
import re

from host import assert_good, boot, suite


def test_each_slice():
    outcome = boot([suite("test_xfer_rdma_counts")], nics=1, env={"YOLK_RDMA_LISTEN": "10.99.0.2:7712"}, seconds=600)
    assert_good(outcome)
    for case in ("a_read_is_one_request_of_this_side", "small_reads_share_doorbells_and_completions",
                 "a_guarded_read_is_one_request_and_two_messages", "a_write_is_one_request_of_the_target",
                 "the_table_of_links_has_them"):
        assert f"OK ] {case}" in outcome.output, outcome.output
    assert len(re.findall(r"(?:initiator|target): \d+ system calls:", outcome.output)) >= 8, outcome.output

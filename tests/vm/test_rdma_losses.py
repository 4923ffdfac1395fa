# SPDX-License-Identifier: Apache-2.0
"""What is lost in the middle of reads and writes over rxe devices, two at each end: links, packets, addresses, a device,
completions, the peer, memory."""
import pytest

from host import assert_step
from rdma import LOSSES, losses


@pytest.fixture(scope="module")
def guest():
    return losses("rxe")


@pytest.mark.parametrize("case", LOSSES)
def test_what_is_lost(guest, case):
    assert_step(guest[case], case)

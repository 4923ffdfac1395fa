# SPDX-License-Identifier: Apache-2.0
"""The RDMA transport over rxe devices, one at each end of a wire: the engine's conformance suite."""
import os
from pathlib import Path

import pytest

from host import assert_good, boot

SUITE = Path(os.environ.get("YOLK_BUILD", "build")) / "tests/unit/test_xfer_rdma"


def test_conformance_over_one_device():
    if not SUITE.exists():
        pytest.skip(f"{SUITE} is not built")
    if b"libibverbs.so.1" not in SUITE.read_bytes():
        pytest.skip("it was built without the headers of libibverbs (libibverbs-dev)")
    outcome = boot([SUITE.resolve()], nics=1, env={"YOLK_RDMA_LISTEN": "10.99.0.2:0"}, seconds=900)
    assert_good(outcome)
    for case in "payload_goes_through_devices", "plain", "lanes_that_fail", "requests_that_fail", "slices_that_vanish", \
            "bytes_that_change":
        assert f"OK ] {case}" in outcome.output, outcome.output

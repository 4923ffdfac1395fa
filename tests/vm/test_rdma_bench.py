# SPDX-License-Identifier: Apache-2.0
"""`yolk bench xfer --transport rdma` beside perftest: that it has its figures, whatever they are under emulation."""
import json

from host import assert_good, boot, programs, suite


def test_reads_beside_perftest():
    suite("test_xfer_rdma")
    yolk = programs() / "yolk"
    bench = f"{yolk} --json bench xfer --transport rdma --quick"
    script = f"{bench} --pair 10.99.0.1=10.99.7.7; echo status $?; {bench} --pair 10.99.0.1; echo status $?; " \
             f"{bench} --case 'rdma read*'"
    outcome = boot(["sh", "-c", script], nics=1, memory=1536, seconds=420)
    assert_good(outcome)
    assert outcome.output.count("status 2") == 2, outcome.output
    assert "no active RDMA port has the address 10.99.7.7" in outcome.output, outcome.output
    assert "expected two addresses of RDMA devices" in outcome.output, outcome.output
    assert "rxe0a (10.99.0.1) to rxe0b (10.99.0.2)" in outcome.output, outcome.output
    rows = {row["case"]: row for row in map(json.loads, (line for line in outcome.output.splitlines() if line.startswith('{"bench"')))}
    for name in ("read 64KiB", "read 1MiB", "read 4KiB", "read 4KiB polling"):
        row, ratio = rows[f"rdma {name} rxe0a"], rows[f"base rdma {name} rxe0a of perftest"]
        assert row["value"] > 0 and row["limit"] > 0 and ratio["value"] > 0, row
        assert ratio["limit"] == (2 if " 4KiB" in name else 0.7), ratio
    for name in ("read 64KiB", "read 1MiB"):
        assert rows[f"base rdma {name} rxe0a requests a slice"]["value"] == 1, outcome.output
        assert rows[f"base rdma {name} rxe0a doorbells a slice"]["value"] <= 1, outcome.output

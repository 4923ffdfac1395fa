#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Hit blocks of two exact LRU caches, one below the other, on a request trace.

The yardstick for the replay through a node with DRAM and SSD (lru_sim.py is the one for DRAM alone), written
from the definition and to be obviously right:

  - A request's hits are the leading run of its ids that is present in either level.
  - Then its ids are used tail first. One that is in DRAM becomes the youngest there; one that is on SSD
    alone becomes the youngest there and comes into DRAM, its copy on SSD stays; one that is in neither comes
    into DRAM.
  - What leaves DRAM because it is over its capacity, the oldest, becomes the youngest on SSD, whether it was
    there or not.
  - What leaves SSD because it is over its capacity, the oldest, is gone there.
"""
import argparse
import json
import sys
from collections import OrderedDict

from lru_sim import fail, read_requests


class TwoLevels:
    def __init__(self, dram_capacity, ssd_capacity):
        self.dram, self.ssd = OrderedDict(), OrderedDict()  # oldest first
        self.dram_capacity, self.ssd_capacity = dram_capacity, ssd_capacity
        self.counts = {"demoted": 0, "raised": 0, "written": 0}

    def holds(self, block):
        return block in self.dram or block in self.ssd

    def use(self, block):
        if block in self.dram:
            self.dram.move_to_end(block)
            return
        if block in self.ssd:
            self.ssd.move_to_end(block)
            self.counts["raised"] += 1
        self.dram[block] = None
        while len(self.dram) > self.dram_capacity:
            self.leave(self.dram.popitem(last=False)[0])

    def leave(self, block):
        self.counts["demoted"] += 1
        self.counts["written"] += block not in self.ssd
        self.ssd[block] = None
        self.ssd.move_to_end(block)
        while len(self.ssd) > self.ssd_capacity:
            self.ssd.popitem(last=False)


def simulate(requests, dram_capacity, ssd_capacity, tail_first=True):
    pool = TwoLevels(dram_capacity, ssd_capacity)
    result = {"requests": 0, "hit_blocks": 0, "total_blocks": 0}
    for ids in requests:
        hits = 0
        while hits < len(ids) and pool.holds(ids[hits]):
            hits += 1
        for block in reversed(ids) if tail_first else ids:
            pool.use(block)
        result["requests"] += 1
        result["hit_blocks"] += hits
        result["total_blocks"] += len(ids)
    return {**result, **pool.counts, "dram_blocks": len(pool.dram), "ssd_blocks": len(pool.ssd)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("trace", help="trace file, or - for standard input")
    parser.add_argument("--capacity", type=int, required=True, help="blocks that fit in DRAM")
    parser.add_argument("--ssd-capacity", type=int, required=True, help="blocks that fit on SSD")
    parser.add_argument("--requests", type=int, default=0, help="stop after so many; 0 is all")
    parser.add_argument("--order", choices=["tail-first", "head-first"], default="tail-first",
                        help="in which order a request's blocks are used (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a line")
    args = parser.parse_args()
    if args.capacity < 1 or args.ssd_capacity < 0:
        parser.error("expected a capacity of 1 or more, and of 0 or more on SSD")
    requests = read_requests(args.trace)
    if args.requests > 0:
        requests = (r for _, r in zip(range(args.requests), requests))
    try:
        result = simulate(requests, args.capacity, args.ssd_capacity, args.order == "tail-first")
    except OSError as error:
        fail(f"{args.trace}: {error.strerror}")
    if args.json:
        print(json.dumps({"capacity": args.capacity, "ssd_capacity": args.ssd_capacity, **result}))
    else:
        hits, total = result["hit_blocks"], result["total_blocks"]
        print(f"{hits} / {total} blocks hit ({100 * hits / max(total, 1):.2f} %)")


if __name__ == "__main__":
    sys.exit(main())

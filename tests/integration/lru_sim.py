#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Hit blocks of an exact LRU cache on a request trace: the yardstick for the node's replay.

Written to be obviously right rather than fast, and from the definition rather than from the node's
code, so that a node whose counts agree with it to the block is right too. Per request: (1) the
hits are the leading run of its ids that is present; (2) then its ids are taken tail first (or
head first): a present one becomes the most recently used, a missing one is inserted, and the least
recently used ones leave while more than CAPACITY are in.

The trace is the public Mooncake format, one JSON object a line; '-' is standard input. Compressed
traces: zstd -dc TRACE.zst | lru_sim.py --capacity N -
"""
import argparse
import json
import sys
from collections import OrderedDict


def fail(text):
    """Bad input: one line and exit code 2, as the yolk command does it."""
    print(f"lru_sim.py: {text}", file=sys.stderr)
    sys.exit(2)


def read_requests(path):
    """Yields the list of hash_ids of each request."""
    with (sys.stdin if path == "-" else open(path, encoding="utf-8")) as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                yield json.loads(line)["hash_ids"]
            except (ValueError, KeyError, TypeError) as error:
                fail(f"{path}:{number}: found {error!r}, expected a request")


def simulate(requests, capacity, tail_first):
    """Returns the counts over all requests."""
    cache = OrderedDict()  # least recently used first
    result = {"requests": 0, "hit_blocks": 0, "total_blocks": 0, "inserted": 0, "evicted": 0}
    for ids in requests:
        hits = 0
        while hits < len(ids) and ids[hits] in cache:
            hits += 1
        for block in reversed(ids) if tail_first else ids:
            if block in cache:
                cache.move_to_end(block)
                continue
            cache[block] = None
            result["inserted"] += 1
            while len(cache) > capacity:
                cache.popitem(last=False)
                result["evicted"] += 1
        result["requests"] += 1
        result["hit_blocks"] += hits
        result["total_blocks"] += len(ids)
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("trace", help="trace file, or - for standard input")
    parser.add_argument("--capacity", type=int, required=True, help="blocks that fit")
    parser.add_argument("--order", choices=["tail-first", "head-first"], default="tail-first",
                        help="in which order a request's blocks are used (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a line")
    args = parser.parse_args()
    if args.capacity < 1:
        parser.error(f"found capacity {args.capacity}, expected 1 or more")
    try:
        result = simulate(read_requests(args.trace), args.capacity, args.order == "tail-first")
    except OSError as error:
        fail(f"{args.trace}: {error.strerror}")
    if args.json:
        print(json.dumps({"capacity": args.capacity, "order": args.order, **result}))
    else:
        hits, total = result["hit_blocks"], result["total_blocks"]
        print(f"{hits} / {total} blocks hit ({100 * hits / max(total, 1):.2f} %)")


if __name__ == "__main__":
    main()

/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of benchmarks (bench/bench.h). One row each, listed here and nowhere else.
 */
#include "bench/bench.h"

#include <string.h>

const struct yk_bench yk_benches[] = {
    {"alloc", "block allocator: usable share of the pool, allocations a second", yk_bench_alloc,
     false},
    {"store", "the store's operations, each beside the machine's limit", yk_bench_store, false},
    {"peers", "the store beside Redis, in the same run", yk_bench_peers, false},
    {"ssd", "the SSD tier in the directory --path, each case beside fio there", yk_bench_ssd, true},
    {"xfer", "the transfer engine: memory, shared memory, TCP, several rails", yk_bench_xfer, false},
    {"cluster", "several nodes: look-ups, blocks from node to node, nodes and etcd killed", yk_bench_cluster,
     false},
    {"route", "the router: decisions by targets and length of the chain, events", yk_bench_route, false},
    {NULL, NULL, NULL, false},
};

const struct yk_bench *yk_bench_find(const char *name) {
    for (const struct yk_bench *b = yk_benches; b->name; b++) {
        if (strcmp(b->name, name) == 0)
            return b;
    }
    return NULL;
}

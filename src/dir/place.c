/* SPDX-License-Identifier: Apache-2.0
 *
 * Which node gets one more copy of a block (place.h).
 *
 * The weighted choice is a hash times a weight, the highest one wins: a node of twice the weight gets somewhat more
 * than twice as many, which is near enough, and needs no logarithm.
 *
 * Threads: pure.
 */
#include "dir/place.h"

#include <string.h>

#define WEIGHT_MAX 65536u
#define SPARE      16u /* a node keeps a part free ahead of need, and sizes are rounded up: so much is no room */

/* splitmix64's end: every bit of the input changes half of those of the output. */
static uint64_t mix(uint64_t x) {
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9ull;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebull;
    return x ^ x >> 31;
}

static int is_new_zone(const char *zone, const char *const *zones, uint32_t count) {
    for (uint32_t i = 0; i < count; i++)
        if (strcmp(zone, zones[i]) == 0)
            return 0;
    return 1;
}

int yk_dir_place_fits(const struct yk_dir_place_node *n, uint64_t len) {
    uint64_t use = n->capacity_bytes - n->capacity_bytes / SPARE;
    return use > n->held_bytes && use - n->held_bytes >= len;
}

struct all {
    uint64_t capacity; /* of the largest */
    double load;       /* the mean, and a little */
};

static struct all sum_up(const struct yk_dir_place_node *nodes, uint32_t count) {
    struct all a = {.capacity = 1, .load = 1.0};
    for (uint32_t i = 0; i < count; i++) {
        if (nodes[i].capacity_bytes > a.capacity)
            a.capacity = nodes[i].capacity_bytes;
        a.load += nodes[i].lookups_per_s / count;
    }
    return a;
}

/* 1 to WEIGHT_MAX. */
static uint64_t weight(const struct yk_dir_place_node *n, const struct all *a) {
    double share = (double)n->capacity_bytes / (double)a->capacity;
    double w = WEIGHT_MAX * share * a->load / (a->load + n->lookups_per_s);
    return w >= 1.0 ? (uint64_t)w : 1;
}

int yk_dir_place(const struct yk_dir_place_node *nodes, uint32_t count, const char *const *zones, uint32_t zone_count,
                 uint64_t hash, uint64_t len) {
    struct all a = sum_up(nodes, count);
    unsigned best_class = 0;
    uint64_t best_score = 0;
    int best = -1;
    for (uint32_t i = 0; i < count; i++) {
        const struct yk_dir_place_node *n = &nodes[i];
        unsigned class = 2u * (unsigned)is_new_zone(n->zone, zones, zone_count) + (unsigned)yk_dir_place_fits(n, len);
        uint64_t score = (mix(hash + n->id * 0x9e3779b97f4a7c15ull) >> 32) * weight(n, &a);
        if (best >= 0 && (class < best_class || (class == best_class && score <= best_score)))
            continue;
        best = (int)i;
        best_class = class;
        best_score = score;
    }
    return best;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Records of blocks and their features (history_priv.h).
 */
#include "sched/history_priv.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define PRIOR_AGE_S 60.0 /* ages far below are as good as each other; 20 to 60 did equally well */

int yk_history_init(struct yk_history *h, uint32_t max_records) {
    memset(h, 0, sizeof(*h));
    h->mask = 1023;
    while (h->mask < max_records)
        h->mask = h->mask * 2 + 1;
    h->max = max_records;
    h->oldest = h->youngest = YK_RECORD_NONE;
    h->records = calloc(max_records, sizeof(*h->records));
    h->buckets = malloc(((size_t)h->mask + 1) * sizeof(*h->buckets));
    if (h->records == NULL || h->buckets == NULL)
        return -YK_ENOMEM;
    memset(h->buckets, 0xff, ((size_t)h->mask + 1) * sizeof(*h->buckets));
    return 0;
}

void yk_history_fini(struct yk_history *h) {
    free(h->records);
    free(h->buckets);
}

static uint32_t *bucket_of(const struct yk_history *h, uint64_t key_hash) {
    return &h->buckets[(key_hash ^ key_hash >> 32) & h->mask];
}

uint32_t yk_history_find(const struct yk_history *h, uint64_t key_hash) {
    uint32_t r = *bucket_of(h, key_hash);
    while (r != YK_RECORD_NONE && h->records[r].key_hash != key_hash)
        r = h->records[r].chained;
    return r;
}

uint32_t yk_history_next_to_go(const struct yk_history *h) {
    return h->used < h->max ? YK_RECORD_NONE : h->oldest;
}

static void unlink_age(struct yk_history *h, const struct yk_record *r) {
    *(r->older != YK_RECORD_NONE ? &h->records[r->older].younger : &h->oldest) = r->younger;
    *(r->younger != YK_RECORD_NONE ? &h->records[r->younger].older : &h->youngest) = r->older;
}

static void make_youngest(struct yk_history *h, uint32_t record) {
    struct yk_record *r = &h->records[record];
    r->older = h->youngest;
    r->younger = YK_RECORD_NONE;
    *(h->youngest != YK_RECORD_NONE ? &h->records[h->youngest].younger : &h->oldest) = record;
    h->youngest = record;
}

void yk_history_keep(struct yk_history *h, uint32_t record) {
    unlink_age(h, &h->records[record]);
    make_youngest(h, record);
}

static uint32_t give_up_oldest(struct yk_history *h) {
    uint32_t record = h->oldest;
    uint32_t *at = bucket_of(h, h->records[record].key_hash);
    while (*at != record)
        at = &h->records[*at].chained;
    *at = h->records[record].chained;
    unlink_age(h, &h->records[record]);
    return record;
}

uint32_t yk_history_add(struct yk_history *h, uint64_t key_hash, uint32_t depth) {
    uint32_t record = h->used < h->max ? h->used++ : give_up_oldest(h);
    uint32_t *bucket = bucket_of(h, key_hash);
    struct yk_record *r = &h->records[record];
    *r = (struct yk_record){.key_hash = key_hash,
                            .touched = ++h->clock,
                            .generation = r->generation + 1,
                            .parent = YK_RECORD_NONE,
                            .first_ms = h->now_ms,
                            .last_ms = h->now_ms,
                            .gap_ms = UINT32_MAX,
                            .gap2_ms = UINT32_MAX,
                            .depth = depth,
                            .id = YK_POLICY_NONE,
                            .lessons = YK_RECORD_NONE,
                            .heap_at = YK_RECORD_NONE,
                            .chained = *bucket};
    *bucket = record;
    make_youngest(h, record);
    return record;
}

void yk_history_set_parent(struct yk_history *h, uint32_t record, uint32_t parent) {
    h->records[record].parent = parent;
    h->records[record].parent_gen = h->records[parent].generation;
    h->records[parent].children++;
}

void yk_history_touch(struct yk_history *h, uint32_t record) {
    struct yk_record *r = &h->records[record];
    if (r->uses > 0) {
        r->gap2_ms = r->gap_ms;
        r->gap_ms = h->now_ms - r->last_ms;
    }
    r->uses++;
    r->last_ms = h->now_ms;
    r->request = h->request;
    r->touched = ++h->clock;
    yk_history_keep(h, record);
}

uint8_t yk_history_quantize(double x, double steps) {
    double q = log2(1 + (x > 0 ? x : 0)) * steps;
    return q < YK_TREES_VALUES - 1 ? (uint8_t)q : YK_TREES_VALUES - 1;
}

static uint8_t quantize_gap(uint32_t gap_ms) {
    return gap_ms == UINT32_MAX ? YK_TREES_VALUES - 1 : yk_history_quantize(gap_ms / 500.0, 4);
}

/* 1: the parent was used with it last; more: it was used that much later without it, so this branch may have
 * been superseded. 0: no parent. */
static uint8_t parents_lead(const struct yk_history *h, const struct yk_record *r) {
    uint32_t parent = yk_history_parent(h, r);
    if (parent == YK_RECORD_NONE)
        return 0;
    const struct yk_record *p = &h->records[parent];
    if (p->request == r->request)
        return 1;
    uint8_t q = yk_history_quantize((p->last_ms - r->last_ms) / 500.0, 3);
    return 2 + (q < YK_TREES_VALUES - 3 ? q : YK_TREES_VALUES - 3);
}

static uint8_t quantize_rate(const struct yk_record *r, double life_s) {
    if (r->uses < 2)
        return 0;
    double q = (log2((r->uses - 1) / (life_s + 1)) + 14) * 4;
    return q < 1 ? 1 : q < YK_TREES_VALUES - 1 ? (uint8_t)q : YK_TREES_VALUES - 1;
}

void yk_history_features(const struct yk_history *h, uint32_t record, uint8_t x[YK_TREES_FEATURES]) {
    const struct yk_record *r = &h->records[record];
    double age_s = (h->now_ms - r->last_ms) / 1e3, life_s = (h->now_ms - r->first_ms) / 1e3;
    x[0] = yk_history_quantize(age_s * 4, 4.5);
    x[1] = yk_history_quantize(r->uses - 1.0, 4);
    x[2] = quantize_gap(r->gap_ms);
    x[3] = quantize_gap(r->gap2_ms);
    x[4] = yk_history_quantize(r->depth, 5);
    x[5] = yk_history_quantize(r->tail, 5);
    x[6] = r->length_q;
    x[7] = r->output_q;
    x[8] = r->stop;
    x[9] = r->tail == 0 ? r->eighths : 0;
    x[10] = yk_history_quantize(r->children, 6);
    x[11] = parents_lead(h, r);
    x[12] = yk_history_quantize(life_s, 4.5);
    x[13] = yk_history_quantize(r->turn, 6);
    x[14] = r->pause_q;
    x[15] = r->new_q;
    x[16] = quantize_rate(r, life_s);
    x[17] = r->tail <= 1 ? r->eighths : 0;
    x[18] = r->children == 0 ? 0 : r->depth == 0 ? 1 : 2;
}

float yk_history_prior(const struct yk_history *h, uint32_t record) {
    double age_s = (h->now_ms - h->records[record].last_ms) / 1e3;
    return (float)-log(age_s + PRIOR_AGE_S);
}

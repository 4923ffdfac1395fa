/* SPDX-License-Identifier: Apache-2.0
 *
 * What the learned policy thinks of a block, and how it does (learned.h). Nothing here changes anything.
 */
#include "sched/learned_priv.h"

#include <math.h>
#include <string.h>

static const char *const followed_names[FOLLOWED] = {"lru", "s3fifo", "learned"};

const char *yk_learned_follows(const struct yk_policy *p) {
    return followed_names[((const struct learned *)p)->follows];
}

const char *yk_learned_feature_name(uint32_t feature) {
    return feature < YK_LEARNED_FEATURES ? yk_history_feature_names[feature] : NULL;
}

uint32_t yk_learned_room(const struct yk_policy *p) {
    return ((const struct learned *)p)->capacity;
}

/* Those that the keeper lets go before it. */
static void rank(const struct yk_keeper *k, const struct yk_record *r, struct yk_learned_block *ret) {
    ret->leaves = k->leaves;
    ret->is_leaf = r->heap_at != YK_RECORD_NONE;
    for (uint32_t i = 0; ret->is_leaf && i < k->leaves; i++)
        ret->before += k->heap[i].value < k->heap[r->heap_at].value;
}

int yk_learned_explain(const struct yk_policy *p, uint64_t key_hash, struct yk_learned_block *ret) {
    const struct learned *l = (const struct learned *)p;
    const struct yk_history *h = &l->history;
    uint32_t record = yk_history_find(h, key_hash);
    if (record == YK_RECORD_NONE)
        return YK_MISS;
    const struct yk_record *r = &h->records[record];
    *ret = (struct yk_learned_block){.is_here = r->id != YK_POLICY_NONE,
                                     .in_lru = (r->in & 1u << FOLLOW_LRU) != 0,
                                     .in_s3fifo = (r->in & 1u << FOLLOW_S3FIFO) != 0,
                                     .in_learned = (r->in & 1u << FOLLOW_KEEPER) != 0,
                                     .stays = (r->in & 1u << l->follows) != 0,
                                     .uses = r->uses,
                                     .children = r->children,
                                     .age_ms = h->now_ms - r->last_ms,
                                     .life_ms = h->now_ms - r->first_ms};
    yk_history_features(h, record, ret->features);
    if (l->keeper.trees->count > 0)
        ret->rate = exp(yk_place_score(l->keeper.trees, ret->features) +
                        yk_history_prior(h, record));
    rank(&l->keeper, r, ret);
    return 0;
}

void yk_learned_report(const struct yk_policy *p, struct yk_learned_report *ret) {
    const struct learned *l = (const struct learned *)p;
    memset(ret, 0, sizeof(*ret));
    ret->follows = followed_names[l->follows];
    ret->changes = l->changes;
    ret->room = l->capacity;
    ret->here = yk_order_count(&l->order);
    ret->records = l->history.used;
    ret->examples = l->lessons.count;
    ret->blocks = l->blocks;
    ret->real_hits = l->real_hits;
    ret->late_blocks = l->choice.late_blocks;
    for (uint32_t i = 0; i < FOLLOWED; i++) {
        ret->hits[i] = l->all_hits[i];
        ret->late_hits[i] = l->choice.hits[i];
    }
    ret->trainings = l->trainings;
    ret->has_model = l->keeper.trees->count > 0;
    ret->model_age_ms = ret->has_model ? l->last_ms - l->model_ms : 0;
    yk_calibration_report(&l->lessons.calibration, &ret->calibration);
}

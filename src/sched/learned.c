/* SPDX-License-Identifier: Apache-2.0
 *
 * The learned policy: three caches without payload, the choice among them, and the real one that follows
 * (learned.h).
 *
 *   request -> history -> lru     \
 *                      -> s3fifo   > which hit most lately? -> what it does not hold goes first here
 *                      -> keeper  /
 *
 * The real cache is an order by last use (order_priv.h) in which what the followed cache does not hold yields:
 * it is the first to go, children before parents. So another choice needs no other structure, and what
 * is pinned here but gone there simply stays. Rejected: to sample chains for the three (the keeper decides
 * for all blocks anyway, and the two others cost less than it does).
 *
 * An access or insert that no request announced is a request of one block, at the time of the last. Announced is
 * what a request of the last minute had: requests of several clients overlap.
 */
#include "sched/learned_priv.h"

#include <math.h>
#include <stdlib.h>

_Static_assert(FOLLOWED == YK_CHOICES, "each is one that may be chosen");

/* Prefill, and whatever else is between the announcement of a request and the last use of its blocks. */
#define ANNOUNCED_MS 60000u
/* How many are here when one has to go, as a mean of the last so many times; and how far a request moves the caches
 * without payload towards that, so that it trims few. */
#define ROOM_MEAN  64
#define ROOM_STEPS 64u
/* Records of which a request sees whether they follow another cache, beside four for each of its blocks. Up to 0.2 us
 * each, if none is in the processor's cache. */
#define FOLLOW_STEPS 1024u
static struct learned *of(struct yk_policy *p) {
    return (struct learned *)p;
}

static uint32_t record_at(const struct learned *l, uint32_t id) {
    return l->record_of[id] - 1; /* YK_RECORD_NONE */
}

/* ---- the real cache follows ------------------------------------------------------------------ */

static bool is_followed(const struct learned *l, uint32_t record) {
    return record != YK_RECORD_NONE && (l->history.records[record].in & 1u << l->follows) != 0;
}

/* The record is no longer in this one of the three; YK_RECORD_NONE is fine. */
static void left(struct learned *l, uint32_t which, uint32_t record) {
    if (which == FOLLOW_KEEPER)
        yk_wanted_lost(&l->wanted, record);
    if (which != l->follows || record == YK_RECORD_NONE)
        return;
    uint32_t id = l->history.records[record].id;
    if (id != YK_POLICY_NONE)
        yk_order_yield(&l->order, 0, id);
}

/* What is here is seen from the youngest on, where most of it is, in the steps of the next requests. */
static void follow(struct learned *l, uint32_t which) {
    l->follows = which;
    l->changes++;
    l->walk = l->history.youngest;
    l->walk_left = yk_order_count(&l->order);
}

static void follow_record(struct learned *l, uint32_t record) {
    uint32_t id = l->history.records[record].id;
    if (id == YK_POLICY_NONE)
        return;
    l->walk_left--;
    if (!is_followed(l, record))
        yk_order_yield(&l->order, 0, id);
    else if (yk_order_is_cut_off(&l->order, id))
        yk_order_renew(&l->order, 0, id);
}

static void follow_steps(struct learned *l, uint32_t steps) {
    for (; l->walk != YK_RECORD_NONE && l->walk_left > 0 && steps > 0; steps--) {
        uint32_t record = l->walk;
        l->walk = l->history.records[record].older;
        follow_record(l, record);
    }
}

/* The record is about to be moved, and its block used, or it is given up: the walk goes on without it. */
static void pass(struct learned *l, uint32_t record) {
    if (l->walk == record)
        l->walk = l->history.records[record].older;
}

static void choose(struct learned *l, uint32_t blocks) {
    uint32_t best = yk_choice_make(&l->choice, l->follows, blocks, l->capacity);
    if (best != l->follows)
        follow(l, best);
}

/* The record is given to another block. */
static void give_up(struct learned *l, uint32_t record) {
    struct yk_record *r = &l->history.records[record];
    pass(l, record);
    yk_lessons_answer(&l->lessons, record, false);
    yk_shadow_lru_drop(&l->lru, record);
    yk_shadow_s3fifo_drop(&l->s3fifo, record);
    yk_keeper_drop(&l->keeper, record);
    if (r->id != YK_POLICY_NONE) {
        yk_order_yield(&l->order, 0, r->id);
        l->record_of[r->id] = 0;
    }
}

/* ---- room -------------------------------------------------------------------------------------- */

/* What is here, in blocks of unit_bytes: exactly their number where all are of one length, so that nothing is different
 * there from counting blocks. */
static double here_units(const struct learned *l) {
    return l->unit_bytes != 0 ? (double)l->here_bytes / l->unit_bytes : 0;
}

static double mean_bytes(const struct learned *l) {
    return l->mean * l->unit_bytes;
}

static void set_bytes(struct learned *l, struct yk_record *r, uint32_t bytes) {
    uint64_t more = (uint64_t)bytes - r->bytes; /* modulo 2^64 */
    l->lru.bytes += r->in & l->lru.bit ? more : 0;
    l->s3fifo.bytes += r->in & l->s3fifo.bit ? more : 0;
    l->keeper.bytes += r->in & l->keeper.bit ? more : 0;
    r->bytes = bytes;
}

/* A block that is not here may come in: it is as long as those that are. */
static void guess_bytes(struct learned *l, struct yk_record *r) {
    double bytes = mean_bytes(l) + 0.5;
    if (r->bytes == 0)
        set_bytes(l, r, bytes < UINT32_MAX ? (uint32_t)bytes : UINT32_MAX);
}

/* One has to go. */
static void see_room(struct learned *l) {
    double units = here_units(l);
    l->room = l->room == 0 ? units : l->room + (units - l->room) / ROOM_MEAN;
}

/* One came in. */
static void see_count(struct learned *l) {
    uint32_t count = yk_order_count(&l->order);
    double units = here_units(l);
    l->mean = units / count;
    if (l->room != 0 && l->room < units)
        l->room = units;
    if (count <= l->peak)
        return;
    l->peak = count;
    uint64_t limit = YK_LEARNED_RECORDS_OF((uint64_t)count);
    l->history.limit = limit < l->history.max ? (uint32_t)limit : l->history.max;
}

/* As many blocks of mean length. */
static uint32_t blocks_of(const struct learned *l, uint32_t count, uint64_t bytes) {
    double blocks = mean_bytes(l) > 0 ? (double)bytes / mean_bytes(l) : count;
    return blocks < YK_LEARNED_CAPACITY_MAX ? (uint32_t)blocks : YK_LEARNED_CAPACITY_MAX;
}

void yk_learned_set_capacity(struct learned *l, uint32_t capacity) {
    double bytes = l->room != 0 ? fmin(capacity * mean_bytes(l) + 0.5, 1e18) : 0;
    l->capacity = capacity;
    l->lru.capacity = l->s3fifo.capacity = l->keeper.capacity = capacity;
    l->lru.capacity_bytes = l->s3fifo.capacity_bytes = l->keeper.capacity_bytes = (uint64_t)bytes;
}

/* As far towards `wanted` as costs no more than `most` trims, but for blocks that are short. */
static uint32_t next_capacity(const struct learned *l, uint32_t wanted, uint32_t most) {
    uint32_t in_lru = blocks_of(l, l->lru.count, l->lru.bytes), in_keeper = blocks_of(l, l->keeper.count, l->keeper.bytes);
    uint32_t full = in_lru > in_keeper ? in_lru : in_keeper; /* as s3fifo, but for what was removed */
    if (wanted > l->capacity)
        return wanted;
    if (full < l->capacity)
        return full > wanted ? full : wanted;
    return l->capacity - wanted < most ? wanted : l->capacity - most;
}

/* Blocks of mean length that it has room for: as it has seen, or the share that it was told of, if that is more. Less it is not made by a share:
 * what nobody else has use for may be its for long, and what they have they take, which it sees. */
static double wanted_room(const struct learned *l) {
    double room = l->room == 0 && l->share != 0 ? yk_order_count(&l->order) : l->room / l->mean;
    return room > l->share ? room : l->share;
}

static void move_capacity(struct learned *l, uint32_t most) {
    double room = wanted_room(l);
    uint32_t wanted = room == 0 || room > l->capacity_max ? l->capacity_max : (uint32_t)(room + 0.5), gone;
    yk_learned_set_capacity(l, wanted == 0 || wanted == l->capacity ? l->capacity : next_capacity(l, wanted, most));
    while ((gone = yk_shadow_lru_trim(&l->lru)) != YK_RECORD_NONE)
        left(l, FOLLOW_LRU, gone);
    while ((gone = yk_shadow_s3fifo_trim(&l->s3fifo)) != YK_RECORD_NONE)
        left(l, FOLLOW_S3FIFO, gone);
    while (yk_keeper_trim(&l->keeper, &gone))
        left(l, FOLLOW_KEEPER, gone);
}

void yk_learned_set_share(struct yk_policy *p, uint32_t blocks) {
    of(p)->share = blocks;
}

/* ---- requests ---------------------------------------------------------------------------------- */

static void set_time(struct learned *l, uint64_t now_ms) {
    if (now_ms > l->last_ms)
        l->last_ms = now_ms;
    l->history.now_ms = (uint32_t)l->last_ms;
    yk_lessons_look(&l->lessons);
}

#define AHEAD 8 /* blocks whose records are fetched meanwhile; their buckets, twice as far */

/* Marks what is known of the chain as of this request, so that it is not given up for the rest. */
static void find_known(struct learned *l, const uint64_t *hashes, uint32_t n) {
    struct yk_history *h = &l->history;
    for (uint32_t i = 0; i < n; i++) {
        if (i + 2 * AHEAD < n)
            yk_history_prefetch(h, hashes[i + 2 * AHEAD]);
        if (i + AHEAD < n)
            yk_history_prefetch_record(h, hashes[i + AHEAD]);
        l->chain[i] = yk_history_find(h, hashes[i]);
        if (l->chain[i] != YK_RECORD_NONE)
            h->records[l->chain[i]].request = h->request;
    }
}

static uint32_t add_record(struct learned *l, uint64_t hash, uint32_t depth, uint32_t parent) {
    struct yk_history *h = &l->history;
    while (l->walk != YK_RECORD_NONE && h->records[l->walk].request == h->request)
        pass(l, l->walk); /* the next to go is not one of this request: those are moved out of the way */
    uint32_t goes = yk_history_next_to_go(h);
    if (goes != YK_RECORD_NONE)
        give_up(l, goes);
    uint32_t record = yk_history_add(h, hash, depth);
    guess_bytes(l, &h->records[record]);
    if (parent != YK_RECORD_NONE && parent != goes)
        yk_history_set_parent(h, record, parent);
    return record;
}

/* Records for the chain; returns how many of its first blocks were known. */
static uint32_t find_chain(struct learned *l, const uint64_t *hashes, uint32_t n, uint32_t parent) {
    uint32_t known = 0;
    find_known(l, hashes, n);
    for (uint32_t i = 0; i < n; parent = l->chain[i++]) {
        if (l->chain[i] != YK_RECORD_NONE) {
            known += known == i;
            continue;
        }
        l->chain[i] = yk_history_find(&l->history, hashes[i]); /* a key that comes twice */
        if (l->chain[i] == YK_RECORD_NONE)
            l->chain[i] = add_record(l, hashes[i], i, parent);
    }
    return known;
}

/* The leading run; or all that are, where the tier below has the others. What decides is what they save. */
static void count_hits(struct learned *l, uint32_t n) {
    uint32_t here[FOLLOWED + 1] = {0}, runs = (1u << (FOLLOWED + 1)) - 1;
    double saved[FOLLOWED + 1] = {0};
    for (uint32_t i = 0; i < n && runs != 0; i++) {
        const struct yk_record *r = &l->history.records[l->chain[i]];
        uint32_t hit = (r->in | (r->id != YK_POLICY_NONE ? 1u << FOLLOWED : 0)) & runs;
        runs = l->has_below ? runs : hit;
        for (; hit != 0; hit &= hit - 1) {
            uint32_t which = (uint32_t)__builtin_ctz(hit);
            here[which]++;
            saved[which] += 1 + l->saved_growth * i;
        }
    }
    for (uint32_t which = 0; which < FOLLOWED; which++)
        l->all_hits[which] += here[which];
    l->real_hits += here[FOLLOWED];
    yk_choice_see(&l->choice, saved, saved[FOLLOWED], n);
    l->blocks += n;
}

/* What all blocks of the request have in common. */
static struct yk_history_request features_of(const struct learned *l, const struct yk_policy_request *q, uint32_t n,
                                             uint32_t known) {
    struct yk_history_request common = {.length = n,
                                        .output = q->output_length,
                                        .new_blocks = n - known,
                                        .pause_ms = UINT32_MAX,
                                        .stop = (uint8_t)(q->stop < YK_TREES_VALUES ? q->stop : YK_TREES_VALUES - 1),
                                        .eighths = q->last_block_eighths & 7};
    if (known == 0)
        return common;
    const struct yk_record *r = &l->history.records[l->chain[known - 1]];
    bool is_shared_beginning = r->children > 8 && known < 3;
    common.turn = is_shared_beginning ? 0 : r->turn < UINT8_MAX ? (uint8_t)(r->turn + 1) : r->turn;
    common.pause_ms = l->history.now_ms - r->last_ms;
    return common;
}

/* After the history has touched it. */
static void use_in_floor(struct learned *l, uint32_t record) {
    uint32_t gone = yk_shadow_lru_after(&l->lru, record);
    for (; gone != YK_RECORD_NONE; gone = yk_shadow_lru_trim(&l->lru))
        left(l, FOLLOW_LRU, gone);
    gone = yk_shadow_s3fifo_use(&l->s3fifo, record);
    for (; gone != YK_RECORD_NONE; gone = yk_shadow_s3fifo_trim(&l->s3fifo))
        left(l, FOLLOW_S3FIFO, gone);
}

static void touch_chain(struct learned *l, uint32_t n, const struct yk_history_request *common, bool announced) {
    for (uint32_t i = n; i-- > 0;) {
        uint32_t record = l->chain[i];
        pass(l, record);
        yk_lessons_answer(&l->lessons, record, true);
        yk_shadow_lru_before(&l->lru, record);
        yk_history_touch(&l->history, record, common, n - 1 - i);
        l->history.records[record].announced = announced;
        guess_bytes(l, &l->history.records[record]);
        use_in_floor(l, record);
    }
}

/* parent: of what nobody announced, if it has one; YK_RECORD_NONE otherwise. */
static void request(struct learned *l, const struct yk_policy_request *q, uint32_t parent, bool announced) {
    uint32_t most = l->history.limit / 2, n = q->n < most ? q->n : most, gone; /* a chain gives up none of its own */
    set_time(l, q->now_ms);
    if (n == 0)
        return;
    l->history.request++;
    uint32_t known = find_chain(l, q->key_hashes, n, parent);
    struct yk_history_request common = features_of(l, q, n, known);
    yk_history_quantize(&common);
    l->requests_clock = l->history.clock;
    count_hits(l, n);
    yk_wanted_use(&l->wanted, l->chain, n);
    touch_chain(l, n, &common, announced);
    for (uint32_t i = n; i-- > 0;)
        yk_keeper_use(&l->keeper, l->chain[i]);
    while (yk_keeper_trim(&l->keeper, &gone))
        left(l, FOLLOW_KEEPER, gone);
    if (announced)
        yk_wanted_end(&l->wanted, l->chain, n);
    if (announced || l->last_ms > 0) /* else it is found again at a start, before there is any time */
        yk_lessons_request(&l->lessons, l->chain, n);
    choose(l, n);
    yk_place_see(&l->training->place, &l->lru);
    follow_steps(l, FOLLOW_STEPS + 4 * n);
    move_capacity(l, ROOM_STEPS + n);
}

static void learned_request(struct yk_policy *p, const struct yk_policy_request *q) {
    request(of(p), q, YK_RECORD_NONE, true);
}

/* The chain is free between requests. */
uint32_t yk_learned_prefetch(struct yk_policy *p, uint64_t now_ms, uint64_t *ret_hashes, uint32_t most) {
    struct learned *l = of(p);
    uint32_t gone;
    set_time(l, now_ms);
    if (l->follows != FOLLOW_KEEPER)
        return 0;
    uint32_t n = yk_wanted_next(&l->wanted, l->training->place.used_s, most < l->chain_max ? most : l->chain_max, l->chain);
    yk_wanted_lift(&l->wanted, l->chain, n);
    for (uint32_t i = 0; i < n; i++)
        ret_hashes[i] = l->history.records[l->chain[n - 1 - i]].key_hash;
    while (yk_keeper_trim(&l->keeper, &gone))
        left(l, FOLLOW_KEEPER, gone);
    return n;
}

bool yk_learned_is_due(const struct yk_policy *p, uint64_t key_hash) {
    const struct learned *l = (const struct learned *)p;
    uint32_t record = yk_history_find(&l->history, key_hash);
    return record != YK_RECORD_NONE && l->history.records[record].lifted;
}

void yk_learned_not_coming(struct yk_policy *p, uint64_t key_hash) {
    struct learned *l = of(p);
    uint32_t record = yk_history_find(&l->history, key_hash);
    if (record == YK_RECORD_NONE || !l->history.records[record].lifted || l->history.records[record].id != YK_POLICY_NONE)
        return;
    l->history.records[record].lifted = 0;
    yk_keeper_drop(&l->keeper, record);
}

/* ---- training ---------------------------------------------------------------------------------- */

struct yk_learned_training *yk_learned_training_begin(struct yk_policy *p) {
    struct learned *l = of(p);
    if (l->training->is_taken || !yk_lessons_are_due(&l->lessons))
        return NULL;
    l->training->is_taken = true;
    l->training->is_made = false;
    l->training->count = yk_lessons_copy(&l->lessons, l->training->examples);
    yk_place_begin(&l->training->place);
    return l->training;
}

void yk_learned_training_run(struct yk_learned_training *t) {
    yk_fit_run(&t->fit, t->examples, t->count, t->place.next_s, &t->trees[!t->used]);
    t->is_made = true;
}

void yk_learned_training_end(struct yk_policy *p) {
    struct learned *l = of(p);
    if (l->training->is_taken && l->training->is_made) {
        l->training->used = !l->training->used;
        l->model_ms = l->last_ms;
        l->trainings++;
        yk_place_end(&l->training->place);
    }
    l->training->is_taken = false;
    l->lessons.trees = &l->training->trees[l->training->used];
    yk_keeper_set_trees(&l->keeper, l->lessons.trees);
}

/* ---- blocks of the real one --------------------------------------------------------------------- */

static bool is_announced(const struct learned *l, uint32_t record) {
    const struct yk_record *r = &l->history.records[record];
    return r->touched > l->requests_clock || (r->announced && l->history.now_ms - r->last_ms <= ANNOUNCED_MS);
}

/* The block's record; what no request announced is one of its own. */
static uint32_t record_for(struct learned *l, uint64_t key_hash, uint32_t parent) {
    uint32_t record = yk_history_find(&l->history, key_hash);
    if (record != YK_RECORD_NONE && is_announced(l, record))
        return record;
    struct yk_policy_request q = {.now_ms = l->last_ms, .key_hashes = &key_hash, .n = 1};
    request(l, &q, parent, false);
    return l->chain[0];
}

/* ---- ops --------------------------------------------------------------------------------------- */

static void learned_free(struct yk_policy *p) {
    if (p == NULL)
        return;
    struct learned *l = of(p);
    if (l->order.space != NULL)
        yk_order_fini(&l->order);
    yk_keeper_fini(&l->keeper);
    yk_lessons_fini(&l->lessons);
    if (l->training != NULL)
        yk_fit_fini(&l->training->fit);
    free(l->training);
    yk_history_fini(&l->history);
    free(l->chain);
    free(l->record_of);
    free(l->bytes_of);
    free(l);
}

static int make_training(struct learned *l, uint64_t seed) {
    l->training = calloc(1, sizeof(*l->training));
    if (l->training == NULL)
        return -YK_ENOMEM;
    l->lessons.trees = &l->training->trees[0];
    yk_keeper_set_trees(&l->keeper, l->lessons.trees);
    return yk_fit_init(&l->training->fit, YK_LESSONS, seed);
}

static int make_parts(struct learned *l, struct yk_policy_space *space, const struct yk_policy_opts *opts) {
    int rc = yk_history_init(&l->history, YK_LEARNED_RECORDS_OF(l->capacity));
    if (rc == 0)
        rc = yk_lessons_init(&l->lessons, &l->history, opts->seed);
    if (rc == 0)
        rc = yk_keeper_init(&l->keeper, &l->history, NULL, l->capacity, 1u << FOLLOW_KEEPER);
    if (rc == 0)
        rc = make_training(l, opts->seed);
    yk_keeper_set_growth(&l->keeper, l->saved_growth);
    yk_wanted_init(&l->wanted, &l->history, &l->keeper);
    yk_shadow_lru_init(&l->lru, &l->history, l->capacity, 1u << FOLLOW_LRU);
    yk_shadow_s3fifo_init(&l->s3fifo, &l->history, l->capacity, 1u << FOLLOW_S3FIFO);
    l->chain = malloc(l->chain_max * sizeof(*l->chain));
    l->record_of = calloc(space->max_ids, sizeof(*l->record_of));
    l->bytes_of = calloc(space->max_ids, sizeof(*l->bytes_of));
    if (rc == 0 && (l->chain == NULL || l->record_of == NULL || l->bytes_of == NULL))
        rc = -YK_ENOMEM;
    return rc == 0 ? yk_order_init(&l->order, space, opts->seed) : rc;
}

static int learned_create(struct yk_policy_space *space, const struct yk_policy_opts *opts,
                          struct yk_policy **ret_policy) {
    struct learned *l = calloc(1, sizeof(*l));
    if (l == NULL)
        return -YK_ENOMEM;
    l->base.ops = &yk_policy_learned;
    l->follows = FOLLOW_KEEPER;
    l->has_below = opts->has_below;
    l->saved_growth = opts->saved_growth;
    l->walk = YK_RECORD_NONE;
    l->mean = 1;
    l->capacity = opts->capacity_objects < YK_LEARNED_CAPACITY_MAX ? opts->capacity_objects : YK_LEARNED_CAPACITY_MAX;
    if (l->capacity == 0)
        l->capacity = 1;
    l->capacity_max = l->capacity;
    l->chain_max = YK_LEARNED_RECORDS_OF(l->capacity) / 2;
    int rc = make_parts(l, space, opts);
    if (rc != 0) {
        learned_free(&l->base);
        return rc;
    }
    l->history.limit = YK_LEARNED_RECORDS_OF(0);
    *ret_policy = &l->base;
    return 0;
}

static uint32_t length_of(const struct yk_policy_block *block) {
    return block->size_bytes == 0 ? 1 : block->size_bytes < UINT32_MAX ? (uint32_t)block->size_bytes : UINT32_MAX;
}

static void bind(struct learned *l, uint32_t id, uint32_t record, uint32_t bytes) {
    if (l->unit_bytes == 0)
        l->unit_bytes = l->keeper.unit_bytes = bytes;
    l->keeper.is_mixed |= bytes != l->unit_bytes;
    l->bytes_of[id] = bytes;
    l->here_bytes += bytes;
    set_bytes(l, &l->history.records[record], bytes);
    l->record_of[id] = record + 1;
    l->history.records[record].id = id;
}

/* What a start finds is no request: nothing is hit or learned by it, and what is known of it stands. */
static uint32_t record_found(struct learned *l, uint64_t key_hash, uint32_t parent) {
    static const struct yk_history_request nothing = {.pause_ms = UINT32_MAX, .x_pause = YK_TREES_VALUES - 1};
    uint32_t record = yk_history_find(&l->history, key_hash), gone;
    if (record != YK_RECORD_NONE)
        return record;
    l->history.request++;
    record = add_record(l, key_hash, 0, parent);
    yk_shadow_lru_before(&l->lru, record);
    yk_history_touch(&l->history, record, &nothing, 0);
    use_in_floor(l, record);
    yk_keeper_use(&l->keeper, record);
    while (yk_keeper_trim(&l->keeper, &gone))
        left(l, FOLLOW_KEEPER, gone);
    return record;
}

void yk_learned_found(struct yk_policy *p) {
    struct learned *l = of(p);
    for (uint32_t record = l->history.oldest; record != YK_RECORD_NONE; record = l->history.records[record].younger) {
        uint32_t id = l->history.records[record].id;
        if (id != YK_POLICY_NONE && is_followed(l, record))
            yk_order_renew(&l->order, 0, id);
    }
    l->requests_clock = l->history.clock; /* no request announced them */
}

static int learned_insert(struct yk_policy *p, uint32_t id, const struct yk_policy_block *block) {
    struct learned *l = of(p);
    int rc = yk_order_may_enter(&l->order, id, block->parent_id);
    if (rc != 0)
        return rc;
    uint32_t parent = block->parent_id != YK_POLICY_NONE ? record_at(l, block->parent_id) : YK_RECORD_NONE;
    uint32_t record = block->is_ahead ? yk_history_find(&l->history, block->key_hash) : YK_RECORD_NONE;
    if (record == YK_RECORD_NONE)
        record = block->found ? record_found(l, block->key_hash, parent) : record_for(l, block->key_hash, parent);
    uint32_t other = l->history.records[record].id;
    if (other != YK_POLICY_NONE)
        l->record_of[other] = 0; /* the same hash twice: the younger has the record */
    yk_order_enter(&l->order, 0, id, block->parent_id);
    bind(l, id, record, length_of(block));
    if (!is_followed(l, record) && !block->is_ahead) /* who fetched it ahead is about to use it */
        yk_order_yield(&l->order, 0, id);
    see_count(l);
    return 0;
}

static int learned_access(struct yk_policy *p, uint32_t id) {
    struct learned *l = of(p);
    if (!yk_order_has(&l->order, id))
        return YK_MISS;
    yk_order_renew(&l->order, 0, id);
    if (record_at(l, id) == YK_RECORD_NONE)
        return 0; /* forgotten: it is known again when it comes in again */
    uint32_t record = record_for(l, l->history.records[record_at(l, id)].key_hash, YK_RECORD_NONE);
    if (!is_followed(l, record))
        yk_order_yield(&l->order, 0, id);
    return 0;
}

/* Its record stays. */
static void leave(struct learned *l, uint32_t id) {
    uint32_t record = record_at(l, id);
    if (record != YK_RECORD_NONE)
        l->history.records[record].id = YK_POLICY_NONE;
    l->record_of[id] = 0;
    l->here_bytes -= l->bytes_of[id];
    yk_order_leave(&l->order, id);
}

static int learned_evict(struct yk_policy *p, uint32_t id, uint64_t key_hash) {
    (void)key_hash;
    if (!yk_order_has(&of(p)->order, id))
        return YK_MISS;
    see_room(of(p));
    leave(of(p), id);
    return 0;
}

/* No cache has it any more: else those without payload would hit what the real one cannot, and look better for ever. */
static int learned_remove(struct yk_policy *p, uint32_t id) {
    struct learned *l = of(p);
    if (!yk_order_has(&l->order, id))
        return YK_MISS;
    uint32_t record = record_at(l, id);
    if (record != YK_RECORD_NONE) {
        yk_shadow_lru_drop(&l->lru, record);
        yk_shadow_s3fifo_drop(&l->s3fifo, record);
        yk_keeper_drop(&l->keeper, record);
    }
    leave(l, id);
    return 0;
}

static int learned_victim(struct yk_policy *p, yk_policy_can_fn can, void *arg, uint32_t max_steps,
                          uint32_t *ret_id) {
    return yk_order_victim(&of(p)->order, can, arg, max_steps, ret_id);
}

static int learned_peek(const struct yk_policy *p, uint64_t *ret_stamp) {
    const struct yk_order *o = &((const struct learned *)p)->order;
    return yk_order_peek(o, yk_order_oldest(o, 0), ret_stamp);
}

static uint32_t learned_count(const struct yk_policy *p) {
    return yk_order_count(&((const struct learned *)p)->order);
}

static bool learned_rises(const struct yk_policy *p, uint64_t key_hash, bool used) {
    const struct learned *l = (const struct learned *)p;
    return (used && !l->has_below) || is_followed(l, yk_history_find(&l->history, key_hash));
}

static int learned_yield(struct yk_policy *p, uint32_t id) {
    struct yk_order *o = &of(p)->order;
    if (!yk_order_has(o, id))
        return YK_MISS;
    yk_order_yield(o, 0, id);
    return 0;
}

const struct yk_policy_ops yk_policy_learned = {
    .name = "learned",
    .help = "what is predicted to be wanted soonest stays, or what lru or s3fifo keep where they hit more",
    .caps = YK_POLICY_CAP_PARENTS | YK_POLICY_CAP_REQUESTS | YK_POLICY_CAP_LEARNS,
    .create = learned_create,
    .free = learned_free,
    .insert = learned_insert,
    .access = learned_access,
    .remove = learned_remove,
    .evict = learned_evict,
    .victim = learned_victim,
    .peek = learned_peek,
    .count = learned_count,
    .rises = learned_rises,
    .yield = learned_yield,
    .request = learned_request,
};

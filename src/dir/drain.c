/* SPDX-License-Identifier: Apache-2.0
 *
 * A node that drains hands its blocks over: each shall have the copies that it wants on nodes that stay
 * (docs/decisions/0017), the most valuable first, by the order of this node's policy; what is on SSD alone comes last.
 *
 *   OFF --draining--> WALKING --the most valuable that are left--> GIVING --they are given--+
 *    ^                  ^  ^                                                 |              |
 *    |                  |  +-------------- there is less valuable <----------+--------------+
 *    +-- undone         +-- RESTING <----- all has been looked at
 *
 * After a rest all is looked at again: for what was put meanwhile, and for what found no place. A block that was
 * handed over is a guest here from then on: the next look passes it over, and it does not count as a copy.
 *
 * Nobody is flooded: few blocks and bytes are under way, in the background class; where they go is place.c's choice,
 * and a target takes few at a time (take.c). A block that was used since it was put may have others evicted there; what
 * was not goes only where there is room, else it stays, and is counted. The node serves meanwhile, and afterwards, as
 * ever.
 *
 * Memory: twice BATCH keys. A block whose worth changes while it is looked for is met in the next round.
 *
 * Threads: the directory's loop; while WALKING the node's owner thread has `left`, `count` and what stands beside.
 */
#include "dir/copy_priv.h"

#include <stdio.h>

#define BATCH       4096u
#define STEPS       2048u        /* of a walk, in one turn of the owner thread */
#define BUSY        16u          /* blocks under way */
#define BUSY_BYTES  (64u << 20)  /* or, unless it is one block, so much of them */
#define COPY_NS     (30 * YK_NS_PER_S)
#define REST_NS     YK_NS_PER_S
#define REST_MAX_NS (60 * YK_NS_PER_S) /* the rest doubles while blocks find no place */

enum state { OFF, WALKING, GIVING, RESTING };

/* What a block is worth, and, among those of equal worth, its key's hash. */
struct rank {
    uint64_t value, hash;
};

struct left {
    struct dir_drain *drain;
    struct rank rank;
    uint64_t epoch, gen, len;
    uint32_t copies, ns_len, key_len;
    uint8_t used;
    unsigned char bytes[]; /* namespace, key */
};

struct dir_drain {
    struct dir_job job; /* the walk */
    enum state state;
    uint32_t cursor;
    struct rank below, floor; /* looked for: worth less than below; floor and less do not come into this batch */
    uint64_t seen, seen_bytes; /* of this walk, and not in the batch */
    struct left *left[2 * BATCH];
    uint32_t count, next, busy;
    uint64_t busy_bytes, rest_ns, until_ns;
    uint64_t failed, homeless, looked, last_looked; /* in this round, in the one before; homeless: there is no room */
    uint32_t walks;                       /* in this round */
    struct dir_drain_stats n;
};

/* ---- the walk --------------------------------------------------------------------------------------- */

static int is_less(struct rank a, struct rank b) {
    return a.value != b.value ? a.value < b.value : a.hash < b.hash;
}

static int by_rank(const void *a, const void *b) {
    struct rank x = (*(struct left *const *)a)->rank, y = (*(struct left *const *)b)->rank;
    return is_less(x, y) ? 1 : is_less(y, x) ? -1 : 0;
}

static void pass_over(struct dir_drain *r, uint64_t len) {
    r->seen++;
    r->seen_bytes += len;
}

static int is_same(const struct left *a, const struct left *b) {
    return a->rank.value == b->rank.value && a->ns_len == b->ns_len && a->key_len == b->key_len &&
           memcmp(a->bytes, b->bytes, a->ns_len + a->key_len) == 0;
}

/* The most valuable stay; what is in both tiers was met twice. */
static void cut(struct dir_drain *r) {
    uint32_t n = 0;
    qsort(r->left, r->count, sizeof(r->left[0]), by_rank);
    for (uint32_t i = 0; i < r->count; i++) {
        if (n > 0 && is_same(r->left[n - 1], r->left[i]))
            free(r->left[i]);
        else
            r->left[n++] = r->left[i];
    }
    r->count = n;
    while (r->count > BATCH) {
        struct left *l = r->left[--r->count];
        r->floor = l->rank;
        pass_over(r, l->len);
        free(l);
    }
}

static void note(void *arg, const struct yk_pool_block *b) {
    struct dir_drain *r = arg;
    /* On SSD alone: any order will do, but one. */
    uint64_t hash = yk_dir_hash(b->ns, b->ns_len, b->key, b->key_len);
    struct rank rank = {b->value != 0 ? b->value : hash >> 1, hash};
    if (b->guest || !is_less(rank, r->below))
        return;
    struct left *l = is_less(r->floor, rank) ? malloc(sizeof(*l) + b->ns_len + b->key_len) : NULL;
    if (l == NULL) {
        pass_over(r, b->len);
        return;
    }
    *l = (struct left){.drain = r,
                       .rank = rank,
                       .epoch = b->epoch,
                       .gen = b->gen,
                       .len = b->len,
                       .copies = b->copies > 0 ? b->copies : 1,
                       .used = b->used,
                       .ns_len = b->ns_len,
                       .key_len = b->key_len};
    memcpy(l->bytes, b->ns, b->ns_len);
    memcpy(l->bytes + b->ns_len, b->key, b->key_len);
    r->left[r->count++] = l;
    if (r->count == 2 * BATCH)
        cut(r);
}

static void walk_there(struct dir_job *job, struct yk_store *store) {
    struct dir_drain *r = DIR_ITEM(job, struct dir_drain, job);
    yk_store_pool_walk(store, &r->cursor, STEPS, note, r);
}

static void drop_left(struct dir_drain *r) {
    while (r->next < r->count)
        free(r->left[r->next++]);
    r->count = r->next = 0;
}

static void give(struct dir_drain *r);

static void walk_back(struct dir_job *job) {
    struct dir_drain *r = DIR_ITEM(job, struct dir_drain, job);
    struct yk_dir *d = job->dir;
    if (!job->closed && !d->stopping && d->state.draining && r->cursor != YK_WALK_END) {
        dir_to_node(d, job);
        return;
    }
    cut(r);
    if (r->count == 0) { /* there was no memory for one of them */
        r->failed += r->seen;
        r->seen = r->seen_bytes = 0;
    }
    for (uint32_t i = 0; i < r->count; i++)
        pass_over(r, r->left[i]->len);
    r->n.blocks_left = r->seen;
    r->n.bytes_left = r->seen_bytes;
    r->looked += r->count;
    r->state = GIVING;
    give(r);
}

static void walk(struct dir_drain *r, struct rank below) {
    r->state = WALKING;
    r->walks++;
    r->below = below;
    r->floor = (struct rank){0, 0};
    r->cursor = 0;
    r->seen = r->seen_bytes = 0;
    r->job.there = walk_there;
    r->job.back = walk_back;
    dir_to_node(r->job.dir, &r->job);
}

/* ---- one block -------------------------------------------------------------------------------------- */

/* A miss: it is gone, and there is nothing to hand over. */
static void count_failed(struct dir_drain *r, const struct left *l, const struct dir_copy_end *end) {
    if (end->status == YK_MISS) { /* gone, or its slot is being made again: the next round says which */
        r->failed++;
        snprintf(r->n.text, sizeof(r->n.text), "not found in the directory just now");
        return;
    }
    if (end->status == YK_FEWER && !l->used) {
        r->homeless++;
        return;
    }
    r->failed++;
    snprintf(r->n.text, sizeof(r->n.text), "%s", end->text[0] != 0 ? end->text : yk_status_text(end->status));
}

static void given(void *arg, const struct dir_copy_end *end) {
    struct left *l = arg;
    struct dir_drain *r = l->drain;
    r->busy--;
    r->busy_bytes -= l->len;
    r->n.blocks_left--;
    r->n.bytes_left -= l->len;
    if (end->status == 0) {
        r->n.handed++;
        r->n.handed_bytes += l->len;
    } else {
        count_failed(r, l, end);
    }
    free(l);
    give(r);
}

static int start(struct dir_drain *r, struct left *l) {
    struct dir_copy_want want = {.key = {(const char *)l->bytes, l->ns_len, l->bytes + l->ns_len, l->key_len},
                                 .epoch = l->epoch,
                                 .wanted = l->copies,
                                 .to = YK_DIR_NOBODY,
                                 .here = 1,
                                 .gen = l->gen,
                                 .leave = DIR_LENT,
                                 .room = !l->used,
                                 .xclass = YK_XFER_BACKGROUND,
                                 .deadline_ns = yk_now_ns() + COPY_NS};
    int rc = dir_copy_start(r->job.dir, &want, given, l);
    if (rc < 0)
        return rc;
    r->busy++;
    r->busy_bytes += l->len;
    return 0;
}

/* ---- all of them ------------------------------------------------------------------------------------ */

/* What is used meanwhile slips from one walk of a round to the next, so the round before the last finds all in one walk,
 * or as many as the one before it (those that are pinned are no guests, and are met each time). */
static void round_over(struct dir_drain *r) {
    r->n.done = r->failed == 0 && (r->walks == 1 || r->looked == r->last_looked);
    r->n.kept = r->failed + r->homeless;
    if (r->failed == 0)
        r->n.text[0] = '\0';
    r->rest_ns = r->failed == 0 || r->rest_ns == 0 ? REST_NS : 2 * r->rest_ns;
    if (r->rest_ns > REST_MAX_NS)
        r->rest_ns = REST_MAX_NS;
    r->until_ns = yk_now_ns() + r->rest_ns;
    r->last_looked = r->looked;
    r->failed = r->homeless = r->looked = 0;
    r->walks = 0;
    r->state = RESTING;
}

/* Begins what may be under way, and goes on when all that is known has ended. */
static void give(struct dir_drain *r) {
    struct yk_dir *d = r->job.dir;
    if (r->state != GIVING)
        return;
    if (d->stopping || !d->state.draining)
        drop_left(r);
    while (r->next < r->count && r->busy < BUSY) {
        struct left *l = r->left[r->next];
        if (r->busy > 0 && r->busy_bytes + l->len > BUSY_BYTES)
            break;
        if (start(r, l) < 0)
            return; /* the next second, or the end of one that is under way, tries again */
        r->next++;
        r->below = l->rank;
    }
    if (r->next < r->count || r->busy > 0)
        return;
    r->count = r->next = 0;
    if (d->stopping || !d->state.draining)
        r->state = OFF;
    else if (r->n.blocks_left > 0)
        walk(r, r->below);
    else
        round_over(r);
}

void dir_drain_look(struct yk_dir *d, uint64_t now_ns) {
    struct dir_drain *r = d->drain;
    if (d->stopping || (r == NULL && !d->state.draining) || d->core == NULL || !yk_dir_core_serves(d->core))
        return;
    if (r == NULL && (r = d->drain = calloc(1, sizeof(*r))) == NULL)
        return;
    r->job.dir = d;
    if (r->state == RESTING && !d->state.draining)
        r->state = OFF;
    if (r->state == GIVING) {
        give(r);
    } else if (d->state.draining && (r->state == OFF || (r->state == RESTING && now_ns >= r->until_ns))) {
        if (r->state == OFF) {
            memset(&r->n, 0, sizeof(r->n));
            r->failed = r->homeless = r->looked = r->last_looked = r->rest_ns = 0;
            r->walks = 0;
        }
        walk(r, (struct rank){UINT64_MAX, UINT64_MAX});
    }
}

int dir_drain_stats(const struct yk_dir *d, struct dir_drain_stats *ret) {
    if (d->drain == NULL || !d->state.draining)
        return 0;
    *ret = d->drain->n;
    return 1;
}

void dir_drain_free(struct yk_dir *d) {
    if (d->drain != NULL)
        drop_left(d->drain);
    free(d->drain);
    d->drain = NULL;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * What this node has, as the core is told: changes as they come through the ring, and walks over all blocks (a
 * start; changes that were lost). What a walk finds goes through the ring too, so it stands in order with the
 * changes, and an old finding never follows a newer change. What was held, and neither a walk that lost nothing nor
 * any change since its beginning has told, is gone: that was lost (R12).
 *
 * A block's group is its parent's, if that is held; else the one it has been held or found in; else its own
 * hash (docs/decisions/0016). A walk comes upon children before their parents, so it is repeated while it still
 * moves blocks to other groups, some times at most; nothing is published before that.
 *
 * Threads: the directory's loop; `..._there`: the node's owner thread.
 */
#include "dir/dir_priv.h"

#define STEPS      2048u /* of a walk in one turn of the owner thread */
#define WALKS_MAX  8u
#define TAKEN_MAX  256u  /* changes in one turn of the loop: half a millisecond, that others wait for */
#define SWEPT      64u   /* slots in which what has gone is looked for in one turn of it */

struct walk {
    struct dir_job job;
    uint32_t cursor, walks, swept;
    uint64_t found; /* how far the ring has to be read until all is taken that the last piece found; 0: not known */
};

static uint64_t group_of(const struct yk_dir *d, const struct yk_pool_block *b, const struct yk_dir_key *key) {
    struct yk_dir_key parent = {b->ns, b->ns_len, b->parent, b->parent_len};
    uint64_t group = 0, hash = yk_dir_hash(key->ns, key->ns_len, key->key, key->key_len);
    if (b->parent != NULL)
        group = yk_dir_core_group(d->core, &parent, b->epoch);
    if (group == 0)
        group = yk_dir_core_group(d->core, key, b->epoch);
    if (group == 0)
        group = dir_pull_group(d, key, hash);
    return group != 0 ? group : hash;
}

static void take(struct yk_dir *d, const struct yk_pool_block *b) {
    struct yk_dir_block block = {.key = {b->ns, b->ns_len, b->key, b->key_len},
                                 .epoch = b->epoch,
                                 .gen = b->gen,
                                 .len = b->len,
                                 .sum = b->sum,
                                 .tiers = yk_dir_told(b->tiers, b->guest, b->copies)};
    block.group = group_of(d, b, &block.key);
    if (d->walking && b->tiers != 0)
        d->regrouped += yk_dir_core_group(d->core, &block.key, b->epoch) != block.group;
    yk_dir_core_block(d->core, &block);
}

void dir_changes_run(struct yk_dir *d) {
    struct yk_pool_block b;
    uint32_t bytes, n = 0;
    if (d->core == NULL)
        return;
    for (; n < TAKEN_MAX && dir_ring_take(d->ring, &b, &bytes); n++) {
        take(d, &b);
        dir_ring_took(d->ring, bytes);
    }
    if (n == TAKEN_MAX)
        uv_async_send(&d->wake);
    if (n > 0)
        dir_tick_later(d);
    if (n < TAKEN_MAX && !d->walking && dir_ring_lost(d->ring))
        dir_walk_start(d);
}

void dir_changes_until_now(struct yk_dir *d) {
    uint64_t now = dir_ring_written(d->ring);
    struct yk_pool_block b;
    uint32_t bytes;
    while (d->core != NULL && dir_ring_read(d->ring) < now && dir_ring_take(d->ring, &b, &bytes)) {
        take(d, &b);
        dir_ring_took(d->ring, bytes);
    }
}

/* ---- walks ------------------------------------------------------------------------------------------ */

static void note(void *arg, const struct yk_pool_block *b) {
    dir_ring_put(arg, b);
}

static void walk_there(struct dir_job *job, struct yk_store *store) {
    struct walk *w = DIR_ITEM(job, struct walk, job);
    yk_store_pool_walk(store, &w->cursor, STEPS, note, job->dir->ring);
}

static void walk_over(struct yk_dir *d) {
    d->walking = 0;
    yk_dir_core_known(d->core); /* it is not closed during a walk */
    dir_tick_soon(d);
    dir_state_changed(d);
    uv_async_send(&d->wake); /* changes that were lost meanwhile */
}

/* Some slots a turn, then it is over. */
static void sweep_back(struct dir_job *job) {
    struct walk *w = DIR_ITEM(job, struct walk, job);
    struct yk_dir *d = job->dir;
    for (uint32_t n = 0; n < SWEPT && w->swept < YK_DIR_SLOTS && !d->stopping; n++)
        yk_dir_core_unseen(d->core, w->swept++);
    if (w->swept < YK_DIR_SLOTS && !d->stopping) {
        dir_to_loop(d, job);
        return;
    }
    free(w);
    if (d->stopping)
        d->walking = 0;
    else
        walk_over(d);
}

/* What the piece found is taken first, in as many turns of the loop as it takes: what the sweep does not know is gone. */
static void walk_back(struct dir_job *job) {
    struct walk *w = DIR_ITEM(job, struct walk, job);
    struct yk_dir *d = job->dir;
    if (job->closed || d->stopping) {
        d->walking = 0;
        free(w);
        return;
    }
    if (w->found == 0)
        w->found = dir_ring_written(d->ring);
    if (dir_ring_read(d->ring) < w->found) {
        dir_to_loop(d, job);
        return;
    }
    w->found = 0;
    if (w->cursor == YK_WALK_END) {
        int more = d->regrouped > 0 && ++w->walks < WALKS_MAX;
        d->regrouped = 0;
        if (!more) {
            w->swept = dir_ring_has_lost(d->ring) ? YK_DIR_SLOTS : 0; /* it may have lost what it found: once more */
            job->back = sweep_back;
            sweep_back(job);
            return;
        }
        w->cursor = 0;
    }
    dir_to_node(d, job);
}

void dir_walk_start(struct yk_dir *d) {
    struct walk *w = d->walking ? NULL : calloc(1, sizeof(*w));
    if (w == NULL)
        return; /* without memory: changes that come tell what they tell */
    d->walking = 1;
    d->regrouped = 0;
    yk_dir_core_walk(d->core);
    w->job.there = walk_there;
    w->job.back = walk_back;
    dir_to_node(d, &w->job);
}

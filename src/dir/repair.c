/* SPDX-License-Identifier: Apache-2.0
 *
 * What lost a copy gets another one (docs/decisions/0017): this node, as the owner of slots, looks for blocks that have
 * fewer copies than are wanted, and coordinates one more (copy.c), in the background class.
 *
 * A slot is `due` after a member was expelled or has joined, and when it became this node's. It is looked at when it is
 * whole, a piece of it in each turn of the look timer, while fewer than COPIES_MAX copies are under way; it stays due
 * as long as one of its blocks found no room among those, or failed. After a failure nothing is begun for a while, twice
 * as long each time: where there are no nodes to take copies, looking again costs little.
 *
 * Rejected: a list of what lost a copy, made as it is lost. A new owner has never seen the copies that went, so it has
 * to look at all of its slot anyway; and evictions would have to be told apart from losses.
 *
 * Threads: the directory's loop.
 */
#include "dir/copy_priv.h"

#include "dir/table.h"

#define COPIES_MAX  16u  /* under way at a time */
#define STEPS       512u /* of a walk, in a turn: some 20 us */
#define DEADLINE_NS (60 * YK_NS_PER_S)
#define REST_MIN_NS (1 * YK_NS_PER_S)
#define REST_MAX_NS (60 * YK_NS_PER_S)

/* A copy under way. */
struct mending {
    struct yk_dir *dir;
    uint16_t slot;
    uint8_t used;
    uint32_t ns_len, key_len;
    uint64_t epoch;
    char ns[YK_DIR_NS_MAX];
    unsigned char key[YK_KEY_MAX];
};

struct dir_repair {
    uint8_t due[YK_DIR_SLOTS];
    uint16_t short_in[YK_DIR_SLOTS]; /* as the last look counted, less what was mended */
    uint32_t due_count;
    uint32_t slot; /* that is looked at */
    uint64_t cursor;
    uint32_t found; /* in it */
    uint8_t again;  /* one of it found no room */
    uint64_t rest_ns, next_ns;
    uint32_t busy;
    struct mending mending[COPIES_MAX];
};

static void due(struct dir_repair *r, uint32_t slot) {
    r->due_count += !r->due[slot];
    r->due[slot] = 1;
}

static void not_due(struct dir_repair *r, uint32_t slot) {
    r->due_count -= r->due[slot];
    r->due[slot] = 0;
}

static void short_set(struct yk_dir *d, uint32_t slot, uint32_t n) {
    struct dir_repair *r = d->repair;
    uint16_t now = (uint16_t)(n < UINT16_MAX ? n : UINT16_MAX);
    d->n.short_of_copies += now;
    d->n.short_of_copies -= r->short_in[slot];
    r->short_in[slot] = now;
}

/* ---- one block -------------------------------------------------------------------------------------- */

static void mended(void *arg, const struct dir_copy_end *e) {
    struct mending *m = arg;
    struct yk_dir *d = m->dir;
    struct dir_repair *r = d->repair;
    m->used = 0;
    r->busy--;
    if (e->status == 0 || e->status == YK_MISS) {
        r->rest_ns = 0;
        if (r->short_in[m->slot] > 0)
            short_set(d, m->slot, r->short_in[m->slot] - 1u);
        return;
    }
    due(r, m->slot);
    if (r->next_ns > yk_now_ns())
        return; /* others of the same time have failed, too */
    r->rest_ns = r->rest_ns == 0 ? REST_MIN_NS : r->rest_ns < REST_MAX_NS / 2u ? 2u * r->rest_ns : REST_MAX_NS;
    r->next_ns = yk_now_ns() + r->rest_ns;
}

static int is_mending(const struct dir_repair *r, const struct yk_dir_key *key, uint64_t epoch) {
    for (uint32_t i = 0; i < COPIES_MAX; i++) {
        const struct mending *m = &r->mending[i];
        if (m->used && m->epoch == epoch && m->ns_len == key->ns_len && m->key_len == key->key_len &&
            memcmp(m->ns, key->ns, m->ns_len) == 0 && memcmp(m->key, key->key, m->key_len) == 0)
            return 1;
    }
    return 0;
}

static int mend(struct yk_dir *d, uint32_t slot, const struct yk_dir_key *key, uint64_t epoch, uint32_t wanted) {
    struct dir_repair *r = d->repair;
    struct mending *m = r->mending;
    struct dir_copy_want want = {.key = *key,
                                 .epoch = epoch,
                                 .wanted = wanted,
                                 .xclass = YK_XFER_BACKGROUND,
                                 .deadline_ns = yk_now_ns() + DEADLINE_NS};
    if (r->busy == COPIES_MAX)
        return -YK_EAGAIN;
    while (m->used)
        m++;
    int rc = dir_copy_start(d, &want, mended, m);
    if (rc < 0)
        return rc;
    *m = (struct mending){.dir = d, .slot = (uint16_t)slot, .used = 1, .epoch = epoch};
    m->ns_len = key->ns_len;
    m->key_len = key->key_len;
    memcpy(m->ns, key->ns, m->ns_len);
    memcpy(m->key, key->key, m->key_len);
    r->busy++;
    return 0;
}

/* How many are wanted; 0: as many are there. What has as many copies as are told has enough. */
static uint32_t lacks(const struct yk_dir *d, const struct yk_dir_found *f) {
    uint32_t wanted = 1, copies = 0;
    for (uint32_t i = 0; i < f->count; i++) {
        const struct yk_dir_copy *c = &f->copy[i];
        if (YK_DIR_WANTED(c->tiers) > wanted)
            wanted = YK_DIR_WANTED(c->tiers);
        copies += !(c->tiers & YK_DIR_GUEST) && dir_is_live(d, c->member, c->incarnation);
    }
    return f->count < YK_DIR_COPIES_MAX && copies < wanted ? wanted : 0;
}

static void look_at(void *arg, const struct yk_dir_table_item *item) {
    struct yk_dir *d = arg;
    struct dir_repair *r = d->repair;
    uint32_t wanted = item->key.key != NULL && item->found.status == 0 ? lacks(d, &item->found) : 0;
    if (wanted == 0)
        return;
    r->found++;
    if (is_mending(r, &item->key, item->found.epoch))
        return;
    if (mend(d, r->slot, &item->key, item->found.epoch, wanted) < 0)
        r->again = 1;
}

/* ---- slots ------------------------------------------------------------------------------------------ */

/* The next one that is due, behind the one that was looked at. */
static void next_slot(struct dir_repair *r) {
    r->cursor = 0;
    r->found = 0;
    r->again = 0;
    for (uint32_t i = 1; i <= YK_DIR_SLOTS; i++)
        if (r->due[(r->slot + i) % YK_DIR_SLOTS]) {
            r->slot = (r->slot + i) % YK_DIR_SLOTS;
            return;
        }
}

/* Returns 0 when no slot can be looked at now. */
static int step(struct yk_dir *d) {
    struct dir_repair *r = d->repair;
    for (uint32_t n = r->due_count; n > 0 && r->due_count > 0; n--) { /* each that is due, once */
        if (!r->due[r->slot])
            next_slot(r);
        int rc = yk_dir_core_entries(d->core, r->slot, &r->cursor, STEPS, look_at, d);
        if (rc == 1)
            return 1;
        if (rc == 0)
            short_set(d, r->slot, r->found);
        if (rc == -YK_EGONE)
            short_set(d, r->slot, 0);
        if (rc == -YK_EGONE || (rc == 0 && !r->again))
            not_due(r, r->slot);
        next_slot(r);
        if (rc == 0)
            return 1;
    }
    return 0;
}

int dir_repair_look(struct yk_dir *d, uint64_t now_ns) {
    struct dir_repair *r = d->repair;
    if (r == NULL || d->core == NULL || d->stopping || r->due_count == 0 || now_ns < r->next_ns || d->map == NULL ||
        !yk_dir_core_serves(d->core))
        return 0;
    return r->busy < COPIES_MAX ? step(d) : 1;
}

/* Somebody who can hold copies came or went. */
static int others(const struct yk_dir_map *a, const struct yk_dir_map *b) {
    if (a->expulsions != b->expulsions || a->member_count != b->member_count)
        return 1;
    for (uint32_t i = 0; i < a->member_count; i++)
        if (a->member[i].id != b->member[i].id || a->member[i].state != b->member[i].state ||
            a->member[i].incarnation != b->member[i].incarnation)
            return 1;
    return 0;
}

void dir_repair_map(struct yk_dir *d, const struct yk_dir_map *before, const struct yk_dir_map *now) {
    if (d->repair == NULL)
        d->repair = calloc(1, sizeof(*d->repair));
    if (d->repair == NULL)
        return; /* the next map tries again */
    int all = before == NULL || others(before, now);
    for (uint32_t s = 0; s < YK_DIR_SLOTS; s++)
        if (now->slot[s].owner == d->self && (all || before->slot[s].owner != d->self))
            due(d->repair, s);
        else if (now->slot[s].owner != d->self && d->repair->short_in[s] > 0)
            short_set(d, s, 0);
    if (all)
        d->repair->rest_ns = d->repair->next_ns = 0;
    dir_look_soon(d);
}

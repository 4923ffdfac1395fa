/* SPDX-License-Identifier: Apache-2.0
 *
 * Who holds something in a slot (table_priv.h): holders and their sources, snapshots, forgetting, and the sweep that
 * gets back what was forgotten.
 *
 * Threads: pure; one caller at a time.
 */
#include "dir/table_priv.h"

#include <stdlib.h>
#include <string.h>

struct slot *slot_need(struct yk_dir_table *t, uint32_t slot) {
    if (t->slot[slot] == NULL) {
        struct slot *s = calloc(1, sizeof(*s));
        if (s != NULL)
            s->free_source = NO_SOURCE;
        t->slot[slot] = s;
    }
    return t->slot[slot];
}

void slot_free(struct slot *s) {
    yk_chain_fini(&s->index);
    free(s->sources);
    free(s->holders);
    free(s);
}

/* ---- sources ------------------------------------------------------------------------------------ */

static int source_new(struct slot *s, uint32_t member, uint64_t incarnation, uint16_t *ret_source) {
    uint32_t i = s->free_source;
    if (i != NO_SOURCE) {
        s->free_source = s->sources[i].into;
    } else {
        if (s->source_end == SOURCES_MAX)
            return -YK_ELIMIT;
        if (s->source_end == s->source_cap) {
            uint32_t cap = s->source_cap == 0 ? 8 : 2 * s->source_cap;
            struct source *more = realloc(s->sources, cap * sizeof(*more));
            if (more == NULL)
                return -YK_ENOMEM;
            s->sources = more;
            s->source_cap = cap;
        }
        i = s->source_end++;
    }
    s->sources[i] =
        (struct source){.incarnation = incarnation, .member = member, .into = NO_SOURCE, .state = SOURCE_LIVE};
    *ret_source = (uint16_t)i;
    return 0;
}

static void zombies_change(struct yk_dir_table *t, struct slot *s, int by) {
    uint32_t before = s->zombies;
    s->zombies += (uint32_t)by;
    t->dirty += (s->zombies != 0) - (before != 0);
}

static void source_free(struct yk_dir_table *t, struct slot *s, uint32_t source) {
    struct source *src = &s->sources[source];
    uint32_t into = src->state == SOURCE_INTO ? src->into : NO_SOURCE;
    zombies_change(t, s, -1);
    src->state = SOURCE_FREE;
    src->into = s->free_source;
    s->free_source = (uint16_t)source;
    if (into != NO_SOURCE)
        source_unref(t, s, into);
}

void source_ref(struct slot *s, uint32_t source) {
    s->sources[source].refs++;
}

void source_unref(struct yk_dir_table *t, struct slot *s, uint32_t source) {
    struct source *src = &s->sources[source];
    if (--src->refs == 0 && src->state != SOURCE_LIVE)
        source_free(t, s, source);
}

/* What it had is gone. */
static void source_kill(struct yk_dir_table *t, struct slot *s, uint32_t source) {
    struct source *src = &s->sources[source];
    src->state = SOURCE_DEAD;
    src->copies = src->aliases = 0;
    src->digest = 0;
    zombies_change(t, s, 1);
    if (src->refs == 0)
        source_free(t, s, source);
}

static void source_merge(struct yk_dir_table *t, struct slot *s, uint32_t source, uint32_t into) {
    struct source *from = &s->sources[source], *to = &s->sources[into];
    to->copies += from->copies;
    to->aliases += from->aliases;
    to->digest += from->digest;
    from->copies = from->aliases = 0;
    from->digest = 0;
    from->state = SOURCE_INTO;
    from->into = (uint16_t)into;
    to->refs++;
    zombies_change(t, s, 1);
    if (from->refs == 0)
        source_free(t, s, source);
}

/* ---- holders ------------------------------------------------------------------------------------ */

/* The first whose member is not below this one. */
static uint32_t holder_place(const struct slot *s, uint32_t member) {
    uint32_t low = 0, high = s->holder_count;
    while (low < high) {
        uint32_t mid = (low + high) / 2;
        if (s->holders[mid].member < member)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static struct holder *holder_find(const struct slot *s, uint32_t member) {
    uint32_t i = s != NULL ? holder_place(s, member) : 0;
    return s != NULL && i < s->holder_count && s->holders[i].member == member ? &s->holders[i] : NULL;
}

static int holder_new(struct slot *s, uint32_t member, uint64_t incarnation, struct holder **ret_holder) {
    if (s->holder_count == s->holder_cap) {
        uint32_t cap = s->holder_cap == 0 ? 4 : 2 * s->holder_cap;
        struct holder *more = realloc(s->holders, cap * sizeof(*more));
        if (more == NULL)
            return -YK_ENOMEM;
        s->holders = more;
        s->holder_cap = cap;
    }
    struct holder fresh = {.member = member, .snap = NO_SOURCE};
    int rc = source_new(s, member, incarnation, &fresh.cur);
    if (rc != 0)
        return rc;
    uint32_t i = holder_place(s, member);
    memmove(&s->holders[i + 1], &s->holders[i], (s->holder_count - i) * sizeof(*s->holders));
    s->holders[i] = fresh;
    s->holder_count++;
    *ret_holder = &s->holders[i];
    return 0;
}

static void holder_kill(struct yk_dir_table *t, struct slot *s, const struct holder *h) {
    source_kill(t, s, h->cur);
    if (h->snap != NO_SOURCE)
        source_kill(t, s, h->snap);
}

int holder_need(struct yk_dir_table *t, struct slot *s, uint32_t member, uint64_t incarnation,
                struct holder **ret_holder) {
    struct holder *h = holder_find(s, member);
    if (h == NULL)
        return holder_new(s, member, incarnation, ret_holder);
    uint64_t known = s->sources[h->cur].incarnation;
    if (incarnation < known)
        return -YK_ESTALE;
    if (incarnation > known) {
        uint16_t fresh;
        int rc = source_new(s, member, incarnation, &fresh);
        if (rc != 0)
            return rc;
        holder_kill(t, s, h);
        h->cur = fresh;
        h->snap = NO_SOURCE;
    }
    *ret_holder = h;
    return 0;
}

/* ---- snapshots ---------------------------------------------------------------------------------- */

int yk_dir_table_snapshot_begin(struct yk_dir_table *t, uint32_t slot, uint32_t member, uint64_t incarnation) {
    struct slot *s = slot < YK_DIR_SLOTS ? slot_need(t, slot) : NULL;
    if (s == NULL)
        return slot < YK_DIR_SLOTS ? -YK_ENOMEM : -YK_EINVAL;
    struct holder *h;
    int rc = holder_need(t, s, member, incarnation, &h);
    if (rc != 0)
        return rc;
    uint16_t fresh;
    if ((rc = source_new(s, member, incarnation, &fresh)) != 0)
        return rc;
    if (h->snap != NO_SOURCE)
        source_merge(t, s, h->snap, h->cur);
    h->snap = fresh;
    return 0;
}

static int snapshot_close(struct yk_dir_table *t, uint32_t slot, uint32_t member, uint64_t incarnation,
                          int whole) {
    struct slot *s = slot < YK_DIR_SLOTS ? t->slot[slot] : NULL;
    struct holder *h = holder_find(s, member);
    if (h == NULL || h->snap == NO_SOURCE)
        return -YK_ENOENT;
    uint64_t known = s->sources[h->cur].incarnation;
    if (incarnation != known)
        return incarnation < known ? -YK_ESTALE : -YK_ENOENT;
    if (whole) {
        source_kill(t, s, h->cur);
        h->cur = h->snap;
    } else {
        source_merge(t, s, h->snap, h->cur);
    }
    h->snap = NO_SOURCE;
    return 0;
}

int yk_dir_table_snapshot_end(struct yk_dir_table *t, uint32_t slot, uint32_t member, uint64_t incarnation) {
    return snapshot_close(t, slot, member, incarnation, 1);
}

int yk_dir_table_snapshot_abort(struct yk_dir_table *t, uint32_t slot, uint32_t member, uint64_t incarnation) {
    return snapshot_close(t, slot, member, incarnation, 0);
}

/* ---- forgetting --------------------------------------------------------------------------------- */

void yk_dir_table_forget(struct yk_dir_table *t, uint32_t slot, uint32_t member, uint64_t below) {
    struct slot *s = slot < YK_DIR_SLOTS ? t->slot[slot] : NULL;
    struct holder *h = holder_find(s, member);
    if (h == NULL || s->sources[h->cur].incarnation >= below)
        return;
    holder_kill(t, s, h);
    s->holder_count--;
    memmove(h, h + 1, (size_t)(&s->holders[s->holder_count] - h) * sizeof(*h));
}

void yk_dir_table_forget_all(struct yk_dir_table *t, uint32_t member, uint64_t below) {
    for (uint32_t slot = 0; slot < YK_DIR_SLOTS; slot++)
        yk_dir_table_forget(t, slot, member, below);
}

void yk_dir_table_drop_slot(struct yk_dir_table *t, uint32_t slot) {
    struct slot *s = slot < YK_DIR_SLOTS ? t->slot[slot] : NULL;
    if (s == NULL)
        return;
    t->slot[slot] = NULL;
    t->dirty -= s->zombies != 0;
    t->entries -= s->entries;
    t->aliases -= s->aliases;
    t->bytes -= s->bytes;
    s->swept = 0;
    s->next = t->dropped;
    t->dropped = s;
}

int yk_dir_table_share(const struct yk_dir_table *t, uint32_t slot, uint32_t member, struct yk_dir_share *ret) {
    const struct slot *s = slot < YK_DIR_SLOTS ? t->slot[slot] : NULL;
    const struct holder *h = holder_find(s, member);
    if (h == NULL)
        return YK_MISS;
    const struct source *cur = &s->sources[h->cur];
    *ret = (struct yk_dir_share){cur->incarnation, cur->copies, cur->aliases, cur->digest};
    if (h->snap != NO_SOURCE) {
        ret->copies += s->sources[h->snap].copies;
        ret->aliases += s->sources[h->snap].aliases;
        ret->digest += s->sources[h->snap].digest;
    }
    return 0;
}

/* ---- the sweep ---------------------------------------------------------------------------------- */

/* One bucket of a slot that was dropped; returns what it cost. */
static uint32_t bury(struct yk_dir_table *t, struct slot *s, uint32_t bucket) {
    uint32_t cost = 1;
    uint32_t *head = yk_chain_bucket(&s->index, bucket);
    while (*head != 0) {
        uint32_t handle = *head;
        struct record *r = record_at(t, handle);
        *head = r->next;
        if (r->space != ALIAS)
            yk_spaces_drop(&t->spaces, r->space);
        yk_slab_free(&t->slab, handle);
        cost++;
    }
    return cost;
}

static uint32_t sweep_dropped(struct yk_dir_table *t, uint32_t steps) {
    uint32_t done = 0;
    while (t->dropped != NULL && done < steps) {
        struct slot *s = t->dropped;
        while (s->swept < s->index.buckets && done < steps)
            done += bury(t, s, s->swept++);
        if (s->swept >= s->index.buckets) {
            t->dropped = s->next;
            slot_free(s);
            done++;
        }
    }
    return done;
}

uint32_t sweep_list(struct yk_dir_table *t, struct slot *s, uint32_t *link) {
    uint32_t cost = 1;
    while (*link != 0) {
        struct record *r = record_at(t, *link);
        if (record_clean(t, s, r) == 0)
            record_free(t, s, link);
        else
            link = &r->next;
        cost++;
    }
    return cost;
}

/* Round and round until no copy names a source that is gone. */
int yk_dir_table_sweep(struct yk_dir_table *t, uint32_t steps) {
    uint32_t done = sweep_dropped(t, steps);
    while (t->dirty > 0 && done < steps) {
        struct slot *s = t->slot[t->sweep_at];
        if (s == NULL || s->zombies == 0) {
            t->sweep_at = (t->sweep_at + 1u) % YK_DIR_SLOTS;
            continue;
        }
        if (s->swept >= s->index.buckets)
            s->swept = 0;
        done += sweep_list(t, s, yk_chain_bucket(&s->index, s->swept++));
    }
    return t->dirty > 0 || t->dropped != NULL;
}

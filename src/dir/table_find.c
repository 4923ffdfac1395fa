/* SPDX-License-Identifier: Apache-2.0
 *
 * What an owner is asked (table.h): one key, many, a walk over a slot.
 *
 * The cache misses of one key depend on each other (slot, bucket, record, perhaps a second record), those of different
 * keys don't. So with many keys a scout runs ahead of the look-ups, as in shm/view.c: each turn it takes one step for
 * each of STEPS keys, every step asking for the line that its next one reads, and then one key is looked up,
 * whose lines have arrived.
 *
 * Threads: pure; reading changes nothing.
 */
#include "dir/table_priv.h"

#include <string.h>

static void tell_copies(const struct slot *s, struct record *r, struct yk_dir_found *ret) {
    const struct copy *c = record_copies(r);
    ret->count = 0;
    for (uint32_t i = 0; i < r->copies && ret->count < YK_DIR_COPIES_MAX; i++) {
        uint32_t live = source_resolve(s, c[i].source);
        if (live == NO_SOURCE)
            continue;
        ret->copy[ret->count++] = (struct yk_dir_copy){.member = s->sources[live].member,
                                                       .tiers = c[i].tiers,
                                                       .incarnation = s->sources[live].incarnation,
                                                       .gen = copy_gen(&c[i])};
    }
}

/* 1: somebody has it. */
static int tell_entry(const struct yk_dir_table *t, const struct slot *s, struct record *r,
                      struct yk_dir_found *ret) {
    tell_copies(s, r, ret);
    if (ret->count == 0)
        return 0;
    ret->status = 0;
    ret->group = r->group;
    ret->epoch = t->spaces.at[r->space]->epoch;
    ret->len = r->len;
    ret->sum = r->sum;
    return 1;
}

static int tell_alias(const struct slot *s, struct record *r, struct yk_dir_found *ret) {
    const uint16_t *sources = alias_sources(r);
    for (uint32_t i = 0; i < r->copies; i++) {
        if (source_resolve(s, sources[i]) == NO_SOURCE)
            continue;
        ret->status = -YK_EAGAIN;
        ret->group = r->group;
        ret->sum = r->sum;
        ret->epoch = r->epoch;
        ret->len = 0;
        ret->count = 0;
        return 1;
    }
    return 0;
}

static const struct slot *slot_asked(const struct yk_dir_table *t, const struct yk_dir_question *q) {
    return t->slot[yk_dir_slot_of(q->group != 0 ? q->group : q->hash)];
}

static void find_in(const struct yk_dir_table *t, const struct slot *s, uint32_t space,
                    const struct yk_dir_question *q, struct yk_dir_found *ret) {
    struct record *alias = NULL;
    ret->status = YK_MISS;
    const uint32_t *head = s != NULL ? yk_chain_head(&s->index, q->hash) : NULL;
    for (uint32_t at = head != NULL ? *head : 0; at != 0;) {
        struct record *r = record_at(t, at);
        at = r->next;
        if (r->hash != q->hash)
            continue;
        if (r->space == ALIAS) {
            if (q->group == 0 && r->epoch == q->epoch && alias == NULL && tell_alias(s, r, ret))
                alias = r;
        } else if (record_is(r, q->hash, space, &q->key) && tell_entry(t, s, r, ret)) {
            return;
        }
    }
    if (alias != NULL)
        tell_alias(s, alias, ret);
    else
        ret->status = YK_MISS;
}

void yk_dir_table_find(const struct yk_dir_table *t, const struct yk_dir_question *q, struct yk_dir_found *ret) {
    uint32_t space = yk_spaces_find(&t->spaces, q->key.ns, q->key.ns_len, q->epoch);
    find_in(t, slot_asked(t, q), space, q, ret);
}

/* ---- many --------------------------------------------------------------------------------------- */

#define STEPS 4u /* of slot, head, record, the next record */
#define APART 8u /* keys between a step and the next, where there are so many */
#define RING  64u

_Static_assert(RING > STEPS * APART && (RING & (RING - 1)) == 0, "a place is free before its reuse");

struct scout {
    const struct slot *slot;
    const uint32_t *head;
    uint32_t at;
};

/* Head and key of a record lie in two lines as a rule. */
static inline void prefetch_record(const struct yk_dir_table *t, uint32_t handle) {
    const char *r = (const char *)record_at(t, handle);
    __builtin_prefetch(r);
    __builtin_prefetch(r + 64);
}

static inline void scout_start(const struct yk_dir_table *t, const struct yk_dir_question *q, struct scout *c) {
    c->slot = slot_asked(t, q);
    c->head = NULL;
    c->at = 0;
    if (c->slot != NULL) {
        __builtin_prefetch(c->slot);
        __builtin_prefetch((const char *)c->slot + 64);
    }
}

static inline void scout_head(const struct yk_dir_question *q, struct scout *c) {
    c->head = c->slot != NULL ? yk_chain_head(&c->slot->index, q->hash) : NULL;
    if (c->head != NULL)
        __builtin_prefetch(c->head);
}

static inline void scout_record(const struct yk_dir_table *t, struct scout *c) {
    c->at = c->head != NULL ? *c->head : 0;
    if (c->at != 0)
        prefetch_record(t, c->at);
}

static inline void scout_next(const struct yk_dir_table *t, const struct yk_dir_question *q, struct scout *c) {
    struct record *r = c->at != 0 ? record_at(t, c->at) : NULL;
    if (r == NULL)
        return;
    if (r->hash != q->hash) {
        if (r->next != 0)
            prefetch_record(t, r->next);
    } else if (r->space != ALIAS) {
        __builtin_prefetch(&c->slot->sources[record_copies(r)->source]);
    }
}

void yk_dir_table_find_many(const struct yk_dir_table *t, const struct yk_dir_question *q, size_t n,
                            struct yk_dir_found *ret) {
    struct scout ring[RING];
    uint32_t space = YK_SPACE_NONE;
    size_t apart = n / STEPS < 1 ? 1 : n / STEPS < APART ? n / STEPS : APART;
    for (size_t turn = 0; turn < n + STEPS * apart; turn++) {
        if (turn < n)
            scout_start(t, &q[turn], &ring[turn % RING]);
        size_t i = turn - apart; /* wraps to a large number at the start */
        if (i < n)
            scout_head(&q[i], &ring[i % RING]);
        i -= apart;
        if (i < n)
            scout_record(t, &ring[i % RING]);
        i -= apart;
        if (i < n)
            scout_next(t, &q[i], &ring[i % RING]);
        i -= apart;
        if (i >= n)
            continue;
        /* Most batches are of one namespace and epoch. */
        const struct yk_dir_key *key = &q[i].key;
        if (!yk_spaces_is(&t->spaces, space, key->ns, key->ns_len, q[i].epoch))
            space = yk_spaces_find(&t->spaces, key->ns, key->ns_len, q[i].epoch);
        find_in(t, ring[i % RING].slot, space, &q[i], &ret[i]);
    }
}

/* ---- a walk ------------------------------------------------------------------------------------- */

static void tell_item(const struct yk_dir_table *t, const struct slot *s, struct record *r,
                      void (*fn)(void *arg, const struct yk_dir_table_item *item), void *arg) {
    struct yk_dir_table_item item = {.hash = r->hash};
    if (r->space == ALIAS) {
        if (tell_alias(s, r, &item.found))
            fn(arg, &item);
        return;
    }
    const struct yk_space *space = t->spaces.at[r->space];
    item.key = (struct yk_dir_key){space->ns, space->ns_len, record_key(r), r->key_len};
    if (tell_entry(t, s, r, &item.found))
        fn(arg, &item);
}

int yk_dir_table_walk(const struct yk_dir_table *t, uint32_t slot, uint64_t *cursor, uint32_t steps,
                      void (*fn)(void *arg, const struct yk_dir_table_item *item), void *arg) {
    const struct slot *s = slot < YK_DIR_SLOTS ? t->slot[slot] : NULL;
    if (s == NULL)
        return 0;
    uint32_t done = 0;
    do {
        if (*cursor >= s->index.buckets)
            return 0;
        uint32_t at = *yk_chain_bucket(&s->index, (uint32_t)(*cursor)++);
        for (done++; at != 0; done++) {
            struct record *r = record_at(t, at);
            at = r->next;
            tell_item(t, s, r, fn, arg);
        }
    } while (done < steps);
    return *cursor < s->index.buckets;
}

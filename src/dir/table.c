/* SPDX-License-Identifier: Apache-2.0
 *
 * What an owner knows: opening, changes of entries and aliases, counts (table.h, table_priv.h).
 *
 * Records are of one slab for all slots; each slot has its own index, so that a slot is walked, counted and dropped
 * by itself. An entry that gets a copy more than its record has room for moves to a larger one.
 *
 * Threads: pure; one caller at a time.
 */
#include "dir/table_priv.h"
#include "dir/digest_priv.h"

#include <stdlib.h>
#include <string.h>

_Static_assert(sizeof(struct record) == 40 && sizeof(struct copy) == 12, "what table.h says");
_Static_assert(sizeof(struct record) + 256 + YK_DIR_TABLE_COPIES * sizeof(struct copy) <= YK_SLAB_RECORD_MAX,
               "the largest record");
_Static_assert(offsetof(struct record, hash) == offsetof(struct yk_chain_link, hash), "chain_priv.h");

int yk_dir_table_open(uint64_t max_bytes, struct yk_dir_table **ret_table) {
    struct yk_dir_table *t = calloc(1, sizeof(*t));
    if (t == NULL)
        return -YK_ENOMEM;
    int rc = yk_slab_init(&t->slab, max_bytes == 0 ? 16ull << 30 : max_bytes);
    if (rc == 0 && (rc = yk_spaces_init(&t->spaces)) != 0)
        yk_slab_fini(&t->slab);
    if (rc != 0) {
        free(t);
        return rc;
    }
    *ret_table = t;
    return 0;
}

void yk_dir_table_close(struct yk_dir_table *t) {
    if (t == NULL)
        return;
    for (uint32_t slot = 0; slot < YK_DIR_SLOTS; slot++)
        yk_dir_table_drop_slot(t, slot);
    /* The records go with the slab. */
    while (t->dropped != NULL) {
        struct slot *s = t->dropped;
        t->dropped = s->next;
        slot_free(s);
    }
    yk_spaces_fini(&t->spaces);
    yk_slab_fini(&t->slab);
    free(t);
}

/* ---- records ------------------------------------------------------------------------------------ */

static uint32_t clean_alias(struct yk_dir_table *t, struct slot *s, struct record *r) {
    uint16_t *sources = alias_sources(r);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < r->copies; i++) {
        uint32_t live = source_resolve(s, sources[i]);
        if (live != sources[i]) {
            if (live != NO_SOURCE)
                source_ref(s, live);
            source_unref(t, s, sources[i]);
        }
        if (live != NO_SOURCE)
            sources[kept++] = (uint16_t)live;
    }
    r->copies = (uint8_t)kept;
    return kept;
}

uint32_t record_clean(struct yk_dir_table *t, struct slot *s, struct record *r) {
    if (r->space == ALIAS)
        return clean_alias(t, s, r);
    struct copy *copies = record_copies(r);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < r->copies; i++) {
        struct copy c = copies[i];
        uint32_t live = source_resolve(s, c.source);
        if (live != c.source) {
            if (live != NO_SOURCE)
                source_ref(s, live);
            source_unref(t, s, c.source);
        }
        c.source = (uint16_t)live;
        if (live != NO_SOURCE)
            copies[kept++] = c;
    }
    r->copies = (uint8_t)kept;
    return kept;
}

void record_free(struct yk_dir_table *t, struct slot *s, uint32_t *link) {
    uint32_t handle = *link;
    struct record *r = record_at(t, handle);
    yk_chain_take(&s->index, &t->slab, 0, link);
    if (r->space == ALIAS) {
        s->aliases--;
        t->aliases--;
    } else {
        s->entries--;
        t->entries--;
        s->bytes -= r->len;
        t->bytes -= r->len;
        yk_spaces_drop(&t->spaces, r->space);
    }
    yk_slab_free(&t->slab, handle);
}

/* The link that names the record, or NULL; *ret_hops: how far it was to the end. */
static uint32_t *entry_link(const struct yk_dir_table *t, const struct slot *s, uint64_t hash, uint32_t space,
                            const struct yk_dir_key *key, uint32_t *ret_hops) {
    uint32_t hops = 0;
    uint32_t *link = yk_chain_head(&s->index, hash);
    for (; link != NULL && *link != 0; hops++) {
        struct record *r = record_at(t, *link);
        if (record_is(r, hash, space, key))
            return link;
        link = &r->next;
    }
    *ret_hops = hops;
    return NULL;
}

static uint32_t *alias_link(const struct yk_dir_table *t, const struct slot *s, uint64_t hash, uint64_t epoch,
                            uint64_t group, uint64_t sum, uint32_t *ret_hops) {
    uint32_t hops = 0;
    uint32_t *link = yk_chain_head(&s->index, hash);
    for (; link != NULL && *link != 0; hops++) {
        struct record *r = record_at(t, *link);
        if (r->space == ALIAS && r->hash == hash && r->epoch == epoch && r->group == group && r->sum == sum)
            return link;
        link = &r->next;
    }
    *ret_hops = hops;
    return NULL;
}

/* Room for one more of `size` bytes at the end of the record that *link names, which may move. NULL: none. */
static struct record *record_grow(struct yk_dir_table *t, uint32_t *link, size_t used, size_t size) {
    struct record *r = record_at(t, *link);
    if (r->copies >= YK_DIR_TABLE_COPIES)
        return NULL;
    if (used + size <= yk_slab_size(&t->slab, *link))
        return r;
    /* A few are most; many become more. */
    uint32_t handle = yk_slab_alloc(&t->slab, used + size * (r->copies < 4 ? 1u : 1u + r->copies / 4u));
    if (handle == 0)
        return NULL;
    struct record *moved = record_at(t, handle);
    memcpy(moved, r, used);
    yk_slab_free(&t->slab, *link);
    *link = handle;
    return moved;
}

/* Where a list is too long for one more, what is gone does not wait for the sweep. */
static uint32_t hops_left(struct yk_dir_table *t, struct slot *s, uint64_t hash, uint32_t hops) {
    if (hops < YK_CHAIN_LONGEST)
        return hops;
    sweep_list(t, s, yk_chain_head(&s->index, hash));
    hops = 0;
    for (uint32_t at = *yk_chain_head(&s->index, hash); at != 0; at = record_at(t, at)->next)
        hops++;
    return hops;
}

static uint16_t source_at(struct record *r, uint32_t i) {
    return r->space == ALIAS ? alias_sources(r)[i] : record_copies(r)[i].source;
}

/* Does somebody else hold other bytes for this hash and epoch, in another group? As the key's own slot knows it. */
static int others_differ(const struct yk_dir_table *t, const struct slot *s, uint32_t member, uint64_t hash,
                         uint64_t epoch, uint64_t group, uint64_t sum) {
    const uint32_t *head = yk_chain_head(&s->index, hash);
    for (uint32_t at = head != NULL ? *head : 0; at != 0;) {
        struct record *r = record_at(t, at);
        at = r->next;
        if (r->hash != hash || r->group == group || r->sum == sum ||
            (r->space == ALIAS ? r->epoch : t->spaces.at[r->space]->epoch) != epoch)
            continue;
        for (uint32_t i = 0; i < r->copies; i++) {
            uint32_t live = source_resolve(s, source_at(r, i));
            if (live != NO_SOURCE && s->sources[live].member != member)
                return 1;
        }
    }
    return 0;
}

/* ---- entries ------------------------------------------------------------------------------------ */

static void copy_uncount(struct slot *s, const struct record *r, const struct copy *c) {
    struct source *src = &s->sources[c->source];
    src->copies--;
    src->digest -= yk_digest_copy(r->hash, copy_gen(c), c->tiers);
}

static void copy_count(struct slot *s, const struct record *r, const struct copy *c) {
    struct source *src = &s->sources[c->source];
    src->copies++;
    src->refs++;
    src->digest += yk_digest_copy(r->hash, copy_gen(c), c->tiers);
}

/* Which of a clean record's copies is the member's; r->copies: none. */
static uint32_t copy_of(const struct slot *s, struct record *r, uint32_t member) {
    const struct copy *copies = record_copies(r);
    uint32_t i = 0;
    while (i < r->copies && s->sources[copies[i].source].member != member)
        i++;
    return i;
}

/* Out of a clean record; the record stays, perhaps empty. */
static void copy_take(struct yk_dir_table *t, struct slot *s, struct record *r, uint32_t i) {
    struct copy *copies = record_copies(r);
    copy_uncount(s, r, &copies[i]);
    source_unref(t, s, copies[i].source);
    r->copies--;
    memmove(&copies[i], &copies[i + 1], (r->copies - i) * sizeof(*copies));
}

static int entry_new(struct yk_dir_table *t, struct slot *s, const struct yk_dir_block *b, uint64_t hash,
                     uint32_t hops, const struct copy *c) {
    uint16_t space;
    if (hops_left(t, s, hash, hops) >= YK_CHAIN_LONGEST)
        return -YK_ELIMIT;
    int rc = yk_spaces_take(&t->spaces, b->key.ns, b->key.ns_len, b->epoch, &space);
    if (rc != 0)
        return rc;
    uint32_t key_len = b->key.key_len;
    uint32_t handle =
        yk_slab_alloc(&t->slab, sizeof(struct record) + ((key_len + 3u) & ~3u) + sizeof(struct copy));
    rc = -YK_ELIMIT;
    if (handle == 0)
        goto err_space;
    struct record *r = record_at(t, handle);
    *r = (struct record){.space = space, .key_len = (uint8_t)key_len, .copies = 1, .hash = hash, .sum = b->sum,
                         .group = b->group, .len = b->len};
    memcpy(record_key(r), b->key.key, key_len);
    if ((rc = yk_chain_add(&s->index, &t->slab, 0, handle)) != 0)
        goto err_record;
    *record_copies(r) = *c;
    copy_count(s, r, c);
    s->entries++;
    t->entries++;
    s->bytes += b->len;
    t->bytes += b->len;
    return 0;
err_record:
    yk_slab_free(&t->slab, handle);
err_space:
    yk_spaces_drop(&t->spaces, space);
    return rc;
}

/* A copy for an entry that is there. */
static int entry_add(struct yk_dir_table *t, struct slot *s, uint32_t *link, const struct yk_dir_block *b,
                     const struct copy *c) {
    struct record *r = record_at(t, *link);
    record_clean(t, s, r);
    uint32_t mine = copy_of(s, r, s->sources[c->source].member);
    int had = mine < r->copies;
    if (had)
        copy_take(t, s, r, mine);
    int rc = 0;
    if (r->copies == 0) {
        s->bytes += b->len - r->len;
        t->bytes += b->len - r->len;
        r->sum = b->sum;
        r->len = b->len;
        r->group = b->group;
    } else if (r->sum != b->sum || r->len != b->len) {
        rc = -YK_ECONFLICT;
    }
    if (rc == 0) {
        size_t used = (size_t)((unsigned char *)&record_copies(r)[r->copies] - (unsigned char *)r);
        struct record *room = record_grow(t, link, used, sizeof(*c));
        if (room != NULL) {
            /* In its old place, so that the first to come stay first. */
            struct copy *copies = record_copies(room);
            uint32_t at = had ? mine : room->copies;
            memmove(&copies[at + 1], &copies[at], (room->copies - at) * sizeof(*copies));
            copies[at] = *c;
            room->copies++;
            copy_count(s, room, c);
        } else {
            rc = -YK_ELIMIT;
        }
    }
    if (record_at(t, *link)->copies == 0)
        record_free(t, s, link);
    return rc;
}

int yk_dir_table_add(struct yk_dir_table *t, uint32_t slot, uint32_t member, uint64_t incarnation,
                     const struct yk_dir_block *b, uint64_t hash) {
    if (slot >= YK_DIR_SLOTS || yk_dir_slot_of(b->group) != slot || b->tiers == 0 || b->key.key_len == 0 ||
        b->key.key_len > 255 || b->key.ns_len > YK_DIR_NS_MAX)
        return -YK_EINVAL;
    struct slot *s = slot_need(t, slot);
    struct holder *h;
    int rc = s != NULL ? holder_need(t, s, member, incarnation, &h) : -YK_ENOMEM;
    if (rc != 0)
        return rc;
    if (yk_dir_slot_of(hash) == slot && others_differ(t, s, member, hash, b->epoch, b->group, b->sum)) {
        (void)yk_dir_table_drop(t, slot, member, incarnation, &b->key, hash, b->epoch);
        return -YK_ECONFLICT;
    }
    struct copy c = {.gen = {(uint32_t)b->gen, (uint32_t)(b->gen >> 32)},
                     .source = h->snap != NO_SOURCE ? h->snap : h->cur,
                     .tiers = b->tiers};
    uint32_t hops = 0;
    uint32_t space = yk_spaces_find(&t->spaces, b->key.ns, b->key.ns_len, b->epoch);
    uint32_t *link = entry_link(t, s, hash, space, &b->key, &hops);
    return link != NULL ? entry_add(t, s, link, b, &c) : entry_new(t, s, b, hash, hops, &c);
}

int yk_dir_table_drop(struct yk_dir_table *t, uint32_t slot, uint32_t member, uint64_t incarnation,
                      const struct yk_dir_key *key, uint64_t hash, uint64_t epoch) {
    struct slot *s = slot < YK_DIR_SLOTS ? slot_need(t, slot) : NULL;
    if (s == NULL)
        return slot < YK_DIR_SLOTS ? -YK_ENOMEM : -YK_EINVAL;
    struct holder *h;
    int rc = holder_need(t, s, member, incarnation, &h);
    if (rc != 0)
        return rc;
    uint32_t hops, space = yk_spaces_find(&t->spaces, key->ns, key->ns_len, epoch);
    uint32_t *link = space != YK_SPACE_NONE ? entry_link(t, s, hash, space, key, &hops) : NULL;
    if (link == NULL)
        return YK_MISS;
    struct record *r = record_at(t, *link);
    record_clean(t, s, r);
    uint32_t mine = copy_of(s, r, member);
    rc = mine < r->copies ? 0 : YK_MISS;
    if (rc == 0)
        copy_take(t, s, r, mine);
    if (r->copies == 0)
        record_free(t, s, link);
    return rc;
}

/* ---- aliases ------------------------------------------------------------------------------------ */

static int alias_new(struct yk_dir_table *t, struct slot *s, uint64_t hash, uint64_t epoch, uint64_t group,
                     uint64_t sum, uint32_t hops, uint32_t **ret_link) {
    int room = hops_left(t, s, hash, hops) < YK_CHAIN_LONGEST;
    uint32_t handle = room ? yk_slab_alloc(&t->slab, ALIAS_BYTES + 4 * sizeof(uint16_t)) : 0;
    if (handle == 0)
        return -YK_ELIMIT;
    struct record *r = record_at(t, handle);
    memset(r, 0, ALIAS_BYTES);
    r->space = ALIAS;
    r->hash = hash;
    r->epoch = epoch;
    r->sum = sum;
    r->group = group;
    int rc = yk_chain_add(&s->index, &t->slab, 0, handle);
    if (rc != 0) {
        yk_slab_free(&t->slab, handle);
        return rc;
    }
    s->aliases++;
    t->aliases++;
    *ret_link = yk_chain_head(&s->index, hash); /* where it was put */
    return 0;
}

/* Which of a clean alias' holders is the member; r->copies: none. */
static uint32_t alias_of(const struct slot *s, struct record *r, uint32_t member) {
    uint32_t i = 0;
    while (i < r->copies && s->sources[alias_sources(r)[i]].member != member)
        i++;
    return i;
}

static void alias_take(struct yk_dir_table *t, struct slot *s, struct record *r, uint32_t i) {
    uint16_t *sources = alias_sources(r);
    struct source *src = &s->sources[sources[i]];
    src->aliases--;
    src->digest -= yk_digest_alias(r->hash, r->epoch, r->group, r->sum);
    source_unref(t, s, sources[i]);
    r->copies--;
    memmove(&sources[i], &sources[i + 1], (r->copies - i) * sizeof(*sources));
}

int yk_dir_table_alias_add(struct yk_dir_table *t, uint32_t slot, uint32_t member, uint64_t incarnation,
                           uint64_t hash, uint64_t epoch, uint64_t group, uint64_t sum) {
    if (slot >= YK_DIR_SLOTS || yk_dir_slot_of(hash) != slot || yk_dir_slot_of(group) == slot)
        return -YK_EINVAL;
    struct slot *s = slot_need(t, slot);
    struct holder *h;
    int rc = s != NULL ? holder_need(t, s, member, incarnation, &h) : -YK_ENOMEM;
    if (rc != 0)
        return rc;
    if (others_differ(t, s, member, hash, epoch, group, sum)) {
        (void)yk_dir_table_alias_drop(t, slot, member, incarnation, hash, epoch, group, sum);
        return -YK_ECONFLICT;
    }
    uint16_t source = h->snap != NO_SOURCE ? h->snap : h->cur;
    uint32_t hops = 0;
    uint32_t *link = alias_link(t, s, hash, epoch, group, sum, &hops);
    if (link == NULL && (rc = alias_new(t, s, hash, epoch, group, sum, hops, &link)) != 0)
        return rc;
    struct record *r = record_at(t, *link);
    record_clean(t, s, r);
    uint32_t mine = alias_of(s, r, member);
    if (mine < r->copies)
        alias_take(t, s, r, mine);
    r = record_grow(t, link, ALIAS_BYTES + r->copies * sizeof(uint16_t), sizeof(uint16_t));
    if (r != NULL) {
        alias_sources(r)[r->copies++] = source;
        s->sources[source].refs++;
        s->sources[source].aliases++;
        s->sources[source].digest += yk_digest_alias(hash, epoch, group, sum);
    } else if (record_at(t, *link)->copies == 0) {
        record_free(t, s, link);
    }
    return r != NULL ? 0 : -YK_ELIMIT;
}

int yk_dir_table_alias_drop(struct yk_dir_table *t, uint32_t slot, uint32_t member, uint64_t incarnation,
                            uint64_t hash, uint64_t epoch, uint64_t group, uint64_t sum) {
    struct slot *s = slot < YK_DIR_SLOTS ? slot_need(t, slot) : NULL;
    if (s == NULL)
        return slot < YK_DIR_SLOTS ? -YK_ENOMEM : -YK_EINVAL;
    struct holder *h;
    int rc = holder_need(t, s, member, incarnation, &h);
    if (rc != 0)
        return rc;
    uint32_t hops;
    uint32_t *link = alias_link(t, s, hash, epoch, group, sum, &hops);
    if (link == NULL)
        return YK_MISS;
    struct record *r = record_at(t, *link);
    record_clean(t, s, r);
    uint32_t mine = alias_of(s, r, member);
    rc = mine < r->copies ? 0 : YK_MISS;
    if (rc == 0)
        alias_take(t, s, r, mine);
    if (r->copies == 0)
        record_free(t, s, link);
    return rc;
}

/* ---- counts ------------------------------------------------------------------------------------- */

void yk_dir_table_load(const struct yk_dir_table *t, uint32_t slot, struct yk_dir_load *ret) {
    const struct slot *s = slot < YK_DIR_SLOTS ? t->slot[slot] : NULL;
    *ret = (struct yk_dir_load){0};
    if (s != NULL)
        *ret = (struct yk_dir_load){s->entries, s->aliases, s->bytes};
}

void yk_dir_table_total(const struct yk_dir_table *t, struct yk_dir_load *ret) {
    *ret = (struct yk_dir_load){t->entries, t->aliases, t->bytes};
}

static uint64_t slot_bytes(const struct slot *s) {
    return sizeof(*s) + yk_chain_bytes(&s->index) + s->source_cap * sizeof(*s->sources) +
           s->holder_cap * sizeof(*s->holders);
}

uint64_t yk_dir_table_memory(const struct yk_dir_table *t) {
    uint64_t bytes = yk_slab_bytes(&t->slab) + sizeof(*t);
    for (uint32_t i = 0; i < YK_DIR_SLOTS; i++)
        bytes += t->slot[i] != NULL ? slot_bytes(t->slot[i]) : 0;
    for (const struct slot *s = t->dropped; s != NULL; s = s->next)
        bytes += slot_bytes(s);
    return bytes;
}

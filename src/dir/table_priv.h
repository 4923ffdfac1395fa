/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside the table of an owner (table.h): records, sources, slots. table.c: changes. table_source.c: who holds
 * what, forgetting, snapshots, sweeping. table_find.c: look-ups.
 *
 * A copy names its *source*, a number of the slot for (member, incarnation). That makes forgetting cheap: a
 * source is declared dead, and every copy that names it is invisible. A snapshot is a second source of its
 * member; whatever it names moves over to it; at its end the first one is dead, if it is aborted the two
 * become one.
 *
 *     LIVE ---- forgotten, newer incarnation, snapshot's end ---> DEAD -- no copy names it any more --> FREE
 *       \---- its snapshot is aborted -------------------------> INTO another ------ likewise --------> FREE
 *
 * LIVE: `copies`, `aliases`, `digest` are those of all copies that resolve to it. DEAD, INTO: they are zero, and
 * the sweep takes the copies out, or has them name the other one. `refs`: how many copies name it, and sources
 * in state INTO that lead to it; it is not used again before that is 0, so INTO always leads to what was meant.
 *
 * Threads: pure; one caller at a time.
 */
#ifndef YK_DIR_TABLE_PRIV_H
#define YK_DIR_TABLE_PRIV_H

#include "dir/chain_priv.h"
#include "dir/space_priv.h"
#include "dir/table.h"

#ifdef __cplusplus
extern "C" {
#endif

#define ALIAS       YK_SPACE_NONE /* a record's space: it is an alias */
#define NO_SOURCE   0xffffu
#define SOURCES_MAX 0xfff0u

/* An entry: this, the key, up to a multiple of 4, copies. An alias: this, and numbers of sources. */
struct record {
    uint32_t next; /* in its index */
    uint16_t space;
    uint8_t key_len, copies;
    uint64_t hash, sum, group;
    union {
        uint64_t len;   /* of an entry's block */
        uint64_t epoch; /* of an alias; an entry's space says it */
    };
};
#define ALIAS_BYTES sizeof(struct record)

struct copy {
    uint32_t gen[2]; /* low, high: a multiple of 4 bytes is less than one of 8 */
    uint16_t source;
    uint8_t tiers, spare;
};

enum source_state { SOURCE_FREE, SOURCE_LIVE, SOURCE_DEAD, SOURCE_INTO };

struct source {
    uint64_t incarnation, digest;
    uint32_t member, refs, copies, aliases;
    uint16_t into; /* INTO: where to; FREE: the next free one */
    uint8_t state;
};

struct holder {
    uint32_t member;
    uint16_t cur, snap; /* sources; snap: NO_SOURCE: no snapshot is open */
};

struct slot {
    struct source *sources; /* first: a look-up needs it and the beginning of the index */
    struct yk_chain index;
    struct holder *holders; /* by member */
    uint32_t source_end, source_cap, holder_count, holder_cap;
    uint32_t zombies; /* sources DEAD or INTO */
    uint32_t swept;   /* bucket that the sweep goes on at */
    uint16_t free_source;
    uint64_t entries, aliases, bytes;
    struct slot *next; /* of dropped ones */
};

struct yk_dir_table {
    struct yk_slab slab;
    struct yk_spaces spaces;
    struct slot *slot[YK_DIR_SLOTS]; /* NULL: nothing was ever said of it */
    struct slot *dropped;
    uint32_t dirty;   /* slots with zombies */
    uint32_t sweep_at;
    uint64_t entries, aliases, bytes;
};

static inline struct record *record_at(const struct yk_dir_table *t, uint32_t handle) {
    return (struct record *)yk_slab_at(&t->slab, handle);
}
static inline unsigned char *record_key(struct record *r) {
    return (unsigned char *)(r + 1);
}
static inline struct copy *record_copies(struct record *r) {
    return (struct copy *)(record_key(r) + ((r->key_len + 3u) & ~3u));
}
static inline uint16_t *alias_sources(struct record *r) {
    return (uint16_t *)((unsigned char *)r + ALIAS_BYTES);
}
static inline uint64_t copy_gen(const struct copy *c) {
    return c->gen[0] | (uint64_t)c->gen[1] << 32;
}
static inline int record_is(const struct record *r, uint64_t hash, uint32_t space, const struct yk_dir_key *key) {
    return r->hash == hash && r->space == space && r->key_len == key->key_len &&
           __builtin_memcmp(record_key((struct record *)r), key->key, key->key_len) == 0;
}

/* The live source that a copy's source stands for; NO_SOURCE: the copy is gone. */
static inline uint32_t source_resolve(const struct slot *s, uint32_t source) {
    while (s->sources[source].state == SOURCE_INTO)
        source = s->sources[source].into;
    return s->sources[source].state == SOURCE_LIVE ? source : NO_SOURCE;
}

/* table_source.c */
struct slot *slot_need(struct yk_dir_table *t, uint32_t slot); /* NULL: no memory */
void slot_free(struct slot *s); /* not its records */
/* The holder; new, or of a higher incarnation than before, as it may be. -YK_ESTALE, -YK_ENOMEM, -YK_ELIMIT. */
int holder_need(struct yk_dir_table *t, struct slot *s, uint32_t member, uint64_t incarnation,
                struct holder **ret_holder);
void source_ref(struct slot *s, uint32_t source);
void source_unref(struct yk_dir_table *t, struct slot *s, uint32_t source);
/* Takes out of the list that *link begins what nobody has any more. Returns what it cost. */
uint32_t sweep_list(struct yk_dir_table *t, struct slot *s, uint32_t *link);

/* table.c */
/* Takes out copies that are gone and has the others name live sources. Returns how many are left. */
uint32_t record_clean(struct yk_dir_table *t, struct slot *s, struct record *r);
/* Takes the record that *link names out of the slot and frees it; its copies are gone already. */
void record_free(struct yk_dir_table *t, struct slot *s, uint32_t *link);

#ifdef __cplusplus
}
#endif

#endif

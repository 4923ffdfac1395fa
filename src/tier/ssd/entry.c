/* SPDX-License-Identifier: Apache-2.0
 *
 * Entries as the tier sees them: which are valid, how they go, namespaces and their tags.
 *
 * An entry carries three bits of tag instead of its epoch. A namespace has one current tag; raising
 * the epoch takes another one that no entry has, so that all older entries are invalid at once and the
 * sweep frees them in its own time. When all seven are in use, which takes seven raises within one
 * sweep, the outdated entries get tag 0 in one pass.
 *
 * Threads: the owner's only.
 */
#include "tier/ssd/ssd_priv.h"

#include "base/hash.h"

#include <string.h>

#include <yolk/status.h>

#define NO_TAG 0xffu

uint64_t yk_ssd_now(const struct yk_ssd *ssd, uint64_t now_ms) {
    return now_ms > ssd->clock_ms ? now_ms : ssd->clock_ms;
}

int yk_ssd_entry_current(const struct yk_ssd *ssd, uint32_t id) {
    const struct yk_ssd_entry *e = &ssd->table.e[id];
    if ((e->flags & (YK_SSD_E_USED | YK_SSD_E_DEAD)) != YK_SSD_E_USED ||
        (e->flags & YK_SSD_E_TAG) != ssd->ns_tag[e->ns])
        return 0;
    return !ssd->broken_any || yk_dev_of(ssd, id)->state != YK_SSD_DEV_GONE;
}

int yk_ssd_entry_live(const struct yk_ssd *ssd, uint32_t id, uint64_t now_ms) {
    if (!yk_ssd_entry_current(ssd, id))
        return 0;
    uint64_t expiry = yk_ssd_table_expiry(&ssd->table, id);
    return expiry == 0 || expiry > yk_ssd_now(ssd, now_ms);
}

/* ---- how they go ------------------------------------------------------------------------------------- */

void yk_ssd_entry_forget(struct yk_ssd *ssd, uint32_t id) {
    yk_seg_count(ssd, id, -1);
    yk_ssd_table_unlink(&ssd->table, id);
}

void yk_ssd_entry_free(struct yk_ssd *ssd, uint32_t id) {
    const struct yk_ssd_entry *e = &ssd->table.e[id];
    ssd->ns_tags[e->ns][e->flags & YK_SSD_E_TAG]--;
    yk_ssd_table_free(&ssd->table, id);
}

void yk_ssd_entry_drop(struct yk_ssd *ssd, uint32_t id) {
    struct yk_ssd_entry *e = ssd->table.e;
    yk_ssd_entry_forget(ssd, id);
    e[id].next = YK_SSD_NONE;
    if (ssd->drops == YK_SSD_NONE)
        ssd->drops = id;
    else
        e[ssd->drops_last].next = id;
    ssd->drops_last = id;
}

void yk_ssd_drops_tell(struct yk_ssd *ssd) {
    while (ssd->drops != YK_SSD_NONE) {
        uint32_t id = ssd->drops;
        ssd->drops = ssd->table.e[id].next;
        if (ssd->o.on_drop != NULL)
            ssd->o.on_drop(ssd->o.arg, id);
        yk_ssd_entry_free(ssd, id);
    }
}

/* The entry that a record of this place is about; YK_SSD_NONE. */
uint32_t yk_ssd_entry_at(const struct yk_ssd *ssd, uint32_t ns, const struct yk_ssd_rec *rec,
                         uint64_t place) {
    struct yk_index_cursor cursor = {0};
    uint64_t hash = yk_hash_key(ns, rec->key, rec->key_len);
    uint32_t id;
    while (yk_ssd_table_next(&ssd->table, ns, hash, rec->key, rec->key_len, &cursor, &id))
        if (yk_ssd_entry_place(&ssd->table.e[id]) == place && ssd->table.e[id].len == rec->len)
            return id;
    return YK_SSD_NONE;
}

/* ---- namespaces ---------------------------------------------------------------------------------------- */

int yk_ssd_ns_number(const struct yk_ssd *ssd, uint64_t uid) {
    for (uint32_t i = 0; i < YK_SSD_NAMESPACES; i++)
        if (ssd->ns[i].uid == uid)
            return ssd->ns[i].removed ? -1 : (int)i;
    return -1;
}

/* All entries of a namespace whose tag is not the current one get tag 0. */
static void retag(struct yk_ssd *ssd, uint32_t ns) {
    for (uint32_t id = 0; id < ssd->table.top; id++) {
        struct yk_ssd_entry *e = &ssd->table.e[id];
        uint8_t tag = e->flags & YK_SSD_E_TAG;
        if (!(e->flags & YK_SSD_E_USED) || e->ns != ns || tag == 0)
            continue;
        if (!(e->flags & YK_SSD_E_DEAD)) {
            ssd->ns_held[ns][tag].bytes -= e->len;
            ssd->ns_held[ns][tag].count--;
            ssd->ns_held[ns][0].bytes += e->len;
            ssd->ns_held[ns][0].count++;
        }
        e->flags &= (uint8_t)~YK_SSD_E_TAG;
        ssd->ns_tags[ns][tag]--;
        ssd->ns_tags[ns][0]++;
    }
}

static void tag_change(struct yk_ssd *ssd, uint32_t ns) {
    uint8_t old = ssd->ns_tag[ns], tag = 1;
    ssd->sweep_left = ssd->table.top;
    while (tag < 8 && (ssd->ns_tags[ns][tag] != 0 || tag == old))
        tag++;
    if (tag == 8) {
        retag(ssd, ns);
        tag = 1;
    }
    ssd->ns_tag[ns] = tag;
}

void yk_ssd_ns_apply(struct yk_ssd *ssd, uint32_t ns, const struct yk_ssd_ns *entry) {
    struct yk_ssd_ns *now = &ssd->ns[ns];
    int other = now->uid != entry->uid || now->epoch != entry->epoch;
    int lives = entry->uid != 0 && !entry->removed;
    *now = *entry;
    if (!lives) {
        ssd->sweep_left = ssd->table.top;
        ssd->ns_tag[ns] = NO_TAG;
    } else if (other || ssd->ns_tag[ns] == NO_TAG) {
        tag_change(ssd, ns);
    }
}

int yk_ssd_ns_busy(const struct yk_ssd *ssd, uint32_t ns) {
    uint64_t n = 0;
    for (uint32_t tag = 0; tag < 8; tag++)
        if (tag != ssd->ns_tag[ns])
            n += ssd->ns_tags[ns][tag];
    return n != 0;
}

/* ---- sweep ------------------------------------------------------------------------------------------------ */

/* What expired by a record of its own (EXPREC) leaves a tombstone: the block's record may say that it never
 * expires, and the other one goes with its segment, since nobody needs it any more. A device that is
 * read-only keeps both. */
static void entry_expire(struct yk_ssd *ssd, uint32_t id) {
    uint8_t flags = ssd->table.e[id].flags;
    if ((flags & YK_SSD_E_EXPREC) && yk_dev_of(ssd, id)->state == YK_SSD_DEV_OK)
        yk_ssd_tomb(ssd, id, 0);
    YK_SSD_ADD(ssd->c.expired, 1);
    if (flags & YK_SSD_E_WRITTEN)
        yk_ssd_entry_drop(ssd, id);
    else
        yk_ssd_entry_forget(ssd, id); /* freed when its put ends */
}

void yk_ssd_entry_make_way(struct yk_ssd *ssd, uint32_t ns, uint64_t hash, const void *key,
                           uint32_t key_len) {
    struct yk_index_cursor cursor = {0};
    uint32_t id;
    while (yk_ssd_table_next(&ssd->table, ns, hash, key, key_len, &cursor, &id)) {
        if (!(ssd->table.e[id].flags & YK_SSD_E_EXPREC) || !yk_ssd_entry_current(ssd, id))
            continue;
        entry_expire(ssd, id);
        cursor = (struct yk_index_cursor){0}; /* the chain has changed */
    }
}

static void sweep_one(struct yk_ssd *ssd, uint32_t id) {
    uint8_t flags = ssd->table.e[id].flags;
    if (!(flags & YK_SSD_E_USED) || (flags & YK_SSD_E_DEAD) || !(flags & YK_SSD_E_WRITTEN) ||
        yk_ssd_entry_live(ssd, id, ssd->now_ms))
        return;
    if (yk_ssd_entry_current(ssd, id)) {
        entry_expire(ssd, id);
        return;
    }
    if ((flags & YK_SSD_E_TAG) != ssd->ns_tag[ssd->table.e[id].ns])
        YK_SSD_ADD(ssd->c.outdated, 1);
    yk_ssd_entry_drop(ssd, id);
}

/* Goes round for ever at a slow pace, for what has expired; at once after something that made many
 * entries invalid. */
int yk_ssd_sweep(struct yk_ssd *ssd, uint32_t steps) {
    for (; steps > 0 && ssd->table.top > 0; steps--) {
        if (ssd->sweep_at >= ssd->table.top)
            ssd->sweep_at = 0;
        sweep_one(ssd, ssd->sweep_at++);
        if (ssd->sweep_left > 0)
            ssd->sweep_left--;
    }
    return ssd->sweep_left > 0;
}

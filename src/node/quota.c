/* SPDX-License-Identifier: Apache-2.0
 *
 * What a namespace has of the pool, and how it is kept within its quota.
 *
 * DRAM and SSD are one pool, and so is what is counted: the bytes of the namespace's blocks in both tiers, each
 * block once. That is the DRAM's share and the SSD's, less the blocks that stand in both (`both`). A block on
 * its way down is in neither for as long as its write was not begun.
 *
 * Over its quota a namespace loses what it has on SSD alone, the least recently used first, and when nothing of
 * that is left, blocks of DRAM in its policy's order: those go for good, with their copy, since going down
 * would free nothing. The order of use on SSD is one for all namespaces; it is walked from the old end, in
 * steps, and goes on where it stopped. Rejected: a list for each namespace (8 bytes more a block); evicting only
 * what a put needs of DRAM, which let a namespace have as much of SSD as it liked.
 *
 * Threads: the owner's.
 */
#include "node/ssd_priv.h"

#define WALK_STEPS 512u /* entries a call, some 50 us */

uint64_t yk_store_used(const struct yk_store *s, uint32_t ns, uint64_t *ret_blocks) {
    const struct share *sh = &s->shares[ns];
    uint64_t bytes = sh->bytes, blocks = sh->blocks, low_blocks = 0;
    if (s->low != NULL) {
        bytes += yk_ssd_ns_bytes(s->low->ssd, ns, &low_blocks);
        blocks += low_blocks;
        bytes = bytes > sh->both ? bytes - sh->both : 0;
        blocks = blocks > sh->both_blocks ? blocks - sh->both_blocks : 0;
    }
    if (ret_blocks != NULL)
        *ret_blocks = blocks;
    return bytes;
}

void yk_store_both(struct yk_store *s, const struct yk_desc *d, int sign) {
    struct share *sh = &s->shares[d->ns];
    if (sign > 0) {
        sh->both += d->len;
        sh->both_blocks++;
        return;
    }
    sh->both -= d->len < sh->both ? d->len : sh->both;
    sh->both_blocks -= sh->both_blocks > 0;
}

void yk_store_copy_set(struct yk_store *s, uint32_t idx, uint32_t link) {
    struct yk_desc *d = desc_at(s, idx);
    struct yk_rest *rest = rest_at(s, idx);
    int had = LOAD(&rest->ssd) != 0, counts = !(*mark_of(s, idx) & MARK_LEAVING);
    STORE(&rest->ssd, link);
    if (counts && d->ns < YK_SHM_NAMESPACES && had != (link != 0))
        yk_store_both(s, d, had ? -1 : 1);
    if (had != (link != 0) && yk_store_tells(s) && desc_live(d))
        yk_store_tell(s, idx);
}

/* What stands on SSD alone, is this namespace's, and may go. */
static int low_may_go(struct yk_store *s, uint32_t ns, uint32_t id) {
    struct yk_ssd_info info;
    uint32_t len, idx;
    yk_ssd_info_get(s->low->ssd, id, &info);
    if (info.ns != ns || !info.written)
        return 0;
    const void *key = yk_ssd_key(s->low->ssd, id, &len);
    return key == NULL || yk_store_find(s, ns, s->own.ns[ns].epoch, key, len, &idx) != 0;
}

int yk_store_quota_low(struct yk_store *s, uint32_t ns) {
    struct ssd_side *l = s->low;
    if (l == NULL || yk_ssd_ns_bytes(l->ssd, ns, NULL) <= s->shares[ns].both)
        return YK_MISS;
    struct quota_walk *w = &l->quota[ns];
    for (uint32_t n = 0; n < WALK_STEPS; n++) {
        uint32_t id = w->next;
        if (id == YK_SSD_NONE || !yk_ssd_live(l->ssd, id)) {
            int none = !w->found;
            w->found = (uint8_t)none;
            id = yk_ssd_younger(l->ssd, YK_SSD_NONE);
            if (none || id == YK_SSD_NONE)
                return YK_MISS;
        }
        w->next = yk_ssd_younger(l->ssd, id);
        if (!low_may_go(s, ns, id) || yk_ssd_evict(l->ssd, id) < 0)
            continue; /* the last: on a device that records nothing any more */
        w->found = 1;
        COUNT(s, evict_quota);
        return 0;
    }
    return -YK_EAGAIN;
}

void yk_store_quota_drop_copy(struct yk_store *s, uint32_t idx) {
    const struct yk_desc *d = desc_at(s, idx);
    struct yk_key_room room;
    const void *key = yk_owner_key(&s->own, idx, &room);
    uint32_t id;
    if (s->low == NULL || key == NULL ||
        yk_store_ssd_find(s, d->ns, d->hash, key, d->key_len, &id) != 0)
        return;
    if (yk_ssd_evict(s->low->ssd, id) == -YK_EAGAIN) /* its write is under way, and for nothing */
        yk_ssd_remove(s->low->ssd, id, yk_owner_gen(&s->own));
}

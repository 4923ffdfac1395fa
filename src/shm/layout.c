/* SPDX-License-Identifier: Apache-2.0
 *
 * Region sizes and stored checksums of a segment (src/shm/layout.h).
 */
#include "shm/layout.h"

#include "base/hash.h"
#include "shm/index.h"

#include <stddef.h>
#include <string.h>

#include <yolk/status.h>

static uint64_t page_up(uint64_t n) {
    return (n + YK_SHM_PAGE - 1) & ~(uint64_t)(YK_SHM_PAGE - 1);
}

/* Places a region of n bytes at *off and moves *off past it, leaving one page untouched between
 * regions so that an overrun faults in a hole rather than in a neighbour's data. */
static uint64_t place(uint64_t *off, uint64_t n) {
    uint64_t at = *off;
    *off = page_up(at + n) + YK_SHM_PAGE;
    return at;
}

int yk_shm_layout_make(uint64_t data_bytes, uint32_t max_blocks, uint32_t max_clients,
                       uint64_t extents_bytes, struct yk_shm_layout *ret_layout) {
    if (data_bytes == 0 || data_bytes > (1ull << 56) || max_blocks == 0 ||
        max_blocks > (1u << 30) || max_clients == 0 || max_clients > 65536u ||
        extents_bytes > (1ull << 40))
        return -YK_EINVAL;
    struct yk_shm_layout l;
    memset(&l, 0, sizeof(l));
    l.data_bytes = data_bytes;
    l.extents_bytes = extents_bytes;
    l.max_blocks = max_blocks;
    l.max_clients = max_clients;
    l.max_namespaces = YK_SHM_NAMESPACES;
    yk_index_size(max_blocks, &l.max_buckets, &l.max_overflow);
    /* 128 bytes of key a block, sparse: cells are not merged before a restart, so the region must
     * hold the keys of two populations of different lengths. Never less than 1,024 longest keys. */
    l.max_key_granules = max_blocks > (1u << 28) ? 1u << 31 : max_blocks * 8u;
    if (l.max_key_granules < 16384u)
        l.max_key_granules = 16384u;
    uint64_t off = page_up(sizeof(struct yk_shm_hdr));
    l.off_ns = place(&off, (uint64_t)l.max_namespaces * sizeof(struct yk_ns_entry));
    l.off_owners = place(&off, (uint64_t)max_clients * sizeof(struct yk_client_owner));
    l.off_extents = place(&off, extents_bytes);
    l.off_desc = place(&off, (uint64_t)max_blocks * sizeof(struct yk_desc));
    l.off_rest = place(&off, (uint64_t)max_blocks * sizeof(struct yk_rest));
    l.off_keys = place(&off, (uint64_t)l.max_key_granules * YK_SHM_KEY_GRANULE);
    l.index_bytes = yk_index_bytes(l.max_buckets, l.max_overflow);
    l.off_index[0] = place(&off, l.index_bytes);
    l.off_index[1] = place(&off, l.index_bytes);
    l.meta_bytes = off;
    l.clients_bytes = (uint64_t)max_clients * sizeof(struct yk_client_page);
    *ret_layout = l;
    return 0;
}

uint64_t yk_shm_layout_sum(const struct yk_shm_layout *layout) {
    return yk_hash64(layout, sizeof(*layout));
}

uint32_t yk_desc_place_sum(const struct yk_rest *rest, uint32_t idx) {
    uint64_t v[4] = {rest->offset, rest->cap, rest->owner, idx};
    return (uint32_t)yk_hash64(v, sizeof(v));
}

uint32_t yk_desc_ident_sum(const struct yk_desc *desc, const struct yk_rest *rest,
                           const void *key) {
    struct {
        uint64_t v[6];
        uint32_t w[10];
        unsigned char key[256];
    } in;
    memset(&in.v, 0, sizeof(in.v) + sizeof(in.w));
    in.v[0] = desc->hash;
    in.v[1] = rest->sum;
    in.v[2] = desc->epoch;
    in.v[3] = rest->session;
    in.v[4] = (uint64_t)desc->len << 32 | desc->key_cell;
    in.v[5] = (uint64_t)desc->ns << 32 | (uint32_t)desc->key_len << 8 | desc->kind;
    in.w[0] = rest->depth_tokens;
    in.w[1] = rest->length_tokens;
    in.w[2] = rest->parent;
    in.w[3] = rest->parent_birth;
    in.w[4] = rest->birth;
    in.w[5] = rest->model;
    memcpy(in.key, key, desc->key_len);
    return (uint32_t)yk_hash64(&in, offsetof(__typeof__(in), key) + desc->key_len);
}

uint64_t yk_ns_entry_sum(const struct yk_ns_entry *entry) {
    return yk_hash64(entry, offsetof(struct yk_ns_entry, epoch));
}

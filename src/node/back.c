/* SPDX-License-Identifier: Apache-2.0
 *
 * Pages of the segment are had before they are used.
 *
 * The files are sparse and their file system (or the machine) may be full when a page is first written
 * to: that is SIGBUS, and the tier is lost (R6). So the owner has the pages allocated (fallocate) before
 * it grants a place, moves a block to one, or lets the table grow; a failure there is -YK_ENOSPC like
 * any other, and the put waits, or others' blocks make room.
 *
 *   payload  a bitmap says of which chunks the pages were had once; they stay. A place whose pages are
 *            not to be had is put aside as if it were allocated, with the free runs beside it, so that
 *            the allocator goes on with memory that is there; a tick tries again every RETRY_MS. So
 *            in slow memory, too.
 *   tables   descriptors, keys and index may grow up to a limit of pages that were had; it is raised
 *            MARGIN ahead of need. At the limit they are full, as at the end of their region.
 *
 * Where pages are there the cost is a look into the bitmap, or at some integers. Rejected: having all at
 * the start (8 GiB took up to 19 s); a look at the room that is left (somebody else may take it between).
 * A file system without fallocate is used without this protection.
 *
 * Threads: the owner's; yk_store_backed from the populating helper, too.
 */
#include "node/store_priv.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#define CHUNK_SHIFT 18u /* 256 KiB: some 50 us of the owner's time */
#define CHUNK       (1ull << CHUNK_SHIFT)
#define MARGIN      (128ull << 10) /* of each table, ahead of need; a commit takes 240 bytes of one */
#define STEP        (512ull << 10) /* by which they grow */
#define INDEX_FIRST 4096u          /* buckets beyond those of the blocks that are there */
#define RETRY_MS    1000u
#define PROBE       (16ull << 20)

static int pages(int fd, uint64_t offset, uint64_t len) {
    int rc;
    do
        rc = fallocate(fd, 0, (off_t)offset, (off_t)len);
    while (rc < 0 && errno == EINTR);
    return rc == 0 || errno == EOPNOTSUPP || errno == ENOSYS ? 0 : -YK_ENOSPC;
}

/* ---- tables ---------------------------------------------------------------------------------- */

/* A table of the meta file: `limit` of its `count` items of `unit` bytes may be used, `used` are. */
static void grow(struct yk_store *s, uint64_t region, uint64_t unit, uint32_t count, uint32_t used,
                 uint32_t *limit) {
    if (*limit >= count || used * unit + MARGIN <= *limit * unit)
        return;
    uint64_t most = (used * unit + STEP) / unit, from = *limit * unit;
    most = most < count ? most : count;
    if (pages(s->seg.fd_meta, region + from, most * unit - from) == 0)
        *limit = (uint32_t)most;
}

void yk_store_back_tables(struct yk_store *s) {
    const struct yk_shm_layout *l = &s->own.layout;
    uint32_t *line = &s->desc_backed, *rest = &s->rest_backed;
    grow(s, l->off_desc, sizeof(struct yk_desc), l->max_blocks, s->own.hdr->desc_top, line);
    grow(s, l->off_rest, sizeof(struct yk_rest), l->max_blocks, s->own.hdr->desc_top, rest);
    s->own.desc_limit = *line < *rest ? *line : *rest;
    grow(s, l->off_keys, YK_SHM_KEY_GRANULE, l->max_key_granules, s->own.hdr->key_top,
         &s->own.key_limit);
    struct yk_index *x = &s->index;
    if (x->hdr == NULL) /* not yet */
        return;
    uint64_t unit = sizeof(struct yk_bucket);
    uint64_t buckets = (uint64_t)((char *)x->buckets - (char *)s->seg.meta);
    grow(s, buckets, unit, x->max_buckets, (1u << x->level) + x->split, &x->split_limit);
    grow(s, buckets + x->max_buckets * unit, unit, x->max_overflow, x->overflow_top,
         &x->overflow_limit);
}

int yk_store_back_index(struct yk_store *s, unsigned area, uint32_t blocks) {
    const struct yk_shm_layout *l = &s->own.layout;
    struct yk_index *x = &s->index;
    uint64_t unit = sizeof(struct yk_bucket), at = l->off_index[area & 1u];
    uint64_t buckets = (uint64_t)blocks / YK_INDEX_FILL + INDEX_FIRST, overflow = buckets / 4u;
    buckets = buckets < l->max_buckets ? buckets : l->max_buckets;
    overflow = overflow < l->max_overflow ? overflow : l->max_overflow;
    uint64_t second = at + sizeof(*x->hdr) + l->max_buckets * unit;
    if (pages(s->seg.fd_meta, at, sizeof(*x->hdr) + buckets * unit) < 0 ||
        pages(s->seg.fd_meta, second, overflow * unit) < 0)
        return -YK_ENOSPC;
    yk_index_init(x, s->seg.meta, l, area);
    x->split_limit = (uint32_t)buckets;
    x->overflow_limit = (uint32_t)overflow;
    return 0;
}

int yk_store_back_client(struct yk_store *s, uint32_t slot) {
    uint64_t n = sizeof(struct yk_client_page);
    return pages(s->seg.fd_clients, slot * n, n);
}

int yk_store_back_open(struct yk_store *s) {
    const struct yk_shm_layout *l = &s->own.layout;
    uint32_t desc_top = s->own.hdr->desc_top, key_top = s->own.hdr->key_top;
    desc_top = desc_top < l->max_blocks ? desc_top : l->max_blocks;
    key_top = key_top < l->max_key_granules ? key_top : l->max_key_granules;
    s->backed = calloc((l->data_bytes >> CHUNK_SHIFT) / 64u + 1u, sizeof(uint64_t));
    if (s->backed == NULL)
        return -YK_ENOMEM;
    /* Header, namespaces, owners, extents; then what the tables have in use. */
    int rc = pages(s->seg.fd_meta, 0, l->off_desc);
    if (rc == 0 && desc_top > 0)
        rc = pages(s->seg.fd_meta, l->off_desc, (uint64_t)desc_top * sizeof(struct yk_desc));
    if (rc == 0 && desc_top > 0)
        rc = pages(s->seg.fd_meta, l->off_rest, (uint64_t)desc_top * sizeof(struct yk_rest));
    if (rc == 0 && key_top > 0)
        rc = pages(s->seg.fd_meta, l->off_keys, (uint64_t)key_top * YK_SHM_KEY_GRANULE);
    if (rc == 0)
        rc = yk_store_back_client(s, 0);
    s->desc_backed = s->rest_backed = desc_top;
    s->own.key_limit = key_top;
    yk_store_back_tables(s);
    return rc;
}

void yk_store_back_close(struct yk_store *s) {
    free(s->backed);
}

/* ---- payload ---------------------------------------------------------------------------------- */

static int is_backed(const struct yk_store *s, uint64_t chunk) {
    return (int)(LOAD(&s->backed[chunk / 64u]) >> (chunk % 64u) & 1u);
}

/* Chunks that are in it in full. Relaxed: a bit that comes late costs a system call. */
void yk_store_backed(struct yk_store *s, uint64_t offset, uint64_t len) {
    uint64_t end = offset + len, data = s->own.layout.data_bytes;
    for (uint64_t c = (offset + CHUNK - 1) >> CHUNK_SHIFT;
         c << CHUNK_SHIFT < end && ((c + 1) << CHUNK_SHIFT <= end || end == data); c++)
        __atomic_fetch_or(&s->backed[c / 64u], 1ull << (c % 64u), __ATOMIC_RELAXED);
}

int yk_store_back(struct yk_store *s, uint64_t offset, uint64_t len) {
    uint64_t data = s->own.layout.data_bytes;
    uint64_t first = offset >> CHUNK_SHIFT, last = (offset + len - 1) >> CHUNK_SHIFT;
    while (first <= last && is_backed(s, first))
        first++;
    if (first > last)
        return 0;
    while (is_backed(s, last))
        last--;
    uint64_t from = first << CHUNK_SHIFT, to = (last + 1) << CHUNK_SHIFT;
    to = to < data ? to : data;
    s->turn_backed += to - from;
    if (pages(s->seg.fd_data, from, to - from) == 0) {
        yk_store_backed(s, from, to - from);
        return 0;
    }
    return pages(s->seg.fd_data, offset, len); /* not the chunks, but what is needed of them */
}

static int aside(struct yk_store *s, uint64_t offset, uint64_t len) {
    if (s->aside_count == ASIDE_MAX)
        return -YK_ENOSPC;
    s->aside[s->aside_count++] = (struct aside){offset, len};
    COUNT_ADD(s, unbacked_bytes, len);
    return 0;
}

static int all_backed(const struct yk_store *s, uint64_t offset, uint64_t len) {
    for (uint64_t c = offset >> CHUNK_SHIFT; c <= (offset + len - 1) >> CHUNK_SHIFT; c++)
        if (!is_backed(s, c))
            return 0;
    return 1;
}

/* Free runs of a range that are not all there: one after the other, the longest first. */
static void runs_aside(struct yk_store *s, struct yk_alloc *alloc, uint64_t base) {
    struct yk_alloc_stats st;
    uint64_t offset;
    for (;;) {
        yk_alloc_stats(alloc, &st);
        uint64_t n =
            st.largest_free_bytes < YK_ALLOC_LEN_MAX ? st.largest_free_bytes : YK_ALLOC_LEN_MAX;
        if (n < CHUNK || yk_alloc_get(alloc, n, &offset) < 0)
            return;
        if (!all_backed(s, base + offset, n) && aside(s, base + offset, n) == 0)
            continue;
        yk_alloc_put(alloc, offset, n);
        return;
    }
}

int yk_store_range_get(struct yk_store *s, struct yk_alloc *alloc, uint64_t base, uint64_t len,
                       uint64_t *ret_offset) {
    uint8_t range = base == 0 ? 1u : 2u;
    for (;;) {
        uint64_t at;
        int rc = yk_alloc_get(alloc, len, &at);
        if (rc < 0)
            return rc;
        *ret_offset = base + at;
        if (yk_store_back(s, base + at, len) == 0)
            return 0;
        if (aside(s, base + at, len) < 0) {
            yk_alloc_put(alloc, at, len);
            return -YK_ENOSPC;
        }
        if (s->aside_count == 1)
            s->aside_retry_ms = yk_boot_ms() + RETRY_MS;
        if ((s->aside_ranges & range) == 0)
            runs_aside(s, alloc, base);
        s->aside_ranges |= range;
    }
}

int yk_store_alloc_get(struct yk_store *s, uint64_t len, uint64_t *ret_offset) {
    return yk_store_range_get(s, s->alloc, 0, len, ret_offset);
}

void yk_store_back_tick(struct yk_store *s, uint64_t boot_ms) {
    if (s->aside_count == 0 || boot_ms < s->aside_retry_ms)
        return;
    s->aside_retry_ms = boot_ms + RETRY_MS;
    const struct aside *last = &s->aside[s->aside_count - 1u];
    if (yk_store_back(s, last->offset, last->len < PROBE ? last->len : PROBE) < 0)
        return;
    while (s->aside_count > 0) {
        const struct aside *a = &s->aside[--s->aside_count];
        yk_store_place_put(s, a->offset, a->len);
        COUNT_SUB(s, unbacked_bytes, a->len);
    }
    s->aside_ranges = 0;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Fuzz target: the shared index and what it points to.
 *
 * The input has two parts, split by its first byte. The first drives insert, remove and replace
 * against a shadow table, with hashes that meet often: what was accepted must be found exactly once
 * until it is removed. The second is written over header, index, descriptors and keys, each piece
 * where it says, as a scribbler would do it to a live segment; then readers look things up and the
 * owner goes on working. They must end and stay inside the mapping, and what they find or hand out
 * must lie in its region. Thread: one.
 */
#include "shm/index.h"
#include "shm/owner.h"
#include "shm/view.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <yolk/status.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define BLOCKS 600u /* enough for splits, and for chains to run out of overflow buckets */
#define DATA   4096u
#define EPOCH  3u

static struct yk_shm_layout layout;
static unsigned char *meta;
static struct yk_client_page *page;
static struct yk_owner owner;
static struct yk_index index_;
static struct yk_view view;
static unsigned char present[BLOCKS];
/* Inserts that one input may make: long chains are slow, and more of the same finds nothing new. */
static unsigned inserts_left;

static void check(int good) {
    if (!good)
        abort();
}

static void set_up(void) {
    if (meta == NULL) {
        check(yk_shm_layout_make(DATA, BLOCKS, 1, 64, &layout) == 0);
        /* Two pages that cannot be touched around it: see tests/unit/shm/rig.c. */
        unsigned char *p = mmap(NULL, layout.meta_bytes + 2 * YK_SHM_PAGE, PROT_NONE,
                                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        check(p != MAP_FAILED);
        meta = p + YK_SHM_PAGE;
        check(mprotect(meta, layout.meta_bytes, PROT_READ | PROT_WRITE) == 0);
        page = calloc(1, sizeof(*page));
        check(page != NULL);
    } else {
        yk_owner_fini(&owner);
        check(madvise(meta, layout.meta_bytes, MADV_DONTNEED) == 0);
    }
    struct yk_shm_hdr *h = (struct yk_shm_hdr *)(void *)meta;
    h->magic = YK_SHM_MAGIC;
    h->version = YK_SHM_VERSION;
    h->layout = layout;
    h->layout_sum = yk_shm_layout_sum(&layout);
    check(yk_owner_init(&owner, meta, page, &layout) == 0);
    check(yk_view_init(&view, meta, layout.meta_bytes, NULL, 0) == 0);
    yk_index_init(&index_, meta, &layout, 0);
    owner.ns[0].epoch = EPOCH;
    memset(present, 0, sizeof(present));
    inserts_left = 800;
}

static unsigned times_found(uint32_t idx) {
    struct yk_index_cursor cursor = {NULL, 0, 0};
    unsigned n = 0;
    uint32_t at;
    while (yk_index_next(&index_, owner.desc[idx].hash, &cursor, &at))
        n += at == idx;
    return n;
}

/* Sixteen tags; low bits that vary in few places, so that chains are long. */
static uint64_t hash_of(uint8_t a, uint8_t b) {
    return (uint64_t)(a >> 4) << 32 | (uint64_t)(a & 7u) << 3 | (b & 7u) | (b & 0x80u ? 0x40u : 0);
}

static void insert(uint32_t idx, uint64_t hash) {
    if (inserts_left == 0)
        return;
    inserts_left--;
    owner.desc[idx].hash = hash;
    int rc = yk_index_insert(&index_, hash, idx);
    check(rc == 0 || rc == -YK_ELIMIT);
    present[idx] = rc == 0;
}

static void operation(const uint8_t *op) {
    uint32_t idx = (op[0] | (op[1] & 3u) << 8) % BLOCKS;
    uint32_t other = (idx + op[2] + 1u) % BLOCKS;
    uint64_t hash = owner.desc[idx].hash;
    if (op[1] & 0x80u) { /* many at once: inputs are short */
        for (uint32_t i = 0; i < op[2]; i++)
            if (!present[(idx + i) % BLOCKS])
                insert((idx + i) % BLOCKS, hash_of(op[3], (uint8_t)(op[1] + i * (op[1] & 4u))));
    } else if (!present[idx]) {
        insert(idx, hash_of(op[2], op[3]));
    } else if ((op[1] & 0x40u) && !present[other]) {
        owner.desc[other].hash = hash;
        check(yk_index_replace(&index_, hash, idx, other) == 0);
        present[idx] = 0;
        present[other] = 1;
    } else {
        check(yk_index_remove(&index_, hash, idx) == 0);
        present[idx] = 0;
    }
    check(times_found(idx) == present[idx] && times_found(other) == present[other]);
}

static void drive(const uint8_t *data, size_t size) {
    uint32_t count = 0;
    for (size_t i = 0; i + 4 <= size && i < 2000; i += 4)
        operation(data + i);
    for (uint32_t i = 0; i < BLOCKS; i++) {
        count += present[i];
        if (i % 5 == size % 5) /* the others in inputs of other lengths: walks are long */
            check(times_found(i) == present[i]);
    }
    check(index_.count == count);
}

/* Pieces: region, place (2 bytes), length, bytes. */
static void scribble(const uint8_t *data, size_t size) {
    const uint64_t at[5][2] = {
        {sizeof(struct yk_shm_hdr) - 192, 192},
        {layout.off_index[0], layout.index_bytes},
        {layout.off_desc, (uint64_t)BLOCKS * sizeof(struct yk_desc)},
        {layout.off_keys, 8192},
        {layout.off_rest, (uint64_t)BLOCKS * sizeof(struct yk_rest)},
    };
    while (size > 4) {
        const uint64_t *r = at[data[0] % 5u];
        uint64_t off = (data[1] | (uint64_t)data[2] << 8) * 8 % r[1];
        size_t len = data[3] < size - 4 ? data[3] : size - 4;
        if (len > r[1] - off)
            len = (size_t)(r[1] - off);
        memcpy(meta + r[0] + off, data + 4, len);
        data += 4 + len;
        size -= 4 + len;
    }
}

static void found_is_inside(const struct yk_found *f) {
    check(f->idx < BLOCKS && f->rest.offset <= DATA && f->desc.len <= DATA - f->rest.offset);
}

static void look(uint32_t idx) {
    static struct yk_found found[4];
    struct yk_key_room room[4];
    struct yk_query q[4];
    int unsure;
    for (unsigned i = 0; i < 4; i++) {
        const struct yk_desc *d = &owner.desc[(idx + i) % BLOCKS];
        const void *key = yk_owner_key(&owner, (idx + i) % BLOCKS, &room[i]);
        q[i] = (struct yk_query){.hash = d->hash, .epoch = EPOCH, .key = "k", .key_len = 1};
        if (key != NULL) {
            q[i].key = key;
            q[i].key_len = d->key_len;
        }
    }
    if (yk_view_find(&view, &q[0], 0, &found[0]) == 0)
        found_is_inside(&found[0]);
    if (yk_view_pin(&view, &q[1], 0, &page->hazard[0], &found[1]) == 0)
        found_is_inside(&found[1]);
    else
        check(page->hazard[0] == 0);
    yk_hazard_clear(&page->hazard[0]);
    size_t n = yk_view_match(&view, q, 4, 0, found, &unsure);
    for (size_t i = 0; i < n; i++)
        found_is_inside(&found[i]);
}

static void own(uint32_t seed) {
    static uint64_t used[16384 / 64 + 1];
    unsigned char key[255] = {1};
    for (uint32_t i = 0; i < 16; i++) {
        uint32_t idx = yk_owner_desc_take(&owner), len = 1 + (seed + i * 37u) % 255u;
        check(idx == YK_SHM_NONE || idx < BLOCKS);
        uint32_t cell = yk_owner_cell_take(&owner, key, len);
        check(cell == YK_SHM_NONE || yk_owner_cell(&owner, cell, len) != NULL);
        if (idx != YK_SHM_NONE) {
            yk_owner_desc_sane(&owner, idx, 1);
            owner.desc[idx].word = YK_WORD(yk_owner_gen(&owner), YK_DESC_RESERVED);
            if (i % 3 == 0)
                yk_owner_desc_give(&owner, idx);
        }
        yk_index_insert(&index_, owner.desc[(seed + i) % BLOCKS].hash, (seed + i) % BLOCKS);
        yk_index_remove(&index_, owner.desc[(seed ^ i) % BLOCKS].hash, (seed ^ i) % BLOCKS);
    }
    check(layout.max_key_granules <= 16384);
    yk_owner_keys_rebuild(&owner, used);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2)
        return 0;
    size_t first = (size - 1) * data[0] / 255;
    set_up();
    drive(data + 1, first);
    scribble(data + 1 + first, size - 1 - first);
    for (uint32_t i = 0; i < 5; i++)
        look(data[size - 1] * 7u + i * 31u);
    own(data[size - 1]);
    look(data[size - 1]);
    return 0;
}

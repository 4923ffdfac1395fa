/* SPDX-License-Identifier: Apache-2.0
 *
 * Fuzz target: bodies of the frames between nodes (src/wire/dir.h). The first byte says which.
 *
 * What was read without an error is written again and must give the same bytes. Thread: one.
 */
#include "wire/dir.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* FIND's and HAVE's requests. */
static void keys(struct yk_rd *r, struct yk_wr *w, int groups) {
    struct yk_dirw_keys k;
    yk_rd_dir_keys(r, &k);
    yk_wr_dir_keys(w, &k);
    for (uint32_t i = 0; i < k.n && !r->bad; i++) {
        struct yk_dirw_str key;
        if (groups)
            yk_wr_u64(w, yk_rd_u64(r));
        yk_rd_dir_key(r, &key);
        yk_wr_str8(w, key.data, key.len);
    }
}

static void one(struct yk_rd *r, struct yk_wr *w, unsigned which) {
    struct yk_dirw_found found;
    struct yk_dirw_have have;
    struct yk_dirw_one request;
    struct yk_dirw_place place;
    struct yk_dirw_take take;
    struct yk_dirw_task task;
    struct yk_dirw_give give;
    switch (which) {
    case 0:
    case 1:
        keys(r, w, which == 0);
        break;
    case 2:
        yk_rd_dir_found(r, &found);
        yk_wr_dir_found(w, &found);
        break;
    case 3:
        yk_rd_dir_have(r, &have);
        yk_wr_dir_have(w, &have);
        break;
    case 4:
        yk_rd_dir_locate(r, &request);
        yk_wr_dir_locate(w, &request);
        break;
    case 5:
        yk_rd_dir_place(r, &place);
        yk_wr_dir_place(w, &place);
        break;
    case 7:
        yk_rd_dir_take(r, &take);
        yk_wr_dir_take(w, &take);
        break;
    case 8:
        yk_rd_dir_task(r, &task);
        yk_wr_dir_task(w, &task);
        break;
    case 9:
        yk_rd_dir_give(r, &give);
        yk_wr_dir_give(w, &give);
        break;
    default:
        yk_rd_dir_remove(r, &request);
        yk_wr_dir_remove(w, &request);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct yk_rd r;
    struct yk_wr w;
    unsigned char *copy = malloc(size > 0 ? size : 1);
    if (copy == NULL || size == 0) {
        free(copy);
        return 0;
    }
    yk_rd_init(&r, data + 1, size - 1);
    yk_wr_init(&w, copy, size);
    one(&r, &w, data[0] % 10u);
    if (yk_rd_ok(&r) && (!yk_wr_ok(&w) || yk_wr_len(&w) != size - 1 || memcmp(copy, data + 1, size - 1) != 0))
        abort();
    free(copy);
    return 0;
}

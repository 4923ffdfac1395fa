/* SPDX-License-Identifier: Apache-2.0
 *
 * Fuzz target: a batch of KV events in msgpack.
 *
 * Beyond not crashing: a refusal tells nothing and has a text of one line; what is accepted tells as many blocks as
 * it says, and no more than it has bytes for; and it reads the same again.
 *
 * Thread: one.
 */
#include "events/kv.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seen {
    uint64_t blocks, mixed;
    uint32_t cleared;
};

static void require(bool holds) {
    if (!holds)
        abort();
}

static void stored(void *arg, uint64_t block, enum yk_kv_medium medium, uint32_t block_tokens) {
    struct seen *s = arg;
    s->blocks++;
    s->mixed = s->mixed * 31 + block + (uint64_t)medium + block_tokens;
}

static void removed(void *arg, uint64_t block, enum yk_kv_medium medium) {
    stored(arg, ~block, medium, 0);
}

static void cleared(void *arg) {
    ((struct seen *)arg)->cleared++;
}

static int decode(const uint8_t *data, size_t size, struct seen *s, struct yk_kv_batch *batch, struct yk_err *err) {
    struct yk_kv_sink sink = {stored, removed, cleared, NULL, s};
    struct yk_kv_groups groups = {0};
    *s = (struct seen){0};
    int rc = yk_kv_decode(data, size, &sink, &groups, batch, err);
    require(rc == 0 || !groups.known); /* what is refused teaches nothing */
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct yk_err err = {0};
    struct yk_kv_batch batch;
    struct seen one, two;
    int rc = decode(data, size, &one, &batch, &err);
    if (rc < 0) {
        require(one.blocks == 0 && one.cleared == 0 && err.text[0] != '\0' && strchr(err.text, '\n') == NULL);
        return 0;
    }
    require(one.blocks == batch.blocks && batch.blocks <= size && batch.events <= size);
    require(batch.passed_over + one.cleared <= batch.events);
    require(decode(data, size, &two, &batch, &err) == 0);
    require(one.blocks == two.blocks && one.mixed == two.mixed && one.cleared == two.cleared);
    return 0;
}

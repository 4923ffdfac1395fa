/* SPDX-License-Identifier: Apache-2.0
 *
 * Blocks of nodes, and a steady load of reads of them (cluster_priv.h). Each key is got once, so that what is read
 * comes from the node that has it and not from the copy that the last read left; and at a rate of its own, so that a
 * stall of one read is one stall and not the end of the load.
 *
 * Threads: the load's own; results are read while it runs.
 */
#include "bench/cluster_priv.h"

#include "base/clock.h"

#include <stdlib.h>

#define AGAIN_NS (10 * YK_NS_PER_S)

static void fill_bytes(unsigned char *to, uint32_t bytes, uint64_t number) {
    uint64_t x = number * UINT64_C(0x9e3779b97f4a7c15) | 1u;
    for (uint32_t i = 0; i < bytes; i += 8) {
        uint64_t word = yk_random(&x);
        memcpy(to + i, &word, bytes - i < 8 ? bytes - i : 8);
    }
}

/* ---- blocks ------------------------------------------------------------------------------------------- */

#define FILL_BATCH 512u

static int fill_some(yk_client *c, uint64_t first, uint32_t n, uint32_t bytes, const yk_put_opts *put,
                     unsigned char *payload) {
    static yk_op ops[FILL_BATCH];
    static struct iovec iov[FILL_BATCH];
    static char keys[FILL_BATCH][YK_RIG_KEY_BYTES];
    for (uint32_t i = 0; i < n; i++) {
        yk_rig_key(first + i, keys[i]);
        fill_bytes(payload + (size_t)i * bytes, bytes, first + i);
        iov[i] = (struct iovec){payload + (size_t)i * bytes, bytes};
        ops[i] = (yk_op){
            .opcode = YK_OP_PUT, .key = {keys[i], YK_RIG_KEY_BYTES}, .iov = &iov[i], .iov_count = 1, .put = put};
    }
    int good = yk_run(c, ops, n, 0);
    return good == (int)n ? 0 : yk_rig_failed(c, "put", good < 0 ? good : -YK_EGONE);
}

int cluster_fill(const char *url, uint64_t first, uint64_t n, uint32_t bytes, const yk_put_opts *put) {
    uint32_t batch = bytes > 64 * KIB ? 16 : FILL_BATCH;
    yk_client *c = NULL;
    unsigned char *payload = malloc((size_t)batch * bytes);
    int rc = payload == NULL ? -YK_ENOMEM : yk_rig_connect(url, 0, &c);
    for (uint64_t at = 0; at < n && rc == 0; at += batch)
        rc = fill_some(c, first + at, n - at < batch ? (uint32_t)(n - at) : batch, bytes, put, payload);
    yk_close(c);
    free(payload);
    return rc;
}

/* 0: exactly the block; YK_MISS; -YK_E...; -YK_ECORRUPT: other bytes. want, got: room for a block. */
static int get_and_check(yk_client *c, uint64_t number, uint32_t bytes, unsigned char *want, unsigned char *got) {
    char key[YK_RIG_KEY_BYTES];
    size_t len = 0;
    yk_rig_key(number, key);
    int rc = yk_get(c, (yk_key){key, sizeof(key)}, got, bytes, &len);
    if (rc != 0)
        return rc;
    fill_bytes(want, bytes, number);
    return len == bytes && memcmp(want, got, bytes) == 0 ? 0 : -YK_ECORRUPT;
}

/* ---- the load ----------------------------------------------------------------------------------------- */

static void wait_until(uint64_t ns) {
    struct timespec ts = {(time_t)(ns / YK_NS_PER_S), (long)(ns % YK_NS_PER_S)};
    (void)clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
}

static void count(struct cluster_load *l, uint64_t begin) {
    uint64_t ns = yk_now_ns() - begin;
    yk_hist_record(&l->hist[__atomic_load_n(&l->phase, __ATOMIC_ACQUIRE)], ns);
    if (ns > __atomic_load_n(&l->longest_ns, __ATOMIC_RELAXED)) {
        __atomic_store_n(&l->longest_ns, ns, __ATOMIC_RELAXED);
        l->longest_at_ns = begin;
    }
    __atomic_fetch_add(&l->done, 1, __ATOMIC_RELAXED);
}

static void failed(struct cluster_load *l, const yk_client *c, const char *what, uint64_t number, int rc) {
    if (__atomic_fetch_add(&l->failed, 1, __ATOMIC_RELAXED) < 3)
        fprintf(stderr, "yolk bench: %s of block %llu: %s %s\n", what, (unsigned long long)number, yk_strstatus(rc),
                rc < 0 && c != NULL ? yk_error_text(c) : "");
}

static void get_one(struct cluster_load *l, yk_client *c, uint64_t number, unsigned char *room) {
    uint64_t begin = yk_now_ns();
    int rc = get_and_check(c, number, l->bytes, room, room + l->bytes);
    count(l, begin);
    if (rc == YK_MISS)
        __atomic_fetch_add(&l->missed, 1, __ATOMIC_RELAXED);
    while (rc == YK_MISS && yk_now_ns() - begin < AGAIN_NS && !__atomic_load_n(&l->stop, __ATOMIC_RELAXED)) {
        cluster_pause_ms(5);
        rc = get_and_check(c, number, l->bytes, room, room + l->bytes);
    }
    if (rc != 0)
        failed(l, c, "get", number, rc);
}

static void put_one(struct cluster_load *l, yk_client *c, uint64_t number, unsigned char *payload) {
    char key[YK_RIG_KEY_BYTES];
    yk_rig_key(number, key);
    fill_bytes(payload, l->bytes, number);
    uint64_t begin = yk_now_ns();
    int rc = yk_put(c, (yk_key){key, sizeof(key)}, payload, l->bytes, NULL);
    count(l, begin);
    if (rc != 0)
        failed(l, c, "put", number, rc);
}

static void *load_main(void *arg) {
    struct cluster_load *l = arg;
    yk_client *c = NULL;
    unsigned char *room = malloc(2u * (size_t)l->bytes);
    int rc = room == NULL ? -YK_ENOMEM : yk_rig_connect(l->url, 0, &c);
    if (rc < 0) {
        failed(l, NULL, "open before get", l->first, rc);
        free(room);
        return NULL;
    }
    uint64_t next = yk_now_ns(), apart = YK_NS_PER_S / l->per_s, puts = 0;
    for (uint64_t i = 0; i < l->keys && !__atomic_load_n(&l->stop, __ATOMIC_RELAXED); i++) {
        get_one(l, c, l->first + i, room);
        if (l->put_first != 0 && i % 8 == 0)
            put_one(l, c, l->put_first + puts++, room);
        next += apart;
        if (next > yk_now_ns())
            wait_until(next);
        else
            next = yk_now_ns(); /* what stood still is not made up for */
    }
    yk_close(c);
    free(room);
    return NULL;
}

int cluster_load_start(struct cluster_load *l) {
    return pthread_create(&l->thread, NULL, load_main, l) == 0 ? 0 : -YK_ELIMIT;
}

void cluster_load_mark(struct cluster_load *l) {
    __atomic_store_n(&l->longest_ns, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&l->phase, 1, __ATOMIC_RELEASE);
}

void cluster_load_stop(struct cluster_load *l) {
    __atomic_store_n(&l->stop, 1, __ATOMIC_RELAXED);
    if (l->thread != 0)
        pthread_join(l->thread, NULL);
    l->thread = 0;
}

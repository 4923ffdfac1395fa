/* SPDX-License-Identifier: Apache-2.0
 *
 * FIND, as nodes ask it of each other (cluster_priv.h): frames by src/dir's messenger on a loop of this thread, so
 * that what is measured has both ends of the protocol in it.
 *
 * Threads: a guest is its thread's.
 */
#include "bench/cluster_priv.h"

#include "base/clock.h"

#include <stdlib.h>

#define TIMEOUT_MS 5000u
#define STOOD_NS   (100 * YK_NS_PER_MS)
#define BODY_MAX   (64u + CLUSTER_BATCH * (8u + 1u + YK_RIG_KEY_BYTES))

/* ---- a loop with one peer ----------------------------------------------------------------------------- */

int cluster_guest_open(struct cluster_guest *g, const char *address) {
    struct yk_err err = {0};
    struct yk_peers_opts o = {.loop = &g->loop, .connect_ms = TIMEOUT_MS, .suspect_ms = TIMEOUT_MS};
    memset(g, 0, sizeof(*g));
    if (uv_loop_init(&g->loop) < 0)
        return -YK_ENOMEM;
    int rc = yk_peers_open(&o, &g->peers, &err);
    if (rc == 0)
        rc = yk_peers_set(g->peers, 1, 0, address);
    if (rc < 0)
        cluster_guest_close(g);
    g->random = 0x9e3779b97f4a7c15u;
    return rc;
}

void cluster_guest_close(struct cluster_guest *g) {
    if (g->peers != NULL)
        yk_peers_close(g->peers, NULL, NULL);
    g->peers = NULL;
    uv_run(&g->loop, UV_RUN_DEFAULT);
    uv_loop_close(&g->loop);
}

/* Namespace and epoch of a new namespace: its first. */
static size_t question(void *body, size_t cap, const uint64_t *keys, uint32_t n) {
    struct yk_dirw_keys head = {.ns = {CLUSTER_NS, sizeof(CLUSTER_NS) - 1}, .epoch = 1, .n = n};
    struct yk_wr w;
    yk_wr_init(&w, body, cap);
    yk_wr_dir_keys(&w, &head);
    for (uint32_t i = 0; i < n; i++) {
        char key[YK_RIG_KEY_BYTES];
        yk_rig_key(keys[i], key);
        yk_wr_u64(&w, 0);
        yk_wr_str8(&w, key, sizeof(key));
    }
    return yk_wr_len(&w);
}

/* ---- pipelined ---------------------------------------------------------------------------------------- */

static void ask_one(struct cluster_guest *g);

static void on_reply(void *user, int status, const void *body, uint32_t len) {
    struct cluster_guest *g = user;
    struct yk_dirw_found f;
    struct yk_rd r;
    g->out--;
    yk_rd_init(&r, body, len);
    (void)yk_rd_u64(&r);
    uint32_t n = status < 0 ? 0 : yk_rd_u32(&r);
    if (status == 0 && n != g->batch)
        status = -YK_EPROTO;
    for (uint32_t i = 0; i < n && status == 0; i++) {
        yk_rd_dir_found(&r, &f);
        status = r.bad ? -YK_EPROTO : 0;
        if (f.status != 0)
            g->failed++;
    }
    if (status < 0)
        g->status = status;
    if (g->left > 0 && g->status == 0)
        ask_one(g);
    if (g->out == 0)
        uv_stop(&g->loop);
}

static void ask_one(struct cluster_guest *g) {
    unsigned char body[BODY_MAX];
    uint64_t keys[CLUSTER_BATCH];
    for (uint32_t i = 0; i < g->batch; i++)
        keys[i] = yk_random_below(&g->random, g->keys);
    size_t len = question(body, sizeof(body), keys, g->batch);
    g->left--;
    int rc = yk_peers_ask(g->peers, 1, YK_DIR_FIND, body, (uint32_t)len, TIMEOUT_MS, on_reply, g);
    if (rc < 0)
        g->status = rc;
    else
        g->out++;
}

int cluster_guest_run(struct cluster_guest *g, uint64_t n, uint32_t deep) {
    uint64_t failed = g->failed;
    if (yk_now_ns() - g->ran_ns > STOOD_NS)
        uv_run(&g->loop, UV_RUN_NOWAIT); /* the loop stood still since the last round: deadlines count from now */
    g->left = n;
    g->status = 0;
    for (uint32_t i = 0; i < deep && g->left > 0 && g->status == 0; i++)
        ask_one(g);
    if (g->out > 0)
        uv_run(&g->loop, UV_RUN_DEFAULT);
    g->ran_ns = yk_now_ns();
    return g->status < 0 ? g->status : g->failed > failed ? -YK_EGONE : 0;
}

/* ---- who has these keys? ------------------------------------------------------------------------------ */

#define WHO_MAX   4096u
#define WHO_PEERS 64u

struct who {
    uv_loop_t loop;
    struct yk_peers *peers;
    uint32_t n, out;
    int *status;
};

static int rank(int status) {
    return status == 0 ? 3 : status == YK_MISS ? 2 : status == YK_PENDING ? 1 : 0;
}

static void who_reply(void *user, int status, const void *body, uint32_t len) {
    struct who *w = user;
    struct yk_dirw_found f;
    struct yk_rd r;
    yk_rd_init(&r, body, len);
    (void)yk_rd_u64(&r);
    if (status == 0 && yk_rd_u32(&r) == w->n)
        for (uint32_t i = 0; i < w->n && !r.bad; i++) {
            yk_rd_dir_found(&r, &f);
            if (!r.bad && rank(f.status) > rank(w->status[i]))
                w->status[i] = f.status;
        }
    if (--w->out == 0)
        uv_stop(&w->loop);
}

int cluster_who(const char *const *addresses, uint32_t count, const uint64_t *keys, uint32_t n, uint32_t timeout_ms,
                int *ret_status) {
    struct who w = {.n = n, .status = ret_status};
    struct yk_peers_opts o = {.loop = &w.loop, .connect_ms = timeout_ms};
    struct yk_err err = {0};
    size_t cap = 64u + n * (size_t)(9u + YK_RIG_KEY_BYTES);
    void *body = n <= WHO_MAX && count <= WHO_PEERS ? malloc(cap) : NULL;
    if (body == NULL || uv_loop_init(&w.loop) < 0) {
        free(body);
        return -YK_ENOMEM;
    }
    for (uint32_t i = 0; i < n; i++)
        ret_status[i] = -YK_EGONE;
    int rc = yk_peers_open(&o, &w.peers, &err);
    size_t len = question(body, cap, keys, n);
    for (uint32_t i = 0; i < count && rc == 0; i++)
        if (yk_peers_set(w.peers, i + 1, 0, addresses[i]) == 0 &&
            yk_peers_ask(w.peers, i + 1, YK_DIR_FIND, body, (uint32_t)len, timeout_ms, who_reply, &w) == 0)
            w.out++;
    if (w.out > 0)
        uv_run(&w.loop, UV_RUN_DEFAULT);
    if (w.peers != NULL)
        yk_peers_close(w.peers, NULL, NULL);
    uv_run(&w.loop, UV_RUN_DEFAULT);
    uv_loop_close(&w.loop);
    free(body);
    return rc;
}

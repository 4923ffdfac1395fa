/* SPDX-License-Identifier: Apache-2.0
 *
 * See pool_rig.h.
 */
#include "pool_rig.h"

#include "base/hash.h"

#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <time.h>

#define BODY_MAX (4u << 20)

/* ---- the pool ---------------------------------------------------------------------------------------- */

static void text_set(char *to, size_t cap, const void *from, size_t len) {
    size_t n = len < cap - 1 ? len : cap - 1;
    memset(to, 0, cap);
    if (n > 0)
        memcpy(to, from, n);
}

static void on_changed(void *arg, const struct yk_pool_block *b) {
    struct rig *g = arg;
    (void)b;
    pthread_mutex_lock(&g->lock);
    g->told++;
    pthread_mutex_unlock(&g->lock);
}

/* One more of these; the lock is left. */
static int noted(struct rig *g, uint32_t *count) {
    ++*count;
    pthread_cond_broadcast(&g->cond);
    int refuse = g->refuse;
    pthread_mutex_unlock(&g->lock);
    return refuse ? -YK_EAGAIN : 0;
}

static int on_want(void *arg, const struct yk_pool_want *want) {
    struct rig *g = arg;
    pthread_mutex_lock(&g->lock);
    struct want *w = &g->wants[g->want_count % ASKED];
    memset(w, 0, sizeof(*w));
    w->kind = (int)want->kind;
    w->chain = want->chain;
    w->ns_number = want->ns_number;
    w->count = want->count;
    w->epoch = want->epoch;
    w->deadline_ns = want->deadline_ns;
    w->token = want->token;
    text_set(w->ns, sizeof(w->ns), want->ns, want->ns_len);
    text_set(w->first, sizeof(w->first), want->first.key, want->first.key_len);
    for (uint32_t i = 0; i < want->count && i < NAMED; i++)
        text_set(w->key[i], sizeof(w->key[i]), want->keys[i].key, want->keys[i].key_len);
    return noted(g, &g->want_count);
}

static int on_remove(void *arg, const char *ns, uint32_t ns_len, uint64_t epoch, const void *key,
                     uint32_t key_len, uint64_t deadline_ns, uint64_t token) {
    struct rig *g = arg;
    pthread_mutex_lock(&g->lock);
    struct drop *d = &g->drops[g->drop_count % ASKED];
    (void)ns;
    (void)ns_len;
    *d = (struct drop){.epoch = epoch, .deadline_ns = deadline_ns, .token = token};
    text_set(d->key, sizeof(d->key), key, key_len);
    return noted(g, &g->drop_count);
}

static int on_space(void *arg, unsigned what, const char *ns, uint32_t ns_len, uint64_t value,
                    uint64_t deadline_ns, uint64_t token) {
    struct rig *g = arg;
    pthread_mutex_lock(&g->lock);
    struct space *s = &g->spaces[g->space_count % ASKED];
    (void)deadline_ns;
    *s = (struct space){.what = what, .value = value, .token = token};
    text_set(s->ns, sizeof(s->ns), ns, ns_len);
    return noted(g, &g->space_count);
}

static void count_is(struct rig *g, const uint32_t *count, uint32_t n) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WAIT_MS / 1000;
    pthread_mutex_lock(&g->lock);
    while (*count <= n)
        assert_int_equal(pthread_cond_timedwait(&g->cond, &g->lock, &until), 0);
    pthread_mutex_unlock(&g->lock);
}

struct want *want_at(struct rig *g, uint32_t n) {
    count_is(g, &g->want_count, n);
    return &g->wants[n];
}

struct drop *drop_at(struct rig *g, uint32_t n) {
    count_is(g, &g->drop_count, n);
    return &g->drops[n];
}

struct space *space_at(struct rig *g, uint32_t n) {
    count_is(g, &g->space_count, n);
    return &g->spaces[n];
}

/* ---- answers ------------------------------------------------------------------------------------------ */

struct said {
    struct rig *g;
    uint64_t token;
    const struct yk_pool_found *found;
    uint32_t count, done;
    int what, status; /* what: 0 nothing, 1 found, 2 removed, 3 a block comes */
    const struct want *want;
    const char *key, *bytes;
};

static int come(struct said *s, struct yk_store *store) {
    struct yk_place p;
    void *to;
    uint32_t len = (uint32_t)strlen(s->bytes);
    int rc = yk_store_pool_reserve(store, len, &p, &to);
    if (rc < 0)
        return rc;
    memcpy(to, s->bytes, len);
    struct yk_commit c = {.idx = p.idx,
                          .gen = p.gen,
                          .epoch = s->want->epoch,
                          .sum = yk_hash64(to, len),
                          .len = len,
                          .key = s->key,
                          .key_len = (uint32_t)strlen(s->key)};
    return yk_store_pool_commit(store, s->want->ns_number, &c, 0, 1);
}

static void say(void *arg, struct yk_store *store) {
    struct said *s = arg;
    struct rig *g = s->g;
    if (s->what == 3)
        s->status = come(s, store);
    if (s->what == 1 || s->what == 3)
        yk_node_pool_found(g->node, s->token, s->found, s->count);
    else if (s->what == 2)
        yk_node_pool_removed(g->node, s->token, s->status);
    pthread_mutex_lock(&g->lock);
    s->done = 1;
    pthread_cond_broadcast(&g->cond);
    pthread_mutex_unlock(&g->lock);
}

static void run(struct said *s) {
    assert_int_equal(yk_node_post(s->g->node, say, s), 0);
    count_is(s->g, &s->done, 0);
}

void found(struct rig *g, uint64_t token, const struct yk_pool_found *said, uint32_t count) {
    struct said s = {.g = g, .what = 1, .token = token, .found = said, .count = count};
    run(&s);
}

void removed(struct rig *g, uint64_t token, int status) {
    struct said s = {.g = g, .what = 2, .token = token, .status = status};
    run(&s);
}

void bring(struct rig *g, const struct want *w, const char *key, const char *bytes) {
    struct said s = {.g = g, .what = 3, .token = w->token, .want = w, .key = key, .bytes = bytes};
    run(&s);
    assert_int_equal(s.status, 0);
}

void flush(struct rig *g) {
    struct said s = {.g = g};
    run(&s);
}

void conns_are(struct rig *g, uint64_t n) {
    struct yk_node_stats st;
    for (uint64_t end = yk_now_ns() + LIMIT;; sched_yield()) {
        yk_node_stats(g->node, &st);
        if (st.conns == n)
            return;
        assert_true(yk_now_ns() < end);
    }
}

/* ---- peers -------------------------------------------------------------------------------------------- */

static void send_all(int fd, const void *data, size_t len) {
    const char *p = data;
    while (len > 0) {
        ssize_t n = send(fd, p, len, MSG_NOSIGNAL);
        assert_true(n > 0);
        p += n;
        len -= (size_t)n;
    }
}

static void recv_all(struct peer *p, void *data, size_t len) {
    char *at = data;
    while (len > 0) {
        union {
            char buf[CMSG_SPACE(4 * sizeof(int))];
            struct cmsghdr align;
        } u;
        struct pollfd pf = {p->fd, POLLIN, 0};
        struct iovec iov = {at, len};
        struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = u.buf, .msg_controllen = sizeof(u.buf)};
        assert_int_equal(poll(&pf, 1, WAIT_MS), 1);
        ssize_t n = recvmsg(p->fd, &m, MSG_CMSG_CLOEXEC);
        assert_true(n > 0);
        struct cmsghdr *h = CMSG_FIRSTHDR(&m);
        if (h != NULL)
            memcpy(p->fds, CMSG_DATA(h), h->cmsg_len - CMSG_LEN(0));
        at += n;
        len -= (size_t)n;
    }
}

static void request(struct peer *p, unsigned op, const struct yk_wr *w) {
    unsigned char hdr[YK_FRAME_HDR];
    struct yk_frame f = {(uint32_t)yk_wr_len(w), (uint8_t)op, 0, 7};
    assert_true(yk_wr_ok(w));
    yk_frame_encode(hdr, &f);
    send_all(p->fd, hdr, sizeof(hdr));
    send_all(p->fd, w->base, yk_wr_len(w));
}

static struct yk_rd reply(struct peer *p, unsigned op) {
    unsigned char hdr[YK_FRAME_HDR];
    struct yk_rd r;
    recv_all(p, hdr, sizeof(hdr));
    assert_int_equal(yk_frame_decode(hdr, 1u << 30, &p->f, NULL), 0);
    assert_true(p->f.body_bytes <= BODY_MAX);
    recv_all(p, p->body, p->f.body_bytes);
    assert_int_equal(p->f.op, op);
    yk_rd_init(&r, p->body, p->f.body_bytes);
    return r;
}

struct peer *peer_open(struct rig *g) {
    struct peer *p = calloc(1, sizeof(*p));
    assert_non_null(p);
    p->body = malloc(BODY_MAX);
    assert_non_null(p->body);
    for (int i = 0; i < 4; i++)
        p->fds[i] = -1;
    p->heard = UINT64_MAX;
    assert_int_equal(yk_node_connect(g->node, &p->fd), 0);
    return p;
}

void peer_leave(struct peer *p) {
    for (int i = 0; i < 4; i++)
        if (p->fds[i] >= 0)
            close(p->fds[i]);
    close(p->fd);
    free(p->body);
    free(p);
}

void hello_send(struct peer *p, uint32_t flags, const char *ns, uint64_t epoch) {
    unsigned char b[256];
    struct yk_wr w;
    yk_wr_init(&w, b, sizeof(b));
    yk_wr_u32(&w, YK_WIRE_MAGIC);
    yk_wr_u32(&w, YK_WIRE_VERSION);
    yk_wr_u32(&w, flags);
    yk_wr_u32(&w, p->slot);
    yk_wr_u64(&w, p->cookie);
    yk_wr_u64(&w, 0);
    yk_wr_u64(&w, epoch);
    yk_wr_str8(&w, ns, strlen(ns));
    yk_wr_u64(&w, p->heard);
    request(p, YK_MSG_HELLO, &w);
}

int hello_answer(struct peer *p, uint32_t granted) {
    char text[300];
    struct yk_rd r = reply(p, YK_MSG_HELLO);
    int rc = (int)yk_rd_u32(&r);
    yk_rd_text(&r, text, sizeof(text));
    if (rc < 0) {
        assert_true(text[0] != 0);
        return rc;
    }
    assert_int_equal(yk_rd_u32(&r), granted);
    p->slot = yk_rd_u32(&r);
    p->cookie = yk_rd_u64(&r);
    yk_rd_u64(&r);
    p->ns = yk_rd_u32(&r);
    p->epoch = yk_rd_u64(&r);
    yk_rd_u32(&r);
    for (int i = 0; i < 6; i++)
        yk_rd_u64(&r);
    if (granted & YK_HELLO_FILTER)
        p->filter_bytes = yk_rd_u64(&r);
    assert_true(yk_rd_ok(&r));
    return 0;
}

struct peer *peer_join(struct rig *g, const char *ns, uint64_t epoch) {
    struct peer *p = peer_open(g);
    hello_send(p, 0, ns, epoch);
    assert_int_equal(hello_answer(p, 0), 0);
    return p;
}

/* ---- requests ----------------------------------------------------------------------------------------- */

struct yk_place reserve(struct peer *p, uint64_t len) {
    unsigned char b[16];
    struct yk_place place;
    struct yk_wr w;
    yk_wr_init(&w, b, sizeof(b));
    yk_wr_u32(&w, 0);
    yk_wr_u32(&w, 1);
    yk_wr_u64(&w, len);
    request(p, YK_MSG_RESERVE, &w);
    struct yk_rd r = reply(p, YK_MSG_RESERVE);
    assert_int_equal(yk_rd_u32(&r), 0);
    assert_int_equal(yk_rd_u32(&r), 1);
    place.idx = yk_rd_u32(&r);
    place.gen = yk_rd_u64(&r);
    place.offset = yk_rd_u64(&r);
    assert_true(yk_rd_ok(&r));
    return place;
}

int give_back(struct peer *p, const struct yk_place *place) {
    unsigned char b[16];
    struct yk_wr w;
    yk_wr_init(&w, b, sizeof(b));
    yk_wr_u32(&w, 1);
    yk_wr_u32(&w, place->idx);
    yk_wr_u64(&w, place->gen);
    request(p, YK_MSG_ABORT, &w);
    struct yk_rd r = reply(p, YK_MSG_ABORT);
    assert_int_equal(yk_rd_u32(&r), 1);
    return (int)yk_rd_u32(&r);
}

int put(struct peer *p, const char *key, const char *bytes) {
    unsigned char b[1024];
    struct yk_attrs a = {0};
    struct yk_wr w;
    yk_wr_init(&w, b, sizeof(b));
    yk_wr_u32(&w, 1000);
    yk_wr_u64(&w, strlen(bytes));
    yk_wr_u64(&w, 0);
    yk_wr_u64(&w, p->epoch);
    yk_wr_attrs(&w, &a);
    yk_wr_str8(&w, key, strlen(key));
    yk_wr_str8(&w, NULL, 0);
    yk_wr_bytes(&w, bytes, strlen(bytes));
    request(p, YK_MSG_PUT, &w);
    struct yk_rd r = reply(p, YK_MSG_PUT);
    return (int)yk_rd_u32(&r);
}

void get_send(struct peer *p, const char *key) {
    unsigned char b[300];
    struct yk_wr w;
    yk_wr_init(&w, b, sizeof(b));
    yk_wr_u64(&w, p->epoch);
    yk_wr_u64(&w, 0);
    yk_wr_u64(&w, UINT64_MAX);
    yk_wr_u64(&w, UINT64_MAX);
    yk_wr_str8(&w, key, strlen(key));
    request(p, YK_MSG_GET, &w);
}

int get_answer(struct peer *p, const char *bytes) {
    struct yk_rd r = reply(p, YK_MSG_GET);
    yk_block_info info;
    int rc = (int)yk_rd_u32(&r);
    if (rc != 0)
        return rc;
    yk_rd_info(&r, &info);
    assert_int_equal(yk_rd_u32(&r), YK_GET_INLINE);
    yk_rd_u64(&r);
    assert_int_equal(yk_rd_u64(&r), strlen(bytes));
    assert_memory_equal(yk_rd_bytes(&r, strlen(bytes)), bytes, strlen(bytes));
    assert_true(yk_rd_ok(&r));
    return 0;
}

int get(struct peer *p, const char *key, const char *bytes) {
    get_send(p, key);
    return get_answer(p, bytes);
}

static void keys_add(struct yk_wr *w, const char *const *keys, uint32_t n) {
    yk_wr_u32(w, n);
    for (uint32_t i = 0; i < n; i++)
        yk_wr_str8(w, keys[i], strlen(keys[i]));
}

void keys_send(struct peer *p, unsigned op, const char *const *keys, uint32_t n) {
    size_t cap = 64 + (size_t)n * 32;
    unsigned char *b = malloc(cap);
    struct yk_wr w;
    assert_non_null(b);
    yk_wr_init(&w, b, cap);
    yk_wr_u64(&w, p->epoch);
    keys_add(&w, keys, n);
    request(p, op, &w);
    free(b);
}

void lookup_answer(struct peer *p, struct look *ret, uint32_t n) {
    struct yk_rd r = reply(p, YK_MSG_LOOKUP);
    assert_int_equal(yk_rd_u32(&r), n);
    for (uint32_t i = 0; i < n; i++) {
        ret[i].status = (int32_t)yk_rd_u32(&r);
        if (ret[i].status == 0)
            yk_rd_info(&r, &ret[i].info);
    }
    assert_true(yk_rd_ok(&r));
}

uint64_t exists_answer(struct peer *p, uint32_t n) {
    struct yk_rd r = reply(p, YK_MSG_EXISTS);
    uint64_t bits = 0;
    assert_int_equal(yk_rd_u32(&r), n);
    const unsigned char *b = yk_rd_bytes(&r, (n + 7u) / 8u);
    assert_true(yk_rd_ok(&r));
    for (uint32_t i = 0; i < (n + 7u) / 8u && i < 8; i++)
        bits |= (uint64_t)b[i] << (8 * i);
    return bits;
}

uint32_t match_answer(struct peer *p) {
    struct yk_rd r = reply(p, YK_MSG_MATCH);
    return yk_rd_u32(&r);
}

static void statuses(struct peer *p, unsigned op, int32_t *ret, uint32_t n) {
    struct yk_rd r = reply(p, op);
    assert_int_equal(yk_rd_u32(&r), n);
    for (uint32_t i = 0; i < n; i++)
        ret[i] = (int32_t)yk_rd_u32(&r);
    assert_true(yk_rd_ok(&r));
}

void raise_send(struct peer *p, const char *const *keys, uint32_t n, uint32_t timeout_ms) {
    unsigned char b[1024];
    struct yk_wr w;
    yk_wr_init(&w, b, sizeof(b));
    yk_wr_u64(&w, p->epoch);
    yk_wr_u32(&w, timeout_ms);
    yk_wr_u8(&w, 0);
    keys_add(&w, keys, n);
    request(p, YK_MSG_RAISE, &w);
}

void raise_answer(struct peer *p, int32_t *ret_status, uint32_t n) {
    statuses(p, YK_MSG_RAISE, ret_status, n);
}

uint32_t prefetch(struct peer *p, const char *const *keys, uint32_t n) {
    unsigned char b[1024];
    struct yk_wr w;
    yk_wr_init(&w, b, sizeof(b));
    yk_wr_u8(&w, YK_TIER_ANY);
    yk_wr_u32(&w, 1000);
    keys_add(&w, keys, n);
    request(p, YK_MSG_PREFETCH, &w);
    struct yk_rd r = reply(p, YK_MSG_PREFETCH);
    assert_int_equal(yk_rd_u32(&r), 0);
    return yk_rd_u32(&r);
}

void change_send(struct peer *p, const struct item *items, uint32_t n) {
    unsigned char b[1024];
    struct yk_wr w;
    yk_wr_init(&w, b, sizeof(b));
    yk_wr_u64(&w, p->epoch);
    yk_wr_u32(&w, n);
    for (uint32_t i = 0; i < n; i++) {
        yk_wr_u8(&w, (uint8_t)items[i].what);
        yk_wr_u64(&w, items[i].arg);
        yk_wr_str8(&w, items[i].key, strlen(items[i].key));
    }
    request(p, YK_MSG_CHANGE, &w);
}

void change_answer(struct peer *p, int32_t *ret_status, uint32_t n) {
    statuses(p, YK_MSG_CHANGE, ret_status, n);
}

void ns_send(struct peer *p, unsigned what, uint64_t arg, const char *name) {
    unsigned char b[128];
    struct yk_wr w;
    yk_wr_init(&w, b, sizeof(b));
    yk_wr_u8(&w, (uint8_t)what);
    yk_wr_u64(&w, arg);
    yk_wr_str8(&w, name, strlen(name));
    request(p, YK_MSG_NS, &w);
}

int ns_answer(struct peer *p) {
    char text[300];
    struct yk_rd r = reply(p, YK_MSG_NS);
    int rc = (int)yk_rd_u32(&r);
    yk_rd_text(&r, text, sizeof(text));
    assert_true(yk_rd_ok(&r));
    assert_int_equal(rc < 0, text[0] != 0);
    return rc;
}

/* ---- life ---------------------------------------------------------------------------------------------- */

static void namespace_make(void *arg, struct yk_store *store) {
    uint32_t ns;
    (void)arg;
    assert_int_equal(yk_store_ns_open(store, "default", 7, 1, &ns, NULL), 0);
}

static int begin(void **state, uint32_t wait_ms) {
    struct rig *g = calloc(1, sizeof(*g));
    struct yk_pool_ops ops = {
        .changed = on_changed, .want = on_want, .remove = on_remove, .space = on_space, .arg = g};
    struct yk_node_opts o = {.pool = &ops, .pool_wait_ms = wait_ms};
    struct yk_err err = {0};
    pthread_mutex_init(&g->lock, NULL);
    pthread_cond_init(&g->cond, NULL);
    o.store.segment.data_bytes = 32 * MIB;
    o.store.segment.max_clients = 16;
    o.store.segment.numa_node = -1;
    o.store.policy = "lru";
    o.store.reserve_percent = 2;
    o.store.held_percent = 50;
    o.stop_timeout_ms = 200;
    int rc = yk_node_start(&o, &g->node, &err);
    if (rc < 0)
        print_error("%s\n", err.text);
    if (rc < 0)
        return rc;
    g->a = peer_open(g);
    assert_int_equal(yk_node_post(g->node, namespace_make, NULL), 0); /* the pool knows of it, before anybody asks */
    flush(g);
    hello_send(g->a, 0, "default", 0);
    assert_int_equal(hello_answer(g->a, 0), 0);
    *state = g;
    return 0;
}

int rig_begin(void **state) {
    return begin(state, WAIT_MS);
}

int rig_begin_hasty(void **state) {
    return begin(state, 1);
}

void rig_stop(struct rig *g) {
    if (g->node == NULL)
        return;
    yk_node_stop(g->node);
    g->node = NULL;
    peer_leave(g->a);
}

int rig_end(void **state) {
    struct rig *g = *state;
    rig_stop(g);
    pthread_cond_destroy(&g->cond);
    pthread_mutex_destroy(&g->lock);
    free(g);
    return 0;
}

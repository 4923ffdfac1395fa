/* SPDX-License-Identifier: Apache-2.0
 *
 * What the node does for each message of src/wire/msg.h.
 *
 * A handler decodes with the bounded reader, calls the block table, and writes one reply into the
 * connection's output. A body that breaks its layout ends the connection; a bad item (a key of no
 * bytes, say) fails that item alone. Who may wait for space (RESERVE, PUT) goes into the node's
 * waiter table and is answered from there.
 */
#include "node/conn_priv.h"

#include "base/clock.h"
#include "base/hash.h"
#include "shm/gate.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int handle_bad_body(struct yk_err *err, const struct yk_frame *f) {
    return yk_err_set(err, -YK_EPROTO, "the body of a %s frame (%u bytes) is malformed",
                      yk_wire_op_name(f->op), f->body_bytes);
}

static int reply_text(struct conn *c, const struct yk_frame *f, int status, const char *text) {
    struct yk_wr w;
    int rc = reply_begin(c, 4 + 2 + strlen(text), &w);
    if (rc < 0)
        return rc;
    yk_wr_u32(&w, (uint32_t)status);
    yk_wr_text(&w, text);
    reply_end(c, &w, f->op, f->id);
    return 0;
}

/* ---- HELLO, BYE -------------------------------------------------------------------------------
 */

/* A raise that no device of the SSD tier records is an error, also in HELLO: the node's memory has it, and
 * keeps it over a restart of the daemon, but a power cut takes that memory and leaves the devices, with
 * blocks of the older epoch, for whoever comes with that (R9, R18). Without an SSD tier nothing is left. */
static int epoch_lost(struct yk_err *err, const void *name, uint32_t name_len, uint64_t epoch) {
    return yk_err_set(
        err, -YK_EIO,
        "epoch %llu of namespace '%.*s' cannot be recorded, no SSD device takes writes: "
        "replace it, or restart the node without --ssd",
        (unsigned long long)epoch, (int)name_len, (const char *)name);
}

/* The cluster did not take a change of a namespace. */
static int space_failed(struct yk_err *err, int rc, const void *name, uint32_t name_len) {
    return yk_err_set(err, rc, "namespace '%.*s': the cluster says: %s%s", (int)name_len,
                      (const char *)name, yk_status_text(rc),
                      rc == -YK_ETIMEDOUT ? ". It may yet be made" : "");
}

/* Namespace of the connection, at the epoch of its engine. 0, or a status with its text in err. look: one
 * that does not exist is none (YK_NO_NS). */
static int hello_ns(struct conn *c, const void *name, uint32_t name_len, int look, uint64_t epoch,
                    struct yk_err *err) {
    uint32_t ns;
    int rc = yk_store_ns_open(c->node->store, name, name_len, !look, &ns, err);
    if (rc == -YK_ENONS && look) {
        c->ns = YK_NO_NS;
        return 0;
    }
    if (rc < 0)
        return rc;
    uint64_t now = yk_store_ns_epoch(c->node->store, ns);
    if (epoch == 0)
        epoch = now;
    if (epoch < now)
        return yk_err_set(err, -YK_ESTALE, "epoch %llu of namespace '%.*s' is over, it is at %llu",
                          (unsigned long long)epoch, (int)name_len, (const char *)name,
                          (unsigned long long)now);
    rc = yk_store_ns_raise(c->node->store, ns, epoch);
    if (rc == -YK_EIO)
        return epoch_lost(err, name, name_len, epoch);
    if (rc < 0)
        return yk_err_set(err, rc, "epoch %llu cannot be used", (unsigned long long)epoch);
    c->ns = ns;
    return 0;
}

/* Reservations of a connection are its slot's; without one they are its own, if it can write them through
 * the transfer engine, or it has none. (Slot 0 is the node's own: puts through the socket.) */
static uint32_t slot_of(const struct conn *c) {
    return c->mapped ? c->slot : c->peer != 0 ? c->peer : YK_SHM_NONE;
}

/* A client slot, if the peer's process can be seen from here (its death must be). */
static int hello_slot(struct conn *c, uint32_t slot, uint64_t cookie, uint64_t *ret_cookie,
                      struct yk_err *err) {
    if (c->pid == 0 || yk_process_start_time(c->pid) == 0)
        return yk_err_set(err, -YK_EPERM,
                          "the client's process cannot be seen from the node (another pid "
                          "namespace?): payload goes through the socket");
    int rc = yk_store_client_attach(c->node->store, c->pid, slot, cookie, &slot, ret_cookie);
    if (rc == -YK_ENOSPC)
        return yk_err_set(err, -YK_EPERM, "no memory for a client's pages: payload goes through the "
                                          "socket");
    if (rc < 0)
        return yk_err_set(err, rc, "all %u client slots are taken: raise --max-clients",
                          c->node->seg->layout.max_clients - 1u);
    /* A hello that waited while its client made another connection: what that brought is not void. */
    if (*ret_cookie == cookie && c->number < c->node->greeted[slot])
        return yk_err_set(err, -YK_EGONE, "the client has made another connection since");
    c->slot = slot;
    c->node->greeted[slot] = c->number;
    /* What an older connection of the slot has not delivered is void: its replies are not read. */
    conns_close_slot(c->node, c->slot, c);
    yk_store_client_ns(c->node->store, c->slot, c->ns);
    node_watch(c->node, c->slot, c->pid);
    c->mapped = 1;
    return 0;
}

#define KEEP_IDLE_S  30 /* a host that vanished is noticed after 60 s: its places are free again */
#define KEEP_EVERY_S 10
#define KEEP_COUNT   3

/* Payload may go through the transfer engine. Without a mapping places are the connection's: it must end. */
static void hello_xfer(struct conn *c) {
    int on = 1, idle = KEEP_IDLE_S, every = KEEP_EVERY_S, count = KEEP_COUNT;
    c->xfer = transfer_addresses(c->node)[0] != 0 &&
              (c->mapped || yk_store_peer_open(c->node->store, &c->peer) == 0);
    if (!c->xfer || c->is_unix)
        return;
    (void)setsockopt(c->fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    (void)setsockopt(c->fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
    (void)setsockopt(c->fd, IPPROTO_TCP, TCP_KEEPINTVL, &every, sizeof(every));
    (void)setsockopt(c->fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
}

static int hello_reply(struct conn *c, const struct yk_frame *f, uint64_t cookie, int want_filter) {
    struct yk_node *node = c->node;
    uint64_t filter_bytes = 0;
    int filter = !want_filter || !c->mapped ? -1
                 : node->pool != NULL       ? pool_filter_fd(node, &filter_bytes)
                                            : yk_store_filter_fd(node->store, &filter_bytes);
    const struct yk_shm_hdr *hdr = node->seg->meta;
    const char *addresses = transfer_addresses(node), *segment = transfer_segment(node);
    struct yk_wr w;
    int rc = reply_begin(c, 256 + strlen(addresses) + strlen(segment), &w);
    if (rc < 0)
        return rc;
    yk_wr_u32(&w, 0);
    yk_wr_text(&w, "");
    yk_wr_u32(&w, (c->mapped ? YK_HELLO_MAP : 0) | (filter >= 0 ? YK_HELLO_FILTER : 0) |
                      (c->xfer ? YK_HELLO_XFER : 0) |
                      (yk_store_wants_requests(node->store) ? YK_HELLO_ANNOUNCE : 0));
    yk_wr_u32(&w, c->slot);
    yk_wr_u64(&w, cookie);
    yk_wr_u64(&w, hdr->segment_id);
    yk_wr_u32(&w, c->ns);
    yk_wr_u64(&w, c->ns == YK_NO_NS ? 0 : yk_store_ns_epoch(node->store, c->ns));
    yk_wr_u32(&w, (uint32_t)getpid());
    yk_wr_u64(&w, node->seg->layout.meta_bytes);
    yk_wr_u64(&w, node->seg->layout.data_bytes);
    yk_wr_u64(&w, node->seg->layout.clients_bytes);
    uint64_t dram = node->seg->layout.data_bytes - node->seg->slow_bytes;
    yk_wr_u64(&w, dram < YK_BLOCK_MAX ? dram : YK_BLOCK_MAX);
    yk_wr_u64(&w, node->seg->page_bytes);
    yk_wr_u64(&w, hdr->gen_limit);
    if (filter >= 0)
        yk_wr_u64(&w, filter_bytes);
    if (c->xfer) {
        yk_wr_text(&w, addresses);
        yk_wr_text(&w, segment);
    }
    reply_end(c, &w, f->op, f->id);
    if (!c->mapped)
        return 0;
    const int fds[4] = {node->seg->fd_meta_ro, node->seg->fd_data, node->seg->fd_clients, filter};
    return conn_send_fds(c, fds, filter >= 0 ? 4 : 3);
}

static void slot_release(struct conn *c) {
    uint32_t slot = c->slot;
    conns_close_slot(c->node, slot, c);
    node_unwatch(c->node, slot);
    yk_store_client_release(c->node->store, slot);
    c->slot = 0;
    c->mapped = 0;
}

/* The namespace is new here, or has to be raised: the cluster is asked, once. HANDLE_PARKED; 0: go on; or a status
 * with its text. */
static int hello_space(struct conn *c, const struct yk_frame *f, const void *body, const void *name,
                       uint32_t name_len, int look, uint64_t epoch, struct yk_err *err) {
    const struct yk_pool_found *said = pool_answer(c, 0);
    uint32_t ns;
    int rc = said == NULL ? 0 : said->status > 0 ? -YK_ENONS : said->status;
    if (pool_alive(c->node) && !c->rerun) {
        rc = yk_store_ns_open(c->node->store, name, name_len, 0, &ns, NULL);
        if (rc == -YK_EINVAL || (rc < 0 && look))
            return 0; /* as without a pool */
        if (epoch == UINT64_MAX)
            epoch = 0; /* nobody can have it; hello_ns says so */
        if (rc == 0 && epoch <= yk_store_ns_epoch(c->node->store, ns))
            return 0;
        rc = pool_space(c, f, body, YK_POOL_NS_OPEN, name, name_len, epoch);
    }
    return rc < 0 ? space_failed(err, rc, name, name_len) : rc == HANDLE_PARKED ? rc : 0;
}

static int do_hello(struct conn *c, const struct yk_frame *f, struct yk_rd *r, struct yk_err *err) {
    uint32_t name_len;
    uint32_t magic = yk_rd_u32(r);
    uint32_t version = yk_rd_u32(r);
    uint32_t flags = yk_rd_u32(r);
    uint32_t slot = yk_rd_u32(r);
    uint64_t cookie = yk_rd_u64(r);
    uint64_t segment_id = yk_rd_u64(r);
    uint64_t epoch = yk_rd_u64(r);
    const void *name = yk_rd_str8(r, &name_len);
    uint64_t heard = yk_rd_left(r) > 0 ? yk_rd_u64(r) : UINT64_MAX;
    const void *body = r->at - (f->body_bytes - yk_rd_left(r));
    const struct yk_shm_hdr *hdr = c->node->seg->meta;
    struct yk_err why = {0};
    if (!yk_rd_ok(r) || magic != YK_WIRE_MAGIC || c->state != CONN_HELLO || c->piece_count != 0)
        return handle_bad_body(err, f);
    int rc = 0;
    if (version != YK_WIRE_VERSION)
        rc = yk_err_set(&why, -YK_EVERSION, "the client speaks protocol %u, this node %u", version,
                        YK_WIRE_VERSION);
    int look = (flags & YK_HELLO_LOOK) != 0;
    if (rc == 0)
        rc = hello_space(c, f, body, name, name_len, look, epoch, &why);
    if (rc == HANDLE_PARKED)
        return rc;
    if (rc == 0)
        rc = hello_ns(c, name, name_len, look, epoch, &why);
    /* Its epoch is durable before anything is said, whoever raised it (R9). */
    uint64_t ticket = yk_store_ticket_take(c->node->store);
    int durable = yk_store_durable(c->node->store, ticket);
    if (rc == 0 && durable < 0)
        rc = epoch_lost(&why, name, name_len, yk_store_ns_epoch(c->node->store, c->ns));
    if (rc == 0 && durable == 0)
        return held_add(c->node, c, ticket, f, body, 1) == 0 ? HANDLE_PARKED : -YK_ENOMEM;
    if (segment_id != 0 && segment_id != hdr->segment_id)
        cookie = 0; /* the slot was of a segment that is gone */
    uint64_t had = cookie;
    if (rc == 0 && (flags & YK_HELLO_MAP) && c->is_unix && !yk_node_tier_lost(c->node)) {
        rc = hello_slot(c, slot, cookie, &cookie, &why);
        if (rc == -YK_EPERM)
            rc = 0; /* not mapped: the client sees it in the flags granted */
    }
    if (rc < 0)
        return reply_text(c, f, rc, why.text);
    if (c->mapped && cookie == had)
        yk_store_client_heard(c->node->store, c->slot, heard);
    if (flags & YK_HELLO_XFER)
        hello_xfer(c);
    c->state = CONN_OPEN;
    rc = hello_reply(c, f, cookie, (flags & YK_HELLO_FILTER) != 0);
    if (rc < 0 && c->mapped && cookie != had)
        slot_release(c); /* granted to somebody who has left and never heard of it */
    return rc;
}

static int do_bye(struct conn *c, const struct yk_frame *f) {
    if (c->mapped)
        slot_release(c);
    conn_places_end(c);
    return reply_status(c, f->op, f->id, 0);
}

static int do_ping(struct conn *c, const struct yk_frame *f, struct yk_rd *r) {
    struct yk_wr w;
    int rc = reply_begin(c, f->body_bytes, &w);
    if (rc < 0)
        return rc;
    yk_wr_bytes(&w, yk_rd_bytes(r, f->body_bytes), f->body_bytes);
    reply_end(c, &w, f->op, f->id);
    return 0;
}

/* ---- RESERVE, COMMIT, ABORT -------------------------------------------------------------------
 */

/* May this connection have a place that it may not need at once? Not while others wait for one. */
static int may_hold(const struct conn *c, uint64_t len) {
    return c->node->waiter_count == 0 && yk_store_may_hold(c->node->store, len);
}

/* Reserves up to count places. Returns how many, or the failure of the first. */
static int reserve_many(struct conn *c, uint64_t len, uint32_t count, struct yk_place *places,
                        struct yk_err *err) {
    uint32_t n = 0;
    for (; n < count && (n == 0 || may_hold(c, len)); n++) {
        int rc = yk_store_reserve(c->node->store, slot_of(c), len, &places[n], n == 0 ? err : NULL);
        if (rc < 0)
            return n > 0 ? (int)n : rc;
    }
    return (int)n;
}

static void wr_places(struct yk_wr *w, const struct yk_place *places, uint32_t n) {
    yk_wr_u32(w, n);
    for (uint32_t i = 0; i < n; i++) {
        yk_wr_u32(w, places[i].idx);
        yk_wr_u64(w, places[i].gen);
        yk_wr_u64(w, places[i].offset);
    }
}

#define PLACE_BYTES 20u

static int reserve_reply(struct conn *c, uint64_t id, int n, const struct yk_place *places) {
    struct yk_wr w;
    int rc = reply_begin(c, 8u + YK_RESERVE_MAX * PLACE_BYTES, &w);
    if (rc < 0)
        return rc;
    yk_wr_u32(&w, (uint32_t)(n < 0 ? n : 0));
    wr_places(&w, places, n > 0 ? (uint32_t)n : 0);
    reply_end(c, &w, YK_MSG_RESERVE, id);
    return 0;
}

static int do_reserve(struct conn *c, const struct yk_frame *f, struct yk_rd *r,
                      struct yk_err *err) {
    uint32_t timeout_ms = yk_rd_u32(r);
    uint32_t count = yk_rd_u32(r);
    uint64_t len = yk_rd_u64(r);
    struct yk_place places[YK_RESERVE_MAX];
    if (!yk_rd_ok(r) || count == 0 || count > YK_RESERVE_MAX)
        return handle_bad_body(err, f);
    if (slot_of(c) == YK_SHM_NONE)
        return reserve_reply(c, f->id, -YK_ENOTSUP, NULL);
    if (c->ns == YK_NO_NS)
        return reserve_reply(c, f->id, -YK_ENONS, NULL);
    int n = reserve_many(c, len, count, places, NULL);
    if (n == -YK_ENOSPC && timeout_ms > 0) {
        struct waiter w = {.conn = c,
                           .id = f->id,
                           .len = len,
                           .count = count,
                           .deadline_ns = yk_now_ns() + timeout_ms * 1000000ull};
        if (node_wait(c->node, &w) == 0)
            return 0;
    }
    return reserve_reply(c, f->id, n, places);
}

static void rd_commit(struct yk_rd *r, struct yk_commit *ret, const void **ret_prefer, uint32_t *ret_prefer_len) {
    ret->idx = yk_rd_u32(r);
    ret->gen = yk_rd_u64(r);
    ret->epoch = yk_rd_u64(r);
    ret->sum = yk_rd_u64(r);
    ret->len = yk_rd_u32(r);
    yk_rd_attrs(r, &ret->attrs);
    ret->key = yk_rd_str8(r, &ret->key_len);
    ret->parent = yk_rd_str8(r, &ret->parent_len);
    *ret_prefer = NULL;
    *ret_prefer_len = 0;
    if (ret->attrs.flags & YK_ATTR_PREFER)
        *ret_prefer = yk_rd_str8(r, ret_prefer_len);
}

/* What the first run of a frame has changed is durable before its answer, which was just written, is sent. */
static void settle_first(struct conn *c, const struct yk_frame *f) {
    if (c->answers != NULL && c->answers->ticket != 0)
        reply_settle(c, f->op, f->id, c->answers->ticket);
}

/* The items of a COMMIT. In the second run, when their copies have been seen to, they are only read. */
static void commit_items(struct conn *c, struct needs *needs, struct yk_rd *r, int32_t *statuses, uint32_t n) {
    struct yk_commit cm;
    const void *prefer;
    uint32_t prefer_len;
    if (!c->rerun)
        yk_store_drain(c->node->store);
    for (uint32_t i = 0; i < n; i++) {
        rd_commit(r, &cm, &prefer, &prefer_len);
        const struct yk_pool_found *said = c->rerun ? pool_answer(c, i) : NULL;
        statuses[i] = said != NULL ? said->status : -YK_EINTERNAL;
        if (r->bad || c->rerun)
            continue;
        statuses[i] = yk_store_commit(c->node->store, slot_of(c), c->ns, &cm);
        pool_copies(c, needs, &cm, prefer, prefer_len, 0, statuses, i, n);
    }
}

static int do_commit(struct conn *c, const struct yk_frame *f, struct yk_rd *r,
                     struct yk_err *err) {
    const void *body = r->at;
    uint32_t n = yk_rd_u32(r);
    uint32_t refill = yk_rd_u32(r);
    uint64_t refill_len = yk_rd_u64(r);
    struct yk_place places[YK_RESERVE_MAX];
    int32_t statuses[YK_BATCH_MAX];
    struct needs needs = {0};
    struct yk_wr w;
    if (n > YK_BATCH_MAX || refill > YK_RESERVE_MAX)
        return handle_bad_body(err, f);
    commit_items(c, &needs, r, statuses, n);
    if (needs.pending > 0) { /* a body that is cut short is found out in the second run */
        pool_copies_keep(c, &needs, statuses, n);
        return handle_needs_wait(c, &needs, f, body);
    }
    if (needs.token != 0)
        park_drop(c->node, needs.token);
    if (!yk_rd_ok(r))
        return handle_bad_body(err, f);
    int rc = reply_begin(c, 8u + n * 4u + YK_RESERVE_MAX * PLACE_BYTES, &w);
    if (rc < 0)
        return rc;
    yk_wr_u32(&w, n);
    for (uint32_t i = 0; i < n; i++)
        yk_wr_u32(&w, (uint32_t)statuses[i]);
    int got = 0;
    if (refill > 0 && slot_of(c) != YK_SHM_NONE && may_hold(c, refill_len))
        got = reserve_many(c, refill_len, refill, places, NULL);
    wr_places(&w, places, got > 0 ? (uint32_t)got : 0);
    reply_end(c, &w, f->op, f->id);
    settle_first(c, f);
    NODE_ADD(c->node, keys[f->op], n);
    return 0;
}

static int do_abort(struct conn *c, const struct yk_frame *f, struct yk_rd *r, struct yk_err *err) {
    uint32_t n = yk_rd_u32(r);
    struct yk_wr w;
    if (n > YK_BATCH_MAX)
        return handle_bad_body(err, f);
    int rc = reply_begin(c, 4u + n * 4u, &w);
    if (rc < 0)
        return rc;
    yk_wr_u32(&w, n);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t idx = yk_rd_u32(r);
        uint64_t gen = yk_rd_u64(r);
        if (r->bad)
            return handle_bad_body(err, f);
        yk_wr_u32(&w, (uint32_t)yk_store_abort(c->node->store, slot_of(c), idx, gen));
    }
    if (!yk_rd_ok(r))
        return handle_bad_body(err, f);
    reply_end(c, &w, f->op, f->id);
    return 0;
}

/* ---- PUT through the socket ---------------------------------------------------------------------
 */

/* 0 a place was reserved (or the put has failed: put.status), 1 it waits. */
int handle_put_begin(struct conn *c) {
    struct yk_err err = {0};
    c->put.status = c->ns == YK_NO_NS ? -YK_ENONS
                                      : yk_store_reserve(c->node->store, 0, c->put.len,
                                                         &c->put.place, &err);
    if (c->put.status != -YK_ENOSPC || yk_now_ns() >= c->put.deadline_ns)
        return 0;
    struct waiter w = {.conn = c,
                       .id = c->put.id,
                       .len = c->put.len,
                       .is_put = 1,
                       .deadline_ns = c->put.deadline_ns};
    if (node_wait(c->node, &w) < 0)
        return 0;
    c->put.status = 0;
    return 1;
}

/* -YK_EAGAIN: its turn may not evict any more, the place stays. */
static int put_commit(struct conn *c) {
    struct yk_store *store = c->node->store;
    const void *payload = (const char *)c->node->seg->data + c->put.place.offset;
    struct yk_commit cm = {
        .idx = c->put.place.idx,
        .gen = c->put.place.gen,
        .epoch = c->put.epoch,
        .sum = yk_hash64(payload, (size_t)c->put.len),
        .len = (uint32_t)c->put.len,
        .attrs = c->put.attrs,
        .key = c->put.key,
        .key_len = c->put.key_len,
        .parent = c->put.parent,
        .parent_len = c->put.parent_len,
    };
    if (c->put.sum != 0 && c->put.sum != cm.sum) {
        yk_store_abort(store, 0, cm.idx, cm.gen);
        return -YK_ECORRUPT;
    }
    yk_store_drain(store);
    return yk_store_commit(store, 0, c->ns, &cm);
}

/* 1: it waits for its copies, as a frame without a body. */
static int put_parked(struct conn *c) {
    struct yk_frame f = {.op = YK_MSG_PUT, .id = c->put.id};
    struct needs needs = {0};
    struct yk_commit cm = {
        .epoch = c->put.epoch, .attrs = c->put.attrs, .key = c->put.key, .key_len = c->put.key_len};
    int32_t status = c->put.status;
    c->begun_ns = yk_now_ns();
    pool_copies(c, &needs, &cm, c->put.prefer, c->put.prefer_len, c->put.deadline_ns, &status, 0, 1);
    c->put.status = status;
    if (needs.pending > 0) {
        pool_copies_keep(c, &needs, &status, 1);
        return handle_needs_wait(c, &needs, &f, "") == HANDLE_PARKED;
    }
    if (needs.token != 0)
        park_drop(c->node, needs.token);
    return 0;
}

/* Its answer, after that. */
static int put_answer(struct conn *c, const struct yk_frame *f) {
    const struct yk_pool_found *said = pool_answer(c, 0);
    int rc = reply_status(c, f->op, f->id, said != NULL ? said->status : -YK_EINTERNAL);
    if (rc == 0)
        settle_first(c, f);
    return rc;
}

static void put_done(struct conn *c) {
    if (c->put.status == -YK_EAGAIN) { /* its time is over */
        yk_store_abort(c->node->store, 0, c->put.place.idx, c->put.place.gen);
        c->put.status = -YK_ENOSPC;
    }
    c->state = CONN_OPEN;
    NODE_ADD(c->node, requests[YK_MSG_PUT], 1);
    NODE_ADD(c->node, keys[YK_MSG_PUT], 1);
    if (put_parked(c))
        return;
    uint64_t ticket = yk_store_ticket_take(c->node->store);
    if (reply_status(c, YK_MSG_PUT, c->put.id, c->put.status) < 0)
        conn_close(c);
    else if (ticket != 0)
        reply_settle(c, YK_MSG_PUT, c->put.id, ticket);
}

void handle_put_end(struct conn *c) {
    if (c->put.status == 0)
        c->put.status = put_commit(c);
    struct waiter w = {.conn = c, .id = c->put.id, .is_put = 1, .deadline_ns = c->put.deadline_ns};
    if (c->put.status == -YK_EAGAIN && node_wait(c->node, &w) == 0)
        c->state = CONN_WAIT;
    else
        put_done(c);
}

/* ---- NS, STATS ------------------------------------------------------------------------------- */

/* Can it be made at all? Else it fails as without a pool. */
static int ns_may(unsigned what, uint64_t arg, uint32_t len) {
    uint64_t most = what == YK_NS_RAISE       ? UINT64_MAX - 1u
                    : what == YK_NS_COPIES    ? YK_COPIES_MAX
                    : what == YK_NS_GUARANTEE ? INT64_MAX
                    : what == YK_NS_PRIORITY  ? YK_PRIORITY_MAX
                                              : UINT64_MAX;
    return len > 0 && len <= YK_NAMESPACE_MAX && what >= YK_NS_CREATE && what <= YK_NS_PRIORITY && arg <= most;
}

/* Of what is there already. */
static int ns_is_setting(unsigned what) {
    return what == YK_NS_COPIES || what == YK_NS_GUARANTEE || what == YK_NS_PRIORITY;
}

/* The cluster has made it, and told this node perhaps: then it is as it should be, or further. */
static int ns_made(const struct conn *c, unsigned what, int rc) {
    int twice = (what == YK_NS_RAISE && rc == -YK_ESTALE) || (what == YK_NS_REMOVE && rc == -YK_ENONS);
    return c->answers != NULL && twice ? 0 : rc;
}

static int ns_copies(const struct conn *c, uint32_t ns, uint64_t copies, struct yk_err *err) {
    if (c->node->pool == NULL)
        return yk_err_set(err, -YK_ENOTSUP, "the node is in no cluster: a block has one copy");
    if (copies > YK_COPIES_MAX)
        return yk_err_set(err, -YK_EINVAL, "found %llu copies, expected at most %u", (unsigned long long)copies, YK_COPIES_MAX);
    return yk_store_ns_set_copies(c->node->store, ns, (uint32_t)copies);
}

static int ns_guarantee(const struct conn *c, uint32_t ns, uint64_t bytes, struct yk_err *err) {
    if (bytes > INT64_MAX)
        return yk_err_set(err, -YK_EINVAL, "found %llu bytes, expected at most 2^63 - 1", (unsigned long long)bytes);
    return yk_store_ns_set_guarantee(c->node->store, ns, bytes);
}

static int ns_priority(const struct conn *c, uint32_t ns, uint64_t priority, struct yk_err *err) {
    if (priority > YK_PRIORITY_MAX)
        return yk_err_set(err, -YK_EINVAL, "found priority %llu, expected at most %u", (unsigned long long)priority,
                          YK_PRIORITY_MAX);
    return yk_store_ns_set_priority(c->node->store, ns, (uint32_t)priority);
}

static int do_ns(struct conn *c, const struct yk_frame *f, struct yk_rd *r, struct yk_err *err) {
    const void *body = r->at;
    uint32_t len, ns = 0;
    unsigned what = yk_rd_u8(r);
    uint64_t arg = yk_rd_u64(r);
    const void *name = yk_rd_str8(r, &len);
    struct yk_store *store = c->node->store;
    struct yk_err why = {0};
    if (!yk_rd_ok(r))
        return handle_bad_body(err, f);
    const struct yk_pool_found *said = pool_answer(c, 0);
    int rc = said != NULL ? said->status : 0;
    if (ns_is_setting(what) && !c->rerun && yk_store_ns_open(store, name, len, 0, &ns, &why) < 0)
        return reply_text(c, f, why.code, why.text); /* the cluster would make it */
    if (c->node->pool != NULL && !c->rerun && ns_may(what, arg, len))
        rc = pool_space(c, f, body, what, name, len, arg);
    if (rc == HANDLE_PARKED && !c->rerun)
        return rc;
    if (rc != 0) {
        space_failed(&why, rc < 0 ? rc : -YK_ENONS, name, len);
        return reply_text(c, f, why.code, why.text);
    }
    if (said != NULL && what == YK_NS_REMOVE) /* it is done; the name may be there again */
        return reply_text(c, f, 0, "");
    rc = yk_store_ns_open(store, name, len, what == YK_NS_CREATE, &ns, &why);
    if (rc == 0 && what == YK_NS_CREATE)
        rc = yk_store_ns_quota(store, ns, arg);
    else if (rc == 0 && what == YK_NS_RAISE) {
        rc = yk_store_ns_raise(store, ns, arg);
        if (rc == -YK_EINVAL)
            yk_err_set(&why, rc, "found epoch %llu, expected at most %llu", (unsigned long long)arg,
                       (unsigned long long)(UINT64_MAX - 1u));
        if (rc == -YK_ESTALE)
            yk_err_set(&why, rc, "namespace '%.*s' is at epoch %llu", (int)len, (const char *)name,
                       (unsigned long long)yk_store_ns_epoch(store, ns));
        else if (rc == -YK_EIO)
            epoch_lost(&why, name, len, arg);
    } else if (rc == 0 && what == YK_NS_REMOVE)
        rc = yk_store_ns_remove(store, ns);
    else if (rc == 0 && what == YK_NS_COPIES)
        rc = ns_copies(c, ns, arg, &why);
    else if (rc == 0 && what == YK_NS_GUARANTEE)
        rc = ns_guarantee(c, ns, arg, &why);
    else if (rc == 0 && what == YK_NS_PRIORITY)
        rc = ns_priority(c, ns, arg, &why);
    else if (rc == 0)
        rc = -YK_EINVAL;
    node_more(c->node);
    rc = ns_made(c, what, rc);
    return reply_text(c, f, rc, rc < 0 ? why.text : "");
}

static void put_ns_shares(struct yk_wr *w, const yk_ns_info *info) {
    yk_wr_u32(w, info->priority);
    yk_wr_u64(w, info->guarantee_bytes);
    yk_wr_u64(w, info->guaranteed_bytes);
    yk_wr_u64(w, info->share_bytes);
    yk_wr_u64(w, info->share_used_bytes);
    yk_wr_u32(w, (uint32_t)(info->share_hit_ratio * 1e6));
}

static int do_ns_list(struct conn *c, const struct yk_frame *f, struct yk_rd *r) {
    /* An older client takes no more than it knows. */
    unsigned with = yk_rd_left(r) > 0 ? yk_rd_u8(r) : 0;
    struct yk_wr w;
    yk_ns_info info;
    uint32_t n = 0;
    int rc = reply_begin(c, 8u + YK_SHM_NAMESPACES * (4u + sizeof(info)), &w);
    if (rc < 0)
        return rc;
    for (uint32_t i = 0; i < YK_SHM_NAMESPACES; i++)
        n += yk_store_ns_info(c->node->store, i, &info) == 0;
    yk_wr_u32(&w, 0);
    yk_wr_u32(&w, n);
    for (uint32_t i = 0; i < YK_SHM_NAMESPACES; i++) {
        if (yk_store_ns_info(c->node->store, i, &info) != 0)
            continue;
        yk_wr_str8(&w, info.name, strlen(info.name));
        yk_wr_u64(&w, info.epoch);
        yk_wr_u64(&w, info.quota_bytes);
        yk_wr_u64(&w, info.used_bytes);
        yk_wr_u64(&w, info.blocks);
    }
    for (uint32_t i = 0; i < YK_SHM_NAMESPACES && with > 0; i++)
        if (yk_store_ns_check(c->node->store, i) == 0)
            yk_wr_u8(&w, (uint8_t)yk_store_ns_copies(c->node->store, i));
    for (uint32_t i = 0; i < YK_SHM_NAMESPACES && with > 1; i++)
        if (yk_store_ns_info(c->node->store, i, &info) == 0)
            put_ns_shares(&w, &info);
    reply_end(c, &w, f->op, f->id);
    return 0;
}

static int do_stats(struct conn *c, const struct yk_frame *f) {
    struct yk_wr w;
    char *json = NULL;
    int rc = yk_node_stats_json(c->node, &json);
    if (rc < 0)
        return reply_status(c, f->op, f->id, rc);
    size_t len = strlen(json);
    rc = reply_begin(c, 8u + len, &w);
    if (rc == 0) {
        yk_wr_u32(&w, 0);
        yk_wr_u32(&w, (uint32_t)len);
        yk_wr_bytes(&w, json, len);
        reply_end(c, &w, f->op, f->id);
    }
    free(json);
    return rc;
}

/* ---- dispatch
 * ------------------------------------------------------------------------------------------ */

int handle_waiter(struct yk_node *node, struct waiter *w, uint64_t now_ns) {
    struct conn *c = w->conn;
    int over = now_ns >= w->deadline_ns;
    if (w->is_put && c->put.got == c->put.len) {
        c->put.status = put_commit(c);
        if (c->put.status == -YK_EAGAIN && !over)
            return 0;
        put_done(c);
        conn_resume(c);
        return 1;
    }
    if (w->is_put) {
        c->put.status = yk_store_reserve(node->store, 0, w->len, &c->put.place, NULL);
        if (c->put.status == -YK_ENOSPC && !over)
            return 0;
        c->state = c->put.status < 0 ? CONN_DROP : CONN_PUT;
        conn_resume(c);
        return 1;
    }
    struct yk_place places[YK_RESERVE_MAX];
    /* Who has said goodbye meanwhile has nothing that places could belong to. */
    int n = slot_of(c) == YK_SHM_NONE ? -YK_EGONE : reserve_many(c, w->len, w->count, places, NULL);
    if (n == -YK_ENOSPC && !over)
        return 0;
    if (n < 0)
        NODE_ADD(node, wait_timeouts, 1);
    if (reserve_reply(c, w->id, n, places) == 0)
        conn_flush(c);
    return 1;
}

/* Does it find out, or hand out, what this node holds? */
static int is_lookup(unsigned op) {
    return op == YK_MSG_GET || op == YK_MSG_LOOKUP || op == YK_MSG_EXISTS || op == YK_MSG_MATCH || op == YK_MSG_RAISE ||
           op == YK_MSG_PREFETCH || op == YK_MSG_LIST;
}

int handle_frame(struct conn *c, const struct yk_frame *f, struct yk_rd *r, struct yk_err *err) {
    c->shut = is_lookup(f->op) && yk_gate_is_shut(yk_store_view(c->node->store)->hdr);
    switch (f->op) {
    case YK_MSG_HELLO:
        return do_hello(c, f, r, err);
    case YK_MSG_BYE:
        return do_bye(c, f);
    case YK_MSG_PING:
        return do_ping(c, f, r);
    case YK_MSG_RESERVE:
        return do_reserve(c, f, r, err);
    case YK_MSG_COMMIT:
        return do_commit(c, f, r, err);
    case YK_MSG_ABORT:
        return do_abort(c, f, r, err);
    case YK_MSG_PUT: /* the second run of one; the first goes another way (conn.c) */
        return put_answer(c, f);
    case YK_MSG_GET:
        return handle_get(c, f, r, err);
    case YK_MSG_LOOKUP:
        return handle_lookup(c, f, r, err);
    case YK_MSG_EXISTS:
        return handle_exists(c, f, r, err);
    case YK_MSG_MATCH:
        return handle_match(c, f, r, err);
    case YK_MSG_CHANGE:
        return handle_change(c, f, r, err);
    case YK_MSG_REMOVE_MANY:
        return handle_remove_many(c, f, r, err);
    case YK_MSG_RAISE:
        return handle_raise(c, f, r, err);
    case YK_MSG_ANNOUNCE:
        return handle_announce(c, f, r, err);
    case YK_MSG_PREFETCH:
        return handle_prefetch(c, f, r, err);
    case YK_MSG_NS:
        return do_ns(c, f, r, err);
    case YK_MSG_NS_LIST:
        return do_ns_list(c, f, r);
    case YK_MSG_LIST:
        return handle_list(c, f, r, err);
    case YK_MSG_STATS:
        return do_stats(c, f);
    case YK_MSG_EXPLAIN:
        return handle_explain(c, f, r, err);
    case YK_MSG_DRAIN:
        yk_store_drain(c->node->store);
        return 0;
    default:
        return yk_err_set(err, -YK_EPROTO, "a %s frame is not a request", yk_wire_op_name(f->op));
    }
}

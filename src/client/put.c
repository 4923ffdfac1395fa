/* SPDX-License-Identifier: Apache-2.0
 *
 * Putting: into a place in the node's memory, or through the socket.
 *
 * A put looks first whether the block is there: engines recompute prefixes that another has put
 * already, and then hashing the source is all it costs. Else it takes a place that is held ahead,
 * copies and hashes in one pass, and queues the commit; the place is the client's alone, so all this
 * needs no lock. Nothing is visible before the commit, whatever happens on the way.
 *
 * Threads: any.
 */
#include "client/client_priv.h"

#include "base/copyhash.h"
#include "base/hash.h"
#include "client/fail.h"

#include <string.h>

/* ---- options ------------------------------------------------------------------------------------------------ */

int yk_opts_read(const void *opts, uint32_t size, void *ret, size_t known, const char *what) {
    if (size < 2 * sizeof(uint32_t) || size > 4096)
        return yk_fail(-YK_EINVAL, "%s: size is %u, expected %zu", what, size, known);
    if (yk_sized_has_more(opts, size, known))
        return yk_fail(-YK_ENOTSUP, "%s: fields beyond the first %zu bytes are set", what, known);
    memcpy(ret, opts, size < known ? size : known);
    return 0;
}

int yk_put_opts_read(const yk_put_opts *opts, yk_put_opts *ret) {
    memset(ret, 0, sizeof(*ret));
    return opts == NULL ? 0 : yk_opts_read(opts, opts->size, ret, sizeof(*ret), "yk_put_opts");
}

#define PREFER_MAX 63u /* bytes of a node's name */

static int has_prefer(const yk_put_opts *o) {
    return o->prefer != NULL && o->prefer[0] != 0;
}

static int check_opts(const yk_put_opts *o) {
    uint32_t known = YK_PUT_UPSERT | YK_PUT_HARD_PIN | YK_PUT_SOFT_PIN;
    if (o->flags & ~known)
        return yk_fail(-YK_EINVAL, "put flags %#x: %#x are not known", o->flags, o->flags & ~known);
    if ((o->flags & YK_PUT_HARD_PIN) && (o->flags & YK_PUT_SOFT_PIN))
        return yk_fail(-YK_EINVAL, "a put is pinned hard or soft, not both");
    if ((o->flags & YK_PUT_SOFT_PIN) && o->pin_ms == 0)
        return yk_fail(-YK_EINVAL, "a soft pin needs pin_ms");
    if (o->parent.len > YK_KEY_MAX || (o->parent.len > 0 && o->parent.data == NULL))
        return yk_fail(-YK_EKEY, "the parent key has %zu bytes, at most %u are allowed",
                       o->parent.len, YK_KEY_MAX);
    if (o->kind > 255)
        return yk_fail(-YK_EINVAL, "kind is %u, at most 255", o->kind);
    if (o->replicas > YK_COPIES_MAX)
        return yk_fail(-YK_EINVAL, "%u replicas, at most %u", o->replicas, YK_COPIES_MAX);
    if (o->prefer != NULL && strlen(o->prefer) > PREFER_MAX)
        return yk_fail(-YK_EINVAL, "the preferred node's name has %zu bytes, at most %u", strlen(o->prefer), PREFER_MAX);
    if (o->reserved != 0)
        return yk_fail(-YK_EINVAL, "yk_put_opts: reserved is %u, expected 0", o->reserved);
    if (o->tier != YK_TIER_ANY && o->tier != YK_TIER_DRAM)
        return yk_fail(-YK_ENOTSUP, "tier %u: blocks are put into DRAM, and the node moves them",
                       o->tier);
    return 0;
}

/* Room for head and info of a frame whose length has 32 bits. */
#define SOCKET_PUT_MAX (UINT32_MAX - 4096u)

int yk_put_check_len(const yk_client *c, uint64_t len) {
    uint64_t max = __atomic_load_n(&c->max_block_bytes, __ATOMIC_RELAXED);
    max = max < YK_BLOCK_MAX ? max : YK_BLOCK_MAX;
    if (len == 0)
        return yk_fail(-YK_EINVAL, "a block has at least 1 byte");
    if (len > max)
        return yk_fail(-YK_ETOOBIG, "the block has %llu bytes, the tier takes %llu at most",
                       (unsigned long long)len, (unsigned long long)max);
    if (len > SOCKET_PUT_MAX && __atomic_load_n(&c->map, __ATOMIC_RELAXED) == NULL)
        return yk_fail(-YK_ETOOBIG, "the block has %llu bytes, the socket takes %u at most",
                       (unsigned long long)len, SOCKET_PUT_MAX);
    return 0;
}

int yk_put_check_opts(const yk_put_opts *opts) {
    yk_put_opts o;
    int rc = yk_put_opts_read(opts, &o);
    return rc < 0 ? rc : check_opts(&o);
}

int yk_put_check(const yk_client *c, const yk_op *op) {
    int rc = yk_put_check_opts(op->put);
    return rc < 0 ? rc : yk_put_check_len(c, yk_iov_len(op->iov, op->iov_count));
}

static void put_attrs(const yk_put_opts *o, struct yk_attrs *ret) {
    memset(ret, 0, sizeof(*ret));
    ret->flags = o->flags | YK_ATTR_WITH_COPIES(o->replicas) | (has_prefer(o) ? YK_ATTR_PREFER : 0);
    ret->depth_tokens = o->depth_tokens;
    ret->length_tokens = o->length_tokens;
    ret->model = o->model;
    ret->ttl_ms = o->ttl_ms;
    ret->pin_ms = o->pin_ms;
    ret->session = o->session;
    ret->kind = (uint8_t)o->kind;
}

void yk_put_tail(struct yk_wr *w, const yk_put_opts *o, yk_key key) {
    struct yk_attrs a;
    put_attrs(o, &a);
    yk_wr_attrs(w, &a);
    yk_wr_str8(w, key.data, key.len);
    yk_wr_str8(w, o->parent.data, o->parent.len);
    if (a.flags & YK_ATTR_PREFER)
        yk_wr_str8(w, o->prefer, strlen(o->prefer));
}

/* ---- one put ------------------------------------------------------------------------------------------------- */

/* What the put asks for and the block that is there does not have. */
static uint8_t fixes(const yk_put_opts *o, const struct yk_found *found) {
    uint8_t fix = 0;
    if (o->ttl_ms != 0 || found->desc.expiry_ms != 0)
        fix |= YK_FIX_EXPIRE;
    if ((o->flags & YK_PUT_SOFT_PIN) ||
        ((o->flags & YK_PUT_HARD_PIN) && found->rest.pin_until_ms != YK_PIN_HARD))
        fix |= YK_FIX_PIN;
    return fix;
}

static int same_bytes(yk_client *c, const yk_op *op, struct yk_map *m, const struct yk_found *found,
                      uint8_t *ret_fix) {
    yk_put_opts o;
    yk_put_opts_read(op->put, &o);
    if (found->desc.len == yk_iov_len(op->iov, op->iov_count) &&
        yk_hash64v(op->iov, op->iov_count) == found->rest.sum) {
        *ret_fix = fixes(&o, found);
        yk_local_access(c, m, found); /* as the node counts a put of what is there */
        return *ret_fix != 0 ? YK_PENDING : 0;
    }
    return (o.flags & YK_PUT_UPSERT) ? YK_PENDING : -YK_ECONFLICT;
}

/* Of a put that names no number. A handle that only looks may have no namespace. */
static int wants_copies(const struct yk_map *m) {
    uint32_t ns = yk_map_ns(m);
    return ns < m->view.layout.max_namespaces && __atomic_load_n(&m->view.ns[ns].copies, __ATOMIC_RELAXED) > 1;
}

int yk_put_try(yk_client *c, const yk_op *op, uint8_t *ret_fix) {
    struct yk_found found;
    yk_put_opts o;
    *ret_fix = 0;
    yk_put_opts_read(op->put, &o);
    if (o.replicas > 1 || has_prefer(&o))
        return YK_PENDING; /* what is here says nothing of the others */
    struct yk_map *m = yk_map_enter(&c->map);
    if (m == NULL)
        return YK_PENDING;
    int rc = o.replicas == 0 && wants_copies(m) ? YK_MISS : yk_local_find_in(c, m, op->key, &found);
    /* A block that may be damaged is the node's to judge: it has its bytes, and soon ours. */
    if (rc == 0 && YK_WORD_STATE(found.word) != YK_DESC_SUSPECT)
        rc = same_bytes(c, op, m, &found, ret_fix);
    else
        rc = YK_PENDING;
    yk_map_leave(m);
    return rc;
}

/* Without a map: into a place that the engine writes to? */
static int goes_far(const yk_client *c, const struct yk_rec *rec) {
    return rec->len > __atomic_load_n(&c->far.inline_max, __ATOMIC_RELAXED) && !rec->through &&
           yk_far_is_up(&c->far) && rec->op->opcode == YK_OP_PUT;
}

/* Through the socket: the node checks the sum. */
static void put_through(yk_client *c, struct yk_rec *rec) {
    rec->sum = yk_hash64v(rec->op->iov, rec->op->iov_count);
    if (!yk_rec_lock(c, rec))
        return;
    if (rec->in_place) /* the engine was to write it */
        yk_place_give_back(c, rec);
    yk_rec_enqueue(c, rec, YK_Q_PUT);
    pthread_mutex_unlock(&c->lock);
}

int yk_place_take(yk_client *c, struct yk_rec *rec) {
    struct yk_rsv stale;
    if (!yk_rec_lock(c, rec))
        return 0;
    if (rec->in_place && !yk_place_is_valid(c, rec))
        yk_rec_drop_place(rec); /* granted in a segment that is gone, or on a connection */
    int places = c->map != NULL || goes_far(c, rec);
    if (!rec->in_place && places && yk_hold_take(&c->hold, rec->len, &rec->rsv)) {
        rec->map = yk_map_enter_write(&c->map);
        rec->conn = c->conn_number;
        rec->in_place = 1;
    }
    while (c->recs_left > 0 && yk_hold_stale(&c->hold, &stale))
        yk_rec_give_back(c, &stale);
    int placed = rec->in_place;
    if (placed)
        rec->io = 1;
    else if (c->map == NULL && rec->op->opcode == YK_OP_RESERVE)
        yk_rec_end(c, rec, -YK_ENOTSUP);
    else if (places)
        yk_rec_enqueue(c, rec, YK_Q_RESERVE);
    else
        yk_rec_runnable(c, rec); /* the way there was a moment ago is gone */
    pthread_mutex_unlock(&c->lock);
    return placed; /* if not, the record is out of our hands */
}

/* It has a place: the engine shall write there. The hash is computed while others' bytes move. */
static void put_far(yk_client *c, struct yk_rec *rec) {
    rec->sum = yk_hash64v(rec->op->iov, rec->op->iov_count);
    if (!yk_rec_lock(c, rec))
        return;
    rec->guard = (yk_xfer_guard){
        .descriptor = rec->rsv.idx, .generation = rec->rsv.gen, .epoch = rec->epoch};
    rec->place = rec->rsv.offset;
    rec->moving = rec->len;
    rec->at = 0;
    rec->load = 1;
    yk_rec_runnable(c, rec);
    pthread_mutex_unlock(&c->lock);
}

void yk_put_written(yk_client *c, struct yk_rec *rec) {
    if (!yk_rec_lock(c, rec))
        return;
    rec->written = 0;
    if (yk_place_is_valid(c, rec)) {
        yk_rec_enqueue(c, rec, YK_Q_COMMIT);
    } else { /* it ended with its connection */
        yk_rec_drop_place(rec);
        rec->through = 1;
        yk_rec_runnable(c, rec);
    }
    pthread_mutex_unlock(&c->lock);
}

void yk_put_run(yk_client *c, struct yk_rec *rec) {
    const yk_op *op = rec->op;
    if (__atomic_load_n(&c->map, __ATOMIC_RELAXED) == NULL && !goes_far(c, rec)) {
        put_through(c, rec);
        return;
    }
    if (!yk_place_take(c, rec))
        return;
    if (rec->map == NULL) {
        put_far(c, rec);
        return;
    }
    yk_map_populate(rec->map, rec->rsv.offset, rec->len, 1);
    rec->sum = yk_copyv_hash(rec->map->rw + rec->rsv.offset, op->iov, op->iov_count);
    int lost = yk_map_lost(rec->map);
    if (!yk_rec_lock(c, rec))
        return;
    if (lost)
        yk_rec_end(c, rec, -YK_EIO); /* the bytes went into pages that nobody else has */
    else if (rec->map != c->map)
        yk_rec_runnable(c, rec);
    else
        yk_rec_enqueue(c, rec, YK_Q_COMMIT);
    pthread_mutex_unlock(&c->lock);
}

int yk_putv(yk_client *c, yk_key key, const struct iovec *iov, int iov_count,
            const yk_put_opts *opts) {
    yk_op op = {.opcode = YK_OP_PUT, .key = key, .iov = iov, .iov_count = iov_count, .put = opts};
    int rc = yk_client_enter(c);
    if (rc == 0)
        rc = yk_op_check(c, &op);
    if (rc < 0)
        return rc;
    yk_put_opts o;
    yk_put_opts_read(opts, &o);
    yk_ops_run(c, &op, 1, yk_client_deadline(c, o.timeout_ms));
    return op.status < 0 ? yk_fail_put(op.status, "put", key.data, key.len) : op.status;
}

int yk_put(yk_client *c, yk_key key, const void *data, size_t len, const yk_put_opts *opts) {
    struct iovec iov = {(void *)(uintptr_t)data, len};
    return yk_putv(c, key, &iov, 1, opts);
}

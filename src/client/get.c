/* SPDX-License-Identifier: Apache-2.0
 *
 * Looking up and getting from the node's mapped memory: no message, no system call, no lock.
 *
 * What is pinned stays: a get copies out of it, a reference hands it out. Checksums are compared
 * where the caller asked for it and where the block may have been damaged by an unclean stop
 * (SUSPECT); a block that fails is reported and is a miss. When the index cannot be read (the node
 * stopped in the middle of a change) the answer is -YK_EAGAIN, and the caller asks the node.
 *
 * A block that DRAM has not may be in a tier below (map.h), or on another node. Lookups ask the node then; gets and
 * references have it raised (RAISE), find it in DRAM when that is answered, and verify it while they
 * copy: it comes up as SUSPECT.
 *
 * Only gets and references count as accesses: a scheduler that asks what is there must not keep it
 * alive by asking.
 *
 * Threads: any.
 */
#include "client/client_priv.h"

#include "base/clock.h"
#include "base/copyhash.h"
#include "base/hash.h"
#include "client/fail.h"
#include "shm/gate.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

/* The clock for expiry: yk_view_now_ms for a fraction of its price, which was a quarter of a lookup.
 * The coarse clock lags by a scheduler tick at most, so a block may be found 4 ms longer. */
uint64_t yk_local_now_ms(const struct yk_map *m) {
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME_COARSE, &ts);
    uint64_t wall = (uint64_t)ts.tv_sec * 1000u + (uint64_t)ts.tv_nsec / YK_NS_PER_MS;
    uint64_t seen = __atomic_load_n(&m->view.hdr->clock_ms, __ATOMIC_RELAXED);
    return wall > seen ? wall : seen;
}

static struct yk_query query(const yk_client *c, const struct yk_map *m, yk_key key) {
    uint32_t ns = yk_map_ns(m);
    return (struct yk_query){yk_hash_key(ns, key.data, key.len), yk_client_epoch(c), key.data,
                             (uint32_t)key.len, ns};
}

void yk_found_info(const struct yk_found *f, yk_block_info *ret) {
    const struct yk_desc *d = &f->desc;
    const struct yk_rest *rest = &f->rest;
    memset(ret, 0, sizeof(*ret));
    ret->len = d->len;
    ret->checksum = rest->sum;
    ret->generation = YK_WORD_GEN(f->word);
    ret->epoch = d->epoch;
    ret->expiry_ms = d->expiry_ms;
    ret->session = rest->session;
    ret->tiers = 1u << (f->slow ? YK_TIER_CXL : YK_TIER_DRAM) | (rest->ssd != 0 ? 1u << YK_TIER_SSD : 0u);
    ret->depth_tokens = rest->depth_tokens;
    ret->length_tokens = rest->length_tokens;
    ret->model = rest->model;
    ret->kind = d->kind;
    ret->children = rest->children == YK_CHILDREN_RETIRING ? 0 : rest->children;
    ret->pinned = rest->pin_until_ms == YK_PIN_HARD
                      ? 2
                      : rest->pin_until_ms != 0 && rest->pin_until_ms > yk_boot_ms();
    ret->has_parent = rest->parent != YK_SHM_NONE;
}

/* Cuts the list to len bytes. iov has room for count entries. */
static int iov_cut(const struct iovec *iov, int count, uint64_t len, struct iovec *ret) {
    struct yk_cursor cur;
    yk_cursor_init(&cur, iov, count, 0);
    return yk_cursor_peek(&cur, len, ret, count);
}

int yk_iov_hash(const struct iovec *iov, int count, uint64_t len, uint64_t *ret_hash) {
    struct iovec few[16], *cut = few;
    if (count > 16) {
        cut = malloc((size_t)count * sizeof(*cut));
        if (cut == NULL)
            return -YK_ENOMEM;
    }
    *ret_hash = yk_hash64v(cut, iov_cut(iov, count, len, cut));
    if (cut != few)
        free(cut);
    return 0;
}

/* ---- finding, pinning ----------------------------------------------------------------------------------- */

static int find(struct yk_map *m, const struct yk_query *q, struct yk_found *ret_found) {
    uint64_t gate = yk_gate_enter(m->view.hdr);
    int rc = yk_map_lost(m) ? YK_MISS : yk_view_find(&m->view, q, yk_local_now_ms(m), ret_found);
    if (rc == -YK_EAGAIN)
        yk_map_count(m, YK_COUNT_RETRY, 1);
    return rc == 0 && !yk_gate_passed(m->view.hdr, gate) ? YK_MISS : rc;
}

/* Of what DRAM has not. A node whose gate is shut need not be asked: it finds nothing, and may be stopped. */
static int may_be_below(const struct yk_map *m, uint64_t hash) {
    return yk_map_lower_maybe(m, hash) && !yk_map_lost(m) && !yk_gate_is_shut(m->view.hdr);
}

int yk_local_find_in(yk_client *c, struct yk_map *m, yk_key key, struct yk_found *ret_found) {
    struct yk_query q = query(c, m, key);
    return find(m, &q, ret_found);
}

int yk_local_find(yk_client *c, yk_key key, struct yk_found *ret_found) {
    struct yk_map *m = yk_map_enter(&c->map);
    if (m == NULL)
        return -YK_EAGAIN;
    struct yk_query q = query(c, m, key);
    int rc = find(m, &q, ret_found);
    if (rc == YK_MISS && may_be_below(m, q.hash))
        rc = -YK_EAGAIN;
    yk_map_leave(m);
    return rc;
}

void yk_local_drain(yk_client *c, struct yk_map *m) {
    /* Never waits for the lock: the next event asks again. */
    if (pthread_mutex_trylock(&c->lock) != 0) {
        yk_map_ask_again(m);
        return;
    }
    c->want_drain = 1;
    yk_conn_flush(c);
    yk_conn_unlock(c);
}

static void event(yk_client *c, struct yk_map *m, enum yk_event_kind kind,
                  const struct yk_found *f) {
    if (yk_map_event(m, YK_EVENT(kind, f->rest.birth, f->idx)))
        yk_local_drain(c, m);
}

void yk_local_access(yk_client *c, struct yk_map *map, const struct yk_found *found) {
    event(c, map, YK_EVENT_ACCESS, found);
}

int yk_local_must_verify(const yk_client *c, const struct yk_pin *pin) {
    return (c->flags & YK_OPEN_VERIFY) || YK_WORD_STATE(pin->found.word) == YK_DESC_SUSPECT;
}

/* A corrupt block is dropped by the node, which looks again itself; it is asked to at once. */
static void report_corrupt(yk_client *c, const struct yk_pin *pin) {
    yk_map_count(pin->map, YK_COUNT_VERIFY_FAIL, 1);
    event(c, pin->map, YK_EVENT_CORRUPT, &pin->found);
    pthread_mutex_lock(&c->lock);
    c->want_drain = 1;
    yk_conn_flush(c);
    yk_conn_unlock(c);
}

int yk_local_verify(yk_client *c, const struct yk_pin *pin, uint64_t hash) {
    if (hash != pin->found.rest.sum) {
        if (!yk_map_lost(pin->map))
            report_corrupt(c, pin);
        return YK_MISS;
    }
    if (YK_WORD_STATE(pin->found.word) == YK_DESC_SUSPECT)
        event(c, pin->map, YK_EVENT_VERIFIED, &pin->found);
    return 0;
}

void yk_local_unpin(struct yk_pin *pin) {
    yk_map_leave_pin(pin->map, pin->slot);
}

static int verify_in_place(yk_client *c, const struct yk_pin *pin) {
    uint64_t offset = pin->found.rest.offset, len = pin->found.desc.len;
    yk_map_populate(pin->map, offset, len, 0);
    return yk_local_verify(c, pin, yk_hash64(pin->map->view.data + offset, len));
}

int yk_local_pin(yk_client *c, yk_key key, int in_place, struct yk_pin *ret) {
    int full;
    struct yk_map *m = yk_map_enter_pin(&c->map, &ret->slot, &full);
    if (m == NULL)
        return full ? -YK_ELIMIT : -YK_EAGAIN;
    struct yk_query q = query(c, m, key);
    ret->map = m;
    ret->gate = yk_gate_enter(m->view.hdr);
    int rc = yk_map_lost(m) ? YK_MISS
                            : yk_view_pin(&m->view, &q, yk_local_now_ms(m),
                                          yk_map_hazard(m, ret->slot), &ret->found);
    if (rc == 0) {
        __atomic_store_n(&m->len[ret->slot], ret->found.desc.len, __ATOMIC_RELAXED);
        if (in_place && yk_local_must_verify(c, ret))
            rc = verify_in_place(c, ret);
    } else if (rc == YK_MISS && may_be_below(m, q.hash))
        rc = YK_PENDING;
    if (rc == -YK_EAGAIN)
        yk_map_count(m, YK_COUNT_RETRY, 1);
    else if (rc == YK_MISS)
        yk_map_count(m, YK_COUNT_MISS, 1);
    if (rc != 0)
        yk_local_unpin(ret);
    return rc;
}

/* The last look, when what was pinned is about to be handed out. */
static int may_hand_out(const struct yk_pin *pin) {
    return yk_gate_passed(pin->map->view.hdr, pin->gate);
}

/* ---- get -------------------------------------------------------------------------------------------------- */

static void copy_out(const struct iovec *iov, int count, const unsigned char *from, uint64_t len) {
    for (int i = 0; i < count && len > 0; i++) {
        size_t n = iov[i].iov_len < len ? iov[i].iov_len : (size_t)len;
        yk_copy(iov[i].iov_base, from, n);
        from += n;
        len -= n;
    }
}

/* The same, and the hash of what was written: in one pass where it is in one piece, which costs a fifth
 * less (64 KiB to 4 MiB). 0 or -YK_ENOMEM. */
static int copy_out_hash(const struct iovec *iov, int count, const unsigned char *from,
                         uint64_t len, uint64_t *ret_hash) {
    if (count > 0 && iov[0].iov_len >= len) {
        *ret_hash = yk_copy_hash(iov[0].iov_base, from, len);
        return 0;
    }
    copy_out(iov, count, from, len);
    return yk_iov_hash(iov, count, len, ret_hash);
}

/* What a get takes of a block: 0 with offset and length, or why it cannot. */
static int get_part(yk_op *op, const struct yk_desc *d, uint64_t *ret_at, uint64_t *ret_len) {
    uint64_t room = yk_iov_len(op->iov, op->iov_count);
    if (op->opcode == YK_OP_GET_RANGE) {
        if (op->arg > d->len || room > d->len - op->arg)
            return -YK_EINVAL;
        *ret_at = op->arg;
        *ret_len = room;
        return 0;
    }
    *ret_at = 0;
    *ret_len = op->len = d->len;
    return room < d->len ? -YK_ETOOBIG : 0;
}

int yk_local_get(yk_client *c, yk_op *op) {
    struct yk_pin pin;
    uint64_t at, len, hash;
    int range = op->opcode == YK_OP_GET_RANGE;
    int rc = yk_local_pin(c, op->key, range, &pin);
    if (rc != 0)
        return rc == -YK_ELIMIT ? -YK_EAGAIN : rc; /* no slot: the node pins for us */
    rc = get_part(op, &pin.found.desc, &at, &len);
    if (rc == 0) {
        const unsigned char *from = yk_map_payload(pin.map, pin.found.rest.offset + at, len);
        if (!range && yk_local_must_verify(c, &pin)) {
            rc = copy_out_hash(op->iov, op->iov_count, from, len, &hash);
            if (rc == 0)
                rc = yk_local_verify(c, &pin, hash);
        } else {
            copy_out(op->iov, op->iov_count, from, len);
        }
        /* Pages of a truncated segment were replaced by zeros under the copy. */
        if (yk_map_lost(pin.map) || !may_hand_out(&pin))
            rc = YK_MISS;
    }
    if (rc == 0) {
        op->len = len;
        yk_map_count(pin.map, YK_COUNT_HIT, 1);
        yk_map_count(pin.map, YK_COUNT_HIT_BYTES, len);
        event(c, pin.map, YK_EVENT_ACCESS, &pin.found);
    } else if (rc == YK_MISS) {
        yk_map_count(pin.map, YK_COUNT_MISS, 1);
    }
    yk_local_unpin(&pin);
    return rc;
}

int yk_local_look(yk_client *c, yk_op *op) {
    struct yk_found found;
    int rc = yk_local_find(c, op->key, &found);
    if (rc == 0 && op->opcode == YK_OP_STAT && op->info != NULL) {
        yk_block_info info;
        yk_found_info(&found, &info);
        yk_sized_copy(op->info, yk_op_info_size(op), &info, sizeof(info));
    }
    return rc;
}

/* One operation, here or by the node. */
static int get_one(yk_client *c, yk_op *op, const char *what) {
    int rc = yk_op_check(c, op);
    if (rc < 0)
        return rc;
    rc = yk_local_get(c, op);
    if (rc == -YK_EAGAIN || rc == YK_PENDING) {
        yk_ops_run(c, op, 1, yk_client_deadline(c, 0));
        rc = op->status;
    }
    if (rc == -YK_ETOOBIG)
        return yk_fail(rc, "the block has %llu bytes, the buffer %zu", (unsigned long long)op->len,
                       yk_iov_len(op->iov, op->iov_count));
    if (rc == -YK_EINVAL)
        return yk_fail(rc, "bytes %llu to %llu are not all in the block",
                       (unsigned long long)op->arg,
                       (unsigned long long)op->arg + yk_iov_len(op->iov, op->iov_count));
    return rc < 0 ? yk_fail_key(rc, "get", op->key.data, op->key.len) : rc;
}

int yk_getv(yk_client *c, yk_key key, const struct iovec *iov, int iov_count, size_t *ret_len) {
    yk_op op = {.opcode = YK_OP_GET, .key = key, .iov = iov, .iov_count = iov_count};
    int rc = yk_client_enter(c);
    if (rc == 0)
        rc = get_one(c, &op, "get");
    if (ret_len != NULL && (rc == 0 || rc == -YK_ETOOBIG))
        *ret_len = (size_t)op.len;
    return rc;
}

int yk_get(yk_client *c, yk_key key, void *buf, size_t cap, size_t *ret_len) {
    struct iovec iov = {buf, cap};
    return yk_getv(c, key, &iov, 1, ret_len);
}

int yk_get_range(yk_client *c, yk_key key, uint64_t offset, void *buf, size_t len) {
    struct iovec iov = {buf, len};
    yk_op op = {.opcode = YK_OP_GET_RANGE, .key = key, .iov = &iov, .iov_count = 1, .arg = offset};
    int rc = yk_client_enter(c);
    return rc < 0 ? rc : get_one(c, &op, "get");
}

/* ---- references ---------------------------------------------------------------------------------------- */

/* priv[0] map, priv[1] hazard slot + 1; or priv[0] 0, priv[1] a private copy. */

int yk_local_ref(yk_client *c, yk_op *op) {
    struct yk_pin pin;
    memset(op->ref, 0, sizeof(*op->ref));
    int rc = yk_local_pin(c, op->key, 1, &pin);
    if (rc != 0)
        return rc;
    if (!may_hand_out(&pin)) {
        yk_map_count(pin.map, YK_COUNT_MISS, 1);
        yk_local_unpin(&pin);
        return YK_MISS;
    }
    const struct yk_desc *d = &pin.found.desc;
    *op->ref = (yk_ref){pin.map->view.data + pin.found.rest.offset,
                        d->len,
                        pin.found.rest.sum,
                        {(uint64_t)(uintptr_t)pin.map, pin.slot + 1u}};
    op->len = d->len;
    yk_map_count(pin.map, YK_COUNT_HIT, 1);
    yk_map_count(pin.map, YK_COUNT_HIT_BYTES, d->len);
    event(c, pin.map, YK_EVENT_ACCESS, &pin.found);
    return 0;
}

static void ref_drop(yk_ref *ref) {
    if (ref->priv[1] == 0)
        return;
    if (ref->priv[0] == 0)
        free((void *)(uintptr_t)ref->priv[1]);
    else
        yk_map_leave_pin((struct yk_map *)(uintptr_t)ref->priv[0], (uint32_t)ref->priv[1] - 1u);
    memset(ref, 0, sizeof(*ref));
}

/* What was pinned, or received, before the operation was to end otherwise goes. */
void yk_ref_end(struct yk_rec *rec, int status) {
    void *copy = rec->copy.iov_base;
    if (rec->queue == YK_Q_GET && status == 0) {
        *rec->op->ref = (yk_ref){copy, (size_t)rec->len, rec->sum, {0, (uint64_t)(uintptr_t)copy}};
    } else {
        free(copy);
        if (status != 0)
            ref_drop(rec->op->ref);
    }
    rec->copy.iov_base = NULL;
}

int yk_ref_get(yk_client *c, yk_key key, yk_ref *ret_ref) {
    yk_ref ref;
    yk_op op = {.opcode = YK_OP_REF, .key = key, .ref = &ref};
    int rc = yk_client_enter(c);
    if (rc == 0)
        rc = yk_client_check_key(key);
    if (rc == 0 && ret_ref == NULL)
        rc = yk_fail(-YK_EINVAL, "yk_ref_get: ret_ref is NULL");
    if (rc < 0)
        return rc;
    rc = yk_local_ref(c, &op);
    if (rc == -YK_EAGAIN || rc == YK_PENDING) {
        yk_ops_run(c, &op, 1, yk_client_deadline(c, 0));
        rc = op.status;
    }
    if (rc == 0)
        *ret_ref = ref;
    if (rc == -YK_ELIMIT)
        return yk_fail(rc, "%u references of this handle are held", YK_SHM_HAZARDS);
    return rc < 0 ? yk_fail_key(rc, "get", key.data, key.len) : rc;
}

void yk_ref_release(yk_client *c, yk_ref *ref) {
    if (ref != NULL && ref->priv[1] != 0 && yk_client_enter(c) == 0)
        ref_drop(ref);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * CHANGE and REMOVE_MANY: changes of blocks that are there. Those that take longer than a turn of the
 * loop may (verifications, removals by pattern) are jobs, which the loop takes further in steps.
 *
 * Of a node with a pool a key is removed everywhere, and by the pool, this node's own block too: the frame waits
 * for all of its removals, and then does what else it asks for. Removals by pattern are this node's alone.
 */
#include "node/conn_priv.h"

#include "base/clock.h"

#include <stdlib.h>
#include <string.h>

/* Is it in DRAM or on its way there, or (a pin) may it be brought from elsewhere? Verified is what is here. */
static void change_need(struct conn *c, struct needs *needs, unsigned what, uint64_t epoch,
                        const void *key, uint32_t len) {
    uint32_t idx;
    if (what == YK_CHANGE_PIN ||
        (len > 0 && yk_store_find_any(c->node->store, c->ns, epoch, key, len, &idx) == 0))
        handle_need(c, needs, epoch, key, len, YK_SSD_PRIO_DEMAND, 0);
}

/* Whoever wanted it removed has gone on, and may have put it again: this node stood still, with the frame before it. Only
 * a client of this host has this node's clock. */
static int is_late(const struct conn *c, unsigned what, uint64_t until_ms) {
    return what == YK_CHANGE_REMOVE && c->mapped && until_ms != 0 && yk_boot_ms() >= until_ms;
}

/* Pins and verifications of blocks that are on SSD alone: those come up before anything of the frame is
 * done, so that its order is kept. Removals by the pool are asked for. */
static int change_needs(struct conn *c, const struct yk_frame *f, struct yk_rd r, uint64_t epoch,
                        uint32_t n, const void *body) {
    struct needs needs = {0};
    int more = yk_store_ssd(c->node->store) != NULL || c->node->pool != NULL;
    for (uint32_t i = 0; i < n && more && !c->rerun; i++) {
        uint32_t len;
        unsigned what = yk_rd_u8(&r);
        uint64_t arg = yk_rd_u64(&r);
        const void *key = yk_rd_str8(&r, &len);
        if (r.bad)
            break; /* said when it is read in earnest */
        if (what == YK_CHANGE_PIN || what == YK_CHANGE_VERIFY)
            change_need(c, &needs, what, epoch, key, len);
        else if (what == YK_CHANGE_REMOVE && len > 0 && pool_serves(c, epoch) && !is_late(c, what, arg))
            pool_remove(c, &needs, epoch, key, len, c->mapped ? arg : 0, i, n);
    }
    return handle_needs_wait(c, &needs, f, body);
}

/* One change that is made at once; of a removal by the pool, what became of it. */
static int change(struct conn *c, uint64_t epoch, unsigned what, uint64_t arg, const void *key,
                  uint32_t len, uint32_t at) {
    const struct yk_pool_found *said = what == YK_CHANGE_REMOVE ? pool_answer(c, at) : NULL;
    if (said != NULL)
        return said->status;
    if (is_late(c, what, arg))
        return -YK_ETIMEDOUT;
    if (what == YK_CHANGE_REMOVE && len > 0 && pool_governs(c, epoch))
        return -YK_EAGAIN; /* it could not be asked, or has ended: removed here alone, the block would come back */
    return yk_store_change(c->node->store, c->ns, epoch, what, arg, key, len);
}

static int rd_change(struct yk_rd *r, unsigned *ret_what, uint64_t *ret_arg, const void **ret_key,
                     uint32_t *ret_len) {
    *ret_what = yk_rd_u8(r);
    *ret_arg = yk_rd_u64(r);
    *ret_key = yk_rd_str8(r, ret_len);
    return !r->bad;
}

void handle_changes_free(struct yk_node *node, struct job *j) {
    if (j->changes != NULL && j->changes->verifying)
        yk_store_verify_end(node->store, &j->changes->verify);
    free(j->changes);
    j->changes = NULL;
}

/* Hashes for a bounded while. Who asked and left is not worth it. */
int handle_changes_step(struct yk_node *node, struct job *j, uint64_t budget_bytes) {
    struct changes *ch = j->changes;
    while (j->conn != NULL && ch->done < ch->n) {
        int rc = YK_PENDING;
        if (!ch->verifying) {
            unsigned what;
            uint64_t arg;
            const void *key;
            uint32_t len;
            rd_change(&ch->rest, &what, &arg, &key, &len); /* was looked at when the job began */
            if (what == YK_CHANGE_VERIFY)
                rc = yk_store_verify_begin(node->store, j->ns, ch->epoch, key, len, &ch->verify);
            else if (what == YK_CHANGE_REMOVE && ch->removed)
                rc = (int)ch->statuses[ch->done];
            else
                rc = yk_store_change(node->store, j->ns, ch->epoch, what, arg, key, len);
            ch->verifying = what == YK_CHANGE_VERIFY && rc == 0;
        }
        if (ch->verifying) {
            rc = yk_store_verify_step(node->store, &ch->verify, &budget_bytes);
            if (rc == YK_PENDING)
                return 0;
            yk_store_verify_end(node->store, &ch->verify);
            ch->verifying = 0;
        }
        ch->statuses[ch->done++] = (uint32_t)rc;
        if (budget_bytes == 0 && ch->done < ch->n)
            return 0;
    }
    return 1;
}

static void changes_done(struct yk_node *node, struct job *j) {
    const struct changes *ch = j->changes;
    struct yk_wr w;
    if (j->conn != NULL && reply_begin(j->conn, 4u + ch->n * 4u, &w) == 0) {
        yk_wr_u32(&w, ch->n);
        for (uint32_t i = 0; i < ch->n; i++)
            yk_wr_u32(&w, ch->statuses[i]);
        reply_end(j->conn, &w, YK_MSG_CHANGE, j->id);
        if (j->ticket != 0)
            reply_settle(j->conn, YK_MSG_CHANGE, j->id, j->ticket);
        NODE_ADD(node, keys[YK_MSG_CHANGE], ch->n);
        conn_flush(j->conn);
    }
    handle_changes_free(node, j);
}

/* Takes the pool's answers along: they go with the request. */
static void removals_take(struct conn *c, struct changes *ch) {
    struct yk_rd r = ch->rest;
    ch->removed = 1;
    for (uint32_t i = 0; i < ch->n; i++) {
        unsigned what;
        uint64_t arg;
        const void *key;
        uint32_t len;
        rd_change(&r, &what, &arg, &key, &len);
        if (what == YK_CHANGE_REMOVE)
            ch->statuses[i] = (uint32_t)change(c, ch->epoch, what, arg, key, len, i);
    }
}

/* Verifying reads payload, of many blocks perhaps: the items become a job. */
static int changes_begin(struct conn *c, uint64_t id, uint64_t epoch, uint32_t n,
                         struct yk_rd *items) {
    struct yk_node *node = c->node;
    size_t left = yk_rd_left(items);
    if (node->job_count == JOBS_MAX)
        return -YK_EAGAIN;
    struct changes *ch = calloc(1, sizeof(*ch) + (size_t)n * sizeof(ch->statuses[0]) + left);
    if (ch == NULL)
        return -YK_ENOMEM;
    void *copy = &ch->statuses[n];
    memcpy(copy, yk_rd_bytes(items, left), left);
    yk_rd_init(&ch->rest, copy, left);
    ch->epoch = epoch;
    ch->n = n;
    if (node->pool != NULL)
        removals_take(c, ch);
    node->jobs[node->job_count++] = (struct job){.conn = c, .id = id, .ns = c->ns, .changes = ch};
    node_more(node);
    return 0;
}

int handle_change(struct conn *c, const struct yk_frame *f, struct yk_rd *r,
                     struct yk_err *err) {
    const void *body = r->at, *key;
    uint64_t epoch = yk_rd_u64(r), arg;
    uint32_t n = yk_rd_u32(r), len;
    struct yk_rd items = *r;
    unsigned what;
    struct yk_wr w;
    int verify = 0;
    if (n > YK_BATCH_MAX)
        return handle_bad_body(err, f);
    for (uint32_t i = 0; i < n; i++, verify |= what == YK_CHANGE_VERIFY)
        if (!rd_change(r, &what, &arg, &key, &len))
            return handle_bad_body(err, f);
    if (!yk_rd_ok(r))
        return handle_bad_body(err, f);
    int rc = change_needs(c, f, items, epoch, n, body);
    if (rc != 0)
        return rc;
    yk_store_drain(c->node->store);
    rc = verify ? changes_begin(c, f->id, epoch, n, &items) : 0;
    if (verify && rc == 0)
        return 0;
    int refused = rc; /* what verifies; the rest is done all the same */
    rc = reply_begin(c, 4u + n * 4u, &w);
    if (rc < 0)
        return rc;
    yk_wr_u32(&w, n);
    for (uint32_t i = 0; i < n; i++) {
        rd_change(&items, &what, &arg, &key, &len);
        rc = what == YK_CHANGE_VERIFY ? refused : change(c, epoch, what, arg, key, len, i);
        yk_wr_u32(&w, (uint32_t)rc);
    }
    reply_end(c, &w, f->op, f->id);
    NODE_ADD(c->node, keys[f->op], n);
    return 0;
}

void handle_job_done(struct yk_node *node, struct job *j) {
    struct yk_wr w;
    if (j->changes != NULL) {
        changes_done(node, j);
        return;
    }
    if (j->conn == NULL || reply_begin(j->conn, 12, &w) < 0)
        return;
    yk_wr_u32(&w, 0);
    yk_wr_u64(&w, j->removed);
    reply_end(j->conn, &w, YK_MSG_REMOVE_MANY, j->id);
    if (j->ticket != 0)
        reply_settle(j->conn, YK_MSG_REMOVE_MANY, j->id, j->ticket);
    conn_flush(j->conn);
}

int handle_remove_many(struct conn *c, const struct yk_frame *f, struct yk_rd *r,
                          struct yk_err *err) {
    uint32_t len;
    unsigned how = yk_rd_u8(r);
    const void *pattern = yk_rd_str8(r, &len);
    struct yk_wr w;
    if (!yk_rd_ok(r))
        return handle_bad_body(err, f);
    int rc = how >= YK_REMOVE_PREFIX && how <= YK_REMOVE_ALL ? 0 : -YK_EINVAL;
    if (rc == 0)
        rc = yk_store_ns_check(c->node->store, c->ns);
    if (rc == 0 && c->node->job_count == JOBS_MAX)
        rc = -YK_EAGAIN;
    if (rc < 0) {
        rc = reply_begin(c, 12, &w) < 0 ? -YK_ENOMEM : rc;
        if (rc == -YK_ENOMEM)
            return rc;
        yk_wr_u32(&w, (uint32_t)rc);
        yk_wr_u64(&w, 0);
        reply_end(c, &w, f->op, f->id);
        return 0;
    }
    struct job *j = &c->node->jobs[c->node->job_count++];
    *j = (struct job){.conn = c,
                      .id = f->id,
                      .ns = c->ns,
                      .how = (uint8_t)how,
                      .pattern_len = (uint8_t)len};
    if (len > 0)
        memcpy(j->pattern, pattern, len);
    node_more(c->node);
    return 0;
}

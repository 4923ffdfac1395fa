/* SPDX-License-Identifier: Apache-2.0
 *
 * Requests to a device: begun, counted, taken back; scripts of several; the limit of writes.
 *
 * Requests are gathered and handed over as one list at the end of a turn (yk_ssd_ops_send), so that the
 * device's worker is woken once. Every request is in the device's list of busy ones, so that those a
 * closed device will never return can be ended.
 */
#include "tier/ssd/ssd_priv.h"

#include "base/clock.h"

#include <string.h>

#include <yolk/status.h>

void yk_ssd_op_start(struct yk_ssd_dev *d, struct yk_ssd_op *op, unsigned type, uint64_t offset,
                     uint64_t bytes, const struct iovec *iov, uint32_t iov_count, unsigned prio) {
    memset(&op->req, 0, sizeof(op->req));
    op->req.op = (uint8_t)type;
    op->req.prio = (uint8_t)prio;
    op->req.offset = offset;
    op->req.bytes = bytes;
    op->req.iov = iov;
    op->req.iov_count = (uint16_t)iov_count;
    op->req.user = op;
    op->busy = 1;
    op->prev = NULL;
    op->next = d->busy;
    if (d->busy != NULL)
        d->busy->prev = op;
    d->busy = op;
    d->busy_count++;
    if (type == YK_FILE_WRITE) {
        d->writes_busy++;
        d->wear_bytes += bytes;
        d->ssd->tokens -= (int64_t)bytes;
        YK_SSD_ADD(d->ssd->c.written_bytes, bytes);
    }
    *d->submit_tail = &op->req;
    d->submit_tail = &op->req.next;
}

void yk_ssd_ops_send(struct yk_ssd_dev *d) {
    struct yk_file_req *list = d->submit_head;
    if (list == NULL)
        return;
    d->submit_head = NULL;
    d->submit_tail = &d->submit_head;
    if (d->io != NULL)
        d->ops->submit(d->io, list);
}

static void op_unlink(struct yk_ssd_dev *d, struct yk_ssd_op *op) {
    if (op->prev != NULL)
        op->prev->next = op->next;
    else
        d->busy = op->next;
    if (op->next != NULL)
        op->next->prev = op->prev;
    op->busy = 0;
    d->busy_count--;
    d->writes_busy -= op->req.op == YK_FILE_WRITE;
}

/* What an ended request says of the device; its own consequences are its user's. */
static void op_judge(struct yk_ssd_dev *d, const struct yk_file_req *req) {
    struct yk_ssd *ssd = d->ssd;
    if (req->status == 0) {
        if (req->op <= YK_FILE_WRITE && req->done_ns >= req->submit_ns)
            yk_hist_record(&ssd->lat[req->op], req->done_ns - req->submit_ns);
        if (req->op == YK_FILE_WRITE)
            d->write_errors = 0;
        return;
    }
    if (req->op == YK_FILE_DISCARD && req->status != -YK_EGONE)
        return;
    YK_SSD_ADD(ssd->c.io_errors, 1);
    if (req->status == -YK_EGONE)
        yk_ssd_dev_gone(d, "it does not answer any more");
    else if (req->status == -YK_ENOSPC)
        yk_ssd_dev_read_only(d, "no space for what was allotted to it");
    else if (req->op == YK_FILE_FLUSH)
        yk_ssd_dev_read_only(d, "a flush failed"); /* and nobody knows what of it is there */
    else if (req->op == YK_FILE_WRITE && ++d->write_errors >= YK_SSD_ERRORS_MAX)
        yk_ssd_dev_read_only(d, "writes fail");
}

static void op_end(struct yk_ssd_dev *d, struct yk_ssd_op *op) {
    op_unlink(d, op);
    op_judge(d, &op->req);
    op->done(d, op);
}

void yk_ssd_ops_reap(struct yk_ssd_dev *d) {
    struct yk_file_req *r = d->io == NULL ? NULL : d->ops->reap(d->io);
    while (r != NULL) {
        struct yk_file_req *next = r->next;
        op_end(d, r->user);
        r = next;
    }
}

void yk_ssd_ops_abandon(struct yk_ssd_dev *d) {
    d->submit_head = NULL;
    d->submit_tail = &d->submit_head;
    while (d->busy != NULL) {
        d->busy->req.status = -YK_EGONE;
        op_end(d, d->busy);
    }
}

/* ---- scripts ---------------------------------------------------------------------------------------- */

void yk_ssd_script_add(struct yk_ssd_script *s, unsigned op, uint64_t offset, void *buf,
                       uint64_t bytes) {
    s->step[s->n].op = (uint8_t)op;
    s->step[s->n].offset = offset;
    s->step[s->n].buf = buf;
    s->step[s->n].bytes = bytes;
    s->n++;
}

static void script_next(struct yk_ssd_dev *d, struct yk_ssd_op *op) {
    struct yk_ssd_script *s = op->ctx;
    if (op->req.status < 0 || s->at == s->n) {
        s->status = op->req.status;
        s->busy = 0;
        s->done(d, s);
        return;
    }
    uint32_t i = s->at++;
    s->iov = (struct iovec){s->step[i].buf, s->step[i].bytes};
    yk_ssd_op_start(d, op, s->step[i].op, s->step[i].offset, s->step[i].bytes, &s->iov,
                    s->step[i].buf != NULL, YK_SSD_PRIO_BACKGROUND);
}

void yk_ssd_script_start(struct yk_ssd_dev *d, struct yk_ssd_script *s,
                         void (*done)(struct yk_ssd_dev *d, struct yk_ssd_script *s)) {
    s->busy = 1;
    s->at = 0;
    s->done = done;
    s->op.ctx = s;
    s->op.done = script_next;
    s->op.req.status = 0;
    script_next(d, &s->op);
}

static void script_ended(struct yk_ssd_dev *d, struct yk_ssd_script *s) {
    (void)d;
    (void)s;
}

int yk_ssd_script_wait(struct yk_ssd_dev *d, struct yk_ssd_script *s) {
    yk_ssd_script_start(d, s, script_ended);
    while (s->busy) {
        yk_ssd_ops_send(d);
        d->ops->wait(d->io, 100);
        yk_ssd_ops_reap(d);
    }
    return s->status;
}

/* ---- the limit of writes ---------------------------------------------------------------------------- */

/* A tenth of a second's bytes may gather, so that a turn of calls is not cut to pieces. */
void yk_ssd_tokens_fill(struct yk_ssd *ssd) {
    uint64_t bps = ssd->o.write_limit_bps, now = yk_now_ns();
    int64_t most = (int64_t)(bps / 10 > (4u << 20) ? bps / 10 : (4u << 20));
    if (bps == 0) {
        ssd->tokens = INT64_MAX / 2;
        return;
    }
    uint64_t ns = now - ssd->tokens_ns;
    if (ssd->tokens <= 0)
        YK_SSD_ADD(ssd->c.throttle_ns, ns < YK_NS_PER_S ? ns : YK_NS_PER_S);
    if (ns > 10 * YK_NS_PER_S)
        ns = 10 * YK_NS_PER_S;
    uint64_t add = (uint64_t)((double)ns * (double)bps / 1e9);
    if (add == 0)
        return;
    ssd->tokens_ns = now;
    ssd->tokens += (int64_t)add;
    if (ssd->tokens > most)
        ssd->tokens = most;
}

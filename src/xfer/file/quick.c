/* SPDX-License-Identifier: Apache-2.0
 *
 * A ring of the owner's own, for the few reads that somebody waits for while the device has little to do.
 *
 * Through the worker such a read costs two wake-ups, the worker's and the owner's, which are as long as
 * what a fast device needs for it. Here the owner gives it to the kernel itself, and the kernel writes the
 * owner's eventfd when it has ended. Submitting takes the kernel a few microseconds each, in which a hit
 * in memory would wait: so no more than a few, and no large ones; the rest goes through the worker.
 *
 * A read that does not end whole is given to the worker, which knows about short ones and errors.
 *
 * Threads: the owner's. The ring is made by the first read, since the kernel binds it to the thread.
 */
#include "base/clock.h"
#include "xfer/file/file_priv.h"

#include <errno.h>
#include <liburing.h>
#include <stdlib.h>

#define READS 8u            /* at a time */
#define BYTES (1024u << 10) /* together */

struct yk_file_quick {
    struct yk_file_dev *dev;
    int wake_fd;
    struct io_uring ring;
    int state; /* 0: to be made; 1: there; -1: not to be had */
    uint32_t busy;
    uint64_t bytes;
};

struct yk_file_quick *yk_file_quick_new(struct yk_file_dev *dev, int wake_fd) {
    struct yk_file_quick *q = calloc(1, sizeof(*q));
    if (q) {
        q->dev = dev;
        q->wake_fd = wake_fd;
    }
    return q;
}

static int make(struct yk_file_quick *q) {
    static const unsigned flags[] = {IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN, 0};
    int rc = -EINVAL;
    for (unsigned i = 0; i < 2 && rc == -EINVAL; i++)
        rc = io_uring_queue_init(2u * READS, &q->ring, flags[i]);
    if (rc == 0 && (rc = io_uring_register_eventfd(&q->ring, q->wake_fd)) < 0)
        io_uring_queue_exit(&q->ring);
    q->state = rc == 0 ? 1 : -1;
    return q->state > 0;
}

static int fits(const struct yk_file_quick *q, const struct yk_file_req *req) {
    const struct yk_file_handle *file = &q->dev->file;
    return req->op == YK_FILE_READ && req->prio == YK_FILE_PRIO_DEMAND && req->iov_count == 1 &&
           req->bytes % file->unit == 0 && (uintptr_t)req->iov[0].iov_base % file->mem_align == 0 &&
           q->busy < READS && q->bytes + req->bytes <= BYTES;
}

int yk_file_quick_take(struct yk_file_quick *q, struct yk_file_req *req) {
    if (!q || !fits(q, req) || q->state < 0 || (q->state == 0 && !make(q)))
        return 0;
    struct io_uring_sqe *sqe = io_uring_get_sqe(&q->ring);
    if (!sqe)
        return 0;
    io_uring_prep_read(sqe, q->dev->file.fd, req->iov[0].iov_base, (unsigned)req->bytes,
                       req->offset);
    io_uring_sqe_set_data(sqe, req);
    q->busy++;
    q->bytes += req->bytes;
    return 1;
}

/* What the kernel does not take now stays in the ring, and goes with the next call. */
void yk_file_quick_submit(struct yk_file_quick *q) {
    if (q && q->state > 0 && io_uring_sq_ready(&q->ring) > 0)
        (void)io_uring_submit(&q->ring);
}

uint32_t yk_file_quick_busy(const struct yk_file_quick *q) {
    return q ? q->busy : 0;
}

void yk_file_quick_reap(struct yk_file_quick *q, struct yk_file_batch *ended,
                        struct yk_file_list *again) {
    struct io_uring_cqe *cqe;
    if (!q || q->busy == 0)
        return;
    yk_file_quick_submit(q);
    (void)io_uring_get_events(&q->ring);
    while (io_uring_peek_cqe(&q->ring, &cqe) == 0) {
        struct yk_file_req *req = io_uring_cqe_get_data(cqe);
        int whole = cqe->res >= 0 && (uint64_t)cqe->res == req->bytes;
        io_uring_cqe_seen(&q->ring, cqe);
        q->busy--;
        q->bytes -= req->bytes;
        if (whole)
            yk_file_batch_add(q->dev, ended, req);
        else
            yk_file_list_add(again, req);
    }
}

void yk_file_quick_wait(struct yk_file_quick *q, uint32_t ms) {
    struct __kernel_timespec ts = {.tv_sec = ms / 1000u,
                                   .tv_nsec = (long long)(ms % 1000u) * (long long)YK_NS_PER_MS};
    struct io_uring_cqe *cqe;
    yk_file_quick_submit(q);
    (void)io_uring_wait_cqe_timeout(&q->ring, &cqe, &ts);
}

void yk_file_quick_free(struct yk_file_quick *q) {
    if (!q)
        return;
    for (struct io_uring_cqe *cqe; q->state > 0 && q->busy > 0; q->busy--) {
        while (io_uring_wait_cqe(&q->ring, &cqe) < 0)
            ;
        io_uring_cqe_seen(&q->ring, cqe);
    }
    if (q->state > 0)
        io_uring_queue_exit(&q->ring);
    free(q);
}

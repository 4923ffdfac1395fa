/* SPDX-License-Identifier: Apache-2.0
 *
 * A request as a series of transfers that the device can take.
 *
 * O_DIRECT wants offsets and lengths in units of the device's sector and addresses aligned for its
 * DMA. Most pieces are: they go as they are. The others are copied through a bounce buffer, piece by
 * piece, so that one vectored transfer has both; a request of one odd header and 4 MiB of aligned
 * payload copies a sector. Bouncing requests whole would be simpler and would copy all of the packed
 * batches of small blocks, which are mostly aligned.
 *
 * A transfer takes as much as one bounce buffer allows. Short ones are continued from where they
 * ended. A read that ends inside a unit takes the unit into the bounce buffer: nothing is written
 * beyond the last piece.
 */
#include "xfer/file/file_priv.h"

#include <errno.h>
#include <string.h>

static uint64_t min_u64(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

void yk_file_req_end(struct yk_file_req *req, int err) {
    req->os_error = err;
    switch (err) {
    case 0:
        req->status = 0;
        break;
    case ENOSPC:
    case EDQUOT:
        req->status = -YK_ENOSPC;
        break;
    case ENODEV:
    case ENXIO:
    case EBADF:
    case ENOMEDIUM:
    case ESHUTDOWN:
    case ESTALE:
        req->status = -YK_EGONE;
        break;
    case EFAULT: /* the caller's memory is not there: nothing is wrong with the device */
        req->status = -YK_EFAULT;
        break;
    default:
        req->status = -YK_EIO;
    }
}

/* Steps over pieces that are used up; returns how much of the present one is left (0 = no more). */
static uint64_t settle(const struct yk_file_req *req, struct yk_file_cursor *at) {
    while (at->piece < req->iov_count && at->off >= req->iov[at->piece].iov_len) {
        at->piece++;
        at->off = 0;
    }
    return at->piece < req->iov_count ? req->iov[at->piece].iov_len - at->off : 0;
}

static char *address(const struct yk_file_req *req, const struct yk_file_cursor *at) {
    return (char *)req->iov[at->piece].iov_base + at->off;
}

/* The next n bytes of the pieces: to `to` (a write), from `from` (a read), or just passed over. */
static void pass(const struct yk_file_req *req, struct yk_file_cursor *at, char *to,
                 const char *from, uint64_t n) {
    while (n > 0) {
        uint64_t k = min_u64(settle(req, at), n);
        if (k == 0)
            return;
        if (to) {
            memcpy(to, address(req, at), k);
            to += k;
        } else if (from) {
            memcpy(address(req, at), from, k);
            from += k;
        }
        at->off += k;
        n -= k;
    }
}

static int is_bounced(const struct yk_file_step *step, const void *base) {
    return step->bounce && (uintptr_t)base - (uintptr_t)step->bounce < YK_FILE_BOUNCE;
}

/* Neighbours become one, but never the caller's memory and a bounce buffer that happens to lie beside. */
static void add_iov(struct yk_file_step *step, char *base, uint64_t len) {
    struct iovec *last = step->iov_count > 0 ? &step->iov[step->iov_count - 1u] : NULL;
    step->bytes += len;
    if (last && (char *)last->iov_base + last->iov_len == base &&
        is_bounced(step, base) == is_bounced(step, last->iov_base)) {
        last->iov_len += len;
        return;
    }
    step->iov[step->iov_count].iov_base = base;
    step->iov[step->iov_count++].iov_len = len;
}

/* Bounces what begins at the cursor, where a transfer of it is not possible: the whole units of a
 * piece with an odd address, or one unit of several pieces. Returns bytes of the request. */
static uint64_t add_bounced(struct yk_file_step *step, struct yk_file_cursor *at, uint32_t unit,
                            uint64_t left) {
    uint64_t here = settle(step->req, at);
    uint64_t n = here < unit ? min_u64(unit, left) : here - here % unit;
    n = min_u64(n, YK_FILE_BOUNCE - step->bounced);
    char *to = step->bounce + step->bounced;
    pass(step->req, at, step->req->op == YK_FILE_WRITE ? to : NULL, NULL, n);
    uint64_t whole = (n + unit - 1u) / unit * unit;
    add_iov(step, to, whole);
    step->bounced += (uint32_t)whole;
    return n;
}

void yk_file_step_init(struct yk_file_step *step, struct yk_file_req *req) {
    step->req = req;
    step->done = 0;
    step->at.piece = 0;
    step->at.off = 0;
    step->tries = 0;
    step->bounce = NULL;
}

enum yk_file_step_next yk_file_step_prepare(struct yk_file_step *step,
                                            const struct yk_file_handle *file, void *bounce) {
    struct yk_file_cursor at = step->at;
    uint64_t left = step->req->bytes - step->done;
    step->iov_count = 0;
    step->bytes = 0;
    step->bounce = bounce;
    step->bounced = 0;
    while (left > 0 && step->iov_count < YK_FILE_STEP_IOVS) {
        uint64_t here = settle(step->req, &at), n = here - here % file->unit;
        if (n > 0 && ((uintptr_t)address(step->req, &at) & (file->mem_align - 1u)) == 0) {
            add_iov(step, address(step->req, &at), n);
            at.off += n;
        } else if (!bounce) {
            return YK_FILE_STEP_BOUNCE;
        } else if (step->bounced == YK_FILE_BOUNCE) {
            break;
        } else {
            n = add_bounced(step, &at, file->unit, left);
        }
        left -= n;
    }
    return YK_FILE_STEP_GO;
}

/* Bytes [0, n) of the transfer are in place: moves the cursor, and a read's bounced part home. */
static void settle_transfer(struct yk_file_step *step, uint64_t n) {
    for (uint32_t i = 0; i < step->iov_count && n > 0; i++) {
        uint64_t k = min_u64(step->iov[i].iov_len, n);
        const char *base = step->iov[i].iov_base;
        int home = is_bounced(step, base) && step->req->op == YK_FILE_READ;
        pass(step->req, &step->at, NULL, home ? base : NULL, k);
        n -= k;
    }
}

enum yk_file_step_next yk_file_step_finish(struct yk_file_step *step,
                                           const struct yk_file_handle *file, int64_t res,
                                           uint64_t *bounced_bytes) {
    struct yk_file_req *req = step->req;
    if (res == -EINTR || res == -EAGAIN) {
        if (++step->tries <= YK_FILE_RETRIES)
            return res == -EINTR ? YK_FILE_STEP_GO : YK_FILE_STEP_LATER;
        res = -EIO;
    }
    if (res < 0) {
        yk_file_req_end(req, (int)-res);
        return YK_FILE_STEP_DONE;
    }
    /* A transfer that ended inside a unit met the end of a file that was cut short. */
    uint64_t n = min_u64((uint64_t)res, step->bytes);
    n -= n % file->unit;
    if (n == 0) {
        yk_file_req_end(req, 0);
        req->status = req->op == YK_FILE_READ ? -YK_EGONE : -YK_EIO;
        return YK_FILE_STEP_DONE;
    }
    *bounced_bytes += step->bounced;
    settle_transfer(step, n);
    step->done += min_u64(n, req->bytes - step->done);
    if (step->done < req->bytes)
        return YK_FILE_STEP_GO;
    yk_file_req_end(req, 0);
    return YK_FILE_STEP_DONE;
}

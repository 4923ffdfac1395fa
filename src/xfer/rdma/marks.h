/* SPDX-License-Identifier: Apache-2.0
 *
 * Whether a read that is said to be complete really is (docs/decisions/0036-reads-that-did-not-happen.md).
 *
 * Emulated devices are drivers of the kernel, and not all of their mistakes are known. One of rxe's: an answer that does
 * not fit, after one was lost, ends the read with "success" and none of its bytes, and fails the queue pair after that.
 * So the last bytes of where a read of theirs goes are set to a mark of its own before it is posted; while that stands
 * there, its answer has not come, since answers put bytes in place in order. Bytes that happen to be the mark cost a queue
 * pair, not a byte: the read is made again, with another.
 *
 * Memory may have been unmapped while it was registered: it is touched by calls that say so.
 *
 * Thread: any, one at a time for each mark.
 */
#ifndef YK_XFER_RDMA_MARKS_H
#define YK_XFER_RDMA_MARKS_H

#include <stdint.h>

#define YK_MARK_BYTES 8u

struct yk_mark {
    char *at; /* its first byte; NULL: the read has none */
    uint64_t value;
};

/* Puts n of them in place, at most 16; those whose memory is not there are left out. */
void yk_marks_put(const struct yk_mark *marks, uint32_t n);
/* 1: it is as it was put. */
int yk_mark_stands(const struct yk_mark *m);

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * Marks where reads go. See marks.h.
 */
#include "marks.h"

#include <errno.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define LIST_MAX 16u

/* A sandbox may forbid these calls, even within a process. */
static int is_forbidden(ssize_t rc) {
    return rc < 0 && errno != EFAULT;
}

void yk_marks_put(const struct yk_mark *marks, uint32_t n) {
    struct iovec from[LIST_MAX], to[LIST_MAX];
    uint32_t count = 0, done = 0;
    for (uint32_t i = 0; i < n && count < LIST_MAX; i++)
        if (marks[i].at != NULL) {
            from[count] = (struct iovec){(void *)(uintptr_t)&marks[i].value, YK_MARK_BYTES};
            to[count++] = (struct iovec){marks[i].at, YK_MARK_BYTES};
        }
    while (done < count) {
        ssize_t rc = process_vm_writev(getpid(), from + done, count - done, to + done, count - done, 0);
        if (is_forbidden(rc)) {
            memcpy(to[done].iov_base, from[done].iov_base, YK_MARK_BYTES);
            done++;
        } else { /* it ends before the first that is not there */
            done += rc < 0 ? 1 : (uint32_t)rc / YK_MARK_BYTES + ((uint32_t)rc < (count - done) * YK_MARK_BYTES);
        }
    }
}

int yk_mark_stands(const struct yk_mark *m) {
    uint64_t value = 0;
    if (m->at == NULL)
        return 0;
    struct iovec here = {&value, YK_MARK_BYTES}, there = {m->at, YK_MARK_BYTES};
    ssize_t rc = process_vm_readv(getpid(), &here, 1, &there, 1, 0);
    if (is_forbidden(rc))
        memcpy(&value, m->at, YK_MARK_BYTES);
    else if (rc != (ssize_t)YK_MARK_BYTES)
        return 0; /* nobody will see what is there */
    return value == m->value;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Memory that is registered with the ring, so that the kernel need not look up and pin the pages of
 * each transfer again: 0.012 s of CPU a GB where it is 0.018 otherwise, at 1 MiB in huge pages; at
 * 64 KiB 0.100 and 0.113.
 *
 * Registering pins, and populates what nobody has touched. So it begins when the owner says that
 * memory is populated, goes in chunks from the begin, and between requests: 64 MiB take the kernel
 * some milliseconds. A table that is reserved empty and filled chunk by chunk (5.19) lets requests
 * be under way meanwhile. A range across two chunks goes unregistered: one in 64 of 1 MiB blocks.
 *
 * The pages count as locked memory of the user (RLIMIT_MEMLOCK, but for CAP_IPC_LOCK). Where that
 * ends, registering ends, with one line that says what to raise; everything works without.
 *
 * Threads: the ring's worker; yk_file_mem_note, and `ready`, any.
 */
#include "base/fmt.h"
#include "xfer/file/file_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <liburing.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#define CHUNK_MIN (64ull << 20)
#define CHUNK_MAX (1ull << 30) /* the kernel's limit of one buffer */
#define TABLE_MAX 16384u       /* and of their number: 16 TiB */

void yk_file_mem_init(struct yk_file_mem *mem, struct io_uring *ring, void *base, uint64_t bytes) {
    memset(mem, 0, sizeof(*mem));
    if (!base || bytes == 0)
        return;
    mem->base = base;
    mem->bytes = bytes;
    mem->chunk = CHUNK_MIN;
    while (mem->chunk < CHUNK_MAX && (bytes - 1u) / mem->chunk >= TABLE_MAX)
        mem->chunk *= 2u;
    uint64_t chunks = (bytes - 1u) / mem->chunk + 1u;
    int rc =
        io_uring_register_buffers_sparse(ring, (unsigned)(chunks < TABLE_MAX ? chunks : TABLE_MAX));
    if (rc < 0)
        mem->stopped = -rc;
}

static uint64_t chunk_bytes(const struct yk_file_mem *mem, uint64_t at) {
    return mem->bytes - at < mem->chunk ? mem->bytes - at : mem->chunk;
}

int yk_file_mem_wants(const struct yk_file_mem *mem) {
    uint64_t ready = __atomic_load_n(&mem->ready, __ATOMIC_SEQ_CST); /* pairs with mem_ready */
    return mem->fixed < mem->bytes && !mem->stopped && mem->fixed / mem->chunk < TABLE_MAX &&
           mem->fixed + chunk_bytes(mem, mem->fixed) <= ready;
}

void yk_file_mem_step(struct yk_file_mem *mem, struct io_uring *ring) {
    struct iovec iov = {.iov_base = mem->base + mem->fixed,
                        .iov_len = chunk_bytes(mem, mem->fixed)};
    __u64 tag = 0;
    int rc = io_uring_register_buffers_update_tag(ring, (unsigned)(mem->fixed / mem->chunk), &iov,
                                                  &tag, 1);
    if (rc >= 0) {
        __atomic_store_n(&mem->fixed, mem->fixed + iov.iov_len, __ATOMIC_RELAXED); /* for info */
        return;
    }
    struct rlimit limit = {0};
    (void)getrlimit(RLIMIT_MEMLOCK, &limit);
    mem->limit_kb = limit.rlim_cur == RLIM_INFINITY ? 0 : limit.rlim_cur >> 10;
    __atomic_store_n(&mem->stopped, -rc, __ATOMIC_RELEASE); /* pairs with mem_note */
}

int yk_file_mem_find(const struct yk_file_mem *mem, const void *ptr, uint64_t bytes) {
    uint64_t off = (uintptr_t)ptr - (uintptr_t)mem->base;
    if (off >= mem->fixed || bytes > mem->fixed - off ||
        off / mem->chunk != (off + bytes - 1u) / mem->chunk)
        return -1;
    return (int)(off / mem->chunk);
}

void yk_file_mem_note(const struct yk_file_mem *mem, char *note, size_t note_bytes) {
    int err = __atomic_load_n(&mem->stopped, __ATOMIC_ACQUIRE);
    char fixed[YK_FMT_MAX], all[YK_FMT_MAX], limit[YK_FMT_MAX];
    note[0] = 0;
    if (err == 0)
        return;
    yk_fmt_bytes(__atomic_load_n(&mem->fixed, __ATOMIC_RELAXED), fixed);
    yk_fmt_bytes(mem->bytes, all);
    if (err == ENOMEM && mem->limit_kb > 0)
        snprintf(note, note_bytes,
                 "locked memory is limited to %s: %s of %s are registered; raise LimitMEMLOCK= "
                 "(ulimit -l) to spare some CPU",
                 yk_fmt_bytes(mem->limit_kb << 10, limit), fixed, all);
    else
        snprintf(note, note_bytes,
                 "memory cannot be registered (%s): %s of %s are; the rest costs some CPU",
                 strerror(err), fixed, all);
}

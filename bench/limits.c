/* SPDX-License-Identifier: Apache-2.0
 *
 * What the machine itself can do (bench/measure.h).
 *
 * Buffers and mappings are page-aligned, as a caller who cares has them: glibc's memcpy falls to a
 * fraction of its speed where source and destination overlap in their low 12 bits.
 */
#include "bench/measure.h"

#include "base/status.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define LINE          64u
#define MESSAGE_BYTES 64u
#define SEED          UINT64_C(88172645463325252)

void *yk_bench_buffer(uint64_t bytes) {
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    memset(p, 1, bytes); /* zero pages would all be one */
    return p;
}

/* ---- memcpy ----------------------------------------------------------------------------------- */

#define COPY_BUFFERS 8u

/* Pages of a memfd, as those of a node's tier: small ones, and shared. */
static void *shared_area(uint64_t bytes) {
    int fd = memfd_create("yolk-bench", MFD_CLOEXEC);
    if (fd < 0)
        return NULL;
    void *p = MAP_FAILED;
    if (ftruncate(fd, (off_t)bytes) == 0)
        p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    close(fd);
    if (p == MAP_FAILED)
        return NULL;
    memset(p, 1, bytes);
    return p;
}

int yk_copy_limit_open(struct yk_copy_limit *c, uint64_t footprint, uint64_t bytes) {
    footprint = footprint / bytes * bytes;
    *c = (struct yk_copy_limit){.footprint = footprint, .bytes = bytes, .random = SEED};
    c->shared = shared_area(footprint);
    c->buffers = calloc(COPY_BUFFERS, sizeof(*c->buffers));
    while (c->shared != NULL && c->buffers != NULL && c->buffer_count < COPY_BUFFERS) {
        unsigned char *b = yk_bench_buffer(bytes);
        if (b == NULL)
            break;
        c->buffers[c->buffer_count++] = b;
    }
    if (c->buffer_count == COPY_BUFFERS)
        return 0;
    yk_copy_limit_close(c);
    return -YK_ENOMEM;
}

int yk_copy_limit_op(void *arg, uint64_t i) {
    struct yk_copy_limit *c = arg;
    uint64_t places = c->footprint / c->bytes;
    uint64_t place = c->to_shared ? i % places : yk_random_below(&c->random, places);
    unsigned char *shared = c->shared + place * c->bytes;
    unsigned char *own = c->buffers[c->to_shared ? i % c->buffer_count : 0];
    memcpy(c->to_shared ? shared : own, c->to_shared ? own : shared, c->bytes);
    __asm__ volatile("" ::: "memory"); /* the copy is not dead */
    return 0;
}

void yk_copy_limit_close(struct yk_copy_limit *c) {
    if (c->shared != NULL)
        munmap(c->shared, c->footprint);
    for (uint32_t i = 0; i < c->buffer_count; i++)
        munmap(c->buffers[i], c->bytes);
    free(c->buffers);
    memset(c, 0, sizeof(*c));
}

/* ---- ping-pong -------------------------------------------------------------------------------- */

static int whole(int fd, void *buf, int writing) {
    size_t done = 0;
    while (done < MESSAGE_BYTES) {
        ssize_t n = writing ? write(fd, (char *)buf + done, MESSAGE_BYTES - done)
                            : read(fd, (char *)buf + done, MESSAGE_BYTES - done);
        if (n <= 0 && !(n < 0 && errno == EINTR))
            return -YK_EGONE;
        done += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

int yk_pingpong_open(struct yk_pingpong *p) {
    int sv[2];
    char message[MESSAGE_BYTES];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0)
        return -YK_EIO;
    p->pid = fork();
    if (p->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(sv[0]);
        while (whole(sv[1], message, 0) == 0 && whole(sv[1], message, 1) == 0)
            continue;
        _exit(0);
    }
    close(sv[1]);
    p->fd = sv[0];
    if (p->pid > 0)
        return 0;
    close(sv[0]);
    return -YK_EIO;
}

int yk_pingpong_op(void *arg, uint64_t i) {
    struct yk_pingpong *p = arg;
    char message[MESSAGE_BYTES] = {(char)i};
    int rc = whole(p->fd, message, 1);
    return rc < 0 ? rc : whole(p->fd, message, 0);
}

void yk_pingpong_close(struct yk_pingpong *p) {
    if (p->pid <= 0)
        return;
    close(p->fd);
    while (waitpid(p->pid, NULL, 0) < 0 && errno == EINTR)
        continue;
    p->pid = 0;
}

/* ---- loads ------------------------------------------------------------------------------------ */

#define GROUP_MAX 64u

int yk_load_limit_open(struct yk_load_limit *l, uint64_t bytes, uint32_t depth, uint32_t group) {
    *l = (struct yk_load_limit){.bytes = bytes / LINE * LINE,
                                .lines = bytes / LINE,
                                .random = SEED,
                                .depth = depth,
                                .group = group};
    l->area = shared_area(l->bytes);
    if (l->area == NULL)
        return -YK_ENOMEM;
    for (uint64_t i = 0; i < l->lines; i++)
        l->area[i * (LINE / 8)] = yk_random(&l->random);
    return 0;
}

/* The next line follows from what was loaded, so nothing can be fetched before. */
static inline uint64_t step(const struct yk_load_limit *l, uint64_t at) {
    uint64_t v = l->area[((at >> 32) * l->lines >> 32) * (LINE / 8)];
    return (v ^ at) * UINT64_C(0x9e3779b97f4a7c15);
}

int yk_load_limit_op(void *arg, uint64_t i) {
    struct yk_load_limit *l = arg;
    uint64_t at[GROUP_MAX];
    uint32_t n = l->group < GROUP_MAX ? l->group : GROUP_MAX;
    for (uint32_t k = 0; k < n; k++)
        at[k] = yk_random(&l->random);
    for (uint32_t d = 0; d < l->depth; d++)
        for (uint32_t k = 0; k < n; k++)
            at[k] = step(l, at[k]);
    for (uint32_t k = 0; k < n; k++)
        l->sink ^= at[k];
    return 0;
}

void yk_load_limit_close(struct yk_load_limit *l) {
    if (l->area != NULL)
        munmap(l->area, l->bytes);
    l->area = NULL;
}

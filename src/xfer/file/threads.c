/* SPDX-License-Identifier: Apache-2.0
 *
 * Engine of blocking threads: where io_uring is forbidden, for tools that cannot follow a ring, and
 * with one thread beside the ring for discards (BLKDISCARD is an ioctl, and a hole is punched while
 * the caller waits: a ring of Linux 6.1 has neither without a thread of the kernel's).
 *
 * The same order of start (sched.c) and the same transfers (bounce.c) as the ring; each thread
 * carries out one request at a time with its own bounce buffer, so the depth is the number of threads.
 * One mutex, held for a few instructions around each request, is enough at the rates that 16 blocking
 * threads reach.
 */
#include "base/clock.h"
#include "xfer/file/file_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

/* Thread: any under `lock`, but for what is immutable. */
struct yk_file_pool {
    struct yk_file_dev *dev;
    char *bounce; /* YK_FILE_BOUNCE for each thread; immutable, touched when used */
    uint32_t count, started;
    pthread_t *threads;
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct yk_file_sched sched;
    uint32_t numbered; /* threads that have their bounce buffer */
    int closing;
};

static void pause_ms(void) {
    struct timespec ts = {.tv_nsec = (long)YK_NS_PER_MS};
    nanosleep(&ts, NULL);
}

static void transfer(struct yk_file_dev *dev, struct yk_file_req *req, char *bounce) {
    struct yk_file_step step;
    uint64_t bounced = 0;
    enum yk_file_step_next next = YK_FILE_STEP_GO;
    yk_file_step_init(&step, req);
    while (next != YK_FILE_STEP_DONE) {
        if (next == YK_FILE_STEP_LATER)
            pause_ms();
        (void)yk_file_step_prepare(&step, &dev->file, bounce);
        off_t off = (off_t)(req->offset + step.done);
        int64_t n = req->op == YK_FILE_READ
                        ? preadv(dev->file.fd, step.iov, (int)step.iov_count, off)
                        : pwritev(dev->file.fd, step.iov, (int)step.iov_count, off);
        next = yk_file_step_finish(&step, &dev->file, n < 0 ? -errno : n, &bounced);
    }
    if (bounced > 0)
        __atomic_fetch_add(&dev->st.bounced_bytes, bounced, __ATOMIC_RELAXED);
}

/* A hint: what fails is counted (os_error), the request is well. */
static void discard(const struct yk_file_handle *file, struct yk_file_req *req) {
    uint64_t range[2] = {req->offset, req->bytes};
    off_t off = (off_t)req->offset, len = (off_t)req->bytes;
    int failed = file->is_block
                     ? ioctl(file->fd, BLKDISCARD, range)
                     : fallocate(file->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, len);
    if (failed == 0 && !file->is_block)
        failed = fallocate(file->fd, FALLOC_FL_KEEP_SIZE, off, len);
    req->os_error = failed ? errno : 0;
    req->status = 0;
}

/* One call for every flush that waited. */
static void flush(struct yk_file_dev *dev, struct yk_file_req *reqs) {
    int err;
    do
        err = fdatasync(dev->file.fd) < 0 ? errno : 0;
    while (err == EINTR);
    for (struct yk_file_req *req = reqs; req; req = req->next)
        yk_file_req_end(req, err);
}

static void carry_out(struct yk_file_pool *pool, struct yk_file_req *reqs, char *bounce) {
    if (reqs->op == YK_FILE_FLUSH)
        flush(pool->dev, reqs);
    else if (reqs->op == YK_FILE_DISCARD)
        discard(&pool->dev->file, reqs);
    else
        transfer(pool->dev, reqs, bounce);
}

static void *pool_main(void *arg) {
    struct yk_file_pool *pool = arg;
    pthread_mutex_lock(&pool->lock);
    char *bounce = pool->bounce + (size_t)pool->numbered++ * YK_FILE_BOUNCE;
    for (;;) {
        struct yk_file_req *reqs = yk_file_sched_next(&pool->sched);
        if (!reqs) {
            /* What waits although a thread is free waits for another's end, which signals. */
            if (pool->closing)
                break;
            pthread_cond_wait(&pool->more, &pool->lock);
            continue;
        }
        pthread_mutex_unlock(&pool->lock);
        carry_out(pool, reqs, bounce);
        pthread_mutex_lock(&pool->lock);
        yk_file_sched_done(&pool->sched, reqs);
        pthread_cond_signal(&pool->more);
        pthread_mutex_unlock(&pool->lock);
        struct yk_file_batch batch = {0};
        while (reqs) {
            struct yk_file_req *next = reqs->next;
            yk_file_batch_add(pool->dev, &batch, reqs);
            reqs = next;
        }
        yk_file_batch_push(pool->dev, &batch);
        pthread_mutex_lock(&pool->lock);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

void yk_file_pool_submit(struct yk_file_pool *pool, struct yk_file_req *reqs) {
    uint32_t n = 0;
    pthread_mutex_lock(&pool->lock);
    while (reqs) {
        struct yk_file_req *next = reqs->next;
        yk_file_sched_add(&pool->sched, reqs);
        reqs = next;
        n++;
    }
    if (n > 1)
        pthread_cond_broadcast(&pool->more);
    else
        pthread_cond_signal(&pool->more);
    pthread_mutex_unlock(&pool->lock);
}

int yk_file_pool_new(struct yk_file_dev *dev, uint32_t threads, struct yk_file_pool **ret_pool) {
    struct yk_file_pool *pool = calloc(1, sizeof(*pool));
    if (!pool)
        return -YK_ENOMEM;
    pool->dev = dev;
    pool->count = threads;
    pool->sched.depth = threads;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->more, NULL);
    pool->threads = calloc(threads, sizeof(*pool->threads));
    pool->bounce = mmap(NULL, (size_t)threads * YK_FILE_BOUNCE, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    int rc = pool->threads && pool->bounce != MAP_FAILED ? 0 : -YK_ENOMEM;
    while (rc == 0 && pool->started < threads) {
        rc = yk_file_thread(&pool->threads[pool->started], "yolk-file-io", pool_main, pool);
        if (rc == 0)
            pool->started++;
    }
    if (rc < 0) {
        yk_file_pool_free(pool);
        return rc;
    }
    *ret_pool = pool;
    return 0;
}

void yk_file_pool_free(struct yk_file_pool *pool) {
    if (!pool)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->closing = 1;
    pthread_cond_broadcast(&pool->more);
    pthread_mutex_unlock(&pool->lock);
    for (uint32_t i = 0; i < pool->started; i++)
        pthread_join(pool->threads[i], NULL);
    if (pool->bounce != MAP_FAILED)
        munmap(pool->bounce, (size_t)pool->count * YK_FILE_BOUNCE);
    pthread_cond_destroy(&pool->more);
    pthread_mutex_destroy(&pool->lock);
    free(pool->threads);
    free(pool);
}

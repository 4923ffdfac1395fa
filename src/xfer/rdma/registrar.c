/* SPDX-License-Identifier: Apache-2.0
 *
 * Threads that make memory known to devices: one for each device, so that several do it at the same time.
 *
 * A helper comes with the first memory that its device shall know and goes with the last. It opens the device, which may
 * take long, and then has a queue of jobs, a job being a region's memory: chunk by chunk in order, but what something
 * waits for first. Of 180 GB that are registered with four devices each of four threads does 2,880 calls of 5 to 20 ms,
 * while the node starts and serves over TCP what is not known yet.
 *
 * What a device refuses (a limit of locked memory) is passed over, and tried again when something needs it, once a
 * second at most: each attempt is a system call that may have pinned a lot before it fails. The same where a device
 * cannot be opened.
 *
 *   job   idle --wanted--> queued --taken--> busy --chunk done--> queued, or idle when nothing is left
 *
 * The lock is held for steps of lists, never over a call of the library: threads that move bytes take it, too, where a
 * chunk is not known.
 *
 * Threads: any; locks docs/locks.md.
 */
#include "mem_priv.h"

#include "base/clock.h"
#include "base/log.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define AGAIN_NS (1 * YK_NS_PER_S)
#define LARGE    (1ull << 30) /* of which it says how far it is, from time to time */
#define TELL_NS  (5 * YK_NS_PER_S)
#define GIB      ((double)(1ull << 30))

/* Under the lock, but for dev, the thread's own until a job has it. */
struct yk_rdma_helper {
    pthread_t thread;
    pthread_cond_t work;
    char device[64];
    struct yk_rdma_dev *dev;
    struct yk_rdma_job *first, *last;
    uint32_t users; /* jobs, queued or not */
    int stop;
    uint64_t bytes, known, refused;
    uint64_t told_ns;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t settled; /* a job is not busy any more, or has nothing left */
static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct yk_rdma_helper *helpers[YK_RDMA_DEVICES_MAX];
static struct yk_rdma_mem *mems;

static void cond_init(pthread_cond_t *cond) {
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
}

/* Threads are not forked: a child that makes an engine has helpers of its own. */
static void in_child(void) {
    pthread_mutex_init(&lock, NULL);
    cond_init(&settled);
    memset(helpers, 0, sizeof(helpers));
    mems = NULL;
}

static void begin(void) {
    cond_init(&settled);
    (void)pthread_atfork(NULL, NULL, in_child);
}

/* ---- the queue ------------------------------------------------------------------------------------------ */

static void dequeue(struct yk_rdma_job *j) {
    struct yk_rdma_helper *h = j->helper;
    if (!j->queued)
        return;
    *(j->prev != NULL ? &j->prev->next : &h->first) = j->next;
    *(j->next != NULL ? &j->next->prev : &h->last) = j->prev;
    j->next = j->prev = NULL;
    j->queued = 0;
}

static void enqueue(struct yk_rdma_job *j, int in_front) {
    struct yk_rdma_helper *h = j->helper;
    dequeue(j);
    j->next = in_front ? h->first : NULL;
    j->prev = in_front ? NULL : h->last;
    *(j->prev != NULL ? &j->prev->next : &h->first) = j;
    *(j->next != NULL ? &j->next->prev : &h->last) = j;
    j->queued = 1;
    pthread_cond_signal(&h->work);
}

static int has_work(const struct yk_rdma_job *j) {
    return j->wanted != 0 || j->at < j->chunks;
}

/* ---- a helper ------------------------------------------------------------------------------------------- */

static uint64_t take_chunk(struct yk_rdma_job *j) {
    if (j->wanted == 0)
        return j->at++;
    uint64_t k = j->wanted - 1;
    __atomic_store_n(&j->wanted, 0, __ATOMIC_RELAXED);
    return k;
}

/* Of a job that has registered some, or was refused some, more (or less). */
static void count(struct yk_rdma_job *j, int64_t known, int64_t refused) {
    j->known += (uint64_t)known;
    j->refused += (uint64_t)refused;
    j->helper->known += (uint64_t)known;
    j->helper->refused += (uint64_t)refused;
}

static void tell(struct yk_rdma_helper *h) {
    uint64_t now = yk_now_ns();
    int done = h->known + h->refused == h->bytes;
    if (h->bytes < LARGE || (!done && now - h->told_ns < TELL_NS))
        return;
    h->told_ns = now;
    yk_log(YK_LOG_DEBUG, "rdma", "%s knows %.1f of %.1f GiB of memory, and was refused %.1f", h->device,
           (double)h->known / GIB, (double)h->bytes / GIB, (double)h->refused / GIB);
}

/* The device could not be opened: the whole job waits until something needs it. */
static void no_device(struct yk_rdma_job *j) {
    __atomic_store_n(&j->wanted, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&j->again_ns, yk_now_ns() + AGAIN_NS, __ATOMIC_RELAXED);
    count(j, 0, (int64_t)(j->mem->len - j->known - j->refused));
    dequeue(j);
}

static void chunk_done(struct yk_rdma_job *j, uint64_t chunk, struct ibv_mr *mr) {
    int64_t span = (int64_t)yk_rdma_span(j->mem, chunk);
    if (j->mrs[chunk] == &yk_rdma_refused)
        count(j, 0, -span);
    if (mr == NULL)
        __atomic_store_n(&j->again_ns, yk_now_ns() + AGAIN_NS, __ATOMIC_RELAXED);
    count(j, mr != NULL ? span : 0, mr != NULL ? 0 : span);
    __atomic_store_n(&j->mrs[chunk], mr != NULL ? mr : &yk_rdma_refused, __ATOMIC_RELEASE);
    tell(j->helper);
}

/* One chunk of the job in front; the lock is given up meanwhile. */
static void one(struct yk_rdma_helper *h) {
    struct yk_rdma_job *j = h->first;
    struct yk_err err;
    int rc = 0;
    uint64_t k = take_chunk(j);
    if (j->mrs[k] == NULL || j->mrs[k] == &yk_rdma_refused) {
        struct ibv_mr *mr = NULL;
        j->busy = 1;
        pthread_mutex_unlock(&lock);
        if (h->dev == NULL)
            rc = yk_rdma_dev_get(h->device, &h->dev, &err);
        if (rc == 0)
            mr = yk_rdma_reg_chunk(h->dev, j->mem, k);
        pthread_mutex_lock(&lock);
        j->busy = 0;
        if (rc == 0) {
            if (j->dev == NULL)
                __atomic_store_n(&j->dev, h->dev, __ATOMIC_RELEASE);
            chunk_done(j, k, mr);
        }
    }
    if (rc < 0) {
        j->at = k < j->at ? k : j->at;
        no_device(j);
    } else if (!has_work(j)) {
        dequeue(j);
    }
    pthread_cond_broadcast(&settled);
}

static void *helper_main(void *arg) {
    struct yk_rdma_helper *h = arg;
    pthread_mutex_lock(&lock);
    while (!h->stop)
        if (h->first == NULL)
            pthread_cond_wait(&h->work, &lock);
        else
            one(h);
    pthread_mutex_unlock(&lock);
    return NULL;
}

static int start(struct yk_rdma_helper *h) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are the program's threads' */
    int rc = pthread_create(&h->thread, NULL, helper_main, h);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

/* The device's, one more user; NULL: there is no place, memory or thread for it. */
static struct yk_rdma_helper *helper_of(const char *device) {
    uint32_t at = YK_RDMA_DEVICES_MAX;
    for (uint32_t i = 0; i < YK_RDMA_DEVICES_MAX; i++)
        if (helpers[i] == NULL)
            at = at == YK_RDMA_DEVICES_MAX ? i : at;
        else if (strcmp(helpers[i]->device, device) == 0) {
            helpers[i]->users++;
            return helpers[i];
        }
    struct yk_rdma_helper *h = at < YK_RDMA_DEVICES_MAX ? calloc(1, sizeof(*h)) : NULL;
    if (h == NULL)
        return NULL;
    cond_init(&h->work);
    snprintf(h->device, sizeof(h->device), "%s", device);
    h->users = 1;
    if (start(h) != 0) {
        pthread_cond_destroy(&h->work);
        free(h);
        return NULL;
    }
    helpers[at] = h;
    return h;
}

/* It has no job left. */
static void helper_end(struct yk_rdma_helper *h) {
    (void)pthread_join(h->thread, NULL);
    yk_rdma_dev_put(h->dev);
    pthread_cond_destroy(&h->work);
    free(h);
}

/* One user less; the helper, if it was the last: it is to be ended, without the lock. */
static struct yk_rdma_helper *helper_leave(struct yk_rdma_helper *h) {
    if (--h->users > 0)
        return NULL;
    for (uint32_t i = 0; i < YK_RDMA_DEVICES_MAX; i++)
        if (helpers[i] == h)
            helpers[i] = NULL;
    h->stop = 1;
    pthread_cond_signal(&h->work);
    return h;
}

/* ---- jobs ----------------------------------------------------------------------------------------------- */

static struct yk_rdma_job *job_named(const struct yk_rdma_mem *m, const char *device) {
    for (uint32_t i = 0; i < m->job_count; i++)
        if (strcmp(m->jobs[i]->helper->device, device) == 0)
            return m->jobs[i];
    return NULL;
}

static struct yk_rdma_job *job_new(struct yk_rdma_mem *m, const char *device) {
    uint64_t chunks = (m->len + YK_RDMA_CHUNK - 1) / YK_RDMA_CHUNK;
    struct yk_rdma_job *j = m->job_count < YK_RDMA_DEVICES_MAX ? calloc(1, sizeof(*j)) : NULL;
    struct ibv_mr **mrs = j != NULL ? calloc(chunks, sizeof(struct ibv_mr *)) : NULL;
    struct yk_rdma_helper *h = mrs != NULL ? helper_of(device) : NULL;
    if (h == NULL) {
        free(mrs);
        free(j);
        return NULL;
    }
    *j = (struct yk_rdma_job){.mem = m, .helper = h, .mrs = mrs, .chunks = chunks};
    h->bytes += m->len;
    m->jobs[m->job_count] = j;
    __atomic_store_n(&m->job_count, m->job_count + 1, __ATOMIC_RELEASE);
    return j;
}

/* A device that could not be opened a moment ago is not asked again. */
static int is_too_early(const struct yk_rdma_job *j) {
    return j->dev == NULL && j->again_ns != 0 && yk_now_ns() < j->again_ns;
}

void yk_rdma_mem_open(struct yk_rdma_mem *m) {
    (void)pthread_once(&once, begin);
    pthread_mutex_lock(&lock);
    m->next = mems;
    if (mems != NULL)
        mems->prev = m;
    mems = m;
    pthread_mutex_unlock(&lock);
}

static void want(struct yk_rdma_mem *m, const char *device, uint64_t chunk) {
    struct yk_rdma_job *j = m->closed ? NULL : job_named(m, device);
    if (j == NULL && !m->closed)
        j = job_new(m, device);
    if (j != NULL && !is_too_early(j)) {
        if (j->dev == NULL && j->refused > 0)
            count(j, 0, -(int64_t)j->refused);
        if (chunk != YK_RDMA_ALL)
            __atomic_store_n(&j->wanted, chunk + 1, __ATOMIC_RELAXED);
        if (has_work(j) && (chunk != YK_RDMA_ALL || !j->queued))
            enqueue(j, chunk != YK_RDMA_ALL);
    }
}

void yk_rdma_mem_want(struct yk_rdma_mem *m, const char *device, uint64_t chunk) {
    (void)pthread_once(&once, begin);
    pthread_mutex_lock(&lock);
    want(m, device, chunk);
    pthread_mutex_unlock(&lock);
}

int yk_rdma_dev_soon(const char *device) {
    int begun = 0;
    if (yk_rdma_dev_is_open(device))
        return 1;
    (void)pthread_once(&once, begin);
    pthread_mutex_lock(&lock);
    for (struct yk_rdma_mem *m = mems; m != NULL; m = m->next) {
        want(m, device, YK_RDMA_ALL);
        const struct yk_rdma_job *j = job_named(m, device);
        begun |= j != NULL && (j->queued || j->busy);
    }
    pthread_mutex_unlock(&lock);
    return begun ? 0 : yk_rdma_dev_is_open(device) ? 1 : -YK_ENOENT;
}

static int is_busy(const struct yk_rdma_mem *m) {
    int busy = 0;
    for (uint32_t i = 0; i < m->job_count; i++)
        busy |= m->jobs[i]->busy;
    return busy;
}

static int has_jobs(const struct yk_rdma_mem *m) {
    int left = is_busy(m);
    for (uint32_t i = 0; i < m->job_count; i++)
        left |= m->jobs[i]->queued;
    return left;
}

int yk_rdma_mem_wait(struct yk_rdma_mem *m, uint64_t deadline_ns) {
    struct timespec until = {.tv_sec = (time_t)(deadline_ns / YK_NS_PER_S), .tv_nsec = (long)(deadline_ns % YK_NS_PER_S)};
    int rc = 0;
    (void)pthread_once(&once, begin);
    pthread_mutex_lock(&lock);
    while (has_jobs(m) && rc == 0)
        rc = pthread_cond_timedwait(&settled, &lock, &until);
    rc = has_jobs(m) ? -YK_ETIMEDOUT : 0;
    pthread_mutex_unlock(&lock);
    return rc;
}

void yk_rdma_mem_close(struct yk_rdma_mem *m) {
    (void)pthread_once(&once, begin);
    pthread_mutex_lock(&lock);
    if (!m->closed) {
        *(m->prev != NULL ? &m->prev->next : &mems) = m->next;
        if (m->next != NULL)
            m->next->prev = m->prev;
    }
    m->closed = 1;
    for (uint32_t i = 0; i < m->job_count; i++)
        dequeue(m->jobs[i]);
    while (is_busy(m))
        pthread_cond_wait(&settled, &lock);
    pthread_mutex_unlock(&lock);
}

static void job_free(struct yk_rdma_job *j) {
    for (uint64_t k = 0; k < j->chunks; k++)
        if (j->mrs[k] != NULL && j->mrs[k] != &yk_rdma_refused)
            j->dev->v->dereg_mr(j->mrs[k]);
    pthread_mutex_lock(&lock);
    struct yk_rdma_helper *h = j->helper;
    count(j, -(int64_t)j->known, -(int64_t)j->refused);
    h->bytes -= j->mem->len;
    h = helper_leave(h);
    pthread_mutex_unlock(&lock);
    if (h != NULL)
        helper_end(h);
    free(j->mrs);
    free(j);
}

void yk_rdma_jobs_free(struct yk_rdma_mem *m) {
    yk_rdma_mem_close(m);
    for (uint32_t i = 0; i < m->job_count; i++)
        job_free(m->jobs[i]);
    m->job_count = 0;
}

uint32_t yk_rdma_progress(struct yk_rdma_progress ret_progress[YK_RDMA_DEVICES_MAX]) {
    uint32_t n = 0;
    pthread_mutex_lock(&lock);
    for (uint32_t i = 0; i < YK_RDMA_DEVICES_MAX; i++) {
        const struct yk_rdma_helper *h = helpers[i];
        if (h == NULL)
            continue;
        ret_progress[n] = (struct yk_rdma_progress){.bytes = h->bytes, .known = h->known, .refused = h->refused};
        memcpy(ret_progress[n++].device, h->device, sizeof(h->device));
    }
    pthread_mutex_unlock(&lock);
    return n;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Threads that open devices and make memory known to them: one for each device, so that several do it at the same time,
 * and one that hangs holds up nobody but itself.
 *
 * A helper comes with the first that wants its device, memory or a lane. It opens the device, which may take long, and
 * then has a queue of jobs, a job being a region's memory: a chunk of each in turn, so that a small region waits for one
 * chunk of a large one, but what something waits for first. Of 180 GB that are registered with four devices each of four
 * threads does 2,880 calls of 5 to 20 ms, while the node starts and serves over TCP what is not known yet.
 *
 * Who unregisters does not call the library either: the helper has the device forget the memory, before anything else,
 * and says when that is done. What the device was never told is gone at once, though the device should hang in being
 * opened. It goes, and closes its device, with the last job, or a second after a lane asked for it, if none uses it.
 *
 * A device that was taken out of the host forgets all, which lets its driver go, and the one that comes in its place is
 * told all of it again, when a lane wants it.
 *
 * What a device refuses (a limit of locked memory) is passed over, and tried again when something needs it, once a
 * second at most: each attempt is a system call that may have pinned a lot before it fails. The same where a device
 * cannot be opened.
 *
 *   job   idle --wanted--> queued --taken--> busy --chunk done--> queued, or idle when nothing is left
 *          \______________ \______________ \___ memory is done with --> ending --forgotten--> gone
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
#define REFUSED_NS (100 * YK_NS_PER_MS) /* between attempts to have a device forget what it does not let go of */
#define KEEP_NS  (1 * YK_NS_PER_S) /* that a device stays open for a lane that asked for it: it comes back at once */

/* Under the lock. */
struct yk_rdma_helper {
    pthread_cond_t work;
    char device[64];
    struct yk_rdma_dev *dev;
    struct yk_rdma_job *first, *last;
    uint32_t users;    /* jobs, queued or not */
    uint64_t asked_ns; /* when a lane asked for the device, or was seen to use it; 0: none does */
    int to_open;       /* it was asked for, and not tried since */
    int to_renew;      /* its device was taken out */
    uint64_t again_ns; /* it could not be opened: not to be tried before */
    struct yk_err why;
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
    __atomic_store_n(&j->again_ns, j->helper->again_ns, __ATOMIC_RELAXED);
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
    __atomic_store_n(&j->keys[chunk].lkey, mr != NULL ? mr->lkey : 0, __ATOMIC_RELAXED);
    __atomic_store_n(&j->keys[chunk].rkey, mr != NULL ? mr->rkey : 0, __ATOMIC_RELAXED);
    __atomic_store_n(&j->mrs[chunk], mr != NULL ? mr : &yk_rdma_refused, __ATOMIC_RELEASE);
    tell(j->helper);
}

/* The lock is given up meanwhile; so it is below. */
static void open_device(struct yk_rdma_helper *h) {
    struct yk_rdma_dev *dev = yk_rdma_dev_ref(h->device);
    struct yk_err err = h->why;
    int rc = dev == NULL && yk_now_ns() < h->again_ns ? h->why.code : 0;
    h->to_open = 0;
    if (dev == NULL && rc == 0) {
        pthread_mutex_unlock(&lock);
        rc = yk_rdma_dev_get(h->device, &dev, &err);
        pthread_mutex_lock(&lock);
        h->again_ns = rc < 0 ? yk_now_ns() + AGAIN_NS : 0;
    }
    h->dev = dev;
    h->why = err;
    while (rc < 0 && h->first != NULL && h->first->dev == NULL) /* others have to forget one first */
        no_device(h->first);
    pthread_cond_broadcast(&settled);
}

static void close_device(struct yk_rdma_helper *h) {
    struct yk_rdma_dev *dev = h->dev;
    h->dev = NULL;
    pthread_mutex_unlock(&lock);
    yk_rdma_dev_put(dev);
    pthread_mutex_lock(&lock);
}

/* Nobody waits for it and nobody uses it any more. */
static void mem_freed(struct yk_rdma_mem *m) {
    if (__atomic_load_n(&m->refs, __ATOMIC_RELAXED) == 0 && m->pinned == 0 && !m->awaited)
        yk_rdma_mem_free(m);
}

/* No device knows anything of it. */
static void job_gone(struct yk_rdma_job *j) {
    struct yk_rdma_mem *m = j->mem;
    count(j, -(int64_t)j->known, -(int64_t)j->refused);
    j->helper->bytes -= m->len;
    j->helper->users--;
    pthread_cond_signal(&j->helper->work);
    free(j->mrs);
    free(j->keys);
    free(j);
    m->pinned--;
    mem_freed(m);
}

/* What its device knows of it is taken back, and the device. The lock is given up meanwhile. 0: the device refuses some,
 * though it is there: it still knows that. */
static int forget(struct yk_rdma_job *j) {
    struct yk_rdma_dev *dev = j->dev;
    uint64_t left = 0;
    dequeue(j);
    __atomic_store_n(&j->dev, NULL, __ATOMIC_RELEASE);
    count(j, -(int64_t)j->known, -(int64_t)j->refused);
    j->busy = 1;
    pthread_mutex_unlock(&lock);
    for (uint64_t k = 0; k < j->chunks; k++) {
        struct ibv_mr *mr = j->mrs[k];
        if (mr != NULL && mr != &yk_rdma_refused && dev->v->dereg_mr(mr) != 0 && !yk_rdma_dev_is_gone(dev)) {
            left++;
            continue;
        }
        __atomic_store_n(&j->mrs[k], NULL, __ATOMIC_RELAXED); /* who saw it has its keys from elsewhere */
    }
    if (left == 0)
        yk_rdma_dev_put(dev);
    pthread_mutex_lock(&lock);
    if (left > 0)
        __atomic_store_n(&j->dev, dev, __ATOMIC_RELEASE);
    j->busy = 0;
    j->at = 0;
    return left == 0;
}

static void sleep_until(struct yk_rdma_helper *h, uint64_t ns) {
    struct timespec until = {.tv_sec = (time_t)(ns / YK_NS_PER_S), .tv_nsec = (long)(ns % YK_NS_PER_S)};
    (void)pthread_cond_timedwait(&h->work, &lock, &until);
}

static void end_job(struct yk_rdma_job *j) {
    struct yk_rdma_helper *h = j->helper;
    dequeue(j);
    if (j->dev != NULL && !forget(j)) { /* it is asked again, behind others */
        enqueue(j, 0);
        sleep_until(h, yk_now_ns() + REFUSED_NS);
        return;
    }
    if (h->users == 1 && h->asked_ns == 0) /* who waits for the end of the last may take the driver out then */
        close_device(h);
    job_gone(j);
}

/* It has what a device knew that was taken out meanwhile: that can go when this has forgotten. */
static int is_stale(const struct yk_rdma_job *j) {
    return j->dev != NULL && j->dev != j->helper->dev;
}

static void begin_again(struct yk_rdma_job *j) {
    (void)forget(j); /* its device is gone */
    if (j->ending || (!j->mem->closed && !j->queued))
        enqueue(j, j->ending);
}

/* The device that comes in the place of one that was taken out shall know all that that one knew. */
static void renew(struct yk_rdma_helper *h) {
    h->to_renew = 0;
    h->to_open = 1;
    for (struct yk_rdma_mem *m = mems; m != NULL; m = m->next)
        for (uint32_t i = 0; i < m->job_count; i++)
            if (m->jobs[i]->helper == h && m->jobs[i]->dev != NULL && !m->jobs[i]->queued)
                enqueue(m->jobs[i], 0);
    close_device(h);
}

/* One chunk. Then it is others' turn, unless something waits for another of it. */
static void one(struct yk_rdma_job *j) {
    struct yk_rdma_helper *h = j->helper;
    uint64_t k = take_chunk(j);
    dequeue(j);
    if (j->mrs[k] == NULL || j->mrs[k] == &yk_rdma_refused) {
        j->busy = 1;
        j->taken = k + 1;
        pthread_mutex_unlock(&lock);
        struct ibv_mr *mr = yk_rdma_reg_chunk(h->dev, j->mem, k);
        pthread_mutex_lock(&lock);
        j->busy = 0;
        j->taken = 0;
        if (j->dev == NULL) {
            yk_rdma_dev_hold(h->dev);
            __atomic_store_n(&j->dev, h->dev, __ATOMIC_RELEASE);
        }
        chunk_done(j, k, mr);
    }
    if (j->ending || (has_work(j) && !j->queued && !j->mem->closed))
        enqueue(j, j->ending || j->wanted != 0);
    pthread_cond_broadcast(&settled);
}

/* Nothing is queued. 0: it is not needed any more. */
static int rest(struct yk_rdma_helper *h) {
    if (h->users > 0) {
        pthread_cond_wait(&h->work, &lock);
        return 1;
    }
    if (h->asked_ns != 0 && yk_now_ns() < h->asked_ns + KEEP_NS) {
        sleep_until(h, h->asked_ns + KEEP_NS);
        return 1;
    }
    h->asked_ns = h->dev != NULL && yk_rdma_dev_is_shared(h->dev) ? yk_now_ns() : 0;
    if (h->asked_ns == 0 && h->dev != NULL)
        close_device(h);
    return h->asked_ns != 0 || h->users > 0 || h->first != NULL || h->to_open || h->to_renew;
}

static int step(struct yk_rdma_helper *h) {
    struct yk_rdma_job *j = h->first;
    if (j != NULL && j->ending)
        end_job(j);
    else if (h->to_renew)
        renew(h);
    else if (j != NULL && is_stale(j))
        begin_again(j);
    else if (h->dev == NULL && (j != NULL || h->to_open))
        open_device(h);
    else if (j != NULL)
        one(j);
    else
        return rest(h);
    return 1;
}

static void *helper_main(void *arg) {
    struct yk_rdma_helper *h = arg;
    pthread_mutex_lock(&lock);
    while (step(h))
        ;
    for (uint32_t i = 0; i < YK_RDMA_DEVICES_MAX; i++)
        if (helpers[i] == h)
            helpers[i] = NULL;
    pthread_mutex_unlock(&lock);
    pthread_cond_destroy(&h->work);
    free(h);
    return NULL;
}

/* It ends by itself: who would wait for its end would wait for its device. */
static int start(struct yk_rdma_helper *h) {
    sigset_t all, before;
    pthread_attr_t attr;
    pthread_t thread;
    sigfillset(&all);
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are the program's threads' */
    int rc = pthread_create(&thread, &attr, helper_main, h);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    return rc;
}

/* The device's; NULL: there is no place, memory or thread for it. With the lock held until it is given something to do. */
static struct yk_rdma_helper *helper_of(const char *device) {
    uint32_t at = YK_RDMA_DEVICES_MAX;
    for (uint32_t i = 0; i < YK_RDMA_DEVICES_MAX; i++)
        if (helpers[i] == NULL)
            at = at == YK_RDMA_DEVICES_MAX ? i : at;
        else if (strcmp(helpers[i]->device, device) == 0)
            return helpers[i];
    struct yk_rdma_helper *h = at < YK_RDMA_DEVICES_MAX ? calloc(1, sizeof(*h)) : NULL;
    if (h == NULL)
        return NULL;
    cond_init(&h->work);
    snprintf(h->device, sizeof(h->device), "%s", device);
    if (start(h) != 0) {
        pthread_cond_destroy(&h->work);
        free(h);
        return NULL;
    }
    helpers[at] = h;
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
    struct yk_rdma_keys *keys = mrs != NULL ? calloc(chunks, sizeof(*keys)) : NULL;
    struct yk_rdma_helper *h = keys != NULL ? helper_of(device) : NULL;
    if (h == NULL) {
        free(keys);
        free(mrs);
        free(j);
        return NULL;
    }
    *j = (struct yk_rdma_job){.mem = m, .helper = h, .mrs = mrs, .keys = keys, .chunks = chunks};
    h->users++;
    h->bytes += m->len;
    m->pinned++;
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

void yk_rdma_mem_own(struct yk_rdma_mem *m, const void *owner) {
    pthread_mutex_lock(&lock);
    m->owner = owner;
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

int yk_rdma_mem_comes(struct yk_rdma_mem *m, const struct yk_rdma_dev *dev, uint64_t offset, uint64_t len) {
    uint64_t chunk = offset / YK_RDMA_CHUNK;
    if (len == 0 || offset >= m->len || len > yk_rdma_span(m, chunk) - offset % YK_RDMA_CHUNK)
        return 0;
    pthread_mutex_lock(&lock);
    const struct yk_rdma_job *j = m->closed ? NULL : job_named(m, dev->name);
    int comes = j != NULL && !is_too_early(j) &&
                (j->dev != dev || j->mrs[chunk] != &yk_rdma_refused || j->wanted == chunk + 1 || j->taken == chunk + 1);
    pthread_mutex_unlock(&lock);
    return comes;
}

/* The helper of a device that is not open, told to open it. */
static int ask(const char *device, struct yk_err *err) {
    struct yk_rdma_helper *h = helper_of(device);
    if (h == NULL)
        return yk_err_set(err, -YK_ELIMIT, "no memory or thread to open %s", device);
    h->asked_ns = yk_now_ns();
    if (h->asked_ns < h->again_ns)
        return yk_err_set(err, h->why.code, "%s", h->why.text);
    h->to_renew |= h->dev != NULL && yk_rdma_dev_is_gone(h->dev);
    h->to_open |= h->dev == NULL;
    pthread_cond_signal(&h->work);
    return yk_err_set(err, -YK_EAGAIN, "%s is being opened", device);
}

void yk_rdma_gone_forget(void) {
    (void)pthread_once(&once, begin);
    pthread_mutex_lock(&lock);
    for (uint32_t i = 0; i < YK_RDMA_DEVICES_MAX; i++) {
        struct yk_rdma_helper *h = helpers[i];
        if (h == NULL || h->dev == NULL || h->to_renew || !yk_rdma_dev_is_gone(h->dev))
            continue;
        h->to_renew = 1;
        pthread_cond_signal(&h->work);
    }
    pthread_mutex_unlock(&lock);
}

int yk_rdma_dev_soon(const char *device, const void *owner, struct yk_rdma_dev **ret_dev, struct yk_err *err) {
    *ret_dev = yk_rdma_dev_ref(device);
    if (*ret_dev != NULL)
        return 0;
    (void)pthread_once(&once, begin);
    pthread_mutex_lock(&lock);
    for (struct yk_rdma_mem *m = mems; m != NULL; m = m->next)
        if (m->owner == owner)
            want(m, device, YK_RDMA_ALL);
    int rc = ask(device, err);
    pthread_mutex_unlock(&lock);
    return rc;
}

static int has_jobs(const struct yk_rdma_mem *m) {
    int left = 0;
    for (uint32_t i = 0; i < m->job_count; i++)
        left |= m->jobs[i]->queued || m->jobs[i]->busy;
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

/* Nothing more is registered of it. */
static void mem_close(struct yk_rdma_mem *m) {
    if (m->closed)
        return;
    *(m->prev != NULL ? &m->prev->next : &mems) = m->next;
    if (m->next != NULL)
        m->next->prev = m->prev;
    m->closed = 1;
    for (uint32_t i = 0; i < m->job_count; i++)
        dequeue(m->jobs[i]);
    pthread_cond_broadcast(&settled);
}

/* Devices forget it: nobody has a key of it any more, and none is asked for. */
static void mem_ends(struct yk_rdma_mem *m) {
    mem_close(m);
    m->pinned++; /* it stays until all of them have been told */
    for (uint32_t i = 0; i < m->job_count; i++) {
        struct yk_rdma_job *j = m->jobs[i];
        j->ending = 1;
        if (j->busy)
            continue; /* its helper sees it */
        if (j->dev != NULL)
            enqueue(j, 1);
        else
            job_gone(j);
    }
    m->pinned--;
}

/* One reference less, and the last under the lock: who is told that none is left may free it. */
static void mem_leave(struct yk_rdma_mem *m) {
    if (__atomic_sub_fetch(&m->refs, 1, __ATOMIC_ACQ_REL) == 0) /* the last sees what all did */
        mem_ends(m);
}

void yk_rdma_mem_put(struct yk_rdma_mem *m) {
    uint32_t n = m != NULL ? __atomic_load_n(&m->refs, __ATOMIC_RELAXED) : 0;
    while (n > 1)
        if (__atomic_compare_exchange_n(&m->refs, &n, n - 1, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
            return;
    if (n == 0)
        return;
    pthread_mutex_lock(&lock);
    mem_leave(m);
    mem_freed(m);
    pthread_mutex_unlock(&lock);
}

int yk_rdma_mem_end(struct yk_rdma_mem *m, int last) {
    pthread_mutex_lock(&lock);
    if (!m->awaited) {
        m->awaited = 1;
        mem_close(m);
        mem_leave(m);
    }
    int rc = __atomic_load_n(&m->refs, __ATOMIC_RELAXED) == 0 && m->pinned == 0 ? 0 : -YK_EAGAIN;
    if (rc == 0 || last) {
        m->awaited = 0;
        mem_freed(m);
    }
    pthread_mutex_unlock(&lock);
    return rc;
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

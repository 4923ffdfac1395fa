/* SPDX-License-Identifier: Apache-2.0
 *
 * Engine of one thread and one io_uring.
 *
 *      owner                              worker
 *   submit -> stack --(eventfd)--> [take in] -> sched -> slots -> SQEs --enter--> device
 *   reap  <- done stack (wake) <-- [settle]  <------------------- CQEs <---------
 *
 * The worker sleeps in io_uring_enter until a transfer ends or the eventfd, which the ring itself
 * reads, is written: idle costs nothing, and there is one place to wait. All requests that came
 * meanwhile start with one enter, all that ended go back with one wake. The owner writes the eventfd
 * only when the worker sleeps. The worker alone touches the ring (SINGLE_ISSUER), so the kernel runs
 * completions when it asks for them (DEFER_TASKRUN) instead of interrupting it.
 *
 * A request has a slot while it is under way:
 *
 *   free --start--> [needs a bounce buffer?] --no--> under way --CQE--> done: free
 *                     | none free       ^              ^  |  ^             | more to transfer
 *                     v                 |              |  |  +-------------+ (prepared again)
 *                   starved ------------+   timeout 1 ms  +--EAGAIN--> paused --+
 *
 * A ring on the owner's thread for all requests was rejected: submitting 64 of 1 MiB takes the kernel
 * some 100 us each time, in which a hit in memory would wait; it has one for a few reads (quick.c).
 * SQPOLL was rejected: it burns a core.
 *
 * Threads: yk_file_ring_{new,free,submit,mem_ready,kick,info} by the owner; the rest is the worker's.
 */
#include "base/clock.h"
#include "xfer/file/file_priv.h"

#include <errno.h>
#include <liburing.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#define BOUNCES      16u
#define SLOTS_BESIDE 1u  /* a flush */
#define REG_GAP_MS   40u /* between two chunks while requests are under way: a tenth of the time */
#define WAKE_DATA    1u  /* user_data of the eventfd's read; slots are pointers */

struct slot {
    struct yk_file_step step;
    struct slot *next;        /* free, or starved */
    struct yk_file_req *reqs; /* a FLUSH's list; else the one of step */
    struct __kernel_timespec pause;
    int paused;
};

struct slots {
    struct slot *head, *tail;
};

/* Thread: worker, but for what says otherwise. */
struct yk_file_ring {
    struct yk_file_dev *dev;
    struct io_uring ring;
    pthread_t thread;
    sem_t started;
    int start_rc; /* before `started` */
    int ring_there;
    uint64_t wake_word; /* what the ring reads from wake_fd */
    int wake_armed;
    int fixed_file; /* immutable once started */
    struct yk_file_sched sched;
    struct slot *slots; /* depth + SLOTS_BESIDE */
    struct slot *free_slots;
    uint32_t slot_count, busy;
    struct slots starved[2]; /* READ and WRITE that wait for a bounce buffer */
    char *bounce;
    char *free_bounces[BOUNCES];
    uint32_t free_bounce_count;
    struct yk_file_mem mem;
    uint64_t reg_ns; /* when the last chunk was registered */
    struct yk_file_batch ended;
    void *opts_mem;
    uint64_t opts_mem_bytes;

    /* Thread: any, atomic */
    struct yk_file_req *submitted __attribute__((aligned(64))); /* stack */
    int sleeps;
    int closing;
    int wake_fd; /* immutable */
};

/* ---- from the owner ------------------------------------------------------------------------- */

static void wake_worker(struct yk_file_ring *r) {
    /* Pairs with the worker's store before it looks at `submitted` for the last time. */
    if (__atomic_load_n(&r->sleeps, __ATOMIC_SEQ_CST) &&
        __atomic_exchange_n(&r->sleeps, 0, __ATOMIC_SEQ_CST))
        (void)eventfd_write(r->wake_fd, 1);
}

void yk_file_ring_submit(struct yk_file_ring *r, struct yk_file_req *reqs) {
    struct yk_file_req *last = reqs;
    struct yk_file_req *newest = yk_file_list_turn(reqs);
    struct yk_file_req *head = __atomic_load_n(&r->submitted, __ATOMIC_RELAXED);
    do
        last->next = head;
    while (!__atomic_compare_exchange_n(&r->submitted, &head, newest, 1, __ATOMIC_SEQ_CST,
                                        __ATOMIC_RELAXED));
    wake_worker(r);
}

void yk_file_ring_kick(struct yk_file_ring *r) {
    (void)eventfd_write(r->wake_fd, 1);
}

void yk_file_ring_mem_ready(struct yk_file_ring *r, uint64_t bytes) {
    if (bytes <= __atomic_load_n(&r->mem.ready, __ATOMIC_RELAXED))
        return;
    __atomic_store_n(&r->mem.ready, bytes, __ATOMIC_SEQ_CST); /* pairs with mem_wants */
    wake_worker(r);
}

void yk_file_ring_quick(struct yk_file_ring *r, uint32_t reads) {
    __atomic_store_n(&r->sched.quick, reads, __ATOMIC_RELAXED);
}

void yk_file_ring_info(const struct yk_file_ring *r, struct yk_file_info *info, char *note,
                       size_t note_bytes) {
    info->fixed_file = (uint8_t)r->fixed_file;
    info->fixed_bytes = __atomic_load_n(&r->mem.fixed, __ATOMIC_RELAXED);
    info->fixed_mem = info->fixed_bytes > 0;
    yk_file_mem_note(&r->mem, note, note_bytes);
}

/* ---- slots ---------------------------------------------------------------------------------- */

static struct io_uring_sqe *get_sqe(struct yk_file_ring *r) {
    struct io_uring_sqe *sqe;
    /* There is room for a transfer of each slot and the wake: only what the kernel did not take at
     * once is in the way. */
    while (!(sqe = io_uring_get_sqe(&r->ring)))
        (void)io_uring_submit(&r->ring);
    return sqe;
}

static void slots_add(struct slots *list, struct slot *s) {
    s->next = NULL;
    if (list->tail)
        list->tail->next = s;
    else
        list->head = s;
    list->tail = s;
}

static struct slot *slots_take(struct slots *list) {
    struct slot *s = list->head;
    if (s && !(list->head = s->next))
        list->tail = NULL;
    return s;
}

static void use_file(struct yk_file_ring *r, struct io_uring_sqe *sqe, struct slot *s) {
    if (r->fixed_file) {
        sqe->fd = 0;
        sqe->flags |= IOSQE_FIXED_FILE;
    }
    io_uring_sqe_set_data(sqe, s);
}

static void queue_transfer(struct yk_file_ring *r, struct slot *s) {
    const struct yk_file_step *t = &s->step;
    struct io_uring_sqe *sqe = get_sqe(r);
    int fd = r->dev->file.fd, write = t->req->op == YK_FILE_WRITE;
    uint64_t off = t->req->offset + t->done;
    unsigned n = (unsigned)t->bytes;
    int fixed = t->iov_count == 1 ? yk_file_mem_find(&r->mem, t->iov[0].iov_base, t->bytes) : -1;
    if (fixed >= 0 && write)
        io_uring_prep_write_fixed(sqe, fd, t->iov[0].iov_base, n, off, fixed);
    else if (fixed >= 0)
        io_uring_prep_read_fixed(sqe, fd, t->iov[0].iov_base, n, off, fixed);
    else if (t->iov_count == 1 && write)
        io_uring_prep_write(sqe, fd, t->iov[0].iov_base, n, off);
    else if (t->iov_count == 1)
        io_uring_prep_read(sqe, fd, t->iov[0].iov_base, n, off);
    else if (write)
        io_uring_prep_writev(sqe, fd, t->iov, t->iov_count, off);
    else
        io_uring_prep_readv(sqe, fd, t->iov, t->iov_count, off);
    use_file(r, sqe, s);
}

static void queue_flush(struct yk_file_ring *r, struct slot *s) {
    struct io_uring_sqe *sqe = get_sqe(r);
    io_uring_prep_fsync(sqe, r->dev->file.fd, IORING_FSYNC_DATASYNC);
    use_file(r, sqe, s);
}

static void queue_pause(struct yk_file_ring *r, struct slot *s) {
    struct io_uring_sqe *sqe = get_sqe(r);
    s->paused = 1;
    s->pause.tv_sec = 0;
    s->pause.tv_nsec = (long long)YK_NS_PER_MS;
    io_uring_prep_timeout(sqe, &s->pause, 0, 0);
    io_uring_sqe_set_data(sqe, s);
}

/* Prepares the slot's next transfer and queues it; without a bounce buffer it waits for one. */
static void proceed(struct yk_file_ring *r, struct slot *s) {
    if (s->reqs->op == YK_FILE_FLUSH) {
        queue_flush(r, s);
        return;
    }
    enum yk_file_step_next next = yk_file_step_prepare(&s->step, &r->dev->file, NULL);
    if (next == YK_FILE_STEP_BOUNCE) {
        if (r->free_bounce_count == 0) {
            slots_add(&r->starved[s->reqs->op], s);
            return;
        }
        (void)yk_file_step_prepare(&s->step, &r->dev->file,
                                   r->free_bounces[--r->free_bounce_count]);
    }
    queue_transfer(r, s);
}

static void give_bounce(struct yk_file_ring *r, struct slot *s) {
    if (!s->step.bounce)
        return;
    r->free_bounces[r->free_bounce_count++] = s->step.bounce;
    s->step.bounce = NULL;
}

static void feed_starved(struct yk_file_ring *r) {
    while (r->free_bounce_count > 0) {
        struct slot *s = slots_take(&r->starved[YK_FILE_READ]);
        if (!s && !(s = slots_take(&r->starved[YK_FILE_WRITE])))
            return;
        proceed(r, s);
    }
}

static void start(struct yk_file_ring *r) {
    while (r->free_slots) {
        struct yk_file_req *reqs = yk_file_sched_next(&r->sched);
        if (!reqs)
            return;
        struct slot *s = r->free_slots;
        r->free_slots = s->next;
        r->busy++;
        s->reqs = reqs;
        s->paused = 0;
        yk_file_step_init(&s->step, reqs);
        proceed(r, s);
    }
}

static void end(struct yk_file_ring *r, struct slot *s) {
    struct yk_file_req *reqs = s->reqs;
    yk_file_sched_done(&r->sched, reqs);
    while (reqs) {
        struct yk_file_req *next = reqs->next;
        yk_file_batch_add(r->dev, &r->ended, reqs);
        reqs = next;
    }
    s->reqs = NULL;
    s->next = r->free_slots;
    r->free_slots = s;
    r->busy--;
}

/* ---- completions ---------------------------------------------------------------------------- */

static void flush_ended(struct yk_file_ring *r, struct slot *s, int res) {
    if (res == -EINTR || res == -EAGAIN) {
        if (++s->step.tries <= YK_FILE_RETRIES) {
            queue_pause(r, s);
            return;
        }
        res = -EIO;
    }
    for (struct yk_file_req *req = s->reqs; req; req = req->next)
        yk_file_req_end(req, res < 0 ? -res : 0);
    end(r, s);
}

static void transfer_ended(struct yk_file_ring *r, struct slot *s, int res) {
    uint64_t bounced = 0;
    enum yk_file_step_next next = yk_file_step_finish(&s->step, &r->dev->file, res, &bounced);
    give_bounce(r, s);
    if (bounced > 0)
        __atomic_fetch_add(&r->dev->st.bounced_bytes, bounced, __ATOMIC_RELAXED);
    if (next == YK_FILE_STEP_GO)
        proceed(r, s);
    else if (next == YK_FILE_STEP_LATER)
        queue_pause(r, s);
    else
        end(r, s);
}

static void slot_ended(struct yk_file_ring *r, struct slot *s, int res) {
    if (s->paused) {
        s->paused = 0;
        proceed(r, s);
    } else if (s->reqs->op == YK_FILE_FLUSH) {
        flush_ended(r, s, res);
    } else {
        transfer_ended(r, s, res);
    }
}

static void settle(struct yk_file_ring *r) {
    struct io_uring_cqe *cqe;
    while (io_uring_peek_cqe(&r->ring, &cqe) == 0) {
        uint64_t data = cqe->user_data;
        int res = cqe->res;
        io_uring_cqe_seen(&r->ring, cqe);
        if (data == WAKE_DATA)
            r->wake_armed = 0;
        else
            slot_ended(r, (struct slot *)(uintptr_t)data, res);
    }
    feed_starved(r);
}

/* ---- the worker ----------------------------------------------------------------------------- */

static void arm_wake(struct yk_file_ring *r) {
    struct io_uring_sqe *sqe = get_sqe(r);
    io_uring_prep_read(sqe, r->wake_fd, &r->wake_word, sizeof(r->wake_word), 0);
    io_uring_sqe_set_data64(sqe, WAKE_DATA);
    r->wake_armed = 1;
}

static void take_in(struct yk_file_ring *r) {
    if (!__atomic_load_n(&r->submitted, __ATOMIC_RELAXED))
        return;
    struct yk_file_req *req =
        yk_file_list_turn(__atomic_exchange_n(&r->submitted, NULL, __ATOMIC_ACQUIRE));
    while (req) {
        struct yk_file_req *next = req->next;
        yk_file_sched_add(&r->sched, req);
        req = next;
    }
}

/* Registers a chunk when nothing is under way, or a while after the last. 1: there is more, at once. */
static int register_some(struct yk_file_ring *r) {
    if (!yk_file_mem_wants(&r->mem))
        return 0;
    if (r->busy > 0 && yk_now_ns() - r->reg_ns < REG_GAP_MS * YK_NS_PER_MS)
        return 0;
    yk_file_mem_step(&r->mem, &r->ring);
    r->reg_ns = yk_now_ns();
    return r->busy == 0 && yk_file_mem_wants(&r->mem);
}

/* Is there anything that the owner wants and the worker has not seen? After `sleeps` was stored. */
static int is_called(const struct yk_file_ring *r) {
    return __atomic_load_n(&r->submitted, __ATOMIC_SEQ_CST) != NULL ||
           (r->busy == 0 && yk_file_mem_wants(&r->mem)) ||
           (!r->wake_armed && __atomic_load_n(&r->closing, __ATOMIC_SEQ_CST) && r->busy == 0);
}

/* Gives the kernel what is queued and sleeps until something ends or the owner calls. */
static void sleep_on(struct yk_file_ring *r, int stay_awake) {
    unsigned wait = 0;
    if (!stay_awake) {
        __atomic_store_n(&r->sleeps, 1, __ATOMIC_SEQ_CST); /* pairs with wake_worker */
        wait = is_called(r) ? 0u : 1u;
    }
    /* Not submit_and_wait(0): it does not enter the kernel, which runs completions only there. */
    int rc =
        wait ? io_uring_submit_and_wait(&r->ring, 1) : io_uring_submit_and_get_events(&r->ring);
    __atomic_store_n(&r->sleeps, 0, __ATOMIC_RELAXED);
    /* EINTR, EAGAIN, EBUSY: what is queued stays queued and the completions make room. Nothing else is
     * known to come; were it to, a pause keeps the worker from spinning. */
    if (rc < 0 && rc != -EINTR && rc != -EBUSY) {
        struct timespec ts = {.tv_nsec = (long)YK_NS_PER_MS};
        nanosleep(&ts, NULL);
    }
}

static int has_ended(const struct yk_file_ring *r) {
    return __atomic_load_n(&r->closing, __ATOMIC_ACQUIRE) && r->busy == 0 && !r->wake_armed &&
           !__atomic_load_n(&r->submitted, __ATOMIC_ACQUIRE);
}

static void work(struct yk_file_ring *r) {
    while (!has_ended(r)) {
        take_in(r);
        start(r);
        int more = register_some(r);
        if (!r->wake_armed && !__atomic_load_n(&r->closing, __ATOMIC_ACQUIRE))
            arm_wake(r);
        sleep_on(r, more);
        settle(r);
        yk_file_batch_push(r->dev, &r->ended);
    }
}

/* ---- start and end -------------------------------------------------------------------------- */

static int make_ring(struct yk_file_ring *r) {
    static const unsigned flags[] = {IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN, 0};
    unsigned entries = r->slot_count + 1u;
    int rc = -EINVAL;
    for (unsigned i = 0; i < 2 && rc == -EINVAL; i++)
        rc = io_uring_queue_init(entries, &r->ring, flags[i]);
    if (rc < 0)
        return rc;
    r->ring_there = 1;
    (void)io_uring_register_ring_fd(&r->ring); /* spares a look-up in each enter */
    r->fixed_file = io_uring_register_files(&r->ring, &r->dev->file.fd, 1) == 0;
    yk_file_mem_init(&r->mem, &r->ring, r->opts_mem, r->opts_mem_bytes);
    return 0;
}

/* The kernel takes a ring down some time after it is closed; the file and the memory go now. */
static void end_ring(struct yk_file_ring *r) {
    if (r->fixed_file)
        (void)io_uring_unregister_files(&r->ring);
    if (r->mem.base)
        (void)io_uring_unregister_buffers(&r->ring);
    io_uring_queue_exit(&r->ring);
}

static void *ring_main(void *arg) {
    struct yk_file_ring *r = arg;
    r->start_rc = make_ring(r);
    int there = r->start_rc == 0;
    sem_post(&r->started);
    if (there) {
        work(r);
        end_ring(r);
    }
    return NULL;
}

static void ring_fini(struct yk_file_ring *r) {
    sem_destroy(&r->started);
    if (r->wake_fd >= 0)
        close(r->wake_fd);
    if (r->bounce != MAP_FAILED)
        munmap(r->bounce, (size_t)BOUNCES * YK_FILE_BOUNCE);
    free(r->slots);
    free(r);
}

static int ring_make(struct yk_file_dev *dev, const struct yk_file_opts *opts,
                     struct yk_file_ring **ret_ring) {
    struct yk_file_ring *r = aligned_alloc(64, (sizeof(*r) + 63u) / 64u * 64u);
    if (!r)
        return -ENOMEM;
    memset(r, 0, sizeof(*r));
    r->dev = dev;
    r->opts_mem = opts->mem;
    r->opts_mem_bytes = opts->mem_bytes;
    r->sched.depth = opts->depth > YK_FILE_DEPTH_MAX ? YK_FILE_DEPTH_MAX
                     : opts->depth > 0               ? opts->depth
                                                     : YK_FILE_DEPTH;
    r->slot_count = r->sched.depth + SLOTS_BESIDE;
    r->slots = calloc(r->slot_count, sizeof(*r->slots));
    r->bounce = mmap(NULL, (size_t)BOUNCES * YK_FILE_BOUNCE, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    r->wake_fd = eventfd(0, EFD_CLOEXEC);
    sem_init(&r->started, 0, 0);
    if (!r->slots || r->bounce == MAP_FAILED || r->wake_fd < 0) {
        ring_fini(r);
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < r->slot_count; i++) {
        r->slots[i].next = r->free_slots;
        r->free_slots = &r->slots[i];
    }
    for (uint32_t i = 0; i < BOUNCES; i++)
        r->free_bounces[r->free_bounce_count++] = r->bounce + (size_t)i * YK_FILE_BOUNCE;
    *ret_ring = r;
    return 0;
}

int yk_file_ring_new(struct yk_file_dev *dev, const struct yk_file_opts *opts,
                     struct yk_file_ring **ret_ring) {
    struct yk_file_ring *r;
    int rc = ring_make(dev, opts, &r);
    if (rc < 0)
        return rc;
    if (yk_file_thread(&r->thread, "yolk-file", ring_main, r) < 0) {
        ring_fini(r);
        return -EAGAIN;
    }
    while (sem_wait(&r->started) < 0)
        ;
    if (r->start_rc < 0) {
        rc = r->start_rc;
        pthread_join(r->thread, NULL);
        ring_fini(r);
        return rc;
    }
    *ret_ring = r;
    return 0;
}

void yk_file_ring_free(struct yk_file_ring *r) {
    if (!r)
        return;
    __atomic_store_n(&r->closing, 1, __ATOMIC_SEQ_CST);
    /* Always: the read of it that the ring has must end, too. */
    (void)eventfd_write(r->wake_fd, 1);
    pthread_join(r->thread, NULL);
    ring_fini(r);
}

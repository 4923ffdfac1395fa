/* SPDX-License-Identifier: Apache-2.0
 *
 * The node's helper threads, all at the lowest priority.
 *
 * populate  touches a fresh tier in the background, so that the first puts do not pay for page
 *           faults and zeroing (8 GiB took up to 19 s at a start), while the node serves at once. With
 *           an SSD tier one that was found, too: what is populated is registered with the devices,
 *           which would else do what is missing themselves, while requests wait.
 * scrub     reads payloads and compares checksums: after an unclean stop every SUSPECT block, ahead
 *           of its first use; then a slow pass over all blocks every scrub_interval_s. It reads as
 *           a client does, through a hazard slot of the node's own page (HAZARD_SCRUB), and reports
 *           through that page's ring, of which it is the one producer.
 *
 * learn     where the policy learns: learn.c
 *
 * All sleep on a condition variable: no polling, and a stop is seen at once.
 */
#include "node/node_priv.h"

#include "base/clock.h"
#include "base/hash.h"
#include "shm/layout.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* One call holds the lock of the address space, which the loop's own allocations need now and then. */
#define POPULATE_CHUNK (2ull << 20)
#define SCRUB_BURST    (4ull << 20) /* bytes between two looks at the rate */
/* Suspect blocks are read at this rate however slow the background pass is: 8 GiB in 16 s, and the
 * other core stays free. */
#define SUSPECT_RATE  (512ull << 20)
#define REPORT_NAP_NS 1000000ull

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

static int stopped(struct yk_node *node) {
    return __atomic_load_n(&node->helpers_stop, __ATOMIC_ACQUIRE);
}

/* Sleeps for ns or until the stop. */
static void nap(struct yk_node *node, uint64_t ns) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts); /* the clock of helper_cond */
    ts.tv_sec += (time_t)(ns / 1000000000u);
    ts.tv_nsec += (long)(ns % 1000000000u);
    if (ts.tv_nsec >= 1000000000L) {
        ts.tv_sec++;
        ts.tv_nsec -= 1000000000L;
    }
    pthread_mutex_lock(&node->helper_lock);
    if (!stopped(node))
        pthread_cond_timedwait(&node->helper_cond, &node->helper_lock, &ts);
    pthread_mutex_unlock(&node->helper_lock);
}

static void lowest_priority(const char *name) {
    pthread_setname_np(pthread_self(), name);
    setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), 19); /* Linux: of this thread */
}

static void *populate_main(void *arg) {
    struct yk_node *node = arg;
    char *data = node->seg->data;
    uint64_t bytes = node->seg->layout.data_bytes;
    lowest_priority("yolk-populate");
    for (uint64_t at = 0; at < bytes && !stopped(node); at += POPULATE_CHUNK) {
        uint64_t n = bytes - at < POPULATE_CHUNK ? bytes - at : POPULATE_CHUNK;
        if (madvise(data + at, n, MADV_POPULATE_WRITE) < 0)
            break; /* an older kernel, or memory ran out: pages come as they are needed (back.c) */
        yk_store_backed(node->store, at, n);
        /* Relaxed: who registers these pages needs them to be there, and nothing that is in them. */
        __atomic_store_n(&node->n.populated_bytes, at + n, __ATOMIC_RELAXED);
    }
    uv_async_send(&node->wake); /* the loop may doze, and has not told the devices of the rest */
    return NULL;
}

/* Waits for the loop where the ring is full: a report that is overwritten is lost. */
static void report(struct yk_node *node, unsigned kind, uint32_t birth, uint32_t idx) {
    struct yk_client_page *page = node->seg->clients; /* slot 0 */
    uint64_t head = page->ring_head;
    while (head - __atomic_load_n(&page->ring_tail, __ATOMIC_ACQUIRE) >= YK_SHM_RING &&
           !stopped(node)) {
        uv_async_send(&node->wake);
        nap(node, REPORT_NAP_NS);
    }
    __atomic_store_n(&page->ring[head & (YK_SHM_RING - 1u)], YK_EVENT(kind, birth, idx),
                     __ATOMIC_RELAXED);
    __atomic_store_n(&page->ring_head, head + 1u, __ATOMIC_RELEASE);
    if (kind == YK_EVENT_CORRUPT)
        uv_async_send(&node->wake); /* the loop may doze */
}

/* Verifies descriptor idx if its state is wanted. Returns bytes read. */
static uint64_t scrub_one(struct yk_node *node, uint32_t idx, int suspect_only) {
    const struct yk_view *view = yk_store_view(node->store);
    struct yk_client_page *page = node->seg->clients;
    uint32_t *hazard = &page->hazard[YK_HAZARD_SCRUB];
    const struct yk_desc *d = &view->desc[idx];
    const struct yk_rest *rest = &view->rest[idx];
    uint64_t word = __atomic_load_n(&d->word, __ATOMIC_ACQUIRE);
    unsigned state = YK_WORD_STATE(word);
    if (state != YK_DESC_SUSPECT && (suspect_only || state != YK_DESC_COMMITTED))
        return 0;
    __atomic_store_n(hazard, idx + 1u, __ATOMIC_RELEASE);
    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* as yk_view_pin */
    uint64_t n = 0;
    if (__atomic_load_n(&d->word, __ATOMIC_ACQUIRE) == word) {
        uint64_t offset = __atomic_load_n(&rest->offset, __ATOMIC_RELAXED);
        uint64_t len = __atomic_load_n(&d->len, __ATOMIC_RELAXED);
        int good =
            offset <= view->layout.data_bytes && len <= view->layout.data_bytes - offset &&
            yk_hash64(view->data + offset, len) == __atomic_load_n(&rest->sum, __ATOMIC_RELAXED);
        n = len;
        if (!good || state == YK_DESC_SUSPECT)
            report(node, good ? YK_EVENT_VERIFIED : YK_EVENT_CORRUPT, rest->birth, idx);
    }
    yk_hazard_clear(hazard);
    return n;
}

static void scrub_pass(struct yk_node *node, int suspect_only, uint64_t rate) {
    const struct yk_view *view = yk_store_view(node->store);
    uint64_t burst = 0;
    uint32_t top = __atomic_load_n(&view->hdr->desc_top, __ATOMIC_RELAXED);
    for (uint32_t idx = 0; idx < top && idx < view->layout.max_blocks && !stopped(node); idx++) {
        uint64_t n = scrub_one(node, idx, suspect_only);
        burst += n;
        __atomic_store_n(&node->n.scrubbed_bytes, node->n.scrubbed_bytes + n, __ATOMIC_RELAXED);
        if (burst < SCRUB_BURST)
            continue;
        nap(node, burst * 1000000000ull / rate);
        burst = 0;
    }
}

static void *scrub_main(void *arg) {
    struct yk_node *node = arg;
    const struct yk_node_opts *o = &node->opts;
    lowest_priority("yolk-scrub");
    if (node->seg->found == YK_SEGMENT_UNCLEAN) {
        uint64_t rate = o->scrub_bytes_per_s > SUSPECT_RATE ? o->scrub_bytes_per_s : SUSPECT_RATE;
        scrub_pass(node, 1, rate);
        scrub_pass(node, 1, rate); /* those that were being moved */
    }
    while (o->scrub_bytes_per_s != 0 && !stopped(node)) {
        nap(node, (o->scrub_interval_s != 0 ? o->scrub_interval_s : 3600u) * 1000000000ull);
        if (stopped(node))
            break;
        scrub_pass(node, 0, o->scrub_bytes_per_s);
        __atomic_store_n(&node->n.scrub_passes, node->n.scrub_passes + 1, __ATOMIC_RELAXED);
    }
    return NULL;
}

int helpers_start(struct yk_node *node) {
    int found = node->seg->found != YK_SEGMENT_FRESH;
    if (node->opts.populate && (!found || yk_store_ssd(node->store) != NULL))
        node->populate_started =
            pthread_create(&node->populate_thread, NULL, populate_main, node) == 0;
    node->scrub_started = pthread_create(&node->scrub_thread, NULL, scrub_main, node) == 0;
    node_learn_start(node);
    return 0;
}

void helpers_stop(struct yk_node *node) {
    pthread_mutex_lock(&node->helper_lock);
    __atomic_store_n(&node->helpers_stop, 1, __ATOMIC_RELEASE);
    pthread_cond_broadcast(&node->helper_cond);
    pthread_cond_broadcast(&node->learn_cond);
    pthread_mutex_unlock(&node->helper_lock);
    if (node->populate_started)
        pthread_join(node->populate_thread, NULL);
    if (node->scrub_started)
        pthread_join(node->scrub_thread, NULL);
    if (node->learn_started)
        pthread_join(node->learn_thread, NULL);
    node->populate_started = node->scrub_started = node->learn_started = 0;
}

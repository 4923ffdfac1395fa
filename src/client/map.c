/* SPDX-License-Identifier: Apache-2.0
 *
 * Mappings of one handle (src/client/map.h).
 */
#include "client/map.h"

#include "shm/guard.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* A read fault maps so much at once (the kernel's default), aligned; pages are populated by chunks of
 * it, those that a payload needs and no others: every client has page tables of its own, and a chunk
 * of 2 MiB cost a put of 64 KiB ten times its copy. Those of the writable mapping are populated as if
 * to be read: the kernel maps shared memory writable then, 16 pages at a fault, where a write fault
 * takes one page after the other. 100 us a MiB instead of 310 to 390, and no fault follows; a copy of
 * 1 MiB takes 95. */
#define CHUNK_SHIFT 16u
#define CHUNK       (1u << CHUNK_SHIFT)

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

/* Turns of waiting for another thread that adds an event (a few ns each): it needs about ten. */
#define RING_SPINS 64

static unsigned threads_seen;

unsigned yk_thread_number(void) {
    /* initial-exec: one load instead of a call, and 4 bytes of the loader's static reserve. */
    static _Thread_local unsigned number __attribute__((tls_model("initial-exec")));
    if (number == 0)
        number = __atomic_add_fetch(&threads_seen, 1, __ATOMIC_RELAXED);
    return number - 1;
}

static inline void cpu_relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* ---- open, close ---------------------------------------------------------------------------- */

static int check_file(int fd, uint64_t bytes, const char *what, struct yk_err *err) {
    struct stat st;
    if (bytes == 0 || bytes > (uint64_t)INT64_MAX / 2 || fstat(fd, &st) < 0 || st.st_size < 0)
        return yk_err_set(err, -YK_EPROTO, "the node's %s file of %llu bytes cannot be used", what,
                          (unsigned long long)bytes);
    if ((uint64_t)st.st_size < bytes)
        return yk_err_set(err, -YK_ECORRUPT,
                          "the node's %s file has %llu bytes instead of %llu, its memory is lost: "
                          "restart yolkd",
                          what, (unsigned long long)st.st_size, (unsigned long long)bytes);
    return 0;
}

/* Maps, keeps out of forked children (R3), guards. *ret NULL: nothing was mapped. */
static int map_range(int *lost, int fd, uint64_t offset, uint64_t bytes, int prot, int guard,
                     void **ret, struct yk_err *err) {
    void *p = mmap(NULL, bytes, prot, MAP_SHARED | MAP_NORESERVE, fd, (off_t)offset);
    if (p == MAP_FAILED)
        return yk_err_set(err, -yk_status_from_errno(errno), "mapping %llu bytes of the node: %s",
                          (unsigned long long)bytes, strerror(errno));
    *ret = p;
    if (madvise(p, bytes, MADV_DONTFORK) < 0)
        return yk_err_set(err, -YK_EIO, "keeping the node's memory out of forks: %s",
                          strerror(errno));
    if (guard && (yk_guard_install() < 0 || yk_guard_add(p, bytes, prot, lost) < 0))
        return yk_err_set(err, -YK_ELIMIT,
                          "no SIGBUS guard for this mapping: too many in this process, or "
                          "no handler can be installed");
    return 0;
}

static int map_all(struct yk_map *m, const struct yk_map_opts *o, struct yk_err *err) {
    void *meta = NULL, *data = NULL, *rw = NULL, *page = NULL;
    uint64_t page_at = (uint64_t)o->slot * sizeof(struct yk_client_page);
    int rc = map_range(&m->lost, o->fd_meta, 0, o->meta_bytes, PROT_READ, o->guard, &meta, err);
    m->view.meta = meta;
    if (rc == 0)
        rc = map_range(&m->lost, o->fd_data, 0, o->data_bytes, PROT_READ, o->guard, &data, err);
    m->view.data = data;
    if (rc == 0)
        rc = map_range(&m->lost, o->fd_data, 0, o->data_bytes, PROT_READ | PROT_WRITE, o->guard,
                       &rw, err);
    m->rw = rw;
    if (rc == 0)
        rc = map_range(&m->lost, o->fd_clients, page_at, sizeof(struct yk_client_page),
                       PROT_READ | PROT_WRITE, o->guard, &page, err);
    m->page = page;
    return rc;
}

static int map_check(const struct yk_map_opts *o, struct yk_err *err) {
    int rc = check_file(o->fd_meta, o->meta_bytes, "meta", err);
    if (rc == 0)
        rc = check_file(o->fd_data, o->data_bytes, "data", err);
    if (rc == 0)
        rc = check_file(o->fd_clients, o->clients_bytes, "clients", err);
    if (rc == 0 &&
        (o->slot >= o->clients_bytes / sizeof(struct yk_client_page) ||
         (o->ns >= YK_SHM_NAMESPACES && o->ns != YK_SHM_NONE)))
        rc = yk_err_set(err, -YK_EPROTO, "the node granted client slot %u, namespace %u: no such",
                        o->slot, o->ns);
    return rc;
}

static void lower_unmap(struct yk_lower *l) {
    if (l->base == NULL)
        return;
    if (l->guarded)
        yk_guard_remove(l->base);
    munmap(l->base, l->bytes);
}

static void unmap(struct yk_map *m) {
    void *const base[4] = {(void *)(uintptr_t)m->view.meta, (void *)(uintptr_t)m->view.data, m->rw,
                           m->page};
    const uint64_t bytes[4] = {m->meta_bytes, m->data_bytes, m->data_bytes,
                               sizeof(struct yk_client_page)};
    for (int i = 0; i < 4; i++) {
        if (base[i] == NULL)
            continue;
        if (m->guarded)
            yk_guard_remove(base[i]);
        munmap(base[i], bytes[i]);
    }
    for (struct yk_lower *l = m->lower; l != NULL; l = l->older)
        lower_unmap(l);
}

int yk_map_open(const struct yk_map_opts *o, struct yk_map **ret_map, struct yk_err *err) {
    int rc = map_check(o, err);
    if (rc < 0)
        return rc;
    struct yk_map *m = aligned_alloc(64, sizeof(*m));
    if (m == NULL)
        return yk_err_set(err, -YK_ENOMEM, "out of memory");
    memset(m, 0, sizeof(*m));
    m->meta_bytes = o->meta_bytes;
    m->data_bytes = o->data_bytes;
    m->segment_id = o->segment_id;
    m->cookie = o->cookie;
    m->slot = o->slot;
    m->ns = o->ns;
    m->asked_tail = UINT64_MAX;
    m->guarded = o->guard;
    size_t words = (size_t)((o->data_bytes >> CHUNK_SHIFT) / 64u + 1u);
    for (int i = 0; i < 2; i++)
        m->touched[i] = calloc(words, sizeof(uint64_t));
    rc = m->touched[0] == NULL || m->touched[1] == NULL
             ? yk_err_set(err, -YK_ENOMEM, "out of memory")
             : map_all(m, o, err);
    if (rc == 0) {
        rc = yk_view_init(&m->view, m->view.meta, o->meta_bytes, m->view.data, o->data_bytes);
        if (rc < 0)
            yk_err_set(err, rc, "the node's segment cannot be read: %s", yk_status_text(rc));
    }
    for (unsigned i = 0; rc == 0 && i < YK_COUNTERS; i++) /* of a slot that was the handle's before */
        m->counted[i] = __atomic_load_n(&m->page->counters[i], __ATOMIC_RELAXED);
    if (rc == 0)
        rc = yk_map_lower_open(m, o, &m->lower, err);
    if (rc < 0) {
        yk_map_close(m, 0);
        return rc;
    }
    *ret_map = m;
    return 0;
}

void yk_map_close(struct yk_map *m, int forked) {
    if (m == NULL)
        return;
    if (!forked && (__atomic_exchange_n(&m->state, 2, __ATOMIC_SEQ_CST) & 3u) != 2)
        unmap(m);
    free(m->touched[0]);
    free(m->touched[1]);
    for (struct yk_lower *l = m->lower, *older; l != NULL; l = older) {
        older = l->older;
        free(l);
    }
    free(m);
}

/* ---- tiers below -------------------------------------------------------------------------------- */

static int lower_map(struct yk_lower *l, const struct yk_map_opts *o, struct yk_err *err) {
    int rc = check_file(o->fd_filter, o->filter_bytes, "filter", err);
    if (rc == 0)
        rc = map_range(&l->lost, o->fd_filter, 0, o->filter_bytes, PROT_READ, o->guard, &l->base,
                       err);
    if (rc == 0) {
        rc = yk_filter_init(&l->filter, l->base, o->filter_bytes);
        if (rc < 0)
            yk_err_set(err, rc, "the node's filter cannot be read: %s", yk_status_text(rc));
    }
    return rc;
}

int yk_map_lower_open(const struct yk_map *m, const struct yk_map_opts *o,
                      struct yk_lower **ret_lower, struct yk_err *err) {
    struct yk_lower *l = calloc(1, sizeof(*l));
    if (l == NULL)
        return yk_err_set(err, -YK_ENOMEM, "out of memory");
    l->run = __atomic_load_n(&m->view.hdr->ssd_run, __ATOMIC_RELAXED);
    l->bytes = o->filter_bytes;
    l->guarded = o->guard;
    int rc = o->fd_filter >= 0 ? lower_map(l, o, err) : 0;
    if (rc < 0) {
        yk_map_lower_close(l);
        return rc;
    }
    *ret_lower = l;
    return 0;
}

/* Zeros in place of what nobody is to trust any more. The kernel puts the new pages there at once for
 * all threads: who reads a zero anywhere reads the zero of yk_filter's `complete` after it. If it
 * cannot, the run number still says that this filter is of another node. */
static void lower_cover(struct yk_lower *l) {
    if (l->base == NULL ||
        mmap(l->base, l->bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE,
             -1, 0) != l->base)
        return;
    if (l->guarded)
        yk_guard_remove(l->base);
    l->guarded = 0;
    (void)madvise(l->base, l->bytes, MADV_DONTFORK);
}

void yk_map_lower_set(struct yk_map *m, struct yk_lower *lower) {
    struct yk_lower *old = m->lower;
    lower->older = old;
    __atomic_store_n(&m->lower, lower, __ATOMIC_RELEASE); /* pairs: yk_map_lower_maybe */
    lower_cover(old);
}

void yk_map_lower_close(struct yk_lower *l) {
    if (l == NULL)
        return;
    lower_unmap(l);
    free(l);
}

/* ---- who is inside ---------------------------------------------------------------------------- */

static int idle(const struct yk_map *m) {
    if (__atomic_load_n(&m->writers, __ATOMIC_SEQ_CST) != 0)
        return 0;
    for (unsigned i = 0; i < YK_MAP_STRIPES; i++)
        if (__atomic_load_n(&m->looks[i].n, __ATOMIC_SEQ_CST) != 0)
            return 0;
    for (unsigned i = 0; i < YK_MAP_PIN_WORDS; i++)
        if (__atomic_load_n(&m->pins[i].n, __ATOMIC_SEQ_CST) != 0)
            return 0;
    return 1;
}

void yk_map_reap(struct yk_map *m) {
    /* Before it is looked at: who is stopped behind the look must not take a later retirement for this one. */
    uint32_t retired = __atomic_load_n(&m->state, __ATOMIC_SEQ_CST);
    if ((retired & 3u) == 1 && idle(m) &&
        __atomic_compare_exchange_n(&m->state, &retired, 2, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        unmap(m);
}

void yk_map_retire(struct yk_map *m) {
    uint32_t was = __atomic_load_n(&m->state, __ATOMIC_SEQ_CST);
    __atomic_store_n(&m->state, (was & ~3u) + 4u + 1u, __ATOMIC_SEQ_CST);
    yk_map_reap(m);
}

int yk_map_revive(struct yk_map *m) {
    uint32_t retired = __atomic_load_n(&m->state, __ATOMIC_SEQ_CST);
    return (retired & 3u) == 1 && __atomic_compare_exchange_n(&m->state, &retired, retired & ~3u, 0, __ATOMIC_SEQ_CST,
                                                              __ATOMIC_SEQ_CST)
               ? 0
               : -YK_EGONE;
}

int yk_map_has_writers(const struct yk_map *m) {
    return __atomic_load_n(&m->writers, __ATOMIC_SEQ_CST) != 0;
}

int yk_map_is_over(const struct yk_map *m) {
    return (__atomic_load_n(&m->state, __ATOMIC_SEQ_CST) & 3u) == 2;
}

static inline void left(struct yk_map *m) {
    if (__builtin_expect((__atomic_load_n(&m->state, __ATOMIC_SEQ_CST) & 3u) != 0, 0))
        yk_map_reap(m);
}

struct yk_map *yk_map_enter(struct yk_map *const *where) {
    unsigned stripe = yk_thread_number() % YK_MAP_STRIPES;
    for (;;) {
        struct yk_map *m = __atomic_load_n(where, __ATOMIC_ACQUIRE);
        if (m == NULL)
            return NULL;
        __atomic_fetch_add(&m->looks[stripe].n, 1, __ATOMIC_SEQ_CST);
        if (__atomic_load_n(where, __ATOMIC_SEQ_CST) == m)
            return m;
        yk_map_leave(m);
    }
}

void yk_map_leave(struct yk_map *m) {
    __atomic_fetch_sub(&m->looks[yk_thread_number() % YK_MAP_STRIPES].n, 1, __ATOMIC_SEQ_CST);
    left(m);
}

struct yk_map *yk_map_enter_write(struct yk_map *const *where) {
    for (;;) {
        struct yk_map *m = __atomic_load_n(where, __ATOMIC_ACQUIRE);
        if (m == NULL)
            return NULL;
        __atomic_fetch_add(&m->writers, 1, __ATOMIC_SEQ_CST);
        if (__atomic_load_n(where, __ATOMIC_SEQ_CST) == m)
            return m;
        yk_map_leave_write(m);
    }
}

void yk_map_leave_write(struct yk_map *m) {
    __atomic_fetch_sub(&m->writers, 1, __ATOMIC_SEQ_CST);
    left(m);
}

/* Takes a free hazard slot, or returns YK_SHM_HAZARDS. Threads begin in different words, so that
 * they share no cache line; four words only, so that the node's scan stays short. */
static uint32_t pin_take(struct yk_map *m) {
    unsigned start = yk_thread_number() % 4u;
    for (unsigned k = 0; k < YK_MAP_PIN_WORDS; k++) {
        unsigned w = (start + k) % YK_MAP_PIN_WORDS;
        uint64_t used = __atomic_load_n(&m->pins[w].n, __ATOMIC_RELAXED);
        while (used != UINT64_MAX) {
            uint64_t bit = ~used & (used + 1); /* lowest clear */
            if (__atomic_compare_exchange_n(&m->pins[w].n, &used, used | bit, 0, __ATOMIC_SEQ_CST,
                                            __ATOMIC_RELAXED))
                return w * 64u + (uint32_t)__builtin_ctzll(bit);
        }
    }
    return YK_SHM_HAZARDS;
}

static void pin_give(struct yk_map *m, uint32_t slot) {
    __atomic_fetch_and(&m->pins[slot / 64u].n, ~(1ull << (slot % 64u)), __ATOMIC_SEQ_CST);
    left(m);
}

/* The owner scans slots below the top: it is raised before the slot's first hazard. Pairs with the
 * acquire load of the owner; that the owner sees it follows from the fence in yk_view_pin. */
static void top_raise(struct yk_client_page *page, uint32_t slot) {
    uint32_t top = __atomic_load_n(&page->hazard_top, __ATOMIC_RELAXED);
    while (top <= slot)
        if (__atomic_compare_exchange_n(&page->hazard_top, &top, slot + 1u, 0, __ATOMIC_RELEASE,
                                        __ATOMIC_RELAXED))
            return;
}

struct yk_map *yk_map_enter_pin(struct yk_map *const *where, uint32_t *ret_slot, int *ret_full) {
    *ret_full = 0;
    for (;;) {
        struct yk_map *m = __atomic_load_n(where, __ATOMIC_ACQUIRE);
        if (m == NULL)
            return NULL;
        uint32_t slot = pin_take(m);
        if (slot == YK_SHM_HAZARDS) {
            *ret_full = 1;
            return NULL;
        }
        if (__atomic_load_n(where, __ATOMIC_SEQ_CST) == m) {
            top_raise(m->page, slot);
            *ret_slot = slot;
            return m;
        }
        pin_give(m, slot);
    }
}

void yk_map_leave_pin(struct yk_map *m, uint32_t slot) {
    __atomic_store_n(&m->len[slot], 0, __ATOMIC_RELAXED);
    yk_hazard_clear(yk_map_hazard(m, slot));
    pin_give(m, slot);
}

void yk_map_pinned(const struct yk_map *m, uint64_t *ret_refs, uint64_t *ret_bytes) {
    *ret_refs = 0;
    *ret_bytes = 0;
    for (uint32_t i = 0; i < YK_SHM_HAZARDS; i++) {
        uint32_t len = __atomic_load_n(&m->len[i], __ATOMIC_RELAXED);
        *ret_refs += len != 0;
        *ret_bytes += len;
    }
}

/* ---- payload ------------------------------------------------------------------------------------ */

static int is_touched(const uint64_t *touched, uint64_t chunk) {
    return (int)(__atomic_load_n(&touched[chunk / 64u], __ATOMIC_RELAXED) >> (chunk % 64u) & 1u);
}

static int all_touched(const uint64_t *touched, uint64_t first, uint64_t last) {
    while (first <= last && is_touched(touched, first))
        first++;
    return first > last;
}

/* Populates chunks [first, end). */
static void populate(const struct yk_map *m, unsigned char *base, uint64_t first, uint64_t end) {
    uint64_t at = first << CHUNK_SHIFT, to = end << CHUNK_SHIFT;
    to = to < m->data_bytes ? to : m->data_bytes;
    /* A failure (an old kernel, a truncated file) shows when the pages are used. */
    (void)madvise(base + at, to - at, MADV_POPULATE_READ);
}

void yk_map_populate(struct yk_map *m, uint64_t offset, uint64_t len, int write) {
    if (len == 0 || offset > m->data_bytes || len > m->data_bytes - offset)
        return;
    if (!write && len <= CHUNK)
        return; /* a fault does as much */
    uint64_t c = offset >> CHUNK_SHIFT, last = (offset + len - 1) >> CHUNK_SHIFT;
    uint64_t *touched = m->touched[write];
    unsigned char *base = write ? m->rw : (unsigned char *)(uintptr_t)m->view.data;
    while (c <= last) {
        uint64_t first = c;
        for (; c <= last && !is_touched(touched, c); c++)
            __atomic_fetch_or(&touched[c / 64u], 1ull << (c % 64u), __ATOMIC_RELAXED);
        if (c > first)
            populate(m, base, first, c);
        c++; /* touched, or past the last */
    }
}

/* The thread sanitizer does not see how a block is published (a word that the node stores through a
 * mapping of its own); with one address for put and get it would call each such get a race. */
#if defined(__SANITIZE_THREAD__)
#define ONE_MAPPING 0
#else
#define ONE_MAPPING 1
#endif

const unsigned char *yk_map_payload(struct yk_map *m, uint64_t offset, uint64_t len) {
    if (ONE_MAPPING && len > 0 && offset <= m->data_bytes && len <= m->data_bytes - offset &&
        all_touched(m->touched[1], offset >> CHUNK_SHIFT, (offset + len - 1) >> CHUNK_SHIFT))
        return m->rw + offset;
    yk_map_populate(m, offset, len, 0);
    return m->view.data + offset;
}

/* ---- access ring --------------------------------------------------------------------------------- */

static int ring_enter(struct yk_map *m) {
    for (int i = 0; __atomic_exchange_n(&m->ring_busy.n, 1, __ATOMIC_ACQUIRE) != 0; i++) {
        if (i == RING_SPINS) {
            yk_map_count(m, YK_COUNT_EVENT_DROP, 1);
            return 0;
        }
        cpu_relax();
    }
    return 1;
}

static void ring_put(struct yk_map *m, uint64_t at, uint64_t event) {
    __atomic_store_n(&m->page->ring[at % YK_SHM_RING], event, __ATOMIC_RELAXED);
}

/* What was put up to head is the owner's. 1: it dozes, and is to be asked for a drain at `enough` events. */
static int ring_leave(struct yk_map *m, uint64_t head, uint64_t enough) {
    struct yk_client_page *page = m->page;
    int ask = 0;
    __atomic_store_n(&page->ring_head, head, __ATOMIC_RELEASE); /* pairs with the owner's drain */
    if (__atomic_load_n(&page->doze, __ATOMIC_RELAXED) != 0) {
        uint64_t tail = __atomic_load_n(&page->ring_tail, __ATOMIC_RELAXED);
        ask = head - tail >= enough && tail != __atomic_load_n(&m->asked_tail, __ATOMIC_RELAXED);
        if (ask)
            __atomic_store_n(&m->asked_tail, tail, __ATOMIC_RELAXED);
    }
    __atomic_store_n(&m->ring_busy.n, 0, __ATOMIC_RELEASE);
    return ask;
}

int yk_map_event(struct yk_map *m, uint64_t event) {
    if (!ring_enter(m))
        return 0;
    uint64_t head = __atomic_load_n(&m->page->ring_head, __ATOMIC_RELAXED);
    ring_put(m, head, event);
    return ring_leave(m, head + 1, YK_SHM_RING / 2);
}

int yk_map_chain(struct yk_map *m, const uint64_t *hashes, uint32_t n) {
    if (!ring_enter(m))
        return 0;
    uint64_t head = __atomic_load_n(&m->page->ring_head, __ATOMIC_RELAXED);
    if (head - __atomic_load_n(&m->page->ring_tail, __ATOMIC_ACQUIRE) + n >= YK_SHM_RING) {
        yk_map_count(m, YK_COUNT_EVENT_DROP, 1); /* uses that are not read yet say more than this */
        return ring_leave(m, head, 1);
    }
    ring_put(m, head, YK_EVENT_OF_CHAIN(n));
    for (uint32_t i = 0; i < n; i++)
        ring_put(m, head + 1 + i, YK_EVENT_OF_KEY(hashes[i]));
    return ring_leave(m, head + 1 + n, 1);
}

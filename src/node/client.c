/* SPDX-License-Identifier: Apache-2.0
 *
 * Client slots: which process holds which hazard pages and reservations.
 *
 * The owner table is in the meta file, where clients cannot write, and survives the daemon. A slot
 * is freed when its client says goodbye or its process is known dead (pid and start time; the
 * connection layer watches a pidfd), never because a connection broke, a deadline passed or the
 * daemon restarted (R3).
 *
 * Slot 0 is the node's own: its hazards hold blocks whose payload is being sent, its reservations
 * are puts that arrive through the socket.
 */
#include "node/store_priv.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

struct proc {
    char state;
    long threads;
    unsigned long long start;
};

/* Fields 3, 20 and 22 of /proc/PID/stat, after the command name, which may hold spaces and
 * brackets. */
static int proc_stat(uint32_t pid, struct proc *ret) {
    char path[64], buf[1024];
    snprintf(path, sizeof(path), "/proc/%u/stat", pid);
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return -1;
    size_t n = fread(buf, 1, sizeof(buf) - 1, f);
    fclose(f);
    buf[n] = 0;
    char *p = strrchr(buf, ')');
    if (p == NULL ||
        sscanf(p + 1,
               " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %ld "
               "%*d %llu",
               &ret->state, &ret->threads, &ret->start) != 3)
        return -1;
    return 0;
}

uint64_t yk_process_start_time(uint32_t pid) {
    struct proc p;
    return proc_stat(pid, &p) == 0 ? p.start : 0;
}

int yk_process_alive(uint32_t pid, uint64_t start_time) {
    struct proc p;
    if (proc_stat(pid, &p) < 0 || p.start != start_time || p.state == 'X')
        return 0;
    /* A process whose first thread has ended is a zombie in which others run on. */
    return p.state != 'Z' || p.threads > 1;
}

int yk_store_clients_init(struct yk_store *s) {
    uint32_t max = s->own.layout.max_clients;
    s->clients = calloc(max, sizeof(*s->clients));
    s->slots = calloc(max, sizeof(*s->slots));
    s->slot_at = calloc(max, sizeof(*s->slot_at));
    return s->clients != NULL && s->slots != NULL && s->slot_at != NULL ? 0 : -YK_ENOMEM;
}

void yk_store_clients_fini(struct yk_store *s) {
    free(s->clients);
    free(s->peers);
    free(s->slots);
    free(s->slot_at);
}

void yk_store_client_activate(struct yk_store *s, uint32_t slot) {
    if (s->clients[slot].active)
        return;
    s->clients[slot].active = 1;
    __atomic_store_n(&s->own.pages[slot].wants_requests, (uint32_t)yk_store_wants_requests(s), __ATOMIC_RELAXED);
    s->slot_at[slot] = s->slot_count;
    s->slots[s->slot_count++] = slot;
}

static void deactivate(struct yk_store *s, uint32_t slot) {
    uint32_t at = s->slot_at[slot];
    uint32_t last = s->slots[--s->slot_count];
    s->slots[at] = last;
    s->slot_at[last] = at;
    memset(&s->clients[slot], 0, sizeof(s->clients[slot]));
}

static uint64_t new_cookie(void) {
    uint64_t c = 0;
    while (c == 0)
        if (getrandom(&c, sizeof(c), 0) != (ssize_t)sizeof(c))
            c = ((uint64_t)getpid() << 32) ^ (uintptr_t)&c ^ 1u;
    return c;
}

int yk_store_client_attach(struct yk_store *s, uint32_t pid, uint32_t slot, uint64_t cookie,
                           uint32_t *ret_slot, uint64_t *ret_cookie) {
    uint64_t start = yk_process_start_time(pid);
    uint32_t max = s->own.layout.max_clients;
    if (cookie != 0 && slot > 0 && slot < max && s->own.owners[slot].cookie == cookie &&
        s->own.owners[slot].pid == pid && s->own.owners[slot].start_time == start) {
        *ret_slot = slot;
        *ret_cookie = cookie;
        return 0;
    }
    for (slot = 1; slot < max; slot++)
        if (!s->clients[slot].active)
            break;
    if (slot == max)
        return -YK_ELIMIT;
    if (yk_store_back_client(s, slot) < 0)
        return -YK_ENOSPC;
    yk_owner_page_reset(&s->own, slot);
    struct yk_client_owner *o = &s->own.owners[slot];
    o->start_time = start;
    o->pid = pid;
    o->ns = 0;
    __atomic_store_n(&o->cookie, new_cookie(), __ATOMIC_RELEASE); /* last: the slot counts now */
    yk_store_client_activate(s, slot);
    *ret_slot = slot;
    *ret_cookie = o->cookie;
    return 0;
}

void yk_store_client_ns(struct yk_store *s, uint32_t slot, uint32_t ns) {
    yk_store_client_count(s, slot); /* what it looked up so far was elsewhere */
    s->own.owners[slot].ns = ns + 1u;
}

/* Adds to the figures of the slot's namespace; where that is not known, to nobody's. */
static void count_in_ns(struct yk_store *s, uint32_t slot, unsigned which, uint64_t n) {
    uint32_t ns = s->own.owners[slot].ns - 1u; /* after a restart, out of the meta file */
    if (ns >= YK_SHM_NAMESPACES || (which != YK_COUNT_HIT && which != YK_COUNT_MISS))
        return;
    struct yk_ns_lookups *l = &s->shares[ns].n;
    uint64_t *sum = which == YK_COUNT_HIT ? &l->local_hits : &l->local_misses;
    STORE(sum, *sum + n);
}

void yk_store_client_count(struct yk_store *s, uint32_t slot) {
    static const size_t to[YK_COUNTERS] = {
        [YK_COUNT_HIT] = offsetof(struct yk_counters, local_hits),
        [YK_COUNT_MISS] = offsetof(struct yk_counters, local_misses),
        [YK_COUNT_HIT_BYTES] = offsetof(struct yk_counters, local_hit_bytes),
        [YK_COUNT_MATCH] = offsetof(struct yk_counters, local_matches),
        [YK_COUNT_MATCH_KEYS] = offsetof(struct yk_counters, local_match_keys),
        [YK_COUNT_RETRY] = offsetof(struct yk_counters, local_retries),
        [YK_COUNT_EVENT_DROP] = offsetof(struct yk_counters, events_lost),
    };
    struct client *c = &s->clients[slot];
    for (unsigned i = 0; i < YK_COUNTERS; i++) {
        if (i == YK_COUNT_VERIFY_FAIL)
            continue; /* counted when the client's report is looked at */
        uint64_t now = LOAD(&s->own.pages[slot].counters[i]);
        uint64_t *sum = (uint64_t *)(void *)((char *)&s->n + to[i]);
        if (now > c->seen[i]) {
            STORE(sum, *sum + (now - c->seen[i]));
            count_in_ns(s, slot, i, now - c->seen[i]);
        }
        c->seen[i] = now;
    }
}

void yk_store_count_clients(struct yk_store *s) {
    for (uint32_t i = 0; i < s->slot_count; i++)
        yk_store_client_count(s, s->slots[i]);
}

void yk_store_client_heard(struct yk_store *s, uint32_t slot, uint64_t gen) {
    if (slot == 0 || slot >= s->own.layout.max_clients || !s->clients[slot].active)
        return;
    struct client *c = &s->clients[slot];
    uint32_t link = c->reserved_head;
    for (uint32_t n = c->reserved_count; n > 0 && link != 0; n--) {
        uint32_t idx = link - 1u;
        if (idx >= s->own.layout.max_blocks || rest_at(s, idx)->owner != slot)
            return; /* a scribbled link */
        link = rest_at(s, idx)->parent;
        if (YK_WORD_GEN(desc_at(s, idx)->word) <= gen)
            continue;
        yk_store_unreserve(s, idx);
        COUNT(s, abandoned);
    }
}

void yk_store_reservations_end(struct yk_store *s, struct client *c, uint32_t owner) {
    for (uint32_t n = c->reserved_count; n > 0 && c->reserved_head != 0; n--) {
        uint32_t idx = c->reserved_head - 1u;
        if (idx >= s->own.layout.max_blocks ||
            (rest_at(s, idx)->owner != owner && rest_at(s, idx)->owner != (owner | YK_SHM_OWNER_CLOSED)))
            break; /* a scribbled link: the rest is leaked until the restart */
        yk_store_unreserve(s, idx);
        COUNT(s, abandoned);
    }
}

void yk_store_client_release(struct yk_store *s, uint32_t slot) {
    if (slot == 0 || slot >= s->own.layout.max_clients || !s->clients[slot].active)
        return;
    struct client *c = &s->clients[slot];
    yk_store_drain(s);
    yk_store_client_count(s, slot);
    yk_store_reservations_end(s, c, slot);
    __atomic_store_n(&s->own.owners[slot].cookie, 0, __ATOMIC_RELEASE);
    s->own.owners[slot].pid = 0;
    yk_owner_page_reset(&s->own, slot);
    deactivate(s, slot);
    yk_store_scan(s);
}

uint32_t yk_store_client_pid(const struct yk_store *s, uint32_t slot) {
    return slot < s->own.layout.max_clients && s->clients[slot].active ? s->own.owners[slot].pid
                                                                       : 0;
}

void yk_store_client_each(struct yk_store *s, void (*fn)(void *arg, uint32_t slot, uint32_t pid),
                          void *arg) {
    for (uint32_t slot = 1; slot < s->own.layout.max_clients; slot++)
        if (s->clients[slot].active)
            fn(arg, slot, s->own.owners[slot].pid);
}

int yk_store_hold(struct yk_store *s, uint32_t idx) {
    struct yk_client_page *page = &s->own.pages[0];
    for (uint32_t w = 0; w < YK_SHM_HAZARDS / 64u; w++) {
        if (s->hold_used[w] == UINT64_MAX)
            continue;
        uint32_t bit = (uint32_t)__builtin_ctzll(~s->hold_used[w]);
        uint32_t h = w * 64u + bit;
        s->hold_used[w] |= 1ull << bit;
        if (page->hazard_top <= h)
            __atomic_store_n(&page->hazard_top, h + 1u, __ATOMIC_RELEASE);
        /* The owner itself retires: no fence is needed between this store and its own scans. */
        __atomic_store_n(&page->hazard[h], idx + 1u, __ATOMIC_RELEASE);
        return (int)h;
    }
    return -YK_ELIMIT;
}

void yk_store_unhold(struct yk_store *s, int hold) {
    if (hold < 0 || hold >= (int)YK_SHM_HAZARDS)
        return;
    yk_hazard_clear(&s->own.pages[0].hazard[hold]);
    s->hold_used[hold / 64] &= ~(1ull << (hold % 64));
}

void yk_store_doze(struct yk_store *s, int doze) {
    for (uint32_t i = 0; i < s->slot_count; i++)
        __atomic_store_n(&s->own.pages[s->slots[i]].doze, (uint32_t)doze, __ATOMIC_RELEASE);
}

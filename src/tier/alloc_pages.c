/* SPDX-License-Identifier: Apache-2.0
 *
 * The allocator's page pool: free runs of pages, best fit, neighbours merged at once.
 *
 * Free runs hang in lists by length: one list for each length below 1,024 pages, so best fit is
 * exact where it matters, and 16 for each doubling above. A two-level bitmap finds the next list
 * that is not empty. Only the list of very long runs is ever searched; there are few of those. A
 * balanced tree by (length, page) would be exact throughout, and slower for the lengths that
 * occur. Links live in an array beside the map and not in the free pages: the payload is never
 * touched (alloc.h).
 *
 * Thread: owner of the struct yk_alloc.
 */
#include <string.h>

#include "tier/alloc_priv.h"

static uint32_t bin_of(uint32_t len) {
    if (len < BIN_EXACT)
        return len;
    uint32_t e = 31 - (uint32_t)__builtin_clz(len);
    return BIN_EXACT + (e - 10) * 16 + ((len >> (e - 4)) & 15);
}

static uint32_t bin_next(const struct yk_alloc *a, uint32_t bin) {
    if (bin >= BINS)
        return YK_NONE;
    uint32_t w = bin / 64;
    uint64_t bits = a->bin_bits[w] & (~0ull << (bin % 64));
    if (!bits) {
        uint32_t words = w + 1 < 32 ? a->bin_words & (~0u << (w + 1)) : 0;
        if (!words)
            return YK_NONE;
        w = (uint32_t)__builtin_ctz(words);
        bits = a->bin_bits[w];
    }
    return w * 64 + (uint32_t)__builtin_ctzll(bits);
}

static uint32_t bin_prev(const struct yk_alloc *a, uint32_t bin) {
    uint32_t w = bin / 64;
    uint64_t bits = a->bin_bits[w] & (~0ull >> (63 - bin % 64));
    if (!bits) {
        uint32_t words = a->bin_words & ((1u << w) - 1);
        if (!words)
            return YK_NONE;
        w = 31 - (uint32_t)__builtin_clz(words);
        bits = a->bin_bits[w];
    }
    return w * 64 + 63 - (uint32_t)__builtin_clzll(bits);
}

static uint32_t free_len(const struct yk_alloc *a, uint32_t head) {
    return a->map[head] & ~TAG_MASK;
}

static void free_link(struct yk_alloc *a, uint32_t page, uint32_t n) {
    uint32_t bin = bin_of(n), old = a->bins[bin];
    a->map[page] = a->map[page + n - 1] = TAG_FREE | n;
    a->links[page] = (struct yk_link){.prev = YK_NONE, .next = old};
    if (old != YK_NONE)
        a->links[old].prev = page;
    a->bins[bin] = page;
    a->bin_bits[bin / 64] |= 1ull << (bin % 64);
    a->bin_words |= 1u << (bin / 64);
    a->free_pages += n;
}

static void free_unlink(struct yk_alloc *a, uint32_t page) {
    uint32_t n = free_len(a, page), bin = bin_of(n);
    struct yk_link l = a->links[page];
    if (l.next != YK_NONE)
        a->links[l.next].prev = l.prev;
    if (l.prev != YK_NONE) {
        a->links[l.prev].next = l.next;
    } else {
        a->bins[bin] = l.next;
        if (l.next == YK_NONE && !(a->bin_bits[bin / 64] &= ~(1ull << (bin % 64))))
            a->bin_words &= ~(1u << (bin / 64));
    }
    a->map[page] = a->map[page + n - 1] = TAG_INNER;
    a->free_pages -= n;
}

/* The compaction cursor must stay on a first page; only a merge can take one away. */
static void cursor_fix(struct yk_alloc *a, uint32_t page, uint32_t n) {
    if (a->compact.cursor - page < n)
        a->compact.cursor = page;
}

void yk_pages_init(struct yk_alloc *a) {
    memset(a->bins, 0xff, sizeof(a->bins));
}

/* Best of the list that mixes lengths, for n of that list. */
static uint32_t best_in_bin(const struct yk_alloc *a, uint32_t bin, uint32_t n) {
    uint32_t best = YK_NONE, best_len = UINT32_MAX;
    for (uint32_t p = a->bins[bin]; p != YK_NONE && best_len != n; p = a->links[p].next) {
        uint32_t len = free_len(a, p);
        if (len >= n && len < best_len) {
            best = p;
            best_len = len;
        }
    }
    return best;
}

uint32_t yk_pages_fit(const struct yk_alloc *a, uint32_t n) {
    uint32_t bin = bin_of(n);
    if (bin >= BIN_EXACT) {
        uint32_t p = best_in_bin(a, bin++, n);
        if (p != YK_NONE)
            return p;
    }
    bin = bin_next(a, bin);
    return bin == YK_NONE ? YK_NONE : a->bins[bin];
}

/* As yk_pages_fit, but neither of two given runs. */
uint32_t yk_pages_fit_except(const struct yk_alloc *a, uint32_t n, uint32_t not1, uint32_t not2) {
    for (uint32_t bin = bin_next(a, bin_of(n)); bin != YK_NONE; bin = bin_next(a, bin + 1)) {
        for (uint32_t p = a->bins[bin]; p != YK_NONE; p = a->links[p].next) {
            if (p != not1 && p != not2 && free_len(a, p) >= n)
                return p;
        }
    }
    return YK_NONE;
}

/* First run of the first list that is not empty, from length *len on; sets *len to its length. */
uint32_t yk_pages_list(const struct yk_alloc *a, uint32_t *len) {
    uint32_t bin = bin_next(a, bin_of(*len));
    if (bin == YK_NONE)
        return YK_NONE;
    *len = free_len(a, a->bins[bin]);
    return a->bins[bin];
}

uint32_t yk_pages_longest(const struct yk_alloc *a) {
    uint32_t bin = bin_prev(a, BINS - 1), longest = 0;
    if (bin == YK_NONE)
        return 0;
    if (bin < BIN_EXACT)
        return bin;
    for (uint32_t p = a->bins[bin]; p != YK_NONE; p = a->links[p].next) {
        uint32_t len = free_len(a, p);
        longest = len > longest ? len : longest;
    }
    return longest;
}

/* Takes [page, page + n) out of the free run that starts at head. */
void yk_pages_carve(struct yk_alloc *a, uint32_t head, uint32_t page, uint32_t n) {
    uint32_t len = free_len(a, head);
    free_unlink(a, head);
    if (page > head)
        free_link(a, head, page - head);
    if (page + n < head + len)
        free_link(a, page + n, head + len - page - n);
}

/* Runs come from the low end, extents from the high end of a hole: like stays beside like, and
 * the holes that runs leave fit the runs that come. */
uint32_t yk_pages_take(struct yk_alloc *a, uint32_t n, bool high) {
    uint32_t head = yk_pages_fit(a, n);
    if (head == YK_NONE)
        return YK_NONE;
    uint32_t page = high ? head + free_len(a, head) - n : head;
    yk_pages_carve(a, head, page, n);
    return page;
}

/* Map words of the pages must be INNER already. */
void yk_pages_give(struct yk_alloc *a, uint32_t page, uint32_t n) {
    if (page > 0 && (a->map[page - 1] & TAG_MASK) == TAG_FREE) {
        uint32_t left = free_len(a, page - 1);
        free_unlink(a, page - left);
        page -= left;
        n += left;
    }
    if (page + n < a->pages && (a->map[page + n] & TAG_MASK) == TAG_FREE) {
        uint32_t right = free_len(a, page + n);
        free_unlink(a, page + n);
        n += right;
    }
    free_link(a, page, n);
    cursor_fix(a, page, n);
}

static void run_count(struct yk_alloc *a, uint32_t n) {
    a->run_pages += n;
    a->run_count++;
    a->slots_used++;
}

void yk_run_mark(struct yk_alloc *a, uint32_t page, uint32_t n) {
    yk_table_set(a, page, n, 0);
    a->map[page] = TAG_RUN | n;
    run_count(a, n);
}

void yk_run_unstick(struct yk_alloc *a, uint32_t page) {
    struct yk_link l = a->links[page];
    if (l.next != YK_NONE)
        a->links[l.next].prev = l.prev;
    if (l.prev != YK_NONE)
        a->links[l.prev].next = l.next;
    else
        a->stuck = l.next;
    a->map[page] &= ~RUN_STUCK;
}

void yk_run_free(struct yk_alloc *a, uint32_t page) {
    if (a->map[page] & RUN_STUCK)
        yk_run_unstick(a, page);
    uint32_t n = a->map[page] & RUN_LEN_MASK;
    yk_table_clear(a, page);
    a->map[page] = TAG_INNER;
    a->run_pages -= n;
    a->run_count--;
    a->slots_used--;
    yk_pages_give(a, page, n);
}

static struct yk_hot *hot_of(struct yk_alloc *a, uint32_t n) {
    return &a->hot[n % HOT_SETS];
}

uint32_t yk_run_take(struct yk_alloc *a, uint32_t n) {
    struct yk_hot *hot = hot_of(a, n);
    if (hot->npages == n && hot->count > 0) {
        uint32_t page = hot->pages[--hot->count];
        a->map[page] = TAG_RUN | n;
        a->hot_pages -= n;
        run_count(a, n);
        return page;
    }
    uint32_t page = yk_pages_take(a, n, false);
    if (page != YK_NONE)
        yk_run_mark(a, page, n);
    return page;
}

/* Held if there is room and no compaction is looking at the map. */
void yk_run_put(struct yk_alloc *a, uint32_t page) {
    uint32_t word = a->map[page], n = word & RUN_LEN_MASK;
    struct yk_hot *hot = hot_of(a, n);
    if (hot->count == 0)
        hot->npages = n;
    if (hot->npages != n || hot->count == HOT_RUNS || word & (RUN_MOVING | RUN_STUCK) ||
        a->compact.phase != COMPACT_IDLE) {
        yk_run_free(a, page);
        return;
    }
    hot->pages[hot->count++] = page;
    a->map[page] = word | RUN_HELD;
    a->hot_pages += n;
    a->run_pages -= n;
    a->run_count--;
    a->slots_used--;
}

bool yk_run_flush(struct yk_alloc *a) {
    if (a->hot_pages == 0)
        return false;
    for (uint32_t i = 0; i < HOT_SETS; i++) {
        struct yk_hot *hot = &a->hot[i];
        while (hot->count > 0) {
            run_count(a, hot->npages);
            yk_run_free(a, hot->pages[--hot->count]);
        }
    }
    a->hot_pages = 0;
    return true;
}

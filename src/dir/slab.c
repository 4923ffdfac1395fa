/* SPDX-License-Identifier: Apache-2.0
 *
 * Pages of equal records in one reserved range of addresses (slab_priv.h). Page 0 is never used, so that no
 * record has handle 0.
 *
 * Thread: its holder's.
 */
#include "dir/slab_priv.h"
#include "base/status.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE       65536u
#define PAGE_UNITS (PAGE / 8u)
#define OPEN_PAGES 32u /* made accessible at a time: 2 MiB, a huge page */
#define OPEN_BYTES ((size_t)OPEN_PAGES * PAGE)
/* Empty pages that are kept for the next need; more go back to the system. */
#define EMPTY_KEPT 64u

int yk_slab_init(struct yk_slab *slab, uint64_t max_bytes) {
    memset(slab, 0, sizeof(*slab));
    if (max_bytes < PAGE || max_bytes > YK_SLAB_BYTES_MAX)
        return -YK_EINVAL;
    slab->page_max = (uint32_t)(max_bytes / PAGE) + 1u;
    if (slab->page_max > YK_SLAB_BYTES_MAX / PAGE)
        slab->page_max--;
    slab->page_end = slab->open_end = 1;
    /* Zero pages of the system, touched as needed. */
    slab->pages = calloc(slab->page_max, sizeof(*slab->pages));
    if (slab->pages == NULL)
        return -YK_ENOMEM;
    slab->reserved = (size_t)slab->page_max * PAGE + OPEN_BYTES;
    void *at = mmap(NULL, slab->reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) {
        free(slab->pages);
        slab->pages = NULL;
        return -YK_ENOMEM;
    }
    slab->mapping = at;
    slab->base = slab->mapping + (OPEN_BYTES - (uintptr_t)at % OPEN_BYTES) % OPEN_BYTES;
    /* Random look-ups miss the TLB more than the cache; it is fine if there are none. */
    madvise(slab->base, (size_t)slab->page_max * PAGE, MADV_HUGEPAGE);
    return 0;
}

void yk_slab_fini(struct yk_slab *slab) {
    if (slab->base != NULL)
        munmap(slab->mapping, slab->reserved);
    free(slab->pages);
    memset(slab, 0, sizeof(*slab));
}

static void list_push(struct yk_slab *slab, uint32_t *head, uint32_t page) {
    struct yk_slab_page *p = &slab->pages[page];
    p->prev = 0;
    p->next = *head;
    if (*head != 0)
        slab->pages[*head].prev = page;
    *head = page;
}

static void list_remove(struct yk_slab *slab, uint32_t *head, uint32_t page) {
    struct yk_slab_page *p = &slab->pages[page];
    if (p->prev != 0)
        slab->pages[p->prev].next = p->next;
    else
        *head = p->next;
    if (p->next != 0)
        slab->pages[p->next].prev = p->prev;
}

/* A page of no size yet; 0: none left. */
static uint32_t page_take(struct yk_slab *slab) {
    uint32_t page = slab->empty;
    if (page != 0) {
        list_remove(slab, &slab->empty, page);
        slab->empty_count--;
        return page;
    }
    if (slab->page_end == slab->page_max)
        return 0;
    if (slab->page_end == slab->open_end) {
        uint32_t n = slab->page_max - slab->open_end;
        n = n < OPEN_PAGES ? n : OPEN_PAGES;
        if (mprotect(slab->base + (size_t)slab->open_end * PAGE, (size_t)n * PAGE,
                     PROT_READ | PROT_WRITE) != 0)
            return 0;
        slab->open_end += n;
    }
    return slab->page_end++;
}

static uint32_t page_new(struct yk_slab *slab, uint32_t units) {
    uint32_t page = page_take(slab);
    if (page == 0)
        return 0;
    struct yk_slab_page *p = &slab->pages[page];
    *p = (struct yk_slab_page){.units = (uint16_t)units};
    list_push(slab, &slab->room[units], page);
    slab->in_use++;
    return page;
}

uint32_t yk_slab_alloc(struct yk_slab *slab, size_t bytes) {
    uint32_t units = (uint32_t)((bytes + 7u) / 8u);
    if (units == 0 || units >= YK_SLAB_CLASSES)
        return 0;
    uint32_t page = slab->room[units];
    if (page == 0 && (page = page_new(slab, units)) == 0)
        return 0;
    struct yk_slab_page *p = &slab->pages[page];
    uint32_t number;
    if (p->freed != 0) {
        number = p->freed - 1u;
        memcpy(&p->freed, yk_slab_at(slab, page * PAGE_UNITS + number * units), sizeof(p->freed));
    } else {
        number = p->carved++;
    }
    if (++p->used == PAGE_UNITS / units)
        list_remove(slab, &slab->room[units], page);
    return page * PAGE_UNITS + number * units;
}

static void page_empty(struct yk_slab *slab, uint32_t page) {
    list_remove(slab, &slab->room[slab->pages[page].units], page);
    slab->in_use--;
    if (slab->empty_count >= EMPTY_KEPT)
        madvise(slab->base + (size_t)page * PAGE, PAGE, MADV_DONTNEED);
    list_push(slab, &slab->empty, page);
    slab->empty_count++;
}

void yk_slab_free(struct yk_slab *slab, uint32_t handle) {
    uint32_t page = handle / PAGE_UNITS;
    struct yk_slab_page *p = &slab->pages[page];
    memcpy(yk_slab_at(slab, handle), &p->freed, sizeof(p->freed));
    p->freed = (uint16_t)(handle % PAGE_UNITS / p->units + 1u);
    if (p->used-- == PAGE_UNITS / p->units)
        list_push(slab, &slab->room[p->units], page);
    if (p->used == 0)
        page_empty(slab, page);
}

uint64_t yk_slab_bytes(const struct yk_slab *slab) {
    uint32_t kept = slab->empty_count < EMPTY_KEPT ? slab->empty_count : EMPTY_KEPT;
    return ((uint64_t)slab->in_use + kept) * PAGE + slab->page_end * sizeof(*slab->pages);
}

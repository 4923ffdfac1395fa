/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of pins (src/node/guard.h).
 *
 * Whoever pins takes a slot (a bit of `used`), names the descriptor in it, and looks at the descriptor
 * behind a full fence; the owner changes the descriptor and looks at the slots behind one. So one of
 * the two sees the other: a block that was retired, moved or closed before is a miss, any later change
 * finds the pin (R2). Nothing waits, and nothing locks.
 *
 * The word is looked at again after the fields, although a pinned descriptor does not change: what is
 * retired at that very moment is not begun any more.
 */
#include "node/guard.h"

#include "base/status.h"

#include <stdlib.h>

#include <yolk/transfer.h>

#define WORDS (YK_PINS_MAX / 64u)

struct yk_pins {
    const struct yk_view *view;
    uint64_t used[WORDS]; /* atomic: bit i: slot i is taken */
    uint32_t top;         /* atomic: slots at or above were never taken; only grows */
    struct yk_pins_counts n; /* atomic, relaxed */
    uint32_t slot[YK_PINS_MAX]; /* atomic: descriptor + 1, 0 = none */
};

#define LOAD(p)         __atomic_load_n((p), __ATOMIC_RELAXED)
#define COUNT(p, f, by) __atomic_fetch_add(&(p)->n.f, (by), __ATOMIC_RELAXED)

int yk_pins_new(const struct yk_view *view, struct yk_pins **ret_pins) {
    struct yk_pins *p = calloc(1, sizeof(*p));
    if (p == NULL)
        return -YK_ENOMEM;
    p->view = view;
    *ret_pins = p;
    return 0;
}

void yk_pins_free(struct yk_pins *p) {
    free(p);
}

void yk_pins_bind(const struct yk_pins *p, struct yk_owner *owner) {
    owner->pins = p->slot;
    owner->pins_top = &p->top;
}

/* The lowest free slot, so that scans have few to look at; YK_PINS_MAX: there is none. */
static uint32_t slot_take(struct yk_pins *p) {
    for (uint32_t w = 0; w < WORDS; w++) {
        uint64_t used = LOAD(&p->used[w]);
        while (used != UINT64_MAX) {
            uint64_t bit = ~used & (used + 1u);
            /* Acquire: pairs with the release of slot_give, whose stores to the slot came before. */
            if (__atomic_compare_exchange_n(&p->used[w], &used, used | bit, 0, __ATOMIC_ACQUIRE,
                                            __ATOMIC_RELAXED))
                return w * 64u + (uint32_t)__builtin_ctzll(bit);
        }
    }
    return YK_PINS_MAX;
}

static void slot_give(struct yk_pins *p, uint32_t at) {
    /* Release, both: all uses of the payload come before the slot is seen empty, or as another's. */
    __atomic_store_n(&p->slot[at], 0u, __ATOMIC_RELEASE);
    __atomic_fetch_and(&p->used[at / 64u], ~(1ull << (at % 64u)), __ATOMIC_RELEASE);
}

static void slot_name(struct yk_pins *p, uint32_t at, uint32_t idx) {
    uint32_t top = LOAD(&p->top);
    while (top <= at && !__atomic_compare_exchange_n(&p->top, &top, at + 1u, 0, __ATOMIC_RELEASE,
                                                     __ATOMIC_RELAXED))
        ;
    __atomic_store_n(&p->slot[at], idx + 1u, __ATOMIC_RELEASE);
    /* Pairs with the fence between the owner's change of the descriptor and its look at the slots. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

struct want {
    uint32_t idx;
    uint64_t generation, epoch, offset, length;
};

static int within(const struct want *w, uint64_t offset, uint64_t len) {
    return w->offset >= offset && w->length <= len && w->offset - offset <= len - w->length;
}

static int is_word(const struct yk_desc *d, const struct want *w, enum yk_desc_state state) {
    return __atomic_load_n(&d->word, __ATOMIC_ACQUIRE) == YK_WORD(w->generation, state);
}

static int may_read(const struct yk_pins *p, const struct want *w) {
    const struct yk_desc *d = &p->view->desc[w->idx];
    if (!is_word(d, w, YK_DESC_COMMITTED))
        return 0;
    uint32_t ns = LOAD(&d->ns);
    uint64_t expiry_ms = LOAD(&d->expiry_ms);
    int well = within(w, LOAD(&p->view->rest[w->idx].offset), LOAD(&d->len)) && LOAD(&d->epoch) == w->epoch &&
               ns < p->view->layout.max_namespaces &&
               __atomic_load_n(&p->view->ns[ns].epoch, __ATOMIC_ACQUIRE) == w->epoch &&
               (expiry_ms == 0 || expiry_ms > yk_view_now_ms(p->view));
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    return well && is_word(d, w, YK_DESC_COMMITTED);
}

static int may_write(const struct yk_pins *p, const struct want *w) {
    const struct yk_desc *d = &p->view->desc[w->idx];
    if (!is_word(d, w, YK_DESC_RESERVED))
        return 0;
    const struct yk_rest *rest = &p->view->rest[w->idx];
    int well = within(w, LOAD(&rest->offset), LOAD(&rest->cap)) &&
               (LOAD(&rest->owner) & (YK_SHM_OWNER_REMOTE | YK_SHM_OWNER_CLOSED)) == YK_SHM_OWNER_REMOTE;
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    return well && is_word(d, w, YK_DESC_RESERVED);
}

/* Can there be such a range at all? Numbers come from a peer. */
static int sane(const struct yk_pins *p, uint64_t descriptor, const struct want *w) {
    const struct yk_shm_layout *l = &p->view->layout;
    return descriptor < l->max_blocks && w->generation < 1ull << 56 && w->length != 0 &&
           w->length <= l->data_bytes && w->offset <= l->data_bytes - w->length &&
           !yk_view_lost(p->view);
}

int yk_pins_pin(void *pins, uint32_t op, uint64_t descriptor, uint64_t generation, uint64_t epoch,
                uint64_t offset, uint64_t length, uint64_t *ret_pin) {
    struct yk_pins *p = pins;
    struct want w = {(uint32_t)descriptor, generation, epoch, offset, length};
    if (op != YK_XFER_READ && op != YK_XFER_WRITE)
        return -YK_EINVAL;
    uint32_t at = sane(p, descriptor, &w) ? slot_take(p) : UINT32_MAX;
    if (at == YK_PINS_MAX) {
        COUNT(p, full, 1);
        return -YK_EAGAIN;
    }
    int well = 0;
    if (at != UINT32_MAX) {
        slot_name(p, at, w.idx);
        well = op == YK_XFER_READ ? may_read(p, &w) : may_write(p, &w);
        if (!well)
            slot_give(p, at);
    }
    if (!well) {
        COUNT(p, missed, 1);
        return YK_MISS;
    }
    if (op == YK_XFER_READ) {
        COUNT(p, reads, 1);
        COUNT(p, read_bytes, length);
    } else {
        COUNT(p, writes, 1);
        COUNT(p, write_bytes, length);
    }
    *ret_pin = at;
    return 0;
}

void yk_pins_unpin(void *pins, uint64_t pin) {
    if (pin < YK_PINS_MAX)
        slot_give(pins, (uint32_t)pin);
}

void yk_pins_counts(const struct yk_pins *p, struct yk_pins_counts *ret_counts) {
    *ret_counts = (struct yk_pins_counts){LOAD(&p->n.reads),       LOAD(&p->n.read_bytes),
                                          LOAD(&p->n.writes),      LOAD(&p->n.write_bytes),
                                          LOAD(&p->n.missed),      LOAD(&p->n.full)};
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * The node's memory as one handle has it mapped: index and payload read-only, payload once more
 * writable for reservations, and the handle's own pages (hazard slots, counters, access ring).
 *
 * A node that comes back with another segment gives the handle another map. The old one is retired:
 * nobody enters it any more, and its memory goes when the last reference, reservation and lookup in
 * it has ended. The struct itself lives until the handle is closed, so that a late look at it is
 * harmless. Whoever is inside is counted without a shared cache line: lookups in counters striped
 * by thread, pins by the bit of their hazard slot.
 *
 * Or the handle went to another node, and comes back to one whose map it has retired. The slot of its pages is the same
 * then: as long as a hazard or a reservation of the old map is in use, a second map over the same pages would hand out
 * the same hazard slots again. So the old one is revived; only one that is unmapped is followed by a new one. For the same
 * reason a map goes on when its namespace was removed and made anew, under another number.
 *
 *   enter:  count up, seq_cst; is it still the handle's map? else count down and start again
 *   retire: swap the handle's map, set `retired`, seq_cst; all counts zero? unmap
 *   leave:  count down, seq_cst; retired? all counts zero? unmap
 *
 * With both sides seq_cst either the one who enters sees the new map, or the one who retires sees
 * the count; and of the last to leave and the one who retires, at least one finds all at zero (a
 * compare-and-swap lets one of them unmap).
 *
 * What tiers below DRAM the node has is known by a filter of their keys, a mapping of its own: each
 * run of the node makes a new one, also where the segment goes on. The old one is then covered with
 * zeros in place, so that nobody who is in it has to be waited for: a filter of zeros allows every key
 * (ask the node), and a look that was half done when it happened ends with the same. The run that a
 * filter is of stands in the segment, too: who meets another number there, before the handle has
 * noticed that its node was replaced, trusts no filter and asks.
 *
 * Threads: any, but for open and close.
 */
#ifndef YK_CLIENT_MAP_H
#define YK_CLIENT_MAP_H

#include "base/status.h"
#include "shm/filter.h"
#include "shm/view.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define YK_MAP_STRIPES   16u
#define YK_MAP_PIN_WORDS (YK_SHM_HAZARDS / 64u)

/* One word in a cache line of its own. */
struct yk_map_word {
    uint64_t n;
    uint64_t pad[7];
};

/* The tiers below DRAM in one run of the node. Immutable but for `lost`. */
struct yk_lower {
    struct yk_filter filter;
    void *base;     /* NULL = there are none */
    uint64_t bytes; /* of the mapping */
    uint64_t run;   /* of the node: ssd_run in the header */
    int guarded;
    int lost; /* for the SIGBUS guard, which leaves zeros: nobody needs to look */
    struct yk_lower *older;
};

struct yk_map {
    struct yk_view view;
    struct yk_lower *lower; /* atomic; never NULL while in use */
    struct yk_client_page *page;
    unsigned char *rw; /* payload, writable */
    uint64_t meta_bytes, data_bytes;
    uint64_t segment_id;
    uint64_t cookie; /* of the client slot */
    uint32_t slot;   /* of the client, in the clients file */
    uint32_t ns;     /* atomic: index of the handle's namespace, which another connection may find made anew */
    int lost;        /* set by the SIGBUS guard: what is read may be zeros */
    int guarded;
    uint32_t state;               /* 0 in use, 1 retired, 2 unmapped; above the two lowest bits: how often retired */
    uint64_t writers;             /* reservations and puts that point into rw */
    uint64_t *touched[2];         /* bit a chunk: populated for reading, for writing */
    uint64_t counted[YK_COUNTERS]; /* of the page's counters: what the handle counts as its own already */
    uint64_t asked_tail;          /* ring tail at which a drain was asked for; ~0 = none */
    struct yk_map *older;         /* the next of the handle's retired maps */
    uint32_t len[YK_SHM_HAZARDS]; /* bytes that a pin holds */
    struct yk_map_word ring_busy;
    struct yk_map_word pins[YK_MAP_PIN_WORDS]; /* bit set = hazard slot taken */
    struct yk_map_word looks[YK_MAP_STRIPES];
} __attribute__((aligned(64)));

struct yk_map_opts {
    int fd_meta, fd_data, fd_clients; /* borrowed */
    int fd_filter;                    /* likewise; -1 = none */
    uint64_t meta_bytes, data_bytes, clients_bytes, filter_bytes;
    uint64_t segment_id, cookie;
    uint32_t slot, ns;
    int guard; /* install the SIGBUS guard */
};

/* Maps the three files. Everything the node says about them is checked against the files and
 * against the layout in the header. -YK_EVERSION, -YK_ECORRUPT, -YK_EPROTO, -YK_ENOMEM, -YK_EIO. */
int yk_map_open(const struct yk_map_opts *opts, struct yk_map **ret_map, struct yk_err *err);

/* Unmaps at once, if that was not done, and frees. forked: in a forked child nothing is unmapped
 * (the pages are not inherited; something else may be there by now). NULL is fine. */
void yk_map_close(struct yk_map *map, int forked);

/* What the node that answers now has below DRAM: for a map that goes on with another run of it. Errors
 * as yk_map_open. */
int yk_map_lower_open(const struct yk_map *map, const struct yk_map_opts *opts,
                      struct yk_lower **ret_lower, struct yk_err *err);
/* Takes lower over in place of what the map had. One thread at a time. */
void yk_map_lower_set(struct yk_map *map, struct yk_lower *lower);
/* Unmaps and frees one that was never set. NULL is fine. */
void yk_map_lower_close(struct yk_lower *lower);

/* After it nobody may enter; the memory goes with the last who is inside. */
void yk_map_retire(struct yk_map *map);

/* The node of a retired map is the handle's again, and has kept the client slot: the map goes on, if somebody is
 * still inside. 0: it does, and nobody enters it yet; else -YK_EGONE: it is unmapped. */
int yk_map_revive(struct yk_map *map);
/* Of a retired map: does anybody hold a place that is written? None comes any more. */
int yk_map_has_writers(const struct yk_map *map);
/* Is nobody inside a retired map any more, and never will be? */
int yk_map_is_over(const struct yk_map *map);

/* Unmaps a retired map if nobody is inside. Called by whoever leaves. */
void yk_map_reap(struct yk_map *map);

/* Number of the calling thread, for striping. */
unsigned yk_thread_number(void);

/* Enters the map that *where points at for a lookup; NULL when there is none. */
struct yk_map *yk_map_enter(struct yk_map *const *where);
void yk_map_leave(struct yk_map *map);

/* Enters with a hazard slot, to pin a block with: the map, and the slot in *ret_slot. NULL: there
 * is none, or (*ret_full 1) all slots are held. */
struct yk_map *yk_map_enter_pin(struct yk_map *const *where, uint32_t *ret_slot, int *ret_full);
/* Clears the hazard and leaves. */
void yk_map_leave_pin(struct yk_map *map, uint32_t slot);

/* Enters for a reservation. */
struct yk_map *yk_map_enter_write(struct yk_map *const *where);
void yk_map_leave_write(struct yk_map *map);

static inline uint32_t yk_map_ns(const struct yk_map *map) {
    return __atomic_load_n(&map->ns, __ATOMIC_RELAXED);
}

static inline uint32_t *yk_map_hazard(struct yk_map *map, uint32_t slot) {
    return &map->page->hazard[slot];
}

/* Inside the map: is DRAM surely all there is? (Acquire: pairs with the release of yk_map_lower_set.) */
static inline int yk_map_lower_none(const struct yk_map *map) {
    const struct yk_lower *lower = __atomic_load_n(&map->lower, __ATOMIC_ACQUIRE);
    return lower->base == NULL &&
           __atomic_load_n(&map->view.hdr->ssd_run, __ATOMIC_RELAXED) == lower->run;
}

/* Inside the map: may a block whose key has this hash, and that DRAM has not, be in a tier below? Then
 * the node knows. Look in DRAM first: a block on its way down is entered below before it leaves. */
static inline int yk_map_lower_maybe(const struct yk_map *map, uint64_t hash) {
    const struct yk_lower *lower = __atomic_load_n(&map->lower, __ATOMIC_ACQUIRE);
    if (__atomic_load_n(&map->view.hdr->ssd_run, __ATOMIC_RELAXED) != lower->run)
        return 1;
    return lower->base != NULL && yk_filter_maybe(&lower->filter, hash);
}

/* References held, and their bytes. */
void yk_map_pinned(const struct yk_map *map, uint64_t *ret_refs, uint64_t *ret_bytes);

/* Makes the pages of a payload present, once a chunk: a fault for each page costs more than the
 * copy. write: for the writable mapping. No effect where the kernel cannot. */
void yk_map_populate(struct yk_map *map, uint64_t offset, uint64_t len, int write);

/* Where a payload can be copied from: in the writable mapping if this handle has its pages there
 * already, since it put something there before, so that they are not mapped twice; else in the
 * read-only one, its pages made present. For copies inside the library alone: what is handed out is
 * read-only (R6). */
const unsigned char *yk_map_payload(struct yk_map *map, uint64_t offset, uint64_t len);

static inline int yk_map_lost(const struct yk_map *map) {
    return __atomic_load_n(&map->lost, __ATOMIC_ACQUIRE);
}

static inline void yk_map_count(struct yk_map *map, enum yk_client_counter what, uint64_t n) {
    __atomic_fetch_add(&map->page->counters[what], n, __ATOMIC_RELAXED);
}

/* Adds an event to the access ring (lossy: overwrites the oldest, and is dropped and counted when
 * another thread is adding for too long). 1: the node dozes and the ring is half full; ask it to
 * drain (once until it does; yk_map_ask_again when asking failed). */
int yk_map_event(struct yk_map *map, uint64_t event);

/* Does the node want to hear of chains? */
static inline int yk_map_wants_requests(const struct yk_map *map) {
    return __atomic_load_n(&map->page->wants_requests, __ATOMIC_RELAXED) != 0;
}

/* The same of a chain of n hashes, at most YK_EVENT_CHAIN_MAX: all of it or nothing. 1: the node dozes, and shall not
 * take this for one of later. */
int yk_map_chain(struct yk_map *map, const uint64_t *hashes, uint32_t n);

static inline void yk_map_ask_again(struct yk_map *map) {
    __atomic_store_n(&map->asked_tail, UINT64_MAX, __ATOMIC_RELAXED);
}

#ifdef __cplusplus
}
#endif

#endif

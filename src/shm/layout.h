/* SPDX-License-Identifier: Apache-2.0
 *
 * The shared-memory segment of one trust domain: what its three files hold, byte for byte.
 *
 *   NAME.meta     header, namespaces, client owners, extent table, descriptors, the rest of
 *                 each descriptor, key cells, two index areas. Clients map it read-only.
 *   NAME.data     payload only. Clients map it twice: read-only, and writable for reservations. With --cxl its
 *                 tail is slow memory: a second range, which no reader tells from the first.
 *   NAME.clients  one run of pages for each client: hazard slots and the access ring.
 *
 * All files are sparse: regions are sized for the configured maximum and only touched as used, so
 * nothing here ever grows, moves or is reallocated while somebody reads it. Everything survives the
 * daemon; after any kill the descriptors are the truth and the rest is rebuilt from them (recovery
 * in src/node/recover.c).
 *
 * Rules R1 to R6 of docs/rules.md say who may touch what and in which order; src/shm/view.h is the
 * reader's half and src/shm/index.h, src/shm/owner.h the owner's. tests/model checks them.
 *
 * Integers are in the machine's order: a segment never leaves its host. A layout change raises
 * YK_SHM_VERSION; a segment of another version is set aside at start, never interpreted.
 */
#ifndef YK_SHM_LAYOUT_H
#define YK_SHM_LAYOUT_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define YK_SHM_MAGIC   0x314d48536b6c6f59ull /* "YolkSHM1" */
#define YK_SHM_VERSION 3u

#define YK_SHM_PAGE           4096u
#define YK_SHM_NAMESPACES     256u
#define YK_SHM_HAZARDS        1024u /* of one client: one page of 32-bit slots */
#define YK_SHM_RING           4096u /* access events of one client, a power of two */
#define YK_SHM_BUCKET_ENTRIES 7u
#define YK_SHM_KEY_INLINE     16u /* bytes of a key that stand in its descriptor, zero-padded */
#define YK_SHM_KEY_GRANULE    16u /* a cell for the others is 1..16 granules, zero-padded */
#define YK_SHM_NONE           0xffffffffu
#define YK_HAZARD_SCRUB       0u /* of slot 0, the node's own: the scrubber's */

/* State of a descriptor: the low 8 bits of its word; the other 56 are the generation.
 *
 *   FREE --reserve--> RESERVED --commit--> COMMITTED --retire--> RETIRED --no hazard--> FREE
 *                        |                  |  ^  |
 *                        +--abort--> RETIRED|  |  +--after an unclean stop--> SUSPECT
 *                                           v  |                                |
 *                                          MOVING                 verified -----+--> COMMITTED
 *
 * FREE       nothing in it means anything.
 * RESERVED   offset, cap, owner are set (place_sum); payload belongs to the owner.
 * COMMITTED  all fields are set (place_sum, ident_sum) and do not change but for expiry, pin and
 *            children; payload is immutable.
 * SUSPECT    as COMMITTED, but the payload's checksum must be verified before the first use.
 * MOVING     offset is being changed by the compactor; readers retry.
 * RETIRED    not found any more; memory is reused once no hazard names it.
 */
enum yk_desc_state {
    YK_DESC_FREE = 0,
    YK_DESC_RESERVED = 1,
    YK_DESC_COMMITTED = 2,
    YK_DESC_SUSPECT = 3,
    YK_DESC_MOVING = 4,
    YK_DESC_RETIRED = 5,
};

/* `owner` of a place that peers of the node write through its transfer engine (docs/decisions/0011): this
 * bit and the number of the connection that has it. CLOSED: no write may begin any more. */
#define YK_SHM_OWNER_REMOTE  0x80000000u
#define YK_SHM_OWNER_CLOSED  0x40000000u
#define YK_SHM_OWNER_PEER(o) ((o)&0x3fffffffu)

static inline int yk_owner_is_remote(uint32_t owner) {
    return (owner & YK_SHM_OWNER_REMOTE) != 0 && owner != YK_SHM_NONE;
}

#define YK_WORD(gen, state) (((uint64_t)(gen) << 8) | (uint64_t)(state))
#define YK_WORD_STATE(w)    ((unsigned)((w)&0xffu))
#define YK_WORD_GEN(w)      ((w) >> 8)

/* What says whether a block is there: one cache line, key included, so that a lookup that holds
 * nothing (exists, match) reads a bucket and this. Written by the owner only. */
struct yk_desc {
    uint64_t word;      /* generation << 8 | state; pairs: view.c loads it with acquire */
    uint64_t hash;      /* yk_hash_key(ns, key) */
    uint64_t epoch;     /* must equal the namespace's and the reader's */
    uint64_t expiry_ms; /* wall clock, 0 = never; changes by one store */
    uint64_t key[YK_SHM_KEY_INLINE / 8]; /* the key's first bytes */
    uint32_t key_cell;                   /* first granule of its other bytes, if it has any */
    uint32_t ns;                         /* namespace index */
    uint32_t len;                        /* payload bytes */
    uint8_t key_len;                     /* 1..255 */
    uint8_t kind;
    uint8_t copies; /* wanted in the cluster; 0 = one, or not known; changes by one store */
    uint8_t reserved0;
};

/* The rest of the descriptor of the same number: where the payload is, and what else belongs to the
 * block. Apart from it, since a table of single lines is half the pages and half the cache that a
 * match walks through (docs/decisions/0012). */
struct yk_rest {
    uint64_t sum;          /* XXH3-64 of the payload */
    uint64_t offset;       /* of the payload in the data file */
    uint64_t pin_until_ms; /* CLOCK_BOOTTIME ms, ~0 = hard, 0 = none; changes by one store */
    uint64_t session;
    uint32_t depth_tokens;
    uint32_t length_tokens;
    uint32_t parent;       /* descriptor of the parent, or YK_SHM_NONE */
    uint32_t parent_birth; /* its birth: guards against reuse of the descriptor */
    uint32_t birth;        /* low 32 bits of the generation at the reserve; survives moves */
    uint32_t children;     /* live children, or YK_CHILDREN_RETIRING (R7) */
    uint32_t model;
    uint32_t owner;     /* who holds the reservation: a client slot, YK_SHM_OWNER_REMOTE and a connection,
                           or YK_SHM_NONE */
    uint32_t cap;       /* bytes asked of the allocator */
    uint32_t place_sum; /* over offset, cap, owner, index of the descriptor */
    uint32_t ident_sum; /* over the fields set at commit, of both, and the key's bytes */
    uint32_t ssd; /* entry + 1 of its copy on SSD, 0 = none; the node's, means nothing after a restart */
};

#define YK_CHILDREN_RETIRING 0xffffffffu
#define YK_PIN_HARD          UINT64_MAX

/* One cache line of the index. An entry is tag << 32 | (descriptor + 1), 0 = empty. */
struct yk_bucket {
    uint32_t version; /* raised before an entry, or a bucket of the chain, goes elsewhere */
    uint32_t next;    /* overflow bucket + 1, 0 = none */
    uint64_t entry[YK_SHM_BUCKET_ENTRIES];
};

/* Head of an index area: linear hashing over `1 << level` + split buckets. */
struct yk_index_hdr {
    uint64_t table; /* level << 32 | split */
    uint64_t reserved[7];
};

struct yk_ns_entry {
    char name[64];
    uint64_t state;       /* 0 free, 1 live */
    uint64_t epoch;       /* readers load it with acquire */
    uint64_t quota_bytes; /* 0 = none */
    uint64_t epoch_copy;  /* stored after epoch; the higher one counts after a crash between */
    uint64_t sum;         /* over name and state: what changes in one store stays out */
    uint64_t uid;         /* never another namespace's; 0 = not given yet (no SSD tier was there) */
    uint32_t copies;      /* of puts that name none; 0 = one */
    uint32_t priority;    /* 0: YK_PRIORITY_DEFAULT. (With copies one word of older programs, which see a large number
                             of copies in it: their puts then wait for a reply, and go on) */
    uint64_t guarantee_bytes; /* 0 = none */
};

/* Who holds a client slot. In the meta file, where no client can write. */
struct yk_client_owner {
    uint64_t cookie;     /* 0 = free; proves to the daemon that a reconnecting client is the same */
    uint64_t start_time; /* of the process, /proc/PID/stat field 22 */
    uint32_t pid;
    uint32_t ns; /* namespace of its handle + 1; 0 = not known */
    uint32_t reserved[2];
};

struct yk_shm_layout {
    uint64_t data_bytes;
    uint64_t meta_bytes;
    uint64_t clients_bytes;
    uint64_t extents_bytes;
    uint64_t off_ns, off_owners, off_extents, off_desc, off_rest, off_keys;
    uint64_t off_index[2]; /* struct yk_index_hdr, then buckets, then overflow buckets */
    uint64_t index_bytes;  /* of one area */
    uint32_t max_blocks;
    uint32_t max_buckets; /* primary */
    uint32_t max_overflow;
    uint32_t max_key_granules;
    uint32_t max_clients;
    uint32_t max_namespaces;
};

#define YK_SHM_ALONE (1ull << 63)

struct yk_shm_hdr {
    uint64_t magic;
    uint32_t version;
    uint32_t hdr_bytes;
    uint64_t segment_id; /* random; a client compares it on reconnect */
    uint64_t layout_sum; /* over layout */
    struct yk_shm_layout layout;
    uint64_t node_id; /* of this node, 0 = none yet; its SSDs carry it, too */
    uint64_t ssd_run; /* the SSD tier's run that this segment was in last; 0 = in none. With YK_SHM_ALONE:
                         it was used without the tier since. Who missed a run of the other comes back empty */
    uint64_t pid_ns, time_ns; /* namespaces in which its clients' processes are named and dated (inodes); 0 = not known */
    uint64_t slow_bytes; /* of the payload, at its end: slow memory (docs/decisions/0020); 0 = none */
    uint64_t reserved0[11];

    /* Mutable; each field its owner's alone. */
    uint64_t active __attribute__((aligned(64)));   /* incarnation << 1 | index area; release */
    uint64_t lost;                                  /* 1: the tier is gone, every lookup misses */
    uint64_t open_until_ns; /* lookups behind it miss; beside `active`, whose line each of them reads (gate.h) */
    uint64_t clock_ms __attribute__((aligned(64))); /* latest wall clock seen, for expiry */
    uint64_t gen_limit; /* generations below may have been used; raised ahead of use */
    uint64_t clean;     /* 1: stopped in good order; 0 while running */
    uint64_t data_mtime_ns; /* of the data file at that stop: somebody may write to it afterwards */
    uint32_t desc_top;  /* descriptors at or above were never used */
    uint32_t key_top;   /* granules at or above were never used */
    uint32_t index_next[2];
};

/* One client's run of pages in the clients file. */
struct yk_client_page {
    /* written by the client */
    uint32_t hazard_top; /* hazard slots at or above are all zero; only grows */
    uint32_t reserved0;
    uint64_t ring_head __attribute__((aligned(64)));
    uint64_t counters[8]; /* enum yk_client_counter, relaxed */
    /* written by the owner */
    uint64_t ring_tail __attribute__((aligned(64)));
    uint32_t doze; /* 1: the owner drains nothing until it is asked to */
    uint32_t wants_requests; /* 1: its policy wants to hear of chains that are matched */
    uint8_t reserved1[YK_SHM_PAGE - 64 - 128 - 16];
    uint32_t hazard[YK_SHM_HAZARDS]; /* descriptor + 1, 0 = free */
    uint64_t ring[YK_SHM_RING];      /* YK_EVENT, YK_EVENT_OF_CHAIN, YK_EVENT_OF_KEY */
};

enum yk_client_counter {
    YK_COUNT_HIT = 0,
    YK_COUNT_MISS,
    YK_COUNT_HIT_BYTES,
    YK_COUNT_MATCH,
    YK_COUNT_MATCH_KEYS,
    YK_COUNT_RETRY,
    YK_COUNT_VERIFY_FAIL,
    YK_COUNT_EVENT_DROP, /* access events not written: another thread was adding */
    YK_COUNTERS = 8
};

enum yk_event_kind {
    YK_EVENT_ACCESS = 1,
    YK_EVENT_VERIFIED = 2, /* a SUSPECT payload was good */
    YK_EVENT_CORRUPT = 3,  /* a payload did not match its checksum */
    YK_EVENT_CHAIN = 4,    /* a request: so many KEY events follow, of its keys, head first */
    YK_EVENT_KEY = 5,
};

/* Keys of a chain that are announced: half of the ring, so that one does not push out itself. */
#define YK_EVENT_CHAIN_MAX (YK_SHM_RING / 2)

#define YK_EVENT(kind, birth, idx)                                                                 \
    (((uint64_t)(kind) << 60) | ((uint64_t)((birth)&0x0fffffffu) << 32) | (uint32_t)(idx))
#define YK_EVENT_KIND(e)  ((unsigned)((e) >> 60))
#define YK_EVENT_BIRTH(e) ((uint32_t)((e) >> 32) & 0x0fffffffu)
#define YK_EVENT_IDX(e)   ((uint32_t)(e))

/* kind << 60 | keys, and kind << 60 | the low 60 bits of a key's hash */
#define YK_EVENT_OF_CHAIN(n)  (((uint64_t)YK_EVENT_CHAIN << 60) | (uint32_t)(n))
#define YK_EVENT_OF_KEY(hash) (((uint64_t)YK_EVENT_KEY << 60) | YK_EVENT_HASH(hash))
#define YK_EVENT_HASH(e)      ((uint64_t)(e) & ((1ull << 60) - 1))

#ifndef __cplusplus
_Static_assert(sizeof(struct yk_desc) == 64, "one cache line");
_Static_assert(sizeof(struct yk_rest) == 80, "no gaps");
_Static_assert(sizeof(struct yk_bucket) == 64, "one cache line");
_Static_assert(sizeof(struct yk_index_hdr) == 64, "one cache line");
_Static_assert(sizeof(struct yk_ns_entry) == 128, "two cache lines");
_Static_assert(sizeof(struct yk_client_owner) == 32, "fixed");
_Static_assert(sizeof(struct yk_client_page) == 2 * YK_SHM_PAGE + 8 * YK_SHM_RING, "whole pages");
_Static_assert(sizeof(struct yk_shm_hdr) <= YK_SHM_PAGE, "one page");
#endif

/* Sizes every region for `data_bytes` of payload and `max_blocks` blocks. Pure. Returns 0 or
 * -YK_EINVAL (zero or absurd sizes). */
int yk_shm_layout_make(uint64_t data_bytes, uint32_t max_blocks, uint32_t max_clients,
                       uint64_t extents_bytes, struct yk_shm_layout *ret_layout);

/* The stored sums (32 and 64 bits of XXH3). key: the key's bytes, key_len of them. */
uint64_t yk_shm_layout_sum(const struct yk_shm_layout *layout);
uint32_t yk_desc_place_sum(const struct yk_rest *rest, uint32_t idx);
uint32_t yk_desc_ident_sum(const struct yk_desc *desc, const struct yk_rest *rest, const void *key);
uint64_t yk_ns_entry_sum(const struct yk_ns_entry *entry);

/* Bytes of a key that stand in a cell: none of a short one. */
static inline uint32_t yk_key_tail(uint32_t key_len) {
    return key_len > YK_SHM_KEY_INLINE ? key_len - YK_SHM_KEY_INLINE : 0;
}

/* Room for a key that has to be put together from both. */
struct yk_key_room {
    unsigned char bytes[256];
};

/* Granules of a cell for so many bytes. */
static inline uint32_t yk_cell_granules(uint32_t bytes) {
    return (bytes + YK_SHM_KEY_GRANULE - 1) / YK_SHM_KEY_GRANULE;
}

#ifdef __cplusplus
}
#endif

#endif

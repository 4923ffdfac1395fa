/* SPDX-License-Identifier: Apache-2.0
 *
 * Batches of KV events (kv.h). A batch is read twice, first without telling anybody, so that one that turns out
 * malformed has changed nothing. The fields of an event are first found, wherever they stand, then told.
 */
#include "events/kv.h"

#include "base/hash.h"
#include "events/pack.h"

#include <string.h>

struct field {
    bool is_there;
    struct yk_pack at; /* before it */
};

enum name { TYPE, HASHES, BLOCK_SIZE, MEDIUM, GROUP, KIND, NAMES };
static const char *const names[NAMES] = {"type", "block_hashes", "block_size", "medium", "group_idx", "kv_cache_spec_kind"};

/* Where the names stand in events that are arrays; those of the later places are there in some releases only. */
static const enum name stored_places[] = {TYPE, HASHES, NAMES, NAMES, BLOCK_SIZE, NAMES, MEDIUM, NAMES, NAMES, GROUP, KIND};
static const enum name removed_places[] = {TYPE, HASHES, MEDIUM, GROUP};

struct event {
    enum yk_kv_kind kind; /* 0: not known */
    enum yk_kv_medium medium;
    uint32_t block_tokens;
    uint32_t group;
    struct field fields[NAMES];
};

struct reader {
    const struct yk_kv_sink *sink; /* NULL: only looks */
    struct yk_kv_batch *batch;
    struct yk_kv_groups groups;
    const unsigned char *start;
    struct yk_err *err;
};

static int wrong(const struct reader *r, const struct yk_pack *p, const char *what) {
    return yk_err_set(r->err, -YK_EPROTO, "a batch of KV events: %s, at byte %zu", what, (size_t)(p->at - r->start));
}

static bool is_text(const struct yk_pack_item *item, const char *text) {
    return item->kind == YK_PACK_STR && item->n == strlen(text) && memcmp(item->data, text, item->n) == 0;
}

/* ---- one event ---- */

static enum yk_kv_kind kind_of(const struct yk_pack_item *item) {
    if (is_text(item, "BlockStored"))
        return YK_KV_STORED;
    if (is_text(item, "BlockRemoved"))
        return YK_KV_REMOVED;
    return is_text(item, "AllBlocksCleared") ? YK_KV_CLEARED : (enum yk_kv_kind)0;
}

static void find_in_map(struct yk_pack *p, uint32_t n, struct event *e) {
    for (uint32_t i = 0; i < n && !p->bad; i++) {
        struct yk_pack_item key = yk_pack_next(p);
        if (key.kind != YK_PACK_STR)
            p->bad = true;
        for (uint32_t name = 0; name < NAMES; name++)
            if (is_text(&key, names[name]))
                e->fields[name] = (struct field){.is_there = true, .at = *p};
        yk_pack_skip(p, 1);
    }
}

static void find_in_array(struct yk_pack *p, uint32_t n, struct event *e) {
    struct yk_pack head = *p;
    struct yk_pack_item type = yk_pack_next(&head);
    bool removed = kind_of(&type) == YK_KV_REMOVED;
    const enum name *places = removed ? removed_places : stored_places;
    uint32_t known = removed ? sizeof(removed_places) / sizeof(removed_places[0])
                             : sizeof(stored_places) / sizeof(stored_places[0]);
    for (uint32_t i = 0; i < n && !p->bad; i++) {
        if (i < known && places[i] != NAMES)
            e->fields[places[i]] = (struct field){.is_there = true, .at = *p};
        yk_pack_skip(p, 1);
    }
}

static struct yk_pack_item value_of(const struct event *e, enum name name) {
    struct yk_pack at = e->fields[name].at;
    return e->fields[name].is_there ? yk_pack_next(&at) : (struct yk_pack_item){.kind = YK_PACK_NIL};
}

/* Case does not matter: releases differ. */
static enum yk_kv_medium medium_of(const struct yk_pack_item *item) {
    static const char *const known[] = {"gpu", "cpu"};
    if (item->kind == YK_PACK_NIL)
        return YK_KV_GPU;
    for (int k = 0; k < 2; k++) {
        bool same = item->kind == YK_PACK_STR && item->n == 3;
        for (uint32_t i = 0; same && i < 3; i++)
            same = (item->data[i] | 0x20) == known[k][i];
        if (same)
            return k == 0 ? YK_KV_GPU : YK_KV_CPU;
    }
    return YK_KV_OTHER;
}

static uint64_t hash_of(struct yk_pack *p, const struct yk_pack_item *item) {
    if (item->kind == YK_PACK_BIN || item->kind == YK_PACK_STR)
        return yk_hash64(item->data, item->n);
    if (item->kind != YK_PACK_UINT && item->kind != YK_PACK_INT)
        p->bad = true;
    return item->number;
}

/* Layers that see the whole prefix. */
static bool sees_all(const struct yk_pack_item *kind) {
    return is_text(kind, "full_attention") || is_text(kind, "mla_attention") || is_text(kind, "sink_full_attention");
}

/* Are the blocks of this event those that count? What it says of its group's kind is remembered; of the lowest group
 * that sees all if there are several, which are stored and evicted alike. "unknown" is what an engine says of layers of
 * several kinds that it keeps as one group, all that see all as a rule: as if nothing was said. */
static bool counts(struct yk_kv_groups *g, const struct event *e) {
    struct yk_pack_item kind = value_of(e, KIND);
    bool whole = sees_all(&kind);
    if (kind.kind == YK_PACK_STR && !whole && !is_text(&kind, "unknown"))
        return false;
    if (whole && (!g->known || e->group < g->whole))
        *g = (struct yk_kv_groups){.known = true, .whole = e->group};
    return e->group == (g->known ? g->whole : 0);
}

/* end: of the event. */
static int tell_blocks(struct reader *r, const struct yk_pack *end, const struct event *e) {
    if (!e->fields[HASHES].is_there)
        return wrong(r, end, "an event has no block_hashes");
    struct yk_pack p = e->fields[HASHES].at;
    struct yk_pack_item list = yk_pack_next(&p);
    if (list.kind != YK_PACK_ARRAY)
        return wrong(r, &p, "block_hashes is no list");
    for (uint32_t i = 0; i < list.n; i++) {
        struct yk_pack_item item = yk_pack_next(&p);
        uint64_t block = hash_of(&p, &item);
        if (p.bad)
            return wrong(r, &p, "a block's hash is no integer and no bytes");
        r->batch->blocks++;
        if (r->sink == NULL)
            continue;
        if (e->kind == YK_KV_STORED)
            r->sink->stored(r->sink->arg, block, e->medium, e->block_tokens);
        else
            r->sink->removed(r->sink->arg, block, e->medium);
    }
    return 0;
}

static int read_event(struct reader *r, struct yk_pack *p) {
    struct event e = {0};
    struct yk_pack_item head = yk_pack_next(p);
    if (head.kind == YK_PACK_MAP)
        find_in_map(p, head.n, &e);
    else if (head.kind == YK_PACK_ARRAY)
        find_in_array(p, head.n, &e);
    else
        return wrong(r, p, "an event is no list and no map");
    if (p->bad)
        return wrong(r, p, "an event is malformed");
    struct yk_pack_item type = value_of(&e, TYPE), medium = value_of(&e, MEDIUM), group = value_of(&e, GROUP),
                        size = value_of(&e, BLOCK_SIZE);
    e.kind = kind_of(&type);
    e.medium = medium_of(&medium);
    e.block_tokens = size.kind == YK_PACK_UINT && size.number <= UINT32_MAX ? (uint32_t)size.number : 0;
    e.group = group.kind != YK_PACK_UINT ? 0 : group.number < UINT32_MAX ? (uint32_t)group.number : UINT32_MAX;
    r->batch->events++;
    if (e.kind == 0 || (e.kind != YK_KV_CLEARED && !counts(&r->groups, &e))) {
        r->batch->passed_over++;
        return 0;
    }
    if (e.kind != YK_KV_CLEARED)
        return tell_blocks(r, p, &e);
    if (r->sink != NULL)
        r->sink->cleared(r->sink->arg);
    return 0;
}

/* ---- a batch ---- */

static int read_events(struct reader *r, struct yk_pack *p) {
    struct yk_pack_item list = yk_pack_next(p);
    if (list.kind != YK_PACK_ARRAY)
        return wrong(r, p, "its events are no list");
    for (uint32_t i = 0; i < list.n; i++) {
        int rc = read_event(r, p);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static void read_rank(struct reader *r, struct yk_pack *p) {
    struct yk_pack_item rank = yk_pack_next(p);
    r->batch->rank = rank.kind == YK_PACK_UINT && rank.number <= INT32_MAX ? (int64_t)rank.number : -1;
    if (rank.kind == YK_PACK_ARRAY || rank.kind == YK_PACK_MAP)
        p->bad = true;
}

static int read_array(struct reader *r, struct yk_pack *p, uint32_t n) {
    int rc = 0;
    for (uint32_t i = 0; i < n && rc == 0 && !p->bad; i++) {
        if (i == 1)
            rc = read_events(r, p);
        else if (i == 2)
            read_rank(r, p);
        else
            yk_pack_skip(p, 1);
    }
    return n < 2 ? wrong(r, p, "it has no events") : rc;
}

static int read_map(struct reader *r, struct yk_pack *p, uint32_t n) {
    bool has_events = false;
    int rc = 0;
    for (uint32_t i = 0; i < n && rc == 0 && !p->bad; i++) {
        struct yk_pack_item key = yk_pack_next(p);
        if (is_text(&key, "events") && !has_events) {
            has_events = true;
            rc = read_events(r, p);
        } else if (is_text(&key, "data_parallel_rank")) {
            read_rank(r, p);
        } else if (key.kind == YK_PACK_STR) {
            yk_pack_skip(p, 1);
        } else {
            p->bad = true;
        }
    }
    return rc == 0 && !has_events ? wrong(r, p, "it has no events") : rc;
}

static int read_batch(struct reader *r, const void *data, size_t len) {
    struct yk_pack p;
    *r->batch = (struct yk_kv_batch){.rank = -1};
    yk_pack_init(&p, data, len);
    struct yk_pack_item head = yk_pack_next(&p);
    int rc = head.kind == YK_PACK_ARRAY ? read_array(r, &p, head.n)
             : head.kind == YK_PACK_MAP ? read_map(r, &p, head.n)
                                        : wrong(r, &p, "it is no list and no map");
    if (rc == 0 && p.bad)
        return wrong(r, &p, "it is malformed or cut short");
    return rc == 0 && p.at != p.end ? wrong(r, &p, "more follows its end") : rc;
}

int yk_kv_decode(const void *data, size_t len, const struct yk_kv_sink *sink, struct yk_kv_groups *io_groups,
                 struct yk_kv_batch *ret_batch, struct yk_err *err) {
    struct yk_kv_batch batch;
    struct yk_kv_groups before = io_groups != NULL ? *io_groups : (struct yk_kv_groups){0};
    struct reader r = {.batch = &batch, .start = data, .err = err, .groups = before};
    if (len > YK_KV_BATCH_MAX)
        return yk_err_set(err, -YK_ETOOBIG, "a batch of KV events has %zu bytes, at most %u are taken", len, YK_KV_BATCH_MAX);
    int rc = read_batch(&r, data, len);
    if (rc < 0)
        return rc;
    r.sink = sink;
    r.groups = before; /* the second time as the first */
    if (sink != NULL)
        read_batch(&r, data, len);
    if (io_groups != NULL)
        *io_groups = r.groups;
    if (sink != NULL && sink->ended != NULL)
        sink->ended(sink->arg);
    *ret_batch = batch;
    return 0;
}

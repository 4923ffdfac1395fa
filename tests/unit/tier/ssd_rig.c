/* SPDX-License-Identifier: Apache-2.0
 *
 * See ssd_rig.h.
 */
#include "ssd_rig.h"

#include "base/hash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <yolk/status.h>

static uint32_t below(struct ssd_rig *r, uint32_t n) {
    return (uint32_t)(disk_random(&r->seed) % n);
}

static uint32_t key_make(uint32_t key, char *to) {
    return (uint32_t)snprintf(to, 64, "%.*skey-%u", (int)(key % 23), "qqqqqqqqqqqqqqqqqqqqqqqq",
                              key);
}

static uint64_t key_hash(uint32_t ns, uint32_t key) {
    char k[64];
    uint32_t len = key_make(key, k);
    return yk_hash_key(ns, k, len);
}

static void payload_fill(const struct version *v, unsigned char *to) {
    uint64_t s = v->seed;
    for (uint64_t i = 0; i < v->len; i += 8) {
        uint64_t w = disk_random(&s);
        memcpy(to + i, &w, v->len - i < 8 ? v->len - i : 8);
    }
}

/* ---- callbacks ----------------------------------------------------------------------------------------- */

static void on_put(void *arg, uint32_t id, uint64_t cookie, int status) {
    struct ssd_rig *r = arg;
    struct version *v = &r->v[cookie];
    assert_false(v->ended);
    assert_int_equal(v->id, id);
    v->ended = 1;
    free(v->payload);
    v->payload = NULL;
    if (status == 0)
        v->done = disk_clock;
    else
        v->failed = 1;
    if (status != 0 && status != -YK_ECANCELED)
        v->dropped = v->put;
    if (status != 0 && r->live[v->ns][v->key] == cookie + 1)
        r->live[v->ns][v->key] = 0;
}

static void on_drop(void *arg, uint32_t id) {
    struct ssd_rig *r = arg;
    for (uint32_t i = r->nv; i > 0; i--) {
        struct version *v = &r->v[i - 1];
        if (v->id != id || !v->ended || v->failed || v->dropped != RIG_NEVER ||
            v->removed != RIG_NEVER)
            continue;
        v->dropped = disk_clock;
        if (r->live[v->ns][v->key] == i)
            r->live[v->ns][v->key] = 0;
        return;
    }
    if (!r->lenient)
        fail_msg("on_drop of entry %u, which is no version's", id);
}

static void on_read(void *arg, uint64_t cookie, int status) {
    struct ssd_rig *r = arg;
    unsigned char *buf = (unsigned char *)(uintptr_t)cookie; /* version, then its bytes */
    uint32_t i;
    memcpy(&i, buf, sizeof(i));
    const struct version *v = &r->v[i];
    r->reading--;
    r->reads_ok += status == 0;
    r->reads_bad += status != 0;
    if (status == 0 && yk_hash64(buf + 64, v->len) != v->sum) {
        if (!r->rot)
            fail_msg("a read gave other bytes than were put");
        r->rotten++;
        if (r->live[v->ns][v->key] == i + 1 && v->removed == RIG_NEVER && !v->failed &&
            v->dropped == RIG_NEVER) {
            r->v[i].removed = disk_clock;
            r->live[v->ns][v->key] = 0;
            yk_ssd_rotten(r->ssd, v->id, ++r->gen);
        }
    }
    free(buf);
}

static void on_durable(void *arg, uint64_t ticket) {
    struct ssd_rig *r = arg;
    assert_true(yk_ssd_durable(r->ssd, ticket) != 0);
}

static void wake(void *arg) {
    (void)arg;
}

/* ---- open and close ------------------------------------------------------------------------------------ */

static void opts_make(struct ssd_rig *r, unsigned disks, uint64_t segment_bytes) {
    static const char *const names[RIG_DISKS] = {"disk0", "disk1"};
    r->opts = (struct yk_ssd_opts){.dev_count = disks,
                                   .io = &disk_io,
                                   .segment_bytes = segment_bytes,
                                   .now_ms = r->now_ms,
                                   .trim = 1,
                                   .wake = wake,
                                   .on_put = on_put,
                                   .on_read = on_read,
                                   .on_durable = on_durable,
                                   .on_drop = on_drop,
                                   .arg = r};
    for (unsigned i = 0; i < disks; i++)
        r->opts.dev[i].path = names[i];
}

static uint32_t change_add(struct ssd_rig *r, uint32_t ns) {
    assert_true(r->nchanges < 256);
    r->changes[r->nchanges] =
        (struct ns_change){.ns = ns, .entry = r->ns[ns], .asked = disk_clock, .acked = RIG_NEVER};
    r->changes[r->nchanges].ticket = yk_ssd_ns_set(r->ssd, ns, &r->ns[ns]);
    return r->nchanges++;
}

static int wrap(void *arg, struct yk_file *io, struct yk_file **ret_io) {
    struct ssd_rig *r = arg;
    int rc = yk_file_fault_new(io, ret_io);
    if (rc == 0 && r->fault.kind != 0 && r->fault_io == NULL) {
        r->fault_io = *ret_io;
        yk_file_fault_set(*ret_io, &r->fault);
    }
    return rc;
}

void ssd_rig_init(struct ssd_rig *r, unsigned disks, uint32_t segments, uint64_t segment_bytes,
                  uint64_t seed, int record) {
    memset(r, 0, sizeof(*r));
    r->seed = seed;
    r->now_ms = 1000000;
    r->max_large = (uint32_t)(segment_bytes / 4);
    r->small_percent = 60;
    disk_clock = 0;
    opts_make(r, disks, segment_bytes);
    r->opts.io_wrap = wrap;
    r->opts.io_wrap_arg = r;
    for (unsigned i = 0; i < disks; i++) {
        r->disk[i] = disk_new(r->opts.dev[i].path,
                              (1u << 20) + segments * segment_bytes + YK_SSD_SECTOR);
        r->disk[i]->record = record;
        r->disk[i]->slow = 1;
        r->disk[i]->seed = seed + i;
    }
}

int ssd_rig_start(struct ssd_rig *r) {
    int rc = yk_ssd_open(&r->opts, r->ns, &r->ssd, &r->err);
    if (rc < 0)
        return rc;
    for (uint32_t i = 0; i < RIG_NS; i++) {
        if (r->ns[i].uid != 0)
            continue;
        r->ns[i] = (struct yk_ssd_ns){.uid = ++r->uid, .epoch = 1};
        snprintf(r->ns[i].name, sizeof(r->ns[i].name), "ns%u", i);
        change_add(r, i);
    }
    ssd_rig_settle(r);
    return 0;
}

void ssd_rig_open(struct ssd_rig *r, unsigned disks, uint32_t segments, uint64_t segment_bytes,
                  uint64_t seed, int record) {
    ssd_rig_init(r, disks, segments, segment_bytes, seed, record);
    if (ssd_rig_start(r) < 0)
        fail_msg("open: %s", r->err.text);
}

void ssd_rig_close(struct ssd_rig *r, int clean) {
    yk_ssd_close(r->ssd, clean, 20000);
    r->ssd = NULL;
    for (uint32_t i = 0; i < r->nv; i++)
        assert_true(r->v[i].ended);
    assert_int_equal(r->reading, 0);
}

void ssd_rig_free(struct ssd_rig *r) {
    for (unsigned i = 0; i < RIG_DISKS; i++)
        if (r->disk[i] != NULL)
            disk_free(r->disk[i]);
    free(r->v);
}

uint64_t ssd_rig_pending(struct ssd_rig *r, uint32_t ns, uint32_t key) {
    return yk_ssd_pending(r->ssd, ns, key_hash(ns, key));
}

/* ---- the workload -------------------------------------------------------------------------------------- */

int ssd_rig_put(struct ssd_rig *r, uint32_t ns, uint32_t key, uint64_t len, uint64_t expiry_ms) {
    char k[64], parent[64];
    if (r->nv == r->vcap) {
        r->vcap = r->vcap * 2 + 256;
        r->v = realloc(r->v, r->vcap * sizeof(*r->v));
        assert_non_null(r->v);
    }
    struct version *v = &r->v[r->nv];
    memset(v, 0, sizeof(*v));
    *v = (struct version){.key = key,
                          .ns = ns,
                          .epoch = r->ns[ns].epoch,
                          .ns_uid = r->ns[ns].uid,
                          .seed = disk_random(&r->seed),
                          .len = len,
                          .put = disk_clock,
                          .done = RIG_NEVER,
                          .removed = RIG_NEVER,
                          .removed_acked = RIG_NEVER,
                          .dropped = RIG_NEVER};
    v->expiry[v->expiries++] = (struct expiry_change){.ms = expiry_ms, .acked = 0};
    v->payload = malloc(len + 1);
    assert_non_null(v->payload);
    payload_fill(v, v->payload);
    v->sum = yk_hash64(v->payload, len);
    struct yk_ssd_put put = {.ns = ns,
                             .key = k,
                             .key_len = key_make(key, k),
                             .hash = key_hash(ns, key),
                             .gen = ++r->gen,
                             .sum = v->sum,
                             .len = len,
                             .expiry_ms = expiry_ms,
                             .session = key % 3,
                             .depth_tokens = key * 16,
                             .length_tokens = key % 7,
                             .model = key % 2,
                             .payload = v->payload,
                             .cookie = r->nv};
    if (key > 0) {
        put.parent = parent;
        put.parent_len = key_make(key - 1, parent);
        put.parent_hash = (uint32_t)key_hash(ns, key - 1);
    }
    int rc = !r->eager && ssd_rig_pending(r, ns, key) != 0 ? -YK_EAGAIN
                                                           : yk_ssd_put(r->ssd, &put, &v->id);
    if (rc < 0) {
        free(v->payload);
        return rc;
    }
    struct yk_ssd_info info;
    yk_ssd_info_get(r->ssd, v->id, &info);
    v->device = info.device;
    r->live[ns][key] = ++r->nv;
    return 0;
}

static struct version *live_of(struct ssd_rig *r, uint32_t ns, uint32_t key) {
    uint32_t i = r->live[ns][key];
    uint32_t id;
    char k[64];
    uint32_t len = key_make(key, k);
    if (i == 0)
        return NULL;
    int rc = yk_ssd_find(r->ssd, ns, key_hash(ns, key), k, len, r->now_ms, &id);
    if (rc == YK_MISS) { /* expired, or dropped and not told of yet */
        r->live[ns][key] = 0;
        return NULL;
    }
    assert_int_equal(id, r->v[i - 1].id);
    return &r->v[i - 1];
}

void ssd_rig_remove(struct ssd_rig *r, uint32_t ns, uint32_t key) {
    struct version *v = live_of(r, ns, key);
    if (v == NULL)
        return;
    v->removed = disk_clock;
    r->live[ns][key] = 0;
    v->ticket = yk_ssd_remove(r->ssd, v->id, ++r->gen);
}

void ssd_rig_expire(struct ssd_rig *r, uint32_t ns, uint32_t key, uint64_t expiry_ms) {
    struct version *v = live_of(r, ns, key);
    if (v == NULL || v->expiries == 4)
        return;
    struct expiry_change *x = &v->expiry[v->expiries++];
    *x = (struct expiry_change){.ms = expiry_ms, .asked = disk_clock, .acked = RIG_NEVER};
    x->ticket = yk_ssd_expire(r->ssd, v->id, expiry_ms, ++r->gen);
}

static void forget_ns(struct ssd_rig *r, uint32_t ns) {
    for (uint32_t k = 0; k < RIG_KEYS; k++)
        r->live[ns][k] = 0;
}

void ssd_rig_raise(struct ssd_rig *r, uint32_t ns) {
    if (r->nchanges >= 250)
        return;
    r->ns[ns].epoch++;
    forget_ns(r, ns);
    change_add(r, ns);
}

void ssd_rig_ns_remove(struct ssd_rig *r, uint32_t ns) {
    if (r->nchanges >= 250)
        return;
    r->ns[ns].removed = 1;
    forget_ns(r, ns);
    uint32_t at = change_add(r, ns);
    for (uint32_t n = 0;
         yk_ssd_durable(r->ssd, r->changes[at].ticket) == 0 || yk_ssd_ns_busy(r->ssd, ns); n++) {
        ssd_rig_turn(r, 1);
        assert_true(n < 100000);
    }
    r->ns[ns].removed = 0;
    r->ns[ns].uid = ++r->uid;
    r->ns[ns].epoch = 1;
    change_add(r, ns);
}

void ssd_rig_read(struct ssd_rig *r, uint32_t ns, uint32_t key) {
    struct version *v = live_of(r, ns, key);
    if (v == NULL)
        return;
    uint32_t i = (uint32_t)(v - r->v);
    unsigned char *buf = malloc(64 + v->len);
    assert_non_null(buf);
    memcpy(buf, &i, sizeof(i));
    int rc = yk_ssd_read(r->ssd, v->id, buf + 64, YK_SSD_PRIO_DEMAND, (uint64_t)(uintptr_t)buf);
    if (rc < 0) {
        free(buf);
        return;
    }
    yk_ssd_touch(r->ssd, v->id);
    r->reading++;
}

static void acks(struct ssd_rig *r) {
    for (uint32_t i = 0; i < r->nv; i++) {
        struct version *v = &r->v[i];
        if (v->ticket != 0 && v->removed_acked == RIG_NEVER &&
            yk_ssd_durable(r->ssd, v->ticket) == 1)
            v->removed_acked = disk_clock;
        for (uint32_t k = 1; k < v->expiries; k++)
            if (v->expiry[k].acked == RIG_NEVER && yk_ssd_durable(r->ssd, v->expiry[k].ticket) == 1)
                v->expiry[k].acked = disk_clock;
    }
    for (uint32_t i = 0; i < r->nchanges; i++)
        if (r->changes[i].acked == RIG_NEVER && yk_ssd_durable(r->ssd, r->changes[i].ticket) == 1)
            r->changes[i].acked = disk_clock;
}

void ssd_rig_turn(struct ssd_rig *r, int tick) {
    if (tick)
        yk_ssd_tick(r->ssd, r->now_ms);
    else
        yk_ssd_poll(r->ssd);
    acks(r);
}

static int is_settled(const struct ssd_rig *r) {
    for (uint32_t i = 0; i < r->nv; i++)
        if (!r->v[i].ended || (r->v[i].ticket != 0 && yk_ssd_durable(r->ssd, r->v[i].ticket) == 0))
            return 0;
    for (uint32_t i = 0; i < r->nchanges; i++)
        if (yk_ssd_durable(r->ssd, r->changes[i].ticket) == 0)
            return 0;
    return r->reading == 0;
}

void ssd_rig_settle(struct ssd_rig *r) {
    uint32_t n = 0;
    do {
        ssd_rig_turn(r, 1);
        assert_true(++n < 200000);
    } while (!is_settled(r));
    for (n = 0; n < 64; n++) /* checkpoints, cleaning */
        ssd_rig_turn(r, 1);
}

uint64_t rig_len(struct ssd_rig *r) {
    if (below(r, 100) < r->small_percent)
        return 1 + below(r, 3000);
    return YK_SSD_SECTOR * 4u + below(r, r->max_large);
}

void ssd_rig_random(struct ssd_rig *r) {
    uint32_t ns = below(r, RIG_NS), key = below(r, RIG_KEYS), what = below(r, 1000);
    uint64_t expiry = below(r, 8) == 0 ? r->now_ms + below(r, 60) * 1000u : 0;
    if (what < 250 && live_of(r, ns, key) == NULL)
        r->unlucky += ssd_rig_put(r, ns, key, rig_len(r), expiry) < 0;
    else if (what < 350)
        ssd_rig_read(r, ns, key);
    else if (what < 420)
        ssd_rig_remove(r, ns, key);
    else if (what < 440)
        ssd_rig_expire(r, ns, key, below(r, 3) == 0 ? 0 : r->now_ms + 1 + below(r, 60) * 1000u);
    else if (what < 442)
        ssd_rig_raise(r, ns);
    else if (what < 443)
        ssd_rig_ns_remove(r, ns);
    else if (what < 450)
        r->now_ms += 500;
    else
        ssd_rig_turn(r, what % 3 == 0);
}

/* ---- judging -------------------------------------------------------------------------------------------- */

/* Has a namespace change that was asked (acked: and acknowledged) by then made this version invisible? */
static int ns_kills(const struct ssd_rig *r, const struct version *v, uint32_t at, int acked) {
    for (uint32_t i = 0; i < r->nchanges; i++) {
        const struct ns_change *c = &r->changes[i];
        if (c->ns != v->ns || c->asked < v->put || (acked ? c->acked : c->asked) > at)
            continue;
        if (c->entry.uid != v->ns_uid || c->entry.removed || c->entry.epoch > v->epoch)
            return 1;
    }
    return 0;
}

static int expiry_allowed(const struct version *v, uint64_t ms, uint32_t at) {
    for (uint32_t i = v->expiries; i > 0; i--) {
        const struct expiry_change *x = &v->expiry[i - 1];
        if (x->asked <= at && x->ms == ms)
            return 1;
        if (x->acked <= at)
            return 0;
    }
    return 0;
}

static int may_expire(const struct version *v, uint64_t now_ms, uint32_t at) {
    for (uint32_t i = 0; i < v->expiries; i++)
        if (v->expiry[i].asked <= at && v->expiry[i].ms != 0 && v->expiry[i].ms <= now_ms)
            return 1;
    return 0;
}

/* When the model saw it go: by removal, by the cleaner, by a change of its namespace. */
static uint32_t ends_at(const struct ssd_rig *r, const struct version *v) {
    uint32_t end = v->removed < v->dropped ? v->removed : v->dropped;
    for (uint32_t i = 0; i < r->nchanges; i++) {
        const struct ns_change *c = &r->changes[i];
        if (c->ns == v->ns && c->asked >= v->put && c->asked < end &&
            (c->entry.uid != v->ns_uid || c->entry.removed || c->entry.epoch > v->epoch))
            end = c->asked;
    }
    return end;
}

/* The event from which on recovery may miss it: the cleaner makes a segment invalid (two writes of
 * zeros) before it drops what is in it, and something else may end it in between. */
static uint32_t may_go_from(const struct ssd_rig *r, const struct version *v) {
    const struct disk *d = r->disk[v->device];
    uint32_t end = ends_at(r, v);
    for (uint32_t i = d->nevents; i > 0 && end != RIG_NEVER; i--) {
        const struct event *e = &d->events[i - 1];
        if (e->stamp < end && e->kind == EV_WRITE && e->zero &&
            (e->offset - (1u << 20)) % r->opts.segment_bytes == 0)
            return e->stamp;
    }
    return end;
}

static int is_set(const char *name) {
    const char *s = getenv(name);
    return s != NULL && strcmp(s, "1") == 0;
}

uint32_t ssd_rig_stride(void) {
    return is_set("YOLK_SLOW") && !is_set("YOLK_LONG") ? 9 : 1;
}

int ssd_rig_find(struct ssd_rig *r, uint32_t ns, uint32_t key, uint32_t *ret_id) {
    char k[64];
    uint32_t len = key_make(key, k);
    return yk_ssd_find(r->ssd, ns, key_hash(ns, key), k, len, r->now_ms, ret_id) == 0;
}

static int must_be_found(const struct ssd_rig *r, const struct version *v, uint32_t at) {
    return v->done <= disk_covered(r->disk[v->device], at) && may_go_from(r, v) > at &&
           !may_expire(v, r->now_ms, at);
}

/* What was found of one key: all are read before the first poll, since the tier begins to clean then. */
struct found {
    struct yk_ssd_info info;
    unsigned char *buf;
    int is, status;
};

static struct found found[RIG_NS][RIG_KEYS];
static uint32_t found_reading;

static void judge_read(void *arg, uint64_t cookie, int status) {
    (void)arg;
    found[cookie / RIG_KEYS][cookie % RIG_KEYS].status = status;
    found_reading--;
}

static void find_all(struct ssd_rig *r, struct yk_ssd *ssd) {
    memset(found, 0, sizeof(found));
    for (uint32_t i = 0; i < RIG_NS * RIG_KEYS; i++) {
        struct found *f = &found[i / RIG_KEYS][i % RIG_KEYS];
        char k[64];
        uint32_t id, len = key_make(i % RIG_KEYS, k);
        if (yk_ssd_find(ssd, i / RIG_KEYS, key_hash(i / RIG_KEYS, i % RIG_KEYS), k, len, r->now_ms,
                        &id) != 0)
            continue;
        yk_ssd_info_get(ssd, id, &f->info);
        f->is = 1;
        f->buf = malloc(f->info.len + 1);
        assert_non_null(f->buf);
        assert_int_equal(yk_ssd_read(ssd, id, f->buf, YK_SSD_PRIO_DEMAND, i), 0);
        found_reading++;
    }
    for (uint32_t n = 0; found_reading > 0; n++) {
        yk_ssd_poll(ssd);
        assert_true(n < 100000);
    }
}

/* The version that was found; NULL: none, or its bytes do not match the checksum, which is a miss. */
static const struct version *version_of(struct ssd_rig *r, uint32_t ns, uint32_t key) {
    struct found *f = &found[ns][key];
    if (!f->is || f->status != 0 || yk_hash64(f->buf, f->info.len) != f->info.sum)
        return NULL;
    for (uint32_t i = r->nv; i > 0; i--) {
        const struct version *v = &r->v[i - 1];
        if (v->ns == ns && v->key == key && v->sum == f->info.sum && v->len == f->info.len)
            return v;
    }
    fail_msg("found bytes that were never put");
    return NULL;
}

static void judge_found(const struct ssd_rig *r, const struct version *v,
                        const struct yk_ssd_info *info, uint32_t at) {
    if (v->put > at)
        fail_msg("cut %u: found what was put later, at %u", at, v->put);
    /* What expired, or is of an epoch that was raised, is forgotten before that is durable: it was not
     * acknowledged then. */
    if (!r->lenient && v->dropped <= at && !ns_kills(r, v, v->dropped, 0) &&
        !may_expire(v, r->now_ms, v->dropped))
        fail_msg("cut %u: found what the tier had forgotten at %u", at, v->dropped);
    if (v->removed_acked <= at)
        fail_msg("cut %u: found what was removed, acknowledged at %u", at, v->removed_acked);
    if (ns_kills(r, v, at, 1))
        fail_msg("cut %u: found a block of an older epoch or a removed namespace", at);
    if (!expiry_allowed(v, info->expiry_ms, at))
        fail_msg("cut %u: expiry %llu is not what was acknowledged", at,
                 (unsigned long long)info->expiry_ms);
    assert_int_equal(info->session, v->key % 3);
    assert_int_equal(info->depth_tokens, v->key * 16);
    assert_int_equal(info->length_tokens, v->key % 7);
    assert_int_equal(info->model, v->key % 2);
    assert_int_equal(info->parent_hash, v->key > 0 ? (uint32_t)key_hash(v->ns, v->key - 1) : 0);
}

static void judge_key(struct ssd_rig *r, uint32_t ns, uint32_t key, uint32_t at, int must) {
    const struct version *f = version_of(r, ns, key);
    if (f != NULL)
        judge_found(r, f, &found[ns][key].info, at);
    for (uint32_t i = 0; i < r->nv && must; i++) {
        const struct version *v = &r->v[i];
        if (v->ns == ns && v->key == key && v != f && must_be_found(r, v, at))
            fail_msg("cut %u: key %u of namespace %u is missing: put %u, done %u, covered %u, "
                     "ends %u, may go from %u; %s found",
                     at, key, ns, v->put, v->done, disk_covered(r->disk[v->device], at),
                     ends_at(r, v), may_go_from(r, v), f != NULL ? "another one was" : "nothing");
    }
    free(found[ns][key].buf);
}

/* Opens what the images hold, on disks of these names: to be closed and freed by the caller. */
static struct yk_ssd *cut_open(struct ssd_rig *r, unsigned char *const *images, uint32_t at,
                               int node_knows, const char *const *names, struct disk **cut) {
    struct yk_ssd_ns ns[YK_SSD_NAMESPACES];
    struct yk_ssd_opts opts = r->opts;
    struct yk_ssd *ssd;
    struct yk_err err = {0};
    memset(ns, 0, sizeof(ns));
    for (uint32_t i = 0; i < r->nchanges && node_knows; i++)
        if (r->changes[i].asked <= at)
            ns[r->changes[i].ns] = r->changes[i].entry;
    for (unsigned i = 0; i < opts.dev_count; i++) {
        cut[i] = disk_new(names[i], r->disk[i]->size);
        memcpy(cut[i]->image, images[i], r->disk[i]->size);
        cut[i]->base = images[i];
        cut[i]->record = r->twice;
        opts.dev[i].path = names[i];
    }
    opts.on_put = NULL;
    opts.on_drop = NULL;
    opts.on_durable = NULL;
    opts.on_read = judge_read;
    opts.io_wrap = NULL;
    opts.now_ms = r->now_ms;
    if (yk_ssd_open(&opts, ns, &ssd, &err) < 0)
        fail_msg("cut %u: open: %s", at, err.text);
    return ssd;
}

static void cut_free(const struct ssd_rig *r, struct disk **cut) {
    for (unsigned i = 0; i < r->opts.dev_count; i++)
        disk_free(cut[i]);
}

void ssd_rig_judge(struct ssd_rig *r, unsigned char *const *images, uint32_t at, int node_knows,
                   int must) {
    static const char *const names[RIG_DISKS] = {"cut0", "cut1"};
    struct disk *cut[RIG_DISKS] = {NULL};
    struct yk_ssd *ssd = cut_open(r, images, at, node_knows, names, cut);
    find_all(r, ssd);
    for (uint32_t n = 0; n < RIG_NS; n++)
        for (uint32_t k = 0; k < RIG_KEYS; k++)
            judge_key(r, n, k, at, must);
    yk_ssd_close(ssd, 0, 0);
    cut_free(r, cut);
}

static void images_cut(const struct ssd_rig *r, struct disk *const *disks, uint32_t at,
                       uint64_t seed, unsigned char **images) {
    for (unsigned i = 0; i < r->opts.dev_count; i++) {
        images[i] = malloc(disks[i]->size);
        assert_non_null(images[i]);
        disk_cut(disks[i], at, seed == 0 ? 0 : seed + i, images[i]);
    }
}

static void images_free(const struct ssd_rig *r, unsigned char **images) {
    for (unsigned i = 0; i < r->opts.dev_count; i++)
        free(images[i]);
}

void ssd_rig_cut(struct ssd_rig *r, uint32_t at, uint64_t seed, int node_knows) {
    unsigned char *images[RIG_DISKS] = {NULL};
    images_cut(r, r->disk, at, seed, images);
    ssd_rig_judge(r, images, at, node_knows, 1);
    images_free(r, images);
}

void ssd_rig_cut_twice(struct ssd_rig *r, uint32_t at, uint64_t seed, int node_knows) {
    static const char *const names[RIG_DISKS] = {"first0", "first1"};
    unsigned char *images[RIG_DISKS] = {NULL}, *second[RIG_DISKS] = {NULL};
    struct disk *cut[RIG_DISKS] = {NULL};
    uint32_t clock = disk_clock;
    images_cut(r, r->disk, at, seed, images);
    r->twice = 1;
    struct yk_ssd *ssd = cut_open(r, images, at, node_knows, names, cut);
    r->twice = 0;
    for (uint32_t i = 0; i < 30; i++) /* it records again what was lost, and cleans */
        yk_ssd_tick(ssd, r->now_ms);
    yk_ssd_close(ssd, 0, 0);
    uint32_t end = disk_clock;
    for (uint32_t i = 0; i < 3; i++) {
        uint32_t then = clock + (uint32_t)(disk_random(&seed) % (end - clock + 1u));
        images_cut(r, cut, then, i == 0 ? 0 : disk_random(&seed), second);
        ssd_rig_judge(r, second, at, node_knows, 0);
        images_free(r, second);
    }
    cut_free(r, cut);
    images_free(r, images);
    disk_clock = clock;
}

void ssd_rig_check(struct ssd_rig *r) {
    for (uint32_t ns = 0; ns < RIG_NS; ns++) {
        for (uint32_t key = 0; key < RIG_KEYS; key++) {
            char k[64];
            uint32_t id, len = key_make(key, k);
            int rc = yk_ssd_find(r->ssd, ns, key_hash(ns, key), k, len, r->now_ms, &id);
            if (r->live[ns][key] == 0)
                assert_int_equal(rc, YK_MISS);
            if (rc == 0)
                ssd_rig_read(r, ns, key);
        }
    }
    ssd_rig_settle(r);
}

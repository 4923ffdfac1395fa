/* SPDX-License-Identifier: Apache-2.0
 *
 * exists, stat, match: what is there, without getting it and without keeping it alive.
 *
 * From the mapping where there is one; the node is asked for the rest: handles without a mapping,
 * keys that DRAM has not and a tier below, or another node, may have (map.h), and keys whose part of the index would not
 * hold still. A node that is away makes a lookup a miss.
 *
 * Threads: any.
 */
#include "client/client_priv.h"

#include "base/hash.h"
#include "client/fail.h"
#include "shm/gate.h"

#include <string.h>

/* Keys of a match whose queries stand on the stack at a time; fewer when what was found does, too. */
#define MATCH_KEYS 256u
#define INFO_KEYS  64u

/* ---- through the socket ----------------------------------------------------------------------------------- */

/* Of a LOOKUP or MATCH. */
struct asked {
    size_t n;             /* keys in the frame */
    size_t found;         /* leading run of them */
    int32_t why;          /* that it ended: YK_MISS, or what the node says */
    struct yk_infos infos;
    size_t at; /* of the first key in infos */
};

static int match_reply(void *arg, struct yk_rd *r) {
    struct asked *a = arg;
    uint32_t run = yk_rd_u32(r);
    if (!yk_rd_ok(r) || run > a->n)
        return -YK_EPROTO;
    a->found = run;
    return 0;
}

static int lookup_reply(void *arg, struct yk_rd *r) {
    struct asked *a = arg;
    int run = 1;
    if (yk_rd_u32(r) != a->n)
        return -YK_EPROTO;
    for (size_t i = 0; i < a->n && !r->bad; i++) {
        yk_block_info info;
        int32_t status = (int32_t)yk_rd_u32(r);
        if (status == 0)
            yk_rd_info(r, &info);
        if (run && status != 0)
            a->why = status;
        run &= status == 0 && !r->bad;
        if (!run)
            continue;
        if (a->infos.to != NULL)
            yk_info_put(a->infos, a->at + i, &info);
        a->found = i + 1;
    }
    return yk_rd_ok(r) ? 0 : -YK_EPROTO;
}

/* Asks for as many of the keys as fit in one frame. */
static int ask(yk_client *c, const yk_key *keys, size_t count, struct asked *a,
               uint64_t deadline_ns) {
    unsigned char body[YK_CALL_BYTES];
    struct yk_wr w;
    yk_wr_init(&w, body, sizeof(body));
    yk_wr_u64(&w, yk_client_epoch(c));
    unsigned char *n = yk_wr_space(&w, 4);
    for (a->n = 0; a->n < count && (size_t)(w.end - w.at) > keys[a->n].len; a->n++)
        yk_wr_str8(&w, keys[a->n].data, keys[a->n].len);
    struct yk_wr head;
    yk_wr_init(&head, n, 4);
    yk_wr_u32(&head, (uint32_t)a->n);
    a->found = 0;
    a->why = YK_MISS;
    struct yk_call call = {.op = a->infos.to != NULL ? YK_MSG_LOOKUP : YK_MSG_MATCH,
                           .body = body,
                           .body_bytes = (uint32_t)yk_wr_len(&w),
                           .reply = a->infos.to != NULL ? lookup_reply : match_reply,
                           .arg = a};
    return yk_conn_call(c, &call, deadline_ns);
}

/* A lookup that the node does not answer is a miss when the node is away, or when it was asked only
 * because the index in the mapping could not be read. */
static int is_miss(yk_client *c, int rc) {
    return rc != -YK_EPROTO &&
           (rc != -YK_ETIMEDOUT || __atomic_load_n(&c->map, __ATOMIC_RELAXED) != NULL);
}

/* Length of the leading run, by the node; *ret_why as of struct asked. first: what the keys begin with in infos. */
static int ask_match(yk_client *c, const yk_key *keys, size_t count, struct yk_infos infos, size_t first,
                     int32_t *ret_why) {
    uint64_t deadline_ns = yk_client_deadline(c, 0);
    size_t at = 0;
    while (at < count) {
        struct asked a = {.infos = infos, .at = first + at};
        int rc = ask(c, keys + at, count - at, &a, deadline_ns);
        if (rc < 0 && !is_miss(c, rc))
            return yk_fail(rc, "match of %zu keys: %s", count, yk_status_text(rc));
        at += rc < 0 ? 0 : a.found;
        *ret_why = rc < 0 ? YK_MISS : a.why;
        if (rc < 0 || a.found < a.n)
            break;
    }
    return (int)at;
}

/* ---- one key ------------------------------------------------------------------------------------------------ */

/* 0, YK_MISS or failure. */
static int look(yk_client *c, yk_key key, yk_block_info *ret_info) {
    struct yk_found found;
    int rc = yk_client_enter(c);
    if (rc == 0)
        rc = yk_client_check_key(key);
    if (rc < 0)
        return rc;
    rc = yk_local_find(c, key, &found);
    if (rc == -YK_EAGAIN) {
        int32_t why = YK_MISS;
        rc = ask_match(c, &key, 1, (struct yk_infos){ret_info, sizeof(*ret_info)}, 0, &why);
        if (rc == 0 && why < 0)
            return yk_fail_key(why, "look up", key.data, key.len);
        return rc < 0 ? rc : rc == 0 ? YK_MISS : 0;
    }
    if (rc == 0 && ret_info != NULL)
        yk_found_info(&found, ret_info);
    return rc;
}

int yk_exists(yk_client *c, yk_key key) {
    int rc = look(c, key, NULL);
    return rc < 0 ? rc : rc == 0;
}

int yk_stat_sized(yk_client *c, yk_key key, yk_block_info *ret_info, size_t info_size) {
    yk_block_info info;
    int rc = look(c, key, &info);
    if (rc == 0 && ret_info != NULL)
        yk_sized_copy(ret_info, info_size, &info, sizeof(info));
    return rc;
}

/* ---- match --------------------------------------------------------------------------------------------------- */

static struct yk_query query(const struct yk_map *m, yk_key key, uint64_t epoch) {
    uint32_t ns = yk_map_ns(m);
    return (struct yk_query){yk_hash_key(ns, key.data, key.len), epoch, key.data,
                             (uint32_t)key.len, ns};
}

static size_t local_run(yk_client *c, struct yk_map *m, const yk_key *keys, size_t n,
                        uint64_t now_ms, struct yk_infos infos, size_t first, int *ret_unsure) {
    struct yk_query q[MATCH_KEYS];
    uint64_t epoch = yk_client_epoch(c);
    for (size_t i = 0; i < n; i++)
        q[i] = query(m, keys[i], epoch);
    if (infos.to == NULL)
        return yk_view_match(&m->view, q, n, now_ms, NULL, ret_unsure);
    struct yk_found found[INFO_KEYS];
    size_t run = yk_view_match(&m->view, q, n, now_ms, found, ret_unsure);
    for (size_t i = 0; i < run; i++) {
        yk_block_info info;
        yk_found_info(&found[i], &info);
        yk_info_put(infos, first + i, &info);
    }
    return run;
}

/* Longest run that there can be over all tiers, of keys whose first one DRAM has not. The filter is
 * asked before DRAM, since of a chain that is on SSD most is; and again after it, since a block may have
 * gone down between. */
static size_t run_at_most(yk_client *c, const struct yk_map *m, const yk_key *keys, size_t n,
                          uint64_t now_ms) {
    uint64_t epoch = yk_client_epoch(c);
    size_t i = 0;
    for (; i < n; i++) {
        struct yk_query q = query(m, keys[i], epoch);
        if (!yk_map_lower_maybe(m, q.hash) &&
            (i == 0 || (yk_view_find(&m->view, &q, now_ms, NULL) == YK_MISS &&
                        !yk_map_lower_maybe(m, q.hash))))
            break;
    }
    return i;
}

/* The whole chain, whatever of it is there. Those of a node that does not want to know cost a look at its page. */
static void announce(yk_client *c, struct yk_map *m, const yk_key *keys, size_t count) {
    uint64_t hashes[YK_EVENT_CHAIN_MAX];
    size_t n = count < YK_EVENT_CHAIN_MAX ? count : YK_EVENT_CHAIN_MAX;
    if (n < 2 || !yk_map_wants_requests(m) || __atomic_load_n(&c->announces, __ATOMIC_RELAXED))
        return;
    for (size_t i = 0; i < n; i++)
        hashes[i] = yk_hash_key(yk_map_ns(m), keys[i].data, keys[i].len);
    if (yk_map_chain(m, hashes, (uint32_t)n))
        yk_local_drain(c, m);
}

size_t yk_local_match(yk_client *c, const yk_key *keys, size_t count, struct yk_infos infos,
                      size_t *ret_ask) {
    size_t at = 0, most = infos.to != NULL ? INFO_KEYS : MATCH_KEYS;
    struct yk_map *m = yk_map_enter(&c->map);
    int unsure = 0;
    *ret_ask = m == NULL ? count : 0;
    if (m == NULL)
        return 0;
    uint64_t now_ms = yk_local_now_ms(m), gate = yk_gate_enter(m->view.hdr);
    while (at < count && !yk_map_lost(m)) {
        size_t n = count - at < most ? count - at : most;
        size_t run =
            local_run(c, m, keys + at, n, now_ms, infos, at, &unsure);
        at += run;
        if (run < n) {
            if (unsure)
                *ret_ask = count - at;
            else if (!yk_map_lower_none(m))
                *ret_ask = run_at_most(c, m, keys + at, count - at, now_ms);
            break;
        }
    }
    if (!yk_gate_passed(m->view.hdr, gate))
        at = *ret_ask = 0; /* nor does the node find anything */
    announce(c, m, keys, count);
    yk_map_count(m, YK_COUNT_MATCH, 1);
    yk_map_count(m, YK_COUNT_MATCH_KEYS, at);
    if (unsure)
        yk_map_count(m, YK_COUNT_RETRY, 1);
    yk_map_leave(m);
    return at;
}

int yk_match_sized(yk_client *c, const yk_key *keys, size_t count, yk_block_info *ret_infos, size_t info_size) {
    struct yk_infos infos = {ret_infos, info_size};
    int rc = yk_client_enter(c);
    if (rc < 0)
        return rc;
    if (count > INT32_MAX || (keys == NULL && count > 0))
        return yk_fail(-YK_EINVAL, "match of %zu keys at %p", count, (const void *)keys);
    for (size_t i = 0; i < count; i++)
        if ((rc = yk_client_check_key(keys[i])) < 0)
            return rc;
    size_t more;
    size_t at = yk_local_match(c, keys, count, infos, &more);
    if (more == 0)
        return (int)at;
    int32_t why;
    rc = ask_match(c, keys + at, more, infos, at, &why);
    return rc < 0 ? rc : (int)at + rc;
}

/* ---- existence in batches -------------------------------------------------------------------------------- */

/* Looks up n keys, up to MATCH_KEYS: sets status 0, YK_MISS, or YK_PENDING where the node must be
 * asked. The view looks at many keys at a time as long as they are found, which hides the latency of
 * memory; after a miss it is asked for fewer, so that what it fetched ahead is not thrown away. */
static void exists_in(yk_client *c, struct yk_map *m, yk_op *ops, size_t n) {
    struct yk_query q[MATCH_KEYS];
    uint64_t epoch = yk_client_epoch(c), now_ms = yk_local_now_ms(m);
    size_t window = 16;
    for (size_t i = 0; i < n; i++)
        q[i] = query(m, ops[i].key, epoch);
    for (size_t at = 0; at < n;) {
        int unsure;
        size_t k = n - at < window ? n - at : window;
        size_t run = yk_view_match(&m->view, q + at, k, now_ms, NULL, &unsure);
        for (size_t i = 0; i < run; i++)
            ops[at + i].status = 0;
        at += run;
        if (run < k) {
            ops[at].status = unsure || yk_map_lower_maybe(m, q[at].hash) ? YK_PENDING : YK_MISS;
            at++;
        }
        window = run == k ? 64 : run > 0 ? run : 1;
    }
}

size_t yk_local_exists_many(yk_client *c, yk_op *ops, size_t count) {
    size_t n = 0;
    while (n < count && n < MATCH_KEYS && ops[n].opcode == YK_OP_EXISTS &&
           yk_op_check(c, &ops[n]) == 0)
        n++;
    struct yk_map *m = n > 1 ? yk_map_enter(&c->map) : NULL;
    if (m == NULL)
        return 0;
    uint64_t gate = yk_gate_enter(m->view.hdr);
    int lost = yk_map_lost(m);
    if (!lost)
        exists_in(c, m, ops, n);
    if (lost || !yk_gate_passed(m->view.hdr, gate))
        for (size_t i = 0; i < n; i++)
            ops[i].status = YK_MISS;
    yk_map_leave(m);
    for (size_t i = 0; i < n; i++)
        if (ops[i].status == YK_PENDING)
            return i;
    return n;
}

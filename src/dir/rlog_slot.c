/* SPDX-License-Identifier: Apache-2.0
 *
 * What the log knows of a slot, and what each type of record does to it (rlog_priv.h). Removes stand in the order of
 * their numbers: a new one has the highest, one that is sent again gets the highest, and only a new owner that gathers
 * logs puts one between.
 *
 * Threads: as rlog.h says.
 */
#include "dir/rlog_priv.h"

#include <stdlib.h>
#include <string.h>

#define REMOVE_BYTES 62u /* encoded, without names */
#define STATE_BYTES  69u /* encoded, without removes */

uint32_t rlog_remove_bytes(const struct yk_dir_remove *r) {
    return REMOVE_BYTES + r->key.ns_len + r->key.key_len;
}

static void num_put(struct yk_wr *w, struct yk_dir_num n) {
    yk_wr_u64(w, n.term);
    yk_wr_u64(w, n.rseq);
}

static struct yk_dir_num num_get(struct yk_rd *r) {
    struct yk_dir_num n;
    n.term = yk_rd_u64(r);
    n.rseq = yk_rd_u64(r);
    return n;
}

void rlog_remove_put(struct yk_wr *w, const struct yk_dir_remove *r) {
    num_put(w, r->origin);
    num_put(w, r->num);
    yk_wr_u64(w, r->hash);
    yk_wr_u64(w, r->gen);
    yk_wr_u64(w, r->time_s);
    yk_wr_u32(w, r->member);
    yk_wr_str8(w, r->key.ns, r->key.ns_len);
    yk_wr_str8(w, r->key.key, r->key.key_len);
}

/* -YK_EPROTO: cannot be one of this slot's; -YK_ENOMEM. */
static int remove_get(struct yk_rd *rd, uint32_t slot, struct rlog_remove **ret_remove) {
    struct rlog_remove head = {.origin = num_get(rd)};
    uint32_t ns_len, key_len;
    head.num = num_get(rd);
    head.hash = yk_rd_u64(rd);
    head.gen = yk_rd_u64(rd);
    head.time_s = yk_rd_u64(rd);
    head.member = yk_rd_u32(rd);
    const void *ns = yk_rd_str8(rd, &ns_len), *key = yk_rd_str8(rd, &key_len);
    if (rd->bad || key_len == 0 || yk_dir_slot_of(head.hash) != slot)
        return -YK_EPROTO;
    head.ns_len = (uint8_t)ns_len;
    head.key_len = (uint8_t)key_len;
    struct rlog_remove *r = malloc(sizeof(*r) + ns_len + key_len);
    if (r == NULL)
        return -YK_ENOMEM;
    *r = head;
    memcpy(r->bytes, ns, ns_len);
    memcpy(r->bytes + ns_len, key, key_len);
    *ret_remove = r;
    return 0;
}

void rlog_remove_tell(const struct rlog_remove *r, struct yk_dir_remove *ret) {
    *ret = (struct yk_dir_remove){.origin = r->origin,
                                  .num = r->num,
                                  .key = {r->bytes, r->ns_len, r->bytes + r->ns_len, r->key_len},
                                  .hash = r->hash,
                                  .gen = r->gen,
                                  .member = r->member,
                                  .time_s = r->time_s};
}

size_t rlog_state_bytes(const struct rlog_slot *s) {
    size_t bytes = STATE_BYTES;
    for (uint32_t i = 0; i < s->count; i++)
        bytes += REMOVE_BYTES + s->removes[i]->ns_len + s->removes[i]->key_len;
    return bytes;
}

void rlog_state_put(struct yk_wr *w, const struct rlog_slot *s) {
    yk_wr_u64(w, s->seen);
    yk_wr_u64(w, s->led);
    num_put(w, s->last);
    num_put(w, s->base);
    num_put(w, s->forgot);
    yk_wr_u8(w, s->lost);
    yk_wr_u32(w, s->count);
    for (uint32_t i = 0; i < s->count; i++) {
        struct yk_dir_remove r;
        rlog_remove_tell(s->removes[i], &r);
        rlog_remove_put(w, &r);
    }
}

/* ---- the list ----------------------------------------------------------------------------------- */

uint32_t rlog_above(const struct rlog_slot *s, struct yk_dir_num num) {
    uint32_t low = 0, high = s->count;
    while (low < high) {
        uint32_t mid = (low + high) / 2;
        if (yk_dir_num_cmp(s->removes[mid]->num, num) <= 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

uint32_t rlog_origin(const struct rlog_slot *s, struct yk_dir_num origin) {
    uint32_t i = 0;
    while (i < s->count && yk_dir_num_cmp(s->removes[i]->origin, origin) != 0)
        i++;
    return i;
}

static uint64_t memory_of(const struct rlog_remove *r) {
    return sizeof(*r) + r->ns_len + r->key_len;
}

static void remove_free(struct yk_dir_rlog *log, struct rlog_remove *r) {
    log->removes--;
    log->remove_bytes -= memory_of(r);
    free(r);
}

static int list_need(struct rlog_slot *s) {
    if (s->count >= YK_DIR_RLOG_REMOVES_MAX)
        return -YK_ELIMIT;
    if (s->count < s->cap)
        return 0;
    uint32_t cap = s->cap == 0 ? 4 : 2 * s->cap;
    struct rlog_remove **more = realloc(s->removes, cap * sizeof(struct rlog_remove *));
    if (more == NULL)
        return -YK_ENOMEM;
    s->removes = more;
    s->cap = cap;
    return 0;
}

/* There is room. */
static void list_insert(struct rlog_slot *s, struct rlog_remove *r) {
    uint32_t at = rlog_above(s, r->num);
    memmove(&s->removes[at + 1], &s->removes[at], (s->count - at) * sizeof(struct rlog_remove *));
    s->removes[at] = r;
    s->count++;
}

static struct rlog_remove *list_take(struct rlog_slot *s, uint32_t at) {
    struct rlog_remove *r = s->removes[at];
    s->count--;
    memmove(&s->removes[at], &s->removes[at + 1], (s->count - at) * sizeof(struct rlog_remove *));
    return r;
}

static void list_clear(struct yk_dir_rlog *log, struct rlog_slot *s) {
    for (uint32_t i = 0; i < s->count; i++)
        remove_free(log, s->removes[i]);
    free(s->removes);
    s->removes = NULL;
    s->count = s->cap = 0;
}

void rlog_slot_fini(struct yk_dir_rlog *log, struct rlog_slot *s) {
    list_clear(log, s);
}

static void raise_to(struct yk_dir_num *n, struct yk_dir_num to) {
    if (yk_dir_num_cmp(*n, to) < 0)
        *n = to;
}

/* ---- records ------------------------------------------------------------------------------------ */

/* REMOVE and MERGE. */
static int apply_remove(struct yk_dir_rlog *log, struct rlog_slot *s, uint32_t slot, struct yk_rd *rd, int next) {
    struct rlog_remove *r;
    int rc = remove_get(rd, slot, &r);
    if (rc != 0)
        return rc;
    if (!yk_rd_ok(rd)) {
        free(r);
        return -YK_EPROTO;
    }
    struct yk_dir_num num = r->num;
    uint32_t at = rlog_origin(s, r->origin);
    if (at < s->count) {
        free(r);
        if (next) {
            r = list_take(s, at);
            r->num = num;
            list_insert(s, r);
        }
    } else if (yk_dir_num_cmp(r->origin, s->forgot) <= 0) {
        free(r);
    } else {
        if ((rc = list_need(s)) != 0) {
            free(r);
            return rc;
        }
        log->removes++;
        log->remove_bytes += memory_of(r);
        list_insert(s, r);
    }
    if (next)
        raise_to(&s->last, num);
    return 0;
}

static int by_origin(const void *a, const void *b) {
    const struct rlog_remove *const *x = a, *const *y = b;
    return yk_dir_num_cmp((*x)->origin, (*y)->origin);
}

static void apply_renumber(struct rlog_slot *s, uint64_t term) {
    if (s->count > 0)
        qsort(s->removes, s->count, sizeof(struct rlog_remove *), by_origin);
    for (uint32_t i = 0; i < s->count; i++)
        s->removes[i]->num = (struct yk_dir_num){term, i + 1u};
    s->last = (struct yk_dir_num){term, s->count};
}

static void apply_forget(struct yk_dir_rlog *log, struct rlog_slot *s, struct yk_dir_num num) {
    uint32_t n = rlog_above(s, num);
    for (uint32_t i = 0; i < n; i++) {
        raise_to(&s->forgot, s->removes[i]->origin);
        remove_free(log, s->removes[i]);
    }
    s->count -= n;
    if (n > 0)
        memmove(s->removes, s->removes + n, s->count * sizeof(struct rlog_remove *));
    raise_to(&s->base, num);
}

static int state_removes(struct yk_dir_rlog *log, struct rlog_slot *to, uint32_t slot, uint32_t count,
                         struct yk_rd *rd) {
    for (uint32_t i = 0; i < count; i++) {
        struct rlog_remove *r;
        int rc = remove_get(rd, slot, &r);
        if (rc == 0 && (rc = list_need(to)) != 0)
            free(r);
        if (rc != 0)
            return rc;
        log->removes++;
        log->remove_bytes += memory_of(r);
        list_insert(to, r);
    }
    return yk_rd_ok(rd) ? 0 : -YK_EPROTO;
}

static int apply_state(struct yk_dir_rlog *log, struct rlog_slot *s, uint32_t slot, struct yk_rd *rd) {
    struct rlog_slot to = {.seen = yk_rd_u64(rd), .done = s->done};
    to.led = yk_rd_u64(rd);
    to.last = num_get(rd);
    to.base = num_get(rd);
    to.forgot = num_get(rd);
    to.lost = yk_rd_u8(rd) != 0;
    uint32_t count = yk_rd_u32(rd);
    int rc = rd->bad || count > YK_DIR_RLOG_REMOVES_MAX ? -YK_EPROTO : state_removes(log, &to, slot, count, rd);
    if (rc != 0) {
        list_clear(log, &to);
        return rc;
    }
    to.seen = to.seen > s->seen ? to.seen : s->seen;
    to.led = to.led > s->led ? to.led : s->led;
    list_clear(log, s);
    *s = to;
    return 0;
}

int rlog_apply(struct yk_dir_rlog *log, uint32_t slot, unsigned type, const void *body, size_t len) {
    struct rlog_slot *s = &log->slot[slot];
    struct yk_rd rd;
    yk_rd_init(&rd, body, len);
    if (type == RLOG_REMOVE || type == RLOG_MERGE)
        return apply_remove(log, s, slot, &rd, type == RLOG_REMOVE);
    if (type == RLOG_STATE)
        return apply_state(log, s, slot, &rd);
    struct yk_dir_num num = {.term = yk_rd_u64(&rd)};
    if (type == RLOG_FORGET)
        num.rseq = yk_rd_u64(&rd);
    if (!yk_rd_ok(&rd))
        return -YK_EPROTO;
    if (type == RLOG_SEEN)
        s->seen = num.term > s->seen ? num.term : s->seen;
    else if (type == RLOG_LED)
        s->led = num.term > s->led ? num.term : s->led;
    else if (type == RLOG_RENUMBER)
        apply_renumber(s, num.term);
    else if (type == RLOG_FORGET)
        apply_forget(log, s, num);
    else
        return -YK_EPROTO;
    return 0;
}

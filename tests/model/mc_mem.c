/* SPDX-License-Identifier: Apache-2.0
 *
 * The two memories of the model checker.
 *
 * TSO (Owens, Sarkar, Sewell: "A better x86 memory model"): a store goes into the thread's FIFO
 * buffer, a load takes the newest store to its location from the own buffer, else memory; draining
 * is a step of its own; an sc fence and a CAS run only with an empty buffer. Orders are ignored.
 *
 * Weak: the view machine for RC11 (Kang et al., "A promising semantics for relaxed-memory
 * concurrency", without promises). Each location has its history of stores; each thread knows, by
 * location, the oldest store it may still read. A store carries its writer's knowledge if it
 * releases (or what was known at the last release fence); an acquiring load takes that over; an sc
 * fence also exchanges knowledge with all earlier sc fences. A store to a location that a release
 * store by the same thread preceded does not carry that one's knowledge on (C20's rule, weaker than
 * C11's). Not modelled: load buffering (a load that reads from a store that depends on it in
 * program order). Plain accesses (mc_read, mc_write) must know every store to the location, and a
 * write every tracked read of it; otherwise it is a data race and a failure.
 *
 * Histories are kept short: what no thread can read any more is dropped and indices are shifted, so
 * that states which differ only in the past are the same.
 */
#include "mc_priv.h"

#include <string.h>

static struct mc_weak *weak(struct mc *mc) {
    return &mc->s.mem.weak;
}

static struct mc_tso *tso(struct mc *mc) {
    return &mc->s.mem.tso;
}

static bool is_weak(const struct mc *mc) {
    return mc->opts.mode == MC_WEAK;
}

static int last_of(const struct mc_weak *w, int loc) {
    return w->first[loc + 1] - w->first[loc] - 1;
}

static void join(struct mc_view *into, const struct mc_view *from) {
    for (int l = 0; l < MC_MAX_LOCS; l++)
        into->ts[l] = into->ts[l] > from->ts[l] ? into->ts[l] : from->ts[l];
    into->reads |= from->reads;
}

static void each_view(struct mc *mc, void (*fn)(struct mc_view *v, uint64_t a, uint64_t b),
                      uint64_t a, uint64_t b) {
    struct mc_weak *w = weak(mc);
    for (int t = 0; t < mc->model->nthreads; t++) {
        fn(&w->cur[t], a, b);
        fn(&w->acq[t], a, b);
        fn(&w->rel[t], a, b);
    }
    fn(&w->sc, a, b);
    for (int i = 0; i < w->first[mc->model->nlocs]; i++)
        fn(&w->msg[i].view, a, b);
}

void mc_mem_init(struct mc *mc) {
    memset(&mc->s.mem, 0, sizeof(mc->s.mem));
    if (!is_weak(mc))
        return;
    struct mc_weak *w = weak(mc);
    for (int l = 0; l < MC_MAX_LOCS + 8; l++)
        w->first[l] = (uint8_t)(l < mc->model->nlocs ? l : mc->model->nlocs);
    for (int l = 0; l < mc->model->nlocs; l++)
        w->msg[l].view.reads = UINT64_MAX;
    for (int t = 0; t < mc->model->nthreads; t++)
        w->cur[t].reads = w->acq[t].reads = w->rel[t].reads = UINT64_MAX;
    w->sc.reads = UINT64_MAX;
}

size_t mc_mem_bytes(const struct mc *mc) {
    if (!is_weak(mc))
        return sizeof(struct mc_tso);
    const struct mc_weak *w = &mc->s.mem.weak;
    return offsetof(struct mc_weak, msg) + w->first[mc->model->nlocs] * sizeof(struct mc_msg);
}

void mc_init_loc(struct mc *mc, int loc, uint8_t val) {
    if (is_weak(mc))
        weak(mc)->msg[loc].val = val;
    else
        tso(mc)->mem[loc] = val;
}

void mc_private(struct mc *mc, int loc) {
    mc->private[loc] = true;
}

void mc_track(struct mc *mc, int loc, int slot) {
    mc->track[loc] = (uint8_t)(slot + 1);
}

/* --- TSO --- */

bool mc_mem_ready(const struct mc *mc, int t, enum mc_kind kind) {
    if (is_weak(mc))
        return true;
    int n = mc->s.mem.tso.nbuf[t];
    return kind == MC_SYNC ? n == 0 : kind == MC_ST ? n < MC_MAX_BUF : true;
}

bool mc_mem_can_drain(const struct mc *mc, int t) {
    return !is_weak(mc) && mc->s.mem.tso.nbuf[t] > 0;
}

void mc_mem_drain(struct mc *mc, int t) {
    struct mc_tso *m = tso(mc);
    mc->t = t;
    mc_log(mc, "drain", m->buf[t][0].loc, m->buf[t][0].val, 0);
    m->mem[m->buf[t][0].loc] = m->buf[t][0].val;
    m->nbuf[t]--;
    memmove(&m->buf[t][0], &m->buf[t][1], m->nbuf[t] * sizeof(m->buf[t][0]));
    memset(&m->buf[t][m->nbuf[t]], 0, sizeof(m->buf[t][0]));
}

/* A killed thread's stores have all left the core before anybody learns of its death. */
void mc_mem_settle(struct mc *mc, int t) {
    while (mc_mem_can_drain(mc, t))
        mc_mem_drain(mc, t);
}

static uint8_t tso_load(struct mc *mc, int loc) {
    struct mc_tso *m = tso(mc);
    for (int i = m->nbuf[mc->t] - 1; i >= 0; i--)
        if (m->buf[mc->t][i].loc == loc)
            return m->buf[mc->t][i].val;
    return m->mem[loc];
}

static void tso_store(struct mc *mc, int loc, uint8_t val) {
    struct mc_tso *m = tso(mc);
    m->buf[mc->t][m->nbuf[mc->t]].loc = (uint8_t)loc;
    m->buf[mc->t][m->nbuf[mc->t]++].val = val;
}

/* --- weak --- */

static void shift(struct mc_view *v, uint64_t loc, uint64_t by) {
    v->ts[loc] = (uint8_t)(v->ts[loc] > by ? v->ts[loc] - by : 0);
}

/* Drops the n oldest messages of loc. */
static void drop(struct mc *mc, int loc, int n) {
    struct mc_weak *w = weak(mc);
    int total = w->first[mc->model->nlocs];
    memmove(&w->msg[w->first[loc]], &w->msg[w->first[loc] + n],
            (size_t)(total - w->first[loc] - n) * sizeof(w->msg[0]));
    for (int l = loc + 1; l < MC_MAX_LOCS + 8; l++)
        w->first[l] = (uint8_t)(w->first[l] - n);
    each_view(mc, shift, (uint64_t)loc, (uint64_t)n);
}

static void append(struct mc *mc, int loc, uint8_t val, const struct mc_view *view) {
    struct mc_weak *w = weak(mc);
    int at = w->first[loc + 1], n = w->first[mc->model->nlocs];
    if (n == MC_MAX_MSGS) {
        mc_fail(mc, "model too large: more than %d messages", MC_MAX_MSGS);
        return;
    }
    memmove(&w->msg[at + 1], &w->msg[at], (size_t)(n - at) * sizeof(w->msg[0]));
    for (int l = loc + 1; l < MC_MAX_LOCS + 8; l++)
        w->first[l]++;
    struct mc_msg *m = &w->msg[at];
    memset(m, 0, sizeof(*m));
    m->val = val;
    m->view = *view;
    uint8_t ts = (uint8_t)last_of(w, loc);
    m->view.ts[loc] = ts;
    w->cur[mc->t].ts[loc] = ts;
    w->acq[mc->t].ts[loc] = ts;
    if (mc->private[loc])
        drop(mc, loc, ts);
}

static uint8_t take(struct mc *mc, int loc, int ts, enum mc_order order) {
    struct mc_weak *w = weak(mc);
    const struct mc_msg *m = &w->msg[w->first[loc] + ts];
    w->cur[mc->t].ts[loc] = (uint8_t)ts;
    join(&w->acq[mc->t], &m->view);
    if (order == MC_ACQ)
        join(&w->cur[mc->t], &m->view);
    return m->val;
}

static uint8_t weak_load(struct mc *mc, int loc, enum mc_order order, int *ret_older) {
    struct mc_weak *w = weak(mc);
    int last = last_of(w, loc);
    *ret_older = mc_choose(mc, last - w->cur[mc->t].ts[loc] + 1);
    return take(mc, loc, last - *ret_older, order);
}

static void clear_reads(struct mc_view *v, uint64_t bits, uint64_t unused) {
    (void)unused;
    v->reads &= ~bits;
}

void mc_mem_normalise(struct mc *mc) {
    if (!is_weak(mc))
        return;
    struct mc_weak *w = weak(mc);
    struct mc_view low;
    memset(&low, 0xff, sizeof(low));
    for (int t = 0; t < mc->model->nthreads; t++) {
        const struct mc_thread *th = &mc->s.thread[t];
        if (th->nframes == 0 && !th->stopped) {
            w->cur[t] = w->acq[t] = w->rel[t] = (struct mc_view){.reads = 0};
            continue;
        }
        for (int l = 0; l < MC_MAX_LOCS; l++)
            low.ts[l] = low.ts[l] < w->cur[t].ts[l] ? low.ts[l] : w->cur[t].ts[l];
    }
    for (int l = 0; l < mc->model->nlocs; l++)
        if (low.ts[l] > 0 && low.ts[l] != 0xff)
            drop(mc, l, low.ts[l]);
}

/* --- what models call --- */

/* Out of range is an error of the model, and found like one of the protocol. */
static bool bad_loc(struct mc *mc, int loc) {
    if (loc >= 0 && loc < mc->model->nlocs)
        return false;
    mc_fail(mc, "error in the model: no location %d", loc);
    return true;
}

static uint64_t read_bit(const struct mc *mc, int t, int loc) {
    return mc->track[loc] ? UINT64_C(1) << (t * MC_MAX_TRACKED + mc->track[loc] - 1) : 0;
}

uint8_t mc_load(struct mc *mc, int loc, enum mc_order order) {
    if (bad_loc(mc, loc))
        return 0;
    int older = 0;
    uint8_t val = is_weak(mc) ? weak_load(mc, loc, order, &older) : tso_load(mc, loc);
    mc_log(mc, order == MC_ACQ ? "load acquire" : "load relaxed", loc, val, older);
    return val;
}

void mc_store(struct mc *mc, int loc, uint8_t val, enum mc_order order) {
    if (bad_loc(mc, loc))
        return;
    mc_log(mc, order == MC_REL ? "store release" : "store relaxed", loc, val, 0);
    if (!is_weak(mc)) {
        tso_store(mc, loc, val);
        return;
    }
    struct mc_view view = order == MC_REL ? weak(mc)->cur[mc->t] : weak(mc)->rel[mc->t];
    append(mc, loc, val, &view);
}

uint8_t mc_read(struct mc *mc, int loc) {
    if (bad_loc(mc, loc))
        return 0;
    if (!is_weak(mc)) {
        uint8_t val = tso_load(mc, loc);
        mc_log(mc, "read", loc, val, 0);
        return val;
    }
    struct mc_weak *w = weak(mc);
    int last = last_of(w, loc);
    uint8_t val = w->msg[w->first[loc] + last].val;
    mc_log(mc, "read", loc, val, 0);
    if (w->cur[mc->t].ts[loc] != last)
        mc_fail(mc, "data race: a plain read is not ordered after the last write");
    uint64_t bit = read_bit(mc, mc->t, loc);
    each_view(mc, clear_reads, bit, 0);
    w->cur[mc->t].reads |= bit;
    w->acq[mc->t].reads |= bit;
    return val;
}

void mc_write(struct mc *mc, int loc, uint8_t val) {
    if (bad_loc(mc, loc))
        return;
    mc_log(mc, "write", loc, val, 0);
    if (!is_weak(mc)) {
        tso_store(mc, loc, val);
        return;
    }
    struct mc_weak *w = weak(mc);
    if (w->cur[mc->t].ts[loc] != last_of(w, loc))
        mc_fail(mc, "data race: a plain write is not ordered after the last write");
    for (int t = 0; t < mc->model->nthreads; t++)
        if ((w->cur[mc->t].reads & read_bit(mc, t, loc)) != read_bit(mc, t, loc))
            mc_fail(mc, "data race: a plain write is not ordered after %s's last read",
                    mc->model->thread_name[t]);
    append(mc, loc, val, &w->rel[mc->t]);
}

static bool weak_cas(struct mc *mc, int loc, uint8_t expected, uint8_t val, uint8_t *ret_seen) {
    struct mc_weak *w = weak(mc);
    int last = last_of(w, loc), older = mc_choose(mc, last - w->cur[mc->t].ts[loc] + 1);
    const struct mc_msg *m = &w->msg[w->first[loc] + last - older];
    if (older > 0 && m->val == expected)
        m = &w->msg[w->first[loc] + last]; /* an older store can fail a CAS, not satisfy it */
    *ret_seen = m->val;
    int ts = (int)(m - &w->msg[w->first[loc]]);
    bool hit = m->val == expected;
    take(mc, loc, ts, MC_ACQ);
    if (!hit)
        return false;
    struct mc_view view = w->cur[mc->t]; /* holds what was read: the release sequence goes on */
    append(mc, loc, val, &view);
    return true;
}

bool mc_cas(struct mc *mc, int loc, uint8_t expected, uint8_t val) {
    if (bad_loc(mc, loc))
        return 0;
    uint8_t seen;
    bool hit;
    if (is_weak(mc)) {
        hit = weak_cas(mc, loc, expected, val, &seen);
    } else {
        seen = tso(mc)->mem[loc];
        hit = seen == expected;
        if (hit)
            tso(mc)->mem[loc] = val;
    }
    mc_log(mc, hit ? "cas, stored" : "cas, failed on", loc, hit ? val : seen, 0);
    return hit;
}

void mc_fence_sc(struct mc *mc) {
    mc_log(mc, "fence seq_cst", -1, 0, 0);
    if (!is_weak(mc))
        return; /* mc_mem_ready let it run only with an empty buffer */
    struct mc_weak *w = weak(mc);
    join(&w->cur[mc->t], &w->acq[mc->t]);
    join(&w->cur[mc->t], &w->sc);
    w->sc = w->acq[mc->t] = w->rel[mc->t] = w->cur[mc->t];
}

void mc_fence_acq(struct mc *mc) {
    mc_log(mc, "fence acquire", -1, 0, 0);
    if (is_weak(mc))
        weak(mc)->cur[mc->t] = weak(mc)->acq[mc->t];
}

void mc_fence_rel(struct mc *mc) {
    mc_log(mc, "fence release", -1, 0, 0);
    if (is_weak(mc))
        weak(mc)->rel[mc->t] = weak(mc)->cur[mc->t];
}

void mc_join_thread(struct mc *mc, int t) {
    if (!is_weak(mc))
        return;
    join(&weak(mc)->cur[mc->t], &weak(mc)->cur[t]);
    join(&weak(mc)->acq[mc->t], &weak(mc)->acq[t]);
}

uint8_t mc_latest(struct mc *mc, int loc) {
    if (is_weak(mc)) {
        struct mc_weak *w = weak(mc);
        return w->msg[w->first[loc + 1] - 1].val;
    }
    return tso_load(mc, loc);
}

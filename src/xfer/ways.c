/* SPDX-License-Identifier: Apache-2.0
 *
 * The ways to a peer: found when something first wants it, and looked for again when there may be others.
 *
 * The kernel tells of addresses and links that change (health.c). RDMA devices follow a moment later, and of those that
 * are taken out and put back it tells nothing that is of use here. So ways are looked for a moment after such news,
 * and again twice; while a rail of the peer fails, once a second at most; and while one is missing, every two seconds. All of it while there is work: nobody turns the loop of an engine that rests. It takes a
 * millisecond or so for each peer: a look is at 16 of them, and the next one comes a tenth of a second later.
 *
 * A new way gets a rail, in the place that its transport has. One that is missing keeps its rail for a minute, which is
 * tried when it is back: an address that is removed and given again, a device whose driver is loaded again.
 *
 * What the peer's addresses are is what it said when it was greeted: other ones of it come with its next segment.
 *
 * Thread: the shard's owner.
 */
#include "xfer/engine_priv.h"
#include "xfer/shard_priv.h"

#include "base/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SOON_NS  (200 * YK_NS_PER_MS)
#define AGAIN_NS (1 * YK_NS_PER_S)
#define REST_NS  (100 * YK_NS_PER_MS) /* between two looks */
#define MISSING_NS (2 * YK_NS_PER_S)
#define LOOKS    3u
#define PEERS    16u /* of one look */

struct found {
    struct yk_rail_desc desc[YK_RAILS_MAX];
    uint32_t group[YK_RAILS_MAX];
    uint32_t n;
    uint32_t good; /* that are more than a guess which a want of this process has spoiled */
};

/* An engine's files are reached by `file` alone, its memory by all others. */
static int reaches(const struct yk_xport *x, const struct yk_peer *peer) {
    return (x->ops->bit == YK_XFER_FILE) == (peer->file != 0);
}

/* What it lacks may be there soon. */
static int is_want(int e) {
    return e == EMFILE || e == ENFILE || e == ENOMEM || e == ENOBUFS;
}

static void find(struct yk_route *t, struct found *f) {
    struct yk_shard *s = t->shard;
    memset(f, 0, sizeof(*f));
    t->blind = 0;
    for (uint32_t i = 0; i < s->xport_count && f->n < YK_RAILS_MAX; i++) {
        if (!reaches(s->xports[i], t->peer))
            continue;
        memset(&f->desc[f->n], 0, (YK_RAILS_MAX - f->n) * sizeof(f->desc[0]));
        uint32_t more = s->xports[i]->ops->rails(s->xports[i], &t->peer->info, &f->desc[f->n], YK_RAILS_MAX - f->n);
        more = yk_places_rails(s->engine->places, &f->desc[f->n], more);
        int blind = s->xports[i]->blind;
        if (blind != 0)
            t->blind = blind;
        f->good += is_want(blind) ? 0 : more;
        for (uint32_t k = 0; k < more; k++)
            f->group[f->n + k] = i;
        f->n += more;
    }
}

/* Behind those of its transport, which are in the order of preference. */
static int add(struct yk_route *t, const struct found *f, uint32_t k) {
    struct yk_rail *r = t->rail_count < YK_RAILS_MAX
                            ? yk_rail_new(t, t->shard->xports[f->group[k]], f->group[k], &f->desc[k])
                            : NULL;
    uint32_t at = t->rail_count;
    if (r == NULL)
        return 0;
    for (; at > 0 && t->rails[at - 1]->group > f->group[k]; at--)
        t->rails[at] = t->rails[at - 1];
    t->rails[at] = r;
    t->rail_count++;
    return 1;
}

/* What a transport has found blindly is good enough beside others' rails, or where it will never see; else it is
 * looked for again, since it would be kept for as long as the peer is. */
void yk_route_rails(struct yk_route *t) {
    struct found f;
    if (t->rails_known)
        return;
    find(t, &f);
    if (t->rails == NULL)
        t->rails = calloc(YK_RAILS_MAX, sizeof(struct yk_rail *));
    if (t->rails == NULL || f.good == 0)
        return; /* no memory, or none now: looked for again */
    for (uint32_t k = 0; k < f.n; k++)
        (void)add(t, &f, k);
    t->rails_known = t->rail_count > 0;
}

/* ---- again ------------------------------------------------------------------------------------------ */

static int is_of(const struct yk_rail *r, const struct found *f, uint32_t k) {
    const struct yk_rail_desc *a = &r->desc, *b = &f->desc[k];
    return r->group == f->group[k] && a->port == b->port && strcmp(a->local, b->local) == 0 &&
           strcmp(a->remote, b->remote) == 0;
}

static struct yk_rail *rail_of(const struct yk_route *t, const struct found *f, uint32_t k) {
    for (uint32_t i = 0; i < t->rail_count; i++)
        if (is_of(t->rails[i], f, k))
            return t->rails[i];
    return NULL;
}

/* 1: it is there; one that is back is tried at once. */
static int is_there(struct yk_rail *r, const struct found *f) {
    uint32_t k = 0;
    while (k < f->n && !is_of(r, f, k))
        k++;
    if (k == f->n)
        return 0;
    r->desc.local_if = f->desc[k].local_if; /* an interface that was made again has another number */
    if (r->gone_ns != 0) {
        r->gone_ns = 0;
        yk_rail_retry(r);
    }
    return 1;
}

static int is_over(const struct yk_rail *r, uint64_t now) {
    return r->gone_ns != 0 && now - r->gone_ns >= r->route->shard->engine->ways_gone_ns;
}

/* Rails whose way is gone, and goes on being gone. How many stay. One that fails looks at all others, and so does one that
 * is tried: none goes before that is over. */
static uint32_t look_for_gone(struct yk_route *t, const struct found *f, uint64_t now) {
    uint32_t kept = 0, gone = 0;
    for (uint32_t i = 0; i < t->rail_count; i++) {
        struct yk_rail *r = t->rails[i];
        if (!is_there(r, f) && r->gone_ns == 0)
            r->gone_ns = now;
        if (is_over(r, now) && r->bytes == 0 && !yk_rail_is_empty(r))
            yk_rail_out(r, "there is no such way any more");
    }
    for (uint32_t i = 0; i < t->rail_count; i++) {
        struct yk_rail *r = t->rails[i];
        if (is_over(r, now) && yk_rail_is_empty(r)) {
            yk_rail_free(r);
            continue;
        }
        t->rails[kept++] = r;
        gone += r->gone_ns != 0;
    }
    if (kept < t->rail_count)
        yk_route_changed(t); /* what waits for one that is gone for good may have to end */
    t->rail_count = kept;
    return gone;
}

/* 1: some is missing. */
static int look_again(struct yk_route *t, uint64_t now) {
    struct found f;
    int more = 0;
    find(t, &f);
    if (t->blind || f.n == 0) /* what it does not see may be there; and without a rail there is nothing to wait for */
        return 1;
    uint32_t gone = look_for_gone(t, &f, now);
    for (uint32_t k = 0; k < f.n; k++)
        if (rail_of(t, &f, k) == NULL)
            more |= add(t, &f, k);
    if (more)
        yk_route_changed(t);
    return gone > 0;
}

static void look_due(struct yk_timer *timer);

static void look_at(struct yk_shard *s, uint64_t ns) {
    s->ways.fn = look_due;
    s->ways.user = s;
    if (s->ways.due_ns == 0 || ns < s->ways.due_ns)
        (void)yk_loop_timer(s->loop, &s->ways, ns);
}

static void look(struct yk_route *t, uint64_t now) {
    t->look_ns = 0;
    t->looked_ns = now;
    if (!t->rails_known || t->peer->file || __atomic_load_n(&t->peer->gone, __ATOMIC_RELAXED))
        return;
    int missing = look_again(t, now);
    if (t->looks > 0 || missing)
        t->look_ns = now + (t->looks > 0 ? AGAIN_NS : MISSING_NS);
    t->looks -= t->looks > 0;
}

static void look_due(struct yk_timer *timer) {
    struct yk_shard *s = timer->user;
    uint64_t now = yk_now_ns(), next = UINT64_MAX;
    uint32_t seen = 0;
    for (uint32_t p = 0; p < s->route_cap; p++) {
        struct yk_route *t = s->routes[p];
        if (t == NULL || t->look_ns == 0)
            continue;
        if (t->look_ns <= now && seen++ < PEERS)
            look(t, now);
        uint64_t due_ns = t->look_ns == 0 ? UINT64_MAX : t->look_ns > now + REST_NS ? t->look_ns : now + REST_NS;
        next = due_ns < next ? due_ns : next;
    }
    if (next != UINT64_MAX)
        look_at(s, next);
}

static void ask(struct yk_route *t, uint64_t ns) {
    t->look_ns = t->look_ns == 0 || ns < t->look_ns ? ns : t->look_ns;
    look_at(t->shard, t->look_ns);
}

void yk_ways_want(struct yk_route *t) {
    uint64_t now = yk_now_ns();
    if (now - t->looked_ns < AGAIN_NS)
        return;
    look(t, now);
    if (t->look_ns != 0)
        look_at(t->shard, t->look_ns);
}

void yk_ways_failed(struct yk_route *t) {
    uint64_t soon = yk_now_ns() + SOON_NS;
    ask(t, t->looked_ns + AGAIN_NS > soon ? t->looked_ns + AGAIN_NS : soon);
}

void yk_ways_news(struct yk_shard *s) {
    uint64_t soon = yk_now_ns() + SOON_NS;
    for (uint32_t p = 0; p < s->route_cap; p++)
        if (s->routes[p] != NULL) {
            s->routes[p]->looks = LOOKS - 1;
            ask(s->routes[p], soon);
        }
}

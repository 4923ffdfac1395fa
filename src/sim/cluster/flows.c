/* SPDX-License-Identifier: Apache-2.0
 *
 * Links, and the transfers that share them.
 *
 * Each link gives all its flows the same, and a flow is as fast as the least that the links on its path give it. What
 * a flow leaves of its share on one link, as another is narrower, is not handed to others: fully max-min rates would
 * have to be solved anew over all that is connected with each change, and links here are mostly the narrow ones or
 * far from full. A change of a link moves all its flows; where there are more than SHARE_STEPS, changes of less than
 * that part wait for more to come, so that a crowded uplink costs as little for each flow as a quiet one. Rates are
 * then off by up to 3 %, bytes never.
 */
#include "sim/cluster/cluster_priv.h"

#define FLOWS_MIN   64u
#define SHARE_STEPS 32u

int flows_init(struct flows *f, uint32_t n_links, struct timers *timers, uint32_t timer0) {
    *f = (struct flows){.n_links = n_links, .free = NONE, .timers = timers, .timer0 = timer0};
    f->links = calloc(n_links, sizeof(*f->links));
    if (f->links == NULL)
        return -YK_ENOMEM;
    for (uint32_t i = 0; i < n_links; i++)
        f->links[i].first = NONE;
    return 0;
}

void flows_set_link(struct flows *f, uint32_t link, double bytes_s) {
    f->links[link].bytes_s = f->links[link].share = bytes_s;
    f->links[link].shared_n = 1;
}

void flows_fini(struct flows *f) {
    free(f->links);
    free(f->flow);
}

static int grow(struct flows *f) {
    uint32_t cap = f->cap != 0 ? f->cap * 2 : FLOWS_MIN;
    if (cap > UINT32_MAX / 16)
        return -YK_ETOOBIG;
    struct flow *flow = realloc(f->flow, cap * sizeof(*flow));
    if (flow == NULL)
        return -YK_ENOMEM;
    f->flow = flow;
    f->cap = cap;
    return timers_room(f->timers, f->timer0 + cap);
}

/* ---- shares ---- */

static void settle(struct flow *w, double now) {
    w->left -= w->rate * (now - w->at);
    w->left = w->left > 0 ? w->left : 0;
    w->at = now;
}

/* By what its links give now. */
static void pace(struct flows *f, double now, uint32_t flow) {
    struct flow *w = &f->flow[flow];
    double rate = f->links[w->link[0]].share;
    for (uint8_t i = 1; i < w->n_links; i++)
        if (f->links[w->link[i]].share < rate)
            rate = f->links[w->link[i]].share;
    if (rate == w->rate)
        return;
    settle(w, now);
    w->rate = rate;
    timers_set(f->timers, f->timer0 + flow, now + w->left / rate);
}

static bool share_changed(struct link *l) {
    uint32_t differs = l->n > l->shared_n ? l->n - l->shared_n : l->shared_n - l->n;
    if (l->n == 0 || differs == 0 || (uint64_t)differs * SHARE_STEPS < l->n)
        return false;
    l->shared_n = l->n;
    l->share = l->bytes_s / l->n;
    return true;
}

static void share_anew(struct flows *f, double now, uint32_t link) {
    if (!share_changed(&f->links[link]))
        return;
    for (uint32_t at = f->links[link].first; at != NONE; at = f->flow[at / 8].next[at % 8])
        pace(f, now, at / 8);
}

/* ---- flows ---- */

static void enter(struct flows *f, uint32_t flow, uint8_t place) {
    struct flow *w = &f->flow[flow];
    struct link *l = &f->links[w->link[place]];
    w->next[place] = l->first;
    w->prev[place] = NONE;
    if (l->first != NONE)
        f->flow[l->first / 8].prev[l->first % 8] = flow * 8 + place;
    l->first = flow * 8 + place;
    l->n++;
    l->carried += w->bytes;
}

static void leave(struct flows *f, uint32_t flow, uint8_t place) {
    struct flow *w = &f->flow[flow];
    struct link *l = &f->links[w->link[place]];
    uint32_t next = w->next[place], prev = w->prev[place];
    if (next != NONE)
        f->flow[next / 8].prev[next % 8] = prev;
    *(prev != NONE ? &f->flow[prev / 8].next[prev % 8] : &l->first) = next;
    l->n--;
}

int64_t flows_begin(struct flows *f, double now, const uint32_t *path, uint8_t n, double bytes, double latency_s) {
    uint32_t flow = f->free;
    int rc = 0;
    if (flow != NONE)
        f->free = f->flow[flow].next[0];
    else if (f->n < f->cap || (rc = grow(f)) == 0)
        flow = f->n++;
    else
        return rc;
    struct flow *w = &f->flow[flow];
    *w = (struct flow){.bytes = bytes, .left = bytes, .at = now, .latency_s = latency_s, .n_links = n};
    for (uint8_t i = 0; i < n; i++) {
        w->link[i] = path[i];
        enter(f, flow, i);
    }
    for (uint8_t i = 0; i < n; i++)
        share_anew(f, now, path[i]);
    pace(f, now, flow);
    return flow;
}

bool flows_step(struct flows *f, double now, uint32_t flow) {
    struct flow *w = &f->flow[flow];
    if (w->arriving)
        return true;
    w->arriving = true;
    for (uint8_t i = 0; i < w->n_links; i++)
        leave(f, flow, i);
    for (uint8_t i = 0; i < w->n_links; i++)
        share_anew(f, now, w->link[i]);
    timers_set(f->timers, f->timer0 + flow, now + w->latency_s);
    return false;
}

bool flows_moves(const struct flows *f, uint32_t flow) {
    return f->timers->place[f->timer0 + flow] != TIMER_OFF;
}

void flows_end(struct flows *f, double now, uint32_t flow) {
    struct flow *w = &f->flow[flow];
    for (uint8_t i = 0; i < w->n_links && !w->arriving; i++)
        leave(f, flow, i);
    for (uint8_t i = 0; i < w->n_links && !w->arriving; i++)
        share_anew(f, now, w->link[i]);
    timers_stop(f->timers, f->timer0 + flow);
    flows_free(f, flow);
}

void flows_free(struct flows *f, uint32_t flow) {
    f->flow[flow].next[0] = f->free;
    f->free = flow;
}

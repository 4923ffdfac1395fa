/* SPDX-License-Identifier: Apache-2.0
 *
 * The steps of dir_model.h: what etcd, the nodes and the owner do, and what must hold.
 *
 * Threads: single-threaded.
 */
#include "dir_model.h"

#include <string.h>

struct bounds dir_bounds;
enum rule dir_without;
uint32_t dir_ignored;

static bool rule(enum rule r) {
    return dir_without != r;
}

static uint8_t number(int term, int seq) {
    return (uint8_t)(term << 4 | seq);
}

static int term_of(uint8_t num) {
    return num >> 4;
}

static int seq_of(uint8_t num) {
    return num & 0xf;
}

static void blame(struct state *s, enum bad what) {
    if (!(dir_ignored >> what & 1))
        s->bad = (uint8_t)what;
}

/* --- messages --- */

static void send(struct state *s, struct msg m) {
    int i = 0;
    while (i < MAX_MSGS && s->msgs[i].type && memcmp(&s->msgs[i], &m, sizeof(m)) < 0)
        i++;
    if (i < MAX_MSGS && memcmp(&s->msgs[i], &m, sizeof(m)) == 0)
        return;
    if (s->msgs[MAX_MSGS - 1].type) {
        blame(s, TOO_MANY_MSGS);
        return;
    }
    memmove(&s->msgs[i + 1], &s->msgs[i], (size_t)(MAX_MSGS - 1 - i) * sizeof(m));
    s->msgs[i] = m;
}

/* Nothing that can follow would make m do anything. */
static bool is_spent(const struct state *s, const struct msg *m) {
    const struct node *n = &s->node[m->to];
    if (rule(RULE_TERM) && rule(RULE_TERM_PERSISTS) && rule(RULE_TAIL_ADOPTS) && m->term < n->seen)
        return true;
    switch (m->type) {
    case REMOVE:
        return rule(RULE_NO_GAPS) && rule(RULE_DURABLE) && m->b <= n->log.last;
    case ACK:
        return m->term == n->term && m->a <= n->acked[m->from] && m->b <= n->acked_exp[m->from];
    case TAIL:
        return n->led >= m->term && rule(RULE_NEW_LIFE) &&
               (n->term != m->term || n->active || n->gathered >> m->from & 1);
    case REPLAY:
        return rule(RULE_INCARNATION) && m->a < s->etcd.inc[m->to];
    default:
        return false;
    }
}

static void sweep(struct state *s) {
    int to = 0;
    for (int i = 0; i < MAX_MSGS && s->msgs[i].type; i++)
        if (!is_spent(s, &s->msgs[i]))
            s->msgs[to++] = s->msgs[i];
    memset(&s->msgs[to], 0, (size_t)(MAX_MSGS - to) * sizeof(s->msgs[0]));
}

/* --- a node's log --- */

/* n has applied remove r, whatever number it has now: removes are applied in the order in which they
 * began, so what began no later than one that was forgotten was applied, too. */
static bool has(const struct state *s, const struct node *n, int r) {
    uint8_t forgot = rule(RULE_BEGUN) ? n->log.forgot : n->log.base;
    return n->log.num[r] || s->origin[r] <= forgot;
}

static void take_out(struct state *s, struct node *n, int r) {
    if (has(s, n, r) && rule(RULE_ONCE))
        return;
    if (n->copy[r] == NEW && s->removal[r] == DONE)
        blame(s, NEW_PUT_LOST);
    n->copy[r] = NO_COPY;
}

static void apply(struct state *s, struct node *n, int r, uint8_t num) {
    take_out(s, n, r);
    if (!rule(RULE_DURABLE))
        n->soft |= (uint8_t)(1 << r);
    n->log.num[r] = num;
    n->log.last = num;
}

static void adopt_term(struct node *n, uint8_t term) {
    if (term <= n->seen)
        return;
    n->seen = term;
    if (term > n->seen_ghost)
        n->seen_ghost = term;
    if (n->term && n->term < term) {
        n->term = n->active = n->gathered = 0;
        memset(n->acked, 0, sizeof(n->acked));
        memset(n->acked_exp, 0, sizeof(n->acked_exp));
    }
}

/* --- the owner --- */

static bool counts(const struct node *n, int h) {
    return n->view.status[h] == MEMBER ||
           (n->view.status[h] == RETURNING && rule(RULE_COUNT_RETURN));
}

static bool all_have(const struct state *s, int me, uint8_t num) {
    const struct node *n = &s->node[me];
    for (int h = 0; h < dir_bounds.nodes; h++) {
        if (h == me || !counts(n, h))
            continue;
        if (n->acked[h] < num)
            return false;
        if (rule(RULE_KNOWN_EXPELLED) && n->acked_exp[h] < n->view.exp)
            return false;
    }
    return true;
}

/* The owner says `done` as soon as it may. */
static void look_for_done(struct state *s) {
    for (int me = 0; me < dir_bounds.nodes; me++) {
        const struct node *n = &s->node[me];
        for (int r = 0; n->active && r < dir_bounds.removes; r++)
            if (n->log.num[r] && s->removal[r] == ISSUED && all_have(s, me, n->log.num[r]))
                s->removal[r] = DONE;
    }
}

static void activate(struct state *s, int me) {
    struct node *n = &s->node[me];
    for (int h = 0; h < dir_bounds.nodes; h++)
        if (h != me && n->view.status[h] == MEMBER && !(n->gathered >> h & 1) && rule(RULE_GATHER))
            return;
    n->active = 1;
    n->log.last = number(n->term, 0);
    /* In the order in which they began, under new numbers. */
    int first = (s->origin[1] < s->origin[0]) == rule(RULE_ORDER);
    for (int i = 0; i < dir_bounds.removes; i++) {
        int r = (first + i) % KEYS;
        if (n->log.num[r])
            n->log.num[r] = n->log.last = number(n->term, seq_of(n->log.last) + 1);
    }
    for (int h = 0; h < dir_bounds.nodes; h++)
        for (int r = 0; r < dir_bounds.removes; r++)
            if (s->node[h].log.num[r] && !n->log.num[r] && s->removal[r] == ISSUED &&
                s->etcd.status[h] == MEMBER && n->view.status[h] == MEMBER)
                blame(s, PENDING_LOST);
}

/* --- what nodes do by themselves --- */

static void become_owner(struct state *s, int me) {
    struct node *n = &s->node[me];
    n->term = n->led = n->view.term;
    n->active = 0;
    n->gathered = 0;
    memset(n->acked, 0, sizeof(n->acked));
    memset(n->acked_exp, 0, sizeof(n->acked_exp));
    activate(s, me);
}

static void learn(struct state *s, int me) {
    struct node *n = &s->node[me];
    n->view = s->etcd;
    n->saved = dir_bounds.resets ? s->etcd : n->saved;
    adopt_term(n, n->view.term);
    if (n->view.status[me] == EXPELLED || (n->view.status[me] == RETURNING && !n->inc))
        n->serving = rule(RULE_SERVE_AFTER) ? 0 : n->serving;
    else if (n->view.status[me] == MEMBER && !n->inc)
        n->serving = 1;
    bool mine = n->view.owner == me && n->view.status[me] == MEMBER && n->view.term == n->seen;
    if (mine && (n->led < n->view.term || (!rule(RULE_NEW_LIFE) && !n->term)))
        become_owner(s, me);
    else if (n->term && !n->active)
        activate(s, me);
}

static void crash(struct state *s, int me) {
    struct node *n = &s->node[me];
    for (int r = 0; r < dir_bounds.removes; r++)
        if (n->soft >> r & 1) {
            n->log.num[r] = 0;
            n->copy[r] = OLD;
            n->log.last = n->log.base;
        }
    for (int r = 0; r < dir_bounds.removes; r++)
        if (n->log.num[r] > n->log.last)
            n->log.last = n->log.num[r];
    n->soft = n->serving = n->inc = n->replayed = 0;
    memset(&n->view, 0, sizeof(n->view));
    if (!rule(RULE_MAP_DURABLE))
        memset(&n->saved, 0, sizeof(n->saved));
    if (!rule(RULE_TERM_PERSISTS))
        n->seen = 0;
    n->term = n->active = n->gathered = 0;
    memset(n->acked, 0, sizeof(n->acked));
    memset(n->acked_exp, 0, sizeof(n->acked_exp));
    s->crashes++;
}

static bool may_announce(const struct state *s, int me) {
    const struct node *n = &s->node[me];
    if (n->view.term == 0 || n->view.status[me] == MEMBER || s->etcd.status[me] == MEMBER)
        return false;
    return n->view.status[me] == EXPELLED ? s->etcd.status[me] == EXPELLED && !n->inc : !n->inc;
}

static void announce(struct state *s, int me) {
    struct node *n = &s->node[me];
    n->replayed = 0;
    n->inc = (uint8_t)(s->etcd.inc[me] + 1);
    if (!rule(RULE_ANNOUNCE))
        return;
    s->etcd.inc[me]++;
    s->etcd.status[me] = RETURNING;
}

/* The return is over. */
static void finish(struct state *s, int me) {
    struct node *n = &s->node[me];
    s->etcd.status[me] = MEMBER;
    s->etcd.inc[me] = n->inc;
    n->inc = n->replayed = 0;
    learn(s, me);
}

static bool may_finish(const struct state *s, int me) {
    const struct node *n = &s->node[me];
    if (!n->inc || !n->replayed)
        return false;
    return rule(RULE_ANNOUNCE) ? s->etcd.status[me] == RETURNING && s->etcd.inc[me] == n->inc
                               : s->etcd.status[me] == EXPELLED;
}

/* An expelled node that lost its return (expelled again) begins anew. */
static void give_up_return(struct state *s, int me) {
    struct node *n = &s->node[me];
    if (rule(RULE_ANNOUNCE) && n->inc && n->view.status[me] == EXPELLED &&
        n->view.inc[me] >= n->inc)
        n->inc = n->replayed = 0;
}

/* --- what messages do --- */

static void on_remove(struct state *s, struct node *n, const struct msg *m) {
    bool next = term_of(m->b) > term_of(n->log.last) ? seq_of(m->b) == 1 : m->b == n->log.last + 1;
    if (n->view.term && n->view.status[m->to] != MEMBER && !n->replayed && rule(RULE_REPLAY_FIRST))
        return;
    if (!rule(RULE_NO_GAPS))
        next = m->b > n->log.last;
    if (next)
        apply(s, n, m->a, m->b);
}

static void on_tail(struct state *s, struct node *n, const struct msg *m) {
    if (n->term != m->term || n->active || n->gathered >> m->from & 1)
        return;
    n->gathered |= (uint8_t)(1 << m->from);
    for (int r = 0; r < dir_bounds.removes; r++)
        if (m->log.num[r] && !has(s, n, r)) {
            take_out(s, n, r);
            n->log.num[r] = m->log.num[r];
        }
    activate(s, m->to);
}

static void on_replay(struct state *s, struct node *n, const struct msg *m) {
    if (!n->inc || n->replayed || (rule(RULE_INCARNATION) && m->a != n->inc))
        return;
    if (n->log.last < m->log.base && rule(RULE_REACH))
        memset(n->copy, 0, sizeof(n->copy));
    for (int r = 0; r < dir_bounds.removes; r++)
        if (m->log.num[r])
            take_out(s, n, r);
    n->log = m->log;
    n->replayed = 1;
}

static void on_copy(struct node *n, const struct msg *m) {
    if (!n->serving || n->copy[m->a])
        return;
    if (n->log.num[m->a] > m->log.last && rule(RULE_COPY_LOG))
        return;
    if (n->log.base > m->log.last && rule(RULE_COPY_REACH))
        return;
    n->copy[m->a] = m->b;
}

static void deliver(struct state *s, const struct msg *m) {
    struct node *n = &s->node[m->to];
    if (m->term < n->seen && rule(RULE_TERM))
        return;
    bool lower = m->term < n->seen_ghost;
    struct node before = *n;
    adopt_term(n, m->term);
    switch (m->type) {
    case REMOVE:
        on_remove(s, n, m);
        break;
    case ACK:
        if (n->term == m->term && n->acked[m->from] <= m->a) {
            n->acked[m->from] = m->a;
            if (n->acked_exp[m->from] < m->b)
                n->acked_exp[m->from] = m->b;
        }
        break;
    case TAIL:
        on_tail(s, n, m);
        break;
    case REPLAY:
        on_replay(s, n, m);
        break;
    case COPY:
        on_copy(n, m);
        break;
    }
    if (lower && memcmp(&before, n, sizeof(before)) != 0)
        blame(s, LOWER_TERM);
}

/* --- what is under way: all that a node may send in a state is sent in it, since the network may
 * deliver it late or never; that is every order and every loss of sending, too --- */

static void send_removes(struct state *s, int me, int h) {
    const struct node *n = &s->node[me];
    uint8_t num = n->acked[h] ? (uint8_t)(n->acked[h] + 1) : number(n->term, 1);
    for (int r = 0; r < dir_bounds.removes; r++)
        if (n->log.num[r] >= num && (n->log.num[r] == num || !rule(RULE_NO_GAPS)))
            send(s, (struct msg){.type = REMOVE,
                                 .to = (uint8_t)h,
                                 .from = (uint8_t)me,
                                 .term = n->term,
                                 .a = (uint8_t)r,
                                 .b = n->log.num[r]});
}

static void send_as_owner(struct state *s, int me) {
    const struct node *n = &s->node[me];
    for (int h = 0; h < dir_bounds.nodes; h++) {
        if (h == me)
            continue;
        if (n->view.status[h] != EXPELLED)
            send_removes(s, me, h);
        bool late = !rule(RULE_ANNOUNCE) && n->view.status[h] == EXPELLED;
        if (n->view.status[h] == RETURNING || late)
            send(s, (struct msg){.type = REPLAY,
                                 .to = (uint8_t)h,
                                 .from = (uint8_t)me,
                                 .term = n->term,
                                 .a = (uint8_t)(n->view.inc[h] + late),
                                 .log = n->log});
    }
}

/* Answers of node me to an owner: how far it has come, or, to one that is new, its log. */
static void send_answers(struct state *s, int me, int to) {
    const struct node *n = &s->node[me];
    const struct node *o = &s->node[to];
    struct msg m = {.to = (uint8_t)to, .from = (uint8_t)me, .term = o->term};
    bool mine = n->seen == o->term || (!rule(RULE_TERM) && n->seen >= o->term);
    bool complete = !n->inc || n->replayed || !rule(RULE_REPLAY_FIRST);
    if (o->active && mine && complete && term_of(n->log.last) == o->term) {
        m.type = ACK;
        m.a = n->log.last;
        m.b = n->view.exp;
        send(s, m);
    }
    bool asked = n->seen == o->term || (!rule(RULE_TAIL_ADOPTS) && n->seen < o->term);
    if (!o->active && asked && !n->inc && rule(RULE_GATHER)) {
        m.type = TAIL;
        m.log = n->log;
        send(s, m);
    }
}

static void send_all(struct state *s) {
    for (int me = 0; me < dir_bounds.nodes; me++) {
        if (s->node[me].term && s->node[me].active)
            send_as_owner(s, me);
        for (int to = 0; to < dir_bounds.nodes; to++)
            if (to != me && s->node[to].term)
                send_answers(s, me, to);
    }
}

/* --- successors --- */

#define GO(...)                                                                                    \
    do {                                                                                           \
        send_all(&t);                                                                              \
        look_for_done(&t);                                                                         \
        sweep(&t);                                                                                 \
        world_to(w, &t, __VA_ARGS__);                                                              \
    } while (0)

/* Grows with each change of the map. */
static int version(const struct map *m) {
    int v = m->term + 2 * m->exp;
    for (int n = 0; n < NODES; n++)
        v += m->inc[n] + (m->status[n] == MEMBER);
    return v;
}

/* etcd comes back empty and has the newest map that a node saved, under a term above all. */
static void reset(struct state *s) {
    struct map newest = {0};
    uint8_t term = 0;
    for (int n = 0; n < dir_bounds.nodes; n++) {
        if (version(&s->node[n].saved) > version(&newest))
            newest = s->node[n].saved;
        if (s->node[n].seen > term)
            term = s->node[n].seen;
    }
    for (int n = 0; n < dir_bounds.nodes && !rule(RULE_SEED_EXPELLED); n++)
        newest.status[n] = MEMBER;
    s->etcd = newest;
    s->etcd.term = (uint8_t)(term + 1);
    s->resets++;
}

static void etcd_steps(struct world *w, const struct state *s) {
    struct state t;
    if (s->resets < dir_bounds.resets) {
        t = *s;
        reset(&t);
        GO("etcd: comes back empty, has the nodes' map, term %d", t.etcd.term);
    }
    for (int n = 0; n < dir_bounds.nodes; n++) {
        if (n < OWNERS && s->etcd.status[n] == MEMBER && s->etcd.term < dir_bounds.terms) {
            t = *s;
            t.etcd.owner = (uint8_t)n;
            t.etcd.term++;
            GO("balancer: %d owns the slot, term %d", n, t.etcd.term);
        }
        if (s->etcd.status[n] == EXPELLED || s->etcd.exp == dir_bounds.expulsions ||
            s->etcd.owner == n)
            continue;
        t = *s;
        t.etcd.status[n] = EXPELLED;
        t.etcd.exp++;
        GO("balancer: expels %d", n);
    }
}

static void begin_remove(struct world *w, const struct state *s, int me) {
    for (int r = 0; r < dir_bounds.removes; r++) {
        if (s->removal[r] != NOT_ISSUED)
            continue;
        struct state t = *s;
        uint8_t num = (uint8_t)(s->node[me].log.last + 1);
        t.removal[r] = ISSUED;
        t.origin[r] = num;
        apply(&t, &t.node[me], r, num);
        GO("%d: remove %d begins as %d.%d", me, r, term_of(num), seq_of(num));
    }
}

static void block_steps(struct world *w, const struct state *s, int me) {
    const struct node *n = &s->node[me];
    struct state t;
    for (int k = 0; k < dir_bounds.removes; k++) {
        if (n->serving && n->copy[k] && s->copies < dir_bounds.copies)
            for (int to = 0; to < dir_bounds.nodes; to++) {
                if (to == me)
                    continue;
                t = *s;
                t.copies++;
                send(&t, (struct msg){.type = COPY,
                                      .to = (uint8_t)to,
                                      .from = (uint8_t)me,
                                      .term = n->seen,
                                      .a = (uint8_t)k,
                                      .b = n->copy[k],
                                      .log.last = n->log.last});
                GO("%d: reads key %d (%s) for %d", me, k, n->copy[k] == NEW ? "new" : "old", to);
            }
        if (n->serving && !n->copy[k] && s->removal[k] == DONE && s->puts < dir_bounds.puts &&
            s->etcd.status[me] == MEMBER) {
            t = *s;
            t.puts++;
            t.node[me].copy[k] = NEW;
            GO("%d: puts key %d again", me, k);
            world_note(w, SAW_PUT);
        }
    }
}

static void trim_steps(struct world *w, const struct state *s, int me) {
    const struct log *l = &s->node[me].log;
    int first = !l->num[0] || (l->num[1] && l->num[1] < l->num[0]);
    if (s->trims == dir_bounds.trims || !l->num[first])
        return;
    if (s->removal[first] != DONE && rule(RULE_TRIM_DONE))
        return;
    struct state t = *s;
    t.trims++;
    t.node[me].log.base = l->num[first];
    t.node[me].log.num[first] = 0;
    if (t.node[me].log.forgot < s->origin[first])
        t.node[me].log.forgot = s->origin[first];
    GO("%d: forgets remove %d", me, first);
    world_note(w, SAW_TRIM);
}

static void node_steps(struct world *w, const struct state *s, int me) {
    const struct node *n = &s->node[me];
    struct state t;
    if (memcmp(&n->view, &s->etcd, sizeof(n->view)) != 0) {
        t = *s;
        learn(&t, me);
        give_up_return(&t, me);
        GO("%d: learns the map: term %d, owner %d", me, s->etcd.term, s->etcd.owner);
    }
    if (s->crashes < dir_bounds.crashes) {
        t = *s;
        crash(&t, me);
        GO("%d: crashes and starts", me);
    }
    if (may_announce(s, me)) {
        t = *s;
        announce(&t, me);
        GO("%d: returns", me);
    }
    if (may_finish(s, me)) {
        t = *s;
        finish(&t, me);
        GO("%d: is a member again", me);
        world_note(w, SAW_RETURN);
    }
    if (n->term && n->active)
        begin_remove(w, s, me);
    block_steps(w, s, me);
    trim_steps(w, s, me);
}

static void note_delivery(struct world *w, const struct state *s, const struct state *t,
                          const struct msg *m) {
    const struct node *n = &s->node[m->to];
    if (m->type == COPY && n->serving && !n->copy[m->a])
        world_note(w, t->node[m->to].copy[m->a] ? SAW_COPY : SAW_COPY_REFUSED);
    if (m->type == REMOVE && s->origin[m->a] != m->b)
        world_note(w, SAW_RESENT);
    if (m->type == REPLAY && t->node[m->to].replayed && n->log.last < m->log.base)
        world_note(w, SAW_DROP);
    for (int r = 0; r < KEYS; r++)
        if (t->removal[r] == DONE)
            world_note(w, SAW_DONE);
}

static void next(struct world *w, const void *state) {
    static const char *const names[] = {"", "remove", "answer", "log", "replay", "copy"};
    const struct state *s = state;
    etcd_steps(w, s);
    for (int n = 0; n < dir_bounds.nodes; n++)
        node_steps(w, s, n);
    for (int i = 0; i < MAX_MSGS && s->msgs[i].type; i++) {
        const struct msg *m = &s->msgs[i];
        struct state t = *s;
        deliver(&t, m);
        GO("%d: has the %s of %d (term %d)", m->to, names[m->type], m->from, m->term);
        note_delivery(w, s, &t, m);
    }
}

/* Somebody who is to know of a remove that is done can read h's old copy of key k. */
static const char *can_read(const struct state *s, int h) {
    if (s->etcd.status[h] == MEMBER)
        return "1, 2: a member holds what was removed";
    if (s->node[h].inc)
        return "2: a node that returns serves what was removed";
    for (int r = 0; r < dir_bounds.nodes; r++)
        if (r != h && s->etcd.status[r] == MEMBER && s->node[r].serving &&
            s->node[r].view.status[h] == MEMBER)
            return "1: a member can read what was removed from an expelled node";
    return NULL;
}

static const char *check(const void *state) {
    static const char *const bad[] = {
        [LOWER_TERM] = "5: a message of a lower term changed a node",
        [NEW_PUT_LOST] = "4: a remove took out what was put after it was done",
        [PENDING_LOST] = "6: a remove that a member logged is lost with its owner",
        [TOO_MANY_MSGS] = "the model has too little room for messages",
    };
    const struct state *s = state;
    const char *found = bad[s->bad];
    for (int h = 0; h < dir_bounds.nodes && !found; h++)
        for (int k = 0; k < dir_bounds.removes && !found; k++)
            if (s->removal[k] == DONE && s->node[h].copy[k] == OLD && s->node[h].serving)
                found = can_read(s, h);
    return found;
}

/* Every node is a member; node 0 owns the slot. */
static void init(void *ret_state) {
    struct state *s = ret_state;
    s->etcd.term = 1;
    for (int n = 0; n < dir_bounds.nodes; n++)
        s->etcd.status[n] = MEMBER;
    memset(s->origin, 0xff, sizeof(s->origin));
    for (int n = 0; n < dir_bounds.nodes; n++) {
        struct node *node = &s->node[n];
        node->view = s->etcd;
        if (dir_bounds.resets)
            node->saved = s->etcd;
        node->serving = 1;
        node->seen = node->seen_ghost = 1;
        node->log.base = node->log.last = number(1, 0);
        if (!(dir_bounds.empty >> n & 1))
            memset(node->copy, OLD, dir_bounds.removes);
    }
    s->node[0].term = s->node[0].led = s->node[0].active = 1;
}

const struct world_model dir_model = {
    .size = sizeof(struct state),
    .init = init,
    .next = next,
    .check = check,
};

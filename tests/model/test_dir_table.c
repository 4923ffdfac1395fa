/* SPDX-License-Identifier: Apache-2.0
 *
 * How the owner of a slot knows what nodes hold (docs/decisions/0014: publish, snapshot, hand over;
 * rules R11 and R12), explored: two holders, two processes that may own the slot, two keys, etcd a
 * register, the network a set of messages that come late, again, in any order or never.
 *
 * Holders put and evict, restart without what they held, are expelled and return in a new
 * incarnation. In every state property 4 must hold: what a holder knows to be published is in the
 * table of the newest owner once that is whole. And property 3: from every state, once messages
 * come through and nothing else happens (settle()), the table is what the members hold.
 *
 * Each rule left out must give a counterexample, or is said to be a second defence. How a returning node gets the removes it missed is
 * dir_model.c's.
 *
 * Threads: single-threaded.
 */
#include "world.h"

#include <string.h>

enum { HOLDERS = 2, OWNERS = 2, KEYS = 2, EVENTS = 3, MAX_MSGS = 32, MAX_STATES = 500000 };
enum msg_type { NO_MSG, PUBLISH, SNAPSHOT, ANSWER };
enum note { SAW_SNAPSHOT }; /* of a later owner */

enum rule {
    RULE_NONE,
    RULE_NO_GAPS,       /* publications are applied in the order of their numbers */
    RULE_REPEATS,       /* what the owner has is ignored */
    RULE_OLD_SNAPSHOT,  /* a snapshot of before what the owner has is ignored */
    RULE_LIFE,          /* messages of an earlier incarnation are ignored */
    RULE_NEW_LIFE,      /* a new incarnation begins with a snapshot */
    RULE_TERM,          /* an owner takes messages of its own term only */
    RULE_AGAIN,         /* a new owner is sent what it has not confirmed itself */
    RULE_ANSWER_TERM,   /* an answer of an earlier term confirms nothing */
    RULE_EXPELLED_OUT,  /* an owner forgets what expelled nodes hold */
    RULE_EXPELLED_MUTE, /* ... and takes nothing from them */
    RULE_WHOLE,         /* a slot is whole when all members have answered */
    RULES
};

struct map {
    uint8_t term, owner, expelled; /* expelled: mask */
    uint8_t inc[HOLDERS];
};

struct holder {
    struct map view;
    uint8_t inc, seq, confirmed; /* confirmed: by the owner of view.term */
    uint8_t held, known;         /* masks of keys; known: held, and its publication confirmed */
    uint8_t event[EVENTS];       /* key << 1 | there, by number - 1 */
};

struct owner {
    struct map view;
    uint8_t term; /* 0: owns nothing */
    uint8_t inc[HOLDERS], seq[HOLDERS], synced[HOLDERS];
    uint8_t table[HOLDERS]; /* masks of keys */
};

struct msg {
    uint8_t type, holder, owner, term, inc, seq;
    uint8_t what; /* PUBLISH: event; SNAPSHOT: mask of keys */
};

struct state {
    struct map etcd;
    struct holder holder[HOLDERS];
    struct owner owner[OWNERS];
    uint8_t events, restarts, expulsions;
    uint8_t full;
    struct msg msgs[MAX_MSGS]; /* sorted, the empty ones last */
};

/* How much of what may happen, in all. Thread: immutable. */
struct bounds {
    uint8_t terms, events, restarts, expulsions;
    bool fresh; /* the first owner has asked nobody yet */
};

static struct bounds bounds;
static enum rule without;

static bool rule(enum rule r) {
    return without != r;
}

/* --- messages --- */

static void send(struct state *s, struct msg m) {
    int i = 0;
    while (i < MAX_MSGS && s->msgs[i].type && memcmp(&s->msgs[i], &m, sizeof(m)) < 0)
        i++;
    if (i < MAX_MSGS && memcmp(&s->msgs[i], &m, sizeof(m)) == 0)
        return;
    s->full |= s->msgs[MAX_MSGS - 1].type != NO_MSG;
    if (s->full)
        return;
    memmove(&s->msgs[i + 1], &s->msgs[i], (size_t)(MAX_MSGS - 1 - i) * sizeof(m));
    s->msgs[i] = m;
}

/* Nothing that can follow would make m do anything. */
static bool is_spent(const struct state *s, const struct msg *m) {
    const struct holder *h = &s->holder[m->holder];
    const struct owner *o = &s->owner[m->owner];
    if (m->type == ANSWER)
        return m->inc < h->inc || (m->term < h->view.term && rule(RULE_ANSWER_TERM)) ||
               (m->term == h->view.term && m->seq <= h->confirmed);
    if (m->term < o->term && rule(RULE_TERM))
        return true;
    if (m->term != o->term || !rule(RULE_LIFE) || !rule(RULE_NEW_LIFE))
        return false;
    if (m->inc < o->inc[m->holder])
        return true;
    if (m->inc > o->inc[m->holder] || !o->synced[m->holder] || m->seq > o->seq[m->holder])
        return false;
    return rule(m->type == PUBLISH ? RULE_REPEATS : RULE_OLD_SNAPSHOT);
}

static void sweep(struct state *s) {
    int to = 0;
    for (int i = 0; i < MAX_MSGS && s->msgs[i].type; i++)
        if (!is_spent(s, &s->msgs[i]))
            s->msgs[to++] = s->msgs[i];
    memset(&s->msgs[to], 0, (size_t)(MAX_MSGS - to) * sizeof(s->msgs[0]));
}

/* All that may be sent in a state is sent in it: the network may keep it or lose it. */
static void send_between(struct state *s, int h, int o) {
    const struct holder *holder = &s->holder[h];
    const struct owner *owner = &s->owner[o];
    struct msg m = {.holder = (uint8_t)h,
                    .owner = (uint8_t)o,
                    .term = holder->view.term,
                    .inc = holder->inc,
                    .seq = holder->seq};
    bool to_owner = holder->view.owner == o && holder->view.term == owner->term &&
                    !(holder->view.expelled >> h & 1);
    if (to_owner && (!owner->synced[h] || owner->inc[h] < holder->inc)) {
        m.type = SNAPSHOT;
        m.what = holder->held;
        send(s, m);
    }
    for (int i = holder->confirmed; to_owner && i < holder->seq; i++) {
        m.type = PUBLISH;
        m.seq = (uint8_t)(i + 1);
        m.what = holder->event[i];
        send(s, m);
    }
    if (owner->term && owner->synced[h])
        send(s, (struct msg){.type = ANSWER,
                             .holder = (uint8_t)h,
                             .owner = (uint8_t)o,
                             .term = owner->term,
                             .inc = owner->inc[h],
                             .seq = owner->seq[h]});
}

static void send_all(struct state *s) {
    for (int h = 0; h < HOLDERS; h++)
        for (int o = 0; o < OWNERS; o++)
            send_between(s, h, o);
    sweep(s);
}

static void note_event(struct owner *o, int h, uint8_t event) {
    uint8_t bit = (uint8_t)(1 << (event >> 1));
    o->table[h] = (uint8_t)(event & 1 ? o->table[h] | bit : o->table[h] & ~bit);
}

static void on_publish(struct owner *o, const struct msg *m) {
    int h = m->holder;
    if (m->inc > o->inc[h]) {
        o->inc[h] = m->inc;
        o->seq[h] = 0;
        if (rule(RULE_NEW_LIFE))
            o->synced[h] = 0;
    }
    if (!o->synced[h] || (m->seq <= o->seq[h] && rule(RULE_REPEATS)))
        return;
    if (m->seq > o->seq[h] + 1 && rule(RULE_NO_GAPS))
        return;
    note_event(o, h, m->what);
    if (m->seq > o->seq[h])
        o->seq[h] = m->seq;
}

static void on_snapshot(struct owner *o, const struct msg *m) {
    int h = m->holder;
    bool newer = m->inc > o->inc[h] || !o->synced[h] || m->seq > o->seq[h];
    if (!newer && rule(RULE_OLD_SNAPSHOT))
        return;
    o->inc[h] = m->inc;
    o->seq[h] = m->seq;
    o->synced[h] = 1;
    o->table[h] = m->what;
}

static void on_answer(struct holder *h, const struct msg *m) {
    if (m->inc != h->inc || (m->term != h->view.term && rule(RULE_ANSWER_TERM)))
        return;
    if (m->seq > h->confirmed)
        h->confirmed = m->seq;
    /* A key is known to be published when its last event is. */
    uint8_t open = 0;
    for (int i = h->confirmed; i < h->seq; i++)
        open |= (uint8_t)(1 << (h->event[i] >> 1));
    h->known |= (uint8_t)(h->held & ~open);
}

static void deliver(struct state *s, const struct msg *m) {
    struct owner *o = &s->owner[m->owner];
    if (m->type == ANSWER) {
        on_answer(&s->holder[m->holder], m);
        return;
    }
    if (!o->term || (m->term != o->term && rule(RULE_TERM)))
        return;
    if (o->view.expelled >> m->holder & 1 && rule(RULE_EXPELLED_MUTE))
        return;
    if (m->inc < o->inc[m->holder] && rule(RULE_LIFE))
        return;
    if (m->type == PUBLISH)
        on_publish(o, m);
    else
        on_snapshot(o, m);
}

/* --- what happens --- */

static void owner_learns(struct state *s, int me) {
    struct owner *o = &s->owner[me];
    o->view = s->etcd;
    if (o->view.owner != me) {
        *o = (struct owner){.view = o->view};
        return;
    }
    if (o->term != o->view.term)
        *o = (struct owner){.view = o->view, .term = o->view.term};
    for (int h = 0; h < HOLDERS; h++) {
        bool out = o->view.expelled >> h & 1;
        if (o->view.inc[h] <= o->inc[h] && !out)
            continue;
        if (o->view.inc[h] > o->inc[h]) {
            o->inc[h] = o->view.inc[h];
            o->seq[h] = 0;
            if (rule(RULE_NEW_LIFE))
                o->synced[h] = 0;
        }
        if (out && rule(RULE_EXPELLED_OUT))
            o->synced[h] = o->table[h] = 0;
    }
}

static void begin_life(struct state *s, int me) {
    struct holder *h = &s->holder[me];
    h->inc = s->etcd.inc[me] = (uint8_t)(s->etcd.inc[me] + 1);
    h->seq = h->confirmed = h->known = 0;
    memset(h->event, 0, sizeof(h->event));
}

static void holder_learns(struct state *s, int me) {
    struct holder *h = &s->holder[me];
    if (h->view.term != s->etcd.term && rule(RULE_AGAIN))
        h->confirmed = 0;
    h->view = s->etcd;
}

static void holder_returns(struct state *s, int me) {
    begin_life(s, me);
    s->etcd.expelled &= (uint8_t) ~(1 << me);
    s->holder[me].view = s->etcd;
}

static bool knows_all(const struct map *view, const struct map *etcd) {
    return memcmp(view, etcd, sizeof(*view)) == 0;
}

static void change(struct state *s, int me, int key) {
    struct holder *h = &s->holder[me];
    h->held ^= (uint8_t)(1 << key);
    h->known &= (uint8_t) ~(1 << key);
    h->event[h->seq++] = (uint8_t)(key << 1 | (h->held >> key & 1));
    s->events++;
}

#define GO(...)                                                                                    \
    do {                                                                                           \
        send_all(&t);                                                                              \
        world_to(w, &t, __VA_ARGS__);                                                              \
    } while (0)

static void holder_steps(struct world *w, const struct state *s, int me) {
    const struct holder *h = &s->holder[me];
    struct state t;
    for (int k = 0; k < KEYS && s->events < bounds.events && h->seq < EVENTS; k++) {
        t = *s;
        change(&t, me, k);
        GO("holder %d: %s key %d", me, h->held >> k & 1 ? "evicts" : "puts", k);
    }
    if (s->restarts < bounds.restarts) {
        t = *s;
        begin_life(&t, me);
        t.holder[me].held = 0;
        t.restarts++;
        GO("holder %d: restarts, empty", me);
    }
    if (!knows_all(&h->view, &s->etcd)) {
        t = *s;
        holder_learns(&t, me);
        GO("holder %d: learns the map", me);
    }
    if (h->view.expelled >> me & s->etcd.expelled >> me & 1) {
        t = *s;
        holder_returns(&t, me);
        GO("holder %d: returns", me);
    }
    if (s->expulsions < bounds.expulsions && !(s->etcd.expelled >> me & 1)) {
        t = *s;
        t.etcd.expelled |= (uint8_t)(1 << me);
        t.expulsions++;
        GO("balancer: expels holder %d", me);
    }
}

static void next(struct world *w, const void *state) {
    static const char *const names[] = {"", "publication", "snapshot", "answer"};
    const struct state *s = state;
    struct state t;
    for (int h = 0; h < HOLDERS; h++)
        holder_steps(w, s, h);
    for (int o = 0; o < OWNERS; o++) {
        if (!knows_all(&s->owner[o].view, &s->etcd)) {
            t = *s;
            owner_learns(&t, o);
            GO("owner %d: learns the map", o);
        }
        if (s->etcd.term < bounds.terms) {
            t = *s;
            t.etcd.term++;
            t.etcd.owner = (uint8_t)o;
            GO("balancer: owner %d, term %d", o, t.etcd.term);
        }
    }
    for (int i = 0; i < MAX_MSGS && s->msgs[i].type; i++) {
        const struct msg *m = &s->msgs[i];
        t = *s;
        deliver(&t, m);
        GO("%s %d.%d of term %d between holder %d and owner %d", names[m->type], m->inc, m->seq,
           m->term, m->holder, m->owner);
        if (m->type == SNAPSHOT && s->owner[m->owner].term > 1)
            world_note(w, SAW_SNAPSHOT);
    }
}

/* --- what must hold --- */

static bool is_whole(const struct owner *o) {
    for (int h = 0; h < HOLDERS; h++)
        if (!o->synced[h] && !(o->view.expelled >> h & 1) && rule(RULE_WHOLE))
            return false;
    return o->term != 0;
}

/* Everybody learns the map, every message comes through, nothing else happens. */
static void settle(struct state *s) {
    for (int round = 0; round < 2 * EVENTS + 4; round++) {
        struct state before = *s;
        for (int h = 0; h < HOLDERS; h++)
            if (!knows_all(&s->holder[h].view, &s->etcd))
                holder_learns(s, h);
        for (int o = 0; o < OWNERS; o++)
            if (!knows_all(&s->owner[o].view, &s->etcd))
                owner_learns(s, o);
        send_all(s);
        struct state under_way = *s;
        for (int i = 0; i < MAX_MSGS && under_way.msgs[i].type; i++)
            deliver(s, &under_way.msgs[i]);
        send_all(s);
        if (memcmp(&before, s, sizeof(before)) == 0)
            break;
    }
}

static const char *check(const void *state) {
    struct state s = *(const struct state *)state;
    const struct owner *o = &s.owner[s.etcd.owner];
    if (s.full)
        return "the model has too little room for messages";
    for (int h = 0; h < HOLDERS; h++)
        if (o->term == s.etcd.term && is_whole(o) && !(s.etcd.expelled >> h & 1) &&
            s.holder[h].known & ~o->table[h])
            return "4: what is published is not found";
    settle(&s);
    for (int h = 0; h < HOLDERS; h++)
        if (!is_whole(o) || o->table[h] != (s.etcd.expelled >> h & 1 ? 0 : s.holder[h].held))
            return "3: at rest the table is not what nodes hold";
    return NULL;
}

/* Holder 0 holds key 0, and the owner knows. */
static void init(void *ret_state) {
    struct state *s = ret_state;
    s->etcd = (struct map){.term = 1, .inc = {1, 1}};
    for (int h = 0; h < HOLDERS; h++)
        s->holder[h] = (struct holder){.view = s->etcd, .inc = 1};
    s->holder[0].held = s->holder[0].known = 1;
    s->owner[0] = (struct owner){
        .view = s->etcd, .term = 1, .inc = {1, 1}, .synced = {1, 1}, .table = {1, 0}};
    if (bounds.fresh) {
        s->owner[0] = (struct owner){.view = s->etcd, .term = 1, .inc = {1, 1}};
        s->holder[0].known = 0;
    }
    s->owner[1].view = s->etcd;
    send_all(s);
}

static const struct world_model model = {
    .size = sizeof(struct state),
    .init = init,
    .next = next,
    .check = check,
};

static const struct scenario {
    const char *name;
    struct bounds bounds;
} scenarios[] = {
    {"events", {.terms = 1, .events = 3}},
    {"hand-over", {.terms = 3, .events = 2}},
    {"back", {.terms = 3, .events = 1, .fresh = true}},
    {"restart", {.terms = 2, .events = 2, .restarts = 1}},
    {"expelled", {.terms = 1, .events = 2, .expulsions = 1}},
    {"expelled-over", {.terms = 2, .events = 1, .expulsions = 1}},
};

static const struct row {
    const char *name;
    enum rule rule;
    const char *scenario;
    char property; /* that is broken; 0: none, a second defence */
} rows[] = {
    {"no-gaps", RULE_NO_GAPS, "hand-over", '3'},
    {"repeats", RULE_REPEATS, "events", '4'},
    {"old-snapshot", RULE_OLD_SNAPSHOT, "hand-over", '3'},
    {"life", RULE_LIFE, "restart", '3'},
    {"new-life", RULE_NEW_LIFE, "restart", '3'},
    {"term", RULE_TERM, "back", '4'},
    {"expelled-out", RULE_EXPELLED_OUT, "expelled", '3'},
    {"expelled-mute", RULE_EXPELLED_MUTE, "expelled", '3'},
    {"whole", RULE_WHOLE, "hand-over", '4'},
    /* The snapshot that a new owner asks for is of after all that an older one confirmed. */
    {"again", RULE_AGAIN, "back", 0},
    {"answer-term", RULE_ANSWER_TERM, "back", 0},
};

enum {
    SCENARIOS = sizeof(scenarios) / sizeof(scenarios[0]),
    ROWS = sizeof(rows) / sizeof(rows[0])
};

static int failures;

static struct world_result explore(const char *name, enum rule left_out, FILE *trace) {
    struct world_result res = {.failed = "no such scenario"};
    for (int i = 0; i < SCENARIOS; i++) {
        if (strcmp(scenarios[i].name, name) != 0)
            continue;
        bounds = scenarios[i].bounds;
        without = left_out;
        if (world_explore(&model, MAX_STATES, trace, &res) < 0)
            res.failed = "out of memory";
    }
    return res;
}

static void check_scenario(const struct scenario *s) {
    struct world_result res = explore(s->name, RULE_NONE, stdout);
    bool snapshots = res.notes & 1U << SAW_SNAPSHOT;
    bool ok = res.exhausted && snapshots == (s->bounds.terms > 1);
    printf("%s %-13s %8u states, %2u steps%s%s\n", ok ? "ok  " : "FAIL", s->name, res.states,
           res.depth, res.failed ? ": " : "", res.failed ? res.failed : "");
    failures += !ok;
}

static void check_row(const struct row *r) {
    struct world_result res = explore(r->scenario, r->rule, NULL);
    bool ok = r->property ? res.failed && res.failed[0] == r->property : res.exhausted;
    printf("%s without %-15s %-13s %8u states: %s\n", ok ? "ok  " : "FAIL", r->name, r->scenario,
           res.states, res.failed ? res.failed : "no counterexample");
    failures += !ok;
}

/* Each rule has a row of its own. */
static void check_rows_complete(void) {
    bool has[RULES] = {[RULE_NONE] = true};
    for (int i = 0; i < ROWS; i++)
        has[rows[i].rule] = true;
    for (int r = 0; r < RULES; r++)
        if (!has[r]) {
            printf("FAIL no row leaves rule %d out\n", r);
            failures++;
        }
}

static int explore_one(const char *scenario, const char *row) {
    enum rule left_out = RULE_NONE;
    for (int i = 0; row && i < ROWS; i++)
        if (strcmp(rows[i].name, row) == 0)
            left_out = rows[i].rule;
    struct world_result res = explore(scenario, left_out, stdout);
    printf("%s: %u states, %u steps, %s\n", scenario, res.states, res.depth,
           res.failed      ? res.failed
           : res.exhausted ? "no counterexample"
                           : "not all of them");
    return 0;
}

/* No argument: all. SCENARIO, or SCENARIO and a row's name: that one, with its counterexample. */
int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc > 1)
        return explore_one(argv[1], argc > 2 ? argv[2] : NULL);
    for (int i = 0; i < SCENARIOS; i++)
        check_scenario(&scenarios[i]);
    check_rows_complete();
    for (int i = 0; i < ROWS; i++)
        check_row(&rows[i]);
    printf("%s: %d failures\n", failures ? "FAIL" : "ok", failures);
    return failures > 0;
}

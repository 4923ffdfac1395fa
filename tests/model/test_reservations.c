/* SPDX-License-Identifier: Apache-2.0
 *
 * A client's reservations explored (R3): what it holds ahead, writes, commits and gives back, while
 * connections break, puts end at their deadlines, and the node restarts, with its memory or with other
 * memory.
 *
 * One client puts a few blocks, one after the other; strangers take what is free, and evictions make
 * it so. The node handles what arrives on each connection in order, but one connection as late as it
 * likes: a hello may wait, and a connection that its client has left may stand open. What must hold:
 * nobody writes into a place that the node took for a block's, for another's, or for free; and a block
 * has the bytes that were put under its key.
 *
 * Threads: single-threaded.
 */
#include "world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum { CELLS = 2, CONNS = 3, QUEUE = 3, PUTS = 2, ABORTS = 4, GENS = 5, STRANGER = 9 };
enum { MAX_STATES = 2000000 }; /* 340 MB, if all are used */

enum cell_state { FREE, RESERVED, BLOCK };
enum what { HELLO, RESERVE, COMMIT, ABORT, WELCOME, PLACE, DONE, ABORTED };
enum done { OK, AGAIN, GONE };
enum link { DOWN, GREETING, UP };
enum phase { NO_PUT, WANTS, ASKED, WRITING, QUEUED, SENT };

enum mut {
    NO_MAYBE_MADE = 1, /* a place whose commit was sent is kept for the next put */
    MAYBE_MADE_LOST,   /* but for one whose connection was lost then */
    FREES_AT_LOSS,     /* the node ends reservations with their connection */
    FREES_AT_RESTART,  /* or when it starts again */
    NOTHING_HEARD,     /* a hello does not say what has arrived */
    LATE_HELLO,        /* a hello counts after one of a later connection */
    ANY_ABORT,         /* a place is given back whatever its generation */
    KEEPS_OLD_SEGMENT, /* places of other memory are held on to */
    MUTS
};
enum { SAW_HELD, SAW_GIVEN_BACK, SAW_MADE_BEFORE, SAW_GONE, SAW_VOID, SAW_LATE, SAW_AGAIN, SAW_OTHER_MEMORY, SAWS };

struct place {
    uint8_t segment, cell, gen; /* gen 0: none */
};

/* What may happen in one exploration. */
struct bounds {
    uint8_t losses, restarts, agains; /* AGAIN: the answer to a commit, made or not */
};

/* HELLO: cookie in cell, what was heard in gen, segment in key; WELCOME likewise; DONE: its status in gen. */
struct msg {
    uint8_t what, cell, gen, key;
};

struct pipe {
    uint8_t n;
    struct msg msg[QUEUE];
};

struct conn {
    uint8_t open, cookie; /* at the node */
    struct pipe up, down;
};

struct abort {
    struct place place;
    uint8_t sent;
};

/* All bytes: no padding. */
struct state {
    /* The node. */
    struct cell {
        uint8_t state, owner, gen, key, bytes; /* bytes: the put that wrote last */
    } cell[CELLS];
    uint8_t segment, cookies, cookies_gone, gens;
    uint8_t greeted[CONNS + 1]; /* by cookie: its latest connection */
    struct conn conn[CONNS];
    /* The client. */
    uint8_t at, link; /* connections made; of the last one */
    uint8_t cookie, its_segment, heard;
    uint8_t put, phase, maybe_made;
    struct place place, held;
    uint8_t asked; /* places that were asked for and have not come */
    uint8_t commits;
    struct commit {
        struct place place;
        uint8_t put;
    } commit[PUTS]; /* sent and not answered, in order */
    struct abort abort[ABORTS];
    struct bounds n; /* of what has happened */
};

static enum mut mut; /* 0: none */
static struct bounds bounds;

/* ---- pipes ---- */

static bool pipe_add(struct pipe *p, struct msg m) {
    if (p->n == QUEUE)
        return false;
    p->msg[p->n++] = m;
    return true;
}

static struct msg pipe_take(struct pipe *p) {
    struct msg m = p->msg[0];
    memmove(&p->msg[0], &p->msg[1], (QUEUE - 1) * sizeof(m));
    memset(&p->msg[QUEUE - 1], 0, sizeof(m));
    p->n--;
    return m;
}

static struct conn *current(struct state *s) {
    return &s->conn[s->at - 1];
}

static bool client_send(struct state *s, struct msg m) {
    return s->link == UP && pipe_add(&current(s)->up, m);
}

/* ---- the client ---- */

/* Bytes go to where it believes its place to be. */
static void scribble(struct state *s) {
    if (s->place.segment == s->segment)
        s->cell[s->place.cell].bytes = s->put;
}

static void write_begin(struct state *s, struct place place) {
    s->place = place;
    s->maybe_made = 0;
    s->phase = WRITING;
    scribble(s);
}

static void give_back(struct state *s, struct place place) {
    for (int i = 0; i < ABORTS; i++)
        if (s->abort[i].place.gen == 0) {
            s->abort[i] = (struct abort){place, 0};
            return;
        } /* or it stays reserved */
}

static void keep(struct state *s, struct place place) {
    if (s->held.gen == 0)
        s->held = place;
    else
        give_back(s, place);
}

static void drop_place(struct state *s) {
    s->place = (struct place){0};
    s->maybe_made = 0;
}

/* The put ends, in whatever phase it is; one that writes does not. */
static void put_end(struct world *w, struct state *s) {
    if (s->phase == QUEUED && s->maybe_made) {
        give_back(s, s->place);
        world_note(w, SAW_GIVEN_BACK);
    } else if (s->phase == QUEUED) {
        keep(s, s->place);
    }
    drop_place(s);
    s->phase = NO_PUT;
}

static void on_place(struct state *s, struct place place) {
    s->asked--;
    if (place.gen > s->heard)
        s->heard = place.gen;
    if (s->phase == ASKED)
        write_begin(s, place);
    else
        keep(s, place);
}

static void on_done(struct state *s, enum done status) {
    struct commit c = s->commit[0];
    s->commit[0] = s->commit[1];
    s->commit[1] = (struct commit){0};
    s->commits--;
    if (s->phase != SENT || s->put != c.put) { /* its put has ended */
        if (status == AGAIN)
            give_back(s, c.place);
        return;
    }
    if (status == AGAIN) {
        s->phase = QUEUED;
        return;
    }
    drop_place(s);
    s->phase = status == OK ? NO_PUT : WANTS;
}

static void forget_places(struct state *s) {
    s->held = (struct place){0};
    memset(s->abort, 0, sizeof(s->abort));
    if (s->phase == QUEUED) {
        drop_place(s);
        s->phase = WANTS;
    }
}

static void on_welcome(struct state *s, const struct msg *m) {
    s->link = UP;
    if (m->cell == s->cookie && m->key == s->its_segment)
        return;
    s->cookie = m->cell;
    s->its_segment = m->key;
    s->heard = 0;
    if (mut == KEEPS_OLD_SEGMENT)
        s->held.segment = s->its_segment;
    else
        forget_places(s);
}

static void on_aborted(struct state *s, const struct msg *m) {
    for (int i = 0; i < ABORTS; i++)
        if (s->abort[i].place.cell == m->cell && s->abort[i].place.gen == m->gen)
            s->abort[i] = (struct abort){0};
}

static void client_hears(struct state *s) {
    struct msg m = pipe_take(&current(s)->down);
    if (m.what == WELCOME)
        on_welcome(s, &m);
    else if (m.what == PLACE)
        on_place(s, (struct place){s->its_segment, m.cell, m.gen});
    else if (m.what == DONE)
        on_done(s, m.gen);
    else
        on_aborted(s, &m);
}

/* What was not answered is sent again, or given back. */
static void client_loses(struct state *s) {
    s->link = DOWN;
    memset(&current(s)->down, 0, sizeof(current(s)->down));
    s->asked = 0;
    if (s->phase == ASKED)
        s->phase = WANTS;
    for (uint8_t i = 0; i < s->commits; i++) {
        if (s->phase == SENT && s->commit[i].put == s->put)
            s->phase = QUEUED;
        else
            give_back(s, s->commit[i].place);
    }
    s->commits = 0;
    memset(s->commit, 0, sizeof(s->commit));
    for (int i = 0; i < ABORTS; i++)
        s->abort[i].sent = 0;
    if (s->phase == QUEUED && mut == MAYBE_MADE_LOST)
        s->maybe_made = 1;
}

static void client_connects(struct state *s) {
    struct msg hello = {HELLO, s->cookie, mut == NOTHING_HEARD ? 0 : s->heard, s->its_segment};
    s->at++;
    s->link = GREETING;
    current(s)->open = 1;
    pipe_add(&current(s)->up, hello);
}

static void commit_send(struct world *w, struct state s) {
    if (!client_send(&s, (struct msg){COMMIT, s.place.cell, s.place.gen, s.put}))
        return;
    s.commit[s.commits++] = (struct commit){s.place, s.put};
    s.phase = SENT;
    if (mut != NO_MAYBE_MADE && mut != MAYBE_MADE_LOST)
        s.maybe_made = 1;
    world_to(w, &s, "client: commits put %u", s.put);
}

static void aborts_send(struct world *w, const struct state *from) {
    for (int i = 0; i < ABORTS; i++) {
        struct state s = *from;
        struct abort *a = &s.abort[i];
        if (a->place.gen == 0 || a->sent || !client_send(&s, (struct msg){ABORT, a->place.cell, a->place.gen, 0}))
            continue;
        a->sent = 1;
        world_to(w, &s, "client: gives back %u, generation %u", a->place.cell, a->place.gen);
    }
}

static void put_next(struct world *w, struct state s) {
    switch (s.phase) {
    case NO_PUT:
        if (s.put == PUTS)
            return;
        s.put++;
        s.phase = WANTS; /* fall through */
    case WANTS:
        if (s.held.gen != 0) {
            struct place place = s.held;
            s.held = (struct place){0};
            write_begin(&s, place);
            world_note(w, SAW_HELD);
            world_to(w, &s, "client: put %u writes into the place that is held", s.put);
        } else if (client_send(&s, (struct msg){.what = RESERVE})) {
            s.asked++;
            s.phase = ASKED;
            world_to(w, &s, "client: put %u asks for a place", s.put);
        }
        return;
    case WRITING:
        scribble(&s);
        s.phase = s.place.segment == s.its_segment ? QUEUED : WANTS;
        if (s.phase == WANTS)
            drop_place(&s);
        world_to(w, &s, "client: has written");
        return;
    case QUEUED:
        commit_send(w, s);
        return;
    default:
        return;
    }
}

static void client_next(struct world *w, const struct state *from) {
    struct state s = *from;
    put_next(w, s);
    aborts_send(w, from);
    if (s.phase == ASKED || s.phase == QUEUED || s.phase == SENT) {
        put_end(w, &s);
        world_to(w, &s, "client: put %u ends at its deadline", s.put);
    }
    s = *from;
    if (s.link == DOWN && s.at < CONNS) {
        client_connects(&s);
        world_to(w, &s, "client: connects");
    }
    if (from->link == DOWN)
        return;
    s = *from;
    if (current(&s)->down.n > 0) {
        client_hears(&s);
        world_to(w, &s, "client: hears");
    }
    s = *from;
    if (s.n.losses < bounds.losses || !current(&s)->open) {
        s.n.losses += current(&s)->open;
        client_loses(&s);
        world_to(w, &s, "client: loses its connection");
    }
}

/* ---- the node ---- */

static void conn_close(struct conn *c) {
    memset(c, 0, sizeof(*c));
}

static void cell_free(struct cell *c) {
    c->state = FREE;
    c->owner = c->gen = c->key = c->bytes = 0;
}

/* Those of a client whose generation is higher. */
static int reservations_end(struct state *s, uint8_t cookie, uint8_t above) {
    int n = 0;
    for (int i = 0; i < CELLS; i++)
        if (s->cell[i].state == RESERVED && s->cell[i].owner == cookie && s->cell[i].gen > above) {
            cell_free(&s->cell[i]);
            n++;
        }
    return n;
}

static void on_hello(struct world *w, struct state *s, uint8_t at, const struct msg *m) {
    struct conn *c = &s->conn[at];
    bool same = m->cell > s->cookies_gone && m->key == s->segment;
    if (same && s->greeted[m->cell] > at + 1 && mut != LATE_HELLO) {
        world_note(w, SAW_LATE);
        conn_close(c);
        return;
    }
    c->cookie = same ? m->cell : ++s->cookies;
    s->greeted[c->cookie] = (uint8_t)(at + 1);
    for (int i = 0; i < CONNS; i++)
        if (i != at && s->conn[i].cookie == c->cookie)
            conn_close(&s->conn[i]);
    if (same && reservations_end(s, c->cookie, m->gen) > 0)
        world_note(w, SAW_VOID);
    pipe_add(&c->down, (struct msg){WELCOME, c->cookie, 0, s->segment});
}

static bool is_its(const struct state *s, const struct conn *c, const struct msg *m) {
    const struct cell *cell = &s->cell[m->cell];
    return cell->state == RESERVED && cell->owner == c->cookie && cell->gen == m->gen;
}

static bool made_before(const struct state *s, uint8_t put) {
    for (int i = 0; i < CELLS; i++)
        if (s->cell[i].state == BLOCK && s->cell[i].key == put)
            return true;
    return false;
}

static void answer(struct world *w, struct state s, uint8_t at, enum done status, const char *what) {
    pipe_add(&s.conn[at].down, (struct msg){.what = DONE, .gen = (uint8_t)status});
    world_to(w, &s, "node: a commit %s", what);
}

static void on_commit(struct world *w, struct state s, uint8_t at, const struct msg *m) {
    if (!is_its(&s, &s.conn[at], m)) {
        bool made = made_before(&s, m->key);
        world_note(w, made ? SAW_MADE_BEFORE : SAW_GONE);
        answer(w, s, at, made ? OK : GONE, made ? "was made before" : "comes too late");
        return;
    }
    struct state not_yet = s;
    struct cell *c = &s.cell[m->cell];
    c->state = BLOCK;
    c->key = m->key;
    answer(w, s, at, OK, "is made");
    if (s.n.agains == bounds.agains)
        return;
    world_note(w, SAW_AGAIN);
    not_yet.n.agains = ++s.n.agains;
    answer(w, s, at, AGAIN, "is made, which cannot be said yet");
    answer(w, not_yet, at, AGAIN, "cannot be made yet");
}

static void on_reserve(struct world *w, struct state s, uint8_t at) {
    for (uint8_t i = 0; i < CELLS && s.gens < GENS; i++)
        if (s.cell[i].state == FREE) {
            s.cell[i] = (struct cell){RESERVED, s.conn[at].cookie, ++s.gens, 0, 0};
            pipe_add(&s.conn[at].down, (struct msg){PLACE, i, s.gens, 0});
            world_to(w, &s, "node: reserves %u, generation %u", i, s.gens);
            return;
        }
}

static void on_abort(struct world *w, struct state s, uint8_t at, const struct msg *m) {
    if (is_its(&s, &s.conn[at], m) || mut == ANY_ABORT)
        cell_free(&s.cell[m->cell]);
    pipe_add(&s.conn[at].down, (struct msg){ABORTED, m->cell, m->gen, 0});
    world_to(w, &s, "node: takes %u back, if it is generation %u", m->cell, m->gen);
}

static void node_hears(struct world *w, struct state s, uint8_t at) {
    struct conn *c = &s.conn[at];
    if (c->up.n == 0 || c->down.n == QUEUE)
        return;
    struct msg m = pipe_take(&c->up);
    if (m.what == HELLO) {
        on_hello(w, &s, at, &m);
        world_to(w, &s, "node: a hello of connection %u", at + 1);
    } else if (m.what == COMMIT) {
        on_commit(w, s, at, &m);
    } else if (m.what == RESERVE) {
        on_reserve(w, s, at);
    } else {
        on_abort(w, s, at, &m);
    }
}

/* One that its client has left. It does nothing then, which is as if it never noticed. */
static void node_notices(struct world *w, struct state s, uint8_t at) {
    if (mut != FREES_AT_LOSS || (at + 1 == s.at && s.link != DOWN))
        return;
    uint8_t cookie = s.conn[at].cookie;
    conn_close(&s.conn[at]);
    reservations_end(&s, cookie, 0);
    world_to(w, &s, "node: the end of connection %u", at + 1);
}

static void node_restarts(struct world *w, struct state s) {
    if (s.n.restarts == bounds.restarts)
        return;
    s.n.restarts++;
    for (int i = 0; i < CONNS; i++)
        conn_close(&s.conn[i]);
    memset(s.greeted, 0, sizeof(s.greeted));
    struct state other = s;
    for (uint8_t i = 1; i <= s.cookies && mut == FREES_AT_RESTART; i++)
        reservations_end(&s, i, 0);
    world_to(w, &s, "node: restarts");
    for (int i = 0; i < CELLS; i++)
        cell_free(&other.cell[i]);
    other.segment++;
    other.cookies_gone = other.cookies;
    world_note(w, SAW_OTHER_MEMORY);
    world_to(w, &other, "node: restarts with other memory");
}

static void others_next(struct world *w, const struct state *from) {
    for (int i = 0; i < CELLS; i++) {
        struct state s = *from;
        struct cell *c = &s.cell[i];
        if (c->state == BLOCK) {
            cell_free(c);
            world_to(w, &s, "node: evicts %d", i);
        } else if (c->state == FREE && s.gens < GENS) {
            *c = (struct cell){BLOCK, 0, ++s.gens, STRANGER, STRANGER};
            world_to(w, &s, "a stranger puts a block into %d", i);
        }
    }
}

static void next(struct world *w, const void *state) {
    const struct state *s = state;
    client_next(w, s);
    for (uint8_t i = 0; i < CONNS; i++) {
        if (!s->conn[i].open)
            continue;
        node_hears(w, *s, i);
        node_notices(w, *s, i);
    }
    node_restarts(w, *s);
    others_next(w, s);
}

/* ---- the properties ---- */

static void init(void *ret_state) {
    memset(ret_state, 0, sizeof(struct state));
}

static const char *check(const void *state) {
    const struct state *s = state;
    const struct cell *mine = &s->cell[s->place.cell];
    if (s->phase == WRITING && s->place.segment == s->segment &&
        (mine->state != RESERVED || mine->gen != s->place.gen))
        return "the client writes into what is not its place";
    for (int i = 0; i < CELLS; i++)
        if (s->cell[i].state == BLOCK && s->cell[i].key != s->cell[i].bytes)
            return "a block has bytes of another put";
    return NULL;
}

static const struct world_model model = {.size = sizeof(struct state), .init = init, .next = next, .check = check};

#define SAW(what) (1u << SAW_##what)
static const struct scenario {
    const char *name;
    struct bounds bounds;
    uint32_t must; /* be seen in it */
} scenarios[] = {
    {"losses", {.losses = 2}, SAW(HELD) | SAW(GIVEN_BACK) | SAW(MADE_BEFORE) | SAW(GONE) | SAW(VOID) | SAW(LATE)},
    {"restart", {.losses = 1, .restarts = 1}, SAW(HELD) | SAW(GIVEN_BACK) | SAW(MADE_BEFORE) | SAW(OTHER_MEMORY)},
    {"restarts", {.restarts = 2}, SAW(HELD) | SAW(GIVEN_BACK) | SAW(VOID) | SAW(OTHER_MEMORY)},
    {"again", {.losses = 1, .agains = 1}, SAW(HELD) | SAW(GIVEN_BACK) | SAW(MADE_BEFORE) | SAW(AGAIN)},
};
enum { BREAKS, RESTART, TWO_RESTARTS, COMES_AGAIN, SCENARIOS };

/* The scenario of each mutation. */
static const uint8_t shown_by[MUTS] = {
    [NO_MAYBE_MADE] = RESTART,      [MAYBE_MADE_LOST] = COMES_AGAIN, [FREES_AT_LOSS] = BREAKS,
    [FREES_AT_RESTART] = RESTART,   [NOTHING_HEARD] = BREAKS,        [LATE_HELLO] = BREAKS,
    [ANY_ABORT] = BREAKS,           [KEEPS_OLD_SEGMENT] = RESTART,
};

static struct world_result explore(const struct scenario *of) {
    struct world_result res;
    bounds = of->bounds;
    assert_int_equal(world_explore(&model, MAX_STATES, NULL, &res), 0);
    printf("  reservations, %s, mutation %u: %u states%s%s, depth %u\n", of->name, mut, res.states,
           res.failed ? ": " : "", res.failed ? res.failed : "", res.depth);
    return res;
}

static void test_holds(void **state) {
    (void)state;
    mut = 0;
    for (int i = 0; i < SCENARIOS; i++) {
        struct world_result res = explore(&scenarios[i]);
        assert_null(res.failed);
        assert_true(res.exhausted);
        assert_int_equal(res.notes & scenarios[i].must, scenarios[i].must);
    }
}

static void test_every_step_is_needed(void **state) {
    (void)state;
    for (mut = 1; mut < MUTS; mut++)
        assert_non_null(explore(&scenarios[shown_by[mut]]).failed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_holds),
        cmocka_unit_test(test_every_step_is_needed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

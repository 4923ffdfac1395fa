/* SPDX-License-Identifier: Apache-2.0
 *
 * The coordinator of copies (docs/decisions/0017): a block shall have so many, one of them at a certain member perhaps.
 *
 *   QUEUED --a turn--> FINDING --who has it--> PLACING --as many as wanted--> TELLING --> [LENDING] --> ended: 0
 *                        ^                       |  ^                          own copy     (it is a guest now)
 *                        |                       |  `- a target has answered
 *                        `------- RESTING <------+-- some may yet: again, until the deadline
 *                                                `-- nobody is left to ask --> ended: YK_FEWER
 *
 * A preferred node has its copy kept by a TAKE of this coordination before the own copy becomes a guest, even where the
 * owner's table has it already: of two nodes that put one key at once and prefer each other, each TAKE then finds the
 * other's guest and keeps it, or comes before and makes sure that there will be none (`no_guest`).
 *
 * A move (`leave`) is the same with the own copy not counted, and gone at the end, by its generation: never before one
 * that stays has said by a TAKE of this coordination that it has it, and not if a TAKE of another one came here meanwhile.
 * So of any moves of one block that are under way together, in whatever directions, one copy is left. A drain is a move
 * whose own copy is lent at the end, not gone. A member that drains is none that stays. Where no target is named (a drain
 * names none) so many have to say it as copies are wanted: the owner's table may still name one that has just been let go.
 * A holder that has not said it for so many times (REFUSALS), whyever, is not counted then, and another node gets a copy:
 * one too many at worst. Is there no other, it is asked again.
 *
 * PLACING asks as many targets at once as there are copies missing, each by a `leg`; one that fails is not asked again
 * before a rest. What has been counted is what the owner told and what targets have answered; whatever else becomes of
 * those copies is not this one's to see.
 *
 * Threads: the directory's loop; `lend_there`: the node's owner thread.
 */
#include "dir/copy_priv.h"

#include "dir/place.h"

#define TRIED_MAX   32u
#define REST_MIN_MS 10u
#define REST_MAX_MS 500u
#define LEG_MS      2000u /* a target may take so long, and a millisecond more for each 32 KiB */
#define LEG_SHIFT   15u
#define REFUSALS    5u /* with the rests between them, 0.3 s of one that answers at once: it may only have been busy */

enum state { QUEUED, FINDING, PLACING, RESTING, TELLING, LENDING };

struct dir_copies {
    struct dir_turns turns;
};

/* A holder that was asked to say that it keeps its copy, and did not. */
struct refusal {
    uint32_t member, times;
};

/* One target that was asked. */
struct leg {
    struct copy *copy;
    uint32_t member; /* YK_DIR_NOBODY: it is free */
};

struct copy {
    struct dir_job job;
    struct dir_turn turn;
    enum state state;
    void (*done)(void *arg, const struct dir_copy_end *end);
    void *arg;
    uint64_t epoch, hash, deadline_ns, rest_ns;
    uint32_t wanted, to, rest_ms;
    uint64_t gen;
    uint8_t here, xclass, room, marked, again; /* again: what failed may work later */
    uint8_t leave;
    uint8_t asked_to, no_guest; /* `to` was asked to keep its copy; the own copy is to stay what it is */
    uint32_t sure[YK_DIR_COPIES_MAX], sure_count; /* who has said that it keeps it, of those that let the own copy go */
    struct refusal refusal[YK_DIR_COPIES_MAX]; /* of them, too */
    uint32_t refusal_count;
    int left; /* how the own copy went */
    struct dir_ask *ask;
    struct yk_dir_found found; /* who has it; a target that has taken it comes in */
    struct yk_dir_mark mark;
    struct leg leg[YK_DIR_COPIES_MAX];
    uint32_t out; /* legs under way */
    uint32_t tried[TRIED_MAX], tried_count;
    int last; /* how the last leg failed */
    uint32_t ns_len, key_len;
    unsigned char bytes[]; /* namespace, key */
};

#define COPY(job) DIR_ITEM(job, struct copy, job)

static void find(struct copy *c);
static void place(struct copy *c);
static void leg_start(struct copy *c, uint32_t member);
static int was_tried(const struct copy *c, uint32_t member);

static struct yk_dir_key key_of(const struct copy *c) {
    return (struct yk_dir_key){(const char *)c->bytes, c->ns_len, c->bytes + c->ns_len, c->key_len};
}

static uint32_t left_ms(const struct copy *c, uint32_t most) {
    return c->job.dir->stopping ? 0 : dir_left_ms(c->deadline_ns, most);
}

/* ---- who has it ------------------------------------------------------------------------------------- */

static int counts(const struct yk_dir *d, const struct yk_dir_copy *copy) {
    return !(copy->tiers & YK_DIR_GUEST) && dir_is_live(d, copy->member, copy->incarnation);
}

static struct yk_dir_copy *copy_at(struct copy *c, uint32_t member) {
    for (uint32_t i = 0; i < c->found.count; i++)
        if (c->found.copy[i].member == member)
            return &c->found.copy[i];
    return NULL;
}

static int has(struct copy *c, uint32_t member) {
    const struct yk_dir_copy *copy = copy_at(c, member);
    return copy != NULL && counts(c->job.dir, copy);
}

/* ---- holders that do not say that they keep it ------------------------------------------------------- */

static struct refusal *refusal_of(struct copy *c, uint32_t member) {
    for (uint32_t i = 0; i < c->refusal_count; i++)
        if (c->refusal[i].member == member)
            return &c->refusal[i];
    return NULL;
}

static int refuses(const struct copy *c, uint32_t member) {
    for (uint32_t i = 0; i < c->refusal_count; i++)
        if (c->refusal[i].member == member)
            return c->refusal[i].times >= REFUSALS;
    return 0;
}

/* Of a move or a drain to whichever node: one that is named is waited for. */
static void note_refusal(struct copy *c, uint32_t member) {
    struct refusal *r = refusal_of(c, member);
    if (!c->leave || c->to != YK_DIR_NOBODY || !has(c, member))
        return;
    if (r == NULL && c->refusal_count < YK_DIR_COPIES_MAX) {
        r = &c->refusal[c->refusal_count++];
        *r = (struct refusal){member, 0};
    }
    if (r != NULL)
        r->times++;
}

/* Nobody else can take it: those who refused may have changed their mind. Returns whether there are any. */
static int relent(struct copy *c) {
    int any = c->refusal_count > 0;
    c->refusal_count = 0;
    return any;
}

/* ---- how many there are ------------------------------------------------------------------------------- */

/* Those on members that drain don't count: they are about to go, as is that of this node in a move or a drain. */
static uint32_t copies_of(const struct copy *c) {
    const struct yk_dir *d = c->job.dir;
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->found.count; i++)
        n += counts(d, &c->found.copy[i]) && !(c->leave && c->found.copy[i].member == d->self) &&
             !refuses(c, c->found.copy[i].member) && !yk_dir_map_member(d->map, c->found.copy[i].member)->draining;
    return n;
}

static int drains(const struct copy *c, uint32_t member) {
    const struct yk_dir_member *m = yk_dir_map_member(c->job.dir->map, member);
    return m != NULL && m->draining;
}

static int is_held(const struct copy *c) {
    for (uint32_t i = 0; i < c->found.count; i++)
        if (counts(c->job.dir, &c->found.copy[i]))
            return 1;
    return 0;
}

/* A member has it, as a copy that counts. Where there is no room for it, a guest's place is taken. */
static void add(struct copy *c, uint32_t member) {
    struct yk_dir *d = c->job.dir;
    const struct yk_dir_member *m = yk_dir_map_member(d->map, member);
    struct yk_dir_copy *at = copy_at(c, member);
    for (uint32_t i = 0; at == NULL && c->found.count == YK_DIR_COPIES_MAX && i < c->found.count; i++)
        if (!counts(d, &c->found.copy[i]))
            at = &c->found.copy[i];
    if (at == NULL && c->found.count < YK_DIR_COPIES_MAX)
        at = &c->found.copy[c->found.count++];
    if (at == NULL || m == NULL)
        return;
    *at = (struct yk_dir_copy){.member = member,
                               .tiers = yk_dir_told(1u << YK_TIER_DRAM, 0, c->wanted),
                               .incarnation = m->incarnation};
}

/* ---- end -------------------------------------------------------------------------------------------- */

static void start_queued(struct dir_copies *all);

static void end(struct copy *c, int status) {
    struct yk_dir *d = c->job.dir;
    struct dir_copies *all = d->copies;
    uint32_t copies = d->map != NULL ? copies_of(c) : 0;
    struct dir_copy_end e = {.status = status, .copies = copies, .bytes = c->found.len, .text = ""};
    if (status != 0 && c->last != 0)
        e.text = c->last == YK_MISS ? "it went while it was copied" : yk_status_text(c->last);
    else if (status == YK_FEWER)
        e.text = c->to != YK_DIR_NOBODY && !has(c, c->to) ? "the node is not there"
                 : c->room                                ? "no node has room for it"
                                                          : "there are not as many nodes";
    if (status == 0)
        d->n.copies_done++;
    else
        d->n.copies_failed++;
    d->n.copying--;
    dir_turns_end(&all->turns, &c->turn);
    c->done(c->arg, &e);
    free(c);
    start_queued(all);
}

/* Not all of it, and nobody is asked any more. */
static void end_short(struct copy *c) {
    int there = c->here || is_held(c);
    end(c, !there ? YK_MISS : left_ms(c, 1) == 0 && (!c->here || c->leave) ? -YK_ETIMEDOUT : YK_FEWER);
}

static void rest(struct copy *c) {
    c->state = RESTING;
    c->rest_ms = c->rest_ms == 0 ? REST_MIN_MS : c->rest_ms < REST_MAX_MS ? 2u * c->rest_ms : REST_MAX_MS;
    c->rest_ns = yk_now_ns() + c->rest_ms * YK_NS_PER_MS;
    dir_look_soon(c->job.dir);
}

/* ---- all are there ---------------------------------------------------------------------------------- */

static void lend_there(struct dir_job *job, struct yk_store *store) {
    struct copy *c = COPY(job);
    struct yk_err err;
    uint32_t ns;
    if (yk_store_ns_open(store, c->bytes, c->ns_len, 0, &ns, &err) == 0)
        (void)yk_store_pool_lend(store, ns, c->epoch, c->bytes + c->ns_len, c->key_len, c->gen);
}

static void lent(struct dir_job *job) {
    end(COPY(job), 0);
}

static void leave_there(struct dir_job *job, struct yk_store *store) {
    struct copy *c = COPY(job);
    struct yk_err err;
    uint32_t ns;
    c->left = yk_store_ns_open(store, c->bytes, c->ns_len, 0, &ns, &err);
    if (c->left == 0)
        c->left = yk_store_pool_leave(store, ns, c->epoch, c->bytes + c->ns_len, c->key_len, c->gen);
}

static void left_there(struct dir_job *job) {
    struct copy *c = COPY(job);
    c->last = job->closed ? -YK_ECLOSED : c->left;
    end(c, c->last == YK_MISS ? 0 : c->last); /* it went by itself: that is as good */
}

/* The last step: what becomes of this node's own copy. */
static void go(struct copy *c) {
    c->state = LENDING;
    c->job.there = c->leave == DIR_GOES ? leave_there : lend_there;
    c->job.back = c->leave == DIR_GOES ? left_there : lent;
    dir_to_node(c->job.dir, &c->job);
}

/* This node's own copy counts when its owners know of it, as the others' do. */
static void tell(struct copy *c) {
    struct yk_dir *d = c->job.dir;
    struct yk_dir_key key = key_of(c);
    c->state = TELLING;
    if (d->core == NULL) {
        dir_look_soon(d); /* it begins anew (join.c) */
        return;
    }
    if (!c->marked) {
        dir_changes_until_now(d);
        dir_tick_soon(d);
        if (!yk_dir_core_mark(d->core, &key, c->epoch, &c->mark)) {
            c->here = 0; /* it is gone: removed, or evicted */
            c->found.count = 0;
            c->last = YK_MISS;
            end(c, YK_MISS);
            return;
        }
        c->marked = 1;
    }
    int told = yk_dir_core_is_told(d->core, &c->mark);
    c->marked = told >= 0;
    if (told == 1)
        end(c, 0);
    else
        dir_look_soon(d);
}

/* How many have to say that they keep it before the own copy may go. */
static uint32_t enough(const struct copy *c) {
    return c->leave && c->to == YK_DIR_NOBODY && c->wanted > 1 ? c->wanted : 1;
}

/* Of a move or a drain: those that have it, and are there to stay, say so by a TAKE of this coordination; then the own copy may go. */
static void complete_move(struct copy *c) {
    const struct yk_dir *d = c->job.dir;
    for (uint32_t i = 0; i < c->found.count && c->sure_count + c->out < enough(c) && !c->no_guest; i++) {
        uint32_t member = c->found.copy[i].member;
        if (member != d->self && has(c, member) && !drains(c, member) && !was_tried(c, member) && (c->to == YK_DIR_NOBODY || member == c->to))
            leg_start(c, member);
    }
    if (c->out > 0)
        return; /* its answer leads back here */
    if (c->sure_count >= enough(c) && !c->no_guest)
        go(c);
    else if (!c->no_guest && c->again && left_ms(c, 1) > 0)
        rest(c);
    else
        end(c, c->no_guest ? -YK_EBUSY : c->last < 0 ? c->last : -YK_EAGAIN);
}

static void complete(struct copy *c) {
    const struct yk_dir *d = c->job.dir;
    if (c->leave) {
        complete_move(c);
        return;
    }
    int spare = c->here && c->to != YK_DIR_NOBODY && c->to != d->self && copies_of(c) > c->wanted && !c->no_guest;
    if (spare && !c->asked_to) {
        leg_start(c, c->to);
        if (c->out > 0)
            return; /* its answer leads back here */
    }
    if (spare && c->sure_count > 0) {
        go(c);
    } else if (c->here) {
        tell(c);
    } else {
        end(c, 0);
    }
}

void dir_copies_keep(struct yk_dir *d, const struct yk_dir_key *key, uint64_t hash) {
    if (d->copies == NULL)
        return;
    for (struct dir_link *busy = &d->copies->turns.busy, *l = busy->next; l != busy; l = l->next) {
        struct copy *c = DIR_ITEM(l, struct copy, turn.at);
        if (c->hash == hash && c->key_len == key->key_len && memcmp(c->bytes + c->ns_len, key->key, c->key_len) == 0)
            c->no_guest = 1;
    }
}

/* ---- targets ---------------------------------------------------------------------------------------- */

/* After a rest one may be asked again, and counts once. */
static void add_sure(struct copy *c, uint32_t member) {
    for (uint32_t i = 0; i < c->sure_count; i++)
        if (c->sure[i] == member)
            return;
    if (c->sure_count < YK_DIR_COPIES_MAX)
        c->sure[c->sure_count++] = member;
}

static void leg_end(struct leg *leg, int status) {
    struct copy *c = leg->copy;
    uint32_t member = leg->member;
    leg->member = YK_DIR_NOBODY;
    c->out--;
    if (status == 0) {
        add(c, member);
        if (!(c->leave && drains(c, member)) &&
            (member == c->to || (c->leave && c->to == YK_DIR_NOBODY && member != c->job.dir->self)))
            add_sure(c, member);
    } else {
        note_refusal(c, member);
        c->last = status > 0 ? YK_MISS : status;
        c->again |= status != -YK_ETOOBIG && status != -YK_ENOTSUP;
    }
    if (c->state == PLACING)
        place(c);
}

static void leg_taken(void *arg, int status) {
    leg_end(arg, status);
}

static void leg_answered(void *user, int status, const void *body, uint32_t len) {
    struct yk_rd r;
    yk_rd_init(&r, body, len);
    if (status == 0)
        status = (int32_t)yk_rd_u32(&r);
    leg_end(user, r.bad ? -YK_EPROTO : status);
}

static int leg_send(struct copy *c, struct leg *leg, uint32_t member) {
    unsigned char body[YK_DIR_TAKE_BYTES_MAX];
    struct yk_dir *d = c->job.dir;
    uint64_t more = c->found.len >> LEG_SHIFT;
    struct yk_dirw_take want = {.ns = {c->bytes, c->ns_len},
                                .key = {c->bytes + c->ns_len, c->key_len},
                                .epoch = c->epoch,
                                .timeout_ms = left_ms(c, LEG_MS + (uint32_t)(more < UINT32_MAX / 2u ? more : 0)),
                                .wanted = (uint8_t)(c->wanted > 0 ? c->wanted : 1u),
                                .xclass = c->xclass};
    struct yk_wr w;
    dir_found_to_wire(&c->found, &want.found);
    if (member == d->self)
        return dir_take_start(d, &want, leg_taken, leg);
    yk_wr_init(&w, body, sizeof(body));
    yk_wr_dir_take(&w, &want);
    return dir_peers_ask(d, member, YK_DIR_TAKE, &w, want.timeout_ms, leg_answered, leg);
}

static void leg_start(struct copy *c, uint32_t member) {
    struct leg *leg = c->leg;
    while (leg->member != YK_DIR_NOBODY)
        leg++;
    *leg = (struct leg){c, member};
    c->asked_to |= member == c->to;
    c->tried[c->tried_count++ % TRIED_MAX] = member;
    c->out++;
    int rc = leg_send(c, leg, member);
    if (rc == 0)
        return;
    leg->member = YK_DIR_NOBODY;
    c->out--;
    note_refusal(c, member);
    c->last = rc;
    c->again = 1;
}

static int was_tried(const struct copy *c, uint32_t member) {
    for (uint32_t i = 0; i < c->tried_count && i < TRIED_MAX; i++)
        if (c->tried[i] == member)
            return 1;
    return 0;
}

/* What this node knows of a member that may take it; 0: it may not. */
static int candidate(struct copy *c, const struct yk_dir_member *m, struct yk_dir_place_node *ret) {
    const struct yk_dir *d = c->job.dir;
    const struct dir_peer *p = dir_peer_of(d, m->id);
    if (m->state != YK_DIR_MEMBER || p == NULL || p->gone || p->say.incarnation != m->incarnation || has(c, m->id) ||
        was_tried(c, m->id) || (m->id != d->self && dir_suspect(d, m->id)))
        return 0;
    *ret = (struct yk_dir_place_node){.id = m->id,
                                      .zone = p->say.zone,
                                      .capacity_bytes = p->say.capacity_bytes,
                                      .held_bytes = p->say.load.held_bytes,
                                      .lookups_per_s = p->say.load.lookups_per_s};
    return 1;
}

/* Zones of the copies that there are, and of those under way. */
static uint32_t zones_of(const struct copy *c, const char **zones) {
    const struct yk_dir *d = c->job.dir;
    uint32_t n = 0;
    for (uint32_t i = 0; i < YK_DIR_COPIES_MAX; i++) {
        const struct dir_peer *p = c->leg[i].member != YK_DIR_NOBODY ? dir_peer_of(d, c->leg[i].member) : NULL;
        const struct yk_dir_copy *f = i < c->found.count ? &c->found.copy[i] : NULL;
        const struct dir_peer *q = f != NULL && counts(d, f) ? dir_peer_of(d, f->member) : NULL;
        if (p != NULL)
            zones[n++] = p->say.zone;
        if (q != NULL)
            zones[n++] = q->say.zone;
    }
    return n;
}

/* YK_DIR_NOBODY: there is none. */
static uint32_t choose(struct copy *c) {
    struct yk_dir *d = c->job.dir;
    struct yk_dir_place_node one, *nodes = NULL;
    const char *zones[2u * YK_DIR_COPIES_MAX];
    uint32_t n = 0, best = YK_DIR_NOBODY;
    if (c->tried_count >= TRIED_MAX)
        return YK_DIR_NOBODY; /* a rest, before the first of them is asked again */
    if (c->to != YK_DIR_NOBODY && !has(c, c->to) && !was_tried(c, c->to)) {
        const struct yk_dir_member *m = yk_dir_map_member(d->map, c->to);
        return m != NULL && candidate(c, m, &one) ? c->to : YK_DIR_NOBODY;
    }
    nodes = malloc((d->map->member_count + 1u) * sizeof(*nodes));
    for (uint32_t i = 0; nodes != NULL && i < d->map->member_count; i++)
        if (!d->map->member[i].draining && candidate(c, &d->map->member[i], &nodes[n]))
            n += !c->room || yk_dir_place_fits(&nodes[n], c->found.len);
    int at = n > 0 ? yk_dir_place(nodes, n, zones, zones_of(c, zones), c->hash, c->found.len) : -1;
    if (at >= 0)
        best = nodes[at].id;
    free(nodes);
    return best;
}

/* How many more are to be asked now. */
static uint32_t missing(struct copy *c) {
    uint32_t copies = copies_of(c);
    uint32_t more = copies < c->wanted ? c->wanted - copies : 0;
    if (more == 0 && c->to != YK_DIR_NOBODY && !has(c, c->to))
        more = 1;
    return more > c->out ? more - c->out : 0;
}

static void place(struct copy *c) {
    c->state = PLACING;
    for (uint32_t n = missing(c); n > 0 && left_ms(c, 1) > 0 && c->out < YK_DIR_COPIES_MAX; n = missing(c)) {
        uint32_t member = choose(c);
        if (member == YK_DIR_NOBODY && c->to != YK_DIR_NOBODY && !was_tried(c, c->to) && !has(c, c->to)) {
            c->tried[c->tried_count++ % TRIED_MAX] = c->to; /* it is not there: the others go on */
            continue;
        }
        if (member == YK_DIR_NOBODY || (was_tried(c, c->to) && copies_of(c) + c->out >= c->wanted))
            break;
        leg_start(c, member);
    }
    if (c->out > 0)
        return;
    if (copies_of(c) >= c->wanted && (c->to == YK_DIR_NOBODY || has(c, c->to)))
        complete(c);
    else if ((c->again || relent(c)) && left_ms(c, 1) > 0)
        rest(c);
    else
        end_short(c);
}

/* ---- finding ---------------------------------------------------------------------------------------- */

/* What this node has put may not be known there yet; or it is known here that it has gone again. */
static void add_own(struct copy *c) {
    struct yk_dir *d = c->job.dir;
    struct yk_dir_key key = key_of(c);
    dir_changes_until_now(d);
    uint64_t group = d->core != NULL ? yk_dir_core_group(d->core, &key, c->epoch) : 0;
    if (group == 0) {
        c->here = 0;
        return;
    }
    if (c->found.status != 0)
        c->found = (struct yk_dir_found){.status = 0, .group = group, .epoch = c->epoch};
    add(c, d->self);
}

static void found(struct dir_ask *a) {
    struct copy *c = a->arg;
    c->found = a->key[0].found;
    c->ask = NULL;
    dir_ask_free(a);
    if (c->found.status != 0)
        c->found.count = 0;
    if (c->here)
        add_own(c);
    c->tried_count = 0;
    c->again = 0;
    if (c->leave)
        c->sure_count = 0; /* whoever said it before the rest may be gone: all say it again */
    if (c->leave && !c->here)
        end(c, YK_MISS); /* the own copy has gone by itself */
    else if (c->found.count > 0)
        place(c);
    else if (c->found.status == -YK_EAGAIN && left_ms(c, 1) > 0)
        rest(c);
    else
        end_short(c);
}

static void find(struct copy *c) {
    struct dir_ask *a = dir_ask_new(c->job.dir, 1);
    c->state = FINDING;
    if (a == NULL || c->job.dir->map == NULL) {
        dir_ask_free(a);
        rest(c);
        return;
    }
    c->ask = a;
    a->arg = c;
    a->done = found;
    a->epoch = c->epoch;
    a->deadline_ns = c->deadline_ns;
    a->ns_len = c->ns_len;
    memcpy(a->ns, c->bytes, c->ns_len);
    a->key[0].key = c->bytes + c->ns_len;
    a->key[0].key_len = c->key_len;
    dir_ask_start(a);
}

/* ---- beginning, time -------------------------------------------------------------------------------- */

static void first_turn(struct dir_job *job) {
    find(COPY(job));
}

/* By a job of its own: whoever starts one never sees it end meanwhile. */
static void start_queued(struct dir_copies *all) {
    for (struct dir_turn *t; (t = dir_turns_next(&all->turns)) != NULL;) {
        struct copy *c = DIR_ITEM(t, struct copy, turn);
        c->state = FINDING;
        c->job.back = first_turn;
        dir_to_loop(c->job.dir, &c->job);
    }
}

int dir_copy_start(struct yk_dir *d, const struct dir_copy_want *want,
                   void (*done)(void *arg, const struct dir_copy_end *end), void *arg) {
    if (d->copies == NULL && (d->copies = calloc(1, sizeof(*d->copies))) != NULL)
        dir_turns_init(&d->copies->turns, DIR_COPIES_MAX, DIR_COPIES_BUSY);
    if (d->copies == NULL || d->core == NULL || d->stopping)
        return -YK_EAGAIN;
    struct copy *c = calloc(1, sizeof(*c) + want->key.ns_len + want->key.key_len);
    if (c == NULL)
        return -YK_ENOMEM;
    if (dir_turns_add(&d->copies->turns, &c->turn, want->xclass > YK_XFER_DEMAND) < 0) {
        free(c);
        return -YK_EAGAIN;
    }
    c->job.dir = d;
    c->done = done;
    c->arg = arg;
    c->epoch = want->epoch;
    c->deadline_ns = want->deadline_ns;
    c->wanted = want->wanted;
    c->to = want->to;
    c->here = want->here;
    c->gen = want->gen;
    c->leave = want->leave;
    c->xclass = want->xclass;
    c->room = want->room;
    c->ns_len = want->key.ns_len;
    c->key_len = want->key.key_len;
    memcpy(c->bytes, want->key.ns, c->ns_len);
    memcpy(c->bytes + c->ns_len, want->key.key, c->key_len);
    c->hash = yk_dir_hash(want->key.ns, want->key.ns_len, want->key.key, want->key.key_len);
    d->n.copies++;
    d->n.copying++;
    start_queued(d->copies);
    dir_look_soon(d);
    return 0;
}

static void end_overdue(struct dir_link *queued) {
    for (struct dir_link *l = queued->next, *next; l != queued; l = next) {
        struct copy *c = DIR_ITEM(l, struct copy, turn.at);
        next = l->next;
        if (left_ms(c, 1) == 0)
            end_short(c);
    }
}

/* Questions and legs end by themselves. */
uint32_t dir_copies_look(struct yk_dir *d, uint64_t now_ns) {
    struct dir_copies *all = d->copies;
    if (all == NULL)
        return 0;
    for (struct dir_link *l = all->turns.busy.next, *next; l != &all->turns.busy; l = next) {
        struct copy *c = DIR_ITEM(l, struct copy, turn.at);
        next = l->next;
        int over = left_ms(c, 1) == 0;
        if (over && (c->state == RESTING || c->state == TELLING))
            end_short(c);
        else if (c->state == RESTING && c->rest_ns <= now_ns)
            find(c);
        else if (c->state == TELLING)
            tell(c);
    }
    for (unsigned later = 0; later < 2; later++)
        end_overdue(&all->turns.queued[later]);
    return all->turns.count;
}

/* ---- a client's put --------------------------------------------------------------------------------- */

struct put {
    struct dir_job job;
    struct yk_pool_copies want; /* its pointers lead into `bytes` */
    int status;
    uint8_t fewer; /* the preferred node has never been there */
    unsigned char bytes[];
};

#define PUT(job) DIR_ITEM(job, struct put, job)

static void put_tell(struct dir_job *job, struct yk_store *store) {
    const struct put *p = PUT(job);
    (void)store;
    yk_node_pool_removed(job->dir->node, p->want.token, p->status);
}

static void put_told(struct dir_job *job) {
    __atomic_fetch_sub(&job->dir->wish_count, 1, __ATOMIC_RELAXED);
    free(PUT(job));
}

/* The block is there, whatever became of the others. */
static void put_end(struct put *p, int status) {
    p->status = status == 0 && !p->fewer ? 0 : YK_FEWER;
    p->job.there = put_tell;
    p->job.back = put_told;
    dir_to_node(p->job.dir, &p->job);
}

static void put_copied(void *arg, const struct dir_copy_end *e) {
    put_end(arg, e->status);
}

static void put_begin(struct dir_job *job) {
    struct put *p = PUT(job);
    struct yk_dir *d = job->dir;
    char name[YK_DIR_NAME_MAX + 1] = "";
    struct dir_copy_want want = {.key = {p->want.ns, p->want.ns_len, p->want.key, p->want.key_len},
                                 .epoch = p->want.epoch,
                                 .wanted = p->want.copies,
                                 .here = 1,
                                 .gen = p->want.gen,
                                 .xclass = YK_XFER_DEMAND,
                                 .deadline_ns = p->want.deadline_ns};
    if (p->want.prefer_len > 0 && p->want.prefer_len <= YK_DIR_NAME_MAX && d->map != NULL) {
        memcpy(name, p->want.prefer, p->want.prefer_len);
        const struct yk_dir_member *m = yk_dir_map_named(d->map, name);
        want.to = m != NULL ? m->id : YK_DIR_NOBODY;
    }
    p->fewer = p->want.prefer_len > 0 && want.to == YK_DIR_NOBODY;
    if (dir_copy_start(d, &want, put_copied, p) < 0)
        put_end(p, YK_FEWER);
}

struct dir_job *dir_copy_wish(struct yk_dir *d, const struct yk_pool_copies *want) {
    struct put *p = malloc(sizeof(*p) + want->ns_len + want->prefer_len + want->key_len);
    if (p == NULL)
        return NULL;
    memset(p, 0, sizeof(*p));
    p->want = *want;
    unsigned char *at = p->bytes;
    p->want.ns = (const char *)memcpy(at, want->ns, want->ns_len);
    at += want->ns_len;
    p->want.key = memcpy(at, want->key, want->key_len);
    at += want->key_len;
    p->want.prefer = (const char *)at;
    if (want->prefer_len > 0)
        memcpy(at, want->prefer, want->prefer_len);
    p->job = (struct dir_job){.dir = d, .back = put_begin};
    return &p->job;
}

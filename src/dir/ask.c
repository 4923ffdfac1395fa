/* SPDX-License-Identifier: Apache-2.0
 *
 * Where are these keys? (docs/decisions/0014 "What is looked up", 0016 "Where a key's things stand".)
 *
 * Rounds: each key that is still open is asked for in a slot, all keys for one owner in one question, own slots
 * without a message; what the answers say decides the next round.
 *
 *   OPEN --owner asked--> OUT --answer--> ENDED        found; nowhere; nobody can tell now
 *    ^                     |  alias: the group's slot; a guessed group's slot has it not: its own slot
 *    +---------------------+
 *    |   the slot is not whole, its owner does not answer, or is not the owner any more and knows of no other (else that
 *    |   one is asked: its map is newer, and this node's comes by the watch)
 *    +--> NODES_OPEN --up to 16 nodes asked, 20 ms--> ENDED (R12)
 *
 * Keys of a chain are all asked for in the slot of the chain's group, as far as it is known: first that of
 * the first key's own hash, then, at the first that is missing there, its own. So a chain asks few owners (R13),
 * and ends at the first key that is nowhere.
 *
 * Copies count only where the map names a member in that incarnation.
 *
 * Threads: the directory's loop.
 */
#include "dir/dir_priv.h"

#define CHAIN_ROUNDS 4u /* for what is not in the group's slot; then each key is asked for in its own */
#define ROUNDS_MAX   9u
#define HOPS_MAX     3u

struct question {
    struct dir_ask *ask;
    uint32_t to; /* member */
    int have;
    uint32_t count;
    uint32_t at[]; /* keys */
};

struct dir_ask *dir_ask_new(struct yk_dir *d, uint32_t count) {
    struct dir_ask *a = calloc(1, sizeof(*a) + count * sizeof(a->key[0]));
    if (a == NULL)
        return NULL;
    a->dir = d;
    a->count = count;
    dir_list_init(&a->all);
    return a;
}

void dir_ask_free(struct dir_ask *a) {
    dir_list_remove(&a->all);
    free(a);
}

static struct yk_dir_key key_of(const struct dir_ask *a, const struct dir_ask_key *k) {
    return (struct yk_dir_key){.ns = a->ns, .ns_len = a->ns_len, .key = k->key, .key_len = k->key_len};
}

/* As a question names it: of a key that is asked for in its own slot none is known, and an alias may say it. */
static uint64_t group_of(const struct dir_ask_key *k) {
    return k->group != k->hash ? k->group : 0;
}

static void end_key(struct dir_ask_key *k, int status) {
    k->state = DIR_ASK_ENDED;
    k->found.status = status;
}

/* ---- answers ---------------------------------------------------------------------------------------- */

/* Copies on members that live; none left is a miss. */
static void keep_live(const struct yk_dir *d, struct yk_dir_found *f) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < f->count; i++)
        if (dir_is_live(d, f->copy[i].member, f->copy[i].incarnation))
            f->copy[n++] = f->copy[i];
    f->count = n;
    if (f->status == 0 && n == 0)
        f->status = YK_MISS;
}

/* The slot of its group has it not: in a slot that was guessed the key is asked for by its own hash. */
static void take_miss(struct dir_ask *a, struct dir_ask_key *k) {
    if (k->group == k->hash || k->hops >= HOPS_MAX) {
        end_key(k, YK_MISS);
        return;
    }
    k->hops++;
    k->group = k->hash;
    k->state = DIR_ASK_OPEN;
}

static void take_alias(struct dir_ask *a, struct dir_ask_key *k, uint64_t group) {
    if (group == 0 || group == k->group || k->hops >= HOPS_MAX) {
        end_key(k, YK_MISS);
        return;
    }
    k->hops = HOPS_MAX; /* where an alias leads is the last place */
    k->group = group;
    k->state = DIR_ASK_OPEN;
}

/* 1: the answerer's map is newer than this node's, and names another owner: that one is asked. */
static int take_owner(const struct dir_ask *a, struct dir_ask_key *k, const struct yk_dir_found *f, int newer) {
    if (!newer || f->group == YK_DIR_NOBODY || f->group > UINT32_MAX || f->group == a->dir->self || k->hops >= HOPS_MAX)
        return 0;
    k->hops++;
    k->sent_on = (uint32_t)f->group;
    k->state = DIR_ASK_OPEN;
    return 1;
}

/* newer: whoever says it has a newer map. */
static void take_found(struct dir_ask *a, struct dir_ask_key *k, const struct yk_dir_found *f, int newer) {
    uint64_t group = k->group;
    switch (f->status) {
    case 0:
        k->found = *f;
        keep_live(a->dir, &k->found);
        if (k->found.status == 0) {
            struct yk_dir_key key = key_of(a, k);
            k->state = DIR_ASK_ENDED;
            k->found.group = group;
            dir_cache_put(a->dir, &key, a->epoch, k->hash, &k->found);
            return;
        }
        take_miss(a, k);
        return;
    case YK_MISS:
        take_miss(a, k);
        return;
    case -YK_EAGAIN:
        if (f->group != 0) {
            take_alias(a, k, f->group);
            return;
        }
        break;
    case -YK_EGONE:
        if (take_owner(a, k, f, newer))
            return;
        break;
    default:
        break;
    }
    k->state = DIR_ASK_NODES_OPEN; /* not whole, not the owner, or nothing that can be used */
}

/* What another node has itself, beside what others have answered. */
static void take_have(struct dir_ask_key *k, const struct yk_dirw_have *h, uint32_t member, uint64_t incarnation,
                      uint64_t epoch) {
    struct yk_dir_found *f = &k->found;
    if (h->status != 0 || f->count == YK_DIR_COPIES_MAX || (f->count > 0 && f->sum != h->sum))
        return;
    f->len = h->len;
    f->sum = h->sum;
    f->epoch = epoch;
    f->copy[f->count++] =
        (struct yk_dir_copy){.member = member, .tiers = h->tiers, .incarnation = incarnation, .gen = h->gen};
}

/* ---- rounds ----------------------------------------------------------------------------------------- */

static void turn(struct dir_ask *a);

static void question_failed(const struct question *q) {
    for (uint32_t i = 0; i < q->count && !q->have; i++)
        q->ask->key[q->at[i]].state = DIR_ASK_NODES_OPEN;
}

void dir_found_from_wire(const struct yk_dirw_found *from, struct yk_dir_found *to) {
    memset(to, 0, sizeof(*to));
    to->status = from->status;
    to->group = from->group;
    to->epoch = from->epoch;
    to->len = from->len;
    to->sum = from->sum;
    to->count = from->count < YK_DIR_COPIES_MAX ? from->count : YK_DIR_COPIES_MAX;
    for (uint32_t i = 0; i < to->count; i++)
        to->copy[i] = (struct yk_dir_copy){.member = from->copy[i].member,
                                           .tiers = from->copy[i].tiers,
                                           .incarnation = from->copy[i].incarnation,
                                           .gen = from->copy[i].gen};
}

/* An answer is taken whole or, where it cannot be read, not at all. */
static int read_answer(const struct question *q, struct yk_rd r, int use) {
    struct dir_ask *a = q->ask;
    const struct dir_peer *p = dir_peer_of(a->dir, q->to);
    int newer = !q->have && yk_rd_u64(&r) > a->dir->map->version;
    if (yk_rd_u32(&r) != q->count)
        return -YK_EPROTO;
    for (uint32_t i = 0; i < q->count; i++) {
        struct dir_ask_key *k = &a->key[q->at[i]];
        struct yk_dirw_found wire;
        struct yk_dirw_have have;
        struct yk_dir_found found;
        if (q->have) {
            yk_rd_dir_have(&r, &have);
            if (use && p != NULL)
                take_have(k, &have, q->to, p->say.incarnation, a->epoch);
            continue;
        }
        yk_rd_dir_found(&r, &wire);
        dir_found_from_wire(&wire, &found);
        if (use)
            take_found(a, k, &found, newer);
    }
    return yk_rd_ok(&r) ? 0 : -YK_EPROTO;
}

static void on_reply(void *user, int status, const void *body, uint32_t len) {
    struct question *q = user;
    struct dir_ask *a = q->ask;
    struct yk_rd r;
    yk_rd_init(&r, body, len);
    if (status < 0 || read_answer(q, r, 0) < 0)
        question_failed(q);
    else
        (void)read_answer(q, r, 1);
    free(q);
    if (--a->out == 0)
        turn(a);
}

/* All keys in that state (for that owner), in one question. */
static struct question *question_new(struct dir_ask *a, uint32_t to, enum dir_ask_state state) {
    struct question *q = malloc(sizeof(*q) + a->count * sizeof(q->at[0]));
    if (q == NULL)
        return NULL;
    *q = (struct question){.ask = a, .to = to, .have = state == DIR_ASK_NODES_OPEN};
    for (uint32_t i = 0; i < a->count; i++)
        if (a->key[i].state == state && (q->have || a->key[i].owner == to))
            q->at[q->count++] = i;
    return q;
}

static int question_send(struct question *q, uint32_t timeout_ms) {
    struct dir_ask *a = q->ask;
    struct yk_dirw_keys head = {.ns = {a->ns, a->ns_len}, .epoch = a->epoch, .n = q->count};
    size_t cap = 512u + q->count * (8u + 256u);
    void *body = malloc(cap);
    struct yk_wr w;
    if (body == NULL)
        return -YK_ENOMEM;
    yk_wr_init(&w, body, cap);
    yk_wr_dir_keys(&w, &head);
    for (uint32_t i = 0; i < q->count; i++) {
        const struct dir_ask_key *k = &a->key[q->at[i]];
        if (!q->have)
            yk_wr_u64(&w, group_of(k));
        yk_wr_str8(&w, k->key, k->key_len);
    }
    int rc = dir_peers_ask(a->dir, q->to, q->have ? YK_DIR_HAVE : YK_DIR_FIND, &w, timeout_ms, on_reply, q);
    free(body);
    return rc;
}

static void ask_owner(struct dir_ask *a, uint32_t owner) {
    struct question *q = question_new(a, owner, DIR_ASK_OUT);
    uint32_t ms = dir_left_ms(a->deadline_ns, DIR_OWNER_MS);
    if (q != NULL && ms > 0 && !dir_suspect(a->dir, owner) && question_send(q, ms) == 0) {
        a->dir->n.questions++;
        a->out++;
        return;
    }
    for (uint32_t i = 0; i < a->count; i++)
        if (a->key[i].state == DIR_ASK_OUT && a->key[i].owner == owner)
            a->key[i].state = DIR_ASK_NODES_OPEN;
    free(q);
}

static void ask_own(struct dir_ask *a, struct dir_ask_key *k) {
    struct yk_dir_key key = key_of(a, k);
    struct yk_dir_found f;
    memset(&f, 0, sizeof(f));
    f.status = -YK_EGONE;
    if (a->dir->core != NULL)
        yk_dir_core_find(a->dir->core, &key, a->epoch, group_of(k), &f);
    take_found(a, k, &f, 0);
}

/* Asks for all that are open; what this node owns is answered at once, and may open again. */
static void ask_owners(struct dir_ask *a) {
    const struct yk_dir *d = a->dir;
    for (uint32_t i = 0; i < a->count; i++) {
        struct dir_ask_key *k = &a->key[i];
        for (uint32_t hop = 0; k->state == DIR_ASK_OPEN && hop <= HOPS_MAX; hop++) {
            uint32_t owner = k->sent_on != YK_DIR_NOBODY ? k->sent_on : d->map->slot[yk_dir_slot_of(k->group)].owner;
            k->sent_on = YK_DIR_NOBODY;
            k->owner = owner;
            if (owner == d->self)
                ask_own(a, k);
            else
                k->state = owner == YK_DIR_NOBODY ? DIR_ASK_NODES_OPEN : DIR_ASK_OUT;
        }
    }
    for (uint32_t i = 0; i < a->count; i++) {
        uint32_t owner = a->key[i].owner;
        int first = a->key[i].state == DIR_ASK_OUT;
        for (uint32_t j = 0; j < i && first; j++)
            first = a->key[j].state != DIR_ASK_OUT || a->key[j].owner != owner;
        if (first)
            ask_owner(a, owner);
    }
}

/* R12: nodes themselves, few and briefly. */
static void ask_nodes(struct dir_ask *a) {
    struct yk_dir *d = a->dir;
    uint32_t ms = dir_left_ms(a->deadline_ns, DIR_ASK_MS), asked = 0;
    a->nodes_asked = 1;
    for (uint32_t i = 0; i < d->peer_count && ms > 0 && asked < DIR_ASK_NODES; i++) {
        const struct dir_peer *p = d->peer[i];
        if (p->say.id == d->self || !dir_is_live(d, p->say.id, p->say.incarnation) ||
            dir_suspect(d, p->say.id))
            continue;
        struct question *q = question_new(a, p->say.id, DIR_ASK_NODES_OPEN);
        if (q != NULL && question_send(q, ms) == 0) {
            a->out++;
            asked++;
        } else {
            free(q);
        }
    }
}

/* After the nodes were asked: what nobody has is a miss. */
static void end_nodes(struct dir_ask *a) {
    for (uint32_t i = 0; i < a->count; i++)
        if (a->key[i].state == DIR_ASK_NODES_OPEN)
            end_key(&a->key[i], a->key[i].found.count > 0 ? 0 : YK_MISS);
    a->nodes_asked = 0;
}

static uint32_t count_in(const struct dir_ask *a, enum dir_ask_state state) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < a->count; i++)
        n += a->key[i].state == state;
    return n;
}

/* A chain: what follows the first that is nowhere is not wanted; what is missing in the group's slot so far is asked
 * for in that of the first of them. */
static void turn_chain(struct dir_ask *a) {
    uint32_t i = 0;
    while (i < a->count && a->key[i].state == DIR_ASK_ENDED && a->key[i].found.status == 0)
        i++;
    if (i == a->count)
        return;
    struct dir_ask_key *first = &a->key[i];
    uint64_t group = first->group;
    for (; i < a->count; i++) {
        struct dir_ask_key *k = &a->key[i];
        if (first->state == DIR_ASK_ENDED) {
            end_key(k, YK_MISS);
        } else if (k->state == DIR_ASK_OPEN || (k->state == DIR_ASK_ENDED && k->found.status != 0)) {
            k->state = DIR_ASK_OPEN;
            k->group = a->rounds < CHAIN_ROUNDS ? group : k->hash;
            k->hops = 0;
        }
    }
}

static void turn(struct dir_ask *a) {
    if (a->starting)
        return;
    for (;;) {
        if (a->nodes_asked)
            end_nodes(a);
        if (a->chain && a->rounds <= CHAIN_ROUNDS)
            turn_chain(a);
        int over = a->rounds++ >= ROUNDS_MAX || dir_left_ms(a->deadline_ns, 1) == 0;
        for (uint32_t i = 0; i < a->count; i++)
            if (over && a->key[i].state != DIR_ASK_ENDED)
                end_key(&a->key[i], -YK_EAGAIN);
        if (count_in(a, DIR_ASK_ENDED) == a->count)
            break;
        a->starting = 1; /* answers that come at once wait for all to be asked */
        if (count_in(a, DIR_ASK_OPEN) > 0)
            ask_owners(a);
        else
            ask_nodes(a);
        a->starting = 0;
        if (a->out > 0)
            return;
    }
    a->done(a);
}

void dir_ask_start(struct dir_ask *a) {
    struct yk_dir *d = a->dir;
    dir_list_add(&d->asks, &a->all);
    d->n.asks++;
    d->n.ask_keys += a->count;
    for (uint32_t i = 0; i < a->count; i++) {
        struct dir_ask_key *k = &a->key[i];
        k->hash = yk_dir_hash(a->ns, a->ns_len, k->key, k->key_len);
        if (k->group == 0)
            k->group = a->chain && i > 0 ? a->key[0].group : k->hash;
    }
    turn(a);
}

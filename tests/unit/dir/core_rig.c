/* SPDX-License-Identifier: Apache-2.0
 *
 * core_rig.h.
 */
#include "core_rig.h"

struct rig_key rig_key[KEYS];
uint32_t rig_slot[SLOTS];
const char rig_ns[] = "space";

struct yk_dir_key rig_key_of(int k) {
    return (struct yk_dir_key){rig_ns, sizeof(rig_ns) - 1, rig_key[k].name, (uint32_t)strlen(rig_key[k].name)};
}

static int rig_is_slot(uint32_t slot) {
    for (int i = 0; i < SLOTS; i++)
        if (rig_slot[i] == slot)
            return 1;
    return 0;
}

static void rig_choose_keys(void) {
    unsigned n = 0;
    for (int k = 0; k < KEYS; k++) {
        do {
            snprintf(rig_key[k].name, sizeof(rig_key[k].name), "key-%u", n++);
            rig_key[k].hash = yk_dir_hash(rig_ns, sizeof(rig_ns) - 1, rig_key[k].name, (uint32_t)strlen(rig_key[k].name));
            rig_key[k].slot = yk_dir_slot_of(rig_key[k].hash);
        } while (k < SLOTS ? rig_is_slot(rig_key[k].slot) : rig_key[k].slot != rig_slot[k % SLOTS]);
        if (k < SLOTS)
            rig_slot[k] = rig_key[k].slot;
        rig_key[k].group = k % 3 == 2 ? rig_key[k - 1].hash : rig_key[k].hash;
    }
}

uint64_t rig_random(struct rig *r, uint64_t below) {
    uint64_t x = r->random += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    x ^= x >> 31;
    return below == 0 ? 0 : x % below;
}

/* ---- events --------------------------------------------------------------------------------------- */

static int rig_before(const struct event *a, const struct event *b) {
    return a->at_ms != b->at_ms ? a->at_ms < b->at_ms : a->order < b->order;
}

void rig_push(struct rig *r, struct event *e) {
    if (r->heap_len == r->heap_cap) {
        r->heap_cap = r->heap_cap * 2 + 64;
        r->heap = realloc(r->heap, r->heap_cap * sizeof(*r->heap));
    }
    size_t i = r->heap_len++;
    while (i > 0 && rig_before(e, r->heap[(i - 1) / 2])) {
        r->heap[i] = r->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    r->heap[i] = e;
}

struct event *rig_pop(struct rig *r) {
    struct event *first = r->heap[0], *last = r->heap[--r->heap_len];
    size_t i = 0;
    for (size_t c; (c = 2 * i + 1) < r->heap_len; i = c) {
        if (c + 1 < r->heap_len && rig_before(r->heap[c + 1], r->heap[c]))
            c++;
        if (!rig_before(r->heap[c], last))
            break;
        r->heap[i] = r->heap[c];
    }
    if (r->heap_len > 0)
        r->heap[i] = last;
    return first;
}

struct event *rig_event(struct rig *r, uint64_t in_ms, enum event_kind kind, int node) {
    struct event *e = calloc(1, sizeof(*e));
    *e = (struct event){
        .at_ms = r->now_ms + in_ms, .order = ++r->order, .kind = kind, .node = node, .life = r->node[node].life};
    return e;
}

void rig_at(struct rig *r, uint64_t in_ms, enum event_kind kind, int node) {
    rig_push(r, rig_event(r, in_ms, kind, node));
}

/* ---- what cores ask for ----------------------------------------------------------------------------- */

struct rig_arg {
    struct rig *rig;
    int node;
};
static struct rig_arg rig_args[NODES + 1];

static void rig_send_one(struct rig *r, int from, uint32_t to, const void *message, uint32_t len) {
    struct event *e = rig_event(r, 1 + rig_random(r, r->quiet ? 2 : r->delay_ms), DELIVER, (int)to);
    if (r->fifo && e->at_ms < r->stream_ms[from][to])
        e->at_ms = r->stream_ms[from][to];
    r->stream_ms[from][to] = e->at_ms;
    e->from = from;
    e->incarnation = r->node[from].core->me->incarnation;
    e->life = 0; /* the next life may get it, too */
    e->len = len;
    e->bytes = malloc(len);
    memcpy(e->bytes, message, len);
    rig_push(r, e);
}

static void rig_send(void *arg, uint32_t to, const void *message, uint32_t len) {
    struct rig_arg *a = arg;
    struct rig *r = a->rig;
    unsigned kind = ((const unsigned char *)message)[1];
    r->messages[kind]++;
    if (a->node == r->mute && (kind == YK_DIR_PUBLISH || kind == YK_DIR_SNAPSHOT))
        return;
    if (to == 0 || to > NODES || r->node[a->node].cut_off || r->node[to].cut_off || (!r->quiet && rig_random(r, 1000) < r->loss_pm))
        return;
    rig_send_one(r, a->node, to, message, len);
    if (!r->quiet && rig_random(r, 1000) < r->dup_pm)
        rig_send_one(r, a->node, to, message, len);
}

static uint64_t rig_apply_in(struct rig *r) {
    return rig_random(r, r->quiet ? 2 : r->apply_ms);
}

static int rig_apply(void *arg, const struct yk_dir_key *key, uint64_t gen, uint64_t token) {
    struct rig_arg *a = arg;
    if (a->rig->no_memory > 0) {
        a->rig->no_memory--;
        return -YK_ENOMEM;
    }
    struct event *e = rig_event(a->rig, rig_apply_in(a->rig), APPLY, a->node);
    for (e->key = 0; e->key < KEYS - 1; e->key++)
        if (key->key_len == strlen(rig_key[e->key].name) && memcmp(key->key, rig_key[e->key].name, key->key_len) == 0)
            break;
    e->gen = gen;
    e->token = token;
    rig_push(a->rig, e);
    return 0;
}

static int rig_drop_slot(void *arg, uint32_t slot, uint64_t token) {
    struct rig_arg *a = arg;
    if (a->rig->no_memory > 0) {
        a->rig->no_memory--;
        return -YK_ENOMEM;
    }
    struct event *e = rig_event(a->rig, rig_apply_in(a->rig), APPLY, a->node);
    e->key = -1;
    e->what = (int)slot;
    e->token = token;
    rig_push(a->rig, e);
    return 0;
}

static void rig_sync(void *arg, struct yk_dir_rlog_io *io) {
    struct rig_arg *a = arg;
    a->rig->node[a->node].io = io;
    rig_at(a->rig, rig_random(a->rig, a->rig->quiet ? 2 : a->rig->sync_ms), SYNC, a->node);
}

static void rig_removed(void *arg, uint64_t token, int status, const uint32_t *missing, uint32_t count) {
    struct rig_arg *a = arg;
    struct rig *r = a->rig;
    struct rig_remove *rm = &r->remove[token];
    if (rm->ended)
        RIG_FAIL(r, "a remove ended twice", "remove %d: %d, then %d", (int)token, rm->status, status);
    rm->ended = 1;
    rm->status = status;
    for (rm->missing_count = 0; rm->missing_count < count && rm->missing_count < NODES + 1; rm->missing_count++)
        rm->missing[rm->missing_count] = missing[rm->missing_count];
    RIG_SAY(r, "%d: remove %d of key %d: %d", a->node, (int)token, rm->key, status);
    if (status != 0 && status != YK_MISS && status != -YK_ETIMEDOUT)
        return;
    rm->done = 1; /* or over, without ever having had a number */
    if (status == -YK_ETIMEDOUT) {
        rm->done_ver = r->ver;
        return;
    }
    rm->done_ver = r->ver;
    if (rm->begun_ver > r->done_ver[rm->key])
        r->done_ver[rm->key] = rm->begun_ver;
}

static void rig_epoch(void *arg, const char *ns, uint32_t ns_len, uint64_t epoch) {
    struct rig_arg *a = arg;
    if (ns_len != sizeof(rig_ns) - 1 || memcmp(ns, rig_ns, ns_len) != 0)
        RIG_FAIL(a->rig, "an epoch of no namespace", "node %d", a->node);
    if (epoch > a->rig->epoch[a->node])
        a->rig->epoch[a->node] = epoch;
}

static void rig_replayed(void *arg, uint64_t incarnation) {
    struct rig_arg *a = arg;
    struct event *e = rig_event(a->rig, 1 + rig_random(a->rig, a->rig->quiet ? 2 : a->rig->learn_ms), ADMIT, a->node);
    e->incarnation = incarnation;
    a->rig->replays++;
    RIG_SAY(a->rig, "%d: has replayed for %" PRIu64, a->node, incarnation);
    rig_push(a->rig, e);
}

/* ---- the map ---------------------------------------------------------------------------------------- */

void rig_open_map(struct rig *r) {
    for (uint32_t s = 0; s < YK_DIR_SLOTS && r->map->member_count > 0; s++)
        if (!rig_is_slot(s))
            r->map->slot[s] = r->map->slot[rig_slot[0]];
}

void rig_close_map(struct rig *r) {
    for (uint32_t s = 0; s < YK_DIR_SLOTS; s++)
        if (!rig_is_slot(s))
            r->map->slot[s] = (struct yk_dir_slot){YK_DIR_NOBODY, 0};
    for (int n = 1; n <= NODES; n++)
        rig_at(r, 1 + rig_random(r, r->quiet ? 3 : r->learn_ms), LEARN, n);
}

static void rig_learn(struct rig *r, int n) {
    struct rig_node *node = &r->node[n];
    if (node->core == NULL || node->map_version >= r->map->version || node->deaf)
        return;
    node->map_version = r->map->version;
    RIG_SAY(r, "%d: learns map %" PRIu64, n, r->map->version);
    yk_dir_core_map(node->core, r->map, r->now_ms);
    const struct yk_dir_member *m = yk_dir_map_member(r->map, (uint32_t)n);
    if (m != NULL && m->state == YK_DIR_EXPELLED && !node->joining) {
        node->joining = 1;
        rig_at(r, 1 + rig_random(r, r->quiet ? 2 : 4 * r->learn_ms), JOIN, n);
    }
}

static void rig_join(struct rig *r, int n, int returns) {
    char name[16];
    uint32_t id = 0;
    snprintf(name, sizeof(name), "node-%d", n);
    rig_open_map(r);
    int fresh = yk_dir_map_named(r->map, name) == NULL;
    int rc = yk_dir_map_join(r->map, name, 0, &id);
    struct yk_dir_member *m = yk_dir_map_member(r->map, id);
    if (rc < 0 || id != (uint32_t)n)
        RIG_FAIL(r, "the rig", "join of %d: %d, id %u", n, rc, id);
    else if (fresh && !returns)
        m->state = YK_DIR_MEMBER; /* as a test finds its cluster; a new node returns first (0014) */
    rig_close_map(r);
    r->node[n].joining = 0;
    for (int k = 0; k < KEYS; k++)
        r->node[n].block[k].known = 0; /* of the incarnation before */
    RIG_SAY(r, "etcd: %d joins, incarnation %" PRIu64 ", state %d", n, m->incarnation, m->state);
    rig_learn(r, n);
}

int rig_is_member(const struct rig *r, int n) {
    const struct yk_dir_member *m = yk_dir_map_member(r->map, (uint32_t)n);
    return m != NULL && m->state == YK_DIR_MEMBER;
}

/* ---- nodes ------------------------------------------------------------------------------------------ */

void rig_tell_block(struct rig *r, int n, int k) {
    const struct rig_block *b = &r->node[n].block[k];
    struct yk_dir_block block = {.key = rig_key_of(k),
                                 .group = rig_key[k].group,
                                 .epoch = 1,
                                 .gen = b->gen,
                                 .len = 100,
                                 .sum = b->sum,
                                 .tiers = b->there ? 1 : 0};
    yk_dir_core_block(r->node[n].core, &block);
}

void rig_change(struct rig *r, int n, int k, int there, uint64_t ver, uint64_t sum) {
    struct rig_node *node = &r->node[n];
    struct rig_block *b = &node->block[k];
    if (there)
        *b = (struct rig_block){.there = 1, .outside = !rig_is_member(r, n), .ver = ver, .gen = ++node->gen, .sum = sum};
    else
        b->there = 0;
    rig_tell_block(r, n, k);
    struct yk_dir_key key = rig_key_of(k);
    b->marked = there && yk_dir_core_mark(node->core, &key, 1, &b->mark);
    rig_at(r, 0, TICK, n);
}

int rig_put(struct rig *r, int n, int k, uint64_t sum) {
    struct rig_node *node = &r->node[n];
    if (node->core == NULL || node->block[k].there || !yk_dir_core_serves(node->core))
        return 0;
    rig_change(r, n, k, 1, ++r->ver, sum);
    RIG_SAY(r, "%d: puts key %d, ver %" PRIu64, n, k, r->ver);
    return 1;
}

static void rig_tick(struct rig *r, int n) {
    uint32_t ms = yk_dir_core_tick(r->node[n].core, r->now_ms);
    struct event *e = rig_event(r, ms, TICK, n);
    e->what = 1; /* the chain of ticks goes on with it */
    rig_push(r, e);
}

void rig_start(struct rig *r, int n, int returns) {
    struct rig_node *node = &r->node[n];
    struct yk_err err = {0};
    rig_args[n] = (struct rig_arg){r, n};
    struct yk_dir_core_opts opts = {.cluster = CLUSTER,
                                    .self = (uint32_t)n,
                                    .log_image = node->image,
                                    .log_image_len = node->image_len,
                                    .log_removes = 4,
                                    .log_seconds = 5,
                                    .table_bytes = 64 << 20,
                                    .held_bytes = 64 << 20,
                                    .digest_ms = r->digest_ms != 0 ? r->digest_ms : UINT32_MAX,
                                    .ops = {.send = rig_send,
                                            .apply = rig_apply,
                                            .drop_slot = rig_drop_slot,
                                            .sync = rig_sync,
                                            .removed = rig_removed,
                                            .replayed = rig_replayed,
                                            .epoch = rig_epoch,
                                            .arg = &rig_args[n]}};
    node->map_version = 0;
    node->joining = 0;
    int rc = yk_dir_core_open(&opts, &node->core, &err);
    free(node->image);
    node->image = NULL;
    if (rc < 0) {
        RIG_FAIL(r, "the rig", "open: %d %.200s", rc, err.text);
        return;
    }
    RIG_SAY(r, "%d: starts", n);
    rig_join(r, n, returns);
    for (int k = 0; k < KEYS; k++)
        if (node->block[k].there)
            rig_tell_block(r, n, k);
    yk_dir_core_known(node->core);
    rig_tick(r, n);
}

static void rig_removed_nowhere(void *arg, uint64_t token, int status, const uint32_t *missing, uint32_t count) {
    (void)arg, (void)token, (void)status, (void)missing, (void)count;
}

void rig_kill(struct rig *r, int n, int empties) {
    struct rig_node *node = &r->node[n];
    size_t len = 0;
    const void *image = yk_dir_rlog_image(node->core->log, &len);
    RIG_SAY(r, "%d: dies%s", n, empties ? ", and loses what it holds" : "");
    node->image = malloc(len + 1);
    node->image_len = len;
    if (len > 0)
        memcpy(node->image, image, len);
    node->core->opts.ops.removed = rig_removed_nowhere;
    for (int i = 0; i < r->removes; i++)
        if (r->remove[i].node == n && !r->remove[i].ended)
            r->remove[i].ended = r->remove[i].status = -1; /* who asked sees its connection break */
    yk_dir_core_close(node->core);
    node->core = NULL;
    node->life++;
    node->paused_ms = 0;
    for (int k = 0; k < KEYS; k++) {
        node->block[k].there &= !empties;
        node->block[k].known = 0;
    }
}

/* ---- what an event does ----------------------------------------------------------------------------- */

/* Property 4: what a member put after every remove of its key was done, no remove takes out. */
static void rig_check_taken(struct rig *r, int n, int k) {
    if (r->node[n].block[k].outside)
        return;
    for (int i = 0; i < r->removes; i++)
        if (r->remove[i].key == k && (!r->remove[i].done || r->remove[i].done_ver >= r->node[n].block[k].ver))
            return;
    RIG_FAIL(r, "4: a remove took out what was put after it was done", "node %d, key %d, ver %" PRIu64, n, k,
             r->node[n].block[k].ver);
}

static void rig_do_apply(struct rig *r, const struct event *e) {
    struct rig_node *node = &r->node[e->node];
    int found = 0;
    for (int k = 0; k < KEYS; k++) {
        struct rig_block *b = &node->block[k];
        int meant = e->key < 0 ? rig_key[k].slot == (uint32_t)e->what : k == e->key;
        if (!meant || !b->there || (e->gen != 0 && e->gen != b->gen))
            continue;
        if (e->key >= 0 && e->gen == 0)
            rig_check_taken(r, e->node, k);
        RIG_SAY(r, "%d: key %d, ver %" PRIu64 " is taken out%s", e->node, k, b->ver,
                e->key < 0 ? " with its slot" : e->gen != 0 ? ", a conflict" : "");
        found = 1;
        rig_change(r, e->node, k, 0, 0, 0);
    }
    r->taken_out += (uint64_t)found;
    r->dropped_slots += e->key < 0;
    yk_dir_core_applied(node->core, e->token, found ? 0 : YK_MISS);
}

/* Property 5: what a message of a lower term could change. */
struct rig_facts {
    struct yk_dir_rlog_slot log;
    struct yk_dir_num solid;
    int batch;
    uint32_t busy;
    uint64_t replayed, sendable, done, entries;
    const void *own;
};

static struct rig_facts rig_facts_of(const struct yk_dir_core *core, uint32_t slot) {
    struct rig_facts f;
    struct yk_dir_load load;
    memset(&f, 0, sizeof(f));
    yk_dir_rlog_slot(core->log, slot, &f.log);
    yk_dir_table_load(core->table, slot, &load);
    f.entries = load.entries + load.aliases;
    f.solid = core->hold[slot].solid;
    f.batch = (int)core->hold[slot].batch;
    f.busy = core->hold[slot].busy;
    f.replayed = core->hold[slot].replayed;
    f.own = core->own[slot];
    f.sendable = core->own[slot] != NULL ? core->own[slot]->sendable : 0;
    f.done = core->own[slot] != NULL ? core->own[slot]->done : 0;
    return f;
}

static void rig_deliver(struct rig *r, const struct event *e) {
    struct yk_dir_core *core = r->node[e->node].core;
    struct yk_dir_msg msg;
    struct yk_err err = {0};
    if (yk_dir_msg_decode(e->bytes, e->len, &msg, &err) < 0) {
        RIG_FAIL(r, "a message cannot be read", "%.200s", err.text);
        return;
    }
    struct rig_facts before = rig_facts_of(core, msg.slot);
    int rc = yk_dir_core_message(core, (uint32_t)e->from, e->incarnation, e->bytes, e->len, r->now_ms, &err);
    struct rig_facts after = rig_facts_of(core, msg.slot);
    if (rc < 0)
        RIG_FAIL(r, "a message was refused", "%.200s", err.text);
    if (msg.term < before.log.seen && memcmp(&before, &after, sizeof(before)) != 0)
        RIG_FAIL(r, "5: a message of a lower term changed a node", "%s of term %" PRIu64 " to %d, slot %u",
                 yk_dir_msg_name(msg.kind), msg.term, e->node, msg.slot);
}

static void rig_do_copy(struct rig *r, const struct event *e) {
    struct rig_node *node = &r->node[e->node];
    struct yk_dir_key key = rig_key_of(e->key);
    if (node->block[e->key].there)
        return;
    if (!yk_dir_core_may_commit(node->core, &key, &e->stand)) {
        r->copies_refused++;
        return;
    }
    r->copies++;
    RIG_SAY(r, "%d: has a copy of key %d, ver %" PRIu64 " from %d", e->node, e->key, e->ver, e->from);
    rig_change(r, e->node, e->key, 1, e->ver, e->gen);
}

int rig_begin_remove(struct rig *r, int n, int k, uint64_t deadline_ms) {
    struct yk_dir_key key = rig_key_of(k);
    if (r->removes == REMOVES)
        return -YK_EAGAIN;
    r->remove[r->removes] = (struct rig_remove){.key = k, .node = n, .begun_ver = ++r->ver};
    int token = r->removes++;
    int rc = yk_dir_core_remove(r->node[n].core, &key, r->now_ms + deadline_ms, (uint64_t)token, r->now_ms);
    if (rc < 0)
        r->removes--;
    else
        RIG_SAY(r, "%d: remove %d of key %d begins at ver %" PRIu64, n, token, k, r->ver);
    return rc < 0 ? rc : token;
}

static void rig_do(struct rig *r, const struct event *e, void (*chaos)(struct rig *r)) {
    struct rig_node *node = &r->node[e->node];
    if (node->core != NULL)
        yk_dir_core_time(node->core, r->now_ms);
    switch (e->kind) {
    case DELIVER:
        rig_deliver(r, e);
        break;
    case APPLY:
        rig_do_apply(r, e);
        break;
    case SYNC:
        if (node->disk_held) {
            rig_at(r, 10, SYNC, e->node);
            break;
        }
        yk_dir_rlog_io(node->io);
        yk_dir_core_synced(node->core);
        break;
    case TICK:
        if (e->what)
            rig_tick(r, e->node);
        else
            yk_dir_core_tick(node->core, r->now_ms);
        break;
    case LEARN:
        rig_learn(r, e->node);
        break;
    case JOIN:
        if (yk_dir_map_member(r->map, (uint32_t)e->node)->state == YK_DIR_EXPELLED)
            rig_join(r, e->node, 0);
        node->joining = 0;
        break;
    case ADMIT:
        if (yk_dir_map_admit(r->map, (uint32_t)e->node, e->incarnation) == 0) {
            RIG_SAY(r, "etcd: %d is a member again", e->node);
            rig_close_map(r);
        }
        break;
    case COPY:
        rig_do_copy(r, e);
        break;
    case RESTART:
        if (node->core == NULL)
            rig_start(r, e->node, 1);
        break;
    case RESUME:
        break;
    case CHAOS:
        chaos(r);
        break;
    }
}

int rig_step(struct rig *r, uint64_t until_ms, void (*chaos)(struct rig *r)) {
    if (r->heap_len == 0 || r->heap[0]->at_ms > until_ms) {
        r->now_ms = until_ms;
        return 0;
    }
    struct event *e = rig_pop(r);
    struct rig_node *node = &r->node[e->node];
    r->now_ms = e->at_ms;
    int anyway = e->kind == CHAOS || e->kind == RESTART;
    if (!anyway && node->core != NULL && node->paused_ms > r->now_ms) {
        e->at_ms = node->paused_ms; /* in the order in which they would have come */
        rig_push(r, e);
        return 1;
    }
    if (anyway || (node->core != NULL && (e->kind == DELIVER || e->kind == LEARN || e->life == node->life)))
        rig_do(r, e, chaos);
    free(e->bytes);
    free(e);
    return 1;
}

void rig_run(struct rig *r, uint64_t ms) {
    uint64_t until = r->now_ms + ms;
    while (r->failed == NULL && rig_step(r, until, NULL))
        ;
}

struct rig *rig_new(uint64_t seed, int nodes) {
    struct rig *r = calloc(1, sizeof(*r));
    rig_choose_keys();
    r->seed = r->random = seed;
    r->nodes = nodes;
    r->now_ms = 1000;
    r->quiet = 1;
    r->delay_ms = r->sync_ms = r->apply_ms = r->learn_ms = 5;
    r->map = yk_dir_map_new(CLUSTER);
    for (int n = 1; n <= nodes; n++) {
        rig_start(r, n, 1);
        rig_run(r, 2000);
    }
    return r;
}

void rig_free(struct rig *r) {
    for (int n = 1; n <= NODES; n++)
        if (r->node[n].core != NULL)
            rig_kill(r, n, 0);
    for (int n = 1; n <= NODES; n++)
        free(r->node[n].image);
    while (r->heap_len > 0) {
        struct event *e = rig_pop(r);
        free(e->bytes);
        free(e);
    }
    free(r->heap);
    free(r->map);
    free(r);
}

int rig_found(struct rig *r, int k) {
    struct yk_dir_key key = rig_key_of(k);
    struct yk_dir_found f;
    uint32_t owner = r->map->slot[yk_dir_slot_of(rig_key[k].group)].owner;
    struct yk_dir_core *core = r->node[owner].core;
    if (core == NULL)
        return -1;
    yk_dir_core_find(core, &key, 1, rig_key[k].group, &f);
    if (f.status != 0 && f.status != YK_MISS)
        return -1;
    int mask = 0;
    for (uint32_t i = 0; f.status == 0 && i < f.count; i++)
        mask |= 1 << f.copy[i].member;
    return mask;
}

int rig_holders(const struct rig *r, int k) {
    int mask = 0;
    for (int n = 1; n <= NODES; n++)
        if (r->node[n].core != NULL && r->node[n].block[k].there)
            mask |= 1 << n;
    return mask;
}

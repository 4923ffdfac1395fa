/* SPDX-License-Identifier: Apache-2.0
 *
 * The node's side of the cluster (pool.h): what its handlers ask the pool for, and what becomes of the answers.
 *
 * A handler gathers the keys that neither tier has, asks for all of them in one call, and its request is parked
 * (park.c) until the pool has answered; then it runs again from its beginning. Blocks that were brought are found
 * then as any other. Answers to what was only asked about (FIND, removals, namespaces) are kept with the request,
 * by the place of the item in it, and the second run takes them from there.
 *
 * The node waits a little longer than it gave the pool, and goes on without. What comes then finds its token's slot
 * empty, or in use for another time, and is ignored.
 *
 * Threads: the owner's.
 */
#include "node/conn_priv.h"

#include "base/clock.h"
#include "base/hash.h"
#include "shm/filter.h"
#include "shm/gate.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define WAIT_MS       4500u  /* node.h says why */
#define MOST_MS       60000u /* whatever a client says: its request holds a place */
#define GRACE_MS      100u   /* the pool answers at its deadline */
#define TICK_MS       20u
#define KEYS_MAX      65536u /* that may be asked for at a time: some 30 MiB with their requests */
#define FILTER_BLOCKS 1u     /* there is nothing in it */

struct pool {
    struct yk_pool_ops ops;
    uint32_t wait_ms;
    int ended;
    int filter_fd; /* read-only */
    uint64_t filter_bytes;
    uv_timer_t timer;  /* runs while anything is owed */
    uint64_t due_ns;   /* nothing that is owed ends before */
    uint32_t owing;    /* parked requests that it owes something */
    uint32_t keys_now; /* asked for by those that are parked */
    uint32_t count;    /* gathered by the request that is being handled: */
    uint32_t at[YK_BATCH_MAX];
    struct yk_pool_key keys[YK_BATCH_MAX];
};

/* ---- life ----------------------------------------------------------------------------------------- */

/* An index that is never complete: every answer of it is maybe (shm/filter.h). Clients map it beside the node's
 * memory, as they do that of an SSD tier, in whose place it stands. */
static int filter_make(struct pool *p) {
    struct yk_index_ids ids = {.max = FILTER_BLOCKS};
    struct yk_index index;
    char path[64];
    p->filter_bytes = yk_filter_bytes(FILTER_BLOCKS);
    int fd = memfd_create("yolk-pool-filter", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    void *mem = MAP_FAILED;
    if (fd >= 0 && ftruncate(fd, (off_t)p->filter_bytes) == 0 &&
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0)
        mem = mmap(NULL, p->filter_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (mem != MAP_FAILED) {
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        if (yk_filter_make(mem, p->filter_bytes, &ids, &index) == 0)
            p->filter_fd = open(path, O_RDONLY | O_CLOEXEC);
        munmap(mem, p->filter_bytes);
    }
    if (fd >= 0)
        close(fd);
    return p->filter_fd >= 0 ? 0 : -YK_ENOMEM;
}

int pool_init(struct yk_node *node, const struct yk_pool_ops *ops) {
    struct pool *p = calloc(1, sizeof(*p));
    if (p == NULL)
        return -YK_ENOMEM;
    p->ops = *ops;
    p->wait_ms = node->opts.pool_wait_ms != 0 ? node->opts.pool_wait_ms : WAIT_MS;
    p->filter_fd = -1;
    node->pool = p;
    node->accept_held = ops->waits;
    return filter_make(p);
}

void pool_fini(struct yk_node *node) {
    if (node->pool == NULL)
        return;
    if (node->pool->filter_fd >= 0)
        close(node->pool->filter_fd);
    free(node->pool);
    node->pool = NULL;
}

int pool_filter_fd(const struct yk_node *node, uint64_t *ret_bytes) {
    *ret_bytes = node->pool->filter_bytes;
    return node->pool->filter_fd;
}

int yk_node_pool_figures(const struct yk_node *node, struct yk_pool_figures *ret) {
    const struct pool *p = node->pool;
    if (p == NULL || p->ops.figures == NULL)
        return YK_MISS;
    p->ops.figures(p->ops.arg, ret);
    return 0;
}

/* ---- what is owed --------------------------------------------------------------------------------- */

/* The client's deadline for the request that is being handled; 0 = it has none. */
static uint64_t owed_until(const struct conn *c, uint64_t deadline_ns) {
    uint64_t most = c->begun_ns + (deadline_ns == 0 ? c->node->pool->wait_ms : MOST_MS) * 1000000ull;
    return deadline_ns != 0 && deadline_ns < most ? deadline_ns : most;
}

/* All that it still owes to a request. */
static uint32_t owed(const struct parked *k) {
    return k->owed + k->owed_each;
}

/* n of what it owes have come, or never will. */
static void owed_end(struct yk_node *node, struct parked *k, uint32_t n) {
    if (owed(k) == 0)
        node->pool->owing--;
    park_ended(node, k, n);
}

static void over(struct yk_node *node, struct parked *k) {
    uint32_t n = owed(k);
    k->owed = 0;
    k->owed_each = 0;
    owed_end(node, k, n);
}

/* Ends what is owed and due by now. */
static void expire(struct yk_node *node, uint64_t now_ns) {
    struct pool *p = node->pool;
    p->due_ns = UINT64_MAX;
    for (uint32_t i = 0; i < PARKED_MAX && p->owing > 0; i++) {
        struct parked *k = &node->parked[i];
        if (!k->used || owed(k) == 0)
            continue;
        if (k->deadline_ns <= now_ns)
            over(node, k);
        else if (k->deadline_ns < p->due_ns)
            p->due_ns = k->deadline_ns;
    }
    if (p->owing == 0)
        uv_timer_stop(&p->timer);
}

static void on_tick(uv_timer_t *timer) {
    struct yk_node *node = timer->data;
    uint64_t now = yk_now_ns();
    if (now < node->pool->due_ns)
        return;
    expire(node, now);
    node_turn(node);
}

void pool_loop(struct yk_node *node) {
    uv_timer_init(&node->loop, &node->pool->timer);
    node->pool->timer.data = node;
    node->pool->due_ns = UINT64_MAX;
}

void pool_end(struct yk_node *node) {
    if (node->pool == NULL || node->pool->ended)
        return;
    node->pool->ended = 1;
    expire(node, UINT64_MAX);
}

/* A request is owed something from now on. */
static void owe(struct yk_node *node, struct parked *k, uint64_t deadline_ns) {
    struct pool *p = node->pool;
    uint64_t until = deadline_ns + GRACE_MS * 1000000ull;
    if (owed(k) == 0) {
        k->deadline_ns = 0;
        if (p->owing++ == 0)
            uv_timer_start(&p->timer, on_tick, TICK_MS, TICK_MS);
    }
    k->deadline_ns = until > k->deadline_ns ? until : k->deadline_ns;
    p->due_ns = until < p->due_ns ? until : p->due_ns;
}

void pool_forget_keys(struct yk_node *node, const struct parked *k) {
    node->pool->keys_now -= k->keys;
}

static struct answers *answers_new(uint32_t count, int each, int32_t status) {
    struct answers *a = calloc(1, sizeof(*a) + count * sizeof(a->of[0]));
    for (uint32_t i = 0; a != NULL && i < count; i++) {
        a->of[i].at = i;
        a->of[i].asked = !each;
        a->of[i].found.status = status;
    }
    if (a != NULL) {
        a->count = count;
        a->each = each;
    }
    return a;
}

void yk_node_pool_found(struct yk_node *node, uint64_t token, const struct yk_pool_found *found,
                        uint32_t count) {
    struct parked *k = park_find(node, token);
    if (node->pool == NULL || k == NULL || !k->owed)
        return;
    struct answers *a = k->answers;
    for (uint32_t i = 0; a != NULL && !a->each && found != NULL && i < count && i < a->count; i++)
        a->of[i].found = found[i];
    k->owed = 0;
    owed_end(node, k, 1);
}

void yk_node_pool_removed(struct yk_node *node, uint64_t token, int status) {
    struct parked *k = park_find(node, token);
    uint32_t item = (uint32_t)(token >> 16) & 0xffffu;
    if (node->pool == NULL || k == NULL || k->answers == NULL || !k->answers->each ||
        item >= k->answers->count || k->answers->of[item].done || k->owed_each == 0)
        return;
    struct answer *a = &k->answers->of[item];
    a->done = 1;
    a->found.status = status <= YK_MISS || status == YK_FEWER ? status : -YK_EINTERNAL;
    k->owed_each--;
    owed_end(node, k, 1);
}

const struct yk_pool_found *pool_answer(struct conn *c, uint32_t at) {
    struct answers *a = c->answers;
    if (a == NULL)
        return NULL;
    while (a->next < a->count && a->of[a->next].at < at)
        a->next++;
    if (a->next == a->count || a->of[a->next].at != at || !a->of[a->next].asked)
        return NULL;
    return &a->of[a->next].found;
}

/* ---- what this node has not ----------------------------------------------------------------------- */

int pool_alive(const struct yk_node *node) {
    return node->pool != NULL && !node->pool->ended;
}

void yk_node_pool_until(struct yk_node *node, uint64_t boot_ns) {
    if (node->pool != NULL && node->pool->ops.waits)
        yk_gate_set(node->seg->meta, boot_ns > YK_GATE_SHUT ? boot_ns : YK_GATE_SHUT);
}

int pool_governs(const struct conn *c, uint64_t epoch) {
    return c->node->pool != NULL && yk_store_ns_check(c->node->store, c->ns) == 0 &&
           yk_store_ns_epoch(c->node->store, c->ns) == epoch;
}

int pool_serves(const struct conn *c, uint64_t epoch) {
    return pool_alive(c->node) && pool_governs(c, epoch);
}

int pool_looks(const struct conn *c, uint64_t epoch) {
    return pool_serves(c, epoch) && !c->asked && !conn_is_blind(c);
}

int pool_gather(struct needs *n, struct conn *c, const void *key, uint32_t key_len, uint32_t at) {
    struct pool *p = c->node->pool;
    if (n->wanted == 0)
        p->count = 0;
    if (p->count == YK_BATCH_MAX)
        return -YK_EAGAIN;
    p->keys[p->count] = (struct yk_pool_key){key, key_len};
    p->at[p->count++] = at;
    n->wanted = p->count;
    return 0;
}

/* Asks for what was gathered, for a token that is parked with it, or for nobody. */
static int want(struct conn *c, struct yk_pool_want *w) {
    struct yk_node *node = c->node;
    struct pool *p = node->pool;
    struct parked *k = park_find(node, w->token);
    yk_ns_info info;
    if (p->keys_now + p->count > KEYS_MAX || yk_store_ns_info(node->store, c->ns, &info) != 0)
        return -YK_EAGAIN;
    w->ns = info.name;
    w->ns_len = (uint32_t)strlen(info.name);
    w->ns_number = c->ns;
    w->epoch = info.epoch;
    w->keys = p->keys;
    w->count = p->count;
    w->deadline_ns = owed_until(c, w->deadline_ns);
    int rc = p->ops.want(p->ops.arg, w);
    if (rc == 0 && k != NULL) {
        owe(node, k, w->deadline_ns);
        k->owed = 1;
        k->keys += p->count;
        p->keys_now += p->count;
    }
    return rc;
}

int pool_bring(struct conn *c, struct needs *n) {
    struct yk_pool_want w = {.kind = YK_POOL_BRING, .deadline_ns = n->deadline_ns};
    if (n->token == 0)
        n->token = park_take(c->node);
    w.token = n->token;
    return n->token != 0 ? want(c, &w) : -YK_EAGAIN;
}

int pool_prefetch(struct conn *c, struct needs *n) {
    struct yk_pool_want w = {.kind = YK_POOL_BRING, .deadline_ns = n->deadline_ns};
    return want(c, &w);
}

/* Asks about what was gathered; answers are kept with the token. */
static int ask(struct conn *c, struct needs *n, int chain, struct yk_pool_key first) {
    struct pool *p = c->node->pool;
    struct yk_pool_want w = {.kind = YK_POOL_FIND, .chain = chain, .first = first};
    n->token = park_take(c->node);
    struct parked *k = park_find(c->node, n->token);
    if (k == NULL)
        return -YK_EAGAIN;
    k->answers = answers_new(p->count, 0, -YK_EAGAIN);
    if (k->answers == NULL)
        return -YK_ENOMEM;
    for (uint32_t i = 0; i < p->count; i++)
        k->answers->of[i].at = p->at[i];
    w.token = n->token;
    return want(c, &w);
}

/* Gathers those of n keys that are not here. *ret_first: the first of all. */
static void gather(struct conn *c, struct needs *needs, struct yk_rd *keys, uint64_t epoch, uint32_t n,
                   struct yk_pool_key *ret_first) {
    for (uint32_t i = 0; i < n; i++) {
        uint32_t len, idx;
        const void *key = yk_rd_str8(keys, &len);
        if (keys->bad)
            return; /* said when it is read in earnest */
        if (i == 0)
            *ret_first = (struct yk_pool_key){key, len};
        if (len > 0 && yk_store_find_any(c->node->store, c->ns, epoch, key, len, &idx) == YK_MISS)
            pool_gather(needs, c, key, len, i);
    }
}

int pool_find(struct conn *c, const struct yk_frame *f, const void *body, struct yk_rd keys,
              uint64_t epoch, uint32_t n, int chain) {
    struct needs needs = {0};
    struct yk_pool_key first = {NULL, 0}, none = {NULL, 0};
    if (!pool_looks(c, epoch))
        return 0;
    gather(c, &needs, &keys, epoch, n, &first);
    if (!yk_rd_ok(&keys) || needs.wanted == 0)
        return 0;
    needs.wanted = 0;
    needs.pending = ask(c, &needs, chain, chain ? first : none) == 0;
    return handle_needs_wait(c, &needs, f, body);
}

/* ---- changes of the whole pool -------------------------------------------------------------------- */

static uint64_t token_of(uint64_t token, uint32_t item) {
    return token | (uint64_t)item << 16;
}

/* The slot of a request whose items are answered one by one; NULL: there is none, or no memory. */
static struct parked *each_slot(struct conn *c, struct needs *n, uint32_t items, int32_t status) {
    if (n->token == 0)
        n->token = park_take(c->node);
    struct parked *k = park_find(c->node, n->token);
    if (k != NULL && k->answers == NULL)
        k->answers = answers_new(items, 1, status);
    return k != NULL && k->answers != NULL ? k : NULL;
}

/* It is to be answered, or (rc) will never be. */
static void each_asked(struct conn *c, struct needs *n, struct parked *k, uint32_t item, int rc,
                       uint64_t deadline_ns) {
    k->answers->of[item].asked = 1;
    if (rc == 0) {
        owe(c->node, k, deadline_ns);
        k->owed_each++;
        n->pending++;
    } else {
        k->answers->of[item].done = 1;
        k->answers->of[item].found.status = rc < 0 ? rc : -YK_EINTERNAL;
    }
}

/* until_ms: of its client, on this node's boot clock; 0: it names none. */
void pool_remove(struct conn *c, struct needs *n, uint64_t epoch, const void *key, uint32_t key_len,
                 uint64_t until_ms, uint32_t at, uint32_t items) {
    struct pool *p = c->node->pool;
    struct parked *k = each_slot(c, n, items, -YK_ETIMEDOUT);
    uint64_t now_ms = yk_boot_ms();
    uint64_t left_ms = until_ms == 0 ? MOST_MS : until_ms > now_ms ? until_ms - now_ms : 0;
    uint64_t deadline_ns = owed_until(c, 0), until_ns = yk_now_ns() + left_ms * 1000000ull;
    yk_ns_info info;
    if (until_ns < deadline_ns)
        deadline_ns = until_ns;
    if (k == NULL || yk_store_ns_info(c->node->store, c->ns, &info) != 0)
        return; /* the handler says so: it finds no answer */
    int rc = p->ops.remove(p->ops.arg, info.name, (uint32_t)strlen(info.name), epoch, key, key_len,
                           deadline_ns, token_of(n->token, at));
    each_asked(c, n, k, at, rc, deadline_ns);
}

void pool_copies(struct conn *c, struct needs *n, const struct yk_commit *cm, const void *prefer,
                 uint32_t prefer_len, uint64_t deadline_ns, int32_t *statuses, uint32_t at, uint32_t items) {
    struct pool *p = c->node->pool;
    uint32_t copies = YK_ATTR_COPIES(cm->attrs.flags);
    yk_ns_info info;
    if (copies == 0 && p != NULL)
        copies = yk_store_ns_copies(c->node->store, c->ns);
    if (statuses[at] != 0 || (copies <= 1 && prefer_len == 0))
        return;
    statuses[at] = YK_FEWER;
    struct parked *k = pool_serves(c, cm->epoch) ? each_slot(c, n, items, YK_FEWER) : NULL;
    if (k == NULL || yk_store_ns_info(c->node->store, c->ns, &info) != 0)
        return;
    struct yk_pool_copies want = {.ns = info.name,
                                  .ns_len = (uint32_t)strlen(info.name),
                                  .prefer = prefer,
                                  .prefer_len = prefer_len,
                                  .key = cm->key,
                                  .key_len = cm->key_len,
                                  .copies = copies == 0 ? 1 : copies < YK_COPIES_MAX ? copies : YK_COPIES_MAX,
                                  .epoch = cm->epoch,
                                  .deadline_ns = owed_until(c, deadline_ns),
                                  .token = token_of(n->token, at)};
    /* What was there already may be a guest, or wanted less often. */
    (void)yk_store_pool_keep(c->node->store, c->ns, cm->epoch, cm->key, cm->key_len, want.copies, &want.gen);
    if (p->ops.copies(p->ops.arg, &want) == 0)
        each_asked(c, n, k, at, 0, want.deadline_ns);
}

void pool_copies_keep(struct conn *c, struct needs *n, const int32_t *statuses, uint32_t items) {
    struct parked *k = park_find(c->node, n->token);
    for (uint32_t i = 0; i < items; i++) {
        struct answer *a = &k->answers->of[i];
        if (a->asked)
            continue;
        a->asked = a->done = 1;
        a->found.status = statuses[i];
    }
    k->answers->ticket = yk_store_ticket_take(c->node->store);
}

int pool_space(struct conn *c, const struct yk_frame *f, const void *body, unsigned what,
               const void *name, uint32_t name_len, uint64_t value) {
    struct pool *p = c->node->pool;
    struct needs n = {0};
    if (p->ended)
        return -YK_EAGAIN;
    struct parked *k = each_slot(c, &n, 1, -YK_ETIMEDOUT);
    uint64_t deadline_ns = owed_until(c, 0);
    int rc = -YK_EAGAIN;
    if (k != NULL) {
        rc = p->ops.space(p->ops.arg, what, name, name_len, value, deadline_ns, n.token);
        each_asked(c, &n, k, 0, rc, deadline_ns);
    }
    int parked = handle_needs_wait(c, &n, f, body);
    return parked != 0 ? parked : rc;
}

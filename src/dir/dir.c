/* SPDX-License-Identifier: Apache-2.0
 *
 * The directory's thread and its life (dir.h).
 *
 * Start: the loop and the peers' listener, metadata, membership, then the thread; what comes from the
 * membership does the rest (join.c), and start waits for it. Stop goes the other way round: the node's wishes
 * end, the membership is left (its thread tells nothing any more), then the loop gives up what is under way and
 * ends when the last piece of it has come back.
 *
 * Timers: the core's tick, when it asked for one or was called; `look`, every LOOK_MS while something waits for a
 * time (deadlines, tickets, blocks that come up); `second`, for figures; `gate`, for the node's own clients.
 *
 * Threads: as dir.h says; functions of the loop are marked by what calls them.
 */
#include "dir/copy_priv.h"

#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#define LOOK_MS   1u
#define TICK_MS   20u
#define SECOND_MS 1000u
#define LEASE_MS  3000u
#define START_MS  10000u
#define CUT_OFF_MS 120000u
#define GATE_MS   500u /* between two looks at whether etcd was heard: less than a lease */
#define WAITS_MS  1000u /* between two calls of opts.waits */

/* ---- what the others share -------------------------------------------------------------------------- */

int dir_is_live(const struct yk_dir *d, uint32_t id, uint64_t incarnation) {
    const struct yk_dir_member *m = d->map != NULL ? yk_dir_map_member(d->map, id) : NULL;
    return m != NULL && m->state == YK_DIR_MEMBER && m->incarnation == incarnation;
}

uint32_t dir_left_ms(uint64_t deadline_ns, uint32_t most) {
    uint64_t now = yk_now_ns();
    if (deadline_ns <= now)
        return 0;
    uint64_t ms = (deadline_ns - now + YK_NS_PER_MS - 1) / YK_NS_PER_MS;
    return ms < most ? (uint32_t)ms : most;
}

/* ---- the node's side (pool.h), on its owner thread -------------------------------------------------- */

static void on_changed(void *arg, const struct yk_pool_block *block) {
    struct yk_dir *d = arg;
    if (!__atomic_load_n(&d->open, __ATOMIC_ACQUIRE))
        return;
    dir_ring_put(d->ring, block);
    uv_async_send(&d->wake);
}

/* Room for one wish more? */
static int admit(struct yk_dir *d) {
    if (!__atomic_load_n(&d->open, __ATOMIC_ACQUIRE))
        return 0;
    if (__atomic_fetch_add(&d->wish_count, 1, __ATOMIC_RELAXED) < DIR_WISHES_MAX)
        return 1;
    __atomic_fetch_sub(&d->wish_count, 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&d->refused, 1, __ATOMIC_RELAXED);
    return 0;
}

static int submit(struct yk_dir *d, struct dir_job *job) {
    if (job == NULL) {
        __atomic_fetch_sub(&d->wish_count, 1, __ATOMIC_RELAXED);
        return -YK_EAGAIN;
    }
    dir_to_loop(d, job);
    return 0;
}

static int on_want(void *arg, const struct yk_pool_want *want) {
    struct yk_dir *d = arg;
    if (want->count == 0 || want->count > YK_DIR_KEYS_MAX || !admit(d))
        return -YK_EAGAIN;
    struct dir_wish *w = dir_wish_new(d, want);
    return submit(d, w != NULL ? &w->job : NULL);
}

static int on_remove(void *arg, const char *ns, uint32_t ns_len, uint64_t epoch, const void *key, uint32_t key_len,
                     uint64_t deadline_ns, uint64_t token) {
    struct yk_dir *d = arg;
    struct yk_dir_key k = {ns, ns_len, key, key_len};
    (void)epoch; /* of all epochs */
    return admit(d) ? submit(d, dir_remove_wish(d, &k, deadline_ns, token)) : -YK_EAGAIN;
}

static int on_copies(void *arg, const struct yk_pool_copies *want) {
    struct yk_dir *d = arg;
    return admit(d) ? submit(d, dir_copy_wish(d, want)) : -YK_EAGAIN;
}

static int on_space(void *arg, unsigned what, const char *ns, uint32_t ns_len, uint64_t value, uint64_t deadline_ns,
                    uint64_t token) {
    struct yk_dir *d = arg;
    return admit(d) ? submit(d, dir_space_wish(d, what, ns, ns_len, value, deadline_ns, token)) : -YK_EAGAIN;
}

/* ---- the loop --------------------------------------------------------------------------------------- */

static void end_if_idle(struct yk_dir *d);

static void on_wake(uv_async_t *async) {
    struct yk_dir *d = async->data;
    dir_changes_run(d);
    dir_inbox_run(d);
    if (d->core != NULL && !d->stopping && yk_dir_core_go_on(d->core, dir_now_ms()))
        uv_async_send(&d->wake); /* peers and clients have their turn between */
    end_if_idle(d);
}

static void on_tick(uv_timer_t *timer) {
    struct yk_dir *d = timer->data;
    if (d->core == NULL || d->stopping)
        return;
    d->tick_due = 0;
    uint32_t ms = yk_dir_core_tick(d->core, dir_now_ms());
    if (!d->caught_up || !d->ready)
        dir_state_changed(d);
    if (!d->tick_due)
        uv_timer_start(&d->tick, on_tick, ms > 0 ? ms : 1, 0);
    if (yk_dir_core_has_more(d->core))
        uv_async_send(&d->wake);
}

void dir_tick_later(struct yk_dir *d) {
    if (d->stopping)
        return;
    if (!uv_is_active((uv_handle_t *)&d->tick) || uv_timer_get_due_in(&d->tick) > TICK_MS)
        uv_timer_start(&d->tick, on_tick, TICK_MS, 0);
    if (yk_dir_core_has_more(d->core))
        uv_async_send(&d->wake);
}

void dir_tick_soon(struct yk_dir *d) {
    if (d->stopping || (uv_is_active((uv_handle_t *)&d->tick) && uv_timer_get_due_in(&d->tick) == 0))
        return;
    d->tick_due = 1;
    uv_timer_start(&d->tick, on_tick, 0, 0);
}

static void on_look(uv_timer_t *timer) {
    struct yk_dir *d = timer->data;
    uint64_t now = yk_now_ns();
    uint32_t left = dir_outbox_look(d);
    left += dir_tickets_look(d);
    left += dir_serve_look(d, now);
    left += dir_removes_look(d, now);
    left += dir_spaces_look(d, now);
    left += dir_copies_look(d, now);
    left += dir_takes_look(d, now);
    left += dir_pulls_look(d, now);
    left += (uint32_t)dir_repair_look(d, now);
    left += dir_wishes_expire(d, d->stopping ? UINT64_MAX : now);
    /* What was answered just now may have found no room; a stop looks until everything has ended, whatever ends it. */
    if (left == 0 && d->outbox == NULL && !d->stopping)
        uv_timer_stop(&d->look);
    end_if_idle(d);
}

void dir_look_soon(struct yk_dir *d) {
    if (!uv_is_active((uv_handle_t *)&d->look))
        uv_timer_start(&d->look, on_look, LOOK_MS, LOOK_MS);
}

static void show_drain(const struct yk_dir *d, struct yk_dir_stats *n) {
    struct dir_drain_stats s = {0};
    (void)dir_drain_stats(d, &s);
    n->drain_left = s.blocks_left;
    n->drain_left_bytes = s.bytes_left;
    n->drain_handed = s.handed;
    n->drain_handed_bytes = s.handed_bytes;
    n->drain_kept = s.kept;
    n->drained = s.done && s.blocks_left == 0;
}

static void show(struct yk_dir *d) {
    struct yk_dir_stats *n = &d->n;
    n->id = d->self;
    n->incarnation = d->incarnation;
    n->walking = d->walking;
    n->asking = 0;
    for (const struct dir_link *l = d->asks.next; l != &d->asks; l = l->next)
        n->asking++;
    n->refused = __atomic_load_n(&d->refused, __ATOMIC_RELAXED);
    n->etcd = d->state.good != 0;
    n->balancer = d->state.leads != 0;
    if (d->map != NULL) {
        n->map_version = d->map->version;
        n->members = yk_dir_map_members(d->map, YK_DIR_MEMBER);
        n->returning = yk_dir_map_members(d->map, YK_DIR_RETURNING);
        n->expelled = yk_dir_map_members(d->map, YK_DIR_EXPELLED);
    }
    n->kept_out = d->log_text[0] != '\0';
    n->serves = d->core != NULL && yk_dir_core_serves(d->core);
    if (d->core != NULL)
        yk_dir_core_counts(d->core, &n->core);
    if (d->peers != NULL)
        yk_peers_counts(d->peers, &n->peers);
    show_drain(d, n);
    pthread_mutex_lock(&d->lock);
    d->shown = *n;
    pthread_mutex_unlock(&d->lock);
}

/* Whom a start waits for, and what is known of that. */
static void show_wait(struct yk_dir *d) {
    uint32_t behind = d->core != NULL ? yk_dir_core_behind(d->core) : 0;
    uint32_t owner = behind > 0 ? yk_dir_core_waits_for(d->core) : YK_DIR_NOBODY;
    const struct dir_peer *p = owner != YK_DIR_NOBODY ? dir_peer_of(d, owner) : NULL;
    const char *why = p != NULL && d->peers != NULL ? yk_peers_why(d->peers, owner) : "";
    pthread_mutex_lock(&d->lock);
    d->waits_for[0] = '\0';
    if (owner != YK_DIR_NOBODY && p == NULL)
        snprintf(d->waits_for, sizeof(d->waits_for), "%u slots, first of member %u, of which etcd tells no address",
                 behind, owner);
    else if (p != NULL)
        snprintf(d->waits_for, sizeof(d->waits_for), "%u slots, first of '%.63s' at %.60s%s%.60s", behind, p->say.name,
                 p->say.peers, why[0] != '\0' ? ": " : "", why);
    pthread_mutex_unlock(&d->lock);
}

static void on_second(uv_timer_t *timer) {
    struct yk_dir *d = timer->data;
    uint64_t finds = d->n.core.finds;
    show(d);
    if (!d->ready)
        show_wait(d);
    dir_log_look(d);
    dir_join_look(d);
    if (d->stopping)
        return;
    uint64_t more = d->n.core.finds >= finds ? d->n.core.finds - finds : 0; /* a new core counts from 0 */
    struct yk_member_load load = {.lookups_per_s = (double)more * 1000.0 / SECOND_MS,
                                  .entries = d->n.core.entries,
                                  .held_bytes = d->n.core.held_bytes};
    yk_member_load(d->member, &load);
    dir_drain_look(d, yk_now_ns());
    if (d->repair != NULL)
        dir_look_soon(d); /* slots that were not whole, or rested */
}

static void on_gate(uv_timer_t *timer) {
    struct yk_dir *d = timer->data;
    if (!d->stopping)
        dir_gate_set(d);
}

static void on_suspect(void *user, uint32_t member, int suspect) {
    struct yk_dir *d = user;
    if (!d->stopping)
        yk_member_suspect(d->member, member, suspect);
}

static void *loop_main(void *arg) {
    struct yk_dir *d = arg;
    pthread_setname_np(pthread_self(), "yolk-dir");
    uv_timer_start(&d->second, on_second, SECOND_MS, SECOND_MS);
    uv_timer_start(&d->gate, on_gate, GATE_MS, GATE_MS);
    uv_run(&d->loop, UV_RUN_DEFAULT);
    return NULL;
}

/* ---- the end, on the loop --------------------------------------------------------------------------- */

static int inbox_is_empty(struct yk_dir *d) {
    pthread_mutex_lock(&d->lock);
    int empty = d->inbox == NULL;
    pthread_mutex_unlock(&d->lock);
    return empty;
}

/* Whatever is in no list is counted (jobs, wishes, pulls), or on its way to the inbox: the last thing to be asked. */
static int is_idle(struct yk_dir *d) {
    return d->left && d->jobs == 0 && !d->peers_open && !d->syncing && !d->probing && dir_list_empty(&d->tickets) &&
           dir_list_empty(&d->spaces) && dir_list_empty(&d->asks) && dir_list_empty(&d->wishes) &&
           dir_list_empty(&d->removes) && d->n.pulling == 0 && d->n.copying == 0 && d->n.taking == 0 &&
           d->serving_count == 0 && __atomic_load_n(&d->wish_count, __ATOMIC_RELAXED) == 0 && inbox_is_empty(d);
}

static void end_if_idle(struct yk_dir *d) {
    if (!d->stopping || d->ended || !is_idle(d))
        return;
    d->ended = 1;
    uv_close((uv_handle_t *)&d->wake, NULL);
    uv_close((uv_handle_t *)&d->tick, NULL);
    uv_close((uv_handle_t *)&d->look, NULL);
    uv_close((uv_handle_t *)&d->second, NULL);
    uv_close((uv_handle_t *)&d->gate, NULL);
}

static void peers_closed(void *user) {
    struct yk_dir *d = user;
    d->peers_open = 0;
    dir_look_soon(d);
}

/* From here on the membership is not called any more. */
static void stop_begin(struct yk_dir *d) {
    struct yk_peers *peers = d->peers;
    d->stopping = 1;
    dir_gate_set(d); /* it leaves: what it holds may be removed without it from now on */
    d->peers = NULL;
    dir_pulls_cancel(d);
    yk_peers_close(peers, peers_closed, d);
    dir_look_soon(d);
    pthread_mutex_lock(&d->lock);
    d->stop_begun = 1;
    pthread_cond_broadcast(&d->cond);
    pthread_mutex_unlock(&d->lock);
}

static void on_stop(struct dir_job *job) {
    stop_begin(job->dir);
}

/* It is closed: nothing comes from it any more. */
static void on_left(struct dir_job *job) {
    job->dir->left = 1;
}

/* ---- life ------------------------------------------------------------------------------------------- */

static int copy_text(const char **field, const char *or_else) {
    const char *from = *field != NULL ? *field : or_else;
    *field = from != NULL ? strdup(from) : NULL;
    return from == NULL || *field != NULL;
}

/* Under the prefix, as all keys are: a user of etcd may have no rights elsewhere. */
static int birth_text(struct yk_meta_opts *m, const char *prefix) {
    size_t size = strlen(prefix) + sizeof("/birth");
    char *key = m->birth_key == NULL ? malloc(size) : NULL;
    if (m->birth_key != NULL)
        return copy_text(&m->birth_key, NULL);
    m->birth_key = key;
    return key != NULL && snprintf(key, size, "%s/birth", prefix) > 0;
}

static int copy_texts(struct yk_dir_opts *o) {
    struct yk_meta_opts *m = &o->meta;
    int well = copy_text(&m->endpoints, NULL);
    well &= copy_text(&m->user, NULL);
    well &= copy_text(&m->password, NULL);
    well &= copy_text(&m->ca_file, NULL);
    well &= copy_text(&m->cert_file, NULL);
    well &= copy_text(&m->key_file, NULL);
    well &= birth_text(m, o->prefix != NULL ? o->prefix : "yolk");
    well &= copy_text(&o->prefix, "yolk");
    well &= copy_text(&o->name, "");
    well &= copy_text(&o->zone, "");
    well &= copy_text(&o->listen, "127.0.0.1:0");
    well &= copy_text(&o->advertise, NULL);
    well &= copy_text(&o->clients, "");
    well &= copy_text(&o->local, "");
    well &= copy_text(&o->state_dir, "");
    return well;
}

static void free_texts(struct yk_dir_opts *o) {
    const char *all[] = {o->meta.endpoints, o->meta.user,     o->meta.password,  o->meta.ca_file, o->meta.cert_file,
                         o->meta.key_file,  o->meta.birth_key, o->prefix,        o->name,         o->zone,
                         o->listen,         o->advertise,      o->clients,       o->local,
                         o->state_dir};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        free((void *)(uintptr_t)all[i]);
}

int yk_dir_new(const struct yk_dir_opts *opts, struct yk_dir **ret_dir, struct yk_err *err) {
    struct yk_dir *d = calloc(1, sizeof(*d));
    if (d == NULL)
        return yk_err_set(err, -YK_ENOMEM, "out of memory");
    d->opts = *opts;
    pthread_mutex_init(&d->lock, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&d->cond, &monotonic);
    pthread_condattr_destroy(&monotonic);
    d->inbox_tail = &d->inbox;
    d->outbox_tail = &d->outbox;
    struct dir_link *lists[] = {&d->asks, &d->wishes, &d->removes, &d->tickets, &d->serving, &d->spaces};
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
        dir_list_init(lists[i]);
    d->ops = (struct yk_pool_ops){
        .changed = on_changed, .want = on_want, .remove = on_remove, .copies = on_copies, .space = on_space,
        .figures = dir_figures, .waits = 1, .arg = d};
    d->ring = dir_ring_new();
    if (!copy_texts(&d->opts) || d->ring == NULL) {
        yk_dir_free(d);
        return yk_err_set(err, -YK_ENOMEM, "out of memory");
    }
    if (d->opts.lease_ms == 0)
        d->opts.lease_ms = LEASE_MS;
    if (d->opts.start_ms == 0)
        d->opts.start_ms = START_MS;
    if (d->opts.cut_off_ms == 0)
        d->opts.cut_off_ms = CUT_OFF_MS;
    if (d->opts.cut_off_ms < d->opts.lease_ms)
        d->opts.cut_off_ms = d->opts.lease_ms;
    *ret_dir = d;
    return 0;
}

const struct yk_pool_ops *yk_dir_pool(struct yk_dir *d) {
    return &d->ops;
}

const char *yk_dir_address(const struct yk_dir *d) {
    return d->address;
}

void yk_dir_stats(struct yk_dir *d, struct yk_dir_stats *ret) {
    pthread_mutex_lock(&d->lock);
    *ret = d->shown;
    pthread_mutex_unlock(&d->lock);
}

static int loop_open(struct yk_dir *d, struct yk_err *err) {
    if (uv_loop_init(&d->loop) < 0)
        return yk_err_set(err, -YK_EIO, "cannot make an event loop");
    uv_async_init(&d->loop, &d->wake, on_wake);
    uv_timer_init(&d->loop, &d->tick);
    uv_timer_init(&d->loop, &d->look);
    uv_timer_init(&d->loop, &d->second);
    uv_timer_init(&d->loop, &d->gate);
    d->wake.data = d->tick.data = d->look.data = d->second.data = d->gate.data = d;
    d->loop_open = 1;
    return 0;
}

static int peers_open(struct yk_dir *d, struct yk_err *err) {
    struct yk_peers_opts o = {.loop = &d->loop,
                              .listen = d->opts.listen,
                              .allow_remote = d->opts.allow_remote,
                              .ops = {.frame = dir_serve_frame, .suspect = on_suspect, .user = d}};
    int rc = yk_peers_open(&o, &d->peers, err);
    if (rc < 0)
        return rc;
    d->peers_open = 1;
    const char *port = strrchr(yk_peers_address(d->peers), ':');
    if (d->opts.advertise != NULL && port != NULL)
        snprintf(d->address, sizeof(d->address), "%s%s", d->opts.advertise, port);
    else
        snprintf(d->address, sizeof(d->address), "%s", yk_peers_address(d->peers));
    return 0;
}

static int meta_open(struct yk_dir *d, struct yk_err *err) {
    d->meta = d->opts.shared_meta;
    return d->meta != NULL ? 0 : yk_meta_open(&d->opts.meta, &d->meta, err);
}

static int member_open(struct yk_dir *d, struct yk_err *err) {
    struct yk_node_stats n;
    uint64_t *terms = dir_log_terms(d);
    yk_node_stats(d->node, &n);
    struct yk_member_opts o = {.meta = d->meta,
                               .prefix = d->opts.prefix,
                               .dir = d->opts.state_dir,
                               .name = d->opts.name,
                               .clients = d->opts.clients,
                               .local = d->opts.local,
                               .peers = d->address,
                               .transfer = yk_node_segment(d->node),
                               .zone = d->opts.zone,
                               .version = YK_VERSION,
                               .capacity_bytes = n.store.capacity_bytes,
                               .lease_ms = d->opts.lease_ms,
                               .terms = terms,
                               .ops = {.map = dir_map_told,
                                       .node = dir_node_told,
                                       .space = dir_space_told,
                                       .state = dir_state_told,
                                       .arg = d}};
    int rc = yk_member_open(&o, &d->member, err);
    free(terms);
    return rc;
}

/* Why it did not become a member in time. */
static int explain(const struct yk_dir *d, struct yk_err *err) {
    const struct yk_member_state *s = &d->said;
    if (d->fail.code != 0) {
        *err = d->fail;
        return d->fail.code;
    }
    if (s->text[0] != 0)
        return yk_err_set(err, s->denied ? -YK_EPERM : s->phase == YK_MEMBER_REFUSED ? -YK_EBUSY : -YK_EGONE, "%.200s", s->text);
    if (s->phase == YK_MEMBER_RETURNING)
        return yk_err_set(err, -YK_ETIMEDOUT,
                          "owners of slots have not answered this node, which returns, in %u ms (%.120s): start them, or "
                          "an empty node by the name of one that is gone",
                          d->opts.start_ms, d->waits_for[0] != '\0' ? d->waits_for : "none is behind");
    return yk_err_set(err, -YK_ETIMEDOUT, "this node did not become a member within %u ms", d->opts.start_ms);
}

/* Lock held. Until it is ready, has failed, or the time has come. */
static void wait_until(struct yk_dir *d, uint64_t until_ns) {
    struct timespec ts = {.tv_sec = (time_t)(until_ns / YK_NS_PER_S), .tv_nsec = (long)(until_ns % YK_NS_PER_S)};
    int late = 0;
    while (!d->ready && d->fail.code == 0 && !late)
        late = pthread_cond_timedwait(&d->cond, &d->lock, &ts) == ETIMEDOUT;
}

/* The same. What etcd refuses for a second is not waited for. */
static void wait_start(struct yk_dir *d, uint64_t until_ns) {
    uint64_t now = yk_now_ns();
    for (int denied = 0; !d->ready && d->fail.code == 0 && now < until_ns && denied < 2; now = yk_now_ns()) {
        uint64_t next = now + WAITS_MS * YK_NS_PER_MS;
        wait_until(d, next < until_ns ? next : until_ns);
        denied = d->said.denied ? denied + 1 : 0;
    }
}

/* It has a past in this cluster, or etcd is there and others or time are what it waits for; and not something that
 * somebody has to put right at this node. What it holds may have been removed meanwhile, so its own clients wait, too (record 0014 lets a node go on without etcd only
 * for as long as it knows that it has not been expelled). */
static int may_wait(const struct yk_dir *d) {
    return d->opts.waits != NULL && !d->ready && d->fail.code == 0 && (d->said.cluster != 0 || d->said.good) &&
           d->said.phase != YK_MEMBER_REFUSED && !d->said.denied;
}

static int wait_longer(struct yk_dir *d, uint64_t since_ns, struct yk_err *err) {
    char why[YK_ERR_TEXT_MAX];
    while (may_wait(d)) {
        snprintf(why, sizeof(why), "%.200s",
                 d->said.text[0] != 0   ? d->said.text
                 : d->waits_for[0] != 0 ? d->waits_for
                                        : "other members have yet to answer");
        pthread_mutex_unlock(&d->lock);
        int end = d->opts.waits(d->opts.waits_arg, why, since_ns);
        pthread_mutex_lock(&d->lock);
        if (end)
            return yk_err_set(err, -YK_ECANCELED, "stopped while it waited: %.200s", why);
        wait_until(d, yk_now_ns() + WAITS_MS * YK_NS_PER_MS);
    }
    return 0;
}

static int wait_ready(struct yk_dir *d, struct yk_err *err) {
    uint64_t begun = yk_now_ns();
    pthread_mutex_lock(&d->lock);
    wait_start(d, begun + d->opts.start_ms * YK_NS_PER_MS);
    int rc = wait_longer(d, begun, err);
    if (rc == 0 && !d->ready)
        rc = explain(d, err);
    pthread_mutex_unlock(&d->lock);
    return rc;
}

int yk_dir_start(struct yk_dir *d, struct yk_node *node, struct yk_err *err) {
    d->node = node;
    d->engine = yk_node_engine(node);
    int rc = loop_open(d, err);
    if (rc == 0 && dir_sync_open(d) < 0)
        rc = yk_err_set(err, -YK_EIO, "cannot start a thread");
    if (rc == 0)
        rc = peers_open(d, err);
    if (rc == 0)
        rc = meta_open(d, err);
    if (rc == 0)
        rc = member_open(d, err);
    if (rc == 0) {
        __atomic_store_n(&d->open, 1, __ATOMIC_RELEASE);
        rc = pthread_create(&d->thread, NULL, loop_main, d) == 0
                 ? 0
                 : yk_err_set(err, -YK_EIO, "cannot start a thread");
        d->started = rc == 0;
    }
    if (rc == 0)
        rc = wait_ready(d, err);
    if (rc == 0) {
        yk_node_set_peers(node, d->address);
        rc = yk_node_pool_begin(node);
        if (rc < 0)
            yk_err_set(err, rc, "the node has no room for a post: it takes no clients");
    }
    if (rc < 0)
        yk_dir_stop(d);
    return rc;
}

void yk_dir_stop(struct yk_dir *d) {
    if (d == NULL || !d->loop_open)
        return;
    __atomic_store_n(&d->open, 0, __ATOMIC_RELEASE);
    yk_node_pool_end(d->node);
    struct dir_job stop = {.back = on_stop}, left = {.back = on_left};
    if (d->started)
        dir_to_loop(d, &stop);
    else
        stop_begin(d);
    pthread_mutex_lock(&d->lock);
    while (!d->stop_begun)
        pthread_cond_wait(&d->cond, &d->lock);
    pthread_mutex_unlock(&d->lock);
    yk_member_close(d->member, 1);
    dir_to_loop(d, &left);
    if (d->started)
        pthread_join(d->thread, NULL);
    else
        uv_run(&d->loop, UV_RUN_DEFAULT);
    d->started = d->loop_open = 0;
    uv_loop_close(&d->loop);
    dir_sync_close(d);
    yk_dir_core_close(d->core);
    dir_peers_free(d);
    dir_cache_clear(d);
    if (d->opts.shared_meta == NULL)
        yk_meta_close(d->meta);
    d->core = NULL;
    d->meta = NULL;
    d->member = NULL;
}

void yk_dir_free(struct yk_dir *d) {
    if (d == NULL)
        return;
    yk_dir_stop(d);
    free(d->map);
    free(d->pulls);
    dir_drain_free(d);
    free(d->copies);
    free(d->takes);
    free(d->repair);
    dir_tasks_free(d);
    free(d->ring);
    dir_epochs_clear(d);
    free_texts(&d->opts);
    pthread_mutex_destroy(&d->lock);
    pthread_cond_destroy(&d->cond);
    free(d);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * The node's owner thread: event loop, listeners, watches of client processes, waiters for space,
 * batch jobs, upkeep (src/node/node.h).
 *
 * Work that a message leaves behind (reclaim, sweeps, batch removals) is done in bounded steps by
 * an idle handle that runs only while there is some. A timer looks after hazards, expiry and access
 * rings every UPKEEP_MS while anything happens; after DOZE_TICKS quiet ones it stops, and clients
 * are told (doze) to send a DRAIN when their ring fills: an idle node takes no CPU at all, but for a
 * look at its SSD devices every DOZE_MS.
 *
 * Other threads reach the loop by one async handle: to stop it, or to hand it a connected socket.
 */
#include "node/conn_priv.h"

#include "base/clock.h"
#include "base/fmt.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#define UPKEEP_MS        100u
#define DOZE_TICKS       20u
#define DOZE_MS          5000u /* as often as the tier looks for a device that is gone */
#define WAIT_TICK_MS     2u
#define HELLO_TIMEOUT_MS 10000u
#define JOB_STEPS        8192u
#define COMPACT_BYTES    (8ull << 20) /* moved by one upkeep: two milliseconds of a hundred */
#define VERIFY_BYTES     (8ull << 20) /* that jobs hash in a turn: one or two milliseconds */

static struct yk_log_limit lost_limit = YK_LOG_LIMIT_INIT(60000);
static struct yk_log_limit unbacked_limit = YK_LOG_LIMIT_INIT(60000);

/* ---- processes that hold client slots -------------------------------------------------------- */

static void on_watch_closed(uv_handle_t *h) {
    free(h->data);
}

void node_unwatch(struct yk_node *node, uint32_t slot) {
    struct watch *w = node->watches[slot];
    if (w == NULL)
        return;
    node->watches[slot] = NULL;
    uv_close((uv_handle_t *)&w->poll, on_watch_closed);
    close(w->pidfd);
}

/* The process is dead: now its hazards and reservations are over, and not before (R3). */
static void on_death(uv_poll_t *poll, int status, int events) {
    struct watch *w = poll->data;
    struct yk_node *node = w->node;
    uint32_t slot = w->slot;
    /* A connection may outlive it: bytes that are not read yet, a forked child that has it. */
    conns_close_slot(node, slot, NULL);
    node_unwatch(node, slot);
    yk_store_client_release(node->store, slot);
    node_active(node);
}

void node_watch(struct yk_node *node, uint32_t slot, uint32_t pid) {
    if (node->watches[slot] != NULL)
        return;
    struct watch *w = calloc(1, sizeof(*w));
    if (w == NULL)
        return; /* upkeep looks at the process table for slots without a watch */
    w->pidfd = (int)syscall(SYS_pidfd_open, (pid_t)pid, 0u);
    if (w->pidfd < 0 || uv_poll_init(&node->loop, &w->poll, w->pidfd) < 0) {
        if (w->pidfd >= 0)
            close(w->pidfd);
        free(w);
        return;
    }
    w->node = node;
    w->slot = slot;
    w->poll.data = w;
    node->watches[slot] = w;
    uv_poll_start(&w->poll, UV_READABLE, on_death);
}

static void watch_recovered(void *arg, uint32_t slot, uint32_t pid) {
    node_watch(arg, slot, pid);
}

/* Slots whose process could not be watched (no descriptors left, say) are polled. */
static void watch_missing(void *arg, uint32_t slot, uint32_t pid) {
    struct yk_node *node = arg;
    if (node->watches[slot] == NULL) {
        node_watch(node, slot, pid);
        if (node->watches[slot] == NULL && yk_process_start_time(pid) == 0) {
            conns_close_slot(node, slot, NULL);
            yk_store_client_release(node->store, slot);
        }
    }
}

/* ---- waiters
 * ------------------------------------------------------------------------------------- */

static void on_wait_tick(uv_timer_t *timer);

int node_wait(struct yk_node *node, const struct waiter *w) {
    if (node->waiter_count == WAITERS_MAX)
        return -YK_EAGAIN;
    node->waiters[node->waiter_count] = *w;
    node->waiters[node->waiter_count++].since_ns = yk_now_ns();
    NODE_ADD(node, waiting, 1);
    if (!uv_is_active((uv_handle_t *)&node->wait_timer))
        uv_timer_start(&node->wait_timer, on_wait_tick, WAIT_TICK_MS, WAIT_TICK_MS);
    return 0;
}

/* Answering may close connections, which removes waiters: the one that was answered is where it
 * was, or further to the front, or gone. Returns where to go on. */
static uint32_t waiter_done(struct yk_node *node, uint32_t at) {
    if (at >= node->waiter_count)
        at = node->waiter_count - 1u;
    for (uint32_t i = at + 1u; i-- > 0;) {
        if (!node->waiters[i].answered)
            continue;
        memmove(&node->waiters[i], &node->waiters[i + 1],
                (node->waiter_count - i - 1) * sizeof(node->waiters[0]));
        node->waiter_count--;
        NODE_ADD(node, waiting, -1);
        return i;
    }
    return at;
}

/* The first that waits for memory has waited for a slow SSD as long as it shall. (Others get their turn.) */
static void waiters_hurry(struct yk_node *node, uint64_t now) {
    uint64_t wait_ns = node->ssd_wait_ns;
    uint32_t i = 0;
    while (i < node->waiter_count && node->waiters[i].len == 0)
        i++;
    if (wait_ns == 0 || i == node->waiter_count || now - node->waiters[i].since_ns < wait_ns)
        return;
    yk_store_ssd_hurry(node->store, node->waiters[i].len);
    node->waiters[i].since_ns = now - wait_ns + WAIT_TICK_MS * 1000000ull; /* should that not do, in a tick again */
}

/* In order of arrival. */
static void waiters_try(struct yk_node *node) {
    uint64_t now = yk_now_ns();
    waiters_hurry(node, now);
    for (uint32_t i = 0; i < node->waiter_count;) {
        struct waiter w = node->waiters[i];
        node->waiters[i].answered = 1;
        if (handle_waiter(node, &w, now))
            i = node->waiter_count > 0 ? waiter_done(node, i) : 0;
        else
            node->waiters[i++].answered = 0;
    }
    if (node->waiter_count == 0)
        uv_timer_stop(&node->wait_timer);
}

static void on_wait_tick(uv_timer_t *timer) {
    struct yk_node *node = timer->data;
    yk_store_drain(node->store);
    yk_store_tick(node->store);
    park_run(node); /* a tick ends raises whose time is over */
    waiters_try(node);
}

/* After each turn of the loop: writes that this turn asked for leave together, blocks that have come up
 * are handed to who waits for them, memory that was written to SSD to who waits for space. */
static void low_turn(struct yk_node *node) {
    yk_store_ssd_poll(node->store);
    park_run(node);
    if (node->waiter_count > 0)
        waiters_try(node);
}

void node_turn(struct yk_node *node) {
    low_turn(node);
}

static void on_after(uv_check_t *check) {
    low_turn(check->data);
}

static void on_low(uv_async_t *async) {
    struct yk_node *node = async->data;
    node_active(node); /* the work is done by on_after, which follows */
}

static void on_low_fd(uv_poll_t *poll, int status, int events) {
    struct yk_node *node = poll->data;
    eventfd_t n;
    (void)status;
    (void)events;
    (void)eventfd_read(node->opts.store.wake_fd, &n);
    node_active(node); /* likewise */
}

/* From any thread. */
static void low_wake(void *arg) {
    struct yk_node *node = arg;
    uv_async_send(&node->low);
}

void node_forget(struct yk_node *node, struct conn *c) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < node->waiter_count; i++)
        if (node->waiters[i].conn != c)
            node->waiters[n++] = node->waiters[i];
    NODE_ADD(node, waiting, (int64_t)n - (int64_t)node->waiter_count);
    node->waiter_count = n;
    for (uint32_t i = 0; i < node->job_count; i++)
        if (node->jobs[i].conn == c)
            node->jobs[i].conn = NULL;
    park_forget(node, c);
}

/* ---- upkeep
 * ---------------------------------------------------------------------------------------- */

static void ns_snapshot(struct yk_node *node) {
    pthread_mutex_lock(&node->lock);
    for (uint32_t i = 0; i < YK_SHM_NAMESPACES; i++)
        if (yk_store_ns_info(node->store, i, &node->ns_snapshot[i]) != 0)
            node->ns_snapshot[i].name[0] = 0;
    node_learned_snapshot(node);
    pthread_mutex_unlock(&node->lock);
}

static int removal_step(struct yk_node *node, struct job *j) {
    j->removed += yk_store_remove_step(node->store, j->ns, j->how, j->pattern, j->pattern_len,
                                       &j->cursor, JOB_STEPS);
    return j->cursor == YK_WALK_END;
}

/* A step of every job. */
static void jobs_step(struct yk_node *node) {
    uint64_t bytes = VERIFY_BYTES / (node->job_count != 0 ? node->job_count : 1u);
    for (uint32_t i = 0; i < node->job_count;) {
        struct job *j = &node->jobs[i];
        int over = j->changes != NULL ? handle_changes_step(node, j, bytes) : removal_step(node, j);
        uint64_t ticket = yk_store_ticket_take(node->store);
        j->ticket = yk_store_ticket_join(j->ticket, ticket);
        if (!over) {
            i++;
            continue;
        }
        struct job done = *j;
        *j = node->jobs[--node->job_count];
        handle_job_done(node, &done);
    }
}

static void on_busy(uv_idle_t *idle) {
    struct yk_node *node = idle->data;
    if (node->more) {
        jobs_step(node);
        int more = yk_store_tick(node->store);
        node->more = node->job_count > 0 || more;
        park_run(node);
    }
    if (node->spin_until_ns != 0 && yk_now_ns() >= node->spin_until_ns) {
        yk_spin_end(&node->spin, 0);
        node->spin_until_ns = 0;
    }
    if (!node->more && node->spin_until_ns == 0)
        uv_idle_stop(idle);
}

static void on_turn(uv_prepare_t *turn) {
    yk_store_turn(((struct yk_node *)turn->data)->store);
}

/* While the idle handle is active the loop polls without waiting: the reply's reader is likely to ask
 * again before a sleep and a wake-up would be over (base/spin.h). */
void node_heard(struct yk_node *node) {
    if (node->spin_until_ns != 0)
        yk_spin_end(&node->spin, 1);
    node->spin_until_ns = 0;
    if (node->stopping || !yk_spin_try(&node->spin))
        return;
    node->spin_until_ns = yk_now_ns() + YK_SPIN_NS;
    if (!uv_is_active((uv_handle_t *)&node->busy))
        uv_idle_start(&node->busy, on_busy);
}

void node_more(struct yk_node *node) {
    node->more = 1;
    if (!uv_is_active((uv_handle_t *)&node->busy))
        uv_idle_start(&node->busy, on_busy);
}

static void close_silent(struct yk_node *node) {
    uint64_t now = yk_boot_ms();
    for (struct conn *c = node->conns, *next; c != NULL; c = next) {
        next = c->next;
        if (c->state == CONN_HELLO && now - c->opened_ms > HELLO_TIMEOUT_MS)
            conn_close(c);
    }
}

/* Moves blocks ahead of need while no message comes. 1: it may go on. */
static int compact_idle(struct yk_node *node) {
    uint64_t in_bytes = node->n.in_bytes;
    int idle = in_bytes == node->last_in_bytes && node->waiter_count == 0 && node->job_count == 0;
    node->last_in_bytes = in_bytes;
    return idle &&
           yk_store_compact_idle(node->store, node->opts.compact_percent, COMPACT_BYTES) > 0;
}

static uint64_t happened(const struct yk_node *node) {
    struct yk_counters n;
    yk_store_counters(node->store, &n);
    return n.events + n.verified + n.local_hits + n.local_misses + n.local_matches;
}

/* Is there anything that goes on without a message, or that one waits for? */
static int at_work(const struct yk_node *node) {
    struct yk_counters n;
    yk_store_counters(node->store, &n);
    int silent = 0;
    for (const struct conn *c = node->conns; c != NULL; c = c->next)
        silent |= c->state == CONN_HELLO || c->state == CONN_PUT;
    return n.limbo_blocks > 0 || n.suspect_blocks > 0 || silent || node->accept_paused ||
           node->more || node_saves(node) || node->parked_ready != 0 || node->held_count > 0 ||
           yk_store_ssd_busy(node->store);
}

/* A device that vanishes, or is back, is noticed without a message. */
static void on_doze(uv_timer_t *timer) {
    struct yk_node *node = timer->data;
    if (yk_store_tick(node->store))
        node_more(node);
    low_turn(node);
    if (at_work(node))
        node_active(node);
}

static void doze_begin(struct yk_node *node) {
    node->dozing = 1;
    yk_store_doze(node->store, 1);
    uv_timer_stop(&node->upkeep);
    if (yk_store_ssd(node->store) != NULL)
        uv_timer_start(&node->doze, on_doze, DOZE_MS, DOZE_MS);
}

static void say_unbacked(struct yk_node *node) {
    struct yk_counters n;
    char text[YK_FMT_MAX];
    yk_store_counters(node->store, &n);
    if (n.unbacked_bytes > 0)
        yk_log_limited(&unbacked_limit, YK_LOG_WARN, "node",
                       "%s of free memory cannot be had: the segment's file system, or the machine, is "
                       "full. Puts make room by eviction",
                       yk_fmt_bytes(n.unbacked_bytes, text));
}

static void on_upkeep(uv_timer_t *timer) {
    struct yk_node *node = timer->data;
    yk_store_drain(node->store);
    yk_store_client_each(node->store, watch_missing, node);
    yk_store_count_clients(node->store);
    yk_store_ssd_mem_ready(node->store,
                           __atomic_load_n(&node->n.populated_bytes, __ATOMIC_RELAXED));
    if (yk_store_tick(node->store))
        node_more(node);
    node_learn(node);
    node_save(node);
    close_silent(node);
    conns_drop_stalled(node);
    conns_shrink(node);
    int moving = compact_idle(node);
    if (node->accept_paused)
        node_accept_pause(node, 0);
    if (yk_segment_check(node->seg))
        yk_log_limited(&lost_limit, YK_LOG_ERROR, "node",
                       "the DRAM tier is lost: a file of its segment was truncated, or its file "
                       "system is full. "
                       "Lookups miss and puts are refused until a restart");
    say_unbacked(node);
    ns_snapshot(node);
    uint64_t events = happened(node);
    node->idle_ticks = events == node->last_events ? node->idle_ticks + 1 : 0;
    node->last_events = events;
    /* What the tick has ended is answered now: the loop may sleep long before on_after comes. */
    low_turn(node);
    if (node->idle_ticks >= DOZE_TICKS && !moving && !at_work(node))
        doze_begin(node);
}

void node_active(struct yk_node *node) {
    node->idle_ticks = 0;
    if (!node->dozing)
        return;
    node->dozing = 0;
    yk_store_doze(node->store, 0);
    uv_timer_stop(&node->doze);
    uv_timer_start(&node->upkeep, on_upkeep, UPKEEP_MS, UPKEEP_MS);
}

/* ---- stop, connect
 * -------------------------------------------------------------------------------------- */

static void close_any(uv_handle_t *h, void *arg) {
    if (!uv_is_closing(h))
        uv_close(h, NULL);
}

static void stop_now(struct yk_node *node) {
    pool_end(node);
    yk_store_pool_forget(node->store);
    posts_close(node);
    for (uint32_t slot = 0; slot < node->seg->layout.max_clients; slot++)
        node_unwatch(node, slot);
    while (node->conns != NULL)
        conn_close(node->conns);
    helpers_stop(node);
    if (!node->discarded) { /* before the policies are emptied */
        yk_store_drain(node->store);
        node_save_all(node);
    }
    /* Before the handle that its workers wake is closed. */
    if (node->opts.settle_ms > 0 && !yk_node_tier_lost(node))
        yk_store_ssd_settle(node->store, yk_now_ns() + node->opts.settle_ms * 1000000ull);
    yk_store_ssd_close(node->store, !yk_node_tier_lost(node));
    uv_walk(&node->loop, close_any, NULL);
}

static void on_stop_tick(uv_timer_t *timer) {
    struct yk_node *node = timer->data;
    uint64_t pending = 0;
    for (struct conn *c = node->conns; c != NULL; c = c->next)
        pending += c->piece_count;
    if (pending == 0 || yk_now_ns() > node->stop_deadline_ns)
        stop_now(node);
}

/* Listeners go first; replies under way may take until the deadline. */
static void stop_begin(struct yk_node *node) {
    node->stopping = 1;
    uint32_t ms = node->opts.stop_timeout_ms != 0 ? node->opts.stop_timeout_ms : 2000u;
    for (uint32_t i = 0; i < node->listener_count; i++) {
        uv_close((uv_handle_t *)&node->listeners[i], NULL);
        close(node->listener_fds[i]);
    }
    for (uint32_t i = 0; i < node->opts.listen_count; i++)
        if (node->opts.listen[i].kind == YK_ADDR_UNIX)
            unlink(node->opts.listen[i].host);
    node->stop_deadline_ns = yk_now_ns() + ms * 1000000ull;
    uv_timer_start(&node->stop_timer, on_stop_tick, 0, 5);
}

static void on_wake(uv_async_t *async) {
    struct yk_node *node = async->data;
    int fds[64];
    pthread_mutex_lock(&node->lock);
    uint32_t n = node->handover_count;
    memcpy(fds, node->handover, n * sizeof(int));
    node->handover_count = 0;
    int stop = node->stop_asked;
    pthread_mutex_unlock(&node->lock);
    yk_store_drain(node->store); /* the scrubber waits for room for its reports */
    for (uint32_t i = 0; i < n; i++)
        conn_open(node, fds[i], 1);
    node_active(node);
    if (stop && !node->stopping)
        stop_begin(node);
}

static void on_beat(uv_async_t *async) {
    struct yk_node *node = async->data;
    __atomic_fetch_add(&node->beats, 1, __ATOMIC_RELAXED);
}

uint64_t yk_node_beats(struct yk_node *node) {
    uv_async_send(&node->beat);
    return __atomic_load_n(&node->beats, __ATOMIC_RELAXED);
}

static void *node_main(void *arg) {
    struct yk_node *node = arg;
    pthread_setname_np(pthread_self(), "yolk-node");
    uv_run(&node->loop, UV_RUN_DEFAULT);
    return NULL;
}

static void node_free(struct yk_node *node, int clean) {
    transfer_stop(node); /* nobody reads or writes payload any more */
    for (uint32_t i = 0; i < node->job_count; i++)
        handle_changes_free(node, &node->jobs[i]);
    yk_store_close(node->store, clean);
    if (node->opts.store.wake_fd > 0)
        close(node->opts.store.wake_fd);
    free(node->listeners);
    free(node->listener_fds);
    free(node->watches);
    free(node->greeted);
    free(node->waiters);
    free(node->jobs);
    free(node->saving.path);
    free(node->learned_shots);
    park_fini(node);
    pool_fini(node);
    pthread_mutex_destroy(&node->lock);
    pthread_mutex_destroy(&node->helper_lock);
    pthread_cond_destroy(&node->helper_cond);
    pthread_cond_destroy(&node->learn_cond);
    free(node);
}

static int node_alloc(struct yk_node *node, struct yk_err *err) {
    node->opts.store.wake = low_wake;
    if (node->opts.store.ssd.dev_count > 0) {
        int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        node->opts.store.wake_fd = fd > 0 ? fd : 0;
    }
    node->opts.store.raised = park_raised;
    node->opts.store.arg = node;
    node->opts.store.pool = node->opts.pool;
    if (node->opts.store.learned_path != NULL && (node->saving.path = strdup(node->opts.store.learned_path)) == NULL)
        return yk_err_set(err, -YK_ENOMEM, "out of memory");
    int rc = park_init(node);
    if (rc == 0 && node->opts.pool != NULL)
        rc = pool_init(node, node->opts.pool);
    if (rc < 0)
        return yk_err_set(err, rc, "out of memory");
    rc = yk_store_open(&node->opts.store, &node->store, err);
    if (rc < 0)
        return rc;
    node->seg = yk_store_segment(node->store);
    node->opts.store.policy = yk_store_policy(node->store);
    if (yk_store_learns(node->store) &&
        (node->learned_shots = calloc(YK_SHM_NAMESPACES, sizeof(*node->learned_shots))) == NULL)
        return yk_err_set(err, -YK_ENOMEM, "out of memory");
    node->ssd_wait_ns = node->opts.store.ssd.wait_ms * 1000000ull;
    memset(&node->opts.store.ssd, 0, sizeof(node->opts.store.ssd)); /* the caller's strings are its own */
    node->opts.pool = node->opts.store.pool = NULL; /* likewise */
    node->opts.store.learned_path = NULL;
    node->watches = calloc(node->seg->layout.max_clients, sizeof(*node->watches));
    node->greeted = calloc(node->seg->layout.max_clients, sizeof(*node->greeted));
    node->waiters = calloc(WAITERS_MAX, sizeof(*node->waiters));
    node->jobs = calloc(JOBS_MAX, sizeof(*node->jobs));
    if (node->watches == NULL || node->greeted == NULL || node->waiters == NULL || node->jobs == NULL)
        return yk_err_set(err, -YK_ENOMEM, "out of memory");
    return 0;
}

static void loop_init(struct yk_node *node) {
    uv_timer_init(&node->loop, &node->upkeep);
    uv_timer_init(&node->loop, &node->doze);
    uv_timer_init(&node->loop, &node->wait_timer);
    uv_timer_init(&node->loop, &node->stop_timer);
    uv_idle_init(&node->loop, &node->busy);
    uv_prepare_init(&node->loop, &node->turn);
    uv_async_init(&node->loop, &node->wake, on_wake);
    uv_async_init(&node->loop, &node->beat, on_beat);
    uv_check_init(&node->loop, &node->after);
    node->after.data = node->low.data = node;
    if (yk_store_ssd(node->store) != NULL || node->pool != NULL || node->seg->slow_bytes != 0)
        uv_check_start(&node->after, on_after);
    if (node->opts.store.wake_fd > 0 &&
        uv_poll_init(&node->loop, &node->low_fd, node->opts.store.wake_fd) == 0) {
        node->low_fd.data = node;
        uv_poll_start(&node->low_fd, UV_READABLE, on_low_fd);
    }
    node->upkeep.data = node->doze.data = node->wait_timer.data = node->stop_timer.data = node;
    node->busy.data = node->turn.data = node->wake.data = node->beat.data = node;
    uv_prepare_start(&node->turn, on_turn);
    posts_loop(node);
    node_learn_loop(node);
    if (node->pool != NULL)
        pool_loop(node);
    uv_timer_start(&node->upkeep, on_upkeep, UPKEEP_MS, UPKEEP_MS);
}

/* Ends the loop of a node whose thread never ran. */
static void loop_abandon(struct yk_node *node) {
    node->discarded = 1;
    stop_now(node);
    for (uint32_t i = 0; i < node->listener_count; i++)
        close(node->listener_fds[i]);
    uv_run(&node->loop, UV_RUN_DEFAULT);
    uv_loop_close(&node->loop);
}

int yk_node_start(const struct yk_node_opts *opts, struct yk_node **ret_node, struct yk_err *err) {
    struct yk_node *node = calloc(1, sizeof(*node));
    if (node == NULL)
        return yk_err_set(err, -YK_ENOMEM, "out of memory");
    node->opts = *opts;
    posts_init(node);
    node->n.start_wall_ms = yk_wall_ms();
    if (node->opts.max_conns == 0)
        node->opts.max_conns = 4096;
    pthread_mutex_init(&node->lock, NULL);
    pthread_mutex_init(&node->helper_lock, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&node->helper_cond, &monotonic);
    pthread_cond_init(&node->learn_cond, &monotonic);
    pthread_condattr_destroy(&monotonic);
    /* The loop comes first: the SSD tier's workers wake it from their beginning on. */
    int rc = 0;
    if (uv_loop_init(&node->loop) < 0 || uv_async_init(&node->loop, &node->low, on_low) < 0)
        rc = yk_err_set(err, -YK_EIO, "cannot make an event loop");
    if (rc == 0) {
        rc = node_alloc(node, err);
        if (rc < 0) {
            uv_close((uv_handle_t *)&node->low, NULL);
            uv_run(&node->loop, UV_RUN_DEFAULT);
            uv_loop_close(&node->loop);
        }
    }
    if (rc < 0) {
        node_free(node, 0);
        return rc;
    }
    loop_init(node);
    rc = node_listen(node, err);
    if (rc == 0)
        rc = transfer_start(node, err);
    node->opts.store.segment.name = node->opts.store.segment.dir = node->opts.transfer = NULL;
    if (rc == 0) {
        yk_store_client_each(node->store, watch_recovered, node);
        ns_snapshot(node);
        rc = helpers_start(node);
    }
    if (rc == 0 && pthread_create(&node->thread, NULL, node_main, node) != 0)
        rc = yk_err_set(err, -YK_EIO, "cannot start a thread");
    if (rc < 0) {
        helpers_stop(node);
        loop_abandon(node);
        /* Nobody was served: the segment is left as it was found, or not at all. */
        if (node->seg->found == YK_SEGMENT_FRESH)
            yk_segment_unlink(node->seg);
        node_free(node, node->seg->found != YK_SEGMENT_UNCLEAN && !yk_node_tier_lost(node));
        return rc;
    }
    *ret_node = node;
    return 0;
}

static void end(struct yk_node *node, int discard) {
    if (node == NULL)
        return;
    pthread_mutex_lock(&node->lock);
    node->discarded = discard;
    node->stop_asked = 1;
    pthread_mutex_unlock(&node->lock);
    uv_async_send(&node->wake);
    pthread_join(node->thread, NULL);
    uv_loop_close(&node->loop);
    struct yk_counters n;
    yk_store_counters(node->store, &n);
    if (discard && node->seg->found == YK_SEGMENT_FRESH && n.blocks == 0)
        yk_segment_unlink(node->seg);
    node_free(node, !yk_node_tier_lost(node));
}

void yk_node_stop(struct yk_node *node) {
    end(node, 0);
}

void yk_node_discard(struct yk_node *node) {
    end(node, 1);
}

int yk_node_connect(struct yk_node *node, int *ret_fd) {
    int sv[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0)
        return -YK_EIO;
    fcntl(sv[0], F_SETFL, O_NONBLOCK);
    pthread_mutex_lock(&node->lock);
    int full = node->handover_count == 64;
    if (!full)
        node->handover[node->handover_count++] = sv[0];
    pthread_mutex_unlock(&node->lock);
    if (full) {
        close(sv[0]);
        close(sv[1]);
        return -YK_EAGAIN;
    }
    uv_async_send(&node->wake);
    *ret_fd = sv[1];
    return 0;
}

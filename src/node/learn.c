/* SPDX-License-Identifier: Apache-2.0
 *
 * The helper of a policy that learns, at the lowest priority, and the owner's half of its work:
 *
 * learn  makes the next model from a copy of what the policy saw, which the owner hands it; the owner decides by the model
 *        that it has until it is told that the next is made.
 * save   every SAVE_MS, and at a stop, what was learned is written to a file of the state directory. The owner copies
 *        SAVE_RECORDS at each tick, one namespace after another; the helper makes bytes of a copy and writes them.
 *
 *   owner:  begin, step ... step -> hand over -> begin the next ...  -> hand over the end
 *   helper:                         encode, write                       flush, rename
 *
 * A stop waits for the helper, gives up what is under way, and writes all of it itself: then it is exact.
 */
#include "node/node_priv.h"

#include "base/clock.h"
#include "base/log.h"
#include "sched/learned.h"

#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SAVE_MS      300000u
#define SAVE_RECORDS 8192u /* a tick: a quarter of a millisecond of a hundred */

static struct yk_log_limit save_limit = YK_LOG_LIMIT_INIT(600000);

static void lowest_priority(const char *name) {
    pthread_setname_np(pthread_self(), name);
    setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), 19); /* Linux: of this thread */
}

/* ---- the helper --------------------------------------------------------------------------------- */

static void say_not_saved(const struct yk_err *err) {
    yk_log_limited(&save_limit, YK_LOG_WARN, "node", "what was learned is not kept: %s", err->text);
}

static int write_part(struct saving *v, struct yk_learned_saving *copy, struct yk_err *err) {
    void *bytes = NULL;
    size_t len = 0;
    int rc = yk_learned_saving_end(copy, &bytes, &len);
    if (rc < 0)
        return yk_err_set(err, rc, "%s", yk_status_text(rc));
    rc = yk_learned_file_part(&v->file, v->name, v->ns, bytes, len, err);
    free(bytes);
    return rc;
}

/* A namespace's copy, or (NULL) the end. */
static void save_step(struct saving *v, struct yk_learned_saving *copy) {
    struct yk_err err = {0};
    int rc = v->file.fd < 0 ? yk_learned_file_begin(&v->file, v->path, &err) : 0;
    if (rc == 0 && copy != NULL)
        rc = write_part(v, copy, &err);
    else if (rc == 0)
        rc = yk_learned_file_done(&v->file, v->wall_ms, &err);
    yk_learned_saving_free(copy);
    if (rc < 0) {
        yk_learned_file_abandon(&v->file);
        say_not_saved(&err);
        v->failed = 1;
    }
}

/* Is there a training to be run, or a copy to be saved? Under the lock. */
static int has_work(const struct yk_node *node) {
    return (node->training != NULL && !node->training_made) || node->saving.handed;
}

static void *learn_main(void *arg) {
    struct yk_node *node = arg;
    lowest_priority("yolk-learn");
    pthread_mutex_lock(&node->helper_lock);
    for (;;) {
        while (!node->helpers_stop && !has_work(node))
            pthread_cond_wait(&node->learn_cond, &node->helper_lock);
        if (node->helpers_stop)
            break;
        struct yk_learned_training *t = node->training_made ? NULL : node->training;
        pthread_mutex_unlock(&node->helper_lock);
        if (t != NULL)
            yk_learned_training_run(t);
        else
            save_step(&node->saving, node->saving.copy);
        pthread_mutex_lock(&node->helper_lock);
        if (t != NULL)
            node->training_made = 1;
        else
            node->saving.handed = 0;
        uv_async_send(&node->learned);
    }
    pthread_mutex_unlock(&node->helper_lock);
    return NULL;
}

int node_learn_start(struct yk_node *node) {
    node->saving.file.fd = -1;
    node->saving.last_ms = yk_boot_ms();
    if (yk_store_learns(node->store))
        node->learn_started = pthread_create(&node->learn_thread, NULL, learn_main, node) == 0;
    return node->learn_started;
}

/* ---- the owner: learn --------------------------------------------------------------------------- */

void node_learn(struct yk_node *node) {
    if (!node->learn_started || node->training != NULL) /* the owner alone sets it */
        return;
    struct yk_learned_training *t = yk_store_training_begin(node->store);
    if (t == NULL)
        return;
    if (node->opts.store.replays) { /* whose hours pass in seconds: a model that is late by ms would be late by minutes */
        yk_learned_training_run(t);
        yk_store_training_end(node->store);
        return;
    }
    pthread_mutex_lock(&node->helper_lock);
    node->training = t;
    node->training_made = 0;
    pthread_cond_signal(&node->learn_cond);
    pthread_mutex_unlock(&node->helper_lock);
}

static void on_learned(uv_async_t *async) {
    struct yk_node *node = async->data;
    pthread_mutex_lock(&node->helper_lock);
    int made = node->training != NULL && node->training_made;
    if (made)
        node->training = NULL;
    node->training_made = 0;
    pthread_mutex_unlock(&node->helper_lock);
    if (made)
        yk_store_training_end(node->store);
}

void node_learn_loop(struct yk_node *node) {
    uv_async_init(&node->loop, &node->learned, on_learned);
    node->learned.data = node;
}

/* ---- the owner: save ---------------------------------------------------------------------------- */

static uint64_t seen(const struct yk_node *node) {
    struct yk_counters n;
    yk_store_counters(node->store, &n);
    return n.requests + n.commits + n.events;
}

static void hand_over(struct yk_node *node, struct yk_learned_saving *copy) {
    struct saving *v = &node->saving;
    pthread_mutex_lock(&node->helper_lock);
    v->copy = copy;
    v->handed = 1;
    pthread_cond_signal(&node->learn_cond);
    pthread_mutex_unlock(&node->helper_lock);
}

static int is_handed(struct yk_node *node) {
    pthread_mutex_lock(&node->helper_lock);
    int handed = node->saving.handed;
    pthread_mutex_unlock(&node->helper_lock);
    return handed;
}

static void save_begin(struct yk_node *node, uint64_t now_ms) {
    struct saving *v = &node->saving;
    v->under_way = 1;
    v->failed = 0;
    v->which = 0;
    v->last_ms = now_ms;
    v->seen = seen(node);
    v->wall_ms = yk_wall_ms();
    yk_learned_file_abandon(&v->file); /* of one that failed */
    yk_store_learned_forget(node->store); /* who has not come for it until now has lost it */
}

static uint32_t save_ms(const struct yk_node *node) {
    return node->opts.learned_save_ms != 0 ? node->opts.learned_save_ms : SAVE_MS;
}

static int save_is_time(const struct yk_node *node, uint64_t now_ms) {
    const struct saving *v = &node->saving;
    return node->learn_started && v->path != NULL && now_ms - v->last_ms >= save_ms(node);
}

/* Is there what the last whole file has not? The helper has nothing. */
static int save_is_due(const struct yk_node *node) {
    return node->saving.failed || seen(node) != node->saving.seen;
}

/* The next namespace, or the end: 1 it is over. */
static int save_next(struct yk_node *node) {
    struct saving *v = &node->saving;
    const struct yk_policy *p =
        v->failed ? NULL : yk_store_learned_next(node->store, &v->which, &v->ns, v->name);
    if (p != NULL) {
        v->copying = yk_learned_saving_begin(p);
        v->failed = v->copying == NULL;
        return 0;
    }
    v->under_way = 0;
    if (!v->failed)
        hand_over(node, NULL);
    return 1;
}

void node_save(struct yk_node *node) {
    struct saving *v = &node->saving;
    uint64_t now_ms = yk_boot_ms();
    if (!v->under_way && !save_is_time(node, now_ms))
        return;
    if (is_handed(node) || (!v->under_way && !save_is_due(node)))
        return;
    if (!v->under_way)
        save_begin(node, now_ms);
    if (v->copying == NULL && save_next(node))
        return;
    if (v->copying != NULL && yk_learned_saving_step(v->copying, SAVE_RECORDS)) {
        hand_over(node, v->copying);
        v->copying = NULL;
    }
}

int node_saves(const struct yk_node *node) {
    return node->saving.under_way;
}

void node_save_all(struct yk_node *node) {
    struct saving *v = &node->saving;
    int given_up = v->under_way || v->handed;
    yk_learned_saving_free(v->copying);
    if (v->handed)
        yk_learned_saving_free(v->copy);
    v->copying = v->copy = NULL;
    yk_learned_file_abandon(&v->file);
    if (!yk_store_learns(node->store) || v->path == NULL || (!given_up && !save_is_due(node)))
        return;
    save_begin(node, yk_boot_ms());
    const struct yk_policy *p;
    while (!v->failed && (p = yk_store_learned_next(node->store, &v->which, &v->ns, v->name)) != NULL) {
        struct yk_learned_saving *copy = yk_learned_saving_begin(p);
        if (copy == NULL)
            return;
        (void)yk_learned_saving_step(copy, UINT32_MAX);
        save_step(v, copy);
    }
    if (!v->failed)
        save_step(v, NULL);
}

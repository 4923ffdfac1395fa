/* SPDX-License-Identifier: Apache-2.0
 *
 * Namespaces of the cluster: their epochs, quotas, wanted copies and terms of shares stand in etcd (R9), and every node applies
 * what it hears of them, from the watch or from a peer.
 *
 * A removal is a raise that says that nothing is left: in etcd stands the new epoch and that the namespace is removed, so a
 * node that hears of it late, when it returns or from a disk of before, has no block that anybody finds, and drops what
 * it has. Nobody is waited for: as with a raise, who has not heard yet serves what it has, at most for as long as a node
 * that is cut off does. A name that is opened again goes on at that epoch.
 *
 * A change that a client wants is made in etcd first, and answered when this node has applied it: with etcd away
 * it fails. What peers say of epochs is weighed in epoch.c; what is news is applied at once, since raises only go up.
 *
 * Threads: the directory's loop; `..._there`: the node's owner thread; `done`: the membership's.
 */
#include "dir/dir_priv.h"

#include <stdio.h>

/* One namespace on its way to the store; wanted: a client waits for that. */
struct space {
    struct dir_ticket t;
    struct yk_member_space space;
    unsigned what;
    int wanted;
    uint64_t token, deadline_ns;
};

#define SPACE(job) DIR_ITEM(job, struct space, t.job)

static void tell_there(struct dir_job *job, struct yk_store *store) {
    const struct space *s = SPACE(job);
    (void)store;
    yk_node_pool_removed(job->dir->node, s->token, s->t.status);
}

static void told(struct dir_job *job) {
    __atomic_fetch_sub(&job->dir->wish_count, 1, __ATOMIC_RELAXED);
    free(SPACE(job));
}

static void end(struct space *s, int status) {
    s->t.status = status;
    s->t.job.there = tell_there;
    s->t.job.back = told;
    if (s->wanted)
        dir_to_node(s->t.job.dir, &s->t.job);
    else
        free(s);
}

/* ---- to the store ----------------------------------------------------------------------------------- */

static int apply(struct yk_store *store, const struct yk_member_space *s, unsigned what) {
    struct yk_err err;
    uint32_t ns, len = (uint32_t)strlen(s->name);
    int gone = s->quota_bytes == YK_MEMBER_NO_SPACE;
    if (what == YK_NS_REMOVE)
        return 0; /* that it was removed was told before, and is waited for */
    int rc = yk_store_ns_open(store, s->name, len, !gone, &ns, &err);
    if (gone) /* one that is there again, and older news */
        return rc == 0 && yk_store_ns_epoch(store, ns) < s->epoch ? yk_store_ns_remove(store, ns)
               : rc == -YK_ENONS                                  ? 0
                                                                  : rc;
    if (rc == 0 && s->epoch > yk_store_ns_epoch(store, ns))
        rc = yk_store_ns_raise(store, ns, s->epoch);
    if (rc == 0 && s->quota_bytes != YK_MEMBER_KEEP_QUOTA)
        rc = yk_store_ns_quota(store, ns, s->quota_bytes);
    if (rc == 0 && s->copies != YK_MEMBER_KEEP_COPIES)
        rc = yk_store_ns_set_copies(store, ns, s->copies);
    if (rc == 0 && s->guarantee_bytes != YK_MEMBER_KEEP_GUARANTEE)
        rc = yk_store_ns_set_guarantee(store, ns, s->guarantee_bytes);
    if (rc == 0 && s->priority != YK_MEMBER_KEEP_PRIORITY)
        rc = yk_store_ns_set_priority(store, ns, s->priority);
    return rc;
}

static void apply_there(struct dir_job *job, struct yk_store *store) {
    struct space *s = SPACE(job);
    s->t.status = apply(store, &s->space, s->what);
    s->t.ticket = yk_store_ticket_take(store);
}

static void durable(struct dir_ticket *t) {
    struct space *s = DIR_ITEM(t, struct space, t);
    uint32_t len = (uint32_t)strlen(s->space.name);
    if (s->space.quota_bytes == YK_MEMBER_NO_SPACE && !s->wanted && t->status == 0)
        dir_epoch_gone(t->job.dir, s->space.name, len, s->space.epoch);
    else if (s->space.epoch != 0 && s->what != YK_NS_REMOVE)
        dir_epoch_applied(t->job.dir, s->space.name, len, s->space.epoch, t->status);
    if (s->wanted && s->space.epoch != 0 && t->status == 0)
        dir_epochs_tell(t->job.dir, s->space.name, len); /* at once; of all else the watch tells */
    end(s, t->status);
}

static void applied(struct dir_job *job) {
    dir_ticket_wait(&SPACE(job)->t);
}

static void apply_soon(struct space *s) {
    s->t.job.there = apply_there;
    s->t.job.back = applied;
    dir_to_node(s->t.job.dir, &s->t.job);
}

static struct space *space_new(struct yk_dir *d, const char *name, uint32_t len) {
    struct space *s = len <= YK_MEMBER_SPACE_MAX ? calloc(1, sizeof(*s)) : NULL;
    if (s == NULL)
        return NULL;
    s->t.job.dir = d;
    s->t.done = durable;
    dir_list_init(&s->t.all);
    memcpy(s->space.name, name, len);
    return s;
}

static void heard(struct dir_job *job) {
    apply_soon(SPACE(job));
}

void dir_space_told(void *arg, const struct yk_member_space *space) {
    struct space *s = space_new(arg, space->name, (uint32_t)strlen(space->name));
    if (s == NULL)
        return; /* without memory a later change tells it again */
    s->space = *space;
    s->what = YK_NS_CREATE;
    s->t.job.back = heard;
    dir_to_loop(arg, &s->t.job);
}

int dir_space_learn(struct yk_dir *d, const char *ns, uint32_t ns_len, uint64_t epoch) {
    struct space *s = space_new(d, ns, ns_len);
    if (s == NULL)
        return -YK_ENOMEM;
    s->what = YK_NS_CREATE;
    s->space.epoch = epoch;
    s->space.quota_bytes = YK_MEMBER_KEEP_QUOTA;
    s->space.copies = YK_MEMBER_KEEP_COPIES;
    s->space.guarantee_bytes = YK_MEMBER_KEEP_GUARANTEE;
    s->space.priority = YK_MEMBER_KEEP_PRIORITY;
    apply_soon(s);
    return 0;
}

/* ---- wanted by a client ----------------------------------------------------------------------------- */

static void changed(struct dir_job *job) {
    struct space *s = SPACE(job);
    if (s->t.status == 0)
        apply_soon(s);
    else
        end(s, s->t.status);
}

static void done(void *user, int status, const char *text) {
    struct space *s = user;
    (void)text;
    s->t.status = status;
    s->t.job.back = changed;
    dir_to_loop(s->t.job.dir, &s->t.job);
}

/* Before this node is ready a client that opens a namespace waits: what it then puts might be dropped again. */
static void begin(struct dir_job *job) {
    struct space *s = SPACE(job);
    struct yk_dir *d = job->dir;
    if (!d->ready && !d->stopping && dir_left_ms(s->deadline_ns, 1) > 0) {
        dir_list_add(&d->spaces, &s->t.all);
        dir_look_soon(d);
        return;
    }
    uint32_t ms = dir_left_ms(s->deadline_ns, YK_META_TIMEOUT_MAX_MS);
    int rc = ms == 0 || d->stopping ? -YK_EAGAIN : yk_member_set_space(d->member, &s->space, ms, done, s);
    if (rc < 0)
        end(s, rc);
}

uint32_t dir_spaces_look(struct yk_dir *d, uint64_t now_ns) {
    uint32_t left = 0;
    for (struct dir_link *l = d->spaces.next, *next; l != &d->spaces; l = next) {
        struct space *s = DIR_ITEM(l, struct space, t.all);
        next = l->next;
        if (d->ready || d->stopping || s->deadline_ns <= now_ns) {
            dir_list_remove(&s->t.all);
            begin(&s->t.job);
        }
        left++;
    }
    return left;
}

struct dir_job *dir_space_wish(struct yk_dir *d, unsigned what, const char *ns, uint32_t ns_len, uint64_t value,
                               uint64_t deadline_ns, uint64_t token) {
    struct space *s = space_new(d, ns, ns_len);
    if (s == NULL)
        return NULL;
    s->wanted = 1;
    s->what = what;
    s->token = token;
    s->deadline_ns = deadline_ns;
    s->space.epoch = what == YK_NS_RAISE || what == YK_POOL_NS_OPEN ? value : 0;
    if (what == YK_NS_CREATE && value == YK_MEMBER_NO_SPACE)
        value--; /* a quota, however large, is no removal */
    s->space.quota_bytes = what == YK_NS_CREATE   ? value
                           : what == YK_NS_REMOVE ? YK_MEMBER_NO_SPACE
                                                  : YK_MEMBER_KEEP_QUOTA;
    s->space.copies = what == YK_NS_COPIES ? (uint32_t)value : YK_MEMBER_KEEP_COPIES;
    s->space.guarantee_bytes = what == YK_NS_GUARANTEE ? value : YK_MEMBER_KEEP_GUARANTEE;
    s->space.priority = what == YK_NS_PRIORITY ? (uint32_t)value : YK_MEMBER_KEEP_PRIORITY;
    s->t.job.back = begin;
    return &s->t.job;
}

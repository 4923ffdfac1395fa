/* SPDX-License-Identifier: Apache-2.0
 *
 * An engine's life, its texts, and notifications that arrive.
 *
 * The end, in order: nothing new comes in from peers, own requests are cancelled and end, names are
 * withdrawn, each region waits for its last user, then threads and tables go.
 *
 * The text of a failure is kept for each thread, as in the store's client: a failed create has no
 * engine, and nothing has to be locked or freed.
 *
 * Threads: any; create and destroy as transfer.h says.
 */
#include "xfer/engine_priv.h"
#include "xfer/shard_priv.h"
#include "xfer/sock.h"

#include "base/clock.h"
#include "xfer/rdma/rdma.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

static _Thread_local char last_text[YK_ERR_TEXT_MAX];

int yk_xfer_fail(int code, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(last_text, sizeof(last_text), fmt, ap);
    va_end(ap);
    return code;
}

int yk_xfer_fail_err(const struct yk_err *err) {
    return yk_xfer_fail(err->code, "%s", err->text[0] != 0 ? err->text : yk_status_text(err->code));
}

const char *yk_xfer_error_text(void) {
    return last_text;
}

int yk_xfer_enter(const struct yk_xfer *e) {
    if (__builtin_expect(e == NULL, 0))
        return yk_xfer_fail(-YK_EINVAL, "the engine is NULL");
    if (__builtin_expect(e->forks != yk_inproc_forks(), 0))
        return yk_xfer_fail(-YK_EFORK, "an engine that was created before fork() is used in the child");
    return 0;
}

const char *yk_xfer_address(const yk_xfer *e) {
    return e != NULL ? e->address : "";
}

/* ---- notifications ------------------------------------------------------------------------------ */

int yk_engine_note(void *user, const char *peer, const void *data, uint32_t len) {
    struct yk_xfer *e = user;
    struct yk_note *n = malloc(sizeof(*n) + len);
    if (n == NULL)
        return -YK_EAGAIN; /* asked again: as good as a full queue */
    n->next = NULL;
    n->bytes = len;
    snprintf(n->peer, sizeof(n->peer), "%s", peer);
    memcpy(n->data, data, len);
    pthread_mutex_lock(&e->notes);
    int full = e->note_count == YK_NOTES_MAX;
    if (!full) {
        if (e->note_head == NULL)
            e->note_head = n;
        else
            e->note_tail->next = n;
        e->note_tail = n;
        e->note_count++;
    }
    pthread_mutex_unlock(&e->notes);
    if (full)
        free(n);
    return full ? -YK_EAGAIN : 0;
}

int yk_xfer_note_next(yk_xfer *e, yk_xfer_note *ret_note) {
    int rc = yk_xfer_enter(e);
    if (rc < 0)
        return rc;
    if (ret_note == NULL)
        return yk_xfer_fail(-YK_EINVAL, "ret_note is NULL");
    pthread_mutex_lock(&e->notes);
    struct yk_note *n = e->note_head;
    if (n != NULL) {
        e->note_head = n->next;
        e->note_count--;
    }
    pthread_mutex_unlock(&e->notes);
    if (n == NULL)
        return YK_MISS;
    memcpy(ret_note->peer, n->peer, sizeof(ret_note->peer));
    ret_note->bytes = n->bytes;
    memcpy(ret_note->data, n->data, n->bytes);
    free(n);
    return 0;
}

/* ---- create ---------------------------------------------------------------------------------------- */

static int describe_self(struct yk_xfer *e, struct yk_err *err) {
    struct yk_peer_info *i = &e->self;
    uint64_t random[2];
    if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
        return yk_err_set(err, -YK_EIO, "the kernel gives no random numbers");
    i->incarnation = random[0] | 1;
    e->note_number = random[1];
    i->memory_token = yk_inproc_token();
    i->pid = (uint32_t)getpid();
    (void)yk_host_boot_id(i->boot_id);
    snprintf(e->mem_address, sizeof(e->mem_address), "mem:%016llx", (unsigned long long)i->incarnation);
    return 0;
}

static int make_tables(struct yk_xfer *e, struct yk_err *err) {
    e->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (e->event_fd < 0)
        return yk_err_set(err, -YK_ELIMIT, "no descriptor for events: raise the limit of open files");
    e->batches = yk_batches_new();
    struct yk_registry *g = yk_registry_new();
    if (e->batches == NULL || g == NULL) {
        yk_registry_free(g);
        return yk_err_set(err, -YK_ENOMEM, "no memory for an engine");
    }
    e->local = yk_inproc_new(e->self.incarnation, g, yk_engine_note, e);
    if (e->local == NULL) {
        yk_registry_free(g);
        return yk_err_set(err, -YK_ENOMEM, "no memory for an engine");
    }
    e->registry = g;
    return 0;
}

static int make_shards(struct yk_xfer *e, struct yk_err *err) {
    for (uint32_t i = 0; i < e->opts.shards; i++) {
        int rc = yk_shard_new(e, i, e->xports, &e->shards[i], err);
        if (rc < 0)
            return rc;
        e->shard_count++;
    }
    return 0;
}

int yk_engine_create(const struct yk_xfer_opts *opts, const struct yk_xport_ops *const *xports,
                     struct yk_xfer **ret_engine, struct yk_err *err) {
    struct yk_xfer *e = calloc(1, sizeof(*e));
    if (e == NULL)
        return yk_err_set(err, -YK_ENOMEM, "no memory for an engine");
    int rc = yk_opts_take(opts, &e->opts, err);
    if (rc < 0) {
        free(e);
        return rc;
    }
    e->xports = xports;
    e->event_fd = -1;
    e->peer_idle_ns = YK_PEER_IDLE_NS;
    e->lanes_idle_ns = YK_LANES_IDLE_NS;
    e->evict_ns = YK_LANES_EVICT_NS;
    e->lanes_kept = YK_LANES_KEPT;
    e->unregister_ns = YK_UNREGISTER_NS;
    e->ways_gone_ns = YK_WAYS_GONE_NS;
    pthread_mutex_init(&e->tables, NULL);
    pthread_mutex_init(&e->events, NULL);
    pthread_mutex_init(&e->notes, NULL);
    rc = describe_self(e, err);
    e->forks = yk_inproc_forks();
    if (rc == 0)
        rc = make_tables(e, err);
    e->reach_self = (e->opts.transports & YK_XFER_MEM) == 0;
    if (rc == 0 && e->opts.rdma != NULL)
        rc = yk_rdma_fits(e->opts.rdma, err);
    if (rc == 0 && e->opts.transports == YK_XFER_RDMA) /* beside others it may have nothing to do */
        rc = yk_rdma_check(e->opts.rdma, err);
    e->direct = (e->opts.transports & YK_XFER_MEM) && e->opts.fault == NULL;
    if (rc == 0)
        rc = yk_places_new(e->opts.topology, &e->places, err);
    if (rc == 0)
        rc = make_shards(e, err);
    if (rc == 0)
        rc = yk_remote_start(e, err);
    if (rc < 0) {
        yk_xfer_destroy(e);
        return rc;
    }
    *ret_engine = e;
    return 0;
}

int yk_xfer_create(const yk_xfer_opts *opts, yk_xfer **ret_engine) {
    struct yk_err err;
    if (ret_engine == NULL)
        return yk_xfer_fail(-YK_EINVAL, "ret_engine is NULL");
    int rc = yk_engine_create(opts, yk_xports, ret_engine, &err);
    return rc < 0 ? yk_xfer_fail_err(&err) : 0;
}

/* ---- destroy ----------------------------------------------------------------------------------------- */

static void cancel_all(struct yk_shard *s, void *arg) {
    (void)arg;
    yk_shard_fail(s, NULL, NULL, -YK_ECANCELED);
}

static void end_requests(struct yk_xfer *e) {
    struct timespec little = {.tv_nsec = 200000};
    for (uint32_t i = 0; i < e->shard_count; i++) {
        struct yk_shard *s = e->shards[i];
        while (__atomic_load_n(&s->inbox, __ATOMIC_SEQ_CST) != NULL ||
               __atomic_load_n(&s->work, __ATOMIC_SEQ_CST) > 0) {
            yk_shard_call(s, cancel_all, NULL);
            nanosleep(&little, NULL);
        }
    }
}

static void free_notes(struct yk_xfer *e) {
    while (e->note_head != NULL) {
        struct yk_note *n = e->note_head;
        e->note_head = n->next;
        free(n);
    }
}

void yk_xfer_destroy(yk_xfer *e) {
    if (e == NULL || (e->local != NULL && e->forks != yk_inproc_forks()))
        return; /* a child has none of its threads */
    end_requests(e);
    yk_segments_withdraw(e, 0);
    yk_remote_stop(e);
    if (e->local != NULL)
        yk_inproc_close(e->local);
    if (e->registry != NULL)
        yk_engine_retire_all(e);
    yk_remote_free(e);
    for (uint32_t i = 0; i < e->shard_count; i++)
        yk_shard_free(e->shards[i]);
    free_notes(e);
    yk_segments_free(e);
    yk_peers_free(e);
    yk_memory_free(e);
    yk_batches_free(e->batches);
    yk_places_free(e->places);
    yk_inproc_put(e->local);
    if (e->event_fd >= 0)
        close(e->event_fd);
    pthread_mutex_destroy(&e->tables);
    pthread_mutex_destroy(&e->events);
    pthread_mutex_destroy(&e->notes);
    yk_opts_drop(&e->opts);
    free(e);
}

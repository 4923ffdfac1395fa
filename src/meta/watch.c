/* SPDX-License-Identifier: Apache-2.0
 *
 * Watches, as far as both backends have them alike: their table, opening and closing by message, and what
 * is told to their users.
 *
 * Threads: public functions on any; the rest on yolk-meta.
 */
#include "meta/meta_priv.h"

#include <stdlib.h>
#include <string.h>

static void tell(struct yk_meta_watch *w, const struct yk_meta_watch_event *event) {
    w->fn(w->user, event);
}

static void watch_free(struct yk_meta_watch *w) {
    if (w == NULL)
        return;
    __atomic_fetch_sub(&w->meta->watches, 1, __ATOMIC_RELAXED); /* pairs with yk_meta_watch_make */
    free(w->prefix);
    free(w);
}

void yk_meta_watch_drop(struct yk_meta_watch *w) {
    if (w->started)
        w->meta->ops->unwatch(w->meta->backend, w);
    if (w->listed)
        TAILQ_REMOVE(&w->meta->watch_list, w, link);
    watch_free(w);
}

static void end(struct yk_meta_watch *w, int status, const char *text) {
    struct yk_meta_watch_event e = {.kind = YK_META_WATCH_ENDED, .status = status, .text = text};
    yk_meta_watch_fn fn = w->fn;
    void *user = w->user;
    yk_meta_watch_drop(w);
    fn(user, &e);
}

void yk_meta_watches_end(struct yk_meta *meta) {
    struct yk_meta_watch *w;
    while ((w = TAILQ_FIRST(&meta->watch_list)) != NULL)
        end(w, -YK_ECANCELED, "the metadata was closed");
}

static void close_posted(struct yk_meta_msg *msg) {
    end((void *)((char *)msg - offsetof(struct yk_meta_watch, close_msg)), 0, "");
}

/* Without memory to start it a watch is in trouble until it is closed. */
void yk_meta_watch_start(struct yk_meta_watch *w) {
    TAILQ_INSERT_TAIL(&w->meta->watch_list, w, link);
    w->listed = true;
    w->started = w->meta->ops->watch(w->meta->backend, w) == 0;
    if (!w->started)
        yk_meta_tell_trouble(w, -YK_ENOMEM, "no memory for a watch; it tells nothing");
}

static void open_posted(struct yk_meta_msg *msg) {
    yk_meta_watch_start((void *)((char *)msg - offsetof(struct yk_meta_watch, open_msg)));
}

int yk_meta_watch_make(struct yk_meta *meta, const char *prefix, uint64_t from_revision,
                       yk_meta_watch_fn fn, void *user, struct yk_meta_watch **ret_watch) {
    int rc = fn == NULL || from_revision > INT64_MAX ? -YK_EINVAL : yk_meta_check_key(prefix);
    if (rc < 0)
        return rc;
    struct yk_meta_watch *w = calloc(1, sizeof(*w));
    if (w == NULL || (w->prefix = strdup(prefix)) == NULL) {
        free(w);
        return -YK_ENOMEM;
    }
    w->meta = meta;
    w->next = from_revision;
    w->fn = fn;
    w->user = user;
    w->told_state = from_revision != 0;
    w->open_msg.fn = open_posted;
    w->close_msg.fn = close_posted;
    if (__atomic_fetch_add(&meta->watches, 1, __ATOMIC_RELAXED) >= meta->opts.max_watches) {
        watch_free(w);
        return -YK_ELIMIT;
    }
    *ret_watch = w;
    return 0;
}

int yk_meta_watch_open(struct yk_meta *meta, const char *prefix, uint64_t from_revision,
                       yk_meta_watch_fn fn, void *user, struct yk_meta_watch **ret_watch) {
    struct yk_meta_watch *w;
    int rc = yk_meta_watch_make(meta, prefix, from_revision, fn, user, &w);
    if (rc < 0)
        return rc;
    *ret_watch = w; /* before the first call to fn */
    rc = yk_meta_post(meta, &w->open_msg);
    if (rc < 0)
        watch_free(w);
    return rc;
}

void yk_meta_watch_close(struct yk_meta_watch *w) {
    (void)yk_meta_post(w->meta, &w->close_msg); /* refused: the metadata ends it */
}

/* ---- told by the backend ---------------------------------------------------------------------- */

void yk_meta_tell_state(struct yk_meta_watch *w, const struct yk_meta_kv *kvs, size_t count,
                        uint64_t revision) {
    struct yk_meta_watch_event e = {.kind = YK_META_WATCH_STATE,
                                    .resync = w->told_state,
                                    .revision = revision,
                                    .kvs = kvs,
                                    .count = count,
                                    .text = ""};
    w->next = revision + 1;
    w->told_state = true;
    w->in_trouble = false;
    tell(w, &e);
}

void yk_meta_tell_changes(struct yk_meta_watch *w, const struct yk_meta_kv *kvs, size_t count,
                          uint64_t revision) {
    struct yk_meta_watch_event e = {.kind = YK_META_WATCH_CHANGES,
                                    .revision = revision,
                                    .kvs = kvs,
                                    .count = count,
                                    .text = ""};
    w->next = revision + 1;
    w->in_trouble = false;
    if (count > 0)
        tell(w, &e);
}

void yk_meta_tell_trouble(struct yk_meta_watch *w, int status, const char *text) {
    struct yk_meta_watch_event e = {.kind = YK_META_WATCH_TROUBLE, .status = status, .text = text};
    if (w->in_trouble)
        return;
    w->in_trouble = true;
    tell(w, &e);
}

void yk_meta_tell_good(struct yk_meta_watch *w) {
    struct yk_meta_watch_event e = {
        .kind = YK_META_WATCH_GOOD, .revision = w->next - 1, .text = ""};
    if (!w->in_trouble)
        return;
    w->in_trouble = false;
    tell(w, &e);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * The log of removes gets onto its disk by a thread of its own, `yolk-log`: an fdatasync must keep neither the
 * directory's loop, nor wait behind what else blocks in libuv's few threads (segments that are opened at peers that do
 * not answer; names that are resolved), since removes are answered for when they are durable.
 *
 * One piece of work at a time, as the core asks for it (core.h); it comes back to the loop as a job.
 *
 * Threads: as each function says. What both sides see stands under the directory's lock.
 */
#include "dir/dir_priv.h"

#include "dir/rlog.h"

static void synced(struct dir_job *job) {
    struct yk_dir *d = job->dir;
    d->syncing = 0;
    yk_dir_core_time(d->core, dir_now_ms());
    yk_dir_core_synced(d->core);
    dir_tick_soon(d);
    dir_log_look(d);
}

static struct yk_dir_rlog_io *next_io(struct yk_dir *d) {
    pthread_mutex_lock(&d->lock);
    while (d->sync.io == NULL && !d->sync.stop)
        pthread_cond_wait(&d->sync.cond, &d->lock);
    struct yk_dir_rlog_io *io = d->sync.io;
    d->sync.io = NULL;
    pthread_mutex_unlock(&d->lock);
    return io;
}

static void *sync_main(void *arg) {
    struct yk_dir *d = arg;
    struct yk_dir_rlog_io *io;
    pthread_setname_np(pthread_self(), "yolk-log");
    while ((io = next_io(d)) != NULL) {
        yk_dir_rlog_io(io);
        dir_to_loop(d, &d->sync.done);
    }
    return NULL;
}

int dir_sync_open(struct yk_dir *d) {
    d->sync = (struct dir_sync){.done = {.dir = d, .back = synced}};
    pthread_cond_init(&d->sync.cond, NULL);
    d->sync.started = pthread_create(&d->sync.thread, NULL, sync_main, d) == 0;
    if (!d->sync.started)
        pthread_cond_destroy(&d->sync.cond);
    return d->sync.started ? 0 : -YK_EIO;
}

void dir_sync_close(struct yk_dir *d) {
    if (!d->sync.started)
        return;
    pthread_mutex_lock(&d->lock);
    d->sync.stop = 1;
    pthread_cond_signal(&d->sync.cond);
    pthread_mutex_unlock(&d->lock);
    pthread_join(d->sync.thread, NULL);
    pthread_cond_destroy(&d->sync.cond);
    d->sync.started = 0;
}

void dir_sync(void *arg, struct yk_dir_rlog_io *io) {
    struct yk_dir *d = arg;
    d->syncing = 1;
    pthread_mutex_lock(&d->lock);
    d->sync.io = io;
    pthread_cond_signal(&d->sync.cond);
    pthread_mutex_unlock(&d->lock);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * What a node does when its log of removes cannot be written any more (a full disk, an error of the disk), or, when it
 * begins anew while its process goes on, not be read. It cannot answer for a remove then, so as a member it would hold up
 * all of them for ever. It keeps out of the cluster: its lease goes back, so it is expelled at once and removes are done without it; its core is closed. After a while, longer
 * each time, it tries whether the state directory takes what a node writes there; if so it joins in a new
 * incarnation, with the log as it is on disk, as if its process had been killed and started again.
 *
 * Not tried: to write the same log on. After a failed flush nobody knows what of it is on the disk (rlog.h).
 *
 * Threads: the directory's loop; `probe_work`: one of libuv's.
 */
#include "dir/dir_priv.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define WAIT_MS     1000u   /* before the first try, doubled up to: */
#define WAIT_MAX_MS 60000u
#define CALM_MS     600000u /* who took part for so long begins with the first wait again */
#define PROBE_BYTES (1u << 20) /* a map is a fifth of that, a compaction's piece a quarter */
#define PROBE_FILE  "probe"

void dir_log_failed(struct yk_dir *d, const char *done, const char *why) {
    uint64_t now = dir_now_ms();
    uint32_t next = 2 * d->log_wait_ms < WAIT_MAX_MS ? 2 * d->log_wait_ms : WAIT_MAX_MS;
    d->log_wait_ms = d->log_wait_ms == 0 || now - d->log_ms >= CALM_MS ? WAIT_MS : next;
    d->log_ms = now;
    snprintf(d->log_text, sizeof(d->log_text),
             "this node keeps out of the cluster, since its log of removes cannot be %s: %.120s", done, why);
    yk_log(YK_LOG_ERROR, "dir", "%s; tries again in %u s", d->log_text, d->log_wait_ms / 1000);
    yk_member_hold(d->member, d->log_text);
    (void)dir_core_close(d); /* or a moment later */
}

/* ---- trying again ----------------------------------------------------------------------------------- */

struct probe {
    uv_work_t work;
    struct yk_dir *dir;
    char text[YK_ERR_TEXT_MAX]; /* "": it went well */
};

/* A file as large as what is written at a time, flushed: room and a disk that takes it. */
static void probe_work(uv_work_t *work) {
    struct probe *p = work->data;
    char path[4096];
    size_t left = PROBE_BYTES;
    void *zeros = calloc(1, PROBE_BYTES);
    snprintf(path, sizeof(path), "%s/" PROBE_FILE, p->dir->opts.state_dir);
    int fd = zeros != NULL ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : -1;
    int good = fd >= 0;
    while (good && left > 0) {
        ssize_t n = write(fd, zeros, left);
        if (n > 0)
            left -= (size_t)n;
        else
            good = n < 0 && errno == EINTR;
    }
    good = good && fsync(fd) == 0;
    if (!good)
        snprintf(p->text, sizeof(p->text), "write %.100s: %s", path, strerror(errno));
    if (fd >= 0) {
        close(fd);
        (void)unlink(path);
    }
    free(zeros);
}

static void probe_done(uv_work_t *work, int status) {
    struct probe *p = work->data;
    struct yk_dir *d = p->dir;
    (void)status;
    d->probing = 0;
    if (!d->stopping && p->text[0] != '\0') {
        dir_log_failed(d, "written", p->text);
    } else if (!d->stopping) {
        yk_log(YK_LOG_INFO, "dir", "the directory of the log of removes takes writes: this node tries to return");
        d->log_text[0] = '\0';
        yk_member_hold(d->member, NULL);
    }
    free(p);
}

static void probe(struct yk_dir *d) {
    struct probe *p = calloc(1, sizeof(*p));
    if (p == NULL)
        return; /* with the next second */
    p->dir = d;
    p->work.data = p;
    d->probing = 1;
    if (uv_queue_work(&d->loop, &p->work, probe_work, probe_done) != 0) {
        d->probing = 0;
        free(p);
    }
}

void dir_log_look(struct yk_dir *d) {
    const char *why = d->core != NULL ? yk_dir_core_failed(d->core) : NULL;
    if (d->stopping)
        return;
    if (d->log_text[0] == '\0' && why != NULL)
        dir_log_failed(d, "written", why);
    else if (d->log_text[0] != '\0' && !d->probing && dir_core_close(d) == 0 &&
             dir_now_ms() - d->log_ms >= d->log_wait_ms)
        probe(d);
}

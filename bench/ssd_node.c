/* SPDX-License-Identifier: Apache-2.0
 *
 * A node with an SSD tier in a process of its own, and what it counted (bench/ssd_priv.h).
 *
 * A thread of that process answers over a socket pair with a copy of its counters. The statistics that
 * clients get were rejected for it: they are JSON, and reading them goes through the very thread that is
 * being measured.
 */
#include "bench/ssd_priv.h"

#include "base/clock.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* Longer than the tier waits for its device, so that a device that hangs is told from a tier that does. */
#define IDLE_WAIT_NS ((YK_FILE_STALL_MS + 15000u) * YK_NS_PER_MS)
#define IDLE_LOOK_US 2000u
#define WAIT_MS     50u /* as yolkd has it */
#define RESERVE      2u /* percent of DRAM */
#define DESCRIPTORS  8192u
#define SEGMENT_SMALL                                                                              \
    (8 * MIB) /* of files below SIZE_SMALL: what is used again in lots must be many */
#define SIZE_SMALL (2048 * MIB)

/* ---- in the node's process ---------------------------------------------------------------------- */

struct setup {
    const struct ssd_bench *b;
    const struct ssd_node_opts *o;
    int fd;
};

struct teller {
    struct yk_node *node;
    int fd;
};

static int whole(int fd, void *buf, size_t len, int writing) {
    for (size_t done = 0; done < len;) {
        ssize_t n = writing ? write(fd, (char *)buf + done, len - done)
                            : read(fd, (char *)buf + done, len - done);
        if (n <= 0 && !(n < 0 && errno == EINTR))
            return -YK_EGONE;
        done += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

static void *tell(void *arg) {
    static struct yk_node_stats stats;
    static struct ssd_snap snap;
    struct teller *t = arg;
    char byte;
    while (whole(t->fd, &byte, 1, 0) == 0) {
        yk_node_stats(t->node, &stats);
        snap.store = stats.store;
        if (yk_node_ssd(t->node) != NULL) {
            yk_ssd_counters_get(yk_node_ssd(t->node), &snap.ssd);
            yk_ssd_dev_stats_get(yk_node_ssd(t->node), 0, &snap.dev);
        }
        snap.cpu_s = yk_bench_cpu_s();
        snap.now_ns = yk_now_ns(); /* one clock for all processes */
        if (whole(t->fd, &snap, sizeof(snap), 1) < 0)
            break;
    }
    return NULL;
}

static void serving(void *arg, struct yk_node *node) {
    static struct teller t;
    const struct setup *s = arg;
    pthread_t thread;
    t = (struct teller){node, s->fd};
    if (pthread_create(&thread, NULL, tell, &t) == 0)
        pthread_detach(thread);
}

static void tune(void *arg, struct yk_node_opts *no) {
    const struct setup *s = arg;
    struct yk_store_ssd_opts *ssd = &no->store.ssd;
    ssd->dev[0].path = s->b->node.path;
    ssd->dev[0].size_bytes = s->b->size;
    ssd->dev_count = 1;
    ssd->format = !s->o->keep;
    ssd->when = s->o->when;
    ssd->no_preload = s->o->no_preload;
    ssd->wait_ms = WAIT_MS;
    ssd->segment_bytes = s->b->size < SIZE_SMALL ? SEGMENT_SMALL : 0;
}

/* ---- in ours -------------------------------------------------------------------------------------- */

int ssd_node_open(const struct ssd_bench *b, const struct ssd_node_opts *opts,
                  struct ssd_node *ret) {
    int sv[2];
    *ret = (struct ssd_node){.fd = -1, .rig = {.own = {.kept.life_fd = -1}}};
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0)
        return -YK_EIO;
    struct setup s = {b, opts, sv[1]};
    struct yk_own_opts oo = {
        .dram_bytes = b->dram,
        .max_blocks = (uint32_t)(b->dram / opts->block_bytes * 5u / 4u) + DESCRIPTORS,
        .reserve_percent = RESERVE,
        .tune = tune,
        .serving = serving,
        .arg = &s,
    };
    int rc = yk_rig_open(&ret->rig, &oo, 0);
    close(sv[1]);
    ret->fd = sv[0];
    if (rc < 0)
        ssd_node_close(ret);
    return rc;
}

void ssd_node_close(struct ssd_node *n) {
    yk_rig_close(&n->rig);
    if (n->fd >= 0)
        close(n->fd);
    n->fd = -1;
}

int ssd_node_snap(struct ssd_node *n, struct ssd_snap *ret) {
    char byte = 's';
    int rc = whole(n->fd, &byte, 1, 1);
    if (rc == 0)
        rc = whole(n->fd, ret, sizeof(*ret), 0);
    if (rc < 0)
        fputs("yolk bench: the node's process ended in the middle\n", stderr);
    return rc;
}

int ssd_node_idle(struct ssd_node *n) {
    uint64_t end = yk_now_ns() + IDLE_WAIT_NS;
    struct ssd_snap s;
    int rc;
    while ((rc = ssd_node_snap(n, &s)) == 0) {
        if (s.store.leaving_blocks == 0 && s.store.raising == 0 && s.ssd.queued_bytes == 0 &&
            s.ssd.reads_now == 0)
            return 0;
        if (yk_now_ns() > end) {
            fprintf(
                stderr,
                "yolk bench: the node does not come to rest: %llu blocks leaving, %llu rising, "
                "%llu bytes to be written, %llu reads; the device: state %u, %llu requests, the "
                "oldest for %llu ms, cleaner '%s'; %s\n",
                (unsigned long long)s.store.leaving_blocks, (unsigned long long)s.store.raising,
                (unsigned long long)s.ssd.queued_bytes, (unsigned long long)s.ssd.reads_now,
                s.dev.state, (unsigned long long)s.dev.io.queued,
                (unsigned long long)s.dev.stalled_ms, s.dev.cleaner, s.dev.note);
            return -YK_ETIMEDOUT;
        }
        usleep(IDLE_LOOK_US);
    }
    return rc;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * A node in a child process (src/replay/own.h).
 */
#include "replay/own.h"

#include "base/clock.h"
#include "node/node.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define MIB (1ull << 20)

#define CLIENTS_DEFAULT 128u
#define STOP_TIMEOUT_MS 10000
/* What a client holds ahead by default, what all of them may together, and the least that helps. */
#define CLIENT_HOLD_BYTES  (16 * MIB)
#define CLIENTS_HOLD_BYTES (1024 * MIB)
#define CLIENT_HOLD_LEAST  (256 * 1024ull)
/* What a client has under way. */
#define CLIENT_BLOCKS 16u
/* Blocks evicted and not yet reused: the node frees them in lots. */
#define LIMBO_BLOCKS 128u

uint64_t yk_own_hold_bytes(uint32_t clients) {
    uint64_t each = CLIENTS_HOLD_BYTES / (clients != 0 ? clients : 1);
    each = each < CLIENT_HOLD_LEAST ? CLIENT_HOLD_LEAST : each;
    return each < CLIENT_HOLD_BYTES ? each : CLIENT_HOLD_BYTES;
}

uint64_t yk_own_dram_bytes(uint64_t blocks, uint64_t block_bytes, uint32_t clients,
                           uint32_t reserve_percent) {
    uint64_t n = blocks + LIMBO_BLOCKS + (uint64_t)clients * CLIENT_BLOCKS;
    uint64_t bytes = n * block_bytes + clients * yk_own_hold_bytes(clients) + 64 * MIB;
    bytes += bytes / 64;                              /* tails of extents */
    return bytes + bytes * reserve_percent * 3 / 200; /* reclaim goes on to 1.5 times it */
}

/* The store reclaims ahead of its SSD tier when less than an eighth, but at most 128 MiB, is free. */
uint64_t yk_own_ahead_bytes(uint64_t dram_bytes) {
    uint64_t ahead = dram_bytes / 6;
    return ahead < 160 * MIB ? ahead : 160 * MIB;
}

const char *yk_own_ssd_dir(void) {
    const char *tmp = getenv("TMPDIR");
    if (tmp != NULL && tmp[0] != '\0')
        return tmp;
    return access("/var/tmp", W_OK | X_OK) == 0 ? "/var/tmp" : "/tmp";
}

/* At least 32 segments, so that one that is being filled and one that is cleaned are a small part; and
 * none so small that a block does not fit it several times. */
uint64_t yk_own_ssd_bytes(uint64_t blocks, uint64_t block_bytes, int roomy,
                          uint64_t *ret_segment_bytes) {
    uint64_t payload = blocks * ((block_bytes + 4095u) & ~4095ull), segment = 64 * MIB;
    while (segment > MIB && segment > payload / 32u && segment / 2u >= 4u * block_bytes)
        segment /= 2u;
    if (ret_segment_bytes != NULL)
        *ret_segment_bytes = segment;
    uint64_t bytes = payload + payload / 16u; /* headers, tails of segments */
    bytes = roomy ? 2u * bytes + 24u * segment : bytes + bytes / 4u + 12u * segment;
    return (bytes + segment - 1u) / segment * segment;
}

uint64_t yk_own_ssd_room(const char *dir) {
    struct statvfs fs;
    return statvfs(dir, &fs) < 0 ? 0 : (uint64_t)fs.f_bavail * fs.f_frsize;
}

uint64_t yk_own_room(void) {
    return yk_segment_room("/"); /* a memfd has no file system of its own that could be full */
}

/* ---- the child ------------------------------------------------------------------------------ */

/* What start_child hands to its child. */
struct birth {
    const struct yk_own_opts *opts;
    const struct yk_own *own;
    pid_t parent;
    int ssd_fd;
};

/* ssd_path: of the file of the SSD tier, NULL = none. */
static void node_opts(const struct yk_own_opts *o, const struct yk_own *own, const char *ssd_path,
                      struct yk_node_opts *no) {
    memset(no, 0, sizeof(*no));
    no->store.segment.name = o->segment;
    no->store.segment.data_bytes = o->dram_bytes;
    no->store.segment.max_blocks = o->max_blocks;
    no->store.segment.max_clients = o->max_clients != 0 ? o->max_clients : CLIENTS_DEFAULT;
    no->store.segment.numa_node = -1;
    no->store.policy = o->policy != NULL ? o->policy : "lru";
    no->store.capacity_blocks = o->capacity_blocks;
    no->store.reserve_percent = o->reserve_percent;
    no->store.held_percent = 50;
    no->store.seed = 1;
    no->store.replays = (uint8_t)o->replays;
    no->listen[0].kind = YK_ADDR_UNIX;
    snprintf(no->listen[0].host, sizeof(no->listen[0].host), "%s", own->url + strlen("unix:"));
    no->listen_count = 1;
    no->populate = o->populate;
    if (ssd_path != NULL) {
        no->store.ssd.dev[0] = (struct yk_ssd_dev_opts){ssd_path, o->ssd_bytes};
        no->store.ssd.dev_count = 1;
        no->store.ssd.segment_bytes = o->ssd_segment_bytes;
        no->store.ssd.capacity_blocks = o->ssd_capacity_blocks;
        no->store.ssd.ahead = (uint8_t)o->ahead;
    }
    if (o->tune != NULL)
        o->tune(o->arg, no);
}

static void child(void *arg, int life_fd, int report_fd) {
    const struct birth *b = arg;
    char ssd_path[40];
    struct yk_node_opts no;
    struct yk_node *node = NULL;
    struct yk_err err = {0};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != b->parent)
        _exit(1);
    snprintf(ssd_path, sizeof(ssd_path), "/proc/self/fd/%d", b->ssd_fd);
    node_opts(b->opts, b->own, b->ssd_fd >= 0 ? ssd_path : NULL, &no);
    int rc = yk_node_start(&no, &node, &err);
    if (rc == 0 && b->opts->serving != NULL)
        b->opts->serving(b->opts->arg, node);
    if (!yk_kept_tell(report_fd, rc, 0, err.text) || rc < 0)
        _exit(1);
    yk_kept_live(life_fd);
    yk_node_stop(node);
}

/* ---- the parent ----------------------------------------------------------------------------- */

void yk_own_hide(struct yk_own *own) {
    if (own->dir[0] == '\0')
        return;
    unlink(own->url + strlen("unix:"));
    rmdir(own->dir);
    own->dir[0] = '\0';
}

/* A file without a name: -1 = none is asked for. */
static int make_ssd(const struct yk_own_opts *opts, int *ret_fd, struct yk_err *err) {
    const char *dir = opts->ssd_dir != NULL ? opts->ssd_dir : yk_own_ssd_dir();
    char path[4096];
    *ret_fd = -1;
    if (opts->ssd_bytes == 0)
        return 0;
    int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)) {
        snprintf(path, sizeof(path), "%s/yolk-XXXXXX", dir);
        fd = mkostemp(path, O_CLOEXEC);
        if (fd >= 0)
            unlink(path);
    }
    if (fd < 0)
        return yk_err_set(err, -YK_EINVAL, "cannot make a file for the SSD tier in '%s': %s", dir,
                          strerror(errno));
    *ret_fd = fd;
    return 0;
}

int yk_own_start(const struct yk_own_opts *opts, struct yk_own *ret_own, struct yk_err *err) {
    uint64_t start = yk_now_ns();
    struct yk_own own = {.kept.life_fd = -1};
    struct birth b = {opts, &own, getpid(), -1};
    struct yk_kept_report said;
    int rc = yk_kept_dir(own.dir, sizeof(own.dir), err);
    snprintf(own.url, sizeof(own.url), "unix:%s/sock", own.dir);
    if (rc == 0)
        rc = make_ssd(opts, &b.ssd_fd, err);
    if (rc == 0)
        rc = yk_kept_start(child, &b, "the node's process", &own.kept, &said, err);
    if (b.ssd_fd >= 0)
        close(b.ssd_fd); /* the node's alone now: it is gone with it */
    own.start_ns = yk_now_ns() - start;
    if (rc < 0) {
        yk_own_stop(&own, NULL);
        return rc;
    }
    *ret_own = own;
    return 0;
}

void yk_own_forget(struct yk_own *own) {
    yk_kept_forget(&own->kept);
    own->dir[0] = '\0';
}

void yk_own_stop(struct yk_own *own, double *ret_cpu_s) {
    yk_kept_stop(&own->kept, STOP_TIMEOUT_MS, ret_cpu_s);
    yk_own_hide(own);
}

void yk_own_kill(struct yk_own *own) {
    if (own->kept.pid == 0)
        return;
    yk_kept_stop(&own->kept, 0, NULL);
    yk_own_hide(own);
}

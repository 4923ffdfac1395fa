/* SPDX-License-Identifier: Apache-2.0
 *
 * A node that starts again on its memory: how long until it serves, after a clean stop and after
 * kill -9, with a million blocks; and how long a fresh one takes.
 *
 * The time runs from the start of the new process until a client that connects to it has a block in
 * its hands. Afterwards blocks are taken at random and compared, and the node's count must be what
 * was put: nothing may be lost. The segment is a named one, so a janitor process waits for the end of
 * this one, however it comes, and removes it.
 */
#include "bench/store_priv.h"

#include "base/clock.h"
#include "replay/payload.h"
#include "shm/segment.h"

#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define BLOCKS       1048576u
#define BLOCKS_QUICK 4096u
#define BLOCK_BYTES  8192u
#define CHECKED      20000u
#define FILL_S       30.0 /* a machine that takes longer to touch its memory restarts with less */

struct restart {
    struct yk_own_opts oo;
    char name[48];
    struct yk_rig rig;
    uint64_t n, random;
    int janitor_fd;
    pid_t janitor;
};

/* ---- the segment's end ------------------------------------------------------------------------ */

static void remove_segment(const char *name) {
    static const char *const suffixes[] = {"meta", "data", "clients"};
    char path[96];
    for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
        snprintf(path, sizeof(path), "/dev/shm/yolk-%s.%s", name, suffixes[i]);
        unlink(path);
    }
}

static int janitor_start(struct restart *r) {
    int fds[2];
    char byte;
    if (pipe(fds) < 0)
        return -YK_EIO;
    r->janitor = fork();
    if (r->janitor == 0) {
        signal(SIGINT, SIG_IGN);
        signal(SIGTERM, SIG_IGN);
        signal(SIGHUP, SIG_IGN);
        close(fds[1]);
        while (read(fds[0], &byte, 1) < 0 && errno == EINTR)
            continue;
        remove_segment(r->name);
        _exit(0);
    }
    close(fds[0]);
    r->janitor_fd = fds[1];
    return r->janitor < 0 ? -YK_EIO : 0;
}

static void janitor_end(struct restart *r) {
    close(r->janitor_fd);
    while (r->janitor > 0 && waitpid(r->janitor, NULL, 0) < 0 && errno == EINTR)
        continue;
}

/* ---- blocks ----------------------------------------------------------------------------------- */

#define BATCH 512u

static int fill(struct restart *r) {
    static yk_op ops[BATCH];
    static struct iovec iov[BATCH];
    static char keys[BATCH][YK_RIG_KEY_BYTES];
    unsigned char *room = yk_bench_buffer((uint64_t)BATCH * BLOCK_BYTES);
    if (room == NULL)
        return -YK_ENOMEM;
    uint64_t end = yk_now_ns() + (uint64_t)(FILL_S * 1e9);
    for (uint64_t at = 0; at < r->n; at += BATCH) {
        if (yk_now_ns() > end) {
            r->n = at;
            break;
        }
        for (uint32_t k = 0; k < BATCH; k++) {
            unsigned char *data = room + (size_t)k * BLOCK_BYTES;
            yk_payload_fill(data, BLOCK_BYTES, yk_payload_seed(at + k));
            yk_rig_key(at + k, keys[k]);
            iov[k] = (struct iovec){data, BLOCK_BYTES};
            ops[k] = (yk_op){.opcode = YK_OP_PUT,
                             .key = {keys[k], YK_RIG_KEY_BYTES},
                             .iov = &iov[k],
                             .iov_count = 1};
        }
        int good = yk_run(r->rig.client, ops, BATCH, 0);
        if (good != (int)BATCH)
            return yk_rig_failed(r->rig.client, "put", good < 0 ? good : ops[0].status);
    }
    munmap(room, (uint64_t)BATCH * BLOCK_BYTES);
    return 0;
}

static int get_and_check(struct restart *r) {
    unsigned char buf[BLOCK_BYTES];
    char text[YK_RIG_KEY_BYTES];
    size_t len = 0, first;
    uint64_t i = yk_random_below(&r->random, r->n);
    yk_rig_key(i, text);
    int rc = yk_get(r->rig.client, (yk_key){text, sizeof(text)}, buf, sizeof(buf), &len);
    if (rc != 0)
        return yk_rig_failed(r->rig.client, "get after a restart", rc < 0 ? rc : -YK_EGONE);
    if (len != BLOCK_BYTES || yk_payload_check(buf, len, yk_payload_seed(i), &first) != 0)
        return yk_rig_failed(r->rig.client, "get after a restart", -YK_ECORRUPT);
    return 0;
}

static int count_blocks(struct restart *r) {
    char *text;
    int rc = yk_stats_json(r->rig.client, &text);
    if (rc < 0)
        return yk_rig_failed(r->rig.client, "statistics", rc);
    json_t *root = json_loads(text, 0, NULL);
    uint64_t blocks = (uint64_t)json_integer_value(json_object_get(root, "blocks"));
    json_decref(root);
    free(text);
    if (blocks == r->n)
        return 0;
    fprintf(stderr, "yolk bench: %llu blocks after a restart, %llu were put\n",
            (unsigned long long)blocks, (unsigned long long)r->n);
    return -YK_ECORRUPT;
}

/* ---- cases ------------------------------------------------------------------------------------ */

/* Starts the node, connects, gets a block if there should be one. */
static int start(struct restart *r, int blocks, double *ret_s) {
    uint64_t begin = yk_now_ns();
    int rc = yk_rig_open(&r->rig, &r->oo, 0);
    if (rc == 0 && blocks)
        rc = get_and_check(r);
    *ret_s = (double)(yk_now_ns() - begin) / 1e9;
    return rc;
}

static int check_all(struct restart *r) {
    int rc = count_blocks(r);
    for (uint32_t i = 0; i < CHECKED && rc == 0; i++)
        rc = get_and_check(r);
    return rc;
}

static void row(struct yk_bench_run *run, const char *name, const char *unit, double value) {
    struct yk_bench_row b = YK_BENCH_ROW(name, unit, value);
    yk_bench_report_row(&run->report, &b);
}

static int cases(struct yk_bench_run *run, struct restart *r) {
    double fresh_s, clean_s, killed_s;
    int rc = start(r, 0, &fresh_s);
    uint64_t begin = yk_now_ns();
    if (rc == 0)
        rc = fill(r);
    double fill_s = (double)(yk_now_ns() - begin) / 1e9;
    if (rc < 0)
        return rc;
    yk_rig_close(&r->rig);
    rc = start(r, 1, &clean_s);
    if (rc == 0)
        rc = check_all(r);
    if (rc < 0)
        return rc;
    yk_close(r->rig.client);
    r->rig.client = NULL;
    yk_own_kill(&r->rig.own);
    rc = start(r, 1, &killed_s);
    if (rc == 0)
        rc = check_all(r);
    if (rc < 0)
        return rc;
    row(run, "base restart blocks", "1", (double)r->n);
    row(run, "base restart tier", "B", (double)r->oo.dram_bytes);
    row(run, "base filling untouched memory", "B/s", (double)(r->n * BLOCK_BYTES) / fill_s);
    row(run, "start fresh", "s", fresh_s);
    row(run, "restart clean", "s", clean_s);
    row(run, "restart killed", "s", killed_s);
    return 0;
}

/* As many blocks as fit into half of what there is in /dev/shm. */
static uint64_t blocks_wanted(const struct yk_bench_run *run) {
    uint64_t want = run->opts->quick ? BLOCKS_QUICK : BLOCKS;
    uint64_t room = yk_segment_room(NULL);
    uint64_t most = room == 0 ? want : room / 2 / BLOCK_BYTES / BATCH * BATCH;
    return most < BATCH ? BATCH : want < most ? want : most;
}

int yk_store_restart(struct yk_bench_run *run) {
    static const char *const names[] = {"start fresh", "restart clean", "restart killed", NULL};
    static struct restart r;
    if (!yk_bench_wants(&run->report, names))
        return 0;
    memset(&r, 0, sizeof(r));
    r.n = blocks_wanted(run);
    r.random = run->seed * UINT64_C(0x9e3779b97f4a7c15) | 1u;
    r.rig.own.kept.life_fd = -1;
    snprintf(r.name, sizeof(r.name), "bench-%d", (int)getpid());
    r.oo = (struct yk_own_opts){.dram_bytes = yk_own_dram_bytes(r.n, BLOCK_BYTES, 1, 0),
                                .max_blocks = (uint32_t)r.n + 8192u,
                                .segment = r.name};
    int rc = janitor_start(&r);
    if (rc == 0)
        rc = cases(run, &r);
    yk_rig_close(&r.rig);
    janitor_end(&r);
    return rc;
}

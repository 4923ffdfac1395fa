/* SPDX-License-Identifier: Apache-2.0
 *
 * Memory of the same process and of another one of the host, beside glibc's memcpy: one thread against
 * one thread, the same footprint, shared pages on the far side as there.
 */
#include "bench/xfer_priv.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define ROUND_BYTES (64 * MIB)

static const char *const op_name[] = {"", "read", "write"};

/* memcpy between two areas of the footprint, place after place, as the case beside it copies. */
struct plain_copy {
    char *near, *far;
    uint64_t bytes;
    int writes;
};

static int plain_copy(void *arg, uint64_t i) {
    struct plain_copy *c = arg;
    uint64_t at = i % (XFER_FOOTPRINT / c->bytes) * c->bytes;
    memcpy((c->writes ? c->far : c->near) + at, (c->writes ? c->near : c->far) + at, c->bytes);
    __asm__ volatile("" ::: "memory"); /* the copy is not dead */
    return 0;
}

/* Shared pages, touched, as the target's are. */
static char *far_area(void) {
    int fd = memfd_create("yolk-bench", MFD_CLOEXEC);
    void *p = MAP_FAILED;
    if (fd >= 0 && ftruncate(fd, (off_t)XFER_FOOTPRINT) == 0)
        p = mmap(NULL, XFER_FOOTPRINT, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd >= 0)
        close(fd);
    if (p == MAP_FAILED)
        return NULL;
    memset(p, 1, XFER_FOOTPRINT);
    return p;
}

static int measure(struct yk_bench_run *run, struct xfer_side *side, pid_t target,
                   const char *transport, uint64_t bytes, const char *size) {
    static struct yk_series limit[3], series[3];
    struct plain_copy copies[3];
    struct xfer_load loads[3];
    struct yk_series *all[4];
    char name[80];
    char *far = far_area();
    int rc = far != NULL ? 0 : -YK_ENOMEM;
    for (uint32_t op = YK_XFER_READ; op <= YK_XFER_WRITE && rc == 0; op++) {
        copies[op] = (struct plain_copy){side->memory, far, bytes, op == YK_XFER_WRITE};
        loads[op] = (struct xfer_load){
            .side = side, .op = op, .xclass = YK_XFER_DEMAND, .bytes = bytes};
        limit[op] = (struct yk_series){.op = plain_copy, .arg = &copies[op]};
        series[op] = (struct yk_series){.op = xfer_load_one, .arg = &loads[op], .node = target};
        limit[op].per_round = series[op].per_round = (uint32_t)(ROUND_BYTES / bytes);
        limit[op].weight = series[op].weight = (double)bytes;
        all[op * 2 - 2] = &limit[op];
        all[op * 2 - 1] = &series[op];
    }
    if (rc == 0)
        rc = yk_measure(all, 4, run->seconds);
    if (far != NULL)
        munmap(far, XFER_FOOTPRINT);
    for (uint32_t op = YK_XFER_READ; op <= YK_XFER_WRITE && rc == 0; op++) {
        snprintf(name, sizeof(name), "base memcpy %s %s", op_name[op], size);
        yk_series_row(&run->report, name, "B/s", &limit[op], NULL);
        snprintf(name, sizeof(name), "%s %s %s", transport, op_name[op], size);
        yk_series_row(&run->report, name, "B/s", &series[op], &limit[op]);
        xfer_cpu_row(run, name, &series[op]);
    }
    return rc;
}

static int all_sizes(struct yk_bench_run *run, struct xfer_side *side, pid_t target,
                     const char *transport) {
    int rc = measure(run, side, target, transport, MIB, "1MiB");
    if (rc == 0)
        rc = measure(run, side, target, transport, 16 * MIB, "16MiB");
    return rc == 0 ? measure(run, side, target, transport, 64 * KIB, "64KiB") : rc;
}

int xfer_copy_mem(struct yk_bench_run *run) {
    yk_xfer_opts o = {.size = sizeof(o), .transports = YK_XFER_MEM, .shm_dir = ""};
    struct xfer_side side;
    void *memory;
    int rc = xfer_side_open(&side, &o, NULL);
    if (rc < 0)
        return rc;
    rc = yk_xfer_alloc(side.engine, XFER_FOOTPRINT, YK_XFER_REMOTE_READ | YK_XFER_REMOTE_WRITE,
                       &memory);
    if (rc == 0) {
        memset(memory, 1, XFER_FOOTPRINT);
        rc = yk_xfer_publish(side.engine, "bench", memory, XFER_FOOTPRINT, NULL);
    }
    if (rc == 0)
        rc = yk_xfer_open(side.engine, "bench", 0, &side.segment);
    rc = rc < 0 ? xfer_failed("segment", rc) : all_sizes(run, &side, 0, "mem");
    xfer_side_close(&side);
    return rc;
}

int xfer_copy_shm(struct yk_bench_run *run) {
    yk_xfer_opts to = {
        .size = sizeof(to), .transports = YK_XFER_SHM | YK_XFER_TCP, .listen = "127.0.0.1:0"};
    yk_xfer_opts so = {.size = sizeof(so), .transports = YK_XFER_SHM};
    struct xfer_target t;
    struct xfer_side side;
    int rc = xfer_target_start(&t, &to, 1);
    if (rc < 0)
        return rc;
    rc = xfer_side_open(&side, &so, t.where);
    if (rc == 0) {
        rc = all_sizes(run, &side, t.pid, "shm");
        xfer_side_close(&side);
    }
    xfer_target_stop(&t);
    return rc;
}

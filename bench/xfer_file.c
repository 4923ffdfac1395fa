/* SPDX-License-Identifier: Apache-2.0
 *
 * A file as a segment, beside fio on the same file: 1 MiB blocks in order, 32 under way, O_DIRECT.
 *
 * The file has no name: nothing stays, whatever happens. In the directory --path, or where temporary
 * files go.
 *
 * Thread: the caller's.
 */
#include "bench/fio.h"
#include "bench/xfer_priv.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEPTH 32u
#define TURNS 5

static int make_file(const char *dir) {
    int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    char *zeros = yk_bench_buffer(MIB);
    for (uint64_t at = 0; fd >= 0 && zeros != NULL && at < XFER_FOOTPRINT; at += MIB)
        if (pwrite(fd, zeros, MIB, (off_t)at) != (ssize_t)MIB) {
            close(fd);
            fd = -1;
        }
    if (fd >= 0)
        (void)fsync(fd);
    return fd;
}

/* One turn of each, and again; medians. */
static int turns(struct yk_bench_run *run, struct xfer_side *side, int fd, uint32_t op) {
    double fio_rate[TURNS], rate[TURNS], turn_s = run->seconds / TURNS / 2;
    static struct yk_series s;
    char name[64];
    struct xfer_load load = {.side = side,
                             .op = op,
                             .xclass = YK_XFER_DEMAND,
                             .bytes = MIB,
                             .batch = DEPTH / 2,
                             .deep = 2,
                             .threads = 1};
    double cpu_s = 0, bytes = 0;
    for (int i = 0; i < TURNS; i++) {
        struct yk_fio_job job = {.fd = fd,
                                 .size_bytes = XFER_FOOTPRINT,
                                 .rw = op == YK_XFER_READ ? YK_FIO_READ : YK_FIO_WRITE,
                                 .block_bytes = MIB,
                                 .depth = DEPTH,
                                 .seconds = turn_s < 0.5 ? 0.5 : turn_s,
                                 .seed = run->seed + (uint64_t)i};
        struct yk_fio_result f;
        int rc = yk_fio_run(&job, &f);
        if (rc < 0)
            return rc;
        fio_rate[i] = f.rate;
        memset(&s, 0, sizeof(s));
        s.many = xfer_load_many;
        s.arg = &load;
        s.per_round = 128;
        s.weight = MIB;
        struct yk_series *one[] = {&s};
        rc = yk_measure(one, 1, turn_s);
        if (rc < 0)
            return rc;
        rate[i] = s.rate;
        cpu_s += s.cpu_s;
        bytes += (double)s.ops * MIB;
    }
    snprintf(name, sizeof(name), "file %s 1MiB", op == YK_XFER_READ ? "read" : "write");
    struct yk_bench_row row = YK_BENCH_ROW(name, "B/s", yk_bench_median(rate, TURNS));
    row.limit = yk_bench_median(fio_rate, TURNS);
    row.cpu_s = cpu_s;
    yk_bench_report_row(&run->report, &row);
    snprintf(name, sizeof(name), "cpu file %s 1MiB", op == YK_XFER_READ ? "read" : "write");
    row = YK_BENCH_ROW(name, "s/GB", cpu_s / (bytes / 1e9));
    yk_bench_report_row(&run->report, &row);
    return 0;
}

int xfer_file(struct yk_bench_run *run) {
    static const char *const names[] = {"file read 1MiB", "file write 1MiB", NULL};
    const char *dir = run->opts->path != NULL ? run->opts->path : yk_own_ssd_dir();
    struct xfer_side side;
    yk_xfer_opts o = {.size = sizeof(o), .transports = YK_XFER_FILE, .shm_dir = ""};
    char path[64];
    if (!yk_bench_wants(&run->report, names))
        return 0;
    int rc = yk_fio_find();
    if (rc != 0)
        return rc;
    int fd = make_file(dir);
    if (fd < 0) {
        fprintf(stderr, "yolk bench: %s: no room for a file of 256 MiB without a name there (--path)\n", dir);
        return -YK_EIO;
    }
    snprintf(path, sizeof(path), "file:/proc/self/fd/%d", fd);
    rc = xfer_side_open(&side, &o, path);
    for (uint32_t op = YK_XFER_READ; op <= YK_XFER_WRITE && rc == 0; op++)
        rc = turns(run, &side, fd, op);
    if (rc == 0)
        xfer_side_close(&side);
    close(fd);
    return rc;
}

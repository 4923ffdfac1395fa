/* SPDX-License-Identifier: Apache-2.0
 *
 * `yolk bench ssd --path DIR`: the SSD tier beside fio on the same file system.
 *
 * Disks are noisy, so fio, the node and the directly driven tier take turns of two seconds, five times,
 * and medians are compared. What is compared with fio goes through libyolk's public calls with a node
 * in a process of its own: puts that push older blocks down, gets that bring blocks up. Rows `base tier`
 * drive the tier alone; the difference is what node and client cost.
 *
 * Thread: the caller's.
 */
#include "bench/ssd_priv.h"

#include "base/clock.h"
#include "base/fmt.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define SIZE          (4096 * MIB)
#define SIZE_QUICK    (512 * MIB)
#define SIZE_LEAST    (512 * MIB)
#define DRAM_LEAST    (160 * MIB) /* what is under way has to fit */
#define TURNS         5u
#define TURNS_QUICK   2u
#define TURN_S        2.0
#define TURN_S_QUICK  0.1
#define DEFAULT_RUN_S 200.0
#define FILES         3u
#define COPY_BYTES    (4 * MIB)

void ssd_progress(const struct ssd_bench *b, const char *fmt, ...) {
    va_list args;
    (void)b;
    fputs("yolk bench ssd: ", stderr);
    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fputc('\n', stderr);
}

/* ---- files ---------------------------------------------------------------------------------------- */

static int failed(const char *dir, const char *what) {
    fprintf(stderr, "yolk bench ssd: %s in %s: %s\n", what, dir, strerror(errno));
    return -yk_status_from_errno(errno);
}

/* Without a name, at once or as soon as it is open. */
static int open_nameless(const char *dir) {
    char path[4096];
    int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT))
        return fd;
    if (snprintf(path, sizeof(path), "%s/yolk-bench-XXXXXX", dir) >= (int)sizeof(path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    fd = mkostemp(path, O_CLOEXEC);
    if (fd >= 0)
        (void)unlink(path);
    return fd;
}

/* Writes all of it once. What is written does not compress and is not the same twice. */
static int write_over(int fd, uint64_t size, uint64_t *random) {
    uint64_t *buf = yk_bench_buffer(COPY_BYTES);
    if (buf == NULL)
        return -1;
    for (size_t i = 0; i < COPY_BYTES / sizeof(*buf); i++)
        buf[i] = yk_random(random);
    int flags = fcntl(fd, F_GETFL);
    (void)fcntl(fd, F_SETFL, flags | O_DIRECT); /* where there is none, through the page cache */
    for (uint64_t at = 0; at < size;) {
        uint64_t n = size - at < COPY_BYTES ? size - at : COPY_BYTES;
        for (size_t i = 0; i < n / sizeof(*buf); i += 512)
            buf[i] = at + i;
        ssize_t done = pwrite(fd, buf, n, (off_t)at);
        if (done <= 0 && errno != EINTR) {
            munmap(buf, COPY_BYTES);
            return -1;
        }
        at += done > 0 ? (uint64_t)done : 0;
    }
    munmap(buf, COPY_BYTES);
    (void)fcntl(fd, F_SETFL, flags);
    return fsync(fd);
}

static int file_open(struct ssd_bench *b, const char *dir, struct ssd_file *f) {
    uint64_t random = (b->run.seed << 8) + 1u;
    f->fd = open_nameless(dir);
    if (f->fd < 0)
        return failed(dir, "cannot make a file");
    snprintf(f->path, sizeof(f->path), "/proc/self/fd/%d", f->fd);
    return write_over(f->fd, b->size, &random) < 0 ? failed(dir, "cannot write a file") : 0;
}

static int room(const struct ssd_bench *b, const char *dir) {
    struct statvfs vfs;
    struct stat st;
    char want[YK_FMT_MAX], have[YK_FMT_MAX];
    int there = stat(dir, &st) == 0 && statvfs(dir, &vfs) == 0;
    if (!there || !S_ISDIR(st.st_mode)) {
        fprintf(stderr, "yolk: bench ssd: found --path '%s'%s%s, expected a directory\n", dir,
                there ? "" : ": ", there ? "" : strerror(errno));
        return YK_BENCH_USAGE;
    }
    uint64_t avail = (uint64_t)vfs.f_bavail * vfs.f_frsize;
    if (avail >= FILES * b->size)
        return 0;
    fprintf(stderr, "yolk: bench ssd: %s has %s free, %s are needed: give a smaller --size\n", dir,
            yk_fmt_bytes(avail, have), yk_fmt_bytes(FILES * b->size, want));
    return YK_BENCH_USAGE;
}

static int files_open(struct ssd_bench *b, const char *dir) {
    struct ssd_file *files[FILES] = {&b->fio, &b->node, &b->tier};
    char size[YK_FMT_MAX];
    ssd_progress(b, "writing %u files of %s", FILES, yk_fmt_bytes(b->size, size));
    int rc = 0;
    for (uint32_t i = 0; i < FILES && rc == 0; i++)
        rc = file_open(b, dir, files[i]);
    return rc;
}

static void files_close(struct ssd_bench *b) {
    int fds[FILES] = {b->fio.fd, b->node.fd, b->tier.fd};
    for (uint32_t i = 0; i < FILES; i++)
        if (fds[i] >= 0)
            close(fds[i]);
}

double ssd_settle(const struct ssd_file *f) {
    uint64_t start = yk_now_ns();
    (void)fdatasync(f->fd);
    return (double)(yk_now_ns() - start) / 1e9;
}

int ssd_fio(const struct ssd_bench *b, enum yk_fio_rw rw, uint64_t block_bytes, uint32_t depth,
            uint32_t turn, struct yk_fio_result *ret) {
    struct yk_fio_job job = {.fd = rw == YK_FIO_WRITE ? b->fio.fd : b->node.fd,
                             .size_bytes = b->size,
                             .rw = rw,
                             .block_bytes = block_bytes,
                             .depth = depth,
                             .seconds = b->turn_s,
                             .seed = b->run.seed * 1000u + turn};
    return yk_fio_run(&job, ret);
}

/* ---- the whole ------------------------------------------------------------------------------------ */

/* turns: of so many times turn_s, of those that are repeated; seconds: besides. For the estimate. */
static const struct {
    const char *names[12];
    int (*fn)(struct ssd_bench *b);
    double turns, seconds;
} parts[] = {
    {{"write 1MiB", "read 1MiB depth32", "put 10x dram", "put 10x dram longest stall", NULL},
     ssd_moves_large,
     6.6,
     6},
    {{"write 64KiB", "read 64KiB depth32", NULL}, ssd_moves_small, 7.6, 6},
    {{"read 256KiB single", NULL}, ssd_single, 2.5, 6},
    {{"dram hit p99 idle", "dram hit p99 beside ssd", NULL}, ssd_hits, 1.2, 6},
    {{"write amplification in order", "write amplification random 90%", NULL}, ssd_wear, 0, 10},
    {{"index bytes a block", NULL}, ssd_index, 0, 5},
    {{"warm-up", NULL}, ssd_warm, 0, 30},
};

#define PARTS (sizeof(parts) / sizeof(parts[0]))

static void estimate(const struct ssd_bench *b) {
    double s = 3.0 * (double)b->size / 1.5e9;
    for (size_t i = 0; i < PARTS; i++)
        if (yk_bench_wants(&b->run.report, parts[i].names))
            s += parts[i].turns * b->turns * b->turn_s +
                 parts[i].seconds * (double)b->size / (double)SIZE;
    ssd_progress(b, "about %.0f s", s);
}

static void prepare(struct ssd_bench *b, const struct yk_bench_opts *opts) {
    memset(b, 0, sizeof(*b));
    yk_bench_run_init(&b->run, "ssd", opts, 1, 1);
    b->fio.fd = b->node.fd = b->tier.fd = -1;
    b->size = opts->size_bytes != 0 ? opts->size_bytes : opts->quick ? SIZE_QUICK : SIZE;
    b->size = b->size / (64 * MIB) * (64 * MIB);
    b->dram = b->size / 10u / MIB * MIB;
    b->dram = b->dram > DRAM_LEAST ? b->dram : DRAM_LEAST;
    b->turns = opts->quick ? TURNS_QUICK : TURNS;
    b->turn_s = opts->quick ? TURN_S_QUICK : TURN_S;
    b->ramp_s = opts->quick ? RAMP_S_QUICK : RAMP_S;
    if (opts->seconds > 0)
        b->turn_s *= opts->seconds / DEFAULT_RUN_S;
}

int yk_bench_ssd(const struct yk_bench_opts *opts) {
    static struct ssd_bench b;
    prepare(&b, opts);
    if (b.size < SIZE_LEAST) {
        fputs("yolk: bench ssd: --size is too small, expected at least 512M\n", stderr);
        return YK_BENCH_USAGE;
    }
    int rc = room(&b, opts->path);
    if (rc == 0)
        rc = yk_fio_find();
    if (rc != 0)
        return rc;
    estimate(&b);
    rc = files_open(&b, opts->path);
    for (size_t i = 0; i < PARTS && rc == 0; i++)
        if (yk_bench_wants(&b.run.report, parts[i].names))
            rc = parts[i].fn(&b);
    files_close(&b);
    return yk_bench_report_end(&b.run.report, rc);
}

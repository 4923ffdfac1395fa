/* SPDX-License-Identifier: Apache-2.0
 *
 * From a path to a file that can be worked with: found or made, locked, sized, its space allocated,
 * O_DIRECT where it works, and what alignment that wants.
 *
 * Nothing that is there is overwritten: a file may grow, and holes in it get space. Space is
 * allocated at once so that a full file system shows now, in a text with both figures, and not as
 * ENOSPC in the middle of a segment months later.
 *
 * The lock, where one is wanted, is flock on the file, and O_EXCL for a block device (which also
 * refuses mounted ones). Two things hold a lock a little longer than who took it: a process that was killed has its ring torn
 * down by the kernel some time after it is gone, and udev locks a block device while it looks at it.
 * So a lock is tried for a while: half a second from a living owner, five seconds otherwise; not at all by
 * who may not wait and comes again (a device that returns while its node serves).
 *
 * Threads: the owner's.
 */
#include "base/clock.h"
#include "base/fmt.h"
#include "xfer/file/file_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define LOCK_LIVING_MS 500u
#define LOCK_DEAD_MS   5000u
#define LOCK_TRY_MS    10

/* ---- who holds the lock --------------------------------------------------------------------- */

/* The process that holds a flock on the file, as /proc/locks has it; 0 = not known. */
static pid_t lock_owner(const struct stat *st) {
    FILE *f = fopen("/proc/locks", "re");
    if (!f)
        return 0;
    char line[200];
    pid_t owner = 0;
    while (owner == 0 && fgets(line, sizeof(line), f)) {
        int pid;
        unsigned maj, min;
        uint64_t ino;
        if (sscanf(line, "%*u: FLOCK %*s %*s %d %x:%x:%" SCNu64, &pid, &maj, &min, &ino) == 4 &&
            ino == st->st_ino && maj == major(st->st_dev) && min == minor(st->st_dev))
            owner = pid;
    }
    fclose(f);
    return owner;
}

static void process_name(pid_t pid, char *name, int bytes) {
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
    name[0] = 0;
    FILE *f = fopen(path, "re");
    if (!f)
        return;
    if (!fgets(name, bytes, f))
        name[0] = 0;
    name[strcspn(name, "\n")] = 0;
    fclose(f);
}

static int lives(pid_t pid) {
    return pid > 0 && (kill(pid, 0) == 0 || errno != ESRCH);
}

static int busy(const char *path, pid_t owner, struct yk_err *err) {
    char name[32];
    if (!lives(owner))
        return yk_err_set(err, -YK_EBUSY,
                          "'%s' is in use: mounted, part of a volume, or locked by a process that "
                          "cannot be seen from here",
                          path);
    if (owner == getpid())
        return yk_err_set(err, -YK_EBUSY, "'%s' is given twice", path);
    process_name(owner, name, sizeof(name));
    return yk_err_set(err, -YK_EBUSY,
                      "'%s' is in use by process %d (%s): stop it, or give another path", path,
                      (int)owner, name);
}

/* May a lock that could not be had be tried again? Waits a little. */
static int try_again(const struct yk_file_opts *o, const struct stat *st, uint64_t since_ns,
                     pid_t *ret_owner) {
    pid_t owner = *ret_owner = lock_owner(st);
    uint64_t most_ms = lives(owner) ? LOCK_LIVING_MS : LOCK_DEAD_MS;
    if (o->no_wait || owner == getpid() || yk_now_ns() - since_ns > most_ms * YK_NS_PER_MS)
        return 0;
    struct timespec ts = {.tv_nsec = LOCK_TRY_MS * (long)YK_NS_PER_MS};
    nanosleep(&ts, NULL);
    return 1;
}

/* ---- open ----------------------------------------------------------------------------------- */

static int open_failed(const char *path, int read_only, struct yk_err *err) {
    int e = errno;
    if (e == ENOENT || e == ENOTDIR)
        return yk_err_set(err, -YK_ENOENT, "'%s' cannot be made: its directory does not exist",
                          path);
    if (e == EACCES || e == EPERM || e == EROFS)
        return yk_err_set(err, -YK_EPERM, "cannot open '%s' for %s as user %u: %s", path,
                          read_only ? "reading" : "reading and writing", (unsigned)geteuid(),
                          strerror(e));
    if (e == ENXIO || e == ENODEV || e == ENOMEDIUM)
        return yk_err_set(err, -YK_ENOENT, "'%s': no device is behind it: %s", path, strerror(e));
    return yk_err_set(err, -yk_status_from_errno(e), "cannot open '%s': %s", path, strerror(e));
}

/* What stands at the path; *ret_there = 0: nothing, and it may be made. */
static int look(const struct yk_file_opts *o, struct stat *st, int *ret_there, struct yk_err *err) {
    memset(st, 0, sizeof(*st));
    *ret_there = stat(o->path, st) == 0;
    if (!*ret_there) {
        if (errno != ENOENT)
            return open_failed(o->path, o->read_only, err);
        if (o->read_only || !o->create)
            return yk_err_set(err, -YK_ENOENT, "'%s' does not exist", o->path);
        if (o->size_bytes == 0)
            return yk_err_set(err, -YK_ENOENT,
                              "'%s' does not exist: say how large it shall be (PATH:SIZE)",
                              o->path);
        return 0;
    }
    if (S_ISDIR(st->st_mode))
        return yk_err_set(err, -YK_EINVAL, "'%s' is a directory: name a file in it", o->path);
    if (!S_ISREG(st->st_mode) && !S_ISBLK(st->st_mode))
        return yk_err_set(err, -YK_EINVAL, "'%s' is neither a file nor a block device", o->path);
    return 0;
}

/* Opens with O_DIRECT if that can be. */
static int open_fd(const struct yk_file_opts *o, struct yk_file_handle *f, const struct stat *st,
                   int there, struct yk_err *err) {
    int flags = O_CLOEXEC | (o->read_only ? O_RDONLY : O_RDWR) | (there ? 0 : O_CREAT);
    if (S_ISBLK(st->st_mode) && !o->read_only && !o->shared)
        flags |= O_EXCL;
    uint64_t since = yk_now_ns();
    f->direct = !o->buffered;
    while ((f->fd = open(o->path, flags | (f->direct ? O_DIRECT : 0), 0600)) < 0) {
        pid_t owner;
        if (errno == EINVAL && f->direct)
            f->direct = 0;
        else if (errno == EBUSY && (flags & O_EXCL)) {
            if (!try_again(o, st, since, &owner))
                return busy(o->path, owner, err);
        } else if (errno != EINTR)
            return open_failed(o->path, o->read_only, err);
    }
    return 0;
}

static int lock(const struct yk_file_opts *o, const struct yk_file_handle *f, const struct stat *st,
                struct yk_err *err) {
    uint64_t since = yk_now_ns();
    while (flock(f->fd, LOCK_EX | LOCK_NB) < 0) {
        pid_t owner;
        if (errno == EINTR)
            continue;
        if (errno != EWOULDBLOCK)
            return yk_err_set(err, -yk_status_from_errno(errno), "cannot lock '%s': %s", f->path,
                              strerror(errno));
        if (!try_again(o, st, since, &owner))
            return busy(f->path, owner, err);
    }
    if (yk_file_handle_check(f) < 0)
        return yk_err_set(err, -YK_EBUSY, "'%s' was replaced while it was opened: try again",
                          f->path);
    return 0;
}

/* ---- size ----------------------------------------------------------------------------------- */

static int no_space(const struct yk_file_handle *f, uint64_t want, uint64_t need,
                    struct yk_err *err) {
    struct statvfs vfs = {0};
    char size[YK_FMT_MAX], more[YK_FMT_MAX], room[YK_FMT_MAX];
    uint64_t avail = fstatvfs(f->fd, &vfs) == 0 ? (uint64_t)vfs.f_bavail * vfs.f_frsize : 0;
    return yk_err_set(err, -YK_ENOSPC,
                      "'%s' of %s needs %s more, and its file system has %s free: give a smaller "
                      "size, or make room",
                      f->path, yk_fmt_bytes(want, size), yk_fmt_bytes(need, more),
                      yk_fmt_bytes(avail, room));
}

static int allocate(int fd, int mode, uint64_t off, uint64_t len) {
    int rc;
    do
        rc = fallocate(fd, mode, (off_t)off, (off_t)len);
    while (rc < 0 && errno == EINTR);
    return rc < 0 ? errno : 0;
}

/* Makes the file `want` bytes long, with space for all of them. */
static int grow(struct yk_file_handle *f, const struct stat *st, uint64_t want,
                struct yk_err *err) {
    uint64_t has = (uint64_t)st->st_blocks * 512u, need = want > has ? want - has : 0;
    if (need == 0 && (uint64_t)st->st_size >= want)
        return 0;
    struct statvfs vfs;
    /* A tmpfs without a limit has no blocks, none of them free. */
    if (fstatvfs(f->fd, &vfs) == 0 && vfs.f_blocks > 0 &&
        need > (uint64_t)vfs.f_bavail * vfs.f_frsize)
        return no_space(f, want, need, err);
    int e = allocate(f->fd, 0, 0, want);
    if (e == EOPNOTSUPP || e == ENOSYS) {
        snprintf(f->note, sizeof(f->note),
                 "its file system cannot allocate ahead: it may run out of space later");
        e = (uint64_t)st->st_size < want && ftruncate(f->fd, (off_t)want) < 0 ? errno : 0;
    }
    if (e == 0 && fsync(f->fd) < 0)
        e = errno;
    if (e == 0)
        return 0;
    if (ftruncate(f->fd, st->st_size) < 0) {
        /* It stays longer than it was; the reason for the failure tells more. */
    }
    if (e == ENOSPC || e == EDQUOT)
        return no_space(f, want, need, err);
    char size[YK_FMT_MAX];
    return yk_err_set(err, e == EFBIG ? -YK_EINVAL : -YK_EIO, "cannot make '%s' %s long: %s",
                      f->path, yk_fmt_bytes(want, size), strerror(e));
}

static int size_file(const struct yk_file_opts *o, struct yk_file_handle *f, const struct stat *st,
                     struct yk_err *err) {
    char has[YK_FMT_MAX], want[YK_FMT_MAX];
    uint64_t size = (uint64_t)st->st_size;
    if (f->is_block) {
        int sector = 0;
        if (ioctl(f->fd, BLKGETSIZE64, &size) < 0 || ioctl(f->fd, BLKSSZGET, &sector) < 0)
            return yk_err_set(err, -YK_EIO, "'%s' does not say how large it is: %s", o->path,
                              strerror(errno));
        f->sector_bytes = (uint32_t)sector;
        if (f->sector_bytes > YK_FILE_SECTOR)
            return yk_err_set(err, -YK_EINVAL, "'%s' has sectors of %u bytes; at most %u will do",
                              o->path, f->sector_bytes, YK_FILE_SECTOR);
    } else if (o->create && !o->read_only && o->size_bytes > 0) {
        int rc = grow(f, st, o->size_bytes, err);
        if (rc < 0)
            return rc;
        f->grown = o->size_bytes > size;
        size = o->size_bytes;
    }
    if (f->is_block)
        f->found = size;
    if (o->size_bytes > size)
        return yk_err_set(err, -YK_EINVAL,
                          "'%s' is %s long, smaller than the %s that were asked for", o->path,
                          yk_fmt_bytes(size, has), yk_fmt_bytes(o->size_bytes, want));
    if (o->size_bytes > 0)
        size = o->size_bytes;
    f->size = f->odd ? size : size - size % YK_FILE_SECTOR;
    if (f->size == 0)
        return yk_err_set(err, -YK_EINVAL, "'%s' is %s long: say how large it shall be (PATH:SIZE)",
                          o->path, yk_fmt_bytes(size, has));
    return 0;
}

/* ---- alignment ------------------------------------------------------------------------------ */

/* What the kernel says that O_DIRECT wants (6.1 on; not every file system knows). */
static int asked_alignment(struct yk_file_handle *f) {
#ifdef STATX_DIOALIGN
    struct statx stx;
    if (statx(f->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) < 0 ||
        !(stx.stx_mask & STATX_DIOALIGN))
        return -1;
    f->unit = stx.stx_dio_offset_align;
    f->mem_align = stx.stx_dio_mem_align;
    return f->unit > 0; /* 0: none for this file, whatever open said */
#else
    return -1;
#endif
}

/* Does a read of n bytes work? Anything but "invalid" counts: a broken sector is not our business. */
static int reads_direct(const struct yk_file_handle *f, uint32_t n) {
    void *buf = aligned_alloc(YK_FILE_SECTOR, YK_FILE_SECTOR);
    if (!buf)
        return 0;
    ssize_t got = pread(f->fd, buf, n, 0);
    int works = got >= 0 || errno != EINVAL;
    free(buf);
    return works;
}

/* 1: O_DIRECT works with f->unit and f->mem_align. */
static int align(struct yk_file_handle *f) {
    int known = asked_alignment(f);
    if (known == 0)
        return 0;
    if (known < 0) {
        f->unit = f->is_block ? f->sector_bytes : 512u;
        if (!reads_direct(f, f->unit))
            f->unit = YK_FILE_SECTOR;
        f->mem_align = f->unit;
    }
    if (f->mem_align == 0)
        f->mem_align = f->unit;
    if (f->unit < f->mem_align)
        f->unit = f->mem_align; /* so that an odd address stays odd unit by unit (bounce.c) */
    return f->unit <= YK_FILE_SECTOR && (f->unit & (f->unit - 1u)) == 0 && reads_direct(f, f->unit);
}

static int settle_direct(struct yk_file_handle *f, int wanted, struct yk_err *err) {
    if (f->direct && !align(f)) {
        int flags = fcntl(f->fd, F_GETFL);
        if (flags < 0 || fcntl(f->fd, F_SETFL, flags & ~O_DIRECT) < 0)
            return yk_err_set(err, -YK_EIO, "cannot leave direct I/O on '%s': %s", f->path,
                              strerror(errno));
        f->direct = 0;
    }
    if (!f->direct) {
        f->unit = f->mem_align = 1;
        if (wanted)
            snprintf(f->note, sizeof(f->note),
                     "its file system knows no O_DIRECT: all goes through the page cache, which costs "
                     "a copy of every byte and its memory; use ext4, xfs or a block device");
    }
    if (f->sector_bytes == 0)
        f->sector_bytes = f->unit > 1u ? f->unit : 512u;
    return 0;
}

/* ---- the whole ------------------------------------------------------------------------------ */

/* A file that was made is there after a power cut, too. */
static int keep_name(const struct yk_file_handle *f, struct yk_err *err) {
    const char *slash = strrchr(f->path, '/');
    char *dir =
        slash ? strndup(f->path, slash == f->path ? 1u : (size_t)(slash - f->path)) : strdup(".");
    if (!dir)
        return yk_err_set(err, -YK_ENOMEM, "no memory for a path");
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(dir);
    /* Some file systems cannot sync a directory, and a directory need not be readable. */
    if (fd >= 0) {
        (void)fsync(fd);
        close(fd);
    }
    return 0;
}

static int open_found(const struct yk_file_opts *o, struct yk_file_handle *f, struct stat *st,
                      int there, struct yk_err *err) {
    int rc = open_fd(o, f, st, there, err);
    if (rc < 0)
        return rc;
    if (fstat(f->fd, st) < 0)
        return yk_err_set(err, -YK_EIO, "cannot look at '%s': %s", o->path, strerror(errno));
    f->is_block = S_ISBLK(st->st_mode);
    f->dev = st->st_dev;
    f->rdev = st->st_rdev;
    f->ino = st->st_ino;
    f->found = (uint64_t)st->st_size;
    f->made = !there && st->st_size == 0;
    rc = o->read_only || o->shared ? 0 : lock(o, f, st, err);
    if (rc < 0)
        return rc;
    rc = size_file(o, f, st, err);
    if (rc == 0)
        rc = settle_direct(f, !o->buffered, err);
    if (rc == 0 && !there)
        rc = keep_name(f, err);
    if (rc < 0)
        yk_file_handle_undo(f);
    return rc;
}

int yk_file_handle_open(const struct yk_file_opts *opts, struct yk_file_handle *ret_file,
                        struct yk_err *err) {
    struct yk_file_handle f = {.fd = -1,
                               .read_only = opts->read_only != 0,
                               .shared = opts->shared != 0,
                               .odd = opts->odd && opts->buffered};
    struct stat st;
    int there;
    if (!opts->path || !opts->path[0])
        return yk_err_set(err, -YK_EINVAL, "the path of a device is empty");
    if (opts->size_bytes % YK_FILE_SECTOR != 0 || opts->size_bytes > INT64_MAX)
        return yk_err_set(err, -YK_EINVAL,
                          "size of '%s': %" PRIu64 " bytes are not a multiple of %u", opts->path,
                          opts->size_bytes, YK_FILE_SECTOR);
    int rc = look(opts, &st, &there, err);
    if (rc < 0)
        return rc;
    f.path = strdup(opts->path);
    if (!f.path)
        return yk_err_set(err, -YK_ENOMEM, "no memory for a path");
    rc = open_found(opts, &f, &st, there, err);
    if (rc < 0) {
        yk_file_handle_close(&f);
        return rc;
    }
    *ret_file = f;
    return 0;
}

/* Space that holes were given stays. */
void yk_file_handle_undo(const struct yk_file_handle *file) {
    if (file->made)
        (void)unlink(file->path); /* ours: it is locked, and was not there before */
    else if (file->grown && ftruncate(file->fd, (off_t)file->found) < 0) {
        /* It stays longer than it was, with nothing in it. */
    }
}

void yk_file_handle_close(struct yk_file_handle *file) {
    if (file->fd >= 0) {
        /* Whatever still holds the file (the kernel's, of a ring), the lock goes now. */
        if (!file->read_only && !file->shared)
            (void)flock(file->fd, LOCK_UN);
        close(file->fd);
    }
    free(file->path);
    file->fd = -1;
    file->path = NULL;
}

int yk_file_handle_check(const struct yk_file_handle *file) {
    struct stat st, mine;
    if (stat(file->path, &st) < 0 || fstat(file->fd, &mine) < 0)
        return -YK_EGONE;
    if (file->is_block) {
        uint64_t size;
        if (!S_ISBLK(st.st_mode) || st.st_rdev != file->rdev ||
            ioctl(file->fd, BLKGETSIZE64, &size) < 0 || size < file->size)
            return -YK_EGONE;
        return 0;
    }
    if (st.st_dev != file->dev || st.st_ino != file->ino || (uint64_t)mine.st_size < file->size)
        return -YK_EGONE;
    return 0;
}

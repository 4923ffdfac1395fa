/* SPDX-License-Identifier: Apache-2.0
 *
 * The log of removes on disk (rlog_priv.h): frames and records, reading a file that may have been cut or be rotten, and
 * the writing that may block.
 *
 * What tells a cut from rot: a frame is written when the one before it is durable. So whatever is wrong with a frame
 * behind which another one begins, it was whole once. Behind the last good one, nothing ever counted.
 *
 * Threads: yk_dir_rlog_io any; the rest as rlog.h says.
 */
#include "dir/rlog_priv.h"
#include "base/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX (2ull << 30) /* bytes that are read at a start; compaction keeps files far below */

/* ---- writing ------------------------------------------------------------------------------------ */

int rlog_buf_need(struct rlog_buf *buf, size_t len) {
    if (buf->cap - buf->len >= len)
        return 0;
    size_t cap = buf->cap < 4096 ? 4096 : buf->cap;
    while (cap - buf->len < len)
        cap *= 2;
    unsigned char *more = realloc(buf->data, cap);
    if (more == NULL)
        return -YK_ENOMEM;
    buf->data = more;
    buf->cap = cap;
    return 0;
}

static void put32(unsigned char *p, uint32_t v) {
    for (int i = 0; i < 4; i++)
        p[i] = (unsigned char)(v >> 8 * i);
}
static void put64(unsigned char *p, uint64_t v) {
    put32(p, (uint32_t)v);
    put32(p + 4, (uint32_t)(v >> 32));
}
static uint64_t get64(const unsigned char *p) {
    return yk_le32(p) | (uint64_t)yk_le32(p + 4) << 32;
}

static size_t padded(size_t len) {
    return (len + 7u) & ~(size_t)7u;
}

int rlog_record_begin(struct rlog_buf *buf, uint32_t slot, unsigned type, size_t len, struct yk_wr *ret_body) {
    int rc = rlog_buf_need(buf, RLOG_RECORD + padded(len));
    if (rc != 0)
        return rc;
    unsigned char *at = buf->data + buf->len;
    memset(at, 0, RLOG_RECORD + padded(len));
    at[0] = (unsigned char)slot;
    at[1] = (unsigned char)(slot >> 8);
    at[2] = (unsigned char)type;
    put32(at + 4, (uint32_t)len);
    yk_wr_init(ret_body, at + RLOG_RECORD, len);
    return 0;
}

void rlog_record_end(struct rlog_buf *buf, size_t len) {
    unsigned char *at = buf->data + buf->len;
    put64(at + 8, yk_hash64(at + RLOG_RECORD, len));
    put64(at + 16, yk_hash64(at, 16));
    buf->len += RLOG_RECORD + padded(len);
}

void rlog_head_put(unsigned char *head, uint64_t id) {
    memset(head, 0, RLOG_HEAD);
    put64(head, RLOG_MAGIC);
    put32(head + 8, RLOG_FORMAT);
    put64(head + 16, id);
    put64(head + RLOG_HEAD - 8, yk_hash64(head, RLOG_HEAD - 8));
}

void rlog_frame_put(struct rlog_buf *buf, const struct rlog_file *file) {
    unsigned char *at = buf->data;
    size_t body = buf->len - RLOG_FRAME;
    put32(at, RLOG_FRAME_MAGIC);
    put32(at + 4, (uint32_t)body);
    put64(at + 8, file->id);
    put64(at + 16, file->number);
    put64(at + 24, yk_hash64(at + RLOG_FRAME, body));
    put64(at + 32, yk_hash64(at, 32));
}

uint64_t rlog_id(void) {
    uint64_t id = 0;
    /* Blocks only early in a system's start; a short answer cannot be for 8 bytes. */
    if (getrandom(&id, sizeof(id), 0) != (ssize_t)sizeof(id) || id == 0)
        id = 1;
    return id;
}

static int io_fail(struct yk_dir_rlog_io *io, const char *what, const char *path, int err_no) {
    snprintf(io->text, sizeof(io->text), "%s %s: %s", what, path != NULL ? path : "the log of removes",
             strerror(err_no));
    io->status = -YK_EIO;
    return -1;
}

static int write_all(struct yk_dir_rlog_io *io, int fd, const void *data, size_t len, uint64_t offset) {
    const unsigned char *at = data;
    while (len > 0) {
        ssize_t n = pwrite(fd, at, len, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return io_fail(io, "write", NULL, n < 0 ? errno : ENOSPC);
        at += n;
        len -= (size_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

/* Empty and locked; -1: errno says why. */
static int make_file(const char *path) {
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return -1;
    if (flock(fd, LOCK_EX | LOCK_NB) != 0 || ftruncate(fd, 0) != 0) {
        int err_no = errno;
        close(fd);
        errno = err_no;
        return -1;
    }
    return fd;
}

/* The new file has all that the old one has, and takes its name. */
static int io_rename(struct yk_dir_rlog_io *io) {
    if (fsync(io->new_fd) != 0)
        return io_fail(io, "fsync", io->new_path, errno);
    if (rename(io->new_path, io->path) != 0)
        return io_fail(io, "rename", io->new_path, errno);
    if (fsync(io->dir_fd) != 0)
        return io_fail(io, "fsync the folder of", io->path, errno);
    close(io->fd);
    return 0;
}

void yk_dir_rlog_io(struct yk_dir_rlog_io *io) {
    io->status = 0;
    if (io->fd < 0)
        return;
    if (io->len > 0) {
        if (write_all(io, io->fd, io->data, io->len, io->offset) != 0)
            return;
        if (fdatasync(io->fd) != 0) {
            io_fail(io, "fdatasync", NULL, errno);
            return;
        }
    }
    if (io->new_path == NULL)
        return;
    if (io->new_fd < 0 && (io->new_fd = make_file(io->new_path)) < 0) {
        io_fail(io, "make", io->new_path, errno);
        return;
    }
    if (write_all(io, io->new_fd, io->new_data, io->new_len, io->new_offset) == 0 && io->path != NULL)
        io_rename(io);
}

/* ---- reading ------------------------------------------------------------------------------------ */

struct reading {
    struct yk_dir_rlog *log;
    const unsigned char *bytes;
    size_t len, at, last; /* last: where the last frame that counts begins */
    uint64_t id, number; /* number: of the next frame */
    struct yk_dir_rlog_report *report;
};

static int head_get(const unsigned char *bytes, size_t len, uint64_t *ret_id, struct yk_err *err) {
    if (len < RLOG_HEAD || get64(bytes) != RLOG_MAGIC ||
        get64(bytes + RLOG_HEAD - 8) != yk_hash64(bytes, RLOG_HEAD - 8))
        return yk_err_set(err, -YK_ECORRUPT,
                          "its first %u bytes are not those of a log of removes, or rotten; if it is moved away, "
                          "this node drops all its blocks and begins a new one",
                          RLOG_HEAD);
    if (yk_le32(bytes + 8) != RLOG_FORMAT)
        return yk_err_set(err, -YK_EVERSION, "the log of removes has format %u, this program reads %u",
                          yk_le32(bytes + 8), RLOG_FORMAT);
    *ret_id = get64(bytes + 16);
    return 0;
}

/* Is there a frame's head here, of this file and not of an earlier number? */
static int frame_at(const struct reading *r, size_t at, uint64_t *ret_number, size_t *ret_body) {
    if (r->len - at < RLOG_FRAME)
        return 0;
    const unsigned char *p = r->bytes + at;
    if (yk_le32(p) != RLOG_FRAME_MAGIC || get64(p + 8) != r->id || get64(p + 32) != yk_hash64(p, 32))
        return 0;
    *ret_number = get64(p + 16);
    *ret_body = yk_le32(p + 4);
    return *ret_number >= r->number && *ret_body % 8 == 0;
}

/* The next frame's head from `at` on, whatever lies between. */
static int frame_find(const struct reading *r, size_t at, size_t *ret_at) {
    uint64_t number;
    size_t body;
    for (; r->len - at >= RLOG_FRAME; at += 8)
        if (frame_at(r, at, &number, &body)) {
            *ret_at = at;
            return 1;
        }
    return 0;
}

static void all_lost(struct yk_dir_rlog *log) {
    for (uint32_t i = 0; i < YK_DIR_SLOTS; i++)
        log->slot[i].lost = 1;
}

/* The records of a frame; in a bad one, those that are good. What cannot be taken is lost. */
static int records_get(struct reading *r, const unsigned char *at, size_t len) {
    while (len > 0) {
        uint32_t slot = len >= RLOG_RECORD ? at[0] | (uint32_t)at[1] << 8 : YK_DIR_SLOTS;
        size_t body = len >= RLOG_RECORD ? yk_le32(at + 4) : 0;
        if (slot >= YK_DIR_SLOTS || get64(at + 16) != yk_hash64(at, 16) || padded(body) > len - RLOG_RECORD) {
            all_lost(r->log);
            return 0;
        }
        int rc = -YK_EPROTO;
        if (get64(at + 8) == yk_hash64(at + RLOG_RECORD, body))
            rc = rlog_apply(r->log, slot, at[2], at + RLOG_RECORD, body);
        if (rc == -YK_ENOMEM)
            return rc;
        if (rc != 0)
            r->log->slot[slot].lost = 1;
        at += RLOG_RECORD + padded(body);
        len -= RLOG_RECORD + padded(body);
    }
    return 0;
}

/* The frame at r->at is bad. 1: there is one behind it, where r->at is now; 0: it was cut off there. */
static int frame_bad(struct reading *r, int head_good, size_t body) {
    size_t next;
    if (!frame_find(r, r->at + (head_good ? RLOG_FRAME : 0), &next))
        return 0;
    r->report->rotten++;
    int rc = 0;
    if (!head_good) /* its number is not known, so nothing can be missed between */
        frame_at(r, next, &r->number, &(size_t){0});
    if (!head_good || body > next - r->at - RLOG_FRAME)
        all_lost(r->log);
    else
        rc = records_get(r, r->bytes + r->at + RLOG_FRAME, body);
    r->at = next;
    return rc < 0 ? rc : 1;
}

/* 1: there may be more; 0: that was all. */
static int frame_get(struct reading *r) {
    uint64_t number;
    size_t body;
    int good = frame_at(r, r->at, &number, &body);
    if (good && number > r->number) { /* those between are missing */
        r->report->rotten++;
        all_lost(r->log);
    }
    if (!good)
        return frame_bad(r, 0, 0);
    r->number = number + 1;
    const unsigned char *p = r->bytes + r->at;
    if (body > r->len - r->at - RLOG_FRAME || get64(p + 24) != yk_hash64(p + RLOG_FRAME, body))
        return frame_bad(r, 1, body);
    int rc = records_get(r, p + RLOG_FRAME, body);
    r->last = r->at;
    r->at += RLOG_FRAME + body;
    return rc < 0 ? rc : 1;
}

int rlog_load(struct yk_dir_rlog *log, const unsigned char *bytes, size_t len, size_t *ret_last, size_t *ret_end,
              struct yk_dir_rlog_report *report, struct yk_err *err) {
    struct reading r = {.log = log, .bytes = bytes, .len = len, .at = RLOG_HEAD, .last = RLOG_HEAD, .number = 1, .report = report};
    int rc = head_get(bytes, len, &r.id, err);
    if (rc != 0)
        return rc;
    while (r.at < len && (rc = frame_get(&r)) == 1)
        ;
    if (rc < 0)
        return yk_err_set(err, rc, "no memory for the log of removes");
    report->cut_bytes = len - r.at;
    for (uint32_t i = 0; i < YK_DIR_SLOTS; i++)
        report->lost_slots += log->slot[i].lost;
    log->file.id = r.id;
    log->file.number = r.number;
    log->file.bytes = r.at;
    *ret_last = r.last;
    *ret_end = r.at;
    return 0;
}

/* ---- opening ------------------------------------------------------------------------------------ */

static int sys_fail(struct yk_err *err, const char *what, const char *path, int err_no) {
    int code = err_no == EWOULDBLOCK ? YK_EBUSY : yk_status_from_errno(err_no);
    return yk_err_set(err, -code, "log of removes: %s %s: %s", what, path,
                      err_no == EWOULDBLOCK ? "another process has it open" : strerror(err_no));
}

static int folder_open(struct yk_dir_rlog *log, struct yk_err *err) {
    char *folder = strdup(log->path);
    if (folder == NULL)
        return yk_err_set(err, -YK_ENOMEM, "no memory");
    char *slash = strrchr(folder, '/');
    if (slash != NULL)
        slash[slash == folder] = 0;
    const char *name = slash != NULL ? folder : ".";
    log->dir_fd = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = log->dir_fd < 0 ? sys_fail(err, "open the folder", name, errno) : 0;
    free(folder);
    return rc;
}

static int file_make(struct yk_dir_rlog *log, struct yk_err *err) {
    unsigned char head[RLOG_HEAD];
    struct yk_dir_rlog_io io = {.fd = -1, .dir_fd = log->dir_fd, .path = log->path, .new_path = log->new_path};
    log->file.id = rlog_id();
    rlog_head_put(head, log->file.id);
    io.new_fd = make_file(log->new_path);
    if (io.new_fd < 0)
        return sys_fail(err, "make", log->new_path, errno);
    log->file.fd = io.new_fd;
    if (write_all(&io, io.new_fd, head, sizeof(head), 0) != 0)
        return yk_err_set(err, io.status, "%s", io.text);
    if (fsync(io.new_fd) != 0 || rename(log->new_path, log->path) != 0 || fsync(log->dir_fd) != 0)
        return sys_fail(err, "make", log->path, errno);
    log->file.number = 1;
    log->file.bytes = RLOG_HEAD;
    return 0;
}

/* Locked, and still the one of that name. */
static int file_lock(struct yk_dir_rlog *log, struct stat *ret_st, struct yk_err *err) {
    struct stat named;
    if (flock(log->file.fd, LOCK_EX | LOCK_NB) != 0)
        return sys_fail(err, "lock", log->path, errno);
    if (fstat(log->file.fd, ret_st) != 0 || stat(log->path, &named) != 0)
        return sys_fail(err, "stat", log->path, errno);
    if (named.st_ino != ret_st->st_ino || named.st_dev != ret_st->st_dev)
        return sys_fail(err, "lock", log->path, EWOULDBLOCK);
    if (ret_st->st_size > (off_t)FILE_MAX)
        return yk_err_set(err, -YK_ETOOBIG, "log of removes %s has %lld bytes; no log grows beyond %llu", log->path,
                          (long long)ret_st->st_size, FILE_MAX);
    return 0;
}

static int file_read(struct yk_dir_rlog *log, unsigned char *bytes, size_t len, struct yk_err *err) {
    for (size_t at = 0; at < len;) {
        ssize_t n = pread(log->file.fd, bytes + at, len - at, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return sys_fail(err, "read", log->path, n < 0 ? errno : EIO);
        at += (size_t)n;
    }
    return 0;
}

/* What was read counts from now on, so it must be on the disk, not only in the system's memory: a process that was
 * killed, or was told that its disk had failed, may have left it there. Only the last frame can be so; to sync is
 * not enough, since after a failure the system takes its pages for written. What was cut must not be
 * taken for something later. */
static int file_settle(struct yk_dir_rlog *log, const unsigned char *bytes, size_t len, size_t last, size_t end,
                       struct yk_err *err) {
    struct yk_dir_rlog_io io = {.fd = log->file.fd};
    if (end < len && ftruncate(log->file.fd, (off_t)end) != 0)
        return sys_fail(err, "cut", log->path, errno);
    if (write_all(&io, log->file.fd, bytes + last, end - last, last) != 0)
        return yk_err_set(err, io.status, "%s", io.text);
    /* The folder, too: the file may have got its name a moment before. */
    return fsync(log->file.fd) != 0 || fsync(log->dir_fd) != 0 ? sys_fail(err, "fsync", log->path, errno) : 0;
}

static int file_load(struct yk_dir_rlog *log, struct yk_dir_rlog_report *report, struct yk_err *err) {
    struct stat st;
    int rc = file_lock(log, &st, err);
    if (rc != 0)
        return rc;
    size_t len = (size_t)st.st_size, last = 0, end = 0;
    unsigned char *bytes = malloc(len + 1);
    if (bytes == NULL)
        return yk_err_set(err, -YK_ENOMEM, "no memory for the %zu bytes of %s", len, log->path);
    if ((rc = file_read(log, bytes, len, err)) == 0) {
        rc = rlog_load(log, bytes, len, &last, &end, report, err);
        if (rc == 0)
            rc = file_settle(log, bytes, len, last, end, err);
        else if (err != NULL) {
            struct yk_err why = *err;
            yk_err_set(err, rc, "%s: %s", log->path, why.text);
        }
    }
    free(bytes);
    return rc;
}

int rlog_file_open(struct yk_dir_rlog *log, struct yk_dir_rlog_report *report, struct yk_err *err) {
    int rc = folder_open(log, err);
    if (rc != 0)
        return rc;
    log->file.fd = open(log->path, O_RDWR | O_CLOEXEC);
    if (log->file.fd < 0 && errno != ENOENT)
        return sys_fail(err, "open", log->path, errno);
    if (log->file.fd < 0) {
        report->created = 1;
        return file_make(log, err);
    }
    if ((rc = file_load(log, report, err)) == 0)
        unlink(log->new_path); /* of a compaction that a crash ended */
    return rc;
}

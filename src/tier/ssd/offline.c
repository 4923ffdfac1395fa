/* SPDX-License-Identifier: Apache-2.0
 *
 * The offline reader (offline.h): plain reads of a file, one at a time.
 */
#include "tier/ssd/offline.h"

#include "base/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/fs.h>
#include <yolk/status.h>

struct yk_ssd_offline {
    int fd;
    unsigned char *buf; /* of a header, a footer, a checkpoint */
    uint64_t cap;
    unsigned char *payload;
    uint64_t payload_cap;
    struct yk_ssd_offline_info info;
};

static int read_at(const struct yk_ssd_offline *off, void *to, uint64_t bytes, uint64_t at) {
    unsigned char *p = to;
    while (bytes > 0) {
        ssize_t n = pread(off->fd, p, bytes, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -YK_EIO; /* beyond the end, too */
        p += n;
        at += (uint64_t)n;
        bytes -= (uint64_t)n;
    }
    return 0;
}

static int grow(unsigned char **buf, uint64_t *cap, uint64_t bytes) {
    if (*cap >= bytes)
        return 0;
    unsigned char *b = realloc(*buf, bytes);
    if (b == NULL)
        return -YK_ENOMEM;
    *buf = b;
    *cap = bytes;
    return 0;
}

/* ---- open ---------------------------------------------------------------------------------------------- */

static enum yk_ssd_part part_of(int rc) {
    return rc == 0            ? YK_SSD_PART_GOOD
           : rc == -YK_ENOENT ? YK_SSD_PART_NONE
           : rc == -YK_EIO    ? YK_SSD_PART_UNREADABLE
                              : YK_SSD_PART_DAMAGED;
}

static int foreign(struct yk_ssd_offline *off, const char *path, struct yk_err *err) {
    uint64_t bytes =
        off->info.file_bytes < YK_SSD_FOREIGN_BYTES ? off->info.file_bytes : YK_SSD_FOREIGN_BYTES;
    if (grow(&off->buf, &off->cap, bytes + 1) < 0)
        return yk_err_set(err, -YK_ENOMEM, "%s: no memory", path);
    if (bytes > 0 && read_at(off, off->buf, bytes, 0) < 0)
        return yk_err_set(err, -YK_EIO, "%s: cannot read its beginning", path);
    const char *what = yk_ssd_foreign(off->buf, bytes);
    return yk_err_set(err, -YK_EPERM, "%s: is no Yolk SSD tier: it holds %s", path,
                      what != NULL ? what : "nothing but zeros");
}

static int supers_read(struct yk_ssd_offline *off, const char *path, struct yk_err *err) {
    struct yk_ssd_offline_info *info = &off->info;
    struct yk_ssd_super super;
    uint32_t version = 0;
    int have = 0, newer = 0, ours = 0;
    for (uint32_t i = 0; i < 2; i++) {
        int rc = read_at(off, off->buf, YK_SSD_SECTOR, YK_SSD_SUPER_AT(i));
        if (rc == 0)
            rc = yk_ssd_super_get(off->buf, &super, &version);
        newer |= rc == -YK_EVERSION;
        ours |= rc == -YK_ECORRUPT;
        info->super_part[i] = part_of(rc);
        if (rc == 0 && !have) {
            info->super = super;
            have = 1;
        }
    }
    if (have)
        return 0;
    if (newer)
        return yk_err_set(err, -YK_EVERSION,
                          "%s: format %u, this program knows %u: use the yolk of the version that "
                          "wrote it",
                          path, version, YK_SSD_FORMAT);
    if (ours)
        return yk_err_set(err, -YK_ECORRUPT, "%s: both superblocks are damaged", path);
    return foreign(off, path, err);
}

static void ckpts_read(struct yk_ssd_offline *off) {
    struct yk_ssd_offline_info *info = &off->info;
    struct yk_ssd_ckpt *c = malloc(sizeof(*c));
    for (uint32_t i = 0; i < 2 && c != NULL; i++) {
        int rc = read_at(off, off->buf, YK_SSD_CKPT_BYTES, YK_SSD_CKPT_AT(i));
        if (rc == 0)
            rc = yk_ssd_ckpt_get(off->buf, info->super.uid, c);
        info->ckpt_part[i] = part_of(rc);
        if (rc == 0 && (!info->has_ckpt || c->seq > info->ckpt.seq)) {
            info->ckpt = *c;
            info->has_ckpt = 1;
        }
    }
    free(c);
}

static int is_directory(int fd) {
    struct stat st;
    return fstat(fd, &st) == 0 && S_ISDIR(st.st_mode);
}

static uint64_t size_of(int fd) {
    struct stat st;
    uint64_t bytes = 0;
    if (fstat(fd, &st) < 0)
        return 0;
    if (!S_ISBLK(st.st_mode))
        return (uint64_t)st.st_size;
    return ioctl(fd, BLKGETSIZE64, &bytes) < 0 ? 0 : bytes;
}

int yk_ssd_offline_open(const char *path, struct yk_ssd_offline **ret_off, struct yk_err *err) {
    struct yk_ssd_offline *off = calloc(1, sizeof(*off));
    if (off == NULL || grow(&off->buf, &off->cap, YK_SSD_CKPT_BYTES) < 0) {
        free(off);
        return yk_err_set(err, -YK_ENOMEM, "%s: no memory", path);
    }
    off->fd = open(path, O_RDONLY | O_CLOEXEC);
    int rc = 0;
    if (off->fd < 0)
        rc = yk_err_set(err, -yk_status_from_errno(errno), "%s: cannot be opened: %s", path,
                        strerror(errno));
    else if (is_directory(off->fd))
        rc = yk_err_set(err, -YK_EINVAL, "%s: is a directory: name the file in it (yolk-NAME.ssd)",
                        path);
    if (rc == 0) {
        off->info.file_bytes = size_of(off->fd);
        rc = supers_read(off, path, err);
    }
    if (rc < 0) {
        yk_ssd_offline_close(off);
        return rc;
    }
    off->info.segments = yk_ssd_super_segments(&off->info.super);
    ckpts_read(off);
    *ret_off = off;
    return 0;
}

void yk_ssd_offline_close(struct yk_ssd_offline *off) {
    if (off == NULL)
        return;
    if (off->fd >= 0)
        close(off->fd);
    free(off->buf);
    free(off->payload);
    free(off);
}

const struct yk_ssd_offline_info *yk_ssd_offline_info(const struct yk_ssd_offline *off) {
    return &off->info;
}

/* ---- a segment ------------------------------------------------------------------------------------------- */

/* One reading of a segment. */
struct walk {
    struct yk_ssd_offline *off;
    uint64_t i, base; /* segment; where it begins */
    yk_ssd_offline_fn fn;
    void *arg;
    struct yk_ssd_offline_segment *ret;
    int again; /* the footer had it all: only whether the batches are good */
    uint64_t count, foot_count; /* records in the batches; that there are by the footer */
};

static int records(struct walk *w, struct yk_ssd_recs recs) {
    struct yk_ssd_rec rec;
    int rc, one = 0;
    while ((rc = yk_ssd_rec_next(&recs, w->off->info.super.segment_bytes, &rec)) == 1) {
        w->ret->blocks += rec.type == YK_SSD_REC_BLOCK;
        w->ret->payload_bytes += rec.type == YK_SSD_REC_BLOCK ? rec.len : 0;
        w->ret->tombs += rec.type == YK_SSD_REC_TOMB;
        w->ret->expiries += rec.type == YK_SSD_REC_EXPIRY;
        w->ret->namespaces += rec.type == YK_SSD_REC_NS;
        if (w->fn != NULL && (one = w->fn(w->arg, w->i, &rec)) != 0)
            return one;
    }
    w->ret->damaged += rc < 0;
    return 0;
}

/* 1: the footer was good, and its records are told. */
static int footer(struct walk *w, int *ret_rc) {
    struct yk_ssd_offline *off = w->off;
    uint64_t segment = off->info.super.segment_bytes;
    struct yk_ssd_foot f;
    struct yk_ssd_recs recs;
    if (read_at(off, off->buf, YK_SSD_SECTOR, w->base + segment - YK_SSD_SECTOR) < 0) {
        w->ret->unreadable++;
        return 0;
    }
    if (yk_ssd_foot_peek(off->buf, off->info.super.uid, segment, &f) < 0) {
        w->ret->damaged += (uint32_t)yk_ssd_foot_damaged(off->buf, off->info.super.uid);
        return 0;
    }
    uint64_t bytes = yk_ssd_foot_bytes(f.recs_bytes);
    *ret_rc = grow(&off->buf, &off->cap, bytes);
    if (*ret_rc < 0)
        return 1;
    if (read_at(off, off->buf, bytes, w->base + segment - bytes) < 0) {
        w->ret->unreadable++;
        return 0;
    }
    if (yk_ssd_foot_get(off->buf, &f, &recs) < 0) {
        w->ret->damaged++;
        return 0;
    }
    w->ret->seq = f.seq;
    w->ret->footer = 1;
    w->foot_count = f.count;
    *ret_rc = records(w, recs);
    return 1;
}

/* A header at a place, in the buffer. 0; -YK_ECORRUPT (none), -YK_EIO. */
static int header(struct walk *w, uint64_t at, struct yk_ssd_head *ret, struct yk_ssd_recs *recs) {
    struct yk_ssd_offline *off = w->off;
    uint64_t segment = off->info.super.segment_bytes;
    if (read_at(off, off->buf, YK_SSD_SECTOR, w->base + at) < 0)
        return -YK_EIO;
    int rc = yk_ssd_head_peek(off->buf, off->info.super.uid, segment, ret);
    if (rc < 0 || ret->room > segment - at)
        return -YK_ECORRUPT;
    if (read_at(off, off->buf, ret->room, w->base + at) < 0)
        return -YK_EIO;
    return yk_ssd_head_get(off->buf, ret->room, off->info.super.uid, segment, ret, recs);
}

/* Batch after batch; behind a damaged header the next good one of the same sequence is looked for. */
static int batches(struct walk *w) {
    uint64_t segment = w->off->info.super.segment_bytes, at = 0, number = 0;
    unsigned char first[YK_SSD_HEAD_BYTES];
    int seeking = 0, rc = 0;
    while (at + YK_SSD_SECTOR <= segment && rc == 0) {
        struct yk_ssd_head h;
        struct yk_ssd_recs recs;
        int got = header(w, at, &h, &recs);
        if (got == 0 && (w->ret->seq == 0 || h.seq == w->ret->seq) && h.number >= number &&
            (seeking ? w->ret->seq != 0 || yk_ssd_head_seq_is(first, h.seq)
                     : (uint64_t)h.at_sector * YK_SSD_SECTOR == at)) {
            w->ret->seq = h.seq;
            w->ret->batches += !w->again;
            w->count += h.count;
            number = (uint64_t)h.number + 1;
            at = (uint64_t)h.at_sector * YK_SSD_SECTOR + h.bytes;
            seeking = 0;
            rc = w->again ? 0 : records(w, recs);
            continue;
        }
        w->ret->unreadable += got == -YK_EIO;
        if (!seeking) {
            if (got == -YK_EIO)
                memset(first, 0, sizeof(first));
            else
                memcpy(first, w->off->buf, sizeof(first));
            if (got != -YK_EIO &&
                !yk_ssd_head_damaged(w->off->buf, w->off->info.super.uid, w->ret->seq))
                return 0;
            w->ret->damaged += got != -YK_EIO;
            seeking = 1;
        }
        at += YK_SSD_SECTOR;
    }
    return rc;
}

/* Are the batches of a segment with a good footer good, too? A start that could not read the footer would go
 * by them. One that is missing shows in the count, whatever is left of its header. */
static int batches_again(struct walk *w) {
    uint64_t before = (uint64_t)w->ret->damaged + w->ret->unreadable;
    w->again = 1;
    int rc = batches(w);
    if (w->count != w->foot_count && before == (uint64_t)w->ret->damaged + w->ret->unreadable)
        w->ret->damaged++;
    return rc;
}

int yk_ssd_offline_segment(struct yk_ssd_offline *off, uint64_t i, yk_ssd_offline_fn fn, void *arg,
                           struct yk_ssd_offline_segment *ret_segment) {
    struct walk w = {.off = off,
                     .i = i,
                     .base = yk_ssd_segment_at(off->info.super.segment_bytes, i),
                     .fn = fn,
                     .arg = arg,
                     .ret = ret_segment};
    int rc = 0;
    memset(ret_segment, 0, sizeof(*ret_segment));
    if (!footer(&w, &rc))
        return batches(&w);
    return rc != 0 ? rc : batches_again(&w);
}

int yk_ssd_offline_payload(struct yk_ssd_offline *off, uint64_t i, const struct yk_ssd_rec *rec) {
    uint64_t at =
        yk_ssd_segment_at(off->info.super.segment_bytes, i) + (uint64_t)rec->place * YK_SSD_UNIT;
    if (grow(&off->payload, &off->payload_cap, rec->len + 1u) < 0)
        return -YK_ENOMEM;
    if (read_at(off, off->payload, rec->len, at) < 0)
        return -YK_EIO;
    return yk_hash64(off->payload, rec->len) == rec->sum ? 0 : -YK_ECORRUPT;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * What stands on the devices at start: ours, somebody else's, nothing; and which of them missed a run.
 *
 * Every opening of a node has a run number. It is first written to all devices as not started, then,
 * when all have it, as started, and only then work is accepted. So a device whose run is below the
 * highest that was started was not there then, and what it holds may have been removed: it comes back
 * empty. An opening that is killed half way leaves runs that were never started, and nothing is lost.
 *
 * Empty means a new uid: whatever is on the device then belongs to nobody, without writing over it.
 *
 * A file that was cut short has lost segments, and removals with them, also when it has its size again: the
 * segments that are zero now look free, and older ones hold what was removed. So one that was shorter than it
 * was formatted when it was opened starts empty, and so does one whose last sector, the superblock's third
 * copy, is not there any more: whoever cuts a file takes that first.
 *
 * Threads: the owner's; blocks.
 */
#include "tier/ssd/ssd_priv.h"

#include "base/clock.h"
#include "base/fmt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include <yolk/status.h>

#define SEGMENT_DEFAULT (64u << 20)
#define SEGMENTS_WANT   16u /* of a small device: with smaller segments */
#define SEGMENTS_LEAST  4u
#define FOREIGN_END     (1u << 20) /* that is looked at before a device is formatted */
#define SEGMENT_SMALL   (4u << 20) /* the smallest that is chosen without being asked for */

uint64_t yk_ssd_random(void) {
    uint64_t v = 0;
    while (v == 0)
        if (getrandom(&v, sizeof(v), 0) != sizeof(v))
            v = yk_now_ns() ^ yk_wall_ms() << 20; /* no random numbers: unique at least */
    return v;
}

int yk_ssd_dev_open_io(struct yk_ssd_dev *d, int back, struct yk_err *err) {
    struct yk_ssd *ssd = d->ssd;
    struct yk_file *wrapped;
    struct yk_file_opts o = {.path = d->path,
                               .size_bytes = d->opt_size,
                               .create = !back,
                               .tentative = 1,
                               .no_wait = back,
                               .buffered = ssd->o.buffered,
                               .mem = ssd->o.mem,
                               .mem_bytes = ssd->o.mem_bytes,
                               .wake = ssd->o.wake,
                               .wake_arg = ssd->o.arg,
                               .wake_fd = ssd->o.wake_fd};
    int rc = ssd->o.io->open(&o, &d->io, err);
    if (rc < 0)
        return rc;
    if (ssd->o.io_wrap != NULL) {
        rc = ssd->o.io_wrap(ssd->o.io_wrap_arg, d->io, &wrapped);
        if (rc < 0) {
            d->io->ops->close(d->io);
            d->io = NULL;
            return yk_err_set(err, rc, "%s: the device could not be wrapped", d->path);
        }
        d->io = wrapped;
    }
    d->ops = d->io->ops;
    return 0;
}

static int read_at(struct yk_ssd_dev *d, uint64_t offset, void *buf, uint64_t bytes) {
    struct yk_ssd_script *s = &d->ret;
    s->n = 0;
    yk_ssd_script_add(s, YK_FILE_READ, offset, buf, bytes);
    return yk_ssd_script_wait(d, s);
}

/* ---- somebody else's ---------------------------------------------------------------------------------- */

/* Of the bytes at one end of the device; NULL: nothing stands there. A superblock of our own at the very end is
 * nobody's else. */
static int foreign_look(struct yk_ssd_dev *d, uint64_t at, uint64_t bytes, const char **ret_what,
                        struct yk_err *err) {
    struct yk_ssd_super super;
    uint32_t version;
    unsigned char *buf = malloc(bytes + 1);
    *ret_what = NULL;
    if (buf == NULL)
        return yk_err_set(err, -YK_ENOMEM, "%s: no memory", d->path);
    int rc = 0;
    for (uint64_t done = 0; rc == 0 && done < bytes; done += YK_FILE_BYTES)
        rc = read_at(d, at + done, buf + done,
                     bytes - done < YK_FILE_BYTES ? bytes - done : YK_FILE_BYTES);
    if (rc == 0 && at > 0 && bytes >= YK_SSD_SECTOR &&
        yk_ssd_super_get(buf + bytes - YK_SSD_SECTOR, &super, &version) != -YK_ENOENT)
        bytes -= YK_SSD_SECTOR;
    if (rc == 0 && bytes > 0)
        *ret_what = yk_ssd_foreign(buf, bytes);
    free(buf);
    return rc < 0 ? yk_err_set(err, -YK_EIO, "%s: cannot read its %s", d->path,
                               at > 0 ? "end" : "beginning")
                  : 0;
}

/* Some stand at the end alone: a RAID of format 1.0, the copy of a partition table. */
static int refuse_foreign(struct yk_ssd_dev *d, uint64_t size, struct yk_err *err) {
    const char *what;
    size -= size % YK_SSD_SECTOR;
    uint64_t begin = size < YK_SSD_FOREIGN_BYTES ? size : YK_SSD_FOREIGN_BYTES;
    uint64_t end = size - begin < FOREIGN_END ? size - begin : FOREIGN_END;
    int rc = foreign_look(d, 0, begin, &what, err);
    if (rc == 0 && what == NULL && end > 0) {
        rc = foreign_look(d, size - end, end, &what, err);
        if (what != NULL)
            what = "data at its end";
    }
    if (rc == 0 && what != NULL)
        return yk_err_set(err, -YK_EPERM,
                          "%s: holds %s, not a Yolk SSD tier; nothing was changed "
                          "(--ssd-format overwrites it)",
                          d->path, what);
    return rc;
}

/* ---- ours ------------------------------------------------------------------------------------------------ */

/* The superblock, from either copy. 0; -YK_ENOENT: not ours; else an error with its text. */
static int super_read(struct yk_ssd_dev *d, uint64_t size, struct yk_err *err) {
    uint32_t version = 0;
    int rc[2] = {-YK_ENOENT, -YK_ENOENT};
    for (uint32_t i = 0; i < 2; i++) {
        if (YK_SSD_SUPER_AT(i) + YK_SSD_SECTOR > size)
            break;
        rc[i] = read_at(d, YK_SSD_SUPER_AT(i), d->super_buf, YK_SSD_SECTOR);
        if (rc[i] == 0)
            rc[i] = yk_ssd_super_get(d->super_buf, &d->super, &version);
        if (rc[i] == 0)
            return 0;
        if (rc[i] == -YK_EVERSION)
            return yk_err_set(err, rc[i],
                              "%s: written by another version of Yolk (format %u, this one knows "
                              "%u); use that version, or --ssd-format to start it empty",
                              d->path, version, YK_SSD_FORMAT);
    }
    if (rc[0] == -YK_ECORRUPT || rc[1] == -YK_ECORRUPT)
        return yk_err_set(err, -YK_EPERM,
                          "%s: both superblocks of this Yolk SSD tier are damaged; nothing was "
                          "changed (--ssd-format starts it empty)",
                          d->path);
    if (rc[0] == -YK_EIO || rc[1] == -YK_EIO)
        return yk_err_set(err, -YK_EIO, "%s: cannot read its superblock", d->path);
    return -YK_ENOENT;
}

/* Is the superblock's third copy where it was? A damaged one counts: a cut leaves zeros, or what somebody put
 * there in its place. */
static int has_end(struct yk_ssd_dev *d) {
    struct yk_ssd_super end;
    uint32_t version;
    if (d->super.end_at == 0)
        return 1;
    if (read_at(d, d->super.end_at, d->super_buf, YK_SSD_SECTOR) < 0)
        return 0;
    int rc = yk_ssd_super_get(d->super_buf, &end, &version);
    return rc == -YK_ECORRUPT || (rc == 0 && end.uid == d->super.uid);
}

/* Is it as large as it was, and has it been all the time? */
static int size_check(struct yk_ssd_dev *d, const struct yk_file_info *info, struct yk_err *err) {
    uint64_t size = info->size_bytes, want = d->super.size_bytes;
    char a[YK_FMT_MAX], b[YK_FMT_MAX];
    if (want > size && want <= info->found_bytes)
        return yk_err_set(err, -YK_EINVAL,
                          "%s: is to be %s, but was formatted with %s; give it that size, or "
                          "--ssd-format to start it empty",
                          d->path, yk_fmt_bytes_exact(size, a), yk_fmt_bytes_exact(want, b));
    if (want > size)
        return yk_err_set(err, -YK_EINVAL,
                          "%s: is %s now, but was formatted with %s, and what was removed may be "
                          "among what is lost; --ssd-format to start it empty",
                          d->path, yk_fmt_bytes_exact(info->found_bytes, a),
                          yk_fmt_bytes_exact(want, b));
    if (want > info->found_bytes)
        snprintf(d->note, sizeof(d->note),
                 "%.120s: was cut short to %s, and removals may be among what is lost: it starts "
                 "empty",
                 d->path, yk_fmt_bytes_exact(info->found_bytes, a));
    else if (!has_end(d))
        snprintf(d->note, sizeof(d->note),
                 "%.120s: its end is missing, it was cut short since it was formatted, and removals "
                 "may be among what is lost: it starts empty",
                 d->path);
    else {
        if (size - want >= d->super.segment_bytes)
            snprintf(d->note, sizeof(d->note),
                     "%.120s: was formatted with %s and stays so: the rest of its %s is not used "
                     "(--ssd-format takes it, and starts empty)",
                     d->path, yk_fmt_bytes_exact(want, a), yk_fmt_bytes_exact(size, b));
        return 0;
    }
    d->lost = 1;
    return 0;
}

static void ckpt_read(struct yk_ssd_dev *d, struct yk_ssd_ckpt *ret) {
    memset(ret, 0, sizeof(*ret));
    struct yk_ssd_ckpt *c = malloc(sizeof(*c));
    for (uint32_t i = 0; i < 2 && c != NULL; i++)
        if (read_at(d, YK_SSD_CKPT_AT(i), d->ckpt_buf, YK_SSD_CKPT_BYTES) == 0 &&
            yk_ssd_ckpt_get(d->ckpt_buf, d->super.uid, c) == 0 && c->seq > ret->seq)
            *ret = *c;
    free(c);
    d->ckpt_seq = ret->seq;
    d->wear_bytes += ret->wear_bytes;
}

/* ---- made new ---------------------------------------------------------------------------------------------- */

uint64_t yk_ssd_least_bytes(uint64_t segment_bytes) {
    uint64_t each = segment_bytes != 0 ? segment_bytes : SEGMENT_SMALL;
    return YK_SSD_SEGMENTS_AT + SEGMENTS_LEAST * each + YK_SSD_SECTOR;
}

static int geometry(struct yk_ssd_dev *d, uint64_t size, struct yk_err *err) {
    uint64_t segment = d->ssd->o.segment_bytes;
    char a[YK_FMT_MAX], b[YK_FMT_MAX], c[YK_FMT_MAX];
    if (d->opt_size != 0 && d->opt_size < size)
        size = d->opt_size;
    if (segment == 0)
        for (segment = SEGMENT_DEFAULT;
             segment > SEGMENT_SMALL &&
             yk_ssd_segments(yk_ssd_end_at(size), segment) < SEGMENTS_WANT;)
            segment /= 2;
    if (segment < YK_SSD_SEGMENT_MIN || segment > YK_SSD_SEGMENT_MAX ||
        segment % YK_SSD_SECTOR != 0)
        return yk_err_set(
            err, -YK_EINVAL,
            "segments of %s are not possible: 64 KiB to 1 GiB, whole sectors of 4 KiB",
            yk_fmt_bytes_exact(segment, a));
    if (yk_ssd_segments(yk_ssd_end_at(size), segment) < SEGMENTS_LEAST)
        return yk_err_set(err, -YK_ETOOBIG,
                          "%s: %s is too small for segments of %s: give it %s, or take smaller "
                          "segments (--ssd-segment)",
                          d->path, yk_fmt_bytes_exact(size, a), yk_fmt_bytes_exact(segment, b),
                          yk_fmt_bytes_exact(yk_ssd_least_bytes(segment), c));
    d->super.size_bytes = size;
    d->super.segment_bytes = segment;
    d->super.end_at = yk_ssd_end_at(size);
    return 0;
}

void yk_ssd_super_write(struct yk_ssd_dev *d, struct yk_ssd_script *s) {
    yk_ssd_super_put(d->super_buf, &d->super);
    if (d->super.end_at != 0)
        yk_ssd_script_add(s, YK_FILE_WRITE, d->super.end_at, d->super_buf, YK_SSD_SECTOR);
    for (uint32_t i = 0; i < 2; i++)
        yk_ssd_script_add(s, YK_FILE_WRITE, YK_SSD_SUPER_AT(i), d->super_buf, YK_SSD_SECTOR);
    yk_ssd_script_add(s, YK_FILE_FLUSH, 0, NULL, 0);
}

static int format(struct yk_ssd_dev *d, struct yk_err *err) {
    struct yk_ssd_script *s = &d->ret;
    d->super.node_id = d->ssd->node_id;
    d->super.cluster_id = d->ssd->cluster_id;
    d->super.uid = yk_ssd_random();
    snprintf(d->super.node_name, sizeof(d->super.node_name), "%s",
             d->ssd->o.node_name != NULL ? d->ssd->o.node_name : "");
    d->super.created_ms = yk_wall_ms();
    s->n = 0;
    yk_ssd_super_write(d, s);
    if (yk_ssd_script_wait(d, s) < 0)
        return yk_err_set(err, s->status, "%s: cannot be written", d->path);
    return 0;
}

/* ---- one device ------------------------------------------------------------------------------------------------ */

/* ret_ours 1: it has a superblock of this node; 0: it is to be formatted. */
static int dev_look(struct yk_ssd_dev *d, int *ret_ours, struct yk_err *err) {
    struct yk_file_info info;
    d->ckpt_buf = aligned_alloc(YK_SSD_SECTOR, 2u * YK_SSD_CKPT_BYTES + YK_SSD_SECTOR);
    if (d->ckpt_buf == NULL)
        return yk_err_set(err, -YK_ENOMEM, "%s: no memory", d->path);
    d->super_buf = d->ckpt_buf + 2u * YK_SSD_CKPT_BYTES;
    int rc = yk_ssd_dev_open_io(d, 0, err);
    if (rc < 0)
        return rc;
    d->ops->info(d->io, &info);
    yk_ssd_dev_look(d, &info);
    *ret_ours = 0;
    if (d->ssd->o.format)
        return geometry(d, info.size_bytes, err);
    rc = super_read(d, info.size_bytes, err);
    if (rc == -YK_ENOENT) {
        rc = refuse_foreign(d, info.size_bytes, err);
        return rc < 0 ? rc : geometry(d, info.size_bytes, err);
    }
    if (rc < 0)
        return rc;
    *ret_ours = 1;
    return size_check(d, &info, err);
}

static int cluster_agrees(struct yk_ssd *ssd, const struct yk_ssd_dev *d, struct yk_err *err) {
    if (ssd->cluster_id == 0)
        ssd->cluster_id = d->super.cluster_id;
    if (d->super.cluster_id == 0 || d->super.cluster_id == ssd->cluster_id)
        return 0;
    return yk_err_set(err, -YK_EPERM,
                      "%s: belongs to cluster %016llx, this node to %016llx; nothing was changed "
                      "(--ssd-format starts it empty)",
                      d->path, (unsigned long long)d->super.cluster_id,
                      (unsigned long long)ssd->cluster_id);
}

/* Not the same as the id: that goes with the memory segment, and a node that has none yet takes any. */
static int name_agrees(const struct yk_ssd *ssd, const struct yk_ssd_dev *d, struct yk_err *err) {
    const char *name = ssd->o.node_name, *theirs = d->super.node_name;
    if (name == NULL || name[0] == 0 || theirs[0] == 0 ||
        strncmp(name, theirs, sizeof(d->super.node_name) - 1u) == 0)
        return 0;
    return yk_err_set(err, -YK_EPERM,
                      "%s: belongs to node '%s', this one is '%.64s'; nothing was changed (--name %s "
                      "takes it as it is, --ssd-format starts it empty)",
                      d->path, theirs, name, theirs);
}

/* All that have one agree on the node, and on the cluster; they become ours if we have none. */
static int node_agree(struct yk_ssd *ssd, const int *ours, struct yk_err *err) {
    for (uint32_t i = 0; i < ssd->ndev; i++) {
        const struct yk_ssd_dev *d = ssd->devs[i];
        if (!ours[i])
            continue;
        int rc = cluster_agrees(ssd, d, err);
        if (rc == 0)
            rc = name_agrees(ssd, d, err);
        if (rc < 0)
            return rc;
        if (ssd->node_id == 0)
            ssd->node_id = d->super.node_id;
        if (ssd->node_id != d->super.node_id)
            return yk_err_set(err, -YK_EPERM,
                              "%s: belongs to node %016llx, this one is %016llx; nothing was "
                              "changed (--ssd-format starts it empty)",
                              d->path, (unsigned long long)d->super.node_id,
                              (unsigned long long)ssd->node_id);
    }
    while (ssd->node_id == 0)
        ssd->node_id = yk_ssd_random();
    return 0;
}

/* Formats what is new, was cut short, has missed a run, or lost both checkpoints. */
static int devs_settle(struct yk_ssd *ssd, const int *ours, struct yk_ssd_ckpt *ckpts,
                       struct yk_err *err) {
    uint64_t started = ssd->o.run, highest = ssd->o.run;
    for (uint32_t i = 0; i < ssd->ndev; i++) {
        if (ckpts[i].started > ssd->dev_started)
            ssd->dev_started = ckpts[i].started;
        if (ckpts[i].started > started)
            started = ckpts[i].started;
        if (ckpts[i].run > highest)
            highest = ckpts[i].run;
    }
    ssd->started = started;
    ssd->run = highest + 1;
    for (uint32_t i = 0; i < ssd->ndev; i++) {
        struct yk_ssd_dev *d = ssd->devs[i];
        if (ours[i] && ckpts[i].seq != 0 && ckpts[i].run >= started && !d->lost && !ssd->o.alone)
            continue;
        if (d->lost)
            d->lost = 0; /* size_check has said it */
        else if (ours[i] && ckpts[i].seq == 0)
            snprintf(d->note, sizeof(d->note), "%.120s: has no good checkpoint: it starts empty",
                     d->path);
        else if (ours[i] && ckpts[i].run >= started)
            snprintf(d->note, sizeof(d->note),
                     "%.120s: the node was used without it, and removals may be missing: it starts "
                     "empty",
                     d->path);
        else if (ours[i])
            snprintf(d->note, sizeof(d->note),
                     "%.120s: was not there in a run since (%llu of %llu), and removals may be "
                     "missing: it starts empty",
                     d->path, (unsigned long long)ckpts[i].run, (unsigned long long)started);
        ckpts[i].seq = d->ckpt_seq = 0; /* epochs, generations and the clock hold all the same (R9) */
        int rc = format(d, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int yk_ssd_devs_attach(struct yk_ssd *ssd, struct yk_ssd_ckpt *ret_ckpts, struct yk_err *err) {
    int ours[YK_SSD_DEVICES_MAX] = {0};
    for (uint32_t i = 0; i < ssd->ndev; i++) {
        int rc = dev_look(ssd->devs[i], &ours[i], err);
        if (rc < 0)
            return rc;
    }
    int rc = node_agree(ssd, ours, err);
    if (rc < 0)
        return rc;
    for (uint32_t i = 0; i < ssd->ndev; i++)
        if (ours[i])
            ckpt_read(ssd->devs[i], &ret_ckpts[i]);
    rc = devs_settle(ssd, ours, ret_ckpts, err);
    for (uint32_t i = 0; i < ssd->ndev && rc == 0; i++) {
        struct yk_ssd_dev *d = ssd->devs[i];
        d->nseg = (uint32_t)yk_ssd_super_segments(&d->super);
        if (ret_ckpts[i].gen_max > ssd->gen)
            ssd->gen = ret_ckpts[i].gen_max;
        if (ret_ckpts[i].clock_ms > ssd->clock_ms)
            ssd->clock_ms = ret_ckpts[i].clock_ms;
        if (ret_ckpts[i].ns_gen > ssd->ns_gen)
            ssd->ns_gen = ret_ckpts[i].ns_gen;
    }
    return rc;
}

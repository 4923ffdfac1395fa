/* SPDX-License-Identifier: Apache-2.0
 *
 * Places of SSD logs (src/node/ssd_place.h).
 */
#include "node/ssd_place.h"

#include "base/fmt.h"
#include "base/parse.h"
#include "base/text.h"
#include "tier/ssd/ssd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <linux/fs.h>

#define MIB (1ull << 20)

/* Splits PATH:SIZE. A path that is there as it stands is taken so, whatever it ends in. */
static int split(const char *text, struct yk_ssd_place *p, struct yk_err *err) {
    char quoted[YK_QUOTE_MAX];
    struct stat st;
    struct yk_err size_err = {0};
    const char *colon = strrchr(text, ':');
    size_t len = strlen(text);
    if (colon != NULL && stat(text, &st) < 0) {
        if (yk_parse_size(colon + 1, &p->size_bytes, &size_err) == 0) {
            len = (size_t)(colon - text);
            if (p->size_bytes == 0)
                return yk_err_set(err, -YK_EINVAL, "found %s, expected a size above 0",
                                  yk_quote(text, quoted));
        } else if (strchr("0123456789", colon[1]) != NULL && strchr(colon, '/') == NULL) {
            return yk_err_set(err, -YK_EINVAL, "%s", size_err.text);
        }
    }
    if (len == 0 || len >= sizeof(p->path))
        return yk_err_set(err, -YK_EINVAL,
                          "found %s, expected PATH or PATH:SIZE with a path of 1 "
                          "to %u bytes",
                          yk_quote(text, quoted), YK_SSD_PLACE_PATH - 1u);
    memcpy(p->path, text, len);
    p->path[len] = '\0';
    return 0;
}

static int in_directory(struct yk_ssd_place *p, const char *name, struct yk_err *err) {
    char quoted[YK_QUOTE_MAX], dir[YK_SSD_PLACE_PATH];
    size_t len = strlen(p->path);
    memcpy(dir, p->path, len + 1u);
    while (len > 1 && dir[len - 1u] == '/')
        dir[--len] = '\0';
    int n = snprintf(p->path, sizeof(p->path), "%s/yolk-%s.ssd", dir, name);
    if (n < 0 || (size_t)n >= sizeof(p->path))
        return yk_err_set(err, -YK_EINVAL, "found %s, expected a shorter path",
                          yk_quote(dir, quoted));
    return 0;
}

static uint64_t device_bytes(const char *path) {
    uint64_t bytes = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    if (ioctl(fd, BLKGETSIZE64, &bytes) < 0)
        bytes = 0;
    close(fd);
    return bytes;
}

static void parent_of(const char *path, char dir[YK_SSD_PLACE_PATH]) {
    const char *slash = strrchr(path, '/');
    size_t len = slash == NULL ? 0 : slash == path ? 1u : (size_t)(slash - path);
    memcpy(dir, path, len);
    memcpy(dir + len, len == 0 ? "." : "", len == 0 ? 2u : 1u);
}

static int check_new(const struct yk_ssd_place *p, struct yk_err *err) {
    char quoted[YK_QUOTE_MAX], dir[YK_SSD_PLACE_PATH], dir_quoted[YK_QUOTE_MAX];
    struct stat st;
    parent_of(p->path, dir);
    if (stat(dir, &st) < 0 || !S_ISDIR(st.st_mode))
        return yk_err_set(err, -YK_EINVAL,
                          "found %s, but there is no directory %s: make it, or "
                          "correct the path",
                          yk_quote(p->path, quoted), yk_quote(dir, dir_quoted));
    if (p->size_bytes == 0)
        return yk_err_set(err, -YK_EINVAL,
                          "found %s, which is not there: add a size to make it, "
                          "such as %.80s:100G",
                          yk_quote(p->path, quoted), p->path);
    if (access(dir, W_OK | X_OK) < 0)
        return yk_err_set(err, -YK_EINVAL,
                          "found %s, but user %u may not write to %s: change its "
                          "owner, or make the file beforehand",
                          yk_quote(p->path, quoted), (unsigned)geteuid(),
                          yk_quote(dir, dir_quoted));
    return 0;
}

/* What is there is counted in. */
static int check_room(const struct yk_ssd_place *p, uint64_t allocated, struct yk_err *err) {
    char quoted[YK_QUOTE_MAX], dir[YK_SSD_PLACE_PATH], want[YK_FMT_MAX], have[YK_FMT_MAX];
    struct statvfs fs;
    parent_of(p->path, dir);
    if (p->is_block || p->size_bytes <= allocated || statvfs(dir, &fs) < 0 || fs.f_blocks == 0)
        return 0; /* a file system in memory without a limit says that it has no blocks */
    uint64_t room = (uint64_t)fs.f_bavail * fs.f_frsize + allocated;
    if (p->size_bytes <= room)
        return 0;
    return yk_err_set(err, -YK_ENOSPC,
                      "found %s of %s, expected at most the %s that its file system "
                      "has for it",
                      yk_quote(p->path, quoted), yk_fmt_bytes_exact(p->size_bytes, want),
                      yk_fmt_bytes(room, have));
}

/* A file that will be formatted: one that has its format keeps its own segments. */
static int check_new_size(const struct yk_ssd_place *p, uint64_t segment_bytes,
                          struct yk_err *err) {
    char quoted[YK_QUOTE_MAX], have[YK_FMT_MAX], each[YK_FMT_MAX], least[YK_FMT_MAX], few[YK_FMT_MAX];
    uint64_t want = yk_ssd_least_bytes(segment_bytes), fits = MIB;
    if (p->size_bytes >= want)
        return 0;
    while (yk_ssd_least_bytes(2u * fits) <= p->size_bytes)
        fits *= 2u;
    return yk_err_set(err, -YK_EINVAL,
                      "found %s of %s, which is too small for segments of %s: give it %s%s%s%s",
                      yk_quote(p->path, quoted), yk_fmt_bytes_exact(p->size_bytes, have),
                      yk_fmt_bytes_exact(segment_bytes, each),
                      yk_fmt_bytes_exact((want + MIB - 1u) / MIB * MIB, least),
                      fits < segment_bytes ? ", or take segments of " : "",
                      fits < segment_bytes ? yk_fmt_bytes_exact(fits, few) : "",
                      fits < segment_bytes ? " (--ssd-segment)" : "");
}

static int check_size(const struct yk_ssd_place *p, uint64_t segment_bytes, struct yk_err *err) {
    char quoted[YK_QUOTE_MAX], have[YK_FMT_MAX], least[YK_FMT_MAX];
    uint64_t bytes = p->size_bytes != 0 ? p->size_bytes : p->there_bytes;
    if (p->is_block && p->there_bytes != 0 && p->size_bytes > p->there_bytes)
        return yk_err_set(err, -YK_EINVAL,
                          "found %s with a size of %s, expected at most the "
                          "device's %s",
                          yk_quote(p->path, quoted), yk_fmt_bytes_exact(p->size_bytes, have),
                          yk_fmt_bytes_exact(p->there_bytes, least));
    if (p->is_block && bytes == 0)
        return 0;
    if (bytes >= segment_bytes)
        return p->there_bytes != 0 ? 0 : check_new_size(p, segment_bytes, err);
    return yk_err_set(err, -YK_EINVAL,
                      "found %s of %s, which is smaller than one segment of %s: "
                      "give it more, or take smaller segments",
                      yk_quote(p->path, quoted), yk_fmt_bytes_exact(bytes, have),
                      yk_fmt_bytes_exact(segment_bytes, least));
}

int yk_ssd_place_parse(const char *text, const char *name, uint64_t segment_bytes,
                       struct yk_ssd_place *ret_place, struct yk_err *err) {
    char quoted[YK_QUOTE_MAX];
    struct yk_ssd_place p = {.path = ""};
    struct stat st;
    uint64_t allocated = 0;
    int rc = split(text, &p, err);
    if (rc == 0 && stat(p.path, &st) == 0 && S_ISDIR(st.st_mode))
        rc = in_directory(&p, name, err);
    if (rc < 0)
        return rc;
    if (stat(p.path, &st) < 0) {
        if (errno != ENOENT && errno != ENOTDIR)
            return yk_err_set(err, -YK_EINVAL, "found %s: %s", yk_quote(p.path, quoted),
                              strerror(errno));
        rc = check_new(&p, err);
    } else if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
        rc = yk_err_set(err, -YK_EINVAL, "found %s, expected a file, a directory or a block device",
                        yk_quote(p.path, quoted));
    } else if (access(p.path, R_OK | W_OK) < 0) {
        rc = yk_err_set(err, -YK_EINVAL,
                        "found %s, which user %u may not read and write: change its "
                        "owner or mode",
                        yk_quote(p.path, quoted), (unsigned)geteuid());
    } else {
        p.is_block = S_ISBLK(st.st_mode) ? 1 : 0;
        p.there_bytes = p.is_block ? device_bytes(p.path) : (uint64_t)st.st_size;
        allocated = p.is_block ? 0 : (uint64_t)st.st_blocks * 512u;
    }
    if (rc == 0)
        rc = check_size(&p, segment_bytes, err);
    if (rc == 0)
        rc = check_room(&p, allocated, err);
    if (rc == 0)
        *ret_place = p;
    return rc;
}

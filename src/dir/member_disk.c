/* SPDX-License-Identifier: Apache-2.0
 *
 * The state directory of a node: what it must not forget. Each file is written whole beside the old one,
 * flushed, and renamed over it, and the directory is flushed: after a crash there is the old or the new one.
 * The directory is locked for as long as the process has it, so a node has one life at a time.
 *
 *   lock     empty
 *   node     JSON: cluster, name, incarnation (of this life, or of the one about to be), stale, prefix
 *   map      map.h's encoding
 *   spaces   magic, count, (name, epoch, quota[, copies[, guarantee, priority]])..., XXH3-64; little-endian. With copies, and a magic of its
 *            own, where a namespace wants any: a node that knows of none reads the file of one that uses none
 */
#include "dir/member_priv.h"

#include "base/hash.h"
#include "wire/codec.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define SPACES_MAGIC 0x31734e59u /* "YNs1" */
#define SPACES_COPIES_MAGIC 0x32734e59u /* "YNs2" */
#define SPACES_TERMS_MAGIC 0x33734e59u /* "YNs3" */
#define FILE_MAX     (4u << 20)

/* ---- files ------------------------------------------------------------------------------------ */

static int failed(struct yk_member *m, struct yk_err *err, const char *what, const char *name) {
    int no = errno;
    return yk_err_set(err, -yk_status_from_errno(no), "cannot %s %s/%s: %s", what, m->dir, name, strerror(no));
}

static int write_all(int fd, const char *bytes, size_t len) {
    while (len > 0) {
        ssize_t n = write(fd, bytes, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        bytes += n;
        len -= (size_t)n;
    }
    return 0;
}

static int replace(struct yk_member *m, const char *name, const void *bytes, size_t len, struct yk_err *err) {
    char beside[32];
    snprintf(beside, sizeof(beside), "%s.new", name);
    int fd = openat(m->dir_fd, beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return failed(m, err, "make", beside);
    if (write_all(fd, bytes, len) < 0 || fsync(fd) < 0) {
        failed(m, err, "write", beside);
        close(fd);
        return err->code;
    }
    close(fd);
    if (renameat(m->dir_fd, beside, m->dir_fd, name) < 0 || fsync(m->dir_fd) < 0)
        return failed(m, err, "put in place", name);
    return 0;
}

/* *ret_bytes NULL: there is none. */
static int read_file(struct yk_member *m, const char *name, void **ret_bytes, size_t *ret_len, struct yk_err *err) {
    struct stat st;
    int fd = openat(m->dir_fd, name, O_RDONLY | O_CLOEXEC);
    *ret_bytes = NULL;
    *ret_len = 0;
    if (fd < 0)
        return errno == ENOENT ? 0 : failed(m, err, "open", name);
    if (fstat(fd, &st) < 0 || st.st_size > FILE_MAX) {
        close(fd);
        return yk_err_set(err, -YK_EPROTO, "%s/%s is larger than %u bytes, or cannot be looked at", m->dir, name,
                          FILE_MAX);
    }
    size_t want = (size_t)st.st_size, got = 0;
    char *bytes = malloc(want + 1);
    ssize_t n = 1;
    while (bytes != NULL && got < want && (n = read(fd, bytes + got, want - got)) > 0)
        got += (size_t)n;
    close(fd);
    if (bytes == NULL || n < 0) {
        free(bytes);
        return bytes == NULL ? yk_err_set(err, -YK_ENOMEM, "no memory for %s/%s", m->dir, name)
                             : failed(m, err, "read", name);
    }
    *ret_bytes = bytes;
    *ret_len = got;
    return 0;
}

/* ---- reading at the start ---------------------------------------------------------------------- */

#define MEND "; if the file is beyond repair, remove the directory: the node then drops what it holds and joins anew"

static int read_life(struct yk_member *m, struct yk_err *err) {
    struct yk_member_life life;
    struct yk_err why = {0};
    void *bytes;
    size_t len;
    int rc = read_file(m, "node", &bytes, &len, err);
    if (rc < 0 || bytes == NULL)
        return rc;
    rc = yk_member_read_life(bytes, len, &life, &why);
    free(bytes);
    if (rc < 0)
        return yk_err_set(err, rc, "%s/node: %s" MEND, m->dir, why.text);
    if (strcmp(life.name, m->self.name) != 0)
        return yk_err_set(err, -YK_EINVAL,
                          "%s is the state of the node '%s', and this one is named '%s': give each node a directory "
                          "of its own",
                          m->dir, life.name, m->self.name);
    m->cluster = life.cluster;
    m->lived = life.incarnation;
    m->stale = life.stale;
    memcpy(m->lived_prefix, life.prefix, sizeof(m->lived_prefix));
    return 0;
}

static int read_map(struct yk_member *m, struct yk_err *err) {
    struct yk_err why = {0};
    void *bytes;
    size_t len;
    int rc = read_file(m, "map", &bytes, &len, err);
    if (rc < 0 || bytes == NULL)
        return rc;
    rc = yk_dir_map_decode(bytes, len, &m->map, &why);
    free(bytes);
    if (rc < 0)
        return yk_err_set(err, rc, "%s/map: %s" MEND, m->dir, why.text);
    if (m->cluster != 0 && m->map->cluster != m->cluster)
        return yk_err_set(err, -YK_EPROTO, "%s/map and %s/node are of two clusters" MEND, m->dir, m->dir);
    m->cluster = m->map->cluster;
    return 0;
}

static int take_spaces(struct yk_member *m, const void *bytes, size_t len) {
    struct yk_rd r, sum;
    if (len < 16)
        return -YK_EPROTO;
    yk_rd_init(&sum, (const char *)bytes + len - 8, 8);
    yk_rd_init(&r, bytes, len - 8);
    uint32_t magic = yk_rd_u32(&r);
    if (yk_rd_u64(&sum) != yk_hash64(bytes, len - 8))
        return -YK_EPROTO;
    if (magic != SPACES_MAGIC && magic != SPACES_COPIES_MAGIC && magic != SPACES_TERMS_MAGIC)
        return -YK_EVERSION;
    for (uint32_t n = yk_rd_u32(&r); n > 0 && !r.bad && m->view.space_count < YK_MEMBER_SPACES_MAX; n--) {
        uint32_t name_len;
        const void *name = yk_rd_str8(&r, &name_len);
        struct yk_member_seen_space *s =
            yk_member_grow(&m->view.spaces, &m->view.space_count, &m->view.space_cap, sizeof(*s));
        if (s == NULL)
            return -YK_ENOMEM;
        if (name_len > 0)
            memcpy(s->space.name, name, name_len);
        s->space.epoch = yk_rd_u64(&r);
        s->space.quota_bytes = yk_rd_u64(&r);
        s->space.copies = magic != SPACES_MAGIC ? yk_rd_u8(&r) : 0;
        s->space.guarantee_bytes = magic == SPACES_TERMS_MAGIC ? yk_rd_u64(&r) : 0;
        s->space.priority = magic == SPACES_TERMS_MAGIC ? yk_rd_u32(&r) : 0;
        yk_member_space_from_disk(&s->space);
        s->untold = 1;
    }
    return yk_rd_ok(&r) ? 0 : -YK_EPROTO;
}

static int read_spaces(struct yk_member *m, struct yk_err *err) {
    void *bytes;
    size_t len;
    int rc = read_file(m, "spaces", &bytes, &len, err);
    if (rc < 0 || bytes == NULL)
        return rc;
    rc = take_spaces(m, bytes, len);
    free(bytes);
    if (rc == -YK_EVERSION) /* nothing is wrong with it, and what the node holds need not go */
        return yk_err_set(err, rc, "%s/spaces is of another version of Yolk, which can read it: run that one", m->dir);
    if (rc < 0)
        return yk_err_set(err, rc, "%s/spaces is damaged" MEND, m->dir);
    return 0;
}

int yk_member_disk_open(struct yk_member *m, struct yk_err *err) {
    int rc;
    m->dir_fd = m->lock_fd = -1;
    if (mkdir(m->dir, 0700) < 0 && errno != EEXIST)
        return failed(m, err, "make", "");
    if ((m->dir_fd = open(m->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        return failed(m, err, "open", "");
    if ((m->lock_fd = openat(m->dir_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600)) < 0)
        return failed(m, err, "make", "lock");
    if (flock(m->lock_fd, LOCK_EX | LOCK_NB) < 0)
        return errno != EWOULDBLOCK ? failed(m, err, "lock", "lock")
                                    : yk_err_set(err, -YK_EBUSY,
                                                 "another process has %s: stop it, or give this node a state "
                                                 "directory of its own",
                                                 m->dir);
    if ((rc = read_life(m, err)) < 0 || (rc = read_map(m, err)) < 0)
        return rc;
    return read_spaces(m, err);
}

void yk_member_disk_close(struct yk_member *m) {
    if (m->lock_fd >= 0)
        close(m->lock_fd); /* and unlocks */
    if (m->dir_fd >= 0)
        close(m->dir_fd);
}

/* ---- writing ---------------------------------------------------------------------------------- */

static int told(struct yk_member *m, int rc, const struct yk_err *err) {
    if (rc < 0)
        yk_member_text(m, "%s; nothing new is acted on until this works", err->text);
    return rc;
}

int yk_member_disk_map(struct yk_member *m, const struct yk_dir_map *map) {
    struct yk_err err = {0};
    size_t len = yk_member_encode(m, map);
    return told(m, replace(m, "map", m->scratch, len, &err), &err);
}

int yk_member_disk_life(struct yk_member *m, uint64_t cluster, uint64_t incarnation, int stale) {
    struct yk_member_life life = {.cluster = cluster, .incarnation = incarnation, .stale = stale != 0};
    struct yk_err err = {0};
    struct yk_buf b;
    memcpy(life.name, m->self.name, sizeof(life.name));
    snprintf(life.prefix, sizeof(life.prefix), "%s", m->prefix);
    yk_buf_init(&b, 4096);
    yk_member_put_life(&b, &life);
    int rc = b.status < 0 ? yk_err_set(&err, b.status, "no memory for %s/node", m->dir)
                          : replace(m, "node", b.data, b.len, &err);
    yk_buf_fini(&b);
    if (rc == 0) {
        m->cluster = cluster;
        m->lived = incarnation;
        m->stale = stale != 0;
        memcpy(m->lived_prefix, life.prefix, sizeof(m->lived_prefix));
    }
    return told(m, rc, &err);
}

/* The oldest form that has all of it, so that a program of before can be put back for as long as nothing new is used. */
static uint32_t form_of(const struct yk_member_view *v) {
    uint32_t magic = SPACES_MAGIC;
    for (uint32_t i = 0; i < v->space_count; i++) {
        if (v->spaces[i].space.guarantee_bytes > 0 || v->spaces[i].space.priority > 0)
            return SPACES_TERMS_MAGIC;
        if (v->spaces[i].space.copies > 0)
            magic = SPACES_COPIES_MAGIC;
    }
    return magic;
}

int yk_member_disk_spaces(struct yk_member *m) {
    const struct yk_member_view *v = &m->view;
    struct yk_err err = {0};
    uint32_t magic = form_of(v);
    size_t cap = 16 + (size_t)v->space_count * (1 + YK_MEMBER_SPACE_MAX + 29);
    unsigned char *bytes = malloc(cap);
    struct yk_wr w;
    yk_wr_init(&w, bytes, cap);
    yk_wr_u32(&w, magic);
    yk_wr_u32(&w, v->space_count);
    for (uint32_t i = 0; i < v->space_count; i++) {
        const struct yk_member_space *s = &v->spaces[i].space;
        yk_wr_str8(&w, s->name, strlen(s->name));
        yk_wr_u64(&w, s->epoch);
        yk_wr_u64(&w, s->quota_bytes);
        if (magic != SPACES_MAGIC)
            yk_wr_u8(&w, (uint8_t)s->copies);
        if (magic == SPACES_TERMS_MAGIC) {
            yk_wr_u64(&w, s->guarantee_bytes);
            yk_wr_u32(&w, s->priority);
        }
    }
    if (bytes != NULL)
        yk_wr_u64(&w, yk_hash64(bytes, yk_wr_len(&w)));
    int rc = bytes == NULL ? yk_err_set(&err, -YK_ENOMEM, "no memory for %s/spaces", m->dir)
                           : replace(m, "spaces", bytes, yk_wr_len(&w), &err);
    free(bytes);
    return told(m, rc, &err);
}

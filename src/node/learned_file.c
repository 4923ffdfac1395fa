/* SPDX-License-Identifier: Apache-2.0
 *
 * The file of what policies have learned (learned_file.h).
 */
#include "node/learned_file.h"

#include "base/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC   UINT64_C(0x646e72616c6b6c59) /* "Ylklarnd" as letters */
#define VERSION 1u
#define NAME    64u

struct file_head {
    uint64_t magic;
    uint32_t version, parts;
    uint64_t bytes; /* of the file */
    uint64_t wall_ms;
    uint64_t parts_sum; /* of the heads of parts, in order, each hashed with the sum before it */
    uint64_t sum;       /* of the above */
};

struct part_head {
    char name[NAME]; /* ended by zeros */
    uint32_t ns, reserved;
    uint64_t bytes;
    uint64_t at; /* of these bytes in the file */
};

struct yk_learned_file {
    struct file_head head;
    size_t len;
    unsigned char bytes[];
};

static uint64_t filled_up(uint64_t bytes) {
    return (bytes + 7) & ~UINT64_C(7);
}

static uint64_t sum_with(uint64_t sum, const struct part_head *h) {
    unsigned char both[sizeof(sum) + sizeof(*h)];
    memcpy(both, &sum, sizeof(sum));
    memcpy(both + sizeof(sum), h, sizeof(*h));
    return yk_hash64(both, sizeof(both));
}

static uint64_t head_sum(const struct file_head *h) {
    return yk_hash64(h, offsetof(struct file_head, sum));
}

/* ---- written --------------------------------------------------------------------------------- */

static int failed(struct yk_learned_file_writer *w, const char *what, struct yk_err *err) {
    int err_no = errno;
    yk_learned_file_abandon(w);
    return yk_err_set(err, -yk_status_from_errno(err_no), "cannot %s '%.150s': %s", what, w->beside, strerror(err_no));
}

static int make_file(const char *path) {
    return open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
}

static void make_folder(const char *path) {
    char folder[4096];
    snprintf(folder, sizeof(folder), "%s", path);
    char *slash = strrchr(folder, '/');
    if (slash == NULL || slash == folder)
        return;
    *slash = 0;
    (void)mkdir(folder, 0700); /* whether it is there is seen next */
}

int yk_learned_file_begin(struct yk_learned_file_writer *w, const char *path, struct yk_err *err) {
    *w = (struct yk_learned_file_writer){.fd = -1, .at = sizeof(struct file_head)};
    snprintf(w->path, sizeof(w->path), "%s", path);
    snprintf(w->beside, sizeof(w->beside), "%s.new", w->path);
    w->fd = make_file(w->beside);
    if (w->fd < 0 && errno == ENOENT) {
        make_folder(w->path);
        w->fd = make_file(w->beside);
    }
    return w->fd >= 0 ? 0 : failed(w, "make", err);
}

static int write_at(int fd, const void *bytes, size_t len, uint64_t at) {
    const char *from = bytes;
    while (len > 0) {
        ssize_t n = pwrite(fd, from, len, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            errno = n == 0 ? ENOSPC : errno;
            return -1;
        }
        from += n;
        len -= (size_t)n;
        at += (uint64_t)n;
    }
    return 0;
}

int yk_learned_file_part(struct yk_learned_file_writer *w, const char *name, uint32_t ns, const void *bytes, size_t len,
                         struct yk_err *err) {
    struct part_head h = {.ns = ns, .bytes = len, .at = w->at + sizeof(h)};
    if (strlen(name) >= NAME || h.at + filled_up(len) > YK_LEARNED_FILE_MAX)
        return 0; /* this one is not kept */
    memcpy(h.name, name, strlen(name));
    if (write_at(w->fd, &h, sizeof(h), w->at) != 0 || write_at(w->fd, bytes, len, h.at) != 0)
        return failed(w, "write", err);
    w->at = h.at + filled_up(len);
    w->sum = sum_with(w->sum, &h);
    w->parts++;
    return 0;
}

static int sync_folder(const char *path) {
    char folder[4096];
    snprintf(folder, sizeof(folder), "%s", path);
    char *slash = strrchr(folder, '/');
    if (slash != NULL)
        slash[slash == folder] = 0;
    int fd = open(slash != NULL ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = fd >= 0 ? fsync(fd) : -1;
    if (fd >= 0)
        close(fd);
    return rc;
}

int yk_learned_file_done(struct yk_learned_file_writer *w, uint64_t wall_ms, struct yk_err *err) {
    struct file_head h = {.magic = MAGIC, .version = VERSION, .parts = w->parts, .bytes = w->at, .wall_ms = wall_ms,
                          .parts_sum = w->sum};
    h.sum = head_sum(&h);
    if (write_at(w->fd, &h, sizeof(h), 0) != 0 || ftruncate(w->fd, (off_t)w->at) != 0 || fsync(w->fd) != 0)
        return failed(w, "write", err);
    if (rename(w->beside, w->path) != 0)
        return failed(w, "rename", err);
    close(w->fd);
    w->fd = -1;
    return sync_folder(w->path) == 0 ? 0 : failed(w, "flush the folder of", err);
}

void yk_learned_file_abandon(struct yk_learned_file_writer *w) {
    if (w->fd < 0)
        return;
    close(w->fd);
    w->fd = -1;
    (void)unlink(w->beside);
}

/* ---- read --------------------------------------------------------------------------------------- */

/* The head of the part at *io_at, which moves on; -1: there is none that fits. */
static int next_part(const struct yk_learned_file *f, uint64_t *io_at, struct part_head *ret) {
    if (f->len - *io_at < sizeof(*ret))
        return -1;
    memcpy(ret, f->bytes + *io_at, sizeof(*ret));
    uint64_t at = *io_at + sizeof(*ret);
    if (ret->at != at || ret->bytes > f->len - at || filled_up(ret->bytes) > f->len - at || ret->name[NAME - 1] != 0)
        return -1;
    *io_at = at + filled_up(ret->bytes);
    return 0;
}

static int check(struct yk_learned_file *f, struct yk_err *err) {
    struct part_head part;
    uint64_t at = sizeof(f->head), sum = 0;
    if (f->len < sizeof(f->head))
        return yk_err_set(err, -YK_ECORRUPT, "%zu bytes are less than a head", f->len);
    memcpy(&f->head, f->bytes, sizeof(f->head));
    if (f->head.magic != MAGIC)
        return yk_err_set(err, -YK_ECORRUPT, "it is no file of what a policy has learned");
    if (f->head.version != VERSION)
        return yk_err_set(err, -YK_EVERSION, "its version is %u, expected %u", f->head.version, VERSION);
    if (f->head.sum != head_sum(&f->head) || f->head.bytes != f->len)
        return yk_err_set(err, -YK_ECORRUPT, "its head does not fit its %zu bytes", f->len);
    for (uint32_t i = 0; i < f->head.parts; i++) {
        if (next_part(f, &at, &part) != 0)
            return yk_err_set(err, -YK_ECORRUPT, "part %u of %u is damaged", i + 1, f->head.parts);
        sum = sum_with(sum, &part);
    }
    if (sum != f->head.parts_sum || at != f->len)
        return yk_err_set(err, -YK_ECORRUPT, "its table of %u parts is damaged", f->head.parts);
    return 0;
}

static struct yk_learned_file *make(size_t len) {
    struct yk_learned_file *f = malloc(sizeof(*f) + len);
    if (f != NULL)
        f->len = len;
    return f;
}

static int give(struct yk_learned_file *f, struct yk_learned_file **ret_file, struct yk_err *err) {
    int rc = check(f, err);
    if (rc == 0)
        *ret_file = f;
    else
        free(f);
    return rc;
}

int yk_learned_file_decode(const void *bytes, size_t len, struct yk_learned_file **ret_file, struct yk_err *err) {
    struct yk_learned_file *f = make(len);
    if (f == NULL)
        return yk_err_set(err, -YK_ENOMEM, "no memory for %zu bytes", len);
    if (len > 0)
        memcpy(f->bytes, bytes, len);
    return give(f, ret_file, err);
}

static int read_all(int fd, struct yk_learned_file *f) {
    for (size_t got = 0; got < f->len;) {
        ssize_t n = read(fd, f->bytes + got, f->len - got);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -1;
        got += (size_t)n;
    }
    return 0;
}

int yk_learned_file_read(const char *path, struct yk_learned_file **ret_file, struct yk_err *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat st;
    if (fd < 0 && errno == ENOENT)
        return YK_MISS;
    if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        int err_no = errno;
        if (fd >= 0)
            close(fd);
        return yk_err_set(err, -YK_EIO, "it cannot be read: %s", fd >= 0 ? "it is no file" : strerror(err_no));
    }
    uint64_t len = (uint64_t)st.st_size;
    struct yk_learned_file *f = len <= YK_LEARNED_FILE_MAX ? make((size_t)len) : NULL;
    int rc = f != NULL ? read_all(fd, f) : 0;
    close(fd);
    if (f == NULL)
        return len > YK_LEARNED_FILE_MAX
                   ? yk_err_set(err, -YK_ETOOBIG, "it has %llu bytes, expected at most %llu", (unsigned long long)len,
                                YK_LEARNED_FILE_MAX)
                   : yk_err_set(err, -YK_ENOMEM, "no memory for its %llu bytes", (unsigned long long)len);
    if (rc != 0) {
        free(f);
        return yk_err_set(err, -YK_EIO, "it cannot be read whole");
    }
    return give(f, ret_file, err);
}

void yk_learned_file_free(struct yk_learned_file *file) {
    free(file);
}

const void *yk_learned_file_find(const struct yk_learned_file *f, const char *name, uint32_t ns, size_t *ret_len) {
    struct part_head part;
    uint64_t at = sizeof(f->head);
    for (uint32_t i = 0; i < f->head.parts && next_part(f, &at, &part) == 0; i++)
        if (part.ns == ns && strcmp(part.name, name) == 0) {
            *ret_len = (size_t)part.bytes;
            return f->bytes + part.at;
        }
    return NULL;
}

uint64_t yk_learned_file_wall_ms(const struct yk_learned_file *f) {
    return f->head.wall_ms;
}

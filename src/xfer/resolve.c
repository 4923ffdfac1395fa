/* SPDX-License-Identifier: Apache-2.0
 *
 * Names of segments beyond this engine: by the caller's resolver, or by a directory that all share.
 *
 * In the directory a name is a file, "yk-NAME", whose one line is the address. Its engine holds a lock
 * (flock) on it while it lives: the kernel lets go when the process ends, however it does, so that a
 * file without a lock is a dead engine's and may be replaced. A new file is written and locked beside,
 * then linked or renamed into place: readers see the old one or the new one, whole.
 *
 * Threads: any; no lock is held here.
 */
#include "xfer/engine_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_BYTES 4096
#define TRIES      100 /* others that publish and withdraw the same name meanwhile */

/* What others shall reach this engine by. */
static const char *own_address(const struct yk_xfer *e) {
    return e->reach[0] != 0 ? e->reach : e->mem_address;
}

static int path_of(const struct yk_xfer *e, const char *name, char path[PATH_BYTES],
                   struct yk_err *err) {
    int n = snprintf(path, PATH_BYTES, "%s/yk-%s", e->opts.registry_dir, name);
    return n < PATH_BYTES - 64 ? 0 : yk_err_set(err, -YK_EINVAL, "registry_dir's path is too long");
}

/* A file beside, locked, with the address in it; its descriptor. */
static int write_beside(const struct yk_xfer *e, const char *path, char beside[PATH_BYTES],
                        struct yk_err *err) {
    static uint32_t serial; /* atomic */
    char line[YK_ADDRESS_MAX + 2];
    int len = snprintf(line, sizeof(line), "%s\n", own_address(e));
    snprintf(beside, PATH_BYTES, "%.4000s.%d.%u", path, (int)getpid(),
             __atomic_add_fetch(&serial, 1, __ATOMIC_RELAXED));
    int fd = open(beside, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0644);
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0 && write(fd, line, (size_t)len) == len)
        return fd;
    int failed = errno;
    if (fd >= 0) {
        close(fd);
        unlink(beside);
    }
    return yk_err_set(err, -YK_EIO, "registry_dir: '%.100s' cannot be written (errno %d)", beside, failed);
}

/* 1: the file at path is a dead engine's, and *ret_fd holds its lock; 0: it is gone; -YK_ECONFLICT. */
static int lock_dead(const char *path, int *ret_fd) {
    struct stat now, locked;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : -YK_EIO;
    int rc = flock(fd, LOCK_EX | LOCK_NB) < 0 ? -YK_ECONFLICT : 1;
    if (rc == 1 && (stat(path, &now) < 0 || fstat(fd, &locked) < 0 || now.st_ino != locked.st_ino))
        rc = 0; /* another one took its place meanwhile */
    if (rc == 1)
        *ret_fd = fd;
    else
        close(fd);
    return rc;
}

static int dir_publish(struct yk_xfer *e, const char *name, int *ret_lock_fd, struct yk_err *err) {
    char path[PATH_BYTES], beside[PATH_BYTES];
    int rc = path_of(e, name, path, err), fd = rc < 0 ? rc : write_beside(e, path, beside, err);
    if (fd < 0)
        return fd;
    rc = -YK_EBUSY;
    for (int i = 0; i < TRIES && rc == -YK_EBUSY; i++) {
        int dead_fd = -1;
        if (link(beside, path) == 0) {
            unlink(beside);
            *ret_lock_fd = fd;
            return 0;
        }
        int dead = errno == EEXIST ? lock_dead(path, &dead_fd) : -YK_EIO;
        if (dead == 1) {
            rc = rename(beside, path) == 0 ? 0 : -YK_EIO;
            close(dead_fd);
        } else if (dead < 0) {
            rc = dead;
        }
    }
    if (rc == 0) {
        *ret_lock_fd = fd;
        return 0;
    }
    close(fd);
    unlink(beside);
    return yk_err_set(err, rc, "segment '%.127s' in registry_dir: %s", name,
                      rc == -YK_ECONFLICT ? "another live engine has published it" : yk_status_text(rc));
}

static int dir_find(const struct yk_xfer *e, const char *name, char *ret_address, size_t cap,
                    struct yk_err *err) {
    char path[PATH_BYTES];
    int rc = path_of(e, name, path, err);
    FILE *f = rc == 0 ? fopen(path, "re") : NULL;
    if (f == NULL)
        return rc < 0 ? rc : yk_err_set(err, -YK_ENOENT, "segment '%.127s': nobody has published it", name);
    char *got = fgets(ret_address, (int)cap, f);
    fclose(f);
    if (got == NULL)
        return yk_err_set(err, -YK_EIO, "segment '%.127s': its file in registry_dir is empty", name);
    ret_address[strcspn(ret_address, "\n")] = 0;
    return 0;
}

/* ---- either way -------------------------------------------------------------------------------------- */

int yk_resolve_publish(struct yk_xfer *e, const char *name, int *ret_lock_fd, struct yk_err *err) {
    const yk_xfer_resolver *r = e->opts.resolver;
    *ret_lock_fd = -1;
    if (e->opts.registry_dir != NULL)
        return dir_publish(e, name, ret_lock_fd, err);
    int rc = r != NULL ? r->publish(r->user, name, own_address(e)) : 0;
    return rc < 0 ? yk_err_set(err, rc, "segment '%.127s': the resolver refuses it: %s", name,
                               yk_status_text(rc))
                  : 0;
}

void yk_resolve_withdraw(struct yk_xfer *e, const char *name, int lock_fd) {
    const yk_xfer_resolver *r = e->opts.resolver;
    char path[PATH_BYTES];
    if (r != NULL)
        (void)r->withdraw(r->user, name);
    if (lock_fd < 0)
        return;
    if (path_of(e, name, path, NULL) == 0)
        unlink(path); /* its lock is ours: nobody else has put another there */
    close(lock_fd);
}

int yk_resolve_find(struct yk_xfer *e, const char *name, char *ret_address, size_t cap,
                    struct yk_err *err) {
    const yk_xfer_resolver *r = e->opts.resolver;
    if (e->opts.registry_dir != NULL)
        return dir_find(e, name, ret_address, cap, err);
    if (r == NULL)
        return yk_err_set(err, -YK_ENOENT,
                          "segment '%.127s' is not published here, and there is no resolver", name);
    ret_address[0] = 0;
    int rc = r->resolve(r->user, name, ret_address, cap);
    ret_address[cap - 1] = 0;
    return rc < 0 ? yk_err_set(err, rc, "segment '%.127s': %s", name, yk_status_text(rc)) : 0;
}

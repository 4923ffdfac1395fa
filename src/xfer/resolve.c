/* SPDX-License-Identifier: Apache-2.0
 *
 * Names of segments beyond this engine: by the caller's resolver, or by a directory that all share.
 *
 * In the directory a name is a file, "yk-NAME", whose one line is the address. Its engine holds a lock
 * (flock) on it while it lives: the kernel lets go when the process ends, however it does, so that a
 * file without a lock is a dead engine's and may be replaced. A new file is written and locked beside,
 * then linked or renamed into place: readers see the old one or the new one, whole.
 *
 * A forked child would share the lock and keep the name for as long as it lives: it closes what it inherits.
 * (It must not unlock, which would be for its parent, too. Locks that belong to a process, fcntl's, were
 * rejected: they go when the process closes the file anywhere, as whoever looks the name up does.)
 *
 * Threads: any; `held_lock` guards the list of descriptors, and is held over a fork. So it is not held where the
 * directory's file system may hang: one that was opened while a fork began is closed, and opened again.
 */
#include "xfer/engine_priv.h"
#include "xfer/addresses.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
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

/* ---- descriptors that hold locks ------------------------------------------------------------------- */

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_mutex_t held_lock = PTHREAD_MUTEX_INITIALIZER;
static int *held;
static size_t held_count, held_cap;
static uint64_t forks;

static void before_fork(void) {
    pthread_mutex_lock(&held_lock);
}

static void after_fork(void) {
    forks++;
    pthread_mutex_unlock(&held_lock);
}

static void in_child(void) {
    while (held_count > 0)
        close(held[--held_count]);
    pthread_mutex_unlock(&held_lock);
}

static void watch_forks(void) {
    pthread_atfork(before_fork, after_fork, in_child);
}

/* With held_lock. */
static int held_room(void) {
    size_t cap = held_count < held_cap ? held_cap : held_cap * 2 + 16;
    int *more = cap == held_cap ? held : realloc(held, cap * sizeof(*held));
    if (more == NULL)
        return 0;
    held = more;
    held_cap = cap;
    return 1;
}

/* Opens a file to lock it; -1 and errno, EAGAIN: a child may have it, too, and does not know. A fork finds the
 * descriptor in the list, or is before it. */
static int held_open(const char *path, int flags) {
    pthread_once(&once, watch_forks);
    pthread_mutex_lock(&held_lock);
    uint64_t before = forks;
    pthread_mutex_unlock(&held_lock);
    int fd = open(path, O_RDWR | O_CLOEXEC | flags, 0644), e = errno;
    if (fd < 0)
        return -1;
    pthread_mutex_lock(&held_lock);
    if (forks != before)
        e = EAGAIN;
    else
        e = held_room() ? 0 : ENOMEM;
    if (e == 0)
        held[held_count++] = fd;
    pthread_mutex_unlock(&held_lock);
    if (e == 0)
        return fd;
    close(fd);
    errno = e;
    return -1;
}

/* Unlocked first: a child that is forked before it is closed has it for good. */
static void held_close(int fd) {
    size_t i = 0;
    (void)flock(fd, LOCK_UN);
    pthread_mutex_lock(&held_lock);
    while (i < held_count && held[i] != fd)
        i++;
    if (i < held_count)
        held[i] = held[--held_count];
    pthread_mutex_unlock(&held_lock);
    close(fd);
}

/* ---- the directory ------------------------------------------------------------------------------------ */

/* A file beside, locked, with the address in it; its descriptor. */
static int write_beside(const struct yk_xfer *e, const char *path, char beside[PATH_BYTES],
                        struct yk_err *err) {
    static uint32_t serial; /* atomic */
    char line[YK_ADDRESS_MAX + 2];
    int len = snprintf(line, sizeof(line), "%s\n", own_address(e)), fd = -1;
    for (int i = 0; i < TRIES && fd < 0; i++) {
        snprintf(beside, PATH_BYTES, "%.4000s.%d.%u", path, (int)getpid(),
                 __atomic_add_fetch(&serial, 1, __ATOMIC_RELAXED));
        fd = held_open(beside, O_CREAT | O_EXCL);
        if (fd < 0 && errno != EAGAIN)
            break;
        if (fd < 0)
            unlink(beside);
    }
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0 && write(fd, line, (size_t)len) == len)
        return fd;
    int failed = errno;
    if (fd >= 0) {
        held_close(fd);
        unlink(beside);
    }
    return yk_err_set(err, -YK_EIO, "registry_dir: '%.100s' cannot be written (errno %d)", beside, failed);
}

/* 1: the file at path is a dead engine's, and *ret_fd holds its lock; 0: it is gone, or to be looked at again;
 * -YK_ECONFLICT. */
static int lock_dead(const char *path, int *ret_fd) {
    struct stat now, locked;
    int fd = held_open(path, 0);
    if (fd < 0)
        return errno == ENOENT || errno == EAGAIN ? 0 : -YK_EIO;
    int rc = flock(fd, LOCK_EX | LOCK_NB) < 0 ? -YK_ECONFLICT : 1;
    if (rc == 1 && (stat(path, &now) < 0 || fstat(fd, &locked) < 0 || now.st_ino != locked.st_ino))
        rc = 0; /* another one took its place meanwhile */
    if (rc == 1)
        *ret_fd = fd;
    else
        held_close(fd);
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
            held_close(dead_fd);
        } else if (dead < 0) {
            rc = dead;
        }
    }
    if (rc == 0) {
        *ret_lock_fd = fd;
        return 0;
    }
    held_close(fd);
    unlink(beside);
    return yk_err_set(err, rc, "segment '%.127s' in registry_dir: %s", name,
                      rc == -YK_ECONFLICT ? "another live engine has published it" : yk_status_text(rc));
}

static int dir_find(const struct yk_xfer *e, const char *name, char *ret_address, size_t cap,
                    struct yk_err *err) {
    char path[PATH_BYTES], text[YK_ADDRESS_MAX + 2];
    int rc = path_of(e, name, path, err);
    int fd = rc == 0 ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
    if (fd < 0)
        return rc < 0 ? rc
               : errno == ENOENT
                   ? yk_err_set(err, -YK_ENOENT, "segment '%.127s': nobody has published it", name)
                   : yk_err_set(err, -yk_status_from_errno(errno), "segment '%.127s' in registry_dir: %s", name,
                                strerror(errno));
    ssize_t n = read(fd, text, sizeof(text));
    close(fd);
    if (n < 0 || yk_addresses_of_file(text, (size_t)n, ret_address, cap, NULL) < 0)
        return yk_err_set(err, -YK_EIO, "segment '%.127s': its file in registry_dir is not one line with addresses",
                          name);
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
    held_close(lock_fd);
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

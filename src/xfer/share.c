/* SPDX-License-Identifier: Apache-2.0
 *
 * See share.h. The file: one header page, the hazards, the regions by slot (the lower half of their
 * number). It is sparse: a page is there when a region or a lane is in it.
 *
 * Regions that have a descriptor are mapped by the peer, through /proc as well, compared by device and
 * inode, if it is sealed against shrinking (else its owner could turn a copy into SIGBUS); for others it
 * uses process_vm_readv and process_vm_writev, which Yama may forbid.
 *
 * Threads: as share.h says. `id` of an entry is stored last (release) and looked at first (acquire);
 * hazard and id pair by sequentially consistent fences, as in R2.
 */
#include "xfer/share.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define MAGIC       UINT64_C(0x31657261685358ff)
#define HEADER      4096u
#define MAPS_MAX    64u       /* regions of one owner that a peer keeps mapped */
#define WAIT_NS     50000u    /* between two looks at a hazard */
#define LOCK_AT     (1u << 30) /* of the byte that stands for slot 0: beyond the file's content */

struct header {
    uint64_t magic, incarnation;
};

struct hazard {
    uint64_t taken;  /* atomic: somebody has it, or had and died */
    uint64_t region; /* atomic: what is being copied, 0 = nothing */
    uint64_t unused[6];
};

struct entry {
    uint64_t id; /* atomic */
    uint64_t base, len, fd_offset;
    uint64_t dev, ino;
    int32_t fd;
    uint32_t access;
    uint64_t unused;
};

#define HAZARDS_BYTES (YK_SHARE_HAZARDS * sizeof(struct hazard))
#define FILE_BYTES    (HEADER + HAZARDS_BYTES + YK_REGIONS_MAX * sizeof(struct entry))

static struct hazard *hazards_of(char *base) {
    return (struct hazard *)(void *)(base + HEADER);
}

static struct entry *entry_of(char *base, uint64_t region) {
    uint32_t slot = (uint32_t)region;
    if (slot >= YK_REGIONS_MAX)
        return NULL;
    return (struct entry *)(void *)(base + HEADER + HAZARDS_BYTES) + slot;
}

/* ---- owner --------------------------------------------------------------------------------------- */

struct yk_share {
    char *base;
    int fd;
    int probe_fd; /* another open of the file: locks are seen from it */
    pthread_mutex_t lock; /* of changes to the table */
};

int yk_share_new(uint64_t incarnation, struct yk_share **ret_share, struct yk_err *err) {
    struct yk_share *s = calloc(1, sizeof(*s));
    char path[64];
    if (s == NULL)
        return yk_err_set(err, -YK_ENOMEM, "no memory for the table of regions");
    pthread_mutex_init(&s->lock, NULL);
    s->base = MAP_FAILED;
    s->probe_fd = -1;
    s->fd = memfd_create("yolk-regions", MFD_CLOEXEC);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", s->fd);
    if (s->fd >= 0 && ftruncate(s->fd, (off_t)FILE_BYTES) == 0) {
        s->base = mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, s->fd, 0);
        s->probe_fd = open(path, O_RDWR | O_CLOEXEC);
    }
    if (s->base == MAP_FAILED || s->probe_fd < 0) {
        int e = errno;
        yk_share_free(s);
        return yk_err_set(err, e == EMFILE || e == ENFILE ? -YK_ELIMIT : -YK_ENOMEM,
                          "no shared memory for the table of regions: %s", strerror(e));
    }
    madvise(s->base, FILE_BYTES, MADV_DONTFORK);
    *(struct header *)(void *)s->base = (struct header){MAGIC, incarnation};
    *ret_share = s;
    return 0;
}

void yk_share_free(struct yk_share *s) {
    if (s == NULL)
        return;
    if (s->base != MAP_FAILED)
        munmap(s->base, FILE_BYTES);
    if (s->probe_fd >= 0)
        close(s->probe_fd);
    if (s->fd >= 0)
        close(s->fd);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

int yk_share_fd(const struct yk_share *s) {
    return s->fd;
}

void yk_share_add(struct yk_share *s, const struct yk_region *r) {
    struct entry *e = entry_of(s->base, r->id);
    struct stat st = {0};
    if (e == NULL || r->base == NULL || r->file || yk_region_is_device(r) || r->access == 0 || (r->access & YK_XFER_REMOTE_GUARDED))
        return;
    pthread_mutex_lock(&s->lock);
    int fd = r->fd >= 0 && fstat(r->fd, &st) == 0 ? r->fd : -1;
    e->base = (uint64_t)(uintptr_t)r->base;
    e->len = r->len;
    e->fd = fd;
    e->fd_offset = r->fd_offset;
    e->dev = st.st_dev;
    e->ino = st.st_ino;
    e->access = r->access;
    __atomic_store_n(&e->id, r->id, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&s->lock);
}

/* Whether anybody holds the lock of a slot. */
static int is_alive(const struct yk_share *s, uint32_t slot) {
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)LOCK_AT + slot, .l_len = 1};
    return fcntl(s->probe_fd, F_OFD_GETLK, &l) < 0 || l.l_type != F_UNLCK;
}

static int in_use(const struct yk_share *s, uint64_t region) {
    struct hazard *h = hazards_of(s->base);
    for (uint32_t i = 0; i < YK_SHARE_HAZARDS; i++)
        if (__atomic_load_n(&h[i].region, __ATOMIC_SEQ_CST) == region && is_alive(s, i))
            return 1;
    return 0;
}

int yk_share_forget(struct yk_share *s, const struct yk_region *r, uint64_t deadline_ns) {
    struct entry *e = entry_of(s->base, r->id);
    uint64_t id = r->id;
    if (e == NULL)
        return 0;
    pthread_mutex_lock(&s->lock);
    if (e->id == id)
        __atomic_store_n(&e->id, 0, __ATOMIC_SEQ_CST);
    pthread_mutex_unlock(&s->lock);
    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* pairs with hold(): it sees 0, or we its hazard */
    while (in_use(s, id)) {
        if (yk_now_ns() >= deadline_ns)
            return -YK_ETIMEDOUT;
        struct timespec wait = {0, WAIT_NS};
        nanosleep(&wait, NULL);
    }
    return 0;
}

/* ---- peer ---------------------------------------------------------------------------------------- */

struct map {
    uint64_t id; /* 0 = none */
    char *base;  /* NULL: it cannot be mapped */
    uint64_t len;
    char *from;  /* of the mapping: fd_offset need not be a page's begin */
    uint64_t from_len;
};

struct yk_share_peer {
    char *base;
    int fd;
    int pidfd; /* of the owner; -1: the kernel has none, or a container forbids it */
    int proc;  /* then: its directory in /proc, which goes with it and never is another's */
    uint32_t pid;
    uint32_t slot;
    struct map maps[MAPS_MAX];
    uint32_t next_map;
};

static void map_drop(struct map *m) {
    if (m->base != NULL)
        munmap(m->from, m->from_len);
    *m = (struct map){0};
}

/* A slot whose lock is ours: free ones, and those of the dead. */
static int slot_take(struct yk_share_peer *p) {
    struct hazard *h = hazards_of(p->base);
    for (uint32_t i = 0; i < YK_SHARE_HAZARDS; i++) {
        struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)LOCK_AT + i, .l_len = 1};
        if (fcntl(p->fd, F_OFD_SETLK, &l) < 0)
            continue;
        __atomic_store_n(&h[i].taken, 1, __ATOMIC_RELAXED); /* for who looks at the file */
        __atomic_store_n(&h[i].region, 0, __ATOMIC_RELEASE);
        p->slot = i;
        return 0;
    }
    return -YK_ELIMIT;
}

/* Of a regular file only: opening a device or a pipe may do something, or wait. */
static int open_fd(uint32_t pid, int fd, int flags) {
    char path[64];
    struct stat st;
    snprintf(path, sizeof(path), "/proc/%u/fd/%d", pid, fd);
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode)) {
        errno = ENOENT;
        return -1;
    }
    return open(path, flags | O_CLOEXEC);
}

static int open_proc(uint32_t pid) {
    char path[32];
    snprintf(path, sizeof(path), "/proc/%u", pid);
    return open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

int yk_share_open(uint32_t pid, int fd, uint64_t incarnation, struct yk_share_peer **ret_peer,
                  struct yk_err *err) {
    struct yk_share_peer *p = calloc(1, sizeof(*p));
    struct stat st;
    if (p == NULL)
        return yk_err_set(err, -YK_ENOMEM, "no memory for a peer");
    int rc = 0;
    p->pid = pid;
    p->base = MAP_FAILED;
    p->pidfd = (int)syscall(SYS_pidfd_open, pid, 0); /* before it is looked at: it stays that process */
    p->proc = p->pidfd < 0 ? open_proc(pid) : -1;
    p->fd = open_fd(pid, fd, O_RDWR);
    if (p->fd < 0)
        rc = yk_err_set(err, errno == EACCES || errno == EPERM ? -YK_EPERM : -YK_EGONE,
                        "descriptor %d of process %u cannot be opened: %s", fd, pid, strerror(errno));
    else if (fstat(p->fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size != (off_t)FILE_BYTES)
        rc = yk_err_set(err, -YK_EGONE, "process %u is another one than before", pid);
    else
        p->base = mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, p->fd, 0);
    if (rc == 0 && p->base == MAP_FAILED)
        rc = yk_err_set(err, -YK_ENOMEM, "no address space for a peer's table");
    if (rc == 0) {
        const struct header *h = (const struct header *)(const void *)p->base;
        if (h->magic != MAGIC || h->incarnation != incarnation)
            rc = yk_err_set(err, -YK_EGONE, "process %u is another one than before", pid);
        else if (yk_share_gone(p))
            rc = yk_err_set(err, -YK_EGONE, "process %u has ended", pid);
        else if (slot_take(p) < 0)
            rc = yk_err_set(err, -YK_ELIMIT, "process %u has %u lanes of peers already", pid,
                            YK_SHARE_HAZARDS);
    }
    if (rc < 0) {
        yk_share_close(p);
        return rc;
    }
    madvise(p->base, FILE_BYTES, MADV_DONTFORK);
    *ret_peer = p;
    return 0;
}

void yk_share_close(struct yk_share_peer *p) {
    if (p == NULL)
        return;
    for (uint32_t i = 0; i < MAPS_MAX; i++)
        map_drop(&p->maps[i]);
    if (p->base != MAP_FAILED)
        munmap(p->base, FILE_BYTES);
    if (p->fd >= 0)
        close(p->fd); /* the slot's lock goes with it */
    if (p->pidfd >= 0)
        close(p->pidfd);
    if (p->proc >= 0)
        close(p->proc);
    free(p);
}

int yk_share_gone(const struct yk_share_peer *p) {
    struct pollfd f = {.fd = p->pidfd, .events = POLLIN};
    if (p->pidfd < 0)
        return p->proc < 0 || faccessat(p->proc, "stat", F_OK, 0) < 0;
    return poll(&f, 1, 0) > 0;
}

/* Maps what an entry says its memory is; base stays NULL where that cannot be done. */
static void map_make(struct yk_share_peer *p, struct map *m, const struct entry *e, uint64_t id) {
    struct stat st;
    map_drop(m);
    *m = (struct map){.id = id, .len = e->len};
    int writable = (e->access & YK_XFER_REMOTE_WRITE) != 0;
    int fd = e->fd >= 0 ? open_fd(p->pid, e->fd, writable ? O_RDWR : O_RDONLY) : -1;
    if (fd < 0)
        return;
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), lead = e->fd_offset % page;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals >= 0 && (seals & F_SEAL_SHRINK) && fstat(fd, &st) == 0 && (uint64_t)st.st_dev == e->dev && (uint64_t)st.st_ino == e->ino &&
        e->fd_offset <= (uint64_t)st.st_size && e->len <= (uint64_t)st.st_size - e->fd_offset) {
        char *from = mmap(NULL, e->len + lead, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED,
                          fd, (off_t)(e->fd_offset - lead));
        if (from != MAP_FAILED) {
            m->from = from;
            m->from_len = e->len + lead;
            m->base = from + lead;
            madvise(from, m->from_len, MADV_DONTFORK);
        }
    }
    close(fd);
}

static struct map *map_of(struct yk_share_peer *p, const struct entry *e, uint64_t id) {
    for (uint32_t i = 0; i < MAPS_MAX; i++)
        if (p->maps[i].id == id)
            return &p->maps[i];
    for (uint32_t i = 0; i < MAPS_MAX; i++) { /* what its owner has unregistered is not kept from it */
        struct entry *old = p->maps[i].id != 0 ? entry_of(p->base, p->maps[i].id) : NULL;
        if (old != NULL && __atomic_load_n(&old->id, __ATOMIC_RELAXED) != p->maps[i].id)
            map_drop(&p->maps[i]);
    }
    struct map *m = &p->maps[p->next_map++ % MAPS_MAX];
    map_make(p, m, e, id);
    return m;
}

static int copy_vm(const struct yk_share_peer *p, char *remote, char *local, uint64_t len, int write) {
    while (len > 0) {
        struct iovec here = {local, len}, there = {remote, len};
        ssize_t n = write ? process_vm_writev((pid_t)p->pid, &here, 1, &there, 1, 0)
                          : process_vm_readv((pid_t)p->pid, &here, 1, &there, 1, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n == 0                              ? -YK_EIO
                   : errno == EFAULT                   ? -YK_EFAULT /* either side's: not there, or not to be pinned */
                   : errno == EPERM || errno == ENOSYS ? -YK_ENOTSUP
                   : errno == ESRCH                    ? -YK_EGONE
                                                       : -YK_EIO;
        remote += n;
        local += n;
        len -= (uint64_t)n;
    }
    return 0;
}

static int check(const struct entry *e, uint64_t offset, uint64_t len, int write) {
    if (!(e->access & (write ? YK_XFER_REMOTE_WRITE : YK_XFER_REMOTE_READ)))
        return -YK_EPERM;
    return len > e->len || offset > e->len - len ? -YK_EINVAL : 0;
}

int yk_share_copy(struct yk_share_peer *p, uint64_t region, uint64_t offset, void *local, uint64_t len,
                  int write, enum yk_share_how *ret_how) {
    struct entry *e = entry_of(p->base, region);
    struct hazard *h = hazards_of(p->base) + p->slot;
    enum yk_share_how how = YK_SHARE_NONE;
    if (e == NULL || region == 0 || yk_share_gone(p))
        return -YK_EGONE;
    __atomic_store_n(&h->region, region, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* pairs with forget */
    int rc = __atomic_load_n(&e->id, __ATOMIC_ACQUIRE) == region ? check(e, offset, len, write) : -YK_EGONE;
    if (rc == 0) {
        struct map *m = map_of(p, e, region);
        how = m->base != NULL ? YK_SHARE_MAP : YK_SHARE_VM;
        if (how == YK_SHARE_VM)
            rc = copy_vm(p, (char *)(uintptr_t)(e->base + offset), local, len, write);
        else if (write)
            memcpy(m->base + offset, local, len);
        else
            memcpy(local, m->base + offset, len);
    }
    __atomic_store_n(&h->region, 0, __ATOMIC_RELEASE);
    if (rc == 0 && yk_share_gone(p))
        rc = -YK_EGONE; /* perhaps before the copy */
    if (ret_how != NULL)
        *ret_how = how;
    return rc;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Files of a segment (src/shm/segment.h).
 */
#include "shm/segment.h"

#include "base/fmt.h"
#include "shm/guard.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#define DEFAULT_DIR            "/dev/shm"
#define HUGETLBFS_MAGIC_NUMBER 0x958458f6

static const char *const suffixes[3] = {"meta", "data", "clients"};

static uint64_t read_number(const char *path) {
    FILE *f = fopen(path, "re");
    unsigned long long n = 0;
    if (f == NULL)
        return 0;
    if (fscanf(f, "%llu", &n) != 1)
        n = 0;
    fclose(f);
    return n;
}

static uint64_t mem_available(void) {
    char line[128];
    unsigned long long kib = 0;
    FILE *f = fopen("/proc/meminfo", "re");
    if (f == NULL)
        return 0;
    while (fgets(line, sizeof(line), f) != NULL)
        if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1)
            break;
    fclose(f);
    return kib * 1024u;
}

/* dir NULL: memory without a file system. */
static uint64_t room_in(const char *dir) {
    uint64_t room = mem_available();
    uint64_t limit = read_number("/sys/fs/cgroup/memory.max");
    uint64_t used = read_number("/sys/fs/cgroup/memory.current");
    if (limit > used && limit - used < room)
        room = limit - used;
    struct statvfs fs;
    if (dir != NULL && statvfs(dir, &fs) == 0) {
        uint64_t avail = (uint64_t)fs.f_bavail * fs.f_frsize;
        if (avail < room)
            room = avail;
    }
    return room;
}

uint64_t yk_segment_room(const char *dir) {
    return room_in(dir != NULL ? dir : DEFAULT_DIR);
}

static int segment_paths(struct yk_segment *seg, const struct yk_segment_opts *opts,
                         struct yk_err *err) {
    const char *dir = opts->dir != NULL ? opts->dir : DEFAULT_DIR;
    if (opts->name[0] == 0 || strchr(opts->name, '/') != NULL)
        return yk_err_set(err, -YK_EINVAL, "'%.64s' cannot be part of a file's name", opts->name);
    for (int i = 0; i < 3; i++) {
        int n = snprintf(seg->paths[i], sizeof(seg->paths[i]), "%s/yolk-%s.%s",
                         i == 1 && opts->huge_dir != NULL ? opts->huge_dir : dir, opts->name,
                         suffixes[i]);
        if (n >= (int)sizeof(seg->paths[i]))
            return yk_err_set(err, -YK_EINVAL,
                              "the path of the segment's files, '%.64s...', has %d "
                              "bytes, at most %zu are possible",
                              seg->paths[i], n, sizeof(seg->paths[i]) - 1);
    }
    return 0;
}

/* The meta file last: who holds its lock has all three names to itself until then. */
void yk_segment_unlink(const struct yk_segment *seg) {
    for (int i = 2; i >= 0; i--)
        if (seg->paths[i][0] != 0)
            unlink(seg->paths[i]);
}

/* Who holds the lock, for the message: the daemon writes its pid nowhere else. */
static int lock_holder(int fd) {
    struct stat st;
    char line[256];
    int pid = -1;
    if (fstat(fd, &st) < 0)
        return -1;
    FILE *f = fopen("/proc/locks", "re");
    if (f == NULL)
        return -1;
    while (fgets(line, sizeof(line), f) != NULL) {
        int p;
        unsigned dev_major, dev_minor;
        unsigned long ino;
        if (sscanf(line, "%*d: FLOCK %*s %*s %d %x:%x:%lu", &p, &dev_major, &dev_minor, &ino) ==
                4 &&
            ino == st.st_ino && dev_major == major(st.st_dev) && dev_minor == minor(st.st_dev))
            pid = p;
    }
    fclose(f);
    return pid;
}

static int open_one(struct yk_segment *seg, const struct yk_segment_opts *opts, int i,
                    struct yk_err *err) {
    if (opts->name == NULL) {
        char name[32];
        snprintf(name, sizeof(name), "yolk.%s", suffixes[i]);
        int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
        return fd >= 0 ? fd : yk_err_set(err, -YK_EIO, "memfd_create: %s", strerror(errno));
    }
    int fd = open(seg->paths[i], O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return yk_err_set(err, -yk_status_from_errno(errno), "cannot open '%s': %s", seg->paths[i],
                          strerror(errno));
    struct stat st;
    if (fstat(fd, &st) == 0 && st.st_uid == geteuid())
        return fd;
    close(fd);
    return yk_err_set(err, -YK_EPERM,
                      "'%s' belongs to user %u, this is user %u: remove it or give this node "
                      "another --name",
                      seg->paths[i], (unsigned)st.st_uid, (unsigned)geteuid());
}

/* Is the open file the one that has the name? It is not when its holder has just replaced it. */
static int has_name(int fd, const char *path) {
    struct stat open_one, named;
    return fstat(fd, &open_one) == 0 && stat(path, &named) == 0 &&
           open_one.st_dev == named.st_dev && open_one.st_ino == named.st_ino;
}

#define LOCK_TRIES 16 /* each is somebody else's replacement of the files */

/* Opens and locks the meta file; its lock is the segment's. */
static int open_meta(struct yk_segment *seg, const struct yk_segment_opts *opts,
                     struct yk_err *err) {
    for (int i = 0; i < LOCK_TRIES; i++) {
        int fd = open_one(seg, opts, 0, err);
        if (fd < 0 || opts->name == NULL)
            return fd;
        if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
            int holder = lock_holder(fd);
            close(fd);
            return yk_err_set(err, -YK_EBUSY,
                              "segment '%s' is in use by process %d: stop that node or give this "
                              "one another --name",
                              opts->name, holder);
        }
        if (has_name(fd, seg->paths[0]))
            return fd;
        close(fd);
    }
    return yk_err_set(err, -YK_EBUSY, "segment '%s' is being replaced again and again", opts->name);
}

static int open_files(struct yk_segment *seg, const struct yk_segment_opts *opts,
                      struct yk_err *err) {
    int fd = open_meta(seg, opts, err);
    if (fd >= 0) {
        seg->fd_meta = fd;
        fd = open_one(seg, opts, 1, err);
    }
    if (fd >= 0) {
        seg->fd_data = fd;
        fd = open_one(seg, opts, 2, err);
    }
    if (fd < 0)
        return fd;
    seg->fd_clients = fd;
    return 0;
}

/* Of this process; 0 where there is no /proc. */
static uint64_t namespace_of(const char *path) {
    struct stat st;
    return stat(path, &st) < 0 ? 0 : (uint64_t)st.st_ino;
}

static void namespaces_here(uint64_t *ret_pid_ns, uint64_t *ret_time_ns) {
    *ret_pid_ns = namespace_of("/proc/self/ns/pid");
    *ret_time_ns = namespace_of("/proc/self/ns/time");
}

/* Has it clients that this process cannot tell dead from living, as they were known by other numbers or other
 * times? One that lives writes into its places and reads what it holds, whoever has the segment next. */
static int has_strangers(const struct yk_segment *seg, const struct yk_shm_hdr *h) {
    struct yk_client_owner o;
    uint64_t pid_ns, time_ns;
    namespaces_here(&pid_ns, &time_ns);
    if (h->pid_ns == 0 || (h->pid_ns == pid_ns && h->time_ns == time_ns))
        return 0;
    for (uint32_t slot = 1; slot < h->layout.max_clients; slot++) {
        off_t at = (off_t)(h->layout.off_owners + slot * sizeof(o));
        if (pread(seg->fd_meta, &o, sizeof(o), at) != (ssize_t)sizeof(o) || o.cookie != 0)
            return 1;
    }
    return 0;
}

/* Why the files at hand cannot be taken over as they are; NULL when they can. */
static const char *unusable(const struct yk_segment *seg, const struct yk_shm_layout *want,
                            char *buf, size_t cap) {
    struct yk_shm_hdr h;
    struct stat st[3];
    const int fds[3] = {seg->fd_meta, seg->fd_data, seg->fd_clients};
    for (int i = 0; i < 3; i++)
        if (fstat(fds[i], &st[i]) < 0)
            return "it cannot be read";
    if (st[0].st_size == 0)
        return ""; /* nothing there yet */
    if (pread(seg->fd_meta, &h, sizeof(h), 0) != (ssize_t)sizeof(h) || h.magic != YK_SHM_MAGIC)
        return "its header is damaged";
    if (h.version != YK_SHM_VERSION || h.hdr_bytes != sizeof(h)) {
        snprintf(buf, cap, "it is of format version %u, this program's is %u", h.version,
                 YK_SHM_VERSION);
        return buf;
    }
    if (h.layout_sum != yk_shm_layout_sum(&h.layout))
        return "its header is damaged";
    if (memcmp(&h.layout, want, sizeof(*want)) != 0) {
        snprintf(buf, cap, "it was made for %llu bytes and %u blocks, not %llu and %u",
                 (unsigned long long)h.layout.data_bytes, h.layout.max_blocks,
                 (unsigned long long)want->data_bytes, want->max_blocks);
        return buf;
    }
    if (h.slow_bytes != seg->slow_bytes) {
        snprintf(buf, cap, "it was made for %llu bytes of slow memory, not %llu",
                 (unsigned long long)h.slow_bytes, (unsigned long long)seg->slow_bytes);
        return buf;
    }
    if ((uint64_t)st[0].st_size != want->meta_bytes ||
        (uint64_t)st[1].st_size != want->data_bytes ||
        (uint64_t)st[2].st_size != want->clients_bytes)
        return "one of its files was truncated";
    if (has_strangers(seg, &h))
        return "clients from before may still use it, and cannot be seen from this pid or time namespace";
    return NULL;
}

static uint64_t memory_of(int fd) {
    struct stat st;
    return fstat(fd, &st) == 0 ? (uint64_t)st.st_blocks * 512u : 0;
}

/* Before anything is removed: a wrong figure in a config file must not cost the old blocks. */
static int check_room(const struct yk_segment *seg, const struct yk_segment_opts *opts,
                      struct yk_err *err) {
    const char *dir = opts->dir != NULL ? opts->dir : DEFAULT_DIR;
    char asked[YK_FMT_MAX], more[YK_FMT_MAX], left[YK_FMT_MAX];
    uint64_t room = room_in(opts->name != NULL ? dir : NULL);
    if (room == 0)
        return 0;
    room += memory_of(seg->fd_meta) + memory_of(seg->fd_clients);
    uint64_t beside = seg->layout.meta_bytes + seg->layout.clients_bytes, payload = 0;
    if (opts->name == NULL || opts->huge_dir == NULL) {
        /* Huge pages are counted apart: the mapping succeeds or fails. */
        payload = seg->layout.data_bytes;
        room += memory_of(seg->fd_data);
    }
    if (payload + beside <= room)
        return 0;
    return yk_err_set(
        err, -YK_ENOSPC,
        "%s of %s were asked for, %s for its table and %u clients beside them, this machine has %s "
        "left: lower --dram%s or --max-clients",
        yk_fmt_bytes(seg->layout.data_bytes, asked), seg->slow_bytes != 0 ? "DRAM and slow memory" : "DRAM",
        yk_fmt_bytes(beside, more), seg->layout.max_clients - 1u, yk_fmt_bytes(room, left),
        seg->slow_bytes != 0 ? ", --cxl" : "");
}

static int set_sizes(struct yk_segment *seg, const struct yk_segment_opts *opts,
                     struct yk_err *err) {
    const uint64_t sizes[3] = {seg->layout.meta_bytes, seg->layout.data_bytes,
                               seg->layout.clients_bytes};
    const int fds[3] = {seg->fd_meta, seg->fd_data, seg->fd_clients};
    for (int i = 0; i < 3; i++) {
        if (ftruncate(fds[i], 0) < 0 || ftruncate(fds[i], (off_t)sizes[i]) < 0)
            return yk_err_set(err, -yk_status_from_errno(errno), "cannot size '%s' to %llu: %s",
                              seg->paths[i], (unsigned long long)sizes[i], strerror(errno));
        if (opts->name == NULL)
            fcntl(fds[i], F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
    }
    return 0;
}

static int map_one(int fd, uint64_t bytes, void **ret, int *lost, struct yk_err *err) {
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        return yk_err_set(err, -YK_ENOMEM, "cannot map %llu bytes: %s", (unsigned long long)bytes,
                          strerror(errno));
    *ret = p;
    madvise(p, bytes, MADV_DONTFORK);
    int rc = yk_guard_add(p, bytes, PROT_READ | PROT_WRITE, lost);
    return rc == 0 ? 0 : yk_err_set(err, rc, "too many segments in one process");
}

/* Of shared memory it holds for the file, whoever has its pages first. Preferred, not bound: where the node has
 * no page left, MPOL_BIND calls the kernel's OOM killer, and the bytes are as good elsewhere. */
static void bind_numa(const struct yk_segment *seg, uint64_t offset, uint64_t bytes, int node) {
    if (node < 0 || node > 1023 || bytes == 0)
        return;
    unsigned long mask[16] = {0};
    mask[node / 64] |= 1ul << (node % 64);
    syscall(SYS_mbind, (char *)seg->data + offset, bytes, MPOL_PREFERRED, mask, 1024ul, 0);
}

static int map_all(struct yk_segment *seg, const struct yk_segment_opts *opts, struct yk_err *err) {
    int rc = yk_guard_install();
    if (rc < 0)
        return yk_err_set(err, rc, "cannot handle SIGBUS: %s", strerror(errno));
    rc = map_one(seg->fd_meta, seg->layout.meta_bytes, &seg->meta, &seg->lost, err);
    if (rc == 0)
        rc = map_one(seg->fd_data, seg->layout.data_bytes, &seg->data, &seg->lost, err);
    if (rc == 0)
        rc = map_one(seg->fd_clients, seg->layout.clients_bytes, &seg->clients, &seg->lost, err);
    if (rc < 0)
        return rc;
    struct statfs fs;
    seg->page_bytes = fstatfs(seg->fd_data, &fs) == 0 && fs.f_type == HUGETLBFS_MAGIC_NUMBER
                          ? (uint64_t)fs.f_bsize
                          : (uint64_t)sysconf(_SC_PAGESIZE);
    /* Takes effect where the kernel allows transparent huge pages for shared memory. */
    madvise(seg->meta, seg->layout.meta_bytes, MADV_HUGEPAGE); /* a third off a match of 256 keys */
    if (opts->name == NULL || opts->huge_dir == NULL)
        madvise(seg->data, seg->layout.data_bytes, MADV_HUGEPAGE);
    uint64_t near = seg->layout.data_bytes - seg->slow_bytes;
    bind_numa(seg, 0, near, opts->numa_node);
    bind_numa(seg, near, seg->slow_bytes, opts->slow_node);
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", seg->fd_meta);
    seg->fd_meta_ro = open(path, O_RDONLY | O_CLOEXEC);
    if (seg->fd_meta_ro < 0)
        return yk_err_set(err, -YK_EIO, "cannot open the index for readers: %s", strerror(errno));
    return 0;
}

static void header_fresh(struct yk_segment *seg) {
    struct yk_shm_hdr *h = seg->meta;
    h->version = YK_SHM_VERSION;
    h->hdr_bytes = sizeof(*h);
    h->layout = seg->layout;
    h->layout_sum = yk_shm_layout_sum(&seg->layout);
    h->slow_bytes = seg->slow_bytes;
    if (getrandom(&h->segment_id, sizeof(h->segment_id), 0) != (ssize_t)sizeof(h->segment_id))
        h->segment_id = (uint64_t)getpid() << 32 ^ (uintptr_t)seg;
    __atomic_store_n(&h->magic, YK_SHM_MAGIC, __ATOMIC_RELEASE);
}

static void close_one(int *fd) {
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* Old files may still be mapped by clients: new ones take their names. */
static int replace_files(struct yk_segment *seg, const struct yk_segment_opts *opts,
                         struct yk_err *err) {
    yk_segment_unlink(seg);
    close_one(&seg->fd_data);
    close_one(&seg->fd_clients);
    close_one(&seg->fd_meta);
    return open_files(seg, opts, err);
}

/* When a file was last written to; a client's first write to a page of its mapping counts, too. */
static uint64_t mtime_ns(int fd) {
    struct stat st;
    return fstat(fd, &st) < 0
               ? 0
               : (uint64_t)st.st_mtim.tv_sec * 1000000000u + (uint64_t)st.st_mtim.tv_nsec;
}

int yk_segment_open(struct yk_segment *seg, const struct yk_segment_opts *opts,
                    struct yk_err *err) {
    memset(seg, 0, sizeof(*seg));
    seg->fd_meta = seg->fd_meta_ro = seg->fd_data = seg->fd_clients = -1;
    uint64_t bytes = opts->data_bytes + opts->slow_bytes;
    int rc = bytes < opts->data_bytes || opts->slow_bytes % YK_SHM_PAGE != 0 ||
                     (opts->slow_bytes != 0 && opts->data_bytes % YK_SHM_PAGE != 0)
                 ? -YK_EINVAL
                 : yk_shm_layout_make(bytes, opts->max_blocks, opts->max_clients, opts->extents_bytes,
                                      &seg->layout);
    if (rc < 0)
        return yk_err_set(err, rc, "a tier of %llu bytes and %u blocks cannot be laid out",
                          (unsigned long long)bytes, opts->max_blocks);
    seg->slow_bytes = opts->slow_bytes;
    if (opts->name != NULL && (rc = segment_paths(seg, opts, err)) < 0)
        return rc;
    rc = open_files(seg, opts, err);
    if (rc < 0)
        goto err_close;
    const char *why = unusable(seg, &seg->layout, seg->why_fresh, sizeof(seg->why_fresh));
    int fresh = why != NULL && why[0] == 0; /* these files are this call's own */
    if (why != NULL) {
        rc = check_room(seg, opts, err);
        if (rc == 0 && !fresh) {
            if (why != seg->why_fresh)
                snprintf(seg->why_fresh, sizeof(seg->why_fresh), "%s", why);
            rc = replace_files(seg, opts, err);
            fresh = rc == 0;
        }
        if (rc == 0)
            rc = set_sizes(seg, opts, err);
        if (rc < 0)
            goto err_unlink;
    }
    rc = map_all(seg, opts, err);
    if (rc < 0)
        goto err_unlink;
    struct yk_shm_hdr *h = seg->meta;
    if (fresh)
        header_fresh(seg);
    else
        seg->found = h->clean && h->data_mtime_ns == mtime_ns(seg->fd_data) ? YK_SEGMENT_CLEAN
                                                                            : YK_SEGMENT_UNCLEAN;
    h->clean = 0;
    namespaces_here(&h->pid_ns, &h->time_ns);
    __atomic_store_n(&h->lost, 0, __ATOMIC_RELEASE); /* clients of the last life may be looking */
    return 0;
err_unlink:
    if (fresh)
        yk_segment_unlink(seg);
err_close:
    yk_segment_close(seg, 0);
    return rc;
}

static void unmap_one(void **p, uint64_t bytes) {
    if (*p == NULL)
        return;
    yk_guard_remove(*p);
    munmap(*p, bytes);
    *p = NULL;
}

void yk_segment_close(struct yk_segment *seg, int clean) {
    if (seg == NULL)
        return;
    struct yk_shm_hdr *h = seg->meta;
    if (h != NULL && clean) {
        h->data_mtime_ns = mtime_ns(seg->fd_data);
        __atomic_store_n(&h->clean, 1, __ATOMIC_RELEASE);
    }
    unmap_one(&seg->meta, seg->layout.meta_bytes);
    unmap_one(&seg->data, seg->layout.data_bytes);
    unmap_one(&seg->clients, seg->layout.clients_bytes);
    close_one(&seg->fd_meta_ro);
    close_one(&seg->fd_data);
    close_one(&seg->fd_clients);
    close_one(&seg->fd_meta); /* last: it holds the lock */
}

int yk_segment_check(struct yk_segment *seg) {
    const uint64_t want[3] = {seg->layout.meta_bytes, seg->layout.data_bytes,
                              seg->layout.clients_bytes};
    const int fds[3] = {seg->fd_meta, seg->fd_data, seg->fd_clients};
    struct stat st;
    for (int i = 0; i < 3; i++)
        if (fstat(fds[i], &st) == 0 && (uint64_t)st.st_size < want[i])
            __atomic_store_n(&seg->lost, 1, __ATOMIC_RELEASE);
    if (!__atomic_load_n(&seg->lost, __ATOMIC_ACQUIRE))
        return 0;
    /* If it is the header that is gone, the guard gives a private page for it: harmless. */
    __atomic_store_n(&((struct yk_shm_hdr *)seg->meta)->lost, 1, __ATOMIC_RELEASE);
    return 1;
}

int yk_segment_index_zero(struct yk_segment *seg, unsigned area) {
    uint64_t off = seg->layout.off_index[area & 1u];
    /* Whole pages of zeros at once; off is page aligned and the region ends in an unused page. */
    uint64_t len = (seg->layout.index_bytes + YK_SHM_PAGE - 1) & ~(uint64_t)(YK_SHM_PAGE - 1);
    if (fallocate(seg->fd_meta, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off,
                  (off_t)len) == 0)
        return 0;
    memset((char *)seg->meta + off, 0, seg->layout.index_bytes);
    return 0;
}

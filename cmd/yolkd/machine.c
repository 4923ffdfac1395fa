/* SPDX-License-Identifier: Apache-2.0
 *
 * Looking at the machine (machine.h).
 */
#include "machine.h"

#include <linux/magic.h>
#include <mntent.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define MEMINFO   "/proc/meminfo"
#define CGROUP_FS "/sys/fs/cgroup"
#define NUMA_SYS  "/sys/devices/system/node/"
#define HUGE_SYS  "/sys/kernel/mm/hugepages/hugepages-2048kB/"

/* A file that holds one number; "max" and files that are not there are `otherwise`. */
static uint64_t read_number(const char *path, uint64_t otherwise) {
    unsigned long long n;
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return otherwise;
    if (fscanf(f, "%llu", &n) != 1)
        n = otherwise;
    fclose(f);
    return n;
}

static uint64_t mem_total(void) {
    char line[128];
    unsigned long long kib = 0;
    FILE *f = fopen(MEMINFO, "re");
    if (f == NULL)
        return 0;
    while (fgets(line, sizeof(line), f) != NULL)
        if (sscanf(line, "MemTotal: %llu kB", &kib) == 1)
            break;
    fclose(f);
    return kib << 10;
}

/* The least memory.max from this process's cgroup (version 2) up to the root. */
static uint64_t cgroup_limit(void) {
    char line[512], path[640];
    uint64_t least = UINT64_MAX;
    FILE *f = fopen("/proc/self/cgroup", "re");
    if (f == NULL)
        return least;
    bool found = false;
    while (!found && fgets(line, sizeof(line), f) != NULL)
        found = strncmp(line, "0::/", 4) == 0;
    fclose(f);
    if (!found)
        return least;
    char *group = line + 3;
    group[strcspn(group, "\n")] = '\0';
    for (;;) {
        snprintf(path, sizeof(path), CGROUP_FS "%s/memory.max", group[1] != '\0' ? group : "");
        uint64_t limit = read_number(path, UINT64_MAX);
        least = limit < least ? limit : least;
        char *slash = strrchr(group, '/');
        if (slash == group && group[1] == '\0')
            return least;
        slash[slash == group ? 1 : 0] = '\0';
    }
}

uint64_t yolkd_memory_bytes(void) {
    uint64_t bytes = mem_total(), limit = cgroup_limit();
    uint64_t v1 = read_number(CGROUP_FS "/memory/memory.limit_in_bytes", UINT64_MAX);
    limit = v1 < limit ? v1 : limit;
    return limit < bytes ? limit : bytes;
}

static void huge_mount_look(const struct mntent *mount, uint64_t pages_free,
                            struct yolkd_huge_mount *best) {
    struct statfs fs;
    if (strcmp(mount->mnt_type, "hugetlbfs") != 0 || strlen(mount->mnt_dir) >= sizeof(best->dir))
        return;
    if (statfs(mount->mnt_dir, &fs) < 0 || (uint64_t)fs.f_bsize != YOLKD_HUGE_PAGE)
        return;
    if (access(mount->mnt_dir, W_OK | X_OK) < 0)
        return;
    uint64_t pages = pages_free;
    if (fs.f_blocks != 0 && (uint64_t)fs.f_bavail < pages) /* 0: the mount has no limit */
        pages = (uint64_t)fs.f_bavail;
    if (best->dir[0] != '\0' && pages * YOLKD_HUGE_PAGE <= best->free_bytes)
        return;
    snprintf(best->dir, sizeof(best->dir), "%s", mount->mnt_dir);
    best->free_bytes = pages * YOLKD_HUGE_PAGE;
}

bool yolkd_huge_mount_find(struct yolkd_huge_mount *ret_mount) {
    struct yolkd_huge_mount best = {.dir = ""};
    struct mntent entry;
    char strings[2048];
    uint64_t pages_free = read_number(HUGE_SYS "free_hugepages", 0);
    uint64_t reserved = read_number(HUGE_SYS "resv_hugepages", 0);
    FILE *mounts = setmntent("/proc/self/mounts", "re");
    if (mounts == NULL)
        return false;
    pages_free -= reserved < pages_free ? reserved : pages_free;
    while (getmntent_r(mounts, &entry, strings, sizeof(strings)) != NULL)
        huge_mount_look(&entry, pages_free, &best);
    endmntent(mounts);
    if (best.dir[0] == '\0')
        return false;
    *ret_mount = best;
    return true;
}

/* The name is that of src/shm/segment.c. */
bool yolkd_segment_file(const char *dir, const char *name, uint64_t *ret_bytes,
                        uint64_t *ret_allocated) {
    static const char *const suffixes[] = {"data", "meta", "clients"};
    uint64_t allocated = 0;
    for (int i = 0; i < 3; i++) {
        char path[512];
        struct stat st;
        snprintf(path, sizeof(path), "%s/yolk-%s.%s", dir, name, suffixes[i]);
        if (stat(path, &st) < 0) {
            if (i == 0)
                return false;
            continue;
        }
        if (i == 0)
            *ret_bytes = (uint64_t)st.st_size;
        allocated += (uint64_t)st.st_blocks * 512u;
    }
    *ret_allocated = allocated;
    return true;
}

bool yolkd_address_is_local(const struct sockaddr *address) {
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)address;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)address;
    return address->sa_family == AF_UNIX ||
           (address->sa_family == AF_INET && ntohl(v4->sin_addr.s_addr) >> 24 == 127) ||
           (address->sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr));
}

bool yolkd_in_memory(const char *dir) {
    struct statfs fs;
    return statfs(dir, &fs) < 0 || fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC ||
           fs.f_type == HUGETLBFS_MAGIC;
}

bool yolkd_numa_node_exists(int node) {
    char path[64];
    snprintf(path, sizeof(path), "/sys/devices/system/node/node%d", node);
    return access(path, F_OK) == 0;
}

/* Lists such as 0-1,4. */
bool yolkd_numa_node_has(int node, enum yolkd_numa what) {
    FILE *f = fopen(what == YOLKD_NUMA_MEMORY ? NUMA_SYS "has_memory" : NUMA_SYS "has_cpu", "re");
    bool has = false;
    int from, to;
    char next = ',';
    if (f == NULL)
        return false;
    while (!has && next == ',' && fscanf(f, "%d", &from) == 1) {
        to = from;
        if (fscanf(f, "%c", &next) == 1 && next == '-' && (fscanf(f, "%d", &to) != 1 || fscanf(f, "%c", &next) != 1))
            next = '\0';
        has = node >= from && node <= to;
    }
    fclose(f);
    return has;
}

uint64_t yolkd_numa_node_bytes(int node) {
    char path[64], line[128];
    unsigned long long kib = 0;
    snprintf(path, sizeof(path), NUMA_SYS "node%d/meminfo", node);
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return 0;
    while (fgets(line, sizeof(line), f) != NULL)
        if (sscanf(line, "Node %*d MemTotal: %llu kB", &kib) == 1)
            break;
    fclose(f);
    return kib << 10;
}

uint64_t yolkd_open_files_raise(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return UINT64_MAX;
    if (limit.rlim_cur < limit.rlim_max) {
        struct rlimit raised = {.rlim_cur = limit.rlim_max, .rlim_max = limit.rlim_max};
        if (setrlimit(RLIMIT_NOFILE, &raised) == 0)
            limit = raised;
    }
    return limit.rlim_cur;
}

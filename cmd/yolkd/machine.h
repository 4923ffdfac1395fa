/* SPDX-License-Identifier: Apache-2.0
 *
 * What this machine has: memory, huge pages, NUMA nodes, descriptors.
 *
 * Read from /proc and /sys at the moment of asking. Containers and systemd limit memory by cgroup,
 * so "the machine's memory" is the least of what is built in and every limit above this process.
 *
 * Thread: any; nothing is kept.
 */
#ifndef YOLKD_MACHINE_H
#define YOLKD_MACHINE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

/* Memory of the machine, or of the cgroup if that is less; 0 if it cannot be read. */
uint64_t yolkd_memory_bytes(void);

#define YOLKD_HUGE_PAGE (2ull << 20)

/* A hugetlbfs mount of 2 MiB pages that this process may write to. */
struct yolkd_huge_mount {
    char dir[256];
    uint64_t free_bytes; /* free, not reserved, and within the mount's size limit */
};

/* The mount with most room; false if there is none. */
bool yolkd_huge_mount_find(struct yolkd_huge_mount *ret_mount);

/* A segment's payload file in dir: its size (*ret_bytes), and what is allocated to it and to the other
 * files of the segment that are there (*ret_allocated). False if it is not there. */
bool yolkd_segment_file(const char *dir, const char *name, uint64_t *ret_bytes,
                        uint64_t *ret_allocated);

/* Is this a unix socket's address, or one of 127.0.0.0/8 or ::1? */
bool yolkd_address_is_local(const struct sockaddr *address);

/* Is this directory on tmpfs, ramfs or hugetlbfs? True if it cannot be told. */
bool yolkd_in_memory(const char *dir);

bool yolkd_numa_node_exists(int node);

enum yolkd_numa { YOLKD_NUMA_MEMORY, YOLKD_NUMA_PROCESSORS };
/* Has the NUMA node any of these? False if it cannot be told. */
bool yolkd_numa_node_has(int node, enum yolkd_numa what);
/* Memory of the NUMA node; 0 if it cannot be read. */
uint64_t yolkd_numa_node_bytes(int node);

/* Raises the soft limit of open files to the hard one; returns the limit. */
uint64_t yolkd_open_files_raise(void);

#endif

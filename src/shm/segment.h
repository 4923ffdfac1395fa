/* SPDX-License-Identifier: Apache-2.0
 *
 * The files of a segment: create, find again, lock, map, refuse.
 *
 * Named segments are three files in a memory file system (default /dev/shm; a hugetlbfs mount for
 * the payload when it has room): they outlive the daemon, and a restarted one finds every block
 * again. Nameless ones are sealed memfds: they go with their last user, nobody can truncate them,
 * and tests, benches and embedded nodes can leave none behind.
 *
 * The meta file carries an advisory lock that lives as long as the daemon: a second daemon on the
 * same segment is refused. Files that cannot be used are replaced under that lock, the meta file's
 * name going last; who gets the lock of a file that has lost its name tries again.
 *
 * Threads: the caller's; a segment is immutable once open but for the fields that others own.
 */
#ifndef YK_SHM_SEGMENT_H
#define YK_SHM_SEGMENT_H

#include "base/status.h"
#include "shm/layout.h"

#ifdef __cplusplus
extern "C" {
#endif

struct yk_segment_opts {
    const char *dir;      /* of the files; NULL = /dev/shm */
    const char *name;     /* NULL = nameless */
    const char *huge_dir; /* hugetlbfs mount for the payload; NULL = plain pages */
    uint64_t data_bytes; /* of DRAM */
    uint64_t slow_bytes; /* of slow memory, which the payload has behind it; whole pages. 0 = none */
    uint64_t extents_bytes;
    uint32_t max_blocks;
    uint32_t max_clients;
    int numa_node; /* the payload, or what of it is in DRAM, is bound there; -1 = not bound */
    int slow_node; /* and what is in slow memory there */
};

enum yk_segment_found {
    YK_SEGMENT_FRESH = 0,   /* new, empty */
    YK_SEGMENT_CLEAN = 1,   /* stopped in good order, payload not written to since */
    YK_SEGMENT_UNCLEAN = 2, /* its daemon was killed, or somebody wrote to the payload since */
};

struct yk_segment {
    void *meta, *data, *clients; /* read-write mappings */
    int fd_meta, fd_meta_ro, fd_data, fd_clients;
    struct yk_shm_layout layout;
    uint64_t slow_bytes; /* the tail of layout.data_bytes */
    enum yk_segment_found found;
    uint64_t page_bytes; /* of the payload mapping */
    int lost;            /* set by the SIGBUS guard */
    char why_fresh[160]; /* why an existing segment, or its blocks, were set aside; "" = nothing was */
    char paths[3][512];
};

/* Opens or creates. An existing segment of another version or size, or with a damaged header, is
 * removed and replaced by an empty one (its blocks become misses), and why_fresh says so.
 * Errors: EBUSY another daemon holds it (text names the pid), ENOSPC the file system or the machine
 * has not that much memory (text has the figures), EINVAL the name or directory makes no path, EPERM
 * a file is another user's, EIO. On an error the files of an existing segment are as they were. */
int yk_segment_open(struct yk_segment *seg, const struct yk_segment_opts *opts, struct yk_err *err);

/* Unmaps and closes; the named files stay. clean: marks the segment as stopped in good order.
 * Takes a half-opened one. */
void yk_segment_close(struct yk_segment *seg, int clean);

/* Removes the files of a named segment. */
void yk_segment_unlink(const struct yk_segment *seg);

/* Looks whether a file was truncated under the mappings; if so sets seg->lost and the header's lost
 * word, so that every lookup of every client misses from now on. Returns 1 when the tier is lost. */
int yk_segment_check(struct yk_segment *seg);

/* Gives back the pages of index area 0 or 1; it reads as zeros afterwards. 0 or -YK_EIO. */
int yk_segment_index_zero(struct yk_segment *seg, unsigned area);

/* Memory that a node may still take here: the least of MemAvailable, the cgroup's limit and the
 * file system's room. dir NULL = /dev/shm. 0 = not known. */
uint64_t yk_segment_room(const char *dir);

#ifdef __cplusplus
}
#endif

#endif

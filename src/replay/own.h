/* SPDX-License-Identifier: Apache-2.0
 *
 * A node of one's own: started for a replay or a benchmark in a child process, gone with it.
 *
 * A child rather than a thread, so that its CPU time is apart from its clients', that it can be
 * killed like a daemon, and that the parent stays without threads and may fork clients. Its segment
 * is nameless unless a name is asked for: nothing is left in /dev/shm whatever happens. It listens
 * on a socket in a directory of its own under $TMPDIR, which yk_own_hide removes as soon as all
 * clients are connected. The child ends when the pipe that its parent holds is closed, so it cannot
 * outlive it. An SSD tier is a file that has no name from the start (O_TMPFILE): the node opens it
 * through /proc/self/fd, and its space is free again when the child is gone, however it went.
 *
 * Threads: one; no other thread may run in the process when a node is started (it forks).
 */
#ifndef YK_REPLAY_OWN_H
#define YK_REPLAY_OWN_H

#include "replay/kept.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct yk_node;
struct yk_node_opts;

struct yk_own_opts {
    uint64_t dram_bytes;      /* of payload */
    uint64_t capacity_blocks; /* committed blocks at most; 0 = as many as fit */
    uint32_t max_blocks;      /* descriptors; 0 = by the node's own rule */
    uint32_t max_clients;     /* 0 = 128 */
    uint32_t reserve_percent; /* kept free ahead of need */
    const char *policy;       /* NULL = "lru" */
    const char *segment;      /* name in /dev/shm; NULL = nameless. The caller unlinks it */
    int replays;              /* as in node/store.h */
    int populate;             /* touch the memory in the background */
    uint64_t ssd_bytes;       /* of a file for the SSD tier; 0 = none */
    uint64_t ssd_segment_bytes, ssd_capacity_blocks; /* 0 = the node's own choice, as many as fit */
    int ahead;                /* as in node/store.h */
    const char *ssd_dir;      /* where it lies; NULL = yk_own_ssd_dir */
    /* In the child, both may be NULL: the last word on the node's options; the node serves. */
    void (*tune)(void *arg, struct yk_node_opts *opts);
    void (*serving)(void *arg, struct yk_node *node);
    void *arg;
};

struct yk_own {
    struct yk_kept kept;
    char dir[80];      /* "" = removed */
    char url[100];     /* "unix:..." */
    uint64_t start_ns; /* from the fork to serving */
};

/* Payload memory for so many blocks of this size in use at a time, with what a node needs beside
 * them: reservations of the clients, blocks on their way out, the reserve. */
uint64_t yk_own_dram_bytes(uint64_t blocks, uint64_t block_bytes, uint32_t clients,
                           uint32_t reserve_percent);

/* What each of so many clients of such a node holds ahead for puts (yk_open_opts.hold_bytes): the default,
 * or less where many would hold more together than a run's memory is worth. */
uint64_t yk_own_hold_bytes(uint32_t clients);

/* Where an SSD file goes: $TMPDIR, or /var/tmp, which unlike /tmp is on a disk. Static storage. */
const char *yk_own_ssd_dir(void);

/* Bytes of an SSD file for so many blocks of this size, and of its segments. roomy: so much that cleaning
 * never has to choose. */
uint64_t yk_own_ssd_bytes(uint64_t blocks, uint64_t block_bytes, int roomy,
                          uint64_t *ret_segment_bytes);

/* Bytes that may be written to a directory's file system; 0 = not known. */
uint64_t yk_own_ssd_room(const char *dir);

/* What a node with an SSD tier keeps free of its memory beyond yk_own_dram_bytes. */
uint64_t yk_own_ahead_bytes(uint64_t dram_bytes);

/* Memory that a nameless node may take on this machine now; 0 = not known. */
uint64_t yk_own_room(void);

/* Serving when it returns 0; else failures of yk_node_start with their text, or of fork. */
int yk_own_start(const struct yk_own_opts *opts, struct yk_own *ret_own, struct yk_err *err);

/* Removes the socket: who is connected stays so. */
void yk_own_hide(struct yk_own *own);

/* In a forked child of the same parent: the node is not ours to keep alive. */
void yk_own_forget(struct yk_own *own);

/* Ends it in good order and waits; SIGKILL after 10 s. ret_cpu_s (NULL is fine): its user and
 * system time. Takes one that never started. */
void yk_own_stop(struct yk_own *own, double *ret_cpu_s);

/* kill -9, and waits. The socket's directory goes as well. */
void yk_own_kill(struct yk_own *own);

#ifdef __cplusplus
}
#endif

#endif

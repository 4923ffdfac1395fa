/* SPDX-License-Identifier: Apache-2.0
 *
 * What an engine shows to engines of other processes of its host: a table of its regions and a hazard
 * slot for each of their lanes, in a memfd that they map.
 *
 * A peer opens it as /proc/PID/fd/N (what its welcome named), so that no descriptor has to travel, and
 * knows by the incarnation inside that it has the right process. It copies to and from a region by
 * itself, in three steps that keep unregistering safe, whoever stops or dies when:
 *
 *   peer     hazard = number; fence; is the number in the table still? copy; hazard = 0
 *   owner    number in the table = 0; fence; wait until no hazard holds it        (as R2)
 *
 * Who has a hazard slot holds a lock on one byte of the file (F_OFD_SETLK), which the kernel takes back
 * when the process ends: a hazard without its lock is a dead peer's and holds nothing. Whether the owner
 * lives a peer sees at its pidfd, before and after each copy: what it left behind in memory is nobody's,
 * and its number may soon be another process's. Rejected for peers: process
 * numbers, which mean nothing in another namespace and are used again.
 *
 * Peers of a host are of one trust domain: they can write to what they can map.
 *
 * Threads: the owner's side any (its own lock); a peer's handle its shard's.
 */
#ifndef YK_XFER_SHARE_H
#define YK_XFER_SHARE_H

#include "base/status.h"
#include "xfer/region.h"

#ifdef __cplusplus
extern "C" {
#endif

#define YK_SHARE_HAZARDS 4096u /* lanes of peers at a time */

/* ---- owner --------------------------------------------------------------------------------------- */

struct yk_share;

/* -YK_ENOMEM, -YK_ELIMIT no descriptor. */
int yk_share_new(uint64_t incarnation, struct yk_share **ret_share, struct yk_err *err);
void yk_share_free(struct yk_share *s); /* NULL is fine; no region may be shown any more */

/* Number of the descriptor that peers open. */
int yk_share_fd(const struct yk_share *s);

/* Shows a region to peers; without memory (a file) or remote access there is nothing to show, and what
 * is guarded only is not: who copies by itself asks nobody. */
void yk_share_add(struct yk_share *s, const struct yk_region *region);
/* Takes it back and waits until no peer works on it. -YK_ETIMEDOUT: one still does (it is stopped). */
int yk_share_forget(struct yk_share *s, const struct yk_region *region, uint64_t deadline_ns);

/* ---- peer ---------------------------------------------------------------------------------------- */

struct yk_share_peer;

/* pid, fd: of the owner. -YK_EGONE there is no such process or another one, -YK_EPERM its descriptors
 * are not for us, -YK_ELIMIT all slots are taken. */
int yk_share_open(uint32_t pid, int fd, uint64_t incarnation, struct yk_share_peer **ret_peer,
                  struct yk_err *err);
void yk_share_close(struct yk_share_peer *p);

/* 1: the owner's process has ended; nothing is copied any more. */
int yk_share_gone(const struct yk_share_peer *p);

enum yk_share_how { YK_SHARE_NONE = 0, YK_SHARE_MAP, YK_SHARE_VM };

/* Copies len bytes between local memory and [offset, offset + len) of a region of the owner. write 0:
 * from it. 0; -YK_EGONE it is unregistered; -YK_EINVAL out of range; -YK_EPERM not allowed; -YK_EFAULT the memory of
 * either side is not there, or cannot be pinned (a device's), which another way may not need; -YK_EIO it cannot be
 * copied so; -YK_ENOTSUP copying from that process is not permitted. ret_how (or NULL): by which way. */
int yk_share_copy(struct yk_share_peer *p, uint64_t region, uint64_t offset, void *local, uint64_t len,
                  int write, enum yk_share_how *ret_how);

#ifdef __cplusplus
}
#endif

#endif

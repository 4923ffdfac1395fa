/* SPDX-License-Identifier: Apache-2.0
 *
 * The map of the cluster (docs/decisions/0014, 0016): who owns each slot and in which term, who the members
 * are, and how many were ever expelled. One value in etcd, a copy in each node and on its disk. Here are its
 * codec and every change that may be made to it; the caller makes the change to a copy, and puts that in
 * place of the one it read.
 *
 * Terms, incarnations, ids and the count of expulsions only grow.
 *
 * Threads: pure; a map is its holder's.
 */
#ifndef YK_DIR_MAP_H
#define YK_DIR_MAP_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define YK_DIR_SLOTS       4096u
#define YK_DIR_MEMBERS_MAX 1024u
#define YK_DIR_NAME_MAX    63u /* bytes of a node's name: letters, digits, '.', '-', '_' */
#define YK_DIR_NOBODY      0u  /* no member's id */

enum yk_dir_state { YK_DIR_MEMBER = 1, YK_DIR_RETURNING, YK_DIR_EXPELLED };

struct yk_dir_member {
    uint32_t id; /* from 1; never given to another name */
    uint8_t state;    /* enum yk_dir_state */
    uint8_t draining; /* it shall own no slots and get no copies */
    uint64_t incarnation;
    char name[YK_DIR_NAME_MAX + 1];
};

struct yk_dir_slot {
    uint32_t owner; /* member id, or YK_DIR_NOBODY before there ever was a member */
    uint64_t term;
};

struct yk_dir_map {
    uint64_t cluster; /* random, never 0 */
    uint64_t version; /* +1 a change */
    uint64_t expulsions;
    uint32_t next_id;
    uint32_t member_count;
    struct yk_dir_slot slot[YK_DIR_SLOTS];
    struct yk_dir_member member[YK_DIR_MEMBERS_MAX]; /* by id */
};

/* The placement group of a chain is the hash of its root's (namespace name, key); the group of a key alone,
 * too. Both choose their slot so. */
uint64_t yk_dir_hash(const char *ns, uint32_t ns_len, const void *key, uint32_t key_len);
static inline uint32_t yk_dir_slot_of(uint64_t hash) {
    return (uint32_t)(hash >> 52);
}

int yk_dir_is_name(const char *name); /* could it be a node's? */

/* A map of nobody. NULL: no memory. Freed with free. */
struct yk_dir_map *yk_dir_map_new(uint64_t cluster);
struct yk_dir_map *yk_dir_map_copy(const struct yk_dir_map *map);

/* Bytes of the encoded map, at most 200 KiB; little-endian, with a format number and a checksum. */
size_t yk_dir_map_bytes(const struct yk_dir_map *map);
void yk_dir_map_encode(const struct yk_dir_map *map, void *ret_bytes);
/* -YK_EPROTO (what is wrong), -YK_EVERSION (a newer format: both numbers in the text), -YK_ENOMEM. */
int yk_dir_map_decode(const void *bytes, size_t len, struct yk_dir_map **ret_map, struct yk_err *err);

/* By id or name; NULL: there is none. */
struct yk_dir_member *yk_dir_map_member(struct yk_dir_map *map, uint32_t id);
struct yk_dir_member *yk_dir_map_named(struct yk_dir_map *map, const char *name);
uint32_t yk_dir_map_members(const struct yk_dir_map *map, unsigned state); /* how many in that state */

/* Changes; each raises the version once. 0, or as it says; then nothing was changed. */

/* A node starts: a new name becomes returning, but the first, which is a member and gets all slots; a known one
 * gets a higher incarnation; of a member the terms of the slots that it owns rise (an owner that restarts does
 * not go on in its term). An expelled one becomes returning. at_least: no lower incarnation than that (its
 * disk's). -YK_ELIMIT, -YK_EINVAL: that is no name. */
int yk_dir_map_join(struct yk_dir_map *map, const char *name, uint64_t at_least, uint32_t *ret_id);
/* Its slots go to the other members that are not draining (else those that are), evenly, and it is expelled.
 * -YK_ENOENT: it is not there, or expelled already; -YK_EBUSY: it is the last member. */
int yk_dir_map_expel(struct yk_dir_map *map, uint32_t id);
/* A returning one of this incarnation is a member again. -YK_ESTALE: it is not, or of another one. */
int yk_dir_map_admit(struct yk_dir_map *map, uint32_t id, uint64_t incarnation);
/* An expelled name goes for good. -YK_ENOENT, -YK_EBUSY: it is not expelled. */
int yk_dir_map_forget(struct yk_dir_map *map, uint32_t id);
/* term + 1. -YK_ENOENT: no such slot or member. */
int yk_dir_map_move(struct yk_dir_map *map, uint32_t slot, uint32_t to);
int yk_dir_map_drain(struct yk_dir_map *map, uint32_t id, int draining);
/* Slots with an owner whose term is below terms[slot] get terms[slot] + 1. How many; 0: nothing was changed. */
uint32_t yk_dir_map_outgrow(struct yk_dir_map *map, const uint64_t *terms);
/* An etcd that came back empty, or with the map `there` (NULL: none) that is older than this one or of another
 * history: every term becomes one more than the highest of both and terms[slot], so that no message of before
 * counts; versions, ids and the count of expulsions go on behind the higher of both. Who is no member in
 * `there`, in this incarnation or a later one, or was forgotten there, is expelled: removes were done there without
 * it. -YK_EBUSY: then
 * no member would be left; the map is to be thrown away. */
int yk_dir_map_restore(struct yk_dir_map *map, const struct yk_dir_map *there, const uint64_t *terms);

#ifdef __cplusplus
}
#endif

#endif

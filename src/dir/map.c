/* SPDX-License-Identifier: Apache-2.0
 *
 * map.h. A map is one flat struct, so a copy is one memcpy and a change to a copy needs no undoing.
 *
 * What always holds, and what the decoder demands of a map from elsewhere:
 * - members stand in the order of their ids, all below next_id; names differ;
 * - before there was a member no slot has an owner and all terms are 0; from then on each slot's owner is in
 *   the state YK_DIR_MEMBER, so there is always at least one, and terms are at least 1.
 *
 * Encoded (little-endian): magic, format, cluster, version, expulsions, next_id, member count; for each slot
 * owner (u32) and term (u64); for each member id (u32), state, draining, incarnation (u64), name (length
 * byte, bytes); XXH3-64 of all that. At most 49,192 + 1,024 * 78 + 8 bytes. Every map has one encoding.
 *
 * Threads: pure.
 */
#include "dir/map.h"

#include "base/hash.h"
#include "wire/codec.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC  0x70614d59u /* "YMap" */
#define FORMAT 1u

#define HEAD_BYTES   (4u + 4 + 8 + 8 + 8 + 4 + 4)
#define SLOT_BYTES   (4u + 8)
#define MEMBER_BYTES (4u + 1 + 1 + 8 + 1) /* and the name */
#define SUM_BYTES    8u

uint64_t yk_dir_hash(const char *ns, uint32_t ns_len, const void *key, uint32_t key_len) {
    unsigned char both[1 + 255 + 255]; /* the length first: no two pairs are the same bytes */
    assert(ns_len <= 255 && key_len <= 255);
    both[0] = (unsigned char)ns_len;
    memcpy(both + 1, ns, ns_len);
    memcpy(both + 1 + ns_len, key, key_len);
    return yk_hash64(both, 1 + ns_len + key_len);
}

struct yk_dir_map *yk_dir_map_new(uint64_t cluster) {
    struct yk_dir_map *map = calloc(1, sizeof(*map));
    if (map != NULL) {
        map->cluster = cluster;
        map->next_id = 1;
    }
    return map;
}

struct yk_dir_map *yk_dir_map_copy(const struct yk_dir_map *map) {
    struct yk_dir_map *copy = malloc(sizeof(*copy));
    if (copy != NULL)
        memcpy(copy, map, sizeof(*copy));
    return copy;
}

/* ---- members ---------------------------------------------------------------------------------- */

static int is_text(const char *name, size_t len) {
    if (len == 0 || len > YK_DIR_NAME_MAX)
        return 0;
    for (size_t i = 0; i < len; i++) {
        char c = name[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
              c == '-' || c == '_'))
            return 0;
    }
    return 1;
}

int yk_dir_is_name(const char *name) {
    return is_text(name, strlen(name));
}

static const struct yk_dir_member *find(const struct yk_dir_map *map, uint32_t id) {
    uint32_t lo = 0, hi = map->member_count;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (map->member[mid].id < id)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < map->member_count && map->member[lo].id == id ? &map->member[lo] : NULL;
}

struct yk_dir_member *yk_dir_map_member(struct yk_dir_map *map, uint32_t id) {
    const struct yk_dir_member *found = find(map, id);
    return found != NULL ? &map->member[found - map->member] : NULL;
}

struct yk_dir_member *yk_dir_map_named(struct yk_dir_map *map, const char *name) {
    for (uint32_t i = 0; i < map->member_count; i++)
        if (strcmp(map->member[i].name, name) == 0)
            return &map->member[i];
    return NULL;
}

uint32_t yk_dir_map_members(const struct yk_dir_map *map, unsigned state) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < map->member_count; i++)
        n += map->member[i].state == state;
    return n;
}

/* ---- codec ------------------------------------------------------------------------------------ */

size_t yk_dir_map_bytes(const struct yk_dir_map *map) {
    size_t bytes = HEAD_BYTES + (size_t)YK_DIR_SLOTS * SLOT_BYTES + SUM_BYTES;
    for (uint32_t i = 0; i < map->member_count; i++)
        bytes += MEMBER_BYTES + strlen(map->member[i].name);
    return bytes;
}

void yk_dir_map_encode(const struct yk_dir_map *map, void *ret_bytes) {
    size_t len = yk_dir_map_bytes(map);
    struct yk_wr w;
    yk_wr_init(&w, ret_bytes, len);
    yk_wr_u32(&w, MAGIC);
    yk_wr_u32(&w, FORMAT);
    yk_wr_u64(&w, map->cluster);
    yk_wr_u64(&w, map->version);
    yk_wr_u64(&w, map->expulsions);
    yk_wr_u32(&w, map->next_id);
    yk_wr_u32(&w, map->member_count);
    for (uint32_t i = 0; i < YK_DIR_SLOTS; i++) {
        yk_wr_u32(&w, map->slot[i].owner);
        yk_wr_u64(&w, map->slot[i].term);
    }
    for (uint32_t i = 0; i < map->member_count; i++) {
        const struct yk_dir_member *m = &map->member[i];
        yk_wr_u32(&w, m->id);
        yk_wr_u8(&w, m->state);
        yk_wr_u8(&w, m->draining);
        yk_wr_u64(&w, m->incarnation);
        yk_wr_str8(&w, m->name, strlen(m->name));
    }
    yk_wr_u64(&w, yk_hash64(ret_bytes, len - SUM_BYTES));
    assert(yk_wr_ok(&w));
}

static int read_member(struct yk_rd *r, struct yk_dir_map *map, uint32_t at, struct yk_err *err) {
    struct yk_dir_member *m = &map->member[at];
    uint32_t len;
    m->id = yk_rd_u32(r);
    m->state = yk_rd_u8(r);
    m->draining = yk_rd_u8(r);
    m->incarnation = yk_rd_u64(r);
    const char *name = yk_rd_str8(r, &len);
    if (r->bad)
        return yk_err_set(err, -YK_EPROTO, "the map ends within member %u of %u", at + 1, map->member_count);
    if (m->id <= (at > 0 ? m[-1].id : 0) || m->id >= map->next_id)
        return yk_err_set(err, -YK_EPROTO, "the map's member %u has id %u, after %u and before %u was expected",
                          at + 1, m->id, at > 0 ? m[-1].id : 0, map->next_id);
    if (m->state < YK_DIR_MEMBER || m->state > YK_DIR_EXPELLED || m->draining > 1 || m->incarnation == 0)
        return yk_err_set(err, -YK_EPROTO, "the map's member %u has state %u, draining %u, incarnation %" PRIu64,
                          m->id, m->state, m->draining, m->incarnation);
    if (!is_text(name, len))
        return yk_err_set(err, -YK_EPROTO, "the map's member %u has a name of %u bytes that is none", m->id, len);
    memcpy(m->name, name, len);
    return 0;
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int check_names(const struct yk_dir_map *map, struct yk_err *err) {
    const char *names[YK_DIR_MEMBERS_MAX];
    for (uint32_t i = 0; i < map->member_count; i++)
        names[i] = map->member[i].name;
    qsort(names, map->member_count, sizeof(names[0]), by_name);
    for (uint32_t i = 1; i < map->member_count; i++)
        if (strcmp(names[i - 1], names[i]) == 0)
            return yk_err_set(err, -YK_EPROTO, "the map has two members named %s", names[i]);
    return 0;
}

static int check_slots(const struct yk_dir_map *map, struct yk_err *err) {
    int owned = yk_dir_map_members(map, YK_DIR_MEMBER) > 0;
    if (!owned && map->member_count > 0)
        return yk_err_set(err, -YK_EPROTO, "none of the map's %u nodes is a member", map->member_count);
    for (uint32_t i = 0; i < YK_DIR_SLOTS; i++) {
        const struct yk_dir_slot *s = &map->slot[i];
        const struct yk_dir_member *m = find(map, s->owner);
        if (owned ? m == NULL || m->state != YK_DIR_MEMBER || s->term == 0
                  : s->owner != YK_DIR_NOBODY || s->term != 0)
            return yk_err_set(err, -YK_EPROTO, "the map's slot %u is owned by %u in term %" PRIu64 ", that is no %s",
                              i, s->owner, s->term, owned ? "member" : "empty map");
    }
    return 0;
}

static int read_body(struct yk_rd *r, struct yk_dir_map *map, struct yk_err *err) {
    int rc;
    map->version = yk_rd_u64(r);
    map->expulsions = yk_rd_u64(r);
    map->next_id = yk_rd_u32(r);
    map->member_count = yk_rd_u32(r);
    if (map->cluster == 0 || map->next_id == 0 || map->member_count > YK_DIR_MEMBERS_MAX)
        return yk_err_set(err, -YK_EPROTO, "the map has cluster %016" PRIx64 ", next id %u, %u members", map->cluster,
                          map->next_id, map->member_count);
    for (uint32_t i = 0; i < YK_DIR_SLOTS; i++) {
        map->slot[i].owner = yk_rd_u32(r);
        map->slot[i].term = yk_rd_u64(r);
    }
    for (uint32_t i = 0; i < map->member_count; i++)
        if ((rc = read_member(r, map, i, err)) < 0)
            return rc;
    if (!yk_rd_ok(r))
        return yk_err_set(err, -YK_EPROTO, "the map has %zu bytes behind its end", yk_rd_left(r));
    rc = check_names(map, err);
    return rc < 0 ? rc : check_slots(map, err);
}

/* Before the sum: another format may have another sum, or none. */
static int check_head(struct yk_rd *r, size_t len, struct yk_err *err) {
    uint32_t magic = yk_rd_u32(r), format = yk_rd_u32(r);
    if (r->bad || magic != MAGIC)
        return yk_err_set(err, -YK_EPROTO, "%zu bytes that begin with %08x are no map, which begins with %08x", len,
                          magic, MAGIC);
    if (format > FORMAT)
        return yk_err_set(err, -YK_EVERSION,
                          "the map has format %u, and this program knows formats up to %u: run a newer one", format,
                          FORMAT);
    if (format == 0)
        return yk_err_set(err, -YK_EPROTO, "the map has format 0, and there is none");
    if (len < HEAD_BYTES + SUM_BYTES)
        return yk_err_set(err, -YK_EPROTO, "a map of %zu bytes is cut off", len);
    return 0;
}

int yk_dir_map_decode(const void *bytes, size_t len, struct yk_dir_map **ret_map, struct yk_err *err) {
    struct yk_rd r, sum;
    yk_rd_init(&r, bytes, len);
    int rc = check_head(&r, len, err);
    if (rc < 0)
        return rc;
    yk_rd_init(&sum, (const unsigned char *)bytes + len - SUM_BYTES, SUM_BYTES);
    uint64_t is = yk_hash64(bytes, len - SUM_BYTES), said = yk_rd_u64(&sum);
    if (is != said)
        return yk_err_set(err, -YK_EPROTO, "the map's %zu bytes have the sum %016" PRIx64 ", and it says %016" PRIx64, len,
                          is, said);
    r.end -= SUM_BYTES;
    struct yk_dir_map *map = yk_dir_map_new(yk_rd_u64(&r));
    if (map == NULL)
        return yk_err_set(err, -YK_ENOMEM, "no memory for a map");
    if ((rc = read_body(&r, map, err)) < 0) {
        free(map);
        return rc;
    }
    *ret_map = map;
    return 0;
}

/* ---- changes ---------------------------------------------------------------------------------- */

static void give(struct yk_dir_slot *slot, uint32_t to) {
    slot->owner = to;
    slot->term++;
}

static int join_again(struct yk_dir_map *map, struct yk_dir_member *m, uint64_t at_least) {
    if (m->incarnation == UINT64_MAX)
        return -YK_ELIMIT;
    m->incarnation = m->incarnation >= at_least ? m->incarnation + 1 : at_least;
    if (m->state == YK_DIR_EXPELLED)
        m->state = YK_DIR_RETURNING;
    for (uint32_t i = 0; i < YK_DIR_SLOTS; i++)
        if (map->slot[i].owner == m->id)
            map->slot[i].term++;
    return 0;
}

static int join_new(struct yk_dir_map *map, const char *name, uint64_t at_least) {
    if (map->member_count == YK_DIR_MEMBERS_MAX || map->next_id == UINT32_MAX)
        return -YK_ELIMIT;
    struct yk_dir_member *m = &map->member[map->member_count];
    memset(m, 0, sizeof(*m)); /* with what lies between its fields: maps are compared as bytes */
    m->id = map->next_id++;
    /* Clients may put into it before an owner's map names it: so it is counted before it is a member (0014). */
    m->state = map->member_count == 0 ? YK_DIR_MEMBER : YK_DIR_RETURNING;
    m->incarnation = at_least > 0 ? at_least : 1;
    memcpy(m->name, name, strlen(name));
    if (map->member_count++ == 0)
        for (uint32_t i = 0; i < YK_DIR_SLOTS; i++)
            give(&map->slot[i], m->id);
    return 0;
}

int yk_dir_map_join(struct yk_dir_map *map, const char *name, uint64_t at_least, uint32_t *ret_id) {
    if (!yk_dir_is_name(name))
        return -YK_EINVAL;
    struct yk_dir_member *m = yk_dir_map_named(map, name);
    int rc = m != NULL ? join_again(map, m, at_least) : join_new(map, name, at_least);
    if (rc < 0)
        return rc;
    *ret_id = m != NULL ? m->id : map->member[map->member_count - 1].id;
    map->version++;
    return 0;
}

/* Places of those that get the slots of `leaver`: not draining ones if there are any. */
static uint32_t heirs(const struct yk_dir_map *map, uint32_t leaver, uint32_t ret[YK_DIR_MEMBERS_MAX]) {
    for (unsigned draining = 0; draining <= 1; draining++) {
        uint32_t n = 0;
        for (uint32_t i = 0; i < map->member_count; i++) {
            const struct yk_dir_member *m = &map->member[i];
            if (m->state == YK_DIR_MEMBER && m->id != leaver && m->draining <= draining)
                ret[n++] = i;
        }
        if (n > 0)
            return n;
    }
    return 0;
}

/* Each slot to the heir that has fewest; in turn when all have as many. */
static void bequeath(struct yk_dir_map *map, uint32_t leaver, const uint32_t *heir, uint32_t n) {
    uint32_t has[YK_DIR_MEMBERS_MAX] = {0}; /* by place */
    for (uint32_t i = 0; i < YK_DIR_SLOTS; i++)
        has[find(map, map->slot[i].owner) - map->member]++;
    for (uint32_t i = 0; i < YK_DIR_SLOTS; i++) {
        uint32_t least = heir[0];
        if (map->slot[i].owner != leaver)
            continue;
        for (uint32_t k = 1; k < n; k++)
            if (has[heir[k]] < has[least])
                least = heir[k];
        give(&map->slot[i], map->member[least].id);
        has[least]++;
    }
}

int yk_dir_map_expel(struct yk_dir_map *map, uint32_t id) {
    struct yk_dir_member *m = yk_dir_map_member(map, id);
    uint32_t heir[YK_DIR_MEMBERS_MAX];
    if (m == NULL || m->state == YK_DIR_EXPELLED)
        return -YK_ENOENT;
    if (m->state == YK_DIR_MEMBER) {
        uint32_t n = heirs(map, id, heir);
        if (n == 0)
            return -YK_EBUSY;
        bequeath(map, id, heir, n);
    }
    m->state = YK_DIR_EXPELLED;
    map->expulsions++;
    map->version++;
    return 0;
}

int yk_dir_map_admit(struct yk_dir_map *map, uint32_t id, uint64_t incarnation) {
    struct yk_dir_member *m = yk_dir_map_member(map, id);
    if (m == NULL || m->state != YK_DIR_RETURNING || m->incarnation != incarnation)
        return -YK_ESTALE;
    m->state = YK_DIR_MEMBER;
    map->version++;
    return 0;
}

int yk_dir_map_forget(struct yk_dir_map *map, uint32_t id) {
    struct yk_dir_member *m = yk_dir_map_member(map, id);
    if (m == NULL)
        return -YK_ENOENT;
    if (m->state != YK_DIR_EXPELLED)
        return -YK_EBUSY;
    struct yk_dir_member *end = &map->member[map->member_count--];
    memmove(m, m + 1, (size_t)((char *)end - (char *)(m + 1)));
    memset(end - 1, 0, sizeof(*end));
    map->version++;
    return 0;
}

int yk_dir_map_move(struct yk_dir_map *map, uint32_t slot, uint32_t to) {
    const struct yk_dir_member *m = find(map, to);
    if (slot >= YK_DIR_SLOTS || m == NULL || m->state != YK_DIR_MEMBER)
        return -YK_ENOENT;
    give(&map->slot[slot], to);
    map->version++;
    return 0;
}

static uint64_t higher(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

/* Was it expelled there, in this life or a later one, and (its id was given) perhaps forgotten since? */
static int was_expelled(const struct yk_dir_map *there, const struct yk_dir_member *m) {
    for (uint32_t i = 0; i < there->member_count; i++)
        if (strcmp(there->member[i].name, m->name) == 0)
            return there->member[i].state != YK_DIR_MEMBER && there->member[i].incarnation >= m->incarnation;
    return m->id < there->next_id;
}

/* Who was expelled in one history is expelled. */
static int expel_all_of(struct yk_dir_map *map, const struct yk_dir_map *there) {
    for (uint32_t i = 0; there != NULL && i < map->member_count; i++) {
        const struct yk_dir_member *m = &map->member[i];
        int rc = m->state == YK_DIR_MEMBER && was_expelled(there, m) ? yk_dir_map_expel(map, m->id) : 0;
        if (rc < 0)
            return rc;
    }
    return 0;
}

int yk_dir_map_restore(struct yk_dir_map *map, const struct yk_dir_map *there, const uint64_t *terms) {
    int rc = expel_all_of(map, there);
    if (rc < 0)
        return rc;
    for (uint32_t i = 0; i < YK_DIR_SLOTS; i++) {
        uint64_t term = higher(map->slot[i].term, terms[i]);
        if (map->slot[i].owner != YK_DIR_NOBODY)
            map->slot[i].term = (there != NULL ? higher(term, there->slot[i].term) : term) + 1;
    }
    if (there != NULL) {
        map->version = higher(map->version, there->version);
        map->next_id = (uint32_t)higher(map->next_id, there->next_id);
        map->expulsions = higher(map->expulsions, there->expulsions) + 1; /* whom, the two do not agree */
    }
    map->version++;
    return 0;
}

uint32_t yk_dir_map_outgrow(struct yk_dir_map *map, const uint64_t *terms) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < YK_DIR_SLOTS; i++)
        if (map->slot[i].owner != YK_DIR_NOBODY && map->slot[i].term < terms[i] && terms[i] < UINT64_MAX) {
            map->slot[i].term = terms[i] + 1;
            n++;
        }
    map->version += n > 0;
    return n;
}

int yk_dir_map_drain(struct yk_dir_map *map, uint32_t id, int draining) {
    struct yk_dir_member *m = yk_dir_map_member(map, id);
    if (m == NULL)
        return -YK_ENOENT;
    m->draining = draining != 0;
    map->version++;
    return 0;
}

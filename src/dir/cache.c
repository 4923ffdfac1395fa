/* SPDX-License-Identifier: Apache-2.0
 *
 * Locations that were found lately (dir_priv.h). A match finds a whole chain, and the gets behind it need not
 * ask again.
 *
 * One place for each hash of a key, and the last one has it: no list, no order, nothing to evict. What is
 * cached may be old: a guarded read then fails, and the key is asked for anew. Removes take their key out as
 * they are applied here; what a map names expelled is left out when a place is read (R10, ask.c).
 */
#include "dir/dir_priv.h"

struct dir_cached {
    uint64_t hash, epoch, until_ms;
    struct yk_dir_found found;
    uint32_t ns_len, key_len;
    unsigned char bytes[]; /* namespace, key */
};

static int is_key(const struct dir_cached *c, const struct yk_dir_key *key) {
    return c->ns_len == key->ns_len && c->key_len == key->key_len && memcmp(c->bytes, key->ns, key->ns_len) == 0 &&
           memcmp(c->bytes + c->ns_len, key->key, key->key_len) == 0;
}

static struct dir_cached **place(struct yk_dir *d, uint64_t hash) {
    return &d->cache.at[hash & (DIR_CACHE - 1u)];
}

static void forget(struct dir_cached **at) {
    free(*at);
    *at = NULL;
}

void dir_cache_put(struct yk_dir *d, const struct yk_dir_key *key, uint64_t epoch, uint64_t hash,
                   const struct yk_dir_found *found) {
    struct dir_cached **at = place(d, hash);
    struct dir_cached *c = malloc(sizeof(*c) + key->ns_len + key->key_len);
    forget(at);
    if (c == NULL)
        return;
    *c = (struct dir_cached){.hash = hash,
                             .epoch = epoch,
                             .until_ms = dir_now_ms() + DIR_CACHE_MS,
                             .found = *found,
                             .ns_len = key->ns_len,
                             .key_len = key->key_len};
    memcpy(c->bytes, key->ns, key->ns_len);
    memcpy(c->bytes + key->ns_len, key->key, key->key_len);
    *at = c;
}

const struct yk_dir_found *dir_cache_get(struct yk_dir *d, const struct yk_dir_key *key, uint64_t epoch,
                                         uint64_t hash) {
    struct dir_cached **at = place(d, hash), *c = *at;
    if (c == NULL || c->hash != hash || c->epoch != epoch || !is_key(c, key))
        return NULL;
    if (c->until_ms >= dir_now_ms())
        return &c->found;
    forget(at);
    return NULL;
}

void dir_cache_drop(struct yk_dir *d, const struct yk_dir_key *key) {
    struct dir_cached **at = place(d, yk_dir_hash(key->ns, key->ns_len, key->key, key->key_len));
    if (*at != NULL && is_key(*at, key))
        forget(at);
}

void dir_cache_clear(struct yk_dir *d) {
    for (uint32_t i = 0; i < DIR_CACHE; i++)
        forget(&d->cache.at[i]);
}

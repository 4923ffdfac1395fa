/* SPDX-License-Identifier: Apache-2.0
 *
 * Namespaces: names, epochs, quotas, wanted copies, terms of shares.
 *
 * Entries live in the meta file; a reader compares the entry's epoch with its own before each
 * lookup, so that raising it hides every older block at once (R9). A removed namespace gets an
 * epoch that nobody can have. Its number is not given to another name while the daemon runs, since
 * a client may still hold it; recovery frees those that no block uses, while no client is mapped.
 */
#include "node/ssd_priv.h"

#include <string.h>

#define NS_FREE    0u
#define NS_LIVE    1u
#define NS_REMOVED 2u

/* No engine's: a put or open with it is refused. */
#define EPOCH_REMOVED UINT64_MAX

static struct yk_ns_entry *entry_at(const struct yk_store *s, uint32_t ns) {
    return &s->own.ns[ns];
}

static void entry_seal(struct yk_ns_entry *e) {
    __atomic_store_n(&e->sum, yk_ns_entry_sum(e), __ATOMIC_RELEASE);
}

int yk_store_ns_check(const struct yk_store *s, uint32_t ns) {
    return ns < YK_SHM_NAMESPACES && entry_at(s, ns)->state == NS_LIVE ? 0 : -YK_ENONS;
}

static int name_ok(const void *name, uint32_t len) {
    return len > 0 && len <= YK_NAMESPACE_MAX && memchr(name, 0, len) == NULL;
}

static int find(const struct yk_store *s, const void *name, uint32_t len, uint32_t *ret_ns) {
    for (uint32_t i = 0; i < YK_SHM_NAMESPACES; i++) {
        const struct yk_ns_entry *e = entry_at(s, i);
        if (e->state == NS_LIVE && strnlen(e->name, sizeof(e->name)) == len &&
            memcmp(e->name, name, len) == 0) {
            *ret_ns = i;
            return 0;
        }
    }
    return -YK_ENONS;
}

static int all_taken(const struct yk_store *s, struct yk_err *err) {
    uint32_t live = 0;
    for (uint32_t i = 0; i < YK_SHM_NAMESPACES; i++)
        live += entry_at(s, i)->state == NS_LIVE;
    if (live == YK_SHM_NAMESPACES)
        return yk_err_set(err, -YK_ELIMIT,
                          "all %u namespaces are taken: remove one (yolk ns rm) and restart the node",
                          YK_SHM_NAMESPACES);
    return yk_err_set(err, -YK_ELIMIT,
                      "all %u namespaces are taken, %u of them removed: restart the node to free these",
                      YK_SHM_NAMESPACES, YK_SHM_NAMESPACES - live);
}

int yk_store_ns_open(struct yk_store *s, const void *name, uint32_t name_len, int create,
                     uint32_t *ret_ns, struct yk_err *err) {
    if (!name_ok(name, name_len))
        return yk_err_set(err, -YK_EINVAL, "a namespace's name has 1 to %u bytes, none of them 0",
                          YK_NAMESPACE_MAX);
    int rc = find(s, name, name_len, ret_ns);
    if (rc == 0)
        return 0;
    if (!create)
        return yk_err_set(err, rc, "there is no namespace '%.*s'", (int)name_len,
                          (const char *)name);
    uint32_t ns = 0;
    while (ns < YK_SHM_NAMESPACES &&
           (entry_at(s, ns)->state != NS_FREE || yk_store_ssd_ns_busy(s, ns)))
        ns++;
    if (ns == YK_SHM_NAMESPACES)
        return all_taken(s, err);
    struct yk_ns_entry *e = entry_at(s, ns);
    memset(e, 0, sizeof(*e));
    memcpy(e->name, name, name_len);
    e->epoch = e->epoch_copy = 1;
    e->uid = yk_owner_gen(&s->own);
    e->state = NS_LIVE;
    entry_seal(e);
    yk_store_ssd_ns(s, ns, 0);
    *ret_ns = ns;
    return 0;
}

uint64_t yk_store_ns_epoch(const struct yk_store *s, uint32_t ns) {
    return ns < YK_SHM_NAMESPACES ? entry_at(s, ns)->epoch : EPOCH_REMOVED;
}

int yk_store_ns_raise(struct yk_store *s, uint32_t ns, uint64_t epoch) {
    int rc = yk_store_ns_check(s, ns);
    if (rc < 0)
        return rc;
    struct yk_ns_entry *e = entry_at(s, ns);
    if (epoch < e->epoch)
        return -YK_ESTALE;
    if (epoch == EPOCH_REMOVED) /* handle.c has the text */
        return -YK_EINVAL;
    if (epoch == e->epoch) { /* it may be another's, who still waits for it to be durable (R9) */
        yk_store_ssd_ns_await(s, ns);
        return 0;
    }
    rc = yk_store_ssd_may_record(s);
    if (rc < 0)
        return rc;
    __atomic_store_n(&e->epoch, epoch, __ATOMIC_RELEASE); /* pairs with the load in view.c */
    __atomic_store_n(&e->epoch_copy, epoch, __ATOMIC_RELEASE);
    yk_store_ssd_ns(s, ns, 1);
    yk_store_sweep_soon(s);
    return 0;
}

int yk_store_ns_quota(struct yk_store *s, uint32_t ns, uint64_t quota_bytes) {
    int rc = yk_store_ns_check(s, ns);
    if (rc < 0)
        return rc;
    STORE(&entry_at(s, ns)->quota_bytes, quota_bytes);
    yk_store_ssd_ns(s, ns, 0);
    yk_store_partition_terms(s, ns);
    return 0;
}

int yk_store_ns_set_guarantee(struct yk_store *s, uint32_t ns, uint64_t bytes) {
    int rc = yk_store_ns_check(s, ns);
    if (rc < 0 || entry_at(s, ns)->guarantee_bytes == bytes)
        return rc;
    STORE(&entry_at(s, ns)->guarantee_bytes, bytes);
    yk_store_ssd_ns(s, ns, 0);
    yk_store_partition_terms(s, ns);
    return 0;
}

int yk_store_ns_set_priority(struct yk_store *s, uint32_t ns, uint32_t priority) {
    int rc = yk_store_ns_check(s, ns);
    if (rc < 0 || entry_at(s, ns)->priority == priority)
        return rc;
    STORE(&entry_at(s, ns)->priority, priority);
    yk_store_ssd_ns(s, ns, 0);
    yk_store_partition_terms(s, ns);
    return 0;
}

int yk_store_ns_set_copies(struct yk_store *s, uint32_t ns, uint32_t copies) {
    int rc = yk_store_ns_check(s, ns);
    if (rc == 0)
        STORE(&entry_at(s, ns)->copies, copies);
    return rc;
}

uint32_t yk_store_ns_copies(const struct yk_store *s, uint32_t ns) {
    return yk_store_ns_check(s, ns) == 0 ? entry_at(s, ns)->copies : 0;
}

int yk_store_ns_remove(struct yk_store *s, uint32_t ns) {
    int rc = yk_store_ns_check(s, ns);
    if (rc < 0)
        return rc;
    struct yk_ns_entry *e = entry_at(s, ns);
    __atomic_store_n(&e->epoch, EPOCH_REMOVED, __ATOMIC_RELEASE);
    e->state = NS_REMOVED;
    entry_seal(e);
    yk_store_ssd_ns(s, ns, 1);
    yk_store_partition_terms(s, ns);
    yk_store_sweep_soon(s);
    return 0;
}

int yk_store_ns_info(const struct yk_store *s, uint32_t ns, yk_ns_info *ret_info) {
    if (yk_store_ns_check(s, ns) < 0)
        return YK_MISS;
    const struct yk_ns_entry *e = entry_at(s, ns);
    memset(ret_info, 0, sizeof(*ret_info));
    memcpy(ret_info->name, e->name, YK_NAMESPACE_MAX);
    ret_info->epoch = e->epoch;
    ret_info->quota_bytes = e->quota_bytes;
    ret_info->copies = e->copies;
    ret_info->priority = e->priority;
    ret_info->guarantee_bytes = e->guarantee_bytes;
    ret_info->used_bytes = yk_store_used(s, ns, &ret_info->blocks);
    yk_store_partition_info(s, ns, ret_info);
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * What policies have learned, through a restart: found in the state directory's file (learned_file.h) at a start, given
 * to each policy when it is made, and named for the next file.
 *
 * A policy knows blocks by hashes that have the namespace's number in them, so what was learned counts for a
 * namespace of the same name and number alone.
 */
#include "node/ssd_priv.h"

#include "base/clock.h"
#include "base/log.h"
#include "node/learned_file.h"
#include "sched/learned.h"

#include <string.h>

static void say_anew(const char *what, const struct yk_err *err) {
    yk_log(YK_LOG_WARN, "node", "%s: what was learned before the start is left out: %s", what, err->text);
}

void yk_store_learned_load(struct yk_store *s, uint32_t ns) {
    const struct yk_ns_entry *e = &s->own.ns[ns];
    struct yk_policy *p = s->shares[ns].policy;
    struct yk_err err = {0};
    size_t len = 0;
    if (s->learned == NULL || e->state != 1)
        return;
    const void *bytes = yk_learned_file_find(s->learned, e->name, ns, &len);
    if (bytes == NULL)
        return;
    uint64_t now_ms = yk_wall_ms(), then_ms = yk_learned_file_wall_ms(s->learned);
    if (yk_learned_load(p, bytes, len, s->replays ? 0 : yk_boot_ms(), now_ms > then_ms ? now_ms - then_ms : 0, &err) < 0) {
        say_anew(e->name, &err);
        return;
    }
    COUNT(s, learned_loaded);
    yk_log(YK_LOG_INFO, "node", "namespace %s goes on with what its policy had learned %llu s ago", e->name,
           (unsigned long long)(now_ms > then_ms ? (now_ms - then_ms) / 1000 : 0));
}

void yk_store_learned_open(struct yk_store *s, const char *path) {
    struct yk_err err = {0};
    if (!yk_store_learns(s) || path == NULL || path[0] == 0)
        return;
    int rc = yk_learned_file_read(path, &s->learned, &err);
    if (rc < 0)
        say_anew(path, &err);
    for (uint32_t ns = 0; rc == 0 && ns < YK_SHM_NAMESPACES; ns++) {
        size_t len;
        if (s->own.ns[ns].state == 1 && yk_learned_file_find(s->learned, s->own.ns[ns].name, ns, &len) != NULL)
            (void)yk_store_policy_make(s, ns);
    }
}

void yk_store_learned_found(struct yk_store *s) {
    for (uint32_t i = 0; i < s->policy_count && s->learned != NULL; i++)
        yk_learned_found(s->policies[i]);
}

void yk_store_learned_forget(struct yk_store *s) {
    yk_learned_file_free(s->learned);
    s->learned = NULL;
}

const struct yk_policy *yk_store_policy_of_ns(const struct yk_store *s, uint32_t ns) {
    return ns < YK_SHM_NAMESPACES ? s->shares[ns].policy : NULL;
}

const struct yk_policy *yk_store_learned_next(struct yk_store *s, uint32_t *io_which, uint32_t *ret_ns,
                                              char ret_name[64]) {
    while (yk_store_learns(s) && *io_which < s->policy_count) {
        uint32_t which = (*io_which)++, ns = s->policy_ns[which];
        if (s->own.ns[ns].state != 1)
            continue; /* removed since */
        *ret_ns = ns;
        memcpy(ret_name, s->own.ns[ns].name, sizeof(s->own.ns[ns].name));
        ret_name[63] = 0;
        return s->policies[which];
    }
    return NULL;
}

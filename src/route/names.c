/* SPDX-License-Identifier: Apache-2.0
 *
 * Names of holders: what is one, and its number. A table of heads and a list through the holders, so that a request
 * with a thousand targets, or a report that comes every second from each of a thousand, looks at few names.
 *
 * Thread: under the router's lock.
 */
#include "route/routes_priv.h"

#include "base/hash.h"

#include <stdlib.h>
#include <string.h>

static uint32_t *head_of(const struct yk_routes *r, const char *name) {
    return &r->heads[yk_hash64(name, strlen(name)) & r->heads_mask];
}

int routes_names_new(struct yk_routes *r) {
    uint32_t n = 2;
    while (n < r->holders_max)
        n *= 2;
    r->heads = malloc(n * sizeof(*r->heads));
    if (r->heads == NULL)
        return -YK_ENOMEM;
    memset(r->heads, 0xff, n * sizeof(*r->heads));
    r->heads_mask = n - 1;
    return 0;
}

bool routes_is_name(const char *name) {
    size_t n = name != NULL ? strnlen(name, YK_ROUTE_NAME_MAX + 1) : 0;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)name[i] < 0x20 || name[i] == 0x7f)
            return false;
    return n > 0 && n <= YK_ROUTE_NAME_MAX;
}

uint32_t routes_find(const struct yk_routes *r, const char *name) {
    if (name == NULL || name[0] == '\0')
        return ROUTES_NONE;
    uint32_t at = *head_of(r, name);
    while (at != ROUTES_NONE && strcmp(r->holders[at].name, name) != 0)
        at = r->holders[at].next_name;
    return at;
}

void routes_names_add(struct yk_routes *r, uint32_t at) {
    uint32_t *head = head_of(r, r->holders[at].name);
    r->holders[at].next_name = *head;
    *head = at;
    r->holders[at].born = ++r->names;
}

void routes_names_remove(struct yk_routes *r, uint32_t at) {
    uint32_t *link = head_of(r, r->holders[at].name);
    while (*link != ROUTES_NONE && *link != at)
        link = &r->holders[*link].next_name;
    if (*link == at)
        *link = r->holders[at].next_name;
    r->names++;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * The settings of the transport: one text, "device=mlx5_0,device=mlx5_1:2,gid-index=3,traffic-class=106". One text and
 * not an option each, so that it goes through libraries and programs that know nothing of RDMA as it is.
 *
 * Pure: whether this host has what they name is for yk_rdma_ports_fit.
 *
 * Thread: any; no state.
 */
#include "rdma_priv.h"

#include "base/parse.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

static const struct number {
    const char *name;
    uint32_t low, high;
    size_t at; /* of a uint32_t in struct yk_rdma_settings */
} numbers[] = {
    {"gid-index", 0, YK_RDMA_GIDS_MAX - 1, offsetof(struct yk_rdma_settings, gid_index)},
    {"traffic-class", 0, 255, offsetof(struct yk_rdma_settings, traffic_class)},
    {"service-level", 0, 15, offsetof(struct yk_rdma_settings, service_level)},
    {"depth", YK_RDMA_DEPTH_MIN, YK_RDMA_DEPTH, offsetof(struct yk_rdma_settings, depth)},
};
#define NUMBERS (sizeof(numbers) / sizeof(numbers[0]))

static int is_in(uint64_t value, const struct number *n) {
    return value >= n->low && value <= n->high;
}

static int take_number(const struct number *n, const char *value, struct yk_rdma_settings *s, struct yk_err *err) {
    uint64_t count;
    if (yk_parse_count(value, &count, NULL) < 0 || !is_in(count, n))
        return yk_err_set(err, -YK_EINVAL, "rdma: %s: found '%.20s', expected a number from %u to %u", n->name, value,
                          n->low, n->high);
    *(uint32_t *)(void *)((char *)s + n->at) = (uint32_t)count;
    return 0;
}

/* NAME or NAME:PORT. */
static int take_device(const char *value, struct yk_rdma_settings *s, struct yk_err *err) {
    const char *colon = strchr(value, ':');
    size_t len = colon != NULL ? (size_t)(colon - value) : strlen(value);
    uint64_t port = 0;
    if (len == 0 || len >= sizeof(s->device[0].name) || strchr(value, '/') != NULL ||
        (colon != NULL && (yk_parse_count(colon + 1, &port, NULL) < 0 || port < 1 || port > 255)))
        return yk_err_set(err, -YK_EINVAL, "rdma: device: found '%.70s', expected NAME or NAME:PORT, such as mlx5_0:1",
                          value);
    if (s->device_count == YK_RDMA_NAMED_MAX)
        return yk_err_set(err, -YK_EINVAL, "rdma: more than %u devices", YK_RDMA_NAMED_MAX);
    memcpy(s->device[s->device_count].name, value, len);
    s->device[s->device_count].name[len] = 0;
    s->device[s->device_count++].port = (uint32_t)port;
    return 0;
}

static int take(char *entry, struct yk_rdma_settings *s, struct yk_err *err) {
    char *value = strchr(entry, '=');
    if (value != NULL) {
        *value++ = 0;
        if (strcmp(entry, "device") == 0)
            return take_device(value, s, err);
        for (size_t i = 0; i < NUMBERS; i++)
            if (strcmp(entry, numbers[i].name) == 0)
                return take_number(&numbers[i], value, s, err);
    }
    return yk_err_set(err, -YK_EINVAL, "rdma: found '%.40s', expected device=NAME[:PORT], gid-index=, traffic-class=, "
                                       "service-level= or depth=, with commas between", entry);
}

int yk_rdma_settings_parse(const char *text, struct yk_rdma_settings *ret_settings, struct yk_err *err) {
    struct yk_rdma_settings s = {.gid_index = YK_RDMA_ANY_GID, .depth = YK_RDMA_DEPTH};
    char entry[100];
    for (const char *at = text; at != NULL; at = *at == ',' ? at + 1 : NULL) {
        size_t len = strcspn(at, ",");
        snprintf(entry, sizeof(entry), "%.*s", (int)(len < sizeof(entry) ? len : sizeof(entry) - 1), at);
        int rc = take(entry, &s, err);
        if (rc < 0)
            return rc;
        at += len;
    }
    *ret_settings = s;
    return 0;
}

int yk_rdma_settings_check(const char *text, struct yk_err *err) {
    struct yk_rdma_settings s;
    return yk_rdma_settings_parse(text, &s, err);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * The embedded node's entry points (src/node/embed.h).
 */
#include "node/embed.h"

#include "node/cxl_place.h"
#include "node/node.h"
#include "node/ssd_place.h"
#include "sched/policy.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DRAM_DEFAULT (256ull << 20)

struct embed_opts {
    struct yk_node_opts node;
    char policy[32];
    char name[64];
    char transfer[280];
    char ssd[YK_SSD_DEVICES_MAX][YK_SSD_PLACE_PATH + 32u]; /* PATH:SIZE */
    struct yk_ssd_place places[YK_SSD_DEVICES_MAX];
    int trim; /* enum: as trim_names */
};

#define ADMITS_MAX 16

static const char *const when_names[] = {"demotion", "write-through", NULL};
static const char *const trim_names[] = {"auto", "on", "off", NULL};

static int set_text(char *to, size_t cap, const char *name, const char *value, struct yk_err *err) {
    if (strlen(value) >= cap)
        return yk_err_set(err, -YK_EINVAL, "embedded: %s is longer than %zu bytes", name, cap - 1);
    memcpy(to, value, strlen(value) + 1);
    return 0;
}

static int set_flag(uint8_t *to, const char *value, struct yk_err *err) {
    bool b = false;
    int rc = yk_parse_bool(value, &b, err);
    *to = b;
    return rc;
}

/* YK_MISS: it is none of them. */
static int set_ssd(struct embed_opts *o, const char *name, const char *value, struct yk_err *err) {
    struct yk_store_ssd_opts *s = &o->node.store.ssd;
    uint64_t n = 0;
    int rc, which = 0;
    if (strcmp(name, "ssd") == 0) {
        if (s->dev_count == YK_SSD_DEVICES_MAX)
            return yk_err_set(err, -YK_EINVAL, "ssd: expected at most %u places",
                              YK_SSD_DEVICES_MAX);
        return set_text(o->ssd[s->dev_count++], sizeof(o->ssd[0]), name, value, err);
    }
    if (strcmp(name, "ssd_only_on") == 0 || strcmp(name, "ssd_admit") == 0) {
        int when = strcmp(name, "ssd_only_on") == 0;
        const char *admit_names[ADMITS_MAX + 1] = {NULL};
        for (int i = 0; i < ADMITS_MAX && yk_policy_admit_list()[i].name != NULL; i++)
            admit_names[i] = yk_policy_admit_list()[i].name;
        rc = yk_parse_enum(value, when ? when_names : admit_names, &which, err);
        *(when ? &s->when : &s->admit) = (uint8_t)which;
        return rc;
    }
    if (strcmp(name, "ssd_trim") == 0)
        return yk_parse_enum(value, trim_names, &o->trim, err);
    if (strcmp(name, "ssd_segment") == 0)
        return yk_parse_size(value, &s->segment_bytes, err);
    if (strcmp(name, "ssd_write_limit") == 0)
        return yk_parse_size(value, &s->write_limit_bps, err);
    if (strcmp(name, "ssd_capacity_blocks") == 0)
        return yk_parse_count(value, &s->capacity_blocks, err);
    if (strcmp(name, "ssd_clean_percent") == 0) {
        rc = yk_parse_count(value, &n, err);
        s->clean_percent = n < 900u ? (uint32_t)n : 900u;
        return rc;
    }
    if (strcmp(name, "ssd_wait") == 0) {
        rc = yk_parse_duration(value, &n, err);
        s->wait_ms = n < 3600ull * 1000000000ull ? (uint32_t)((n + 999999u) / 1000000u) : 3600000u;
        return rc;
    }
    if (strcmp(name, "ssd_format") == 0)
        return set_flag(&s->format, value, err);
    if (strcmp(name, "ssd_buffered") == 0)
        return set_flag(&s->buffered, value, err);
    if (strcmp(name, "ssd_stop") == 0) {
        rc = yk_parse_duration(value, &n, err);
        o->node.settle_ms = (uint32_t)(n / 1000000u < UINT32_MAX ? n / 1000000u : UINT32_MAX);
        return rc;
    }
    if (strcmp(name, "prefetch_ahead") == 0)
        return set_flag(&s->ahead, value, err);
    if (strcmp(name, "ssd_preload") == 0) {
        rc = set_flag(&s->no_preload, value, err);
        s->no_preload = !s->no_preload;
        return rc;
    }
    return YK_MISS;
}

/* When all options are known: a directory's file has the node's name. */
static int find_places(struct embed_opts *o, struct yk_err *err) {
    struct yk_store_ssd_opts *s = &o->node.store.ssd;
    struct yk_err why = {0};
    int blocks = s->dev_count > 0;
    s->name = o->name;
    for (uint32_t i = 0; i < s->dev_count; i++) {
        int rc = yk_ssd_place_parse(o->ssd[i], o->name[0] != 0 ? o->name : "embedded",
                                    s->segment_bytes, &o->places[i], &why);
        if (rc < 0)
            return yk_err_set(err, rc, "ssd: %s", why.text);
        s->dev[i] = (struct yk_ssd_dev_opts){o->places[i].path, o->places[i].size_bytes};
        blocks &= o->places[i].is_block;
    }
    s->trim = o->trim == 1 || (o->trim == 0 && blocks);
    return 0;
}

static int set_option(struct embed_opts *o, const char *name, const char *value,
                      struct yk_err *err) {
    uint64_t n = 0;
    int rc;
    if (strcmp(name, "dram") == 0)
        return yk_parse_size(value, &o->node.store.segment.data_bytes, err);
    if (strcmp(name, "cxl") == 0)
        return yk_cxl_place_parse(value, &o->node.store.cxl.bytes, &o->node.store.cxl.node, err);
    if (strcmp(name, "cxl_use_percent") == 0) {
        rc = yk_parse_count(value, &n, err);
        if (rc == 0 && (n < 100 || n > 10000))
            rc = yk_err_set(err, -YK_EINVAL, "embedded: cxl_use_percent: found %s, expected 100 to 10000", value);
        if (rc == 0)
            o->node.store.cxl.figures = (struct yk_cxl_figures){100, 10000000000ull, n, 1000000000000ull / n};
        return rc;
    }
    if (strcmp(name, "capacity_blocks") == 0)
        return yk_parse_count(value, &o->node.store.capacity_blocks, err);
    if (strcmp(name, "max_blocks") == 0) {
        rc = yk_parse_count(value, &n, err);
        if (rc == 0 && n > UINT32_MAX)
            rc = yk_err_set(err, -YK_EINVAL, "embedded: max_blocks %s is over %u", value,
                            UINT32_MAX);
        o->node.store.segment.max_blocks = (uint32_t)n;
        return rc;
    }
    if (strcmp(name, "max_clients") == 0) {
        rc = yk_parse_count(value, &n, err);
        if (rc == 0 && (n == 0 || n > 65535))
            rc = yk_err_set(err, -YK_EINVAL, "embedded: max_clients: found %s, expected 1 to 65535",
                            value);
        o->node.store.segment.max_clients = (uint32_t)n + 1u; /* slot 0 is the node's */
        return rc;
    }
    if (strcmp(name, "policy") == 0)
        return set_text(o->policy, sizeof(o->policy), name, value, err);
    if (strcmp(name, "name") == 0)
        return set_text(o->name, sizeof(o->name), name, value, err);
    if (strcmp(name, "transfer") == 0)
        return set_text(o->transfer, sizeof(o->transfer), name, value, err);
    if (strcmp(name, "listen") == 0) {
        rc = yk_parse_addr(value, &o->node.listen[0], err);
        o->node.listen_count = 1;
        return rc;
    }
    rc = set_ssd(o, name, value, err);
    if (rc != YK_MISS)
        return rc;
    return yk_err_set(
        err, -YK_EINVAL,
        "embedded: found option '%s', expected dram, cxl, capacity_blocks, max_blocks, max_clients, "
        "policy, name, listen, transfer, ssd, or one of ssd_only_on, _admit, _segment, _trim, "
        "_write_limit, _wait, _capacity_blocks, _clean_percent, _format, _buffered, _preload, or prefetch_ahead",
        name);
}

static int parse(const char *options, struct embed_opts *o, struct yk_err *err) {
    char *copy = strdup(options != NULL ? options : "");
    char *save = NULL;
    int rc = copy != NULL ? 0 : yk_err_set(err, -YK_ENOMEM, "out of memory");
    for (char *p = rc == 0 ? strtok_r(copy, ",", &save) : NULL; p != NULL && rc == 0;
         p = strtok_r(NULL, ",", &save)) {
        char *eq = strchr(p, '=');
        if (eq == NULL) {
            rc = yk_err_set(err, -YK_EINVAL, "embedded: found '%s', expected NAME=VALUE", p);
            break;
        }
        *eq = 0;
        rc = set_option(o, p, eq + 1, err);
    }
    free(copy);
    return rc;
}

/* The node's texts name yolkd's options; here --max-blocks is max_blocks. */
static void name_options(char *text) {
    char *to = text;
    for (const char *from = text; *from != 0;) {
        if (strncmp(from, "--", 2) != 0) {
            *to++ = *from++;
            continue;
        }
        for (from += 2; (*from >= 'a' && *from <= 'z') || *from == '-'; from++)
            *to++ = *from == '-' ? '_' : *from;
    }
    *to = 0;
}

static int fail(int rc, const struct yk_err *err, char *text, size_t cap) {
    if (text == NULL || cap == 0)
        return rc;
    snprintf(text, cap, "%s", err->text[0] != 0 ? err->text : yk_status_text(rc));
    name_options(text);
    return rc;
}

int yk_node_embed(const char *options, int *ret_fd, void **ret_node, char *text, size_t cap) {
    struct embed_opts o = {.node = {.store = {.segment = {.data_bytes = DRAM_DEFAULT,
                                                          .max_clients = 256 + 1,
                                                          .numa_node = -1},
                                              .reserve_percent = 2,
                                              .held_percent = 25,
                                              .ssd = {.ahead = 1}},
                                    .scrub_interval_s = 3600,
                                    .settle_ms = 10000},
                           .policy = "lru"};
    struct yk_err err = {0};
    struct yk_node *node;
    int rc = parse(options, &o, &err);
    if (rc == 0)
        rc = find_places(&o, &err);
    if (rc < 0)
        return fail(rc, &err, text, cap);
    o.node.store.policy = o.policy;
    o.node.store.segment.name = o.name[0] != 0 ? o.name : NULL;
    o.node.transfer = o.transfer[0] != 0 ? o.transfer : NULL;
    rc = yk_node_start(&o.node, &node, &err);
    if (rc < 0)
        return fail(rc, &err, text, cap);
    rc = yk_node_connect(node, ret_fd);
    if (rc < 0) {
        yk_node_stop(node);
        return fail(rc, &err, text, cap);
    }
    *ret_node = node;
    return 0;
}

int yk_node_embed_connect(void *node, int *ret_fd) {
    return yk_node_connect(node, ret_fd);
}

void yk_node_unembed(void *node) {
    yk_node_stop(node);
}

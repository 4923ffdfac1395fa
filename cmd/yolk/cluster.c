/* SPDX-License-Identifier: Apache-2.0
 *
 * yolk nodes, slots, locate: the cluster that a node is in; and what balance.c needs of that (cluster.h).
 *
 * The node of --url says in its statistics where its peers reach it, and there it is asked as a guest
 * (dir/guest.h); with --peer nothing else is needed. One node tells all that it knows of the map and of the others.
 * locate goes on to the owners of the slots that the key may stand in, as a node would.
 */
#include "cluster.h"
#include "commands.h"
#include "keys.h"

#include "base/fmt.h"
#include "base/text.h"
#include "dir/core.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HOPS_MAX 3

static const struct yk_opt rows[] = {YOLK_PEER_ROW};

static const struct yk_opt locate_rows[] = {
    YOLK_PEER_ROW,
    {.name = "hex",
     .letter = 'x',
     .type = YK_OPT_BOOL,
     YK_OPT_AT(struct yolk_cluster_config, hex),
     .help = "The key is hex digits."},
};

/* ---- asking ----------------------------------------------------------------------------------- */

/* Where the node of --url listens for peers. */
static int find_peer(struct yolk_ctx *ctx, char *ret, size_t size) {
    char *text = NULL;
    int code = yolk_open_node(ctx);
    if (code != 0)
        return code;
    int rc = yk_stats_json(ctx->client, &text);
    if (rc < 0)
        return yolk_fail_call(ctx, rc, ctx->cmd->name, NULL);
    json_t *stats = json_loads(text, 0, NULL);
    const char *peers = json_string_value(json_object_get(stats, "peers"));
    if (peers != NULL)
        snprintf(ret, size, "%s", peers);
    json_decref(stats);
    free(text);
    return peers != NULL ? 0
                         : yolk_fail(YOLK_FAIL, "%s: this node is in no cluster (yolkd --etcd)", ctx->cmd->name);
}

static int guest_fail(const struct yolk_ctx *ctx, const struct yk_err *err) {
    return yolk_fail(yolk_exit_of(err->code), "%s: %s", ctx->cmd->name, err->text);
}

int yolk_guest_open(struct yolk_ctx *ctx, const char *address, struct yk_guest **ret) {
    struct yk_err err = {0};
    return yk_guest_open(address, yolk_timeout_ms(ctx), ret, &err) == 0 ? 0 : guest_fail(ctx, &err);
}

int yolk_guest_ask(struct yolk_ctx *ctx, struct yk_guest *guest, unsigned op, const struct yk_wr *request,
                   const void **ret_body, uint32_t *ret_len) {
    struct yk_err err = {0};
    int rc = yk_guest_ask(guest, op, request != NULL ? request->base : NULL,
                          request != NULL ? (uint32_t)yk_wr_len(request) : 0, yolk_timeout_ms(ctx), ret_body,
                          ret_len, &err);
    return rc == 0 ? 0 : guest_fail(ctx, &err);
}

int yolk_guest_info(struct yolk_ctx *ctx, struct yk_guest *guest, json_t **io_info) {
    const void *body;
    uint32_t len;
    int code = yolk_guest_ask(ctx, guest, YK_DIR_INFO, NULL, &body, &len);
    if (code != 0)
        return code;
    json_decref(*io_info);
    *io_info = json_loadb(body, len, 0, NULL);
    return *io_info != NULL ? 0 : yolk_fail(YOLK_FAIL, "%s: the node's answer cannot be read", ctx->cmd->name);
}

int yolk_cluster_open(struct yolk_ctx *ctx, struct yolk_cluster *c) {
    const struct yolk_cluster_config *config = ctx->config;
    char address[300];
    int code = 0;
    memset(c, 0, sizeof(*c));
    if (config->peer != NULL)
        snprintf(address, sizeof(address), "%s", config->peer);
    else
        code = find_peer(ctx, address, sizeof(address));
    if (code == 0)
        code = yolk_guest_open(ctx, address, &c->guest);
    return code != 0 ? code : yolk_guest_info(ctx, c->guest, &c->info);
}

static int map_get(struct yolk_ctx *ctx, struct yolk_cluster *c) {
    struct yk_err err = {0};
    const void *body;
    uint32_t len;
    int code = yolk_guest_ask(ctx, c->guest, YK_DIR_MAP, NULL, &body, &len);
    if (code == 0 && yk_dir_map_decode(body, len, &c->map, &err) < 0)
        code = yolk_fail(YOLK_FAIL, "%s: the node's map cannot be read: %s", ctx->cmd->name, err.text);
    return code;
}

void yolk_cluster_close(struct yolk_cluster *c) {
    yk_guest_close(c->guest);
    json_decref(c->info);
    free(c->map);
}

/* ---- nodes ------------------------------------------------------------------------------------ */

static const char *text_of(const json_t *node, const char *key) {
    const char *text = json_string_value(json_object_get(node, key));
    return text != NULL && text[0] != 0 ? text : "-";
}

const char *yolk_member_state(const json_t *member) {
    const char *state = text_of(member, "state");
    if (strcmp(state, "member") != 0)
        return state;
    if (!json_is_true(json_object_get(member, "alive")))
        return "silent";
    if (json_is_true(json_object_get(member, "suspect")))
        return "suspect";
    return json_is_true(json_object_get(member, "draining")) ? "draining" : "member";
}

static void print_node(const json_t *node) {
    char bytes[YK_FMT_MAX], name[YOLK_KEY_TEXT_MAX], zone[YOLK_KEY_TEXT_MAX], peers[YOLK_KEY_TEXT_MAX];
    char text[YOLK_KEY_TEXT_MAX];
    printf("%5lld %-10s %6lld %10s %12lld  %-21s %-10s %s\n",
           (long long)json_integer_value(json_object_get(node, "id")), yolk_member_state(node), (long long)json_integer_value(json_object_get(node, "slots")),
           yk_fmt_bytes((uint64_t)json_integer_value(json_object_get(node, "capacity_bytes")), bytes),
           (long long)json_integer_value(json_object_get(node, "entries")),
           yolk_safe_text(text_of(node, "peers"), peers), yolk_safe_text(text_of(node, "zone"), zone),
           yolk_safe_text(text_of(node, "name"), name));
    const char *trouble = json_string_value(json_object_get(node, "trouble"));
    if (trouble != NULL && trouble[0] != 0)
        printf("%5s %s\n", "", yolk_safe_text(trouble, text));
}

static int print_line(const json_t *value) {
    char *line = json_dumps(value, JSON_COMPACT | JSON_PRESERVE_ORDER);
    if (line == NULL)
        return yolk_fail(YOLK_FAIL, "out of memory");
    puts(line);
    free(line);
    return YOLK_OK;
}

static int run_nodes(struct yolk_ctx *ctx) {
    struct yolk_cluster c;
    size_t i;
    json_t *node;
    int code = yolk_cluster_open(ctx, &c);
    if (code == 0 && !ctx->common->json)
        printf("%5s %-10s %6s %10s %12s  %-21s %-10s %s\n", "ID", "STATE", "SLOTS", "CAPACITY", "ENTRIES", "PEERS",
               "ZONE", "NAME");
    json_array_foreach(json_object_get(c.info, "nodes"), i, node) {
        if (code == 0 && ctx->common->json)
            code = print_line(node);
        else if (code == 0)
            print_node(node);
    }
    yolk_cluster_close(&c);
    return code;
}

const struct yolk_cmd yolk_cmd_nodes = {
    .name = "nodes",
    .help = "list the nodes of the cluster",
    .more = "As the node that is asked knows them. A member is silent when its lease has ended and the map still "
            "names it, suspect when that node cannot reach it.",
    YOLK_CMD_OPTIONS(rows),
    .config_bytes = sizeof(struct yolk_cluster_config),
    .fn = run_nodes,
};

/* ---- slots ------------------------------------------------------------------------------------ */

static const char *name_of(const struct yk_dir_map *map, uint32_t id) {
    const struct yk_dir_member *m = yk_dir_map_member((struct yk_dir_map *)(uintptr_t)map, id);
    return m != NULL ? m->name : "-";
}

static void print_slots(const struct yk_dir_map *map, uint32_t first, uint32_t last, bool json) {
    const struct yk_dir_slot *s = &map->slot[first];
    char range[32];
    if (json) {
        struct yk_json j;
        yk_json_init_file(&j, stdout);
        yk_json_begin_object(&j);
        yk_json_put_uint(&j, "first", first);
        yk_json_put_uint(&j, "last", last);
        yk_json_put_uint(&j, "owner", s->owner);
        yk_json_put_str(&j, "name", name_of(map, s->owner));
        yk_json_put_uint(&j, "term", s->term);
        yk_json_end_object(&j);
        yk_json_newline(&j);
        yk_json_finish(&j);
        return;
    }
    snprintf(range, sizeof(range), first == last ? "%u" : "%u-%u", first, last);
    printf("%-11s %10llu %5u  %s\n", range, (unsigned long long)s->term, s->owner, name_of(map, s->owner));
}

static int run_slots(struct yolk_ctx *ctx) {
    struct yolk_cluster c;
    int code = yolk_cluster_open(ctx, &c);
    if (code == 0)
        code = map_get(ctx, &c);
    if (code == 0 && !ctx->common->json)
        printf("%-11s %10s %5s  %s\n", "SLOTS", "TERM", "OWNER", "NAME");
    for (uint32_t first = 0, last; code == 0 && first < YK_DIR_SLOTS; first = last + 1u) {
        const struct yk_dir_slot *s = c.map->slot;
        for (last = first; last + 1u < YK_DIR_SLOTS && s[last + 1u].owner == s[first].owner &&
                           s[last + 1u].term == s[first].term;)
            last++;
        print_slots(c.map, first, last, ctx->common->json);
    }
    yolk_cluster_close(&c);
    return code;
}

const struct yolk_cmd yolk_cmd_slots = {
    .name = "slots",
    .help = "list which node owns which slots of the directory",
    .more = "A line for each run of slots with one owner and one term.",
    YOLK_CMD_OPTIONS(rows),
    .config_bytes = sizeof(struct yolk_cluster_config),
    .fn = run_slots,
};

/* ---- locate ----------------------------------------------------------------------------------- */

static const char *address_of(const struct yolk_cluster *c, uint32_t id) {
    size_t i;
    json_t *node;
    json_array_foreach(json_object_get(c->info, "nodes"), i, node) {
        if (json_integer_value(json_object_get(node, "id")) == id)
            return json_string_value(json_object_get(node, "peers"));
    }
    return NULL;
}

/* One question to the owner of the slot. */
static int find(struct yolk_ctx *ctx, const struct yolk_cluster *c, const yk_key *key, uint64_t epoch, uint64_t group,
                uint32_t slot, struct yk_dirw_found *ret) {
    const char *ns = ctx->common->name_space, *address = address_of(c, c->map->slot[slot].owner);
    struct yk_dirw_keys head = {.ns = {ns, (uint32_t)strlen(ns)}, .epoch = epoch, .n = 1};
    unsigned char request[1024];
    struct yk_guest *guest = NULL;
    const void *body;
    uint32_t len;
    struct yk_wr w;
    struct yk_rd r;
    if (address == NULL)
        return yolk_fail(YOLK_FAIL, "locate: the owner of slot %u is not there", slot);
    yk_wr_init(&w, request, sizeof(request));
    yk_wr_dir_keys(&w, &head);
    yk_wr_u64(&w, group);
    yk_wr_str8(&w, key->data, key->len);
    int code = yolk_guest_open(ctx, address, &guest);
    if (code == 0)
        code = yolk_guest_ask(ctx, guest, YK_DIR_FIND, &w, &body, &len);
    if (code == 0) {
        yk_rd_init(&r, body, len);
        (void)yk_rd_u64(&r);
        uint32_t n = yk_rd_u32(&r);
        yk_rd_dir_found(&r, ret);
        if (n != 1 || !yk_rd_ok(&r))
            code = yolk_fail(YOLK_FAIL, "locate: the node's answer cannot be read");
    }
    yk_guest_close(guest);
    return code;
}

static void tiers_text(unsigned tiers, char *ret, size_t size) {
    static const char *const names[] = {"any", "dram", "ssd", "cxl", "vram"};
    size_t len = 0;
    ret[0] = 0;
    for (unsigned t = 1; t < sizeof(names) / sizeof(names[0]); t++)
        if ((tiers & 1u << t) && len < size)
            len += (size_t)snprintf(ret + len, size - len, "%s%s", len > 0 ? "," : "", names[t]);
}

static void print_copy(const struct yolk_ctx *ctx, const struct yolk_cluster *c, uint32_t slot,
                       const struct yk_dirw_found *f, const struct yk_dirw_copy *copy) {
    char tiers[40], bytes[YK_FMT_MAX], sum[24];
    tiers_text(copy->tiers, tiers, sizeof(tiers));
    if (!ctx->common->json) {
        printf("%-16s %-10s %10s %5u\n", name_of(c->map, copy->member), tiers, yk_fmt_bytes(f->len, bytes), slot);
        return;
    }
    struct yk_json j;
    snprintf(sum, sizeof(sum), "%016llx", (unsigned long long)f->sum);
    yk_json_init_file(&j, stdout);
    yk_json_begin_object(&j);
    yk_json_put_str(&j, "node", name_of(c->map, copy->member));
    yk_json_put_uint(&j, "id", copy->member);
    yk_json_put_str(&j, "tiers", tiers);
    yk_json_put_uint(&j, "len", f->len);
    yk_json_put_str(&j, "checksum", sum);
    yk_json_put_uint(&j, "epoch", f->epoch);
    yk_json_put_uint(&j, "slot", slot);
    yk_json_put_bool(&j, "guest", (copy->tiers & YK_DIR_GUEST) != 0);
    yk_json_put_uint(&j, "wanted", YK_DIR_WANTED(copy->tiers));
    yk_json_end_object(&j);
    yk_json_newline(&j);
    yk_json_finish(&j);
}

/* The epoch that blocks have now, when none was given. */
int yolk_cluster_epoch(struct yolk_ctx *ctx, uint64_t *ret) {
    yk_ns_info infos[256];
    *ret = (uint64_t)ctx->common->epoch;
    if (*ret != 0)
        return 0;
    int code = ctx->client != NULL ? 0 : yolk_open_node(ctx);
    int n = code == 0 ? yk_ns_list(ctx->client, infos, 256) : 0;
    for (int i = 0; i < n && i < 256; i++)
        if (strcmp(infos[i].name, ctx->common->name_space) == 0)
            *ret = infos[i].epoch;
    return n < 0 ? yolk_fail_call(ctx, n, ctx->cmd->name, NULL) : code;
}

static int locate(struct yolk_ctx *ctx, struct yolk_cluster *c, const yk_key *key) {
    const char *ns = ctx->common->name_space;
    struct yk_dirw_found f = {.status = YK_MISS};
    uint64_t epoch = 0, hash = yk_dir_hash(ns, (uint32_t)strlen(ns), key->data, (uint32_t)key->len), group = 0;
    uint32_t slot = yk_dir_slot_of(hash);
    int code = yolk_cluster_epoch(ctx, &epoch);
    for (int hop = 0; code == 0 && hop < HOPS_MAX; hop++) {
        code = find(ctx, c, key, epoch, group, slot, &f);
        if (code != 0 || f.status != -YK_EAGAIN || f.group == 0)
            break;
        group = f.group;
        slot = yk_dir_slot_of(group);
    }
    if (code != 0)
        return code;
    if (f.status == YK_PENDING)
        return yolk_fail(YOLK_FAIL, "locate: slot %u is being rebuilt; try again", slot);
    if (f.status != 0)
        return yolk_fail_call(ctx, f.status < 0 ? f.status : YK_MISS, "locate", key);
    if (!ctx->common->json)
        printf("%-16s %-10s %10s %5s\n", "NODE", "TIERS", "BYTES", "SLOT");
    for (uint32_t i = 0; i < f.count; i++)
        print_copy(ctx, c, slot, &f, &f.copy[i]);
    return YOLK_OK;
}

static int run_locate(struct yolk_ctx *ctx) {
    const struct yolk_cluster_config *config = ctx->config;
    unsigned char storage[YK_KEY_MAX];
    struct yolk_cluster c = {0};
    yk_key key;
    int code = yolk_key_from_arg(ctx->args[0], config->hex, storage, &key);
    if (code != 0)
        return code;
    code = yolk_cluster_open(ctx, &c);
    if (code == 0)
        code = map_get(ctx, &c);
    if (code == 0)
        code = locate(ctx, &c, &key);
    yolk_cluster_close(&c);
    return code;
}

const struct yolk_cmd yolk_cmd_locate = {
    .name = "locate",
    .args = "KEY",
    .min_args = 1,
    .max_args = 1,
    .help = "say which nodes have a block",
    .more = "As the owner of its slot knows it; that is not a use of the block.",
    YOLK_CMD_OPTIONS(locate_rows),
    .config_bytes = sizeof(struct yolk_cluster_config),
    .fn = run_locate,
};

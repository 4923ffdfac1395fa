/* SPDX-License-Identifier: Apache-2.0
 *
 * How far a chain reaches at each node (route_held.h). Members are asked themselves, one question each, and not the
 * owners of slots: that takes one question for all keys, and the answer is what is there now.
 */
#include "route_held.h"

#include <stdlib.h>
#include <string.h>

/* Blocks from the head on, in DRAM, and in any tier. */
struct lead {
    uint32_t dram, ssd;
    bool dram_ends;
};

/* Of an answer that is whole; the run ends at the first that is not there. */
static int read_lead(struct yk_rd r, uint32_t asked, struct lead *ret) {
    struct lead lead = {0};
    bool ends = yk_rd_u32(&r) != asked;
    for (uint32_t i = 0; i < asked; i++) {
        struct yk_dirw_have have;
        yk_rd_dir_have(&r, &have);
        ends |= have.status != 0;
        lead.dram_ends |= ends || (have.tiers & 1u << YK_TIER_DRAM) == 0;
        lead.dram += !lead.dram_ends;
        lead.ssd += !ends;
    }
    if (!yk_rd_ok(&r))
        return -YK_EPROTO;
    *ret = lead;
    return 0;
}

static int ask_member(struct yolk_ctx *ctx, const char *address, const struct yk_wr *question, uint32_t asked,
                      struct lead *ret) {
    struct yk_guest *guest = NULL;
    struct yk_err err;
    const void *body;
    uint32_t len;
    struct yk_rd r;
    int rc = yk_guest_open(address, yolk_timeout_ms(ctx), &guest, &err);
    if (rc == 0)
        rc = yk_guest_ask(guest, YK_DIR_HAVE, question->base, (uint32_t)yk_wr_len(question), yolk_timeout_ms(ctx), &body,
                          &len, &err);
    if (rc == 0) {
        yk_rd_init(&r, body, len);
        rc = read_lead(r, asked, ret);
    }
    yk_guest_close(guest);
    return rc;
}

static void ask_all(struct yolk_ctx *ctx, const json_t *nodes, const struct yk_wr *question, uint32_t asked,
                    json_t *held) {
    size_t i;
    json_t *node;
    json_array_foreach(nodes, i, node) {
        const char *address = json_string_value(json_object_get(node, "peers"));
        const char *name = json_string_value(json_object_get(node, "name"));
        struct lead lead = {0};
        if (address == NULL || name == NULL || strcmp(yolk_member_state(node), "member") != 0)
            continue;
        if (ask_member(ctx, address, question, asked, &lead) == 0 && lead.ssd > 0)
            json_object_set_new(held, name, json_pack("{s:i, s:i}", "dram", (int)lead.dram, "ssd", (int)lead.ssd));
    }
}

int yolk_route_held(struct yolk_ctx *ctx, const yk_key *keys, size_t n, json_t **ret_held) {
    const char *ns = ctx->common->name_space;
    struct yolk_cluster c;
    struct yk_wr w;
    uint64_t epoch = 0;
    size_t asked = n < YK_DIR_KEYS_MAX ? n : YK_DIR_KEYS_MAX, cap = 512 + asked * 260;
    void *question = malloc(cap);
    *ret_held = json_object();
    int code = yolk_cluster_open(ctx, &c);
    if (code == 0)
        code = yolk_cluster_epoch(ctx, &epoch);
    if (code == 0 && (question == NULL || *ret_held == NULL))
        code = yolk_fail(YOLK_FAIL, "out of memory");
    if (code == 0) {
        struct yk_dirw_keys head = {.ns = {ns, (uint32_t)strlen(ns)}, .epoch = epoch, .n = (uint32_t)asked};
        yk_wr_init(&w, question, cap);
        yk_wr_dir_keys(&w, &head);
        for (size_t i = 0; i < asked; i++)
            yk_wr_str8(&w, keys[i].data, keys[i].len);
        ask_all(ctx, json_object_get(c.info, "nodes"), &w, (uint32_t)asked, *ret_held);
    }
    yolk_cluster_close(&c);
    free(question);
    return code;
}

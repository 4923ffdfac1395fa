/* SPDX-License-Identifier: Apache-2.0
 *
 * yolk sim --beside FILE (sim_tenants.h).
 */
#include "sim_tenants.h"

#include "base/fmt.h"
#include "base/text.h"

#include <inttypes.h>
#include <stdio.h>

static double ratio_of(uint64_t part, uint64_t all) {
    return all > 0 ? (double)part / (double)all : 0;
}

static struct yk_sim_tenant_result sum_of(const struct yk_sim_tenant_result *of, uint32_t count) {
    struct yk_sim_tenant_result sum = {0};
    for (uint32_t i = 0; i < count; i++) {
        sum.requests += of[i].requests;
        sum.blocks += of[i].blocks;
        sum.hit_blocks += of[i].hit_blocks;
    }
    return sum;
}

static void put_hits(struct yk_json *json, const struct yk_sim_tenant_result *r) {
    yk_json_put_uint(json, "requests", r->requests);
    yk_json_put_uint(json, "total_blocks", r->blocks);
    yk_json_put_uint(json, "hit_blocks", r->hit_blocks);
    yk_json_put_double(json, "hit_ratio", ratio_of(r->hit_blocks, r->blocks));
}

static void put_tenant(struct yk_json *json, const struct sim_tenants *w, uint32_t i, const struct yk_sim_tenant_result *r) {
    yk_json_begin_object(json);
    yk_json_put_str(json, "trace", w->files[i]);
    put_hits(json, r);
    yk_json_put_uint(json, "end_blocks", r->end_blocks);
    if (w->shares) {
        yk_json_put_uint(json, "share_blocks", r->share_blocks);
        yk_json_put_double(json, "share_hit_ratio", r->share_hit_ratio);
    }
    yk_json_end_object(json);
}

static int print_json(const struct sim_tenants *w, const struct yk_sim_tenant_result *of) {
    struct yk_sim_tenant_result sum = sum_of(of, w->count);
    struct yk_json json;
    yk_json_init_file(&json, stdout);
    yk_json_begin_object(&json);
    yk_json_put_str(&json, "policy", w->policy);
    yk_json_put_uint(&json, "capacity", w->capacity);
    yk_json_put_uint(&json, "seed", w->seed);
    yk_json_put_bool(&json, "shares", w->shares);
    put_hits(&json, &sum);
    yk_json_key(&json, "tenants");
    yk_json_begin_array(&json);
    for (uint32_t i = 0; i < w->count; i++)
        put_tenant(&json, w, i, &of[i]);
    yk_json_end_array(&json);
    int code = w->cost ? sim_shares_cost(w, &json) : YOLK_OK;
    yk_json_end_object(&json);
    yk_json_newline(&json);
    (void)yk_json_finish(&json);
    return code;
}

static void print_hits(const char *name, const struct yk_sim_tenant_result *r) {
    printf("%s: %" PRIu64 " / %" PRIu64 " blocks hit (%.2f %%) in %" PRIu64 " requests", name, r->hit_blocks, r->blocks,
           100 * ratio_of(r->hit_blocks, r->blocks), r->requests);
}

static int print_text(const struct sim_tenants *w, const struct yk_sim_tenant_result *of) {
    struct yk_sim_tenant_result sum = sum_of(of, w->count);
    char quoted[YK_QUOTE_MAX];
    printf("%s, %u blocks, %s, ", w->policy, w->capacity, w->shares ? "shares" : "one order for all");
    print_hits("all", &sum);
    puts("");
    for (uint32_t i = 0; i < w->count; i++) {
        print_hits(yk_quote(w->files[i], quoted), &of[i]);
        printf("; %" PRIu64 " blocks at the end", of[i].end_blocks);
        if (w->shares)
            printf(", of %" PRIu64 " that are its", of[i].share_blocks);
        puts("");
    }
    return w->cost ? sim_shares_cost(w, NULL) : YOLK_OK;
}

int sim_tenants(const struct sim_tenants *w) {
    struct yk_sim_tenants_opts opts = {.policy = w->policy, .capacity = w->capacity, .seed = w->seed, .shares = w->shares};
    struct yk_sim_tenant_result results[YK_SIM_TENANTS_MAX];
    struct yk_err err = {0};
    int rc = yk_sim_tenants_run(w->traces, w->count, &opts, results, &err);
    if (rc < 0)
        return yolk_fail(rc == -YK_EINVAL ? YOLK_USAGE : YOLK_FAIL, "%s", err.text);
    return w->json ? print_json(w, results) : print_text(w, results);
}

int sim_shares_cost(const struct sim_tenants *w, struct yk_json *json) {
    struct yk_sim_shares_cost cost;
    struct yk_err err = {0};
    if (yk_sim_shares_cost(w->traces, w->count, w->capacity, w->seed, &cost, &err) < 0)
        return yolk_fail(YOLK_FAIL, "%s", err.text);
    double blocks = cost.blocks > 0 ? (double)cost.blocks : 1;
    double hearing = (double)cost.hearing_ns / 1e3 / blocks, giving = (double)cost.giving_ns / 1e3 / blocks;
    if (json != NULL) {
        yk_json_put_double(json, "shares_us_per_block", hearing);
        yk_json_put_double(json, "shares_us_per_eviction", giving);
        yk_json_put_uint(json, "shares_divisions", cost.divisions);
        return YOLK_OK;
    }
    printf("CPU time of shares: %.3f us a block with %" PRIu64 " divisions, %.3f us an eviction\n", hearing, cost.divisions,
           giving);
    return YOLK_OK;
}

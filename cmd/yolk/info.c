/* SPDX-License-Identifier: Apache-2.0
 *
 * Attributes of a block, for people and as JSON (info.h).
 */
#include "info.h"

#include "keys.h"

#include "base/clock.h"
#include "base/fmt.h"

#include <stdio.h>
#include <string.h>

/* By bit of yk_block_info.tiers. */
static const char *const tier_names[] = {"elsewhere", "dram", "ssd", "cxl", "vram"};
static const char *const pin_names[] = {"-", "soft", "hard"};

#define N_TIERS (sizeof(tier_names) / sizeof(tier_names[0]))

static const char *pin_name(uint32_t pinned) {
    return pinned < 3 ? pin_names[pinned] : "?";
}

char *yolk_tiers_text(uint32_t tiers, char buf[YOLK_TIERS_MAX]) {
    size_t at = 0;
    buf[0] = '\0';
    for (unsigned i = 0; i < N_TIERS; i++)
        if (tiers & (1u << i))
            at += (size_t)snprintf(buf + at, YOLK_TIERS_MAX - at, "%s%s", at > 0 ? "," : "",
                                   tier_names[i]);
    if (at == 0)
        memcpy(buf, "-", 2);
    return buf;
}

void yolk_json_info(struct yk_json *json, const yk_block_info *info) {
    char text[32];
    yk_json_put_uint(json, "len", info->len);
    snprintf(text, sizeof(text), "%016llx", (unsigned long long)info->checksum);
    yk_json_put_str(json, "checksum", text);
    snprintf(text, sizeof(text), "%llu", (unsigned long long)info->generation);
    yk_json_put_str(json, "generation", text);
    yk_json_put_uint(json, "epoch", info->epoch);
    yk_json_put_uint(json, "expiry_ms", info->expiry_ms);
    yk_json_put_uint(json, "session", info->session);
    yk_json_key(json, "tiers");
    yk_json_begin_array(json);
    for (unsigned i = 0; i < N_TIERS; i++)
        if (info->tiers & (1u << i))
            yk_json_str(json, tier_names[i]);
    yk_json_end_array(json);
    yk_json_put_uint(json, "depth_tokens", info->depth_tokens);
    yk_json_put_uint(json, "length_tokens", info->length_tokens);
    yk_json_put_uint(json, "model", info->model);
    yk_json_put_uint(json, "kind", info->kind);
    yk_json_put_uint(json, "children", info->children);
    yk_json_put_str(json, "pinned", info->pinned == 0 ? NULL : pin_name(info->pinned));
    yk_json_put_bool(json, "has_parent", info->has_parent != 0);
}

/* Time to live that is left. */
static const char *ttl_text(uint64_t expiry_ms, char buf[YK_FMT_MAX]) {
    uint64_t now = yk_wall_ms();
    if (expiry_ms == 0)
        return "-";
    return yk_fmt_duration(expiry_ms > now ? (expiry_ms - now) * YK_NS_PER_MS : 0, buf);
}

void yolk_print_info_head(void) {
    printf("%12s %-9s %-5s %8s %8s  %s\n", "BYTES", "TIER", "PIN", "TTL", "CHILDREN", "KEY");
}

void yolk_print_info(yk_key key, const yk_block_info *info, bool hex) {
    char tiers[YOLK_TIERS_MAX], ttl[YK_FMT_MAX], text[YOLK_KEY_TEXT_MAX];
    printf("%12llu %-9s %-5s %8s %8u  %s\n", (unsigned long long)info->len,
           yolk_tiers_text(info->tiers, tiers), pin_name(info->pinned),
           ttl_text(info->expiry_ms, ttl), info->children, yolk_key_text(key, hex, text));
}

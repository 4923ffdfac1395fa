/* SPDX-License-Identifier: Apache-2.0
 *
 * The SSD tier's options against the machine (config.h): which files and devices, do they fit.
 *
 * What can be known without opening a device is found here, so that --check-config says it too; what
 * a device holds (another format, another node's blocks) is found by the start.
 */
#include "config.h"

#include "base/fmt.h"
#include "node/ssd_place.h"

#include <string.h>

#define SEGMENT_UNIT (1ull << 20)

/* The paths that the options point to; as long as the process. */
static struct yk_ssd_place places[YK_SSD_DEVICES_MAX];

static int add_place(const struct yolkd_config *config, uint32_t at, struct yk_err *err) {
    struct yk_err why = {0};
    int rc = yk_ssd_place_parse(config->ssd.items[at], config->name, config->ssd_segment_bytes,
                                &places[at], &why);
    if (rc < 0) {
        yk_opt_fail(&config->opts, "ssd", err, "%s", why.text);
        return rc;
    }
    for (uint32_t i = 0; i < at; i++)
        if (strcmp(places[i].path, places[at].path) == 0)
            return yk_opt_fail(&config->opts, "ssd", err,
                               "found '%.100s' twice, expected a place once", places[at].path);
    return 0;
}

static bool all_blocks(uint32_t n) {
    for (uint32_t i = 0; i < n; i++)
        if (!places[i].is_block)
            return false;
    return true;
}

int yolkd_config_ssd(const struct yolkd_config *config, struct yk_store_ssd_opts *ret_opts,
                     struct yk_err *err) {
    char text[YK_FMT_MAX];
    struct yk_store_ssd_opts o = {
        .name = config->name,
        .segment_bytes = config->ssd_segment_bytes,
        .capacity_blocks = (uint64_t)config->ssd_capacity_blocks,
        .write_limit_bps = config->ssd_write_limit,
        .clean_percent = (uint32_t)config->ssd_clean_percent,
        .wait_ms = (uint32_t)((config->ssd_wait_ns + 999999u) / 1000000u),
        .when = (uint8_t)config->ssd_only_on,
        .admit = (uint8_t)config->ssd_admit,
        .format = config->ssd_format,
        .buffered = config->ssd_buffered,
        .no_preload = !config->ssd_preload,
        .ahead = config->prefetch_ahead,
    };
    if (config->ssd.n > YK_SSD_DEVICES_MAX)
        return yk_opt_fail(&config->opts, "ssd", err, "found %zu places, expected at most %u",
                           config->ssd.n, YK_SSD_DEVICES_MAX);
    if (config->ssd_segment_bytes % SEGMENT_UNIT != 0)
        return yk_opt_fail(&config->opts, "ssd-segment", err, "found %s, expected whole MiB",
                           yk_fmt_bytes_exact(config->ssd_segment_bytes, text));
    if (config->ssd.n == 0 && config->ssd_format)
        return yk_opt_fail(&config->opts, "ssd-format", err,
                           "found it without --ssd, expected the places to format");
    for (; o.dev_count < config->ssd.n; o.dev_count++) {
        int rc = add_place(config, o.dev_count, err);
        if (rc < 0)
            return rc;
        o.dev[o.dev_count] = (struct yk_ssd_dev_opts){.path = places[o.dev_count].path,
                                                      .size_bytes = places[o.dev_count].size_bytes};
    }
    o.trim = config->ssd_trim == YOLKD_TRIM_ON ||
             (config->ssd_trim == YOLKD_TRIM_AUTO && o.dev_count > 0 && all_blocks(o.dev_count));
    *ret_opts = o;
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * An option table with every type, for the tests of the option table and for the fuzz target of the
 * configuration file.
 *
 * Thread: one at a time.
 */
#ifndef YK_TESTS_OPT_FIXTURE_H
#define YK_TESTS_OPT_FIXTURE_H

#include "base/opt.h"

#include <string.h>

struct config {
    uint64_t dram_bytes;
    uint64_t timeout_ns;
    int64_t clients;
    int shards;
    double high_water;
    double speed;
    char *path;
    char *token;
    char *file;
    int policy;
    struct yk_addr http;
    struct yk_opt_list listen;
    struct yk_opt_list tiers;
    bool json;
    bool scrub;
    bool check_config;
};

static const char *const policy_names[] = {"lru", "s3fifo", "chain-lru", NULL};
static const char *const tier_names[] = {"dram", "cxl", "ssd", NULL};

static inline int check_addr(const char *text, struct yk_err *err) {
    struct yk_addr addr;
    return yk_parse_addr(text, &addr, err);
}

static const struct yk_opt options[] = {
    {.name = "config",
     .letter = 'c',
     .type = YK_OPT_STR,
     YK_OPT_AT(struct config, file),
     .metavar = "FILE",
     .help = "Read this file.",
     .flags = YK_OPT_CONFIG_FILE},
    {.name = "check-config",
     .type = YK_OPT_BOOL,
     YK_OPT_AT(struct config, check_config),
     .help = "Check the configuration and exit.",
     .flags = YK_OPT_NO_FILE | YK_OPT_NO_ENV},
    {.name = "json",
     .letter = 'j',
     .type = YK_OPT_BOOL,
     YK_OPT_AT(struct config, json),
     .help = "Print JSON."},
    {.name = "dram",
     .letter = 'd',
     .type = YK_OPT_SIZE,
     YK_OPT_AT(struct config, dram_bytes),
     .def = "1GiB",
     .min = "64MiB",
     .max = "1TiB",
     .section = "memory",
     .help = "Pooled memory of this node. It is allocated at the start and shared with the local "
             "clients."},
    {.name = "scrub",
     .letter = 's',
     .type = YK_OPT_BOOL,
     YK_OPT_AT(struct config, scrub),
     .def = "yes",
     .section = "memory",
     .help = "Verify checksums in the background."},
    {.name = "high-water",
     .type = YK_OPT_PERCENT,
     YK_OPT_AT(struct config, high_water),
     .def = "95%",
     .min = "50%",
     .section = "memory",
     .help = "Reclaim above this."},
    {.name = "policy",
     .type = YK_OPT_ENUM,
     YK_OPT_AT(struct config, policy),
     .def = "s3fifo",
     .values = policy_names,
     .section = "memory",
     .help = "Eviction policy."},
    {.name = "tiers",
     .type = YK_OPT_LIST,
     YK_OPT_AT(struct config, tiers),
     .def = "dram",
     .values = tier_names,
     .section = "memory",
     .help = "Tiers to use."},
    {.name = "listen",
     .letter = 'l',
     .type = YK_OPT_LIST,
     YK_OPT_AT(struct config, listen),
     .def = "unix:/run/yolk.sock",
     .metavar = "ADDRESS,...",
     .section = "network",
     .check = check_addr,
     .help = "Where to listen."},
    {.name = "http",
     .type = YK_OPT_ADDR,
     YK_OPT_AT(struct config, http),
     .def = "127.0.0.1:7780",
     .section = "network",
     .help = "Metrics and administration."},
    {.name = "timeout",
     .letter = 't',
     .type = YK_OPT_DURATION,
     YK_OPT_AT(struct config, timeout_ns),
     .def = "500ms",
     .max = "1h",
     .section = "network",
     .help = "Deadline of a request."},
    {.name = "token",
     .type = YK_OPT_STR,
     YK_OPT_AT(struct config, token),
     .section = "network",
     .help = "Secret of the namespace.",
     .flags = YK_OPT_SECRET},
    {.name = "clients",
     .letter = 'n',
     .type = YK_OPT_INT,
     YK_OPT_AT(struct config, clients),
     .def = "1000",
     .min = "1",
     .help = "Clients at once."},
    {.name = "shards",
     .type = YK_OPT_INT,
     YK_OPT_AT(struct config, shards),
     .def = "-1",
     .help = "Shard threads; -1: as many as cores."},
    {.name = "speed",
     .type = YK_OPT_REAL,
     YK_OPT_AT(struct config, speed),
     .def = "1.5",
     .min = "0",
     .max = "1000",
     .help = "Replay speed."},
    {.name = "path", .type = YK_OPT_STR, YK_OPT_AT(struct config, path), .help = "Some path."},
};

static const struct yk_opt_spec spec = {
    .program = "yolkd",
    .args = "KEY [FILE]",
    .summary = "Serves blocks.",
    .env_prefix = "YOLK_",
    .options = options,
    .n_options = sizeof(options) / sizeof(options[0]),
    .min_args = 0,
    .max_args = 2,
    .flags = YK_OPT_STRICT_ENV,
};

#endif

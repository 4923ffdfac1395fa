/* SPDX-License-Identifier: Apache-2.0
 *
 * Configuration of yolkd: one option table, and what follows from it for the node.
 *
 * The table is all there is: flags, YOLK_... variables, the file, --help, --check-config and the
 * manual page come from its rows (src/base/opt.h). Two steps: loading checks each value by itself,
 * yolkd_config_node checks them against each other and against the machine (does it fit, are there
 * huge pages, does the NUMA node exist), so that --check-config finds what a start would find.
 *
 * Threads: main's, before anything else runs.
 */
#ifndef YOLKD_CONFIG_H
#define YOLKD_CONFIG_H

#include "base/opt.h"
#include "dir/dir.h"
#include "node/node.h"

struct yolkd_config {
    char *file;
    uint64_t dram_bytes;
    int64_t capacity_blocks;
    int64_t max_blocks;
    int policy; /* of yk_policy_list */
    int model_shape; /* 0: none; others of yk_cost_shapes */
    int64_t block_tokens;
    struct yk_opt_list listen;
    struct yk_addr http;
    char *transfer; /* auto, off or HOST:PORT */
    char *transports; /* of it; NULL: all but RDMA */
    char *rdma; /* settings of that one; NULL: none */
    bool insecure_network;
    char *name;
    char *shm_dir;
    bool ephemeral;
    int huge_pages; /* enum yolkd_huge */
    int numa_node;
    char *cxl; /* SIZE or SIZE@NODE; NULL: none */
    int reserve_percent;
    int held_percent;
    int max_clients;
    int max_connections;
    char *unix_mode;
    uint64_t scrub_rate_bytes;
    uint64_t scrub_interval_ns;
    bool populate;
    struct yk_opt_list ssd;
    int ssd_only_on; /* enum yk_ssd_when */
    int ssd_admit;   /* of yk_policy_admit_list */
    bool ssd_format;
    uint64_t ssd_segment_bytes;
    uint64_t ssd_write_limit;
    uint64_t ssd_wait_ns;
    int ssd_clean_percent;
    int64_t ssd_capacity_blocks;
    int ssd_trim; /* enum yolkd_trim */
    bool ssd_buffered;
    bool ssd_preload;
    bool prefetch_ahead;
    uint64_t ssd_stop_ns;
    int compact_percent;
    char *etcd;
    char *etcd_user;
    char *etcd_password_file;
    char *etcd_ca;
    char *etcd_cert;
    char *etcd_key;
    char *cluster;
    char *node_name;
    int local_copies; /* enum yk_local_copies */
    char *zone;
    char *peer_listen;
    char *advertise;
    char *state_dir;
    uint64_t cut_off_ns;
    uint64_t stop_timeout_ns;
    int log_level; /* enum yk_log_level */
    bool check_config;
    bool version;
    struct yk_opts opts;
};

/* Reads arguments, environment and file. 0, YK_OPT_HELP, or a failure whose text is one line. fini
 * is due after any of them. */
int yolkd_config_load(struct yolkd_config *config, int argc, char *const *argv, char *const *envp,
                      struct yk_err *err);
void yolkd_config_fini(struct yolkd_config *config);

/* The node's options; strings in them are borrowed from config. activated: listening sockets were
 * passed in, so none need be named. -YK_EINVAL or -YK_ENOSPC, with a text that names the option. */
int yolkd_config_node(const struct yolkd_config *config, bool activated,
                      struct yk_node_opts *ret_opts, struct yk_err *err);

/* The part of it that concerns the SSD tier (config_ssd.c). */
enum yolkd_trim { YOLKD_TRIM_AUTO, YOLKD_TRIM_ON, YOLKD_TRIM_OFF };
int yolkd_config_ssd(const struct yolkd_config *config, struct yk_store_ssd_opts *ret_opts,
                     struct yk_err *err);

/* The part of it that concerns slow memory (config_cxl.c); and the check of the value alone. */
int yolkd_config_cxl(const struct yolkd_config *config, struct yk_store_cxl_opts *ret_opts, struct yk_err *err);
int yolkd_check_cxl(const char *text, struct yk_err *err);

/* The part of it that concerns the cluster (config_cluster.c): what yk_dir_new takes, and where the node's transfer
 * engine listens for its peers (io_node's transfer). Without --etcd *ret_opts has no endpoints. Strings are
 * the process's. Warnings go to the log. */
int yolkd_config_cluster(const struct yolkd_config *config, struct yk_node_opts *io_node,
                         struct yk_dir_opts *ret_opts, struct yk_err *err);

/* Beyond loopback, as far as an address is written as a number. */
bool yolkd_is_remote(const struct yk_addr *addr);

void yolkd_config_help(FILE *out);

/* yolkd(8), with defaults that do not depend on this machine. */
void yolkd_config_man(FILE *out);

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * The option of slow memory against the machine (config.h): on which NUMA node it is, does it fit.
 *
 * CXL memory, and persistent memory that is used as memory, are NUMA nodes without processors. Where there is one such
 * node it is meant; where there are several the option has to say which.
 */
#include "config.h"

#include "base/fmt.h"
#include "machine.h"
#include "node/cxl_place.h"

#include <stdio.h>
#include <string.h>

#define NODES_MAX 1024

int yolkd_check_cxl(const char *text, struct yk_err *err) {
    uint64_t bytes;
    int node;
    return yk_cxl_place_parse(text, &bytes, &node, err);
}

/* The only node without processors, or what to say. */
static int find_node(const struct yolkd_config *config, int *ret_node, struct yk_err *err) {
    char names[96] = "";
    int count = 0;
    for (int node = 0; node < NODES_MAX; node++) {
        if (!yolkd_numa_node_has(node, YOLKD_NUMA_MEMORY) || yolkd_numa_node_has(node, YOLKD_NUMA_PROCESSORS))
            continue;
        size_t at = strlen(names);
        snprintf(names + at, sizeof(names) - at, "%s%d", count > 0 ? ", " : "", node);
        *ret_node = node;
        count++;
    }
    if (count == 1)
        return 0;
    if (count == 0)
        return yk_opt_fail(&config->opts, "cxl", err,
                           "found no NUMA node without processors (see yolk topo), expected one, or SIZE@NODE");
    return yk_opt_fail(&config->opts, "cxl", err,
                       "found several NUMA nodes without processors, %s, expected SIZE@NODE with one of them", names);
}

int yolkd_config_cxl(const struct yolkd_config *config, struct yk_store_cxl_opts *ret_opts, struct yk_err *err) {
    struct yk_store_cxl_opts o = {.node = -1};
    char asked[YK_FMT_MAX], has[YK_FMT_MAX];
    *ret_opts = o;
    if (config->cxl == NULL)
        return 0;
    int rc = yk_cxl_place_parse(config->cxl, &o.bytes, &o.node, err);
    if (rc == 0 && o.node < 0)
        rc = find_node(config, &o.node, err);
    if (rc < 0)
        return rc;
    if (!yolkd_numa_node_has(o.node, YOLKD_NUMA_MEMORY))
        return yk_opt_fail(&config->opts, "cxl", err, "found node %d, expected a NUMA node with memory (see yolk topo)",
                           o.node);
    uint64_t bytes = yolkd_numa_node_bytes(o.node);
    if (bytes != 0 && o.bytes > bytes)
        return yk_opt_fail(&config->opts, "cxl", err, "found %s, expected at most the %s of NUMA node %d",
                           yk_fmt_bytes_exact(o.bytes, asked), yk_fmt_bytes(bytes, has), o.node);
    *ret_opts = o;
    return 0;
}

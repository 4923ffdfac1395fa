/* SPDX-License-Identifier: Apache-2.0
 *
 * The etcd backend against a real member: what every backend has to do. One member for all tests; each gets
 * an empty store by a removal of everything, so its watches see what is left of the ones before, too.
 */
#include "conformance.h"
#include "etcd_rig.h"

static struct cluster cluster;

static void wipe(void) {
    cluster_ctl(&cluster, NULL, "del --prefix ''");
}

static struct yk_meta *open_etcd(struct yk_meta_opts *o) {
    return cluster_open(&cluster, -1, o);
}

static void compact(struct yk_meta *m, uint64_t revision) {
    char args[64];
    snprintf(args, sizeof(args), "compact %llu", (unsigned long long)revision);
    cluster_ctl(&cluster, NULL, args);
}

const struct store store = {.open = open_etcd, .wipe = wipe, .compact = compact, .shared = true};

static int skipped(void) {
    printf("1..0 # SKIP %s\n", cluster_missing());
    return 77; /* meson's */
}

int main(void) {
    if (cluster_missing() != NULL)
        return skipped();
    cluster_start(&cluster, 1, false, NULL);
    int failed = conformance_run("meta_etcd");
    cluster_stop(&cluster);
    return failed;
}

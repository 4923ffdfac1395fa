/* SPDX-License-Identifier: Apache-2.0
 *
 * yolk topo: what this host has and how far apart it is, as the transfer engine sees it (src/topo).
 */
#include "commands.h"
#include "keys.h"

#include "base/fmt.h"
#include "topo/topo.h"

#include <stdio.h>
#include <string.h>

struct topo_config {
    struct yolk_common common;
    char *file, *root;
};

static const struct yk_opt rows[] = {
    {.name = "file",
     .type = YK_OPT_STR,
     .metavar = "FILE",
     YK_OPT_AT(struct topo_config, file),
     .help = "Set what was found right from this file."},
    {.name = "root",
     .type = YK_OPT_STR,
     .metavar = "DIR",
     YK_OPT_AT(struct topo_config, root),
     .help = "Read DIR/sys in place of /sys: a copy from another host."},
};

static const char *or_dash(const char *text) {
    return text[0] != 0 ? text : "-";
}

static const char *node_text(int node, char buf[16]) {
    if (node < 0)
        return "-";
    snprintf(buf, 16, "%d", node);
    return buf;
}

static void print_nodes(const struct yk_topo *t) {
    char bytes[YK_FMT_MAX];
    printf("%-5s %-8s %10s  %-24s %s\n", "NODE", "LOCATION", "MEMORY", "CPUS", "DISTANCES");
    for (uint32_t i = 0; i < t->node_count; i++) {
        const struct yk_topo_node *n = &t->nodes[i];
        printf("%-5d %-8s %10s  %-24s", n->id, or_dash(n->location), yk_fmt_bytes(n->bytes, bytes),
               or_dash(n->cpus));
        for (uint32_t k = 0; k < t->node_count; k++)
            printf(" %u", t->slit[i * t->node_count + k]);
        putchar('\n');
    }
}

static const char *speed_text(uint32_t mbit, char buf[32]) {
    if (mbit == 0)
        return "-";
    if (mbit % 1000u == 0)
        snprintf(buf, 32, "%u Gbit/s", mbit / 1000u);
    else
        snprintf(buf, 32, "%u Mbit/s", mbit);
    return buf;
}

static void print_nics(const struct yk_topo *t) {
    char node[16], speed[32];
    printf("\n%-15s %-13s %-5s %-11s %-8s %-8s %s\n", "NETWORK", "PCI", "NODE", "SPEED", "STATE",
           "RDMA", "ADDRESSES");
    for (uint32_t i = 0; i < t->dev_count; i++) {
        const struct yk_topo_dev *d = &t->devs[i];
        if (d->kind != YK_TOPO_NIC)
            continue;
        printf("%-15s %-13s %-5s %-11s %-8s %-8s ", d->name, or_dash(d->pci),
               node_text(d->node, node), speed_text(d->mbit, speed),
               d->ignored ? "ignored"
               : d->up    ? "up"
                          : "down",
               or_dash(d->rdma));
        for (uint32_t k = 0; k < d->addr_count; k++)
            printf("%s%s", k > 0 ? "," : "", d->addrs[k]);
        puts(d->addr_count == 0 ? "-" : "");
    }
}

static void print_devs(const struct yk_topo *t) {
    char node[16], bytes[YK_FMT_MAX], text[YOLK_KEY_TEXT_MAX];
    int first = 1;
    for (uint32_t i = 0; i < t->dev_count; i++) {
        const struct yk_topo_dev *d = &t->devs[i];
        if (d->kind == YK_TOPO_NIC)
            continue;
        if (first)
            printf("\n%-15s %-13s %-5s %s\n", "DEVICE", "PCI", "NODE", "WHAT");
        first = 0;
        printf("%-15s %-13s %-5s %s%s%s\n", d->name, or_dash(d->pci), node_text(d->node, node),
               or_dash(yolk_safe_text(d->text, text)), d->bytes > 0 ? ", " : "",
               d->bytes > 0 ? yk_fmt_bytes(d->bytes, bytes) : "");
    }
}

/* One row against the network devices; NULL: their names. */
static void print_row(const struct yk_topo *t, const struct yk_topo_dev *row) {
    printf("%-10s", row != NULL ? row->name : "DISTANCE");
    for (uint32_t k = 0; k < t->dev_count; k++) {
        const struct yk_topo_dev *nic = &t->devs[k];
        const char *text = row != NULL ? yk_topo_near_name(yk_topo_near(t, row, nic)) : nic->name;
        int width = (int)strlen(nic->name),
            last = k + 1 == t->dev_count || t->devs[k + 1].kind != YK_TOPO_NIC;
        if (nic->kind == YK_TOPO_NIC)
            printf(" %-*s", last ? 0 : width > 6 ? width : 6, text);
    }
    putchar('\n');
}

/* GPUs and NVMe against network devices. */
static void print_distances(const struct yk_topo *t) {
    int first = 1;
    for (uint32_t i = 0; i < t->dev_count; i++) {
        if (t->devs[i].kind == YK_TOPO_NIC || strncmp(t->devs[i].name, "vga:", 4) == 0)
            continue;
        if (first) {
            putchar('\n');
            print_row(t, NULL);
        }
        first = 0;
        print_row(t, &t->devs[i]);
    }
}

static void print_ways(const struct yk_topo *t, const struct yk_topo_loc *l, uint32_t from,
                       uint32_t to) {
    for (uint32_t i = from; i < to; i++)
        printf("%s%s", i > from ? "," : "", t->devs[l->ways[i].dev].name);
    if (from == to)
        putchar('-');
}

static void print_locs(const struct yk_topo *t) {
    printf("\n%-10s %s\n", "LOCATION", "NEAR | OTHERS, BY DISTANCE");
    for (uint32_t i = 0; i < t->loc_count; i++) {
        const struct yk_topo_loc *l = &t->locs[i];
        printf("%-10s ", l->name);
        print_ways(t, l, 0, l->near_count);
        printf(" | ");
        print_ways(t, l, l->near_count, l->way_count);
        puts(l->overridden ? " (from the file)" : "");
    }
}

static int topo(struct yolk_ctx *ctx) {
    const struct topo_config *c = ctx->config;
    struct yk_topo_opts opts = {.root = c->root, .override = c->file};
    struct yk_topo *t = NULL;
    struct yk_err err = {0};
    struct yk_json json;
    if (yk_topo_find(&opts, &t, &err) < 0)
        return yolk_fail(err.code == -YK_EINVAL ? YOLK_USAGE : YOLK_FAIL, "%s", err.text);
    if (ctx->common->json) {
        yk_json_init_file(&json, stdout);
        yk_topo_json(t, &json);
        yk_json_newline(&json);
        (void)yk_json_finish(&json);
    } else {
        print_nodes(t);
        print_nics(t);
        print_devs(t);
        print_distances(t);
        print_locs(t);
    }
    yk_topo_free(t);
    return yolk_finish(YOLK_OK);
}

const struct yolk_cmd yolk_cmd_topo = {
    .name = "topo",
    .help = "show devices and memory of this host, and how near they are to each other",
    .more =
        "Distances: switch (below the same port of a root complex), root (at the same root "
        "complex), socket (at the same NUMA node), far. For each location of memory the "
        "network devices that are near to it come first; others help out. FILE is JSON, "
        "{\"devices\": {\"eth4\": {\"node\": 1, \"mbit\": 400000}, \"eth9\": {\"ignore\": true}}, "
        "\"locations\": {\"cpu:0\": [[\"eth0\", \"eth1\"], [\"eth4\"]]}}; either part may be "
        "missing. "
        "locations is as --json prints it, and the file may consist of it alone.",
    YOLK_CMD_OPTIONS(rows),
    .config_bytes = sizeof(struct topo_config),
    .flags = YOLK_CMD_LOCAL,
    .fn = topo,
};

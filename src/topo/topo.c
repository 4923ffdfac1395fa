/* SPDX-License-Identifier: Apache-2.0
 *
 * The whole, what looks things up in it, and its JSON.
 *
 * Threads: any.
 */
#include "topo/topo_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int find_all(const struct yk_sysfs *fs, struct yk_override *o, struct yk_topo *t,
                    struct yk_err *err) {
    if (yk_topo_find_nodes(fs, t) < 0 || yk_topo_find_devs(fs, t) < 0)
        return yk_err_set(err, -YK_ENOMEM, "no memory for a topology");
    int rc = o != NULL ? yk_override_devs(o, t, err) : 0;
    if (rc == 0 && yk_topo_find_locs(t) < 0)
        rc = yk_err_set(err, -YK_ENOMEM, "no memory for a topology");
    return rc == 0 && o != NULL ? yk_override_locs(o, t, err) : rc;
}

int yk_topo_find(const struct yk_topo_opts *opts, struct yk_topo **ret_topo, struct yk_err *err) {
    struct yk_sysfs *fs = calloc(1, sizeof(*fs));
    struct yk_topo *t = calloc(1, sizeof(*t));
    struct yk_override *o = NULL;
    const char *root = opts != NULL ? opts->root : NULL;
    int rc = 0;
    if (fs == NULL || t == NULL)
        rc = yk_err_set(err, -YK_ENOMEM, "no memory for a topology");
    else if (yk_sysfs_init(fs, root) < 0)
        rc = yk_err_set(err, -YK_ENOENT, "'%s' is no directory that can be read", root);
    if (rc == 0 && opts != NULL && opts->override != NULL)
        rc = yk_override_read(opts->override, &o, err);
    if (rc == 0)
        rc = find_all(fs, o, t, err);
    yk_override_free(o);
    free(fs);
    if (rc < 0) {
        yk_topo_free(t);
        return rc;
    }
    *ret_topo = t;
    return 0;
}

void yk_topo_free(struct yk_topo *t) {
    if (t == NULL)
        return;
    for (uint32_t i = 0; i < t->loc_count; i++)
        free(t->locs[i].ways);
    free(t->locs);
    free(t->devs);
    free(t->slit);
    free(t->nodes);
    free(t);
}

int yk_topo_only_node(void) {
    struct yk_sysfs fs = {.root = ""};
    char text[64];
    if (yk_sysfs_text(&fs, text, sizeof(text), "/sys/devices/system/node/has_memory") <= 0 ||
        strspn(text, "0123456789") != strlen(text))
        return -1; /* "0-1", "0,2" */
    return atoi(text);
}

/* ---- looking up ---------------------------------------------------------------------------------- */

static int has_addr(const struct yk_topo_dev *d, const char *addr) {
    for (uint32_t i = 0; i < d->addr_count; i++)
        if (strcmp(d->addrs[i], addr) == 0)
            return 1;
    return 0;
}

struct yk_topo_dev *yk_topo_dev_find(const struct yk_topo *t, const char *name) {
    if (name == NULL || name[0] == 0)
        return NULL;
    for (uint32_t i = 0; i < t->dev_count; i++)
        if (strcmp(t->devs[i].name, name) == 0)
            return &t->devs[i];
    for (uint32_t i = 0; i < t->dev_count; i++)
        if (strcmp(t->devs[i].pci, name) == 0 || strcmp(t->devs[i].rdma, name) == 0 ||
            has_addr(&t->devs[i], name))
            return &t->devs[i];
    return NULL;
}

const struct yk_topo_dev *yk_topo_dev(const struct yk_topo *t, const char *name) {
    return yk_topo_dev_find(t, name);
}

const struct yk_topo_loc *yk_topo_loc(const struct yk_topo *t, const char *name) {
    for (uint32_t i = 0; name != NULL && i < t->loc_count; i++)
        if (strcmp(t->locs[i].name, name) == 0)
            return &t->locs[i];
    return NULL;
}

const char *yk_topo_node_location(const struct yk_topo *t, int node) {
    for (uint32_t i = 0; i < t->node_count; i++)
        if (t->nodes[i].id == node && t->nodes[i].location[0] != 0)
            return t->nodes[i].location;
    return NULL;
}

/* ---- JSON ---------------------------------------------------------------------------------------- */

static void put_node_of(struct yk_json *j, int node) {
    yk_json_key(j, "node");
    if (node >= 0)
        yk_json_int(j, node);
    else
        yk_json_null(j);
}

static void put_nodes(const struct yk_topo *t, struct yk_json *j) {
    yk_json_key(j, "nodes");
    yk_json_begin_array(j);
    for (uint32_t i = 0; i < t->node_count; i++) {
        const struct yk_topo_node *n = &t->nodes[i];
        yk_json_begin_object(j);
        yk_json_put_int(j, "node", n->id);
        yk_json_put_str(j, "location", n->location[0] != 0 ? n->location : NULL);
        yk_json_put_str(j, "cpus", n->cpus);
        yk_json_put_uint(j, "memory_bytes", n->bytes);
        yk_json_put_bool(j, "cxl", n->is_cxl != 0);
        yk_json_key(j, "distances");
        yk_json_begin_array(j);
        for (uint32_t k = 0; k < t->node_count; k++)
            yk_json_uint(j, t->slit[i * t->node_count + k]);
        yk_json_end_array(j);
        yk_json_end_object(j);
    }
    yk_json_end_array(j);
}

static void put_id(struct yk_json *j, const char *key, const struct yk_topo_dev *d, uint16_t id) {
    char text[8];
    snprintf(text, sizeof(text), "%04x", id);
    yk_json_put_str(j, key, d->pci[0] != 0 ? text : NULL);
}

static void put_nic(struct yk_json *j, const struct yk_topo_dev *d) {
    yk_json_put_uint(j, "mbit", d->mbit);
    yk_json_put_bool(j, "up", d->up != 0);
    yk_json_put_bool(j, "virtual", d->is_virtual != 0);
    yk_json_put_uint(j, "ifindex", d->ifindex);
    yk_json_put_str(j, "rdma", d->rdma[0] != 0 ? d->rdma : NULL);
    yk_json_key(j, "addresses");
    yk_json_begin_array(j);
    for (uint32_t i = 0; i < d->addr_count; i++)
        yk_json_str(j, d->addrs[i]);
    yk_json_end_array(j);
}

static void put_devs(const struct yk_topo *t, struct yk_json *j, enum yk_topo_kind kind,
                     const char *key) {
    yk_json_key(j, key);
    yk_json_begin_array(j);
    for (uint32_t i = 0; i < t->dev_count; i++) {
        const struct yk_topo_dev *d = &t->devs[i];
        if (d->kind != kind)
            continue;
        yk_json_begin_object(j);
        yk_json_put_str(j, "name", d->name);
        yk_json_put_str(j, "pci", d->pci[0] != 0 ? d->pci : NULL);
        yk_json_put_str(j, "path", d->path[0] != 0 ? d->path : NULL);
        put_node_of(j, d->node);
        put_id(j, "vendor_id", d, d->vendor);
        put_id(j, "device_id", d, d->device);
        yk_json_put_bool(j, "ignored", d->ignored != 0);
        if (kind == YK_TOPO_NIC)
            put_nic(j, d);
        if (kind == YK_TOPO_GPU)
            yk_json_put_str(j, "vendor", d->text[0] != 0 ? d->text : NULL);
        if (kind == YK_TOPO_NVME) {
            yk_json_put_str(j, "model", d->text[0] != 0 ? d->text : NULL);
            yk_json_put_uint(j, "bytes", d->bytes);
        }
        yk_json_end_object(j);
    }
    yk_json_end_array(j);
}

/* {"cuda:0": {"eth0": "switch"}}: GPUs and NVMe against network devices. */
static void put_distances(const struct yk_topo *t, struct yk_json *j) {
    yk_json_key(j, "distances");
    yk_json_begin_object(j);
    for (uint32_t i = 0; i < t->dev_count; i++) {
        if (t->devs[i].kind == YK_TOPO_NIC)
            continue;
        yk_json_key(j, t->devs[i].name);
        yk_json_begin_object(j);
        for (uint32_t k = 0; k < t->dev_count; k++)
            if (t->devs[k].kind == YK_TOPO_NIC)
                yk_json_put_str(j, t->devs[k].name,
                                yk_topo_near_name(yk_topo_near(t, &t->devs[i], &t->devs[k])));
        yk_json_end_object(j);
    }
    yk_json_end_object(j);
}

static void put_ways(const struct yk_topo *t, struct yk_json *j, const struct yk_topo_loc *l,
                     uint32_t from, uint32_t to) {
    yk_json_begin_array(j);
    for (uint32_t i = from; i < to; i++)
        yk_json_str(j, t->devs[l->ways[i].dev].name);
    yk_json_end_array(j);
}

void yk_topo_json(const struct yk_topo *t, struct yk_json *j) {
    yk_json_begin_object(j);
    put_nodes(t, j);
    put_devs(t, j, YK_TOPO_NIC, "nics");
    put_devs(t, j, YK_TOPO_GPU, "gpus");
    put_devs(t, j, YK_TOPO_NVME, "nvme");
    put_distances(t, j);
    yk_json_key(j, "locations");
    yk_json_begin_object(j);
    for (uint32_t i = 0; i < t->loc_count; i++) {
        const struct yk_topo_loc *l = &t->locs[i];
        yk_json_key(j, l->name);
        yk_json_begin_array(j);
        put_ways(t, j, l, 0, l->near_count);
        put_ways(t, j, l, l->near_count, l->way_count);
        yk_json_end_array(j);
    }
    yk_json_end_object(j);
    yk_json_end_object(j);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * The file that overrides a topology: whatever it holds, it is refused with a text that names a line, or
 * leaves a topology whose locations name devices that are there, each once.
 */
#include "topo/topo_priv.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct yk_topo *host(void) {
    struct yk_topo *t = calloc(1, sizeof(*t));
    static const char *const names[] = {"eth0", "eth1", "cuda:0"};
    if (t == NULL || (t->nodes = calloc(2, sizeof(*t->nodes))) == NULL ||
        (t->slit = calloc(4, sizeof(*t->slit))) == NULL ||
        (t->devs = calloc(3, sizeof(*t->devs))) == NULL)
        abort();
    t->node_count = 2;
    t->dev_count = 3;
    for (uint32_t i = 0; i < 2; i++) {
        t->nodes[i] =
            (struct yk_topo_node){.id = (int)i, .has_cpus = 1, .bytes = 1, .location = "cpu:"};
        t->nodes[i].location[4] = (char)('0' + i);
    }
    for (uint32_t i = 0; i < 3; i++) {
        struct yk_topo_dev *d = &t->devs[i];
        d->kind = i < 2 ? YK_TOPO_NIC : YK_TOPO_GPU;
        d->up = 1;
        d->node = (int)(i % 2);
        memcpy(d->name, names[i], strlen(names[i]));
        memcpy(d->path, "pci0000:00/0000:00:01.0", 24);
    }
    return t;
}

static void check(const struct yk_topo *t) {
    struct yk_json j;
    struct yk_buf buf;
    for (uint32_t i = 0; i < t->loc_count; i++) {
        const struct yk_topo_loc *l = &t->locs[i];
        unsigned seen = 0;
        if (l->near_count > l->way_count || l->way_count > t->dev_count)
            abort();
        for (uint32_t k = 0; k < l->way_count; k++) {
            if (l->ways[k].dev >= t->dev_count || (seen & 1u << l->ways[k].dev) != 0 ||
                t->devs[l->ways[k].dev].kind != YK_TOPO_NIC)
                abort();
            seen |= 1u << l->ways[k].dev;
        }
        (void)yk_topo_distance(t, l->name, "eth1");
    }
    yk_buf_init(&buf, 1u << 20);
    yk_json_init_buf(&j, &buf);
    yk_topo_json(t, &j);
    if (yk_json_finish(&j) < 0)
        abort();
    yk_buf_fini(&buf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct yk_err err = {0};
    struct yk_override *o = NULL;
    struct yk_topo *t = host();
    int rc = yk_override_text("file", (const char *)data, size, &o, &err);
    if (rc == 0)
        rc = yk_override_devs(o, t, &err);
    if (rc == 0 && (rc = yk_topo_find_locs(t)) < 0)
        abort();
    if (rc == 0)
        rc = yk_override_locs(o, t, &err);
    if (rc == 0)
        check(t);
    else if (rc != -YK_EINVAL || strpbrk(err.text, "\r\n") != NULL ||
             strncmp(err.text, "file:", 5) != 0 || err.text[5] < '1' || err.text[5] > '9')
        abort();
    yk_override_free(o);
    yk_topo_free(t);
    return 0;
}

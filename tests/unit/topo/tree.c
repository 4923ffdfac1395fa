/* SPDX-License-Identifier: Apache-2.0
 *
 * See tree.h.
 */
#include "tree.h"

#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

void tree_init(struct tree *t) {
    *t = (struct tree){.interfaces = 0};
    snprintf(t->root, sizeof(t->root), "/tmp/yolk-topo-XXXXXX");
    assert_non_null(mkdtemp(t->root));
}

static int drop(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

void tree_fini(struct tree *t) {
    assert_int_equal(nftw(t->root, drop, 16, FTW_DEPTH | FTW_PHYS), 0);
}

static void make_dirs(char *path) {
    for (char *at = strchr(path + 1, '/'); at != NULL; at = strchr(at + 1, '/')) {
        *at = 0;
        mkdir(path, 0700);
        *at = '/';
    }
}

void tree_file(struct tree *t, const char *path, const char *fmt, ...) {
    char full[512];
    va_list args;
    snprintf(full, sizeof(full), "%s%s", t->root, path);
    make_dirs(full);
    FILE *f = fopen(full, "w");
    assert_non_null(f);
    va_start(args, fmt);
    vfprintf(f, fmt, args);
    va_end(args);
    fputc('\n', f);
    assert_int_equal(fclose(f), 0);
}

void tree_link(struct tree *t, const char *path, const char *to) {
    char full[512], target[512];
    snprintf(full, sizeof(full), "%s%s", t->root, path);
    snprintf(target, sizeof(target), "%s%s", t->root, to);
    make_dirs(full);
    assert_int_equal(symlink(target, full), 0);
}

void tree_node(struct tree *t, int id, const char *cpus, uint64_t mib, const char *distance) {
    char path[128];
    snprintf(path, sizeof(path), "/sys/devices/system/node/node%d/cpulist", id);
    tree_file(t, path, "%s", cpus);
    snprintf(path, sizeof(path), "/sys/devices/system/node/node%d/meminfo", id);
    tree_file(t, path, "Node %d MemTotal:       %llu kB\nNode %d MemFree: 1 kB", id,
              (unsigned long long)mib << 10, id);
    snprintf(path, sizeof(path), "/sys/devices/system/node/node%d/distance", id);
    tree_file(t, path, "%s", distance);
}

void tree_pci(struct tree *t, const char *path, unsigned class, unsigned vendor, int node) {
    char file[256], link[128], dir[256];
    const char *name = strrchr(path, '/') + 1;
    snprintf(dir, sizeof(dir), "/sys/devices/%s", path);
    snprintf(file, sizeof(file), "%.200s/class", dir);
    tree_file(t, file, "0x%06x", class);
    snprintf(file, sizeof(file), "%.200s/vendor", dir);
    tree_file(t, file, "0x%04x", vendor);
    snprintf(file, sizeof(file), "%.200s/device", dir);
    tree_file(t, file, "0x2330");
    snprintf(file, sizeof(file), "%.200s/numa_node", dir);
    tree_file(t, file, "%d", node);
    snprintf(link, sizeof(link), "/sys/bus/pci/devices/%s", name);
    tree_link(t, link, dir);
}

void tree_nic(struct tree *t, const char *name, const char *path, int mbit, const char *state,
              const char *rdma) {
    char dir[256], file[512], link[128];
    if (path != NULL)
        snprintf(dir, sizeof(dir), "/sys/devices/%s/net/%s", path, name);
    else
        snprintf(dir, sizeof(dir), "/sys/devices/virtual/net/%s", name);
    snprintf(file, sizeof(file), "%s/type", dir);
    tree_file(t, file, "%d", strcmp(name, "lo") == 0 ? 772 : 1);
    snprintf(file, sizeof(file), "%s/operstate", dir);
    tree_file(t, file, "%s", state);
    snprintf(file, sizeof(file), "%s/speed", dir);
    tree_file(t, file, "%d", mbit);
    snprintf(file, sizeof(file), "%s/ifindex", dir);
    tree_file(t, file, "%d", 2 + t->interfaces++);
    snprintf(link, sizeof(link), "/sys/class/net/%s", name);
    tree_link(t, link, dir);
    if (rdma == NULL)
        return;
    snprintf(dir, sizeof(dir), "/sys/devices/%s/infiniband/%s", path, rdma);
    snprintf(file, sizeof(file), "%s/ports/1/state", dir);
    tree_file(t, file, "4: ACTIVE");
    snprintf(file, sizeof(file), "%s/ports/1/rate", dir);
    tree_file(t, file, "400 Gb/sec (4X NDR)");
    snprintf(link, sizeof(link), "/sys/class/infiniband/%s", rdma);
    tree_link(t, link, dir);
}

/* Root complexes at buses 10, 20, 30, 40; switch k of one at port k + 1. */
static void big_switch(struct tree *t, unsigned root, unsigned k) {
    char path[128], name[16], rdma[16];
    unsigned bus = 0x10 * (root + 1), first = bus + 4 * k, i = root * 2 + k;
    int node = root < 2 ? 0 : 1;
    char up[96];
    snprintf(up, sizeof(up), "pci0000:%02x/0000:%02x:%02x.0/0000:%02x:00.0", bus, bus, k + 1,
             first + 1);
    snprintf(path, sizeof(path), "%s/0000:%02x:00.0/0000:%02x:00.0", up, first + 2, first + 3);
    tree_pci(t, path, 0x030200, 0x10de, node);
    snprintf(path, sizeof(path), "%s/0000:%02x:01.0/0000:%02x:00.0", up, first + 2, first + 4);
    tree_pci(t, path, 0x020000, 0x15b3, node);
    snprintf(name, sizeof(name), "eth%u", i);
    snprintf(rdma, sizeof(rdma), "mlx5_%u", i);
    tree_nic(t, name, path, 400000, "up", rdma);
}

void tree_big(struct tree *t) {
    tree_node(t, 0, "0-31,64-95", 524288, "10 21 14");
    tree_node(t, 1, "32-63,96-127", 524288, "21 10 24");
    tree_node(t, 2, "", 262144, "14 24 10");
    for (unsigned i = 0; i < 8; i++)
        big_switch(t, i / 2, i % 2);
    tree_pci(t, "pci0000:00/0000:00:02.0", 0x030000, 0x1a03, 0);
    tree_pci(t, "pci0000:50/0000:50:01.0", 0x010802, 0x144d, 1);
    tree_file(t, "/sys/devices/pci0000:50/0000:50:01.0/nvme/nvme0/model", "Fast Disk 7T   ");
    tree_file(t, "/sys/devices/pci0000:50/0000:50:01.0/nvme/nvme0/nvme0n1/size", "2048");
    tree_link(t, "/sys/class/nvme/nvme0", "/sys/devices/pci0000:50/0000:50:01.0/nvme/nvme0");
    tree_file(
        t,
        "/sys/devices/platform/ACPI0017:00/root0/decoder0.0/region0/dax_region0/dax0.0/target_node",
        "2");
    tree_link(t, "/sys/bus/dax/devices/dax0.0",
              "/sys/devices/platform/ACPI0017:00/root0/decoder0.0/region0/dax_region0/dax0.0");
    tree_nic(t, "lo", NULL, 0, "unknown", NULL);
}

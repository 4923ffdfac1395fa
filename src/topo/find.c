/* SPDX-License-Identifier: Apache-2.0
 *
 * NUMA nodes and devices, from sysfs.
 *
 * A network interface is found by its class and its PCI device by its path, since a driver may stand in
 * between (virtio); one that has no device of its own (bond, VLAN) is where those below it are. RDMA
 * devices without an interface are found by their class in turn.
 *
 * A NUMA node without processors may be CXL memory, but also high-bandwidth memory, persistent memory or
 * that of a GPU. It is CXL if a DAX device in a CXL region has become its memory, or, for what the
 * firmware set up (no DAX device is made then), if the host has CXL memory devices and nothing else
 * claims the node.
 *
 * Threads: any.
 */
#include "topo/topo_priv.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NODE_DIR "/sys/devices/system/node"
#define PCI_DIR  "/sys/bus/pci/devices"

#define ARPHRD_IS_LOOPBACK 772

/* ---- NUMA nodes ------------------------------------------------------------------------------- */

/* Kilobytes after "MemTotal:" in the first line of a meminfo. */
static uint64_t memory_of(const struct yk_sysfs *fs, const char *path) {
    char text[160];
    unsigned long long kb;
    if (yk_sysfs_text(fs, text, sizeof(text), "%s", path) <= 0)
        return 0;
    const char *at = strstr(text, "MemTotal:");
    return at != NULL && sscanf(at, "MemTotal: %llu", &kb) == 1 && kb < UINT64_MAX >> 10 ? kb << 10
                                                                                         : 0;
}

static void read_slit(const struct yk_sysfs *fs, struct yk_topo *t, uint32_t row) {
    char text[8192], *at = text, *end;
    if (yk_sysfs_text(fs, text, sizeof(text), NODE_DIR "/node%d/distance", t->nodes[row].id) <= 0)
        return;
    for (uint32_t i = 0; i < t->node_count; i++, at = end) {
        unsigned long n = strtoul(at, &end, 10);
        if (end == at)
            return;
        t->slit[row * t->node_count + i] = n < 256 ? (uint32_t)n : 0;
    }
}

/* Nodes that something made its memory: 1 CXL, 2 something else. */
static int claimed(const struct yk_sysfs *fs, int node) {
    struct yk_names dax;
    int found = 0;
    yk_sysfs_list(fs, &dax, "/sys/bus/dax/devices");
    for (uint32_t i = 0; i < dax.count && found == 0; i++) {
        char real[512];
        int64_t target;
        if (yk_sysfs_num(fs, &target, "/sys/bus/dax/devices/%s/target_node", dax.name[i]) < 0 ||
            target != node)
            continue;
        found =
            yk_sysfs_real(fs, real, sizeof(real), "/sys/bus/dax/devices/%s", dax.name[i]) == 0 &&
                    strstr(real, "/dax_region") != NULL
                ? 1
                : 2;
    }
    yk_names_free(&dax);
    return found;
}

static int has_cxl(const struct yk_sysfs *fs) {
    struct yk_names names;
    int found = 0;
    yk_sysfs_list(fs, &names, "/sys/bus/cxl/devices");
    for (uint32_t i = 0; i < names.count; i++)
        found |= strncmp(names.name[i], "mem", 3) == 0;
    yk_names_free(&names);
    return found;
}

/* A kernel, or a container, without NUMA: one node. */
static int one_node(const struct yk_sysfs *fs, struct yk_topo *t) {
    t->nodes = calloc(1, sizeof(*t->nodes));
    t->slit = calloc(1, sizeof(*t->slit));
    if (t->nodes == NULL || t->slit == NULL)
        return -YK_ENOMEM;
    t->node_count = 1;
    t->slit[0] = 10;
    t->nodes[0].has_cpus = 1;
    (void)yk_sysfs_text(fs, t->nodes[0].cpus, sizeof(t->nodes[0].cpus),
                        "/sys/devices/system/cpu/online");
    t->nodes[0].bytes = memory_of(fs, "/proc/meminfo");
    return 0;
}

static void read_node(const struct yk_sysfs *fs, struct yk_topo_node *n, int cxl) {
    char path[64];
    (void)yk_sysfs_text(fs, n->cpus, sizeof(n->cpus), NODE_DIR "/node%d/cpulist", n->id);
    n->has_cpus = n->cpus[0] != 0;
    snprintf(path, sizeof(path), NODE_DIR "/node%d/meminfo", n->id);
    n->bytes = memory_of(fs, path);
    if (!n->has_cpus && n->bytes > 0) {
        int by = claimed(fs, n->id);
        n->is_cxl = by == 1 || (by == 0 && cxl);
    }
}

static void name_nodes(struct yk_topo *t) {
    unsigned cxl = 0;
    for (uint32_t i = 0; i < t->node_count; i++) {
        struct yk_topo_node *n = &t->nodes[i];
        if (n->is_cxl)
            snprintf(n->location, sizeof(n->location), "cxl:%u", cxl++);
        else if (n->bytes > 0 || t->node_count == 1)
            snprintf(n->location, sizeof(n->location), "cpu:%u", (unsigned)n->id);
    }
}

int yk_topo_find_nodes(const struct yk_sysfs *fs, struct yk_topo *t) {
    struct yk_names names;
    int cxl = has_cxl(fs), rc = 0;
    yk_sysfs_list(fs, &names, NODE_DIR);
    t->nodes = calloc(names.count + 1, sizeof(*t->nodes));
    for (uint32_t i = 0; t->nodes != NULL && i < names.count; i++) {
        unsigned id;
        char more;
        if (sscanf(names.name[i], "node%u%c", &id, &more) != 1 || id > 65535)
            continue;
        t->nodes[t->node_count].id = (int)id;
        read_node(fs, &t->nodes[t->node_count++], cxl);
    }
    yk_names_free(&names);
    if (t->nodes != NULL && t->node_count == 0) {
        free(t->nodes);
        rc = one_node(fs, t);
    } else {
        t->slit = calloc((size_t)t->node_count * t->node_count + 1, sizeof(*t->slit));
        for (uint32_t i = 0; t->nodes != NULL && t->slit != NULL && i < t->node_count; i++)
            read_slit(fs, t, i);
    }
    if (t->nodes == NULL || t->slit == NULL)
        return -YK_ENOMEM;
    name_nodes(t);
    return rc;
}

/* ---- devices in general --------------------------------------------------------------------------- */

static struct yk_topo_dev *dev_add(struct yk_topo *t, enum yk_topo_kind kind) {
    struct yk_topo_dev *more = realloc(t->devs, (t->dev_count + 1) * sizeof(*more));
    if (more == NULL)
        return NULL;
    t->devs = more;
    struct yk_topo_dev *d = &more[t->dev_count++];
    memset(d, 0, sizeof(*d));
    d->kind = kind;
    d->node = -1;
    return d;
}

/* Length of "0000:17:00.0" at text, which ends there or at a '/'; 0: it is no PCI address. */
static size_t pci_len(const char *text) {
    unsigned domain, bus, slot, fn;
    int n = 0;
    if (sscanf(text, "%8x:%2x:%2x.%1x%n", &domain, &bus, &slot, &fn, &n) != 4 || n < 12)
        return 0;
    return text[n] == 0 || text[n] == '/' ? (size_t)n : 0;
}

/* The part of a path in sysfs from the root of the PCI domain to the last PCI device: d->path, d->pci. */
static void pci_of_path(struct yk_topo_dev *d, const char *real) {
    const char *root = strstr(real, "/pci"), *end = NULL, *last = NULL;
    if (root == NULL)
        return;
    for (const char *at = root; at != NULL; at = strchr(at + 1, '/')) {
        size_t n = pci_len(at + 1);
        if (n > 0 && n < sizeof(d->pci)) {
            last = at + 1;
            end = last + n;
        }
    }
    if (last == NULL || (size_t)(end - root) > sizeof(d->path))
        return;
    memcpy(d->pci, last, (size_t)(end - last));
    memcpy(d->path, root + 1, (size_t)(end - root - 1));
}

static void read_pci(const struct yk_sysfs *fs, struct yk_topo_dev *d) {
    int64_t n;
    if (d->pci[0] == 0)
        return;
    if (yk_sysfs_num(fs, &n, PCI_DIR "/%s/numa_node", d->pci) == 0 && n >= 0 && n < 65536)
        d->node = (int)n;
    if (yk_sysfs_num(fs, &n, PCI_DIR "/%s/vendor", d->pci) == 0)
        d->vendor = (uint16_t)n;
    if (yk_sysfs_num(fs, &n, PCI_DIR "/%s/device", d->pci) == 0)
        d->device = (uint16_t)n;
}

/* ---- network devices ----------------------------------------------------------------------------- */

/* A bond, a VLAN: where the ones below it are, as far as those agree. */
static void place_of_lower(const struct yk_sysfs *fs, struct yk_topo_dev *d, const char *name) {
    struct yk_names names;
    int first = 1;
    yk_sysfs_list(fs, &names, "/sys/class/net/%s", name);
    for (uint32_t i = 0; i < names.count; i++) {
        struct yk_topo_dev low = {.node = -1};
        char real[512];
        if (strncmp(names.name[i], "lower_", 6) != 0 ||
            yk_sysfs_real(fs, real, sizeof(real), "/sys/class/net/%s", names.name[i] + 6) < 0)
            continue;
        pci_of_path(&low, real);
        read_pci(fs, &low);
        if (first) {
            memcpy(d->path, low.path, sizeof(d->path));
            d->node = low.node;
        } else {
            if (strcmp(d->path, low.path) != 0)
                d->path[0] = 0;
            if (d->node != low.node)
                d->node = -1;
        }
        first = 0;
    }
    yk_names_free(&names);
}

static int is_up(const struct yk_sysfs *fs, const char *name) {
    char text[32];
    int64_t flags = 0, carrier = 0;
    if (yk_sysfs_text(fs, text, sizeof(text), "/sys/class/net/%s/operstate", name) <= 0)
        return 0;
    if (strcmp(text, "unknown") != 0)
        return strcmp(text, "up") == 0;
    /* Drivers of some virtual devices say no more than that they are switched on. */
    return yk_sysfs_num(fs, &flags, "/sys/class/net/%s/flags", name) == 0 &&
           (flags & IFF_UP) != 0 &&
           (yk_sysfs_num(fs, &carrier, "/sys/class/net/%s/carrier", name) < 0 || carrier == 1);
}

static void rdma_of(const struct yk_sysfs *fs, struct yk_topo_dev *d) {
    struct yk_names names;
    yk_sysfs_list(fs, &names, PCI_DIR "/%s/infiniband", d->pci);
    if (names.count > 0)
        snprintf(d->rdma, sizeof(d->rdma), "%.31s", names.name[0]);
    yk_names_free(&names);
}

static int find_interfaces(const struct yk_sysfs *fs, struct yk_topo *t) {
    struct yk_names names;
    int rc = 0;
    yk_sysfs_list(fs, &names, "/sys/class/net");
    for (uint32_t i = 0; i < names.count && rc == 0; i++) {
        const char *name = names.name[i];
        char real[512];
        int64_t n;
        if (yk_sysfs_num(fs, &n, "/sys/class/net/%s/type", name) < 0 || n == ARPHRD_IS_LOOPBACK ||
            yk_sysfs_real(fs, real, sizeof(real), "/sys/class/net/%s", name) < 0)
            continue;
        struct yk_topo_dev *d = dev_add(t, YK_TOPO_NIC);
        if (d == NULL) {
            rc = -YK_ENOMEM;
            break;
        }
        snprintf(d->name, sizeof(d->name), "%.31s", name);
        d->is_virtual = strstr(real, "/virtual/") != NULL;
        pci_of_path(d, real);
        read_pci(fs, d);
        if (d->is_virtual)
            place_of_lower(fs, d, name);
        else if (d->pci[0] != 0)
            rdma_of(fs, d);
        d->up = (uint8_t)is_up(fs, name);
        if (yk_sysfs_num(fs, &n, "/sys/class/net/%s/speed", name) == 0 && n > 0 && n < UINT32_MAX)
            d->mbit = (uint32_t)n;
        if (yk_sysfs_num(fs, &n, "/sys/class/net/%s/ifindex", name) == 0 && n > 0 && n < UINT32_MAX)
            d->ifindex = (uint32_t)n;
    }
    yk_names_free(&names);
    return rc;
}

static int rdma_known(const struct yk_topo *t, const char *name) {
    for (uint32_t i = 0; i < t->dev_count; i++)
        if (strcmp(t->devs[i].rdma, name) == 0)
            return 1;
    return 0;
}

/* RDMA devices that no interface has. */
static int find_rdma(const struct yk_sysfs *fs, struct yk_topo *t) {
    struct yk_names names;
    int rc = 0;
    yk_sysfs_list(fs, &names, "/sys/class/infiniband");
    for (uint32_t i = 0; i < names.count && rc == 0; i++) {
        const char *name = names.name[i];
        char real[512], text[64];
        unsigned gbit;
        if (rdma_known(t, name) ||
            yk_sysfs_real(fs, real, sizeof(real), "/sys/class/infiniband/%s", name) < 0)
            continue;
        struct yk_topo_dev *d = dev_add(t, YK_TOPO_NIC);
        if (d == NULL) {
            rc = -YK_ENOMEM;
            break;
        }
        snprintf(d->name, sizeof(d->name), "%.31s", name);
        snprintf(d->rdma, sizeof(d->rdma), "%.31s", name);
        d->is_virtual = strstr(real, "/virtual/") != NULL;
        pci_of_path(d, real);
        read_pci(fs, d);
        d->up = yk_sysfs_text(fs, text, sizeof(text), "/sys/class/infiniband/%s/ports/1/state",
                              name) > 0 &&
                strstr(text, "ACTIVE") != NULL;
        if (yk_sysfs_text(fs, text, sizeof(text), "/sys/class/infiniband/%s/ports/1/rate", name) >
                0 &&
            sscanf(text, "%u", &gbit) == 1 && gbit < 1000000)
            d->mbit = gbit * 1000u;
    }
    yk_names_free(&names);
    return rc;
}

/* Addresses, from the kernel: sysfs has none. */
static void find_addrs(struct yk_topo *t) {
    struct ifaddrs *all;
    if (getifaddrs(&all) < 0)
        return;
    for (struct ifaddrs *a = all; a != NULL; a = a->ifa_next) {
        int family = a->ifa_addr != NULL ? a->ifa_addr->sa_family : 0;
        const void *ip =
            family == AF_INET    ? (const void *)&((struct sockaddr_in *)a->ifa_addr)->sin_addr
            : family == AF_INET6 ? (const void *)&((struct sockaddr_in6 *)a->ifa_addr)->sin6_addr
                                 : NULL;
        for (uint32_t i = 0; ip != NULL && i < t->dev_count; i++) {
            struct yk_topo_dev *d = &t->devs[i];
            if (d->kind == YK_TOPO_NIC && strcmp(d->name, a->ifa_name) == 0 &&
                d->addr_count < YK_TOPO_ADDRS &&
                inet_ntop(family, ip, d->addrs[d->addr_count], sizeof(d->addrs[0])) != NULL)
                d->addr_count++;
        }
    }
    freeifaddrs(all);
}

/* ---- GPUs and NVMe --------------------------------------------------------------------------------- */

static const char *vendor_name(uint16_t vendor) {
    switch (vendor) {
    case 0x10de:
        return "NVIDIA";
    case 0x1002:
        return "AMD";
    case 0x8086:
        return "Intel";
    case 0x1a03:
        return "ASPEED";
    case 0x102b:
        return "Matrox";
    case 0x1af4:
        return "virtio";
    default:
        return "";
    }
}

/* Displays (class 03) and processing accelerators (12). Those that only drive a screen have no location. */
static int find_gpus(const struct yk_sysfs *fs, struct yk_topo *t) {
    struct yk_names names;
    unsigned cuda = 0, gpu = 0, vga = 0;
    int rc = 0;
    yk_sysfs_list(fs, &names, PCI_DIR);
    for (uint32_t i = 0; i < names.count && rc == 0; i++) {
        const char *pci = names.name[i];
        char real[512];
        int64_t class;
        if (pci_len(pci) == 0 || yk_sysfs_num(fs, &class, PCI_DIR "/%s/class", pci) < 0 ||
            (class >> 16 != 0x03 && class >> 16 != 0x12) ||
            yk_sysfs_real(fs, real, sizeof(real), PCI_DIR "/%s", pci) < 0)
            continue;
        struct yk_topo_dev *d = dev_add(t, YK_TOPO_GPU);
        if (d == NULL) {
            rc = -YK_ENOMEM;
            break;
        }
        pci_of_path(d, real);
        read_pci(fs, d);
        snprintf(d->text, sizeof(d->text), "%s", vendor_name(d->vendor));
        if (d->vendor == 0x10de)
            snprintf(d->name, sizeof(d->name), "cuda:%u", cuda++);
        else if (class >> 8 == 0x0300)
            snprintf(d->name, sizeof(d->name), "vga:%u", vga++);
        else
            snprintf(d->name, sizeof(d->name), "gpu:%u", gpu++);
    }
    yk_names_free(&names);
    return rc;
}

/* Sectors of a controller's namespaces, which stand below it (nvme0n1, with multipath nvme0c0n1). */
static uint64_t nvme_bytes(const struct yk_sysfs *fs, const char *name) {
    struct yk_names names;
    uint64_t sum = 0;
    int64_t n;
    yk_sysfs_list(fs, &names, "/sys/class/nvme/%s", name);
    for (uint32_t i = 0; i < names.count; i++)
        if (strncmp(names.name[i], "nvme", 4) == 0 &&
            yk_sysfs_num(fs, &n, "/sys/class/nvme/%s/%s/size", name, names.name[i]) == 0 && n > 0 &&
            n < INT64_MAX >> 10)
            sum += (uint64_t)n * 512u;
    yk_names_free(&names);
    return sum;
}

static int find_nvme(const struct yk_sysfs *fs, struct yk_topo *t) {
    struct yk_names names;
    int rc = 0;
    yk_sysfs_list(fs, &names, "/sys/class/nvme");
    for (uint32_t i = 0; i < names.count && rc == 0; i++) {
        const char *name = names.name[i];
        char real[512];
        if (yk_sysfs_real(fs, real, sizeof(real), "/sys/class/nvme/%s", name) < 0)
            continue;
        struct yk_topo_dev *d = dev_add(t, YK_TOPO_NVME);
        if (d == NULL) {
            rc = -YK_ENOMEM;
            break;
        }
        snprintf(d->name, sizeof(d->name), "%.31s", name);
        pci_of_path(d, real);
        read_pci(fs, d);
        (void)yk_sysfs_text(fs, d->text, sizeof(d->text), "/sys/class/nvme/%s/model", name);
        d->bytes = nvme_bytes(fs, name);
    }
    yk_names_free(&names);
    return rc;
}

/* ---- the whole -------------------------------------------------------------------------------------- */

/* By kind; with a PCI device first, by its address; then by name. */
static int by_place(const void *pa, const void *pb) {
    const struct yk_topo_dev *a = pa, *b = pb;
    if (a->kind != b->kind)
        return a->kind < b->kind ? -1 : 1;
    if ((a->pci[0] == 0) != (b->pci[0] == 0))
        return a->pci[0] == 0 ? 1 : -1;
    int c = strcmp(a->pci, b->pci);
    return c != 0 ? c : strverscmp(a->name, b->name);
}

int yk_topo_find_devs(const struct yk_sysfs *fs, struct yk_topo *t) {
    int rc = find_interfaces(fs, t);
    if (rc == 0)
        rc = find_rdma(fs, t);
    if (rc == 0)
        rc = find_gpus(fs, t);
    if (rc == 0)
        rc = find_nvme(fs, t);
    if (rc < 0)
        return rc;
    if (t->dev_count > 0)
        qsort(t->devs, t->dev_count, sizeof(*t->devs), by_place);
    if (fs->root[0] == 0)
        find_addrs(t);
    /* With one node of processors there is nothing to find out. */
    int only = -1, nodes = 0;
    for (uint32_t i = 0; i < t->node_count; i++) {
        only = t->nodes[i].has_cpus ? t->nodes[i].id : only;
        nodes += t->nodes[i].has_cpus;
    }
    for (uint32_t i = 0; i < t->dev_count && nodes == 1; i++)
        t->devs[i].node = t->devs[i].node < 0 ? only : t->devs[i].node;
    return 0;
}

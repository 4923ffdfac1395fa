/* SPDX-License-Identifier: Apache-2.0
 *
 * What this host has and how far apart it is: NUMA nodes, network devices, GPUs, NVMe, CXL memory; for
 * each place where memory can be, the network devices that are near it.
 *
 * All of it comes from sysfs, read once. hwloc was left out: record 0010 says what it would add. What
 * sysfs does not say, or says wrong (hypervisors hide sockets and switches), a file can set right.
 *
 *   location  "cpu:N"   host memory of NUMA node N
 *             "cxl:N"   memory of the N-th NUMA node that is made of CXL devices
 *             "cuda:N"  memory of the N-th NVIDIA GPU in order of PCI address, as nvidia-smi numbers
 *                       them; a process for which CUDA hides or reorders GPUs has to translate
 *             "gpu:N"   the same of other accelerators
 *
 * Near are those devices of which nothing is nearer; a location whose distances are not known (a virtual
 * machine, a container) has them all near. Speed is not judged here: the transfer engine measures it.
 *
 * The file that overrides, JSON; an error says in which line. Either part may be missing, and a file
 * that has only locations may leave out their name:
 *
 *   {"devices":   {"eth4": {"node": 1, "mbit": 400000}, "eth9": {"ignore": true}},
 *    "locations": {"cpu:0": [["eth0", "eth1"], ["eth4"]], "cuda:0": [["eth0"], []]}}
 *
 * devices   by name or PCI address: NUMA node, speed in Mbit/s, or to be left alone
 * locations for each a list of near devices and one of others; devices in neither are not used for it
 *
 * Threads: any; a topology is immutable.
 */
#ifndef YK_TOPO_TOPO_H
#define YK_TOPO_TOPO_H

#include "base/json.h"
#include "base/status.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define YK_TOPO_NAME     32u
#define YK_TOPO_LOCATION 16u
#define YK_TOPO_ADDRS    16u
#define YK_TOPO_FILE_MAX (1u << 20)

struct yk_topo_opts {
    const char *root;     /* directory that stands for /, with its own sys; NULL: this host */
    const char *override; /* file; NULL: none */
};

/* A NUMA node. */
struct yk_topo_node {
    int id;
    uint8_t has_cpus;
    uint8_t is_cxl;
    char cpus[256];                  /* "0-31,64-95" */
    uint64_t bytes;                  /* of memory */
    char location[YK_TOPO_LOCATION]; /* "" = it has no memory */
};

enum yk_topo_kind { YK_TOPO_NIC = 1, YK_TOPO_GPU, YK_TOPO_NVME };

struct yk_topo_dev {
    enum yk_topo_kind kind;
    char name
        [YK_TOPO_NAME]; /* "eth0", "cuda:0", "nvme0"; a display that is no accelerator: "vga:0" */
    char pci[YK_TOPO_NAME];  /* "0000:17:00.0", "" = none */
    char path[256];          /* from the root of its PCI domain down to it */
    uint16_t vendor, device; /* PCI ids */
    int node;                /* NUMA, -1 = not known */
    uint8_t ignored;         /* the override says so */
    char text[64];           /* GPU: vendor; NVMe: model */
    uint64_t bytes;          /* NVMe */
    /* NIC */
    uint8_t up, is_virtual;
    uint32_t mbit;           /* 0 = not known */
    uint32_t ifindex;        /* 0 = it has no network interface (InfiniBand without IP) */
    char rdma[YK_TOPO_NAME]; /* "mlx5_0", "" = none */
    uint32_t addr_count;
    char addrs[YK_TOPO_ADDRS][46];
};

enum yk_topo_near {
    YK_TOPO_SELF = 0,
    YK_TOPO_SWITCH, /* below the same port of a root complex: no byte between them goes through it */
    YK_TOPO_ROOT,   /* at the same root complex */
    YK_TOPO_SOCKET, /* at the same NUMA node */
    YK_TOPO_FAR,    /* another one, or not known */
};

/* A network device, seen from a location. */
struct yk_topo_way {
    uint32_t dev;      /* index */
    uint32_t distance; /* of equal ones none is nearer; the numbers have no unit */
};

struct yk_topo_loc {
    char name[YK_TOPO_LOCATION];
    int node;
    int dev; /* index of the GPU, -1: host memory */
    uint8_t overridden;
    struct yk_topo_way
        *ways; /* near ones, then others, by distance; those that are up and not ignored */
    uint32_t near_count, way_count;
};

struct yk_topo {
    struct yk_topo_node *nodes; /* by id */
    uint32_t node_count;
    uint32_t *slit;           /* node_count x node_count: 10 = the same; 0 = not known */
    struct yk_topo_dev *devs; /* NICs, GPUs, NVMe; each by PCI address */
    uint32_t dev_count;
    struct yk_topo_loc *locs;
    uint32_t loc_count;
};

/* What there is. What cannot be read is not there; errors are of the override, and of memory:
 * -YK_ENOENT, -YK_EPERM, -YK_EINVAL "FILE:LINE: found ..., expected ...", -YK_ENOMEM. */
int yk_topo_find(const struct yk_topo_opts *opts, struct yk_topo **ret_topo, struct yk_err *err);
void yk_topo_free(struct yk_topo *topo);

/* The only NUMA node of this host that has memory; -1: several, or not known. One small file of sysfs:
 * where there is one node, nobody has to read the rest to know where memory is. */
int yk_topo_only_node(void);

/* By name, PCI address, RDMA name or IP address; NULL: there is none. */
const struct yk_topo_dev *yk_topo_dev(const struct yk_topo *topo, const char *name);
const struct yk_topo_loc *yk_topo_loc(const struct yk_topo *topo, const char *name);
/* The location of a NUMA node's memory; NULL: none. */
const char *yk_topo_node_location(const struct yk_topo *topo, int node);

enum yk_topo_near yk_topo_near(const struct yk_topo *topo, const struct yk_topo_dev *a,
                               const struct yk_topo_dev *b);
const char *yk_topo_near_name(enum yk_topo_near near);

/* How far a network device (any name that yk_topo_dev takes) is from a location: 0 = near, 1... = the
 * others by distance; UINT32_MAX: it is not to be used for it. What is not known here is near. */
uint32_t yk_topo_distance(const struct yk_topo *topo, const char *location, const char *device);

/* One object, into a writer that awaits a value. */
void yk_topo_json(const struct yk_topo *topo, struct yk_json *json);

#ifdef __cplusplus
}
#endif

#endif

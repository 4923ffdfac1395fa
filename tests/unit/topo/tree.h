/* SPDX-License-Identifier: Apache-2.0
 *
 * Directories that look like sysfs, for hosts that are not at hand.
 */
#ifndef YK_TESTS_TOPO_TREE_H
#define YK_TESTS_TOPO_TREE_H

#include <stdint.h>

struct tree {
    char root[64];
    int interfaces; /* made so far: the next one's number is two more */
};

void tree_init(struct tree *t);
void tree_fini(struct tree *t);

/* A file with its directories; text gets a line's end. */
void tree_file(struct tree *t, const char *path, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* A link to a path below the root. */
void tree_link(struct tree *t, const char *path, const char *to);

void tree_node(struct tree *t, int id, const char *cpus, uint64_t mib, const char *distance);
/* path: "pci0000:15/0000:15:01.0/0000:16:00.0"; its last part is the device. */
void tree_pci(struct tree *t, const char *path, unsigned class, unsigned vendor, int node);
/* An interface of the PCI device at path; NULL: a virtual one. rdma: NULL = none. */
void tree_nic(struct tree *t, const char *name, const char *path, int mbit, const char *state,
              const char *rdma);

/* 2 sockets; at each two root complexes of two ports, each with a switch that has a GPU and a network
 * device: cuda:I and ethI share one. CXL memory at node 2, near socket 0. A display, an NVMe at socket 1. */
void tree_big(struct tree *t);

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * What the parts share: sysfs.c reads files, find.c makes nodes and devices of them, near.c distances and
 * locations, override.c what a file says otherwise, topo.c the whole and its views.
 */
#ifndef YK_TOPO_TOPO_PRIV_H
#define YK_TOPO_TOPO_PRIV_H

#include "topo/topo.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- sysfs.c: paths are below the root ---------------------------------------------------------- */

struct yk_sysfs {
    char root[4096]; /* absolute, without links; "" = / */
};

/* -1: no such directory. */
int yk_sysfs_init(struct yk_sysfs *fs, const char *root);
/* A small file without what ends its line: its length, or -1. */
int yk_sysfs_text(const struct yk_sysfs *fs, char *buf, size_t bytes, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* A number, decimal or 0x...; 0 or -1. */
int yk_sysfs_num(const struct yk_sysfs *fs, int64_t *ret, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Where a path leads when its links are followed, without the root; 0 or -1. */
int yk_sysfs_real(const struct yk_sysfs *fs, char *buf, size_t bytes, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* Names in a directory, in order of the numbers in them; none where there is no directory. */
struct yk_names {
    char **name;
    uint32_t count;
};
void yk_sysfs_list(const struct yk_sysfs *fs, struct yk_names *ret, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void yk_names_free(struct yk_names *names);

/* ---- the parts: 0 or -YK_ENOMEM ------------------------------------------------------------------- */

int yk_topo_find_nodes(const struct yk_sysfs *fs, struct yk_topo *topo);
int yk_topo_find_devs(const struct yk_sysfs *fs, struct yk_topo *topo);
/* Locations of what was found, with the ways that their distances give. */
int yk_topo_find_locs(struct yk_topo *topo);
/* The file's devices; then, when locations are there, its locations. */
struct yk_override;
int yk_override_read(const char *path, struct yk_override **ret, struct yk_err *err);
/* The same from memory; path is for messages, and borrowed until free. */
int yk_override_text(const char *path, const char *text, size_t len, struct yk_override **ret,
                     struct yk_err *err);
int yk_override_devs(struct yk_override *o, struct yk_topo *topo, struct yk_err *err);
int yk_override_locs(struct yk_override *o, struct yk_topo *topo, struct yk_err *err);
void yk_override_free(struct yk_override *o);

struct yk_topo_dev *yk_topo_dev_find(const struct yk_topo *topo, const char *name);

#ifdef __cplusplus
}
#endif

#endif

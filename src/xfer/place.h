/* SPDX-License-Identifier: Apache-2.0
 *
 * Where the memory of an engine lies, and how far the devices of its rails are from there.
 *
 * Memory has a location (topo.h): given by who registers it, or found out by asking the kernel where a few
 * of its pages are. An engine's place is the location that most of its registered bytes have; rails are
 * put in order by their device's distance from that when they are made. It is a preference among equals:
 * what a rail really moves is measured (model.h).
 *
 * The topology is read when the first rail over a device is made, or, where several nodes have memory, when
 * some is registered: most engines inside one host never need it. With an override it is read at once, so
 * that what is wrong with the file is said by create.
 *
 * Threads: any.
 */
#ifndef YK_XFER_PLACE_H
#define YK_XFER_PLACE_H

#include "topo/topo.h"
#include "xfer/transport.h"

#ifdef __cplusplus
extern "C" {
#endif

struct yk_places;

/* override: a file as topo.h describes it, borrowed; NULL: none. Its errors, and -YK_ENOMEM. */
int yk_places_new(const char *override, struct yk_places **ret_places, struct yk_err *err);
void yk_places_free(struct yk_places *p);

/* The location of memory as far as its pages tell: those that have been touched, else the node it is bound
 * to. Some microseconds; reads nothing of the memory. "": not known. */
void yk_places_find(struct yk_places *p, const void *addr, uint64_t len,
                    char ret_location[YK_TOPO_LOCATION]);

/* len more bytes are registered there, or fewer. "" counts for nothing. */
void yk_places_add(struct yk_places *p, const char *location, uint64_t len);
void yk_places_sub(struct yk_places *p, const char *location, uint64_t len);

/* Copies what is registered where, most first; how many locations. */
struct yk_place {
    char location[YK_TOPO_LOCATION];
    uint64_t bytes;
};
#define YK_PLACES_MAX 64u /* of an engine; memory at others counts for nothing */
uint32_t yk_places_list(struct yk_places *p, struct yk_place ret[YK_PLACES_MAX]);

/* Rails of one transport to one peer: sets their distances and puts near ones first, else in the order
 * they had. Those over devices that are not to be used go, unless none is left then; how many stay. */
uint32_t yk_places_rails(struct yk_places *p, struct yk_rail_desc *rails, uint32_t n);
/* The same with a topology and a location ("": not known). */
uint32_t yk_place_order(const struct yk_topo *topo, const char *location, struct yk_rail_desc *rails,
                        uint32_t n);

/* The NUMA node of memory, or -1. */
int yk_place_node(const void *addr, uint64_t len);

#ifdef __cplusplus
}
#endif

#endif

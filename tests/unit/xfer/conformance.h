/* SPDX-License-Identifier: Apache-2.0
 *
 * What every transport has to do, against the public API: exact bytes or an error, one end for each
 * request, nothing touched after that. Run by a test program for each transport, plain and with faults.
 *
 * Thread: the test's.
 */
#ifndef YK_TEST_CONFORMANCE_H
#define YK_TEST_CONFORMANCE_H

#include <yolk/transfer.h>

#include <stdint.h>

#define CONFORM_BYTES (20u << 20) /* of the segment, at most */
#define CONFORM_NAME  "conform"

enum { CONFORM_GUARD = 1, CONFORM_NOTIFY = 2, CONFORM_FAULTS_ALONE = 4 };

/* Two ends: `from` has opened segment `segment` of `to`. */
struct conform_rig {
    const char *name;
    uint32_t can; /* CONFORM_GUARD, CONFORM_NOTIFY */
    /* Makes both engines with these options (and its own besides), publishes and opens. */
    void (*open)(struct conform_rig *rig, const yk_xfer_opts *opts);
    void (*close)(struct conform_rig *rig);
    /* The segment's bytes, around the engine. */
    void (*put)(struct conform_rig *rig, uint64_t offset, const void *data, uint64_t len);
    void (*get)(struct conform_rig *rig, uint64_t offset, void *data, uint64_t len);

    yk_xfer *from, *to;
    yk_xfer_segment segment;
    char *memory; /* the segment's, of rigs that have it in this process */
    char dir[64];
    uint64_t bytes;      /* of the segment that is to be opened, where not all are used; 0: CONFORM_BYTES */
    uint32_t transports; /* of two engines in this process */
    const char *listen;
    uint32_t poor_ms; /* of faults that leave little hope, the time for a request; 0: as suits loopback */
};

/* open, close, put, get for two engines in this process, over rig->transports, listening at
 * rig->listen if it is set; names in a directory of their own. */
void conform_open_two(struct conform_rig *rig, const yk_xfer_opts *opts);
void conform_close_two(struct conform_rig *rig);
void conform_put_memory(struct conform_rig *rig, uint64_t offset, const void *data, uint64_t len);
void conform_get_memory(struct conform_rig *rig, uint64_t offset, void *data, uint64_t len);

/* Everything without faults. */
void conform_plain(struct conform_rig *rig);
/* One kind of fault ("error", "drop", ...): every Nth slice, N from 1 until none was hit. extra: more of
 * the fault's text, "" for none. */
void conform_faults(struct conform_rig *rig, const char *kind, const char *extra);
/* One kind of fault at random, `rate` of the slices: exact bytes or an error for each request; at rates in
 * between some go well, and of faults that are a request's alone (extra ",scope=request") some fail. */
void conform_rates(struct conform_rig *rig, const char *kind, const char *extra);

#endif

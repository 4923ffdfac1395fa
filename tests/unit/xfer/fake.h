/* SPDX-License-Identifier: Apache-2.0
 *
 * A transport for tests of the core: rails of scripted speed whose lanes stall, fail and come back when
 * the test says so. What they "reach" is a buffer of the test. It checks what a target would suffer
 * from: a write over memory that a dead lane may still write to, before a fence has closed that lane.
 *
 * Thread: ops by the shard's owner; `fake` by the test while nothing is under way, and what says so by
 * any.
 */
#ifndef YK_TEST_FAKE_H
#define YK_TEST_FAKE_H

#include "xfer/engine_priv.h"
#include "xfer/shard_priv.h"

#define FAKE_RAILS 8u
#define FAKE_LOG   65536u

struct fake_rail {
    double bytes_per_s;
    uint32_t distance;
    uint32_t lacks; /* enum yk_rail_caps */
    uint64_t connect_ns; /* until a lane is up */
    uint32_t connect_ms; /* that one may take, whatever is usual */
    uint64_t path_ns;    /* what its lanes say of the way there and back */
    uint64_t greet_ns;   /* and of their greeting: the rest of connect_ns has nothing to do with the way */
    uint32_t loses;      /* packets, for each slice */
    uint32_t patient;    /* its lanes do not mind */
    uint32_t mute;       /* any: atomic; so many connections are not answered */
    uint32_t refuse;     /* any: atomic; so many connections fail */
    uint32_t poor;       /* any: atomic; there is no descriptor for a connection */
    uint32_t meagre;     /* any: atomic; a connection is answered, and then lacks something */
    int refusal;         /* what it is told of that; 0: -YK_ELIMIT */
    uint32_t silent;     /* any: atomic; nothing moves */
    uint32_t vain;       /* any: atomic; nothing moves either, but connections are answered */
    uint64_t aside_max;  /* slices up to that length go beside the devices, and so move in spite of that; 0: none */
    uint64_t forgot;     /* any: atomic; nothing moves on lanes up to that number: the path forgot them */
    uint64_t deaf;       /* any: atomic; nothing moves on the lane of that number */
    uint32_t acks;       /* any: atomic; what is silent takes a PING all the same, as a stopped peer's kernel does */
    uint32_t fail_at;    /* any: atomic; with its Nth slice from now a lane goes down; 0 = none */
    uint32_t restarted;  /* any: atomic; the peer turns out to be another */
    uint32_t hidden;     /* any: atomic; who looks for rails does not find it */
    uint64_t bytes;      /* any: atomic; moved, ever */
    uint32_t slices, connects, downs; /* any: atomic */
    uint32_t urgent;     /* any: atomic; connections for an urgent lane */
    uint64_t free_at_ns, urgent_free_at_ns;
};

struct fake_post {
    uint8_t rail, op, xclass, bulk;
    uint64_t len, offset, at_ns, due_ns;
};

struct fake {
    uint32_t rail_count;
    struct fake_rail rail[FAKE_RAILS];
    char *memory; /* of the peer */
    uint64_t bytes;
    uint64_t lanes; /* any: atomic; made so far: the number of the last one */
    struct fake_post log[FAKE_LOG];
    uint32_t log_count;
    uint32_t fences;      /* that were asked for */
    uint32_t overwrites;  /* writes where a dead lane might still write: must stay 0 */
    uint32_t keeps_on;    /* cancelled slices do not end by themselves */
    uint32_t torn;        /* keys of memory that were dropped while it was held: must stay 0 */
    uint32_t looks;       /* any: atomic; for rails */
    uint32_t pins;        /* any: atomic; a device does not let go of memory */
    uint32_t split;       /* rails from 1 on are another transport's */
};
extern struct fake fake;
extern const struct yk_xport_ops *const fake_xports[];

/* An engine over the fake transport with an open segment of `bytes` (fake.memory), and registered local
 * memory of the same size. */
struct fake_rig {
    yk_xfer *engine;
    yk_xfer_segment segment;
    char *local;
};
void fake_begin(struct fake_rig *rig, uint32_t rails, double bytes_per_s, uint64_t bytes,
                const yk_xfer_opts *opts);
void fake_end(struct fake_rig *rig);
/* A request for [offset, offset + len) of both. */
yk_xfer_request fake_request(const struct fake_rig *rig, uint32_t op, uint64_t offset, uint64_t len);
/* Waits until a counter has a value, at most ten seconds. */
void fake_wait(const uint32_t *counter, uint32_t at_least);

#endif

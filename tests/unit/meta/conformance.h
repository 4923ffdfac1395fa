/* SPDX-License-Identifier: Apache-2.0
 *
 * What every backend of the metadata has to do; a program for each runs it.
 */
#ifndef YK_TEST_META_CONFORMANCE_H
#define YK_TEST_META_CONFORMANCE_H

#include "rig.h"

struct store {
    /* A handle; o has the test's options, endpoints are filled in. An empty store for each test. */
    struct yk_meta *(*open)(struct yk_meta_opts *o);
    void (*wipe)(void);
    /* What was changed up to revision cannot be told any more. */
    void (*compact)(struct yk_meta *m, uint64_t revision);
    bool shared; /* two handles see the same store */
};

extern const struct store store; /* the program's */
int conformance_run(const char *name);

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * The metadata of a node that is alone: what every backend has to do.
 */
#include "conformance.h"

static struct yk_meta *open_embedded(struct yk_meta_opts *o) {
    struct yk_meta *m = NULL;
    struct yk_err err = {0};
    if (yk_meta_open(o, &m, &err) < 0)
        fail_msg("%s", err.text);
    assert_string_equal(yk_meta_backend_name(m), "embedded");
    return m;
}

static void wipe(void) {} /* each handle is a store of its own */

/* Its history is as long as the option says. */
static void compact(struct yk_meta *m, uint64_t revision) {
    for (unsigned i = 0; i < 64; i++)
        rig_must_put(m, "elsewhere", "", 0);
}

const struct store store = {.open = open_embedded, .wipe = wipe, .compact = compact};

int main(void) {
    return conformance_run("meta_embedded");
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * See held.h.
 */
#include "held.h"

#include "xfer/engine_priv.h"

void *held_take(yk_xfer *engine, void *addr) {
    return yk_registry_find(engine->registry, addr, 1);
}

void held_give(yk_xfer *engine, void *held) {
    yk_registry_put(engine->registry, held);
}

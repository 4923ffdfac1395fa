/* SPDX-License-Identifier: Apache-2.0
 *
 * The transports, in order of preference: rails of the first that reaches a peer and works are used.
 */
#include "xfer/mem/mem.h"
#include "xfer/transport.h"

const struct yk_xport_ops *const yk_xports[] = {&yk_xport_mem, NULL};

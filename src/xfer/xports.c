/* SPDX-License-Identifier: Apache-2.0
 *
 * The transports, in order of preference: rails of the first that reaches a peer and works are used.
 */
#include "xfer/file/transport.h"
#include "xfer/mem/mem.h"
#include "xfer/shm/shm.h"
#include "xfer/rdma/rdma.h"
#include "xfer/target.h"
#include "xfer/tcp/tcp.h"
#include "xfer/transport.h"

const struct yk_xport_ops *const yk_xports[] = {
    &yk_xport_mem, &yk_xport_shm, &yk_xport_unix, &yk_xport_rdma, &yk_xport_tcp, &yk_xport_file, NULL,
};

const struct yk_target_ops *const yk_target = &yk_target_rdma;

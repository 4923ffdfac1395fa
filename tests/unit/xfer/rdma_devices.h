/* SPDX-License-Identifier: Apache-2.0
 *
 * RDMA devices as tests see and cut them: packets by their counters, links down and up, memory that may not be pinned.
 *
 *   YOLK_RDMA_CUT  network devices that may be taken down: "n0b,n1b"
 *
 * Threads: the test's. What is not possible fails the test.
 */
#ifndef YK_TEST_XFER_RDMA_DEVICES_H
#define YK_TEST_XFER_RDMA_DEVICES_H

#include <stdint.h>

#include <yolk/transfer.h>

#define RDMA_CUTS_MAX 8u

extern const char *rdma_cuts[RDMA_CUTS_MAX];
extern uint32_t rdma_cut_count;
void rdma_cuts_read(void); /* from the environment */

struct rdma_counters {
    uint32_t n;
    char name[32][64];
    uint64_t packets[32]; /* that it has received */
};
struct rdma_counters rdma_devices(void);
uint64_t rdma_packets_since(const struct rdma_counters *before);

/* For devices that count no packets (siw): bytes that TCP sockets of this process have sent and received, which no device
 * did, since siw's own sockets are the kernel's; and bytes that came to the ends of wires that may be cut, by whatever. */
uint64_t rdma_streamed(void);
uint64_t rdma_carried(void);

void rdma_set_link(uint32_t cut, const char *state); /* "down", "up" */
/* All up, and the port of every device active again. */
void rdma_links_up(void);

/* Of an engine with nothing under way: a lane counts as silent later than by default, since an emulated device takes
 * longer than that to give a sign. */
void rdma_be_patient(yk_xfer *engine);

/* From here on this process may not lock memory, and may again (it needs to be root). */
void rdma_no_pinning(void);
void rdma_may_pin(void);

#endif

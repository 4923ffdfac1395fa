/* SPDX-License-Identifier: Apache-2.0
 *
 * Devices in this process, in place of libibverbs and of what sysfs says: they read memory by keys as real ones do, and
 * check access and bounds, so that engines can be run over them on any host; and they hang, vanish and come back when the
 * test says so. What they do not show is anything about drivers and wires: that is for the guest (tests/vm).
 *
 * A dma-buf they map by themselves: it may be a memfd, which has no other way to it here than a real one has.
 *
 * Device N is "softN" with one port, whose address is 127.0.0.(1 + N) until the test gives it another. The program is
 * linked with --wrap=yk_rdma_ports_now, and has no library but this.
 *
 * Threads: any.
 */
#ifndef YK_TEST_SOFT_VERBS_H
#define YK_TEST_SOFT_VERBS_H

#include <stdint.h>

#define SOFT_DEVICES 4u

struct soft {
    uint32_t devices;            /* that there are */
    char host[SOFT_DEVICES][16]; /* "": its port is not there */
    uint32_t hang_open, hang_reg; /* bits by device: they wait until theirs is 0 */
    uint32_t hanging;            /* calls that do */
    uint32_t opened, closed, made, gone, qps; /* calls that ended well; qps: that there are */
    uint32_t strangers;          /* bits by device: it takes no dma-bufs */
    uint32_t buffers;            /* registrations of dma-bufs that ended well */
    uint32_t refused;            /* reads that were not allowed: must stay 0 unless the test wants them */
    uint32_t untrue;             /* reads that are still to end well without all of their bytes */
    uint32_t untruths;           /* that did */
    uint32_t emulated;           /* bits by device: it says that it is a driver of the kernel (rxe) */
    uint64_t reads[SOFT_DEVICES], bytes[SOFT_DEVICES]; /* by the device that reads */
    /* Called for each read before its bytes are copied: addr is of this process, and the memory of who is read. Or NULL. */
    void (*on_read)(const void *addr, uint64_t len);
};

void soft_begin(uint32_t devices); /* all as it was; nothing may be left of what was before */
/* Asserts that nothing is left of what was made, which a helper may keep for a while: waits for that. */
void soft_end(void);
/* A copy of it all, as it is now. */
struct soft soft_now(void);
void soft_hang(uint32_t open, uint32_t reg); /* bits by device */
void soft_untrue(uint32_t emulated, uint32_t reads); /* emulated: of devices that are opened from then on */
void soft_strangers(uint32_t bits);
void soft_on_read(void (*fn)(const void *addr, uint64_t len));
void soft_host(uint32_t device, const char *host);
/* Takes it out: its port is gone, what is open fails, and says so. And puts another in its place. */
void soft_take_out(uint32_t device);
void soft_put_back(uint32_t device);

/* Of the key, as a peer would try: 1 if a queue pair of that device may read (write) [addr, addr + len) by it. */
int soft_may(uint32_t device, uint32_t rkey, uint64_t addr, uint64_t len, int write);

#endif

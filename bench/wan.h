/* SPDX-License-Identifier: Apache-2.0
 *
 * A long way between two network namespaces of this machine: a TUN device in each, and a loop in between that
 * passes packets on late, not faster than a link of some rate would, and not all of them.
 *
 * Thread: one for a link; no state but its own.
 */
#ifndef YK_BENCH_WAN_H
#define YK_BENCH_WAN_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct yk_wan_opts {
    double delay_s;     /* each way */
    double bytes_per_s; /* each way, of IP packets */
    double loss;        /* 0 to 1, of packets, each way, by chance */
    uint64_t seed;
};

struct yk_wan_counts { /* each way */
    uint64_t passed, lost, overflowed;
};

/* Makes the device in the network namespace of the calling thread; it goes when the descriptor is closed. The
 * descriptor, not blocking, or -errno. */
int yk_wan_device(const char *name);

/* Passes packets between two devices until stop_fd has something to read, or its other end is closed. Both
 * descriptors stay the caller's. The calling thread goes before others on the machine from then on, as it may: a
 * link is not late because a processor is busy. 0, or -YK_ENOMEM, -YK_EIO: a device is gone. ret_counts may be NULL. */
int yk_wan_run(int a, int b, int stop_fd, const struct yk_wan_opts *opts, struct yk_wan_counts ret_counts[2]);

#ifdef __cplusplus
}
#endif

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * wan_link PID PID DELAY_MS MBIT LOSS_PERCENT SEED: a long way between the network namespaces of two processes
 * (bench/wan.h), device wan0 in each. Says "up" when they are there. At the end of its input it says, for each
 * way, how many packets it passed and lost, and ends; the devices go with it.
 */
#include "bench/wan.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* In the namespace of that process. */
static int device_of(const char *pid) {
    char path[64];
    snprintf(path, sizeof(path), "/proc/%.20s/ns/net", pid);
    int ns = open(path, O_RDONLY | O_CLOEXEC);
    if (ns < 0 || setns(ns, CLONE_NEWNET) < 0) {
        perror(path);
        return -1;
    }
    close(ns);
    int fd = yk_wan_device("wan0");
    if (fd < 0)
        fprintf(stderr, "wan0: %s\n", strerror(-fd));
    return fd;
}

int main(int argc, char **argv) {
    struct yk_wan_counts counts[2] = {{0}};
    if (argc != 7)
        return 2;
    struct yk_wan_opts o = {.delay_s = strtod(argv[3], NULL) / 1e3,
                            .bytes_per_s = strtod(argv[4], NULL) * 125000,
                            .loss = strtod(argv[5], NULL) / 100,
                            .seed = strtoull(argv[6], NULL, 10)};
    int a = device_of(argv[1]), b = a < 0 ? a : device_of(argv[2]);
    if (b < 0)
        return 1;
    puts("up");
    fflush(stdout);
    int rc = yk_wan_run(a, b, STDIN_FILENO, &o, counts);
    for (int i = 0; i < 2; i++)
        printf("%llu %llu\n", (unsigned long long)counts[i].passed, (unsigned long long)counts[i].lost);
    return rc < 0;
}

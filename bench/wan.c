/* SPDX-License-Identifier: Apache-2.0
 *
 * See wan.h. Each way is a queue in front of a link, as a router has it: a packet leaves when those before it
 * have, each after its bytes over the rate, and is there `delay` later. The queue holds 100 ms; what finds it
 * full is dropped, as is each packet by chance when it comes.
 *
 * netem would do the same within the kernel, but not every kernel has it.
 *
 * Thread: the caller's.
 */
#include "bench/wan.h"

#include "base/clock.h"
#include "base/status.h"
#include "bench/measure.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include <linux/if.h>
#include <linux/if_tun.h>

#define PACKET_MAX 1600u
#define PACKETS    8192u /* under way each way; a power of two */
#define QUEUE_NS   (100 * YK_NS_PER_MS)

struct packet {
    uint64_t due_ns;
    uint32_t len;
    unsigned char bytes[PACKET_MAX];
};

struct way {
    int from, to;
    uint32_t head, tail;
    uint64_t free_ns; /* when the link has sent all that it has taken */
    struct packet *packets;
    struct yk_wan_counts counts;
};

int yk_wan_device(const char *name) {
    struct ifreq r;
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return -errno;
    memset(&r, 0, sizeof(r));
    r.ifr_flags = IFF_TUN | IFF_NO_PI;
    snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", name);
    if (ioctl(fd, TUNSETIFF, &r) < 0) {
        int e = errno;
        close(fd);
        return -e;
    }
    return fd;
}

static int lost(const struct yk_wan_opts *o, uint64_t *random) {
    return (double)(yk_random(random) >> 11) / 9007199254740992.0 < o->loss;
}

/* Takes what has come. < 0: the device is gone. */
static int take(struct way *w, const struct yk_wan_opts *o, uint64_t *random) {
    for (int i = 0; i < 64 && w->tail - w->head < PACKETS; i++) {
        struct packet *p = &w->packets[w->tail % PACKETS];
        ssize_t n = read(w->from, p->bytes, PACKET_MAX);
        if (n <= 0)
            return n < 0 && errno != EAGAIN && errno != EINTR && errno != EIO ? -YK_EIO : 0; /* EIO: it is down */
        uint64_t now = yk_now_ns(), start = w->free_ns > now ? w->free_ns : now;
        if (lost(o, random)) {
            w->counts.lost++;
        } else if (start - now > QUEUE_NS) {
            w->counts.overflowed++;
        } else {
            w->free_ns = start + (uint64_t)((double)n / o->bytes_per_s * 1e9);
            p->due_ns = w->free_ns + (uint64_t)(o->delay_s * 1e9);
            p->len = (uint32_t)n;
            w->tail++;
        }
    }
    return 0;
}

/* Hands on what has arrived; when the next will have. */
static uint64_t give(struct way *w) {
    while (w->head != w->tail) {
        struct packet *p = &w->packets[w->head % PACKETS];
        if (p->due_ns > yk_now_ns())
            return p->due_ns;
        if (write(w->to, p->bytes, p->len) == (ssize_t)p->len)
            w->counts.passed++;
        w->head++;
    }
    return UINT64_MAX;
}

static int turn(struct way ways[2], int stop_fd, const struct yk_wan_opts *o, uint64_t *random) {
    uint64_t a = give(&ways[0]), b = give(&ways[1]), due = a < b ? a : b, now = yk_now_ns();
    uint64_t wait = due == UINT64_MAX ? YK_NS_PER_S : due > now ? due - now : 0;
    struct timespec ts = {.tv_sec = (time_t)(wait / YK_NS_PER_S), .tv_nsec = (long)(wait % YK_NS_PER_S)};
    struct pollfd p[3] = {{.fd = ways[0].from, .events = POLLIN},
                          {.fd = ways[1].from, .events = POLLIN},
                          {.fd = stop_fd, .events = POLLIN}};
    if (ppoll(p, 3, &ts, NULL) < 0 && errno != EINTR)
        return -YK_EIO;
    if (p[2].revents != 0)
        return 1;
    for (int i = 0; i < 2; i++)
        if ((p[i].revents & POLLIN) && take(&ways[i], o, random) < 0)
            return -YK_EIO;
    return 0;
}

int yk_wan_run(int a, int b, int stop_fd, const struct yk_wan_opts *o, struct yk_wan_counts ret_counts[2]) {
    struct way ways[2] = {{.from = a, .to = b}, {.from = b, .to = a}};
    uint64_t random = o->seed * UINT64_C(0x9e3779b97f4a7c15) | 1;
    struct sched_param first = {.sched_priority = 1};
    (void)sched_setscheduler(0, SCHED_FIFO, &first); /* where that is not allowed it is late now and then */
    int rc = 0;
    for (int i = 0; i < 2; i++) {
        ways[i].packets = calloc(PACKETS, sizeof(struct packet));
        rc = ways[i].packets != NULL ? rc : -YK_ENOMEM;
    }
    while (rc == 0)
        rc = turn(ways, stop_fd, o, &random);
    for (int i = 0; i < 2; i++) {
        free(ways[i].packets);
        if (ret_counts != NULL)
            ret_counts[i] = ways[i].counts;
    }
    return rc < 0 ? rc : 0;
}

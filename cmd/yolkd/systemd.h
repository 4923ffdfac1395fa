/* SPDX-License-Identifier: Apache-2.0
 *
 * The two protocols of a service manager: readiness messages and passed sockets.
 *
 * sd_notify(3) and sd_listen_fds(3) are a datagram and three environment variables; libsystemd,
 * with what it links to, was rejected for so little. Without a manager all of this does nothing.
 *
 * Thread: main's; the environment is read and cleared before others run.
 */
#ifndef YOLKD_SYSTEMD_H
#define YOLKD_SYSTEMD_H

#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

#define YOLKD_SYSTEMD_FDS_MAX 16

struct yolkd_systemd {
    char notify[108];     /* path, or '@' and an abstract name; "" = nobody listens */
    uint64_t watchdog_ns; /* period within which a sign of life is due; 0 = none */
    int fds[YOLKD_SYSTEMD_FDS_MAX];
    unsigned n_fds;
    bool remote; /* one of them is not on this host alone */
};

/* Takes what is addressed to this process out of the environment, so that no child believes it.
 * allow_remote: sockets beyond loopback, too. */
int yolkd_systemd_init(struct yolkd_systemd *systemd, bool allow_remote, struct yk_err *err);

/* "READY=1\nSTATUS=..."; a manager that is not there any more is ignored. */
void yolkd_systemd_notify(const struct yolkd_systemd *systemd, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* Where a passed socket listens, for the log: "unix:/run/yolk.sock". Returns buf. */
char *yolkd_socket_name(int fd, char *buf, unsigned size);

#endif

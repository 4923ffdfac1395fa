/* SPDX-License-Identifier: Apache-2.0
 *
 * Stream sockets as both ends of a lane use them: addresses, options, what a path wants.
 *
 * Threads: any; no state. Nothing here blocks but yk_sock_resolve of a name that is not numeric.
 */
#ifndef YK_XFER_SOCK_H
#define YK_XFER_SOCK_H

#include "base/parse.h"
#include "base/status.h"
#include "xfer/transport.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#ifdef __cplusplus
extern "C" {
#endif

struct yk_sockaddr {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        struct sockaddr_un un;
    } u;
    socklen_t len;
};

/* Where sockets for peers of this host stand: $XDG_RUNTIME_DIR, or /tmp where that is not set, or is
 * what a session that has ended left in the environment. */
const char *yk_sock_dir(void);

/* host numeric. -YK_EINVAL: it is not. */
int yk_sock_parse(const char *host, uint16_t port, struct yk_sockaddr *ret_addr);
/* Names too: at most cap, how many. passive: to listen on. -YK_ENOENT (text): unknown. */
int yk_sock_resolve(const char *host, uint16_t port, int passive, struct yk_sockaddr *ret_addrs, int cap,
                    struct yk_err *err);
/* -YK_EINVAL: the path is too long. */
int yk_sock_unix(const char *path, struct yk_sockaddr *ret_addr);

/* "10.0.0.7", "fe80::1", "" for others. */
void yk_sock_host(const struct sockaddr *addr, char buf[YK_PEER_HOST]);
uint16_t yk_sock_port(const struct sockaddr *addr);
int yk_sock_is_loopback(const struct sockaddr *addr);
int yk_sock_is_any(const struct sockaddr *addr); /* 0.0.0.0, :: */
int yk_sock_same_host(const struct sockaddr *a, const struct sockaddr *b);
/* Whether two addresses of one family agree where mask has ones. */
int yk_sock_same_net(const struct sockaddr *a, const struct sockaddr *b, const struct sockaddr *mask);

/* A lane's socket: no delay, dead peers are noticed, and for a path inside the host the settings that
 * are fastest there. Before connect; on the target after accept. */
void yk_sock_tune(int fd, int same_host);

/* Why a socket could not be had or did not connect, and its text. -YK_ELIMIT: of descriptors or local ports, which are
 * this side's own want; -YK_EPERM, -YK_ETIMEDOUT, else -YK_EGONE. */
const char *yk_sock_dial_error(int e, int *ret_code);

/* What its path wants, once both ends have spoken: a long one (5 ms there and back) gets a congestion control
 * that does not take each loss for a full queue (bbr), if the kernel has it and allows it: *ret_patient says
 * whether. Returns the shortest round trip so far in ns; 0: not known, or no TCP. */
uint64_t yk_sock_path(int fd, int *ret_patient);
/* Packets of it that were sent again, or came before others that were missing. */
uint64_t yk_sock_lost(int fd);

/* Speed of a device as its driver says, in Mbit/s; 0: not known (loopback, virtual ones). */
uint32_t yk_sock_device_mbit(const char *device);

/* Of the kernel that runs, terminated, 1; 0: not known. */
#define YK_BOOT_ID_BYTES 37u
int yk_host_boot_id(char buf[YK_BOOT_ID_BYTES]);

#ifdef __cplusplus
}
#endif

#endif

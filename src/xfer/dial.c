/* SPDX-License-Identifier: Apache-2.0
 *
 * Sockets for lanes over networks (xfer/dial.h).
 */
#include "xfer/dial.h"

#include "xfer/sock.h"

#include <errno.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int yk_rail_dial(const struct yk_rail_desc *rail, struct yk_err *err) {
    struct yk_sockaddr to, from = {.len = 0};
    char device[IF_NAMESIZE];
    if (yk_sock_parse(rail->remote, rail->port, &to) < 0 ||
        (rail->local[0] != 0 && yk_sock_parse(rail->local, 0, &from) < 0))
        return yk_err_set(err, -YK_EINVAL, "rail '%s' to '%s' has no numeric addresses", rail->local,
                          rail->remote);
    int fd = socket(to.u.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return yk_err_set(err, errno == EMFILE || errno == ENFILE ? -YK_ELIMIT : -YK_EIO,
                          "no socket for a lane to %s: %s", rail->remote, strerror(errno));
    yk_sock_tune(fd, !(rail->caps & YK_RAIL_NETWORK));
    /* Several devices may stand in one subnet: an address alone does not choose between them. Where that
     * is not allowed, routes decide. */
    if (rail->local_if != 0 && if_indextoname(rail->local_if, device) != NULL)
        (void)setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device, (socklen_t)strlen(device));
    /* The port is taken here and is nobody else's. If connect chose it (IP_BIND_ADDRESS_NO_PORT), the kernel would give
     * the same one, to the same peer, to a socket that is not bound to the device, such as xfer/ask.c's: Linux 6.18. */
    int bound = from.len == 0 || bind(fd, &from.u.any, from.len) == 0;
    if (bound && (connect(fd, &to.u.any, to.len) == 0 || errno == EINPROGRESS))
        return fd;
    int code = -YK_EGONE, e = errno;
    close(fd);
    const char *why = bound || e != EADDRNOTAVAIL ? yk_sock_dial_error(e, &code) : "the address is not here any more";
    if (rail->local[0] == 0) /* routes decide what it comes from */
        return yk_err_set(err, code, "%s (to %s)", why, rail->remote);
    return yk_err_set(err, code, "%s (%s to %s)", why, rail->local, rail->remote);
}

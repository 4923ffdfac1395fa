/* SPDX-License-Identifier: Apache-2.0
 *
 * The target's half: listeners and the lanes that others dialled, served by one thread.
 *
 *   yk_server_open   binds, so that addresses are known
 *   yk_server_start  the thread; requests are answered from here on
 *   yk_server_close  closes all lanes, ends the thread
 *
 * Urgent lanes are served as they become ready, bulk ones a bounded number of bytes at a time with a
 * look at the others between. WRITE payload is received into the region itself; READs are sent from
 * it, many answers with one system call. A lane that is idle is a socket and a small struct.
 *
 * Threads: open, start, close: one at a time. forget, revoke, stat: any.
 */
#ifndef YK_XFER_SERVER_H
#define YK_XFER_SERVER_H

#include "xfer/transport.h"

#ifdef __cplusplus
extern "C" {
#endif

#define YK_SERVER_REQUESTS 256u        /* credit of a lane */
#define YK_SERVER_BYTES    (256u << 20)

/* Listens as opts->listen, advertise and shm_dir say. self: incarnation is in it; unix_path, addrs and
 * addr_count are filled in. With neither a port nor a socket to listen on it has nothing to do, which
 * is fine. -YK_EINVAL, -YK_EPERM an address beyond loopback without insecure_network, -YK_EBUSY it is
 * in use, -YK_ENOENT unknown host, -YK_ENOMEM, -YK_ELIMIT. */
int yk_server_open(const struct yk_xfer_opts *opts, struct yk_peer_info *self,
                   struct yk_server **ret_server, struct yk_err *err);
/* env is copied; what it points to lives as long as the server. -YK_ENOMEM. */
int yk_server_start(struct yk_server *server, const struct yk_server_env *env, struct yk_err *err);
void yk_server_close(struct yk_server *server); /* NULL is fine */

/* Ends every use of a region that is dying: what is being received into it goes nowhere, what is being
 * sent fails. When it returns the server holds no reference to it. */
void yk_server_forget(struct yk_server *server, const struct yk_region *region);

/* Closes all lanes of that engine and takes none from it any more. -YK_ELIMIT: as many are shut out as can be. */
int yk_server_revoke(struct yk_server *server, uint64_t incarnation);

struct yk_server_counts {
    uint32_t lanes;             /* open now */
    uint64_t accepted, refused; /* refused: too many */
    uint64_t broken;            /* closed by the server: garbage, silence, half messages */
    uint64_t requests, bytes_in, bytes_out;
    uint64_t accept_pauses;     /* no descriptor was left */
    char last_broken[YK_ERR_TEXT_MAX]; /* why the last was */
};
void yk_server_stat(struct yk_server *server, struct yk_server_counts *ret_counts);

#ifdef __cplusplus
}
#endif

#endif

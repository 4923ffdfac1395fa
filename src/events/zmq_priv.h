/* SPDX-License-Identifier: Apache-2.0
 *
 * libzmq as it is loaded: the functions that feeds use. zmq.c.
 */
#ifndef YK_EVENTS_ZMQ_PRIV_H
#define YK_EVENTS_ZMQ_PRIV_H

#include "base/status.h"

#ifdef YK_HAVE_ZMQ
#include <zmq.h>

struct zmq_fns {
    __typeof__(zmq_ctx_new) *ctx_new;
    __typeof__(zmq_ctx_term) *ctx_term;
    __typeof__(zmq_socket) *socket;
    __typeof__(zmq_close) *close;
    __typeof__(zmq_connect) *connect;
    __typeof__(zmq_setsockopt) *setsockopt;
    __typeof__(zmq_send) *send;
    __typeof__(zmq_poll) *poll;
    __typeof__(zmq_msg_init) *msg_init;
    __typeof__(zmq_msg_recv) *msg_recv;
    __typeof__(zmq_msg_close) *msg_close;
    __typeof__(zmq_msg_data) *msg_data;
    __typeof__(zmq_msg_size) *msg_size;
    __typeof__(zmq_msg_more) *msg_more;
    __typeof__(zmq_strerror) *strerror;
    __typeof__(zmq_errno) *err_no;
};

/* Loaded once for the process and never unloaded: its threads may outlive a caller. -YK_ENOTSUP. Any thread. */
int zmq_load(const struct zmq_fns **ret_fns, struct yk_err *err);
#endif

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * libibverbs, found at run time: what it exports, by name. Verbs of the data path (post, poll, request a notice)
 * are inline functions of its header that go through the device's own table, and need no symbol.
 *
 * Thread: any.
 */
#ifndef YK_XFER_RDMA_VERBS_H
#define YK_XFER_RDMA_VERBS_H

#include "base/status.h"

#if __has_include(<infiniband/verbs.h>) /* else nothing that includes this is built */
#include <infiniband/verbs.h>

struct yk_verbs {
    struct ibv_device **(*get_device_list)(int *count);
    void (*free_device_list)(struct ibv_device **list);
    const char *(*get_device_name)(struct ibv_device *device);
    struct ibv_context *(*open_device)(struct ibv_device *device);
    int (*close_device)(struct ibv_context *ctx);
    int (*query_device)(struct ibv_context *ctx, struct ibv_device_attr *attr);
    int (*query_port)(struct ibv_context *ctx, uint8_t port, struct _compat_ibv_port_attr *attr);
    struct ibv_pd *(*alloc_pd)(struct ibv_context *ctx);
    int (*dealloc_pd)(struct ibv_pd *pd);
    struct ibv_mr *(*reg_mr)(struct ibv_pd *pd, void *addr, size_t len, int access);
    /* The same, and takes flags that a kernel may not know; NULL: the library is older than it. */
    struct ibv_mr *(*reg_mr_iova2)(struct ibv_pd *pd, void *addr, size_t len, uint64_t iova, unsigned int access);
    /* Of memory that a descriptor stands for; NULL: the library is older than it. */
    struct ibv_mr *(*reg_dmabuf_mr)(struct ibv_pd *pd, uint64_t offset, size_t len, uint64_t iova, int fd, int access);
    int (*dereg_mr)(struct ibv_mr *mr);
    /* What a device has to say that is of no completion: that it is taken out. NULL (in tests): nothing. */
    int (*get_async_event)(struct ibv_context *ctx, struct ibv_async_event *event);
    void (*ack_async_event)(struct ibv_async_event *event);
    struct ibv_comp_channel *(*create_comp_channel)(struct ibv_context *ctx);
    int (*destroy_comp_channel)(struct ibv_comp_channel *channel);
    struct ibv_cq *(*create_cq)(struct ibv_context *ctx, int cqe, void *user, struct ibv_comp_channel *channel,
                                int vector);
    int (*destroy_cq)(struct ibv_cq *cq);
    int (*get_cq_event)(struct ibv_comp_channel *channel, struct ibv_cq **ret_cq, void **ret_user);
    void (*ack_cq_events)(struct ibv_cq *cq, unsigned int n);
    struct ibv_qp *(*create_qp)(struct ibv_pd *pd, struct ibv_qp_init_attr *attr);
    int (*modify_qp)(struct ibv_qp *qp, struct ibv_qp_attr *attr, int mask);
    int (*destroy_qp)(struct ibv_qp *qp);
    const char *(*wc_status_str)(enum ibv_wc_status status);
    int forks_well; /* the kernel copies registered pages for children by itself: nothing else changes for them */
};

/* Loads it once for the process; NULL: it cannot be (text). */
const struct yk_verbs *yk_verbs_load(struct yk_err *err);

#endif

#endif

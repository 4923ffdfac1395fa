/* SPDX-License-Identifier: Apache-2.0
 *
 * The file transport: files and block devices as segments of this process (transport.c).
 */
#ifndef YK_XFER_FILE_TRANSPORT_H
#define YK_XFER_FILE_TRANSPORT_H

#include "xfer/file/file.h"
#include "xfer/transport.h"

#ifdef __cplusplus
extern "C" {
#endif

extern const struct yk_xport_ops yk_xport_file;

/* Tests: every device that it opens from now on is given to wrap, which may put another around it
 * (yk_file_fault_new). 0 or -YK_ENOMEM. */
void yk_xport_file_wrap(struct yk_xport *xport,
                        int (*wrap)(void *user, struct yk_file *dev, struct yk_file **ret_dev),
                        void *user);

#ifdef __cplusplus
}
#endif

#endif

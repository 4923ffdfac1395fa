/* SPDX-License-Identifier: Apache-2.0
 *
 * Holds registered memory of an engine, as a request does that does not end. Apart, since the headers of engine and client
 * do not go together.
 *
 * Thread: any.
 */
#ifndef YK_TEST_HELD_H
#define YK_TEST_HELD_H

#include <yolk/transfer.h>

void *held_take(yk_xfer *engine, void *addr); /* NULL: it is not registered */
void held_give(yk_xfer *engine, void *held);

#endif

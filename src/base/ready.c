/* SPDX-License-Identifier: Apache-2.0
 *
 * A wait for one descriptor (src/base/ready.h).
 */
#include "base/ready.h"

#include "base/clock.h"
#include "base/status.h"

#include <errno.h>
#include <poll.h>

#define TURN_MS 60000u /* poll takes an int */

int yk_poll_until(int fd, short events, uint64_t deadline_ns) {
    struct pollfd p = {fd, events, 0};
    for (;;) {
        uint64_t now = yk_now_ns();
        if (now >= deadline_ns)
            return -YK_ETIMEDOUT;
        uint64_t ms = (deadline_ns - now + YK_NS_PER_MS - 1) / YK_NS_PER_MS;
        int n = poll(&p, 1, ms < TURN_MS ? (int)ms : (int)TURN_MS);
        if (n > 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return -YK_EIO;
    }
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * A calendar that steps, for the tests: loaded into yolkd and its clients with LD_PRELOAD, it adds
 * the milliseconds in the file $CLOCK_SHIFT_FILE (one int64, mapped) to CLOCK_REALTIME and its
 * coarse sibling. A test writes the file while the programs run. The kernel's clock stays as it is,
 * and a time namespace cannot do this: it shifts the monotonic clocks only.
 *
 * Thread: any.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const int64_t *shift;

__attribute__((constructor)) static void open_shift(void) {
    const char *path = getenv("CLOCK_SHIFT_FILE");
    int fd = path != NULL ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *p = mmap(NULL, sizeof(*shift), PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    shift = p != MAP_FAILED ? p : NULL;
}

__attribute__((visibility("default"))) int clock_gettime(clockid_t clock, struct timespec *ts) {
    int rc = (int)syscall(SYS_clock_gettime, clock, ts);
    if (rc == 0 && shift != NULL && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t ms = __atomic_load_n(shift, __ATOMIC_RELAXED) + ts->tv_nsec / 1000000;
        int64_t over = ms >= 0 ? ms / 1000 : -((999 - ms) / 1000);
        ts->tv_sec += over;
        ts->tv_nsec = (long)(ms - over * 1000) * 1000000 + ts->tv_nsec % 1000000;
    }
    return rc;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Log lines to standard error: one line, one write(2), no lock, no allocation.
 *
 *     2026-01-31T12:00:00.123Z warn  tier: segment 'yolk-0' has no huge pages, using 4 KiB
 *     <4>tier: segment 'yolk-0' has no huge pages, using 4 KiB          (under systemd's journal)
 *
 * The journal stamps lines itself, so there only the syslog priority is put in front. Whether
 * standard error is the journal is decided as systemd documents it: JOURNAL_STREAM names the device
 * and inode of the stream, and they must be those of the descriptor. Control characters in the text
 * are written as \xNN, so that what a client sent can't forge a line. A line longer than
 * YK_LOG_LINE_MAX (below PIPE_BUF: writers never interleave) is cut and ends in "...".
 *
 * Programs call yk_log_init once; libraries log at debug only, which is off unless a program turns
 * it on. Level and descriptor are the one global of the program: a handle would have to travel
 * through every function, and there is one standard error. Errors of write(2) are dropped: there is
 * nowhere left to report them.
 *
 * Thread: any.
 */
#ifndef YK_BASE_LOG_H
#define YK_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define YK_LOG_LINE_MAX 2048

/* In this order an enum option "error,warn,info,debug" has the level as its index. */
enum yk_log_level { YK_LOG_ERROR, YK_LOG_WARN, YK_LOG_INFO, YK_LOG_DEBUG };

/* Sets the descriptor (normally 2; borrowed) and the level, and looks whether it is the journal's.
 * Before the first call: descriptor 2, level warn, stamped lines. Not to be called while other
 * threads log. */
void yk_log_init(int fd, enum yk_log_level level);

/* May be called at any time. */
void yk_log_set_level(enum yk_log_level level);
enum yk_log_level yk_log_get_level(void);

/* "error", "warn", "info", "debug". Static storage. */
const char *yk_log_level_name(enum yk_log_level level);

static inline bool yk_log_enabled(enum yk_log_level level) {
    return level <= yk_log_get_level();
}

/* Writes one line if the level is enabled. Arguments are not evaluated when it isn't. module is a
 * short constant such as "shm". Keeps errno. */
#define yk_log(level, ...)                                                                         \
    do {                                                                                           \
        if (yk_log_enabled(level))                                                                 \
            yk_log_write((level), __VA_ARGS__);                                                    \
    } while (0)

void yk_log_write(enum yk_log_level level, const char *module, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* A call site that may repeat itself endlessly: at most one line per period, and the next one says
 * how many were suppressed. Use as
 *     static struct yk_log_limit limit = YK_LOG_LIMIT_INIT(10000);
 *     yk_log_limited(&limit, YK_LOG_WARN, "node", "client %u sent garbage", id);
 * Thread: any. Fields are private to log.c. */
struct yk_log_limit {
    uint64_t period_ms;
    uint64_t next_ms; /* atomic; boot clock; 0: never logged */
    uint64_t dropped; /* atomic; since the last line */
};

#define YK_LOG_LIMIT_INIT(ms)                                                                      \
    { (ms), 0, 0 }

#define yk_log_limited(limit, level, ...)                                                          \
    do {                                                                                           \
        if (yk_log_enabled(level))                                                                 \
            yk_log_limited_write((limit), (level), __VA_ARGS__);                                   \
    } while (0)

void yk_log_limited_write(struct yk_log_limit *limit, enum yk_log_level level, const char *module,
                          const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* True if a line may be written at now_ms; then *ret_dropped is how many were refused since the
 * last one. For callers that write something other than a log line. */
bool yk_log_limit_pass(struct yk_log_limit *limit, uint64_t now_ms, uint64_t *ret_dropped);

#ifdef __cplusplus
}
#endif

#endif

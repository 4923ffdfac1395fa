/* SPDX-License-Identifier: Apache-2.0
 *
 * Log lines to standard error (log.h). The line is built on the stack and goes out in one write(2).
 * Stamps are UTC.
 *
 * Thread: any. The globals are read and written with relaxed atomics: they order nothing, and a
 * line that still sees the old level does no harm.
 */
#include "base/log.h"

#include "base/clock.h"
#include "base/fmt.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int log_level = YK_LOG_WARN;
static int log_fd = STDERR_FILENO;
static int log_to_journal;

struct line {
    size_t len;
    char text[YK_LOG_LINE_MAX];
};

static const char *const level_names[] = {"error", "warn", "info", "debug"};

/* JOURNAL_STREAM is "device:inode" in decimal. It is inherited by children whose standard error
 * goes elsewhere, hence the comparison. */
static int fd_is_journal(int fd) {
    const char *text = getenv("JOURNAL_STREAM");
    struct stat st;
    uintmax_t dev, ino;
    char end;
    if (text == NULL || fstat(fd, &st) != 0)
        return 0;
    if (sscanf(text, "%ju:%ju%c", &dev, &ino, &end) != 2)
        return 0;
    return dev == (uintmax_t)st.st_dev && ino == (uintmax_t)st.st_ino;
}

void yk_log_init(int fd, enum yk_log_level level) {
    __atomic_store_n(&log_fd, fd, __ATOMIC_RELAXED);
    __atomic_store_n(&log_to_journal, fd_is_journal(fd), __ATOMIC_RELAXED);
    yk_log_set_level(level);
}

void yk_log_set_level(enum yk_log_level level) {
    __atomic_store_n(&log_level, (int)level, __ATOMIC_RELAXED);
}

enum yk_log_level yk_log_get_level(void) {
    return (enum yk_log_level)__atomic_load_n(&log_level, __ATOMIC_RELAXED);
}

const char *yk_log_level_name(enum yk_log_level level) {
    return ((unsigned)level < 4) ? level_names[level] : "?";
}

static void line_printf(struct line *line, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* snprintf returns what it would have written: cut to what fits. */
static void line_advance(struct line *line, int written) {
    size_t room = sizeof(line->text) - line->len;
    if (written > 0)
        line->len += ((size_t)written < room) ? (size_t)written : room - 1;
}

static void line_printf(struct line *line, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    line_advance(line, vsnprintf(line->text + line->len, sizeof(line->text) - line->len, fmt, ap));
    va_end(ap);
}

static void line_stamp(struct line *line) {
    char stamp[YK_FMT_MAX];
    line_printf(line, "%s ", yk_fmt_utc(yk_wall_ms(), stamp));
}

static void line_head(struct line *line, enum yk_log_level level, const char *module) {
    /* syslog: err 3, warning 4, info 6, debug 7 */
    static const int priorities[] = {3, 4, 6, 7};
    unsigned at = ((unsigned)level < 4) ? (unsigned)level : 3u;
    if (__atomic_load_n(&log_to_journal, __ATOMIC_RELAXED)) {
        line_printf(line, "<%d>%s: ", priorities[at], module);
    } else {
        line_stamp(line);
        line_printf(line, "%-5s %s: ", level_names[at], module);
    }
}

/* Appends the formatted text with control characters as \xNN. The last four bytes of the line are
 * kept for "...\n". */
static void line_text(struct line *line, const char *fmt, va_list ap) {
    char text[YK_LOG_LINE_MAX];
    int written = vsnprintf(text, sizeof(text), fmt, ap);
    size_t limit = sizeof(line->text) - 4;
    bool cut = written >= (int)sizeof(text);
    for (const char *p = text; written > 0 && *p != '\0'; p++) {
        unsigned char c = (unsigned char)*p;
        bool control = c < 0x20 || c == 0x7f;
        if (line->len + (control ? 4 : 1) > limit) {
            cut = true;
            break;
        }
        if (control)
            line_printf(line, "\\x%02x", c);
        else
            line->text[line->len++] = *p;
    }
    if (cut && line->len <= limit) {
        memcpy(line->text + line->len, "...", 3);
        line->len += 3;
    }
}

static void line_send(struct line *line) {
    if (line->len > sizeof(line->text) - 1)
        line->len = sizeof(line->text) - 1;
    line->text[line->len++] = '\n';
    while (write(__atomic_load_n(&log_fd, __ATOMIC_RELAXED), line->text, line->len) < 0 &&
           errno == EINTR) {
    }
}

static void log_vwrite(enum yk_log_level level, const char *module, uint64_t dropped,
                       const char *fmt, va_list ap) {
    int saved_errno = errno;
    struct line line;
    line.len = 0;
    line_head(&line, level, module);
    if (dropped > 0)
        line_printf(&line, "(%" PRIu64 " like this suppressed) ", dropped);
    line_text(&line, fmt, ap);
    line_send(&line);
    errno = saved_errno;
}

void yk_log_write(enum yk_log_level level, const char *module, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    log_vwrite(level, module, 0, fmt, ap);
    va_end(ap);
}

/* Of threads that meet at the end of a period the one whose exchange succeeds writes the line; the
 * others count. Relaxed: the two words are statistics, nothing is published through them. */
bool yk_log_limit_pass(struct yk_log_limit *limit, uint64_t now_ms, uint64_t *ret_dropped) {
    uint64_t next_ms = __atomic_load_n(&limit->next_ms, __ATOMIC_RELAXED);
    if (now_ms < next_ms ||
        !__atomic_compare_exchange_n(&limit->next_ms, &next_ms, now_ms + limit->period_ms, false,
                                     __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
        __atomic_fetch_add(&limit->dropped, 1, __ATOMIC_RELAXED);
        return false;
    }
    *ret_dropped = __atomic_exchange_n(&limit->dropped, 0, __ATOMIC_RELAXED);
    return true;
}

void yk_log_limited_write(struct yk_log_limit *limit, enum yk_log_level level, const char *module,
                          const char *fmt, ...) {
    uint64_t dropped;
    if (!yk_log_limit_pass(limit, yk_boot_ms(), &dropped))
        return;
    va_list ap;
    va_start(ap, fmt);
    log_vwrite(level, module, dropped, fmt, ap);
    va_end(ap);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Numbers to text for people and for files: times, sizes, durations.
 *
 * Each function writes into the caller's buffer of YK_FMT_MAX bytes and returns it, so that it can
 * stand in an argument list. The rounded forms (yk_fmt_bytes, yk_fmt_duration) are for eyes; the
 * exact forms are what parse.h reads back to the same number, for config files and messages that
 * quote a limit.
 *
 * Thread: any. No allocation, no locale, no libc lock.
 */
#ifndef YK_BASE_FMT_H
#define YK_BASE_FMT_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define YK_FMT_MAX 40

/* Milliseconds since 1970 as "2026-01-31T12:00:00.123Z". */
char *yk_fmt_utc(uint64_t wall_ms, char buf[YK_FMT_MAX]);

#ifdef __cplusplus
}
#endif

#endif

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

/* Three figures, for eyes: "512 B", "16 KiB", "1.5 GiB"; "850ns", "12.3us", "1.5s", "3m", "2.5d";
 * "999", "12.3k", "1.5M". */
char *yk_fmt_bytes(uint64_t bytes, char buf[YK_FMT_MAX]);
char *yk_fmt_duration(uint64_t ns, char buf[YK_FMT_MAX]);
char *yk_fmt_count(uint64_t count, char buf[YK_FMT_MAX]);

/* The same number when parsed again: "1536MiB", "90s", "1000B". */
char *yk_fmt_bytes_exact(uint64_t bytes, char buf[YK_FMT_MAX]);
char *yk_fmt_duration_exact(uint64_t ns, char buf[YK_FMT_MAX]);

/* 0.995 as "99.5%"; at most six decimals of the percentage. fraction: 0 to 1. */
char *yk_fmt_percent(double fraction, char buf[YK_FMT_MAX]);

/* Plain decimal notation, at most nine decimals, no exponent, '.' in every locale. Numbers from 9e9
 * on lose their fraction; beyond 1e18, and NaN, the text is "0". */
char *yk_fmt_real(double value, char buf[YK_FMT_MAX]);

/* The shortest form that strtod reads back to the same number, with an exponent where that is
 * shorter, '.' in every locale. value must be finite. */
char *yk_fmt_double(double value, char buf[YK_FMT_MAX]);

#ifdef __cplusplus
}
#endif

#endif

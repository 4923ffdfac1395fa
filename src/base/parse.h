/* SPDX-License-Identifier: Apache-2.0
 *
 * Text to numbers, the way people write them in flags, environment and config files.
 *
 * size      512, 512B, 16K, 512MiB, 4 GB, 1.5G. K, M, G, T, P are powers of 1024 whatever follows
 *           (nothing, B or iB), in either case: memory is bought and mapped in those. A part of a
 *           byte that a fraction leaves over is dropped.
 * duration  250us, 500ms, 3s, 5m (or min), 12h, 7d, 1.5s; a unit is required, except for 0.
 * count     10000, 10k, 1.5M; k, M, G, T are powers of 1000, in either case. Must be whole.
 * percent   80%, 99.5%: 0 to 100, the sign is required, so that 0.8 and 80 can't be mixed up.
 * address   unix:/run/yolk.sock, tcp:HOST:PORT, HOST:PORT; an IPv6 host stands in brackets.
 *
 * Strict: blanks around the text and between number and unit are allowed, anything left over is an
 * error, and so is a number that does not fit. Errors are -YK_EINVAL with a text that begins
 * "found '...', expected ...", for the caller to put the place in front. Fractions are computed in
 * integers, so 0.1T is the same on every machine; strtod was rejected for that and for its locale.
 * Combined forms (1h30m) were left out: one way to write a value is enough.
 *
 * Outputs are written only on success. err may be NULL. Thread: any. No allocation.
 */
#ifndef YK_BASE_PARSE_H
#define YK_BASE_PARSE_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

int yk_parse_size(const char *text, uint64_t *ret_bytes, struct yk_err *err);
int yk_parse_duration(const char *text, uint64_t *ret_ns, struct yk_err *err);
int yk_parse_count(const char *text, uint64_t *ret_count, struct yk_err *err);

/* As a count, with a sign. */
int yk_parse_int(const char *text, int64_t *ret_value, struct yk_err *err);

/* ret_fraction: 0 to 1. */
int yk_parse_percent(const char *text, double *ret_fraction, struct yk_err *err);

/* Decimal number with a sign, such as -2.75; no exponent, 18 digits at most. */
int yk_parse_real(const char *text, double *ret_value, struct yk_err *err);

/* yes, no, true, false, on, off, 1, 0; in any case. */
int yk_parse_bool(const char *text, bool *ret_value, struct yk_err *err);

/* One of the NULL-ended names, exactly; ret_index is its place. */
int yk_parse_enum(const char *text, const char *const *names, int *ret_index, struct yk_err *err);

#define YK_ADDR_HOST_MAX 255 /* a DNS name */
#define YK_ADDR_PATH_MAX 107 /* sun_path without its NUL */

enum yk_addr_kind { YK_ADDR_NONE, YK_ADDR_UNIX, YK_ADDR_TCP };

struct yk_addr {
    enum yk_addr_kind kind;
    uint16_t port;                   /* tcp; 0: any free one */
    char host[YK_ADDR_HOST_MAX + 1]; /* tcp; or the path of unix. IPv6 without its brackets */
};

/* Names are not resolved. */
int yk_parse_addr(const char *text, struct yk_addr *ret_addr, struct yk_err *err);

/* "unix:PATH", "tcp:HOST:PORT", "tcp:[V6]:PORT", or "" for none, into buf. Returns buf. */
#define YK_ADDR_TEXT_MAX (YK_ADDR_HOST_MAX + 16)
char *yk_addr_format(const struct yk_addr *addr, char buf[YK_ADDR_TEXT_MAX]);

#ifdef __cplusplus
}
#endif

#endif

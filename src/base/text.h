/* SPDX-License-Identifier: Apache-2.0
 *
 * Small helpers for text that came from outside: UTF-8 checking, quoting for an error message, and
 * "did you mean".
 *
 * Block keys, client names and config values are arbitrary bytes until proven otherwise. What shows
 * them (log, errors, JSON, metrics) goes through these, so that each output stays well formed.
 *
 * Thread: any. No allocation.
 */
#ifndef YK_BASE_TEXT_H
#define YK_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Length (1 to 4) of the well-formed UTF-8 sequence at p, of which n > 0 bytes may be read; 0 if
 * there is none (RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF). */
size_t yk_utf8_len(const char *p, size_t n);

/* True if all n bytes are well-formed UTF-8. */
bool yk_utf8_valid(const char *p, size_t n);

#define YK_UTF8_REPLACEMENT "\xef\xbf\xbd" /* U+FFFD, written in place of each ill-formed byte */

/* text in single quotes for an error that must stay one line: control characters and bytes that are
 * not UTF-8 are shown as '?', and what is longer than about 40 bytes ends in "...". NULL is shown
 * as ''. Returns buf. */
#define YK_QUOTE_MAX 56
char *yk_quote(const char *text, char buf[YK_QUOTE_MAX]);

/* How many insertions, deletions, replacements and swaps of neighbours turn a into b. Texts longer
 * than YK_EDIT_MAX are cut there: names are shorter. */
#define YK_EDIT_MAX 63
unsigned yk_edit_distance(const char *a, const char *b);

/* The distance up to which a name counts as what was meant by text: a third of its length, 3 at
 * most. */
unsigned yk_edit_tolerance(const char *text);

/* The nearest of n names if it is within the tolerance, else NULL. The first of equals wins. */
const char *yk_did_you_mean(const char *text, const char *const *names, size_t n);

#ifdef __cplusplus
}
#endif

#endif

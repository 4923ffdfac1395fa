/* SPDX-License-Identifier: Apache-2.0
 *
 * Keys from the command line and from files, and keys as text.
 *
 * A key is any 1 to 255 bytes. As text: printable UTF-8 stands for itself, a backslash is doubled,
 * every other byte is \xNN. That form is for eyes; --hex is the one that reads back.
 *
 * Thread: one.
 */
#ifndef YOLK_KEYS_H
#define YOLK_KEYS_H

#include "cmd.h"

#define YOLK_KEYS_MAX (1u << 20) /* of one command */

struct yolk_keys {
    yk_key *keys;
    size_t n;
    unsigned char *bytes; /* what keys point into; NULL: the command line */
};

/* From arguments; hex: each is pairs of hex digits. 0 or an exit code after the error was printed;
 * the caller frees with yolk_keys_free either way. */
int yolk_keys_from_args(const char *const *args, size_t n_args, bool hex, struct yolk_keys *ret);

/* From a file, "-" is standard input: one key a line, as it stands there or in hex. */
int yolk_keys_from_file(const char *path, bool hex, struct yolk_keys *ret);
void yolk_keys_free(struct yolk_keys *keys);

/* One key; storage holds it if it was in hex. */
int yolk_key_from_arg(const char *arg, bool hex, unsigned char storage[YK_KEY_MAX],
                      yk_key *ret_key);

/* Text of a key, NUL-terminated. Returns buf. */
#define YOLK_KEY_TEXT_MAX (4 * YK_KEY_MAX + 1)
char *yolk_key_text(yk_key key, bool hex, char buf[YOLK_KEY_TEXT_MAX]);

/* Any other name for the terminal: as a key's text. */
char *yolk_safe_text(const char *text, char buf[YOLK_KEY_TEXT_MAX]);

/* "key": ..., and "key_hex" too if its bytes are not UTF-8, or with hex. */
void yolk_json_key(struct yk_json *json, yk_key key, bool hex);

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * A terminal as a screen: no echo, single keys, the alternate screen, and all of it undone at the
 * end however that comes. Signals arrive through a descriptor, so nothing runs in a handler.
 *
 * curses was rejected: a screen that is drawn whole once a second needs four escape sequences.
 *
 * Thread: one; one screen a process.
 */
#ifndef YOLK_TERM_H
#define YOLK_TERM_H

#include <stddef.h>
#include <stdint.h>
#include <termios.h>

struct yolk_term {
    struct termios saved;
    int signal_fd;
};

enum yolk_term_event {
    YOLK_TERM_TIMEOUT,
    YOLK_TERM_QUIT,   /* q, a signal, or the terminal is gone */
    YOLK_TERM_REDRAW, /* another size, or back from a stop */
    YOLK_TERM_KEY,    /* any other key */
};

/* 0, or -1 with errno. Standard input and output must be terminals. */
int yolk_term_open(struct yolk_term *term);
void yolk_term_close(struct yolk_term *term);

enum yolk_term_event yolk_term_wait(struct yolk_term *term, uint64_t until_ns);

/* Draws lines, cut to the terminal's size. */
void yolk_term_draw(const char *text);

#endif

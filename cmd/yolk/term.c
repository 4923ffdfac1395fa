/* SPDX-License-Identifier: Apache-2.0
 *
 * The terminal (term.h).
 */
#include "term.h"

#include "base/buf.h"
#include "base/clock.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define ENTER "\033[?1049h\033[?25l" /* alternate screen, no cursor */
#define LEAVE "\033[?25h\033[?1049l"

#define SCREEN_MAX (1u << 20)

static void write_text(const char *text, size_t len) {
    while (len > 0) {
        ssize_t n = write(STDOUT_FILENO, text, len);
        if (n < 0 && errno != EINTR)
            return; /* a terminal that is gone is seen by yolk_term_wait */
        if (n > 0) {
            text += n;
            len -= (size_t)n;
        }
    }
}

static void enter(const struct yolk_term *term) {
    struct termios raw = term->saved;
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &raw);
    write_text(ENTER, strlen(ENTER));
}

static void leave(const struct yolk_term *term) {
    write_text(LEAVE, strlen(LEAVE));
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &term->saved);
}

int yolk_term_open(struct yolk_term *term) {
    static const int wanted[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGWINCH};
    sigset_t set;
    if (tcgetattr(STDIN_FILENO, &term->saved) < 0)
        return -1;
    sigemptyset(&set);
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
        sigaddset(&set, wanted[i]);
    term->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (term->signal_fd < 0)
        return -1;
    sigprocmask(SIG_BLOCK, &set, NULL);
    enter(term);
    return 0;
}

void yolk_term_close(struct yolk_term *term) {
    leave(term);
    close(term->signal_fd);
}

static enum yolk_term_event take_signal(struct yolk_term *term) {
    struct signalfd_siginfo info;
    if (read(term->signal_fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
        return YOLK_TERM_KEY;
    if (info.ssi_signo == SIGWINCH)
        return YOLK_TERM_REDRAW;
    if (info.ssi_signo != SIGTSTP)
        return YOLK_TERM_QUIT;
    leave(term);
    raise(SIGSTOP); /* goes on here after SIGCONT */
    enter(term);
    return YOLK_TERM_REDRAW;
}

enum yolk_term_event yolk_term_wait(struct yolk_term *term, uint64_t until_ns) {
    struct pollfd fds[2] = {{.fd = STDIN_FILENO, .events = POLLIN},
                            {.fd = term->signal_fd, .events = POLLIN}};
    uint64_t now = yk_now_ns();
    int ms = now < until_ns ? (int)((until_ns - now) / YK_NS_PER_MS + 1) : 0;
    char key;
    int n = poll(fds, 2, ms);
    if (n <= 0)
        return YOLK_TERM_TIMEOUT; /* EINTR too: the caller looks at the time */
    if (fds[1].revents != 0)
        return take_signal(term);
    if (read(STDIN_FILENO, &key, 1) != 1 || key == 'q' || key == 'Q')
        return YOLK_TERM_QUIT;
    return YOLK_TERM_KEY;
}

/* One line, of at most columns characters; all bytes of a UTF-8 sequence but the first take none. */
static void put_line(struct yk_buf *out, const char *line, size_t len, unsigned columns) {
    unsigned at = 0;
    for (size_t i = 0; i < len; i++) {
        if (((unsigned char)line[i] & 0xc0u) != 0x80u && ++at > columns)
            break;
        yk_buf_putc(out, line[i]);
    }
    yk_buf_puts(out, "\033[K");
}

void yolk_term_draw(const char *text) {
    struct winsize size = {.ws_row = 24, .ws_col = 80};
    struct yk_buf out;
    ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
    yk_buf_init(&out, SCREEN_MAX);
    yk_buf_puts(&out, "\033[H");
    unsigned rows = size.ws_row != 0 ? size.ws_row : 24,
             columns = size.ws_col != 0 ? size.ws_col : 80;
    for (unsigned row = 0; row < rows && *text != '\0'; row++) {
        size_t len = strcspn(text, "\n");
        if (row > 0)
            yk_buf_puts(&out, "\r\n");
        put_line(&out, text, len, columns);
        text += len + (text[len] == '\n' ? 1 : 0);
    }
    yk_buf_puts(&out, "\033[J");
    write_text(yk_buf_text(&out), out.len);
    yk_buf_fini(&out);
}

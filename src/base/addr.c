/* SPDX-License-Identifier: Apache-2.0
 *
 * Addresses of sockets as text (parse.h): unix:PATH, tcp:HOST:PORT, HOST:PORT.
 *
 * Only the form is checked; names are resolved where the socket is opened. A host may hold letters,
 * digits, '-', '.' and '_' (or, in brackets, what an IPv6 address with a zone holds), so that a
 * slip such as 'http://host:80' is caught here and not by the resolver. Abstract unix sockets are
 * refused: any local user may take their name.
 *
 * Thread: any.
 */
#include "base/parse.h"
#include "base/text.h"

#include <stdio.h>
#include <string.h>

static const char addr_wanted[] = "unix:/PATH, tcp:HOST:PORT or HOST:PORT";

static int fail(struct yk_err *err, const char *text, const char *why) {
    char quoted[YK_QUOTE_MAX];
    return yk_err_set(err, -YK_EINVAL, "found %s%s, expected %s", yk_quote(text, quoted), why,
                      addr_wanted);
}

static int parse_unix(const char *text, const char *path, struct yk_addr *ret_addr,
                      struct yk_err *err) {
    struct yk_addr addr = {.kind = YK_ADDR_UNIX};
    size_t len = strlen(path);
    if (len == 0)
        return fail(err, text, ", which has no path");
    if (path[0] == '@')
        return fail(err, text, ", an abstract socket (any user may take its name)");
    if (len > YK_ADDR_PATH_MAX) {
        char quoted[YK_QUOTE_MAX];
        return yk_err_set(err, -YK_EINVAL, "found %s, a path of %zu bytes, expected at most %d",
                          yk_quote(text, quoted), len, YK_ADDR_PATH_MAX);
    }
    memcpy(addr.host, path, len + 1);
    *ret_addr = addr;
    return 0;
}

static bool is_alnum(char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool host_ok(const char *host, size_t len, const char *others) {
    if (len == 0 || len > YK_ADDR_HOST_MAX)
        return false;
    for (size_t i = 0; i < len; i++)
        if (!is_alnum(host[i]) && (host[i] == '\0' || strchr(others, host[i]) == NULL))
            return false;
    return true;
}

static bool read_port(const char *text, uint16_t *ret_port) {
    unsigned port = 0;
    if (*text == '\0')
        return false;
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9')
            return false;
        port = port * 10 + (unsigned)(*text - '0');
        if (port > UINT16_MAX)
            return false;
    }
    *ret_port = (uint16_t)port;
    return true;
}

/* [V6]:PORT or NAME:PORT; the host's start and length, and where the port begins. */
static bool split_host(const char *text, const char **ret_host, size_t *ret_len,
                       const char **ret_port) {
    if (text[0] == '[') {
        const char *close = strchr(text, ']');
        *ret_host = text + 1;
        if (close == NULL || close[1] != ':')
            return false;
        *ret_len = (size_t)(close - text - 1);
        *ret_port = close + 2;
        return host_ok(*ret_host, *ret_len, ":.%-_") && memchr(*ret_host, ':', *ret_len) != NULL;
    }
    const char *colon = strchr(text, ':');
    if (colon == NULL)
        return false;
    *ret_host = text;
    *ret_len = (size_t)(colon - text);
    *ret_port = colon + 1;
    return host_ok(*ret_host, *ret_len, "-._");
}

static int parse_tcp(const char *text, const char *rest, struct yk_addr *ret_addr,
                     struct yk_err *err) {
    struct yk_addr addr = {.kind = YK_ADDR_TCP};
    const char *host, *port;
    size_t len;
    if (rest[0] != '[' && rest[0] != '\0' && strchr(rest, ':') != strrchr(rest, ':'))
        return fail(err, text, " (an IPv6 host needs brackets: [::1]:7780)");
    if (rest[0] == ':')
        return fail(err, text, ", which has no host (all interfaces: 0.0.0.0)");
    if (!split_host(rest, &host, &len, &port))
        return fail(err, text, "");
    if (!read_port(port, &addr.port))
        return fail(err, text, ", whose port is not a number from 0 to 65535");
    memcpy(addr.host, host, len);
    *ret_addr = addr;
    return 0;
}

int yk_parse_addr(const char *text, struct yk_addr *ret_addr, struct yk_err *err) {
    if (text == NULL)
        return fail(err, text, "");
    if (strncmp(text, "unix:", 5) == 0)
        return parse_unix(text, text + 5, ret_addr, err);
    return parse_tcp(text, (strncmp(text, "tcp:", 4) == 0) ? text + 4 : text, ret_addr, err);
}

char *yk_addr_format(const struct yk_addr *addr, char buf[YK_ADDR_TEXT_MAX]) {
    bool v6 = strchr(addr->host, ':') != NULL;
    buf[0] = '\0';
    if (addr->kind == YK_ADDR_UNIX)
        snprintf(buf, YK_ADDR_TEXT_MAX, "unix:%s", addr->host);
    else if (addr->kind == YK_ADDR_TCP)
        snprintf(buf, YK_ADDR_TEXT_MAX, v6 ? "tcp:[%s]:%u" : "tcp:%s:%u", addr->host, addr->port);
    return buf;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Plain and compressed input. libzstd is optional (YK_HAVE_ZSTD); without it a compressed trace is
 * refused with the command that unpacks it.
 *
 * Several frames one after the other are one stream, as the zstd command reads them. The window is
 * limited to what that command accepts by default (128 MiB), so a hostile frame header cannot ask
 * for gigabytes.
 */
#include "trace/source_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#ifdef YK_HAVE_ZSTD
#include <zstd.h>
#define WINDOW_LOG_MAX 27
#endif

#define IN_BYTES 65536

struct yk_trace_source {
    int fd;
#ifdef YK_HAVE_ZSTD
    ZSTD_DStream *zstd; /* NULL: plain */
    bool mid_frame;
#endif
    size_t in_at, in_len;
    char in[IN_BYTES];
};

/* Adds what the file gives to the end of `in`; nothing at its end. */
static int fill(struct yk_trace_source *s, struct yk_err *err) {
    ssize_t n;
    do
        n = read(s->fd, s->in + s->in_len, IN_BYTES - s->in_len);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return yk_err_set(err, -yk_status_from_errno(errno), "cannot read: %s", strerror(errno));
    s->in_len += (size_t)n;
    return 0;
}

static int refill_if_empty(struct yk_trace_source *s, struct yk_err *err) {
    if (s->in_at < s->in_len)
        return 0;
    s->in_at = s->in_len = 0;
    return fill(s, err);
}

#ifdef YK_HAVE_ZSTD
static int start_zstd(struct yk_trace_source *s, struct yk_err *err) {
    s->zstd = ZSTD_createDStream();
    if (s->zstd == NULL)
        return yk_err_set(err, -YK_ENOMEM, "out of memory for decompression");
    ZSTD_DCtx_setParameter(s->zstd, ZSTD_d_windowLogMax, WINDOW_LOG_MAX);
    return 0;
}

static int read_zstd(struct yk_trace_source *s, char *buf, size_t len, size_t *ret_len,
                     struct yk_err *err) {
    ZSTD_outBuffer out = {.dst = buf, .size = len, .pos = 0};
    while (out.pos == 0) {
        int rc = refill_if_empty(s, err);
        if (rc != 0)
            return rc;
        bool at_end = s->in_len == 0;
        if (at_end && !s->mid_frame)
            break;
        ZSTD_inBuffer in = {.src = s->in, .size = s->in_len, .pos = s->in_at};
        size_t left = ZSTD_decompressStream(s->zstd, &out, &in);
        if (ZSTD_isError(left))
            return yk_err_set(err, -YK_ECORRUPT, "found bad Zstandard data (%s), expected a whole file",
                              ZSTD_getErrorName(left));
        s->in_at = in.pos;
        s->mid_frame = left != 0;
        if (at_end && out.pos == 0)
            return yk_err_set(err, -YK_ECORRUPT,
                              "found the end of the file, expected the rest of a Zstandard frame");
    }
    *ret_len = out.pos;
    return 0;
}
#else
static int start_zstd(struct yk_trace_source *s, struct yk_err *err) {
    (void)s;
    return yk_err_set(err, -YK_ENOTSUP,
                      "found Zstandard data, expected plain text: this build has no libzstd "
                      "(unpack it with: zstd -dc FILE)");
}
#endif

static bool begins_with(const struct yk_trace_source *s, const char *magic, size_t len) {
    return s->in_len >= len && memcmp(s->in, magic, len) == 0;
}

static int sniff(struct yk_trace_source *s, struct yk_err *err) {
    size_t before;
    do { /* a pipe may give less than the magic at once */
        before = s->in_len;
        int rc = fill(s, err);
        if (rc != 0)
            return rc;
    } while (s->in_len > before && s->in_len < 4);
    if (begins_with(s, "\x1f\x8b", 2))
        return yk_err_set(err, -YK_ENOTSUP,
                          "found gzip data, expected plain text or Zstandard (unpack it with: gzip "
                          "-dc FILE)");
    return begins_with(s, "\x28\xb5\x2f\xfd", 4) ? start_zstd(s, err) : 0;
}

int yk_trace_source_open(const char *path, struct yk_trace_source **ret_source,
                         struct yk_err *err) {
    struct yk_trace_source *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return yk_err_set(err, -YK_ENOMEM, "out of memory");
    s->fd = strcmp(path, "-") == 0 ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    int rc;
    if (s->fd < 0)
        rc = yk_err_set(err, -yk_status_from_errno(errno), "cannot open: %s", strerror(errno));
    else if (fstat(s->fd, &st) == 0 && S_ISDIR(st.st_mode))
        rc = yk_err_set(err, -YK_EINVAL, "found a directory, expected a file");
    else
        rc = sniff(s, err);
    if (rc != 0) {
        yk_trace_source_close(s);
        return rc;
    }
    *ret_source = s;
    return 0;
}

int yk_trace_source_read(struct yk_trace_source *s, char *buf, size_t len, size_t *ret_len,
                         struct yk_err *err) {
#ifdef YK_HAVE_ZSTD
    if (s->zstd != NULL)
        return read_zstd(s, buf, len, ret_len, err);
#endif
    int rc = refill_if_empty(s, err);
    if (rc != 0)
        return rc;
    size_t n = s->in_len - s->in_at < len ? s->in_len - s->in_at : len;
    memcpy(buf, s->in + s->in_at, n);
    s->in_at += n;
    *ret_len = n;
    return 0;
}

void yk_trace_source_close(struct yk_trace_source *s) {
    if (s == NULL)
        return;
#ifdef YK_HAVE_ZSTD
    ZSTD_freeDStream(s->zstd);
#endif
    if (s->fd > STDIN_FILENO)
        close(s->fd);
    free(s);
}

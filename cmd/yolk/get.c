/* SPDX-License-Identifier: Apache-2.0
 *
 * yolk get: a block's payload to a file or standard output.
 *
 * A whole block is borrowed, not copied: what is written comes from the node's memory, and it cannot
 * go away meanwhile. Of a part only that part is moved, which matters where payload goes through a
 * socket; its checksum is the whole block's, so --verify gets all of it. The file is opened only once
 * the block is there, so that a miss leaves no trace.
 */
#include "commands.h"
#include "keys.h"
#include "progress.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WRITE_BYTES (4u << 20) /* at a time, so that progress moves */

struct get_config {
    struct yolk_common common;
    uint64_t offset;
    uint64_t length;
    bool verify;
    bool hex;
};

static const struct yk_opt rows[] = {
    {.name = "offset",
     .letter = 'o',
     .type = YK_OPT_SIZE,
     YK_OPT_AT(struct get_config, offset),
     .def = "0",
     .help = "Begin with this byte."},
    {.name = "length",
     .letter = 'l',
     .type = YK_OPT_SIZE,
     YK_OPT_AT(struct get_config, length),
     .def = "0",
     .help = "Write so many bytes; 0 is all the rest."},
    {.name = "verify",
     .type = YK_OPT_BOOL,
     YK_OPT_AT(struct get_config, verify),
     .help = "Compare the checksum first."},
    {.name = "hex",
     .letter = 'x',
     .type = YK_OPT_BOOL,
     YK_OPT_AT(struct get_config, hex),
     .help = "The key is given as hex digits."},
};

static int write_all(int fd, const unsigned char *data, size_t len,
                     struct yolk_progress *progress) {
    size_t done = 0;
    while (done < len) {
        size_t n = len - done < WRITE_BYTES ? len - done : WRITE_BYTES;
        ssize_t rc = write(fd, data + done, n);
        if (rc < 0 && errno == EINTR)
            continue;
        if (rc < 0)
            return -1;
        done += (size_t)rc;
        yolk_progress_at(progress, done);
    }
    return 0;
}

static int write_out(const struct yolk_ctx *ctx, const char *path, const void *data, size_t len) {
    struct yolk_progress progress;
    bool is_stdout = strcmp(path, "-") == 0;
    int fd = is_stdout ? STDOUT_FILENO : open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
        return yolk_fail(YOLK_USAGE, "cannot open '%s': %s", path, strerror(errno));
    yolk_progress_begin(&progress, "get", len, ctx->common->json);
    int rc = write_all(fd, data, len, &progress);
    int write_errno = errno;
    yolk_progress_end(&progress);
    if (!is_stdout && close(fd) < 0 && rc == 0) {
        rc = -1;
        write_errno = errno;
    }
    if (rc == 0)
        return YOLK_OK;
    return yolk_fail(YOLK_FAIL, "cannot write '%s': %s", is_stdout ? "standard output" : path,
                     strerror(write_errno));
}

static void print_get(uint64_t len, uint64_t checksum, yk_key key, uint64_t written, bool hex) {
    struct yk_json json;
    char sum[32];
    snprintf(sum, sizeof(sum), "%016llx", (unsigned long long)checksum);
    yk_json_init_file(&json, stdout);
    yk_json_begin_object(&json);
    yolk_json_key(&json, key, hex);
    yk_json_put_uint(&json, "len", len);
    yk_json_put_uint(&json, "written", written);
    yk_json_put_str(&json, "checksum", sum);
    yk_json_end_object(&json);
    yk_json_newline(&json);
    yk_json_finish(&json);
}

/* Which bytes of a block of block_len are wanted. */
static int check_range(const struct get_config *config, yk_key key, uint64_t block_len,
                       size_t *ret_len) {
    char text[YOLK_KEY_TEXT_MAX];
    if (config->offset > block_len || config->length > block_len - config->offset)
        return yolk_fail(YOLK_USAGE,
                         "get '%.60s': found bytes %llu to %llu, expected some of the block's %llu",
                         yolk_key_text(key, config->hex, text), (unsigned long long)config->offset,
                         (unsigned long long)(config->offset + config->length),
                         (unsigned long long)block_len);
    *ret_len = config->length != 0 ? config->length : block_len - config->offset;
    return YOLK_OK;
}

static int write_whole(struct yolk_ctx *ctx, yk_key key, const char *path) {
    const struct get_config *config = ctx->config;
    yk_ref ref;
    size_t len = 0;
    int rc = yk_ref_get(ctx->client, key, &ref);
    if (rc != 0)
        return yolk_fail_call(ctx, rc, "get", &key);
    int code = check_range(config, key, ref.len, &len);
    if (code == YOLK_OK)
        code = write_out(ctx, path, (const unsigned char *)ref.data + config->offset, len);
    if (code == YOLK_OK && ctx->common->json)
        print_get(ref.len, ref.checksum, key, len, config->hex);
    yk_ref_release(ctx->client, &ref);
    return yolk_finish(code);
}

static int write_part(struct yolk_ctx *ctx, yk_key key, const char *path) {
    const struct get_config *config = ctx->config;
    yk_block_info info;
    size_t len = 0;
    int rc = yk_stat(ctx->client, key, &info);
    if (rc != 0)
        return yolk_fail_call(ctx, rc, "get", &key);
    int code = check_range(config, key, info.len, &len);
    if (code != YOLK_OK)
        return code;
    void *part = malloc(len > 0 ? len : 1);
    if (part == NULL)
        return yolk_fail(YOLK_FAIL, "no memory for %zu bytes", len);
    rc = yk_get_range(ctx->client, key, config->offset, part, len);
    code = rc != 0 ? yolk_fail_call(ctx, rc, "get", &key) : write_out(ctx, path, part, len);
    free(part);
    if (code == YOLK_OK && ctx->common->json)
        print_get(info.len, info.checksum, key, len, config->hex);
    return yolk_finish(code);
}

static int get(struct yolk_ctx *ctx) {
    const struct get_config *config = ctx->config;
    const char *path = ctx->n_args > 1 ? ctx->args[1] : "-";
    unsigned char key_bytes[YK_KEY_MAX];
    yk_key key;
    if (ctx->common->json && strcmp(path, "-") == 0)
        return yolk_fail(YOLK_USAGE, "--json: found no file for the payload, expected one");
    int code = yolk_key_from_arg(ctx->args[0], config->hex, key_bytes, &key);
    if (code == 0)
        code = yolk_open(ctx, config->verify ? YK_OPEN_VERIFY : 0u);
    if (code != 0)
        return code;
    int part = (config->offset != 0 || config->length != 0) && !config->verify;
    return part ? write_part(ctx, key, path) : write_whole(ctx, key, path);
}

const struct yolk_cmd yolk_cmd_get = {
    .name = "get",
    .args = "KEY [FILE|-]",
    .min_args = 1,
    .max_args = 2,
    .help = "write a block's payload to a file or standard output",
    .more = "It counts as an access. Exits with 3 if the block is not there.",
    YOLK_CMD_OPTIONS(rows),
    .config_bytes = sizeof(struct get_config),
    .fn = get,
};

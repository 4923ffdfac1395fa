/* SPDX-License-Identifier: Apache-2.0
 *
 * Reads sysfs, or a tree that looks like it. A file that is missing, unreadable or holds something else
 * than expected is no value: which of them a kernel, a driver or a container leaves out differs.
 *
 * Threads: any.
 */
#include "topo/topo_priv.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int yk_sysfs_init(struct yk_sysfs *fs, const char *root) {
    char real[PATH_MAX];
    fs->root[0] = 0;
    if (root == NULL)
        return 0;
    if (realpath(root, real) == NULL)
        return -1;
    if (strcmp(real, "/") != 0)
        snprintf(fs->root, sizeof(fs->root), "%s", real);
    return 0;
}

/* 0, or -1: it is too long. */
static int path_of(const struct yk_sysfs *fs, char path[PATH_MAX], const char *fmt, va_list args) {
    size_t n = strlen(fs->root);
    memcpy(path, fs->root, n);
    int more = vsnprintf(path + n, PATH_MAX - n, fmt, args);
    return more < 0 || (size_t)more >= PATH_MAX - n ? -1 : 0;
}

static int read_text(const char *path, char *buf, size_t bytes) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return -1;
    ssize_t n;
    do
        n = read(fd, buf, bytes - 1);
    while (n < 0 && errno == EINTR);
    close(fd);
    if (n < 0)
        return -1;
    buf[n] = 0;
    n = (ssize_t)strcspn(buf, "\n");
    while (n > 0 && (buf[n - 1] == ' ' || buf[n - 1] == '\t'))
        n--;
    buf[n] = 0;
    return (int)n;
}

int yk_sysfs_text(const struct yk_sysfs *fs, char *buf, size_t bytes, const char *fmt, ...) {
    char path[PATH_MAX];
    va_list args;
    va_start(args, fmt);
    int rc = path_of(fs, path, fmt, args);
    va_end(args);
    return rc < 0 ? -1 : read_text(path, buf, bytes);
}

int yk_sysfs_num(const struct yk_sysfs *fs, int64_t *ret, const char *fmt, ...) {
    char path[PATH_MAX], text[64], *end;
    va_list args;
    va_start(args, fmt);
    int rc = path_of(fs, path, fmt, args);
    va_end(args);
    if (rc < 0 || read_text(path, text, sizeof(text)) <= 0)
        return -1;
    errno = 0;
    long long n = strtoll(text, &end, strncmp(text, "0x", 2) == 0 ? 16 : 10);
    if (errno != 0 || end == text || *end != 0)
        return -1;
    *ret = n;
    return 0;
}

int yk_sysfs_real(const struct yk_sysfs *fs, char *buf, size_t bytes, const char *fmt, ...) {
    char path[PATH_MAX], real[PATH_MAX];
    va_list args;
    va_start(args, fmt);
    int rc = path_of(fs, path, fmt, args);
    va_end(args);
    size_t n = strlen(fs->root);
    if (rc < 0 || realpath(path, real) == NULL || strncmp(real, fs->root, n) != 0 ||
        strlen(real + n) >= bytes)
        return -1;
    memcpy(buf, real + n, strlen(real + n) + 1);
    return 0;
}

static int shown(const struct dirent *e) {
    return e->d_name[0] != '.';
}

void yk_sysfs_list(const struct yk_sysfs *fs, struct yk_names *ret, const char *fmt, ...) {
    char path[PATH_MAX];
    struct dirent **entries = NULL;
    va_list args;
    memset(ret, 0, sizeof(*ret));
    va_start(args, fmt);
    int rc = path_of(fs, path, fmt, args);
    va_end(args);
    int n = rc < 0 ? -1 : scandir(path, &entries, shown, versionsort);
    if (n <= 0) {
        free(entries);
        return;
    }
    ret->name = calloc((size_t)n, sizeof(*ret->name));
    for (int i = 0; i < n; i++) {
        if (ret->name != NULL && (ret->name[ret->count] = strdup(entries[i]->d_name)) != NULL)
            ret->count++;
        free(entries[i]);
    }
    free(entries);
}

void yk_names_free(struct yk_names *names) {
    for (uint32_t i = 0; i < names->count; i++)
        free(names->name[i]);
    free(names->name);
    memset(names, 0, sizeof(*names));
}

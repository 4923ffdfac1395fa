/* SPDX-License-Identifier: Apache-2.0
 *
 * A main for fuzz targets without libFuzzer: runs files, or all files of directories, through the
 * target once, so that every input that ever mattered is a regression test for any compiler and
 * sanitizer.
 *
 * Each input is copied into an allocation of exactly its size, so that a sanitizer sees a read past
 * its end. The empty input always runs. A corpus directory that does not exist is an error: it would
 * turn the test into one that cannot fail. Thread: one.
 */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* libFuzzer allows a target to leave this out. */
__attribute__((weak)) int LLVMFuzzerInitialize(int *argc, char ***argv);

static unsigned long inputs_run;

static void run_bytes(const uint8_t *bytes, size_t size) {
    uint8_t *exact = malloc(size ? size : 1);
    if (!exact) {
        fprintf(stderr, "replay: no memory for %zu bytes\n", size);
        exit(1);
    }
    if (size)
        memcpy(exact, bytes, size);
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
    inputs_run++;
}

static int fail(const char *path, const char *what) {
    fprintf(stderr, "replay: %s: %s\n", path, what);
    return -1;
}

static int run_file(const char *path, size_t size) {
    FILE *f = fopen(path, "rb");
    if (!f)
        return fail(path, strerror(errno));
    uint8_t *bytes = malloc(size ? size : 1);
    size_t got = bytes ? fread(bytes, 1, size, f) : 0;
    fclose(f);
    if (got == size && bytes)
        run_bytes(bytes, size);
    free(bytes);
    return got == size ? 0 : fail(path, "cannot be read whole");
}

static int run_path(const char *path);

static int run_directory(const char *path) {
    DIR *dir = opendir(path);
    if (!dir)
        return fail(path, strerror(errno));
    int rc = 0;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        char child[4096];
        if (entry->d_name[0] == '.')
            continue;
        if (snprintf(child, sizeof(child), "%s/%s", path, entry->d_name) >= (int)sizeof(child))
            rc = fail(path, "path is too long");
        else if (run_path(child) != 0)
            rc = -1;
    }
    closedir(dir);
    return rc;
}

static int run_path(const char *path) {
    struct stat st;
    if (stat(path, &st) != 0)
        return fail(path, strerror(errno));
    return S_ISDIR(st.st_mode) ? run_directory(path) : run_file(path, (size_t)st.st_size);
}

int main(int argc, char **argv) {
    int rc = 0;
    if (LLVMFuzzerInitialize)
        LLVMFuzzerInitialize(&argc, &argv);
    run_bytes(NULL, 0);
    for (int i = 1; i < argc; i++)
        if (run_path(argv[i]) != 0)
            rc = 1;
    printf("replay: %lu inputs\n", inputs_run);
    return rc;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Fuzz target: the configuration file, with an option of every type.
 *
 * Beyond not crashing: a refusal has a text of one line that begins with the place, and a file that
 * is accepted, printed and read again gives the same print, so that what `--print-config` shows is
 * what a restart would use.
 *
 * Thread: one.
 */
#include "../unit/base/opt_fixture.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds) {
    if (!holds)
        abort();
}

static char *print(const struct yk_opts *opts) {
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    require(out != NULL);
    yk_opt_print_config(opts, out);
    fclose(out);
    return text;
}

static void check_round_trip(const struct yk_opts *opts) {
    struct yk_opts again;
    struct config config;
    struct yk_err err;
    char *first = print(opts), *second;
    require(yk_opt_init(&again, &spec, &config, &err) == 0);
    require(yk_opt_parse_text(&again, "printed", first, strlen(first), &err) == 0);
    second = print(&again);
    require(strcmp(first, second) == 0);
    free(first);
    free(second);
    yk_opt_fini(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct yk_opts opts;
    struct config config;
    struct yk_err err = {0};
    require(yk_opt_init(&opts, &spec, &config, &err) == 0);
    int rc = yk_opt_parse_text(&opts, "fuzz", (const char *)data, size, &err);
    if (rc == 0)
        check_round_trip(&opts);
    else
        require(strncmp(err.text, "fuzz:", 5) == 0 && strchr(err.text, '\n') == NULL);
    yk_opt_fini(&opts);
    return 0;
}

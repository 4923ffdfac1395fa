/* SPDX-License-Identifier: Apache-2.0
 *
 * The boot id (src/base/host.h).
 */
#include "base/host.h"

#include <stdio.h>
#include <string.h>

void yk_host_id(char ret[YK_HOST_ID_MAX]) {
    FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");
    if (f == NULL || fgets(ret, (int)YK_HOST_ID_MAX, f) == NULL)
        ret[0] = 0;
    if (f != NULL)
        fclose(f);
    ret[strcspn(ret, "\n")] = 0;
}

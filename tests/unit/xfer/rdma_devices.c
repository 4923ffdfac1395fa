/* SPDX-License-Identifier: Apache-2.0
 *
 * See rdma_devices.h.
 */
#include "rdma_devices.h"

#include "base/clock.h"
#include "xfer/engine_priv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <dirent.h>
#include <linux/capability.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FDS_MAX 1024 /* of this process */
#define LOOK_S 240u /* for what must come in the end: an emulated guest is slow */

const char *rdma_cuts[RDMA_CUTS_MAX];
uint32_t rdma_cut_count;

void rdma_cuts_read(void) {
    static char names[200];
    const char *cut = getenv("YOLK_RDMA_CUT");
    snprintf(names, sizeof(names), "%s", cut != NULL ? cut : "");
    for (char *at = strtok(names, ","); at != NULL && rdma_cut_count < RDMA_CUTS_MAX; at = strtok(NULL, ","))
        rdma_cuts[rdma_cut_count++] = at;
}

#define COUNTERS_MS 20 /* the kernel reads them again when they are older than 10 ms */

struct rdma_counters rdma_devices(void) {
    struct rdma_counters c = {.n = 0};
    (void)poll(NULL, 0, COUNTERS_MS);
    DIR *d = opendir("/sys/class/infiniband");
    for (struct dirent *e; d != NULL && c.n < 32 && (e = readdir(d)) != NULL;) {
        char path[400];
        unsigned long long n = 0;
        snprintf(path, sizeof(path), "/sys/class/infiniband/%s/ports/1/hw_counters/rcvd_pkts", e->d_name);
        FILE *f = fopen(path, "re");
        if (f == NULL)
            continue;
        if (fscanf(f, "%llu", &n) == 1) {
            snprintf(c.name[c.n], sizeof(c.name[0]), "%.63s", e->d_name);
            c.packets[c.n++] = n;
        }
        fclose(f);
    }
    if (d != NULL)
        closedir(d);
    return c;
}

uint64_t rdma_packets_since(const struct rdma_counters *before) {
    struct rdma_counters now = rdma_devices();
    uint64_t sum = 0;
    for (uint32_t i = 0; i < now.n; i++)
        sum += now.packets[i] - before->packets[i];
    return sum;
}

uint64_t rdma_streamed(void) {
    uint64_t sum = 0;
    for (int fd = 0; fd < FDS_MAX; fd++) {
        struct tcp_info info;
        socklen_t len = sizeof(info);
        memset(&info, 0, sizeof(info));
        if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0)
            sum += info.tcpi_bytes_sent + info.tcpi_bytes_received;
    }
    return sum;
}

uint64_t rdma_carried(void) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < rdma_cut_count; i++) {
        char path[100];
        unsigned long long n = 0;
        snprintf(path, sizeof(path), "/sys/class/net/%s/statistics/rx_bytes", rdma_cuts[i]);
        FILE *f = fopen(path, "re");
        if (f != NULL && fscanf(f, "%llu", &n) == 1)
            sum += n;
        if (f != NULL)
            fclose(f);
    }
    return sum;
}

void rdma_set_link(uint32_t cut, const char *state) {
    char command[100];
    snprintf(command, sizeof(command), "ip link set %s %s", rdma_cuts[cut], state);
    assert_int_equal(system(command), 0);
}

/* Whether the port of every device is active again. */
static int all_active(void) {
    int active = 1;
    DIR *d = opendir("/sys/class/infiniband");
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        char path[400], text[32] = "";
        snprintf(path, sizeof(path), "/sys/class/infiniband/%s/ports/1/state", e->d_name);
        FILE *f = fopen(path, "re");
        if (f == NULL)
            continue;
        if (fgets(text, sizeof(text), f) == NULL || strstr(text, "ACTIVE") == NULL)
            active = 0;
        fclose(f);
    }
    if (d != NULL)
        closedir(d);
    return active;
}

void rdma_links_up(void) {
    uint64_t until = yk_now_ns() + LOOK_S * YK_NS_PER_S;
    for (uint32_t i = 0; i < rdma_cut_count; i++)
        rdma_set_link(i, "up");
    while (!all_active()) {
        assert_true(yk_now_ns() < until);
        (void)poll(NULL, 0, 20);
    }
}

void rdma_be_patient(yk_xfer *engine) {
    engine->opts.stall_ms = 1000;
}

void rdma_no_pinning(void) {
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{0}};
    struct rlimit none = {0, 0};
    assert_int_equal(syscall(SYS_capget, &head, data), 0);
    data[CAP_IPC_LOCK / 32].effective &= ~(1u << CAP_IPC_LOCK % 32);
    assert_int_equal(syscall(SYS_capset, &head, data), 0);
    assert_int_equal(getrlimit(RLIMIT_MEMLOCK, &none), 0);
    none.rlim_cur = 0;
    assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &none), 0);
}

void rdma_may_pin(void) {
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{0}};
    struct rlimit all;
    assert_int_equal(syscall(SYS_capget, &head, data), 0);
    data[CAP_IPC_LOCK / 32].effective |= 1u << CAP_IPC_LOCK % 32;
    assert_int_equal(syscall(SYS_capset, &head, data), 0);
    assert_int_equal(getrlimit(RLIMIT_MEMLOCK, &all), 0);
    all.rlim_cur = all.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &all), 0);
}

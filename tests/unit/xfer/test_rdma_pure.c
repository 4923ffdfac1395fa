/* SPDX-License-Identifier: Apache-2.0
 *
 * What of RDMA needs no device: ports as sysfs has them, rails, what queue pairs tell each other.
 */
#include "xfer/rdma/rdma_priv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- a tree of sysfs ---------------------------------------------------------------------------------- */

static char root[64];

static void put(const char *path, const char *text) {
    char full[512];
    snprintf(full, sizeof(full), "%s/sys/class/infiniband/%s", root, path);
    for (char *at = strchr(full + 1, '/'); at != NULL; at = strchr(at + 1, '/')) {
        *at = 0;
        (void)mkdir(full, 0755);
        *at = '/';
    }
    FILE *f = fopen(full, "we");
    assert_non_null(f);
    fprintf(f, "%s\n", text);
    fclose(f);
}

static void put_gid(const char *dev, int index, const char *gid, const char *type, const char *netdev) {
    char path[128];
    snprintf(path, sizeof(path), "%s/ports/1/gids/%d", dev, index);
    put(path, gid);
    snprintf(path, sizeof(path), "%s/ports/1/gid_attrs/types/%d", dev, index);
    put(path, type);
    snprintf(path, sizeof(path), "%s/ports/1/gid_attrs/ndevs/%d", dev, index);
    put(path, netdev);
}

static void put_port(const char *dev, const char *state, const char *layer, const char *rate, const char *lid) {
    const struct {
        const char *name, *text;
    } files[] = {{"state", state}, {"link_layer", layer}, {"rate", rate}, {"lid", lid}};
    char path[128];
    for (int i = 0; i < 4; i++) {
        snprintf(path, sizeof(path), "%s/ports/1/%s", dev, files[i].name);
        put(path, files[i].text);
    }
}

static int make_root(void **state) {
    snprintf(root, sizeof(root), "/tmp/yk-rdma-XXXXXX");
    return mkdtemp(root) == NULL ? -1 : 0;
}

static int drop_root(void **state) {
    char command[128];
    snprintf(command, sizeof(command), "rm -r %s", root);
    return system(command);
}

static void a_host_without_devices(void **state) {
    struct yk_rdma_port ports[4];
    assert_int_equal(yk_rdma_ports_scan(root, ports, 4), 0);
    assert_int_equal(yk_rdma_ports_scan("/nowhere", ports, 4), 0);
}

/* RoCE v2 and routable: IPv4, IPv6, a VLAN's; not v1, not link-local, not empty, not a port that is down. */
static void gids_that_route(void **state) {
    struct yk_rdma_port ports[8];
    put_port("mlx5_0", "4: ACTIVE", "Ethernet", "200 Gb/sec (4X HDR)", "0x0");
    put_gid("mlx5_0", 0, "fe80:0000:0000:0000:0202:c9ff:fe00:0001", "IB/RoCE v1", "eth0");
    put_gid("mlx5_0", 1, "fe80:0000:0000:0000:0202:c9ff:fe00:0001", "RoCE v2", "eth0");
    put_gid("mlx5_0", 2, "0000:0000:0000:0000:0000:ffff:0a00:0007", "IB/RoCE v1", "eth0");
    put_gid("mlx5_0", 3, "0000:0000:0000:0000:0000:ffff:0a00:0007", "RoCE v2", "eth0");
    put_gid("mlx5_0", 4, "0000:0000:0000:0000:0000:0000:0000:0000", "RoCE v2", "eth0");
    put_gid("mlx5_0", 5, "fd00:0000:0000:0000:0000:0000:0000:0007", "RoCE v2", "eth0.5");
    put_port("mlx5_1", "1: DOWN", "Ethernet", "200 Gb/sec (4X HDR)", "0x0");
    put_gid("mlx5_1", 0, "0000:0000:0000:0000:0000:ffff:0a01:0007", "RoCE v2", "eth1");
    assert_int_equal(yk_rdma_ports_scan(root, ports, 8), 2);
    assert_string_equal(ports[0].device, "mlx5_0");
    assert_string_equal(ports[0].host, "10.0.0.7");
    assert_string_equal(ports[0].netdev, "eth0");
    assert_int_equal(ports[0].gid_index, 3);
    assert_int_equal(ports[0].mbit, 200000);
    assert_int_equal(ports[0].port, 1);
    assert_int_equal(ports[0].infiniband, 0);
    assert_string_equal(ports[1].host, "fd00::7");
    assert_string_equal(ports[1].netdev, "eth0.5");
    assert_int_equal(ports[1].gid_index, 5);
    assert_ptr_equal(yk_rdma_port_of(ports, 2, "fd00::7"), &ports[1]);
    assert_null(yk_rdma_port_of(ports, 2, "10.0.0.8"));
    assert_int_equal(yk_rdma_ports_scan(root, ports, 1), 1);
}

/* Tables have hundreds of entries, nearly all empty: a few in a row are skipped, and behind many nothing is looked for. */
static void tables_with_holes(void **state) {
    struct yk_rdma_port ports[8];
    put_port("mlx5_0", "4: ACTIVE", "Ethernet", "200 Gb/sec (4X HDR)", "0x0");
    put_gid("mlx5_0", 1, "0000:0000:0000:0000:0000:ffff:0a00:0007", "RoCE v2", "eth0");
    put_gid("mlx5_0", 30, "0000:0000:0000:0000:0000:ffff:0a00:0107", "RoCE v2", "eth0.5");
    put_gid("mlx5_0", 200, "0000:0000:0000:0000:0000:ffff:0a00:0207", "RoCE v2", "eth0.6");
    assert_int_equal(yk_rdma_ports_scan(root, ports, 8), 2);
    assert_string_equal(ports[0].host, "10.0.0.7");
    assert_string_equal(ports[1].host, "10.0.1.7");
    assert_int_equal(ports[1].gid_index, 30);
}

/* ---- settings ----------------------------------------------------------------------------------------- */

static struct yk_rdma_settings settings(const char *text) {
    struct yk_rdma_settings s;
    struct yk_err err = {0, ""};
    if (yk_rdma_settings_parse(text, &s, &err) < 0)
        fail_msg("%s", err.text);
    return s;
}

static void settings_that_are_good(void **state) {
    struct yk_rdma_settings s = settings(NULL);
    assert_int_equal(s.device_count, 0);
    assert_int_equal(s.gid_index, YK_RDMA_ANY_GID);
    assert_int_equal(s.traffic_class, 0);
    assert_int_equal(s.service_level, 0);
    assert_int_equal(s.depth, YK_RDMA_DEPTH);
    s = settings("device=mlx5_0,device=mlx5_bond_1:2,gid-index=3,traffic-class=255,service-level=15,depth=16");
    assert_int_equal(s.device_count, 2);
    assert_string_equal(s.device[0].name, "mlx5_0");
    assert_int_equal(s.device[0].port, 0);
    assert_string_equal(s.device[1].name, "mlx5_bond_1");
    assert_int_equal(s.device[1].port, 2);
    assert_int_equal(s.gid_index, 3);
    assert_int_equal(s.traffic_class, 255);
    assert_int_equal(s.service_level, 15);
    assert_int_equal(s.depth, 16);
}

static void settings_that_are_not(void **state) {
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"", "expected device=NAME"},
        {"mlx5_0", "found 'mlx5_0'"},
        {"device=", "NAME:PORT"},
        {"device=mlx5_0:0", "NAME:PORT"},
        {"device=mlx5_0:x", "NAME:PORT"},
        {"device=../../etc", "NAME:PORT"},
        {"device=a-name-of-more-than-sixty-three-characters-which-no-device-can-have", "NAME:PORT"},
        {"traffic-class=256", "traffic-class: found '256', expected a number from 0 to 255"},
        {"service-level=16", "0 to 15"},
        {"gid-index=256", "0 to 255"},
        {"depth=15", "16 to 256"},
        {"depth=257", "16 to 256"},
        {"depth=-1", "16 to 256"},
        {"traffic-class=1,", "expected device=NAME"},
        {"traffic_class=1", "found 'traffic_class'"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct yk_rdma_settings s = {.depth = 77};
        struct yk_err err = {0, ""};
        assert_int_equal(yk_rdma_settings_parse(cases[i].text, &s, &err), -YK_EINVAL);
        if (strstr(err.text, cases[i].says) == NULL)
            fail_msg("'%s': %s", cases[i].text, err.text);
        assert_int_equal(s.depth, 77);
        assert_int_equal(yk_rdma_settings_check(cases[i].text, NULL), -YK_EINVAL);
    }
    char many[YK_RDMA_NAMED_MAX * 20 + 40] = "device=d";
    for (uint32_t i = 0; i < YK_RDMA_NAMED_MAX; i++)
        strcat(many, ",device=d");
    assert_int_equal(yk_rdma_settings_check(many, NULL), -YK_EINVAL);
}

static uint32_t chosen(const char *text, struct yk_rdma_port *ports, uint32_t cap) {
    struct yk_rdma_settings s = settings(text);
    return yk_rdma_ports_chosen(&s, ports, yk_rdma_ports_scan(root, ports, cap));
}

static void put_two_devices(void) {
    put_port("mlx5_0", "4: ACTIVE", "Ethernet", "200 Gb/sec (4X HDR)", "0x0");
    put_gid("mlx5_0", 1, "0000:0000:0000:0000:0000:ffff:0a00:0007", "RoCE v2", "eth0");
    put_gid("mlx5_0", 3, "fd00:0000:0000:0000:0000:0000:0000:0007", "RoCE v2", "eth0");
    put_port("mlx5_1", "4: ACTIVE", "Ethernet", "200 Gb/sec (4X HDR)", "0x0");
    put_gid("mlx5_1", 1, "0000:0000:0000:0000:0000:ffff:0a01:0007", "RoCE v2", "eth1");
}

static void ports_that_are_chosen(void **state) {
    struct yk_rdma_port ports[8];
    put_two_devices();
    assert_int_equal(chosen(NULL, ports, 8), 3);
    assert_int_equal(chosen("device=mlx5_1", ports, 8), 1);
    assert_string_equal(ports[0].host, "10.1.0.7");
    assert_int_equal(chosen("device=mlx5_1:1,device=mlx5_0", ports, 8), 3);
    assert_int_equal(chosen("device=mlx5_1:2", ports, 8), 0);
    assert_int_equal(chosen("gid-index=3", ports, 8), 1);
    assert_string_equal(ports[0].host, "fd00::7");
    assert_int_equal(chosen("device=mlx5_1,gid-index=3", ports, 8), 0);
}

static void settings_that_do_not_fit_the_host(void **state) {
    static const struct {
        const char *text, *says; /* NULL: they fit */
    } cases[] = {
        {NULL, NULL},
        {"device=mlx5_0,gid-index=3", NULL},
        {"device=mlx5_1:1", NULL},
        {"device=mlx5_2,gid-index=3", NULL}, /* it is down: what its table will have nobody knows */
        {"device=mlx5_0,device=mlx5_9", "no device mlx5_9"},
        {"device=mlx5_1:2", "mlx5_1 has no port 2"},
        {"device=mlx5_1,gid-index=3", "gid-index 3"},
        {"gid-index=2", "gid-index 2"},
    };
    put_two_devices();
    put_port("mlx5_2", "1: DOWN", "Ethernet", "200 Gb/sec (4X HDR)", "0x0");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct yk_rdma_settings s = settings(cases[i].text);
        struct yk_err err = {0, ""};
        int rc = yk_rdma_ports_fit(&s, root, &err);
        assert_int_equal(rc, cases[i].says == NULL ? 0 : -YK_EINVAL);
        if (cases[i].says != NULL && strstr(err.text, cases[i].says) == NULL)
            fail_msg("'%s': %s", cases[i].text, err.text);
    }
}

static void an_entry_of_infiniband(void **state) {
    struct yk_rdma_port ports[8];
    put_port("ib0x", "4: ACTIVE", "InfiniBand", "400 Gb/sec (4X NDR)", "0x1b");
    put("ib0x/ports/1/gids/0", "fe80:0000:0000:0000:0002:c903:0000:0001");
    put("ib0x/ports/1/gids/1", "fe80:0000:0000:0000:0002:c903:0000:0002");
    put("ib0x/device/net/ib0/dev_port", "0");
    assert_int_equal(chosen(NULL, ports, 8), 1);
    assert_int_equal(ports[0].gid_index, 0);
    assert_int_equal(chosen("gid-index=1", ports, 8), 1);
    assert_int_equal(ports[0].gid_index, 1);
    assert_string_equal(ports[0].netdev, "ib0");
    assert_int_equal(chosen("gid-index=2", ports, 8), 0);
    struct yk_rdma_settings s = settings("gid-index=1"), none = settings("gid-index=2");
    assert_int_equal(yk_rdma_ports_fit(&s, root, NULL), 0);
    assert_int_equal(yk_rdma_ports_fit(&none, root, NULL), -YK_EINVAL);
}

static void infiniband_by_its_interface(void **state) {
    struct yk_rdma_port ports[8];
    put_port("ib0x", "4: ACTIVE", "InfiniBand", "400 Gb/sec (4X NDR)", "0x1b");
    put("ib0x/ports/1/gids/0", "fe80:0000:0000:0000:0002:c903:0000:0001");
    put("ib0x/device/net/ib0/dev_port", "0");
    assert_int_equal(yk_rdma_ports_scan(root, ports, 8), 1);
    assert_int_equal(ports[0].infiniband, 1);
    assert_int_equal(ports[0].lid, 0x1b);
    assert_string_equal(ports[0].netdev, "ib0");
    assert_string_equal(ports[0].host, "");
}

/* ---- iWARP --------------------------------------------------------------------------------------------- */

static void put_net(const char *netdev, const char *file, const char *text) {
    char path[128];
    snprintf(path, sizeof(path), "../net/%s/%s", netdev, file);
    put(path, text);
}

static void put_rnic(const char *dev, const char *gid) {
    char path[128];
    put_port(dev, "4: ACTIVE", "Ethernet", "10 Gb/sec (1X FDR10)", "0x0");
    snprintf(path, sizeof(path), "%s/node_type", dev);
    put(path, "4: RNIC");
    put_gid(dev, 0, gid, "IB/RoCE v1", "");
}

/* Its GID is a MAC. Of what has that MAC, the device counts, and not what stands on it. */
static void iwarp_by_its_mac(void **state) {
    struct yk_rdma_port ports[8];
    put_rnic("siw0", "3e6c:4ab3:706c:0000:0000:0000:0000:0000");
    put_rnic("siw1", "ce88:6979:b51a:0000:0000:0000:0000:0000");
    put_net("bond0", "address", "3e:6c:4a:b3:70:6c");
    put_net("bond0", "uevent", "DEVTYPE=bond\nINTERFACE=bond0");
    put_net("eth3", "address", "3e:6c:4a:b3:70:6c");
    put_net("eth3", "uevent", "INTERFACE=eth3\nIFINDEX=3");
    put_net("eth3.5", "address", "3e:6c:4a:b3:70:6c");
    put_net("lo", "address", "00:00:00:00:00:00");
    assert_int_equal(yk_rdma_ports_scan(root, ports, 8), 2);
    assert_int_equal(ports[0].iwarp, 1);
    assert_int_equal(ports[0].infiniband, 0);
    assert_string_equal(ports[0].netdev, "eth3");
    assert_string_equal(ports[0].host, "");
    assert_int_equal(ports[0].mbit, 10000);
    assert_string_equal(ports[1].netdev, ""); /* its interface is in another namespace: it has no address here */
    assert_int_equal(chosen("device=siw1", ports, 8), 1);
    assert_string_equal(ports[0].device, "siw1");
}

static void iwarp_by_its_device(void **state) {
    struct yk_rdma_port ports[8];
    put_rnic("iw_0", "3e6c:4ab3:706c:0000:0000:0000:0000:0000");
    put("iw_0/device/net/eth7/dev_port", "0");
    put_net("eth1", "address", "3e:6c:4a:b3:70:6c");
    assert_int_equal(yk_rdma_ports_scan(root, ports, 8), 1);
    assert_string_equal(ports[0].netdev, "eth7");
}

/* ---- by name ------------------------------------------------------------------------------------------- */

static void transports_by_name(void **state) {
    static const char *const none[] = {"", ",", "tcp,", ",tcp", "rdm", "rdmaa", "tcp rdma", "unix", "TCP", "tcp,,rdma"};
    uint32_t bits = 7;
    assert_int_equal(yk_xfer_transports("rdma", &bits), 0);
    assert_int_equal(bits, YK_XFER_RDMA);
    assert_int_equal(yk_xfer_transports("tcp,rdma,tcp", &bits), 0);
    assert_int_equal(bits, YK_XFER_RDMA | YK_XFER_TCP);
    assert_int_equal(yk_xfer_transports("all", &bits), 0);
    assert_int_equal(bits, YK_XFER_MEM | YK_XFER_SHM | YK_XFER_TCP | YK_XFER_FILE | YK_XFER_RDMA);
    for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
        bits = 7;
        assert_int_equal(yk_xfer_transports(none[i], &bits), -YK_EINVAL);
        assert_int_equal(bits, 7);
    }
    assert_int_equal(yk_xfer_transports(NULL, &bits), -YK_EINVAL);
}

/* ---- rails --------------------------------------------------------------------------------------------- */

static struct yk_rdma_port port_at(const char *host, const char *netdev) {
    struct yk_rdma_port p = {.mbit = 100000, .ifindex = 3};
    snprintf(p.host, sizeof(p.host), "%s", host);
    snprintf(p.mask, sizeof(p.mask), "255.255.255.0");
    snprintf(p.netdev, sizeof(p.netdev), "%s", netdev);
    snprintf(p.device, sizeof(p.device), "rdma-%s", netdev);
    return p;
}

static void add_addr(struct yk_peer_info *peer, const char *host, int rdma) {
    struct yk_peer_addr *a = &peer->addrs[peer->addr_count++];
    snprintf(a->host, sizeof(a->host), "%s", host);
    a->port = 7;
    a->rdma = (uint8_t)rdma;
}

static void first_with_first_in_each_subnet(void **state) {
    struct yk_rdma_port own[] = {port_at("10.0.1.1", "a"), port_at("10.0.1.2", "b"), port_at("10.0.2.1", "c")};
    struct yk_peer_info peer = {.incarnation = 1};
    struct yk_rail_desc r[8];
    add_addr(&peer, "10.0.1.11", 1);
    add_addr(&peer, "10.0.1.12", 1);
    add_addr(&peer, "10.0.2.11", 1);
    add_addr(&peer, "10.0.1.13", 0); /* no RDMA there */
    add_addr(&peer, "10.0.9.11", 1); /* not in a subnet of ours, while others are */
    assert_int_equal(yk_rdma_rails_of(own, 3, NULL, &peer, 0, r, 8), 3);
    assert_string_equal(r[0].local, "10.0.1.1");
    assert_string_equal(r[0].remote, "10.0.1.11");
    assert_string_equal(r[1].local, "10.0.1.2");
    assert_string_equal(r[1].remote, "10.0.1.12");
    assert_string_equal(r[2].local, "10.0.2.1");
    assert_int_equal(r[0].port, 7);
    assert_int_equal(r[0].local_if, 3);
    assert_true(r[0].bytes_per_s == 12.5e9);
    assert_int_equal(yk_rdma_rails_of(own, 3, "c,10.0.1.2", &peer, 0, r, 8), 3);
    assert_string_equal(r[0].local, "10.0.1.2"); /* the one left has both */
    assert_string_equal(r[1].local, "10.0.1.2");
    assert_int_equal(yk_rdma_rails_of(own, 3, NULL, &peer, 0, r, 2), 2);
    assert_int_equal(yk_rdma_rails_of(own, 3, "nothing", &peer, 0, r, 8), 0);
    assert_int_equal(yk_rdma_rails_of(own, 0, NULL, &peer, 0, r, 8), 0);
}

/* Ports of iWARP with those of iWARP, others with others; what is of neither kind with none. */
static void kinds_are_kept_apart(void **state) {
    struct yk_rdma_port own[] = {port_at("10.0.1.1", "a"), port_at("10.0.1.2", "b")};
    struct yk_peer_info peer = {.incarnation = 1};
    struct yk_rail_desc r[8];
    own[0].iwarp = 1;
    assert_int_equal(yk_rdma_port_kind(&own[0]), YK_RDMA_IWARP);
    assert_int_equal(yk_rdma_port_kind(&own[1]), YK_RDMA_PLAIN);
    add_addr(&peer, "10.0.1.11", YK_RDMA_PLAIN);
    add_addr(&peer, "10.0.1.12", YK_RDMA_IWARP);
    add_addr(&peer, "10.0.1.13", 3);
    assert_int_equal(yk_rdma_rails_of(own, 2, NULL, &peer, 0, r, 8), 2);
    assert_string_equal(r[0].local, "10.0.1.2");
    assert_string_equal(r[0].remote, "10.0.1.11");
    assert_string_equal(r[1].local, "10.0.1.1");
    assert_string_equal(r[1].remote, "10.0.1.12");
    assert_int_equal(yk_rdma_rails_of(own, 1, NULL, &peer, 0, r, 8), 1); /* a host with iWARP alone */
    peer.addr_count = 1;
    assert_int_equal(yk_rdma_rails_of(own, 1, NULL, &peer, 0, r, 8), 0);
}

static void routed_when_no_subnet_is_shared(void **state) {
    struct yk_rdma_port own[] = {port_at("10.0.1.1", "a"), port_at("10.0.2.1", "b")};
    struct yk_peer_info peer = {.incarnation = 1};
    struct yk_rail_desc r[8];
    add_addr(&peer, "10.1.1.1", 1);
    add_addr(&peer, "10.1.2.1", 1);
    add_addr(&peer, "fd00::1", 1); /* of another family */
    assert_int_equal(yk_rdma_rails_of(own, 2, NULL, &peer, 0, r, 8), 2);
    assert_string_equal(r[0].local, "10.0.1.1");
    assert_string_equal(r[1].local, "10.0.2.1");
    assert_int_equal(r[0].distance, 1);
}

static struct yk_rdma_port port6_at(const char *host, const char *netdev) {
    struct yk_rdma_port p = port_at(host, netdev);
    snprintf(p.mask, sizeof(p.mask), "ffff:ffff:ffff:ffff::");
    return p;
}

/* One rail for a pair of devices, by IPv4 if it can be, whatever comes first in the list. */
static void a_second_family_is_no_second_rail(void **state) {
    struct yk_rdma_port own[] = {port6_at("fd00::1", "a"), port_at("10.0.1.1", "a"), port6_at("fd00:2::1", "b")};
    struct yk_peer_info peer = {.incarnation = 1};
    struct yk_rail_desc r[8];
    add_addr(&peer, "fd00::11", 1);
    add_addr(&peer, "10.0.1.11", 1);
    assert_int_equal(yk_rdma_rails_of(own, 3, NULL, &peer, 0, r, 8), 1);
    assert_string_equal(r[0].local, "10.0.1.1");
    add_addr(&peer, "fd00:2::11", 1); /* b has no IPv4 */
    assert_int_equal(yk_rdma_rails_of(own, 3, NULL, &peer, 0, r, 8), 2);
    assert_string_equal(r[1].local, "fd00:2::1");
    assert_string_equal(r[1].remote, "fd00:2::11");
    assert_int_equal(yk_rdma_rails_of(own, 3, "fd00::1", &peer, 0, r, 8), 1); /* by its address */
    assert_string_equal(r[0].local, "fd00::1");
    assert_string_equal(r[0].remote, "fd00::11");
}

/* An address that is ours as well leads to us, unless the peer is on this host. */
static void addresses_that_stand_on_both_hosts(void **state) {
    struct yk_rdma_port own[] = {port_at("10.0.1.1", "a"), port_at("10.0.1.2", "b")};
    struct yk_peer_info peer = {.incarnation = 1};
    struct yk_rail_desc r[8];
    add_addr(&peer, "10.0.1.2", 1);
    assert_int_equal(yk_rdma_rails_of(own, 2, NULL, &peer, 0, r, 8), 0);
    assert_int_equal(yk_rdma_rails_of(own, 2, NULL, &peer, 1, r, 8), 1);
    assert_string_equal(r[0].local, "10.0.1.1"); /* across the wire, not to itself */
    assert_int_equal(yk_rdma_rails_of(&own[1], 1, NULL, &peer, 1, r, 8), 1);
    assert_string_equal(r[0].local, "10.0.1.2"); /* there is no other */
}

/* ---- set-up -------------------------------------------------------------------------------------------- */

static void offers_come_back(void **state) {
    struct yk_rdma_offer a = {.mtu = 5, .reads = 16, .qpn = 0xabcdef, .psn = 0x123456, .lid = 27}, b;
    unsigned char bytes[YK_OFFER_BYTES], again[YK_OFFER_BYTES];
    struct yk_err err;
    memset(a.gid, 0x5a, sizeof(a.gid));
    yk_rdma_offer_encode(bytes, &a);
    assert_int_equal(yk_rdma_offer_decode(bytes, &b, &err), 0);
    yk_rdma_offer_encode(again, &b);
    assert_memory_equal(bytes, again, sizeof(bytes));
    assert_int_equal(b.qpn, a.qpn);
    assert_int_equal(b.psn, a.psn);
    assert_int_equal(b.lid, a.lid);
    /* Each of these makes it one that is refused: magic, version, mtu, reads, high bytes, what is reserved. */
    const struct {
        int at, value, code;
    } bad[] = {{0, 0, -YK_EPROTO},  {4, 3, -YK_EVERSION}, {6, 0, -YK_EPROTO},  {6, 6, -YK_EPROTO}, {7, 0, -YK_EPROTO},
               {11, 1, -YK_EPROTO}, {15, 1, -YK_EPROTO},  {18, 1, -YK_EPROTO}, {36, 1, -YK_EPROTO}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        memcpy(again, bytes, sizeof(bytes));
        again[bad[i].at] = (unsigned char)bad[i].value;
        assert_int_equal(yk_rdma_offer_decode(again, &b, &err), bad[i].code);
    }
    a.qpn = 0;
    yk_rdma_offer_encode(bytes, &a);
    assert_int_equal(yk_rdma_offer_decode(bytes, &b, &err), -YK_EPROTO);
}

static void offers_of_iwarp_come_back(void **state) {
    struct yk_rdma_offer call = {.iwarp = 1, .reads = 16}, shown = call, b;
    unsigned char bytes[YK_OFFER_BYTES], again[YK_OFFER_BYTES];
    struct yk_err err;
    shown.port = 40000;
    shown.rkey = 7;
    shown.addr = 0x7f0000000000;
    memset(shown.token, 0x5a, sizeof(shown.token));
    yk_rdma_offer_encode(bytes, &call);
    assert_int_equal(yk_rdma_offer_decode(bytes, &b, &err), 0);
    assert_true(b.iwarp && b.reads == 16 && b.port == 0);
    /* Who calls has nothing to show: each byte from the port on must be 0. */
    for (size_t at = 10; at < sizeof(bytes); at++) {
        memcpy(again, bytes, sizeof(bytes));
        again[at] = 1;
        assert_int_equal(yk_rdma_offer_decode(again, &b, &err), -YK_EPROTO);
    }
    yk_rdma_offer_encode(bytes, &shown);
    assert_int_equal(yk_rdma_offer_decode(bytes, &b, &err), 0);
    yk_rdma_offer_encode(again, &b);
    assert_memory_equal(bytes, again, sizeof(bytes));
    assert_true(b.iwarp && b.port == shown.port && b.rkey == shown.rkey && b.addr == shown.addr);
    assert_memory_equal(b.token, shown.token, sizeof(b.token));
    static const size_t zero[] = {6, 10, 11}; /* reserved */
    for (size_t i = 0; i < 3; i++) {
        memcpy(again, bytes, sizeof(bytes));
        again[zero[i]] = 1;
        assert_int_equal(yk_rdma_offer_decode(again, &b, &err), -YK_EPROTO);
    }
    memcpy(again, bytes, sizeof(bytes));
    again[7] = 0; /* reads */
    assert_int_equal(yk_rdma_offer_decode(again, &b, &err), -YK_EPROTO);
    shown.addr = UINT64_MAX - 3;
    yk_rdma_offer_encode(bytes, &shown);
    assert_int_equal(yk_rdma_offer_decode(bytes, &b, &err), -YK_EPROTO);
}

/* Every bit of a call counts, and what stands behind it does not. */
static void calls_are_known_by_their_token(void **state) {
    uint8_t token[YK_CM_TOKEN];
    unsigned char call[YK_CALL_BYTES + 8] = {0};
    for (size_t i = 0; i < sizeof(token); i++)
        token[i] = (uint8_t)(i * 11 + 3);
    yk_rdma_call_encode(call, token);
    assert_true(yk_rdma_call_is(call, YK_CALL_BYTES, token));
    assert_true(yk_rdma_call_is(call, sizeof(call), token));
    assert_false(yk_rdma_call_is(call, YK_CALL_BYTES - 1, token));
    assert_false(yk_rdma_call_is(call, 0, token));
    for (uint32_t bit = 0; bit < YK_CALL_BYTES * 8; bit++) {
        call[bit / 8] ^= (unsigned char)(1u << bit % 8);
        assert_false(yk_rdma_call_is(call, YK_CALL_BYTES, token));
        call[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
}

static void keys_cover_their_span(void **state) {
    struct yk_rdma_key a = {.addr = 0x7f0000000000, .from = 1 << 20, .span = 4096, .rkey = 99}, b;
    unsigned char bytes[YK_KEY_BYTES];
    struct yk_err err;
    yk_rdma_key_encode(bytes, &a);
    assert_int_equal(yk_rdma_key_decode(bytes, &b, &err), 0);
    assert_true(b.addr == a.addr && b.from == a.from && b.span == a.span && b.rkey == a.rkey);
    assert_true(yk_rdma_key_covers(&b, 1 << 20, 4096));
    assert_true(yk_rdma_key_covers(&b, (1 << 20) + 4095, 1));
    assert_false(yk_rdma_key_covers(&b, (1 << 20) - 1, 1));
    assert_false(yk_rdma_key_covers(&b, 1 << 20, 4097));
    assert_false(yk_rdma_key_covers(&b, (1 << 20) + 1, 4096));
    assert_false(yk_rdma_key_covers(&b, UINT64_MAX, 4096));
    memset(bytes, 0, sizeof(bytes)); /* what stands in front of a failed answer */
    assert_int_equal(yk_rdma_key_decode(bytes, &b, &err), -YK_EPROTO);
    a.from = UINT64_MAX;
    yk_rdma_key_encode(bytes, &a);
    assert_int_equal(yk_rdma_key_decode(bytes, &b, &err), -YK_EPROTO);
}

int main(void) {
#define TREE(test) cmocka_unit_test_setup_teardown(test, make_root, drop_root)
    const struct CMUnitTest tests[] = {
        TREE(a_host_without_devices),
        TREE(gids_that_route),
        TREE(tables_with_holes),
        cmocka_unit_test(settings_that_are_good),
        cmocka_unit_test(settings_that_are_not),
        TREE(ports_that_are_chosen),
        TREE(settings_that_do_not_fit_the_host),
        TREE(an_entry_of_infiniband),
        TREE(infiniband_by_its_interface),
        TREE(iwarp_by_its_mac),
        TREE(iwarp_by_its_device),
        cmocka_unit_test(transports_by_name),
        cmocka_unit_test(first_with_first_in_each_subnet),
        cmocka_unit_test(kinds_are_kept_apart),
        cmocka_unit_test(routed_when_no_subnet_is_shared),
        cmocka_unit_test(addresses_that_stand_on_both_hosts),
        cmocka_unit_test(a_second_family_is_no_second_rail),
        cmocka_unit_test(offers_come_back),
        cmocka_unit_test(offers_of_iwarp_come_back),
        cmocka_unit_test(calls_are_known_by_their_token),
        cmocka_unit_test(keys_cover_their_span),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

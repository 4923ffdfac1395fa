/* SPDX-License-Identifier: Apache-2.0
 *
 * What is found in trees that look like sysfs, how far apart it is said to be, and what a file can change
 * of it.
 */
#include "tree.h"

#include "topo/topo.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

static int setup(void **state) {
    struct tree *t = calloc(1, sizeof(*t));
    tree_init(t);
    *state = t;
    return 0;
}

static int teardown(void **state) {
    tree_fini(*state);
    free(*state);
    return 0;
}

static struct yk_topo *find(struct tree *t, const char *override) {
    struct yk_topo_opts o = {.root = t->root, .override = override};
    struct yk_topo *topo = NULL;
    struct yk_err err = {0};
    if (yk_topo_find(&o, &topo, &err) < 0)
        fail_msg("%s", err.text);
    return topo;
}

static const struct yk_topo_dev *dev(const struct yk_topo *topo, const char *name) {
    const struct yk_topo_dev *d = yk_topo_dev(topo, name);
    if (d == NULL)
        fail_msg("no device %s", name);
    return d;
}

static enum yk_topo_near near(const struct yk_topo *topo, const char *a, const char *b) {
    return yk_topo_near(topo, dev(topo, a), dev(topo, b));
}

/* "eth0 | eth1 eth2" */
static void ways(const struct yk_topo *topo, const char *location, const char *expected) {
    const struct yk_topo_loc *l = yk_topo_loc(topo, location);
    char text[256] = "";
    assert_non_null(l);
    for (uint32_t i = 0; i <= l->way_count; i++) {
        if (i == l->near_count)
            strcat(text, text[0] != 0 ? " |" : "|");
        if (i < l->way_count) {
            strcat(text, text[0] != 0 ? " " : "");
            strcat(text, topo->devs[l->ways[i].dev].name);
        }
    }
    assert_string_equal(text, expected);
}

/* ---- what is there ------------------------------------------------------------------------------ */

static void a_host_of_two_sockets(void **state) {
    tree_big(*state);
    struct yk_topo *t = find(*state, NULL);
    assert_int_equal(t->node_count, 3);
    assert_string_equal(t->nodes[0].cpus, "0-31,64-95");
    assert_int_equal(t->nodes[0].bytes, 512ull << 30);
    assert_true(t->nodes[2].is_cxl && !t->nodes[2].has_cpus && !t->nodes[0].is_cxl);
    assert_string_equal(yk_topo_node_location(t, 1), "cpu:1");
    assert_string_equal(yk_topo_node_location(t, 2), "cxl:0");
    assert_null(yk_topo_node_location(t, 3));
    const struct yk_topo_dev *d = dev(t, "eth5");
    assert_string_equal(d->path, "pci0000:30/0000:30:02.0/0000:35:00.0/0000:36:01.0/0000:38:00.0");
    assert_string_equal(d->pci, "0000:38:00.0");
    assert_string_equal(d->rdma, "mlx5_5");
    assert_true(d->node == 1 && d->mbit == 400000 && d->up && !d->is_virtual && d->ifindex == 7);
    assert_ptr_equal(dev(t, "mlx5_5"), d);
    assert_ptr_equal(dev(t, "0000:38:00.0"), d);
    d = dev(t, "cuda:7");
    assert_true(d->node == 1 && d->vendor == 0x10de && d->device == 0x2330);
    assert_string_equal(d->text, "NVIDIA");
    assert_string_equal(dev(t, "vga:0")->text, "ASPEED");
    d = dev(t, "nvme0");
    assert_true(d->bytes == 1 << 20 && d->node == 1);
    assert_string_equal(d->text, "Fast Disk 7T");
    assert_null(yk_topo_dev(t, "lo"));
    assert_int_equal(t->dev_count, 8 + 8 + 2);
    yk_topo_free(t);
}

static void distances_come_from_paths(void **state) {
    tree_big(*state);
    struct yk_topo *t = find(*state, NULL);
    assert_int_equal(near(t, "cuda:2", "cuda:2"), YK_TOPO_SELF);
    assert_int_equal(near(t, "cuda:2", "eth2"), YK_TOPO_SWITCH);
    assert_int_equal(near(t, "cuda:2", "eth3"), YK_TOPO_ROOT);
    assert_int_equal(near(t, "eth0", "cuda:2"), YK_TOPO_SOCKET);
    assert_int_equal(near(t, "cuda:2", "eth4"), YK_TOPO_FAR);
    assert_int_equal(near(t, "nvme0", "eth7"), YK_TOPO_SOCKET);
    ways(t, "cuda:0", "eth0 | eth1 eth2 eth3 eth4 eth5 eth6 eth7");
    ways(t, "cuda:6", "eth6 | eth7 eth4 eth5 eth0 eth1 eth2 eth3");
    ways(t, "cpu:0", "eth0 eth1 eth2 eth3 | eth4 eth5 eth6 eth7");
    ways(t, "cpu:1", "eth4 eth5 eth6 eth7 | eth0 eth1 eth2 eth3");
    ways(t, "cxl:0", "eth0 eth1 eth2 eth3 | eth4 eth5 eth6 eth7");
    assert_null(yk_topo_loc(t, "vga:0"));
    assert_int_equal(t->loc_count, 3 + 8);
    assert_int_equal(yk_topo_distance(t, "cuda:6", "eth6"), 0);
    assert_int_equal(yk_topo_distance(t, "cuda:6", "mlx5_7"), 1);
    assert_int_equal(yk_topo_distance(t, "cuda:6", "eth5"), 2);
    assert_int_equal(yk_topo_distance(t, "cuda:6", "eth0"), 3);
    assert_int_equal(yk_topo_distance(t, "cuda:6", "eth99"), 0);
    assert_int_equal(yk_topo_distance(t, "cuda:99", "eth0"), 0);
    yk_topo_free(t);
}

static void links_that_are_down_are_left_out(void **state) {
    struct tree *tree = *state;
    tree_big(tree);
    tree_file(tree, "/sys/class/net/eth6/operstate", "down");
    struct yk_topo *t = find(tree, NULL);
    ways(t, "cuda:6", "eth7 | eth4 eth5 eth0 eth1 eth2 eth3");
    assert_int_equal(yk_topo_distance(t, "cuda:6", "eth6"), 0);
    yk_topo_free(t);
}

static void devices_without_interface_and_interfaces_without_device(void **state) {
    struct tree *tree = *state;
    tree_big(tree);
    /* InfiniBand without IP; a bond of two, a VLAN on one, a bond across sockets, a tunnel */
    tree_pci(tree, "pci0000:50/0000:50:02.0", 0x020700, 0x15b3, 1);
    tree_file(tree, "/sys/devices/pci0000:50/0000:50:02.0/infiniband/mlx5_8/ports/1/state",
              "4: ACTIVE");
    tree_file(tree, "/sys/devices/pci0000:50/0000:50:02.0/infiniband/mlx5_8/ports/1/rate",
              "200 Gb/sec (4X HDR)");
    tree_link(tree, "/sys/class/infiniband/mlx5_8",
              "/sys/devices/pci0000:50/0000:50:02.0/infiniband/mlx5_8");
    tree_nic(tree, "bond0", NULL, 800000, "up", NULL);
    tree_file(tree, "/sys/class/net/bond0/lower_eth4/x", "x");
    tree_file(tree, "/sys/class/net/bond0/lower_eth5/x", "x");
    tree_nic(tree, "vlan7", NULL, 400000, "up", NULL);
    tree_file(tree, "/sys/class/net/vlan7/lower_eth1/x", "x");
    tree_nic(tree, "bond1", NULL, 800000, "up", NULL);
    tree_file(tree, "/sys/class/net/bond1/lower_eth0/x", "x");
    tree_file(tree, "/sys/class/net/bond1/lower_eth7/x", "x");
    tree_nic(tree, "tun0", NULL, -1, "unknown", NULL);
    tree_file(tree, "/sys/class/net/tun0/flags", "0x1091");
    struct yk_topo *t = find(tree, NULL);
    const struct yk_topo_dev *ib = dev(t, "mlx5_8");
    assert_true(ib->up && ib->ifindex == 0 && ib->mbit == 200000 && ib->node == 1);
    assert_int_equal(near(t, "mlx5_8", "nvme0"), YK_TOPO_ROOT);
    assert_true(dev(t, "bond0")->node == 1 && dev(t, "bond0")->is_virtual);
    assert_int_equal(near(t, "vlan7", "cuda:1"), YK_TOPO_SWITCH);
    assert_int_equal(dev(t, "bond1")->node, -1);
    assert_true(dev(t, "tun0")->up && dev(t, "tun0")->mbit == 0 && dev(t, "tun0")->node == -1);
    yk_topo_free(t);
}

/* ---- little is known -------------------------------------------------------------------------------- */

static void an_empty_tree_has_one_node(void **state) {
    struct yk_topo *t = find(*state, NULL);
    assert_int_equal(t->node_count, 1);
    assert_int_equal(t->dev_count, 0);
    assert_int_equal(t->loc_count, 1);
    ways(t, "cpu:0", "|");
    yk_topo_free(t);
}

static void a_virtual_machine_has_all_near(void **state) {
    struct tree *tree = *state;
    tree_node(tree, 0, "0-1", 16384, "10");
    for (int i = 0; i < 3; i++) {
        char path[64], name[16];
        snprintf(path, sizeof(path), "pci0000:00/0000:00:0%d.0", i + 1);
        tree_pci(tree, path, i < 2 ? 0x020000 : 0x030200, i < 2 ? 0x1af4 : 0x10de, -1);
        snprintf(path + strlen(path), sizeof(path) - strlen(path), "/virtio%d", i);
        snprintf(name, sizeof(name), "eth%d", i);
        if (i < 2)
            tree_nic(tree, name, path, -1, "up", NULL);
    }
    struct yk_topo *t = find(tree, NULL);
    assert_string_equal(dev(t, "eth1")->pci, "0000:00:02.0");
    assert_int_equal(dev(t, "eth1")->node, 0);
    ways(t, "cpu:0", "eth0 eth1 |");
    ways(t, "cuda:0", "eth0 eth1 |");
    yk_topo_free(t);
}

/* CXL memory that the firmware set up has no DAX device; other memory without processors is the host's. */
static void memory_without_processors(void **state) {
    struct tree *tree = *state;
    tree_node(tree, 0, "0-3", 1024, "10 20 30");
    tree_node(tree, 1, "", 2048, "20 10 30");
    tree_node(tree, 4, "", 4096, "30 30 10");
    tree_file(tree, "/sys/devices/LNXSYSTM:00/ndbus0/region0/dax0.0/target_node", "4");
    tree_link(tree, "/sys/bus/dax/devices/dax0.0",
              "/sys/devices/LNXSYSTM:00/ndbus0/region0/dax0.0");
    struct yk_topo *t = find(tree, NULL);
    assert_string_equal(yk_topo_node_location(t, 1), "cpu:1");
    assert_string_equal(yk_topo_node_location(t, 4), "cpu:4");
    yk_topo_free(t);
    tree_file(tree, "/sys/bus/cxl/devices/mem0/size", "1");
    t = find(tree, NULL);
    assert_string_equal(yk_topo_node_location(t, 1), "cxl:0");
    assert_string_equal(yk_topo_node_location(t, 4), "cpu:4");
    yk_topo_free(t);
}

static void nonsense_is_no_value(void **state) {
    struct tree *tree = *state;
    tree_big(tree);
    tree_file(tree, "/sys/devices/system/node/node0/meminfo", "MemTotal: lots");
    tree_file(tree, "/sys/devices/system/node/node1/distance", "near far");
    tree_file(tree, "/sys/devices/system/node/nodes", "1");
    tree_file(tree, "/sys/class/net/eth0/speed", "fast");
    tree_file(tree, "/sys/bus/pci/devices/0000:14:00.0/numa_node", "99999999999999999999");
    tree_file(tree, "/sys/bus/pci/devices/garbage/class", "0x030000");
    tree_file(tree, "/sys/class/net/bonding_masters", "bond0");
    struct yk_topo *t = find(tree, NULL);
    assert_int_equal(t->nodes[0].bytes, 0);
    assert_int_equal(dev(t, "eth0")->mbit, 0);
    assert_int_equal(dev(t, "eth0")->node, -1);
    assert_int_equal(t->dev_count, 18);
    ways(t, "cpu:1", "eth4 eth5 eth6 eth7 | eth0 eth1 eth2 eth3");
    yk_topo_free(t);
}

static void the_host_itself(void **state) {
    struct yk_topo *t = NULL;
    struct yk_err err = {0};
    (void)state;
    assert_int_equal(yk_topo_find(NULL, &t, &err), 0);
    assert_true(t->node_count > 0 && t->nodes[0].has_cpus && t->nodes[0].bytes > 0);
    assert_non_null(yk_topo_loc(t, yk_topo_node_location(t, t->nodes[0].id)));
    for (uint32_t i = 0; i < t->dev_count; i++)
        for (uint32_t k = 0; k < t->devs[i].addr_count; k++)
            assert_ptr_equal(dev(t, t->devs[i].addrs[k])->name, t->devs[i].name);
    yk_topo_free(t);
}

/* ---- the file ---------------------------------------------------------------------------------------- */

static const char *file_of(struct tree *t, const char *text) {
    static char path[128];
    snprintf(path, sizeof(path), "%s/override", t->root);
    tree_file(t, "/override", "%s", text);
    return path;
}

static void a_file_sets_right(void **state) {
    struct tree *tree = *state;
    tree_big(tree);
    struct yk_topo *t = find(
        tree,
        file_of(tree, "{\"devices\": {\"eth0\": {\"node\": 1, \"mbit\": 25000},\n"
                      " \"0000:14:00.0\": {\"ignore\": false}, \"eth7\": {\"ignore\": true}},\n"
                      " \"locations\": {\"cuda:5\": [[\"eth3\", \"mlx5_2\"], [\"eth1\"]]}}"));
    ways(t, "cpu:0", "eth1 eth2 eth3 | eth0 eth4 eth5 eth6");
    ways(t, "cpu:1", "eth0 eth4 eth5 eth6 | eth1 eth2 eth3");
    ways(t, "cuda:5", "eth3 eth2 | eth1");
    assert_int_equal(dev(t, "eth0")->mbit, 25000);
    assert_int_equal(near(t, "eth0", "cuda:0"), YK_TOPO_FAR);
    assert_int_equal(yk_topo_distance(t, "cuda:5", "eth2"), 0);
    assert_int_equal(yk_topo_distance(t, "cuda:5", "eth1"), 1);
    assert_int_equal(yk_topo_distance(t, "cuda:5", "eth4"), UINT32_MAX);
    assert_int_equal(yk_topo_distance(t, "cpu:1", "eth7"), UINT32_MAX);
    yk_topo_free(t);
    t = find(tree, file_of(tree, "{\"cpu:0\": [[\"eth4\"], []]}"));
    ways(t, "cpu:0", "eth4 |");
    ways(t, "cpu:1", "eth4 eth5 eth6 eth7 | eth0 eth1 eth2 eth3");
    yk_topo_free(t);
    t = find(tree, file_of(tree, "{}"));
    ways(t, "cuda:0", "eth0 | eth1 eth2 eth3 eth4 eth5 eth6 eth7");
    yk_topo_free(t);
}

static void refused(struct tree *tree, const char *text, const char *expected) {
    struct yk_topo_opts o = {.root = tree->root, .override = file_of(tree, text)};
    struct yk_topo *topo = NULL;
    struct yk_err err = {0};
    assert_int_equal(yk_topo_find(&o, &topo, &err), -YK_EINVAL);
    assert_null(topo);
    size_t n = strlen(o.override);
    if (strncmp(err.text, o.override, n) != 0 || strcmp(err.text + n, expected) != 0)
        fail_msg("'%s' gave '%s'", text, err.text);
}

static void a_wrong_file_is_refused_with_its_line(void **state) {
    struct tree *tree = *state;
    tree_big(tree);
    refused(tree, "[]", ":1: found a list, expected an object {...}");
    refused(tree, "{\n\"devices\": {},\n\"location\": {}}",
            ":3: found 'location', expected devices, locations, or a location such as cpu:0");
    refused(tree, "{\"a\": 1,\n\n\"cpu:0\": [[],[]]}",
            ":1: found 'a', expected devices, locations, or a location such as cpu:0");
    refused(tree, "{\"devices\":\n 3}", ":1: devices: found a number, expected an object {...}");
    refused(tree, "{\"devices\": {\n\"eth1\": {},\n\"eth99\": {}}}",
            ":3: found 'eth99', which is no device of this host (see yolk topo)");
    refused(tree,
            "{\"locations\": {\"cpu:0\": [[\"node\"], []]},\n\"devices\": {\"eth1\": {\"mbit\": "
            "1,\n\"node\": 2},\n"
            "\"eth2\": {\"mbit\": 1,\n  \"node\": 9}}}",
            ":5: node: expected the number of a NUMA node of this host (see yolk topo)");
    refused(tree, "{\"devices\": {\"cuda:1\":\n {\"mbit\": 1}}}",
            ":2: mbit: expected the speed of a network device, 1 to 100000000 Mbit/s");
    refused(tree, "{\"devices\": {\"eth1\": {\"ignore\": \"}\\\"\",\n\"ignore2\": 1}}}",
            ":1: ignore: found a text, expected true or false");
    refused(tree, "{\"devices\": {\"eth1\": {\"speed\": 1}}}",
            ":1: found 'speed', expected node, mbit or ignore");
    refused(tree, "{\n\"cpu:9\": [[],[]]}",
            ":2: found 'cpu:9', which is no location of this host (see yolk topo)");
    refused(tree, "{\n\"cpu:1\": [[]]}",
            ":2: cpu:1: expected two lists of network devices, [[NEAR...], [OTHERS...]]");
    refused(tree, "{\"cpu:0\": [[\"eth1\"], [\"cuda:0\"]]}",
            ":1: cpu:0: found 'cuda:0', which is no network device of this host (see yolk topo)");
    refused(tree, "{\"cpu:0\": [[\"eth1\"], [\"mlx5_1\"]]}", ":1: cpu:0: found 'eth1' twice");
    refused(tree, "{\"cpu:0\": [[1], []]}",
            ":1: cpu:0: found a number, expected the name of a network device");
    refused(tree, "{\n\n \"cpu:0\": [[], []}", ":3: ']' expected near '}'");
    refused(tree, "{\"cpu:0\": [[], []],\n\"cpu:0\": [[], []]}",
            ":2: duplicate object key near '\"cpu:0\"'");
}

static void a_file_that_is_not_there(void **state) {
    struct tree *tree = *state;
    struct yk_topo_opts o = {.root = tree->root, .override = "/nonexistent/file"};
    struct yk_topo *topo = NULL;
    struct yk_err err = {0};
    assert_int_equal(yk_topo_find(&o, &topo, &err), -YK_ENOENT);
    assert_string_equal(err.text, "cannot read '/nonexistent/file': No such file or directory");
    o.root = "/nonexistent";
    o.override = NULL;
    assert_int_equal(yk_topo_find(&o, &topo, &err), -YK_ENOENT);
    assert_string_equal(err.text, "'/nonexistent' is no directory that can be read");
}

/* ---- JSON -------------------------------------------------------------------------------------------- */

/* Its locations are a file that changes nothing. */
static void json_is_read_again(void **state) {
    struct tree *tree = *state;
    tree_big(tree);
    struct yk_topo *t = find(tree, NULL);
    struct yk_buf buf;
    struct yk_json j;
    yk_buf_init(&buf, 1u << 20);
    yk_json_init_buf(&j, &buf);
    yk_topo_json(t, &j);
    assert_int_equal(yk_json_finish(&j), 0);
    json_t *root = json_loads(yk_buf_text(&buf), JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(root);
    assert_int_equal(json_array_size(json_object_get(root, "nics")), 8);
    assert_int_equal(json_array_size(json_object_get(root, "gpus")), 9);
    assert_string_equal(json_string_value(json_object_get(
                            json_object_get(json_object_get(root, "distances"), "cuda:3"), "eth2")),
                        "root");
    char *locations = json_dumps(json_object_get(root, "locations"), JSON_INDENT(2));
    struct yk_topo *again = find(tree, file_of(tree, locations));
    assert_int_equal(again->loc_count, t->loc_count);
    ways(again, "cuda:6", "eth6 | eth7 eth4 eth5 eth0 eth1 eth2 eth3");
    ways(again, "cxl:0", "eth0 eth1 eth2 eth3 | eth4 eth5 eth6 eth7");
    free(locations);
    json_decref(root);
    yk_buf_fini(&buf);
    yk_topo_free(again);
    yk_topo_free(t);
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE(a_host_of_two_sockets),
        CASE(distances_come_from_paths),
        CASE(links_that_are_down_are_left_out),
        CASE(devices_without_interface_and_interfaces_without_device),
        CASE(an_empty_tree_has_one_node),
        CASE(a_virtual_machine_has_all_near),
        CASE(memory_without_processors),
        CASE(nonsense_is_no_value),
        CASE(the_host_itself),
        CASE(a_file_sets_right),
        CASE(a_wrong_file_is_refused_with_its_line),
        CASE(a_file_that_is_not_there),
        CASE(json_is_read_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

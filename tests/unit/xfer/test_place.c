/* SPDX-License-Identifier: Apache-2.0
 *
 * Where memory is found to be, what an engine counts of it, and the order of rails by distance: over a tree
 * that looks like the sysfs of a host with two sockets, and over this host, whatever it has.
 */
#include "../topo/tree.h"

#include "base/status.h"
#include "xfer/place.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <jansson.h>
#include <linux/mempolicy.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGES 64u
#define LEN   (PAGES * 4096ull)

static char *some_memory(void) {
    void *p = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(p, MAP_FAILED);
    return p;
}

/* The node of a page that has been touched; -1: the kernel does not say. */
static int node_of(void *page) {
    int node = -1;
    long rc = syscall(SYS_get_mempolicy, &node, NULL, 0ul, page, MPOL_F_NODE | MPOL_F_ADDR);
    return rc == 0 ? node : -1;
}

/* ---- memory --------------------------------------------------------------------------------------- */

static void pages_tell_their_node(void **state) {
    (void)state;
    char *memory = some_memory();
    memset(memory, 1, LEN);
    int node = node_of(memory);
    if (node < 0)
        skip(); /* a container may forbid to ask */
    assert_int_equal(yk_place_node(memory, LEN), node);
    assert_int_equal(yk_place_node(memory + 100, 1), node);
    munmap(memory, LEN);
}

static void untouched_memory_is_nowhere_unless_it_is_bound(void **state) {
    (void)state;
    char *memory = some_memory();
    unsigned long one = 1;
    assert_int_equal(yk_place_node(memory, LEN), -1);
    unsigned char in_core[PAGES];
    assert_int_equal(mincore(memory, LEN, in_core), 0);
    for (uint32_t i = 0; i < PAGES; i++)
        assert_int_equal(in_core[i] & 1, 0); /* asking has touched nothing */
    if (syscall(SYS_mbind, memory, LEN, (unsigned long)MPOL_BIND, &one, 64ul, 0u) == 0)
        assert_int_equal(yk_place_node(memory, LEN), 0);
    munmap(memory, LEN);
}

static void what_is_no_memory_is_nowhere(void **state) {
    (void)state;
    char *memory = some_memory();
    munmap(memory, LEN);
    assert_int_equal(yk_place_node(memory, LEN), -1);
    assert_int_equal(yk_place_node(NULL, LEN), -1);
    assert_int_equal(yk_place_node(memory, 0), -1);
    assert_int_equal(yk_place_node(memory, UINT64_MAX), -1);
}

static void most_bytes_come_first(void **state) {
    struct yk_places *p;
    struct yk_place list[YK_PLACES_MAX];
    struct yk_err err;
    (void)state;
    assert_int_equal(yk_places_new(NULL, &p, &err), 0);
    assert_int_equal(yk_places_list(p, list), 0);
    yk_places_add(p, "", 1000);
    assert_int_equal(yk_places_list(p, list), 0);
    yk_places_add(p, "cpu:0", 10);
    yk_places_add(p, "cpu:1", 30);
    yk_places_add(p, "cpu:0", 10);
    assert_int_equal(yk_places_list(p, list), 2);
    assert_string_equal(list[0].location, "cpu:1");
    assert_true(list[0].bytes == 30 && list[1].bytes == 20);
    yk_places_sub(p, "cpu:1", 30);
    assert_int_equal(yk_places_list(p, list), 1);
    assert_string_equal(list[0].location, "cpu:0");
    yk_places_sub(p, "cpu:7", 5);
    yk_places_sub(p, "cpu:0", 20);
    assert_int_equal(yk_places_list(p, list), 0);
    for (int i = 0; i < 100; i++) { /* more than it keeps */
        char name[YK_TOPO_LOCATION];
        snprintf(name, sizeof(name), "cpu:%d", i);
        yk_places_add(p, name, 1);
    }
    assert_int_equal(yk_places_list(p, list), YK_PLACES_MAX);
    yk_places_free(p);
}

/* ---- rails ---------------------------------------------------------------------------------------- */

static const struct yk_topo *topo_of(struct tree *t, const char *override, struct yk_topo **ret) {
    struct yk_topo_opts o = {.root = t->root, .override = override};
    struct yk_err err = {0};
    if (yk_topo_find(&o, ret, &err) < 0)
        fail_msg("%s", err.text);
    return *ret;
}

/* "eth4:1 eth0:0" before and after: names of local devices with their distances. */
static const char *order(const struct yk_topo *t, const char *location, const char *names) {
    static char text[256];
    struct yk_rail_desc rails[8];
    char copy[128], *save, *at;
    uint32_t n = 0;
    memset(rails, 0, sizeof(rails));
    snprintf(copy, sizeof(copy), "%s", names);
    for (at = strtok_r(copy, " ", &save); at != NULL; at = strtok_r(NULL, " ", &save))
        snprintf(rails[n++].local, YK_PEER_HOST, "%s", strcmp(at, "-") == 0 ? "" : at);
    n = yk_place_order(t, location, rails, n);
    text[0] = 0;
    for (uint32_t i = 0; i < n; i++)
        snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%.20s:%d", i > 0 ? " " : "",
                 rails[i].local[0] != 0 ? rails[i].local : "-", (int)rails[i].distance);
    return text;
}

static void near_rails_come_first(void **state) {
    struct tree tree;
    struct yk_topo *t;
    (void)state;
    tree_init(&tree);
    tree_big(&tree); /* eth0 to eth3 at socket 0, the others at socket 1 */
    topo_of(&tree, NULL, &t);
    assert_string_equal(order(t, "cpu:0", "eth0 eth4 eth1"), "eth0:0 eth1:0 eth4:1");
    assert_string_equal(order(t, "cpu:1", "eth0 eth4 eth1 eth5"), "eth4:0 eth5:0 eth0:1 eth1:1");
    assert_string_equal(order(t, "cxl:0", "eth4 eth0"), "eth0:0 eth4:1");
    assert_string_equal(order(t, "", "eth4 eth0"), "eth4:0 eth0:0"); /* memory that nobody knows of */
    assert_string_equal(order(t, "cpu:9", "eth4 eth0"), "eth4:0 eth0:0");
    assert_string_equal(order(t, "cpu:1", "eth0 - eth99"), "-:0 eth99:0 eth0:1"); /* the kernel's choice */
    assert_string_equal(order(t, "cpu:0", ""), "");
    yk_topo_free(t);
    tree_fini(&tree);
}

static void an_interface_is_known_by_its_number(void **state) {
    struct tree tree;
    struct yk_topo *t;
    struct yk_rail_desc rails[2];
    (void)state;
    tree_init(&tree);
    tree_big(&tree);
    topo_of(&tree, NULL, &t);
    memset(rails, 0, sizeof(rails));
    snprintf(rails[0].local, YK_PEER_HOST, "10.0.0.1");
    snprintf(rails[1].local, YK_PEER_HOST, "10.0.1.1");
    rails[0].local_if = yk_topo_dev(t, "eth5")->ifindex;
    rails[1].local_if = yk_topo_dev(t, "eth2")->ifindex;
    assert_int_equal(yk_place_order(t, "cpu:0", rails, 2), 2);
    assert_string_equal(rails[0].local, "10.0.1.1");
    assert_true(rails[0].distance == 0 && rails[1].distance == 1);
    yk_topo_free(t);
    tree_fini(&tree);
}

static void the_file_has_the_last_word(void **state) {
    struct tree tree;
    struct yk_topo *t;
    char path[80];
    (void)state;
    tree_init(&tree);
    tree_big(&tree);
    tree_file(&tree, "/right.json",
              "{\"devices\": {\"eth3\": {\"ignore\": true}, \"eth2\": {\"node\": 1}},"
              " \"locations\": {\"cpu:1\": [[\"eth0\"], [\"eth4\"]]}}");
    snprintf(path, sizeof(path), "%s/right.json", tree.root);
    topo_of(&tree, path, &t);
    assert_string_equal(order(t, "cpu:1", "eth4 eth5 eth0"), "eth0:0 eth4:1"); /* eth5 is in neither */
    assert_string_equal(order(t, "cpu:0", "eth2 eth3 eth0"), "eth0:0 eth2:1");
    assert_string_equal(order(t, "", "eth3 eth0"), "eth0:0");
    assert_string_equal(order(t, "cpu:0", "eth3"), "eth3:-1"); /* better than none */
    yk_topo_free(t);
    tree_fini(&tree);
}

/* ---- an engine ------------------------------------------------------------------------------------ */

/* Bytes that links show at a location; 0: none. */
static uint64_t shown(yk_xfer *engine, const char *location) {
    char *text = NULL;
    assert_int_equal(yk_xfer_links_json(engine, &text), 0);
    json_t *root = json_loads(text, 0, NULL);
    assert_non_null(root);
    uint64_t bytes = (uint64_t)json_integer_value(json_object_get(json_object_get(root, "memory"), location));
    json_decref(root);
    free(text);
    return bytes;
}

static void an_engine_knows_where_its_memory_is(void **state) {
    yk_xfer_opts o = {.size = sizeof(o), .transports = YK_XFER_MEM, .shm_dir = ""};
    yk_xfer *engine;
    char *memory = some_memory(), here[YK_TOPO_LOCATION];
    void *at[2] = {memory, memory + LEN / 2};
    (void)state;
    memset(memory, 1, LEN);
    struct yk_places *p;
    struct yk_err err;
    assert_int_equal(yk_places_new(NULL, &p, &err), 0);
    yk_places_find(p, memory, LEN, here);
    yk_places_free(p);
    assert_int_equal(yk_xfer_create(&o, &engine), 0);
    yk_xfer_memory m[2] = {{.addr = at[0], .length = LEN / 2, .fd = -1},
                           {.addr = at[1], .length = LEN / 4, .location = "cpu:99", .fd = -1}};
    assert_int_equal(yk_xfer_register(engine, m, 2), 0);
    if (here[0] != 0)
        assert_int_equal(shown(engine, here), LEN / 2);
    assert_int_equal(shown(engine, "cpu:99"), LEN / 4);
    assert_int_equal(yk_xfer_register(engine, m, 1), -YK_EINVAL); /* overlaps: counted once */
    if (here[0] != 0)
        assert_int_equal(shown(engine, here), LEN / 2);
    assert_int_equal(yk_xfer_unregister(engine, at, 2), 0);
    assert_int_equal(shown(engine, "cpu:99"), 0);
    if (here[0] != 0)
        assert_int_equal(shown(engine, here), 0);
    yk_xfer_destroy(engine);
    munmap(memory, LEN);
}

static void create_says_what_is_wrong_with_the_file(void **state) {
    struct tree tree;
    char path[80];
    yk_xfer_opts o = {.size = sizeof(o), .transports = YK_XFER_MEM, .shm_dir = "", .topology = path};
    yk_xfer *engine;
    (void)state;
    tree_init(&tree);
    snprintf(path, sizeof(path), "%s/none.json", tree.root);
    assert_int_equal(yk_xfer_create(&o, &engine), -YK_ENOENT);
    assert_non_null(strstr(yk_xfer_error_text(), "none.json"));
    tree_file(&tree, "/bad.json", "{\n\"devices\": 7}");
    snprintf(path, sizeof(path), "%s/bad.json", tree.root);
    assert_int_equal(yk_xfer_create(&o, &engine), -YK_EINVAL);
    assert_non_null(strstr(yk_xfer_error_text(), "bad.json:2"));
    tree_file(&tree, "/good.json", "{\"devices\": {}}");
    snprintf(path, sizeof(path), "%s/good.json", tree.root);
    assert_int_equal(yk_xfer_create(&o, &engine), 0);
    path[0] = 0; /* it was copied, or read at once */
    yk_xfer_destroy(engine);
    tree_fini(&tree);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_tell_their_node),
        cmocka_unit_test(untouched_memory_is_nowhere_unless_it_is_bound),
        cmocka_unit_test(what_is_no_memory_is_nowhere),
        cmocka_unit_test(most_bytes_come_first),
        cmocka_unit_test(near_rails_come_first),
        cmocka_unit_test(an_interface_is_known_by_its_number),
        cmocka_unit_test(the_file_has_the_last_word),
        cmocka_unit_test(an_engine_knows_where_its_memory_is),
        cmocka_unit_test(create_says_what_is_wrong_with_the_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * What the transfer engine says of its links and choices, as tables for people; --json prints its own
 * text instead.
 *
 * The engine's JSON is the only interface to these figures: a field that is not there prints as a dash,
 * so that a table never fails where the JSON would not.
 *
 * Thread: the command's.
 */
#include "xfer_view.h"

#include "keys.h"

#include "base/fmt.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#define DISTANCE_NONE 4294967295.0 /* the topology says that it is not to be used */

/* ---- fields --------------------------------------------------------------------------------------- */

static const char *text_of(const json_t *of, const char *name, char buf[YOLK_KEY_TEXT_MAX]) {
    const char *text = json_string_value(json_object_get(of, name));
    return text != NULL && text[0] != 0 ? yolk_safe_text(text, buf) : "-";
}

static double number_of(const json_t *of, const char *name) {
    const json_t *value = json_object_get(of, name);
    return json_is_number(value) ? json_number_value(value) : 0;
}

static const char *bytes_of(const json_t *of, const char *name, char buf[YK_FMT_MAX]) {
    return yk_fmt_bytes((uint64_t)number_of(of, name), buf);
}

static const char *time_of(const json_t *of, const char *name, char buf[YK_FMT_MAX]) {
    return yk_fmt_duration((uint64_t)number_of(of, name), buf);
}

static const char *distance_of(const json_t *rail, char buf[YK_FMT_MAX]) {
    double d = number_of(rail, "distance");
    snprintf(buf, YK_FMT_MAX, "%.0f", d);
    return d >= DISTANCE_NONE ? "-" : buf;
}

static void print_list(const json_t *all) {
    const json_t *one;
    size_t i;
    json_array_foreach(all, i, one)
        printf("%s%s", i > 0 ? ", " : "", json_string_value(one));
}

/* "10.0.0.2:7000", the address of an interface or the like; IPv6 in brackets. */
static const char *remote_of(const json_t *rail, char buf[96]) {
    char text[YOLK_KEY_TEXT_MAX];
    const char *host = text_of(rail, "remote", text);
    unsigned port = (unsigned)number_of(rail, "port");
    int six = strchr(host, ':') != NULL;
    if (port == 0)
        snprintf(buf, 96, "%.80s", host);
    else
        snprintf(buf, 96, "%s%.80s%s:%u", six ? "[" : "", host, six ? "]" : "", port);
    return buf;
}

/* Where it is registered, most first. */
static void print_memory(json_t *memory) {
    char bytes[YK_FMT_MAX], text[YOLK_KEY_TEXT_MAX];
    const char *location, *comma = "Memory: ";
    json_t *one;
    json_object_foreach(memory, location, one) {
        printf("%s%s %s", comma, yolk_safe_text(location, text),
               yk_fmt_bytes((uint64_t)json_number_value(one), bytes));
        comma = ", ";
    }
    if (json_object_size(memory) > 0)
        putchar('\n');
}

/* ---- links ---------------------------------------------------------------------------------------- */

static void print_rail(size_t number, const json_t *rail) {
    char transport[YOLK_KEY_TEXT_MAX], local[YOLK_KEY_TEXT_MAX], state[YOLK_KEY_TEXT_MAX];
    char remote[96], distance[YK_FMT_MAX], flying[YK_FMT_MAX], moved[YK_FMT_MAX], lanes[24];
    double connecting = number_of(rail, "lanes_connecting");
    if (connecting > 0)
        snprintf(lanes, sizeof(lanes), "%.0f+%.0f", number_of(rail, "lanes_up"), connecting);
    else
        snprintf(lanes, sizeof(lanes), "%.0f", number_of(rail, "lanes_up"));
    printf("%-4zu %-9s %-15s %-21s %8s %-6s %5s %9s %9s %6.0f\n", number,
           text_of(rail, "transport", transport), text_of(rail, "local", local), remote_of(rail, remote),
           distance_of(rail, distance), text_of(rail, "state", state), lanes,
           bytes_of(rail, "bytes_in_flight", flying), bytes_of(rail, "bytes", moved),
           number_of(rail, "failed"));
    if (json_is_string(json_object_get(rail, "last_failure")))
        printf("     last failure: %s\n", text_of(rail, "last_failure", state));
}

/* What the engine believes: MB/s by size; in parentheses where no slice of the size has gone yet. */
static void print_model(size_t number, const json_t *rail) {
    const json_t *band;
    char text[YK_FMT_MAX];
    double fixed = 0;
    size_t i;
    printf("%-4zu", number);
    json_array_foreach(json_object_get(rail, "model"), i, band) {
        int guess = number_of(band, "samples") == 0;
        snprintf(text, sizeof(text), "%s%.0f%s", guess ? "(" : "", number_of(band, "bytes_per_s") / 1e6,
                 guess ? ")" : "");
        printf(" %12s", text);
        if (i == 0)
            fixed = number_of(band, "fixed_ns");
    }
    printf(" %12s\n", yk_fmt_duration((uint64_t)fixed, text));
}

static void print_model_head(const json_t *rails) {
    const json_t *band;
    char name[YOLK_KEY_TEXT_MAX], title[64];
    size_t i;
    printf("\n%-4s", "RAIL");
    json_array_foreach(json_object_get(json_array_get(rails, 0), "model"), i, band) {
        const char *up_to = text_of(band, "up_to", name);
        snprintf(title, sizeof(title), "%s%.20s", strcmp(up_to, "above") == 0 ? "" : "to ", up_to);
        printf(" %12s", title);
    }
    printf(" %12s\n", "FIXED");
}

static void print_peer(const json_t *peer) {
    const json_t *rails = json_object_get(peer, "rails"), *rail;
    char text[YOLK_KEY_TEXT_MAX];
    size_t i;
    printf("\nPeer %s%s%s, %.0f requests\n", text_of(peer, "incarnation", text),
           json_is_true(json_object_get(peer, "files")) ? ", files" : "",
           json_is_true(json_object_get(peer, "gone")) ? ", gone" : "", number_of(peer, "requests"));
    if (json_array_size(rails) == 0) {
        puts("No rail leads there, or nothing was asked of it yet.");
        return;
    }
    printf("%-4s %-9s %-15s %-21s %8s %-6s %5s %9s %9s %6s\n", "RAIL", "TRANSPORT", "LOCAL", "REMOTE",
           "DISTANCE", "STATE", "LANES", "IN FLIGHT", "MOVED", "FAILED");
    json_array_foreach(rails, i, rail)
        print_rail(i + 1, rail);
    print_model_head(rails);
    json_array_foreach(rails, i, rail)
        print_model(i + 1, rail);
}

/* What RDMA devices did for this process: reads here, what peers wrote there. */
static void print_devices(const json_t *devices) {
    const json_t *device;
    char name[YOLK_KEY_TEXT_MAX], moved[YK_FMT_MAX];
    size_t i;
    if (json_array_size(devices) == 0)
        return;
    printf("\n%-15s %9s %10s %10s %10s %10s %10s\n", "DEVICE", "MOVED", "REQUESTS", "DOORBELLS", "SIGNALLED",
           "COMPLETED", "WAKE-UPS");
    json_array_foreach(devices, i, device)
        printf("%-15s %9s %10.0f %10.0f %10.0f %10.0f %10.0f\n", text_of(device, "device", name),
               bytes_of(device, "bytes", moved), number_of(device, "requests"), number_of(device, "doorbells"),
               number_of(device, "signalled"), number_of(device, "completions"), number_of(device, "wakeups"));
}

int yolk_xfer_print_links(const char *json) {
    json_t *root = json_loads(json, 0, NULL);
    const json_t *shard, *peer, *shards = json_object_get(root, "shards");
    char text[YOLK_KEY_TEXT_MAX];
    size_t i, k;
    if (root == NULL)
        return -YK_EINVAL;
    printf("Engine %s at %s: ", text_of(root, "incarnation", text),
           json_string_length(json_object_get(root, "address")) > 0
               ? json_string_value(json_object_get(root, "address"))
               : "no address");
    print_list(json_object_get(root, "transports"));
    printf("; %.0f regions, %.0f segments, %.0f requests\n", number_of(root, "regions"),
           number_of(root, "segments"), number_of(root, "requests"));
    print_memory(json_object_get(root, "memory"));
    json_array_foreach(shards, i, shard) {
        if (json_array_size(shards) > 1)
            printf("\nShard %.0f\n", number_of(shard, "number"));
        json_array_foreach(json_object_get(shard, "peers"), k, peer)
            print_peer(peer);
    }
    print_devices(json_object_get(root, "devices"));
    puts("\nBandwidth by size of slice in MB/s, in parentheses where it is a guess; FIXED: what a small slice "
         "costs beyond\nits bytes. DISTANCE: of the local device from this engine's memory, 0 is near.");
    json_decref(root);
    return 0;
}

int yolk_xfer_is_connecting(const char *json) {
    json_t *root = json_loads(json, 0, NULL);
    const json_t *shard, *peer, *rail;
    size_t i, k, n;
    int found = 0;
    json_array_foreach(json_object_get(root, "shards"), i, shard)
        json_array_foreach(json_object_get(shard, "peers"), k, peer)
            json_array_foreach(json_object_get(peer, "rails"), n, rail)
                found |= number_of(rail, "lanes_connecting") > 0 && number_of(rail, "lanes_up") == 0 &&
                         !json_is_string(json_object_get(rail, "last_failure"));
    json_decref(root);
    return found;
}

/* ---- explain -------------------------------------------------------------------------------------- */

static void print_choice(const json_t *rail) {
    char transport[YOLK_KEY_TEXT_MAX], local[YOLK_KEY_TEXT_MAX], why[YOLK_KEY_TEXT_MAX];
    char remote[96], distance[YK_FMT_MAX], slice[YK_FMT_MAX], takes[YK_FMT_MAX], alone[YK_FMT_MAX];
    printf("%-2s %-9s %-15s %-21s %8s %9s %9s %9s  %s\n",
           json_is_true(json_object_get(rail, "first_slice")) ? "*" : "",
           text_of(rail, "transport", transport), text_of(rail, "local", local), remote_of(rail, remote),
           distance_of(rail, distance), bytes_of(rail, "slice_bytes", slice),
           time_of(rail, "predicted_slice_ns", takes), time_of(rail, "predicted_alone_ns", alone),
           text_of(rail, "reason", why));
    if (json_is_string(json_object_get(rail, "last_failure")))
        printf("   last failure: %s\n", text_of(rail, "last_failure", why));
}

int yolk_xfer_print_choice(const char *json) {
    json_t *root = json_loads(json, 0, NULL);
    const json_t *rails = json_object_get(root, "rails"), *rail;
    char text[YOLK_KEY_TEXT_MAX], bytes[YK_FMT_MAX];
    double useful = number_of(root, "useful_rails");
    size_t i;
    if (root == NULL)
        return -YK_EINVAL;
    printf("A %s of %s, peer ", text_of(root, "op", text), bytes_of(root, "length", bytes));
    printf("%s: ", text_of(root, "incarnation", text));
    if (json_is_true(json_object_get(root, "copied_by_caller")))
        puts("memory of this process, which the caller copies itself.");
    else if (json_array_size(rails) == 0)
        puts("no rail leads there.");
    else
        printf("cut over %.0f rail%s; * takes the first slice.\n", useful, useful == 1 ? "" : "s");
    if (json_array_size(rails) > 0)
        printf("\n%-2s %-9s %-15s %-21s %8s %9s %9s %9s  %s\n", "", "TRANSPORT", "LOCAL", "REMOTE",
               "DISTANCE", "SLICE", "TAKES", "ALONE", "WHY");
    json_array_foreach(rails, i, rail)
        print_choice(rail);
    if (json_array_size(rails) > 0)
        puts("\nTAKES: until a slice cut for that rail would end. ALONE: all of it over that rail. DISTANCE: of "
             "the local\ndevice from this engine's memory, 0 is near.");
    json_decref(root);
    return 0;
}

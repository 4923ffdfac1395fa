/* SPDX-License-Identifier: Apache-2.0
 *
 * Cells for keys, numbers for attributes (cells.h).
 */
#include "tier/ssd/cells.h"

#include <string.h>
#include <sys/mman.h>

#include <yolk/status.h>

int yk_cells_init(struct yk_cells *c, uint64_t granules) {
    memset(c, 0, sizeof(*c));
    for (uint32_t i = 0; i < YK_CELL_CLASSES; i++)
        c->free[i] = YK_CELL_NONE;
    void *m = mmap(NULL, granules * 8u, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (m == MAP_FAILED)
        return -YK_ENOMEM;
    c->base = m;
    c->max = granules;
    return 0;
}

void yk_cells_fini(struct yk_cells *c) {
    if (c->base != NULL)
        munmap(c->base, c->max * 8u);
    c->base = NULL;
}

static void list_push(struct yk_cells *c, uint32_t cell, uint32_t granules) {
    *yk_cell(c, cell) = c->free[granules];
    c->free[granules] = cell;
}

static uint32_t list_pop(struct yk_cells *c, uint32_t granules) {
    uint32_t cell = c->free[granules];
    if (cell != YK_CELL_NONE)
        c->free[granules] = (uint32_t)*yk_cell(c, cell);
    return cell;
}

uint32_t yk_cells_take(struct yk_cells *c, uint32_t granules) {
    uint32_t cell = list_pop(c, granules);
    if (cell == YK_CELL_NONE && c->top + granules <= c->max) {
        cell = (uint32_t)c->top;
        c->top += granules;
    }
    for (uint32_t g = granules + 1; cell == YK_CELL_NONE && g < YK_CELL_CLASSES; g++) {
        cell = list_pop(c, g);
        if (cell != YK_CELL_NONE)
            list_push(c, cell + granules, g - granules);
    }
    if (cell != YK_CELL_NONE)
        c->used += granules;
    return cell;
}

void yk_cells_give(struct yk_cells *c, uint32_t cell, uint32_t granules) {
    list_push(c, cell, granules);
    c->used -= granules;
}

/* ---- attributes ----------------------------------------------------------------------------------- */

void yk_attrs_init(struct yk_attrs *at) {
    memset(at, 0, sizeof(*at));
    at->top = 1;
}

static uint32_t slot_of(uint32_t length_tokens, uint32_t model) {
    uint64_t h = ((uint64_t)model << 32 | length_tokens) * 0x9e3779b97f4a7c15ull;
    return (uint32_t)(h >> 52);
}

uint32_t yk_attrs_take(struct yk_attrs *at, uint32_t length_tokens, uint32_t model) {
    if (length_tokens == 0 && model == 0)
        return 0;
    uint32_t slot = slot_of(length_tokens, model);
    for (uint32_t i = at->heads[slot]; i != 0; i = at->a[i].next) {
        if (at->a[i].length_tokens == length_tokens && at->a[i].model == model) {
            at->a[i].refs++;
            return i;
        }
    }
    uint32_t i = at->free;
    if (i != 0)
        at->free = at->a[i].next;
    else if (at->top < YK_ATTRS)
        i = at->top++;
    else
        return YK_ATTR_NONE;
    at->a[i].length_tokens = length_tokens;
    at->a[i].model = model;
    at->a[i].refs = 1;
    at->a[i].next = at->heads[slot];
    at->heads[slot] = (uint16_t)i;
    return i;
}

void yk_attrs_give(struct yk_attrs *at, uint32_t attr) {
    if (attr == 0 || --at->a[attr].refs > 0)
        return;
    uint16_t *link = &at->heads[slot_of(at->a[attr].length_tokens, at->a[attr].model)];
    while (*link != attr)
        link = &at->a[*link].next;
    *link = at->a[attr].next;
    at->a[attr].next = at->free;
    at->free = (uint16_t)attr;
}

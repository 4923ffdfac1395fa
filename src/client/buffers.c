/* SPDX-License-Identifier: Apache-2.0
 *
 * See buffers.h. Without it a device is told of each slice, and forgets it again (two system calls), since nobody says
 * when memory goes; here somebody does.
 *
 * Unregistering while operations use the memory: the engine ends its requests there and waits for that; the handle then
 * goes on with them as with memory that nobody declared.
 *
 * Threads: any, under `lock`, also over calls into the engine, which may take a while: nothing else needs it.
 */
#include "client/buffers.h"

#include "client/client_priv.h"
#include "client/fail.h"

#include <stdlib.h>
#include <string.h>

void yk_buffers_init(struct yk_buffers *b) {
    memset(b, 0, sizeof(*b));
    pthread_mutex_init(&b->lock, NULL);
}

void yk_buffers_fini(struct yk_buffers *b) {
    free(b->all);
    b->all = NULL;
    b->count = 0;
}

/* How many begin at or before addr. */
static uint32_t before(const struct yk_buffers *b, const void *addr) {
    uint32_t n = 0;
    while (n < b->count && (uintptr_t)b->all[n].addr <= (uintptr_t)addr)
        n++;
    return n;
}

static int tell(yk_xfer *engine, struct yk_buffer *one) {
    yk_xfer_memory m = {.addr = one->addr, .length = one->bytes, .access = YK_XFER_LOCAL, .fd = -1};
    int rc = yk_xfer_register(engine, &m, 1);
    one->registered = rc == 0;
    return rc;
}

void yk_buffers_use(struct yk_buffers *b, yk_xfer *engine) {
    pthread_mutex_lock(&b->lock);
    b->engine = engine;
    for (uint32_t i = 0; i < b->count; i++)
        (void)tell(engine, &b->all[i]);
    pthread_mutex_unlock(&b->lock);
}

void yk_buffers_leave(struct yk_buffers *b, const yk_xfer *engine) {
    pthread_mutex_lock(&b->lock);
    if (b->engine == engine)
        b->engine = NULL;
    for (uint32_t i = 0; i < b->count && b->engine == NULL; i++)
        b->all[i].registered = 0;
    pthread_mutex_unlock(&b->lock);
}

static int overlaps(const struct yk_buffer *one, const void *addr, size_t bytes) {
    return (uintptr_t)one->addr < (uintptr_t)addr + bytes && (uintptr_t)addr < (uintptr_t)one->addr + one->bytes;
}

static int add(struct yk_buffers *b, void *addr, size_t bytes) {
    uint32_t at = before(b, addr);
    if ((at > 0 && overlaps(&b->all[at - 1], addr, bytes)) || (at < b->count && overlaps(&b->all[at], addr, bytes)))
        return yk_fail(-YK_EINVAL, "%zu bytes at %p overlap memory that is registered", bytes, addr);
    if (b->all == NULL)
        b->all = calloc(YK_BUFFERS_MAX, sizeof(*b->all));
    if (b->all == NULL)
        return yk_fail(-YK_ENOMEM, "out of memory");
    if (b->count == YK_BUFFERS_MAX)
        return yk_fail(-YK_ELIMIT, "%u ranges are registered already", YK_BUFFERS_MAX);
    struct yk_buffer one = {.addr = addr, .bytes = bytes};
    int rc = b->engine != NULL ? tell(b->engine, &one) : 0;
    if (rc < 0)
        return yk_fail(rc, "%s", yk_xfer_error_text());
    memmove(&b->all[at + 1], &b->all[at], (b->count - at) * sizeof(*b->all));
    b->all[at] = one;
    b->count++;
    return 0;
}

int yk_register(yk_client *c, void *addr, size_t bytes) {
    int rc = yk_client_enter(c);
    if (rc < 0)
        return rc;
    if (addr == NULL || bytes == 0 || bytes > YK_XFER_LENGTH_MAX || (uintptr_t)addr + bytes < (uintptr_t)addr)
        return yk_fail(-YK_EINVAL, "yk_register of %zu bytes at %p", bytes, addr);
    pthread_mutex_lock(&c->far.buffers.lock);
    rc = add(&c->far.buffers, addr, bytes);
    pthread_mutex_unlock(&c->far.buffers.lock);
    return rc;
}

static int take_out(struct yk_buffers *b, void *addr) {
    uint32_t at = before(b, addr);
    if (addr == NULL || at == 0 || b->all[at - 1].addr != addr)
        return yk_fail(-YK_ENOENT, "no memory is registered that begins at %p", addr);
    int rc = b->all[at - 1].registered ? yk_xfer_unregister(b->engine, &addr, 1) : 0;
    if (rc == -YK_ENOENT) /* an earlier call was not waited out: it goes with the engine */
        return yk_fail(-YK_ETIMEDOUT, "%p is still in use: it goes with the handle", addr);
    if (rc < 0)
        return yk_fail(rc, "%s", yk_xfer_error_text());
    memmove(&b->all[at - 1], &b->all[at], (b->count - at) * sizeof(*b->all));
    b->count--;
    return 0;
}

int yk_unregister(yk_client *c, void *addr) {
    int rc = yk_client_enter(c);
    if (rc < 0)
        return rc;
    pthread_mutex_lock(&c->far.buffers.lock);
    rc = take_out(&c->far.buffers, addr);
    pthread_mutex_unlock(&c->far.buffers.lock);
    return rc;
}

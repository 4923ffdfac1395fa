/* SPDX-License-Identifier: Apache-2.0
 *
 * The epoch of each namespace as this node knows it, and what messages say of it (R9; wire/dir.h).
 *
 * A raise is made in etcd, and told by the watch. Who does not hear etcd, or not yet, hears of it from peers: those
 * questions that name a namespace name its epoch. A higher one than is known here is learned: it goes to the store, and
 * to the membership, which keeps it on disk for an etcd that comes back empty. Who asks with a lower one is told by
 * SPACE, and gets no block: blocks and questions must agree exactly. A block that a member publishes is of an epoch that
 * its namespace has reached; blocks of lower ones are still there for a while after a raise, so nobody is told for them.
 * Guests are not believed.
 *
 * Thread: the directory's loop.
 */
#include "dir/dir_priv.h"

#include "base/hash.h"

struct dir_epoch {
    struct dir_epoch *next;
    uint64_t epoch, learning; /* applied here; on its way */
    uint64_t gone;            /* removed with all that was below this one */
    uint32_t len;
    char name[];
};

static struct dir_epoch **head_of(struct yk_dir *d, const char *name, uint32_t len) {
    return &d->epochs.head[yk_hash64(name, len) % DIR_EPOCH_HEADS];
}

static struct dir_epoch *find(struct yk_dir *d, const char *name, uint32_t len) {
    struct dir_epoch *e = *head_of(d, name, len);
    while (e != NULL && (e->len != len || memcmp(e->name, name, len) != 0))
        e = e->next;
    return e;
}

/* NULL: there are too many, or no memory; then the watch has to tell. */
static struct dir_epoch *take(struct yk_dir *d, const char *name, uint32_t len) {
    struct dir_epoch *e = find(d, name, len);
    if (e != NULL || d->epochs.count == YK_MEMBER_SPACES_MAX)
        return e;
    e = calloc(1, sizeof(*e) + len);
    if (e == NULL)
        return NULL;
    struct dir_epoch **head = head_of(d, name, len);
    e->next = *head;
    e->len = len;
    memcpy(e->name, name, len);
    *head = e;
    d->epochs.count++;
    return e;
}

uint64_t dir_epoch_of(struct yk_dir *d, const char *name, uint32_t len) {
    const struct dir_epoch *e = find(d, name, len);
    return e != NULL ? e->epoch : 0;
}

void dir_epoch_applied(struct yk_dir *d, const char *name, uint32_t len, uint64_t epoch, int status) {
    struct dir_epoch *e = take(d, name, len);
    if (e == NULL)
        return;
    if (status == 0 && epoch > e->epoch)
        e->epoch = epoch;
    if (epoch == e->learning)
        e->learning = 0; /* if it could not be applied, the next message tries again */
}

void dir_epoch_gone(struct yk_dir *d, const char *name, uint32_t len, uint64_t epoch) {
    struct dir_epoch *e = take(d, name, len);
    if (e == NULL || epoch < e->gone)
        return;
    e->gone = epoch;
    if (e->epoch < epoch)
        e->epoch = e->learning = 0;
}

int dir_epoch_is_gone(struct yk_dir *d, const struct yk_dirw_str *ns, uint64_t epoch) {
    const struct dir_epoch *e = find(d, ns->data, ns->len);
    return e != NULL && epoch < e->gone;
}

/* One-way: what is lost is said to the next question. */
static void tell(struct yk_dir *d, uint32_t member, const struct dir_epoch *e) {
    unsigned char body[16 + YK_MEMBER_SPACE_MAX];
    struct yk_wr w;
    yk_wr_init(&w, body, sizeof(body));
    yk_wr_str8(&w, e->name, e->len);
    yk_wr_u64(&w, e->epoch);
    if (d->peers != NULL)
        (void)yk_peers_tell(d->peers, member, YK_DIR_SPACE, body, (uint32_t)yk_wr_len(&w));
}

static void learn(struct yk_dir *d, struct dir_epoch *e, uint64_t epoch) {
    if (epoch <= e->epoch || epoch <= e->learning || epoch < e->gone || dir_space_learn(d, e->name, e->len, epoch) < 0)
        return;
    e->learning = epoch;
    d->n.epochs_heard++;
    yk_member_epoch(d->member, e->name, e->len, epoch);
}

void dir_epoch_hear(struct yk_dir *d, const struct yk_peer_who *from, const struct yk_dirw_str *ns, uint64_t epoch) {
    if (from->id == 0 || ns->len == 0 || epoch == 0 || epoch > INT64_MAX)
        return;
    struct dir_epoch *e = take(d, ns->data, ns->len);
    if (e != NULL && epoch < e->epoch)
        tell(d, from->id, e);
    else if (e != NULL)
        learn(d, e, epoch);
}

void dir_epoch_published(void *arg, const char *ns, uint32_t ns_len, uint64_t epoch) {
    struct yk_dir *d = arg;
    struct dir_epoch *e = ns_len > 0 && epoch <= INT64_MAX && !d->stopping ? take(d, ns, ns_len) : NULL;
    if (e != NULL)
        learn(d, e, epoch);
}

void dir_epochs_tell(struct yk_dir *d, const char *name, uint32_t len) {
    const struct dir_epoch *e = find(d, name, len);
    for (uint32_t i = 0; e != NULL && i < d->peer_count; i++)
        if (d->peer[i]->say.id != d->self)
            tell(d, d->peer[i]->say.id, e);
}

void dir_epochs_clear(struct yk_dir *d) {
    for (uint32_t i = 0; i < DIR_EPOCH_HEADS; i++)
        for (struct dir_epoch *e = d->epochs.head[i], *next; e != NULL; e = next) {
            next = e->next;
            free(e);
        }
    memset(&d->epochs, 0, sizeof(d->epochs));
}

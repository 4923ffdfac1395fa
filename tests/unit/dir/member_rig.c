/* SPDX-License-Identifier: Apache-2.0
 *
 * member_rig.h.
 */
#include "member_rig.h"

#include <ftw.h>
#include <time.h>
#include <unistd.h>

const struct yk_member_opts rig_opts = {
    .clients = "127.0.0.1:1", .peers = "127.0.0.1:2", .transfer = "127.0.0.1:3", .zone = "r/z",
    .version = "1", .capacity_bytes = 1 << 20, .lease_ms = 2000, .grace_ms = 2000, .birth_ms = 300,
    .load_ms = 50, .balance_ms = 100};

/* ---- a folder --------------------------------------------------------------------------------- */

static char folder[128];
static pid_t owner;

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw) {
    return remove(path);
}

static void remove_folder(void) {
    if (getpid() == owner)
        nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

const char *rig_folder(void) {
    const char *tmp = getenv("TMPDIR");
    if (owner == 0) {
        owner = getpid();
        /* In memory, where it can be: a disk that others keep busy may take seconds for a flush. */
        snprintf(folder, sizeof(folder), "%.100s/yolk-member-XXXXXX", tmp != NULL ? tmp : "/dev/shm");
        if (mkdtemp(folder) == NULL) {
            snprintf(folder, sizeof(folder), "/tmp/yolk-member-XXXXXX");
            assert_non_null(mkdtemp(folder));
        }
        atexit(remove_folder);
    }
    return folder;
}

/* ---- what is told ----------------------------------------------------------------------------- */

static void on_map(void *arg, const struct yk_dir_map *map) {
    struct node *n = arg;
    struct yk_dir_map *copy = yk_dir_map_copy(map);
    pthread_mutex_lock(&n->lock);
    if (n->map != NULL && map->version <= n->map->version)
        abort(); /* only newer ones */
    free(n->map);
    n->map = copy;
    n->maps++;
    pthread_cond_broadcast(&n->news);
    pthread_mutex_unlock(&n->lock);
}

static void on_node(void *arg, const struct yk_member_node *node, int gone) {
    struct node *n = arg;
    unsigned at = 0;
    pthread_mutex_lock(&n->lock);
    while (at < n->node_count && strcmp(n->nodes[at].name, node->name) != 0)
        at++;
    if (gone && at < n->node_count)
        n->nodes[at] = n->nodes[--n->node_count];
    else if (!gone && at < RIG_NODES) {
        n->nodes[at] = *node;
        n->node_count += at == n->node_count;
    }
    pthread_cond_broadcast(&n->news);
    pthread_mutex_unlock(&n->lock);
}

static void on_space(void *arg, const struct yk_member_space *space) {
    struct node *n = arg;
    unsigned at = 0;
    pthread_mutex_lock(&n->lock);
    while (at < n->space_count && strcmp(n->spaces[at].name, space->name) != 0)
        at++;
    if (at < RIG_SPACES) {
        if (at < n->space_count && space->epoch < n->spaces[at].epoch)
            abort(); /* epochs never fall */
        n->spaces[at] = *space;
        n->space_count += at == n->space_count;
    }
    pthread_cond_broadcast(&n->news);
    pthread_mutex_unlock(&n->lock);
}

static void on_state(void *arg, const struct yk_member_state *state) {
    struct node *n = arg;
    pthread_mutex_lock(&n->lock);
    n->outs += n->state.incarnation != 0 && state->incarnation == 0;
    n->state = *state;
    n->states++;
    pthread_cond_broadcast(&n->news);
    pthread_mutex_unlock(&n->lock);
}

/* ---- opening and closing ----------------------------------------------------------------------- */

int node_try(struct node *n, struct yk_meta *meta, const char *name, const char *dir, const struct yk_member_opts *o,
             struct yk_err *err) {
    struct yk_member_opts opts = o != NULL ? *o : rig_opts;
    pthread_condattr_t attr;
    memset(n, 0, sizeof(*n));
    pthread_mutex_init(&n->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&n->news, &attr);
    pthread_condattr_destroy(&attr);
    snprintf(n->dir, sizeof(n->dir), "%s/%s", rig_folder(), dir);
    opts.meta = meta;
    opts.name = name;
    opts.dir = n->dir;
    opts.ops = (struct yk_member_ops){on_map, on_node, on_space, on_state, n};
    return yk_member_open(&opts, &n->member, err);
}

void node_open(struct node *n, struct yk_meta *meta, const char *name, const char *dir, const struct yk_member_opts *o) {
    struct yk_err err = {0};
    if (node_try(n, meta, name, dir, o, &err) < 0)
        fail_msg("%s", err.text);
}

void node_close(struct node *n, int leave) {
    yk_member_close(n->member, leave);
    free(n->map);
    n->map = NULL;
    n->member = NULL;
    pthread_cond_destroy(&n->news);
    pthread_mutex_destroy(&n->lock);
}

/* ---- waiting ---------------------------------------------------------------------------------- */

void node_wait(struct node *n, const char *what, node_fn fn, const void *arg) {
    struct timespec end;
    int rc = 0;
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += RIG_WAIT_MS / 1000;
    pthread_mutex_lock(&n->lock);
    while (!fn(n, arg) && rc == 0)
        rc = pthread_cond_timedwait(&n->news, &n->lock, &end);
    struct yk_member_state s = n->state;
    pthread_mutex_unlock(&n->lock);
    if (rc != 0)
        fail_msg("%s does not come: phase %d, incarnation %d, good %d, leads %d, '%s'", what, (int)s.phase,
                 (int)s.incarnation, s.good, s.leads, s.text);
}

static int in_phase(struct node *n, const void *arg) {
    return n->state.phase == *(const enum yk_member_phase *)arg;
}

void node_wait_phase(struct node *n, enum yk_member_phase phase) {
    node_wait(n, "a phase", in_phase, &phase);
}

static int is_joined(struct node *n, const void *arg) {
    return n->state.incarnation != 0;
}

static int is_sound(struct node *n, const void *arg) {
    return n->state.phase == YK_MEMBER_IN && !n->state.stale;
}

void node_enter(struct node *n) {
    node_wait(n, "its place in the map", is_joined, NULL);
    yk_member_dropped(n->member);
    yk_member_replayed(n->member, node_now(n).incarnation);
    node_wait(n, "a member with nothing old", is_sound, NULL);
}

static int has_text(struct node *n, const void *arg) {
    return strstr(n->state.text, arg) != NULL;
}

void node_wait_text(struct node *n, const char *text) {
    node_wait(n, text, has_text, text);
}

static unsigned state_of(struct node *n, const char *name) {
    const struct yk_dir_member *m = n->map != NULL ? yk_dir_map_named(n->map, name) : NULL;
    return m != NULL ? m->state : 0;
}

unsigned node_state_of(struct node *n, const char *name) {
    pthread_mutex_lock(&n->lock);
    unsigned state = state_of(n, name);
    pthread_mutex_unlock(&n->lock);
    return state;
}

struct yk_member_state node_now(struct node *n) {
    pthread_mutex_lock(&n->lock);
    struct yk_member_state state = n->state;
    pthread_mutex_unlock(&n->lock);
    return state;
}

struct yk_dir_map *node_map(struct node *n) {
    pthread_mutex_lock(&n->lock);
    struct yk_dir_map *map = yk_dir_map_copy(n->map);
    pthread_mutex_unlock(&n->lock);
    assert_non_null(map);
    return map;
}

uint64_t node_version(struct node *n) {
    pthread_mutex_lock(&n->lock);
    uint64_t version = n->map->version;
    pthread_mutex_unlock(&n->lock);
    return version;
}

uint64_t node_expulsions(struct node *n) {
    pthread_mutex_lock(&n->lock);
    uint64_t expulsions = n->map->expulsions;
    pthread_mutex_unlock(&n->lock);
    return expulsions;
}

uint64_t node_term(struct node *n, uint32_t slot) {
    pthread_mutex_lock(&n->lock);
    uint64_t term = n->map->slot[slot].term;
    pthread_mutex_unlock(&n->lock);
    return term;
}

unsigned node_outs(struct node *n) {
    pthread_mutex_lock(&n->lock);
    unsigned outs = n->outs;
    pthread_mutex_unlock(&n->lock);
    return outs;
}

uint32_t node_slots(struct node *n, const char *name) {
    uint32_t slots = 0;
    pthread_mutex_lock(&n->lock);
    const struct yk_dir_member *m = n->map != NULL ? yk_dir_map_named(n->map, name) : NULL;
    for (uint32_t i = 0; m != NULL && i < YK_DIR_SLOTS; i++)
        slots += n->map->slot[i].owner == m->id;
    pthread_mutex_unlock(&n->lock);
    return slots;
}

struct name_state {
    const char *name;
    unsigned state;
};

static int has_state(struct node *n, const void *arg) {
    const struct name_state *s = arg;
    return state_of(n, s->name) == s->state;
}

void node_wait_state_of(struct node *n, const char *name, unsigned state) {
    struct name_state s = {name, state};
    node_wait(n, "a member's state", has_state, &s);
}

static int has_space(struct node *n, const void *arg) {
    const struct yk_member_space *s = arg;
    for (unsigned i = 0; i < n->space_count; i++)
        if (strcmp(n->spaces[i].name, s->name) == 0 && n->spaces[i].epoch == s->epoch &&
            n->spaces[i].quota_bytes == s->quota_bytes)
            return 1;
    return 0;
}

void node_wait_space(struct node *n, const char *name, uint64_t epoch, uint64_t quota) {
    struct yk_member_space s = {.epoch = epoch, .quota_bytes = quota};
    snprintf(s.name, sizeof(s.name), "%s", name);
    node_wait(n, "a namespace", has_space, &s);
}

static int has_copies(struct node *n, const void *arg) {
    const struct yk_member_space *s = arg;
    for (unsigned i = 0; i < n->space_count; i++)
        if (strcmp(n->spaces[i].name, s->name) == 0 && n->spaces[i].copies == s->copies)
            return 1;
    return 0;
}

void node_wait_copies(struct node *n, const char *name, uint32_t copies) {
    struct yk_member_space s = {.copies = copies};
    snprintf(s.name, sizeof(s.name), "%s", name);
    node_wait(n, "copies of a namespace", has_copies, &s);
}

static int has_terms(struct node *n, const void *arg) {
    const struct yk_member_space *s = arg;
    for (unsigned i = 0; i < n->space_count; i++)
        if (strcmp(n->spaces[i].name, s->name) == 0 && n->spaces[i].guarantee_bytes == s->guarantee_bytes &&
            n->spaces[i].priority == s->priority)
            return 1;
    return 0;
}

void node_wait_terms(struct node *n, const char *name, uint64_t guarantee, uint32_t priority) {
    struct yk_member_space s = {.guarantee_bytes = guarantee, .priority = priority};
    snprintf(s.name, sizeof(s.name), "%s", name);
    node_wait(n, "terms of a namespace", has_terms, &s);
}

/* ---- changes ---------------------------------------------------------------------------------- */

struct change {
    pthread_mutex_t lock;
    pthread_cond_t news;
    int ended, status;
    char text[YK_ERR_TEXT_MAX];
};

static void changed(void *user, int status, const char *text) {
    struct change *c = user;
    pthread_mutex_lock(&c->lock);
    c->ended++;
    c->status = status;
    snprintf(c->text, sizeof(c->text), "%s", text);
    pthread_cond_broadcast(&c->news);
    pthread_mutex_unlock(&c->lock);
}

#define CHANGE_MS 10000u

static int wait_change(struct change *c, int rc) {
    if (rc < 0)
        return rc;
    pthread_mutex_lock(&c->lock);
    while (!c->ended)
        pthread_cond_wait(&c->news, &c->lock);
    pthread_mutex_unlock(&c->lock);
    assert_int_equal(c->ended, 1);
    return c->status;
}

int node_set_space(struct node *n, const char *name, uint64_t epoch, uint64_t quota, char text[YK_ERR_TEXT_MAX]) {
    struct change c = {.lock = PTHREAD_MUTEX_INITIALIZER, .news = PTHREAD_COND_INITIALIZER};
    struct yk_member_space s = {.epoch = epoch, .quota_bytes = quota, .copies = YK_MEMBER_KEEP_COPIES,
                                .guarantee_bytes = YK_MEMBER_KEEP_GUARANTEE, .priority = YK_MEMBER_KEEP_PRIORITY};
    snprintf(s.name, sizeof(s.name), "%s", name);
    int rc = wait_change(&c, yk_member_set_space(n->member, &s, CHANGE_MS, changed, &c));
    if (text != NULL)
        memcpy(text, c.text, YK_ERR_TEXT_MAX);
    return rc;
}

int node_set_copies(struct node *n, const char *name, uint32_t copies) {
    struct change c = {.lock = PTHREAD_MUTEX_INITIALIZER, .news = PTHREAD_COND_INITIALIZER};
    struct yk_member_space s = {.quota_bytes = YK_MEMBER_KEEP_QUOTA, .copies = copies,
                                .guarantee_bytes = YK_MEMBER_KEEP_GUARANTEE, .priority = YK_MEMBER_KEEP_PRIORITY};
    snprintf(s.name, sizeof(s.name), "%s", name);
    return wait_change(&c, yk_member_set_space(n->member, &s, CHANGE_MS, changed, &c));
}

int node_set_terms(struct node *n, const char *name, uint64_t guarantee, uint32_t priority) {
    struct change c = {.lock = PTHREAD_MUTEX_INITIALIZER, .news = PTHREAD_COND_INITIALIZER};
    struct yk_member_space s = {.quota_bytes = YK_MEMBER_KEEP_QUOTA, .copies = YK_MEMBER_KEEP_COPIES,
                                .guarantee_bytes = guarantee, .priority = priority};
    snprintf(s.name, sizeof(s.name), "%s", name);
    return wait_change(&c, yk_member_set_space(n->member, &s, CHANGE_MS, changed, &c));
}

int node_drain(struct node *n, const char *name, int drain) {
    struct change c = {.lock = PTHREAD_MUTEX_INITIALIZER, .news = PTHREAD_COND_INITIALIZER};
    return wait_change(&c, yk_member_drain(n->member, name, drain, CHANGE_MS, changed, &c));
}

int node_forget(struct node *n, const char *name, char text[YK_ERR_TEXT_MAX]) {
    struct change c = {.lock = PTHREAD_MUTEX_INITIALIZER, .news = PTHREAD_COND_INITIALIZER};
    int rc = wait_change(&c, yk_member_forget(n->member, name, CHANGE_MS, changed, &c));
    memcpy(text, c.text, YK_ERR_TEXT_MAX);
    return rc;
}

int node_rebalance(struct node *n) {
    struct change c = {.lock = PTHREAD_MUTEX_INITIALIZER, .news = PTHREAD_COND_INITIALIZER};
    return wait_change(&c, yk_member_rebalance(n->member, CHANGE_MS, changed, &c));
}

struct yk_meta *rig_embedded(void) {
    struct yk_meta *meta = NULL;
    struct yk_err err = {0};
    if (yk_meta_open(NULL, &meta, &err) < 0)
        fail_msg("%s", err.text);
    return meta;
}

/* ---- several --------------------------------------------------------------------------------- */

static int is_balanced(struct node *n, const void *arg) {
    unsigned members = *(const unsigned *)arg;
    uint32_t owns[RIG_NODES] = {0};
    if (n->map == NULL || yk_dir_map_members(n->map, YK_DIR_MEMBER) != members)
        return 0;
    for (uint32_t i = 0; i < YK_DIR_SLOTS; i++)
        owns[n->map->slot[i].owner]++;
    for (uint32_t i = 0; i < n->map->member_count; i++)
        if (n->map->member[i].state == YK_DIR_MEMBER &&
            owns[n->map->member[i].id] < YK_DIR_SLOTS / members * 94 / 100)
            return 0;
    return 1;
}

void wait_balanced(struct node *n, unsigned members) {
    node_wait(n, "balance", is_balanced, &members);
}

void open_with(struct node *n, unsigned count, struct yk_meta *meta, const char *test,
               const struct yk_member_opts *o) {
    char name[16], dir[64];
    for (unsigned i = 0; i < count; i++) {
        snprintf(name, sizeof(name), "n%u", i);
        snprintf(dir, sizeof(dir), "%s-%s", test, name);
        node_open(&n[i], meta, name, dir, o);
        node_enter(&n[i]);
    }
}

void open_many(struct node *n, unsigned count, struct yk_meta *meta, const char *test) {
    open_with(n, count, meta, test, NULL);
}

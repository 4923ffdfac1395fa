/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside of the RDMA transport: settings.c (what users choose; pure), ports.c (what sysfs says; pairs; pure), setup.c
 * (what two queue pairs tell each other; pure), verbs.c (the library), device.c (devices that are open), mem.c (memory that
 * they know), registrar.c (the threads that make it known), qp.c (a queue pair with its completions), cm.c (connections
 * of iWARP; no_cm.c in its place), lane.c (the initiator), target.c, none.c (in place of the last nine where there are
 * no headers).
 */
#ifndef YK_XFER_RDMA_PRIV_H
#define YK_XFER_RDMA_PRIV_H

#include "xfer/loop.h"
#include "xfer/proto.h"
#include "xfer/rdma/cm.h"
#include "xfer/rdma/rdma.h"

/* ---- settings.c ------------------------------------------------------------------------------------ */

#define YK_RDMA_DEPTH     256u /* reads under way of one queue pair at most; a power of two */
#define YK_RDMA_DEPTH_MIN 16u
#define YK_RDMA_GIDS_MAX  256u /* entries of a port's table that are looked at */
#define YK_RDMA_ANY_GID   UINT32_MAX
#define YK_RDMA_NAMED_MAX 16u

struct yk_rdma_settings {
    uint32_t device_count; /* 0: all there are */
    struct {
        char name[64];
        uint32_t port; /* 0: each of it */
    } device[YK_RDMA_NAMED_MAX];
    uint32_t gid_index;     /* of each port this entry alone; YK_RDMA_ANY_GID */
    uint32_t traffic_class; /* of packets that this side sends; */
    uint32_t service_level; /* and this */
    uint32_t depth;         /* reads under way of one queue pair */
};

/* text: as yk_xfer_opts has it, checked already, or NULL: all defaults. -YK_EINVAL: which entry, and why. */
int yk_rdma_settings_parse(const char *text, struct yk_rdma_settings *ret_settings, struct yk_err *err);

/* ---- ports.c --------------------------------------------------------------------------------------- */

#define YK_RDMA_PORTS_MAX 64u

/* An address of a port: an entry of its GID table. */
struct yk_rdma_port {
    char device[64];  /* "mlx5_0" */
    char netdev[16];  /* its interface */
    char host[YK_PEER_HOST], mask[YK_PEER_HOST]; /* numeric; "" = none (yet) */
    uint8_t port;
    uint8_t infiniband; /* else RoCE v2, */
    uint8_t iwarp;      /* or this */
    uint8_t gid[16];
    uint32_t gid_index;
    uint16_t lid;
    uint32_t mbit;    /* 0 = not known */
    uint32_t ifindex; /* 0 = none */
};

/* Active ports below root ("" = this host's), as sysfs has them: host of RoCE's, not of InfiniBand's and iWARP's, whose
 * addresses are those of netdev; no masks. How many. Thread: any. */
uint32_t yk_rdma_ports_scan(const char *root, struct yk_rdma_port *ret_ports, uint32_t cap);
/* Those of n ports that the settings name, moved to the front; how many. */
uint32_t yk_rdma_ports_chosen(const struct yk_rdma_settings *s, struct yk_rdma_port *ports, uint32_t n);
/* Those of this host that have an address and are chosen, masks filled in: as they are, or were a moment ago. */
uint32_t yk_rdma_ports_now(const struct yk_rdma_settings *s, struct yk_rdma_port *ret_ports, uint32_t cap);
/* Whether the host below root has what the settings name: -YK_EINVAL what it does not have. A port may be down; of
 * those that are up, one must have the entry of its table that is named. */
int yk_rdma_ports_fit(const struct yk_rdma_settings *s, const char *root, struct yk_err *err);
enum yk_rdma_kind yk_rdma_port_kind(const struct yk_rdma_port *p);
/* The one with that address, or NULL. */
const struct yk_rdma_port *yk_rdma_port_of(const struct yk_rdma_port *ports, uint32_t n, const char *host);
/* Rails from ports to those addresses of a peer that have RDMA of the same kind: same subnet first with first, or else, without
 * any such, in order; IPv4 first, and IPv6 from ports that have no rail by then. filter: "eth0,10.0.0.7,mlx5_1" or NULL. same_host: the peer's kernel is this one, so that
 * addresses of our own are its, too. */
uint32_t yk_rdma_rails_of(const struct yk_rdma_port *ports, uint32_t n, const char *filter,
                          const struct yk_peer_info *peer, int same_host, struct yk_rail_desc *ret_rails,
                          uint32_t cap);

/* ---- setup.c --------------------------------------------------------------------------------------- */

/* What a queue pair tells its other end; YK_OFFER_BYTES. Version 1, RoCE and InfiniBand:
 *   u32 magic | u16 version | u8 mtu | u8 reads | u32 qpn | u32 psn | u16 lid | u16 0 | gid[16] | u32 0
 * Version 2, iWARP, which engines without it answer by -YK_EVERSION:
 *   u32 magic | u16 version | u8 0 | u8 reads | u16 port | u16 0 | u32 rkey | u64 addr | token[16]
 * An initiator has port and all behind it 0. A target says where it awaits the connection, with what token, and where
 * that token stands in its memory, to be read first (0026-iwarp.md). */
struct yk_rdma_offer {
    uint8_t iwarp; /* version 2; what follows it, and not the rest but reads */
    uint16_t port;
    uint32_t rkey;
    uint64_t addr;
    uint8_t token[YK_CM_TOKEN];
    uint8_t mtu;   /* enum ibv_mtu: 1 (256) to 5 (4096) */
    uint8_t reads; /* RDMA READs that it answers, and has under way, at a time; 1.. */
    uint32_t qpn, psn; /* 24 bits each */
    uint16_t lid;
    uint8_t gid[16];
};
void yk_rdma_offer_encode(void *bytes, const struct yk_rdma_offer *o);
/* -YK_EVERSION, -YK_EPROTO. */
int yk_rdma_offer_decode(const void *bytes, struct yk_rdma_offer *ret_offer, struct yk_err *err);

/* What comes with the call of an iWARP connection; YK_CALL_BYTES: u32 magic | u32 version | token[16] */
#define YK_CALL_BYTES 24u
void yk_rdma_call_encode(void *bytes, const uint8_t token[YK_CM_TOKEN]);
/* Whether it is one with that token; drivers may have put zeros behind it. */
int yk_rdma_call_is(const void *bytes, uint32_t len, const uint8_t token[YK_CM_TOKEN]);

/* What reading a span of a region takes; YK_KEY_BYTES: u64 addr | u64 from | u64 span | u32 rkey | u32 0 */
struct yk_rdma_key {
    uint64_t addr; /* of the span's first byte, in the owner's process */
    uint64_t from; /* its offset in the region */
    uint64_t span; /* bytes, not 0 */
    uint32_t rkey;
    uint32_t lkey; /* the owner's own; not told */
};
void yk_rdma_key_encode(void *bytes, const struct yk_rdma_key *k);
int yk_rdma_key_decode(const void *bytes, struct yk_rdma_key *ret_key, struct yk_err *err); /* -YK_EPROTO */
/* Whether [offset, offset + len) lies in its span. */
int yk_rdma_key_covers(const struct yk_rdma_key *k, uint64_t offset, uint64_t len);

/* ---- device.c -------------------------------------------------------------------------------------- */

struct yk_rdma_dev;

/* Opens it, or counts one more user; as long as that takes. Thread: any; in an engine the device's helper alone.
 * -YK_ENOTSUP (no library), -YK_ENOENT, -YK_EIO. */
int yk_rdma_dev_get(const char *name, struct yk_rdma_dev **ret_dev, struct yk_err *err);
void yk_rdma_dev_put(struct yk_rdma_dev *dev); /* NULL is fine */
struct yk_rdma_dev *yk_rdma_dev_ref(const char *name); /* one more user of one that is open; NULL: it is not (yet) */
void yk_rdma_dev_hold(struct yk_rdma_dev *dev); /* one more, of who has it */
/* It was taken out of the host: nothing will go over it any more, and under its name another may come. */
int yk_rdma_dev_is_gone(struct yk_rdma_dev *dev);
int yk_rdma_dev_is_shared(const struct yk_rdma_dev *dev); /* the caller is not its only user */

/* Devices that this process has had open, with what it had them do (yk_xport_ops.devices). Thread: any. */
uint32_t yk_rdma_devices(struct yk_device_counts *ret_counts, uint32_t cap);
/* ---- mem.c, registrar.c ------------------------------------------------------------------------------ */

#define YK_RDMA_CHUNK YK_DEVICE_SPAN /* of a region, from its beginning: what is registered at a time */

/* A region's memory as devices know it. Counted: what is under way holds it. Thread: any. */
struct yk_rdma_mem;
/* owner: whose it is (an engine's options), or NULL. NULL: no memory. */
struct yk_rdma_mem *yk_rdma_mem_new(void *base, uint64_t len, const void *owner);
/* It is a device's, base is its name, and it is known by a dma-buf (duplicated) in which it is at fd_offset, or, -1, by that
 * name. Before it is wanted. -YK_ELIMIT: no descriptor. */
int yk_rdma_mem_device(struct yk_rdma_mem *m, int fd, uint64_t fd_offset);
struct yk_rdma_mem *yk_rdma_mem_of(const struct yk_region *region); /* one more reference; NULL: it has none */
void yk_rdma_mem_put(struct yk_rdma_mem *m); /* NULL is fine */
/* The key by which the device reaches [offset, offset + len): to a chunk, never to a byte beside the region. Does not
 * block: a chunk that the device does not know is registered meanwhile, by the device's helper thread. -YK_ENOTSUP: it
 * is not known (yet), or the range lies in two chunks. */
int yk_rdma_mem_key(struct yk_rdma_mem *m, struct yk_rdma_dev *dev, uint64_t offset, uint64_t len,
                    struct yk_rdma_key *ret_key);
/* When that says -YK_ENOTSUP: whether it is for a moment only, since a helper is at it. */
int yk_rdma_mem_comes(struct yk_rdma_mem *m, const struct yk_rdma_dev *dev, uint64_t offset, uint64_t len);
void yk_rdma_mem_own(struct yk_rdma_mem *m, const void *owner); /* where it was not known before */
/* Has the helper of that device register all of it, in order; one chunk of it before others. */
#define YK_RDMA_ALL UINT64_MAX
void yk_rdma_mem_want(struct yk_rdma_mem *m, const char *device, uint64_t chunk);
/* A device for who must not wait until it is open: 0, and one more user; -YK_EAGAIN: a helper is at it (ask again; it is
 * kept for a second), and the owner's memory is made known to it; others: it could not be opened a moment ago. */
int yk_rdma_dev_soon(const char *device, const void *owner, struct yk_rdma_dev **ret_dev, struct yk_err *err);
/* Devices that were taken out of the host forget all memory, which lets their drivers go. Called where one is missed. */
void yk_rdma_gone_forget(void);
/* The end of who made it, in place of put: no key is given any more. 0: no device knows it, and nobody uses it;
 * -YK_EAGAIN: to be called again, until then or once with `last`, when it ends by itself. Does not block. */
int yk_rdma_mem_end(struct yk_rdma_mem *m, int last);
/* Waits until all that is wanted was registered or refused: 0, or -YK_ETIMEDOUT. */
int yk_rdma_mem_wait(struct yk_rdma_mem *m, uint64_t deadline_ns);

/* Memory that no region has, known to one device until it is returned: a caller's, for one slice. peers_read: a
 * peer shall read it, and the device does not write; else the other way round, and no peer has a key. The key covers it
 * and nothing else. -YK_ENOTSUP: it cannot be pinned, or the kernel would have the caller's forks pay for it. */
struct yk_rdma_loan;
int yk_rdma_borrow(struct yk_rdma_dev *dev, void *addr, uint64_t len, int peers_read, struct yk_rdma_key *ret_key,
                   struct yk_rdma_loan **ret_loan);
/* Registered memory as the sink of one read over iWARP, where devices want peers to be allowed to write there: the key,
 * which nobody is told but the peer that is read from, by its device, covers that and nothing else. -YK_ENOTSUP. */
int yk_rdma_sink(struct yk_rdma_dev *dev, const struct yk_rdma_mem *m, uint64_t offset, uint64_t len,
                 struct yk_rdma_key *ret_key, struct yk_rdma_loan **ret_loan);
/* When no queue pair may touch it any more. NULL is fine. */
void yk_rdma_return(struct yk_rdma_dev *dev, struct yk_rdma_loan *loan);

int yk_rdma_reg(struct yk_region *region, struct yk_err *err);
int yk_rdma_unready(struct yk_region *region, int last);
void yk_rdma_ready(const struct yk_xfer_opts *opts, struct yk_region *region);

/* ---- qp.c ------------------------------------------------------------------------------------------ */

struct yk_qp;

/* From the loop or yk_qp_look; they may not free it. Each tag once; after failed none. */
struct yk_qp_events {
    void (*read)(void *user, uint64_t tag);
    void (*failed)(void *user, int code, const char *text);
    void (*up)(void *user); /* or NULL; of iWARP alone, some time after connect */
};

int yk_qp_new(const struct yk_rdma_settings *settings, const struct yk_rdma_port *port, struct yk_loop *loop,
              const struct yk_qp_events *events, void *user, struct yk_qp **ret_qp, struct yk_err *err);
/* Destroys it: then nothing of what was under way touches memory any more. NULL is fine. */
void yk_qp_free(struct yk_qp *q);
void yk_qp_offer(const struct yk_qp *q, struct yk_rdma_offer *ret_offer);
/* iWARP's is up later. remote: the peer's address for that, NULL at the target, which awaits it. */
int yk_qp_connect(struct yk_qp *q, const struct yk_rdma_offer *theirs, const char *remote, struct yk_err *err);
int yk_qp_is_up(const struct yk_qp *q);
/* Takes what its connection has said, before the loop comes to it. */
void yk_qp_catch_up(struct yk_qp *q);
struct yk_rdma_dev *yk_qp_dev(const struct yk_qp *q);
uint32_t yk_qp_room(const struct yk_qp *q);
/* Whether reads of that length may be made by it. device: into a device's memory, where an emulated one's cannot be looked
 * at. */
int yk_qp_takes(const struct yk_qp *q, uint64_t len, int device);
/* Takes a read; with room only. It starts with flush at the latest. */
void yk_qp_read(struct yk_qp *q, void *local, uint32_t lkey, uint32_t len, uint64_t addr, uint32_t rkey, int device,
                uint64_t tag);
void yk_qp_flush(struct yk_qp *q);
void yk_qp_look(struct yk_qp *q);
uint64_t yk_qp_bytes(const struct yk_qp *q); /* read, ever */

#endif

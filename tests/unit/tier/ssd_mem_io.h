/* SPDX-License-Identifier: Apache-2.0
 *
 * A device in memory that remembers what was asked of it and in which order, for the crash tests of the
 * SSD tier.
 *
 * Requests wait in a list; reap ends some of them, in an order that a seed chooses. Each step is an
 * event: a write or flush was submitted, or ended. From the events follows what a device may hold if
 * power goes at any of them (disk_cut): what a flush covered that had ended is there; of everything
 * else that was submitted any sector may be there or not. A discard that was submitted may have been done, in
 * part, or not at all, whatever was flushed; it never comes after a write that came after it.
 *
 * Paths are names of disks (disk_new).
 */
#ifndef YK_TESTS_TIER_SSD_MEM_IO_H
#define YK_TESTS_TIER_SSD_MEM_IO_H

#include "xfer/file/file.h"

#include <stddef.h>

enum event_kind { EV_WRITE, EV_WRITE_DONE, EV_FLUSH, EV_FLUSH_DONE, EV_DISCARD };

struct event {
    uint8_t kind;
    uint8_t zero;    /* a write of nothing but zeros of one sector */
    uint32_t write;  /* number of the write */
    uint64_t offset; /* of a write, or a discard */
    uint64_t bytes;
    unsigned char *data; /* of EV_WRITE */
    uint32_t since;      /* of EV_FLUSH_DONE: stamp of its submission */
    uint32_t stamp;      /* disk_clock when it happened */
};

struct disk {
    char path[64];
    uint64_t size;
    uint64_t found; /* of its size, what stood there before it was opened, as a file that grows; 0 = all */
    unsigned char *image; /* what a read finds */
    int record;           /* keep events */
    int slow;             /* ends a random part of the requests a reap, in random order */
    int gone;             /* every request fails with EGONE, and check says so */
    int (*fails)(const struct yk_file_req *r); /* 1: -YK_EIO, and nothing is done; NULL: none does */
    int stuck;            /* nothing ends; stalled says so */
    int open;             /* how often it is open now */
    int no_wait;          /* of its last opening */
    uint64_t mem_ready;   /* since it was opened last */
    int strangers;        /* atomic: calls by another thread than the one that opened it */
    unsigned char *base; /* what it held before the first event, owned by its user; NULL: zeros */
    struct event *events;
    uint32_t nevents, cap;
    uint64_t seed;
    uint64_t writes, reads, flushes, discards, read_bytes, written_bytes;
    struct disk *next;
};

struct disk *disk_new(const char *path, uint64_t size);
void disk_free(struct disk *d);

/* Counts the events of all disks. What a test does when it is n happens after event n - 1 and before
 * event n. */
extern uint32_t disk_clock;

/* What the disk may hold when power goes before event `at`: into image (d->size bytes). seed 0: what had
 * ended, all of it and nothing else; otherwise what no flush covered is kept, dropped or torn. */
void disk_cut(const struct disk *d, uint32_t at, uint64_t seed, unsigned char *image);

/* Everything that ended before this stamp was covered by a flush then. */
uint32_t disk_covered(const struct disk *d, uint32_t at);

extern const struct yk_file_ops disk_io;

uint64_t disk_random(uint64_t *seed);

#endif

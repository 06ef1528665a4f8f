/* A market's depth in shared memory: written by the publisher, read in place by anyone, read-only.
 *
 * One segment a market (version MB_LAYOUT_VERSION, little-endian):
 *
 *        0  header               magic, sizes; `ready` stored last. `state` is MB_RING_CLOSED once the market has been
 *                                removed: the table stays as it was then, and another market may get its number,
 *                                with a table of its own
 *      128  definition           the market's ADD_MARKET record: ticks, lots, limits, symbol
 *      256  assets               scales and names of base and quote
 *      384  started              number of the last change whose write to `levels` has begun
 *      512  version              seqlock of `top`: odd while it is written
 *      640  top                  the best MB_DEPTH_TOP levels of each side, after every change
 *     1408  reach                places of `levels` that were ever used, of either side
 *     1536  rebuilt              odd while a successor of the publisher writes all of the table; even otherwise
 *     4096  levels               bids[capacity], then asks[capacity]; quantity 0 = unused place
 *
 * Two ways to read:
 *
 *  - the top: copy it between two equal, even reads of `version`. The writer holds it for some ten
 *    nanoseconds, so a retry or two is enough whatever the rate.
 *  - the whole: at a million changes a second no reader finds `levels` at rest, so it does not try to. Every
 *    change is written to `levels` first, then published in the market-data ring, with the absolute quantity of
 *    its level, and then shown in `top`. A reader notes the ring's position, then `reach`, copies so much of
 *    `levels` as it is, reads `started`, waits until `top` has that number, and redoes the ring's changes from
 *    the noted position up to it. What a change had done to the copy, in whole or in part, is overwritten by
 *    its redo: the result is the book right after that change. (A place beyond the `reach` that was read was
 *    first used by a change that is redone. What lies in the ring before the noted position is in the copy.)
 *    A successor may keep levels in other places; so the copy counts only if `rebuilt` was even before it and is
 *    the same after it.
 */
#ifndef MATCHBOX_DEPTH_H
#define MATCHBOX_DEPTH_H

#include <string.h>

#include "ring.h"

#define MB_DEPTH_MAGIC UINT64_C(0x314854504544424d) /* "MBDEPTH1" in memory order */
#define MB_DEPTH_TOP 20
#define MB_DEPTH_LEVELS_OFFSET 4096

typedef struct mb_level {
    int64_t price_ticks;
    int64_t quantity_lots;
} mb_level;

typedef struct mb_depth_top {
    uint64_t update;            /* number of the last change it contains */
    uint64_t sequence;          /* log record that caused it */
    uint64_t timestamp_ns;      /* of that record */
    uint32_t bids;              /* valid entries */
    uint32_t asks;
    uint64_t trades;            /* trades of the market so far */
    int64_t last_price_ticks;   /* of the last trade, 0 = none */
    uint8_t reserved[80];
    mb_level bid[MB_DEPTH_TOP]; /* best first */
    mb_level ask[MB_DEPTH_TOP];
} mb_depth_top;

typedef struct mb_depth_asset {
    char name[MB_NAME_BYTES];
    uint32_t scale;
} mb_depth_asset;

typedef struct mb_depth {
    uint64_t magic;
    uint32_t layout_version;
    uint32_t market;
    uint32_t capacity;          /* levels a side */
    uint32_t reserved_word;
    uint64_t epoch;
    uint32_t state;             /* enum mb_ring_state */
    uint32_t ready;
    uint8_t reserved[88];
    mb_market_record definition;
    mb_depth_asset base;
    mb_depth_asset quote;
    uint8_t reserved_assets[48];
    mb_position started;
    mb_position version;
    mb_depth_top top;
    mb_position reach;
    mb_position rebuilt;
    uint8_t reserved_end[MB_DEPTH_LEVELS_OFFSET - 1664];
} mb_depth;
MB_STATIC_ASSERT(offsetof(mb_depth, definition) == 128, "layout");
MB_STATIC_ASSERT(offsetof(mb_depth, base) == 256, "layout");
MB_STATIC_ASSERT(offsetof(mb_depth, started) == 384, "layout");
MB_STATIC_ASSERT(offsetof(mb_depth, version) == 512, "layout");
MB_STATIC_ASSERT(offsetof(mb_depth, top) == 640, "layout");
MB_STATIC_ASSERT(offsetof(mb_depth, reach) == 1408, "layout");
MB_STATIC_ASSERT(offsetof(mb_depth, rebuilt) == 1536, "layout");
MB_STATIC_ASSERT(sizeof(mb_depth) == MB_DEPTH_LEVELS_OFFSET, "layout");

static inline uint64_t mb_depth_bytes(uint64_t capacity) {
    return MB_DEPTH_LEVELS_OFFSET + 2 * capacity * sizeof(mb_level);
}
static inline mb_level *mb_depth_levels(mb_depth *depth, int side) {
    mb_level *levels = (mb_level *)((uint8_t *)depth + MB_DEPTH_LEVELS_OFFSET);
    return side == MB_BUY ? levels : levels + depth->capacity;
}

/* Writer: open and close a change of `top`. */
static inline void mb_depth_begin(mb_depth *depth) {
    mb_store_relaxed(&depth->version.value, depth->version.value + 1);
    mb_fence_release(); /* the odd version before the new content */
}
static inline void mb_depth_end(mb_depth *depth) {
    mb_store_release(&depth->version.value, depth->version.value + 1); /* the content before the even version */
}

/* Writer: put a level into place `place` of its side; the change's number goes first. */
static inline void mb_depth_put(mb_depth *depth, int side, uint32_t place, uint64_t update, int64_t price,
                                int64_t quantity) {
    mb_level *level = mb_depth_levels(depth, side) + place;
    mb_store_relaxed(&depth->started.value, update);
    if (place >= depth->reach.value) mb_store_relaxed(&depth->reach.value, (uint64_t)place + 1);
    mb_fence_release(); /* number and reach before what they announce */
    mb_store_relaxed((uint64_t *)&level->price_ticks, (uint64_t)price);
    mb_store_relaxed((uint64_t *)&level->quantity_lots, (uint64_t)quantity);
}

/* Reader: has the market been removed? Then its number may be another one's. */
static inline int mb_depth_closed(const mb_depth *depth) {
    return mb_load_acquire32(&depth->state) == MB_RING_CLOSED;
}

/* Reader: copy `top`; 0 if it was being written (try again). */
static inline int mb_depth_read_top(const mb_depth *depth, mb_depth_top *out) {
    const uint64_t *from = (const uint64_t *)&depth->top;
    uint64_t *to = (uint64_t *)out;
    uint64_t before = mb_load_acquire(&depth->version.value); /* the version before the content */
    size_t i;
    if (before & 1) return 0;
    for (i = 0; i < sizeof(mb_depth_top) / 8; i++) to[i] = mb_load_relaxed(&from[i]);
    mb_fence_acquire(); /* the content before the version is looked at again */
    return mb_load_relaxed(&depth->version.value) == before;
}

#endif

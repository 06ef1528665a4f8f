/* Rings of fixed-size records in shared memory: one producer, one or many readers, no locks.
 *
 * A ring is one segment (version MB_LAYOUT_VERSION, little-endian):
 *
 *        0  mb_ring_header      written once before `ready`; `state` later by the owner
 *      128  producer            position after the last published record; only the producer stores here
 *      256  readers[0..15]      position after the last record each reader is done with; one writer each
 *     2304  producer_waiting    park word of the producer (see park.h)
 *     2432  reader_waiting      park word of the one reader of a session ring
 *     2560  answered            report rings: position of the session's last command that was answered, and how many
 *                               reports are filled that wait for their records' assurance (core/publisher.pyx);
 *                               of the log ring, how many sessions hold such reports: the journaler hurries then
 *     2688  detach              report rings: the publisher asks for detachment with this reason code
 *     2816  doorbell            command rings: park word of a session that waits for its reports on a descriptor
 *     4096  slots               capacity records of record_size bytes
 *
 * Positions are free-running 64-bit counts of records; the slot of position p is p & (capacity - 1). Each
 * contended word has two cache lines of its own (adjacent-line prefetch pulls lines in pairs).
 *
 * Publishing is one store-release of `producer`; it orders the plain stores that filled the slots before it.
 * A reader's load-acquire of `producer` orders its reads of the slots after it. Releasing is one store-release
 * of the reader's position; it orders the reads before the producer's refill, which follows its load-acquire.
 * So what a producer wrote before it died and did not publish is never seen, and is simply overwritten by its
 * successor, which goes on at `producer`.
 *
 * Both sides keep the other side's position in private memory and look again only when that copy says
 * "full" or "empty". Nothing here blocks, allocates or calls the kernel.
 */
#ifndef MATCHBOX_RING_H
#define MATCHBOX_RING_H

#include "records.h"

#define MB_RING_MAGIC UINT64_C(0x31474e49524d424d) /* "MBMRING1" in memory order */
#define MB_RING_SLOTS_OFFSET 4096
#define MB_RING_READERS 16
/* Of the log ring: how far the standby has applied it. It is none of the gating readers. */
#define MB_RING_REPLICATED 15

enum mb_ring_shape { MB_RING_SESSION = 1, MB_RING_GATED = 2, MB_RING_LOSSY = 3 };
enum mb_ring_state { MB_RING_OPEN = 1, MB_RING_CLOSED = 2 };

typedef struct mb_ring_header {
    uint64_t magic;
    uint32_t layout_version;
    uint32_t record_size;
    uint64_t capacity;          /* slots, a power of two */
    uint64_t build_id;          /* of the binary that made it */
    uint64_t epoch;             /* of the instance */
    uint32_t producer_pid;
    uint32_t shape;             /* enum mb_ring_shape */
    uint32_t readers;           /* how many of readers[] gate the producer */
    uint32_t session;           /* session rings: the session's number */
    char name[40];
    uint32_t state;             /* enum mb_ring_state; a reader that finds CLOSED gets no more records */
    uint32_t ready;             /* 1, stored last, with release */
    uint64_t successor;         /* log: epoch of the engine that went on where this one ended; valid once CLOSED */
    uint8_t reserved[16];
} mb_ring_header;
MB_STATIC_ASSERT(sizeof(mb_ring_header) == 128, "header is two cache lines");

typedef struct mb_position {
    uint64_t value;
    uint8_t pad[120];
} mb_position;

typedef struct mb_answered {
    uint64_t value;
    uint64_t held;              /* reports filled and not published, which take up slots; of the log ring: sessions */
    uint32_t assurance;         /* enum mb_assurance: what they wait for */
    uint8_t pad[108];
} mb_answered;

typedef struct mb_park_word {
    uint32_t waiting;           /* 1 = somebody sleeps or is about to */
    uint8_t pad[124];
} mb_park_word;

typedef struct mb_ring {
    mb_ring_header header;
    mb_position producer;
    mb_position readers[MB_RING_READERS];
    mb_park_word producer_waiting;
    mb_park_word reader_waiting;
    mb_answered answered;
    mb_position detach;
    mb_park_word doorbell;
    uint8_t reserved[MB_RING_SLOTS_OFFSET - 2944];
} mb_ring;
MB_STATIC_ASSERT(offsetof(mb_ring, producer) == 128, "layout");
MB_STATIC_ASSERT(offsetof(mb_ring, readers) == 256, "layout");
MB_STATIC_ASSERT(offsetof(mb_ring, producer_waiting) == 2304, "layout");
MB_STATIC_ASSERT(offsetof(mb_ring, reader_waiting) == 2432, "layout");
MB_STATIC_ASSERT(offsetof(mb_ring, answered) == 2560, "layout");
MB_STATIC_ASSERT(offsetof(mb_ring, detach) == 2688, "layout");
MB_STATIC_ASSERT(offsetof(mb_ring, doorbell) == 2816, "layout");
MB_STATIC_ASSERT(sizeof(mb_ring) == MB_RING_SLOTS_OFFSET, "layout");

static inline uint64_t mb_load_acquire(const uint64_t *word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }
static inline uint64_t mb_load_relaxed(const uint64_t *word) { return __atomic_load_n(word, __ATOMIC_RELAXED); }
static inline void mb_store_release(uint64_t *word, uint64_t value) { __atomic_store_n(word, value, __ATOMIC_RELEASE); }
static inline void mb_store_relaxed(uint64_t *word, uint64_t value) { __atomic_store_n(word, value, __ATOMIC_RELAXED); }
static inline uint32_t mb_load_acquire32(const uint32_t *word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }
static inline void mb_store_release32(uint32_t *word, uint32_t value) { __atomic_store_n(word, value, __ATOMIC_RELEASE); }
/* Orders every earlier load before every later load and store. */
static inline void mb_fence_acquire(void) { __atomic_thread_fence(__ATOMIC_ACQUIRE); }
/* Orders every earlier load and store before every later store. */
static inline void mb_fence_release(void) { __atomic_thread_fence(__ATOMIC_RELEASE); }
static inline void mb_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

/* The two orderings that carry every ring. Test builds plant a relaxed store in either place and must be caught. */
#ifdef MB_PLANT_RELAXED_PUBLISH
#define MB_PUBLISH_ORDER __ATOMIC_RELAXED
#else
#define MB_PUBLISH_ORDER __ATOMIC_RELEASE
#endif
#ifdef MB_PLANT_RELAXED_RELEASE
#define MB_RELEASE_ORDER __ATOMIC_RELAXED
#else
#define MB_RELEASE_ORDER __ATOMIC_RELEASE
#endif

/* A record seen as words, whatever its fields are: the compiler must not think that the two cannot overlap. */
typedef uint64_t __attribute__((__may_alias__)) mb_word;

/* The producer's private view. Any number of gating readers, 0 included (a lossy ring). */
typedef struct mb_producer {
    mb_ring *ring;
    uint8_t *slots;
    uint64_t mask;
    uint64_t record_size;
    uint64_t position;          /* published so far */
    uint64_t gate;              /* slowest gating reader when last looked */
    uint32_t readers;
    uint32_t reserved;
} mb_producer;

/* A reader's private view. */
typedef struct mb_reader {
    mb_ring *ring;
    uint8_t *slots;
    uint64_t mask;
    uint64_t record_size;
    uint64_t position;          /* next record to read */
    uint64_t limit;             /* producer's position when last looked */
    uint32_t index;             /* which of readers[] is ours */
    uint32_t reserved;
} mb_reader;

static inline uint64_t mb_ring_bytes(uint64_t capacity, uint64_t record_size) {
    return MB_RING_SLOTS_OFFSET + capacity * record_size;
}

/* Fill in the header of zeroed memory, all but `ready`; mb_ring_open() stores that when the caller is done. */
static inline void mb_ring_format(mb_ring *ring, uint64_t capacity, uint32_t record_size, uint32_t shape,
                                  uint32_t readers) {
    ring->header.magic = MB_RING_MAGIC;
    ring->header.layout_version = MB_LAYOUT_VERSION;
    ring->header.record_size = record_size;
    ring->header.capacity = capacity;
    ring->header.shape = shape;
    ring->header.readers = readers;
    ring->header.state = MB_RING_OPEN;
}
static inline void mb_ring_open(mb_ring *ring) { mb_store_release32(&ring->header.ready, 1); }

/* 0 if a segment of `bytes` bytes holds a ring that this build can use, else which check failed (1..6). */
static inline int mb_ring_check(const mb_ring *ring, uint64_t bytes, uint32_t record_size) {
    if (bytes < MB_RING_SLOTS_OFFSET) return 1;
    if (mb_load_acquire32(&ring->header.ready) != 1) return 2;
    if (ring->header.magic != MB_RING_MAGIC) return 3;
    if (ring->header.layout_version != MB_LAYOUT_VERSION) return 4;
    if (ring->header.record_size != record_size) return 5;
    {
        uint64_t capacity = ring->header.capacity;
        if (capacity == 0 || (capacity & (capacity - 1)) != 0 || ring->header.readers > MB_RING_READERS ||
            capacity > (bytes - MB_RING_SLOTS_OFFSET) / record_size)
            return 6;
    }
    return 0;
}

static inline uint64_t mb_slowest_reader(const mb_ring *ring, uint32_t readers, uint64_t none) {
    uint64_t slowest = none;
    uint32_t i;
    for (i = 0; i < readers; i++) {
        uint64_t position = mb_load_acquire(&ring->readers[i].value);
        /* Signed difference: positions are free-running. */
        if ((int64_t)(position - slowest) < 0) slowest = position;
    }
    return slowest;
}

/* Where the producer must stop, less the capacity. A reader further back than the ring is long says nothing true
 * (a peer scribbled over it): the ring counts as full, so that the room can never be more than the capacity. */
static inline uint64_t mb_gate(const mb_ring *ring, uint32_t readers, uint64_t position, uint64_t capacity) {
    uint64_t slowest = mb_slowest_reader(ring, readers, position);
    return position - slowest > capacity ? position - capacity : slowest;
}

/* Take the producer's role; goes on where the last producer stopped. One producer at a time. */
static inline void mb_producer_attach(mb_producer *producer, mb_ring *ring) {
    producer->ring = ring;
    producer->slots = (uint8_t *)ring + MB_RING_SLOTS_OFFSET;
    producer->mask = ring->header.capacity - 1;
    producer->record_size = ring->header.record_size;
    producer->readers = ring->header.readers < MB_RING_READERS ? ring->header.readers : MB_RING_READERS;
    producer->position = mb_load_acquire(&ring->producer.value);
    producer->gate = mb_gate(ring, producer->readers, producer->position, producer->mask + 1);
}

/* How many records can be filled now. Looks at the readers only if its own copy gives fewer than `wanted`. */
static inline uint64_t mb_producer_free(mb_producer *producer, uint64_t wanted) {
    uint64_t capacity = producer->mask + 1;
    uint64_t room = capacity - (producer->position - producer->gate);
    if (room < wanted) {
        producer->gate = mb_gate(producer->ring, producer->readers, producer->position, capacity);
        room = capacity - (producer->position - producer->gate);
    }
    return room;
}

/* The slot that is `ahead` records after the last published one. Caller has checked mb_producer_free() > ahead. */
static inline void *mb_producer_slot(const mb_producer *producer, uint64_t ahead) {
    return producer->slots + ((producer->position + ahead) & producer->mask) * producer->record_size;
}

/* Make the next `count` filled slots visible, all at once. */
static inline void mb_publish(mb_producer *producer, uint64_t count) {
    producer->position += count;
    __atomic_store_n(&producer->ring->producer.value, producer->position, MB_PUBLISH_ORDER);
}

/* Take reader `index`; goes on where that reader stopped. */
static inline void mb_reader_attach(mb_reader *reader, mb_ring *ring, uint32_t index) {
    reader->ring = ring;
    reader->slots = (uint8_t *)ring + MB_RING_SLOTS_OFFSET;
    reader->mask = ring->header.capacity - 1;
    reader->record_size = ring->header.record_size;
    reader->index = index;
    reader->position = mb_load_acquire(&ring->readers[index].value);
    reader->limit = reader->position;
}

/* How many records can be read now. Looks at the producer only if its own copy gives fewer than `wanted`.
 * More than the capacity: the producer's position is impossible. Who does not trust the producer checks for it. */
static inline uint64_t mb_reader_ready(mb_reader *reader, uint64_t wanted) {
    if (reader->limit - reader->position < wanted)
        reader->limit = mb_load_acquire(&reader->ring->producer.value);
    return reader->limit - reader->position;
}

/* The record `ahead` places after the next one. Caller has checked mb_reader_ready() > ahead. */
static inline const void *mb_reader_slot(const mb_reader *reader, uint64_t ahead) {
    return reader->slots + ((reader->position + ahead) & reader->mask) * reader->record_size;
}

/* Read on by `count` records, privately: the producer may not reuse them yet. */
static inline void mb_reader_advance(mb_reader *reader, uint64_t count) { reader->position += count; }

/* Tell the producer that everything before our position can be reused. */
static inline void mb_release(mb_reader *reader) {
    __atomic_store_n(&reader->ring->readers[reader->index].value, reader->position, MB_RELEASE_ORDER);
}

/* Lossy rings: the first word of a slot is 1 + its position, 0 while it is written. The producer gates on nobody, and
 * attaches by mb_lossy_attach(). */
static inline void mb_lossy_publish(mb_producer *producer, const mb_market_data *record) {
    mb_market_data *slot = (mb_market_data *)mb_producer_slot(producer, 0);
    const mb_word *from = (const mb_word *)record;
    mb_word *to = (mb_word *)slot;
    int i;
    mb_store_relaxed(&slot->position, 0);
    mb_fence_release(); /* the 0 before the new content */
    for (i = 1; i < MB_RECORD_BYTES / 8; i++) __atomic_store_n(&to[i], from[i], __ATOMIC_RELAXED);
    mb_store_release(&slot->position, producer->position + 1); /* the content before its number */
    producer->gate = producer->position + 1;
    mb_publish(producer, 1);
}

/* mb_producer_attach() for a lossy ring. Readers take a record as soon as its slot has its number, so a producer
 * that died before the position followed has published it all the same: its successor must not fill that slot with
 * something else. The header must be trustworthy (only the producer can write a lossy ring). */
static inline void mb_lossy_attach(mb_producer *producer, mb_ring *ring) {
    mb_producer_attach(producer, ring);
    const mb_market_data *slot = (const mb_market_data *)mb_producer_slot(producer, 0);
    if (mb_load_acquire(&slot->position) == producer->position + 1) {
        producer->gate = producer->position + 1;
        mb_publish(producer, 1);
    }
}

/* Copy the record at `position` into `out`. 1: done; 0: not published yet; -1: lapped, it is gone. */
static inline int mb_lossy_read(const mb_ring *ring, uint64_t position, mb_market_data *out) {
    const uint8_t *slots = (const uint8_t *)ring + MB_RING_SLOTS_OFFSET;
    const mb_market_data *slot =
        (const mb_market_data *)(slots + (position & (ring->header.capacity - 1)) * MB_RECORD_BYTES);
    const mb_word *from = (const mb_word *)slot;
    mb_word *to = (mb_word *)out;
    uint64_t before = mb_load_acquire(&slot->position); /* the number before the content */
    int i;
    if (before != position + 1) {
        if ((int64_t)(mb_load_acquire(&ring->producer.value) - position) <= 0) return 0;
        /* It is published, perhaps only since the look at its slot. Then the slot shows it now, or a later one. */
        before = mb_load_acquire(&slot->position);
        if (before != position + 1) return -1;
    }
    for (i = 1; i < MB_RECORD_BYTES / 8; i++) to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
    mb_fence_acquire(); /* the content before the number is looked at again */
    if (mb_load_relaxed(&slot->position) != before) return -1;
    out->position = before;
    return 1;
}

#endif

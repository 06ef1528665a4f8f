/* One side of a ring in a process of its own, made to be killed at any moment and started again.
 *
 *     exchange FD ROLE INDEX INCARNATION COUNT BATCH TIMEOUT_MS STEP AFTER
 *
 * FD is a segment: a ring, and behind its slots a `control`. ROLE is one of
 *
 *     produce   fill batches of 1..BATCH records and publish each batch at once
 *     read      be gating reader INDEX: check and release in batches of 1..BATCH
 *     scatter   publish to a lossy ring, at most half a ring ahead of reader 0
 *     gather    read a lossy ring without a gap; being told of a lap is an error
 *     storm     publish to a lossy ring as fast as possible
 *     glimpse   read a lossy ring that runs away: jump to its end at each lap
 *
 * A producer stops after COUNT records in all its incarnations, or (COUNT 0) when `stop` is set. STEP AFTER: die by
 * SIGKILL on arriving at this step for the AFTERth time (0 = never).
 *
 * A record is a function of its position and of the producer's incarnation, so one that mixes two fillings is found,
 * and so are a gap and a repetition. Each side keeps what it has done (count, checksum over positions and
 * incarnations) in two entries of shared memory. The entry that counts is the one whose position is the side's own
 * position in the ring. The other is written before the position moves, so that the one store that publishes (or
 * releases) also commits the entry. At the end the producer's checksum must be that of every reader.
 *
 * Exit status: 0 done, 10 torn or foreign record, 11 told of a lap that cannot be, 12 no entry for the position,
 * 13 impossible position, 2 bad use.
 */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "park.h"

#define WORDS (MB_RECORD_BYTES / 8)

typedef struct entry {
    uint64_t position;
    uint64_t count;
    uint64_t checksum;
    uint64_t incarnation;   /* of the last record */
} entry;

/* One side; the test reads it. */
typedef struct side {
    entry entries[2];
    uint64_t starts;        /* how often it has attached */
    uint64_t parks;
    uint64_t lost;          /* parks that ended by timeout though there was something to do */
    uint64_t laps;
    uint8_t pad[32];
    mb_park_word bell;
} side;

typedef struct control {
    uint64_t stop;
    uint64_t end;           /* position after the last record, once `ended` */
    uint64_t ended;         /* any position can be the end, so none of them can say "not yet" */
    uint8_t pad[104];
    side sides[1 + MB_RING_READERS];    /* the producer, then the readers */
} control;
MB_STATIC_ASSERT(sizeof(side) == 256, "as the test expects");
MB_STATIC_ASSERT(offsetof(control, sides) == 128, "as the test expects");

enum step {
    NEVER,
    HALF_FILLED,            /* a record is half written */
    FILLED,                 /* the batch is written, nothing is saved or published */
    HALF_SAVED,             /* the entry is half written */
    SAVED,                  /* the entry is written, the position is not */
    MOVED,                  /* the position has moved, nobody has been woken */
    HALF_WOKEN,             /* a park word is cleared, its sleeper still asleep */
    ANNOUNCED               /* about to sleep */
};

static mb_ring *ring;
static control *shared;
static side *own;
static enum step die_at;
static uint64_t die_after, seed;
static int64_t timeout_ns;

static void at(enum step step) {
    if (step == die_at && --die_after == 0) raise(SIGKILL);
}

static uint64_t mixed(uint64_t x) {
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}
static uint64_t drawn(uint64_t below) { return mixed(seed += UINT64_C(0x9e3779b97f4a7c15)) % below; }
static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}
static _Noreturn void fail(int status, const char *what, uint64_t a, uint64_t b) {
    fprintf(stderr, "%s: %llu, %llu\n", what, (unsigned long long)a, (unsigned long long)b);
    exit(status);
}

/* Word 0 is left to the lossy ring's own number; a gated ring has the position there. */
static uint64_t word_of(uint64_t position, uint64_t incarnation, int i) {
    return mixed(position * WORDS + (uint64_t)i) ^ incarnation;
}
static void fill(uint64_t *words, uint64_t position, uint64_t incarnation) {
    words[0] = position;
    for (int i = 1; i < WORDS - 1; i++) {
        words[i] = word_of(position, incarnation, i);
        if (i == WORDS / 2) at(HALF_FILLED);
    }
    words[WORDS - 1] = incarnation;
}
/* The incarnation that filled it; ends the process if anything is not as it was filled. */
static uint64_t checked(const uint64_t *words, uint64_t position) {
    uint64_t incarnation = words[WORDS - 1];
    for (int i = 1; i < WORDS - 1; i++)
        if (words[i] != word_of(position, incarnation, i)) fail(10, "torn or foreign record", position, (uint64_t)i);
    return incarnation;
}
static void add(entry *done, uint64_t incarnation) {
    if (incarnation < done->incarnation) fail(10, "an older producer's record", done->position, incarnation);
    done->checksum = mixed(done->checksum ^ mixed(done->position) ^ incarnation);
    done->incarnation = incarnation;
    done->position += 1;
    done->count += 1;
}

static entry recovered(uint64_t position) {
    for (int i = 0; i < 2; i++)
        if (own->entries[i].position == position) return own->entries[i];
    fail(12, "no entry for the position", position, own->entries[0].position);
}
/* Write `done` over the entry that is not in force; it comes into force when the ring position moves to its own. */
static void save(const entry *done, uint64_t position) {
    entry *to = &own->entries[own->entries[0].position == position ? 1 : 0];
    *(volatile uint64_t *)&to->count = done->count;
    *(volatile uint64_t *)&to->position = done->position;
    at(HALF_SAVED);
    *(volatile uint64_t *)&to->checksum = done->checksum;
    *(volatile uint64_t *)&to->incarnation = done->incarnation;
    at(SAVED);
}

static void ring_bell(side *sleeper) {
    if (die_at == HALF_WOKEN && mb_must_wake(&sleeper->bell.waiting)) {
        mb_unannounce(&sleeper->bell.waiting);
        at(HALF_WOKEN);
        mb_wake_now(&sleeper->bell.waiting);
        return;
    }
    mb_wake(&sleeper->bell.waiting);
}

/* Wait until look() is not 0: spin, announce, look again, park. What look() found. */
static uint64_t waited(uint64_t (*look)(void)) {
    for (;;) {
        uint64_t found = 0, before;
        for (int i = 0; i < 50 && !found; i++) {
            found = look();
            if (!found) mb_pause();
        }
        if (found) return found;
        mb_announce(&own->bell.waiting);
        at(ANNOUNCED);
        found = look();
        if (found) {
            mb_unannounce(&own->bell.waiting);
            return found;
        }
        before = now_ns();
        mb_park(&own->bell.waiting, timeout_ns);
        own->parks++;
        if (now_ns() - before >= (uint64_t)timeout_ns && look()) own->lost++;
    }
}

static mb_producer producer;
static mb_reader reader;

static uint64_t room(void) { return mb_producer_free(&producer, 1); }
static int finished(void) { return mb_load_acquire(&shared->ended) && shared->end == reader.position; }
static uint64_t ready_or_end(void) {
    uint64_t ready = mb_reader_ready(&reader, 1);
    if (ready > reader.mask + 1) fail(13, "impossible position", reader.position, reader.limit);
    return ready ? ready : (uint64_t)finished();
}

static void end_here(uint64_t position) {
    shared->end = position;
    mb_store_release(&shared->ended, 1);
    for (uint32_t i = 0; i < ring->header.readers; i++) ring_bell(&shared->sides[1 + i]);
}

static void produce(uint64_t incarnation, uint64_t count, uint64_t batch) {
    entry done;
    mb_producer_attach(&producer, ring);
    done = recovered(producer.position);
    mb_store_release(&own->starts, own->starts + 1);
    while (!mb_load_acquire(&shared->ended)) {
        uint64_t n = 1 + drawn(batch), free;
        if (count ? done.count == count : mb_load_acquire(&shared->stop)) {
            end_here(producer.position);
            return;
        }
        if (count && n > count - done.count) n = count - done.count;
        free = waited(room);
        if (free > producer.mask + 1) fail(13, "impossible position", producer.position, free);
        if (n > free) n = free;
        for (uint64_t i = 0; i < n; i++) {
            fill((uint64_t *)mb_producer_slot(&producer, i), producer.position + i, incarnation);
            add(&done, incarnation);
        }
        at(FILLED);
        save(&done, producer.position);
        mb_publish(&producer, n);
        at(MOVED);
        for (uint32_t i = 0; i < ring->header.readers; i++) ring_bell(&shared->sides[1 + i]);
    }
}

static void consume(uint32_t index, uint64_t batch) {
    entry done;
    mb_reader_attach(&reader, ring, index);
    done = recovered(reader.position);
    mb_store_release(&own->starts, own->starts + 1);
    for (;;) {
        uint64_t n = 1 + drawn(batch), ready, start = reader.position;
        if (finished()) return;
        ready = waited(ready_or_end);
        if (finished()) return;
        if (n > ready) n = ready;
        for (uint64_t i = 0; i < n; i++) {
            uint64_t words[WORDS];
            memcpy(words, mb_reader_slot(&reader, i), sizeof words);
            if (words[0] != done.position) fail(10, "record of another position", done.position, words[0]);
            add(&done, checked(words, done.position));
        }
        at(FILLED);
        save(&done, start);
        mb_reader_advance(&reader, n);
        mb_release(&reader);
        at(MOVED);
        ring_bell(&shared->sides[0]);
    }
}

static void relax(uint64_t *turns) {
    if (++*turns % 256 == 0) sched_yield();
    mb_pause();
}

static void scatter(uint64_t incarnation, uint64_t count, int paced) {
    uint64_t turns = 0, first = shared->sides[0].entries[0].position;
    mb_lossy_attach(&producer, ring);
    mb_store_release(&own->starts, own->starts + 1);
    while (count ? producer.position - first < count : !mb_load_acquire(&shared->stop)) {
        union { uint64_t words[WORDS]; mb_market_data record; } out;
        if (paced && producer.position - mb_load_acquire(&ring->readers[0].value) > producer.mask / 2) {
            relax(&turns);
            continue;
        }
        fill(out.words, producer.position, incarnation);
        at(FILLED);
        mb_lossy_publish(&producer, &out.record);
        at(MOVED);
    }
    end_here(producer.position);
}

static void gather(int gapless) {
    entry done;
    uint64_t turns = 0;
    mb_reader_attach(&reader, ring, 0);
    done = recovered(reader.position);
    mb_store_release(&own->starts, own->starts + 1);
    while (!finished()) {
        union { uint64_t words[WORDS]; mb_market_data record; } in;
        int status = mb_lossy_read(ring, reader.position, &in.record);
        if (status == 0) {
            relax(&turns);
        } else if (status < 0) {
            if (gapless) fail(11, "told of a lap that cannot be", reader.position, ring->producer.value);
            own->laps++;
            done.position = reader.position = mb_load_acquire(&ring->producer.value);
        } else {
            if (in.record.position != done.position + 1) fail(10, "another position", done.position, in.words[0]);
            add(&done, checked(in.words, done.position));
            save(&done, reader.position);
            mb_reader_advance(&reader, 1);
            mb_release(&reader);
        }
    }
    if (!gapless) save(&done, done.position + 1);
}

int main(int argc, char **argv) {
    struct stat about;
    uint64_t index, incarnation, count, batch;
    const char *role;
    if (argc != 10) return 2;
    /* No orphans: die with the test. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    role = argv[2];
    index = strtoull(argv[3], NULL, 10);
    incarnation = strtoull(argv[4], NULL, 10);
    count = strtoull(argv[5], NULL, 10);
    batch = strtoull(argv[6], NULL, 10);
    timeout_ns = (int64_t)strtoull(argv[7], NULL, 10) * 1000000;
    die_at = (enum step)strtoul(argv[8], NULL, 10);
    die_after = strtoull(argv[9], NULL, 10);
    if (fstat(atoi(argv[1]), &about) != 0 || about.st_size < (off_t)sizeof(control)) return 2;
    ring = (mb_ring *)mmap(NULL, (size_t)about.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, atoi(argv[1]), 0);
    if (ring == MAP_FAILED || mb_ring_check(ring, (uint64_t)about.st_size - sizeof(control), MB_RECORD_BYTES)) return 2;
    shared = (control *)((uint8_t *)ring + mb_ring_bytes(ring->header.capacity, MB_RECORD_BYTES));
    seed = mixed(incarnation * 64 + index);
    if (strcmp(role, "produce") == 0) {
        own = &shared->sides[0];
        produce(incarnation, count, batch);
    } else if (strcmp(role, "read") == 0) {
        own = &shared->sides[1 + index];
        consume((uint32_t)index, batch);
    } else if (strcmp(role, "scatter") == 0 || strcmp(role, "storm") == 0) {
        own = &shared->sides[0];
        scatter(incarnation, count, strcmp(role, "scatter") == 0);
    } else if (strcmp(role, "gather") == 0 || strcmp(role, "glimpse") == 0) {
        own = &shared->sides[1];
        gather(strcmp(role, "gather") == 0);
    } else {
        return 2;
    }
    return 0;
}

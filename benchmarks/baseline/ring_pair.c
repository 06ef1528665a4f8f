/* Two processes and two rings between them: ours (shm/ring.h), or a bare ring of the same layout, or one cache line.
 *
 *     ring_pair WHICH WHAT COUNT CORE_A CORE_B
 *
 * WHICH   ring   the functions of ring.h, as the engine uses them
 *         bare   a ring for nothing but this: slots of 128 bytes, positions on lines of their own, each side with a
 *                private copy of the other's position; one reader, sizes known when compiled
 *         line   no ring: both sides write the same cache line in turn (only for latency)
 * WHAT    latency      COUNT round trips of one record; prints nanoseconds of each as binary doubles. Between two
 *                      trips a pause of pseudo-random length, so that the sides do not run in lockstep
 *         throughput   COUNT records one way, published one by one, each word of each read; prints the seconds
 *
 * Each record is filled whole and its sum checked. CORE -1: not pinned, both give way while they wait.
 * Exit status: 0 done, 1 a wrong record, 2 bad use.
 */
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

#include "ring.h"

#define SLOTS 4096
#define WORDS (MB_RECORD_BYTES / 8)

static int giving_way;

static inline void relax(uint32_t *turns) {
    if (giving_way || ++*turns % 65536 == 0)
        sched_yield();
    else
        mb_pause();
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static inline void fill(uint64_t *words, uint64_t number) {
    for (int i = 0; i < WORDS; i++) words[i] = number + (uint64_t)i;
}
static inline void check(const uint64_t *words, uint64_t number) {
    uint64_t sum = 0;
    for (int i = 0; i < WORDS; i++) sum += words[i];
    if (sum != number * WORDS + WORDS * (WORDS - 1) / 2) {
        fprintf(stderr, "wrong record %llu\n", (unsigned long long)number);
        exit(1);
    }
}

/* ---- ours ---- */

typedef struct ours {
    mb_producer producer;
    mb_reader reader;
} ours;

static inline void ours_send(ours *side, uint64_t number) {
    uint32_t turns = 0;
    while (mb_producer_free(&side->producer, 1) == 0) relax(&turns);
    fill((uint64_t *)mb_producer_slot(&side->producer, 0), number);
    mb_publish(&side->producer, 1);
}
/* Reads what is there, at most `most` records; returns how many. */
static inline uint64_t ours_receive(ours *side, uint64_t number, uint64_t most) {
    uint32_t turns = 0;
    uint64_t ready;
    while ((ready = mb_reader_ready(&side->reader, 1)) == 0) relax(&turns);
    if (ready > most) ready = most;
    for (uint64_t i = 0; i < ready; i++) check((const uint64_t *)mb_reader_slot(&side->reader, i), number + i);
    mb_reader_advance(&side->reader, ready);
    mb_release(&side->reader);
    return ready;
}

/* ---- bare ---- */

typedef struct bare_ring {
    mb_position head, tail;
    uint64_t slots[SLOTS][WORDS];
} bare_ring;

typedef struct bare {
    bare_ring *out, *in;
    uint64_t head, tail_seen, tail, head_seen;
} bare;

static inline void bare_send(bare *side, uint64_t number) {
    uint32_t turns = 0;
    while (side->head - side->tail_seen == SLOTS) {
        side->tail_seen = mb_load_acquire(&side->out->tail.value);
        if (side->head - side->tail_seen == SLOTS) relax(&turns);
    }
    fill(side->out->slots[side->head % SLOTS], number);
    mb_store_release(&side->out->head.value, ++side->head);
}
static inline uint64_t bare_receive(bare *side, uint64_t number, uint64_t most) {
    uint32_t turns = 0;
    uint64_t ready;
    while (side->head_seen == side->tail) {
        side->head_seen = mb_load_acquire(&side->in->head.value);
        if (side->head_seen == side->tail) relax(&turns);
    }
    ready = side->head_seen - side->tail;
    if (ready > most) ready = most;
    for (uint64_t i = 0; i < ready; i++) check(side->in->slots[(side->tail + i) % SLOTS], number + i);
    side->tail += ready;
    mb_store_release(&side->in->tail.value, side->tail);
    return ready;
}

/* ---- one line ---- */

static inline void line_send(mb_position *line, uint64_t number) { mb_store_release(&line->value, number); }
static inline void line_receive(const mb_position *line, uint64_t number) {
    uint32_t turns = 0;
    while (mb_load_acquire(&line->value) != number) relax(&turns);
}

/* ---- measuring ---- */

#define MEASURE(send, receive)                                                            \
    do {                                                                                  \
        if (latency && first) {                                                           \
            for (uint64_t i = 0; i < count; i++) {                                        \
                double start;                                                             \
                seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;       \
                for (uint64_t j = 0; j < seed >> 59; j++) mb_pause();                     \
                start = now();                                                            \
                send(2 * i + 1);                                                          \
                receive(2 * i + 2, 1);                                                    \
                times[i] = now() - start;                                                 \
            }                                                                             \
        } else if (latency) {                                                             \
            for (uint64_t i = 0; i < count; i++) {                                        \
                receive(2 * i + 1, 1);                                                    \
                send(2 * i + 2);                                                          \
            }                                                                             \
        } else if (first) {                                                               \
            double start;                                                                 \
            receive(0, 1); /* the other is there */                                       \
            start = now();                                                                \
            for (uint64_t i = 0; i < count; i++) send(i);                                 \
            receive(1, 1); /* it has everything */                                        \
            times[0] = (now() - start) / 1e9;                                             \
        } else {                                                                          \
            send(0);                                                                      \
            for (uint64_t i = 0; i < count;) i += receive(i, count - i);                  \
            send(1);                                                                      \
        }                                                                                 \
    } while (0)

static void pin(int core) {
    cpu_set_t set;
    if (core < 0) return;
    CPU_ZERO(&set);
    CPU_SET(core, &set);
    sched_setaffinity(0, sizeof set, &set);
}

static void *shared(size_t bytes) {
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (memory == MAP_FAILED) exit(2);
    return memory;
}

int main(int argc, char **argv) {
    uint64_t count, seed = 1;
    int latency, first, status = 0;
    double *times;
    mb_ring *rings[2];
    bare_ring *bares[2];
    mb_position *line;
    pid_t child;
    if (argc != 6) return 2;
    latency = strcmp(argv[2], "latency") == 0;
    count = strtoull(argv[3], NULL, 10);
    giving_way = atoi(argv[4]) < 0;
    for (int i = 0; i < 2; i++) {
        rings[i] = shared(mb_ring_bytes(SLOTS, MB_RECORD_BYTES));
        mb_ring_format(rings[i], SLOTS, MB_RECORD_BYTES, MB_RING_SESSION, 1);
        mb_ring_open(rings[i]);
        bares[i] = shared(sizeof(bare_ring));
    }
    line = shared(sizeof(mb_position));
    times = calloc(latency ? count : 1, sizeof(double));
    child = fork();
    if (child < 0 || times == NULL) return 2;
    first = child != 0;
    if (!first) prctl(PR_SET_PDEATHSIG, SIGKILL);
    pin(atoi(argv[first ? 4 : 5]));
    if (strcmp(argv[1], "ring") == 0) {
        ours side;
        mb_producer_attach(&side.producer, rings[first]);
        mb_reader_attach(&side.reader, rings[!first], 0);
#define SEND(number) ours_send(&side, number)
#define RECEIVE(number, most) ours_receive(&side, number, most)
        MEASURE(SEND, RECEIVE);
#undef SEND
#undef RECEIVE
    } else if (strcmp(argv[1], "bare") == 0) {
        bare side = {bares[first], bares[!first], 0, 0, 0, 0};
#define SEND(number) bare_send(&side, number)
#define RECEIVE(number, most) bare_receive(&side, number, most)
        MEASURE(SEND, RECEIVE);
#undef SEND
#undef RECEIVE
    } else if (latency) {
#define SEND(number) line_send(line, number)
#define RECEIVE(number, most) line_receive(line, number)
        for (uint64_t i = 0; i < count; i++) {
            double start = now();
            if (first) SEND(2 * i + 1);
            RECEIVE(2 * i + 1 + (uint64_t)first, 1);
            if (!first) SEND(2 * i + 2);
            times[i] = now() - start;
        }
    } else {
        return 2;
    }
    if (!first) _exit(0);
    if (waitpid(child, &status, 0) < 0 || status != 0) return 1;
    fwrite(times, sizeof(double), latency ? count : 1, stdout);
    return 0;
}

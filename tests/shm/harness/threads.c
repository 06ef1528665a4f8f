/* Two threads on one ring, for ThreadSanitizer, which sees no other process: one publishes, one reads and releases.
 * The ring is small, so that every slot is refilled again and again: both orderings are needed all the time.
 *
 * Exit status: 0 done, 1 wrong sum, ThreadSanitizer's own (66) if it has found a race. */
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#include "ring.h"

#define SLOTS 8
#define RECORDS 20000

static uint64_t memory[(MB_RING_SLOTS_OFFSET + SLOTS * MB_RECORD_BYTES) / 8];
static mb_ring *const ring = (mb_ring *)memory;

static void *produce(void *unused) {
    mb_producer producer;
    uint64_t sent = 0;
    mb_producer_attach(&producer, ring);
    while (sent < RECORDS) {
        uint64_t *words;
        if (mb_producer_free(&producer, 1) == 0) {
            sched_yield();
            continue;
        }
        words = (uint64_t *)mb_producer_slot(&producer, 0);
        for (int i = 0; i < MB_RECORD_BYTES / 8; i++) words[i] = sent;
        mb_publish(&producer, 1);
        sent++;
    }
    return unused;
}

int main(void) {
    pthread_t thread;
    mb_reader reader;
    uint64_t sum = 0, read = 0;
    mb_ring_format(ring, SLOTS, MB_RECORD_BYTES, MB_RING_GATED, 1);
    mb_ring_open(ring);
    mb_reader_attach(&reader, ring, 0);
    if (pthread_create(&thread, NULL, produce, NULL) != 0) return 2;
    while (read < RECORDS) {
        const uint64_t *words;
        if (mb_reader_ready(&reader, 1) == 0) {
            sched_yield();
            continue;
        }
        words = (const uint64_t *)mb_reader_slot(&reader, 0);
        for (int i = 0; i < MB_RECORD_BYTES / 8; i++) sum += words[i];
        mb_reader_advance(&reader, 1);
        mb_release(&reader);
        read++;
    }
    pthread_join(thread, NULL);
    return sum == (uint64_t)RECORDS * (RECORDS - 1) / 2 * (MB_RECORD_BYTES / 8) ? 0 : 1;
}

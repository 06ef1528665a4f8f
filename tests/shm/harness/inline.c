/* The inline functions of ring.h under names that ctypes can call. */
#include "ring.h"

int check(const mb_ring *ring, uint64_t bytes, uint32_t record_size) { return mb_ring_check(ring, bytes, record_size); }
void producer_attach(mb_producer *producer, mb_ring *ring) { mb_producer_attach(producer, ring); }
uint64_t producer_free(mb_producer *producer, uint64_t wanted) { return mb_producer_free(producer, wanted); }
uint64_t producer_slot(const mb_producer *producer, uint64_t ahead) {
    return (uint64_t)((const uint8_t *)mb_producer_slot(producer, ahead) - producer->slots);
}
void publish(mb_producer *producer, uint64_t count) { mb_publish(producer, count); }
void lossy_attach(mb_producer *producer, mb_ring *ring) { mb_lossy_attach(producer, ring); }
void lossy_publish(mb_producer *producer, const mb_market_data *record) { mb_lossy_publish(producer, record); }
int lossy_read(const mb_ring *ring, uint64_t position, mb_market_data *out) {
    return mb_lossy_read(ring, position, out);
}
uint64_t producer_bytes(void) { return sizeof(mb_producer); }

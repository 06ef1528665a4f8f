"""ring.h and park.h for cimport: inline C, usable without the GIL from any module."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from matchbox.shm.records cimport MB_RECORD_BYTES, mb_market_data


cdef extern from "ring.h" nogil:
    enum:
        MB_RING_SLOTS_OFFSET
        MB_RING_READERS
        MB_RING_REPLICATED

    enum mb_ring_shape:
        MB_RING_SESSION
        MB_RING_GATED
        MB_RING_LOSSY

    enum mb_ring_state:
        MB_RING_OPEN
        MB_RING_CLOSED

    ctypedef struct mb_ring_header:
        uint64_t magic
        uint32_t layout_version
        uint32_t record_size
        uint64_t capacity
        uint64_t build_id
        uint64_t epoch
        uint32_t producer_pid
        uint32_t shape
        uint32_t readers
        uint32_t session
        char name[40]
        uint32_t state
        uint32_t ready
        uint64_t successor

    ctypedef struct mb_position:
        uint64_t value

    ctypedef struct mb_answered:
        uint64_t value
        uint64_t held
        uint32_t assurance

    ctypedef struct mb_park_word:
        uint32_t waiting

    ctypedef struct mb_ring:
        mb_ring_header header
        mb_position producer
        mb_position readers[16]
        mb_park_word producer_waiting
        mb_park_word reader_waiting
        mb_answered answered
        mb_position detach
        mb_park_word doorbell

    ctypedef struct mb_producer:
        mb_ring* ring
        uint8_t* slots
        uint64_t mask
        uint64_t record_size
        uint64_t position
        uint64_t gate
        uint32_t readers

    ctypedef struct mb_reader:
        mb_ring* ring
        uint8_t* slots
        uint64_t mask
        uint64_t record_size
        uint64_t position
        uint64_t limit
        uint32_t index

    uint64_t mb_load_acquire(const uint64_t* word)
    uint64_t mb_load_relaxed(const uint64_t* word)
    void mb_store_release(uint64_t* word, uint64_t value)
    void mb_store_relaxed(uint64_t* word, uint64_t value)
    uint32_t mb_load_acquire32(const uint32_t* word)
    void mb_store_release32(uint32_t* word, uint32_t value)
    void mb_fence_acquire()
    void mb_fence_release()
    void mb_pause()

    uint64_t mb_ring_bytes(uint64_t capacity, uint64_t record_size)
    void mb_ring_format(mb_ring* ring, uint64_t capacity, uint32_t record_size, uint32_t shape, uint32_t readers)
    void mb_ring_open(mb_ring* ring)
    int mb_ring_check(const mb_ring* ring, uint64_t size, uint32_t record_size)
    void mb_producer_attach(mb_producer* producer, mb_ring* ring)
    uint64_t mb_producer_free(mb_producer* producer, uint64_t wanted)
    void* mb_producer_slot(const mb_producer* producer, uint64_t ahead)
    void mb_publish(mb_producer* producer, uint64_t count)
    void mb_reader_attach(mb_reader* reader, mb_ring* ring, uint32_t index)
    uint64_t mb_reader_ready(mb_reader* reader, uint64_t wanted)
    const void* mb_reader_slot(const mb_reader* reader, uint64_t ahead)
    void mb_reader_advance(mb_reader* reader, uint64_t count)
    void mb_release(mb_reader* reader)
    void mb_lossy_attach(mb_producer* producer, mb_ring* ring)
    void mb_lossy_publish(mb_producer* producer, const mb_market_data* record)
    int mb_lossy_read(const mb_ring* ring, uint64_t position, mb_market_data* out)


cdef extern from "park.h" nogil:
    void mb_fence_full()
    void mb_announce(uint32_t* word)
    void mb_unannounce(uint32_t* word)
    int mb_must_wake(const uint32_t* word)
    void mb_wake_now(uint32_t* word)
    void mb_wake(uint32_t* word)
    void mb_park(uint32_t* word, int64_t timeout_ns)
    void mb_ring_doorbell(uint32_t* word, int fd)


cdef class Ring:
    """A ring in a buffer that Python keeps alive; `ring` is valid while this object is."""

    cdef mb_ring* ring
    cdef readonly object buffer
    cdef readonly bint writable
    cdef Py_ssize_t _bytes
    # As checked when it was attached; the header's may be changed by whoever can write the segment.
    cdef uint64_t _capacity
    cdef uint32_t _record_size


cdef class Producer:
    """The one producer of a ring, for Python callers; C code keeps an mb_producer of its own."""

    cdef readonly Ring ring
    cdef mb_producer c_producer


cdef class Reader:
    """One gating reader of a ring, for Python callers; C code keeps an mb_reader of its own."""

    cdef readonly Ring ring
    cdef mb_reader c_reader

"""depth.h for cimport."""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from matchbox.shm.records cimport mb_market_record
from matchbox.shm.ring cimport mb_position


cdef extern from "depth.h" nogil:
    enum:
        MB_DEPTH_TOP
        MB_DEPTH_LEVELS_OFFSET
    const uint64_t MB_DEPTH_MAGIC

    ctypedef struct mb_level:
        int64_t price_ticks
        int64_t quantity_lots

    ctypedef struct mb_depth_top:
        uint64_t update
        uint64_t sequence
        uint64_t timestamp_ns
        uint32_t bids
        uint32_t asks
        uint64_t trades
        int64_t last_price_ticks
        mb_level bid[20]
        mb_level ask[20]

    ctypedef struct mb_depth_asset:
        char name[36]
        uint32_t scale

    ctypedef struct mb_depth:
        uint64_t magic
        uint32_t layout_version
        uint32_t market
        uint32_t capacity
        uint64_t epoch
        uint32_t state
        uint32_t ready
        mb_market_record definition
        mb_depth_asset base
        mb_depth_asset quote
        mb_position started
        mb_position version
        mb_depth_top top
        mb_position reach
        mb_position rebuilt

    uint64_t mb_depth_bytes(uint64_t capacity)
    mb_level* mb_depth_levels(mb_depth* depth, int side)
    void mb_depth_begin(mb_depth* depth)
    void mb_depth_end(mb_depth* depth)
    void mb_depth_put(mb_depth* depth, int side, uint32_t place, uint64_t update, int64_t price, int64_t quantity)
    int mb_depth_closed(const mb_depth* depth)
    int mb_depth_read_top(const mb_depth* depth, mb_depth_top* out)

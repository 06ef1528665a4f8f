"""The writing side of a market's depth table (shm/depth.h): levels in order, top and full.

    index    price_index over the levels; a level's number is also its place in the table's `levels`
    top      kept as it stands in the table: a change shifts what is behind it and, where a level leaves
             a full top, fetches the one that moves up from the index

The publisher is the only writer; everything is mapped before.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from matchbox.core.price_index cimport price_index
from matchbox.shm.depth cimport mb_depth

ctypedef struct depth_writer:
    mb_depth* table
    price_index index
    uint64_t update         # number of the last change
    bint open               # its market is there: between ADD_MARKET and REMOVE_MARKET


cdef class DepthTable:
    cdef depth_writer writer
    cdef public object buffer


# The depth table in a buffer. Raises SegmentError if there is none with so many levels (0: any number).
cdef mb_depth* table_of(buffer, uint32_t levels) except NULL


# A level has this quantity now (0: it is gone): into the table's full depth. The caller publishes the change,
# numbered depth.update, in the market-data ring, and then calls depth_show() with the same values.
cdef void depth_set(depth_writer* depth, uint8_t side, int64_t price, int64_t quantity) noexcept nogil
# The same change into the table's top. Returns whether the best price or its quantity changed.
cdef bint depth_show(depth_writer* depth, uint8_t side, int64_t price, int64_t quantity, uint64_t sequence,
                     uint64_t timestamp_ns) noexcept nogil
# A trade took place.
cdef void depth_trade(depth_writer* depth, int64_t price, uint64_t trade_id) noexcept nogil
# The market was added, or removed: readers find the table closed from then on, for ever. NULL: nobody looks.
cdef void depth_open(depth_writer* depth) noexcept nogil
cdef void depth_close(depth_writer* depth) noexcept nogil
# Best prices and their quantities, 0 where a side is empty.
cdef void depth_best(const depth_writer* depth, int64_t* bid, int64_t* bid_quantity, int64_t* ask,
                     int64_t* ask_quantity) noexcept nogil

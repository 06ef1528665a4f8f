"""The markets of a matcher: each its rules, its book and its waiting orders; found by number.

    made        its memory is mapped, by any thread
    placed      the matcher knows it: between two rounds, which is a matter of pointers
    open        its ADD_MARKET record has passed; its REMOVE_MARKET closes it
    taken       the matcher has forgotten it, again between two rounds, and whoever has it now gives the memory back

It never moves from one to the other. What a matcher remembers of a number for ever is how many trades it has given out:
they go on counting when a market gets the number again.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from matchbox.core.book cimport book
from matchbox.core.instrument cimport instrument
from matchbox.core.triggers cimport triggers
from matchbox.shm.records cimport mb_market_record, mb_rules_record

ctypedef struct market:
    instrument rules
    book orders
    triggers waiting
    uint32_t number
    bint open               # its ADD_MARKET record has been seen
    bint banded             # it has a band

ctypedef struct market_entry:
    uint32_t number         # 0 = empty
    market* place           # NULL: there was one of this number
    uint64_t trades         # given out by those that were removed

ctypedef struct market_table:
    market** markets        # in the order in which they were placed
    market_entry* table     # by number, linear probing, at most a quarter full; entries stay
    uint32_t table_mask
    uint32_t entries
    uint32_t count          # placed


cdef inline market* market_find(const market_table* m, uint32_t number) noexcept nogil:
    """The market with this number, open or not, or NULL."""
    cdef uint32_t at = number * <uint32_t>2654435769 & m.table_mask
    while m.table[at].number != number:
        if m.table[at].number == 0:
            return NULL
        at = (at + 1) & m.table_mask
    # An empty entry, which is what number 0 finds, has none.
    return m.table[at].place


cdef int markets_create(market_table* m) except -1
cdef void markets_destroy(market_table* m) noexcept
# A market whose memory is mapped. max_specials None: as many as there are by default. Raises BadArgument, MemoryError.
cdef market* market_make(uint32_t number, uint32_t max_orders, max_specials) except NULL
cdef void market_free(market* place) noexcept
# Make it known; the table owns it then. Raises BadArgument if its number is taken.
cdef int market_place(market_table* m, market* place) except -1
# Forget it; the caller owns it then. NULL if there is none. Raises BadArgument if it is open.
cdef market* market_take(market_table* m, uint32_t number) except? NULL
# Give a prepared market its rules; False if it is open already, or its book too small for them.
cdef bint market_open(market* place, const mb_market_record* record) noexcept nogil
# A REMOVE_MARKET record: it takes nothing more, and its number goes on counting trades.
cdef void market_close(market_table* m, uint32_t number) noexcept nogil
# A LOST record: trades may have been given numbers that no log has.
cdef void markets_pass_over(market_table* m, uint64_t numbers) noexcept nogil
# A SET_MARKET record that instrument_check_rules() has passed.
cdef void market_apply_rules(market* place, const mb_rules_record* record) noexcept nogil

# A market of this number, removed or there, has given out so many trades (from a snapshot). Raises MemoryError.
cdef int market_remember(market_table* m, uint32_t number, uint64_t trades) except -1

cdef class PreparedMarket:
    cdef market* place      # NULL once a matcher has it

# For Python. The names of arrays' fields are in markets.pyx.
cdef market* market_known(market_table* m, number) except NULL
cdef list market_numbers(const market_table* m)
cdef object markets_hash(market_table* m, number)
# 0, or the first broken invariant (see book.pyx and triggers.pyx), and of which market. Slow; for tests and debug
# builds. Not while an order is being matched.
cdef int markets_broken(const market_table* m, uint32_t* number) noexcept nogil
cdef object markets_validate(market_table* m)
cdef size_t market_memory(const market* place) noexcept
cdef object market_depth(const market* place, uint32_t side, Py_ssize_t levels, bint hidden)
cdef object market_orders(const market* place)
cdef object market_waiting(const market* place)

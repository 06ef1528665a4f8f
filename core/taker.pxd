"""One order being matched, and what it sets off: fills, prevented self-trades, triggered orders, its end.

taker_go_on() works on stages until all is done, the room for events is used up, or a bounded amount of work is done.
All that it needs to know is in the struct, so the next call goes on there, and the events are the same bytes however
the room was cut.

    COUNTING    fill-or-kill: is there enough? ──> SWEEPING, or refused (a triggered one: ENDING)
    SWEEPING    a fill a turn ──> COLLECTING when a fill's price reaches something that waits
                              ──> ENDING when nothing matches (any more)
    PARTING     cancel the partner of the order to which something has happened ──> what would have come then
    COLLECTING  queue what that fill triggered ──> SWEEPING, or the taker was filled
    ENDING      what is left rests or expires
    TRIGGERING  the next of the queue becomes the taker ──> SWEEPING, COUNTING
    PAIRING     the second of a pair is to be said something of, see matcher.pyx

When a taker has ended, TRIGGERING follows if anything is in the queue, else the record is done. So the event that
ends a taker is the record's last if the queue is empty, its own fill puts nothing into it, and no partner is canceled.
Makers, orders that are triggered or canceled have partners; takers never do.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from matchbox.core.bits cimport mb_clear_record, mb_unlikely
from matchbox.core.book cimport book, book_hide, book_new, book_queue, special_new
from matchbox.core.markets cimport market
from matchbox.core.price_index cimport PRICE_KEY_MASK, price_key
from matchbox.shm.records cimport mb_event, mb_record

cdef enum:
    # Fills, levels or triggered orders of one taker_go_on(): bounds the time of a poll, and is far more than most
    # commands need.
    STEP_WORK = 1024

cdef enum taker_stage:
    IDLE = 0
    COUNTING = 1
    SWEEPING = 2
    COLLECTING = 3
    ENDING = 4
    TRIGGERING = 5
    PARTING = 6
    PAIRING = 7

cdef enum matcher_status:
    DONE = 0                # the command is complete, its last event is written
    FULL = 1                # the room is used up; call again with the same command
    MORE = 2                # the work of one call is used up; call again with the same command

# What must be looked at before each fill.
cdef enum taker_care:
    OWN = 1                 # self-trade prevention
    BUDGET = 2              # of a market order to buy
    QUOTES = 4              # open_lots is an amount of the quote asset

# Where events go: slots[position & mask] is the next, up to and without slots[limit & mask].
ctypedef struct event_room:
    mb_event* slots
    uint64_t mask
    uint64_t position
    uint64_t limit

# Meaningful while stage != IDLE.
ctypedef struct taker:
    uint64_t sequence
    uint64_t order_id
    uint64_t terms          # see book.pxd
    market* place
    int64_t price           # limit or bound, 0 for a market order without one
    int64_t open_lots
    int64_t cumulative_lots
    uint64_t limit_key      # of the other side: makers with a key up to it match
    uint64_t own_key        # the same, but for the market's band
    int64_t display_lots    # of an iceberg, else 0
    int64_t budget          # BUDGET, QUOTES to buy: quote units; QUOTES to sell: lots
    int64_t reached         # COLLECTING: price of the fill
    int64_t counted_lots    # COUNTING
    int64_t counted_hidden  # of the level under way
    int64_t counted_budget  # what is left of the budget
    int64_t band_low        # with `banded`
    int64_t band_high
    uint32_t counted_level
    uint32_t counted_slot   # 0: the level's first
    uint32_t account
    uint32_t index          # of the next event
    uint32_t slot           # of an amended or triggered order, 0 for a new one
    uint32_t partner        # PARTING: slot of the order to cancel
    uint8_t after           # PARTING: what comes then; IDLE: the record ends
    uint16_t reason         # ENDING: why it expires, 0: it rests
    uint8_t side            # BID or ASK
    uint8_t rests           # what is left joins the book
    uint8_t stage           # enum taker_stage
    uint8_t care            # enum taker_care
    uint8_t triggered
    uint8_t banded          # the market has a band, and had a last price before this record


# Go on with `record` from t.stage until it is IDLE.
cdef matcher_status taker_go_on(taker* t, const mb_record* record, event_room* room) noexcept nogil

# Begin a fill-or-kill order with COUNTING.
cdef void taker_count(taker* t) noexcept nogil

# What a market order may trade at and spend; `hold` as stamped, 0 or below: no limit.
cdef void taker_set_market(taker* t, int64_t hold, bint quote_amount) noexcept nogil

# The band of the market, if it has one and a last price.
cdef void taker_set_band(taker* t) noexcept nogil

# REJECTED for a record that began nothing.
cdef matcher_status taker_reject(const mb_record* record, uint64_t sequence, uint16_t reason,
                                 event_room* room) noexcept nogil


cdef inline void taker_part(taker* t, uint32_t partner, uint8_t after) noexcept nogil:
    """Cancel `partner` next; then go on with `after`."""
    t.partner = partner
    t.after = after
    t.stage = PARTING


cdef inline mb_event* taker_event(taker* t, event_room* room, uint8_t kind) noexcept nogil:
    """The next event of the command under way, with what all of them carry. There is room."""
    cdef mb_event* event = &room.slots[room.position & room.mask]
    room.position += 1
    mb_clear_record(event)
    event.sequence = t.sequence
    event.order_id = t.order_id
    event.market = t.place.number
    event.account = t.account
    event.side = <uint8_t>(t.side + 1)
    event.kind = kind
    event.index = t.index
    t.index += 1
    return event


cdef inline void taker_fill_in(const taker* t, mb_event* event) noexcept nogil:
    """Price and quantities of the taker."""
    event.price_ticks = t.price
    event.quantity_lots = t.cumulative_lots + t.open_lots
    event.leaves_lots = t.open_lots
    event.cumulative_lots = t.cumulative_lots


cdef inline void taker_rest(taker* t, mb_event* event, uint8_t flags) noexcept nogil:
    """Queue what is open of the taker, and complete the event that says so."""
    cdef book* b = &t.place.orders
    cdef int64_t shown = t.open_lots
    if t.slot == 0:
        t.slot = book_new(b, t.order_id, t.account, t.cumulative_lots, t.terms)
        if mb_unlikely(t.display_lots != 0):
            special_new(b, t.slot).display_lots = t.display_lots
    else:
        b.orders[t.slot].cumulative_lots = t.cumulative_lots
    if mb_unlikely(t.display_lots != 0):
        shown = min(t.open_lots, t.display_lots)
        book_hide(b, t.slot, t.open_lots - shown)
    taker_fill_in(t, event)
    event.level_lots = book_queue(b, t.slot, t.side, t.price, shown)
    event.flags = flags


cdef inline void taker_set_limit(taker* t) noexcept nogil:
    """It matches up to its own price."""
    t.own_key = price_key(t.side ^ 1, t.price)
    t.limit_key = t.own_key


cdef inline bint taker_in_band(const taker* t) noexcept nogil:
    return not t.banded or t.band_low <= t.price <= t.band_high


cdef inline void taker_clamp(taker* t) noexcept nogil:
    """Nor does it match beyond the band, if there is one."""
    cdef int64_t bound
    cdef uint64_t key
    if mb_unlikely(t.banded):
        bound = t.band_low if t.side else min(t.band_high, <int64_t>PRICE_KEY_MASK)
        key = price_key(t.side ^ 1, bound)
        t.limit_key = min(t.own_key, key)

"""What can be said about a command from its own fields and its market's definition, without any state.

The sequencer and Matcher.process() refuse by the same functions. The order of checks is part of the
interface: a command with several faults is refused for the first of them.

    NEW_ORDER   side, order type, time in force, flags, price, price step, quantity, quantity step, notional,
                reserved fields, client order id
    CANCEL,     side (0 or a side: it is not used), order type and time in force (0), flags; AMEND: nothing to
    AMEND       amend, price, price step, quantity, quantity step, notional (as far as both are given); CANCEL:
                price and quantity (0); reserved fields, client order id
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy
from matchbox.core.bits cimport mb_likely, mb_multiply, mb_unlikely
from matchbox.core.instrument cimport instrument
from matchbox.shm.records cimport (
    MB_AMEND_ORDER, MB_BAD_CLIENT_ORDER_ID, MB_BAD_FIELD, MB_BAD_FLAGS, MB_BAD_ORDER_TYPE, MB_BAD_PRICE,
    MB_BAD_QUANTITY, MB_BAD_SIDE, MB_BAD_TIME_IN_FORCE, MB_BUY, MB_CANCEL_ORDER, MB_CLIENT_ID_BYTES, MB_FOK, MB_GTC,
    MB_LIMIT, MB_MARKET, MB_NEW_ORDER, MB_NONE, MB_NOTHING_TO_AMEND, MB_NOTIONAL_OVERFLOW, MB_POST_ONLY,
    MB_PRICE_OFF_TICK, MB_QUANTITY_OFF_LOT, MB_REQUEUE, MB_SELL, MB_TO_OPEN, MB_UNKNOWN_KIND, mb_record,
)


cdef inline bint notional_fits(const instrument* market, int64_t price, int64_t quantity) noexcept nogil:
    """Does price * quantity * notional_units fit a signed 64-bit amount? (All of them >= 0.)"""
    cdef int64_t product
    return not mb_multiply(price, quantity, &product) and not mb_multiply(product, market.notional_units, &product)


cdef inline uint16_t check_price(const instrument* market, int64_t price) noexcept nogil:
    """MB_NONE if a limit order may have this price."""
    if mb_unlikely(price < 1 or price > market.max_price_ticks):
        return MB_BAD_PRICE
    # Most markets have a step of one: no division then.
    if market.price_step_ticks != 1 and price % <int64_t>market.price_step_ticks:
        return MB_PRICE_OFF_TICK
    return MB_NONE


cdef inline uint16_t check_quantity(const instrument* market, int64_t quantity, int64_t minimum) noexcept nogil:
    """MB_NONE if `quantity` is on the step and of `minimum` to the market's maximum."""
    if mb_unlikely(quantity < minimum or quantity > market.max_quantity_lots):
        return MB_BAD_QUANTITY
    if market.quantity_step_lots != 1 and quantity % <int64_t>market.quantity_step_lots:
        return MB_QUANTITY_OFF_LOT
    return MB_NONE


cdef inline uint16_t check_client_order_id(const char* text) noexcept nogil:
    """MB_NONE if `text` is 0 to 36 printable ASCII characters (0x21..0x7e), then only zero bytes.

    Eight bytes at a time. With no byte above 0x7f, adding a constant to all of them carries into no neighbour
    but sets the top bit of those that reach a bound.
    """
    cdef uint64_t word, present, mask
    cdef uint64_t tops = <uint64_t>0x8080808080808080
    cdef int i
    cdef bint ended = False
    for i in range(5):
        word = 0
        memcpy(&word, text + 8 * i, 8 if i < 4 else 4)
        if word == 0:
            ended = True
            continue
        present = (word + <uint64_t>0x7F7F7F7F7F7F7F7F) & tops
        if word & tops or (word + <uint64_t>0x0101010101010101) & tops \
                or ((word + <uint64_t>0x5F5F5F5F5F5F5F5F) & tops) != present or ended:
            return MB_BAD_CLIENT_ORDER_ID
        # Present bytes must be the lowest ones: a mask of them is one less than a power of two.
        mask = (present >> 7) * 0xFF
        if mask & (mask + 1):
            return MB_BAD_CLIENT_ORDER_ID
        ended = mask != <uint64_t>-1
    return MB_NONE


cdef inline uint16_t _check_rest(const mb_record* record) noexcept nogil:
    if mb_unlikely(record.trigger_ticks != 0 or record.reserved != 0):
        return MB_BAD_FIELD
    return check_client_order_id(record.client_order_id)


cdef inline uint16_t _validate_new(const mb_record* record, const instrument* market) noexcept nogil:
    cdef uint16_t reason
    if mb_unlikely(record.side != MB_BUY and record.side != MB_SELL):
        return MB_BAD_SIDE
    if mb_unlikely(record.order_type != MB_LIMIT and record.order_type != MB_MARKET):
        return MB_BAD_ORDER_TYPE
    if mb_unlikely(record.time_in_force < MB_GTC or record.time_in_force > MB_FOK
                   or (record.order_type == MB_MARKET and record.time_in_force == MB_GTC)):
        return MB_BAD_TIME_IN_FORCE
    if mb_unlikely(record.flags != 0 and (record.flags != MB_POST_ONLY or record.order_type != MB_LIMIT
                                          or record.time_in_force != MB_GTC)):
        return MB_BAD_FLAGS
    if record.order_type == MB_LIMIT:
        reason = check_price(market, record.price_ticks)
    else:
        reason = MB_BAD_PRICE if record.price_ticks else MB_NONE
    if mb_unlikely(reason != MB_NONE):
        return reason
    reason = check_quantity(market, record.quantity_lots, market.min_quantity_lots)
    if mb_unlikely(reason != MB_NONE):
        return reason
    if mb_unlikely(not notional_fits(market, record.price_ticks, record.quantity_lots)):
        return MB_NOTIONAL_OVERFLOW
    return _check_rest(record)


cdef inline uint16_t _validate_amend(const mb_record* record, const instrument* market) noexcept nogil:
    cdef uint16_t reason
    if mb_unlikely(record.flags & ~(MB_TO_OPEN | MB_REQUEUE)):
        return MB_BAD_FLAGS
    if mb_unlikely(record.price_ticks == 0 and record.quantity_lots == 0):
        return MB_NOTHING_TO_AMEND
    if record.price_ticks:
        reason = check_price(market, record.price_ticks)
        if mb_unlikely(reason != MB_NONE):
            return reason
    if record.quantity_lots:
        # What is to remain open may be less than an order's minimum; its total is checked with the order at hand.
        reason = check_quantity(market, record.quantity_lots,
                                1 if record.flags & MB_TO_OPEN else market.min_quantity_lots)
        if mb_unlikely(reason != MB_NONE):
            return reason
    if mb_unlikely(not notional_fits(market, record.price_ticks, record.quantity_lots)):
        return MB_NOTIONAL_OVERFLOW
    return _check_rest(record)


cdef inline uint16_t _validate_cancel(const mb_record* record) noexcept nogil:
    if mb_unlikely(record.flags != 0):
        return MB_BAD_FLAGS
    if mb_unlikely(record.price_ticks != 0):
        return MB_BAD_PRICE
    if mb_unlikely(record.quantity_lots != 0):
        return MB_BAD_QUANTITY
    return _check_rest(record)


cdef inline uint16_t validate_command(const mb_record* record, const instrument* market) noexcept nogil:
    """MB_NONE, or why a NEW_ORDER, CANCEL_ORDER or AMEND_ORDER of `market` is refused whatever the state is."""
    if record.kind == MB_NEW_ORDER:
        return _validate_new(record, market)
    if mb_unlikely(record.kind != MB_CANCEL_ORDER and record.kind != MB_AMEND_ORDER):
        return MB_UNKNOWN_KIND
    if mb_unlikely(record.side > MB_SELL):
        return MB_BAD_SIDE
    if mb_unlikely(record.order_type != 0):
        return MB_BAD_ORDER_TYPE
    if mb_unlikely(record.time_in_force != 0):
        return MB_BAD_TIME_IN_FORCE
    return _validate_amend(record, market) if record.kind == MB_AMEND_ORDER else _validate_cancel(record)

"""What can be said about a command from its own fields and its market's definition, without any state.

The sequencer and Matcher.process() refuse by the same functions. The order of checks is part of the
interface: a command with several faults is refused for the first of them.

    NEW_ORDER   side, order type, time in force, flags, self-trade mode, price, price step, trigger and trailing
                distance, quantity, quantity step, display, expiry, notional, reserved fields (the terms' too),
                client order id
    CANCEL,     side (0 or a side: it is not used), order type and time in force (0), flags; AMEND: nothing to
    AMEND       amend, price, price step, quantity, quantity step, notional (as far as both are given); CANCEL:
                price and quantity (0); reserved fields, client order id
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy
from matchbox.core.bits cimport mb_clear_record, mb_likely, mb_multiply, mb_unlikely
from matchbox.core.instrument cimport instrument
from matchbox.shm.records cimport (
    MB_ALLOW_FAILURE, MB_AMEND_ORDER, MB_BAD_CLIENT_ORDER_ID, MB_BAD_DISPLAY, MB_BAD_EXPIRY, MB_BAD_FIELD,
    MB_BAD_FLAGS, MB_BAD_ORDER_TYPE, MB_BAD_PRICE, MB_BAD_QUANTITY, MB_BAD_SELF_TRADE, MB_BAD_SIDE,
    MB_BAD_TIME_IN_FORCE, MB_BAD_TRIGGER, MB_BELOW_MIN_NOTIONAL, MB_BUY, MB_CANCEL_ORDER, MB_CLIENT_ID_BYTES,
    MB_DECREMENT, MB_FOK, MB_GTC, MB_GTD, MB_IOC, MB_LEG, MB_LIMIT, MB_MARKET, MB_MAX_ASSET_UNITS, MB_NEW_ORDER,
    MB_NONE, MB_NOTHING_TO_AMEND, MB_NOTIONAL_OVERFLOW, MB_OCO, MB_OTO, MB_OTOCO, MB_POST_ONLY, MB_PRICE_OFF_TICK,
    MB_QUANTITY_OFF_LOT, MB_QUOTE_AMOUNT, MB_REPLACE, MB_REQUEUE, MB_SELL, MB_STOP_LOSS, MB_STOP_LOSS_LIMIT,
    MB_TAKE_PROFIT, MB_TAKE_PROFIT_LIMIT, MB_TO_OPEN, MB_UNKNOWN_KIND, mb_list_record, mb_new_order, mb_record,
    mb_terms_record,
)

cdef enum:
    # The longest trailing distance, and how many slices an iceberg may make.
    MAX_TRAILING_BIPS = 2000
    MAX_SLICES = 100


cdef inline bint has_limit(uint8_t order_type) noexcept nogil:
    """Is this a LIMIT order, or will it be one when it is triggered? (Of a known order type.)"""
    return order_type == MB_LIMIT or order_type == MB_STOP_LOSS_LIMIT or order_type == MB_TAKE_PROFIT_LIMIT


cdef inline bint may_rest(uint8_t time_in_force) noexcept nogil:
    return time_in_force == MB_GTC or time_in_force == MB_GTD


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


cdef inline uint16_t _check_shape(const mb_new_order* order) noexcept nogil:
    """Side, type, time in force, flags, self-trade mode: what kind of order it is."""
    cdef bint limit = has_limit(order.order_type)
    if mb_unlikely(order.side != MB_BUY and order.side != MB_SELL):
        return MB_BAD_SIDE
    if mb_unlikely(order.order_type < MB_LIMIT or order.order_type > MB_TAKE_PROFIT_LIMIT):
        return MB_BAD_ORDER_TYPE
    if mb_unlikely(order.time_in_force < MB_GTC or order.time_in_force > MB_GTD
                   or (not limit and (may_rest(order.time_in_force)
                                      or (order.order_type != MB_MARKET and order.time_in_force == MB_FOK)))):
        return MB_BAD_TIME_IN_FORCE
    if mb_unlikely(order.flags & ~MB_LEG
                   and not (order.flags & ~MB_LEG == MB_POST_ONLY and order.order_type == MB_LIMIT
                            and may_rest(order.time_in_force))
                   and not (order.flags & ~MB_LEG == MB_QUOTE_AMOUNT and order.order_type == MB_MARKET
                            and order.time_in_force == MB_IOC)):
        return MB_BAD_FLAGS
    return MB_BAD_SELF_TRADE if mb_unlikely(order.self_trade > MB_DECREMENT) else MB_NONE


cdef inline uint16_t _check_trigger(const mb_new_order* order, const instrument* market) noexcept nogil:
    if mb_likely(order.order_type <= MB_MARKET):
        return MB_BAD_TRIGGER if mb_unlikely(order.trigger_ticks != 0 or order.trailing_bips != 0) else MB_NONE
    if order.trailing_bips > MAX_TRAILING_BIPS:
        return MB_BAD_TRIGGER
    if order.trigger_ticks == 0 and order.trailing_bips != 0:
        return MB_NONE
    if order.trigger_ticks < 1 or order.trigger_ticks > market.max_price_ticks:
        return MB_BAD_TRIGGER
    return MB_PRICE_OFF_TICK if order.trigger_ticks % <int64_t>market.price_step_ticks else MB_NONE


cdef inline uint16_t _check_terms(const mb_new_order* order, const mb_terms_record* terms,
                                  const instrument* market) noexcept nogil:
    """Display and expiry."""
    cdef int64_t display = terms.display_lots
    if display != 0:
        if not has_limit(order.order_type) or not may_rest(order.time_in_force):
            return MB_BAD_DISPLAY
        if display < 1 or display >= order.quantity_lots or display % <int64_t>market.quantity_step_lots \
                or (order.quantity_lots - 1) // MAX_SLICES >= display:
            return MB_BAD_DISPLAY
    if (order.time_in_force == MB_GTD) != (terms.expire_ns != 0):
        return MB_BAD_EXPIRY
    return MB_BAD_EXPIRY if terms.expire_ns != 0 and terms.expire_ns <= order.timestamp_ns else MB_NONE


cdef inline uint16_t _check_terms_rest(const mb_terms_record* terms) noexcept nogil:
    cdef int i
    if terms.reserved or terms.reserved_words[0] or terms.reserved_words[1] or terms.reserved_words[2]:
        return MB_BAD_FIELD
    for i in range(4):
        if terms.reserved_bytes[i]:
            return MB_BAD_FIELD
    for i in range(MB_CLIENT_ID_BYTES):
        if terms.reserved_text[i]:
            return MB_BAD_FIELD
    return MB_NONE


cdef inline uint16_t _check_notional(const instrument* market, int64_t price, int64_t quantity) noexcept nogil:
    cdef int64_t notional
    if mb_unlikely(mb_multiply(price, quantity, &notional)
                   or mb_multiply(notional, market.notional_units, &notional)):
        return MB_NOTIONAL_OVERFLOW
    return MB_BELOW_MIN_NOTIONAL if mb_unlikely(notional < market.min_notional) else MB_NONE


cdef inline uint16_t _check_amounts(const mb_new_order* order, const instrument* market,
                                    bint stamped) noexcept nogil:
    """Price, trigger, and quantity."""
    cdef uint16_t reason
    if mb_likely(has_limit(order.order_type)):
        reason = check_price(market, order.price_ticks)
    elif stamped:
        # The bound, which need not be on the price step.
        reason = MB_BAD_PRICE if order.price_ticks < 0 or order.price_ticks > market.max_price_ticks else MB_NONE
    else:
        reason = MB_BAD_PRICE if order.price_ticks else MB_NONE
    if mb_unlikely(reason != MB_NONE):
        return reason
    reason = _check_trigger(order, market)
    if mb_unlikely(reason != MB_NONE):
        return reason
    if mb_unlikely(order.flags & MB_QUOTE_AMOUNT):
        return MB_BAD_QUANTITY if order.quantity_lots < 1 or order.quantity_lots > MB_MAX_ASSET_UNITS else MB_NONE
    return check_quantity(market, order.quantity_lots, market.min_quantity_lots)


cdef inline uint16_t _validate_new(const mb_new_order* order, const mb_terms_record* terms, const instrument* market,
                                   bint stamped) noexcept nogil:
    cdef uint16_t reason = _check_shape(order)
    if mb_unlikely(reason != MB_NONE):
        return reason
    reason = _check_amounts(order, market, stamped)
    if mb_unlikely(reason != MB_NONE):
        return reason
    if mb_unlikely(terms != NULL):
        reason = _check_terms(order, terms, market)
        if reason != MB_NONE:
            return reason
    elif mb_unlikely(order.time_in_force == MB_GTD):
        return MB_BAD_EXPIRY
    if mb_likely(has_limit(order.order_type)):
        reason = _check_notional(market, order.price_ticks, order.quantity_lots)
    elif order.flags & MB_QUOTE_AMOUNT and order.quantity_lots < market.min_notional:
        reason = MB_BELOW_MIN_NOTIONAL
    if mb_unlikely(reason != MB_NONE):
        return reason
    if mb_unlikely(order.reserved != 0 or (terms != NULL and _check_terms_rest(terms) != MB_NONE)):
        return MB_BAD_FIELD
    return check_client_order_id(order.client_order_id)


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


cdef inline uint16_t _validate_cancel(const mb_record* record, bint stamped) noexcept nogil:
    # Nothing to allow if nothing comes in its place.
    if mb_unlikely(record.flags != 0 and record.flags & ~MB_ALLOW_FAILURE != MB_REPLACE):
        return MB_BAD_FLAGS
    if mb_unlikely(record.price_ticks != 0):
        return MB_BAD_PRICE
    if mb_unlikely(record.quantity_lots != 0 and not (stamped and record.flags and record.quantity_lots > 0)):
        return MB_BAD_QUANTITY
    return _check_rest(record)


# ---- lists -----------------------------------------------------------------------------------------------

cdef inline uint32_t legs_of(uint8_t list_type) noexcept nogil:
    """How many legs a list of this type has; 0: there is no such type."""
    if list_type == MB_OCO or list_type == MB_OTO:
        return 2
    return 3 if list_type == MB_OTOCO else 0


cdef inline void leg_terms(const mb_list_record* of_list, const mb_new_order* leg, uint32_t number,
                           mb_terms_record* terms) noexcept nogil:
    """What ORDER_TERMS would say of leg `number` (from 0) of an ORDER_LIST or RELEASE."""
    mb_clear_record(terms)
    terms.display_lots = of_list.display_lots[number]
    if leg.time_in_force == MB_GTD:
        terms.expire_ns = of_list.expire_ns


cdef inline uint16_t check_list(const mb_list_record* of_list, uint32_t legs) noexcept nogil:
    """What can be said of the first record of a list alone."""
    cdef uint32_t i
    if of_list.reserved or of_list.reserved_bytes[0] or of_list.reserved_bytes[1]:
        return MB_BAD_FIELD
    for i in range(legs, 3):
        if of_list.display_lots[i]:
            return MB_BAD_FIELD
    return check_client_order_id(of_list.client_list_id)


cdef inline bint is_pair(const mb_new_order* first, const mb_new_order* second) noexcept nogil:
    """Do these two orders, each fine alone, make a pair?"""
    cdef int64_t price = first.price_ticks
    if first.side != second.side or first.quantity_lots != second.quantity_lots:
        return False
    if second.order_type != MB_STOP_LOSS and second.order_type != MB_STOP_LOSS_LIMIT:
        return False
    if first.order_type == MB_TAKE_PROFIT or first.order_type == MB_TAKE_PROFIT_LIMIT:
        price = first.trigger_ticks
    elif first.order_type != MB_LIMIT or not first.flags & MB_POST_ONLY:
        return False
    if price == 0 or second.trigger_ticks == 0:
        return True
    return price < second.trigger_ticks if first.side == MB_BUY else price > second.trigger_ticks


cdef inline uint16_t validate_command(const mb_record* record, const mb_terms_record* terms, const instrument* market,
                                      bint stamped) noexcept nogil:
    """MB_NONE, or why a NEW_ORDER, CANCEL_ORDER or AMEND_ORDER of `market` is refused whatever the books hold.

    terms: the ORDER_TERMS of a NEW_ORDER, or NULL. stamped: the record may have what a sequencer has written into it:
    the price of a market order (0 to the market's maximum), what the order lacks that replaces a canceled one; else
    both are 0. That an order with LEG has what it belongs to is for the caller to see.
    """
    if record.kind == MB_NEW_ORDER:
        return _validate_new(<const mb_new_order*>record, terms, market, stamped)
    if mb_unlikely(record.kind != MB_CANCEL_ORDER and record.kind != MB_AMEND_ORDER):
        return MB_UNKNOWN_KIND
    if mb_unlikely(record.side > MB_SELL):
        return MB_BAD_SIDE
    if mb_unlikely(record.order_type != 0):
        return MB_BAD_ORDER_TYPE
    if mb_unlikely(record.time_in_force != 0):
        return MB_BAD_TIME_IN_FORCE
    return _validate_amend(record, market) if record.kind == MB_AMEND_ORDER \
        else _validate_cancel(record, stamped)

"""A market's trading parameters: checking, and making, its definition. The struct is in instrument.pxd."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset
from matchbox.core.price_index cimport PRICE_INDEX_MAX_LEVELS
from matchbox.shm.records cimport (
    MB_BAD_DEFINITION, MB_BAD_RULE, MB_MAX_MARKET_LOTS, MB_MAX_PRICE_TICKS, MB_NONE, MB_RULE_BANDS, MB_RULE_NOTIONAL,
    MB_RULE_ORDERS, MB_RULE_PROTECTION, MB_RULE_REFERENCE, MB_RULE_STATE, MB_RULE_TIER, MB_STATE_HALTED,
    MB_STATE_OPEN, MB_SYMBOL_BYTES, mb_market_record, mb_rules_record,
)

import numpy as np

from matchbox.shm.errors import BadArgument
from matchbox.shm.records import MARKET_RECORD, Kind


cdef enum:
    MAX_SPECIALS = 28       # 2^27 orders: more than any market can have


cdef extern from * nogil:
    """
    typedef unsigned __int128 mb_wide; /* mantissa * lot_units takes up to 95 bits */
    """
    ctypedef uint64_t mb_wide


cdef uint16_t instrument_check(const mb_market_record* record) noexcept nogil:
    if record.market == 0 or record.lot_units <= 0 or record.notional_units <= 0:
        return MB_BAD_DEFINITION
    if not 1 <= record.max_price_ticks <= MB_MAX_PRICE_TICKS:
        return MB_BAD_DEFINITION
    if record.price_step_ticks == 0 or record.price_step_ticks > record.max_price_ticks:
        return MB_BAD_DEFINITION
    if record.min_quantity_lots <= 0 or record.max_quantity_lots < record.min_quantity_lots:
        return MB_BAD_DEFINITION
    # Some quantity must be allowed: the first multiple of the step from the minimum on.
    if record.quantity_step_lots == 0 or \
            (record.max_quantity_lots - record.max_quantity_lots % record.quantity_step_lots
             < record.min_quantity_lots):
        return MB_BAD_DEFINITION
    if not 1 <= record.max_orders <= PRICE_INDEX_MAX_LEVELS:
        return MB_BAD_DEFINITION
    # No level's total can overflow then, nor the sum over all levels.
    if record.max_quantity_lots > MB_MAX_MARKET_LOTS // <int64_t>record.max_orders:
        return MB_BAD_DEFINITION
    if record.tick_mantissa == 0 or record.tick_scale > 18 or record.specials > MAX_SPECIALS:
        return MB_BAD_DEFINITION
    return MB_NONE


cdef uint16_t instrument_check_scales(const mb_market_record* record, uint8_t base_scale,
                                      uint8_t quote_scale) noexcept nogil:
    cdef int power = <int>record.tick_scale + base_scale - quote_scale
    cdef mb_wide left = <mb_wide>record.tick_mantissa * <mb_wide>record.lot_units
    cdef mb_wide right = <mb_wide>record.notional_units
    cdef int _
    if base_scale > 18 or quote_scale > 18 or record.tick_scale > 18:
        return MB_BAD_DEFINITION
    # Divide the side that has the power of ten too much; a remainder means "not a whole number of units".
    for _ in range(power):
        if left % 10:
            return MB_BAD_DEFINITION
        left //= 10
    for _ in range(-power):
        if right % 10:
            return MB_BAD_DEFINITION
        right //= 10
    return MB_NONE if left == right else MB_BAD_DEFINITION


cdef uint32_t instrument_specials(const mb_market_record* record) noexcept nogil:
    cdef uint32_t most = max(64, record.max_orders // 16)
    if record.specials:
        most = <uint32_t>1 << (record.specials - 1)
    return min(most, record.max_orders)


cdef void instrument_from_record(instrument* out, const mb_market_record* record) noexcept nogil:
    memset(out, 0, sizeof(instrument))
    out.max_price_ticks = record.max_price_ticks
    out.min_quantity_lots = record.min_quantity_lots
    out.max_quantity_lots = record.max_quantity_lots
    out.notional_units = record.notional_units
    out.lot_units = record.lot_units
    out.price_step_ticks = record.price_step_ticks
    out.quantity_step_lots = record.quantity_step_lots
    out.market = record.market
    out.max_orders = record.max_orders
    out.tick_mantissa = record.tick_mantissa
    out.base_asset = record.base_asset
    out.quote_asset = record.quote_asset
    out.tick_scale = record.tick_scale
    memcpy(out.symbol, record.symbol, MB_SYMBOL_BYTES - 1)
    out.protection_bips = 1000
    out.state = MB_STATE_OPEN


cdef uint16_t instrument_check_rules(const instrument* market, const mb_rules_record* record) noexcept nogil:
    cdef uint8_t rules = record.rules
    if rules & MB_RULE_TIER or record.reserved or record.reserved_long or record.reserved_byte:
        return MB_BAD_RULE
    if rules & MB_RULE_STATE and not MB_STATE_OPEN <= record.state <= MB_STATE_HALTED:
        return MB_BAD_RULE
    if rules & MB_RULE_NOTIONAL and record.amount < 0:
        return MB_BAD_RULE
    if rules & MB_RULE_REFERENCE and not 1 <= record.reference_ticks <= market.max_price_ticks:
        return MB_BAD_RULE
    # band_up_bips may be anything that its 16 bits hold.
    if rules & MB_RULE_BANDS and record.band_down_bips >= 10000:
        return MB_BAD_RULE
    if rules & MB_RULE_PROTECTION and not 1 <= record.protection_bips <= 10000:
        return MB_BAD_RULE
    return MB_NONE


cdef void instrument_apply_rules(instrument* market, const mb_rules_record* record) noexcept nogil:
    cdef uint8_t rules = record.rules
    if rules & MB_RULE_STATE:
        market.state = record.state
    if rules & MB_RULE_NOTIONAL:
        market.min_notional = record.amount
    if rules & MB_RULE_REFERENCE:
        market.reference_ticks = record.reference_ticks
    if rules & MB_RULE_BANDS:
        market.band_up_bips = record.band_up_bips
        market.band_down_bips = record.band_down_bips
    if rules & MB_RULE_PROTECTION:
        market.protection_bips = record.protection_bips
    if rules & MB_RULE_ORDERS:
        market.account_orders = record.account_orders


def market_record(market=1, *, max_orders=65536, symbol="", max_price_ticks=MB_MAX_PRICE_TICKS, price_step_ticks=1,
                  min_quantity_lots=1, max_quantity_lots=None, quantity_step_lots=1, lot_units=1, notional_units=1,
                  base_asset=1, quote_asset=2, tick_mantissa=1, tick_scale=0):
    """A MARKET_RECORD scalar that defines a market, everything allowed that can be unless said otherwise.

    Raises BadArgument if no engine would take it.
    """
    if max_quantity_lots is None:
        max_quantity_lots = min(MB_MAX_MARKET_LOTS // max(1, max_orders), 2**53)
    given = {
        "kind": int(Kind.ADD_MARKET), "market": market, "max_orders": max_orders, "symbol": symbol.encode(),
        "max_price_ticks": max_price_ticks, "price_step_ticks": price_step_ticks,
        "min_quantity_lots": min_quantity_lots, "max_quantity_lots": max_quantity_lots,
        "quantity_step_lots": quantity_step_lots, "lot_units": lot_units, "notional_units": notional_units,
        "base_asset": base_asset, "quote_asset": quote_asset, "tick_mantissa": tick_mantissa,
        "tick_scale": tick_scale,
    }
    record = np.zeros(1, MARKET_RECORD)
    try:
        for name, value in given.items():
            record[name] = value
    except OverflowError as error:
        raise BadArgument(f"a market's {name} is out of range: {name}={value}") from error
    cdef const unsigned char[::1] view = record.view(np.uint8)
    if instrument_check(<const mb_market_record*>&view[0]) != MB_NONE:
        raise BadArgument(f"not a market that can be run: {given}")
    return record[0]

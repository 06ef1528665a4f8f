"""A market's trading parameters as the engine keeps them, made from an ADD_MARKET record.

Prices are multiples of price_step of 1..max_price ticks, quantities multiples of quantity_step of
min_quantity..max_quantity lots, and a fill is worth price * quantity * notional_units units of the quote
asset, exactly. Below them, the rules that an operator may change while the market runs (SET_MARKET).
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t
from matchbox.shm.records cimport mb_market_record, mb_rules_record

ctypedef struct instrument:
    int64_t max_price_ticks
    int64_t min_quantity_lots
    int64_t max_quantity_lots
    int64_t notional_units
    int64_t lot_units
    uint32_t price_step_ticks
    uint32_t quantity_step_lots
    uint32_t market
    uint32_t max_orders
    uint32_t tick_mantissa
    uint16_t base_asset
    uint16_t quote_asset
    uint8_t tick_scale
    char symbol[24]
    # Rules, with what holds at first.
    int64_t min_notional        # 0. Of a limit order's price * quantity * notional_units, and of a quote amount
    int64_t reference_ticks     # 0 = none. The last that was set; what counts is the last price, a trade's or this
    uint32_t account_orders     # 0 = no limit
    uint16_t band_up_bips       # 0 = no band
    uint16_t band_down_bips     # 0 = no band
    uint16_t protection_bips    # 1000
    uint8_t state               # MB_STATE_OPEN (enum mb_market_state)

# MB_NONE if `record` defines a market that the engine can run, else MB_BAD_DEFINITION. Looks at numbers only.
cdef uint16_t instrument_check(const mb_market_record* record) noexcept nogil

# MB_NONE if notional_units says what tick and lot make of it in whole units of the quote asset, else
# MB_BAD_DEFINITION: tick_mantissa / 10^tick_scale * lot_units / 10^base_scale * 10^quote_scale = notional_units.
cdef uint16_t instrument_check_scales(const mb_market_record* record, uint8_t base_scale,
                                      uint8_t quote_scale) noexcept nogil

# How many of its orders can be icebergs or wait for a trigger, of a record that instrument_check() has passed.
cdef uint32_t instrument_specials(const mb_market_record* record) noexcept nogil

# Fill in `out` from a record that instrument_check() has passed.
cdef void instrument_from_record(instrument* out, const mb_market_record* record) noexcept nogil

# MB_NONE if a SET_MARKET record may change this market's rules so, else MB_BAD_RULE. Looks at the fields that its
# `rules` name, and at reserved ones. Whether the market exists is the caller's.
cdef uint16_t instrument_check_rules(const instrument* market, const mb_rules_record* record) noexcept nogil

# Change the rules that a record, which instrument_check_rules() has passed, names.
cdef void instrument_apply_rules(instrument* market, const mb_rules_record* record) noexcept nogil

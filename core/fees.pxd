"""What a fill is worth and what it costs, as docs/trading-rules.md says under "Fees": exact, in integers.

A fee is in units of what is received: base units for the buyer, quote units for the seller.
"""

from libc.stdint cimport int64_t, uint32_t


cdef extern from * nogil:
    """
    typedef unsigned __int128 mb_amount; /* an amount takes 62 bits, times a rate 77 */
    #define MB_PPM 1000000
    /* Divisions of 64 bits by a constant are multiplications; those of 128 bits are calls. */
    static inline int64_t mb_ppm_up(mb_amount amount, int64_t rate) {
        if (amount < (mb_amount)1 << 47) {
            return (int64_t)(((uint64_t)amount * (uint64_t)rate + (MB_PPM - 1)) / MB_PPM);
        }
        return (int64_t)((amount * (mb_amount)rate + (MB_PPM - 1)) / MB_PPM);
    }
    static inline int64_t mb_ppm_down(mb_amount amount, int64_t rate) {
        return (int64_t)(amount * (mb_amount)rate / MB_PPM);
    }
    """
    ctypedef int64_t mb_amount
    int64_t mb_ppm_up(mb_amount amount, int64_t rate)
    int64_t mb_ppm_down(mb_amount amount, int64_t rate)


cdef inline mb_amount received(uint32_t side, int64_t price, int64_t lots, int64_t notional_units,
                               int64_t lot_units) noexcept nogil:
    """What an order of `side` (0 buys, 1 sells) receives in a fill."""
    if side == 0:
        return <mb_amount>lots * <mb_amount>lot_units
    # Exact in 64 bits: the maker's own price times quantity was checked.
    return <mb_amount>(price * lots * notional_units)


cdef inline int64_t fee_of(mb_amount amount, int64_t rate_ppm) noexcept nogil:
    """The fee of who receives `amount`: rounded up, 0 for rates that are not above 0."""
    return mb_ppm_up(amount, rate_ppm) if rate_ppm > 0 else 0


cdef inline int64_t rebate_of(mb_amount taker_amount, int64_t rate_ppm, int64_t taker_fee) noexcept nogil:
    """What a maker with a rate below 0 gets out of the taker's fee, in what the taker receives."""
    cdef int64_t rebate = mb_ppm_down(taker_amount, -rate_ppm)
    return rebate if rebate < taker_fee else taker_fee

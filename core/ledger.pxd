"""The ledger: who owns what. Balances, accounts, fee tiers, and references of money movements.

    balances    open hash table by (account, asset): 24 bytes an entry, at most half full, entries never move, so an
                order keeps the numbers of the two it needs
    accounts    by number: state, tier, parent, and the chain of its live orders, oldest first
    volumes     a row of 31 days for each account that traded while tiers go by volume
    references  each once, with the withdrawal that waits under it

Invariants (ledger_check): free >= 0 and held >= 0 everywhere; for each asset, `supply` (deposits less withdrawals)
is the sum of free and held over all accounts, the fee account included; supply <= MB_MAX_ASSET_UNITS, so that no
sum here can overflow.

All memory is mapped before the first record. One thread; nothing on the order path blocks, allocates or fails: whoever
changes a balance has looked that it suffices. Amounts are units of their asset.
"""

from libc.stdint cimport int16_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from matchbox.core.bits cimport mb_multiply, mb_prefetch
from matchbox.core.index cimport index64, index_mix
from matchbox.core.instrument cimport instrument
from matchbox.shm.records cimport MB_BUY, MB_FEE_ACCOUNT, MB_FEE_TIERS

cdef enum:
    VOLUME_DAYS = 30
    NO_BALANCE = 0          # balances[0] is no entry

ctypedef struct balance:
    uint32_t account        # 0 = empty
    uint16_t asset
    uint16_t reserved
    int64_t free
    int64_t held

ctypedef struct account_state:
    uint32_t parent         # 0 = none
    uint32_t first_order    # slot + 1 in the table of live orders, 0 = none
    uint32_t last_order
    uint32_t volume         # row, 0 = none
    uint8_t state           # enum mb_account_state, 0 = no such account
    uint8_t tier            # as set: 0..9 or MB_TIER_BY_VOLUME
    uint8_t reserved[2]

ctypedef struct volume_row:
    int64_t today           # units, of `day`
    uint32_t day            # days since 1970
    uint32_t tier_day       # `tier` holds on this day, by tiers of version `tier_version`
    uint32_t tier_version
    uint8_t tier
    uint8_t reserved[3]
    uint32_t days[30]       # whole units of the asset on day - 1, day - 2, ...

ctypedef struct fee_rates:
    int16_t maker_ppm
    int16_t taker_ppm

# A tier that was not set has the rates of the one below.
ctypedef struct fee_table:
    fee_rates tiers[10]
    uint16_t given          # bits of the tiers that were set

ctypedef struct movement:
    char reference[36]
    uint32_t account
    int64_t amount
    uint16_t asset
    uint8_t waits           # a withdrawal that is neither settled nor canceled
    uint8_t reserved[5]

ctypedef struct ledger:
    balance* balances       # [1] to [balance_mask + 1]
    uint64_t balance_mask
    uint64_t balance_count
    uint64_t max_balances
    account_state* accounts
    uint32_t max_accounts
    uint32_t volume_count
    volume_row* volumes
    uint32_t max_volumes
    uint16_t volume_asset   # 0 = tiers do not go by volume
    uint16_t max_assets
    uint8_t* asset_scales   # scale + 1; 0 = no such asset
    int64_t* supply         # by asset
    uint32_t tier_volumes[10]   # whole units; 0 = the tier does not apply by volume
    uint32_t tier_version
    fee_table default_fees
    movement* movements
    index64 by_reference
    uint32_t movement_count
    uint32_t max_movements
    void* arena
    size_t arena_bytes

# Map everything. Raises MemoryError, BadArgument.
cdef int ledger_create(ledger* l, uint32_t max_accounts, uint16_t max_assets, uint64_t max_balances,
                       uint32_t max_movements) except -1
cdef void ledger_destroy(ledger* l) noexcept
# 0, or the asset whose balances do not sum up to its supply, or are below 0. Slow; for tests and debug builds.
cdef uint32_t ledger_check(const ledger* l) noexcept nogil
# Over all balances, accounts, rates and movements; independent of the order of tables.
cdef uint64_t ledger_hash(const ledger* l) noexcept nogil

# The rates of an account for orders of the record's day; `own` is its market's table or NULL.
cdef fee_rates ledger_rates(ledger* l, const fee_table* own, uint32_t account, uint64_t timestamp_ns) noexcept nogil
# Count a fill of `value` units of the volume asset.
cdef void ledger_add_volume(ledger* l, uint32_t account, int64_t value, uint64_t timestamp_ns) noexcept nogil
# Set the rates of a tier, and of those above that were not set.
cdef void fees_set(fee_table* table, uint8_t tier, int16_t maker_ppm, int16_t taker_ppm) noexcept nogil
# Would they be allowed in this table: no rebate above any taker rate?
cdef bint fees_allowed(const fee_table* table, uint8_t tier, int16_t maker_ppm, int16_t taker_ppm) noexcept nogil

cdef movement* ledger_movement(const ledger* l, const char* reference) noexcept nogil
# A new movement; the caller has looked that there is room and that the reference is new.
cdef movement* ledger_add_movement(ledger* l, const char* reference, uint32_t account, uint16_t asset, int64_t amount,
                                   bint waits) noexcept nogil


cdef inline account_state* ledger_account(const ledger* l, uint32_t account) noexcept nogil:
    """An account that exists, or NULL. The fee account is none: it has balances only."""
    if account == 0 or account > l.max_accounts or l.accounts[account].state == 0:
        return NULL
    return &l.accounts[account]


cdef inline uint64_t _balance_place(const ledger* l, uint32_t account, uint16_t asset) noexcept nogil:
    # An account's balances are neighbours: an order needs two of them.
    return (index_mix(<uint64_t>account << 14 | asset >> 2) << 2 | (asset & 3)) & l.balance_mask


cdef inline void ledger_prefetch(const ledger* l, uint32_t account) noexcept nogil:
    """Fetch an account, if there is such a number, and the balances of its first assets."""
    cdef const char* first
    if account <= l.max_accounts:
        first = <const char*>&l.balances[_balance_place(l, account, 0) + 1]
        mb_prefetch(first)
        mb_prefetch(first + 64)
        mb_prefetch(&l.accounts[account])


cdef inline uint32_t ledger_find(const ledger* l, uint32_t account, uint16_t asset) noexcept nogil:
    """The number of a balance, or NO_BALANCE."""
    cdef uint64_t at = _balance_place(l, account, asset)
    while l.balances[at + 1].account:
        if l.balances[at + 1].account == account and l.balances[at + 1].asset == asset:
            return <uint32_t>(at + 1)
        at = (at + 1) & l.balance_mask
    return NO_BALANCE


cdef inline uint32_t ledger_open(ledger* l, uint32_t account, uint16_t asset) noexcept nogil:
    """The number of a balance, made if it is new; NO_BALANCE if the table is full."""
    cdef uint64_t at = _balance_place(l, account, asset)
    while l.balances[at + 1].account:
        if l.balances[at + 1].account == account and l.balances[at + 1].asset == asset:
            return <uint32_t>(at + 1)
        at = (at + 1) & l.balance_mask
    if l.balance_count >= l.max_balances:
        return NO_BALANCE
    l.balance_count += 1
    l.balances[at + 1].account = account
    l.balances[at + 1].asset = asset
    return <uint32_t>(at + 1)


cdef inline int64_t ledger_free(const ledger* l, uint32_t account, uint16_t asset) noexcept nogil:
    """What an account can use of an asset. NO_BALANCE has none."""
    return l.balances[ledger_find(l, account, asset)].free


cdef inline void ledger_hold(ledger* l, uint32_t number, int64_t amount) noexcept nogil:
    """Free to held (a negative amount: back). The caller has looked that it is there."""
    l.balances[number].free -= amount
    l.balances[number].held += amount


cdef inline int64_t hold_of(const instrument* market, uint8_t side, int64_t price, int64_t lots) noexcept nogil:
    """What a limit order holds for `lots` open; INT64_MAX if it passes the range."""
    cdef int64_t product
    if side != MB_BUY:
        return INT64_MAX if mb_multiply(lots, market.lot_units, &product) else product
    if mb_multiply(price, lots, &product) or mb_multiply(product, market.notional_units, &product):
        return INT64_MAX
    return product


cdef extern from "<stdint.h>" nogil:
    const int64_t INT64_MAX

"""The ledger's memory, tiers, references, hash and check. Layout, invariants and the order path are in ledger.pxd."""

from libc.string cimport memcmp, memcpy, memset
from matchbox.core.arena cimport arena_map, arena_unmap
from matchbox.core.bits cimport mb_add
from matchbox.core.index cimport (
    index_allocate, index_entry, index_find, index_free, index_insert, index_mix, index_next,
)
from matchbox.shm.records cimport MB_TIER_BY_VOLUME

from matchbox.shm.errors import BadArgument

cdef enum:
    DAY_NS = 86400000000000
    MAX_DAY_VOLUME = 0xFFFFFFFF

if sizeof(balance) != 24 or sizeof(account_state) != 20 or sizeof(movement) != 56:
    raise ImportError("ledger: tables have padding")


cdef int64_t* _powers = [
    1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000, 1000000000, 10000000000, 100000000000,
    1000000000000, 10000000000000, 100000000000000, 1000000000000000, 10000000000000000, 100000000000000000,
    1000000000000000000,
]


# ---- memory ----------------------------------------------------------------------------------------------

cdef int ledger_create(ledger* l, uint32_t max_accounts, uint16_t max_assets, uint64_t max_balances,
                       uint32_t max_movements) except -1:
    cdef uint64_t places = 16
    cdef char* at
    if max_balances > <uint64_t>1 << 31:
        raise BadArgument(f"too many balances: max_balances={max_balances}, maximum={1 << 31}")
    while places < 2 * max_balances:
        places *= 2
    l.max_accounts, l.max_assets, l.max_balances = max_accounts, max_assets, max_balances
    l.max_movements, l.max_volumes = max_movements, max_accounts
    l.balance_mask = places - 1
    l.arena_bytes = ((places + 1) * sizeof(balance)
                     + (<size_t>max_accounts + 1) * (sizeof(account_state) + sizeof(volume_row))
                     + (<size_t>max_assets + 1) * (sizeof(int64_t) + 1) + 64)
    l.arena = arena_map(l.arena_bytes)
    at = <char*>l.arena
    l.balances = <balance*>at
    at += (places + 1) * sizeof(balance)
    l.volumes = <volume_row*>at
    at += (<size_t>max_accounts + 1) * sizeof(volume_row)
    l.supply = <int64_t*>at
    at += (<size_t>max_assets + 1) * sizeof(int64_t)
    l.accounts = <account_state*>at
    at += (<size_t>max_accounts + 1) * sizeof(account_state)
    l.asset_scales = <uint8_t*>at
    l.movements = <movement*>arena_map((<size_t>max_movements + 1) * sizeof(movement))
    index_allocate(&l.by_reference, max_movements)
    return 0


cdef void ledger_destroy(ledger* l) noexcept:
    arena_unmap(l.arena, l.arena_bytes)
    arena_unmap(l.movements, (<size_t>l.max_movements + 1) * sizeof(movement))
    index_free(&l.by_reference)


# ---- fees and tiers --------------------------------------------------------------------------------------

cdef void fees_set(fee_table* table, uint8_t tier, int16_t maker_ppm, int16_t taker_ppm) noexcept nogil:
    cdef uint8_t each
    table.given |= <uint16_t>(1 << tier)
    for each in range(tier, MB_FEE_TIERS):
        if each > tier and table.given >> each & 1:
            break
        table.tiers[each].maker_ppm, table.tiers[each].taker_ppm = maker_ppm, taker_ppm


cdef bint fees_allowed(const fee_table* table, uint8_t tier, int16_t maker_ppm, int16_t taker_ppm) noexcept nogil:
    cdef fee_table then = table[0]
    cdef int lowest_taker, highest_rebate
    cdef uint8_t each
    fees_set(&then, tier, maker_ppm, taker_ppm)
    lowest_taker, highest_rebate = then.tiers[0].taker_ppm, -then.tiers[0].maker_ppm
    for each in range(1, MB_FEE_TIERS):
        if then.tiers[each].taker_ppm < lowest_taker:
            lowest_taker = then.tiers[each].taker_ppm
        if -then.tiers[each].maker_ppm > highest_rebate:
            highest_rebate = -then.tiers[each].maker_ppm
    return highest_rebate <= lowest_taker


cdef void _roll(volume_row* row, uint32_t day, int64_t whole) noexcept nogil:
    """Make `day` the row's today."""
    cdef uint32_t passed = day - row.day, i
    cdef int64_t volume = row.today // whole
    if passed > VOLUME_DAYS:
        passed = VOLUME_DAYS + 1
    i = VOLUME_DAYS
    while i > 0:
        i -= 1
        row.days[i] = row.days[i - passed] if i >= passed else 0
    if passed <= VOLUME_DAYS:
        row.days[passed - 1] = <uint32_t>(volume if volume < MAX_DAY_VOLUME else MAX_DAY_VOLUME)
    row.day = day
    row.today = 0


cdef uint64_t _window(const volume_row* row, uint32_t day, int64_t whole) noexcept nogil:
    """Whole units over the 30 days before `day`, which is not before the row's."""
    cdef uint64_t total = 0
    cdef uint32_t since = day - row.day, i
    cdef int64_t volume = row.today // whole
    if 1 <= since <= VOLUME_DAYS:
        total = <uint64_t>(volume if volume < MAX_DAY_VOLUME else MAX_DAY_VOLUME)
    for i in range(VOLUME_DAYS):
        # days[i] is day - since - 1 - i.
        if since + 1 + i <= VOLUME_DAYS:
            total += row.days[i]
    return total


cdef uint8_t _tier_by_volume(ledger* l, account_state* account, uint64_t timestamp_ns) noexcept nogil:
    cdef uint32_t day = <uint32_t>(timestamp_ns // DAY_NS)
    cdef volume_row* row
    cdef uint64_t volume
    cdef uint8_t tier
    if account.volume == 0:
        return 0
    row = &l.volumes[account.volume]
    if row.tier_day != day or row.tier_version != l.tier_version:
        volume = _window(row, day, _powers[l.asset_scales[l.volume_asset] - 1])
        tier = MB_FEE_TIERS - 1
        while tier > 0 and (l.tier_volumes[tier] == 0 or volume < l.tier_volumes[tier]):
            tier -= 1
        row.tier, row.tier_day, row.tier_version = tier, day, l.tier_version
    return row.tier


cdef fee_rates ledger_rates(ledger* l, const fee_table* own, uint32_t account, uint64_t timestamp_ns) noexcept nogil:
    cdef account_state* state = &l.accounts[account]
    cdef uint8_t tier = state.tier
    if tier == MB_TIER_BY_VOLUME:
        tier = _tier_by_volume(l, state, timestamp_ns)
    return l.default_fees.tiers[tier] if own == NULL else own.tiers[tier]


cdef void ledger_add_volume(ledger* l, uint32_t account, int64_t value, uint64_t timestamp_ns) noexcept nogil:
    cdef account_state* state = &l.accounts[account]
    cdef uint32_t day = <uint32_t>(timestamp_ns // DAY_NS)
    cdef volume_row* row
    if state.volume == 0:
        # There is a row for each account.
        l.volume_count += 1
        state.volume = l.volume_count
        # Another account may have had it, before volumes were counted in another asset.
        memset(&l.volumes[state.volume], 0, sizeof(volume_row))
        l.volumes[state.volume].day = day
    row = &l.volumes[state.volume]
    if row.day != day:
        _roll(row, day, _powers[l.asset_scales[l.volume_asset] - 1])
    # What passes the range has reached every tier there can be.
    if mb_add(row.today, value, &row.today):
        row.today = INT64_MAX
    # A fill that is settled on a later day than its own changes that day's window.
    row.tier_day = 0


# ---- references ------------------------------------------------------------------------------------------

cdef uint64_t _reference_hash(const char* reference) noexcept nogil:
    cdef uint64_t word, h = 0
    cdef int i
    for i in range(5):
        word = 0
        memcpy(&word, reference + 8 * i, 8 if i < 4 else 4)
        h = index_mix(h ^ word)
    return h


cdef movement* ledger_movement(const ledger* l, const char* reference) noexcept nogil:
    cdef index_entry* entry = index_find(&l.by_reference, _reference_hash(reference))
    while entry != NULL:
        if memcmp(l.movements[entry.value].reference, reference, 36) == 0:
            return &l.movements[entry.value]
        entry = index_next(&l.by_reference, entry)
    return NULL


cdef movement* ledger_add_movement(ledger* l, const char* reference, uint32_t account, uint16_t asset, int64_t amount,
                                   bint waits) noexcept nogil:
    cdef movement* made = &l.movements[l.movement_count]
    index_insert(&l.by_reference, _reference_hash(reference), l.movement_count)
    l.movement_count += 1
    memcpy(made.reference, reference, 36)
    made.account, made.asset, made.amount, made.waits = account, asset, amount, waits
    return made


# ---- looking ---------------------------------------------------------------------------------------------

cdef uint32_t ledger_check(const ledger* l) noexcept nogil:
    cdef uint64_t i
    cdef uint32_t asset
    cdef int64_t total
    cdef const balance* b
    for asset in range(1, <uint32_t>l.max_assets + 1):
        if l.asset_scales[asset] == 0:
            continue
        total = 0
        for i in range(1, l.balance_mask + 2):
            b = &l.balances[i]
            if b.account and b.asset == asset:
                if b.free < 0 or b.held < 0:
                    return asset
                total += b.free + b.held
        if total != l.supply[asset]:
            return asset
    return 0


cdef uint64_t ledger_hash(const ledger* l) noexcept nogil:
    cdef uint64_t total = 0, i
    cdef const balance* b
    cdef const account_state* a
    cdef const volume_row* row
    cdef const movement* m
    for i in range(1, l.balance_mask + 2):
        b = &l.balances[i]
        if b.account and (b.free or b.held):
            total += index_mix(index_mix(<uint64_t>b.account << 16 | b.asset) ^ index_mix(<uint64_t>b.free)
                               ^ index_mix(~<uint64_t>b.held))
    for i in range(1, <uint64_t>l.max_accounts + 1):
        a = &l.accounts[i]
        if a.state:
            total += index_mix(i << 32 ^ <uint64_t>a.parent << 16 ^ <uint64_t>a.tier << 8 ^ a.state)
            if a.volume:
                row = &l.volumes[a.volume]
                total += index_mix(i ^ index_mix(<uint64_t>row.today) ^ <uint64_t>row.day << 40)
    for i in range(l.movement_count):
        m = &l.movements[i]
        total += index_mix(i << 8 ^ m.waits ^ index_mix(<uint64_t>m.amount))
    for i in range(MB_FEE_TIERS):
        total = index_mix(total ^ <uint16_t>l.default_fees.tiers[i].maker_ppm
                          ^ <uint64_t><uint16_t>l.default_fees.tiers[i].taker_ppm << 16
                          ^ <uint64_t>l.tier_volumes[i] << 32)
    return index_mix(total ^ l.volume_asset)

"""Decisions. docs/trading-rules.md has the checks and their order: a command with several faults is refused for the
first of them.

Nothing here changes the state, but for opening balances that stay at 0: a refused command leaves no trace in it.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp
from matchbox.core.bits cimport mb_multiply, mb_unlikely
from matchbox.core.instrument cimport (
    instrument, instrument_check, instrument_check_rules, instrument_check_scales,
)
from matchbox.core.ledger cimport (
    NO_BALANCE, account_state, fee_rates, fee_table, fees_allowed, hold_of, ledger_account,
    ledger_free, ledger_movement, ledger_open, ledger_rates, movement,
)
from matchbox.core.orders cimport live_order, orders_find, orders_find_client
from matchbox.core.sequencer_state cimport (
    PENDING, market_of, market_state, money_of, order_money, sequencer, session_state,
)
from matchbox.core.timers cimport timers_room
from matchbox.core.validation cimport has_limit, validate_command
from matchbox.shm.records cimport *


cdef extern from * nogil:
    """
    typedef __int128 mb_int128; /* of an amount and a divisor, before they are one */
    """
    ctypedef int64_t mb_int128


cdef bint _printable(const char* text, int size, int minimum) noexcept nogil:
    """`minimum` or more printable ASCII characters, then only zero bytes."""
    cdef int i, length = 0
    while length < size and text[length] != 0:
        if not 0x21 <= <uint8_t>text[length] <= 0x7E:
            return False
        length += 1
    for i in range(length, size):
        if text[i] != 0:
            return False
    return length >= minimum


cdef bint _zeros(const char* bytes, int size) noexcept nogil:
    cdef int i
    for i in range(size):
        if bytes[i] != 0:
            return False
    return True


# ---- who -------------------------------------------------------------------------------------------------

cdef inline bint _family(const sequencer* s, uint32_t head, uint32_t account) noexcept nogil:
    """Is it this account, or one of its sub-accounts?"""
    cdef account_state* state = ledger_account(&s.books, account)
    return account == head or (state != NULL and head != 0 and state.parent == head)


cdef uint16_t decide_account(const sequencer* s, const session_state* session, mb_record* record) noexcept nogil:
    if record.account == 0:
        record.account = session.account
    elif not session.capabilities & MB_CAN_NAME_ACCOUNTS and not _family(s, session.account, record.account):
        return MB_ACCOUNT_NOT_PERMITTED
    return MB_NONE if ledger_account(&s.books, record.account) != NULL else MB_UNKNOWN_ACCOUNT


cdef uint16_t check_states(const account_state* account, const market_state* market, bint takes_place, bint may_take,
                           bint operates) noexcept nogil:
    if account.state == MB_FROZEN and (takes_place or not operates):
        return MB_ACCOUNT_FROZEN
    if takes_place and account.state == MB_CANCEL_ONLY:
        return MB_ACCOUNT_CANCEL_ONLY
    if market.definition.state == MB_STATE_HALTED:
        return MB_MARKET_HALTED
    if takes_place and market.definition.state == MB_STATE_CANCEL_ONLY:
        return MB_MARKET_CANCEL_ONLY
    if may_take and market.definition.state == MB_STATE_POST_ONLY:
        return MB_MARKET_POST_ONLY
    return MB_NONE


# ---- orders ----------------------------------------------------------------------------------------------

cdef uint32_t _open_orders(const sequencer* s, uint32_t account, uint32_t market) noexcept nogil:
    """Live orders of an account in a market."""
    cdef uint32_t at = s.books.accounts[account].first_order, count = 0
    while at:
        if s.orders.slab[at - 1].market == market:
            count += 1
        at = s.money[at - 1].next
    return count


cdef inline int64_t _beyond(int64_t price, int64_t bips, bint up) noexcept nogil:
    """`price` and a distance more (rounded up) or less (rounded down)."""
    if up:
        return (price * (10000 + bips) + 9999) // 10000
    return price * (10000 - bips) // 10000


cdef int64_t _bound(const market_state* market, const mb_new_order* order) noexcept nogil:
    """The worst price at which a market order may trade; 0 = any."""
    cdef bint buys = order.side == MB_BUY
    cdef int64_t start = market.last_price
    if order.order_type != MB_MARKET:
        if order.trigger_ticks:
            start = order.trigger_ticks
        if order.trailing_bips:
            start = _beyond(start, order.trailing_bips, buys)
    if market.last_price == 0 and order.trigger_ticks == 0:
        return 0
    start = _beyond(start, market.definition.protection_bips, buys)
    if start > market.definition.max_price_ticks:
        return market.definition.max_price_ticks
    return start if start > 1 else 1


cdef int64_t _least(int64_t a, int64_t b) noexcept nogil:
    return a if a < b else b


cdef int64_t _market_hold(const market_state* market, const mb_new_order* order, int64_t free) noexcept nogil:
    """What a MARKET order may spend of `free` (or holds, for a sell); more than that is for the caller to refuse."""
    cdef const instrument* rules = &market.definition
    cdef int64_t bound = order.price_ticks, most = rules.max_quantity_lots, whole, lots
    if order.side == MB_BUY:
        if order.flags & MB_QUOTE_AMOUNT:
            return order.quantity_lots
        return free if bound == 0 else _least(free, hold_of(rules, MB_BUY, bound, order.quantity_lots))
    if not order.flags & MB_QUOTE_AMOUNT:
        return hold_of(rules, MB_SELL, bound, order.quantity_lots)
    whole = free // rules.lot_units
    if bound == 0:
        return whole * rules.lot_units
    # ceil(amount / value of a lot at the bound): the most that can be needed.
    if mb_multiply(bound, rules.notional_units, &lots):
        lots = 1
    else:
        lots = order.quantity_lots // lots + (1 if order.quantity_lots % lots else 0)
    return _least(_least(lots, most), whole) * rules.lot_units


cdef uint16_t decide_order_money(sequencer* s, market_state* market, mb_new_order* order,
                                 int64_t more) noexcept nogil:
    cdef const instrument* rules = &market.definition
    cdef uint16_t pays = rules.quote_asset if order.side == MB_BUY else rules.base_asset
    cdef uint16_t gets = rules.base_asset if order.side == MB_BUY else rules.quote_asset
    cdef int64_t free = ledger_free(&s.books, order.account, pays) + more
    cdef fee_rates rates
    if not has_limit(order.order_type):
        order.price_ticks = _bound(market, order)
        if order.order_type != MB_MARKET and order.price_ticks == 0 and order.side == MB_BUY:
            return MB_NO_REFERENCE_PRICE
    if order.order_type == MB_MARKET:
        order.hold = _market_hold(market, order, free)
    else:
        order.hold = hold_of(rules, order.side, order.price_ticks, order.quantity_lots)
    if order.hold <= 0 or order.hold > free:
        return MB_INSUFFICIENT_BALANCE
    if ledger_open(&s.books, order.account, gets) == NO_BALANCE:
        return MB_TOO_MANY_OBJECTS
    rates = ledger_rates(&s.books, &market.fees if market.own_fees else NULL, order.account, order.timestamp_ns)
    order.maker_fee_ppm, order.taker_fee_ppm = rates.maker_ppm, rates.taker_ppm
    return MB_NONE


cdef uint16_t decide_order_alone(const sequencer* s, const mb_record* record,
                                 const mb_terms_record* terms) noexcept nogil:
    cdef const market_state* market = market_of(s, record.market)
    return MB_UNKNOWN_MARKET if market == NULL else validate_command(record, terms, &market.definition, False)


cdef uint16_t decide_client_id(sequencer* s, const mb_record* record, const live_order* replaced) noexcept nogil:
    cdef const live_order* found
    if record.client_order_id[0] == 0:
        return MB_NONE
    found = orders_find_client(&s.orders, record.account, record.client_order_id)
    return MB_NONE if found == NULL or found == replaced else MB_DUPLICATE_CLIENT_ORDER_ID


cdef uint16_t decide_room(const sequencer* s, const mb_record* record, uint32_t orders,
                          const live_order* replaced) noexcept nogil:
    cdef const market_state* market = &s.markets[record.market]
    cdef uint32_t gone = replaced != NULL
    # So at most one order of a market more than may be open is in the tables: one that another has replaced, until that
    # is settled. The tables have room for it.
    if market.live_orders + orders > market.definition.max_orders + gone or \
            s.orders.count + orders > s.orders.capacity:
        return MB_TOO_MANY_ORDERS
    if market.definition.account_orders and \
            <uint64_t>_open_orders(s, record.account, record.market) + orders > \
            <uint64_t>market.definition.account_orders + gone:
        return MB_TOO_MANY_ACCOUNT_ORDERS
    return MB_NONE


cdef uint16_t _decide_new(sequencer* s, mb_record* record, const mb_terms_record* terms) noexcept nogil:
    cdef uint16_t reason = decide_order_alone(s, record, terms)
    cdef market_state* market
    if reason != MB_NONE:
        return reason
    market = &s.markets[record.market]
    reason = check_states(ledger_account(&s.books, record.account), market, True, not record.flags & MB_POST_ONLY,
                          False)
    if reason != MB_NONE:
        return reason
    reason = decide_client_id(s, record, NULL)
    if reason != MB_NONE:
        return reason
    reason = decide_room(s, record, 1, NULL)
    if reason != MB_NONE:
        return reason
    return decide_order_money(s, market, <mb_new_order*>record, 0)


cdef live_order* _order_meant(sequencer* s, const mb_record* record) noexcept nogil:
    """The live order that a cancel or amend names, if it is the account's; NULL: "not yours" and "not there" alike."""
    cdef live_order* order = NULL
    if record.order_id:
        order = orders_find(&s.orders, record.order_id)
        if order != NULL and record.client_order_id[0] and memcmp(record.client_order_id, order.client_order_id, 36):
            return NULL
    elif record.client_order_id[0]:
        order = orders_find_client(&s.orders, record.account, record.client_order_id)
    if order == NULL or order.account != record.account or (record.market and record.market != order.market):
        return NULL
    return order


cdef uint16_t decide_change(sequencer* s, const session_state* session, mb_record* record) noexcept nogil:
    cdef live_order* order = _order_meant(s, record)
    cdef market_state* market
    cdef uint16_t reason
    cdef bint amends = record.kind == MB_AMEND_ORDER, pending
    if order == NULL:
        return MB_UNKNOWN_ORDER
    market = &s.markets[order.market]
    record.market = order.market
    reason = validate_command(record, NULL, &market.definition, False)
    if reason != MB_NONE:
        return reason
    reason = check_states(ledger_account(&s.books, record.account), market, amends,
                          amends and record.price_ticks != 0, session.capabilities & MB_CAN_OPERATE != 0)
    if reason != MB_NONE:
        return reason
    record.order_id = order.order_id
    record.side = order.side
    pending = money_of(s, order).role == PENDING
    if not amends:
        record.cancel_reason = MB_ON_REQUEST
        if mb_unlikely(pending):
            record.flags |= MB_OF_PENDING
        return MB_NONE
    if mb_unlikely(pending):
        return MB_CANNOT_AMEND
    return _decide_amend(s, order, market, record)


cdef uint16_t _decide_amend(sequencer* s, const live_order* order, const market_state* market,
                            mb_record* record) noexcept nogil:
    """Hold what the order will need more than after the amends under way, and if there is as much, what it could need
    more if it is filled in between: so that only an account that is short is refused with HOLD_EXCEEDED.
    """
    cdef const order_money* money = money_of(s, order)
    cdef const instrument* rules = &market.definition
    cdef int64_t price = record.price_ticks if record.price_ticks else money.next_price
    cdef int64_t filled = order.cumulative_lots, open_lots = money.next_total - filled, then = open_lots
    cdef int64_t need, least, most, free = s.books.balances[money.pays].free
    if money.market_order:
        return MB_NONE  # it waits for its trigger, or is gone: the matcher says so
    if record.quantity_lots:
        then = record.quantity_lots - (0 if record.flags & MB_TO_OPEN else filled)
    if then <= 0:
        return MB_NONE  # below what is filled: the matcher says so
    need = hold_of(rules, order.side, price, then)
    least = need - hold_of(rules, order.side, money.next_price, open_lots if open_lots > 0 else 0)
    most = need
    if not (record.quantity_lots and record.flags & MB_TO_OPEN):
        # A total shrinks with each fill, and is covered but for what it adds at a lower price.
        most = hold_of(rules, order.side, price, then - open_lots) if then > open_lots else 0
    if least > free:
        return MB_INSUFFICIENT_BALANCE
    if most < least:
        most = least
    record.hold = most if 0 < most < free else (free if most > 0 else 0)
    return MB_NONE


# ---- controls --------------------------------------------------------------------------------------------

cdef bint _only(const mb_record* record, bint quantity) noexcept nogil:
    """Does the record say nothing but account, market and side (and quantity)?"""
    return (record.order_id == 0 and record.price_ticks == 0 and (quantity or record.quantity_lots == 0)
            and record.trigger_ticks == 0 and record.time_in_force == 0 and record.order_type == 0
            and record.flags == 0 and record.reserved == 0 and _zeros(record.client_order_id, 36))


cdef uint16_t _decide_mass_cancel(const sequencer* s, const session_state* session, mb_record* record) noexcept nogil:
    cdef uint16_t reason = decide_account(s, session, record)
    if reason != MB_NONE:
        return reason
    if record.market and market_of(s, record.market) == NULL:
        return MB_UNKNOWN_MARKET
    if record.side > MB_SELL:
        return MB_BAD_SIDE
    if not _only(record, False):
        return MB_BAD_FIELD
    if ledger_account(&s.books, record.account).state == MB_FROZEN and not session.capabilities & MB_CAN_OPERATE:
        return MB_ACCOUNT_FROZEN
    return MB_NONE


cdef uint16_t _decide_countdown(const sequencer* s, const session_state* session, mb_record* record) noexcept nogil:
    cdef uint16_t reason = decide_account(s, session, record)
    if reason != MB_NONE:
        return reason
    if not 0 <= record.quantity_lots <= 0x7FFFFFFF:
        return MB_BAD_TIMEOUT
    if not _only(record, True) or record.market or record.side:
        return MB_BAD_FIELD
    if ledger_account(&s.books, record.account).state == MB_FROZEN and not session.capabilities & MB_CAN_OPERATE:
        return MB_ACCOUNT_FROZEN
    if record.quantity_lots and not timers_room(&s.due, record.session, record.account):
        return MB_TOO_MANY_OBJECTS
    return MB_NONE


# ---- money -----------------------------------------------------------------------------------------------

cdef inline uint32_t _head(const sequencer* s, uint32_t account) noexcept nogil:
    """The head of the account's family."""
    cdef account_state* state = ledger_account(&s.books, account)
    return account if state == NULL or state.parent == 0 else state.parent


cdef uint16_t _decide_transfer_accounts(const sequencer* s, const session_state* session,
                                        mb_money_record* record) noexcept nogil:
    cdef uint16_t reason
    if session.capabilities & MB_CAN_OPERATE:
        if record.account == 0:
            record.account = session.account
        if (ledger_account(&s.books, record.account) == NULL and record.account != MB_FEE_ACCOUNT) or \
                (ledger_account(&s.books, record.counter_account) == NULL
                 and record.counter_account != MB_FEE_ACCOUNT):
            return MB_UNKNOWN_ACCOUNT
    else:
        reason = decide_account(s, session, <mb_record*>record)
        if reason != MB_NONE:
            return reason
        if _head(s, record.account) != _head(s, record.counter_account):
            return MB_ACCOUNT_NOT_PERMITTED
    return MB_ACCOUNT_NOT_PERMITTED if record.account == record.counter_account else MB_NONE


cdef uint16_t _decide_money_account(const sequencer* s, const session_state* session,
                                    mb_money_record* record) noexcept nogil:
    if record.kind == MB_TRANSFER:
        return _decide_transfer_accounts(s, session, record)
    if session.capabilities & MB_CAN_OPERATE:
        if record.account == 0:
            record.account = session.account
        if record.kind == MB_DEPOSIT and record.account == MB_FEE_ACCOUNT:
            return MB_NONE
        return MB_NONE if ledger_account(&s.books, record.account) != NULL else MB_UNKNOWN_ACCOUNT
    return decide_account(s, session, <mb_record*>record)


cdef uint16_t _decide_withdrawal_end(const sequencer* s, const mb_money_record* record) noexcept nogil:
    """SETTLE_ and CANCEL_WITHDRAWAL: something of the account must wait under the reference."""
    cdef movement* waiting
    if record.asset or record.amount:
        return MB_BAD_FIELD
    if not _printable(record.reference, 36, 1):
        return MB_BAD_REFERENCE
    waiting = ledger_movement(&s.books, record.reference)
    if waiting == NULL or not waiting.waits or waiting.account != record.account:
        return MB_UNKNOWN_REFERENCE
    return MB_NONE


cdef uint16_t _decide_movement(sequencer* s, const mb_money_record* record) noexcept nogil:
    """DEPOSIT, REQUEST_WITHDRAWAL, TRANSFER: asset, amount, reference."""
    if not _printable(record.reference, 36, 0 if record.kind == MB_TRANSFER else 1):
        return MB_BAD_REFERENCE
    if not 0 < record.amount <= MB_MAX_ASSET_UNITS:
        return MB_BAD_AMOUNT
    if record.asset == 0 or record.asset > s.books.max_assets or not s.books.asset_scales[record.asset]:
        return MB_UNKNOWN_ASSET
    if record.reference[0] and ledger_movement(&s.books, record.reference) != NULL:
        return MB_DUPLICATE_REFERENCE
    if record.kind == MB_DEPOSIT and record.amount > MB_MAX_ASSET_UNITS - s.books.supply[record.asset]:
        return MB_BAD_AMOUNT
    return MB_TOO_MANY_OBJECTS if record.reference[0] and s.books.movement_count >= s.books.max_movements else MB_NONE


cdef uint16_t _decide_money_record(sequencer* s, const session_state* session, mb_money_record* record) noexcept nogil:
    cdef uint16_t reason
    cdef uint32_t receiver
    cdef movement* waiting
    cdef bint operates = session.capabilities & MB_CAN_OPERATE
    if not session.capabilities & (MB_CAN_TRADE | MB_CAN_OPERATE):
        return MB_NOT_PERMITTED
    if (record.kind == MB_DEPOSIT or record.kind == MB_SETTLE_WITHDRAWAL) and not operates:
        return MB_NOT_PERMITTED
    reason = _decide_money_account(s, session, record)
    if reason != MB_NONE:
        return reason
    if record.reserved or record.reserved_word or record.reserved_long or (
            record.kind != MB_TRANSFER and record.counter_account):
        return MB_BAD_FIELD
    record.operator_id = session.user if operates else 0
    if record.kind == MB_SETTLE_WITHDRAWAL or record.kind == MB_CANCEL_WITHDRAWAL:
        reason = _decide_withdrawal_end(s, record)
    else:
        reason = _decide_movement(s, record)
    if reason != MB_NONE:
        return reason
    if not operates and ledger_account(&s.books, record.account).state == MB_FROZEN:
        return MB_ACCOUNT_FROZEN
    if (record.kind == MB_TRANSFER or record.kind == MB_REQUEST_WITHDRAWAL) and \
            record.amount > ledger_free(&s.books, record.account, record.asset):
        return MB_INSUFFICIENT_BALANCE
    if record.kind == MB_TRANSFER or record.kind == MB_DEPOSIT:
        receiver = record.counter_account if record.kind == MB_TRANSFER else record.account
        if ledger_open(&s.books, receiver, record.asset) == NO_BALANCE:
            return MB_TOO_MANY_OBJECTS
    elif record.kind != MB_REQUEST_WITHDRAWAL:
        waiting = ledger_movement(&s.books, record.reference)
        record.asset, record.amount = waiting.asset, waiting.amount
    return MB_NONE


# ---- operators' records ----------------------------------------------------------------------------------

cdef uint16_t _decide_fees(const sequencer* s, const mb_rules_record* record) noexcept nogil:
    cdef const fee_table* table = &s.books.default_fees
    if record.market:
        if market_of(s, record.market) == NULL:
            return MB_UNKNOWN_MARKET
        table = &s.markets[record.market].fees
    if record.tier >= MB_FEE_TIERS or not -30000 <= record.maker_fee_ppm <= 30000 or \
            not 0 <= record.taker_fee_ppm <= 30000:
        return MB_BAD_RULE
    return MB_NONE if fees_allowed(table, record.tier, record.maker_fee_ppm, record.taker_fee_ppm) else MB_BAD_RULE


cdef uint16_t _decide_rules(sequencer* s, const session_state* session, mb_rules_record* record) noexcept nogil:
    """SET_ACCOUNT, SET_MARKET, SET_FEES, SET_TIER."""
    record.operator_id = session.user
    if record.reserved or record.reserved_long or record.reserved_byte:
        return MB_BAD_FIELD
    if record.kind == MB_SET_MARKET:
        if market_of(s, record.market) == NULL:
            return MB_UNKNOWN_MARKET
        return instrument_check_rules(&s.markets[record.market].definition, record)
    if record.kind == MB_SET_FEES:
        return _decide_fees(s, record)
    if record.kind == MB_SET_TIER:
        if record.tier >= MB_FEE_TIERS or record.amount < 0 or record.amount >> 32:
            return MB_BAD_RULE
        if record.asset == 0 or record.asset > s.books.max_assets or not s.books.asset_scales[record.asset]:
            return MB_UNKNOWN_ASSET
        return MB_NONE
    if ledger_account(&s.books, record.account) == NULL:
        return MB_UNKNOWN_ACCOUNT
    if record.rules & ~(MB_RULE_STATE | MB_RULE_TIER | MB_RULE_CANCEL):
        return MB_BAD_RULE
    if record.rules & MB_RULE_STATE and not MB_ACTIVE <= record.state <= MB_FROZEN:
        return MB_BAD_RULE
    if record.rules & MB_RULE_TIER and record.tier >= MB_FEE_TIERS and record.tier != MB_TIER_BY_VOLUME:
        return MB_BAD_RULE
    return MB_NONE


cdef uint16_t _decide_account_definition(const sequencer* s, const mb_named_record* named) noexcept nogil:
    cdef account_state* parent = ledger_account(&s.books, named.parent)
    if not _printable(named.name, MB_NAME_BYTES, 1) or named.account == 0:
        return MB_BAD_DEFINITION
    if named.account > s.books.max_accounts:
        return MB_TOO_MANY_OBJECTS
    if ledger_account(&s.books, named.account) != NULL:
        return MB_ALREADY_EXISTS
    if named.parent and (parent == NULL or parent.parent):
        return MB_BAD_DEFINITION
    return MB_NONE


cdef uint16_t _decide_definition(sequencer* s, mb_record* record) noexcept nogil:
    cdef mb_named_record* named = <mb_named_record*>record
    cdef mb_market_record* market = <mb_market_record*>record
    cdef uint16_t reason
    if record.kind == MB_ADD_ASSET:
        if not _printable(named.name, MB_NAME_BYTES, 1) or named.scale > 18 or named.id == 0:
            return MB_BAD_DEFINITION
        if named.id > s.books.max_assets:
            return MB_TOO_MANY_OBJECTS
        return MB_ALREADY_EXISTS if s.books.asset_scales[named.id] else MB_NONE
    if record.kind == MB_ADD_ACCOUNT:
        return _decide_account_definition(s, named)
    reason = instrument_check(market)
    if reason != MB_NONE:
        return reason
    if not _printable(market.symbol, MB_SYMBOL_BYTES - 1, 1):
        return MB_BAD_DEFINITION
    if market.market > s.max_markets:
        return MB_TOO_MANY_OBJECTS
    if s.markets[market.market].exists:
        return MB_ALREADY_EXISTS
    if market.base_asset > s.books.max_assets or market.quote_asset > s.books.max_assets \
            or market.base_asset == market.quote_asset \
            or not s.books.asset_scales[market.base_asset] or not s.books.asset_scales[market.quote_asset]:
        return MB_BAD_DEFINITION
    reason = instrument_check_scales(market, s.books.asset_scales[market.base_asset] - 1,
                                     s.books.asset_scales[market.quote_asset] - 1)
    if reason != MB_NONE:
        return reason
    # Fees of fills need a place.
    if ledger_open(&s.books, MB_FEE_ACCOUNT, market.base_asset) == NO_BALANCE or \
            ledger_open(&s.books, MB_FEE_ACCOUNT, market.quote_asset) == NO_BALANCE:
        return MB_TOO_MANY_OBJECTS
    return MB_NONE


cdef uint16_t _decide_removal(const sequencer* s, const mb_named_record* named) noexcept nogil:
    """REMOVE_MARKET, REMOVE_ASSET: nothing may be left that needs it. With no live order of a market, all of its trades
    are settled; what can still be under way are refusals, which change nothing.
    """
    cdef uint32_t market
    if named.reserved:
        return MB_BAD_FIELD
    if not _printable(named.name, MB_NAME_BYTES, 0):
        return MB_BAD_DEFINITION
    if named.kind == MB_REMOVE_MARKET:
        if market_of(s, named.id) == NULL:
            return MB_UNKNOWN_MARKET
        return MB_MARKET_IN_USE if s.markets[named.id].live_orders else MB_NONE
    if named.id == 0 or named.id > s.books.max_assets or not s.books.asset_scales[named.id]:
        return MB_UNKNOWN_ASSET
    if s.books.supply[named.id] or s.books.volume_asset == named.id:
        return MB_ASSET_IN_USE
    for market in range(1, s.max_markets + 1):
        if s.markets[market].exists and (s.markets[market].definition.base_asset == named.id
                                         or s.markets[market].definition.quote_asset == named.id):
            return MB_ASSET_IN_USE
    return MB_NONE


cdef uint32_t _session_named(const sequencer* s, const char* name) noexcept nogil:
    """The number of the session with this name, or 0."""
    cdef uint32_t number
    for number in range(1, s.sessions_count + 1):
        if memcmp(s.sessions[number].name, name, MB_NAME_BYTES) == 0:
            return number
    return 0


cdef uint16_t decide_attach(sequencer* s, mb_named_record* record) noexcept nogil:
    cdef uint32_t number
    if not _printable(record.name, MB_NAME_BYTES, 1) or record.slot >= s.slots or record.cancel_on_detach > 1 \
            or record.assurance > MB_DURABLE:
        return MB_BAD_DEFINITION
    if record.account != 0 and ledger_account(&s.books, record.account) == NULL:
        return MB_UNKNOWN_ACCOUNT
    number = _session_named(s, record.name)
    if number == 0:
        if s.sessions_count >= s.max_sessions:
            return MB_TOO_MANY_OBJECTS
        number = s.sessions_count + 1
    elif s.sessions[number].attached:
        return MB_ALREADY_EXISTS
    record.id = number
    record.position = s.sessions[number].position
    return MB_NONE


cdef uint16_t _decide_operation(sequencer* s, const session_state* session, mb_record* record) noexcept nogil:
    cdef mb_named_record* named = <mb_named_record*>record
    if not session.capabilities & MB_CAN_OPERATE:
        return MB_NOT_PERMITTED
    if record.kind == MB_ATTACH_SESSION:
        return decide_attach(s, named)
    if record.kind == MB_DETACH_SESSION:
        if named.id == 0 or named.id > s.sessions_count or not s.sessions[named.id].attached:
            return MB_UNKNOWN_SESSION
        named.position = s.sessions[named.id].position
        return MB_NONE
    if MB_SET_ACCOUNT <= record.kind <= MB_SET_TIER:
        return _decide_rules(s, session, <mb_rules_record*>record)
    if record.kind == MB_REMOVE_MARKET or record.kind == MB_REMOVE_ASSET:
        return _decide_removal(s, named)
    return _decide_definition(s, record)


cdef bint same_place(const session_state* session, const mb_record* one, const mb_record* other) noexcept nogil:
    return one.market == other.market and (one.account if one.account else session.account) == (
        other.account if other.account else session.account)


cdef uint16_t decide(sequencer* s, const session_state* session, mb_record* record,
                     const mb_terms_record* terms) noexcept nogil:
    cdef uint16_t reason
    cdef bint apart
    if record.kind in (MB_NEW_ORDER, MB_CANCEL_ORDER, MB_AMEND_ORDER):
        if not session.capabilities & MB_CAN_TRADE:
            return MB_NOT_PERMITTED
        apart = (terms != NULL and not same_place(session, <const mb_record*>terms, record)) or (
            record.kind == MB_NEW_ORDER and record.flags & MB_LEG)
        reason = decide_account(s, session, record)
        if reason != MB_NONE:
            return reason
        if apart:
            return MB_BAD_LEGS
        if record.kind == MB_NEW_ORDER:
            return _decide_new(s, record, terms)
        if mb_unlikely(record.kind == MB_CANCEL_ORDER and record.flags & MB_REPLACE):
            return MB_BAD_LEGS  # no order follows that would come in its place
        return decide_change(s, session, record)
    if record.kind == MB_ORDER_TERMS or record.kind == MB_ORDER_LIST:
        # Terms whose order does not follow; a list whose legs do not.
        if not session.capabilities & MB_CAN_TRADE:
            return MB_NOT_PERMITTED
        reason = decide_account(s, session, record)
        return reason if reason != MB_NONE else MB_BAD_LEGS
    if record.kind == MB_MASS_CANCEL or record.kind == MB_COUNTDOWN:
        if not session.capabilities & MB_CAN_TRADE:
            return MB_NOT_PERMITTED
        return _decide_mass_cancel(s, session, record) if record.kind == MB_MASS_CANCEL \
            else _decide_countdown(s, session, record)
    if record.kind == MB_SUBSCRIBE or record.kind == MB_UNSUBSCRIBE:
        return decide_account(s, session, record)
    if record.kind == MB_LOGOUT:
        return MB_NONE
    if MB_TRANSFER <= record.kind <= MB_CANCEL_WITHDRAWAL or record.kind == MB_DEPOSIT \
            or record.kind == MB_SETTLE_WITHDRAWAL:
        return _decide_money_record(s, session, <mb_money_record*>record)
    if MB_ADD_ASSET <= record.kind <= MB_REMOVE_ASSET:
        return _decide_operation(s, session, record)
    record.kind = MB_INVALID
    return MB_UNKNOWN_KIND

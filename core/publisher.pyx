"""The publisher: walks the log and the event stream together and tells everyone what concerns them.

For each log record, in order: the record itself (who sent it, which order it creates, who attaches), then its
events up to the one flagged LAST, from the one source that answers it (see `_source_of`). A pending order is one of
the table, answered by the ledger; when it is released, the new order takes its place and belongs to the same session.
Events of one record may concern many orders: makers, and orders that its trades have triggered. Each event becomes

    - a report to the session that entered the order, to the session that sent a command for this very order, and
      to the subscribers of the account, once each; of a BALANCE to the sender and the subscribers;
    - level changes in the market's depth table and in the public market-data ring, and public trades;
    - after the last event of a record, the best bid and ask if they moved.

Invariants:
    - It waits for nobody but the source of the next event: report rings that are full are a reason to detach
      their session (`detach` in the ring's header asks the sequencer), and market data gates nobody.
    - One slot of every report ring is kept for the last report, DETACHED.
    - A report is published when its record has the assurance that its session waits for, not before, and in the order
      of the log. Until then it stands in the session's ring, filled; the disk holds up nothing else.
    - Its log cursor is released only after everything the record caused is out.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from matchbox.core.agent cimport Agent, MB_PUBLISHING, mb_in_hand, mb_take_in_hand, mb_take_poison
from matchbox.core.bits cimport mb_clear_record, mb_likely, mb_prefetch, mb_unlikely
from matchbox.core.depth cimport (
    DepthTable, depth_best, depth_close, depth_open, depth_set, depth_show, depth_trade, depth_writer, table_of,
)
from matchbox.core.index cimport index_guess, index_prefetch
from matchbox.core.routes cimport (
    order_route, routes_add, routes_allocate, routes_find, routes_free, routes_remove
)
from matchbox.core.succession cimport adopt_depth, adopt_market_data, adopt_reports, reports_anew, show_depth
from matchbox.shm.records cimport *
from matchbox.shm.ring cimport *

import numpy as np

from matchbox.shm.errors import BadArgument, SegmentError
from matchbox.shm.records import REPORT

cdef enum:
    # How many records ahead an order's place in the index, and its route are fetched into the cache.
    AHEAD_ENTRY = 8
    AHEAD_ORDER = 4
    # A poll() ends after 4 * batch events and records, or one more; of an event, two reports are kept at most.
    KEPT_OF_RECORD = 10


# ---- reports ---------------------------------------------------------------------------------------------

cdef inline bint _has_room(const publisher* p, report_slot* slot) noexcept nogil:
    """Two free places: for a report, and the one that is kept for DETACHED."""
    cdef uint64_t produced = slot.reports.position + slot.filled
    cdef uint64_t read
    if produced - slot.read + 2 <= slot.reports.mask + 1:
        return True
    if p.shadow:
        slot.read = produced
        return True
    # The bot's own word, in its own segment: believed only where it can be true (the sequencer detaches liars).
    read = mb_load_acquire(&slot.commands.readers[1].value)
    if slot.reports.position - read > slot.reports.mask + 1:
        return False
    slot.read = read
    return produced - read + 2 <= slot.reports.mask + 1


cdef inline mb_report* _report(publisher* p, uint32_t session, const mb_record* record) noexcept nogil:
    """The next free report of a session, zeroed and with its position set; NULL if none can be sent."""
    cdef uint16_t number = p.slot_of[session] if session <= p.max_sessions else <uint16_t>NO_SLOT
    cdef report_slot* slot
    cdef mb_report* report
    if number == NO_SLOT:
        return NULL
    slot = &p.slot_table[number]
    if slot.full:
        p.dropped += 1
        return NULL
    if not _has_room(p, slot):
        slot.full = 1
        p.dropped += 1
        mb_store_relaxed(&slot.reports.ring.detach.value, MB_SLOW_READER)
        return NULL
    report = <mb_report*>mb_producer_slot(&slot.reports, slot.filled)
    slot.filled += 1
    slot.touched = 1
    p.reports += 1
    mb_clear_record(report)
    report.sequence = record.sequence
    report.timestamp_ns = record.timestamp_ns
    report.assurance = slot.assurance
    return report


cdef inline mb_report* _keep(publisher* p, const mb_record* record) noexcept nogil:
    """The next place for a report that an archive keeps, or NULL. poll() sees to it that there is room."""
    cdef mb_report* report
    if mb_likely(p.kept == NULL):
        return NULL
    report = &p.kept[p.kept_count]
    p.kept_count += 1
    mb_clear_record(report)
    report.sequence = record.sequence
    report.timestamp_ns = record.timestamp_ns
    report.command_position = record.session_position
    report.assurance = MB_DURABLE
    return report


cdef inline void _fill_order(mb_report* report, const mb_event* event, const order_route* order,
                             bint as_maker) noexcept nogil:
    """What an event says of one of its orders."""
    report.order_id = order.order_id
    report.price_ticks = event.price_ticks
    report.quantity_lots = event.quantity_lots
    report.index = event.index
    report.account = order.account
    report.market = order.market
    report.reason = event.reason
    report.kind = event.kind
    report.side = order.side
    memcpy(report.client_order_id, order.client_order_id, 36)
    if mb_unlikely(event.flags & MB_PENDING):
        report.flags |= MB_WAS_PENDING
    if as_maker:
        report.leaves_lots = event.maker_leaves_lots
        report.cumulative_lots = event.maker_cumulative_lots
        report.fee = event.maker_fee
        report.flags |= MB_AS_MAKER
    else:
        report.leaves_lots = event.leaves_lots
        report.cumulative_lots = event.cumulative_lots
        report.fee = event.fee
    if event.kind == MB_TRADE:
        report.trade_id = event.trade_id


cdef inline uint64_t _ordered(const mb_record* record) noexcept nogil:
    """The order that an order command creates or names."""
    return record.sequence if record.kind == MB_NEW_ORDER else record.order_id


cdef inline uint64_t _id_before(const publisher* p, const mb_record* record) noexcept nogil:
    """The id that a released order had while it was pending; 0 of any other record of the exchange's own."""
    if record.kind != MB_NEW_ORDER:
        return 0
    # The list's pending orders are + 2, + 3; the new records are + 1, + 2 from the RELEASE.
    return p.release_list + 1 + (record.sequence - p.release)


cdef inline void _say_before(mb_report* report, uint64_t before) noexcept nogil:
    if mb_unlikely(before != 0) and (report.kind == MB_ACCEPTED or report.kind == MB_REJECTED):
        report.flags |= MB_RELEASED
        report.command_position = before


cdef void _tell(publisher* p, const mb_record* record, const mb_event* event, const order_route* order,
                bint as_maker) noexcept nogil:
    """One event of one order: to its session, to who sent the command for it, and to the account's subscribers."""
    cdef mb_report* report
    cdef uint32_t i
    cdef subscription* wish
    # Fills are no answers, and what befalls other orders than the one that was named is none to its sender. The
    # sender of a command on another session's order is answered too.
    cdef bint answers = event.kind != MB_TRADE and event.kind != MB_PREVENTED and order.order_id == _ordered(record)
    cdef uint32_t sender = record.session if answers and record.session != order.session else 0
    cdef uint64_t before = _id_before(p, record) if mb_unlikely(record.session == 0) and answers else 0
    report = _keep(p, record)
    if report != NULL:
        report.command_position = record.session_position if answers else 0
        _fill_order(report, event, order, as_maker)
        _say_before(report, before)
    report = _report(p, order.session, record)
    if report != NULL:
        _fill_order(report, event, order, as_maker)
        if answers and record.session == order.session:
            report.command_position = record.session_position
        _say_before(report, before)
    if sender:
        report = _report(p, sender, record)
        if report != NULL:
            _fill_order(report, event, order, as_maker)
            report.flags |= MB_SUBSCRIBED
            report.command_position = record.session_position
    for i in range(p.subscription_count):
        wish = &p.subscriptions[i]
        if wish.account == order.account and wish.session != order.session and wish.session != sender:
            report = _report(p, wish.session, record)
            if report != NULL:
                _fill_order(report, event, order, as_maker)
                report.flags |= MB_SUBSCRIBED
                _say_before(report, before)


cdef inline bint _moves_money(uint8_t kind) noexcept nogil:
    """Is it a mb_money_record?"""
    return MB_TRANSFER <= kind <= MB_CANCEL_WITHDRAWAL or kind == MB_DEPOSIT or kind == MB_SETTLE_WITHDRAWAL


cdef inline void _fill_refused(mb_report* report, const mb_record* record, const mb_event* event) noexcept nogil:
    report.kind = MB_REJECTED
    report.reason = event.reason
    report.index = event.index
    if MB_NEW_ORDER <= record.kind <= MB_AMEND_ORDER:
        report.order_id = _ordered(record)
        report.price_ticks = record.price_ticks
        report.quantity_lots = record.quantity_lots
        report.account = record.account
        report.market = record.market
        report.side = record.side
        memcpy(report.client_order_id, record.client_order_id, 36)
    elif _moves_money(record.kind):
        report.account = record.account
        report.market = (<const mb_money_record*>record).asset
        memcpy(report.client_order_id, (<const mb_money_record*>record).reference, 36)


cdef void _tell_refused(publisher* p, const mb_record* record, const mb_event* event) noexcept nogil:
    """A refused command concerns its sender alone; one of the engine itself nobody, but for a released order."""
    cdef mb_report* report
    if record.session == 0:
        if record.kind == MB_NEW_ORDER:
            _tell(p, record, event, routes_find(&p.orders, record.sequence), False)
        return
    report = _keep(p, record)
    if report != NULL:
        _fill_refused(report, record, event)
    report = _report(p, record.session, record)
    if report != NULL:
        _fill_refused(report, record, event)
        report.command_position = record.session_position


cdef inline void _fill_balance(mb_report* report, const mb_record* record, const mb_event* event) noexcept nogil:
    report.kind = MB_BALANCE
    report.index = event.index
    report.account = event.account
    report.market = event.market
    report.quantity_lots = event.quantity_lots
    report.leaves_lots = event.leaves_lots
    report.cumulative_lots = event.cumulative_lots
    memcpy(report.client_order_id, (<const mb_money_record*>record).reference, 36)


cdef void _tell_balance(publisher* p, const mb_record* record, const mb_event* event) noexcept nogil:
    """What an account has now: to the sender of the money record and to the account's subscribers."""
    cdef mb_report* report = _keep(p, record)
    cdef uint32_t i
    cdef subscription* wish
    if report != NULL:
        _fill_balance(report, record, event)
    report = _report(p, record.session, record)
    if report != NULL:
        _fill_balance(report, record, event)
        report.command_position = record.session_position
    for i in range(p.subscription_count):
        wish = &p.subscriptions[i]
        if wish.account == event.account and wish.session != record.session:
            report = _report(p, wish.session, record)
            if report != NULL:
                _fill_balance(report, record, event)
                report.flags = MB_SUBSCRIBED


# ---- market data -----------------------------------------------------------------------------------------

cdef inline void _level(publisher* p, const mb_record* record, depth_writer* depth, uint8_t side,
                        int64_t price, int64_t quantity) noexcept nogil:
    """A level's new quantity: into the full depth, into the ring, into the top (depth.h says why in this order)."""
    cdef mb_market_data change
    depth_set(depth, side, price, quantity)
    mb_clear_record(&change)
    change.kind = MB_MD_LEVEL
    change.sequence = record.sequence
    change.timestamp_ns = record.timestamp_ns
    change.market = record.market
    change.side = side
    change.price_ticks = price
    change.quantity_lots = quantity
    change.update = depth.update
    mb_lossy_publish(&p.market_data, &change)
    if depth_show(depth, side, price, quantity, record.sequence, record.timestamp_ns):
        p.best_moved = 1


cdef void _trade(publisher* p, const mb_record* record, depth_writer* depth, const mb_event* event) noexcept nogil:
    """A public trade; what it leaves of the maker's level follows it."""
    cdef mb_market_data trade
    depth_trade(depth, event.price_ticks, event.trade_id)
    mb_clear_record(&trade)
    trade.kind = MB_MD_TRADE
    trade.sequence = record.sequence
    trade.timestamp_ns = record.timestamp_ns
    trade.market = record.market
    trade.side = event.side
    trade.price_ticks = event.price_ticks
    trade.quantity_lots = event.quantity_lots
    trade.trade_id = event.trade_id
    trade.update = depth.update
    mb_lossy_publish(&p.market_data, &trade)


cdef void _best(publisher* p, const mb_record* record, depth_writer* depth) noexcept nogil:
    cdef mb_market_data best
    mb_clear_record(&best)
    best.kind = MB_MD_BEST
    best.sequence = record.sequence
    best.timestamp_ns = record.timestamp_ns
    best.market = record.market
    best.update = depth.update
    depth_best(depth, &best.price_ticks, &best.quantity_lots, &best.ask_price_ticks, &best.ask_quantity_lots)
    mb_lossy_publish(&p.market_data, &best)


# ---- events ----------------------------------------------------------------------------------------------

cdef void _on_meeting(publisher* p, const mb_record* record, const mb_event* event,
                      depth_writer* depth) noexcept nogil:
    """TRADE, PREVENTED: something happens to taker and maker. Who has nothing left has ended."""
    cdef order_route* maker = routes_find(&p.orders, event.maker_order_id)
    cdef order_route* taker = routes_find(&p.orders, event.order_id)
    _tell(p, record, event, maker, True)
    _tell(p, record, event, taker, False)
    if event.maker_leaves_lots == 0:
        routes_remove(&p.orders, maker)
    if event.leaves_lots == 0:
        routes_remove(&p.orders, taker)
    if event.kind == MB_TRADE:
        _trade(p, record, depth, event)
    _level(p, record, depth, MB_SELL if event.side == MB_BUY else MB_BUY, event.price_ticks, event.level_lots)


cdef void _on_amended(publisher* p, const mb_record* record, const mb_event* event,
                      depth_writer* depth) noexcept nogil:
    """The level that it left, unless it is the one where it stands; and that one, unless it takes first."""
    _tell(p, record, event, routes_find(&p.orders, event.order_id), False)
    if not event.flags & MB_RESTING or event.previous_price_ticks != event.price_ticks:
        _level(p, record, depth, event.side, event.previous_price_ticks, event.previous_level_lots)
    if event.flags & MB_RESTING:
        _level(p, record, depth, event.side, event.price_ticks, event.level_lots)


cdef void _on_event(publisher* p, const mb_record* record, const mb_event* event) noexcept nogil:
    cdef depth_writer* depth = p.depths[event.market] if MB_NEW_ORDER <= record.kind <= MB_AMEND_ORDER \
        and record.reject == MB_NONE else NULL
    cdef order_route* order
    p.events += 1
    if event.kind == MB_TRADE or event.kind == MB_PREVENTED:
        _on_meeting(p, record, event, depth)
    elif event.kind == MB_RESTED:
        _level(p, record, depth, event.side, event.price_ticks, event.level_lots)
    elif event.kind == MB_AMENDED:
        _on_amended(p, record, event, depth)
    elif event.kind == MB_REJECTED:
        _tell_refused(p, record, event)
        if record.kind == MB_NEW_ORDER and (record.reject == MB_NONE or record.session == 0):
            # The matcher refused it; or it was released, so it is known whoever refused it.
            routes_remove(&p.orders, routes_find(&p.orders, record.sequence))
    elif event.kind == MB_BALANCE:
        _tell_balance(p, record, event)
    else:
        # ACCEPTED, TRIGGERED; CANCELED and EXPIRED are the end. What did not stand on the book changes no level.
        order = routes_find(&p.orders, event.order_id)
        _tell(p, record, event, order, False)
        if event.flags & MB_RESTING:
            _level(p, record, depth, event.side, event.price_ticks, event.level_lots)
        if event.kind == MB_CANCELED or event.kind == MB_EXPIRED:
            routes_remove(&p.orders, order)
    if event.flags & MB_LAST and p.best_moved:
        p.best_moved = 0
        _best(p, record, depth)


# ---- records ---------------------------------------------------------------------------------------------

cdef void _attach(publisher* p, const mb_named_record* record) noexcept nogil:
    cdef report_slot* slot
    cdef mb_report* report
    if record.slot >= p.slots or not p.slot_table[record.slot].open or p.slot_table[record.slot].ending:
        return  # replayed: its memory is long gone; or another attachment's last reports are still there
    slot = &p.slot_table[record.slot]
    if p.shadow:
        reports_anew(slot)
    slot.session = record.id
    slot.attached_at = record.sequence
    slot.full = 0
    slot.filled = 0
    slot.read = slot.reports.position
    slot.answered = record.position
    slot.assurance = record.assurance if record.assurance else <uint8_t>MB_MATCHED
    slot.reports.ring.answered.assurance = slot.assurance
    p.slot_of[record.id] = <uint16_t>record.slot
    report = _report(p, record.id, <const mb_record*>record)
    if report != NULL:
        report.kind = MB_REPORT_ATTACHED
        report.account = record.account
        report.command_position = record.position
        memcpy(report.client_order_id, record.name, 36)


cdef inline bint _waits(const publisher* p, const report_slot* slot) noexcept nogil:
    """Are its reports held until their records have its assurance? A shadow's are for nobody: they need not be."""
    return slot.assurance > MB_MATCHED and not p.shadow


cdef void _end(report_slot* slot) noexcept nogil:
    """Its last report is out."""
    slot.ending = 0
    slot.session = 0
    mb_store_release32(&slot.reports.ring.header.state, MB_RING_CLOSED)
    wake_session(slot)


cdef void _detach(publisher* p, uint32_t session, uint16_t reason, const mb_record* record) noexcept nogil:
    cdef uint16_t number = p.slot_of[session] if session <= p.max_sessions else <uint16_t>NO_SLOT
    cdef report_slot* slot
    cdef mb_report* report
    cdef uint32_t i = 0
    while i < p.subscription_count:
        if p.subscriptions[i].session == session:
            p.subscription_count -= 1
            p.subscriptions[i] = p.subscriptions[p.subscription_count]
        else:
            i += 1
    if number == NO_SLOT:
        return
    slot = &p.slot_table[number]
    # The kept place: one is free even if `full`.
    report = <mb_report*>mb_producer_slot(&slot.reports, slot.filled)
    mb_clear_record(report)
    report.kind = MB_REPORT_DETACHED
    report.reason = reason
    report.sequence = record.sequence
    report.timestamp_ns = record.timestamp_ns
    report.assurance = slot.assurance
    report.command_position = slot.answered
    slot.filled += 1
    p.slot_of[session] = NO_SLOT
    if mb_unlikely(_waits(p, slot)):
        slot.ending = slot.touched = 1
        return
    mb_publish(&slot.reports, slot.filled)
    slot.filled = 0
    slot.touched = 0
    _end(slot)


cdef void _subscribe(publisher* p, uint32_t session, uint32_t account, bint on) noexcept nogil:
    cdef uint32_t i
    for i in range(p.subscription_count):
        if p.subscriptions[i].session == session and p.subscriptions[i].account == account:
            if not on:
                p.subscription_count -= 1
                p.subscriptions[i] = p.subscriptions[p.subscription_count]
            return
    if on and p.subscription_count < p.max_subscriptions:
        p.subscriptions[p.subscription_count].session = session
        p.subscriptions[p.subscription_count].account = account
        p.subscription_count += 1


cdef void _begin_record(publisher* p, const mb_record* record) noexcept nogil:
    """What a record means before its events: an order to remember, a session to route to."""
    cdef const mb_named_record* named = <const mb_named_record*>record
    cdef order_route* order
    cdef order_route* pending
    cdef uint32_t session
    if record.reject != MB_NONE and (record.session or record.kind != MB_NEW_ORDER):
        return
    if record.kind == MB_NEW_ORDER:
        order = routes_add(&p.orders, record.sequence, record.client_order_id)
        order.account = record.account
        order.market = record.market
        order.session = record.session
        order.side = record.side
        if mb_unlikely(record.session == 0):
            pending = routes_find(&p.orders, _id_before(p, record))
            order.session = pending.session
            routes_remove(&p.orders, pending)
    elif record.kind == MB_RELEASE:
        p.release, p.release_list = record.sequence, (<const mb_list_record*>record).list_id
    elif record.kind == MB_ATTACH_SESSION:
        _attach(p, named)
    elif record.kind == MB_DETACH_SESSION:
        _detach(p, named.id, named.reason, record)
    elif record.kind == MB_LOGOUT:
        _detach(p, record.session, MB_LOGGED_OUT, record)
    elif record.kind == MB_SUBSCRIBE or record.kind == MB_UNSUBSCRIBE:
        _subscribe(p, record.session, record.account, record.kind == MB_SUBSCRIBE)
    elif record.kind == MB_ADD_MARKET:
        depth_open(p.depths[record.market])
    elif record.kind == MB_REMOVE_MARKET:
        depth_close(p.depths[record.market])
    elif record.kind == MB_LOST and record.order_id == record.sequence:
        for session in range(1, p.max_markets + 1):
            if p.depths[session] != NULL:
                p.depths[session].update += MB_LOST_NUMBERS
    elif record.kind == MB_START or record.kind == MB_STOP:
        for session in range(1, p.max_sessions + 1):
            if p.slot_of[session] != NO_SLOT:
                _detach(p, session, MB_ENGINE_STOPPED, record)
        p.subscription_count = 0


cdef void _end_record(publisher* p, const mb_record* record, bint has_events) noexcept nogil:
    """After the last event: records without events are answered here, and the sender's position moves on."""
    cdef mb_report* report
    cdef uint16_t number
    if record.session == 0 or record.session > p.max_sessions:
        return
    if not has_events:
        report = _report(p, record.session, record)
        if report != NULL:
            report.kind = MB_REPORT_DONE
            report.command_position = record.session_position
            report.account = record.account
            if MB_ADD_ASSET <= record.kind <= MB_DETACH_SESSION:
                # What was named or numbered by the record: the session of an attachment, the market of a definition.
                report.order_id = (<const mb_named_record*>record).id
            else:
                report.market = record.market
            if record.kind == MB_ATTACH_SESSION:
                report.quantity_lots = <int64_t>(<const mb_named_record*>record).position
            memcpy(report.client_order_id, record.client_order_id, 36)
    number = p.slot_of[record.session]
    if number != NO_SLOT:
        p.slot_table[number].answered = record.session_position
        p.slot_table[number].touched = 1


cdef inline int _source_of(const publisher* p, const mb_record* record) noexcept nogil:
    """The source that answers a record, or -1."""
    if record.reject != MB_NONE:
        return 0
    if MB_NEW_ORDER <= record.kind <= MB_AMEND_ORDER:
        if mb_unlikely(record.flags & (MB_LEG | MB_OF_PENDING) != 0) and (
                (<const mb_new_order*>record).has_terms & MB_IS_PENDING if record.kind == MB_NEW_ORDER
                else record.flags & MB_OF_PENDING):
            return 0
        return 1 + p.market_source[record.market]
    return 0 if _moves_money(record.kind) else -1


# ---- reports that wait ---------------------------------------------------------------------------------

cdef inline uint64_t _held_sequence(const report_slot* slot, uint64_t ahead) noexcept nogil:
    return (<const mb_report*>mb_producer_slot(&slot.reports, ahead)).sequence


cdef void _hold(publisher* p, uint32_t number) noexcept nogil:
    """Keep what is filled until its records have the session's assurance."""
    cdef report_slot* slot = &p.slot_table[number]
    # In this order: who sees the answer sees the room that it takes, held or published (Sequencer, _note).
    mb_store_release(&slot.reports.ring.answered.held, slot.filled)
    mb_store_release(&slot.reports.ring.answered.value, slot.answered)
    if slot.filled and not slot.holding:
        slot.holding = 1
        p.holding[p.holding_count] = <uint16_t>number
        p.holding_count += 1


cdef uint64_t _publish_reached(report_slot* slot, uint64_t reached) noexcept nogil:
    """Publish the reports of records up to `reached`; returns how many. They are in the order of their records."""
    cdef uint64_t low = 0, high = slot.filled, middle
    if high == 0 or _held_sequence(slot, 0) > reached:
        return 0
    while low < high:
        middle = (low + high) // 2
        if _held_sequence(slot, middle) <= reached:
            low = middle + 1
        else:
            high = middle
    mb_publish(&slot.reports, low)
    slot.filled -= low
    mb_store_release(&slot.reports.ring.answered.held, slot.filled)
    if slot.ending and slot.filled == 0:
        _end(slot)
    wake_session(slot)
    return low


cdef int64_t _release(publisher* p) noexcept nogil:
    """Publish the held reports that the cursors have passed; returns how many. Looks at sessions that hold some."""
    # Acquire: what the journaler has on the disk, and the standby has done, comes before anybody is told.
    cdef uint64_t durable = mb_load_acquire(p.durable)
    cdef uint64_t replicated = mb_load_acquire(p.replicated)
    cdef report_slot* slot
    cdef uint32_t i = 0
    cdef int64_t done = 0
    if replicated < durable:
        replicated = durable
    while i < p.holding_count:
        slot = &p.slot_table[p.holding[i]]
        done += <int64_t>_publish_reached(slot, durable if slot.assurance == MB_DURABLE else replicated)
        if slot.filled:
            i += 1
        else:
            slot.holding = 0
            p.holding_count -= 1
            p.holding[i] = p.holding[p.holding_count]
    if p.shown != p.holding_count:
        p.shown = p.holding_count
        mb_store_release(&p.log.ring.answered.held, p.shown)
    return done


cdef void _flush(publisher* p) noexcept nogil:
    cdef uint32_t i
    cdef report_slot* slot
    for i in range(p.slots):
        slot = &p.slot_table[i]
        if slot.touched:
            slot.touched = 0
            if mb_unlikely(_waits(p, slot)):
                _hold(p, i)
                continue
            if slot.filled:
                mb_publish(&slot.reports, slot.filled)
                slot.filled = 0
            mb_store_release(&slot.reports.ring.answered.value, slot.answered)
            wake_session(slot)


cdef inline void _ahead(const publisher* p, const mb_record* far, const mb_record* near) noexcept nogil:
    """Fetch the routes of orders that coming records name, and where those that they create will stand."""
    index_prefetch(&p.orders.by_id, far.order_id)
    index_prefetch(&p.orders.by_id, far.sequence)
    mb_prefetch(&p.orders.slab[index_guess(&p.orders.by_id, near.order_id)])


cdef int64_t _poll(void* state) noexcept nogil:
    cdef publisher* p = <publisher*>state
    cdef const mb_record* record
    cdef const mb_event* event
    cdef mb_reader* reader
    cdef int source
    cdef uint32_t done = 0
    cdef int64_t work = 0
    cdef bint last
    if mb_unlikely(p.kept != NULL) and p.kept_room - p.kept_count < KEPT_OF_RECORD * <uint64_t>p.batch:
        return 0
    while done < p.batch and work < 4 * <int64_t>p.batch and mb_reader_ready(&p.log, done + 1) > done:
        record = <const mb_record*>mb_reader_slot(&p.log, done)
        source = _source_of(p, record)
        if not p.in_record and mb_reader_ready(&p.log, 1) > done + AHEAD_ENTRY:
            _ahead(p, <const mb_record*>mb_reader_slot(&p.log, done + AHEAD_ENTRY),
                   <const mb_record*>mb_reader_slot(&p.log, done + AHEAD_ORDER))
        if source >= 0 and mb_reader_ready(&p.sources[source], 1) == 0:
            break
        mb_take_in_hand(p.hand, record.sequence)
        if not p.in_record:
            _begin_record(p, record)
            p.in_record = 1
        if source >= 0:
            reader = &p.sources[source]
            last = False
            while not last and work < 4 * <int64_t>p.batch and mb_reader_ready(reader, 1):
                event = <const mb_event*>mb_reader_slot(reader, 0)
                last = event.flags & MB_LAST
                mb_take_poison(&p.poison, event.quantity_lots if event.kind == MB_ACCEPTED else 0)
                _on_event(p, record, event)
                mb_reader_advance(reader, 1)
                work += 1
            if not last:
                break
        _end_record(p, record, source >= 0)
        p.in_record = 0
        done += 1
        work += 1
    mb_take_in_hand(p.hand, 0)
    if work:
        _flush(p)
        for source in range(<int>p.source_count):
            mb_release(&p.sources[source])
        mb_reader_advance(&p.log, done)
        mb_release(&p.log)
        p.released = p.log.position
    if mb_unlikely(p.holding_count != 0):
        work += _release(p)
    return work


cdef class Publisher(Agent):
    """The publisher of an exchange.

    log           the log ring; this agent is gating reader `log_reader`, the journaler `journal_reader`; None: no
                  journaler, and no record is ever durable
    sources       event rings: the ledger's, then the matchers'; gating reader `source_reader` of each
    market_data   the public, lossy ring; the publisher is its producer
    max_orders    live orders, plus what can be in flight in the log

    All methods are called by the thread that polls, or while nothing polls.
    """

    def __cinit__(self, Ring log not None, list sources not None, Ring market_data not None, *,
                  uint32_t log_reader=0, journal_reader=None, uint32_t source_reader=0, uint32_t ledger_reader=0,
                  uint32_t slots=64, uint32_t max_sessions=4096, uint32_t max_markets=1024,
                  uint32_t max_orders=65536, uint32_t max_subscriptions=4096, uint32_t batch=256, uint64_t seed=0):
        cdef publisher* p = &self.state
        cdef Ring ring
        cdef uint32_t i
        if not 1 <= len(sources) <= PUBLISHER_SOURCES:
            raise BadArgument(f"1 to {PUBLISHER_SOURCES} event rings: sources={len(sources)}")
        self.name = "publisher"
        self._kept = [log, sources, market_data, [None] * slots, {}]
        mb_reader_attach(&p.log, log.ring, log_reader)
        for i in range(len(sources)):
            ring = sources[i]
            mb_reader_attach(&p.sources[i], ring.ring, ledger_reader if i == 0 else source_reader)
        p.source_count = len(sources)
        p.durable = &p.never if journal_reader is None else &log.ring.readers[<uint32_t>journal_reader].value
        p.replicated = &log.ring.readers[MB_RING_REPLICATED].value
        mb_lossy_attach(&p.market_data, market_data.ring)
        p.slots, p.max_sessions, p.max_markets = slots, max_sessions, max_markets
        p.max_subscriptions, p.batch = max_subscriptions, batch
        p.slot_table = <report_slot*>calloc(slots, sizeof(report_slot))
        p.slot_of = <uint16_t*>calloc(max_sessions + 1, sizeof(uint16_t))
        p.market_source = <uint8_t*>calloc(max_markets + 1, 1)
        p.depths = <depth_writer**>calloc(max_markets + 1, sizeof(depth_writer*))
        p.subscriptions = <subscription*>calloc(max_subscriptions, sizeof(subscription))
        p.holding = <uint16_t*>calloc(slots, sizeof(uint16_t))
        if not (p.holding and p.slot_table and p.slot_of and p.market_source and p.depths and p.subscriptions):
            raise MemoryError(f"publisher: sessions={max_sessions}, markets={max_markets}")
        memset(p.slot_of, 0xFF, (max_sessions + 1) * sizeof(uint16_t))
        # An order leaves this table when its last event is published, which may be a whole log later.
        routes_allocate(&p.orders, max_orders + <uint32_t>log.ring.header.capacity)
        self.c_agent.poll = _poll
        self.c_agent.state = p
        self.show_hand(&self.hand, None)

    cdef void show_hand(self, mb_in_hand* hand, object board):
        self._board = board
        self.state.hand = hand
        hand.task = MB_PUBLISHING

    def poison(self, int64_t lots):
        """For drills, as of a matcher."""
        self.state.poison.lots = lots

    def __dealloc__(self):
        cdef publisher* p = &self.state
        free(p.kept)
        free(p.holding)
        free(p.slot_table)
        free(p.slot_of)
        free(p.market_source)
        free(p.depths)
        free(p.subscriptions)
        routes_free(&p.orders)

    def place_market(self, uint32_t market, uint32_t matcher, DepthTable depth not None):
        """Say which matcher (from 0) handles a market and where its depth is kept; before the market is added.

        Raises BadArgument, also if the market is placed already.
        """
        if market == 0 or market > self.state.max_markets or matcher + 1 >= self.state.source_count:
            raise BadArgument(
                f"no such place: market={market}, maximum={self.state.max_markets}, "
                f"matcher={matcher}, matchers={self.state.source_count - 1}"
            )
        if self.state.depths[market] != NULL:
            raise BadArgument(f"this market is placed already: market={market}")
        self.state.market_source[market] = <uint8_t>matcher
        self.state.depths[market] = &depth.writer
        self._kept[4][market] = depth

    def take_market(self, uint32_t market):
        """The DepthTable of a market that was removed, or not added yet, to be given back; None if there is none.

        Raises BadArgument while the market is open.
        """
        if market == 0 or market > self.state.max_markets or self.state.depths[market] == NULL:
            return None
        if self.state.depths[market].open:
            raise BadArgument(f"this market is open: market={market}")
        self.state.depths[market] = NULL
        return self._kept[4].pop(market)

    def open_session(self, uint32_t slot, Ring commands not None, Ring reports not None, int doorbell=-1):
        """Make a session's two rings known; an ATTACH_SESSION record for this slot starts its reports.

        doorbell   an eventfd that is written when a session that waits for it has reports; open until close_session()
        """
        cdef report_slot* place
        if slot >= self.state.slots:
            raise BadArgument(f"no such session slot: slot={slot}, slots={self.state.slots}")
        place = &self.state.slot_table[slot]
        if place.open:
            raise BadArgument(f"session slot is in use: slot={slot}")
        memset(place, 0, sizeof(report_slot))
        mb_producer_attach(&place.reports, reports.ring)
        # A session's report ring is gated by what the bot writes into its command segment.
        place.commands = commands.ring
        place.doorbell = doorbell + 1
        place.open = 1
        self._kept[3][slot] = (commands, reports)

    def close_session(self, uint32_t slot):
        """Forget a slot's memory. Raises BadArgument while a session is attached to it."""
        cdef report_slot* place = &self.state.slot_table[slot]
        if place.session or place.ending:
            raise BadArgument(f"a session is attached: slot={slot}, session={place.session}")
        place.open = 0
        place.doorbell = 0
        self._kept[3][slot] = None

    # -- an archive's

    def keep_reports(self):
        """Keep every report from now on, whoever its session is: as its account's own, each once, in the order of the
        stream. poll() does nothing while kept_reports() is not called often enough.
        """
        cdef publisher* p = &self.state
        if p.kept == NULL:
            p.kept_room = 4 * KEPT_OF_RECORD * <uint64_t>p.batch
            p.kept = <mb_report*>calloc(p.kept_room, sizeof(mb_report))
            if p.kept == NULL:
                raise MemoryError(f"publisher: reports={p.kept_room}")

    def kept_reports(self):
        """The reports that were kept since the last call, an array of REPORT."""
        cdef publisher* p = &self.state
        cdef uint64_t count = p.kept_count
        found = np.zeros(count, REPORT)
        cdef uint8_t[::1] target
        if count:
            target = found.view(np.uint8)
            memcpy(&target[0], p.kept, count * sizeof(mb_report))
        p.kept_count = 0
        return found

    # -- a standby's, see succession.pxd

    @property
    def shadow(self):
        """Does it write for nobody?"""
        return bool(self.state.shadow)

    @shadow.setter
    def shadow(self, bint value):
        self.state.shadow = value

    def adopt_session(self, uint32_t slot, Ring commands not None, Ring reports not None, uint64_t opened_after,
                      int doorbell=-1):
        """Go on in a session's living rings, which were opened after log record `opened_after`.

        Returns the number of the session that is attached, 0 if none is. Raises SegmentError if there are more reports
        than we know of.
        """
        cdef report_slot* place = &self.state.slot_table[slot]
        if not place.open or place.reports.mask != reports.ring.header.capacity - 1:
            raise BadArgument(f"no session was followed here: slot={slot}")
        if not adopt_reports(&self.state, place, commands.ring, reports.ring, opened_after):
            raise SegmentError(f"more reports than the log gives: session={place.session}, reports={reports.produced}")
        self._kept[3][slot] = (commands, reports)
        place.doorbell = doorbell + 1
        # The dead one may have published, and not come to say so.
        wake_session(place)
        return place.session

    def adopt_depth(self, uint32_t market, buffer not None):
        """Write a market's living depth table from now on; show_depths() ends it."""
        cdef DepthTable table = self._kept[4][market]
        adopt_depth(&table.writer, table_of(buffer, table.writer.table.capacity))
        table.buffer = buffer

    def adopt_market_data(self, Ring ring not None):
        """Publish what the living market-data ring lacks there, and go on in it. Raises SegmentError if it has more."""
        if not adopt_market_data(&self.state, ring.ring):
            raise SegmentError(f"more market data than the log gives: produced={ring.produced}")
        self._kept[2] = ring

    def show_depths(self):
        """Let readers see the depth tables that were adopted, and bots their reports; it is no shadow any more."""
        self.state.shadow = False
        for table in self._kept[4].values():
            show_depth(&(<DepthTable>table).writer)
        _flush(&self.state)

    @property
    def position(self):
        """Sequence of the last log record whose outputs are out, reports that wait for an assurance included."""
        cdef uint64_t done = self.state.released
        cdef uint32_t i
        for i in range(self.state.holding_count):
            done = min(done, _held_sequence(&self.state.slot_table[self.state.holding[i]], 0) - 1)
        return done

    @property
    def counters(self):
        """Events read, reports written, reports dropped for want of room, live orders."""
        return {
            "events": self.state.events,
            "reports": self.state.reports,
            "dropped": self.state.dropped,
            "live_orders": self.state.orders.count,
        }

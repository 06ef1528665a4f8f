"""Orders that wait for a trigger: the structures and their checking. What they are is in triggers.pxd."""

from libc.stdint cimport INT64_MAX, int64_t, uint32_t, uint64_t
from matchbox.core.book cimport (
    BEGINS, SHOWS, TRAILS, WAITS, book, book_find, book_queue, book_unqueue, hash_mix, order, special,
    terms_trailing_bips,
)
from matchbox.core.price_index cimport BID, price_index_find, price_index_next, price_index_remove, price_key, price_of
from matchbox.core.trailing cimport (
    trailing_begin, trailing_best, trailing_collect, trailing_create, trailing_destroy, trailing_narrow, trailing_pop,
    trailing_queued, trailing_reaches, trailing_remove, trailing_validate,
)
from matchbox.shm.records cimport MB_STOP_LOSS, MB_STOP_LOSS_LIMIT


cdef int triggers_create(triggers* t, uint32_t max_specials) except -1:
    trailing_create(&t.trails, max_specials)
    t.rise_at = INT64_MAX
    t.fall_at = 0
    t.last_price = 0
    t.first = t.last = t.count = 0
    return 0


cdef void triggers_destroy(triggers* t) noexcept nogil:
    trailing_destroy(&t.trails)


# ---- what reaches anything -------------------------------------------------------------------------------

cdef void _set_bounds(triggers* t, const book* b) noexcept nogil:
    cdef uint32_t side, level
    t.rise_at = INT64_MAX
    t.fall_at = 0
    for side in range(FALL, BEGIN_RISE + 1):
        level = b.prices.best[side]
        if level == 0:
            continue
        if side & 1:
            t.rise_at = min(t.rise_at, price_of(&b.prices.levels[level]))
        else:
            t.fall_at = max(t.fall_at, price_of(&b.prices.levels[level]))
    trailing_narrow(&t.trails, &t.rise_at, &t.fall_at)


cdef inline bint _rises(uint32_t side, uint32_t order_type) noexcept nogil:
    """Is the trigger reached from below?"""
    return (side == BID) == (order_type == MB_STOP_LOSS or order_type == MB_STOP_LOSS_LIMIT)


cdef bint trigger_reached(uint32_t side, uint32_t order_type, int64_t trigger, int64_t price) noexcept nogil:
    return price >= trigger if _rises(side, order_type) else price <= trigger


cdef bint triggers_reaches(const triggers* t, const book* b, int64_t price) noexcept nogil:
    return b.prices.levels[b.prices.best[RISE]].key <= price_key(RISE, price) \
        or b.prices.levels[b.prices.best[FALL]].key <= price_key(FALL, price) or trailing_reaches(&t.trails, price)


# ---- in and out ------------------------------------------------------------------------------------------

cdef void triggers_add(triggers* t, book* b, uint32_t slot) noexcept nogil:
    cdef special* s = &b.specials[b.orders[slot].special]
    cdef bint trails = terms_trailing_bips(b.orders[slot].terms) != 0, rises
    t.count += 1
    if trails and (s.trigger == 0 or (t.last_price and trigger_reached(s.side, s.order_type, s.trigger,
                                                                       t.last_price))):
        trailing_begin(&t.trails, b, slot, t.last_price, &t.rise_at, &t.fall_at)
        return
    s.state = BEGINS if trails else WAITS
    rises = _rises(s.side, s.order_type)
    book_queue(b, slot, (BEGIN_FALL if trails else FALL) + rises, s.trigger, b.orders[slot].leaves_lots)
    if rises:
        t.rise_at = min(t.rise_at, s.trigger)
    else:
        t.fall_at = max(t.fall_at, s.trigger)


cdef void triggers_remove(triggers* t, book* b, uint32_t slot) noexcept nogil:
    cdef uint32_t number = b.orders[slot].special, root = 0
    cdef special* s = &b.specials[number]
    # rise_at and fall_at may now stop at nothing: the next fill that reaches them sets them right.
    t.count -= 1
    if s.state == TRAILS:
        if trailing_remove(&t.trails, b, number, &root):
            _unlink(t, b, slot, b.specials[root].slot if root else 0)
    elif t.first and s.state == WAITS and price_index_find(&b.prices, FALL + _rises(s.side, s.order_type),
                                                           s.trigger) == 0:
        # Its level has been collected: within one record none is made again.
        _unlink(t, b, slot, 0)
    else:
        book_unqueue(b, slot)
    s.state = SHOWS
    s.left = s.right = s.parent = s.rank = 0
    b.orders[slot].level = 0


cdef void _unlink(triggers* t, book* b, uint32_t slot, uint32_t instead) noexcept nogil:
    """Take `slot` out of the queue; `instead`, if it is not 0, takes its place."""
    cdef uint32_t before = b.orders[slot].prev, after = b.orders[slot].next
    if instead:
        b.orders[instead].prev, b.orders[instead].next = before, after
    # orders[0] is there to be written to.
    b.orders[before].next = instead if instead else after
    b.orders[after].prev = instead if instead else before
    if before == 0:
        t.first = instead if instead else after
    if after == 0:
        t.last = instead if instead else before


# ---- after a fill ----------------------------------------------------------------------------------------

cdef inline void _append(triggers* t, book* b, uint32_t first, uint32_t last) noexcept nogil:
    b.orders[first].prev = t.last
    if t.last:
        b.orders[t.last].next = first
    else:
        t.first = first
    t.last = last
    b.orders[last].next = 0


cdef bint _collect_levels(triggers* t, book* b, uint32_t side, int64_t price, int* work) noexcept nogil:
    """Queue all orders of the levels that `price` reaches."""
    cdef uint64_t key = price_key(side, price)
    cdef uint32_t number
    while b.prices.levels[b.prices.best[side]].key <= key:
        if work[0] <= 0:
            return False
        work[0] -= 1
        number = b.prices.best[side]
        _append(t, b, b.prices.levels[number].first, b.prices.levels[number].last)
        price_index_remove(&b.prices, number)
    return True


cdef bint _collect_begins(triggers* t, book* b, uint32_t side, int64_t price, int* work) noexcept nogil:
    cdef uint64_t key = price_key(side, price)
    cdef uint32_t slot
    while b.prices.levels[b.prices.best[side]].key <= key:
        if work[0] <= 0:
            return False
        work[0] -= 1
        slot = b.prices.levels[b.prices.best[side]].first
        book_unqueue(b, slot)
        trailing_begin(&t.trails, b, slot, price, &t.rise_at, &t.fall_at)
    return True


cdef bint triggers_collect(triggers* t, book* b, int64_t price, int* work) noexcept nogil:
    cdef uint32_t root
    if not _collect_levels(t, b, RISE, price, work) or not _collect_levels(t, b, FALL, price, work) \
            or not trailing_collect(&t.trails, b, price, work) \
            or not _collect_begins(t, b, BEGIN_RISE, price, work) \
            or not _collect_begins(t, b, BEGIN_FALL, price, work):
        return False
    root = t.trails.triggered
    if root:
        t.trails.triggered = 0
        trailing_queued(b, root)
        _append(t, b, b.specials[root].slot, b.specials[root].slot)
    _set_bounds(t, b)
    return True


cdef uint32_t triggers_next(triggers* t, book* b) noexcept nogil:
    cdef uint32_t slot = t.first, root = 0
    cdef special* s = &b.specials[b.orders[slot].special]
    if s.state == TRAILS:
        root = trailing_pop(b, b.orders[slot].special)
    # What is left of a heap stands where its root stood.
    _unlink(t, b, slot, b.specials[root].slot if root else 0)
    s.state = SHOWS
    s.left = s.right = s.parent = s.rank = 0
    b.orders[slot].level = 0
    t.count -= 1
    return slot


# ---- looking at it ---------------------------------------------------------------------------------------

cdef uint64_t triggers_hash(const triggers* t, const book* b) noexcept nogil:
    """With mix() as in book.pyx: h = 0; mix in the last price, the number of orders that wait, and the sum (mod 2^64)
    of their own hashes. That of one is h = 0, then its id, account, side, order type, time in force, price,
    trigger, hold, quantity, display quantity, terms, state, of one of a pair the other's id, and best price (0 if it
    has not begun to trail).

    Which is triggered first follows from these alone; triggers_validate() checks that the structures say the same.
    """
    cdef uint64_t total = 0, one
    cdef uint32_t number
    cdef const special* s
    cdef const order* o
    for number in range(1, b.max_specials + 1):
        s = &b.specials[number]
        if s.state == SHOWS:
            continue
        o = &b.orders[s.slot]
        one = hash_mix(0, s.order_id)
        one = hash_mix(one, o.account)
        one = hash_mix(one, s.side + 1)
        one = hash_mix(one, s.order_type)
        one = hash_mix(one, s.time_in_force)
        one = hash_mix(one, <uint64_t>s.price)
        one = hash_mix(one, <uint64_t>s.trigger)
        one = hash_mix(one, <uint64_t>s.hold)
        one = hash_mix(one, <uint64_t>o.leaves_lots)
        one = hash_mix(one, <uint64_t>s.display_lots)
        one = hash_mix(one, o.terms)
        one = hash_mix(one, s.state)
        if s.partner:
            one = hash_mix(one, b.orders[s.partner].order_id)
        total += hash_mix(one, <uint64_t>trailing_best(&t.trails, b, number) if s.state == TRAILS else 0)
    return hash_mix(hash_mix(hash_mix(0, <uint64_t>t.last_price), t.count), total)


cdef int _validate_side(const book* b, uint32_t side, uint32_t* seen) noexcept nogil:
    cdef uint32_t number = b.prices.best[side], slot, prev
    cdef uint64_t before
    cdef const special* s
    while number:
        slot = b.prices.levels[number].first
        prev = 0
        before = 0
        while slot:
            s = &b.specials[b.orders[slot].special]
            seen[0] += 1
            if s.state != (WAITS if side <= RISE else BEGINS) or s.slot != slot or b.orders[slot].prev != prev \
                    or b.orders[slot].level != number or book_find(b, s.order_id) != slot:
                return 48
            if s.order_id <= before or s.trigger != price_of(&b.prices.levels[number]) \
                    or _rises(s.side, s.order_type) != (side & 1 != 0):
                return 49
            before = s.order_id
            prev = slot
            slot = b.orders[slot].next
        number = price_index_next(&b.prices, number)
    return 0


cdef int triggers_validate(const triggers* t, const book* b) noexcept nogil:
    """0, or: 40 queue, 41 to 44 a heap, 45 an empty bucket, 46 links of groups, 47 their order, 48 a level's orders,
    49 in the wrong place, 50 counts, 51 bounds.
    """
    cdef uint32_t side, number, seen = 0, waiting = 0
    cdef triggers exact = t[0]
    cdef int failed
    if t.first or t.last:
        return 40
    for side in range(FALL, BEGIN_RISE + 1):
        failed = _validate_side(b, side, &seen)
        if failed:
            return failed
    failed = trailing_validate(&t.trails, b, &seen)
    if failed:
        return failed
    for number in range(1, b.max_specials + 1):
        waiting += b.specials[number].state != SHOWS
    if seen != t.count or waiting != t.count:
        return 50
    _set_bounds(&exact, b)
    return 0 if t.rise_at <= exact.rise_at and t.fall_at >= exact.fall_at else 51

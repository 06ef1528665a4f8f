"""Orders that wait for a trigger: the structures and their checking. What they are is in triggers.pxd."""

from libc.stdint cimport INT64_MAX, int64_t, uint16_t, uint32_t, uint64_t
from matchbox.core.arena cimport arena_map, arena_unmap
from matchbox.core.book cimport (
    BEGINS, SHOWS, TRAILS, WAITS, book, book_find, book_queue, book_unqueue, hash_mix, order, special,
    terms_trailing_bips,
)
from matchbox.core.price_index cimport BID, price_index_next, price_index_remove, price_key, price_of
from matchbox.shm.records cimport MB_STOP_LOSS, MB_STOP_LOSS_LIMIT

if sizeof(trailing_group) + sizeof(trailing_bucket) > 56:
    raise ImportError("triggers: a struct has not the size that the memory sums say")

cdef enum:
    # There are 2,000 distances, and two sides.
    MAX_BUCKETS = 4000
    # In special.group of a root: it is pending, and the rest is the bucket.
    PENDING = 1 << 31


cdef int triggers_create(triggers* t, uint32_t max_specials) except -1:
    cdef uint32_t buckets = max_specials if max_specials < MAX_BUCKETS else MAX_BUCKETS, i
    t.arena_bytes = (<size_t>max_specials + 1) * sizeof(trailing_group) \
        + (<size_t>buckets + 1) * sizeof(trailing_bucket)
    t.arena = arena_map(t.arena_bytes)
    t.group = <trailing_group*>t.arena
    t.bucket = <trailing_bucket*>(t.group + <size_t>max_specials + 1)
    for i in range(1, max_specials):
        t.group[i].root = i + 1
    for i in range(1, buckets):
        t.bucket[i].next = i + 1
    t.free_group = t.free_bucket = 1 if max_specials else 0
    t.rise_at = INT64_MAX
    t.fall_at = 0
    t.last_price = 0
    t.first = t.last = t.count = t.buckets = t.triggered = 0
    return 0


cdef void triggers_destroy(triggers* t) noexcept nogil:
    arena_unmap(t.arena, t.arena_bytes)
    t.arena = NULL
    t.arena_bytes = 0


# ---- heaps of specials: leftist, by order id ---------------------------------------------------------------

cdef uint32_t _meld(book* b, uint32_t x, uint32_t y) noexcept nogil:
    """One heap of two; either may be 0. As deep as right spines are long: logarithmic."""
    cdef special* s
    cdef uint32_t other
    if x == 0 or y == 0:
        return x | y
    if b.specials[y].order_id < b.specials[x].order_id:
        x, y = y, x
    s = &b.specials[x]
    other = _meld(b, s.right, y)
    b.specials[other].parent = x
    s.right = other
    _lean(b, s)
    s.parent = 0
    return x


cdef inline void _lean(book* b, special* s) noexcept nogil:
    """The higher child goes left; the rank is the length of the right spine."""
    if b.specials[s.left].rank < b.specials[s.right].rank:
        s.left, s.right = s.right, s.left
    s.rank = b.specials[s.right].rank + 1


cdef uint32_t _leave_heap(book* b, uint32_t x) noexcept nogil:
    """Take `x` out of its heap. Returns the new root if it was the root, else 0."""
    cdef special* s = &b.specials[x]
    cdef uint32_t child = _meld(b, s.left, s.right), up = s.parent, before
    if child:
        b.specials[child].parent = up
    if up == 0:
        return child
    s = &b.specials[up]
    if s.left == x:
        s.left = child
    else:
        s.right = child
    while True:
        # Ranks get less on the way up only as long as they are a right spine's: logarithmic, too.
        before = s.rank
        _lean(b, s)
        if s.rank == before or s.parent == 0:
            return 0
        s = &b.specials[s.parent]


# ---- buckets and groups ----------------------------------------------------------------------------------

cdef inline int64_t _signed(const trailing_bucket* bucket, int64_t price) noexcept nogil:
    """Less is better: what is `best` for the bucket's side."""
    return price if bucket.side == BID else -price


cdef inline int64_t _trigger_of(const trailing_bucket* bucket, int64_t best) noexcept nogil:
    """The price that triggers a group: from it on upwards for buys, downwards for sells."""
    if bucket.side == BID:
        return (best * (10000 + bucket.bips) + 9999) // 10000
    return best * (10000 - bucket.bips) // 10000


cdef inline bint _triggers(const trailing_bucket* bucket, int64_t best, int64_t price) noexcept nogil:
    return _signed(bucket, price) >= _signed(bucket, _trigger_of(bucket, best))


cdef uint32_t _bucket(triggers* t, uint32_t side, uint16_t bips) noexcept nogil:
    """The bucket of a side and distance, made if there was none."""
    cdef uint32_t number = t.buckets
    cdef trailing_bucket* bucket
    while number:
        bucket = &t.bucket[number]
        if bucket.bips == bips and bucket.side == side:
            return number
        number = bucket.next
    number = t.free_bucket
    bucket = &t.bucket[number]
    t.free_bucket = bucket.next
    bucket.near = bucket.far = bucket.pending = bucket.back = 0
    bucket.bips = bips
    bucket.side = <uint16_t>side
    bucket.next = t.buckets
    t.bucket[t.buckets].back = number
    t.buckets = number
    return number


cdef void _drop_if_empty(triggers* t, uint32_t number) noexcept nogil:
    cdef trailing_bucket* bucket = &t.bucket[number]
    if bucket.near or bucket.pending:
        return
    t.bucket[bucket.next].back = bucket.back
    if bucket.back:
        t.bucket[bucket.back].next = bucket.next
    else:
        t.buckets = bucket.next
    bucket.next = t.free_bucket
    t.free_bucket = number


cdef void _enter(triggers* t, book* b, uint32_t number, uint32_t root, int64_t best) noexcept nogil:
    """Put a heap into the bucket's group with this best price.

    The near end is the place, unless an operator has just set a reference price.
    """
    cdef trailing_bucket* bucket = &t.bucket[number]
    cdef uint32_t far = bucket.near, near = 0, made
    while far and _signed(bucket, t.group[far].best) > _signed(bucket, best):
        near = far
        far = t.group[far].far
    if far and t.group[far].best == best:
        root = _meld(b, t.group[far].root, root)
        t.group[far].root = root
        b.specials[root].group = far
        return
    made = t.free_group
    t.free_group = t.group[made].root
    t.group[made].best = best
    t.group[made].root = root
    t.group[made].near = near
    t.group[made].far = far
    t.group[made].bucket = number
    b.specials[root].group = made
    if far:
        t.group[far].near = made
    else:
        bucket.far = made
    if near:
        t.group[near].far = made
    else:
        bucket.near = made


cdef uint32_t _unlink(triggers* t, uint32_t number) noexcept nogil:
    """End a group; returns its heap."""
    cdef trailing_group* group = &t.group[number]
    cdef trailing_bucket* bucket = &t.bucket[group.bucket]
    cdef uint32_t root = group.root
    if group.near:
        t.group[group.near].far = group.far
    else:
        bucket.near = group.far
    if group.far:
        t.group[group.far].near = group.near
    else:
        bucket.far = group.near
    group.root = t.free_group
    t.free_group = number
    return root


# ---- what reaches anything -------------------------------------------------------------------------------

cdef void _narrow_to_bucket(triggers* t, const trailing_bucket* bucket) noexcept nogil:
    cdef int64_t moves, triggers_at
    if bucket.pending:
        t.rise_at = 0
    if bucket.near == 0:
        return
    moves = t.group[bucket.near].best
    triggers_at = _trigger_of(bucket, t.group[bucket.far].best)
    if bucket.side == BID:
        t.fall_at = max(t.fall_at, moves - 1)
        t.rise_at = min(t.rise_at, triggers_at)
    else:
        t.rise_at = min(t.rise_at, moves + 1)
        t.fall_at = max(t.fall_at, triggers_at)


cdef void _set_bounds(triggers* t, const book* b) noexcept nogil:
    cdef uint32_t side, level, number = t.buckets
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
    while number:
        _narrow_to_bucket(t, &t.bucket[number])
        number = t.bucket[number].next


cdef inline bint _rises(uint32_t side, uint32_t order_type) noexcept nogil:
    """Is the trigger reached from below?"""
    return (side == BID) == (order_type == MB_STOP_LOSS or order_type == MB_STOP_LOSS_LIMIT)


cdef bint trigger_reached(uint32_t side, uint32_t order_type, int64_t trigger, int64_t price) noexcept nogil:
    return price >= trigger if _rises(side, order_type) else price <= trigger


cdef bint triggers_reaches(const triggers* t, const book* b, int64_t price) noexcept nogil:
    cdef uint32_t number = t.buckets
    cdef const trailing_bucket* bucket
    if b.prices.levels[b.prices.best[RISE]].key <= price_key(RISE, price) \
            or b.prices.levels[b.prices.best[FALL]].key <= price_key(FALL, price):
        return True
    while number:
        bucket = &t.bucket[number]
        if bucket.far and _triggers(bucket, t.group[bucket.far].best, price):
            return True
        number = bucket.next
    return False


# ---- in and out ------------------------------------------------------------------------------------------

cdef void _begin(triggers* t, book* b, uint32_t slot, int64_t best) noexcept nogil:
    """Let an order trail from this price on; 0: from the first trade on."""
    cdef uint32_t number = b.orders[slot].special
    cdef special* s = &b.specials[number]
    cdef uint32_t bucket = _bucket(t, s.side, <uint16_t>terms_trailing_bips(b.orders[slot].terms))
    s.state = TRAILS
    s.left = s.right = s.parent = 0
    s.rank = 1
    if best:
        _enter(t, b, bucket, number, best)
    else:
        number = _meld(b, t.bucket[bucket].pending, number)
        t.bucket[bucket].pending = number
        b.specials[number].group = PENDING | bucket
    _narrow_to_bucket(t, &t.bucket[bucket])


cdef void triggers_add(triggers* t, book* b, uint32_t slot) noexcept nogil:
    cdef special* s = &b.specials[b.orders[slot].special]
    cdef bint trails = terms_trailing_bips(b.orders[slot].terms) != 0, rises
    t.count += 1
    if trails and (s.trigger == 0 or (t.last_price and trigger_reached(s.side, s.order_type, s.trigger,
                                                                       t.last_price))):
        _begin(t, b, slot, t.last_price)
        return
    s.state = BEGINS if trails else WAITS
    rises = _rises(s.side, s.order_type)
    book_queue(b, slot, (BEGIN_FALL if trails else FALL) + rises, s.trigger, b.orders[slot].leaves_lots)
    if rises:
        t.rise_at = min(t.rise_at, s.trigger)
    else:
        t.fall_at = max(t.fall_at, s.trigger)


cdef void triggers_remove(triggers* t, book* b, uint32_t slot) noexcept nogil:
    cdef uint32_t number = b.orders[slot].special, root, group
    cdef special* s = &b.specials[number]
    # rise_at and fall_at may now stop at nothing: the next fill that reaches them sets them right.
    t.count -= 1
    if s.state != TRAILS:
        book_unqueue(b, slot)
    else:
        root = _leave_heap(b, number)
        if s.parent == 0:
            group = s.group
            b.specials[root].group = group if root else 0
            if group & PENDING:
                t.bucket[group ^ PENDING].pending = root
                _drop_if_empty(t, group ^ PENDING)
            elif root:
                t.group[group].root = root
            else:
                _unlink(t, group)
                _drop_if_empty(t, t.group[group].bucket)
    s.state = SHOWS


# ---- after a fill ----------------------------------------------------------------------------------------

cdef inline void _append(triggers* t, book* b, uint32_t first, uint32_t last) noexcept nogil:
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


cdef bint _collect_bucket(triggers* t, book* b, uint32_t number, int64_t price, int* work) noexcept nogil:
    """Begin what is pending, move what `price` is a new best for, take out what it triggers."""
    cdef trailing_bucket* bucket = &t.bucket[number]
    cdef uint32_t root, far
    if bucket.pending:
        root = bucket.pending
        bucket.pending = 0
        _enter(t, b, number, root, price)
    while bucket.near and _signed(bucket, t.group[bucket.near].best) > _signed(bucket, price):
        if work[0] <= 0:
            return False
        work[0] -= 1
        far = t.group[bucket.near].far
        if far == 0 or _signed(bucket, t.group[far].best) < _signed(bucket, price):
            t.group[bucket.near].best = price
        else:
            # That one is of this price, or is to move, too: they go on as one.
            root = _meld(b, t.group[far].root, _unlink(t, bucket.near))
            t.group[far].root = root
            b.specials[root].group = far
    while bucket.far and _triggers(bucket, t.group[bucket.far].best, price):
        if work[0] <= 0:
            return False
        work[0] -= 1
        t.triggered = _meld(b, t.triggered, _unlink(t, bucket.far))
    _drop_if_empty(t, number)
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
        _begin(t, b, slot, price)
    return True


cdef bint triggers_collect(triggers* t, book* b, int64_t price, int* work) noexcept nogil:
    cdef uint32_t number = t.buckets, next
    if not _collect_levels(t, b, RISE, price, work) or not _collect_levels(t, b, FALL, price, work):
        return False
    while number:
        next = t.bucket[number].next
        if not _collect_bucket(t, b, number, price, work):
            return False
        number = next
    if not _collect_begins(t, b, BEGIN_RISE, price, work) or not _collect_begins(t, b, BEGIN_FALL, price, work):
        return False
    if t.triggered:
        _append(t, b, b.specials[t.triggered].slot, b.specials[t.triggered].slot)
        t.triggered = 0
    _set_bounds(t, b)
    return True


cdef uint32_t triggers_next(triggers* t, book* b) noexcept nogil:
    cdef uint32_t slot = t.first, after = b.orders[slot].next, root
    cdef special* s = &b.specials[b.orders[slot].special]
    if s.state == TRAILS:
        root = _meld(b, s.left, s.right)
        if root:
            # What is left of the heap stands where its root stood.
            b.specials[root].parent = 0
            b.orders[b.specials[root].slot].next = after
            after = b.specials[root].slot
    t.first = after
    if t.last == slot:
        t.last = after
    s.state = SHOWS
    s.left = s.right = s.parent = s.rank = 0
    b.orders[slot].level = 0
    t.count -= 1
    return slot


# ---- looking at it ---------------------------------------------------------------------------------------

cdef int64_t triggers_best(const triggers* t, const book* b, uint32_t number) noexcept nogil:
    while b.specials[number].parent:
        number = b.specials[number].parent
    return 0 if b.specials[number].group & PENDING else t.group[b.specials[number].group].best


cdef uint64_t triggers_hash(const triggers* t, const book* b) noexcept nogil:
    """With mix() as in book.pyx: h = 0; mix in the last price, the number of orders that wait, and the sum (mod 2^64)
    of their own hashes. That of one is h = 0, then its id, account, side, order type, time in force, price,
    trigger, hold, quantity, display quantity, terms, state, and best price (0 if it has not begun to trail).

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
        total += hash_mix(one, <uint64_t>triggers_best(t, b, number) if s.state == TRAILS else 0)
    return hash_mix(hash_mix(hash_mix(0, <uint64_t>t.last_price), t.count), total)


cdef int _validate_heap(const book* b, uint32_t number, uint32_t parent, const trailing_bucket* bucket,
                        uint32_t* seen) noexcept nogil:
    cdef const special* s
    cdef int failed
    while number:
        s = &b.specials[number]
        seen[0] += 1
        if s.state != TRAILS or s.parent != parent or b.orders[s.slot].special != number \
                or book_find(b, s.order_id) != s.slot or b.orders[s.slot].leaves_lots <= 0:
            return 41
        if parent and b.specials[parent].order_id >= s.order_id:
            return 42
        if s.rank != b.specials[s.right].rank + 1 or b.specials[s.left].rank < b.specials[s.right].rank:
            return 43
        if s.side != bucket.side or terms_trailing_bips(b.orders[s.slot].terms) != bucket.bips:
            return 44
        failed = _validate_heap(b, s.right, number, bucket, seen)
        if failed:
            return failed
        parent = number
        number = s.left
    return 0


cdef int _validate_bucket(const triggers* t, const book* b, uint32_t number, uint32_t* seen) noexcept nogil:
    cdef const trailing_bucket* bucket = &t.bucket[number]
    cdef uint32_t at = bucket.near, near = 0
    cdef int failed = _validate_heap(b, bucket.pending, 0, bucket, seen)
    if failed:
        return failed
    if bucket.near == 0 and bucket.pending == 0:
        return 45
    if bucket.pending and b.specials[bucket.pending].group != (PENDING | number):
        return 46
    while at:
        if t.group[at].bucket != number or t.group[at].near != near or t.group[at].root == 0 \
                or b.specials[t.group[at].root].group != at:
            return 46
        if near and _signed(bucket, t.group[near].best) <= _signed(bucket, t.group[at].best):
            return 47
        failed = _validate_heap(b, t.group[at].root, 0, bucket, seen)
        if failed:
            return failed
        near = at
        at = t.group[at].far
    return 0 if bucket.far == near else 46


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
    if t.first or t.last or t.triggered:
        return 40
    for side in range(FALL, BEGIN_RISE + 1):
        failed = _validate_side(b, side, &seen)
        if failed:
            return failed
    number = t.buckets
    while number:
        failed = _validate_bucket(t, b, number, &seen)
        if failed:
            return failed
        number = t.bucket[number].next
    for number in range(1, b.max_specials + 1):
        waiting += b.specials[number].state != SHOWS
    if seen != t.count or waiting != t.count:
        return 50
    _set_bounds(&exact, b)
    return 0 if t.rise_at <= exact.rise_at and t.fall_at >= exact.fall_at else 51

"""Trailing orders: heaps, groups and buckets. What they are is in trailing.pxd."""

from libc.stdint cimport int64_t, uint16_t, uint32_t
from matchbox.core.arena cimport arena_map, arena_unmap
from matchbox.core.book cimport TRAILS, book, book_find, special, terms_trailing_bips
from matchbox.core.price_index cimport BID

if sizeof(trailing_group) != 24 or sizeof(trailing_bucket) != 24:
    raise ImportError("trailing: a struct has not the size that its memory is reckoned with")

cdef enum:
    # There are 2,000 distances, and two sides.
    MAX_BUCKETS = 4000
    # In special.group of a root: it is pending, and the rest is the bucket.
    PENDING = 1 << 31
    # The same: its heap is triggered.
    TRIGGERED = 1 << 30


cdef int trailing_create(trailing* t, uint32_t capacity) except -1:
    cdef uint32_t buckets = capacity if capacity < MAX_BUCKETS else MAX_BUCKETS, i
    t.arena_bytes = (<size_t>capacity + 1) * sizeof(trailing_group) \
        + (<size_t>buckets + 1) * sizeof(trailing_bucket)
    t.arena = arena_map(t.arena_bytes)
    t.group = <trailing_group*>t.arena
    t.bucket = <trailing_bucket*>(t.group + <size_t>capacity + 1)
    for i in range(1, capacity):
        t.group[i].root = i + 1
    for i in range(1, buckets):
        t.bucket[i].next = i + 1
    t.free_group = t.free_bucket = 1 if capacity else 0
    t.buckets = t.triggered = 0
    return 0


cdef void trailing_destroy(trailing* t) noexcept nogil:
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


cdef uint32_t _bucket(trailing* t, uint32_t side, uint16_t bips) noexcept nogil:
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


cdef void _drop_if_empty(trailing* t, uint32_t number) noexcept nogil:
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


cdef void _enter(trailing* t, book* b, uint32_t number, uint32_t root, int64_t best) noexcept nogil:
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


cdef uint32_t _unlink(trailing* t, uint32_t number) noexcept nogil:
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

cdef void _narrow(const trailing* t, const trailing_bucket* bucket, int64_t* rise_at, int64_t* fall_at) noexcept nogil:
    cdef int64_t moves, triggers_at
    if bucket.pending:
        rise_at[0] = 0
    if bucket.near == 0:
        return
    moves = t.group[bucket.near].best
    triggers_at = _trigger_of(bucket, t.group[bucket.far].best)
    if bucket.side == BID:
        fall_at[0] = max(fall_at[0], moves - 1)
        rise_at[0] = min(rise_at[0], triggers_at)
    else:
        rise_at[0] = min(rise_at[0], moves + 1)
        fall_at[0] = max(fall_at[0], triggers_at)


cdef void trailing_narrow(const trailing* t, int64_t* rise_at, int64_t* fall_at) noexcept nogil:
    cdef uint32_t number = t.buckets
    while number:
        _narrow(t, &t.bucket[number], rise_at, fall_at)
        number = t.bucket[number].next


cdef bint trailing_reaches(const trailing* t, int64_t price) noexcept nogil:
    cdef uint32_t number = t.buckets
    cdef const trailing_bucket* bucket
    while number:
        bucket = &t.bucket[number]
        if bucket.far and _triggers(bucket, t.group[bucket.far].best, price):
            return True
        number = bucket.next
    return False


# ---- in and out ------------------------------------------------------------------------------------------

cdef void trailing_begin(trailing* t, book* b, uint32_t slot, int64_t best, int64_t* rise_at,
                         int64_t* fall_at) noexcept nogil:
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
    _narrow(t, &t.bucket[bucket], rise_at, fall_at)


cdef bint trailing_remove(trailing* t, book* b, uint32_t number, uint32_t* root_left) noexcept nogil:
    cdef special* s = &b.specials[number]
    cdef uint32_t root = _leave_heap(b, number), group = s.group
    if s.parent:
        return False
    b.specials[root].group = group if root else 0
    if group == TRIGGERED:
        root_left[0] = root
        return True
    if group & PENDING:
        t.bucket[group ^ PENDING].pending = root
        _drop_if_empty(t, group ^ PENDING)
    elif root:
        t.group[group].root = root
    else:
        _unlink(t, group)
        _drop_if_empty(t, t.group[group].bucket)
    return False


cdef void trailing_queued(book* b, uint32_t root) noexcept nogil:
    b.specials[root].group = TRIGGERED


cdef uint32_t trailing_pop(book* b, uint32_t number) noexcept nogil:
    cdef uint32_t root = _meld(b, b.specials[number].left, b.specials[number].right)
    if root:
        b.specials[root].parent = 0
        b.specials[root].group = TRIGGERED
    return root


# ---- after a fill ----------------------------------------------------------------------------------------

cdef bint _collect_bucket(trailing* t, book* b, uint32_t number, int64_t price, int* work) noexcept nogil:
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


cdef bint trailing_collect(trailing* t, book* b, int64_t price, int* work) noexcept nogil:
    cdef uint32_t number = t.buckets, next
    while number:
        next = t.bucket[number].next
        if not _collect_bucket(t, b, number, price, work):
            return False
        number = next
    return True


# ---- looking at it ---------------------------------------------------------------------------------------

cdef int64_t trailing_best(const trailing* t, const book* b, uint32_t number) noexcept nogil:
    while b.specials[number].parent:
        number = b.specials[number].parent
    return 0 if b.specials[number].group & PENDING else t.group[b.specials[number].group].best


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


cdef int _validate_bucket(const trailing* t, const book* b, uint32_t number, uint32_t* seen) noexcept nogil:
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


cdef int trailing_validate(const trailing* t, const book* b, uint32_t* seen) noexcept nogil:
    cdef uint32_t number = t.buckets
    cdef int failed
    while number:
        failed = _validate_bucket(t, b, number, seen)
        if failed:
            return failed
        number = t.bucket[number].next
    return 40 if t.triggered else 0

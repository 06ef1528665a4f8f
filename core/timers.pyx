"""Expiries and countdowns; see timers.pxd."""

from libc.stdint cimport uint32_t, uint64_t
from matchbox.core.arena cimport arena_map, arena_unmap
from matchbox.core.index cimport index_mix


cdef int timers_create(timers* t, uint32_t capacity, uint32_t max_countdowns) except -1:
    t.heap = <expiry*>arena_map((<size_t>capacity + 1) * sizeof(expiry))
    t.places = <uint32_t*>arena_map((<size_t>capacity + 1) * sizeof(uint32_t))
    t.countdowns = <countdown*>arena_map((<size_t>max_countdowns + 1) * sizeof(countdown))
    t.capacity, t.max_countdowns = capacity, max_countdowns
    t.next_ns = <uint64_t>-1
    return 0


cdef void timers_destroy(timers* t) noexcept:
    arena_unmap(t.heap, (<size_t>t.capacity + 1) * sizeof(expiry))
    arena_unmap(t.places, (<size_t>t.capacity + 1) * sizeof(uint32_t))
    arena_unmap(t.countdowns, (<size_t>t.max_countdowns + 1) * sizeof(countdown))


cdef void _look(timers* t) noexcept nogil:
    """Find when something is due next."""
    cdef uint32_t i
    t.next_ns = t.heap[1].due_ns if t.count else <uint64_t>-1
    for i in range(t.countdown_count):
        if t.countdowns[i].due_ns < t.next_ns:
            t.next_ns = t.countdowns[i].due_ns


# ---- the heap --------------------------------------------------------------------------------------------

cdef inline bint _before(const expiry* a, const expiry* b) noexcept nogil:
    return a.due_ns < b.due_ns or (a.due_ns == b.due_ns and a.order_id < b.order_id)


cdef inline void _put(timers* t, uint32_t place, const expiry* entry) noexcept nogil:
    t.heap[place] = entry[0]
    t.places[entry.slot] = place


cdef void _settle(timers* t, uint32_t place, expiry entry) noexcept nogil:
    """Put `entry` at `place`, or where it belongs above or below it."""
    cdef uint32_t child
    while place > 1 and _before(&entry, &t.heap[place // 2]):
        _put(t, place, &t.heap[place // 2])
        place //= 2
    while 2 * place <= t.count:
        child = 2 * place
        if child < t.count and _before(&t.heap[child + 1], &t.heap[child]):
            child += 1
        if not _before(&t.heap[child], &entry):
            break
        _put(t, place, &t.heap[child])
        place = child
    _put(t, place, &entry)


cdef void timers_add(timers* t, uint32_t slot, uint64_t order_id, uint64_t due_ns) noexcept nogil:
    cdef expiry entry
    entry.due_ns, entry.order_id, entry.slot = due_ns, order_id, slot
    t.count += 1
    _settle(t, t.count, entry)
    if due_ns < t.next_ns:
        t.next_ns = due_ns


cdef void timers_remove(timers* t, uint32_t slot) noexcept nogil:
    cdef uint32_t place = t.places[slot]
    cdef expiry last = t.heap[t.count]
    t.places[slot] = 0
    t.count -= 1
    if place <= t.count:
        _settle(t, place, last)
    _look(t)


cdef uint32_t timers_pop(timers* t, uint64_t now_ns) noexcept nogil:
    cdef uint32_t slot
    if t.count == 0 or t.heap[1].due_ns > now_ns:
        return 0
    slot = t.heap[1].slot
    timers_remove(t, slot)
    return slot + 1


# ---- countdowns ------------------------------------------------------------------------------------------

cdef uint32_t _countdown_of(const timers* t, uint32_t session, uint32_t account) noexcept nogil:
    """Its place, or countdown_count."""
    cdef uint32_t i
    for i in range(t.countdown_count):
        if t.countdowns[i].session == session and t.countdowns[i].account == account:
            return i
    return t.countdown_count


cdef bint timers_room(const timers* t, uint32_t session, uint32_t account) noexcept nogil:
    return t.countdown_count < t.max_countdowns or _countdown_of(t, session, account) < t.countdown_count


cdef bint timers_countdown(timers* t, uint32_t session, uint32_t account, uint64_t due_ns) noexcept nogil:
    cdef uint32_t place = _countdown_of(t, session, account)
    if due_ns == 0:
        if place < t.countdown_count:
            t.countdown_count -= 1
            t.countdowns[place] = t.countdowns[t.countdown_count]
    else:
        if place == t.countdown_count:
            if place == t.max_countdowns:
                return False
            t.countdown_count += 1
        t.countdowns[place].due_ns = due_ns
        t.countdowns[place].session = session
        t.countdowns[place].account = account
    _look(t)
    return True


cdef uint32_t timers_pop_countdown(timers* t, uint64_t now_ns) noexcept nogil:
    cdef uint32_t i, account
    cdef countdown* first = NULL
    cdef countdown* each
    for i in range(t.countdown_count):
        each = &t.countdowns[i]
        if each.due_ns <= now_ns and (first == NULL or each.due_ns < first.due_ns or (
                each.due_ns == first.due_ns and (each.account < first.account or (
                    each.account == first.account and each.session < first.session)))):
            first = each
    if first == NULL:
        return 0
    account = first.account
    t.countdown_count -= 1
    first[0] = t.countdowns[t.countdown_count]
    _look(t)
    return account


cdef uint64_t timers_hash(const timers* t) noexcept nogil:
    cdef uint64_t total = 0
    cdef uint32_t i
    for i in range(1, t.count + 1):
        total += index_mix(t.heap[i].order_id ^ index_mix(t.heap[i].due_ns))
    for i in range(t.countdown_count):
        total += index_mix(<uint64_t>t.countdowns[i].session << 32 ^ t.countdowns[i].account
                           ^ index_mix(t.countdowns[i].due_ns))
    return total

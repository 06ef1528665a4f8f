"""Going on where a dead publisher stopped; see succession.pxd."""

from libc.stdint cimport uint64_t

from matchbox.core.bits cimport mb_copy_record
from matchbox.core.depth cimport depth_writer
from matchbox.core.publisher cimport publisher, report_slot, wake_session
from matchbox.shm.depth cimport mb_depth, mb_depth_begin, mb_depth_end, mb_depth_levels, mb_level
from matchbox.shm.records cimport MB_BUY, MB_MATCHED, MB_SELL, MB_SLOW_READER, mb_market_data, mb_report
from matchbox.shm.ring cimport *


# ---- reports ---------------------------------------------------------------------------------------------

cdef void reports_anew(report_slot* slot) noexcept nogil:
    slot.reports.position = 0
    slot.reports.ring.producer.value = 0
    mb_store_release32(&slot.reports.ring.header.state, MB_RING_OPEN)


cdef inline const void* _shadowed(const mb_producer* shadow, uint64_t position) noexcept nogil:
    return shadow.slots + (position & shadow.mask) * shadow.record_size


cdef void _copy_reports(report_slot* slot, const mb_producer* shadow, uint64_t total) noexcept nogil:
    """Fill what the living ring lacks, as far as there is room; one place is kept, as always."""
    cdef uint64_t capacity = slot.reports.mask + 1
    while slot.reports.position + slot.filled < total:
        if slot.reports.position + slot.filled - slot.read + 2 > capacity:
            slot.full = 1
            mb_store_relaxed(&slot.reports.ring.detach.value, MB_SLOW_READER)
            return
        mb_copy_record(mb_producer_slot(&slot.reports, slot.filled),
                       _shadowed(shadow, slot.reports.position + slot.filled))
        slot.filled += 1


cdef inline bint _has_ended(const report_slot* slot, const mb_report* end) noexcept nogil:
    """Is DETACHED out? If some did not fit, its position says nothing."""
    cdef const mb_report* last = <const mb_report*>_shadowed(&slot.reports, slot.reports.position - 1)
    return slot.reports.position != 0 and last.kind == end.kind and last.sequence == end.sequence


cdef void _end_reports(report_slot* slot) noexcept nogil:
    mb_store_release32(&slot.reports.ring.header.state, MB_RING_CLOSED)
    wake_session(slot)


cdef bint adopt_reports(publisher* p, report_slot* slot, mb_ring* commands, mb_ring* reports,
                        uint64_t opened_after) noexcept nogil:
    cdef mb_producer shadow = slot.reports
    cdef uint64_t total = shadow.position + slot.filled, read
    cdef bint ended = slot.session == 0
    mb_producer_attach(&slot.reports, reports)
    slot.commands = commands
    slot.filled = 0
    read = mb_load_acquire(&commands.readers[1].value)
    # The bot's own word, as in _has_room().
    slot.read = read if slot.reports.position - read <= slot.reports.mask + 1 else slot.reports.position
    if ended and mb_load_acquire32(&reports.header.state) == MB_RING_CLOSED:
        return True
    if slot.attached_at <= opened_after:
        # Whoever was here before had other memory.
        return ended and slot.reports.position == 0
    if slot.reports.position > total:
        return False
    if ended and _has_ended(slot, <const mb_report*>_shadowed(&shadow, total - 1)):
        _end_reports(slot)  # the dead one did all but that
        return True
    # The last report of one that has ended is DETACHED, which has a place of its own.
    if mb_load_relaxed(&reports.detach.value) or total - slot.reports.position > slot.reports.mask + 1:
        slot.full = 1
        mb_store_relaxed(&reports.detach.value, MB_SLOW_READER)
    else:
        _copy_reports(slot, &shadow, total - ended)
    slot.touched = 1
    if ended:
        mb_copy_record(mb_producer_slot(&slot.reports, slot.filled), _shadowed(&shadow, total - 1))
        slot.filled += 1
        if slot.assurance > MB_MATCHED:
            slot.ending = 1  # told when it is certain
            return True
        mb_publish(&slot.reports, slot.filled)
        slot.filled = slot.touched = slot.full = 0
        _end_reports(slot)
    return True


# ---- market data -----------------------------------------------------------------------------------------

cdef bint adopt_market_data(publisher* p, mb_ring* ring) noexcept nogil:
    cdef mb_producer shadow = p.market_data
    cdef mb_producer* living = &p.market_data
    mb_lossy_attach(living, ring)
    if living.position > shadow.position:
        return False
    if shadow.position - living.position > shadow.mask + 1:
        living.position = shadow.position - shadow.mask - 1
    while living.position < shadow.position:
        mb_lossy_publish(living, <const mb_market_data*>_shadowed(&shadow, living.position))
    return True


# ---- depth -----------------------------------------------------------------------------------------------

cdef void _copy_levels(mb_depth* to, mb_depth* shadow, int side, uint64_t reach) noexcept nogil:
    cdef mb_level* into = mb_depth_levels(to, side)
    cdef const mb_level* of = mb_depth_levels(shadow, side)
    cdef uint64_t i
    for i in range(reach):
        mb_store_relaxed(<uint64_t*>&into[i].price_ticks, <uint64_t>of[i].price_ticks)
        mb_store_relaxed(<uint64_t*>&into[i].quantity_lots, <uint64_t>of[i].quantity_lots)


cdef void adopt_depth(depth_writer* depth, mb_depth* to) noexcept nogil:
    cdef mb_depth* shadow = depth.table
    cdef uint64_t reach = shadow.reach.value, i
    cdef const uint64_t* top = <const uint64_t*>&shadow.top
    cdef uint64_t* into = <uint64_t*>&to.top
    # The dead one may have left either odd.
    if not to.version.value & 1:
        mb_depth_begin(to)
    if not to.rebuilt.value & 1:
        mb_store_relaxed(&to.rebuilt.value, to.rebuilt.value + 1)
    mb_store_relaxed(&to.started.value, shadow.started.value)
    # What the dead one has in places that the shadow has not used yet is cleared, too: they will be used.
    if to.reach.value > reach:
        reach = to.reach.value
    mb_store_relaxed(&to.reach.value, reach)
    mb_fence_release()  # what says that all is being written, before it is
    _copy_levels(to, shadow, MB_BUY, reach)
    _copy_levels(to, shadow, MB_SELL, reach)
    for i in range(sizeof(shadow.top) // 8):
        mb_store_relaxed(&into[i], top[i])
    depth.table = to
    if not depth.open and shadow.state == MB_RING_CLOSED:
        mb_store_release32(&to.state, MB_RING_CLOSED)


cdef void show_depth(depth_writer* depth) noexcept nogil:
    if depth.table.rebuilt.value & 1:
        mb_store_release(&depth.table.rebuilt.value, depth.table.rebuilt.value + 1)
        mb_depth_end(depth.table)

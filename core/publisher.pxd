"""The publisher's state; what it does is in publisher.pyx."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from matchbox.core.agent cimport Agent, mb_in_hand, mb_poison
from matchbox.core.depth cimport depth_writer
from matchbox.core.routes cimport order_routes
from matchbox.shm.records cimport mb_record, mb_report
from matchbox.shm.ring cimport mb_producer, mb_reader, mb_ring, mb_ring_doorbell, mb_wake

cdef enum:
    PUBLISHER_SOURCES = 65  # the ledger and 64 matchers
    NO_SLOT = 0xFFFF

# Where a session's reports go. The ring is the engine's own memory; only `commands` is written by the bot.
ctypedef struct report_slot:
    mb_producer reports
    mb_ring* commands       # for its park word: the bot sleeps there
    uint64_t read           # last believed position of the bot
    uint64_t filled         # reports filled and not yet published: of a session that waits for more than a match, held
    uint64_t answered       # its last command that was answered
    uint64_t attached_at    # log record of its last attachment
    uint32_t session        # attached session, 0 = none
    uint8_t open            # memory is known
    uint8_t full            # a report did not fit: nothing more is sent until it is detached
    uint8_t touched
    uint8_t assurance       # enum mb_assurance: what its reports wait for
    uint8_t holding         # it is in the list of those that hold reports
    uint8_t ending          # DETACHED is filled; the slot is free when that is published
    int doorbell            # eventfd of a session that waits on one, + 1; 0: none

cdef inline void wake_session(report_slot* slot) noexcept nogil:
    """Something is new for it, on the futex or on the descriptor where it waits."""
    mb_wake(&slot.commands.producer_waiting.waiting)
    if slot.doorbell:
        mb_ring_doorbell(&slot.commands.doorbell.waiting, slot.doorbell - 1)


ctypedef struct subscription:
    uint32_t account
    uint32_t session

ctypedef struct publisher:
    mb_reader log
    mb_reader sources[PUBLISHER_SOURCES]
    uint32_t source_count
    mb_producer market_data
    uint32_t slots
    uint32_t max_sessions
    uint32_t max_markets
    uint32_t max_subscriptions
    uint32_t subscription_count
    uint32_t batch          # log records in one poll, at most
    uint8_t in_record       # the next log record has been begun: its first events are out
    uint8_t best_moved
    uint8_t shadow          # nobody reads what we write: a standby's (succession.pxd)
    uint64_t released       # log records done
    uint64_t release        # the last RELEASE: its sequence, and the list's id
    uint64_t release_list
    # Positions in the log ring, of the journaler and of the standby; `never` where there is no journaler.
    const uint64_t* durable
    const uint64_t* replicated
    uint64_t never
    uint16_t* holding       # slots that hold reports, in no order
    uint32_t holding_count
    uint32_t shown          # of holding_count, to the journaler
    report_slot* slot_table
    uint16_t* slot_of       # by session
    uint8_t* market_source  # by market
    depth_writer** depths   # by market
    subscription* subscriptions
    order_routes orders
    uint64_t events
    uint64_t reports
    uint64_t dropped
    # For an archive: every report as its account's own, in the order of the stream; NULL: nobody keeps them.
    mb_report* kept
    uint64_t kept_count
    uint64_t kept_room
    mb_in_hand* hand
    mb_poison poison


cdef class Publisher(Agent):
    cdef publisher state
    cdef void show_hand(self, mb_in_hand* hand, object board)
    cdef list _kept

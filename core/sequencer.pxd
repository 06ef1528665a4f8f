"""The sequencer's state; what it does is in sequencer.pyx."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from matchbox.core.agent cimport Agent
from matchbox.core.instrument cimport instrument
from matchbox.core.orders cimport live_orders
from matchbox.shm.records cimport mb_record
from matchbox.shm.ring cimport mb_producer, mb_reader, mb_ring

cdef enum:
    MAX_SOURCES = 64        # matchers at most, limited by the size of `wait` tables
    NO_SOURCE = 255

cdef enum sequencer_stage:
    REPLAYING = 0           # settles and publishes only what replay() and settle() are told to
    RUNNING = 1
    STOPPED = 2             # settles what is out, takes nothing

cdef enum slot_state:
    SLOT_FREE = 0
    SLOT_OPEN = 1           # its memory is known; no session is attached to it yet
    SLOT_LIVE = 2

# Deterministic: what the log says of a session. Its number is its place in `sessions`, from 1.
ctypedef struct session_state:
    uint64_t position       # commands taken so far, over all its attachments
    uint32_t account
    uint16_t slot
    uint8_t capabilities
    uint8_t attached
    char name[36]

# Not deterministic: where the session's memory is. Nothing in `commands` may be trusted, its header included.
ctypedef struct session_slot:
    mb_ring* commands
    uint8_t* command_slots
    uint64_t command_mask
    mb_ring* reports
    uint64_t report_capacity
    uint64_t noted          # position of the commands when this round began
    uint64_t reports_read   # last believed position of the bot in its report ring
    uint64_t allowed        # how many of its commands this round may take
    uint32_t session
    uint8_t state           # enum slot_state
    uint8_t touched         # taken from in this round

ctypedef struct market_state:
    instrument definition
    uint32_t live_orders
    uint8_t exists
    uint8_t source          # which event ring its matcher writes

ctypedef struct sequencer:
    mb_producer log
    mb_producer ledger
    mb_reader events[MAX_SOURCES]
    uint32_t event_rings
    uint32_t slots
    uint32_t first_slot     # where this round's turn begins
    uint32_t batch          # commands of one session in one round, at most
    uint64_t filled         # log slots filled and not yet published
    uint64_t ledger_filled
    uint64_t settled        # last log record all of whose events are settled
    uint32_t settled_index  # events of the next one that are settled
    uint32_t sessions_count
    uint32_t max_sessions
    uint32_t max_accounts
    uint32_t max_markets
    uint32_t max_assets
    uint64_t last_timestamp_ns
    uint64_t manual_clock_ns    # 0: the real clock
    uint8_t round_open
    uint8_t stage           # enum sequencer_stage
    uint8_t* concerns       # by log position: the source that answers the record, or NO_SOURCE
    uint64_t* account_bits
    uint8_t* asset_scales   # scale + 1; 0 = no such asset
    market_state* markets
    session_state* sessions
    session_slot* slot_table
    live_orders orders
    uint64_t accepted
    uint64_t refused
    uint64_t rounds


cdef class Sequencer(Agent):
    cdef sequencer state
    cdef list _kept
    cdef readonly uint64_t replayed

    cdef session_slot* _slot(self, uint32_t slot) except NULL
    cdef _write_mark(self, uint8_t kind, uint64_t epoch)

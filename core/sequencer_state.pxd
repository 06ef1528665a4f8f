"""The sequencer's state, shared by the modules that are the sequencer:

    decisions       what a command may do, and what is held for it, from this state alone
    changes         what an accepted record does to this state
    line            what the exchange itself has to log
    order_life      how orders come and go, alone and in lists
    groups          records that go together: which do, and what is decided about them
    settlement      what an event does to it: orders, balances, last prices
    sequencing      records decided, stamped and put into the log, events settled
    replaying       the same for records of a journal
    sequencer       rounds: rings in, log out
    sequencer_view  what Python sees of it

An order that is live has a live_order (see orders.pxd) and, under the same slot, an order_money: what is held for it,
what it may become, and its place in the chain of its account. A pending order has an order_pending there instead: all
that its new record needs when it is released.

Invariants: held of a balance = the sum of `hold` over the live orders that pay with it + the withdrawals that wait;
hold + lack of an order = what it needs + what amends under way hold more; partners name each other.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from matchbox.core.agent cimport mb_in_hand, mb_poison
from matchbox.core.instrument cimport instrument
from matchbox.core.ledger cimport fee_table, hold_of, ledger
from matchbox.core.orders cimport live_order, live_orders, orders_find
from matchbox.core.timers cimport timers
from matchbox.shm.ring cimport mb_producer, mb_reader, mb_ring

cdef enum:
    MAX_SOURCES = 64        # matchers at most, limited by the size of `wait` tables
    NO_SOURCE = 255
    MAX_COUNTDOWNS = 4096

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
    uint32_t user           # + 1, 0 = not known
    uint16_t slot
    uint8_t capabilities
    uint8_t attached
    uint8_t cancel_on_detach
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
    fee_table fees
    int64_t last_price      # of the last settled trade, or the reference price; 0 = none
    uint64_t reference_sequence     # SET_MARKET that gave a reference price: trades of records before it are older
    uint32_t live_orders
    uint32_t prepared       # not of the log: open orders that memory was set aside for, 0 = none
    uint32_t prepared_specials  # likewise: of those, icebergs and orders that wait
    uint32_t fee_base       # balances of the fee account
    uint32_t fee_quote
    uint8_t exists
    uint8_t own_fees        # `fees` counts, not the default
    uint8_t source          # which event ring its matcher writes

cdef enum order_role:
    ALONE = 0
    WORKING = 1             # pending orders wait for its end
    PENDING = 2

# 64 bytes, by the slot of the live order.
ctypedef struct order_money:
    int64_t hold            # of what it pays with
    int64_t lack            # what it needs besides: its partner holds it, or the order that it replaces
    int64_t next_price      # as it will be after the amends under way
    int64_t next_total
    uint32_t pays           # balances
    uint32_t gets
    uint32_t previous       # slot + 1, older order of the account
    uint32_t next
    uint32_t partner        # slot + 1, the other of a pair
    uint32_t amends         # under way
    uint8_t budget          # `hold` is spent, and not a function of what is open
    uint8_t in_line         # its cancel stands in line
    uint8_t timed           # it is in the timers
    uint8_t market_order    # or will be one when it is triggered: it cannot be amended
    uint8_t at_once         # MARKET
    uint8_t role            # enum order_role
    uint8_t reserved[2]

# The same memory of a pending order, which holds nothing; `previous` to `partner`, `in_line`, `timed` and `role` are
# where order_money has them.
ctypedef struct order_pending:
    int64_t hold            # 0
    int64_t display_lots
    int64_t trigger_ticks
    uint64_t expire_ns
    uint64_t list_id
    uint32_t previous
    uint32_t next
    uint32_t partner
    uint16_t trailing_bips
    uint8_t self_trade
    uint8_t order_type
    uint8_t time_in_force
    uint8_t in_line
    uint8_t timed           # 0
    uint8_t flags
    uint8_t reserved
    uint8_t role
    uint8_t reserved_bytes[2]

# A cancel; or, with reason 0, the release of a list, whose id `order_id` is then.
ctypedef struct cancel_in_line:
    uint64_t order_id
    uint16_t reason

ctypedef struct sequencer:
    mb_producer log
    mb_producer events_out  # the ledger's own events
    mb_reader events[MAX_SOURCES]
    uint32_t event_rings
    uint32_t slots
    uint8_t journaled       # somebody makes the log durable
    uint32_t first_slot     # where this round's turn begins
    uint32_t batch          # commands of one session in one round, at most
    uint64_t filled         # log slots filled and not yet published
    uint64_t events_filled
    uint64_t settled        # last log record all of whose events are settled
    uint32_t settled_index  # events of the next one that are settled
    uint32_t sessions_count
    uint32_t max_sessions
    uint32_t max_markets
    uint64_t last_timestamp_ns
    uint64_t manual_clock_ns    # 0: the real clock
    uint8_t round_open
    uint8_t stage           # enum sequencer_stage
    uint8_t* concerns       # by log position: the source that answers the record, or NO_SOURCE
    market_state* markets
    session_state* sessions
    session_slot* slot_table
    live_orders orders
    order_money* money      # by slot
    cancel_in_line* line    # cancels that the exchange itself will log, a ring of line_mask + 1
    uint64_t line_mask
    uint64_t line_first
    uint64_t line_end
    ledger books            # who owns what
    timers due
    uint64_t prepared_orders    # of all markets: never more than orders.capacity, so that there is room for each order
    uint32_t wanted         # REPLAYING: the market that the next record adds, and no memory is set aside for
    uint64_t accepted
    uint64_t refused
    uint64_t rounds
    mb_in_hand* hand
    mb_poison poison
    # A command that is refused unseen, since it killed the engine before: its session, and its position there.
    uint32_t refused_session
    uint64_t refused_position


cdef inline order_money* money_of(const sequencer* s, const live_order* order) noexcept nogil:
    return &s.money[order - s.orders.slab]


cdef inline order_pending* pending_of(const sequencer* s, const live_order* order) noexcept nogil:
    """Of an order whose role is PENDING."""
    return <order_pending*>&s.money[order - s.orders.slab]


cdef inline live_order* pending_leg(sequencer* s, uint64_t list_id, uint64_t leg) noexcept nogil:
    """The pending order that is this leg (2, 3) of the list, or NULL."""
    cdef live_order* order = orders_find(&s.orders, list_id + leg)
    if order == NULL or money_of(s, order).role != PENDING or pending_of(s, order).list_id != list_id:
        return NULL
    return order


cdef inline int64_t order_need(const sequencer* s, const live_order* order) noexcept nogil:
    """What an order, which is no MARKET one, needs for what is open of it."""
    return hold_of(&s.markets[order.market].definition, order.side, order.price_ticks, order.leaves_lots)


cdef inline bint in_list(const order_money* money) noexcept nogil:
    """Is it in a list? One whose partner has ended is an order like any other."""
    return money.role != ALONE or money.partner != 0


cdef inline market_state* market_of(const sequencer* s, uint32_t market) noexcept nogil:
    """A market that exists, or NULL."""
    if market == 0 or market > s.max_markets or not s.markets[market].exists:
        return NULL
    return &s.markets[market]

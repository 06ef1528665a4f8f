"""The records of records.h and the codes of reasons.h, for cimport."""

from libc.stdint cimport int16_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t


cdef extern from "records.h" nogil:
    const uint32_t MB_LAYOUT_VERSION
    const uint8_t MB_CUT
    const uint64_t MB_LOST_NUMBERS
    enum:
        MB_RECORD_BYTES
        MB_CLIENT_ID_BYTES
        MB_SYMBOL_BYTES
        MB_NAME_BYTES
        MB_FEE_TIERS
        MB_TIER_BY_VOLUME
    const int64_t MB_MAX_PRICE_TICKS
    const int64_t MB_MAX_MARKET_LOTS
    const int64_t MB_MAX_ASSET_UNITS
    const uint32_t MB_FEE_ACCOUNT

    enum mb_kind:
        MB_NEW_ORDER
        MB_CANCEL_ORDER
        MB_AMEND_ORDER
        MB_SUBSCRIBE
        MB_UNSUBSCRIBE
        MB_LOGOUT
        MB_ORDER_TERMS
        MB_MASS_CANCEL
        MB_COUNTDOWN
        MB_TRANSFER
        MB_REQUEST_WITHDRAWAL
        MB_CANCEL_WITHDRAWAL
        MB_ORDER_LIST
        MB_ADD_ASSET
        MB_ADD_ACCOUNT
        MB_ADD_MARKET
        MB_ATTACH_SESSION
        MB_DETACH_SESSION
        MB_DEPOSIT
        MB_SETTLE_WITHDRAWAL
        MB_SET_ACCOUNT
        MB_SET_MARKET
        MB_SET_FEES
        MB_SET_TIER
        MB_REMOVE_MARKET
        MB_REMOVE_ASSET
        MB_START
        MB_STOP
        MB_TICK
        MB_RELEASE
        MB_TAKE_OVER
        MB_LOST
        MB_INVALID

    enum mb_side:
        MB_BUY
        MB_SELL

    enum mb_order_type:
        MB_LIMIT
        MB_MARKET
        MB_STOP_LOSS
        MB_STOP_LOSS_LIMIT
        MB_TAKE_PROFIT
        MB_TAKE_PROFIT_LIMIT

    enum mb_list_type:
        MB_OCO
        MB_OTO
        MB_OTOCO

    enum mb_belongs:
        MB_HAS_TERMS
        MB_IN_LIST
        MB_IS_PENDING
        MB_REPLACES

    enum mb_time_in_force:
        MB_GTC
        MB_IOC
        MB_FOK
        MB_GTD

    enum mb_self_trade:
        MB_TRADE_WITH_SELF
        MB_EXPIRE_TAKER
        MB_EXPIRE_MAKER
        MB_EXPIRE_BOTH
        MB_DECREMENT

    enum mb_account_state:
        MB_ACTIVE
        MB_CANCEL_ONLY
        MB_FROZEN

    enum mb_market_state:
        MB_STATE_OPEN
        MB_STATE_POST_ONLY
        MB_STATE_CANCEL_ONLY
        MB_STATE_HALTED

    enum mb_flag:
        MB_POST_ONLY
        MB_TO_OPEN
        MB_REQUEUE
        MB_QUOTE_AMOUNT
        MB_LEG
        MB_REPLACE
        MB_ALLOW_FAILURE
        MB_OF_PENDING

    enum mb_rule:
        MB_RULE_STATE
        MB_RULE_TIER
        MB_RULE_NOTIONAL
        MB_RULE_REFERENCE
        MB_RULE_BANDS
        MB_RULE_PROTECTION
        MB_RULE_ORDERS
        MB_RULE_CANCEL

    enum mb_capability:
        MB_CAN_TRADE
        MB_CAN_NAME_ACCOUNTS
        MB_CAN_OPERATE

    enum mb_event_kind:
        MB_ACCEPTED
        MB_REJECTED
        MB_TRADE
        MB_RESTED
        MB_CANCELED
        MB_EXPIRED
        MB_AMENDED
        MB_TRIGGERED
        MB_PREVENTED
        MB_BALANCE

    enum mb_event_flag:
        MB_LAST
        MB_RESTING
        MB_WAITING
        MB_PENDING

    enum mb_report_kind:
        MB_REPORT_ATTACHED
        MB_REPORT_DETACHED
        MB_REPORT_DONE

    enum mb_report_flag:
        MB_AS_MAKER
        MB_SUBSCRIBED
        MB_WAS_PENDING
        MB_RELEASED

    enum mb_assurance:
        MB_MATCHED
        MB_REPLICATED
        MB_DURABLE

    enum mb_market_data_kind:
        MB_MD_TRADE
        MB_MD_LEVEL
        MB_MD_BEST

    ctypedef struct mb_record:
        uint64_t sequence
        uint64_t timestamp_ns
        uint64_t session_position
        uint32_t session
        uint32_t settled_lag
        uint32_t settled_index
        uint16_t reject
        uint8_t kind
        uint8_t reserved
        uint64_t order_id
        int64_t price_ticks
        int64_t quantity_lots
        int64_t trigger_ticks
        int64_t hold
        int64_t cancel_reason
        uint32_t account
        uint32_t market
        uint8_t side
        uint8_t time_in_force
        uint8_t order_type
        uint8_t flags
        char client_order_id[36]

    ctypedef struct mb_new_order:
        uint64_t sequence
        uint64_t timestamp_ns
        uint64_t session_position
        uint32_t session
        uint32_t settled_lag
        uint32_t settled_index
        uint16_t reject
        uint8_t kind
        uint8_t reserved
        int16_t maker_fee_ppm
        int16_t taker_fee_ppm
        uint16_t trailing_bips
        uint8_t self_trade
        uint8_t has_terms
        int64_t price_ticks
        int64_t quantity_lots
        int64_t trigger_ticks
        int64_t hold
        uint32_t account
        uint32_t market
        uint8_t side
        uint8_t time_in_force
        uint8_t order_type
        uint8_t flags
        char client_order_id[36]

    ctypedef struct mb_terms_record:
        uint64_t sequence
        uint64_t timestamp_ns
        uint64_t session_position
        uint32_t session
        uint32_t settled_lag
        uint32_t settled_index
        uint16_t reject
        uint8_t kind
        uint8_t reserved
        int64_t display_lots
        uint64_t expire_ns
        uint64_t reserved_words[3]
        uint32_t account
        uint32_t market
        uint8_t reserved_bytes[4]
        char reserved_text[36]

    ctypedef struct mb_list_record:
        uint64_t sequence
        uint64_t timestamp_ns
        uint64_t session_position
        uint32_t session
        uint32_t settled_lag
        uint32_t settled_index
        uint16_t reject
        uint8_t kind
        uint8_t reserved
        int64_t display_lots[3]
        uint64_t expire_ns
        uint64_t list_id
        uint32_t account
        uint32_t market
        uint8_t list_type
        uint8_t legs
        uint8_t reserved_bytes[2]
        char client_list_id[36]

    ctypedef struct mb_money_record:
        uint64_t sequence
        uint64_t timestamp_ns
        uint64_t session_position
        uint32_t session
        uint32_t settled_lag
        uint32_t settled_index
        uint16_t reject
        uint8_t kind
        uint8_t reserved
        int64_t amount
        char note[24]
        uint32_t operator_id
        uint16_t asset
        uint16_t reserved_word
        uint32_t account
        uint32_t counter_account
        uint32_t reserved_long
        char reference[36]

    ctypedef struct mb_rules_record:
        uint64_t sequence
        uint64_t timestamp_ns
        uint64_t session_position
        uint32_t session
        uint32_t settled_lag
        uint32_t settled_index
        uint16_t reject
        uint8_t kind
        uint8_t reserved
        int64_t amount
        int64_t reference_ticks
        uint16_t band_up_bips
        uint16_t band_down_bips
        uint16_t protection_bips
        uint16_t asset
        uint32_t account_orders
        uint32_t operator_id
        uint32_t reserved_long
        int16_t maker_fee_ppm
        int16_t taker_fee_ppm
        uint32_t account
        uint32_t market
        uint8_t state
        uint8_t tier
        uint8_t rules
        uint8_t reserved_byte
        char note[36]

    ctypedef struct mb_market_record:
        uint64_t sequence
        uint64_t timestamp_ns
        uint64_t session_position
        uint32_t session
        uint32_t settled_lag
        uint32_t settled_index
        uint16_t reject
        uint8_t kind
        uint8_t specials
        int64_t lot_units
        int64_t notional_units
        int64_t max_price_ticks
        int64_t min_quantity_lots
        int64_t max_quantity_lots
        uint16_t base_asset
        uint16_t quote_asset
        uint32_t market
        uint32_t price_step_ticks
        uint32_t quantity_step_lots
        uint32_t tick_mantissa
        uint32_t max_orders
        char symbol[23]
        uint8_t tick_scale

    ctypedef struct mb_named_record:
        uint64_t sequence
        uint64_t timestamp_ns
        uint64_t session_position
        uint32_t session
        uint32_t settled_lag
        uint32_t settled_index
        uint16_t reject
        uint8_t kind
        uint8_t reserved
        uint64_t epoch
        uint64_t position
        uint64_t slot
        uint32_t parent
        uint32_t user
        uint8_t cancel_on_detach
        uint8_t assurance
        uint8_t reserved_bytes[6]
        uint32_t account
        uint32_t id
        uint8_t scale
        uint8_t capabilities
        uint16_t reason
        char name[36]

    ctypedef struct mb_event:
        uint64_t sequence
        uint64_t order_id
        uint64_t maker_order_id
        uint64_t trade_id
        int64_t price_ticks
        int64_t quantity_lots
        int64_t leaves_lots
        int64_t cumulative_lots
        int64_t maker_leaves_lots
        int64_t previous_level_lots
        int64_t maker_cumulative_lots
        int64_t previous_price_ticks
        int64_t level_lots
        int64_t fee
        int64_t maker_fee
        uint32_t index
        uint32_t market
        uint32_t account
        uint32_t maker_account
        uint16_t reason
        uint8_t kind
        uint8_t side
        uint8_t flags
        uint8_t reserved[3]

    ctypedef struct mb_report:
        uint64_t sequence
        uint64_t timestamp_ns
        uint64_t order_id
        uint64_t trade_id
        uint64_t command_position
        int64_t price_ticks
        int64_t quantity_lots
        int64_t leaves_lots
        int64_t cumulative_lots
        int64_t fee
        uint32_t index
        uint32_t account
        uint32_t market
        uint16_t reason
        uint8_t kind
        uint8_t side
        uint8_t flags
        uint8_t assurance
        uint8_t reserved[2]
        char client_order_id[36]

    ctypedef struct mb_market_data:
        uint64_t position
        uint64_t sequence
        uint64_t timestamp_ns
        uint64_t trade_id
        int64_t price_ticks
        int64_t quantity_lots
        int64_t ask_price_ticks
        int64_t ask_quantity_lots
        uint64_t update
        uint32_t market
        uint8_t kind
        uint8_t side
        uint8_t reserved[2]
        uint64_t reserved_words[6]


cdef extern from "reasons.h" nogil:
    enum mb_reason:
        MB_NONE
        MB_UNKNOWN_KIND
        MB_NOT_PERMITTED
        MB_ACCOUNT_NOT_PERMITTED
        MB_UNKNOWN_ACCOUNT
        MB_UNKNOWN_SESSION
        MB_ALREADY_EXISTS
        MB_BAD_DEFINITION
        MB_BAD_LEGS
        MB_BAD_RULE
        MB_BAD_REFERENCE
        MB_BAD_AMOUNT
        MB_UNKNOWN_ASSET
        MB_DUPLICATE_REFERENCE
        MB_UNKNOWN_REFERENCE
        MB_MARKET_IN_USE
        MB_ASSET_IN_USE
        MB_NOT_PREPARED
        MB_NOT_JOURNALED
        MB_NO_STANDBY
        MB_UNKNOWN_MARKET
        MB_BAD_SIDE
        MB_BAD_ORDER_TYPE
        MB_BAD_TIME_IN_FORCE
        MB_BAD_FLAGS
        MB_BAD_PRICE
        MB_PRICE_OFF_TICK
        MB_BAD_QUANTITY
        MB_QUANTITY_OFF_LOT
        MB_NOTIONAL_OVERFLOW
        MB_BAD_FIELD
        MB_BAD_CLIENT_ORDER_ID
        MB_NOTHING_TO_AMEND
        MB_BAD_TRIGGER
        MB_BAD_SELF_TRADE
        MB_BAD_DISPLAY
        MB_BAD_EXPIRY
        MB_BELOW_MIN_NOTIONAL
        MB_BAD_TIMEOUT
        MB_UNKNOWN_ORDER
        MB_DUPLICATE_CLIENT_ORDER_ID
        MB_TOO_MANY_ORDERS
        MB_TOO_MANY_OBJECTS
        MB_INSUFFICIENT_BALANCE
        MB_ACCOUNT_CANCEL_ONLY
        MB_ACCOUNT_FROZEN
        MB_MARKET_HALTED
        MB_MARKET_CANCEL_ONLY
        MB_MARKET_POST_ONLY
        MB_TOO_MANY_ACCOUNT_ORDERS
        MB_NO_REFERENCE_PRICE
        MB_WOULD_TAKE
        MB_NOT_FILLABLE
        MB_NO_LIQUIDITY
        MB_BELOW_FILLED
        MB_PRICE_BAND
        MB_WOULD_TRIGGER
        MB_CANNOT_AMEND
        MB_HOLD_EXCEEDED
        MB_SELF_TRADE
        MB_BUDGET_SPENT
        MB_CANCEL_FAILED
        MB_POISONED
        MB_LOGGED_OUT
        MB_DISCONNECTED
        MB_PROTOCOL_VIOLATION
        MB_SLOW_READER
        MB_BY_OPERATOR
        MB_ENGINE_STOPPED
        MB_ON_REQUEST
        MB_MASS_CANCELED
        MB_GTD_EXPIRED
        MB_SESSION_ENDED
        MB_COUNTDOWN_ENDED
        MB_ACCOUNT_KILLED
        MB_MARKET_KILLED
        MB_LIST_ENDED

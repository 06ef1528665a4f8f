"""The records of records.h and the codes of reasons.h, for cimport."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t


cdef extern from "records.h" nogil:
    const uint32_t MB_LAYOUT_VERSION
    enum:
        MB_RECORD_BYTES
        MB_CLIENT_ID_BYTES
        MB_SYMBOL_BYTES
        MB_NAME_BYTES
    const int64_t MB_MAX_PRICE_TICKS
    const int64_t MB_MAX_MARKET_LOTS

    enum mb_kind:
        MB_NEW_ORDER
        MB_CANCEL_ORDER
        MB_AMEND_ORDER
        MB_SUBSCRIBE
        MB_UNSUBSCRIBE
        MB_LOGOUT
        MB_ADD_ASSET
        MB_ADD_ACCOUNT
        MB_ADD_MARKET
        MB_ATTACH_SESSION
        MB_DETACH_SESSION
        MB_START
        MB_STOP
        MB_INVALID

    enum mb_side:
        MB_BUY
        MB_SELL

    enum mb_order_type:
        MB_LIMIT
        MB_MARKET

    enum mb_time_in_force:
        MB_GTC
        MB_IOC
        MB_FOK

    enum mb_flag:
        MB_POST_ONLY
        MB_TO_OPEN
        MB_REQUEUE

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

    enum mb_event_flag:
        MB_LAST
        MB_RESTING

    enum mb_report_kind:
        MB_REPORT_ATTACHED
        MB_REPORT_DETACHED
        MB_REPORT_DONE

    enum mb_report_flag:
        MB_AS_MAKER
        MB_SUBSCRIBED

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
        uint32_t account
        uint32_t market
        uint8_t side
        uint8_t time_in_force
        uint8_t order_type
        uint8_t flags
        char client_order_id[36]

    ctypedef struct mb_market_record:
        uint64_t sequence
        uint64_t timestamp_ns
        uint64_t session_position
        uint32_t session
        uint32_t settled_lag
        uint32_t settled_index
        uint16_t reject
        uint8_t kind
        uint8_t reserved
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
        uint64_t reserved_words[2]
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
        int64_t previous_price_ticks
        uint64_t trade_id
        int64_t price_ticks
        int64_t quantity_lots
        int64_t leaves_lots
        int64_t cumulative_lots
        int64_t maker_leaves_lots
        int64_t previous_level_lots
        int64_t maker_cumulative_lots
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
        MB_UNKNOWN_ORDER
        MB_DUPLICATE_CLIENT_ORDER_ID
        MB_TOO_MANY_ORDERS
        MB_TOO_MANY_OBJECTS
        MB_WOULD_TAKE
        MB_NOT_FILLABLE
        MB_NO_LIQUIDITY
        MB_BELOW_FILLED
        MB_LOGGED_OUT
        MB_DISCONNECTED
        MB_PROTOCOL_VIOLATION
        MB_SLOW_READER
        MB_BY_OPERATOR
        MB_ENGINE_STOPPED

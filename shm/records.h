/* The records that cross process boundaries: command, log record, event, report, market data.
 *
 * Every record is 128 bytes (two cache lines), little-endian, naturally aligned, without pointers and
 * without hidden padding. `records.py` mirrors each struct as a NumPy dtype; a test compares the two
 * offset by offset. A change of any offset or meaning raises MB_LAYOUT_VERSION, and segments written by
 * another version are refused on attach.
 *
 * Units: prices are integer ticks, quantities integer lots, amounts integers in the smallest unit of
 * their asset, times nanoseconds since 1970 (UTC). Text is UTF-8, padded with zero bytes.
 */
#ifndef MATCHBOX_RECORDS_H
#define MATCHBOX_RECORDS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define MB_STATIC_ASSERT static_assert
#else
#define MB_STATIC_ASSERT _Static_assert
#endif

#define MB_LAYOUT_VERSION 1u
#define MB_RECORD_BYTES 128
#define MB_CLIENT_ID_BYTES 36
#define MB_SYMBOL_BYTES 24
#define MB_NAME_BYTES 36

/* The highest price: 2^40 - 1 ticks. The price index of the book is built for 40-bit keys. */
#define MB_MAX_PRICE_TICKS ((INT64_C(1) << 40) - 1)
/* A market's max_quantity_lots times its max_orders may not pass this, so that no level's total can overflow. */
#define MB_MAX_MARKET_LOTS (INT64_C(1) << 62)

enum mb_kind {
    /* What any session may send. */
    MB_NEW_ORDER = 1,
    MB_CANCEL_ORDER = 2,
    MB_AMEND_ORDER = 3,
    MB_SUBSCRIBE = 4,   /* reports of `account` to this session too (trusted sessions) */
    MB_UNSUBSCRIBE = 5,
    MB_LOGOUT = 6,      /* detach this session; its orders stay */
    /* What only an operator session may send. */
    MB_ADD_ASSET = 32,
    MB_ADD_ACCOUNT = 33,
    MB_ADD_MARKET = 34,
    MB_ATTACH_SESSION = 35,
    MB_DETACH_SESSION = 36,
    /* What only the sequencer writes. */
    MB_START = 48,      /* a new epoch: every session of the epochs before is detached */
    MB_STOP = 49,       /* the clean end of an epoch */
    MB_INVALID = 255    /* a command whose kind was unknown; always refused */
};

enum mb_side { MB_BUY = 1, MB_SELL = 2 };
enum mb_order_type { MB_LIMIT = 1, MB_MARKET = 2 };
enum mb_time_in_force { MB_GTC = 1, MB_IOC = 2, MB_FOK = 3 };

enum mb_flag {
    MB_POST_ONLY = 1,     /* NEW_ORDER: rejected if it would take */
    MB_TO_OPEN = 2,       /* AMEND_ORDER: quantity is what is to remain open, not the order's total */
    MB_REQUEUE = 4        /* AMEND_ORDER: give up the place in the queue even where it could be kept */
};

enum mb_capability {
    MB_CAN_TRADE = 1,
    MB_CAN_NAME_ACCOUNTS = 2, /* trusted: names the account in each command (gateways) */
    MB_CAN_OPERATE = 4        /* may send operator records */
};

/* One entry of the log; a command is the same record before the sequencer has stamped it.
 * Fields marked (s) are stamped by the sequencer and ignored in a command. */
typedef struct mb_record {
    uint64_t sequence;          /* (s) position in the log, from 1, never reused */
    uint64_t timestamp_ns;      /* (s) never before that of the record before */
    uint64_t session_position;  /* (s) position of the command in its session's ring, from 1 */
    uint32_t session;           /* (s) session that sent it; 0 = the engine itself */
    uint32_t settled_lag;       /* (s) sequence minus the last log record all of whose events had been settled */
    uint32_t settled_index;     /* (s) how many events of the record after that one had been settled too */
    uint16_t reject;            /* (s) 0 = accepted by the sequencer, else the reject code */
    uint8_t kind;               /* enum mb_kind */
    uint8_t reserved;
    uint64_t order_id;          /* NEW_ORDER: (s) = sequence. Else the order meant; 0: by client_order_id (then (s)) */
    int64_t price_ticks;        /* LIMIT: 1..MB_MAX_PRICE_TICKS. MARKET: 0. AMEND_ORDER: 0 = unchanged */
    int64_t quantity_lots;      /* NEW_ORDER, AMEND_ORDER: > 0. AMEND_ORDER: 0 = unchanged */
    int64_t trigger_ticks;      /* reserved for stop orders: 0 */
    int64_t hold;               /* (s) reserved for the ledger: 0 */
    uint32_t account;           /* 0 = the session's own */
    uint32_t market;
    uint8_t side;               /* NEW_ORDER */
    uint8_t time_in_force;      /* NEW_ORDER */
    uint8_t order_type;         /* NEW_ORDER */
    uint8_t flags;              /* enum mb_flag */
    char client_order_id[MB_CLIENT_ID_BYTES];
} mb_record;

/* ADD_MARKET: the same first 40 bytes, then the instrument. notional of a fill in units of the quote asset
 * = price_ticks * quantity_lots * notional_units, always exact. */
typedef struct mb_market_record {
    uint64_t sequence;
    uint64_t timestamp_ns;
    uint64_t session_position;
    uint32_t session;
    uint32_t settled_lag;
    uint32_t settled_index;
    uint16_t reject;
    uint8_t kind;
    uint8_t reserved;
    int64_t lot_units;          /* one lot in units of the base asset, > 0 */
    int64_t notional_units;     /* one tick times one lot in units of the quote asset, > 0 */
    int64_t max_price_ticks;    /* 1..MB_MAX_PRICE_TICKS */
    int64_t min_quantity_lots;  /* > 0 */
    int64_t max_quantity_lots;  /* >= min; times max_orders at most MB_MAX_MARKET_LOTS */
    uint16_t base_asset;
    uint16_t quote_asset;
    uint32_t market;            /* > 0 */
    uint32_t price_step_ticks;  /* prices are multiples of it, > 0 */
    uint32_t quantity_step_lots;/* quantities are multiples of it, > 0 */
    uint32_t tick_mantissa;     /* one tick = tick_mantissa / 10^tick_scale of the quote asset for one base */
    uint32_t max_orders;        /* resting and in flight at once; sizes the book's slab */
    char symbol[MB_SYMBOL_BYTES - 1];
    uint8_t tick_scale;
} mb_market_record;

/* ADD_ASSET, ADD_ACCOUNT, ATTACH_SESSION, DETACH_SESSION, START, STOP, SUBSCRIBE: something with a number and a name. */
typedef struct mb_named_record {
    uint64_t sequence;
    uint64_t timestamp_ns;
    uint64_t session_position;
    uint32_t session;           /* (s) who sent the record */
    uint32_t settled_lag;
    uint32_t settled_index;
    uint16_t reject;
    uint8_t kind;
    uint8_t reserved;
    uint64_t epoch;             /* START */
    uint64_t position;          /* ATTACH_SESSION, DETACH_SESSION: commands taken of that session so far */
    uint64_t slot;              /* ATTACH_SESSION: which of the engine's session slots carries it */
    uint64_t reserved_words[2];
    uint32_t account;           /* ATTACH_SESSION: the account it trades for; ADD_ACCOUNT: its number */
    uint32_t id;                /* the asset, or the session that is attached or detached */
    uint8_t scale;              /* ADD_ASSET: one whole = 10^scale units */
    uint8_t capabilities;       /* ATTACH_SESSION: enum mb_capability */
    uint16_t reason;            /* DETACH_SESSION: why */
    char name[MB_NAME_BYTES];
} mb_named_record;

enum mb_event_kind {
    MB_ACCEPTED = 1,  /* a new order: leaves = quantity. Rests at once if flag RESTING, else fills follow */
    MB_REJECTED = 2,  /* the command had no effect; `reason` says why */
    MB_TRADE = 3,     /* a fill: `order` is the taker */
    MB_RESTED = 4,    /* what was left of a taker joined the book: leaves, level */
    MB_CANCELED = 5,  /* on request; quantity = what was open */
    MB_EXPIRED = 6,   /* by rule (IOC remainder, no liquidity); quantity = what was open */
    MB_AMENDED = 7    /* price, quantity = new total, leaves; left its old level: previous_* */
};

enum mb_event_flag {
    MB_LAST = 1,      /* the last event of its log record from this source */
    MB_RESTING = 2    /* ACCEPTED, AMENDED: it stands on the book now, and level_lots is its level's total */
};

/* What a matcher says. Every log record that concerns a matcher yields one event or more; the last has MB_LAST. */
typedef struct mb_event {
    uint64_t sequence;          /* log record that caused it */
    uint64_t order_id;          /* the order concerned; TRADE: the taker's */
    uint64_t maker_order_id;    /* TRADE */
    uint64_t trade_id;          /* TRADE: number of the trade in its market, from 1 */
    int64_t price_ticks;        /* TRADE: the maker's price; else the order's (0: market order) */
    int64_t quantity_lots;      /* TRADE: filled; ACCEPTED, AMENDED: total; CANCELED, EXPIRED: taken off */
    int64_t leaves_lots;        /* open quantity of the order afterwards */
    int64_t cumulative_lots;    /* filled quantity of the order afterwards */
    union {
        int64_t maker_leaves_lots;      /* TRADE */
        int64_t previous_level_lots;    /* AMENDED: now left at the previous price, this order not counted */
    };
    union {
        int64_t maker_cumulative_lots;  /* TRADE */
        int64_t previous_price_ticks;   /* AMENDED */
    };
    int64_t level_lots;         /* quantity now at price_ticks on the side where it rests (TRADE: the maker's) */
    int64_t fee;                /* reserved for the ledger: 0 */
    int64_t maker_fee;          /* reserved for the ledger: 0 */
    uint32_t index;             /* number of the event within its log record and source, from 0 */
    uint32_t market;
    uint32_t account;
    uint32_t maker_account;     /* TRADE */
    uint16_t reason;            /* REJECTED, EXPIRED: code of reasons.h */
    uint8_t kind;               /* enum mb_event_kind */
    uint8_t side;               /* of the order; TRADE: the taker's */
    uint8_t flags;              /* enum mb_event_flag */
    uint8_t reserved[3];
} mb_event;

enum mb_report_kind {
    /* The event kinds above, seen by one order's owner, and: */
    MB_REPORT_ATTACHED = 32,    /* first report of an attachment: command_position = commands taken of it before */
    MB_REPORT_DETACHED = 33,    /* last report, `reason` says why */
    MB_REPORT_DONE = 34         /* a command without an order (subscribe, operator records) took effect */
};

enum mb_report_flag {
    MB_AS_MAKER = 1,            /* TRADE: this order was the maker */
    MB_SUBSCRIBED = 2           /* the order was entered by another session */
};

enum mb_assurance { MB_MATCHED = 1, MB_REPLICATED = 2, MB_DURABLE = 3 };

/* What a session is told: an execution report of one order. (sequence, index, flags AS_MAKER) names it for ever. */
typedef struct mb_report {
    uint64_t sequence;
    uint64_t timestamp_ns;
    uint64_t order_id;
    union {
        uint64_t trade_id;          /* TRADE */
        uint64_t command_position;  /* else: position of the command in this session that it answers, or 0 */
    };
    int64_t price_ticks;        /* TRADE: of the fill; else of the order */
    int64_t quantity_lots;      /* as in the event */
    int64_t leaves_lots;
    int64_t cumulative_lots;
    int64_t fee;                /* reserved for the ledger: 0 */
    uint32_t index;
    uint32_t account;
    uint32_t market;
    uint16_t reason;
    uint8_t kind;
    uint8_t side;
    uint8_t flags;              /* enum mb_report_flag */
    uint8_t assurance;          /* enum mb_assurance */
    uint8_t reserved[2];
    char client_order_id[MB_CLIENT_ID_BYTES];
} mb_report;

enum mb_market_data_kind {
    MB_MD_TRADE = 1,
    MB_MD_LEVEL = 2,            /* quantity now at price; 0 = the level is gone */
    MB_MD_BEST = 3              /* best bid and ask after a log record that moved either */
};

/* One slot of the public market-data ring, which gates nobody: `position` is its lock. */
typedef struct mb_market_data {
    uint64_t position;          /* 1 + the slot's position in the ring; 0 while it is being written */
    uint64_t sequence;          /* log record that caused it */
    uint64_t timestamp_ns;
    uint64_t trade_id;          /* TRADE */
    int64_t price_ticks;        /* TRADE, LEVEL; BEST: best bid, 0 = none */
    int64_t quantity_lots;      /* TRADE, LEVEL; BEST: quantity at the best bid */
    int64_t ask_price_ticks;    /* BEST: best ask, 0 = none */
    int64_t ask_quantity_lots;  /* BEST */
    uint64_t update;            /* number of the change in this market's depth, from 1: LEVEL and BEST say up to which */
    uint32_t market;
    uint8_t kind;               /* enum mb_market_data_kind */
    uint8_t side;               /* LEVEL: of the level; TRADE: the taker's */
    uint8_t reserved[2];
    uint64_t reserved_words[6];
} mb_market_data;

#define MB_ASSERT_RECORD(type, last) \
    MB_STATIC_ASSERT(sizeof(type) == MB_RECORD_BYTES, #type " must be two cache lines"); \
    MB_STATIC_ASSERT(offsetof(type, last) + sizeof(((type *)0)->last) == MB_RECORD_BYTES, \
                     #type " must have no padding at its end")
MB_ASSERT_RECORD(mb_record, client_order_id);
MB_ASSERT_RECORD(mb_market_record, tick_scale);
MB_ASSERT_RECORD(mb_named_record, name);
MB_ASSERT_RECORD(mb_event, reserved);
MB_ASSERT_RECORD(mb_report, client_order_id);
MB_ASSERT_RECORD(mb_market_data, reserved_words);
MB_STATIC_ASSERT(offsetof(mb_record, order_id) == 40, "every view of a record shares its first 40 bytes");
MB_STATIC_ASSERT(offsetof(mb_market_record, lot_units) == 40, "shared prefix");
MB_STATIC_ASSERT(offsetof(mb_named_record, epoch) == 40, "shared prefix");
MB_STATIC_ASSERT(offsetof(mb_record, market) == offsetof(mb_market_record, market), "one place for the market");
MB_STATIC_ASSERT(offsetof(mb_record, account) == offsetof(mb_named_record, account), "one place for the account");

#endif

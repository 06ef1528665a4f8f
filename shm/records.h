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

#define MB_LAYOUT_VERSION 3u
#define MB_CUT 0xC7u          /* mb_record.reserved */
/* At MB_LOST, the numbers of trades and of changes of the depth go on so much higher, in each market: more than what a
 * log ring full of orders can have used, be each of a hundred slices and all books full. */
#define MB_LOST_NUMBERS 0x100000000ull
#define MB_RECORD_BYTES 128
#define MB_CLIENT_ID_BYTES 36
#define MB_SYMBOL_BYTES 24
#define MB_NAME_BYTES 36

/* The highest price: 2^40 - 1 ticks. The price index of the book is built for 40-bit keys. */
#define MB_MAX_PRICE_TICKS ((INT64_C(1) << 40) - 1)
/* What all accounts together may have of one asset, in its units: so no balance, and no sum of them, can overflow. */
#define MB_MAX_ASSET_UNITS (INT64_C(1) << 62)
/* The exchange's own account: fees go there. Operators may transfer from it. */
#define MB_FEE_ACCOUNT UINT32_C(0xFFFFFFFF)
/* Fee tiers are numbered from 0. SET_ACCOUNT: by volume, as SET_TIER says. */
#define MB_FEE_TIERS 10
#define MB_TIER_BY_VOLUME 255
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
    MB_ORDER_TERMS = 7, /* the first of two records: what the NEW_ORDER right after it needs besides (mb_terms_record) */
    MB_MASS_CANCEL = 8, /* cancel all orders of `account`; only of `market`, only of `side`, unless they are 0 */
    MB_COUNTDOWN = 9,   /* mass cancel for `account` in `quantity_lots` ms unless renewed by then; 0: no more */
    MB_TRANSFER = 10,   /* between accounts (mb_money_record) */
    MB_REQUEST_WITHDRAWAL = 11, /* hold an amount (mb_money_record) */
    MB_CANCEL_WITHDRAWAL = 12,  /* let it go again */
    MB_ORDER_LIST = 13, /* the first of three or four records: a list of orders, the legs right after it (mb_list_record) */
    /* What only an operator session may send. */
    MB_ADD_ASSET = 32,
    MB_ADD_ACCOUNT = 33,
    MB_ADD_MARKET = 34,
    MB_ATTACH_SESSION = 35,
    MB_DETACH_SESSION = 36,
    MB_DEPOSIT = 37,            /* mb_money_record */
    MB_SETTLE_WITHDRAWAL = 38,  /* what was held has left */
    MB_SET_ACCOUNT = 39,        /* state, fee tier (mb_rules_record) */
    MB_SET_MARKET = 40,         /* state, limits, bands */
    MB_SET_FEES = 41,           /* maker and taker rate of a tier, of one market or of all that have none of their own */
    MB_SET_TIER = 42,           /* 30-day volume from which a tier applies */
    MB_REMOVE_MARKET = 43,      /* mb_named_record: its number (`id`) and name can be added again */
    MB_REMOVE_ASSET = 44,
    /* What only the sequencer writes. */
    MB_START = 48,      /* a new epoch: every session of the epochs before is detached */
    MB_STOP = 49,       /* the clean end of an epoch */
    MB_TICK = 50,       /* time: something is due at this timestamp */
    MB_RELEASE = 51,    /* the pending orders of a list, right after it, are orders now (mb_list_record) */
    MB_TAKE_OVER = 52,  /* a standby goes on as the engine of this epoch; sessions stay as they are */
    MB_LOST = 53,       /* a start has found memory lost: this number may have been given out before, to something that
                           is in no journal. order_id: the first of such records in a row; quantity: how many they are */
    MB_INVALID = 255    /* a command whose kind was unknown; always refused */
};

enum mb_side { MB_BUY = 1, MB_SELL = 2 };
/* From MB_STOP_LOSS on they wait until the last price reaches the trigger; then they are MARKET or LIMIT orders. */
enum mb_order_type {
    MB_LIMIT = 1,
    MB_MARKET = 2,
    MB_STOP_LOSS = 3,           /* triggered when the price moves against: up for a buy, down for a sell; then MARKET */
    MB_STOP_LOSS_LIMIT = 4,
    MB_TAKE_PROFIT = 5,         /* triggered when it moves in favour: down for a buy, up for a sell */
    MB_TAKE_PROFIT_LIMIT = 6
};
enum mb_time_in_force { MB_GTC = 1, MB_IOC = 2, MB_FOK = 3, MB_GTD = 4 };
/* What happens instead of a fill between two orders of one account; the taker's mode decides. */
enum mb_self_trade {
    MB_TRADE_WITH_SELF = 0,
    MB_EXPIRE_TAKER = 1,
    MB_EXPIRE_MAKER = 2,
    MB_EXPIRE_BOTH = 3,
    MB_DECREMENT = 4            /* both lose the smaller open quantity */
};
enum mb_account_state { MB_ACTIVE = 1, MB_CANCEL_ONLY = 2, MB_FROZEN = 3 };
enum mb_market_state { MB_STATE_OPEN = 1, MB_STATE_POST_ONLY = 2, MB_STATE_CANCEL_ONLY = 3, MB_STATE_HALTED = 4 };

enum mb_flag {
    MB_POST_ONLY = 1,     /* NEW_ORDER: rejected if it would take */
    MB_TO_OPEN = 2,       /* AMEND_ORDER: quantity is what is to remain open, not the order's total */
    MB_REQUEUE = 4,       /* AMEND_ORDER: give up the place in the queue even where it could be kept */
    MB_QUOTE_AMOUNT = 8,  /* NEW_ORDER, MARKET: quantity is an amount of the quote asset, in its units */
    MB_LEG = 16,          /* NEW_ORDER: belongs to the records before it (ORDER_LIST, or CANCEL_ORDER with REPLACE) */
    MB_REPLACE = 32,      /* CANCEL_ORDER: the NEW_ORDER after it comes in its place */
    MB_ALLOW_FAILURE = 64, /* CANCEL_ORDER with REPLACE: also if nothing can be canceled */
    MB_OF_PENDING = 128   /* (s) CANCEL_ORDER: of a pending order, which no matcher knows */
};
enum mb_list_type {
    MB_OCO = 1,           /* one cancels the other */
    MB_OTO = 2,           /* one triggers another: working, pending */
    MB_OTOCO = 3          /* one triggers an OCO: working, and two that are pending */
};

/* mb_rules_record: which of its fields a SET_ACCOUNT or SET_MARKET record changes, and what else it does. */
enum mb_rule {
    MB_RULE_STATE = 1,
    MB_RULE_TIER = 2,           /* SET_ACCOUNT */
    MB_RULE_NOTIONAL = 4,       /* SET_MARKET */
    MB_RULE_REFERENCE = 8,      /* SET_MARKET */
    MB_RULE_BANDS = 16,         /* SET_MARKET */
    MB_RULE_PROTECTION = 32,    /* SET_MARKET */
    MB_RULE_ORDERS = 64,        /* SET_MARKET */
    MB_RULE_CANCEL = 128        /* kill switch: cancel every order of the account, or market */
};

/* mb_new_order.has_terms: how an order belongs to the records before it; 0: it stands alone. */
enum mb_belongs {
    MB_HAS_TERMS = 1,           /* the record before is its ORDER_TERMS */
    MB_IN_LIST = 2,             /* it is a leg of a list (or of a RELEASE), placed now */
    MB_IS_PENDING = 4,          /* it is a leg of a list, placed when the working order is filled */
    MB_REPLACES = 8             /* it comes in the place of the order that the CANCEL_ORDER before it names */
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
    uint8_t reserved;           /* 0; of an order, cancel or amend that is cut out MB_CUT, which who reads a log puts in */
    uint64_t order_id;          /* the order meant; 0: by client_order_id (then (s)). NEW_ORDER: see mb_new_order */
    int64_t price_ticks;        /* limit: 1..MB_MAX_PRICE_TICKS. Market orders: 0, then (s) the worst price allowed,
                                   0 = any. AMEND_ORDER: 0 = unchanged */
    int64_t quantity_lots;      /* NEW_ORDER, AMEND_ORDER: > 0. AMEND_ORDER: 0 = unchanged. CANCEL_ORDER with REPLACE:
                                   0, then (s) what the new order lacks until the old one's hold is free */
    int64_t trigger_ticks;      /* NEW_ORDER with a trigger: its price; trailing: 0, or where the trailing begins */
    union {
        int64_t hold;           /* (s) NEW_ORDER: what is held for it, or may be spent; AMEND_ORDER: what is held more */
        int64_t cancel_reason;  /* (s) CANCEL_ORDER: code of reasons.h */
    };
    uint32_t account;           /* 0 = the session's own */
    uint32_t market;
    uint8_t side;               /* NEW_ORDER */
    uint8_t time_in_force;      /* NEW_ORDER */
    uint8_t order_type;         /* NEW_ORDER */
    uint8_t flags;              /* enum mb_flag */
    char client_order_id[MB_CLIENT_ID_BYTES];
} mb_record;

/* NEW_ORDER: mb_record, with the order's terms where others name an order. Its order id is its sequence. */
typedef struct mb_new_order {
    uint64_t sequence;
    uint64_t timestamp_ns;
    uint64_t session_position;
    uint32_t session;
    uint32_t settled_lag;
    uint32_t settled_index;
    uint16_t reject;
    uint8_t kind;
    uint8_t reserved;
    int16_t maker_fee_ppm;      /* (s) of what is received; negative: a rebate, out of the taker's fee */
    int16_t taker_fee_ppm;      /* (s) */
    uint16_t trailing_bips;     /* orders with a trigger: it follows the price at this distance, 1/10,000; else 0 */
    uint8_t self_trade;         /* enum mb_self_trade */
    uint8_t has_terms;          /* (s) enum mb_belongs: what the records before have to do with it */
    int64_t price_ticks;
    int64_t quantity_lots;
    int64_t trigger_ticks;
    int64_t hold;
    uint32_t account;
    uint32_t market;
    uint8_t side;
    uint8_t time_in_force;
    uint8_t order_type;
    uint8_t flags;
    char client_order_id[MB_CLIENT_ID_BYTES];
} mb_new_order;

/* ORDER_TERMS: what an order needs that few do. The NEW_ORDER right after it in the ring belongs to it; both are taken
 * and decided together, stand side by side in the log, and have the same reject code. */
typedef struct mb_terms_record {
    uint64_t sequence;
    uint64_t timestamp_ns;
    uint64_t session_position;
    uint32_t session;
    uint32_t settled_lag;
    uint32_t settled_index;
    uint16_t reject;
    uint8_t kind;
    uint8_t reserved;
    int64_t display_lots;       /* iceberg: how much of it is shown at a time; 0 = all */
    uint64_t expire_ns;         /* GTD: when it expires; else 0 */
    uint64_t reserved_words[3];
    uint32_t account;           /* as in the order */
    uint32_t market;
    uint8_t reserved_bytes[4];
    char reserved_text[MB_CLIENT_ID_BYTES];
} mb_terms_record;

/* ORDER_LIST, and RELEASE: what its legs are, which are the NEW_ORDER records right after it. */
typedef struct mb_list_record {
    uint64_t sequence;
    uint64_t timestamp_ns;
    uint64_t session_position;
    uint32_t session;
    uint32_t settled_lag;
    uint32_t settled_index;
    uint16_t reject;
    uint8_t kind;
    uint8_t reserved;
    int64_t display_lots[3];    /* of each leg, as in mb_terms_record */
    uint64_t expire_ns;         /* of the legs that are GTD */
    uint64_t list_id;           /* (s) sequence of the ORDER_LIST record; RELEASE: its pending orders' ids are + 2, + 3 */
    uint32_t account;
    uint32_t market;
    uint8_t list_type;          /* enum mb_list_type. RELEASE: 0 or MB_OCO */
    uint8_t legs;               /* (s) how many records follow */
    uint8_t reserved_bytes[2];
    char client_list_id[MB_CLIENT_ID_BYTES]; /* the client's name for the list; may be empty, need not be unique */
} mb_list_record;

/* Money: DEPOSIT, REQUEST_, SETTLE_, CANCEL_WITHDRAWAL, TRANSFER. */
typedef struct mb_money_record {
    uint64_t sequence;
    uint64_t timestamp_ns;
    uint64_t session_position;
    uint32_t session;
    uint32_t settled_lag;
    uint32_t settled_index;
    uint16_t reject;
    uint8_t kind;
    uint8_t reserved;
    int64_t amount;             /* in units of the asset, > 0. SETTLE_, CANCEL_WITHDRAWAL: 0, then (s) what was held */
    char note[24];              /* why, where an operator does it */
    uint32_t operator_id;       /* (s) user of an operator session, + 1; 0: the account's own */
    uint16_t asset;             /* SETTLE_, CANCEL_WITHDRAWAL: 0, then (s) */
    uint16_t reserved_word;
    uint32_t account;           /* TRANSFER: from */
    uint32_t counter_account;   /* TRANSFER: to */
    uint32_t reserved_long;
    char reference[MB_CLIENT_ID_BYTES]; /* names the movement outside; used once. TRANSFER: may be empty */
} mb_money_record;

/* Rules: SET_ACCOUNT, SET_MARKET, SET_FEES, SET_TIER. */
typedef struct mb_rules_record {
    uint64_t sequence;
    uint64_t timestamp_ns;
    uint64_t session_position;
    uint32_t session;
    uint32_t settled_lag;
    uint32_t settled_index;
    uint16_t reject;
    uint8_t kind;
    uint8_t reserved;
    int64_t amount;             /* SET_MARKET: least price times quantity, in quote units; SET_TIER: volume, in whole */
    int64_t reference_ticks;    /* SET_MARKET: what bands are around until the next trade */
    uint16_t band_up_bips;      /* SET_MARKET: 1/10,000 of the reference; 0 = no band */
    uint16_t band_down_bips;    /* below 10,000 */
    uint16_t protection_bips;   /* SET_MARKET: how far from the last price a market order may trade; 1..10,000 */
    uint16_t asset;             /* SET_TIER: volume is counted in markets that are quoted in it */
    uint32_t account_orders;    /* SET_MARKET: open orders of one account; 0 = no limit but the market's */
    uint32_t operator_id;       /* (s) as in mb_money_record */
    uint32_t reserved_long;
    int16_t maker_fee_ppm;      /* SET_FEES: -30,000..30,000 */
    int16_t taker_fee_ppm;      /* SET_FEES: 0..30,000 */
    uint32_t account;           /* SET_ACCOUNT */
    uint32_t market;            /* SET_MARKET; SET_FEES: 0 = all markets without rates of their own */
    uint8_t state;              /* enum mb_account_state, mb_market_state */
    uint8_t tier;               /* SET_FEES, SET_TIER; SET_ACCOUNT: also MB_TIER_BY_VOLUME */
    uint8_t rules;              /* enum mb_rule: what SET_ACCOUNT and SET_MARKET change */
    uint8_t reserved_byte;
    char note[MB_NAME_BYTES];   /* why */
} mb_rules_record;

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
    uint8_t specials;           /* how many orders can be icebergs or wait for a trigger: 2^(specials - 1), at most
                                   max_orders; 0: a 16th of max_orders, at least 64 */
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

/* ADD_ASSET, ADD_ACCOUNT, REMOVE_MARKET, REMOVE_ASSET, ATTACH_SESSION, DETACH_SESSION, START, STOP, TAKE_OVER, SUBSCRIBE:
 * something with a number and a name. */
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
    uint32_t parent;            /* ADD_ACCOUNT: the account that it is a sub-account of; 0 = none */
    uint32_t user;              /* ATTACH_SESSION: user id of the bot's process, + 1; 0 = not known */
    uint8_t cancel_on_detach;   /* ATTACH_SESSION: 1 = its end, however it comes, cancels the orders it entered */
    uint8_t assurance;          /* ATTACH_SESSION: enum mb_assurance that releases its reports; 0 = MATCHED */
    uint8_t reserved_bytes[6];
    uint32_t account;           /* ATTACH_SESSION: the account it trades for; ADD_ACCOUNT: its number */
    uint32_t id;                /* the asset or market, or the session that is attached or detached */
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
    MB_AMENDED = 7,   /* price, quantity = new total, leaves; left its old level: previous_* */
    MB_TRIGGERED = 8, /* an order that waited for its trigger is a taker now: price = its limit, leaves */
    MB_PREVENTED = 9, /* self-trade prevention took quantity off both orders: as TRADE, but no money moves */
    MB_BALANCE = 10   /* of an account (ledger): market = asset, quantity = free, leaves = held, cumulative = amount:
                         below 0 where it leaves or is requested to */
};

enum mb_event_flag {
    MB_LAST = 1,      /* the last event of its log record from this source */
    MB_RESTING = 2,   /* ACCEPTED, AMENDED: it stands on the book now, and level_lots is its level's total;
                         CANCELED, EXPIRED: it stood there, and level_lots is what is left of its level */
    MB_WAITING = 4,   /* ACCEPTED: it waits for its trigger */
    MB_PENDING = 8    /* ACCEPTED, CANCELED (ledger): a leg of a list that waits for the working order */
};

/* What a matcher says. Every log record that concerns a matcher yields one event or more; the last has MB_LAST. */
typedef struct mb_event {
    uint64_t sequence;          /* log record that caused it */
    uint64_t order_id;          /* the order concerned; TRADE: the taker's */
    uint64_t maker_order_id;    /* TRADE */
    uint64_t trade_id;          /* TRADE: number of the trade in its market, from 1 */
    int64_t price_ticks;        /* TRADE: the maker's price; else the order's (a market order's: its bound, 0 = none) */
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
    int64_t fee;                /* TRADE: the taker's, in units of what it receives */
    int64_t maker_fee;          /* TRADE: in units of what the maker receives; negative: a rebate, in what the taker
                                   receives, out of `fee` */
    uint32_t index;             /* number of the event within its log record and source, from 0 */
    uint32_t market;
    uint32_t account;
    uint32_t maker_account;     /* TRADE */
    uint16_t reason;            /* REJECTED, EXPIRED, CANCELED: code of reasons.h */
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
    MB_SUBSCRIBED = 2,          /* the order was entered by another session */
    MB_WAS_PENDING = 4,         /* ACCEPTED, CANCELED: a leg of a list that waits for the working order */
    MB_RELEASED = 8             /* ACCEPTED, REJECTED: it was pending until now */
};

/* What its record had when a report was released: each includes those before it. */
enum mb_assurance {
    MB_MATCHED = 1,             /* it is in the log ring and its events are out */
    MB_REPLICATED = 2,          /* the standby has applied it, or it is durable */
    MB_DURABLE = 3              /* it is in the journal, on the disk */
};

/* What a session is told: an execution report of one order. (sequence, index, flags AS_MAKER) names it for ever. */
typedef struct mb_report {
    uint64_t sequence;
    uint64_t timestamp_ns;
    uint64_t order_id;
    union {
        uint64_t trade_id;          /* TRADE */
        uint64_t command_position;  /* else: position of the command in this session that it answers, or 0; with
                                       RELEASED: the order id that it had while it was pending */
    };
    int64_t price_ticks;        /* TRADE: of the fill; else of the order */
    int64_t quantity_lots;      /* as in the event */
    int64_t leaves_lots;
    int64_t cumulative_lots;
    int64_t fee;                /* TRADE: as in the event, of this order */
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
MB_ASSERT_RECORD(mb_new_order, client_order_id);
MB_ASSERT_RECORD(mb_terms_record, reserved_text);
MB_ASSERT_RECORD(mb_list_record, client_list_id);
MB_ASSERT_RECORD(mb_money_record, reference);
MB_ASSERT_RECORD(mb_rules_record, note);
MB_ASSERT_RECORD(mb_market_record, tick_scale);
MB_ASSERT_RECORD(mb_named_record, name);
MB_ASSERT_RECORD(mb_event, reserved);
MB_ASSERT_RECORD(mb_report, client_order_id);
MB_ASSERT_RECORD(mb_market_data, reserved_words);
MB_STATIC_ASSERT(offsetof(mb_record, order_id) == 40, "every view of a record shares its first 40 bytes");
MB_STATIC_ASSERT(offsetof(mb_new_order, maker_fee_ppm) == 40, "shared prefix");
MB_STATIC_ASSERT(offsetof(mb_new_order, price_ticks) == offsetof(mb_record, price_ticks), "one layout of orders");
MB_STATIC_ASSERT(offsetof(mb_new_order, client_order_id) == offsetof(mb_record, client_order_id), "one layout");
MB_STATIC_ASSERT(offsetof(mb_terms_record, display_lots) == 40, "shared prefix");
MB_STATIC_ASSERT(offsetof(mb_list_record, display_lots) == 40, "shared prefix");
MB_STATIC_ASSERT(offsetof(mb_record, account) == offsetof(mb_list_record, account), "one place for the account");
MB_STATIC_ASSERT(offsetof(mb_money_record, amount) == 40, "shared prefix");
MB_STATIC_ASSERT(offsetof(mb_rules_record, amount) == 40, "shared prefix");
MB_STATIC_ASSERT(offsetof(mb_record, account) == offsetof(mb_money_record, account), "one place for the account");
MB_STATIC_ASSERT(offsetof(mb_record, account) == offsetof(mb_rules_record, account), "one place for the account");
MB_STATIC_ASSERT(offsetof(mb_record, market) == offsetof(mb_rules_record, market), "one place for the market");
MB_STATIC_ASSERT(offsetof(mb_market_record, lot_units) == 40, "shared prefix");
MB_STATIC_ASSERT(offsetof(mb_named_record, epoch) == 40, "shared prefix");
MB_STATIC_ASSERT(offsetof(mb_record, market) == offsetof(mb_market_record, market), "one place for the market");
MB_STATIC_ASSERT(offsetof(mb_record, account) == offsetof(mb_named_record, account), "one place for the account");
MB_STATIC_ASSERT(offsetof(mb_record, market) == offsetof(mb_named_record, id), "one place for the market");
MB_STATIC_ASSERT(offsetof(mb_record, reserved) == offsetof(mb_market_record, specials), "shared prefix");

#endif

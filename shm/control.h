/* The control socket: how a bot gets its session.
 *
 * A Unix socket of type SOCK_SEQPACKET in the instance's data directory (control.sock). One request, one reply, each
 * one packet; descriptors travel with the reply (SCM_RIGHTS). The connection may stay open or be closed: a
 * session ends with its process, with LOGOUT, or by an operator, not with this socket. The exchange allows so many
 * connections of a user: who is turned away finds a reply there that says so, and the other end closed; where all
 * are taken, those are hung up that have no session and stay silent for 5 seconds.
 *
 * ATTACH      the reply carries five descriptors: the command segment (read-write), the report segment
 *             (read-only), the market-data segment (read-only), and pidfds of the processes that take commands
 *             and write reports (readable = dead)
 * DEPTH       for `market` (or `symbol`): one descriptor, the depth segment (read-only; depth.h)
 * MARKETS     no descriptor; `count` mb_market_record follow the reply in the same packet
 * CLOSE       of an attached session by its own process: detaches it, as LOGOUT does
 * DEFINE      an operator's; the request is followed, in the same packet, by an ADD_ or REMOVE_ record (128 bytes). The
 *             exchange sets memory aside where that needs some, logs the record, and answers; or refuses, and nothing
 *             is done. Number 0 in an ADD_ record: one that is free; in a REMOVE_ record: by its name
 * PROMOTE     an operator's: the standby takes over from an engine that is well. The answer has the last record of the
 *             engine before, and how long it took
 * SNAPSHOT    an operator's: the standby takes one now. The answer has the last record that it has replayed: the
 *             snapshot, which is written later, is of that or a later one
 *
 * These are answered with one descriptor of a sealed file, whose content is JSON:
 *
 * ASSETS      [{"number", "name", "scale"}, ...]
 * ACCOUNTS    [{"number", "name", "parent"}, ...]: those that the asking user may name; parent 0: none
 * BALANCES    of account `number`: {"balances": [[asset, free, held], ...], "settled": sequence, "account": {"state", ...},
 *             "fees": [[market, maker rate, taker rate], ...]}, in units and ppm; market 0: those without rates of their own
 * LISTING     {"markets": [{...}, ...], "assets": [[asset, scale, supply], ...]}: the rules of every market as they are
 *             now, by number, as far as is settled; prices in ticks, amounts in units
 * ORDERS      live ones of account `number` (0: all), in `market` (0: all): {"orders": [{...}, ...]}
 */
#ifndef MATCHBOX_CONTROL_H
#define MATCHBOX_CONTROL_H

#include "records.h"

#define MB_CONTROL_MAGIC UINT64_C(0x314c5254434f424d) /* "MBOCTRL1" in memory order */

enum mb_request_kind {
    MB_REQUEST_ATTACH = 1,
    MB_REQUEST_DEPTH = 2,
    MB_REQUEST_MARKETS = 3,
    MB_REQUEST_CLOSE = 4,
    MB_REQUEST_ASSETS = 5,
    MB_REQUEST_ACCOUNTS = 6,
    MB_REQUEST_BALANCES = 7,
    MB_REQUEST_ORDERS = 8,
    MB_REQUEST_DEFINE = 9,
    MB_REQUEST_LISTING = 10,
    MB_REQUEST_PROMOTE = 12,
    MB_REQUEST_SNAPSHOT = 13
};

enum mb_request_flag {
    MB_REQUEST_CANCEL_ON_DETACH = 1,    /* ATTACH: the session's end, however it comes, cancels the orders it entered */
    MB_REQUEST_OPERATOR = 2,            /* ATTACH: to operate, with all else that is open to the user */
    MB_REQUEST_REPLICATED = 4,          /* ATTACH: a report is given when its record is replicated, or durable; without */
    MB_REQUEST_DURABLE = 8,             /* either of the two, when it is matched (enum mb_assurance) */
    MB_REQUEST_DOORBELL = 16            /* ATTACH, by the exchange's own user: an eventfd comes with the reply, last. It is
                                           written when there are reports, once for each time that the session has
                                           announced itself in `doorbell` of its command ring (ring.h) */
};

typedef struct mb_request {
    uint64_t magic;
    uint32_t layout_version;
    uint32_t kind;              /* enum mb_request_kind */
    uint32_t capabilities;      /* ATTACH: enum mb_capability wished for; 0 = trade */
    uint32_t market;            /* DEPTH, ORDERS */
    char account[MB_NAME_BYTES];/* ATTACH: name of the account to trade for */
    char name[MB_NAME_BYTES];   /* ATTACH, CLOSE: name of the session; the same name goes on where it stopped */
    char symbol[MB_SYMBOL_BYTES];/* DEPTH, if market is 0 */
    uint32_t flags;             /* enum mb_request_flag */
    uint32_t number;            /* BALANCES, ORDERS: of the account. DEFINE: 1 + the matcher that is to carry a market,
                                   0: the one with the fewest */
} mb_request;
MB_STATIC_ASSERT(sizeof(mb_request) == 128, "one request, two cache lines");

typedef struct mb_reply {
    uint64_t magic;
    uint32_t layout_version;
    uint32_t status;            /* 0, or a code of reasons.h */
    uint32_t session;           /* ATTACH: its number */
    uint32_t account;           /* ATTACH: the account's number; DEFINE: the number of what was added or removed */
    uint64_t position;          /* ATTACH: its last sequenced command, 0 = none */
    uint64_t sequence;          /* ATTACH, DEFINE: its log record */
    uint32_t count;             /* MARKETS */
    uint32_t reserved;
    char text[208];             /* what was wrong and what is allowed; zero-terminated */
} mb_reply;
MB_STATIC_ASSERT(sizeof(mb_reply) == 256, "layout");

#endif

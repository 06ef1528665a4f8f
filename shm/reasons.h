/* Every code a refusal, an expiry or a detachment can carry, in numbered ranges per subsystem.
 *
 * MB_REASONS is the only list: the enum below, `matchbox.shm.reasons` and the table in docs/reject-codes.md
 * are made from or checked against it. Numbers are never reused.
 */
#ifndef MATCHBOX_REASONS_H
#define MATCHBOX_REASONS_H

#define MB_REASONS(X) \
    X(100, UNKNOWN_KIND, "the record's kind is not one a session can send") \
    X(101, NOT_PERMITTED, "the session lacks the capability for this record") \
    X(102, ACCOUNT_NOT_PERMITTED, "the session does not trade for this account") \
    X(103, UNKNOWN_ACCOUNT, "no such account") \
    X(104, UNKNOWN_SESSION, "no such session, or it is not attached") \
    X(105, ALREADY_EXISTS, "an asset, account, market or session with this number or name exists") \
    X(106, BAD_DEFINITION, "the definition of the asset, account, market or session is not valid") \
    X(200, UNKNOWN_MARKET, "no such market") \
    X(201, BAD_SIDE, "side is neither buy nor sell") \
    X(202, BAD_ORDER_TYPE, "order type is neither limit nor market") \
    X(203, BAD_TIME_IN_FORCE, "time in force is none of GTC, IOC, FOK, or does not go with the order type") \
    X(204, BAD_FLAGS, "a flag is unknown, or does not go with the kind, order type or time in force") \
    X(205, BAD_PRICE, "price is outside 1 to the market's maximum, or not 0 on a market order") \
    X(206, PRICE_OFF_TICK, "price is not a multiple of the market's price step") \
    X(207, BAD_QUANTITY, "quantity is below the market's minimum or above its maximum") \
    X(208, QUANTITY_OFF_LOT, "quantity is not a multiple of the market's quantity step") \
    X(209, NOTIONAL_OVERFLOW, "price times quantity passes the range of a 64-bit amount") \
    X(210, BAD_FIELD, "a field that must be zero here is not") \
    X(211, BAD_CLIENT_ORDER_ID, "client order id is not 1 to 36 printable ASCII characters, zero-padded") \
    X(212, NOTHING_TO_AMEND, "an amend names neither a price nor a quantity") \
    X(300, UNKNOWN_ORDER, "no live order of this account has this id") \
    X(301, DUPLICATE_CLIENT_ORDER_ID, "a live order of this account has this client order id") \
    X(302, TOO_MANY_ORDERS, "the market holds as many orders as it was set up for") \
    X(303, TOO_MANY_OBJECTS, "as many assets, accounts, markets or sessions exist as the exchange was set up for") \
    X(400, WOULD_TAKE, "post-only, and it would have matched") \
    X(401, NOT_FILLABLE, "fill-or-kill, and the book cannot fill it whole") \
    X(402, NO_LIQUIDITY, "what could not be matched at once has expired") \
    X(403, BELOW_FILLED, "the new quantity is not above what is filled already") \
    X(500, LOGGED_OUT, "the session logged out") \
    X(501, DISCONNECTED, "the session's process has ended") \
    X(502, PROTOCOL_VIOLATION, "a ring position of the session moved where it cannot") \
    X(503, SLOW_READER, "the session's report ring was full") \
    X(504, BY_OPERATOR, "an operator detached the session") \
    X(505, ENGINE_STOPPED, "the exchange stopped or restarted")

enum mb_reason {
    MB_NONE = 0,
#define MB_REASON_ENUM(code, name, text) MB_##name = code,
    MB_REASONS(MB_REASON_ENUM)
#undef MB_REASON_ENUM
};

#endif

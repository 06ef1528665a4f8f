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
    X(107, BAD_LEGS, "records that go together are not next to each other, or do not make what they say") \
    X(108, BAD_RULE, "a state, tier, rate, band or limit is out of range, or a rule does not go with the kind") \
    X(109, BAD_REFERENCE, "the reference is not 1 to 36 printable ASCII characters, zero-padded") \
    X(110, BAD_AMOUNT, "the amount is not above 0, or passes what all accounts together may have of an asset") \
    X(111, UNKNOWN_ASSET, "no such asset") \
    X(112, DUPLICATE_REFERENCE, "a movement with this reference has been logged already: nothing was done again") \
    X(113, UNKNOWN_REFERENCE, "no withdrawal of this account with this reference waits") \
    X(120, MARKET_IN_USE, "orders of the market are live") \
    X(121, ASSET_IN_USE, "accounts have some of the asset, a market trades it, or volumes are counted in it") \
    X(122, NOT_PREPARED, "no memory was set aside for the market: it is added by way of the control socket") \
    X(123, NOT_JOURNALED, "the exchange keeps no journal, so no report would ever be replicated or durable") \
    X(124, NO_STANDBY, "no standby follows that could take over") \
    X(200, UNKNOWN_MARKET, "no such market") \
    X(201, BAD_SIDE, "side is neither buy nor sell") \
    X(202, BAD_ORDER_TYPE, "order type is not known, or a change of an order names one") \
    X(203, BAD_TIME_IN_FORCE, "time in force is none of GTC, IOC, FOK, GTD, or does not go with the order type") \
    X(204, BAD_FLAGS, "a flag is unknown, or does not go with the kind, order type or time in force") \
    X(205, BAD_PRICE, "price is outside 1 to the market's maximum, or not 0 on a market order") \
    X(206, PRICE_OFF_TICK, "price is not a multiple of the market's price step") \
    X(207, BAD_QUANTITY, "quantity is below the market's minimum or above its maximum") \
    X(208, QUANTITY_OFF_LOT, "quantity is not a multiple of the market's quantity step") \
    X(209, NOTIONAL_OVERFLOW, "price times quantity passes the range of a 64-bit amount") \
    X(210, BAD_FIELD, "a field that must be zero here is not") \
    X(211, BAD_CLIENT_ORDER_ID, "client order id is not 1 to 36 printable ASCII characters, zero-padded") \
    X(212, NOTHING_TO_AMEND, "an amend names neither a price nor a quantity") \
    X(213, BAD_TRIGGER, "trigger price or trailing distance is missing, out of range, or not for this order type") \
    X(214, BAD_SELF_TRADE, "self-trade prevention is none of the known modes") \
    X(215, BAD_DISPLAY, "display quantity is not 1 to below the order's, off the step, or makes over 100 slices") \
    X(216, BAD_EXPIRY, "GTD without a time to come, or a time without GTD") \
    X(217, BELOW_MIN_NOTIONAL, "price times quantity, or the quote amount, is below the market's minimum") \
    X(218, BAD_TIMEOUT, "a countdown is not 0 to 2,147,483,647 ms") \
    X(300, UNKNOWN_ORDER, "no live order of this account has this id") \
    X(301, DUPLICATE_CLIENT_ORDER_ID, "a live order of this account has this client order id") \
    X(302, TOO_MANY_ORDERS, "the market holds as many orders as it was set up for") \
    X(303, TOO_MANY_OBJECTS, "as many assets, accounts, markets or sessions exist as the exchange was set up for") \
    X(304, INSUFFICIENT_BALANCE, "the account has less free than the order, withdrawal or transfer needs") \
    X(305, ACCOUNT_CANCEL_ONLY, "the account may only cancel") \
    X(306, ACCOUNT_FROZEN, "the account is frozen") \
    X(307, MARKET_HALTED, "the market is halted") \
    X(308, MARKET_CANCEL_ONLY, "the market takes cancels only") \
    X(309, MARKET_POST_ONLY, "the market takes only orders that cannot take") \
    X(310, TOO_MANY_ACCOUNT_ORDERS, "the account has as many open orders in this market as it may") \
    X(311, NO_REFERENCE_PRICE, "a trailing market order needs a last price or a trigger price, and there is none") \
    X(400, WOULD_TAKE, "post-only, and it would have matched") \
    X(401, NOT_FILLABLE, "fill-or-kill, and the book cannot fill it whole") \
    X(402, NO_LIQUIDITY, "what could not be matched at once has expired") \
    X(403, BELOW_FILLED, "the new quantity is not above what is filled already") \
    X(404, PRICE_BAND, "the price is outside the market's band around its reference price") \
    X(405, WOULD_TRIGGER, "the last price is beyond the trigger already") \
    X(406, CANNOT_AMEND, "an order that waits for its trigger, or in a list, cannot be amended") \
    X(407, HOLD_EXCEEDED, "fills since the amend was sequenced leave less held than the amended order needs") \
    X(408, SELF_TRADE, "self-trade prevention expired the order") \
    X(409, BUDGET_SPENT, "what is left of the budget buys no lot at the next price") \
    X(410, CANCEL_FAILED, "the order that it was to replace could not be canceled") \
    X(411, POISONED, "processing it killed the engine: it was cut out, and nothing of it was done") \
    X(500, LOGGED_OUT, "the session logged out") \
    X(501, DISCONNECTED, "the session's process has ended") \
    X(502, PROTOCOL_VIOLATION, "a ring position of the session moved where it cannot") \
    X(503, SLOW_READER, "the session's report ring was full") \
    X(504, BY_OPERATOR, "an operator detached the session") \
    X(505, ENGINE_STOPPED, "the exchange stopped or restarted") \
    X(600, ON_REQUEST, "canceled by the account") \
    X(601, MASS_CANCELED, "canceled by a mass cancel") \
    X(602, GTD_EXPIRED, "good till a date that has passed") \
    X(603, SESSION_ENDED, "cancel on disconnect: the session that entered it ended") \
    X(604, COUNTDOWN_ENDED, "the account's countdown was not renewed in time") \
    X(605, ACCOUNT_KILLED, "an operator canceled all orders of the account") \
    X(606, MARKET_KILLED, "an operator canceled all orders of the market") \
    X(607, LIST_ENDED, "another order of its list was filled, triggered, canceled or expired")

enum mb_reason {
    MB_NONE = 0,
#define MB_REASON_ENUM(code, name, text) MB_##name = code,
    MB_REASONS(MB_REASON_ENUM)
#undef MB_REASON_ENUM
};

#endif

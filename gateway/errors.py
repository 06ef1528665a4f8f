"""What goes wrong at the doors: Binance's codes, messages and HTTP statuses.

    ApiError      one of them, raised anywhere below a door and answered there
    refused()     what a client is told where the engine refused a command, by one table: REFUSALS
    illegal() ... the -1100 family: what is wrong with the parameters of a request

Clients match on codes and on some texts word for word; those are in quotes in docs/api.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from matchbox.shm.reasons import Reason


@dataclass(frozen=True)
class Answer:
    """Code, message and HTTP status of an error."""

    code: int
    message: str
    status: int = 400


class ApiError(Exception):
    """An error that a client is told."""

    def __init__(
        self,
        code: int,
        message: str,
        status: int = 400,
        *,
        headers: Mapping[str, str] | None = None,
        data: Any = None,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.status = code, message, status
        self.headers, self.data = dict(headers or {}), data

    @property
    def body(self) -> dict[str, Any]:
        more = {} if self.data is None else {"data": self.data}
        return {"code": self.code, "msg": self.message, **more}


def of(answer: Answer) -> ApiError:
    return ApiError(answer.code, answer.message, answer.status)


# ---- general

UNEXPECTED = Answer(-1000, "An unknown error occurred while processing the request.", 500)
DISCONNECTED = Answer(
    -1001, "Internal error; unable to process your request. Please try again.", 503
)
# The order may have been taken: a client looks it up by its client order id.
STATE_UNKNOWN = Answer(
    -1007,
    "Timeout waiting for response from backend server. Send status unknown; execution status "
    "unknown.",
    504,
)
OVERLOADED = Answer(-1008, "Request throttled by system-level protection. Please try again.", 503)
NO_SUCH_PATH = Answer(-1000, "No such path.", 404)
NO_SUCH_METHOD = Answer(-1000, "Request method is not supported by this path.", 405)
TOO_LARGE = Answer(-1000, "The request is too large.", 413)

# ---- who asks

BAD_KEY_FORMAT = Answer(-2014, "API-key format invalid.", 401)
# One answer for a key that is unknown, disabled, expired, of another address or without permission.
BAD_KEY = Answer(-2015, "Invalid API-key, IP, or permissions for action.", 401)
BAD_SIGNATURE = Answer(-1022, "Signature for this request is not valid.")
OUTSIDE_WINDOW = Answer(-1021, "Timestamp for this request is outside of the recvWindow.")
AHEAD_OF_TIME = Answer(-1021, "Timestamp for this request was 1000ms ahead of the server's time.")
REPLAYED = Answer(-1022, "This signed request was accepted already; sign a new one.")

NO_SUCH_LISTEN_KEY = Answer(-1125, "This listenKey does not exist.")

# ---- the WebSocket API

BAD_JSON = Answer(-1135, "The request is not a JSON object.")
UNKNOWN_METHOD = Answer(-1020, "This operation is not supported: there is no such method.")
NOT_FOR_THIS_KEY = Answer(-4056, "Only an Ed25519 API key can log on; others sign each request.")
NOT_LOGGED_ON = Answer(
    -2014, "Log on first, or subscribe by userDataStream.subscribe.signature.", 401
)
NO_SUCH_SUBSCRIPTION = Answer(-2036, "There is no such subscription on this connection.")
TOO_MANY_SUBSCRIPTIONS = Answer(-1128, "There are too many subscriptions on this connection.")

# ---- orders

UNKNOWN_SYMBOL = Answer(-1121, "Invalid symbol.")
UNKNOWN_ORDER = Answer(-2011, "Unknown order sent.")
NO_SUCH_ORDER = Answer(-2013, "Order does not exist.")
NO_SUCH_LIST = Answer(-2013, "Order list does not exist.")
BAD_LIST = Answer(
    -2010, "The relationship of the prices, sides or types of the orders is not correct."
)
PARTLY_REPLACED = Answer(-2021, "Order cancel-replace partially failed.", 409)
NOT_REPLACED = Answer(-2022, "Order cancel-replace failed.")
NOT_SMALLER = Answer(-2038, "The new quantity must be less than what the order has.")
WINDOW_TOO_LONG = Answer(-1127, "More than 24 hours between startTime and endTime.")
BAD_COMBINATION = Answer(-1128, "Combination of optional parameters invalid.")
_NOT_NOW = "This order type is not possible in this trading phase."
_AMEND = "The requested action would result in no change, or the order cannot be amended."
_DISABLED = "This action is disabled on this account."


def filter_failure(name: str) -> Answer:
    return Answer(-1013, f"Filter failure: {name}")


_INTERNAL = (
    Reason.UNKNOWN_KIND,
    Reason.UNKNOWN_SESSION,
    Reason.ALREADY_EXISTS,
    Reason.BAD_DEFINITION,
    Reason.BAD_LEGS,
    Reason.BAD_RULE,
    Reason.MARKET_IN_USE,
    Reason.ASSET_IN_USE,
    Reason.NOT_PREPARED,
    Reason.NOT_JOURNALED,
    Reason.NO_STANDBY,
    Reason.BAD_FIELD,
    Reason.TOO_MANY_OBJECTS,
)
# What the engine refuses a client's command with. A reason that is not here, such as those of the
# end of an order or of a session, refuses none.
REFUSALS: dict[Reason, Answer] = {
    **dict.fromkeys(_INTERNAL, UNEXPECTED),
    Reason.NOT_PERMITTED: BAD_KEY,
    Reason.ACCOUNT_NOT_PERMITTED: BAD_KEY,
    Reason.UNKNOWN_ACCOUNT: BAD_KEY,
    Reason.BAD_REFERENCE: Answer(-1130, "Data sent for parameter 'withdrawOrderId' is not valid."),
    Reason.BAD_AMOUNT: Answer(-1130, "Data sent for parameter 'amount' is not valid."),
    Reason.UNKNOWN_ASSET: Answer(-1130, "Data sent for parameter 'asset' is not valid."),
    Reason.DUPLICATE_REFERENCE: Answer(-2010, "Duplicate withdrawal sent."),
    Reason.UNKNOWN_REFERENCE: Answer(-2011, "Unknown withdrawal sent."),
    Reason.UNKNOWN_MARKET: UNKNOWN_SYMBOL,
    Reason.BAD_SIDE: Answer(-1117, "Invalid side."),
    Reason.BAD_ORDER_TYPE: Answer(-1116, "Invalid orderType."),
    Reason.BAD_TIME_IN_FORCE: Answer(-1115, "Invalid timeInForce."),
    Reason.BAD_FLAGS: BAD_COMBINATION,
    Reason.BAD_PRICE: filter_failure("PRICE_FILTER"),
    Reason.PRICE_OFF_TICK: filter_failure("PRICE_FILTER"),
    Reason.BAD_QUANTITY: filter_failure("LOT_SIZE"),
    Reason.QUANTITY_OFF_LOT: filter_failure("LOT_SIZE"),
    Reason.NOTIONAL_OVERFLOW: filter_failure("NOTIONAL"),
    Reason.BELOW_MIN_NOTIONAL: filter_failure("NOTIONAL"),
    Reason.BAD_CLIENT_ORDER_ID: Answer(
        -1100,
        "Illegal characters found in parameter 'newClientOrderId'; legal range is "
        "'^[.A-Z:/a-z0-9_-]{1,36}$'.",
    ),
    Reason.NOTHING_TO_AMEND: Answer(-2038, _AMEND),
    Reason.BAD_TRIGGER: filter_failure("PRICE_FILTER"),
    Reason.BAD_SELF_TRADE: Answer(
        -1130, "Data sent for parameter 'selfTradePreventionMode' is not valid."
    ),
    Reason.BAD_DISPLAY: filter_failure("ICEBERG_PARTS"),
    Reason.BAD_EXPIRY: BAD_COMBINATION,
    Reason.BAD_TIMEOUT: Answer(-1130, "Data sent for parameter 'countdownTime' is not valid."),
    Reason.UNKNOWN_ORDER: UNKNOWN_ORDER,
    Reason.DUPLICATE_CLIENT_ORDER_ID: Answer(-2010, "Duplicate order sent."),
    Reason.TOO_MANY_ORDERS: filter_failure("EXCHANGE_MAX_NUM_ORDERS"),
    Reason.INSUFFICIENT_BALANCE: Answer(
        -2010, "Account has insufficient balance for requested action."
    ),
    Reason.ACCOUNT_CANCEL_ONLY: Answer(-2010, _DISABLED),
    Reason.ACCOUNT_FROZEN: Answer(-2010, _DISABLED),
    Reason.MARKET_HALTED: Answer(-2010, "Market is closed."),
    Reason.MARKET_CANCEL_ONLY: Answer(-2010, "Market is closed."),
    Reason.MARKET_POST_ONLY: Answer(-2010, _NOT_NOW),
    Reason.TOO_MANY_ACCOUNT_ORDERS: filter_failure("MAX_NUM_ORDERS"),
    Reason.NO_REFERENCE_PRICE: Answer(-2010, "There is no last price to trail yet."),
    Reason.WOULD_TAKE: Answer(-2010, "Order would immediately match and take."),
    Reason.NOT_FILLABLE: Answer(-2010, "Order would not be filled whole."),
    Reason.BELOW_FILLED: Answer(-2038, _AMEND),
    Reason.PRICE_BAND: filter_failure("PERCENT_PRICE_BY_SIDE"),
    Reason.WOULD_TRIGGER: Answer(-2010, "Stop price would trigger immediately."),
    Reason.CANNOT_AMEND: Answer(-2038, _AMEND),
    Reason.HOLD_EXCEEDED: Answer(-2038, _AMEND),
    Reason.CANCEL_FAILED: UNKNOWN_ORDER,
    Reason.POISONED: UNEXPECTED,
    Reason.ENGINE_STOPPED: DISCONNECTED,
}


def refused(reason: int) -> ApiError:
    """What a client is told where the engine refused its command."""
    return of(REFUSALS.get(Reason(reason), UNEXPECTED))


# ---- parameters


def illegal(name: str, legal: str) -> ApiError:
    return ApiError(
        -1100, f"Illegal characters found in parameter '{name}'; legal range is '{legal}'."
    )


def too_many(expected: int, received: int) -> ApiError:
    return ApiError(-1101, f"Too many parameters; expected '{expected}' and received '{received}'.")


def duplicate(name: str) -> ApiError:
    return ApiError(-1101, f"Duplicate values for parameter '{name}' detected.")


def missing(name: str) -> ApiError:
    return ApiError(
        -1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed."
    )


def one_of(first: str, second: str) -> ApiError:
    return ApiError(
        -1102,
        f"Param '{first}' or '{second}' must be sent, but both were empty/null!",
    )


def too_many_symbols(most: int) -> ApiError:
    return ApiError(-1101, f"Too many symbols; at most '{most}' can be asked for at once.")


def empty(name: str) -> ApiError:
    return ApiError(-1105, f"Parameter '{name}' was empty.")


def not_required(name: str) -> ApiError:
    return ApiError(-1106, f"Parameter '{name}' sent when not required.")


def too_precise(name: str) -> ApiError:
    return ApiError(-1111, f"Parameter '{name}' has too much precision.")


def invalid(name: str) -> ApiError:
    return ApiError(-1130, f"Data sent for parameter '{name}' is not valid.")


_CHOICES = {
    "timeInForce": Answer(-1115, "Invalid timeInForce."),
    "type": Answer(-1116, "Invalid orderType."),
    "side": Answer(-1117, "Invalid side."),
    "interval": Answer(-1120, "Invalid interval."),
}


def no_choice(name: str) -> ApiError:
    """A word that is none of a parameter's."""
    return of(_CHOICES[name]) if name in _CHOICES else invalid(name)

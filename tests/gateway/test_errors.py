"""One table from the engine's reasons to what clients are told."""

import pytest

from matchbox.gateway import errors
from matchbox.gateway.errors import REFUSALS, refused
from matchbox.shm.reasons import Reason

# Why orders end or sessions do: no command is refused with these.
ENDS = {Reason.NO_LIQUIDITY, Reason.SELF_TRADE, Reason.BUDGET_SPENT}
# What clients match word for word.
TEXTS = {
    Reason.INSUFFICIENT_BALANCE: (-2010, "Account has insufficient balance for requested action."),
    Reason.WOULD_TAKE: (-2010, "Order would immediately match and take."),
    Reason.WOULD_TRIGGER: (-2010, "Stop price would trigger immediately."),
    Reason.DUPLICATE_CLIENT_ORDER_ID: (-2010, "Duplicate order sent."),
    Reason.MARKET_HALTED: (-2010, "Market is closed."),
    Reason.UNKNOWN_ORDER: (-2011, "Unknown order sent."),
    Reason.PRICE_OFF_TICK: (-1013, "Filter failure: PRICE_FILTER"),
    Reason.QUANTITY_OFF_LOT: (-1013, "Filter failure: LOT_SIZE"),
    Reason.BELOW_MIN_NOTIONAL: (-1013, "Filter failure: NOTIONAL"),
    Reason.PRICE_BAND: (-1013, "Filter failure: PERCENT_PRICE_BY_SIDE"),
    Reason.TOO_MANY_ACCOUNT_ORDERS: (-1013, "Filter failure: MAX_NUM_ORDERS"),
    Reason.UNKNOWN_MARKET: (-1121, "Invalid symbol."),
}


def test_every_reason_that_refuses_a_command_has_an_answer() -> None:
    refusing = {reason for reason in Reason if reason < 500} - ENDS
    assert set(REFUSALS) == refusing | {Reason.ENGINE_STOPPED}


@pytest.mark.parametrize("reason", TEXTS)
def test_texts_that_clients_match_are_word_for_word(reason: Reason) -> None:
    error = refused(int(reason))
    assert (error.code, error.message) == TEXTS[reason]
    assert error.body == {"code": error.code, "msg": error.message}


def test_statuses_say_whose_fault_it_is() -> None:
    for reason, answer in REFUSALS.items():
        wanted = {-1000: 500, -1001: 503, -2015: 401}.get(answer.code, 400)
        assert answer.status == wanted, reason
    assert errors.STATE_UNKNOWN.status >= 500
    assert errors.OUTSIDE_WINDOW.message.startswith("Timestamp for this request")

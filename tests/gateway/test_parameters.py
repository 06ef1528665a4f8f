"""Parameters from query strings and bodies, as each client sends them; and what is wrong."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matchbox.gateway.errors import ApiError
from matchbox.gateway.parameters import (
    AMOUNT,
    CLIENT_ID,
    SYMBOL,
    Choice,
    Form,
    Limit,
    Names,
    Parameter,
    Truth,
    Whole,
    fields,
)

FORM = Form(
    Parameter("symbol", SYMBOL, required=True),
    Parameter("side", Choice("BUY", "SELL"), required=True),
    Parameter("type", Choice("LIMIT", "MARKET")),
    Parameter("timeInForce", Choice("GTC", "IOC")),
    Parameter("quantity", AMOUNT),
    Parameter("newClientOrderId", CLIENT_ID),
    Parameter("orderId", Whole(1)),
    Parameter("limit", Limit(500, 1000)),
    Parameter("omitZeroBalances", Truth()),
    Parameter("symbols", Names(SYMBOL)),
)


@pytest.mark.parametrize(
    ("query", "body"),
    [
        (b"symbol=BTCUSDT&side=BUY&quantity=0.1", b""),
        (b"", b"symbol=BTCUSDT&side=BUY&quantity=0.1"),
        (b"symbol=BTCUSDT", b"side=BUY&quantity=0.1"),
        (b"symbol=BTCUSDT&side=BUY", b"side=SELL&quantity=0.1&symbol=ETHUSDT"),
        (b"symbol=BTC%55SDT&side=BUY&quantity=0%2e1&&recvWindow=5000", b""),
    ],
)
def test_they_stand_in_the_query_or_in_the_body_or_in_both(query: bytes, body: bytes) -> None:
    values = FORM.read(query, body)
    assert (values["symbol"], values["side"], values["quantity"]) == ("BTCUSDT", "BUY", "0.1")
    assert values["orderId"] is None


def test_values_have_the_types_that_the_form_says() -> None:
    values = FORM.read(
        b"symbol=A&side=SELL&orderId=42&limit=5000&omitZeroBalances=TRUE"
        b"&symbols=%5B%22BTCUSDT%22%2C%22ETHUSDT%22%5D&newClientOrderId=x-:/._-1"
    )
    assert values["orderId"] == 42
    assert values["limit"] == 1000
    assert values["omitZeroBalances"] is True
    assert values["symbols"] == ["BTCUSDT", "ETHUSDT"]
    assert values["newClientOrderId"] == "x-:/._-1"


@pytest.mark.parametrize(
    ("query", "code", "text"),
    [
        (b"", -1102, "'symbol'"),
        (b"symbol=BTCUSDT", -1102, "'side'"),
        (b"symbol=&side=BUY", -1102, "'symbol'"),
        (b"symbol=btc/usdt&side=BUY", -1100, "'symbol'"),
        (b"symbol=A&side=buy", -1117, "side"),
        (b"symbol=A&side=BUY&type=STOP", -1116, "orderType"),
        (b"symbol=A&side=BUY&timeInForce=DAY", -1115, "timeInForce"),
        (b"symbol=A&side=BUY&quantity=", -1105, "'quantity'"),
        (b"symbol=A&side=BUY&quantity=1e-5", -1100, "'quantity'"),
        (b"symbol=A&side=BUY&quantity=-1", -1100, "'quantity'"),
        (b"symbol=A&side=BUY&orderId=0", -1130, "'orderId'"),
        (b"symbol=A&side=BUY&orderId=9223372036854775808", -1130, "'orderId'"),
        (b"symbol=A&side=BUY&orderId=1.0", -1100, "'orderId'"),
        (b"symbol=A&side=BUY&orderId=%D9%A3", -1100, "'orderId'"),
        (b"symbol=A&side=BUY&limit=0", -1130, "'limit'"),
        (b"symbol=A&side=BUY&newClientOrderId=a%20b", -1100, "'newClientOrderId'"),
        (b"symbol=A&side=BUY&newClientOrderId=" + b"a" * 37, -1100, "'newClientOrderId'"),
        (b"symbol=A&side=BUY&newClientOrderId=a%0A", -1100, "'newClientOrderId'"),
        (b"symbol=A&side=BUY&omitZeroBalances=1", -1100, "'omitZeroBalances'"),
        (b"symbol=A&side=BUY&symbols=BTCUSDT", -1100, "'symbols'"),
        (b"symbol=A&side=BUY&symbols=[1]", -1100, "'symbols'"),
        (b"symbol=A&side=BUY&symbols=[%22A%22,%22A%22]", -1101, "'symbols'"),
        (b"symbol=A&symbol=B&side=BUY", -1101, "'symbol'"),
        (b"symbol=A&side=BUY&quantity=%ff", -1100, "'quantity'"),
        (b"symbol=A&side=BUY&a%20b=1", -1100, "name"),
        (b"&".join(b"p%d=1" % n for n in range(101)), -1101, "'101'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_code(query: bytes, code: int, text: str) -> None:
    for where in ((query, b""), (b"", query)):
        with pytest.raises(ApiError) as error:
            FORM.read(*where)
        assert error.value.code == code
        assert text in error.value.message
        assert error.value.status == 400


def test_what_an_endpoint_does_not_know_is_ignored() -> None:
    assert "surprise" not in FORM.read(b"symbol=A&side=BUY&surprise=1&recvWindow=x")


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_with_an_error_of_the_dialect(
    query: bytes, body: bytes
) -> None:
    try:
        found: dict[str, Any] = fields(query, body)
    except ApiError as error:
        assert error.code in (-1100, -1101)
    else:
        assert all(isinstance(value, str) for value in found.values())

"""Strings outside, integers inside: exact both ways, and what is no plain number is refused."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matchbox.gateway.decimals import Grid, parse, show
from matchbox.gateway.errors import ApiError


@given(units=st.integers(0, (1 << 63) - 1), digits=st.integers(0, 18))
def test_what_is_shown_is_read_as_the_same(units: int, digits: int) -> None:
    text = show(units, digits)
    assert parse(text, digits, "quantity") == units
    assert Decimal(text) == Decimal(units).scaleb(-digits)
    assert "E" not in text.upper()


@given(units=st.integers(-(1 << 63), (1 << 63) - 1), digits=st.integers(0, 18))
def test_decimals_have_eight_places_or_all_that_there_are(units: int, digits: int) -> None:
    assert len(show(units, digits).partition(".")[2]) == max(8, digits)


def test_nothing_is_the_text_by_which_clients_take_a_level_out() -> None:
    assert show(0, 4) == "0.00000000"
    assert show(5, 0, 0) == "5"
    assert show(-150, 8) == "-0.00000150"


@pytest.mark.parametrize(
    "text",
    ["", "1e-5", "1E5", "-1", "+1", ".5", "5.", "0x1", "1,5", " 1", "1 ", "1_0", "NaN", "Infinity",
     "٣", "1" * 21, "0." + "1" * 21, "1\n"],
)  # fmt: skip
def test_what_is_no_plain_number_is_illegal(text: str) -> None:
    with pytest.raises(ApiError) as error:
        parse(text, 8, "price")
    assert error.value.code == -1100
    assert "'price'" in error.value.message


def test_zeros_behind_the_last_place_are_no_precision() -> None:
    assert parse("1.5000000000", 1, "price") == 15
    with pytest.raises(ApiError) as error:
        parse("1.51", 1, "price")
    assert (error.value.code, error.value.status) == (-1111, 400)
    assert error.value.message == "Parameter 'price' has too much precision."


def test_a_grid_has_steps_that_are_no_power_of_ten() -> None:
    grid = Grid.of(Decimal("0.05"), 8, "PRICE_FILTER")
    assert grid.parse("1.15", "price") == 23
    assert grid.show(23) == "1.15000000"
    with pytest.raises(ApiError) as error:
        grid.parse("1.16", "price")
    assert error.value.body == {"code": -1013, "msg": "Filter failure: PRICE_FILTER"}


@given(
    units=st.integers(0, 1 << 40),
    mantissa=st.integers(1, 10_000),
    exponent=st.integers(-10, 3),
    precision=st.integers(0, 12),
)
def test_any_grid_reads_what_it_shows(
    units: int, mantissa: int, exponent: int, precision: int
) -> None:
    unit = Decimal(mantissa).scaleb(exponent)
    grid = Grid.of(unit, precision, "LOT_SIZE")
    text = grid.show(units)
    assert Decimal(text) == units * unit
    assert grid.parse(f"{Decimal(text):f}".rstrip("0").rstrip(".") or "0", "quantity") == units


def test_what_no_record_can_hold_is_off_the_grid() -> None:
    with pytest.raises(ApiError) as error:
        Grid.of(Decimal("0.00000001"), 8, "LOT_SIZE").parse("99999999999999999999", "quantity")
    assert error.value.message == "Filter failure: LOT_SIZE"

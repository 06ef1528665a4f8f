"""What a market's definition may be."""

from typing import Any

import pytest

from matchbox.core.instrument import market_record
from matchbox.shm.errors import BadArgument


@pytest.mark.parametrize(
    "definition",
    [
        {"market": 0},
        {"market": 2**32},
        {"lot_units": 0},
        {"notional_units": 0},
        {"notional_units": -1},
        {"max_price_ticks": 0},
        {"max_price_ticks": 2**40},
        {"price_step_ticks": 0},
        {"price_step_ticks": 11, "max_price_ticks": 10},
        {"min_quantity_lots": 0},
        {"min_quantity_lots": 5, "max_quantity_lots": 4},
        {"quantity_step_lots": 0},
        {"quantity_step_lots": 10, "min_quantity_lots": 11, "max_quantity_lots": 19},
        {"max_orders": 0},
        {"max_orders": 2**26 - 1, "max_quantity_lots": 1},
        {"max_orders": 2**10, "max_quantity_lots": 2**52 + 1},
        {"tick_mantissa": 0},
        {"tick_scale": 19},
    ],
)
def test_a_definition_that_no_engine_can_run_is_refused(definition: dict[str, Any]) -> None:
    with pytest.raises(BadArgument):
        market_record(**({"max_orders": 10} | definition))


@pytest.mark.parametrize(
    "definition",
    [
        {},
        {"max_price_ticks": 2**40 - 1, "max_orders": 2**10, "max_quantity_lots": 2**52},
        {"quantity_step_lots": 10, "min_quantity_lots": 11, "max_quantity_lots": 20},
        {"price_step_ticks": 10, "max_price_ticks": 10},
    ],
)
def test_limits_themselves_are_allowed(definition: dict[str, Any]) -> None:
    record = market_record(**definition)
    for name, value in definition.items():
        assert record[name] == value

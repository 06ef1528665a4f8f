import numpy as np

def market_record(
    market: int = 1,
    *,
    max_orders: int = 65536,
    symbol: str = "",
    max_price_ticks: int = ...,
    price_step_ticks: int = 1,
    min_quantity_lots: int = 1,
    max_quantity_lots: int | None = None,
    quantity_step_lots: int = 1,
    lot_units: int = 1,
    notional_units: int = 1,
    base_asset: int = 1,
    quote_asset: int = 2,
    tick_mantissa: int = 1,
    tick_scale: int = 0,
) -> np.void: ...

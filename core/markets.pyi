from typing import Any

import numpy as np

LEVEL: np.dtype[Any]
ORDER: np.dtype[Any]
WAITING: np.dtype[Any]

class PreparedMarket:
    def __init__(self, market: int, max_orders: int, max_specials: int | None = None) -> None: ...

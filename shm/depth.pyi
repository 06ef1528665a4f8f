from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from matchbox.shm.market import Market
from matchbox.shm.ring import Ring

LEVEL: np.dtype[Any]

class Top(NamedTuple):
    update: int
    sequence: int
    timestamp_ns: int
    trades: int
    last_price_ticks: int
    bids: NDArray[Any]
    asks: NDArray[Any]

class Depth(NamedTuple):
    update: int
    bids: NDArray[Any]
    asks: NDArray[Any]

def depth_bytes(levels: int) -> int: ...
def format_depth(
    buffer: Any,
    definition: Any,
    base: tuple[str, int],
    quote: tuple[str, int],
    *,
    levels: int,
    epoch: int = 0,
) -> None: ...
def read_definition(buffer: Any) -> tuple[np.void, tuple[str, int], tuple[str, int]]: ...

class Book:
    market: Market
    def __init__(
        self, buffer: Any, market_data: Ring | None, market: Market | None = None
    ) -> None: ...
    @property
    def removed(self) -> bool: ...
    @property
    def update(self) -> int: ...
    def top(self) -> Top: ...
    def best(self) -> tuple[int, int, int, int]: ...
    def depth(self, timeout: float = 10.0) -> Depth: ...

class MarketData:
    def __init__(self, ring: Ring, engine_dead: Callable[[], bool] | None = None) -> None: ...
    @property
    def position(self) -> int: ...
    @property
    def pending(self) -> int: ...
    def read(self, maximum: int = 65536, timeout: float | None = 0.0) -> NDArray[Any]: ...
    def __iter__(self) -> Iterator[Any]: ...
    async def read_async(
        self, maximum: int = 65536, timeout: float | None = None
    ) -> NDArray[Any]: ...

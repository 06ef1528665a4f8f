from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from typing import Any, Self

from numpy.typing import NDArray

from matchbox.shm.depth import Book, MarketData
from matchbox.shm.market import Market
from matchbox.shm.ring import Ring

_Number = str | int | Decimal

class Session:
    name: str
    number: int
    account: int
    closed: bool
    def __init__(
        self,
        connection: Any,
        commands: Ring,
        reports: Ring,
        *,
        number: int,
        name: str,
        account: int,
        pidfds: tuple[int, ...] = (),
        wait: str = "park",
    ) -> None: ...
    def submit(self, commands: NDArray[Any], timeout: float | None = None) -> int: ...
    def order(
        self,
        market: Market | str | int,
        side: str,
        quantity: _Number | None = None,
        price: _Number | None = None,
        *,
        quantity_lots: int | None = None,
        price_ticks: int | None = None,
        time_in_force: str | None = None,
        post_only: bool = False,
        client_order_id: str = "",
        account: int = 0,
        timeout: float | None = None,
    ) -> int: ...
    def buy(
        self,
        market: Market | str | int,
        quantity: _Number | None = None,
        price: _Number | None = None,
        **options: Any,
    ) -> int: ...
    def sell(
        self,
        market: Market | str | int,
        quantity: _Number | None = None,
        price: _Number | None = None,
        **options: Any,
    ) -> int: ...
    def cancel(
        self,
        order_id: int = 0,
        *,
        client_order_id: str = "",
        account: int = 0,
        timeout: float | None = None,
    ) -> int: ...
    def amend(
        self,
        order_id: int = 0,
        *,
        client_order_id: str = "",
        market: Market | str | int | None = None,
        price: _Number | None = None,
        price_ticks: int | None = None,
        quantity: _Number | None = None,
        quantity_lots: int | None = None,
        to_open: bool = False,
        requeue: bool = False,
        account: int = 0,
        timeout: float | None = None,
    ) -> int: ...
    def subscribe(self, account: int = 0, on: bool = True, timeout: float | None = None) -> int: ...
    def reports(
        self,
        maximum: int = 65536,
        timeout: float | None = 0.0,
        out: NDArray[Any] | None = None,
    ) -> NDArray[Any]: ...
    def __iter__(self) -> Iterator[Any]: ...
    async def reports_async(
        self, maximum: int = 65536, timeout: float | None = None
    ) -> NDArray[Any]: ...
    def stream(self) -> AsyncIterator[Any]: ...
    @property
    def pending(self) -> int: ...
    @property
    def sent(self) -> int: ...
    @property
    def taken(self) -> int: ...
    @property
    def capacity(self) -> int: ...
    @property
    def markets(self) -> dict[str, Market]: ...
    def market(self, market: Market | str | int) -> Market: ...
    def book(self, market: Market | str | int) -> Book: ...
    def market_data(self) -> MarketData: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *exception: object) -> None: ...

from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any, Self

from numpy.typing import NDArray

from matchbox.shm.depth import Book, MarketData
from matchbox.shm.market import Asset, Market
from matchbox.shm.ring import Ring
from matchbox.shm.streams import Pull

_Number = str | int | Decimal
_Asset = Asset | str | int
_Market = Market | str | int
_Leg = dict[str, Any]

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
        doorbell: int = -1,
    ) -> None: ...
    doorbell: int
    def arm(self) -> bool: ...
    @property
    def answered(self) -> int: ...
    @property
    def held(self) -> int: ...
    def submit(self, commands: NDArray[Any], timeout: float | None = None) -> int: ...
    def order(
        self,
        market: _Market,
        side: str,
        quantity: _Number | None = None,
        price: _Number | None = None,
        *,
        quantity_lots: int | None = None,
        price_ticks: int | None = None,
        quote_amount: _Number | None = None,
        quote_units: int | None = None,
        order_type: str | None = None,
        time_in_force: str | None = None,
        expire: datetime | int | None = None,
        post_only: bool = False,
        trigger: _Number | None = None,
        trigger_ticks: int | None = None,
        trailing_bips: int = 0,
        display: _Number | None = None,
        display_lots: int | None = None,
        self_trade: str = "none",
        client_order_id: str = "",
        account: int = 0,
        timeout: float | None = None,
    ) -> int: ...
    def buy(
        self,
        market: _Market,
        quantity: _Number | None = None,
        price: _Number | None = None,
        **options: Any,
    ) -> int: ...
    def sell(
        self,
        market: _Market,
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
        market: _Market | None = None,
        price: _Number | None = None,
        price_ticks: int | None = None,
        quantity: _Number | None = None,
        quantity_lots: int | None = None,
        to_open: bool = False,
        requeue: bool = False,
        account: int = 0,
        timeout: float | None = None,
    ) -> int: ...
    def replace(
        self,
        order_id: int,
        market: _Market,
        side: str,
        quantity: _Number | None = None,
        price: _Number | None = None,
        *,
        canceled_client_order_id: str = "",
        allow_failure: bool = False,
        account: int = 0,
        timeout: float | None = None,
        **options: Any,
    ) -> int: ...
    def oco(
        self,
        market: _Market,
        side: str,
        quantity: _Number | None = None,
        *,
        profit: _Leg,
        stop: _Leg,
        quantity_lots: int | None = None,
        client_list_id: str = "",
        account: int = 0,
        timeout: float | None = None,
    ) -> int: ...
    def oto(
        self,
        market: _Market,
        *,
        working: _Leg,
        pending: _Leg,
        client_list_id: str = "",
        account: int = 0,
        timeout: float | None = None,
    ) -> int: ...
    def otoco(
        self,
        market: _Market,
        *,
        working: _Leg,
        profit: _Leg,
        stop: _Leg,
        side: str | None = None,
        quantity: _Number | None = None,
        quantity_lots: int | None = None,
        client_list_id: str = "",
        account: int = 0,
        timeout: float | None = None,
    ) -> int: ...
    def subscribe(self, account: int = 0, on: bool = True, timeout: float | None = None) -> int: ...
    def mass_cancel(
        self,
        market: _Market | None = None,
        side: str | None = None,
        account: int = 0,
        timeout: float | None = None,
    ) -> int: ...
    def countdown(
        self, milliseconds: int, account: int = 0, timeout: float | None = None
    ) -> int: ...
    def transfer(
        self,
        to: int,
        asset: _Asset,
        amount: _Number | None = None,
        account: int = 0,
        reference: str = "",
        *,
        amount_units: int | None = None,
        note: str = "",
        timeout: float | None = None,
    ) -> int: ...
    def request_withdrawal(
        self,
        asset: _Asset,
        amount: _Number | None = None,
        reference: str = "",
        *,
        amount_units: int | None = None,
        account: int = 0,
        timeout: float | None = None,
    ) -> int: ...
    def cancel_withdrawal(
        self, reference: str, *, account: int = 0, timeout: float | None = None
    ) -> int: ...
    def balances(self, account: int = 0) -> dict[str, tuple[Decimal, Decimal]]: ...
    def deposit(
        self,
        account: int,
        asset: _Asset,
        amount: _Number | None = None,
        reference: str = "",
        note: str = "",
        *,
        amount_units: int | None = None,
        timeout: float | None = None,
    ) -> int: ...
    def settle_withdrawal(
        self, account: int, reference: str, note: str = "", *, timeout: float | None = None
    ) -> int: ...
    def set_account(
        self,
        account: int,
        *,
        state: str | None = None,
        tier: int | str | None = None,
        cancel_orders: bool = False,
        note: str = "",
        timeout: float | None = None,
    ) -> int: ...
    def set_market(
        self,
        market: _Market,
        *,
        state: str | None = None,
        min_notional: _Number | None = None,
        min_notional_units: int | None = None,
        reference_price: _Number | None = None,
        reference_ticks: int | None = None,
        band_up_bips: int | None = None,
        band_down_bips: int | None = None,
        protection_bips: int | None = None,
        account_orders: int | None = None,
        cancel_orders: bool = False,
        note: str = "",
        timeout: float | None = None,
    ) -> int: ...
    def set_fees(
        self,
        tier: int,
        *,
        maker_fee_ppm: int,
        taker_fee_ppm: int,
        market: _Market | None = None,
        note: str = "",
        timeout: float | None = None,
    ) -> int: ...
    def set_tier(
        self,
        tier: int,
        volume: int,
        asset: _Asset,
        note: str = "",
        *,
        timeout: float | None = None,
    ) -> int: ...
    def open_orders(
        self, account: int = 0, market: _Market | None = None
    ) -> list[dict[str, Any]]: ...
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
    def market(self, market: _Market) -> Market: ...
    @property
    def assets(self) -> dict[str, Asset]: ...
    def asset(self, asset: _Asset) -> Asset: ...
    @property
    def accounts(self) -> list[dict[str, Any]]: ...
    def book(self, market: _Market) -> Book: ...
    def market_data(self) -> MarketData: ...
    def pull(
        self,
        stream: str = "reports",
        *,
        market: str = "",
        after: Any = None,
        consumer: str = "",
        timeout: float = 10.0,
    ) -> Pull: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *exception: object) -> None: ...

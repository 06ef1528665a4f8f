"""What the views say of an account's orders and fills, never older than what clients were told.

An order is answered when its record is durable. So before the views are read they have to be as
far as the journal was when the question came; they are some milliseconds behind it.

A market's number can be given again, to another market with other ticks and lots; what the views
have of the one before is none of the new one's: `began`.
"""

import asyncio
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from matchbox.gateway.durable import Durable
from matchbox.gateway.errors import NO_SUCH_LIST, NO_SUCH_ORDER, STATE_UNKNOWN, of
from matchbox.persistence.partition import OrderStatus
from matchbox.persistence.views import Views
from matchbox.shm.market import Market
from matchbox.shm.records import MARKET_RECORD, Kind, ReportFlag

_PATIENCE_S = 10.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.001, 0.02
_MS = 1_000_000
# Fills that are looked through before the loop's other work goes on.
_AT_ONCE = 1000
NO_END = (1 << 63) - 1


class History:
    """Questions about orders and fills. On one event loop."""

    def __init__(self, directory: Path, durable: Durable) -> None:
        self._views, self._durable = Views(directory), durable

    def close(self) -> None:
        self._views.close()

    async def caught_up(self) -> None:
        """Wait until the views have all that is durable now. Raises ApiError."""
        wanted = self._durable.position
        loop = asyncio.get_running_loop()
        deadline, pause = loop.time() + _PATIENCE_S, _FIRST_PAUSE_S
        while self._views.position < wanted:
            if loop.time() > deadline:
                raise of(STATE_UNKNOWN)
            await asyncio.sleep(pause)
            pause = min(1.5 * pause, _LONGEST_PAUSE_S)

    async def order(
        self, account: int, market: int, order_id: int | None, client_order_id: str | None
    ) -> Any:
        """An order's row (ORDER), by its id, or by its client's. Raises ApiError: one of another
        account, or market, looks the same as none.
        """
        await self.caught_up()
        row = None
        if order_id is not None:
            row = self._views.order(order_id)
        elif client_order_id is not None:
            row = self._views.order_of_client(account, client_order_id)
        if row is None or int(row["account"]) != account or int(row["market"]) != market:
            raise of(NO_SUCH_ORDER)
        if client_order_id is not None and row["client_order_id"] != client_order_id.encode():
            raise of(NO_SUCH_ORDER)
        if int(row["status"]) == OrderStatus.RELEASED:
            row = self._views.order(int(row["other_id"]))
        return row

    def order_by_now(self, order_id: int) -> Any:
        """An order's row, as far as the views are: perhaps an older one, or None."""
        return self._views.order(order_id)

    async def open_orders(self, account: int, market: int) -> list[Any]:
        """Rows of the open orders of an account, in a market or (0) in all."""
        await self.caught_up()
        return list(self._views.open_orders(account, market))

    # -- what was

    async def orders(
        self,
        account: int,
        market: Market,
        limit: int,
        *,
        order_id: int | None = None,
        start_ms: int | None = None,
        end_ms: int | None = None,
    ) -> list[Any]:
        """Rows of the orders of an account in a market, by id, up to `limit`: those from an id and
        a time on (both counts), or else the newest, that are not after `end_ms`.
        """
        await self.caught_up()
        made = began(self._views, market)
        if made is None:
            return []
        first = max(made + 1, order_id or 0)
        if start_ms is not None:
            first = max(first, _id(self._views.first_order_at(start_ms * _MS)))
        end = NO_END
        if end_ms is not None:
            end = _id(self._views.first_order_at((end_ms + 1) * _MS))
        if order_id is not None or start_ms is not None:
            return self._orders_from(account, market.number, first, end, limit)
        return self._orders_before(account, market.number, made + 1, end, limit)

    def _orders_from(
        self, account: int, market: int, first: int, end: int, limit: int
    ) -> list[Any]:
        found: list[Any] = []
        while len(found) < limit and first < end:
            rows = self._views.orders(account, market, first, limit)
            found += [row for row in rows if int(row["order_id"]) < end and _is_shown(row)]
            if len(rows) < limit:
                break
            first = int(rows[-1]["order_id"]) + 1
        return found[:limit]

    def _orders_before(
        self, account: int, market: int, oldest: int, end: int, limit: int
    ) -> list[Any]:
        found: list[Any] = []
        while len(found) < limit:
            rows = self._views.last_orders(account, market, limit, before=end)
            found = [
                row for row in rows if int(row["order_id"]) >= oldest and _is_shown(row)
            ] + found
            if len(rows) < limit or int(rows[0]["order_id"]) < oldest:
                break
            end = int(rows[0]["order_id"])
        return found[-limit:]

    async def fills(
        self,
        account: int,
        market: Market,
        limit: int,
        *,
        trade_id: int | None = None,
        start_ms: int | None = None,
        end_ms: int | None = None,
    ) -> list[Any]:
        """Reports of the fills of an account in a market, by trade, as orders() gives orders."""
        await self.caught_up()
        oldest = first_trade_id(self._views, market)
        first = max(oldest, trade_id or 0)
        if start_ms is not None:
            first = max(first, _id(self._views.first_trade_at(market.number, start_ms * _MS)))
        end = NO_END
        if end_ms is not None:
            end = _id(self._views.first_trade_at(market.number, (end_ms + 1) * _MS))
        if trade_id is not None or start_ms is not None:
            rows = self._views.fills(account, market.number, first, limit)
        else:
            rows = self._views.last_fills(account, market.number, limit, before=end)
        return list(rows[(rows["trade_id"] >= oldest) & (rows["trade_id"] < end)])

    async def fills_of_order(
        self, account: int, market: int, order_id: int, limit: int, trade_id: int | None = None
    ) -> list[Any]:
        """Reports of the fills of one order, from a trade's number on; none if it is no order of
        this account and market.
        """
        await self.caught_up()
        row = self._views.order(order_id)
        if row is None or (int(row["account"]), int(row["market"])) != (account, market):
            return []
        if int(row["status"]) == OrderStatus.RELEASED:
            row = self._views.order(int(row["other_id"]))
        order_id, last = int(row["order_id"]), int(row["sequence"])
        first = self._views.first_trade_after(market, order_id - 1)
        left, as_taker = int(row["cumulative_lots"]), False
        found: list[Any] = []
        while first is not None and left and len(found) < limit:
            rows = self._views.fills(account, market, first, _AT_ONCE, as_taker=as_taker)
            mine = rows[rows["order_id"] == order_id]
            left -= int(mine["quantity_lots"].sum())
            found += [fill for fill in mine if int(fill["trade_id"]) >= (trade_id or 0)]
            if len(rows) < _AT_ONCE or int(rows[-1]["sequence"]) > last:
                break
            # A trade of the account with itself has two fills, the maker's first.
            as_taker = bool(int(rows[-1]["flags"]) & ReportFlag.AS_MAKER)
            first = int(rows[-1]["trade_id"]) + (not as_taker)
            await asyncio.sleep(0)
        return found[:limit]

    # -- lists of orders

    async def order_list(
        self, account: int, list_id: int | None, client_list_id: str | None
    ) -> list[Any]:
        """The rows of a list's orders, by its id, or by its client's. Raises ApiError: one of
        another account looks the same as none.
        """
        await self.caught_up()
        if list_id is None and client_list_id is not None:
            list_id = self._views.list_of_client(account, client_list_id)
        rows = self._views.legs(list_id) if list_id else []
        named = client_list_id is None or all(
            row["client_list_id"] == client_list_id.encode() for row in rows
        )
        if not rows or int(rows[0]["account"]) != account or not named:
            raise of(NO_SUCH_LIST)
        return rows

    async def order_lists(
        self,
        account: int,
        limit: int,
        *,
        list_id: int | None = None,
        start_ms: int | None = None,
        end_ms: int | None = None,
    ) -> list[list[Any]]:
        """The rows of the orders of lists of an account, as orders() gives orders."""
        await self.caught_up()
        # A list has the number before that of its first order.
        first, end = list_id or 0, NO_END
        if start_ms is not None:
            first = max(first, _id(self._views.first_order_at(start_ms * _MS)) - 1)
        if end_ms is not None:
            end = _id(self._views.first_order_at((end_ms + 1) * _MS)) - 1
        if list_id is not None or start_ms is not None:
            found = self._views.lists(account, first, limit)
        else:
            found = self._views.last_lists(account, limit, before=end)
        return [self._views.legs(number) for number, _ in found if number < end]

    async def open_lists(self, account: int) -> list[list[Any]]:
        """The rows of the orders of those lists of which one lives."""
        rows = await self.open_orders(account, 0)
        numbers = sorted({int(row["list_id"]) for row in rows if row["list_id"]})
        return [self._views.legs(number) for number in numbers]

    # -- money

    async def movements(
        self, account: int, kinds: Collection[Kind], start_ms: int | None = None
    ) -> list[Any]:
        """What was paid in and out of an account (MONEY_RECORD), of some kinds, newest first, from
        a time on.
        """
        await self.caught_up()
        found: list[Any] = []
        before: int | None = None
        while True:
            rows = self._views.last_movements(account, _AT_ONCE, before=before)
            found += [row for row in rows[::-1] if row["kind"] in kinds]
            if len(rows) < _AT_ONCE or int(rows[0]["timestamp_ns"]) < (start_ms or 0) * _MS:
                return found
            before = int(rows[0]["sequence"])
            await asyncio.sleep(0)

    def lists_of(self, order_ids: Any) -> dict[int, int]:
        """The list that each of some orders belongs to, if it does."""
        rows = self._views.orders_with(np.asarray(order_ids, np.uint64))
        return {order_id: int(row["list_id"]) for order_id, row in rows.items() if row["list_id"]}


def began(views: Views, market: Market) -> int | None:
    """The log record that made a market what it is: what is older is of another market that had
    its number. 0: it is the first; None: the views do not know it yet.
    """
    definitions = views.definitions()
    mine = definitions[definitions["kind"] == Kind.ADD_MARKET].view(MARKET_RECORD)
    mine = mine[mine["market"] == market.number]
    if not len(mine):
        return None
    scales = market.base, market.base_scale, market.quote, market.quote_scale
    if Market.from_record(mine[-1], *scales) != market:
        return None
    return int(mine["sequence"][-1]) if len(mine) > 1 else 0


def first_trade_id(views: Views, market: Market) -> int:
    """The number of a market's first trade, or one that is not after it; NO_END: there is none yet,
    and what there is of this number is another market's.
    """
    at = began(views, market)
    if not at:
        return 0 if at == 0 else NO_END
    found = views.first_trade_after(market.number, at)
    return NO_END if found is None else found


def _id(found: int | None) -> int:
    return NO_END if found is None else found


def _is_shown(row: Any) -> bool:
    """One that has become another order is shown as that."""
    return int(row["status"]) != OrderStatus.RELEASED

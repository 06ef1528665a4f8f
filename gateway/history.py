"""What the views say of orders, never older than what clients have been told.

An order is answered when its record is durable. So before the views are read they have to be as
far as the journal was when the question came; they are some milliseconds behind it.
"""

import asyncio
from pathlib import Path
from typing import Any

from matchbox.gateway.durable import Durable
from matchbox.gateway.errors import NO_SUCH_ORDER, STATE_UNKNOWN, of
from matchbox.persistence.partition import OrderStatus
from matchbox.persistence.views import Views

_PATIENCE_S = 10.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.001, 0.02


class History:
    """Questions about orders. On one event loop."""

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

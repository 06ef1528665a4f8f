"""What happens to accounts, told to who listens: every report, in order, none twice.

The reports of an account are read from the views, from a position on, whoever entered the orders:
another worker, a bot, an operator. The position is of the journal, so a takeover, the death of a
worker or of the archiver, or a session that attaches again, make no gap and no repeat. What is
read is durable. The views' folder says when there is something new (inotify); it is looked at
every LOOK_S, too.

Balances are asked for after the reports were told: what an account has then, or a little later.
"""

import asyncio
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from matchbox.gateway.desk import Report
from matchbox.gateway.errors import DISCONNECTED, ApiError, of
from matchbox.gateway.history import History
from matchbox.gateway.lookups import Lookups
from matchbox.gateway.markets import FRESH_S, Markets
from matchbox.gateway.user_events import AccountEvents, Event, position
from matchbox.gateway.watch import Watch
from matchbox.persistence.views import Position, Views
from matchbox.shm.errors import Forgotten, ViewsError
from matchbox.shm.records import EventKind
from matchbox.shm.streams import LAST_PART, part_of

LOOK_S = 0.25
# Several changes of the files are one commit.
_SETTLE_S = 0.002
_AT_ONCE = 500  # reports of an account
_RETRY_S = 0.5
Tell = Callable[[bytes], None]
_encode = msgspec.json.Encoder().encode


@dataclass(eq=False)
class Listening:
    """One who listens to an account."""

    account: int
    tell: Tell


@dataclass(eq=False)
class _Account:
    number: int
    position: Position
    events: AccountEvents
    listeners: list[Listening] = field(default_factory=list)
    last_ms: int = 0
    asking: "asyncio.Task[None] | None" = None


class UserStreams:
    """Reads and tells. On one event loop."""

    def __init__(
        self,
        directory: Path,
        history: History,
        markets: Markets,
        lookups: Lookups,
        cancel_ids: Mapping[int, str],
        say: Callable[[str], None],
    ) -> None:
        """`directory`: of the views. `cancel_ids`: of cancels that this worker has sent."""
        self._directory, self._history = directory, history
        self._markets, self._lookups = markets, lookups
        self._cancel_ids, self._say = cancel_ids, say
        self._views = Views(directory)
        self._accounts: dict[int, _Account] = {}
        self._opening = asyncio.Lock()
        self._watch: Watch | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0  # when it looks again
        self._refreshing: asyncio.Task[None] | None = None
        self._gone: set[tuple[str, int]] = set()  # markets, assets that nobody knows any more

    # -- listeners

    async def listen(self, account: int, tell: Tell) -> Listening:
        """Have `tell` called with each event of an account, from what is durable now on. Raises
        ApiError.
        """
        await self._history.caught_up()
        async with self._opening:
            await self._markets.symbols(fresh=True)
            try:
                found = self._account(account)
            except ViewsError:  # the archiver makes them anew
                raise of(DISCONNECTED) from None
            listening = Listening(account, tell)
            found.listeners.append(listening)
            self._start()
            return listening

    def _account(self, number: int) -> _Account:
        """An account whose listeners have been told what there was until now."""
        if number in self._accounts:
            self._read()
        found = self._accounts.get(number)
        if found is None:
            events = AccountEvents(lambda: self._markets.known)
            reached, rows = self._views.open_orders_at(number)
            events.begin(rows)
            found = _Account(number, (reached, LAST_PART), events)
            self._accounts[number] = found
        return found

    def stop(self, listening: Listening) -> None:
        """No more for that one."""
        found = self._accounts.get(listening.account)
        if found is None or listening not in found.listeners:
            return
        found.listeners.remove(listening)
        if not found.listeners:
            del self._accounts[listening.account]
            if found.asking is not None:
                found.asking.cancel()

    def close(self) -> None:
        for found in self._accounts.values():
            if found.asking is not None:
                found.asking.cancel()
        self._accounts.clear()
        self._pause()
        self._views.close()

    # -- waiting

    def _start(self) -> None:
        if self._watch is None:
            self._watch = Watch(self._directory)
            if self._watch.fd >= 0:
                asyncio.get_running_loop().add_reader(self._watch.fd, self._changed)
        self._again(LOOK_S)

    def _pause(self) -> None:
        """Nobody listens."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._watch is not None:
            if self._watch.fd >= 0:
                asyncio.get_running_loop().remove_reader(self._watch.fd)
            self._watch.close()
            self._watch = None

    def _changed(self) -> None:
        assert self._watch is not None
        self._watch.clear()
        self._again(_SETTLE_S)

    def _again(self, seconds: float) -> None:
        """Look in so many seconds, or earlier if that was to be so."""
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            if self._due <= loop.time() + seconds:
                return
            self._timer.cancel()
        self._due = loop.time() + seconds
        self._timer = loop.call_later(seconds, self._look)

    def _look(self) -> None:
        self._timer = None
        if not self._accounts:
            self._pause()
            return
        pause = LOOK_S
        try:
            if self._read():
                pause = 0.0
        except ViewsError:  # the archiver may be about to make them anew
            pass
        except Exception:
            self._say(f"user streams: {traceback.format_exc()}")
        self._again(pause)

    # -- telling

    def _read(self) -> bool:
        """Tell what is new. True: there is more."""
        wanted = {found.number: found.position for found in self._accounts.values()}
        try:
            by_account, reached = self._views.reports_of(wanted, _AT_ONCE)
        except Forgotten:
            return False
        more = False
        for number, account in list(self._accounts.items()):
            reports = by_account.get(number)
            if reports is not None:
                if not self._known(reports):
                    continue  # and again, when its markets are known
                # Before it is told: what cannot be is not tried again and again.
                last = reports[-1]
                account.position = int(last["sequence"]), int(part_of(last))
                self._tell(account, reports)
                if len(reports) >= _AT_ONCE:
                    more = True
                    continue
            account.position = max(account.position, reached)
        return more

    def _tell(self, account: _Account, reports: NDArray[Any]) -> None:
        rows = [Report(*row) for row in reports.tolist()]
        orders = self._views.orders_by_id(account.events.unknown(rows))
        movements: dict[int, Any] = {}
        for row in rows:
            if row.kind == EventKind.BALANCE:
                found = self._views.movements(account.number, row.sequence - 1, 1)
                movements |= {int(each["sequence"]): each for each in found}
        account.last_ms = rows[-1].timestamp_ns // 1_000_000
        self._publish(account, account.events.of(rows, orders, self._cancel_ids, movements))
        if account.events.assets and account.asking is None:
            loop = asyncio.get_running_loop()
            account.asking = loop.create_task(self._tell_balances(account))

    @staticmethod
    def _publish(account: _Account, events: list[Event]) -> None:
        for event in events:
            encoded = _encode(event)
            for listening in list(account.listeners):
                listening.tell(encoded)

    async def _tell_balances(self, account: _Account) -> None:
        """What it has of the assets that may have changed."""
        try:
            while account.events.assets and account.listeners:
                changed, account.events.assets = account.events.assets, set()
                at_ms = account.last_ms
                try:
                    holdings = await self._lookups.holdings(account.number)
                except ApiError:  # nobody answers just now
                    account.events.assets |= changed
                    await asyncio.sleep(_RETRY_S)
                    continue
                assets = self._markets.known.assets
                self._publish(account, [position(holdings, changed, assets, at_ms)])
        except Exception:
            self._say(f"balances of account {account.number}: {traceback.format_exc()}")
        finally:
            account.asking = None

    # -- markets that have come

    def _known(self, reports: NDArray[Any]) -> bool:
        """Are the markets and assets of some reports known? If not, they will be."""
        symbols = self._markets.known
        money = reports["kind"] == EventKind.BALANCE
        markets = set(np.unique(reports["market"][~money & (reports["order_id"] != 0)]).tolist())
        assets = set(np.unique(reports["market"][money]).tolist())
        unknown = {("market", each) for each in markets - set(symbols.by_number)}
        unknown |= {("asset", each) for each in assets - set(symbols.assets)}
        unknown -= self._gone
        if not unknown:
            return True
        if self._refreshing is None:
            self._refreshing = asyncio.get_running_loop().create_task(self._refresh(unknown))
        return False

    async def _refresh(self, unknown: set[tuple[str, int]]) -> None:
        try:
            # What is asked for then is later than what made them known.
            await asyncio.sleep(FRESH_S)
            symbols = await self._markets.symbols(fresh=True)
            there = {("market", each) for each in symbols.by_number}
            self._gone |= unknown - there - {("asset", each) for each in symbols.assets}
        except ApiError:
            pass
        finally:
            self._refreshing = None

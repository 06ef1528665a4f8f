"""Attaching to a running exchange: `matchbox.connect()`."""

import mmap
import os
import select
import weakref
from decimal import Decimal
from pathlib import Path
from typing import Any

from matchbox.shm import arguments
from matchbox.shm.control import ASSURANCE_FLAGS, ControlClient, RequestFlag, RequestKind
from matchbox.shm.depth import Book, MarketData, read_definition
from matchbox.shm.errors import BadArgument, EngineDown
from matchbox.shm.market import Asset, Market
from matchbox.shm.ring import Ring
from matchbox.shm.segment import map_fd
from matchbox.shm.session import Session
from matchbox.shm.streams import Pull


def connect(
    exchange: str | Path,
    *,
    account: str = "",
    name: str = "",
    capabilities: int = 0,
    operator: bool = False,
    cancel_on_detach: bool = False,
    assurance: str = "matched",
    wait: str = "park",
    doorbell: bool = False,
    timeout: float = 10.0,
) -> Session:
    """Attach to the exchange and return a session.

    exchange          its data folder, or the name of an instance with its data in the default place
    account           name of the account to trade for; "" for a session that only looks or operates
    name              of the session: one that attaches again by its name goes on with its
                      numbering; "" lets the exchange choose one
    capabilities      enum Capability; 0 = what the account is for (trading)
    operator          to operate: with all capabilities that are open to this user
    cancel_on_detach  the session's end, however it comes, cancels the orders that it entered
    assurance         what a report waits for: "matched", "replicated" (the standby has applied its
                      record, or it is durable) or "durable" (its record is on the disk)
    wait              "park" (sleep while there is nothing to do) or "spin" (never give the core
                      away)
    doorbell          also have a descriptor that is readable when there are reports (Session.arm),
                      for the exchange's own user
    timeout           seconds for the exchange to answer

    Raises EngineDown if no exchange answers, SessionError if it refuses.
    """
    arguments.label(account, "account")
    arguments.label(name, "name")
    arguments.whole(capabilities, "capabilities", 0xFFFFFFFF)
    waits_for = arguments.assurance(assurance)
    arguments.wait_strategy(wait)
    arguments.seconds(timeout)
    if timeout is None or timeout <= 0:
        raise BadArgument(f"connecting needs a time above 0: timeout={timeout}")
    flags = RequestFlag.OPERATOR if operator else RequestFlag(0)
    if cancel_on_detach:
        flags |= RequestFlag.CANCEL_ON_DETACH
    if doorbell:
        flags |= RequestFlag.DOORBELL
    flags |= ASSURANCE_FLAGS[waits_for]
    control = ControlClient(data_folder(exchange) / "control.sock", timeout)
    fds: list[int] = []
    try:
        reply, fds, _ = control.ask(
            RequestKind.ATTACH, account=account, name=name, capabilities=capabilities, flags=flags
        )
        commands, reports, market_data, *pidfds = fds
        bell = pidfds.pop() if doorbell else -1
        rings = (
            Ring.attach(map_fd(commands)),
            Ring.attach(map_fd(reports, writable=False)),
        )
        connection = Connection(control, map_fd(market_data, writable=False), pidfds)
        connection.own(bell)
        connection.folder, connection.account = data_folder(exchange), account
        del fds[3:]  # the connection's
    except BaseException:
        control.close()
        raise
    finally:
        _close_all(fds)
    session = Session(
        connection,
        *rings,
        number=int(reply["session"]),
        name=reply["text"].decode(),
        account=int(reply["account"]),
        pidfds=tuple(pidfds),
        wait=wait,
        doorbell=bell,
    )
    try:
        if not len(session.reports(1, timeout)):  # ATTACHED: it needs no place among the bot's own
            raise EngineDown(f"the publisher did not answer in {timeout} s")
    except BaseException:
        session.close()
        raise
    return session


def pull(
    exchange: str | Path,
    stream: str = "reports",
    *,
    account: str = "",
    market: str = "",
    after: Any = None,
    consumer: str = "",
    timeout: float = 10.0,
) -> Pull:
    """Read what happened, from any position on: no session is needed, and nothing is missed.

    exchange    its data folder, or the name of an instance with its data in the default place
    stream      "reports" of an account, "trades" of a market, or "log" (operators)
    after       a Position, its text, or a sequence; None: where `consumer` has committed, or the
                oldest that is kept
    consumer    a name for this reader, whose positions the exchange keeps (Pull.commit())
    timeout     seconds for the exchange to answer

    Raises EngineDown if nobody serves, SessionError if it is refused, Forgotten if something after
    that position is not kept any more.
    """
    return Pull(
        data_folder(exchange),
        stream,
        account=account,
        market=market,
        after=after,
        consumer=consumer,
        timeout=timeout,
    )


def look(exchange: str | Path, timeout: float = 10.0) -> "Connection":
    """The exchange without a session: assets, markets, tops of books, balances, open orders.

    Raises EngineDown if no exchange answers.
    """
    return Connection(ControlClient(data_folder(exchange) / "control.sock", timeout), None, [])


def data_folder(exchange: str | Path) -> Path:
    """The data folder of an exchange, given itself or an instance's name."""
    text = str(exchange) if isinstance(exchange, str | Path) else ""
    if not text or "\0" in text:
        raise BadArgument(f"not a data folder or the name of an instance: {exchange!r}")
    path = Path(text).expanduser()
    if path.is_dir():
        return path
    if "/" in text:
        raise BadArgument(f"no such data folder: {exchange}")
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser() / "matchbox" / text


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


class Connection:
    """A bot's line to the exchange beside its rings: assets, markets, books, balances."""

    def __init__(
        self, control: ControlClient, market_data: mmap.mmap | None, pidfds: list[int]
    ) -> None:
        self._control = control
        self.folder, self.account = Path(), ""  # of a session's: the exchange, and its account
        self._market_data = None if market_data is None else Ring.attach(market_data)
        # Not by close(): market data and books outlive it, and ask whether the engine lives.
        weakref.finalize(self, _close_all, pidfds).atexit = False
        self._pidfds = pidfds
        self._poller = select.poll()
        for fd in pidfds:
            self._poller.register(fd, select.POLLIN)
        self._numbers: dict[str, int] = {}
        self._books: dict[int, Book] = {}
        self._assets: dict[str, Asset] = {}

    def own(self, fd: int) -> None:
        """Have a descriptor closed with this, if it is one."""
        if fd >= 0:
            weakref.finalize(self, os.close, fd).atexit = False

    def market(self, market: Market | str | int) -> Market:
        """A market by symbol or number. Raises SessionError if there is none."""
        if isinstance(market, Market):
            return market
        made: Market = self.book(market).market
        return made

    def define(self, record: Any, matcher: int | None = None) -> tuple[int, int]:
        """Have an asset, account or market added or removed, as an operator.

        record     one ADD_ or REMOVE_ record; number 0: one that is free, or by its name
        matcher    which one is to carry a market; None: the one with the fewest

        Returns its number and the sequence of the log record. Raises SessionError if it is refused:
        then nothing was done.
        """
        number = 0 if matcher is None else matcher + 1
        answer, _, _ = self._control.ask(RequestKind.DEFINE, record.tobytes(), number=number)
        return int(answer["account"]), int(answer["sequence"])

    def promote(self) -> tuple[int, str]:
        """Have the standby take over from the engine, as an operator; sessions go on.

        Returns the last record of the engine before, and how long it took. Raises SessionError if
        it is refused: then nothing was done.
        """
        answer, _, _ = self._control.ask(RequestKind.PROMOTE)
        return int(answer["sequence"]), answer["text"].decode()

    def take_snapshot(self) -> int:
        """Have the standby take a snapshot, as an operator. Returns the lowest sequence that it can
        be of; it is in the data folder when it is written. Raises SessionError if it is refused.
        """
        answer, _, _ = self._control.ask(RequestKind.SNAPSHOT)
        return int(answer["sequence"])

    def listing(self) -> tuple[dict[int, dict[str, Any]], dict[int, int]]:
        """The rules of every market as they are now, in ticks and units, and the supply of every
        asset in units, both by number.
        """
        answer = self._control.document(RequestKind.LISTING)
        rules = {int(row["market"]): row for row in answer["markets"]}
        return rules, {number: supply for number, _, supply in answer["assets"]}

    @property
    def markets(self) -> dict[str, Market]:
        """All markets by symbol, as they are now."""
        _, _, records = self._control.ask(RequestKind.MARKETS)
        found = (self.market(int(record["market"])) for record in records)
        return {market.symbol: market for market in found}

    def asset(self, asset: Asset | str | int) -> Asset:
        """An asset by name or number. Raises BadArgument if there is none."""
        if isinstance(asset, Asset):
            return asset
        if isinstance(asset, bool) or not isinstance(asset, str | int):
            raise BadArgument(f"an asset is an Asset, a name or a number: asset={asset!r}")
        known = self._assets
        if not any(asset in (each.name, each.number) for each in known.values()):
            known = self.assets
        for each in known.values():
            if asset in (each.name, each.number):
                return each
        raise BadArgument(f"no such asset: asset={asset!r}; there are: {', '.join(known)}")

    @property
    def assets(self) -> dict[str, Asset]:
        """All assets by name, as they are now."""
        found = [Asset(**asset) for asset in self._control.document(RequestKind.ASSETS)]
        self._assets = {asset.name: asset for asset in found}
        return dict(self._assets)

    def accounts(self) -> list[dict[str, Any]]:
        """The accounts that this user may name: number, name and parent (0: none) of each."""
        found: list[dict[str, Any]] = self._control.document(RequestKind.ACCOUNTS)
        return found

    def balances(self, account: int) -> dict[str, tuple[Decimal, Decimal]]:
        """Free and held of each asset that the account has, by the asset's name."""
        answer = self._control.document(RequestKind.BALANCES, number=account)
        found = ((self.asset(number), free, held) for number, free, held in answer["balances"])
        return {a.name: (a.amount(free), a.amount(held)) for a, free, held in found}

    def balance_units(self, account: int) -> tuple[dict[int, tuple[int, int]], int]:
        """Free and held, in units, by the asset's number; and the sequence they are settled to."""
        answer = self._control.document(RequestKind.BALANCES, number=account)
        found = {number: (free, held) for number, free, held in answer["balances"]}
        return found, int(answer["settled"])

    def holdings(self, account: int) -> dict[str, Any]:
        """What the exchange has of an account: balances, state, fee rates; see BALANCES in
        control.h.
        """
        found: dict[str, Any] = self._control.document(RequestKind.BALANCES, number=account)
        return found

    def orders(self, account: int, market: int) -> list[dict[str, Any]]:
        """The live orders of an account (0: of all) in a market (0: in all)."""
        answer = self._control.document(RequestKind.ORDERS, number=account, market=market)
        found: list[dict[str, Any]] = answer["orders"]
        return found

    def book(self, market: Market | str | int) -> Book:
        """The view of a market's depth table; the same one each time, until it is removed."""
        if isinstance(market, str):
            number, symbol = self._numbers.get(market, 0), market
        elif isinstance(market, Market):
            number, symbol = market.number, ""
        elif isinstance(market, int) and not isinstance(market, bool):
            number, symbol = market, ""
        else:
            raise BadArgument(f"a market is a Market, a symbol or a number: market={market!r}")
        if number in self._books and self._books[number].removed:
            self._forget(number)
            number = 0 if symbol else number
        if number not in self._books:
            self._open_book(number, symbol)
            number = self._numbers[symbol] if symbol else number
        return self._books[number]

    def _forget(self, number: int) -> None:
        """A market that was removed: its number, and its symbol, may be another's by now."""
        del self._books[number]
        self._numbers = {name: n for name, n in self._numbers.items() if n != number}

    def _open_book(self, number: int, symbol: str) -> None:
        if len(symbol.encode()) > 23 or not 0 <= number < 1 << 32:
            raise BadArgument(f"not a market's symbol or number: {symbol or number!r}")
        _, fds, _ = self._control.ask(RequestKind.DEPTH, market=number, symbol=symbol)
        try:
            memory = map_fd(fds[0], writable=False)
        finally:
            os.close(fds[0])
        definition, base, quote = read_definition(memory)
        market = Market.from_record(definition, *base, *quote)
        self._numbers[market.symbol] = market.number
        self._books[market.number] = Book(memory, self._market_data, market)

    def market_data(self) -> MarketData:
        """A new reader of the public market data, standing at the present."""
        if self._market_data is None:
            raise BadArgument("market data needs a session: connect()")
        return MarketData(self._market_data, self.dead)

    def dead(self) -> bool:
        """Has a process that we depend on died?"""
        return bool(self._pidfds) and bool(self._poller.poll(0))

    def close(self) -> None:
        """Hang up the control socket. Books and market data can still be read."""
        self._control.close()

    def __getstate__(self) -> Any:
        raise BadArgument("a connection belongs to its process")

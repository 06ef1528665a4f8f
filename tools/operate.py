"""What the operators' commands share: one record to the exchange and its answer, names, tables.

A record is made and checked with what the exchange says of itself to anybody (`look()`), so that
nothing is sent that cannot be meant; then an operator's session is attached for it.
"""

import json
import time
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, Protocol

from rich.console import Console
from rich.table import Table

from matchbox.shm.connect import Connection, connect, look
from matchbox.shm.depth import Book
from matchbox.shm.errors import BadArgument, EngineDown, MatchboxError
from matchbox.shm.market import Asset, Market
from matchbox.shm.reasons import describe
from matchbox.shm.records import COMMAND, EventKind, MarketState
from matchbox.shm.session import Session
from matchbox.tools.recordview import format_time
from matchbox.tools.run import find_data

ANSWER_TIMEOUT_S = 30.0
_NO_ANSWERS = (EventKind.TRADE, EventKind.PREVENTED)


class Refusal(MatchboxError):
    """The exchange has refused a command."""


class Shown(Protocol):
    """An exchange that is looked at: a Connection to one that runs, or one of the past."""

    @property
    def markets(self) -> dict[str, Market]: ...

    def market(self, market: Market | str | int) -> Market: ...

    def asset(self, asset: Asset | str | int) -> Asset: ...

    def accounts(self) -> list[dict[str, Any]]: ...

    def balances(self, account: int) -> dict[str, tuple[Decimal, Decimal]]: ...

    def orders(self, account: int, market: int) -> list[dict[str, Any]]: ...

    def book(self, market: Market | str | int) -> Book: ...

    def listing(self) -> tuple[dict[int, dict[str, Any]], dict[int, int]]: ...


class Accounts:
    """The accounts that there are, by number and by name."""

    def __init__(self, accounts: Iterable[dict[str, Any]]) -> None:
        self.rows = list(accounts)
        self._names = {int(row["number"]): str(row["name"]) for row in self.rows}

    def number(self, text: str) -> int:
        """Of the account called so, or of the number itself. Raises BadArgument."""
        for number, name in self._names.items():
            if name == text:
                return number
        if text.isdecimal() and 0 < int(text) < 1 << 32:
            return int(text)
        known = ", ".join(list(self._names.values())[:20])
        raise BadArgument(f"no such account: account={text}; there are: {known}")

    def name(self, number: int) -> str:
        """Its name; its number if it has none that is known."""
        return self._names.get(number, str(number))


Build = Callable[[Connection, Accounts], Any]


def run(exchange: str, build: Build, *, answers: int = 1) -> tuple[list[Any], Connection, Accounts]:
    """Send the record that `build` makes, as an operator; its answers.

    Raises BadArgument (nothing was sent), Refusal, EngineDown, SessionError.
    """
    data = find_data(exchange)
    connection = look(data)
    accounts = Accounts(connection.accounts())
    record = build(connection, accounts)
    with connect(data, operator=True) as session:
        position = session.submit(record.view(COMMAND), timeout=ANSWER_TIMEOUT_S)
        return wait(session, position, answers), connection, accounts


def wait(session: Session, position: int, count: int = 1) -> list[Any]:
    """The `count` reports that answer a command. Raises Refusal, EngineDown."""
    found: list[Any] = []
    deadline = time.monotonic() + ANSWER_TIMEOUT_S
    while len(found) < count:
        reports = session.reports(timeout=max(0.0, deadline - time.monotonic()))
        if not len(reports):
            raise EngineDown(
                f"no answer in {ANSWER_TIMEOUT_S:.0f} s: `matchbox log` shows whether it was done"
            )
        for report in reports:
            answers = int(report["command_position"]) == position
            if answers and report["kind"] not in _NO_ANSWERS:
                if report["kind"] == EventKind.REJECTED:
                    raise Refusal(f"refused: {describe(int(report['reason']))}")
                found.append(report)
    return found


# ---- what is shown


def show_balances(exchange: str, build: Build, *, answers: int = 1, as_json: bool) -> None:
    """Move money; show what its accounts have now."""
    reports, connection, accounts = run(exchange, build, answers=answers)
    rows = [_balance(report, connection, accounts) for report in reports]
    if as_json:
        print_json({"sequence": int(reports[0]["sequence"]), "balances": rows})
        return
    columns = ("account", "asset", "change", "free", "held")
    show_table(columns, [[row[name] for name in columns] for row in rows], left=2)


def _balance(report: Any, connection: Connection, accounts: Accounts) -> dict[str, Any]:
    asset = connection.asset(int(report["market"]))
    amounts = {"free": "quantity_lots", "held": "leaves_lots", "change": "cumulative_lots"}
    return {
        "account": accounts.name(int(report["account"])),
        "asset": asset.name,
        **{name: f"{asset.amount(int(report[field])):f}" for name, field in amounts.items()},
    }


def show_done(exchange: str, build: Build, done: str, *, as_json: bool) -> None:
    """Set a rule; say `done` and the record of the log that says so."""
    (report,), _, _ = run(exchange, build)
    sequence, when = int(report["sequence"]), format_time(int(report["timestamp_ns"]))
    if as_json:
        print_json({"sequence": sequence, "time": when})
    else:
        print(f"{done} Log record {sequence:,}, {when}.")


def show_table(columns: tuple[str, ...], rows: list[list[Any]], *, left: int = 1) -> None:
    """A table, its first `left` columns to the left; whole lines also where nobody looks."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number < left else "right", no_wrap=True)
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    console = Console()
    if not console.is_terminal:
        console = Console(width=500)
    console.print(table)


def print_json(value: Any) -> None:
    print(json.dumps(value))


def choice(value: str) -> str | None:
    """An option's word as the SDK spells it; None if it was left out."""
    return value.replace("-", "_") or None


def show_accounts(exchange: str, *, as_json: bool) -> None:
    """All accounts."""
    accounts = Accounts(look(find_data(exchange)).accounts())
    if as_json:
        print_json(accounts.rows)
        return
    rows = [
        [row["number"], row["name"], accounts.name(row["parent"]) if row["parent"] else ""]
        for row in accounts.rows
    ]
    show_table(("number", "name", "parent"), rows, left=3)


def show_account(exchange: str, account: str, *, as_json: bool) -> None:
    """Balances of an account, and how many orders it has open."""
    connection = look(find_data(exchange))
    accounts = Accounts(connection.accounts())
    number = accounts.number(account)
    balances = {
        asset: {"free": f"{free:f}", "held": f"{held:f}"}
        for asset, (free, held) in connection.balances(number).items()
    }
    orders = len(connection.orders(number, 0))
    name = accounts.name(number)
    if as_json:
        print_json({"account": number, "name": name, "balances": balances, "open_orders": orders})
        return
    print(f"Account {number}, {name}: {orders:,} open orders.")
    rows = [[asset, both["free"], both["held"]] for asset, both in balances.items()]
    if rows:
        show_table(("asset", "free", "held"), rows)


def show_markets(exchange: str, *, as_json: bool) -> None:
    """All markets, with their rules and best prices."""
    rows = market_rows(look(find_data(exchange)))
    if as_json:
        print_json(rows)
    else:
        print_markets(rows)


def market_rows(exchange: Shown) -> list[dict[str, Any]]:
    """What there is to say of each market."""
    rules, _ = exchange.listing()
    markets = sorted(exchange.markets.values(), key=lambda market: market.number)
    return [
        _market(exchange, market, rules[market.number])
        for market in markets
        if market.number in rules
    ]


def print_markets(rows: list[dict[str, Any]]) -> None:
    seen = ("number", "symbol", "state", "tick_size", "lot_size", "bid", "ask", "last", "trades")
    columns = (*seen, "min_notional", "bands", "protection", "account_orders", "orders")
    cells = [["-" if row[name] is None else row[name] for name in columns] for row in rows]
    heads = tuple(column.replace("_", " ") for column in columns)
    show_table(heads, cells, left=3)


def _market(connection: Shown, market: Market, rules: dict[str, Any]) -> dict[str, Any]:
    """What there is to say of a market; bands and protection in bips."""
    top = connection.book(market.number).top()
    best = [f"{market.price(side[0][0]):f}" if len(side) else None for side in (top.bids, top.asks)]
    up, down = rules["band_up_bips"], rules["band_down_bips"]
    last, quote = rules["last_price_ticks"], connection.asset(market.quote_asset)
    return {
        "number": market.number,
        "symbol": market.symbol,
        "base": market.base,
        "quote": market.quote,
        "tick_size": f"{market.tick_size:f}",
        "lot_size": f"{market.lot_size.normalize():f}",
        "min_quantity": f"{market.quantity(market.min_quantity_lots).normalize():f}",
        "max_quantity": f"{market.quantity(market.max_quantity_lots).normalize():f}",
        "bid": best[0],
        "ask": best[1],
        "last": f"{market.price(last):f}" if last else None,
        "trades": top.trades,
        "state": MarketState(rules["state"]).name.lower().replace("_", "-"),
        "min_notional": f"{quote.amount(rules['min_notional']):f}"
        if rules["min_notional"]
        else None,
        "bands": f"+{up} -{down}" if up or down else None,
        "band_up": up or None,
        "band_down": down or None,
        "protection": rules["protection_bips"],
        "account_orders": rules["account_orders"] or None,
        "orders": rules["live_orders"],
        "max_orders": rules["max_orders"],
        "own_fees": rules["own_fees"],
    }


def show_assets(exchange: str, *, as_json: bool) -> None:
    """All assets, and how much of each there is."""
    connection = look(find_data(exchange))
    _, supply = connection.listing()
    rows = [
        {
            "number": asset.number,
            "name": asset.name,
            "scale": asset.scale,
            "supply": f"{asset.amount(supply[asset.number]):f}",
        }
        for asset in sorted(connection.assets.values(), key=lambda asset: asset.number)
        if asset.number in supply
    ]
    if as_json:
        print_json(rows)
        return
    columns = ("number", "name", "scale", "supply")
    show_table(columns, [[row[name] for name in columns] for row in rows], left=2)

"""`matchbox at`: what an exchange of the past is asked for, as text and JSON."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from matchbox.core.snapshot import combined_hash
from matchbox.shm.errors import BadArgument
from matchbox.tools import operate, orderview, past
from matchbox.tools.operate import Accounts
from matchbox.tools.past import Past
from matchbox.tools.recordview import format_time

Rows = list[dict[str, Any]]
_WITH_BOOKS = ("book", "markets")


def show(
    moment: str,
    what: str,
    of: str,
    *,
    place: str,
    config: Path | None,
    levels: int,
    market: str,
    as_json: bool,
) -> None:
    """Print what was asked for. Raises BadArgument, MatchboxError."""
    if what not in VIEWS:
        raise BadArgument(f"nothing of this name: what={what}, allowed={', '.join(VIEWS)}")
    _check(what, of, levels, market)
    journal = past.find_place(place)
    with Console(stderr=True).status("Replaying the journal"):
        found = past.rewind(journal, moment, config=config, books=what in _WITH_BOOKS)
    values, draw = VIEWS[what](found, of, levels, market)
    when = format_time(found.moment.timestamp_ns)
    if as_json:
        operate.print_json({"sequence": found.moment.sequence, "time": when, what: values})
        return
    print(f"After {found.moment}:")
    draw()


def _check(what: str, of: str, levels: int, market: str) -> None:
    if what == "book" and not of:
        raise BadArgument("which market: `book` needs the symbol of one")
    if of and what not in ("book", "balances", "orders"):
        raise BadArgument(f"`{what}` is of the whole exchange: not understood: {of}")
    if levels < 1:
        raise BadArgument(f"levels out of range: levels={levels}, minimum=1")
    if market and what != "orders":
        raise BadArgument("--market goes with `orders`")


View = tuple[Any, Callable[[], None]]  # for JSON, and what prints it as text


def _book(found: Past, of: str, levels: int, market: str) -> View:
    known = found.market(of)
    top = found.depth(known)

    def draw() -> None:
        Console().print(orderview.draw(top, known, levels))

    return orderview.book_values(top, known, levels), draw


def _balances(found: Past, of: str, levels: int, market: str) -> View:
    accounts = Accounts(found.accounts())
    numbers = [accounts.number(of)] if of else [int(row["number"]) for row in accounts.rows]
    rows = [
        {"account": accounts.name(n), "asset": asset, "free": f"{free:f}", "held": f"{held:f}"}
        for n in numbers
        for asset, (free, held) in found.balances(n).items()
        if of or free or held
    ]
    columns = ("account", "asset", "free", "held")

    def draw() -> None:
        operate.show_table(columns, [[row[c] for c in columns] for row in rows], left=2)

    return rows, draw


def _orders(found: Past, of: str, levels: int, market: str) -> View:
    rows = orderview.order_rows(found, of, market)
    return rows, lambda: orderview.print_orders(rows)


def _markets(found: Past, of: str, levels: int, market: str) -> View:
    rows = operate.market_rows(found)
    return rows, lambda: operate.print_markets(rows)


def _hash(found: Past, of: str, levels: int, market: str) -> View:
    """`state`: all settled; `recorded`: as far settled as the record says, as a snapshot is."""
    state = found.state()
    hashes = {name: f"{agent['hash']:016x}" for name, agent in state.items()}
    values = {
        "state": f"{combined_hash(state):016x}",
        "recorded": None if found.recorded is None else f"{found.recorded:016x}",
        "agents": hashes,
        "replayed_from": found.began + 1,
    }

    def draw() -> None:
        for name, of_agent in hashes.items():
            print(f"{name:<12}{of_agent}")
        recorded = "" if found.recorded is None else f"; of its snapshot: {found.recorded:016x}"
        print(f"State hash {values['state']}{recorded}.")

    return values, draw


VIEWS: dict[str, Callable[[Past, str, int, str], View]] = {
    "book": _book,
    "balances": _balances,
    "orders": _orders,
    "markets": _markets,
    "hash": _hash,
}

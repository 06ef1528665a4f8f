"""`matchbox order` and `matchbox book`: open orders and the book, in tables and pictures."""

import contextlib
import json
import time
from decimal import Decimal
from typing import Any

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from matchbox.shm import commands
from matchbox.shm.connect import Connection, look
from matchbox.shm.depth import Top
from matchbox.shm.errors import BadArgument
from matchbox.shm.market import Market
from matchbox.shm.records import COMMAND, Kind, OrderType, Side, TimeInForce
from matchbox.tools import operate
from matchbox.tools.operate import Accounts, Shown
from matchbox.tools.recordview import decimal_text
from matchbox.tools.run import find_data

MOST_LEVELS = 20  # MB_DEPTH_TOP
_SHORTEST_INTERVAL_S = 0.05
_BAR = 40  # cells of the longest bar
_EIGHTHS = " ▏▎▍▌▋▊▉"
_WORDS = {"side": Side, "order_type": OrderType, "time_in_force": TimeInForce}


# ---- orders


def show_orders(exchange: str, account: str, market: str, *, as_json: bool) -> None:
    rows = order_rows(look(find_data(exchange)), account, market)
    if as_json:
        operate.print_json(rows)
    else:
        print_orders(rows)


def order_rows(exchange: Shown, account: str, market: str) -> list[dict[str, Any]]:
    """The open orders of an account in a market; of all where they are empty."""
    accounts = Accounts(exchange.accounts())
    number = accounts.number(account) if account else 0
    of_market = exchange.market(market).number if market else 0
    return [describe(order, exchange, accounts) for order in exchange.orders(number, of_market)]


def print_orders(rows: list[dict[str, Any]]) -> None:
    words: tuple[str, ...] = (
        "order_id", "account", "market", "side", "order_type", "client_order_id"
    )  # fmt: skip
    if any(row["in_list"] for row in rows):
        words = (*words, "in_list")
    columns = (*words, "price", "trigger", "quantity", "filled", "open")
    heads = tuple(column.replace("_", " ") for column in columns)
    operate.show_table(
        heads, [[row.get(name) for name in columns] for row in rows], left=len(words)
    )


def show_order(exchange: str, order_id: int, *, as_json: bool) -> None:
    connection = look(find_data(exchange))
    row = describe(_find(connection, order_id), connection, Accounts(connection.accounts()))
    if as_json:
        operate.print_json(row)
        return
    for name, value in row.items():
        if value not in (None, ""):
            print(f"{name.replace('_', ' '):<16} {value}")


def _find(connection: Connection, order_id: int) -> dict[str, Any]:
    for order in connection.orders(0, 0):
        if int(order["order_id"]) == order_id:
            return order
    raise BadArgument(f"no open order has this id: order={order_id}")


def describe(order: dict[str, Any], connection: Shown, accounts: Accounts) -> dict[str, Any]:
    """An order as the exchange tells it, with names and decimals instead of numbers."""
    market = connection.market(int(order["market"]))
    row: dict[str, Any] = {
        "order_id": int(order["order_id"]),
        "account": accounts.name(int(order["account"])),
        "market": market.symbol,
    }
    for name, words in _WORDS.items():
        if name in order:
            row[name] = _word(words, order[name])
    row["client_order_id"] = order.get("client_order_id", "")
    for name in ("price", "trigger"):
        ticks = int(order.get(f"{name}_ticks", 0))
        row[name] = decimal_text(ticks, market.tick_size) if ticks else None
    lots = {"quantity": "quantity_lots", "filled": "cumulative_lots", "open": "leaves_lots"}
    for name, of in lots.items():
        row[name] = decimal_text(int(order[of]), market.lot_size)
    row["hold"] = _hold(order, market)
    partner = int(order.get("partner_id", 0))
    row["in_list"] = "pending" if order.get("pending") else ""
    if partner:
        row["in_list"] += f"{' ' if row['in_list'] else ''}with {partner}"
    told = {f"{name}_ticks" for name in ("price", "trigger")} | set(lots.values())
    told |= {"pending", "partner_id"}
    return row | {k: v for k, v in order.items() if k not in row and k not in told}


def _hold(order: dict[str, Any], market: Market) -> str | None:
    units = int(order.get("hold", 0))
    if not units:
        return None
    buys = _word(Side, order.get("side", 0)) == "buy"
    name, scale = (market.quote, market.quote_scale) if buys else (market.base, market.base_scale)
    return f"{decimal_text(units, Decimal(1).scaleb(-scale))} {name}"


def _word(words: Any, value: Any) -> str:
    """A member of an enumeration, given by number or by name, in small letters."""
    if isinstance(value, int) and value in words._value2member_map_:
        value = words(value).name
    return str(value).lower().replace("_", "-")


def cancel(
    exchange: str, order_id: int, account: str, client_order_id: str, *, as_json: bool
) -> None:
    """Cancel one order; say what was open of it."""

    def build(known: Connection, accounts: Accounts) -> Any:
        record = np.zeros(1, COMMAND)
        record["kind"], record["order_id"] = Kind.CANCEL_ORDER, order_id
        if client_order_id:
            record["client_order_id"] = commands.check_text(client_order_id, "client order id")
        record["account"] = (
            accounts.number(account) if account else int(_find(known, order_id)["account"])
        )
        return record

    (report,), connection, _ = operate.run(exchange, build)
    market = connection.market(int(report["market"]))
    left = decimal_text(int(report["quantity_lots"]), market.lot_size)
    sequence, order_id = int(report["sequence"]), int(report["order_id"])
    if as_json:
        operate.print_json({"sequence": sequence, "order_id": order_id, "canceled": left})
    else:
        print(f"Order {order_id} is canceled: {left} were open. Log record {sequence:,}.")


def cancel_all(exchange: str, account: str, market: str, side: str, *, as_json: bool) -> None:
    """Have all orders of an account canceled."""
    operate.show_done(
        exchange,
        lambda known, accounts: commands.mass_cancel(
            known, market or None, side or None, accounts.number(account)
        ),
        f"The exchange cancels all {side and side + ' '}orders of {account}"
        f"{market and ' in ' + market}.",
        as_json=as_json,
    )


# ---- the book


def show_book(
    exchange: str, symbol: str, levels: int, *, watch: bool, interval: float, as_json: bool
) -> None:
    """Draw a book once, or until Ctrl-C. Raises EngineDown when the exchange is gone."""
    if not 1 <= levels <= MOST_LEVELS:
        raise BadArgument(f"levels out of range: levels={levels}, allowed=1..{MOST_LEVELS}")
    if not interval >= _SHORTEST_INTERVAL_S:
        raise BadArgument(f"too often: interval={interval}, minimum={_SHORTEST_INTERVAL_S}")
    connection = look(find_data(exchange))
    view = connection.book(symbol)
    market: Market = view.market
    if as_json:
        print(json.dumps(book_values(view.top(), market, levels)), flush=True)
        while watch:
            time.sleep(interval)
            print(json.dumps(book_values(view.top(), market, levels)), flush=True)
        return
    console = Console()
    if not watch:
        console.print(draw(view.top(), market, levels))
        return
    with (
        contextlib.suppress(KeyboardInterrupt),
        Live(console=console, auto_refresh=False, screen=console.is_terminal) as live,
    ):
        while True:
            live.update(draw(view.top(), market, levels), refresh=True)
            time.sleep(interval)


def book_values(top: Top, market: Market, levels: int) -> dict[str, Any]:
    """A look at a book as plain values; sides best first."""
    return {
        "symbol": market.symbol,
        "update": top.update,
        "sequence": top.sequence,
        "trades": top.trades,
        "last": f"{market.price(top.last_price_ticks):f}" if top.trades else None,
        "bids": [_level(level, market) for level in top.bids[:levels]],
        "asks": [_level(level, market) for level in top.asks[:levels]],
    }


def _level(level: Any, market: Market) -> list[str]:
    price, quantity = int(level["price_ticks"]), int(level["quantity_lots"])
    return [f"{market.price(price):f}", decimal_text(quantity, market.lot_size)]


def draw(top: Top, market: Market, levels: int) -> RenderableType:
    """Asks above, bids below, the best in the middle; bars by quantity."""
    bids, asks = top.bids[:levels], top.asks[:levels]
    most = max((int(level["quantity_lots"]) for side in (bids, asks) for level in side), default=0)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("price", justify="right", no_wrap=True)
    table.add_column("quantity", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for level in asks[::-1]:
        table.add_row(*_row(level, market, most, "red"))
    table.add_row("", "", Text(_gap(bids, asks, market), style="dim"))
    for level in bids:
        table.add_row(*_row(level, market, most, "green"))
    last = f"last {market.price(top.last_price_ticks):f}" if top.trades else "no trades"
    return Group(f"{market.symbol}: {last}, {top.trades:,} trades, update {top.update:,}", table)


def _row(level: Any, market: Market, most: int, style: str) -> tuple[Text, str, Text]:
    price, quantity = _level(level, market)
    return Text(price, style=style), quantity, Text(bar(int(level["quantity_lots"]), most), style)


def bar(quantity: int, most: int) -> str:
    """A bar of eighths of cells; the longest is that of `most`, and none is empty."""
    eighths = max(1, 8 * _BAR * quantity // most)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def _gap(bids: Any, asks: Any, market: Market) -> str:
    if not len(bids) and not len(asks):
        return "the book is empty"
    if not len(bids) or not len(asks):
        return "no bids" if len(asks) else "no asks"
    return f"spread {market.price(int(asks[0]['price_ticks']) - int(bids[0]['price_ticks'])):f}"

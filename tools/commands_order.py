"""`matchbox order`, `matchbox book`: what is open."""

import typer

_EXCHANGE = typer.Argument(
    ..., metavar="EXCHANGE", help="An instance's name, its data folder or configuration."
)
_JSON = typer.Option(False, "--json", help="As JSON.")


def register(app: typer.Typer) -> None:
    order = typer.Typer(help="Orders that are open.", no_args_is_help=True)
    order.command("list")(list_orders)
    order.command("show")(show_order)
    order.command("cancel")(cancel_orders)
    app.add_typer(order, name="order")
    app.command()(book)


def list_orders(
    exchange: str = _EXCHANGE,
    account: str = typer.Option("", metavar="ACCOUNT", help="Name or number; left out: all."),
    market: str = typer.Option("", metavar="SYMBOL", help="Left out: all."),
    as_json: bool = _JSON,
) -> None:
    """List open orders, those that wait for a trigger included."""
    from matchbox.tools import orderview

    orderview.show_orders(exchange, account, market, as_json=as_json)


def show_order(
    exchange: str = _EXCHANGE,
    order: int = typer.Argument(..., metavar="ORDER", help="Its order id."),
    as_json: bool = _JSON,
) -> None:
    """Show all that is known of an open order."""
    from matchbox.tools import orderview

    orderview.show_order(exchange, order, as_json=as_json)


def cancel_orders(
    exchange: str = _EXCHANGE,
    order: int = typer.Argument(0, metavar="[ORDER]", show_default=False, help="Its order id."),
    account: str = typer.Option(
        "", metavar="ACCOUNT", help="Whose; with ORDER it is found out if left out."
    ),
    client_order_id: str = typer.Option(
        "", metavar="TEXT", help="The account's own name of the order, instead of ORDER."
    ),
    everything: bool = typer.Option(
        False, "--all", help="All orders of the account, or those of --market and --side."
    ),
    market: str = typer.Option("", metavar="SYMBOL", help="With --all: only of this market."),
    side: str = typer.Option("", metavar="SIDE", help="With --all: only buy or sell."),
    as_json: bool = _JSON,
) -> None:
    """Cancel an order, or all of an account."""
    from matchbox.shm.errors import BadArgument
    from matchbox.tools import orderview

    if sum(map(bool, (order, client_order_id, everything))) != 1:
        raise BadArgument("say what to cancel: ORDER, --client-order-id or --all, one of them")
    if (client_order_id or everything) and not account:
        raise BadArgument("--client-order-id and --all need --account")
    if (market or side) and not everything:
        raise BadArgument("--market and --side go with --all")
    if everything:
        orderview.cancel_all(exchange, account, market, side, as_json=as_json)
    else:
        orderview.cancel(exchange, order, account, client_order_id, as_json=as_json)


def book(
    exchange: str = _EXCHANGE,
    symbol: str = typer.Argument(..., metavar="SYMBOL", help="Of the market."),
    levels: int = typer.Option(10, "--levels", "-n", metavar="COUNT", help="Of a side, 1 to 20."),
    watch: bool = typer.Option(False, "--watch", "-w", help="Refresh until Ctrl-C."),
    interval: float = typer.Option(0.5, metavar="SECONDS", help="How often, with --watch."),
    as_json: bool = typer.Option(False, "--json", help="One JSON object, or one a look."),
) -> None:
    """Draw a market's book: the best levels of both sides, with a bar for each quantity."""
    from matchbox.tools import orderview

    orderview.show_book(exchange, symbol, levels, watch=watch, interval=interval, as_json=as_json)

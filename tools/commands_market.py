"""`matchbox market`, `matchbox fees`: the rules of markets, and what trading costs."""

import typer

_EXCHANGE = typer.Argument(
    ..., metavar="EXCHANGE", help="An instance's name, its data folder or configuration."
)
_TIER = typer.Argument(..., metavar="TIER", help="0 to 9.")
_NOTE = typer.Option("", metavar="TEXT", help="Why; up to 36 characters, kept in the log.")
_JSON = typer.Option(False, "--json", help="One JSON object.")


def register(app: typer.Typer) -> None:
    market = typer.Typer(help="Markets: what there is, and its rules.", no_args_is_help=True)
    market.command("list")(list_markets)
    market.command("add")(add_market)
    market.command("set")(set_market)
    market.command("remove")(remove_market)
    app.add_typer(market, name="market")
    fees = typer.Typer(help="Fee rates, and the volumes of tiers.", no_args_is_help=True)
    fees.command("set")(set_fees)
    fees.command("tier")(set_tier)
    app.add_typer(fees, name="fees")


def list_markets(exchange: str = _EXCHANGE, as_json: bool = _JSON) -> None:
    """List the markets with their rules and their best prices, as they are now."""
    from matchbox.tools import operate

    operate.show_markets(exchange, as_json=as_json)


def add_market(
    exchange: str = _EXCHANGE,
    symbol: str = typer.Argument(..., metavar="SYMBOL", help="What bots call it."),
    base: str = typer.Option(..., metavar="ASSET", help="What is bought and sold."),
    quote: str = typer.Option(..., metavar="ASSET", help="What is paid with."),
    tick: str = typer.Option(..., metavar="DECIMAL", help="Prices are whole numbers of it."),
    lot: str = typer.Option(..., metavar="DECIMAL", help="Quantities are whole numbers of it."),
    number: int | None = typer.Option(
        None, "--id", metavar="NUMBER", help="Its number; left out: one that was never given."
    ),
    price_step: int | None = typer.Option(
        None, metavar="TICKS", help="Prices of orders are multiples of it; 1 if left out."
    ),
    quantity_step: int | None = typer.Option(
        None, metavar="LOTS", help="Quantities of orders are multiples of it; 1 if left out."
    ),
    max_price: str = typer.Option("", metavar="DECIMAL", help="Highest price of an order."),
    min_quantity: str = typer.Option("", metavar="DECIMAL", help="Smallest quantity of an order."),
    max_quantity: str = typer.Option("", metavar="DECIMAL", help="Largest quantity of an order."),
    max_orders: int | None = typer.Option(
        None, metavar="COUNT", help="How many orders can be open; 65536 if left out."
    ),
    max_specials: int | None = typer.Option(
        None, metavar="COUNT", help="How many of them can be icebergs or wait for a trigger."
    ),
    matcher: int | None = typer.Option(
        None, metavar="NUMBER", help="Which one carries it; left out: the one with the fewest."
    ),
    as_json: bool = _JSON,
) -> None:
    """Add a market to the running exchange; it can be traded at once.

    The options are as the keys of a [[market]] table of the configuration.
    """
    from matchbox.tools import define

    define.add_market(
        exchange,
        {
            "symbol": symbol,
            "base": base,
            "quote": quote,
            "tick_size": tick,
            "lot_size": lot,
            "id": number,
            "price_step": price_step,
            "quantity_step": quantity_step,
            "max_price": max_price or None,
            "min_quantity": min_quantity or None,
            "max_quantity": max_quantity or None,
            "max_orders": max_orders,
            "max_specials": max_specials,
            "matcher": matcher,
        },
        as_json=as_json,
    )


def remove_market(
    exchange: str = _EXCHANGE,
    symbol: str = typer.Argument(..., metavar="SYMBOL", help="Of the market."),
    as_json: bool = _JSON,
) -> None:
    """Remove a market of which no order is open; its number and symbol can be given again."""
    from matchbox.tools import define

    define.remove("market", exchange, symbol, as_json=as_json)


def set_market(
    exchange: str = _EXCHANGE,
    symbol: str = typer.Argument(..., metavar="SYMBOL", help="Of the market."),
    state: str = typer.Option("", metavar="STATE", help="open, post-only, cancel-only or halted."),
    min_notional: str = typer.Option(
        "", metavar="AMOUNT", help="Least price times quantity, of the quote asset; 0: none."
    ),
    reference_price: str = typer.Option(
        "", metavar="PRICE", help="Counts as the last price until the next trade."
    ),
    band_up: int | None = typer.Option(
        None, metavar="BIPS", help="How far above the last price; 0: no band. With --band-down."
    ),
    band_down: int | None = typer.Option(None, metavar="BIPS", help="Likewise below it."),
    protection: int | None = typer.Option(
        None, metavar="BIPS", help="How far from the last price a market order may trade."
    ),
    account_orders: int | None = typer.Option(
        None, metavar="COUNT", help="Open orders of one account; 0: no limit."
    ),
    cancel_orders: bool = typer.Option(
        False, "--cancel-orders", help="Kill switch: cancel all of its orders."
    ),
    note: str = _NOTE,
    as_json: bool = _JSON,
) -> None:
    """Set rules of a market; what is left out stays. A bips is 1/10,000."""
    from matchbox.shm import commands
    from matchbox.tools import operate

    operate.show_done(
        exchange,
        lambda known, accounts: commands.set_market(
            known.market(symbol),
            state=operate.choice(state),
            min_notional=min_notional or None,
            min_notional_units=None,
            reference_price=reference_price or None,
            reference_ticks=None,
            band_up_bips=band_up,
            band_down_bips=band_down,
            protection_bips=protection,
            account_orders=account_orders,
            cancel_orders=cancel_orders,
            note=note,
        ),
        f"Market {symbol} is set.",
        as_json=as_json,
    )


def set_fees(
    exchange: str = _EXCHANGE,
    tier: int = _TIER,
    maker: int = typer.Option(
        ..., metavar="PPM", help="Of what is received, in millionths; below 0: a rebate."
    ),
    taker: int = typer.Option(..., metavar="PPM", help="Likewise; 0 to 30,000."),
    market: str = typer.Option(
        "", metavar="SYMBOL", help="Of this market; left out: of all that have none of their own."
    ),
    note: str = _NOTE,
    as_json: bool = _JSON,
) -> None:
    """Set the maker and the taker rate of a tier, for orders from now on."""
    from matchbox.shm import commands
    from matchbox.tools import operate

    operate.show_done(
        exchange,
        lambda known, accounts: commands.set_fees(
            known.market(market) if market else None, tier, maker, taker, note
        ),
        f"Rates of tier {tier} are set{f' in {market}' if market else ''}.",
        as_json=as_json,
    )


def set_tier(
    exchange: str = _EXCHANGE,
    tier: int = _TIER,
    volume: int = typer.Argument(..., metavar="VOLUME", help="Of 30 days, in whole assets."),
    asset: str = typer.Argument(..., metavar="ASSET", help="In which volume is counted."),
    note: str = _NOTE,
    as_json: bool = _JSON,
) -> None:
    """Set the volume from which a tier applies to accounts that are by volume; 0: it does not."""
    from matchbox.shm import commands
    from matchbox.tools import operate

    operate.show_done(
        exchange,
        lambda known, accounts: commands.set_tier(tier, volume, known.asset(asset), note),
        f"Tier {tier} begins at {volume:,} {asset}.",
        as_json=as_json,
    )

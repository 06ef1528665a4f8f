"""`matchbox asset`: what is owned."""

import typer

_EXCHANGE = typer.Argument(
    ..., metavar="EXCHANGE", help="An instance's name, its data folder or configuration."
)
_NAME = typer.Argument(..., metavar="NAME", help="Such as BTC.")
_JSON = typer.Option(False, "--json", help="One JSON object.")


def register(app: typer.Typer) -> None:
    asset = typer.Typer(help="Assets: what is owned, and how much of it.", no_args_is_help=True)
    for name, action in (("list", list_assets), ("add", add_asset), ("remove", remove_asset)):
        asset.command(name)(action)
    app.add_typer(asset, name="asset")


def list_assets(exchange: str = _EXCHANGE, as_json: bool = _JSON) -> None:
    """List the assets, and how much of each all accounts have together."""
    from matchbox.tools import operate

    operate.show_assets(exchange, as_json=as_json)


def add_asset(
    exchange: str = _EXCHANGE,
    name: str = _NAME,
    scale: int = typer.Option(..., metavar="DIGITS", help="One whole is 10^DIGITS units; 0 to 18."),
    number: int | None = typer.Option(
        None, "--id", metavar="NUMBER", help="Its number; left out: one that was never given."
    ),
    as_json: bool = _JSON,
) -> None:
    """Add an asset to the running exchange."""
    from matchbox.tools import define

    define.add_asset(exchange, name, scale, number, as_json=as_json)


def remove_asset(exchange: str = _EXCHANGE, name: str = _NAME, as_json: bool = _JSON) -> None:
    """Remove an asset that nobody has any of and that no market trades."""
    from matchbox.tools import define

    define.remove("asset", exchange, name, as_json=as_json)

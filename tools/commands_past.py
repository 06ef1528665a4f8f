"""`matchbox at`: what was."""

from pathlib import Path

import typer

_MOMENT = (
    "A sequence number, `last`, or a time: ISO 8601 in UTC, or seconds, milliseconds or "
    "nanoseconds since 1970."
)
_DATA = typer.Option(
    "",
    "--data",
    metavar="DATA",
    help="An instance's name, data folder or configuration, or a backup; may be left out where "
    "there is one instance.",
)
_CONFIG = typer.Option(
    None,
    "--config",
    metavar="FILE",
    show_default=False,
    help="The configuration, if it is not where it was.",
)


def register(app: typer.Typer) -> None:
    app.command()(at)


def at(
    moment: str = typer.Argument(..., metavar="SEQUENCE|TIME", help=_MOMENT),
    what: str = typer.Argument(
        ...,
        metavar="WHAT",
        help="book SYMBOL, balances [ACCOUNT], orders [ACCOUNT], markets, hash.",
    ),
    of: str = typer.Argument("", metavar="[SYMBOL|ACCOUNT]", show_default=False),
    data: str = _DATA,
    levels: int = typer.Option(10, "--levels", "-n", metavar="COUNT", help="Of a side of a book."),
    market: str = typer.Option("", metavar="SYMBOL", help="Of orders: only of this market."),
    config: Path | None = _CONFIG,
    as_json: bool = typer.Option(False, "--json", help="One JSON object."),
) -> None:
    """Show the state after any log record that there is, or at any time.

    The newest snapshot before it is loaded and the journal replayed up to it, in this process: the
    exchange may run, and notices nothing, or be stopped, or dead.
    """
    from matchbox.tools import pastview

    pastview.show(
        moment,
        what,
        of,
        place=data,
        config=config,
        levels=levels,
        market=market,
        as_json=as_json,
    )

"""`matchbox at`, `replay-log`: what was."""

from pathlib import Path

import typer

_MOMENT = (
    "A sequence number, `last`, or a time: ISO 8601 in UTC, or seconds, milliseconds or "
    "nanoseconds since 1970."
)
_PLACE = "An instance's name, data folder or configuration, or a backup."
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
    app.command("replay-log")(replay_log)


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


_BROKEN = 3


def replay_log(
    data: str = typer.Argument(..., metavar="DATA", help=_PLACE),
    since: str = typer.Option(
        "", "--from", metavar="SEQUENCE|TIME", help="The first record; the first there is."
    ),
    until: str = typer.Option(
        "", "--until", metavar="SEQUENCE|TIME", help="The last record; the last there is."
    ),
    expression: str = typer.Option(
        "",
        "--break",
        metavar="EXPRESSION",
        help="Stop at the first record or event of which this is true, such as "
        "\"kind == 'trade' and market == 'BTC/USD' and price < 100\".",
    ),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="Print only what stops it."),
    config: Path | None = _CONFIG,
    as_json: bool = typer.Option(False, "--json", help="One JSON object a line."),
) -> None:
    """Replay a part of a log; print its records, and under each the events that it caused.

    Where --break stops it, the book, balances and orders that are concerned are shown, and how to
    go on. Exit status 3 if it was stopped, 0 if it came to the end.
    """
    from matchbox.shm.errors import BadArgument
    from matchbox.tools import replaylog

    if quiet and not expression:
        raise BadArgument("--quiet goes with --break")
    broken = replaylog.run(
        data,
        since=since,
        until=until,
        expression=expression,
        quiet=quiet,
        config=config,
        as_json=as_json,
    )
    if broken:
        raise typer.Exit(_BROKEN)

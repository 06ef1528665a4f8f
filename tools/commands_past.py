"""`matchbox at`, `replay-log`, `capture`, `reproduce`: what was."""

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
    app.command()(capture)
    app.command()(reproduce)


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


def capture(
    moment: str = typer.Argument(..., metavar="SEQUENCE|TIME", help=_MOMENT),
    count: int = typer.Option(
        0, "--count", min=0, metavar="COUNT", help="So many records after it, too."
    ),
    out: Path | None = typer.Option(
        None,
        "--out",
        "-o",
        metavar="FILE",
        show_default=False,
        help="A new file; capture-SEQUENCE.zip here if left out.",
    ),
    alarm: str = typer.Option(
        "",
        "--alarm",
        metavar="REASON",
        help="As the exchange does it by itself: into its folder `captures`, in the background.",
    ),
    data: str = _DATA,
    config: Path | None = _CONFIG,
) -> None:
    """Write all that is needed to replay what led to a moment into one file.

    That is the snapshot before it, the records from there on, the sizes of the engine, and state
    hashes on the way. `matchbox reproduce` replays it, on another host or by another version.
    """
    import os

    from rich.console import Console

    from matchbox.shm.errors import BadArgument
    from matchbox.tools import alarms, past
    from matchbox.tools import capture as captures
    from matchbox.tools.verify import find_config

    if alarm and out:
        raise BadArgument("--alarm says where it is written: not with --out")
    journal = past.find_place(data)
    settings = find_config(journal.parent, config)
    with Console(stderr=True).status("Writing the capture") as status:

        def progress(last: int) -> None:
            status.update(f"Record {last:,}")

        if alarm:
            os.nice(19)
            print(
                alarms.make(journal, moment, alarm, config=settings, count=count, progress=progress)
            )
            return
        print(captures.write(journal, moment, out, config=settings, count=count, progress=progress))


def reproduce(
    file: Path = typer.Argument(..., metavar="FILE", help="What `matchbox capture` has written."),
    as_json: bool = typer.Option(False, "--json", help="One JSON object."),
) -> None:
    """Replay a capture, and compare the state hashes with those in it.

    Exit status 1 if the state is another one somewhere: it says where first.
    """
    import json

    from rich.console import Console

    from matchbox.tools import reproduce as reproducing

    with Console(stderr=True).status("Replaying the capture") as status:
        found = reproducing.reproduce(file, progress=lambda last: status.update(f"Record {last:,}"))
    if as_json:
        print(json.dumps(reproducing.as_dict(found)))
    else:
        print("\n".join(reproducing.lines(found)))
    if found.differences:
        raise typer.Exit(1)

"""`matchbox log`, `matchbox journal`: the records of a journal, and its files."""

import sys
from pathlib import Path

import typer

from matchbox.shm.errors import BadArgument


def register(app: typer.Typer) -> None:
    journal = typer.Typer(help="The files of a journal.", no_args_is_help=True)
    journal.callback()(_journal)
    journal.command()(prune)
    app.add_typer(journal, name="journal")

    @app.command()
    def log(
        place: str = typer.Argument(
            ...,
            metavar="PLACE",
            help="An instance's name, data folder or configuration, or a journal's folder.",
        ),
        first: int = typer.Option(1, "--from", min=1, metavar="SEQUENCE", help="First to show."),
        last: int = typer.Option(
            0, "--to", metavar="SEQUENCE", show_default=False, help="Last to show."
        ),
        tail: int = typer.Option(
            0,
            "--tail",
            "-n",
            metavar="COUNT",
            show_default=False,
            help="Begin so many records before the end.",
        ),
        since: str = typer.Option("", metavar="TIME", help="ISO 8601, UTC; or nanoseconds."),
        until: str = typer.Option("", metavar="TIME", help="Likewise; this time included."),
        kind: list[str] = typer.Option([], metavar="KIND", help="Such as new-order; repeatable."),
        market: list[str] = typer.Option(
            [], metavar="MARKET", help="Symbol or number; repeatable."
        ),
        account: list[str] = typer.Option(
            [], metavar="ACCOUNT", help="Name or number; repeatable."
        ),
        session: list[int] = typer.Option([], metavar="NUMBER", help="Repeatable."),
        refused: bool = typer.Option(False, "--refused", help="Only records that were refused."),
        as_json: bool = typer.Option(False, "--json", help="One JSON object a line."),
        follow: bool = typer.Option(False, "--follow", "-f", help="Wait for more; Ctrl-C ends."),
    ) -> None:
        """Print the records of a journal, one a line; also while it is written.

        Filters of several sorts must all hold.
        """
        from matchbox.persistence.journal import Reader
        from matchbox.tools import logview, recordview

        if tail < 0 or last < 0:
            raise BadArgument(f"--tail and --to must be above 0: tail={tail}, to={last}")
        if tail and first != 1:
            raise BadArgument("--tail and --from both say where to begin")
        with Reader(logview.find_journal(place)) as reader:
            known = logview.read_names(reader) if market or account else recordview.Names()
            view = logview.View(
                first=logview.last_records(reader, tail) if tail else first,
                last=last or logview.END,
                since_ns=logview.parse_time(since) if since else 0,
                until_ns=logview.parse_time(until) if until else logview.END,
                kinds=tuple(map(logview.parse_kind, kind)),
                markets=tuple(map(known.market, market)),
                accounts=tuple(map(known.account, account)),
                sessions=tuple(session),
                refused=refused,
            )
            names = logview.names_before(reader)
            write = recordview.json_line if as_json else recordview.line
            wait = logview.wait_for_more if follow else lambda: False
            for records in logview.read(reader, view, names, follow=wait):
                sys.stdout.writelines(f"{write(record, names)}\n" for record in records)
                sys.stdout.flush()


def _journal() -> None:
    """The files of a journal."""


def prune(
    data: str = typer.Argument(
        ..., metavar="DATA", help="An instance's name, data folder or configuration."
    ),
    before: str = typer.Option(
        "", metavar="SEQUENCE|TIME", help="Only what is before this record or time."
    ),
    keep_days: int | None = typer.Option(
        None,
        "--keep-days",
        min=0,
        metavar="COUNT",
        show_default=False,
        help="Keep today (UTC) and so many days before.",
    ),
    move_to: Path | None = typer.Option(
        None,
        "--move-to",
        metavar="FOLDER",
        show_default=False,
        help="Copy the files there, read them back, and then remove them here.",
    ),
    dry_run: bool = typer.Option(False, "--dry-run", help="Only say what would be done."),
    config: Path | None = typer.Option(
        None,
        "--config",
        metavar="FILE",
        show_default=False,
        help="The configuration, if it is not where it was.",
    ),
    as_json: bool = typer.Option(False, "--json", help="One JSON object."),
) -> None:
    """Remove the oldest files of a journal, as far as nobody needs them; also while it is written.

    What stays can be replayed from a snapshot that is made first, and kept. What is removed cannot:
    no state and no views of that time, and no audit of the whole log.
    """
    import json

    from rich.console import Console

    from matchbox.tools import pruning

    with Console(stderr=True).status("Pruning") as status:
        found = pruning.prune(
            data,
            before=before,
            keep_days=keep_days,
            move_to=move_to,
            dry_run=dry_run,
            config=config,
            progress=lambda last: status.update(f"Record {last:,}"),
        )
    print(json.dumps(pruning.as_dict(found)) if as_json else "\n".join(pruning.lines(found)))

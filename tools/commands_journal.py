"""`matchbox log`: print the records of a journal."""

import sys

import typer

from matchbox.shm.errors import BadArgument


def register(app: typer.Typer) -> None:
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
            names = recordview.Names()
            write = recordview.json_line if as_json else recordview.line
            wait = logview.wait_for_more if follow else lambda: False
            for records in logview.read(reader, view, names, follow=wait):
                sys.stdout.writelines(f"{write(record, names)}\n" for record in records)
                sys.stdout.flush()

"""`matchbox archive`: the views by day; `matchbox pull`: read a stream."""

from pathlib import Path

import typer

_PLACE = "An instance's name, data folder or configuration."


def register(app: typer.Typer) -> None:
    group = typer.Typer(
        help="The views: orders, reports, trades, balances and movements of money, by day.",
        no_args_is_help=True,
    )
    app.add_typer(group, name="archive")

    @group.command("list")
    def show(
        data: str = typer.Argument(..., metavar="DATA", help=_PLACE),
        consumers: bool = typer.Option(
            False, "--consumers", help="Consumers, and where they are, instead of days."
        ),
        as_json: bool = typer.Option(False, "--json", help="One JSON object a line."),
    ) -> None:
        """List the days that there are views of, with their log records."""
        from matchbox.tools import archive_admin

        rows = archive_admin.consumers(data) if consumers else archive_admin.listed(data)
        for row in rows:
            if as_json:
                print(archive_admin.json_line(row))
            elif consumers:
                print(archive_admin.consumer_line(row))
            else:
                print(archive_admin.line(row))

    @group.command()
    def export(
        data: str = typer.Argument(..., metavar="DATA", help=_PLACE),
        day: str = typer.Argument(..., metavar="DAY", help="Such as 2026-11-25 (UTC)."),
        target: Path = typer.Option(..., "--to", metavar="FOLDER", help="Where the files go."),
        table: list[str] = typer.Option(
            [],
            "--table",
            metavar="TABLE",
            help="reports, trades, orders, balances or movements; repeatable; all if left out.",
        ),
    ) -> None:
        """Write a day's tables as compressed CSV files."""
        from matchbox.tools import archive_admin

        for path, rows in archive_admin.export(data, day, target, tuple(table)):
            print(f"{path}: {rows:,} rows")

    @group.command()
    def drop(
        data: str = typer.Argument(..., metavar="DATA", help=_PLACE),
        before: str = typer.Option(..., "--before", metavar="DAY", help="The first day to keep."),
    ) -> None:
        """Remove the views of old days; the journal stays.

        Open orders and balances go on in the days that stay. `archive.keep_days` in the
        configuration does this by itself.
        """
        from matchbox.tools import archive_admin

        gone = archive_admin.drop(archive_admin.find_views(data), before)
        print(f"Removed: {', '.join(gone)}." if gone else "Nothing to remove.")

    @app.command()
    def pull(
        data: str = typer.Argument(..., metavar="DATA", help=_PLACE),
        stream: str = typer.Option("reports", metavar="STREAM", help="reports, trades or log."),
        account: str = typer.Option("", metavar="NAME", help="Whose reports."),
        market: str = typer.Option("", metavar="SYMBOL", help="Whose trades."),
        after: str = typer.Option(
            "",
            metavar="POSITION",
            help="SEQUENCE or SEQUENCE-PART; left out: where the consumer is, else the oldest.",
        ),
        consumer: str = typer.Option(
            "", metavar="NAME", help="Keep the position that was reached under this name."
        ),
        count: int = typer.Option(
            0, "--count", "-n", min=0, metavar="COUNT", help="At most so many rows; 0: all."
        ),
        follow: bool = typer.Option(False, "--follow", "-f", help="Wait for more; Ctrl-C ends."),
        as_json: bool = typer.Option(False, "--json", help="One JSON object a line."),
    ) -> None:
        """Print what an account was told, a market's trades, or the log, from any position on.

        Only what is on the disk, in order, each row once.
        """
        from matchbox.tools import pulling

        pulling.show(
            data,
            stream,
            account=account,
            market=market,
            after=after,
            consumer=consumer,
            count=count,
            follow=follow,
            as_json=as_json,
        )

"""`matchbox verify`, `backup`, `restore`."""

from pathlib import Path

import typer

_PLACE = "An instance's name, data folder or configuration, or a backup."


def register(app: typer.Typer) -> None:
    @app.command()
    def verify(
        data: str = typer.Argument(..., metavar="DATA", help=_PLACE),
        config: Path | None = typer.Option(
            None,
            "--config",
            metavar="FILE",
            show_default=False,
            help="The configuration, if it is not where it was.",
        ),
        views: bool = typer.Option(
            False, "--views", help="Make the views once more, too, and compare every row."
        ),
        as_json: bool = typer.Option(False, "--json", help="One JSON object."),
    ) -> None:
        """Read all of a journal again, check it, and replay it; print the state hashes.

        Works on a running exchange, too: it reads what is on the disk. Exit status 1 if a byte of
        it is not as it was written, if the engine decides otherwise, or if it comes to another
        state than the one that the exchange stopped with.
        """
        import json

        from rich.console import Console

        from matchbox.tools import verify

        with Console(stderr=True).status("Reading the journal") as status:
            outcome = verify.verify(
                data,
                config=config,
                views=views,
                progress=lambda last: status.update(f"Record {last:,}"),
            )
        if as_json:
            print(json.dumps(verify.as_dict(outcome)))
        else:
            print("\n".join(verify.lines(outcome)))
        if outcome.wrong_at:
            typer.echo(verify.capture(outcome, config), err=True)
        if outcome.differences:
            raise typer.Exit(1)

    @app.command()
    def backup(
        data: str = typer.Argument(..., metavar="DATA", help=_PLACE),
        target: Path = typer.Argument(..., metavar="TARGET", help="A new folder, or a backup."),
    ) -> None:
        """Copy a journal, also while it is written; the next time, only what is new.

        What was copied is read back and checked. Broken off, it goes on when it is called again.
        """
        from rich.console import Console

        from matchbox.tools import verify

        with Console(stderr=True).status("Copying") as status:
            copied = verify.back_up(
                data, target, progress=lambda last: status.update(f"Record {last:,}")
            )
        print(
            f"{target} has the records up to {copied.last:,}, {copied.last + 1 - copied.first:,} "
            f"of them new; chain {copied.hash.hex()[:16]}."
        )

    @app.command()
    def restore(
        source: str = typer.Argument(..., metavar="BACKUP", help="A backup, or a data folder."),
        data: Path = typer.Argument(..., metavar="NEWDATA", help="The new data folder."),
        until: int = typer.Option(
            0,
            "--until",
            min=0,
            metavar="SEQUENCE",
            show_default=False,
            help="The last record to keep; all that are there if left out.",
        ),
    ) -> None:
        """Make a new data folder of a backup, or of what is whole of another data folder."""
        from rich.console import Console

        from matchbox.tools import verify

        with Console(stderr=True).status("Copying") as status:
            copied = verify.restore(
                source,
                data,
                until=until,
                progress=lambda last: status.update(f"Record {last:,}"),
            )
        print(
            f"{data} has the records up to {copied.last:,}; chain {copied.hash.hex()[:16]}. "
            f"Start it with: matchbox up CONFIG --data {data}"
        )

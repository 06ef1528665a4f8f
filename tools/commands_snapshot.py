"""`matchbox snapshot`: make snapshots, and list them."""

from pathlib import Path

import typer

_PLACE = "An instance's name, data folder or configuration."


def register(app: typer.Typer) -> None:
    group = typer.Typer(
        help="Snapshots: the state of the exchange, from which it starts faster.",
        no_args_is_help=True,
    )
    app.add_typer(group, name="snapshot")

    @group.command()
    def take(
        data: str = typer.Argument(..., metavar="DATA", help=_PLACE),
        config: Path | None = typer.Option(
            None,
            "--config",
            metavar="FILE",
            show_default=False,
            help="The configuration, if it is not where it was.",
        ),
        keep: int | None = typer.Option(
            None,
            "--keep",
            min=0,
            metavar="COUNT",
            show_default=False,
            help="How many of the newest to keep, instead of the configured number; 0: all.",
        ),
    ) -> None:
        """Have the standby of a running exchange take one; else replay the journal from the newest
        snapshot on, and make one of its last record.

        With --config or --keep, the latter also beside a running exchange: it reads what is on the
        disk, and does the replaying itself.
        """
        from rich.console import Console

        from matchbox.tools import snapshots

        if config is None and keep is None:
            path = snapshots.by_standby(data)
            if path is not None:
                print(f"The standby has taken {path}.")
                return
        with Console(stderr=True).status("Replaying the journal") as status:
            taken = snapshots.take(
                data,
                config=config,
                keep=keep,
                progress=lambda last: status.update(f"Record {last:,}"),
            )
        print(taken)

    @group.command("list")
    def show(
        data: str = typer.Argument(..., metavar="DATA", help=_PLACE),
        as_json: bool = typer.Option(False, "--json", help="One JSON object a line."),
    ) -> None:
        """List the snapshots, newest first, each read and checked.

        Exit status 1 if one of them cannot be used.
        """
        import json

        from matchbox.tools import snapshots

        rows = snapshots.listed(data)
        for row in rows:
            print(json.dumps(row) if as_json else snapshots.line(row))
        if any(row["problem"] for row in rows):
            raise typer.Exit(1)

"""`matchbox reconcile`: recompute everything from the journal."""

import typer


def register(app: typer.Typer) -> None:
    @app.command()
    def reconcile(
        exchange: str = typer.Argument(
            ...,
            metavar="EXCHANGE",
            help="An instance's name, its data folder, or a journal's folder.",
        ),
        as_json: bool = typer.Option(
            False, "--json", help="One JSON object; amounts are integers, in units of the asset."
        ),
    ) -> None:
        """Recompute an exchange from its journal, by the trading rules alone, and add its money up.

        Works on a running exchange, too: it reads what is on the disk. Exit status 1 if any asset
        does not add up, or if a record says something else than the rules.
        """
        import json
        import sys

        from rich.console import Console

        from matchbox.tools import reconcile

        errors = Console(stderr=True)
        with errors.status("Reading the journal") as status:
            outcome = reconcile.recompute(
                exchange, progress=lambda records: status.update(f"Record {records:,}")
            )
        if as_json:
            print(json.dumps(reconcile.as_dict(outcome)))
        else:
            # As wide as it has to be, wherever it goes: nothing is cut.
            console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 200)
            console.print(reconcile.table(outcome))
            for line in reconcile.lines(outcome):
                print(line)
        if not outcome.good:
            raise typer.Exit(1)

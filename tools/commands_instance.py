"""`matchbox up`, `down`, `promote`, `status`, `ring`: running an exchange, and looking at it."""

from pathlib import Path

import typer


def register(app: typer.Typer) -> None:
    @app.command()
    def up(
        config: Path = typer.Argument(..., metavar="CONFIG", help="The configuration file (TOML)."),
        data: Path | None = typer.Option(
            None,
            metavar="FOLDER",
            help="Where to keep the journal, instead of the configured place.",
        ),
        topology: str = typer.Option(
            "", metavar="NAME", help="compact or wide, instead of the configured processes."
        ),
        detach: bool = typer.Option(
            False, "--detach", "-d", help="Return once it runs; it goes on by itself."
        ),
    ) -> None:
        """Start an exchange; Ctrl-C (or `matchbox down`) stops it."""
        from matchbox.tools import run

        raise typer.Exit(run.up(config, data, topology, detach))

    @app.command()
    def down(
        exchange: str = typer.Argument(
            ..., metavar="EXCHANGE", help="An instance's name, its data folder or configuration."
        ),
        timeout: float = typer.Option(
            90.0, metavar="SECONDS", help="How long to wait for its end."
        ),
    ) -> None:
        """Stop an exchange in order."""
        from matchbox.tools import run

        raise typer.Exit(run.down(exchange, timeout))

    @app.command()
    def promote(
        exchange: str = typer.Argument(
            ..., metavar="EXCHANGE", help="An instance's name, its data folder or configuration."
        ),
    ) -> None:
        """Have the standby take over from an engine that is well; sessions go on."""
        from matchbox.tools import run

        raise typer.Exit(run.promote(exchange))

    @app.command()
    def status(
        exchange: str = typer.Argument(
            ..., metavar="EXCHANGE", help="An instance's name, its data folder or configuration."
        ),
        watch: bool = typer.Option(False, "--watch", "-w", help="Refresh until Ctrl-C."),
        interval: float = typer.Option(1.0, metavar="SECONDS", help="How often, with --watch."),
        as_json: bool = typer.Option(False, "--json", help="As one JSON object."),
    ) -> None:
        """Show agents, processes, cores, rings with depth, rates. Exit status 1 if none runs."""
        from matchbox.tools import status as view

        raise typer.Exit(view.run(exchange, watch=watch, interval=interval, as_json=as_json))

    @app.command()
    def ring(
        segment: str = typer.Argument(
            ...,
            metavar="RING",
            help="A segment's name in /dev/shm, a file, or /proc/PID/fd/N of a session.",
        ),
        first: int | None = typer.Option(None, "--from", metavar="POSITION", help="First record."),
        count: int = typer.Option(0, "--count", "-n", metavar="COUNT", help="How many records."),
        as_json: bool = typer.Option(False, "--json", help="One JSON object a line."),
    ) -> None:
        """Inspect a live or dead ring: its header, positions, and records as they are in memory."""
        from matchbox.tools import ringview

        raise typer.Exit(ringview.run(segment, first, count, as_json=as_json))

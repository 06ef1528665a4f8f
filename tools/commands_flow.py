"""`matchbox replay`: play a recorded flow and compare its fills."""

import time
from pathlib import Path

import typer

from matchbox.shm.errors import BadArgument


def register(app: typer.Typer) -> None:
    @app.command()
    def replay(
        path: Path = typer.Argument(
            ...,
            metavar="PATH",
            help="NAME.ops.csv.gz, or NAME; `demo`: the flow that Matchbox ships.",
        ),
        in_process: bool = typer.Option(
            False, "--in-process", help="Match in this process, without an exchange."
        ),
        attach: str = typer.Option(
            "", metavar="INSTANCE", help="Use a running exchange, not one for this replay."
        ),
        market: str = typer.Option(
            "", metavar="SYMBOL", help="With --attach: the symbol of the market to use."
        ),
        topology: str = typer.Option(
            "compact", metavar="NAME", help="Of the exchange that is started."
        ),
        speed: float | None = typer.Option(
            None, metavar="TIMES", help="So many times real time; left out: as fast as possible."
        ),
    ) -> None:
        """Play a recorded order flow through an exchange, and compare the fills that come out.

        Exit status 1 at the first difference, which is shown in full.
        """
        if in_process and (attach or market):
            raise BadArgument("--in-process uses no exchange: leave --attach and --market out")
        if speed is not None and speed <= 0:
            raise BadArgument(f"--speed must be above 0: speed={speed}")
        if not run(path, in_process, attach, market, topology, speed):
            raise typer.Exit(1)


def run(
    path: Path, in_process: bool, attach: str, market: str, topology: str, speed: float | None
) -> bool:
    """Play the flow, say how it went; whether its fills were as expected."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from matchbox.tools import flows, replay

    flow = flows.load(flows.DEMO if str(path) == "demo" else path)
    if not in_process:
        raise BadArgument("only --in-process works in this version")
    target = replay.InProcess(flow)
    columns = (TextColumn(flow.name), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    began = time.monotonic()
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("", total=len(flow.ops))
        outcome = replay.play(
            flow, target, speed=speed, progress=lambda rows: bar.update(task, completed=rows)
        )
    seconds = time.monotonic() - began
    print(
        f"{flow.name}: {len(flow.ops):,} commands in {seconds:.3f} s "
        f"({len(flow.ops) / seconds:,.0f}/s), {len(outcome.fills):,} fills"
    )
    difference = replay.compare(flow, outcome)
    if difference is not None:
        print(difference.text)
        return False
    if flow.fills is None:
        print("There is no file of expected fills to compare with.")
    else:
        print(f"All {len(flow.fills):,} fills are as expected.")
    return True

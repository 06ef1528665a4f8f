"""`matchbox replay`: play a recorded flow and compare its fills."""

import contextlib
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from matchbox.shm.errors import BadArgument, MatchboxError

if TYPE_CHECKING:
    from matchbox.tools.flows import Flow
    from matchbox.tools.replay import Target


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
            "",
            metavar="PLACE",
            help="Use a running exchange: its name, data folder or configuration.",
        ),
        account: str = typer.Option(
            "", metavar="NAME", help="With --attach: the account to trade for."
        ),
        market: str = typer.Option(
            "", metavar="SYMBOL", help="With --attach: the market, which must be empty."
        ),
        topology: str = typer.Option(
            "compact", metavar="NAME", help="Of the exchange that is started for the replay."
        ),
        speed: float | None = typer.Option(
            None, metavar="TIMES", help="So many times real time; left out: as fast as possible."
        ),
    ) -> None:
        """Play a recorded order flow through an exchange, and compare the fills that come out.

        Starts an exchange for it, or uses a running one, or none. Exit status 1 at the first
        difference, which is shown in full.
        """
        from matchbox.tools import flows

        if in_process and attach:
            raise BadArgument("--in-process uses no exchange: leave --attach out")
        if (account or market) and not attach:
            raise BadArgument("--account and --market go with --attach")
        if attach and not account:
            raise BadArgument("--attach needs --account: which account is to trade?")
        if speed is not None and not 0 < speed < math.inf:
            raise BadArgument(f"--speed must be above 0, and a number: speed={speed}")
        flow = flows.load(flows.DEMO if str(path) == "demo" else path)
        if in_process:
            good = run_in_process(flow, speed)
        elif attach:
            good = run_attached(flow, speed, attach, account, market)
        else:
            good = run_alone(flow, speed, topology)
        if not good:
            raise typer.Exit(1)


def run_in_process(flow: "Flow", speed: float | None) -> bool:
    from matchbox.tools.replay import InProcess

    return run(flow, InProcess(flow), 1, speed)


def run_alone(flow: "Flow", speed: float | None, topology: str) -> bool:
    """On an exchange of its own."""
    from matchbox.tools import replay_live

    print(f"Starting an exchange for {flow.name}, topology {topology}", flush=True)
    with (
        replay_live.exchange(flow, topology) as place,
        replay_live.attached(place, account=replay_live.ACCOUNT) as (session, market),
    ):
        return run(flow, replay_live.Live(flow, session), market.number, speed)


def run_attached(flow: "Flow", speed: float | None, place: str, account: str, symbol: str) -> bool:
    """On a running exchange; leaves its market empty again."""
    from matchbox.tools import replay_live
    from matchbox.tools.run import find_data

    with replay_live.attached(find_data(place), account=account, symbol=symbol) as (
        session,
        market,
    ):
        live = replay_live.Live(flow, session)
        try:
            return run(flow, live, market.number, speed)
        finally:
            # Also after Ctrl-C. If the exchange is gone there is nothing to clean.
            with contextlib.suppress(MatchboxError):
                print(f"Cancelled {live.clean():,} orders that the flow had left.")


def run(flow: "Flow", target: "Target", market: int, speed: float | None) -> bool:
    """Play the flow, say how it went; whether its fills were as expected."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from matchbox.tools import replay

    console = Console(stderr=True)
    columns = (TextColumn(flow.name), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    began = time.monotonic()
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("", total=len(flow.ops))
        outcome = replay.play(
            flow,
            target,
            market=market,
            speed=speed,
            progress=lambda rows: bar.update(task, completed=rows),
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

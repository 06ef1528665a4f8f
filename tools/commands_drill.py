"""`matchbox drill`: break an exchange under load, and prove that nothing was lost."""

import typer

NAMES = (
    "failover",
    "kill",
    "powercut",
    "disk-full",
    "slow-disk",
    "hostile-bot",
    "standby-lag",
    "hang",
    "poison",
    "poison-sequencer",
    "poison-publisher",
    "poison-hang",
    "promote",
    "everything",
    "twice",
    "random",
)
# Those after which an operator has to start the exchange again.
_ONLY_OURS = (
    *("powercut", "disk-full", "everything", "twice"),
    *("poison", "poison-sequencer", "poison-publisher", "poison-hang"),
)
# Where one process dies in a throw-away exchange.
_POINTS = (
    "journal.written",
    "journal.flushed",
    "snapshot.written",
    "takeover.fenced",
    "takeover.drained",
    "takeover.adopted",
    "recovery.replayed",
    "archive.replayed",
)
_LISTED = ", ".join((*NAMES, *_POINTS))


def register(app: typer.Typer) -> None:
    @app.command()
    def drill(
        names: list[str] = typer.Argument(..., metavar="DRILL...", help=_LISTED),
        data: str = typer.Option(
            "",
            "--on",
            metavar="DATA",
            help="An exchange that runs; left out: one that is made for this.",
        ),
        account: list[str] = typer.Option(
            [], metavar="NAME", help="With --on: who trades; repeatable, two at least."
        ),
        market: str = typer.Option("", metavar="SYMBOL", help="With --on: what is traded."),
        count: int = typer.Option(0, "--count", "-n", min=0, help="Faults; 0: each once."),
        kills: int = typer.Option(0, min=0, help="More faults, until so many were killed."),
        rate: float = typer.Option(20_000, min=1, help="Commands per second, of all clients."),
        sessions: int = typer.Option(2, min=1, max=8, help="Clients."),
        assurance: str = typer.Option("matched", help="matched, replicated or durable."),
        topology: str = typer.Option("compact", help="compact or wide."),
        seed: int = typer.Option(1, min=0, help="Repeats the choices of a random drill."),
        as_json: bool = typer.Option(False, "--json", help="One JSON object."),
    ) -> None:
        """Break an exchange while clients trade on it, and print a receipt: what was killed when,
        what was acknowledged and is missing, what was done twice, how long it took.

        The clients' own records are the truth. Exit status 1 if anything was lost, repeated or
        left out.

        failover: kill the engine. kill: the journaler. hang: stop the engine, let it go after the
        takeover. promote: a planned switch. standby-lag: the standby far behind, then failover.
        slow-disk, disk-full: the journaler stalls, or may not write. hostile-bot: noise in a
        session's ring. everything: all processes at once. twice: and again in the recovery.
        powercut: their memory, too. poison: an order that kills who processes it; poison-hang: or
        has no end. journal.written and so on: a process dies at that point.
        random: any of them, so many times.
        """
        import tempfile
        from pathlib import Path

        from rich.console import Console

        from matchbox.shm.errors import BadArgument
        from matchbox.tools.drill import instance as instances
        from matchbox.tools.drill.drill import Wishes, run

        for name in names:
            if name not in (*NAMES, *_POINTS):
                raise BadArgument(f"no such drill: {name}; allowed: {_LISTED}")
            if data and name in (*_ONLY_OURS, *_POINTS):
                raise BadArgument(f"{name} needs an exchange of its own: only without --on")
        if data and (len(account) < 2 or not market):
            raise BadArgument("with --on, --market and two times --account say who trades what")
        wishes = Wishes(
            tuple(names),
            count or len(names),
            kills,
            rate,
            sessions,
            assurance,
            seed,
            accounts=tuple(account) if data else (),
            market=market or instances.MARKET,
        )
        with (
            Console(stderr=True).status(f"Drill {', '.join(names)}") as status,
            tempfile.TemporaryDirectory(prefix="matchbox-drill-") as folder,
        ):
            if data:
                found = run(instances.running(data), wishes, Path(folder), status.update)
            else:
                # A ring that a standby soon falls behind.
                slots = 1 << 14 if "standby-lag" in names else 1 << 18
                with instances.throw_away(sessions, topology=topology, log_slots=slots) as exchange:
                    found = run(exchange, wishes, Path(folder), status.update)
        print(found.to_json() if as_json else found.text())
        if not found.good:
            raise typer.Exit(1)

"""An exchange that runs without a supervisor: found, so that a new one can adopt it.

The processes of an exchange outlive their supervisor. Each answers on a socket of its own, found by
its pid, and says what it runs. A standby that has just become the engine, or is about to, is waited
for; any other is ended, since it may be anywhere, and another one is started.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matchbox.core.plan import Plan, PlanMarket
from matchbox.shm.errors import MatchboxError
from matchbox.tools import folder, leftovers
from matchbox.tools.channel import close_all
from matchbox.tools.folder import read_status
from matchbox.tools.process import Host, adopt

_PROMOTION_PATIENCE_S = 60.0


@dataclass
class Running:
    """The processes of an exchange, its plan, and its markets as they are now."""

    hosts: list[Host]
    plan: Plan
    markets: list[PlanMarket]
    lives: list[int]  # descriptors, each of the exchange's life; at least one


def find(data: Path, say: Callable[[str], None]) -> Running | None:
    """What runs of the exchange of a data folder; None if it is not enough to go on with, and then
    nothing of it runs any more.
    """
    status = read_status(data)
    leftovers.kill_archiver(data)  # another one is started, and goes on where it was
    leftovers.kill_gateway(data)
    pids = [p for p in folder.living(status) if p != int(status.get("pid", 0))]
    if status.get("state") != "running" or not pids:
        return None
    engine_lives = bool(set(pids) & set(status.get("engines", [])))
    hosts: list[Host] = []
    lives: list[int] = []
    plan, markets = None, []
    for pid in pids:
        try:
            host, who, fds = _meet(pid, engine_lives)
        except MatchboxError as error:
            # It may be starting, or stopped: by itself it would go on beside others.
            say(f"A process of the exchange does not answer, and is ended: {error}")
            leftovers.kill_host(pid)
            continue
        lives += fds
        if host.agents == ["standby"]:
            host.end(kill=True)
            continue
        hosts.append(host)
        if host.runs_engine():
            plan = Plan.from_json(who["plan"])
            markets = [PlanMarket(**market) for market in who["markets"]]
    there = {agent for host in hosts for agent in host.agents}
    if plan is None or not set(plan.engine_agents) <= there:
        for host in hosts:
            host.end(kill=True)
        close_all(lives)
        return None
    return Running(hosts, plan, markets, lives)


def _meet(pid: int, engine_lives: bool) -> tuple[Host, dict[str, Any], list[int]]:
    """A process, what it says of itself, and its descriptors. Raises MatchboxError."""
    host, who, fds = adopt(pid)
    if host.agents == ["standby"] and not engine_lives:
        # It is about to be the engine, or has failed to.
        host.channel.ask("promoted", patience=_PROMOTION_PATIENCE_S, timeout=None)
        close_all(fds)
        who, fds = host.channel.ask_for_fds("who")
        host.name, host.agents = "engine", list(who["agents"])
    return host, who, fds

"""`matchbox status`: what an instance does now, seen from outside.

Everything comes from shared memory (the board, the rings' positions), from /proc, and from
instance.json; no process of the instance is asked, so that looking costs it nothing, and a dead
instance can still be looked at. Rates are the difference of two looks.
"""

import contextlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table

from matchbox.core.plan import outlives_engine
from matchbox.persistence.views import Views
from matchbox.shm import segment
from matchbox.shm.board import Board
from matchbox.shm.depth import Book, read_definition
from matchbox.shm.errors import BadArgument, MarketRemoved, SegmentError, ViewsError
from matchbox.shm.market import Market
from matchbox.shm.records import Assurance
from matchbox.shm.ring import Ring
from matchbox.tools.archiving import VIEWS
from matchbox.tools.folder import living, read_status
from matchbox.tools.run import find_data

# Between the two looks of a single status.
_MOMENT_S = 0.5
_SHORTEST_INTERVAL_S = 0.1
_LIVING = ("starting", "running", "stopping")
_COUNTERS = ("rounds", "work", "parks")
# Of a session's command ring: the bot's position in its report ring.
_BOT_READS = 1


@dataclass
class Look:
    """What was seen at one moment; lists of plain values, as they go into JSON."""

    time_ns: int
    instance: dict[str, Any]
    processes: list[dict[str, Any]] = field(default_factory=list)
    agents: list[dict[str, Any]] = field(default_factory=list)
    rings: list[dict[str, Any]] = field(default_factory=list)
    sessions: list[dict[str, Any]] = field(default_factory=list)
    markets: list[dict[str, Any]] = field(default_factory=list)

    @property
    def alive(self) -> bool:
        return self.instance["state"] in _LIVING

    def rates(self, before: "Look") -> None:
        """Add what happened per second since `before`."""
        seconds = (self.time_ns - before.time_ns) / 1e9
        for kind, key, counters in (
            ("agents", "name", _COUNTERS),
            ("rings", "name", ("produced",)),
            ("sessions", "commands_fd", ("commands", "reports")),
            ("markets", "symbol", ("trades", "updates")),
        ):
            old = {row[key]: row for row in getattr(before, kind)}
            for row in getattr(self, kind):
                for name in counters:
                    past = old.get(row[key], {}).get(name, row[name])
                    row[f"{name}_per_second"] = round((row[name] - past) / seconds, 1)
        spent = {row["pid"]: row["cpu_seconds"] for row in before.processes}
        for row in self.processes:
            past = spent.get(row["pid"])
            if row["cpu_seconds"] is not None and past is not None:
                row["cpu_percent"] = round(100 * (row["cpu_seconds"] - past) / seconds, 1)

    def to_json(self) -> str:
        return json.dumps(
            {
                **self.instance,
                "time_ns": self.time_ns,
                "processes": self.processes,
                "agents": self.agents,
                "rings": self.rings,
                "sessions": self.sessions,
                "markets": self.markets,
            }
        )


def run(exchange: str, *, watch: bool, interval: float, as_json: bool) -> int:
    """Show an instance once or, with `watch`, until Ctrl-C. Exit status 1 if it does not run."""
    if not interval >= _SHORTEST_INTERVAL_S:
        raise BadArgument(f"too often: interval={interval}, minimum={_SHORTEST_INTERVAL_S}")
    data = find_data(exchange)
    console = Console(soft_wrap=True) if not os.isatty(1) else Console()
    before = look(data)
    if not watch:
        time.sleep(_MOMENT_S if before.alive else 0)
        now = look(data)
        now.rates(before)
        if as_json:
            print(now.to_json())
        else:
            console.print(render(now))
        return 0 if now.alive else 1
    with contextlib.suppress(KeyboardInterrupt):
        if as_json:
            for now in _looks(data, before, interval):
                print(now.to_json(), flush=True)
                before = now
        else:
            with Live(console=console, auto_refresh=False, screen=console.is_terminal) as live:
                for now in _looks(data, before, interval):
                    live.update(render(now), refresh=True)
                    before = now
            if not before.alive:
                console.print(render(before))
    return 0 if before.alive else 1


def _looks(data: Path, before: Look, interval: float) -> Iterator[Look]:
    """A look every `interval` seconds, until it does not run any more."""
    while before.alive:
        time.sleep(interval)
        now = look(data)
        now.rates(before)
        yield now
        before = now


# ---- looking -------------------------------------------------------------------------------------


def look(data: Path) -> Look:
    """See what there is. Raises BadArgument if there never was an exchange in this folder."""
    status = read_status(data)
    if not status:
        raise BadArgument(f"no exchange has run there: data={data}")
    supervisor, alive = int(status["pid"]), living(status)
    if status["state"] in _LIVING and supervisor not in alive:
        status["state"] = "dead"
    now = Look(time.time_ns(), {**status, "data": str(data)})
    epoch = int(status["epoch"])
    world = int(status.get("world", epoch))
    names = segment.names(status["instance"])
    parts = {
        name.part: name
        for name in names
        if name.epoch == (world if outlives_engine(name.part) else epoch)
    }
    if "board" in parts:
        _board(now, parts["board"], alive)
    first = {"name": "supervisor", "core": None, "idle": "", **_usage(supervisor, alive)}
    now.processes.insert(0, first)
    matchers = sum(part.startswith("events-") for part in parts)
    for part in sorted(parts, key=_order):
        # A segment can vanish meanwhile: the instance may be stopping.
        with contextlib.suppress(SegmentError, MarketRemoved):
            if part.startswith("depth-"):
                now.markets.append(_market(parts[part]))
            elif part != "board":
                now.rings.append(_ring(parts[part], _readers(part, matchers)))
    _positions(now)
    now.instance["standby"] = _standby(now, int(status.get("standby") or 0))
    now.instance["archive"] = _archive(now, data)
    now.sessions = _sessions(alive)
    return now


def _standby(now: Look, epoch: int) -> dict[str, Any] | None:
    """What the standby does, and how many records it is behind the engine; None without one."""
    log = next((ring for ring in now.rings if ring["name"] == "log"), None)
    if not epoch or log is None:
        return None
    instance = now.instance["instance"]
    with contextlib.suppress(SegmentError):
        board = Board.attach(
            segment.attach(segment.SegmentName(instance, epoch, "board"), writable=False)
        )
        name = segment.SegmentName(instance, epoch, "log")
        position = Ring.attach(segment.attach(name, writable=False)).produced
        lag = max(0, log["produced"] - position)
        return {"epoch": epoch, "state": board.state, "position": position, "lag": lag}
    return None


def _archive(now: Look, data: Path) -> dict[str, Any] | None:
    """How far the views are, and how many records behind the log; None without views."""
    log = next((ring for ring in now.rings if ring["name"] == "log"), None)
    with contextlib.suppress(ViewsError), Views(data / VIEWS) as views:
        position = views.position
        lag = max(0, log["produced"] - position) if log else 0
        return {"position": position, "oldest": views.oldest, "lag": lag} if position else None
    return None


def _usage(pid: int, alive: list[int]) -> dict[str, Any]:
    """What a process uses; nothing if it is not alive."""
    usage: dict[str, Any] = {
        "pid": pid,
        "alive": False,
        "cpu_seconds": None,
        "resident_bytes": None,
    }
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        if pid in alive:
            with process.oneshot():
                times = process.cpu_times()
                usage |= {
                    "alive": True,
                    "cpu_seconds": round(times.user + times.system, 2),
                    "resident_bytes": process.memory_info().rss,
                }
    return usage


def _board(now: Look, name: segment.SegmentName, alive: list[int]) -> None:
    board = Board.attach(segment.attach(name, writable=False))
    threads = board.live_processes()
    for row in threads:
        core = int(row["core"])
        now.processes.append(
            {
                "name": row["name"].decode(),
                "core": None if core < 0 else core,
                "idle": row["idle"].decode(),
                **_usage(int(row["pid"]), alive),
            }
        )
    for row in board.live_agents():
        now.agents.append(
            {
                "name": row["name"].decode(),
                "thread": threads[int(row["process"])]["name"].decode(),
                **{counter: int(row[counter]) for counter in _COUNTERS},
            }
        )


def _positions(now: Look) -> None:
    """How far in the log each agent is: the last sequence that it is done with."""
    for ring in now.rings:
        if ring["name"] == "log":
            done = {who: ring["produced"] - lag for who, lag in ring["readers"].items()}
            done["sequencer"] = ring["produced"]
            for agent in now.agents:
                agent["position"] = done.get(agent["name"])


def _order(part: str) -> tuple[int, str, int]:
    """As records flow."""
    stem, _, number = part.partition("-")
    stages = ("operator", "log", "ledger", "events", "market", "depth")
    stage = stages.index(stem) if stem in stages else len(stages)
    return stage, "" if number.isdigit() else number, int(number) if number.isdigit() else 0


def _readers(part: str, matchers: int) -> list[str]:
    """Who reads a ring, as in core/plan.py."""
    if part == "log":
        return [*(f"matcher-{k}" for k in range(matchers)), "publisher", "journaler"]
    if part.startswith("events-"):
        return ["sequencer", "publisher"]
    return {"ledger": ["publisher"], "operator-commands": ["sequencer"]}.get(part, [])


def _ring(name: segment.SegmentName, readers: list[str]) -> dict[str, Any]:
    ring = Ring.attach(segment.attach(name, writable=False))
    # Readers first: so none seems to be ahead of the producer.
    consumed = ring.consumed
    produced = ring.produced
    lags = {who: produced - position for who, position in zip(readers, consumed, strict=False)}
    return {
        "name": name.part,
        "segment": str(name),
        "shape": ring.shape,
        "capacity": ring.capacity,
        "closed": ring.closed,
        "produced": produced,
        "depth": max(lags.values(), default=0),
        "readers": lags,
    }


def _market(name: segment.SegmentName) -> dict[str, Any]:
    memory = segment.attach(name, writable=False)
    definition, base, quote = read_definition(memory)
    market = Market.from_record(definition, *base, *quote)
    top = Book(memory, None, market).top()
    bid, ask = (
        market.price(int(side[0]["price_ticks"])) if len(side) else None
        for side in (top.bids, top.asks)
    )
    return {
        "symbol": market.symbol,
        "updates": top.update,
        "trades": top.trades,
        "bid": None if bid is None else f"{bid:f}",
        "ask": None if ask is None else f"{ask:f}",
    }


def _sessions(pids: list[int]) -> list[dict[str, Any]]:
    """Sessions by their rings, which have no names but the descriptors of the engine."""
    found: dict[str, dict[str, tuple[str, Ring]]] = {}
    seen: set[int] = set()
    for path in (path for pid in pids for path in _descriptors(pid)):
        with contextlib.suppress(OSError, SegmentError):
            part = str(path.readlink()).removeprefix("/memfd:matchbox-").partition(" ")[0]
            if part not in ("commands", "reports") or path.stat().st_ino in seen:
                continue
            seen.add(path.stat().st_ino)
            with path.open("rb") as file:
                ring = Ring.attach(segment.map_fd(file.fileno(), writable=False))
            if not ring.closed:
                found.setdefault(ring.name, {})[part] = (str(path), ring)
    rows = []
    for name, rings in sorted(found.items()):
        if len(rings) == 2:
            (commands_fd, commands), (reports_fd, reports) = rings["commands"], rings["reports"]
            taken, read = commands.consumed[0], _bot_position(commands)
            rows.append(
                {
                    "name": name,
                    "commands": commands.produced,
                    "commands_depth": commands.produced - taken,
                    "commands_capacity": commands.capacity,
                    "commands_fd": commands_fd,
                    "reports": reports.produced,
                    "reports_depth": reports.produced - read,
                    "reports_held": reports.held,
                    "reports_capacity": reports.capacity,
                    "assurance": _assurance(reports),
                    "reports_fd": reports_fd,
                }
            )
    return rows


def _assurance(reports: Ring) -> str:
    known = {int(each): each.name.lower() for each in Assurance}
    return known.get(reports.assurance, "")


def _descriptors(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return []


def _bot_position(commands: Ring) -> int:
    """readers[1] of a command ring: see ring.h."""
    return int(np.frombuffer(commands.buffer, "<u8", 1, 256 + 128 * _BOT_READS)[0])


# ---- showing -------------------------------------------------------------------------------------


def render(now: Look) -> RenderableType:
    """Tables of one look."""
    about = now.instance
    head = f"{about['instance']}: {about['state']}, epoch {about['epoch']}, pid {about['pid']}, "
    head += f"data {about['data']}"
    if "sequence" in about:
        head += f"\nended at sequence {about['sequence']:,}, state hash {about['hash']}"
    if about.get("alarm"):
        head += f"\nALARM: {about['alarm']}"
    if about.get("standby"):
        standby = about["standby"]
        head += f"\nstandby {standby['state']}, {standby['lag']:,} records behind"
    elif about["state"] == "running":
        head += "\nno standby"
    if about.get("archive") and about["state"] == "running":
        head += f"\nviews {about['archive']['lag']:,} records behind"
    if "cause" in about:
        head += f"\nended because of {about['cause']}"
    if about["state"] in ("dead", "failed"):
        head += "\n`matchbox up` recovers it."
    parts: list[RenderableType] = [head]
    tables = (
        (("process", "pid", "core", "idle", "CPU %", "memory"), _process_rows(now)),
        (("agent", "in", "position", "work/s", "rounds/s", "parks/s"), _agent_rows(now)),
        (("ring", "records", "per s", "depth", "of", "behind"), _ring_rows(now)),
        (
            ("session", "assurance", "commands", "per s", "depth")
            + ("reports", "per s", "depth", "held"),
            _session_rows(now),
        ),
        (("market", "bid", "ask", "trades", "per s", "updates", "per s"), _market_rows(now)),
    )
    for columns, rows in tables:
        if rows:
            parts.append(_table(columns, rows))
    return Group(*parts)


def _table(columns: tuple[str, ...], rows: list[list[str]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), title="", title_justify="left")
    for number, column in enumerate(columns):
        # Names and lists to the left, figures to the right.
        numeric = number and column not in ("in", "idle", "behind")
        table.add_column(column, justify="right" if numeric else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def _process_rows(now: Look) -> list[list[str]]:
    rows = []
    shown = set()
    for row in now.processes:
        # Threads of one process share its figures.
        first = row["pid"] not in shown
        shown.add(row["pid"])
        usage = ["", ""]
        if first and not row["alive"]:
            usage = ["dead", ""]
        elif first:
            usage = [_rate(row.get("cpu_percent")), f"{row['resident_bytes'] / 2**20:,.0f} MiB"]
        core = "any" if row["core"] is None else str(row["core"])
        rows.append([row["name"], str(row["pid"]), core, row["idle"], *usage])
    return rows


def _agent_rows(now: Look) -> list[list[str]]:
    return [
        [row["name"], row["thread"], f"{row['position'] or 0:,}"]
        + [_rate(row.get(f"{name}_per_second")) for name in ("work", "rounds", "parks")]
        for row in now.agents
    ]


def _ring_rows(now: Look) -> list[list[str]]:
    rows = []
    for row in now.rings:
        behind = ", ".join(f"{who} {lag:,}" for who, lag in row["readers"].items() if lag)
        figures = [f"{row['produced']:,}", _rate(row.get("produced_per_second"))]
        rows.append([row["name"], *figures, f"{row['depth']:,}", f"{row['capacity']:,}", behind])
    return rows


def _session_rows(now: Look) -> list[list[str]]:
    rows = []
    for row in now.sessions:
        cells = [row["name"], row["assurance"]]
        for side in ("commands", "reports"):
            cells += [f"{row[side]:,}", _rate(row.get(f"{side}_per_second"))]
            cells += [f"{row[f'{side}_depth']:,}"]
        rows.append([*cells, f"{row['reports_held']:,}"])
    return rows


def _market_rows(now: Look) -> list[list[str]]:
    return [
        [row["symbol"], row["bid"] or "-", row["ask"] or "-"]
        + [f"{row['trades']:,}", _rate(row.get("trades_per_second"))]
        + [f"{row['updates']:,}", _rate(row.get("updates_per_second"))]
        for row in now.markets
    ]


def _rate(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f}" if value < 100 else f"{value:,.0f}"

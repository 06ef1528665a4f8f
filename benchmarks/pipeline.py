"""Order to report through the whole exchange, as one Python bot sees it.

Question   how long from the moment an order should be sent to the moment its answer is in the
           bot's hands, at 10k, 100k and 250k commands/s, and how many commands/s at most?
Set-up     `matchbox up` with its journal on a disk: sequencer, matcher and publisher in one process
           that spins on a core of its own; the bot and the journaler share another. One core only:
           nothing is pinned, all park.
Flow       mix B of benchmarks/flows.py (45 % adds, 45 % cancels, 5 % replaces, 5 % takers), again
           and again, the book emptied in between; several markets have a flow each, in turn.
Open loop  each command has a planned time; what delays one delays those behind it, and all of that
           counts. The bot sends what is due, reads what is there, and spins while it waits.
Baseline   the same bot and rings against a C program that answers each command at once
           (baseline/echo.c), in turn with the exchange; for the highest rate also
           Matcher.process() on the same flow, one thread.
           No standby, unless asked for: two cores have no room for one.
Left out   the first second of each run. Checked: every command is answered once and in order, none
           is refused, and the fills are those of Matcher.process() (quantity, price and order of
           all of them).
"""

import contextlib
import ctypes
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import matchbox
from benchmarks import build, flows, many_accounts, report
from matchbox.core.instrument import market_record
from matchbox.core.matcher import Matcher
from matchbox.shm import segment
from matchbox.shm.records import COMMAND, EVENT
from matchbox.shm.ring import Ring, ring_bytes
from matchbox.tools.folder import read_status

RATES = (10_000, 100_000, 250_000)
CHUNK = 2048
WARM_SECONDS = 1.0
SLOTS = 1 << 16
REPORT_SLOTS = 1 << 18
MAX_ORDERS = 1 << 16
_TRADE = int(matchbox.EventKind.TRADE)
_AS_MAKER = int(matchbox.ReportFlag.AS_MAKER)


# ---- the flow ------------------------------------------------------------------------------------


@dataclass
class Cycle:
    """Commands that begin and end with empty books, and what must come of them."""

    commands: NDArray[Any]  # order ids count from the cycle's first command, 1
    fills: int  # checksum of the fills of one cycle
    trades: int

    @classmethod
    def make(cls, operations: int, markets: int, seed: int) -> "Cycle":
        """Mix B for each of `markets` markets, mixed command by command."""
        parts = []
        for market in range(1, markets + 1):
            flow = flows.generate(flows.MIXES["B"], operations // markets, seed + market)
            part = flows.commands(flow, market)
            part["account"] = 0
            parts.append(part)
        commands = _interleave(parts)
        matcher = _matcher(markets)
        matcher.process(commands)
        left = np.concatenate([matcher.orders(m)["order_id"] for m in range(1, markets + 1)])
        cancels = np.zeros(len(left), COMMAND)
        cancels["kind"], cancels["order_id"] = matchbox.Kind.CANCEL_ORDER, np.sort(left)
        whole = np.concatenate([commands, cancels])
        whole["sequence"] = np.arange(1, len(whole) + 1)
        # The matcher needs to be told the market of a cancel; the sequencer knows it.
        by_id = dict(zip(commands["sequence"].tolist(), commands["market"].tolist(), strict=True))
        told = whole.copy()
        told["market"][len(commands) :] = [by_id[int(order)] for order in cancels["order_id"]]
        events = _matcher(markets).process(told)
        trades = events[events["kind"] == _TRADE]
        return cls(whole, _checksum(trades, 0), len(trades))


def _interleave(parts: list[NDArray[Any]]) -> NDArray[Any]:
    """One array in which the parts take turns; order ids follow the new numbering."""
    count = min(map(len, parts))
    out = np.empty(count * len(parts), COMMAND)
    for k, part in enumerate(parts):
        part = part[:count].copy()
        named = part["order_id"] > 0
        part["order_id"][named] = (part["order_id"][named] - 1) * len(parts) + k + 1
        out[k :: len(parts)] = part
    out["sequence"] = np.arange(1, len(out) + 1)
    return out


def _matcher(markets: int) -> Matcher:
    return Matcher([market_record(m, max_orders=MAX_ORDERS) for m in range(1, markets + 1)])


def _checksum(trades: NDArray[Any], before: int) -> int:
    """Of market, price and quantity of each fill, in order, going on from `before`."""
    rows = np.empty((len(trades), 3), np.int64)
    rows[:, 0], rows[:, 1], rows[:, 2] = (
        trades["market"],
        trades["price_ticks"],
        trades["quantity_lots"],
    )
    return zlib.crc32(rows.tobytes(), before)


# ---- the exchange and its baseline ---------------------------------------------------------------

CONFIG = """
instance = "{name}"
data = "{data}"
matchers = 1
[rings]
commands = {slots}
reports = {report_slots}
[[asset]]
name = "USD"
scale = 8
[[asset]]
name = "BTC"
scale = 8
[[account]]
number = 1
name = "bot"
[[deposit]]
account = "bot"
asset = "USD"
amount = "40000000000"
[[deposit]]
account = "bot"
asset = "BTC"
amount = "40000000000"
"""
MARKET = """
[[market]]
id = {n}
symbol = "BTC/USD.{n}"
base = "BTC"
quote = "USD"
tick_size = "0.01"
lot_size = "0.0001"
max_orders = {max_orders}
"""
PROCESSES = """
[[process]]
name = "engine"
agents = ["sequencer", "matcher-0", "publisher"]
{core}idle = "{idle}"
[[process]]
name = "journal"
agents = ["journaler"]
{journal_core}
"""


class Cores:
    """Where what runs: the engine on the last core, all else on the first; or nothing is pinned.
    A standby, if there is to be one, runs wherever there is room.
    """

    def __init__(self, *, standby: bool = False) -> None:
        self.standby = standby
        allowed = sorted(os.sched_getaffinity(0))
        self.all = frozenset(allowed)
        self.pinned = len(allowed) > 1
        self.engine, self.bot = allowed[-1], allowed[0]


@contextlib.contextmanager
def exchange(
    markets: int, cores: Cores, more: str = "", *, path: Sequence[str] = ()
) -> Iterator[tuple[Path, list[int]]]:
    """A running exchange: its data folder and the numbers of its processes. `more`: settings;
    `path`: what its processes import from before all else.
    """
    folder = Path(
        tempfile.mkdtemp(prefix="matchbox-bench-", dir=os.environ.get("MATCHBOX_BENCH_DIR"))
    )
    data, config = folder / "data", folder / "exchange.toml"
    text = CONFIG.format(
        name=f"bench{os.getpid()}", data=data, slots=SLOTS, report_slots=REPORT_SLOTS
    )
    text += "".join(MARKET.format(n=n, max_orders=MAX_ORDERS) for n in range(1, markets + 1))
    text += more
    text += f"[standby]\nenabled = {str(cores.standby).lower()}\n"
    text += PROCESSES.format(
        core=f"core = {cores.engine}\n" if cores.pinned else "",
        idle="spin" if cores.pinned else "park",
        journal_core=f"core = {cores.bot}" if cores.pinned else "",
    )
    config.write_text(text)
    command = [sys.executable, "-m", "matchbox.tools.cli"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*path, *sys.path])}
    try:
        subprocess.run(
            [*command, "up", str(config), "--detach"],
            check=True,
            stdout=subprocess.DEVNULL,
            env=environment,
            # The exchange may use all cores, wherever the bot is pinned.
            preexec_fn=lambda: os.sched_setaffinity(0, cores.all),
        )
        yield data, read_status(data)["processes"]
        subprocess.run(
            [*command, "down", str(data)], check=True, stdout=subprocess.DEVNULL, env=environment
        )
    finally:
        status = read_status(data)
        if status.get("state") not in ("stopped", "failed", None):
            with contextlib.suppress(ProcessLookupError):
                os.kill(status["pid"], signal.SIGTERM)
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def echo(cores: Cores) -> Iterator[matchbox.Session]:
    """A session that a C program answers."""
    program = build.build(build.ROOT / "benchmarks" / "baseline" / "echo.c")
    rings, fds = [], []
    for slots, readers in ((SLOTS, 1), (REPORT_SLOTS, 0)):
        fd, memory = segment.memfd("matchbox-echo", ring_bytes(slots))
        rings.append(Ring.create(memory, capacity=slots, shape="session", readers=readers))
        fds.append(fd)
    core = cores.engine if cores.pinned else -1
    process = subprocess.Popen([program, *map(str, fds), str(core)], pass_fds=fds)
    try:
        yield matchbox.Session(None, *rings, number=1, name="echo", account=1)
    finally:
        process.kill()
        process.wait()
        for fd in fds:
            os.close(fd)


# ---- the bot -------------------------------------------------------------------------------------


class Bot:
    """Plays a cycle again and again, and checks what comes back."""

    def __init__(
        self, session: matchbox.Session, cycle: Cycle, base: int, *, checked: bool
    ) -> None:
        self.session, self.cycle, self.checked = session, cycle, checked
        self._commands = cycle.commands.copy()
        self._named = self._commands["order_id"] > 0
        self._base = base  # log sequence before the cycle's first command
        self._next = 0
        self._rebase(base)
        self.first = session.sent + 1
        self.answered = session.sent
        self.sent = 0
        self._sum = 0
        self._trades = 0

    def _rebase(self, by: int) -> None:
        self._commands["order_id"][self._named] += np.uint64(by)

    def take(self, count: int) -> NDArray[Any]:
        """Up to `count` next commands (fewer at the end of a cycle)."""
        return self._commands[self._next : self._next + count]

    def sent_some(self, count: int) -> None:
        self.sent += count
        self._next += count
        if self._next == len(self._commands):
            self._next = 0
            self._rebase(len(self._commands))

    def check(self, reports: NDArray[Any]) -> None:
        """Every answer once and in order, no refusal, the fills as they must be."""
        kinds = reports["kind"]
        if (kinds == matchbox.EventKind.REJECTED).any():
            refused = reports[kinds == matchbox.EventKind.REJECTED][0]
            raise SystemExit(f"refused: {matchbox.Reason(refused['reason']).name}, {refused}")
        traded = kinds == _TRADE
        answers = reports["command_position"][~traded]
        answers = answers[answers > 0]
        if len(answers):
            positions = answers.astype(np.int64)
            steps = np.diff(positions, prepend=self.answered)
            # A command can have a further report of its own, such as the end of an IOC; it is none
            # less.
            if (steps < 0).any() or (steps > 1).any():
                raise SystemExit(f"answers out of order after {self.answered}: {positions[:10]}")
            self.answered = int(positions[-1])
        if self.checked and traded.any():
            fills = reports[traded & ((reports["flags"] & _AS_MAKER) == 0)]
            while len(fills):
                room = self.cycle.trades - self._trades
                part, fills = fills[:room], fills[room:]
                self._sum = _checksum(part, self._sum)
                self._trades += len(part)
                if self._trades == self.cycle.trades:
                    if self._sum != self.cycle.fills:
                        raise SystemExit("the fills of a cycle are not those of the matcher")
                    self._trades, self._sum = 0, 0

    def drain(self, seconds: float = 30.0) -> None:
        """Wait for all answers."""
        deadline = time.monotonic() + seconds
        while self.answered < self.session.sent:
            self.check(self.session.reports(1 << 18, timeout=0.1))
            if time.monotonic() > deadline:
                raise SystemExit(f"no answer: answered={self.answered}, sent={self.session.sent}")


def saturate(bot: Bot, seconds: float) -> float:
    """As fast as possible; commands a second."""
    session = bot.session
    warm = time.perf_counter() + min(WARM_SECONDS, seconds / 4)
    began, counted = 0.0, 0
    while True:
        part = bot.take(CHUNK)
        while True:
            found = session.reports(1 << 18)
            if len(found):
                bot.check(found)
            try:
                session.submit(part)
                break
            except matchbox.RingFull:
                found = session.reports(1 << 18, timeout=0.001)
                if len(found):
                    bot.check(found)
        bot.sent_some(len(part))
        now = time.perf_counter()
        if not began and now > warm:
            began, counted = now, bot.sent
        elif began and now - began > seconds:
            break
    bot.drain()
    return (bot.sent - counted) / (time.perf_counter() - began)


def paced(bot: Bot, rate: int, seconds: float) -> NDArray[np.int64]:
    """At planned times; nanoseconds from each command's time to its answer."""
    session, clock = bot.session, time.perf_counter_ns
    total = int(rate * seconds)
    gap = 1e9 / rate
    first = bot.answered + 1
    # All of it written once before, so that keeping what came costs neither page faults nor
    # garbage collections; mix B has 1.2 reports a command.
    store = np.empty(2 * total + (1 << 16), matchbox.REPORT)
    store.view(np.uint8).fill(0)
    stamps, ends = (array("q", bytes(8 * len(store))) for _ in range(2))  # of each read
    sent, received, reads = 0, 0, 0
    began = clock() + 1_000_000
    while sent < total:
        due = min(total, int((clock() - began) / gap) + 1) if clock() >= began else 0
        if due > sent:
            part = bot.take(due - sent)
            try:
                session.submit(part)
            except matchbox.RingFull:
                part = part[:0]
            sent += len(part)
            bot.sent_some(len(part))
        if session.pending:
            received += len(session.reports(1 << 16, out=store[received:]))
            stamps[reads], ends[reads] = clock(), received
            reads += 1
    deadline = clock() + 10_000_000_000
    while session.pending or not _answers(store[:received], session.sent):
        if session.pending:
            received += len(session.reports(1 << 16, out=store[received:]))
            stamps[reads], ends[reads] = clock(), received
            reads += 1
        elif clock() > deadline:
            raise SystemExit("no answer to the last commands")
    bot.check(store[:received])
    return _latency(store[:received], stamps[:reads], ends[:reads], first, began, gap, total)[
        int(rate * min(WARM_SECONDS, seconds / 4)) :
    ]


def _answers(reports: NDArray[Any], position: int) -> bool:
    """Whether the last of these reports answer the command at `position`."""
    return bool(
        (reports["command_position"][-64:][reports["kind"][-64:] != _TRADE] == position).any()
    )


def _latency(
    reports: NDArray[Any],
    stamps: "array[int]",
    ends: "array[int]",
    first: int,
    began: int,
    gap: float,
    total: int,
) -> NDArray[np.int64]:
    """Nanoseconds from the planned time of each command to the read that had its first answer."""
    read = np.searchsorted(np.frombuffer(ends, np.int64), np.arange(len(reports)), side="right")
    answers = np.flatnonzero((reports["kind"] != _TRADE) & (reports["command_position"] > 0))
    index, at = np.unique(reports["command_position"][answers].astype(np.int64), return_index=True)
    if len(index) != total or index[0] != first or index[-1] != first + total - 1:
        raise SystemExit(f"commands without an answer: answered={len(index)}, sent={total}")
    came = np.frombuffer(stamps, np.int64)[read[answers[at]]]
    planned = began + (np.arange(total) * gap).astype(np.int64)
    result: NDArray[np.int64] = came - planned
    return result


# ---- running -------------------------------------------------------------------------------------


def connect(data: Path, name: str) -> tuple[matchbox.Session, int]:
    """A session in a quiet exchange, and the sequence of the last log record."""
    session = matchbox.connect(data, account="bot", name=name)
    position = session.cancel(2**60)
    found = session.reports(timeout=10)
    assert found[-1]["command_position"] == position
    return session, int(found[-1]["sequence"])


def idle_share(markets: int, seconds: float, cores: Cores) -> float:
    """Percent of one core that a parked exchange uses in all of its processes."""
    cores.pinned = False
    with exchange(markets, cores) as (data, pids):
        everyone = [read_status(data)["pid"], *pids]
        time.sleep(min(1.0, seconds))
        before, began = sum(map(_cpu_seconds, everyone)), time.perf_counter()
        time.sleep(seconds)
        return 100 * (sum(map(_cpu_seconds, everyone)) - before) / (time.perf_counter() - began)


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def one_round(
    cycle: Cycle, markets: int, cores: Cores, rates: tuple[int, ...], seconds: float, longest: float
) -> dict[str, Any]:
    """Every rate on the baseline and on the exchange, in turn."""
    found: dict[str, Any] = {}
    for rate in rates:
        with echo(cores) as session:
            bot = Bot(session, cycle, 0, checked=False)
            found[f"echo {rate}"] = report.percentiles(paced(bot, rate, seconds) / 1e3)
        with exchange(markets, cores) as (data, _):
            session, base = connect(data, "bot")
            bot = Bot(session, cycle, base, checked=True)
            found[f"exchange {rate}"] = report.percentiles(paced(bot, rate, seconds) / 1e3)
            session.close()
    with echo(cores) as session:
        found["echo most"] = saturate(Bot(session, cycle, 0, checked=False), min(seconds, longest))
    began = time.perf_counter()
    matcher, out = _matcher(markets), np.empty(len(cycle.commands) * 2, EVENT)
    plain = cycle.commands[: -max(1, (cycle.commands["market"] == 0).sum())]
    matcher.process(plain, out)
    found["matcher most"] = len(plain) / (time.perf_counter() - began)
    with exchange(markets, cores) as (data, _):
        session, base = connect(data, "bot")
        found["exchange most"] = saturate(Bot(session, cycle, base, checked=True), longest)
        session.close()
    return found


def with_accounts(
    cycle: Cycle, accounts: int, cores: Cores, seconds: float, seed: int
) -> dict[str, float]:
    """Most commands/s with so many accounts, and the engine's memory in MB."""
    named = Cycle(cycle.commands.copy(), cycle.fills, cycle.trades)
    many_accounts.name_accounts(named.commands, accounts, seed)
    with exchange(1, cores, many_accounts.configuration(accounts)) as (data, pids):
        session, base = many_accounts.connect(data, accounts)
        found = {"most": saturate(Bot(session, named, base, checked=True), seconds)}
        found["mb"] = max(map(_resident, pids)) / 1e6
        session.close()
    return found


def _resident(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _accounts(
    cycle: Cycle, counts: list[int], cores: Cores, runs: int, seconds: float, seed: int
) -> dict[str, Any]:
    """Each number of accounts in turn, `runs` times; ratios to the first, run by run."""
    rounds = [
        {n: with_accounts(cycle, n, cores, seconds, seed) for n in counts} for _ in range(runs)
    ]
    found: dict[str, Any] = {}
    for count in counts:
        found[str(count)] = {
            "most": report.spread(one[count]["most"] for one in rounds),
            "ratio": report.spread(one[count]["most"] / one[counts[0]]["most"] for one in rounds),
            "engine_mb": report.spread(one[count]["mb"] for one in rounds),
        }
    rows = []
    for count in counts:
        row = found[str(count)]
        most, ratio = row["most"], row["ratio"]
        rows.append(
            [
                f"{count:,}",
                most["median"],
                most["lowest"],
                most["highest"],
                ratio["median"],
                row["engine_mb"]["median"],
            ]
        )
    columns = ("accounts", "commands/s", "lowest", "highest", "ratio", "engine MB")
    report.print_table("one market, an account at random for each order", columns, rows)
    return found


def run(arguments: list[str] | None = None) -> int:
    """Run it and write the results; the exit status."""
    parser = report.parser("pipeline", __doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each paced run (default: 5)")
    parser.add_argument(
        "--longest", type=float, default=30.0, help="of the run at most (default: 30)"
    )
    parser.add_argument(
        "--markets", type=int, nargs="*", default=[1, 4], help="how many (default: 1 4)"
    )
    parser.add_argument(
        "--accounts",
        type=int,
        nargs="*",
        default=[],
        help="instead: saturated with so many accounts, such as 10 1000000",
    )
    parser.add_argument(
        "--standby", action="store_true", help="with a standby, which needs a core of its own"
    )
    given = parser.parse_args(arguments)
    rates, seconds, longest, runs, operations = (
        RATES,
        given.seconds,
        given.longest,
        given.runs,
        400_000,
    )
    if given.tiny:
        rates, seconds, longest, runs, operations = (2_000,), 0.5, 0.5, 1, 20_000
        given.markets = [2]
    cores = Cores(standby=given.standby)
    set_up(cores)
    results: dict[str, Any] = {"pinned": cores.pinned, "standby": cores.standby, "markets": {}}
    if given.accounts:
        cycle = Cycle.make(operations, 1, given.seed)
        results["accounts"] = _accounts(cycle, given.accounts, cores, runs, longest, given.seed)
        report.write("pipeline-accounts", results, directory=given.output)
        return 0
    for markets in given.markets:
        cycle = Cycle.make(operations, markets, given.seed)
        rounds = [one_round(cycle, markets, cores, rates, seconds, longest) for _ in range(runs)]
        results["markets"][str(markets)] = _summary(rounds, rates)
        _print(markets, results["markets"][str(markets)], rates)
    idle = idle_share(1, 0.5 if given.tiny else 10.0, cores)
    results["idle_percent_of_a_core"] = idle
    print(f"\nA parked exchange without work takes {idle:.2f} % of one core.")
    report.write(
        "pipeline", results, directory=given.output, draw=lambda figure: _draw(figure, results)
    )
    return 0


def set_up(cores: Cores) -> None:
    """Pin the bot, and let its sleeps end when they should (Linux adds 50 microseconds)."""
    if cores.pinned:
        os.sched_setaffinity(0, {cores.bot})
    ctypes.CDLL(None).prctl(29, 1, 0, 0, 0)  # PR_SET_TIMERSLACK
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))


def _summary(rounds: list[dict[str, Any]], rates: tuple[int, ...]) -> dict[str, Any]:
    """Medians over the runs, with their spread, and ratios run by run."""
    points = ("p50", "p90", "p99", "p99.9", "p99.99", "max")
    found: dict[str, Any] = {}
    for rate in rates:
        found[str(rate)] = {
            who: {
                point: report.spread(one[f"{who} {rate}"][point] for one in rounds)
                for point in points
            }
            for who in ("exchange", "echo")
        }
        found[str(rate)]["ratio_p50"] = report.spread(
            one[f"exchange {rate}"]["p50"] / one[f"echo {rate}"]["p50"] for one in rounds
        )
    found["most"] = {
        who: report.spread(one[f"{who} most"] for one in rounds)
        for who in ("exchange", "echo", "matcher")
    }
    for who in ("echo", "matcher"):
        found["most"][f"ratio_to_{who}"] = report.spread(
            one["exchange most"] / one[f"{who} most"] for one in rounds
        )
    return found


def _print(markets: int, found: dict[str, Any], rates: tuple[int, ...]) -> None:
    points = ("p50", "p90", "p99", "p99.9", "p99.99", "max")
    rows = []
    for rate in rates:
        for who in ("exchange", "echo"):
            figures = found[str(rate)][who]
            rows.append([f"{rate:,}/s {who}", *(figures[p]["median"] for p in points)])
        rows[-2].append(found[str(rate)]["ratio_p50"]["median"])
        rows[-1].append("")
    report.print_table(
        f"{markets} market(s): microseconds from planned time to answer, medians of the runs",
        ("", *points, "p50 / echo"),
        rows,
    )
    most = found["most"]
    report.print_table(
        f"{markets} market(s): most commands/s",
        ("", "median", "lowest", "highest", "ratio of the exchange"),
        [
            [
                who,
                *(most[who][key] for key in ("median", "lowest", "highest")),
                most[f"ratio_to_{who}"]["median"] if who != "exchange" else "",
            ]
            for who in ("exchange", "echo", "matcher")
        ],
    )


def _draw(figure: Any, results: dict[str, Any]) -> None:
    axes = figure.subplots()
    points = ("p50", "p90", "p99", "p99.9", "p99.99")
    for markets, found in results["markets"].items():
        for rate, figures in found.items():
            if rate == "most":
                continue
            axes.plot(
                points,
                [figures["exchange"][p]["median"] for p in points],
                marker="o",
                label=f"{int(rate):,}/s, {markets} market(s)",
            )
    axes.set_yscale("log")
    axes.set_ylabel("microseconds, planned time to answer")
    axes.set_title("Order to report, one Python bot")
    axes.legend()
    axes.grid(True, which="both", alpha=0.3)


if __name__ == "__main__":
    raise SystemExit(run())

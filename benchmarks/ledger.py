"""What does it cost that orders are paid for: the ledger, by order, by accounts, and stop orders.

One thread polls the agents as the compact topology does; a driver in C fills the session's ring
with 256 commands at a time and gives back what nobody reads. No bot, no journal, no processes; what
is measured is the thread's processor time.

order      sequencer, matcher, settlement, beside a chain in which a bare copy takes the sequencer's
           place: it moves the same records, decided before, from the session's ring to the log.
           Both matchers do the same work and must end in the same state; the difference is what the
           sequencer does more: checks, live orders, balances, holds, fee rates, settlement.
accounts   the same with --accounts accounts of four assets each, picked at random for each order,
           and with ten, once more with the publisher behind; and what the memory comes to.
stops      the same with --stops orders that wait for a price that is never reached, and without.

Flow: mix B of flows.py (45 % adds, 45 % cancels, 5 % replaces, 5 % takers), again and again, the
book emptied in between; maker 100 and taker 500 ppm. What is compared is run in turn, --runs times,
after a run that is not counted; figures are medians, with the spread.
"""

import gc
import mmap
import os
import resource
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import report
from benchmarks.ledger_driver import Chain, Copier
from benchmarks.pipeline import Cycle
from matchbox.core.agent import Agent
from matchbox.core.instrument import market_record
from matchbox.core.plan import Plan, PlanMarket, PlanThread
from matchbox.shm.depth import format_depth
from matchbox.shm.records import (
    COMMAND,
    LOG_RECORD,
    MONEY_RECORD,
    NAMED_RECORD,
    NEW_ORDER,
    RULES_RECORD,
    Kind,
    OrderType,
    Side,
    TimeInForce,
)
from matchbox.shm.ring import Ring, ring_bytes

ASSETS = ("USD", "BTC", "ETH", "SOL")
SLOTS = 1 << 16
REPORT_SLOTS = 1 << 18
MAX_ORDERS = 1 << 16
PIECE = 1 << 15  # commands at a time where the log is kept
FEW = 10
# A cost is compared with these: ns, MB, ratio of the rates, percent.
TARGETS = {"order_ns": 120.0, "memory_mb": 400.0, "accounts_ratio": 0.67, "stops_percent": 10.0}


@dataclass(frozen=True)
class Size:
    """What a stage is made for."""

    accounts: int = FEW
    assets: int = 2
    max_orders: int = MAX_ORDERS
    max_specials: int = 0  # a power of two, or 0: as many as a market has by itself
    publishes: bool = False

    @property
    def markets(self) -> int:
        """Each asset but the first has a market quoted in that one."""
        return self.assets - 1

    def plan(self) -> Plan:
        agents = ("sequencer", "matcher-0", "publisher")
        return Plan(
            instance="bench",
            epoch=1,
            matchers=1,
            log_slots=SLOTS,
            event_slots=SLOTS,
            market_data_slots=SLOTS,
            command_slots=SLOTS,
            report_slots=REPORT_SLOTS,
            max_sessions=4,
            max_accounts=self.accounts,
            max_assets=16,
            max_markets=16,
            markets=tuple(
                PlanMarket(m + 1, 0, self.max_orders, self.max_specials)
                for m in range(self.markets)
            ),
            threads=(PlanThread("engine", 0, agents, None, "spin"),),
            # The exchange's own account has a balance of each asset, too.
            max_balances=self.assets * (self.accounts + 1),
        )

    def market(self, number: int) -> Any:
        record = market_record(
            number,
            symbol=f"{ASSETS[number]}/USD",
            max_orders=self.max_orders,
            base_asset=number + 1,
            quote_asset=1,
        )
        record["specials"] = self.max_specials.bit_length()
        return record


@dataclass
class Stage:
    """Agents on memory of their own, and a session that may do everything.

    A copy of another stage has no sequencer and gets that one's log.
    """

    size: Size
    copies: bool = False
    keeps: bool = False  # keep the log of what is run in `log`
    log: list[NDArray[Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        plan = self.plan = self.size.plan()
        self._memory: dict[str, mmap.mmap] = {}
        for part, size in plan.segments().items():
            if part.startswith("depth") and not self.size.publishes:
                continue
            self._memory[part] = mmap.mmap(-1, size)
        plan.format_rings(self._memory.__getitem__)
        self.ring = Ring.attach(self._memory["log"])
        self.matcher = plan.build("matcher-0", self._memory.__getitem__)
        self._session = [
            Ring.create(mmap.mmap(-1, ring_bytes(n)), capacity=n, shape="session", readers=readers)
            for n, readers in ((SLOTS, 1), (REPORT_SLOTS, 0))
        ]
        before = _resident()
        agents = [self._first(), self.matcher]
        self.sequencer_bytes = _resident() - before
        if self.size.publishes:
            agents.append(self._publisher())
        self._begin(agents)
        self.chain = Chain(agents, *self._session, self._idle(), publishes=self.size.publishes)
        self.kept = self.ring.produced
        if self.keeps:
            self.log = [self.ring.peek(0, self.kept, LOG_RECORD)]

    def _first(self) -> Agent:
        if self.copies:
            events = Ring.attach(self._memory["events-0"])
            return Copier(self._session[0], self.ring, events)
        self.sequencer: Any = self.plan.build("sequencer", self._memory.__getitem__)
        return self.sequencer

    def _publisher(self) -> Agent:
        for market in self.plan.markets:
            record = self.size.market(market.number)
            names = (ASSETS[market.number], 0), (ASSETS[0], 0)
            part = self._memory[f"depth-{market.number}"]
            format_depth(part, record, *names, levels=market.max_orders)
        return self.plan.build("publisher", self._memory.__getitem__)

    def _begin(self, agents: list[Agent]) -> None:
        """Attach the session, all that the copy does not need to know."""
        if self.copies:
            return
        self.sequencer.clock_ns = 1_000_000_000
        for agent in (agents[0], *agents[2:]):
            agent.open_session(0, *self._session)  # type: ignore[attr-defined]
        self.sequencer.start(1)
        self.sequencer.attach_operator(0)

    def _idle(self) -> list[tuple[Ring, int]]:
        """Readers of what agents write that are not here."""
        if self.size.publishes:
            return []
        parts = ("log", self.plan.publisher_reader), ("ledger", 0), ("events-0", 1)
        return [(Ring.attach(self._memory[part]), index) for part, index in parts]

    def run(self, records: NDArray[Any]) -> int:
        """Submit all and let it come to rest; nanoseconds."""
        if not self.keeps:
            return self.chain.run(np.ascontiguousarray(records).view(np.uint8))
        taken = 0
        for first in range(0, len(records), PIECE):
            taken += self.chain.run(records[first : first + PIECE].view(np.uint8))
            self.log.append(self.ring.peek(self.kept, self.ring.produced - self.kept, LOG_RECORD))
            self.kept = self.ring.produced
        return taken

    @property
    def position(self) -> int:
        """Of the last log record."""
        return int(self.ring.produced)

    def state(self) -> tuple[int, int]:
        """Of the books, and how many events there were."""
        return self.matcher.state_hash(), self.matcher.event_position  # type: ignore[attr-defined]


# ---- what is run ---------------------------------------------------------------------------------


def definitions(size: Size) -> Iterator[NDArray[Any]]:
    """Assets, accounts, markets, fees; all money to the first account, then to each its part."""
    assets = np.zeros(size.assets, NAMED_RECORD)
    assets["kind"], assets["id"] = Kind.ADD_ASSET, np.arange(size.assets) + 1
    assets["name"] = ASSETS[: size.assets]
    yield assets.view(COMMAND)
    accounts = np.zeros(size.accounts, NAMED_RECORD)
    accounts["kind"], accounts["account"] = Kind.ADD_ACCOUNT, np.arange(size.accounts) + 1
    accounts["name"] = "account"
    yield accounts.view(COMMAND)
    yield np.array([size.market(m + 1) for m in range(size.markets)]).view(COMMAND)
    fees = np.zeros(1, RULES_RECORD)
    fees["kind"], fees["maker_fee_ppm"], fees["taker_fee_ppm"] = Kind.SET_FEES, 100, 500
    yield fees.view(COMMAND)
    part = 2**61 // size.accounts
    for asset in range(1, size.assets + 1):
        money = np.zeros(size.accounts, MONEY_RECORD)
        money["kind"], money["asset"], money["amount"] = Kind.TRANSFER, asset, part
        money["account"], money["counter_account"] = 1, np.arange(size.accounts) + 1
        # To itself it cannot transfer: that is the deposit.
        money[0] = np.zeros(1, MONEY_RECORD)[0]
        money[0]["kind"], money[0]["account"], money[0]["asset"] = Kind.DEPOSIT, 1, asset
        money[0]["amount"], money[0]["reference"] = 2**61, f"first-{asset}".encode()
        yield money.view(COMMAND)


def stops(size: Size, count: int, seed: int) -> NDArray[Any]:
    """Half wait for a fall and half for a rise, far away from where the flow trades."""
    chance = np.random.default_rng(seed)
    orders = np.zeros(count, NEW_ORDER)
    orders["kind"], orders["market"] = Kind.NEW_ORDER, 1
    orders["order_type"], orders["time_in_force"] = OrderType.STOP_LOSS, TimeInForce.IOC
    orders["account"] = chance.integers(1, size.accounts + 1, count)
    orders["side"] = np.where(np.arange(count) % 2, Side.BUY, Side.SELL)
    away = chance.integers(1, 10_000, count)
    orders["trigger_ticks"] = np.where(np.arange(count) % 2, 100_000 + away, away)
    orders["quantity_lots"] = chance.integers(1, 50, count)
    return orders.view(COMMAND)


class Flow:
    """A cycle again and again: order ids go on, the account of an order is the same each time."""

    def __init__(self, size: Size, operations: int, seed: int) -> None:
        self.commands = Cycle.make(operations, size.markets, seed).commands.copy()
        new = self.commands["kind"] == Kind.NEW_ORDER
        accounts = np.random.default_rng(seed).integers(1, size.accounts + 1, len(self.commands))
        self.named = self.commands["order_id"] > 0
        accounts[self.named] = accounts[self.commands["order_id"][self.named].astype(np.int64) - 1]
        assert new[self.commands["order_id"][self.named].astype(np.int64) - 1].all()
        self.commands["account"] = accounts

    def at(self, position: int) -> NDArray[Any]:
        """The cycle as it is after log record `position`."""
        result = self.commands.copy()
        result["order_id"][self.named] += np.uint64(position)
        return result


class Decided:
    """A cycle as it stands in the log of a stage, to be played into a copy."""

    def __init__(self, flow: Flow, records: NDArray[Any], position: int) -> None:
        assert not records["reject"].any(), "the flow is refused"
        self.flow, self.records, self.position = flow, records, position

    def at(self, position: int) -> NDArray[Any]:
        result = self.records.copy()
        result["order_id"][self.flow.named] += np.uint64(position - self.position)
        return result


def prepared(
    size: Size, flow: Flow, more: NDArray[Any] | None = None
) -> tuple[Stage, Stage, Decided]:
    """A stage and its copy after one cycle, in which they agreed; and the cycle decided."""
    stage, copy = Stage(size, keeps=True), Stage(size, copies=True)
    for records in definitions(size):
        stage.run(records)
    if more is not None:
        stage.run(more)
    before, begins = len(stage.log), stage.position
    for records in stage.log:
        assert not records["reject"].any(), records[records["reject"] != 0][0]
        copy.run(records)
    stage.run(flow.at(begins))
    for records in stage.log[before:]:
        copy.run(records)
    if stage.state() != copy.state():
        raise SystemExit(f"the matchers disagree: {stage.state()}, {copy.state()}")
    decided = Decided(flow, np.concatenate(stage.log[before:]), begins)
    stage.keeps, stage.log = False, []
    return stage, copy, decided


# ---- what is measured ----------------------------------------------------------------------------


def turns(runs: int, *played: tuple[Stage, Flow | Decided]) -> list[list[float]]:
    """ns a command of each, in turn; the first round is not counted."""
    found: list[list[float]] = [[] for _ in played]
    for number in range(runs + 1):
        for i, (stage, flow) in enumerate(played):
            records = flow.at(stage.position)
            taken = stage.run(records) / len(records)
            if number:
                found[i].append(taken)
    return found


def by_order(options: Any) -> dict[str, Any]:
    """The chain and its copy."""
    size = Size()
    flow = Flow(size, options.operations, options.seed)
    stage, copy, decided = prepared(size, flow)
    with_ledger, without = turns(options.runs, (stage, flow), (copy, decided))
    if stage.state() != copy.state():
        raise SystemExit(f"the matchers disagree: {stage.state()}, {copy.state()}")
    stage.sequencer.check()
    more = [a - b for a, b in zip(with_ledger, without, strict=True)]
    result = {
        "with": report.spread(with_ledger),
        "without": report.spread(without),
        "ledger": report.spread(more),
        "ratio": report.spread(a / b for a, b in zip(with_ledger, without, strict=True)),
    }
    report.print_table(
        "ledger: ns a command, median (lowest..highest)",
        ("sequencer and matcher", "copy and matcher", "the ledger", "x", "target"),
        [
            [
                *(_range(result[k]) for k in ("with", "without", "ledger")),
                _range(result["ratio"], 2),
            ]
            + [f"<= {TARGETS['order_ns']:.0f}"]
        ],
    )
    return result


def by_accounts(options: Any) -> dict[str, Any]:
    """Many accounts and few, sequencer and matcher, and with the publisher."""
    result: dict[str, Any] = {"accounts": options.accounts}
    for publishes in (False, True):
        stages, flows, sizes = [], [], []
        for accounts in (FEW, options.accounts):
            size = Size(accounts, len(ASSETS), publishes=publishes)
            stage = Stage(size)
            for records in definitions(size):
                stage.run(records)
            _all_there(stage, size)
            sizes.append(stage.sequencer_bytes)
            stages.append(stage)
            flows.append(Flow(size, options.operations, options.seed))
        if not publishes:
            # The tables of orders are the same.
            result["sequencer_mb"] = sizes[1] / 1e6
            result["memory_mb"] = (sizes[1] - sizes[0]) / 1e6
        few, many = turns(options.runs, *zip(stages, flows, strict=True))
        for stage in stages:
            if stage.sequencer.counters["live_orders"]:
                raise SystemExit("orders are left over")
            stage.sequencer.check()
        result["with publisher" if publishes else "without publisher"] = {
            "few": report.spread(few),
            "many": report.spread(many),
            "ratio": report.spread(a / b for a, b in zip(few, many, strict=True)),
        }
        del stages
        gc.collect()
    _print_accounts(result)
    return result


def _all_there(stage: Stage, size: Size) -> None:
    """Nothing of the definitions was refused."""
    for account in (1, size.accounts):
        found = len(stage.sequencer.balances(account))
        if found != size.assets or stage.sequencer.counters["refused"]:
            raise SystemExit(f"account {account} has {found} balances, not {size.assets}")


def _print_accounts(result: dict[str, Any]) -> None:
    rows = []
    for name in ("without publisher", "with publisher"):
        found = result[name]
        rates = [1e3 / found[key]["median"] for key in ("few", "many")]
        rows.append(
            [name, _range(found["few"]), _range(found["many"]), *(f"{r:.2f} M/s" for r in rates)]
            + [_range(found["ratio"], 2), f">= {TARGETS['accounts_ratio']}"]
        )
    columns = ("", f"{FEW} accounts, ns", f"{result['accounts']:,} accounts, ns")
    report.print_table(
        "ledger: by accounts, four assets each, ns a command and commands a second",
        (*columns, f"{FEW}", f"{result['accounts']:,}", "ratio", "target"),
        rows,
    )
    print(
        f"\nMemory for {result['accounts']:,} accounts of {len(ASSETS)} assets: "
        f"{result['memory_mb']:.0f} MB more than for {FEW} "
        f"(target a million: <= {TARGETS['memory_mb']:.0f} MB); "
        f"{result['sequencer_mb']:.0f} MB with the tables of orders and the rest."
    )


def by_stops(options: Any) -> dict[str, Any]:
    """Orders that wait, and none; of the whole chain and of the matcher alone."""
    room = 1 << max(6, options.stops.bit_length())
    size = Size(max_orders=MAX_ORDERS + room, max_specials=room)
    flow = Flow(size, options.operations, options.seed)
    plain = prepared(size, flow)
    waiting = prepared(size, flow, stops(size, options.stops, options.seed))
    there = len(waiting[0].matcher.waiting(1))  # type: ignore[attr-defined]
    if there != options.stops:
        raise SystemExit(f"{there} orders wait, not {options.stops}")
    chain = turns(options.runs, (plain[0], flow), (waiting[0], flow))
    alone = turns(options.runs, plain[1:], waiting[1:])
    if len(waiting[1].matcher.waiting(1)) != options.stops:  # type: ignore[attr-defined]
        raise SystemExit("an order was triggered")
    result: dict[str, Any] = {"stops": options.stops}
    rows = []
    for name, (none, many) in (("sequencer and matcher", chain), ("copy and matcher", alone)):
        result[name] = {
            "none": report.spread(none),
            "many": report.spread(many),
            "percent": report.spread(100 * (b / a - 1) for a, b in zip(none, many, strict=True)),
        }
        rows.append(
            [name, _range(result[name]["none"]), _range(result[name]["many"])]
            + [_range(result[name]["percent"], 1), f"<= {TARGETS['stops_percent']:.0f}"]
        )
    report.print_table(
        "ledger: ns a command that triggers nothing",
        ("", "no stop orders", f"{options.stops:,} wait", "% more", "target"),
        rows,
    )
    return result


def _range(values: dict[str, Any], digits: int = 0) -> str:
    return "{median:.{d}f} ({lowest:.{d}f}..{highest:.{d}f})".format(**values, d=digits)


def _resident() -> int:
    """Bytes of this process that are in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


# ---- running -------------------------------------------------------------------------------------


def run(arguments: Sequence[str] | None = None) -> int:
    """Run it and write the results; the exit status."""
    parser = report.parser("ledger", __doc__)
    parser.add_argument("--operations", type=int, default=400_000, help="of a flow")
    parser.add_argument("--accounts", type=int, default=1_000_000, help="of the many")
    parser.add_argument("--stops", type=int, default=100_000, help="orders that wait")
    parser.add_argument("--only", choices=("order", "accounts", "stops"))
    options = parser.parse_args(arguments)
    if options.tiny:
        options.operations, options.accounts, options.stops, options.runs = 5_000, 500, 100, 1
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    sections = {"order": by_order, "accounts": by_accounts, "stops": by_stops}
    wanted = [options.only] if options.only else list(sections)
    results: dict[str, Any] = {name: sections[name](options) for name in wanted}
    report.write(
        "ledger",
        {**results, "targets": TARGETS},
        directory=options.output,
        draw=lambda figure: _draw(figure, results),
    )
    return 0


def _draw(figure: Any, results: dict[str, Any]) -> None:
    bars: dict[str, dict[str, Any]] = {}
    if "order" in results:
        bars |= {"with the ledger": results["order"]["with"], "a copy": results["order"]["without"]}
    if "accounts" in results:
        found = results["accounts"]["without publisher"]
        bars |= {f"{FEW} accounts": found["few"], "many accounts": found["many"]}
    if "stops" in results:
        found = results["stops"]["sequencer and matcher"]
        bars |= {"no stops": found["none"], "stops": found["many"]}
    axes = figure.subplots()
    middle = [value["median"] for value in bars.values()]
    spread = [
        [m - value["lowest"] for m, value in zip(middle, bars.values(), strict=True)],
        [value["highest"] - m for m, value in zip(middle, bars.values(), strict=True)],
    ]
    axes.bar(list(bars), middle, yerr=spread, capsize=4)
    axes.set_ylabel("ns a command")
    axes.set_title("The ledger, on one thread")


if __name__ == "__main__":
    raise SystemExit(run())

"""The configuration of an exchange: one TOML file, read and checked before anything starts.

    Config  ─ assets, accounts, markets      what is traded: definitions() makes log records of them
            ─ processes                      which agent runs where
            ─ limits, rings, journal, snapshots     sizes and counts

Every error is a ConfigError of the form "FILE:LINE: KEY ...; allowed: ...". docs/configuration.md
explains the keys.
"""

import difflib
import json
import os
import pwd
import re
import tomllib
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from matchbox.shm.errors import BadArgument, ConfigError
from matchbox.shm.records import (
    LOG_RECORD,
    MARKET_RECORD,
    MAX_ASSET_UNITS,
    MONEY_RECORD,
    NAMED_RECORD,
    Kind,
)
from matchbox.tools.settings import ARRAYS, SECTIONS, Key, Wrong
from matchbox.tools.toml_lines import key_lines

DEMO = Path(__file__).parent / "demo.toml"
MAX_PRICE_TICKS = (1 << 40) - 1  # MB_MAX_PRICE_TICKS
MAX_MARKET_LOTS = 1 << 62  # MB_MAX_MARKET_LOTS
_MAX_INT64 = (1 << 63) - 1
_MAX_TICK_SCALE = 18


@dataclass(frozen=True)
class Asset:
    """Something that is owned: one whole = 10^scale units."""

    id: int
    name: str
    scale: int


@dataclass(frozen=True)
class Account:
    """Who trades; `users` are the unix users that may attach for it, `user_ids` their numbers."""

    number: int
    name: str
    users: tuple[str, ...] = ()
    user_ids: tuple[int, ...] = ()
    parent: int = 0


@dataclass(frozen=True)
class Deposit:
    """What an account is given when the exchange first starts with it."""

    account: int
    asset: int
    amount: int
    reference: str


@dataclass(frozen=True)
class Market:
    """What is traded for what, in which steps; all quantities in lots, prices in ticks."""

    id: int
    symbol: str
    base: Asset
    quote: Asset
    tick_size: Decimal
    lot_size: Decimal
    lot_units: int
    notional_units: int
    tick_mantissa: int
    tick_scale: int
    price_step_ticks: int
    quantity_step_lots: int
    max_price_ticks: int
    min_quantity_lots: int
    max_quantity_lots: int
    max_orders: int
    specials: int  # as in its ADD_MARKET record
    matcher: int


@dataclass(frozen=True)
class Limits:
    """How many of each there can be."""

    max_sessions: int
    max_accounts: int
    max_assets: int
    max_markets: int
    max_balances: int
    max_references: int
    max_orders: int


@dataclass(frozen=True)
class Rings:
    """Slots of each ring; `commands` and `reports` are those of one session."""

    log: int
    events: int
    market_data: int
    commands: int
    reports: int


@dataclass(frozen=True)
class JournalSettings:
    """Of the journaler."""

    batch_records: int
    linger_ms: int
    file_size: int


@dataclass(frozen=True)
class StandbySettings:
    """Of the second engine; hang_ms: silence of the first one that makes it take over, 0: none."""

    enabled: bool
    hang_ms: int


@dataclass(frozen=True)
class ArchiveSettings:
    """Of the views; keep_days: so many days before today are kept, 0: all."""

    enabled: bool
    keep_days: int


@dataclass(frozen=True)
class GatewaySettings:
    """Of the gateway; listen "": there is none. Files are absolute, or "" for none."""

    listen: str
    workers: int
    assurance: str
    tls_certificate: str
    tls_key: str
    weight_per_minute: int
    orders_per_ten_seconds: int
    orders_per_day: int
    ping_s: int

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)


@dataclass(frozen=True)
class SnapshotSettings:
    """How many of the newest snapshots are kept; how often the standby takes one, 0: never."""

    keep: int
    interval_s: int


@dataclass(frozen=True)
class Process:
    """Agents that share a process; `core` is None where the kernel chooses."""

    name: str
    agents: tuple[str, ...]
    core: int | None = None
    idle: str = "park"


@dataclass(frozen=True)
class Config:
    """A checked configuration."""

    path: Path
    instance: str
    data: Path
    topology: str  # "compact", "wide" or "custom"
    matchers: int
    idle: str
    pin: bool
    operators: tuple[str, ...]
    operator_ids: tuple[int, ...]
    assets: tuple[Asset, ...]
    accounts: tuple[Account, ...]
    deposits: tuple[Deposit, ...]
    markets: tuple[Market, ...]
    limits: Limits
    rings: Rings
    journal: JournalSettings
    archive: ArchiveSettings
    gateway: GatewaySettings
    snapshots: SnapshotSettings
    standby: StandbySettings
    processes: tuple[Process, ...]

    def definitions(self) -> NDArray[Any]:
        """The log records (LOG_RECORD) that define assets, accounts and markets, in this order."""
        parts = [
            _named(Kind.ADD_ASSET, [(a.name, {"id": a.id, "scale": a.scale}) for a in self.assets]),
            _named(Kind.ADD_ACCOUNT, self._accounts()),
            _market_records(self.markets),
        ]
        return np.concatenate([part.view(LOG_RECORD) for part in parts])

    def _accounts(self) -> list[tuple[str, dict[str, Any]]]:
        """Names and fields; parents before their sub-accounts."""
        ordered = sorted(self.accounts, key=lambda a: a.parent != 0)
        return [(a.name, {"account": a.number, "parent": a.parent}) for a in ordered]

    def deposit_records(self) -> NDArray[Any]:
        """The log records (LOG_RECORD) of the first deposits."""
        records = np.zeros(len(self.deposits), MONEY_RECORD)
        for record, deposit in zip(records, self.deposits, strict=True):
            record["kind"], record["account"] = Kind.DEPOSIT, deposit.account
            record["asset"], record["amount"] = deposit.asset, deposit.amount
            record["reference"], record["note"] = deposit.reference.encode(), b"configuration"
        return records.view(LOG_RECORD)

    def with_topology(
        self, topology: str, *, idle: str | None = None, pin: bool | None = None
    ) -> "Config":
        """This configuration in the preset "compact" or "wide"."""
        idle, pin = idle or self.idle, self.pin if pin is None else pin
        cores = available_cores()
        try:
            for key, value in (("topology", topology), ("idle", idle)):
                SECTIONS[""][key].kind.read(value)
            processes = preset(topology, self.matchers, idle, cores if pin else ())
            check_spinning(processes, cores)
        except Wrong as error:
            raise ConfigError(f"topology {topology} {error}") from None
        return replace(self, topology=topology, idle=idle, pin=pin, processes=processes)


def agent_names(matchers: int) -> tuple[str, ...]:
    """Every agent of an exchange with so many matchers."""
    return ("sequencer", *(f"matcher-{k}" for k in range(matchers)), "publisher", "journaler")


def market_record(
    values: dict[str, Any], assets: Iterable[Asset], options: dict[str, str]
) -> NDArray[Any]:
    """The ADD_MARKET record (MARKET_RECORD) of a market that is described as in a [[market]] table.

    `options` is what messages call a key. Raises BadArgument.
    """
    loader = _Options(values, options)
    row = loader.table(("market", 0), "market")
    market = loader.market(("market", 0), row, {asset.name: asset for asset in assets})
    return _market_records((market,))


def available_cores() -> tuple[int, ...]:
    """The cores that this process may use, ascending."""
    return tuple(sorted(os.sched_getaffinity(0)))


def default_data(instance: str) -> Path:
    """Where an instance keeps its data if the configuration does not say."""
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser() / "matchbox" / instance


def load(path: Path | str) -> Config:
    """The configuration in the file `path`. Raises ConfigError."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    return parse(text, path)


def parse(
    text: str, path: Path | str = "<text>", *, cores: Collection[int] | None = None
) -> Config:
    """The configuration in `text`, which errors call `path`. Raises ConfigError.

    `cores` are those that there are (default: those that this process may use).
    """
    return _Loader(text, Path(path), tuple(sorted(cores or available_cores()))).config()


def preset(
    topology: str, matchers: int, idle: str, cores: Collection[int] = ()
) -> tuple[Process, ...]:
    """The processes of a preset, pinned to `cores` in order if there are any. Raises Wrong."""
    agents = agent_names(matchers)
    if topology == "compact":
        groups = [("engine", agents[:-1]), ("journal", agents[-1:])]
    else:
        groups = [(agent, (agent,)) for agent in agents]
    if cores and len(cores) < len(groups):
        raise Wrong(
            f"pins {len(groups)} processes to a core each, but there are {len(cores)} cores; "
            "allowed: pin = false"
        )
    pinned: Iterable[int | None] = sorted(cores) if cores else [None] * len(groups)
    return tuple(
        # The journaler waits for the disk; it never spins.
        Process(name, group, core, "park" if group == ("journaler",) else idle)
        for (name, group), core in zip(groups, pinned, strict=False)
    )


def check_spinning(processes: tuple[Process, ...], cores: Collection[int]) -> None:
    """Fewer spinning processes than cores, and no two on one core. Raises Wrong."""
    spinning = [process for process in processes if process.idle == "spin"]
    if spinning and len(spinning) >= len(cores):
        raise Wrong(
            f"has {len(spinning)} spinning processes on {len(cores)} cores; allowed: fewer than "
            "cores, so that something else can run"
        )
    for process in spinning:
        others = [p.name for p in processes if p.core == process.core and p is not process]
        if process.core is not None and others:
            raise Wrong(
                f"has process {process.name} spinning on core {process.core} beside "
                f"{', '.join(others)}; allowed: a spinning process alone on its core"
            )


def _named(kind: Kind, entries: list[tuple[str, dict[str, int]]]) -> NDArray[Any]:
    records = np.zeros(len(entries), NAMED_RECORD)
    records["kind"] = kind
    for record, (name, fields) in zip(records, entries, strict=True):
        record["name"] = name.encode()
        for field, value in fields.items():
            record[field] = value
    return records


def _market_records(markets: tuple[Market, ...]) -> NDArray[Any]:
    records = np.zeros(len(markets), MARKET_RECORD)
    records["kind"] = Kind.ADD_MARKET
    same = ["lot_units", "notional_units", "max_price_ticks", "min_quantity_lots", "max_orders"]
    same += ["max_quantity_lots", "price_step_ticks", "quantity_step_lots"]
    for record, market in zip(records, markets, strict=True):
        record["market"] = market.id
        record["symbol"] = market.symbol.encode()
        record["base_asset"], record["quote_asset"] = market.base.id, market.quote.id
        record["tick_mantissa"], record["tick_scale"] = market.tick_mantissa, market.tick_scale
        record["specials"] = market.specials
        for field in same:
            record[field] = getattr(market, field)
    return records


Where = tuple[str | int, ...]


class _Loader:
    """Reads one document."""

    def __init__(self, text: str, path: Path, cores: tuple[int, ...]) -> None:
        self.path, self.cores = path, cores
        self.lines: dict[Where, int] = {}
        try:
            self.document = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            found = re.search(r"at line (\d+)", str(error))
            line = int(found[1]) if found else text.count("\n") + 1
            raise ConfigError(f"{path}:{line}: is not TOML: {error}") from None
        self.lines = key_lines(text)

    def fail(self, where: Where, problem: str, allowed: str = "") -> NoReturn:
        """Raise the ConfigError about the value at `where`."""
        known = next((where[:n] for n in range(len(where), 0, -1) if where[:n] in self.lines), ())
        text = f"{self.path}:{self.lines.get(known, 1)}: {_spell(where)} {problem}"
        raise ConfigError(f"{text}; allowed: {allowed}" if allowed else text)

    def table(self, where: Where, section: str) -> dict[str, Any]:
        """The checked values of a table: every key of its section, defaults included."""
        keys, found = SECTIONS[section], self.at(where)
        tables = [] if section else [*ARRAYS, *(s for s in SECTIONS if s and s not in ARRAYS)]
        for key in found:
            if key not in keys and key not in tables:
                self.unknown((*where, key), [*keys, *tables])
        return {name: self.value((*where, name), key, found) for name, key in keys.items()}

    def at(self, where: Where) -> dict[str, Any]:
        value: Any = self.document
        for part in where:
            value = value[part]
        if not isinstance(value, dict):
            self.fail(where, "is not a table", f"[{where[0]}]")
        return value

    def unknown(self, where: Where, known: list[str]) -> NoReturn:
        near = difflib.get_close_matches(str(where[-1]), known, 1)
        hint = f": did you mean {near[0]}?" if near else ""
        self.fail(where, f"is no key of this table{hint}", ", ".join(known))

    def value(self, where: Where, key: Key, found: dict[str, Any]) -> Any:
        if where[-1] not in found and key.required:
            self.fail(where, "is missing", f"{key.kind.name}, {key.kind.allowed}")
        value = found.get(str(where[-1]), key.default)
        if value is None:
            return None
        try:
            return key.kind.read(value)
        except Wrong as error:
            self.fail(where, str(error), key.kind.allowed)

    def array(self, section: str) -> list[tuple[Where, dict[str, Any]]]:
        """Place and checked values of each [[section]]."""
        tables = self.document.get(section, [])
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            self.fail((section,), "is not an array of tables", f"[[{section}]]")
        return [((section, i), self.table((section, i), section)) for i in range(len(tables))]

    def plain(self, section: str) -> dict[str, Any]:
        """The checked values of [section], which may be left out."""
        self.document.setdefault(section, {})
        return self.table((section,), section)

    def unique(self, rows: list[tuple[Where, dict[str, Any]]], *keys: str) -> None:
        for key in keys:
            seen: dict[Any, Where] = {}
            for where, row in rows:
                first = seen.setdefault(row[key], where)
                if first != where:
                    line = self.lines.get((*first, key), self.lines.get(first, 1))
                    self.fail((*where, key), f"is taken (line {line}): {row[key]}", "a new one")

    def users(self, where: Where, names: tuple[str, ...]) -> tuple[int, ...]:
        """User ids of the names."""
        ids = []
        for number, name in enumerate(names):
            try:
                ids.append(pwd.getpwnam(name).pw_uid)
            except KeyError:
                allowed = SECTIONS["account"]["users"].kind.allowed
                self.fail((*where, number), f'is no user of this machine: "{name}"', allowed)
        return tuple(ids)

    def config(self) -> Config:
        top = self.table((), "")
        assets = self.assets()
        limits = self.limits()
        accounts = self.accounts()
        deposits = self.deposits({a.name: a for a in accounts}, {a.name: a for a in assets})
        markets = self.markets({a.name: a for a in assets}, top["matchers"])
        self.check_orders(markets, limits.max_orders)
        for section, ids, limit in (
            ("asset", [a.id for a in assets], "max_assets"),
            ("account", [a.number for a in accounts], "max_accounts"),
            ("market", [m.id for m in markets], "max_markets"),
        ):
            self.check_limit(section, ids, limit, getattr(limits, limit))
        topology, processes = self.processes(top)
        instance = top["instance"]
        data = top["data"]
        return Config(
            path=self.path,
            instance=instance,
            data=self.path.parent / Path(data).expanduser() if data else default_data(instance),
            topology=topology,
            matchers=top["matchers"],
            idle=top["idle"],
            pin=top["pin"],
            operators=top["operators"],
            operator_ids=self.users(("operators",), top["operators"]),
            assets=assets,
            accounts=accounts,
            deposits=deposits,
            markets=markets,
            limits=limits,
            rings=Rings(**self.plain("rings")),
            journal=self.journal(),
            archive=ArchiveSettings(**self.plain("archive")),
            gateway=self.gateway(),
            snapshots=SnapshotSettings(**self.plain("snapshots")),
            standby=StandbySettings(**self.plain("standby")),
            processes=processes,
        )

    def check_limit(self, section: str, ids: list[int], limit: str, maximum: int) -> None:
        key = "number" if section == "account" else "id"
        for i, number in enumerate(ids):
            if number > maximum:
                self.fail(
                    (section, i, key), f"is out of range: {number}", f"1 to {limit} = {maximum}"
                )

    def check_orders(self, markets: tuple[Market, ...], maximum: int) -> None:
        """Is there room for as many open orders as the markets can have?"""
        wanted = sum(market.max_orders for market in markets)
        if maximum and wanted > maximum:
            self.fail(
                ("limits", "max_orders"),
                f"is too little for the markets: {maximum}",
                f"{wanted} or more, as they have together",
            )

    def gateway(self) -> GatewaySettings:
        row = self.plain("gateway")
        if not row["listen"]:
            return GatewaySettings(**row)
        if int(row["listen"].rpartition(":")[2]) > 65535:
            self.fail(("gateway", "listen"), f"has no such port: {row['listen']}", "0 to 65535")
        if not self.plain("archive")["enabled"]:
            self.fail(
                ("gateway", "listen"),
                "needs the views, which answer questions about orders",
                "archive.enabled = true",
            )
        if bool(row["tls_certificate"]) != bool(row["tls_key"]):
            self.fail(("gateway",), "has a certificate or a key alone", "both, or neither")
        for name in ("tls_certificate", "tls_key"):
            if row[name]:
                row[name] = str((self.path.parent / Path(row[name]).expanduser()).absolute())
        return GatewaySettings(**row)

    def assets(self) -> tuple[Asset, ...]:
        rows = self.array("asset")
        for where, row in rows:
            row["id"] = row["id"] or int(where[1]) + 1
        self.unique(rows, "name", "id")
        return tuple(Asset(row["id"], row["name"], row["scale"]) for _, row in rows)

    def limits(self) -> Limits:
        row = self.plain("limits")
        row["max_balances"] = row["max_balances"] or 4 * row["max_accounts"] + 1024
        row["max_orders"] = row["max_orders"] or 0
        return Limits(**row)

    def deposits(
        self, accounts: dict[str, Account], assets: dict[str, Asset]
    ) -> tuple[Deposit, ...]:
        found = []
        totals: dict[str, int] = {}
        for number, (where, row) in enumerate(self.array("deposit")):
            for key, known in (("account", accounts), ("asset", assets)):
                if row[key] not in known:
                    allowed = ", ".join(known) or f"none is defined; add an [[{key}]]"
                    self.fail((*where, key), f'is no {key}: "{row[key]}"', allowed)
            asset, account = assets[row["asset"]], accounts[row["account"]]
            place = (*where, "amount")
            amount = self.units(place, "amount", Fraction(row["amount"]), asset)
            totals[asset.name] = totals.get(asset.name, 0) + amount
            if totals[asset.name] > MAX_ASSET_UNITS:
                self.fail(place, f"makes {totals[asset.name]} units of {asset.name}", "2^62 in all")
            reference = f"config-{number + 1}-{account.number}-{asset.id}"
            found.append(Deposit(account.number, asset.id, amount, reference))
        return tuple(found)

    def accounts(self) -> tuple[Account, ...]:
        rows = self.array("account")
        self.unique(rows, "number", "name")
        heads = {row["number"] for _, row in rows if not row["parent"]}
        for where, row in rows:
            if row["parent"] and row["parent"] not in heads:
                allowed = "0, or the number of an account that has no parent"
                self.fail((*where, "parent"), f"cannot be a parent: {row['parent']}", allowed)
        return tuple(
            Account(
                row["number"],
                row["name"],
                row["users"],
                self.users((*where, "users"), row["users"]),
                row["parent"],
            )
            for where, row in rows
        )

    def markets(self, assets: dict[str, Asset], matchers: int) -> tuple[Market, ...]:
        rows = self.array("market")
        self.unique(rows, "id", "symbol")
        for number, (where, row) in enumerate(rows):
            if row["matcher"] is None:
                row["matcher"] = number % matchers
            if row["matcher"] >= matchers:
                self.fail((*where, "matcher"), f"is no matcher: {row['matcher']}", _upto(matchers))
        return tuple(self.market(where, row, assets) for where, row in rows)

    def market(self, where: Where, row: dict[str, Any], assets: dict[str, Asset]) -> Market:
        for side in ("base", "quote"):
            if row[side] not in assets:
                known = ", ".join(assets) or "none is defined; add an [[asset]]"
                self.fail((*where, side), f'is no asset: "{row[side]}"', known)
        base, quote = assets[row["base"]], assets[row["quote"]]
        if base == quote:
            self.fail((*where, "quote"), "is the base asset too", "another asset")
        tick, lot = Fraction(row["tick_size"]), Fraction(row["lot_size"])
        lot_units = self.units((*where, "lot_size"), "lot_size", lot, base)
        notional_units = self.units(
            (*where, "tick_size"), "tick_size * lot_size", tick * lot, quote
        )
        mantissa, scale = self.tick((*where, "tick_size"), row["tick_size"])
        max_price = self.steps(where, "max_price", row, tick, "tick_size", MAX_PRICE_TICKS)
        self.within((*where, "max_price"), max_price, row["price_step"], MAX_PRICE_TICKS, "ticks")
        step, most = row["quantity_step"], MAX_MARKET_LOTS // row["max_orders"]
        max_quantity = self.steps(where, "max_quantity", row, lot, "lot_size", most // step * step)
        rule = f"{most} lots: times max_orders = {row['max_orders']} at most 2^62"
        if not 1 <= max_quantity <= most:
            self.fail(
                (*where, "max_quantity"), f"is out of range: {max_quantity} lots", f"up to {rule}"
            )
        min_quantity = self.steps(where, "min_quantity", row, lot, "lot_size", step)
        last = max_quantity // step * step
        self.within((*where, "min_quantity"), min_quantity, 1, last, "lots, with max_quantity")
        return Market(
            id=row["id"],
            symbol=row["symbol"],
            base=base,
            quote=quote,
            tick_size=row["tick_size"],
            lot_size=row["lot_size"],
            lot_units=lot_units,
            notional_units=notional_units,
            tick_mantissa=mantissa,
            tick_scale=scale,
            price_step_ticks=row["price_step"],
            quantity_step_lots=step,
            max_price_ticks=max_price,
            min_quantity_lots=min_quantity,
            max_quantity_lots=max_quantity,
            max_orders=row["max_orders"],
            # 2^(specials - 1) orders, or more than were asked for.
            specials=(row["max_specials"] - 1).bit_length() + 1 if row["max_specials"] else 0,
            matcher=row["matcher"],
        )

    def units(self, where: Where, name: str, amount: Fraction, asset: Asset) -> int:
        """`amount` in units of the asset, which must be a whole number that fits an int64."""
        units = amount * 10**asset.scale
        if units.denominator != 1:
            needed = next(s for s in range(99) if (amount * 10**s).denominator == 1)
            advice = f"a scale of at least {needed}" if needed <= 18 else "larger steps"
            self.fail(
                where,
                f"is too fine: {name} = {_plain(amount)} {asset.name} is not a whole number of "
                f"units of {asset.name}, whose scale is {asset.scale}",
                f"multiples of {_plain(Fraction(1, 10**asset.scale))}, or {advice}",
            )
        if units > _MAX_INT64:
            self.fail(where, f"is too large: {name} = {units} units", "up to 2^63 - 1 units")
        return int(units)

    def tick(self, where: Where, size: Decimal) -> tuple[int, int]:
        """The tick as mantissa / 10^scale."""
        _, digits, exponent = size.normalize().as_tuple()
        scale = max(0, -int(exponent))
        mantissa = int(size.scaleb(scale))
        if scale > _MAX_TICK_SCALE or mantissa > 0xFFFFFFFF:
            self.fail(
                where,
                f"has too many digits: {len(digits)}",
                "up to 2^32 - 1, with up to 18 decimals",
            )
        return mantissa, scale

    def steps(
        self, where: Where, key: str, row: dict[str, Any], size: Fraction, of: str, default: int
    ) -> int:
        """The value of `key` counted in ticks or lots."""
        if row[key] is None:
            return default
        count = Fraction(row[key]) / size
        if count.denominator != 1:
            self.fail(
                (*where, key), f"is no multiple of {of}: {row[key]}", f"multiples of {row[of]}"
            )
        return int(count)

    def within(self, where: Where, value: int, low: int, high: int, unit: str) -> None:
        if not low <= value <= high:
            self.fail(where, f"is out of range: {value}", f"{low} to {high} {unit}")

    def journal(self) -> JournalSettings:
        settings = JournalSettings(**self.plain("journal"))
        least = 2 * (settings.batch_records * 128 + (2 << 20))
        if settings.file_size < least:
            self.fail(
                ("journal", "file_size"),
                f"is too small for batch_records = {settings.batch_records}: {settings.file_size}",
                f"from {least} bytes on",
            )
        return settings

    def processes(self, top: dict[str, Any]) -> tuple[str, tuple[Process, ...]]:
        """Name of the topology and its processes."""
        if "process" not in self.document:
            try:
                pinned = self.cores if top["pin"] else ()
                processes = preset(top["topology"], top["matchers"], top["idle"], pinned)
                check_spinning(processes, self.cores)
            except Wrong as error:
                key = "pin" if "pins" in str(error) else "idle"
                self.fail((key,), f'with topology "{top["topology"]}" {error}')
            return top["topology"], processes
        for key in ("topology", "pin"):
            if key in self.document:
                self.fail((key,), "does not go with [[process]] tables", "one or the other")
        return "custom", self.custom_processes(top)

    def custom_processes(self, top: dict[str, Any]) -> tuple[Process, ...]:
        rows = self.array("process")
        self.unique(rows, "name")
        known, placed = agent_names(top["matchers"]), dict[str, Where]()
        for where, row in rows:
            for number, agent in enumerate(row["agents"]):
                at = (*where, "agents", number)
                if agent not in known:
                    matchers = f"matchers = {top['matchers']}"
                    self.fail(at, f'is no agent with {matchers}: "{agent}"', ", ".join(known))
                if agent in placed:
                    line = self.lines[placed[agent]]
                    self.fail(at, f'is placed already (line {line}): "{agent}"', "each agent once")
                placed[agent] = at
            if row["core"] is not None and row["core"] not in self.cores:
                allowed = ", ".join(map(str, self.cores))
                self.fail((*where, "core"), f"is no core of this machine: {row['core']}", allowed)
        missing = [agent for agent in known if agent not in placed]
        if missing:
            self.fail(("process",), f"places no {', '.join(missing)}", "each agent once")
        processes = tuple(
            Process(row["name"], row["agents"], row["core"], row["idle"] or top["idle"])
            for _, row in rows
        )
        try:
            check_spinning(processes, self.cores)
        except Wrong as error:
            self.fail(("process",), str(error))
        return processes


class _Options(_Loader):
    """Reads one table that stands on a command line."""

    def __init__(self, values: dict[str, Any], options: dict[str, str]) -> None:
        self.document = {"market": [values]}
        self.options = options

    def fail(self, where: Where, problem: str, allowed: str = "") -> NoReturn:
        text = f"{self.options.get(str(where[-1]), str(where[-1]))} {problem}"
        raise BadArgument(f"{text}; allowed: {allowed}" if allowed else text)


def _spell(where: Where) -> str:
    """A path as people write it: market[2].symbol, tables counted from 1."""
    text = ""
    for part in where:
        if isinstance(part, int):
            text += f"[{part + 1}]"
        else:
            # A quoted key may hold anything.
            name = part if part.isprintable() else json.dumps(part)
            text += f".{name}" if text else name
    return text


def _upto(count: int) -> str:
    return "0" if count == 1 else f"0 to {count - 1} (matchers = {count})"


def _plain(amount: Fraction) -> str:
    """A finite decimal fraction without an exponent."""
    places = next(p for p in range(99) if (amount * 10**p).denominator == 1)
    digits = f"{int(amount * 10**places):0{places + 1}d}"
    return f"{digits[:-places]}.{digits[-places:]}" if places else digits

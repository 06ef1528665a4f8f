"""What is defined now: assets, accounts and markets, as the log's definitions leave them.

The supervisor learns it from the journal, compares it with the configuration, and keeps it up while
the exchange runs. Who may attach for an account stands in the configuration alone.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matchbox.shm.errors import MatchboxError
from matchbox.shm.records import (
    LOG_RECORD,
    MARKET_RECORD,
    NAMED_RECORD,
    Kind,
    special_orders,
)
from matchbox.tools.config import Account, Asset, Config

ADDITIONS = (Kind.ADD_ASSET, Kind.ADD_ACCOUNT, Kind.ADD_MARKET)
REMOVALS = {Kind.REMOVE_ASSET: Kind.ADD_ASSET, Kind.REMOVE_MARKET: Kind.ADD_MARKET}
DEFINITIONS = (*ADDITIONS, *REMOVALS)
_WORDS = {Kind.ADD_ASSET: "asset", Kind.ADD_ACCOUNT: "account", Kind.ADD_MARKET: "market"}
# What a record says of its own sending, not of what it defines.
_STAMPS = 40
Key = tuple[Kind, int]  # an ADD_ kind, and a number


@dataclass(frozen=True)
class Listed:
    """A market that there is, by its ADD_MARKET record."""

    record: Any
    base: Asset
    quote: Asset

    @property
    def number(self) -> int:
        return int(self.record["market"])

    @property
    def symbol(self) -> str:
        return text(self.record["symbol"])

    @property
    def max_orders(self) -> int:
        return int(self.record["max_orders"])

    @property
    def max_specials(self) -> int:
        return special_orders(int(self.record["specials"]), self.max_orders)


@dataclass
class Catalog:
    """Assets, accounts and markets by number, and what became of those that were removed."""

    assets: dict[int, Asset] = field(default_factory=dict)
    accounts: dict[int, Account] = field(default_factory=dict)
    markets: dict[int, Listed] = field(default_factory=dict)
    # The last definition of each, without its stamps; of what is gone, that which was removed.
    definitions: dict[Key, bytes] = field(default_factory=dict)
    gone: dict[Key, bytes] = field(default_factory=dict)
    # Sequences of the removals of a market's number.
    removals: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    # The most open orders that all markets of one moment could have.
    most_orders: int = 0

    def learn(self, records: NDArray[Any]) -> None:
        """The definitions among LOG_RECORDs, in their order; those that were refused are none."""
        for record in defining(records):
            key, sequence = identity(record), int(record["sequence"])
            if int(record["kind"]) in REMOVALS:
                self._remove(key, sequence)
            else:
                self._add(key, record)

    def _add(self, key: Key, record: Any) -> None:
        kind, number = key
        view = view_of(record)
        self.definitions[key] = record.tobytes()[_STAMPS:]
        if kind == Kind.ADD_ASSET:
            self.assets[number] = Asset(number, text(view["name"]), int(view["scale"]))
        elif kind == Kind.ADD_ACCOUNT:
            parent = int(view["parent"])
            self.accounts[number] = Account(number, text(view["name"]), parent=parent)
        else:
            self.markets[number] = self.listed(view)
            open_orders = sum(market.max_orders for market in self.markets.values())
            self.most_orders = max(self.most_orders, open_orders)

    def _remove(self, key: Key, sequence: int) -> None:
        kind, number = key
        self.gone[key] = self.definitions.pop(key, b"")
        if kind == Kind.ADD_ASSET:
            self.assets.pop(number, None)
        else:
            self.markets.pop(number, None)
            self.removals[number].append(sequence)

    def listed(self, record: Any) -> Listed:
        """A market by its record (MARKET_RECORD); an asset that is gone is called by its number."""
        base, quote = (int(record[side]) for side in ("base_asset", "quote_asset"))
        return Listed(
            record,
            self.assets.get(base, Asset(base, str(base), 0)),
            self.assets.get(quote, Asset(quote, str(quote), 0)),
        )

    # ---- looking

    def named(self, kind: Kind, name: str) -> int:
        """The number of what has this name; 0 if nothing has."""
        found = {
            Kind.ADD_ASSET: ((n, asset.name) for n, asset in self.assets.items()),
            Kind.ADD_ACCOUNT: ((n, account.name) for n, account in self.accounts.items()),
            Kind.ADD_MARKET: ((n, market.symbol) for n, market in self.markets.items()),
        }[kind]
        return next((number for number, each in found if each == name), 0)

    def next_number(self, kind: Kind, maximum: int) -> int:
        """One that was never given, if there is one up to `maximum`; else one that is free."""
        ever = {number for of, number in (*self.definitions, *self.gone) if of == kind}
        after = max(ever, default=0) + 1
        if after <= maximum:
            return after
        there = {number for of, number in self.definitions if of == kind}
        return next((n for n in range(1, maximum + 1) if n not in there), maximum + 1)

    def never_removed(self, number: int) -> bool:
        """Has there been one market of this number at most?"""
        return not self.removals.get(number)

    # ---- the configuration

    def missing(self, config: Config, say: Callable[[str], None]) -> NDArray[Any]:
        """What a configuration defines and the log lacks, LOG_RECORDs.

        What was removed while the exchange ran stays so, unless its table has been changed since.
        Raises MatchboxError where the two differ.
        """
        found = []
        for record in config.definitions():
            key, mine = identity(record), record.tobytes()[_STAMPS:]
            what = title(key, record)
            if key in self.definitions:
                if self.definitions[key] != mine:
                    raise MatchboxError(
                        f"{config.path}: {_WORDS[key[0]]} {key[1]} is defined otherwise in the "
                        "journal; allowed: its table as it was when it was added"
                    )
            elif self.gone.get(key) == mine:
                say(
                    f"{what} was removed while the exchange ran, and stays so: its table in "
                    f"{config.path} is passed over. Allowed: to take the table out, to change it, "
                    f"or `matchbox {_WORDS[key[0]]} add`."
                )
            else:
                self._check_new(config, key, record)
                found.append(record)
        missing = np.array(found, LOG_RECORD)
        self._check_assets(config, missing)
        return missing

    def _check_new(self, config: Config, key: Key, record: Any) -> None:
        taken = self.named(key[0], name_of(record))
        if taken:
            raise MatchboxError(
                f"{config.path}: {title(key, record)}: {_WORDS[key[0]]} {taken} of the journal "
                "has this name; allowed: a new one"
            )

    def _check_assets(self, config: Config, missing: NDArray[Any]) -> None:
        """Every new market has its assets."""
        assets = {
            *self.assets,
            *(n for kind, n in map(identity, missing) if kind == Kind.ADD_ASSET),
        }
        for record in missing[missing["kind"] == Kind.ADD_MARKET].view(MARKET_RECORD):
            for side in ("base_asset", "quote_asset"):
                if int(record[side]) not in assets:
                    raise MatchboxError(
                        f"{config.path}: market {int(record['market'])} ({text(record['symbol'])}) "
                        f"needs asset {int(record[side])}, which was removed while the exchange "
                        "ran; allowed: to take the market's table out, or to add the asset again"
                    )


def defining(records: NDArray[Any]) -> NDArray[Any]:
    """The definitions and removals among LOG_RECORDs, without those that were refused."""
    kinds = records["kind"]
    # All of them are operators' records, which are rare: most arrays have none.
    if not ((kinds >= min(DEFINITIONS)) & (kinds <= max(DEFINITIONS))).any():
        return records[:0]
    chosen: NDArray[Any] = records[np.isin(kinds, DEFINITIONS) & (records["reject"] == 0)]
    return chosen


def identity(record: Any) -> Key:
    """What a definition, or a removal, is of."""
    kind = Kind(int(record["kind"]))
    field = {Kind.ADD_ACCOUNT: "account", Kind.ADD_MARKET: "market"}.get(kind, "id")
    return REMOVALS.get(kind, kind), int(view_of(record)[field])


def view_of(record: Any) -> Any:
    """A LOG_RECORD, or a view of it, as MARKET_RECORD or NAMED_RECORD."""
    dtype = MARKET_RECORD if record["kind"] == Kind.ADD_MARKET else NAMED_RECORD
    return np.frombuffer(record.tobytes(), dtype)[0]


def name_of(record: Any) -> str:
    """The name, or symbol, in a definition or removal."""
    view = view_of(record)
    return text(view["symbol" if view.dtype == MARKET_RECORD else "name"])


def title(key: Key, record: Any) -> str:
    """Such as: Market 5 (BTC/USD)."""
    return f"{_WORDS[key[0]].capitalize()} {key[1]} ({name_of(record)})"


def text(name: Any) -> str:
    return bytes(name).decode(errors="replace")


def defined(config: Config) -> Catalog:
    """What a configuration defines, as if all of it were in the log."""
    catalog = Catalog()
    catalog.learn(config.definitions())
    return catalog


def placements(
    matchers: int, markets: Iterable[int], wanted: dict[int, int], there: dict[int, int]
) -> dict[int, int]:
    """The matcher of each of `markets`: the wanted one, else the one with the fewest so far, the
    first of several. `there`: those that are placed already.
    """
    found = dict(there)
    for number in markets:
        counts = [0] * matchers
        for matcher in found.values():
            counts[matcher] += 1
        found[number] = wanted.get(number, counts.index(min(counts)))
    return found

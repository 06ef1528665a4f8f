"""Assets, accounts, markets and sessions, and what operators set for them, as the log says."""

from dataclasses import dataclass, field
from fractions import Fraction

from matchbox.shm.reasons import Reason
from matchbox.shm.records import (
    FEE_ACCOUNT,
    MAX_PRICE_TICKS,
    AccountState,
    Kind,
    MarketState,
)
from matchbox.tools.audit.records import Record, printable

MAX_MARKET_LOTS = 2**62
MAX_SPECIALS = 28


@dataclass(frozen=True)
class Limits:
    """How many there may be: the log does not say, so None believes what it says was refused."""

    assets: int | None = None
    accounts: int | None = None
    markets: int | None = None
    sessions: int | None = None
    slots: int | None = None


@dataclass
class Asset:
    number: int
    name: str
    scale: int


@dataclass
class Account:
    number: int
    name: str
    parent: int
    state: int = AccountState.ACTIVE
    tier: int = 0


@dataclass
class Market:
    """What the log says of a market, with what the sequencer has settled of it."""

    number: int
    symbol: str
    base: int
    quote: int
    lot_units: int
    notional_units: int
    max_price: int
    min_quantity: int
    max_quantity: int
    price_step: int
    quantity_step: int
    max_orders: int
    max_specials: int
    state: int = MarketState.OPEN
    min_notional: int = 0
    protection: int = 1000
    account_orders: int = 0
    last: int | None = None
    last_set: int = 0  # the record that set it: a trade's, or the SET_MARKET's


@dataclass
class Session:
    number: int
    name: bytes
    account: int = 0
    capabilities: int = 0
    user: int = 0
    cancel_on_detach: bool = False
    attached: bool = False
    position: int = 0


@dataclass
class Definitions:
    limits: Limits = field(default_factory=Limits)
    assets: dict[int, Asset] = field(default_factory=dict)
    accounts: dict[int, Account] = field(default_factory=dict)
    markets: dict[int, Market] = field(default_factory=dict)
    sessions: dict[int, Session] = field(default_factory=dict)

    def family(self, account: int) -> int:
        """The account that an account's family is named after; 0 if there is no such account."""
        found = self.accounts.get(account)
        return found.parent or found.number if found else 0

    # ---- what may be defined: the reject code, or 0

    def check_asset(self, r: Record) -> int:
        if not printable(r.name) or r.scale > 18 or r.id == 0:
            return Reason.BAD_DEFINITION
        return self._check_number(r, r.id, self.limits.assets, r.id in self.assets)

    def check_account(self, r: Record) -> int:
        if not printable(r.name) or r.account in (0, FEE_ACCOUNT):
            return Reason.BAD_DEFINITION
        if r.parent and (r.parent not in self.accounts or self.accounts[r.parent].parent):
            return Reason.BAD_DEFINITION
        return self._check_number(r, r.account, self.limits.accounts, r.account in self.accounts)

    def check_market(self, r: Record) -> int:
        if not sound(r):
            return Reason.BAD_DEFINITION
        reason = self._check_number(r, r.market, self.limits.markets, r.market in self.markets)
        if reason:
            return reason
        base, quote = self.assets.get(r.base_asset), self.assets.get(r.quote_asset)
        if base is None or quote is None:
            return Reason.BAD_DEFINITION
        # What one tick times one lot is worth, in units of the quote asset.
        exact = Fraction(r.tick_mantissa * r.lot_units * 10**quote.scale) / (
            10**r.tick_scale * 10**base.scale
        )
        if exact != r.notional_units:
            return Reason.BAD_DEFINITION
        # Of the engine's memory only the log can say whether it was there.
        return r.reject if r.reject == Reason.NOT_PREPARED else 0

    def check_removal(self, r: Record) -> int:
        """Of what is in use, the ledger knows; see decide.py."""
        if r.reserved:
            return Reason.BAD_FIELD
        if not printable(r.name, 0):
            return Reason.BAD_DEFINITION
        if r.kind == Kind.REMOVE_MARKET:
            return 0 if r.id in self.markets else Reason.UNKNOWN_MARKET
        if r.id not in self.assets:
            return Reason.UNKNOWN_ASSET
        traded = any(r.id in (market.base, market.quote) for market in self.markets.values())
        return Reason.ASSET_IN_USE if traded else 0

    def _check_number(self, r: Record, number: int, limit: int | None, exists: bool) -> int:
        if limit is None:
            # Only the log knows how many the exchange was set up for.
            if r.reject == Reason.TOO_MANY_OBJECTS:
                return Reason.TOO_MANY_OBJECTS
        elif number > limit:
            return Reason.TOO_MANY_OBJECTS
        return Reason.ALREADY_EXISTS if exists else 0

    # ---- defining

    def add_asset(self, r: Record) -> None:
        self.assets[r.id] = Asset(r.id, r.name.decode(), r.scale)

    def add_account(self, r: Record) -> None:
        self.accounts[r.account] = Account(r.account, r.name.decode(), r.parent)

    def add_market(self, r: Record) -> Market:
        market = Market(
            number=r.market,
            symbol=r.symbol.decode(),
            base=r.base_asset,
            quote=r.quote_asset,
            lot_units=r.lot_units,
            notional_units=r.notional_units,
            max_price=r.max_price_ticks,
            min_quantity=r.min_quantity_lots,
            max_quantity=r.max_quantity_lots,
            price_step=r.price_step_ticks,
            quantity_step=r.quantity_step_lots,
            max_orders=r.max_orders,
            max_specials=special_orders(r.specials, r.max_orders),
        )
        self.markets[r.market] = market
        return market

    # ---- sessions

    def session_named(self, name: bytes) -> Session | None:
        return next((s for s in self.sessions.values() if s.name == name), None)

    def attach(self, r: Record) -> None:
        session = self.sessions.setdefault(r.id, Session(r.id, r.name))
        session.account, session.capabilities = r.account, r.capabilities
        session.user, session.cancel_on_detach = r.user, bool(r.cancel_on_detach)
        session.attached = True


def special_orders(specials: int, max_orders: int) -> int:
    """How many orders can be icebergs or wait for a trigger."""
    return min(max_orders, 2 ** (specials - 1) if specials else max(64, max_orders // 16))


def sound(r: Record) -> bool:
    """Can any engine run this market, whatever else there is?"""
    # Some quantity must be allowed: the last multiple of the step up to the maximum.
    return (
        r.market > 0
        and r.lot_units > 0
        and r.notional_units > 0
        and 1 <= r.max_price_ticks <= MAX_PRICE_TICKS
        and 0 < r.price_step_ticks <= r.max_price_ticks
        and 0 < r.min_quantity_lots <= r.max_quantity_lots
        and r.quantity_step_lots > 0
        and r.max_quantity_lots // r.quantity_step_lots * r.quantity_step_lots
        >= r.min_quantity_lots
        and r.max_orders >= 1
        and r.max_quantity_lots * r.max_orders <= MAX_MARKET_LOTS
        and r.tick_mantissa > 0
        and r.tick_scale <= 18
        and r.specials <= MAX_SPECIALS
        and printable(r.symbol)
    )

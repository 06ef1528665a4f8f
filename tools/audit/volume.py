"""Fees: the rates of tiers, and the tier that an account's volume reaches."""

from dataclasses import dataclass, field

from matchbox.shm.records import FEE_TIERS, TIER_BY_VOLUME

DAY_NS = 86_400 * 10**9
DAYS = 30
MAX_DAY = 2**32 - 1


@dataclass
class Rates:
    """Maker and taker rate of each tier, in ppm."""

    maker: list[int] = field(default_factory=lambda: [0] * FEE_TIERS)
    taker: list[int] = field(default_factory=lambda: [0] * FEE_TIERS)
    given: set[int] = field(default_factory=set)  # the tiers that were set

    def allows(self, tier: int, maker: int, taker: int) -> bool:
        """Would every tier's rebate be covered by every tier's taker rate?"""
        then = Rates(list(self.maker), list(self.taker), set(self.given))
        then.set(tier, maker, taker)
        return -min(then.maker) <= min(then.taker)

    def set(self, tier: int, maker: int, taker: int) -> None:
        """Of this tier, and of those above it up to the next that was set."""
        self.given.add(tier)
        for each in range(tier, FEE_TIERS):
            if each > tier and each in self.given:
                break
            self.maker[each], self.taker[each] = maker, taker


@dataclass
class Fees:
    """The fee tables, the tiers' volumes, and what each account has traded."""

    default: Rates = field(default_factory=Rates)
    markets: dict[int, Rates] = field(default_factory=dict)
    tier_volume: dict[int, int] = field(default_factory=dict)
    tier_asset: int = 0
    # (account, quote asset, day) -> value of the fills, in units
    traded: dict[tuple[int, int, int], int] = field(default_factory=dict)

    def table(self, market: int) -> Rates:
        """The table that SET_FEES of this market (0: the default) would change."""
        return self.markets.get(market, Rates()) if market else self.default

    def set(self, market: int, tier: int, maker: int, taker: int) -> None:
        rates = self.markets.setdefault(market, Rates()) if market else self.default
        rates.set(tier, maker, taker)

    def set_tier(self, tier: int, volume: int, asset: int) -> None:
        self.tier_volume[tier] = volume
        if asset != self.tier_asset:
            self.traded.clear()
        self.tier_asset = asset

    def count(self, account: int, asset: int, timestamp_ns: int, value: int) -> None:
        """Add a fill, on the day of the record that caused it, if volume goes by this asset."""
        if asset != self.tier_asset:
            return
        key = account, asset, timestamp_ns // DAY_NS
        self.traded[key] = self.traded.get(key, 0) + value

    def volume(self, account: int, timestamp_ns: int, scale: int) -> int:
        """Over the 30 days before today, in whole units of the asset."""
        today = timestamp_ns // DAY_NS
        days = (
            self.traded.get((account, self.tier_asset, day), 0)
            for day in range(today - DAYS, today)
        )
        return sum(min(units // 10**scale, MAX_DAY) for units in days)

    def tier(self, account: int, chosen: int, timestamp_ns: int, scale: int) -> int:
        """The tier of an account now; `chosen` is what an operator set."""
        if chosen != TIER_BY_VOLUME:
            return chosen
        volume = self.volume(account, timestamp_ns, scale)
        reached = (t for t, least in self.tier_volume.items() if least and volume >= least)
        return max(reached, default=0)

    def rates(self, market: int, tier: int) -> tuple[int, int]:
        """(maker, taker) of a tier in a market."""
        table = self.markets.get(market, self.default)
        return table.maker[tier], table.taker[tier]

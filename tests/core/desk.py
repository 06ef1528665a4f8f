"""One account with little money in a whole exchange, for the tests of records that go together."""

from typing import Any

from matchbox.shm.reasons import Reason
from matchbox.shm.records import EventKind
from matchbox.shm.session import Session
from tests.core.exchange import Exchange, plan
from tests.core.flows import commands

ACCOUNT = 9
# Of the quote asset for a lot at one tick; of the base asset for a lot.
UNIT = 10**8
_KINDS = {kind.value: kind.name for kind in EventKind}


class Desk:
    """A bot with `amount` units of each asset, and another one, of account 2, with plenty."""

    def __init__(self, amount: int = 10**12, **shape: Any) -> None:
        self.exchange = Exchange(plan(**shape))
        self.bot = self.exchange.attach("bot", ACCOUNT)
        self.other = self.exchange.attach("other", 2)
        assert self.exchange.operator is not None
        for asset in (1, 2):
            self.exchange.operator.transfer(1, asset, amount_units=2**58 - amount, account=ACCOUNT)
        self.told()
        self.told(self.other)

    def told(self, of: Session | None = None) -> list[Any]:
        """The session's next reports, after everything that must hold was looked at."""
        self.exchange.settle()
        self.exchange.sequencer.check()
        for k in range(self.exchange.plan.matchers):
            self.exchange.agents[f"matcher-{k}"].validate()
        return list((of or self.bot).reports())

    def send(self, *rows: dict[str, Any]) -> list[Any]:
        """The reports of records that are published at once."""
        self.bot.submit(commands(*rows))
        return self.told()

    def story(self, *rows: dict[str, Any]) -> list[tuple[Any, ...]]:
        """The same as (kind, and reason if there is one)."""
        return [short(report) for report in self.send(*rows)]

    def trade_at(self, price: int) -> None:
        """The last price is this one now."""
        self.other.sell(1, quantity_lots=1, price_ticks=price)
        self.other.buy(1, quantity_lots=1, price_ticks=price)
        self.told(self.other)

    def open(self) -> list[int]:
        """Order ids of what is open of the bot's account."""
        return [int(i) for i in self.exchange.sequencer.open_orders(ACCOUNT)["order_id"]]

    def money(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """(free, held) of base and quote."""
        sequencer = self.exchange.sequencer
        return sequencer.balance(ACCOUNT, 1), sequencer.balance(ACCOUNT, 2)

    def replay(self) -> None:
        """The log played again gives the same events and state."""
        again = Exchange(self.exchange.plan, define=False)
        log, done = self.exchange.log, 0
        while done < len(log):
            done += again.sequencer.replay(log[done:])
            again.settle()
        assert again.log.tobytes() == log.tobytes()
        assert again.events() == self.exchange.events()
        assert again.state_hash() == self.exchange.state_hash()


def short(report: Any) -> tuple[Any, ...]:
    """(kind, and reason if there is one) of a report."""
    kind = _KINDS[int(report["kind"])]
    return (kind, Reason(report["reason"]).name) if report["reason"] else (kind,)

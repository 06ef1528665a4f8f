"""An engine without an exchange comes to what the exchange came to."""

import numpy as np
import pytest

from matchbox.core import snapshot
from matchbox.shm.records import COMMAND, NEW_ORDER, Kind, OrderType, Side, TimeInForce
from matchbox.tools.catalog import Catalog
from matchbox.tools.replica import Replica
from tests.core.exchange import Exchange, plan


def test_what_was_settled_late_is_replayed_and_saved() -> None:
    """Matchers were some 20,000 records behind the sequencer."""
    count = 20_000
    exchange = Exchange(
        plan(1, log_slots=1 << 15, event_slots=1 << 15, max_orders=1 << 15, market_data_slots=1024)
    )
    bot = exchange.attach(command_slots=1 << 15, report_slots=1 << 17)
    rows = np.zeros(count, NEW_ORDER)
    rows["kind"], rows["market"], rows["side"] = Kind.NEW_ORDER, 1, Side.BUY
    rows["order_type"], rows["time_in_force"] = OrderType.LIMIT, TimeInForce.GTC
    rows["price_ticks"], rows["quantity_lots"] = np.arange(count) % 500 + 100, 3
    bot.submit(rows.view(COMMAND))
    while exchange.sequencer.poll():
        exchange.journal()
    late = exchange.log[-1]
    assert int(late["settled_lag"]) > count - 100
    exchange.settle()
    log = exchange.log
    catalog = Catalog()
    catalog.learn(log)
    for publisher in (False, True):
        replica = Replica(exchange.plan, catalog, {}, publisher=publisher)
        replica.replay(log)
        if publisher:
            image = replica.save()
            assert image is not None and image.unsettled > count - 100
            again = Replica(exchange.plan, catalog, {}, image=image)
            again.finish()
            assert again.state() == _of(exchange)
        replica.finish()
        assert replica.state() == _of(exchange)


def _of(exchange: Exchange) -> dict[str, dict[str, object]]:
    """The state of the exchange, as a replica says it."""
    while exchange.sequencer.settle():
        pass
    matcher = exchange.agents["matcher-0"]
    markets = {str(number): matcher.state_hash(number) for number in matcher.markets}
    return {
        "sequencer": {
            "position": exchange.sequencer.position,
            "hash": exchange.sequencer.state_hash(),
        },
        "matcher-0": {
            "position": matcher.position,
            "hash": matcher.state_hash(),
            "markets": markets,
        },
    }


def test_a_replica_without_records_is_not_saved() -> None:
    replica = Replica(plan(1), Catalog(), {}, publisher=True)
    assert replica.save() is None
    with pytest.raises(ValueError, match="the log is empty"):
        snapshot.save(replica.plan, replica._agents, replica._segments.__getitem__)

"""The plan of an instance: a configuration, and what its journal defines, for the engine."""

import secrets
from dataclasses import replace

from matchbox.core import snapshot
from matchbox.core.plan import Plan, PlanMarket, PlanThread
from matchbox.tools.catalog import Catalog, placements
from matchbox.tools.config import Config
from matchbox.tools.process import STANDBY

# Room for markets that are added while it runs, unless limits.max_orders says how much.
_SPARE_ORDERS = 65536


def make_plan(
    config: Config, epoch: int, catalog: Catalog, image: snapshot.Image | None = None
) -> Plan:
    """The plan of a configuration and what is defined, for an engine that begins with `image`, if
    there is one. The journaler gets a thread of its own wherever it is.

    The image's markets have their memory from the start. Another one whose number has been removed
    once gets it when the replay comes to it.
    """
    markets = {
        n: PlanMarket(n, 0, m.max_orders, m.max_specials)
        for n, m in catalog.markets.items()
        if catalog.never_removed(n)
    }
    markets |= {market.number: market for market in image.markets} if image else {}
    wanted = {market.id: market.matcher for market in config.markets}
    matchers = placements(config.matchers, markets, wanted, {})
    threads = []
    for number, process in enumerate(config.processes):
        engine = tuple(agent for agent in process.agents if agent != "journaler")
        if engine:
            threads.append(PlanThread(process.name, number, engine, process.core, process.idle))
        if "journaler" in process.agents:
            name = f"{process.name}.journal" if engine else process.name
            threads.append(PlanThread(name[:31], number, ("journaler",), process.core, "park"))
    if config.standby.enabled:
        threads.append(PlanThread("standby", STANDBY, ("standby",), None, "park"))
    return Plan(
        instance=config.instance,
        epoch=epoch,
        matchers=config.matchers,
        log_slots=config.rings.log,
        event_slots=config.rings.events,
        market_data_slots=config.rings.market_data,
        command_slots=config.rings.commands,
        report_slots=config.rings.reports,
        max_sessions=config.limits.max_sessions + 1,
        max_accounts=config.limits.max_accounts,
        max_assets=config.limits.max_assets,
        max_markets=config.limits.max_markets,
        markets=tuple(
            replace(market, matcher=matchers[number]) for number, market in markets.items()
        ),
        threads=tuple(threads),
        seed=secrets.randbits(63),
        max_balances=config.limits.max_balances,
        max_references=config.limits.max_references,
        order_capacity=max(
            config.limits.max_orders
            or _SPARE_ORDERS + sum(market.max_orders for market in catalog.markets.values()),
            catalog.most_orders,
        ),
    )

"""What is defined, as the log leaves it, and how the configuration compares with that."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from matchbox.shm.errors import MatchboxError
from matchbox.shm.records import LOG_RECORD, MARKET_RECORD, NAMED_RECORD, Kind
from matchbox.tools import config
from matchbox.tools.catalog import Catalog, defined, placements
from matchbox.tools.config import Config

TEXT = config.DEMO.read_text()


def demo(change: str = "", into: str = "") -> Config:
    assert not change or change in TEXT
    return config.parse(TEXT.replace(change, into, 1), "demo.toml")


def removal(kind: Kind, number: int, sequence: int = 50) -> NDArray[Any]:
    row = np.zeros(1, NAMED_RECORD)
    row["kind"], row["id"], row["sequence"] = kind, number, sequence
    return row.view(LOG_RECORD)


def missing(catalog: Catalog, of: Config) -> tuple[list[str], list[str]]:
    """Kinds of what the log lacks, and what was said."""
    said: list[str] = []
    found = catalog.missing(of, said.append)
    return [Kind(int(kind)).name for kind in found["kind"]], said


def test_definitions_are_learnt_and_forgotten() -> None:
    catalog = defined(demo())
    assert [market.symbol for market in catalog.markets.values()] == ["BTC/USDT", "ETH/USDT"]
    assert (catalog.markets[1].base.name, catalog.markets[1].quote.name) == ("BTC", "USDT")
    assert catalog.named(Kind.ADD_MARKET, "ETH/USDT") == 2
    most = catalog.most_orders
    assert most == sum(market.max_orders for market in catalog.markets.values())
    refused = removal(Kind.REMOVE_MARKET, 1)
    refused["reject"] = 120
    catalog.learn(refused)
    assert catalog.never_removed(2) and 2 in catalog.markets
    catalog.learn(removal(Kind.REMOVE_MARKET, 2, 77))
    assert [*catalog.markets] == [1]
    assert not catalog.never_removed(2) and catalog.removals[2] == [77]
    assert catalog.most_orders == most
    assert catalog.named(Kind.ADD_MARKET, "ETH/USDT") == 0
    catalog.learn(removal(Kind.REMOVE_ASSET, 3))
    assert 3 not in catalog.assets


def test_a_number_is_given_that_never_was() -> None:
    catalog = defined(demo())
    catalog.learn(removal(Kind.REMOVE_MARKET, 2))
    assert catalog.next_number(Kind.ADD_MARKET, 100) == 3
    assert catalog.next_number(Kind.ADD_MARKET, 2) == 2
    assert catalog.next_number(Kind.ADD_MARKET, 1) == 2  # which is refused, since there is no room


def test_what_the_log_lacks_is_added() -> None:
    assert missing(defined(demo()), demo()) == ([], [])
    kinds, said = missing(Catalog(), demo())
    assert kinds[0] == "ADD_ASSET" and kinds[-1] == "ADD_MARKET" and said == []


def test_what_was_removed_stays_so_until_its_table_is_changed() -> None:
    catalog = defined(demo())
    catalog.learn(removal(Kind.REMOVE_MARKET, 2))
    kinds, (said,) = missing(catalog, demo())
    assert kinds == []
    assert said.startswith("Market 2 (ETH/USDT) was removed while the exchange ran, and stays so")
    assert "`matchbox market add`" in said and "demo.toml" in said
    changed = demo('symbol = "ETH/USDT"', 'symbol = "ETH/USDT.2"')
    assert missing(catalog, changed) == (["ADD_MARKET"], [])


def test_a_table_that_says_something_else_than_the_log_is_an_error() -> None:
    with pytest.raises(MatchboxError, match="market 2 is defined otherwise in the journal"):
        missing(defined(demo()), demo('symbol = "ETH/USDT"', 'symbol = "ETH/USDT.2"'))


def test_a_new_table_with_a_name_of_the_log_is_an_error() -> None:
    catalog = defined(demo())
    other = catalog.markets[2].record.copy()
    other["market"] = 9
    catalog.learn(removal(Kind.REMOVE_MARKET, 2))
    catalog.learn(np.array([other], MARKET_RECORD).view(LOG_RECORD))
    text = TEXT.replace("id = 2", "id = 5")
    assert text != TEXT
    with pytest.raises(MatchboxError, match=r"Market 5 \(ETH/USDT\): market 9 of the journal has"):
        missing(catalog, config.parse(text, "demo.toml"))


def test_a_new_market_of_an_asset_that_was_removed_is_an_error() -> None:
    catalog = defined(demo())
    catalog.learn(removal(Kind.REMOVE_MARKET, 2))
    catalog.learn(removal(Kind.REMOVE_ASSET, catalog.named(Kind.ADD_ASSET, "ETH")))
    assert missing(catalog, demo())[0] == []
    changed = demo('symbol = "ETH/USDT"', 'symbol = "ETH/USDT.2"')
    with pytest.raises(MatchboxError, match="needs asset 3, which was removed"):
        missing(catalog, changed)


def test_markets_go_where_there_are_the_fewest() -> None:
    assert placements(2, [1, 2, 3], {}, {}) == {1: 0, 2: 1, 3: 0}
    assert placements(3, [1, 2, 3, 4], {1: 2, 3: 2}, {}) == {1: 2, 2: 0, 3: 2, 4: 1}
    assert placements(2, [9], {}, {1: 0, 2: 1, 3: 1}) == {1: 0, 2: 1, 3: 1, 9: 0}

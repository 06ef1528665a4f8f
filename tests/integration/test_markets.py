"""Markets, assets and accounts come and go on a running exchange, from the command line, under the
eyes of sessions that were attached before."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import matchbox
from matchbox.shm import segment
from matchbox.shm.connect import look
from matchbox.shm.reasons import Reason
from matchbox.shm.records import COMMAND, NAMED_RECORD, EventKind, Kind
from matchbox.tools.config import Asset, market_record
from matchbox.tools.reconcile import recompute
from tests.integration.conftest import TOPOLOGIES, ExchangeProcess, collect, wait_for

Make = Callable[..., ExchangeProcess]
ETH = ("--base", "ETH", "--quote", "USD", "--tick", "0.01", "--lot", "0.0001")


def command(exchange: ExchangeProcess, *words: str) -> tuple[int, str, str]:
    """Exit status, output and errors of `matchbox WORDS`, EXCHANGE in them being this one."""
    words = tuple(str(exchange.data) if word == "EXCHANGE" else word for word in words)
    result = subprocess.run(
        [sys.executable, "-m", "matchbox.tools.cli", *words],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin:/bin"},
    )
    return result.returncode, result.stdout, result.stderr


def good(exchange: ExchangeProcess, *words: str) -> Any:
    status, out, err = command(exchange, *words, "--json")
    assert (status, err) == (0, ""), err
    return json.loads(out)


def refused(exchange: ExchangeProcess, *words: str) -> str:
    status, out, err = command(exchange, *words)
    assert (status, out) == (1, ""), out
    return err


def rules(exchange: ExchangeProcess) -> dict[str, dict[str, Any]]:
    return {row["symbol"]: row for row in good(exchange, "market", "list", "EXCHANGE")}


def list_eth(exchange: ExchangeProcess, *options: str) -> int:
    """ETH and ETH/USD are added, and alice has 10 ETH; the market's number."""
    good(exchange, "asset", "add", "EXCHANGE", "ETH", "--scale", "8")
    added = good(exchange, "market", "add", "EXCHANGE", "ETH/USD", *ETH, *options)
    good(exchange, "deposit", "EXCHANGE", "alice", "ETH", "10", "--reference", "first-eth")
    return int(added["number"])


def fill(seller: matchbox.Session, buyer: matchbox.Session, price: str = "2000") -> list[int]:
    """One trade of half of what is offered in ETH/USD; the trade ids that the buyer is told."""
    collect(seller, seller.sell("ETH/USD", "1", price))
    position = buyer.buy("ETH/USD", "0.5", price)
    found: list[Any] = []

    def traded() -> list[int]:
        found.extend(buyer.reports(timeout=0.1))
        return [int(r["trade_id"]) for r in found if r["kind"] == EventKind.TRADE]

    assert position
    return wait_for(traded, "it is filled")


def reconciled(exchange: ExchangeProcess) -> None:
    outcome = recompute(str(exchange.data))
    assert outcome.good, outcome.differences


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_a_market_that_was_added_is_traded_and_is_there_after_a_restart(
    make_exchange: Make, topology: str
) -> None:
    exchange = make_exchange(topology).up()
    seller, buyer = exchange.connect("alice"), exchange.connect("bob")
    changes = buyer.market_data()
    number = list_eth(exchange)
    assert number == 3
    assert [*buyer.markets] == ["BTC/USD", "BTC/USD.2", "ETH/USD"]
    assert fill(seller, buyer) == [1]
    book = buyer.book("ETH/USD")
    wait_for(lambda: book.best() == (0, 0, 200000, 5000), "the book shows what is left")
    assert {int(change["market"]) for change in changes.read(timeout=10)} == {number}
    good(exchange, "market", "set", "EXCHANGE", "ETH/USD", "--band-up", "500", "--band-down", "400")
    before = rules(exchange)["ETH/USD"]
    assert (before["band_up"], before["last"], before["orders"]) == (500, "2000.00", 1)
    shown = json.loads(command(exchange, "status", "EXCHANGE", "--json")[1])
    assert [market["symbol"] for market in shown["markets"]][-1] == "ETH/USD"
    stopped = exchange.down()
    reconciled(exchange)
    exchange.up()
    assert f"state hash {stopped['hash']}." in exchange.text().rsplit("Replayed the journal", 1)[1]
    assert rules(exchange)["ETH/USD"] == before
    with exchange.connect("bob") as again:
        collect(again, again.buy("ETH/USD", "0.25", "2000"))
        wait_for(lambda: again.book("ETH/USD").top().trades == 2, "it trades on")
    exchange.down()
    reconciled(exchange)
    assert exchange.segments() == []


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_a_market_is_removed_and_its_number_given_again(make_exchange: Make, topology: str) -> None:
    exchange = make_exchange(topology).up()
    seller, buyer = exchange.connect("alice"), exchange.connect("bob")
    number = list_eth(exchange, "--max-orders", "1000")
    assert fill(seller, buyer) == [1]
    remove = ("market", "remove", "EXCHANGE", "ETH/USD")
    assert "MARKET_IN_USE" in refused(exchange, *remove)
    good(exchange, "market", "set", "EXCHANGE", "ETH/USD", "--cancel-orders")
    book = buyer.book("ETH/USD")
    wait_for(lambda: rules(exchange)["ETH/USD"]["orders"] == 0, "its orders are canceled")
    assert good(exchange, *remove)["number"] == number
    assert f"depth-{number}" not in {name.part for name in exchange.segments()}
    with pytest.raises(matchbox.MarketRemoved):
        book.best()
    with pytest.raises(matchbox.SessionError, match="UNKNOWN_MARKET"):
        buyer.market("ETH/USD")
    stale = new_order(number)
    buyer.submit(stale)
    report = collect(buyer, buyer.sent)[-1]
    assert report["reason"] == Reason.UNKNOWN_MARKET
    assert "UNKNOWN_MARKET" in refused(exchange, *remove)
    # Other ticks and lots, and a smaller book.
    other = ("--base", "ETH", "--quote", "USD", "--tick", "0.5", "--lot", "0.01")
    sizes = ("--max-orders", "500", "--max-specials", "70", "--id", str(number))
    assert (
        good(exchange, "market", "add", "EXCHANGE", "ETH/USD", *other, *sizes)["number"] == number
    )
    assert str(buyer.market("ETH/USD").tick_size) == "0.5"
    assert fill(seller, buyer) == [2]
    stopped = exchange.down()
    reconciled(exchange)
    for _ in range(2):
        exchange.up()
        said = exchange.text().rsplit("Replayed the journal", 1)[1]
        assert f"state hash {stopped['hash']}." in said
        assert rules(exchange)["ETH/USD"]["tick_size"] == "0.5"
        with exchange.connect("alice") as again:
            assert again.book("ETH/USD").best() == (0, 0, 4000, 50)
        stopped = exchange.down()
    reconciled(exchange)


def new_order(market: int) -> Any:
    row = np.zeros(1, COMMAND)
    row["kind"], row["market"], row["side"] = Kind.NEW_ORDER, market, matchbox.Side.BUY
    row["order_type"], row["time_in_force"] = matchbox.OrderType.LIMIT, matchbox.TimeInForce.GTC
    row["price_ticks"], row["quantity_lots"] = 100, 1
    return row


def test_an_asset_is_removed_when_all_of_it_has_left(make_exchange: Make) -> None:
    exchange = make_exchange().up()
    list_eth(exchange)
    remove = ("asset", "remove", "EXCHANGE", "ETH")
    assert "ASSET_IN_USE" in refused(exchange, *remove)
    good(exchange, "market", "remove", "EXCHANGE", "ETH/USD")
    assert "ASSET_IN_USE" in refused(exchange, *remove)
    withdraw = ("EXCHANGE", "alice")
    good(exchange, "withdraw", "request", *withdraw, "ETH", "10", "--reference", "out")
    assert "ASSET_IN_USE" in refused(exchange, *remove)
    good(exchange, "withdraw", "settle", *withdraw, "--reference", "out")
    number = good(exchange, *remove)["number"]
    assert [row["name"] for row in good(exchange, "asset", "list", "EXCHANGE")] == ["USD", "BTC"]
    assert "--base is no asset" in refused(exchange, "market", "add", "EXCHANGE", "ETH/USD", *ETH)
    again = ("asset", "add", "EXCHANGE", "ETH", "--scale", "6", "--id", str(number))
    assert good(exchange, *again)["number"] == number
    assert "ALREADY_EXISTS" in refused(exchange, *again)
    good(exchange, "deposit", "EXCHANGE", "bob", "ETH", "0.000001", "--reference", "one-unit")
    exchange.down()
    reconciled(exchange)
    exchange.up()
    asset = good(exchange, "asset", "list", "EXCHANGE")[-1]
    assert asset == {"number": number, "name": "ETH", "scale": 6, "supply": "0.000001"}
    exchange.down()


def test_an_account_is_added_and_trades(make_exchange: Make) -> None:
    exchange = make_exchange().up()
    with pytest.raises(matchbox.SessionError, match="ACCOUNT_NOT_PERMITTED"):
        exchange.connect("carol")
    for _ in range(2):
        status, out, err = command(
            exchange, "account", "add", "EXCHANGE", "carol", "--parent", "alice", "--json"
        )
        assert (status == 0) == (err == "")
    assert "ALREADY_EXISTS" in err
    with exchange.connect("alice") as parent, exchange.connect("carol") as child:
        collect(parent, parent.transfer(3, "USD", "100"))
        (report,) = collect(child, child.buy("BTC/USD", "0.5", "100"))
        assert report["kind"] == EventKind.ACCEPTED
    exchange.down()
    exchange.up()
    rows = good(exchange, "account", "list", "EXCHANGE")
    assert rows[-1] == {"number": 3, "name": "carol", "parent": 1}
    with exchange.connect("carol") as child:
        assert len(child.open_orders()) == 1
    exchange.down()
    reconciled(exchange)


def test_what_cannot_be_is_refused_and_nothing_is_half_done(make_exchange: Make) -> None:
    exchange = make_exchange().up()
    add = ("market", "add", "EXCHANGE")
    usual = ("--base", "BTC", "--quote", "USD", "--tick", "0.01", "--lot", "0.0001")
    parts = {name.part for name in exchange.segments()}
    for options, text in (
        (("X", *usual, "--max-orders", "60000000"), "no room for so many open orders"),
        (("BTC/USD", *usual), "ALREADY_EXISTS"),
        (("X", *usual, "--id", "2"), "ALREADY_EXISTS"),
        (("X", *usual, "--id", "5000"), "no such place"),
        (("X", *usual, "--matcher", "1"), "no such matcher"),
    ):
        assert text in refused(exchange, *add, *options)
        assert {name.part for name in exchange.segments()} == parts
    # The engine refuses what the command line would not send, after the memory was set aside.
    record = market_record(
        {
            "id": 9, "symbol": "X", "base": "BTC", "quote": "USD", "tick_size": "0.01",
            "lot_size": "0.0001",
        },
        [Asset(1, "USD", 8), Asset(2, "BTC", 8)],
        {},
    )  # fmt: skip
    record["notional_units"] += 1
    with pytest.raises(matchbox.SessionError, match="BAD_DEFINITION"):
        look(exchange.data).define(record)
    assert {name.part for name in exchange.segments()} == parts
    # Another session's own record has no memory, and its orders do not stop the exchange.
    with exchange.connect("alice", operator=True) as session:
        record["notional_units"] -= 1
        session.submit(record.view(COMMAND))
        assert collect(session, 1)[-1]["reason"] == Reason.NOT_PREPARED
        session.submit(new_order(9))
        assert collect(session, 2)[-1]["reason"] == Reason.UNKNOWN_MARKET
        (accepted,) = collect(session, session.buy("BTC/USD", "1", "100"))
        assert accepted["kind"] == EventKind.ACCEPTED
    assert good(exchange, *add, "X", *usual, "--id", "9")["number"] == 9
    exchange.down()
    reconciled(exchange)


def test_a_depth_table_that_cannot_be_made_is_a_refusal(make_exchange: Make) -> None:
    exchange = make_exchange().up()
    usual = ("--base", "BTC", "--quote", "USD", "--tick", "0.01", "--lot", "0.0001")
    name = segment.SegmentName(exchange.instance, 1, "depth-3")
    segment.create(name, 4096)
    error = refused(exchange, "market", "add", "EXCHANGE", "X", *usual)
    assert "segment exists already" in error
    segment.unlink(name)
    assert good(exchange, "market", "add", "EXCHANGE", "X", *usual)["number"] == 3
    exchange.down()


def test_a_removal_by_a_session_gives_the_memory_back(make_exchange: Make) -> None:
    exchange = make_exchange().up()
    number = list_eth(exchange)
    record = np.zeros(1, NAMED_RECORD)
    record["kind"], record["id"] = Kind.REMOVE_MARKET, number
    with exchange.connect("", operator=True) as session:
        session.submit(record.view(COMMAND))
        assert collect(session, 1)[-1]["kind"] == EventKind.DONE
        assert "ETH/USD" not in session.markets
    assert f"depth-{number}" not in {name.part for name in exchange.segments()}
    assert good(exchange, "market", "add", "EXCHANGE", "ETH/USD", *ETH)["number"] == number + 1
    exchange.down()
    reconciled(exchange)


def test_what_was_removed_stays_so_until_its_table_is_changed(make_exchange: Make) -> None:
    exchange = make_exchange(funded=False).up()
    good(exchange, "market", "remove", "EXCHANGE", "BTC/USD.2")
    exchange.down()
    exchange.up()
    assert (
        "Market 2 (BTC/USD.2) was removed while the exchange ran, and stays so" in exchange.text()
    )
    assert [*rules(exchange)] == ["BTC/USD"]
    exchange.down()
    text = exchange.config.read_text()
    head, mark, rest = text.rpartition("[[market]]")
    exchange.config.write_text(head + mark + rest.replace('"0.01"', '"0.05"'))
    exchange.up()
    assert rules(exchange)["BTC/USD.2"]["tick_size"] == "0.05"
    assert rules(exchange)["BTC/USD.2"]["number"] == 2
    exchange.down()
    # From now on it is in the journal like that.
    exchange.config.write_text(text)
    exchange.begin()
    assert exchange.process is not None
    assert exchange.process.wait(60) == 1
    assert "market 2 is defined otherwise in the journal" in exchange.text()
    # Without its table it is there all the same.
    exchange.config.write_text(head)
    exchange.up()
    assert rules(exchange)["BTC/USD.2"]["tick_size"] == "0.05"
    exchange.down()
    reconciled(exchange)


def test_trading_goes_on_while_markets_come_and_go(make_exchange: Make) -> None:
    """Orders in one market, each answered before the next, while another is added and removed."""
    exchange = make_exchange("wide").up()
    session = exchange.connect("alice")
    waits: list[float] = []
    ended = threading.Event()

    def trade() -> None:
        while not ended.is_set():
            began = time.perf_counter()
            position = session.buy("BTC/USD", "0.0001", "100", time_in_force="IOC")
            collect(session, position)
            waits.append(time.perf_counter() - began)

    thread = threading.Thread(target=trade)
    thread.start()
    usual = ("--base", "BTC", "--quote", "USD", "--tick", "0.01", "--lot", "0.0001")
    for n in range(3):
        added = good(exchange, "market", "add", "EXCHANGE", f"X{n}", *usual, "--id", "7")
        assert added["number"] == 7
        good(exchange, "market", "remove", "EXCHANGE", f"X{n}")
    ended.set()
    thread.join()
    assert len(waits) > 10
    print(f"{len(waits)} orders, longest {max(waits) * 1e3:.1f} ms")
    session.close()
    stopped = exchange.down()
    exchange.up()
    assert f"state hash {stopped['hash']}." in exchange.text().rsplit("Replayed the journal", 1)[1]
    exchange.down()
    reconciled(exchange)


def test_an_exchange_that_was_killed_comes_back_with_its_new_market(make_exchange: Make) -> None:
    exchange = make_exchange().up()
    list_eth(exchange)
    with exchange.connect("alice") as session:
        collect(session, session.sell("ETH/USD", "1", "2000"))
        good(exchange, "market", "remove", "EXCHANGE", "BTC/USD.2")
        assert exchange.process is not None
        exchange.process.kill()
        exchange.process.wait()
    exchange.up()
    assert {*rules(exchange)} == {"BTC/USD", "ETH/USD"}
    assert rules(exchange)["ETH/USD"]["ask"] == "2000.00"
    exchange.down()
    reconciled(exchange)

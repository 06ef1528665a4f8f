"""Operators and money on a real exchange: the command line and the SDK, and what sessions hear."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

import matchbox
from matchbox import EventKind, Reason, ReportFlag
from matchbox.tools.reconcile import recompute
from tests.integration.conftest import ExchangeProcess, collect, wait_for

USD, BTC = 1, 2  # numbers of the assets


def command(exchange: ExchangeProcess, *words: str) -> subprocess.CompletedProcess[str]:
    """`matchbox WORDS`, with the exchange's data folder for EXCHANGE."""
    words = tuple(str(exchange.data) if word == "EXCHANGE" else word for word in words)
    program = [sys.executable, "-m", "matchbox.tools.cli", *words]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(program, capture_output=True, text=True, env=environment, timeout=60)


def good(exchange: ExchangeProcess, *words: str) -> Any:
    """What `matchbox WORDS --json` says."""
    result = command(exchange, *words, "--json")
    assert (result.returncode, result.stderr) == (0, "")
    return json.loads(result.stdout)


def told(reports: list[Any]) -> list[str]:
    return [EventKind(int(report["kind"])).name for report in reports]


@pytest.fixture
def exchange_process(make_exchange: Callable[..., ExchangeProcess]) -> ExchangeProcess:
    """A running exchange in which nobody has anything."""
    return make_exchange(funded=False).up()


@pytest.fixture
def funded(exchange_process: ExchangeProcess) -> ExchangeProcess:
    """Alice and bob have 10,000 USD and 10 BTC each, if nobody gave them more."""
    with exchange_process.connect("", operator=True) as session:
        for account in (1, 2):
            for asset, amount in (("USD", "10000"), ("BTC", "10")):
                position = session.deposit(account, asset, amount, f"first-{asset}-{account}")
                (report,) = collect(session, position)[-1:]
                assert report["kind"] == EventKind.BALANCE, Reason(int(report["reason"]))
    return exchange_process


# ---- what works whether there is money or not


def test_markets_accounts_and_books_are_shown(exchange_process: ExchangeProcess) -> None:
    exchange = exchange_process
    assert [row["name"] for row in good(exchange, "account", "list", "EXCHANGE")] == [
        "alice",
        "bob",
    ]
    symbols = [row["symbol"] for row in good(exchange, "market", "list", "EXCHANGE")]
    assert symbols == ["BTC/USD", "BTC/USD.2"]
    drawn = command(exchange, "book", "EXCHANGE", "BTC/USD")
    assert drawn.returncode == 0 and "the book is empty" in drawn.stdout
    nobody = command(exchange, "market", "set", "EXCHANGE", "XRP/USD", "--state", "halted")
    assert nobody.returncode == 1 and "no such market" in nobody.stderr


def test_no_exchange_is_an_error(exchange_process: ExchangeProcess) -> None:
    exchange_process.down()
    result = command(exchange_process, "account", "list", "EXCHANGE")
    assert result.returncode == 1
    assert result.stderr.startswith("matchbox: no exchange answers")


# ---- money


def test_a_deposit_arrives_once(exchange_process: ExchangeProcess) -> None:
    exchange = exchange_process
    with exchange.connect("alice") as session:
        session.subscribe()
        collect(session, 1)
        words = ("deposit", "EXCHANGE", "alice", "USD", "250.5", "--reference", "wire-1")
        answer = good(exchange, *words)
        (balance,) = answer["balances"]
        assert (balance["account"], balance["asset"]) == ("alice", "USD")
        assert Decimal(balance["change"]) == Decimal("250.5")
        again = command(exchange, *words)
        assert again.returncode == 1
        assert again.stderr.startswith("matchbox: refused: DUPLICATE_REFERENCE (")
        (report,) = session.reports(timeout=10)
        assert report["kind"] == EventKind.BALANCE
        assert (report["market"], report["quantity_lots"]) == (USD, 25_050_000_000)
        assert report["client_order_id"] == b"wire-1"
        assert session.balances()["USD"] == (Decimal("250.5"), Decimal(0))


def test_a_withdrawal_is_held_and_then_leaves(funded: ExchangeProcess) -> None:
    with funded.connect("alice") as session:
        (report,) = collect(session, session.request_withdrawal("USD", "100", "w-1"))
        assert (report["quantity_lots"], report["leaves_lots"]) == (9900 * 10**8, 100 * 10**8)
        collect(session, session.request_withdrawal("USD", "50", "w-2"))
        settled = good(funded, "withdraw", "settle", "EXCHANGE", "alice", "--reference", "w-1")
        assert settled["balances"][0]["held"] == "50.00000000"
        (report,) = collect(session, session.cancel_withdrawal("w-2"))
        assert (report["quantity_lots"], report["leaves_lots"]) == (9900 * 10**8, 0)
        (report,) = collect(session, session.cancel_withdrawal("w-2"))
        assert report["reason"] == Reason.UNKNOWN_REFERENCE
        (report,) = collect(session, session.request_withdrawal("USD", "99999", "w-3"))
        assert report["reason"] == Reason.INSUFFICIENT_BALANCE


def test_a_transfer_is_told_to_both_accounts(funded: ExchangeProcess) -> None:
    with funded.connect("bob") as session:
        session.subscribe()
        collect(session, 1)
        answer = good(funded, "transfer", "EXCHANGE", "alice", "bob", "BTC", "1")
        assert [balance["free"] for balance in answer["balances"]] == ["9.00000000", "11.00000000"]
        (report,) = session.reports(timeout=10)
        assert (report["kind"], report["market"]) == (EventKind.BALANCE, BTC)


def test_a_bot_cannot_operate(funded: ExchangeProcess) -> None:
    with funded.connect("alice") as session:
        (report,) = collect(session, session.deposit(1, "USD", "1", "mine"))
        assert report["reason"] == Reason.NOT_PERMITTED
        (report,) = collect(session, session.transfer(2, "USD", "1"))
        assert report["kind"] == EventKind.REJECTED


# ---- orders


def test_one_cancels_the_other(funded: ExchangeProcess) -> None:
    with funded.connect("alice") as alice, funded.connect("bob") as bob:
        position = alice.oco(
            "BTC/USD", "sell", "1", profit={"price": "11"}, stop={"trigger": "5", "price": "4"}
        )
        done, profit, stop = collect(alice, position + 2)[-3:]
        assert (done["kind"], profit["kind"], stop["kind"]) == (34, 1, 1)
        shown = {int(o["order_id"]): o for o in alice.open_orders()}
        assert shown[int(profit["order_id"])]["partner_id"] == stop["order_id"]
        listed = command(funded, "order", "list", "EXCHANGE").stdout
        assert f"with {int(profit['order_id'])}" in listed
        bob.buy("BTC/USD", "0.5", "11")
        trade, canceled = next_reports(alice, 2)
        assert (trade["kind"], trade["leaves_lots"]) == (EventKind.TRADE, 5000)
        assert canceled["order_id"] == stop["order_id"]
        assert Reason(canceled["reason"]) == Reason.LIST_ENDED
        alice.cancel(int(profit["order_id"]))
        (canceled,) = next_reports(alice, 1)
        assert canceled["quantity_lots"] == 5000


def test_one_triggers_a_pair(funded: ExchangeProcess) -> None:
    with funded.connect("alice") as alice, funded.connect("bob") as bob:
        position = alice.otoco(
            "BTC/USD",
            working={"side": "buy", "quantity": "1", "price": "9"},
            profit={"price": "12", "client_order_id": "out"},
            stop={"trigger": "5"},
        )
        pending = collect(alice, position + 3)[-2:]
        assert {int(report["flags"]) for report in pending} == {ReportFlag.WAS_PENDING}
        assert "pending" in command(funded, "order", "list", "EXCHANGE").stdout
        bob.sell("BTC/USD", "1", "9")
        trade, profit, stop = next_reports(alice, 3)
        assert trade["kind"] == EventKind.TRADE
        assert (profit["kind"], stop["kind"]) == (EventKind.ACCEPTED, EventKind.ACCEPTED)
        assert (profit["flags"], stop["flags"]) == (ReportFlag.RELEASED, ReportFlag.RELEASED)
        assert profit["command_position"] == pending[0]["order_id"]
        alice.cancel(client_order_id="out")
        canceled = next_reports(alice, 2)
        assert [Reason(r["reason"]) for r in canceled] == [Reason.ON_REQUEST, Reason.LIST_ENDED]


def test_an_order_comes_in_the_place_of_another(funded: ExchangeProcess) -> None:
    with funded.connect("alice") as alice:
        alice.buy("BTC/USD", "1", "9", client_order_id="a")
        (accepted,) = next_reports(alice, 1)
        order_id = int(accepted["order_id"])
        position = alice.replace(order_id, "BTC/USD", "buy", "1", "8", client_order_id="a")
        canceled, accepted = next_reports(alice, 2)
        assert (canceled["kind"], canceled["order_id"]) == (EventKind.CANCELED, order_id)
        assert (accepted["kind"], accepted["price_ticks"]) == (EventKind.ACCEPTED, 800)
        assert int(accepted["command_position"]) == position
        alice.cancel(client_order_id="a")
        (canceled,) = next_reports(alice, 1)
        assert canceled["order_id"] == accepted["order_id"]


def next_reports(session: matchbox.Session, count: int) -> list[Any]:
    """The next `count` reports of orders, and no more."""
    found: list[Any] = []
    while len(found) < count:
        found.extend(r for r in session.reports(timeout=30) if r["kind"] < EventKind.ATTACHED)
    assert len(found) == count, found
    return found


def test_open_orders_are_listed_and_canceled(funded: ExchangeProcess) -> None:
    with funded.connect("alice") as session:
        position = session.buy("BTC/USD", "0.5", "100", client_order_id="mine")
        (report,) = collect(session, position)
        order = str(int(report["order_id"]))
        (row,) = good(funded, "order", "list", "EXCHANGE", "--account", "alice")
        assert (row["market"], row["side"], row["client_order_id"]) == ("BTC/USD", "buy", "mine")
        assert (Decimal(row["price"]), Decimal(row["open"])) == (100, Decimal("0.5"))
        assert row["hold"] == "50.00000000 USD"
        assert good(funded, "account", "show", "EXCHANGE", "alice")["open_orders"] == 1
        assert session.open_orders()[0]["order_id"] == int(order)
        assert session.balances()["USD"] == (Decimal(9950), Decimal(50))
        good(funded, "order", "cancel", "EXCHANGE", order)
        (report,) = session.reports(timeout=10)
        assert (report["kind"], report["client_order_id"]) == (EventKind.CANCELED, b"mine")
        wait_for(lambda: session.open_orders() == [], "the exchange has settled it")


def test_all_orders_are_canceled_at_once(funded: ExchangeProcess) -> None:
    with funded.connect("alice") as session:
        for n in range(5):
            position = session.sell("BTC/USD", "0.1", str(200 + n))
        collect(session, position)
        done = good(funded, "order", "cancel", "EXCHANGE", "--all", "--account", "alice")
        assert done["sequence"] > 0
        reports: list[Any] = []

        def all_gone() -> bool:
            reports.extend(session.reports(timeout=0.1))
            return len(reports) == 5

        wait_for(all_gone, "every order is canceled")
        assert {Reason(int(report["reason"])) for report in reports} == {Reason.MASS_CANCELED}


def test_the_end_of_a_session_cancels_its_orders_if_it_wished_so(funded: ExchangeProcess) -> None:
    with funded.connect("alice") as observer:
        observer.subscribe()
        collect(observer, 1)
        staying, leaving = funded.connect("alice"), funded.connect("alice", cancel_on_detach=True)
        for session in (staying, leaving):
            collect(session, session.buy("BTC/USD", "0.1", "100"))
        leaving.close()
        staying.close()
        reports: list[Any] = []

        def canceled() -> bool:
            reports.extend(observer.reports(timeout=0.1))
            return "CANCELED" in told(reports)

        wait_for(canceled, "its orders are canceled")
        time.sleep(0.2)
        reports.extend(observer.reports())
        assert told(reports) == ["ACCEPTED", "ACCEPTED", "CANCELED"]
        assert reports[-1]["reason"] == Reason.SESSION_ENDED
        assert observer.book("BTC/USD").best()[:2] == (10000, 1000)


def test_a_countdown_that_runs_out_cancels(funded: ExchangeProcess) -> None:
    with funded.connect("alice") as session:
        collect(session, session.buy("BTC/USD", "0.1", "100"))
        (done,) = collect(session, session.countdown(500))
        assert done["kind"] == EventKind.DONE
        (report,) = session.reports(timeout=10)
        assert report["reason"] == Reason.COUNTDOWN_ENDED


def test_an_order_expires_at_its_time(funded: ExchangeProcess) -> None:
    with funded.connect("alice") as session:
        at = time.time_ns() + 1_000_000_000
        terms, accepted = collect(session, session.buy("BTC/USD", "0.1", "100", expire=at))
        assert told([terms, accepted]) == ["DONE", "ACCEPTED"]
        (report,) = session.reports(timeout=10)
        assert (report["kind"], report["reason"]) == (EventKind.CANCELED, Reason.GTD_EXPIRED)
        assert int(report["timestamp_ns"]) >= at


def test_an_iceberg_shows_a_slice_at_a_time(funded: ExchangeProcess) -> None:
    with funded.connect("alice") as session, funded.connect("bob") as other:
        collect(session, session.sell("BTC/USD", "1", "100", display="0.25"))
        book = session.book("BTC/USD")
        assert book.best()[2:] == (10000, 2500)
        reports = collect(other, other.buy("BTC/USD", "0.3", "100", time_in_force="IOC"))
        while len(reports) < 3:
            reports.extend(other.reports(timeout=10))
        assert told(reports) == ["ACCEPTED", "TRADE", "TRADE"]
        wait_for(lambda: book.best()[2:] == (10000, 2000), "the second slice is shown")


def test_a_stop_order_waits_and_is_triggered(funded: ExchangeProcess) -> None:
    with funded.connect("alice") as session, funded.connect("bob") as other:
        stop = {"order_type": "stop_loss_limit", "trigger": "90"}
        (accepted,) = collect(session, session.sell("BTC/USD", "1", "89", **stop))
        assert session.book("BTC/USD").best() == (0, 0, 0, 0)
        other.buy("BTC/USD", "0.1", "90")
        collect(other, other.sell("BTC/USD", "0.1", "90"))
        (report,) = session.reports(timeout=10)
        assert told([report]) == ["TRIGGERED"]
        assert report["order_id"] == accepted["order_id"]
        wait_for(lambda: session.book("BTC/USD").best()[2:] == (8900, 10000), "it rests")


def test_fills_cost_what_the_operator_set(funded: ExchangeProcess) -> None:
    good(funded, "fees", "set", "EXCHANGE", "0", "--maker", "-100", "--taker", "1000")
    with funded.connect("alice") as session, funded.connect("bob") as other:
        collect(session, session.sell("BTC/USD", "1", "100"))
        bought = collect(other, other.buy("BTC/USD", "1", "100"))
        while told(bought)[-1] == "ACCEPTED":
            bought.extend(other.reports(timeout=10))
        trade = next(r for r in bought if r["kind"] == EventKind.TRADE)
        (sold,) = session.reports(timeout=10)
        # A thousandth of the bitcoin that was bought, a tenth of that for the maker.
        assert (int(trade["fee"]), int(sold["fee"])) == (100_000, -10_000)
        free = wait_for(lambda: _settled(other, "BTC", Decimal("10.999")), "it is settled")
        assert free
        assert session.balances()["USD"][0] == Decimal(10100)


def _settled(session: matchbox.Session, asset: str, free: Decimal) -> bool:
    return session.balances()[asset][0] == free


def test_a_market_order_by_amount_spends_it(funded: ExchangeProcess) -> None:
    with funded.connect("alice") as session, funded.connect("bob") as other:
        collect(session, session.sell("BTC/USD", "1", "100"))
        reports = collect(other, other.buy("BTC/USD", quote_amount="25"))
        while told(reports)[-1] == "ACCEPTED":
            reports.extend(other.reports(timeout=10))
        trade = next(r for r in reports if r["kind"] == EventKind.TRADE)
        assert (trade["quantity_lots"], trade["leaves_lots"]) == (2500, 0)


# ---- rules


def test_a_halted_market_takes_nothing(funded: ExchangeProcess) -> None:
    good(funded, "market", "set", "EXCHANGE", "BTC/USD", "--state", "halted", "--note", "test")
    with funded.connect("alice") as session:
        (report,) = collect(session, session.buy("BTC/USD", "0.1", "100"))
        assert report["reason"] == Reason.MARKET_HALTED
        (report,) = collect(session, session.buy("BTC/USD.2", "0.1", "100"))
        assert report["kind"] == EventKind.ACCEPTED


def test_a_kill_switch_cancels_and_freezes(funded: ExchangeProcess) -> None:
    with funded.connect("alice") as session:
        collect(session, session.buy("BTC/USD", "0.1", "100"))
        options = ("--state", "frozen", "--cancel-orders")
        good(funded, "account", "set", "EXCHANGE", "alice", *options)
        (report,) = session.reports(timeout=10)
        assert report["reason"] == Reason.ACCOUNT_KILLED
        (report,) = collect(session, session.buy("BTC/USD", "0.1", "100"))
        assert report["reason"] == Reason.ACCOUNT_FROZEN


def test_the_log_shows_who_did_it(funded: ExchangeProcess) -> None:
    good(funded, "account", "set", "EXCHANGE", "bob", "--tier", "3", "--note", "by agreement")
    wait_for(lambda: "by agreement" in _log(funded, "set-account"), "it is in the journal")
    assert f"operator={os.getuid()}" in _log(funded, "set-account")
    assert "account=bob changes=tier tier=3" in _log(funded, "set-account")
    assert "account=alice 10000.00000000 USD reference=first-USD-1" in _log(funded, "deposit")


def _log(exchange: ExchangeProcess, kind: str) -> str:
    return command(exchange, "log", "EXCHANGE", "--kind", kind).stdout


def test_orders_by_the_array_have_terms_and_modes(funded: ExchangeProcess) -> None:
    with funded.connect("alice") as session:
        batch = np.zeros(3, matchbox.COMMAND)
        batch["kind"] = matchbox.Kind.NEW_ORDER
        batch["market"], batch["side"] = 1, matchbox.Side.SELL
        batch["order_type"], batch["time_in_force"] = matchbox.OrderType.LIMIT, 1
        batch["price_ticks"], batch["quantity_lots"] = 10000, 100
        batch.view(matchbox.NEW_ORDER)["self_trade"] = matchbox.SelfTrade.EXPIRE_MAKER
        batch[1:2] = np.zeros(1, matchbox.COMMAND)
        terms = batch[1:2].view(matchbox.TERMS_RECORD)
        terms["kind"], terms["market"] = matchbox.Kind.ORDER_TERMS, 1
        terms["display_lots"] = 10
        session.submit(batch)
        assert told(collect(session, 3)) == ["ACCEPTED", "DONE", "ACCEPTED"]
        assert session.book("BTC/USD").best()[2:] == (10000, 110)
        reports = collect(session, session.buy("BTC/USD", "0.01", "100", self_trade="expire_maker"))
        while len(reports) < 3:
            reports.extend(session.reports(timeout=10))
        assert told(reports) == ["ACCEPTED", "EXPIRED", "EXPIRED"]
        assert session.book("BTC/USD").best() == (10000, 100, 0, 0)


def test_a_running_exchange_at_rest_agrees_with_its_recomputed_journal(
    funded: ExchangeProcess,
) -> None:
    good(funded, "fees", "set", "EXCHANGE", "0", "--maker", "-100", "--taker", "1000")
    with funded.connect("alice") as session, funded.connect("bob") as other:
        collect(session, session.sell("BTC/USD", "1", "100"))
        collect(other, other.buy("BTC/USD", "0.3", "100"))
    funded_data = str(funded.data)

    def compared() -> bool:
        outcome = recompute(funded_data)
        assert outcome.differences == []
        return outcome.compared

    wait_for(compared, "the journal is as far as the engine")
    funded.down()
    assert recompute(funded_data).good

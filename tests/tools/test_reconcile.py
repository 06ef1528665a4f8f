"""`matchbox reconcile`: what it adds up, what it finds, and how it says so."""

import json
from pathlib import Path

import numpy as np
import pytest

from matchbox.persistence.journal import Writer
from matchbox.shm.errors import BadArgument
from matchbox.shm.records import Kind, ListType
from matchbox.tools import cli, reconcile
from tests.tools.audit_log import BTC, OPERATOR, USD, Log


def journal(log: Log, folder: Path) -> Path:
    with Writer(folder / "journal") as writer:
        writer.append(np.concatenate(log.records))
    return folder


@pytest.fixture
def log() -> Log:
    """5 BTC wait on the book, 700 USD for a withdrawal; 300 USD have left."""
    log = Log()
    log.order(1, "sell", 5, 100)
    request = {"account": 1, "asset": USD}
    log.money(Kind.REQUEST_WITHDRAWAL, amount=300, reference=b"a", **request)
    log.money(Kind.REQUEST_WITHDRAWAL, amount=700, reference=b"b", **request)
    settled = {"session": OPERATOR, "amount": 300, "reference": b"a"}
    log.money(Kind.SETTLE_WITHDRAWAL, **request, **settled)
    return log


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["matchbox", "reconcile", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


def test_each_asset_adds_up(log: Log, tmp_path: Path) -> None:
    outcome = reconcile.recompute(str(journal(log, tmp_path)))
    assert outcome.good and outcome.records == log.sequence
    btc, usd = outcome.rows
    assert (btc.deposited, btc.free, btc.held_for_orders, btc.difference) == (20_000, 19_995, 5, 0)
    assert (usd.deposited, usd.withdrawn, usd.held_for_withdrawals) == (20_000, 300, 700)


def test_the_command_prints_a_table_and_ends_well(
    log: Log,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(monkeypatch, str(journal(log, tmp_path))) == 0
    out = capsys.readouterr().out
    assert out.split("\n")[1].split() == ["BTC", "20,000", "0", "19,995", "5", "0", "0", "0"]
    assert "all is as the rules say" in out


def test_a_record_that_breaks_the_rules_is_named(
    log: Log,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    log.order(1, "buy", 5, 10, hold=49)
    place = str(journal(log, tmp_path))
    assert run(monkeypatch, place) == 1
    text = f"record {log.sequence}: NEW_ORDER: hold: expected 50, found 49"
    assert text in capsys.readouterr().out
    assert run(monkeypatch, place, "--json") == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["differences"] == [text] and not answer["good"]
    assert answer["assets"][0]["asset"] == "BTC" and answer["assets"][0]["held_for_orders"] == 5


def test_what_cannot_be_recomputed_ends_it(log: Log, tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        log.order(1, "buy", 5, 10, market=7)
    outcome = reconcile.recompute(str(journal(log, tmp_path)))
    assert "expected UNKNOWN_MARKET" in outcome.differences[0]
    assert f"record {log.sequence}: cannot go on from here" in outcome.differences[1]


def test_other_balances_of_the_engine_are_named(log: Log, tmp_path: Path) -> None:
    mine = {key: (b.free, b.held) for key, b in log.auditor.ledger.balances.items()}
    place = str(journal(log, tmp_path))
    assert reconcile.recompute(place, ask=lambda data, sequence: mine).good
    mine[1, BTC] = (1, 5)
    outcome = reconcile.recompute(place, ask=lambda data, sequence: mine)
    assert outcome.compared and not outcome.good
    assert "account 1, asset 1: recomputed free=9995 held=5, the engine has free=1 held=5" in (
        outcome.differences
    )


def test_many_differences_are_not_all_written_out() -> None:
    outcome = reconcile.Outcome("", 5, differences=[str(i) for i in range(30)])
    assert reconcile.lines(outcome)[-2] == "... and 10 more"


def test_there_must_be_a_journal(tmp_path: Path) -> None:
    with pytest.raises(BadArgument, match="no journal there"):
        reconcile.recompute(str(tmp_path))


def test_lists_and_replacements_are_recomputed(log: Log, tmp_path: Path) -> None:
    old = log.order(1, "buy", 5, 80).record.sequence
    log.replace(1, old)
    log.replacement(1, "buy", 5, 81)
    working = {"side": "buy", "quantity": 5, "price": 90}
    pending = {"side": "sell", "quantity": 5, "price": 120}
    log.order_list(ListType.OTO, [working, pending])
    list_id = log.sequence - 2
    log.order(2, "sell", 5, 90)
    log.release(list_id, [pending])
    outcome = reconcile.recompute(str(journal(log, tmp_path)))
    assert outcome.good, outcome.differences
    assert outcome.records == log.sequence
    btc, usd = outcome.rows
    # 5 + 5 BTC are for sale; 5 * 81 USD are to be spent.
    assert (btc.held_for_orders, usd.held_for_orders) == (10, 405)

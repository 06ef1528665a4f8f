"""`matchbox replay-log`: records and what they caused, against the auditor; conditions."""

import json
import os
import random
from decimal import Decimal
from typing import Any

import pytest

from matchbox.shm.errors import BadArgument
from matchbox.tools import replaylog
from matchbox.tools.audit.records import Event, events
from matchbox.tools.conditions import NAMES, Condition
from matchbox.tools.recordview import Names
from tests.tools.played import Played
from tests.tools.running import command

BROKEN = 3


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    seed = int(os.environ.get("MATCHBOX_TEST_SEED", "1"))
    print(f"seed {seed}")
    return Played(tmp_path_factory.mktemp("log"), seed)


def expected(played: Played) -> dict[int, list[Event]]:
    """What the auditor says that each record caused."""
    auditor = played.auditor(0)
    steps = [*auditor.apply(played.log), *auditor.end()]
    return {step.record.sequence: [*step.book, *step.ledger] for step in steps}


def test_every_record_comes_with_the_events_that_it_caused(played: Played) -> None:
    caused = expected(played)
    last = len(played.log)
    for since, until in ((1, last), (17, 60), (played.middle + 1, last), (last - 3, last)):
        part = replaylog.choose(str(played.folder), str(since), str(until), None)
        # It begins with the snapshot wherever there is one.
        assert (part.start is not None) == (since > played.middle)
        seen = 0
        for record, found in replaylog.walk(part, Names()):
            sequence = since + seen
            assert record.tobytes() == played.log[sequence - 1].tobytes()
            assert events(found) == caused[sequence]
            seen += 1
        assert seen == last + 1 - since or part.last < last


def test_it_stops_at_the_first_event_of_which_the_condition_is_true(played: Played) -> None:
    lines = command("replay-log", played.folder, "--json").splitlines()
    rows = [json.loads(line) for line in lines]
    trades = [
        row["event"]
        for row in rows
        if row.get("event", {}).get("kind") == "TRADE" and row["event"]["side"] == "SELL"
    ]
    assert len(trades) > 10
    # One after the other, each from where the one before says to go on.
    since = 1
    for trade in trades[:4]:
        if trade["sequence"] < since:
            continue  # a record of several trades is stopped at once
        said = command(
            "replay-log",
            played.folder,
            *("--from", since, "--break", "kind == 'TRADE' and side == 'sell'", "--json", "-q"),
            status=BROKEN,
        )
        found = [json.loads(line) for line in said.splitlines()]
        assert found[0]["record"]["sequence"] == trade["sequence"]
        assert found[-2]["event"] == trade
        about = found[-1]["break"]
        assert (about["sequence"], about["after"] >= about["sequence"]) == (trade["sequence"], True)
        assert {row["account"] for row in about["balances"]} == {
            trade["account_name"],
            trade["maker_account_name"],
        }
        assert [book["symbol"] for book in about["books"]] == [trade["symbol"]]
        since = about["go_on_from"]
        assert since == trade["sequence"] + 1
    said = command(
        "replay-log", played.folder, "-q", "--break", "what == 'record' and refused", status=BROKEN
    )
    assert "REFUSED" in said and "Stopped at record" in said and "Go on with: matchbox" in said
    # Never true: the whole of it, and another status.
    said = command("replay-log", played.folder, "-q", "--break", "price < 0 and price > 0")
    count = f"{len(played.log):,}"
    assert said == f"{count} records, 1 to {count}; never true: price < 0 and price > 0.\n"


def test_times_bound_a_part_of_the_log(played: Played) -> None:
    stamps = played.log["timestamp_ns"].astype(object)
    middle = sorted(set(stamps))[len(set(stamps)) // 2]
    first = next(n for n, stamp in enumerate(stamps, 1) if stamp >= middle)
    part = replaylog.choose(str(played.folder), f"{middle}ns", "", None)
    assert (part.first, part.last) == (first, len(played.log))
    part = replaylog.choose(str(played.folder), "", f"{middle - 1}ns", None)
    assert (part.first, part.last) == (1, first - 1)
    for since, until, wrong in (
        ("30", "10", "nothing lies between: from=30, until="),
        ("2200-01-01", "", "nothing of that time or later"),
        ("0", "", "sequence=0, first=1"),
        ("", str(10**6), "sequence=1000000, first=1"),
    ):
        with pytest.raises(BadArgument, match=wrong):
            replaylog.choose(str(played.folder), since, until, None)
    assert "--quiet goes with --break" in command("replay-log", played.folder, "-q", status=1)


VALUES: dict[str, Any] = {
    "what": "event",
    "kind": "trade",
    "side": "buy",
    "price": Decimal("100.10"),
    "quantity": Decimal("0.3"),
    "account": "alice",
    "account_number": 1,
    "market": "BTC/USD",
    "order_id": 812,
    "client_order_id": "Mine",
    "refused": False,
    "sequence": 900,
}


@pytest.mark.parametrize(
    ("text", "true"),
    [
        ("kind == 'trade'", True),
        ("kind == 'NEW_ORDER' or kind == 'new-order'", False),
        ("side in ('buy', 'sell') and not refused", True),
        ("price == 100.1 and price * quantity == 30.03", True),
        ("100 < price < 100.2 != 5", True),
        ("price - 100.1 == 0", True),
        ("-price < -100 and price // 1 == 100 and price % 1 == 0.1", True),
        ("quantity / 3 == 0.1", True),
        ("account == 'alice' and account_number in [1, 2]", True),
        ("client_order_id == 'mine'", False),
        ("order_id not in (1, 2)", True),
        # What there is not.
        ("trigger > 0 or trigger <= 0 or trigger == 0 or trigger != 0", False),
        ("reason not in ('on-request',)", False),
        ("reason is None and trigger == None and price is not None and price != None", True),
        ("trigger + 1 > 0", False),
        ("not trigger", True),
    ],
)
def test_a_condition_is_true_or_not(text: str, true: bool) -> None:
    assert Condition(text).holds(VALUES) is true


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "not an expression"),
        ("price >", "not an expression"),
        ("prize > 1", "there is no name prize; allowed: .*price"),
        ("__import__('os').system('true')", "Call is not allowed"),
        ("().__class__", "Attribute is not allowed"),
        ("kind[0] == 't'", "Subscript is not allowed"),
        ("(lambda: 1)", "Lambda is not allowed"),
        ("[x for x in (1, 2)]", "ListComp is not allowed"),
        ("f'{price}' == '1'", "JoinedStr is not allowed"),
        ("(price := 3) > 1", "NamedExpr is not allowed"),
        ("price ** 99999999 > 1", "BinOp is not allowed"),
        ("1 if price else 2", "IfExp is not allowed"),
        ("price > 1e400", "not a number, a text or None"),
        ("price == 1j", "not a number, a text or None"),
        ("kind == 'trades'", "kind is never 'trades'.*allowed: accepted"),
        ("side == 1", "side is never 1"),
        ("price > '1'", "price is a number, '1' a text"),
        ("account == 1", "account is a text, 1 a number; its number is account_number"),
        ("account in market", "`in` needs a list"),
        ("price is 3", "`is` goes with None only"),
        ("price < None", "None is neither more nor less"),
        ("not " * 60 + "price", "nested too deeply"),
        ("price > 1 " + "or price > 1 " * 1000, "the expression is too long"),
    ],
)
def test_what_is_not_understood_is_refused_with_what_is_allowed(text: str, wrong: str) -> None:
    with pytest.raises(BadArgument, match=wrong):
        Condition(text)


@pytest.mark.parametrize("text", ["price / 0 > 1", "quantity % 0 == 1", "account > 5 * order_id"])
def test_a_condition_without_a_value_says_at_which_record(text: str) -> None:
    with pytest.raises(BadArgument, match=r"has no value at record 900"):
        Condition(text).holds(VALUES)


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("kind == 'TRADE' and price > 1", {"trade"}),
        ("kind in ('trade', 'new-order') and kind == 'trade'", {"trade"}),
        ("kind == 'trade' or kind == 'rested'", {"trade", "rested"}),
        ("kind == 'trade' or price > 1", None),
        ("kind != 'trade'", None),
        ("not kind == 'trade'", None),
        ("price > 1", None),
    ],
)
def test_it_is_known_which_kinds_a_condition_can_be_true_of(
    text: str, kinds: set[str] | None
) -> None:
    assert Condition(text).kinds == kinds


def test_no_text_can_do_anything_but_be_a_condition() -> None:
    """Random pieces of Python: refused, or true or false, and never any other error."""
    seed = int(os.environ.get("MATCHBOX_TEST_SEED", "4"))
    print(f"seed {seed}")
    pieces = [*NAMES[:8], "(", ")", "[", "]", "==", "<", "in", "not", "and", "or", "is", "None"]
    pieces += ["+", "-", "*", "/", "//", "%", "'x'", "'buy'", "1", "2.5", ",", ".", ":", "lambda"]
    chosen = random.Random(seed)
    understood = 0
    for _ in range(6000):
        text = " ".join(chosen.choices(pieces, k=chosen.randint(1, 7)))
        try:
            condition = Condition(text)
            true = condition.holds(VALUES)
            understood += 1
            if condition.kinds is not None and "trade" not in condition.kinds:
                assert true is False
        except BadArgument:
            pass
    assert understood > 100

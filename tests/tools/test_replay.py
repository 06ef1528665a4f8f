"""Replay: flow files, their commands, and the comparison of fills; in process.

Recorded sets are used where they are: in $MATCHBOX_DATA, or in ../shared/data beside the checkout.
"""

import gzip
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from matchbox.shm.errors import BadArgument
from matchbox.shm.reasons import Reason
from matchbox.shm.records import REPORT, EventKind, Flag, Kind, ReportFlag, TimeInForce
from matchbox.tools import cli, flows, replay
from tests.reference import demo_flow

ROOT = Path(__file__).resolve().parent.parent.parent
RECORDED = ("es-20231225", "bitstamp-btcusd-20150501")

Rows = list[tuple[Any, ...]]


def ops(*rows: tuple[str, int, str, int, int]) -> Any:
    """OPS out of (op, order id, side, price, quantity), a millisecond apart."""
    numbered = [(i, i * 1_000_000, *row, 0) for i, row in enumerate(rows)]
    return np.array(numbered, flows.OPS)


def fills(*rows: tuple[int, int, int, int]) -> Any:
    return np.array([(*row, 1) for row in rows], flows.FILLS)


def outcome(flow: flows.Flow, **options: Any) -> replay.Outcome:
    return replay.play(flow, replay.InProcess(flow), **options)


SMALL = ops(
    ("S", 10, "S", 101, 5),
    ("S", 11, "S", 101, 5),
    ("A", 12, "B", 101, 7),
    ("A", 10, "S", 101, 4),  # the same id again: its first order is gone
    ("P", 11, "S", 100, 3),
    ("M", 13, "B", 101, 9),
    ("A", 14, "B", 99, 6),
    ("R", 14, "B", 99, 2),
    ("M", 15, "S", 99, 9),
    ("A", 16, "S", 98, 1),
    ("X", 16, "S", 98, 1),
)
SMALL_FILLS = fills(
    (2, 10, 101, 5), (2, 11, 101, 2), (5, 11, 100, 3), (5, 10, 101, 4), (8, 14, 99, 2)
)


# ---- flows as they are recorded


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_flow_gives_exactly_the_fills_of_the_venue(name: str) -> None:
    folder = Path(os.environ.get("MATCHBOX_DATA") or ROOT.parent / "shared" / "data")
    path = folder / f"{name}.ops.csv.gz"
    if not path.exists():
        pytest.skip(f"{path} is not there; set MATCHBOX_DATA to the folder of recorded sets")
    flow = flows.load(path)
    difference = replay.compare(flow, outcome(flow))
    assert difference is None, difference.text
    assert flow.fills is not None and len(flow.fills) > 500


def test_the_shipped_flow_gives_exactly_its_fills() -> None:
    flow = flows.load(flows.DEMO)
    assert flow.fills is not None and len(flow.fills) > 1000
    assert replay.compare(flow, outcome(flow)) is None


def test_the_shipped_flow_is_what_its_generator_makes() -> None:
    flow = flows.load(flows.DEMO)
    made_ops, made_fills = demo_flow.make()
    np.testing.assert_array_equal(flow.ops, made_ops)
    np.testing.assert_array_equal(flow.fills, made_fills)


# ---- files


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    flows.write(tmp_path / "x.ops.csv.gz", SMALL)
    flows.write(tmp_path / "x.fills.csv.gz", SMALL_FILLS)
    for path in (tmp_path / "x", tmp_path / "x.ops.csv.gz"):
        flow = flows.load(path)
        assert flow.name == "x"
        np.testing.assert_array_equal(flow.ops, SMALL)
        np.testing.assert_array_equal(flow.fills, SMALL_FILLS)


def test_a_flow_without_a_file_of_fills_has_none(tmp_path: Path) -> None:
    flows.write(tmp_path / "x.ops.csv.gz", SMALL)
    assert flows.load(tmp_path / "x").fills is None


def test_fills_that_a_venue_gave_by_other_rules_are_not_expected(tmp_path: Path) -> None:
    flows.write(tmp_path / "x.ops.csv.gz", SMALL)
    other = SMALL_FILLS.copy()
    other["kind"] = [1, 0, 2, 0, 1]
    flows.write(tmp_path / "x.fills.csv.gz", other)
    expected = flows.load(tmp_path / "x").fills
    assert expected is not None and expected["kind"].tolist() == [1, 2, 1]


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "a row out of order": ({"seq": 9}, ":6: seq is not the number of the row"),
    "an op that there is not": ({"op": b"Z"}, ":6: op is none of"),
    "a side that there is not": ({"side": b"Q"}, ":6: side is neither"),
    "a price of nothing": ({"price": 0}, ":6: price is not above 0"),
    "a negative quantity": ({"qty": -1}, ":6: qty is not above 0"),
    "an order that there is not": ({"order_id": 999}, ":6: no order with this id"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_file_with_a_bad_row_is_refused_with_its_line(case: str, tmp_path: Path) -> None:
    change, text = BROKEN[case]
    bad = SMALL.copy()
    for name, value in change.items():
        bad[4][name] = value
    flows.write(tmp_path / "x.ops.csv.gz", bad)
    with pytest.raises(BadArgument, match="x.ops.csv.gz" + text):
        flows.load(tmp_path / "x")


def test_files_that_are_no_flows_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.ops.csv.gz"
    header = ",".join(flows.OPS.names or ())
    for data in (b"", gzip.compress(b"a,b\n"), gzip.compress(f"{header}\n1,x\n".encode()), b"text"):
        path.write_bytes(data)
        with pytest.raises(BadArgument, match=str(path)):
            flows.load(path)
    path.write_bytes(gzip.compress(f"{header}\n".encode()))
    with pytest.raises(BadArgument, match="no rows"):
        flows.load(path)
    with pytest.raises(BadArgument, match="cannot be read"):
        flows.load(tmp_path / "missing")


# ---- commands


def test_each_op_becomes_its_command() -> None:
    made = flows.commands(flows.make("small", SMALL), market=7)
    assert set(made["market"].tolist()) == {7}
    assert made["kind"].tolist() == [
        *[Kind.NEW_ORDER] * 4, Kind.AMEND_ORDER, *[Kind.NEW_ORDER] * 2, Kind.AMEND_ORDER,
        *[Kind.NEW_ORDER] * 2, Kind.CANCEL_ORDER,
    ]  # fmt: skip
    assert made["time_in_force"][[0, 2, 5]].tolist() == [
        TimeInForce.GTC, TimeInForce.GTC, TimeInForce.IOC
    ]  # fmt: skip
    assert made["flags"][[4, 7]].tolist() == [Flag.TO_OPEN | Flag.REQUEUE, Flag.TO_OPEN]
    assert made["price_ticks"][[4, 7]].tolist() == [100, 0]
    cancel = made[10]
    assert (cancel["price_ticks"], cancel["quantity_lots"], cancel["side"]) == (0, 0, 0)
    assert not made["order_id"].any()


def test_an_order_id_that_is_used_again_gets_another_client_order_id() -> None:
    flow = flows.make("small", SMALL)
    ids = flows.commands(flow)["client_order_id"].tolist()
    assert ids[0] == b"10.1" and ids[3] == b"10.2"
    assert ids[1] == ids[4] == b"11.1"
    assert flow.opener.tolist() == [0, 1, 2, 3, 1, 5, 6, 6, 8, 9, 9]


def test_a_market_fits_the_flow() -> None:
    flow = flows.make("small", ops(*[("A", i, "B", 5 + i, 1) for i in range(3000)]))
    assert (flow.max_price_ticks, flow.max_orders) == (3004, 3001)
    assert not len(outcome(flow).refusals)


# ---- playing and comparing


def test_fills_come_out_with_row_maker_price_and_quantity_in_order() -> None:
    flow = flows.make("small", SMALL, SMALL_FILLS)
    got = outcome(flow)
    assert replay.compare(flow, got) is None
    assert got.fills[["seq", "maker_id", "price", "qty"]].tolist() == [
        row[:4] for row in SMALL_FILLS.tolist()
    ]


@pytest.mark.parametrize("field", ["maker_id", "price", "qty"])
def test_one_wrong_fill_is_found_and_shown_in_full(field: str) -> None:
    wrong = SMALL_FILLS.copy()
    wrong[field][3] += 1
    flow = flows.make("small", SMALL, wrong)
    difference = replay.compare(flow, outcome(flow))
    assert difference is not None and difference.row == 5
    for text in (
        "small: first difference at row 5 (line 7 of the file)",
        "> seq=5 ts_ns=5000000 op=M order_id=13 side=B price=101 qty=9 flag=0",
        "  seq=6 ",
        "expected: 2 fills of row 5, of 5 in all",
        "> seq=5 maker_id=11 price=100 qty=3",
        "> seq=5 maker_id=10 price=101 qty=4",
    ):
        assert text in difference.text


def test_a_missing_and_a_surplus_fill_are_differences_of_their_rows() -> None:
    for expected, row in ((SMALL_FILLS[:-1], 8), (np.delete(SMALL_FILLS, 1), 2)):
        flow = flows.make("small", SMALL, expected)
        difference = replay.compare(flow, outcome(flow))
        assert difference is not None and difference.row == row
    more = np.concatenate([SMALL_FILLS, fills((9, 14, 99, 1))])
    difference = replay.compare(flows.make("small", SMALL, more), outcome(flows.make("s", SMALL)))
    assert difference is not None and difference.row == 9


def test_fills_in_another_order_are_a_difference() -> None:
    flow = flows.make("small", SMALL, SMALL_FILLS[[1, 0, 2, 3, 4]])
    difference = replay.compare(flow, outcome(flow))
    assert difference is not None and difference.row == 2


def test_a_refused_row_is_a_difference_also_without_expected_fills() -> None:
    gone = ops(("A", 1, "B", 5, 5), ("X", 1, "B", 5, 5), ("X", 1, "B", 5, 5))
    flow = flows.make("gone", gone)
    difference = replay.compare(flow, outcome(flow))
    assert difference is not None and difference.row == 2
    assert "refused: UNKNOWN_ORDER" in difference.text


def test_a_paced_replay_sends_nothing_early(monkeypatch: pytest.MonkeyPatch) -> None:
    flow = flows.make("small", SMALL)
    clock = [0]
    monkeypatch.setattr("time.monotonic_ns", lambda: clock[0])
    monkeypatch.setattr(
        "time.sleep", lambda s: clock.__setitem__(0, clock[0] + max(1, round(s * 1e9)))
    )
    sent: list[tuple[int, int]] = []

    class Recorder(replay.InProcess):
        def send(self, batch: Any) -> None:
            sent.extend((self._sent + i, clock[0]) for i in range(len(batch)))
            super().send(batch)

    replay.play(flow, Recorder(flow), speed=2.0)
    assert [row for row, _ in sent] == list(range(len(SMALL)))
    assert all(at >= row * 500_000 for row, at in sent)
    assert clock[0] < len(SMALL) * 500_000


def test_progress_ends_with_all_rows() -> None:
    flow = flows.load(flows.DEMO)
    seen: list[int] = []
    outcome(flow, progress=seen.append)
    assert seen == sorted(seen) and seen[-1] == len(flow.ops)


# ---- the outcome as a session's reports tell it


def reports_of(flow: flows.Flow, first_sequence: int, first_position: int) -> Any:
    """The reports of a session that sent `flow`, out of the events of a matcher in this process."""
    target = replay.InProcess(flow)
    known = flows.commands(flow)
    sequences = np.arange(first_sequence, first_sequence + len(known), dtype=np.uint64)
    known["sequence"] = sequences
    opener = sequences[flow.opener]
    known["order_id"] = np.where(known["kind"] == Kind.NEW_ORDER, 0, opener)
    rows: list[Any] = []
    for event in target.matcher.process(known):
        report = np.zeros(1, REPORT)[0]
        for name in ("sequence", "order_id", "index", "kind", "reason", "price_ticks"):
            report[name] = event[name]
        report["quantity_lots"] = event["quantity_lots"]
        if event["kind"] != EventKind.TRADE:
            position = int(event["sequence"]) - first_sequence + first_position
            report["command_position"] = position if event["index"] == 0 else 0
            rows.append(report)
            continue
        report["trade_id"] = event["trade_id"]
        maker = report.copy()
        maker["order_id"], maker["flags"] = event["maker_order_id"], ReportFlag.AS_MAKER
        rows += [maker, report]
    return np.array(rows, REPORT)


@pytest.mark.parametrize("first", [(1, 1), (5000, 77)])
def test_reports_tell_the_same_outcome_as_events(first: tuple[int, int]) -> None:
    flow = flows.load(flows.DEMO)
    told = replay.outcome_of_reports(flow, reports_of(flow, *first), first[1])
    np.testing.assert_array_equal(told.fills, outcome(flow).fills)
    assert not len(told.refusals)


def test_reports_tell_refusals_by_row() -> None:
    flow = flows.make("gone", ops(("A", 1, "B", 5, 5), ("X", 1, "B", 5, 5), ("X", 1, "B", 5, 5)))
    told = replay.outcome_of_reports(flow, reports_of(flow, 30, 9), 9)
    assert told.refusals.tolist() == [(2, Reason.UNKNOWN_ORDER)]


# ---- the command line


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Exit status of `matchbox ARGUMENTS`."""
    monkeypatch.setattr("sys.argv", ["matchbox", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


def test_the_command_says_that_all_fills_are_as_expected(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "replay", "demo", "--in-process") == 0
    assert "All 2,512 fills are as expected." in capsys.readouterr().out


def test_the_command_fails_with_the_first_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flows.write(tmp_path / "x.ops.csv.gz", SMALL)
    flows.write(tmp_path / "x.fills.csv.gz", SMALL_FILLS[:-1])
    assert run(monkeypatch, "replay", str(tmp_path / "x"), "--in-process") == 1
    assert "x: first difference at row 8" in capsys.readouterr().out


def test_the_command_refuses_what_does_not_go_together(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "replay", "demo", "--in-process", "--attach", "x") == 1
    assert run(monkeypatch, "replay", "demo", "--in-process", "--speed", "0") == 1
    for speed in ("nan", "inf", "-1"):
        assert run(monkeypatch, "replay", "demo", "--in-process", "--speed", speed) == 1
    assert run(monkeypatch, "replay", "demo", "--attach", "x") == 1
    assert run(monkeypatch, "replay", "demo", "--market", "FLOW") == 1
    assert run(monkeypatch, "replay", "/nowhere/x", "--in-process") == 1
    errors = capsys.readouterr().err
    assert (
        "--attach" in errors
        and "speed=0" in errors
        and "speed=nan" in errors
        and "/nowhere/x.ops.csv.gz" in errors
    )
    assert "--attach needs --account" in errors

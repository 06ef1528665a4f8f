"""The views of random logs, some days long, against the auditor; interrupted, damaged, dropped."""

import os
import shutil
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from matchbox.persistence import partition
from matchbox.persistence.candles import INTERVALS
from matchbox.persistence.partition import LIVING, TABLES, OrderStatus
from matchbox.persistence.views import Views
from matchbox.shm.errors import Forgotten
from matchbox.shm.records import LIST_RECORD, EventKind, Flag, Kind, ReportFlag
from matchbox.shm.streams import LAST_PART, TRADE, Position
from matchbox.tools.archive_admin import drop, drop_old
from matchbox.tools.archiving import VIEWS, Archiving
from matchbox.tools.snapshots import take
from matchbox.tools.verify_views import differences
from tests.reference import candles as reference
from tests.reference.candles import as_reference
from tests.simulation.archive import configure, expected, told, write_journal
from tests.simulation.commands import Random
from tests.simulation.test_exchange import play
from tests.simulation.world import MARKETS, SESSIONS, World

DAY_NS = 86_400 * 10**9
DAYS, COMMANDS = 3, 600


class Played:
    """A world with a log of some days, its journal, and its views."""

    def __init__(self, folder: Path, seed: int) -> None:
        world = World()
        for number in range(DAYS):
            play(world, Random(seed * 100 + number), COMMANDS)
            world.advance(DAY_NS)
        play(world, Random(seed), 40)
        self.folder, self.world, self.log = folder, world, world.exchange.log
        write_journal(folder, self.log, seed)
        self.config = configure(folder, world)
        archive(self)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    seed = int(os.environ.get("MATCHBOX_TEST_SEED", "1"))
    return Played(tmp_path_factory.mktemp("views"), seed)


@pytest.fixture
def again(played: Played, tmp_path: Path) -> Played:
    """A copy that a test may damage."""
    copy = object.__new__(Played)
    copy.__dict__.update(played.__dict__)
    copy.folder = tmp_path / "data"
    shutil.copytree(played.folder, copy.folder)
    copy.config = replace(played.config, data=copy.folder)
    return copy


def archive(played: Any, *, stop_after: int = 0) -> list[str]:
    """Bring the views up to date, or go only so far; what was said."""
    said: list[str] = []
    archiving = Archiving(played.config, played.folder, said.append, last=stop_after)
    try:
        while archiving.work():
            pass
    finally:
        archiving.close()
    return said


def tables(folder: Path) -> dict[tuple[str, str], list[tuple[bytes, bytes]]]:
    with Views(folder / VIEWS) as views:
        return {
            (day.day, table): list(views.rows(day.day, table))
            for day in views.days()
            for table in TABLES
            if table != "meta"
        }


def accounts() -> set[int]:
    return {1, 2, 3, 4, 5} | {account for account, _, _ in SESSIONS.values() if account}


def test_every_account_can_read_what_it_was_told(played: Played) -> None:
    _, reports = expected(played.log, played.world)
    count = 0
    with Views(played.folder / VIEWS) as views:
        assert len(views.days()) > DAYS - 1
        for account in accounts():
            rows, reached = views.reports(account, limit=10**6)
            assert told(rows) == reports.by_account[account]
            assert reached == (len(played.log), LAST_PART)
            count += len(rows)
    assert count > COMMANDS


def test_reports_can_be_read_from_any_position_in_pieces_of_any_size(played: Played) -> None:
    random = np.random.default_rng(played.log["sequence"][-1])
    with Views(played.folder / VIEWS) as views:
        for account in accounts():
            whole, _ = views.reports(account, limit=10**6)
            for _ in range(20):
                first = int(random.integers(0, len(whole) + 1))
                after = Position.of(whole[first - 1]) if first else Position(0, 0)
                parts, position = [], tuple(after)
                while True:
                    rows, position = views.reports(account, position, int(random.integers(1, 50)))
                    if not len(rows):
                        break
                    parts.append(rows)
                read = np.concatenate(parts) if parts else whole[:0]
                assert read.tobytes() == whole[first:].tobytes()


def test_trades_are_what_takers_were_told_and_have_no_gap(played: Played) -> None:
    _, reports = expected(played.log, played.world)
    with Views(played.folder / VIEWS) as views:
        for market in MARKETS:
            rows, _ = views.trades(market, limit=10**6)
            takers = [
                (r.sequence, r.trade_id, r.price_ticks, r.quantity_lots, r.order_id, r.fee, r.side)
                for told in reports.by_account.values()
                for r in told
                if r.kind == EventKind.TRADE
                and r.market == market
                and not r.flags & ReportFlag.AS_MAKER
            ]
            names = [
                "sequence",
                "trade_id",
                "price_ticks",
                "quantity_lots",
                "order_id",
                "fee",
                "side",
            ]
            assert rows[names].tolist() == sorted(takers)
            assert rows["trade_id"].tolist() == list(range(1, len(rows) + 1))
            for number in range(0, len(rows), 7):
                after = Position.of(rows[number])
                assert views.trades(market, tuple(after), 10)[0].tobytes() == (
                    rows[number + 1 : number + 11].tobytes()
                )
                found = views.first_trade_at(market, int(rows["timestamp_ns"][number]))
                assert found == 1 + np.searchsorted(
                    rows["timestamp_ns"], rows["timestamp_ns"][number]
                )
            assert views.trades_from(market, 3, 5).tobytes() == rows[2:7].tobytes()
            assert views.last_trades(market, 5).tobytes() == rows[-5:].tobytes()
            assert rows.dtype == TRADE


@pytest.mark.parametrize("name", reference.NAMES)
def test_candles_are_made_of_all_trades(name: str, played: Played) -> None:
    interval, end = INTERVALS[name], 1 << 50
    with Views(played.folder / VIEWS) as views:
        for market in MARKETS:
            trades, _ = views.trades(market, limit=10**6)
            rows = views.candles(market, interval, 0, end, limit=10**6)
            wanted = reference.candles(trades, name)
            assert [as_reference(row) for row in rows] == wanted
            if not wanted:
                continue
            first, last = (int(rows[n]["open_ms"]) for n in (len(rows) // 3, -1))
            some = views.candles(market, interval, first, last, limit=5)
            assert some.tobytes() == rows[len(rows) // 3 : -1][:5].tobytes()
            for before, wanted_rows in ((end, rows[-3:]), (last, rows[-4:-1])):
                found = views.last_candles(market, interval, before, 3)
                assert found.tobytes() == wanted_rows.tobytes()


def test_orders_are_found_by_time(played: Played) -> None:
    with Views(played.folder / VIEWS) as views:
        records = played.log[played.log["kind"] == Kind.NEW_ORDER]
        there = views.orders_with(records["sequence"])
        records = records[np.isin(records["sequence"], list(there))]
        ids, times = records["sequence"], records["timestamp_ns"]
        assert len(records) > 100 and len(np.unique(times)) > 5
        for at in (0, *times[::9].tolist(), *(times[::9] + 1).tolist()):
            found = views.first_order_at(int(at))
            if found is None:
                assert (times < at).all()
            else:
                assert (ids[times >= at] >= found).all()
                assert (ids[times < at] < found).all()


def test_lists_are_found_by_account_and_by_name(played: Played) -> None:
    records = played.log[(played.log["kind"] == Kind.ORDER_LIST) & (played.log["reject"] == 0)]
    with Views(played.folder / VIEWS) as views:
        # The matcher may have refused all of its orders: then there is none.
        there = [row for row in records.view(LIST_RECORD) if views.legs(int(row["sequence"]))]
        assert len(there) > 10
        names: dict[tuple[int, bytes], int] = {}
        for account in accounts():
            mine = [row for row in there if row["account"] == account]
            wanted = [(int(row["sequence"]), int(row["market"])) for row in mine]
            assert views.lists(account, limit=10**6) == wanted
            assert views.lists(account, wanted[1][0] if wanted[1:] else 0, 2) == wanted[1:3]
            assert views.last_lists(account, 2) == wanted[-2:]
            if wanted:
                assert views.last_lists(account, 2, before=wanted[-1][0]) == wanted[-3:-1]
            for row in mine:
                legs = views.legs(int(row["sequence"]))
                assert {int(leg["account"]) for leg in legs} == {account}
                assert all(leg["status"] != OrderStatus.RELEASED for leg in legs)
                names[account, bytes(row["client_list_id"])] = int(row["sequence"])
        for (account, name), number in names.items():
            if name:
                assert views.list_of_client(account, name.decode()) == number


def test_fills_are_found_by_account_and_market(played: Played) -> None:
    with Views(played.folder / VIEWS) as views:
        for account in accounts():
            whole, _ = views.reports(account, limit=10**6)
            for market in MARKETS:
                mine = whole[(whole["kind"] == EventKind.TRADE) & (whole["market"] == market)]
                fills = views.fills(account, market, limit=10**6)
                assert fills.tobytes() == mine.tobytes()
                last = views.last_fills(account, market, 4)
                assert last.tobytes() == mine[-4:].tobytes()
                if len(mine):
                    from_id = views.fills(account, market, int(mine["trade_id"][-1]))
                    assert len(from_id) in (1, 2)


def test_open_orders_and_balances_are_the_auditors(played: Played) -> None:
    auditor, _ = expected(played.log, played.world)
    with Views(played.folder / VIEWS) as views:
        for account in (*accounts(), 0xFFFFFFFF):
            there = {
                asset: (balance.free, balance.held)
                for (of, asset), balance in auditor.ledger.balances.items()
                if of == account and (balance.free or balance.held)
            }
            assert views.balances(account) == there
        auditor.settle_all()
        for account in accounts():
            live = {
                order.order_id: (
                    order.market.number,
                    order.side,
                    order.cumulative,
                    order.client_order_id,
                    bool(order.pending),
                )
                for order in auditor.ledger.orders.values()
                if order.account == account
            }
            rows = views.open_orders(account)
            assert {
                int(row["order_id"]): (
                    int(row["market"]),
                    int(row["side"]),
                    int(row["cumulative_lots"]),
                    bytes(row["client_order_id"]),
                    row["status"] == OrderStatus.PENDING,
                )
                for row in rows
            } == live


def test_an_order_is_what_its_reports_say(played: Played) -> None:
    """Each order's last report, the sum of its fills, and how it is found."""
    records = played.log
    with Views(played.folder / VIEWS) as views:
        seen: set[int] = set()
        legs = 0
        for account in accounts():
            whole, _ = views.reports(account, limit=10**6)
            mine: dict[int, list[Any]] = {}
            for report in whole[whole["order_id"] > 0]:
                if report["kind"] <= EventKind.PREVENTED and (
                    report["kind"] != EventKind.REJECTED or report["flags"] & ReportFlag.RELEASED
                ):
                    mine.setdefault(int(report["order_id"]), []).append(report)
            newest: dict[bytes, int] = {}
            for order_id, of in sorted(mine.items()):
                row, last = views.order(order_id), of[-1]
                fills = [r for r in of if r["kind"] == EventKind.TRADE]
                assert row["notional"] == sum(
                    int(r["price_ticks"]) * int(r["quantity_lots"]) for r in fills
                )
                assert row["account"] == account
                assert row["created_ns"] <= row["updated_ns"]
                if row["status"] == OrderStatus.RELEASED:
                    successor = views.order(int(row["other_id"]))
                    assert successor["other_id"] == order_id
                    assert successor["created_ns"] == row["created_ns"]
                    assert successor["client_list_id"] == row["client_list_id"]
                else:
                    assert row["leaves_lots"] == last["leaves_lots"]
                    assert row["cumulative_lots"] == last["cumulative_lots"]
                    assert row["sequence"] == last["sequence"]
                    ended = last["kind"] in (EventKind.CANCELED, EventKind.EXPIRED)
                    lives = row["status"] in LIVING
                    assert lives == bool(last["leaves_lots"] and not ended), (row, last)
                seen.add(int(row["status"]))
                if row["client_order_id"]:
                    newest[bytes(row["client_order_id"])] = order_id
                record = records[order_id - 1]
                assert record["kind"] == Kind.NEW_ORDER
                assert row["time_in_force"] == record["time_in_force"]
                if record["flags"] & Flag.LEG and record["session"]:
                    before = records[order_id - 4 : order_id - 1].view(LIST_RECORD)
                    lists = before["sequence"][before["kind"] == Kind.ORDER_LIST]
                    assert row["list_id"] == (lists[-1] if row["list_id"] else 0)
                    legs += bool(row["list_id"])
            for client_order_id, order_id in newest.items():
                assert views.order_of_client(account, client_order_id)["order_id"] == order_id
            for market in MARKETS:
                ids = [i for i in sorted(mine) if mine[i][0]["market"] == market]
                assert views.orders(account, market, limit=10**6)["order_id"].tolist() == ids
                assert views.last_orders(account, market, 7)["order_id"].tolist() == ids[-7:]
        assert legs > 10
        assert seen >= {OrderStatus.FILLED, OrderStatus.CANCELED, OrderStatus.RELEASED}


def test_an_archiver_that_is_stopped_anywhere_goes_on_to_the_same_views(again: Played) -> None:
    before = tables(again.folder)
    shutil.rmtree(again.folder / VIEWS)
    random = np.random.default_rng(len(again.log))
    stops = np.sort(random.integers(1, len(again.log), 12))
    for number, stop in enumerate(stops.tolist()):
        assert archive(again, stop_after=stop) == []
        if number == 4:
            take(str(again.folder), config=again.config.path, say=lambda text: None)
    archive(again)
    assert tables(again.folder) == before


def test_the_views_of_another_boot_are_made_again_unless_they_are_sealed(
    again: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tables(again.folder)
    days = partition.days(again.folder / VIEWS)
    monkeypatch.setattr(partition, "boot", lambda: "another")
    (said,) = archive(again)
    assert f"The views from {days[-1]} on are made again" in said
    assert "was not on the disk when the machine stopped" in said
    assert tables(again.folder) == before


@pytest.mark.parametrize("damage", ["cut off", "overwritten", "missing", "of another journal"])
def test_views_that_are_damaged_are_made_again(damage: str, again: Played) -> None:
    before = tables(again.folder)
    folder = again.folder / VIEWS
    days = partition.days(folder)
    day = days[1]
    path = partition.path_of(folder, day)
    if damage == "cut off":
        os.truncate(path, path.stat().st_size // 2)
    elif damage == "overwritten":
        with path.open("r+b") as file:
            file.write(bytes(8192))
    elif damage == "missing":
        partition.remove(folder, day)
    else:
        opened = partition.open_day(folder, day, writable=True)
        with opened.begin(write=True) as changed:
            changed.put_state(replace(changed.state(), record="00" * 32))
        partition.close(opened)
    (said,) = archive(again)
    first = days[2] if damage == "missing" else day
    assert f"The views from {first} on are made again" in said
    assert tables(again.folder) == before


def test_a_changed_row_is_found_by_verify(again: Played) -> None:
    assert differences(again.config, again.folder) == (len(again.log), [])
    folder = again.folder / VIEWS
    with Views(folder) as views:
        day = next(day for day in partition.days(folder) if list(views.rows(day, "trades")))
    opened = partition.open_day(folder, day, writable=True)
    with opened.begin(write=True) as changed, changed.cursor("trades") as cursor:
        cursor.first()
        key, value = bytes(cursor.key()), bytearray(cursor.value())
        value[TRADE.fields["quantity_lots"][1]] ^= 1
        changed.put("trades", [(key, bytes(value))])
    partition.close(opened)
    _, found = differences(again.config, again.folder)
    assert any(f"{day}, trades, row 0" in text for text in found)
    assert any("fills" in text for text in found)  # also without the journal
    assert not list(again.folder.glob("views.verify*"))


def test_dropped_days_are_forgotten_and_what_goes_on_is_not(again: Played) -> None:
    folder = again.folder / VIEWS
    days = partition.days(folder)
    with Views(folder) as views:
        open_before = {a: views.open_orders(a).tobytes() for a in accounts()}
        balances = {a: views.balances(a) for a in accounts()}
        last = views.days()[0].state.position
    assert drop(folder, days[1]) == [days[0]]
    with Views(folder) as views:
        assert [day.day for day in views.days()] == days[1:]
        assert {a: views.open_orders(a).tobytes() for a in accounts()} == open_before
        assert {a: views.balances(a) for a in accounts()} == balances
        for account in accounts():
            with pytest.raises(Forgotten, match=f"oldest={last}-{LAST_PART}") as forgotten:
                views.reports(account, (last - 1, 0))
            rows, _ = views.reports(account, forgotten.value.oldest, 10**6)
            assert (rows["sequence"] > last).all()
    assert archive(again) == []  # they are not made again
    assert partition.days(folder) == days[1:]
    assert differences(again.config, again.folder) == (len(again.log), [])
    assert drop_old(folder, 0) == []
    since = (date.fromisoformat(days[-1]) - timedelta(days=1)).isoformat()
    assert drop_old(folder, 1) == [day for day in days[1:] if day < since]
    drop(folder, "2999-01-01")
    assert partition.days(folder) == days[-1:]  # never the last

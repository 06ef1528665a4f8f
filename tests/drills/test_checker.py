"""The checker of a drill finds what it is there to find: else a receipt proves nothing."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from matchbox.persistence.journal import Reader
from matchbox.shm.records import EventKind
from matchbox.tools.drill import check, load
from matchbox.tools.drill.check import Findings, Written
from matchbox.tools.drill.drill import Clients, Wishes
from matchbox.tools.drill.instance import Instance, wait_for

Examine = Callable[..., Findings]
ORDERS = 400


@pytest.fixture(scope="module")
def drilled(tmp_path_factory: pytest.TempPathFactory) -> object:
    """A short life without a fault: what a client wrote down, and how to examine it."""
    from matchbox.tools.drill import instance as instances

    folder = tmp_path_factory.mktemp("checker")
    with instances.throw_away(2) as exchange:
        assert exchange.up()
        clients = Clients(exchange, Wishes(("kill",), rate=4_000.0), folder)
        try:
            clients.begin()
            wait_for(lambda: records(exchange) > ORDERS, "some orders are in the journal")
            written = clients.finish()
        finally:
            clients.kill()
        exchange.down()

        def examine(first: Written, **options: bool) -> Findings:
            return check.examine(
                exchange.config, exchange.data / "journal", [first, written[1]], **options
            )

        yield written[0], examine


def records(exchange: Instance) -> int:
    with Reader(exchange.data / "journal") as reader:
        return reader.last_sequence()


def a_fill(written: Written) -> int:
    """Somewhere in the middle."""
    fills = np.flatnonzero(written.reports["kind"] == EventKind.TRADE)
    return int(fills[len(fills) // 2])


def without(written: Written, index: int) -> Written:
    """One report was not told; `heard` and `lives` still fit."""
    times = np.delete(written.times(), index)
    heard = np.stack([times, np.ones(len(times), np.int64)], axis=1)
    return replace(written, reports=np.delete(written.reports, index), heard=heard)


def test_what_happened_is_good(drilled: tuple[Written, Examine]) -> None:
    written, examine = drilled
    found = examine(written)
    assert found.good, found.problems
    assert found.commands > ORDERS / 2 and found.acknowledged > ORDERS / 2


def test_a_report_that_was_not_told_is_a_gap(drilled: tuple[Written, Examine]) -> None:
    written, examine = drilled
    found = examine(without(written, a_fill(written)))
    assert (found.gaps, found.missing, found.duplicates) == (1, 0, 0)
    assert not found.good


def test_a_report_that_was_told_twice_is_a_duplicate(drilled: tuple[Written, Examine]) -> None:
    written, examine = drilled
    at = a_fill(written)
    again = np.insert(written.reports, at, written.reports[at])
    found = examine(replace(written, reports=again))
    assert found.duplicates == 1 and not found.good


def test_a_report_of_another_fill_is_missing(drilled: tuple[Written, Examine]) -> None:
    written, examine = drilled
    reports = written.reports.copy()
    reports[a_fill(written)]["quantity_lots"] += 1
    found = examine(replace(written, reports=reports))
    assert found.missing == 1 and not found.good
    assert "is another one in the journal" in found.problems[0]


def test_a_report_that_the_journal_has_not_is_missing(drilled: tuple[Written, Examine]) -> None:
    written, examine = drilled
    more = written.reports[-1:].copy()
    more["sequence"] += 1000
    for durable, missing in ((False, 1), (True, 0)):
        more["assurance"] = 1  # only matched: it may be lost with the memory
        found = examine(
            replace(written, reports=np.concatenate([written.reports, more])),
            durable_only=durable,
        )
        assert found.missing == missing
    more["assurance"] = 3
    reports = np.concatenate([written.reports, more])
    assert examine(replace(written, reports=reports), durable_only=True).missing == 1


def test_reports_out_of_order_are_found(drilled: tuple[Written, Examine]) -> None:
    written, examine = drilled
    reports, at = written.reports.copy(), a_fill(written)
    reports[[at, at - 1]] = reports[[at - 1, at]]
    assert any("out of order" in p for p in examine(replace(written, reports=reports)).problems)


def test_a_command_without_an_answer_is_found(drilled: tuple[Written, Examine]) -> None:
    written, examine = drilled
    position = int(written.sent[-1, 0]) + 100
    sent = np.concatenate([written.sent, np.array([[position, 2, 0]], np.int64)])
    found = examine(replace(written, sent=sent))
    assert found.unanswered == 2 and not found.good


def test_a_journal_that_ends_too_early_is_found(
    drilled: tuple[Written, Examine], tmp_path: Path
) -> None:
    written, examine = drilled
    rows = written.reports[written.reports["sequence"] > 0]
    assert len(rows)
    shifted = written.reports.copy()
    shifted["sequence"] += 1  # as if one record had been left out
    found = examine(replace(written, reports=shifted))
    assert found.missing > len(rows) / 2 and not found.good


def test_clients_send_orders_and_cancels_by_their_seed() -> None:
    made = [load.Client(load.Order("", "c1", "M", 1.0, "matched", 7, "")) for _ in range(2)]
    for client in made:
        client._market = 1
    rows = [client.make(300).tobytes() for client in made]
    assert rows[0] == rows[1]

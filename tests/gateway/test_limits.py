"""Limits by address and account, in all workers: what is over is refused, who goes on is banned."""

from pathlib import Path

import pytest

from matchbox.gateway.counters import Counters
from matchbox.gateway.errors import ApiError
from matchbox.gateway.limits import Allowed, Limits

ALLOWED = Allowed(weight_per_minute=100, orders_per_ten_seconds=3, orders_per_day=5, strikes=2)


class Clock:
    """Time as the test says: far in the future, so that no span is over by the real clock."""

    def __init__(self) -> None:
        self.now = 4_000_000_040.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def worker(folder: Path, clock: Clock) -> Limits:
    return Limits(Counters(folder / "counters"), ALLOWED, clock)


def refused(work: object, *arguments: object) -> ApiError:
    assert callable(work)
    with pytest.raises(ApiError) as error:
        work(*arguments)
    return error.value


def test_weight_is_counted_by_address_in_all_workers_together(tmp_path: Path, clock: Clock) -> None:
    one, other = worker(tmp_path, clock), worker(tmp_path, clock)
    assert one.request("192.0.2.1", 60) == 60
    assert other.request("192.0.2.1", 40) == 100
    assert other.request("192.0.2.2", 5) == 5
    error = refused(one.request, "192.0.2.1", 1)
    assert (error.status, error.code) == (429, -1003)
    assert error.headers == {"Retry-After": "40"}  # the minute has forty seconds left
    clock.now += 40
    assert one.request("192.0.2.1", 1) == 1


def test_who_goes_on_is_banned_and_longer_each_time(tmp_path: Path, clock: Clock) -> None:
    one, other = worker(tmp_path, clock), worker(tmp_path, clock)
    waits = []
    for _ in range(3):
        one.request("192.0.2.1", 100)
        for _ in range(ALLOWED.strikes):
            assert refused(one.request, "192.0.2.1", 1).status == 429
        error = refused(one.request, "192.0.2.1", 1)
        assert (error.status, error.code) == (418, -1003)
        waits.append(int(error.headers["Retry-After"]))
        assert refused(other.request, "192.0.2.1", 1).status == 418
        assert other.request("192.0.2.2", 1)
        clock.now += waits[-1] + 60
    assert waits == [120, 240, 480]


def test_orders_are_counted_by_account_and_what_is_refused_is_not(
    tmp_path: Path, clock: Clock
) -> None:
    one, other = worker(tmp_path, clock), worker(tmp_path, clock)
    assert one.order(1) == {"X-MBX-ORDER-COUNT-10S": "1", "X-MBX-ORDER-COUNT-1D": "1"}
    other.order(1)
    one.order(1)
    error = refused(other.order, 1)
    assert (error.status, error.code) == (429, -1015)
    assert "3 orders per 10 SECONDS" in error.message
    assert 1 <= int(error.headers["Retry-After"]) <= 10
    assert other.order(2)["X-MBX-ORDER-COUNT-10S"] == "1"
    clock.now += 10
    one.order(1)
    assert one.order(1) == {"X-MBX-ORDER-COUNT-10S": "2", "X-MBX-ORDER-COUNT-1D": "5"}
    assert "5 orders per 1 DAY" in refused(one.order, 1).message
    assert other.orders_used(1) == (2, 5)


def test_clients_are_told_the_limits() -> None:
    rows = ALLOWED.rate_limits()
    assert rows[0] == {
        "rateLimitType": "REQUEST_WEIGHT",
        "interval": "MINUTE",
        "intervalNum": 1,
        "limit": 100,
    }
    assert [row["rateLimitType"] for row in rows] == ["REQUEST_WEIGHT", "ORDERS", "ORDERS"]

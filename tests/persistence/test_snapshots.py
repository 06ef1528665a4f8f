"""Snapshot files: whole or not at all, and no byte that was changed goes unnoticed."""

import errno
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from matchbox.core import snapshot
from matchbox.core.snapshot import Image
from matchbox.persistence import files, snapshots
from matchbox.persistence.journal import Writer
from matchbox.shm.errors import BadArgument, SnapshotError
from matchbox.shm.records import Kind
from tests.core.exchange import Exchange, plan
from tests.core.flows import Flow

SIZES = {"log_slots": 1 << 13, "event_slots": 1 << 13}


@pytest.fixture(scope="module")
def exchange() -> Exchange:
    """Four markets on two matchers, with orders in all of them."""
    made = Exchange(plan(4, 2, **SIZES))
    bot = made.attach()
    commands = Flow(5, middle=10_000, width=40, markets=(1, 2, 3, 4)).take(1500, 19)
    commands["account"] = 0
    bot.submit(np.ascontiguousarray(commands[commands["kind"] < Kind.SUBSCRIBE][:200]))
    made.settle()
    return made


def image_of(exchange: Exchange) -> Image:
    return snapshot.save(exchange.plan, exchange.agents, exchange.segment)


def definitions(exchange: Exchange) -> Any:
    log = exchange.log
    return log[(log["kind"] >= Kind.ADD_ASSET) & (log["kind"] <= Kind.ADD_MARKET)]


def write(folder: Path, exchange: Exchange, **options: Any) -> Path:
    return snapshots.write(
        folder, image_of(exchange), definitions=definitions(exchange), epoch=3, **options
    )


def test_what_was_written_is_read_back(exchange: Exchange, tmp_path: Path) -> None:
    image = image_of(exchange)
    path = write(tmp_path / "a" / "b", exchange, chain=b"\x17" * 32, build="1.2")
    found = snapshots.read(path)
    assert (found.sequence, found.epoch, found.build) == (image.sequence, 3, "1.2")
    assert found.chain == "17" * 32
    assert (found.image.state_hash, found.image.rings) == (image.state_hash, image.rings)
    assert found.definitions.tobytes() == definitions(exchange).tobytes()
    assert [*found.image.parts] == [*image.parts]
    for name, part in image.parts.items():
        assert found.image.parts[name].dtype == part.dtype
        assert found.image.parts[name].tobytes() == part.tobytes()
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_every_changed_byte_is_noticed(exchange: Exchange, tmp_path: Path, seed: int) -> None:
    """One in each part and in each field of the header, and some anywhere."""
    path = write(tmp_path, exchange)
    whole = path.read_bytes()
    head = json.loads(whole[64 : 64 + int.from_bytes(whole[12:16], "little")])
    begin = -(-(64 + int.from_bytes(whole[12:16], "little")) // 64) * 64
    places = [0, 9, 13, 33, 70]
    for name, size, rows, offset, digest in head["parts"]:
        part = whole[begin + offset : begin + offset + size * rows]
        assert hashlib.sha256(part).hexdigest() == digest, name
        places += [begin + offset, begin + offset + size * rows - 1] if rows else []
    covered = np.zeros(len(whole), bool)
    covered[:begin] = True
    for _, size, rows, offset, _ in head["parts"]:
        covered[begin + offset : begin + offset + size * rows] = True
    chance = np.random.default_rng(seed)
    places += [int(place) for place in chance.choice(np.flatnonzero(covered[64:]) + 64, 40)]
    for place in places:
        if 64 + int.from_bytes(whole[12:16], "little") <= place < begin:
            continue  # between header and parts
        changed = bytearray(whole)
        changed[place] ^= 1 << int(chance.integers(8))
        path.write_bytes(changed)
        with pytest.raises(SnapshotError, match=path.name):
            snapshots.read(path)
    for size in (0, 10, 100, begin, len(whole) // 2, len(whole) - 100):
        path.write_bytes(whole[:size])
        with pytest.raises(SnapshotError, match=path.name):
            snapshots.read(path)
    path.write_bytes(whole)
    snapshots.read(path)


def test_a_snapshot_under_another_name_is_refused(exchange: Exchange, tmp_path: Path) -> None:
    path = write(tmp_path, exchange)
    other = path.rename(tmp_path / "5.snap")
    with pytest.raises(SnapshotError, match="another name"):
        snapshots.read(other)


@pytest.mark.parametrize("what", ["layout", "records"])
def test_a_snapshot_of_another_layout_is_refused(
    exchange: Exchange, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    name = {"layout": "LAYOUT", "records": "LAYOUT_VERSION"}[what]
    with monkeypatch.context() as later:
        later.setattr(snapshots, name, 99)
        path = write(tmp_path, exchange, build="later")
    with pytest.raises(SnapshotError, match=rf"another layout: .*{what}=99.* build=later"):
        snapshots.read(path)


def test_a_part_with_rows_of_another_size_is_refused(exchange: Exchange, tmp_path: Path) -> None:
    image = image_of(exchange)
    for name in image.parts:
        if name.startswith("sequencer.events-"):
            continue
        rows = image.parts[name]
        longer = np.zeros(len(rows), f"V{rows.itemsize + 8}")
        path = snapshots.write(
            tmp_path,
            replace(image, parts=image.parts | {name: longer}),
            definitions=definitions(exchange),
        )
        with pytest.raises(SnapshotError, match=f"another layout: part={name}, row_bytes="):
            snapshots.read(path)
        fewer = {other: part for other, part in image.parts.items() if other != name}
        snapshots.write(tmp_path, replace(image, parts=fewer), definitions=definitions(exchange))
        with pytest.raises(SnapshotError, match=f"no such part: part={name}"):
            snapshots.read(path)


def test_nothing_is_there_if_it_cannot_be_written(
    exchange: Exchange, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    first = write(tmp_path, exchange)
    before = first.read_bytes()
    with monkeypatch.context() as failing:
        failing.setattr(snapshots.os, "fsync", full)
        with pytest.raises(SnapshotError, match="No space left"):
            write(tmp_path, exchange)
    assert [file.name for file in tmp_path.iterdir()] == [first.name]
    assert first.read_bytes() == before


def test_it_gets_its_name_when_it_is_on_the_disk(
    exchange: Exchange, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, rename, flush = os.fsync, Path.rename, files.flush

    def noted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            done.append(name)
            return function(*arguments)

        return call

    tmp_path.joinpath("s").mkdir()
    monkeypatch.setattr(snapshots.os, "fsync", noted("file", fsync))
    monkeypatch.setattr(Path, "rename", noted("rename", rename))
    monkeypatch.setattr(snapshots.files, "make_directory", lambda folder: None)
    monkeypatch.setattr(snapshots.files, "flush", noted("folder", flush))
    write(tmp_path / "s", exchange)
    assert done[:3] == ["file", "rename", "folder"]


def test_the_newest_are_kept(exchange: Exchange, tmp_path: Path) -> None:
    image = image_of(exchange)
    for sequence in (1, 20, 3, 100):
        snapshots.file_path(tmp_path, sequence).write_bytes(b"")
    (tmp_path / "7.new").write_bytes(b"")
    (tmp_path / "notes.txt").write_bytes(b"")
    write(tmp_path, exchange, keep=2)
    assert snapshots.sequences(tmp_path) == [image.sequence, 100]
    assert not (tmp_path / "7.new").exists()
    assert (tmp_path / "notes.txt").exists()
    write(tmp_path, exchange, keep=0)
    assert snapshots.sequences(tmp_path) == [image.sequence, 100]
    assert snapshots.sequences(tmp_path / "none") == []


def test_the_newest_good_one_of_the_journal_is_chosen(exchange: Exchange, tmp_path: Path) -> None:
    said: list[str] = []
    folder, journal = tmp_path / "snapshots", tmp_path / "journal"
    log, sequence = exchange.log, image_of(exchange).sequence
    path = write(folder, exchange)
    damaged = snapshots.file_path(folder, sequence + 1)
    damaged.write_bytes(path.read_bytes())
    assert found(folder, said) == sequence
    assert "another name" in said.pop()
    assert found(folder, said, at_most=sequence) == sequence
    assert found(folder, said, at_most=sequence - 1) is None
    assert not said
    damaged.unlink()
    for records, problem in (
        (log[:-1], "the journal ends before it"),
        (_otherwise(log), f"the journal has another record {sequence:,}"),
        (log, ""),
    ):
        with Writer(journal / str(len(said))) as writer:
            writer.append(records)
        place = journal / str(len(said))
        assert found(folder, said, journal=place) == (None if problem else sequence)
        assert not problem or problem in said[-1]


def _otherwise(log: Any) -> Any:
    """The same but for the last record."""
    other = log.copy()
    other["timestamp_ns"][-1] += 1
    return other


def test_the_chain_tells_journals_apart(exchange: Exchange, tmp_path: Path) -> None:
    """Their last records are the same ones."""
    log, said = exchange.log, []
    for name, first in (("one", 7), ("two", 8)):
        with Writer(tmp_path / name) as writer:
            writer.append(log[:first])
            writer.append(log[first:])
            chain = writer.last_hash
    write(tmp_path / "snapshots", exchange, chain=chain)
    assert found(tmp_path / "snapshots", said, journal=tmp_path / "two")
    assert found(tmp_path / "snapshots", said, journal=tmp_path / "one") is None
    assert "other records before" in said[-1]


def found(folder: Path, said: list[str], **options: Any) -> int | None:
    snapshot_found = snapshots.newest(folder, say=said.append, **options)
    return snapshot_found.sequence if snapshot_found else None


# ---- what an engine cannot load


def loaded(exchange: Exchange, image: Image, **limits: Any) -> Exchange:
    made = Exchange(replace(exchange.plan, **limits), define=False, image=image)
    snapshot.load(image, made.agents)
    return made


@pytest.mark.parametrize(
    ("limit", "value", "said"),
    [
        ("max_accounts", 5, "limits.max_accounts is too low for the snapshot: limit=5, needed=9"),
        ("max_assets", 1, "limits.max_assets is too low for the snapshot: limit=1, needed=2"),
        ("max_balances", 19, "limits.max_balances is too low for the snapshot: limit=19"),
        ("max_references", 4, "limits.max_references is too low for the snapshot: limit=4"),
    ],
)
def test_a_limit_that_is_too_low_is_named(
    exchange: Exchange, limit: str, value: int, said: str
) -> None:
    with pytest.raises(SnapshotError, match=said):
        loaded(exchange, image_of(exchange), **{limit: value})


def test_a_market_without_its_memory_is_named(exchange: Exchange) -> None:
    image = image_of(exchange)
    with pytest.raises(BadArgument, match="not its memory: market=4, max_orders=0, needed=4096"):
        loaded(exchange, image, markets=exchange.plan.markets[:3])
    smaller = replace(exchange.plan.markets[1], max_orders=64, max_specials=64)
    markets = (exchange.plan.markets[0], smaller, *exchange.plan.markets[2:])
    with pytest.raises(BadArgument, match="not its memory: market=2, max_orders=64, needed=4096"):
        loaded(exchange, image, markets=markets)


def test_only_a_new_engine_on_rings_of_the_snapshot_can_load_it(exchange: Exchange) -> None:
    image = image_of(exchange)
    made = loaded(exchange, image)
    for name, agent in made.agents.items():
        with pytest.raises(BadArgument, match="is not new"):
            snapshot.load(image, {name: agent})
    fresh = Exchange(exchange.plan, define=False)
    for name, agent in fresh.agents.items():
        with pytest.raises(BadArgument, match="log ring is not at the snapshot"):
            snapshot.load(image, {name: agent})


def test_an_engine_that_is_not_at_rest_is_not_saved() -> None:
    exchange = Exchange(plan(1, **SIZES))
    bot = exchange.attach()
    bot.mass_cancel()
    while exchange.sequencer.poll():
        pass
    with pytest.raises(BadArgument, match=r"not all .* published: matcher-0=\d+, publisher=\d+"):
        image_of(exchange)

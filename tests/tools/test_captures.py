"""Captures: made by command and by themselves, replayed elsewhere, damaged, and found to differ."""

import hashlib
import json
import os
import random
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from matchbox.persistence import files, snapshots
from matchbox.persistence.journal import Reader
from matchbox.shm.errors import BadArgument, CaptureError
from matchbox.shm.records import LOG_RECORD, Kind
from matchbox.tools import alarms, capture
from matchbox.tools.config import load
from matchbox.tools.reproduce import Reproduced, reproduce
from tests.integration.conftest import ExchangeProcess, make_exchange, wait_for
from tests.integration.test_backup import damage
from tests.integration.test_up_down import trade
from tests.tools.played import Played
from tests.tools.running import command

# Used by its name, as an argument.
__all__ = ["make_exchange"]

Make = Callable[..., ExchangeProcess]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    seed = int(os.environ.get("MATCHBOX_TEST_SEED", "1"))
    print(f"seed {seed}")
    return Played(tmp_path_factory.mktemp("captures"), seed)


@pytest.fixture(scope="module")
def whole(played: Played, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A capture with a snapshot."""
    path = tmp_path_factory.mktemp("capture") / "whole.zip"
    command("capture", "last", "--data", played.folder, "--out", path)
    return path


@pytest.fixture
def data(played: Played, tmp_path: Path) -> Path:
    """A copy of the data folder that a test may damage."""
    shutil.copytree(played.folder, tmp_path / "data")
    return tmp_path / "data"


def rewritten(path: Path, target: Path, change: dict[str, Callable[[bytes], bytes | None]]) -> Path:
    """A copy of a capture, some parts of it changed or (None) left out, with right checksums."""
    with zipfile.ZipFile(path) as source:
        parts = {name: source.read(name) for name in source.namelist()}
    for name, of in change.items():
        changed = of(parts.pop(name))
        if changed is not None:
            parts[name] = changed
    manifest = json.loads(parts[capture.MANIFEST])
    for name in manifest["parts"]:
        manifest["parts"][name] = hashlib.sha256(parts.get(name, b"")).hexdigest()
    parts[capture.MANIFEST] = json.dumps(manifest).encode()
    with zipfile.ZipFile(target, "w") as out:
        for name, content in parts.items():
            out.writestr(name, content)
    return target


# ---- whole ones


def test_a_capture_replays_elsewhere_to_the_same_states(
    played: Played, whole: Path, tmp_path: Path
) -> None:
    found = reproduce(whole)
    assert (found.manifest.first, found.manifest.last) == (played.middle + 1, len(played.log))
    assert found.differences == [] and found.hashes >= 3
    assert found.same_up_to == len(played.log)
    expected = json.loads(command("at", "last", "hash", "--data", played.folder, "--json"))
    assert found.end == expected["hash"]["state"]
    # From the first record on, and some after the moment.
    path = tmp_path / "early.zip"
    moment = played.middle // 2
    said = command("capture", moment, "--data", played.folder, "--out", path, "--count", 50)
    assert f"{path}: records 1 to " in said
    early = json.loads(command("reproduce", path, "--json"))
    assert early["first"] == 1 and moment + 50 <= early["last"] < moment + 55
    state = json.loads(command("at", early["last"], "hash", "--data", played.folder, "--json"))
    assert (early["state"], early["differences"]) == (state["hash"]["state"], [])
    said = command("reproduce", path)
    assert "The same at" in said and early["state"] in said
    assert "there is such a file" in command(
        "capture", moment, "--data", played.folder, "--out", path, status=1
    )
    # Nobody else may read it, and it has the sizes of the engine, not the configuration.
    assert path.stat().st_mode & 0o777 == 0o600
    with zipfile.ZipFile(path) as file:
        assert sorted(file.namelist()) == ["capture.json", "exchange.toml", "hashes.json", "log"]
        settings = file.read("exchange.toml").decode()
        raw = file.read("log")
    assert str(played.folder) not in settings and "[[" not in settings
    assert raw == played.log[: early["last"]].tobytes()


def test_a_capture_says_what_a_snapshot_on_the_way_has(played: Played, tmp_path: Path) -> None:
    path = tmp_path / "through.zip"
    moment = played.middle // 2
    command("capture", moment, "--data", played.folder, "--out", path, "--count", 10**6)
    found = reproduce(path)
    assert (found.manifest.first, found.manifest.last) == (1, len(played.log))
    assert found.differences == []
    (claim,) = found.manifest.claims
    assert (claim.sequence, claim.hash) == (played.middle, f"{played.image.state_hash:016x}")


# ---- other states


def differences(path: Path) -> tuple[list[str], Reproduced]:
    found = reproduce(path)
    return found.differences, found


def test_it_says_where_the_state_first_differs(whole: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(whole) as file:
        hashes = json.loads(file.read(capture.HASHES))
    way = hashes["on_the_way"]

    def falsified(content: bytes) -> bytes:
        for place in (1, 2):
            way[place][1] = "0" * 16
        return json.dumps(hashes).encode()

    path = rewritten(whole, tmp_path / "other.zip", {capture.HASHES: falsified})
    (text,), found = differences(path)
    assert f"first differs in records {way[0][0] + 1:,} to {way[1][0]:,}: the hash after" in text
    assert (found.hashes, found.same_up_to) == (1, way[0][0])
    assert "DIFFERENT, with version" in command("reproduce", path, status=1)
    # Only the end, when all is settled.
    last = rewritten(
        whole,
        tmp_path / "end.zip",
        {capture.HASHES: lambda c: c.replace(b'"end": "', b'"end": "0')},
    )
    (text,), _ = differences(last)
    assert "the state at the end, all settled, was 0" in text


def test_it_says_where_only_one_engine_cannot_go_on(whole: Path, tmp_path: Path) -> None:
    place = 0

    def other_quantity(content: bytes) -> bytes:
        nonlocal place
        records = np.frombuffer(content, LOG_RECORD).copy()
        orders = (records["kind"] == Kind.NEW_ORDER) & (records["reject"] == 0)
        place = int(np.flatnonzero(orders & (records["hold"] > 0))[5])
        records["hold"][place] += 1
        place = int(records["sequence"][place])
        return records.tobytes()

    path = rewritten(whole, tmp_path / "hold.zip", {capture.LOG: other_quantity})
    found = reproduce(path)
    (text,) = found.differences
    assert f"only here the replay stops, at record {place:,}: replay differs" in text
    # It failed there too, and as it does here: that is a reproduction.
    failed = [place, text.split(": ", 1)[1]]

    def as_there(content: bytes) -> bytes:
        way = [row for row in json.loads(content)["on_the_way"] if row[0] < place]
        return json.dumps({"on_the_way": way, "end": "", "failed": failed}).encode()

    again = rewritten(path, tmp_path / "again.zip", {capture.HASHES: as_there})
    found = reproduce(again)
    assert found.differences == [] and f"stops at record {place:,}" in found.failed
    assert "As it did there, the replay stops" in command("reproduce", again)
    # The process that made it died of it.
    dead = rewritten(path, tmp_path / "dead.zip", {capture.HASHES: lambda content: None})
    assert "It has no hashes" in command("reproduce", dead, status=1)


# ---- damaged ones


def test_a_damaged_capture_is_refused_or_is_the_same(whole: Path, tmp_path: Path) -> None:
    seed = int(os.environ.get("MATCHBOX_TEST_SEED", "3"))
    print(f"seed {seed}")
    chosen, content, refused = random.Random(seed), whole.read_bytes(), 0
    path = tmp_path / "damaged.zip"
    for number in range(120):
        changed = bytearray(content)
        if number % 4 == 0:
            del changed[chosen.randrange(len(changed)) :]
        else:
            for _ in range(chosen.choice((1, 1, 40))):
                changed[chosen.randrange(len(changed))] ^= 1 << chosen.randrange(8)
        path.write_bytes(changed)
        try:
            assert reproduce(path).differences == []
        except CaptureError as error:
            assert str(path) in str(error)
            refused += 1
    assert refused > 90


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({capture.LOG: lambda c: c[:-128]}, "its log ends with record"),
        ({capture.LOG: lambda c: c[:-64]}, "half a record in its log"),
        ({capture.LOG: lambda c: c[:256] + c[384:]}, "its log does not go on at record"),
        ({capture.LOG: lambda c: None}, "it is damaged: it has"),
        ({capture.SNAPSHOT: lambda c: c[:200] + b"x" + c[201:]}, "is damaged"),
        ({capture.CONFIG: lambda c: b"matchers = 'two'"}, "exchange.toml:1: .*allowed"),
        (
            {capture.MANIFEST: lambda c: c.replace(b'"format": 1', b'"format": 2')},
            "of another layout: format=2, supported=1, made by version",
        ),
        (
            {capture.MANIFEST: lambda c: c.replace(b'"layout": ', b'"layout": 9')},
            "of another layout: layout=9",
        ),
        ({capture.HASHES: lambda c: b"[]"}, "is damaged"),
    ],
)
def test_what_is_wrong_with_a_capture_is_said(
    whole: Path, tmp_path: Path, change: Any, wrong: str
) -> None:
    path = rewritten(whole, tmp_path / "wrong.zip", change)
    with pytest.raises(CaptureError, match=wrong):
        reproduce(path)


def test_a_log_that_was_changed_is_refused(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "changed.zip"
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(path, "w") as out:
        for name in source.namelist():
            content = source.read(name)
            if name == capture.LOG:
                content = content[:-1] + bytes([content[-1] ^ 1])
            out.writestr(name, content)
    with pytest.raises(CaptureError, match="the checksum of log does not match"):
        reproduce(path)


def test_what_is_no_capture_is_refused(tmp_path: Path) -> None:
    assert "there is no such file" in command("reproduce", tmp_path / "none", status=1)
    path = tmp_path / "some.zip"
    path.write_text("no zip file")
    assert "is no capture, or is damaged" in command("reproduce", path, status=1)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("other", "content")
    assert "it is no capture: it has no capture.json" in command("reproduce", path, status=1)


# ---- by themselves


def alarm_captures(data: Path) -> list[Path]:
    return sorted((data / alarms.FOLDER).glob("alarm-*.zip"))


def test_verify_writes_one_when_a_snapshot_has_another_state(played: Played, data: Path) -> None:
    snapshot = snapshots.read(snapshots.file_path(data / "snapshots", played.middle))
    wrong = replace(snapshot.image, state_hash=snapshot.image.state_hash ^ 1)
    snapshots.write(data / "snapshots", wrong, definitions=snapshot.definitions, build="wrong")
    said = command("verify", data, status=1)
    (path,) = alarm_captures(data)
    assert f"A capture was written: {path}" in said
    found = reproduce(path)
    # It leads to the snapshot, and says that the replay is right and the snapshot is not.
    assert (found.manifest.first, found.manifest.last) == (1, played.middle)
    assert "the state hash in" in found.manifest.reason
    (text,) = found.differences
    assert (
        f"the snapshot of record {played.middle:,} has the state hash {wrong.state_hash:016x}"
        in text
    )
    assert f"the replay comes to {snapshot.image.state_hash:016x}" in text


def test_of_a_damaged_journal_what_can_be_read_is_captured(played: Played, data: Path) -> None:
    place = played.middle + 200
    damage(files.file_path(data / "journal", 1), played.log[place].tobytes())
    said = command("verify", data, status=1)
    (path,) = alarm_captures(data)
    assert f"A capture was written: {path}" in said and "cannot be read further" in said
    found = reproduce(path)
    assert found.differences == []
    assert played.middle < found.manifest.last <= place
    assert "could not be read further" in command("reproduce", path)


def test_the_oldest_are_removed_and_only_one_is_made_at_a_time(data: Path) -> None:
    config = load(data / "exchange.toml")
    made = [
        alarms.make(data / "journal", "300", f"reason {n}", config=config).path
        for n in range(alarms.KEPT + 2)
    ]
    (data / alarms.FOLDER / "alarm-1.zip.new").touch()
    made.append(alarms.make(data / "journal", "300", "last", config=config).path)
    assert alarm_captures(data) == made[-alarms.KEPT :]
    assert list((data / alarms.FOLDER).glob("*.new")) == []
    lock = alarms.private(data / alarms.FOLDER / "lock")
    try:
        alarms.fcntl.flock(lock, alarms.fcntl.LOCK_EX)
        with pytest.raises(CaptureError, match="another capture is being written"):
            alarms.make(data / "journal", "300", "busy", config=config)
    finally:
        os.close(lock)


def test_a_full_disk_gets_no_capture_and_an_alarm_never_raises(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load(data / "exchange.toml")
    usage = shutil.disk_usage(data)
    monkeypatch.setattr(alarms.shutil, "disk_usage", lambda path: usage._replace(free=1 << 29))
    with pytest.raises(CaptureError, match="the disk has too little room: free=536870912"):
        alarms.make(data / "journal", "last", "full", config=config)
    assert alarm_captures(data) == []
    said: list[str] = []
    nowhere = data / "file"
    nowhere.touch()
    alarms.begin(nowhere, "a reason", said.append)
    assert len(said) == 1 and said[0].startswith("No capture is written: ")
    with pytest.raises(BadArgument, match="first=1"):
        capture.write(data / "journal", "0", None, config=config)


def test_a_start_that_comes_to_another_state_writes_one_and_goes_on(make_exchange: Make) -> None:
    exchange = make_exchange().up()
    trade(exchange, count=200)
    stopped = exchange.down()
    path = exchange.data / "instance.json"
    path.write_text(path.read_text().replace(stopped["hash"], "0" * 16))
    exchange.up()
    said = exchange.text()
    assert f"ALARM: the state hash of record {stopped['sequence']:,} was {'0' * 16}" in said
    assert "A capture of what led to it is written into" in said

    def written() -> list[Path]:
        return [p for p in alarm_captures(exchange.data) if "hashes.json" in names_in(p)]

    (made,) = wait_for(written, "the capture is whole")
    found = reproduce(made)
    assert found.differences == [] and "state hash of record" in found.manifest.reason
    assert found.manifest.last >= stopped["sequence"]
    trade(exchange, count=20, seed=2)
    last = exchange.down()["sequence"]
    with Reader(exchange.data / "journal") as reader:
        assert reader.last_sequence() == last
    log = (exchange.data / "captures" / "log.txt").read_text()
    assert str(made) in log


def names_in(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as file:
            return file.namelist()
    except zipfile.BadZipFile:
        return []  # it is being written

"""The journal on real LMDB files: what was appended comes back, what was changed is found."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest
from numpy.typing import NDArray

import matchbox.shm
from matchbox.persistence import files
from matchbox.persistence.batch import HEADER, LAYOUT_VERSION, NO_HASH, Assembler
from matchbox.persistence.journal import Reader, Writer, check
from matchbox.shm.errors import BadArgument, JournalError
from matchbox.shm.records import LOG_RECORD, Kind

MakeLog = Callable[..., NDArray[Any]]
SMALL_FILE = 4 << 20


def read_all(directory: Path, first: int = 1) -> NDArray[Any]:
    with Reader(directory) as reader:
        batches = [batch.records for batch in reader.batches(first)]
    return np.concatenate(batches) if batches else np.zeros(0, LOG_RECORD)


def write(directory: Path, make_log: MakeLog, sizes: list[int], **options: Any) -> NDArray[Any]:
    """Journal batches of these sizes; the records that the journal holds then."""
    with Writer(directory, **options) as writer:
        for size in sizes:
            writer.append(make_log(writer.last_sequence + 1, size))
        return make_log(1, writer.last_sequence)


def test_the_layout_version_is_that_of_the_records() -> None:
    header = (Path(matchbox.shm.get_include()) / "records.h").read_text()
    found = re.search(r"#define MB_LAYOUT_VERSION (\d+)u", header)
    assert found
    assert int(found[1]) == LAYOUT_VERSION
    assert HEADER.itemsize == LOG_RECORD.itemsize


def test_a_new_journal_is_empty(tmp_path: Path) -> None:
    with Reader(tmp_path / "journal") as reader:
        assert reader.last() == (0, NO_HASH)
        assert list(reader.batches()) == []
    with Writer(tmp_path / "journal") as writer:
        assert (writer.last_sequence, writer.last_hash, writer.last_record) == (0, NO_HASH, b"")
    assert check(tmp_path / "journal") == 0


def test_what_was_appended_comes_back_in_order(tmp_path: Path, make_log: MakeLog) -> None:
    expected = write(tmp_path, make_log, [1, 2, 1000, 5, 3000, 1])
    assert read_all(tmp_path).tobytes() == expected.tobytes()
    assert check(tmp_path) == len(expected)


def test_a_batch_of_two_parts_is_one_batch(tmp_path: Path, make_log: MakeLog) -> None:
    records = make_log(1, 100)
    with Writer(tmp_path, epoch=7) as writer:
        assert writer.append(records[:30], records[30:]) == 100
        assert writer.last_record == records[-1].tobytes()
        with Reader(tmp_path) as reader:
            (batch,) = reader.batches()
            assert (batch.first_sequence, batch.last_sequence, batch.epoch) == (1, 100, 7)
            assert batch.records.tobytes() == records.tobytes()
            assert reader.last() == (100, writer.last_hash) == (100, batch.hash)


def test_reading_begins_with_the_batch_that_holds_the_sequence(
    tmp_path: Path, make_log: MakeLog
) -> None:
    write(tmp_path, make_log, [10, 10, 10])
    with Reader(tmp_path) as reader:
        for first, expected in [(1, 1), (10, 1), (11, 11), (15, 11), (30, 21)]:
            assert next(reader.batches(first)).first_sequence == expected
        assert list(reader.batches(31)) == []
        assert [int(h["first_sequence"]) for h in reader.headers(12)] == [11, 21]


def test_headers_say_where_definitions_and_times_are(tmp_path: Path, make_log: MakeLog) -> None:
    records = make_log(1, 20)
    records["kind"][3:6] = [Kind.ADD_ASSET, Kind.ADD_ACCOUNT, Kind.ADD_MARKET]
    with Writer(tmp_path) as writer:
        writer.append(records[:10])
        writer.append(records[10:])
    with Reader(tmp_path) as reader:
        headers = list(reader.headers())
        assert reader.batch(headers[0]).records.tobytes() == records[:10].tobytes()
    assert [int(h["definitions"]) for h in headers] == [3, 0]
    assert [int(h["first_timestamp_ns"]) for h in headers] == [1000, 11000]
    assert [int(h["last_timestamp_ns"]) for h in headers] == [10000, 20000]


@pytest.mark.parametrize("first", [1, 3, 5, 0])
def test_a_batch_that_does_not_go_on_is_refused(
    tmp_path: Path, make_log: MakeLog, first: int
) -> None:
    with Writer(tmp_path) as writer:
        writer.append(make_log(1, 3))
        with pytest.raises(JournalError, match=rf"expected sequence=4, found={first}"):
            writer.append(make_log(first, 3))
        assert writer.append(make_log(4, 1)) == 4


def test_a_gap_inside_a_batch_is_named(tmp_path: Path, make_log: MakeLog) -> None:
    records = make_log(1, 50)
    records["sequence"][20] = 99
    with Writer(tmp_path) as writer, pytest.raises(JournalError, match="expected sequence=21") as e:
        writer.append(records)
    assert e.value.sequence == 21
    assert read_all(tmp_path).size == 0


def test_batches_of_no_or_too_many_records_are_refused(tmp_path: Path, make_log: MakeLog) -> None:
    with Writer(tmp_path, batch_records=10) as writer:
        for count in (0, 11):
            with pytest.raises(BadArgument, match=f"records={count}, allowed=1 to 10"):
                writer.append(make_log(1, count))
        with pytest.raises(BadArgument, match="not log records"):
            writer.append(np.zeros(3, np.uint64))
    with pytest.raises(BadArgument, match="journal file size"):
        Writer(tmp_path, file_bytes=1000)


def test_an_existing_journal_is_continued(tmp_path: Path, make_log: MakeLog) -> None:
    write(tmp_path, make_log, [10, 20])
    with Writer(tmp_path) as writer:
        assert writer.last_sequence == 30
        assert writer.last_record == make_log(30, 1).tobytes()
        writer.append(make_log(31, 5))
    assert read_all(tmp_path).tobytes() == make_log(1, 35).tobytes()


def test_a_full_file_is_followed_by_a_new_one_and_the_chain_goes_on(
    tmp_path: Path, make_log: MakeLog
) -> None:
    expected = write(tmp_path, make_log, [4000] * 25, batch_records=4000, file_bytes=SMALL_FILE)
    paths = sorted(tmp_path.glob("*.mdb"))
    assert len(paths) > 3
    assert all(path.stat().st_size <= SMALL_FILE for path in paths)
    assert read_all(tmp_path).tobytes() == expected.tobytes()
    with Reader(tmp_path) as reader:
        assert next(reader.batches(50_000)).first_sequence == 48_001
    assert check(tmp_path) == 100_000
    paths[1].unlink()
    with pytest.raises(JournalError, match="does not end where the next file begins|are missing"):
        read_all(tmp_path)
    paths[0].unlink()
    with pytest.raises(JournalError, match="the journal begins at") as e:
        read_all(tmp_path)
    assert e.value.sequence == 1


def test_small_batches_fill_files_without_ever_needing_more_than_the_file(
    tmp_path: Path, make_log: MakeLog
) -> None:
    # Tree and free pages grow with the number of commits, not with the bytes.
    sizes = [1, 2, 30, 7, 100] * 60
    expected = write(tmp_path, make_log, sizes, batch_records=100, file_bytes=SMALL_FILE)
    assert read_all(tmp_path).tobytes() == expected.tobytes()
    assert check(tmp_path) == len(expected)


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with Writer(tmp_path), pytest.raises(JournalError, match="another process writes"):
        Writer(tmp_path)


def test_a_writer_must_come_before_readers_of_its_process(
    tmp_path: Path, make_log: MakeLog
) -> None:
    write(tmp_path, make_log, [5])
    with Reader(tmp_path) as reader:
        assert reader.last()[0] == 5
        with pytest.raises(JournalError, match="open the writer before any reader"):
            Writer(tmp_path)
    Writer(tmp_path).close()


@contextmanager
def meddle(path: Path) -> Iterator[lmdb.Transaction]:
    """Change a file behind the journal's back."""
    with (
        lmdb.open(str(path), subdir=False, map_size=1 << 30) as env,
        env.begin(write=True) as transaction,
    ):
        yield transaction


class FailingEnvironment:
    """Stands in for an LMDB environment whose disk is full."""

    def __init__(self, real: lmdb.Environment) -> None:
        self.real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def begin(self, *arguments: Any, write: bool = False, **options: Any) -> Any:
        if write:
            raise lmdb.DiskError("No space left on device")
        return self.real.begin(*arguments, **options)


def test_a_failed_commit_is_the_end_of_the_file_and_a_new_file_goes_on(
    tmp_path: Path, make_log: MakeLog
) -> None:
    with Writer(tmp_path) as writer:
        writer.append(make_log(1, 10))
        environment = writer._environment
        assert environment is not None
        environment.env = FailingEnvironment(environment.env)  # type: ignore[assignment]
        with pytest.raises(JournalError, match="No space left") as e:
            writer.append(make_log(11, 10))
        assert e.value.sequence == 11
        assert writer.last_sequence == 10
        environment.env = environment.env.real  # type: ignore[attr-defined]
        with pytest.raises(JournalError, match="the journal has failed"):
            writer.append(make_log(11, 10))
        writer.roll()
        writer.append(make_log(11, 5))
    assert read_all(tmp_path).tobytes() == make_log(1, 15).tobytes()
    assert [path.name for path in sorted(tmp_path.glob("*.mdb"))] == ["000001.mdb", "000002.mdb"]


def test_a_newer_file_overrules_what_a_failed_one_may_hold(
    tmp_path: Path, make_log: MakeLog
) -> None:
    with Writer(tmp_path) as writer:
        writer.append(make_log(1, 10))
        # What a commit leaves that reached the disk although it was reported as failed.
        ghost = Assembler(100).assemble((make_log(11, 10, seed=9),), 11, writer.last_hash, 0)
        assert writer._environment is not None
        with writer._environment.env.begin(write=True) as transaction:
            transaction.put(files.pack_key(11), ghost.data)
        writer.roll()
        writer.append(make_log(11, 7))
        writer.append(make_log(18, 7))
    assert read_all(tmp_path).tobytes() == make_log(1, 24).tobytes()
    assert read_all(tmp_path, 12).tobytes() == make_log(11, 14).tobytes()


def test_a_batch_of_another_chain_is_found(tmp_path: Path, make_log: MakeLog) -> None:
    write(tmp_path / "one", make_log, [10, 10, 10])
    with Writer(tmp_path / "two") as writer:
        writer.append(make_log(1, 10, seed=5))
        writer.append(make_log(11, 10))
    with files.Environment(tmp_path / "two" / "000001.mdb", False).read() as cursor:
        cursor.set_key(files.pack_key(11))
        foreign = bytes(cursor.value())
    with meddle(tmp_path / "one" / "000001.mdb") as transaction:
        transaction.put(files.pack_key(11), foreign)
    for first in (1, 11):
        with pytest.raises(JournalError, match="batch 11 does not follow") as e:
            read_all(tmp_path / "one", first)
        assert e.value.sequence == 11


def test_a_missing_batch_is_found(tmp_path: Path, make_log: MakeLog) -> None:
    write(tmp_path, make_log, [10, 10, 10])
    with meddle(tmp_path / "000001.mdb") as transaction:
        transaction.delete(files.pack_key(11))
    with pytest.raises(JournalError, match="records 11 to 20 are missing") as e:
        read_all(tmp_path)
    assert e.value.sequence == 11


def test_any_flipped_byte_is_found_and_its_sequence_named(
    tmp_path: Path, make_log: MakeLog, seed: int
) -> None:
    chance = random.Random(seed)
    write(tmp_path, make_log, [500] * 20)
    path = tmp_path / "000001.mdb"
    whole = path.read_bytes()
    records = make_log(1, 10_000)
    for _ in range(60):
        index = chance.randrange(len(records))
        offset = whole.index(records[index].tobytes()) + chance.randrange(LOG_RECORD.itemsize)
        damaged = bytearray(whole)
        damaged[offset] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        first = index // 500 * 500 + 1
        with pytest.raises(JournalError, match=f"batch {first} is damaged") as e:
            read_all(tmp_path)
        assert e.value.sequence == first
    # What lies before the damage can be read.
    with Reader(tmp_path) as reader, pytest.raises(JournalError):
        read = 0
        for batch in reader.batches():
            read = batch.last_sequence
    assert read == first - 1


def test_damage_anywhere_in_a_file_is_found_or_harmless(
    tmp_path: Path, make_log: MakeLog, seed: int
) -> None:
    chance = random.Random(seed)
    expected = write(tmp_path, make_log, [1, 3, 40] * 30).tobytes()
    path = tmp_path / "000001.mdb"
    whole = path.read_bytes()
    found = 0
    for _ in range(150):
        damaged = bytearray(whole)
        damaged[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        try:
            last = check(tmp_path)
        except JournalError as error:
            assert 1 <= error.sequence <= 1321
            found += 1
        else:
            # An unused page, or the older of the two meta pages.
            assert last == 1320
            assert read_all(tmp_path).tobytes() == expected
    assert found > 20


def test_a_cut_off_file_is_an_error_and_not_a_fault(
    tmp_path: Path, make_log: MakeLog, seed: int
) -> None:
    chance = random.Random(seed)
    write(tmp_path, make_log, [100] * 50)
    path = tmp_path / "000001.mdb"
    whole = path.read_bytes()
    for size in [0, 1, 4096, 8191, 8192, *(chance.randrange(len(whole)) for _ in range(30))]:
        path.write_bytes(whole[:size])
        with pytest.raises(JournalError, match="cut off|cannot open|damaged"):
            read_all(tmp_path)
        with pytest.raises(JournalError):
            check(tmp_path)
        with pytest.raises(JournalError):
            Writer(tmp_path)
    path.write_bytes(whole)
    assert len(read_all(tmp_path)) == 5000


WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from conftest import make_records
from matchbox.persistence.journal import Writer
with Writer(Path(sys.argv[1]), batch_records=300, file_bytes=4 << 20) as writer:
    size = 1
    while True:
        size = size * 7 % 299 + 1
        print(writer.append(make_records(writer.last_sequence + 1, size)), flush=True)
"""


def start_writer(directory: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(directory), str(Path(__file__).parent)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def test_a_writer_killed_at_any_moment_leaves_every_committed_batch(
    tmp_path: Path, make_log: MakeLog, seed: int
) -> None:
    kill_writers(tmp_path, make_log, random.Random(seed), 12)


@pytest.mark.soak("kills")
@pytest.mark.timeout(3600)
def test_a_writer_killed_hundreds_of_times_leaves_every_committed_batch(
    tmp_path: Path, make_log: MakeLog, seed: int, soak_count: Callable[[int], int]
) -> None:
    kill_writers(tmp_path, make_log, random.Random(seed), min(soak_count(500), 500))


def kill_writers(directory: Path, make_log: MakeLog, chance: random.Random, times: int) -> None:
    """Kill writers, one after the other; what each had acknowledged must be there."""
    for _ in range(times):
        with start_writer(directory) as process:
            assert process.stdout
            for _ in range(chance.randrange(1, 60)):
                acknowledged = int(process.stdout.readline())
            time.sleep(chance.random() * 0.003)  # not a wait for anything: where the kill falls
            process.send_signal(signal.SIGKILL)
            left = process.stdout.read().split("\n")
            acknowledged = max([acknowledged, *(int(text) for text in left[:-1])])
        records = read_all(directory)
        assert len(records) >= acknowledged
        assert records.tobytes() == make_log(1, len(records)).tobytes()
    assert check(directory) == len(records)


def test_readers_read_while_another_process_writes(tmp_path: Path, make_log: MakeLog) -> None:
    with start_writer(tmp_path) as process, Reader(tmp_path) as reader:
        try:
            assert process.stdout
            process.stdout.readline()
            read, deadline = 0, time.monotonic() + 60
            while len(files.numbers(tmp_path)) < 3 or read < 40_000:
                assert time.monotonic() < deadline, f"only {read} records after a minute"
                process.stdout.readline()
                for batch in reader.batches(read + 1):
                    assert batch.first_sequence == read + 1
                    expected = make_log(read + 1, len(batch.records))
                    assert batch.records.tobytes() == expected.tobytes()
                    read = batch.last_sequence
        finally:
            process.kill()

"""One batch of log records as the journal keeps it: a header of 128 bytes, then the raw records.

Layout of a value (version 1, little-endian):

      0  magic               "MBJRNL01"
      8  version             of this layout
     12  layout_version      of the records (MB_LAYOUT_VERSION)
     16  first_sequence      equal to the LMDB key, which is big-endian
     24  count               records in the batch, > 0
     28  definitions         how many of them are ADD_ASSET, ADD_ACCOUNT or ADD_MARKET
     32  epoch               of the instance that wrote it
     40  first_timestamp_ns  of the first record
     48  last_timestamp_ns   of the last record
     56  reserved            0
     64  previous            hash of the batch before; zeros before the first
     96  hash                SHA-256 of bytes 0 to 95 and of the records
    128  records             count * 128 bytes

SHA-256 because it is the fastest secure hash of hashlib where the CPU has instructions for it: see
docs/decisions/2026-11-24-journal-batches.md. `definitions` and the timestamps let a reader find
names and times without reading, or hashing, the records.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matchbox.shm.errors import BadArgument, JournalError
from matchbox.shm.records import LOG_RECORD, Kind

MAGIC = int.from_bytes(b"MBJRNL01", "little")
VERSION = 1
LAYOUT_VERSION = 3  # MB_LAYOUT_VERSION of records.h; a test compares them
HASH_BYTES = 32
NO_HASH = bytes(HASH_BYTES)
MAX_RECORDS = 1 << 20

HEADER = np.dtype(
    [
        ("magic", "<u8"),
        ("version", "<u4"),
        ("layout_version", "<u4"),
        ("first_sequence", "<u8"),
        ("count", "<u4"),
        ("definitions", "<u4"),
        ("epoch", "<u8"),
        ("first_timestamp_ns", "<u8"),
        ("last_timestamp_ns", "<u8"),
        ("reserved", "<u8"),
        ("previous", "V32"),
        ("hash", "V32"),
    ]
)
_HASHED = HEADER.itemsize - HASH_BYTES
_PARSED = ("magic", "version", "layout_version", "first_sequence", "count", "reserved")


@dataclass(frozen=True)
class Batch:
    """A verified batch: a copy of its own of the whole `value`, and in it its `records`."""

    first_sequence: int
    epoch: int
    previous: bytes
    hash: bytes
    records: NDArray[Any]
    value: NDArray[np.uint8]

    @property
    def last_sequence(self) -> int:
        return self.first_sequence + len(self.records) - 1

    @property
    def logged(self) -> NDArray[Any]:
        """The records as they were written; `records` has marks in those that are cut out."""
        return self.value[HEADER.itemsize :].view(LOG_RECORD)


class Assembler:
    """Makes values in one buffer that is allocated once; a record is copied once."""

    def __init__(self, maximum: int) -> None:
        """For batches of up to `maximum` records (1 to MAX_RECORDS, else BadArgument)."""
        if not 1 <= maximum <= MAX_RECORDS:
            raise BadArgument(f"batch size: records={maximum}, allowed=1 to {MAX_RECORDS}")
        self.maximum = maximum
        self._bytes = np.zeros(HEADER.itemsize + maximum * LOG_RECORD.itemsize, np.uint8)
        self._header = self._bytes[: HEADER.itemsize].view(HEADER)
        self._records = self._bytes[HEADER.itemsize :].view(LOG_RECORD)
        self._offsets = np.arange(maximum, dtype=np.uint64)

    def assemble(
        self, parts: tuple[NDArray[Any], ...], first_sequence: int, previous: bytes, epoch: int
    ) -> NDArray[np.uint8]:
        """The value with the records of `parts`; valid until the next call.

        Raises JournalError unless the records' sequences are first_sequence, first_sequence + 1,
        ...
        """
        count = sum(map(len, parts))
        if not 1 <= count <= self.maximum:
            raise BadArgument(f"batch size: records={count}, allowed=1 to {self.maximum}")
        filled = 0
        for part in parts:
            if part.dtype.itemsize != LOG_RECORD.itemsize:
                raise BadArgument(f"not log records: itemsize={part.dtype.itemsize}")
            self._records[filled : filled + len(part)].view(np.uint8)[:] = part.view(np.uint8)
            filled += len(part)
        records = self._records[:count]
        check_sequences(records, first_sequence, self._offsets)
        kinds = records["kind"]
        definitions = (kinds >= Kind.ADD_ASSET) & (kinds <= Kind.ADD_MARKET)
        self._header[0] = (
            MAGIC,
            VERSION,
            LAYOUT_VERSION,
            first_sequence,
            count,
            np.count_nonzero(definitions),
            epoch,
            records["timestamp_ns"][0],
            records["timestamp_ns"][-1],
            0,
            previous,
            NO_HASH,
        )
        value = self._bytes[: HEADER.itemsize + count * LOG_RECORD.itemsize]
        value[_HASHED : HEADER.itemsize] = np.frombuffer(_hash(value), np.uint8)
        return value

    @property
    def hash(self) -> bytes:
        """Of the value that was assembled last."""
        return self._bytes[_HASHED : HEADER.itemsize].tobytes()


def _hash(value: NDArray[np.uint8]) -> bytes:
    state = hashlib.sha256(value[:_HASHED].data)
    state.update(value[HEADER.itemsize :].data)
    return state.digest()


def check_sequences(records: NDArray[Any], first: int, offsets: NDArray[Any] | None = None) -> None:
    """Raises JournalError, naming the first wrong one, unless they are first, first + 1, ..."""
    if offsets is None:
        offsets = np.arange(len(records), dtype=np.uint64)
    wrong = records["sequence"] != offsets[: len(records)] + np.uint64(first)
    if wrong.any():
        index = int(wrong.argmax())
        raise JournalError(
            f"log records out of order: expected sequence={first + index}, "
            f"found={int(records['sequence'][index])}",
            first + index,
        )


def read_header(value: memoryview, key: int) -> NDArray[Any]:
    """A copy of the header of `value`, stored under `key`. Reads no byte after the header.

    Raises JournalError, with `key` as its sequence, if it is no header or does not fit the value.
    """
    if len(value) < HEADER.itemsize:
        raise JournalError(f"batch {key} is cut off: bytes={len(value)}", key)
    header = np.frombuffer(value, HEADER, 1)[0].copy()
    magic, version, layout, first, count, reserved = (int(header[name]) for name in _PARSED)
    if magic != MAGIC or reserved:
        raise JournalError(f"batch {key} is damaged: magic={magic:#x}, reserved={reserved}", key)
    if version != VERSION or layout != LAYOUT_VERSION:
        raise JournalError(
            f"batch {key} was written by another version: version={version}, "
            f"layout_version={layout}, supported={VERSION}, {LAYOUT_VERSION}",
            key,
        )
    size = HEADER.itemsize + count * LOG_RECORD.itemsize
    if first != key or not 1 <= count <= MAX_RECORDS or size != len(value):
        raise JournalError(
            f"batch {key} is damaged: first_sequence={first}, count={count}, bytes={len(value)}",
            key,
        )
    return header  # type: ignore[no-any-return]


def read_batch(value: memoryview, key: int) -> Batch:
    """The batch in `value`, copied and verified but for its place in the chain.

    Raises JournalError, with `key` as its sequence, if a byte of it is not as it was written.
    """
    header = read_header(value, key)
    copy = np.frombuffer(value, np.uint8).copy()
    digest = _hash(copy)
    if digest != header["hash"].tobytes():
        count = int(header["count"])
        raise JournalError(
            f"batch {key} is damaged: its checksum does not match (records {key} to "
            f"{key + count - 1}), hash={digest.hex()}, written={header['hash'].tobytes().hex()}",
            key,
        )
    records = copy[HEADER.itemsize :].view(LOG_RECORD)
    check_sequences(records, key)
    return Batch(key, int(header["epoch"]), header["previous"].tobytes(), digest, records, copy)

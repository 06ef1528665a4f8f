"""Where consumers of streams are: positions that the exchange keeps for them, on the disk.

An LMDB file beside the views, which outlives them: key `stream/whose/consumer`, value the position
as 12 bytes (POSITION). A commit is flushed before it returns.
"""

from pathlib import Path
from typing import Any

import lmdb
import numpy as np

from matchbox.persistence.partition import POSITION
from matchbox.shm.errors import ViewsError

_MAP_BYTES = 1 << 30
_MOST_KEY = 500  # LMDB's own limit is 511


class Consumers:
    """The positions of all consumers. Any thread; one process."""

    def __init__(self, path: Path) -> None:
        """Raises ViewsError."""
        self._path = path
        try:
            self._env = lmdb.open(str(path), subdir=False, mode=0o600, map_size=_MAP_BYTES)
        except lmdb.Error as error:
            raise ViewsError(f"cannot open {path}: {error}") from error

    def close(self) -> None:
        self._env.close()

    def position(self, stream: str, whose: str, consumer: str) -> tuple[int, int] | None:
        """What was committed last; None if nothing was."""
        try:
            with self._env.begin() as transaction:
                value = transaction.get(_key(stream, whose, consumer))
        except lmdb.Error as error:
            raise ViewsError(f"{self._path} is damaged: {error}") from error
        return None if value is None else _read(value)

    def commit(self, stream: str, whose: str, consumer: str, position: tuple[int, int]) -> None:
        """Keep it. When this returns it is on the disk. Raises ViewsError."""
        try:
            with self._env.begin(write=True) as transaction:
                value = np.array(position, POSITION).tobytes()
                transaction.put(_key(stream, whose, consumer), value)
        except lmdb.Error as error:
            raise ViewsError(f"cannot write {self._path}: {error}") from error

    def all(self) -> list[dict[str, Any]]:
        """Stream, whose, consumer and position of each."""
        with self._env.begin() as transaction, transaction.cursor() as cursor:
            rows = [(key.decode().split("/", 2), _read(value)) for key, value in cursor]
        return [
            {"stream": stream, "of": whose, "consumer": consumer, "position": f"{s}-{p}"}
            for (stream, whose, consumer), (s, p) in rows
        ]


def _key(stream: str, whose: str, consumer: str) -> bytes:
    key = f"{stream}/{whose.replace('/', '%2F')}/{consumer}".encode()
    if len(key) > _MOST_KEY:
        raise ViewsError(f"the name is too long: consumer={consumer!r}")
    return key


def _read(value: bytes) -> tuple[int, int]:
    row = np.frombuffer(value, POSITION)[0]
    return int(row["sequence"]), int(row["part"])

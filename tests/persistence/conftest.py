"""Log records to journal, and journalers on a disk that records what they do."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from matchbox.shm.records import LOG_RECORD, Kind

if TYPE_CHECKING:
    from tests.persistence.recorder import Recorder

MakeLog = Callable[..., NDArray[Any]]


def make_records(first: int, count: int, seed: int = 1) -> NDArray[Any]:
    """Log records `first` to `first + count - 1`, the same bytes for the same sequence and seed."""
    records = np.zeros(count, LOG_RECORD)
    sequences = np.arange(first, first + count, dtype=np.uint64)
    records["sequence"] = sequences
    records["timestamp_ns"] = sequences * np.uint64(1000)
    records["kind"] = Kind.NEW_ORDER
    records["price_ticks"] = (sequences * np.uint64(seed * 2654435761)).view(np.int64) & 0xFFFFFF
    records["quantity_lots"] = sequences.view(np.int64) ^ seed
    return records


@pytest.fixture
def make_log() -> MakeLog:
    return make_records


@pytest.fixture
def recorder(compile_c: Any, unique_name: Callable[[], str]) -> "Iterator[Recorder]":
    """Its journals are in memory: what counts is the record."""
    from tests.persistence.recorder import HARNESS, Recorder

    library = compile_c(HARNESS / "disk.c", "-shared", "-fPIC", "-pthread")
    folder = Path("/dev/shm") / f"matchbox-{unique_name()}-disk"
    folder.mkdir()
    recorder = Recorder(library, folder)
    yield recorder
    recorder.close()
    shutil.rmtree(folder)

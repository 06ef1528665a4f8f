"""The board: a small segment where an instance's processes show themselves and wake each other.

        0  header       magic, layout version, epoch, state of the instance, supervisor
      128  bells        one park word of 128 bytes a process: others ring it after publishing for it
     4224  processes    one row of 128 bytes a process: name, pid, core, idle strategy
     8320  agents       one row of 128 bytes an agent: name, process, work, position; by its loop.
                        What it has in hand (core/agent.pxd), the signal that it died of, and
                        what it had in hand when the engine before this one died
    20608  folder       128 bytes: path of the data folder; its identity is in the header

Everything but the bells and what is in hand is for people (`matchbox status`): plain counters, no
ordering promised.
"""

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matchbox.shm.errors import SegmentError

MAGIC = 0x3144524F4F42424D  # "MBBOORD1" in memory order
LAYOUT_VERSION = 3
PROCESSES = 32
AGENTS = 96
BELLS_OFFSET = 128
PROCESSES_OFFSET = BELLS_OFFSET + 128 * PROCESSES
AGENTS_OFFSET = PROCESSES_OFFSET + 128 * PROCESSES
FOLDER_OFFSET = AGENTS_OFFSET + 128 * AGENTS
BOARD_BYTES = FOLDER_OFFSET + 128

# "following": of a standby that has caught up.
STATES = {1: "starting", 2: "running", 3: "stopping", 4: "stopped", 5: "following"}

_HEADER = np.dtype(
    [
        ("magic", "<u8"),
        ("layout_version", "<u4"),
        ("state", "<u4"),
        ("epoch", "<u8"),
        ("supervisor_pid", "<u4"),
        ("processes", "<u4"),
        ("agents", "<u4"),
        ("identity", "S32"),
        ("told", "<u8"),
        ("reserved", "V52"),
    ]
)
_PROCESS = np.dtype(
    [("name", "S32"), ("pid", "<u4"), ("core", "<i4"), ("idle", "S8"), ("reserved", "V80")]
)
_AGENT = np.dtype(
    [
        ("name", "S32"),
        ("process", "<u4"),
        ("serving", "<u4"),
        ("rounds", "<u8"),
        ("work", "<u8"),
        ("position", "<u8"),
        ("parks", "<u8"),
        ("task", "<u4"),
        ("session", "<u4"),
        ("in_hand", "<u8"),
        ("fault", "<u4"),
        ("task_before", "<u4"),
        ("session_before", "<u4"),
        ("unused", "<u4"),
        ("in_hand_before", "<u8"),
        ("reserved", "V16"),
    ]
)
assert _HEADER.itemsize == _PROCESS.itemsize == _AGENT.itemsize == 128


class Board:
    """A view of a board segment; `buffer` is kept."""

    def __init__(self, buffer: Any) -> None:
        if len(memoryview(buffer)) < BOARD_BYTES:
            size = len(memoryview(buffer))
            raise SegmentError(f"not a board: bytes={size}, needed={BOARD_BYTES}")
        self.buffer = buffer
        self._header: NDArray[Any] = np.frombuffer(buffer, _HEADER, 1)
        self.processes: NDArray[Any] = np.frombuffer(buffer, _PROCESS, PROCESSES, PROCESSES_OFFSET)
        self.agents: NDArray[Any] = np.frombuffer(buffer, _AGENT, AGENTS, AGENTS_OFFSET)
        self._folder: NDArray[Any] = np.frombuffer(buffer, "S128", 1, FOLDER_OFFSET)

    @classmethod
    def create(
        cls, buffer: Any, epoch: int, supervisor_pid: int, *, folder: str = "", identity: str = ""
    ) -> "Board":
        """Lay a board out in zeroed memory. Raises SegmentError if the path is too long."""
        board = cls(buffer)
        path = os.fsencode(folder)
        if len(path) > 127:
            raise SegmentError(f"path too long for a board: bytes={len(path)}, maximum=127")
        board._folder[0] = path
        board._header["identity"] = identity
        board._header["epoch"] = epoch
        board._header["supervisor_pid"] = supervisor_pid
        board._header["layout_version"] = LAYOUT_VERSION
        board._header["state"] = 1
        board._header["magic"] = MAGIC
        return board

    @classmethod
    def attach(cls, buffer: Any) -> "Board":
        """The board somebody laid out. Raises SegmentError if it is none of ours."""
        board = cls(buffer)
        magic, version = (int(board._header[name][0]) for name in ("magic", "layout_version"))
        if (magic, version) != (MAGIC, LAYOUT_VERSION):
            raise SegmentError(
                f"not a board of this version: magic={magic:#x}, layout_version={version}"
            )
        return board

    @property
    def epoch(self) -> int:
        return int(self._header["epoch"][0])

    @property
    def folder(self) -> str:
        """Path of the data folder of the instance."""
        return os.fsdecode(bytes(self._folder[0]))

    @property
    def identity(self) -> str:
        """Identity of that folder (tools/folder.py)."""
        return bytes(self._header["identity"][0]).decode(errors="replace")

    @property
    def told(self) -> int:
        """The last record of which engines before this one may have told somebody."""
        return int(self._header["told"][0])

    @told.setter
    def told(self, sequence: int) -> None:
        self._header["told"] = sequence

    @property
    def state(self) -> str:
        return STATES.get(int(self._header["state"][0]), "unknown")

    @state.setter
    def state(self, value: str) -> None:
        self._header["state"] = {text: number for number, text in STATES.items()}[value]

    def add_process(self, name: str, core: int | None, idle: str) -> int:
        """A row for a process; returns its number, which is also that of its bell."""
        number = int(self._header["processes"][0])
        if number >= PROCESSES:
            raise SegmentError(f"too many processes: maximum={PROCESSES}")
        row = self.processes[number]
        row["name"], row["core"], row["idle"] = name, -1 if core is None else core, idle
        self._header["processes"] = number + 1
        return number

    def add_agent(self, name: str, process: int) -> int:
        """A row for an agent of a process; returns its number."""
        number = int(self._header["agents"][0])
        if number >= AGENTS:
            raise SegmentError(f"too many agents: maximum={AGENTS}")
        self.agents[number]["name"], self.agents[number]["process"] = name, process
        self._header["agents"] = number + 1
        return number

    def live_processes(self) -> NDArray[Any]:
        return self.processes[: int(self._header["processes"][0])]

    def live_agents(self) -> NDArray[Any]:
        return self.agents[: int(self._header["agents"][0])]

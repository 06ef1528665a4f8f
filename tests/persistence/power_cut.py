"""What a disk may hold after the power was cut, from a record of what was written and flushed.

    read(path)         the entries of a record that harness/disk.c made
    Disk               the state of a disk, entry by entry: what is certainly on it, and what may be
    Disk.image(choose) one of the folders that a cut now may leave

The disk promises as little as it may: a sector of 512 bytes is written whole or not at all, and
what was flushed stays. All else that was written may be on it or not, in any combination:

- Each sector of a file has, of the contents that it had since its last flush, any one. So a write
  can be lost, be torn, and be overtaken by later ones.
- A name (of a new file or folder, a renaming, a removal) is on it for certain only when its folder
  was flushed; changes to one name are in order, those to different names in any. Flushing a file
  does not make its name certain.
- After a flush that failed, what it should have written may be lost for good, whatever is flushed
  later: the kernel may have marked it as written.
"""

import itertools
import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

SECTOR = 512
PAGE = 4096
_ENTRY = struct.Struct("<IIIIQQII")
_OPS = (
    "open close write truncate flush flush_range flush_failed rename unlink mkdir rmdir told"
    " unsupported"
)
OPS = dict(enumerate(_OPS.split(), 1))
CREATED, DIRECTORY, TRUNCATED = 1, 2, 4


class Entry(NamedTuple):
    op: str
    pid: int
    fd: int
    flags: int
    offset: int
    length: int
    path: str
    path2: str
    data: bytes


def read(record: Path) -> list[Entry]:
    """The entries of a record, in order."""
    raw, at, found = record.read_bytes(), 0, []
    while at < len(raw):
        op, pid, fd, flags, offset, length, path, path2 = _ENTRY.unpack_from(raw, at)
        at += _ENTRY.size
        size = length if OPS[op] == "write" else 0
        texts = raw[at : at + path].decode(), raw[at + path : at + path + path2].decode()
        at += path + path2
        found.append(Entry(OPS[op], pid, fd, flags, offset, length, *texts, raw[at : at + size]))
        at += size
    return found


class Change(NamedTuple):
    """What is not certain: a sector of a file, or names of a folder, as one call left them."""

    call: int  # number of the entry
    after: bytes  # of a sector
    doomed: bool  # a flush of it has failed
    names: tuple[tuple[str, "Node | None"], ...] = ()


@dataclass
class File:
    live: bytearray = field(default_factory=bytearray)
    disk: bytearray = field(default_factory=bytearray)
    pending: dict[int, list[Change]] = field(default_factory=dict)  # by sector

    def write(self, call: int, offset: int, data: bytes) -> None:
        end = offset + len(data)
        if len(self.live) < end:
            self.live.extend(bytes(end - len(self.live)))
        self.live[offset:end] = data
        for sector in range(offset // SECTOR, (end + SECTOR - 1) // SECTOR):
            after = bytes(self.live[sector * SECTOR : (sector + 1) * SECTOR])
            self.pending.setdefault(sector, []).append(Change(call, after, False))

    def flush(self, begin: int = 0, end: int | None = None) -> None:
        for sector in self._sectors(begin, end):
            if not self.pending[sector][-1].doomed:
                put_sector(self.disk, sector, self.pending.pop(sector)[-1].after)

    def fail(self, begin: int = 0, end: int | None = None) -> None:
        for sector in self._sectors(begin, end):
            self.pending[sector] = [c._replace(doomed=True) for c in self.pending[sector]]

    def _sectors(self, begin: int, end: int | None) -> list[int]:
        last = len(self.live) if end is None else end
        return [s for s in self.pending if s * SECTOR < last and (s + 1) * SECTOR > begin]


@dataclass
class Folder:
    live: dict[str, "Node"] = field(default_factory=dict)
    disk: dict[str, "Node"] = field(default_factory=dict)
    pending: list[Change] = field(default_factory=list)

    def change(self, call: int, *names: tuple[str, "Node | None"]) -> None:
        apply(self.live, names)
        self.pending.append(Change(call, b"", False, names))

    def flush(self) -> None:
        certain: set[str] = set()
        left = []
        for change in reversed(self.pending):
            if not change.doomed:
                certain |= {name for name, _ in change.names}
                continue
            names = tuple(pair for pair in change.names if pair[0] not in certain)
            left += [change._replace(names=names)] if names else []
        for change in self.pending:
            if not change.doomed:
                apply(self.disk, change.names)
        self.pending = left[::-1]

    def fail(self) -> None:
        self.pending = [change._replace(doomed=True) for change in self.pending]


Node = File | Folder
# choose(changes of one sector of a file, in order; the file; the sector)
#     -> how many of them are on the disk
# choose([one change of a folder]; the folder; -1) -> whether it is: 0 or 1
Choose = Callable[[list[Change], Node, int], int]


def apply(names: dict[str, Node], changes: tuple[tuple[str, Node | None], ...]) -> None:
    for name, node in changes:
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


def put_sector(content: bytearray, sector: int, after: bytes) -> None:
    begin = sector * SECTOR
    if len(content) < begin + len(after):
        content.extend(bytes(begin + len(after) - len(content)))
    content[begin : begin + len(after)] = after


class Disk:
    """A disk with one empty folder, `root`, and what becomes of it."""

    def __init__(self, root: str) -> None:
        self.root = PurePosixPath(root)
        self.top = Folder()
        self.told = 0  # the last sequence that was told as durable
        self.calls = 0
        self._open: dict[tuple[int, int], Node] = {}

    def take(self, entry: Entry) -> None:
        """The next entry. Raises ValueError if it cannot be followed."""
        node = self._open.get((entry.pid, entry.fd))
        match entry.op:
            case "open":
                self._take_open(entry)
            case "close":
                del self._open[entry.pid, entry.fd]
            case "write":
                assert isinstance(node, File)
                node.write(self.calls, entry.offset, entry.data)
            case "flush":
                assert node is not None
                node.flush()
            case "flush_range":
                assert isinstance(node, File)
                node.flush(entry.offset, entry.offset + entry.length)
            case "flush_failed":
                if isinstance(node, File) and entry.length:
                    node.fail(entry.offset, entry.offset + entry.length)
                else:
                    assert node is not None
                    node.fail()
            case "rename":
                (folder, old), (other, new) = self._place(entry.path), self._place(entry.path2)
                if folder is not other:
                    raise ValueError(f"renamed into another folder: {entry.path2}")
                folder.change(self.calls, (new, folder.live[old]), (old, None))
            case "unlink" | "rmdir":
                folder, name = self._place(entry.path)
                folder.change(self.calls, (name, None))
            case "mkdir":
                folder, name = self._place(entry.path)
                folder.change(self.calls, (name, Folder()))
            case "told":
                # A journaler that starts again begins at 0; what was told once stays told.
                self.told = max(self.told, entry.offset)
            case _:
                raise ValueError(f"the record has what cannot be followed: {entry.op} {entry.path}")
        self.calls += 1

    def _take_open(self, entry: Entry) -> None:
        folder, name = self._place(entry.path)
        if entry.flags & CREATED:
            folder.change(self.calls, (name, File()))
        if entry.flags & TRUNCATED and getattr(folder.live[name], "live", b""):
            raise ValueError(f"a file is cut off: {entry.path}")
        self._open[entry.pid, entry.fd] = folder.live[name] if name else folder

    def _place(self, path: str) -> tuple[Folder, str]:
        """The folder of a path, and its name in there; none for the top."""
        parts = PurePosixPath(path).relative_to(self.root).parts
        node: Node = self.top
        for part in parts[:-1]:
            assert isinstance(node, Folder)
            node = node.live[part]
        assert isinstance(node, Folder)
        return node, parts[-1] if parts else ""

    def pending(self) -> list[int]:
        """Numbers of the calls whose work may be lost, ascending."""
        calls: set[int] = set()
        for node in self._nodes(self.top):
            lists = node.pending.values() if isinstance(node, File) else [node.pending]
            calls.update(change.call for changes in lists for change in changes)
        return sorted(calls)

    def _nodes(self, node: Node) -> Iterator[Node]:
        yield node
        if isinstance(node, Folder):
            children = {id(child): child for child in (*node.disk.values(), *node.live.values())}
            for child in children.values():
                yield from self._nodes(child)

    def image(self, choose: Choose) -> dict[str, bytes | None]:
        """Path below the root -> content, None for a folder, of what a cut now may leave."""
        found: dict[str, bytes | None] = {}
        self._fill(self.top, "", choose, found)
        return found

    def _fill(
        self, folder: Folder, path: str, choose: Choose, found: dict[str, bytes | None]
    ) -> None:
        names, held = dict(folder.disk), set()
        for change in folder.pending:
            touched = {name for name, _ in change.names}
            if touched & held or not choose([change], folder, -1):
                held |= touched
            else:
                apply(names, change.names)
        for name, node in names.items():
            if isinstance(node, Folder):
                found[path + name] = None
                self._fill(node, f"{path}{name}/", choose, found)
                continue
            content = bytearray(node.disk)
            for sector, changes in node.pending.items():
                count = choose(changes, node, sector)
                if count:
                    put_sector(content, sector, changes[count - 1].after)
            found[path + name] = bytes(content)


# ---- which of the folders that a cut may leave


def nothing(changes: list[Change], node: Node, sector: int) -> int:
    """All that is not certain is lost."""
    return 0


def everything(changes: list[Change], node: Node, sector: int) -> int:
    return len(changes)


def only(calls: set[int]) -> Choose:
    """Whole calls: these are on the disk."""

    def choose(changes: list[Change], node: Node, sector: int) -> int:
        there = [index for index, change in enumerate(changes, 1) if change.call in calls]
        return there[-1] if there else 0

    return choose


def torn(chance: random.Random, unit: int) -> Choose:
    """Each `unit` bytes of a file (SECTOR or PAGE) at a time of their own; each name by chance."""
    odds = chance.choice((0.1, 0.5, 0.9))
    until: dict[tuple[int, int], float] = {}

    def choose(changes: list[Change], node: Node, sector: int) -> int:
        if sector < 0:
            return int(chance.random() < odds)
        place = (id(node), sector * SECTOR // unit)
        if place not in until:
            calls = sorted({c.call for c in changes})
            there = chance.random() < odds
            until[place] = chance.choice(calls) if there else -1
        return sum(change.call <= until[place] for change in changes)

    return choose


def subsets(calls: list[int]) -> Iterator[Choose]:
    """Every combination of whole calls."""
    for size in range(len(calls) + 1):
        for combination in itertools.combinations(calls, size):
            yield only(set(combination))

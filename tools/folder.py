"""The data folder of an instance: made, locked, and known again.

    lock            held while a supervisor lives; its text is the identity of the folder
    instance.json   what runs, or how it ended
    log.txt         what an exchange in the background says
    control.sock    where bots attach
    journal/        the log

Other users may pass through the folder to the socket; nothing in it is for them to read.
"""

import errno
import fcntl
import json
import os
import secrets
from pathlib import Path
from typing import IO, Any

from matchbox.shm.errors import ConfigError, MatchboxError

_SOCKET = "control.sock"
_MAX_SOCKET_BYTES = 107  # of a path in sockaddr_un, without the zero at its end
MAX_PATH_BYTES = _MAX_SOCKET_BYTES - len(f"/{_SOCKET}")
_PASSABLE = 0o711


class AlreadyRunning(MatchboxError):
    """The data folder, or the instance's name, is in use."""


def prepare(data: Path, *, shared: bool = False) -> None:
    """Make the folder if there is none; `shared`: other users must reach its socket.

    Raises ConfigError, with what is allowed, where that cannot be.
    """
    size = len(os.fsencode(data.absolute()))
    if size > MAX_PATH_BYTES:
        raise ConfigError(
            f"the path of the data folder is too long for a socket in it: data={data}, "
            f"bytes={size}, maximum={MAX_PATH_BYTES}"
        )
    try:
        made = not data.exists()
        data.mkdir(parents=True, exist_ok=True)
        if made or shared:
            mode = 0o700 if made else data.stat().st_mode & 0o7777
            data.chmod(mode | _PASSABLE)
        if not os.access(data, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except FileExistsError:
        raise ConfigError(f"the data folder is a file: data={data}") from None
    except OSError as error:
        raise ConfigError(f"no data folder there: data={data}: {error.strerror}") from None


def private(path: Path, flags: int = 0) -> int:
    """A descriptor of a file for this user alone, made if it is not there."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | flags, 0o600)
    os.fchmod(descriptor, 0o600)
    return descriptor


def lock(data: Path) -> IO[str] | None:
    """The lock file: the lock is held until it is closed. None if somebody else has it."""
    file = os.fdopen(private(data / "lock"), "r+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    if not file.read():
        file.write(f"{secrets.token_hex(16)}\n")
        file.flush()
    return file


def identity(data: Path) -> str:
    """What tells this folder from all others, wherever it is; empty if it is no data folder."""
    try:
        return (data / "lock").read_text().strip()
    except OSError:
        return ""


def read_status(data: Path) -> dict[str, Any]:
    """What instance.json says; empty if there is none."""
    try:
        found: dict[str, Any] = json.loads((data / "instance.json").read_text())
    except (OSError, ValueError):
        return {}
    return found


def write_status(data: Path, status: dict[str, Any]) -> None:
    """Write instance.json."""
    write_file(data / "instance.json", json.dumps(status, indent=1))


def write_file(path: Path, line: str) -> None:
    """A small file, whole or not at all; not flushed."""
    new = path.with_name(f"{path.name}.new")
    with os.fdopen(private(new, os.O_TRUNC), "w") as file:
        file.write(line + "\n")
    new.replace(path)


def living(status: dict[str, Any]) -> list[int]:
    """Those processes of instance.json, supervisor and hosts, that still run.

    A number that another process has by now is not among them.
    """
    pids = [status.get("pid", 0), *status.get("processes", [])]
    return [
        int(pid)
        for pid, started in zip(pids, status.get("started", []), strict=False)
        if started and process_start(int(pid)) == started
    ]


def process_start(pid: int) -> int:
    """When a process started, in clock ticks since the boot; 0 if it does not run."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    # The name before the last parenthesis may hold anything.
    fields = stat.rpartition(")")[2].split()
    return 0 if fields[0] == "Z" else int(fields[19])

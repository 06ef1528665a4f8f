"""A host process as the supervisor sees it: started, asked, ended."""

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

from matchbox.core.plan import Plan
from matchbox.shm.errors import EngineDown, MatchboxError
from matchbox.tools.channel import Channel, call

_EXIT_PATIENCE_S = 10.0
_STANDBY_PATIENCE_S = 5.0
# The process of a plan that a standby is, until it has taken over.
STANDBY = -1


class Host:
    """A host process and the line to it."""

    name: str
    agents: list[str]
    channel: Channel
    process: "subprocess.Popen[bytes] | Stranger"
    pidfd: int

    def __init__(
        self,
        number: int,
        name: str,
        plan: Plan,
        settings: dict[str, Any],
        *,
        life: int,
        follow: dict[str, Any] | None = None,
    ) -> None:
        """Start one; it waits for begin(). `life`: a descriptor, open as long as the exchange
        lives; `follow`: a standby's.
        """
        self.name = name
        self.agents = [a for t in plan.threads if t.process == number for a in t.agents]
        self.channel, theirs = Channel.pair()
        with theirs:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "matchbox.tools.host",
                    str(theirs.fileno()),
                    str(life),
                ],
                pass_fds=[theirs.fileno(), life],
                stdin=subprocess.DEVNULL,
                # Ctrl-C in a terminal is for the supervisor, which then stops the hosts in order.
                start_new_session=True,
            )
        self.pidfd = os.pidfd_open(self.process.pid)
        first = {"plan": plan.to_json(), "process": number, "journal": settings}
        self._first = first | ({"follow": follow} if follow else {})

    def begin(self) -> None:
        """Let it do something. Before this, its number is to be where the next supervisor looks for
        it: one that nobody knows of would go on beside those that the next one starts.
        """
        self.channel.send(self._first)

    @property
    def dead(self) -> bool:
        """Has it ended?"""
        return self.process.poll() is not None

    @property
    def how(self) -> str:
        """How it ended."""
        status = self.process.wait()
        if isinstance(self.process, Stranger):
            return "nobody knows how"  # only its parent would
        return f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"

    def runs_engine(self) -> bool:
        """Has it agents of the engine?"""
        return bool(set(self.agents) - {"journaler", "standby"})

    def wait_ready(self) -> None:
        """Raises EngineDown if it died, MatchboxError if it could not start."""
        answer, _ = self.channel.receive()
        if answer is None:
            raise EngineDown(f"process {self.name} ended at its start")
        if not answer["ok"]:
            raise MatchboxError(f"process {self.name} cannot start: {answer['error']}")

    def end(self, *, kill: bool = False) -> int:
        """End it and wait; returns its exit status."""
        if kill:
            self.process.kill()
        else:
            with contextlib.suppress(MatchboxError):
                self.channel.ask("exit", timeout=_EXIT_PATIENCE_S)
        self.channel.close()
        try:
            status = self.process.wait(_EXIT_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        os.close(self.pidfd)
        return status


class StandbyLine:
    """What a standby is told while it follows. One that does not answer is killed: another one is
    started in its place.
    """

    def __init__(self, host: Host) -> None:
        self._host = host

    def tell(self, do: str, *, fds: Iterable[int] = (), **fields: Any) -> None:
        try:
            self._host.channel.ask(do, fds=fds, timeout=_STANDBY_PATIENCE_S, **fields)
        except MatchboxError:
            self._host.process.kill()

    def take_snapshot(self) -> int:
        """The record from which on it can be. Raises MatchboxError."""
        return int(self._host.channel.ask("snapshot", timeout=_STANDBY_PATIENCE_S)["position"])

    def promote(self, why: str, patience_s: float) -> dict[str, Any]:
        """What it says of its takeover. Raises MatchboxError."""
        channel = self._host.channel
        return channel.ask("promote", why=why, patience=patience_s, timeout=patience_s + 1.0)


class Stranger:
    """A process that somebody else has started, with what Host needs of a Popen."""

    def __init__(self, pid: int, pidfd: int) -> None:
        self.pid, self._pidfd = pid, pidfd
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Not None once it has ended; nobody but its parent learns how."""
        if self.returncode is None and _readable(self._pidfd, 0):
            self.returncode = -signal.SIGKILL
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None and not _readable(self._pidfd, timeout):
            raise subprocess.TimeoutExpired("matchbox.tools.host", timeout or 0)
        return self.poll() or 0

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)


def _readable(pidfd: int, timeout: float | None) -> bool:
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(None if timeout is None else 1e3 * timeout))


def adopt(pid: int) -> tuple[Host, dict[str, Any], list[int]]:
    """A process whose supervisor has died, what it says of itself, and its descriptor of the
    exchange's life. Raises EngineDown, MatchboxError.
    """
    host = Host.__new__(Host)
    try:
        host.pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        raise EngineDown(f"process {pid} has died") from None
    host.process = Stranger(pid, host.pidfd)
    try:
        host.channel = call(pid)
        who, fds = host.channel.ask_for_fds("who")
    except MatchboxError:
        os.close(host.pidfd)
        raise
    host.agents = list(who["agents"])
    host.name = "journal" if host.agents == ["journaler"] else "engine"
    if host.agents == ["standby"]:
        host.name = "standby"
    return host, who, fds

"""The supervisor's side of a standby: started, introduced to the sessions, heard, buried, promoted.

start      a process; it catches up with the engine while trading goes on
greet      once it is there it gets the memory of all sessions, and follows
hear       now and then: does it still come to the same as the engine? If not, that is said
bury       it has died: another one may be started, unless that has happened too often
promoted   the engine has died: the standby is the engine now
"""

import contextlib
import os
import selectors
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from matchbox.core.plan import Plan
from matchbox.shm import segment
from matchbox.shm.errors import MatchboxError
from matchbox.tools import alarms, folder
from matchbox.tools.channel import close_all
from matchbox.tools.config import Config
from matchbox.tools.process import STANDBY, Host, StandbyLine

_PROMOTION_PATIENCE_S = 60.0
_HEAR_EVERY_S = 5.0
# After so many deaths within so long, one that died is not replaced at once.
_DEATHS_AT_ONCE, _DEATHS_WITHIN_S, _LONGEST_PAUSE_S = 8, 60.0, 30.0

Memories = Iterator[tuple[int, list[int], dict[str, Any]]]


class StandbyKeeper:
    """Keeps the one standby of an exchange, or none."""

    def __init__(
        self,
        config: Config,
        data: Path,
        selector: selectors.BaseSelector,
        say: Callable[[str], None],
        *,
        memories: Callable[[], Memories],
        connect: Callable[[StandbyLine | None], None],
        changed: Callable[[], None],
    ) -> None:
        """`memories` gives slot, descriptors and description of every session's memory; `connect`
        is told the line to a standby that follows, and None when it is no longer there; `changed`
        is called when what instance.json says of it is no longer so.
        """
        self.host: Host | None = None
        self.ready = False  # it follows
        self.alarm = ""  # what it found
        self.epochs = 0  # the highest that was given to an engine or a standby
        self._config, self._data, self._selector, self._say = config, data, selector, say
        self._memories, self._connect, self._changed = memories, connect, changed
        self._hear_at = 0.0
        self._deaths: list[float] = []
        self._due: float | None = None  # when another one is to be started

    def start(self, plan: Plan, matchers: Any, settings: dict[str, Any], life: int) -> None:
        """Start one for this plan, if there is to be one; it is not waited for."""
        self._due = None
        if not self._config.standby.enabled:
            return
        self.epochs += 1
        follow = {
            "epoch": self.epochs,
            "folder": str(self._data),
            "identity": folder.identity(self._data),
            "supervisor": os.getpid(),
            "hang_ms": self._config.standby.hang_ms,
            "matchers": matchers,
            "snapshot_interval_s": self._config.snapshots.interval_s,
            "snapshots_kept": self._config.snapshots.keep,
        }
        host = Host(STANDBY, "standby", plan, settings, life=life, follow=follow)
        self.host, self.ready, self.alarm = host, False, ""
        self._plan = plan
        self._selector.register(host.pidfd, selectors.EVENT_READ, lambda: None)
        self._selector.register(
            host.channel.socket, selectors.EVENT_READ, lambda: self._greet(host)
        )
        self._changed()
        host.begin()

    def _greet(self, host: Host) -> None:
        """It is there: give it the memory of all sessions."""
        self._selector.unregister(host.channel.socket)
        try:
            host.wait_ready()
            for slot, fds, about in self._memories():
                after = about.pop("after")
                try:
                    host.channel.ask("open_session", fds=fds, slot=slot, about=about, after=after)
                finally:
                    close_all(fds)
            host.channel.ask("follow")
        except MatchboxError as error:
            self._say(f"No standby: {error}")
            host.process.kill()
            return
        self.ready = True
        self._connect(StandbyLine(host))
        self._changed()

    def hear(self) -> None:
        """Now and then: does it still come to the same as the engine? If not, say so, once."""
        host = self.host
        if host is None or not self.ready or time.monotonic() < self._hear_at:
            return
        self._hear_at = time.monotonic() + _HEAR_EVERY_S
        try:
            problem = str(host.channel.ask("standby", timeout=_HEAR_EVERY_S)["problem"])
        except MatchboxError:
            host.process.kill()  # another one is started
            return
        if problem and problem != self.alarm:
            self.alarm = problem
            self._changed()
            self._say(
                f"ALARM: {problem}. One of the two is wrong, and the standby will not take over "
                "from an engine that lives. `matchbox verify` says which."
            )
            alarms.begin(self._data, problem, self._say)

    @property
    def dead(self) -> bool:
        """There was one, and its process has ended."""
        return self.host is not None and self.host.dead

    def bury(self) -> None:
        """It has died: another one is due, at once, or later if that happens again and again."""
        assert self.host is not None
        how = self.host.how
        self.lose()
        now = time.monotonic()
        self._deaths = [t for t in self._deaths if now - t < _DEATHS_WITHIN_S]
        self._deaths.append(now)
        pause = 0.0
        if len(self._deaths) > _DEATHS_AT_ONCE:
            pause = min(2.0 ** (len(self._deaths) - _DEATHS_AT_ONCE - 1), _LONGEST_PAUSE_S)
        self._due = now + pause
        when = f" in {pause:.0f} s" if pause else ""
        self._say(f"The standby ended: {how}. Another one is started{when}.")
        if pause:
            self._changed()

    @property
    def due_s(self) -> float | None:
        """In how many seconds another one is to be started; None: that is not due."""
        return None if self._due is None else max(self._due - time.monotonic(), 0.001)

    @property
    def due(self) -> bool:
        return self._due is not None and time.monotonic() >= self._due

    def lose(self) -> None:
        """Forget it, end it, and remove what it had in shared memory."""
        host = self._forget()
        if host is None:
            return
        self._connect(None)
        host.end(kill=True)
        for name in segment.names(self._plan.instance):
            if name.epoch > self._plan.epoch:
                segment.unlink(name)

    def promoted(self) -> tuple[Host, dict[str, Any]] | None:
        """The engine has died: the host that is the engine now, and what it says of its takeover.
        None if no standby follows, or it has failed.
        """
        host = self.host
        if host is None or not self.ready:
            return None
        try:
            done = host.channel.ask("promoted", patience=_PROMOTION_PATIENCE_S, timeout=None)
        except MatchboxError as error:
            self._say(f"The standby has not taken over: {error}")
            return None
        host.name = "engine"
        plan = Plan.from_json(done["plan"])
        host.agents = [a for t in plan.threads if t.process == 0 for a in t.agents]
        self.host, self.ready = None, False
        return host, done

    def _forget(self) -> Host | None:
        host, self.host, self.ready = self.host, None, False
        if host is not None:
            for waited in (host.channel.socket, host.pidfd):
                with contextlib.suppress(KeyError):
                    self._selector.unregister(waited)
        return host

"""A host process as the supervisor sees it: started, asked, ended."""

import contextlib
import os
import signal
import subprocess
import sys
from typing import Any

from matchbox.core.plan import Plan
from matchbox.shm.errors import EngineDown, MatchboxError
from matchbox.tools.channel import Channel

_EXIT_PATIENCE_S = 10.0
# The process of a plan that a standby is, until it has taken over.
STANDBY = -1


class Host:
    """A host process and the line to it."""

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
        """`life`: a descriptor, open as long as the exchange lives; `follow`: a standby's."""
        self.name = name
        self.agents = [a for t in plan.threads if t.process == number for a in t.agents]
        self.channel, theirs = Channel.pair()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "matchbox.tools.host", str(theirs.fileno())],
                pass_fds=[theirs.fileno(), life],
                stdin=subprocess.DEVNULL,
                # Ctrl-C in a terminal is for the supervisor, which then stops the hosts in order.
                start_new_session=True,
            )
        self.pidfd = os.pidfd_open(self.process.pid)
        first = {"plan": plan.to_json(), "process": number, "journal": settings}
        self.channel.send(first | ({"follow": follow} if follow else {}))

    @property
    def dead(self) -> bool:
        """Has it ended?"""
        return self.process.poll() is not None

    @property
    def how(self) -> str:
        """How it ended."""
        status = self.process.wait()
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

"""The supervisor's side of the gateway: the socket that it listens on, and its workers.

The socket is the supervisor's, and all workers accept from it. So a worker that dies or is replaced
refuses nobody: who connects meanwhile is served by another one, or by the next one. The exchange
waits for no worker, ever, but at a stop in order: they answer first what they were asked.

A worker that dies is followed by another, after some time if it dies often. They outlive their
supervisor like all else that runs; the next supervisor has others in their place.
"""

import errno
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matchbox.core.plan import Plan
from matchbox.shm.errors import MatchboxError
from matchbox.tools.config import Config

_FIRST_PAUSE_S, _LONGEST_PAUSE_S, _LIVED_S = 0.05, 10.0, 30.0
_BACKLOG = 4096
# What a process had open is closed some time after its end.
_BIND_PATIENCE_S = 2.0


@dataclass
class _Worker:
    """One place for a worker, and who is there."""

    number: int
    process: subprocess.Popen[bytes] | None = None
    pidfd: int = -1
    started: float = 0.0
    pause: float = _FIRST_PAUSE_S
    again_at: float | None = None


class GatewayKeeper:
    """Keeps the workers of an exchange's gateway, if it has one."""

    def __init__(
        self,
        config: Config,
        data: Path,
        selector: selectors.BaseSelector,
        say: Callable[[str], None],
        changed: Callable[[], None],
    ) -> None:
        """`changed` is called when what instance.json says of it is no longer so."""
        self._config, self._data, self._selector, self._say = config, data, selector, say
        self._changed = changed
        self._socket: socket.socket | None = None
        self._workers: list[_Worker] = []
        self._plan: Plan | None = None
        self._life = -1
        self._ending = False

    @property
    def pids(self) -> list[int]:
        return [worker.process.pid for worker in self._workers if worker.process is not None]

    def status(self) -> dict[str, Any]:
        """Its part of instance.json."""
        if self._socket is None:
            return {}
        return {"gateway": {"listen": self.listening, "workers": self.pids}}

    @property
    def listening(self) -> str:
        """Address and port, "" if it does not listen."""
        if self._socket is None:
            return ""
        host, port = self._socket.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def start(self, plan: Plan, life: int) -> None:
        """Listen, and start the workers, if there is to be a gateway; they are not waited for.

        `life`: a descriptor that hangs up at the exchange's end. Raises MatchboxError.
        """
        settings = self._config.gateway
        if not settings.listen:
            return
        self._plan, self._life = plan, life
        self._socket = _listen(*settings.address)
        self._workers = [_Worker(number) for number in range(1, settings.workers + 1)]
        for worker in self._workers:
            self._begin(worker)
        scheme = "https" if settings.tls_certificate else "http"
        self._say(f"The gateway listens on {scheme}://{self.listening}.")
        self._changed()

    def go_on(self, plan: Plan) -> None:
        """Another engine has taken over: workers go on, and those to come follow that one."""
        self._plan = plan

    def _begin(self, worker: _Worker) -> None:
        assert self._socket is not None and self._plan is not None
        settings, plan = self._config.gateway, self._plan
        told = {
            "data": str(self._data),
            "number": worker.number,
            "socket": self._socket.fileno(),
            "life": self._life,
            "instance": plan.instance,
            "epoch": plan.epoch,
            "world": plan.world or plan.epoch,
            "journaler_reader": plan.journaler_reader,
            "assurance": settings.assurance,
            "weight_per_minute": settings.weight_per_minute,
            "orders_per_ten_seconds": settings.orders_per_ten_seconds,
            "orders_per_day": settings.orders_per_day,
            "ping_s": settings.ping_s,
            "tls_certificate": settings.tls_certificate,
            "tls_key": settings.tls_key,
        }
        worker.process = subprocess.Popen(
            [sys.executable, "-m", "matchbox.gateway.worker", json.dumps(told)],
            pass_fds=[self._socket.fileno(), self._life],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        worker.started, worker.again_at = time.monotonic(), None
        worker.pidfd = os.pidfd_open(worker.process.pid)
        self._selector.register(worker.pidfd, selectors.EVENT_READ, lambda: None)

    def tend(self) -> None:
        """Now and then: put others in the place of workers that have died."""
        if self._ending:
            return
        before = self.pids
        for worker in self._workers:
            if worker.process is not None and worker.process.poll() is not None:
                self._bury(worker)
            if worker.again_at is not None and time.monotonic() >= worker.again_at:
                self._begin(worker)
        if self.pids != before:
            self._changed()

    @property
    def due_s(self) -> float | None:
        """In so many seconds tend() has something to do; None: not that it is known."""
        times = [worker.again_at for worker in self._workers if worker.again_at is not None]
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _bury(self, worker: _Worker) -> None:
        assert worker.process is not None
        status, lived = worker.process.returncode, time.monotonic() - worker.started
        self._forget(worker)
        if lived > _LIVED_S:
            worker.pause = _FIRST_PAUSE_S
        worker.again_at = time.monotonic() + worker.pause
        how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        self._say(
            f"Worker {worker.number} of the gateway ended: {how}. Another one is started in "
            f"{worker.pause:g} s."
        )
        worker.pause = min(2 * worker.pause, _LONGEST_PAUSE_S)

    def _forget(self, worker: _Worker) -> None:
        self._selector.unregister(worker.pidfd)
        os.close(worker.pidfd)
        worker.process, worker.pidfd = None, -1

    def ask_to_end(self) -> None:
        """Take no more; the workers answer what they were asked, and end."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._ending = True
        for worker in self._workers:
            if worker.process is not None:
                worker.process.send_signal(signal.SIGTERM)

    @property
    def ended(self) -> bool:
        """Has every worker?"""
        return all(w.process is None or w.process.poll() is not None for w in self._workers)

    def kill(self) -> None:
        """End at once what has not ended."""
        self.ask_to_end()
        for worker in self._workers:
            if worker.process is not None:
                worker.process.kill()
                worker.process.wait()
                self._forget(worker)


def _listen(host: str, port: int) -> socket.socket:
    """A socket that workers accept from. Raises MatchboxError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        deadline = time.monotonic() + _BIND_PATIENCE_S
        while True:
            try:
                listening.bind((host, port))
                break
            except OSError as error:
                if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        raise MatchboxError(
            f"the gateway cannot listen: gateway.listen={host}:{port}: {error.strerror or error}"
        ) from None
    return listening

"""Run in a mount namespace of its own, with a small /dev/shm: what an exchange does when that is
full. Ends with status 0 if all of it is so; says what it has seen.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from matchbox.persistence.journal import Reader
from matchbox.shm import segment
from matchbox.tools.drill import check
from matchbox.tools.drill import instance as instances
from matchbox.tools.drill.drill import Clients, Wishes
from matchbox.tools.drill.instance import Instance, send, wait_for

SHM = Path("/dev/shm")


def resize(size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", "/dev/shm"], check=True)


@contextmanager
def full() -> Iterator[None]:
    """Somebody else's file takes all that is left."""
    path = SHM / "somebody-elses"
    disk = os.statvfs(SHM)
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, disk.f_bavail * disk.f_frsize)
    try:
        yield
    finally:
        path.unlink()


def goes_on(exchange: Instance) -> None:
    def last() -> int:
        with Reader(exchange.data / "journal") as reader:
            return reader.last_sequence()

    end = last() + 500
    wait_for(lambda: last() > end, "orders are taken")


def main() -> None:
    folder = Path(tempfile.mkdtemp())
    with instances.throw_away(2, log_slots=1 << 14) as exchange:
        resize("4m")
        assert not exchange.up(), "it started without room"
        assert "not enough memory for rings and tables" in exchange.said, exchange.said
        assert not list(segment.names(exchange.config.instance))
        print("without room it does not start, and says why")
        resize("2g")
        assert exchange.up(), exchange.said
        exchange.ready()
        clients = Clients(exchange, Wishes(("failover",), rate=5_000.0), folder)
        try:
            clients.begin()
            goes_on(exchange)
            with full():
                goes_on(exchange)
                print("what runs, goes on")
                epoch = exchange.epoch
                send(exchange.pid("engine"), signal.SIGKILL)
                wait_for(lambda: exchange.epoch > epoch, "the standby takes over")
                goes_on(exchange)
                wait_for(lambda: "No standby: " in exchange.said, "there is no room for another")
                goes_on(exchange)
                print("a takeover needs none; another standby has to wait")
            exchange.ready()
            print("once there is room, there is a standby")
            send(exchange.pid("engine"), signal.SIGKILL)
            goes_on(exchange)
            written = clients.finish()
        finally:
            clients.kill()
        exchange.down()
        found = check.examine(exchange.config, exchange.data / "journal", written)
        assert found.good, found.problems
        assert len(found.turns) == 3
        print("nothing was lost")


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        main()
    sys.exit(0)

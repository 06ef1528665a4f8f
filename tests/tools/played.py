"""A random log with everything that can happen in it, as a data folder: journal, snapshot."""

from pathlib import Path

from matchbox.persistence.journaler import whole_count
from matchbox.tools.audit.exchange import Auditor
from matchbox.tools.snapshots import take
from tests.simulation.archive import configure, write_journal
from tests.simulation.commands import Random
from tests.simulation.test_exchange import play
from tests.simulation.world import World

SECOND = 10**9


class Played:
    """A world, its journal, and a snapshot in the middle of it."""

    def __init__(self, folder: Path, seed: int) -> None:
        world = World()
        for number in range(4):
            play(world, Random(seed * 100 + number), 500)
            world.advance(3600 * SECOND)
        self.folder, self.journal, self.world = folder, folder / "journal", world
        self.log = world.exchange.log
        configure(folder, world)
        self.middle = whole_count(self.log, len(self.log) // 2)
        write_journal(folder, self.log[: self.middle], seed)
        self.image = take(str(folder)).image
        write_journal(folder, self.log, seed)

    def auditor(self, sequence: int) -> Auditor:
        """The auditor after a record, all settled."""
        auditor = Auditor(self.world.auditor.definitions.limits)
        auditor.apply(self.log[:sequence])
        auditor.end()
        auditor.settle_all()
        return auditor

"""What the runs before have left in a data folder and in shared memory: saved, mended, and read.

    clear            end their processes; their log ring's tail goes into the journal
    mend             a journal's torn end is cut
    newest_snapshot  what a start begins with
    learn            the definitions and deposits that the journal has

Nothing here needs an engine. Damage before a journal's end is an error that says what can be done.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from matchbox.core import snapshot
from matchbox.persistence import snapshots
from matchbox.persistence.batch import Batch
from matchbox.persistence.journal import Reader, Writer
from matchbox.persistence.journaler import drain_log_ring
from matchbox.persistence.lost import pass_over
from matchbox.persistence.repair import cut_torn_tail
from matchbox.shm import segment
from matchbox.shm.errors import JournalError, MatchboxError, SegmentError
from matchbox.shm.records import MONEY_RECORD, Kind
from matchbox.shm.ring import Ring
from matchbox.shm.segment import SegmentName
from matchbox.tools import folder, leftovers, poison
from matchbox.tools.catalog import Catalog
from matchbox.tools.config import Config
from matchbox.tools.folder import read_status
from matchbox.tools.leftovers import kill_hosts

Say = Callable[[str], None]


class Salvage:
    """The past of one data folder, as a start finds it."""

    def __init__(self, config: Config, data: Path, say: Say) -> None:
        self.config, self.data, self.say = config, data, say

    @property
    def settings(self) -> dict[str, Any]:
        """How the journal is written, for the process that writes it."""
        journal = self.config.journal
        return {
            "directory": str(self.data / "journal"),
            "batch_records": journal.batch_records,
            "file_bytes": journal.file_size,
            "linger_ns": journal.linger_ms * 1_000_000,
        }

    def clear(self) -> int:
        """Clean up after dead runs, save what only their memory has. Returns the next epoch."""
        before = read_status(self.data)
        kill_hosts(self.data)
        found = False
        epochs = [before.get("epoch", 0), *(n.epoch for n in segment.names(self.config.instance))]
        for run in leftovers.runs(self.config.instance):
            if run.belongs_to(self.data):
                epochs.append(run.epoch)
                self.bury(run.instance, run.epoch)
                saved = self.drain(run.log)
                found |= run.log is not None
                self.say(
                    "The last run did not stop in order. "
                    f"Saved {saved:,} records from its shared memory."
                )
            elif run.instance != self.config.instance:
                continue
            elif run.home is not None:
                self._save_for_another(run, run.home)
            elif run.identity:
                self.say(
                    "Removed the shared memory of a run of this name whose data folder is gone: "
                    f"data={run.folder}, epoch={run.epoch}."
                )
            run.remove()
        # What a run that has failed could not save is in its memory.
        failed = before.get("state") == "failed" and not before.get("saved", True)
        if not found and (before.get("state") in ("running", "stopping") or failed):
            self._pass_over(int(before.get("log_slots", 0)) or self.config.rings.log)
        return int(max(epochs)) + 1

    def _pass_over(self, count: int) -> None:
        """The memory of the last run is gone. Raises JournalError."""
        with self._writer(0) as writer:
            if not writer.last_sequence:
                return
            last = writer.last_sequence
            first, end = pass_over(writer, count)
        self.say(
            "The memory of the last run is lost, and with it what was not in the journal yet: "
            f"{count:,} records at most, after record {last:,}. What was told as durable is there. "
            f"The numbers {first:,} to {end:,} are passed over: they may be known to somebody."
        )

    def _writer(self, epoch: int, data: Path | None = None) -> Writer:
        settings = self.settings
        return Writer(
            (data or self.data) / "journal",
            epoch=epoch,
            batch_records=settings["batch_records"],
            file_bytes=settings["file_bytes"],
        )

    def bury(self, instance: str, epoch: int) -> None:
        """Decide about what a dead engine had in hand, and say so."""
        try:
            verdict = poison.bury(instance, epoch, self.data)
        except MatchboxError as error:
            self.say(f"{str(error)[0].upper()}{str(error)[1:]}.")
            return
        for cut in verdict.cuts:
            self.say(f"{str(cut)[0].upper()}{str(cut)[1:]}.")

    def drain(self, name: SegmentName | None, data: Path | None = None) -> int:
        """The tail of a log ring into the journal (of this folder); returns how many records."""
        try:
            log = Ring.attach(segment.attach(name)) if name is not None else None
        except SegmentError:
            log = None  # it died before its rings were made
        if name is None or log is None:
            return 0
        with self._writer(name.epoch, data) as writer:
            return drain_log_ring(log, writer)

    def mend(self) -> None:
        """Cut a torn end, and say so. Raises JournalError where that cannot be done."""
        status = read_status(self.data)
        known = int(status.get("sequence", 0)) if status.get("state") == "stopped" else 0
        try:
            cut = cut_torn_tail(self.data / "journal", known=known)
        except JournalError as error:
            raise self._damaged(error) from error
        if cut is not None:
            self.say(f"{cut}.")

    def newest_snapshot(self) -> snapshots.Snapshot | None:
        """The newest good snapshot of this journal, if there is one. Raises JournalError."""
        try:
            return snapshots.newest(
                self.data / "snapshots", journal=self.data / "journal", say=self.say
            )
        except JournalError as error:
            raise self._damaged(error) from error

    def learn(self, catalog: Catalog, found: snapshots.Snapshot | None) -> set[bytes]:
        """Teach a catalog the definitions of the journal: of the snapshot, and what follows it.
        Returns the references of all deposits.
        """
        first, deposited = 1, set[bytes]()
        if found is None and self._begins_later():
            found = self.newest_snapshot()
        if found is not None:
            first = found.sequence + 1
            catalog.learn(found.definitions)
            deposited = snapshot.references(found.image)
        with Reader(self.data / "journal") as reader:
            oldest = reader.first_sequence()
            if first < oldest:
                raise JournalError(
                    f"the journal begins with record {oldest:,}, and no snapshot leads there; "
                    "nothing was started or changed. What can be done: to put a snapshot, or what "
                    "was pruned, back where it was; or `matchbox restore` a backup into a new data "
                    "folder",
                    oldest,
                )
            for batch in self._whole(reader, first):
                records = batch.records[max(0, first - batch.first_sequence) :]
                catalog.learn(records)
                deposits = records[(records["kind"] == Kind.DEPOSIT) & (records["reject"] == 0)]
                deposited |= {bytes(r) for r in deposits.view(MONEY_RECORD)["reference"]}
        return deposited

    def _begins_later(self) -> bool:
        """Was the beginning of the journal pruned?"""
        with Reader(self.data / "journal") as reader:
            return reader.first_sequence() > 1

    def _save_for_another(self, run: leftovers.Run, home: Path) -> None:
        """What a dead run of this name has, into its own data folder. Raises MatchboxError."""
        lock = None
        try:
            lock = folder.lock(home)
            if lock is None:
                raise folder.AlreadyRunning("an exchange runs there")
            kill_hosts(home)
            saved = self.drain(run.log, home)
        except (MatchboxError, OSError) as error:
            raise MatchboxError(
                f"a run of this name did not stop in order, and what its shared memory has cannot "
                f"be saved in its data folder: data={home}: {error}; allowed: another `instance`, "
                "or to start that one first"
            ) from None
        finally:
            if lock is not None:
                lock.close()
        self.say(
            f"A run of this name with another data folder did not stop in order: data={home}. "
            f"Saved {saved:,} records from its shared memory into the journal there."
        )

    def _whole(self, reader: Reader, first: int) -> Iterator[Batch]:
        """The batches of the journal from the one on that has this record. Raises JournalError that
        says what can be done.
        """
        try:
            yield from reader.batches(first)
        except JournalError as error:
            raise self._damaged(error) from error

    def _damaged(self, error: JournalError) -> JournalError:
        last = error.sequence - 1
        return JournalError(
            f"{error}. The journal is whole up to record {last:,}; nothing was started or changed. "
            "What can be done: `matchbox restore` a backup into a new data folder; or, without "
            f"what follows, `matchbox restore {self.data} NEW --until {last}`",
            error.sequence,
        )

"""The supervisor: starts an instance, watches it, stops it, and cleans up what a dead one left.

    adopt    an exchange that runs, whose supervisor has died: take up the lines to its processes
    up       lock the data folder; take over what a dead run left (its log ring into the journal);
             make the segments; start the processes; replay the journal, with memory for the
             markets that come and go in it; begin the epoch; define what the configuration adds;
             serve
    stop     take no more commands; let publisher and journaler finish; end the processes; remove
             the segments
    death    of the engine: its standby takes over (standby.py), and gets a standby of its own; of
             the journal's process or the standby: another one is started
    failure  that nothing survives: stop all processes, save the log ring into the journal, say what
             happened, exit status 1

The files in the data folder are those of folder.py. What a start finds there and in shared memory
is the subject of salvage.py, an exchange without a supervisor that of adoption.py, and the
standby's life that of standby_keeper.py.
"""

import contextlib
import os
import resource
import selectors
import socket
import time
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matchbox.core import snapshot
from matchbox.core.plan import OPERATOR_SLOT, Plan, PlanMarket, outlives_engine
from matchbox.core.snapshot import combined_hash
from matchbox.persistence import snapshots
from matchbox.persistence.journal import Reader
from matchbox.shm import segment
from matchbox.shm.board import Board
from matchbox.shm.errors import (
    Detached,
    EngineDown,
    MatchboxError,
)
from matchbox.shm.reasons import describe
from matchbox.shm.records import MARKET_RECORD, MONEY_RECORD, Kind
from matchbox.shm.ring import Ring
from matchbox.shm.saying import complain
from matchbox.shm.session import Session
from matchbox.tools import adoption, alarms, folder, poison
from matchbox.tools.adoption import Running
from matchbox.tools.archiver_keeper import ArchiverKeeper
from matchbox.tools.catalog import Catalog, identity, title
from matchbox.tools.channel import close_all
from matchbox.tools.config import Config
from matchbox.tools.folder import read_status
from matchbox.tools.gateway_keeper import GatewayKeeper
from matchbox.tools.listing import Listing
from matchbox.tools.planning import make_plan
from matchbox.tools.process import Host, StandbyLine
from matchbox.tools.salvage import Salvage
from matchbox.tools.sessions import Doorkeeper, Operator
from matchbox.tools.signals import StopSignals
from matchbox.tools.standby_keeper import Memories, StandbyKeeper

_STOP_PATIENCE_S = 60.0
_GATEWAY_PATIENCE_S = 15.0
# A journal's process may be killed so often while it starts.
_JOURNAL_STARTS = 5
Say = Callable[[str], None]


class Supervisor:
    """One instance, from start to end."""

    def __init__(self, config: Config, signals: StopSignals, say: Say = print) -> None:
        self.config, self.say, self._signals = config, say, signals
        self.data = config.data.absolute()
        self.hosts: list[Host] = []
        self.plan: Plan | None = None
        self.catalog = Catalog()
        self.snapshot: snapshots.Snapshot | None = None
        self._status: dict[str, Any] = {}
        self._deposited: set[bytes] = set()
        self._selector = selectors.DefaultSelector()
        self._locks: list[Any] = []
        self._segments: dict[str, Any] = {}
        self._doors: Doorkeeper | None = None
        self._operator: Operator | None = None
        self._salvage = Salvage(config, self.data, say)
        self._keeper = StandbyKeeper(
            config,
            self.data,
            self._selector,
            say,
            memories=self._memories,
            connect=self._connect_standby,
            changed=lambda: self._write_status("running"),
        )
        self._archiver = ArchiverKeeper(
            config, self.data, self._selector, say, changed=lambda: self._write_status("running")
        )
        self._gateway = GatewayKeeper(
            config, self.data, self._selector, say, changed=lambda: self._write_status("running")
        )
        # Open for writing in every process that can be the engine: bots see the exchange's end by
        # the end of all of them.
        self._life, self._life_held = os.pipe2(os.O_CLOEXEC)

    # -- starting

    def start(self) -> None:
        """Bring the instance up. Raises MatchboxError, or KeyboardInterrupt if it was asked to stop
        meanwhile; then nothing of it is left running.
        """
        _raise_descriptor_limit()
        self._lock()
        running = adoption.find(self.data, self.say)
        if running is not None:
            self._adopt(running)
            return
        stopped = read_status(self.data)
        try:
            self._salvage.mend()
            epoch = self._salvage.clear()
            self.snapshot = self._salvage.newest_snapshot()
            self._deposited = self._salvage.learn(self.catalog, self.snapshot)
            missing = self.catalog.missing(self.config, self.say)
            self.catalog.learn(missing)
            self._keeper.epochs = epoch
            image = self.snapshot.image if self.snapshot else None
            self.plan = make_plan(self.config, epoch, self.catalog, image)
            self.listing = Listing(self.plan, self.catalog, self._segments, self.say)
            self._make_segments()
            self._write_status("starting")
            self._start_hosts()
            self._recover(stopped)
            self._begin(missing)
        except BaseException:
            self._abandon()
            raise

    # -- adopting

    def _adopt(self, running: Running) -> None:
        """Go on with an exchange that runs without a supervisor, sessions included."""
        self.hosts, self.plan = running.hosts, running.plan
        try:
            self._take_up(running.markets, running.lives)
        except BaseException:
            self._abandon()
            raise
        finally:
            close_all(running.lives)

    def _take_up(self, markets: list[PlanMarket], lives: list[int]) -> None:
        assert self.plan is not None
        plan = self.plan
        os.close(self._life)
        os.close(self._life_held)
        # A pipe can be opened again by whoever has one end of it.
        self._life = os.open(f"/proc/self/fd/{lives[0]}", os.O_RDONLY | os.O_CLOEXEC)
        self._life_held = os.dup(lives[0])
        for name in segment.names(plan.instance):
            if name.epoch > plan.epoch:
                segment.unlink(name)
        self._keeper.epochs = plan.epoch
        self.board = Board.attach(segment.attach(plan.name("board")))
        depths = [f"depth-{market.number}" for market in markets]
        others = [part for part in plan.segments() if not part.startswith("depth-")]
        for part in [*others, *depths]:
            self._segments[part] = segment.attach(plan.name(part))
        if "journaler" not in [agent for host in self.hosts for agent in host.agents]:
            self._start_journal(watch=False)
        self._wait_until_durable()
        self._salvage.learn(self.catalog, None)
        self.listing = Listing(plan, self.catalog, self._segments, self.say)
        self.listing.go_on(plan, self.hosts, markets)
        sessions = self._host_of("sequencer").channel.ask("sessions")["sessions"]
        numbers = {session["name"]: int(session["session"]) for session in sessions}
        self._open_operator(numbers["operator"])
        self._open_doors()
        assert self._doors is not None
        for slot, fds, about in self._memories():
            try:
                self._doors.adopt(slot, numbers[about["name"]], about, fds[1])
            finally:
                close_all(fds)
        missing = self.catalog.missing(self.config, self.say)
        if len(missing):
            self.say("What the configuration adds counts from the next start on.")
        self._signals.defer()
        self._write_status("running")
        self.say(
            f"The exchange was running without a supervisor: adopted it, epoch {plan.epoch}, "
            f"{len(self._doors.sessions)} sessions."
        )
        try:
            self._start_companions()
        except MatchboxError as error:
            # No reason to end what runs.
            self.say(f"The exchange goes on without a gateway: {error}")

    def _memories(self) -> Memories:
        """Slot, descriptors and description of every session's memory, as the engine has it."""
        engine = self._host_of("sequencer").channel
        for slot, known in engine.ask("memories")["memories"].items():
            if int(slot) != OPERATOR_SLOT:
                _, fds = engine.ask_for_fds("memory", slot=int(slot))
                yield int(slot), fds, known["about"] | {"after": known["after"]}

    def _wait_until_durable(self) -> None:
        """Until the journal has all that the engine has logged by now."""
        last = self._host_of("sequencer").channel.ask("positions")["positions"]["sequencer"]
        journal = self._host_of("journaler").channel
        deadline = time.monotonic() + _STOP_PATIENCE_S
        while journal.ask("state")["agents"]["journaler"]["position"] < last:
            if time.monotonic() > deadline:
                raise MatchboxError(f"the journal does not get as far as the log: sequence={last}")
            time.sleep(0.005)

    def _lock(self) -> None:
        shared = self.config.operators or any(account.users for account in self.config.accounts)
        folder.prepare(self.data, shared=bool(shared))
        lock = folder.lock(self.data)
        if lock is None:
            pid = read_status(self.data).get("pid", "unknown")
            raise folder.AlreadyRunning(
                f"an exchange runs in this data folder: data={self.data}, pid={pid}"
            )
        # The name, too: segments of two data folders with one name would be the same ones.
        name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._locks = [lock, name]
        try:
            name.bind(f"\0matchbox-{os.getuid()}-{self.config.instance}")
        except OSError:
            raise folder.AlreadyRunning(
                "an instance of this name runs, with another data folder: "
                f"instance={self.config.instance}"
            ) from None

    def _make_segments(self) -> None:
        assert self.plan is not None
        plan = self.plan
        segment.check_room(plan.segments())
        for part, size in plan.segments().items():
            name = plan.name(part)
            # Known before it is there: an interrupted start removes it, too.
            self._segments[part] = None
            self._segments[part] = segment.create(name, size)
        plan.format_rings(self._segments.__getitem__)
        first = Catalog()
        if self.snapshot is not None:
            snapshot.resume(self.snapshot.image, plan, self._segments.__getitem__)
            first.learn(self.snapshot.definitions)
        self.listing.format_first(first)
        board = Board.create(
            self._segments["board"],
            plan.epoch,
            os.getpid(),
            folder=str(self.data),
            identity=folder.identity(self.data),
        )
        for thread in plan.threads:
            number = board.add_process(thread.name, thread.core, thread.idle)
            for agent in thread.agents:
                board.add_agent(agent, number)
        with Reader(self.data / "journal") as reader:
            poison.recall(board, reader.last_sequence(), self.data)
        self.board = board

    def _start_hosts(self) -> None:
        assert self.plan is not None
        settings = self._salvage.settings
        for number, process in enumerate(self.config.processes):
            self.hosts.append(Host(number, process.name, self.plan, settings, life=self._life_held))
        self._write_status("starting")
        for host in self.hosts:
            host.begin()
        for host in self.hosts:
            host.wait_ready()
        self.listing.hosts = list(self.hosts)
        self._write_status("starting")

    def _load_snapshot(self) -> None:
        """Let every host load what it runs. Raises MatchboxError if it is not the state that it was
        when it was saved.
        """
        if self.snapshot is None:
            return
        began = time.monotonic()
        for host in self.hosts:
            host.channel.ask("load_snapshot", path=str(self.snapshot.path), timeout=None)
        found, expected = combined_hash(self.state()), self.snapshot.image.state_hash
        if found != expected:
            alarms.begin(self.data, f"the snapshot has another hash: {found:016x}", self.say)
            raise MatchboxError(
                f"{self.snapshot.path} has not the state that was saved: hash={found:016x}, "
                f"saved={expected:016x}; allowed: to remove it, and to start again"
            )
        self.say(
            f"Loaded the snapshot of sequence {self.snapshot.sequence:,} in "
            f"{time.monotonic() - began:.2f} s; state hash {found:016x}."
        )

    def _recover(self, stopped: dict[str, Any]) -> None:
        """Replay the journal. `stopped`: what instance.json said before this start."""
        self._load_snapshot()
        try:
            done = self._replay()
        except MatchboxError as error:
            alarms.begin(self.data, str(error), self.say)
            raise
        if stopped.get("state") == "stopped" and stopped.get("sequence") == done["sequence"]:
            self._compare_stopped(done["sequence"], str(stopped["hash"]), done["hash"])

    def _compare_stopped(self, sequence: int, expected: str, found: str) -> None:
        if found != expected:
            problem = f"the state hash of record {sequence:,} was {expected} when the exchange "
            problem += f"stopped, it is {found} after this start"
            self.say(f"ALARM: {problem}. `matchbox verify` says more.")
            alarms.begin(self.data, problem, self.say)

    def _replay(self) -> dict[str, Any]:
        began = time.monotonic()
        ask = partial(self._host_of("sequencer").channel.ask, "recover", timeout=None)
        done = ask(directory=str(self.data / "journal"))
        while "wanted" in done:
            self.listing.place_again(np.frombuffer(bytes.fromhex(done["wanted"]), MARKET_RECORD)[0])
            done = ask(directory=str(self.data / "journal"))
        state = self._wait_for_position(done["sequence"], "replay")
        self.listing.end_replay()
        self.snapshot = None  # its file is mapped
        if done["records"]:
            seconds = time.monotonic() - began
            first, last = done["sequence"] + 1 - done["records"], done["sequence"]
            self.say(
                f"Replayed the journal: {done['records']:,} records in {seconds:.2f} s, "
                f"{first:,} up to sequence {last:,}; state hash {combined_hash(state):016x}."
            )
        return {"sequence": done["sequence"], "hash": f"{combined_hash(state):016x}"}

    def _begin(self, definitions: NDArray[Any]) -> None:
        assert self.plan is not None
        serving = [h for h in self.hosts if {"sequencer", "publisher"} & set(h.agents)]
        fds = [
            segment.open_fd(self.plan.name(f"operator-{part}"), writable=True)
            for part in ("commands", "reports")
        ]
        for host in serving:
            host.channel.ask("open_session", slot=OPERATOR_SLOT, fds=fds)
        close_all(fds)
        operator = self._open_operator(self._host_of("sequencer").channel.ask("begin")["session"])
        for record in definitions[definitions["kind"] == Kind.ADD_MARKET].view(MARKET_RECORD):
            if int(record["market"]) not in self.listing.placed:
                self.listing.place(record)
        for record, answer in zip(definitions, operator.run(definitions), strict=True):
            if answer["reason"]:
                what, why = title(identity(record), record), describe(int(answer["reason"]))
                raise MatchboxError(f"{what} was refused: {why}")
        deposits = self.config.deposit_records()
        new = [bytes(r) not in self._deposited for r in deposits.view(MONEY_RECORD)["reference"]]
        for answer in operator.run(deposits[np.array(new, bool)]):
            if answer["reason"]:
                raise MatchboxError(f"a deposit was refused: {describe(int(answer['reason']))}")
        self._open_doors()
        # Whoever reads "running" may ask for a stop, and finds it done in order.
        self._signals.defer()
        self.board.state = "running"
        self._write_status("running")
        self._start_companions()

    def _start_companions(self) -> None:
        """What the exchange does not wait for."""
        assert self.plan is not None
        self._start_standby()
        self._archiver.start(self._life)
        self._gateway.start(self.plan, self._life)

    def _open_operator(self, number: int) -> Operator:
        """Our own session."""
        session = Session(
            None,
            Ring.attach(self._segments["operator-commands"]),
            Ring.attach(self._segments["operator-reports"]),
            number=number,
            name="operator",
            account=0,
            # What it asks of an engine that dies is answered by the standby.
            pidfds=()
            if self.config.standby.enabled
            else tuple(self._host_of(a).pidfd for a in ("sequencer", "publisher")),
        )
        self._operator = self.listing.operator = Operator(session)
        return self._operator

    def _open_doors(self) -> None:
        assert self._operator is not None
        self._doors = Doorkeeper(
            self.config,
            self.listing,
            self._operator,
            [h.channel for h in self.hosts if {"sequencer", "publisher"} & set(h.agents)],
            self._life,
            self._selector,
        )
        self._doors.listen(self.data / "control.sock")

    # -- running

    def run(self) -> int:
        """Serve until asked to stop (SIGINT, SIGTERM) or something fails. The exit status."""
        problem: Exception | None = None
        try:
            self._serve()
            if self._survive():
                self.stop()
                return 0
        except Exception as error:
            problem = error
            if not isinstance(error, MatchboxError):
                complain(traceback.format_exc())
        self._fail(problem)
        return 1

    def _serve(self) -> None:
        """Serve until asked to stop or something dies that is not survived. Raises EngineDown,
        Detached.
        """
        for host in self.hosts:
            self._watch(host)
        self._selector.register(self._signals, selectors.EVENT_READ, self._signals.drain)
        while not self._signals.asked and self._survive():
            # Slots of sessions that the engine detached are freed now and then.
            waits = (self._archiver.due_s, self._gateway.due_s, self._keeper.due_s)
            self._attend(min(wait or 5.0 for wait in waits))
            if self._doors is not None and not any(host.dead for host in self.hosts):
                self._do(self._doors.sweep)
                self._keeper.hear()
            self._archiver.tend()
            self._gateway.tend()

    def _attend(self, timeout_s: float) -> None:
        """Do what is asked for, once something is."""
        for key, _ in self._selector.select(timeout=timeout_s):
            # What one of them does can end another: a session is over when its line is
            # hung up or its process ends, and both can be in the same answer.
            if self._selector.get_map().get(key.fd) is key:
                self._do(key.data)

    def _watch(self, host: Host) -> None:
        """Wake up when it ends."""
        self._selector.register(host.pidfd, selectors.EVENT_READ, lambda: None)

    def _unwatch(self, host: Host) -> None:
        with contextlib.suppress(KeyError):
            self._selector.unregister(host.pidfd)
        host.end(kill=True)

    def _survive(self) -> bool:
        """Put others in the place of processes that have died. Can the exchange go on?"""
        dead = [host for host in self.hosts if host.dead]
        if any(host.runs_engine() for host in dead) and not self._be_taken_over():
            return False
        for host in [h for h in dead if not h.runs_engine()]:
            # One that ended by itself has said why: its disk has failed.
            if (host.process.returncode or 0) >= 0:
                return False
            self.say(f"Process {host.name} (journaler) ended: {host.how}. Another one is started.")
            self._replace_journal(host)
        if self._keeper.dead:
            self._keeper.bury()
        if self._keeper.due:
            self._start_standby()
        return True

    def _do(self, work: Callable[[], None]) -> None:
        """Do what was asked for from outside, which may fail. Raises EngineDown, Detached, if no
        process has died that could be the reason.
        """
        try:
            work()
        except (EngineDown, Detached):
            if not self._has_died(1.0):
                raise
        except MatchboxError as error:
            self.say(f"The exchange goes on after an error: {error}")

    def _has_died(self, patience_s: float) -> bool:
        """Does a process end within some time?"""
        deadline = time.monotonic() + patience_s
        while not any(host.dead for host in self.hosts):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.002)
        return True

    def _dead(self) -> Host | None:
        """The first host whose process has ended."""
        return next((host for host in self.hosts if host.dead), None)

    # -- the standby

    def _start_standby(self) -> None:
        """Start one, if there is to be one; it is not waited for."""
        assert self.plan is not None
        self._keeper.start(
            self.plan, self.listing.matchers, self._salvage.settings, self._life_held
        )

    def _connect_standby(self, line: StandbyLine | None) -> None:
        if self._doors is not None:
            self._doors.standby = self.listing.standby = line

    def _be_taken_over(self) -> bool:
        """The engine has died. True: its standby is the engine now."""
        dead = [host for host in self.hosts if host.dead]
        names = ", ".join(f"{host.name}: {host.how}" for host in dead)
        promoted = self._keeper.promoted()
        if promoted is None:
            return False
        standby, done = promoted
        before, self.plan = self.plan, Plan.from_json(done["plan"])
        assert before is not None
        for host in [host for host in self.hosts if host.runs_engine()]:
            self._unwatch(host)
            self.hosts.remove(host)
        self.hosts.insert(0, standby)
        self.board = Board.attach(segment.attach(self.plan.name("board")))
        assert self._doors is not None
        self._doors.go_on(self.plan, standby.channel)
        self.listing.go_on(self.plan, self.hosts, [PlanMarket(**m) for m in done["markets"]])
        if "journaler" not in [agent for host in self.hosts for agent in host.agents]:
            self._start_journal()
        self._gateway.go_on(self.plan)
        self._write_status("running")
        took = done["ms"]
        self.say(
            f"The standby has taken over ({done['why']}; {names}): from sequence "
            f"{done['sequence']:,} on, epoch {self.plan.epoch}, in {sum(took.values()):.1f} ms "
            f"({', '.join(f'{what} {ms:.1f}' for what, ms in took.items())})."
        )
        for decided in done["poison"]:
            self.say(f"{decided[0].upper()}{decided[1:]}.")
        self._leave_log(before)
        self._start_standby()
        return True

    def _leave_log(self, before: Plan) -> None:
        """Remove what the dead engine had in shared memory, once the journal has all of it."""
        assert self.plan is not None
        journal = self._host_of("journaler")
        deadline = time.monotonic() + _STOP_PATIENCE_S
        while True:
            try:
                state = journal.channel.ask("state")["agents"]["journaler"]
            except EngineDown:
                return  # it is replaced, and what it left is for the next start
            if state["epoch"] == self.plan.epoch:
                break
            if time.monotonic() > deadline:
                self.say("The journaler has not followed the new engine yet.")
                return
            time.sleep(0.002)
        for part in before.segments():
            if not outlives_engine(part):
                segment.unlink(before.name(part))

    def _replace_journal(self, host: Host) -> None:
        self._unwatch(host)
        self.hosts.remove(host)
        self._start_journal()
        self.listing.hosts = list(self.hosts)
        self._write_status("running")

    def _start_journal(self, *, watch: bool = True) -> None:
        """A process for the journaler, where there is none. Raises MatchboxError."""
        assert self.plan is not None
        process = self.plan.threads[self.plan.thread_of("journaler")].process
        settings = self._salvage.settings
        for left in reversed(range(_JOURNAL_STARTS)):
            host = Host(process, "journal", self.plan, settings, life=self._life_held)
            self.hosts.append(host)
            try:
                if self._status:
                    self._write_status(str(self._status["state"]))
                host.begin()
                host.wait_ready()
                break
            except EngineDown:  # it was killed meanwhile
                self.hosts.remove(host)
                host.end(kill=True)
                if not left:
                    raise
                self.say("The journal's process ended at its start. Another one is started.")
        if watch:
            self._watch(host)

    def state(self) -> dict[str, Any]:
        """What every agent says of itself."""
        found: dict[str, Any] = {}
        for host in self.hosts:
            found |= host.channel.ask("state")["agents"]
        return found

    def _wait_for_position(self, sequence: int, what: str) -> dict[str, Any]:
        """The state of all agents once each is done with the log up to `sequence`."""
        deadline = time.monotonic() + _STOP_PATIENCE_S
        while True:
            state = self.state()
            behind = {
                name: agent["position"]
                for name, agent in state.items()
                if agent["position"] < sequence
            }
            if not behind and state["sequencer"]["settled"] >= sequence:
                return state
            if time.monotonic() > deadline:
                raise MatchboxError(
                    f"agents do not finish the {what}: sequence={sequence}, behind={behind}"
                )
            time.sleep(0.002)

    def _host_of(self, agent: str) -> Host:
        return next(host for host in self.hosts if agent in host.agents)

    # -- ending

    def stop(self) -> None:
        """Stop in order: nothing that was sequenced is lost, and nothing stays in /dev/shm."""
        self._end_gateway()
        if self._doors is not None:
            self._doors.close()
        self.board.state = "stopping"
        self._write_status("stopping")
        self._keeper.lose()
        last = self._host_of("sequencer").channel.ask("finish")["sequence"]
        state = self._wait_for_position(last, "stop")
        for host in self.hosts:
            host.end()
        self.hosts = []
        self._end_life()
        self._remove_segments()
        self._archiver.wait()
        poison.forget(self.data)
        final = f"{combined_hash(state):016x}"
        self._write_status("stopped", sequence=last, hash=final)
        self.say(f"Stopped at sequence {last:,}; state hash {final}.")
        self._release()

    def _end_gateway(self) -> None:
        """Let its workers answer what they were asked; they may have to ask us for that."""
        self._gateway.ask_to_end()
        deadline = time.monotonic() + _GATEWAY_PATIENCE_S
        while not self._gateway.ended and time.monotonic() < deadline:
            self._attend(0.05)
        self._gateway.kill()

    def _fail(self, problem: Exception | None) -> None:
        """A process died, or there was another problem: end what is left, keep what was sequenced,
        say so.
        """
        host = self._dead()
        if host is not None:
            cause = f"{host.name}: {host.how}"
            self.say(f"Process {host.name} ({', '.join(host.agents)}) ended: {host.how}. Stopping.")
        else:
            cause = f"{type(problem).__name__}: {problem}"
            self.say(f"The exchange has failed: {cause}. Stopping.")
        self._gateway.kill()
        self._keeper.lose()
        for host in self.hosts:
            host.end(kill=True)
        self.hosts = []
        assert self.plan is not None
        self._bury()
        self._end_life()
        kept: dict[str, Any] = {}
        try:
            saved = self._salvage.drain(self.plan.name("log"))
            self.say(
                f"Saved {saved:,} records that were not in the journal yet. "
                "`matchbox up` goes on from there."
            )
        except (MatchboxError, OSError) as error:
            kept = {"saved": False}
            self.say(
                f"What is not in the journal yet could not be saved: {error}. "
                "It stays in shared memory; the next `matchbox up` tries again."
            )
            self._segments.clear()
        self._remove_segments()
        self._archiver.wait()
        self._write_status("failed", cause=cause, **kept)
        if self._doors is not None:
            self._doors.close()
        self._release()

    def _abandon(self) -> None:
        """Undo a start that failed."""
        self._signals.defer()
        self._gateway.kill()
        self._keeper.lose()
        for host in self.hosts:
            host.end(kill=True)
        self.hosts = []
        self._bury()
        self._end_life()
        self._archiver.kill()
        if self.plan is not None and "log" in self._segments:
            with contextlib.suppress(MatchboxError):
                self._salvage.drain(self.plan.name("log"))
        self._remove_segments()
        if self.plan is not None:
            self._write_status("failed", cause="the start failed")
        self._release()

    def _bury(self) -> None:
        """See that what killed the engine, if anything did, does not kill the next one."""
        if self.plan is not None:
            self._salvage.bury(self.plan.instance, self.plan.epoch)

    def _remove_segments(self) -> None:
        if self.plan is not None:
            for part in self._segments:
                segment.unlink(self.plan.name(part))
        self._segments.clear()
        if self._status:
            (self.data / "control.sock").unlink(missing_ok=True)

    def _end_life(self) -> None:
        """All processes have ended: bots see it now."""
        if self._life_held >= 0:
            os.close(self._life_held)
            self._life_held = -1

    def _release(self) -> None:
        for lock in self._locks:
            lock.close()
        self._locks = []

    def _write_status(self, state: str, **more: Any) -> None:
        """instance.json."""
        assert self.plan is not None
        self._status = {
            "instance": self.plan.instance,
            "state": state,
            "epoch": self.plan.epoch,
            "world": self.plan.world or self.plan.epoch,
            "log_slots": self.plan.log_slots,
            "pid": os.getpid(),
            "config": str(self.config.path.resolve()),
            "processes": self._pids()[1:],
            "engines": [h.process.pid for h in self.hosts if h.runs_engine()],
            **({"alarm": self._keeper.alarm} if self._keeper.alarm else {}),
            "archiver": self._archiver.pid,
            **self._gateway.status(),
            "standby": self._keeper.epochs if self._keeper.ready else 0,
            "started": [folder.process_start(pid) for pid in self._pids()],
            **more,
        }
        folder.write_status(self.data, self._status)

    def _pids(self) -> list[int]:
        standby = [self._keeper.host] if self._keeper.host is not None else []
        return [os.getpid(), *(host.process.pid for host in [*self.hosts, *standby])]


def _raise_descriptor_limit() -> None:
    """As many descriptors as may be had, for this process and those that it starts."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

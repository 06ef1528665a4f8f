"""The control socket: bots attach here, and their sessions are looked after until they end.

A session's life: memory made, made known to sequencer and publisher, attached by a log record of
the operator's session, handed to the bot. It ends when the publisher closes its report ring (logged
out, detached for cause) or its process dies (pidfd), which detaches it by a record; its slot is
free again when its last report is out.
"""

import contextlib
import fcntl
import json
import os
import resource
import selectors
import socket
import struct
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from matchbox.core.plan import OPERATOR_SLOT, Plan
from matchbox.shm import segment
from matchbox.shm.control import (
    ASSURANCE_FLAGS,
    LAYOUT_VERSION,
    MAGIC,
    REQUEST,
    RequestFlag,
    RequestKind,
    reply,
)
from matchbox.shm.errors import EngineDown, MatchboxError, RingFull, SegmentError
from matchbox.shm.reasons import Reason
from matchbox.shm.records import (
    COMMAND,
    FEE_ACCOUNT,
    LOG_RECORD,
    MARKET_RECORD,
    NAMED_RECORD,
    Assurance,
    Capability,
    EventKind,
    Kind,
)
from matchbox.shm.ring import Ring, ring_bytes
from matchbox.shm.saying import complain
from matchbox.shm.session import Session
from matchbox.tools.access import Access, user_name
from matchbox.tools.channel import Channel, close_all
from matchbox.tools.config import Config
from matchbox.tools.folder import process_start
from matchbox.tools.process import StandbyLine

if TYPE_CHECKING:
    from matchbox.tools.catalog import Listed
    from matchbox.tools.listing import Listing

_ANSWER_TIMEOUT_S = 30.0
_PROMOTE_PATIENCE_S = 55.0
# Of operator records. A transfer has two balances; the first answers it.
_ANSWERS = (EventKind.DONE, EventKind.REJECTED, EventKind.BALANCE)
# Lines beside those of sessions, and how long one without a session may be silent where all lines
# are taken.
_SPARE_LINES = 64
_IDLE_S = 5.0
# Descriptors of the supervisor: two of each session (its process, its reports), and some that are
# open for a moment.
_FDS_OF_SESSION = 2
_SPARE_FDS = 32
_PEER = struct.Struct("iII")


class Refused(MatchboxError):
    """A request that is answered with a code and a text."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class Operator:
    """The supervisor's own session: sends operator records and waits for their answers."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def run(self, records: np.ndarray[Any, Any]) -> list[Any]:
        """The answer to each of `records`, in order. Raises EngineDown."""
        answers: list[Any] = []
        for first in range(0, len(records), 1024):
            batch = np.ascontiguousarray(records[first : first + 1024]).view(COMMAND)
            position = self.session.submit(batch, timeout=_ANSWER_TIMEOUT_S)
            last = position + len(batch) - 1
            while position <= last:
                reports = self.session.reports(timeout=_ANSWER_TIMEOUT_S)
                if not len(reports):
                    raise MatchboxError("the exchange does not answer its operator")
                for report in reports:
                    if int(report["command_position"]) == position and report["kind"] in _ANSWERS:
                        answers.append(report)
                        position += 1
        return answers

    def one(self, record: np.ndarray[Any, Any]) -> Any:
        """The answer to one record. Raises Refused."""
        (report,) = self.run(record)
        if report["reason"]:
            reason = Reason(int(report["reason"]))
            raise Refused(reason, f"refused by the engine: {reason.name}")
        return report


@dataclass
class Attached:
    """One session of a bot."""

    slot: int
    number: int
    name: str
    pid: int
    pidfd: int
    reports: Ring
    detaching: bool = False


@dataclass
class Line:
    """Who is at the other end of a connection, and when (monotonic) it was last heard."""

    pid: int
    uid: int
    heard: float


@dataclass
class Doorkeeper:
    """Answers the control socket. Single-threaded: the supervisor's selector calls it."""

    config: Config  # who may attach and operate
    listing: "Listing"  # what there is to trade
    operator: Operator
    hosts: list[Channel]  # those with a sequencer or a publisher
    life: int  # a descriptor that hangs up at the exchange's end
    selector: selectors.BaseSelector
    sessions: dict[int, Attached] = field(default_factory=dict)  # by slot
    plan: Plan = field(init=False)
    access: Access = field(init=False)
    standby: StandbyLine | None = None
    _listener: socket.socket | None = None
    _lines: dict[socket.socket, Line] = field(default_factory=dict)
    _lost_slots: set[int] = field(default_factory=set)
    _most_lines: int = 0
    _most_of_user: int = 0

    def __post_init__(self) -> None:
        self.plan = self.listing.plan
        self.access = Access(self.config, self.listing.catalog)

    def go_on(self, plan: Plan, engine: Channel) -> None:
        """Another engine has taken over; sessions stay as they are."""
        self.plan, self.hosts, self.standby = plan, [engine], None

    def adopt(self, slot: int, number: int, about: dict[str, Any], reports: int) -> None:
        """A session that a dead supervisor let in; `reports`: a descriptor of its report ring."""
        pid = int(about["pid"])
        ring = Ring.attach(segment.map_fd(reports))
        session = Attached(slot, number, str(about["name"]), pid, -1, ring)
        self.sessions[slot] = session
        if about["started"] and process_start(pid) == about["started"]:
            session.pidfd = os.pidfd_open(pid)
            self.selector.register(session.pidfd, selectors.EVENT_READ, lambda: self._died(session))

    def listen(self, path: Path) -> None:
        """Open the control socket. Any user may connect: who it is decides what is allowed."""
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        self._listener.bind(str(path))
        path.chmod(0o666)
        self._listener.listen(256)
        self._most_lines, self._most_of_user = _line_limits(self.plan.max_sessions)
        self.selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def close(self) -> None:
        """Take no more requests."""
        if self._listener is not None:
            self.selector.unregister(self._listener)
            self._listener.close()
            self._listener = None

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            line, _ = self._listener.accept()
        except OSError:
            # It hung up meanwhile, or the machine is out of descriptors: then not so fast.
            time.sleep(0.001)
            return
        # Who does not take its answers is not waited for.
        line.setblocking(False)
        line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 18)
        pid, uid = _peer(line)
        if not self._room_for(uid):
            _refuse(
                line,
                Reason.TOO_MANY_OBJECTS,
                f"too many connections: allowed={self._most_of_user} of a user, "
                f"{self._most_lines} in all",
            )
            line.close()
            return
        self._lines[line] = Line(pid, uid, time.monotonic())
        self.selector.register(line, selectors.EVENT_READ, lambda: self._serve(line))

    def _room_for(self, uid: int) -> bool:
        """Can this user have one more line? An idle one is given up for it where all are taken."""
        lines = list(self._lines.items())
        if sum(known.uid == uid for _, known in lines) >= self._most_of_user:
            lines = [(line, known) for line, known in lines if known.uid == uid]
        elif len(lines) < self._most_lines:
            return True
        busy = {session.pid for session in self.sessions.values()}
        line, known = min(
            ((line, known) for line, known in lines if known.pid not in busy),
            key=lambda idle: idle[1].heard,
            default=(None, None),
        )
        if line is None or known is None or time.monotonic() - known.heard < _IDLE_S:
            return False
        self._hang_up(line)
        return True

    def _serve(self, line: socket.socket) -> None:
        """Answer a request, or hang up. Raises MatchboxError if the engine did not do its part."""
        fds: list[int] = []
        self._lines[line].heard = time.monotonic()
        try:
            data = line.recv(4096)
            if not data:
                self._hang_up(line)
                return
            answer, fds, records = self._answer(line, data)
            socket.send_fds(line, [answer, records], fds)
        except Refused as refusal:
            _refuse(line, refusal.reason, str(refusal))
        except SegmentError as error:
            _refuse(line, Reason.TOO_MANY_OBJECTS, str(error))
        except OSError:
            self._hang_up(line)
        except MatchboxError:
            self._hang_up(line)
            raise
        except Exception:
            complain(traceback.format_exc())
            self._hang_up(line)
        finally:
            close_all(fds)

    def _hang_up(self, line: socket.socket) -> None:
        if line not in self._lines:
            return  # hung up already, by a call whose sweep has failed with the engine
        self.selector.unregister(line)
        del self._lines[line]
        line.close()
        self.sweep()

    def _answer(self, line: socket.socket, data: bytes) -> tuple[bytes, list[int], bytes]:
        if len(data) not in (REQUEST.itemsize, REQUEST.itemsize + LOG_RECORD.itemsize):
            raise Refused(
                Reason.BAD_FIELD,
                f"a request has {REQUEST.itemsize} bytes, with a record behind it "
                f"{REQUEST.itemsize + LOG_RECORD.itemsize}: bytes={len(data)}",
            )
        request = np.frombuffer(data, REQUEST, 1)[0]
        if request["magic"] != MAGIC or request["layout_version"] != LAYOUT_VERSION:
            raise Refused(
                Reason.BAD_FIELD,
                "another version of the control protocol: "
                f"layout_version={int(request['layout_version'])}, allowed={LAYOUT_VERSION}",
            )
        pid, uid = _peer(line)
        kind = int(request["kind"])
        if (kind == RequestKind.DEFINE) != (len(data) > REQUEST.itemsize):
            raise Refused(Reason.BAD_FIELD, "DEFINE has a record behind it, and no other request")
        if kind == RequestKind.DEFINE:
            return self._define(request, data[REQUEST.itemsize :], uid)
        if kind == RequestKind.ATTACH:
            return self._attach(request, pid, uid)
        if kind == RequestKind.DEPTH:
            return self._depth(request)
        if kind == RequestKind.MARKETS:
            markets = [market.record for market in self._markets()]
            return reply(count=len(markets)), [], np.array(markets, MARKET_RECORD).tobytes()
        if kind in (RequestKind.PROMOTE, RequestKind.SNAPSHOT):
            return self._ask_standby(kind, uid)
        if kind == RequestKind.CLOSE:
            return self._close(request, pid)
        if kind in (
            RequestKind.ASSETS,
            RequestKind.ACCOUNTS,
            RequestKind.BALANCES,
            RequestKind.ORDERS,
            RequestKind.LISTING,
        ):
            return reply(), [_document(self._look(kind, request, uid))], b""
        raise Refused(
            Reason.UNKNOWN_KIND, f"no such request: kind={kind}, allowed={[*map(int, RequestKind)]}"
        )

    # -- attaching

    def _attach(self, request: Any, pid: int, uid: int) -> tuple[bytes, list[int], bytes]:
        account = self._account(_text(request, "account"), uid)
        flags = int(request["flags"])
        if flags & ~sum(RequestFlag):
            raise Refused(
                Reason.BAD_FLAGS,
                f"no such flags of a request: flags={flags}, allowed={int(sum(RequestFlag))}",
            )
        assurance = _assurance(flags)
        if flags & RequestFlag.DOORBELL and not self.access.owner(uid):
            raise Refused(
                Reason.NOT_PERMITTED, "a doorbell is for sessions of the exchange's own user alone"
            )
        operates = bool(flags & RequestFlag.OPERATOR)
        capabilities = self._capabilities(int(request["capabilities"]), account, uid, operates)
        self.sweep()
        name = _text(request, "name") or self._free_name(_text(request, "account") or "session")
        slot = next(
            (
                n
                for n in range(OPERATOR_SLOT + 1, self.plan.max_sessions)
                if n not in self.sessions and n not in self._lost_slots
            ),
            0,
        )
        if not slot:
            raise Refused(
                Reason.TOO_MANY_OBJECTS,
                f"all session slots are taken: limits.max_sessions={self.plan.max_sessions - 1}",
            )
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            raise Refused(Reason.DISCONNECTED, f"the asking process is gone: pid={pid}") from None
        try:
            commands, reports, ring = self._memory(name)
        except BaseException:
            os.close(pidfd)
            raise
        fds = [commands]  # what the bot gets
        try:
            # All that can fail for want of descriptors comes before the engine hears of it.
            self._open_for_bot(reports, fds)
            bell = []
            if flags & RequestFlag.DOORBELL:
                bell.append(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
                fds += bell
            about = {"name": name, "pid": pid, "started": process_start(pid)}
            self._open_slot(slot, [commands, reports, *bell], about)
            try:
                record = _attachment(name, slot, account, capabilities)
                record["user"] = _user_number(uid)
                record["cancel_on_detach"] = bool(flags & RequestFlag.CANCEL_ON_DETACH)
                record["assurance"] = assurance
                answer = self.operator.one(record)
            except Refused as refusal:
                self._close_slot(slot)
                raise Refused(refusal.reason, f"name={name}, account={account}") from None
            except BaseException:
                # Nobody knows whether the engine has taken it.
                self._lost_slots.add(slot)
                raise
            number = int(answer["order_id"])
            session = Attached(slot, number, name, pid, pidfd, ring)
            self.sessions[slot] = session
            self.selector.register(pidfd, selectors.EVENT_READ, lambda: self._died(session))
            pidfd = -1
            packet = reply(
                session=number,
                account=account,
                position=int(answer["quantity_lots"]),
                sequence=int(answer["sequence"]),
                text=name,
            )
            given, fds = fds, []
            return packet, given, b""
        finally:
            close_all(fd for fd in (reports, pidfd, *fds) if fd >= 0)

    def _open_for_bot(self, reports: int, fds: list[int]) -> None:
        """Add to a bot's descriptors: its reports, market data (both read-only), what tells the
        end.
        """
        fds.append(segment.read_only(reports))
        fds.append(segment.open_fd(self.plan.name("market-data"), writable=False))
        fds.append(fcntl.fcntl(self.life, fcntl.F_DUPFD_CLOEXEC, 0))

    def _open_slot(self, slot: int, fds: list[int], about: dict[str, Any]) -> None:
        """Make a session's memory known to the engine and to its standby."""
        after = 0
        for host in self.hosts:
            answer = host.ask("open_session", slot=slot, fds=fds, about=about)
            after = max(after, int(answer["after"]))
        if self.standby is not None:
            self.standby.tell("open_session", slot=slot, fds=fds, after=after, about=about)

    def _close_slot(self, slot: int) -> None:
        for host in self.hosts:
            host.ask("close_session", slot=slot)
        if self.standby is not None:
            self.standby.tell("close_session", slot=slot)

    def _memory(self, name: str) -> tuple[int, int, Ring]:
        """Descriptors of a session's two rings, and the report ring as we see it."""
        made: list[tuple[int, Ring]] = []
        for part, slots, readers in (
            ("commands", self.plan.command_slots, 1),
            ("reports", self.plan.report_slots, 0),
        ):
            try:
                fd, memory = segment.memfd(f"matchbox-{part}", ring_bytes(slots))
            except SegmentError:
                close_all(fd for fd, _ in made)
                raise
            ring = Ring.create(
                memory,
                capacity=slots,
                shape="session",
                readers=readers,
                name=name,
                epoch=self.plan.epoch,
            )
            made.append((fd, ring))
        return made[0][0], made[1][0], made[1][1]

    def _account(self, name: str, uid: int) -> int:
        """The number of the account, if this user may have it; 0 for none."""
        if not name:
            return 0
        number = self.access.account(name, uid)
        if number:
            return number
        raise Refused(
            Reason.ACCOUNT_NOT_PERMITTED,
            f"no account of this name is open to you: account={name}, user={user_name(uid)}",
        )

    def _capabilities(self, wanted: int, account: int, uid: int, operates: bool) -> int:
        open_to = Capability.TRADE if account else Capability(0)
        if self.access.owner(uid):
            open_to |= Capability.TRADE | Capability.NAME_ACCOUNTS
        if self.access.operates(uid):
            open_to |= Capability.OPERATE
        allowed = int(open_to)  # the complement of a flag has only the bits that it knows
        if operates:
            wanted |= int(Capability.OPERATE)
        if wanted & ~allowed:
            raise Refused(
                Reason.NOT_PERMITTED,
                f"capabilities not open to you: wanted={wanted}, allowed={allowed}",
            )
        if operates:
            return allowed
        return wanted or (int(Capability.TRADE) if account else 0)

    def _free_name(self, stem: str) -> str:
        taken = {session.name for session in self.sessions.values()}
        return next(
            name for n in range(1, len(taken) + 2) if (name := f"{stem[:30]}.{n}") not in taken
        )

    def _depth(self, request: Any) -> tuple[bytes, list[int], bytes]:
        number, symbol = int(request["market"]), _text(request, "symbol")
        markets = self._markets()
        for market in markets:
            if market.number == number or (not number and market.symbol == symbol):
                fd = segment.open_fd(self.plan.name(f"depth-{market.number}"), writable=False)
                return reply(), [fd], b""
        symbols = ", ".join(market.symbol for market in markets[:20])
        raise Refused(
            Reason.UNKNOWN_MARKET, f"no such market: {symbol or number}; there are: {symbols}"
        )

    # -- looking

    def _look(self, kind: int, request: Any, uid: int) -> Any:
        """What is asked for, as JSON has it."""
        if kind == RequestKind.ASSETS:
            assets = self.listing.catalog.assets.values()
            return [{"number": a.id, "name": a.name, "scale": a.scale} for a in assets]
        if kind == RequestKind.LISTING:
            return self._ask_sequencer("listing")
        accounts = self.access.accounts(uid)
        if kind == RequestKind.ACCOUNTS:
            return list(accounts.values())
        number = int(request["number"])
        everyone = number == 0 and kind == RequestKind.ORDERS
        if not (
            self.access.operates(uid) if everyone or number == FEE_ACCOUNT else number in accounts
        ):
            raise Refused(
                Reason.ACCOUNT_NOT_PERMITTED,
                f"no account of this number is open to you: number={number}, user={user_name(uid)}",
            )
        if kind == RequestKind.BALANCES:
            return self._ask_sequencer("balances", account=number)
        return self._ask_sequencer("orders", account=number, market=int(request["market"]))

    def _markets(self) -> "list[Listed]":
        """Those that there are, without those that somebody's record has removed."""
        self.listing.sweep()
        return list(self.listing.catalog.markets.values())

    def _ask_standby(self, kind: int, uid: int) -> tuple[bytes, list[int], bytes]:
        """Have the standby take over from an engine that is well, or take a snapshot."""
        if not self.access.operates(uid):
            raise Refused(
                Reason.NOT_PERMITTED, f"not an operator of this exchange: user={user_name(uid)}"
            )
        if self.standby is None:
            raise Refused(Reason.NO_STANDBY, "allowed: once a standby follows")
        try:
            if kind == RequestKind.SNAPSHOT:
                return reply(sequence=self.standby.take_snapshot()), [], b""
            done = self.standby.promote(f"asked to by user {user_name(uid)}", _PROMOTE_PATIENCE_S)
        except MatchboxError as error:
            raise Refused(Reason.NO_STANDBY, str(error)) from None
        took = ", ".join(f"{what} {ms:.1f} ms" for what, ms in done["ms"].items())
        return reply(sequence=int(done["sequence"]), text=took), [], b""

    def _ask_sequencer(self, do: str, **fields: Any) -> dict[str, Any]:
        """What the host of the sequencer answers. Raises Refused."""
        threads = self.plan.threads
        serving = {t.process for t in threads if {"sequencer", "publisher"} & set(t.agents)}
        place = sorted(serving).index(threads[self.plan.thread_of("sequencer")].process)
        try:
            return self.hosts[place].ask(do, **fields)
        except EngineDown as error:
            raise Refused(Reason.ENGINE_STOPPED, str(error)) from None
        except MatchboxError as error:
            raise Refused(Reason.BAD_FIELD, str(error)) from None

    # -- what there is

    def _define(self, request: Any, data: bytes, uid: int) -> tuple[bytes, list[int], bytes]:
        """An operator's ADD_ or REMOVE_ record."""
        if not self.access.operates(uid):
            raise Refused(
                Reason.NOT_PERMITTED, f"not an operator of this exchange: user={user_name(uid)}"
            )
        record = np.frombuffer(data, LOG_RECORD, 1)[0]
        wanted = int(request["number"])
        number, answer = self.listing.define(record, wanted - 1 if wanted else None)
        self.listing.say(
            f"{Kind(int(record['kind'])).name} {number} by user {user_name(uid)}: log record "
            f"{int(answer['sequence']):,}."
        )
        return reply(account=number, sequence=int(answer["sequence"])), [], b""

    # -- ending

    def _close(self, request: Any, pid: int) -> tuple[bytes, list[int], bytes]:
        name = _text(request, "name")
        for session in self.sessions.values():
            if session.name == name and session.pid == pid:
                self._detach(session, Reason.LOGGED_OUT)
                self.sweep()
                return reply(), [], b""
        raise Refused(Reason.UNKNOWN_SESSION, f"you have no session of this name: name={name}")

    def _died(self, session: Attached) -> None:
        """Its process has ended."""
        self._forget_process(session)
        self._detach(session, Reason.DISCONNECTED)
        self.sweep()

    def _detach(self, session: Attached, reason: Reason) -> None:
        if session.detaching or session.reports.closed:
            return
        session.detaching = True
        record = np.zeros(1, NAMED_RECORD)
        record["kind"], record["id"], record["reason"] = (
            Kind.DETACH_SESSION,
            session.number,
            reason,
        )
        try:
            self.operator.one(record)
        except Refused:
            pass  # it was detached for cause a moment ago: then it is
        except RingFull:
            session.detaching = False  # sweep() tries again
            raise

    def sweep(self) -> None:
        """Free the slots of sessions whose last report is out; detach those without a process."""
        self.listing.sweep()
        for session in self.sessions.values():
            if session.pidfd < 0:
                self._detach(session, Reason.DISCONNECTED)
        for session in [s for s in self.sessions.values() if s.reports.closed]:
            self._close_slot(session.slot)
            self._forget_process(session)
            del self.sessions[session.slot]

    def _forget_process(self, session: Attached) -> None:
        if session.pidfd >= 0:
            self.selector.unregister(session.pidfd)
            os.close(session.pidfd)
            session.pidfd = -1


def _attachment(name: str, slot: int, account: int, capabilities: int) -> np.ndarray[Any, Any]:
    record = np.zeros(1, NAMED_RECORD)
    record["kind"], record["name"], record["slot"] = Kind.ATTACH_SESSION, name.encode(), slot
    record["account"], record["capabilities"] = account, capabilities
    return record


def _assurance(flags: int) -> Assurance:
    """What the flags of a request ask reports to wait for."""
    asked = flags & (RequestFlag.REPLICATED | RequestFlag.DURABLE)
    for assurance, flag in ASSURANCE_FLAGS.items():
        if asked == flag:
            return assurance
    raise Refused(
        Reason.BAD_FLAGS,
        f"reports wait for one assurance: flags={flags}, allowed: one of "
        f"{RequestFlag.REPLICATED:d} (replicated) and {RequestFlag.DURABLE:d} (durable)",
    )


def _document(content: Any) -> int:
    """A descriptor of a sealed file that has `content` as JSON."""
    fd = os.memfd_create("matchbox-answer", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        data = memoryview(json.dumps(content).encode())
        while data:
            data = data[os.write(fd, data) :]
        seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _user_number(uid: int) -> int:
    """`user` of an ATTACH_SESSION record: one more than the id, 0 if that cannot be said."""
    return (uid + 1) & 0xFFFFFFFF


def _line_limits(max_sessions: int) -> tuple[int, int]:
    """How many lines there may be in all, and of one user.

    One user cannot keep others out, and all of them leave room for every session.
    """
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    most = 2 * (max_sessions + _SPARE_LINES)
    if allowed != resource.RLIM_INFINITY:
        used = len(list(Path("/proc/self/fd").iterdir()))
        most = min(most, allowed - used - _FDS_OF_SESSION * max_sessions - _SPARE_FDS)
        most = max(most, 8)
    return most, max(4, min(max_sessions + _SPARE_LINES, most * 3 // 4))


def _peer(line: socket.socket) -> tuple[int, int]:
    """Process and user at the other end."""
    pid, uid, _ = _PEER.unpack(line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    return pid, uid


def _refuse(line: socket.socket, reason: Reason, text: str) -> None:
    with contextlib.suppress(OSError):
        line.send(reply(int(reason), text))


def _text(request: Any, field: str) -> str:
    return bytes(request[field]).decode(errors="replace")

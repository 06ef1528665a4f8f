"""Snapshots in memory: all of the deterministic engine after one log record.

    save      copy the state of agents between two rounds: sequencer, matchers and publisher, all
              done with the same record
    resume    set the rings of a new engine to where the snapshot's were, before any agent attaches
    load      fill agents that were built on such rings

An engine that loads a snapshot of record N and replays the log from N + 1 has, from there on, the
state hashes, events, reports, market data and depth of one that replayed all of it. The two may
have other limits, other rings, another number of matchers: what is too low raises SnapshotError.

The ledger may be behind: what is not settled at N is part of the snapshot (its log records, and the
events that answer them), for the log says of each record how far the ledger was.

Parts are arrays of C rows (snapshot_sequencer.pyx, snapshot_matcher.pyx, snapshot_publisher.pyx).
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matchbox.core import snapshot_matcher, snapshot_publisher, snapshot_sequencer
from matchbox.core.agent import Agent
from matchbox.core.matcher import MatcherAgent
from matchbox.core.plan import PUBLISHER_READS, SEQUENCER_READS, Plan, PlanMarket, Segments
from matchbox.core.publisher import Publisher
from matchbox.core.sequencer import Sequencer
from matchbox.core.snapshot_matcher import load_matcher, save_matcher
from matchbox.core.snapshot_publisher import load_publisher, save_publisher
from matchbox.core.snapshot_rings import resume_ring
from matchbox.core.snapshot_sequencer import load_sequencer, save_sequencer, saved_markets
from matchbox.shm.errors import BadArgument, SnapshotError
from matchbox.shm.records import EVENT, LOG_RECORD
from matchbox.shm.ring import Ring

# Of the meaning of the parts' rows. Their sizes are checked besides.
LAYOUT = 2
ROW_BYTES = {
    **snapshot_sequencer.ROW_BYTES,
    **snapshot_matcher.ROW_BYTES,
    **snapshot_publisher.ROW_BYTES,
}


@dataclass(frozen=True)
class Image:
    """The state after log record `sequence`."""

    sequence: int
    state_hash: int  # combined_hash()
    # Positions of the rings' producers; of the sequencer in each event ring as "events-0.settled".
    rings: dict[str, int]
    parts: dict[str, NDArray[Any]] = field(repr=False)

    @property
    def last_record(self) -> Any:
        """The log record itself, LOG_RECORD: by it a journal is known. There is one."""
        return self.parts["sequencer.log"].view(LOG_RECORD)[-1]

    @property
    def markets(self) -> tuple[PlanMarket, ...]:
        """Those that were open: whoever loads it needs memory for them, on any matcher."""
        return tuple(PlanMarket(*market) for market in saved_markets(self.parts))

    @property
    def unsettled(self) -> int:
        """The most slots that any ring needs for what is not settled."""
        events = sum(
            len(part) for name, part in self.parts.items() if name.startswith("sequencer.events-")
        )
        return max(events, len(self.parts["sequencer.log"]))

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in self.parts.values())


def save(plan: Plan, agents: dict[str, Agent], segments: Segments) -> Image:
    """Copy the state of all engine agents of `plan`, which nobody polls meanwhile.

    Raises BadArgument unless each is done with all that the log has (see not_at_rest()), and that
    is something.
    """
    behind = not_at_rest(plan, agents, segments)
    if behind:
        raise BadArgument(f"not all of the log is matched and published: {behind}")
    parts: dict[str, NDArray[Any]] = {}
    for agent in agents.values():
        parts |= _save(agent)
    rings = _rings(plan, segments)
    produced = {name: ring.produced for name, ring in rings.items()}
    for k in range(plan.matchers):
        produced[f"events-{k}.settled"] = rings[f"events-{k}"].consumed[SEQUENCER_READS]
    return Image(produced["log"], combined_hash(states(agents)), produced, parts)


def _save(agent: Agent) -> list[tuple[str, NDArray[Any]]]:
    if isinstance(agent, Sequencer):
        return save_sequencer(agent)
    if isinstance(agent, MatcherAgent):
        return save_matcher(agent)
    assert isinstance(agent, Publisher)
    return save_publisher(agent)


def not_at_rest(plan: Plan, agents: dict[str, Agent], segments: Segments) -> str:
    """Who is not done with all that the log has, and with all that answers it; empty if all are."""
    rings = _rings(plan, segments)
    log = rings["log"].produced
    if log == 0:
        return "the log is empty"
    found = [
        f"{name}={agent.position}"
        for name, agent in agents.items()
        if isinstance(agent, Sequencer | MatcherAgent | Publisher) and agent.position != log
    ]
    readers = {"ledger": 0} | {f"events-{k}": PUBLISHER_READS for k in range(plan.matchers)}
    found += [
        f"publisher of {part}={rings[part].consumed[reader]}"
        for part, reader in readers.items()
        if rings[part].consumed[reader] != rings[part].produced
    ]
    return ", ".join([*found, f"log={log}"]) if found else ""


def resume(image: Image, plan: Plan, segments: Segments) -> None:
    """Set the rings of `plan`, which format_rings() has just made, to where the snapshot's were.

    Raises SnapshotError where one is too short for what was not settled.
    """
    rings = _rings(plan, segments)
    resume_ring(rings["log"], image.sequence, {}, image.parts["sequencer.log"], limit="rings.log")
    resume_ring(rings["ledger"], image.rings["ledger"], {})
    resume_ring(rings["market-data"], image.rings["market-data"], {})
    unsettled = _unsettled(image, plan.matchers)
    for k in range(plan.matchers):
        # As many as before, or the ring is new.
        settled = image.rings.get(f"events-{k}.settled", 0)
        produced = settled + len(unsettled[k])
        resume_ring(
            rings[f"events-{k}"],
            produced,
            {SEQUENCER_READS: settled},
            unsettled[k],
            limit="rings.events",
        )


def _unsettled(image: Image, matchers: int) -> list[NDArray[Any]]:
    """What each event ring has that is not settled; of matchers that are no more, the first one's
    (source_now() in snapshot_sequencer.pyx says the same).
    """
    found: list[NDArray[Any]] = []
    for k in range(max(matchers, image_matchers(image))):
        empty = np.empty(0, EVENT)
        found.append(image.parts.get(f"sequencer.events-{k}", empty).view(EVENT))
    if len(found) > matchers:
        merged = np.concatenate([found[0], *found[matchers:]])
        # Each ring is in the order of sequences, and no record is answered in two of them.
        found[0] = merged[np.argsort(merged["sequence"], kind="stable")]
    return found[:matchers]


def image_matchers(image: Image) -> int:
    """How many matchers the engine had."""
    return sum(name.endswith(".settled") for name in image.rings)


def load(image: Image, agents: dict[str, Agent]) -> None:
    """Fill agents, all of an engine or those of one process, which were built on the rings that
    resume() has set, with memory for the image's markets.

    Raises SnapshotError where something does not fit, BadArgument where an agent is not new.
    """
    for agent in agents.values():
        if isinstance(agent, Sequencer):
            load_sequencer(agent, image.parts)
        elif isinstance(agent, MatcherAgent):
            load_matcher(agent, image.parts)
        elif isinstance(agent, Publisher):
            load_publisher(agent, image.parts)


def check_rows(parts: dict[str, NDArray[Any]]) -> None:
    """Raises SnapshotError if a part is missing, or its rows have another size than ours."""
    matchers = {name.split(".")[0] for name in parts if name.startswith("matcher-")}
    for part, size in ROW_BYTES.items():
        agent, what = part.split(".")
        for each in sorted(matchers) if agent == "matcher" else [agent]:
            name = f"{each}.{what}"
            if name not in parts:
                raise SnapshotError(f"the snapshot has no such part: part={name}")
            if parts[name].itemsize != size:
                raise SnapshotError(
                    f"the snapshot is of another layout: part={name}, "
                    f"row_bytes={parts[name].itemsize}, supported={size}"
                )


def _rings(plan: Plan, segments: Segments) -> dict[str, Ring]:
    parts = ["log", "ledger", "market-data", *(f"events-{k}" for k in range(plan.matchers))]
    return {part: Ring.attach(segments(part)) for part in parts}


def references(image: Image) -> set[bytes]:
    """Of all deposits, withdrawals and transfers that have one."""
    rows = (
        image.parts["sequencer.movements"]
        .view(np.uint8)
        .reshape(-1, ROW_BYTES["sequencer.movements"])
    )
    names = np.ascontiguousarray(rows[:, :36]).view("S36")
    return {bytes(name) for name in names.ravel()}


# ---- hashes


def states(agents: dict[str, Agent]) -> dict[str, dict[str, Any]]:
    """Position and state hash of each agent that has one, as a running exchange tells them."""
    found: dict[str, dict[str, Any]] = {}
    for name, agent in agents.items():
        if isinstance(agent, Sequencer):
            found[name] = {"position": agent.position, "hash": agent.state_hash()}
        elif isinstance(agent, MatcherAgent):
            markets = {str(number): agent.state_hash(number) for number in agent.markets}
            found[name] = {"position": agent.position, "markets": markets}
    return found


def combined_hash(state: dict[str, Any]) -> int:
    """One hash over the states of the sequencer and of each market, whoever carries it."""
    markets = {int(n): h for agent in state.values() for n, h in agent.get("markets", {}).items()}
    total = int(state["sequencer"]["hash"])
    for number in sorted(markets):
        total = (total * 1_000_003 + number) & 0xFFFFFFFFFFFFFFFF
        total = (total * 1_000_003 + int(markets[number])) & 0xFFFFFFFFFFFFFFFF
    return total

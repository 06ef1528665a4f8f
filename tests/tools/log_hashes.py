"""Replay a log and print what its state is on the way: `python -m tests.tools.log_hashes FOLDER`.

FOLDER has `log.npy` (LOG_RECORD, from sequence 1) and `plan.json` (of core.plan). At every so many
records (or right after those that go together there), and at the end, a line: sequence, hash of the
sequencer's state, hash of each matcher's books. Builds of one source with any compiler flags must
print the same.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matchbox.core.plan import Plan
from matchbox.persistence.journaler import continues
from tests.core.exchange import Exchange


def save(folder: Path, plan: Plan, log: NDArray[Any]) -> None:
    """What the program reads."""
    np.save(folder / "log.npy", log)
    (folder / "plan.json").write_text(plan.to_json())


def hashes(plan: Plan, log: NDArray[Any], every: int) -> Iterator[tuple[int, ...]]:
    """(sequence, sequencer, matcher 0, ...) at each multiple of `every`, and at the end."""
    exchange = Exchange(plan, define=False)
    done = 0
    while done < len(log):
        until = min(len(log), done + every - done % every)
        # Not between records that go together: they are one step.
        while until < len(log) and continues(log[until], log[until - 1]):
            until += 1
        exchange.replay_some(log[done:until])
        done = until
        # Settled as far as the last record says, and no further: that is state, too.
        matchers = [exchange.agents[f"matcher-{k}"] for k in range(plan.matchers)]
        assert all(matcher.position == done for matcher in matchers), (
            "the event rings are too small"
        )
        yield done, exchange.sequencer.state_hash(), *(m.state_hash() for m in matchers)


def run(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.tools.log_hashes")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--every", type=int, default=10_000)
    given = parser.parse_args(arguments)
    plan = Plan.from_json((given.folder / "plan.json").read_text())
    for sequence, *values in hashes(plan, np.load(given.folder / "log.npy"), given.every):
        print(sequence, *(f"{value:016x}" for value in values))
    return 0


if __name__ == "__main__":
    sys.exit(run())

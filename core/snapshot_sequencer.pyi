from typing import Any

from numpy.typing import NDArray

from matchbox.core.sequencer import Sequencer

ROW_BYTES: dict[str, int]

def save_sequencer(agent: Sequencer) -> list[tuple[str, NDArray[Any]]]: ...
def load_sequencer(agent: Sequencer, parts: dict[str, NDArray[Any]]) -> None: ...
def saved_markets(parts: dict[str, NDArray[Any]]) -> list[tuple[int, int, int, int]]: ...

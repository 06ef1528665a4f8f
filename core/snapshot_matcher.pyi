from typing import Any

from numpy.typing import NDArray

from matchbox.core.matcher import MatcherAgent

ROW_BYTES: dict[str, int]

def save_matcher(agent: MatcherAgent) -> list[tuple[str, NDArray[Any]]]: ...
def load_matcher(agent: MatcherAgent, parts: dict[str, NDArray[Any]]) -> None: ...

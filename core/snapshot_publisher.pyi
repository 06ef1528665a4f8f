from typing import Any

from numpy.typing import NDArray

from matchbox.core.publisher import Publisher

ROW_BYTES: dict[str, int]

def save_publisher(agent: Publisher) -> list[tuple[str, NDArray[Any]]]: ...
def load_publisher(agent: Publisher, parts: dict[str, NDArray[Any]]) -> None: ...

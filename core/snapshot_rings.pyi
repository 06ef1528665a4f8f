from typing import Any

from numpy.typing import NDArray

from matchbox.shm.ring import Ring

def resume_ring(
    ring: Ring,
    produced: int,
    readers: dict[int, int],
    records: NDArray[Any] | None = None,
    *,
    limit: str = "",
) -> None: ...

from typing import Any

import numpy as np

LEVEL: np.dtype[Any]
ORDER: np.dtype[Any]
WAITING: np.dtype[Any]

"""What the models here take and give."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Classes = NDArray[np.int64]
Answer = Callable[[Array], Classes]
"""(n, D) -> (n,)"""

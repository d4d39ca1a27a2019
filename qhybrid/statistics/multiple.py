"""Many tests at once."""

import numpy as np
from numpy.typing import ArrayLike

from qhybrid.errors import InputError
from qhybrid.statistics.metrics import Floats


def holm(p_values: ArrayLike) -> Floats:
    """Adjust p-values for their number, so that at most 5 % of families hold a false one below .05.

    Source: S. Holm, Scand. J. Stat. 6, 65 (1979); the values are those of R's `p.adjust(method = "holm")`.

    Args:
        p_values: Of the family of tests, shape (K,).

    Returns:
        Adjusted p-values in the order given, shape (K,).

    Raises:
        InputError: A p-value is not between 0 and 1, or they are no list.
    """
    given = np.asarray(p_values, dtype=np.float64)
    if given.ndim != 1 or not ((given >= 0) & (given <= 1)).all():
        raise InputError(f"p-values {given.tolist()}: they must be a list of numbers from 0 to 1")
    order = np.argsort(given, kind="stable")
    stepped = np.maximum.accumulate(given[order] * np.arange(len(given), 0, -1))
    adjusted = np.empty(len(given))
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted

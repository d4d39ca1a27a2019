"""Shot noise drawn from standard errors, where there are no repeats to see it in."""

import numpy as np
from numpy.typing import ArrayLike

from qhybrid.errors import InputError
from qhybrid.statistics.metrics import Floats


def shot_redraws(expectation_values: ArrayLike, stderr: ArrayLike, *, repeats: int, seed: int = 0) -> Floats:
    """Draw what expectation values would be measured with finite shots, as repeats (R, N, M).

    A head makes probabilities (R, N, C) of them, which `bootstrap_intervals` and `paired_distributions` take: metrics
    at these shots, with samples and shots in the interval. Start from values without shot noise; measured values carry
    one dose already, and redraws of them tell only how far another run on the same samples could differ.

    Args:
        expectation_values: Before the shots, shape (N, M), between -1 and 1.
        stderr: Standard errors that the shots will have, shape (N, M): sqrt((1 - value^2) / shots) for one Pauli word.
        repeats: R.
        seed: Of the draws.

    Returns:
        Normal draws, cut at -1 and 1.

    Raises:
        InputError: The shapes differ, a standard error is negative or not finite, or `repeats` is not positive.
    """
    values, errors = np.asarray(expectation_values, dtype=np.float64), np.asarray(stderr, dtype=np.float64)
    if values.ndim != 2 or values.shape != errors.shape:
        raise InputError(
            f"expectation values have shape {values.shape} and standard errors {errors.shape}: both must be (N, M)"
        )
    if not (np.isfinite(values).all() and np.isfinite(errors).all() and (errors >= 0).all()):
        raise InputError("expectation values and standard errors must be finite, standard errors 0 or more")
    if repeats < 1:
        raise InputError(f"repeats = {repeats}: it must be 1 or more")
    noise = np.random.default_rng(seed).normal(size=(repeats, *values.shape))
    return np.asarray(np.clip(values + errors * noise, -1.0, 1.0))

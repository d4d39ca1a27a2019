"""How much of the ideal expectation values a noisy device keeps."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from qhybrid.errors import InputError
from qhybrid.statistics.metrics import Floats


@dataclass(frozen=True)
class SignalRetention:
    """Noisy against ideal expectation values, observable by observable: every array has shape (M,).

    A number that does not exist, such as the slope where all ideal values are equal, is NaN.
    """

    slope: Floats
    """Through the origin: 1 keeps the signal, 0 loses it."""
    slope_stderr: Floats
    line_slope: Floats
    """Of the straight line with an intercept."""
    line_slope_stderr: Floats
    intercept: Floats
    """Bias that no input causes, such as that of asymmetric readout errors."""
    intercept_stderr: Floats
    r_squared: Floats
    """Share of the variance that the line explains."""
    rmse: Floats
    """Root of the mean square of (noisy - ideal)."""
    rmse_stderr: Floats
    rmse_without_shots: Floats
    """What of `rmse` is left after the mean square of the standard errors is taken away; `rmse` itself without them."""


def signal_retention(noisy: ArrayLike, ideal: ArrayLike, stderr: ArrayLike | None = None) -> SignalRetention:
    """Compare noisy with ideal expectation values by least squares.

    Ideal values are exact, so all the error is in the noisy ones and ordinary least squares is unbiased; no
    errors-in-variables fit is needed. Standard errors are those of equal variance over samples
    (`scipy.stats.linregress`), that of the RMSE by the delta method.

    Args:
        noisy: Expectation values of the device, shape (N, M).
        ideal: Those of the same samples without noise and shots, shape (N, M).
        stderr: Standard errors of the noisy ones from shots, shape (N, M); None: they are exact.

    Raises:
        InputError: The shapes differ, there are fewer than three samples, or a value is not finite.
    """
    y, x = np.asarray(noisy, dtype=np.float64), np.asarray(ideal, dtype=np.float64)
    shot = np.zeros_like(y) if stderr is None else np.asarray(stderr, dtype=np.float64)
    if y.ndim != 2 or not y.shape == x.shape == shot.shape or len(y) < 3:
        raise InputError(
            f"noisy values have shape {y.shape}, ideal ones {x.shape}, standard errors {shot.shape}: "
            "they must be one and the same (N, M) with N >= 3"
        )
    if not (np.isfinite(y).all() and np.isfinite(x).all() and np.isfinite(shot).all()):
        raise InputError("expectation values or standard errors hold values that are not finite")
    n = len(y)
    squares = (x**2).sum(axis=0)
    slope = _ratio((x * y).sum(axis=0), squares)
    residual = ((y - slope * x) ** 2).sum(axis=0) / (n - 1)
    centred_x, centred_y = x - x.mean(axis=0), y - y.mean(axis=0)
    spread, total = (centred_x**2).sum(axis=0), (centred_y**2).sum(axis=0)
    spread = np.where(spread > 1e-24 * n, spread, 0.0)  # equal but for rounding
    line_slope = _ratio((centred_x * centred_y).sum(axis=0), spread)
    intercept = y.mean(axis=0) - line_slope * x.mean(axis=0)
    unexplained = ((centred_y - line_slope * centred_x) ** 2).sum(axis=0)
    variance = unexplained / (n - 2)
    errors = (y - x) ** 2
    mean_square = errors.mean(axis=0)
    rmse = np.sqrt(mean_square)
    return SignalRetention(
        slope=slope,
        slope_stderr=np.sqrt(_ratio(residual, squares)),
        line_slope=line_slope,
        line_slope_stderr=np.sqrt(_ratio(variance, spread)),
        intercept=intercept,
        intercept_stderr=np.sqrt(variance * (1 / n + _ratio(x.mean(axis=0) ** 2, spread))),
        r_squared=1 - _ratio(unexplained, total),
        rmse=rmse,
        rmse_stderr=np.where(rmse > 0, errors.std(axis=0, ddof=1) / np.sqrt(n) / (2 * np.where(rmse > 0, rmse, 1)), 0),
        rmse_without_shots=np.sqrt(np.maximum(mean_square - (shot**2).mean(axis=0), 0)),
    )


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Divide, with NaN where the denominator is 0."""
    nothing = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), np.nan)
    return np.asarray(np.divide(numerator, denominator, out=nothing, where=denominator > 0))

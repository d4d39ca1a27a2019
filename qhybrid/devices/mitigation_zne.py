"""Extrapolation to zero noise: values at several multiples of the noise -> values without, and how they depend on them.

Giurgica-Tiron et al., arXiv 2005.10921, sections III.B and C; Temme et al., arXiv 1612.02058.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

CLEAR = 2.0
"""Standard errors by which a value must differ from 0 to be on the side of 0 that it seems to be."""
UNPHYSICAL = 3.0
"""Standard errors by which an extrapolated value may exceed 1."""
TINY = 1e-9


@dataclass(frozen=True, eq=False)
class Extrapolated:
    """Values at zero noise.

    Args:
        values: Shape (B, M).
        slopes: Derivative with respect to each of the values that went in, the weights of the fit held, (K, B, M).
        failed: Where the fit failed and the straight line stands instead, shape (B, M).
    """

    values: Tensor
    slopes: Tensor
    failed: Tensor


def coefficients(extrapolation: str, factors: Sequence[int]) -> NDArray[np.float64]:
    """Factors with which the values at K multiples of the noise are summed, shape (K,).

    Args:
        extrapolation: `linear` or `richardson`.
        factors: The multiples.
    """
    x = np.asarray(factors, dtype=float)
    if extrapolation == "richardson":
        return np.array([np.prod([other / (other - each) for other in x if other != each]) for each in x])
    line: NDArray[np.float64] = np.linalg.pinv(np.stack([np.ones_like(x), x], axis=1))[0]
    return line


def extrapolate(extrapolation: str, factors: Sequence[int], values: Tensor, variances: Tensor) -> Extrapolated:
    """Extrapolate to zero noise.

    Args:
        extrapolation: `linear`, `richardson` or `exponential`.
        factors: K multiples of the noise.
        values: Shape (K, B, M).
        variances: Of the values, shape (K, B, M); zero where they are exact.
    """
    fixed = "linear" if extrapolation == "exponential" else extrapolation
    slopes = torch.from_numpy(coefficients(fixed, factors)).to(values)[:, None, None].expand_as(values)
    result = (slopes * values).sum(dim=0)
    if extrapolation != "exponential":
        return Extrapolated(result, slopes, torch.zeros_like(result, dtype=torch.bool))
    fitted, fitted_slopes, fits = _decay(factors, values, variances)
    return Extrapolated(torch.where(fits, fitted, result), torch.where(fits, fitted_slopes, slopes.detach()), ~fits)


def _decay(factors: Sequence[int], values: Tensor, variances: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The value at 0 of a exp(-b x), by least squares of the logarithms with the weights that shot noise gives them.

    Returns:
        Values (B, M), their slopes (K, B, M), and where the fit is one: all values are clearly on one side of 0, and
        what comes out is an expectation value.
    """
    clear = values.detach().abs() > CLEAR * variances.sqrt() + TINY
    fits = clear.all(dim=0) & ((values.detach() > 0).all(dim=0) | (values.detach() < 0).all(dim=0))
    safe = torch.where(fits, values, torch.ones_like(values))
    weight = safe**2 / torch.where(variances > 0, variances, torch.ones_like(variances))
    x = torch.tensor(factors, dtype=values.dtype, device=values.device)[:, None, None]
    s0, s1, s2 = (weight.sum(dim=0), (weight * x).sum(dim=0), (weight * x**2).sum(dim=0))
    shares = weight * (s2 - x * s1) / (s0 * s2 - s1**2)
    at_zero = torch.sign(safe[0].detach()) * torch.exp((shares * safe.abs().log()).sum(dim=0).clamp(max=10.0))
    slopes = (at_zero * shares / safe).detach()
    error = (slopes**2 * variances).sum(dim=0).sqrt()
    fits = fits & (at_zero.detach().abs() <= 1 + UNPHYSICAL * error + TINY)
    return at_zero, slopes, fits

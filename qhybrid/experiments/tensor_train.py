"""A linear layer whose matrix is a tensor train: few parameters between many features and a small circuit."""

from math import log, prod

import torch
from torch import Tensor, nn

RANK = 4
"""Rank of the bonds where none is given."""
FACTOR = 4
"""Features that a core reads, about."""


class TensorTrainLinear(nn.Module):
    """W x + b with W a tensor train (Novikov et al., arXiv 1509.06569, Eq. 2), as before a circuit in TTN-VQC.

    Features (B, f_1 ... f_d) meet one core (r_k-1, f_k, o_k, r_k) after the other; the outputs o_1 ... o_d are laid
    side by side, the first the most significant, as in the features. TTN-VQC (arXiv 2306.03741) leaves the factors
    open; `tensor_shape` is our reading. All bonds have one rank, or the largest that a bond can use.

    The cores are drawn so that an entry of W has the variance of `nn.Linear`'s, 1 / (3 F).

    Args:
        n_features: F, what is read.
        n_outputs: What is given.
        rank: Of the bonds; None: `RANK`.
    """

    def __init__(self, n_features: int, n_outputs: int, *, rank: int | None = None) -> None:
        super().__init__()
        shape = tensor_shape(n_features, n_outputs)
        self.ranks = _ranks(shape, RANK if rank is None else rank)
        spread = (1 / (3 * n_features * prod(self.ranks))) ** (1 / (2 * len(shape)))
        self.cores = nn.ParameterList(
            nn.Parameter(spread * torch.randn(left, read, given, right))
            for (read, given), left, right in zip(shape, self.ranks, self.ranks[1:], strict=False)
        )
        bound = n_features**-0.5
        self.bias = nn.Parameter(torch.empty(n_outputs).uniform_(-bound, bound))

    def forward(self, features: Tensor) -> Tensor:
        """(B, F) features -> (B, n_outputs)."""
        rest = features.reshape(len(features), 1, 1, features.shape[1])
        for core in self.cores:  # rest is (B, outputs so far, rank, features to come)
            read = rest.unflatten(3, (core.shape[1], -1))
            rest = torch.einsum("borfs,rfpq->bopqs", read, core).flatten(1, 2)
        return rest.flatten(1) + self.bias

    def extra_repr(self) -> str:
        """What `print(layer)` shows."""
        cores = " ".join("x".join(str(size) for size in core.shape) for core in self.cores)
        return f"cores {cores}"


def tensor_shape(n_features: int, n_outputs: int) -> list[tuple[int, int]]:
    """Factors (features, outputs) of each core.

    There are log_4 F cores, at least two: about four features each. The prime factors of both numbers are dealt out,
    the largest first, each to the core whose factor is the smallest so far. Cores that would read one feature and give
    one output are left out.

    Args:
        n_features: F.
        n_outputs: Of the layer.
    """
    n_cores = max(2, int(log(n_features, FACTOR) + 1e-9))
    read, given = _dealt(n_features, n_cores), _dealt(n_outputs, n_cores)
    return [pair for pair in zip(read, given, strict=True) if pair != (1, 1)] or [(1, 1)]


def _dealt(number: int, n_cores: int) -> list[int]:
    factors = [1] * n_cores
    for prime in _primes(number):
        factors[factors.index(min(factors))] *= prime
    return factors


def _primes(number: int) -> list[int]:
    """Prime factors, the largest first."""
    found, divisor = [], 2
    while divisor * divisor <= number:
        while number % divisor == 0:
            found.append(divisor)
            number //= divisor
        divisor += 1
    return sorted([*found, *([number] if number > 1 else [])], reverse=True)


def _ranks(shape: list[tuple[int, int]], rank: int) -> list[int]:
    """Rank of each bond, the two ends included; none is larger than what stands on either side of it."""
    sizes = [read * given for read, given in shape]
    inner = [min(rank, prod(sizes[:bond]), prod(sizes[bond:])) for bond in range(1, len(sizes))]
    return [1, *inner, 1]

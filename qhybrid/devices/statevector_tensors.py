"""What a statevector program computes with: cached constants, Kronecker products, gates on neighbouring wires."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Constant:
    """A constant array as a tensor beside another one, made once for each device and precision.

    Args:
        values: Index, real or complex array.
    """

    def __init__(self, values: NDArray[np.generic]) -> None:
        self.values = values
        self._tensors: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    def beside(self, like: Tensor) -> Tensor:
        """The tensor on the device of `like`, in its precision."""
        key = (like.device, like.dtype)
        if key not in self._tensors:
            tensor = torch.as_tensor(self.values, device=like.device)
            if tensor.is_complex():
                tensor = tensor.to(complex_dtype(like))
            elif tensor.is_floating_point():
                tensor = tensor.to(real_dtype(like))
            self._tensors[key] = tensor
        return self._tensors[key]


def local_index(wires: tuple[int, ...], n: int) -> NDArray[np.int64]:
    """For every basis state of n qubits the value of its bits on some wires, the first wire the most significant."""
    index = np.arange(2**n)
    local = np.zeros_like(index)
    for wire in wires:
        local = 2 * local + ((index >> (n - 1 - wire)) & 1)
    return local


def real_dtype(tensor: Tensor) -> torch.dtype:
    """float64 or float32, the precision of a tensor."""
    return torch.float64 if tensor.dtype in (torch.float64, torch.complex128) else torch.float32


def complex_dtype(tensor: Tensor) -> torch.dtype:
    """complex128 or complex64, the precision of a tensor."""
    return torch.complex128 if real_dtype(tensor) == torch.float64 else torch.complex64


def kron(factors: Tensor) -> Tensor:
    """Kronecker products along dim 2: (B, g, k, r, c) -> (B, g, r**k, c**k), the first factor the most significant."""
    count = factors.shape[2]
    if count == 1:
        return factors[:, :, 0]
    if count % 2:
        return kron_pairs(kron(factors[:, :, :-1]).unsqueeze(2), factors[:, :, -1:])[:, :, 0]
    return kron(kron_pairs(factors[:, :, 0::2], factors[:, :, 1::2]))


def kron_pairs(left: Tensor, right: Tensor) -> Tensor:
    """Kronecker products of (B, g, k, r, c) and (B, g, k, s, d): (B, g, k, r s, c d)."""
    (b, g, k, r, c), (s, d) = left.shape, right.shape[3:]
    product = left.reshape(b, g, k, r, 1, c, 1) * right.reshape(b, g, k, 1, s, 1, d)
    return product.view(b, g, k, r * s, c * d)


def apply_matrix(state: Tensor, matrix: Tensor, first: int) -> Tensor:
    """Apply a matrix (K, K) or (B, K, K) on neighbouring wires, the first of which is `first`."""
    batch, size = len(state), matrix.shape[-1]
    if matrix.is_complex() and not state.is_complex():
        state = state.to(matrix.dtype)
    left = 2**first
    right = state.shape[1] // (left * size)
    as_real = state.is_complex() and not matrix.is_complex()
    work = torch.view_as_real(state) if as_real else state
    if left == 1:
        result = matrix @ work.reshape(batch, size, -1)
    elif right == 1 and not as_real:
        result = work.reshape(batch, left, size) @ matrix.transpose(-2, -1)
    else:
        broadcast = matrix.unsqueeze(1) if matrix.dim() == 3 else matrix
        result = broadcast @ work.reshape(batch, left, size, -1)
    return torch.view_as_complex(result.reshape(batch, -1, 2)) if as_real else result.reshape(batch, -1)


def wires_first(state: Tensor, first: int, count: int) -> Tensor:
    """A state as real (B, K, everything else), K = 2**count for neighbouring wires."""
    work = torch.view_as_real(state) if state.is_complex() else state
    if first == 0:
        return work.reshape(len(state), 2**count, -1)
    return work.reshape(len(state), 2**first, 2**count, -1).transpose(1, 2).flatten(2)

"""The quantum Fourier transform as gates: Hadamards, controlled phases by fixed angles, and swaps."""

import math

from qhybrid.circuits.builder import CircuitBuilder


def add_fourier_transform(
    builder: CircuitBuilder, wires: tuple[int, ...], *, inverse: bool = False, swaps: bool = True
) -> None:
    """Add F|j> = 2^(-n/2) sum_k exp(2 pi i j k / 2^n) |k> or its inverse (Nielsen and Chuang, section 5.1).

    Args:
        builder: Of the circuit.
        wires: n qubits, the first the most significant bit of j and of k.
        inverse: Add F's inverse.
        swaps: With the swaps that bring the bits of k into the order of the wires. Without them k is read in reverse,
            its least significant bit first; the inverse then takes it so, and the two are inverse to each other.
    """
    n = len(wires)
    gates: list[tuple[str, tuple[int, int], float]] = []
    for target in range(n):
        gates.append(("h", (target, target), 0.0))
        gates += [("cp", (target, other), math.pi / 2 ** (other - target)) for other in range(target + 1, n)]
    gates += [("swap", (place, n - 1 - place), 0.0) for place in range(n // 2) if swaps]
    for name, (first, second), angle in reversed(gates) if inverse else gates:
        on = (wires[first],) if first == second else (wires[first], wires[second])
        if name == "cp":
            builder.rotation(name, on, offset=-angle if inverse else angle)
        else:
            builder.fixed(name, on)

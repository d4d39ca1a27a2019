"""The gates that machines have, by Qiskit's names."""

GATES1Q = ("h", "p", "rx", "ry", "rz", "s", "sdg", "sx", "sxdg", "t", "tdg", "u", "u1", "u2", "u3", "x", "y", "z")
GATES2Q = ("cp", "cx", "cz", "ecr", "rxx", "ryy", "rzx", "rzz")
ENTANGLERS = ("cx", "cz", "ecr")
"""Gates on two qubits that circuits can be translated into, because they have no angle."""
N_QUBITS = dict.fromkeys(GATES1Q, 1) | dict.fromkeys(GATES2Q, 2)
"""Name of a gate -> number of its qubits."""

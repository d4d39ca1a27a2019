"""Where a circuit's qubits go: routed on small maps of a machine's neighbourhoods, then placed where errors are least.

Routing on the map of a few qubits takes a fraction of the time that it takes on a machine of 127, so many more trials
fit in. Circuits are routed and optimised in CX, whose commutations Qiskit knows best, and translated to the machine's
gates afterwards. A routed circuit fits everywhere on the machine where its pairs are joined; a beam search over these
places takes the one with the highest survival.
"""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from qiskit import QuantumCircuit
from qiskit.transpiler import CouplingMap, generate_preset_pass_manager

from qhybrid.circuits.transpile_machine import Machine

Edge = tuple[int, int]

BEAM = 4000
"""Placements kept after each qubit."""
GROWTHS = 600
"""Neighbourhoods grown in search of different shapes."""
BASIS = ["cx", "rz", "sx", "x"]


@dataclass(frozen=True, eq=False)
class Plan:
    """A circuit routed on nodes that have no place on the machine yet.

    Args:
        circuit: On N nodes, in the gates `BASIS`, without measurements.
        initial: Node that each wire starts on.
        final: Node that each wire ends on.
        seed: Of the transpiler.
    """

    circuit: QuantumCircuit
    initial: tuple[int, ...]
    final: tuple[int, ...]
    seed: int

    @cached_property
    def gates(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Name and nodes of each gate, in the order of time."""
        index = {qubit: number for number, qubit in enumerate(self.circuit.qubits)}
        return tuple((each.name, tuple([index[q] for q in each.qubits])) for each in self.circuit.data)

    @cached_property
    def pairs(self) -> dict[Edge, int]:
        """How many two-qubit gates each pair of nodes has."""
        return dict(Counter((min(on), max(on)) for _, on in self.gates if len(on) == 2))

    @cached_property
    def pulses(self) -> dict[int, int]:
        """How many gates on one qubit each node has, virtual ones not counted."""
        return dict(Counter(on[0] for name, on in self.gates if len(on) == 1 and name != "rz"))

    def on(self, place: Mapping[int, int], *, n_bits: int) -> QuantumCircuit:
        """The circuit with its nodes renumbered, and with room for measurements.

        Args:
            place: Node -> qubit, for all nodes with gates.
            n_bits: Classical bits.
        """
        result = QuantumCircuit(len(place), n_bits, global_phase=self.circuit.global_phase)
        qubits = {self.circuit.qubits[node]: result.qubits[qubit] for node, qubit in place.items()}
        result.data = [each.replace(qubits=[qubits[q] for q in each.qubits]) for each in self.circuit.data]
        return result

    def used(self, measured: Sequence[int]) -> list[int]:
        """Nodes with a gate or a measurement, given the measured wires."""
        return sorted({node for _, on in self.gates for node in on} | {self.final[wire] for wire in measured})


def unrouted(body: QuantumCircuit, level: int) -> Plan:
    """Optimise a circuit as it is, for a machine where all its pairs can be joined.

    Args:
        body: Without measurements.
        level: Qiskit's optimization level.
    """
    passes = generate_preset_pass_manager(optimization_level=level, basis_gates=BASIS, seed_transpiler=0)
    circuit = passes.run(body)
    wires = tuple(range(body.num_qubits))
    return Plan(circuit, wires, _final(circuit, wires), 0)


def routed(body: QuantumCircuit, edges: Sequence[Edge], level: int, seed: int) -> Plan:
    """Route a circuit on a small map.

    Sabre runs with the few trials of level 1: more seeds find more than more trials. The swaps are optimised as CX.

    Args:
        body: Without measurements.
        edges: Of the map.
        level: Qiskit's optimization level, for what follows the routing.
        seed: Of the transpiler.
    """
    both_ways = CouplingMap([pair for a, b in edges for pair in ((a, b), (b, a))])
    options = {"coupling_map": both_ways, "basis_gates": BASIS, "seed_transpiler": seed}
    routing = generate_preset_pass_manager(optimization_level=1, **options)
    rest = generate_preset_pass_manager(optimization_level=level, **options)
    routing.init = rest.init
    routing.translation = routing.optimization = rest.init = rest.layout = rest.routing = None
    laid_out = routing.run(body)
    circuit = rest.run(laid_out.decompose("swap"))
    initial = tuple(laid_out.layout.initial_index_layout(filter_ancillas=True))
    return Plan(circuit, initial, _final(laid_out, initial), seed)


def _final(circuit: QuantumCircuit, initial: tuple[int, ...]) -> tuple[int, ...]:
    """Where each wire ends, permutations that were taken out of the circuit included."""
    return tuple(circuit.layout.final_index_layout(filter_ancillas=True)) if circuit.layout else initial


def neighbourhoods(machine: Machine, size: int) -> list[tuple[Edge, ...]]:
    """Shapes of connected groups of qubits that occur on a machine, the most compact first.

    Args:
        machine: Where to look.
        size: Qubits in each group, at least 2.

    Returns:
        The edges among nodes 0 to size - 1 of each shape.
    """
    joined = np.isfinite(machine.gate2q)
    neighbours = [set(np.flatnonzero(row).tolist()) for row in joined]
    starts = [qubit for qubit, near in enumerate(neighbours) if near]
    rng = random.Random(0)
    seen: set[frozenset[int]] = set()
    shapes: dict[tuple[object, ...], tuple[int, tuple[Edge, ...]]] = {}
    for growth in range(GROWTHS if starts else 0):
        group = [starts[growth % len(starts)]]
        frontier = set(neighbours[group[0]])
        while frontier and len(group) < size:
            group.append(rng.choice(sorted(frontier)))
            frontier = (frontier | neighbours[group[-1]]) - set(group)
        if len(group) == size and frozenset(group) not in seen:
            seen.add(frozenset(group))
            within = joined[np.ix_(group, group)]
            distances, signature = _signature(within)
            edges = tuple((int(a), int(b)) for a, b in np.argwhere(np.triu(within)))
            shapes.setdefault(signature, (distances, edges))
    return [edges for _, edges in sorted(shapes.values())]


def _signature(joined: NDArray[np.bool_]) -> tuple[int, tuple[object, ...]]:
    """Sum of all distances in a small graph, and something that graphs of one shape share (and others hardly)."""
    n = len(joined)
    distance = np.where(np.eye(n, dtype=bool), 0, n)
    reached = np.eye(n, dtype=bool)
    for step in range(1, n):
        reached = reached | ((reached.astype(int) @ joined.astype(int)) > 0)
        distance = np.where(reached & (distance == n), step, distance)
    rows = sorted(tuple(np.bincount(row, minlength=n).tolist()) for row in distance)
    powers = joined.astype(int)
    walks = []
    for _ in range(4):
        powers = powers @ joined
        walks.append(tuple(sorted(np.diag(powers).tolist())))
    return int(distance.sum()), (tuple(rows), tuple(walks))


@dataclass(frozen=True, eq=False)
class Placement:
    """A plan on physical qubits.

    Args:
        plan: What is placed.
        qubits: Node -> physical qubit.
        score: Estimate of its log survival.
    """

    plan: Plan
    qubits: dict[int, int]
    score: float


def placements(machine: Machine, plan: Plan, measured: Sequence[int], *, waits: bool, count: int) -> list[Placement]:
    """The best places of a plan on a machine, the best first.

    Args:
        machine: Where to.
        plan: What.
        measured: Wires that are read.
        waits: Whether waiting costs anything.
        count: How many to return at most.

    Returns:
        Nothing if the machine does not join what the plan needs.
    """
    nodes = _search_order(plan, measured)
    read = {plan.final[wire] for wire in measured}
    idle = _idle(plan, machine)
    cost = np.array([plan.pulses.get(node, 0) * machine.gate1q for node in nodes])
    cost += np.array([machine.readout if node in read else np.zeros(len(machine.readout)) for node in nodes])
    if waits:
        cost += machine.waiting(np.array([idle.get(node, 0.0) for node in nodes]))
    found, scores = np.empty((1, 0), dtype=int), np.zeros(1)
    for place, node in enumerate(nodes):
        step = np.where(machine.usable, cost[place], -np.inf)[None].repeat(len(found), axis=0)
        for earlier, other in enumerate(nodes[:place]):
            if n_gates := plan.pairs.get((min(node, other), max(node, other))):
                step += n_gates * machine.gate2q[found[:, earlier]]
        np.put_along_axis(step, found, -np.inf, axis=1)
        row, qubit = np.nonzero(np.isfinite(step))
        scores = scores[row] + step[row, qubit]
        best = np.argsort(-scores, kind="stable")[:BEAM]
        found, scores = np.hstack([found[row[best]], qubit[best, None]]), scores[best]
    return [
        Placement(plan, dict(zip(nodes, map(int, each), strict=True)), float(score))
        for each, score in zip(found[:count], scores[:count], strict=True)
    ]


def _search_order(plan: Plan, measured: Sequence[int]) -> list[int]:
    """Nodes, the busiest first, then always one that is joined to those before it, if there is one."""
    busy: Counter[int] = Counter()
    for pair, n_gates in plan.pairs.items():
        busy.update(dict.fromkeys(pair, n_gates))
    left = sorted(plan.used(measured), key=lambda node: -busy[node])
    order: list[int] = []
    while left:
        joined = [node for node in left if any((min(node, o), max(node, o)) in plan.pairs for o in order)]
        order.append((joined or left)[0])
        left.remove(order[-1])
    return order


def _idle(plan: Plan, machine: Machine) -> dict[int, float]:
    """Seconds that each node waits between its first gate and the readout, everything as late as possible.

    A CX counts as the machine's gate and the pulse that it takes beside it.
    """
    end: dict[int, float] = {}
    busy: dict[int, float] = {}
    for name, on in reversed(plan.gates):
        seconds = 0.0 if name == "rz" else machine.seconds1q + (machine.seconds2q if len(on) == 2 else 0.0)
        until = max(end.get(node, 0.0) for node in on) + seconds
        for node in on:
            end[node] = until
            busy[node] = busy.get(node, 0.0) + seconds
    return {node: end[node] - busy[node] for node in end}

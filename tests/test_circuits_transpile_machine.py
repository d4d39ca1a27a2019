"""What a layout reads of a machine: durations and pulses."""

import numpy as np
import pytest
from qiskit.circuit import Delay
from qiskit.circuit.library import SXGate, ZGate
from qiskit.transpiler import InstructionProperties, Target

from qhybrid.circuits.transpile_machine import Machine, delay_seconds


@pytest.mark.parametrize(
    ("duration", "unit", "seconds"),
    [(3, "s", 3.0), (3, "ms", 3e-3), (3, "us", 3e-6), (3, "ns", 3e-9), (3, "ps", 3e-12), (3, "dt", 6e-9)],
)
def test_delays_in_every_unit(duration: int, unit: str, seconds: float) -> None:
    assert delay_seconds(Delay(duration, unit), 2e-9) == pytest.approx(seconds, rel=1e-12)


def test_delays_in_dt_count_for_nothing_without_a_clock() -> None:
    assert delay_seconds(Delay(5, "dt"), None) == 0


def test_changes_of_frame_are_no_pulses() -> None:
    target = Target(num_qubits=1)
    target.add_instruction(SXGate(), {(0,): InstructionProperties(duration=40e-9, error=0.01)})
    target.add_instruction(ZGate(), {(0,): InstructionProperties(duration=0.0, error=0.0)})
    machine = Machine.of(target)
    assert machine.gate1q == pytest.approx([np.log(0.99)])
    assert machine.seconds1q == 40e-9

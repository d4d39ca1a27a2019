"""`qhybrid bench` compares like with like: its rivals compute what the layers compute."""

import pytest
import torch

from qhybrid.bench import MODES, RIVALS, run_bench, torch_layer
from qhybrid.circuits.spec import load_circuit
from qhybrid.errors import InputError
from qhybrid.layer import QuantumLayer


@pytest.mark.parametrize("device", RIVALS)
@pytest.mark.parametrize(
    "name", ["angle_4q", "sda_qec", "sda_qec_4q", "sda_qec_8q", "strongly_entangling_4q", "iqp_4q"]
)
def test_a_rival_computes_the_same_as_the_layer(name: str, device: str) -> None:
    circuit = load_circuit(name)
    layer, rival = QuantumLayer(circuit, "qhybrid.statevector"), torch_layer(circuit, device, RIVALS[device])
    if rival is None:
        assert (name, device) == ("iqp_4q", "lightning.qubit")
        return
    rival.weights.data = layer.weights.data.reshape(rival.weights.shape)  # type: ignore[union-attr]
    features = torch.rand(3, circuit.n_features)
    assert torch.allclose(rival(features).float(), layer(features), atol=1e-5)


def test_bench_reports_medians_and_ratios_of_every_mode() -> None:
    result = run_bench(["angle_4q"], ["qhybrid.statevector", "lightning.qubit"], batch_size=4, repeats=2)
    rows = result.to_dict()["timings"]
    assert [(row["device"], row["rival"]) for row in rows] == [
        ("qhybrid.statevector", False),
        ("lightning.qubit", False),
        ("default.qubit", True),
        ("lightning.qubit", True),
    ]
    for row in rows:
        assert row["problem"] is None
        assert all(row["milliseconds"][mode] > 0 for mode in MODES)
        assert all(row["ratio"][mode] > 0 for mode in MODES)
    assert rows[2]["ratio"]["all"] == 1.0
    ((title, table),) = result.tables()
    assert "angle_4q, batch 4" in title
    assert len(table) == 5


def test_a_circuit_without_a_rival_is_timed_alone() -> None:
    result = run_bench(["reupload_4q"], ["qhybrid.statevector"], batch_size=2, repeats=1)
    assert [timing.rival for timing in result.timings] == [False]
    assert result.ratio(result.timings[0], "all") is None


def test_bench_refuses_nonsense() -> None:
    with pytest.raises(InputError, match="repeats 0 must be at least 1"):
        run_bench(["angle_4q"], ["qhybrid.statevector"], repeats=0)
    with pytest.raises(InputError, match="did you mean 'angle_4q'"):
        run_bench(["angle4q"], ["qhybrid.statevector"])

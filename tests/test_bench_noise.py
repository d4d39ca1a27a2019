"""`qhybrid bench --noise` compares like with like: its rival simulates the same machine, two-qubit noise included."""

import pytest
import torch

from qhybrid.bench import pennylane_body
from qhybrid.bench_noise import RIVAL, _rival, run_noisy_bench
from qhybrid.circuits.spec import load_circuit
from qhybrid.errors import InputError
from qhybrid.layer import QuantumLayer
from qhybrid.noise_models.spec import load_noise_model


@pytest.mark.slow
def test_the_rival_simulates_the_same_noise() -> None:
    circuit, model = load_circuit("angle_4q"), load_noise_model("ibm_brisbane")
    body = pennylane_body(circuit)
    assert body is not None
    rival = _rival(circuit, body, model, 20000, 2, 1).differentiate
    assert rival is not None
    ideal = QuantumLayer(circuit, "qhybrid.statevector")
    ours = ideal.with_device("qhybrid.density", noise=model, layout_seeds=2)
    rival.weights.data = ideal.weights.data.reshape(2, 4)  # type: ignore[union-attr]
    features = torch.rand(2, 4, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        theirs, exact, noisy = rival(features).float(), ideal(features), ours(features)
    assert torch.allclose(theirs, noisy, atol=0.06)  # another layout, without idle noise
    lost = (exact - theirs).norm() / exact.norm()
    assert lost > 0.5 * (exact - noisy).norm() / exact.norm()


@pytest.mark.slow
def test_bench_reports_ratios_per_row() -> None:
    result = run_noisy_bench(
        ["angle_4q"], ["qhybrid.density"], "ibm_torino", shots=100, evaluation_rows=2, gradient_rows=1, repeats=1
    )
    ours, rival = result.to_dict()["timings"]
    assert (ours["layer"], rival["layer"]) == ("qhybrid.density", RIVAL)
    assert ours["ratio"]["evaluation"] > 1
    assert ours["ratio"]["gradient"] > 1
    assert rival["ratio"] == {"evaluation": None, "gradient": None}
    ((title, table),) = result.tables()
    assert "angle_4q on ibm_torino, 100 shots" in title
    assert len(table) == 3


def test_bench_refuses_nonsense() -> None:
    with pytest.raises(InputError, match="at least 1"):
        run_noisy_bench(["angle_4q"], ["qhybrid.density"], "ibm_torino", repeats=0)
    with pytest.raises(InputError, match="takes no noise model"):
        run_noisy_bench(["angle_4q"], ["qhybrid.statevector"], "ibm_torino")

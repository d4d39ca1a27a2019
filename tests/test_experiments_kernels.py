"""Quantum kernels: against states and Aer's density matrix, on several devices; support vector machines on them."""

import json
from pathlib import Path

import numpy as np
import pennylane as qml
import pytest
import torch
from command_line import runner
from full_noise import independent_values
from hypothesis import given, settings
from hypothesis import strategies as st
from qiskit import QuantumCircuit
from qiskit.quantum_info import Statevector
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from small_run import small_run

from qhybrid.circuits.inverse import all_zeros_probability
from qhybrid.devices.base import MachineDevice
from qhybrid.errors import InputError
from qhybrid.experiments.baselines import evaluate_baseline
from qhybrid.experiments.evaluation_table import notes, on_what
from qhybrid.experiments.kernel_svm import CONSTANT, KernelSamples, fit_svm, rbf_kernel, reduced
from qhybrid.experiments.quantum_kernel import FidelityKernel, PositiveGram
from qhybrid.statistics import classification_metrics


def samples(n: int, width: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, width))


def of_states(states: np.ndarray) -> np.ndarray:
    """Squared overlaps of the rows (N, 2^n)."""
    return np.abs(states.conj() @ states.T) ** 2


def test_the_kernel_of_angle_encoding_is_a_product_of_cosines() -> None:
    x, y = samples(5), samples(3, seed=1)
    turned = np.pi * (np.tanh(x)[:, None] - np.tanh(y)[None])
    np.testing.assert_allclose(
        FidelityKernel("angle_4q").rectangle(x, y).values, np.prod(np.cos(turned / 2) ** 2, axis=2), atol=1e-12
    )


def test_the_kernel_of_iqp_encoding_is_that_of_pennylane() -> None:
    @qml.qnode(qml.device("default.qubit", wires=4))
    def state(features: np.ndarray) -> qml.measurements.StateMP:
        qml.IQPEmbedding(features, wires=range(4), n_repeats=2)
        return qml.state()

    x = samples(5)
    wanted = of_states(np.stack([state(row) for row in np.pi / 2 * np.tanh(x)]))
    np.testing.assert_allclose(FidelityKernel("iqp_4q").gram(x).values, wanted, atol=1e-12)


def test_the_kernel_of_data_reuploading_is_that_of_qiskit_with_weights_of_zero() -> None:
    states = []
    for row in (x := samples(4)):
        circuit = QuantumCircuit(4)
        for _ in range(3):
            for wire in range(4):
                circuit.rx(np.pi * np.tanh(row[wire]), wire)
            for wire in range(4):
                circuit.cz(wire, (wire + 1) % 4)
        states.append(Statevector(circuit).data)
    wanted = of_states(np.stack(states))
    np.testing.assert_allclose(FidelityKernel("reupload_4q").gram(x).values, wanted, atol=1e-12)


def test_the_kernel_of_amplitude_encoding_is_the_squared_cosine_of_the_features() -> None:
    x = samples(4, 16)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    np.testing.assert_allclose(FidelityKernel("sda_qec_4q").gram(x).values, (unit @ unit.T) ** 2, atol=1e-12)


@pytest.mark.parametrize(
    ("circuit", "width", "device"),
    [
        ("iqp_4q", 4, "default.qubit"),
        ("iqp_4q", 4, "lightning.qubit"),
        ("reupload_4q", 4, "qiskit.aer"),
        ("sda_qec_4q", 16, "qhybrid.density"),
    ],
)
def test_overlap_circuits_give_the_kernel_of_the_states(circuit: str, width: int, device: str) -> None:
    x, y = samples(5, width), samples(3, width, seed=1)
    exact, measured = FidelityKernel(circuit), FidelityKernel(circuit, device)
    assert (exact.by_states, measured.by_states) == (True, False)
    np.testing.assert_allclose(measured.gram(x).values, exact.gram(x).values, atol=1e-10)
    tracker = measured.layer.device.tracker
    assert (tracker.batches, tracker.circuits) == (1, 10)  # one call, the pairs above the diagonal
    np.testing.assert_allclose(measured.rectangle(x, y).values, exact.rectangle(x, y).values, atol=1e-10)
    assert (tracker.batches, tracker.circuits) == (2, 10 + 15)
    assert not measured.gram(x).stderr.any()
    assert measured.gram(x[:1]).values.tolist() == [[1.0]]


@pytest.mark.slow
def test_a_noisy_gram_matrix_is_that_of_aer_with_the_uncut_noise_model() -> None:
    layers = [{"repeat": 2, "blocks": [{"encode": "angle"}, {"entangle": "chain"}]}]
    kernel = FidelityKernel(
        {"qubits": 2, "observables": ["Z0"], "blocks": layers},
        "qhybrid.density",
        noise="ibm_brisbane",
        layout_seeds=2,
    )
    x, pairs = samples(3, 2), ((0, 1), (0, 2), (1, 2))
    found = kernel.gram(x)
    layer, rows = kernel.layer, torch.from_numpy(x)
    assert isinstance(layer.device, MachineDevice)
    angles = kernel.circuit.parameters(rows, rows.new_zeros(0))
    both = torch.stack([torch.cat([angles[one], angles[other]]) for one, other in pairs])
    values = independent_values(
        "ibm_brisbane",
        layer.device.isa_circuits(layer.program),
        layer.circuit.parameters(both, rows.new_zeros(0)).numpy(),
    )
    wanted = all_zeros_probability(torch.from_numpy(values)).numpy()
    np.testing.assert_allclose([found.values[pair] for pair in pairs], wanted, atol=1e-7)
    np.testing.assert_array_equal(found.values, found.values.T)
    np.testing.assert_array_equal(np.diag(found.values), 1)
    exact = FidelityKernel(kernel.circuit).gram(x).values
    assert 0.005 < np.abs(found.values - exact).max() < 0.2


def test_shots_are_drawn_from_the_kernel_with_their_standard_error() -> None:
    x, y = samples(20), samples(30, seed=1)
    exact = FidelityKernel("iqp_4q").rectangle(x, y).values
    kernel = FidelityKernel("iqp_4q", shots=400, seed=3)
    found = kernel.rectangle(x, y)
    np.testing.assert_allclose(found.values * 400, np.round(found.values * 400), atol=1e-9)  # counts of all zeros
    deviations = (found.values - exact) / np.sqrt(np.maximum(exact * (1 - exact), 1e-3) / 400)
    assert 0.9 < deviations.std() < 1.1
    np.testing.assert_allclose(found.stderr, np.sqrt(exact * (1 - exact) / 400), atol=0.008)
    again = FidelityKernel("iqp_4q", shots=400, seed=3)
    np.testing.assert_array_equal(again.rectangle(x, y).values, found.values)
    assert (again.rectangle(x, y).values != found.values).any()


def test_samples_that_a_kernel_cannot_read_are_refused() -> None:
    kernel = FidelityKernel("angle_4q")
    with pytest.raises(
        InputError, match=r"^samples of shape \(2, 3\): the kernel of circuit 'angle_4q' reads \(N, 4\)$"
    ):
        kernel.gram(np.zeros((2, 3)))
    with pytest.raises(InputError, match=r"^samples of a kernel contain NaN or infinity in row 1$"):
        kernel.rectangle(np.zeros((2, 4)), np.array([[0.0] * 4, [np.inf] * 4]))


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 12), st.floats(0, 2), st.integers(0, 10**6))
def test_the_positive_part_is_the_nearest_one_and_keeps_what_is_positive(n: int, noise: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    root, disturbance = rng.normal(size=(n, n)), noise * rng.normal(size=(n, n))
    gram = root @ root.T + disturbance + disturbance.T
    found = PositiveGram.of(gram)
    levels = np.linalg.eigvalsh(gram)
    assert np.linalg.eigvalsh(found.values).min() > -1e-9 * np.abs(levels).max()
    np.testing.assert_allclose(found.rows(gram), found.values, atol=1e-9 * np.abs(gram).max())
    distance = np.linalg.norm(found.values - gram)
    assert distance == pytest.approx(np.sqrt((np.minimum(levels, 0) ** 2).sum()), abs=1e-6)  # Higham (1988)
    assert (found.n_negative == 0) == (found.projector is None)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_machine_is_the_svc_of_scikit_learn(n_classes: int) -> None:
    rng = np.random.default_rng(2)
    centres = 1.5 * rng.normal(size=(n_classes, 4))
    parts = []
    for count in (60, 40):
        labels = np.arange(count) % n_classes
        parts.append((centres[labels] + rng.normal(size=(count, 4)), labels))
    (x, labels), (v, held_out) = parts
    weights = np.arange(1.0, n_classes + 1)
    fit = fit_svm(rbf_kernel(x, x), labels, rbf_kernel(v, x), held_out, class_weights=weights)
    own = SVC(C=fit.strength, gamma=1.0, class_weight=dict(enumerate(weights))).fit(x, labels)
    logits = fit.logits(rbf_kernel(v, x))
    decisions = own.decision_function(v)
    np.testing.assert_allclose(logits if n_classes > 2 else logits[:, 1], fit.sharpness * decisions, atol=1e-4)
    np.testing.assert_array_equal(logits.argmax(axis=1), own.predict(v))
    assert fit.sharpness > 0
    for factor in (0.9, 1.1):  # no other factor has a lower cross entropy
        assert _cross_entropy(factor * logits, held_out) > fit.loss
    assert _cross_entropy(logits, held_out) == pytest.approx(fit.loss)


def _cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    return float(torch.nn.functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels)))


def test_features_are_reduced_as_scikit_learn_does() -> None:
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(10, 10))
    training, test = (rng.normal(size=(count, 10)) @ mixing for count in (50, 20))
    scaler = StandardScaler().fit(training)
    pca = PCA(4, whiten=True).fit(scaler.transform(training))
    found = reduced([training, test], 4)
    wanted = pca.transform(scaler.transform(test)) * np.sqrt(50 / 49)  # ours divides by N
    np.testing.assert_allclose(np.abs(found[1]), np.abs(wanted), atol=1e-9)
    np.testing.assert_allclose(reduced([training, test], 10)[1], scaler.transform(test), atol=1e-9)
    training[:, 3] = 7.0  # a feature that the ReLU has switched off, and too few others
    few = reduced([training[:, 2:4], test[:, 2:4]], 2)
    assert not few[0][:, 1].any()
    assert CONSTANT < 1e-3


def test_a_run_is_evaluated_with_a_quantum_kernel_on_devices_and_with_its_twin(tmp_path: Path) -> None:
    run = small_run(tmp_path, n_classes=3, model__head="linear")
    exact = evaluate_baseline(run, "quantum-kernel")
    assert exact.name == "test-quantum_kernel_angle_4q-qhybrid.statevector-analytic-seed0"
    assert exact.reference is None
    assert exact.metrics == classification_metrics(run.features("test").labels, exact.predictions.probabilities)
    assert exact.metrics["accuracy"] > 0.8
    assert exact.baseline is not None
    assert exact.baseline["training_samples"] == 90
    data = KernelSamples.of(run, 4, split="test", limit=None, seed=0)
    kernel, scale = FidelityKernel("angle_4q"), exact.baseline["scale"]
    gram, rows = kernel.gram(scale * data.training), kernel.rectangle(scale * data.evaluated, scale * data.training)
    own = SVC(C=exact.baseline["C"], kernel="precomputed").fit(gram.values, data.training_labels)
    np.testing.assert_array_equal(exact.predictions.probabilities.argmax(axis=1), own.predict(rows.values))
    np.testing.assert_allclose(exact.predictions.expectation_values, rows.values, atol=1e-12)
    stored = json.loads((run.path / "results" / f"{exact.name}.json").read_text())
    assert stored["head"] == stored["baseline"]["name"] == "quantum kernel of angle_4q, SVM"

    noisy = evaluate_baseline(
        run, "quantum-kernel", device="qhybrid.density", noise="ibm_fez", layout_seeds=2, shots=256
    )
    assert noisy.reference is not None
    assert noisy.reference.reference == exact.metrics
    assert 0 < noisy.reference.rms < 0.3
    assert noisy.device["tracker"]["batches"] == 2
    assert noisy.device["tracker"]["circuits"] == 90 * 89 // 2 + 90 * (40 + 60)
    assert on_what(noisy) == "quantum kernel of angle_4q, SVM, qhybrid.density, ibm_fez, 256 shots"
    assert any(line.startswith("fitted to 90 training samples; scale ") for line in notes(noisy))

    twin = evaluate_baseline(run, "rbf-kernel", limit=30)
    assert (twin.name, twin.device) == ("test-limit30-rbf_kernel_4features-seed0", {})
    assert len(twin.predictions.labels) == 30
    assert twin.metrics["accuracy"] > 0.8


def test_the_command_line_evaluates_kernels_and_refuses_what_does_not_apply(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run = small_run(tmp_path / "runs")
    command = runner(monkeypatch, capfd, tmp_path)
    shown = command("eval", str(run.path), "--baseline", "quantum-kernel:iqp_4q", "--shots", "50", "--limit", "10")
    assert shown.returncode == 0, shown.stderr
    assert "small: test split (n = 10) on quantum kernel of iqp_4q, SVM, qhybrid.statevector, 50 shots" in shown.stdout
    written = {file.name for file in (run.path / "results").iterdir()}
    for given_, said in (
        (["quantum-kernal"], "unknown baseline 'quantum-kernal'; did you mean 'quantum-kernel'?"),
        (["quantum-kernel:iqp_4"], "did you mean 'iqp_4q'"),
        (["quantum-kernel:"], "only a kernel names a circuit, as in quantum-kernel:iqp_4q"),
        (["logistic:iqp_4q"], "only a kernel names a circuit"),
        (["quantum-kernel:sda_qec"], "reads 256 numbers a sample, but there are only 4 features"),
        (["quantum-kernel", "--split", "train"], "a kernel is fitted on 'train': evaluate it on another split"),
        (["quantum-kernel", "--backend", "ibm_fez"], "on simulators: it takes no --backend"),
        (["quantum-kernel", "--mitigation", "zne"], "it takes no --mitigation"),
        (["quantum-kernel", "--repeats", "2"], "it takes no --repeats"),
        (["quantum-kernel", "--noise-scale", "2"], "without a noise model"),
        (["quantum-kernel", "--device", "lightning.qbit"], "did you mean 'lightning.qubit'"),
        (["rbf-kernel", "--noise", "ibm_fez"], "runs on no quantum device: it takes no --noise"),
    ):
        refused = command("eval", str(run.path), "--baseline", *given_)
        assert (refused.returncode, refused.stdout) == (2, ""), given_
        assert said in refused.stderr
        assert refused.stderr.count("\n") == 1
    assert {file.name for file in (run.path / "results").iterdir()} == written

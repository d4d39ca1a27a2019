"""A run under noise: against its exact reference, over repeats, and what is said and stored about the noise."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from small_run import COUNTS, small_run

from qhybrid.devices.sampling import shot_error
from qhybrid.errors import InputError
from qhybrid.experiments.comparison import Outcome, compare
from qhybrid.experiments.device_choice import choose_device, noise_lines
from qhybrid.experiments.evaluation import evaluate
from qhybrid.experiments.evaluation_table import metrics_table, notes
from qhybrid.experiments.measurement import Evaluation
from qhybrid.experiments.runs import Run
from qhybrid.noise_models.model import BEST_CASE
from qhybrid.noise_models.spec import load_noise_model
from qhybrid.statistics import classification_metrics, paired_bootstrap_differences
from qhybrid.storage import read_arrays, read_json

NOISE: dict[str, Any] = {"device": "qiskit.aer", "noise": "ibm_torino", "layout_seeds": 1}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return small_run(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def noisy(run: Run) -> Evaluation:
    return evaluate(run, **NOISE, noise_scale=5.0)


def shown(evaluation: Evaluation, width: int) -> str:
    text = io.StringIO()
    console = Console(file=text, width=width)
    console.print(metrics_table(evaluation))
    for line in notes(evaluation):
        console.print(line)
    return text.getvalue()


def test_the_reference_is_what_the_exact_device_gives(run: Run, noisy: Evaluation) -> None:
    exact = evaluate(run, device="qhybrid.statevector")
    assert exact.reference is None
    assert exact.metrics["accuracy"] > 0.75  # predictions by chance would prove nothing
    before, after = exact.predictions, noisy.predictions
    np.testing.assert_array_equal(after.reference_probabilities, before.probabilities)
    np.testing.assert_array_equal(after.reference_expectation_values, before.expectation_values)
    found = noisy.reference
    assert found is not None
    assert found.reference == exact.metrics
    assert found.differences == pytest.approx(
        {name: noisy.metrics[name] - exact.metrics[name] for name in exact.metrics}
    )
    assert found.intervals == paired_bootstrap_differences(before.labels, after.probabilities, before.probabilities)
    deviations = np.abs(after.expectation_values - before.expectation_values)
    assert found.largest == deviations.max() > 0.05
    assert found.rms == pytest.approx(np.sqrt((deviations**2).mean()))
    flipped = before.probabilities.argmax(axis=1) != after.probabilities.argmax(axis=1)
    assert found.flipped == flipped.sum()


def test_the_files_hold_the_reference_and_where_the_noise_is_from(run: Run, noisy: Evaluation) -> None:
    assert noisy.name == "test-qiskit.aer-ibm_torino_x5-analytic-seed0"
    stored = read_arrays(
        run.path / "predictions" / f"{noisy.name}.npz",
        ("expectation_values", "stderr", "reference_probabilities", "reference_expectation_values"),
    )
    np.testing.assert_array_equal(stored["expectation_values"], noisy.predictions.expectation_values)
    assert (stored["stderr"] == 0).all()
    results = read_json(run.path / "results" / f"{noisy.name}.json")
    model = load_noise_model("ibm_torino").scaled(5)
    assert results["device"]["noise"] == {"label": "ibm_torino x5"} | model.provenance()
    assert BEST_CASE in results["device"]["noise"]["remarks"]
    assert results["device"]["isa"][0]["gates2q"] == 6
    assert results["device"]["tracker"]["jobs"] == 1
    assert results["device"]["tracker"]["circuits"] == COUNTS["test"]
    assert {"prepare", "run", "reference"} <= results["timings"].keys()
    accuracy = results["reference"]["metrics"]["accuracy"]
    assert accuracy["difference"] == pytest.approx(noisy.metrics["accuracy"] - accuracy["value"])


def test_no_noise_is_left_at_scale_0(run: Run) -> None:
    evaluation = evaluate(run, **NOISE, noise_scale=0.0)
    assert evaluation.reference is not None
    assert evaluation.reference.largest < 1e-6
    assert evaluation.reference.flipped == 0


def test_a_part_of_the_noise_does_less_than_all_of_it(run: Run, noisy: Evaluation) -> None:
    part = evaluate(run, **NOISE, noise_scale=5.0, noise_parts=["readout"])
    assert part.name == "test-qiskit.aer-ibm_torino_x5_readout-analytic-seed0"
    assert part.reference is not None
    assert noisy.reference is not None
    assert 0 < part.reference.rms < noisy.reference.rms


def test_repeats_are_independent_draws_and_their_mean_is_predicted_from(run: Run) -> None:
    repeated = evaluate(run, **NOISE, shots=100, repeats=6, seed=2)
    assert repeated.name == "test-qiskit.aer-ibm_torino-100shots-6repeats-seed2"
    stored = read_arrays(
        run.path / "predictions" / f"{repeated.name}.npz",
        ("repeated_expectation_values", "expectation_values", "stderr", "logits", "labels"),
    )
    values = stored["repeated_expectation_values"]
    assert values.shape == (6, COUNTS["test"], 4)
    np.testing.assert_allclose(stored["expectation_values"], values.mean(axis=0), atol=1e-12)
    single = shot_error(values.astype(np.float64), 100)
    np.testing.assert_allclose(stored["stderr"], np.sqrt((single**2).sum(axis=0)) / 6, rtol=1e-5)
    head = run.load_head()
    with torch.no_grad():
        stored_features = torch.from_numpy(run.features("test").features)
        logits = [
            head.logits(torch.from_numpy(each).float(), stored_features).numpy()
            for each in (*values, values.mean(axis=0))
        ]
    np.testing.assert_allclose(stored["logits"], logits[-1], atol=1e-5)
    once = evaluate(run, **NOISE, shots=100, seed=2)
    np.testing.assert_array_equal(once.predictions.expectation_values, values[0])
    results = read_json(run.path / "results" / f"{repeated.name}.json")
    assert results["repeats"] == 6
    assert results["device"]["tracker"]["shots"] == 6 * 100 * COUNTS["test"]
    probabilities = [torch.softmax(torch.from_numpy(each).double(), dim=1).numpy() for each in logits[:-1]]
    for metric in ("accuracy", "auc"):
        each = [classification_metrics(stored["labels"], p)[metric] for p in probabilities]
        assert results["metrics"][metric]["mean"] == pytest.approx(np.mean(each))
        assert results["metrics"][metric]["std"] == pytest.approx(np.std(each, ddof=1))
    # Independent: the spread over the repeats is what the shots say, sample by sample.
    spread = values.std(axis=0, ddof=1)
    assert np.sqrt((spread**2).mean() / (single**2).mean()) == pytest.approx(1, abs=0.15)
    exact = evaluate(run, **NOISE).predictions.expectation_values
    assert (np.abs(stored["expectation_values"] - exact) <= 5 * stored["stderr"]).all()


@pytest.mark.parametrize("width", [80, 140])
def test_the_table_fits_and_says_the_date_and_that_noise_is_a_best_case(run: Run, width: int) -> None:
    evaluation = evaluate(run, **NOISE, shots=50, repeats=3)
    text = shown(evaluation, width)
    mean, deviation = evaluation.spread("accuracy")
    (row,) = [line for line in text.splitlines() if line.startswith("accuracy")]
    assert f"{evaluation.metrics['accuracy']:.3f} [" in row
    assert f"{mean:.3f} ± {deviation:.3f}" in row
    assert row.count("[") == 2  # on one line, with both intervals
    assert "3 x 50 shots" in text
    assert "calibrated 2025-02-26" in text
    assert BEST_CASE.split(":")[0] in text
    assert "6 CZ, success probability" in text


def test_the_lines_about_noise_stay_short_whatever_its_remarks() -> None:
    for name in ("ibm_torino", "ibm_brisbane", "depolarizing"):
        lines = noise_lines(load_noise_model(name))
        assert len(lines) == 2
        assert max(map(len, lines)) <= 140
        assert lines[1] == BEST_CASE


def test_a_circuit_that_will_not_survive_is_said_before_it_is_run(run: Run, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text(
        'kind = "parametric"\ncoupling = "line"\nqubits = 5\nbasis_gates = ["rz", "sx", "x", "cz"]\n'
        "[depolarizing]\ngates2q = 0.5\n"
    )
    said = io.StringIO()
    evaluation = evaluate(run, noise=str(tmp_path / "bad.toml"), console=Console(file=said, width=80))
    assert said.getvalue().startswith("warning: angle_4q on bad: 6 CZ, success probability")
    assert said.getvalue().count("\n") == 1
    assert "noise: bad, parametric" in shown(evaluation, 140)


def test_nothing_given_is_the_training_and_a_device_alone_has_no_noise(tmp_path: Path) -> None:
    noise = {"device__noise": "ibm_torino", "device__noise_scale": 0.5, "device__shots": 64}
    run = small_run(tmp_path, device__name="qiskit.aer", **noise)
    assert choose_device(run, {}).model_dump() == run.spec.device.model_dump()
    more_shots = choose_device(run, {"shots": 128})
    assert (more_shots.noise, more_shots.noise_scale, more_shots.shots) == ("ibm_torino", 0.5, 128)
    assert choose_device(run, {"noise_scale": 2.0}).noise_scale == 2.0
    device_alone = choose_device(run, {"device": "qhybrid.density"})
    assert (device_alone.noise, device_alone.noise_scale, device_alone.shots) == (None, 1.0, None)
    noise_alone = choose_device(run, {"noise": "ibm_fez"})
    assert (noise_alone.name, noise_alone.noise, noise_alone.noise_scale, noise_alone.shots) == (
        "qiskit.aer", "ibm_fez", 1.0, None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"noise": "ibm_turino"}, "unknown noise model 'ibm_turino'; did you mean 'ibm_torino'"),
        ({"device": "lightning.qubit", "noise": "ibm_torino"}, "lightning.qubit takes no noise model .*qiskit.aer"),
        (NOISE | {"noise_parts": ["gates"]}, "unknown noise part 'gates'; did you mean"),
        (NOISE | {"noise_scale": -1.0}, "noise scale -1"),
        (NOISE | {"noise_scale": float("nan")}, "noise scale nan"),
        (NOISE | {"shots": 0}, "shots = 0: allowed are"),
        (NOISE | {"shots": 10**12}, "shots = 1000000000000: allowed are"),
        (NOISE | {"layout_seeds": 0}, "layout seeds 0"),
        (NOISE | {"repeats": 0, "shots": 10}, "repeats = 0"),
        (NOISE | {"repeats": 10**12, "shots": 10}, "repeats = 1000000000000"),
        (NOISE | {"repeats": 2}, "repeats = 2: exact expectation values do not vary; give shots"),
        ({"noise_scale": 0.5}, "no noise model for qhybrid.statevector: give --noise"),
        ({"device": "qiskit.aer", "noise_parts": ["readout"]}, "no noise model for qiskit.aer: give --noise"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(run: Run, options: dict[str, Any], said: str) -> None:
    before = sorted(run.path.rglob("*"))
    with pytest.raises(InputError, match=said) as caught:
        evaluate(run, **options)
    assert "\n" not in str(caught.value)
    assert sorted(run.path.rglob("*")) == before


@pytest.mark.parametrize(
    "options", [{"noise": "ibm_torino"}, {"noise_scale": 0.5}, {"repeats": 2}, {"layout_seeds": 2}]
)
def test_noise_for_a_classical_head_is_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    run = small_run(tmp_path, model__head="linear")
    with pytest.raises(InputError, match="linear head without a quantum layer"):
        evaluate(run, **options)


def test_a_comparison_counts_what_flipped() -> None:
    labels = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.4, 0.6]])
    other = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.6, 0.4]])
    found = compare(
        labels, Outcome(other, np.array([[0.0], [0], [0], [1]])), Outcome(probabilities, np.zeros((4, 1))), seed=0
    )
    assert (found.flipped, found.largest, found.rms) == (2, 1.0, 0.5)
    assert found.reference["accuracy"] == 1
    assert found.differences["accuracy"] == -0.5

"""Kernels as arms of a study: fitted to the reference's features, on devices once, tested with the rest."""

from pathlib import Path

import numpy as np
import pytest
from small_run import small_run
from tiny_study import quiet, study_spec

from qhybrid.experiments.baselines import evaluate_baseline
from qhybrid.experiments.evaluation import evaluate
from qhybrid.experiments.executors import Executor
from qhybrid.experiments.grid import Cell
from qhybrid.experiments.kernel_baselines import evaluate_quantum_kernel
from qhybrid.experiments.study_arms import pairs
from qhybrid.experiments.study_devices import device_results
from qhybrid.experiments.study_kernels import KernelTask
from qhybrid.experiments.study_results import predictions_of_baselines
from qhybrid.experiments.study_runs import Trained
from qhybrid.experiments.study_spec import StudySpec
from qhybrid.storage import read_arrays

QUANTUM, RBF = "quantum kernel on quantum features", "RBF kernel on quantum features"


@pytest.fixture(scope="module")
def study() -> StudySpec:
    found = study_spec(
        arms=[{"name": "quantum"}, {"name": "linear", "model": {"head": "linear"}}],
        seeds=[0, 1],
        baselines=["quantum-kernel", "rbf-kernel"],
        devices={"noise": ["ibm_brisbane"], "noise_scale": [4.0], "shots": [20]},
    ).study
    assert found is not None
    return found


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Trained]]:
    folder, found = tmp_path_factory.mktemp("kernels"), {}
    for head in ("quantum", "linear"):
        found[head] = []
        for seed in (0, 1):
            run = small_run(folder / head, model__head=head, train__seed=seed, seed=seed)
            names = {"head": evaluate(run, console=quiet()).name}
            if head == "quantum":
                names |= {name: evaluate_baseline(run, name).name for name in ("quantum-kernel", "rbf-kernel")}
            found[head].append(Trained(head, seed, str(run.path), "", names))
    return found


def test_kernels_are_compared_with_the_reference_and_with_their_twin(study: StudySpec) -> None:
    told = [(pair.arm, pair.against) for pair in pairs(study)]
    assert told == [("linear", "quantum"), (QUANTUM, "quantum"), (RBF, "quantum"), (QUANTUM, RBF)]


def test_a_kernel_on_a_device_is_that_of_an_evaluation_and_is_computed_once(
    trained: dict[str, list[Trained]], monkeypatch: pytest.MonkeyPatch
) -> None:
    each = trained["quantum"][1]
    cell = Cell("qhybrid.density", "ibm_brisbane", 4.0, shots=20)
    task = KernelTask(str(each.path), cell, each.seed)
    file = Path(task.compute())
    arrays = read_arrays(file, ("labels", "repeated_probabilities", "reference_probabilities"))
    from qhybrid.experiments.runs import open_run

    asked = {"device": "qhybrid.density", "noise": "ibm_brisbane", "noise_scale": 4.0, "shots": 20}
    expected = evaluate_quantum_kernel(open_run(str(each.path)), seed=1, console=quiet(), **asked).predictions
    np.testing.assert_array_equal(arrays["repeated_probabilities"][0], expected.probabilities)
    np.testing.assert_array_equal(arrays["reference_probabilities"], expected.reference_probabilities)
    assert (arrays["repeated_probabilities"][0] != arrays["reference_probabilities"]).any()
    changed = file.stat().st_mtime_ns
    assert KernelTask(str(each.path), cell, each.seed).compute() == str(file)
    assert file.stat().st_mtime_ns == changed
    other = KernelTask(str(each.path), Cell("qhybrid.density", "ibm_brisbane", 2.0, shots=20), each.seed)
    assert other.file != file != KernelTask(str(each.path), cell, 5).file


def test_devices_of_a_study_run_its_kernel_and_test_it_with_the_arms(
    study: StudySpec, trained: dict[str, list[Trained]]
) -> None:
    (found,) = device_results(study, trained, Executor(), quiet())
    assert [arm["name"] for arm in found["arms"]] == ["quantum", QUANTUM]
    assert [loss["arm"] for loss in found["losses"]] == ["quantum", QUANTUM]
    compared = {(each["arm"], each["against"]): each for each in found["comparisons"]}
    assert set(compared) == {("linear", "quantum"), (QUANTUM, "quantum"), (RBF, "quantum"), (QUANTUM, RBF)}
    exact = predictions_of_baselines(study, trained)
    labels = read_arrays(Path(str(trained["quantum"][0].path)) / "features" / "test.npz", ("labels",))["labels"]
    accuracy = np.mean([(exact[RBF][seed].argmax(axis=1) == labels).mean() for seed in (0, 1)])
    there = next(arm for arm in found["arms"] if arm["name"] == QUANTUM)["metrics"]["accuracy"]["mean"]
    difference = compared[QUANTUM, RBF]["metrics"]["accuracy"]["difference"]
    assert difference == pytest.approx(there - accuracy)

"""The arms of a study on devices: evaluated once, compared with exact values and with each other."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import runner
from small_run import small_run
from small_study import study_of_runs
from tiny_study import quiet, study_spec, tiny

from qhybrid.errors import InputError
from qhybrid.experiments import study_devices
from qhybrid.experiments.evaluation import evaluate
from qhybrid.experiments.executors import Executor
from qhybrid.experiments.run_folder import Run
from qhybrid.experiments.spec import load_experiment, override
from qhybrid.experiments.study import run_study
from qhybrid.experiments.study_devices import conditions_of, device_results
from qhybrid.experiments.study_runs import Trained
from qhybrid.experiments.study_spec import StudySpec
from qhybrid.experiments.study_verdict import device_verdict
from qhybrid.statistics import classification_metrics, holm
from qhybrid.storage import read_arrays, read_json, write_json

DEVICES = {"noise": ["none", "ibm_brisbane"], "noise_scale": [4.0], "shots": [20]}


def table(**devices: Any) -> StudySpec:
    arms = [{"name": "quantum"}, {"name": "linear", "model": {"head": "linear"}}]
    study = study_spec(arms=arms, seeds=[0, 1], devices=devices or DEVICES).study
    assert study is not None
    return study


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Run]]:
    folder = tmp_path_factory.mktemp("devices")
    return {
        head: [small_run(folder / "runs" / head, model__head=head, train__seed=seed) for seed in (0, 1)]
        for head in ("quantum", "linear")
    }


@pytest.fixture(scope="module")
def trained(runs: dict[str, list[Run]]) -> dict[str, list[Trained]]:
    return {
        head: [
            Trained(head, seed, str(run.path), "", {"head": evaluate(run, console=quiet()).name})
            for seed, run in enumerate(several)
        ]
        for head, several in runs.items()
    }


@pytest.fixture(scope="module")
def found(trained: dict[str, list[Trained]]) -> list[dict[str, Any]]:
    return device_results(table(), trained, Executor(), quiet())


def test_losses_are_those_of_the_runs_on_the_device(runs: dict[str, list[Run]], found: list[dict[str, Any]]) -> None:
    assert [each["label"] for each in found] == [
        "qhybrid.density, no noise, 20 shots",
        "qhybrid.density, ibm_brisbane x4, 20 shots",
    ]
    for each in found:
        assert [arm["name"] for arm in each["arms"]] == ["quantum"]
        differences, noisy = [], []
        for run in runs["quantum"]:
            (file,) = [
                file.with_suffix(".npz")
                for file in (run.path / "comparison" / "cells").glob("*.json")
                if read_json(file)["cell"] == each["cell"]
            ]
            arrays = read_arrays(file, ("labels", "probabilities", "reference_probabilities"))
            there, exact = (
                classification_metrics(arrays["labels"], arrays[name])["accuracy"]
                for name in ("probabilities", "reference_probabilities")
            )
            noisy.append(there)
            differences.append(there - exact)
        assert each["losses"][0]["metrics"]["accuracy"]["difference"] == pytest.approx(np.mean(differences))
        assert each["arms"][0]["metrics"]["accuracy"]["mean"] == pytest.approx(np.mean(noisy))
        assert [(pair["arm"], pair["against"]) for pair in each["comparisons"]] == [("linear", "quantum")]


def test_an_arm_without_a_circuit_is_compared_as_it_is(runs: dict[str, list[Run]], found: list[dict[str, Any]]) -> None:
    linear = np.mean([evaluate(run, console=quiet()).to_dict()["metrics"]["auc"]["value"] for run in runs["linear"]])
    for each in found:
        noisy = each["arms"][0]["metrics"]["auc"]["mean"]
        assert each["comparisons"][0]["metrics"]["auc"]["difference"] == pytest.approx(linear - noisy)


def test_each_question_is_corrected_over_all_devices(found: list[dict[str, Any]]) -> None:
    for family in ("losses", "comparisons"):
        tests = [test["metrics"]["auc"] for each in found for test in each[family]]
        assert [test["p_holm"] for test in tests] == pytest.approx(holm([test["p"] for test in tests]).tolist())


def test_nothing_is_computed_twice(
    trained: dict[str, list[Trained]], found: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(_: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(study_devices, "_compute", never)
    assert device_results(table(), trained, Executor(), quiet()) == found


def test_the_verdict_names_what_is_lost(found: list[dict[str, Any]]) -> None:
    said = device_verdict(found)
    assert len(said) >= len(found)
    assert said[0].startswith("On qhybrid.density, no noise, 20 shots")
    worse = [dict(each, losses=[_loss(-0.2, "worse")], comparisons=[]) for each in found[:1]]
    assert "'quantum' loses 0.200 in AUC (-0.200 [-0.300, -0.100], p = 0.01 after Holm)." in device_verdict(worse)[0]
    none = [dict(each, losses=[_loss(-0.01, "undecided")], comparisons=[]) for each in found[:1]]
    assert device_verdict(none)[0].endswith(
        "no arm is shown to lose or gain accuracy or AUC: a change of 0.02 in accuracy is ruled out for every arm; "
        "losses of AUC up to 0.110 are not excluded."
    )


def _loss(difference: float, verdict: str) -> dict[str, Any]:
    claims = {"equivalent": {"margin": 0.02}}
    same = {"verdict": "equivalent", "p_holm": 1.0, "difference": 0.0, "interval": [0.0, 0.0], "claims": claims}
    lost = {
        "verdict": verdict,
        "p_holm": 0.01,
        "difference": difference,
        "interval": [difference - 0.1, difference + 0.1],
    }
    return {"arm": "quantum", "against": "quantum, exact", "metrics": {"accuracy": same, "auc": lost}}


def test_the_report_has_the_devices(
    tmp_path: Path, found: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    copies = {"quantum": [small_run(tmp_path / "runs", train__seed=seed) for seed in (0, 1)]}
    study = study_of_runs(tmp_path, copies)
    write_json(study.path / "study.json", study.results | {"devices": found})
    answer = runner(monkeypatch, capfd, tmp_path)("report", str(study.path))
    assert answer.returncode == 0, answer.stderr
    text = (study.path / "report" / "index.html").read_text(encoding="utf-8")
    assert "qhybrid.density, ibm_brisbane x4, 20 shots" in text
    assert "What devices cost: AUC" in text
    assert "what devices cost is in the reports of the runs" not in text.lower()


@pytest.mark.parametrize(
    ("devices", "message"),
    [
        ({"noise": ["ibm_brisban"]}, "did you mean 'ibm_brisbane'"),
        ({"device": ["qhybrid.densty"], "shots": [10]}, "did you mean 'qhybrid.density'"),
        ({"device": ["qhybrid.statevector"], "noise": ["ibm_fez"]}, "qhybrid.statevector takes no noise model"),
        ({"noise": ["none"]}, "exact values without noise are the reference"),
        ({"noise": ["ibm_fez"], "mitigation": ["readut"]}, "readut"),
    ],
)
def test_wrong_devices_are_one_line(devices: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        conditions_of(table(**devices))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_wrong_devices_are_found_before_any_training(tmp_path: Path) -> None:
    spec = override(load_experiment(str(tiny(tmp_path))), {"study.devices.noise": ["ibm_brisban"]})
    with pytest.raises(InputError, match="did you mean 'ibm_brisbane'"):
        run_study(spec, out=tmp_path / "studies", console=quiet())
    assert not (tmp_path / "studies").exists()

"""What wins back what noise costs: adaptation as a dimension of the grid, and runs that were trained through noise."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import runner
from rich.console import Console
from small_run import COUNTS, small_run

from qhybrid.devices.spec import device_spec
from qhybrid.errors import InputError
from qhybrid.experiments.adaptation import adapt
from qhybrid.experiments.cells import FORMAT, CellTask
from qhybrid.experiments.comparison import BOOTSTRAP_DRAWS, CONFIDENCE
from qhybrid.experiments.evaluation import evaluate
from qhybrid.experiments.gains import GainTask, compute_gain
from qhybrid.experiments.grid import Cell, grid
from qhybrid.experiments.grid_comparison import GridComparison, compare_runs
from qhybrid.experiments.recoveries import Pair, recoveries, trained_through_noise
from qhybrid.experiments.run_folder import Run
from qhybrid.noise_models.spec import load_noise_model
from qhybrid.report.recoveries import recovery_pictures
from qhybrid.report.run_data import read_run
from qhybrid.statistics import classification_metrics, holm
from qhybrid.storage import read_arrays, read_json, write_json

DENSITY = ("qhybrid.density",)
QUIET = Console(quiet=True)


def noisy_run(folder: Path, *, noise: str = "ibm_torino", **settings: Any) -> Run:
    """A run of the images of `small_run`, as if trained through a noise."""
    run = small_run(folder, device__name="qhybrid.density", device__noise=noise, **settings)
    described = read_json(run.path / "data.json") | {"noise": load_noise_model(noise).provenance()}
    write_json(run.path / "data.json", described)
    return Run(run.path, run.spec)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return small_run(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def trained(run: Run) -> Run:
    """The same network with another last layer."""
    made = noisy_run(run.path.parents[1], train__noise_scale=[0.5, 2.0])
    from safetensors.numpy import load_file, save_file

    weights = load_file(made.path / "model.safetensors")
    (name,) = [name for name in weights if name.endswith("classifier.bias")]
    save_file(weights | {name: weights[name] + np.array([0.4, 0.0], np.float32)}, made.path / "model.safetensors")
    return made


@pytest.fixture(scope="module")
def cells() -> list[Cell]:
    found, _ = grid(
        DENSITY, [None, "ibm_torino"], [4.0], [None, 64], repeats=3, adaptations=["head", "rescale"], layout_seeds=1
    )
    return found


@pytest.fixture(scope="module")
def compared(run: Run, trained: Run, cells: list[Cell]) -> GridComparison:
    return compare_runs([run, trained], cells, attribute=False, seed=2, console=QUIET)


def found_cell(
    compared: GridComparison, run: Run, noise: str | None, shots: int | None, way: str | None
) -> dict[str, Any]:
    (cell,) = [
        each
        for each in compared.cells
        if each["run"] == run.path.resolve().as_posix()
        and (each["cell"]["noise"], each["cell"]["shots"], each["cell"].get("adapt")) == (noise, shots, way)
    ]
    return cell


def probabilities(run: Run, cell: dict[str, Any]) -> np.ndarray:
    path = run.path / "comparison" / "cells" / f"{cell['key']}.npz"
    return read_arrays(path, ("repeated_probabilities",))["repeated_probabilities"]


def test_every_condition_is_there_as_trained_and_adapted() -> None:
    cells, _ = grid(DENSITY, [None, "ibm_torino"], [1], [None, 64], repeats=5, adaptations=["head", "none", "head"])
    assert [(cell.noise, cell.shots, cell.adapt) for cell in cells] == [
        (None, None, None), (None, 64, None), (None, 64, "head"), ("ibm_torino", None, None),
        ("ibm_torino", None, "head"), ("ibm_torino", 64, None), ("ibm_torino", 64, "head"),
    ]  # fmt: skip
    assert cells[-1].label == "qhybrid.density, ibm_torino, 64 shots, head refitted"
    with pytest.raises(InputError, match="unknown adaptation 'haed'; did you mean 'head'"):
        grid(DENSITY, ["ibm_torino"], [1], [None], repeats=1, adaptations=["haed"])


def test_cells_without_adaptation_keep_their_names(run: Run) -> None:
    cell = Cell("qhybrid.density", None, shots=64, repeats=3, mitigation="none")
    place = {
        "device": "qhybrid.density", "noise": None, "noise_scale": 1.0, "noise_parts": None, "shots": 64, "repeats": 3,
        "layout_seeds": None, "mitigation": "none", "label": "qhybrid.density, no noise, 64 shots",
    }  # fmt: skip
    assert cell.to_dict() == place
    files = ("model.safetensors", "features/test.npz", "config.toml")
    digests = [hashlib.sha256((run.path / name).read_bytes()).hexdigest() for name in files]
    device = device_spec("qhybrid.density")[0].model_dump_json()
    depends = [FORMAT, digests, place, device, None, ["test", None, 7, 0.02], [BOOTSTRAP_DRAWS, CONFIDENCE]]
    key = hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()[:24]
    assert CellTask(str(run.path), cell, "test", None, 7, 0.02).key == key
    adapted = [Cell(**vars(cell) | {"adapt": method}) for method in ("head", "rescale")]
    assert len({key, *(CellTask(str(run.path), each, "test", None, 7, 0.02).key for each in adapted)}) == 3


@pytest.mark.parametrize("method", ["head", "rescale"])
def test_an_adapted_cell_is_what_adapt_gives(run: Run, method: str) -> None:
    cells, _ = grid(DENSITY, ["ibm_torino"], [4.0], [64], repeats=1, adaptations=[method], layout_seeds=1)
    before = compare_runs([run], cells, attribute=False, seed=5, console=QUIET)
    options: dict[str, Any] = {"device": "qhybrid.density", "noise": "ibm_torino", "noise_scale": 4.0, "shots": 64}
    adapted = adapt(run, method=method, seed=5, layout_seeds=1, console=QUIET, **options)
    cell = found_cell(before, run, "ibm_torino", 64, method)
    np.testing.assert_array_equal(probabilities(run, cell)[0], adapted.adapted.predictions.probabilities)
    assert {name: each["value"] for name, each in cell["metrics"].items()} == pytest.approx(adapted.adapted.metrics)
    assert cell["adaptation"]["fit"] == adapted.fit.numbers
    (recovery,) = before.recoveries
    assert recovery.gain["auc"]["difference"] == pytest.approx(adapted.gain.differences["auc"])
    assert recovery.gain["auc"]["interval"] == pytest.approx(list(adapted.gain.intervals["auc"]))
    shutil.rmtree(run.path / "adaptations")


def test_an_adaptation_changes_what_follows_the_circuit_and_is_paid_once(run: Run, compared: GridComparison) -> None:
    labels = run.features("test").labels
    for noise, shots in ((None, 64), ("ibm_torino", None), ("ibm_torino", 64)):
        plain, head, rescaled = (found_cell(compared, run, noise, shots, way) for way in (None, "head", "rescale"))
        assert head["signal"] == plain["signal"]
        assert plain["cost"]["shots"] == head["cost"]["shots"] == (shots or 0) * 60 * plain["cell"]["repeats"]
        for cell, samples in ((head, COUNTS["train"] + COUNTS["validation"]), (rescaled, COUNTS["train"])):
            assert cell["adaptation"]["circuits"] == cell["adaptation"]["samples"] == samples
            assert cell["adaptation"]["shots"] == samples * (shots or 0)
            metrics = [classification_metrics(labels, each) for each in probabilities(run, cell)]
            assert len(metrics) == plain["cell"]["repeats"]
            assert cell["metrics"]["auc"]["value"] == pytest.approx(np.mean([each["auc"] for each in metrics]))
    exact = found_cell(compared, run, "ibm_torino", None, "rescale")
    plain = found_cell(compared, run, "ibm_torino", None, None)
    assert all(abs(slope - 1) < 0.1 for slope in exact["signal"]["slope"])
    assert max(exact["signal"]["rmse"]) < min(plain["signal"]["rmse"])


def test_recoveries_are_paired_with_the_run_as_it_is(run: Run, trained: Run, compared: GridComparison) -> None:
    found = [each for each in compared.recoveries if each.run == run.path.as_posix()]
    assert [(each.noise, each.shots, each.what) for each in found] == [
        (None, 64, "head refitted"), (None, 64, "values rescaled"),
        *[
            ("ibm_torino", shots, what)
            for shots in (None, 64)
            for what in ("head refitted", "values rescaled", "trained through the noise x0.5 to x2")
        ],
    ]  # fmt: skip
    for each in found:
        before = found_cell(compared, run, each.noise, each.shots, None)
        after = found_cell(compared, trained if each.trained_through else run, each.noise, each.shots, each.adapt)
        for metric in ("accuracy", "auc"):
            won = after["metrics"][metric]["value"] - before["metrics"][metric]["value"]
            assert each.gain[metric]["difference"] == pytest.approx(won, abs=1e-12)
            low, high = each.gain[metric]["interval"]
            assert low - 1e-12 <= won <= high + 1e-12
            assert each.loss[metric][0] - each.loss[metric][1] == pytest.approx(won, abs=1e-12)
        assert ("AUC" in each.worse_in) == (round(each.gain["auc"]["difference"], 3) < 0)
    for metric in ("accuracy", "auc"):
        p = [each.gain[metric]["p"] for each in compared.recoveries]
        assert [each.gain[metric]["p_holm"] for each in compared.recoveries] == pytest.approx(holm(p).tolist())
    through = found[-1]
    assert (through.trained_through, through.shots_once, through.rms) == (trained.path.as_posix(), 0, None)
    assert through.cost == "simulated training, 0 shots"
    assert through.exact is not None
    assert through.exact["auc"][1] == found_cell(compared, trained, "ibm_torino", 64, None)["metrics"]["auc"]["exact"]
    assert f"{trained.path.name}, another training" in str(through.caution)
    assert (found[0].shots_once, found[0].cost) == (64 * 130, "once 130 circuits, 8,320 shots")
    assert (found[2].shots_factor, found[2].shots_once, found[2].cost) == (None, 0, "once 130 circuits, exact: 0 shots")


def test_only_the_noise_may_tell_runs_apart(run: Run, trained: Run, tmp_path: Path) -> None:
    assert trained_through_noise(run, trained)
    assert not trained_through_noise(trained, run)
    assert not trained_through_noise(trained, trained)
    assert not trained_through_noise(run, noisy_run(tmp_path, train__seed=1))
    assert not trained_through_noise(run, noisy_run(tmp_path, model__classifier_gain=8.0))
    assert trained_through_noise(run, noisy_run(tmp_path, train__workers=1))
    other = noisy_run(tmp_path)
    (other.path / "circuits").mkdir(exist_ok=True)
    (other.path / "circuits" / "angle_4q.toml").write_text("# another one")
    assert not trained_through_noise(run, other)


def test_a_training_through_other_noise_recovers_nothing_and_drawn_shots_are_unknown(run: Run, tmp_path: Path) -> None:
    cells, _ = grid(DENSITY, ["ibm_torino"], [1], [None], repeats=1, layout_seeds=1)
    other = noisy_run(tmp_path, noise="ibm_brisbane")
    sampled = noisy_run(tmp_path, device__shots=100, device__noise_scale=2.0)
    changed = read_json(sampled.path / "data.json")
    changed["noise"] = load_noise_model("ibm_torino").scaled(2.0).provenance()
    write_json(sampled.path / "data.json", changed)
    found = compare_runs(
        [run, other, Run(sampled.path, sampled.spec)], cells, attribute=False, console=QUIET
    ).recoveries
    assert [(each.trained_through, each.what) for each in found] == [
        (sampled.path.resolve().as_posix(), "trained through the noise x2")
    ]
    assert found[0].shots_once is None
    assert found[0].cost == "simulated training with 100 shots a circuit, not recorded how many in all"


def test_nothing_is_computed_twice(run: Run, trained: Run, cells: list[Cell], compared: GridComparison) -> None:
    kept = {path: path.stat().st_mtime_ns for path in run.path.glob("comparison/*/*.json")}
    assert len(list(run.path.glob("comparison/gains/*.json"))) >= 8
    again = compare_runs([run, trained], cells, attribute=False, seed=2, console=QUIET)
    assert again.computed == 0
    assert again.to_dict() == compared.to_dict()
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_mitigated_cells_are_adapted_beside_the_run_as_it_is(run: Run) -> None:
    ways = ["none", "readout"]
    cells, _ = grid(
        DENSITY, ["ibm_torino"], [2.0], [32], repeats=2, mitigations=ways, adaptations=["rescale"], layout_seeds=1
    )
    found = compare_runs([run], cells, attribute=False, console=QUIET).recoveries
    assert [each.what for each in found] == ["values rescaled", "readout", "readout + values rescaled"]
    assert [each.mitigation for each in found] == [None, "readout", "readout"]
    assert found[2].cost.startswith(f"{found[2].shots_factor:.1f} times the shots; once 9")
    only, _ = grid(
        DENSITY, ["ibm_torino"], [2.0], [32], repeats=2, mitigations=ways[1:], adaptations=["rescale"], layout_seeds=1
    )
    alone = compare_runs([run], only, attribute=False, console=QUIET)
    assert [each.what for each in alone.recoveries] == ["values rescaled"]  # beside what is mitigated as well
    assert alone.computed == 0


def test_different_images_cannot_be_paired(run: Run, compared: GridComparison, tmp_path: Path) -> None:
    files = [run.path / "comparison" / "cells" / f"{each['key']}.npz" for each in compared.cells[:2]]
    arrays = dict(np.load(files[1], allow_pickle=False))
    np.savez(tmp_path / "b.npz", **arrays | {"ids": arrays["ids"][::-1]})
    with pytest.raises(InputError, match="different images cannot be paired"):
        compute_gain(GainTask(str(files[0].with_suffix(".json")), str(tmp_path / "b.json"), 0))


def test_what_gets_worse_is_said() -> None:
    def cell(value: float, rmse: float, **place: Any) -> dict[str, Any]:
        metric = {"value": value, "exact": 0.9, "difference": value - 0.9}
        shared = {"device": "d", "noise": "n", "noise_scale": 1.0, "shots": 10, "mitigation": "none"}
        return {
            "run": "r", "key": "k", "cell": shared | place, "metrics": {"accuracy": metric, "auc": metric},
            "signal": {"rmse": [rmse]}, "cost": {"shots": 100},
        }  # fmt: skip

    gain = {"difference": -0.02, "interval": [-0.03, -0.01], "p": 0.001}
    pair = Pair(cell(0.8, 0.1), cell(0.78, 0.2, mitigation="zne"))
    (found,) = recoveries([pair], [{"accuracy": gain, "auc": gain | {"difference": -0.0001}}])
    assert found.worse_in == ["expectation values", "accuracy"]
    assert found.to_dict()["worse"]


def test_the_report_tells_it_and_reads_older_comparisons(run: Run, trained: Run, compared: GridComparison) -> None:
    evaluate(run, console=QUIET)
    write_json(compared.path, compared.to_dict())  # the newest
    won_back, errors = recovery_pictures(read_run(run))
    rows = won_back.tables[0].rows
    assert [row[0] for row in rows][-1] == "ibm_torino x4, 64 shots: trained through the noise x0.5 to x2"
    assert [row[1] for row in rows][-3:] == [
        "once 130 circuits, 8,320 shots", "once 90 circuits, 5,760 shots", "simulated training, 0 shots",
    ]  # fmt: skip
    worse = [each for each in compared.recoveries if each.run == run.path.as_posix() and each.worse_in]
    assert [row[2] for row in rows if row[2]] == [f"worse: {', '.join(each.worse_in)}" for each in worse]
    assert f"of {run.path.name}:" in won_back.caption
    assert len(errors.tables[0].rows) == 3

    older = compared.to_dict()
    kept = ("run", "device", "noise", "noise_scale", "shots", "rms", "loss", "shots_factor", "worse")
    older["recoveries"] = [
        {key: each[key] for key in kept} | {"mitigation": "readout,zne"} for each in older["recoveries"] if each["rms"]
    ]
    write_json(compared.path, older)
    (errors,) = recovery_pictures(read_run(run))
    assert errors.tables[0].rows[0][0] == "no noise, 64 shots: readout + zne"
    write_json(compared.path, compared.to_dict())


def test_the_command(
    run: Run, trained: Run, compared: GridComparison, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    command = runner(monkeypatch, capfd, run.path.parent)
    words = (
        "compare", run.path.name, trained.path.name, "--noise", "none,ibm_torino", "--shots", "exact,64", "--repeats",
        "3", "--layout-seeds", "1", "--adapt", "none,head,rescale", "--noise-scale", "4", "--no-attribution", "--seed",
        "2", "--executor", "serial",
    )  # fmt: skip
    shown = command(*words)
    assert shown.returncode == 0, shown.stderr
    assert "0 cells computed now" in shown.stdout
    for said in ("what wins back how much", "head refitted", "values rescaled", "worse", "8,320", "another training"):
        assert said in shown.stdout
    result = json.loads(command(*words, "--json").stdout)
    assert result["recoveries"] == json.loads(json.dumps([each.to_dict() for each in compared.recoveries]))
    assert result == read_json(compared.path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("run", "--adapt", "haed"), "unknown adaptation 'haed'; did you mean 'head'? (allowed: head, none, rescale)"),
        (("run", "--adapt", "head", "--split", "validation"), "method 'head' is fitted on 'validation'"),
        (("run", "--adapt", "rescale", "--split", "train"), "method 'rescale' is fitted on 'train'"),
        (("linear", "--adapt", "head"), "has a linear head: no device runs it"),
        (("run", "another", "--adapt", "head"), "runs of different data cannot be compared"),
        (("damaged", "--adapt", "head"), "damaged/features/validation.npz"),
        (("few", "--adapt", "rescale"), "there is no training sample of class 'class 1' to fit on"),
    ],
)
def test_wrong_input_is_one_line(
    run: Run,
    words: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for name in ("run", "linear", "another", "damaged", "few"):
        if name in words:
            shutil.copytree(run.path, tmp_path / name, ignore=shutil.ignore_patterns("comparison"))
    if "linear" in words:
        config = (tmp_path / "linear" / "config.toml").read_text()
        (tmp_path / "linear" / "config.toml").write_text(config.replace('head = "quantum"', 'head = "linear"'))
    if "another" in words:
        write_json(tmp_path / "another" / "data.json", run.data | {"fingerprint": "other"})
    if "damaged" in words:
        (tmp_path / "damaged" / "features" / "validation.npz").write_bytes(b"nothing")
    if "few" in words:
        few = Run(tmp_path / "few", run.spec)
        stored = few.features("train")
        few.write_features("train", type(stored)(stored.features, stored.labels * 0, stored.ids))
    shown = runner(monkeypatch, capfd, tmp_path)("compare", *words)
    assert (shown.returncode, shown.stdout) == (2, "")
    assert message in shown.stderr
    assert len(shown.stderr.splitlines()) == 1
    assert not list(tmp_path.glob("*/comparison"))
